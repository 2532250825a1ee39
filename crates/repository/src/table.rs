//! A table of chunks: a local file that says what many index objects say, sorted by id, read where it is touched.
//!
//! Layout: magic 16, place and length of the contents 16, their sum 16, room to 64 bytes; entries, sorted by domain, id
//! and segment, in blocks of which each domain begins a new one; the packs' rows; the contents: everything else.
//!
//! Invariant: deleting, replacing or damaging it changes time only, never results. Contents, each block and each pack's
//! rows carry a keyed sum. A block that does not fit its sum is made anew from the rows, rows that do not fit theirs are
//! taken from their index object; the file is removed, and made again by the next run. It is true as long as the index
//! objects are listed that it was made of, and those who wrote them are believed.

mod contents;
mod merge;

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use lifeboat_codec::{ChunkId, Index, WriterId};

use crate::place::{PackPlace, PackRows};

use self::contents::Contents;
pub(crate) use self::merge::Fresh;

const MAGIC: &[u8; 16] = b"lifeboat table 1";
const HEAD_BYTES: usize = 64;
/// An id and the number of its segment.
const ENTRY_BYTES: usize = 20;
/// A block is little enough that a look-up which meets it first does not wait. Less in tests, for more borders.
const BLOCK_ENTRIES: usize = if cfg!(test) { 16 } else { 204 };
/// Steps from where an entry is guessed to stand, before it is searched for.
const NEAR_ENTRIES: usize = 40;
const BLOCK_BYTES: usize = BLOCK_ENTRIES * ENTRY_BYTES;
/// What of the blocks is kept in memory once it was read; more is read each time.
const HELD_MAX: usize = 210_000_000;
const CONTENTS_MAX: u64 = 4 << 30;

const SUM_BYTES: usize = 16;

type Sum = [u8; SUM_BYTES];
/// How an id begins: a number that compares as its first bytes do.
type Start = u64;
/// Reads an index object by its name.
pub(crate) type ReadAgain = Arc<dyn Fn(&str) -> Option<Index> + Send + Sync>;

/// Where a table lies, and what is needed to use it.
#[derive(Clone)]
pub(crate) struct Shelf {
    pub(crate) folder: PathBuf,
    /// Makes the sums of tables and nothing else.
    pub(crate) sum_key: [u8; 32],
    pub(crate) read_again: ReadAgain,
}

impl Shelf {
    fn path(&self) -> PathBuf {
        self.folder.join("chunks.table")
    }

    fn sum(&self, what: &str, bytes: &[u8]) -> Sum {
        // The bytes come first, where the hash takes many of them at once.
        let hash = blake3::Hasher::new_keyed(&self.sum_key)
            .update(bytes)
            .update(what.as_bytes())
            .update(&[what.len() as u8])
            .finalize();
        let (sum, _) = hash
            .as_bytes()
            .split_first_chunk()
            .expect("a hash is longer than a sum");
        *sum
    }

    /// Removes a file that is not what was written.
    fn forget(&self) {
        // Where that fails the sums refuse it again.
        let _ = fs::remove_file(self.path());
    }
}

/// An index object that a table was made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Object {
    pub(crate) name: String,
    /// Who signed it.
    pub(crate) author: WriterId,
    /// Whose chunks that one may speak of; `None` for the admin.
    pub(crate) domain: Option<u32>,
}

/// The entries of one domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Domain {
    domain: u32,
    entries: u64,
    first_block: usize,
}

impl Domain {
    fn blocks(&self) -> usize {
        self.entries.div_ceil(BLOCK_ENTRIES as u64) as usize
    }
}

/// Finds a block by how an id begins, in one step where ids are spread evenly, as those that honest writers make are.
struct Way {
    /// What is left of the number when this many bits are taken from its end says where to look.
    shift: u32,
    /// For each such rest, how many of the domain's blocks begin before it.
    before: Vec<u32>,
}

impl Way {
    fn new(starts: &[Start]) -> Self {
        let bits = starts.len().next_power_of_two().ilog2();
        let shift = Start::BITS - bits;
        let before = (0..1_u64 << bits).map(|rest| {
            let least = rest.checked_shl(shift).unwrap_or_default();
            starts.partition_point(|start| *start < least) as u32
        });
        Self {
            shift,
            before: before.chain([starts.len() as u32]).collect(),
        }
    }

    /// How many of the domain's blocks begin before `start`.
    fn before(&self, starts: &[Start], start: Start) -> usize {
        let rest = start.checked_shr(self.shift).unwrap_or_default() as usize;
        let (from, to) = (self.before[rest] as usize, self.before[rest + 1] as usize);
        from + starts[from..to].partition_point(|known| *known < start)
    }
}

/// Where a pack's rows stand in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct StoredRows {
    at: u64,
    bytes: u32,
    sum: Sum,
}

/// An open table.
pub(crate) struct Table {
    file: File,
    shelf: Shelf,
    contents: Contents,
    /// For each domain.
    ways: Vec<Way>,
    blocks: Vec<OnceLock<Box<[u8]>>>,
    held_bytes: AtomicUsize,
    /// Where the file is before it is finished.
    unfinished: Option<PathBuf>,
}

impl Table {
    /// Opens the table on `shelf` if it is whole and `is_true` of each index object that it was made of.
    pub(crate) fn open(shelf: &Shelf, is_true: impl Fn(&Object) -> bool) -> Option<Self> {
        let file = OpenOptions::new().read(true).open(shelf.path()).ok()?;
        let Some(contents) = Self::contents(shelf, &file) else {
            shelf.forget();
            return None;
        };
        // Another key's view of the repository may be true for that key: the file stays until there is a newer one.
        contents.objects.iter().all(is_true).then_some(())?;
        Some(Self::new(shelf, file, contents))
    }

    fn contents(shelf: &Shelf, file: &File) -> Option<Contents> {
        let mut head = [0; HEAD_BYTES];
        file.read_exact_at(&mut head, 0).ok()?;
        let (magic, rest) = head.split_first_chunk::<16>()?;
        let (at, rest) = rest.split_first_chunk()?;
        let (length, rest) = rest.split_first_chunk()?;
        let (sum, room) = rest.split_first_chunk::<SUM_BYTES>()?;
        let (at, length) = (u64::from_le_bytes(*at), u64::from_le_bytes(*length));
        let is_whole = magic == MAGIC
            && length <= CONTENTS_MAX
            && at.checked_add(length) == Some(file.metadata().ok()?.len())
            && room.iter().all(|byte| *byte == 0);
        is_whole.then_some(())?;
        let mut bytes = vec![0; length as usize];
        file.read_exact_at(&mut bytes, at).ok()?;
        (shelf.sum("contents", &bytes) == *sum).then_some(())?;
        Contents::decode(&bytes)
    }

    fn new(shelf: &Shelf, file: File, contents: Contents) -> Self {
        let ways = contents.domains.iter().map(|domain| {
            let blocks = domain.first_block..domain.first_block + domain.blocks();
            Way::new(&contents.starts[blocks])
        });
        Self {
            file,
            shelf: shelf.clone(),
            ways: ways.collect(),
            blocks: (0..contents.starts.len())
                .map(|_| OnceLock::new())
                .collect(),
            contents,
            held_bytes: AtomicUsize::new(0),
            unfinished: None,
        }
    }

    /// The index objects that it was made of.
    pub(crate) fn objects(&self) -> &[Object] {
        &self.contents.objects
    }

    /// How many different chunks it has.
    pub(crate) fn chunk_count(&self) -> u64 {
        self.contents.chunks
    }

    /// The number of the first segment that is not in it.
    pub(crate) fn segment_count(&self) -> u32 {
        let last = self.contents.packs.last();
        last.map_or(0, |pack| pack.first_segment + pack.segment_count)
    }

    /// Its packs; their rows are asked for by [`Table::rows`].
    pub(crate) fn packs(&self) -> &[PackPlace] {
        &self.contents.packs
    }

    /// Segments with a base, each with its height.
    pub(crate) fn based(&self) -> &[(u8, u32)] {
        &self.contents.based
    }

    /// Segments of which a part of the base was in no pack when the table was made, each with its height.
    pub(crate) fn hollow(&self) -> &[(u8, u32)] {
        &self.contents.hollow
    }

    /// The rows of a pack.
    pub(crate) fn rows(&self, pack: u32) -> &PackRows {
        self.contents.packs[pack as usize]
            .rows
            .get_or_init(|| self.read_rows(pack))
    }

    fn read_rows(&self, pack: u32) -> PackRows {
        let stored = &self.contents.rows[pack as usize];
        let mut bytes = vec![0; stored.bytes as usize];
        let is_whole = |bytes: &[u8]| self.shelf.sum("rows", bytes) == stored.sum;
        if self.file.read_exact_at(&mut bytes, stored.at).is_err() || !is_whole(&bytes) {
            self.shelf.forget();
            let (object, number) = self.contents.packs[pack as usize].source;
            let object = self.contents.objects.get(object as usize);
            let index = object.and_then(|object| (self.shelf.read_again)(&object.name));
            let found = index.and_then(|index| index.packs.into_iter().nth(number as usize));
            // Without them its segments are there, and open with an error: nothing else can be said of them.
            bytes = found.map(|entry| entry.rows).unwrap_or_default();
            if !is_whole(&bytes) {
                bytes.clear();
            }
        }
        PackRows::new(bytes).unwrap_or_default()
    }

    /// The segment that holds a chunk of `domain` first.
    pub(crate) fn find(&self, domain: u32, id: ChunkId) -> Option<u32> {
        let mut found = None;
        self.each_holder(domain, id, &mut |segment| {
            found = Some(segment);
            false
        });
        found
    }

    /// Hands out the segments that hold a chunk of `domain`, by their numbers, for as long as `take` wants more.
    pub(crate) fn each_holder(&self, domain: u32, id: ChunkId, take: &mut impl FnMut(u32) -> bool) {
        let domains = &self.contents.domains;
        let Some(at) = domains.iter().position(|known| known.domain == domain) else {
            return;
        };
        let (domain, way) = (&domains[at], &self.ways[at]);
        let start = start_of(id);
        let blocks = domain.first_block..domain.first_block + domain.blocks();
        let starts = &self.contents.starts[blocks.clone()];
        // The first entry may stand at the end of the block before the one that begins with it.
        let before = way.before(starts, start).saturating_sub(1);
        let mut last = None;
        for (number, own) in (blocks.start..blocks.end).zip(starts).skip(before) {
            if *own > start {
                return;
            }
            let next = starts.get(number + 1 - blocks.start);
            let part = (start - own) as f64 / (next.unwrap_or(&Start::MAX) - own).max(1) as f64;
            let more = self.with_block(domain, number, |entries| {
                let wanted = id_order(&id.0);
                let from = first_of(entries, wanted, part);
                for entry in &entries[from..] {
                    if order(entry) != wanted {
                        return false;
                    }
                    let segment = segment_of(entry);
                    // A block that was made anew may begin or end with its neighbour's.
                    if last.is_none_or(|last| segment > last) {
                        last = Some(segment);
                        if !take(segment) {
                            return false;
                        }
                    }
                }
                true
            });
            if !more {
                return;
            }
        }
    }

    fn with_block<T>(
        &self,
        domain: &Domain,
        number: usize,
        use_it: impl FnOnce(&[[u8; ENTRY_BYTES]]) -> T,
    ) -> T {
        let slot = &self.blocks[number];
        if let Some(block) = slot.get() {
            return use_it(block.as_chunks().0);
        }
        let block = self
            .read_block(domain, number)
            .unwrap_or_else(|| self.block_anew(domain, number));
        if self.held_bytes.fetch_add(block.len(), Ordering::Relaxed) < HELD_MAX {
            return use_it(slot.get_or_init(|| block).as_chunks().0);
        }
        self.held_bytes.fetch_sub(block.len(), Ordering::Relaxed);
        use_it(block.as_chunks().0)
    }

    fn read_block(&self, domain: &Domain, number: usize) -> Option<Box<[u8]>> {
        let before = (number - domain.first_block) * BLOCK_ENTRIES;
        let entries = (domain.entries - before as u64).min(BLOCK_ENTRIES as u64);
        let mut block = vec![0; entries as usize * ENTRY_BYTES].into_boxed_slice();
        let at = self.contents.block_at(number);
        self.file.read_exact_at(&mut block, at).ok()?;
        (self.shelf.sum("block", &block) == self.contents.sums[number]).then_some(block)
    }

    /// A block from the rows of all packs; it may have some of its neighbours' entries too.
    fn block_anew(&self, domain: &Domain, number: usize) -> Box<[u8]> {
        self.shelf.forget();
        let is_last = number + 1 == domain.first_block + domain.blocks();
        let starts = &self.contents.starts;
        let end = (!is_last).then(|| starts[number + 1]);
        let mut entries = Vec::new();
        for (pack, place) in (0..).zip(&self.contents.packs) {
            if !(place.entry.origins.iter()).any(|origin| origin.domain == domain.domain) {
                continue;
            }
            let read;
            let rows = match place.rows.get() {
                Some(rows) => rows,
                None => {
                    read = self.read_rows(pack);
                    &read
                }
            };
            for (segment, row) in (place.first_segment..).zip(rows.rows()) {
                if place.domain_of(&row) == domain.domain {
                    let within = row.chunk_ids().filter(|id| {
                        let start = start_of(*id);
                        starts[number] <= start && end.is_none_or(|end| start <= end)
                    });
                    entries.extend(within.map(|id| entry_of(id, segment)));
                }
            }
        }
        entries.sort_unstable_by_key(|entry| (order(entry), segment_of(entry)));
        entries.as_flattened().into()
    }
}

/// The number of the first entry that is not before `wanted`, which is guessed to stand where `part` of them are before it.
fn first_of(entries: &[[u8; ENTRY_BYTES]], wanted: u128, part: f64) -> usize {
    let mut at = ((entries.len() as f64 * part) as usize).min(entries.len());
    let is_before = |at: usize| order(&entries[at]) < wanted;
    // Neighbours are read together: a few steps cost less than a jump.
    for _ in 0..NEAR_ENTRIES {
        if at < entries.len() && is_before(at) {
            at += 1;
        } else if at > 0 && !is_before(at - 1) {
            at -= 1;
        } else {
            return at;
        }
    }
    entries.partition_point(|entry| order(entry) < wanted)
}

fn start_of(id: ChunkId) -> Start {
    (id_order(&id.0) >> 64) as Start
}

fn entry_of(id: ChunkId, segment: u32) -> [u8; ENTRY_BYTES] {
    let mut entry = [0; ENTRY_BYTES];
    entry[..ChunkId::LENGTH].copy_from_slice(&id.0);
    entry[ChunkId::LENGTH..].copy_from_slice(&segment.to_le_bytes());
    entry
}

/// A number that compares as the bytes of the id do.
fn id_order(id: &[u8; ChunkId::LENGTH]) -> u128 {
    u128::from_le_bytes(*id).swap_bytes()
}

fn order(entry: &[u8; ENTRY_BYTES]) -> u128 {
    let (id, _) = entry
        .split_first_chunk()
        .expect("an entry is longer than its id");
    id_order(id)
}

fn segment_of(entry: &[u8; ENTRY_BYTES]) -> u32 {
    let (_, segment) = entry
        .split_last_chunk()
        .expect("an entry is longer than its segment");
    u32::from_le_bytes(*segment)
}

#[cfg(test)]
mod tests;
