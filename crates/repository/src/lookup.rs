//! Where chunks are: all index objects together, asked by chunk id; most of them by way of a table, where there is one,
//! the others in memory.
//!
//! Built from the index objects that the store lists now; what an earlier run remembered of vanished ones is not
//! used. Rows of packs stay as the bytes that they are and are read in place. Packs and segments are numbered as they
//! come, those of the table first.
//!
//! Invariant: once it is settled, every segment that it names as a holder rests on segments that it knows too.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};

use lifeboat_codec::{ChunkId, Envelope, FormatError, Kind, PackEntry, Piece, Row};

use crate::basis::Basis;
use crate::place::{PackHead, PackPlace, PackRows, SegmentPlace};
use crate::table::{Fresh, Object, Shelf, Table};

/// Holders of one chunk that are tried for a base; honest writers leave one, or two that wrote at the same time.
const HOLDERS_MAX: usize = 64;
/// Packs before one among which the same one is looked for.
const SAME_WITHIN: u32 = 64;
/// What is kept in memory beside a table, at least; and as a part of what the table has.
///
/// Less in the crate's own tests, so that all of them rest on tables, some of them made in several steps.
const FRESH_CHUNKS: u64 = if cfg!(test) { 10 } else { 100_000 };
const FRESH_OBJECTS: usize = if cfg!(test) { 3 } else { 200 };
const FRESH_PART: u64 = 32;
/// Chunks that are gathered in memory before they go into a table.
const BATCH_CHUNKS: u64 = if cfg!(test) { 100 } else { 2_000_000 };

/// Ids are keyed hashes already: their first bytes are as good as any hash of them.
#[derive(Default)]
pub(crate) struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        if let Some((first, _)) = bytes.split_first_chunk::<8>() {
            self.0 = u64::from_le_bytes(*first);
        }
    }

    fn write_usize(&mut self, _: usize) {}
}

pub(crate) type IdMap<V> = HashMap<ChunkId, V, BuildHasherDefault<IdHasher>>;

/// All that the index says.
#[derive(Default)]
pub(crate) struct Lookup {
    table: Option<Table>,
    /// Those behind the table's.
    fresh: Vec<PackPlace>,
    /// For each pack, the table's too, the number of its first segment.
    first_segments: Vec<u32>,
    segment_count: u32,
    /// Chunks of fresh packs, each as often as it stands there.
    fresh_chunks: u64,
    /// How many of the fresh packs the maps have.
    mapped: usize,
    domains: HashMap<u32, IdMap<u32>>,
    /// Second and further holders of a chunk, for when the first is damaged.
    others: IdMap<Vec<u32>>,
    /// Segments with a base, each with its height.
    based: Vec<(u8, u32)>,
    /// Those of which nobody has looked yet whether the whole base is there.
    unsettled: Vec<(u8, u32)>,
    /// Segments of which a part of the base is in no pack.
    hollow: HashSet<u32>,
    /// Packs that are not to be used.
    gone: HashSet<u32>,
    /// The index objects behind those of the table.
    objects: Vec<Object>,
    /// The index objects that say it.
    pub(crate) basis: Basis,
}

impl Lookup {
    /// What a table has; to be settled.
    pub(crate) fn over(table: Table) -> Self {
        let mut lookup = Self {
            first_segments: table
                .packs()
                .iter()
                .map(|pack| pack.first_segment)
                .collect(),
            segment_count: table.segment_count(),
            based: table.based().to_vec(),
            unsettled: table.hollow().to_vec(),
            ..Self::default()
        };
        let objects = table.objects().iter();
        objects.for_each(|object| lookup.basis.add(&object.name));
        lookup.table = Some(table);
        lookup
    }

    /// Takes note of the index object whose packs come next.
    pub(crate) fn begin_object(&mut self, object: Object) {
        self.basis.add(&object.name);
        self.objects.push(object);
    }

    /// Adds a pack, number `at` of its index object, whose `envelopes` numbers are into `envelopes`.
    pub(crate) fn add(
        &mut self,
        entry: PackEntry,
        at: u32,
        envelopes: &[Option<Envelope>],
    ) -> Result<(), FormatError> {
        let count = self.pack_count();
        // The same pack may stand in several index objects. Only one that says the same is passed over: anyone who may write
        // an index can put another's pack into it, with other rows.
        if (count.saturating_sub(SAME_WITHIN)..count).any(|number| {
            let rows = || self.rows(number).bytes() == entry.rows;
            self.pack(number).is_same(&entry, rows)
        }) {
            return Ok(());
        }
        let own = entry.envelopes.iter();
        let own = own.map(|number| envelopes.get(*number as usize).copied().flatten());
        let own = own.collect();
        let objects = self.table.as_ref().map_or(0, |table| table.objects().len());
        let source = ((objects + self.objects.len()).saturating_sub(1) as u32, at);
        let pack = PackPlace::new(entry, own, self.segment_count, source)?;
        let segments = self.segment_count.checked_add(pack.segment_count);
        let segments = segments.ok_or(FormatError::Invalid("there are more than 2^32 segments"))?;
        let (mut chunks, mut based) = (0, Vec::new());
        let rows = pack.rows.get().into_iter().flat_map(PackRows::rows);
        for (segment, row) in (pack.first_segment..).zip(rows) {
            if usize::from(row.origin()) >= pack.entry.origins.len() {
                return Err(FormatError::Invalid(
                    "a row names an origin that is not there",
                ));
            }
            if row.height() > 0 {
                based.push((row.height(), segment));
            }
            chunks += row.count() as u64;
        }
        self.based.extend_from_slice(&based);
        self.unsettled.append(&mut based);
        self.fresh_chunks += chunks;
        self.first_segments.push(pack.first_segment);
        self.segment_count = segments;
        self.fresh.push(pack);
        Ok(())
    }

    /// True when so much was added that it should not stay in memory while more is.
    pub(crate) fn is_full(&self) -> bool {
        self.fresh_chunks >= BATCH_CHUNKS
    }

    /// True when so much was added that it should be in a table.
    pub(crate) fn wants_table(&self) -> bool {
        let (chunks, objects) = self
            .table
            .as_ref()
            .map_or((0, 0), |table| (table.chunk_count(), table.objects().len()));
        self.fresh_chunks > FRESH_CHUNKS.max(chunks / FRESH_PART)
            || self.objects.len() > FRESH_OBJECTS.max(objects / FRESH_PART as usize)
    }

    /// The same with all of it in a table, and true; or as it is, where the table could not be made. To be settled.
    pub(crate) fn tabled(mut self, shelf: &Shelf) -> (Self, bool) {
        self.based.sort_unstable();
        let fresh = Fresh {
            objects: &self.objects,
            packs: &self.fresh,
            based: self.based.clone(),
        };
        let Ok(table) = Table::merge(shelf, self.table.as_ref(), fresh) else {
            return (self, false);
        };
        let mut made = Self::over(table);
        made.unsettled.clone_from(&self.unsettled);
        made = made.settle();
        let heights = made
            .based
            .iter()
            .filter(|(_, segment)| made.is_hollow(*segment));
        let hollow = heights.copied().collect();
        let table = made.table.map(|table| table.finish(hollow));
        match table {
            Some(Ok(table)) => (Self::over(table), true),
            _ => (self, false),
        }
    }

    /// Forgets as holders the segments of which a part of the base is in no pack; for when all packs were added.
    pub(crate) fn settle(mut self) -> Self {
        self.map();
        self.based.sort_unstable();
        let mut unsettled = std::mem::take(&mut self.unsettled);
        // From below: what rests on a segment that is not to be had is not to be had either.
        unsettled.sort_unstable();
        // What is hollow is found out again; what was whole stays whole when packs are added.
        for (_, segment) in &unsettled {
            self.hollow.remove(segment);
        }
        for (_, segment) in unsettled {
            let (place, pack, row) = self.row(segment);
            let Some(base) = row.base() else {
                // It has one: its row cannot be read.
                self.hollow.insert(segment);
                continue;
            };
            let domain = pack.domain_of(&row);
            let whole = base.pieces.iter().all(|piece| {
                let mut below = self.below(domain, place.pack, base.height, piece);
                below.next().is_some()
            });
            if !whole {
                self.hollow.insert(segment);
            }
        }
        self
    }

    /// Brings the packs that were added into the maps.
    fn map(&mut self) {
        for pack in &self.fresh[self.mapped..] {
            let rows = pack.rows.get().into_iter().flat_map(PackRows::rows);
            for (segment, row) in (pack.first_segment..).zip(rows) {
                let map = self.domains.entry(pack.domain_of(&row)).or_default();
                for id in row.chunk_ids() {
                    match map.entry(id) {
                        Entry::Vacant(vacant) => {
                            vacant.insert(segment);
                        }
                        Entry::Occupied(_) => self.others.entry(id).or_default().push(segment),
                    }
                }
            }
        }
        self.mapped = self.fresh.len();
    }

    /// Segments with a base, the lowest first.
    pub(crate) fn based(&self) -> impl Iterator<Item = u32> {
        self.based.iter().map(|(_, segment)| *segment)
    }

    /// True for a segment of which a part of the base is in no pack.
    pub(crate) fn is_hollow(&self, segment: u32) -> bool {
        self.hollow.contains(&segment)
    }

    /// True for a segment that holds nothing for anyone.
    fn is_dead(&self, segment: u32) -> bool {
        !self.hollow.is_empty() && self.hollow.contains(&segment)
            || !self.gone.is_empty() && self.gone.contains(&self.pack_of(segment))
    }

    /// Segments lower than `height` that have the chunks of `piece`, in packs of the same kind as `pack`.
    pub(crate) fn below(
        &self,
        domain: u32,
        pack: u32,
        height: u8,
        piece: &Piece,
    ) -> impl Iterator<Item = u32> {
        let kind = self.pack(pack).entry.kind;
        let holders = self.first_holders(domain, piece.first);
        holders.filter(move |segment| {
            let (_, pack, row) = self.row(*segment);
            row.height() < height && pack.entry.kind == kind && piece.is_of(row.ids)
        })
    }

    /// The segments that `wanted` rest on, down to the last, with themselves.
    pub(crate) fn with_bases(&self, wanted: impl IntoIterator<Item = u32>) -> HashSet<u32> {
        let mut left: Vec<u32> = wanted.into_iter().collect();
        let mut all = HashSet::new();
        while let Some(segment) = left.pop() {
            if !all.insert(segment) {
                continue;
            }
            left.extend(self.rests_on(segment).map(|(_, on, _)| on));
        }
        all
    }

    /// What a segment rests on: the number of each piece, the segment, and where in that.
    pub(crate) fn rests_on(&self, segment: u32) -> impl Iterator<Item = (usize, u32, Piece)> {
        let (place, pack, row) = self.row(segment);
        let (domain, pack) = (pack.domain_of(&row), place.pack);
        row.base().into_iter().flat_map(move |base| {
            let (height, pieces) = (base.height, base.pieces.into_iter().enumerate());
            pieces.filter_map(move |(number, piece)| {
                let on = self.below(domain, pack, height, &piece).next()?;
                Some((number, on, piece))
            })
        })
    }

    /// The segments that rest on any of `lost`, with `lost` itself.
    pub(crate) fn resting_on(&self, lost: HashSet<u32>) -> HashSet<u32> {
        let mut lost = lost;
        if lost.is_empty() {
            return lost;
        }
        // They are in the order of their heights.
        for (_, segment) in self
            .based
            .iter()
            .filter(|(_, segment)| !self.is_dead(*segment))
        {
            let (place, pack, row) = self.row(*segment);
            let domain = pack.domain_of(&row);
            let falls = row.base().is_some_and(|base| {
                base.pieces.iter().any(|piece| {
                    let mut below = self.below(domain, place.pack, base.height, piece);
                    below.all(|segment| lost.contains(&segment))
                })
            });
            if falls {
                lost.insert(*segment);
            }
        }
        lost
    }

    /// The segment that holds a chunk of `domain`.
    pub(crate) fn find(&self, domain: u32, id: ChunkId) -> Option<u32> {
        let in_table = self.table.as_ref().and_then(|table| table.find(domain, id));
        let first = in_table.or_else(|| self.find_fresh(domain, id))?;
        if self.is_dead(first) {
            self.holders(domain, id).next()
        } else {
            Some(first)
        }
    }

    fn find_fresh(&self, domain: u32, id: ChunkId) -> Option<u32> {
        self.domains.get(&domain)?.get(&id).copied()
    }

    /// All segments that hold a chunk of `domain`, the first one first.
    pub(crate) fn holders(&self, domain: u32, id: ChunkId) -> impl Iterator<Item = u32> {
        let mut in_table = Vec::new();
        if let Some(table) = &self.table {
            table.each_holder(domain, id, &mut |segment| {
                in_table.push(segment);
                true
            });
        }
        let fresh = self.find_fresh(domain, id).into_iter();
        in_table
            .into_iter()
            .chain(fresh)
            .chain(self.others.get(&id).into_iter().flatten().copied())
            .filter(|segment| !self.is_dead(*segment))
    }

    /// The first holders, as many as are tried for a base: who writes an index could name ever more.
    fn first_holders(&self, domain: u32, id: ChunkId) -> impl Iterator<Item = u32> {
        let (mut in_table, mut seen) = (Vec::new(), 0);
        if let Some(table) = &self.table {
            table.each_holder(domain, id, &mut |segment| {
                seen += 1;
                if !self.is_dead(segment) {
                    in_table.push(segment);
                }
                in_table.len() < HOLDERS_MAX && seen < 64 * HOLDERS_MAX
            });
        }
        let fresh = self.find_fresh(domain, id).into_iter();
        let fresh = fresh
            .chain(self.others.get(&id).into_iter().flatten().copied())
            .take(64 * HOLDERS_MAX)
            .filter(|segment| !self.is_dead(*segment));
        in_table.into_iter().chain(fresh).take(HOLDERS_MAX)
    }

    /// True when it has a segment that stands for this one of a pack of `kind`: of the same chunks, and no higher.
    pub(crate) fn has_segment(&self, domain: u32, kind: Kind, row: &Row<'_>) -> bool {
        let first = row.chunk_ids().next();
        first.is_some_and(|first| {
            let mut holders = self.first_holders(domain, first);
            holders.any(|holder| {
                let (_, pack, held) = self.row(holder);
                held.ids == row.ids && held.height() <= row.height() && pack.entry.kind == kind
            })
        })
    }

    /// How many packs are known, of those that are gone too.
    pub(crate) fn pack_count(&self) -> u32 {
        self.first_segments.len() as u32
    }

    /// How many segments are known, of packs that are gone too.
    pub(crate) fn segment_count(&self) -> u32 {
        self.segment_count
    }

    /// The packs that are not gone, each with its number.
    pub(crate) fn packs(&self) -> impl Iterator<Item = (u32, &PackPlace)> {
        let all = (0..self.pack_count()).filter(|number| !self.gone.contains(number));
        all.map(|number| (number, self.pack(number)))
    }

    /// The pack with this number.
    pub(crate) fn pack(&self, number: u32) -> &PackPlace {
        let of_table = self.table.as_ref().map_or(&[][..], Table::packs);
        of_table
            .get(number as usize)
            .unwrap_or_else(|| &self.fresh[number as usize - of_table.len()])
    }

    /// The rows of the pack with this number.
    pub(crate) fn rows(&self, pack: u32) -> &PackRows {
        match &self.table {
            Some(table) if (pack as usize) < table.packs().len() => table.rows(pack),
            _ => {
                let rows = self.pack(pack).rows.get();
                rows.expect("the rows of a fresh pack are in memory")
            }
        }
    }

    /// The entry that the index has of a pack, with `envelopes` as they are in the pack.
    pub(crate) fn entry(&self, pack: u32) -> PackEntry {
        let place = self.pack(pack);
        let PackHead {
            id,
            run,
            kind,
            object_bytes,
            segments_at,
            ref origins,
        } = place.entry;
        PackEntry {
            id,
            run,
            kind,
            object_bytes,
            segments_at,
            origins: origins.clone(),
            rows: self.rows(pack).bytes().to_vec(),
            envelopes: (0..place.envelopes.len() as u32).collect(),
        }
    }

    fn pack_of(&self, segment: u32) -> u32 {
        let up_to = self
            .first_segments
            .partition_point(|first| *first <= segment);
        up_to as u32 - 1
    }

    /// Where a segment lies.
    pub(crate) fn place(&self, segment: u32) -> SegmentPlace {
        let number = self.pack_of(segment);
        let pack = self.pack(number);
        let (offset, sealed_bytes) = self.rows(number).place(segment - pack.first_segment);
        SegmentPlace {
            pack: number,
            offset: pack.entry.segments_at + offset,
            sealed_bytes,
        }
    }

    /// The row of a segment.
    pub(crate) fn row(&self, segment: u32) -> (SegmentPlace, &PackPlace, Row<'_>) {
        let number = self.pack_of(segment);
        let pack = self.pack(number);
        let row = self.rows(number).row(segment - pack.first_segment);
        let (offset, sealed_bytes, row) = row;
        let place = SegmentPlace {
            pack: number,
            offset: pack.entry.segments_at + offset,
            sealed_bytes,
        };
        (place, pack, row)
    }

    /// Forgets the packs for which `gone` says so: their chunks are not there.
    pub(crate) fn without(mut self, gone: impl Fn(&PackHead) -> bool) -> Self {
        let more = self.packs().filter(|(_, pack)| gone(&pack.entry));
        let more: Vec<u32> = more.map(|(number, _)| number).collect();
        if more.is_empty() {
            return self;
        }
        self.gone.extend(more);
        self.unsettled.clone_from(&self.based);
        self.settle()
    }

    /// How many chunks of any kind are known.
    pub(crate) fn chunk_count(&self) -> u64 {
        let table = self.table.as_ref();
        let is_fresh = |domain: u32, id: &&ChunkId| {
            table.is_none_or(|table| table.find(domain, **id).is_none())
        };
        let fresh = self.domains.iter().map(|(domain, map)| {
            let fresh = map.keys().filter(|id| is_fresh(*domain, id));
            fresh.count() as u64
        });
        let known = fresh.sum::<u64>() + table.map_or(0, Table::chunk_count);
        let mut lost = HashSet::new();
        let of_gone = self.gone.iter().flat_map(|number| {
            let first = self.pack(*number).first_segment;
            first..first + self.pack(*number).segment_count
        });
        for segment in of_gone.chain(self.hollow.iter().copied()) {
            let (_, pack, row) = self.row(segment);
            let domain = pack.domain_of(&row);
            let ids = row
                .chunk_ids()
                .filter(|id| self.find(domain, *id).is_none());
            lost.extend(ids.map(|id| (domain, id)));
        }
        known - lost.len() as u64
    }
}
