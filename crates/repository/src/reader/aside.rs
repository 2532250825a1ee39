//! Text of segments that were opened, for those that rest on them and are opened later in the same run: so it is not opened
//! once more for them. What was not put aside is read again.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::{Mutex, MutexGuard};

use lifeboat_codec::PIECES_MAX;

use crate::lookup::Lookup;

/// A piece of a base: the segment that rests on it, and its number there.
type Use = (u32, usize);

/// What others need of a segment.
struct Need {
    by: Use,
    chunks: Range<usize>,
}

/// Bytes of a block. Texts come and go in all sizes, from all threads: in blocks that are used again they leave no gaps in memory.
const BLOCK_BYTES: usize = 16 << 10;

/// The text of a piece, put aside.
pub(super) struct Put {
    bytes: usize,
    blocks: Vec<Box<[u8]>>,
}

impl Put {
    fn fill(&mut self, text: &[&[u8]]) {
        let mut blocks = self.blocks.iter_mut();
        let mut room: &mut [u8] = &mut [];
        for mut rest in text.iter().copied() {
            while !rest.is_empty() {
                if room.is_empty() {
                    let Some(block) = blocks.next() else {
                        return;
                    };
                    room = block;
                }
                let count = room.len().min(rest.len());
                let (place, behind) = std::mem::take(&mut room).split_at_mut(count);
                let (part, more) = rest.split_at(count);
                place.copy_from_slice(part);
                (room, rest) = (behind, more);
            }
        }
    }

    pub(super) fn parts(&self) -> impl Iterator<Item = &[u8]> {
        let mut left = self.bytes;
        self.blocks.iter().filter_map(move |block| {
            let part = block.get(..left.min(BLOCK_BYTES))?;
            left -= part.len();
            Some(part)
        })
    }
}

#[derive(Default)]
struct Texts {
    texts: HashMap<Use, Put>,
    /// Blocks that hold nothing at the moment, and how many there are with the others.
    spare: Vec<Box<[u8]>>,
    blocks: usize,
    /// Segments that need nothing any more.
    done: HashSet<u32>,
}

impl Texts {
    /// Blocks for as many bytes, if there may be so many.
    fn room(&mut self, bytes: usize, most_blocks: usize) -> Option<Put> {
        let count = bytes.div_ceil(BLOCK_BYTES);
        let new = count.saturating_sub(self.spare.len());
        if self.blocks + new > most_blocks {
            return None;
        }
        self.blocks += new;
        let kept = self.spare.len() - (count - new);
        let mut blocks = self.spare.split_off(kept);
        blocks.resize_with(count, || vec![0; BLOCK_BYTES].into());
        Some(Put { bytes, blocks })
    }
}

/// See the module.
pub(crate) struct Aside {
    /// By the segment that is rested on.
    needs: HashMap<u32, Vec<Need>>,
    texts: Mutex<Texts>,
    most_blocks: usize,
}

impl Aside {
    /// For a run that opens the segments of which `opens` says so, those with a base among them. No more than `most_bytes` of
    /// text is put aside at once.
    pub(crate) fn new(
        most_bytes: usize,
        lookup: &Lookup,
        based: impl Iterator<Item = u32>,
        opens: impl Fn(u32) -> bool,
    ) -> Self {
        let mut needs: HashMap<u32, Vec<Need>> = HashMap::new();
        for segment in based.filter(|segment| opens(*segment)) {
            for (number, on, piece) in lookup.rests_on(segment) {
                if opens(on) {
                    let start = usize::from(piece.skip);
                    needs.entry(on).or_default().push(Need {
                        by: (segment, number),
                        chunks: start..start + usize::from(piece.count),
                    });
                }
            }
        }
        let texts = Mutex::default();
        Self {
            needs,
            texts,
            most_blocks: most_bytes / BLOCK_BYTES,
        }
    }

    /// Each piece of a base whose text is wanted: the segment that it is of, and the one that rests on it.
    pub(crate) fn uses(&self) -> impl Iterator<Item = (u32, u32)> {
        let needs = self.needs.iter();
        needs.flat_map(|(on, needs)| needs.iter().map(|need| (*on, need.by.0)))
    }

    /// The segments that rest on this one, each as often as it has pieces of it.
    pub(crate) fn users_of(&self, segment: u32) -> impl Iterator<Item = u32> {
        let needs = self.needs.get(&segment).into_iter().flatten();
        needs.map(|need| need.by.0)
    }

    fn texts(&self) -> MutexGuard<'_, Texts> {
        self.texts.lock().expect("no thread panics with a text")
    }

    /// Puts aside what is needed of a segment with these chunks, which are what their ids say.
    pub(crate) fn put(&self, segment: u32, chunks: &[&[u8]]) {
        for need in self.needs.get(&segment).into_iter().flatten() {
            let text = chunks.get(need.chunks.clone()).unwrap_or_default();
            let bytes = text.iter().map(|chunk| chunk.len()).sum::<usize>();
            let mut texts = self.texts();
            if bytes == 0 || texts.done.contains(&need.by.0) || texts.texts.contains_key(&need.by) {
                continue;
            }
            let Some(mut put) = texts.room(bytes, self.most_blocks) else {
                continue;
            };
            drop(texts);
            put.fill(text);
            let mut texts = self.texts();
            // Whom it is for may have opened the segment by itself meanwhile.
            let unused = if texts.done.contains(&need.by.0) {
                Some(put)
            } else {
                texts.texts.insert(need.by, put)
            };
            texts
                .spare
                .extend(unused.into_iter().flat_map(|put| put.blocks));
        }
    }

    /// The text of a piece, once; it goes back by [`Aside::used`].
    pub(super) fn take(&self, by: Use) -> Option<Put> {
        if self.needs.is_empty() {
            return None;
        }
        self.texts().texts.remove(&by)
    }

    pub(super) fn used(&self, put: Put) {
        self.texts().spare.extend(put.blocks);
    }

    /// Notes that `segment` has its text, or will not have it: what comes for it later would lie here to the end.
    pub(super) fn done(&self, segment: u32) {
        if self.needs.is_empty() {
            return;
        }
        let mut texts = self.texts();
        if texts.done.insert(segment) {
            for number in 0..PIECES_MAX {
                if let Some(put) = texts.texts.remove(&(segment, number)) {
                    texts.spare.extend(put.blocks);
                }
            }
        }
    }
}
