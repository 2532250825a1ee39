//! Where chunks are: all index objects together, in memory, asked by chunk id.
//!
//! Built from the index objects that the store lists now; what an earlier run remembered of vanished ones is not
//! used. Rows of packs stay as the bytes that they are and are read in place.
//!
//! Invariant: once it is settled, every segment that it names as a holder rests on segments that it knows too.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};

use lifeboat_codec::{
    ChunkId, Envelope, FormatError, Kind, PackEntry, Piece, Row, Rows, envelope_number, pack_name,
};

use crate::basis::Basis;

/// Holders of one chunk that are tried for a base; honest writers leave one, or two that wrote at the same time.
const HOLDERS_MAX: usize = 64;

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

/// A pack as the index knows it.
pub(crate) struct PackPlace {
    pub(crate) entry: PackEntry,
    pub(crate) envelopes: Vec<Option<Envelope>>,
}

impl PackPlace {
    pub(crate) fn name(&self) -> String {
        pack_name(self.entry.kind, self.entry.id, self.entry.run)
    }

    /// The envelope that opens `row`.
    pub(crate) fn envelope_of(&self, row: &Row<'_>) -> Result<&Envelope, FormatError> {
        let recipients = self
            .envelopes
            .iter()
            .map(|envelope| envelope.map(|envelope| envelope.recipient));
        let number = envelope_number(row, self.entry.kind, recipients)
            .ok_or(FormatError::NoKey("a segment"))?;
        self.envelopes
            .get(usize::from(number))
            .and_then(Option::as_ref)
            .ok_or(FormatError::Unsupported("an envelope"))
    }
}

/// A segment as the index knows it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SegmentPlace {
    /// Number of its pack.
    pub(crate) pack: u32,
    /// Where its row starts in the pack's rows.
    row_at: u32,
    /// Offset in the object.
    pub(crate) offset: u64,
    /// Length of the sealed segment.
    pub(crate) sealed_bytes: u32,
}

/// All that the index says.
#[derive(Default)]
pub(crate) struct Lookup {
    pub(crate) packs: Vec<PackPlace>,
    pub(crate) segments: Vec<SegmentPlace>,
    domains: HashMap<u32, IdMap<u32>>,
    /// Second and further holders of a chunk, for when the first is damaged.
    others: IdMap<Vec<u32>>,
    /// Segments with a base, each with its height.
    based: Vec<(u8, u32)>,
    /// Segments of which a part of the base is in no pack.
    hollow: HashSet<u32>,
    /// The index objects that say it.
    pub(crate) basis: Basis,
}

impl Lookup {
    /// Adds a pack whose `envelopes` numbers are into `envelopes`.
    pub(crate) fn add(
        &mut self,
        entry: PackEntry,
        envelopes: &[Option<Envelope>],
    ) -> Result<(), FormatError> {
        // The same pack may stand in several index objects. Only one that says the same is passed over: anyone who may write
        // an index can put another's pack into it, with other rows.
        if self
            .packs
            .iter()
            .rev()
            .take(64)
            .any(|pack| says_the_same(&pack.entry, &entry))
        {
            return Ok(());
        }
        let pack = u32::try_from(self.packs.len())
            .map_err(|_| FormatError::Invalid("there are more than 2^32 packs"))?;
        let mut consumed = 0_usize;
        for row in Rows::new(&entry.rows) {
            let row = row?;
            let segment = self.segments.len() as u32;
            self.segments.push(SegmentPlace {
                pack,
                row_at: consumed as u32,
                offset: entry.segments_at + row.offset,
                sealed_bytes: row.sealed_bytes as u32,
            });
            // The row ends where its ids end.
            consumed = row.ids.as_ptr() as usize - entry.rows.as_ptr() as usize + row.ids.len();
            let Some(origin) = entry.origins.get(usize::from(row.origin())) else {
                return Err(FormatError::Invalid(
                    "a row names an origin that is not there",
                ));
            };
            if row.height() > 0 {
                self.based.push((row.height(), segment));
            }
            let map = self.domains.entry(origin.domain).or_default();
            for id in row.chunk_ids() {
                match map.entry(id) {
                    std::collections::hash_map::Entry::Vacant(vacant) => {
                        vacant.insert(segment);
                    }
                    std::collections::hash_map::Entry::Occupied(_) => {
                        self.others.entry(id).or_default().push(segment);
                    }
                }
            }
        }
        let envelopes = entry
            .envelopes
            .iter()
            .map(|number| envelopes.get(*number as usize).copied().flatten())
            .collect();
        self.packs.push(PackPlace { entry, envelopes });
        Ok(())
    }

    /// Forgets as holders the segments of which a part of the base is in no pack; for when all packs were added.
    pub(crate) fn settle(mut self) -> Self {
        let mut based = std::mem::take(&mut self.based);
        // From below: what rests on a segment that is not to be had is not to be had either.
        based.sort_unstable();
        let mut hollow = HashSet::new();
        based.retain(|(_, segment)| {
            let (place, pack, row) = self.row(*segment);
            let Some(base) = row.base() else {
                return false;
            };
            let domain = pack.entry.origins[usize::from(row.origin())].domain;
            let whole = base.pieces.iter().all(|piece| {
                let mut below = self.below(domain, place.pack, base.height, piece);
                below.any(|segment| !hollow.contains(&segment))
            });
            if !whole {
                hollow.insert(*segment);
            }
            whole
        });
        for segment in &hollow {
            let (_, pack, row) = self.row(*segment);
            let domain = pack.entry.origins[usize::from(row.origin())].domain;
            let ids: Vec<ChunkId> = row.chunk_ids().collect();
            for id in ids {
                self.forget(domain, id, *segment);
            }
        }
        self.based = based;
        self.hollow = hollow;
        self
    }

    /// True for a segment of which a part of the base is in no pack.
    pub(crate) fn is_hollow(&self, segment: u32) -> bool {
        self.hollow.contains(&segment)
    }

    fn forget(&mut self, domain: u32, id: ChunkId, segment: u32) {
        let others = self.others.get_mut(&id);
        let next = others.and_then(|others| {
            others.retain(|other| *other != segment);
            others.first().copied()
        });
        let Some(map) = self.domains.get_mut(&domain) else {
            return;
        };
        if map.get(&id) != Some(&segment) {
            return;
        }
        match next {
            Some(next) => {
                map.insert(id, next);
                if let Some(others) = self.others.get_mut(&id) {
                    others.remove(0);
                }
            }
            None => {
                map.remove(&id);
            }
        }
    }

    /// Segments lower than `height` that have the chunks of `piece`, in packs of the same kind as `pack`.
    pub(crate) fn below(
        &self,
        domain: u32,
        pack: u32,
        height: u8,
        piece: &Piece,
    ) -> impl Iterator<Item = u32> {
        let kind = self.packs[pack as usize].entry.kind;
        let holders = self.holders(domain, piece.first).take(HOLDERS_MAX);
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
            let (place, pack, row) = self.row(segment);
            if let Some(base) = row.base() {
                let domain = pack.entry.origins[usize::from(row.origin())].domain;
                for piece in &base.pieces {
                    left.extend(self.below(domain, place.pack, base.height, piece).next());
                }
            }
        }
        all
    }

    /// The segments that rest on any of `lost`, with `lost` itself.
    pub(crate) fn resting_on(&self, lost: HashSet<u32>) -> HashSet<u32> {
        let mut lost = lost;
        if lost.is_empty() {
            return lost;
        }
        // They are in the order of their heights.
        for (_, segment) in &self.based {
            let (place, pack, row) = self.row(*segment);
            let domain = pack.entry.origins[usize::from(row.origin())].domain;
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
        self.domains.get(&domain)?.get(&id).copied()
    }

    /// All segments that hold a chunk of `domain`, the first one first.
    pub(crate) fn holders(&self, domain: u32, id: ChunkId) -> impl Iterator<Item = u32> {
        self.find(domain, id)
            .into_iter()
            .chain(self.others.get(&id).into_iter().flatten().copied())
    }

    /// True when it has a segment that stands for this one of a pack of `kind`: of the same chunks, and no higher.
    pub(crate) fn has_segment(&self, domain: u32, kind: Kind, row: &Row<'_>) -> bool {
        let first = row.chunk_ids().next();
        first.is_some_and(|first| {
            let mut holders = self.holders(domain, first).take(HOLDERS_MAX);
            holders.any(|holder| {
                let (_, pack, held) = self.row(holder);
                held.ids == row.ids && held.height() <= row.height() && pack.entry.kind == kind
            })
        })
    }

    /// The row of a segment.
    pub(crate) fn row(&self, segment: u32) -> (SegmentPlace, &PackPlace, Row<'_>) {
        let place = self.segments[segment as usize];
        let pack = &self.packs[place.pack as usize];
        let row = Rows::new(&pack.entry.rows[place.row_at as usize..])
            .next()
            .expect("the row was read before")
            .expect("the row was valid before");
        (place, pack, row)
    }

    /// Forgets the packs for which `gone` says so: their chunks are not there.
    pub(crate) fn without(self, gone: impl Fn(&PackEntry) -> bool) -> Self {
        if !self.packs.iter().any(|pack| gone(&pack.entry)) {
            return self;
        }
        let mut rest = Self {
            basis: self.basis,
            ..Self::default()
        };
        for pack in self.packs {
            if !gone(&pack.entry) {
                let mut entry = pack.entry;
                entry.envelopes = (0..pack.envelopes.len() as u32).collect();
                rest.add(entry, &pack.envelopes)
                    .expect("what was added once can be added again");
            }
        }
        rest.settle()
    }

    /// How many chunks of any kind are known.
    pub(crate) fn chunk_count(&self) -> u64 {
        self.domains.values().map(|map| map.len() as u64).sum()
    }
}

/// True for two entries that differ in nothing but the numbers of their envelopes.
fn says_the_same(one: &PackEntry, other: &PackEntry) -> bool {
    one.id == other.id
        && (one.run, one.kind, one.object_bytes, one.segments_at)
            == (other.run, other.kind, other.object_bytes, other.segments_at)
        && one.origins == other.origins
        && one.rows == other.rows
}
