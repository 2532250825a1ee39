//! What identifies a table's rows: their number, and a sum of keyed hashes that does not depend on their order.
//!
//! Each line of `COPY` in text form is a row, and no row has a newline inside. The sum sees a row that is there twice,
//! and whoever does not know the key learns nothing about equal tables (docs/postgres.md, "Rows and hash").

use zeroize::{Zeroize as _, Zeroizing};

use crate::parts::Digest;

/// Counts and hashes the lines of a stream, in whatever pieces it comes.
pub struct Digester {
    key: Zeroizing<[u8; 32]>,
    rows: u64,
    len_bytes: u64,
    /// Least significant first.
    sum: [u64; 4],
    /// The beginning of a line whose end has not come.
    begun: blake3::Hasher,
    has_begun: bool,
}

impl Digester {
    /// Begins with `key`, which is the same for all tables of one family of snapshots.
    pub fn new(key: &[u8; 32]) -> Self {
        Self {
            key: Zeroizing::new(*key),
            rows: 0,
            len_bytes: 0,
            sum: [0; 4],
            begun: blake3::Hasher::new_keyed(key),
            has_begun: false,
        }
    }

    /// Takes the next bytes of the stream.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.len_bytes += bytes.len() as u64;
        let mut start = 0;
        for end in memchr::memchr_iter(b'\n', bytes) {
            let line = &bytes[start..end];
            start = end + 1;
            let hash = if self.has_begun {
                self.begun.update(line);
                let hash = self.begun.finalize();
                self.begun.reset();
                self.has_begun = false;
                hash
            } else {
                blake3::keyed_hash(&self.key, line)
            };
            self.add(hash.as_bytes());
        }
        if start < bytes.len() {
            self.begun.update(&bytes[start..]);
            self.has_begun = true;
        }
    }

    /// How many bytes it has taken.
    pub fn len_bytes(&self) -> u64 {
        self.len_bytes
    }

    /// What the stream was; nothing when it did not end with a line's end.
    pub fn finish(&self) -> Option<Digest> {
        let mut sum = [0; 32];
        for (bytes, word) in sum.chunks_exact_mut(8).zip(self.sum) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
        (!self.has_begun).then_some(Digest {
            rows: self.rows,
            len_bytes: self.len_bytes,
            sum,
        })
    }

    fn add(&mut self, hash: &[u8; 32]) {
        self.rows += 1;
        let mut carry = false;
        for (word, bytes) in self.sum.iter_mut().zip(hash.as_chunks().0) {
            let (sum, over) = word.overflowing_add(u64::from_le_bytes(*bytes));
            let (sum, over_again) = sum.overflowing_add(u64::from(carry));
            *word = sum;
            carry = over || over_again;
        }
    }
}

impl Drop for Digester {
    fn drop(&mut self) {
        self.begun.zeroize();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: [u8; 32] = [7; 32];

    fn digest(pieces: &[&[u8]]) -> Digest {
        let mut digester = Digester::new(&KEY);
        for piece in pieces {
            digester.feed(piece);
        }
        digester.finish().unwrap()
    }

    /// The sum as the document says it, by the longest way.
    fn sum(lines: &[&[u8]]) -> [u8; 32] {
        let mut sum = [0_u8; 32];
        for line in lines {
            let mut carry = 0;
            for (sum, byte) in sum
                .iter_mut()
                .zip(blake3::keyed_hash(&KEY, line).as_bytes())
            {
                let value = u16::from(*sum) + u16::from(*byte) + carry;
                *sum = value.to_le_bytes()[0];
                carry = value >> 8;
            }
        }
        sum
    }

    #[test]
    fn the_sum_is_that_of_the_document_however_the_stream_is_cut() {
        let lines: Vec<Vec<u8>> = (0..300_u16)
            .map(|at| vec![b'a' + (at % 26) as u8; usize::from(at) * 5])
            .collect();
        let lines: Vec<&[u8]> = lines.iter().map(Vec::as_slice).collect();
        let mut stream = lines.join(&b'\n');
        stream.push(b'\n');
        let expected = Digest {
            rows: 300,
            len_bytes: stream.len() as u64,
            sum: sum(&lines),
        };
        for len_bytes in [1, 2, 63, 1000, 4096, stream.len()] {
            let pieces: Vec<_> = stream.chunks(len_bytes).collect();
            assert_eq!(digest(&pieces), expected, "{len_bytes}");
        }
    }

    #[test]
    fn the_order_does_not_matter_and_a_row_that_is_there_twice_does() {
        assert_eq!(digest(&[b"a\nb\n"]), digest(&[b"b\na\n"]));
        assert_ne!(digest(&[b"a\na\n"]).sum, digest(&[b"b\nb\n"]).sum);
        assert_ne!(digest(&[b"a\nb\nb\n"]).sum, digest(&[b"a\nb\n"]).sum);
        assert_ne!(digest(&[b"\n"]), digest(&[]));
    }

    #[test]
    fn a_stream_that_ends_within_a_line_has_no_digest() {
        let mut digester = Digester::new(&KEY);
        digester.feed(b"a\nb");
        assert_eq!(digester.len_bytes(), 3);
        assert_eq!(digester.finish(), None);
    }

    #[test]
    fn the_digest_is_the_one_that_stored_snapshots_have() {
        let hex: String = digest(&[b"1\tann\n2\t\\N\n"])
            .sum
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        assert_eq!(
            hex,
            "489e34221353613d236cf5207ef00299314ffa18448ed7c5bdb5175cf5989edb"
        );
    }
}
