//! Text of segments that were opened, for those that rest on them and are opened later in the same run: so it is not opened
//! once more for them. What was not put aside is read again.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard};

use crate::lookup::Lookup;

/// Text that is put aside at once, at most.
const ASIDE_BYTES: usize = 20 << 20;

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
}

/// See the module.
pub(crate) struct Aside {
    /// By the segment that is rested on.
    needs: HashMap<u32, Vec<Need>>,
    texts: Mutex<Texts>,
}

impl Aside {
    /// For a run that opens the segments of which `opens` says so, those with a base among them.
    pub(crate) fn new(
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
        Self { needs, texts }
    }

    /// The segments that rest on others of the run, each as often as it has pieces of these.
    pub(super) fn users(&self) -> impl Iterator<Item = u32> {
        let needs = self.needs.values().flatten();
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
            if bytes > 0 && texts.bytes + bytes <= ASIDE_BYTES {
                texts.bytes += bytes;
                drop(texts);
                let text = text.concat();
                let before = self.texts().texts.insert(need.by, text);
                // A segment may be opened twice.
                self.texts().bytes -= before.map_or(0, |before| before.len());
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
}
