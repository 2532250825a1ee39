//! Drills: a good backup passes, each planted fault is named, and nothing of the scratch place stays.
//!
//! **Invariant**: a drill that could not be done says nothing about the backup, and one that passed has done everything.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use lifeboat_postgres::Cluster;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::support::{
    cluster::{self, address, client, new_name, psql},
    messages::text,
    program::{Lifeboat, Ran},
    trees::Tree,
};

/// The SHA-256 of `first` and of `second`.
const FIRST: &str = "a7937b64b8caa58f03721bb6bacf5c78cb235febe0e70b1b84cd99541461a08e";
const SECOND: &str = "16367aacb67a4a017c8da8ab95682ccb390863780f7114dda0a0e0c55644c7c4";

/// An app of everything, configured.
struct App {
    machine: Lifeboat,
    cluster: std::sync::Arc<Cluster>,
    database: String,
    media: Tree,
}

impl App {
    /// With these lines in the table of the drill.
    fn new(drill: &str) -> Self {
        let cluster = cluster::shared();
        let (database, clerk) = (new_name("shop"), new_name("clerk \"x\""));
        psql(&cluster, "postgres", &format!("CREATE DATABASE {database}"));
        let quoted = clerk.replace('"', "\"\"");
        psql(
            &cluster,
            &database,
            &format!(
                "CREATE ROLE \"{quoted}\";
                 CREATE TABLE asset (id int PRIMARY KEY, path text, bytes int, sha text);
                 INSERT INTO asset VALUES (1, 'a.jpg', 5, '{FIRST}'), (2, 'sub/b.jpg', 6, '{SECOND}');
                 CREATE TABLE orders (id int PRIMARY KEY, asset int REFERENCES asset);
                 INSERT INTO orders SELECT n, 1 + n % 2 FROM generate_series(1, 1000) n;
                 CREATE TABLE event (at int) PARTITION BY RANGE (at);
                 CREATE TABLE event_1 PARTITION OF event FOR VALUES FROM (0) TO (10);
                 INSERT INTO event SELECT generate_series(0, 6);
                 ALTER TABLE orders OWNER TO \"{quoted}\";"
            ),
        );
        let machine = Lifeboat::with_repository();
        let media = Tree::create(machine.path("media"));
        media.file("a.jpg", "first").file("sub/b.jpg", "second");
        fs::write(machine.path(".env"), "SECRET=1").unwrap();
        fs::create_dir(machine.path("tmp")).unwrap();
        // The server that a drill starts as another account has to get through.
        for folder in ["", "tmp"] {
            let open = fs::Permissions::from_mode(0o755);
            fs::set_permissions(machine.path(folder), open).unwrap();
        }
        rusqlite::Connection::open(machine.path("app.db"))
            .unwrap()
            .execute_batch("CREATE TABLE session (id integer PRIMARY KEY); INSERT INTO session VALUES (1), (2), (3)")
            .unwrap();
        let app = Self {
            machine,
            cluster,
            database,
            media,
        };
        app.configure("", drill);
        app
    }

    fn configure(&self, postgres: &str, drill: &str) {
        let text = format!(
            "[app.shop.postgres]\nurl = \"{}\"\n{postgres}\n\
             [app.shop.sqlite.rows]\npath = \"app.db\"\n\
             [app.shop.secrets]\npaths = [\".env\"]\n\
             [app.shop.media.media]\npath = \"media\"\n\
             [app.shop.media.media.reference.assets]\ncolumn = \"db:public.asset.path\"\nsize = \"bytes\"\nsha256 = \"sha\"\n\
             [app.shop.drill]\n{drill}\n",
            address(&self.cluster, "postgres", &self.database)
        );
        fs::write(self.machine.path("lifeboat.toml"), text).unwrap();
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.machine.command();
        command
            .args(arguments)
            .arg("--config")
            .arg(self.machine.path("lifeboat.toml"))
            .env("TMPDIR", self.machine.path("tmp"));
        command
    }

    fn run(&self, arguments: &[&str]) -> Ran {
        Ran::of(self.command(arguments))
    }

    fn back_up(&self) {
        self.run(&["backup", "shop"]).done();
    }

    /// Drills, and returns the report. Fails when anything stays where temporary files are.
    fn drill(&self, code: i32) -> Value {
        let ran = self.run(&["drill", "shop", "--json"]).ends_with_code(code);
        self.is_clean();
        ran.summary()
    }

    fn is_clean(&self) {
        let left = fs::read_dir(self.machine.path("tmp")).unwrap();
        let left: Vec<PathBuf> = left.map(|entry| entry.unwrap().path()).collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

/// The sentences of a report.
fn sentences(report: &Value, field: &str) -> Vec<String> {
    let list = report[field].as_array();
    let list = list.unwrap_or_else(|| panic!("`{field}` is a list in {report}"));
    list.iter()
        .map(|one| one.as_str().unwrap().to_owned())
        .collect()
}

/// Fails unless the report has one problem, whose sentence has all of these words.
#[track_caller]
fn names_it(report: &Value, words: &[&str]) {
    let problems = sentences(report, "problems");
    assert_eq!(problems.len(), 1, "{problems:#?}");
    for word in words {
        assert!(problems[0].contains(word), "{word} in {problems:?}");
    }
    assert_eq!(report["verdict"], "failed");
}

fn table<'r>(report: &'r Value, name: &str) -> &'r Value {
    let databases = report["databases"].as_array().unwrap().iter();
    let mut tables = databases.flat_map(|one| one["tables"].as_array().unwrap());
    tables
        .find(|table| table["table"] == name)
        .unwrap_or_else(|| panic!("the table {name} in {report}"))
}

const CHECKS: &str = "checks = [\"db: SELECT count(*) = 1000 FROM orders\", \"rows: SELECT count(*) FROM session\"]\n\
    [app.shop.drill.command.look]\n\
    run = [\"sh\", \"-c\", \"test -f \\\"$LIFEBOAT_DRILL_FILES/media/sub/b.jpg\\\" && test -z \\\"$LIFEBOAT_KEY_FILE\\\" && echo \\\"$LIFEBOAT_DRILL_DATABASE\\\" | grep -q drill_db && test ! -e \\\"$LIFEBOAT_DRILL_FILES/secrets/.env\\\"\"]";

#[test]
fn a_good_backup_passes_and_its_snapshot_is_called_drilled() {
    let app = App::new(CHECKS);
    for engine in ["", "engine = \"pg_dump\""] {
        app.configure(engine, CHECKS);
        app.back_up();
        let before = app.run(&["ls", "drilled"]).code;
        let report = app.drill(0);
        assert_eq!(report["verdict"], "passed", "{report}");
        assert!(sentences(&report, "problems").is_empty(), "{report}");
        assert!(sentences(&report, "warnings").is_empty(), "{report}");
        for (name, rows) in [
            ("public.orders", 1000),
            ("public.asset", 2),
            ("public.event", 7),
        ] {
            let found = table(&report, name);
            assert_eq!(
                (&found["rows"], &found["expected"]),
                (&rows.into(), &rows.into())
            );
        }
        assert_eq!(table(&report, "session")["rows"], 3);
        assert_eq!(report["databases"][0]["foreign_keys"], 1);
        assert_eq!(report["databases"][0]["hashes_equal"], engine.is_empty());
        let files = &report["files"];
        assert_eq!(
            (&files["hashed"], &files["secrets"]),
            (&2.into(), &1.into())
        );
        assert_eq!(report["references"][0]["files"], 2);
        assert_eq!(report["checks"].as_array().unwrap().len(), 3);
        assert!(report["restore_ms"].as_u64().unwrap() > 0);
        // Before the first drill no snapshot is drilled, and then the newest is.
        assert_eq!(before, i32::from(engine.is_empty()));
        let listed = app.run(&["snapshots", "--json"]).done().answer();
        let newest = listed.as_array().unwrap().last().unwrap();
        assert_eq!(newest["drill"]["verdict"], "passed");
        assert_eq!(newest["id"], report["snapshot"]);
    }
    let shown = app.run(&["snapshots"]).done();
    assert_eq!(shown.stdout().matches("(drilled)").count(), 2);
}

#[test]
fn the_report_is_signed_and_a_page_shows_it() {
    let app = App::new("checks = [\"db: SELECT '<b>' = '<b>'\"]");
    app.back_up();
    let (page, json) = (app.machine.path("r.html"), app.machine.path("r.json"));
    let paths = [page.to_str().unwrap(), json.to_str().unwrap()];
    app.run(&["drill", "--report", paths[0], "--report", paths[1]])
        .done();
    let signed: Value = serde_json::from_slice(&fs::read(json).unwrap()).unwrap();
    let signed = &signed["drills"][0];
    let report: Value = serde_json::from_str(&text(signed, "report")).unwrap();
    assert_eq!(report["verdict"], "passed");
    let page = fs::read_to_string(page).unwrap();
    for part in ["sha256", "signature", "public_key", "writer"] {
        assert!(page.contains(&text(signed, part)), "{part}");
    }
    assert!(page.contains("&lt;b&gt;") && !page.contains("<b>"));
    assert!(!page.contains("http://") && !page.contains("https://"));
    verify(signed);
}

/// Verifies the signature as docs/drill.md tells people to, by a program of other people.
fn verify(signed: &Value) {
    let folder = tempfile::tempdir().unwrap();
    let bytes = |field: &str| -> Vec<u8> {
        let text = text(signed, field);
        let digit = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
        (0..text.len()).step_by(2).map(digit).collect()
    };
    // A public key as RFC 8410 has it.
    let mut key = b"\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00".to_vec();
    key.extend(bytes("public_key"));
    let message = format!("lifeboat 1 drill report\n{}", text(signed, "report"));
    let write = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    };
    let check = |message: &str| {
        let mut openssl = Command::new("openssl");
        openssl
            .args([
                "pkeyutl", "-verify", "-pubin", "-keyform", "DER", "-rawin", "-inkey",
            ])
            .arg(write("key", &key))
            .arg("-in")
            .arg(write("message", message.as_bytes()))
            .arg("-sigfile")
            .arg(write("signature", &bytes("signature")));
        openssl.output().unwrap().status.success()
    };
    assert!(check(&message));
    assert!(!check(&message.replace("passed", "failed")));
}

#[test]
fn a_missing_chunk_is_named_and_the_snapshot_is_not_called_drilled() {
    let app = App::new("");
    app.back_up();
    app.drill(0);
    fs::remove_dir_all(app.machine.repository().join("packs/d")).unwrap();
    let ran = app.run(&["drill", "shop", "--json"]).ends_with_code(4);
    app.is_clean();
    let problems = sentences(&ran.summary(), "problems");
    for source in ["db", "media/a.jpg", "rows/app.db"] {
        let told = problems
            .iter()
            .any(|problem| problem.contains(source) && problem.contains("packs/d"));
        assert!(told, "{source} in {problems:#?}");
    }
    let listed = app.run(&["snapshots"]).done();
    assert!(listed.stdout().contains("(drill failed)"), "{listed:?}");
    app.run(&["ls", "drilled"]).explains(1);
}

/// PostgreSQL's programs with `pg_dumpall` replaced by a script that finds the real one as `$REAL`.
fn stand_in(app: &App, script: &str) -> PathBuf {
    let folder = app.machine.path("programs");
    fs::create_dir(&folder).unwrap();
    for program in ["pg_dump", "pg_restore", "psql"] {
        symlink(client(&app.cluster, program), folder.join(program)).unwrap();
    }
    let real = client(&app.cluster, "pg_dumpall");
    let path = folder.join("pg_dumpall");
    fs::write(
        &path,
        format!("#!/bin/sh\nREAL={}\n{script}\n", real.display()),
    )
    .unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    folder
}

#[test]
fn a_missing_role_is_named() {
    let app = App::new("");
    let programs = stand_in(&app, "$REAL \"$@\" | grep -v clerk");
    for engine in ["", "engine = \"pg_dump\""] {
        app.configure(engine, "");
        let mut backup = app.command(&["backup", "shop"]);
        backup.env("LIFEBOAT_PG_BIN", &programs);
        Ran::of(backup).done();
        let report = app.drill(4);
        names_it(&report, &["globals.sql does not make", "clerk", "db"]);
    }
}

#[test]
fn a_file_that_went_after_the_backup_said_so_is_a_warning_and_a_swapped_one_a_problem() {
    let app = App::new("");
    app.media.remove("a.jpg");
    app.run(&["backup", "shop"]).ends_with_code(3);
    let report = app.drill(0);
    let warnings = sentences(&report, "warnings");
    assert!(
        warnings
            .iter()
            .any(|warning| warning.contains("media/a.jpg: row 1 of public.asset names it")),
        "{warnings:?}"
    );

    // Another file of the same size, and a row that the snapshot never compared.
    app.media.file("a.jpg", "wrong");
    app.back_up();
    names_it(&app.drill(4), &["media/a.jpg", "SHA-256"]);
}

#[test]
fn a_file_that_lacks_without_the_snapshot_saying_so_is_named() {
    let app = App::new("");
    app.back_up();
    // A column that the configuration had not when the backup was made.
    psql(
        &app.cluster,
        &app.database,
        "CREATE TABLE page (id int PRIMARY KEY, path text); INSERT INTO page VALUES (7, 'gone.jpg')",
    );
    app.back_up();
    let file = app.machine.path("lifeboat.toml");
    let config = fs::read_to_string(&file).unwrap();
    let more = "[app.shop.media.media]\nreferenced-by = [\"db:public.page.path\"]";
    fs::write(&file, config.replace("[app.shop.media.media]", more)).unwrap();
    names_it(&app.drill(4), &["media/gone.jpg", "row 7 of public.page"]);
}

#[test]
fn an_empty_table_is_named_by_a_check_and_by_what_the_source_guessed() {
    let app = App::new("checks = [\"db: SELECT count(*) > 0 FROM orders\"]");
    psql(&app.cluster, &app.database, "ANALYZE; DELETE FROM orders");
    app.back_up();
    let report = app.drill(4);
    names_it(&report, &["SELECT count(*) > 0 FROM orders", "not true"]);
    let warnings = sentences(&report, "warnings");
    assert!(
        warnings
            .iter()
            .any(|warning| warning.contains("public.orders is empty")
                && warning.contains("1000 rows")),
        "{warnings:?}"
    );
}

#[test]
fn checks_that_fail_are_named() {
    let drill = "checks = [\"db: SELECT x FROM nowhere\", \"rows: SELECT 0\"]\n\
                 [app.shop.drill.command.bad]\nrun = [\"sh\", \"-c\", \"echo cannot log in >&2; exit 3\"]";
    let app = App::new(drill);
    app.back_up();
    let report = app.drill(4);
    let problems = sentences(&report, "problems").join("\n");
    for words in ["nowhere", "it gives 0", "cannot log in"] {
        assert!(problems.contains(words), "{words} in {problems}");
    }
    assert_eq!(report["checks"].as_array().unwrap().len(), 3);
}

#[test]
fn surroundings_that_fail_are_no_judgement() {
    let app = App::new("[app.shop.drill.command.none]\nrun = [\"/no/such/program\"]");
    app.back_up();
    let ran = app.run(&["drill", "shop"]);
    assert!(ran.explains(6).contains("/no/such/program"), "{ran:?}");
    let mut without = app.command(&["drill", "shop"]);
    without.env("LIFEBOAT_PG_BIN", app.machine.path("empty"));
    let ran = Ran::of(without);
    assert!(ran.explains(6).contains("PostgreSQL"), "{ran:?}");
    app.is_clean();
    app.run(&["ls", "drilled"]).explains(1);
    let listed = app.run(&["snapshots", "--json"]).done().answer();
    assert_eq!(listed[0]["drill"], Value::Null);
}

/// The extension is made here and gone when the drill looks for it.
#[test]
fn a_missing_extension_is_named_before_the_first_byte() {
    let app = App::new("");
    app.back_up();
    // Nothing on a machine of tests can be taken away: the catalog is made to speak of an extension that nobody has.
    psql(
        &app.cluster,
        &app.database,
        "INSERT INTO pg_extension SELECT 99999, 'vector', extowner, extnamespace, false, '0.7', NULL, NULL FROM pg_extension WHERE extname = 'plpgsql'",
    );
    app.back_up();
    let ran = app.run(&["drill", "shop"]);
    assert!(ran.explains(6).contains("extension vector"), "{ran:?}");
    assert!(!ran.stderr.contains("Restoring"), "{ran:?}");
    app.is_clean();
}

#[test]
fn what_a_killed_drill_leaves_the_next_one_removes() {
    let app = App::new("[app.shop.drill.command.wait]\nrun = [\"sleep\", \"600\"]");
    app.back_up();
    let mut child = app.command(&["drill", "shop"]).spawn().unwrap();
    let scratch = wait_until(|| {
        let entries = fs::read_dir(app.machine.path("tmp")).ok()?;
        let mut paths = entries.map(|entry| entry.unwrap().path());
        paths.find(|path| path.join("files/media/a.jpg").exists())
    });
    let server = wait_until(|| postmaster(&scratch));
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(is_alive(server), "nobody has ended the server yet");

    app.configure("", "");
    app.drill(0);
    assert!(!is_alive(server));

    // One that is asked to stop cleans up by itself.
    app.configure(
        "",
        "[app.shop.drill.command.wait]\nrun = [\"sleep\", \"600\"]",
    );
    let mut child = app.command(&["drill", "shop"]).spawn().unwrap();
    wait_until(|| {
        let entries = fs::read_dir(app.machine.path("tmp")).ok()?;
        let mut paths = entries.map(|entry| entry.unwrap().path());
        paths.find(|path| path.join("files/media/a.jpg").exists())
    });
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    app.is_clean();
}

fn wait_until<T>(mut look: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begun.elapsed() < Duration::from_secs(120), "it never came");
        thread::sleep(Duration::from_millis(20));
    }
}

/// The number of the server in a scratch folder.
fn postmaster(scratch: &Path) -> Option<Pid> {
    let mut entries = fs::read_dir(scratch).ok()?.flatten();
    let server = entries.find(|entry| entry.file_name().to_string_lossy().contains("pg-"))?;
    let status = fs::read_to_string(server.path().join("data/postmaster.pid")).ok()?;
    Pid::from_raw(status.lines().next()?.parse().ok()?)
}

fn is_alive(server: Pid) -> bool {
    // Whoever has nobody left to ask how it ended is a zombie at most.
    let status = fs::read_to_string(format!("/proc/{}/stat", server.as_raw_pid()));
    status.is_ok_and(|status| !status.contains(") Z "))
}
