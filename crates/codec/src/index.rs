//! Index objects: the repository's own list of which pack holds which chunk (`docs/format.md` §6).
//!
//! Invariant: an index object repeats directories and nothing else, so that all of them together equal all
//! directories together, and losing them costs time only.

use crate::envelope::Envelope;
use crate::error::FormatError;
use crate::frame::Kind;
use crate::id::{ObjectHash, PackId, WriterId};
use crate::pack::{PackEntry, check_origins, check_rows, decode_origin, put_origins};
use crate::record::{Fields, Input, RecordWriter, Unknown, put_varint};
use crate::sign::Authors;

const WHAT: &str = "an index object";

/// One index object's content.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Index {
    /// Packs, whose `envelopes` are numbers into the list below.
    pub packs: Vec<PackEntry>,
    /// Index objects that this one replaces.
    pub supersedes: Vec<ObjectHash>,
    /// The packs' envelopes, each once; `None` for a suite that this program does not know.
    pub envelopes: Vec<Option<Envelope>>,
}

impl Index {
    /// Adds a pack with its own envelopes.
    pub fn add(&mut self, mut entry: PackEntry, envelopes: &[Envelope]) {
        entry.envelopes = envelopes
            .iter()
            .map(|envelope| {
                let known = self
                    .envelopes
                    .iter()
                    .position(|known| *known == Some(*envelope))
                    .unwrap_or_else(|| {
                        self.envelopes.push(Some(*envelope));
                        self.envelopes.len() - 1
                    });
                u32::try_from(known).expect("an index object has far fewer envelopes")
            })
            .collect();
        self.packs.push(entry);
    }

    /// The same as several, each with packs of at most `rows_max` bytes of rows, or one pack. None for an index without packs.
    #[must_use]
    pub fn parts(&self, rows_max: usize) -> Vec<Self> {
        let mut parts: Vec<Self> = Vec::new();
        let mut room = 0;
        for pack in &self.packs {
            if parts.is_empty() || pack.rows.len() > room {
                parts.push(Self::default());
                room = rows_max;
            }
            room = room.saturating_sub(pack.rows.len());
            let part = parts.last_mut().expect("there is a part");
            let mut pack = pack.clone();
            for number in &mut pack.envelopes {
                let envelope = self.envelopes.get(*number as usize).copied().flatten();
                let known = part.envelopes.iter().position(|known| *known == envelope);
                *number = known.unwrap_or_else(|| {
                    part.envelopes.push(envelope);
                    part.envelopes.len() - 1
                }) as u32;
            }
            part.packs.push(pack);
        }
        if let Some(part) = parts.last_mut() {
            part.supersedes.clone_from(&self.supersedes);
        }
        parts
    }

    /// The index as a record.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let mut writer = RecordWriter::new(&mut out);
        for pack in &self.packs {
            let mut numbers = Vec::new();
            pack.envelopes
                .iter()
                .for_each(|number| put_varint(&mut numbers, (*number).into()));
            writer.record(1, |record| {
                record
                    .required_bytes(1, &pack.id.0)
                    .required_bytes(2, &pack.run)
                    .required_number(3, pack.kind as u64)
                    .required_number(4, pack.object_bytes)
                    .required_number(5, pack.segments_at);
                put_origins(record, 6, &pack.origins);
                record.required_bytes(7, &pack.rows).bytes(8, &numbers);
            });
        }
        for hash in &self.supersedes {
            writer.element(2, &hash.0);
        }
        for envelope in self.envelopes.iter().flatten() {
            writer.element(3, envelope.bytes());
        }
        out
    }

    /// Reads an index that `author` signed.
    ///
    /// # Errors
    /// When it is malformed, or speaks for another writer.
    pub fn decode(bytes: &[u8], author: WriterId, authors: &Authors) -> Result<Self, FormatError> {
        let mut index = Self::default();
        let mut unknown = Unknown::default();
        for field in Fields::new(bytes, WHAT) {
            let field = field?;
            match field.number {
                1 => index.packs.push(decode_pack(field.listed().bytes()?)?),
                2 => index.supersedes.push(ObjectHash(field.listed().array()?)),
                3 => index.envelopes.push(Envelope::decode(&mut Input::new(
                    field.listed().bytes()?,
                    "an envelope",
                ))?),
                _ => field.unknown(&mut unknown)?,
            }
        }
        for pack in &index.packs {
            check_origins(&pack.origins, author, authors)?;
            if pack
                .envelopes
                .iter()
                .any(|number| *number as usize >= index.envelopes.len())
            {
                return Err(FormatError::Invalid(
                    "a pack names an envelope that is not there",
                ));
            }
        }
        Ok(index)
    }
}

fn decode_pack(bytes: &[u8]) -> Result<PackEntry, FormatError> {
    let (mut id, mut run, mut kind, mut object_bytes, mut segments_at, mut rows) =
        (None, None, None, None, None, None);
    let (mut origins, mut envelopes, mut unknown) = (Vec::new(), Vec::new(), Unknown::default());
    for field in Fields::new(bytes, "a pack in an index object") {
        let field = field?;
        match field.number {
            1 => id = Some(PackId(field.array()?)),
            2 => run = Some(field.array()?),
            3 => {
                kind = Kind::from_number(field.small()?)
                    .filter(|kind| matches!(kind, Kind::DataPack | Kind::MetaPack));
            }
            4 => object_bytes = Some(field.number_value()?),
            5 => segments_at = Some(field.number_value()?),
            6 => origins.push(decode_origin(field.listed().bytes()?)?),
            7 => rows = Some(field.bytes()?.to_vec()),
            8 => {
                let mut input = Input::new(field.bytes()?, WHAT);
                while !input.is_empty() {
                    envelopes.push(
                        u32::try_from(input.varint()?).map_err(|_| {
                            FormatError::Invalid("an envelope's number is too large")
                        })?,
                    );
                }
            }
            _ => field.unknown(&mut unknown)?,
        }
    }
    let (Some(id), Some(run), Some(kind), Some(object_bytes), Some(segments_at), Some(rows)) =
        (id, run, kind, object_bytes, segments_at, rows)
    else {
        return Err(FormatError::Truncated("a pack in an index object"));
    };
    check_rows(
        &rows,
        envelopes.len(),
        origins.len(),
        object_bytes.saturating_sub(segments_at),
    )?;
    Ok(PackEntry {
        id,
        run,
        kind,
        object_bytes,
        segments_at,
        origins,
        rows,
        envelopes,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::FamilyId;
    use crate::key::tests::Counted;
    use crate::key::{Keyring, Recipient};
    use crate::pack::{Origin, put_row};
    use crate::segment::Codec;

    #[test]
    fn an_index_repeats_its_packs_and_each_envelope_once() {
        let mut entropy = Counted(0);
        let keyring = Keyring::create(&mut entropy);
        let (envelope, _) =
            Envelope::create(Recipient::Meta, &keyring, FamilyId([1; 16]), &mut entropy);
        let authors = Authors::new([0; 32]);
        let mut rows = Vec::new();
        put_row(&mut rows, 100, Codec::Zstd, None, &[4; 48]);
        let entry = PackEntry {
            id: PackId([1; 32]),
            run: [2; 8],
            kind: Kind::MetaPack,
            object_bytes: 1000,
            segments_at: 202,
            origins: vec![Origin {
                domain: 0,
                writer: authors.admin_id(),
            }],
            rows,
            envelopes: vec![0],
        };
        let mut index = Index {
            supersedes: vec![ObjectHash([9; 32])],
            ..Index::default()
        };
        index.add(entry.clone(), &[envelope]);
        index.add(
            PackEntry {
                id: PackId([2; 32]),
                ..entry
            },
            &[envelope],
        );
        assert_eq!(index.envelopes.len(), 1);
        assert_eq!(
            Index::decode(&index.encode(), authors.admin_id(), &authors),
            Ok(index.clone())
        );
        assert!(
            Index::decode(&index.encode(), WriterId([7; 16]), &authors).is_err(),
            "another writer's rows"
        );
        assert_eq!(index.parts(1 << 20), [index.clone()]);
        let parts = index.parts(1);
        assert_eq!(parts.len(), 2);
        assert!(parts.iter().zip(&index.packs).all(|(part, pack)| {
            part.packs == [pack.clone()] && part.envelopes == index.envelopes
        }));
        assert_eq!(Index::default().parts(1), []);
        index.packs[0].envelopes = vec![1];
        assert!(Index::decode(&index.encode(), authors.admin_id(), &authors).is_err());
    }
}
