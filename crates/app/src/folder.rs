//! Reads a folder into the repository: every worker takes a folder, or a part of a large one, and does all of it.
//!
//! An unchanged file costs one look at its metadata; nothing of it is opened. A folder's tree is stored as its parts are
//! done, by the workers that did them, and then counts as a part of the folder above. Memory is bounded by how deep
//! folders lie in each other, not by how many entries they have.

mod item;
mod carry;
mod tree;

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use lifeboat_codec::{Content, Entry, EntryKind, Problem, StreamRef, put_entry, status};
use lifeboat_files::{
    Attributes, AttributesRead, ClusterState, ErrorKind, Excludes, Folder, Identity, Kind, Listing,
    Metadata, Special, recognise,
};
use lifeboat_repository::{Lane, Tasks, WriteError, Writer, work};

use self::item::{Part, READ_AGAIN, join};
use self::tree::{Done, Entries, Tree};
use crate::bundle::Bundles;
use crate::earlier::Earlier;
use crate::entry::{Stored, attributes_of, entry_of, put_attributes, unchanged};
use crate::memory::{Gathered, Known, Memory, Past, PastTree, Seen};

pub(crate) use self::carry::Rows;

/// Bytes of files that a worker reads before it offers the rest of a folder to others.
const SHARE_BYTES: u64 = 4 << 20;
/// Deeper folders are not kept open while what is below them waits.
const OPEN_DEPTH_MAX: usize = 200;
/// Bytes of entries that a worker gathers before it gives them to the folder's tree.
const PART_BYTES: usize = 64 << 10;

/// How the name of a folder begins in which a restore in place keeps what it has replaced, inside of a source's folder.
pub(crate) const KEPT_INSIDE: &str = ".lifeboat-restore-";

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
    /// What files were.
    pub(crate) earlier: &'a Earlier<'a>,
    /// Takes apart files that hold others.
    pub(crate) bundles: &'a Bundles,
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
    pub(crate) seen: Seen,
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
struct Node<'m> {
    parent: Option<(Arc<Self>, usize)>,
    path: Vec<u8>,
    depth: usize,
    metadata: Metadata,
    attributes: Attributes,
    status: Mutex<u64>,
    folder: Mutex<Option<Arc<Folder>>>,
    past: PastTree,
    tree: Mutex<Tree<'m>>,
    /// Parts that are not done.
    pending: AtomicUsize,
}

enum Task<'m> {
    Folder(Arc<Node<'m>>),
    Rest(Arc<Node<'m>>, Rest<'m>),
}

/// What is still to be read of a folder: its entries from place `from` of the listing on.
struct Rest<'m> {
    folder: Arc<Folder>,
    listing: Arc<Listing>,
    from: usize,
    past: Past<'m>,
}

/// A file of several names as it was read under the first of them.
#[derive(Clone)]
struct Named {
    metadata: Metadata,
    stored: Stored,
    attributes: Attributes,
    /// Names that were not met yet.
    left: u32,
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
    gathered: Gathered<'a>,
    /// The source's own folder, encoded, and where its tree is remembered.
    done: Mutex<Option<(Vec<u8>, Vec<u8>)>>,
}

/// Reads the folder at `path` as the source `name`.
pub(crate) fn read_folder<'a>(
    writer: &Writer<'_>,
    threads: usize,
    name: &'a str,
    path: &std::path::Path,
    options: &'a FolderOptions<'a>,
    memory: &'a Memory<'a>,
    gathered: Gathered<'a>,
) -> Result<FolderRead, FolderError> {
    let walk = Walk::new(name, options, memory, gathered, Folder::open(path)?)?;
    let node = walk.top_node()?;
    work(
        writer,
        threads,
        vec![Task::Folder(node)],
        |lane, task, tasks| walk.task(lane, task, tasks),
    )?;
    walk.end_problems();
    let (entry, top) = walk
        .done
        .into_inner()
        .expect("no thread panics at the end")
        .expect("the top folder was completed");
    Ok(FolderRead {
        entry,
        files: walk.files.into_inner(),
        bytes: walk.bytes.into_inner(),
        unreadable: walk.unreadable.into_inner(),
        problems: walk
            .problems
            .into_inner()
            .expect("no thread panics with a problem"),
        seen: walk.gathered.finish(top),
    })
}

impl<'a> Walk<'a> {
    fn new(
        source: &'a str,
        options: &'a FolderOptions<'a>,
        memory: &'a Memory<'a>,
        gathered: Gathered<'a>,
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
            gathered,
            done: Mutex::new(None),
        })
    }

    /// The source's own folder, with which the walk begins.
    fn top_node(&self) -> Result<Arc<Node<'a>>, lifeboat_files::Error> {
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
            past: self.memory.top(),
            tree: Mutex::new(Tree::new()),
            pending: AtomicUsize::new(1),
        }))
    }

    fn task(
        &self,
        lane: &mut Lane<'_, '_>,
        task: Task<'a>,
        tasks: &Tasks<'_, Task<'a>>,
    ) -> Result<(), WriteError> {
        match task {
            Task::Rest(node, rest) => self.range(lane, &node, rest, tasks),
            Task::Folder(node) => {
                let mut listing = Listing::new();
                let mut folder = match self.open(&node) {
                    Ok(folder) => folder,
                    Err(error) => {
                        self.lost_folder(&node, &error);
                        return self.part_done(lane, &node, tasks);
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
                let rest = Rest {
                    folder,
                    listing: Arc::new(listing),
                    from: 0,
                    past: self.memory.past(&node.past, &node.path),
                };
                self.range(lane, &node, rest, tasks)
            }
        }
    }

    /// The node's folder, opened by its handle where that is kept, else by its path below the top.
    fn open(&self, node: &Node<'_>) -> Result<Arc<Folder>, lifeboat_files::Error> {
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

    fn reopen(&self, node: &Node<'_>) -> Result<Folder, lifeboat_files::Error> {
        self.top.open_beneath(&node.path)
    }

    fn look_at_folder(&self, node: &Node<'_>, folder: &Folder, listing: &Listing) {
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

    /// Reads the rest of a folder, or what of it is not left to others.
    fn range(
        &self,
        lane: &mut Lane<'_, '_>,
        node: &Arc<Node<'a>>,
        rest: Rest<'a>,
        tasks: &Tasks<'_, Task<'a>>,
    ) -> Result<(), WriteError> {
        let Rest {
            folder,
            listing,
            from,
            mut past,
        } = rest;
        let mut part = Part::from_place(from);
        let mut path = Vec::new();
        let mut place = from;
        let whole = loop {
            if lane.writer().stopped() {
                return Err(WriteError::Stopped);
            }
            part.tell_now_and_then(lane.writer().progress());
            let listed = match listing.get(place) {
                Ok(Some(listed)) => listed,
                Ok(None) => break true,
                Err(error) => {
                    self.lost_folder(node, &error);
                    break false;
                }
            };
            let name = &*listed.name;
            self.carry_before(lane, &mut part, node, &mut past, Some(name), &listing)?;
            let at = At {
                node,
                folder: &folder,
                listing: &listing,
                place,
                name,
                hint: listed.hint,
            };
            let below = self.one(lane, &mut part, &at, &mut past, &mut path)?;
            let is_folder = below.is_some();
            if let Some(below) = below {
                // What stands before it is a part of its own.
                self.hand_in(lane, node, part.take(place), tasks)?;
                part.first = place + 1;
                tasks.push(Task::Folder(below));
            }
            place += 1;
            let is_full = part.entries.stored.len() >= PART_BYTES;
            if is_full {
                self.hand_in(lane, node, part.take(place), tasks)?;
            }
            let share = part.bytes >= SHARE_BYTES && place < listing.len() && tasks.hungry();
            if !(is_full || is_folder || share) {
                continue;
            }
            let rest = Rest {
                folder: Arc::clone(&folder),
                listing: Arc::clone(&listing),
                from: place,
                past,
            };
            // Before it can be taken up by another.
            node.pending.fetch_add(1, Ordering::SeqCst);
            match node.tree().put_aside(rest) {
                None => {
                    past = Past::nothing();
                    break false;
                }
                Some(rest) if share => {
                    tasks.push(Task::Rest(Arc::clone(node), rest));
                    past = Past::nothing();
                    break false;
                }
                Some(rest) => past = rest.past,
            }
            node.pending.fetch_sub(1, Ordering::SeqCst);
        };
        if whole {
            self.carry_before(lane, &mut part, node, &mut past, None, &listing)?;
        }
        part.tell(lane.writer().progress());
        self.files.fetch_add(part.files, Ordering::Relaxed);
        self.bytes.fetch_add(part.bytes, Ordering::Relaxed);
        self.hand_in(lane, node, part.take(place), tasks)?;
        self.part_done(lane, node, tasks)
    }

    /// Reads one entry of a folder; a folder is returned, to be read as a task of its own.
    fn one(
        &self,
        lane: &mut Lane<'_, '_>,
        part: &mut Part,
        at: &At<'_, 'a>,
        past: &mut Past<'a>,
        path: &mut Vec<u8>,
    ) -> Result<Option<Arc<Node<'a>>>, WriteError> {
        let At {
            node,
            folder,
            listing,
            place,
            name,
            hint,
        } = *at;
        // The list's own word spares what is left out any look at it: it may be a mount that hangs.
        if let Some(kind) = hint
            && self.excluded(node, name, kind, path)
        {
            return Ok(None);
        }
        let metadata = match folder.metadata(name) {
            Ok(metadata) => metadata,
            Err(error) => {
                join(path, &node.path, name);
                self.lost_item(part, name, hint.unwrap_or(Kind::File), path, &error);
                if error.kind() == ErrorKind::Vanished {
                    let known = past.find(name);
                    self.carry_again(lane, part, node, known.as_ref())?;
                }
                return Ok(None);
            }
        };
        if hint.is_none() && self.excluded(node, name, metadata.kind, path) {
            return Ok(None);
        }
        if self.options.skip.contains(&metadata.identity()) {
            return Ok(None);
        }
        let known = past.find(name);
        if metadata.kind == Kind::Folder {
            if self.options.one_file_system && metadata.dev != self.dev {
                // The mount point itself stays, empty, so that a restore can be mounted over again.
                self.plain(part, folder, name, &metadata, node);
                return Ok(None);
            }
            self.met(node, name, Kind::Folder, 0);
            return Ok(Some(self.below(at, metadata, known.as_ref())));
        }
        if let Some(Known { entry, raw, .. }) = &known
            && unchanged(entry, &metadata, self.memory.trusted_before)
            && self.may_take_over(lane.writer(), entry, &metadata)
            && !has_log(listing, place, name)
        {
            part.entries.put(raw);
            if metadata.kind == Kind::File {
                part.count(metadata.size);
            }
            self.met(node, name, metadata.kind, metadata.size);
            return Ok(None);
        }
        if metadata.kind != Kind::File {
            self.plain(part, folder, name, &metadata, node);
            self.met(node, name, metadata.kind, 0);
            return Ok(None);
        }
        let (before, bytes) = (part.entries.stored.len(), part.bytes);
        let earlier = known.as_ref().and_then(|known| {
            join(path, &node.path, name);
            let earlier = self.options.earlier;
            earlier.content(self.source, path, &known.entry)
        });
        self.file(lane, part, at, &metadata, earlier.as_ref())?;
        if part.entries.stored.len() > before {
            self.met(node, name, Kind::File, part.bytes - bytes);
        } else {
            self.carry_again(lane, part, node, known.as_ref())?;
        }
        Ok(None)
    }

    fn excluded(&self, node: &Node<'_>, name: &[u8], kind: Kind, path: &mut Vec<u8>) -> bool {
        // What a restore in place keeps inside of a folder is no part of it.
        if node.depth == 0 && kind == Kind::Folder && name.starts_with(KEPT_INSIDE.as_bytes()) {
            return true;
        }
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
            // A file of some bytes is somewhere.
            Content::None => entry.kind != EntryKind::File || entry.size == 0,
            // A parent snapshot's word is not enough: what it names may have been lost since.
            _ if self.memory.whole => true,
            Content::Chunk(id) => writer.has_chunk(id),
            Content::Stream(reference) => {
                StreamRef::decode(reference).is_ok_and(|stream| writer.has_stream(&stream))
            }
            Content::Bundle(reference) => {
                StreamRef::decode(reference).is_ok_and(|parts| writer.has_bundle(&parts))
            }
        }
    }

    /// A folder below, to be read as a task of its own.
    fn below(
        &self,
        at: &At<'_, 'a>,
        mut metadata: Metadata,
        known: Option<&Known<'_>>,
    ) -> Arc<Node<'a>> {
        let At {
            node,
            folder,
            place,
            name,
            ..
        } = *at;
        let mut path = Vec::with_capacity(node.path.len() + name.len() + 1);
        join(&mut path, &node.path, name);
        let same = known
            .map(|known| &known.entry)
            .filter(|entry| unchanged(entry, &metadata, self.memory.trusted_before));
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
        node.pending.fetch_add(1, Ordering::SeqCst);
        node.tree().expect_below();
        Arc::new(Node {
            parent: Some((Arc::clone(node), place)),
            depth: node.depth + 1,
            path,
            metadata,
            attributes,
            status: Mutex::new(0),
            folder: Mutex::new(None),
            past: known.map_or(PastTree::None, Known::tree),
            tree: Mutex::new(Tree::new()),
            pending: AtomicUsize::new(1),
        })
    }

    /// Gives a part to its folder's tree, and goes on with the folder if it waited for that.
    fn hand_in(
        &self,
        lane: &mut Lane<'_, '_>,
        node: &Arc<Node<'a>>,
        done: Option<Done>,
        tasks: &Tasks<'_, Task<'a>>,
    ) -> Result<(), WriteError> {
        let Some(done) = done else { return Ok(()) };
        let rest = {
            let mut tree = node.tree();
            tree.take(lane, &self.gathered, done)?;
            tree.take_up()
        };
        if let Some(rest) = rest {
            tasks.push(Task::Rest(Arc::clone(node), rest));
        }
        Ok(())
    }

    /// One part of a folder is done; the last one ends the tree, and may be the last of the folder above.
    fn part_done(
        &self,
        lane: &mut Lane<'_, '_>,
        node: &Arc<Node<'a>>,
        tasks: &Tasks<'_, Task<'a>>,
    ) -> Result<(), WriteError> {
        let mut node = Arc::clone(node);
        while node.pending.fetch_sub(1, Ordering::SeqCst) == 1 {
            let growing = node.tree().end();
            let tree = growing.close(lane, &self.gathered)?;
            *node.folder.lock().expect("no thread panics with a folder") = None;
            let (stored, top) =
                tree.map_or_else(Default::default, |(stream, seen)| (stream.encode(), seen));
            let Some((parent, place)) = &node.parent else {
                let entry = self.entry_of_folder(&node, self.source.as_bytes(), &stored);
                *self.done.lock().expect("no thread panics at the end") = Some((entry, top));
                return Ok(());
            };
            let name = node
                .path
                .rsplit(|byte| *byte == b'/')
                .next()
                .unwrap_or_default();
            let mut entries = Entries::default();
            entries.put_both(
                &self.entry_of_folder(&node, name, &stored),
                &self.entry_of_folder(&node, name, &top),
            );
            let done = Done {
                first: *place,
                end: place + 1,
                entries,
            };
            parent.tree().meet_below();
            self.hand_in(lane, parent, Some(done), tasks)?;
            let parent = Arc::clone(parent);
            node = parent;
        }
        Ok(())
    }

    /// A folder's own entry, whose tree is at `tree`, nowhere when that is empty.
    fn entry_of_folder(&self, node: &Node<'_>, name: &[u8], tree: &[u8]) -> Vec<u8> {
        let mut entry = entry_of(name, &node.metadata);
        put_attributes(&mut entry, &node.attributes);
        entry.status = *node.status.lock().expect("no thread panics with a status");
        entry.content = match tree {
            [] => Content::None,
            tree => Content::Stream(tree),
        };
        let mut encoded = Vec::new();
        put_entry(&mut encoded, &entry, &mut Vec::new());
        encoded
    }
}

/// One entry of a listing.
#[derive(Clone, Copy)]
struct At<'n, 'm> {
    node: &'n Arc<Node<'m>>,
    folder: &'n Folder,
    listing: &'n Listing,
    place: usize,
    name: &'n [u8],
    /// What it was when it was listed.
    hint: Option<Kind>,
}

impl<'m> Node<'m> {
    fn tree(&self) -> MutexGuard<'_, Tree<'m>> {
        self.tree.lock().expect("no thread panics with a tree")
    }
}

/// Whether an SQLite log or journal may lie beside the entry: then the entry alone may not be the database any more,
/// though it did not change. What begins with a name follows it at once in the order of names.
fn has_log(listing: &Listing, place: usize, name: &[u8]) -> bool {
    let Some(next) = listing.get(place + 1).transpose() else {
        return false;
    };
    // What cannot be told is looked at.
    next.map_or(true, |next| next.name.starts_with(name))
        && ["-wal", "-journal"]
            .iter()
            .any(|suffix| listing.may_hold(&[name, suffix.as_bytes()].concat()))
}

#[cfg(test)]
mod tests;
