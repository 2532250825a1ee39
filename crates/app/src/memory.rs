//! What the last run over a source saw, so that this one reads only what changed.
//!
//! The local cache holds the trees of the last snapshot by path; when it is gone, or of another snapshot, the parent
//! snapshot's own trees serve. Either way the result is the same.

use std::collections::HashMap;
use std::sync::Mutex;

use lifeboat_codec::{Content, Entries, EntryTime, Input, SnapshotId, StreamRef, put_varint};
use lifeboat_repository::Reader;

use crate::entry::trusted_before;

/// The trees of a source at its last snapshot.
pub(crate) struct Memory<'r> {
    trees: Trees<'r>,
    /// Entries that changed at or after this are read again.
    pub(crate) trusted_before: EntryTime,
    /// True when all that was stored then is known to be there still.
    pub(crate) whole: bool,
}

enum Trees<'r> {
    /// There is no earlier snapshot.
    None,
    /// From the local cache: folder paths and their trees.
    Local(HashMap<&'r [u8], &'r [u8]>),
    /// From the parent snapshot.
    Snapshot(&'r Reader<'r>),
}

/// A folder's tree at the last snapshot.
pub(crate) type PastTree = Vec<u8>;

impl<'r> Memory<'r> {
    pub(crate) fn none() -> Self {
        Self {
            trees: Trees::None,
            trusted_before: EntryTime::default(),
            whole: false,
        }
    }

    /// The local memory, if it is that of `parent`; `whole` as the field.
    pub(crate) fn local(bytes: &'r [u8], parent: SnapshotId, whole: bool) -> Option<Self> {
        let mut input = Input::new(bytes, "the memory of a source");
        let id = SnapshotId(input.array().ok()?);
        let started_ms = input.u64().ok()?;
        let mut trees = HashMap::new();
        while !input.is_empty() {
            trees.insert(input.block().ok()?, input.block().ok()?);
        }
        (id == parent).then(|| Self {
            trees: Trees::Local(trees),
            trusted_before: trusted_before(started_ms),
            whole,
        })
    }

    pub(crate) fn snapshot(reader: &'r Reader<'r>, started_ms: u64) -> Self {
        Self {
            trees: Trees::Snapshot(reader),
            trusted_before: trusted_before(started_ms),
            whole: false,
        }
    }

    /// The tree of the source's own folder; `reference` is where the parent snapshot has it.
    pub(crate) fn top(&self, reference: Option<&StreamRef>) -> Option<PastTree> {
        match &self.trees {
            Trees::None => None,
            Trees::Local(trees) => trees.get(b"".as_slice()).map(|tree| tree.to_vec()),
            // A tree that cannot be read only means that the files are read again.
            Trees::Snapshot(reader) => reader.whole(reference?).ok(),
        }
    }

    /// The tree of the folder at `path`, whose entry in its parent's past tree had `content`.
    pub(crate) fn child(&self, path: &[u8], content: Content<'_>) -> Option<PastTree> {
        match (&self.trees, content) {
            (Trees::Local(trees), _) => trees.get(path).map(|tree| tree.to_vec()),
            (Trees::Snapshot(reader), Content::Stream(reference)) => {
                reader.whole(&StreamRef::decode(reference).ok()?).ok()
            }
            _ => None,
        }
    }
}

/// Before the trees stand the snapshot's id and when its run began.
const HEAD_BYTES: usize = 16 + 8;

/// Gathers this run's trees for the next, behind room for the head.
pub(crate) struct Gathered(Mutex<Vec<u8>>);

impl Default for Gathered {
    fn default() -> Self {
        Self(Mutex::new(vec![0; HEAD_BYTES]))
    }
}

impl Gathered {
    pub(crate) fn add(&self, path: &[u8], tree: &[u8]) {
        let mut bytes = self.0.lock().expect("no thread panics while it gathers");
        for part in [path, tree] {
            put_varint(&mut bytes, part.len() as u64);
            bytes.extend_from_slice(part);
        }
    }

    /// The memory for the run after snapshot `id`, which began at `started_ms`.
    pub(crate) fn finish(self, id: SnapshotId, started_ms: u64) -> Vec<u8> {
        let mut bytes = self
            .0
            .into_inner()
            .expect("no thread panics while it gathers");
        let head = [id.0.as_slice(), &started_ms.to_le_bytes()].concat();
        bytes[..HEAD_BYTES].copy_from_slice(&head);
        bytes
    }
}

/// Walks a past tree in step with a listing.
pub(crate) struct Past<'t> {
    entries: Entries<'t>,
    held: Option<(lifeboat_codec::Entry<'t>, &'t [u8])>,
}

impl<'t> Past<'t> {
    pub(crate) fn new(tree: &'t [u8]) -> Self {
        Self {
            entries: Entries::new(tree),
            held: None,
        }
    }

    /// Takes the next past entry whose name stands before `limit`; any, without one.
    pub(crate) fn next_below(&mut self, limit: Option<&[u8]>) -> Option<lifeboat_codec::Entry<'t>> {
        if self.held.is_none() {
            let entry = self.entries.next()?.ok()?;
            self.held = Some((entry, self.entries.raw()));
        }
        let below = |(entry, _): &(lifeboat_codec::Entry<'t>, _)| {
            limit.is_none_or(|limit| entry.name < limit)
        };
        self.held
            .take_if(|held| below(held))
            .map(|(entry, _)| entry)
    }

    /// The past entry called `name`; names are asked for in ascending order.
    pub(crate) fn find(&mut self, name: &[u8]) -> Option<(&lifeboat_codec::Entry<'t>, &'t [u8])> {
        while self
            .held
            .as_ref()
            .is_none_or(|(entry, _)| entry.name < name)
        {
            // A damaged tree ends here, and the rest is read as new.
            let entry = self.entries.next()?.ok()?;
            self.held = Some((entry, self.entries.raw()));
        }
        self.held
            .as_ref()
            .filter(|(entry, _)| entry.name == name)
            .map(|(entry, raw)| (entry, *raw))
    }
}

#[cfg(test)]
mod tests {
    use lifeboat_codec::{Entry, EntryKind, put_entry};

    use super::*;

    #[test]
    fn local_memory_is_used_for_its_own_snapshot_only() {
        let gathered = Gathered::default();
        gathered.add(b"", b"top");
        gathered.add(b"a/b", b"inner");
        let bytes = gathered.finish(SnapshotId([1; 16]), 5_000);
        let memory = Memory::local(&bytes, SnapshotId([1; 16]), true).unwrap();
        assert_eq!(memory.top(None).unwrap(), b"top");
        assert_eq!(memory.child(b"a/b", Content::None).unwrap(), b"inner");
        assert_eq!(memory.child(b"a", Content::None), None);
        assert!(Memory::local(&bytes[..bytes.len() - 1], SnapshotId([1; 16]), true).is_none());
        assert!(Memory::local(&bytes, SnapshotId([2; 16]), true).is_none());
    }

    #[test]
    fn a_past_tree_is_walked_in_step() {
        let (mut tree, mut scratch) = (Vec::new(), Vec::new());
        for name in [b"a".as_slice(), b"c", b"e"] {
            put_entry(&mut tree, &Entry::new(EntryKind::File, name), &mut scratch);
        }
        let mut past = Past::new(&tree);
        let found: Vec<bool> = [b"a".as_slice(), b"b", b"c", b"d", b"e", b"f"]
            .map(|name| past.find(name).is_some())
            .to_vec();
        assert_eq!(found, [true, false, true, false, true, false]);
    }
}
