//! The names of objects (`docs/format.md` §2). A name says what kind of object stands under it.

use crate::frame::Kind;
use crate::id::{ObjectHash, PackId, RunId, SlotId, SnapshotId, WriterId};

/// The superblock's name.
pub const SUPERBLOCK: &str = "lifeboat";

/// What a name says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParsedName {
    /// The kind of object.
    pub kind: Kind,
    /// The final hash, for objects that are named by it.
    pub hash: Option<ObjectHash>,
}

/// A pack's name.
#[must_use]
pub fn pack_name(kind: Kind, id: PackId, run: [u8; 8]) -> String {
    let hex = id.to_string();
    let folder = if kind == Kind::DataPack { 'd' } else { 'm' };
    let run: String = run.iter().map(|byte| format!("{byte:02x}")).collect();
    format!(
        "packs/{folder}/{}/{hex}-{run}",
        hex.get(..2).expect("an id has 64 digits")
    )
}

/// The pack that a name names: kind, id and the first half of its run's id.
#[must_use]
pub fn parse_pack_name(name: &str) -> Option<(Kind, PackId, [u8; 8])> {
    let rest = name.strip_prefix("packs/")?;
    let (folder, rest) = rest.split_once('/')?;
    let kind = match folder {
        "d" => Kind::DataPack,
        "m" => Kind::MetaPack,
        _ => return None,
    };
    let (shard, rest) = rest.split_once('/')?;
    let (hex, run) = rest.split_once('-')?;
    let id = PackId::from_hex(hex)?;
    let run = RunId::from_hex(&format!("{run}{run}"))?.0;
    let (run, _) = run.split_first_chunk::<8>()?;
    (hex.get(..2) == Some(shard)).then_some((kind, id, *run))
}

/// An index object's name.
#[must_use]
pub fn index_name(hash: ObjectHash) -> String {
    format!("index/{hash}")
}

/// A note's name.
#[must_use]
pub fn note_name(hash: ObjectHash) -> String {
    format!("notes/{hash}")
}

/// A writer's enrolment.
#[must_use]
pub fn writer_name(writer: WriterId) -> String {
    format!("writers/{writer}")
}

/// A writer's revocation.
#[must_use]
pub fn revocation_name(writer: WriterId) -> String {
    format!("writers/{writer}.revoked")
}

/// A lease's name.
#[must_use]
pub fn lease_name(run: RunId, number: u16) -> String {
    format!("lease/{run}.{number:04x}")
}

/// Where a snapshot stands: who wrote it and as which of theirs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SnapshotName {
    /// Who wrote it.
    pub writer: WriterId,
    /// Its number in the writer's chain for its app.
    pub seq: u32,
    /// Its id.
    pub id: SnapshotId,
}

impl SnapshotName {
    /// The intent's name.
    #[must_use]
    pub fn intent(&self) -> String {
        format!("snap/{}/{:08x}-{}", self.writer, self.seq, self.id)
    }

    /// The confirm's name.
    #[must_use]
    pub fn confirm(&self) -> String {
        format!("{}.ok", self.intent())
    }

    /// The snapshot that a name names, and whether the name is its confirm's.
    #[must_use]
    pub fn parse(name: &str) -> Option<(Self, bool)> {
        let (writer, rest) = name.strip_prefix("snap/")?.split_once('/')?;
        let (rest, confirm) = rest
            .strip_suffix(".ok")
            .map_or((rest, false), |rest| (rest, true));
        let (seq, id) = rest.split_once('-')?;
        Some((
            Self {
                writer: WriterId::from_hex(writer)?,
                seq: number(seq, 8)?,
                id: SnapshotId::from_hex(id)?,
            },
            confirm,
        ))
    }
}

/// The slot and version that a name names.
#[must_use]
pub fn parse_slot_name(name: &str) -> Option<(SlotId, u16)> {
    let (id, version) = name.strip_prefix("keys/")?.split_once('.')?;
    let version = u16::try_from(number(version, 4)?).ok()?;
    Some((SlotId::from_hex(id)?, version))
}

/// The number that exactly so many lower-case hex digits say; one number has one name.
fn number(text: &str, digits: usize) -> Option<u32> {
    let is_digit = |byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    (text.len() == digits && text.bytes().all(is_digit))
        .then(|| u32::from_str_radix(text, 16).ok())?
}

/// What a name says; `None` for a name that this format does not have.
#[must_use]
pub fn parse_name(name: &str) -> Option<ParsedName> {
    let named = |kind| Some(ParsedName { kind, hash: None });
    if name == SUPERBLOCK {
        return named(Kind::Superblock);
    }
    if let Some((kind, id, _)) = parse_pack_name(name) {
        return Some(ParsedName {
            kind,
            hash: Some(ObjectHash(id.0)),
        });
    }
    if let Some((_, confirm)) = SnapshotName::parse(name) {
        return named(if confirm {
            Kind::Confirm
        } else {
            Kind::Snapshot
        });
    }
    if parse_slot_name(name).is_some() {
        return named(Kind::Slot);
    }
    let (folder, rest) = name.split_once('/')?;
    match folder {
        "index" => Some(ParsedName {
            kind: Kind::Index,
            hash: Some(ObjectHash::from_hex(rest)?),
        }),
        "notes" => Some(ParsedName {
            kind: Kind::Note,
            hash: Some(ObjectHash::from_hex(rest)?),
        }),
        "writers" => match rest.strip_suffix(".revoked") {
            Some(writer) => WriterId::from_hex(writer).and_then(|_| named(Kind::Revocation)),
            None => WriterId::from_hex(rest).and_then(|_| named(Kind::Writer)),
        },
        "lease" => rest
            .split_once('.')
            .filter(|(run, digits)| RunId::from_hex(run).is_some() && number(digits, 4).is_some())
            .and_then(|_| named(Kind::Lease)),
        "trash" => RunId::from_hex(rest).and_then(|_| named(Kind::Marker)),
        "tomb" => SnapshotId::from_hex(rest).and_then(|_| named(Kind::Tombstone)),
        "ckpt" => number(rest, 8).and_then(|_| named(Kind::Checkpoint)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_read_as_what_it_was_written_as() {
        let (run, writer, hash) = (RunId([1; 16]), WriterId([2; 16]), ObjectHash([3; 32]));
        let snapshot = SnapshotName {
            writer,
            seq: 7,
            id: SnapshotId([4; 16]),
        };
        for (name, kind, named) in [
            (SUPERBLOCK.to_owned(), Kind::Superblock, false),
            (
                pack_name(Kind::DataPack, PackId([3; 32]), [5; 8]),
                Kind::DataPack,
                true,
            ),
            (
                pack_name(Kind::MetaPack, PackId([3; 32]), [5; 8]),
                Kind::MetaPack,
                true,
            ),
            (index_name(hash), Kind::Index, true),
            (note_name(hash), Kind::Note, true),
            (writer_name(writer), Kind::Writer, false),
            (revocation_name(writer), Kind::Revocation, false),
            (lease_name(run, 3), Kind::Lease, false),
            (snapshot.intent(), Kind::Snapshot, false),
            (snapshot.confirm(), Kind::Confirm, false),
            (
                crate::slot::slot_name(SlotId([6; 16]), 1),
                Kind::Slot,
                false,
            ),
        ] {
            let parsed = parse_name(&name).unwrap();
            assert_eq!(
                (parsed.kind, parsed.hash.is_some()),
                (kind, named),
                "{name}"
            );
            assert_eq!(parse_name(&format!("{name}x")), None, "{name}x");
        }
        assert_eq!(
            SnapshotName::parse(&snapshot.intent()),
            Some((snapshot, false))
        );
        assert_eq!(
            parse_pack_name(&pack_name(Kind::DataPack, PackId([3; 32]), [5; 8])),
            Some((Kind::DataPack, PackId([3; 32]), [5; 8]))
        );
        for strange in [
            "",
            "tmp/x",
            "packs/d/04/03",
            "snap/..",
            "keys/",
            "lost+found/x",
            "ckpt/0000000g",
            "ckpt/\u{100000}0000",
            "keys/06060606060606060606060606060606.+001",
            "keys/06060606060606060606060606060606.00AF",
            "lease/01010101010101010101010101010101.00g1",
        ] {
            assert_eq!(parse_name(strange), None, "{strange}");
        }
    }
}
