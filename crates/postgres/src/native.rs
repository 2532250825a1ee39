//! A whole database as streams: its schema, each table's rows, each large object, at one moment.
//!
//! [`NativeRead::start`] fixes the moment, with sessions that hold it, and has the schema ready. Then whoever stores a
//! database asks for one file after the other with [`NativeRead::next_file`], from as many threads as there are sessions, and
//! takes its content with [`NativeRead::read`]. [`NativeRead::finish`] reads the sequences, and says what was read.
//!
//! **Invariant**: [`NativeRead::finish`] is `Ok` only when every file was read to its end and judged good, nothing
//! failed on the way, and the moment was held until after the last row (docs/postgres.md, "What makes a good read").
//! Until then nothing that was read may be believed; a reader that only looks for the end of a stream gets an error
//! instead of the end.

use std::{
    collections::VecDeque,
    io::{self, Read},
    sync::{
        Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::runtime::Handle;
use zeroize::Zeroizing;

use crate::{
    child::ProgramError,
    connect::{Connection, QueryError},
    digest::RowEnd,
    dump::{DumpError, DumpReport},
    file_name::{SCHEMA_FILE, large_object_file, table_file},
    large_object::{LargeObject, LargeObjectError},
    moment::{Met, Moment, MomentError, Patience},
    parts::{LargeObjectPart, Parts, TablePart},
    programs::Programs,
    rows::{Rows, RowsError},
    schema_dump::SchemaDump,
    settings::Settings,
    table_plan::{PlannedTable, TablePlanError},
};

/// How soon the wish to stop, and that something else failed, is noticed.
const SLICE: Duration = Duration::from_millis(100);

/// To sort by a key opens every index of the table, and the server keeps them locked until a transaction ends or goes
/// back. Kept for thousands of tables they would fill its lock table.
const GO_BACK: &str = "ROLLBACK TO SAVEPOINT before_rows";

/// How a database is read.
#[derive(Clone, Debug)]
pub struct NativeOptions {
    /// Tables whose rows are left out, as `schema.table`; a partitioned table stands for all its partitions.
    pub skip_data: Vec<String>,
    /// How long to wait for tables that something else holds exclusively, all tries together.
    pub lock_wait: Duration,
    /// How many tables to read at once; there may be fewer when the server has no room for as many.
    pub sessions: usize,
    /// What the snapshot before says of its tables: by which columns they were sorted holds again.
    pub earlier: Vec<TablePart>,
}

impl Default for NativeOptions {
    fn default() -> Self {
        Self {
            skip_data: Vec::new(),
            lock_wait: Duration::from_secs(60),
            sessions: 4,
            earlier: Vec::new(),
        }
    }
}

/// Why a database was not read, or not well.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NativeError {
    /// There is no moment, or it was lost.
    #[error(transparent)]
    Moment(MomentError),
    /// It is not known what to read.
    #[error(transparent)]
    Tables(#[from] TablePlanError),
    /// The schema.
    #[error("cannot read the schema")]
    Schema(#[source] DumpError),
    /// A table's rows.
    #[error(transparent)]
    Rows(#[from] RowsError),
    /// A large object.
    #[error(transparent)]
    LargeObject(#[from] LargeObjectError),
    /// Another question was not answered.
    #[error(transparent)]
    Query(#[from] QueryError),
    /// A file was not asked for or not read, which is the reader's fault.
    #[error("{file} was not read to its end")]
    Unread {
        /// Its name.
        file: String,
    },
    /// Something else of the same database could not be read, so this is of no use.
    #[error("another part of the database could not be read")]
    Spoilt,
    /// It was asked to stop.
    #[error("it was asked to stop")]
    Stopped,
}

impl From<MomentError> for NativeError {
    fn from(error: MomentError) -> Self {
        match error {
            MomentError::Stopped => Self::Stopped,
            error => Self::Moment(error),
        }
    }
}

impl From<DumpError> for NativeError {
    fn from(error: DumpError) -> Self {
        match error {
            DumpError::Program(ProgramError::Stopped { .. }) => Self::Stopped,
            error => Self::Schema(error),
        }
    }
}

impl NativeError {
    /// Whether it only says that whoever reads did not read on.
    fn is_given_up(&self) -> bool {
        matches!(
            self,
            Self::Schema(DumpError::GivenUp)
                | Self::Rows(RowsError::GivenUp { .. })
                | Self::LargeObject(LargeObjectError::GivenUp { .. })
        )
    }
}

/// Why a file is not stored.
#[derive(Debug)]
pub enum FileFailure<E> {
    /// It could not be read.
    Read(NativeError),
    /// It could not be taken, in the words of whoever takes it.
    Sink(E),
}

/// One file to read; whoever has it reads it.
#[must_use]
pub struct NativeFile<'a> {
    name: String,
    size_bytes: Option<u64>,
    item: Item<'a>,
}

impl NativeFile<'_> {
    /// Its path in the database's folder: `public.orders`, `large-objects/16423`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// About how many bytes it has, where that is known.
    pub fn size_bytes(&self) -> Option<u64> {
        self.size_bytes
    }
}

enum Item<'a> {
    Schema(Box<SchemaDump<'a>>),
    /// The number of a table of the plan.
    Table(usize),
    LargeObject(u32),
}

/// What a good read was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NativeReport {
    /// What the database consists of. A table without a digest has no file: its rows were left out.
    pub parts: Parts,
    /// The schema's archive.
    pub schema: DumpReport,
}

/// A database being read; see the module. Dropping it ends its sessions and lets go of all locks.
pub struct NativeRead<'a> {
    moment: Moment,
    /// How many read beside the one that holds the moment.
    sessions: usize,
    hash_key: Zeroizing<[u8; 32]>,
    stop: &'a AtomicBool,
    /// Set when a file could not be read: the others are of no use then.
    spoilt: AtomicBool,
    state: Mutex<State<'a>>,
    /// Rung when a session has nothing to do.
    returned: Condvar,
}

struct State<'a> {
    waiting: VecDeque<NativeFile<'a>>,
    idle: Vec<Connection>,
    tables: Vec<PlannedTable>,
    large_objects: Vec<LargeObjectPart>,
    /// How many of them there are to be.
    large_object_count: usize,
    schema: Option<DumpReport>,
}

impl<'a> NativeRead<'a> {
    /// Fixes the moment with all its sessions and reads the schema so far that nothing more is asked of the server for
    /// it. `hash_key` is for the digests.
    ///
    /// # Errors
    /// When the moment cannot be held, `pg_dump` fails, `skip_data` names what is not there, or `stop` is set.
    pub fn start(
        settings: &Settings,
        programs: &Programs,
        options: &NativeOptions,
        hash_key: &[u8; 32],
        stop: &'a AtomicBool,
        handle: &Handle,
    ) -> Result<Self, NativeError> {
        let mut patience = Patience::new(options.lock_wait, stop);
        let (moment, sessions, schema) = loop {
            let (moment, sessions) =
                Moment::hold_with(settings, options.sessions.max(1), &mut patience, handle)?;
            match SchemaDump::start(&moment, programs, stop) {
                Ok(schema) => break (moment, sessions, schema),
                Err(DumpError::Lock { holder }) => {
                    // All sessions end, and whoever waits for a table gets it.
                    drop((moment, sessions));
                    patience.again(Met::Lock(holder))?;
                }
                Err(error) => {
                    // What `pg_dump` says when the server goes is the consequence.
                    moment.check()?;
                    return Err(error.into());
                }
            }
        };
        for session in &sessions {
            session.execute("make a savepoint", "SAVEPOINT before_rows")?;
        }
        let tables = moment.plan_tables(&options.skip_data, &options.earlier)?;
        let large_objects = moment.large_objects()?;
        Ok(Self {
            sessions: sessions.len(),
            state: Mutex::new(State {
                waiting: queue(schema, &tables, &large_objects),
                idle: sessions,
                tables,
                large_object_count: large_objects.len(),
                large_objects: Vec::new(),
                schema: None,
            }),
            moment,
            hash_key: Zeroizing::new(*hash_key),
            stop,
            spoilt: AtomicBool::new(false),
            returned: Condvar::new(),
        })
    }

    /// The moment that is read.
    pub fn moment(&self) -> &Moment {
        &self.moment
    }

    /// How many files can be read at once; who reads more waits.
    pub fn sessions(&self) -> usize {
        self.sessions
    }

    /// The next file to read: the schema, then the tables, the largest first, then the large objects. Nothing when all
    /// have been given out, or when there is no use in going on.
    pub fn next_file(&self) -> Option<NativeFile<'a>> {
        if self.halt().is_some() {
            return None;
        }
        self.lock().waiting.pop_front()
    }

    /// Hands a file's content to `sink`, which reads it to its end.
    ///
    /// # Errors
    /// When the content is not all that the server has at the moment, `sink` fails or does not read to the end, another
    /// file failed, or it was asked to stop. There is no snapshot then; the files under way end soon.
    pub fn read<T, E>(
        &self,
        file: NativeFile<'a>,
        sink: impl FnOnce(&mut dyn Stream) -> Result<T, E>,
    ) -> Result<T, FileFailure<E>> {
        let read = match file.item {
            Item::Schema(schema) => self.read_schema(*schema, sink),
            Item::Table(at) => self.read_table(at, sink),
            Item::LargeObject(oid) => self.read_large_object(oid, sink),
        };
        if read.is_err() {
            self.spoilt.store(true, Ordering::Relaxed);
            self.returned.notify_all();
        }
        read
    }

    /// Reads what is not versioned, and judges the whole: only `Ok` makes the files that were read a database.
    ///
    /// # Errors
    /// When a file was not read or not well, or the moment was lost before the last of them was.
    pub fn finish(self) -> Result<NativeReport, NativeError> {
        if let Some(halt) = self.halt() {
            return Err(halt);
        }
        let state = self
            .state
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
        let unread = |file: &str| NativeError::Unread {
            file: file.to_owned(),
        };
        if let Some(file) = state.waiting.front() {
            return Err(unread(&file.name));
        }
        let schema = state.schema.ok_or_else(|| unread(SCHEMA_FILE))?;
        let mut tables = Vec::with_capacity(state.tables.len());
        for PlannedTable { part, skipped, .. } in state.tables {
            if part.digest.is_none() && !skipped {
                return Err(unread(&table_file(&part.schema, &part.name)));
            }
            tables.push(part);
        }
        let mut large_objects = state.large_objects;
        if large_objects.len() != state.large_object_count {
            return Err(unread("a large object"));
        }
        large_objects.sort_by_key(|part| part.oid);
        // After the last row: a state must not stand below a value that a row has.
        let sequences = self.moment.read_sequences()?;
        self.moment.check()?;
        Ok(NativeReport {
            parts: Parts {
                tables,
                sequences,
                large_objects,
            },
            schema,
        })
    }

    fn read_schema<T, E>(
        &self,
        schema: SchemaDump<'a>,
        sink: impl FnOnce(&mut dyn Stream) -> Result<T, E>,
    ) -> Result<T, FileFailure<E>> {
        let (taken, report) = self.drain(schema, sink, SchemaDump::finish)?;
        self.lock().schema = Some(report);
        Ok(taken)
    }

    // A session in the middle of something is of no use: it is given back only when all went well.

    fn read_table<T, E>(
        &self,
        at: usize,
        sink: impl FnOnce(&mut dyn Stream) -> Result<T, E>,
    ) -> Result<T, FileFailure<E>> {
        let mut session = self.session().map_err(FileFailure::Read)?;
        let part = self.lock().tables[at].part.clone();
        let mut rows = Rows::start(&mut session, &part, &self.hash_key);
        rows.keep_ends();
        let (taken, digest) = self.drain(rows, sink, Rows::finish)?;
        session
            .execute("let go of what sorting has locked", GO_BACK)
            .map_err(|error| FileFailure::Read(error.into()))?;
        self.lock().tables[at].part.digest = Some(digest);
        self.give_back(session);
        Ok(taken)
    }

    fn read_large_object<T, E>(
        &self,
        oid: u32,
        sink: impl FnOnce(&mut dyn Stream) -> Result<T, E>,
    ) -> Result<T, FileFailure<E>> {
        let session = self.session().map_err(FileFailure::Read)?;
        let object = LargeObject::start(&session, oid, &self.hash_key);
        let (taken, part) = self.drain(object, sink, LargeObject::finish)?;
        self.lock().large_objects.push(part);
        self.give_back(session);
        Ok(taken)
    }

    /// Lets `sink` read `stream`, and asks both how it went.
    fn drain<S, T, E, R, F>(
        &self,
        stream: S,
        sink: impl FnOnce(&mut dyn Stream) -> Result<T, E>,
        finish: impl FnOnce(S) -> Result<R, F>,
    ) -> Result<(T, R), FileFailure<E>>
    where
        S: Patient,
        F: Into<NativeError>,
    {
        let mut watched = Watched {
            read: self,
            stream,
            halted: None,
        };
        let taken = sink(&mut watched);
        let judged = finish(watched.stream).map_err(Into::into);
        match (taken, judged) {
            (Ok(taken), Ok(report)) => Ok((taken, report)),
            (Err(error), Ok(_)) => Err(FileFailure::Sink(error)),
            (taken, Err(error)) if error.is_given_up() => Err(match (watched.halted, taken) {
                // The stream broke because there was no use in going on.
                (Some(halted), _) => FileFailure::Read(halted),
                // Who took it had enough, for a reason of his own.
                (None, Err(error)) => FileFailure::Sink(error),
                (None, Ok(_)) => FileFailure::Read(error),
            }),
            (_, Err(error)) => Err(FileFailure::Read(error)),
        }
    }

    /// A session with nothing to do; waits for one.
    fn session(&self) -> Result<Connection, NativeError> {
        let mut state = self.lock();
        loop {
            if let Some(halt) = self.halt() {
                return Err(halt);
            }
            if let Some(session) = state.idle.pop() {
                return Ok(session);
            }
            (state, _) = self
                .returned
                .wait_timeout(state, SLICE)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn give_back(&self, session: Connection) {
        self.lock().idle.push(session);
        self.returned.notify_one();
    }

    /// Why there is no use in going on.
    fn halt(&self) -> Option<NativeError> {
        if self.stop.load(Ordering::Relaxed) {
            return Some(NativeError::Stopped);
        }
        self.spoilt
            .load(Ordering::Relaxed)
            .then_some(NativeError::Spoilt)
    }

    fn lock(&self) -> MutexGuard<'_, State<'a>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// All files in the order in which they are read.
fn queue<'a>(
    schema: SchemaDump<'a>,
    tables: &[PlannedTable],
    large_objects: &[u32],
) -> VecDeque<NativeFile<'a>> {
    let mut order: Vec<usize> = (0..tables.len())
        .filter(|at| !tables[*at].skipped)
        .collect();
    // The largest first, so that at the end no session reads one alone for long.
    order.sort_by_key(|at| std::cmp::Reverse(tables[*at].size_bytes));
    let schema = NativeFile {
        name: SCHEMA_FILE.to_owned(),
        size_bytes: None,
        item: Item::Schema(Box::new(schema)),
    };
    let tables = order.into_iter().map(|at| NativeFile {
        name: table_file(&tables[at].part.schema, &tables[at].part.name),
        size_bytes: Some(tables[at].size_bytes),
        item: Item::Table(at),
    });
    let large_objects = large_objects.iter().map(|oid| NativeFile {
        name: large_object_file(*oid),
        size_bytes: None,
        item: Item::LargeObject(*oid),
    });
    std::iter::once(schema)
        .chain(tables)
        .chain(large_objects)
        .collect()
}

/// A file's content, with what is known of it beyond its bytes.
pub trait Stream: Read {
    /// Where rows end in what was read since the last question, the rarer ends only; `None` for what is not rows.
    fn row_ends(&mut self) -> Option<Vec<RowEnd>>;
}

/// What can be waited for in slices.
trait Patient: Read {
    /// Waits until reading would not wait, or a little; `false` when it still would.
    fn is_ready(&mut self) -> bool;

    /// As [`Stream::row_ends`].
    fn row_ends(&mut self) -> Option<Vec<RowEnd>> {
        None
    }
}

impl Patient for Rows<'_> {
    fn is_ready(&mut self) -> bool {
        self.wait(SLICE)
    }

    fn row_ends(&mut self) -> Option<Vec<RowEnd>> {
        self.take_ends()
    }
}

impl Patient for SchemaDump<'_> {
    /// It looks itself whether it is to stop.
    fn is_ready(&mut self) -> bool {
        true
    }
}

impl Patient for LargeObject<'_> {
    /// One piece is soon there.
    fn is_ready(&mut self) -> bool {
        true
    }
}

/// A stream that ends with an error as soon as there is no use in going on.
struct Watched<'r, 'a, S> {
    read: &'r NativeRead<'a>,
    stream: S,
    /// Why it was ended.
    halted: Option<NativeError>,
}

impl<S: Patient> Read for Watched<'_, '_, S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if let Some(halt) = self.read.halt() {
                let error = io::Error::other(halt.to_string());
                self.halted = Some(halt);
                return Err(error);
            }
            if self.stream.is_ready() {
                return self.stream.read(buffer);
            }
        }
    }
}

impl<S: Patient> Stream for Watched<'_, '_, S> {
    fn row_ends(&mut self) -> Option<Vec<RowEnd>> {
        self.stream.row_ends()
    }
}

#[cfg(test)]
mod tests;
