//! What was copied already: old content or tree, and what it became.
//!
//! Snapshots of one app are alike; without this memory each would be read whole again. It is bounded: what it forgets is
//! copied once more, and found to be stored.

use std::collections::HashMap;

use lifeboat_codec::ChunkId;

/// Room for what is remembered.
const BYTES_MAX: usize = 96 << 20;
/// What an entry costs beside the bytes of a reference.
const ENTRY_BYTES: usize = 64;

/// The hash of an old reference and its domain.
pub(super) type Key = [u8; 16];

/// Names the old content `reference` of `domain`; `label` keeps kinds of references apart.
pub(super) fn key(label: u8, domain: u32, reference: &[u8]) -> Key {
    let hash = blake3::Hasher::new()
        .update(&[label])
        .update(&domain.to_le_bytes())
        .update(reference)
        .finalize();
    let (key, _) = hash
        .as_bytes()
        .split_first_chunk()
        .expect("a hash is longer than a key");
    *key
}

/// Where content is in the new repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// One chunk.
    Chunk(ChunkId),
    /// An encoded stream reference.
    Stream(Box<[u8]>),
}

/// What was copied.
#[derive(Default)]
pub(super) struct Memo {
    places: HashMap<Key, Place>,
    bytes: usize,
}

impl Memo {
    pub(super) fn get(&self, key: Key) -> Option<&Place> {
        self.places.get(&key)
    }

    /// Remembers, while there is room.
    pub(super) fn keep(&mut self, key: Key, place: &Place) {
        let bytes = ENTRY_BYTES
            + if let Place::Stream(reference) = place {
                reference.len()
            } else {
                0
            };
        if self.bytes + bytes <= BYTES_MAX && self.places.insert(key, place.clone()).is_none() {
            self.bytes += bytes;
        }
    }
}
