//! The plaintext that a segment rests on: chunks of lower segments, which may rest on lower ones again.
//!
//! Memory holds one base for each level on the way down, and what the cache keeps. A forged repository can ask for no more
//! than an honest one: heights only fall, and the segments that one request opens are counted.

use lifeboat_codec::{BASE_TEXT_MAX, ChunkId, FormatError, Kind, Piece};

use super::{Decoded, Reader};
use crate::repository::ReadError;

/// Segments that are opened below one, at most; whoever writes stays far below.
const OPENED_MAX: u32 = 2048;

/// What one request may still open.
pub(super) struct Rest(u32);

impl Default for Rest {
    fn default() -> Self {
        Self(OPENED_MAX)
    }
}

/// A piece that a new base may have.
pub(crate) struct Below {
    pub(crate) piece: Piece,
    segment: u32,
    /// The segment's.
    pub(crate) height: u8,
}

impl Reader<'_> {
    /// Pieces for chunks in data packs, in their order, as far as segments of at most `height` hold them; no more than
    /// `most`, so that the last ones may be left out.
    pub(crate) fn pieces(&self, ids: &[ChunkId], height: u8, most: usize) -> Vec<Below> {
        // Segment, number of the first chunk, how many.
        let mut runs: Vec<(u32, u16, u16)> = Vec::new();
        for id in ids {
            if let Some((segment, skip, count)) = runs.last_mut() {
                let (_, _, row) = self.lookup.row(*segment);
                let next = usize::from(*skip + *count) * ChunkId::LENGTH;
                if row.ids.get(next..next + ChunkId::LENGTH) == Some(&id.0) {
                    *count += 1;
                    continue;
                }
            }
            let Some(segment) = self.lookup.find(self.keys.domain, *id) else {
                continue;
            };
            let (_, pack, row) = self.lookup.row(segment);
            let Some(number) = row.chunk_ids().position(|held| held == *id) else {
                continue;
            };
            if pack.entry.kind != Kind::DataPack || row.height() > height {
                continue;
            }
            if runs.len() == most {
                break;
            }
            runs.push((segment, number as u16, 1));
        }
        let below = |(segment, skip, count)| {
            let (_, _, row) = self.lookup.row(segment);
            let (piece, height) = (Piece::of(row.ids, skip, count)?, row.height());
            Some(Below {
                piece,
                segment,
                height,
            })
        };
        runs.into_iter().filter_map(below).collect()
    }

    /// The text of such pieces.
    pub(crate) fn text_of(&self, pieces: &[Below]) -> Result<Vec<u8>, ReadError> {
        let mut text = Vec::new();
        for below in pieces {
            let decoded = self.decoded(below.segment, &mut Rest::default())?;
            text.extend_from_slice(self.part(&decoded, below.segment, &below.piece)?);
        }
        Ok(text)
    }

    fn part<'d>(
        &self,
        decoded: &'d Decoded,
        segment: u32,
        piece: &Piece,
    ) -> Result<&'d [u8], ReadError> {
        let start = usize::from(piece.skip);
        let chunks = decoded.range(start..start + usize::from(piece.count));
        chunks.ok_or_else(|| {
            let name = self.lookup.row(segment).1.name();
            ReadError::format(
                name,
                FormatError::Invalid("a base names chunks that are not there"),
            )
        })
    }

    /// The text that a segment rests on; empty for one without a base.
    pub(super) fn base_of(&self, segment: u32, rest: &mut Rest) -> Result<Vec<u8>, ReadError> {
        let (place, pack, row) = self.lookup.row(segment);
        let mut text = Vec::new();
        let Some(base) = row.base() else {
            return Ok(text);
        };
        let wrong = |what| ReadError::format(pack.name(), FormatError::Invalid(what));
        for piece in &base.pieces {
            let mut failure = None;
            let holders = self
                .lookup
                .below(self.keys.domain, place.pack, base.height, piece);
            let found = holders.into_iter().find_map(|holder| {
                rest.0 = rest.0.checked_sub(1)?;
                match self.decoded(holder, rest) {
                    Ok(decoded) => Some(decoded),
                    Err(error) => {
                        failure.get_or_insert(error);
                        None
                    }
                }
            });
            let Some(found) = found else {
                let lacks =
                    || wrong("what a segment rests on is in no pack, or on too many others");
                return Err(failure.unwrap_or_else(lacks));
            };
            let chunks = self.part(&found, segment, piece)?;
            if text.len() + chunks.len() > BASE_TEXT_MAX {
                return Err(wrong("a base is longer than the format allows"));
            }
            text.extend_from_slice(chunks);
        }
        Ok(text)
    }

    /// The same for who opens segments by itself.
    pub(crate) fn base_text(&self, segment: u32) -> Result<Vec<u8>, ReadError> {
        self.base_of(segment, &mut Rest::default())
    }
}
