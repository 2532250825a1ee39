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

mod locks;

use std::{
    sync::{Arc, Mutex, PoisonError, atomic::AtomicBool},
    time::Duration,
};

use tokio::{runtime::Handle, task::JoinHandle};

use crate::{
    asking::Ask,
    catalog,
    connect::{ConnectError, Connection, QueryError},
    facts::SourceFacts,
    identity::Identity,
    parts::{SequencePart, TablePart},
    preflight::{self, Finding},
    psql::Psql,
    quote,
    sequences::read_sequences,
    settings::{APPLICATION_NAME, Settings},
    table_plan::{PlannedTable, TablePlanError, plan_tables},
};

pub(crate) use locks::{Met, Patience};

use locks::{in_the_way, lock_and_export, open_workers, pid};

/// How long anything waits for a lock that could not be asked for before the snapshot.
pub(crate) const LATE_LOCK_WAIT: Duration = Duration::from_millis(100);
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

/// One point in time of a database, held.
pub struct Moment {
    connection: Box<dyn Ask>,
    settings: Settings,
    /// The number of the server's process for it.
    pid: String,
    snapshot: String,
    identity: Identity,
    facts: SourceFacts,
    /// Who keeps the session from being forgotten; `psql` is its server too near for that.
    keeper: Option<JoinHandle<()>>,
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
        if settings.via.is_some() {
            let session = Psql::open(settings)?;
            return Self::hold_by(Box::new(session), &[], &mut patience, settings, None);
        }
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
        let workers = open_workers(&connection, workers)?;
        let settled = connection.settings().clone();
        let client = Arc::clone(connection.client());
        let keeper = (client, handle);
        let moment = Self::hold_by(
            Box::new(connection),
            &workers,
            patience,
            &settled,
            Some(keeper),
        )?;
        Ok((moment, workers))
    }

    /// Holds the moment by this session and these workers. The client is that of the session, where it has one to be
    /// kept alive by.
    fn hold_by(
        connection: Box<dyn Ask>,
        workers: &[Connection],
        patience: &mut Patience<'_>,
        settings: &Settings,
        client: Option<(Arc<tokio_postgres::Client>, &Handle)>,
    ) -> Result<Self, MomentError> {
        let session = &*connection;
        let server = catalog::server(session)?;
        let missing = preflight::rights(session, &server)?;
        if !missing.is_empty() {
            return Err(MomentError::Rights(missing));
        }
        let identity = Identity::of(session)?;
        let pid = pid(session)?;
        let snapshot = lock_and_export(session, workers, patience)?;
        let facts = SourceFacts {
            database: catalog::database(session, server.major())?,
            extensions: catalog::extensions(session)?,
            tables: catalog::tables(session)?,
            large_objects: catalog::large_objects(session)?,
            server,
        };
        let lost = Arc::new(Mutex::new(None));
        let keep =
            |(client, handle): (_, &Handle)| handle.spawn(keep_alive(client, Arc::clone(&lost)));
        Ok(Self {
            keeper: client.map(keep),
            settings: settings.clone(),
            connection,
            pid,
            snapshot,
            identity,
            facts,
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
        plan_tables(&*self.connection, &self.facts, skip_data, earlier)
    }

    /// The numbers of the large objects, in their order.
    ///
    /// # Errors
    /// When the server does not answer.
    pub fn large_objects(&self) -> Result<Vec<u32>, QueryError> {
        catalog::large_object_oids(&*self.connection)
    }

    /// The sequences as they are now, which is later than the moment: a sequence's state is not versioned. Read after
    /// the last row, no state stands below a value that a row of the moment has.
    ///
    /// # Errors
    /// When the server does not answer.
    pub fn read_sequences(&self) -> Result<Vec<SequencePart>, QueryError> {
        read_sequences(&*self.connection)
    }

    /// The settled settings of the session: whoever connects by them reaches the same server in the same way.
    pub fn settings(&self) -> &Settings {
        &self.settings
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
        in_the_way(&*self.connection)
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
        if let Some(keeper) = &self.keeper {
            keeper.abort();
        }
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

#[cfg(test)]
mod tests;
