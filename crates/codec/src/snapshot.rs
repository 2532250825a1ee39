//! Snapshots: a small head, a manifest with the details, a confirm that makes it exist (`docs/format.md` §8).

use crate::error::FormatError;
use crate::id::{ObjectHash, SnapshotId};
use crate::record::{Fields, RecordWriter, Unknown};
use crate::stream::StreamRef;

/// A snapshot object is at most this long, so that thousands are listed fast.
pub const HEAD_BYTES_MAX: usize = 16 << 10;

/// One point in time of an app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// Its id.
    pub id: SnapshotId,
    /// Of which app.
    pub app: String,
    /// Number in the writer's chain for this app, from 1.
    pub seq: u32,
    /// Final hash of the snapshot before it in that chain.
    pub previous: Option<ObjectHash>,
    /// The machine.
    pub host: String,
    /// Who ran the program.
    pub user: String,
    /// Unix milliseconds; entries changed near or after it are not trusted as unchanged later.
    pub started_ms: u64,
    /// Unix milliseconds.
    pub finished_ms: u64,
    /// The app's time zone, an IANA name.
    pub time_zone: String,
    /// Which program and version.
    pub program: String,
    /// A tree with a folder for each source.
    pub root: StreamRef,
    /// The manifest's stream.
    pub manifest: StreamRef,
    /// Whose chunks.
    pub domain: u32,
    /// The snapshot that unchanged items were taken from.
    pub parent: Option<SnapshotId>,
    /// Tags given when it was made.
    pub tags: Vec<String>,
    /// What it holds and cost.
    pub totals: Totals,
    /// Fields of a newer version, kept as they were read.
    pub unknown: Unknown,
}

/// What a snapshot holds and cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Files, database streams included.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Items that could not be read, or not as they should: changed meanwhile, or of a database in use.
    pub unreadable: u64,
    /// Bytes that the repository did not have, before compression.
    pub new_bytes: u64,
    /// Bytes that were stored.
    pub stored_bytes: u64,
}

impl Head {
    /// A head with the fields that must be there.
    #[must_use]
    pub fn new(
        id: SnapshotId,
        app: String,
        seq: u32,
        root: StreamRef,
        manifest: StreamRef,
        domain: u32,
    ) -> Self {
        Self {
            id,
            app,
            seq,
            previous: None,
            host: String::new(),
            user: String::new(),
            started_ms: 0,
            finished_ms: 0,
            time_zone: String::new(),
            program: String::new(),
            root,
            manifest,
            domain,
            parent: None,
            tags: Vec::new(),
            totals: Totals::default(),
            unknown: Unknown::default(),
        }
    }

    /// The head as a record.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let mut writer = RecordWriter::new(&mut out);
        writer
            .required_bytes(1, &self.id.0)
            .required_bytes(2, self.app.as_bytes())
            .required_number(3, self.seq.into())
            .bytes(4, self.previous.as_ref().map_or(&[], |hash| &hash.0))
            .bytes(5, self.host.as_bytes())
            .bytes(6, self.user.as_bytes())
            .required_number(7, self.started_ms)
            .number(8, self.finished_ms)
            .bytes(9, self.time_zone.as_bytes())
            .bytes(10, self.program.as_bytes())
            .required_bytes(11, &self.root.encode())
            .required_bytes(12, &self.manifest.encode())
            .required_number(13, self.domain.into())
            .bytes(14, self.parent.as_ref().map_or(&[], |id| &id.0));
        for tag in &self.tags {
            writer.element(15, tag.as_bytes());
        }
        writer
            .number(16, self.totals.files)
            .number(17, self.totals.bytes)
            .number(18, self.totals.unreadable)
            .number(19, self.totals.new_bytes)
            .number(20, self.totals.stored_bytes)
            .unknown(&self.unknown);
        out
    }

    /// Reads a head.
    ///
    /// # Errors
    /// When it is malformed.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        const WHAT: &str = "a snapshot";
        let (mut id, mut root, mut manifest, mut domain) = (None, None, None, None);
        let empty = || StreamRef::empty(crate::chunker::Profile::Metadata);
        let mut head = Self::new(SnapshotId([0; 16]), String::new(), 0, empty(), empty(), 0);
        for field in Fields::new(bytes, WHAT) {
            let field = field?;
            match field.number {
                1 => id = Some(SnapshotId(field.array()?)),
                2 => head.app = field.text()?,
                3 => head.seq = field.small()?,
                4 => head.previous = Some(ObjectHash(field.array()?)),
                5 => head.host = field.text()?,
                6 => head.user = field.text()?,
                7 => head.started_ms = field.number_value()?,
                8 => head.finished_ms = field.number_value()?,
                9 => head.time_zone = field.text()?,
                10 => head.program = field.text()?,
                11 => root = Some(StreamRef::decode(field.bytes()?)?),
                12 => manifest = Some(StreamRef::decode(field.bytes()?)?),
                13 => domain = Some(field.small()?),
                14 => head.parent = Some(SnapshotId(field.array()?)),
                15 => head.tags.push(field.listed().text()?),
                16 => head.totals.files = field.number_value()?,
                17 => head.totals.bytes = field.number_value()?,
                18 => head.totals.unreadable = field.number_value()?,
                19 => head.totals.new_bytes = field.number_value()?,
                20 => head.totals.stored_bytes = field.number_value()?,
                _ => field.unknown(&mut head.unknown)?,
            }
        }
        let (Some(id), Some(root), Some(manifest), Some(domain)) = (id, root, manifest, domain)
        else {
            return Err(FormatError::Truncated(WHAT));
        };
        Ok(Self {
            id,
            root,
            manifest,
            domain,
            ..head
        })
    }
}

/// What makes a snapshot exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Confirm {
    /// Final hash of the snapshot object.
    pub snapshot: ObjectHash,
    /// Unix milliseconds.
    pub confirmed_ms: u64,
    /// Packs that were seen to be there.
    pub packs: u64,
    /// Chunks whose holder was checked.
    pub chunks: u64,
}

impl Confirm {
    /// The confirm as a record.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        RecordWriter::new(&mut out)
            .required_bytes(1, &self.snapshot.0)
            .number(2, self.confirmed_ms)
            .number(3, self.packs)
            .number(4, self.chunks);
        out
    }

    /// Reads a confirm.
    ///
    /// # Errors
    /// When it is malformed.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        const WHAT: &str = "a confirm";
        let mut snapshot = None;
        let mut confirm = Self {
            snapshot: ObjectHash([0; 32]),
            confirmed_ms: 0,
            packs: 0,
            chunks: 0,
        };
        let mut unknown = Unknown::default();
        for field in Fields::new(bytes, WHAT) {
            let field = field?;
            match field.number {
                1 => snapshot = Some(ObjectHash(field.array()?)),
                2 => confirm.confirmed_ms = field.number_value()?,
                3 => confirm.packs = field.number_value()?,
                4 => confirm.chunks = field.number_value()?,
                _ => field.unknown(&mut unknown)?,
            }
        }
        Ok(Self {
            snapshot: snapshot.ok_or(FormatError::Truncated(WHAT))?,
            ..confirm
        })
    }
}

/// The details of a snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Manifest {
    /// What was read.
    pub sources: Vec<SourceRecord>,
    /// What could not be.
    pub problems: Vec<Problem>,
    /// Names of the users that entries name by number.
    pub users: Vec<(u32, String)>,
    /// Names of the groups.
    pub groups: Vec<(u32, String)>,
    /// Fields of a newer version, kept as they were read.
    pub unknown: Unknown,
}

/// One thing that was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceRecord {
    /// Its name: the first folder inside the snapshot.
    pub name: String,
    /// `folder`, `secrets`, `sqlite`, `postgres`, `stdin` or `command`.
    pub kind: String,
    /// Where it was.
    pub location: String,
    /// Files in it.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Items that could not be read, or not as they should: changed meanwhile, or of a database in use.
    pub unreadable: u64,
    /// What else is known: server version, exit status, …
    pub facts: Vec<(String, String)>,
    /// Fields of a newer version, kept as they were read.
    pub unknown: Unknown,
}

impl SourceRecord {
    /// The value of a fact.
    #[must_use]
    pub fn fact(&self, key: &str) -> Option<&str> {
        self.facts
            .iter()
            .find(|(name, _)| name == key)
            .map(|(_, value)| value.as_str())
    }

    /// A source without counts.
    #[must_use]
    pub fn new(name: &str, kind: &str, location: &str) -> Self {
        Self {
            name: name.to_owned(),
            kind: kind.to_owned(),
            location: location.to_owned(),
            ..Self::default()
        }
    }

    fn put(&self, writer: &mut RecordWriter<'_>) {
        writer
            .bytes(1, self.name.as_bytes())
            .bytes(2, self.kind.as_bytes())
            .bytes(3, self.location.as_bytes())
            .number(4, self.files)
            .number(5, self.bytes)
            .number(6, self.unreadable);
        for (key, value) in &self.facts {
            writer.record(7, |record| {
                record.bytes(1, key.as_bytes()).bytes(2, value.as_bytes());
            });
        }
        writer.unknown(&self.unknown);
    }

    fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let mut source = Self::default();
        for field in Fields::new(bytes, "a source") {
            let field = field?;
            match field.number {
                1 => source.name = field.text()?,
                2 => source.kind = field.text()?,
                3 => source.location = field.text()?,
                4 => source.files = field.number_value()?,
                5 => source.bytes = field.number_value()?,
                6 => source.unreadable = field.number_value()?,
                7 => source.facts.push(decode_pair(field.listed().bytes()?)?),
                _ => field.unknown(&mut source.unknown)?,
            }
        }
        Ok(source)
    }
}

/// Something that went wrong with one item.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Problem {
    /// In which source.
    pub source: String,
    /// Which item: its path in the source.
    pub path: Vec<u8>,
    /// What happened, a sentence.
    pub what: String,
    /// `unreadable`, `vanished`, `changed`, `live-database` or `other`.
    pub class: String,
}

fn decode_problem(bytes: &[u8]) -> Result<Problem, FormatError> {
    let (mut problem, mut unknown) = (Problem::default(), Unknown::default());
    for field in Fields::new(bytes, "a problem") {
        let field = field?;
        match field.number {
            1 => problem.source = field.text()?,
            2 => problem.path = field.bytes()?.to_vec(),
            3 => problem.what = field.text()?,
            4 => problem.class = field.text()?,
            _ => field.unknown(&mut unknown)?,
        }
    }
    Ok(problem)
}

fn decode_pair(bytes: &[u8]) -> Result<(String, String), FormatError> {
    let (mut key, mut value, mut unknown) = (String::new(), String::new(), Unknown::default());
    for field in Fields::new(bytes, "a fact") {
        let field = field?;
        match field.number {
            1 => key = field.text()?,
            2 => value = field.text()?,
            _ => field.unknown(&mut unknown)?,
        }
    }
    Ok((key, value))
}

fn decode_owner(bytes: &[u8]) -> Result<(u32, String), FormatError> {
    let (mut number, mut name, mut unknown) = (0, String::new(), Unknown::default());
    for field in Fields::new(bytes, "a user or group") {
        let field = field?;
        match field.number {
            1 => number = field.small()?,
            2 => name = field.text()?,
            _ => field.unknown(&mut unknown)?,
        }
    }
    Ok((number, name))
}

impl Manifest {
    /// The manifest as a record.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let mut writer = RecordWriter::new(&mut out);
        for source in &self.sources {
            writer.record(1, |record| source.put(record));
        }
        for problem in &self.problems {
            writer.record(2, |record| {
                record
                    .bytes(1, problem.source.as_bytes())
                    .bytes(2, &problem.path)
                    .bytes(3, problem.what.as_bytes())
                    .bytes(4, problem.class.as_bytes());
            });
        }
        for (field, owners) in [(3, &self.users), (4, &self.groups)] {
            for (number, name) in owners {
                writer.record(field, |record| {
                    record.number(1, (*number).into()).bytes(2, name.as_bytes());
                });
            }
        }
        writer.unknown(&self.unknown);
        out
    }

    /// Reads a manifest.
    ///
    /// # Errors
    /// When it is malformed.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let mut manifest = Self::default();
        for field in Fields::new(bytes, "a manifest") {
            let field = field?;
            match field.number {
                1 => manifest
                    .sources
                    .push(SourceRecord::decode(field.listed().bytes()?)?),
                2 => manifest
                    .problems
                    .push(decode_problem(field.listed().bytes()?)?),
                3 => manifest.users.push(decode_owner(field.listed().bytes()?)?),
                4 => manifest.groups.push(decode_owner(field.listed().bytes()?)?),
                _ => field.unknown(&mut manifest.unknown)?,
            }
        }
        Ok(manifest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chunker::Profile;

    #[test]
    fn a_head_survives_and_stays_small() {
        let mut head = Head::new(
            SnapshotId([1; 16]),
            "shop".into(),
            3,
            StreamRef::empty(Profile::Metadata),
            StreamRef::empty(Profile::Metadata),
            7,
        );
        head.previous = Some(ObjectHash([2; 32]));
        head.parent = Some(SnapshotId([3; 16]));
        head.tags = vec!["before-upgrade".into(), String::new()];
        head.totals = Totals {
            files: 1,
            bytes: 2,
            unreadable: 3,
            new_bytes: 4,
            stored_bytes: 5,
        };
        head.time_zone = "Europe/Berlin".into();
        assert_eq!(Head::decode(&head.encode()), Ok(head.clone()));
        assert!(head.encode().len() < 400);
    }

    #[test]
    fn a_manifest_survives() {
        let mut source = SourceRecord::new("media", "folder", "/srv/media");
        source.facts = vec![("server".into(), "15.18".into())];
        let manifest = Manifest {
            sources: vec![source],
            problems: vec![Problem {
                source: "media".into(),
                path: b"a/\xff".to_vec(),
                what: "permission denied".into(),
                class: "unreadable".into(),
            }],
            users: vec![(0, "root".into())],
            groups: vec![(5, "tty".into())],
            ..Manifest::default()
        };
        assert_eq!(Manifest::decode(&manifest.encode()), Ok(manifest));
        let confirm = Confirm {
            snapshot: ObjectHash([1; 32]),
            confirmed_ms: 2,
            packs: 3,
            chunks: 4,
        };
        assert_eq!(Confirm::decode(&confirm.encode()), Ok(confirm));
    }
}
