//! What a put writes.
//!
//! A body has a known length and can be read again from its beginning as often as needed, so that
//! a put can be retried and a doubtful one compared with what the store holds.
//!
//! **Invariant:** reading a body never moves a file's cursor; two threads may read the same body.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// The bytes of an object to be.
#[derive(Clone, Copy, Debug)]
pub enum Body<'a> {
    /// Bytes in memory.
    Bytes(&'a [u8]),
    /// The first `len` bytes of a file that nobody changes from now on.
    ///
    /// A file from [`spool`](fn@crate::spool) may *become* the object instead of being copied. Its
    /// handle is then a handle of the object: whoever wrote to it afterwards would change the
    /// object.
    File {
        /// The file; its cursor is neither used nor moved.
        file: &'a File,
        /// How many bytes of the file, from its beginning, are the body.
        len: u64,
    },
}

impl Body<'_> {
    /// The number of bytes.
    pub fn len(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::File { len, .. } => *len,
        }
    }

    /// Whether there are no bytes at all.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Fills `into` with the bytes from `offset` on.
    ///
    /// A range that does not lie within the body is an error of kind
    /// [`UnexpectedEof`](io::ErrorKind::UnexpectedEof).
    pub fn read_exact_at(&self, into: &mut [u8], offset: u64) -> io::Result<()> {
        let end = offset.checked_add(into.len() as u64);
        if end.is_none_or(|end| end > self.len()) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        match self {
            Self::Bytes(bytes) => {
                // Both fit `usize`: the range was just found to lie within a slice.
                let start = usize::try_from(offset).expect("the offset lies within a slice");
                into.copy_from_slice(&bytes[start..start + into.len()]);
                Ok(())
            }
            Self::File { file, .. } => file.read_exact_at(into, offset),
        }
    }
}

impl<'a> From<&'a [u8]> for Body<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        Self::Bytes(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Seek, Write};

    #[test]
    fn a_file_body_is_read_without_its_cursor_and_only_to_its_length() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"0123456789").unwrap();
        let cursor = file.stream_position().unwrap();
        let body = Body::File {
            file: &file,
            len: 8,
        };
        let mut part = [0; 4];
        body.read_exact_at(&mut part, 4).unwrap();
        assert_eq!(&part, b"4567");
        let past_the_end = body.read_exact_at(&mut part, 5).unwrap_err();
        assert_eq!(past_the_end.kind(), io::ErrorKind::UnexpectedEof);
        assert_eq!((&file).stream_position().unwrap(), cursor);
    }

    #[test]
    fn bytes_and_files_answer_alike() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"abc").unwrap();
        for body in [
            Body::Bytes(b"abc"),
            Body::File {
                file: &file,
                len: 3,
            },
        ] {
            let mut all = [0; 3];
            body.read_exact_at(&mut all, 0).unwrap();
            assert_eq!((&all, body.len()), (b"abc", 3));
            body.read_exact_at(&mut [], 3).unwrap();
            assert!(body.read_exact_at(&mut [], 4).is_err());
            assert!(body.read_exact_at(&mut [0], u64::MAX).is_err());
        }
    }
}
