//! What the last run over a source saw, so that this one reads only what changed.
//!
//! The local cache holds the trees of the last snapshot, cut into pieces; when it is gone, or of another snapshot, or lacks
//! a piece, the parent snapshot's own trees serve. Either way the result is the same, and a tree is read as the walk goes
//! through its folder, so that no number of files needs more memory. In a remembered tree a folder's entry says, where a
//! stored one has the reference to its tree, in which pieces its own is.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use lifeboat_codec::{
    Content, Entry, EntryKind, EntryTime, Input, SnapshotId, StreamRef, TreeCursor, put_varint,
};
use lifeboat_repository::{Basis, NewMemory, Reader, Repository, SourceMemory, StoredTree};

use crate::entry::trusted_before;

/// A piece has about this many bytes.
const PIECE_BYTES: usize = 128 << 10;
/// Pieces that are kept after they were read: small folders that lie beside each other are in the same ones.
const PIECES_MAX: usize = 32;

/// Where the past tree of a folder is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PastTree {
    /// There was none.
    None,
    /// In the local cache, at this encoded [`Place`].
    Remembered(Box<[u8]>),
    /// In the parent snapshot, by this encoded stream reference.
    Stored(Box<[u8]>),
}

/// The trees of a source at its last snapshot.
pub(crate) struct Memory<'r> {
    local: Option<Local<'r>>,
    stored: Option<StoredTrees<'r>>,
    /// Entries that changed at or after this are read again.
    pub(crate) trusted_before: EntryTime,
    /// True when all that was stored then is known to be there still.
    pub(crate) whole: bool,
}

/// The trees of a source as the parent snapshot has them.
pub(crate) struct StoredTrees<'r> {
    pub(crate) reader: &'r Reader<'r>,
    /// The encoded reference to the tree of the source's own folder.
    pub(crate) top: Box<[u8]>,
}

struct Local<'r> {
    repository: &'r Repository,
    memory: &'r SourceMemory,
    top: Box<[u8]>,
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
            local: None,
            stored: None,
            trusted_before: EntryTime::default(),
            whole: false,
        }
    }

    /// The local memory, if it is that of `parent`; `whole` as the field, `stored` for where it lacks.
    pub(crate) fn local(
        repository: &'r Repository,
        memory: &'r SourceMemory,
        parent: SnapshotId,
        whole: bool,
    ) -> Option<Self> {
        let word = Word::decode(&memory.word).filter(|word| word.id == parent)?;
        Some(Self {
            local: Some(Local {
                repository,
                memory,
                top: word.top,
                pieces: Mutex::default(),
            }),
            stored: None,
            trusted_before: trusted_before(word.started_ms),
            whole,
        })
    }

    /// The parent snapshot's own trees alone.
    pub(crate) fn snapshot(started_ms: u64) -> Self {
        Self {
            trusted_before: trusted_before(started_ms),
            ..Self::none()
        }
    }

    /// The same; where nothing else is known, the parent snapshot is asked.
    pub(crate) fn or_stored(self, stored: Option<StoredTrees<'r>>) -> Self {
        Self { stored, ..self }
    }

    /// The tree of the source's own folder.
    pub(crate) fn top(&self) -> PastTree {
        match (&self.local, &self.stored) {
            (Some(local), _) => PastTree::Remembered(local.top.clone()),
            (None, Some(stored)) => PastTree::Stored(stored.top.clone()),
            (None, None) => PastTree::None,
        }
    }

    /// Begins to read the past tree of the folder at `path`. One that cannot be read only means that the files are read
    /// again.
    pub(crate) fn past(&self, tree: &PastTree, path: &[u8]) -> Past<'_> {
        let from = match (tree, &self.local, &self.stored) {
            (PastTree::Remembered(place), Some(local), _) => Some(From::Local(LocalTree::new(
                local,
                Place::decode(place).unwrap_or_else(Place::lost),
            ))),
            (PastTree::Stored(reference), _, Some(stored)) => {
                stored.tree(reference).map(From::Stored)
            }
            _ => None,
        };
        Past {
            memory: Some(self),
            path: path.into(),
            from: from.unwrap_or(From::Nothing),
            held: false,
        }
    }
}

impl<'r> StoredTrees<'r> {
    fn tree(&self, reference: &[u8]) -> Option<StoredTree<'r>> {
        self.reader.tree(&StreamRef::decode(reference).ok()?).ok()
    }

    /// The tree of the folder at `path`, looked for from the source's own.
    fn find(&self, path: &[u8]) -> Option<StoredTree<'r>> {
        let mut tree = self.tree(&self.top)?;
        for name in path
            .split(|byte| *byte == b'/')
            .filter(|name| !name.is_empty())
        {
            while tree.advance().ok()? && tree.name() < name {}
            let entry = tree.entry().ok().filter(|entry| entry.name == name)?;
            let below = self.tree(reference_of(&entry)?)?;
            tree = below;
        }
        Some(tree)
    }
}

/// Where the tree of a folder is, by its entry.
fn reference_of<'e>(entry: &Entry<'e>) -> Option<&'e [u8]> {
    match entry.content {
        Content::Stream(reference) if entry.kind == EntryKind::Folder => Some(reference),
        _ => None,
    }
}

/// The encoded reference to the tree of a folder, by its entry in a stored tree.
pub(crate) fn stored_tree(entry: &Entry<'_>) -> Option<Box<[u8]>> {
    reference_of(entry).map(Into::into)
}

/// An entry of a past tree.
pub(crate) struct Known<'p> {
    pub(crate) entry: Entry<'p>,
    /// Its bytes as they stand in the tree.
    pub(crate) raw: &'p [u8],
    is_remembered: bool,
}

impl Known<'_> {
    /// Where the tree of the folder is that it describes.
    pub(crate) fn tree(&self) -> PastTree {
        match reference_of(&self.entry) {
            None => PastTree::None,
            Some(place) if self.is_remembered => PastTree::Remembered(place.into()),
            Some(reference) => PastTree::Stored(reference.into()),
        }
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
    /// Where nothing is.
    fn lost() -> Self {
        Self {
            own: vec![u32::MAX],
            shared: u32::MAX,
            start: 0,
            length: 0,
        }
    }

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
    memory: Option<&'m Memory<'m>>,
    /// The folder's.
    path: Box<[u8]>,
    from: From<'m>,
    /// The current entry was not asked for yet.
    held: bool,
}

enum From<'m> {
    Nothing,
    Local(LocalTree<'m>),
    Stored(StoredTree<'m>),
}

struct LocalTree<'m> {
    local: &'m Local<'m>,
    own: std::vec::IntoIter<u32>,
    shared: Option<(u32, usize, usize)>,
    cursor: TreeCursor,
}

/// A piece lacks.
struct Lost;

impl<'m> LocalTree<'m> {
    fn new(local: &'m Local<'m>, place: Place) -> Self {
        Self {
            local,
            own: place.own.into_iter(),
            shared: Some((place.shared, place.start, place.length)),
            cursor: TreeCursor::default(),
        }
    }

    /// Goes to the next entry; false at the end.
    fn advance(&mut self) -> Result<bool, Lost> {
        while !self.cursor.advance().map_err(|_| Lost)? {
            if let Some(number) = self.own.next() {
                let piece = self.local.piece(number).ok_or(Lost)?;
                self.cursor.feed(&piece);
            } else if let Some((number, start, length)) = self.shared.take()
                && length > 0
            {
                let piece = self.local.piece(number).ok_or(Lost)?;
                let part = piece.get(start..).and_then(|rest| rest.get(..length));
                self.cursor.feed(part.ok_or(Lost)?);
            } else {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

impl Past<'_> {
    /// A tree without entries.
    pub(crate) fn nothing() -> Self {
        Self {
            memory: None,
            path: Box::default(),
            from: From::Nothing,
            held: false,
        }
    }

    /// Goes to the next entry, if the current one was asked for; `None` at the end. A stored tree that is damaged ends
    /// where it is damaged, and the rest is read as new.
    fn hold(&mut self) -> Option<()> {
        if self.held {
            return Some(());
        }
        self.held = match &mut self.from {
            From::Nothing => false,
            From::Local(tree) => match tree.advance() {
                Ok(more) => more,
                Err(Lost) => self.go_on_in_the_snapshot().is_some(),
            },
            From::Stored(tree) => tree.advance().is_ok_and(|more| more),
        };
        if !self.held {
            self.from = From::Nothing;
            return None;
        }
        Some(())
    }

    /// Takes the parent snapshot's tree of the folder in place of the remembered one, at the entry behind the last.
    fn go_on_in_the_snapshot(&mut self) -> Option<()> {
        let mut tree = self.memory?.stored.as_ref()?.find(&self.path)?;
        loop {
            if !tree.advance().ok()? {
                return None;
            }
            if tree.name() > self.name() {
                break;
            }
        }
        self.from = From::Stored(tree);
        Some(())
    }

    fn name(&self) -> &[u8] {
        match &self.from {
            From::Nothing => &[],
            From::Local(tree) => tree.cursor.name(),
            From::Stored(tree) => tree.name(),
        }
    }

    fn entry(&self) -> Option<Known<'_>> {
        let (entry, raw, is_remembered) = match &self.from {
            From::Nothing => return None,
            From::Local(tree) => (tree.cursor.entry().ok()?, tree.cursor.raw(), true),
            From::Stored(tree) => (tree.entry().ok()?, tree.raw(), false),
        };
        Some(Known {
            entry,
            raw,
            is_remembered,
        })
    }

    /// Takes the next past entry whose name stands before `limit`; any, without one.
    pub(crate) fn next_below(&mut self, limit: Option<&[u8]>) -> Option<Known<'_>> {
        self.hold()?;
        if limit.is_some_and(|limit| self.name() >= limit) {
            return None;
        }
        self.held = false;
        self.entry()
    }

    /// Takes the past entry called `name`; names are asked for in ascending order.
    pub(crate) fn find(&mut self, name: &[u8]) -> Option<Known<'_>> {
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
        if !shared.bytes.is_empty() {
            self.repository
                .keep_piece(&self.memory, shared.number, shared.bytes);
        }
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
