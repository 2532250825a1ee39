//! Reads streams back: finds their chunks, fetches segments, opens, decodes, verifies.
//!
//! Invariant: no byte leaves this file that was not authenticated and whose chunk did not have the id that the
//! snapshot names. A chunk with several holders is taken from the next one when the first is damaged.

mod aside;
mod base;
mod lists;
mod order;
mod slow;

use std::collections::HashMap;
use std::io::{self, Write};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use lifeboat_codec::{
    BLOCK_BYTES, ChunkId, ChunkItem, DomainKeys, FormatError, RunKey, Secret, SegmentOpener,
    SegmentPlan, StreamRef, chunk_id, recipient_of,
};
use lifeboat_store::ErrorKind;

use crate::lookup::Lookup;
use crate::repository::{ReadError, Repository, object_name};

pub(crate) use self::aside::Aside;
use self::base::Rest;
pub(crate) use self::base::{Layout, Text};
pub(crate) use self::lists::{Failed, Part, bytes_of, chunks_of_stream, read_all};
use self::order::{Order, Wish};
pub use self::slow::ChunkReader;

/// Bytes of opened segments that are kept: of metadata, and of what others rest on.
const CACHE_BYTES: usize = 24 << 20;
/// The same of who has other work beside it, and reads no more than one place of a few streams.
const SPARING_CACHE_BYTES: usize = 12 << 20;
/// What is read with a small segment, on both sides of it together at most twice as much.
const NEAR_BYTES: u64 = 128 << 10;
/// Segments' memory that is kept to be used again.
const SPARE_MAX: usize = 2;
/// Bytes that a sequential reader decodes ahead.
const WINDOW_BYTES: u64 = 16 << 20;
/// Nothing that is read into memory as a whole is larger, in bytes.
const WHOLE_MAX: u64 = 4 << 30;

/// The opened content of one segment.
struct Decoded {
    content: Vec<u8>,
    /// Where each chunk ends, in order.
    ends: Vec<usize>,
    chunks: HashMap<ChunkId, usize>,
    /// Whether each chunk is known to be what its id says; what others rest on need not be.
    proven: AtomicBool,
}

impl Decoded {
    /// What it takes of memory, about.
    fn bytes(&self) -> usize {
        self.content.capacity() + 64 * self.ends.len()
    }

    /// The chunks with these numbers.
    fn range(&self, numbers: Range<usize>) -> Option<&[u8]> {
        let start = match numbers.start.checked_sub(1) {
            Some(before) => *self.ends.get(before)?,
            None => 0,
        };
        self.content
            .get(start..*self.ends.get(numbers.end.checked_sub(1)?)?)
    }

    fn chunk(&self, id: ChunkId) -> Option<&[u8]> {
        let number = *self.chunks.get(&id)?;
        self.range(number..number + 1)
    }

    fn prove(&self, id_key: &Secret) -> Result<(), FormatError> {
        if self.proven.load(Ordering::Relaxed) {
            return Ok(());
        }
        let all = self.chunks.iter();
        self.prove_those(all.map(|(id, number)| (*id, *number)), id_key)?;
        self.proven.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// The same of some chunks, each with its number.
    fn prove_those(
        &self,
        mut chunks: impl Iterator<Item = (ChunkId, usize)>,
        id_key: &Secret,
    ) -> Result<(), FormatError> {
        let all = chunks.all(|(id, number)| {
            self.range(number..number + 1)
                .is_some_and(|chunk| chunk_id(id_key, chunk) == id)
        });
        if all {
            Ok(())
        } else {
            let wrong = "a chunk's content does not fit its id";
            Err(FormatError::Invalid(wrong))
        }
    }
}

struct SegmentCache {
    most_bytes: usize,
    /// Each with the number of its last use.
    segments: HashMap<u32, (u64, Arc<Decoded>)>,
    uses: u64,
    bytes: usize,
    /// Memory of those that were given up, which need not be asked for and cleared again.
    spare: Vec<Vec<u8>>,
}

impl SegmentCache {
    fn new(most_bytes: usize) -> Self {
        Self {
            most_bytes,
            segments: HashMap::new(),
            uses: 0,
            bytes: 0,
            spare: Vec::new(),
        }
    }

    fn get(&mut self, segment: u32) -> Option<Arc<Decoded>> {
        self.uses += 1;
        let (used, decoded) = self.segments.get_mut(&segment)?;
        *used = self.uses;
        Some(Arc::clone(decoded))
    }

    fn put(&mut self, segment: u32, decoded: Arc<Decoded>) {
        self.uses += 1;
        self.bytes += decoded.bytes();
        // Another thread may have decoded the same one.
        if let Some((_, same)) = self.segments.insert(segment, (self.uses, decoded)) {
            self.bytes -= same.bytes();
        }
        while self.bytes > self.most_bytes && self.segments.len() > 1 {
            let oldest = self.segments.iter().min_by_key(|(_, (used, _))| *used);
            let Some(oldest) = oldest.map(|(segment, _)| *segment) else {
                return;
            };
            if let Some((_, old)) = self.segments.remove(&oldest) {
                self.bytes -= old.bytes();
                if self.spare.len() < SPARE_MAX
                    && let Ok(old) = Arc::try_unwrap(old)
                {
                    self.spare.push(old.content);
                }
            }
        }
    }
}

/// What a worker opens segments with.
#[derive(Default)]
struct Hand {
    opener: SegmentOpener,
    /// For what others rest on.
    below: SegmentOpener,
}

/// Reads the chunks of one domain.
pub struct Reader<'r> {
    repository: &'r Repository,
    lookup: Arc<Lookup>,
    keys: DomainKeys,
    cache: Mutex<SegmentCache>,
    /// Of the requests for what rests on others, one at a time may hold more than a few segments.
    deep: Mutex<()>,
    /// How often a segment was opened for another.
    #[cfg(test)]
    pub(crate) opened_for_others: AtomicUsize,
    /// What its open trees hold in memory, in bytes.
    pub(crate) held: AtomicUsize,
}

/// Takes what was wanted: its tag, and the chunk or why there is none.
pub type Deliver<'a> = dyn Fn(u64, Result<&[u8], &ReadError>) + Sync + 'a;

/// A chunk that someone waits for.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// Its id.
    pub id: ChunkId,
    /// The caller's own number for it.
    pub tag: u64,
}

/// What keeps a chunk, with others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    /// The segment's number, for as long as the reader is there.
    pub segment: u32,
    /// The first half of the id of the run that stored it.
    pub run: [u8; 8],
    /// What the segment takes in the repository.
    pub sealed_bytes: u32,
}

impl Repository {
    /// Reads the chunks of `domain`.
    ///
    /// # Errors
    /// When the index cannot be read, or the key may not read this domain.
    pub fn reader(&self, domain: u32) -> Result<Reader<'_>, ReadError> {
        self.reader_over(self.lookup()?, domain)
    }

    /// The key by which rows of databases in `domain` are hashed.
    ///
    /// # Errors
    /// When the key may not name content of this domain.
    pub fn rows_key(&self, domain: u32) -> Result<Secret, ReadError> {
        let rows = self.keyring.domain(domain).and_then(|keys| keys.rows());
        rows.map_err(|source| ReadError::format("a database's rows", source))
    }

    /// Reads the chunks of `domain` where `lookup` says that they are.
    pub(crate) fn reader_over(
        &self,
        lookup: Arc<Lookup>,
        domain: u32,
    ) -> Result<Reader<'_>, ReadError> {
        let keys = self
            .keyring
            .domain(domain)
            .map_err(|source| ReadError::format("the snapshot", source))?;
        Ok(Reader {
            repository: self,
            lookup,
            keys,
            cache: Mutex::new(SegmentCache::new(CACHE_BYTES)),
            deep: Mutex::default(),
            #[cfg(test)]
            opened_for_others: AtomicUsize::new(0),
            held: AtomicUsize::new(0),
        })
    }
}

impl Reader<'_> {
    /// For who has other work beside reading.
    pub(crate) fn sparing(self) -> Self {
        let cache = Mutex::new(SegmentCache::new(SPARING_CACHE_BYTES));
        Self { cache, ..self }
    }

    /// For tests of what is opened how often.
    #[cfg(test)]
    pub(crate) fn without_cache(self) -> Self {
        let cache = Mutex::new(SegmentCache::new(0));
        Self { cache, ..self }
    }

    /// True when the index names a holder of the chunk.
    #[must_use]
    pub fn holds(&self, id: ChunkId) -> bool {
        self.lookup.find(self.keys.domain, id).is_some()
    }

    /// The pack and length of the segment that holds the chunk; what it costs to read it.
    #[must_use]
    pub fn cost(&self, id: ChunkId) -> Option<(String, u64)> {
        let (place, pack, _) = self.lookup.row(self.lookup.find(self.keys.domain, id)?);
        Some((pack.name(), u64::from(place.sealed_bytes)))
    }

    /// Where the chunk is kept; `None` when it is in no pack.
    #[must_use]
    pub fn kept(&self, id: ChunkId) -> Option<Kept> {
        let segment = self.lookup.find(self.keys.domain, id)?;
        let (place, pack, _) = self.lookup.row(segment);
        Some(Kept {
            segment,
            run: pack.entry.run,
            sealed_bytes: place.sealed_bytes,
        })
    }

    /// The list of a stream's chunks.
    ///
    /// # Errors
    /// When a list cannot be read.
    pub fn chunks(&self, stream: &StreamRef) -> Result<Vec<ChunkItem>, ReadError> {
        Ok(chunks_of_stream(self, stream, &mut |_, _| Ok(()))?)
    }

    /// Whose chunks.
    pub(crate) fn domain(&self) -> u32 {
        self.keys.domain
    }

    /// One chunk, by way of the cache of opened segments.
    pub(crate) fn chunk(&self, item: &ChunkItem) -> Result<Vec<u8>, ReadError> {
        self.with_chunk(item, <[u8]>::to_vec)
    }

    /// Hands one chunk to `use_it`, by way of the cache of opened segments.
    pub(crate) fn with_chunk<T>(
        &self,
        item: &ChunkItem,
        use_it: impl FnOnce(&[u8]) -> T,
    ) -> Result<T, ReadError> {
        let mut failure = None;
        for segment in self.lookup.holders(self.keys.domain, item.id) {
            match self.proven(segment, &mut SegmentOpener::default()) {
                Ok(decoded) => {
                    if let Some(chunk) = decoded
                        .chunk(item.id)
                        .filter(|chunk| chunk.len() == item.length as usize)
                    {
                        return Ok(use_it(chunk));
                    }
                    failure.get_or_insert(ReadError::format(
                        "a chunk list",
                        FormatError::Invalid("a chunk has another length"),
                    ));
                }
                Err(error) => {
                    failure.get_or_insert(error);
                }
            }
        }
        Err(failure.unwrap_or(ReadError::MissingChunk(item.id)))
    }

    /// The opened segment, of which each chunk is what its id says.
    fn proven(&self, segment: u32, opener: &mut SegmentOpener) -> Result<Arc<Decoded>, ReadError> {
        let decoded = self.decoded(segment, &mut Rest::new(opener))?;
        let (_, pack, _) = self.lookup.row(segment);
        let id_key = self.keys.key(recipient_of(pack.entry.kind));
        id_key
            .and_then(|id_key| decoded.prove(id_key))
            .map_err(|source| ReadError::format(pack.name(), source))?;
        Ok(decoded)
    }

    /// The opened segment, by way of the cache.
    fn decoded<'s>(&'s self, segment: u32, rest: &mut Rest<'s>) -> Result<Arc<Decoded>, ReadError> {
        let lock = || self.cache.lock().expect("no thread panics in the cache");
        if let Some(decoded) = lock().get(segment) {
            return Ok(decoded);
        }
        self.count_opened(segment, rest)?;
        let mut fetched = self.fetch_near(segment)?;
        let (_, pack, row) = self.lookup.row(segment);
        let base = self.base_of(segment, rest, None)?;
        let wrong = |source| ReadError::format(pack.name(), source);
        let (key, plan) = self.plan(segment, base.text()).map_err(wrong)?;
        let memory = lock().spare.pop().unwrap_or_default();
        let (content, ends) = rest
            .opener()
            .open_unproven(memory, &key, &plan, &mut fetched)
            .map_err(|source| {
                // Bytes that were read wrong once are not given again.
                self.repository.near.clear();
                wrong(source)
            })?;
        let decoded = Arc::new(Decoded {
            content,
            ends,
            chunks: row.chunk_ids().zip(0..).collect(),
            proven: AtomicBool::new(false),
        });
        lock().put(segment, Arc::clone(&decoded));
        Ok(decoded)
    }

    /// Reads a segment, with what lies around a small one: that is asked for next, because changes of one stream lie together.
    fn fetch_near(&self, segment: u32) -> Result<Vec<u8>, ReadError> {
        let (place, pack, _) = self.lookup.row(segment);
        let range = place.offset..place.offset + u64::from(place.sealed_bytes);
        let id = pack.entry.id;
        if let Some(bytes) = self.repository.near.find(id, &range) {
            return Ok(bytes);
        }
        let is_small = range.end - range.start <= NEAR_BYTES / 4;
        if is_small || pack.entry.object_bytes <= 2 * NEAR_BYTES {
            let from = range.start / NEAR_BYTES * NEAR_BYTES;
            let to = (from + 2 * NEAR_BYTES).min(pack.entry.object_bytes);
            // A small pack is one part.
            let from = if to <= 2 * NEAR_BYTES { 0 } else { from };
            let mut bytes = vec![0; (to.max(range.end) - from) as usize];
            let store = &self.repository.store;
            let name = object_name(&pack.name());
            if store.get_range(&name, from, &mut bytes).is_ok() {
                let own = (range.start - from) as usize..(range.end - from) as usize;
                let own = bytes[own].to_vec();
                self.repository.near.keep(id, from, bytes);
                return Ok(own);
            }
        }
        let mut fetched = Vec::new();
        let range = self.fetch(segment, &mut fetched)?;
        fetched.truncate(range.end);
        fetched.drain(..range.start);
        Ok(fetched)
    }

    /// Reads the blocks that hold a segment; returns where in `into` it is.
    fn fetch(&self, segment: u32, into: &mut Vec<u8>) -> Result<Range<usize>, ReadError> {
        let (place, pack, _) = self.lookup.row(segment);
        let length = place.sealed_bytes as usize;
        let blocks = blocks_of(place.offset, length as u64, pack.entry.object_bytes);
        into.resize((blocks.end - blocks.start) as usize, 0);
        let store = &self.repository.store;
        let name = object_name(&pack.name());
        match store.get_range(&name, blocks.start, into) {
            Ok(()) => {
                let at = (place.offset - blocks.start) as usize;
                Ok(at..at + length)
            }
            // What was cut off behind the segment must not cost the segment.
            Err(error) if error.kind() == ErrorKind::Truncated => {
                store.get_range(&name, place.offset, &mut into[..length])?;
                Ok(0..length)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Opens a fetched segment and hands out its chunks.
    fn open(
        &self,
        hand: &mut Hand,
        segment: u32,
        sealed: &mut [u8],
        aside: &Aside,
        each: &mut dyn FnMut(ChunkId, &[u8]),
    ) -> Result<(), ReadError> {
        let (_, pack, row) = self.lookup.row(segment);
        let wrong = |source| ReadError::format(pack.name(), source);
        let base = self.base_of(segment, &mut Rest::new(&mut hand.below), Some(aside))?;
        let (key, plan) = self.plan(segment, base.text()).map_err(wrong)?;
        let id_key = self
            .keys
            .key(recipient_of(pack.entry.kind))
            .map_err(wrong)?;
        let chunks = hand
            .opener
            .open(&key, id_key, &plan, sealed)
            .map_err(wrong)?;
        aside.put(segment, &chunks);
        row.chunk_ids()
            .zip(chunks)
            .for_each(|(id, chunk)| each(id, chunk));
        Ok(())
    }

    /// What opens a segment, and what it must be.
    fn plan<'p>(
        &'p self,
        segment: u32,
        base: &'p [u8],
    ) -> Result<(Arc<RunKey>, SegmentPlan<'p>), FormatError> {
        let (_, pack, row) = self.lookup.row(segment);
        let key = self.repository.run_key(pack.envelope_of(&row)?)?;
        let plan = SegmentPlan {
            family: self.repository.family(),
            kind: pack.entry.kind,
            codec: row.codec,
            ids: row.ids,
            base,
        };
        Ok((key, plan))
    }

    /// A whole stream in memory; for manifests. Trees are read entry by entry.
    ///
    /// # Errors
    /// When a chunk cannot be read, or the stream is larger than any tree.
    pub fn whole(&self, stream: &StreamRef) -> Result<Vec<u8>, ReadError> {
        if stream.length > WHOLE_MAX {
            return Err(ReadError::format(
                "a tree or manifest",
                FormatError::Invalid("it is larger than any can be"),
            ));
        }
        let mut out = Vec::new();
        for item in self.chunks(stream)? {
            out.extend_from_slice(&self.chunk(&item)?);
        }
        Ok(out)
    }

    /// Reads many chunks, those of a run of segments in the order in which they lie in its pack, on all cores, and hands each to `deliver`.
    ///
    /// A chunk that is wanted several times is delivered several times. `deliver` is called from several threads.
    /// When a chunk cannot be read, `deliver` gets the error instead, once for each wanted item. Stops early when
    /// `stop` is set.
    pub fn deliver(&self, wanted: &[Wanted], stop: &AtomicBool, deliver: &Deliver<'_>) {
        let cores = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
        self.deliver_by(cores, wanted, stop, deliver);
    }

    pub(crate) fn deliver_by(
        &self,
        workers: usize,
        wanted: &[Wanted],
        stop: &AtomicBool,
        deliver: &Deliver<'_>,
    ) {
        let order = self.order(wanted, workers, |item| {
            deliver(item.tag, Err(&ReadError::MissingChunk(item.id)));
        });
        let next = AtomicUsize::new(0);
        let threads = workers.min(order.batches.len());
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    let (mut hand, mut buffer) = (Hand::default(), Vec::new());
                    while let Some(batch) = order.batches.get(next.fetch_add(1, Ordering::Relaxed))
                    {
                        if stop.load(Ordering::Relaxed) {
                            return;
                        }
                        self.batch(&order, batch.clone(), &mut hand, &mut buffer, deliver);
                    }
                });
            }
        });
    }

    fn batch(
        &self,
        order: &Order,
        batch: Range<usize>,
        hand: &mut Hand,
        buffer: &mut Vec<u8>,
        deliver: &Deliver<'_>,
    ) {
        let wishes = &order.wishes[batch];
        let place = |number: usize| self.lookup.place(wishes[number].segment);
        let (first, last) = (place(0), place(wishes.len() - 1));
        let pack = self.lookup.pack(first.pack);
        let blocks = blocks_of(
            first.offset,
            last.offset + u64::from(last.sealed_bytes) - first.offset,
            pack.entry.object_bytes,
        );
        let length = (blocks.end - blocks.start) as usize;
        if buffer.len() < length {
            buffer.resize(length, 0);
        }
        let fetched = self.repository.store.get_range(
            &object_name(&pack.name()),
            blocks.start,
            &mut buffer[..length],
        );
        for (number, wish) in wishes.iter().enumerate() {
            let at = (place(number).offset - blocks.start) as usize;
            let sealed = &mut buffer[at..at + place(number).sealed_bytes as usize];
            if fetched.is_err()
                || self
                    .open_wish(hand, wish, sealed, &order.aside, deliver)
                    .is_err()
            {
                self.one_by_one(&wish.wanted, deliver);
            }
        }
    }

    /// Delivers what is wanted of one segment; nothing is delivered when it fails.
    fn open_wish(
        &self,
        hand: &mut Hand,
        wish: &Wish,
        sealed: &mut [u8],
        aside: &Aside,
        deliver: &Deliver<'_>,
    ) -> Result<(), ReadError> {
        let (segment, wanted) = (wish.segment, &wish.wanted);
        if let [only] = wanted.as_slice() {
            // A row may name a chunk twice.
            let mut is_done = false;
            return self.open(hand, segment, sealed, aside, &mut |id, chunk| {
                if id == only.id && !std::mem::replace(&mut is_done, true) {
                    deliver(only.tag, Ok(chunk));
                }
            });
        }
        let mut tags: HashMap<ChunkId, Vec<u64>> = HashMap::with_capacity(wanted.len());
        wanted
            .iter()
            .for_each(|item| tags.entry(item.id).or_default().push(item.tag));
        self.open(hand, segment, sealed, aside, &mut |id, chunk| {
            for tag in tags.remove(&id).into_iter().flatten() {
                deliver(tag, Ok(chunk));
            }
        })
    }

    /// The slow way: each chunk from whichever holder is whole.
    fn one_by_one(&self, wanted: &[Wanted], deliver: &Deliver<'_>) {
        // What is broken is opened once, however much was wanted of it.
        let mut broken: HashMap<u32, ReadError> = HashMap::new();
        for item in wanted {
            let mut failed = None;
            let found = self
                .lookup
                .holders(self.keys.domain, item.id)
                .find_map(|segment| {
                    if broken.contains_key(&segment) {
                        failed.get_or_insert(segment);
                        return None;
                    }
                    match self.proven(segment, &mut SegmentOpener::default()) {
                        Ok(decoded) => decoded.chunk(item.id).is_some().then_some(decoded),
                        Err(error) => {
                            broken.insert(segment, error);
                            failed.get_or_insert(segment);
                            None
                        }
                    }
                });
            let missing = ReadError::MissingChunk(item.id);
            match found.as_ref().and_then(|decoded| decoded.chunk(item.id)) {
                Some(chunk) => deliver(item.tag, Ok(chunk)),
                None => {
                    let why = failed.and_then(|segment| broken.get(&segment));
                    deliver(item.tag, Err(why.unwrap_or(&missing)));
                }
            }
        }
    }

    /// Writes a stream from its first byte to its last, decoding ahead on all cores.
    ///
    /// # Errors
    /// When a chunk cannot be read, or `out` fails.
    pub fn copy_to(&self, stream: &StreamRef, out: &mut dyn Write) -> Result<(), StreamError> {
        let items = self.chunks(stream)?;
        let mut rest = items.as_slice();
        while !rest.is_empty() {
            let mut bytes = 0;
            let count = rest
                .iter()
                .take_while(|item| {
                    let before = bytes;
                    bytes += u64::from(item.length);
                    before < WINDOW_BYTES
                })
                .count();
            let (window, later) = rest.split_at(count);
            let slots: Vec<Mutex<Option<Vec<u8>>>> =
                window.iter().map(|_| Mutex::new(None)).collect();
            let wanted: Vec<Wanted> = window
                .iter()
                .enumerate()
                .map(|(tag, item)| Wanted {
                    id: item.id,
                    tag: tag as u64,
                })
                .collect();
            self.deliver(&wanted, &AtomicBool::new(false), &|tag, chunk| {
                *slots[tag as usize].lock().expect("no thread panics here") =
                    chunk.ok().map(<[u8]>::to_vec);
            });
            for (slot, item) in slots.into_iter().zip(window) {
                match slot.into_inner().expect("no thread panics here") {
                    Some(chunk) if chunk.len() == item.length as usize => out.write_all(&chunk)?,
                    // Asked for once more, alone: another holder may be whole, or the error has its whole chain.
                    _ => out.write_all(&self.chunk(item)?)?,
                }
            }
            rest = later;
        }
        Ok(())
    }
}

/// A stream could not be copied out.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// The repository did not give it.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The other side did not take it.
    #[error("the receiving side failed")]
    Write(#[from] io::Error),
}

/// The whole blocks of an object that hold these bytes: a storage that logs what is read learns no segment's borders.
fn blocks_of(offset: u64, length: u64, object_bytes: u64) -> Range<u64> {
    let block = BLOCK_BYTES as u64;
    let end = offset + length;
    offset / block * block..end.next_multiple_of(block).min(object_bytes).max(end)
}
