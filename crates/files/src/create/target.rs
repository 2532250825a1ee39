//! The folder that a restore writes into, and the folders below it that it created or found.
//!
//! Invariants: every folder of a restore is known by its number in one table, from when it is made until it is
//! complete, and is opened again only from the target's top, without following links, and only if it is still the
//! object that was registered. A folder that this restore created stays closed to others until it is complete, and is
//! completed after everything below it. A number is never given twice.
//!
//! Memory: a row for each folder that is not complete. Those in which an object lies that may get further names stay
//! until the end, with the folders above them, so that what is linked is found as safely as when it was made.

use crate::attributes::{ACL_DEFAULT, Attributes, Carrier};
use crate::create::options::{Overwrite, RestoreOptions};
use crate::create::problem::{Problem, ProblemLog, What};
use crate::error::{Error, ErrorKind};
use crate::listing::Listing;
use crate::metadata::{Identity, Metadata};
use crate::walk::Folder;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{Mode, mkdir};
use rustix::io::Errno;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What whoever uses a folder sees to.
const INCOMPLETE: &str = "a folder is not used any more when it is complete";

/// A folder of one [`Target`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FolderId(u64);

impl FolderId {
    /// The target's top.
    pub const TOP: Self = Self(0);
}

/// One restore into one folder; several threads may use it at once.
#[derive(Debug)]
pub struct Target {
    top: OwnedFd,
    options: RestoreOptions,
    /// This process's file mode creation mask, where it can be read without changing it.
    umask: Option<u16>,
    uid: u32,
    table: Mutex<Table>,
    problems: Mutex<ProblemLog>,
    sealed: Mutex<Vec<Sealed>>,
    temporary_names: AtomicU64,
}

#[derive(Debug)]
struct Table {
    folders: BTreeMap<FolderId, Row>,
    next: u64,
    /// For each file system, a folder of this restore that lies on it.
    devices: HashMap<u64, Vec<u8>>,
}

#[derive(Debug)]
struct Row {
    parent: FolderId,
    name: Box<[u8]>,
    known: Known,
    wanted: Option<Box<(Metadata, Attributes)>>,
    /// Folders in it that are in the table.
    below: u64,
    /// An object in it may get further names.
    holds_original: bool,
    /// Objects that this restore made in it, where another name in it may lead to them: up to 40 bytes for each, only in
    /// a folder that stood there before, until it is complete.
    made: HashSet<Identity>,
}

impl Row {
    fn new(parent: FolderId, name: &[u8], known: Known) -> Self {
        Self {
            parent,
            name: name.into(),
            known,
            wanted: None,
            below: 0,
            holds_original: false,
            made: HashSet::new(),
        }
    }
}

/// A file of several names that is to take nothing more, once it has them all.
#[derive(Debug)]
pub(crate) struct Sealed {
    pub(crate) folder: FolderId,
    pub(crate) name: Box<[u8]>,
    pub(crate) identity: Identity,
    pub(crate) flags: u32,
}

/// What is known of a folder of a restore.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Known {
    pub(crate) identity: Identity,
    /// This restore created it, and until it is complete nobody else can enter it.
    pub(crate) fresh: bool,
    /// New entries get an access list from it.
    pub(crate) inherits: bool,
}

impl Target {
    /// Opens the folder at `path` as the place of a restore, and creates it, with its parents, if it is missing.
    ///
    /// Links in `path` are followed: it is what the user named. [`ErrorKind::NotEmpty`] if the folder has entries and
    /// the options do not permit to overwrite.
    pub fn prepare(path: &Path, options: RestoreOptions) -> Result<Self, Error> {
        let object = path.as_os_str().as_bytes();
        let fail = |errno| Error::from_errno("create the folder", object, errno);
        if let Some(parent) = path
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty())
        {
            std::fs::create_dir_all(parent)
                .map_err(|source| fail(Errno::from_io_error(&source).unwrap_or(Errno::IO)))?;
        }
        let created = match mkdir(path, Mode::RWXU) {
            Ok(()) => true,
            Err(Errno::EXIST) => false,
            Err(errno) => return Err(fail(errno)),
        };
        let (folder, found, empty) = opened(path, &options)?;
        let uid = rustix::process::geteuid().as_raw();
        let known = Known {
            identity: found.identity(),
            fresh: created && empty && is_closed(&found, uid),
            inherits: inherits(folder.fd()).map_err(fail)?,
        };
        let top = Row::new(FolderId::TOP, b"", known);
        Ok(Self {
            top: folder.into_fd(),
            options,
            umask: read_umask(),
            uid,
            table: Mutex::new(Table {
                folders: BTreeMap::from([(FolderId::TOP, top)]),
                next: 1,
                devices: HashMap::from([(known.identity.dev, Vec::new())]),
            }),
            problems: Mutex::default(),
            sealed: Mutex::default(),
            temporary_names: AtomicU64::new(0),
        })
    }

    /// Says whether [`prepare`](Self::prepare) would take what stands at `path`, and changes nothing.
    pub fn check(path: &Path, options: &RestoreOptions) -> Result<(), Error> {
        match opened(path, options) {
            Err(error) if error.kind() == ErrorKind::Vanished => Ok(()),
            done => done.map(|_| ()),
        }
    }

    /// The metadata that the target's top is to have in the end; without it, a top that this restore created gets
    /// the permissions of any new folder, and one that it found keeps its own.
    pub fn describe_top(&self, metadata: &Metadata, attributes: Attributes) {
        let wanted = Some(Box::new((*metadata, attributes)));
        lock(&self.table).row_mut(FolderId::TOP).wanted = wanted;
    }

    pub(crate) fn top(&self) -> BorrowedFd<'_> {
        self.top.as_fd()
    }

    /// The folder that was made last of those that are not complete: nothing of this restore lies in it.
    pub(crate) fn last(&self) -> Option<FolderId> {
        lock(&self.table).folders.keys().next_back().copied()
    }

    /// Whether a folder may be completed before the restore ends: it is known, all folders in it are complete, and no
    /// object in it is to get further names.
    pub(crate) fn is_ready(&self, id: FolderId) -> bool {
        let table = lock(&self.table);
        let row = table.folders.get(&id);
        id != FolderId::TOP && row.is_some_and(|row| row.below == 0 && !row.holds_original)
    }

    /// Takes a folder out of the table.
    pub(crate) fn forget(&self, id: FolderId) {
        let mut table = lock(&self.table);
        if let Some(row) = table.folders.remove(&id)
            && let Some(parent) = table.folders.get_mut(&row.parent)
        {
            parent.below = parent.below.saturating_sub(1);
        }
    }

    /// For each file system on which a folder of this restore lies, one of them by its path.
    pub(crate) fn take_devices(&self) -> HashMap<u64, Vec<u8>> {
        std::mem::take(&mut lock(&self.table).devices)
    }

    /// The path of a folder and what is known of it, until it is complete.
    pub(crate) fn find(&self, id: FolderId) -> Option<(Vec<u8>, Known)> {
        let table = lock(&self.table);
        let known = table.folders.get(&id)?.known;
        Some((table.path(id), known))
    }

    pub(crate) fn known(&self, id: FolderId) -> Known {
        lock(&self.table).row(id).known
    }

    pub(crate) fn parent(&self, id: FolderId) -> FolderId {
        lock(&self.table).row(id).parent
    }

    pub(crate) fn folder_path(&self, id: FolderId) -> Vec<u8> {
        lock(&self.table).path(id)
    }

    /// What the folder is to look like in the end; told once.
    pub(crate) fn take_wanted(&self, id: FolderId) -> Option<Box<(Metadata, Attributes)>> {
        lock(&self.table).row_mut(id).wanted.take()
    }

    pub(crate) fn into_problems(self) -> Vec<Problem> {
        let problems = self.problems.into_inner();
        problems
            .unwrap_or_else(PoisonError::into_inner)
            .into_problems()
    }

    pub(crate) fn options(&self) -> &RestoreOptions {
        &self.options
    }

    pub(crate) fn umask(&self) -> Option<u16> {
        self.umask
    }

    /// Whether a folder just created by this process is really the one at hand, and nobody else can enter it.
    pub(crate) fn is_own(&self, found: &Metadata) -> bool {
        is_closed(found, self.uid)
    }

    /// Enters a folder into the table.
    pub(crate) fn register(
        &self,
        parent: FolderId,
        name: &[u8],
        known: Known,
        wanted: (Metadata, Attributes),
    ) -> FolderId {
        let mut table = lock(&self.table);
        let id = FolderId(table.next);
        table.next += 1;
        let mut row = Row::new(parent, name, known);
        row.wanted = Some(Box::new(wanted));
        table.folders.insert(id, row);
        table.row_mut(parent).below += 1;
        if !table.devices.contains_key(&known.identity.dev) {
            let path = table.path(id);
            table.devices.insert(known.identity.dev, path);
        }
        id
    }

    /// An object in the folder may get further names: the folder stays open to this restore until the end.
    pub(crate) fn hold(&self, id: FolderId) {
        lock(&self.table).row_mut(id).holds_original = true;
    }

    /// Puts off the flags that would keep a file from getting its other names.
    pub(crate) fn seal_later(&self, sealed: Sealed) {
        lock(&self.sealed).push(sealed);
    }

    pub(crate) fn take_sealed(&self) -> Vec<Sealed> {
        std::mem::take(&mut lock(&self.sealed))
    }

    /// Remembers an object that was made in a folder where another name may lead to it.
    pub(crate) fn remember(&self, folder: FolderId, identity: Identity) {
        lock(&self.table).row_mut(folder).made.insert(identity);
    }

    /// Whether this restore made the object in this folder, so that a name that leads to it is another name for the
    /// same.
    pub(crate) fn made(&self, folder: FolderId, identity: Identity) -> bool {
        lock(&self.table).row(folder).made.contains(&identity)
    }

    pub(crate) fn note(
        &self,
        what: What,
        source: Option<io::Error>,
        path: impl FnOnce() -> Vec<u8>,
    ) {
        lock(&self.problems).add(what, source, path);
    }

    /// The path of `name` in the folder `id`, from the target's top.
    pub(crate) fn path(&self, id: FolderId, name: &[u8]) -> Vec<u8> {
        let mut path = lock(&self.table).path(id);
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(name);
        path
    }

    /// A name that no backup has and that another restore into the same folder does not use.
    pub(crate) fn temporary_name(&self) -> Vec<u8> {
        let number = self.temporary_names.fetch_add(1, Ordering::Relaxed);
        format!(".lifeboat-{:x}-{number:x}.tmp", std::process::id()).into_bytes()
    }
}

impl Table {
    fn row(&self, id: FolderId) -> &Row {
        self.folders.get(&id).expect(INCOMPLETE)
    }

    fn row_mut(&mut self, id: FolderId) -> &mut Row {
        self.folders.get_mut(&id).expect(INCOMPLETE)
    }

    fn path(&self, id: FolderId) -> Vec<u8> {
        let mut names = Vec::new();
        let mut at = id;
        while at != FolderId::TOP {
            let folder = self.row(at);
            names.push(&*folder.name);
            at = folder.parent;
        }
        names.reverse();
        names.join(&b'/')
    }
}

/// Opens the folder at `path` for a restore, with its metadata and whether it is empty.
fn opened(path: &Path, options: &RestoreOptions) -> Result<(Folder, Metadata, bool), Error> {
    let object = path.as_os_str().as_bytes();
    let mut folder = Folder::open(path)?;
    let found = folder.own_metadata().map_err(|error| error.about(object))?;
    let empty = is_empty(&mut folder, &found).map_err(|error| error.about(object))?;
    let refused = if let Some(mark) = options.keep_out.filter(|mark| folder.bears(mark)) {
        Some((ErrorKind::KeptOut, mark.reason))
    } else if !empty && options.overwrite == Overwrite::Never {
        let reason = "it is not empty, and nothing may be overwritten";
        Some((ErrorKind::NotEmpty, reason))
    } else {
        None
    };
    match refused {
        Some((kind, reason)) => Err(Error::because(kind, "restore into", object, reason)),
        None => Ok((folder, found, empty)),
    }
}

/// Whether new entries of the folder get an access list from it.
pub(crate) fn inherits(folder: BorrowedFd<'_>) -> Result<bool, Errno> {
    Ok(Carrier::Open(folder).value(ACL_DEFAULT)?.is_some())
}

fn is_closed(found: &Metadata, uid: u32) -> bool {
    found.uid == uid && found.mode & 0o777 == 0o700
}

/// Whether the folder has no entries; the `lost+found` of a fresh file system does not count.
fn is_empty(folder: &mut Folder, found: &Metadata) -> Result<bool, Error> {
    let mut listing = Listing::new();
    folder.list(&mut listing)?;
    for entry in listing.iter() {
        if !(found.mount_root && *entry?.name == *b"lost+found") {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The mask as the kernel tells it. Asking by `umask` would change it for every thread of the process.
fn read_umask() -> Option<u16> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("Umask:"))?;
    u16::from_str_radix(line.trim(), 8).ok()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What the locks protect is changed by single pushes and inserts, so a panic elsewhere leaves it whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
