//! The data behind the table of contents: one block an entry, in portions.

use std::io::{self, Write};

use super::{BLOCK_DATA, BLOCK_LARGE_OBJECTS, wire::put_integer};

const PORTION_LEN_BYTES: usize = 64 << 10;

/// Begins the data of the entry `id`.
pub(crate) fn start_data(out: &mut dyn Write, id: i32) -> io::Result<()> {
    start(out, BLOCK_DATA, id)
}

/// Begins the entry `id` of large objects, each of which [`start_large_object`] begins.
pub(crate) fn start_large_objects(out: &mut dyn Write, id: i32) -> io::Result<()> {
    start(out, BLOCK_LARGE_OBJECTS, id)
}

/// Begins the large object of this number.
pub(crate) fn start_large_object(out: &mut dyn Write, oid: u32) -> io::Result<()> {
    // A number above 2^31 is written as the signed integer of the same bits.
    integer(out, oid.cast_signed())
}

/// Ends an entry of large objects.
pub(crate) fn end_large_objects(out: &mut dyn Write) -> io::Result<()> {
    integer(out, 0)
}

fn start(out: &mut dyn Write, kind: u8, id: i32) -> io::Result<()> {
    out.write_all(&[kind])?;
    integer(out, id)
}

fn integer(out: &mut dyn Write, value: i32) -> io::Result<()> {
    let mut bytes = Vec::with_capacity(5);
    put_integer(&mut bytes, value);
    out.write_all(&bytes)
}

/// Cuts what is written into portions; [`finish`](Self::finish) ends them.
pub(crate) struct Portions<'a> {
    out: &'a mut dyn Write,
    portion: Vec<u8>,
}

impl<'a> Portions<'a> {
    pub(crate) fn new(out: &'a mut dyn Write) -> Self {
        Self {
            out,
            portion: Vec::with_capacity(PORTION_LEN_BYTES),
        }
    }

    pub(crate) fn finish(mut self) -> io::Result<()> {
        self.put()?;
        integer(self.out, 0)
    }

    /// Writes the portion at hand. An empty one would be the end.
    fn put(&mut self) -> io::Result<()> {
        if !self.portion.is_empty() {
            integer(self.out, self.portion.len() as i32)?;
            self.out.write_all(&self.portion)?;
            self.portion.clear();
        }
        Ok(())
    }
}

impl Write for Portions<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(PORTION_LEN_BYTES - self.portion.len());
        self.portion.extend_from_slice(&bytes[..taken]);
        if self.portion.len() == PORTION_LEN_BYTES {
            self.put()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
