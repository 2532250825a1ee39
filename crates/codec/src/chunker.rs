//! Cuts a stream into chunks by content: FastCDC with a keyed gear table (`docs/format.md` §5).
//!
//! Cut points are stored data: a changed cut point is a lost deduplication. Golden vectors pin them. Nothing rests
//! on the secrecy of the table; sizes are hidden by packs.

use std::collections::VecDeque;

use fastcdc::v2020::MASKS;

use crate::key::{Secret, context};

/// No chunk is larger.
pub const CHUNK_MAX: usize = 16 << 20;

/// How a stream is cut; stored with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Profile {
    /// Files and media: 256 KiB, 1 MiB, 4 MiB.
    Files = 1,
    /// Database streams: 16 KiB, 64 KiB, 256 KiB.
    Database = 2,
    /// Trees, lists, manifests: 8 KiB, 32 KiB, 128 KiB.
    Metadata = 3,
}

impl Profile {
    /// The profile with this number.
    #[must_use]
    pub fn from_number(number: u64) -> Option<Self> {
        match number {
            1 => Some(Self::Files),
            2 => Some(Self::Database),
            3 => Some(Self::Metadata),
            _ => None,
        }
    }

    /// The smallest chunk in bytes, but for a stream's last; a shorter stream is one chunk.
    #[must_use]
    pub fn min_bytes(self) -> usize {
        self.average_bytes() / 4
    }

    /// The size that cut points aim at.
    #[must_use]
    pub fn average_bytes(self) -> usize {
        match self {
            Self::Files => 1 << 20,
            Self::Database => 64 << 10,
            Self::Metadata => 32 << 10,
        }
    }

    /// The largest chunk in bytes.
    #[must_use]
    pub fn max_bytes(self) -> usize {
        self.average_bytes() * 4
    }
}

/// Where a stream may be cut besides, as whoever makes it knows: behind a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    /// Bytes from the stream's beginning.
    pub at: u64,
    /// One in 2⁶⁴ ÷ `rarity` bytes has an end as rare as this or rarer; it follows from the content before it.
    pub rarity: u64,
}

/// Length of the chunk that begins at `at` and is cut at one of `ends`, which are in order: the first rare one before the
/// average, or else the first less rare one behind it. Those that are passed are dropped.
///
/// What is cut so needs no gear hash, and a chunk's last row is whole.
pub fn cut_at_end(profile: Profile, at: u64, ends: &mut VecDeque<End>) -> Option<usize> {
    let (min, average) = (profile.min_bytes() as u64, profile.average_bytes() as u64);
    while ends.front().is_some_and(|end| end.at < at + min) {
        ends.pop_front();
    }
    // As with the gear hash, one bit stricter before the average, one bit laxer behind it.
    let strict = (1 << 63) / average;
    let found = ends.iter().find(|end| {
        let is_before = end.at < at + average;
        end.rarity < if is_before { strict } else { strict * 4 }
    })?;
    let length = found.at - at;
    // Behind that, rows are so long that they are better cut within.
    (length <= 2 * average).then_some(length as usize)
}

/// The gear table of a repository.
pub struct Chunker {
    gear: Box<[u64; 256]>,
    gear_shifted: Box<[u64; 256]>,
}

impl Chunker {
    /// The table that belongs to the keyring's chunker key.
    #[must_use]
    pub fn new(key: &Secret) -> Self {
        let mut bytes = zeroize::Zeroizing::new([0_u8; 2048]);
        blake3::Hasher::new_derive_key(context::GEAR)
            .update(key.bytes())
            .finalize_xof()
            .fill(bytes.as_mut_slice());
        let mut gear = Box::new([0_u64; 256]);
        for (value, source) in gear.iter_mut().zip(bytes.chunks_exact(8)) {
            *value = source
                .try_into()
                .map(u64::from_le_bytes)
                .unwrap_or_default();
        }
        let mut gear_shifted = gear.clone();
        gear_shifted.iter_mut().for_each(|value| *value <<= 1);
        Self { gear, gear_shifted }
    }

    /// Length of the first chunk of `bytes`, which is `bytes.len()` when no cut point is found in it.
    ///
    /// A caller that has not reached the end of its stream passes at least `profile.max_bytes()`.
    #[must_use]
    pub fn cut(&self, profile: Profile, bytes: &[u8]) -> usize {
        let (min, average) = (profile.min_bytes(), profile.average_bytes());
        let bytes = bytes.get(..profile.max_bytes()).unwrap_or(bytes);
        let bits = average.ilog2() as usize;
        // Normalisation level 1: one bit stricter before the average, one bit laxer behind it.
        let (strict, lax) = (
            MASKS.get(bits + 1).copied().unwrap_or_default(),
            MASKS.get(bits - 1).copied().unwrap_or_default(),
        );
        // FastCDC looks at two bytes at a time, so not at a last one that is odd.
        let end = bytes.len() & !1;
        let mut scan = Scan {
            chunker: self,
            bytes,
            first: min,
            at: min,
        };
        let found = scan
            .find(strict, average.min(end))
            .or_else(|| scan.find(lax, end));
        found.unwrap_or(bytes.len())
    }
}

/// Bytes that one lane looks at before it meets the other again.
const LANE_BYTES: usize = 2 << 10;
/// The gear hash at a place is that of so many bytes up to it: each shifts those before it by one bit.
const REACH_BYTES: usize = u64::BITS as usize;

/// Finds places where the gear hash has zeros, in two lanes at once: each step of the hash waits for the one before it, and a core
/// has room for another meanwhile. What is found is what the crate `fastcdc` finds, which has one lane.
struct Scan<'a> {
    chunker: &'a Chunker,
    bytes: &'a [u8],
    /// Where the hash begins.
    first: usize,
    at: usize,
}

impl Scan<'_> {
    /// The next place before `end` whose hash has no bit of the mask.
    fn find(&mut self, mask: u64, end: usize) -> Option<usize> {
        let mut hash = self.hash(self.at);
        while self.at < end {
            let block_end = end.min(self.at + 2 * LANE_BYTES);
            let block = self.bytes.get(self.at..block_end)?;
            if block.len() == 2 * LANE_BYTES {
                let (one, other) = block.split_at(LANE_BYTES);
                let begin = [hash, self.hash(self.at + LANE_BYTES)];
                if let Some(last) = self.pass(one, other, begin, mask) {
                    (hash, self.at) = (last, block_end);
                    continue;
                }
            }
            for (number, byte) in block.iter().enumerate() {
                hash = self.step(hash, *byte);
                if hash & mask == 0 {
                    return Some(self.at + number);
                }
            }
            self.at = block_end;
        }
        None
    }

    /// The hash behind both lanes, or nothing when such a place is in one of them. `hashes` are those before them.
    // Among what is around it the compiler runs out of registers, and half of the gain is lost.
    #[inline(never)]
    fn pass(&self, one: &[u8], other: &[u8], hashes: [u64; 2], mask: u64) -> Option<u64> {
        let [mut first, mut second] = hashes;
        let (gear, shifted) = (&*self.chunker.gear, &*self.chunker.gear_shifted);
        // Two bytes for each step, as FastCDC does it: the first one's hash is twice as large, and so is its mask.
        let (one, other) = (one.as_chunks::<2>().0, other.as_chunks::<2>().0);
        for ([a, b], [c, d]) in one.iter().zip(other) {
            first = (first << 2).wrapping_add(shifted[usize::from(*a)]);
            second = (second << 2).wrapping_add(shifted[usize::from(*c)]);
            let is_there = (first & (mask << 1) == 0) | (second & (mask << 1) == 0);
            first = first.wrapping_add(gear[usize::from(*b)]);
            second = second.wrapping_add(gear[usize::from(*d)]);
            if is_there | (first & mask == 0) | (second & mask == 0) {
                return None;
            }
        }
        Some(second)
    }

    /// The hash before the byte at `at`.
    fn hash(&self, at: usize) -> u64 {
        let from = at.saturating_sub(REACH_BYTES).max(self.first);
        let before = self.bytes.get(from..at).unwrap_or_default();
        before.iter().fold(0, |hash, byte| self.step(hash, *byte))
    }

    fn step(&self, hash: u64, byte: u8) -> u64 {
        (hash << 1).wrapping_add(self.chunker.gear[usize::from(byte)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_of_rows_are_cut_points_by_how_rare_they_are() {
        let profile = Profile::Database;
        let (min, average) = (16_384, 65_536);
        let strict = (1_u64 << 63) / average;
        let cut = |at: u64, ends: &[(u64, u64)]| {
            let ends = ends.iter().map(|(at, rarity)| End {
                at: *at,
                rarity: *rarity,
            });
            let mut ends: VecDeque<End> = ends.collect();
            cut_at_end(profile, at, &mut ends).map(|length| length as u64)
        };
        assert_eq!(cut(0, &[]), None);
        assert_eq!(cut(0, &[(min - 1, 0), (min, strict - 1)]), Some(min));
        assert_eq!(
            cut(500, &[(min, 0), (min + 499, 0), (min + 600, 0)]),
            Some(min + 100)
        );
        let common = strict * 4 - 1;
        assert_eq!(
            cut(
                0,
                &[(min, strict), (average - 1, common), (average, common)]
            ),
            Some(average)
        );
        assert_eq!(
            cut(0, &[(average, strict * 4), (average + 9, common)]),
            Some(average + 9)
        );
        assert_eq!(cut(7, &[(7 + 2 * average, common)]), Some(2 * average));
        assert_eq!(cut(7, &[(7 + 2 * average + 1, 0)]), None, "long rows");
    }

    fn noise(length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        blake3::Hasher::new()
            .update(b"noise")
            .finalize_xof()
            .fill(&mut bytes);
        bytes
    }

    fn cuts(chunker: &Chunker, profile: Profile, mut bytes: &[u8]) -> Vec<usize> {
        let mut lengths = Vec::new();
        while !bytes.is_empty() {
            let length = chunker.cut(profile, bytes);
            lengths.push(length);
            bytes = &bytes[length..];
        }
        lengths
    }

    #[test]
    fn cut_points_are_the_golden_ones() {
        let chunker = Chunker::new(&Secret::new([1; 32]));
        assert_eq!(
            cuts(&chunker, Profile::Metadata, &noise(300_000)),
            GOLDEN_METADATA
        );
        assert_eq!(
            cuts(&chunker, Profile::Database, &noise(600_000)),
            GOLDEN_DATABASE
        );
        assert_eq!(
            cuts(&chunker, Profile::Files, &noise(6_000_000)),
            GOLDEN_FILES
        );
        assert_ne!(
            cuts(
                &Chunker::new(&Secret::new([2; 32])),
                Profile::Metadata,
                &noise(300_000)
            ),
            GOLDEN_METADATA
        );
    }

    const GOLDEN_METADATA: &[usize] = &[
        19353, 33725, 45737, 42881, 26252, 33482, 11500, 51198, 35872,
    ];
    const GOLDEN_DATABASE: &[usize] = &[
        19353, 39274, 115719, 38584, 89215, 34380, 95308, 104699, 17790, 45678,
    ];
    const GOLDEN_FILES: &[usize] = &[336525, 384285, 806343, 1941097, 1668258, 627720, 235772];

    /// What the crate finds, which goes from byte to byte.
    fn cut_by_fastcdc(chunker: &Chunker, profile: Profile, bytes: &[u8]) -> usize {
        let average = profile.average_bytes();
        let bits = average.ilog2() as usize;
        let (strict, lax) = (MASKS[bits + 1], MASKS[bits - 1]);
        assert_eq!((strict | lax) >> 63, 0, "two bytes at a time need a bit");
        let (_, length) = fastcdc::v2020::cut_gear(
            bytes,
            profile.min_bytes(),
            average,
            profile.max_bytes(),
            strict,
            lax,
            strict << 1,
            lax << 1,
            &chunker.gear[..],
            &chunker.gear_shifted[..],
        );
        length
    }

    #[test]
    fn two_lanes_find_what_fastcdc_finds() {
        let chunker = Chunker::new(&Secret::new([3; 32]));
        let noise = noise(9_000_000);
        let words: Vec<u8> = noise
            .iter()
            .map(|byte| b"ab\n"[usize::from(byte % 3)])
            .collect();
        let (mut tried, mut early, mut late, mut none) = (0, 0, 0, 0);
        for profile in [Profile::Metadata, Profile::Database, Profile::Files] {
            for bytes in [&noise, &words, &vec![0; 9_000_000]] {
                let mut at = 0;
                while at < bytes.len() {
                    let rest = &bytes[at..];
                    let length = chunker.cut(profile, rest);
                    assert_eq!(length, cut_by_fastcdc(&chunker, profile, rest), "at {at}");
                    // The same where the stream ends somewhere around it.
                    let average = profile.average_bytes();
                    for end in [0, 1, 2, 65, LANE_BYTES, average - 1, average, average + 1]
                        .into_iter()
                        .chain((length.saturating_sub(2)..length + 4).filter(|_| average < 1 << 20))
                    {
                        let short = &rest[..end.min(rest.len())];
                        let expected = cut_by_fastcdc(&chunker, profile, short);
                        assert_eq!(chunker.cut(profile, short), expected, "{at}..{end}");
                    }
                    tried += 1;
                    match length {
                        _ if length == profile.max_bytes() => none += 1,
                        _ if length < average => early += 1,
                        _ => late += 1,
                    }
                    at += length;
                }
            }
        }
        assert!(tried > 500 && early > 100 && late > 100 && none > 1);
    }

    #[test]
    fn an_insertion_moves_cut_points_only_near_it() {
        let chunker = Chunker::new(&Secret::new([1; 32]));
        let before = noise(4_000_000);
        let mut after = before.clone();
        after.splice(100_000..100_000, *b"inserted");
        let ends = |bytes: &[u8]| {
            cuts(&chunker, Profile::Database, bytes)
                .iter()
                .scan(0, |end, length| {
                    *end += length;
                    Some(bytes.len() - *end)
                })
                .collect::<Vec<_>>()
        };
        let (before, after) = (ends(&before), ends(&after));
        let shared = after.iter().filter(|end| before.contains(end)).count();
        assert!(shared * 10 > after.len() * 8, "{shared} of {}", after.len());
    }

    #[test]
    fn sizes_stay_within_the_profile() {
        let chunker = Chunker::new(&Secret::new([1; 32]));
        for profile in [Profile::Files, Profile::Database, Profile::Metadata] {
            for bytes in [noise(12 << 20), vec![0; 12 << 20]] {
                let lengths = cuts(&chunker, profile, &bytes);
                let (last, others) = lengths.split_last().unwrap();
                assert!(*last <= profile.max_bytes());
                assert!(
                    others
                        .iter()
                        .all(|length| (profile.min_bytes()..=profile.max_bytes()).contains(length)),
                    "{profile:?}"
                );
            }
        }
    }
}
