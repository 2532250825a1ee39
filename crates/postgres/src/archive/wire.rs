//! The archive's integers and texts, read from the front of what has arrived, and written.
//!
//! Invariant: a token is read whole or not at all, and every length is checked before it is used.

use super::ArchiveError;

/// More than any entry of a table of contents has text for.
pub(super) const TOKEN_LEN_BYTES_MAX: usize = 256 << 20;

/// How many bytes the archive's integers and offsets have.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Widths {
    pub(super) integer: usize,
    pub(super) offset: usize,
}

/// Why a token was not read.
pub(super) enum Stop {
    /// Its end has not come yet; it is not to be had from less than so many bytes.
    Incomplete(usize),
    Error(ArchiveError),
}

impl From<ArchiveError> for Stop {
    fn from(error: ArchiveError) -> Self {
        Self::Error(error)
    }
}

/// One token being read from the front of the input.
pub(super) struct Token<'a> {
    pub(super) input: &'a [u8],
    pub(super) used: usize,
    pub(super) widths: Widths,
    /// Whether a text was not UTF-8, so that what was read is not quite what stood there.
    pub(super) inexact: bool,
}

impl<'a> Token<'a> {
    pub(super) fn bytes(&mut self, count: usize) -> Result<&'a [u8], Stop> {
        let end = self.used.saturating_add(count);
        let bytes = self.input.get(self.used..end);
        let bytes = bytes.ok_or(Stop::Incomplete(end))?;
        self.used = end;
        Ok(bytes)
    }

    pub(super) fn byte(&mut self) -> Result<u8, Stop> {
        Ok(self.bytes(1)?[0])
    }

    /// A sign byte, then the absolute value, least significant byte first.
    pub(super) fn integer(&mut self) -> Result<i64, Stop> {
        let negative = self.byte()? != 0;
        let width = self.widths.integer;
        let mut value: u64 = 0;
        for (at, byte) in self.bytes(width)?.iter().enumerate() {
            value |= u64::from(*byte) << (8 * at);
        }
        let value = i64::try_from(value)
            .map_err(|_| ArchiveError::Damaged("it has an impossible number"))?;
        Ok(if negative { -value } else { value })
    }

    pub(super) fn length(&mut self) -> Result<u64, Stop> {
        u64::try_from(self.integer()?)
            .map_err(|_| ArchiveError::Damaged("it has a negative length").into())
    }

    /// A length, then the bytes; a negative length is no text at all.
    pub(super) fn text(&mut self) -> Result<Option<String>, Stop> {
        let Ok(length) = usize::try_from(self.integer()?) else {
            return Ok(None);
        };
        if length > TOKEN_LEN_BYTES_MAX {
            return Err(ArchiveError::Damaged("it has a text of impossible length").into());
        }
        let bytes = self.bytes(length)?;
        if bytes.contains(&0) {
            return Err(ArchiveError::Damaged("it has a text with a zero byte").into());
        }
        let text = String::from_utf8_lossy(bytes);
        self.inexact |= matches!(text, std::borrow::Cow::Owned(_));
        Ok(Some(text.into_owned()))
    }
}

/// Writes an integer of four bytes, as every `pg_dump` of today does.
pub(super) fn put_integer(into: &mut Vec<u8>, value: i32) {
    into.push(u8::from(value < 0));
    into.extend_from_slice(&value.unsigned_abs().to_le_bytes());
}

/// Writes a text, or that there is none.
pub(super) fn put_text(into: &mut Vec<u8>, text: Option<&str>) -> Result<(), ArchiveError> {
    let Some(text) = text else {
        put_integer(into, -1);
        return Ok(());
    };
    let length = i32::try_from(text.len())
        .map_err(|_| ArchiveError::Damaged("it has a text of impossible length"))?;
    put_integer(into, length);
    into.extend_from_slice(text.as_bytes());
    Ok(())
}
