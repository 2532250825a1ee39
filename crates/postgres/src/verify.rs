//! A database read again and held against what the backup says of it.
//!
//! Rows count as equal by their number, their bytes and the sum of their keyed hashes, so their order does not matter.
//! Several sessions read, the largest table first; each sees its own moment, so nobody may write meanwhile. What does not
//! change rows may go on beside it, such as the making of indexes.
//!
//! Rows below a partition that is told by a hash may have found another one than they came from; there all partitions of
//! the topmost table count together.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    io::Read as _,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::runtime::Handle;
use tokio_postgres::error::SqlState;

use crate::{
    connect::{ConnectError, QueryError},
    large_object::{LargeObject, LargeObjectError},
    parts::{Digest, LargeObjectPart, Parts, SequencePart, TablePart},
    quote,
    rows::{Rows, RowsError},
    session::{Session, SessionError, Stops, is_set},
    settings::Settings,
    source::Wanted,
};

/// How soon the wish to stop is noticed.
const SLICE: Duration = Duration::from_millis(50);
const BLOCK_LEN_BYTES: usize = 64 << 10;
/// How many large objects are one task, and how many sequences one question.
const BATCH_OBJECTS_MAX: usize = 500;
const SEQUENCES_PER_QUESTION: usize = 200;
/// How many differences a message tells.
const TOLD_MAX: usize = 5;
/// What is found where the amount is right.
const SAME_AMOUNT: &str = "as many with another content";

/// What was found to be equal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// Tables whose rows were read.
    pub tables: u64,
    /// Their rows.
    pub rows: u64,
    /// Large objects.
    pub large_objects: u64,
    /// Sequences.
    pub sequences: u64,
    /// Bytes of rows and large objects.
    pub len_bytes: u64,
}

/// Something that is not as it was in the backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// What: `the rows of public.orders`.
    pub what: String,
    /// What the backup has: `12 rows of 340 bytes`.
    pub expected: String,
    /// What there is.
    pub found: String,
}

impl Difference {
    /// Between rows that were backed up and rows that are there; nothing when they are equal.
    pub(crate) fn between(what: String, expected: &Digest, found: &Digest) -> Option<Self> {
        let words = |digest: &Digest| format!("{} rows of {} bytes", digest.rows, digest.len_bytes);
        let (before, mut after) = (words(expected), words(found));
        if before == after {
            after = SAME_AMOUNT.to_owned();
        }
        (expected != found).then_some(Self {
            what,
            expected: before,
            found: after,
        })
    }
}

/// Why a database does not count as equal.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// There is no connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// A question was not answered.
    #[error(transparent)]
    Query(#[from] QueryError),
    /// Rows could not be read to their end.
    #[error(transparent)]
    Rows(#[from] RowsError),
    /// A large object could not be read to its end.
    #[error(transparent)]
    LargeObject(#[from] LargeObjectError),
    /// It is not equal.
    #[error("the database is not what the backup was made of: {}", told(.0))]
    Differs(Vec<Difference>),
    /// The work was to stop.
    #[error("it was asked to stop")]
    Stopped,
}

impl From<SessionError> for VerifyError {
    fn from(error: SessionError) -> Self {
        match error {
            SessionError::Query(error) => Self::Query(error),
            SessionError::Stopped => Self::Stopped,
        }
    }
}

fn told(differences: &[Difference]) -> String {
    let mut told: Vec<String> = differences
        .iter()
        .take(TOLD_MAX)
        .map(|one| {
            format!(
                "{}: {} in the backup, {} here",
                one.what, one.expected, one.found
            )
        })
        .collect();
    if differences.len() > TOLD_MAX {
        told.push(format!("and {} more", differences.len() - TOLD_MAX));
    }
    told.join("; ")
}

/// Reads all of a database again, over `jobs` sessions, and holds it against `parts`; `hash_key` is the one that their
/// digests were made with.
///
/// # Errors
/// When anything is not equal, all of which is told; when it cannot be read, or `stop` is set.
pub fn verify_parts(
    database: &Settings,
    parts: &Parts,
    hash_key: &[u8; 32],
    jobs: u32,
    stop: &AtomicBool,
    handle: &Handle,
) -> Result<Verified, VerifyError> {
    Verification {
        tables: parts.tables.iter().collect(),
        large_objects: &parts.large_objects,
        sequences: parts.sequences.iter().collect(),
        hash_key,
        jobs,
    }
    .run(database, stop, handle)
}

/// What is to be read, and how.
pub(crate) struct Verification<'a> {
    pub(crate) tables: Vec<&'a TablePart>,
    pub(crate) large_objects: &'a [LargeObjectPart],
    pub(crate) sequences: Vec<&'a SequencePart>,
    pub(crate) hash_key: &'a [u8; 32],
    pub(crate) jobs: u32,
}

/// How a session looks past policies and forgets that it did.
#[derive(Clone, Copy)]
enum Aside {
    /// By a transaction.
    Transaction,
    /// In the transaction that it is in.
    Savepoint,
}

/// What one session reads without a pause.
#[derive(Clone, Copy)]
enum Task<'a> {
    Table {
        part: &'a TablePart,
        /// Whether its policies would keep rows from us, as they do from their owner.
        is_policed: bool,
    },
    LargeObjects(&'a [LargeObjectPart]),
}

impl Task<'_> {
    fn len_bytes(&self) -> u64 {
        match self {
            Self::Table { part, .. } => part.digest.map_or(0, |digest| digest.len_bytes),
            Self::LargeObjects(objects) => objects.iter().map(|object| object.len_bytes).sum(),
        }
    }
}

/// What was read, while it is being read.
#[derive(Default)]
struct Findings {
    verified: Verified,
    differences: Vec<Difference>,
    /// Of tables whose partitions count together: what the backup has, and what was found.
    together: BTreeMap<Root, (Digest, Digest)>,
}

/// Schema and name of a topmost table.
type Root = (String, String);

/// What the server says of tables.
struct Peculiar {
    /// For each partition below a hash, by its name in SQL, the topmost table.
    together: HashMap<String, Root>,
    /// The names in SQL of tables whose policies hold for their owner too, once they hold at all.
    forced: HashSet<String>,
    /// Those among them whose policies hold, and for us.
    policed: HashSet<String>,
}

impl Verification<'_> {
    pub(crate) fn run(
        &self,
        database: &Settings,
        stop: &AtomicBool,
        handle: &Handle,
    ) -> Result<Verified, VerifyError> {
        let nothing = || Ok::<_, VerifyError>(());
        let ((), verified) = self.run_beside(database, stop, handle, nothing)?;
        Ok(verified)
    }

    /// The same while `work` is done, which changes no rows: one session reads meanwhile, and all of them afterwards.
    pub(crate) fn run_beside<T, E: From<VerifyError>>(
        &self,
        database: &Settings,
        stop: &AtomicBool,
        handle: &Handle,
        work: impl FnOnce() -> Result<T, E>,
    ) -> Result<(T, Verified), E> {
        let stops = [stop];
        let open = || Session::open(database, handle, &stops).map_err(VerifyError::from);
        let before = peculiar(&open()?)?;
        // The work may bring policies into force.
        let (forced, others) = self
            .tasks(&before)
            .into_iter()
            .partition::<Vec<_>, _>(|task| before.is_forced(task));
        let tasks = Mutex::new(others);
        let findings = Mutex::new(Findings::default());
        let failed = AtomicBool::new(false);
        let failure = Mutex::new(None);
        let worker = || {
            let stops = [stop, &failed];
            let work = self.work(database, &before, &tasks, &findings, &stops, handle);
            if let Err(error) = work {
                // Only the first counts: the others end because of it.
                let mut failure = failure.lock().unwrap_or_else(PoisonError::into_inner);
                failure.get_or_insert(error);
                failed.store(true, Ordering::Relaxed);
            }
        };
        let done = std::thread::scope(|scope| {
            let first = scope.spawn(worker);
            let done = work().and_then(|done| {
                let after = peculiar(&open()?)?;
                let forced = forced.into_iter().map(|task| after.policed(task));
                let mut tasks = tasks.lock().unwrap_or_else(PoisonError::into_inner);
                tasks.extend(forced);
                Ok(done)
            });
            if done.is_err() {
                failed.store(true, Ordering::Relaxed);
                return done;
            }
            for _ in 2..self.jobs {
                scope.spawn(worker);
            }
            if self.jobs < 2 {
                // Its panic is the scope's.
                drop(first.join());
            }
            worker();
            done
        })?;
        if let Some(error) = failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
            return Err(error.into());
        }
        let findings = findings.into_inner();
        let findings = findings.unwrap_or_else(PoisonError::into_inner);
        let verified = self.judge(&open()?, findings)?;
        Ok((done, verified))
    }

    /// The same over one session, in the transaction that it is in.
    pub(crate) fn within(&self, session: &mut Session<'_>) -> Result<Verified, VerifyError> {
        let peculiar = peculiar(session)?;
        let mut findings = Findings::default();
        for task in self.tasks(&peculiar) {
            if is_set(session.stops()) {
                return Err(VerifyError::Stopped);
            }
            match task {
                Task::Table { part, is_policed } => {
                    let aside = is_policed.then_some(Aside::Savepoint);
                    let found = self.table(session, part, aside)?;
                    findings.table(part, &found, peculiar.together.get(&part.key()));
                }
                Task::LargeObjects(objects) => {
                    for object in objects {
                        let found = self.large_object(session, object)?;
                        findings.large_object(object, found.as_ref());
                    }
                }
            }
        }
        self.judge(session, findings)
    }

    fn judge(
        &self,
        session: &Session<'_>,
        mut findings: Findings,
    ) -> Result<Verified, VerifyError> {
        for ((schema, name), (expected, found)) in std::mem::take(&mut findings.together) {
            findings.compare(format!("the rows of {schema}.{name}"), &expected, &found);
        }
        self.sequences(session, &mut findings)?;
        if findings.differences.is_empty() {
            return Ok(findings.verified);
        }
        findings
            .differences
            .sort_by(|one, other| one.what.cmp(&other.what));
        Err(VerifyError::Differs(findings.differences))
    }

    /// The largest last, for the end of a list is where it is taken from. A table without a digest was left out of the
    /// backup; it is read where its rows may be another partition's.
    fn tasks(&self, peculiar: &Peculiar) -> Vec<Task<'_>> {
        let is_read = |table: &&TablePart| {
            table.digest.is_some() || peculiar.together.contains_key(&table.key())
        };
        let tables = self.tables.iter().copied().filter(is_read).map(|part| {
            peculiar.policed(Task::Table {
                part,
                is_policed: false,
            })
        });
        let objects = self.large_objects.chunks(BATCH_OBJECTS_MAX);
        let mut tasks: Vec<_> = tables.chain(objects.map(Task::LargeObjects)).collect();
        tasks.sort_by_key(Task::len_bytes);
        tasks
    }

    fn work(
        &self,
        database: &Settings,
        peculiar: &Peculiar,
        tasks: &Mutex<Vec<Task<'_>>>,
        findings: &Mutex<Findings>,
        stops: Stops<'_>,
        handle: &Handle,
    ) -> Result<(), VerifyError> {
        let mut session = None;
        loop {
            if is_set(stops) {
                return Err(VerifyError::Stopped);
            }
            let next = tasks.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let Some(task) = next else {
                return Ok(());
            };
            let session = match &mut session {
                Some(session) => session,
                None => session.insert(Session::open(database, handle, stops)?),
            };
            let lock = || findings.lock().unwrap_or_else(PoisonError::into_inner);
            match task {
                Task::Table { part, is_policed } => {
                    let aside = is_policed.then_some(Aside::Transaction);
                    let found = self.table(session, part, aside)?;
                    lock().table(part, &found, peculiar.together.get(&part.key()));
                }
                Task::LargeObjects(objects) => {
                    for object in objects {
                        let found = self.large_object(session, object)?;
                        lock().large_object(object, found.as_ref());
                    }
                }
            }
        }
    }

    fn table(
        &self,
        session: &mut Session<'_>,
        part: &TablePart,
        aside: Option<Aside>,
    ) -> Result<Digest, VerifyError> {
        let Some(aside) = aside else {
            return read(session, part, self.hash_key);
        };
        // Policies that hold for the owner too would have the server refuse. Nobody else sees the transaction.
        let what = format!("read {} past its policies", part.path());
        let table = quote::qualified(&part.schema, &part.name);
        let (begin, end) = match aside {
            Aside::Transaction => ("BEGIN", "ROLLBACK"),
            Aside::Savepoint => (
                "SAVEPOINT policies",
                "ROLLBACK TO SAVEPOINT policies; RELEASE SAVEPOINT policies",
            ),
        };
        session.execute(
            &what,
            &format!("{begin}; ALTER TABLE ONLY {table} NO FORCE ROW LEVEL SECURITY"),
        )?;
        let digest = read(session, part, self.hash_key)?;
        session.execute(&what, end)?;
        Ok(digest)
    }

    /// What a large object is; nothing when it is not there.
    fn large_object(
        &self,
        session: &Session<'_>,
        part: &LargeObjectPart,
    ) -> Result<Option<LargeObjectPart>, VerifyError> {
        let mut content = LargeObject::start(session.connection(), part.oid, self.hash_key);
        let mut block = vec![0; BLOCK_LEN_BYTES];
        // What went wrong is told by the end, in better words than the reader's.
        while let Ok(1..) = content.read(&mut block) {
            if is_set(session.stops()) {
                return Err(VerifyError::Stopped);
            }
        }
        match content.finish() {
            Ok(found) => Ok(Some(found)),
            Err(LargeObjectError::Query(error)) if error.is(&SqlState::UNDEFINED_OBJECT) => {
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    fn sequences(&self, session: &Session<'_>, findings: &mut Findings) -> Result<(), VerifyError> {
        const WHAT: &str = "read the sequences";
        for some in self.sequences.chunks(SEQUENCES_PER_QUESTION) {
            let questions: Vec<_> = some
                .iter()
                .enumerate()
                .map(|(at, part)| {
                    let name = quote::qualified(&part.schema, &part.name);
                    format!("SELECT {at} AS at, last_value, is_called FROM {name}")
                })
                .collect();
            let rows = session.rows(
                WHAT,
                &format!("{} ORDER BY at", questions.join(" UNION ALL ")),
            )?;
            if rows.len() != some.len() {
                return Err(QueryError::shape(WHAT).into());
            }
            for (part, row) in some.iter().zip(rows) {
                let [_, Some(last), Some(called)] = &row[..] else {
                    return Err(QueryError::shape(WHAT).into());
                };
                let state = |last: &str, called: bool| {
                    format!("{last}{}", if called { "" } else { ", not given yet" })
                };
                let expected = state(&part.last_value.to_string(), part.is_called);
                let found = state(last, called == "t");
                findings.verified.sequences += 1;
                findings.unless_equal(format!("the sequence {}", part.path()), expected, found);
            }
        }
        Ok(())
    }
}

impl Peculiar {
    fn is_forced(&self, task: &Task<'_>) -> bool {
        matches!(task, Task::Table { part, .. } if self.forced.contains(&part.key()))
    }

    /// The task, which knows now whether there are policies.
    fn policed<'a>(&self, task: Task<'a>) -> Task<'a> {
        match task {
            Task::Table { part, .. } => Task::Table {
                part,
                is_policed: self.policed.contains(&part.key()),
            },
            other => other,
        }
    }
}

impl Findings {
    fn table(&mut self, part: &TablePart, found: &Digest, root: Option<&Root>) {
        self.verified.tables += 1;
        self.verified.rows += found.rows;
        self.verified.len_bytes += found.len_bytes;
        match root {
            Some(root) => {
                let (expected, all) = self.together.entry(root.clone()).or_default();
                *expected = expected.plus(&part.digest.unwrap_or_default());
                *all = all.plus(found);
            }
            None => {
                let expected = part.digest.unwrap_or_default();
                self.compare(Wanted::Rows(part).words(), &expected, found);
            }
        }
    }

    fn compare(&mut self, what: String, expected: &Digest, found: &Digest) {
        self.differences
            .extend(Difference::between(what, expected, found));
    }

    fn large_object(&mut self, part: &LargeObjectPart, found: Option<&LargeObjectPart>) {
        let what = Wanted::LargeObject(part).words();
        let expected = format!("{} bytes", part.len_bytes);
        match found {
            None => self.unless_equal(what, expected, "none".to_owned()),
            Some(there) => {
                self.verified.large_objects += 1;
                self.verified.len_bytes += there.len_bytes;
                let mut found = format!("{} bytes", there.len_bytes);
                if found == expected && there.hash != part.hash {
                    found = SAME_AMOUNT.to_owned();
                }
                self.unless_equal(what, expected, found);
            }
        }
    }

    fn unless_equal(&mut self, what: String, expected: String, found: String) {
        if expected != found {
            self.differences.push(Difference {
                what,
                expected,
                found,
            });
        }
    }
}

/// Reads a table's rows to their end, in the order that costs least.
pub(crate) fn read(
    session: &mut Session<'_>,
    part: &TablePart,
    hash_key: &[u8; 32],
) -> Result<Digest, VerifyError> {
    let part = TablePart {
        order: Vec::new(),
        ..part.clone()
    };
    let stops = session.stops();
    let mut rows = Rows::start(session.connection_mut(), &part, hash_key);
    let mut block = vec![0; BLOCK_LEN_BYTES];
    loop {
        while !rows.wait(SLICE) {
            if is_set(stops) {
                return Err(VerifyError::Stopped);
            }
        }
        // What went wrong is told by the end, in better words than the reader's.
        match rows.read(&mut block) {
            Ok(0) | Err(_) => return Ok(rows.finish()?),
            Ok(_) if is_set(stops) => return Err(VerifyError::Stopped),
            Ok(_) => {}
        }
    }
}

fn peculiar(session: &Session<'_>) -> Result<Peculiar, VerifyError> {
    let what = "list partitions and policies";
    let rows = session.rows(
        what,
        "SELECT n.nspname, c.relname, c.relforcerowsecurity, pg_catalog.row_security_active(c.oid), r.nspname, r.relname
           FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
                LEFT JOIN LATERAL (
                    SELECT rn.nspname, r.relname
                      FROM pg_catalog.pg_class r JOIN pg_catalog.pg_namespace rn ON rn.oid = r.relnamespace
                     WHERE r.oid = pg_catalog.pg_partition_root(c.oid)
                       AND EXISTS (SELECT FROM pg_catalog.pg_partition_ancestors(c.oid) AS above
                                     JOIN pg_catalog.pg_partitioned_table p ON p.partrelid = above.relid
                                    WHERE p.partstrat = 'h')) r ON true
          WHERE c.relkind = 'r' AND (c.relispartition OR c.relforcerowsecurity)",
    )?;
    let mut peculiar = Peculiar {
        together: HashMap::new(),
        forced: HashSet::new(),
        policed: HashSet::new(),
    };
    for row in rows {
        let [Some(schema), Some(name), forced, policed, root @ ..] = &row[..] else {
            return Err(QueryError::shape(what).into());
        };
        let key = quote::qualified(schema, name);
        if forced.as_deref() == Some("t") {
            peculiar.forced.insert(key.clone());
        }
        if policed.as_deref() == Some("t") {
            peculiar.policed.insert(key.clone());
        }
        if let [Some(schema), Some(name)] = root {
            peculiar
                .together
                .insert(key, (schema.clone(), name.clone()));
        }
    }
    Ok(peculiar)
}

#[cfg(test)]
mod tests;
