//! The folder that a restore writes into, and the folders below it that it created or found.
//!
//! Invariants: every folder of a restore is known by its place in one table, and is opened again only from the
//! target's top, without following links, and only if it is still the object that was registered. A folder that this
//! restore created stays closed to others until [`Target::finish`].

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
use std::collections::HashSet;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A folder of one [`Target`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FolderId(u32);

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

#[derive(Debug, Default)]
struct Table {
    folders: Vec<Row>,
    /// Objects that this restore made in folders where another name may lead to them.
    made: HashSet<Identity>,
}

#[derive(Debug)]
struct Row {
    parent: FolderId,
    name: Box<[u8]>,
    known: Known,
    wanted: Option<Box<(Metadata, Attributes)>>,
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
    /// This restore created it, and until the end nobody else can enter it.
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
        let name = Box::default();
        let top = Row {
            parent: FolderId::TOP,
            name,
            known,
            wanted: None,
        };
        Ok(Self {
            top: folder.into_fd(),
            options,
            umask: read_umask(),
            uid,
            table: Mutex::new(Table {
                folders: vec![top],
                made: HashSet::new(),
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
        lock(&self.table).folders[0].wanted = wanted;
    }

    pub(crate) fn top(&self) -> BorrowedFd<'_> {
        self.top.as_fd()
    }

    /// The places of all folders, parents before what lies in them.
    pub(crate) fn ids(&self) -> impl DoubleEndedIterator<Item = FolderId> + use<> {
        let count = lock(&self.table).folders.len();
        let count = u32::try_from(count).expect("the table gives out u32 places");
        (0..count).map(FolderId)
    }

    pub(crate) fn known(&self, id: FolderId) -> Known {
        lock(&self.table).folders[id.0 as usize].known
    }

    pub(crate) fn parent(&self, id: FolderId) -> FolderId {
        lock(&self.table).folders[id.0 as usize].parent
    }

    pub(crate) fn folder_path(&self, id: FolderId) -> Vec<u8> {
        lock(&self.table).path(id)
    }

    /// What the folder is to look like in the end; told once.
    pub(crate) fn take_wanted(&self, id: FolderId) -> Option<Box<(Metadata, Attributes)>> {
        lock(&self.table).folders[id.0 as usize].wanted.take()
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
        let id = u32::try_from(table.folders.len()).expect("a restore has fewer than 2^32 folders");
        let wanted = Some(Box::new(wanted));
        table.folders.push(Row {
            parent,
            name: name.into(),
            known,
            wanted,
        });
        FolderId(id)
    }

    /// Puts off the flags that would keep a file from getting its other names.
    pub(crate) fn seal_later(&self, sealed: Sealed) {
        lock(&self.sealed).push(sealed);
    }

    pub(crate) fn take_sealed(&self) -> Vec<Sealed> {
        std::mem::take(&mut lock(&self.sealed))
    }

    /// Remembers an object that was made where another name may lead to it.
    pub(crate) fn remember(&self, identity: Identity) {
        lock(&self.table).made.insert(identity);
    }

    /// Whether this restore made the object, so that a name that leads to it is another name for the same.
    pub(crate) fn made(&self, identity: Identity) -> bool {
        lock(&self.table).made.contains(&identity)
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
    fn path(&self, id: FolderId) -> Vec<u8> {
        let mut names = Vec::new();
        let mut at = id;
        while at != FolderId::TOP {
            let folder = &self.folders[at.0 as usize];
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
