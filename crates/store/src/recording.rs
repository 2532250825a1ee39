//! A decorator that counts what passes.
//!
//! **Invariant:** every call of the five operations is counted once, when it returns, whether it
//! succeeded or not; the calls themselves are passed on untouched.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::body::Body;
use crate::contract::{Abilities, Listed, Store};
use crate::error::{Operation, Result};
use crate::name::ObjectName;

/// A store whose calls are counted.
#[derive(Debug)]
pub struct RecordingStore<S> {
    inner: S,
    record: Mutex<Record>,
    keeps_calls: bool,
}

/// One call that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// What was called.
    pub operation: Operation,
    /// The object's name; for a list, the prefix.
    pub name: String,
    /// The bytes of content that were written or read: none for a list, a delete or a failed call.
    pub bytes: u64,
    /// Whether the call returned `Ok`.
    pub succeeded: bool,
}

/// The sum of the calls of one operation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Total {
    /// All calls.
    pub calls: u64,
    /// The calls that returned an error.
    pub failed: u64,
    /// The bytes of content that were written or read.
    pub bytes: u64,
}

#[derive(Debug, Default)]
struct Record {
    totals: BTreeMap<Operation, Total>,
    calls: Vec<Call>,
}

impl<S: Store> RecordingStore<S> {
    /// Counts calls and bytes, in constant space.
    pub fn counting(inner: S) -> Self {
        Self {
            inner,
            record: Mutex::default(),
            keeps_calls: false,
        }
    }

    /// Counts, and keeps a list of every call as well; for tests, since the list only grows.
    pub fn keeping_calls(inner: S) -> Self {
        Self {
            keeps_calls: true,
            ..Self::counting(inner)
        }
    }

    /// The sum of the calls of one operation since the beginning or the last reset.
    pub fn total(&self, operation: Operation) -> Total {
        self.record()
            .totals
            .get(&operation)
            .copied()
            .unwrap_or_default()
    }

    /// The calls in the order in which they returned; empty unless they are kept.
    pub fn calls(&self) -> Vec<Call> {
        self.record().calls.clone()
    }

    /// Forgets all that was counted.
    pub fn reset(&self) {
        *self.record() = Record::default();
    }

    /// The store below.
    pub fn inner(&self) -> &S {
        &self.inner
    }

    fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a call and returns its result; `bytes` is what a successful one moved.
    fn note<T>(
        &self,
        operation: Operation,
        name: &str,
        result: Result<T>,
        bytes: impl FnOnce(&T) -> u64,
    ) -> Result<T> {
        let moved = result.as_ref().map_or(0, bytes);
        let mut record = self.record();
        let total = record.totals.entry(operation).or_default();
        total.calls += 1;
        total.failed += u64::from(result.is_err());
        total.bytes += moved;
        if self.keeps_calls {
            record.calls.push(Call {
                operation,
                name: name.to_owned(),
                bytes: moved,
                succeeded: result.is_ok(),
            });
        }
        drop(record);
        result
    }
}

impl<S: Store> Store for RecordingStore<S> {
    fn put_new(&self, name: &ObjectName, body: Body<'_>) -> Result<()> {
        let result = self.inner.put_new(name, body);
        self.note(Operation::Put, name.as_str(), result, |()| body.len())
    }

    fn get(&self, name: &ObjectName, max_bytes: u64) -> Result<Vec<u8>> {
        let result = self.inner.get(name, max_bytes);
        self.note(Operation::Get, name.as_str(), result, |bytes| {
            bytes.len() as u64
        })
    }

    fn get_range(&self, name: &ObjectName, offset: u64, into: &mut [u8]) -> Result<()> {
        let result = self.inner.get_range(name, offset, into);
        self.note(Operation::GetRange, name.as_str(), result, |()| {
            into.len() as u64
        })
    }

    fn list(&self, prefix: &str, found: &mut dyn FnMut(Listed)) -> Result<()> {
        let result = self.inner.list(prefix, found);
        self.note(Operation::List, prefix, result, |()| 0)
    }

    fn delete(&self, name: &ObjectName) -> Result<()> {
        let result = self.inner.delete(name);
        self.note(Operation::Delete, name.as_str(), result, |()| 0)
    }

    fn connections(&self) -> usize {
        self.inner.connections()
    }

    fn abilities(&self) -> Abilities {
        self.inner.abilities()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::MemoryStore;

    #[test]
    fn calls_and_bytes_are_counted_per_operation() {
        let store = RecordingStore::keeping_calls(MemoryStore::new());
        let name = ObjectName::new("a/b").unwrap();
        store.put_new(&name, Body::Bytes(b"12345")).unwrap();
        store.put_new(&name, Body::Bytes(b"12345")).unwrap_err();
        store.get(&name, 5).unwrap();
        store.get_range(&name, 1, &mut [0; 3]).unwrap();
        store.list("a/", &mut |_| {}).unwrap();
        store.delete(&name).unwrap();

        let put = Total {
            calls: 2,
            failed: 1,
            bytes: 5,
        };
        assert_eq!(store.total(Operation::Put), put);
        assert_eq!(store.total(Operation::GetRange).bytes, 3);
        let listed = Call {
            operation: Operation::List,
            name: "a/".into(),
            bytes: 0,
            succeeded: true,
        };
        assert_eq!(store.calls()[4], listed);

        store.reset();
        assert_eq!(store.total(Operation::Put), Total::default());
        assert!(store.calls().is_empty());
    }

    #[test]
    fn counting_alone_keeps_no_list() {
        let store = RecordingStore::counting(MemoryStore::new());
        store.list("", &mut |_| {}).unwrap();
        assert_eq!(store.total(Operation::List).calls, 1);
        assert!(store.calls().is_empty());
    }
}
