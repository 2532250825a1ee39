//! Which chunks need not be stored again: asked and told by all workers of a run at once.
//!
//! Invariant: of all who ask for a chunk that the repository does not have, exactly one is told to store it.

use std::sync::{Arc, Mutex};

use lifeboat_codec::ChunkId;

use crate::lookup::{IdMap, Lookup};

const SHARDS: usize = 64;

/// Chunks that the repository has, or that this run took on.
pub(crate) struct Known {
    pub(crate) lookup: Arc<Lookup>,
    pub(crate) domain: u32,
    shards: Vec<Mutex<IdMap<()>>>,
}

impl Known {
    pub(crate) fn new(lookup: Arc<Lookup>, domain: u32) -> Self {
        Self {
            lookup,
            domain,
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
        }
    }

    fn stored(&self, id: ChunkId) -> bool {
        self.lookup.find(self.domain, id).is_some()
    }

    fn shard(&self, id: ChunkId) -> &Mutex<IdMap<()>> {
        // The last byte: the map itself uses the first ones.
        &self.shards[usize::from(id.0[15]) % SHARDS]
    }

    /// True for the first one who asks for a chunk that the repository does not have: it must store it.
    pub(crate) fn take_on(&self, id: ChunkId) -> bool {
        !self.stored(id)
            && self
                .shard(id)
                .lock()
                .expect("no thread panics in a shard")
                .insert(id, ())
                .is_none()
    }

    /// True when the chunk is stored, or will be when this run ends well.
    pub(crate) fn has(&self, id: ChunkId) -> bool {
        self.stored(id)
            || self
                .shard(id)
                .lock()
                .expect("no thread panics in a shard")
                .contains_key(&id)
    }
}
