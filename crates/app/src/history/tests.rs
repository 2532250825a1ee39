//! Rows and logs of runs, whatever happened to them.

use super::*;
use jiff::SignedDuration;
use serde_json::json;
use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicI64, Ordering};
use tempfile::TempDir;

fn moment() -> Timestamp {
    "2026-11-19T02:30:00Z".parse().unwrap()
}

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn open(folder: &TempDir) -> History {
    History::open_at(folder.path(), moment).unwrap()
}

fn facts<'a>(verb: &'a str, app: Option<&'a str>) -> RunFacts<'a> {
    RunFacts {
        verb,
        app,
        repository: "/srv/repo",
        arguments: &[],
    }
}

fn run(history: &History, verb: &str, app: Option<&str>, exit_code: i32) -> i64 {
    let run = history.begin(&facts(verb, app)).unwrap();
    let id = run.id();
    run.finish(exit_code, None).unwrap();
    id
}

fn ids(records: &[RunRecord]) -> Vec<i64> {
    records.iter().map(|record| record.id).collect()
}

#[test]
fn a_run_has_a_row_and_a_log_from_its_beginning_to_its_end() {
    let folder = folder();
    let history = open(&folder);
    assert_eq!(history.note(), None);
    let arguments = ["backup".to_owned(), "shop".to_owned()];
    let run = history
        .begin(&RunFacts {
            arguments: &arguments,
            ..facts("backup", Some("shop"))
        })
        .unwrap();
    run.log("Reading the database.\nDone.");

    let begun = history.run(run.id()).unwrap().unwrap();
    let expected = RunRecord {
        id: 1,
        verb: "backup".to_owned(),
        app: Some("shop".to_owned()),
        repository: "/srv/repo".to_owned(),
        arguments: arguments.to_vec(),
        host: begun.host.clone(),
        pid: std::process::id(),
        started: moment(),
        state: RunState::Running,
    };
    assert_eq!(begun, expected);
    assert!(!begun.host.is_empty());

    run.finish(3, Some(&json!({ "files": 7 }))).unwrap();
    let finished = RunState::Finished {
        finished: moment(),
        exit_code: 3,
        summary: Some(json!({ "files": 7 })),
    };
    assert_eq!(
        history.list(10, None).unwrap(),
        [RunRecord {
            state: finished,
            ..expected
        }]
    );
    let expected = "2026-11-19T02:30:00.000Z Reading the database.\n\
                    2026-11-19T02:30:00.000Z Done.\n\
                    2026-11-19T02:30:00.000Z Finished with exit code 3.\n";
    assert_eq!(history.read_log(1).unwrap().as_deref(), Some(expected));
    assert_eq!(history.read_log(2).unwrap(), None);
    assert_eq!(history.run(2).unwrap(), None);
}

#[test]
fn a_run_that_lost_its_process_is_shown_as_interrupted() {
    let folder = folder();
    let history = open(&folder);
    let run = history.begin(&facts("backup", None)).unwrap();
    // Another process sees the run through its own connection.
    let other = open(&folder);
    assert_eq!(other.list(1, None).unwrap()[0].state, RunState::Running);
    drop(run);
    assert_eq!(other.list(1, None).unwrap()[0].state, RunState::Interrupted);
    fs::remove_file(history.log_path(1)).unwrap();
    assert_eq!(
        history.list(1, None).unwrap()[0].state,
        RunState::Interrupted
    );
}

#[test]
fn runs_are_listed_newest_first_and_by_app() {
    let folder = folder();
    let history = open(&folder);
    for app in [Some("shop"), None, Some("blog"), Some("shop")] {
        run(&history, "backup", app, 0);
    }
    assert_eq!(ids(&history.list(10, None).unwrap()), [4, 3, 2, 1]);
    assert_eq!(ids(&history.list(2, None).unwrap()), [4, 3]);
    assert_eq!(ids(&history.list(10, Some("shop")).unwrap()), [4, 1]);
    assert!(history.list(10, Some("other")).unwrap().is_empty());
}

#[test]
fn the_last_success_is_of_the_same_verb_and_app() {
    let folder = folder();
    let history = open(&folder);
    for (verb, app, exit_code) in [
        ("backup", Some("shop"), 0),
        ("backup", Some("shop"), 0),
        ("backup", Some("shop"), 3),
        ("backup", Some("shop"), 1),
        ("restore", Some("shop"), 0),
        ("backup", Some("blog"), 0),
        ("check", None, 0),
    ] {
        run(&history, verb, app, exit_code);
    }
    let last = |verb, app| {
        history
            .last_success(verb, app)
            .unwrap()
            .map(|record| record.id)
    };
    assert_eq!(last("backup", Some("shop")), Some(2));
    assert_eq!(last("restore", Some("shop")), Some(5));
    assert_eq!(last("check", None), Some(7));
    assert_eq!(last("backup", None), None);
    assert_eq!(last("restore", Some("blog")), None);
}

#[test]
fn no_secret_is_kept() {
    let folder = folder();
    let history = open(&folder);
    let arguments =
        ["--to", "postgres://u:hunter2@h/db", "--password", "hunter2"].map(str::to_owned);
    let run = history
        .begin(&RunFacts {
            verb: "restore-db",
            app: None,
            repository: "s3://key:hunter2@bucket/x",
            arguments: &arguments,
        })
        .unwrap();
    run.log("connecting to host=h password=hunter2");
    run.finish(
        0,
        Some(&json!({ "to": ["postgres://u:hunter2@h"], "n": 1 })),
    )
    .unwrap();
    let record = history.list(1, None).unwrap().remove(0);
    assert_eq!(
        record.arguments,
        ["--to", "postgres://u:***@h/db", "--password", "***"]
    );
    drop(history);
    for entry in walk(folder.path()) {
        let bytes = fs::read(&entry).unwrap();
        let text = String::from_utf8_lossy(&bytes);
        assert!(!text.contains("hunter2"), "{}", entry.display());
    }
}

fn walk(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    entries
        .flat_map(|path| {
            if path.is_dir() {
                walk(&path)
            } else {
                vec![path]
            }
        })
        .collect()
}

#[test]
fn only_the_owner_can_read_the_files() {
    let folder = folder();
    let state = folder.path().join("state/lifeboat");
    let history = History::open_at(&state, moment).unwrap();
    let _run = history.begin(&facts("backup", None)).unwrap();
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&state), 0o700);
    let files = walk(&state);
    assert!(files.len() >= 3);
    for file in files {
        assert_eq!(mode(&file), 0o600, "{}", file.display());
    }
}

#[test]
fn a_file_that_is_no_history_is_put_aside_and_a_new_one_begun() {
    let garbage =
        b"this is not a database, only text that is long enough to be taken for one".repeat(9);
    let foreign = folder();
    let path = foreign.path().join("foreign.db");
    Connection::open(&path)
        .unwrap()
        .execute_batch("CREATE TABLE t (x); INSERT INTO t VALUES (1);")
        .unwrap();
    let foreign = fs::read(path).unwrap();
    for (content, reason) in [
        (garbage, "file is not a database"),
        (foreign, "it is a database of something else"),
    ] {
        let folder = folder();
        let database = folder.path().join("history.db");
        fs::write(&database, &content).unwrap();
        let history = open(&folder);
        let aside = folder.path().join("history.db.damaged-20261119T023000Z");
        let expected = format!(
            "The history could not be used ({reason}); it is kept as {} and a new one was begun.",
            aside.display()
        );
        assert_eq!(history.note(), Some(expected.as_str()));
        assert_eq!(fs::read(&aside).unwrap(), content);
        assert_eq!(run(&history, "backup", None, 0), 1);
        // A second one in the same second gets a name of its own.
        drop(history);
        fs::write(&database, &content).unwrap();
        assert!(open(&folder).note().unwrap().contains("T023000Z-2 and"));
    }
}

#[test]
fn a_damaged_history_is_put_aside_and_numbers_go_on() {
    let folder = folder();
    let history = open(&folder);
    for _ in 0..3 {
        run(&history, "backup", Some("shop"), 0);
    }
    drop(history);
    let database = folder.path().join("history.db");
    let mut bytes = fs::read(&database).unwrap();
    let length = bytes.len();
    bytes[4096..length].fill(0x5a);
    fs::write(&database, bytes).unwrap();
    let history = open(&folder);
    assert!(history.note().is_some());
    assert!(history.list(10, None).unwrap().is_empty());
    // Logs of the old history are thrown away when a run begins, but no number is given twice.
    assert_eq!(run(&history, "backup", None, 0), 4);
}

#[test]
fn a_history_of_a_newer_version_is_left_alone() {
    let folder = folder();
    run(&open(&folder), "backup", None, 0);
    let database = folder.path().join("history.db");
    Connection::open(&database)
        .unwrap()
        .pragma_update(None, "user_version", 9)
        .unwrap();
    let error = History::open(folder.path()).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "the history {} is of version 9, newer than this program",
            database.display()
        )
    );
    assert!(database.exists());
}

#[test]
fn a_folder_that_cannot_be_written_is_named() {
    let folder = folder();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let error = History::open(&file).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "cannot create {} of the history",
            file.join("logs").display()
        )
    );
}

#[test]
fn rows_beyond_the_most_go_but_the_newest_success_of_each_verb_and_app_stays() {
    let folder = folder();
    let history = open(&folder);
    run(&history, "backup", Some("rare"), 0);
    run(&history, "backup", Some("rare"), 1);
    {
        let connection = history.connection();
        let mut insert = connection
            .prepare(
                "INSERT INTO runs (verb, app, repository, arguments, host, pid, started_ms, finished_ms, exit_code)
                 VALUES ('backup', 'often', '', '[]', '', 1, 0, 0, 0)",
            )
            .unwrap();
        connection.execute_batch("BEGIN").unwrap();
        for _ in 0..ROWS_MAX {
            insert.execute([]).unwrap();
        }
        connection.execute_batch("COMMIT").unwrap();
    }
    let last = run(&history, "backup", Some("often"), 0);
    let records = history.list(usize::MAX, None).unwrap();
    assert_eq!(records.len(), usize::try_from(ROWS_MAX).unwrap() + 1);
    assert_eq!(records[0].id, last);
    assert_eq!(ids(&history.list(9, Some("rare")).unwrap()), [1]);
    assert_eq!(history.read_log(2).unwrap(), None);
}

#[test]
fn logs_are_thrown_away_when_they_are_old_but_never_under_a_living_run() {
    static DAYS: AtomicI64 = AtomicI64::new(0);
    fn clock() -> Timestamp {
        moment() + SignedDuration::from_hours(24 * DAYS.load(Ordering::SeqCst))
    }
    let folder = folder();
    let history = History::open_at(folder.path(), clock).unwrap();
    let old = run(&history, "backup", None, 0);
    let living = history.begin(&facts("serve", None)).unwrap();
    DAYS.store(60, Ordering::SeqCst);
    let young = run(&history, "backup", None, 0);
    DAYS.store(91, Ordering::SeqCst);
    run(&history, "backup", None, 0);
    assert_eq!(history.read_log(old).unwrap(), None);
    assert!(history.read_log(living.id()).unwrap().is_some());
    assert!(history.read_log(young).unwrap().is_some());
    assert!(history.run(old).unwrap().is_some());
    assert_eq!(
        history.run(living.id()).unwrap().unwrap().state,
        RunState::Running
    );
}

#[test]
fn a_run_whose_row_is_gone_says_so_at_its_end() {
    let folder = folder();
    let history = open(&folder);
    let run = history.begin(&facts("backup", None)).unwrap();
    history
        .connection()
        .execute("DELETE FROM runs", [])
        .unwrap();
    assert_eq!(
        run.finish(0, None).unwrap_err().to_string(),
        "run 1 is no longer in the history"
    );
}

#[test]
fn many_processes_begin_and_write_runs_at_once() {
    let folder = folder();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let history = open(&folder);
                for _ in 0..5 {
                    run(&history, "backup", Some("shop"), 0);
                }
            });
        }
    });
    let mut ids = ids(&open(&folder).list(100, None).unwrap());
    ids.reverse();
    assert_eq!(ids, (1..=40).collect::<Vec<_>>());
}
