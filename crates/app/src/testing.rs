//! What the tests of this crate share: someone who watches, and adds up what is told.

use std::collections::HashMap;
use std::sync::Mutex;

use lifeboat_repository::{Counter, Progress};

/// Adds up what it is told, and remembers how often.
#[derive(Default)]
pub(crate) struct Watcher {
    told: Mutex<HashMap<Counter, Vec<u64>>>,
}

impl Watcher {
    /// The sum of what was told of `counter`.
    pub(crate) fn sum(&self, counter: Counter) -> u64 {
        self.amounts(counter).iter().sum()
    }

    /// What was told of `counter`, one amount for each time.
    pub(crate) fn amounts(&self, counter: Counter) -> Vec<u64> {
        let told = self.told.lock().unwrap();
        told.get(&counter).cloned().unwrap_or_default()
    }
}

impl Progress for Watcher {
    fn phase(&self, _what: &str) {}

    fn expect(&self, _counter: Counter, _amount: u64) {}

    fn count(&self, counter: Counter, amount: u64) {
        let mut told = self.told.lock().unwrap();
        told.entry(counter).or_default().push(amount);
    }

    fn problem(&self, what: &str) {
        panic!("nothing is wrong, but it was told: {what}");
    }
}
