//! Every store passes the suite, and the suite finds every broken one.

use std::sync::Mutex;
use std::time::Duration;

use super::*;
use crate::body::Body;
use crate::contract::{Abilities, Listed};
use crate::error::{Error, ErrorKind, Result};
use crate::faulty::FaultyStore;
use crate::local::LocalStore;
use crate::memory::MemoryStore;
use crate::name::ObjectName;
use crate::recording::RecordingStore;
use crate::retry::{RetryPolicy, RetryStore};

fn failures(store: &dyn Store) -> Vec<Failure> {
    let mut reported = 0;
    let failures = conformance(store, &mut |_, _| reported += 1);
    assert_eq!(reported, points().count() + 2);
    failures
}

#[test]
fn memory_passes() {
    let store = MemoryStore::new();
    assert_eq!(failures(&store), []);
    let mut left = 0;
    store.list("", &mut |_| left += 1).unwrap();
    assert_eq!(left, 0, "the suite left objects behind");
}

#[test]
fn a_folder_passes() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(failures(&LocalStore::open(folder.path()).unwrap()), []);
}

#[test]
fn decorators_pass() {
    let store = FaultyStore::new(MemoryStore::new());
    let store = RetryStore::new(store, RetryPolicy::default(), |_: Duration| {});
    let store = RecordingStore::counting(Box::new(store));
    assert_eq!(failures(&std::sync::Arc::new(store)), []);
}

#[test]
fn objects_outside_its_folder_are_left_alone() {
    let store = MemoryStore::new();
    let name = ObjectName::new("lifeboat").unwrap();
    store.put_new(&name, Body::Bytes(b"x")).unwrap();
    let litter = ObjectName::new("probe/0/litter").unwrap();
    store.put_new(&litter, Body::Bytes(b"x")).unwrap();
    assert_eq!(failures(&store), []);
    assert_eq!(store.get(&name, 1).unwrap(), b"x");
    assert!(store.get(&litter, 1).is_err());
}

/// How a store can break the contract.
#[derive(Clone, Copy, Debug)]
enum Defect {
    ReplacesObjects,
    ListsOnePageOnly,
    ListsStrangers,
    ListsTwice,
    ListsLate,
    CutsRanges,
    ReadsPastTheEnd,
    IgnoresTheLimit,
    ForgetsTheLastByte,
    DeletesWhatIsMissing,
    KeepsDeletedObjects,
    CallsMissingOther,
    TornPuts,
    LetsAllPutsWin,
    MissesWhileDeleting,
    NoConnections,
    TakesShortBodies,
    FoldsNames,
}

/// A store with a defect.
struct Broken {
    inner: MemoryStore,
    defect: Defect,
    /// What was put last, for the list that comes late.
    last_put: Mutex<Option<ObjectName>>,
}

impl Store for Broken {
    fn put_new(&self, name: &ObjectName, body: Body<'_>) -> Result<()> {
        *self.last_put.lock().unwrap() = Some(name.clone());
        let mut bytes = vec![0; usize::try_from(body.len()).unwrap()];
        match (self.defect, body) {
            (Defect::ReplacesObjects, _) => {
                let _ = self.inner.delete(name);
            }
            (Defect::TornPuts, Body::Bytes(bytes)) if bytes.len() == 300_000 => {
                self.inner.put_new(name, Body::Bytes(&bytes[..1]))?;
                std::thread::sleep(Duration::from_millis(20));
                self.inner.damage(name, bytes);
                return Ok(());
            }
            (Defect::ForgetsTheLastByte, Body::Bytes(bytes)) if bytes.len() == 4096 => {
                return self.inner.put_new(name, Body::Bytes(&bytes[..4095]));
            }
            (Defect::TakesShortBodies, _) if body.read_exact_at(&mut bytes, 0).is_err() => {
                return self.inner.put_new(name, Body::Bytes(b""));
            }
            (Defect::LetsAllPutsWin, _) => return self.inner.put_new(name, body).or(Ok(())),
            (Defect::FoldsNames, body) => {
                let folded = ObjectName::new(name.as_str().replace("..", "."));
                return self.inner.put_new(&folded.unwrap(), body);
            }
            _ => {}
        }
        self.inner.put_new(name, body)
    }

    fn get(&self, name: &ObjectName, max_bytes: u64) -> Result<Vec<u8>> {
        let max_bytes = match self.defect {
            Defect::IgnoresTheLimit => u64::MAX,
            _ => max_bytes,
        };
        self.inner
            .get(name, max_bytes)
            .map_err(|error| match self.defect {
                Defect::CallsMissingOther => Error::new(ErrorKind::Other, error.operation(), name),
                _ => error,
            })
    }

    fn get_range(&self, name: &ObjectName, offset: u64, into: &mut [u8]) -> Result<()> {
        match (self.defect, self.inner.get_range(name, offset, into)) {
            (Defect::ReadsPastTheEnd, Err(error)) if error.kind() == ErrorKind::Truncated => Ok(()),
            (Defect::CutsRanges, Ok(())) if into.len() > 4096 => {
                into[4096..].fill(0);
                Ok(())
            }
            (_, result) => result,
        }
    }

    fn list(&self, prefix: &str, found: &mut dyn FnMut(Listed)) -> Result<()> {
        let late = self.last_put.lock().unwrap().clone();
        let mut listed = Vec::new();
        self.inner.list(prefix, &mut |object| listed.push(object))?;
        match self.defect {
            Defect::ListsOnePageOnly => listed.truncate(1000),
            Defect::ListsStrangers => listed.push(Listed {
                name: ObjectName::new("elsewhere").unwrap(),
                len: 0,
                modified: None,
            }),
            Defect::ListsTwice => listed.extend(listed.last().cloned()),
            // As a walk with offsets does, when an entry before the offset goes away.
            Defect::MissesWhileDeleting
                if listed
                    .iter()
                    .any(|object| object.name.as_str().contains("passing")) =>
            {
                listed.remove(0);
            }
            Defect::ListsLate => listed.retain(|object| Some(&object.name) != late.as_ref()),
            _ => {}
        }
        listed.into_iter().for_each(found);
        Ok(())
    }

    fn delete(&self, name: &ObjectName) -> Result<()> {
        match (self.defect, self.inner.delete(name)) {
            (Defect::DeletesWhatIsMissing, _) => Ok(()),
            (Defect::KeepsDeletedObjects, Ok(())) => self.inner.put_new(name, Body::Bytes(b"")),
            (_, result) => result,
        }
    }

    fn connections(&self) -> usize {
        match self.defect {
            Defect::NoConnections => 0,
            _ => self.inner.connections(),
        }
    }

    fn abilities(&self) -> Abilities {
        self.inner.abilities()
    }
}

#[test]
fn every_defect_is_found_at_its_point() {
    for (defect, point) in [
        (Defect::ReplacesObjects, "a put never replaces an object"),
        (
            Defect::ListsOnePageOnly,
            "a list of many objects is complete",
        ),
        (Defect::ListsStrangers, "a prefix is whole components"),
        (
            Defect::ListsTwice,
            "a list reports every object once, with its length",
        ),
        (
            Defect::ListsLate,
            "a list shows every put that was finished before",
        ),
        (Defect::CutsRanges, "a range is filled or fails"),
        (Defect::ReadsPastTheEnd, "a range is filled or fails"),
        (
            Defect::IgnoresTheLimit,
            "an object larger than allowed is not returned",
        ),
        (
            Defect::ForgetsTheLastByte,
            "an object comes back as it was put",
        ),
        (
            Defect::DeletesWhatIsMissing,
            "what is missing is said to be missing",
        ),
        (
            Defect::KeepsDeletedObjects,
            "a deleted object is gone, and its name free again",
        ),
        (
            Defect::CallsMissingOther,
            "what is missing is said to be missing",
        ),
        (Defect::TornPuts, "no reader sees a part of an object"),
        (
            Defect::LetsAllPutsWin,
            "of several puts of one name exactly one succeeds",
        ),
        (
            Defect::NoConnections,
            "at least one connection is asked for",
        ),
        (
            Defect::TakesShortBodies,
            "a body that ends early becomes no object",
        ),
        (Defect::FoldsNames, "every allowed name is kept apart"),
        (
            Defect::MissesWhileDeleting,
            "a list misses nothing because of other puts and deletes",
        ),
    ] {
        let store = Broken {
            inner: MemoryStore::new(),
            defect,
            last_put: Mutex::default(),
        };
        let failures = failures(&store);
        assert!(
            failures.iter().any(|failure| failure.point == point),
            "{defect:?} passed: {failures:?}"
        );
    }
}
