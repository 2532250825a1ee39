//! A folder's tree in an earlier snapshot, beside the one that grows: which of its chunks stood where a new one stands.

use std::ops::Range;

use lifeboat_codec::{ChunkId, StreamRef};

use crate::reader::Reader;

/// How much more is taken on both sides of a chunk, in bytes: entries are some hundred bytes long, and few come or go.
const AROUND_BYTES: u64 = 4 << 10;
/// A tree of more chunks is stored as it is: its list would be as much to read as what it saves.
const CHUNKS_MAX: usize = 4 << 10;

/// See the module.
pub(super) struct PastTree {
    earlier: StreamRef,
    /// Its chunks and where each ends; read when the first new chunk comes, and empty when that fails.
    chunks: Option<Vec<(ChunkId, u64)>>,
    /// From the new tree to this one.
    distance: i64,
}

impl PastTree {
    pub(super) fn new(earlier: StreamRef) -> Self {
        Self {
            earlier,
            chunks: None,
            distance: 0,
        }
    }

    fn chunks(&mut self, reader: &Reader<'_>) -> &[(ChunkId, u64)] {
        self.chunks.get_or_insert_with(|| {
            let items = reader.chunks(&self.earlier).unwrap_or_default();
            let mut end = 0;
            let ends = items.iter().take(CHUNKS_MAX).map(|item| {
                end += u64::from(item.length);
                (item.id, end)
            });
            ends.collect()
        })
    }

    /// The new tree has at `start` a chunk that the repository had.
    pub(super) fn anchor(&mut self, id: ChunkId, start: u64) {
        let Some(chunks) = &self.chunks else {
            return;
        };
        // Mostly the next one, and of few: a tree is a chunk or two.
        let from = chunks.partition_point(|(_, end)| *end <= start);
        let near = chunks.iter().enumerate().skip(from.saturating_sub(16));
        let found = near.take(32).find(|(_, (held, _))| *held == id);
        if let Some((number, _)) = found {
            let old = number.checked_sub(1).map_or(0, |before| chunks[before].1);
            self.distance = old.wrapping_sub(start).cast_signed();
        }
    }

    /// The chunks that stood where the new tree has these bytes.
    pub(super) fn stood(&mut self, reader: &Reader<'_>, range: Range<u64>) -> Vec<ChunkId> {
        let start = range.start.saturating_add_signed(self.distance);
        let end = range.end.saturating_add_signed(self.distance);
        let (start, end) = (start.saturating_sub(AROUND_BYTES), end + AROUND_BYTES);
        let chunks = self.chunks(reader);
        let from = chunks.partition_point(|(_, end)| *end <= start);
        let mut before = from.checked_sub(1).map_or(0, |before| chunks[before].1);
        let there = chunks.iter().skip(from).take_while(|(_, next)| {
            let is_there = before < end;
            before = *next;
            is_there
        });
        there.map(|(id, _)| *id).collect()
    }
}
