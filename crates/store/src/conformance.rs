//! Whether a store keeps the contract.
//!
//! Every store of this crate passes it in its tests, and a person can run it against storage that
//! is about to be trusted. It tests what the contract says and nothing else, so that a store that
//! passes will do for everything built on the contract; what it cannot test is durability.
//!
//! **Invariant:** it touches only objects below `probe/`, and leaves none behind unless the store
//! fails to delete.

mod listing;
mod objects;
mod together;

use std::fmt;

use crate::body::Body;
use crate::contract::Store;
use crate::error::{Error, ErrorKind};
use crate::name::ObjectName;

/// The folder of all objects that the suite puts.
const FOLDER: &str = "probe/";

/// A point of the contract that a store does not keep.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The point, as a sentence without full stop.
    pub point: &'static str,
    /// What was seen instead.
    pub seen: String,
}

/// Tests every point of the contract and returns those that the store does not keep.
///
/// The store needs no objects and may have some, except below `probe/`: what an earlier, killed run
/// left there is deleted. `report` hears of every point after its test. About 30 MB are written.
pub fn conformance(
    store: &dyn Store,
    report: &mut dyn FnMut(&'static str, Option<&Failure>),
) -> Vec<Failure> {
    let mut failures = Vec::new();
    let mut judge = |point: &'static str, outcome: Outcome| {
        let failure = outcome.err().map(|seen| Failure { point, seen });
        report(point, failure.as_ref());
        failures.extend(failure);
    };
    judge("what an earlier probe left can be deleted", clear(store));
    for (number, (point, test)) in points().enumerate() {
        let room = Room {
            store,
            folder: format!("{FOLDER}{number}/"),
        };
        judge(point, test(&room));
    }
    judge("what the probe put can be deleted", clear(store));
    failures
}

/// `Err` says what was seen instead of what the point says.
type Outcome = Result<(), String>;

/// A point of the contract with its test.
type Point = (&'static str, fn(&Room<'_>) -> Outcome);

fn points() -> impl Iterator<Item = Point> {
    objects::POINTS
        .into_iter()
        .chain(listing::POINTS)
        .chain(together::POINTS)
}

/// A store and the folder in it that one test has for itself.
struct Room<'a> {
    store: &'a dyn Store,
    folder: String,
}

impl Room<'_> {
    fn name(&self, text: &str) -> ObjectName {
        ObjectName::new(format!("{}{text}", self.folder)).expect("the suite's names are valid")
    }

    fn put(&self, text: &str, bytes: &[u8]) -> Outcome {
        self.store
            .put_new(&self.name(text), Body::Bytes(bytes))
            .map_err(said)
    }

    /// Expects that an object has these bytes, read as a whole and as a range.
    fn expect_bytes(&self, text: &str, bytes: &[u8]) -> Outcome {
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
    fn listed(&self) -> Result<Vec<String>, String> {
        self.listed_below("")
    }

    /// The names listed below a folder of this test's, sorted, without this test's folder.
    fn listed_below(&self, prefix: &str) -> Result<Vec<String>, String> {
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

#[expect(clippy::needless_pass_by_value, reason = "it is what `map_err` calls")]
fn said(error: Error) -> String {
    match std::error::Error::source(&error) {
        None => format!("{error}"),
        Some(source) => format!("{error} ({source})"),
    }
}

fn expect(holds: bool, otherwise: impl FnOnce() -> String) -> Outcome {
    if holds { Ok(()) } else { Err(otherwise()) }
}

/// Expects a call to fail with one kind of error.
fn expect_kind<T: fmt::Debug>(
    what: &str,
    kind: ErrorKind,
    result: crate::error::Result<T>,
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
fn pattern(seed: u64, len: usize) -> Vec<u8> {
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

fn clear(store: &dyn Store) -> Outcome {
    let mut names = Vec::new();
    store
        .list(FOLDER, &mut |object| names.push(object.name))
        .map_err(said)?;
    together::in_parallel(store.connections(), &names, |name| {
        store.delete(name).map_err(said)
    })
}

#[cfg(test)]
mod tests;
