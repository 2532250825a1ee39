//! What an entry carries beside its content and metadata: extended attributes and inode flags.
//!
//! Extended attributes include the POSIX ACLs (`system.posix_acl_access`, `system.posix_acl_default`) and file
//! capabilities (`security.capability`). Values are bytes and are kept as the kernel gives them. Invariant: what
//! cannot be read is handed to the caller as an error, never left out silently; an attribute that disappears between
//! being listed and being read was removed by somebody and is no error.

use crate::error::Error;
use rustix::fd::{AsRawFd, BorrowedFd};
use rustix::fs::{IFlags, XattrFlags, ioctl_getflags, ioctl_setflags};
use rustix::fs::{fgetxattr, flistxattr, fremovexattr, fsetxattr};
use rustix::fs::{getxattr, listxattr, removexattr, setxattr};
use rustix::io::Errno;

/// The access list of an entry.
pub(crate) const ACL_ACCESS: &[u8] = b"system.posix_acl_access";
/// The list that new entries of a folder inherit.
pub(crate) const ACL_DEFAULT: &[u8] = b"system.posix_acl_default";
/// What a program may do beyond its user; the kernel drops it when the owner changes.
pub(crate) const CAPABILITY: &[u8] = b"security.capability";

/// `FS_CASEFOLD_FL`: names in the folder are equal without regard to case.
const CASEFOLD: u32 = 0x4000_0000;

/// Inode flags that people set and that mean something on another file system too. The rest (extents, index, inline
/// data, encryption) says how one file system happens to keep the object.
const FLAGS_KEPT: u32 = IFlags::APPEND
    .union(IFlags::COMPRESSED)
    .union(IFlags::DIRSYNC)
    .union(IFlags::IMMUTABLE)
    .union(IFlags::NOATIME)
    .union(IFlags::NOCOW)
    .union(IFlags::NODUMP)
    .union(IFlags::SYNC)
    .union(IFlags::TOPDIR)
    .bits()
    | CASEFOLD;

/// Flags after which an object takes nothing more, not even another name.
pub(crate) const FLAGS_SEALING: u32 = IFlags::APPEND.union(IFlags::IMMUTABLE).bits();

/// Flags that have an effect only if they are set while the file or folder is still empty.
pub(crate) const FLAGS_EARLY: u32 = IFlags::NOCOW.union(IFlags::COMPRESSED).bits() | CASEFOLD;

/// What is kept of the extended attributes of one entry, in bytes; what goes beyond is told as unread. Five hundred of the
/// largest that Linux allows fit; only XFS holds more.
const EXTENDED_MAX_BYTES: usize = 32 << 20;

/// The extended attributes and inode flags of one entry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    /// Extended attributes, sorted by name, each name once.
    pub extended: Vec<ExtendedAttribute>,
    /// Inode flags as in `FS_IOC_GETFLAGS` (immutable 0x10, append 0x20, nodump 0x40, …), only those worth keeping.
    pub flags: u32,
}

/// One extended attribute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExtendedAttribute {
    /// The full name with its namespace, as in `user.comment`.
    pub name: Box<[u8]>,
    /// The value, possibly empty.
    pub value: Box<[u8]>,
}

impl Attributes {
    /// Whether there is nothing to keep.
    pub fn is_empty(&self) -> bool {
        self.extended.is_empty() && self.flags == 0
    }

    /// The value of the extended attribute `name`.
    pub fn get(&self, name: &[u8]) -> Option<&[u8]> {
        self.extended
            .iter()
            .find(|one| &*one.name == name)
            .map(|one| &*one.value)
    }
}

/// What reading attributes gave: those that could be read, and one error for each that could not.
#[derive(Debug, Default)]
pub struct AttributesRead {
    /// What could be read.
    pub attributes: Attributes,
    /// What is missing in `attributes`.
    pub unread: Vec<Error>,
}

/// An object whose attributes can be reached.
#[derive(Clone, Copy)]
pub(crate) enum Carrier<'a> {
    /// Open for reading or writing.
    Open(BorrowedFd<'a>),
    /// Known by [`path_of`] a descriptor that only holds the object: a link, a pipe, a device.
    Held(&'a str),
}

/// A path to the object that `fd` holds, short however deep it lies. Where the object is a symbolic link, calls that
/// follow links act on that link itself: the kernel goes no further than the object.
pub(crate) fn path_of(fd: BorrowedFd<'_>) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

impl Carrier<'_> {
    fn list(self, buffer: &mut [u8]) -> Result<usize, Errno> {
        match self {
            Self::Open(fd) => flistxattr(fd, buffer),
            Self::Held(path) => listxattr(path, buffer),
        }
    }

    fn get(self, name: &[u8], buffer: &mut [u8]) -> Result<usize, Errno> {
        match self {
            Self::Open(fd) => fgetxattr(fd, name, buffer),
            Self::Held(path) => getxattr(path, name, buffer),
        }
    }

    /// Sets one extended attribute, whether or not it exists.
    pub(crate) fn set(self, name: &[u8], value: &[u8]) -> Result<(), Errno> {
        match self {
            Self::Open(fd) => fsetxattr(fd, name, value, XattrFlags::empty()),
            Self::Held(path) => setxattr(path, name, value, XattrFlags::empty()),
        }
    }

    /// Removes one extended attribute; one that is not there, or cannot be on this file system, is no error.
    pub(crate) fn remove(self, name: &[u8]) -> Result<(), Errno> {
        let removed = match self {
            Self::Open(fd) => fremovexattr(fd, name),
            Self::Held(path) => removexattr(path, name),
        };
        match removed {
            Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(()),
            other => other,
        }
    }

    /// The names of all extended attributes, sorted.
    pub(crate) fn names(self) -> Result<Vec<Box<[u8]>>, Errno> {
        let list = match read_growing(|buffer| self.list(buffer)) {
            Ok(list) => list,
            // The file system keeps none.
            Err(Errno::OPNOTSUPP) => return Ok(Vec::new()),
            Err(errno) => return Err(errno),
        };
        let names = list
            .split(|byte| *byte == 0)
            .filter(|name| !name.is_empty());
        let mut names: Vec<Box<[u8]>> = names.map(Box::from).collect();
        names.sort_unstable();
        Ok(names)
    }

    /// The value of one extended attribute; `None` if there is none.
    pub(crate) fn value(self, name: &[u8]) -> Result<Option<Box<[u8]>>, Errno> {
        match read_growing(|buffer| self.get(name, buffer)) {
            Ok(value) => Ok(Some(value.into_boxed_slice())),
            Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(None),
            Err(errno) => Err(errno),
        }
    }

    /// Reads all extended attributes; `object` is what errors are told about.
    pub(crate) fn read_extended(self, object: &[u8]) -> AttributesRead {
        let mut read = AttributesRead::default();
        let names = match self.names() {
            Ok(names) => names,
            Err(errno) => {
                read.unread.push(Error::from_errno(
                    "list the extended attributes of",
                    object,
                    errno,
                ));
                return read;
            }
        };
        let mut bytes = 0;
        for name in names {
            let value = self.value(&name).and_then(|value| {
                bytes += name.len() + value.as_ref().map_or(0, |value| value.len());
                if bytes > EXTENDED_MAX_BYTES {
                    Err(Errno::TOOBIG)
                } else {
                    Ok(value)
                }
            });
            match value {
                Ok(Some(value)) => {
                    read.attributes
                        .extended
                        .push(ExtendedAttribute { name, value });
                }
                Ok(None) => {}
                Err(errno) => {
                    let object = [object, b" (", &*name, b")"].concat();
                    read.unread.push(Error::from_errno(
                        "read an extended attribute of",
                        &object,
                        errno,
                    ));
                }
            }
        }
        read
    }
}

/// Reads the extended attributes and inode flags of an open file or folder.
pub(crate) fn read_open(fd: BorrowedFd<'_>, object: &[u8]) -> AttributesRead {
    let mut read = Carrier::Open(fd).read_extended(object);
    match flags(fd) {
        Ok(flags) => read.attributes.flags = flags,
        Err(errno) => {
            read.unread
                .push(Error::from_errno("read the inode flags of", object, errno));
        }
    }
    read
}

/// The inode flags worth keeping; 0 where the file system has none.
pub(crate) fn flags(fd: BorrowedFd<'_>) -> Result<u32, Errno> {
    match ioctl_getflags(fd) {
        Ok(flags) => Ok(flags.bits() & FLAGS_KEPT),
        Err(Errno::NOTTY | Errno::OPNOTSUPP | Errno::INVAL | Errno::NOSYS) => Ok(0),
        Err(errno) => Err(errno),
    }
}

/// Sets the inode flags of `mask` as they are in `wanted` and leaves the others.
pub(crate) fn set_flags(fd: BorrowedFd<'_>, wanted: u32, mask: u32) -> Result<(), Errno> {
    let mask = mask & FLAGS_KEPT;
    let old = ioctl_getflags(fd)?.bits();
    let new = (old & !mask) | (wanted & mask);
    if new == old {
        return Ok(());
    }
    ioctl_setflags(fd, IFlags::from_bits_retain(new))
}

/// Calls `read` with a small buffer, and with larger ones while it says that the answer does not fit.
fn read_growing(read: impl Fn(&mut [u8]) -> Result<usize, Errno>) -> Result<Vec<u8>, Errno> {
    /// More than the kernel's own limit of 65,536 bytes for lists and values.
    const ANSWER_MAX_BYTES: usize = 1 << 20;
    let mut small = [0; 256];
    match read(&mut small) {
        Err(Errno::RANGE) => {}
        done => return done.map(|length| small[..length].to_vec()),
    }
    let mut large = vec![0; 8192];
    loop {
        match read(&mut large) {
            Err(Errno::RANGE) if large.len() < ANSWER_MAX_BYTES => {
                large.resize(large.len() * 2, 0);
            }
            Ok(length) => {
                large.truncate(length);
                return Ok(large);
            }
            Err(errno) => return Err(errno),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fd::AsFd;
    use rustix::fs::{Mode, OFlags, openat};
    use std::fs::File;
    use std::os::unix::fs::symlink;

    #[test]
    fn values_of_any_size_are_read_and_sorted_by_name() {
        let scratch = tempfile::tempdir().unwrap();
        let file = File::create(scratch.path().join("f")).unwrap();
        let carrier = Carrier::Open(file.as_fd());
        let large = vec![7; 3000];
        carrier.set(b"user.z", &large).unwrap();
        carrier.set(b"user.empty", b"").unwrap();
        carrier.set(b"user.a", b"\0\xff").unwrap();
        let read = read_open(file.as_fd(), b"f");
        assert!(read.unread.is_empty());
        let names: Vec<_> = read
            .attributes
            .extended
            .iter()
            .map(|one| &*one.name)
            .collect();
        assert_eq!(names, [&b"user.a"[..], b"user.empty", b"user.z"]);
        assert_eq!(read.attributes.get(b"user.z"), Some(&*large));
        assert_eq!(read.attributes.get(b"user.empty"), Some(&b""[..]));
        carrier.remove(b"user.a").unwrap();
        carrier.remove(b"user.a").unwrap();
        assert_eq!(carrier.value(b"user.a"), Ok(None));
    }

    #[test]
    fn a_path_reaches_the_link_itself_and_not_its_target() {
        let scratch = tempfile::tempdir().unwrap();
        let target = File::create(scratch.path().join("target")).unwrap();
        Carrier::Open(target.as_fd())
            .set(b"user.of", b"target")
            .unwrap();
        symlink("target", scratch.path().join("link")).unwrap();
        let folder = File::open(scratch.path()).unwrap();
        for (name, value) in [(c"link", None), (c"target", Some(&b"target"[..]))] {
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let held = openat(&folder, name, flags, Mode::empty()).unwrap();
            let read = Carrier::Held(&path_of(held.as_fd())).read_extended(name.to_bytes());
            assert!(read.unread.is_empty());
            assert_eq!(read.attributes.get(b"user.of"), value);
        }
    }
}
