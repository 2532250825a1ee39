//! What stands in a folder: the kind of an entry and the moments in its life.
//!
//! These are the words that every other file of this crate uses. They hold exactly what the kernel says: a kind
//! is one of the seven that Linux knows, a time is never rounded, a name is bytes and never assumed to be text.

use rustix::fs::FileType;
use std::fmt;

/// What an entry of a folder is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A regular file.
    #[default]
    File,
    /// A folder.
    Folder,
    /// A symbolic link.
    Symlink,
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
    /// A block device.
    BlockDevice,
    /// A character device.
    CharDevice,
}

impl Kind {
    /// Every kind there is.
    pub(crate) const ALL: [Self; 7] = [
        Self::File,
        Self::Folder,
        Self::Symlink,
        Self::Fifo,
        Self::Socket,
        Self::BlockDevice,
        Self::CharDevice,
    ];

    /// The kind in the kernel's words; `None` for what Linux does not know.
    pub(crate) fn from_file_type(file_type: FileType) -> Option<Self> {
        Some(match file_type {
            FileType::RegularFile => Self::File,
            FileType::Directory => Self::Folder,
            FileType::Symlink => Self::Symlink,
            FileType::Fifo => Self::Fifo,
            FileType::Socket => Self::Socket,
            FileType::BlockDevice => Self::BlockDevice,
            FileType::CharacterDevice => Self::CharDevice,
            FileType::Unknown => return None,
        })
    }

    /// The kernel's word for this kind.
    pub(crate) fn file_type(self) -> FileType {
        match self {
            Self::File => FileType::RegularFile,
            Self::Folder => FileType::Directory,
            Self::Symlink => FileType::Symlink,
            Self::Fifo => FileType::Fifo,
            Self::Socket => FileType::Socket,
            Self::BlockDevice => FileType::BlockDevice,
            Self::CharDevice => FileType::CharacterDevice,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::File => "file",
            Self::Folder => "folder",
            Self::Symlink => "symbolic link",
            Self::Fifo => "named pipe",
            Self::Socket => "socket",
            Self::BlockDevice => "block device",
            Self::CharDevice => "character device",
        })
    }
}

/// A moment: seconds since 1970-01-01 UTC (negative before it) and nanoseconds after that second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time {
    /// Whole seconds since the epoch, rounded down.
    pub seconds: i64,
    /// Nanoseconds after `seconds`, 0 to 999,999,999.
    pub nanos: u32,
}

/// Shows a name or path of any bytes to people: quoted, control characters escaped, what is not UTF-8 replaced.
pub(crate) struct Shown<'a>(pub(crate) &'a [u8]);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", String::from_utf8_lossy(self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_control_characters_stays_on_one_line() {
        assert_eq!(Shown(b"a\nb\xff").to_string(), "\"a\\nb\u{fffd}\"");
        assert_eq!(Shown("é".as_bytes()).to_string(), "\"é\"");
    }

    #[test]
    fn every_kind_survives_the_way_to_the_kernel_and_back() {
        for kind in Kind::ALL {
            assert_eq!(Kind::from_file_type(kind.file_type()), Some(kind));
        }
    }
}
