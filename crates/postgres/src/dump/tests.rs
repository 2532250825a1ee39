//! Dumps that go well, and every way in which one does not.

use std::{fs, path::Path, thread};

use super::*;
use crate::{cluster::ClusterOptions, moment::MomentOptions, settings::Settings, testing};

/// Enough rows that `pg_dump` cannot put them all into pipes and end before we look.
const MANY_ROWS: &str = "CREATE TABLE t (id int PRIMARY KEY, x text);
    INSERT INTO t SELECT i, repeat('x', 200) FROM generate_series(1, 20000) i";

fn hold(settings: &Settings) -> Moment {
    Moment::hold(settings, &MomentOptions::default(), testing::runtime()).unwrap()
}

type Judged = Result<(Vec<u8>, DumpReport), DumpError>;

/// Reads a dump and judges it; the error of reading, if any, comes with the judgement.
fn take(
    moment: &Moment,
    programs: &Programs,
    options: &DumpOptions,
) -> (Option<io::Error>, Judged) {
    let mut dump = match Dump::start(moment, programs, options) {
        Ok(dump) => dump,
        Err(error) => return (None, Err(error)),
    };
    let mut bytes = Vec::new();
    let read = dump.read_to_end(&mut bytes).err();
    (read, dump.finish().map(|report| (bytes, report)))
}

#[test]
fn a_dump_shows_the_moment_and_nothing_later() {
    let cluster = testing::cluster();
    let settings = testing::database(
        &cluster,
        "CREATE TABLE t (x text); INSERT INTO t VALUES ('at the moment')",
    );
    let moment = hold(&settings);
    testing::run(
        &settings,
        "INSERT INTO t VALUES ('too late'); CREATE TABLE later (id int)",
    );
    let (read, result) = take(
        &moment,
        &testing::programs(&cluster),
        &DumpOptions::default(),
    );
    assert!(read.is_none());
    let (bytes, report) = result.unwrap();
    let text = String::from_utf8_lossy(&bytes);
    assert!(text.contains("at the moment") && !text.contains("too late"));
    assert_eq!(report.len_bytes, bytes.len() as u64);
    assert_eq!(report.archive.entries_with_data, 1);
    assert!(report.archive.followed_to_the_end);
    assert_eq!(report.archive.head.database, settings.database());
    assert_eq!(report.warnings, Vec::<String>::new());
}

#[test]
fn rows_can_be_left_out_by_exact_name_and_with_all_partitions() {
    let cluster = testing::cluster();
    let settings = testing::database(
        &cluster,
        "CREATE TABLE \"Odd*\" (x text); INSERT INTO \"Odd*\" VALUES ('odd row');
         CREATE TABLE \"Oddly\" (x text); INSERT INTO \"Oddly\" VALUES ('other row');
         CREATE TABLE p (id int, x text) PARTITION BY RANGE (id);
         CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (9) PARTITION BY RANGE (id);
         CREATE TABLE p11 PARTITION OF p1 FOR VALUES FROM (0) TO (5);
         INSERT INTO p VALUES (1, 'part row')",
    );
    let moment = hold(&settings);
    let options = DumpOptions {
        skip_data: vec!["public.Odd*".to_owned(), "public.p".to_owned()],
        ..DumpOptions::default()
    };
    let programs = testing::programs(&cluster);
    let (bytes, _) = take(&moment, &programs, &options).1.unwrap();
    let text = String::from_utf8_lossy(&bytes);
    assert!(!text.contains("odd row") && !text.contains("part row") && text.contains("other row"));
    let options = DumpOptions {
        skip_data: vec!["public.nobody".to_owned()],
        ..DumpOptions::default()
    };
    let error = take(&moment, &programs, &options).1.unwrap_err();
    assert!(matches!(error, DumpError::Tables(_)), "{error}");
}

#[test]
fn a_dump_that_is_killed_is_an_error_that_names_the_signal() {
    let cluster = testing::cluster();
    let settings = testing::database(&cluster, MANY_ROWS);
    let moment = hold(&settings);
    let programs = testing::programs(&cluster);
    let mut dump = Dump::start(&moment, &programs, &DumpOptions::default()).unwrap();
    let mut start = [0; 1000];
    dump.read_exact(&mut start).unwrap();
    dump.output.running.child().kill().unwrap();
    let mut rest = Vec::new();
    let read = dump.read_to_end(&mut rest).unwrap_err();
    assert!(read.to_string().contains("SIGKILL"), "{read}");
    let error = dump.finish().unwrap_err();
    assert!(
        testing::chain(&error).contains("pg_dump ended with signal 9 (SIGKILL)"),
        "{}",
        testing::chain(&error)
    );
}

#[test]
fn exit_code_1_after_the_full_output_is_a_failed_dump() {
    let cluster = testing::cluster();
    let settings = testing::database(&cluster, "CREATE TABLE t (id int)");
    let moment = hold(&settings);
    let (_folder, programs) =
        testing::with_pg_dump(&cluster, "$REAL \"$@\"; echo 'out of paper' >&2; exit 1");
    let (read, result) = take(&moment, &programs, &DumpOptions::default());
    assert!(read.is_some());
    let error = testing::chain(&result.unwrap_err());
    assert!(
        error.contains("pg_dump ended with exit code 1: out of paper"),
        "{error}"
    );
}

#[test]
fn exit_code_0_with_half_an_archive_none_or_something_else_is_a_failed_dump() {
    let cluster = testing::cluster();
    let settings = testing::database(&cluster, MANY_ROWS);
    let moment = hold(&settings);
    for (script, expected) in [
        (
            "$REAL \"$@\" | head -c 100000; exit 0",
            "cut off in its data",
        ),
        ("$REAL \"$@\" | head -c 20; exit 0", "cut off in its head"),
        ("exit 0", "cut off in its head"),
        (
            "echo '-- PostgreSQL database dump'; exit 0",
            "no PostgreSQL archive",
        ),
    ] {
        let (_folder, programs) = testing::with_pg_dump(&cluster, script);
        let error = testing::chain(
            &take(&moment, &programs, &DumpOptions::default())
                .1
                .unwrap_err(),
        );
        assert!(error.contains(expected), "{script}: {error}");
    }
}

#[test]
fn words_on_standard_error_of_a_good_dump_are_warnings() {
    let cluster = testing::cluster();
    let settings = testing::database(&cluster, "CREATE TABLE t (id int)");
    let moment = hold(&settings);
    let (_folder, programs) = testing::with_pg_dump(
        &cluster,
        "echo 'pg_dump: warning: odd' >&2; exec $REAL \"$@\"",
    );
    let (_, report) = take(&moment, &programs, &DumpOptions::default()).1.unwrap();
    assert_eq!(report.warnings, ["pg_dump: warning: odd"]);
}

#[test]
fn a_dump_that_was_not_read_to_its_end_is_no_dump_and_its_program_is_gone() {
    let cluster = testing::cluster();
    let settings = testing::database(&cluster, MANY_ROWS);
    let moment = hold(&settings);
    let programs = testing::programs(&cluster);
    let mut dump = Dump::start(&moment, &programs, &DumpOptions::default()).unwrap();
    dump.read_exact(&mut [0; 100]).unwrap();
    let process = format!("/proc/{}", dump.output.running.child().id());
    assert!(Path::new(&process).exists());
    assert!(matches!(dump.finish(), Err(DumpError::GivenUp)));
    assert!(!Path::new(&process).exists());

    let mut dump = Dump::start(&moment, &programs, &DumpOptions::default()).unwrap();
    let process = format!("/proc/{}", dump.output.running.child().id());
    drop(dump);
    assert!(!Path::new(&process).exists());
}

#[test]
fn a_program_that_starts_others_is_given_up_without_waiting_for_them() {
    let cluster = testing::cluster();
    let settings = testing::database(&cluster, MANY_ROWS);
    let moment = hold(&settings);
    let (_folder, programs) = testing::with_pg_dump(&cluster, "$REAL \"$@\"");
    let mut dump = Dump::start(&moment, &programs, &DumpOptions::default()).unwrap();
    dump.read_exact(&mut [0; 100]).unwrap();
    drop(dump);
}

#[test]
fn dumps_and_moments_go_from_thread_to_thread() {
    fn sent<T: Send>() {}
    sent::<Moment>();
    sent::<Dump<'_>>();
}

#[test]
fn a_server_that_goes_in_the_middle_is_a_failed_dump() {
    let mut cluster = testing::own_cluster(&ClusterOptions::default());
    let settings = testing::database(&cluster, MANY_ROWS);
    let moment = hold(&settings);
    let programs = testing::programs(&cluster);
    let mut dump = Dump::start(&moment, &programs, &DumpOptions::default()).unwrap();
    dump.read_exact(&mut [0; 1000]).unwrap();
    cluster.stop();
    let mut rest = Vec::new();
    assert!(dump.read_to_end(&mut rest).is_err());
    let error = dump.finish().unwrap_err();
    assert!(
        matches!(error, DumpError::Moment(_)),
        "{}",
        testing::chain(&error)
    );
    assert!(moment.check().is_err());
}

#[test]
fn a_moment_that_was_lost_spoils_a_dump_that_looks_whole() {
    let cluster = testing::cluster();
    let settings = testing::database(&cluster, "CREATE TABLE t (id int)");
    let moment = hold(&settings);
    let programs = testing::programs(&cluster);
    let mut dump = Dump::start(&moment, &programs, &DumpOptions::default()).unwrap();
    let mut bytes = Vec::new();
    dump.read_to_end(&mut bytes).unwrap();
    testing::run(
        &settings,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
          WHERE datname = current_database() AND state = 'idle in transaction'",
    );
    let error = dump.finish().unwrap_err();
    assert!(matches!(error, DumpError::Moment(_)), "{error}");
}

#[test]
fn a_query_that_queues_behind_the_moment_does_not_hold_up_the_dump_for_ever() {
    let cluster = testing::cluster();
    let settings = testing::database(&cluster, "CREATE TABLE t (id int)");
    let moment = hold(&settings);
    let writer = {
        let settings = settings.clone();
        thread::spawn(move || testing::run(&settings, "ALTER TABLE t ADD COLUMN x int"))
    };
    let waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND mode = 'AccessExclusiveLock'
                      AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    while testing::ask(&settings, waiting) != "1" {
        thread::sleep(Duration::from_millis(20));
    }
    let options = DumpOptions {
        lock_wait: Duration::from_millis(300),
        ..DumpOptions::default()
    };
    let error = testing::chain(
        &take(&moment, &testing::programs(&cluster), &options)
            .1
            .unwrap_err(),
    );
    assert!(error.contains("pg_dump ended with exit code 1"), "{error}");
    drop(moment);
    writer.join().unwrap();
}

#[test]
fn no_password_is_on_a_command_line() {
    let cluster = testing::cluster();
    let settings = testing::database(&cluster, "CREATE TABLE t (id int)")
        .with_password(zeroize::Zeroizing::new("geheim".to_owned()));
    let moment = hold(&settings);
    let folder = tempfile::tempdir().unwrap();
    let seen = folder.path().join("arguments");
    let script = format!(
        "echo \"$@\" > {}; env >> {}.env; exec $REAL \"$@\"",
        seen.display(),
        seen.display()
    );
    let (_folder, programs) = testing::with_pg_dump(&cluster, &script);
    take(&moment, &programs, &DumpOptions::default()).1.unwrap();
    let arguments = fs::read_to_string(&seen).unwrap();
    assert!(
        arguments.contains("--snapshot=") && !arguments.contains("geheim"),
        "{arguments}"
    );
    let variables = fs::read_to_string(seen.with_extension("env")).unwrap();
    assert!(
        variables.contains("PGPASSWORD=geheim") && !variables.contains("CARGO"),
        "{variables}"
    );
}
