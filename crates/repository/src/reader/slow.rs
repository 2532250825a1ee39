//! A stream as something to read from, chunk by chunk: for what is wanted a little at a time.

use std::io::{self, Read};

use lifeboat_codec::{ChunkItem, StreamRef};

use super::Reader;
use crate::repository::ReadError;

/// A stream that is read chunk by chunk. An error has the [`ReadError`] within.
pub struct ChunkReader<'r> {
    reader: &'r Reader<'r>,
    items: std::vec::IntoIter<ChunkItem>,
    chunk: Vec<u8>,
    at: usize,
}

impl<'r> Reader<'r> {
    /// Begins to read a stream.
    ///
    /// # Errors
    /// When its chunk list cannot be read.
    pub fn read(&'r self, stream: &StreamRef) -> Result<ChunkReader<'r>, ReadError> {
        Ok(ChunkReader {
            reader: self,
            items: self.chunks(stream)?.into_iter(),
            chunk: Vec::new(),
            at: 0,
        })
    }
}

impl Read for ChunkReader<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.at == self.chunk.len() {
            let Some(item) = self.items.next() else {
                return Ok(0);
            };
            self.chunk = self.reader.chunk(&item).map_err(io::Error::other)?;
            self.at = 0;
        }
        let count = into.len().min(self.chunk.len() - self.at);
        into[..count].copy_from_slice(&self.chunk[self.at..self.at + count]);
        self.at += count;
        Ok(count)
    }
}
