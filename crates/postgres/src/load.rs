//! Rows, large objects and sequences into a database that has its tables and nothing that watches them yet.
//!
//! Several sessions share the work, the longest work first. A table is one transaction: whatever was in it goes, its
//! rows come, and the server's count of them must be the backup's. Between pre-data and post-data there are no keys,
//! triggers or policies, so nothing looks at the rows but the tables' own checks.
//!
//! An extension's configuration table is not empty when its extension has been made, and has had all its keys and
//! triggers from the beginning. There the rows that the extension's condition chooses are replaced, without triggers.

use std::{
    collections::{HashMap, HashSet},
    io::{self, Write},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::runtime::Handle;
use tokio_postgres::types::Type;

use crate::{
    connect::{ConnectError, QueryError},
    parts::{LargeObjectPart, SequencePart, TablePart},
    quote,
    session::{Session, SessionError, Stops, is_set},
    settings::Settings,
    source::{PartSource, Wanted},
};

/// How much of a large object is sent at once: a whole number of the server's pages of 2 KiB.
const LARGE_OBJECT_BLOCK_LEN_BYTES: usize = 256 << 10;
/// How many large objects are written in one transaction, each of which is a lock until its end, and how many bytes.
const BATCH_OBJECTS_MAX: usize = 500;
const BATCH_LEN_BYTES_MAX: u64 = 32 << 20;
/// What is done with them, for messages.
const LARGE_OBJECTS: &str = "write large objects";
/// A row takes the server as long as so many bytes do, besides its own: measured on narrow rows and wide ones.
const COST_OF_ROW: u64 = 30;
/// How many sequences one message sets.
const SEQUENCES_PER_MESSAGE: usize = 200;

/// Why the rows did not come in.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// There is no connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The server did not take them.
    #[error(transparent)]
    Query(#[from] QueryError),
    /// They cannot be read.
    #[error("cannot read {what}")]
    Source {
        /// What was being read.
        what: String,
        /// What its reader said.
        #[source]
        source: io::Error,
    },
    /// What came is not what the backup was made of.
    #[error("{what} should have {expected}, and {found} came")]
    Count {
        /// What was being written.
        what: String,
        /// What the backup's list says: "12 rows".
        expected: String,
        /// What there was.
        found: String,
    },
    /// The work was to stop.
    #[error("it was asked to stop")]
    Stopped,
}

impl From<SessionError> for LoadError {
    fn from(error: SessionError) -> Self {
        match error {
            SessionError::Query(error) => Self::Query(error),
            SessionError::Stopped => Self::Stopped,
        }
    }
}

/// What is to be loaded, and how.
pub(crate) struct Load<'a> {
    pub(crate) tables: Vec<&'a TablePart>,
    /// The tables among them that the archive does not make, because an extension does: their names in SQL.
    pub(crate) of_extensions: HashSet<String>,
    /// For each partition whose rows go to the topmost table, that table.
    pub(crate) through_root: HashMap<String, (String, String)>,
    pub(crate) large_objects: &'a [LargeObjectPart],
    pub(crate) sequences: Vec<&'a SequencePart>,
    /// The encoding of the rows' text.
    pub(crate) encoding: String,
    pub(crate) superuser: bool,
    pub(crate) jobs: u32,
}

/// What one session does without a pause.
enum Task<'a> {
    Table(&'a TablePart),
    LargeObjects(&'a [LargeObjectPart]),
}

impl Task<'_> {
    /// What it costs, in the time that a byte takes.
    fn cost(&self) -> u64 {
        match self {
            Self::Table(table) => table.digest.map_or(0, |digest| {
                digest
                    .len_bytes
                    .saturating_add(digest.rows.saturating_mul(COST_OF_ROW))
            }),
            Self::LargeObjects(objects) => objects.iter().map(|object| object.len_bytes).sum(),
        }
    }
}

impl Load<'_> {
    /// What the longest of all tables costs, and what they cost together.
    pub(crate) fn largest_of(&self) -> (u64, u64) {
        let costs = self.tables.iter().map(|table| Task::Table(table).cost());
        costs.fold((0, 0), |(largest, all), cost| {
            (largest.max(cost), all.saturating_add(cost))
        })
    }

    /// Loads all of it into the database of `settings`.
    pub(crate) fn run(
        &self,
        settings: &Settings,
        source: &PartSource<'_>,
        stop: &AtomicBool,
        handle: &Handle,
    ) -> Result<(), LoadError> {
        let tasks = Mutex::new(self.tasks());
        let failed = AtomicBool::new(false);
        let failure = Mutex::new(None);
        let stops = [stop, &failed];
        let worker = || {
            if let Err(error) = self.work(settings, source, &tasks, &stops, handle) {
                // Only the first counts: the others end because of it.
                let mut failure = failure.lock().unwrap_or_else(PoisonError::into_inner);
                failure.get_or_insert(error);
                failed.store(true, Ordering::Relaxed);
            }
        };
        std::thread::scope(|scope| {
            for _ in 1..self.jobs {
                scope.spawn(worker);
            }
            worker();
        });
        let failure = failure.into_inner().unwrap_or_else(PoisonError::into_inner);
        match failure {
            Some(error) => Err(error),
            None => self.set_sequences(&open(settings, handle, &[stop])?),
        }
    }

    /// The longest last, for the end of a list is where it is taken from.
    fn tasks(&self) -> Vec<Task<'_>> {
        let with_rows = |table: &&&TablePart| table.digest.is_some();
        let mut tasks: Vec<_> = self
            .tables
            .iter()
            .filter(with_rows)
            .map(|table| Task::Table(table))
            .collect();
        let mut objects = self.large_objects;
        while !objects.is_empty() {
            let mut len_bytes = 0;
            let fits = |object: &&LargeObjectPart| {
                len_bytes += object.len_bytes;
                len_bytes <= BATCH_LEN_BYTES_MAX
            };
            let count = objects
                .iter()
                .take(BATCH_OBJECTS_MAX)
                .take_while(fits)
                .count();
            let (batch, rest) = objects.split_at(count.max(1));
            tasks.push(Task::LargeObjects(batch));
            objects = rest;
        }
        tasks.sort_by_key(Task::cost);
        tasks
    }

    fn work(
        &self,
        settings: &Settings,
        source: &PartSource<'_>,
        tasks: &Mutex<Vec<Task<'_>>>,
        stops: Stops<'_>,
        handle: &Handle,
    ) -> Result<(), LoadError> {
        let mut session = None;
        loop {
            if is_set(stops) {
                return Err(LoadError::Stopped);
            }
            let next = tasks.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let Some(task) = next else {
                return Ok(());
            };
            let session = match &session {
                Some(session) => session,
                None => session.insert(open(settings, handle, stops)?),
            };
            match task {
                Task::Table(table) => self.table(session, table, source)?,
                Task::LargeObjects(objects) => large_objects(session, objects, source)?,
            }
        }
    }

    fn table(
        &self,
        session: &Session<'_>,
        part: &TablePart,
        source: &PartSource<'_>,
    ) -> Result<(), LoadError> {
        let mut table = quote::qualified(&part.schema, &part.name);
        let what = format!("load the rows of {}", part.path());
        let of_extension = self.of_extensions.contains(&part.key());
        // Rows of a table that was emptied in the same transaction may be written as if they had always been there,
        // which spares whoever reads them first from writing them all again.
        let mut options = "";
        let mut begin = "BEGIN; ".to_owned();
        if let Some((schema, name)) = self.through_root.get(&part.key()) {
            // Other partitions' rows may be there already. The table was made just now, so there are no others.
            table = quote::qualified(schema, name);
        } else if !of_extension {
            begin.push_str(&format!("TRUNCATE TABLE ONLY {table}"));
            options = "FREEZE, ";
        } else {
            if self.superuser {
                begin.push_str("SET LOCAL session_replication_role = replica; ");
            }
            let condition = part.condition.as_deref().unwrap_or_default();
            begin.push_str(&format!("DELETE FROM ONLY {table} {condition}"));
        }
        session.execute(&what, &begin)?;
        let sql = copy_sql(part, &table, options, &self.encoding);
        copy(session, &what, &sql, part, source)?;
        session.execute(&what, "COMMIT")?;
        Ok(())
    }

    fn set_sequences(&self, session: &Session<'_>) -> Result<(), LoadError> {
        for some in self.sequences.chunks(SEQUENCES_PER_MESSAGE) {
            let statements: Vec<_> = some
                .iter()
                .map(|sequence| {
                    format!(
                        "SELECT pg_catalog.setval({}::pg_catalog.regclass, {}, {})",
                        quote::literal(&quote::qualified(&sequence.schema, &sequence.name)),
                        sequence.last_value,
                        sequence.is_called
                    )
                })
                .collect();
            session.execute("set the sequences", &statements.join(";"))?;
        }
        Ok(())
    }
}

/// The statement that takes a table's rows; `options` end with a comma.
pub(crate) fn copy_sql(part: &TablePart, table: &str, options: &str, encoding: &str) -> String {
    let columns: Vec<_> = part
        .columns
        .iter()
        .map(|column| quote::identifier(column))
        .collect();
    // A list may not be empty; without one come all columns that are not generated, which are none then.
    let list = if columns.is_empty() {
        String::new()
    } else {
        format!(" ({})", columns.join(", "))
    };
    format!(
        "COPY {table}{list} FROM STDIN ({options}ENCODING {})",
        quote::literal(encoding)
    )
}

/// Sends a table's rows and holds the server's count against the backup's.
pub(crate) fn copy(
    session: &Session<'_>,
    what: &str,
    sql: &str,
    part: &TablePart,
    source: &PartSource<'_>,
) -> Result<(), LoadError> {
    let Some(expected) = part.digest else {
        return Ok(());
    };
    let wanted = Wanted::Rows(part);
    let mut rows = session.copy_in(what, sql)?;
    let written = source(wanted, &mut rows);
    // The server's refusal is the cause, and what the source makes of it the consequence.
    if let Some(failure) = rows.take_failure() {
        return Err(failure.into());
    }
    written.map_err(|source| LoadError::Source {
        what: wanted.words(),
        source,
    })?;
    let len_bytes = rows.len_bytes();
    let count = rows.finish()?;
    if count == expected.rows && len_bytes == expected.len_bytes {
        return Ok(());
    }
    Err(LoadError::Count {
        what: wanted.words(),
        expected: format!("{} rows of {} bytes", expected.rows, expected.len_bytes),
        found: format!("{count} rows of {len_bytes} bytes"),
    })
}

/// A session for writing, whatever the role's defaults are. A crash loses the whole new database, so single commits
/// need not reach the disk; the one that opens the database does, and with it all before it.
fn open<'a>(
    settings: &Settings,
    handle: &Handle,
    stops: Stops<'a>,
) -> Result<Session<'a>, LoadError> {
    let session = Session::open(settings, handle, stops)?;
    session.execute(
        "set up the session",
        "SET default_transaction_read_only = off; SET synchronous_commit = off; SET xmloption = content",
    )?;
    Ok(session)
}

fn large_objects(
    session: &Session<'_>,
    objects: &[LargeObjectPart],
    source: &PartSource<'_>,
) -> Result<(), LoadError> {
    session.execute(LARGE_OBJECTS, "BEGIN")?;
    put_large_objects(session, &objects.iter().collect::<Vec<_>>(), source)?;
    session.execute(LARGE_OBJECTS, "COMMIT")?;
    Ok(())
}

/// Writes large objects in the transaction that the session is in.
pub(crate) fn put_large_objects(
    session: &Session<'_>,
    objects: &[&LargeObjectPart],
    source: &PartSource<'_>,
) -> Result<(), LoadError> {
    // Those that the archive has not made have no owner and no grants, but they have their bytes.
    let numbers: Vec<_> = objects
        .iter()
        .map(|object| format!("({})", object.oid))
        .collect();
    session.execute(
        LARGE_OBJECTS,
        &format!(
            "SELECT pg_catalog.lo_create(n::pg_catalog.oid) FROM (VALUES {}) AS wanted (n)
              WHERE n::pg_catalog.oid NOT IN (SELECT oid FROM pg_catalog.pg_largeobject_metadata)",
            numbers.join(", ")
        ),
    )?;
    let client = session.connection().client();
    let statement = session.wait(
        LARGE_OBJECTS,
        client.prepare_typed(
            "SELECT pg_catalog.lo_put($1, $2, $3)",
            &[Type::OID, Type::INT8, Type::BYTEA],
        ),
    )?;
    for object in objects {
        let mut writer = LargeObject {
            session,
            statement: &statement,
            oid: object.oid,
            at: 0,
            block: Vec::new(),
            failure: None,
        };
        let wanted = Wanted::LargeObject(object);
        let written = source(wanted, &mut writer);
        if let Some(failure) = writer.failure.take() {
            return Err(failure.into());
        }
        written.map_err(|source| LoadError::Source {
            what: wanted.words(),
            source,
        })?;
        writer.send()?;
        if writer.at != object.len_bytes {
            return Err(LoadError::Count {
                what: wanted.words(),
                expected: format!("{} bytes", object.len_bytes),
                found: writer.at.to_string(),
            });
        }
    }
    Ok(())
}

/// A large object being written.
struct LargeObject<'s> {
    session: &'s Session<'s>,
    statement: &'s tokio_postgres::Statement,
    oid: u32,
    /// Where the next block goes.
    at: u64,
    block: Vec<u8>,
    failure: Option<SessionError>,
}

impl LargeObject<'_> {
    fn send(&mut self) -> Result<(), SessionError> {
        if self.block.is_empty() {
            return Ok(());
        }
        let what = format!("write the large object {}", self.oid);
        let at = i64::try_from(self.at).map_err(|_| QueryError::shape(&what))?;
        let client = self.session.connection().client();
        self.session.wait(
            &what,
            client.execute(self.statement, &[&self.oid, &at, &self.block]),
        )?;
        self.at += self.block.len() as u64;
        self.block.clear();
        Ok(())
    }
}

impl Write for LargeObject<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes
            .len()
            .min(LARGE_OBJECT_BLOCK_LEN_BYTES - self.block.len());
        self.block.extend_from_slice(&bytes[..taken]);
        if self.block.len() == LARGE_OBJECT_BLOCK_LEN_BYTES
            && let Err(error) = self.send()
        {
            self.failure = Some(error);
            return Err(io::Error::other("the server took no more of it"));
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
