//! The stream of an earlier snapshot beside the one that is being cut: where in it the new one is, and what a segment may
//! rest on.
//!
//! The place is the distance between both streams. It is known exactly where both have the same chunk; in between it is
//! found again at each segment's end, by a few bytes of it that its base has too. A place that is lost costs bytes, never
//! more: what rests on another text is as right, and what does not pay is stored without a base.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard};

use lifeboat_codec::{Base, ChunkId, Input, PIECES_MAX, StreamRef};
use memchr::memmem;

use crate::reader::{Layout, Reader, Text};

/// A shorter stream is not worth it.
const STREAM_BYTES_MIN: u64 = 32 << 10;
/// Segments that may stand on each other in what is written: who reads the highest reads them all.
const HEIGHT_MAX: u8 = 12;
/// Text of a base, at most, in bytes, besides what a single chunk needs.
const TEXT_BYTES_MAX: usize = 6 << 20;
/// Pieces of a base, below the format's limit, for each costs some 23 bytes twice; and chunks between two others that are taken along.
/// What a stream was lies in few segments, of each night between that of others. What small files were lies in many, and
/// what is between is of others.
const PIECES_OF_STREAM: (usize, usize) = (16, 8);
const PIECES_OF_FILES: (usize, usize) = (24, 1);
const _: () = assert!(PIECES_OF_STREAM.0 <= PIECES_MAX && PIECES_OF_FILES.0 <= PIECES_MAX);
/// How little of an earlier chunk is not worth the whole of it.
const SLACK_BYTES: u64 = 16 << 10;
/// Chunks of the earlier stream that are known beyond the place, and kept behind it.
const AHEAD_CHUNKS: usize = 16 << 10;
const BEHIND_CHUNKS: usize = 1 << 10;
/// How far from where it should be a lost place is looked for, on both sides.
const WIDE_BYTES: u64 = 2 << 20;
/// In how many places farther away it is looked for in all, each as wide: bytes in another order are found again at the cost of
/// some milliseconds for each place.
const SEARCHES_MAX: u32 = 64;
/// For how many of them one segment waits, and how many a stream gets that was like the earlier one nowhere yet.
const SEARCHES_AT_ONCE: u32 = 4;
const SEARCHES_OF_A_STRANGER: u32 = 8;
/// By what the place is found again: so many bytes, from so many places at the end of a segment, so far apart.
const NEEDLE_BYTES: usize = 48;
const NEEDLES: usize = 16;
const NEEDLE_STEP: usize = 700;
/// Segments that are stored without a try, at most, after several places that were lost.
const PAUSE_MAX: u32 = 32;
/// Distances that are kept: those of segments that are not sealed yet, and of the chunks between them.
const DISTANCES_MAX: usize = 256;
/// No chunk's item in a list is longer.
const ITEM_BYTES_MAX: usize = 10 + 16;
/// What cannot be read as often is not tried again.
pub(super) const FAILURES_MAX: u32 = 3;

/// A chunk of the earlier stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Old {
    id: ChunkId,
    start: u64,
    length: u32,
}

impl Old {
    fn end(&self) -> u64 {
        self.start + u64::from(self.length)
    }
}

/// Where a new chunk stands in its stream.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    start: u64,
    length: u32,
}

impl Span {
    pub(super) fn new(start: u64, length: usize) -> Self {
        let length = u32::try_from(length).expect("a chunk is at most 16 MiB");
        Self { start, length }
    }

    fn end(&self) -> u64 {
        self.start + u64::from(self.length)
    }
}

/// What a segment may rest on.
pub(super) struct Rests {
    base: Base,
    text: Text,
    layout: Layout,
}

impl Rests {
    pub(super) fn base(&self) -> &Base {
        &self.base
    }

    pub(super) fn text(&self) -> &[u8] {
        self.text.text()
    }

    /// Where in the text the earlier stream's byte at `place` stands, which is in one of its chunks `old`, or would be; that need not be
    /// exact.
    fn text_place(&self, old: &[Old], place: u64) -> usize {
        let at = old.partition_point(|old| old.end() <= place);
        let Some(old) = old.get(at) else {
            return self.text().len();
        };
        let laid = self.layout.iter().find(|(_, id)| *id == old.id);
        laid.map_or(0, |(start, _)| {
            start + place.saturating_sub(old.start) as usize
        })
    }

    /// Where in the earlier stream, of which `old` are chunks in order, the byte stands that the text has at `found`; near `expected` where
    /// it stands several times. The text has them in the order of the segments that hold them, and others between.
    fn stream_place(&self, old: &[Old], found: usize, expected: u64) -> Option<u64> {
        let behind = self.layout.partition_point(|(start, _)| *start <= found);
        let (start, id) = self.layout.get(behind.checked_sub(1)?)?;
        let there = old.iter().filter(|old| old.id == *id);
        let there = there.map(|old| old.start + (found - start) as u64);
        there.min_by_key(|place| place.abs_diff(expected))
    }
}

/// How far the earlier stream is from the new one, which each segment that is sealed tells those behind it.
#[derive(Default)]
struct Course {
    /// From a place of the new stream on, in bytes; nothing before the first one.
    distances: BTreeMap<u64, i64>,
    /// Segments that are still to be stored without a try, and how many the next time.
    pause: u32,
    next_pause: u32,
    /// In how many places farther away a lost place was looked for; not begun anew in a stream where that was in vain.
    searches: u32,
    failures: u32,
}

impl Course {
    fn distance(&self, place: u64) -> i64 {
        let known = self.distances.range(..=place).next_back();
        known.map_or(0, |(_, distance)| *distance)
    }

    fn learn(&mut self, place: u64, distance: i64) {
        self.distances.insert(place, distance);
        if self.distances.len() > DISTANCES_MAX {
            self.distances.pop_first();
        }
    }

    /// The place is known.
    fn found(&mut self, place: u64, distance: i64) {
        self.learn(place, distance);
        self.next_pause = 0;
        if self.searches < SEARCHES_MAX {
            self.searches = 0;
        }
    }

    /// The place was not found.
    fn lost(&mut self) {
        self.searches = SEARCHES_MAX.min(self.searches + SEARCHES_AT_ONCE);
        let is_stranger = self.distances.is_empty() && self.searches >= SEARCHES_OF_A_STRANGER;
        if is_stranger || self.searches == SEARCHES_MAX {
            self.pause = self.next_pause;
            self.next_pause = (self.next_pause * 2).clamp(1, PAUSE_MAX);
        }
    }

    /// Where a lost place is looked for next that should be at `expected`: by turns behind it and before it, ever farther.
    fn searches(&self, expected: u64) -> impl Iterator<Item = Range<u64>> {
        let next = self.searches + 1..SEARCHES_MAX.min(self.searches + 1 + SEARCHES_AT_ONCE);
        next.filter_map(move |search| {
            let away = u64::from(search.div_ceil(2)) * 2 * WIDE_BYTES;
            let middle = if search % 2 == 1 {
                expected.checked_add(away)
            } else {
                expected.checked_sub(away)
            };
            middle.map(|middle| middle.saturating_sub(WIDE_BYTES)..middle + WIDE_BYTES)
        })
    }

    /// Where the chunk at this span should stand in the earlier stream.
    fn range(&self, span: &Span) -> Range<u64> {
        let distance = self.distance(span.start);
        moved(span.start, distance)..moved(span.end(), distance)
    }
}

/// See the module.
pub(super) struct Beside<'w, 'r> {
    reader: &'w Reader<'r>,
    list: EarlierList<'w, 'r>,
    old: VecDeque<Old>,
    /// Where each of them starts; `None` for one that stands there several times.
    starts: HashMap<ChunkId, Option<u64>>,
    course: Arc<Mutex<Course>>,
}

impl<'w, 'r> Beside<'w, 'r> {
    /// Begins beside `earlier`, or not at all where that cannot be read or is not worth it.
    pub(super) fn begin(reader: &'w Reader<'r>, earlier: &StreamRef) -> Option<Self> {
        if earlier.length < STREAM_BYTES_MIN {
            return None;
        }
        let mut beside = Self {
            reader,
            list: EarlierList::begin(reader, earlier)?,
            old: VecDeque::new(),
            starts: HashMap::new(),
            course: Arc::default(),
        };
        beside.load(0);
        Some(beside)
    }

    fn course(&self) -> MutexGuard<'_, Course> {
        lock(&self.course)
    }

    /// Knows chunks so far beyond `place` of the earlier stream, and forgets those far behind.
    fn load(&mut self, place: u64) {
        loop {
            let at = self.old.partition_point(|old| old.end() <= place);
            if at > 2 * BEHIND_CHUNKS {
                for old in self.old.drain(..at - BEHIND_CHUNKS) {
                    self.starts.remove(&old.id);
                }
            }
            if self.old.len() - at.min(BEHIND_CHUNKS).min(self.old.len()) >= AHEAD_CHUNKS {
                return;
            }
            let Some(next) = self.list.next_chunk() else {
                return;
            };
            // One is kept behind the place at least, so that the end is known.
            let start = self.old.back().map_or(0, Old::end);
            self.old.push_back(Old {
                id: next.0,
                start,
                length: next.1,
            });
            self.starts
                .entry(next.0)
                .and_modify(|start| *start = None)
                .or_insert(Some(start));
        }
    }

    /// The new stream has this chunk at `start`, and the repository had it.
    pub(super) fn anchor(&mut self, id: ChunkId, start: u64) {
        if let Some(Some(old)) = self.starts.get(&id) {
            let mut course = lock(&self.course);
            course.pause = 0;
            course.found(start, (*old).wrapping_sub(start).cast_signed());
            drop(course);
            self.load(*old);
        }
    }

    /// True when the earlier stream's segment ends where this chunk ends. Segments of one stream that end in the same places
    /// rest on one segment each, whoever stands below.
    pub(super) fn is_end(&self, span: &Span) -> bool {
        let end = self.course().range(span).end;
        let at = self
            .old
            .partition_point(|old| old.end() < end.saturating_sub(SLACK_BYTES));
        let old = self.old.get(at);
        old.is_some_and(|old| self.reader.is_last_of_segment(old.id))
    }

    /// Where a segment of the chunks at `spans` stood; nothing when it is to be stored without a try.
    pub(super) fn stood(&mut self, spans: &[Span]) -> Option<Stood> {
        let (first, last) = (spans.first()?, spans.last()?);
        let mut course = self.course();
        if course.pause > 0 {
            course.pause -= 1;
            return None;
        }
        if course.failures >= FAILURES_MAX {
            return None;
        }
        let (start, end) = (course.range(first).start, course.range(last).end);
        let far: Vec<Range<u64>> = course.searches(end).collect();
        drop(course);
        self.load(end);
        let range = start.min(end).saturating_sub(WIDE_BYTES)..end + WIDE_BYTES;
        let far = far.into_iter().map(|far| {
            // Chunks before and behind it too, which may be those of the segment's beginning and end.
            let search = far.start.saturating_sub(2 * WIDE_BYTES)..far.end + 2 * WIDE_BYTES;
            let there = self.within(&search);
            (far, there)
        });
        let far = far.collect();
        Some(Stood {
            spans: spans.to_vec(),
            near: self.within(&range),
            far,
            course: Arc::clone(&self.course),
        })
    }

    fn within(&self, range: &Range<u64>) -> Vec<Old> {
        let from = self.old.partition_point(|old| old.end() <= range.start);
        let there = self.old.range(from..);
        there
            .take_while(|old| old.start < range.end)
            .copied()
            .collect()
    }
}

/// Where a segment's chunks stand, and what stood around there in the earlier stream. Whoever seals the segment reads it: that
/// takes longer than to cut the stream.
pub(super) struct Stood {
    spans: Vec<Span>,
    near: Vec<Old>,
    /// Where the place is looked for when it is lost, and what stood around there.
    far: Vec<(Range<u64>, Vec<Old>)>,
    course: Arc<Mutex<Course>>,
}

impl Stood {
    /// What the segment, which has this content, may rest on.
    pub(super) fn rests(&self, reader: &Reader<'_>, content: &[u8]) -> Option<Rests> {
        let last = self.spans.last()?;
        let ranges = self.ranges(None);
        let old = chunks(&self.near, &ranges);
        let mut rests = self.read(reader, &old);
        let there = rests
            .as_ref()
            .and_then(|rests| self.find(&ranges, content, &old, rests));
        let mut place = there;
        // What was added at the end is found nowhere, while the rest may be as it was.
        let mut is_alike = there.is_some();
        if place.is_none() {
            let first = ranges.first()?.start;
            let begin = rests.take();
            is_alike = begin.is_some_and(|begin| starts_alike(first, content, &old, &begin));
            let expected = ranges.last()?.end;
            let wide = expected.saturating_sub(WIDE_BYTES)..expected + WIDE_BYTES;
            place = self.look(reader, &ranges, content, &self.near, &wide);
        }
        let mut from = &self.near;
        for (range, far) in &self.far {
            if place.is_some() {
                break;
            }
            place = self.look(reader, &ranges, content, far, range);
            from = far;
        }
        if let Some(distance) = place {
            let found = moved(last.start, distance);
            if there.is_none() || found.abs_diff(ranges.last()?.start) > SLACK_BYTES / 4 {
                let there = chunks(from, &self.ranges(Some(distance)));
                if there != old || rests.is_none() {
                    drop(rests.take());
                    rests = self.read(reader, &there);
                }
            }
        } else if is_alike {
            // Given up for the search's texts, which are as long.
            rests = self.read(reader, &old);
        }
        let mut course = lock(&self.course);
        match place {
            Some(distance) => course.found(last.end(), distance),
            None => course.lost(),
        }
        rests
    }

    /// The distance by which the segment's end stands within a range of the earlier stream, of which `old` are chunks.
    fn look(
        &self,
        reader: &Reader<'_>,
        ranges: &[Range<u64>],
        content: &[u8],
        old: &[Old],
        range: &Range<u64>,
    ) -> Option<i64> {
        let old = old.iter();
        let old = old.filter(|old| old.end() > range.start && old.start < range.end);
        let old: Vec<Old> = old.copied().collect();
        if old.is_empty() {
            return None;
        }
        let rests = self.read(reader, &old)?;
        self.find(ranges, content, &old, &rests)
    }

    /// Where the chunks stood, as far as that is known by now; those that follow each other up to the last one at this distance.
    fn ranges(&self, distance: Option<i64>) -> Vec<Range<u64>> {
        let course = lock(&self.course);
        let follow = self.spans.windows(2).rev();
        let follow =
            follow.take_while(|pair| matches!(pair, [one, next] if one.end() == next.start));
        let first = self.spans.len().saturating_sub(1 + follow.count());
        let spans = self.spans.iter().enumerate();
        let range = |(number, span): (usize, &Span)| match distance {
            Some(distance) if number >= first => {
                moved(span.start, distance)..moved(span.end(), distance)
            }
            _ => course.range(span),
        };
        spans.map(range).collect()
    }

    fn read(&self, reader: &Reader<'_>, old: &[Old]) -> Option<Rests> {
        let ids: Vec<ChunkId> = old.iter().map(|old| old.id).collect();
        let mut failures = 0;
        let rests = rests(reader, &ids, PIECES_OF_STREAM, &mut failures);
        lock(&self.course).failures += failures;
        rests
    }

    /// How far the earlier stream, of which `rests` are the chunks `old`, is from the new one at the end of `content`, whose
    /// chunks should stand at `ranges`.
    fn find(
        &self,
        ranges: &[Range<u64>],
        content: &[u8],
        old: &[Old],
        rests: &Rests,
    ) -> Option<i64> {
        let mut needles = NEEDLES;
        // Lengths of chunks stand behind them.
        let lengths = self.spans.iter().map(|span| span.length as usize);
        let mut end = lengths.sum::<usize>().min(content.len());
        for (span, range) in self.spans.iter().zip(ranges).rev() {
            let start = end.checked_sub(span.length as usize)?;
            let mut at = end;
            while let Some(from) = at.checked_sub(NEEDLE_STEP).filter(|from| *from >= start) {
                at = from;
                needles = needles.checked_sub(1)?;
                let needle = content.get(at..at + NEEDLE_BYTES)?;
                let expected = range.start + (at - start) as u64;
                // Zeros and the like stand anywhere.
                let is_plain = needle.iter().all(|byte| byte == &needle[0]);
                let near = rests.text_place(old, expected);
                if !is_plain
                    && let Some(found) = nearest(rests.text(), needle, near)
                    && let Some(found) = rests.stream_place(old, found, expected)
                {
                    let place = span.start + (at - start) as u64;
                    return Some(found.wrapping_sub(place).cast_signed());
                }
            }
            end = start;
        }
        None
    }
}

/// The earlier chunks of `near` that stand in these places.
fn chunks(near: &[Old], ranges: &[Range<u64>]) -> Vec<Old> {
    let mut found: Vec<Old> = Vec::new();
    let mut bytes = 0;
    for range in ranges {
        let from = near.partition_point(|old| old.end() <= range.start);
        let there = near.get(from..).unwrap_or_default();
        for old in there.iter().take_while(|old| old.start < range.end) {
            let shared = old.end().min(range.end) - old.start.max(range.start);
            let is_next = found.last().is_none_or(|last| last.start < old.start);
            if !is_next || shared < SLACK_BYTES.min(u64::from(old.length / 2)) {
                continue;
            }
            bytes += old.length as usize;
            if bytes > TEXT_BYTES_MAX && !found.is_empty() {
                return found;
            }
            found.push(*old);
        }
    }
    found
}

fn lock(course: &Mutex<Course>) -> MutexGuard<'_, Course> {
    course.lock().expect("no thread panics with a course")
}

/// What small files were; `failures` counts what cannot be read.
pub(super) fn files_rest(
    reader: &Reader<'_>,
    before: &[ChunkId],
    failures: &mut u32,
) -> Option<Rests> {
    rests(reader, before, PIECES_OF_FILES, failures)
}

/// What chunks with these ids come to, as far as a base may be long.
fn rests(
    reader: &Reader<'_>,
    ids: &[ChunkId],
    most: (usize, usize),
    failures: &mut u32,
) -> Option<Rests> {
    let mut pieces = reader.pieces(ids, HEIGHT_MAX - 1, most);
    match reader.text_of(&mut pieces, TEXT_BYTES_MAX) {
        Ok((text, layout)) => Some(Rests {
            base: Base {
                height: pieces.iter().map(|piece| piece.height).max()? + 1,
                pieces: pieces.iter().map(|piece| piece.piece).collect(),
            },
            text,
            layout,
        }),
        Err(_) => {
            *failures += 1;
            None
        }
    }
}

fn moved(place: u64, distance: i64) -> u64 {
    place.saturating_add_signed(distance)
}

/// True when a piece of the beginning of `content`, which should stand at `first`, is in the text.
fn starts_alike(first: u64, content: &[u8], old: &[Old], rests: &Rests) -> bool {
    let pieces = content.chunks(NEEDLE_STEP).take(NEEDLES);
    pieces.enumerate().any(|(number, piece)| {
        let place = first + (number * NEEDLE_STEP) as u64;
        let needle = piece.get(..NEEDLE_BYTES);
        let near = rests.text_place(old, place);
        needle.is_some_and(|needle| nearest(rests.text(), needle, near).is_some())
    })
}

/// Where in `text` the needle stands, near `expected` first.
fn nearest(text: &[u8], needle: &[u8], expected: usize) -> Option<usize> {
    let near: Range<usize> =
        expected.saturating_sub(4 << 10).min(text.len())..(expected + (4 << 10)).min(text.len());
    memmem::find(text.get(near.clone())?, needle)
        .map(|found| near.start + found)
        .or_else(|| memmem::find(text, needle))
}

/// The chunks of an earlier stream, read from its list block by block.
struct EarlierList<'w, 'r> {
    reader: &'w Reader<'r>,
    blocks: std::vec::IntoIter<lifeboat_codec::ChunkItem>,
    pending: Vec<u8>,
    used: usize,
    /// Bytes of the stream that are not told yet.
    left: u64,
}

impl<'w, 'r> EarlierList<'w, 'r> {
    fn begin(reader: &'w Reader<'r>, stream: &StreamRef) -> Option<Self> {
        let (pending, blocks) = if stream.depth == 0 {
            (stream.items.clone(), Vec::new())
        } else {
            (Vec::new(), reader.list_blocks(stream).ok()?)
        };
        Some(Self {
            reader,
            blocks: blocks.into_iter(),
            pending,
            used: 0,
            left: stream.length,
        })
    }

    /// The next one; none after the last, nor behind what makes no sense.
    fn next_chunk(&mut self) -> Option<(ChunkId, u32)> {
        loop {
            let rest = self.pending.get(self.used..)?;
            let is_whole = rest.len() >= ITEM_BYTES_MAX;
            let mut input = Input::new(rest, "a chunk list");
            if let Ok(head) = input.varint()
                && head & 1 == 0
                && let Ok(id) = input.array()
            {
                let taken = rest.len() - input.rest().len();
                let length = u32::try_from(head >> 1).ok().filter(|length| *length > 0);
                let left = length.and_then(|length| self.left.checked_sub(length.into()));
                if let (Some(length), Some(left)) = (length, left) {
                    (self.used, self.left) = (self.used + taken, left);
                    return Some((ChunkId(id), length));
                }
                return self.end();
            }
            // Marks are written by nobody yet, and end the list here.
            if is_whole {
                return self.end();
            }
            // Cut off by the end of a block, or nothing more.
            let Some(block) = self.blocks.next() else {
                return self.end();
            };
            self.pending.drain(..self.used);
            self.used = 0;
            let pending = &mut self.pending;
            let read = self
                .reader
                .with_chunk(&block, |bytes| pending.extend_from_slice(bytes));
            if read.is_err() {
                return self.end();
            }
        }
    }

    fn end(&mut self) -> Option<(ChunkId, u32)> {
        self.pending.clear();
        self.used = 0;
        self.blocks = Vec::new().into_iter();
        None
    }
}
