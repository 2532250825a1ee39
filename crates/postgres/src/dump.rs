//! A whole database as one stream: `pg_dump --format=custom --compress=0` at a held moment.
//!
//! Uncompressed, because compression comes after deduplication. The stream is right only if everything agrees at the
//! end: the program exited with 0, and the archive was seen to be complete. Until [`Dump::finish`] has said so nothing
//! of it may be believed; a reader that only looks for the end of the stream gets an error instead of the end.

use std::{
    io::{self, Read},
    os::fd::{AsFd, BorrowedFd},
    process::{ChildStdout, Command, Stdio},
    time::Duration,
};

use crate::{
    archive::{ArchiveEntry, ArchiveError, ArchiveScanner, ArchiveSummary},
    child::{self, ProgramError, Running},
    connect::QueryError,
    identity::IdentityError,
    moment::{Moment, MomentError, by_whom},
    programs::{ProgramVersion, Programs},
    quote,
    table_plan::{TablePlanError, skipped_tables},
};

/// How a dump is taken.
#[derive(Clone, Debug)]
pub struct DumpOptions {
    /// Tables whose rows are left out, as `schema.table`; a partitioned table stands for all its partitions.
    pub skip_data: Vec<String>,
    /// How long `pg_dump` waits for a lock of its own. The moment holds all tables already, so it waits only behind
    /// somebody who queues for one.
    pub lock_wait: Duration,
}

impl Default for DumpOptions {
    fn default() -> Self {
        Self {
            skip_data: Vec::new(),
            lock_wait: Duration::from_secs(60),
        }
    }
}

/// Why there is no dump, or no good one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DumpError {
    /// The child programs do not reach the database of the moment.
    #[error("the dump would not be of the database that was looked at")]
    Identity(#[from] IdentityError),
    /// `skip_data` names what is not there.
    #[error(transparent)]
    Tables(#[from] TablePlanError),
    /// `pg_dump` could not be run, or did not end well.
    #[error("the dump failed")]
    Program(#[from] ProgramError),
    /// `pg_dump` said that all is well, and its output is not a complete archive.
    #[error("the dump is not complete")]
    Archive(#[from] ArchiveError),
    /// The archive is compressed, against what was asked for.
    #[error("pg_dump compressed its output although it was told not to")]
    Compressed,
    /// The archive is of a newer format than is known here.
    #[error(
        "pg_dump wrote an archive of format 1.{format_minor}, which is newer than what is known here"
    )]
    Unknown {
        /// The minor version of the format.
        format_minor: u8,
    },
    /// What would have to be written again is in no encoding that is read here.
    #[error("pg_dump wrote names that are not UTF-8")]
    Encoding,
    /// `pg_dump` leaves large objects out, or tells of some that are not there.
    #[error("pg_dump tells of {told} large objects, and the database has {there}")]
    LargeObjects {
        /// How many it tells of.
        told: usize,
        /// How many there are at the moment.
        there: u64,
    },
    /// The program waits for somebody who may wait for the moment's end.
    #[error("pg_dump stands behind a lock{}", by_whom(holder.as_deref()))]
    Lock {
        /// Who holds it or waits for it, as far as the server tells.
        holder: Option<String>,
    },
    /// The server did not say whether the program waits.
    #[error(transparent)]
    Query(#[from] QueryError),
    /// The moment was lost while the dump ran.
    #[error("the server went away, or ended the session, while the dump ran")]
    Moment(#[from] MomentError),
    /// The stream was not read to its end.
    #[error("the dump was given up before its end")]
    GivenUp,
}

/// What a good dump was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DumpReport {
    /// Bytes of the archive.
    pub len_bytes: u64,
    /// What its head and table of contents say.
    pub archive: ArchiveSummary,
    /// The `pg_dump` that made it.
    pub program: ProgramVersion,
    /// What `pg_dump` wrote to standard error although it succeeded, line by line.
    pub warnings: Vec<String>,
}

/// Sees the rows of one table after the other, in portions of any size, each with the table's place in the list.
pub type RowsWatcher<'a> = dyn FnMut(usize, &[u8]) + Send + 'a;

/// A dump under way: read it to its end, then [`finish`](Self::finish) it. Dropping it ends the program.
pub struct Dump<'a> {
    output: Output,
    /// Who sees the rows of watched tables.
    rows: Option<Box<RowsWatcher<'a>>>,
    moment: &'a Moment,
}

impl<'a> Dump<'a> {
    /// Starts `pg_dump` at the moment, after `psql` has shown that the programs reach the same database.
    pub fn start(
        moment: &'a Moment,
        programs: &Programs,
        options: &DumpOptions,
    ) -> Result<Self, DumpError> {
        let skipped = skipped_tables(moment.facts(), &options.skip_data)?;
        moment.identity().confirm(moment.settings(), programs)?;
        let mut command = command(moment, programs, options.lock_wait);
        command.args(skipped.iter().map(|table| {
            // A quoted name, so that nothing in it is a wildcard.
            let name = quote::qualified(&table.schema, &table.name);
            format!("--exclude-table-data={name}")
        }));
        Ok(Self {
            output: Output::start(command, programs)?,
            rows: None,
            moment,
        })
    }

    /// Shows the rows of these tables, given by schema and name, to `rows` while the dump is read: in the text form of
    /// `COPY`, as [`CopyFields`](crate::CopyFields) takes them. To be called before the first byte is read.
    pub fn watch(&mut self, tables: Vec<(String, String)>, rows: Box<RowsWatcher<'a>>) {
        self.output.scanner.watch(tables);
        self.rows = Some(rows);
    }

    /// How many bytes have been read.
    pub fn len_bytes(&self) -> u64 {
        self.output.len_bytes
    }

    /// Judges the dump after its end was read: only `Ok` makes the bytes that were read a dump.
    pub fn finish(self) -> Result<DumpReport, DumpError> {
        match self.output.finish() {
            // What `pg_dump` says when the server goes is the consequence.
            judged @ (Ok(_) | Err(DumpError::Program(_))) => {
                self.moment.check()?;
                judged
            }
            judged => judged,
        }
    }
}

impl AsFd for Dump<'_> {
    /// The handle on which the next bytes arrive, to wait for them.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.output.as_fd()
    }
}

impl Read for Dump<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &mut self.rows {
            Some(rows) => self.output.read_watched(buffer, rows),
            None => self.output.read(buffer),
        }
    }
}

/// What every dump at a moment is asked for.
pub(crate) fn command(moment: &Moment, programs: &Programs, lock_wait: Duration) -> Command {
    let settings = moment.settings();
    let mut command = child::command(&programs.program("pg_dump"), Some(settings));
    command
        .args(["--format=custom", "--compress=0", "--no-password"])
        .arg(format!("--snapshot={}", moment.snapshot()))
        .arg(format!(
            "--lock-wait-timeout={}",
            lock_wait.as_millis().max(1)
        ))
        .arg("--dbname")
        .arg(settings.conninfo());
    if programs.version().major != moment.facts().server.major() {
        // A word that is reserved in one version only would otherwise stand unquoted.
        command.arg("--quote-all-identifiers");
    }
    command
}

/// The archive that a running `pg_dump` writes, followed as it is read. Dropping it ends the program.
pub(crate) struct Output {
    // Closed before the program is waited for: a program that still writes would otherwise wait for us.
    stdout: ChildStdout,
    running: Running,
    scanner: ArchiveScanner,
    len_bytes: u64,
    program: ProgramVersion,
    /// How the program ended, once the end of the stream was met: what it wrote to standard error.
    ended: Option<Result<String, ProgramError>>,
    damage: Option<ArchiveError>,
}

impl Output {
    pub(crate) fn start(mut command: Command, programs: &Programs) -> Result<Self, DumpError> {
        command.stdout(Stdio::piped());
        let mut running = Running::start_as("pg_dump", command)?;
        let stdout = running
            .child()
            .stdout
            .take()
            .expect("standard output is a pipe");
        Ok(Self {
            running,
            stdout,
            scanner: ArchiveScanner::new(),
            len_bytes: 0,
            program: programs.version(),
            ended: None,
            damage: None,
        })
    }

    /// An error of waiting for the program.
    pub(crate) fn contact(&self, source: io::Error) -> ProgramError {
        self.running.contact(source)
    }

    /// Whether the table of contents has passed.
    pub(crate) fn knows_contents(&self) -> bool {
        self.scanner.knows_contents()
    }

    /// The table of contents, once all of it has passed; nothing for a format that is not known.
    pub(crate) fn contents(&self) -> Option<&[ArchiveEntry]> {
        self.scanner.contents()
    }

    /// Whether all texts that have passed are in UTF-8.
    pub(crate) fn is_exact(&self) -> bool {
        self.scanner.is_exact()
    }

    /// As [`Dump::finish`], but for the moment, of which nothing is known here.
    pub(crate) fn finish(self) -> Result<DumpReport, DumpError> {
        self.complete().map(|(report, _)| report)
    }

    /// The same, with the table of contents.
    pub(crate) fn complete(self) -> Result<(DumpReport, Vec<ArchiveEntry>), DumpError> {
        let Self {
            stdout,
            mut running,
            scanner,
            ended,
            damage,
            ..
        } = self;
        drop(stdout);
        let stderr = match ended {
            Some(ended) => ended?,
            None => {
                running.kill();
                return Err(damage.map_or(DumpError::GivenUp, DumpError::Archive));
            }
        };
        let (archive, contents) = scanner.complete()?;
        if archive.head.compressed {
            return Err(DumpError::Compressed);
        }
        let report = DumpReport {
            len_bytes: self.len_bytes,
            archive,
            program: self.program,
            warnings: stderr.lines().map(ToOwned::to_owned).collect(),
        };
        Ok((report, contents))
    }

    /// What a reader gets in place of the end of the stream when the dump is no good.
    fn end(&mut self) -> io::Result<usize> {
        let ended = self.ended.get_or_insert_with(|| self.running.wait());
        match ended {
            Ok(_) => Ok(0),
            Err(error) => Err(io::Error::other(error.to_string())),
        }
    }
}

impl AsFd for Output {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stdout.as_fd()
    }
}

impl Read for Output {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.read_watched(buffer, &mut |_, _| ())
    }
}

impl Output {
    /// Reads, and shows what was read of the tables that the scanner watches.
    fn read_watched(&mut self, buffer: &mut [u8], rows: &mut RowsWatcher<'_>) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        if let Some(damage) = &self.damage {
            return Err(io::Error::other(damage.clone()));
        }
        let count = self.stdout.read(buffer)?;
        if count == 0 {
            return self.end();
        }
        self.len_bytes += count as u64;
        if let Err(damage) = self.scanner.feed_watched(&buffer[..count], rows) {
            self.damage = Some(damage.clone());
            return Err(io::Error::other(damage));
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests;
