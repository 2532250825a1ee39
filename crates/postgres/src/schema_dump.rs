//! A database's schema at a moment: `pg_dump`'s archive of the two sections that are not rows.
//!
//! `pg_dump` asks for locks of its own, and whoever queues for an exclusive one stands in its way although he waits for
//! the moment's holder. It waits a moment for a table. For anything else, a view for instance, it would wait without
//! end; so while it is silent the holder's session looks whether it waits. Invariant: when there is a [`SchemaDump`],
//! its first bytes have come, and the program asks the server for nothing more.
//!
//! From 17 on `pg_dump` counts what it tells of large objects among the data. Of a database that has any, that comes from
//! a second run ([`objects`]), and the two archives are made one in memory, which holds a table of contents anyway.

use std::{
    io::{self, Read},
    sync::atomic::{AtomicBool, Ordering},
    time::Instant,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
};

mod objects;

use crate::{
    archive::ArchiveEntry,
    child::ProgramError,
    dump::{DumpError, DumpReport, Output, command},
    moment::{LATE_LOCK_WAIT, Moment},
    programs::Programs,
};

/// How soon the wish to stop is noticed.
const SLICE: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 50_000_000,
};
const BLOCK_LEN_BYTES: usize = 64 << 10;

/// A schema under way: read it to its end, then [`finish`](Self::finish) it. Dropping it ends the program.
pub struct SchemaDump<'a> {
    content: Content,
    /// The first bytes.
    ahead: Vec<u8>,
    /// How many of them have been given out.
    used: usize,
    stop: &'a AtomicBool,
}

/// Where a schema's bytes come from.
enum Content {
    /// From the program, after the first.
    Passing(Box<Output>),
    /// They are all there, put together of two runs.
    Joined(DumpReport),
}

impl<'a> SchemaDump<'a> {
    /// Starts `pg_dump` at the moment and waits until it has all that it needs of the server.
    ///
    /// # Errors
    /// [`DumpError::Lock`] when somebody stands in its way: then the moment must be let go for him, or he waits for ever.
    /// Others when the program reaches another database or fails, or when `stop` is set.
    pub fn start(
        moment: &Moment,
        programs: &Programs,
        stop: &'a AtomicBool,
    ) -> Result<Self, DumpError> {
        let sections = ["--section=pre-data", "--section=post-data"];
        let (output, ahead) = begin(moment, programs, &sections, stop)?;
        let (content, ahead) = if objects::are_among_data(moment, programs) {
            let (report, bytes) = join(output, moment, programs, stop)?;
            (Content::Joined(report), bytes)
        } else {
            (Content::Passing(Box::new(output)), ahead)
        };
        // Only now: until the program has its locks every moment counts.
        moment.identity().confirm(moment.settings(), programs)?;
        Ok(Self {
            content,
            ahead,
            used: 0,
            stop,
        })
    }

    /// Judges the archive after its end was read: only `Ok` makes the bytes that were read the schema.
    ///
    /// # Errors
    /// When the program failed, or the archive is not whole or of a format that is not known.
    pub fn finish(self) -> Result<DumpReport, DumpError> {
        match self.content {
            Content::Passing(output) => followed(*output).map(|(report, _)| report),
            Content::Joined(_) if self.used < self.ahead.len() => Err(DumpError::GivenUp),
            Content::Joined(report) => Ok(report),
        }
    }
}

/// Starts `pg_dump` with these arguments beside those of every dump, and waits for its first bytes.
fn begin(
    moment: &Moment,
    programs: &Programs,
    arguments: &[&str],
    stop: &AtomicBool,
) -> Result<(Output, Vec<u8>), DumpError> {
    let name = moment.schema_session();
    let mut command = command(moment, programs, LATE_LOCK_WAIT);
    command.args(arguments).env("PGAPPNAME", &name);
    let mut output = Output::start(command, programs)?;
    let mut looked = Instant::now();
    let mut was_waiting = false;
    while !is_ready(&output, stop)? {
        if looked.elapsed() >= LATE_LOCK_WAIT {
            let waits = moment.waits_for_lock(&name)?;
            if waits && was_waiting {
                return Err(lock(moment)?);
            }
            was_waiting = waits;
            looked = Instant::now();
        }
    }
    let mut ahead = vec![0; BLOCK_LEN_BYTES];
    match output.read(&mut ahead) {
        Ok(count) => ahead.truncate(count),
        // What the program said is the reason; the stream only broke.
        Err(_) => {
            return Err(match output.finish() {
                Err(DumpError::Program(ProgramError::Failed { stderr, .. }))
                    if stderr.contains("LOCK TABLE ") =>
                {
                    lock(moment)?
                }
                Err(error) => error,
                Ok(_) => DumpError::GivenUp,
            });
        }
    }
    Ok((output, ahead))
}

/// Waits a little for the next bytes or the end.
fn is_ready(output: &Output, stop: &AtomicBool) -> Result<bool, DumpError> {
    if stop.load(Ordering::Relaxed) {
        return Err(DumpError::Program(ProgramError::Stopped {
            program: "pg_dump".to_owned(),
        }));
    }
    let mut handles = [PollFd::new(output, PollFlags::IN)];
    match poll(&mut handles, Some(&SLICE)) {
        Ok(count) => Ok(count != 0),
        Err(Errno::INTR) => Ok(false),
        Err(errno) => Err(DumpError::Program(output.contact(errno.into()))),
    }
}

/// Reads on in slices; whether there may be more. What broke the stream is told when it is judged.
fn read_on(output: &mut Output, stop: &AtomicBool) -> Result<bool, DumpError> {
    while !is_ready(output, stop)? {}
    let mut block = [0; BLOCK_LEN_BYTES];
    Ok(matches!(output.read(&mut block), Ok(1..)))
}

/// Judges an archive of a schema whose end was read.
fn followed(output: Output) -> Result<(DumpReport, Vec<ArchiveEntry>), DumpError> {
    let (report, contents) = output.complete()?;
    if !report.archive.followed_to_the_end {
        return Err(DumpError::Unknown {
            format_minor: report.archive.head.format_minor,
        });
    }
    Ok((report, contents))
}

/// Reads the rest of the schema's archive, and what is told of the large objects, and makes one archive of both.
fn join(
    mut output: Output,
    moment: &Moment,
    programs: &Programs,
    stop: &AtomicBool,
) -> Result<(DumpReport, Vec<u8>), DumpError> {
    while read_on(&mut output, stop)? {}
    let is_exact = output.is_exact();
    let (mut report, contents) = followed(output)?;
    let objects = objects::read(moment, programs, stop)?;
    // What was not understood to the letter cannot be written again.
    if !is_exact {
        return Err(DumpError::Encoding);
    }
    let contents = objects::join(contents, objects);
    let bytes = report.archive.head.encode(contents.iter())?;
    report.archive.entries = contents.len() as u64;
    report.len_bytes = bytes.len() as u64;
    Ok((report, bytes))
}

fn lock(moment: &Moment) -> Result<DumpError, DumpError> {
    Ok(DumpError::Lock {
        holder: moment.in_the_way()?,
    })
}

impl Read for SchemaDump<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let rest = &self.ahead[self.used..];
        if !rest.is_empty() {
            let count = rest.len().min(buffer.len());
            buffer[..count].copy_from_slice(&rest[..count]);
            self.used += count;
            return Ok(count);
        }
        let Content::Passing(output) = &mut self.content else {
            return Ok(0);
        };
        while !is_ready(output, self.stop).map_err(io::Error::other)? {}
        output.read(buffer)
    }
}

#[cfg(test)]
mod tests;
