//! The plaintext that a segment rests on: chunks of lower segments, which may rest on lower ones again.
//!
//! Memory holds some of what one request has opened, and what the cache keeps. A forged repository cannot ask for endless work:
//! heights only fall, and what is opened for a request is counted.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard};

use lifeboat_codec::{
    BASE_TEXT_MAX, ChunkId, FormatError, Kind, Piece, SegmentOpener, recipient_of,
};

use super::aside::Aside;
use super::{Decoded, Reader};
use crate::repository::ReadError;

/// How many segments may lie below one that is opened.
const BELOW_MAX: usize = 128;
/// The same in what is written: who reads one segment waits for them all.
const BELOW_WRITTEN_MAX: usize = 32;
/// How often segments are opened for one request, at most. Each of those below is opened once, unless together they are larger than
/// may be held, or some are damaged.
const OPENED_MAX: usize = 1024;
/// Opened segments that a request holds, in bytes, and how many the one of all requests that needs more.
const HELD_BYTES: usize = 8 << 20;
const HELD_DEEP_BYTES: usize = 64 << 20;

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
            // It grows by what comes: that of small files is much less than the segments they lie in.
            self.several.reserve(1 << 20);
            self.several.extend_from_slice(first.range(numbers)?);
        }
        self.several.extend_from_slice(more);
        Some(())
    }
}

/// What one request has opened and will need again.
pub(super) struct Rest<'r> {
    opener: &'r mut SegmentOpener,
    /// How often each segment below will still be asked for; `None` before it was counted.
    uses: Option<HashMap<u32, usize>>,
    held: HashMap<u32, Arc<Decoded>>,
    held_bytes: usize,
    /// Held by the request that may hold more than others, until it ends.
    deep: Option<MutexGuard<'r, ()>>,
    opened: usize,
    /// Something is opened that was not counted, in place of what could not be, or again: all is held then, as far as may be.
    uncounted: bool,
    /// What could not be opened. It is tried once for a request, or the tries would multiply from level to level.
    failed: HashSet<u32>,
}

impl<'r> Rest<'r> {
    pub(super) fn new(opener: &'r mut SegmentOpener) -> Self {
        Self {
            opener,
            uses: None,
            held: HashMap::new(),
            held_bytes: 0,
            deep: None,
            opened: 0,
            uncounted: false,
            failed: HashSet::new(),
        }
    }

    pub(super) fn opener(&mut self) -> &mut SegmentOpener {
        self.opener
    }

    /// Counts one use of `segment`, and holds it if there will be more, so that each is opened once.
    fn used(&mut self, segment: u32, decoded: &Arc<Decoded>, deep: &'r Mutex<()>) {
        let uses = self.uses.as_mut().and_then(|uses| uses.get_mut(&segment));
        let left = match uses {
            _ if self.uncounted => 1,
            Some(uses) => {
                *uses = uses.saturating_sub(1);
                *uses
            }
            None => 0,
        };
        if left == 0 {
            if let Some(held) = self.held.remove(&segment) {
                self.held_bytes -= held.content.len();
            }
        } else if !self.held.contains_key(&segment) {
            let bytes = self.held_bytes + decoded.content.len();
            if bytes > HELD_BYTES && self.deep.is_none() {
                self.deep = Some(deep.lock().expect("no thread panics while it opens"));
            }
            if bytes <= HELD_DEEP_BYTES {
                self.held.insert(segment, Arc::clone(decoded));
                self.held_bytes = bytes;
            } else {
                self.uncounted = true;
            }
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
        // In the order in which they are first met; `None` for one that nothing may rest on.
        let mut segments: Vec<(u32, Vec<ChunkId>)> = Vec::new();
        let mut met: HashMap<u32, Option<usize>> = HashMap::new();
        for id in ids {
            let Some(segment) = self.lookup.find(self.keys.domain, *id) else {
                continue;
            };
            let place = *met.entry(segment).or_insert_with(|| {
                let (_, pack, row) = self.lookup.row(segment);
                let may = pack.entry.kind == Kind::DataPack && row.height() <= height;
                // Each gives one piece at least; some are passed over below.
                (may && segments.len() < 2 * most).then(|| {
                    segments.push((segment, Vec::new()));
                    segments.len() - 1
                })
            });
            if let Some(place) = place {
                segments[place].1.push(*id);
            }
        }
        let mut all = HashSet::new();
        let mut pieces = Vec::new();
        for (segment, ids) in segments {
            let more = self.lookup.with_bases([segment]);
            if all.union(&more).count() > BELOW_WRITTEN_MAX {
                continue;
            }
            all.extend(more);
            let (_, _, row) = self.lookup.row(segment);
            let ids: HashSet<ChunkId> = ids.into_iter().collect();
            let numbers = row.chunk_ids().zip(0u16..);
            let numbers = numbers.filter(|(id, _)| ids.contains(id));
            let numbers: Vec<u16> = numbers.map(|(_, number)| number).collect();
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
        let (mut text, mut opener) = (Text::default(), SegmentOpener::default());
        let mut layout = Layout::new();
        let mut count = 0;
        for below in &*pieces {
            if count > 0 && text.text().len() >= most_bytes {
                break;
            }
            // Proven, for what rests on a forged one could not be read by who finds the true one.
            let decoded = self.decoded(below.segment, &mut Rest::new(&mut opener))?;
            self.prove_piece(&decoded, below)?;
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

    /// That the chunks of a piece are what their ids say; those beside them do not matter.
    fn prove_piece(&self, decoded: &Decoded, below: &Below) -> Result<(), ReadError> {
        let (_, pack, row) = self.lookup.row(below.segment);
        let (skip, count) = (
            usize::from(below.piece.skip),
            usize::from(below.piece.count),
        );
        let chunks = row.chunk_ids().zip(0..).skip(skip).take(count);
        let id_key = self.keys.key(recipient_of(pack.entry.kind));
        id_key
            .and_then(|id_key| decoded.prove_those(chunks, id_key))
            .map_err(|source| ReadError::format(pack.name(), source))
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
    pub(super) fn base_of<'s>(
        &'s self,
        segment: u32,
        rest: &mut Rest<'s>,
        aside: Option<&Aside>,
    ) -> Result<Text, ReadError> {
        let text = self.laid_together(segment, rest, aside);
        if let Some(aside) = aside {
            aside.done(segment);
        }
        text
    }

    fn laid_together<'s>(
        &'s self,
        segment: u32,
        rest: &mut Rest<'s>,
        aside: Option<&Aside>,
    ) -> Result<Text, ReadError> {
        let (place, pack, row) = self.lookup.row(segment);
        let mut text = Text::default();
        let Some(base) = row.base() else {
            return Ok(text);
        };
        let mut last: Option<(u32, Arc<Decoded>)> = None;
        for (number, piece) in base.pieces.iter().enumerate() {
            let known = aside.and_then(|aside| Some((aside, aside.take((segment, number))?)));
            if let Some((aside, known)) = known {
                let mut parts = known.parts();
                let added = parts.try_for_each(|part| text.add_text(part));
                drop(parts);
                aside.used(known);
                added.ok_or_else(|| self.no_text(segment))?;
                continue;
            }
            // Of segments that rest on the lowest ones, none meets one of these twice but in the next piece.
            if rest.uses.is_none() && base.height > 1 {
                rest.uses = Some(self.uses_below(segment)?);
            }
            let mut failure = None;
            let holders = self
                .lookup
                .below(self.keys.domain, place.pack, base.height, piece);
            let found = holders.into_iter().find_map(|holder| {
                if let Some((_, last)) = last.as_ref().filter(|(segment, _)| *segment == holder) {
                    return Some(Arc::clone(last));
                }
                let decoded = match rest.held.get(&holder) {
                    Some(held) => Arc::clone(held),
                    None if rest.failed.contains(&holder) => return None,
                    None => match self.decoded(holder, rest) {
                        Ok(decoded) => decoded,
                        Err(error) => {
                            rest.failed.insert(holder);
                            rest.uncounted = true;
                            failure.get_or_insert(error);
                            return None;
                        }
                    },
                };
                rest.used(holder, &decoded, &self.deep);
                last = Some((holder, Arc::clone(&decoded)));
                Some(decoded)
            });
            let Some(found) = found else {
                let lacks = "what a segment rests on is in no pack";
                return Err(failure.unwrap_or_else(|| {
                    ReadError::format(pack.name(), FormatError::Invalid(lacks))
                }));
            };
            text.add(found, piece)
                .ok_or_else(|| self.no_text(segment))?;
        }
        Ok(text)
    }

    /// How often the segments below one are asked for until it is open: once for each that rests on them.
    fn uses_below(&self, segment: u32) -> Result<HashMap<u32, usize>, ReadError> {
        let (mut uses, mut left) = (HashMap::new(), vec![segment]);
        while let Some(segment) = left.pop() {
            let mut last = None;
            for (_, on, _) in self.lookup.rests_on(segment) {
                if last.replace(on) == Some(on) {
                    continue;
                }
                let uses = uses.entry(on).or_insert(0);
                if *uses == 0 {
                    left.push(on);
                }
                *uses += 1;
            }
            if uses.len() > BELOW_MAX {
                let wrong = "a segment rests on too many others";
                return Err(ReadError::format(
                    self.lookup.row(segment).1.name(),
                    FormatError::Invalid(wrong),
                ));
            }
        }
        Ok(uses)
    }

    /// Counts a segment that is opened.
    pub(super) fn count_opened(&self, segment: u32, rest: &mut Rest<'_>) -> Result<(), ReadError> {
        rest.opened += 1;
        #[cfg(test)]
        self.opened_for_others
            .fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        if rest.opened > OPENED_MAX {
            let wrong = "what a segment rests on has to be opened too often";
            return Err(ReadError::format(
                self.lookup.row(segment).1.name(),
                FormatError::Invalid(wrong),
            ));
        }
        Ok(())
    }

    /// How many segments are opened for the text that one rests on.
    #[cfg(test)]
    pub(crate) fn opened_for(&self, segment: u32) -> usize {
        let mut opener = SegmentOpener::default();
        let mut rest = Rest::new(&mut opener);
        self.base_of(segment, &mut rest, None).unwrap();
        rest.opened
    }

    /// The same for who opens segments by itself.
    pub(crate) fn base_text(&self, segment: u32, aside: &Aside) -> Result<Text, ReadError> {
        // Asked whatever was put aside: who reads this one alone has to open them all.
        self.uses_below(segment)?;
        let mut opener = SegmentOpener::default();
        self.base_of(segment, &mut Rest::new(&mut opener), Some(aside))
    }
}
