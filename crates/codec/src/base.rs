//! Bases: which chunks of older segments a segment is compressed against (`docs/format.md` §6).
//!
//! A base names segments by what they are, not by where they lie: by their first chunk and by the ids of the chunks that are
//! meant. A segment is moved as a whole, so it stays the same wherever a later pack holds it.
//!
//! Invariant: a base rests on lower segments only. So nothing can rest on itself, however a repository was forged.

use crate::error::FormatError;
use crate::id::ChunkId;
use crate::record::{Input, put_varint};

/// How many segments may stand on each other.
pub const HEIGHT_MAX: u8 = 16;
/// Pieces in one base, at most.
pub const PIECES_MAX: usize = 64;
/// The plaintext of a base, in bytes, at most.
pub const BASE_TEXT_MAX: usize = 24 << 20;
const WHAT: &str = "a base";

/// Chunks that stand one behind the other in one segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// The segment's first chunk.
    pub first: ChunkId,
    /// How many of its chunks stand before those that are meant.
    pub skip: u16,
    /// How many are meant.
    pub count: u16,
    /// The start of a hash of their ids: other segments may begin with the same chunk.
    check: [u8; 8],
}

impl Piece {
    /// `count` chunks behind the first `skip` ones of the segment with these ids, or `None` where there are not so many.
    #[must_use]
    pub fn of(ids: &[u8], skip: u16, count: u16) -> Option<Self> {
        let meant = meant(ids, skip, count)?;
        Some(Self {
            first: ChunkId::from_slice(ids.get(..ChunkId::LENGTH)?)?,
            skip,
            count,
            check: check(meant),
        })
    }

    /// True when the segment with these ids has the chunks that are meant.
    #[must_use]
    pub fn is_of(&self, ids: &[u8]) -> bool {
        ids.get(..ChunkId::LENGTH) == Some(&self.first.0)
            && meant(ids, self.skip, self.count).is_some_and(|meant| check(meant) == self.check)
    }
}

fn meant(ids: &[u8], skip: u16, count: u16) -> Option<&[u8]> {
    let start = usize::from(skip) * ChunkId::LENGTH;
    let end = start + usize::from(count) * ChunkId::LENGTH;
    ids.get(start..end).filter(|meant| !meant.is_empty())
}

fn check(ids: &[u8]) -> [u8; 8] {
    let hash = blake3::hash(ids);
    let (start, _) = hash
        .as_bytes()
        .split_first_chunk()
        .expect("a hash is longer than its start");
    *start
}

/// What a segment rests on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Base {
    /// One more than that of the highest segment below; at least 1.
    pub height: u8,
    /// The prefix is the plaintext of their chunks, in this order.
    pub pieces: Vec<Piece>,
}

impl Base {
    /// As it stands in a row.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        assert!(
            (1..=HEIGHT_MAX).contains(&self.height)
                && (1..=PIECES_MAX).contains(&self.pieces.len()),
            "a base has a height and pieces"
        );
        let mut bytes = vec![self.height];
        for piece in &self.pieces {
            bytes.extend_from_slice(&piece.first.0);
            put_varint(&mut bytes, piece.skip.into());
            put_varint(&mut bytes, piece.count.into());
            bytes.extend_from_slice(&piece.check);
        }
        bytes
    }

    /// Reads it.
    ///
    /// # Errors
    /// When it says what no base can.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        const WRONG: FormatError = FormatError::Invalid("a base's numbers are not allowed");
        let small = |value: u64| u16::try_from(value).map_err(|_| WRONG);
        let mut input = Input::new(bytes, WHAT);
        let [height] = input.array()?;
        let mut pieces = Vec::new();
        while !input.is_empty() {
            let piece = Piece {
                first: ChunkId(input.array()?),
                skip: small(input.varint()?)?,
                count: small(input.varint()?)?,
                check: input.array()?,
            };
            if piece.count == 0 || pieces.len() == PIECES_MAX {
                return Err(WRONG);
            }
            pieces.push(piece);
        }
        if !(1..=HEIGHT_MAX).contains(&height) || pieces.is_empty() {
            return Err(WRONG);
        }
        Ok(Self { height, pieces })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_piece_is_of_the_segment_that_it_was_made_of_and_of_no_other() {
        let ids: Vec<u8> = (0..160).collect();
        let piece = Piece::of(&ids, 3, 5).unwrap();
        assert!(piece.is_of(&ids));
        assert!(!piece.is_of(&ids[..7 * 16]), "too short");
        assert!(!piece.is_of(&ids[16..]), "another first one");
        let mut other = ids.clone();
        other[7 * 16] ^= 1;
        assert!(!piece.is_of(&other), "another chunk among those meant");
        let mut other = ids.clone();
        other[9 * 16] ^= 1;
        assert!(piece.is_of(&other), "another chunk behind them");
        assert_eq!(Piece::of(&ids, 6, 5), None);
        assert_eq!(Piece::of(&ids, 3, 0), None);
        assert_eq!(Piece::of(&[], 0, 0), None);
    }

    #[test]
    fn a_base_comes_back_from_its_bytes_and_from_no_others() {
        let ids = [9; 16 * 300];
        let base = |height, pieces: usize| Base {
            height,
            pieces: (0..pieces)
                .map(|skip| Piece::of(&ids, skip as u16, 200).unwrap())
                .collect(),
        };
        for base in [base(1, 1), base(16, 64)] {
            let bytes = base.encode();
            assert_eq!(Base::decode(&bytes), Ok(base));
            for end in 0..bytes.len() {
                let whole = end > 1 && (end - 1) % (bytes.len() - 1) == 0;
                assert!(
                    Base::decode(&bytes[..end]).is_err() || whole || bytes.len() > 30,
                    "{end}"
                );
            }
        }
        let with = |at: usize, value: u8| {
            let mut bytes = base(1, 1).encode();
            bytes[at] = value;
            bytes
        };
        for wrong in [
            with(0, 0),
            with(0, 17),
            with(18, 0),
            base(1, 1).encode()[..1].to_vec(),
        ] {
            assert!(Base::decode(&wrong).is_err(), "{wrong:?}");
        }
        let mut many = base(1, 64).encode();
        many.extend_from_slice(&base(1, 1).encode()[1..]);
        assert!(Base::decode(&many).is_err());
    }
}
