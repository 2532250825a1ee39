//! The seeds of the corpus: small inputs of every form, from which the engine finds its way.

use lifeboat_app::config_template;
use lifeboat_codec::{Author, Enrolled};
use lifeboat_codec::{
    ChunkId, ChunkItem, Codec, Confirm, Content, Entry, EntryKind, EntryTime, Frame, Head, Index,
    KeyFile, Kind, Lease, Manifest, Marker, Moved, NewSlot, Note, ObjectHash, Origin, PackEntry,
    PackId, Problem, Profile, RecordWriter, ReplicaId, Revocation, Role, RunId, Secret, SlotId,
    SlotType, SnapshotId, SourceRecord, StreamRef, Stretch, Superblock, WriterId, WriterRecord,
    clear_object, content_tail, create_slot, encode_recovery, put_chunk, put_entry, put_mark,
    put_row, seal_object,
};

use crate::world::{Counted, area, header, keys};

/// One small input of a target.
#[derive(Clone, Debug)]
pub struct Seed {
    /// The target's name.
    pub target: &'static str,
    /// What it is, as the name of a file.
    pub name: String,
    /// The input.
    pub bytes: Vec<u8>,
}

/// All seeds.
#[must_use]
pub fn seeds() -> Vec<Seed> {
    let mut all = Vec::new();
    let mut add = |target: &'static str, forms: Vec<(&str, Vec<u8>)>| {
        all.extend(forms.into_iter().map(|(name, bytes)| Seed {
            target,
            name: name.to_owned(),
            bytes,
        }));
    };
    add("name", names());
    add("frame", objects());
    add("record", records());
    add(
        "object",
        vec![
            ("clear", b"\x02\x07\x01a record".to_vec()),
            ("sealed", area(&[&keys().meta.0])),
        ],
    );
    add("slot", slots());
    add("secret_text", secret_texts());
    add("pack", packs());
    add("segment", segments());
    add("index", vec![("two_packs", index())]);
    add(
        "stream",
        vec![("list", list()), ("reference", reference().encode())],
    );
    add("tree", vec![("every_kind", tree())]);
    add("repository", changes());
    add("conninfo", conninfos());
    add("password_file", password_files());
    add("service_file", service_files());
    add(
        "archive",
        (12..=17)
            .map(|minor| (MINORS[minor - 12], archive(minor as u8)))
            .collect(),
    );
    add("script", scripts());
    add("config", configs());
    add("selector", selectors());
    add("exclude", excludes());
    all
}

fn texts(forms: &[(&'static str, &str)]) -> Vec<(&'static str, Vec<u8>)> {
    forms
        .iter()
        .map(|(name, text)| (*name, text.as_bytes().to_vec()))
        .collect()
}

fn names() -> Vec<(&'static str, Vec<u8>)> {
    let (half, hex) = ("0123456789abcdef".repeat(2), "0123456789abcdef".repeat(4));
    [
        ("superblock", "lifeboat".to_owned()),
        ("slot", format!("keys/{half}.0001")),
        ("data_pack", format!("packs/d/01/{hex}-0123456789abcdef")),
        ("meta_pack", format!("packs/m/01/{hex}-0123456789abcdef")),
        ("index", format!("index/{hex}")),
        ("note", format!("notes/{hex}")),
        ("snapshot", format!("snap/{half}/00000001-{half}")),
        ("confirm", format!("snap/{half}/00000001-{half}.ok")),
        ("writer", format!("writers/{half}")),
        ("revocation", format!("writers/{half}.revoked")),
        ("lease", format!("lease/{half}.0001")),
        ("marker", format!("trash/{half}")),
        ("tombstone", format!("tomb/{half}")),
        ("checkpoint", "ckpt/00000001".to_owned()),
        ("path", "/srv/lifeboat/repo".to_owned()),
        ("file", "file:///srv/repo".to_owned()),
        ("remote", "s3:bucket/x".to_owned()),
    ]
    .map(|(name, text)| (name, text.into_bytes()))
    .into()
}

fn objects() -> Vec<(&'static str, Vec<u8>)> {
    let keys = keys();
    let marker = header(Kind::Marker, "trash/x");
    let note = header(Kind::Note, "");
    let run = (&keys.meta.0, &keys.meta.1);
    let (clear, _) = clear_object(&marker, "trash/x", b"a record", &keys.author);
    let (sealed, _) = seal_object(&note, "", b"a record", &keys.author, run, &mut Counted(1));
    let mut made = vec![3, 0x40, 0, 1, 0, 0x10, 0, 3];
    made.extend_from_slice(b"a body of several blocks");
    vec![("clear", clear), ("sealed", sealed), ("made", made)]
}

fn reference() -> StreamRef {
    let mut items = Vec::new();
    put_chunk(&mut items, chunk(1, 70_000));
    put_chunk(&mut items, chunk(2, 3));
    StreamRef::new(70_003, Profile::Files, 0, items)
}

fn chunk(byte: u8, length: u32) -> ChunkItem {
    ChunkItem {
        id: ChunkId([byte; ChunkId::LENGTH]),
        length,
    }
}

fn list() -> Vec<u8> {
    let mut list = Vec::new();
    put_chunk(&mut list, chunk(1, 70_000));
    put_mark(&mut list, 70_000, 12, "4711");
    put_chunk(&mut list, chunk(2, 1));
    list
}

fn records() -> Vec<(&'static str, Vec<u8>)> {
    let (writer, hash) = (WriterId([2; 16]), ObjectHash([3; 32]));
    let note = Note {
        snapshot: SnapshotId([4; 16]),
        kind: "tag".into(),
        value: "monthly".into(),
        removes: Some(hash),
        said_ms: 5,
    };
    let merged = Note {
        removes: None,
        ..note.clone()
    }
    .encode();
    let enrolled = Enrolled {
        public: keys().author.public(),
        domain: 1,
        role: Role::WriteOnly,
    };
    [
        Superblock::create(keys().family, ReplicaId([1; 16]), enrolled.public, 9).encode(),
        WriterRecord {
            enrolled,
            host: "web-1".into(),
            created_ms: 7,
        }
        .encode(),
        Revocation {
            writer,
            revoked_ms: 8,
            reason: "stolen".into(),
            kept: vec![hash; 2],
        }
        .encode(),
        Lease {
            run: RunId([1; 16]),
            number: 2,
            renewed_ms: 3,
            valid_seconds: 1800,
        }
        .encode(),
        Marker {
            plan: RunId([1; 16]),
            packs: vec!["packs/d/00/x".into()],
            snapshots: vec!["snap/y".into()],
            created_ms: 4,
        }
        .encode(),
        note.encode(),
        Confirm {
            snapshot: hash,
            confirmed_ms: 1,
            packs: 2,
            chunks: 3,
        }
        .encode(),
        head().encode(),
        manifest().encode(),
        reference().encode(),
        keys().keyring.encode().to_vec(),
        [&[1, merged.len() as u8], merged.as_slice()].concat(),
    ]
    .into_iter()
    .zip(0_u8..)
    .map(|(record, choice)| {
        (
            RECORDS[usize::from(choice)],
            [&[choice], record.as_slice()].concat(),
        )
    })
    .collect()
}

/// The records in the order in which `record` chooses among them.
const RECORDS: [&str; 12] = [
    "superblock",
    "writer",
    "revocation",
    "lease",
    "marker",
    "note",
    "confirm",
    "head",
    "manifest",
    "reference",
    "keyring",
    "notes",
];

fn head() -> Head {
    let mut head = Head::new(
        SnapshotId([4; 16]),
        "shop".into(),
        2,
        reference(),
        StreamRef::empty(Profile::Metadata),
        1,
    );
    head.previous = Some(ObjectHash([3; 32]));
    head.parent = Some(SnapshotId([5; 16]));
    head.tags = vec!["a".into(), "b".into()];
    head.time_zone = "Europe/Berlin".into();
    head.totals.files = 3;
    head
}

fn manifest() -> Manifest {
    let mut source = SourceRecord::new("media", "folder", "/srv/media");
    source.facts.push(("colour".into(), "blue".into()));
    Manifest {
        sources: vec![source],
        problems: vec![Problem {
            source: "media".into(),
            path: b"a/b".to_vec(),
            what: "It cannot be read.".into(),
            class: "unreadable".into(),
        }],
        users: vec![(33, "www-data".into())],
        groups: vec![(33, "www-data".into())],
        ..Manifest::default()
    }
}

fn slots() -> Vec<(&'static str, Vec<u8>)> {
    let keyring = &keys().keyring;
    let admin = keyring.admin.as_ref().expect("a new keyring has an admin");
    [
        ("passphrase", SlotType::Passphrase),
        ("key_file", SlotType::KeyFile),
    ]
    .map(|(name, slot_type)| {
        let new = NewSlot {
            slot_type,
            secret: b"a secret of this seed",
            label: "laptop",
            stretch: Stretch::DEFAULT,
            keyring,
            family: keys().family,
            superblock: b"a superblock",
            created_ms: 1,
        };
        let (_, _, object) = create_slot(&new, &Author::new(admin), &mut Counted(2))
            .expect("the usual cost is allowed");
        let frame = Frame::decode(&object).expect("it was made");
        (name, frame.body.to_vec())
    })
    .into()
}

fn secret_texts() -> Vec<(&'static str, Vec<u8>)> {
    let file = KeyFile {
        family: keys().family,
        slot: SlotId([2; 16]),
        admin: [3; 32],
        secret: Secret::new([4; 32]),
    };
    texts(&[
        ("key_file", &file.encode()),
        ("recovery", &encode_recovery(&file.secret)),
    ])
}

fn rows() -> Vec<u8> {
    let mut rows = Vec::new();
    put_row(&mut rows, 5000, Codec::Raw, None, &[1; 32]);
    let moved = Moved {
        envelope: 1,
        origin: 0,
        base: b"a base",
    };
    put_row(&mut rows, 60, Codec::ZstdBase, Some(moved), &[2; 16]);
    rows
}

fn packs() -> Vec<(&'static str, Vec<u8>)> {
    let mut front = header(Kind::MetaPack, "").encode().to_vec();
    front.extend_from_slice(&area(&[&keys().meta.0]));
    let mut directory = vec![0, 0, 1, 0];
    RecordWriter::new(&mut directory)
        .required_bytes(1, &[3; 32])
        .record(2, |origin| {
            origin.required_bytes(2, &keys().author.id().0);
        })
        .required_bytes(3, &rows());
    vec![("front", front), ("rows", rows()), ("directory", directory)]
}

fn segments() -> Vec<(&'static str, Vec<u8>)> {
    let content = [b"abc".as_slice(), &content_tail(&[1, 2])].concat();
    // One zstd frame with a raw block, and one whose blocks repeat a byte to 25 MiB.
    let frame = [b"\x28\xb5\x2f\xfd\x20\x05\x29\0\0".as_slice(), b"hello"].concat();
    let bomb = [
        b"\x28\xb5\x2f\xfd\0\x58".to_vec(),
        b"\x02\0\x10\0".repeat(200),
    ]
    .concat();
    [
        ("content", 1, content),
        ("frame", 0, frame),
        ("bomb", 0, bomb),
    ]
    .map(|(name, count, bytes)| (name, [&[count], bytes.as_slice()].concat()))
    .into()
}

fn index() -> Vec<u8> {
    let entry = PackEntry {
        id: PackId([1; 32]),
        run: [2; 8],
        kind: Kind::DataPack,
        object_bytes: 10_000,
        segments_at: 338,
        origins: vec![Origin {
            domain: 0,
            writer: keys().author.id(),
        }],
        rows: rows(),
        envelopes: Vec::new(),
    };
    let mut index = Index {
        supersedes: vec![ObjectHash([9; 32])],
        ..Index::default()
    };
    let envelopes = [keys().data.0, keys().meta.0];
    index.add(entry.clone(), &envelopes);
    index.add(
        PackEntry {
            id: PackId([2; 32]),
            ..entry
        },
        &envelopes,
    );
    index.encode()
}

fn tree() -> Vec<u8> {
    let reference = reference().encode();
    let time = EntryTime {
        seconds: -5,
        nanos: 7,
    };
    let mut entries = vec![
        Entry {
            content: Content::Chunk(ChunkId([1; 16])),
            size: 9,
            link_group: 3,
            attributes: vec![(b"user.a", b"1"), (b"user.b", b"")],
            ..Entry::new(EntryKind::File, b"a")
        },
        Entry {
            content: Content::Stream(&reference),
            ..Entry::new(EntryKind::Folder, b"b")
        },
        Entry {
            target: b"../a",
            ..Entry::new(EntryKind::Symlink, b"c")
        },
        Entry {
            device: 8 << 32 | 1,
            ..Entry::new(EntryKind::BlockDevice, b"d")
        },
        Entry::new(EntryKind::Fifo, b"e"),
    ];
    let (mut tree, mut scratch) = (Vec::new(), Vec::new());
    for entry in &mut entries {
        (entry.mode, entry.uid, entry.mtime, entry.ctime) = (0o640, 33, time, time);
        put_entry(&mut tree, entry, &mut scratch);
    }
    tree
}

fn changes() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("whole", Vec::new()),
        (
            "overwritten",
            b"\x03\0\x50\0\x04abcd\x05\0\x10\0\x01x".to_vec(),
        ),
        (
            "with_a_new_hash",
            b"\x02\x84\x50\0\x02ab\x01\x84\x46\0\x01x".to_vec(),
        ),
        ("cut", b"\x04\x01\x20\x01\x06\x01\0\0".to_vec()),
        ("longer", b"\x06\x02\x10\0\x03abc".to_vec()),
        (
            "in_anothers_place",
            b"\x00\x03\0\0\x05\x07\x83\0\0\x03".to_vec(),
        ),
        ("copied", b"\x07\x04\0\0\x08lifeboat".to_vec()),
        ("removed", b"\x01\x05\0\0\x05\x05\0\0".to_vec()),
    ]
}

fn conninfos() -> Vec<(&'static str, Vec<u8>)> {
    texts(&[
        ("name", "shop"),
        (
            "keywords",
            "host=db.example port=5433 dbname='my shop' password='it\\'s' sslmode=disable",
        ),
        (
            "url",
            "postgresql://ann:p%40ss@db.example:5433/shop?connect_timeout=3&application_name=x",
        ),
        ("ipv6", "postgres://[::1]:5433/shop?ssl=true"),
        ("socket", "postgres://%2Frun%2Fpostgresql/shop"),
        ("several", "postgres://a:1,b:2/shop"),
    ])
}

fn password_files() -> Vec<(&'static str, Vec<u8>)> {
    texts(&[
        (
            "exact",
            "db\n5432\nshop\nann\nnew\n# comment\ndb:5432:shop:ann:secret\n",
        ),
        (
            "escaped",
            "fe80::1\n5432\nshop\nann\nne:w\nfe80\\:\\:1:*:*:ann:se\\:cret\\\\\n",
        ),
    ])
}

fn service_files() -> Vec<(&'static str, Vec<u8>)> {
    texts(&[
        (
            "two_sections",
            "shop\n# comment\n[other]\nhost=x\n[shop]\nhost=db.example\n port=5433 \n[last]\n",
        ),
        ("bad_line", "shop\n[shop]\nhost db.example\n"),
    ])
}

/// What `pg_dump` writes, and what only people write.
fn scripts() -> Vec<(&'static str, Vec<u8>)> {
    texts(&[
        (
            "dump",
            "\x07--\n-- PostgreSQL database dump\n--\n\n\\restrict k3y\n\nSET standard_conforming_strings = on;\n\
             SELECT pg_catalog.set_config('search_path', '', false);\n\n--\n-- Name: t; Type: TABLE\n--\n\n\
             CREATE TABLE public.t (\n    id integer NOT NULL,\n    x text DEFAULT 'it''s; \\'\n);\n\n\
             ALTER TABLE public.t OWNER TO ann;\n\nCOPY public.t (id, x) FROM stdin;\n1\ta\\\\;b\n2\t\\N\n\\.\n\n\
             GRANT SELECT ON TABLE public.t TO bob;\n\n\\unrestrict k3y\n\n--\n-- PostgreSQL database dump complete\n--\n\n",
        ),
        (
            "texts",
            "\x00SELECT E'a\\';b', U&'d\\0061', $_$ ; $a$ $_$, \"n;\"\"m\", 'one' -- ;\n'two'; /* a /* b */ ; */ SELECT $1, x$y, 1.5e3;",
        ),
        (
            "bodies",
            "\x02CREATE OR REPLACE FUNCTION f() RETURNS int LANGUAGE sql BEGIN ATOMIC SELECT CASE WHEN true THEN 1 END; END;\n\
             CREATE RULE r AS ON INSERT TO t DO (SELECT 1; SELECT 2);",
        ),
        (
            "old_strings",
            "\x01\u{feff}SET standard_conforming_strings TO off;\r\nSELECT 'a\\'; b';\r\nBEGIN;\r\nCOPY t FROM STDIN;\r\n\\.\r\nCOMMIT;",
        ),
        (
            "refused",
            "\x03CREATE DATABASE x; DROP ROLE y; COPY t FROM PROGRAM 'id'; ALTER SYSTEM SET a = 1; COMMIT PREPARED 'x'; \\connect z\n",
        ),
    ])
}

/// Names of the archive format's minor versions from 12 on.
const MINORS: [&str; 6] = ["v1_12", "v1_13", "v1_14", "v1_15", "v1_16", "v1_17"];

/// An archive with a table's rows, an entry without data and a large object, written by hand.
fn archive(minor: u8) -> Vec<u8> {
    let mut bytes = b"\x05PGDMP".to_vec();
    let integer = |bytes: &mut Vec<u8>, value: i32| {
        bytes.push(u8::from(value < 0));
        bytes.extend_from_slice(&value.unsigned_abs().to_le_bytes());
    };
    let texts = |bytes: &mut Vec<u8>, texts: &[&str]| {
        for text in texts {
            integer(bytes, text.len() as i32);
            bytes.extend_from_slice(text.as_bytes());
        }
    };
    bytes.extend_from_slice(&[1, minor, 0, 4, 8, 1]);
    if minor >= 15 {
        bytes.push(0);
    } else {
        integer(&mut bytes, 0);
    }
    (0..7).for_each(|_| integer(&mut bytes, 1));
    texts(&mut bytes, &["shop", "15.18", "17.2"]);
    integer(&mut bytes, 3);
    for (id, has_data) in [(1, 1), (2, 0), (3, 1)] {
        integer(&mut bytes, id);
        integer(&mut bytes, has_data);
        texts(&mut bytes, &["0", "0", "orders", "TABLE DATA"]);
        integer(&mut bytes, 3);
        texts(&mut bytes, &["", "", "", "public", ""]);
        if minor >= 14 {
            texts(&mut bytes, &[""]);
        }
        if minor >= 16 {
            integer(&mut bytes, 0);
        }
        texts(&mut bytes, &["ann", "false", "7"]);
        integer(&mut bytes, -1);
        bytes.extend_from_slice(&[0; 9]);
    }
    bytes.push(1);
    integer(&mut bytes, 1);
    texts(&mut bytes, &["a row\n", "another\n"]);
    integer(&mut bytes, 0);
    bytes.push(3);
    integer(&mut bytes, 3);
    integer(&mut bytes, 16_400);
    texts(&mut bytes, &["large"]);
    (0..2).for_each(|_| integer(&mut bytes, 0));
    bytes
}

fn configs() -> Vec<(&'static str, Vec<u8>)> {
    let template = config_template();
    let set: String = template
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(rest) if !rest.starts_with(' ') => format!("{rest}\n"),
            _ => format!("{line}\n"),
        })
        .collect();
    texts(&[
        ("template", &template),
        ("every_key", &set),
        (
            "dotted",
            "app.shop.folder.media.path = \"/srv/media\"\napp.shop.folder.media.exclude = [\"*.tmp\"]\n",
        ),
        (
            "two_apps",
            "# the shop\n[app.shop.folder.media]\npath = \"media\"\n\n[app.wiki.sqlite.db]\npath = \"/srv/db\" # its database\n",
        ),
    ])
}

fn selectors() -> Vec<(&'static str, Vec<u8>)> {
    [
        ("latest", "latest"),
        ("back", "shop~1:media/a.jpg"),
        ("time", "shop@2026-11-19 03:00:/media"),
        ("yesterday", "latest@yesterday"),
        ("id", "4fa0"),
        ("tag", "tag:monthly:a/./b/"),
    ]
    .map(|(name, selector)| {
        let mut bytes = 1_700_000_000_000_u64.to_le_bytes().to_vec();
        bytes.extend_from_slice(&1_700_086_400_000_u64.to_le_bytes());
        bytes.extend_from_slice(format!("shop\nmonthly\n{selector}").as_bytes());
        (name, bytes)
    })
    .into()
}

fn excludes() -> Vec<(&'static str, Vec<u8>)> {
    texts(&[
        ("names", "a.tmp\n*.tmp\n!b.tmp\ncache/\n"),
        ("paths", "x\n/a/**/x\nb/{c,d}/[!e-g]?\n"),
    ])
}
