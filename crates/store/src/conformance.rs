//! Whether a store keeps the contract.
//!
//! Every store of this crate passes it in its tests, and a person can run it against storage that
//! is about to be trusted. It tests what the contract says and nothing else, so that a store that
//! passes will do for everything built on the contract; what it cannot test is durability.
//!
//! **Invariant:** it touches only objects below `probe/`, and leaves none behind unless the store
//! fails to delete.

mod room;

mod listing;
mod objects;
mod together;

use crate::contract::Store;
use room::{Outcome, Point, Room, in_parallel, said};

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

fn points() -> impl Iterator<Item = Point> {
    objects::POINTS
        .into_iter()
        .chain(listing::POINTS)
        .chain(together::POINTS)
}

fn clear(store: &dyn Store) -> Outcome {
    let mut names = Vec::new();
    store
        .list(FOLDER, &mut |object| names.push(object.name))
        .map_err(said)?;
    in_parallel(store.connections(), &names, |name| {
        store.delete(name).map_err(said)
    })
}

#[cfg(test)]
mod tests;
