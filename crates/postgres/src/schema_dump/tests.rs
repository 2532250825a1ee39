//! Schemas at a moment, while others want to change them.

use std::{process::Stdio, thread, time::Duration};

use super::*;
use crate::{child, connect::Connection, moment::MomentOptions, settings::Settings, testing};

static GO_ON: AtomicBool = AtomicBool::new(false);

fn hold(settings: &Settings) -> Moment {
    Moment::hold(settings, &MomentOptions::default(), testing::runtime()).unwrap()
}

fn take(moment: &Moment, programs: &Programs) -> (Vec<u8>, DumpReport) {
    let mut schema = SchemaDump::start(moment, programs, &GO_ON).unwrap();
    let mut bytes = Vec::new();
    schema.read_to_end(&mut bytes).unwrap();
    (bytes, schema.finish().unwrap())
}

fn fail(moment: &Moment, programs: &Programs, stop: &AtomicBool) -> DumpError {
    match SchemaDump::start(moment, programs, stop) {
        Ok(_) => panic!("there is a schema although somebody is in its way"),
        Err(error) => error,
    }
}

/// Waits until a request for a lock waits in the database.
fn wait_for_waiting(settings: &Settings) {
    let waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted
                      AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    let deadline = Instant::now() + Duration::from_secs(20);
    while testing::ask(settings, waiting) == "0" {
        assert!(Instant::now() < deadline, "nobody waits");
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_schema_is_all_but_rows_as_it_was_at_the_moment() {
    let cluster = testing::cluster();
    let settings = testing::everything(&cluster);
    let programs = testing::programs(&cluster);
    let moment = hold(&settings);
    testing::run(&settings, "CREATE TABLE later (id int)");
    let (bytes, report) = take(&moment, &programs);
    assert_eq!(report.len_bytes, bytes.len() as u64);
    assert_eq!(report.archive.entries_with_data, 0);

    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), bytes).unwrap();
    let mut list = child::command(&programs.program("pg_restore"), None);
    list.arg("--list").arg(file.path()).stdout(Stdio::piped());
    let (list, _) = child::output(list).unwrap();
    let list = String::from_utf8(list).unwrap();
    for wanted in [
        " TABLE public customer ",
        " MATERIALIZED VIEW DATA public sums ",
        " FK CONSTRAINT public circle ",
        // Since 17 with the word METADATA, and among objects of its owner.
        " - 16000",
        " COMMENT - LARGE OBJECT 16000 ",
    ] {
        assert!(list.contains(wanted), "{wanted}: {list}");
    }
    for unwanted in [" TABLE DATA ", " SEQUENCE SET ", " BLOBS ", " later "] {
        assert!(!list.contains(unwanted), "{unwanted}: {list}");
    }
}

#[test]
fn who_queues_for_a_table_is_met_and_named_within_seconds() {
    let cluster = testing::cluster();
    let settings = testing::database(&cluster, "CREATE TABLE t (id int)");
    let moment = hold(&settings);
    let queued = {
        let settings = settings.clone();
        thread::spawn(move || testing::run(&settings, "ALTER TABLE t ADD more int"))
    };
    wait_for_waiting(&settings);
    let error = fail(&moment, &testing::programs(&cluster), &GO_ON);
    assert!(matches!(error, DumpError::Lock { .. }), "{error}");
    let text = error.to_string();
    assert!(
        text.contains("(ALTER TABLE t ADD more int), which waits for public.t"),
        "{text}"
    );
    drop(moment);
    queued.join().unwrap();
}

/// Two views, the second of the first, and a session that keeps the first to itself.
fn kept_view(cluster: &crate::Cluster) -> (Settings, Connection) {
    let settings = testing::database(
        cluster,
        "CREATE TABLE t (id int); CREATE VIEW one AS SELECT id FROM t; CREATE VIEW two AS SELECT id FROM one",
    );
    let keeper = Connection::open(&settings, testing::runtime()).unwrap();
    keeper
        .execute("rename", "BEGIN; ALTER VIEW public.one RENAME TO other")
        .unwrap();
    (settings, keeper)
}

#[test]
fn what_pg_dump_itself_would_wait_for_without_end_is_met_too() {
    let cluster = testing::cluster();
    let (settings, _keeper) = kept_view(&cluster);
    let moment = hold(&settings);
    let began = Instant::now();
    let error = fail(&moment, &testing::programs(&cluster), &GO_ON);
    assert!(matches!(error, DumpError::Lock { .. }), "{error}");
    assert!(began.elapsed() < Duration::from_secs(20));
}

#[test]
fn a_wait_for_pg_dump_ends_when_it_is_asked_to_stop() {
    let cluster = testing::cluster();
    let (settings, _keeper) = kept_view(&cluster);
    let moment = hold(&settings);
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let schema = scope.spawn(|| fail(&moment, &testing::programs(&cluster), &stop));
        wait_for_waiting(&settings);
        stop.store(true, Ordering::Relaxed);
        let error = schema.join().unwrap();
        assert!(
            matches!(error, DumpError::Program(ProgramError::Stopped { .. })),
            "{error}"
        );
    });
}

#[test]
fn an_archive_of_a_format_that_is_not_known_is_no_schema() {
    let cluster = testing::cluster();
    let settings = testing::database(&cluster, "CREATE TABLE t (id int)");
    let moment = hold(&settings);
    // The minor version is the seventh byte.
    let script = "$REAL \"$@\" | { head -c 6; printf '\\143'; head -c 1 > /dev/null; cat; }";
    let (_folder, programs) = testing::with_pg_dump(&cluster, script);
    let mut schema = SchemaDump::start(&moment, &programs, &GO_ON).unwrap();
    schema.read_to_end(&mut Vec::new()).unwrap();
    let error = schema.finish().unwrap_err();
    assert!(
        matches!(error, DumpError::Unknown { format_minor: 99 }),
        "{error}"
    );
}
