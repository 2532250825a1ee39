//! The history: every run of every verb, failed ones too, each with a row and a log.
//!
//! It lies in the state folder: an SQLite database, and one text file for each run. It answers what happened here and
//! when it last went well; what is backed up is known by the repository alone. Invariants: a run that lost its process
//! is shown as interrupted, never as running; no secret is kept, for everything written passes through `redact`; and
//! no error of the history ends the work whose history it is, which is why [`Run`] collects them until it ends.

mod error;
mod log;
mod database;

pub use error::HistoryError;

use crate::redact::{redact, redact_arguments};
use database::Opened;
use jiff::{Timestamp, ToSpan};
use log::Log;
use rusqlite::{Connection, Row, ToSql, Transaction, TransactionBehavior, params};
use serde_json::Value;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The most rows that are kept, but for the newest success of each verb and app.
const ROWS_MAX: i64 = 1000;

/// How long logs are kept, in days.
const LOG_DAYS_MAX: i64 = 90;

/// The columns of a [`RunRecord`], in the order in which [`record`] reads them.
const COLUMNS: &str =
    "id, verb, app, repository, arguments, host, pid, started_ms, finished_ms, exit_code, summary";

/// The history in one state folder.
///
/// Clones are the same history.
#[derive(Clone)]
pub struct History {
    shared: Arc<Shared>,
}

struct Shared {
    folder: PathBuf,
    connection: Mutex<Connection>,
    clock: fn() -> Timestamp,
    note: Option<String>,
}

/// What begins: the facts that a row is made of.
#[derive(Clone, Copy, Debug)]
pub struct RunFacts<'a> {
    /// The command's verb, such as `backup`.
    pub verb: &'a str,
    /// The app that it is about, where it is about one.
    pub app: Option<&'a str>,
    /// Where the repository lies; redacted before it is kept.
    pub repository: &'a str,
    /// The command's arguments; redacted before they are kept.
    pub arguments: &'a [String],
}

/// A run that goes on. One that is dropped without [`finish`](Self::finish) is interrupted.
pub struct Run {
    history: History,
    id: i64,
    log: Mutex<RunLog>,
}

struct RunLog {
    log: Log,
    /// The first thing that went wrong with the history while the run went on.
    problem: Option<HistoryError>,
}

/// A run as the history knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunRecord {
    /// Its number; later runs have greater ones.
    pub id: i64,
    /// The command's verb.
    pub verb: String,
    /// The app that it was about, where it was about one.
    pub app: Option<String>,
    /// Where the repository lies, redacted.
    pub repository: String,
    /// The command's arguments, redacted.
    pub arguments: Vec<String>,
    /// The machine's name.
    pub host: String,
    /// The process's number on that machine.
    pub pid: u32,
    /// When it began.
    pub started: Timestamp,
    /// How it stands.
    pub state: RunState,
}

/// How a run stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RunState {
    /// Its process lives.
    Running,
    /// Its process is gone and left no result.
    Interrupted,
    /// It ended.
    Finished {
        /// When.
        finished: Timestamp,
        /// The exit code of the command; 0 is a success.
        exit_code: i32,
        /// The command's own summary.
        summary: Option<Value>,
    },
}

impl History {
    /// Opens the history in the state folder `folder`, which is created when it is not there.
    ///
    /// A database that is damaged or not a history is put aside and a new one begun; [`note`](Self::note) tells so.
    pub fn open(folder: &Path) -> Result<Self, HistoryError> {
        Self::open_at(folder, Timestamp::now)
    }

    fn open_at(folder: &Path, clock: fn() -> Timestamp) -> Result<Self, HistoryError> {
        let Opened { connection, note } = database::open(folder, clock())?;
        let shared = Shared {
            folder: folder.to_owned(),
            connection: Mutex::new(connection),
            clock,
            note,
        };
        Ok(Self {
            shared: Arc::new(shared),
        })
    }

    /// That an unusable history was put aside, as a whole sentence.
    #[must_use]
    pub fn note(&self) -> Option<&str> {
        self.shared.note.as_deref()
    }

    /// Writes that a run begins, and throws away what is too old to keep.
    pub fn begin(&self, facts: &RunFacts<'_>) -> Result<Run, HistoryError> {
        let now = self.now();
        let mut connection = self.connection();
        let failed = |source| self.failed("write into", source);
        // Until it is committed, no other process sees the row, counts logs, or takes the same number.
        let transaction = connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(failed)?;
        let problem = self.discard(&transaction, now)?;
        let host = rustix::system::uname();
        transaction
            .execute(
                "INSERT INTO runs (verb, app, repository, arguments, host, pid, started_ms)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                params![
                    facts.verb,
                    facts.app,
                    redact(facts.repository),
                    Value::from(redact_arguments(facts.arguments)).to_string(),
                    host.nodename().to_string_lossy(),
                    std::process::id(),
                    now.as_millisecond(),
                ],
            )
            .map_err(failed)?;
        let id = transaction.last_insert_rowid();
        let path = self.log_path(id);
        let log = Log::create(&path).map_err(file_failed("create", &path))?;
        transaction.commit().map_err(failed)?;
        drop(connection);
        Ok(Run {
            history: self.clone(),
            id,
            log: Mutex::new(RunLog { log, problem }),
        })
    }

    /// The newest runs, newest first, at most `limit`; of one app, where one is given.
    pub fn list(&self, limit: usize, app: Option<&str>) -> Result<Vec<RunRecord>, HistoryError> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        self.records(
            "(?1 IS NULL OR app = ?1) ORDER BY id DESC LIMIT ?2",
            &[&app, &limit],
        )
    }

    /// The newest run of `verb` for `app` that ended with exit code 0.
    pub fn last_success(
        &self,
        verb: &str,
        app: Option<&str>,
    ) -> Result<Option<RunRecord>, HistoryError> {
        let condition = "verb = ?1 AND app IS ?2 AND exit_code = 0 ORDER BY id DESC LIMIT 1";
        self.records(condition, &[&verb, &app])
            .map(|mut records| records.pop())
    }

    /// The run of that number.
    pub fn run(&self, id: i64) -> Result<Option<RunRecord>, HistoryError> {
        self.records("id = ?1", &[&id])
            .map(|mut records| records.pop())
    }

    /// The log of the run of that number; `None` when it was thrown away or there never was one.
    pub fn read_log(&self, id: i64) -> Result<Option<String>, HistoryError> {
        let path = self.log_path(id);
        match fs::read(&path) {
            Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(file_failed("read", &path)(error)),
        }
    }

    /// Where the log of the run of that number lies.
    #[must_use]
    pub fn log_path(&self, id: i64) -> PathBuf {
        log::path_of(&log::folder_in(&self.shared.folder), id)
    }

    /// Throws away rows beyond the most that are kept and logs that are too old or have no row.
    ///
    /// What cannot be thrown away stays, which is no reason not to begin; it is returned to be told later.
    fn discard(
        &self,
        transaction: &Transaction<'_>,
        now: Timestamp,
    ) -> Result<Option<HistoryError>, HistoryError> {
        let failed = |source| self.failed("write into", source);
        transaction
            .execute(
                "DELETE FROM runs
                 WHERE id <= (SELECT id FROM runs ORDER BY id DESC LIMIT 1 OFFSET ?1)
                 AND id NOT IN (SELECT max(id) FROM runs WHERE exit_code = 0 GROUP BY verb, app)",
                // One place is for the run that begins.
                [ROWS_MAX - 1],
            )
            .map_err(failed)?;
        let oldest = now
            .saturating_sub((LOG_DAYS_MAX * 24).hours())
            .unwrap_or(Timestamp::MIN);
        let mut kept = transaction
            .prepare("SELECT id FROM runs WHERE started_ms >= ?1")
            .map_err(failed)?;
        let kept = kept
            .query_map([oldest.as_millisecond()], |row| row.get::<_, i64>(0))
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(failed)?;
        let logs = log::folder_in(&self.shared.folder);
        let ids = match log::ids_in(&logs) {
            Ok(ids) => ids,
            Err(error) => return Ok(Some(file_failed("list", &logs)(error))),
        };
        let mut problem = None;
        for path in ids
            .iter()
            .filter(|id| !kept.contains(id))
            .map(|id| self.log_path(*id))
        {
            if let Err(error) = log::remove(&path) {
                problem.get_or_insert_with(|| file_failed("remove", &path)(error));
            }
        }
        Ok(problem)
    }

    /// The runs that fulfil a condition in SQL.
    fn records(
        &self,
        condition: &str,
        parameters: &[&dyn ToSql],
    ) -> Result<Vec<RunRecord>, HistoryError> {
        let connection = self.connection();
        let read = || {
            let mut statement =
                connection.prepare(&format!("SELECT {COLUMNS} FROM runs WHERE {condition}"))?;
            statement
                .query_map(parameters, record)?
                .collect::<Result<Vec<_>, _>>()
        };
        let mut records = read().map_err(|source| self.failed("read", source))?;
        for record in records
            .iter_mut()
            .filter(|record| record.state == RunState::Interrupted)
        {
            let path = self.log_path(record.id);
            if log::is_held(&path).map_err(file_failed("look at", &path))? {
                record.state = RunState::Running;
            }
        }
        Ok(records)
    }

    fn now(&self) -> Timestamp {
        (self.shared.clock)()
    }

    fn connection(&self) -> MutexGuard<'_, Connection> {
        // A panic leaves no half-done change: transactions are rolled back when dropped.
        self.shared
            .connection
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn failed(&self, action: &'static str, source: rusqlite::Error) -> HistoryError {
        let path = database::path_in(&self.shared.folder);
        HistoryError::Database {
            action,
            path,
            source,
        }
    }
}

impl Run {
    /// Its number in the history.
    #[must_use]
    pub fn id(&self) -> i64 {
        self.id
    }

    /// Writes which app the run turned out to be about. An error is kept for the end.
    pub fn about(&self, app: &str) {
        let changed = self.history.connection().execute(
            "UPDATE runs SET app = ?2 WHERE id = ?1",
            params![self.id, app],
        );
        if let Err(source) = changed {
            let mut guard = self.log.lock().unwrap_or_else(PoisonError::into_inner);
            guard
                .problem
                .get_or_insert_with(|| self.history.failed("write into", source));
        }
    }

    /// Writes a text into the log. An error is kept for the end.
    pub fn log(&self, text: &str) {
        let now = self.history.now();
        let mut guard = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        let RunLog { log, problem } = &mut *guard;
        if let Err(error) = log.append(now, text) {
            let path = self.history.log_path(self.id);
            problem.get_or_insert_with(|| file_failed("write", &path)(error));
        }
    }

    /// Writes how the run ended; `summary` is what the command says of itself, redacted before it is kept.
    ///
    /// An error is the first thing that went wrong with the history in all of this run; the work itself is done.
    pub fn finish(self, exit_code: i32, summary: Option<&Value>) -> Result<(), HistoryError> {
        let Self { history, id, log } = self;
        let now = history.now();
        let RunLog { mut log, problem } = log.into_inner().unwrap_or_else(PoisonError::into_inner);
        let path = history.log_path(id);
        let logged = log.finish(now, &format!("Finished with exit code {exit_code}."));
        let changed = history
            .connection()
            .execute(
                "UPDATE runs SET finished_ms = ?2, exit_code = ?3, summary = ?4 WHERE id = ?1",
                params![
                    id,
                    now.as_millisecond(),
                    exit_code,
                    summary.map(|summary| redacted(summary).to_string()),
                ],
            )
            .map_err(|source| history.failed("write into", source));
        // The lock on the log is let go only now, when the result is known: in between nobody sees an interrupted run.
        drop(log);
        match problem {
            Some(problem) => Err(problem),
            None => match changed? {
                0 => Err(HistoryError::Gone { id }),
                _ => logged.map_err(file_failed("write", &path)),
            },
        }
    }
}

impl fmt::Debug for History {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("History")
            .field("folder", &self.shared.folder)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Run {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Run")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

fn file_failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> HistoryError {
    let path = path.to_owned();
    move |source| HistoryError::File {
        action,
        path,
        source,
    }
}

/// The value with all its texts redacted.
fn redacted(value: &Value) -> Value {
    match value {
        Value::String(text) => Value::String(redact(text)),
        Value::Array(values) => values.iter().map(redacted).collect(),
        Value::Object(values) => {
            let values = values
                .iter()
                .map(|(key, value)| (key.clone(), redacted(value)));
            Value::Object(values.collect())
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
    }
}

/// Reads one row. A run without a result counts as interrupted until its log is found to be held.
fn record(row: &Row<'_>) -> rusqlite::Result<RunRecord> {
    let moment = |column: usize, moment_ms: i64| {
        Timestamp::from_millisecond(moment_ms)
            .map_err(|_| rusqlite::Error::IntegralValueOutOfRange(column, moment_ms))
    };
    let arguments: String = row.get(4)?;
    let finished_ms: Option<i64> = row.get(8)?;
    let exit_code: Option<i32> = row.get(9)?;
    let summary: Option<String> = row.get(10)?;
    let state = match (finished_ms, exit_code) {
        (Some(finished_ms), Some(exit_code)) => RunState::Finished {
            finished: moment(8, finished_ms)?,
            exit_code,
            summary: summary.and_then(|summary| serde_json::from_str(&summary).ok()),
        },
        _ => RunState::Interrupted,
    };
    Ok(RunRecord {
        id: row.get(0)?,
        verb: row.get(1)?,
        app: row.get(2)?,
        repository: row.get(3)?,
        arguments: serde_json::from_str(&arguments).unwrap_or_default(),
        host: row.get(5)?,
        pid: row.get(6)?,
        started: moment(7, row.get(7)?)?,
        state,
    })
}

#[cfg(test)]
mod tests;
