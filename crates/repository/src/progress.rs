//! How long work speaks to whoever watches it: a terminal, a log, nobody.

/// What is counted while work goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Counter {
    /// Files, database streams included.
    Files,
    /// Bytes read from a source, or written to a target.
    Bytes,
    /// Bytes that the repository did not have, before compression.
    NewBytes,
    /// Bytes that were stored.
    StoredBytes,
    /// Objects of the repository that were read.
    Objects,
}

/// Receives what happens; called from many threads at once, so every method is quick.
pub trait Progress: Sync {
    /// The next part of the work begins; `what` is a short sentence without a full stop.
    fn phase(&self, what: &str);

    /// There will be `amount` more of `counter` than was known before.
    fn expect(&self, counter: Counter, amount: u64);

    /// `amount` more of `counter` are done.
    fn count(&self, counter: Counter, amount: u64);

    /// One item could not be handled; the work goes on. `what` is a sentence that names the item.
    fn problem(&self, what: &str);
}

/// Nobody watches.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Progress for Silent {
    fn phase(&self, _what: &str) {}

    fn expect(&self, _counter: Counter, _amount: u64) {}

    fn count(&self, _counter: Counter, _amount: u64) {}

    fn problem(&self, _what: &str) {}
}
