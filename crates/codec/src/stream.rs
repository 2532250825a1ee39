//! Streams, chunk lists and references to them (`docs/format.md` §5).
//!
//! A stream is an ordered list of chunks. A reference holds a short list itself; a long list is a stream again, one
//! level up.

use crate::chunker::{CHUNK_MAX, Profile};
use crate::error::FormatError;
use crate::id::ChunkId;
use crate::record::{Fields, Input, RecordWriter, Unknown, put_varint};

/// A reference is at most this deep; eight levels of lists hold more than any store.
pub const DEPTH_MAX: u8 = 8;

/// One chunk of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkItem {
    /// Its content's name.
    pub id: ChunkId,
    /// Its length in bytes.
    pub length: u32,
}

/// Appends one chunk to a list.
#[inline]
pub fn put_chunk(list: &mut Vec<u8>, chunk: ChunkItem) {
    put_varint(list, u64::from(chunk.length) << 1);
    list.extend_from_slice(&chunk.id.0);
}

/// What an item of a chunk list is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListItem<'a> {
    /// The next chunk.
    Chunk(ChunkItem),
    /// A mark between two chunks: a record.
    Mark(&'a [u8]),
}

/// Appends a mark to a list: the place here is `offset` bytes and `row` rows into the stream.
pub fn put_mark(list: &mut Vec<u8>, offset: u64, row: u64, key: &str) {
    let mut record = Vec::new();
    RecordWriter::new(&mut record)
        .number(1, offset)
        .number(2, row)
        .bytes(3, key.as_bytes());
    put_varint(list, (record.len() as u64) << 1 | 1);
    list.extend_from_slice(&record);
}

/// The items of a chunk list.
#[derive(Clone, Debug)]
pub struct ListItems<'a>(Input<'a>);

impl<'a> ListItems<'a> {
    /// Starts reading `list`.
    #[must_use]
    pub fn new(list: &'a [u8]) -> Self {
        Self(Input::new(list, "a chunk list"))
    }

    fn item(&mut self) -> Result<ListItem<'a>, FormatError> {
        let head = self.0.varint()?;
        let length = head >> 1;
        if head & 1 == 1 {
            return self
                .0
                .take(usize::try_from(length).map_err(|_| FormatError::Truncated("a chunk list"))?)
                .map(ListItem::Mark);
        }
        let id = ChunkId(self.0.array()?);
        let length = u32::try_from(length)
            .ok()
            .filter(|length| (1..=CHUNK_MAX).contains(&(*length as usize)));
        let length = length.ok_or(FormatError::Invalid("a chunk's length is not allowed"))?;
        Ok(ListItem::Chunk(ChunkItem { id, length }))
    }
}

impl<'a> Iterator for ListItems<'a> {
    type Item = Result<ListItem<'a>, FormatError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let item = self.item();
        if item.is_err() {
            self.0 = Input::new(&[], "a chunk list");
        }
        Some(item)
    }
}

/// The chunks of a list, marks left out.
///
/// # Errors
/// When the list is malformed.
pub fn list_chunks(list: &[u8]) -> Result<Vec<ChunkItem>, FormatError> {
    let mut chunks = Vec::with_capacity(list.len() / 18);
    for item in ListItems::new(list) {
        if let ListItem::Chunk(chunk) = item? {
            chunks.push(chunk);
        }
    }
    Ok(chunks)
}

/// Names a stream: its length, and its list or where that is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamRef {
    /// Length of the stream in bytes.
    pub length: u64,
    /// How it was cut.
    pub profile: u64,
    /// 0: the items list the stream's own chunks. Else they list the chunks of a list.
    pub depth: u8,
    /// The items.
    pub items: Vec<u8>,
    unknown: Unknown,
}

impl StreamRef {
    /// A reference to a stream.
    #[must_use]
    pub fn new(length: u64, profile: Profile, depth: u8, items: Vec<u8>) -> Self {
        Self {
            length,
            profile: profile as u64,
            depth,
            items,
            unknown: Unknown::default(),
        }
    }

    /// The stream without bytes.
    #[must_use]
    pub fn empty(profile: Profile) -> Self {
        Self::new(0, profile, 0, Vec::new())
    }

    /// The reference as a record.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.items.len() + 24);
        RecordWriter::new(&mut out)
            .number(1, self.length)
            .number(2, self.profile)
            .number(3, self.depth.into())
            .bytes(4, &self.items)
            .unknown(&self.unknown);
        out
    }

    /// Reads a reference and checks that its parts fit together.
    ///
    /// # Errors
    /// When it is malformed.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let mut stream = Self {
            length: 0,
            profile: 0,
            depth: 0,
            items: Vec::new(),
            unknown: Unknown::default(),
        };
        for field in Fields::new(bytes, "a stream reference") {
            let field = field?;
            match field.number {
                1 => stream.length = field.number_value()?,
                2 => stream.profile = field.number_value()?,
                3 => stream.depth = field.small()?,
                4 => stream.items = field.bytes()?.to_vec(),
                _ => field.unknown(&mut stream.unknown)?,
            }
        }
        if stream.depth > DEPTH_MAX {
            return Err(FormatError::Invalid("a stream reference is too deep"));
        }
        let total = list_chunks(&stream.items)?
            .iter()
            .map(|chunk| u64::from(chunk.length))
            .sum::<u64>();
        if stream.depth == 0 && total != stream.length {
            return Err(FormatError::Invalid(
                "a stream's length is not the sum of its chunks",
            ));
        }
        Ok(stream)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_list_keeps_chunks_and_marks_in_order() {
        let chunk = |byte: u8, length| ChunkItem {
            id: ChunkId([byte; 16]),
            length,
        };
        let mut list = Vec::new();
        put_chunk(&mut list, chunk(1, 70_000));
        put_mark(&mut list, 70_000, 12, "4711");
        put_chunk(&mut list, chunk(2, 1));
        let items: Vec<_> = ListItems::new(&list).collect::<Result<_, _>>().unwrap();
        assert!(matches!(
            items[..],
            [ListItem::Chunk(_), ListItem::Mark(_), ListItem::Chunk(_)]
        ));
        assert_eq!(list_chunks(&list).unwrap(), [chunk(1, 70_000), chunk(2, 1)]);
        let stream = StreamRef::new(70_001, Profile::Database, 0, list);
        assert_eq!(StreamRef::decode(&stream.encode()).unwrap(), stream);
    }

    #[test]
    fn contradictions_are_refused() {
        let mut list = Vec::new();
        put_chunk(
            &mut list,
            ChunkItem {
                id: ChunkId([1; 16]),
                length: 5,
            },
        );
        assert!(
            StreamRef::decode(&StreamRef::new(6, Profile::Files, 0, list.clone()).encode())
                .is_err(),
            "length"
        );
        assert!(
            StreamRef::decode(&StreamRef::new(6, Profile::Files, 9, list).encode()).is_err(),
            "depth"
        );
        let mut list = Vec::new();
        put_varint(&mut list, (CHUNK_MAX as u64 + 1) << 1);
        list.extend([0; 16]);
        assert!(list_chunks(&list).is_err(), "chunk of more than 16 MiB");
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = (list_chunks(&bytes), StreamRef::decode(&bytes));
        }
    }
}
