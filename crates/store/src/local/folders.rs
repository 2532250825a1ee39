//! The folders below a store's own, by handle.
//!
//! A folder's path is the text before a name's last `/` (or the hidden folder of temporary files);
//! the empty path is the store's own folder. Handles of recently used folders are kept, so that a
//! put or a read of one more object costs no walk.
//!
//! **Invariant:** a folder that [`Folders::make`] returned has a durable entry in the folder above
//! it, and so on up to the store's own.

use std::collections::HashSet;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::problem::Problem;
use super::recent::Recent;

/// How many folders are kept open. A process may usually have 1024 handles.
const HANDLES: usize = 128;

/// The folders of one store.
pub(super) struct Folders {
    root: Arc<OwnedFd>,
    handles: Mutex<Recent<String, Arc<OwnedFd>>>,
    /// The folders whose entries this process knows to be durable.
    durable: Mutex<HashSet<String>>,
}

impl Folders {
    pub(super) fn new(root: OwnedFd) -> Self {
        Self {
            root: Arc::new(root),
            handles: Mutex::new(Recent::new(HANDLES)),
            durable: Mutex::new(HashSet::new()),
        }
    }

    /// The store's own folder.
    pub(super) fn root(&self) -> &OwnedFd {
        &self.root
    }

    /// Opens a folder that exists.
    pub(super) fn find(&self, path: &str) -> Result<Arc<OwnedFd>, Problem> {
        if path.is_empty() {
            return Ok(Arc::clone(&self.root));
        }
        if let Some(handle) = self.cached(path) {
            return Ok(handle);
        }
        let (above, last) = path.rsplit_once('/').unwrap_or(("", path));
        let handle = Arc::new(open_folder(&*self.find(above)?, last)?);
        lock(&self.handles).insert(path.to_owned(), Arc::clone(&handle));
        Ok(handle)
    }

    /// Opens a folder, made when it is missing, whose entry is durable.
    pub(super) fn make(&self, path: &str) -> Result<Arc<OwnedFd>, Problem> {
        if path.is_empty() {
            return Ok(Arc::clone(&self.root));
        }
        let known_durable = lock(&self.durable).contains(path);
        if known_durable && let Some(handle) = self.cached(path) {
            return Ok(handle);
        }
        let (above, last) = path.rsplit_once('/').unwrap_or(("", path));
        let above = self.make(above)?;
        let (handle, made) = match open_folder(&above, last) {
            Err(problem) if problem.is_not_found() => {
                let made = match rustix::fs::mkdirat(&*above, last, Mode::RWXU) {
                    Err(Errno::EXIST) => false,
                    result => result.map(|()| true)?,
                };
                (open_folder(&above, last)?, made)
            }
            opened => (opened?, false),
        };
        if made || !known_durable {
            // Also when another thread or process made it: that one may not have come to its flush
            // yet, and the object to be put here must not be lost with the folder.
            flush(&above)?;
            lock(&self.durable).insert(path.to_owned());
        }
        let handle = Arc::new(handle);
        lock(&self.handles).insert(path.to_owned(), Arc::clone(&handle));
        Ok(handle)
    }

    /// A kept handle, unless its folder was removed meanwhile or its server forgot it.
    fn cached(&self, path: &str) -> Option<Arc<OwnedFd>> {
        let handle = lock(&self.handles).get(path)?;
        match rustix::fs::fstat(&*handle) {
            Ok(stat) if stat.st_nlink > 0 => Some(handle),
            _ => {
                lock(&self.handles).remove(path);
                None
            }
        }
    }
}

/// Opens a folder in a folder, never through a link.
pub(super) fn open_folder(above: &OwnedFd, name: &str) -> Result<OwnedFd, Problem> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match rustix::fs::openat(above, name, flags, Mode::empty()) {
        Ok(handle) => Ok(handle),
        // Kernels say either of a link, and ENOTDIR of any file too.
        Err(error @ (Errno::NOTDIR | Errno::LOOP)) => {
            let stat = rustix::fs::statat(above, name, AtFlags::SYMLINK_NOFOLLOW)?;
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::RegularFile => Err(Errno::NOTDIR.into()),
                // It became a folder between the two calls.
                FileType::Directory => Err(error.into()),
                other => Err(Problem::InTheWay(in_the_way(other))),
            }
        }
        Err(error) => Err(error.into()),
    }
}

/// What to say of something that has the name of an object or folder and is neither.
pub(super) fn in_the_way(kind: FileType) -> &'static str {
    match kind {
        FileType::Symlink => "a symbolic link is in its place, and links are not followed",
        FileType::Directory => "a folder is in its place",
        _ => "something that is neither file nor folder is in its place",
    }
}

/// Makes a folder's entries durable.
pub(super) fn flush(folder: &OwnedFd) -> Result<(), Problem> {
    match rustix::fs::fsync(folder) {
        // Some network file systems have no flush of folders: their server orders such changes.
        Ok(()) | Err(Errno::INVAL | Errno::OPNOTSUPP) => Ok(()),
        Err(error) => Err(Problem::Flush(error.into())),
    }
}

/// Locks what stays whole at every step, so that another thread's panic does not spoil it.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
