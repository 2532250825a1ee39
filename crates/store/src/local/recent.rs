//! A small map that forgets what was not used for longest.
//!
//! **Invariant:** it never holds more entries than its capacity, because each is an open handle.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;

/// The most recently used entries.
pub(super) struct Recent<K, V> {
    capacity: usize,
    /// Each value with the tick of its last use.
    entries: HashMap<K, (V, u64)>,
    tick: u64,
}

impl<K: Hash + Eq + Clone, V: Clone> Recent<K, V> {
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            capacity,
            entries: HashMap::with_capacity(capacity),
            tick: 0,
        }
    }

    /// Returns an entry and counts it as used.
    pub(super) fn get<Q>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.tick += 1;
        let (value, last_use) = self.entries.get_mut(key)?;
        *last_use = self.tick;
        Some(value.clone())
    }

    /// Adds or replaces an entry; the one that was not used for longest makes room.
    pub(super) fn insert(&mut self, key: K, value: V) {
        self.tick += 1;
        if self.entries.len() >= self.capacity && !self.entries.contains_key(&key) {
            // A scan of a hundred entries costs less than the system call that follows a miss.
            let oldest = self
                .entries
                .iter()
                .min_by_key(|(_, (_, last_use))| *last_use);
            if let Some(oldest) = oldest.map(|(key, _)| key.clone()) {
                self.entries.remove(&oldest);
            }
        }
        self.entries.insert(key, (value, self.tick));
    }

    pub(super) fn remove<Q>(&mut self, key: &Q)
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.entries.remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_entry_not_used_for_longest_makes_room() {
        let mut recent = Recent::new(2);
        recent.insert("a", 1);
        recent.insert("b", 2);
        assert_eq!(recent.get("a"), Some(1));
        recent.insert("c", 3);
        assert_eq!(recent.get("b"), None);
        assert_eq!((recent.get("a"), recent.get("c")), (Some(1), Some(3)));
    }

    #[test]
    fn replacing_an_entry_pushes_nothing_out() {
        let mut recent = Recent::new(2);
        recent.insert("a", 1);
        recent.insert("b", 2);
        recent.insert("b", 3);
        assert_eq!((recent.get("a"), recent.get("b")), (Some(1), Some(3)));
        recent.remove("a");
        assert_eq!(recent.get("a"), None);
    }
}
