//! What verifying or checking found: which object, which part of it, and what hangs on it.
//!
//! Invariant: a finding names its object and, where it is known, the bytes, so that nobody has to search for what a
//! sentence is about.

use std::fmt;
use std::ops::Range;

use lifeboat_codec::{BLOCK_BYTES, Damage, FOOTER_BYTES, HASH_BYTES, HEADER_BYTES, SnapshotId};

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// What ended runs leave behind, or what could not be looked at; nothing to do.
    Note,
    /// Nothing that is there is damaged, but somebody should look into it.
    Warning,
    /// An object is not what was written, or something that a snapshot needs is not there.
    Damage,
}

/// Snapshots and paths that a finding concerns.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Concerns {
    /// Snapshots that cannot come back whole.
    pub snapshots: Vec<SnapshotId>,
    /// Paths in them, at most 20; an empty path is the whole snapshot.
    pub paths: Vec<Vec<u8>>,
    /// How many more paths there are.
    pub more_paths: u64,
}

impl Concerns {
    const PATHS_MAX: usize = 20;

    pub(crate) fn add_path(&mut self, path: &[u8]) {
        // The same in another snapshot, or lost in several places.
        if self.paths.iter().any(|known| known == path) {
            return;
        }
        if self.paths.len() < Self::PATHS_MAX {
            self.paths.push(path.to_vec());
        } else {
            self.more_paths += 1;
        }
    }

    /// True when no snapshot is concerned.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.snapshots.is_empty() && self.paths.is_empty()
    }
}

/// One thing that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// The object's name; empty when several objects together say it.
    pub object: String,
    /// The part of the object.
    pub part: Option<Damage>,
    /// The bytes of the object.
    pub bytes: Option<Range<u64>>,
    /// What is wrong: a fragment of a sentence whose subject is the object.
    pub what: String,
    /// What cannot come back.
    pub concerns: Concerns,
}

impl Finding {
    pub(crate) fn new(
        severity: Severity,
        object: impl Into<String>,
        what: impl Into<String>,
    ) -> Self {
        Self {
            severity,
            object: object.into(),
            part: None,
            bytes: None,
            what: what.into(),
            concerns: Concerns::default(),
        }
    }

    /// A damaged part of an object of `object_bytes` bytes.
    pub(crate) fn damage(object: &str, object_bytes: u64, part: Damage) -> Self {
        Self {
            part: Some(part),
            bytes: bytes_of(part, object_bytes),
            ..Self::new(Severity::Damage, object, part_is(part))
        }
    }

    pub(crate) fn concerning(mut self, snapshot: SnapshotId) -> Self {
        self.concerns.snapshots.push(snapshot);
        self
    }
}

fn part_is(part: Damage) -> &'static str {
    match part {
        Damage::Block(_) => "is not what was written",
        Damage::Table => "has a damaged block table; what it holds is whole",
        Damage::Footer => "has a damaged footer, or is not as long as it was written",
        Damage::Hash => "has a damaged final hash; what it holds is whole",
        Damage::Name => "is another object than its name says",
        Damage::Header => "has a header that does not fit its name or the repository",
    }
}

/// Where the block table begins in an object of `object_bytes` bytes; `None` when no object has that length.
///
/// The length alone tells, so a damaged footer cannot lead anybody astray.
pub(crate) fn body_end(object_bytes: u64) -> Option<u64> {
    let block = BLOCK_BYTES as u64;
    let rest = object_bytes.checked_sub((FOOTER_BYTES + HASH_BYTES) as u64)?;
    if rest < HEADER_BYTES as u64 {
        return None;
    }
    if rest <= block {
        return Some(rest);
    }
    let entry = TABLE_ENTRY_BYTES as u64;
    let blocks = rest.div_ceil(block + entry);
    let end = rest - blocks * entry;
    (end > block && end.div_ceil(block) == blocks).then_some(end)
}

/// Bytes of an entry in a block table (`docs/format.md` §2).
pub(crate) const TABLE_ENTRY_BYTES: usize = 16;

fn bytes_of(part: Damage, object_bytes: u64) -> Option<Range<u64>> {
    let end = body_end(object_bytes)?;
    let (footer, hash) = (
        object_bytes - (FOOTER_BYTES + HASH_BYTES) as u64,
        object_bytes - HASH_BYTES as u64,
    );
    Some(match part {
        // Without a table nothing can tell one part of the object from another.
        Damage::Block(_) if end == footer => 0..object_bytes,
        Damage::Block(number) => {
            let start = number * BLOCK_BYTES as u64;
            start..(start + BLOCK_BYTES as u64).min(end)
        }
        Damage::Table => end..footer,
        Damage::Footer => footer..hash,
        Damage::Hash => hash..object_bytes,
        Damage::Header => 0..HEADER_BYTES as u64,
        Damage::Name => return None,
    })
}

impl fmt::Display for Finding {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.object.is_empty() {
            write!(out, "{} ", self.object)?;
        }
        out.write_str(&self.what)?;
        match (self.part, &self.bytes) {
            (Some(Damage::Block(block)), Some(bytes)) => write!(
                out,
                " (block {block}, bytes {} to {})",
                bytes.start, bytes.end
            )?,
            (_, Some(bytes)) => write!(out, " (bytes {} to {})", bytes.start, bytes.end)?,
            _ => {}
        }
        if self.concerns.snapshots.is_empty() {
            return Ok(());
        }
        let snapshots: Vec<String> = self
            .concerns
            .snapshots
            .iter()
            .map(SnapshotId::short)
            .collect();
        write!(out, "; snapshots concerned: {}", snapshots.join(", "))?;
        let paths: Vec<String> = self
            .concerns
            .paths
            .iter()
            .map(|path| readable(path))
            .collect();
        if !paths.is_empty() {
            write!(out, "; in them: {}", paths.join(", "))?;
        }
        if self.concerns.more_paths > 0 {
            write!(out, " and {} more", self.concerns.more_paths)?;
        }
        Ok(())
    }
}

/// A path for people: control characters could rewrite a terminal's lines.
fn readable(path: &[u8]) -> String {
    if path.is_empty() {
        return "everything".to_owned();
    }
    String::from_utf8_lossy(path)
        .chars()
        .map(|letter| {
            if letter.is_control() {
                '\u{fffd}'
            } else {
                letter
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_length_tells_where_the_block_table_begins() {
        for end in [
            64_u64,
            300,
            65_535,
            65_536,
            65_537,
            131_072,
            131_073,
            400_000,
            5_000_000_000,
        ] {
            let blocks = if end > 65_536 {
                end.div_ceil(65_536)
            } else {
                0
            };
            assert_eq!(body_end(end + 16 * blocks + 64), Some(end));
        }
        for impossible in [
            0,
            64,
            127,
            65_536 + 64 + 1,
            65_536 + 64 + 32,
            131_072 + 64 + 32 + 1,
        ] {
            assert_eq!(body_end(impossible), None, "{impossible}");
        }
    }

    #[test]
    fn a_finding_is_a_sentence_that_names_everything() {
        let mut finding = Finding::damage("packs/d/x", 200_000, Damage::Block(1))
            .concerning(SnapshotId([0xab; 16]));
        finding.concerns.add_path(b"media/a\x1b.jpg");
        for number in 0..25 {
            finding
                .concerns
                .add_path(format!("media/{number}").as_bytes());
        }
        let text = finding.to_string();
        assert!(text.starts_with("packs/d/x is not what was written (block 1, bytes 65536 to 131072); snapshots concerned: abababab; in them: media/a\u{fffd}.jpg, media/0"), "{text}");
        assert!(text.ends_with("media/18 and 6 more"), "{text}");
    }
}
