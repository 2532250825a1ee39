//! A store in memory: the strict reference.
//!
//! It is as strict as the contract allows a store to be, so that code that passes over it passes
//! over any other: every call takes effect at one instant, a name that is a folder of objects is
//! refused as an object, no times are kept, and a list comes in an order that nobody wishes for.
//!
//! **Invariant:** it does neither more nor less than the contract of [`Store`] says.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::body::Body;
use crate::contract::{Abilities, Listed, Store, folder_of_prefix};
use crate::error::{Error, ErrorKind, Operation, Result};
use crate::name::ObjectName;

/// How many calls at once it asks for: more than one, so that callers run as they do elsewhere.
const CONNECTIONS: usize = 4;

/// Objects in memory.
#[derive(Debug, Default)]
pub struct MemoryStore {
    objects: Mutex<Objects>,
}

type Objects = BTreeMap<ObjectName, Arc<[u8]>>;

impl MemoryStore {
    /// A store without objects.
    pub fn new() -> Self {
        Self::default()
    }

    /// A second store that holds now what this one holds now; what a crash leaves, say.
    #[must_use]
    pub fn image(&self) -> Self {
        Self {
            objects: Mutex::new(self.objects().clone()),
        }
    }

    /// Replaces an object's bytes behind the contract's back, as a failing disk or an attacker would.
    ///
    /// Returns whether there is such an object.
    pub fn damage(&self, name: &ObjectName, bytes: impl Into<Arc<[u8]>>) -> bool {
        match self.objects().get_mut(name) {
            Some(object) => {
                *object = bytes.into();
                true
            }
            None => false,
        }
    }

    fn objects(&self) -> MutexGuard<'_, Objects> {
        // Every change is one call on the map, so that a panic elsewhere leaves it whole.
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn object(&self, operation: Operation, name: &ObjectName) -> Result<Arc<[u8]>> {
        self.objects()
            .get(name)
            .cloned()
            .ok_or_else(|| Error::new(ErrorKind::NotFound, operation, name))
    }
}

impl Store for MemoryStore {
    fn put_new(&self, name: &ObjectName, body: Body<'_>) -> Result<()> {
        let failed = |kind| Error::new(kind, Operation::Put, name);
        let len = usize::try_from(body.len()).map_err(|_| failed(ErrorKind::Full))?;
        let mut bytes = vec![0; len];
        body.read_exact_at(&mut bytes, 0)
            .map_err(|error| Error::from_io(error, Operation::Put, name))?;

        let mut objects = self.objects();
        if objects.contains_key(name) {
            return Err(failed(ErrorKind::AlreadyExists));
        }
        if is_folder(&objects, name.as_str()) {
            return Err(failed(ErrorKind::Other).with_detail("a folder is in its place"));
        }
        if folders_above(name).any(|folder| objects.contains_key(&folder)) {
            return Err(
                failed(ErrorKind::Other).with_detail("an object has the name of its folder")
            );
        }
        objects.insert(name.clone(), bytes.into());
        Ok(())
    }

    fn get(&self, name: &ObjectName, max_bytes: u64) -> Result<Vec<u8>> {
        let object = self.object(Operation::Get, name)?;
        let len = object.len() as u64;
        if len > max_bytes {
            return Err(
                Error::new(ErrorKind::TooLarge, Operation::Get, name).with_detail(format!(
                    "it has {len} bytes, at most {max_bytes} are allowed"
                )),
            );
        }
        Ok(object.to_vec())
    }

    fn get_range(&self, name: &ObjectName, offset: u64, into: &mut [u8]) -> Result<()> {
        let object = self.object(Operation::GetRange, name)?;
        Body::Bytes(&object)
            .read_exact_at(into, offset)
            .map_err(|error| Error::from_io(error, Operation::GetRange, name))
    }

    fn list(&self, prefix: &str, found: &mut dyn FnMut(Listed)) -> Result<()> {
        folder_of_prefix(prefix)?;
        // Taken out first: `found` may call the store. Backwards: nobody may rely on an order.
        let listed: Vec<Listed> = self
            .objects()
            .iter()
            .rev()
            .filter(|(name, _)| name.as_str().starts_with(prefix))
            .map(|(name, bytes)| Listed {
                name: name.clone(),
                len: bytes.len() as u64,
                modified: None,
            })
            .collect();
        listed.into_iter().for_each(found);
        Ok(())
    }

    fn delete(&self, name: &ObjectName) -> Result<()> {
        match self.objects().remove(name) {
            Some(_) => Ok(()),
            None => Err(Error::new(ErrorKind::NotFound, Operation::Delete, name)),
        }
    }

    fn connections(&self) -> usize {
        CONNECTIONS
    }

    fn abilities(&self) -> Abilities {
        Abilities {
            put_if_absent: true,
            ..Abilities::default()
        }
    }
}

/// Whether objects lie below a name.
fn is_folder(objects: &Objects, name: &str) -> bool {
    // '-' and '.' sort before '/', so that other names may stand between a folder's own and the
    // first below it.
    let Ok(lowest_below) = ObjectName::new(format!("{name}/-")) else {
        return false;
    };
    objects
        .range((Bound::Included(lowest_below), Bound::Unbounded))
        .next()
        .is_some_and(|(next, _)| {
            next.as_str()
                .strip_prefix(name)
                .is_some_and(|rest| rest.starts_with('/'))
        })
}

/// The names of all folders that an object lies in.
fn folders_above(name: &ObjectName) -> impl Iterator<Item = ObjectName> {
    name.as_str().match_indices('/').map(|(at, _)| {
        ObjectName::new(&name.as_str()[..at]).expect("the first components of a name are a name")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> ObjectName {
        ObjectName::new(text).unwrap()
    }

    #[test]
    fn a_name_is_not_both_object_and_folder() {
        let store = MemoryStore::new();
        store.put_new(&name("a/b"), Body::Bytes(b"")).unwrap();
        store.put_new(&name("a-b"), Body::Bytes(b"")).unwrap();
        for taken in ["a", "a/b/c"] {
            let error = store.put_new(&name(taken), Body::Bytes(b"")).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Other);
        }
        store.put_new(&name("a."), Body::Bytes(b"")).unwrap();
    }

    #[test]
    fn an_image_goes_its_own_way() {
        let store = MemoryStore::new();
        store.put_new(&name("a"), Body::Bytes(b"1")).unwrap();
        let image = store.image();
        store.delete(&name("a")).unwrap();
        assert_eq!(image.get(&name("a"), 1).unwrap(), b"1");
        assert!(image.damage(&name("a"), *b"2"));
        assert_eq!(image.get(&name("a"), 1).unwrap(), b"2");
        assert!(!store.damage(&name("a"), *b"2"));
    }
}
