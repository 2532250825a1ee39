//! Chunks on their way into one segment.

use lifeboat_codec::{ChunkId, Profile, SEGMENT_BYTES};

use super::beside::Span;

/// Chunks in a segment; far below the format's limit, it bounds what one read of a tiny file opens.
const CHUNKS_MAX: usize = 8192;

/// What files share that rest on nothing: a fortieth less room than in segments of a third of the size, and to read one of them, or
/// what will rest on it, costs two milliseconds more. Those that do not shrink gain nothing by it.
const FILES_BYTES: usize = 3 * SEGMENT_BYTES;

/// Chunks on their way into one segment.
pub(super) struct Gathering {
    pub(super) profile: Option<Profile>,
    pub(super) ids: Vec<u8>,
    pub(super) lengths: Vec<u32>,
    /// Its first `used` bytes are content; the rest is room for reading small files in place.
    pub(super) content: Vec<u8>,
    pub(super) used: usize,
    /// Where the chunks stand in their stream, for one that has an earlier one beside it.
    pub(super) spans: Vec<Span>,
    /// What small files were before.
    pub(super) before: Vec<ChunkId>,
    /// Whether what was gathered and sealed here last became smaller.
    pub(super) shrinks: bool,
}

impl Gathering {
    pub(super) fn new() -> Self {
        Self {
            profile: None,
            ids: Vec::new(),
            lengths: Vec::new(),
            content: Vec::new(),
            used: 0,
            spans: Vec::new(),
            before: Vec::new(),
            shrinks: true,
        }
    }

    pub(super) fn room(&mut self, bytes: usize) -> &mut [u8] {
        let end = self.used + bytes;
        if self.content.len() < end {
            // Seldom, for a lane's buffer is not given back: what a segment has at most, and little more.
            self.content.resize(
                end.next_multiple_of(SEGMENT_BYTES / 2).max(SEGMENT_BYTES),
                0,
            );
        }
        &mut self.content[self.used..end]
    }

    pub(super) fn full(&self) -> bool {
        let most = if !self.spans.is_empty() {
            // What has an earlier stream beside it waits for the end of a segment there.
            SEGMENT_BYTES / 4 * 5
        } else if self.profile == Some(Profile::Files) && self.before.is_empty() && self.shrinks {
            FILES_BYTES
        } else {
            SEGMENT_BYTES
        };
        self.used >= most || self.lengths.len() >= CHUNKS_MAX
    }
}
