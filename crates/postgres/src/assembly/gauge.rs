//! Content on its way into a dump, held against what its part says of it.

use std::io::{self, Write};

use super::AssemblyError;
use crate::{
    parts::{Digest, LargeObjectPart, TablePart},
    source::{PartSource, Wanted},
};

/// Lets the rows of a table through to `out`, and says whether they are what their part says.
pub(crate) fn put_rows(
    source: &PartSource<'_>,
    part: &TablePart,
    digest: &Digest,
    out: &mut dyn Write,
) -> Result<(), AssemblyError> {
    let wanted = Wanted::Rows(part);
    let mut gauge = Gauge::new(out, true);
    let done = source(wanted, &mut gauge);
    gauge.settle(done, wanted)?;
    let wrong = if gauge.has_end_mark {
        "they contain the mark of their end"
    } else if gauge.len_bytes > 0 && gauge.last != b'\n' {
        "the last one does not end"
    } else if (gauge.lines, gauge.len_bytes) != (digest.rows, digest.len_bytes) {
        "they are not as many as were read"
    } else {
        return Ok(());
    };
    let what = wanted.words();
    Err(AssemblyError::WrongContent { what, wrong })
}

/// Lets a large object through to `out`, and says whether it is as long as its part says.
pub(crate) fn put_large_object(
    source: &PartSource<'_>,
    part: &LargeObjectPart,
    out: &mut dyn Write,
) -> Result<(), AssemblyError> {
    let wanted = Wanted::LargeObject(part);
    let mut gauge = Gauge::new(out, false);
    let done = source(wanted, &mut gauge);
    gauge.settle(done, wanted)?;
    if gauge.len_bytes != part.len_bytes {
        let (what, wrong) = (wanted.words(), "it is not as long as it was");
        return Err(AssemblyError::WrongContent { what, wrong });
    }
    Ok(())
}

/// Looks at what passes through.
struct Gauge<'w> {
    out: &'w mut dyn Write,
    /// Why `out` took no more, to tell it from what the source says.
    failure: Option<io::Error>,
    is_rows: bool,
    len_bytes: u64,
    lines: u64,
    last: u8,
    /// Whether the last byte was a backslash that is not itself escaped.
    escapes: bool,
    /// Whether `\.` came: whatever follows it would be run as statements. No server writes it among rows.
    has_end_mark: bool,
}

impl<'w> Gauge<'w> {
    fn new(out: &'w mut dyn Write, is_rows: bool) -> Self {
        Self {
            out,
            failure: None,
            is_rows,
            len_bytes: 0,
            lines: 0,
            last: 0,
            escapes: false,
            has_end_mark: false,
        }
    }

    fn settle(&mut self, done: io::Result<()>, wanted: Wanted<'_>) -> Result<(), AssemblyError> {
        match (self.failure.take(), done) {
            (Some(failure), _) => Err(AssemblyError::Write(failure)),
            // Said by the caller, in its own words.
            (None, Err(_)) if self.has_end_mark => Ok(()),
            (None, Err(source)) => Err(AssemblyError::Content {
                what: wanted.words(),
                source,
            }),
            (None, Ok(())) => Ok(()),
        }
    }

    fn look(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            if self.escapes {
                self.has_end_mark |= byte == b'.';
                self.escapes = false;
            } else {
                self.escapes = byte == b'\\';
            }
            self.lines += u64::from(byte == b'\n');
        }
        self.last = bytes.last().copied().unwrap_or(self.last);
    }
}

impl Write for Gauge<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.is_rows {
            self.look(bytes);
            if self.has_end_mark {
                return Err(io::Error::other("the mark of the end stands among rows"));
            }
        }
        if let Err(failure) = self.out.write_all(bytes) {
            let kind = failure.kind();
            self.failure = Some(failure);
            return Err(kind.into());
        }
        self.len_bytes += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
