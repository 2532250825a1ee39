//! A folder's tree as it grows: parts go into the repository in the order of their names, as soon as all before them did.
//!
//! A part that is ready too early waits in memory. Invariant: what waits is bounded. Who reads far ahead of what lacks (a
//! folder below, of which nothing is known before all of it was read) puts the rest of the folder aside, and whoever
//! brings what lacked takes it up again.

use std::collections::BTreeMap;

use lifeboat_codec::StreamRef;
use lifeboat_repository::{Lane, MetaStream, WriteError};

use super::Rest;
use crate::memory::{Gathered, NewTree};

/// Folders below that are not done, with which a folder is put aside; with half of them it is taken up again.
const BELOW_MAX: usize = 1000;
/// Bytes of entries that wait, the same.
const WAITING_BYTES_MAX: usize = 4 << 20;

/// Entries that follow each other.
#[derive(Default)]
pub(super) struct Entries {
    /// As the tree has them.
    pub(super) stored: Vec<u8>,
    /// As the memory for the next run has them, where that is different.
    pub(super) seen: Option<Vec<u8>>,
}

impl Entries {
    /// As the memory for the next run has them.
    pub(super) fn seen(&self) -> &[u8] {
        self.seen.as_deref().unwrap_or(&self.stored)
    }

    /// Adds an entry that the memory has in another form.
    pub(super) fn put_both(&mut self, stored: &[u8], seen: &[u8]) {
        let both = self.seen.get_or_insert_with(|| self.stored.clone());
        both.extend_from_slice(seen);
        self.stored.extend_from_slice(stored);
    }

    /// Adds an entry.
    pub(super) fn put(&mut self, entry: &[u8]) {
        self.stored.extend_from_slice(entry);
        if let Some(seen) = &mut self.seen {
            seen.extend_from_slice(entry);
        }
    }
}

/// Entries of all that the listing has from one place to before another.
pub(super) struct Done {
    pub(super) first: usize,
    pub(super) end: usize,
    pub(super) entries: Entries,
}

/// A tree on its way into the repository, and into the memory for the next run.
#[derive(Default)]
pub(super) struct Growing {
    stored: MetaStream,
    seen: NewTree,
    has_entries: bool,
}

impl Growing {
    pub(super) fn extend(
        &mut self,
        lane: &mut Lane<'_, '_>,
        gathered: &Gathered<'_>,
        entries: &Entries,
    ) -> Result<(), WriteError> {
        self.has_entries |= !entries.stored.is_empty();
        gathered.extend(&mut self.seen, entries.seen());
        lane.extend_meta(&mut self.stored, &entries.stored)
    }

    /// Where the whole tree is, in the repository and in the memory; `None` for one without entries.
    pub(super) fn close(
        self,
        lane: &mut Lane<'_, '_>,
        gathered: &Gathered<'_>,
    ) -> Result<Option<(StreamRef, Vec<u8>)>, WriteError> {
        if !self.has_entries {
            return Ok(None);
        }
        Ok(Some((
            lane.close_meta(self.stored)?,
            gathered.close(self.seen),
        )))
    }
}

/// The tree of a folder that is being read.
pub(super) struct Tree<'m> {
    growing: Growing,
    /// The place in the listing up to which all went in.
    next: usize,
    /// Parts behind it, by where they begin and end: what is taken over stands before a place and has none.
    waiting: BTreeMap<(usize, usize), Done>,
    waiting_bytes: usize,
    /// Folders below that are not done.
    below: usize,
    aside: Option<Rest<'m>>,
}

impl<'m> Tree<'m> {
    pub(super) fn new() -> Self {
        Self {
            growing: Growing::default(),
            next: 0,
            waiting: BTreeMap::new(),
            waiting_bytes: 0,
            below: 0,
            aside: None,
        }
    }

    /// A folder below is to be read.
    pub(super) fn expect_below(&mut self) {
        self.below += 1;
    }

    /// What was expected is there.
    pub(super) fn meet_below(&mut self) {
        self.below -= 1;
    }

    /// Takes a part that is done.
    pub(super) fn take(
        &mut self,
        lane: &mut Lane<'_, '_>,
        gathered: &Gathered<'_>,
        done: Done,
    ) -> Result<(), WriteError> {
        self.waiting_bytes += done.entries.stored.len();
        let twice = self.waiting.insert((done.first, done.end), done);
        assert!(twice.is_none(), "no two parts are of the same places");
        while let Some(first) = self.waiting.first_entry()
            && first.key().0 == self.next
        {
            let done = first.remove();
            self.waiting_bytes -= done.entries.stored.len();
            self.growing.extend(lane, gathered, &done.entries)?;
            self.next = done.end;
        }
        Ok(())
    }

    /// Puts the rest of the folder aside when too much waits already; gives it back when it may go on.
    pub(super) fn put_aside(&mut self, rest: Rest<'m>) -> Option<Rest<'m>> {
        if self.below < BELOW_MAX && self.waiting_bytes < WAITING_BYTES_MAX {
            return Some(rest);
        }
        self.aside = Some(rest);
        None
    }

    /// The rest that was put aside, when it is time.
    pub(super) fn take_up(&mut self) -> Option<Rest<'m>> {
        if self.below < BELOW_MAX / 2 && self.waiting_bytes < WAITING_BYTES_MAX / 2 {
            self.aside.take()
        } else {
            None
        }
    }

    /// Ends the tree when all its parts are done.
    pub(super) fn end(&mut self) -> Growing {
        assert!(
            self.waiting.is_empty() && self.below == 0 && self.aside.is_none(),
            "a tree is ended when all of it is there"
        );
        std::mem::take(&mut self.growing)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use lifeboat_files::{Folder, Listing};

    use super::*;
    use crate::memory::Past;

    #[test]
    fn who_is_far_ahead_is_put_aside_until_what_lacks_is_there() {
        let scratch = tempfile::tempdir().unwrap();
        let rest = |from| Rest {
            folder: Arc::new(Folder::open(scratch.path()).unwrap()),
            listing: Arc::new(Listing::new()),
            from,
            past: Past::nothing(),
        };
        let mut tree = Tree::new();
        for place in 0..BELOW_MAX {
            assert_eq!(tree.put_aside(rest(place)).unwrap().from, place);
            tree.expect_below();
        }
        assert!(tree.put_aside(rest(7)).is_none(), "so many folders wait");
        for _ in 0..BELOW_MAX / 2 {
            assert!(tree.take_up().is_none());
            tree.meet_below();
        }
        tree.meet_below();
        assert_eq!(tree.take_up().unwrap().from, 7);
        assert!(tree.take_up().is_none(), "it is taken up once");
        tree.waiting_bytes = WAITING_BYTES_MAX;
        assert!(tree.put_aside(rest(8)).is_none(), "so much waits");
        assert!(tree.take_up().is_none());
        tree.waiting_bytes = 0;
        assert_eq!(tree.take_up().unwrap().from, 8);
    }
}
