//! What a stream was in an earlier snapshot, of which it may be stored as a change.
//!
//! Not always in the last one: who reads a change reads what it rests on, so that changes of changes cost time. Of each
//! four nights the first rests on the one four nights before, of each sixteen the first on the one sixteen before, and so
//! on; so few changes stand on each other, and hardly one is of many nights.

use lifeboat_codec::{Entry, EntryKind, StreamRef};
use lifeboat_repository::{Reader, Repository, Snapshot};

use crate::browse::{Found, find_item};
use crate::entry::content_of;

/// Nights that rest on each other before one goes back as far.
const NIGHTS: u32 = 4;
/// From this size on a file's earlier content is looked for in the snapshot that fits best; below, the last one's will do.
const LARGE_BYTES: u64 = 4 << 20;

/// Earlier snapshots of an app, the best one first.
#[derive(Default)]
pub(crate) struct Earlier<'r> {
    reader: Option<Reader<'r>>,
    snapshots: Vec<Snapshot>,
}

impl<'r> Earlier<'r> {
    /// For a run that may rest on these, the best one first.
    pub(crate) fn new(repository: &'r Repository, snapshots: &[Snapshot]) -> Self {
        let reader = snapshots.first();
        Self {
            reader: reader.and_then(|first| repository.reader(first.head.domain).ok()),
            snapshots: snapshots.to_vec(),
        }
    }

    /// What the file at `path` of a source was.
    pub(crate) fn stream(&self, source: &str, path: &[u8]) -> Option<StreamRef> {
        let reader = self.reader.as_ref()?;
        let path = [source.as_bytes(), b"/", path].concat();
        self.snapshots.iter().find_map(|snapshot| {
            match find_item(reader, snapshot, &path).ok()? {
                Found::Other(item) if item.kind == EntryKind::File => item.content,
                _ => None,
            }
        })
    }

    /// The same for one of which the last snapshot says `entry`.
    pub(crate) fn content(
        &self,
        source: &str,
        path: &[u8],
        entry: &Entry<'_>,
    ) -> Option<StreamRef> {
        if entry.kind != EntryKind::File || entry.size == 0 {
            return None;
        }
        let large = (entry.size >= LARGE_BYTES)
            .then(|| self.stream(source, path))
            .flatten();
        large.or_else(|| content_of(entry).ok())
    }
}

/// On which snapshots the one after `parent` may rest, the best one first.
pub(crate) fn fitting(repository: &Repository, parent: Option<&Snapshot>) -> Vec<Snapshot> {
    let best = parent.and_then(|parent| best(repository, parent));
    best.into_iter().chain(parent.cloned()).collect()
}

/// The one of the writer's snapshots on which the one after `parent` should rest, where that is another.
fn best(repository: &Repository, parent: &Snapshot) -> Option<Snapshot> {
    let wanted = base_seq(parent.name.seq.checked_add(1)?);
    if wanted >= parent.name.seq {
        return None;
    }
    let list = repository.snapshots().ok()?;
    let fits = |snapshot: &&Snapshot| {
        snapshot.name.writer == parent.name.writer
            && snapshot.head.app == parent.head.app
            && snapshot.head.domain == parent.head.domain
            && snapshot.name.seq <= wanted
    };
    let all = list.snapshots.iter().filter(fits);
    all.max_by_key(|snapshot| snapshot.name.seq).cloned()
}

/// On which of a writer's snapshots the one with this number rests; they are counted from 1.
fn base_seq(seq: u32) -> u32 {
    let night = seq.saturating_sub(1);
    let mut step = 1;
    while step < night && night.is_multiple_of(step * NIGHTS) {
        step *= NIGHTS;
    }
    night.saturating_sub(step) + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_snapshots_stand_on_each_other_and_hardly_one_is_of_many_nights() {
        let bases: Vec<u32> = (2..=18).map(base_seq).collect();
        assert_eq!(
            bases,
            [1, 2, 3, 1, 5, 6, 7, 5, 9, 10, 11, 9, 13, 14, 15, 1, 17]
        );
        let height = |mut seq| {
            let mut height = 0;
            while seq > 1 {
                assert!(base_seq(seq) < seq);
                seq = base_seq(seq);
                height += 1;
            }
            height
        };
        assert_eq!((1..=64).map(height).max(), Some(9));
        assert_eq!((1..=4096).map(height).max(), Some(18));
        let nights: u32 = (2..=65).map(|seq| seq - base_seq(seq)).sum();
        assert!(nights <= 64 * 3, "{nights} nights of changes in 64");
        assert_eq!(base_seq(0), 1);
        assert!(base_seq(u32::MAX) < u32::MAX);
    }
}
