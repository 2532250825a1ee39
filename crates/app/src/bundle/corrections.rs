//! How the corrections of a deflate stream stand in one stream, piece behind piece (`docs/format.md` §7).

use std::io::{self, Read};

use lifeboat_codec::{FormatError, put_varint};
use lifeboat_repository::ReadError;

use super::deflate::{Fresh, Head, TEXT_REFUSED};
use crate::entry::wrong;

const FRESH: u64 = 1;
const SAMPLE: u64 = 2;
const LAST: u64 = 4;

/// Appends a piece.
pub(super) fn put_head(out: &mut Vec<u8>, head: &Head) {
    let mut flags = 0;
    if let Some(fresh) = head.fresh {
        flags |= FRESH | u64::from(fresh.tail) << 3;
        if fresh.has_sample {
            flags |= SAMPLE;
        }
    }
    if head.is_last {
        flags |= LAST;
    }
    put_varint(out, flags);
    put_varint(out, head.text_bytes as u64);
    put_varint(out, head.bits as u64);
    put_varint(out, head.corrections.len() as u64);
    out.extend_from_slice(&head.corrections);
}

/// The pieces of a stream of corrections.
pub(super) struct Heads<R> {
    from: R,
}

impl<R: Read> Heads<R> {
    pub(super) fn new(from: R) -> Self {
        Self { from }
    }

    /// The next piece; none at the end.
    pub(super) fn next(&mut self) -> Result<Option<Head>, ReadError> {
        let Some(flags) = self.number()? else {
            return Ok(None);
        };
        let mut more = || self.number()?.ok_or_else(truncated);
        let (text, bits, length) = (more()?, more()?, more()?);
        let tail = flags >> 3;
        let is_fresh = flags & FRESH != 0;
        // What a piece holds and what it makes are bounded by what may be in memory.
        let most = TEXT_REFUSED as u64;
        let is_odd = tail > 127 || (!is_fresh && (tail > 0 || flags & SAMPLE != 0));
        if is_odd || text > most || bits > 16 * most || length > most {
            return Err(invalid());
        }
        let mut corrections = vec![0; length as usize];
        self.from.read_exact(&mut corrections).map_err(failed)?;
        Ok(Some(Head {
            text_bytes: text as usize,
            bits: bits as usize,
            fresh: is_fresh.then_some(Fresh {
                has_sample: flags & SAMPLE != 0,
                tail: tail as u8,
            }),
            is_last: flags & LAST != 0,
            corrections,
        }))
    }

    /// A varint; none at the end.
    fn number(&mut self) -> Result<Option<u64>, ReadError> {
        let (mut value, mut shift) = (0_u64, 0);
        loop {
            let mut byte = [0];
            match self.from.read(&mut byte) {
                Ok(0) if shift == 0 => return Ok(None),
                Ok(0) => return Err(truncated()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(failed(error)),
            }
            // Nothing here is longer than five groups.
            if shift > 28 {
                return Err(invalid());
            }
            value |= u64::from(byte[0] & 127) << shift;
            if byte[0] < 128 {
                return Ok(Some(value));
            }
            shift += 7;
        }
    }
}

fn invalid() -> ReadError {
    wrong(FormatError::Invalid(
        "corrections of a bundle make no sense",
    ))
}

fn truncated() -> ReadError {
    wrong(FormatError::Truncated("the corrections of a bundle"))
}

/// A chunk that cannot be read says so itself.
pub(super) fn failed(error: io::Error) -> ReadError {
    let inner = error
        .into_inner()
        .map(|inner| inner.downcast::<ReadError>());
    match inner {
        Some(Ok(error)) => *error,
        _ => truncated(),
    }
}
