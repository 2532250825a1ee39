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

#[derive(Default)]
struct Texts {
    texts: HashMap<Use, Vec<u8>>,
    bytes: usize,
    /// Segments that need nothing any more.
    done: HashSet<u32>,
}

/// See the module.
pub(crate) struct Aside {
    /// By the segment that is rested on.
    needs: HashMap<u32, Vec<Need>>,
    texts: Mutex<Texts>,
    most_bytes: usize,
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
            most_bytes,
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
            let fits = texts.bytes + bytes <= self.most_bytes;
            if fits && !texts.done.contains(&need.by.0) && !texts.texts.contains_key(&need.by) {
                texts.bytes += bytes;
                texts.texts.insert(need.by, text.concat());
            }
        }
    }

    /// The text of a piece, once.
    pub(super) fn take(&self, by: Use) -> Option<Vec<u8>> {
        if self.needs.is_empty() {
            return None;
        }
        let mut texts = self.texts();
        let text = texts.texts.remove(&by)?;
        texts.bytes -= text.len();
        Some(text)
    }

    /// Notes that `segment` has its text, or will not have it: what comes for it later would lie here to the end.
    pub(super) fn done(&self, segment: u32) {
        if self.needs.is_empty() {
            return;
        }
        let mut texts = self.texts();
        if texts.done.insert(segment) {
            for number in 0..PIECES_MAX {
                if let Some(text) = texts.texts.remove(&(segment, number)) {
                    texts.bytes -= text.len();
                }
            }
        }
    }
}
