//! What went wrong in a store.
//!
//! One struct for all operations: a caller asks for the [`ErrorKind`], a person reads the sentence.
//! The operating system's or network's own error is the source and is never lost.
//!
//! **Invariant:** an error names the operation and the object (or prefix, or path) it happened to.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::path::PathBuf;

use rustix::io::Errno;

use crate::name::ObjectName;

/// The result of an operation of a store.
pub type Result<T> = std::result::Result<T, Error>;

/// An operation of a store that failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {operation} {subject}: {detail}")]
pub struct Error {
    kind: ErrorKind,
    operation: Operation,
    subject: Subject,
    detail: Cow<'static, str>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

/// What a caller must know about an error to decide what to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// There is no such object (or folder).
    NotFound,
    /// The name is taken; what it names was not touched.
    AlreadyExists,
    /// The object is larger than the caller allows.
    TooLarge,
    /// The object, or the body to be put, ends before the last byte asked for.
    Truncated,
    /// No space is left, a quota is used up, or a limit of file sizes is reached.
    Full,
    /// Permission is lacking, or the storage is read-only.
    Denied,
    /// The storage did not answer properly; the same call may succeed when it is made again.
    Transient,
    /// Anything else; making the same call again is no cure.
    Other,
}

/// An operation of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Operation {
    /// [`Store::put_new`](crate::Store::put_new).
    Put,
    /// [`Store::get`](crate::Store::get).
    Get,
    /// [`Store::get_range`](crate::Store::get_range).
    GetRange,
    /// [`Store::list`](crate::Store::list).
    List,
    /// [`Store::delete`](crate::Store::delete).
    Delete,
    /// [`open`](fn@crate::open).
    Open,
    /// [`create`](fn@crate::create).
    Create,
    /// [`spool`](fn@crate::spool).
    Spool,
}

/// What an operation was about.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Subject {
    /// One object.
    Object(ObjectName),
    /// All objects whose names begin so; empty for all objects.
    Prefix(String),
    /// A path outside any store, such as the store's own folder.
    Path(PathBuf),
}

impl Error {
    /// An error whose sentence is the kind's usual one.
    pub fn new(kind: ErrorKind, operation: Operation, subject: impl Into<Subject>) -> Self {
        Self {
            kind,
            operation,
            subject: subject.into(),
            detail: Cow::Borrowed(kind.sentence()),
            source: None,
        }
    }

    /// An error of the operating system; its kind follows from the error number.
    pub(crate) fn from_io(
        error: impl Into<io::Error>,
        operation: Operation,
        subject: impl Into<Subject>,
    ) -> Self {
        let error = error.into();
        Self::new(ErrorKind::of_io(&error), operation, subject).with_source(error)
    }

    /// The same error with another explanation: a lower-case fragment without full stop.
    #[must_use]
    pub fn with_detail(mut self, detail: impl Into<Cow<'static, str>>) -> Self {
        self.detail = detail.into();
        self
    }

    /// The same error with its cause.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// What a caller must know to decide what to do.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The operation that failed.
    pub fn operation(&self) -> Operation {
        self.operation
    }

    /// What the operation was about.
    pub fn subject(&self) -> &Subject {
        &self.subject
    }

    /// The object that the operation was about, where it was one.
    pub fn object(&self) -> Option<&ObjectName> {
        match &self.subject {
            Subject::Object(name) => Some(name),
            Subject::Prefix(_) | Subject::Path(_) => None,
        }
    }

    /// Whether the same call may succeed when it is made again.
    pub fn is_transient(&self) -> bool {
        self.kind == ErrorKind::Transient
    }
}

impl ErrorKind {
    /// The kind that an error of the operating system belongs to.
    pub(crate) fn of_io(error: &io::Error) -> Self {
        match error.raw_os_error().map(Errno::from_raw_os_error) {
            Some(Errno::NOENT) => Self::NotFound,
            Some(Errno::EXIST) => Self::AlreadyExists,
            Some(Errno::NOSPC | Errno::DQUOT | Errno::FBIG) => Self::Full,
            Some(Errno::ACCESS | Errno::PERM | Errno::ROFS) => Self::Denied,
            // What passes: a signal, a busy or slow network file system, a handle that a server
            // forgot, and the exhaustion of this machine's memory or file handles.
            Some(
                Errno::INTR
                | Errno::AGAIN
                | Errno::BUSY
                | Errno::TIMEDOUT
                | Errno::STALE
                | Errno::NOMEM
                | Errno::MFILE
                | Errno::NFILE,
            ) => Self::Transient,
            Some(_) => Self::Other,
            None if error.kind() == io::ErrorKind::UnexpectedEof => Self::Truncated,
            None => Self::Other,
        }
    }

    fn sentence(self) -> &'static str {
        match self {
            Self::NotFound => "it does not exist",
            Self::AlreadyExists => "it exists already",
            Self::TooLarge => "it is too large",
            Self::Truncated => "it ends early",
            Self::Full => "no space is left",
            Self::Denied => "access is denied",
            Self::Transient => "the storage did not answer properly",
            Self::Other => "the storage failed",
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Self::Put => "put",
            Self::Get => "get",
            Self::GetRange => "read from",
            Self::List => "list",
            Self::Delete => "delete",
            Self::Open => "open",
            Self::Create => "create",
            Self::Spool => "make a temporary file in",
        })
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Object(name) => write!(formatter, "{name}"),
            Self::Prefix(prefix) if prefix.is_empty() => formatter.write_str("all objects"),
            Self::Prefix(prefix) => write!(formatter, "{prefix}*"),
            Self::Path(path) => write!(formatter, "{}", path.display()),
        }
    }
}

impl From<&ObjectName> for Subject {
    fn from(name: &ObjectName) -> Self {
        Self::Object(name.clone())
    }
}

impl From<&std::path::Path> for Subject {
    fn from(path: &std::path::Path) -> Self {
        Self::Path(path.to_owned())
    }
}

impl Subject {
    /// The objects whose names begin with `prefix`.
    pub(crate) fn prefix(prefix: &str) -> Self {
        Self::Prefix(prefix.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name() -> ObjectName {
        ObjectName::new("packs/d/ab").unwrap()
    }

    #[test]
    fn an_error_names_operation_and_object_and_leaves_its_cause_to_the_chain() {
        let error = Error::from_io(Errno::NOSPC, Operation::Put, &name());
        assert_eq!(error.to_string(), "cannot put packs/d/ab: no space is left");
        assert!(
            StdError::source(&error)
                .unwrap()
                .to_string()
                .contains("No space left")
        );
        assert_eq!(error.object(), Some(&name()));
    }

    #[test]
    fn kinds_follow_from_error_numbers() {
        let kind_of = |errno: Errno| ErrorKind::of_io(&errno.into());
        assert_eq!(kind_of(Errno::DQUOT), ErrorKind::Full);
        assert_eq!(kind_of(Errno::ROFS), ErrorKind::Denied);
        assert_eq!(kind_of(Errno::STALE), ErrorKind::Transient);
        assert_eq!(kind_of(Errno::IO), ErrorKind::Other);
        assert_eq!(ErrorKind::of_io(&io::Error::other("x")), ErrorKind::Other);
    }

    #[test]
    fn errors_stay_small_enough_to_be_returned_by_value() {
        assert!(size_of::<Error>() <= 96, "{}", size_of::<Error>());
    }
}
