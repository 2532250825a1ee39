//! The locks of a moment: taken by each session before the snapshot, or let go and asked for again.
//!
//! Invariant: a try that came to nothing ends every session's transaction, so that whoever stood in the way gets his
//! turn; and only the holder ever waits for a table.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use tokio_postgres::error::SqlState;

use super::{LATE_LOCK_WAIT, MomentError};
use crate::{
    asking::Ask,
    catalog::{TABLES, dumped},
    connect::{ConnectError, Connection, QueryError},
    quote,
};

/// How long is paused before the second try, the third after twice that, and so on.
const PAUSE: Duration = Duration::from_millis(20);
/// No pause is longer.
const PAUSE_MAX: Duration = Duration::from_millis(300);
/// How many tables one statement locks.
const TABLES_PER_LOCK: usize = 200;

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
        if self.left().is_zero() {
            return Err(match met {
                Met::Change => MomentError::Restless { tries: self.tries },
                Met::Lock(holder) => MomentError::LockTimeout {
                    waited: self.began.elapsed(),
                    holder,
                },
            });
        }
        std::thread::sleep((PAUSE * self.tries).min(PAUSE_MAX).min(self.left()));
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

/// Opens as many sessions as are wanted and the server has room for: for them, and for the locks that they will hold.
pub(super) fn open_workers(
    holder: &Connection,
    wanted: usize,
) -> Result<Vec<Connection>, MomentError> {
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
fn room_for_locks(holder: &dyn Ask) -> Result<usize, QueryError> {
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
pub(super) fn lock_and_export(
    holder: &dyn Ask,
    workers: &[Connection],
    patience: &mut Patience<'_>,
) -> Result<String, MomentError> {
    let pids = all(holder, workers)
        .map(pid)
        .collect::<Result<Vec<_>, _>>()?;
    loop {
        let met = match try_to_hold(holder, workers, &pids, patience)? {
            Ok(snapshot) => return Ok(snapshot),
            Err(met) => met,
        };
        for session in all(holder, workers) {
            session.execute("roll back", "ROLLBACK")?;
        }
        patience.again(met)?;
    }
}

/// Every session of the moment, the holder first.
fn all<'a>(holder: &'a dyn Ask, workers: &'a [Connection]) -> impl Iterator<Item = &'a dyn Ask> {
    let workers = workers.iter().map(|worker| worker as &dyn Ask);
    std::iter::once(holder).chain(workers)
}

/// The number of the server's process for a session.
pub(super) fn pid(session: &dyn Ask) -> Result<String, QueryError> {
    let what = "ask for the session's number";
    let row = session.row(what, "SELECT pg_catalog.pg_backend_pid()")?;
    let pid = row.into_iter().next().flatten();
    pid.ok_or_else(|| QueryError::shape(what))
}

/// One try. When it came to nothing, transactions are left open.
fn try_to_hold(
    holder: &dyn Ask,
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
    let wait = patience.limit.max(Duration::from_millis(1));
    for session in all(holder, workers) {
        // What comes now may open an index that somebody rebuilds: that may take a while, but not for ever.
        limit(session, "lock_timeout", wait)?;
    }
    Ok(Ok(snapshot))
}

fn begin(session: &dyn Ask) -> Result<(), QueryError> {
    let what = "begin the transaction of the snapshot";
    session.execute(what, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")?;
    limit(session, "lock_timeout", LATE_LOCK_WAIT)
}

/// Limits what the transaction waits for from here on; zero is no limit.
fn limit(session: &dyn Ask, what: &str, time: Duration) -> Result<(), QueryError> {
    let sql = format!("SET LOCAL {what} = {}", time.as_millis());
    session.execute("limit the wait for locks", &sql)
}

fn table_names(connection: &dyn Ask) -> Result<Vec<String>, QueryError> {
    names(connection, "list the tables", TABLES)
}

fn names(connection: &dyn Ask, what: &str, kinds: &str) -> Result<Vec<String>, QueryError> {
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

fn lock(session: &dyn Ask, tables: &[String], how: &str) -> Result<(), QueryError> {
    for some in tables.chunks(TABLES_PER_LOCK) {
        session.execute("lock the tables", &lock_sql(some, how))?;
    }
    Ok(())
}

/// Locks as the holder does, who waits until all patience is used up.
fn lock_waiting(
    holder: &dyn Ask,
    tables: &[String],
    patience: &Patience<'_>,
) -> Result<(), QueryError> {
    // Rounded up, so that nothing is left of the patience when the server gives up.
    let rounding = Duration::from_millis(1);
    for some in tables.chunks(TABLES_PER_LOCK) {
        let left = patience.left() + rounding;
        // The statement's limit: that of locks is for each table anew.
        limit(holder, "statement_timeout", left)?;
        limit(holder, "lock_timeout", Duration::ZERO)?;
        holder.execute_unless("lock the tables", &lock_sql(some, ""), patience.stop)?;
    }
    limit(holder, "statement_timeout", Duration::ZERO)?;
    limit(holder, "lock_timeout", LATE_LOCK_WAIT)
}

/// Sequences cannot be locked by a statement of their own. That they are opened keeps them as they are; it is done now,
/// so that nobody has to be waited for when they are read at the end.
fn lock_sequences(holder: &dyn Ask) -> Result<(), QueryError> {
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
pub(super) fn all_locked(connection: &dyn Ask, pids: &[String]) -> Result<bool, QueryError> {
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
pub(super) fn in_the_way(connection: &dyn Ask) -> Result<Option<String>, QueryError> {
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
