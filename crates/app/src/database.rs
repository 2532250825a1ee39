//! Puts a PostgreSQL database of a snapshot back: into a new database, single tables into a schema beside, or as a dump.

use std::io::{PipeWriter, Read, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use lifeboat_codec::StreamRef;
use lifeboat_postgres::{
    AssemblyError, BesideError, BesideRestore, Finding, PartsRestore, PlainError, PlanError,
    PreflightError, Programs, ProgramsError, ResolveError, RestoreError, RestoreOptions,
    ScriptOptions, Settings, Wanted, administration, plan_archive, plan_parts, resolve,
    resolve_via, restore_archive, restore_beside, restore_parts, write_archive, write_plain,
    write_script,
};
use lifeboat_repository::{Counter, Progress, ReadError, Repository, Snapshot, StreamError};
use thiserror::Error;
use tokio::runtime::Handle;

use crate::stored::{Form, StoredDatabase, StoredError, StoredParts};

/// More connections at once are opened only when somebody asks for them.
const JOBS_MAX: u32 = 8;

/// How a database is restored.
#[derive(Clone, Debug, Default)]
pub struct DatabaseRequest {
    /// The source's name in the snapshot; `None` when there is only one database.
    pub source: Option<String>,
    /// Where to: an address whose database is the new one.
    pub to: String,
    /// Only these tables; empty = all.
    pub tables: Vec<String>,
    /// Put the tables into this new schema of the database at `to`, which exists.
    pub schema: Option<String>,
    /// Connections at once; `None` for as many as suit.
    pub jobs: Option<u32>,
    /// Leave owners out.
    pub no_owner: bool,
    /// Leave grants out.
    pub no_acl: bool,
    /// Believe the server's counts, and do not read again what it took.
    pub no_verify: bool,
    /// What stands before PostgreSQL's programs where only they reach the server; empty where this machine does. Then
    /// all comes over one connection, and no table comes alone.
    pub via: Vec<String>,
}

/// What was restored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatabaseReport {
    /// The database.
    pub database: String,
    /// How many tables got their rows; unknown for a database that is one archive.
    pub tables: Option<u64>,
    /// How many rows.
    pub rows: Option<u64>,
    /// Whether rows and hashes were held against the snapshot's afterwards.
    pub verified: bool,
    /// Sentences about what was left out or could not be set.
    pub warnings: Vec<String>,
}

/// A database could not be restored.
#[derive(Debug, Error)]
pub enum DatabaseError {
    /// It is not in the snapshot, or the repository does not give it.
    #[error(transparent)]
    Stored(#[from] StoredError),
    /// What is wanted cannot be had of a database that is one archive.
    #[error("{source_name} is one archive of pg_dump in this snapshot, {why}")]
    Archive {
        /// The database.
        source_name: String,
        /// What is not possible.
        why: &'static str,
    },
    /// The target's address.
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    /// The target's server.
    #[error(transparent)]
    Server(#[from] PreflightError),
    /// The server's programs.
    #[error(transparent)]
    Programs(#[from] ProgramsError),
    /// The restore itself.
    #[error(transparent)]
    Restore(#[from] RestoreError),
    /// The restore of single tables into a schema.
    #[error(transparent)]
    Beside(#[from] BesideError),
    /// The dump could not be put together.
    #[error("the dump could not be put together")]
    Assembly(#[from] AssemblyError),
    /// The dump could not be written.
    #[error("cannot write the dump")]
    Write(#[source] std::io::Error),
    /// The archive was not made SQL of.
    #[error(transparent)]
    Plain(#[from] PlainError),
    /// A pipe could not be made.
    #[error("cannot make a pipe")]
    Pipe(#[source] std::io::Error),
}

impl From<ReadError> for DatabaseError {
    fn from(error: ReadError) -> Self {
        Self::Stored(error.into())
    }
}

/// Restores a PostgreSQL database of a snapshot into a new database, or tables of it into a new schema.
///
/// # Errors
/// When the snapshot has no such database, the target exists or does not fit, `stop` is set, or anything fails on the
/// way. Then what was made is removed again.
pub fn restore_database(
    repository: &Repository,
    snapshot: &Snapshot,
    request: &DatabaseRequest,
    progress: &dyn Progress,
    stop: &AtomicBool,
    runtime: &Handle,
) -> Result<DatabaseReport, DatabaseError> {
    let stored = StoredDatabase::find(repository, snapshot, request.source.as_deref())?;
    let environment = |name: &str| std::env::var_os(name);
    let target = if request.via.is_empty() {
        resolve(&request.to, &environment)?
    } else {
        resolve_via(&request.to, &request.via)?
    };
    let work = Work {
        request,
        target: &target,
        progress,
        stop,
        runtime,
    };
    match &stored.form {
        Form::Archive(_) if request.schema.is_some() => Err(DatabaseError::Archive {
            source_name: stored.source.clone(),
            why: "of which no table comes alone into a schema",
        }),
        Form::Archive(archive) => {
            let send = |to: &mut dyn Write| stored.reader().copy_to(archive, to);
            work.archive(&stored, archive.length, send)
        }
        // `pg_restore` has to do it where the server is, and gets what `pg_dump` would have written.
        Form::Parts(parts) if target.is_beyond() => {
            let content =
                |wanted: Wanted<'_>, out: &mut dyn Write| stored.write(parts, wanted, out);
            let mut schema = stored.schema(parts)?;
            let mut wrong = None;
            let send = |to: &mut dyn Write| {
                let written = write_archive(&mut schema, &parts.parts, &content, to);
                written.map_err(|error| match error {
                    AssemblyError::Write(error) => StreamError::Write(error),
                    error => {
                        let shown = std::io::Error::other(error.to_string());
                        wrong = Some(error);
                        StreamError::Write(shown)
                    }
                })
            };
            let restored = work.archive(&stored, bytes_of(parts, &[]), send);
            // What could not be put together is the cause.
            let restored = wrong.map_or(restored, |error| Err(error.into()));
            parts.judge(restored)
        }
        Form::Parts(parts) => {
            let restored = match &request.schema {
                Some(schema) => work.beside(&stored, parts, schema),
                None => work.parts(&stored, parts),
            };
            parts.judge(restored)
        }
    }
}

/// What a restore of a database would meet.
#[derive(Default)]
pub(crate) struct DatabasePlan {
    /// What has to be mended first.
    pub(crate) refusals: Vec<Finding>,
    /// What may go wrong, or be different afterwards.
    pub(crate) doubts: Vec<Finding>,
}

/// A database that a server would take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForeseenDatabase {
    /// The new database.
    pub database: String,
    /// Sentences about what may go wrong, or be different afterwards.
    pub doubts: Vec<String>,
}

/// Says what a restore by [`restore_database`] into a new database may meet, and touches nothing. The server is reached
/// by the address alone.
///
/// # Errors
/// With what that restore would fail with before it makes anything.
pub fn foresee_database(
    repository: &Repository,
    snapshot: &Snapshot,
    request: &DatabaseRequest,
    stop: &AtomicBool,
    runtime: &Handle,
) -> Result<ForeseenDatabase, DatabaseError> {
    let stored = StoredDatabase::find(repository, snapshot, request.source.as_deref())?;
    let target = resolve(&request.to, &|name| std::env::var_os(name))?;
    let plan = foresee(&stored, request, &target, stop, runtime)?;
    if !plan.refusals.is_empty() {
        return Err(RestoreError::Plan(PlanError::Refused(plan.refusals)).into());
    }
    let doubts = plan.doubts.into_iter();
    Ok(ForeseenDatabase {
        database: target.database().to_owned(),
        doubts: doubts.map(|doubt| doubt.sentence).collect(),
    })
}

/// Says what a restore of all of `stored` into the new database `target` would meet, and touches nothing.
///
/// # Errors
/// When the snapshot cannot be read, the database is there already, the server does not answer, or its programs are not
/// there.
pub(crate) fn plan_database(
    stored: &StoredDatabase<'_>,
    target: &Settings,
    stop: &AtomicBool,
    runtime: &Handle,
) -> Result<DatabasePlan, DatabaseError> {
    match foresee(stored, &DatabaseRequest::default(), target, stop, runtime) {
        Err(DatabaseError::Restore(RestoreError::Plan(PlanError::Refused(refusals)))) => {
            Ok(DatabasePlan {
                refusals,
                ..DatabasePlan::default()
            })
        }
        Err(DatabaseError::Restore(RestoreError::Plan(
            error @ (PlanError::Lacks { .. } | PlanError::ClientTooOld { .. }),
        ))) => Ok(DatabasePlan {
            refusals: vec![Finding {
                sentence: error.to_string(),
                mend: None,
            }],
            ..DatabasePlan::default()
        }),
        planned => planned,
    }
}

/// The plan of a restore into the new database `target`; some of what does not fit is an error.
fn foresee(
    stored: &StoredDatabase<'_>,
    request: &DatabaseRequest,
    target: &Settings,
    stop: &AtomicBool,
    runtime: &Handle,
) -> Result<DatabasePlan, DatabaseError> {
    let (admin, programs) = administration_of(target, runtime)?;
    let options = options(request, stored, 1);
    match &stored.form {
        Form::Archive(archive) => {
            let send = |to: &mut PipeWriter| stored.reader().copy_to(archive, to);
            piped(send, |from| {
                let database = target.database();
                plan_archive(&admin, &programs, database, from, &options, stop, runtime)
            })
            .map(|()| DatabasePlan::default())
        }
        Form::Parts(parts) => {
            let restore = PartsRestore {
                admin: &admin,
                programs: &programs,
                database: target.database(),
                parts: &parts.parts,
                hash_key: None,
                options: &options,
                stop,
            };
            let mut schema = stored.schema(parts)?;
            parts.judge(
                plan_parts(&restore, &mut schema, runtime)
                    .map(|plan| DatabasePlan {
                        refusals: plan.refusals,
                        doubts: plan.doubts,
                    })
                    .map_err(DatabaseError::from),
            )
        }
    }
}

/// A restore under way.
struct Work<'a> {
    request: &'a DatabaseRequest,
    target: &'a Settings,
    progress: &'a dyn Progress,
    stop: &'a AtomicBool,
    runtime: &'a Handle,
}

impl Work<'_> {
    fn begin(&self, stored: &StoredDatabase<'_>, bytes: u64) {
        let (source, database) = (&stored.source, self.target.database());
        let phase = format!("Restoring {source} into the database {database}");
        self.progress.phase(&phase);
        self.progress.expect(Counter::Bytes, bytes);
        if bytes == 0 {
            self.finishing();
        }
    }

    /// All content has been read: keys and indexes are made now, and rows read again.
    fn finishing(&self) {
        let phase = format!("Finishing the database {}", self.target.database());
        self.progress.phase(&phase);
    }

    fn archive(
        &self,
        stored: &StoredDatabase<'_>,
        bytes: u64,
        send: impl FnOnce(&mut dyn Write) -> Result<(), StreamError> + Send,
    ) -> Result<DatabaseReport, DatabaseError> {
        let new_database = self.target.database();
        let (admin, programs) = administration_of(self.target, self.runtime)?;
        // A stream cannot be read in parallel: more connections cost a copy of the archive.
        let options = options(self.request, stored, 1);
        self.begin(stored, bytes);
        let send = |to: &mut PipeWriter| {
            let result = send(&mut Told {
                to,
                progress: self.progress,
            });
            self.finishing();
            result
        };
        let report = piped(send, |from| {
            restore_archive(
                &admin,
                &programs,
                new_database,
                from,
                &options,
                self.stop,
                self.runtime,
            )
        })?;
        Ok(DatabaseReport {
            database: report.database,
            tables: None,
            rows: None,
            verified: false,
            warnings: with_doubt(report.warnings, stored),
        })
    }

    fn parts(
        &self,
        stored: &StoredDatabase<'_>,
        parts: &StoredParts,
    ) -> Result<DatabaseReport, DatabaseError> {
        let (admin, programs) = administration_of(self.target, self.runtime)?;
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let options = options(
            self.request,
            stored,
            u32::try_from(cores).unwrap_or(1).min(JOBS_MAX),
        );
        self.begin(stored, bytes_of(parts, &self.request.tables));
        let restore = PartsRestore {
            admin: &admin,
            programs: &programs,
            database: self.target.database(),
            parts: &parts.parts,
            hash_key: self.hash_key(parts),
            options: &options,
            stop: self.stop,
        };
        let source = self.source(stored, parts);
        let mut schema = stored.schema(parts)?;
        let report = restore_parts(&restore, &mut schema, &source, self.runtime)?;
        Ok(DatabaseReport {
            database: report.database,
            tables: Some(report.tables),
            rows: Some(report.rows),
            verified: report.verified.is_some(),
            warnings: with_doubt(report.warnings, stored),
        })
    }

    fn beside(
        &self,
        stored: &StoredDatabase<'_>,
        parts: &StoredParts,
        schema: &str,
    ) -> Result<DatabaseReport, DatabaseError> {
        self.begin(stored, bytes_of(parts, &self.request.tables));
        let encoding = stored.facts.as_ref().map(|facts| facts.encoding.as_str());
        let restore = BesideRestore {
            database: self.target,
            schema,
            tables: &self.request.tables,
            parts: &parts.parts,
            // Rows are read natively from databases of this encoding only.
            encoding: encoding.unwrap_or("UTF8"),
            hash_key: self.hash_key(parts),
            stop: self.stop,
        };
        let source = self.source(stored, parts);
        let mut archive = stored.schema(parts)?;
        let report = restore_beside(&restore, &mut archive, &source, self.runtime)?;
        Ok(DatabaseReport {
            database: self.target.database().to_owned(),
            tables: Some(report.tables.len() as u64),
            rows: Some(report.rows),
            verified: restore.hash_key.is_some(),
            warnings: report.warnings,
        })
    }

    fn hash_key<'k>(&self, parts: &'k StoredParts) -> Option<&'k [u8; 32]> {
        (!self.request.no_verify).then(|| parts.key.bytes())
    }

    /// What is asked for content; several threads ask at once.
    fn source<'s>(
        &'s self,
        stored: &'s StoredDatabase<'_>,
        parts: &'s StoredParts,
    ) -> impl Fn(Wanted<'_>, &mut dyn Write) -> std::io::Result<()> + Sync + 's {
        let rest = AtomicU64::new(bytes_of(parts, &self.request.tables));
        move |wanted, out| {
            let mut told = Told {
                to: out,
                progress: self.progress,
            };
            stored.write(parts, wanted, &mut told)?;
            let bytes = match wanted {
                Wanted::Rows(part) => part.digest.map_or(0, |digest| digest.len_bytes),
                Wanted::LargeObject(part) => part.len_bytes,
            };
            if bytes > 0 && rest.fetch_sub(bytes, Ordering::Relaxed) == bytes {
                self.finishing();
            }
            Ok(())
        }
    }
}

fn options(request: &DatabaseRequest, stored: &StoredDatabase<'_>, jobs: u32) -> RestoreOptions {
    RestoreOptions {
        facts: stored.facts.clone(),
        extensions: stored.extensions.clone(),
        jobs: request.jobs.unwrap_or(jobs).max(1),
        no_owner: request.no_owner,
        no_acl: request.no_acl,
        tables: request.tables.clone(),
        ..RestoreOptions::default()
    }
}

/// The way to a database of the target's server that is there before the new one, and the programs for it.
fn administration_of(
    target: &Settings,
    runtime: &Handle,
) -> Result<(Settings, Programs), DatabaseError> {
    let (admin, major) = administration(target, runtime)?;
    let environment = |name: &str| std::env::var_os(name);
    let programs = Programs::reaching(&admin, major, &environment)?;
    Ok((admin, programs))
}

/// Has `take` read what `send` writes. What `take` leaves is not written any more.
fn piped<T>(
    send: impl FnOnce(&mut PipeWriter) -> Result<(), StreamError> + Send,
    take: impl FnOnce(&mut dyn Read) -> Result<T, RestoreError>,
) -> Result<T, DatabaseError> {
    let (mut from, mut to) = std::io::pipe().map_err(DatabaseError::Pipe)?;
    std::thread::scope(|scope| {
        // The pipe goes with the thread, which tells the other side that this is all.
        let sender = scope.spawn(move || send(&mut to));
        let taken = take(&mut from);
        drop(from);
        match (
            sender.join().expect("no thread panics while it reads"),
            taken,
        ) {
            // The repository's fault is the cause, whatever the server made of it.
            (Err(StreamError::Read(error)), _) => Err(error.into()),
            (_, taken) => Ok(taken?),
        }
    })
}

/// Bytes of the rows and large objects that are read for these tables; for all, without any.
fn bytes_of(parts: &StoredParts, tables: &[String]) -> u64 {
    let wanted = parts
        .parts
        .tables
        .iter()
        .filter(|part| tables.is_empty() || tables.contains(&part.path()));
    let rows: u64 = wanted
        .filter_map(|part| part.digest)
        .map(|digest| digest.len_bytes)
        .sum();
    let objects = parts.parts.large_objects.iter();
    let large: u64 = objects.map(|part| part.len_bytes).sum();
    rows + if tables.is_empty() { large } else { 0 }
}

fn with_doubt(mut warnings: Vec<String>, stored: &StoredDatabase<'_>) -> Vec<String> {
    if stored.facts.is_none() {
        warnings.push(
            "The snapshot does not say in words known here how the database was made: the new one has the server's \
             usual encoding, locale and settings."
                .to_owned(),
        );
    }
    warnings
}

/// How a whole database is written as one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DumpFormat {
    /// SQL that `psql` loads.
    Plain,
    /// An archive that `pg_restore` loads.
    Custom,
}

/// Writes the database `source` of a snapshot as one file, without a server. To make SQL of one archive takes `pg_restore`.
///
/// # Errors
/// When the snapshot has no such database, no program that would be needed is there, `stop` is set, or `out` takes no
/// more; then a part may have been written.
pub fn dump_database(
    repository: &Repository,
    snapshot: &Snapshot,
    source: &str,
    format: DumpFormat,
    stop: &AtomicBool,
    out: &mut dyn Write,
) -> Result<(), DatabaseError> {
    let stored = StoredDatabase::find(repository, snapshot, Some(source))?;
    let parts = match &stored.form {
        Form::Archive(archive) if format == DumpFormat::Custom => {
            return stored
                .reader()
                .copy_to(archive, out)
                .map_err(|error| match error {
                    StreamError::Read(error) => error.into(),
                    StreamError::Write(error) => DatabaseError::Write(error),
                });
        }
        Form::Archive(archive) => return plain(&stored, archive, stop, out),
        Form::Parts(parts) => parts,
    };
    let content = |wanted: Wanted<'_>, out: &mut dyn Write| stored.write(parts, wanted, out);
    let mut schema = stored.schema(parts)?;
    let written = match format {
        DumpFormat::Plain => {
            let options = ScriptOptions::default();
            write_script(&mut schema, &parts.parts, &content, &options, out)
        }
        DumpFormat::Custom => write_archive(&mut schema, &parts.parts, &content, out),
    };
    parts.judge(written.map_err(|error| match error {
        AssemblyError::Write(error) => DatabaseError::Write(error),
        error => error.into(),
    }))
}

/// Has `pg_restore` make SQL of an archive.
fn plain(
    stored: &StoredDatabase<'_>,
    archive: &StreamRef,
    stop: &AtomicBool,
    out: &mut dyn Write,
) -> Result<(), DatabaseError> {
    let environment = |name: &str| std::env::var_os(name);
    let (mut from, mut to) = std::io::pipe().map_err(DatabaseError::Pipe)?;
    std::thread::scope(|scope| {
        // What it holds of the pipe goes with it, which tells the other side that this is all.
        let sender = scope.spawn(move || stored.reader().copy_to(archive, &mut to));
        let written = write_plain(&mut from, &environment, stop, out);
        drop(from);
        match (
            sender.join().expect("no thread panics while it reads"),
            written,
        ) {
            // The repository's fault is the cause, whatever was made of half an archive.
            (Err(StreamError::Read(error)), _) => Err(error.into()),
            (_, Err(PlainError::Write(error))) => Err(DatabaseError::Write(error)),
            (_, written) => Ok(written?),
        }
    })
}

/// Tells whoever watches how much went through.
struct Told<'a, W> {
    to: W,
    progress: &'a dyn Progress,
}

impl<W: Write> Write for Told<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let count = self.to.write(bytes)?;
        self.progress.count(Counter::Bytes, count as u64);
        Ok(count)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.to.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Watcher;

    #[test]
    fn what_goes_into_the_pipe_is_told_as_it_is_taken() {
        let (watcher, mut room) = (Watcher::default(), [0; 5]);
        let mut told = Told {
            to: room.as_mut_slice(),
            progress: &watcher,
        };
        assert_eq!(told.write(b"abc").unwrap(), 3);
        assert_eq!(told.write(b"defg").unwrap(), 2, "there is no more room");
        assert_eq!(watcher.amounts(Counter::Bytes), [3, 2]);
        assert_eq!(&room, b"abcde");
    }
}
