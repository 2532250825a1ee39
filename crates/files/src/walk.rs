//! A folder as it is read: its entries, their metadata, what links point to.
//!
//! Everything is asked relative to the open folder, one component at a time and without following links, so a tree
//! may be deeper than any path can be long and nobody can lead a walk out of it. Invariant: what goes wrong with one
//! entry concerns that entry alone.

use crate::attributes::{self, AttributesRead, Carrier, path_of};
use crate::beneath::{check_name, hold, open_path_with};
use crate::entry::Kind;
use crate::error::{Error, ErrorKind};
use crate::listing::Listing;
use crate::metadata::{Metadata, stat_name, stat_open};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{CWD, Mode, OFlags, SeekFrom, openat, readlinkat, seek};
use rustix::io::Errno;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// What marks a folder as a cache that can be rebuilt (<https://bford.info/cachedir/>).
const CACHE_TAG_NAME: &[u8] = b"CACHEDIR.TAG";
const CACHE_TAG: &[u8; 43] = b"Signature: 8a477f597d28d172789f06886806bc55";

/// What marks a folder that belongs to a program, which alone may change what lies in it: a file and its first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The file's name.
    pub name: &'static [u8],
    /// What it begins with.
    pub begins: &'static [u8],
    /// Why it is left alone, to complete "because …".
    pub reason: &'static str,
}

/// An open folder.
#[derive(Debug)]
pub struct Folder {
    fd: OwnedFd,
    /// Whether reading may leave the time of last access alone; only the owner and root may ask for it.
    no_atime: bool,
    /// The descriptor's place is no longer at the first entry.
    listed: bool,
}

impl Folder {
    /// Opens the folder at `path`. Links in this path are followed: it is what the user named.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let object = path.as_os_str().as_bytes();
        let fd = openat(CWD, path, flags, Mode::empty())
            .map_err(|errno| Error::from_errno("open the folder", object, errno))?;
        Ok(Self {
            fd,
            no_atime: true,
            listed: false,
        })
    }

    /// Opens the folder `name` in this one; [`ErrorKind::Changed`] if it is a link or no folder any more.
    pub fn open_child(&self, name: &[u8]) -> Result<Self, Error> {
        check_name(name)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let open = |extra| openat(&self.fd, name, flags | extra, Mode::empty());
        let (fd, no_atime) = quietly(self.no_atime, open)
            .map_err(|errno| Error::from_errno("open the folder", name, errno))?;
        Ok(Self {
            fd,
            no_atime,
            listed: false,
        })
    }

    /// Opens the folder at `path`, names separated by `/`, beneath this one; an empty path is this folder anew.
    ///
    /// No component may be a link. The path may be longer than the kernel's limit, and nothing between stays open,
    /// so a walk can put folders aside by path alone.
    pub fn open_beneath(&self, path: &[u8]) -> Result<Self, Error> {
        if !path.is_empty() {
            path.split(|byte| *byte == b'/')
                .try_for_each(check_name)
                .map_err(|error| error.about(path))?;
        }
        let open = |extra| open_path_with(self.fd.as_fd(), path, extra);
        let (fd, no_atime) = quietly(self.no_atime, open)
            .map_err(|errno| Error::from_errno("open the folder", path, errno))?;
        Ok(Self {
            fd,
            no_atime,
            listed: false,
        })
    }

    /// Reads all names into `listing`, replacing what it held.
    ///
    /// When the folder cannot be read to its end, `listing` holds the names up to there.
    pub fn list(&mut self, listing: &mut Listing) -> Result<(), Error> {
        if self.listed {
            seek(&self.fd, SeekFrom::Start(0))
                .map_err(|errno| Error::from_errno("list", b".", errno))?;
        }
        self.listed = true;
        listing.read(self.fd.as_fd())
    }

    /// The metadata of the entry `name`, of a link itself.
    pub fn metadata(&self, name: &[u8]) -> Result<Metadata, Error> {
        check_name(name)?;
        stat_name(self.fd.as_fd(), name)
            .map_err(|errno| Error::from_errno("read the metadata of", name, errno))
    }

    /// The metadata of this folder.
    pub fn own_metadata(&self) -> Result<Metadata, Error> {
        stat_open(self.fd.as_fd())
            .map_err(|errno| Error::from_errno("read the metadata of", b".", errno))
    }

    /// The extended attributes and inode flags of this folder.
    pub fn own_attributes(&self) -> AttributesRead {
        attributes::read_open(self.fd.as_fd(), b".")
    }

    /// The extended attributes of the entry `name` without opening it: for links, pipes, sockets and devices.
    ///
    /// Inode flags need an open file or folder; see [`OpenFile::attributes`](crate::OpenFile::attributes) and
    /// [`own_attributes`](Self::own_attributes).
    pub fn attributes(&self, name: &[u8]) -> Result<AttributesRead, Error> {
        check_name(name)?;
        let held = hold(self.fd.as_fd(), name)
            .map_err(|errno| Error::from_errno("read the attributes of", name, errno))?;
        Ok(Carrier::Held(&path_of(held.as_fd())).read_extended(name))
    }

    /// Where the symbolic link `name` points, as it was written; [`ErrorKind::Changed`] if it is no link any more.
    pub fn read_link(&self, name: &[u8]) -> Result<Vec<u8>, Error> {
        check_name(name)?;
        match readlinkat(&self.fd, name, Vec::new()) {
            Ok(target) => Ok(target.into_bytes()),
            Err(Errno::INVAL) => Err(Error::because(
                ErrorKind::Changed,
                "read the link",
                name,
                "it is no symbolic link any more",
            )),
            Err(errno) => Err(Error::from_errno("read the link", name, errno)),
        }
    }

    /// Whether the folder says of itself that it is a cache (`CACHEDIR.TAG` with the right first bytes).
    pub fn is_cache(&self, listing: &Listing) -> bool {
        if !listing.may_hold(CACHE_TAG_NAME) {
            return false;
        }
        let mut start = [0; CACHE_TAG.len()];
        read_start(self.fd.as_fd(), CACHE_TAG_NAME, &mut start) == Some(CACHE_TAG.len())
            && start == *CACHE_TAG
    }

    /// Whether the folder bears this mark.
    pub fn bears(&self, mark: &Mark) -> bool {
        bears(self.fd.as_fd(), mark)
    }

    /// A folder that is open already.
    pub(crate) fn from_fd(fd: OwnedFd) -> Self {
        Self {
            fd,
            no_atime: true,
            listed: false,
        }
    }

    pub(crate) fn into_fd(self) -> OwnedFd {
        self.fd
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    pub(crate) fn no_atime(&self) -> bool {
        self.no_atime
    }
}

/// Whether an open folder bears the mark.
pub(crate) fn bears(folder: BorrowedFd<'_>, mark: &Mark) -> bool {
    let mut start = vec![0; mark.begins.len()];
    read_start(folder, mark.name, &mut start) == Some(start.len()) && start == mark.begins
}

/// Opens by `open` without changing the time of last access if that is permitted, and says whether it was.
pub(crate) fn quietly<T>(
    no_atime: bool,
    open: impl Fn(OFlags) -> Result<T, Errno>,
) -> Result<(T, bool), Errno> {
    if no_atime {
        match open(OFlags::NOATIME) {
            // Either the open itself is denied, or only the wish; the second try tells.
            Err(Errno::PERM) => {}
            done => return done.map(|opened| (opened, true)),
        }
    }
    open(OFlags::empty()).map(|opened| (opened, false))
}

/// Reads the first bytes of the regular file `name`; `None` if it is none or cannot be read.
pub(crate) fn read_start(folder: BorrowedFd<'_>, name: &[u8], buffer: &mut [u8]) -> Option<usize> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let fd = openat(folder, name, flags, Mode::empty()).ok()?;
    if stat_open(fd.as_fd()).ok()?.kind != Kind::File {
        return None;
    }
    let mut filled = 0;
    while filled < buffer.len() {
        match rustix::io::read(&fd, &mut buffer[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(Errno::INTR) => {}
            Err(_) => return None,
        }
    }
    Some(filled)
}

#[cfg(test)]
mod tests;
