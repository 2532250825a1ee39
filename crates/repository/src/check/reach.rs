//! What the snapshots need: every chunk of every manifest, tree, list and file, each distinct tree read once.
//!
//! Unlike a restore it goes on behind what it cannot read, so that one damaged segment does not hide another. Memory
//! holds a piece of each folder on the way down, 16 bytes for each distinct tree, and every needed chunk.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use lifeboat_codec::{
    ChunkId, ChunkItem, Content, Entry, EntryKind, FormatError, Manifest, StreamRef,
};

use crate::lookup::{IdMap, Lookup};
use crate::reader::{Failed, Reader, bytes_of, chunks_of_stream, read_all};
use crate::repository::{ReadError, Repository};
use crate::snapshots::{Snapshot, sentence};
use crate::stored_tree::{FOLDER_DEPTH_MAX, StoredTree, TreeKey, tree_key};

/// What was seen on the way through the snapshots.
pub(super) struct Reach<'c> {
    repository: &'c Repository,
    lookup: Arc<Lookup>,
    stop: &'c AtomicBool,
    seen: HashSet<TreeKey>,
    /// Every chunk that a snapshot needs, with its length, by domain.
    pub(super) needed: HashMap<u32, IdMap<u32>>,
    /// Needed chunks that no pack holds.
    pub(super) missing: HashSet<(u32, ChunkId)>,
    /// Segments of metadata that could not be read, by number in the lookup.
    pub(super) broken: BTreeMap<u32, String>,
    /// What was read well and makes no sense, by snapshot.
    pub(super) malformed: Vec<(usize, String)>,
}

impl<'c> Reach<'c> {
    pub(super) fn new(
        repository: &'c Repository,
        lookup: Arc<Lookup>,
        stop: &'c AtomicBool,
    ) -> Self {
        Self {
            repository,
            lookup,
            stop,
            seen: HashSet::new(),
            needed: HashMap::new(),
            missing: HashSet::new(),
            broken: BTreeMap::new(),
            malformed: Vec::new(),
        }
    }

    /// Walks through all `snapshots`.
    pub(super) fn walk(&mut self, snapshots: &[Snapshot]) {
        let mut domains: Vec<u32> = snapshots
            .iter()
            .map(|snapshot| snapshot.head.domain)
            .collect();
        domains.sort_unstable();
        domains.dedup();
        // One domain after the other, because each reader keeps what it opened.
        for domain in domains {
            let Ok(reader) = self
                .repository
                .reader_over(Arc::clone(&self.lookup), domain)
            else {
                continue;
            };
            for (number, snapshot) in snapshots
                .iter()
                .enumerate()
                .filter(|(_, snapshot)| snapshot.head.domain == domain)
            {
                if self.stop.load(Ordering::Relaxed) {
                    return;
                }
                self.snapshot(&reader, number, snapshot);
            }
        }
    }

    fn snapshot(&mut self, reader: &Reader<'_>, number: usize, snapshot: &Snapshot) {
        let domain = snapshot.head.domain;
        if let Some(bytes) = self.whole(reader, number, domain, &snapshot.head.manifest)
            && let Err(error) = Manifest::decode(&bytes)
        {
            self.malformed.push((
                number,
                format!("has a manifest that makes no sense: {error}"),
            ));
        }
        let mut levels: Vec<StoredTree<'_>> = Vec::new();
        levels.extend(self.tree(reader, number, domain, &snapshot.head.root));
        while let Some(level) = levels.last_mut() {
            if self.stop.load(Ordering::Relaxed) {
                return;
            }
            let below = match level.next_entry() {
                Ok(Some(entry)) => self
                    .entry(reader, number, domain, &entry)
                    .map_err(|source| ReadError::format("a tree", source)),
                Ok(None) => {
                    levels.pop();
                    continue;
                }
                Err(error) => Err(error),
            };
            let below = match below {
                Ok(Some(_)) if levels.len() >= FOLDER_DEPTH_MAX => Err(ReadError::format(
                    "a tree",
                    FormatError::Invalid("the tree is deeper than any folder"),
                )),
                below => below,
            };
            match below {
                Ok(below) => {
                    levels.extend(below.and_then(|tree| self.tree(reader, number, domain, &tree)));
                }
                Err(ReadError::Format { source, .. }) => {
                    self.malformed
                        .push((number, format!("has a tree that makes no sense: {source}")));
                    levels.pop();
                }
                // It was read when the walk came to it; since then the storage failed, or lost it.
                Err(error) => {
                    let what = format!("has a tree that cannot be read: {}", sentence(&error));
                    self.malformed.push((number, what));
                    levels.pop();
                }
            }
        }
    }

    /// Begins to read a tree, unless it was read before or not all of it can be.
    fn tree<'r>(
        &mut self,
        reader: &'r Reader<'r>,
        number: usize,
        domain: u32,
        tree: &StreamRef,
    ) -> Option<StoredTree<'r>> {
        // Equal folders are one tree: visited once, or a small repository could name 2^64 paths.
        if !self.seen.insert(tree_key(domain, tree)) {
            return None;
        }
        let items = self.items(reader, number, domain, tree)?;
        self.judge(domain, number, read_all(reader, &items))?;
        Some(reader.tree_of(items))
    }

    /// Notes what an entry needs, and returns the tree of a folder or a bundle.
    fn entry(
        &mut self,
        reader: &Reader<'_>,
        number: usize,
        domain: u32,
        entry: &Entry<'_>,
    ) -> Result<Option<StreamRef>, FormatError> {
        match (entry.kind, entry.content) {
            (_, Content::None) => {}
            (EntryKind::Folder, Content::Stream(reference)) | (_, Content::Bundle(reference)) => {
                return StreamRef::decode(reference).map(Some);
            }
            (_, Content::Chunk(id)) => {
                let length = u32::try_from(entry.size)
                    .map_err(|_| FormatError::Invalid("a chunk's length is not allowed"))?;
                self.need(number, domain, ChunkItem { id, length });
            }
            (_, Content::Stream(reference)) => {
                drop(self.items(reader, number, domain, &StreamRef::decode(reference)?));
            }
        }
        Ok(None)
    }

    fn need(&mut self, number: usize, domain: u32, item: ChunkItem) {
        let known = *self
            .needed
            .entry(domain)
            .or_default()
            .entry(item.id)
            .or_insert(item.length);
        if known != item.length {
            self.malformed.push((
                number,
                format!(
                    "names chunk {} with {} bytes and with {known}",
                    item.id, item.length
                ),
            ));
        }
        if self.lookup.find(domain, item.id).is_none() {
            self.missing.insert((domain, item.id));
        }
    }

    /// Notes every chunk of a stream, those of its lists too; `None` when a list could not be read.
    fn items(
        &mut self,
        reader: &Reader<'_>,
        number: usize,
        domain: u32,
        stream: &StreamRef,
    ) -> Option<Vec<ChunkItem>> {
        let read = chunks_of_stream(reader, stream, &mut |_, item| {
            self.need(number, domain, item);
            Ok(())
        });
        self.judge(domain, number, read)
    }

    /// A stream of metadata, whole; `None` when a part of it could not be read.
    fn whole(
        &mut self,
        reader: &Reader<'_>,
        number: usize,
        domain: u32,
        stream: &StreamRef,
    ) -> Option<Vec<u8>> {
        let items = self.items(reader, number, domain, stream)?;
        self.judge(domain, number, bytes_of(reader, &items))
    }

    /// Keeps what failed.
    fn judge<T>(&mut self, domain: u32, number: usize, read: Result<T, Failed>) -> Option<T> {
        match read {
            Ok(value) => return Some(value),
            Err(Failed::Chunks(chunks)) => {
                for (item, error) in chunks
                    .into_iter()
                    .filter(|(_, error)| !matches!(error, ReadError::MissingChunk(_)))
                {
                    let holders: Vec<u32> = self.lookup.holders(domain, item.id).collect();
                    for segment in holders {
                        self.broken
                            .entry(segment)
                            .or_insert_with(|| sentence(&error));
                    }
                }
            }
            Err(Failed::List(error)) => self.malformed.push((
                number,
                format!("has a chunk list that makes no sense: {error}"),
            )),
        }
        None
    }
}
