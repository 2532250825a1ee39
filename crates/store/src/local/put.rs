//! Writing a new object.
//!
//! Bytes first, then read-only, then flushed, then named, then the folder flushed. There are three
//! ways to the name, tried in this order: a spool without a name is linked as it is; a file without
//! a name is written in the object's folder and linked; where the file system has no such files, a
//! file in the folder of temporary files is renamed (or linked, and its old name removed).
//!
//! **Invariant:** none of them can replace anything, and a flush that failed is never repeated: the
//! file is given up with it.

use std::fs::{File, Permissions};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{AtFlags, CWD, RenameFlags};
use rustix::io::Errno;

use super::folders::{Folders, flush};
use super::objects::expect_object;
use super::problem::Problem;
use crate::body::Body;
use crate::name::ObjectName;
use crate::temporary;

/// How much of a file body is copied at once, in bytes.
const COPY_BYTES: usize = 1 << 20;

/// What a file system says that cannot give a name to a file without one.
const CANNOT_LINK: [Errno; 6] = [
    Errno::XDEV,
    Errno::NOENT,
    Errno::INVAL,
    Errno::PERM,
    Errno::OPNOTSUPP,
    Errno::MLINK,
];

/// How new objects come into one store.
pub(super) struct Puts {
    /// The file system that the store's folder lies on.
    device: u64,
    /// Whether files without a name are still believed to work here.
    pub(super) unnamed_files: AtomicBool,
    /// Whether this process has looked for temporary files that others left behind.
    swept: AtomicBool,
}

impl Puts {
    /// `root` is the store's own folder, on the file system `device`.
    pub(super) fn new(root: &OwnedFd, device: u64) -> Self {
        Self {
            device,
            unnamed_files: AtomicBool::new(can_name_by_handle(root)),
            swept: AtomicBool::new(false),
        }
    }

    /// Puts a new object; see [`Store::put_new`](crate::Store::put_new).
    pub(super) fn put_new(
        &self,
        folders: &Folders,
        name: &ObjectName,
        body: Body<'_>,
    ) -> Result<(), Problem> {
        let (folder_path, last) = name.split();
        let folder = folders.make(folder_path)?;
        let named = match expect_object(&folder, last) {
            // Found here, it costs no writing; a race is decided when the name is given.
            Ok(()) => Err(Errno::EXIST.into()),
            Err(problem) if problem.is_not_found() => {
                self.write_and_name(folders, &folder, last, body)
            }
            Err(problem) => Err(problem),
        };
        match named {
            Ok(()) => flush(&folder).inspect_err(|_| {
                // The name may be lost in a crash, so it must not be found by a later put either.
                // That this may fail as well is no second error: it is unknown what the disk holds.
                let _ = rustix::fs::unlinkat(&folder, last, AtFlags::empty());
            }),
            Err(problem) if problem.has_errno(&[Errno::EXIST]) => {
                // The object may be another writer's, who has not come to this flush yet; but
                // whoever is told that it exists relies on it.
                flush(&folder)?;
                Err(problem)
            }
            Err(problem) => Err(problem),
        }
    }

    fn write_and_name(
        &self,
        folders: &Folders,
        folder: &OwnedFd,
        last: &str,
        body: Body<'_>,
    ) -> Result<(), Problem> {
        if self.unnamed_files.load(Ordering::Relaxed) {
            if let Body::File { file, len } = body
                && self.is_spool(file, len)?
            {
                seal(file, len)?;
                match link_unnamed(file, folder, last) {
                    Err(problem) if problem.has_errno(&CANNOT_LINK) => {}
                    linked => return linked,
                }
            }
            if let Some(file) = temporary::unnamed(folder)? {
                write(&file, body)?;
                match link_unnamed(&file, folder, last) {
                    Err(problem) if problem.has_errno(&CANNOT_LINK) => {}
                    linked => return linked,
                }
            }
            self.unnamed_files.store(false, Ordering::Relaxed);
        }
        self.write_named(folders, folder, last, body)
    }

    /// Whether a file has no name and lies on the store's file system, so that it can get one there.
    ///
    /// A file that has a name belongs to somebody, who may go on writing to it: it is copied.
    fn is_spool(&self, file: &File, len: u64) -> Result<bool, Problem> {
        let metadata = file.metadata()?;
        Ok(metadata.is_file()
            && metadata.nlink() == 0
            && metadata.dev() == self.device
            && metadata.len() == len)
    }

    fn write_named(
        &self,
        folders: &Folders,
        folder: &OwnedFd,
        last: &str,
        body: Body<'_>,
    ) -> Result<(), Problem> {
        let room = folders.make(temporary::FOLDER)?;
        let (file, name) = temporary::named(&*room)?;
        if !self.swept.swap(true, Ordering::Relaxed) {
            // What is left behind wastes space and does no harm; a put does not fail because of it.
            let _ = temporary::sweep(&*room, &file);
        }
        let named = write(&file, body).and_then(|()| give_name(&file, &room, &name, folder, last));
        if named.is_err() {
            // The sweep takes what this could not.
            let _ = rustix::fs::unlinkat(&*room, &name, AtFlags::empty());
        }
        named
    }
}

/// Whether an open file can be named through `/proc`, which a chroot or container may lack.
fn can_name_by_handle(root: &OwnedFd) -> bool {
    let by_path = rustix::fs::stat(path_of_handle(root));
    let by_handle = rustix::fs::fstat(root);
    matches!((by_path, by_handle), (Ok(one), Ok(other))
        if (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino))
}

/// The path under which an open file of this process can be named.
fn path_of_handle(file: &impl AsRawFd) -> String {
    format!("/proc/self/fd/{}", file.as_raw_fd())
}

fn link_unnamed(file: &File, folder: &OwnedFd, last: &str) -> Result<(), Problem> {
    rustix::fs::linkat(
        CWD,
        path_of_handle(file),
        folder,
        last,
        AtFlags::SYMLINK_FOLLOW,
    )?;
    Ok(())
}

/// Moves a file to a name that must be free.
fn give_name(
    file: &File,
    room: &OwnedFd,
    name: &str,
    folder: &OwnedFd,
    last: &str,
) -> Result<(), Problem> {
    match rustix::fs::renameat_with(room, name, folder, last, RenameFlags::NOREPLACE) {
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
            link_then_unlink(file, room, name, folder, last)
        }
        renamed => Ok(renamed?),
    }
}

/// The way for file systems (NFS above all) that can only rename with replacing.
pub(super) fn link_then_unlink(
    file: &File,
    room: &OwnedFd,
    name: &str,
    folder: &OwnedFd,
    last: &str,
) -> Result<(), Problem> {
    match rustix::fs::linkat(room, name, folder, last, AtFlags::empty()) {
        Ok(()) => {}
        // Over a network the first request may have been carried out and its reply lost; the second
        // then finds the name taken by this very file.
        Err(Errno::EXIST) if is_same_file(file, folder, last)? => {}
        Err(error) => return Err(error.into()),
    }
    // The object is there, with a second name that the sweep removes should this fail.
    let _ = rustix::fs::unlinkat(room, name, AtFlags::empty());
    Ok(())
}

fn is_same_file(file: &File, folder: &OwnedFd, last: &str) -> Result<bool, Problem> {
    let by_handle = rustix::fs::fstat(file)?;
    let by_name = rustix::fs::statat(folder, last, AtFlags::SYMLINK_NOFOLLOW)?;
    Ok((by_handle.st_dev, by_handle.st_ino) == (by_name.st_dev, by_name.st_ino))
}

/// Writes a body into an empty file and makes it ready for its name.
fn write(file: &File, body: Body<'_>) -> Result<(), Problem> {
    match body {
        Body::Bytes(bytes) => file.write_all_at(bytes, 0)?,
        Body::File { len, .. } => {
            let mut buffer =
                vec![0; usize::try_from(len).map_or(COPY_BYTES, |len| len.min(COPY_BYTES))];
            let mut offset = 0;
            while offset < len {
                let rest = usize::try_from(len - offset).unwrap_or(usize::MAX);
                let part_len = rest.min(buffer.len());
                let part = &mut buffer[..part_len];
                body.read_exact_at(part, offset)?;
                file.write_all_at(part, offset)?;
                offset += part.len() as u64;
            }
        }
    }
    seal(file, body.len())
}

/// Checks a file's length, makes it read-only and flushes it.
fn seal(file: &File, len: u64) -> Result<(), Problem> {
    let kept = file.metadata()?.len();
    if kept != len {
        return Err(Problem::WrongLength { kept, wanted: len });
    }
    match file.set_permissions(Permissions::from_mode(0o400)) {
        Ok(()) => {}
        Err(error) => {
            // Read-only guards against accidents only; file systems without modes do without.
            let problem = Problem::from(error);
            if !problem.has_errno(&[Errno::PERM, Errno::OPNOTSUPP, Errno::NOSYS]) {
                return Err(problem);
            }
        }
    }
    rustix::fs::fsync(file).map_err(|error| Problem::Flush(error.into()))
}
