//! Parts of packs that were read last: small segments are asked for one after the other, because what is asked for together lies
//! together.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard};

use lifeboat_codec::PackId;

/// How many parts are kept.
const PARTS_MAX: usize = 16;

struct Part {
    pack: PackId,
    start: u64,
    bytes: Vec<u8>,
}

impl Part {
    fn get(&self, pack: PackId, range: &Range<u64>) -> Option<&[u8]> {
        let from = usize::try_from(range.start.checked_sub(self.start)?).ok()?;
        let to = usize::try_from(range.end.checked_sub(self.start)?).ok()?;
        (self.pack == pack).then(|| self.bytes.get(from..to))?
    }
}

/// See the module.
#[derive(Default)]
pub(crate) struct Near(Mutex<VecDeque<Part>>);

impl Near {
    fn parts(&self) -> MutexGuard<'_, VecDeque<Part>> {
        self.0.lock().expect("no thread panics with parts of packs")
    }

    /// Bytes of a pack, where they were read with others.
    pub(crate) fn find(&self, pack: PackId, range: &Range<u64>) -> Option<Vec<u8>> {
        let mut parts = self.parts();
        let found = |part: &Part| part.get(pack, range).map(<[u8]>::to_vec);
        let (place, bytes) = (0..)
            .zip(&*parts)
            .find_map(|(place, part)| Some((place, found(part)?)))?;
        // Those that were of no use for the longest time go first.
        if let Some(part) = parts.remove(place) {
            parts.push_back(part);
        }
        Some(bytes)
    }

    /// Keeps bytes of a pack, from `start` on.
    pub(crate) fn keep(&self, pack: PackId, start: u64, bytes: Vec<u8>) {
        let mut parts = self.parts();
        parts.push_back(Part { pack, start, bytes });
        if parts.len() > PARTS_MAX {
            parts.pop_front();
        }
    }

    /// Forgets all: one of them was read wrong, and is not to be given again.
    pub(crate) fn clear(&self) {
        self.parts().clear();
    }
}
