//! An app is replaced while its database and its folder stay the objects that they are: docs/restore-app.md.
//!
//! **Invariant**: as long as nobody is killed, an app whose database answers is in one state: rows and files of the same
//! moment; and whoever was killed, it is so again after the next run.
//!
//! Long form, by an environment variable: `LIFEBOAT_TEST_SWAP_KILLS` (12; the long form takes 50).

use std::{
    fs,
    ops::Deref,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use rusqlite::Connection;

use crate::support::{
    account::is_root,
    cluster::{self, address, client, looks, new_name, psql},
    long_form,
    program::{Lifeboat, Ran},
    trees::{Tree, noise},
    two_states::TwoStates,
};

/// An app of a role that owns its database and may make none.
struct App {
    states: TwoStates,
    /// What the database looks like in state 1.
    one: (u64, u64),
}

impl Deref for App {
    type Target = TwoStates;

    fn deref(&self) -> &TwoStates {
        &self.states
    }
}

impl App {
    /// In state 1, which is backed up, and then in state 2.
    fn new() -> Self {
        let machine = Lifeboat::with_repository();
        let folder = machine.path("srv/media");
        fs::create_dir_all(folder.parent().unwrap()).unwrap();
        Self::with(machine, &folder)
    }

    fn with(machine: Lifeboat, folder: &Path) -> Self {
        let role = new_name("owner");
        // It goes with the last who holds it.
        let cluster = cluster::shared();
        psql(&cluster, "postgres", &format!("CREATE ROLE {role} LOGIN"));
        let states = TwoStates::new(machine, folder, &role);
        let one = looks(&states.cluster, &states.database);
        states.run(&["backup", "shop"]).done();
        states.goes_to(2);
        Self { states, one }
    }

    fn in_place(&self, more: &[&str]) -> Ran {
        let confirmed = ["--in-place", "--yes-replace", "shop"];
        self.restore_app(&[&confirmed[..], more].concat())
    }

    fn begin(&self) -> Child {
        // The first snapshot, whatever restore points came since.
        let mut command =
            self.command(&["restore-app", "shop", "--in-place", "--yes-replace", "shop"]);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().unwrap()
    }

    #[track_caller]
    fn is_in(&self, number: u64) {
        assert_eq!((self.rows(), self.files()), (number, number));
        assert!(self.has_assets());
        if number == 1 {
            assert_eq!(looks(&self.cluster, &self.database), self.one);
        }
    }

    /// What is kept inside the folder.
    fn kept(&self) -> Vec<String> {
        let names = fs::read_dir(self.media.root()).unwrap();
        let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.starts_with(".lifeboat")).collect()
    }
}

impl Drop for App {
    fn drop(&mut self) {
        if thread::panicking() {
            return;
        }
        let sql = format!("DROP DATABASE \"{}\" WITH (FORCE)", self.database);
        psql(&self.cluster, "postgres", &sql);
    }
}

#[test]
fn an_app_is_replaced_in_place_by_a_role_that_may_make_no_database_and_comes_back() {
    let app = App::new();
    let inode = fs::metadata(app.media.root()).unwrap().ino();
    let oid = app.sql("SELECT oid FROM pg_database WHERE datname = current_database()");
    let two = looks(&app.cluster, &app.database);
    let refused = app.restore_app(&["--yes-replace", "shop"]);
    assert!(refused.explains(14).contains("--in-place"), "{refused:?}");

    let ran = app.restore_app(&["--in-place", "-n", "--json"]).done();
    assert_eq!(ran.summary()["targets"][0]["in_place"], true, "{ran:?}");
    app.is_in(2);
    assert!(app.kept().is_empty() && !app.journal().exists());
    let ran = app.restore_app(&["--in-place"]);
    assert!(ran.explains(14).contains("--yes-replace shop"), "{ran:?}");
    app.restore_app(&["--in-place", "--yes-replace", "shop", "--no-restore-point"])
        .ends_with_code(2);

    let ran = app.in_place(&[]).done();
    assert!(ran.stderr.contains("replaces the content of"), "{ran:?}");
    assert!(ran.stderr.contains("Restore point"), "{ran:?}");
    app.is_in(1);
    assert_eq!(fs::metadata(app.media.root()).unwrap().ino(), inode);
    let now = app.sql("SELECT oid FROM pg_database WHERE datname = current_database()");
    assert_eq!(now, oid);
    assert_eq!(app.kept().len(), 1);
    let ran = app.in_place(&[]);
    assert!(ran.explains(14).contains("--forget-old"), "{ran:?}");

    // What is kept inside is no part of the folder, and rules do not forget the restore point.
    let listed = app.run(&["snapshots", "shop", "--json"]).done().answer();
    assert_eq!(listed[1]["pinned"], true, "{listed}");
    app.run(&["backup", "shop"]).done();
    let files = app.run(&["ls", "shop:media", "--json"]).done();
    assert!(!files.stdout().contains(".lifeboat"), "{files:?}");

    // What the app writes after a restore is not lost by the way back.
    app.own("UPDATE public.state SET number = 1; INSERT INTO shop.asset VALUES ('later')");
    app.restore_app(&["--undo"]).done();
    app.is_in(2);
    assert_eq!(looks(&app.cluster, &app.database), two);
    app.restore_app(&["--undo"]).done();
    assert_eq!((app.rows(), app.files()), (1, 1));
    let later = app.sql("SELECT count(*) FROM shop.asset WHERE path = 'later'");
    assert_eq!(later.trim(), "1");
    app.restore_app(&["--forget-old"]).done();
    assert_eq!((app.rows(), app.files()), (1, 1));
    assert!(app.kept().is_empty() && !app.journal().exists());
    app.restore_app(&["--undo"]).explains(14);
}

#[test]
fn what_the_snapshot_does_not_have_is_named_and_goes_only_when_that_is_asked_for() {
    let app = App::new();
    app.own("CREATE SCHEMA blog; CREATE TABLE blog.post (id int)");
    app.restore_app(&["--reset"]).ends_with_code(2);
    for more in [&["-n"][..], &[]] {
        let ran = app.in_place(more);
        let said = ran.explains(14);
        assert!(said.contains("--reset"), "{ran:?}");
        assert!(ran.stderr.contains("table blog.post"), "{ran:?}");
        assert!(ran.stderr.contains("schema blog"), "{ran:?}");
    }
    app.is_in(2);
    let ran = app.in_place(&["--reset"]).done();
    assert!(ran.stderr.contains("Goes, although"), "{ran:?}");
    app.is_in(1);
    app.restore_app(&["--undo"]).done();
    app.is_in(2);
    assert_eq!(app.sql("SELECT count(*) FROM blog.post").trim(), "0");
    app.restore_app(&["--forget-old"]).done();
}

#[test]
fn what_is_in_the_way_is_told_before_anything_is_done() {
    let app = App::new();
    let other = new_name("other");
    app.sql(&format!(
        "CREATE ROLE {other}; CREATE TABLE public.theirs (id int); ALTER TABLE public.theirs OWNER TO {other}"
    ));
    let ran = app.in_place(&["--reset"]);
    ran.explains(14);
    assert!(
        ran.stderr
            .contains(&format!("table public.theirs of {other}")),
        "{ran:?}"
    );
    app.sql("DROP TABLE public.theirs");

    app.run(&["backup", "shop", "--tag", "native"]).done();
    let path = app.machine.path("lifeboat.toml");
    let text = fs::read_to_string(&path).unwrap();
    let engine = text.replace("[app.shop.media", "engine = \"pg_dump\"\n[app.shop.media");
    fs::write(&path, engine).unwrap();
    let ran = app.in_place(&[]);
    ran.explains(14);
    assert!(
        ran.stderr.contains("configured to be read by pg_dump"),
        "{ran:?}"
    );
    app.run(&["backup", "shop"]).done();
    fs::write(&path, text).unwrap();
    let ran = app.in_place(&[]);
    ran.explains(14);
    assert!(ran.stderr.contains("one archive of pg_dump"), "{ran:?}");

    // Somebody who may not be sent away holds a table.
    let mut held = Command::new(client(&app.cluster, "psql"))
        .args([
            "-X",
            "-c",
            "BEGIN; LOCK TABLE public.state IN ROW EXCLUSIVE MODE; SELECT pg_sleep(60)",
            "-d",
        ])
        .arg(address(&app.cluster, "postgres", &app.database))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let locks = "SELECT count(*) FROM pg_locks WHERE mode = 'RowExclusiveLock' AND relation = 'public.state'::regclass";
    while app.sql(locks).trim() != "1" {
        thread::sleep(Duration::from_millis(5));
    }
    let ran = app.in_place(&["tag:native"]);
    assert!(ran.explains(14).contains("Stop who works there"), "{ran:?}");
    assert!(ran.stderr.contains("postgres (psql"), "{ran:?}");
    held.kill().unwrap();
    held.wait().unwrap();
    app.is_in(2);
    assert!(app.kept().is_empty() && !app.journal().exists());
}

#[test]
fn what_comes_while_it_is_at_work_ends_it() {
    let app = App::new();
    let mut child = app.begin();
    app.wait_for(&mut child, "preparing");
    app.own("CREATE TABLE public.late (id int)");
    assert_eq!(child.wait().unwrap().code(), Some(14));
    app.own("DROP TABLE public.late");
    app.is_in(2);
    assert!(app.kept().is_empty() && !app.journal().exists());
}

#[test]
fn what_others_write_meanwhile_is_in_the_old_state_or_in_the_new_one() {
    let app = App::new();
    let stop = AtomicBool::new(false);
    let psql_of_app = |sql: &str| {
        let mut command = Command::new(client(&app.cluster, "psql"));
        command.args(["-X", "-q", "-c", sql, "-d"]);
        command.arg(address(&app.cluster, &app.owner, &app.database));
        let ran = command.stdout(Stdio::null()).stderr(Stdio::null());
        ran.status().unwrap().success()
    };
    let written: Vec<u64> = thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let numbers = (0..).take_while(|_| !stop.load(Ordering::Relaxed));
            let insert = |number: &u64| {
                psql_of_app(&format!(
                    "INSERT INTO shop.asset VALUES ('written-{number}')"
                ))
            };
            numbers.filter(insert).collect()
        });
        thread::sleep(Duration::from_millis(200));
        let ran = app.in_place(&[]);
        thread::sleep(Duration::from_millis(200));
        stop.store(true, Ordering::Relaxed);
        ran.done();
        writer.join().unwrap()
    });
    let sql = "SELECT substr(path, 9) FROM shop.asset WHERE path LIKE 'written-%'";
    let has = || -> Vec<u64> {
        let text = app.sql(sql);
        let mut numbers: Vec<u64> = text.lines().map(|line| line.parse().unwrap()).collect();
        // Rows come back in the order of their key, in which 10 stands before 9.
        numbers.sort_unstable();
        numbers
    };
    let new = has();
    app.restore_app(&["--undo"]).done();
    let old = has();
    assert!(!old.is_empty() && !new.is_empty(), "{old:?} {new:?}");
    for number in &written {
        assert!(
            old.contains(number) != new.contains(number),
            "{number}: {old:?} {new:?}"
        );
    }
    app.restore_app(&["--undo"]).done();
    assert_eq!(has(), new);
}

#[test]
fn rows_that_name_files_that_are_not_restored_replace_nothing() {
    let app = App::new();
    let path = app.machine.path("lifeboat.toml");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("public.state.file", "shop.asset.path")).unwrap();
    let ran = app.in_place(&[]);
    ran.explains(3);
    assert!(ran.stderr.contains("rows name"), "{ran:?}");
    app.is_in(2);
    assert!(app.kept().is_empty() && !app.journal().exists());
    fs::write(&path, text.replace("public.state.file", "public.gone.path")).unwrap();
    let ran = app.in_place(&[]);
    assert!(ran.done().stderr.contains("were not looked for"));
    app.is_in(1);
}

#[test]
fn a_folder_that_is_a_mount_point_stays_mounted() {
    if !is_root() {
        eprintln!("root alone mounts: that a mount point stays one was not tried");
        return;
    }
    let machine = Lifeboat::with_repository();
    let folder = machine.path("volume");
    fs::create_dir(&folder).unwrap();
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=8m", "tmpfs"])
        .arg(&folder)
        .status();
    assert!(mounted.unwrap().success(), "root mounts a tmpfs");
    let unmount = Unmount(folder.clone());
    let app = App::with(machine, &folder);
    let (device, inode) = device(&folder);
    let ran = app.restore_app(&[
        "--yes-replace",
        "shop",
        "--admin",
        &address(&app.cluster, "postgres", "postgres"),
    ]);
    ran.explains(14);
    assert!(ran.stderr.contains("--in-place leaves it"), "{ran:?}");
    app.in_place(&[]).done();
    app.is_in(1);
    assert_eq!(self::device(&folder), (device, inode));
    app.restore_app(&["--undo"]).done();
    app.is_in(2);
    // What somebody mounts in what is kept is not emptied with it.
    let kept = folder.join(&app.kept()[0]).join("new/mounted");
    fs::create_dir(&kept).unwrap();
    let mut mount = Command::new("mount");
    mount.args(["-t", "tmpfs", "tmpfs"]).arg(&kept);
    assert!(mount.status().unwrap().success(), "root mounts a tmpfs");
    let mounted = Unmount(kept.clone());
    fs::write(kept.join("file"), "x").unwrap();
    let refused = app.restore_app(&["--forget-old"]);
    assert!(refused.explains(14).contains("mounted"), "{refused:?}");
    assert!(kept.join("file").exists());
    drop(mounted);
    app.restore_app(&["--forget-old"]).done();
    assert!(app.kept().is_empty());
    // Old and new do not fit at once.
    app.media.file("large", noise(9, 5 << 20));
    app.run(&["backup", "shop"]).done();
    let ran = app.in_place(&[]);
    ran.explains(14);
    assert!(ran.stderr.contains("are needed where"), "{ran:?}");
    drop(unmount);
}

fn device(path: &Path) -> (u64, u64) {
    let metadata = fs::metadata(path).unwrap();
    (metadata.dev(), metadata.ino())
}

struct Unmount(PathBuf);

impl Drop for Unmount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn an_app_without_a_server_is_replaced_in_place_too() {
    let machine = Lifeboat::with_repository();
    let media = Tree::create(machine.path("media"));
    media.file("a.jpg", "one").file("sub/b.jpg", "one");
    let path = media.root().join("app.db");
    let text = format!(
        "[app.shop.sqlite.rows]\npath = \"{}\"\n[app.shop.media.media]\npath = \"{}\"\n",
        path.display(),
        media.root().display()
    );
    fs::write(machine.path("lifeboat.toml"), text).unwrap();
    let rows = Connection::open(&path).unwrap();
    rows.execute_batch("CREATE TABLE t (x); INSERT INTO t VALUES (1)")
        .unwrap();
    machine.run(["backup", "shop"]).done();
    rows.execute_batch("UPDATE t SET x = 2").unwrap();
    drop(rows);
    media.file("a.jpg", "two").file("later.jpg", "two");
    let inode = device(media.root());
    let state = || {
        let rows = Connection::open(&path).unwrap();
        let number: i64 = rows
            .query_row("SELECT x FROM t", [], |row| row.get(0))
            .unwrap();
        let file = fs::read_to_string(media.root().join("a.jpg")).unwrap();
        assert_eq!(media.root().join("later.jpg").exists(), number == 2);
        assert_eq!(device(media.root()), inode);
        (number, file)
    };
    let in_place = ["restore-app", "shop", "--in-place", "--yes-replace", "shop"];
    let open = Connection::open(&path).unwrap();
    open.execute_batch("BEGIN IMMEDIATE").unwrap();
    let ran = machine.run(in_place);
    assert_ne!(ran.code, 0, "somebody is at work in it: {ran:?}");
    drop(open);
    assert_eq!(state(), (2, "two".to_owned()));
    machine.run(in_place).done();
    assert_eq!(state(), (1, "one".to_owned()));
    machine.run(["restore-app", "shop", "--undo"]).done();
    assert_eq!(state(), (2, "two".to_owned()));
    machine.run(["restore-app", "shop", "--undo"]).done();
    machine.run(["restore-app", "shop", "--forget-old"]).done();
    assert_eq!(state(), (1, "one".to_owned()));
    assert_eq!(fs::read_dir(media.root()).unwrap().count(), 3);
}

#[test]
fn a_kill_at_any_moment_leaves_the_old_state_or_the_new_one() {
    let kills = long_form("LIFEBOAT_TEST_SWAP_KILLS", 12);
    let app = App::new();
    let begun = Instant::now();
    assert!(app.begin().wait().unwrap().success());
    let usual = begun.elapsed();
    app.is_in(1);
    app.restore_app(&["--undo"]).done();
    app.restore_app(&["--forget-old"]).done();
    let (mut killed, mut between, mut back, mut undone) = (0, 0, 0, 0);
    for kill in 0..kills {
        app.is_in(2);
        let mut child = app.begin();
        let share = f64::from(u32::try_from(kill * 37 % kills).unwrap()) / kills as f64;
        if kill % 2 == 0 {
            thread::sleep(usual.mul_f64(share * 1.1));
        } else {
            app.wait_for(&mut child, "swapping");
            thread::sleep(Duration::from_millis(12).mul_f64(share));
        }
        child.kill().unwrap();
        killed += u64::from(child.wait().unwrap().code().is_none());
        let text = fs::read_to_string(app.journal()).unwrap_or_default();
        between += u64::from(text.contains("\"phase\": \"swapping\""));
        // Whoever comes next ends it, or finds it not begun, or done; the role may not do what is asked for then.
        let next = ["--yes-replace", "shop"];
        let ran = app.restore_app(&next);
        assert!([0, 14].contains(&ran.code), "{ran:?}");
        let (rows, files) = (app.rows(), app.files());
        assert_eq!(rows, files, "no mixture: {ran:?}");
        if rows == 2 {
            back += 1;
            assert!(app.kept().is_empty() && !app.journal().exists(), "{ran:?}");
            continue;
        }
        // The way back is killed too.
        let mut child = app.command(&["restore-app", "shop", "--undo"]);
        let child = child.stderr(Stdio::null()).stdout(Stdio::null());
        let mut child = child.spawn().unwrap();
        if kill % 4 < 2 {
            thread::sleep(usual.mul_f64(share));
        } else {
            app.wait_for(&mut child, "swapping");
            thread::sleep(Duration::from_millis(12).mul_f64(share));
        }
        child.kill().unwrap();
        undone += u64::from(child.wait().unwrap().code().is_none());
        app.restore_app(&next);
        let (rows, files) = (app.rows(), app.files());
        assert_eq!(rows, files, "no mixture on the way back");
        if rows == 1 {
            app.restore_app(&["--undo"]).done();
        }
        app.is_in(2);
        app.restore_app(&["--forget-old"]).done();
        assert!(app.kept().is_empty(), "{:?}", app.kept());
    }
    println!(
        "{killed} of {kills} were killed at work, {between} while names changed; {back} went back, {undone} ways back were killed; one takes {usual:?}"
    );
    assert!(killed > kills / 2, "{killed} of {kills}");
    assert!(undone > 0, "some ways back are killed at work");
    assert!(between > 0, "some are killed while entries change places");
}
