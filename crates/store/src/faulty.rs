//! A decorator that fails on purpose, for tests.
//!
//! It keeps within the contract: an object is never torn, because no store tears one. What it makes
//! use of is everything else that the contract leaves open: lost replies, lists that end in an
//! error after half of their objects, reads that fail after half of their bytes, and a process that
//! ends before or after any call.
//!
//! **Invariant:** the same calls with the same faults have the same result; nothing is random.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::body::Body;
use crate::contract::{Abilities, Listed, Store};
use crate::error::{Error, ErrorKind, Operation, Result, Subject};
use crate::name::ObjectName;

/// A store that fails as it is told.
#[derive(Debug)]
pub struct FaultyStore<S> {
    inner: S,
    state: Mutex<State>,
}

/// What happens to a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It has no effect and fails with this kind; a list reports half of its objects first.
    Fail(ErrorKind),
    /// It takes effect, and its caller gets an error of this kind.
    LoseReply(ErrorKind),
    /// A read fills half of what was wanted and fails as [`Truncated`](ErrorKind::Truncated); a put,
    /// list or delete is left alone.
    ShortRead,
    /// The process ends before the call: it and all later ones fail without effect.
    CrashBefore,
    /// The process ends after the call took effect, which nobody learns: it and all later ones fail.
    CrashAfter,
}

/// Which calls a fault happens to.
///
/// Only put, get, ranged get, list and delete are calls; the first one is number 1. Where several
/// faults fit a call, the one that was injected first is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// The call with this number, of whichever operation.
    Call(u64),
    /// The call with this number among those of one operation.
    CallOf(Operation, u64),
    /// Every call of one operation whose number is a multiple of this.
    EveryOf(Operation, u64),
}

#[derive(Debug, Default)]
struct State {
    faults: Vec<(When, Fault)>,
    calls: u64,
    calls_of: BTreeMap<Operation, u64>,
    has_crashed: bool,
}

/// How a call goes on after it was counted.
enum Course {
    Untouched,
    Without(Error),
    AndThen(Error),
    Short(Error),
}

impl<S: Store> FaultyStore<S> {
    /// Decorates a store; without faults it changes nothing.
    pub fn new(inner: S) -> Self {
        Self {
            inner,
            state: Mutex::default(),
        }
    }

    /// Adds a fault.
    pub fn inject(&self, when: When, fault: Fault) {
        self.state().faults.push((when, fault));
    }

    /// Takes all faults away, ends a crash, and counts from 1 again.
    pub fn reset(&self) {
        *self.state() = State::default();
    }

    /// How many calls were made.
    pub fn calls(&self) -> u64 {
        self.state().calls
    }

    /// How many calls of one operation were made.
    pub fn calls_of(&self, operation: Operation) -> u64 {
        self.state().calls_of.get(&operation).copied().unwrap_or(0)
    }

    /// Whether a crash has happened.
    pub fn has_crashed(&self) -> bool {
        self.state().has_crashed
    }

    /// The store below: what is there after a crash.
    pub fn inner(&self) -> &S {
        &self.inner
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a call and decides what happens to it.
    fn course(&self, operation: Operation, subject: impl Into<Subject>) -> Course {
        let error = |kind| Error::new(kind, operation, subject).with_detail("injected fault");
        let mut state = self.state();
        if state.has_crashed {
            return Course::Without(error(ErrorKind::Other));
        }
        state.calls += 1;
        let call = state.calls;
        let of_operation = state.calls_of.entry(operation).or_default();
        *of_operation += 1;
        let of_operation = *of_operation;
        let fits = |when: &When| match *when {
            When::Call(number) => number == call,
            When::CallOf(wanted, number) => wanted == operation && number == of_operation,
            When::EveryOf(wanted, period) => {
                wanted == operation && of_operation.is_multiple_of(period)
            }
        };
        let fault = state.faults.iter().find(|(when, _)| fits(when));
        match fault.map(|(_, fault)| *fault) {
            None => Course::Untouched,
            Some(Fault::Fail(kind)) => Course::Without(error(kind)),
            Some(Fault::LoseReply(kind)) => Course::AndThen(error(kind)),
            Some(Fault::ShortRead) => Course::Short(error(ErrorKind::Truncated)),
            Some(Fault::CrashBefore) => {
                state.has_crashed = true;
                Course::Without(error(ErrorKind::Other))
            }
            Some(Fault::CrashAfter) => {
                state.has_crashed = true;
                Course::AndThen(error(ErrorKind::Other))
            }
        }
    }
}

impl<S: Store> Store for FaultyStore<S> {
    fn put_new(&self, name: &ObjectName, body: Body<'_>) -> Result<()> {
        match self.course(Operation::Put, name) {
            Course::Untouched | Course::Short(_) => self.inner.put_new(name, body),
            Course::Without(error) => Err(error),
            Course::AndThen(error) => self.inner.put_new(name, body).and(Err(error)),
        }
    }

    fn get(&self, name: &ObjectName, max_bytes: u64) -> Result<Vec<u8>> {
        match self.course(Operation::Get, name) {
            Course::Untouched => self.inner.get(name, max_bytes),
            Course::Without(error) => Err(error),
            Course::AndThen(error) | Course::Short(error) => {
                self.inner.get(name, max_bytes).and(Err(error))
            }
        }
    }

    fn get_range(&self, name: &ObjectName, offset: u64, into: &mut [u8]) -> Result<()> {
        match self.course(Operation::GetRange, name) {
            Course::Untouched => self.inner.get_range(name, offset, into),
            Course::Without(error) => Err(error),
            Course::AndThen(error) => self.inner.get_range(name, offset, into).and(Err(error)),
            Course::Short(error) => {
                let half = into.len() / 2;
                self.inner
                    .get_range(name, offset, &mut into[..half])
                    .and(Err(error))
            }
        }
    }

    fn list(&self, prefix: &str, found: &mut dyn FnMut(Listed)) -> Result<()> {
        match self.course(Operation::List, Subject::prefix(prefix)) {
            Course::Untouched | Course::Short(_) => self.inner.list(prefix, found),
            Course::AndThen(error) => self.inner.list(prefix, found).and(Err(error)),
            Course::Without(error) => {
                let mut listed = Vec::new();
                self.inner.list(prefix, &mut |object| listed.push(object))?;
                listed.truncate(listed.len().div_ceil(2));
                listed.into_iter().for_each(found);
                Err(error)
            }
        }
    }

    fn delete(&self, name: &ObjectName) -> Result<()> {
        match self.course(Operation::Delete, name) {
            Course::Untouched | Course::Short(_) => self.inner.delete(name),
            Course::Without(error) => Err(error),
            Course::AndThen(error) => self.inner.delete(name).and(Err(error)),
        }
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

    fn name(text: &str) -> ObjectName {
        ObjectName::new(text).unwrap()
    }

    fn put(store: &impl Store, text: &str) -> Result<()> {
        store.put_new(&name(text), Body::Bytes(b"1234"))
    }

    #[test]
    fn the_chosen_call_fails_and_the_others_do_not() {
        let store = FaultyStore::new(MemoryStore::new());
        store.inject(When::Call(2), Fault::Fail(ErrorKind::Full));
        put(&store, "a").unwrap();
        assert_eq!(put(&store, "b").unwrap_err().kind(), ErrorKind::Full);
        put(&store, "b").unwrap();
        assert_eq!((store.calls(), store.calls_of(Operation::Put)), (3, 3));
    }

    #[test]
    fn a_lost_reply_leaves_the_effect() {
        let store = FaultyStore::new(MemoryStore::new());
        store.inject(
            When::CallOf(Operation::Put, 1),
            Fault::LoseReply(ErrorKind::Transient),
        );
        assert!(put(&store, "a").unwrap_err().is_transient());
        assert_eq!(store.get(&name("a"), 4).unwrap(), b"1234");
    }

    #[test]
    fn after_a_crash_nothing_works_until_the_reset() {
        for (fault, survives) in [(Fault::CrashBefore, false), (Fault::CrashAfter, true)] {
            let store = FaultyStore::new(MemoryStore::new());
            store.inject(When::Call(1), fault);
            put(&store, "a").unwrap_err();
            assert!(store.has_crashed());
            assert_eq!(put(&store, "b").unwrap_err().kind(), ErrorKind::Other);
            assert_eq!(store.inner().get(&name("a"), 4).is_ok(), survives);
            store.reset();
            put(&store, "b").unwrap();
        }
    }

    #[test]
    fn half_a_list_and_half_a_read_come_before_their_errors() {
        let store = FaultyStore::new(MemoryStore::new());
        put(&store, "a").unwrap();
        put(&store, "b").unwrap();
        store.inject(
            When::EveryOf(Operation::List, 1),
            Fault::Fail(ErrorKind::Transient),
        );
        let mut reported = 0;
        store.list("", &mut |_| reported += 1).unwrap_err();
        assert_eq!(reported, 1);

        store.inject(When::CallOf(Operation::GetRange, 1), Fault::ShortRead);
        let mut into = [0; 4];
        let error = store.get_range(&name("a"), 0, &mut into).unwrap_err();
        assert_eq!((error.kind(), &into), (ErrorKind::Truncated, b"12\0\0"));
    }
}
