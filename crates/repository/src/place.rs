//! Packs and segments as the index knows them.
//!
//! Invariant: the segments of a pack have numbers that follow each other, in the order of its rows.

use std::sync::{Arc, OnceLock};

use lifeboat_codec::{
    Codec, Envelope, FormatError, Kind, Moved, Origin, PackEntry, PackId, Row, Rows,
    envelope_number, pack_name,
};

/// What the index says about a pack, but for its rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PackHead {
    pub(crate) id: PackId,
    pub(crate) run: [u8; 8],
    pub(crate) kind: Kind,
    pub(crate) object_bytes: u64,
    pub(crate) segments_at: u64,
    pub(crate) origins: Vec<Origin>,
}

/// A pack as the index knows it.
#[derive(Clone)]
pub(crate) struct PackPlace {
    pub(crate) entry: PackHead,
    /// Packs of one run have the same ones.
    pub(crate) envelopes: Arc<[Option<Envelope>]>,
    /// Number of its first segment.
    pub(crate) first_segment: u32,
    /// How many segments it has.
    pub(crate) segment_count: u32,
    /// Where it stands first: number of the index object, and its number there.
    pub(crate) source: (u32, u32),
    /// In memory from the start, or read from the table when they are asked for.
    pub(crate) rows: OnceLock<PackRows>,
}

impl PackPlace {
    /// A pack with its rows in memory.
    pub(crate) fn new(
        entry: PackEntry,
        envelopes: Arc<[Option<Envelope>]>,
        first_segment: u32,
        source: (u32, u32),
    ) -> Result<Self, FormatError> {
        let rows = PackRows::new(entry.rows)?;
        Ok(Self {
            entry: PackHead {
                id: entry.id,
                run: entry.run,
                kind: entry.kind,
                object_bytes: entry.object_bytes,
                segments_at: entry.segments_at,
                origins: entry.origins,
            },
            envelopes,
            first_segment,
            segment_count: rows.segments.len() as u32,
            source,
            rows: OnceLock::from(rows),
        })
    }

    /// The same without its rows.
    pub(crate) fn bare(&self) -> Self {
        Self {
            entry: self.entry.clone(),
            envelopes: Arc::clone(&self.envelopes),
            rows: OnceLock::new(),
            ..*self
        }
    }

    pub(crate) fn name(&self) -> String {
        pack_name(self.entry.kind, self.entry.id, self.entry.run)
    }

    /// The envelope that opens `row`.
    pub(crate) fn envelope_of(&self, row: &Row<'_>) -> Result<&Envelope, FormatError> {
        if row.ids.is_empty() {
            return Err(FormatError::Truncated("what the index says of a pack"));
        }
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

    /// Whose chunks a row has.
    pub(crate) fn domain_of(&self, row: &Row<'_>) -> u32 {
        let origin = self.entry.origins.get(usize::from(row.origin()));
        origin.map_or(0, |origin| origin.domain)
    }

    /// True for the same pack with the same `rows`: two entries that differ in nothing but the numbers of their envelopes.
    pub(crate) fn is_same(&self, other: &PackEntry, rows: impl FnOnce() -> bool) -> bool {
        let entry = &self.entry;
        entry.id == other.id
            && (entry.run, entry.kind, entry.object_bytes, entry.segments_at)
                == (other.run, other.kind, other.object_bytes, other.segments_at)
            && entry.origins == other.origins
            && rows()
    }
}

/// A segment as the index knows it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SegmentPlace {
    /// Number of its pack.
    pub(crate) pack: u32,
    /// Offset in the object.
    pub(crate) offset: u64,
    /// Length of the sealed segment.
    pub(crate) sealed_bytes: u32,
}

/// A pack's rows, as the bytes that they are, and where each starts.
#[derive(Clone, Debug, Default)]
pub(crate) struct PackRows {
    bytes: Vec<u8>,
    segments: Vec<RowPlace>,
}

#[derive(Clone, Copy, Debug)]
struct RowPlace {
    row_at: u32,
    sealed_bytes: u32,
    /// Behind the first segment.
    offset: u64,
}

impl PackRows {
    /// Reads all rows once, so that each can be read again in place.
    pub(crate) fn new(bytes: Vec<u8>) -> Result<Self, FormatError> {
        let mut segments = Vec::new();
        let mut consumed = 0_usize;
        for row in Rows::new(&bytes) {
            let row = row?;
            segments.push(RowPlace {
                row_at: consumed as u32,
                sealed_bytes: row.sealed_bytes as u32,
                offset: row.offset,
            });
            // The row ends where its ids end.
            consumed = row.ids.as_ptr() as usize - bytes.as_ptr() as usize + row.ids.len();
        }
        segments.shrink_to_fit();
        Ok(Self { bytes, segments })
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The rows in their order.
    pub(crate) fn rows(&self) -> impl Iterator<Item = Row<'_>> {
        Rows::new(&self.bytes).map(|row| row.expect("the row was valid before"))
    }

    /// The row with this number, its length and where its segment lies. Of rows that could not be read, one without chunks.
    pub(crate) fn row(&self, number: u32) -> (u64, u32, Row<'_>) {
        let Some(place) = self.segments.get(number as usize) else {
            let lost = Row {
                offset: 0,
                sealed_bytes: 0,
                codec: Codec::Raw,
                moved: None::<Moved<'_>>,
                ids: &[],
            };
            return (0, 0, lost);
        };
        let row = Rows::new(&self.bytes[place.row_at as usize..])
            .next()
            .expect("the row was read before")
            .expect("the row was valid before");
        (place.offset, place.sealed_bytes, row)
    }

    /// Where the segment with this number lies behind the first one, and its length.
    pub(crate) fn place(&self, number: u32) -> (u64, u32) {
        let place = self.segments.get(number as usize);
        place.map_or((0, 0), |place| (place.offset, place.sealed_bytes))
    }
}
