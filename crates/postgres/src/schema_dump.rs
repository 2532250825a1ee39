//! A database's schema at a moment: `pg_dump`'s archive of the two sections that are not rows.
//!
//! `pg_dump` asks for locks of its own, and whoever queues for an exclusive one stands in its way although he waits for
//! the moment's holder. It waits a moment for a table. For anything else, a view for instance, it would wait without
//! end; so while it is silent the holder's session looks whether it waits. Invariant: when there is a [`SchemaDump`],
//! its first bytes have come, and the program asks the server for nothing more.

use std::{
    io::{self, Read},
    sync::atomic::{AtomicBool, Ordering},
    time::Instant,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
};

use crate::{
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
    output: Output,
    /// The first bytes.
    ahead: Vec<u8>,
    /// How many of them have been given out.
    used: usize,
    stop: &'a AtomicBool,
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
        let name = moment.schema_session();
        let mut command = command(moment, programs, LATE_LOCK_WAIT);
        command
            .args(["--section=pre-data", "--section=post-data"])
            .env("PGAPPNAME", &name);
        let mut schema = Self {
            output: Output::start(command, programs)?,
            ahead: Vec::new(),
            used: 0,
            stop,
        };
        let mut looked = Instant::now();
        let mut was_waiting = false;
        while !schema.is_ready()? {
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
        match schema.output.read(&mut ahead) {
            Ok(count) => ahead.truncate(count),
            // What the program said is the reason; the stream only broke.
            Err(_) => {
                return Err(match schema.output.finish() {
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
        schema.ahead = ahead;
        // Only now: until the program has its locks every moment counts.
        moment.identity().confirm(moment.settings(), programs)?;
        Ok(schema)
    }

    /// Judges the archive after its end was read: only `Ok` makes the bytes that were read the schema.
    ///
    /// # Errors
    /// When the program failed, or the archive is not whole or of a format that is not known.
    pub fn finish(self) -> Result<DumpReport, DumpError> {
        let report = self.output.finish()?;
        if !report.archive.followed_to_the_end {
            return Err(DumpError::Unknown {
                format_minor: report.archive.head.format_minor,
            });
        }
        Ok(report)
    }

    /// Waits a little for the next bytes or the end.
    fn is_ready(&self) -> Result<bool, DumpError> {
        if self.stop.load(Ordering::Relaxed) {
            return Err(DumpError::Program(ProgramError::Stopped {
                program: "pg_dump".to_owned(),
            }));
        }
        let mut handles = [PollFd::new(&self.output, PollFlags::IN)];
        match poll(&mut handles, Some(&SLICE)) {
            Ok(count) => Ok(count != 0),
            Err(Errno::INTR) => Ok(false),
            Err(errno) => Err(DumpError::Program(self.output.contact(errno.into()))),
        }
    }
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
        while !self.is_ready().map_err(io::Error::other)? {}
        self.output.read(buffer)
    }
}

#[cfg(test)]
mod tests;
