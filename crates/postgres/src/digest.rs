//! What identifies a table's rows: their number, and a sum of keyed hashes that does not depend on their order.
//!
//! Each line of `COPY` in text form is a row, and no row has a newline inside. The sum sees a row that is there twice,
//! and whoever does not know the key learns nothing about equal tables (docs/postgres.md, "Rows and hash").

use std::{hash::Hasher as _, mem};

use siphasher::sip128::{Hasher128 as _, SipHasher24};

use crate::parts::Digest;

/// Counts and hashes the lines of a stream, in whatever pieces it comes.
pub struct Digester {
    /// Of no bytes, with the key.
    empty: SipHasher24,
    rows: u64,
    len_bytes: u64,
    sum: u128,
    /// The beginning of a line whose end has not come, and its length.
    begun: Option<(SipHasher24, u64)>,
    /// The ends of rows that nobody has taken, where somebody wants them.
    ends: Option<Vec<RowEnd>>,
}

/// Where a row ends in its stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowEnd {
    /// Behind its line's end, in bytes from the beginning.
    pub at: u64,
    /// How rare it is among the ends of rows: of all bytes of a stream, one in 2⁶⁴ ÷ `rarity` has an end that is as rare or
    /// rarer. It follows from the row's content alone, and from the key.
    pub rarity: u64,
}

/// Ends that are less rare are not told: there is one for each 8 KiB.
const RARITY_MAX: u64 = 1 << (64 - 13);

impl Digester {
    /// Begins with `key`, which is the same for all tables of one family of snapshots; its first 16 bytes are used.
    pub fn new(key: &[u8; 32]) -> Self {
        let [key, _] = key.as_chunks().0 else {
            unreachable!("32 bytes are two times 16");
        };
        Self {
            empty: SipHasher24::new_with_key(key),
            rows: 0,
            len_bytes: 0,
            sum: 0,
            begun: None,
            ends: None,
        }
    }

    /// From now on, it keeps the rarer ends of rows for [`take_ends`](Self::take_ends).
    pub fn keep_ends(&mut self) {
        self.ends.get_or_insert_default();
    }

    /// The ends of rows since the last question; nothing where they are not kept.
    pub fn take_ends(&mut self) -> Option<Vec<RowEnd>> {
        self.ends.as_mut().map(mem::take)
    }

    /// Takes the next bytes of the stream.
    pub fn feed(&mut self, bytes: &[u8]) {
        let before = self.len_bytes;
        self.len_bytes += bytes.len() as u64;
        let mut start = 0;
        for end in memchr::memchr_iter(b'\n', bytes) {
            let (mut hasher, begun) = self.begun.take().unwrap_or((self.empty, 0));
            hasher.write(&bytes[start..end]);
            self.rows += 1;
            let hash = hasher.finish128();
            self.sum = self.sum.wrapping_add(hash.as_u128());
            if let Some(ends) = &mut self.ends {
                // The longer the row, the likelier its end: so ends are as frequent in bytes whatever rows there are.
                let length = begun + (end + 1 - start) as u64;
                if hash.h1 < length.saturating_mul(RARITY_MAX) {
                    let at = before + end as u64 + 1;
                    let rarity = hash.h1 / length;
                    ends.push(RowEnd { at, rarity });
                }
            }
            start = end + 1;
        }
        if start < bytes.len() {
            let (hasher, begun) = self.begun.get_or_insert((self.empty, 0));
            hasher.write(&bytes[start..]);
            *begun += (bytes.len() - start) as u64;
        }
    }

    /// How many bytes it has taken.
    pub fn len_bytes(&self) -> u64 {
        self.len_bytes
    }

    /// What the stream was; nothing when it did not end with a line's end.
    pub fn finish(&self) -> Option<Digest> {
        self.begun.is_none().then_some(Digest {
            rows: self.rows,
            len_bytes: self.len_bytes,
            sum: self.sum,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: [u8; 32] = *b"the first half of it is the key.";

    fn digest(pieces: &[&[u8]]) -> Digest {
        let mut digester = Digester::new(&KEY);
        for piece in pieces {
            digester.feed(piece);
        }
        digester.finish().unwrap()
    }

    /// SipHash-2-4 with 128 bits, by the paper.
    fn by_the_paper(key: &[u8], line: &[u8]) -> u128 {
        let word = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().unwrap());
        let (k0, k1) = (word(&key[..8]), word(&key[8..16]));
        let mut v = [
            k0 ^ 0x736f_6d65_7073_6575,
            k1 ^ 0x646f_7261_6e64_6f6d ^ 0xee,
            k0 ^ 0x6c79_6765_6e65_7261,
            k1 ^ 0x7465_6462_7974_6573,
        ];
        let rounds = |v: &mut [u64; 4], count| {
            for _ in 0..count {
                v[0] = v[0].wrapping_add(v[1]);
                v[1] = v[1].rotate_left(13) ^ v[0];
                v[0] = v[0].rotate_left(32);
                v[2] = v[2].wrapping_add(v[3]);
                v[3] = v[3].rotate_left(16) ^ v[2];
                v[0] = v[0].wrapping_add(v[3]);
                v[3] = v[3].rotate_left(21) ^ v[0];
                v[2] = v[2].wrapping_add(v[1]);
                v[1] = v[1].rotate_left(17) ^ v[2];
                v[2] = v[2].rotate_left(32);
            }
        };
        let mut padded = line.to_vec();
        padded.resize(line.len() / 8 * 8 + 7, 0);
        padded.push(line.len() as u8);
        for word in padded.chunks(8).map(word) {
            v[3] ^= word;
            rounds(&mut v, 2);
            v[0] ^= word;
        }
        v[2] ^= 0xee;
        rounds(&mut v, 4);
        let low = v[0] ^ v[1] ^ v[2] ^ v[3];
        v[1] ^= 0xdd;
        rounds(&mut v, 4);
        u128::from(v[0] ^ v[1] ^ v[2] ^ v[3]) << 64 | u128::from(low)
    }

    fn sum(lines: &[&[u8]]) -> u128 {
        lines
            .iter()
            .map(|line| by_the_paper(&KEY, line))
            .fold(0, u128::wrapping_add)
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

    /// Another end is a lost deduplication for everybody's rows.
    #[test]
    fn rare_ends_of_rows_are_the_golden_ones() {
        let mut digester = Digester::new(&KEY);
        digester.keep_ends();
        for row in 0..2000 {
            digester.feed(format!("{row}\tsome words\n").as_bytes());
        }
        let ends = digester.take_ends().unwrap();
        let found: Vec<_> = ends.iter().map(|end| (end.at, end.rarity)).collect();
        assert_eq!(found, GOLDEN_ENDS);
    }

    const GOLDEN_ENDS: [(u64, u64); 4] = [
        (6430, 83_071_697_455_165),
        (7480, 784_271_333_855_285),
        (16_026, 1_475_829_331_662_549),
        (24_426, 6_066_292_398_957),
    ];

    #[test]
    fn rare_ends_of_rows_are_as_frequent_in_short_rows_as_in_long_ones_and_follow_the_content() {
        let stream = |length: usize, count: u32| -> Vec<u8> {
            (0..count)
                .flat_map(|row| format!("{row:0>length$}\n").into_bytes())
                .collect()
        };
        let ends = |bytes: &[u8], piece: usize| {
            let mut digester = Digester::new(&KEY);
            digester.keep_ends();
            let mut ends = Vec::new();
            for piece in bytes.chunks(piece) {
                digester.feed(piece);
                ends.extend(digester.take_ends().unwrap());
            }
            ends
        };
        for (length, count) in [(9, 400_000), (99, 40_000), (1999, 2000)] {
            let bytes = stream(length, count);
            let found = ends(&bytes, 1 << 20);
            assert!(
                (350..650).contains(&found.len()),
                "{length}: {}",
                found.len()
            );
            let rare = found
                .iter()
                .filter(|end| end.rarity < RARITY_MAX / 8)
                .count();
            assert!((30..100).contains(&rare), "{length}: {rare}");
            assert!(found.iter().all(|end| bytes[end.at as usize - 1] == b'\n'));
            assert_eq!(ends(&bytes, 777), found, "however the stream is cut");
            let behind = [b"one row more\n".as_slice(), &bytes].concat();
            let moved = ends(&behind, 1 << 20).into_iter().filter(|end| end.at > 13);
            let moved: Vec<_> = moved
                .map(|end| RowEnd {
                    at: end.at - 13,
                    ..end
                })
                .collect();
            assert_eq!(moved, found);
        }
        let mut digester = Digester::new(&KEY);
        digester.feed(&stream(99, 40_000));
        assert_eq!(digester.take_ends(), None);
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
        let sum = digest(&[b"1\tann\n2\t\\N\n"]).sum;
        assert_eq!(format!("{sum:032x}"), "872a7b1d39a937f58900a2c29068654e");
    }
}
