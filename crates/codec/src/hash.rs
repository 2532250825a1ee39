//! The hash tree of an object: its final hash, its block table and the hash of its first part, in one pass.
//!
//! BLAKE3 is a tree, and 64 KiB is a level of it. The chaining values of that level are kept while the bytes go
//! by; the block table is made of them and the final hash is their merge, so locating damage costs no second
//! pass over the data (`docs/decisions/0003-block-table-is-a-level-of-the-hash-tree.md`).

use blake3::Hasher;
use blake3::hazmat::{HasherExt, Mode, merge_subtrees_non_root, merge_subtrees_root};

use crate::id::ObjectHash;

/// Bytes in a block of the table.
pub const BLOCK_BYTES: usize = 65_536;
/// Bytes of an entry in the table.
pub(crate) const BLOCK_ENTRY_BYTES: usize = 16;

type ChainingValue = [u8; 32];

/// Hashes an object while it is written or read.
#[derive(Clone, Debug)]
pub struct TreeHasher {
    closed: Vec<ChainingValue>,
    block: Hasher,
    block_length: usize,
}

impl Default for TreeHasher {
    fn default() -> Self {
        Self::new()
    }
}

impl TreeHasher {
    /// Starts at the object's first byte.
    #[must_use]
    pub fn new() -> Self {
        Self {
            closed: Vec::new(),
            block: Hasher::new(),
            block_length: 0,
        }
    }

    /// How many bytes went by.
    #[must_use]
    pub fn length(&self) -> u64 {
        (self.closed.len() * BLOCK_BYTES + self.block_length) as u64
    }

    /// Takes in the next bytes.
    pub fn update(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            // A full block is closed only when another byte follows: were it the only one, it would be the root.
            if self.block_length == BLOCK_BYTES {
                self.closed.push(self.block.finalize_non_root());
                self.block = Hasher::new();
                self.block
                    .set_input_offset((self.closed.len() * BLOCK_BYTES) as u64);
                self.block_length = 0;
            }
            let (now, later) = bytes.split_at(bytes.len().min(BLOCK_BYTES - self.block_length));
            self.block.update(now);
            self.block_length += now.len();
            bytes = later;
        }
    }

    /// The block table over everything so far; empty when one block holds it all.
    #[must_use]
    pub fn table(&self) -> Vec<u8> {
        if self.closed.is_empty() {
            return Vec::new();
        }
        let open = (self.block_length > 0).then(|| self.block.finalize_non_root());
        self.closed
            .iter()
            .chain(open.as_ref())
            .flat_map(|value| value.iter().take(BLOCK_ENTRY_BYTES).copied())
            .collect()
    }

    /// BLAKE3 of everything so far.
    #[must_use]
    pub fn hash(&self) -> ObjectHash {
        if self.closed.is_empty() {
            return ObjectHash(*self.block.finalize().as_bytes());
        }
        let mut values = self.closed.clone();
        if self.block_length > 0 {
            values.push(self.block.finalize_non_root());
        }
        match values.as_slice() {
            [_] => unreachable!("a block is closed only when another one has begun"),
            values => {
                let (left, right) = values.split_at(left_count(values.len()));
                ObjectHash(*merge_subtrees_root(&merge(left), &merge(right), Mode::Hash).as_bytes())
            }
        }
    }
}

/// The left subtree takes the largest power of two that leaves something for the right one.
fn left_count(count: usize) -> usize {
    count.next_power_of_two() / 2
}

fn merge(values: &[ChainingValue]) -> ChainingValue {
    match values {
        [value] => *value,
        values => {
            let (left, right) = values.split_at(left_count(values.len()));
            merge_subtrees_non_root(&merge(left), &merge(right), Mode::Hash)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_plain_blake3_at_every_size_and_split() {
        let bytes: Vec<u8> = (0..700_000_u32)
            .map(|index| (index * 7 % 251) as u8)
            .collect();
        for length in [
            0, 1, 1024, 65_535, 65_536, 65_537, 131_072, 131_073, 196_608, 400_000, 700_000,
        ] {
            for step in [1_000_000, 65_536, 4_099] {
                let mut hasher = TreeHasher::new();
                bytes[..length]
                    .chunks(step)
                    .for_each(|part| hasher.update(part));
                assert_eq!(
                    hasher.hash().0,
                    *blake3::hash(&bytes[..length]).as_bytes(),
                    "{length} by {step}"
                );
                assert_eq!(hasher.length(), length as u64);
                let blocks = length.div_ceil(BLOCK_BYTES);
                assert_eq!(
                    hasher.table().len(),
                    if blocks > 1 {
                        blocks * BLOCK_ENTRY_BYTES
                    } else {
                        0
                    }
                );
            }
        }
    }

    #[test]
    fn a_changed_byte_changes_the_entry_of_its_block_only() {
        let mut bytes = vec![1_u8; 300_000];
        let table = |bytes: &[u8]| {
            let mut hasher = TreeHasher::new();
            hasher.update(bytes);
            hasher.table()
        };
        let before = table(&bytes);
        bytes[70_000] ^= 1;
        let after = table(&bytes);
        let changed: Vec<usize> = before
            .chunks(16)
            .zip(after.chunks(16))
            .enumerate()
            .filter(|(_, (a, b))| a != b)
            .map(|(block, _)| block)
            .collect();
        assert_eq!(changed, [1]);
    }
}
