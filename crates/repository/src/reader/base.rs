//! The plaintext that a segment rests on: chunks of lower segments, which may rest on lower ones again.
//!
//! Memory holds some of what one request has opened, and what the cache keeps. A forged repository cannot ask for endless work:
//! heights only fall, and what is opened for a request is counted.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;

use lifeboat_codec::{BASE_TEXT_MAX, ChunkId, FormatError, Kind, Piece, SegmentOpener};

use super::aside::Aside;
use super::{Decoded, Reader};
use crate::repository::ReadError;

/// How often segments are opened for one above them, at most: those below what is written are opened once each, or some more often
/// where they are too large to be held.
const OPENED_MAX: usize = 1024;
/// Opened segments that a request holds, in bytes.
const HELD_BYTES: usize = 8 << 20;
/// The same in what is written: who reads one segment waits for them all.
const BELOW_WRITTEN_MAX: usize = 32;

/// The text of a base. One piece is not copied, for most bases are one.
#[derive(Default)]
pub(crate) struct Text {
    one: Option<(Arc<Decoded>, Range<usize>)>,
    several: Vec<u8>,
}

impl Text {
    pub(crate) fn text(&self) -> &[u8] {
        match &self.one {
            Some((decoded, numbers)) => decoded.range(numbers.clone()).unwrap_or_default(),
            None => &self.several,
        }
    }

    /// Adds the chunks of `decoded` that `piece` means; `None` when it has not so many, or the text becomes too long.
    fn add(&mut self, decoded: Arc<Decoded>, piece: &Piece) -> Option<()> {
        let start = usize::from(piece.skip);
        let numbers = start..start + usize::from(piece.count);
        let len = decoded.range(numbers.clone())?.len();
        if self.text().len() + len > BASE_TEXT_MAX {
            return None;
        }
        if self.text().is_empty() {
            self.one = Some((decoded, numbers));
            return Some(());
        }
        self.add_text(decoded.range(numbers)?)
    }

    /// Adds what is known to be the text of the next piece; `None` when it becomes too long.
    fn add_text(&mut self, more: &[u8]) -> Option<()> {
        if self.text().len() + more.len() > BASE_TEXT_MAX {
            return None;
        }
        if let Some((first, numbers)) = self.one.take() {
            self.several.reserve(2 * first.content.len());
            self.several.extend_from_slice(first.range(numbers)?);
        }
        self.several.extend_from_slice(more);
        Some(())
    }
}

/// What one request has opened of what may be needed twice, and what it opens with: the cache may give up what is needed again.
#[derive(Default)]
pub(super) struct Rest {
    held: HashMap<u32, Arc<Decoded>>,
    held_bytes: usize,
    opened: usize,
    /// What could not be opened. It is tried once for a request, or the tries would multiply from level to level.
    failed: HashSet<u32>,
    pub(super) opener: SegmentOpener,
}

impl Rest {
    /// For the next request.
    pub(super) fn again(&mut self) -> &mut Self {
        self.held.clear();
        (self.held_bytes, self.opened) = (0, 0);
        self.failed.clear();
        self
    }

    fn hold(&mut self, segment: u32, decoded: &Arc<Decoded>) {
        let bytes = self.held_bytes + decoded.bytes();
        if bytes <= HELD_BYTES {
            self.held.insert(segment, Arc::clone(decoded));
            self.held_bytes = bytes;
        }
    }
}

/// Where the chunks of a text begin in it, in order.
pub(crate) type Layout = Vec<(usize, ChunkId)>;

/// A piece that a new base may have.
pub(crate) struct Below {
    pub(crate) piece: Piece,
    segment: u32,
    /// The segment's.
    pub(crate) height: u8,
}

impl Reader<'_> {
    /// Pieces for chunks in data packs, as far as segments of at most `height` hold them; no more than `most`, so that
    /// the last ones may be left out. Those of one segment stand together, and up to `gap` chunks between two are taken along.
    pub(crate) fn pieces(
        &self,
        ids: &[ChunkId],
        height: u8,
        (most, gap): (usize, usize),
    ) -> Vec<Below> {
        // In the order in which they are first met.
        let mut segments: Vec<(u32, Vec<u16>)> = Vec::new();
        let mut met = HashMap::new();
        for id in ids {
            let Some(segment) = self.lookup.find(self.keys.domain, *id) else {
                continue;
            };
            let found = met.entry(segment).or_insert_with(|| {
                let (_, pack, row) = self.lookup.row(segment);
                (pack.entry.kind == Kind::DataPack && row.height() <= height).then(|| {
                    segments.push((segment, Vec::new()));
                    (
                        segments.len() - 1,
                        row.chunk_ids().zip(0..).collect::<HashMap<_, u16>>(),
                    )
                })
            });
            if let Some((place, numbers)) = found
                && let Some(number) = numbers.get(id)
            {
                segments[*place].1.push(*number);
            }
        }
        let mut all = HashSet::new();
        let mut pieces = Vec::new();
        for (segment, mut numbers) in segments {
            let more = self.lookup.with_bases([segment]);
            if all.union(&more).count() > BELOW_WRITTEN_MAX {
                continue;
            }
            all.extend(more);
            numbers.sort_unstable();
            let (_, _, row) = self.lookup.row(segment);
            let runs = numbers.chunk_by(|one, next| usize::from(next - one) <= gap + 1);
            for run in runs {
                let (Some(first), Some(last)) = (run.first(), run.last()) else {
                    continue;
                };
                if pieces.len() == most {
                    return pieces;
                }
                pieces.extend(
                    Piece::of(row.ids, *first, last - first + 1).map(|piece| Below {
                        piece,
                        segment,
                        height: row.height(),
                    }),
                );
            }
        }
        pieces
    }

    /// True when the segment that holds the chunk ends with it.
    pub(crate) fn is_last_of_segment(&self, id: ChunkId) -> bool {
        let segment = self.lookup.find(self.keys.domain, id);
        segment.is_some_and(|segment| self.lookup.row(segment).2.ids.ends_with(&id.0))
    }

    /// The text of such pieces, and what stands where in it; gives up the last ones where it would be longer than `most_bytes`.
    pub(crate) fn text_of(
        &self,
        pieces: &mut Vec<Below>,
        most_bytes: usize,
    ) -> Result<(Text, Layout), ReadError> {
        let (mut text, mut rest) = (Text::default(), Rest::default());
        let mut layout = Layout::new();
        let mut count = 0;
        for below in &*pieces {
            if count > 0 && text.text().len() >= most_bytes {
                break;
            }
            // Proven, for what rests on a forged one could not be read by who finds the true one.
            let decoded = self.proven(below.segment, &mut rest)?;
            let start = text.text().len();
            let laid = self.laid(&decoded, below, start);
            layout.extend(laid.ok_or_else(|| self.no_text(below.segment))?);
            let added = text.add(decoded, &below.piece);
            added.ok_or_else(|| self.no_text(below.segment))?;
            count += 1;
        }
        pieces.truncate(count);
        Ok((text, layout))
    }

    /// Where the chunks of a piece begin in a text in which it begins at `start`.
    fn laid(&self, decoded: &Decoded, below: &Below, start: usize) -> Option<Layout> {
        let (_, _, row) = self.lookup.row(below.segment);
        let (first, count) = (
            usize::from(below.piece.skip),
            usize::from(below.piece.count),
        );
        let begin = match first.checked_sub(1) {
            Some(before) => *decoded.ends.get(before)?,
            None => 0,
        };
        let starts = [begin]
            .into_iter()
            .chain(decoded.ends.iter().skip(first).copied());
        let ids = row.chunk_ids().skip(first).take(count);
        Some(starts.map(|at| start + at - begin).zip(ids).collect())
    }

    fn no_text(&self, segment: u32) -> ReadError {
        let wrong = "a base names chunks that are not there, or too many";
        ReadError::format(
            self.lookup.row(segment).1.name(),
            FormatError::Invalid(wrong),
        )
    }

    /// The text that a segment rests on; empty for one without a base. Some of it may have been put `aside`.
    pub(super) fn base_of(
        &self,
        segment: u32,
        rest: &mut Rest,
        aside: Option<&Aside>,
    ) -> Result<Text, ReadError> {
        let (place, pack, row) = self.lookup.row(segment);
        let mut text = Text::default();
        let Some(base) = row.base() else {
            return Ok(text);
        };
        let wrong = |what| ReadError::format(pack.name(), FormatError::Invalid(what));
        let mut last: Option<(u32, Arc<Decoded>)> = None;
        for (number, piece) in base.pieces.iter().enumerate() {
            if let Some(known) = aside.and_then(|aside| aside.take((segment, number))) {
                text.add_text(&known).ok_or_else(|| self.no_text(segment))?;
                continue;
            }
            let mut failure = None;
            let holders = self
                .lookup
                .below(self.keys.domain, place.pack, base.height, piece);
            let found = holders.into_iter().find_map(|holder| {
                if let Some((_, last)) = last.as_ref().filter(|(segment, _)| *segment == holder) {
                    return Some(Arc::clone(last));
                }
                if let Some(held) = rest.held.get(&holder) {
                    return Some(Arc::clone(held));
                }
                if rest.failed.contains(&holder) || rest.opened >= OPENED_MAX {
                    return None;
                }
                rest.opened += 1;
                match self.decoded(holder, rest) {
                    Ok(decoded) => {
                        // Of segments that rest on one other each, none is met again from above, and of the lowest ones'
                        // neighbours none but in the next piece.
                        if base.pieces.len() > 1 && base.height > 1 {
                            rest.hold(holder, &decoded);
                        }
                        last = Some((holder, Arc::clone(&decoded)));
                        Some(decoded)
                    }
                    Err(error) => {
                        rest.failed.insert(holder);
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
            text.add(found, piece)
                .ok_or_else(|| self.no_text(segment))?;
        }
        Ok(text)
    }

    /// The same for who opens segments by itself.
    pub(crate) fn base_text(&self, segment: u32, aside: &Aside) -> Result<Text, ReadError> {
        self.base_of(segment, &mut Rest::default(), Some(aside))
    }
}
