//! The way through one snapshot's trees while it is copied to another family.
//!
//! Trees are rewritten with the new references and keep every other field, unknown ones too. Workers share the walk:
//! a folder is finished by whoever finishes its last entry, so memory holds the folders on the way down, not the tree.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use lifeboat_codec::{
    ChunkItem, Content, Entries, Entry, EntryKind, FormatError, Input, Profile, StreamRef,
    list_chunks, put_chunk, put_entry,
};

use super::CopyError;
use super::memo::{Key, Memo, Place, key};
use crate::progress::{Counter, Progress};
use crate::reader::Reader;
use crate::repository::ReadError;
use crate::write_error::WriteError;
use crate::writer::{Lane, Tasks, Writer, work};

/// Entries that one task handles.
const BATCH_ENTRIES: usize = 64;
/// Bytes of files after which a task leaves the rest of a folder to others.
const BATCH_BYTES: u64 = 4 << 20;

/// A folder whose entries are being copied.
struct Folder {
    key: Key,
    tree: Vec<u8>,
    /// By entry, where its content went.
    places: Mutex<HashMap<usize, Place>>,
    /// Tasks and entries that are not done.
    pending: AtomicUsize,
}

/// Who waits for a tree.
enum Waiter {
    Entry(Arc<Folder>, usize),
    Top,
}

enum Task {
    /// Read this tree and copy what is in it.
    Open(Key, StreamRef),
    /// Copy the folder's entries from this byte and number on.
    Entries(Arc<Folder>, usize, usize),
    /// Copy one file that is a source.
    File(Old),
}

/// Content in the old repository.
struct Old {
    stream: StreamRef,
    /// Stored as one chunk, without a list.
    alone: bool,
    /// A tree: of a folder's entries or a bundle's parts.
    is_tree: bool,
}

/// One snapshot's way from one repository into the other.
pub(super) struct Walk<'c> {
    reader: &'c Reader<'c>,
    memo: &'c Mutex<Memo>,
    waiting: Mutex<HashMap<Key, Vec<Waiter>>>,
    top: Mutex<Option<Place>>,
    progress: &'c dyn Progress,
}

impl<'c> Walk<'c> {
    pub(super) fn new(
        reader: &'c Reader<'c>,
        memo: &'c Mutex<Memo>,
        progress: &'c dyn Progress,
    ) -> Self {
        Self {
            reader,
            memo,
            waiting: Mutex::default(),
            top: Mutex::new(None),
            progress,
        }
    }

    /// Copies the sources one after the other, because a segment holds chunks of one source; returns the new root tree.
    pub(super) fn root(&self, writer: &Writer<'_>, root: &StreamRef) -> Result<Vec<u8>, CopyError> {
        let bytes = self.reader.whole(root).map_err(CopyError::From)?;
        let threads = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
        let (mut tree, mut scratch) = (Vec::new(), Vec::new());
        for entry in Entries::new(&bytes) {
            let entry = entry.map_err(in_tree)?;
            let place = match old(&entry)? {
                None => None,
                Some(old) => {
                    let task = if old.is_tree {
                        self.wanted(&old.stream, Waiter::Top)
                    } else {
                        Some(Task::File(old))
                    };
                    if let Some(task) = task {
                        work(writer, threads, vec![task], |lane, task, tasks| {
                            self.step(lane, task, tasks)
                        })?;
                    }
                    self.top
                        .lock()
                        .expect("no thread panics with a place")
                        .take()
                }
            };
            put_entry(&mut tree, &moved(entry, place.as_ref()), &mut scratch);
        }
        Ok(tree)
    }

    fn step(
        &self,
        lane: &mut Lane<'_, '_>,
        task: Task,
        tasks: &Tasks<'_, Task>,
    ) -> Result<(), CopyError> {
        match task {
            Task::Open(key, tree) => {
                let tree = self.reader.whole(&tree).map_err(CopyError::From)?;
                let folder = Arc::new(Folder {
                    key,
                    tree,
                    places: Mutex::default(),
                    pending: AtomicUsize::new(1),
                });
                self.entries(lane, &folder, 0, 0, tasks)
            }
            Task::Entries(folder, at, number) => self.entries(lane, &folder, at, number, tasks),
            Task::File(old) => {
                let place = self.file(lane, &old)?;
                *self.top.lock().expect("no thread panics with a place") = Some(place);
                Ok(())
            }
        }
    }

    /// Copies some entries of a folder, and leaves the rest to the next task.
    fn entries(
        &self,
        lane: &mut Lane<'_, '_>,
        folder: &Arc<Folder>,
        mut at: usize,
        first: usize,
        tasks: &Tasks<'_, Task>,
    ) -> Result<(), CopyError> {
        let (mut files, mut below, mut bytes, mut number) = (Vec::new(), Vec::new(), 0, first);
        while at < folder.tree.len() && number - first < BATCH_ENTRIES && bytes < BATCH_BYTES {
            let rest = &folder.tree[at..];
            let entry = Entries::new(rest)
                .next()
                .expect("there are bytes left")
                .map_err(in_tree)?;
            if let Some(old) = old(&entry)? {
                bytes += if old.is_tree { 0 } else { old.stream.length };
                if old.is_tree {
                    below.push((number, old));
                } else {
                    files.push((number, old));
                }
            }
            let mut input = Input::new(rest, "a tree");
            input.block().map_err(in_tree)?;
            at = folder.tree.len() - input.rest().len();
            number += 1;
        }
        // Before anything of this batch is done, so that others can go on; the newest task is done first, so folders below come before the rest.
        if at < folder.tree.len() {
            folder.pending.fetch_add(1, Ordering::SeqCst);
            tasks.push(Task::Entries(Arc::clone(folder), at, number));
        }
        for (number, old) in below {
            folder.pending.fetch_add(1, Ordering::SeqCst);
            if let Some(task) = self.wanted(&old.stream, Waiter::Entry(Arc::clone(folder), number))
            {
                tasks.push(task);
            }
        }
        for (number, old) in files {
            let place = self.file(lane, &old)?;
            folder
                .places
                .lock()
                .expect("no thread panics with a place")
                .insert(number, place);
        }
        self.done(lane, Arc::clone(folder))
    }

    /// Asks for the copy of a tree: the task that makes it, unless it was made or somebody makes it.
    fn wanted(&self, tree: &StreamRef, waiter: Waiter) -> Option<Task> {
        let key = key(b't', self.reader.domain(), &tree.encode());
        let mut waiting = self
            .waiting
            .lock()
            .expect("no thread panics while it waits for a tree");
        if let Some(others) = waiting.get_mut(&key) {
            others.push(waiter);
            return None;
        }
        let made = self
            .memo
            .lock()
            .expect("no thread panics with the memory")
            .get(key)
            .cloned();
        if let Some(place) = made {
            match waiter {
                // The task that asks has not given its own share back, so the folder cannot be finished by this.
                Waiter::Entry(folder, number) => {
                    folder
                        .places
                        .lock()
                        .expect("no thread panics with a place")
                        .insert(number, place);
                    folder.pending.fetch_sub(1, Ordering::SeqCst);
                }
                Waiter::Top => {
                    *self.top.lock().expect("no thread panics with a place") = Some(place);
                }
            }
            return None;
        }
        waiting.insert(key, vec![waiter]);
        Some(Task::Open(key, tree.clone()))
    }

    /// Gives back one share of a folder; the last one stores its new tree and tells those who wait for it.
    fn done(&self, lane: &mut Lane<'_, '_>, folder: Arc<Folder>) -> Result<(), CopyError> {
        let mut shares = vec![folder];
        while let Some(folder) = shares.pop() {
            if folder.pending.fetch_sub(1, Ordering::SeqCst) > 1 {
                continue;
            }
            let place = Place::Stream(lane.put_meta(&rewrite(&folder)?)?.encode().into());
            self.memo
                .lock()
                .expect("no thread panics with the memory")
                .keep(folder.key, &place);
            let waiters = self
                .waiting
                .lock()
                .expect("no thread panics while it waits for a tree")
                .remove(&folder.key);
            for waiter in waiters.into_iter().flatten() {
                match waiter {
                    Waiter::Entry(above, number) => {
                        above
                            .places
                            .lock()
                            .expect("no thread panics with a place")
                            .insert(number, place.clone());
                        shares.push(above);
                    }
                    Waiter::Top => {
                        *self.top.lock().expect("no thread panics with a place") =
                            Some(place.clone());
                    }
                }
            }
        }
        Ok(())
    }

    /// Copies one file's content.
    fn file(&self, lane: &mut Lane<'_, '_>, old: &Old) -> Result<Place, CopyError> {
        let key = key(
            if old.alone { b'c' } else { b's' },
            self.reader.domain(),
            &old.stream.encode(),
        );
        self.progress.count(Counter::Files, 1);
        self.progress.count(Counter::Bytes, old.stream.length);
        let known = self
            .memo
            .lock()
            .expect("no thread panics with the memory")
            .get(key)
            .cloned();
        if let Some(place) = known {
            return Ok(place);
        }
        let profile = Profile::from_number(old.stream.profile).ok_or_else(|| {
            wrong(
                "a stream",
                FormatError::Unsupported("the profile of a stream"),
            )
        })?;
        let mut source = self.reader.read(&old.stream).map_err(CopyError::From)?;
        let stream = lane.put_stream(profile, None, &mut source)?;
        if stream.length != old.stream.length {
            return Err(wrong(
                "a stream",
                FormatError::Invalid("a stream's length is not the sum of its chunks"),
            ));
        }
        let place = place_of(&stream, old.alone)?;
        self.memo
            .lock()
            .expect("no thread panics with the memory")
            .keep(key, &place);
        Ok(place)
    }
}

/// A file that was one chunk without a list stays so where the other family's cut points allow it.
fn place_of(stream: &StreamRef, alone: bool) -> Result<Place, CopyError> {
    if alone && stream.depth == 0 {
        let items = list_chunks(&stream.items).map_err(WriteError::from)?;
        if let [only] = items.as_slice() {
            return Ok(Place::Chunk(only.id));
        }
    }
    Ok(Place::Stream(stream.encode().into()))
}

/// The folder's tree with the new references.
fn rewrite(folder: &Folder) -> Result<Vec<u8>, CopyError> {
    let places = folder.places.lock().expect("no thread panics with a place");
    let (mut tree, mut scratch) = (Vec::with_capacity(folder.tree.len()), Vec::new());
    for (number, entry) in Entries::new(&folder.tree).enumerate() {
        put_entry(
            &mut tree,
            &moved(entry.map_err(in_tree)?, places.get(&number)),
            &mut scratch,
        );
    }
    Ok(tree)
}

/// The entry with its content in another place.
fn moved<'e>(entry: Entry<'e>, place: Option<&'e Place>) -> Entry<'e> {
    assert!(
        (entry.content == Content::None) == place.is_none(),
        "content is copied before the folder that names it"
    );
    let content = match place {
        None => Content::None,
        Some(Place::Chunk(id)) => Content::Chunk(*id),
        Some(Place::Stream(reference)) => match entry.content {
            Content::Bundle(_) => Content::Bundle(reference),
            _ => Content::Stream(reference),
        },
    };
    Entry { content, ..entry }
}

/// An entry's content; `None` when it has none.
fn old(entry: &Entry<'_>) -> Result<Option<Old>, CopyError> {
    Ok(match entry.content {
        Content::None => None,
        Content::Chunk(id) => {
            let length = u32::try_from(entry.size)
                .map_err(|_| in_tree(FormatError::Invalid("a chunk's length is not allowed")))?;
            let mut items = Vec::new();
            put_chunk(&mut items, ChunkItem { id, length });
            Some(Old {
                stream: StreamRef::new(entry.size, Profile::Files, 0, items),
                alone: true,
                is_tree: false,
            })
        }
        Content::Stream(reference) | Content::Bundle(reference) => Some(Old {
            stream: StreamRef::decode(reference).map_err(in_tree)?,
            alone: false,
            is_tree: entry.kind == EntryKind::Folder || matches!(entry.content, Content::Bundle(_)),
        }),
    })
}

fn wrong(object: &str, source: FormatError) -> CopyError {
    CopyError::From(ReadError::format(object, source))
}

fn in_tree(source: FormatError) -> CopyError {
    wrong("a tree", source)
}
