//! The same work on many items, by scoped and joined threads that take one item after the other.
//!
//! Each thread keeps a state of its own (buffers, contexts), so that nothing is allocated for an item.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use lifeboat_store::Store;

/// No more threads than this, whatever a store says serves it best: each keeps buffers.
const THREADS_MAX: usize = 16;

/// How many threads read `store` and compute with what they read.
pub(crate) fn threads(store: &dyn Store) -> usize {
    let cores = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    store.connections().max(cores).min(THREADS_MAX)
}

/// Does `each` for every item, unless `stop` is set before.
pub(crate) fn for_each<T: Sync, S: Default>(
    items: &[T],
    threads: usize,
    stop: &AtomicBool,
    each: impl Fn(&mut S, &T) + Sync,
) {
    let next = AtomicUsize::new(0);
    let worker = || {
        let mut state = S::default();
        while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
            if stop.load(Ordering::Relaxed) {
                return;
            }
            each(&mut state, item);
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..threads.min(items.len()) {
            scope.spawn(worker);
        }
        worker();
    });
}
