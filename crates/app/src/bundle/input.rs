//! What a bundle is read from: a source of which the next bytes can be looked at before they are taken.

use std::io::{self, Read};

use lifeboat_repository::WriteError;

/// Bytes that are asked for at once.
const READ_BYTES: usize = 256 << 10;

pub(super) struct Input<'s> {
    source: &'s mut dyn Read,
    held: Vec<u8>,
    /// What of those was taken.
    start: usize,
    has_ended: bool,
}

impl<'s> Input<'s> {
    pub(super) fn new(source: &'s mut dyn Read) -> Self {
        Self {
            source,
            held: Vec::new(),
            start: 0,
            has_ended: false,
        }
    }

    /// Reads until at least `count` bytes can be looked at, or the source ends.
    pub(super) fn fill(&mut self, count: usize) -> Result<(), WriteError> {
        self.try_fill(count).map_err(WriteError::Source)
    }

    pub(super) fn try_fill(&mut self, count: usize) -> io::Result<()> {
        if self.held().len() >= count || self.has_ended {
            return Ok(());
        }
        // Not for each few bytes that are taken.
        if self.start >= self.held.len() / 2 {
            self.held.drain(..self.start);
            self.start = 0;
        }
        let end = self.start + count;
        while self.held.len() < end && !self.has_ended {
            let length = self.held.len();
            self.held
                .resize(length + READ_BYTES.min(end - length).max(4096), 0);
            let read = self.source.read(&mut self.held[length..]);
            let kept = length + *read.as_ref().unwrap_or(&0);
            self.held.truncate(kept);
            match read {
                Ok(0) => self.has_ended = true,
                Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    /// The next bytes, as many as are there.
    pub(super) fn held(&self) -> &[u8] {
        &self.held[self.start..]
    }

    /// Takes bytes that can be looked at.
    pub(super) fn skip(&mut self, count: usize) {
        self.start += count;
        debug_assert!(self.start <= self.held.len(), "only what is there is taken");
    }

    /// Takes all that can be looked at.
    pub(super) fn take_held(&mut self) -> Vec<u8> {
        let mut held = std::mem::take(&mut self.held);
        held.drain(..std::mem::take(&mut self.start));
        held
    }
}

impl Read for Input<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let held = self.held();
        if held.is_empty() {
            return if self.has_ended {
                Ok(0)
            } else {
                self.source.read(buffer)
            };
        }
        let count = held.len().min(buffer.len());
        buffer[..count].copy_from_slice(&held[..count]);
        self.skip(count);
        if self.held().is_empty() {
            (self.held, self.start) = (Vec::new(), 0);
        }
        Ok(count)
    }
}

/// So many of the next bytes.
pub(super) struct Next<'i, 's> {
    pub(super) input: &'i mut Input<'s>,
    pub(super) left: u64,
}

impl Read for Next<'_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let room = usize::try_from(self.left).map_or(buffer.len(), |left| left.min(buffer.len()));
        let count = self.input.read(&mut buffer[..room])?;
        self.left -= count as u64;
        Ok(count)
    }
}
