//! Schemas made by hand: parts that do not fit, formats that no program here writes, and bytes that nobody made.

use proptest::prelude::*;

use super::*;
use crate::partitions::PARTITIONED;

#[test]
fn a_key_that_is_no_word_is_refused_before_the_first_byte() {
    for key in ["", "a b", "a\n\\! id"] {
        let options = ScriptOptions {
            restrict_key: Some(key.to_owned()),
            ..ScriptOptions::default()
        };
        let mut out = Vec::new();
        let result = write_script(
            &mut [].as_slice(),
            &Parts::default(),
            &nothing,
            &options,
            &mut out,
        );
        assert!(matches!(result, Err(AssemblyError::RestrictKey)));
        assert!(out.is_empty());
    }
}

fn nothing(_: Wanted<'_>, _: &mut dyn Write) -> io::Result<()> {
    Ok(())
}

/// An entry of a schema that is made by hand.
fn entry(id: i64, kind: &str, name: &str, definition: &str) -> ArchiveEntry {
    ArchiveEntry {
        id,
        name: name.to_owned(),
        kind: kind.to_owned(),
        section: 2,
        definition: Some(definition.to_owned()),
        drop: Some("-- dummy".to_owned()),
        schema: Some("public".to_owned()),
        owner: Some("ann".to_owned()),
        ..ArchiveEntry::default()
    }
}

/// A schema's archive with these entries behind those that every archive has.
fn by_hand(minor: u8, entries: &[ArchiveEntry]) -> Vec<u8> {
    let mut all = vec![
        entry(1, "ENCODING", "ENCODING", "SET client_encoding = 'UTF8';\n"),
        entry(
            2,
            "STDSTRINGS",
            "STDSTRINGS",
            "SET standard_conforming_strings = 'on';\n",
        ),
        entry(3, "SEARCHPATH", "SEARCHPATH", "SELECT 1;\n"),
    ];
    all.extend_from_slice(entries);
    ArchiveHead::example(minor).encode(all.iter()).unwrap()
}

fn table(name: &str, rows: u64, len_bytes: u64) -> TablePart {
    TablePart {
        schema: "public".to_owned(),
        name: name.to_owned(),
        columns: vec!["id".to_owned(), "select".to_owned()],
        condition: None,
        order: Vec::new(),
        digest: Some(Digest {
            rows,
            len_bytes,
            sum: 0,
        }),
    }
}

fn large_object(oid: u32) -> LargeObjectPart {
    LargeObjectPart {
        oid,
        len_bytes: 0,
        hash: [0; 32],
    }
}

/// What is said of a schema and parts, or where their entries with data stand.
fn put_together(schema: &[u8], parts: &Parts) -> Result<Vec<String>, String> {
    let assembly = Assembly::new(&mut &*schema, parts).map_err(|error| testing::chain(&error))?;
    let names = assembly
        .items
        .iter()
        .filter(|item| item.entry.section == section::DATA)
        .map(|item| {
            format!(
                "{} {} {:?}",
                item.entry.kind, item.entry.name, item.entry.needs
            )
        });
    Ok(names.collect())
}

#[test]
fn what_does_not_fit_together_is_said_before_the_first_byte() {
    let schema = by_hand(14, &[entry(4, "TABLE", "t", "CREATE TABLE t;")]);
    let fits = Parts {
        tables: vec![table("t", 0, 0)],
        ..Parts::default()
    };
    assert_eq!(put_together(&schema, &fits).unwrap(), ["TABLE DATA t [4]"]);
    let refused = |schema: &[u8], parts: &Parts, why: &str| {
        assert_eq!(put_together(schema, parts).unwrap_err(), why);
    };
    refused(
        &schema,
        &Parts::default(),
        "the schema has the table public.t, and the database's parts have not",
    );
    refused(
        &by_hand(14, &[entry(4, "SEQUENCE", "s", "CREATE SEQUENCE s;")]),
        &Parts::default(),
        "the schema has the sequence public.s, and the database's parts have not",
    );
    refused(
        &by_hand(14, &[entry(4, "BLOB", "16400", "SELECT lo_create(16400);")]),
        &Parts::default(),
        "the schema has the large object 16400, and the database's parts have not",
    );
    let objects = Parts {
        large_objects: vec![large_object(7)],
        ..Parts::default()
    };
    refused(
        &by_hand(14, &[]),
        &objects,
        "the database's parts have the large object 7, and the schema has not",
    );
    refused(
        &by_hand(14, &[entry(4, "SEQUENCE SET", "s", "SELECT 1;")]),
        &Parts::default(),
        "the archive of the schema has data of its own: SEQUENCE SET s",
    );
    refused(
        &by_hand(14, &[entry(4, "BLOB", "x", "")]),
        &Parts::default(),
        "the archive of the schema is not understood: BLOB x is no number",
    );
    refused(
        &ArchiveHead::example(14).encode([].iter()).unwrap(),
        &Parts::default(),
        "the archive of the schema is not understood: it has no ENCODING",
    );
    for minor in [13, 17] {
        refused(
            &by_hand(minor, &[]),
            &Parts::default(),
            &format!("an archive in format 1.{minor} cannot be put together with its rows here"),
        );
    }
    let mut latin = by_hand(14, &[]);
    let at = latin.windows(4).position(|part| part == b"UTF8").unwrap();
    latin[at..at + 4].copy_from_slice(b"LATN");
    refused(
        &latin,
        &Parts::default(),
        "the archive of the schema is not in UTF-8",
    );
    refused(
        &schema[..schema.len() - 1],
        &fits,
        "the PostgreSQL archive is cut off in its table of contents",
    );
}

#[test]
fn content_that_is_not_what_its_part_says_makes_no_complete_dump() {
    let schema = by_hand(14, &[entry(4, "TABLE", "t", "CREATE TABLE t;")]);
    let parts = Parts {
        tables: vec![table("t", 2, 8)],
        ..Parts::default()
    };
    let written = |rows: &[u8], portion: usize| {
        let source = |_: Wanted<'_>, out: &mut dyn Write| {
            rows.chunks(portion)
                .try_for_each(|part| out.write_all(part))
        };
        let mut script = Vec::new();
        let options = ScriptOptions::default();
        let result = write_script(
            &mut schema.as_slice(),
            &parts,
            &source,
            &options,
            &mut script,
        );
        let complete = script.ends_with(b"dump complete\n--\n\n");
        assert_eq!(complete, result.is_ok());
        let archived = write_archive(&mut schema.as_slice(), &parts, &source, &mut Vec::new());
        assert_eq!(
            archived.map_err(|error| error.to_string()),
            result.as_ref().map(|_| ()).map_err(ToString::to_string)
        );
        result.map_err(|error| error.to_string())
    };
    for portion in [1, 3, 100] {
        assert_eq!(written(b"1\ta\n2\tb\n", portion), Ok(()));
        // A backslash that is escaped, before a point.
        assert!(written(b"1\t\n\\\\.\n\n", portion).is_err());
        assert_eq!(written(b"1\n\\\\.ab\n", portion), Ok(()));
        for (rows, wrong) in [
            (&b"1\ta\n2\tb"[..], "the last one does not end"),
            (b"1\ta\n", "they are not as many as were read"),
            (b"1\ta\n2\t\n\n", "they are not as many as were read"),
            (b"1\n\\.\n\\!id", "they contain the mark of their end"),
            (b"1\na\\.\nx\n", "they contain the mark of their end"),
        ] {
            assert_eq!(
                written(rows, portion),
                Err(format!("the rows of public.t: {wrong}"))
            );
        }
    }
}

#[test]
fn a_source_that_fails_and_an_output_that_is_full_are_told_apart() {
    struct Full;
    impl Write for Full {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::StorageFull.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let schema = by_hand(14, &[entry(4, "TABLE", "t", "CREATE TABLE t;")]);
    let parts = Parts {
        tables: vec![table("t", 1, 1 << 20)],
        ..Parts::default()
    };
    let many = |_: Wanted<'_>, out: &mut dyn Write| out.write_all(&[b'x'; 1 << 20]);
    let fails = |_: Wanted<'_>, _: &mut dyn Write| Err(io::ErrorKind::NotFound.into());
    let run = |source: &PartSource<'_>, out: &mut dyn Write| {
        let error = write_archive(&mut schema.as_slice(), &parts, source, out).unwrap_err();
        testing::chain(&error)
    };
    assert_eq!(
        run(&many, &mut Full),
        "the dump cannot be written: no storage space"
    );
    assert_eq!(
        run(&fails, &mut Vec::new()),
        "the rows of public.t cannot be read: entity not found"
    );
}

#[test]
fn a_table_of_an_extension_has_rows_and_no_entry_that_they_need() {
    let mut skipped = table("skipped", 0, 0);
    skipped.digest = None;
    let parts = Parts {
        tables: vec![table("z", 0, 0), skipped, table("Of extension", 0, 0)],
        ..Parts::default()
    };
    let schema = by_hand(
        15,
        &[
            entry(4, "EXTENSION", "e", "CREATE EXTENSION e;"),
            entry(9, "TABLE", "z", "CREATE TABLE z;"),
            entry(5, "TABLE", "skipped", "CREATE TABLE skipped;"),
        ],
    );
    assert_eq!(
        put_together(&schema, &parts).unwrap(),
        ["TABLE DATA Of extension []", "TABLE DATA z [9]"]
    );
    let assembly = Assembly::new(&mut schema.as_slice(), &parts).unwrap();
    let entry = &assembly.items[6].entry;
    assert_eq!(entry.id, 10);
    assert_eq!(
        entry.copy.as_deref(),
        Some("COPY public.\"Of extension\" (id, \"select\") FROM stdin;\n")
    );
}

#[test]
fn since_1_16_large_objects_stand_in_groups() {
    let mut grants = entry(
        6,
        "ACL",
        "LARGE OBJECTS 7..9",
        "GRANT SELECT ON LARGE OBJECT 7 TO \"a; ON LARGE OBJECT 7\";\nREVOKE ALL ON LARGE OBJECT 7 FROM ann;\n",
    );
    grants.needs = vec![5];
    grants.drop = None;
    let mut group = entry(5, "BLOB METADATA", "7..9", "7\n9\n");
    group.section = section::DATA;
    group.schema = None;
    let schema = by_hand(16, &[group, grants]);
    let parts = |oids: &[u32]| Parts {
        large_objects: oids.iter().copied().map(large_object).collect(),
        ..Parts::default()
    };
    for (oids, why) in [
        (
            &[7][..],
            "the schema has the large object 9, and the database's parts have not",
        ),
        (
            &[7, 9, 3_000_000_000],
            "the database's parts have the large object 3000000000, and the schema has not",
        ),
    ] {
        assert_eq!(put_together(&schema, &parts(oids)).unwrap_err(), why);
    }
    let parts = parts(&[7, 9]);
    assert_eq!(
        put_together(&schema, &parts).unwrap(),
        ["BLOB METADATA 7..9 []", "BLOBS 7..9 [5]"]
    );
    let mut script = Vec::new();
    let options = ScriptOptions::default();
    write_script(
        &mut schema.as_slice(),
        &parts,
        &nothing,
        &options,
        &mut script,
    )
    .unwrap();
    let script = String::from_utf8(script).unwrap();
    for part in [
        "--\n-- Name: 7..9; Type: BLOB METADATA; Schema: -; Owner: ann\n--\n\n\
         SELECT pg_catalog.lo_create('7');\nSELECT pg_catalog.lo_create('9');\n\n\
         ALTER LARGE OBJECT 7 OWNER TO ann;\nALTER LARGE OBJECT 9 OWNER TO ann;\n\n",
        "--\n-- Data for Name: 7..9; Type: BLOBS; Schema: -; Owner: ann\n--\n\nBEGIN;\n\n\
         SELECT pg_catalog.lo_open('7', 131072);\nSELECT pg_catalog.lo_close(0);\n\n",
        "GRANT SELECT ON LARGE OBJECT 7 TO \"a; ON LARGE OBJECT 7\";\n\
         GRANT SELECT ON LARGE OBJECT 9 TO \"a; ON LARGE OBJECT 7\";\n\n\
         REVOKE ALL ON LARGE OBJECT 7 FROM ann;\nREVOKE ALL ON LARGE OBJECT 9 FROM ann;\n\n",
    ] {
        assert!(script.contains(part), "{part}");
    }
    let mut archive = Vec::new();
    write_archive(&mut schema.as_slice(), &parts, &nothing, &mut archive).unwrap();
    let mut scanner = ArchiveScanner::new();
    scanner.feed(&archive).unwrap();
    let summary = scanner.finish().unwrap();
    assert_eq!((summary.entries, summary.entries_with_data), (6, 1));
}

#[test]
fn a_partitioned_table_since_1_16_gets_its_access_method_by_a_statement() {
    let mut partitioned = entry(4, "TABLE", "p", "CREATE TABLE p;");
    partitioned.relation_kind = PARTITIONED;
    partitioned.access_method = Some("other".to_owned());
    let schema = by_hand(16, &[partitioned]);
    let mut script = Vec::new();
    let options = ScriptOptions::default();
    let parts = Parts::default();
    write_script(
        &mut schema.as_slice(),
        &parts,
        &nothing,
        &options,
        &mut script,
    )
    .unwrap();
    let script = String::from_utf8(script).unwrap();
    assert!(script.contains(
        "ALTER TABLE public.p OWNER TO ann;\n\nALTER TABLE public.p SET ACCESS METHOD other;\n\n"
    ));
    assert!(!script.contains("default_table_access_method"));
}

/// A schema with an entry of each kind that is looked into, and circles where none should be.
fn of_every_kind(minor: u8) -> Vec<u8> {
    let needing = |mut entry: ArchiveEntry, needs: &[i64]| {
        entry.needs = needs.to_vec();
        entry.drop = None;
        entry
    };
    let (objects, grants) = if minor < MINOR_GROUPS {
        ("BLOB", "LARGE OBJECT 7")
    } else {
        ("BLOB METADATA", "LARGE OBJECTS 7..7")
    };
    let partitioned = "CREATE TABLE p\nPARTITION BY HASH (id);";
    by_hand(
        minor,
        &[
            entry(4, "TABLE", "t", partitioned),
            entry(5, "TABLE", "u", partitioned),
            needing(entry(6, "TABLE ATTACH", "t", "ALTER TABLE;"), &[4, 5]),
            needing(entry(7, "TABLE ATTACH", "u", "ALTER TABLE;"), &[4, 5]),
            entry(8, "SEQUENCE", "s", "CREATE SEQUENCE s;"),
            entry(9, "FUNCTION", "f()", "CREATE FUNCTION f();"),
            entry(10, objects, "7", "7\n"),
            needing(
                entry(11, "ACL", grants, "GRANT ALL ON LARGE OBJECT 7 TO ann;"),
                &[10],
            ),
        ],
    )
}

fn parts_of_every_kind() -> Parts {
    Parts {
        tables: vec![table("t", 0, 0), table("u", 0, 0)],
        sequences: vec![SequencePart {
            schema: "public".to_owned(),
            name: "s".to_owned(),
            last_value: 1,
            is_called: false,
        }],
        large_objects: vec![large_object(7)],
    }
}

/// What both writers say of a schema.
fn write_both(schema: &[u8]) -> [Result<Vec<u8>, AssemblyError>; 2] {
    let parts = parts_of_every_kind();
    let (mut script, mut archive) = (Vec::new(), Vec::new());
    let options = ScriptOptions::default();
    let scripted = write_script(&mut &*schema, &parts, &nothing, &options, &mut script);
    let archived = write_archive(&mut &*schema, &parts, &nothing, &mut archive);
    [scripted.map(|()| script), archived.map(|()| archive)]
}

#[test]
fn a_circle_of_partitions_ends() {
    for minor in MINOR_MIN..=MINOR_MAX {
        let mut schema = of_every_kind(minor);
        let [script, archive] = write_both(&schema);
        let drop = script.unwrap_err().to_string();
        assert_eq!(
            drop,
            "the archive of the schema is not understood: how FUNCTION f() is dropped"
        );
        archive.unwrap();
        // With a statement that drops the function, the script is whole too.
        let at = schema.windows(3).position(|part| part == b"f()").unwrap();
        let dummy = at
            + schema[at..]
                .windows(8)
                .position(|part| part == b"-- dummy")
                .unwrap();
        schema[dummy..dummy + 8].copy_from_slice(b"DROP f()");
        let [script, _] = write_both(&schema);
        let script = String::from_utf8(script.unwrap()).unwrap();
        assert!(script.contains("ALTER f() OWNER TO ann;"));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn no_damage_of_a_schema_makes_a_writer_panic_or_its_output_unreadable(
        minor in MINOR_MIN..=MINOR_MAX,
        damage in prop::collection::vec((0_usize..2000, any::<u8>()), 1..5),
    ) {
        let mut schema = of_every_kind(minor);
        let len_bytes = schema.len();
        for (at, value) in damage {
            schema[at % len_bytes] = value;
        }
        let [_, archive] = write_both(&schema);
        if let Ok(archive) = archive {
            let mut scanner = ArchiveScanner::new();
            scanner.feed(&archive).unwrap();
            prop_assert!(scanner.finish().unwrap().followed_to_the_end);
        }
    }
}
