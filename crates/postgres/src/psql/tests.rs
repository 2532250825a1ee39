//! What is asked by way of another program: the same answers as over a connection, and every way in which none comes.

use std::{fs, io::Read as _};

use super::*;
use crate::{
    asking::Ask,
    cluster::Cluster,
    connect::Connection,
    dump::{Dump, DumpError, DumpOptions},
    globals::globals,
    moment::{Moment, MomentOptions},
    preflight::{PreflightError, preflight},
    programs::Programs,
    resolve::{ResolveError, resolve_via},
    testing,
};

/// A stand-in for what runs a program inside a container: it takes `exec -T db`, and runs the rest where neither the
/// environment nor the folder is ours. `script` may do something else; `$RUN` in it is what does it.
fn stand_in(cluster: &Cluster, script: &str) -> (tempfile::TempDir, Vec<String>) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("container");
    let programs = testing::programs(cluster);
    let clients = programs.folder().display();
    let run = format!("RUN='env -i PATH={clients}:/usr/bin:/bin'; shift 3; cd /");
    testing::script(&path, &format!("{run}\n{script}"));
    let argv = [path.to_str().unwrap(), "exec", "-T", "db"].map(str::to_owned);
    (folder, argv.to_vec())
}

const RUN: &str = "exec $RUN \"$@\"";

fn by(argv: &[String], there: &Settings) -> Settings {
    let text = format!(
        "host={} port={} user={} dbname={}",
        there.host, there.port, there.user, there.database
    );
    resolve_via(&text, argv).unwrap()
}

fn hold(settings: &Settings) -> Moment {
    Moment::hold(settings, &MomentOptions::default(), testing::runtime()).unwrap()
}

/// A dump by way of the stand-in, whose script is judged.
fn dumped_by(script: &str, sql: &str) -> Result<Vec<u8>, DumpError> {
    let cluster = testing::cluster();
    let there = testing::database(&cluster, sql);
    let (_folder, argv) = stand_in(&cluster, script);
    let settings = by(&argv, &there);
    let programs = Programs::beyond(&settings, 15).unwrap();
    let moment = hold(&settings);
    let mut dump = Dump::start(&moment, &programs, &DumpOptions::default())?;
    let mut bytes = Vec::new();
    let read = dump.read_to_end(&mut bytes);
    dump.finish().map(|_| {
        read.unwrap();
        bytes
    })
}

#[test]
fn answers_are_those_that_a_connection_gives() {
    let cluster = testing::cluster();
    let there = testing::database(
        &cluster,
        "CREATE TABLE t (id int, x text);
         INSERT INTO t VALUES (1, E'a\\tb\\nc\\\\d\\re\\vf\\bg\\fh'), (2, ''), (3, NULL), (4, E'\\\\N'), (5, E'\\\\.state 00000'),
                              (6, 'Grüße :x :''x'' $1'), (7, E'\\\\.\\n\\\\.told')",
    );
    let (_folder, argv) = stand_in(&cluster, RUN);
    let session = Psql::open(&by(&argv, &there)).unwrap();
    let connection = Connection::open(&there, testing::runtime()).unwrap();
    for sql in [
        "SELECT x, id, id > 3, '{1,2}'::pg_catalog.int4[] FROM public.t ORDER BY id",
        "SELECT x FROM public.t ORDER BY id -- as it stands",
        "SELECT 1 WHERE false",
        "SELECT name, setting FROM pg_catalog.pg_settings
          WHERE name IN ('search_path', 'DateStyle', 'TimeZone', 'client_encoding', 'row_security', 'lock_timeout') ORDER BY 1",
    ] {
        let answer = session.rows("ask", sql).unwrap();
        assert_eq!(answer, connection.rows("ask", sql).unwrap(), "{sql}");
    }
    assert!(Ask::row(&session, "ask", "SELECT id FROM public.t").is_err());
}

#[test]
fn an_error_has_the_servers_words_and_state_and_the_session_goes_on() {
    let cluster = testing::cluster();
    let there = testing::database(&cluster, "");
    let (_folder, argv) = stand_in(&cluster, RUN);
    let session = Psql::open(&by(&argv, &there)).unwrap();
    let error = session.rows("divide", "SELECT 1 / 0").unwrap_err();
    assert_eq!(error.to_string(), "cannot divide: division by zero");
    assert_eq!(error.sqlstate.as_deref(), Some("22012"));
    session.execute("begin", "BEGIN").unwrap();
    session.execute("lock", "LOCK TABLE nothing").unwrap_err();
    let error = session.execute("go on", "SELECT 1").unwrap_err();
    assert_eq!(error.sqlstate.as_deref(), Some("25P02"));
    session.execute("roll back", "ROLLBACK").unwrap();
    assert_eq!(
        session.rows("ask", "SELECT 1").unwrap(),
        [[Some("1".to_owned())]]
    );
}

/// A table's owner may word what its trigger or its check says.
#[test]
fn no_words_of_an_error_pass_for_lines_of_ours() {
    let cluster = testing::cluster();
    let there = testing::database(&cluster, "");
    let (_folder, argv) = stand_in(&cluster, RUN);
    let settings = by(&argv, &there);
    let session = Psql::open(&settings).unwrap();
    let other = Psql::open(&settings).unwrap();
    let told = |session: &Psql| session.0.lock().unwrap().marks.told.clone();
    assert_ne!(told(&session), told(&other));
    let words = format!(
        "first\n\\.told\n\\.state 00000\n\n\\.told\nshifted\n\\.state 00000\n\n{}\\.told",
        told(&other)
    );
    let raise = format!(
        "DO $$ BEGIN RAISE EXCEPTION USING MESSAGE = {}; END $$",
        crate::quote::literal(&words)
    );
    let error = session.execute("go on", &raise).unwrap_err();
    assert_eq!(
        (error.sqlstate.as_deref(), error.message.as_str()),
        (Some("P0001"), words.as_str())
    );
    for answer in ["1", "2"] {
        let rows = session.rows("ask", &format!("SELECT {answer}")).unwrap();
        assert_eq!(rows, [[Some(answer.to_owned())]]);
    }
}

#[test]
fn a_session_that_ends_is_an_error_then_and_ever_after() {
    let cluster = testing::cluster();
    let there = testing::database(&cluster, "");
    let (_folder, argv) = stand_in(&cluster, RUN);
    let session = Psql::open(&by(&argv, &there)).unwrap();
    let end = "SELECT pg_catalog.pg_terminate_backend(pg_catalog.pg_backend_pid())";
    let error = session.execute("end it", end).unwrap_err();
    assert!(
        error.message.contains("psql ended with exit code 2"),
        "{error}"
    );
    let error = session.rows("ask", "SELECT 1").unwrap_err();
    assert_eq!(error.message, "psql has ended");
}

#[test]
fn a_way_that_leads_nowhere_says_why() {
    let cluster = testing::cluster();
    let there = testing::database(&cluster, "");
    let opened = |settings: &Settings| testing::chain(&Psql::open(settings).err().unwrap());
    let argv = ["/no/such/docker".to_owned()];
    let error = opened(&by(&argv, &there));
    let words = "by way of /no/such/docker: cannot start /no/such/docker: No such file";
    assert!(error.contains(words), "{error}");
    for (script, words) in [
        (
            "echo 'no container db' >&2; exit 1",
            "psql ended with exit code 1: no container db",
        ),
        ("kill -9 $$", "psql ended with signal 9 (SIGKILL)"),
        ("exit 0", "psql ended before it had answered"),
        ("exec $RUN nothing-of-this-name", "ended with exit code 127"),
    ] {
        let (_folder, argv) = stand_in(&cluster, script);
        let error = opened(&by(&argv, &there));
        assert!(error.contains(words), "{script}: {error}");
    }
    let (_folder, argv) = stand_in(&cluster, "exec sleep 100");
    let settings = Settings {
        connect_timeout: Duration::from_secs(1),
        ..by(&argv, &there)
    };
    let error = Psql::open(&settings).err().unwrap();
    assert!(matches!(error, ConnectError::Timeout { .. }), "{error}");
    let (_folder, argv) = stand_in(&cluster, RUN);
    let stranger = Settings {
        user: "nobody_of_this_name".to_owned(),
        ..there
    };
    let error = opened(&by(&argv, &stranger));
    assert!(error.contains("nobody_of_this_name"), "{error}");
}

#[test]
fn what_the_way_cannot_hand_on_is_refused() {
    let argv = ["docker".to_owned()];
    let refused = |text: &str, argv: &[String]| resolve_via(text, argv).unwrap_err();
    let error = refused("postgres://ann:geheim@/shop", &argv);
    assert!(matches!(error, ResolveError::PasswordBeyond), "{error}");
    let error = refused("host=/run", &argv);
    assert!(matches!(error, ResolveError::NoDatabaseBeyond), "{error}");
    let error = refused("dbname=shop", &[]);
    assert!(matches!(error, ResolveError::NoWay), "{error}");
    let settings = resolve_via("postgres:///shop", &argv).unwrap();
    assert_eq!(settings.display(), "shop by way of docker");
    assert_eq!(
        settings.conninfo(),
        "application_name='lifeboat' connect_timeout='30' dbname='shop'"
    );
}

#[test]
fn the_programs_there_are_looked_at_and_what_is_not_seen_is_said() {
    let cluster = testing::cluster();
    let there = testing::database(&cluster, "CREATE TABLE t (id int)");
    let look = |script: &str| {
        let (_folder, argv) = stand_in(&cluster, script);
        preflight(&by(&argv, &there), &[], &|_| None, testing::runtime())
    };
    let found = look(RUN).unwrap();
    assert_eq!(
        found.programs.version(),
        testing::programs(&cluster).version()
    );
    let unseen = "is not seen from here";
    assert!(
        found
            .warnings
            .iter()
            .any(|warning| warning.contains(unseen))
    );
    for (script, words) in [
        (
            "case $1 in pg_dump) echo 'pg_dump (PostgreSQL) 9.6'; exit;; esac; exec $RUN \"$@\"",
            "Pg_dump 9.6 where the server is is older than the server",
        ),
        (
            "case $1 in pg_dumpall) exit 127;; esac; exec $RUN \"$@\"",
            "Pg_dumpall cannot be run where the server is: pg_dumpall ended with exit code 127",
        ),
    ] {
        let Err(PreflightError::Findings(found)) = look(script) else {
            panic!("{script}");
        };
        assert!(found[0].sentence.starts_with(words), "{}", found[0]);
        assert_eq!(found[0].mend, None);
    }
}

#[test]
fn a_moment_and_its_dump_are_taken_there_and_show_nothing_later() {
    let cluster = testing::cluster();
    let there = testing::database(
        &cluster,
        "CREATE TABLE t (x text); INSERT INTO t VALUES ('at the moment'); CREATE SEQUENCE s",
    );
    let (_folder, argv) = stand_in(&cluster, RUN);
    let settings = by(&argv, &there);
    let programs = Programs::beyond(&settings, 15).unwrap();
    let moment = hold(&settings);
    testing::run(&there, "INSERT INTO t VALUES ('too late')");
    let locked = testing::ask(
        &there,
        "SELECT count(*) FROM pg_locks WHERE relation = 't'::regclass AND mode = 'AccessShareLock' AND pid <> pg_backend_pid()",
    );
    assert_eq!(locked, "1");
    assert_eq!(moment.facts().tables, hold(&there).facts().tables);
    assert_eq!(moment.facts().database, hold(&there).facts().database);
    assert!(globals(&moment, &programs).unwrap().with_passwords);
    let mut dump = Dump::start(&moment, &programs, &DumpOptions::default()).unwrap();
    let mut bytes = Vec::new();
    dump.read_to_end(&mut bytes).unwrap();
    let report = dump.finish().unwrap();
    let text = String::from_utf8_lossy(&bytes);
    assert!(text.contains("at the moment") && !text.contains("too late"));
    assert!(report.archive.followed_to_the_end);
    drop(moment);
    let left = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()";
    assert_eq!(
        testing::ask(&there, left),
        "0",
        "psql is gone with its moment"
    );
}

#[test]
fn no_failure_on_the_way_passes_for_a_dump() {
    // Only what runs `pg_dump` for its output does otherwise: `--version` is asked before.
    let only_dump = |then: &str| {
        format!("case \"$1 $2\" in 'pg_dump --format=custom') {then};; esac; exec $RUN \"$@\"")
    };
    let table = "CREATE TABLE t (x text); INSERT INTO t SELECT repeat('x', 200) FROM generate_series(1, 20000)";
    assert!(dumped_by(&only_dump("exec $RUN \"$@\""), table).is_ok());
    for (then, words) in [
        (
            "$RUN \"$@\"; exit 1",
            "pg_dump ended with exit code 1 and no message",
        ),
        (
            "$RUN \"$@\"; echo 'pg_dump: error: out of paper' >&2; exit 0",
            "pg_dump ended with exit code 0: out of paper",
        ),
        (
            "$RUN \"$@\" | head -c 100000; kill -9 $$",
            "pg_dump ended with signal 9 (SIGKILL)",
        ),
        (
            "$RUN \"$@\" | head -c 100000; exit 0",
            "cut off in its data",
        ),
        (
            "$RUN \"$@\" | sed 's/$/\\r/'; exit 0",
            "the dump is not complete",
        ),
        ("exit 0", "cut off in its head"),
        (
            "exec $RUN nothing-of-this-name",
            "pg_dump ended with exit code 127",
        ),
    ] {
        let error = testing::chain(&dumped_by(&only_dump(then), table).unwrap_err());
        assert!(error.contains(words), "{then}: {error}");
    }
}

#[test]
fn the_way_has_our_environment_but_what_opens_a_repository() {
    let cluster = testing::cluster();
    let there = testing::database(&cluster, "");
    let seen = tempfile::tempdir().unwrap();
    let path = seen.path().join("environment");
    let script = format!("env > {}; exec $RUN \"$@\"", path.display());
    let (_folder, argv) = stand_in(&cluster, &script);
    drop(Psql::open(&by(&argv, &there)).unwrap());
    let variables = fs::read_to_string(path).unwrap();
    assert!(variables.contains("CARGO_"), "{variables}");
    assert!(!variables.contains("LIFEBOAT_"), "{variables}");
}
