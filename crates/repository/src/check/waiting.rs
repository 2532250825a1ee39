//! Segments with a base that wait, sealed, until what they rest on has been opened.
//!
//! They are read first and are small, for they hold what a night changed. So the text that one of them needs is put aside only from
//! the first to the last of the segments that it rests on, which lie near each other, and these are opened once, as far as there is room.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard};

use super::packs::Packs;
use crate::reader::Aside;

/// Sealed bytes that wait at once, at most.
const WAITING_BYTES: u64 = 16 << 20;
/// Text that is put aside at once, at most: of a tree's release in which two thousand files changed.
const ASIDE_BYTES: usize = 28 << 20;

/// The order in which `chosen` packs are read, and room for the text that goes from one to another. First those whose segments
/// rest on others and wait, as many as may; then what is rested on, each when it is needed, and what is not, the longest first;
/// at last those that rest on others and were too many, which find no text put aside.
pub(super) fn turns(chosen: &[usize], packs: &Packs) -> (Vec<usize>, Aside) {
    let lookup = &packs.lookup;
    // How high and how many bytes.
    let on_others: HashMap<usize, (u8, u64)> = chosen
        .iter()
        .filter_map(|number| {
            let (place, _) = packs.packs[*number].place?;
            let rows = lookup.rows(place);
            let based = rows.rows().filter(|row| row.height() > 0);
            let based = based.map(|row| (row.height(), row.sealed_bytes));
            let sum = based.reduce(|sum, next| (sum.0.max(next.0), sum.1 + next.1))?;
            Some((*number, sum))
        })
        .collect();
    let mut wait: Vec<usize> = on_others.keys().copied().collect();
    wait.sort_unstable_by_key(|number| (on_others[number], *number));
    let mut left = WAITING_BYTES;
    wait.retain(|number| {
        let fits = left.checked_sub(on_others[number].1);
        left = fits.unwrap_or(left);
        fits.is_some()
    });
    let wait: HashSet<usize> = wait.into_iter().collect();
    let chosen: HashSet<usize> = chosen.iter().copied().collect();

    let based = lookup.based();
    let based = based
        .filter(|segment| wait.contains(&packs.owner(*segment)) && !lookup.is_hollow(*segment));
    let aside = Aside::new(ASIDE_BYTES, lookup, based, |segment| {
        chosen.contains(&packs.owner(segment))
    });
    let mut users: HashMap<usize, Vec<u32>> = HashMap::new();
    for (on, by) in aside.uses() {
        users.entry(packs.owner(on)).or_default().push(by);
    }
    // The middle one, for some files lie where nobody looks for them.
    let needed: HashMap<usize, u32> = users
        .into_iter()
        .map(|(number, mut users)| {
            let middle = users.len() / 2;
            (number, *users.select_nth_unstable(middle).1)
        })
        .collect();
    let mut order: Vec<usize> = chosen.into_iter().collect();
    order.sort_by_cached_key(|number| {
        let turn = match on_others.get(number) {
            Some(_) if wait.contains(number) => (0, 0),
            None => (1, needed.get(number).copied().unwrap_or(u32::MAX)),
            Some((height, _)) => (2, u32::from(*height)),
        };
        (turn, Reverse(packs.packs[*number].bytes), *number)
    });
    (order, aside)
}

#[derive(Default)]
struct Above {
    /// Pieces of its base that were not opened yet.
    lacks: usize,
    sealed: Option<Vec<u8>>,
}

/// See the module.
pub(super) struct Waiting(Mutex<HashMap<u32, Above>>);

impl Waiting {
    /// For segments that others of the same run rest on.
    pub(super) fn new(aside: &Aside) -> Self {
        let mut above: HashMap<u32, Above> = HashMap::new();
        for (_, by) in aside.uses() {
            above.entry(by).or_default().lacks += 1;
        }
        Self(Mutex::new(above))
    }

    fn above(&self) -> MutexGuard<'_, HashMap<u32, Above>> {
        self.0.lock().expect("no thread panics with what waits")
    }

    /// Keeps a segment if anything that it rests on is still to be opened.
    pub(super) fn keep(&self, segment: u32, sealed: &[u8]) -> bool {
        let mut above = self.above();
        let lacking = above.get_mut(&segment).filter(|above| above.lacks > 0);
        let Some(above) = lacking else {
            return false;
        };
        above.sealed = Some(sealed.to_vec());
        true
    }

    /// Notes that `segment` was opened, or cannot be; what waited for nothing else is handed back.
    pub(super) fn opened(&self, segment: u32, aside: &Aside) -> Vec<(u32, Vec<u8>)> {
        let mut ready = Vec::new();
        let mut by = aside.users_of(segment).peekable();
        if by.peek().is_none() {
            return ready;
        }
        let mut all = self.above();
        for by in by {
            if let Some(above) = all.get_mut(&by) {
                above.lacks = above.lacks.saturating_sub(1);
                if above.lacks == 0 {
                    ready.extend(above.sealed.take().map(|sealed| (by, sealed)));
                }
            }
        }
        ready
    }

    /// What still waits, for nothing that comes.
    pub(super) fn rest(&self) -> Vec<(u32, Vec<u8>)> {
        let mut rest: Vec<(u32, Vec<u8>)> = self
            .above()
            .iter_mut()
            .filter_map(|(segment, above)| Some((*segment, above.sealed.take()?)))
            .collect();
        rest.sort_unstable_by_key(|(segment, _)| *segment);
        rest
    }
}
