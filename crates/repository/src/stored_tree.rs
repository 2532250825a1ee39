//! A stored tree, read entry by entry: a folder of ten million files needs no more memory than one of ten.

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

/// A tree whose chunks are fetched when the walk comes to them.
pub struct StoredTree<'r> {
    reader: &'r Reader<'r>,
    chunks: std::vec::IntoIter<ChunkItem>,
    cursor: TreeCursor,
    /// A part of it could not be read: it has no end that may be believed.
    has_failed: bool,
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
        }
        Ok(true)
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

fn wrong(source: FormatError) -> ReadError {
    ReadError::format("a tree", source)
}
