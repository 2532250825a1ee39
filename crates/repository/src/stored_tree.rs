//! A stored tree, read entry by entry: a folder of ten million files needs no more memory than one of ten.

use std::mem::size_of_val;
use std::sync::atomic::Ordering;

use lifeboat_codec::{ChunkItem, Entry, FormatError, StreamRef, TreeCursor};

use crate::reader::Reader;
use crate::repository::ReadError;

/// Which tree of which domain, by the hash of its reference: equal folders are one tree.
pub(crate) type TreeKey = [u8; 16];

/// The key of a tree.
pub(crate) fn tree_key(domain: u32, tree: &StreamRef) -> TreeKey {
    let hash = blake3::Hasher::new()
        .update(&domain.to_le_bytes())
        .update(&tree.encode())
        .finalize();
    let (key, _) = hash
        .as_bytes()
        .split_first_chunk()
        .expect("a hash is longer than a key");
    *key
}

/// Folders lie at most this deep in each other; a deeper tree is an attack, because no file system makes it.
pub const FOLDER_DEPTH_MAX: usize = 100_000;
/// What the trees that are open at once may hold in memory, in bytes: a piece of each folder on the way down. Folders of
/// thousands of entries in each of thousands of levels would need more, and only a forged repository has them.
const HELD_MAX: usize = 256 << 20;

/// A tree whose chunks are fetched when the walk comes to them.
pub struct StoredTree<'r> {
    reader: &'r Reader<'r>,
    chunks: std::vec::IntoIter<ChunkItem>,
    cursor: TreeCursor,
    /// A part of it could not be read: it has no end that may be believed.
    has_failed: bool,
    /// What of the reader's sum is this tree's.
    held: usize,
}

impl<'r> Reader<'r> {
    /// Begins to read a tree.
    ///
    /// # Errors
    /// When its chunk list cannot be read.
    pub fn tree(&'r self, stream: &StreamRef) -> Result<StoredTree<'r>, ReadError> {
        Ok(self.tree_of(self.chunks(stream)?))
    }

    /// Begins to read the tree that these chunks hold.
    pub(crate) fn tree_of(&'r self, chunks: Vec<ChunkItem>) -> StoredTree<'r> {
        StoredTree {
            reader: self,
            chunks: chunks.into_iter(),
            cursor: TreeCursor::default(),
            has_failed: false,
            held: 0,
        }
    }
}

impl StoredTree<'_> {
    /// Goes to the next entry; false at the end.
    ///
    /// # Errors
    /// When a chunk cannot be read, or holds no tree. Where the entry after it would begin is not known then, so that
    /// every later call fails too: a tree that was read in part never looks like one that is at its end.
    pub fn advance(&mut self) -> Result<bool, ReadError> {
        if self.has_failed {
            return Err(wrong(FormatError::Invalid("a part of it cannot be read")));
        }
        let advanced = self.try_advance();
        if advanced.is_err() {
            self.has_failed = true;
            (self.chunks, self.cursor) = (Vec::new().into_iter(), TreeCursor::default());
            self.hold(0);
        }
        advanced
    }

    fn try_advance(&mut self) -> Result<bool, ReadError> {
        while !self.cursor.advance().map_err(wrong)? {
            let Some(item) = self.chunks.next() else {
                return match self.cursor.left() {
                    0 => Ok(false),
                    _ => Err(wrong(FormatError::Truncated("a tree"))),
                };
            };
            self.reader
                .with_chunk(&item, |chunk| self.cursor.feed(chunk))?;
            let all = self.hold(self.cursor.held_bytes() + size_of_val(self.chunks.as_slice()));
            if all > HELD_MAX {
                let what = "the folders above each other are larger than any";
                return Err(wrong(FormatError::Invalid(what)));
            }
        }
        Ok(true)
    }

    /// Notes how much this tree holds, and returns how much all trees of the reader do.
    fn hold(&mut self, bytes: usize) -> usize {
        let sum = &self.reader.held;
        let before = std::mem::replace(&mut self.held, bytes);
        sum.fetch_add(bytes, Ordering::Relaxed);
        sum.fetch_sub(before, Ordering::Relaxed) - before
    }

    /// The next entry; `None` at the end.
    ///
    /// # Errors
    /// As [`advance`](Self::advance).
    pub fn next_entry(&mut self) -> Result<Option<Entry<'_>>, ReadError> {
        if !self.advance()? {
            return Ok(None);
        }
        self.entry().map(Some)
    }

    /// The current entry's name.
    #[must_use]
    pub fn name(&self) -> &[u8] {
        self.cursor.name()
    }

    /// The current entry.
    ///
    /// # Errors
    /// When it is not one that this version may read.
    pub fn entry(&self) -> Result<Entry<'_>, ReadError> {
        self.cursor.entry().map_err(wrong)
    }

    /// The bytes of the current entry as they stand in the tree.
    #[must_use]
    pub fn raw(&self) -> &[u8] {
        self.cursor.raw()
    }
}

impl Drop for StoredTree<'_> {
    fn drop(&mut self) {
        self.hold(0);
    }
}

fn wrong(source: FormatError) -> ReadError {
    ReadError::format("a tree", source)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::AtomicBool;

    use lifeboat_codec::{EntryKind, Manifest, put_entry};

    use super::*;
    use crate::commit::{Contents, Draft};
    use crate::progress::Silent;
    use crate::testing::World;
    use crate::write_error::WriteError;
    use crate::writer::{Writer, work};

    #[test]
    fn open_trees_hold_a_bounded_sum_and_give_it_back() {
        let (_world, mut repository) = World::new();
        let write = |writer: &Writer<'_>| -> Result<Contents, WriteError> {
            let refs = Mutex::new(None);
            let task = vec![()];
            work(writer, 1, task, |lane, (), _| -> Result<(), WriteError> {
                let (mut root, mut scratch) = (Vec::new(), Vec::new());
                let link = Entry {
                    target: &vec![b'x'; 40 << 20],
                    ..Entry::new(EntryKind::Symlink, b"link")
                };
                put_entry(&mut root, &link, &mut scratch);
                let manifest = lane.put_meta(&Manifest::default().encode())?;
                *refs.lock().unwrap() = Some((lane.put_meta(&root)?, manifest));
                Ok(())
            })?;
            let (root, manifest) = refs.into_inner().unwrap().unwrap();
            Ok(Contents {
                root,
                manifest,
                files: 0,
                bytes: 0,
                unreadable: 0,
            })
        };
        let draft = Draft {
            app: "shop".into(),
            ..Draft::default()
        };
        let stop = AtomicBool::new(false);
        repository.backup(&draft, &Silent, &stop, write).unwrap();
        let snapshot = repository.snapshots().unwrap().snapshots.remove(0);
        let reader = repository.reader(snapshot.head.domain).unwrap();
        let mut open = Vec::new();
        let refused = loop {
            let mut tree = reader.tree(&snapshot.head.root).unwrap();
            match tree.advance() {
                Ok(there) => assert!(there),
                Err(error) => break error,
            }
            open.push(tree);
            assert!(open.len() < 8);
        };
        assert!(matches!(refused, ReadError::Format { .. }), "{refused:?}");
        assert!(open.len() > 2);
        drop(open);
        assert_eq!(reader.held.load(Ordering::Relaxed), 0);
        assert!(reader.tree(&snapshot.head.root).unwrap().advance().unwrap());
    }
}
