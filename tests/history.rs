//! The history of this machine's runs: each leaves a row and a log, however it ended, and no secret in either.

use std::{
    ffi::OsStr,
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::Stdio,
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::support::{program::Lifeboat, trees::Tree};

fn runs(machine: &Lifeboat, arguments: &[&str]) -> Vec<Value> {
    let words = ["log", "--json"].iter().chain(arguments);
    let listed = machine.run(words).done().json().remove(0);
    listed.as_array().unwrap().clone()
}

fn log_of(machine: &Lifeboat, run: &Value) -> String {
    let number = run["run"].to_string();
    machine.run(["log", &number]).done().stdout().to_owned()
}

/// True when a file below `folder` holds `text`.
fn holds(folder: &Path, text: &str) -> bool {
    fs::read_dir(folder)
        .unwrap()
        .map(Result::unwrap)
        .any(|entry| {
            if entry.file_type().unwrap().is_dir() {
                holds(&entry.path(), text)
            } else {
                let bytes = fs::read(entry.path()).unwrap();
                bytes
                    .windows(text.len())
                    .any(|part| part == text.as_bytes())
            }
        })
}

#[test]
fn every_run_leaves_a_row_and_a_log_however_it_ended() {
    let machine = Lifeboat::with_repository();
    let tree = Tree::create(machine.path("media"));
    tree.file("a.txt", "a file");
    let source = tree.root().as_os_str();
    let backup = |app: &str| {
        machine.run([
            OsStr::new("backup"),
            "--app".as_ref(),
            app.as_ref(),
            "--source".as_ref(),
            source,
        ])
    };
    backup("shop").done();
    fs::write(machine.path("wrong"), "not the passphrase").unwrap();
    let mut wrong = machine.command();
    wrong
        .env_remove("LIFEBOAT_KEY_FILE")
        .args(["check", "--password-file", "wrong"]);
    assert_eq!(wrong.output().unwrap().status.code(), Some(12));
    fs::rename(machine.repository(), machine.path("away")).unwrap();
    backup("shop").ends_with_code(10);
    fs::rename(machine.path("away"), machine.repository()).unwrap();
    machine.run(["restore", "shop", "--target", "out"]).done();
    machine.run(["snapshots"]).done();

    let listed = runs(&machine, &[]);
    let rows: Vec<_> = listed
        .iter()
        .map(|run| {
            (
                run["verb"].as_str().unwrap(),
                run["app"].as_str(),
                run["exit_code"].as_i64().unwrap(),
            )
        })
        .collect();
    let shop = Some("shop");
    assert_eq!(
        rows,
        [
            ("init", None, 0),
            ("backup", shop, 0),
            ("check", None, 12),
            ("backup", shop, 10),
            ("restore", shop, 0)
        ]
    );
    assert_eq!(listed[1]["summary"]["files"], 1);
    assert!(log_of(&machine, &listed[1]).contains("Backed up shop: 1 file"));
    assert!(log_of(&machine, &listed[2]).contains("error: the passphrase does not open"));
    assert!(log_of(&machine, &listed[3]).contains("hint: "));

    let failed = runs(&machine, &["--app", "shop", "--failed"]);
    assert_eq!(failed.len(), 1);
    assert_eq!(failed[0]["exit_code"], 10);
    assert_eq!(runs(&machine, &["--latest", "2"]).len(), 2);
    machine.run(["log", "99"]).ends_with_code(2);
}

#[test]
fn apps_that_are_backed_up_together_have_a_row_each() {
    let machine = Lifeboat::with_repository();
    Tree::create(machine.path("one")).file("a.txt", "one");
    let folder = machine.folder().display().to_string();
    let app = |name: &str| format!("[app.{name}.media.files]\npath = \"{folder}/{name}\"\n");
    let config = [app("one"), app("two")].concat();
    fs::write(machine.path("lifeboat.toml"), config).unwrap();
    let ran = machine.run(["backup", "--config", "lifeboat.toml"]);
    assert_ne!(ran.code, 0, "the folder of the second app is missing");

    let listed = runs(&machine, &["--latest", "2"]);
    assert_eq!(
        (&listed[0]["app"], &listed[0]["exit_code"]),
        (&"one".into(), &0.into())
    );
    assert_eq!(
        (&listed[1]["app"], &listed[1]["exit_code"]),
        (&"two".into(), &ran.code.into())
    );
    assert!(log_of(&machine, &listed[1]).contains("two failed"));
    // Programs hear of each that failed too.
    let ran = machine.run(["backup", "--json", "--config", "lifeboat.toml"]);
    let told = ran.problems();
    assert!(
        told.iter().any(|told| told.starts_with("two failed: ")),
        "{ran:?}"
    );
}

#[test]
fn a_killed_run_is_shown_as_interrupted_and_a_living_one_as_running() {
    let machine = Lifeboat::with_repository();
    let mut command = machine.command();
    command
        .args([
            "backup",
            "--app",
            "shop",
            "--stdin",
            "--stdin-filename",
            "x",
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    let begun = Instant::now();
    let newest = || runs(&machine, &["--latest", "1"]).remove(0);
    while newest()["verb"] != "backup" {
        assert!(
            begun.elapsed() < Duration::from_secs(20),
            "the run is in the history"
        );
        thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(newest()["state"], "running");
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(newest()["state"], "interrupted");
    assert_eq!(newest()["exit_code"], Value::Null);
}

#[test]
fn no_secret_stands_in_the_history() {
    const PASSPHRASE: &str = "hunter2-and-more";
    let machine = Lifeboat::new();
    let mut init = machine.command();
    init.env_remove("LIFEBOAT_KEY_FILE")
        .env("LIFEBOAT_PASSWORD", PASSPHRASE)
        .args(["init", "--json"]);
    let made = init.output().unwrap();
    let made: Value = serde_json::from_slice(&made.stdout).unwrap();
    let recovery = made["recovery_key"].as_str().unwrap();
    let mut shown = machine.command();
    shown
        .env_remove("LIFEBOAT_KEY_FILE")
        .env("LIFEBOAT_PASSWORD", PASSPHRASE)
        .args(["recovery-key", "show"]);
    assert!(
        String::from_utf8(shown.output().unwrap().stdout)
            .unwrap()
            .contains(recovery)
    );
    machine
        .run([
            "backup",
            "--app",
            "shop",
            "--source",
            "postgres://shop:hunter3@127.0.0.1:1/shop",
        ])
        .ends_with_code(2);

    let state = machine.path("state");
    assert_eq!(runs(&machine, &[]).len(), 3);
    assert!(
        holds(&state, "postgres://shop:***@"),
        "the address is there, without its password"
    );
    for secret in [PASSPHRASE, recovery, &recovery[..12], "hunter3"] {
        assert!(!holds(&state, secret), "{secret}");
    }
    let mode = |name: &str| fs::metadata(state.join(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!(
        (mode("lifeboat"), mode("lifeboat/history.db")),
        (0o700, 0o600)
    );
}

#[test]
fn a_history_that_cannot_be_written_hinders_nothing() {
    let machine = Lifeboat::with_repository();
    Tree::create(machine.path("media")).file("a.txt", "a file");
    let database = machine.path("state/lifeboat/history.db");
    fs::remove_file(&database).unwrap();
    fs::create_dir(&database).unwrap();
    let ran = machine
        .run(["backup", "--app", "shop", "--source", "media"])
        .done();
    let warnings = ran.stderr.matches("warning: ").count();
    assert_eq!(warnings, 1, "{}", ran.stderr);
    assert!(ran.stderr.contains("history"), "{}", ran.stderr);
    machine.run(["snapshots", "shop"]).done();
}

#[test]
fn a_history_that_somebody_holds_for_ever_hinders_nothing() {
    let machine = Lifeboat::with_repository();
    let tree = Tree::create(machine.path("media"));
    tree.file("a.txt", "a file");
    let source = tree.root().as_os_str();
    let arguments = ["backup", "--app", "shop", "--source"].map(OsStr::new);
    machine.run(arguments.into_iter().chain([source])).done();
    let lock = fs::File::open(machine.path("state/lifeboat/history.lock")).unwrap();
    lock.lock().unwrap();
    let ran = machine.run(arguments.into_iter().chain([source])).done();
    assert!(ran.stderr.contains("not wholly in the history"), "{ran:?}");
    drop(lock);
    machine.run(["log"]).done();
}
