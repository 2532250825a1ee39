//! What the last run over a source saw, so that this one reads only what changed.
//!
//! The local cache holds the trees of the last snapshot, cut into pieces; when it is gone, or of another snapshot, the
//! parent snapshot's own trees serve. Either way the result is the same, and a tree is read as the walk goes through its
//! folder, so that no number of files needs more memory. In a remembered tree a folder's entry says, where a stored one
//! has the reference to its tree, in which pieces its own is.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use lifeboat_codec::{
    Content, Entry, EntryTime, Input, SnapshotId, StreamRef, TreeCursor, put_varint,
};
use lifeboat_repository::{Basis, NewMemory, Reader, Repository, SourceMemory, StoredTree};

use crate::entry::trusted_before;

/// A piece has about this many bytes.
const PIECE_BYTES: usize = 128 << 10;
/// Pieces that are kept after they were read: small folders that lie beside each other are in the same ones.
const PIECES_MAX: usize = 32;

/// Where a past tree is: an encoded stream reference or [`Place`]. `None` when there was none.
pub(crate) type PastTree = Option<Box<[u8]>>;

/// The trees of a source at its last snapshot.
pub(crate) struct Memory<'r> {
    trees: Trees<'r>,
    /// Entries that changed at or after this are read again.
    pub(crate) trusted_before: EntryTime,
    /// True when all that was stored then is known to be there still.
    pub(crate) whole: bool,
    /// The tree of the source's own folder.
    pub(crate) top: PastTree,
}

enum Trees<'r> {
    /// There is no earlier snapshot.
    None,
    /// From the local cache.
    Local(Local<'r>),
    /// From the parent snapshot.
    Snapshot(&'r Reader<'r>),
}

struct Local<'r> {
    repository: &'r Repository,
    memory: &'r SourceMemory,
    pieces: Mutex<VecDeque<(u32, Arc<Vec<u8>>)>>,
}

impl Local<'_> {
    fn piece(&self, number: u32) -> Option<Arc<Vec<u8>>> {
        let pieces = || self.pieces.lock().expect("no thread panics with a piece");
        if let Some((_, piece)) = pieces().iter().find(|(there, _)| *there == number) {
            return Some(Arc::clone(piece));
        }
        let piece = Arc::new(self.repository.source_piece(self.memory, number)?);
        let mut pieces = pieces();
        if pieces.len() == PIECES_MAX {
            pieces.pop_front();
        }
        pieces.push_back((number, Arc::clone(&piece)));
        Some(piece)
    }
}

/// Which snapshot a run made that left something behind, and when it began.
struct Word {
    id: SnapshotId,
    started_ms: u64,
    /// The tree of the source's own folder.
    top: Box<[u8]>,
}

impl Word {
    fn decode(bytes: &[u8]) -> Option<Self> {
        let mut input = Input::new(bytes, "the memory of a source");
        Some(Self {
            id: SnapshotId(input.array().ok()?),
            started_ms: input.u64().ok()?,
            top: input.rest().into(),
        })
    }

    fn encode(&self) -> Vec<u8> {
        [
            &self.id.0,
            self.started_ms.to_le_bytes().as_slice(),
            &self.top,
        ]
        .concat()
    }
}

/// The snapshot of which a source's memory is.
pub(crate) fn remembered(memory: &SourceMemory) -> Option<SnapshotId> {
    Word::decode(&memory.word).map(|word| word.id)
}

impl<'r> Memory<'r> {
    pub(crate) fn none() -> Self {
        Self {
            trees: Trees::None,
            trusted_before: EntryTime::default(),
            whole: false,
            top: None,
        }
    }

    /// The local memory, if it is that of `parent`; `whole` as the field.
    pub(crate) fn local(
        repository: &'r Repository,
        memory: &'r SourceMemory,
        parent: SnapshotId,
        whole: bool,
    ) -> Option<Self> {
        let word = Word::decode(&memory.word).filter(|word| word.id == parent)?;
        let local = Local {
            repository,
            memory,
            pieces: Mutex::default(),
        };
        Some(Self {
            trees: Trees::Local(local),
            trusted_before: trusted_before(word.started_ms),
            whole,
            top: Some(word.top),
        })
    }

    /// The parent snapshot's own trees; `top` is the reference that it has to the source's own.
    pub(crate) fn snapshot(reader: &'r Reader<'r>, started_ms: u64, top: PastTree) -> Self {
        Self {
            trees: Trees::Snapshot(reader),
            trusted_before: trusted_before(started_ms),
            whole: false,
            top,
        }
    }

    /// Begins to read a past tree. One that cannot be read only means that the files are read again.
    pub(crate) fn past(&self, tree: Option<&[u8]>) -> Past<'_> {
        let from = match (&self.trees, tree) {
            (Trees::Local(local), Some(place)) => {
                Place::decode(place).map(|place| From::Local(LocalTree::new(local, place)))
            }
            (Trees::Snapshot(reader), Some(reference)) => StreamRef::decode(reference)
                .ok()
                .and_then(|stream| reader.tree(&stream).ok())
                .map(From::Snapshot),
            _ => None,
        };
        from.map_or_else(Past::nothing, |from| Past { from, held: false })
    }
}

/// Where the past tree of a folder is, by the folder's entry in the past tree above it.
pub(crate) fn past_tree(entry: &Entry<'_>) -> PastTree {
    match entry.content {
        Content::Stream(reference) => Some(reference.into()),
        _ => None,
    }
}

/// Where a remembered tree is: pieces of its own, then a part of one that several trees share.
#[derive(Debug, PartialEq, Eq)]
struct Place {
    own: Vec<u32>,
    shared: u32,
    start: usize,
    length: usize,
}

impl Place {
    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put_varint(&mut out, self.own.len() as u64);
        let own = self.own.iter().map(|number| u64::from(*number));
        let shared = [self.shared.into(), self.start as u64, self.length as u64];
        own.chain(shared)
            .for_each(|number| put_varint(&mut out, number));
        out
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let mut input = Input::new(bytes, "where a tree is");
        let mut number = || input.varint().ok();
        let count = number()?;
        let own = (0..count)
            .map(|_| u32::try_from(number()?).ok())
            .collect::<Option<Vec<u32>>>()?;
        Some(Self {
            own,
            shared: u32::try_from(number()?).ok()?,
            start: usize::try_from(number()?).ok()?,
            length: usize::try_from(number()?).ok()?,
        })
    }
}

/// Walks a past tree in step with a listing.
pub(crate) struct Past<'m> {
    from: From<'m>,
    /// The current entry was not asked for yet.
    held: bool,
}

enum From<'m> {
    Nothing,
    Local(LocalTree<'m>),
    Snapshot(StoredTree<'m>),
}

struct LocalTree<'m> {
    local: &'m Local<'m>,
    own: std::vec::IntoIter<u32>,
    shared: Option<(u32, usize, usize)>,
    cursor: TreeCursor,
}

impl<'m> LocalTree<'m> {
    fn new(local: &'m Local<'m>, place: Place) -> Self {
        Self {
            local,
            own: place.own.into_iter(),
            shared: Some((place.shared, place.start, place.length)),
            cursor: TreeCursor::default(),
        }
    }

    /// Goes to the next entry; `None` at the end, and where a piece lacks.
    fn advance(&mut self) -> Option<()> {
        while !self.cursor.advance().ok()? {
            if let Some(number) = self.own.next() {
                self.cursor.feed(&self.local.piece(number)?);
            } else {
                let (number, start, length) = self.shared.take().filter(|tail| tail.2 > 0)?;
                let piece = self.local.piece(number)?;
                self.cursor.feed(piece.get(start..)?.get(..length)?);
            }
        }
        Some(())
    }
}

impl Past<'_> {
    /// A tree without entries.
    pub(crate) fn nothing() -> Self {
        Self {
            from: From::Nothing,
            held: false,
        }
    }

    /// Goes to the next entry, if the current one was asked for; `None` at the end. A damaged tree ends where it is
    /// damaged, and the rest is read as new.
    fn hold(&mut self) -> Option<()> {
        if self.held {
            return Some(());
        }
        let advanced = match &mut self.from {
            From::Nothing => None,
            From::Local(tree) => tree.advance(),
            From::Snapshot(tree) => tree.advance().ok().filter(|more| *more).map(drop),
        };
        match advanced {
            Some(()) => self.held = true,
            None => self.from = From::Nothing,
        }
        advanced
    }

    fn name(&self) -> &[u8] {
        match &self.from {
            From::Nothing => &[],
            From::Local(tree) => tree.cursor.name(),
            From::Snapshot(tree) => tree.name(),
        }
    }

    /// The current entry, and its bytes as they stand in the tree.
    fn entry(&self) -> Option<(Entry<'_>, &[u8])> {
        match &self.from {
            From::Nothing => None,
            From::Local(tree) => Some((tree.cursor.entry().ok()?, tree.cursor.raw())),
            From::Snapshot(tree) => Some((tree.entry().ok()?, tree.raw())),
        }
    }

    /// Takes the next past entry whose name stands before `limit`; any, without one.
    pub(crate) fn next_below(&mut self, limit: Option<&[u8]>) -> Option<Entry<'_>> {
        self.hold()?;
        if limit.is_some_and(|limit| self.name() >= limit) {
            return None;
        }
        self.held = false;
        self.entry().map(|(entry, _)| entry)
    }

    /// Takes the past entry called `name`; names are asked for in ascending order.
    pub(crate) fn find(&mut self, name: &[u8]) -> Option<(Entry<'_>, &[u8])> {
        loop {
            self.hold()?;
            match self.name().cmp(name) {
                std::cmp::Ordering::Less => self.held = false,
                std::cmp::Ordering::Equal => break,
                std::cmp::Ordering::Greater => return None,
            }
        }
        self.held = false;
        self.entry()
    }
}

/// Gathers this run's trees for the next.
pub(crate) struct Gathered<'r> {
    repository: &'r Repository,
    memory: NewMemory,
    numbers: AtomicU32,
    /// The piece that small trees share.
    shared: Mutex<Shared>,
}

struct Shared {
    number: u32,
    bytes: Vec<u8>,
}

/// A folder's tree on its way into the memory.
#[derive(Default)]
pub(crate) struct NewTree {
    own: Vec<u32>,
    bytes: Vec<u8>,
}

impl<'r> Gathered<'r> {
    pub(crate) fn new(repository: &'r Repository, app: &str, source: &str) -> Self {
        Self {
            repository,
            memory: repository.new_memory(app, source),
            numbers: AtomicU32::new(1),
            shared: Mutex::new(Shared {
                number: 0,
                bytes: Vec::new(),
            }),
        }
    }

    fn number(&self) -> u32 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    /// Adds the next entries of a tree.
    pub(crate) fn extend(&self, tree: &mut NewTree, entries: &[u8]) {
        tree.bytes.extend_from_slice(entries);
        if tree.bytes.len() >= PIECE_BYTES {
            let number = self.number();
            let piece = std::mem::take(&mut tree.bytes);
            self.repository.keep_piece(&self.memory, number, piece);
            tree.own.push(number);
        }
    }

    /// Ends a tree, and returns where it is.
    pub(crate) fn close(&self, tree: NewTree) -> Vec<u8> {
        let (place, full) = {
            let mut shared = self
                .shared
                .lock()
                .expect("no thread panics while it gathers");
            let place = Place {
                own: tree.own,
                shared: shared.number,
                start: shared.bytes.len(),
                length: tree.bytes.len(),
            };
            shared.bytes.extend_from_slice(&tree.bytes);
            let full = (shared.bytes.len() >= PIECE_BYTES).then(|| {
                let next = Shared {
                    number: self.number(),
                    bytes: Vec::with_capacity(PIECE_BYTES),
                };
                std::mem::replace(&mut *shared, next)
            });
            (place, full)
        };
        if let Some(full) = full {
            self.repository
                .keep_piece(&self.memory, full.number, full.bytes);
        }
        place.encode()
    }

    /// All is gathered; `top` is where the tree of the source's own folder is.
    pub(crate) fn finish(self, top: Vec<u8>) -> Seen {
        let shared = self
            .shared
            .into_inner()
            .expect("no thread panics while it gathers");
        self.repository
            .keep_piece(&self.memory, shared.number, shared.bytes);
        Seen {
            memory: self.memory,
            top,
        }
    }
}

/// What a run saw of a source, until it is known how the run ended.
pub(crate) struct Seen {
    memory: NewMemory,
    top: Vec<u8>,
}

impl Seen {
    /// The run made snapshot `id`, which rests on `basis`, and began at `started_ms`: the next one may use what it saw.
    pub(crate) fn remember(
        self,
        repository: &Repository,
        basis: &Basis,
        id: SnapshotId,
        started_ms: u64,
    ) {
        let word = Word {
            id,
            started_ms,
            top: self.top.into(),
        };
        repository.remember_source(&self.memory, basis, &word.encode());
    }
}

#[cfg(test)]
mod tests;
