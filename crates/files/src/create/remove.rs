//! Removing what stands in the way, or what is not in the backup.
//!
//! Invariants: everything is unlinked through the handle of the folder in which it lies, no link is followed, and
//! nothing on another mount is touched: a folder where something is mounted stays, and so do the folders above it.
//! Memory and descriptors do not grow with depth beyond one record for each folder.

use crate::beneath::{open_above, open_child, open_path};
use crate::entry::Kind;
use crate::error::{Error, ErrorKind};
use crate::listing::Listing;
use crate::metadata::{Identity, stat_name, stat_open};
use crate::walk::{Folder, Mark};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, unlinkat};
use rustix::io::Errno;

/// Where removing ends.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// The file system on which the folder lies from which something is removed.
    pub(crate) dev: u64,
    /// What marks folders that stay with all they hold.
    pub(crate) keep_out: Option<Mark>,
}

/// A folder to be removed, known by its place among all of them; the first is the one that was asked for.
struct Doomed {
    parent: usize,
    name: Box<[u8]>,
    /// `None` if it could not be opened; then nothing below it is known either.
    identity: Option<Identity>,
}

/// The folder that is open at the moment, and its place among those to be removed.
type Cursor = Option<(usize, OwnedFd)>;

/// Removes `name` from `folder`, whatever it is.
pub(crate) fn remove_entry(
    folder: BorrowedFd<'_>,
    name: &[u8],
    bounds: Bounds,
) -> Result<(), Error> {
    let fail = |errno| Error::from_errno("delete", name, errno);
    if stat_name(folder, name).map_err(fail)?.kind == Kind::Folder {
        return remove_folder(folder, name, bounds);
    }
    unlinkat(folder, name, AtFlags::empty()).map_err(fail)
}

/// Removes the folder `name` from `folder` with everything in it, or as much as is permitted.
pub(crate) fn remove_folder(
    folder: BorrowedFd<'_>,
    name: &[u8],
    bounds: Bounds,
) -> Result<(), Error> {
    let mut doomed = vec![Doomed {
        parent: 0,
        name: name.into(),
        identity: None,
    }];
    let mut first_error = None;
    let mut listing = Listing::new();
    let mut cursor: Cursor = None;
    let mut next = 0;
    while next < doomed.len() {
        match open_doomed(folder, &doomed, next, cursor.take(), bounds) {
            Ok(mut open) => {
                doomed[next].identity = Some(open.1);
                let error = empty_folder(&mut open.0, &mut listing, |name| {
                    doomed.push(Doomed {
                        parent: next,
                        name: name.into(),
                        identity: None,
                    });
                });
                first_error = first_error.or(error);
                cursor = Some((next, open.0.into_fd()));
            }
            Err(error) => {
                first_error.get_or_insert(error);
            }
        }
        next += 1;
    }
    // Folders were found after those above them, so the way back removes the deepest first.
    for index in (1..doomed.len()).rev() {
        cursor = open_parent(folder, &doomed, doomed[index].parent, cursor);
        if let Some((_, fd)) = &cursor {
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

/// Opens the folder at `index` to be emptied, unless something is mounted there or it is to be left alone.
fn open_doomed(
    top: BorrowedFd<'_>,
    doomed: &[Doomed],
    index: usize,
    cursor: Cursor,
    bounds: Bounds,
) -> Result<(Folder, Identity), Error> {
    let Doomed { parent, name, .. } = &doomed[index];
    let fail = |errno| Error::from_errno("delete", name, errno);
    let fd = match cursor {
        Some((at, fd)) if at == *parent => open_child(fd.as_fd(), name),
        _ => open_path(top, &path(doomed, index)),
    };
    let fd = fd.map_err(fail)?;
    let found = stat_open(fd.as_fd()).map_err(fail)?;
    if found.mount_root || found.dev != bounds.dev {
        let reason = "another file system is mounted there";
        return Err(Error::because(ErrorKind::Exists, "delete", name, reason));
    }
    let folder = Folder::from_fd(fd);
    if let Some(mark) = bounds.keep_out.filter(|mark| folder.bears(mark)) {
        let (kind, reason) = (ErrorKind::KeptOut, mark.reason);
        return Err(Error::because(kind, "delete", name, reason));
    }
    Ok((folder, found.identity()))
}

/// The folder at `index`, by way of the one that was open before if that is it or lies in it.
fn open_parent(top: BorrowedFd<'_>, doomed: &[Doomed], index: usize, cursor: Cursor) -> Cursor {
    if let Some((at, fd)) = cursor {
        if at == index {
            return Some((at, fd));
        }
        if doomed[at].parent == index
            && let Some(identity) = doomed[index].identity
            && let Some(above) = open_above(fd.as_fd(), identity)
        {
            return Some((index, above));
        }
    }
    open_path(top, &path(doomed, index))
        .ok()
        .map(|fd| (index, fd))
}

/// Unlinks everything in the folder but folders, which it hands to `found`; returns the first error.
fn empty_folder(
    folder: &mut Folder,
    listing: &mut Listing,
    mut found: impl FnMut(&[u8]),
) -> Option<Error> {
    let mut first_error = folder.list(listing).err();
    for entry in listing.iter() {
        let name = match entry {
            Ok(entry) => entry.name,
            Err(error) => return first_error.or(Some(error)),
        };
        match unlinkat(folder.fd(), &*name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(Errno::ISDIR) => found(&name),
            Err(errno) => {
                first_error.get_or_insert_with(|| Error::from_errno("delete", &name, errno));
            }
        }
    }
    first_error
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    #[test]
    fn nothing_is_deleted_where_something_is_mounted() {
        // Every Linux has this mount, and should the guard fail, nothing in it can be deleted.
        let root = File::open("/").unwrap();
        let bounds = Bounds {
            dev: stat_open(root.as_fd()).unwrap().dev,
            keep_out: None,
        };
        let error = remove_entry(root.as_fd(), b"proc", bounds).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Exists);
        assert_eq!(error.to_string(), "cannot delete \"proc\"");
    }
}
