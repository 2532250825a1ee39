//! What the tests of the suite are written with: a folder of their own in the store, expectations
//! that say what was seen instead, and callers at the same time.
//!
//! **Invariant:** nothing here panics because of what a store does; it is told as an outcome.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use crate::body::Body;
use crate::contract::Store;
use crate::error::{Error, ErrorKind, Result as StoreResult};
use crate::name::ObjectName;

/// `Err` says what was seen instead of what the point says.
pub(super) type Outcome = Result<(), String>;

/// A point of the contract with its test.
pub(super) type Point = (&'static str, fn(&Room<'_>) -> Outcome);

/// A store and the folder in it that one test has for itself.
pub(super) struct Room<'a> {
    pub(super) store: &'a dyn Store,
    pub(super) folder: String,
}

impl Room<'_> {
    /// The name of an object of this test's.
    pub(super) fn name(&self, text: &str) -> ObjectName {
        ObjectName::new(format!("{}{text}", self.folder)).expect("the suite's names are valid")
    }

    /// Puts an object of this test's.
    pub(super) fn put(&self, text: &str, bytes: &[u8]) -> Outcome {
        self.store
            .put_new(&self.name(text), Body::Bytes(bytes))
            .map_err(said)
    }

    /// Expects that an object has these bytes, read as a whole and as a range.
    pub(super) fn expect_bytes(&self, text: &str, bytes: &[u8]) -> Outcome {
        let len = bytes.len() as u64;
        let got = self.store.get(&self.name(text), len).map_err(said)?;
        expect(got == bytes, || {
            format!("get returned other bytes than the {len} that were put")
        })?;
        let mut range = vec![0; bytes.len()];
        self.store
            .get_range(&self.name(text), 0, &mut range)
            .map_err(said)?;
        expect(range == bytes, || {
            format!("a ranged get returned other bytes than the {len} put")
        })
    }

    /// The names listed below this test's folder, sorted, without the folder.
    pub(super) fn listed(&self) -> Result<Vec<String>, String> {
        self.listed_below("")
    }

    /// The names listed below a folder of this test's, sorted, without this test's folder.
    pub(super) fn listed_below(&self, prefix: &str) -> Result<Vec<String>, String> {
        let mut names = Vec::new();
        let prefix = format!("{}{prefix}", self.folder);
        let mut strange = None;
        self.store
            .list(
                &prefix,
                &mut |object| match object.name.as_str().strip_prefix(&self.folder) {
                    Some(name) => names.push(name.to_owned()),
                    None => strange = Some(object.name),
                },
            )
            .map_err(said)?;
        names.sort();
        match strange {
            None => Ok(names),
            Some(name) => Err(format!("the list of {prefix} reports {name}")),
        }
    }
}

/// What an error says, with its cause.
#[expect(clippy::needless_pass_by_value, reason = "it is what `map_err` calls")]
pub(super) fn said(error: Error) -> String {
    match std::error::Error::source(&error) {
        None => format!("{error}"),
        Some(source) => format!("{error} ({source})"),
    }
}

/// Says what was seen instead unless an expectation holds.
pub(super) fn expect(holds: bool, otherwise: impl FnOnce() -> String) -> Outcome {
    if holds { Ok(()) } else { Err(otherwise()) }
}

/// Expects a call to fail with one kind of error.
pub(super) fn expect_kind<T: fmt::Debug>(
    what: &str,
    kind: ErrorKind,
    result: StoreResult<T>,
) -> Outcome {
    match result {
        Err(error) if error.kind() == kind => Ok(()),
        Err(error) => Err(format!(
            "{what} is {:?} instead of {kind:?}: {}",
            error.kind(),
            said(error)
        )),
        Ok(_) => Err(format!("{what} succeeds instead of failing as {kind:?}")),
    }
}

/// Bytes that differ from place to place and from seed to seed.
pub(super) fn pattern(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        // xorshift64: nothing here has to be unpredictable.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// How many callers there are at the same time, at most.
pub(super) const THREADS: usize = 8;

/// Calls `work` for every item, several at a time, and returns the first failure.
pub(super) fn in_parallel<T: Sync>(
    threads: usize,
    items: &[T],
    work: impl Fn(&T) -> Outcome + Sync,
) -> Outcome {
    let next = AtomicUsize::new(0);
    let failure = FirstFailure::default();
    thread::scope(|scope| {
        for _ in 0..threads.clamp(1, THREADS) {
            scope.spawn(|| {
                while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Err(seen) = work(item) {
                        failure.keep(seen);
                        return;
                    }
                }
            });
        }
    });
    failure.outcome()
}

/// The failure that several callers at the same time met first.
#[derive(Default)]
pub(super) struct FirstFailure(Mutex<Option<String>>);

impl FirstFailure {
    /// Keeps what a caller saw, unless another one was earlier.
    pub(super) fn keep(&self, seen: String) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get_or_insert(seen);
    }

    pub(super) fn outcome(self) -> Outcome {
        match self.0.into_inner().unwrap_or_else(PoisonError::into_inner) {
            None => Ok(()),
            Some(seen) => Err(seen),
        }
    }
}
