//! In which order many segments are opened.
//!
//! Runs of segments that lie one behind the other in a pack, as their chunks come first in what is wanted: a writer spreads
//! neighbours over several packs. What rests on others of them comes soon after these, and the text that it needs of them is put
//! aside when they are opened, so that they are not opened once more for it.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use rayon::prelude::*;

use super::aside::Aside;
use super::{Reader, Wanted};

/// Segments that a worker fetches in one go when it reads many.
const BATCH_SEGMENTS: usize = 8;
/// Stored bytes that one ranged read asks for at most, and bytes between two segments that are read along.
const BATCH_BYTES: u64 = 4 << 20;
const GAP_BYTES: u64 = 64 << 10;
/// Text that is put aside at once, at most.
const ASIDE_BYTES: usize = 20 << 20;

/// A segment, and what is wanted of it.
pub(super) struct Wish {
    pub(super) segment: u32,
    pub(super) wanted: Vec<Wanted>,
    /// The place of the first of it among all that is wanted.
    first: u32,
}

/// Segments in the order in which they are opened, and which of them one read fetches.
pub(super) struct Order {
    pub(super) wishes: Vec<Wish>,
    pub(super) batches: Vec<Range<usize>>,
    pub(super) aside: Aside,
}

impl Reader<'_> {
    /// Puts into order what is wanted; what no segment holds is handed to `missing`. What rests on others comes some runs
    /// after the last of these, as many as there are `workers`, where so many come: one of these may still have that one. Who comes too
    /// early reads what it needs again.
    pub(super) fn order(
        &self,
        wanted: &[Wanted],
        workers: usize,
        mut missing: impl FnMut(&Wanted),
    ) -> Order {
        let mut places: HashMap<u32, usize> = HashMap::new();
        let mut wishes: Vec<Wish> = Vec::new();
        for (number, item) in (0..).zip(wanted) {
            let Some(segment) = self.lookup.find(self.keys.domain, item.id) else {
                missing(item);
                continue;
            };
            let place = *places.entry(segment).or_insert_with(|| {
                wishes.push(Wish {
                    segment,
                    wanted: Vec::new(),
                    first: number,
                });
                wishes.len() - 1
            });
            wishes[place].wanted.push(*item);
        }
        // Asked of those that are wanted: a repository of many nights has very many others.
        let segments = wishes.iter().map(|wish| wish.segment);
        let based = segments.filter(|segment| self.lookup.row(*segment).2.height() > 0);
        let aside = Aside::new(ASIDE_BYTES, &self.lookup, based, |segment| {
            places.contains_key(&segment)
        });
        let on_others: HashSet<u32> = aside.uses().map(|(_, by)| by).collect();
        let height = |wish: &Wish| match on_others.contains(&wish.segment) {
            true => self.lookup.row(wish.segment).2.height(),
            false => 0,
        };
        // Segments are numbered pack by pack, in the order in which they lie there.
        wishes.par_sort_by_cached_key(|wish| (height(wish), wish.segment));
        let own = wishes.len() - on_others.len();
        let mut runs = self.runs(&wishes[..own]);
        runs.sort_by_cached_key(|run| wishes[run.clone()].iter().map(|wish| wish.first).min());
        let mut turns = vec![0; wishes.len()];
        for (turn, run) in runs.into_iter().enumerate() {
            turns[run].fill(turn);
        }
        // From the lowest to the highest, each behind all that it rests on.
        let mut behind: HashMap<u32, usize> = HashMap::new();
        for (turn, wish) in turns.iter_mut().zip(&wishes) {
            if let Some(last) = behind.get(&wish.segment) {
                *turn = last + workers;
            }
            for by in aside.users_of(wish.segment) {
                let last = behind.entry(by).or_default();
                *last = (*last).max(*turn);
            }
        }
        let mut wishes: Vec<(usize, Wish)> = turns.into_iter().zip(wishes).collect();
        // What has the same turn stays as it lies in its pack.
        wishes.par_sort_by_key(|(turn, _)| *turn);
        let wishes: Vec<Wish> = wishes.into_iter().map(|(_, wish)| wish).collect();
        let batches = self.runs(&wishes);
        Order {
            wishes,
            batches,
            aside,
        }
    }

    /// Segments of all that is wanted, as they are opened.
    #[cfg(test)]
    pub(crate) fn segments_in_order(&self, wanted: &[Wanted]) -> Vec<u32> {
        let order = self.order(wanted, 2, |_| unreachable!("all is there"));
        order.wishes.iter().map(|wish| wish.segment).collect()
    }

    /// Neighbours that one read fetches.
    fn runs(&self, wishes: &[Wish]) -> Vec<Range<usize>> {
        let mut runs: Vec<Range<usize>> = Vec::new();
        for (number, wish) in wishes.iter().enumerate() {
            let place = self.lookup.place(wish.segment);
            let end = place.offset + u64::from(place.sealed_bytes);
            if let Some(last) = runs.last_mut() {
                let first = self.lookup.place(wishes[last.start].segment);
                let before = self.lookup.place(wishes[number - 1].segment);
                let gap = place
                    .offset
                    .checked_sub(before.offset + u64::from(before.sealed_bytes));
                if first.pack == place.pack
                    && last.len() < BATCH_SEGMENTS
                    && end.saturating_sub(first.offset) <= BATCH_BYTES
                    && gap.is_some_and(|gap| gap <= GAP_BYTES)
                {
                    last.end = number + 1;
                    continue;
                }
            }
            runs.push(number..number + 1);
        }
        runs
    }
}
