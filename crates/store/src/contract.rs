//! The contract of a store.
//!
//! Everything above relies on the words of this file and on nothing else: no rename, no overwrite,
//! no order of listing, no clock. [`conformance`](fn@crate::conformance) tests each of them.
//!
//! **Invariant:** an object, once it can be seen, is whole and never changes until it is deleted.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use crate::body::Body;
use crate::error::{Error, ErrorKind, Operation, Result, Subject};
use crate::name::ObjectName;

/// Named immutable objects.
///
/// All methods may be called from several threads at once, by several processes and from several
/// machines on the same storage.
///
/// **Exists.** An object exists from the moment a put of it took effect until a delete of it took
/// effect. Both take effect at one instant, no later than the return of the call. All readers agree:
/// what one of them has seen, a call that starts later sees too. While a name exists, nothing else
/// can be put under it; after a delete it may be put again, with other bytes.
///
/// **Folders.** A name is not both an object and a folder of objects (`a` and `a/b`). A store may
/// refuse the second of them with [`ErrorKind::Other`].
///
/// **Errors.** An error whose [kind](ErrorKind) is [`Transient`](ErrorKind::Transient) may be
/// answered by making the call again, and no other may. After an error of a put or delete other than
/// [`AlreadyExists`](ErrorKind::AlreadyExists) or [`NotFound`](ErrorKind::NotFound) it is unknown
/// whether the call took effect (the reply may have been lost), but it took effect entirely or not
/// at all.
pub trait Store: Send + Sync {
    /// Puts a new object, whole or not at all, and never replaces one.
    ///
    /// When it returns `Ok`, the object exists and is durable: it outlives a crash of the process
    /// and of the storage's machine. No reader ever sees a part of it.
    ///
    /// [`AlreadyExists`](ErrorKind::AlreadyExists) says that the name is taken by a durable object,
    /// which was not touched and not compared. Of several puts of the same new name at the same
    /// time, exactly one succeeds, provided that [`Abilities::put_if_absent`] holds.
    ///
    /// After any other error that is not transient, the bytes of a [`Body::File`] are no longer to
    /// be trusted: the system may have dropped what it could not write. Make the file again.
    fn put_new(&self, name: &ObjectName, body: Body<'_>) -> Result<()>;

    /// Returns all bytes of an object that has at most `max_bytes` of them.
    ///
    /// A larger object is [`TooLarge`](ErrorKind::TooLarge), found before memory is taken for it.
    /// An object that is missing is [`NotFound`](ErrorKind::NotFound).
    fn get(&self, name: &ObjectName, max_bytes: u64) -> Result<Vec<u8>>;

    /// Fills `into` with an object's bytes from `offset` on.
    ///
    /// It fills all of `into` or fails: a range that does not lie within the object is
    /// [`Truncated`](ErrorKind::Truncated), and `into` then holds nothing of meaning. An empty
    /// range is valid up to and including the object's end.
    fn get_range(&self, name: &ObjectName, offset: u64, into: &mut [u8]) -> Result<()>;

    /// Reports every object whose name begins with `prefix`, once each, in no promised order.
    ///
    /// The prefix is empty (all objects) or whole components with their `/`, such as `packs/d/`;
    /// anything else is an error. A prefix under which nothing lies is an empty list.
    ///
    /// Every object that existed before the call began, and until it ended, is reported; one that
    /// was put or deleted meanwhile may be reported or not. What could not be looked at is an error,
    /// never a shorter list; objects reported before an error are no list and must not be used.
    /// `found` may call the store.
    fn list(&self, prefix: &str, found: &mut dyn FnMut(Listed)) -> Result<()>;

    /// Deletes an object.
    ///
    /// When it returns `Ok`, the object does not exist, and a crash does not bring it back. An object
    /// that is missing is [`NotFound`](ErrorKind::NotFound).
    fn delete(&self, name: &ObjectName) -> Result<()>;

    /// How many calls at the same time serve this store best; at least 1.
    fn connections(&self) -> usize;

    /// What this store can do beyond the contract, and what deserves a warning about it.
    fn abilities(&self) -> Abilities;
}

/// An object as a list reports it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// The object's name.
    pub name: ObjectName,
    /// The object's length in bytes.
    pub len: u64,
    /// When the object was put, by the storage's own clock, where the storage keeps that time.
    ///
    /// For people and for rules of thumb: no safety may rest on it.
    pub modified: Option<SystemTime>,
}

/// What a store can do beyond the contract.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Abilities {
    /// Of several puts of one new name at the same time, exactly one succeeds.
    ///
    /// Without it a put looks first and then writes, and two puts at the same instant may both
    /// succeed; the object is then one of the two, whole.
    pub put_if_absent: bool,
    /// A folder on the store's own file system: a temporary file made there can become an object
    /// without being copied. [`spool`](fn@crate::spool) uses it.
    pub spool_folder: Option<PathBuf>,
    /// What a person should know about this store, as whole sentences.
    pub warnings: Vec<String>,
}

/// Checks a prefix and returns its folder without the last `/`; `None` for all objects.
pub(crate) fn folder_of_prefix(prefix: &str) -> Result<Option<&str>> {
    if prefix.is_empty() {
        return Ok(None);
    }
    prefix
        .strip_suffix('/')
        .filter(|folder| ObjectName::new(*folder).is_ok())
        .map(Some)
        .ok_or_else(|| {
            Error::new(ErrorKind::Other, Operation::List, Subject::prefix(prefix))
                .with_detail("a prefix is empty or whole components of a name with their last '/'")
        })
}

impl<S: Store + ?Sized> Store for &S {
    fn put_new(&self, name: &ObjectName, body: Body<'_>) -> Result<()> {
        (**self).put_new(name, body)
    }
    fn get(&self, name: &ObjectName, max_bytes: u64) -> Result<Vec<u8>> {
        (**self).get(name, max_bytes)
    }
    fn get_range(&self, name: &ObjectName, offset: u64, into: &mut [u8]) -> Result<()> {
        (**self).get_range(name, offset, into)
    }
    fn list(&self, prefix: &str, found: &mut dyn FnMut(Listed)) -> Result<()> {
        (**self).list(prefix, found)
    }
    fn delete(&self, name: &ObjectName) -> Result<()> {
        (**self).delete(name)
    }
    fn connections(&self) -> usize {
        (**self).connections()
    }
    fn abilities(&self) -> Abilities {
        (**self).abilities()
    }
}

impl<S: Store + ?Sized> Store for Box<S> {
    fn put_new(&self, name: &ObjectName, body: Body<'_>) -> Result<()> {
        (**self).put_new(name, body)
    }
    fn get(&self, name: &ObjectName, max_bytes: u64) -> Result<Vec<u8>> {
        (**self).get(name, max_bytes)
    }
    fn get_range(&self, name: &ObjectName, offset: u64, into: &mut [u8]) -> Result<()> {
        (**self).get_range(name, offset, into)
    }
    fn list(&self, prefix: &str, found: &mut dyn FnMut(Listed)) -> Result<()> {
        (**self).list(prefix, found)
    }
    fn delete(&self, name: &ObjectName) -> Result<()> {
        (**self).delete(name)
    }
    fn connections(&self) -> usize {
        (**self).connections()
    }
    fn abilities(&self) -> Abilities {
        (**self).abilities()
    }
}

impl<S: Store + ?Sized> Store for Arc<S> {
    fn put_new(&self, name: &ObjectName, body: Body<'_>) -> Result<()> {
        (**self).put_new(name, body)
    }
    fn get(&self, name: &ObjectName, max_bytes: u64) -> Result<Vec<u8>> {
        (**self).get(name, max_bytes)
    }
    fn get_range(&self, name: &ObjectName, offset: u64, into: &mut [u8]) -> Result<()> {
        (**self).get_range(name, offset, into)
    }
    fn list(&self, prefix: &str, found: &mut dyn FnMut(Listed)) -> Result<()> {
        (**self).list(prefix, found)
    }
    fn delete(&self, name: &ObjectName) -> Result<()> {
        (**self).delete(name)
    }
    fn connections(&self) -> usize {
        (**self).connections()
    }
    fn abilities(&self) -> Abilities {
        (**self).abilities()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_are_whole_components() {
        assert_eq!(folder_of_prefix("").unwrap(), None);
        assert_eq!(folder_of_prefix("packs/d/").unwrap(), Some("packs/d"));
        for prefix in ["packs", "/", "packs//", "../", "/packs/", "packs/d/a"] {
            assert!(folder_of_prefix(prefix).is_err(), "{prefix:?} was taken");
        }
    }
}
