//! The chunks of a stream, found by way of its chunk lists, level by level.
//!
//! Whoever asks what a stream needs asks here: a list that only one of the askers knows would be missing from a copy,
//! or be swept away. Memory holds two levels of lists, which a forged repository cannot make larger than any honest one.

use lifeboat_codec::{ChunkItem, FormatError, ListItem, ListItems, StreamRef, list_chunks};

use super::Reader;
use crate::repository::ReadError;

/// No chunk list is longer, in bytes: one of some four hundred million chunks, about 100 TiB of one file, which is more
/// than ext4 keeps in one.
const LIST_MAX: u64 = 8 << 30;

/// Whose chunk it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// A chunk of a list.
    List,
    /// A chunk of the stream itself.
    Own,
}

/// Why a stream's chunks are not known.
pub(crate) enum Failed {
    /// These could not be read.
    Chunks(Vec<(ChunkItem, ReadError)>),
    /// They were read, and make no sense.
    List(FormatError),
}

impl From<Failed> for ReadError {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::Chunks(chunks) => {
                let first = chunks.into_iter().next();
                first.expect("a failure has a chunk").1
            }
            Failed::List(source) => Self::format("a chunk list", source),
        }
    }
}

/// Names every chunk of a stream to `found`, first those of its lists, and returns its own.
pub(crate) fn chunks_of_stream(
    reader: &Reader<'_>,
    stream: &StreamRef,
    found: &mut dyn FnMut(Part, ChunkItem) -> Result<(), ReadError>,
) -> Result<Vec<ChunkItem>, Failed> {
    let mut find = |part, items: &[ChunkItem]| {
        items.iter().try_for_each(|item| {
            found(part, *item).map_err(|error| Failed::Chunks(vec![(*item, error)]))
        })
    };
    let mut list: Vec<u8> = Vec::new();
    for level in 0..stream.depth {
        let items = list_chunks(if level == 0 { &stream.items } else { &list });
        let items = items.map_err(Failed::List)?;
        find(Part::List, &items)?;
        if items.iter().map(|item| u64::from(item.length)).sum::<u64>() > LIST_MAX {
            let wrong = "a chunk list is longer than any can be";
            return Err(Failed::List(FormatError::Invalid(wrong)));
        }
        list = bytes_of(reader, &items)?;
    }
    let own = if stream.depth == 0 {
        &stream.items
    } else {
        &list
    };
    let items = own_chunks(own, stream.length).map_err(Failed::List)?;
    find(Part::Own, &items)?;
    Ok(items)
}

impl Reader<'_> {
    /// The chunks that hold the list of a stream's own chunks, for a stream that has such.
    pub(crate) fn list_blocks(&self, stream: &StreamRef) -> Result<Vec<ChunkItem>, ReadError> {
        let mut list = stream.items.clone();
        for _ in 1..stream.depth {
            let items = list_chunks(&list);
            let items = items.map_err(|source| ReadError::format("a chunk list", source))?;
            if items.iter().map(|item| u64::from(item.length)).sum::<u64>() > LIST_MAX {
                let wrong = FormatError::Invalid("a chunk list is longer than any can be");
                return Err(ReadError::format("a chunk list", wrong));
            }
            list = bytes_of(self, &items)?;
        }
        list_chunks(&list).map_err(|source| ReadError::format("a chunk list", source))
    }
}

/// The chunks of a list that make up `length` bytes; one that goes beyond them is read no further.
fn own_chunks(list: &[u8], length: u64) -> Result<Vec<ChunkItem>, FormatError> {
    let (mut items, mut left) = (Vec::new(), Some(length));
    for item in ListItems::new(list) {
        if let ListItem::Chunk(item) = item? {
            left = left.and_then(|left| left.checked_sub(item.length.into()));
            if left.is_none() {
                break;
            }
            items.push(item);
        }
    }
    match left {
        Some(0) => Ok(items),
        _ => Err(FormatError::Invalid(
            "a stream's length is not the sum of its chunks",
        )),
    }
}

/// The bytes of chunks of metadata, or all of them that could not be read.
pub(crate) fn bytes_of(reader: &Reader<'_>, items: &[ChunkItem]) -> Result<Vec<u8>, Failed> {
    let mut bytes = Vec::new();
    each_of(reader, items, &mut |chunk| bytes.extend_from_slice(chunk))?;
    Ok(bytes)
}

/// Reads chunks of metadata and keeps none; fails with all of them that could not be read.
pub(crate) fn read_all(reader: &Reader<'_>, items: &[ChunkItem]) -> Result<(), Failed> {
    each_of(reader, items, &mut |_| {})
}

fn each_of(
    reader: &Reader<'_>,
    items: &[ChunkItem],
    each: &mut dyn FnMut(&[u8]),
) -> Result<(), Failed> {
    let mut failed = Vec::new();
    for item in items {
        if let Err(error) = reader.with_chunk(item, &mut *each) {
            failed.push((*item, error));
        }
    }
    if failed.is_empty() {
        Ok(())
    } else {
        Err(Failed::Chunks(failed))
    }
}
