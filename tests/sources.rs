//! Sources that are no plain folder: SQLite in use, standard input, a command, secrets; and what hides in folders.
//!
//! **Invariant**: a source that fails, or is stopped half way, leaves no snapshot; every test that makes one fail looks.

use std::{
    ffi::OsString,
    fs,
    io::Read,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::Stdio,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use rusqlite::Connection;
use rustix::process::{Pid, Signal, kill_process, test_kill_process};

use crate::support::{
    cluster,
    messages::{number, text},
    program::{Lifeboat, Ran, ends_soon},
    same::same,
    trees::{Tree, noise},
};

/// Longer than a stopped program may take to end.
const SECONDS_MAX: Duration = Duration::from_secs(10);

fn snapshots(machine: &Lifeboat) -> usize {
    let list = machine.run(["snapshots", "--json"]).done().answer();
    list.as_array().unwrap().len()
}

/// Restores a part of a snapshot into a new folder.
fn restored(machine: &Lifeboat, selector: &str, folder: &str, more: &[&str]) -> (Ran, Tree) {
    let target = machine.path(folder);
    let arguments = ["restore", selector, "--json", "--target"].map(OsString::from);
    let more = more.iter().map(OsString::from);
    let ran = machine.run(
        arguments
            .into_iter()
            .chain([target.clone().into()])
            .chain(more),
    );
    (ran, Tree::create(target))
}

/// Accounts between which money moves, and a log that counts the moves.
fn bank(path: &Path, journal: &str) -> Connection {
    let bank = Connection::open(path).unwrap();
    bank.pragma_update(None, "journal_mode", journal).unwrap();
    bank.execute_batch(
        "CREATE TABLE account (id INTEGER PRIMARY KEY, amount INTEGER NOT NULL, filler BLOB);
         CREATE TABLE move (id INTEGER PRIMARY KEY, note TEXT);
         CREATE TABLE total (moves INTEGER NOT NULL);
         CREATE INDEX by_amount ON account (amount);
         INSERT INTO total VALUES (0);
         WITH RECURSIVE number (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM number WHERE n < 2000)
         INSERT INTO account SELECT n, 1000, randomblob(800) FROM number;",
    )
    .unwrap();
    bank.busy_timeout(SECONDS_MAX).unwrap();
    bank
}

/// Moves money in one transaction, through tables and an index.
fn move_money(bank: &Connection, round: u64) {
    let (from, to) = (round % 2000 + 1, round * 7 % 2000 + 1);
    bank.execute_batch(&format!(
        "BEGIN IMMEDIATE;
         UPDATE account SET amount = amount - 3, filler = randomblob(800) WHERE id = {from};
         INSERT INTO move (note) VALUES ('from {from} to {to}');
         UPDATE account SET amount = amount + 3 WHERE id = {to};
         UPDATE total SET moves = moves + 1;
         COMMIT;"
    ))
    .unwrap();
}

/// Fails unless the database is as it was between two moves; returns how many there were.
fn consistent(path: &Path) -> i64 {
    let bank = Connection::open(path).unwrap();
    let ask = |sql: &str| bank.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
    let verdict: String = bank
        .query_row("PRAGMA integrity_check", [], |row| row.get(0))
        .unwrap();
    assert_eq!(verdict, "ok");
    assert_eq!(ask("SELECT sum(amount) FROM account"), 2_000_000);
    let moves = ask("SELECT moves FROM total");
    assert_eq!(ask("SELECT count(*) FROM move"), moves);
    moves
}

#[test]
fn an_sqlite_database_that_is_written_to_comes_back_as_of_one_moment() {
    for journal in ["wal", "delete"] {
        let machine = Lifeboat::with_repository();
        let path = machine.path("app.db");
        let writer = bank(&path, journal);
        let stop = AtomicBool::new(false);
        let source = format!("sqlite:{}", path.display());
        let moves = thread::scope(|scope| {
            let stop = &stop;
            let mover = scope.spawn(move || {
                let mut round = 0;
                while !stop.load(Ordering::Relaxed) {
                    move_money(&writer, round);
                    round += 1;
                    thread::sleep(Duration::from_millis(1));
                }
                round
            });
            for _ in 0..4 {
                machine
                    .run(["backup", "--app", "shop", "--source", &source])
                    .done();
            }
            stop.store(true, Ordering::Relaxed);
            mover.join().unwrap()
        });
        let mut before = -1;
        for back in (0..4).rev() {
            let (ran, target) = restored(&machine, &format!("shop~{back}:app"), "back", &[]);
            ran.done();
            let now = consistent(&target.root().join("app.db"));
            assert!(
                now >= before && now <= i64::try_from(moves).unwrap(),
                "{now}"
            );
            before = now;
            fs::remove_dir_all(target.root()).unwrap();
        }
        assert!(before > 0, "the database was written to while it was read");
    }
}

#[test]
fn what_is_no_sqlite_database_fails_and_leaves_no_snapshot() {
    let machine = Lifeboat::with_repository();
    fs::write(machine.path("no.db"), noise(1, 9_000)).unwrap();
    let ran = machine.run(["backup", "--app", "shop", "--source", "sqlite:no.db"]);
    assert!(ran.explains(1).contains("no.db"), "{ran:?}");
    machine
        .run(["backup", "--app", "shop", "--source", "sqlite:gone.db"])
        .explains(1);
    assert_eq!(snapshots(&machine), 0);
}

#[test]
fn standard_input_comes_back_byte_for_byte() {
    let machine = Lifeboat::with_repository();
    let backup = [
        "backup",
        "--json",
        "--app",
        "shop",
        "--stdin",
        "--stdin-filename",
        "shop.sql",
    ];
    for content in [noise(4, 5_000_000), Vec::new(), noise(4, 5_000_000)] {
        let made = machine.run_with_input(backup, &content).done().summary();
        assert_eq!(number(&made, "bytes"), content.len() as u64);
        let dumped = machine.run(["dump", "shop:stdin/shop.sql"]).done();
        assert_eq!(dumped.output, content);
    }
    let made = machine
        .run_with_input(backup, &noise(4, 5_000_000))
        .done()
        .summary();
    let new = number(&made, "bytes_new");
    assert!(new < 1_000, "what is new is the time of the file: {new}");
}

#[test]
fn empty_standard_input_is_kept_and_told() {
    let machine = Lifeboat::with_repository();
    let backup = ["backup", "--json", "--app", "shop", "--stdin"];
    let backup = backup.iter().chain(&["--stdin-filename", "shop.sql"]);
    let ran = machine.run_with_input(backup, b"").done();
    assert_eq!(ran.problems(), ["stdin/shop.sql: standard input was empty"]);
}

#[test]
fn a_dump_that_is_stopped_ends_before_the_end_of_its_file() {
    let machine = Lifeboat::with_repository();
    let backup = ["backup", "--app", "shop", "--stdin"];
    let backup = backup.iter().chain(&["--stdin-filename", "out"]);
    machine.run_with_input(backup, &noise(5, 20_000_000)).done();
    let mut dump = machine.command();
    dump.args(["dump", "shop:stdin/out"]).stdout(Stdio::piped());
    let mut child = dump.spawn().unwrap();
    let mut output = child.stdout.take().unwrap();
    // From the first byte on it waits for whoever reads the rest.
    let mut first = [0];
    output.read_exact(&mut first).unwrap();
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    let mut rest = Vec::new();
    output.read_to_end(&mut rest).unwrap();
    assert_eq!(ends_soon(&mut child), Some(143));
    assert!(rest.len() < 19_000_000, "{}", rest.len());
}

/// Backs up what a shell command prints.
fn from_command(machine: &Lifeboat, script: &str) -> Ran {
    let name = ["--stdin-filename", "out", "--stdin-from-command"];
    machine.run(
        ["backup", "--app", "shop"]
            .iter()
            .chain(&name)
            .chain(&["--", "sh", "-c", script]),
    )
}

#[test]
fn a_commands_output_is_kept_only_when_the_command_succeeds() {
    let machine = Lifeboat::with_repository();
    from_command(&machine, "printf 'a b\\n'; echo chatter >&2").done();
    let dumped = machine.run(["dump", "shop:stdin/out"]).done();
    assert_eq!(dumped.stdout(), "a b\n");

    for (script, said) in [
        (
            "head -c 3000000 /dev/zero; echo the table is gone >&2; exit 7",
            "the table is gone",
        ),
        ("echo half; kill -9 $$", "signal: 9"),
        ("exit 1", "exit status: 1"),
    ] {
        let ran = from_command(&machine, script);
        assert!(ran.explains(1).contains(said), "{ran:?}");
    }
    let name = ["--stdin-filename", "out", "--stdin-from-command"];
    let missing = machine.run(
        ["backup", "--app", "x"]
            .iter()
            .chain(&name)
            .chain(&["--", "no-such-program"]),
    );
    assert!(
        missing.explains(1).contains("no-such-program"),
        "{missing:?}"
    );
    assert_eq!(snapshots(&machine), 1);
}

#[test]
fn a_password_among_a_commands_arguments_is_repeated_nowhere() {
    let machine = Lifeboat::with_repository();
    let backup = ["backup", "--app", "shop", "--stdin-filename", "out"];
    let command = ["--stdin-from-command", "--", "sh", "-c", "exit 1", "sh"];
    let secrets = ["--password", "hunter2", "--token=my hunter2"];
    let ran = machine.run(backup.iter().chain(&command).chain(&secrets));
    assert!(!ran.explains(1).contains("hunter2"), "{ran:?}");
    let logged = machine.run(["log", "--json"]).done();
    assert!(!logged.stdout().contains("hunter2"), "{logged:?}");
    let log = machine.run(["log", "2"]).done();
    assert!(!log.stdout().contains("hunter2"), "{log:?}");
    assert!(log.stdout().contains("sh -c exit 1"), "{log:?}");
}

#[test]
fn a_command_that_takes_for_ever_is_ended_with_the_backup() {
    let machine = Lifeboat::with_repository();
    let mut command = machine.command();
    let script = "echo $$ > pid; echo a line; sleep 1000";
    command
        .args([
            "backup",
            "--app",
            "shop",
            "--stdin-filename",
            "out",
            "--stdin-from-command",
        ])
        .args(["--", "sh", "-c", script])
        .stdout(Stdio::null());
    let mut child = command.spawn().unwrap();
    let pid = machine.path("pid");
    let begun = Instant::now();
    while fs::read_to_string(&pid).unwrap_or_default().is_empty() {
        assert!(begun.elapsed() < SECONDS_MAX, "the command was started");
        thread::sleep(Duration::from_millis(10));
    }
    thread::sleep(Duration::from_millis(200));
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    assert_eq!(ends_soon(&mut child), Some(143));
    let command = fs::read_to_string(pid).unwrap().trim().parse().unwrap();
    let command = Pid::from_raw(command).unwrap();
    assert!(
        test_kill_process(command).is_err(),
        "the command was ended too"
    );
    assert_eq!(snapshots(&machine), 0);
}

#[test]
fn secrets_come_back_only_when_they_are_asked_for() {
    let machine = Lifeboat::with_repository();
    let app = Tree::create(machine.path("app"));
    app.file(".env", "KEY=value\n").mode(".env", 0o644);
    app.file("deploy/.env", "KEY=other\n");
    app.file("uploads/a.txt", "an upload");
    let config = format!(
        "[app.shop.media.uploads]\npath = \"{0}/uploads\"\n\n[app.shop.secrets]\npaths = [\"{0}/.env\", \"{0}/deploy/.env\"]\n",
        app.root().display()
    );
    fs::write(machine.path("lifeboat.toml"), config).unwrap();
    let with_config = |words: &[&str]| {
        let config = machine.path("lifeboat.toml");
        let words = words.iter().map(OsString::from);
        machine.run(words.chain(["--config".into(), config.into()]))
    };
    with_config(&["backup", "shop"]).done();

    let (ran, without) = restored(&machine, "shop", "without", &[]);
    assert_eq!(number(&ran.done().summary(), "secrets_left_out"), 2);
    let found = |tree: &Tree, name: &str| tree.root().join("secrets").join(name);
    assert!(!found(&without, ".env").exists());
    same(&app.root().join("uploads"), &without.root().join("uploads"));

    let (ran, with) = restored(&machine, "shop", "with", &["--with-secrets"]);
    assert_eq!(number(&ran.done().summary(), "secrets_left_out"), 0);
    assert_eq!(
        fs::read_to_string(found(&with, ".env")).unwrap(),
        "KEY=value\n"
    );
    let names = fs::read_dir(with.root().join("secrets")).unwrap();
    let mut contents = Vec::new();
    for entry in names.map(Result::unwrap) {
        assert_eq!(
            entry.metadata().unwrap().permissions().mode() & 0o7777,
            0o600
        );
        contents.push(fs::read_to_string(entry.path()).unwrap());
    }
    contents.sort();
    assert_eq!(contents, ["KEY=other\n", "KEY=value\n"]);
    let ran = with_config(&["backup", "shop", "--only", "uploads", "--json"]).done();
    assert_eq!(number(&ran.summary(), "files"), 1);

    fs::remove_file(app.root().join(".env")).unwrap();
    let ran = with_config(&["backup", "shop"]);
    assert!(ran.explains(1).contains(".env"), "{ran:?}");
    assert_eq!(snapshots(&machine), 2);
}

#[test]
fn a_secret_that_lies_in_a_folder_is_a_secret_there_too() {
    let machine = Lifeboat::with_repository();
    let app = Tree::create(machine.path("app"));
    app.file(".env", "KEY=value\n").mode(".env", 0o644);
    app.file("index.html", "hello");
    let folder = format!(
        "[app.shop.media.files]\npath = \"{}\"\n",
        app.root().display()
    );
    let secrets = format!(
        "\n[app.shop.secrets]\npaths = [\"{}/.env\"]\n",
        app.root().display()
    );
    let back_up = |config: &str, more: &[&str]| {
        fs::write(machine.path("lifeboat.toml"), config).unwrap();
        let words = ["backup", "shop", "--config", "lifeboat.toml"];
        machine.run(words.iter().chain(more)).done();
    };
    // Long enough for the next backup to take over what did not change.
    thread::sleep(Duration::from_millis(2_100));
    back_up(&folder, &[]);
    back_up(&[folder, secrets].concat(), &["--only", "files"]);
    let (ran, without) = restored(&machine, "shop:files", "without", &[]);
    assert_eq!(number(&ran.done().summary(), "secrets_left_out"), 1);
    assert!(!without.root().join(".env").exists());
    assert!(without.root().join("index.html").exists());
    let (ran, with) = restored(&machine, "shop:files", "with", &["--with-secrets"]);
    ran.done();
    let path = with.root().join(".env");
    assert_eq!(fs::read_to_string(&path).unwrap(), "KEY=value\n");
    assert_eq!(
        path.metadata().unwrap().permissions().mode() & 0o7777,
        0o600
    );
}

#[test]
fn what_a_command_complains_of_is_told_without_its_passwords() {
    let machine = Lifeboat::with_repository();
    let script = "printf 'cannot reach mysql://app:hunter2@host \\033[2J\\n' >&2; exit 1";
    let ran = from_command(&machine, script);
    let told = ran.explains(1);
    assert!(told.contains("cannot reach"), "{ran:?}");
    assert!(
        !told.contains("hunter2") && !told.contains('\u{1b}'),
        "{ran:?}"
    );
}

#[test]
fn a_database_that_is_locked_for_a_while_is_waited_for_and_the_wait_can_be_ended() {
    let machine = Lifeboat::with_repository();
    let path = machine.path("app.db");
    let writer = bank(&path, "delete");
    writer.execute_batch("BEGIN EXCLUSIVE").unwrap();
    let source = format!("sqlite:{}", path.display());
    let start = || {
        let mut command = machine.command();
        command.args(["backup", "--app", "shop", "--source", &source]);
        command.stdout(Stdio::null()).spawn().unwrap()
    };
    let mut stopped = start();
    thread::sleep(Duration::from_millis(500));
    kill_process(Pid::from_child(&stopped), Signal::TERM).unwrap();
    assert_eq!(ends_soon(&mut stopped), Some(143));
    let mut patient = start();
    // Longer than SQLite by itself is told to wait.
    thread::sleep(Duration::from_millis(6_500));
    writer.execute_batch("COMMIT").unwrap();
    assert!(patient.wait().unwrap().success());
    assert_eq!(snapshots(&machine), 1);
}

/// Backs up a folder in which a database lives, and expects to be told of it now and at the restore.
fn is_recognised(folder: &Path, path: &str, what: &str) {
    let machine = Lifeboat::with_repository();
    let arguments = ["backup", "--json", "--app", "shop", "--source"].map(OsString::from);
    for _ in 0..2 {
        let arguments = arguments.iter().cloned().chain([folder.into()]);
        let ran = machine.run(arguments).ends_with_code(3);
        let told = ran.problems();
        assert!(
            told.iter()
                .any(|told| told.contains(path) && told.contains(what)),
            "{told:?}"
        );
        assert!(number(&ran.summary(), "unreadable") > 0, "{ran:?}");
    }
    let failed = machine.run(["log", "--failed", "--json"]).done().answer();
    assert_eq!(failed.as_array().unwrap().len(), 2);
    let listed = machine.run(["snapshots"]).done();
    assert!(listed.stdout().contains("(incomplete)"), "{listed:?}");
    let stats = machine.run(["stats", "shop"]).done();
    assert!(stats.stdout().contains("Lacks "), "{stats:?}");
    let listed = machine.run(["ls", "shop", "--recursive", "--json"]).done();
    let listed = listed.answer();
    let item = listed
        .as_array()
        .unwrap()
        .iter()
        .find(|item| text(item, "path") == path);
    let remarks = item.unwrap()["remarks"].as_array().unwrap();
    assert!(!remarks.is_empty(), "it is marked in the snapshot");
    let (ran, _) = restored(&machine, "shop", "back", &[]);
    let told = ran.ends_with_code(3).problems();
    assert!(told.iter().any(|told| told.contains(path)), "{told:?}");
}

#[test]
fn an_open_sqlite_database_in_a_folder_is_recognised_and_marked() {
    let folder = tempfile::tempdir().unwrap();
    let tree = Tree::create(folder.path().join("media"));
    tree.file("a.txt", "a file").folder("data");
    let database = bank(&tree.root().join("data/app.db"), "wal");
    move_money(&database, 1);
    is_recognised(tree.root(), "media/data/app.db", "SQLite");
    drop(database);
}

#[test]
fn a_database_whose_log_alone_has_grown_is_told_every_night() {
    let machine = Lifeboat::with_repository();
    let tree = Tree::create(machine.path("media"));
    let path = tree.root().join("app.db");
    drop(bank(&path, "wal"));
    let back_up = || machine.run(["backup", "--json", "--app", "shop", "--source", "media"]);
    // Long enough for the next backup to take over what did not change.
    thread::sleep(Duration::from_millis(2_100));
    assert!(back_up().done().problems().is_empty());
    let before = fs::metadata(&path).unwrap();
    let database = Connection::open(&path).unwrap();
    move_money(&database, 1);
    let now = fs::metadata(&path).unwrap();
    assert_eq!(before.modified().unwrap(), now.modified().unwrap());
    for _ in 0..2 {
        let ran = back_up().ends_with_code(3);
        assert!(ran.problems()[0].contains("media/app.db"), "{ran:?}");
        assert_eq!(number(&ran.summary(), "unreadable"), 1);
    }
    drop(database);
}

#[test]
fn the_folder_of_a_running_postgresql_server_is_recognised_and_marked() {
    let cluster = cluster::shared();
    is_recognised(&cluster.folder().join("data"), "data", "PostgreSQL");
}

#[test]
fn a_database_beside_its_own_folder_is_read_once_and_as_a_database() {
    let machine = Lifeboat::with_repository();
    let tree = Tree::create(machine.path("media"));
    tree.file("a.txt", "a file");
    let database = bank(&tree.root().join("app.db"), "wal");
    let source = format!("sqlite:{}", tree.root().join("app.db").display());
    let mut command = machine.command();
    command
        .args([
            "backup", "--json", "--app", "shop", "--source", &source, "--source",
        ])
        .arg(tree.root());
    let ran = Ran::of(command).done();
    assert!(ran.problems().is_empty(), "{ran:?}");
    let listed = machine.run(["ls", "shop:media"]).done();
    assert_eq!(listed.stdout(), "media/a.txt\n");
    drop(database);
}
