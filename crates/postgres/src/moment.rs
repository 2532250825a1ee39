//! The moment T that a backup shows: one exported snapshot, kept alive, every table locked against change of shape.
//!
//! A snapshot alone does not protect against `TRUNCATE` and rewriting `ALTER TABLE`: they are not versioned, and an
//! older snapshot reads the table as empty. So the order is: list the tables; begin; lock each in `ACCESS SHARE`,
//! which takes no snapshot; only then let the first query take the snapshot; look whether every table that exists in
//! it is among the locked ones; if one is not, begin again. Invariant: while a [`Moment`] lives, every table of its
//! snapshot is locked, and was locked before the snapshot was taken.
//!
//! The session sits in a transaction for as long as the dump takes; a task asks it something now and then, so that no
//! firewall or proxy forgets it. Dropping the moment ends the session, and with it the transaction and its locks.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{runtime::Handle, task::JoinHandle};
use tokio_postgres::error::SqlState;

use crate::{
    catalog::{self, TABLES, dumped},
    connect::{ConnectError, Connection, QueryError},
    facts::SourceFacts,
    identity::Identity,
    parts::TablePart,
    preflight::{self, Finding},
    quote,
    settings::Settings,
    table_plan::{PlannedTable, TablePlanError, plan_tables},
};

/// How often locking starts again when tables come and go meanwhile.
const TRIES_MAX: u32 = 5;
/// How many tables one statement locks.
const TABLES_PER_LOCK: usize = 200;
const PING_INTERVAL: Duration = Duration::from_secs(20);

/// How a moment is taken.
#[derive(Clone, Debug)]
pub struct MomentOptions {
    /// How long to wait for a table that something else holds exclusively.
    pub lock_wait: Duration,
}

impl Default for MomentOptions {
    /// A minute: longer than a migration's usual step, shorter than a person's patience.
    fn default() -> Self {
        Self {
            lock_wait: Duration::from_secs(60),
        }
    }
}

/// Why there is no moment.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MomentError {
    /// There is no connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// A question was not answered.
    #[error(transparent)]
    Query(#[from] QueryError),
    /// The role lacks rights; all of them are listed.
    #[error("the role may not read everything: {}", sentences(.0))]
    Rights(Vec<Finding>),
    /// A table stayed locked by something else.
    #[error("a table stayed locked for {} s{}", waited.as_secs(), by_whom(holder.as_deref()))]
    LockTimeout {
        /// How long was waited.
        waited: Duration,
        /// Who holds it, as far as the server tells.
        holder: Option<String>,
    },
    /// Tables kept coming and going.
    #[error("tables were created or dropped during each of {TRIES_MAX} tries to lock them all")]
    Restless,
    /// The session that held the moment is gone, and with it the snapshot.
    #[error("the session that holds the snapshot was lost: {message}")]
    Lost {
        /// What was met.
        message: String,
    },
}

fn sentences(findings: &[Finding]) -> String {
    let sentences: Vec<_> = findings
        .iter()
        .map(|finding| finding.sentence.as_str())
        .collect();
    sentences.join(" ").trim_end_matches('.').to_owned()
}

fn by_whom(holder: Option<&str>) -> String {
    holder.map_or_else(String::new, |holder| format!(" by {holder}"))
}

/// One point in time of a database, held.
pub struct Moment {
    connection: Connection,
    snapshot: String,
    identity: Identity,
    facts: SourceFacts,
    keeper: JoinHandle<()>,
    lost: Arc<Mutex<Option<String>>>,
}

impl Moment {
    /// Takes and holds the moment: checks rights, locks every table, exports the snapshot.
    pub fn hold(
        settings: &Settings,
        options: &MomentOptions,
        handle: &Handle,
    ) -> Result<Self, MomentError> {
        let connection = Connection::open(settings, handle)?;
        let server = catalog::server(&connection)?;
        let missing = preflight::rights(&connection, &server)?;
        if !missing.is_empty() {
            return Err(MomentError::Rights(missing));
        }
        let identity = Identity::of(&connection)?;
        let snapshot = lock_and_export(&connection, options.lock_wait)?;
        let facts = SourceFacts {
            database: catalog::database(&connection, server.major())?,
            extensions: catalog::extensions(&connection)?,
            tables: catalog::tables(&connection)?,
            large_objects: catalog::large_objects(&connection)?,
            server,
        };
        let lost = Arc::new(Mutex::new(None));
        let keeper = handle.spawn(keep_alive(
            Arc::clone(connection.client()),
            Arc::clone(&lost),
        ));
        Ok(Self {
            connection,
            snapshot,
            identity,
            facts,
            keeper,
            lost,
        })
    }

    /// The snapshot's name, for `SET TRANSACTION SNAPSHOT` and `pg_dump --snapshot`.
    pub fn snapshot(&self) -> &str {
        &self.snapshot
    }

    /// What the source is at the moment.
    pub fn facts(&self) -> &SourceFacts {
        &self.facts
    }

    /// What is to be read of each table that can have rows. `skip_data` names, as `schema.table`, tables whose rows are
    /// left out, a partitioned one for all its partitions; `earlier` is what the snapshot before says of its tables.
    ///
    /// # Errors
    /// When `skip_data` names what is not there, or the server does not answer.
    pub fn plan_tables(
        &self,
        skip_data: &[String],
        earlier: &[TablePart],
    ) -> Result<Vec<PlannedTable>, TablePlanError> {
        plan_tables(&self.connection, &self.facts, skip_data, earlier)
    }

    /// The settled settings of the session: whoever connects by them reaches the same server in the same way.
    pub fn settings(&self) -> &Settings {
        self.connection.settings()
    }

    /// Whether the moment is still held.
    pub fn check(&self) -> Result<(), MomentError> {
        let lost = self
            .lost
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        match lost {
            Some(message) => Err(MomentError::Lost { message }),
            None => self
                .connection
                .execute("look whether the snapshot is still held", "SELECT 1")
                .map_err(|error| MomentError::Lost {
                    message: error.message,
                }),
        }
    }

    pub(crate) fn identity(&self) -> &Identity {
        &self.identity
    }
}

impl Drop for Moment {
    fn drop(&mut self) {
        // The task holds the session too; without it the last hold is ours.
        self.keeper.abort();
    }
}

async fn keep_alive(client: Arc<tokio_postgres::Client>, lost: Arc<Mutex<Option<String>>>) {
    loop {
        tokio::time::sleep(PING_INTERVAL).await;
        if let Err(error) = client.simple_query("SELECT 1").await {
            let message = QueryError::new("keep the session alive", &error).message;
            *lost.lock().unwrap_or_else(PoisonError::into_inner) = Some(message);
            return;
        }
    }
}

/// Begins the transaction, locks and exports; repeats while tables come and go.
fn lock_and_export(connection: &Connection, lock_wait: Duration) -> Result<String, MomentError> {
    for _ in 0..TRIES_MAX {
        let tables = table_names(connection)?;
        connection.execute(
            "begin the transaction of the snapshot",
            &format!(
                "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL lock_timeout = {}",
                lock_wait.as_millis().max(1)
            ),
        )?;
        match lock(connection, &tables) {
            Ok(()) => {}
            Err(error) if has_changed(&error) => {
                roll_back(connection)?;
                continue;
            }
            Err(error) if error.is(&SqlState::LOCK_NOT_AVAILABLE) => {
                let holder = holder(connection)?;
                return Err(MomentError::LockTimeout {
                    waited: lock_wait,
                    holder,
                });
            }
            Err(error) => return Err(error.into()),
        }
        // The transaction's first query: here, with all locks held, the moment begins.
        let what = "export the snapshot";
        let row = connection.row(what, "SELECT pg_catalog.pg_export_snapshot()")?;
        let snapshot = row
            .into_iter()
            .next()
            .flatten()
            .ok_or_else(|| QueryError::shape(what))?;
        if all_locked(connection)? {
            return Ok(snapshot);
        }
        roll_back(connection)?;
    }
    Err(MomentError::Restless)
}

fn table_names(connection: &Connection) -> Result<Vec<String>, QueryError> {
    let what = "list the tables";
    connection
        .rows(
            what,
            &format!(
                "SELECT n.nspname, c.relname FROM pg_catalog.pg_class c
                   JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE {} ORDER BY c.oid",
                dumped(TABLES)
            ),
        )?
        .into_iter()
        .map(|row| match &row[..] {
            [Some(schema), Some(name)] => Ok(quote::qualified(schema, name)),
            _ => Err(QueryError::shape(what)),
        })
        .collect()
}

/// `LOCK` is one of the few statements that take no snapshot, which is what all this rests on.
fn lock(connection: &Connection, tables: &[String]) -> Result<(), QueryError> {
    for some in tables.chunks(TABLES_PER_LOCK) {
        let sql = format!(
            "LOCK TABLE ONLY {} IN ACCESS SHARE MODE",
            some.join(", ONLY ")
        );
        connection.execute("lock the tables", &sql)?;
    }
    Ok(())
}

/// Whether locking failed because what was listed is no longer there, or because it met the same change half way.
fn has_changed(error: &QueryError) -> bool {
    [
        SqlState::UNDEFINED_TABLE,
        SqlState::INVALID_SCHEMA_NAME,
        SqlState::WRONG_OBJECT_TYPE,
        SqlState::T_R_DEADLOCK_DETECTED,
    ]
    .iter()
    .any(|state| error.is(state))
}

/// Whether every table of the snapshot is locked by us: the lock table itself is asked, by number and not by name.
fn all_locked(connection: &Connection) -> Result<bool, QueryError> {
    let rows = connection.rows(
        "look whether all tables are locked",
        &format!(
            "SELECT c.oid FROM pg_catalog.pg_class c
              WHERE {} AND c.oid NOT IN (SELECT l.relation FROM pg_catalog.pg_locks l
                                          WHERE l.pid = pg_catalog.pg_backend_pid() AND l.locktype = 'relation'
                                            AND l.mode = 'AccessShareLock' AND l.granted AND l.database =
                                                (SELECT oid FROM pg_catalog.pg_database
                                                  WHERE datname = pg_catalog.current_database()))
              LIMIT 1",
            dumped(TABLES)
        ),
    )?;
    Ok(rows.is_empty())
}

fn roll_back(connection: &Connection) -> Result<(), QueryError> {
    connection.execute("roll back", "ROLLBACK")
}

/// Who holds a table exclusively now, in words.
fn holder(connection: &Connection) -> Result<Option<String>, QueryError> {
    roll_back(connection)?;
    let rows = connection.rows(
        "look who holds the lock",
        "SELECT pg_catalog.concat_ws(' ', 'process', a.pid, 'of', a.usename, '(' || pg_catalog.left(a.query, 100) || ')')
           FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid
          WHERE l.locktype = 'relation' AND l.mode = 'AccessExclusiveLock' AND l.granted
            AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())
          ORDER BY a.xact_start LIMIT 1",
    )?;
    Ok(rows
        .into_iter()
        .next()
        .and_then(|mut row| row.pop().flatten()))
}

#[cfg(test)]
mod tests;
