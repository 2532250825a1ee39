//! The database of the history: opened, begun, or put aside and begun anew.
//!
//! Nothing but convenience rests on the history, so one that cannot be read never stands in the way: it is renamed,
//! kept for whoever wants to look into it, and a new one is begun. Invariant: only a file that is damaged or not ours
//! is put aside, never one that is merely busy, unreadable for this user, or written by a newer version.

use super::error::HistoryError;
use super::log;
use jiff::Timestamp;
use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior};
use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

/// The name of the database in the state folder.
const FILE_NAME: &str = "history.db";

/// Held while the database is opened, so that two processes do not begin it, or put it aside, at once.
const LOCK_NAME: &str = "history.lock";

/// Marks a database as a history: "LbHi".
const APPLICATION_ID: i64 = 0x4c62_4869;

/// The version of the schema.
const SCHEMA_VERSION: i64 = 1;

/// How long a statement waits for another process.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// A run without an exit code has not ended, as far as the database knows.
const SCHEMA: &str = "
    CREATE TABLE runs (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        verb TEXT NOT NULL,
        app TEXT,
        repository TEXT NOT NULL,
        arguments TEXT NOT NULL,  -- a JSON list
        host TEXT NOT NULL,
        pid INTEGER NOT NULL,
        started_ms INTEGER NOT NULL,
        finished_ms INTEGER,
        exit_code INTEGER,
        summary TEXT              -- JSON
    ) STRICT;
    CREATE INDEX runs_of_app ON runs (app, id);
    CREATE INDEX runs_of_verb ON runs (verb, app, exit_code, id);
";

/// An open database.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) connection: Connection,
    /// That the one found was put aside, as a whole sentence.
    pub(super) note: Option<String>,
}

/// Why a database cannot be used.
enum Unusable {
    /// It is damaged or not ours; the fragment says why.
    Damaged(String),
    Failed(HistoryError),
}

/// Where the database of the history in `folder` lies.
pub(super) fn path_in(folder: &Path) -> PathBuf {
    folder.join(FILE_NAME)
}

/// Opens the database in `folder`; begins one when there is none, or none that can be used.
pub(super) fn open(folder: &Path, now: Timestamp) -> Result<Opened, HistoryError> {
    let failed = |action, path: &Path| {
        let path = path.to_owned();
        move |source| HistoryError::File {
            action,
            path,
            source,
        }
    };
    let logs = log::folder_in(folder);
    let mut builder = DirBuilder::new();
    builder.recursive(true).mode(0o700);
    builder.create(&logs).map_err(failed("create", &logs))?;

    let lock = folder.join(LOCK_NAME);
    let _lock = create_private(&lock)
        .and_then(held)
        .map_err(failed("lock", &lock))?;
    let path = path_in(folder);
    // Created here and not by SQLite, so that nobody else can read it; the files beside it get the same mode.
    create_private(&path).map_err(failed("create", &path))?;
    let reason = match connect(&path, &logs) {
        Ok(connection) => {
            return Ok(Opened {
                connection,
                note: None,
            });
        }
        Err(Unusable::Failed(error)) => return Err(error),
        Err(Unusable::Damaged(reason)) => reason,
    };
    let aside = put_aside(&path, now).map_err(failed("rename", &path))?;
    create_private(&path).map_err(failed("create", &path))?;
    match connect(&path, &logs) {
        Ok(connection) => Ok(Opened {
            connection,
            note: Some(format!(
                "The history could not be used ({reason}); it is kept as {} and a new one was begun.",
                aside.display()
            )),
        }),
        Err(Unusable::Failed(error)) => Err(error),
        Err(Unusable::Damaged(reason)) => Err(HistoryError::File {
            action: "begin",
            path,
            source: io::Error::other(reason),
        }),
    }
}

/// The file with its lock, which is waited for no longer than for the database: the work does not rest on the history.
fn held(file: File) -> io::Result<File> {
    let deadline = Instant::now() + BUSY_TIMEOUT;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => {
                thread::sleep(Duration::from_millis(20));
            }
            Err(error) => return Err(error.into()),
        }
    }
}

fn create_private(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
}

fn connect(path: &Path, logs: &Path) -> Result<Connection, Unusable> {
    let unusable = |source: rusqlite::Error| {
        let is_damage = matches!(
            source.sqlite_error_code(),
            Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt)
        );
        match is_damage {
            true => Unusable::Damaged(source.to_string()),
            false => Unusable::Failed(HistoryError::Database {
                action: "open",
                path: path.to_owned(),
                source,
            }),
        }
    };
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags).map_err(unusable)?;
    connection.busy_timeout(BUSY_TIMEOUT).map_err(unusable)?;
    let number = |connection: &Connection, name: &str| {
        connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0))
    };
    let owner = number(&connection, "application_id").map_err(unusable)?;
    let objects = connection
        .query_row("SELECT count(*) FROM sqlite_master", [], |row| {
            row.get::<_, i64>(0)
        })
        .map_err(unusable)?;
    if owner == 0 && objects == 0 {
        begin(&mut connection, logs).map_err(unusable)?;
    } else if owner != APPLICATION_ID {
        return Err(Unusable::Damaged(
            "it is a database of something else".to_owned(),
        ));
    } else {
        let version = number(&connection, "user_version").map_err(unusable)?;
        if version > SCHEMA_VERSION {
            let path = path.to_owned();
            return Err(Unusable::Failed(HistoryError::Newer { path, version }));
        }
        let verdict = connection
            .query_row("PRAGMA quick_check(1)", [], |row| row.get::<_, String>(0))
            .map_err(unusable)?;
        if verdict != "ok" {
            return Err(Unusable::Damaged(verdict));
        }
    }
    connection
        .pragma_update_and_check(None, "journal_mode", "wal", |_| Ok(()))
        .map_err(unusable)?;
    Ok(connection)
}

/// Writes the schema. Numbers go on after those of the logs that are there, which an earlier history left.
fn begin(connection: &mut Connection, logs: &Path) -> Result<(), rusqlite::Error> {
    let last = log::ids_in(logs)
        .unwrap_or_default()
        .into_iter()
        .max()
        .unwrap_or(0);
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    transaction.execute_batch(SCHEMA)?;
    transaction.execute(
        "INSERT INTO sqlite_sequence (name, seq) VALUES ('runs', ?1)",
        [last],
    )?;
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.pragma_update(None, "user_version", SCHEMA_VERSION)?;
    transaction.commit()
}

/// Renames the database and what belongs to it; returns its new name.
fn put_aside(path: &Path, now: Timestamp) -> io::Result<PathBuf> {
    let with = |path: &Path, ending: &str| {
        let mut name = OsString::from(path);
        name.push(ending);
        PathBuf::from(name)
    };
    let stamp = now.strftime("%Y%m%dT%H%M%SZ");
    let first = with(path, &format!(".damaged-{stamp}"));
    let mut aside = first.clone();
    let mut number = 1;
    while aside.try_exists()? {
        number += 1;
        aside = with(&first, &format!("-{number}"));
    }
    fs::rename(path, &aside)?;
    // Without its own log of writes a database is another one; left here, that log would belong to the new one.
    for ending in ["-wal", "-shm"] {
        match fs::rename(with(path, ending), with(&aside, ending)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(aside)
}
