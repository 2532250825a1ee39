//! What can go wrong with one entry, and how a caller tells the cases apart.
//!
//! An error always names the object and what was wanted of it. Its kind is what a caller decides by: an entry that
//! vanished between listing and reading is life, a denied one is reported, a full disk ends a restore.

use crate::entry::Shown;
use rustix::io::Errno;
use std::io;

/// What kind of failure an [`Error`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The entry was listed but is not there any more.
    Vanished,
    /// The operating system does not permit it.
    Denied,
    /// The entry is no longer the object that was seen before.
    Changed,
    /// Something stands where an entry is to be created, and the policy does not permit to replace it.
    Exists,
    /// The target folder has entries already.
    NotEmpty,
    /// The folder bears a mark by which it is left alone.
    KeptOut,
    /// The name or path is not one that a folder can hold.
    InvalidName,
    /// The file system is full, or the quota is used up.
    Full,
    /// Anything else.
    Other,
}

/// A failure with one entry of a folder.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}", Shown(.object))]
pub struct Error {
    kind: ErrorKind,
    action: &'static str,
    object: Box<[u8]>,
    source: io::Error,
}

impl Error {
    /// An error as the operating system told it; `action` completes "cannot …".
    pub(crate) fn from_errno(action: &'static str, object: &[u8], errno: Errno) -> Self {
        let kind = match errno {
            Errno::NOENT => ErrorKind::Vanished,
            Errno::ACCESS | Errno::PERM => ErrorKind::Denied,
            // A component that must not be a symbolic link, or must be a folder, has become something else.
            Errno::LOOP | Errno::NOTDIR => ErrorKind::Changed,
            Errno::EXIST => ErrorKind::Exists,
            Errno::NAMETOOLONG => ErrorKind::InvalidName,
            Errno::NOSPC | Errno::DQUOT => ErrorKind::Full,
            _ => ErrorKind::Other,
        };
        Self::new(kind, action, object, errno.into())
    }

    /// An error that this crate found itself; `reason` completes "because …".
    pub(crate) fn because(
        kind: ErrorKind,
        action: &'static str,
        object: &[u8],
        reason: impl Into<String>,
    ) -> Self {
        Self::new(kind, action, object, io::Error::other(reason.into()))
    }

    pub(crate) fn new(
        kind: ErrorKind,
        action: &'static str,
        object: &[u8],
        source: io::Error,
    ) -> Self {
        Self {
            kind,
            action,
            object: object.into(),
            source,
        }
    }

    /// What kind of failure it is.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The name inside its folder, or the path, that the failure is about.
    pub fn object(&self) -> &[u8] {
        &self.object
    }

    /// What the operating system said, or why this crate refused.
    pub(crate) fn into_source(self) -> io::Error {
        self.source
    }

    /// The same failure told about a longer path; for callers that know where the folder lies.
    #[must_use]
    pub fn about(mut self, path: &[u8]) -> Self {
        self.object = path.into();
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_names_what_was_wanted_and_the_object_but_not_its_source() {
        let error = Error::from_errno("open", b"a\xffb", Errno::NOENT);
        assert_eq!(error.to_string(), "cannot open \"a\u{fffd}b\"");
        assert_eq!(error.kind(), ErrorKind::Vanished);
        assert!(std::error::Error::source(&error).is_some());
        assert_eq!(error.about(b"x/y").to_string(), "cannot open \"x/y\"");
    }
}
