//! Where chunks are: all index objects together, in memory, asked by chunk id.
//!
//! Built from the index objects that the store lists now; what an earlier run remembered of vanished ones is not
//! used. Rows of packs stay as the bytes that they are and are read in place.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use lifeboat_codec::{
    ChunkId, Codec, Envelope, FormatError, PackEntry, Row, Rows, envelope_number, pack_name,
};

use crate::basis::Basis;

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
        rest
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

/// What a segment's row says about opening it.
pub(crate) fn supported(row: &Row<'_>) -> Result<(), FormatError> {
    if row.codec == Codec::ZstdBase {
        Err(FormatError::Unsupported("a segment with a base"))
    } else {
        Ok(())
    }
}
