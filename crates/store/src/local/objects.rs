//! Opening objects for reading.
//!
//! Handles of recently read objects are kept: a restore reads thousands of small ranges out of few
//! objects. That is safe because objects never change, and a handle whose object was deleted is
//! recognised by its missing name.
//!
//! **Invariant:** after a delete has returned, no read is served from a kept handle.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::sync::{Arc, Mutex};

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::folders::{Folders, in_the_way, lock};
use super::problem::Problem;
use super::recent::Recent;
use crate::name::ObjectName;

/// How many objects are kept open.
const HANDLES: usize = 64;

/// The objects that were read last.
pub(super) struct Objects {
    handles: Mutex<Recent<ObjectName, Arc<File>>>,
}

impl Objects {
    pub(super) fn new() -> Self {
        Self {
            handles: Mutex::new(Recent::new(HANDLES)),
        }
    }

    /// A handle to read an object with, and the object's length.
    pub(super) fn recent(
        &self,
        folders: &Folders,
        name: &ObjectName,
    ) -> Result<(Arc<File>, u64), Problem> {
        let kept = lock(&self.handles).get(name);
        if let Some(file) = kept {
            match file.metadata() {
                Ok(metadata) if metadata.nlink() > 0 => return Ok((file, metadata.len())),
                // Without a name the object was deleted, by whichever process; and a handle that a
                // server forgot is of no more use. What there is now, the folder tells.
                _ => self.forget(name),
            }
        }
        let (file, len) = open(folders, name)?;
        let file = Arc::new(file);
        lock(&self.handles).insert(name.clone(), Arc::clone(&file));
        Ok((file, len))
    }

    /// Closes a kept handle.
    pub(super) fn forget(&self, name: &ObjectName) {
        lock(&self.handles).remove(name);
    }
}

/// Opens an object and tells its length.
pub(super) fn open(folders: &Folders, name: &ObjectName) -> Result<(File, u64), Problem> {
    let (folder_path, last) = name.split();
    let folder = folders.find(folder_path)?;
    // O_NONBLOCK: a FIFO in the object's place must not make the open wait for a writer.
    let flags =
        OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = match rustix::fs::openat(&folder, last, flags, Mode::empty()) {
        Err(error @ (Errno::LOOP | Errno::NXIO)) => {
            // A link or a socket; said in words.
            expect_object(&folder, last)?;
            return Err(error.into());
        }
        opened => File::from(opened?),
    };
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        expect_object(&folder, last)?;
        // It was replaced by an object between the two looks.
        return Err(Errno::AGAIN.into());
    }
    Ok((file, metadata.len()))
}

/// Makes sure that a name is that of a regular file.
pub(super) fn expect_object(folder: &OwnedFd, last: &str) -> Result<(), Problem> {
    let stat = rustix::fs::statat(folder, last, AtFlags::SYMLINK_NOFOLLOW)?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Ok(()),
        other => Err(Problem::InTheWay(in_the_way(other))),
    }
}
