//! What can go wrong below a store's folder, before it is known which object it is said of.

use std::io;

use rustix::io::Errno;

use crate::error::{Error, ErrorKind, Operation, Subject};

/// A failure whose object is added by the caller.
#[derive(Debug)]
pub(super) enum Problem {
    /// The operating system refused.
    Io(io::Error),
    /// A flush to the disk failed.
    ///
    /// Its own variant because it must never be repeated: after a failed flush the system marks
    /// what it could not write as written, and the next flush of the same file succeeds.
    Flush(io::Error),
    /// Something that is no object (or no folder) has the name of one.
    InTheWay(&'static str),
    /// The file system kept another number of bytes than were written.
    WrongLength {
        /// The bytes that the file has.
        kept: u64,
        /// The bytes that it must have.
        wanted: u64,
    },
}

impl Problem {
    /// The error that a caller of the store sees.
    pub(super) fn into_error(self, operation: Operation, subject: impl Into<Subject>) -> Error {
        match self {
            Self::Io(error) => from_io(error, operation, subject.into()),
            Self::Flush(error) => {
                let kind = match ErrorKind::of_io(&error) {
                    ErrorKind::Full => ErrorKind::Full,
                    _ => ErrorKind::Other,
                };
                Error::new(kind, operation, subject)
                    .with_detail("it could not be flushed to the disk")
                    .with_source(error)
            }
            Self::InTheWay(what) => {
                Error::new(ErrorKind::Other, operation, subject).with_detail(what)
            }
            Self::WrongLength { kept, wanted } => Error::new(ErrorKind::Other, operation, subject)
                .with_detail(format!("the file system kept {kept} bytes of {wanted}")),
        }
    }

    /// Whether it says that there is no such file.
    pub(super) fn is_not_found(&self) -> bool {
        self.has_errno(&[Errno::NOENT])
    }

    /// Whether it is one of these errors of the operating system.
    pub(super) fn has_errno(&self, errnos: &[Errno]) -> bool {
        let Self::Io(error) = self else {
            return false;
        };
        Errno::from_io_error(error).is_some_and(|errno| errnos.contains(&errno))
    }
}

fn from_io(error: io::Error, operation: Operation, subject: Subject) -> Error {
    let is_object = matches!(subject, Subject::Object(_));
    match (operation, Errno::from_io_error(&error)) {
        // A put makes the folders that it needs: one of them went away under its hands.
        (Operation::Put, Some(Errno::NOENT)) => {
            Error::new(ErrorKind::Transient, operation, subject)
                .with_detail("its folder vanished meanwhile")
                .with_source(error)
        }
        (Operation::Put, Some(Errno::NOTDIR)) => Error::new(ErrorKind::Other, operation, subject)
            .with_detail("an object has the name of its folder")
            .with_source(error),
        // Below an object there is nothing.
        (_, Some(Errno::NOTDIR)) if is_object => {
            Error::new(ErrorKind::NotFound, operation, subject).with_source(error)
        }
        (_, Some(Errno::NOTDIR)) => Error::new(ErrorKind::Other, operation, subject)
            .with_detail("it is not a folder")
            .with_source(error),
        _ => Error::from_io(error, operation, subject),
    }
}

impl From<io::Error> for Problem {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<Errno> for Problem {
    fn from(error: Errno) -> Self {
        Self::Io(error.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name::ObjectName;

    #[test]
    fn a_failed_flush_is_never_worth_a_retry() {
        let name = ObjectName::new("a").unwrap();
        for errno in [Errno::INTR, Errno::STALE, Errno::IO, Errno::NOENT] {
            let error = Problem::Flush(errno.into()).into_error(Operation::Put, &name);
            assert_eq!(error.kind(), ErrorKind::Other);
        }
        let error = Problem::Flush(Errno::NOSPC.into()).into_error(Operation::Put, &name);
        assert_eq!(error.kind(), ErrorKind::Full);
    }
}
