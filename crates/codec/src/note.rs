//! Notes: what is said about a snapshot after it was made (`docs/format.md` §8).
//!
//! Notes merge as a set: a removal names the note that it takes back, so two machines that pin and unpin at once
//! never lose each other's word.

use std::collections::{BTreeMap, BTreeSet};

use crate::error::FormatError;
use crate::id::{ObjectHash, SnapshotId};
use crate::record::{Fields, RecordWriter, Unknown};

/// One thing that was said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// About which snapshot.
    pub snapshot: SnapshotId,
    /// `tag`, `pin`, `drill` or `verified`.
    pub kind: String,
    /// The tag, the result, …
    pub value: String,
    /// The note that this one takes back.
    pub removes: Option<ObjectHash>,
    /// Unix milliseconds.
    pub said_ms: u64,
}

impl Note {
    /// The note as a record.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        RecordWriter::new(&mut out)
            .required_bytes(1, &self.snapshot.0)
            .required_bytes(2, self.kind.as_bytes())
            .bytes(3, self.value.as_bytes())
            .bytes(4, self.removes.as_ref().map_or(&[], |hash| &hash.0))
            .number(5, self.said_ms);
        out
    }

    /// Reads a note.
    ///
    /// # Errors
    /// When it is malformed.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        const WHAT: &str = "a note";
        let (mut snapshot, mut kind, mut unknown) = (None, None, Unknown::default());
        let (mut value, mut removes, mut said_ms) = (String::new(), None, 0);
        for field in Fields::new(bytes, WHAT) {
            let field = field?;
            match field.number {
                1 => snapshot = Some(SnapshotId(field.array()?)),
                2 => kind = Some(field.text()?),
                3 => value = field.text()?,
                4 => removes = Some(ObjectHash(field.array()?)),
                5 => said_ms = field.number_value()?,
                _ => field.unknown(&mut unknown)?,
            }
        }
        let (Some(snapshot), Some(kind)) = (snapshot, kind) else {
            return Err(FormatError::Truncated(WHAT));
        };
        Ok(Self {
            snapshot,
            kind,
            value,
            removes,
            said_ms,
        })
    }
}

/// All notes of a repository, merged.
#[derive(Clone, Debug, Default)]
pub struct Notes {
    by_snapshot: BTreeMap<SnapshotId, Vec<(ObjectHash, Note)>>,
}

impl Notes {
    /// Merges notes, in whatever order they come.
    #[must_use]
    pub fn merge(all: impl IntoIterator<Item = (ObjectHash, Note)>) -> Self {
        let all: Vec<(ObjectHash, Note)> = all.into_iter().collect();
        let removed: BTreeSet<ObjectHash> =
            all.iter().filter_map(|(_, note)| note.removes).collect();
        let mut by_snapshot: BTreeMap<SnapshotId, Vec<(ObjectHash, Note)>> = BTreeMap::new();
        for (hash, note) in all {
            if note.removes.is_none() && !removed.contains(&hash) {
                by_snapshot
                    .entry(note.snapshot)
                    .or_default()
                    .push((hash, note));
            }
        }
        by_snapshot
            .values_mut()
            .for_each(|notes| notes.sort_by_key(|(hash, note)| (note.said_ms, *hash)));
        Self { by_snapshot }
    }

    /// What holds of `snapshot`, oldest first.
    pub fn of(&self, snapshot: SnapshotId) -> impl Iterator<Item = &(ObjectHash, Note)> {
        self.by_snapshot.get(&snapshot).into_iter().flatten()
    }

    /// True when the snapshot is pinned.
    #[must_use]
    pub fn pinned(&self, snapshot: SnapshotId) -> bool {
        self.of(snapshot).any(|(_, note)| note.kind == "pin")
    }

    /// The snapshot's tags, each once.
    #[must_use]
    pub fn tags(&self, snapshot: SnapshotId) -> BTreeSet<&str> {
        self.of(snapshot)
            .filter(|(_, note)| note.kind == "tag")
            .map(|(_, note)| note.value.as_str())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(kind: &str, value: &str, removes: Option<ObjectHash>) -> Note {
        Note {
            snapshot: SnapshotId([1; 16]),
            kind: kind.into(),
            value: value.into(),
            removes,
            said_ms: 0,
        }
    }

    #[test]
    fn notes_merge_in_any_order() {
        let hash = |byte| ObjectHash([byte; 32]);
        let mut all = vec![
            (hash(1), note("tag", "a", None)),
            (hash(2), note("tag", "b", None)),
            (hash(3), note("tag", "", Some(hash(1)))),
            (hash(4), note("pin", "", None)),
        ];
        for _ in 0..all.len() {
            all.rotate_left(1);
            let notes = Notes::merge(all.clone());
            assert_eq!(notes.tags(SnapshotId([1; 16])), ["b"].into());
            assert!(notes.pinned(SnapshotId([1; 16])) && !notes.pinned(SnapshotId([2; 16])));
        }
        all.push((hash(5), note("pin", "", Some(hash(4)))));
        assert!(!Notes::merge(all).pinned(SnapshotId([1; 16])));
    }

    #[test]
    fn a_note_survives() {
        let note = note("drill", "passed", Some(ObjectHash([2; 32])));
        assert_eq!(Note::decode(&note.encode()), Ok(note));
    }
}
