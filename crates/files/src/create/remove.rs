//! Removing what stands in the way, or what is not in the backup.
//!
//! Invariants: everything is unlinked through the handle of the folder in which it lies, no link is followed, and
//! nothing on another mount is touched: a folder where something is mounted stays, and so do the folders above it.
//! Memory and descriptors do not grow with depth beyond one record for each folder.

use crate::beneath::open_path;
use crate::entry::Kind;
use crate::error::{Error, ErrorKind};
use crate::metadata::stat_name;
use crate::walk::{Folder, Listing};
use rustix::fd::{BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, unlinkat};
use rustix::io::Errno;

/// A folder to be removed; the first is the one that was asked for.
struct Doomed {
    parent: usize,
    name: Box<[u8]>,
}

/// What emptying a folder left.
struct Emptied {
    /// The folders in it, which are yet to be emptied.
    below: Vec<Box<[u8]>>,
    first_error: Option<Error>,
}

/// Removes `name` from `folder`, whatever it is; `dev` is the file system on which `folder` lies.
pub(crate) fn remove_entry(folder: BorrowedFd<'_>, name: &[u8], dev: u64) -> Result<(), Error> {
    let fail = |errno| Error::from_errno("delete", name, errno);
    if stat_name(folder, name).map_err(fail)?.kind == Kind::Folder {
        return remove_folder(folder, name, dev);
    }
    unlinkat(folder, name, AtFlags::empty()).map_err(fail)
}

/// Removes the folder `name` from `folder` with everything in it, or as much as is permitted.
pub(crate) fn remove_folder(folder: BorrowedFd<'_>, name: &[u8], dev: u64) -> Result<(), Error> {
    let mut doomed = vec![Doomed {
        parent: 0,
        name: name.into(),
    }];
    let mut first_error = None;
    let mut listing = Listing::new();
    let mut next = 0;
    while next < doomed.len() {
        let path = path(&doomed, next);
        let emptied = empty_folder(folder, &path, dev, &mut listing);
        let emptied = emptied.unwrap_or_else(|error| Emptied {
            below: Vec::new(),
            first_error: Some(error),
        });
        doomed.extend(
            emptied
                .below
                .into_iter()
                .map(|name| Doomed { parent: next, name }),
        );
        first_error = first_error.or(emptied.first_error);
        next += 1;
    }
    // Folders were found after those above them, so the way back removes the deepest first.
    let mut parent: Option<(usize, OwnedFd)> = None;
    for index in (1..doomed.len()).rev() {
        let above = doomed[index].parent;
        if parent.as_ref().is_none_or(|(open, _)| *open != above) {
            let path = path(&doomed, above);
            parent = open_path(folder, &path).ok().map(|fd| (above, fd));
        }
        if let Some((_, fd)) = &parent {
            // What could not be emptied stays, and its first error is told.
            let _ = unlinkat(fd, &*doomed[index].name, AtFlags::REMOVEDIR);
        }
    }
    match (first_error, unlinkat(folder, name, AtFlags::REMOVEDIR)) {
        (Some(error), Err(_)) => Err(error),
        (None, Err(errno)) => Err(Error::from_errno("delete", name, errno)),
        (_, Ok(())) => Ok(()),
    }
}

/// Unlinks everything in the folder at `path` but folders.
fn empty_folder(
    top: BorrowedFd<'_>,
    path: &[u8],
    dev: u64,
    listing: &mut Listing,
) -> Result<Emptied, Error> {
    let fail = |errno| Error::from_errno("delete", path, errno);
    let mut folder = Folder::from_fd(open_path(top, path).map_err(fail)?);
    let found = folder.own_metadata().map_err(|error| error.about(path))?;
    if found.mount_root || found.dev != dev {
        let reason = "another file system is mounted there";
        return Err(Error::because(ErrorKind::Exists, "delete", path, reason));
    }
    folder.list(listing).map_err(|error| error.about(path))?;
    let mut below = Vec::new();
    let mut first_error = None;
    for entry in listing.iter() {
        match unlinkat(folder.fd(), entry.name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(Errno::ISDIR) => below.push(entry.name.into()),
            Err(errno) => {
                first_error.get_or_insert_with(|| Error::from_errno("delete", entry.name, errno));
            }
        }
    }
    Ok(Emptied { below, first_error })
}

fn path(doomed: &[Doomed], mut index: usize) -> Vec<u8> {
    let mut names = vec![&*doomed[index].name];
    while index != 0 {
        index = doomed[index].parent;
        names.push(&*doomed[index].name);
    }
    names.reverse();
    names.join(&b'/')
}
