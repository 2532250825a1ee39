//! Makes a file again from the parts that it was taken apart into (`docs/format.md` §7).
//!
//! What a repository says is believed as far as it can be counted: nothing longer than the file is written, and no piece of a
//! deflate stream is larger than any that was ever stored. Memory holds one piece for each bundle that lies in another.

use std::io::{self, Read, Write};

use lifeboat_codec::{Coding, FormatError};
use lifeboat_repository::{ChunkReader, ReadError, Reader, StreamError};

use super::DEPTH_MAX;
use super::corrections::{Heads, failed};
use super::deflate::{Head, Packer};
use crate::entry::{FileContent, part_content, wrong};

/// Short corrections that are longer are refused.
const SHORT_REFUSED: u64 = 64 << 10;

/// Writes a file's content from its first byte to its last.
///
/// # Errors
/// When it cannot be read or made again, or `out` fails.
pub fn copy_content(
    reader: &Reader<'_>,
    content: &FileContent,
    out: &mut dyn Write,
) -> Result<(), StreamError> {
    copy(reader, content, out, 0)
}

fn invalid(what: &'static str) -> ReadError {
    wrong(FormatError::Invalid(what))
}

fn copy(
    reader: &Reader<'_>,
    content: &FileContent,
    out: &mut dyn Write,
    depth: usize,
) -> Result<(), StreamError> {
    let (parts, length) = match content {
        FileContent::Stream(stream) => return reader.copy_to(stream, out),
        FileContent::Bundle { parts, length } => (parts, *length),
    };
    if depth >= DEPTH_MAX {
        return Err(invalid("bundles lie in each other deeper than any do").into());
    }
    if depth > 0 && length == 0 {
        // Nobody writes one, and of many in each other no end would come.
        return Err(invalid("a bundle in a bundle holds nothing").into());
    }
    let mut out = Bounded {
        out,
        left: length,
        is_over: false,
    };
    let mut tree = reader.tree(parts)?;
    let mut frame: Option<ChunkReader<'_>> = None;
    let (mut corrections, mut is_first) = (None, true);
    while let Some(entry) = tree.next_entry()? {
        let part = entry.part.as_ref();
        let part = part.ok_or_else(|| invalid("a bundle holds what is no part of one"))?;
        let content = part_content(&entry)?;
        let is_alone = part.lead == 0 && part.corrections == 0 && corrections.is_none();
        match (part.coding, content) {
            (Coding::Frame, FileContent::Stream(stream)) if is_alone && is_first => {
                frame = Some(reader.read(&stream)?);
            }
            (Coding::Corrections, FileContent::Stream(stream)) if is_alone => {
                corrections = Some(stream);
            }
            (Coding::Frame | Coding::Corrections, _) => {
                return Err(invalid("a bundle has a part that belongs to none").into());
            }
            (Coding::Plain, content) => {
                lead(&mut frame, part.lead, &mut out)?;
                if corrections.is_some() || part.corrections > 0 {
                    return Err(invalid("a bundle has corrections of what needs none").into());
                }
                copy(reader, &content, &mut out, depth + 1).map_err(|error| out.told(error))?;
            }
            (Coding::Deflate, content) => {
                lead(&mut frame, part.lead, &mut out)?;
                let from: Box<dyn Read> = match corrections.take() {
                    Some(_) if part.corrections > 0 => {
                        return Err(invalid("a part of a bundle has corrections twice").into());
                    }
                    Some(stream) => Box::new(reader.read(&stream)?),
                    None => Box::new(io::Cursor::new(short(&mut frame, part.corrections)?)),
                };
                deflate(reader, &content, from, part.makes, &mut out, depth)?;
            }
        }
        is_first = false;
    }
    let is_whole = frame.is_none_or(|mut frame| matches!(frame.read(&mut [0]), Ok(0)));
    if !is_whole || corrections.is_some() || out.left > 0 {
        return Err(invalid("a bundle's parts make less than the file").into());
    }
    Ok(())
}

/// Writes the next bytes of the frame.
fn lead(
    frame: &mut Option<ChunkReader<'_>>,
    count: u64,
    out: &mut Bounded<'_>,
) -> Result<(), StreamError> {
    let mut left = count;
    let mut buffer = [0; 4096];
    while left > 0 {
        let room = usize::try_from(left).map_or(buffer.len(), |left| left.min(buffer.len()));
        let bytes = &mut buffer[..room];
        fill(frame, bytes)?;
        out.write_all(bytes).map_err(|error| out.judged(error))?;
        left -= room as u64;
    }
    Ok(())
}

/// The next bytes of the frame, which are corrections.
fn short(frame: &mut Option<ChunkReader<'_>>, count: u64) -> Result<Vec<u8>, ReadError> {
    if count > SHORT_REFUSED {
        return Err(invalid("short corrections of a bundle are long"));
    }
    let mut bytes = vec![0; count as usize];
    fill(frame, &mut bytes)?;
    Ok(bytes)
}

fn fill(frame: &mut Option<ChunkReader<'_>>, bytes: &mut [u8]) -> Result<(), ReadError> {
    match frame {
        _ if bytes.is_empty() => Ok(()),
        Some(frame) => frame.read_exact(bytes).map_err(failed),
        None => Err(invalid("a bundle has no frame")),
    }
}

/// Makes the deflate stream whose text this content is.
fn deflate(
    reader: &Reader<'_>,
    content: &FileContent,
    corrections: Box<dyn Read + '_>,
    makes: u64,
    out: &mut Bounded<'_>,
    depth: usize,
) -> Result<(), StreamError> {
    let mut packing = Packing {
        heads: Heads::new(corrections),
        packer: Packer::default(),
        head: None,
        text: Vec::new(),
        out: Bounded {
            left: makes.min(out.left),
            out,
            is_over: false,
        },
        failure: None,
    };
    let copied = copy(reader, content, &mut packing, depth + 1);
    let ended = match copied {
        Ok(()) => packing.end().map_err(StreamError::Write),
        Err(error) => Err(error),
    };
    let (failure, is_over) = (packing.failure.take(), packing.out.is_over);
    let made = makes - packing.out.left.min(makes);
    match (ended, failure) {
        (_, Some(failure)) => Err(failure.into()),
        (Err(_), None) if is_over => Err(too_long().into()),
        (Err(error), None) => Err(out.told(error)),
        (Ok(()), None) if made != makes => {
            Err(invalid("a part of a bundle makes less than it is to make").into())
        }
        (Ok(()), None) => Ok(()),
    }
}

fn too_long() -> ReadError {
    invalid("a bundle's parts make more than the file")
}

/// Takes no more bytes than there are to be.
struct Bounded<'o> {
    out: &'o mut dyn Write,
    left: u64,
    /// More were to be written.
    is_over: bool,
}

impl Bounded<'_> {
    fn judged(&self, error: io::Error) -> StreamError {
        self.told(StreamError::Write(error))
    }

    /// What is too long is the repository's fault, not of who takes it.
    fn told(&self, error: StreamError) -> StreamError {
        match error {
            StreamError::Write(_) if self.is_over => too_long().into(),
            error => error,
        }
    }
}

impl Write for Bounded<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() as u64 > self.left {
            self.is_over = true;
            return Err(io::Error::other("it is longer than it is to be"));
        }
        let count = self.out.write(bytes)?;
        self.left -= count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Takes the text of a deflate stream, and writes the stream.
struct Packing<'a, 'o> {
    heads: Heads<Box<dyn Read + 'a>>,
    packer: Packer,
    /// How the piece is made whose text comes.
    head: Option<Head>,
    text: Vec<u8>,
    out: Bounded<'o>,
    /// Why the stream cannot be made.
    failure: Option<ReadError>,
}

impl Packing<'_, '_> {
    fn fail(&mut self, failure: ReadError) -> io::Error {
        self.failure = Some(failure);
        io::Error::other("a deflate stream cannot be made again")
    }

    /// How the next piece is made; none at the end.
    fn next_head(&mut self) -> io::Result<Option<&Head>> {
        if self.head.is_none() {
            match self.heads.next() {
                Ok(head) => self.head = head,
                Err(error) => return Err(self.fail(error)),
            }
        }
        Ok(self.head.as_ref())
    }

    /// Makes the piece if all of its text is there; whether it was made.
    fn make(&mut self) -> io::Result<bool> {
        let Some(head) = self.head.take_if(|head| head.text_bytes == self.text.len()) else {
            return Ok(false);
        };
        let Ok(made) = self.packer.piece(&head, &self.text) else {
            let what = "a piece of a deflate stream does not come from its text and corrections";
            return Err(self.fail(invalid(what)));
        };
        self.text.clear();
        self.out.write_all(&made)?;
        Ok(true)
    }

    fn end(&mut self) -> io::Result<()> {
        while self.next_head()?.is_some() {
            if !self.make()? {
                let what = "the text of a deflate stream ends too early";
                return Err(self.fail(invalid(what)));
            }
        }
        Ok(())
    }
}

impl Write for Packing<'_, '_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            let Some(head) = self.next_head()? else {
                let what = "the text of a deflate stream is longer than its corrections say";
                return Err(self.fail(invalid(what)));
            };
            let room = head.text_bytes - self.text.len();
            let count = room.min(bytes.len());
            self.text.extend_from_slice(&bytes[..count]);
            self.make()?;
            if count > 0 || bytes.is_empty() {
                return Ok(count);
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
