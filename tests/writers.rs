//! Backups while the app works: rows and files come, change and go, tables are emptied and rewritten, locks are queued.
//!
//! **Invariant**: what is restored was one moment of the app. Each row has its file, unless the snapshot itself says that it
//! lacks it; a table that is never empty is never restored empty.
//!
//! Long form: `LIFEBOAT_TEST_WRITER_RUNS` (4; 300).

use std::{
    collections::BTreeSet,
    fs,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::Duration,
};

use lifeboat_postgres::Cluster;

use crate::support::{
    cluster::{self, address, client, new_name, psql},
    long_form,
    messages::number,
    program::{Lifeboat, Ran},
};

/// Rows that the app has at any time, about: so many that one lives through several backups.
const ASSETS: u64 = 2000;
/// How long the app rests after an asset has come, one has changed and one has gone.
const REST: Duration = Duration::from_millis(10);

const SHOP: &str = "
CREATE TABLE asset (id bigint PRIMARY KEY, path text NOT NULL, bytes bigint NOT NULL);
CREATE TABLE left_side (n int);
CREATE TABLE right_side (n int);
INSERT INTO left_side SELECT generate_series(1, 100);
INSERT INTO right_side SELECT generate_series(1, 100);
CREATE TABLE wide (n int PRIMARY KEY, x int);
INSERT INTO wide SELECT n, n FROM generate_series(1, 20000) n;
";

/// A session of the app: a statement is done when the call returns.
struct Session {
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
}

impl Session {
    fn open(cluster: &Cluster, database: &str) -> Self {
        let mut command = Command::new(client(cluster, "psql"));
        command.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=0"]);
        let mut child = command
            .arg(address(cluster, "postgres", database))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let (to, from) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        Self {
            child,
            to,
            from: BufReader::new(from),
        }
    }

    fn run(&mut self, sql: &str) {
        writeln!(self.to, "{sql};\n\\echo done").unwrap();
        let mut line = String::new();
        while line.trim_end() != "done" {
            line.clear();
            assert!(self.from.read_line(&mut line).unwrap() > 0, "psql goes on");
        }
    }

    fn end(mut self) {
        drop(self.to);
        self.child.wait().unwrap();
    }
}

/// What the app has done.
#[derive(Default)]
struct Done {
    deleted: AtomicU64,
    emptied: AtomicU64,
    rewritten: AtomicU64,
    locked: AtomicU64,
}

fn content(id: u64, generation: u64) -> String {
    format!("asset {id} in generation {generation}\n").repeat(20)
}

fn name(id: u64, generation: u64) -> String {
    format!("{:02}/{id}-{generation}.jpg", id % 20)
}

fn put(media: &Path, id: u64, generation: u64) -> (String, usize) {
    let (name, content) = (name(id, generation), content(id, generation));
    let path = media.join(&name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, &content).unwrap();
    (name, content.len())
}

/// Assets come, get another file, and go: the file first when it comes, the row first when it goes.
fn assets(session: &mut Session, media: &Path, stop: &AtomicBool, done: &Done) {
    let mut next = ASSETS;
    while !stop.load(Ordering::Relaxed) {
        let (path, bytes) = put(media, next, 0);
        session.run(&format!(
            "INSERT INTO asset VALUES ({next}, '{path}', {bytes})"
        ));
        let changed = next - ASSETS / 2;
        let (path, bytes) = put(media, changed, 1);
        session.run(&format!(
            "UPDATE asset SET path = '{path}', bytes = {bytes} WHERE id = {changed}"
        ));
        fs::remove_file(media.join(name(changed, 0))).unwrap();
        let gone = next - ASSETS;
        session.run(&format!("DELETE FROM asset WHERE id = {gone}"));
        for generation in 0..2 {
            // The first ones go before they have changed.
            if fs::remove_file(media.join(name(gone, generation))).is_ok() {
                done.deleted.fetch_add(1, Ordering::Relaxed);
            }
        }
        next += 1;
        thread::sleep(REST);
    }
}

/// Two tables are emptied and filled together, a third is rewritten, and somebody waits for a lock on all assets.
fn tables(session: &mut Session, stop: &AtomicBool, done: &Done) {
    let mut round = 0_u64;
    while !stop.load(Ordering::Relaxed) {
        let rows = 50 + round % 100;
        session.run(&format!(
            "BEGIN; SET LOCAL lock_timeout = '20s'; TRUNCATE left_side, right_side;
             INSERT INTO left_side SELECT generate_series(1, {rows}); INSERT INTO right_side SELECT generate_series(1, {rows}); COMMIT"
        ));
        done.emptied.fetch_add(1, Ordering::Relaxed);
        let kind = if round.is_multiple_of(2) {
            "bigint"
        } else {
            "int"
        };
        session.run(&format!(
            "SET lock_timeout = '20s'; ALTER TABLE wide ALTER COLUMN x TYPE {kind}"
        ));
        done.rewritten.fetch_add(1, Ordering::Relaxed);
        session.run("BEGIN; SET LOCAL lock_timeout = '20s'; LOCK TABLE asset IN ACCESS EXCLUSIVE MODE; COMMIT");
        done.locked.fetch_add(1, Ordering::Relaxed);
        round += 1;
        thread::sleep(Duration::from_millis(100));
    }
}

fn backup(machine: &Lifeboat) -> Ran {
    let config = machine.path("lifeboat.toml");
    machine.run(["backup", "--json", "--config", config.to_str().unwrap()])
}

/// The files that the run says are missing.
fn missing(ran: &Ran) -> BTreeSet<String> {
    let told = ran.problems().into_iter();
    told.filter(|told| told.contains("and it is not there"))
        .filter_map(|told| Some(told.strip_prefix("media/")?.split(": ").next()?.to_owned()))
        .collect()
}

/// Restores the newest snapshot and holds every row against its file.
fn look(machine: &Lifeboat, cluster: &Cluster, missing: &BTreeSet<String>, run: u64) {
    let back = new_name("back");
    let to = address(cluster, "postgres", &back);
    machine.run(["restore-db", "shop", "--to", &to]).done();
    let folder: PathBuf = machine.path(format!("back-{run}"));
    let target = folder.to_str().unwrap();
    let ran = machine.run(["restore", "shop:media", "--target", target]);
    // A file that was just coming into being is no row's yet: that it was half there is told, and not held against it.
    let told = ran
        .stderr
        .lines()
        .filter(|line| line.starts_with("problem: "));
    let only_new = told
        .clone()
        .all(|line| line.contains("it changed while it was read"));
    assert!(ran.code == 0 || (ran.code == 3 && only_new), "{ran:?}");
    let rows = psql(cluster, &back, "SELECT path || '|' || bytes FROM asset");
    let mut seen = 0;
    for row in rows.lines() {
        let (path, bytes) = row.split_once('|').unwrap();
        seen += 1;
        if missing.contains(path) {
            assert!(!folder.join(path).exists(), "{path} is said to lack");
            continue;
        }
        let restored = fs::read_to_string(folder.join(path))
            .unwrap_or_else(|error| panic!("run {run}: the row's file {path}: {error}"));
        let (id, generation) = path[3..]
            .strip_suffix(".jpg")
            .and_then(|name| name.split_once('-'))
            .unwrap();
        let whole = content(id.parse().unwrap(), generation.parse().unwrap());
        assert_eq!(
            (restored, bytes),
            (whole.clone(), whole.len().to_string().as_str())
        );
    }
    assert!(seen >= ASSETS, "{seen} rows");
    let sides = "SELECT (SELECT count(*) FROM left_side) - (SELECT count(*) FROM right_side), (SELECT count(*) FROM left_side) >= 50, (SELECT count(*) FROM wide)";
    assert_eq!(psql(cluster, &back, sides).trim(), "0|t|20000", "run {run}");
    psql(cluster, "postgres", &format!("DROP DATABASE {back}"));
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn what_is_restored_was_one_moment_of_an_app_that_worked_meanwhile() {
    let cluster = cluster::own();
    let database = new_name("shop");
    psql(&cluster, "postgres", &format!("CREATE DATABASE {database}"));
    psql(&cluster, &database, SHOP);
    let machine = Lifeboat::with_repository();
    let media = machine.path("media");
    let mut first = String::from("INSERT INTO asset VALUES ");
    for id in 0..ASSETS {
        let (path, bytes) = put(&media, id, 0);
        let comma = if id == 0 { "" } else { "," };
        first.push_str(&format!("{comma} ({id}, '{path}', {bytes})"));
    }
    psql(&cluster, &database, &first);
    let config = format!(
        "[app.shop.postgres]\nurl = \"{}\"\n[app.shop.media.media]\npath = \"{}\"\n[app.shop.media.media.reference.assets]\n\
         column = \"public.asset.path\"\nsize = \"bytes\"\n",
        address(&cluster, "postgres", &database),
        media.display()
    );
    fs::write(machine.path("lifeboat.toml"), config).unwrap();

    let runs = long_form("LIFEBOAT_TEST_WRITER_RUNS", 4);
    let (stop, done) = (AtomicBool::new(false), Done::default());
    let (mut carried, mut lacking, mut deleted) = (0, 0, 0);
    thread::scope(|scope| {
        // Whatever happens below, the app comes to its end.
        struct Stop<'a>(&'a AtomicBool);
        impl Drop for Stop<'_> {
            fn drop(&mut self) {
                self.0.store(true, Ordering::Relaxed);
            }
        }
        let _stop = Stop(&stop);
        scope.spawn(|| {
            let mut session = Session::open(&cluster, &database);
            assets(&mut session, &media, &stop, &done);
            session.end();
        });
        scope.spawn(|| {
            let mut session = Session::open(&cluster, &database);
            tables(&mut session, &stop, &done);
            session.end();
        });
        for run in 0..runs {
            let before = done.deleted.load(Ordering::Relaxed);
            let ran = backup(&machine);
            deleted += done.deleted.load(Ordering::Relaxed) - before;
            assert!(matches!(ran.code, 0 | 3), "run {run}: {ran:?}");
            let lacks = missing(&ran);
            let summary = ran.summary();
            let unreadable = number(&summary, "unreadable");
            assert_eq!(ran.code == 3, unreadable > 0, "run {run}: {ran:?}");
            assert!(unreadable >= lacks.len() as u64, "run {run}: {ran:?}");
            let sources = summary["sources"].as_array().unwrap();
            let media = sources.iter().find(|source| source["name"] == "media");
            let references = &media.unwrap()["references"];
            carried += number(references, "carried_forward");
            lacking += lacks.len();
            look(&machine, &cluster, &lacks, run);
        }
    });
    println!(
        "{runs} runs: {deleted} files deleted while they were backed up, {carried} carried forward, {lacking} told to lack"
    );
    println!(
        "tables emptied {} times, rewritten {}, locked {}",
        done.emptied.into_inner(),
        done.rewritten.into_inner(),
        done.locked.load(Ordering::Relaxed)
    );
    assert!(deleted > 0 && done.locked.into_inner() > 0);
    if runs >= 50 {
        assert!(carried > 0, "the race that this is about has happened");
    }
    machine.run(["check", "--read-data"]).done();
}
