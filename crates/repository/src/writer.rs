//! Writes streams: cuts, names, deduplicates, gathers chunks into segments, seals, appends to packs.
//!
//! One [`Lane`] for each worker owns every stage and its buffers, so data does not move between cores and the hot
//! path takes no lock but a set's shard. Full segments of one large stream are handed to idle workers.

use std::collections::VecDeque;
use std::io::Read;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};

use lifeboat_codec::{
    ChunkId, ChunkItem, Chunker, Codec, DomainKeys, End, Kind, Nonce, Profile, Recipient, Role,
    SEGMENT_BYTES, SegmentSealer, StreamRef, chunk_id, content_tail, cut_at_end, list_chunks,
    put_chunk,
};

use crate::basis::Basis;
use crate::known::Known;
use crate::packs::{OpenPacks, PackMaker, RUN_BYTES};
use crate::progress::{Counter, Progress};
use crate::reader::Reader;
use crate::repository::Repository;
use crate::write_error::WriteError;

mod beside;
mod gathering;
mod stored;
mod work;
#[cfg(test)]
mod tests;

use self::beside::{Beside, Rests, Span, Stood};
use self::gathering::Gathering;
pub use self::work::{Tasks, work};

/// A chunk of this length is a segment alone and is sealed from where it lies.
const ALONE_BYTES: usize = SEGMENT_BYTES / 2;
/// Segments that wait for an idle worker.
const JOBS_MAX: usize = 3;
/// A stream with more chunks keeps its list as a stream of its own.
const INLINE_CHUNKS: usize = 4;
/// Room in a lane for reading large files.
const READ_BYTES: usize = 8 << 20;

/// Work that any worker can do for another: seal one segment.
struct Job {
    kind: Kind,
    ids: Vec<u8>,
    /// Its first `used` bytes are content.
    content: Vec<u8>,
    used: usize,
    past: Past,
}

/// What a segment's chunks were, in an earlier snapshot.
#[derive(Default)]
enum Past {
    #[default]
    Unknown,
    /// Where they stood in one stream.
    Stood(Box<Stood>),
    /// What small files were, in no order that means something.
    Were(Vec<ChunkId>),
}

#[derive(Default)]
struct Board {
    jobs: VecDeque<Job>,
    spare: Vec<Vec<u8>>,
}

/// What a run added.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Added {
    /// Chunks.
    pub chunks: u64,
    /// Their bytes, before compression.
    pub new_bytes: u64,
}

/// What a stream is read from.
pub trait Source: Read {
    /// Where the stream may be cut besides, in what was read since the last question, in order; `None` where nothing is known
    /// of that.
    fn ends(&mut self) -> Option<Vec<End>>;
}

/// A source of which nothing else is known.
struct Plain<'a>(&'a mut dyn Read);

impl Read for Plain<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Source for Plain<'_> {
    fn ends(&mut self) -> Option<Vec<End>> {
        None
    }
}

/// One run's writing side; shared by its workers.
pub struct Writer<'r> {
    pub(crate) maker: PackMaker<'r>,
    pub(crate) known: Known,
    keys: DomainKeys,
    chunker: Chunker,
    data: OpenPacks,
    meta: OpenPacks,
    board: Mutex<Board>,
    bell: Condvar,
    idle: AtomicUsize,
    chunks: AtomicU64,
    new_bytes: AtomicU64,
    progress: &'r dyn Progress,
    stop: &'r AtomicBool,
    /// Reads the chunk lists of what may be taken over; none for a key that reads nothing.
    lists: Option<Reader<'r>>,
    /// True when every pack is there that the index names.
    complete: bool,
}

impl<'r> Writer<'r> {
    pub(crate) fn new(
        maker: PackMaker<'r>,
        known: Known,
        keys: DomainKeys,
        progress: &'r dyn Progress,
        stop: &'r AtomicBool,
        complete: bool,
    ) -> Self {
        let chunker = Chunker::new(&maker.repository.keyring.chunker);
        let lists = (maker.repository.role() != Role::WriteOnly)
            .then(|| {
                maker
                    .repository
                    .reader_over(Arc::clone(&known.lookup), known.domain)
                    .ok()
                    .map(Reader::sparing)
            })
            .flatten();
        Self {
            maker,
            known,
            keys,
            chunker,
            data: OpenPacks::new(Kind::DataPack),
            meta: OpenPacks::new(Kind::MetaPack),
            board: Mutex::default(),
            bell: Condvar::new(),
            idle: AtomicUsize::new(0),
            chunks: AtomicU64::new(0),
            new_bytes: AtomicU64::new(0),
            progress,
            stop,
            lists,
            complete,
        }
    }

    /// The repository that is written to.
    #[must_use]
    pub fn repository(&self) -> &'r Repository {
        self.maker.repository
    }

    /// Who watches.
    #[must_use]
    pub fn progress(&self) -> &dyn Progress {
        self.progress
    }

    /// True when the run should end early.
    #[must_use]
    pub fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// True when everything is still there that a run which rested on `earlier` left: what it saw may be taken over.
    #[must_use]
    pub fn still_has(&self, earlier: &Basis) -> bool {
        self.complete && self.known.lookup.basis.holds(earlier)
    }

    /// True when the chunk is stored, so that it may be taken over without reading the source.
    #[must_use]
    pub fn has_chunk(&self, id: ChunkId) -> bool {
        self.known.has(id)
    }

    /// True when every chunk of a stream is stored, those of its lists too. Reads the lists; a key that reads nothing
    /// says no where there are any.
    #[must_use]
    pub fn has_stream(&self, stream: &StreamRef) -> bool {
        let all = |items: &[ChunkItem]| items.iter().all(|item| self.known.has(item.id));
        list_chunks(&stream.items).is_ok_and(|items| all(&items))
            && (stream.depth == 0
                || self
                    .lists
                    .as_ref()
                    .and_then(|lists| lists.chunks(stream).ok())
                    .is_some_and(|items| all(&items)))
    }

    /// What was added so far.
    #[must_use]
    pub fn added(&self) -> Added {
        Added {
            chunks: self.chunks.load(Ordering::Relaxed),
            new_bytes: self.new_bytes.load(Ordering::Relaxed),
        }
    }

    fn packs(&self, kind: Kind) -> &OpenPacks {
        if kind == Kind::DataPack {
            &self.data
        } else {
            &self.meta
        }
    }

    pub(crate) fn flush(&self) -> Result<(), WriteError> {
        self.data.flush(&self.maker)?;
        self.meta.flush(&self.maker)
    }

    fn lane(&self) -> Lane<'_, 'r> {
        let seed = self.maker.repository.surroundings.with_entropy(|entropy| {
            let mut seed = [0; 8];
            entropy.fill(&mut seed);
            u64::from_le_bytes(seed) | 1
        });
        Lane {
            writer: self,
            data: Gathering::new(),
            meta: Gathering::new(),
            beside: None,
            failures: 0,
            sealer: SegmentSealer::default(),
            read: Vec::new(),
            choice: seed,
            run_left: 0,
        }
    }
}

/// One worker's way into the repository.
pub struct Lane<'w, 'r> {
    writer: &'w Writer<'r>,
    data: Gathering,
    meta: Gathering,
    /// The earlier stream beside the one that is cut, and where in the latter the next chunk starts.
    beside: Option<(Beside<'w, 'r>, u64)>,
    /// How often what small files were before could not be read.
    failures: u32,
    sealer: SegmentSealer,
    read: Vec<u8>,
    choice: u64,
    run_left: u64,
}

impl<'w, 'r> Lane<'w, 'r> {
    /// The writer that the lane belongs to.
    #[must_use]
    pub fn writer(&self) -> &'w Writer<'r> {
        self.writer
    }

    /// Stores a file of at most `room` bytes, which is at most the profile's smallest chunk: one chunk, or none when it is empty.
    ///
    /// `fill` reads it into the bytes that it is given and returns how many it wrote. The bytes lie where the segment
    /// gathers, so a file that is already stored costs one read and one hash, and a new one no copy. `before` is what the file
    /// was in an earlier snapshot, which it may be stored as a change of.
    ///
    /// # Errors
    /// What `fill` returns, or when a segment cannot be stored.
    pub fn put_small<E: From<WriteError>>(
        &mut self,
        profile: Profile,
        room: usize,
        before: Option<ChunkId>,
        fill: impl FnOnce(&mut [u8]) -> Result<usize, E>,
    ) -> Result<Option<ChunkItem>, E> {
        assert!(room <= profile.min_bytes() + 1, "a larger file is cut");
        self.switch(profile)?;
        let length = fill(self.data.room(room))?;
        if length == 0 {
            return Ok(None);
        }
        let id = chunk_id(
            self.writer
                .keys
                .key(Recipient::Data)
                .map_err(WriteError::from)?,
            &self.data.content[self.data.used..self.data.used + length],
        );
        if self.writer.known.take_on(id) {
            self.data.before.extend(before);
            self.gather(Kind::DataPack, id, length)?;
        }
        Ok(Some(ChunkItem {
            id,
            length: length as u32,
        }))
    }

    /// Stores a stream of any length in data packs. `earlier` is what it was in an earlier snapshot, which it may be stored
    /// as a change of.
    ///
    /// # Errors
    /// When the source cannot be read ([`WriteError::Source`]), or a segment cannot be stored.
    pub fn put_stream(
        &mut self,
        profile: Profile,
        earlier: Option<&StreamRef>,
        source: &mut dyn Read,
    ) -> Result<StreamRef, WriteError> {
        self.put_rows(profile, earlier, &mut Plain(source))
    }

    /// The same of a source that knows where it is best cut.
    ///
    /// # Errors
    /// The same.
    pub fn put_rows(
        &mut self,
        profile: Profile,
        earlier: Option<&StreamRef>,
        source: &mut dyn Source,
    ) -> Result<StreamRef, WriteError> {
        self.switch(profile)?;
        let lists = self.writer.lists.as_ref();
        let beside = earlier
            .zip(lists)
            .and_then(|(earlier, lists)| Beside::begin(lists, earlier));
        if beside.is_some() {
            // What rests on an earlier stream is of one stream.
            self.close_segment(Kind::DataPack)?;
        }
        self.beside = beside.map(|beside| (beside, 0));
        let mut list = ListWriter::default();
        let cut = self.cut(Kind::DataPack, profile, source, &mut list);
        let cut = match &self.beside {
            Some(_) => cut.and_then(|()| self.close_segment(Kind::DataPack)),
            None => cut,
        };
        self.beside = None;
        cut?;
        self.close_list(list, profile)
    }

    /// Stores a tree, list or manifest in meta packs.
    ///
    /// # Errors
    /// When a segment cannot be stored.
    pub fn put_meta(&mut self, bytes: &[u8]) -> Result<StreamRef, WriteError> {
        let mut list = ListWriter::default();
        self.cut_meta(bytes, &mut list)?;
        self.close_list(list, Profile::Metadata)
    }

    /// Stores the next bytes of a tree that comes in parts.
    ///
    /// # Errors
    /// When a segment cannot be stored.
    pub fn extend_meta(&mut self, stream: &mut MetaStream, bytes: &[u8]) -> Result<(), WriteError> {
        stream.rest.extend_from_slice(bytes);
        let mut at = 0;
        // Where a chunk ends is known once so much is there as the longest may have.
        while stream.rest.len() - at >= Profile::Metadata.max_bytes() {
            let rest = &stream.rest[at..];
            let length = self.writer.chunker.cut(Profile::Metadata, rest);
            let chunk = self.put_chunk(Kind::MetaPack, &rest[..length])?;
            stream.list.push(chunk);
            at += length;
        }
        stream.rest.drain(..at);
        Ok(())
    }

    /// Ends a tree that came in parts: what [`put_meta`](Self::put_meta) would return for all of it.
    ///
    /// # Errors
    /// When a segment cannot be stored.
    pub fn close_meta(&mut self, mut stream: MetaStream) -> Result<StreamRef, WriteError> {
        self.cut_meta(&stream.rest, &mut stream.list)?;
        self.close_list(stream.list, Profile::Metadata)
    }

    fn cut_meta(&mut self, mut bytes: &[u8], list: &mut ListWriter) -> Result<(), WriteError> {
        while !bytes.is_empty() {
            let (chunk, rest) = bytes.split_at(self.writer.chunker.cut(Profile::Metadata, bytes));
            list.push(self.put_chunk(Kind::MetaPack, chunk)?);
            bytes = rest;
        }
        Ok(())
    }

    /// A short list stands in the reference; a long one becomes a stream, until it is short.
    fn close_list(&mut self, list: ListWriter, profile: Profile) -> Result<StreamRef, WriteError> {
        let (length, mut items, mut count, mut depth) = (list.length, list.items, list.count, 0);
        while count > INLINE_CHUNKS {
            let mut above = ListWriter::default();
            self.cut_meta(&items, &mut above)?;
            (items, count) = (above.items, above.count);
            depth += 1;
        }
        Ok(StreamRef::new(length, profile, depth, items))
    }

    fn cut(
        &mut self,
        kind: Kind,
        profile: Profile,
        source: &mut dyn Source,
        list: &mut ListWriter,
    ) -> Result<(), WriteError> {
        let (mut ends, mut is_rows) = (VecDeque::new(), false);
        let mut buffer = std::mem::take(&mut self.read);
        let capacity = READ_BYTES.min(profile.max_bytes() * 4);
        buffer.resize(capacity.max(buffer.len()), 0);
        let (mut start, mut end, mut ended) = (0, 0, false);
        // Where the gear hash cuts what is there, once it is known that nothing more comes.
        let mut last_cut = None;
        let result = loop {
            let available = &buffer[start..end];
            let at_end = cut_at_end(profile, list.length, &mut ends);
            let at_end = at_end.filter(|length| *length <= available.len());
            let is_short = !ended && available.len() < profile.max_bytes();
            // Rows are cut by the gear hash where they have no rare end for twice the average, so long ones always.
            let length = match (at_end, last_cut.take()) {
                (Some(length), _) | (None, Some(length)) => length,
                (None, None) if is_rows && is_short => available.len(),
                (None, None) => self.writer.chunker.cut(profile, available),
            };
            // A cut point at the end of what is there may only be the end of what is there.
            if is_short
                && at_end.is_none()
                && (length == available.len() || available.len() < profile.average_bytes())
            {
                buffer.copy_within(start..end, 0);
                end -= start;
                start = 0;
                match fill(source, &mut buffer[end..capacity]) {
                    Ok(0) => {
                        ended = true;
                        last_cut = (!is_rows).then_some(length);
                    }
                    Ok(count) => {
                        end += count;
                        let more = source.ends();
                        is_rows |= more.is_some();
                        ends.extend(more.into_iter().flatten());
                    }
                    Err(error) => break Err(WriteError::Source(error)),
                }
                continue;
            }
            if length == 0 {
                break Ok(());
            }
            if self.writer.stopped() {
                break Err(WriteError::Stopped);
            }
            if let Some((_, at)) = &mut self.beside {
                *at = list.length;
            }
            match self.put_chunk(kind, &buffer[start..start + length]) {
                Ok(item) => list.push(item),
                Err(error) => break Err(error),
            }
            start += length;
        };
        self.read = buffer;
        result
    }

    /// Stores one chunk, unless it is stored.
    fn put_chunk(&mut self, kind: Kind, chunk: &[u8]) -> Result<ChunkItem, WriteError> {
        let recipient = lifeboat_codec::recipient_of(kind);
        let id = chunk_id(self.writer.keys.key(recipient)?, chunk);
        let beside = self.beside.as_mut().filter(|_| kind == Kind::DataPack);
        if self.writer.known.take_on(id) {
            let span = beside.map(|(_, at)| Span::new(*at, chunk.len()));
            if chunk.len() >= ALONE_BYTES {
                self.count(chunk.len());
                let past = self.past(span.as_slice(), Vec::new());
                if let Err(past) = self.hand_over_alone(kind, id, chunk, past) {
                    self.seal(kind, &id.0, chunk, &past)?;
                }
            } else {
                let gathering = self.gathering(kind);
                gathering.spans.extend(span);
                gathering.room(chunk.len()).copy_from_slice(chunk);
                self.gather(kind, id, chunk.len())?;
                let is_end = |(beside, _): &(Beside<'_, '_>, u64)| {
                    span.is_some_and(|span| beside.is_end(&span))
                };
                if self.data.used >= SEGMENT_BYTES / 4 && self.beside.as_ref().is_some_and(is_end) {
                    self.close_segment(kind)?;
                }
            }
        } else if let Some((beside, at)) = beside {
            beside.anchor(id, *at);
        }
        Ok(ChunkItem {
            id,
            length: chunk.len() as u32,
        })
    }

    /// What chunks at these places, or those of small files that were `before`, were.
    fn past(&mut self, spans: &[Span], before: Vec<ChunkId>) -> Past {
        if let Some((beside, _)) = &mut self.beside {
            let stood = beside.stood(spans);
            return stood.map_or(Past::Unknown, |stood| Past::Stood(Box::new(stood)));
        }
        if before.is_empty() || self.failures >= beside::FAILURES_MAX {
            return Past::Unknown;
        }
        Past::Were(before)
    }

    /// What a segment with this content may rest on.
    fn rests(&mut self, past: &Past, content: &[u8]) -> Option<Rests> {
        let reader = self.writer.lists.as_ref()?;
        match past {
            Past::Unknown => None,
            Past::Stood(stood) => stood.rests(reader, content),
            Past::Were(before) => beside::files_rest(reader, before, &mut self.failures),
        }
    }

    fn gathering(&mut self, kind: Kind) -> &mut Gathering {
        if kind == Kind::DataPack {
            &mut self.data
        } else {
            &mut self.meta
        }
    }

    /// A segment holds chunks of one profile only.
    fn switch(&mut self, profile: Profile) -> Result<(), WriteError> {
        if self.data.profile != Some(profile) {
            self.close_segment(Kind::DataPack)?;
            self.data.profile = Some(profile);
            self.data.shrinks = true;
        }
        Ok(())
    }

    /// The next `length` bytes of the gathering are a chunk.
    fn gather(&mut self, kind: Kind, id: ChunkId, length: usize) -> Result<(), WriteError> {
        self.count(length);
        let gathering = self.gathering(kind);
        gathering.ids.extend_from_slice(&id.0);
        gathering.lengths.push(length as u32);
        gathering.used += length;
        if gathering.full() {
            self.close_segment(kind)
        } else {
            Ok(())
        }
    }

    fn count(&self, bytes: usize) {
        self.writer.chunks.fetch_add(1, Ordering::Relaxed);
        self.writer
            .new_bytes
            .fetch_add(bytes as u64, Ordering::Relaxed);
        self.writer.progress.count(Counter::NewBytes, bytes as u64);
    }

    /// Takes what was gathered as the content of one segment; nothing when there is none.
    fn gathered(&mut self, kind: Kind) -> Option<Job> {
        let gathering = self.gathering(kind);
        if gathering.lengths.is_empty() {
            return None;
        }
        let tail = content_tail(&gathering.lengths);
        gathering.room(tail.len()).copy_from_slice(&tail);
        let mut job = Job {
            kind,
            ids: std::mem::take(&mut gathering.ids),
            content: std::mem::take(&mut gathering.content),
            used: gathering.used + tail.len(),
            past: Past::Unknown,
        };
        gathering.used = 0;
        gathering.lengths.clear();
        let mut spans = std::mem::take(&mut gathering.spans);
        let before = std::mem::take(&mut gathering.before);
        if kind == Kind::DataPack {
            job.past = self.past(&spans, before);
        }
        spans.clear();
        self.gathering(kind).spans = spans;
        Some(job)
    }

    fn close_segment(&mut self, kind: Kind) -> Result<(), WriteError> {
        let Some(job) = self.gathered(kind) else {
            return Ok(());
        };
        let (content, mut ids) = match self.hand_over(job) {
            Ok(spare) => (spare, Vec::new()),
            Err(job) => {
                let codec = self.seal_job(&job)?;
                self.gathering(kind).shrinks = codec != Codec::Raw;
                (job.content, job.ids)
            }
        };
        ids.clear();
        let gathering = self.gathering(kind);
        (gathering.content, gathering.ids) = (content, ids);
        Ok(())
    }

    /// Gives a segment to an idle worker, if there is one, and returns a buffer to go on with.
    fn hand_over(&self, job: Job) -> Result<Vec<u8>, Job> {
        if self.writer.idle.load(Ordering::Relaxed) == 0 {
            return Err(job);
        }
        let mut board = self
            .writer
            .board
            .lock()
            .expect("no thread panics at the board");
        if board.jobs.len() >= JOBS_MAX {
            return Err(job);
        }
        board.jobs.push_back(job);
        self.writer.bell.notify_one();
        Ok(board.spare.pop().unwrap_or_default())
    }

    fn hand_over_alone(
        &self,
        kind: Kind,
        id: ChunkId,
        chunk: &[u8],
        past: Past,
    ) -> Result<(), Past> {
        if self.writer.idle.load(Ordering::Relaxed) == 0 {
            return Err(past);
        }
        let mut board = self
            .writer
            .board
            .lock()
            .expect("no thread panics at the board");
        if board.jobs.len() >= JOBS_MAX {
            return Err(past);
        }
        let mut content = board.spare.pop().unwrap_or_default();
        content.clear();
        content.extend_from_slice(chunk);
        board.jobs.push_back(Job {
            kind,
            ids: id.0.to_vec(),
            content,
            used: chunk.len(),
            past,
        });
        self.writer.bell.notify_one();
        Ok(())
    }

    fn seal_job(&mut self, job: &Job) -> Result<Codec, WriteError> {
        let content = &job.content[..job.used];
        self.seal(job.kind, &job.ids, content, &job.past)
    }

    fn seal(
        &mut self,
        kind: Kind,
        ids: &[u8],
        content: &[u8],
        past: &Past,
    ) -> Result<Codec, WriteError> {
        let rests = self.rests(past, content);
        let packs = self.writer.packs(kind);
        let slot = self.slot(packs.count(), content.len() as u64);
        let maker = &self.writer.maker;
        let nonce = maker.repository.surroundings.with_entropy(|entropy| {
            let mut nonce = [0; 24];
            entropy.fill(&mut nonce);
            Nonce(nonce)
        });
        let key = if kind == Kind::DataPack {
            &maker.data.1
        } else {
            &maker.meta.1
        };
        let family = maker.repository.family();
        let text = rests.as_ref().map_or(&[][..], Rests::text);
        let (codec, sealed) = self
            .sealer
            .seal(key, family, kind, ids, content, text, nonce)?;
        let base = rests.filter(|_| codec == Codec::ZstdBase);
        let base = base.map_or_else(Vec::new, |rests| rests.base().encode());
        packs.append(maker, slot, sealed, codec, &base, ids)?;
        Ok(codec)
    }

    /// The pack for the next segment: drawn anew after each run, so that a pack's length says nothing about one file.
    fn slot(&mut self, count: usize, bytes: u64) -> usize {
        if count == 1 {
            return 0;
        }
        if self.run_left == 0 {
            // xorshift64: the draw need not be secret from anyone who lacks the keys, only uneven to an observer.
            self.choice ^= self.choice << 13;
            self.choice ^= self.choice >> 7;
            self.choice ^= self.choice << 17;
            self.run_left = RUN_BYTES;
        }
        self.run_left = self.run_left.saturating_sub(bytes);
        (self.choice >> 32) as usize % count
    }

    /// Does one job of the board; false when there is none.
    fn help(&mut self) -> Result<bool, WriteError> {
        let job = self
            .writer
            .board
            .lock()
            .expect("no thread panics at the board")
            .jobs
            .pop_front();
        let Some(job) = job else { return Ok(false) };
        self.seal_job(&job)?;
        let mut board = self
            .writer
            .board
            .lock()
            .expect("no thread panics at the board");
        if board.spare.len() < JOBS_MAX {
            board.spare.push(job.content);
        }
        Ok(true)
    }

    /// Seals what is left. Never by handing it over: a worker that counts as idle now may be on its way home, and nobody
    /// would take the job from the board.
    fn finish(&mut self) -> Result<(), WriteError> {
        for kind in [Kind::DataPack, Kind::MetaPack] {
            if let Some(job) = self.gathered(kind) {
                self.seal_job(&job)?;
            }
        }
        Ok(())
    }
}

/// A tree that comes in parts, of which no more than one chunk is in memory.
#[derive(Default)]
pub struct MetaStream {
    /// What is not cut yet.
    rest: Vec<u8>,
    list: ListWriter,
}

/// Gathers a stream's chunk list.
#[derive(Default)]
struct ListWriter {
    items: Vec<u8>,
    count: usize,
    length: u64,
}

impl ListWriter {
    fn push(&mut self, item: ChunkItem) {
        put_chunk(&mut self.items, item);
        self.count += 1;
        self.length += u64::from(item.length);
    }
}

/// Reads until `into` is full or the source ends.
fn fill(source: &mut dyn Source, into: &mut [u8]) -> std::io::Result<usize> {
    let mut filled = 0;
    while filled < into.len() {
        match source.read(&mut into[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
