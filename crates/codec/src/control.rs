//! Leases and markers: clear signed words between runs (`docs/format.md` §8).
//!
//! A lease only saves work. A marker is what safety rests on: a writer, write-only ones too, must see which packs
//! are condemned, so it is not sealed; names of packs are public anyway.

use crate::error::FormatError;
use crate::id::RunId;
use crate::record::{Fields, RecordWriter, Unknown};

/// A run is alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Which run.
    pub run: RunId,
    /// Counts up; each renewal is a new object, so that append-only credentials suffice.
    pub number: u16,
    /// Unix milliseconds.
    pub renewed_ms: u64,
    /// For how long it is meant to hold.
    pub valid_seconds: u64,
}

impl Lease {
    /// The lease as a record.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        RecordWriter::new(&mut out)
            .required_bytes(1, &self.run.0)
            .number(2, self.number.into())
            .number(3, self.renewed_ms)
            .number(4, self.valid_seconds);
        out
    }

    /// Reads a lease.
    ///
    /// # Errors
    /// When it is malformed.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let (mut run, mut unknown) = (None, Unknown::default());
        let mut lease = Self {
            run: RunId([0; 16]),
            number: 0,
            renewed_ms: 0,
            valid_seconds: 0,
        };
        for field in Fields::new(bytes, "a lease") {
            let field = field?;
            match field.number {
                1 => run = Some(RunId(field.array()?)),
                2 => lease.number = field.small()?,
                3 => lease.renewed_ms = field.number_value()?,
                4 => lease.valid_seconds = field.number_value()?,
                _ => field.unknown(&mut unknown)?,
            }
        }
        Ok(Self {
            run: run.ok_or(FormatError::Truncated("a lease"))?,
            ..lease
        })
    }
}

/// Packs and snapshots that a pruner means to delete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Marker {
    /// The plan, which names the marker.
    pub plan: RunId,
    /// Names of condemned packs.
    pub packs: Vec<String>,
    /// Names of condemned snapshots.
    pub snapshots: Vec<String>,
    /// Unix milliseconds.
    pub created_ms: u64,
}

impl Marker {
    /// The marker as a record.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let mut writer = RecordWriter::new(&mut out);
        writer.required_bytes(1, &self.plan.0);
        for pack in &self.packs {
            writer.element(2, pack.as_bytes());
        }
        for snapshot in &self.snapshots {
            writer.element(3, snapshot.as_bytes());
        }
        writer.number(4, self.created_ms);
        out
    }

    /// Reads a marker.
    ///
    /// # Errors
    /// When it is malformed.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let (mut plan, mut unknown) = (None, Unknown::default());
        let mut marker = Self {
            plan: RunId([0; 16]),
            packs: Vec::new(),
            snapshots: Vec::new(),
            created_ms: 0,
        };
        for field in Fields::new(bytes, "a marker") {
            let field = field?;
            match field.number {
                1 => plan = Some(RunId(field.array()?)),
                2 => marker.packs.push(field.listed().text()?),
                3 => marker.snapshots.push(field.listed().text()?),
                4 => marker.created_ms = field.number_value()?,
                _ => field.unknown(&mut unknown)?,
            }
        }
        Ok(Self {
            plan: plan.ok_or(FormatError::Truncated("a marker"))?,
            ..marker
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leases_and_markers_survive() {
        let lease = Lease {
            run: RunId([1; 16]),
            number: 2,
            renewed_ms: 3,
            valid_seconds: 1800,
        };
        assert_eq!(Lease::decode(&lease.encode()), Ok(lease));
        let marker = Marker {
            plan: RunId([1; 16]),
            packs: vec!["packs/d/00/x".into()],
            snapshots: vec!["snap/y".into()],
            created_ms: 4,
        };
        assert_eq!(Marker::decode(&marker.encode()), Ok(marker));
    }
}
