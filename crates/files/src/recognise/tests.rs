//! Databases inside folders.

use super::*;
use rustix::fs::{FlockOperation, fcntl_lock};
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

fn cluster(path: &Path, state: u32, postmaster: Option<&str>) -> Option<Special> {
    fs::create_dir_all(path.join("global")).unwrap();
    fs::write(path.join("PG_VERSION"), "16\n").unwrap();
    let mut control = vec![0; 8192];
    control[CONTROL_STATE_OFFSET..][..4].copy_from_slice(&state.to_le_bytes());
    fs::write(path.join("global/pg_control"), control).unwrap();
    let pid_file = path.join("postmaster.pid");
    match postmaster {
        Some(text) => fs::write(pid_file, text).unwrap(),
        None => drop(fs::remove_file(pid_file)),
    }
    look(path)
}

fn look(path: &Path) -> Option<Special> {
    let mut folder = Folder::open(path).unwrap();
    let mut listing = Listing::new();
    folder.list(&mut listing).unwrap();
    recognise(&folder, &listing)
}

fn is(state: ClusterState) -> Option<Special> {
    Some(Special::PostgresCluster {
        version: "16".to_owned(),
        state,
    })
}

#[test]
fn a_data_directory_is_known_and_so_is_whether_a_server_works_in_it() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path();
    assert_eq!(cluster(path, 1, None), is(ClusterState::ShutDown));
    assert_eq!(cluster(path, 2, None), is(ClusterState::ShutDown));
    assert_eq!(cluster(path, 6, None), is(ClusterState::NotShutDown));
    let pid = i32::try_from(std::process::id()).unwrap();
    let text = format!("{pid}\n/srv/data\n1700000000\n5432\n");
    assert_eq!(
        cluster(path, 6, Some(&text)),
        is(ClusterState::Running { pid })
    );
    assert_eq!(
        cluster(path, 1, Some(&text)),
        is(ClusterState::Running { pid })
    );
    // A number that no process can have: the file was left behind.
    assert_eq!(
        cluster(path, 6, Some("999999999\n")),
        is(ClusterState::NotShutDown)
    );
    assert_eq!(
        cluster(path, 1, Some("rubbish")),
        is(ClusterState::ShutDown)
    );
}

#[test]
fn a_folder_that_only_looks_like_a_data_directory_is_none() {
    let scratch = tempfile::tempdir().unwrap();
    assert_eq!(look(scratch.path()), None);
    fs::write(scratch.path().join("PG_VERSION"), "16").unwrap();
    assert_eq!(look(scratch.path()), None);
    fs::create_dir(scratch.path().join("global")).unwrap();
    assert_eq!(look(scratch.path()), None);
    fs::write(scratch.path().join("global/pg_control"), "short").unwrap();
    assert_eq!(look(scratch.path()), None);
    fs::write(scratch.path().join("global/pg_control"), [0; 100]).unwrap();
    assert!(look(scratch.path()).is_some());
    fs::write(scratch.path().join("PG_VERSION"), "version").unwrap();
    assert_eq!(look(scratch.path()), None);
}

fn sqlite(path: &Path) -> Option<SqliteUse> {
    let mut folder = Folder::open(path).unwrap();
    let mut listing = Listing::new();
    folder.list(&mut listing).unwrap();
    let seen = folder.metadata(b"app.db").unwrap();
    let mut file = folder.open_file(b"app.db", &seen).unwrap();
    let mut start = [0; 100];
    let count = file.read(&mut start).unwrap();
    recognise_sqlite(&folder, &listing, b"app.db", &file, &start[..count])
}

#[test]
fn an_sqlite_database_is_in_use_while_its_log_or_journal_has_content() {
    let scratch = tempfile::tempdir().unwrap();
    let path = |name: &str| scratch.path().join(name);
    fs::write(path("app.db"), "SQLite format").unwrap();
    assert_eq!(sqlite(scratch.path()), None);
    fs::write(path("app.db"), [SQLITE_MAGIC, &[0; 84][..]].concat()).unwrap();
    assert_eq!(sqlite(scratch.path()), Some(SqliteUse::Idle));
    fs::write(path("app.db-journal"), "").unwrap();
    fs::write(path("app.db-wal"), "").unwrap();
    assert_eq!(sqlite(scratch.path()), Some(SqliteUse::Idle));
    fs::write(path("app.db-journal"), [0; 512]).unwrap();
    assert_eq!(sqlite(scratch.path()), Some(SqliteUse::Idle));
    fs::write(
        path("app.db-journal"),
        b"\xd9\xd5\x05\xf9\x20\xa1\x63\xd7rest",
    )
    .unwrap();
    assert_eq!(sqlite(scratch.path()), Some(SqliteUse::Journal));
    fs::write(path("app.db-wal"), "frames").unwrap();
    assert_eq!(sqlite(scratch.path()), Some(SqliteUse::WriteAheadLog));
}

/// Set for the process that only holds a lock.
const HOLD_LOCK_ON: &str = "LIFEBOAT_TEST_HOLD_LOCK_ON";

#[test]
fn a_lock_of_another_process_is_seen_and_not_disturbed() {
    if let Some(path) = std::env::var_os(HOLD_LOCK_ON) {
        let file = File::options().read(true).write(true).open(path).unwrap();
        fcntl_lock(&file, FlockOperation::NonBlockingLockShared).unwrap();
        println!("locked");
        std::io::stdin()
            .lock()
            .read_until(b'\n', &mut Vec::new())
            .unwrap();
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    let database = scratch.path().join("app.db");
    fs::write(&database, [SQLITE_MAGIC, &[0; 84][..]].concat()).unwrap();
    assert_eq!(sqlite(scratch.path()), Some(SqliteUse::Idle));
    let mut holder = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture"])
        .arg("recognise::tests::a_lock_of_another_process_is_seen_and_not_disturbed")
        .env(HOLD_LOCK_ON, &database)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(holder.stdout.take().unwrap()).lines();
    assert!(said.any(|line| line.unwrap().ends_with("locked")));
    // Twice: looking, which opens and closes the file, must not take the lock away.
    assert_eq!(sqlite(scratch.path()), Some(SqliteUse::Locked));
    assert_eq!(sqlite(scratch.path()), Some(SqliteUse::Locked));
    holder.stdin.take().unwrap().write_all(b"\n").unwrap();
    assert!(holder.wait().unwrap().success());
    assert_eq!(sqlite(scratch.path()), Some(SqliteUse::Idle));
}
