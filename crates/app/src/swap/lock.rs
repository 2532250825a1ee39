//! An SQLite database that is in nobody's hands while its name goes to another one.
//!
//! Renaming a database that somebody has open would leave him writing to the old one, with the `-wal` of the new. So
//! SQLite's own exclusive lock is taken, which is given only when nobody else has the database open in WAL mode, or is
//! at work in it otherwise, and held until names are as they should be. Invariant: when the lock is held, all that was
//! committed is in the database's own file, and nothing stands beside it.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use lifeboat_files::standing;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags};
use thiserror::Error;

use super::place::{SIDECARS, with_ending};

/// How long is waited for whoever is at work in it.
const PATIENCE: Duration = Duration::from_secs(10);

/// A lock was not given.
#[derive(Debug, Error)]
pub enum LockError {
    /// Somebody has it open.
    #[error("another program has the SQLite database {} open", .0.display())]
    InUse(PathBuf),
    /// SQLite failed.
    #[error("the SQLite database {} cannot be locked", path.display())]
    Sqlite {
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        #[source]
        source: rusqlite::Error,
    },
    /// What stands beside it cannot be taken away.
    #[error("cannot remove {}", path.display())]
    Remove {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
}

/// Holds a database until it is dropped.
pub(super) struct Lock {
    _connection: Connection,
}

/// Locks the database at `path`; `None` when nothing is there, or something that SQLite cannot read.
pub(super) fn lock(path: &Path) -> Result<Option<Lock>, LockError> {
    if !standing(path).is_ok_and(|found| found.is_some()) {
        return Ok(None);
    }
    match take(path) {
        Ok(connection) => {
            // They are empty, and would be taken for the other database's.
            for ending in SIDECARS {
                let beside = with_ending(path, ending);
                match fs::remove_file(&beside) {
                    Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                        return Err(LockError::Remove {
                            path: beside,
                            source: error,
                        });
                    }
                    _ => {}
                }
            }
            Ok(Some(Lock {
                _connection: connection,
            }))
        }
        Err(source) => match source.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
                Err(LockError::InUse(path.to_owned()))
            }
            Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => Ok(None),
            _ => Err(LockError::Sqlite {
                path: path.to_owned(),
                source,
            }),
        },
    }
}

fn take(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX
        | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(PATIENCE)?;
    // Closing it would otherwise remove a `-wal` by its name, which may be another database's by then.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    // Set before the first look at the file: then the lock is kept after a transaction, and in WAL mode it is
    // refused as long as anybody else has the database open.
    connection.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.execute_batch("BEGIN EXCLUSIVE; COMMIT")?;
    let mode: String = connection.query_row("PRAGMA journal_mode", [], |row| row.get(0))?;
    if mode == "wal" {
        let busy: i64 =
            connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))?;
        if busy != 0 {
            return Err(rusqlite::Error::SqliteFailure(
                rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_BUSY),
                None,
            ));
        }
    }
    Ok(connection)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn database(path: &Path, mode: &str) -> Connection {
        let connection = Connection::open(path).unwrap();
        connection
            .pragma_update_and_check(None, "journal_mode", mode, |_| Ok(()))
            .unwrap();
        connection
            .execute_batch("CREATE TABLE t (x); INSERT INTO t VALUES (1)")
            .unwrap();
        connection
    }

    #[test]
    fn who_comes_while_it_is_locked_waits_and_what_was_committed_is_in_the_file() {
        for mode in ["delete", "wal", "persist"] {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("app.db");
            let open = database(&path, mode);
            if mode == "wal" {
                // As a process that was killed leaves it: the rows are in the `-wal` alone.
                open.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)
                    .unwrap();
            }
            drop(open);
            assert_eq!(with_ending(&path, "-wal").exists(), mode == "wal");
            let lock = lock(&path).unwrap().unwrap();
            for ending in SIDECARS {
                assert!(!with_ending(&path, ending).exists(), "{mode} {ending}");
            }
            let other = Connection::open(&path).unwrap();
            other.busy_timeout(Duration::ZERO).unwrap();
            let read = other.query_row("SELECT x FROM t", [], |row| row.get::<_, i64>(0));
            let code = read.unwrap_err().sqlite_error_code();
            assert_eq!(code, Some(ErrorCode::DatabaseBusy), "{mode}");
            drop(lock);
            let copy = folder.path().join("copy.db");
            fs::copy(&path, &copy).unwrap();
            let copy = Connection::open(copy).unwrap();
            let read = copy.query_row("SELECT x FROM t", [], |row| row.get::<_, i64>(0));
            assert_eq!(read.unwrap(), 1, "{mode}");
        }
    }

    #[test]
    fn no_lock_is_given_while_somebody_has_it_open() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("app.db");
        let open = database(&path, "wal");
        let error = lock(&path).err().unwrap();
        assert!(matches!(error, LockError::InUse(_)), "{error}");
        assert!(with_ending(&path, "-wal").exists());
        open.execute_batch("INSERT INTO t VALUES (2)").unwrap();
    }

    #[test]
    fn nothing_and_what_is_no_database_have_no_lock() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("app.db");
        assert!(lock(&path).unwrap().is_none());
        fs::write(&path, "neither this nor that ".repeat(500)).unwrap();
        fs::write(with_ending(&path, "-wal"), "beside it").unwrap();
        assert!(lock(&path).unwrap().is_none());
        assert!(with_ending(&path, "-wal").exists());
    }
}
