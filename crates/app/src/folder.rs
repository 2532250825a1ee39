//! Reads a folder into the repository: every worker takes a folder, or a part of a large one, and does all of it.
//!
//! An unchanged file costs one look at its metadata; nothing of it is opened. A folder's tree is stored when its last
//! part is done, by the worker that did it, and then counts as a part of the folder above.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use lifeboat_codec::{Content, Entry, EntryKind, Problem, StreamRef, put_entry, status};
use lifeboat_files::{
    Attributes, ClusterState, ErrorKind, Excludes, Folder, Identity, Kind, Listing, Metadata,
    Special, recognise,
};
use lifeboat_repository::{Counter, Lane, Tasks, WriteError, Writer, work};

use crate::entry::{attributes_of, entry_of, put_attributes, unchanged};
use crate::file::{FileError, Stored, read_file};
use crate::memory::{Gathered, Memory, Past};

/// Bytes of files that a worker reads before it offers the rest of a folder to others.
const SHARE_BYTES: u64 = 4 << 20;
/// Deeper folders are not kept open while what is below them waits.
const OPEN_DEPTH_MAX: usize = 200;
/// How often a file that changes while it is read is read again.
const TRIES: usize = 3;

/// How a folder is read.
pub(crate) struct FolderOptions {
    pub(crate) excludes: Excludes,
    pub(crate) one_file_system: bool,
    pub(crate) exclude_caches: bool,
    /// Objects that are not read at all.
    pub(crate) skip: HashSet<Identity>,
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
        listing: Arc<Listing>,
        from: usize,
    },
}

struct Walk<'a> {
    source: &'a str,
    options: &'a FolderOptions,
    memory: &'a Memory<'a>,
    top: Folder,
    dev: u64,
    links: Mutex<HashMap<Identity, (u64, Stored)>>,
    problems: Mutex<Vec<Problem>>,
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
    options: &FolderOptions,
    memory: &Memory<'_>,
    past: Option<Vec<u8>>,
) -> Result<FolderRead, FolderError> {
    let top = Folder::open(path)?;
    let metadata = top.own_metadata()?;
    let folder = Folder::open(path)?;
    let read = folder.own_attributes();
    let walk = Walk {
        source: name,
        options,
        memory,
        top,
        dev: metadata.dev,
        links: Mutex::default(),
        problems: Mutex::default(),
        files: AtomicU64::new(0),
        bytes: AtomicU64::new(0),
        unreadable: AtomicU64::new(0),
        gathered: Gathered::default(),
        done: Mutex::new(None),
    };
    read.unread
        .iter()
        .for_each(|error| walk.problem(b"", error, "unreadable"));
    let node = Arc::new(Node {
        parent: None,
        path: Vec::new(),
        depth: 0,
        metadata,
        attributes: read.attributes,
        status: Mutex::new(0),
        folder: Mutex::new(Some(Arc::new(folder))),
        past,
        parts: Mutex::default(),
        pending: AtomicUsize::new(1),
    });
    work(
        writer,
        threads,
        vec![Task::Folder(node)],
        |lane, task, tasks| walk.task(lane, task, tasks),
    )?;
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

impl Walk<'_> {
    fn task(
        &self,
        lane: &mut Lane<'_, '_>,
        task: Task,
        tasks: &Tasks<'_, Task>,
    ) -> Result<(), WriteError> {
        match task {
            Task::Rest {
                node,
                listing,
                from,
            } => self.range(lane, &node, &listing, from, tasks),
            Task::Folder(node) => {
                let mut listing = Listing::new();
                let listed =
                    self.open(&node)
                        .and_then(|mut folder| match Arc::get_mut(&mut folder) {
                            Some(own) => own.list(&mut listing).map(|()| folder),
                            // Kept open for those below: a handle of its own does the listing.
                            None => self
                                .reopen(&node)
                                .and_then(|mut own| own.list(&mut listing))
                                .map(|()| folder),
                        });
                match listed {
                    Ok(folder) => {
                        self.look_at_folder(&node, &folder, &listing);
                        if self.options.exclude_caches && folder.is_cache(&listing) {
                            listing = Listing::new();
                        }
                        if node.depth < OPEN_DEPTH_MAX {
                            *node.folder.lock().expect("no thread panics with a folder") =
                                Some(folder);
                        }
                    }
                    Err(error) => {
                        *node.status.lock().expect("no thread panics with a status") |=
                            status::UNREADABLE;
                        self.item_problem(&node.path, &error);
                    }
                }
                self.range(lane, &node, &Arc::new(listing), 0, tasks)
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
        listing: &Arc<Listing>,
        from: usize,
        tasks: &Tasks<'_, Task>,
    ) -> Result<(), WriteError> {
        let mut part = Part {
            first: from,
            entries: Vec::new(),
            scratch: Vec::new(),
            files: 0,
            bytes: 0,
        };
        let mut past = Past::new(node.past.as_deref().unwrap_or_default());
        let folder = if listing.is_empty() {
            None
        } else {
            self.open_kept(node)
        };
        let mut path = Vec::new();
        for place in from..listing.len() {
            let (Some(listed), Some(folder)) = (listing.get(place), folder.as_ref()) else {
                break;
            };
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
                    continue;
                }
            };
            if !self.options.excludes.is_empty() {
                join(&mut path, &node.path, listed.name);
                if self
                    .options
                    .excludes
                    .excludes(listed.name, &path, metadata.kind == Kind::Folder)
                {
                    continue;
                }
            }
            if self.options.skip.contains(&metadata.identity()) {
                continue;
            }
            let known = past.find(listed.name);
            if metadata.kind == Kind::Folder {
                if self.options.one_file_system && metadata.dev != self.dev {
                    // The mount point itself stays, empty, so that a restore can be mounted over again.
                    self.plain(
                        &mut part,
                        folder,
                        listed.name,
                        &metadata,
                        known.map(|(entry, _)| entry),
                        node,
                    );
                    continue;
                }
                part.close(node);
                part.first = place + 1;
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
                && self.may_take_over(lane.writer(), entry)
            {
                part.entries.extend_from_slice(raw);
                if metadata.kind == Kind::File {
                    part.count(metadata.size);
                }
                continue;
            }
            if metadata.kind == Kind::File {
                self.file(
                    lane,
                    &mut part,
                    node,
                    folder,
                    listing,
                    listed.name,
                    &metadata,
                )?;
            } else {
                self.plain(&mut part, folder, listed.name, &metadata, None, node);
            }
            if part.bytes >= SHARE_BYTES && place + 1 < listing.len() && tasks.hungry() {
                node.pending.fetch_add(1, Ordering::SeqCst);
                tasks.push(Task::Rest {
                    node: Arc::clone(node),
                    listing: Arc::clone(listing),
                    from: place + 1,
                });
                break;
            }
            if lane.writer().stopped() {
                return Err(WriteError::Stopped);
            }
        }
        let progress = lane.writer().progress();
        progress.count(Counter::Files, part.files);
        progress.count(Counter::Bytes, part.bytes);
        self.files.fetch_add(part.files, Ordering::Relaxed);
        self.bytes.fetch_add(part.bytes, Ordering::Relaxed);
        part.close(node);
        self.part_done(lane, node)
    }

    fn open_kept(&self, node: &Node) -> Option<Arc<Folder>> {
        let kept = node
            .folder
            .lock()
            .expect("no thread panics with a folder")
            .clone();
        kept.or_else(|| self.reopen(node).ok().map(Arc::new))
    }

    fn may_take_over(&self, writer: &Writer<'_>, entry: &Entry<'_>) -> bool {
        match entry.content {
            Content::None => true,
            Content::Chunk(id) => writer.has_chunk(id),
            // With packs missing, every chunk would have to be looked up: reading the file again does that.
            Content::Stream(_) => !writer.suspicious(),
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
        metadata: Metadata,
        known: Option<&Entry<'_>>,
        tasks: &Tasks<'_, Task>,
    ) {
        let mut path = Vec::with_capacity(node.path.len() + name.len() + 1);
        join(&mut path, &node.path, name);
        let same = known.filter(|entry| unchanged(entry, &metadata, self.memory.trusted_before));
        let attributes = same.map_or_else(
            // Inode flags are told by an open folder only; one that cannot be opened still has the rest.
            || match folder
                .open_child(name)
                .map(|child| child.own_attributes())
                .or_else(|_| folder.attributes(name))
            {
                Ok(read) => {
                    read.unread
                        .iter()
                        .for_each(|error| self.problem(&path, error, "unreadable"));
                    read.attributes
                }
                Err(error) => {
                    self.item_problem(&path, &error);
                    Attributes::default()
                }
            },
            attributes_of,
        );
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

    /// Reads one file, again when it changes meanwhile.
    #[expect(
        clippy::too_many_arguments,
        reason = "everything that is known of the entry"
    )]
    fn file(
        &self,
        lane: &mut Lane<'_, '_>,
        part: &mut Part,
        node: &Node,
        folder: &Folder,
        listing: &Listing,
        name: &[u8],
        metadata: &Metadata,
    ) -> Result<(), WriteError> {
        if metadata.nlink > 1
            && let Some((size, stored)) = self
                .links
                .lock()
                .expect("no thread panics with links")
                .get(&metadata.identity())
                .cloned()
            && size == metadata.size
        {
            let attributes = folder
                .attributes(name)
                .map(|read| read.attributes)
                .unwrap_or_default();
            part.put(name, metadata, &attributes, stored.content(), 0);
            return Ok(());
        }
        let mut path = Vec::new();
        let mut seen = *metadata;
        for attempt in 1..=TRIES {
            let read = match read_file(lane, folder, listing, name, &seen) {
                Ok(read) => read,
                Err(FileError::Write(error)) => return Err(error),
                Err(FileError::Files(error)) => {
                    join(&mut path, &node.path, name);
                    self.lost_item(part, name, Kind::File, &path, &error);
                    return Ok(());
                }
            };
            let change = read.changed;
            if change && attempt < TRIES {
                match folder.metadata(name) {
                    Ok(now) if now.kind == Kind::File => {
                        seen = now;
                        continue;
                    }
                    _ => {}
                }
            }
            let mut bits = 0;
            if read.in_use {
                bits |= status::LIVE;
                join(&mut path, &node.path, name);
                self.push(Problem {
                    source: self.source.to_owned(),
                    path: path.clone(),
                    what: "it is an SQLite database in use: a copy of it may not be whole; add it as a source of its own".to_owned(),
                    class: "live-database".to_owned(),
                });
            }
            for error in &read.unread {
                join(&mut path, &node.path, name);
                self.problem(&path, error, "unreadable");
            }
            if change {
                bits |= status::CHANGED;
                join(&mut path, &node.path, name);
                self.unreadable.fetch_add(1, Ordering::Relaxed);
                self.push(Problem {
                    source: self.source.to_owned(),
                    path: path.clone(),
                    what: format!("it changed while it was read, {TRIES} times; what is stored may be a mixture"),
                    class: "changed".to_owned(),
                });
            }
            // What was read counts, not what the metadata promised.
            let metadata = Metadata {
                size: read.bytes,
                ..read.metadata
            };
            part.put(
                name,
                &metadata,
                &read.attributes,
                read.stored.content(),
                bits,
            );
            if metadata.nlink > 1 && !change {
                self.links
                    .lock()
                    .expect("no thread panics with links")
                    .insert(metadata.identity(), (read.bytes, read.stored));
            }
            return Ok(());
        }
        Ok(())
    }

    /// An entry that has no content of its own to read.
    fn plain(
        &self,
        part: &mut Part,
        folder: &Folder,
        name: &[u8],
        metadata: &Metadata,
        known: Option<&Entry<'_>>,
        node: &Node,
    ) {
        let mut path = Vec::new();
        let target = if metadata.kind == Kind::Symlink {
            match folder.read_link(name) {
                Ok(target) => target,
                Err(error) => {
                    join(&mut path, &node.path, name);
                    return self.lost_item(part, name, metadata.kind, &path, &error);
                }
            }
        } else {
            Vec::new()
        };
        let attributes = known.map_or_else(
            || {
                folder
                    .attributes(name)
                    .map(|read| read.attributes)
                    .unwrap_or_default()
            },
            attributes_of,
        );
        let mut entry = entry_of(name, metadata);
        put_attributes(&mut entry, &attributes);
        entry.target = &target;
        put_entry(&mut part.entries, &entry, &mut part.scratch);
    }

    /// An entry that was listed and could not be read.
    fn lost_item(
        &self,
        part: &mut Part,
        name: &[u8],
        kind: Kind,
        path: &[u8],
        error: &lifeboat_files::Error,
    ) {
        if error.kind() != ErrorKind::Vanished {
            let kind = crate::entry::entry_kind(kind);
            let entry = Entry {
                status: status::UNREADABLE,
                ..Entry::new(kind, name)
            };
            put_entry(&mut part.entries, &entry, &mut part.scratch);
        }
        self.item_problem(path, error);
    }

    fn item_problem(&self, path: &[u8], error: &lifeboat_files::Error) {
        self.problem(
            path,
            error,
            if error.kind() == ErrorKind::Vanished {
                "vanished"
            } else {
                "unreadable"
            },
        );
    }

    fn problem(&self, path: &[u8], error: &lifeboat_files::Error, class: &str) {
        // What vanished between the list and the look was deleted while we ran: it is named, but nothing of now is missing.
        if class != "vanished" {
            self.unreadable.fetch_add(1, Ordering::Relaxed);
        }
        self.push(Problem {
            source: self.source.to_owned(),
            path: path.to_vec(),
            what: crate::text::sentence(error),
            class: class.to_owned(),
        });
    }

    fn push(&self, problem: Problem) {
        self.problems
            .lock()
            .expect("no thread panics with a problem")
            .push(problem);
    }
}

/// A run of entries of one folder.
struct Part {
    first: usize,
    entries: Vec<u8>,
    scratch: Vec<u8>,
    files: u64,
    bytes: u64,
}

impl Part {
    fn put(
        &mut self,
        name: &[u8],
        metadata: &Metadata,
        attributes: &Attributes,
        content: Content<'_>,
        bits: u64,
    ) {
        let mut entry = entry_of(name, metadata);
        put_attributes(&mut entry, attributes);
        entry.content = content;
        entry.status = bits;
        put_entry(&mut self.entries, &entry, &mut self.scratch);
        self.count(metadata.size);
    }

    fn count(&mut self, bytes: u64) {
        self.files += 1;
        self.bytes += bytes;
    }

    fn close(&mut self, node: &Node) {
        if !self.entries.is_empty() {
            let entries = std::mem::take(&mut self.entries);
            node.parts
                .lock()
                .expect("no thread panics with a part")
                .insert(self.first, entries);
        }
    }
}

fn join(path: &mut Vec<u8>, folder: &[u8], name: &[u8]) {
    path.clear();
    path.extend_from_slice(folder);
    if !folder.is_empty() {
        path.push(b'/');
    }
    path.extend_from_slice(name);
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
