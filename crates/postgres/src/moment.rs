//! The moment T that a backup shows: one exported snapshot, kept alive, every table locked against change of shape.
//!
//! A snapshot alone does not protect against `TRUNCATE` and rewriting `ALTER TABLE`: they are not versioned, and an
//! older snapshot reads the table as empty. So the order is: list the tables; begin; lock each in `ACCESS SHARE`,
//! which takes no snapshot; only then let the first query take the snapshot; look whether every table that exists in
//! it is among the locked ones; if one is not, begin again. Invariant: while a [`Moment`] lives, every table of its
//! snapshot is locked by each of its sessions, and was locked before the snapshot was taken.
//!
//! Sessions that read beside the holder lock the tables themselves, and never wait for that: whoever queues for an
//! exclusive lock waits for the holder and stands in the way of who comes later, and to wait behind him would be a
//! deadlock that no server sees. Who meets him lets go of everything, and all begins again when he has had his turn.
//!
//! The session sits in a transaction for as long as the dump takes; a task asks it something now and then, so that no
//! firewall or proxy forgets it. Dropping the moment ends the session, and with it the transaction and its locks.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{runtime::Handle, task::JoinHandle};
use tokio_postgres::error::SqlState;

use crate::{
    catalog::{self, TABLES, dumped},
    connect::{ConnectError, Connection, QueryError},
    facts::SourceFacts,
    identity::Identity,
    parts::{SequencePart, TablePart},
    preflight::{self, Finding},
    quote,
    sequences::read_sequences,
    settings::{APPLICATION_NAME, Settings},
    table_plan::{PlannedTable, TablePlanError, plan_tables},
};

/// How often all begins again.
const TRIES_MAX: u32 = 10;
/// How long is paused before the second try, the third after twice that.
const PAUSE: Duration = Duration::from_millis(20);
/// How many tables one statement locks.
const TABLES_PER_LOCK: usize = 200;
/// How long anything waits for a lock that could not be asked for before the snapshot.
pub(crate) const LATE_LOCK_WAIT: Duration = Duration::from_secs(2);
const PING_INTERVAL: Duration = Duration::from_secs(20);

/// How a moment is taken.
#[derive(Clone, Debug)]
pub struct MomentOptions {
    /// How long to wait for tables that something else holds exclusively, all tries together.
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
    #[error("tables were created or dropped during each of {tries} tries to lock them all")]
    Restless {
        /// How many tries there were.
        tries: u32,
    },
    /// The session that held the moment is gone, and with it the snapshot.
    #[error("the session that holds the snapshot was lost: {message}")]
    Lost {
        /// What was met.
        message: String,
    },
    /// It was asked to stop.
    #[error("it was asked to stop")]
    Stopped,
}

fn sentences(findings: &[Finding]) -> String {
    let sentences: Vec<_> = findings
        .iter()
        .map(|finding| finding.sentence.as_str())
        .collect();
    sentences.join(" ").trim_end_matches('.').to_owned()
}

/// " by process 7 of ann", or nothing.
pub(crate) fn by_whom(holder: Option<&str>) -> String {
    holder.map_or_else(String::new, |holder| format!(" by {holder}"))
}

/// How long and how often a moment is tried for.
pub(crate) struct Patience<'a> {
    limit: Duration,
    began: Instant,
    tries: u32,
    stop: &'a AtomicBool,
}

impl<'a> Patience<'a> {
    pub(crate) fn new(limit: Duration, stop: &'a AtomicBool) -> Self {
        Self {
            limit,
            began: Instant::now(),
            tries: 0,
            stop,
        }
    }

    fn left(&self) -> Duration {
        self.limit.saturating_sub(self.began.elapsed())
    }

    fn check(&self) -> Result<(), MomentError> {
        if self.stop.load(Ordering::Relaxed) {
            return Err(MomentError::Stopped);
        }
        Ok(())
    }

    /// Says whether to begin again after a try that met `met`, and pauses before it.
    pub(crate) fn again(&mut self, met: Met) -> Result<(), MomentError> {
        self.check()?;
        self.tries += 1;
        if self.tries == TRIES_MAX || self.left().is_zero() {
            return Err(match met {
                Met::Change => MomentError::Restless { tries: self.tries },
                Met::Lock(holder) => MomentError::LockTimeout {
                    waited: self.began.elapsed(),
                    holder,
                },
            });
        }
        std::thread::sleep((PAUSE * self.tries).min(self.left()));
        Ok(())
    }
}

/// What made a try come to nothing.
#[derive(Debug)]
pub(crate) enum Met {
    /// A table came or went meanwhile.
    Change,
    /// Somebody has or waits for an exclusive lock; who, as far as the server tells.
    Lock(Option<String>),
}

/// One point in time of a database, held.
pub struct Moment {
    connection: Connection,
    /// The number of the server's process for it.
    pid: String,
    snapshot: String,
    identity: Identity,
    facts: SourceFacts,
    keeper: JoinHandle<()>,
    lost: Arc<Mutex<Option<String>>>,
}

impl Moment {
    /// Takes and holds the moment: checks rights, locks every table, exports the snapshot.
    ///
    /// # Errors
    /// When the role may not read everything, a table stays locked, or the server does not answer.
    pub fn hold(
        settings: &Settings,
        options: &MomentOptions,
        handle: &Handle,
    ) -> Result<Self, MomentError> {
        let stop = AtomicBool::new(false);
        let mut patience = Patience::new(options.lock_wait, &stop);
        let (moment, _) = Self::hold_with(settings, 0, &mut patience, handle)?;
        Ok(moment)
    }

    /// As [`hold`](Self::hold), with up to so many sessions that read at the same moment and hold the same locks: as
    /// many of them as the server has room for, at least one where any is wanted.
    pub(crate) fn hold_with(
        settings: &Settings,
        workers: usize,
        patience: &mut Patience<'_>,
        handle: &Handle,
    ) -> Result<(Self, Vec<Connection>), MomentError> {
        let connection = Connection::open(settings, handle)?;
        let server = catalog::server(&connection)?;
        let missing = preflight::rights(&connection, &server)?;
        if !missing.is_empty() {
            return Err(MomentError::Rights(missing));
        }
        let identity = Identity::of(&connection)?;
        let workers = open_workers(&connection, workers)?;
        let pid = pid(&connection)?;
        let snapshot = lock_and_export(&connection, &workers, patience)?;
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
        let moment = Self {
            connection,
            pid,
            snapshot,
            identity,
            facts,
            keeper,
            lost,
        };
        Ok((moment, workers))
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

    /// The numbers of the large objects, in their order.
    ///
    /// # Errors
    /// When the server does not answer.
    pub fn large_objects(&self) -> Result<Vec<u32>, QueryError> {
        catalog::large_object_oids(&self.connection)
    }

    /// The sequences as they are now, which is later than the moment: a sequence's state is not versioned. Read after
    /// the last row, no state stands below a value that a row of the moment has.
    ///
    /// # Errors
    /// When the server does not answer.
    pub fn read_sequences(&self) -> Result<Vec<SequencePart>, QueryError> {
        read_sequences(&self.connection)
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

    /// What the session of the program that reads the schema calls itself, so that it can be found among others.
    pub(crate) fn schema_session(&self) -> String {
        format!("{APPLICATION_NAME} schema {}", self.pid)
    }

    /// Whether a session of this name waits for a lock now.
    pub(crate) fn waits_for_lock(&self, session: &str) -> Result<bool, QueryError> {
        self.look_again()?;
        let rows = self.connection.rows(
            "look whether a program waits for a lock",
            &format!(
                "SELECT FROM pg_catalog.pg_stat_activity
                  WHERE application_name = {} AND datname = pg_catalog.current_database() AND wait_event_type = 'Lock'",
                quote::literal(session)
            ),
        )?;
        Ok(!rows.is_empty())
    }

    /// Who has an exclusive lock on a table now, or else waits for one, in words.
    pub(crate) fn in_the_way(&self) -> Result<Option<String>, QueryError> {
        self.look_again()?;
        in_the_way(&self.connection)
    }

    /// Within a transaction the server answers from memory when it is asked again who does what.
    fn look_again(&self) -> Result<(), QueryError> {
        self.connection.execute(
            "forget who did what",
            "SELECT pg_catalog.pg_stat_clear_snapshot()",
        )
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

/// Opens as many sessions as are wanted and the server has room for: for them, and for the locks that they will hold.
fn open_workers(holder: &Connection, wanted: usize) -> Result<Vec<Connection>, MomentError> {
    let mut workers: Vec<Connection> = Vec::new();
    if wanted == 0 {
        return Ok(workers);
    }
    let wanted = wanted.min(room_for_locks(holder)?).max(1);
    while workers.len() < wanted {
        match Connection::open(holder.settings(), holder.handle()) {
            Ok(worker) => workers.push(worker),
            Err(ConnectError::Refused { source, .. })
                if source.is(&SqlState::TOO_MANY_CONNECTIONS) && workers.len() > 1 =>
            {
                // That one is for the program which reads the schema.
                workers.pop();
                break;
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(workers)
}

/// How many sessions can lock all tables, beside the holder and the program that reads the schema, without taking more
/// than half of what the server has room for.
fn room_for_locks(holder: &Connection) -> Result<usize, QueryError> {
    const WHAT: &str = "look how many locks the server has room for";
    let sql = format!(
        "SELECT pg_catalog.current_setting('max_locks_per_transaction')::int8
                * (pg_catalog.current_setting('max_connections')::int8
                   + pg_catalog.current_setting('max_prepared_transactions')::int8)
                / GREATEST(1, (SELECT pg_catalog.count(*) FROM pg_catalog.pg_class c WHERE {}))",
        dumped(TABLES)
    );
    let row = holder.row(WHAT, &sql)?;
    let sessions: usize = row
        .first()
        .and_then(|sessions| sessions.as_deref()?.parse().ok())
        .ok_or_else(|| QueryError::shape(WHAT))?;
    Ok(sessions.saturating_sub(2))
}

/// Begins the transactions, locks and exports; repeats while tables come and go or somebody waits for a lock on one.
fn lock_and_export(
    holder: &Connection,
    workers: &[Connection],
    patience: &mut Patience<'_>,
) -> Result<String, MomentError> {
    let pids = std::iter::once(holder)
        .chain(workers)
        .map(pid)
        .collect::<Result<Vec<_>, _>>()?;
    loop {
        let met = match try_to_hold(holder, workers, &pids, patience)? {
            Ok(snapshot) => return Ok(snapshot),
            Err(met) => met,
        };
        for session in std::iter::once(holder).chain(workers) {
            session.execute("roll back", "ROLLBACK")?;
        }
        patience.again(met)?;
    }
}

/// The number of the server's process for a session.
fn pid(session: &Connection) -> Result<String, QueryError> {
    let what = "ask for the session's number";
    let row = session.row(what, "SELECT pg_catalog.pg_backend_pid()")?;
    let pid = row.into_iter().next().flatten();
    pid.ok_or_else(|| QueryError::shape(what))
}

/// One try. When it came to nothing, transactions are left open.
fn try_to_hold(
    holder: &Connection,
    workers: &[Connection],
    pids: &[String],
    patience: &Patience<'_>,
) -> Result<Result<String, Met>, MomentError> {
    let tables = table_names(holder)?;
    begin(holder)?;
    match lock_waiting(holder, &tables, patience) {
        Ok(()) => {}
        Err(error) if has_changed(&error) => return Ok(Err(Met::Change)),
        Err(error) if error.is(&SqlState::QUERY_CANCELED) && patience.left().is_zero() => {
            holder.execute("roll back", "ROLLBACK")?;
            return Ok(Err(Met::Lock(in_the_way(holder)?)));
        }
        Err(error) => {
            patience.check()?;
            return Err(error.into());
        }
    }
    for worker in workers {
        begin(worker)?;
        match lock(worker, &tables, " NOWAIT") {
            Ok(()) => {}
            Err(error) if has_changed(&error) => return Ok(Err(Met::Change)),
            Err(error) if error.is(&SqlState::LOCK_NOT_AVAILABLE) => {
                return Ok(Err(Met::Lock(in_the_way(holder)?)));
            }
            Err(error) => return Err(error.into()),
        }
    }
    // The transaction's first query: here, with all locks held, the moment begins.
    let what = "export the snapshot";
    let row = holder.row(what, "SELECT pg_catalog.pg_export_snapshot()")?;
    let snapshot = row
        .into_iter()
        .next()
        .flatten()
        .ok_or_else(|| QueryError::shape(what))?;
    if !all_locked(holder, pids)? {
        return Ok(Err(Met::Change));
    }
    match lock_sequences(holder) {
        Ok(()) => {}
        Err(error) if has_changed(&error) => return Ok(Err(Met::Change)),
        Err(error) if error.is(&SqlState::LOCK_NOT_AVAILABLE) => {
            return Ok(Err(Met::Lock(None)));
        }
        Err(error) => return Err(error.into()),
    }
    for worker in workers {
        let sql = format!("SET TRANSACTION SNAPSHOT {}", quote::literal(&snapshot));
        worker.execute("take the snapshot over", &sql)?;
    }
    let wait = format!(
        "SET LOCAL lock_timeout = {}",
        patience.limit.as_millis().max(1)
    );
    for session in std::iter::once(holder).chain(workers) {
        // What comes now may open an index that somebody rebuilds: that may take a while, but not for ever.
        session.execute("limit the wait for locks", &wait)?;
    }
    Ok(Ok(snapshot))
}

fn begin(session: &Connection) -> Result<(), QueryError> {
    session.execute(
        "begin the transaction of the snapshot",
        &format!(
            "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL lock_timeout = {}",
            LATE_LOCK_WAIT.as_millis()
        ),
    )
}

fn table_names(connection: &Connection) -> Result<Vec<String>, QueryError> {
    names(connection, "list the tables", TABLES)
}

fn names(connection: &Connection, what: &str, kinds: &str) -> Result<Vec<String>, QueryError> {
    connection
        .rows(
            what,
            &format!(
                "SELECT n.nspname, c.relname FROM pg_catalog.pg_class c
                   JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE {} ORDER BY c.oid",
                dumped(kinds)
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
fn lock_sql(tables: &[String], how: &str) -> String {
    format!(
        "LOCK TABLE ONLY {} IN ACCESS SHARE MODE{how}",
        tables.join(", ONLY ")
    )
}

fn lock(session: &Connection, tables: &[String], how: &str) -> Result<(), QueryError> {
    for some in tables.chunks(TABLES_PER_LOCK) {
        session.execute("lock the tables", &lock_sql(some, how))?;
    }
    Ok(())
}

/// Locks as the holder does, who waits until all patience is used up.
fn lock_waiting(
    holder: &Connection,
    tables: &[String],
    patience: &Patience<'_>,
) -> Result<(), QueryError> {
    let limits = |statement: Duration, lock: Duration| {
        format!(
            "SET LOCAL statement_timeout = {}; SET LOCAL lock_timeout = {}",
            statement.as_millis(),
            lock.as_millis()
        )
    };
    // Rounded up, so that nothing is left of the patience when the server gives up.
    let rounding = Duration::from_millis(1);
    for some in tables.chunks(TABLES_PER_LOCK) {
        let left = patience.left() + rounding;
        // The statement's limit: that of locks is for each table anew.
        holder.execute("limit the wait for locks", &limits(left, Duration::ZERO))?;
        holder.execute_unless("lock the tables", &lock_sql(some, ""), patience.stop)?;
    }
    holder.execute(
        "limit the wait for locks",
        &limits(Duration::ZERO, LATE_LOCK_WAIT),
    )
}

/// Sequences cannot be locked by a statement of their own. That they are opened keeps them as they are; it is done now,
/// so that nobody has to be waited for when they are read at the end.
fn lock_sequences(holder: &Connection) -> Result<(), QueryError> {
    let what = "lock the sequences";
    for some in names(holder, "list the sequences", "'S'")?.chunks(TABLES_PER_LOCK) {
        let sql = format!(
            "SELECT FROM (SELECT FROM {}) s LIMIT 0",
            some.join(" UNION ALL SELECT FROM ")
        );
        holder.execute(what, &sql)?;
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

/// Whether every table of the snapshot is locked by all of us: the lock table itself is asked, by number and not by
/// name.
fn all_locked(connection: &Connection, pids: &[String]) -> Result<bool, QueryError> {
    let rows = connection.rows(
        "look whether all tables are locked",
        &format!(
            "WITH held AS MATERIALIZED (
                 SELECT l.relation, l.pid FROM pg_catalog.pg_locks l
                  WHERE l.locktype = 'relation' AND l.mode = 'AccessShareLock' AND l.granted AND l.pid IS NOT NULL
                    AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()))
             SELECT c.oid FROM pg_catalog.pg_class c CROSS JOIN pg_catalog.unnest('{{{}}}'::pg_catalog.int4[]) AS p (pid)
              WHERE {} AND (c.oid, p.pid) NOT IN (SELECT relation, pid FROM held) LIMIT 1",
            pids.join(","),
            dumped(TABLES)
        ),
    )?;
    Ok(rows.is_empty())
}

/// Who has an exclusive lock on a table now, or else waits for one, in words.
fn in_the_way(connection: &Connection) -> Result<Option<String>, QueryError> {
    let rows = connection.rows(
        "look who is in the way of a lock",
        &format!(
            "SELECT pg_catalog.concat_ws(' ', 'process', a.pid, 'of', a.usename, '(' || pg_catalog.left(a.query, 100) || '),',
                                         CASE WHEN l.granted THEN 'which holds' ELSE 'which waits for' END,
                                         l.relation::pg_catalog.regclass)
               FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid
              WHERE l.locktype = 'relation' AND l.mode = 'AccessExclusiveLock'
                AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())
                AND l.relation IN (SELECT c.oid FROM pg_catalog.pg_class c WHERE {})
              ORDER BY l.granted DESC, a.xact_start LIMIT 1",
            dumped(TABLES)
        ),
    )?;
    Ok(rows
        .into_iter()
        .next()
        .and_then(|mut row| row.pop().flatten()))
}

#[cfg(test)]
mod tests;
