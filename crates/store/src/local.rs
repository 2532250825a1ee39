//! A store in a folder of the local file system (or of a network file system mounted there).
//!
//! An object is a file below the store's folder, under its own name. It is written without a name,
//! made read-only, flushed to the disk, and only then linked to its name, which cannot replace
//! anything; the folder is flushed too. A crash therefore leaves a whole object or none.
//!
//! Every path below the store's folder is walked by handles, component by component, and no link is
//! followed: whoever can write into the folder can damage objects (which is found), but can lead
//! neither a read nor a write elsewhere.
//!
//! **Invariant:** what has an object's name was flushed before it got the name, and a call that
//! returned `Ok` does not depend on anything that a crash could undo.

mod problem;
mod recent;

mod folders;

mod objects;

mod put;
mod walk;

use std::fmt;
use std::fs::{DirBuilder, File};
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, Mode, OFlags};

use crate::body::Body;
use crate::contract::{Abilities, Listed, Store, folder_of_prefix};
use crate::error::{Error, ErrorKind, Operation, Result, Subject};
use crate::name::ObjectName;
use crate::temporary;
use folders::Folders;
use objects::Objects;
use problem::Problem;
use put::Puts;

/// How many calls at once serve a folder best: enough that flushes of several objects share one
/// commit of the file system's journal, few enough for a single disk.
const CONNECTIONS: usize = 4;

/// What an empty disk's root holds, by the file system that is on it.
const ON_EMPTY_DISKS: [&str; 3] = ["lost+found", "System Volume Information", "$RECYCLE.BIN"];

/// Objects as files below a folder.
///
/// The folders are made with mode 0700, the files with 0400. Open handles of recently used folders
/// and objects are kept, 192 at most; an object that another process deletes is noticed, but its
/// space is only free when its handle was dropped for a newer one or the store is closed. A folder
/// whose last object was deleted stays.
///
/// On a network file system, what another machine put or deleted is seen as soon as that file system
/// shows it: NFS checks with its server whenever a folder or file is opened.
pub struct LocalStore {
    path: PathBuf,
    folders: Folders,
    objects: Objects,
    puts: Puts,
    warnings: Vec<String>,
}

impl LocalStore {
    /// Makes the folder `path`, with those above it, and opens it as an empty store.
    ///
    /// A folder that exists already must be empty, but for hidden entries and what lies in the root
    /// of an empty disk (`lost+found`); otherwise the error is
    /// [`AlreadyExists`](ErrorKind::AlreadyExists).
    pub fn create(path: &Path) -> Result<Self> {
        let path = absolute(path, Operation::Create)?;
        make_folder(&path)
            .map_err(|problem| problem.into_error(Operation::Create, path.as_path()))?;
        let store = Self::open_absolute(path, Operation::Create)?;
        let first = store
            .first_entry()
            .map_err(|problem| problem.into_error(Operation::Create, store.path.as_path()))?;
        match first {
            None => Ok(store),
            Some(entry) => Err(Error::new(
                ErrorKind::AlreadyExists,
                Operation::Create,
                store.path.as_path(),
            )
            .with_detail(format!("the folder is not empty, it holds {entry:?}"))),
        }
    }

    /// Opens the folder `path` as a store; it must exist.
    ///
    /// The path itself may be or contain a symbolic link; nothing below it may.
    pub fn open(path: &Path) -> Result<Self> {
        Self::open_absolute(absolute(path, Operation::Open)?, Operation::Open)
    }

    /// The store's folder, as an absolute path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn open_absolute(path: PathBuf, operation: Operation) -> Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = rustix::fs::open(&path, flags, Mode::empty()).map_err(Problem::from);
        let looked_at = opened.and_then(|root| {
            let root = File::from(root);
            let metadata = root.metadata()?;
            Ok((OwnedFd::from(root), metadata))
        });
        let (root, metadata) =
            looked_at.map_err(|problem| problem.into_error(operation, path.as_path()))?;

        let mode = metadata.mode() & 0o7777;
        let mut warnings = Vec::new();
        if mode & 0o077 != 0 {
            warnings.push(format!(
                "The folder {} is open to other users of this machine (mode {mode:04o}); \
                 close it with: chmod 700 {}",
                path.display(),
                path.display()
            ));
        }
        Ok(Self {
            puts: Puts::new(&root, metadata.dev()),
            folders: Folders::new(root),
            objects: Objects::new(),
            path,
            warnings,
        })
    }

    /// The first entry of the store's folder that somebody put there.
    fn first_entry(&self) -> std::result::Result<Option<String>, Problem> {
        for entry in Dir::read_from(self.folders.root())? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy();
            if !name.starts_with('.') && !ON_EMPTY_DISKS.contains(&&*name) {
                return Ok(Some(name.into_owned()));
            }
        }
        Ok(None)
    }
}

impl Store for LocalStore {
    fn put_new(&self, name: &ObjectName, body: Body<'_>) -> Result<()> {
        self.puts
            .put_new(&self.folders, name, body)
            .map_err(|problem| problem.into_error(Operation::Put, name))
    }

    fn get(&self, name: &ObjectName, max_bytes: u64) -> Result<Vec<u8>> {
        let failed = |problem: Problem| problem.into_error(Operation::Get, name);
        let (file, len) = objects::open(&self.folders, name).map_err(failed)?;
        if len > max_bytes {
            return Err(
                Error::new(ErrorKind::TooLarge, Operation::Get, name).with_detail(format!(
                    "it has {len} bytes, at most {max_bytes} are allowed"
                )),
            );
        }
        let no_memory = || {
            Error::new(ErrorKind::TooLarge, Operation::Get, name)
                .with_detail(format!("there is no memory for its {len} bytes"))
        };
        let room = usize::try_from(len).map_err(|_| no_memory())?;
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(room).map_err(|_| no_memory())?;
        (&file)
            .take(len)
            .read_to_end(&mut bytes)
            .map_err(|error| failed(error.into()))?;
        if bytes.len() < room {
            return Err(Error::new(ErrorKind::Truncated, Operation::Get, name));
        }
        Ok(bytes)
    }

    fn get_range(&self, name: &ObjectName, offset: u64, into: &mut [u8]) -> Result<()> {
        let failed = |problem: Problem| problem.into_error(Operation::GetRange, name);
        let (file, len) = self.objects.recent(&self.folders, name).map_err(failed)?;
        if offset
            .checked_add(into.len() as u64)
            .is_none_or(|end| end > len)
        {
            return Err(
                Error::new(ErrorKind::Truncated, Operation::GetRange, name).with_detail(format!(
                    "it has {len} bytes, {} from {offset} on were wanted",
                    into.len()
                )),
            );
        }
        file.read_exact_at(into, offset).map_err(|error| {
            // A handle that failed once (a server forgot it, say) is not used again.
            self.objects.forget(name);
            failed(error.into())
        })
    }

    fn list(&self, prefix: &str, found: &mut dyn FnMut(Listed)) -> Result<()> {
        let folder = folder_of_prefix(prefix)?;
        walk::list(self.folders.root(), folder, found)
            .map_err(|problem| problem.into_error(Operation::List, Subject::prefix(prefix)))
    }

    fn delete(&self, name: &ObjectName) -> Result<()> {
        let delete = || -> std::result::Result<(), Problem> {
            let (folder_path, last) = name.split();
            let folder = self.folders.find(folder_path)?;
            objects::expect_object(&folder, last)?;
            rustix::fs::unlinkat(&folder, last, AtFlags::empty())?;
            self.objects.forget(name);
            folders::flush(&folder)
        };
        delete().map_err(|problem| problem.into_error(Operation::Delete, name))
    }

    fn connections(&self) -> usize {
        CONNECTIONS
    }

    fn abilities(&self) -> Abilities {
        Abilities {
            put_if_absent: true,
            spool_folder: Some(self.path.join(temporary::FOLDER)),
            warnings: self.warnings.clone(),
        }
    }
}

impl fmt::Debug for LocalStore {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("LocalStore")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

fn absolute(path: &Path, operation: Operation) -> Result<PathBuf> {
    std::path::absolute(path).map_err(|error| Error::from_io(error, operation, path))
}

/// Makes a folder and those above it, and flushes the folder that each new one lies in.
fn make_folder(path: &Path) -> std::result::Result<(), Problem> {
    if path.is_dir() {
        return Ok(());
    }
    let Some(above) = path.parent() else {
        return Ok(());
    };
    make_folder(above)?;
    match DirBuilder::new().mode(0o700).create(path) {
        // Another process may have made it just now. Anything else there is found when it is opened.
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
        made => made?,
    }
    let above = File::open(above)?;
    folders::flush(&OwnedFd::from(above))
}

#[cfg(test)]
mod tests;
