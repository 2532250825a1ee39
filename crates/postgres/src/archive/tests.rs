//! Archives made by hand and by `pg_dump`, whole, cut off and damaged.

use proptest::prelude::*;

use super::*;
use crate::{child, testing};

/// Writes the format, for archives that `pg_dump` would not make.
#[derive(Default)]
struct Writer(Vec<u8>);

impl Writer {
    fn integer(&mut self, value: i32) -> &mut Self {
        self.0.push(u8::from(value < 0));
        self.0
            .extend_from_slice(&value.unsigned_abs().to_le_bytes());
        self
    }

    fn text(&mut self, text: &str) -> &mut Self {
        self.integer(text.len() as i32);
        self.0.extend_from_slice(text.as_bytes());
        self
    }

    fn head(minor: u8, entries: i32) -> Self {
        let mut writer = Self(b"PGDMP".to_vec());
        writer
            .0
            .extend_from_slice(&[1, minor, 0, 4, 8, FORMAT_CUSTOM]);
        if minor >= 15 {
            writer.0.push(0);
        } else {
            writer.integer(0);
        }
        for _ in 0..7 {
            writer.integer(1);
        }
        writer
            .text("shop")
            .text("15.18")
            .text("17.2")
            .integer(entries);
        writer
    }

    fn entry(&mut self, minor: u8, id: i32, has_data: bool) -> &mut Self {
        self.integer(id)
            .integer(has_data.into())
            .text("0")
            .text("0");
        self.text("orders").text("TABLE DATA").integer(3);
        self.text("").text("").text("").text("public").text("");
        if minor >= 14 {
            self.text("");
        }
        if minor >= 16 {
            self.integer(0);
        }
        self.text("ann").text("false").text("7").integer(-1);
        self.0.extend_from_slice(&[0; 9]);
        self
    }

    fn data(&mut self, id: i32, portions: &[&str]) -> &mut Self {
        self.0.push(BLOCK_DATA);
        self.integer(id);
        for portion in portions {
            self.text(portion);
        }
        self.integer(0)
    }
}

fn scan(bytes: &[u8], portion: usize) -> Result<ArchiveSummary, ArchiveError> {
    let mut scanner = ArchiveScanner::new();
    for bytes in bytes.chunks(portion) {
        scanner.feed(bytes)?;
    }
    scanner.finish()
}

fn by_hand(minor: u8) -> Vec<u8> {
    let mut writer = Writer::head(minor, 3);
    writer
        .entry(minor, 1, true)
        .entry(minor, 2, false)
        .entry(minor, 3, true);
    writer.data(1, &["a row\n", "another\n"]);
    writer.0.push(BLOCK_LARGE_OBJECTS);
    writer
        .integer(3)
        .integer(16_400)
        .text("large")
        .integer(0)
        .integer(16_401)
        .integer(0)
        .integer(0);
    writer.0
}

/// A real archive with tables, a large object and many rows.
fn real() -> Vec<u8> {
    let cluster = testing::cluster();
    let settings = testing::database(
        &cluster,
        "CREATE TABLE t (id int PRIMARY KEY, x text);
         INSERT INTO t SELECT i, repeat('x', i) FROM generate_series(1, 500) i;
         CREATE TABLE empty (id int); SELECT lo_from_bytea(0, 'large');",
    );
    let programs = testing::programs(&cluster);
    let mut command = child::command(&programs.program("pg_dump"), Some(&settings));
    command.args(["--format=custom", "--compress=0"]);
    child::output(command).unwrap().0
}

#[test]
fn every_known_version_of_the_format_is_followed_in_any_portions() {
    for minor in MINOR_MIN..=MINOR_MAX {
        let bytes = by_hand(minor);
        for portion in [1, 2, 7, 64, bytes.len()] {
            let summary = scan(&bytes, portion).unwrap();
            assert_eq!((summary.entries, summary.entries_with_data), (3, 2));
            assert_eq!(summary.head.database, "shop");
            assert_eq!(summary.head.program_major(), Some(17));
            assert!(summary.followed_to_the_end && !summary.head.compressed);
        }
    }
}

#[test]
fn an_archive_of_pg_dump_is_followed_to_its_end_and_every_shorter_one_is_cut_off() {
    let bytes = real();
    let whole = scan(&bytes, 8 << 10).unwrap();
    assert!(whole.followed_to_the_end);
    assert_eq!(whole.entries_with_data, 3);
    for length in (0..bytes.len()).step_by(97).chain([bytes.len() - 1]) {
        let error = scan(&bytes[..length], 8 << 10).unwrap_err();
        assert!(
            matches!(error, ArchiveError::CutOff(_)),
            "{length}: {error}"
        );
    }
}

#[test]
fn what_is_no_custom_archive_is_said_to_be_none() {
    for bytes in [
        &b"-- PostgreSQL database dump\n"[..],
        b"PGDMX",
        b"\x1f\x8b\x08",
        b"PGDMP\x01\x0e\x00\x04\x08\x03",
    ] {
        assert_eq!(scan(bytes, 64), Err(ArchiveError::NotAnArchive));
    }
    assert!(matches!(scan(b"", 1), Err(ArchiveError::CutOff(_))));
}

#[test]
fn bytes_after_the_end_and_data_nobody_awaits_are_damage() {
    let mut bytes = by_hand(14);
    bytes.push(0);
    assert!(matches!(scan(&bytes, 64), Err(ArchiveError::Damaged(_))));
    let mut writer = Writer::head(14, 1);
    writer.entry(14, 1, true).data(2, &["x"]);
    assert!(matches!(scan(&writer.0, 64), Err(ArchiveError::Damaged(_))));
}

/// Of an entry that comes in many portions: not what it has is read again with each of them.
#[test]
fn a_long_entry_in_small_portions_takes_no_time_to_speak_of() {
    let long = "x".repeat(4 << 20);
    let mut archive = Writer::head(14, 1);
    archive.integer(1).integer(0).text(&long).text(&long);
    archive.text(&long).text("TABLE").integer(2);
    for _ in 0..6 {
        archive.text("");
    }
    archive.text("ann").text("false").integer(-1);
    archive.0.extend_from_slice(&[0; 9]);
    let begun = std::time::Instant::now();
    let mut scanner = ArchiveScanner::new();
    for bytes in archive.0.chunks(256) {
        scanner.feed(bytes).unwrap();
        assert!(begun.elapsed().as_secs() < 20);
    }
    assert_eq!(scanner.finish().unwrap().entries, 1);
}

#[test]
fn an_entry_that_depends_on_everything_is_damage() {
    let mut archive = Writer::head(14, 1);
    archive.integer(1).integer(0);
    for _ in 0..4 {
        archive.text("");
    }
    archive.integer(2);
    for _ in 0..8 {
        archive.text("");
    }
    for _ in 0..=1_000_000 {
        archive.text("7");
    }
    let error = scan(&archive.0, archive.0.len()).unwrap_err();
    assert_eq!(
        error,
        ArchiveError::Damaged("it has an entry with too many dependencies")
    );
}

#[test]
fn a_newer_format_passes_and_is_said_not_to_have_been_followed() {
    let mut bytes = Writer::head(MINOR_MAX + 1, 1).0;
    bytes.extend_from_slice(b"whatever");
    let summary = scan(&bytes, 5).unwrap();
    assert!(!summary.followed_to_the_end);
    assert_eq!(summary.head.server_version, "15.18");
}

#[test]
fn what_is_written_has_the_bytes_of_the_format_and_is_read_again() {
    let entry = ArchiveEntry {
        id: 259,
        has_data: true,
        class_oid: Some("0".to_owned()),
        name: "t".to_owned(),
        kind: "TABLE DATA".to_owned(),
        section: section::DATA,
        definition: Some(String::new()),
        owner: Some("é".to_owned()),
        relation_kind: 112,
        access_method: Some("heap".to_owned()),
        needs: vec![7],
        ..ArchiveEntry::default()
    };
    const NONE: &str = "0101000000";
    for (minor, compression, relation_kind) in [
        (14, "0000000000", ""),
        (15, "00", ""),
        (16, "00", "0070000000"),
    ] {
        let expected = [
            "5047444d5001",
            &format!("{minor:02x}"),
            "00040801", // revision, widths, custom format
            compression,
            &"0001000000".repeat(7), // when it was made
            "000400000073686f70",
            "000500000031352e3138",
            "000400000031372e32",
            "0001000000", // one entry
            "0003010000", // its number
            "0001000000", // it has data
            "000100000030",
            NONE,
            "000100000074",
            "000a0000005441424c452044415441",
            "0003000000", // among the data
            "0000000000", // an empty definition, which is not none
            &NONE.repeat(4),
            "000400000068656170",
            relation_kind,
            "0002000000c3a9",
            NONE,
            "000100000037", // what it needs, and that this is all
            NONE,
            "010000000000000000", // an offset that is not known
        ]
        .concat();
        let written = ArchiveHead::example(minor)
            .encode([&entry].into_iter())
            .unwrap();
        let digits: String = written.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(digits, expected);
        let mut scanner = ArchiveScanner::new();
        scanner.feed(&written).unwrap();
        let mut entry = entry.clone();
        if minor < 16 {
            entry.relation_kind = 0;
        }
        assert_eq!(scanner.contents(), Some([entry].as_slice()));
        assert_eq!(scanner.head(), Some(&ArchiveHead::example(minor)));
    }
}

#[test]
fn numbers_that_four_bytes_cannot_hold_are_not_written() {
    let entry = ArchiveEntry {
        id: 1 << 31,
        ..ArchiveEntry::default()
    };
    let written = ArchiveHead::example(14).encode([&entry].into_iter());
    assert!(matches!(written, Err(ArchiveError::Damaged(_))));
}

#[test]
fn a_text_with_a_zero_byte_is_damage_and_one_that_is_not_utf_8_is_noticed() {
    for (byte, exact) in [(b'x', Some(true)), (0xff, Some(false)), (0, None)] {
        let mut bytes = by_hand(14);
        let at = bytes.windows(6).position(|part| part == b"orders").unwrap();
        bytes[at] = byte;
        let mut scanner = ArchiveScanner::new();
        let fed = scanner.feed(&bytes);
        assert_eq!(fed.ok().map(|()| scanner.is_exact()), exact);
    }
}

#[test]
fn the_table_of_contents_tells_kinds_names_owners_and_needs() {
    let mut scanner = ArchiveScanner::new();
    scanner.feed(&by_hand(16)).unwrap();
    let entry = &scanner.contents().unwrap()[0];
    assert_eq!(
        (
            entry.kind.as_str(),
            entry.name.as_str(),
            entry.schema.as_deref(),
            entry.owner.as_deref()
        ),
        ("TABLE DATA", "orders", Some("public"), Some("ann"))
    );
    assert_eq!(entry.needs, [7]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_damage_makes_the_scanner_panic_or_differ_by_portions(
        at in 0_usize..400,
        value: u8,
        portion in 1_usize..50,
    ) {
        let mut bytes = by_hand(15);
        let at = at % bytes.len();
        bytes[at] = value;
        prop_assert_eq!(scan(&bytes, portion), scan(&bytes, bytes.len()));
    }

    #[test]
    fn any_bytes_are_taken_without_panic(bytes: Vec<u8>) {
        let mut archive = b"PGDMP\x01\x0e\x00\x04\x08\x01".to_vec();
        archive.extend_from_slice(&bytes);
        let _ = scan(&archive, 16);
    }
}
