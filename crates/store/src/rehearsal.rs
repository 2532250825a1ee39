//! A decorator that lets a program rehearse: it reads what a store holds and believes what it puts, and nothing of it
//! reaches the store.
//!
//! **Invariant:** the store below is only read. What was put can be read again, but for content that the caller said
//! nobody reads; of that only name and length are kept.

use std::collections::BTreeMap;
use std::fs::File;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::body::Body;
use crate::contract::{Abilities, Listed, Store};
use crate::error::{Error, ErrorKind, Operation, Result};
use crate::name::ObjectName;

/// A store to which nothing is written.
pub struct RehearsalStore<S> {
    inner: S,
    put: Mutex<BTreeMap<ObjectName, Put>>,
    drops: fn(&ObjectName) -> bool,
}

/// What an object that was put has left.
enum Put {
    Bytes(Vec<u8>),
    /// A file without a name: its room is free again when it is closed.
    File(File, u64),
    Dropped(u64),
}

impl Put {
    fn len(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::File(_, len) | Self::Dropped(len) => *len,
        }
    }

    fn read(
        &self,
        operation: Operation,
        name: &ObjectName,
        offset: u64,
        into: &mut [u8],
    ) -> Result<()> {
        let body = match self {
            Self::Bytes(bytes) => Body::Bytes(bytes),
            Self::File(file, len) => Body::File { file, len: *len },
            Self::Dropped(_) => {
                return Err(Error::new(ErrorKind::Other, operation, name)
                    .with_detail("its content was not kept, for this is a rehearsal"));
            }
        };
        body.read_exact_at(into, offset)
            .map_err(|error| Error::from_io(error, operation, name))
    }
}

impl<S: Store> RehearsalStore<S> {
    /// Over a store; of objects whose name `drops` approves, no content is kept.
    pub fn new(inner: S, drops: fn(&ObjectName) -> bool) -> Self {
        Self {
            inner,
            put: Mutex::default(),
            drops,
        }
    }

    fn put(&self) -> MutexGuard<'_, BTreeMap<ObjectName, Put>> {
        // Every change is one call on the map, so that a panic elsewhere leaves it whole.
        self.put.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn exists_below(&self, name: &ObjectName) -> Result<bool> {
        match self.inner.get_range(name, 0, &mut []) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }
}

impl<S: Store> Store for RehearsalStore<S> {
    fn put_new(&self, name: &ObjectName, body: Body<'_>) -> Result<()> {
        let taken = || Error::new(ErrorKind::AlreadyExists, Operation::Put, name);
        if self.exists_below(name)? {
            return Err(taken());
        }
        let failed = |error| Error::from_io(error, Operation::Put, name);
        if let Body::File { file, len } = body
            && file.metadata().map_err(failed)?.len() < len
        {
            return Err(failed(std::io::ErrorKind::UnexpectedEof.into()));
        }
        let kept = match body {
            _ if (self.drops)(name) => Put::Dropped(body.len()),
            Body::Bytes(bytes) => Put::Bytes(bytes.to_vec()),
            Body::File { file, len } => Put::File(file.try_clone().map_err(failed)?, len),
        };
        let mut put = self.put();
        if put.contains_key(name) {
            return Err(taken());
        }
        put.insert(name.clone(), kept);
        Ok(())
    }

    fn get(&self, name: &ObjectName, max_bytes: u64) -> Result<Vec<u8>> {
        let put = self.put();
        let Some(object) = put.get(name) else {
            drop(put);
            return self.inner.get(name, max_bytes);
        };
        let len = usize::try_from(object.len().min(max_bytes.saturating_add(1)))
            .map_err(|_| Error::new(ErrorKind::TooLarge, Operation::Get, name))?;
        if len as u64 > max_bytes {
            return Err(Error::new(ErrorKind::TooLarge, Operation::Get, name));
        }
        let mut bytes = vec![0; len];
        object.read(Operation::Get, name, 0, &mut bytes)?;
        Ok(bytes)
    }

    fn get_range(&self, name: &ObjectName, offset: u64, into: &mut [u8]) -> Result<()> {
        let put = self.put();
        match put.get(name) {
            Some(object) => object.read(Operation::GetRange, name, offset, into),
            None => {
                drop(put);
                self.inner.get_range(name, offset, into)
            }
        }
    }

    fn list(&self, prefix: &str, found: &mut dyn FnMut(Listed)) -> Result<()> {
        self.inner.list(prefix, found)?;
        // Taken out first: `found` may call the store.
        let listed: Vec<Listed> = self
            .put()
            .iter()
            .filter(|(name, _)| name.as_str().starts_with(prefix))
            .map(|(name, object)| Listed {
                name: name.clone(),
                len: object.len(),
                modified: None,
            })
            .collect();
        listed.into_iter().for_each(found);
        Ok(())
    }

    /// Deletes what was put here; what lies in the store below cannot be deleted in a rehearsal.
    fn delete(&self, name: &ObjectName) -> Result<()> {
        let failed = |kind| Error::new(kind, Operation::Delete, name);
        if self.put().remove(name).is_some() {
            return Ok(());
        }
        if self.exists_below(name)? {
            return Err(failed(ErrorKind::Other).with_detail("nothing is deleted in a rehearsal"));
        }
        Err(failed(ErrorKind::NotFound))
    }

    fn connections(&self) -> usize {
        self.inner.connections()
    }

    fn abilities(&self) -> Abilities {
        Abilities {
            put_if_absent: true,
            spool_folder: None,
            warnings: self.inner.abilities().warnings,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::conformance;
    use crate::memory::MemoryStore;

    fn name(text: &str) -> ObjectName {
        ObjectName::new(text).unwrap()
    }

    #[test]
    fn it_keeps_the_contract_of_a_store() {
        let store = RehearsalStore::new(MemoryStore::new(), |_| false);
        assert_eq!(conformance(&store, &mut |_, _| {}), []);
    }

    #[test]
    fn the_store_below_is_read_and_stays_as_it_was() {
        let below = MemoryStore::new();
        below.put_new(&name("a"), Body::Bytes(b"below")).unwrap();
        let store = RehearsalStore::new(&below, |name| name.as_str().starts_with("dropped/"));
        assert_eq!(store.get(&name("a"), 5).unwrap(), b"below");
        let taken = store.put_new(&name("a"), Body::Bytes(b"b")).unwrap_err();
        assert_eq!(taken.kind(), ErrorKind::AlreadyExists);
        assert_eq!(
            store.delete(&name("a")).unwrap_err().kind(),
            ErrorKind::Other
        );

        store.put_new(&name("b"), Body::Bytes(b"here")).unwrap();
        store
            .put_new(&name("dropped/c"), Body::Bytes(b"gone"))
            .unwrap();
        assert_eq!(store.get(&name("b"), 4).unwrap(), b"here");
        assert!(store.get(&name("dropped/c"), 4).is_err());
        let count = |store: &dyn Store| {
            let mut listed = Vec::new();
            store
                .list("", &mut |object| {
                    listed.push((object.name.to_string(), object.len));
                })
                .unwrap();
            listed.sort();
            listed
        };
        let all = [
            ("a".to_owned(), 5),
            ("b".to_owned(), 4),
            ("dropped/c".to_owned(), 4),
        ];
        assert_eq!(count(&store), all);
        assert_eq!(count(&below), all[..1]);
    }
}
