//! What the kernel knows about an entry besides its content and its extended attributes.
//!
//! Invariant: a [`Metadata`] that this crate hands out was taken by one `statx` from one object, relative to an open
//! folder, without following a symbolic link.

use crate::entry::{Kind, Time};
use rustix::fd::BorrowedFd;
use rustix::fs::{AtFlags, FileType, Statx, StatxAttributes, StatxFlags, makedev, statx};
use rustix::io::Errno;

/// What `statx` says about one entry.
///
/// `Default` is an empty file of mode 0 at the epoch, so that a restore fills in what it knows: `kind`, `mode`,
/// `uid`, `gid`, `size`, `mtime`, `nlink` and `rdev` are all that creating an entry looks at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Metadata {
    /// What the entry is.
    pub kind: Kind,
    /// The twelve permission bits, 0 to 0o7777.
    pub mode: u16,
    /// The owner's number.
    pub uid: u32,
    /// The group's number.
    pub gid: u32,
    /// Content in bytes; for a symbolic link the length of its target; for a folder of no meaning elsewhere.
    pub size: u64,
    /// When the content last changed.
    pub mtime: Time,
    /// When anything about the entry last changed; set by the kernel alone.
    pub ctime: Time,
    /// The object's number on its file system.
    pub inode: u64,
    /// The file system, in the kernel's own packing of major and minor number.
    pub dev: u64,
    /// How many names the object has.
    pub nlink: u32,
    /// For devices which one it is, packed like `dev`; else 0.
    pub rdev: u64,
    /// Bytes taken on the file system; less than `size` where a file has holes.
    pub allocated: u64,
    /// The folder (or file) is where another file system, or another part of this one, is mounted.
    pub mount_root: bool,
}

impl Metadata {
    /// Whether both were taken from the same object, whatever happened to it in between.
    pub fn same_object(&self, other: &Self) -> bool {
        self.identity() == other.identity() && self.kind == other.kind
    }

    /// Whether neither content nor anything else of the object changed between the two looks.
    ///
    /// Every change sets the time of change, which nobody but the kernel can set; the rest is for file systems whose
    /// clock is coarse.
    pub fn is_unmodified_since(&self, earlier: &Self) -> bool {
        self.same_object(earlier)
            && self.size == earlier.size
            && self.mtime == earlier.mtime
            && self.ctime == earlier.ctime
    }

    /// Which object this was taken from; equal for all names of a hard-linked file.
    pub fn identity(&self) -> Identity {
        Identity {
            dev: self.dev,
            inode: self.inode,
        }
    }

    /// `None` if the kind is one that Linux does not know.
    pub(crate) fn from_statx(stat: &Statx) -> Option<Self> {
        let kind = Kind::from_file_type(FileType::from_raw_mode(stat.stx_mode.into()))?;
        Some(Self {
            kind,
            mode: stat.stx_mode & 0o7777,
            uid: stat.stx_uid,
            gid: stat.stx_gid,
            size: stat.stx_size,
            mtime: Time {
                seconds: stat.stx_mtime.tv_sec,
                nanos: stat.stx_mtime.tv_nsec,
            },
            ctime: Time {
                seconds: stat.stx_ctime.tv_sec,
                nanos: stat.stx_ctime.tv_nsec,
            },
            inode: stat.stx_ino,
            dev: makedev(stat.stx_dev_major, stat.stx_dev_minor),
            nlink: stat.stx_nlink,
            rdev: match kind {
                Kind::BlockDevice | Kind::CharDevice => {
                    makedev(stat.stx_rdev_major, stat.stx_rdev_minor)
                }
                _ => 0,
            },
            // The unit of `stx_blocks` is 512 bytes on every file system.
            allocated: stat.stx_blocks.saturating_mul(512),
            mount_root: stat.stx_attributes.contains(StatxAttributes::MOUNT_ROOT),
        })
    }
}

/// Which object on this machine: the file system and the number there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Identity {
    /// The file system.
    pub dev: u64,
    /// The object's number on it.
    pub inode: u64,
}

/// Takes the metadata of `name` in `folder`, never following a symbolic link and never mounting anything.
pub(crate) fn stat_name(folder: BorrowedFd<'_>, name: &[u8]) -> Result<Metadata, Errno> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
    let stat = statx(folder, name, flags, StatxFlags::BASIC_STATS)?;
    Metadata::from_statx(&stat).ok_or(Errno::OPNOTSUPP)
}

/// Takes the metadata of the object that is open as `fd`.
pub(crate) fn stat_open(fd: BorrowedFd<'_>) -> Result<Metadata, Errno> {
    let stat = statx(fd, c"", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS)?;
    Metadata::from_statx(&stat).ok_or(Errno::OPNOTSUPP)
}
