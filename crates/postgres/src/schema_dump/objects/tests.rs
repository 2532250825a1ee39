//! What `pg_dump` 17 wrote of one database in three runs: the schema, large objects alone, and all. The files were made by
//! it and are kept, so that this is tested with every version.

use std::{ffi::OsString, fs, io::Read as _, sync::atomic::Ordering, time::Duration};

use super::*;
use crate::{
    archive::{ArchiveHead, ArchiveScanner},
    assembly::Assembly,
    cluster::Cluster,
    moment::MomentOptions,
    parts::{Digest, LargeObjectPart, Parts, SequencePart, TablePart},
    schema_dump::SchemaDump,
    testing,
};

const SCHEMA: &[u8] = include_bytes!("../corpus/schema-17.dump");
const OBJECTS: &[u8] = include_bytes!("../corpus/objects-17.dump");
const WHOLE: &[u8] = include_bytes!("../corpus/whole-17.dump");

fn contents(archive: &[u8]) -> (ArchiveHead, Vec<ArchiveEntry>) {
    let mut scanner = ArchiveScanner::new();
    scanner.feed(archive).unwrap();
    let (summary, contents) = scanner.complete().unwrap();
    (summary.head, contents)
}

/// The entries without their numbers, and what each needs by name, but for what no archive has.
fn by_names(contents: Vec<ArchiveEntry>) -> Vec<(ArchiveEntry, Vec<String>)> {
    let names: HashMap<i64, String> = contents
        .iter()
        .map(|entry| (entry.id, format!("{} {}", entry.kind, entry.name)))
        .collect();
    assert_eq!(names.len(), contents.len(), "a number stands for two");
    let nameless = |mut entry: ArchiveEntry| {
        let needs = entry.needs.drain(..);
        let needs = needs.filter_map(|need| names.get(&need).cloned()).collect();
        entry.id = 0;
        (entry, needs)
    };
    contents.into_iter().map(nameless).collect()
}

#[test]
fn of_a_run_for_large_objects_all_is_taken_but_their_contents() {
    let taken = choose(&contents(OBJECTS).1);
    let taken: Vec<_> = taken
        .iter()
        .map(|entry| format!("{} {}", entry.kind, entry.name))
        .collect();
    assert_eq!(
        taken,
        [
            "BLOB METADATA 1000..1002",
            "COMMENT LARGE OBJECT 1001",
            "BLOB METADATA 3000..3001",
            "COMMENT LARGE OBJECT 3001",
            "ACL LARGE OBJECTS 3000..3001",
            "BLOB METADATA 3000000000",
            "ACL LARGE OBJECT 3000000000",
        ]
    );
}

#[test]
fn two_runs_and_the_contents_make_the_archive_that_one_run_makes() {
    let (head, schema) = contents(SCHEMA);
    let joined = join(schema, choose(&contents(OBJECTS).1));
    let joined = head.encode(joined.iter()).unwrap();
    let parts = Parts {
        tables: vec![TablePart {
            schema: "public".to_owned(),
            name: "orders".to_owned(),
            columns: vec!["id".to_owned()],
            condition: None,
            order: Vec::new(),
            digest: Some(Digest {
                rows: 1,
                len_bytes: 2,
                sum: 0,
            }),
        }],
        sequences: vec![SequencePart {
            schema: "public".to_owned(),
            name: "ticket".to_owned(),
            last_value: 1,
            is_called: false,
        }],
        large_objects: [1000, 1001, 1002, 3000, 3001, 3_000_000_000]
            .map(|oid| LargeObjectPart {
                oid,
                len_bytes: 0,
                hash: [0; 32],
            })
            .to_vec(),
    };
    let assembly = Assembly::new(&mut &joined[..], &parts).unwrap();
    let ours = assembly.items.into_iter().map(|item| item.entry).collect();
    assert_eq!(by_names(ours), by_names(contents(WHOLE).1));
}

/// A database with as many large objects as [`OBJECTS`] tells of, or more.
fn held(cluster: &Cluster, more: u32) -> Moment {
    let sql = format!(
        "SELECT lo_create(i) FROM generate_series(1, {}) i",
        6 + more
    );
    let settings = testing::database(cluster, &sql);
    Moment::hold(&settings, &MomentOptions::default(), testing::runtime()).unwrap()
}

/// The cluster's programs, which say that they are of version 17; what is asked for large objects alone does `script`,
/// which finds [`OBJECTS`] as `$OBJECTS`.
fn of_17(cluster: &Cluster, script: &str) -> (tempfile::TempDir, Programs) {
    let real = testing::programs(cluster);
    let folder = tempfile::tempdir().unwrap();
    let objects = folder.path().join("objects.dump");
    fs::write(&objects, OBJECTS).unwrap();
    for program in ["pg_dump", "pg_dumpall", "pg_restore", "psql"] {
        let text = format!(
            "REAL={}; OBJECTS={}
             case \"$1\" in --version) echo '{program} (PostgreSQL) 17.1'; exit;; esac
             for argument; do case \"$argument\" in --large-objects) {script}; exit;; esac; done
             exec $REAL \"$@\"",
            real.program(program).display(),
            objects.display()
        );
        testing::script(&folder.path().join(program), &text);
    }
    let path: OsString = folder.path().into();
    let found = Programs::find(17, &|name| {
        (name == "LIFEBOAT_PG_BIN").then(|| path.clone())
    });
    (folder, found.unwrap())
}

static GO_ON: AtomicBool = AtomicBool::new(false);

fn refused(moment: &Moment, programs: &Programs, stop: &AtomicBool) -> String {
    let error = SchemaDump::start(moment, programs, stop).err().unwrap();
    testing::chain(&error)
}

#[test]
fn a_schema_has_the_large_objects_of_a_second_run_and_is_read_to_its_end() {
    let cluster = testing::cluster();
    let moment = held(&cluster, 0);
    // It waits for ever with the contents, which nobody reads.
    let (_folder, programs) = of_17(&cluster, "cat $OBJECTS; exec sleep 1000");
    let mut schema = SchemaDump::start(&moment, &programs, &GO_ON).unwrap();
    let mut bytes = vec![0; 10];
    schema.read_exact(&mut bytes).unwrap();
    schema.read_to_end(&mut bytes).unwrap();
    let report = schema.finish().unwrap();
    let (head, entries) = contents(&bytes);
    assert_eq!(head, report.archive.head);
    assert_eq!(report.archive.entries, entries.len() as u64);
    assert_eq!(report.len_bytes, bytes.len() as u64);
    let taken = choose(&contents(OBJECTS).1);
    let names = |entry: &ArchiveEntry| (entry.kind.clone(), entry.name.clone());
    let told: Vec<_> = entries.iter().map(names).collect();
    let taken: Vec<_> = taken.iter().map(names).collect();
    assert!(told.ends_with(&taken), "{told:?}");
    let schema = SchemaDump::start(&moment, &programs, &GO_ON).unwrap();
    assert!(matches!(schema.finish(), Err(DumpError::GivenUp)));
}

#[test]
fn a_second_run_that_does_not_tell_of_all_large_objects_makes_no_schema() {
    let cluster = testing::cluster();
    let moment = held(&cluster, 1);
    for (script, words) in [
        (
            "cat $OBJECTS",
            "pg_dump tells of 6 large objects, and the database has 7",
        ),
        ("head -c 500 $OBJECTS", "cut off in its table of contents"),
        (
            "echo 'pg_dump: error: no paper' >&2; exit 1",
            "pg_dump ended with exit code 1: no paper",
        ),
        (
            "head -c 500 $OBJECTS; exit 1",
            "pg_dump ended with exit code 1",
        ),
        (
            "sed 's/ann/a\\xff\\xff/' $OBJECTS",
            "pg_dump wrote names that are not UTF-8",
        ),
    ] {
        let (_folder, programs) = of_17(&cluster, script);
        let error = refused(&moment, &programs, &GO_ON);
        assert!(error.contains(words), "{script}: {error}");
    }
}

#[test]
fn a_wait_for_a_second_run_ends_when_it_is_asked_to_stop() {
    let cluster = testing::cluster();
    let moment = held(&cluster, 0);
    for script in ["exec sleep 1000", "head -c 500 $OBJECTS; exec sleep 1000"] {
        let (_folder, programs) = of_17(&cluster, script);
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(Duration::from_millis(500));
                stop.store(true, Ordering::Relaxed);
            });
            let error = refused(&moment, &programs, &stop);
            assert!(error.contains("pg_dump was stopped"), "{error}");
        });
    }
}
