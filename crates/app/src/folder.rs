//! Reads a folder into the repository: every worker takes a folder, or a part of a large one, and does all of it.
//!
//! An unchanged file costs one look at its metadata; nothing of it is opened. A folder's tree is stored when its last
//! part is done, by the worker that did it, and then counts as a part of the folder above.

mod item;
mod carry;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use lifeboat_codec::{Content, Entry, EntryKind, Problem, StreamRef, put_entry, status};
use lifeboat_files::{
    Attributes, AttributesRead, ClusterState, ErrorKind, Excludes, Folder, Identity, Kind, Listing,
    Metadata, Special, recognise,
};
use lifeboat_repository::{Lane, Tasks, WriteError, Writer, work};

use self::item::{Part, READ_AGAIN, join};
use crate::entry::{attributes_of, entry_of, put_attributes, unchanged};
use crate::file::Stored;
use crate::memory::{Gathered, Memory, Past};

pub(crate) use self::carry::Rows;

/// Bytes of files that a worker reads before it offers the rest of a folder to others.
const SHARE_BYTES: u64 = 4 << 20;
/// Deeper folders are not kept open while what is below them waits.
const OPEN_DEPTH_MAX: usize = 200;

/// How a folder is read.
pub(crate) struct FolderOptions<'a> {
    pub(crate) excludes: Excludes,
    pub(crate) one_file_system: bool,
    pub(crate) exclude_caches: bool,
    /// Objects that are not read at all.
    pub(crate) skip: HashSet<Identity>,
    /// Files that are restored only when secrets are asked for.
    pub(crate) secrets: HashSet<Identity>,
    /// What rows say of the files.
    pub(crate) rows: Option<Rows<'a>>,
}

/// What a folder gave.
pub(crate) struct FolderRead {
    /// The folder's own entry, ready for the tree above.
    pub(crate) entry: Vec<u8>,
    pub(crate) files: u64,
    pub(crate) bytes: u64,
    pub(crate) unreadable: u64,
    pub(crate) problems: Vec<Problem>,
    /// Trees for the next run.
    pub(crate) gathered: Gathered,
}

/// Why a folder could not be read at all.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// The folder itself cannot be opened.
    #[error(transparent)]
    Files(#[from] lifeboat_files::Error),
    /// The repository failed.
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// One folder on its way into the repository.
struct Node {
    parent: Option<(Arc<Self>, usize)>,
    path: Vec<u8>,
    depth: usize,
    metadata: Metadata,
    attributes: Attributes,
    status: Mutex<u64>,
    folder: Mutex<Option<Arc<Folder>>>,
    past: Option<Vec<u8>>,
    /// Encoded entries by the place of their first one in the listing.
    parts: Mutex<BTreeMap<usize, Vec<u8>>>,
    /// Parts that are not done.
    pending: AtomicUsize,
}

enum Task {
    Folder(Arc<Node>),
    Rest {
        node: Arc<Node>,
        folder: Arc<Folder>,
        listing: Arc<Listing>,
        from: usize,
    },
}

/// A file of several names as it was read under the first of them.
#[derive(Clone)]
struct Named {
    metadata: Metadata,
    stored: Stored,
    attributes: Attributes,
}

struct Walk<'a> {
    source: &'a str,
    options: &'a FolderOptions<'a>,
    memory: &'a Memory<'a>,
    top: Folder,
    dev: u64,
    links: Mutex<HashMap<Identity, Named>>,
    problems: Mutex<Vec<Problem>>,
    /// Problems that are not in the list.
    more_problems: AtomicU64,
    files: AtomicU64,
    bytes: AtomicU64,
    unreadable: AtomicU64,
    gathered: Gathered,
    done: Mutex<Option<Vec<u8>>>,
}

/// Reads the folder at `path` as the source `name`.
pub(crate) fn read_folder(
    writer: &Writer<'_>,
    threads: usize,
    name: &str,
    path: &std::path::Path,
    options: &FolderOptions<'_>,
    memory: &Memory<'_>,
    past: Option<Vec<u8>>,
) -> Result<FolderRead, FolderError> {
    let walk = Walk::new(name, options, memory, Folder::open(path)?)?;
    let node = walk.top_node(past)?;
    work(
        writer,
        threads,
        vec![Task::Folder(node)],
        |lane, task, tasks| walk.task(lane, task, tasks),
    )?;
    walk.end_problems();
    Ok(FolderRead {
        entry: walk
            .done
            .into_inner()
            .expect("no thread panics at the end")
            .expect("the top folder was completed"),
        files: walk.files.into_inner(),
        bytes: walk.bytes.into_inner(),
        unreadable: walk.unreadable.into_inner(),
        problems: walk
            .problems
            .into_inner()
            .expect("no thread panics with a problem"),
        gathered: walk.gathered,
    })
}

impl<'a> Walk<'a> {
    fn new(
        source: &'a str,
        options: &'a FolderOptions<'a>,
        memory: &'a Memory<'a>,
        top: Folder,
    ) -> Result<Self, lifeboat_files::Error> {
        let dev = top.own_metadata()?.dev;
        Ok(Self {
            source,
            options,
            memory,
            top,
            dev,
            links: Mutex::default(),
            problems: Mutex::default(),
            more_problems: AtomicU64::new(0),
            files: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            unreadable: AtomicU64::new(0),
            gathered: Gathered::default(),
            done: Mutex::new(None),
        })
    }

    /// The source's own folder, with which the walk begins.
    fn top_node(&self, past: Option<Vec<u8>>) -> Result<Arc<Node>, lifeboat_files::Error> {
        // A handle of its own: the top's serves to find what lies below.
        let folder = self.top.open_beneath(b"")?;
        let read = folder.own_attributes();
        read.unread
            .iter()
            .for_each(|error| self.item_problem(b"", error));
        Ok(Arc::new(Node {
            parent: None,
            path: Vec::new(),
            depth: 0,
            metadata: folder.own_metadata()?,
            attributes: read.attributes,
            status: Mutex::new(0),
            folder: Mutex::new(Some(Arc::new(folder))),
            past,
            parts: Mutex::default(),
            pending: AtomicUsize::new(1),
        }))
    }

    fn task(
        &self,
        lane: &mut Lane<'_, '_>,
        task: Task,
        tasks: &Tasks<'_, Task>,
    ) -> Result<(), WriteError> {
        match task {
            Task::Rest {
                node,
                folder,
                listing,
                from,
            } => self.range(lane, &node, &folder, &listing, from, tasks),
            Task::Folder(node) => {
                let mut listing = Listing::new();
                let mut folder = match self.open(&node) {
                    Ok(folder) => folder,
                    Err(error) => {
                        self.lost_folder(&node, &error);
                        return self.part_done(lane, &node);
                    }
                };
                let listed = match Arc::get_mut(&mut folder) {
                    Some(own) => own.list(&mut listing),
                    // Kept open for those below: a handle of its own does the listing.
                    None => self
                        .reopen(&node)
                        .and_then(|mut own| own.list(&mut listing)),
                };
                // Names up to where the list broke off are read.
                if let Err(error) = listed {
                    self.lost_folder(&node, &error);
                }
                self.look_at_folder(&node, &folder, &listing);
                if self.options.exclude_caches && folder.is_cache(&listing) {
                    listing = Listing::new();
                }
                if node.depth < OPEN_DEPTH_MAX {
                    *node.folder.lock().expect("no thread panics with a folder") =
                        Some(Arc::clone(&folder));
                }
                self.range(lane, &node, &folder, &Arc::new(listing), 0, tasks)
            }
        }
    }

    /// The node's folder, opened by its handle where that is kept, else by its path below the top.
    fn open(&self, node: &Node) -> Result<Arc<Folder>, lifeboat_files::Error> {
        if let Some(folder) = node
            .folder
            .lock()
            .expect("no thread panics with a folder")
            .take()
        {
            return Ok(folder);
        }
        if let Some((parent, _)) = &node.parent {
            let name = node
                .path
                .rsplit(|byte| *byte == b'/')
                .next()
                .unwrap_or_default();
            if let Some(folder) = parent
                .folder
                .lock()
                .expect("no thread panics with a folder")
                .clone()
            {
                return folder.open_child(name).map(Arc::new);
            }
        }
        self.reopen(node).map(Arc::new)
    }

    fn reopen(&self, node: &Node) -> Result<Folder, lifeboat_files::Error> {
        self.top.open_beneath(&node.path)
    }

    fn look_at_folder(&self, node: &Node, folder: &Folder, listing: &Listing) {
        let Some(Special::PostgresCluster { version, state }) = recognise(folder, listing) else {
            return;
        };
        let state = match state {
            ClusterState::Running { .. } => "of a running server",
            ClusterState::NotShutDown => "of a server that was not shut down",
            ClusterState::ShutDown => return,
        };
        *node.status.lock().expect("no thread panics with a status") |= status::LIVE;
        self.unreadable.fetch_add(1, Ordering::Relaxed);
        self.push(Problem {
            source: self.source.to_owned(),
            path: node.path.clone(),
            what: format!("it is the data folder of PostgreSQL {version} {state}: a copy of it cannot be restored as it is; add the database as a source of its own"),
            class: "live-database".to_owned(),
        });
    }

    /// Reads the entries of a listing from place `from` on.
    fn range(
        &self,
        lane: &mut Lane<'_, '_>,
        node: &Arc<Node>,
        folder: &Arc<Folder>,
        listing: &Arc<Listing>,
        from: usize,
        tasks: &Tasks<'_, Task>,
    ) -> Result<(), WriteError> {
        let mut part = Part::from_place(from);
        let mut whole = true;
        let mut past = Past::new(node.past.as_deref().unwrap_or_default());
        let mut path = Vec::new();
        if let Some(before) = from.checked_sub(1).and_then(|place| listing.get(place)) {
            // What stood up to there is for the part that has it.
            past.find(before.name);
        }
        for (place, listed) in listing.iter().enumerate().skip(from) {
            if lane.writer().stopped() {
                return Err(WriteError::Stopped);
            }
            part.tell_now_and_then(lane.writer().progress());
            self.carry_before(lane, &mut part, node, &mut past, Some(listed.name), listing)?;
            // The list's own word spares what is left out any look at it: it may be a mount that hangs.
            if let Some(kind) = listed.hint
                && self.excluded(node, listed.name, kind, &mut path)
            {
                continue;
            }
            let metadata = match folder.metadata(listed.name) {
                Ok(metadata) => metadata,
                Err(error) => {
                    join(&mut path, &node.path, listed.name);
                    self.lost_item(
                        &mut part,
                        listed.name,
                        listed.hint.unwrap_or(Kind::File),
                        &path,
                        &error,
                    );
                    if error.kind() == ErrorKind::Vanished {
                        let known = past.find(listed.name).map(|(entry, _)| entry.clone());
                        self.carry_again(lane, &mut part, node, known.as_ref())?;
                    }
                    continue;
                }
            };
            if listed.hint.is_none() && self.excluded(node, listed.name, metadata.kind, &mut path) {
                continue;
            }
            if self.options.skip.contains(&metadata.identity()) {
                continue;
            }
            let known = past.find(listed.name);
            if metadata.kind == Kind::Folder {
                if self.options.one_file_system && metadata.dev != self.dev {
                    // The mount point itself stays, empty, so that a restore can be mounted over again.
                    self.plain(&mut part, folder, listed.name, &metadata, node);
                    continue;
                }
                part.close(node);
                part.first = place + 1;
                self.met(node, listed.name, Kind::Folder, 0);
                self.below(
                    node,
                    folder,
                    place,
                    listed.name,
                    metadata,
                    known.map(|(entry, _)| entry),
                    tasks,
                );
                continue;
            }
            if let Some((entry, raw)) = known
                && unchanged(entry, &metadata, self.memory.trusted_before)
                && self.may_take_over(lane.writer(), entry, &metadata)
                && !has_log(listing, place)
            {
                part.entries.extend_from_slice(raw);
                if metadata.kind == Kind::File {
                    part.count(metadata.size);
                }
                self.met(node, listed.name, metadata.kind, metadata.size);
                continue;
            }
            if metadata.kind == Kind::File {
                let known = known.map(|(entry, _)| entry.clone());
                let (before, bytes) = (part.entries.len(), part.bytes);
                self.file(
                    lane,
                    &mut part,
                    node,
                    folder,
                    listing,
                    listed.name,
                    &metadata,
                )?;
                if part.entries.len() > before {
                    self.met(node, listed.name, Kind::File, part.bytes - bytes);
                } else {
                    self.carry_again(lane, &mut part, node, known.as_ref())?;
                }
            } else {
                self.plain(&mut part, folder, listed.name, &metadata, node);
                self.met(node, listed.name, metadata.kind, 0);
            }
            if part.bytes >= SHARE_BYTES && place + 1 < listing.len() && tasks.hungry() {
                node.pending.fetch_add(1, Ordering::SeqCst);
                tasks.push(Task::Rest {
                    node: Arc::clone(node),
                    folder: Arc::clone(folder),
                    listing: Arc::clone(listing),
                    from: place + 1,
                });
                whole = false;
                break;
            }
        }
        if whole {
            self.carry_before(lane, &mut part, node, &mut past, None, listing)?;
        }
        part.tell(lane.writer().progress());
        self.files.fetch_add(part.files, Ordering::Relaxed);
        self.bytes.fetch_add(part.bytes, Ordering::Relaxed);
        part.close(node);
        self.part_done(lane, node)
    }

    fn excluded(&self, node: &Node, name: &[u8], kind: Kind, path: &mut Vec<u8>) -> bool {
        let excludes = &self.options.excludes;
        if excludes.is_empty() {
            return false;
        }
        if excludes.needs_path() {
            join(path, &node.path, name);
        }
        excludes.excludes(name, path, kind == Kind::Folder)
    }

    fn is_secret(&self, metadata: &Metadata) -> bool {
        metadata.kind == Kind::File && self.options.secrets.contains(&metadata.identity())
    }

    fn may_take_over(&self, writer: &Writer<'_>, entry: &Entry<'_>, now: &Metadata) -> bool {
        // What is a secret is said by the configuration, which may have changed when the file did not.
        if (entry.status & status::SECRET != 0) != self.is_secret(now) {
            return false;
        }
        self.is_stored(writer, entry)
    }

    /// Whether all that an entry of the previous snapshot names is known to be there still.
    fn is_stored(&self, writer: &Writer<'_>, entry: &Entry<'_>) -> bool {
        match entry.content {
            Content::None => true,
            // A parent snapshot's word is not enough: what it names may have been lost since.
            _ if self.memory.whole => true,
            Content::Chunk(id) => writer.has_chunk(id),
            Content::Stream(reference) => {
                StreamRef::decode(reference).is_ok_and(|stream| writer.has_stream(&stream))
            }
        }
    }

    /// Adds a folder as a task of its own.
    #[expect(
        clippy::too_many_arguments,
        reason = "everything that is known of the entry"
    )]
    fn below(
        &self,
        node: &Arc<Node>,
        folder: &Folder,
        place: usize,
        name: &[u8],
        mut metadata: Metadata,
        known: Option<&Entry<'_>>,
        tasks: &Tasks<'_, Task>,
    ) {
        let mut path = Vec::with_capacity(node.path.len() + name.len() + 1);
        join(&mut path, &node.path, name);
        let same = known.filter(|entry| unchanged(entry, &metadata, self.memory.trusted_before));
        let attributes = match same {
            Some(entry) => attributes_of(entry),
            None => {
                // Inode flags are told by an open folder only; one that cannot be opened still has the rest.
                let read = match folder
                    .open_child(name)
                    .map(|child| child.own_attributes())
                    .or_else(|_| folder.attributes(name))
                {
                    Ok(read) => read,
                    Err(error) => AttributesRead {
                        attributes: Attributes::default(),
                        unread: vec![error],
                    },
                };
                if !read.unread.is_empty() {
                    metadata.ctime = READ_AGAIN;
                }
                read.unread
                    .iter()
                    .for_each(|error| self.item_problem(&path, error));
                read.attributes
            }
        };
        let past = known.and_then(|entry| self.memory.child(&path, entry.content));
        node.pending.fetch_add(1, Ordering::SeqCst);
        tasks.push(Task::Folder(Arc::new(Node {
            parent: Some((Arc::clone(node), place)),
            depth: node.depth + 1,
            path,
            metadata,
            attributes,
            status: Mutex::new(0),
            folder: Mutex::new(None),
            past,
            parts: Mutex::default(),
            pending: AtomicUsize::new(1),
        })));
    }

    /// One part of a folder is done; the last one stores the tree, and may be the last of the folder above.
    fn part_done(&self, lane: &mut Lane<'_, '_>, node: &Arc<Node>) -> Result<(), WriteError> {
        let mut node = Arc::clone(node);
        while node.pending.fetch_sub(1, Ordering::SeqCst) == 1 {
            let parts =
                std::mem::take(&mut *node.parts.lock().expect("no thread panics with a part"));
            let tree: Vec<u8> = parts.into_values().flatten().collect();
            let stored = lane.put_meta(&tree)?;
            self.gathered.add(&node.path, &tree);
            let reference = stored.encode();
            let name = node
                .path
                .rsplit(|byte| *byte == b'/')
                .next()
                .unwrap_or_default();
            let mut entry = entry_of(
                if node.parent.is_none() {
                    self.source.as_bytes()
                } else {
                    name
                },
                &node.metadata,
            );
            put_attributes(&mut entry, &node.attributes);
            entry.status = *node.status.lock().expect("no thread panics with a status");
            entry.content = if tree.is_empty() {
                Content::None
            } else {
                Content::Stream(&reference)
            };
            let mut encoded = Vec::new();
            put_entry(&mut encoded, &entry, &mut Vec::new());
            *node.folder.lock().expect("no thread panics with a folder") = None;
            let Some((parent, place)) = &node.parent else {
                *self.done.lock().expect("no thread panics at the end") = Some(encoded);
                return Ok(());
            };
            parent
                .parts
                .lock()
                .expect("no thread panics with a part")
                .insert(*place, encoded);
            let parent = Arc::clone(parent);
            node = parent;
        }
        Ok(())
    }
}

/// Whether an SQLite log or journal may lie beside the entry: then the entry alone may not be the database any more,
/// though it did not change. What begins with a name follows it at once in the order of names.
fn has_log(listing: &Listing, place: usize) -> bool {
    let (Some(this), Some(next)) = (listing.get(place), listing.get(place + 1)) else {
        return false;
    };
    next.name.starts_with(this.name)
        && ["-wal", "-journal"].iter().any(|suffix| {
            listing
                .find(&[this.name, suffix.as_bytes()].concat())
                .is_some()
        })
}

/// The past tree of a source's own folder, from the parent snapshot's root.
pub(crate) fn past_reference(root: &[u8], name: &str) -> Option<StreamRef> {
    let entry = Past::new(root)
        .find(name.as_bytes())
        .map(|(entry, _)| entry.clone())?;
    match (entry.kind, entry.content) {
        (EntryKind::Folder, Content::Stream(reference)) => StreamRef::decode(reference).ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
