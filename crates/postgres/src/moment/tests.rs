//! Moments against writers that change rows and shapes meanwhile.

use std::{thread, time::Instant};

use super::*;
use crate::testing;

fn hold(settings: &Settings) -> Moment {
    Moment::hold(settings, &MomentOptions::default(), testing::runtime()).unwrap()
}

/// A reader at the moment's snapshot, as a parallel worker would be.
fn read_at(moment: &Moment, sql: &str) -> String {
    let connection = Connection::open(moment.settings(), testing::runtime()).unwrap();
    connection
        .execute(
            "join the snapshot",
            &format!(
                "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET TRANSACTION SNAPSHOT {}",
                quote::literal(moment.snapshot())
            ),
        )
        .unwrap();
    connection.rows("read", sql).unwrap()[0][0].clone().unwrap()
}

#[test]
fn rows_that_come_after_the_moment_are_not_in_it() {
    let cluster = testing::cluster();
    let settings = testing::database(
        &cluster,
        "CREATE TABLE t (id int); INSERT INTO t VALUES (1), (2)",
    );
    let moment = hold(&settings);
    testing::run(
        &settings,
        "INSERT INTO t VALUES (3); DELETE FROM t WHERE id = 1",
    );
    assert_eq!(read_at(&moment, "SELECT count(*) FROM public.t"), "2");
    assert_eq!(read_at(&moment, "SELECT min(id) FROM public.t"), "1");
    assert_eq!(moment.facts().tables.len(), 1);
    assert_eq!(moment.facts().database.name, settings.database());
    moment.check().unwrap();
}

#[test]
fn truncate_and_rewriting_alter_wait_until_the_moment_is_dropped_and_nothing_is_lost() {
    let cluster = testing::cluster();
    let settings = testing::database(
        &cluster,
        "CREATE TABLE a (id int); INSERT INTO a SELECT generate_series(1, 100);
         CREATE TABLE b (id int); INSERT INTO b SELECT generate_series(1, 100)",
    );
    let moment = hold(&settings);
    let writers: Vec<_> = [
        "TRUNCATE a",
        "ALTER TABLE b ALTER id TYPE bigint",
        "DROP TABLE IF EXISTS gone",
    ]
    .into_iter()
    .map(|sql| {
        let settings = settings.clone();
        thread::spawn(move || testing::run(&settings, sql))
    })
    .collect();
    let waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND mode = 'AccessExclusiveLock'
                      AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    let deadline = Instant::now() + Duration::from_secs(20);
    while testing::ask(&settings, waiting) != "2" {
        assert!(Instant::now() < deadline, "the writers do not wait");
        thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(
        moment
            .connection
            .row("read", "SELECT count(*) FROM public.a")
            .unwrap(),
        [Some("100".to_owned())]
    );
    assert_eq!(
        moment
            .connection
            .row("read", "SELECT count(*) FROM public.b")
            .unwrap(),
        [Some("100".to_owned())]
    );
    drop(moment);
    for writer in writers {
        writer.join().unwrap();
    }
    assert_eq!(testing::ask(&settings, "SELECT count(*) FROM a"), "0");
}

#[test]
fn a_truncate_that_is_under_way_is_waited_for_and_its_outcome_is_the_moment() {
    let cluster = testing::cluster();
    let settings = testing::database(
        &cluster,
        "CREATE TABLE t (id int); INSERT INTO t VALUES (1)",
    );
    let writer = Connection::open(&settings, testing::runtime()).unwrap();
    writer
        .execute(
            "truncate",
            "BEGIN; TRUNCATE public.t; INSERT INTO public.t VALUES (7), (8)",
        )
        .unwrap();
    let holder = thread::spawn(move || hold(&settings));
    thread::sleep(Duration::from_millis(200));
    writer.execute("commit", "COMMIT").unwrap();
    let moment = holder.join().unwrap();
    assert_eq!(
        read_at(
            &moment,
            "SELECT string_agg(id::text, ',' ORDER BY id) FROM public.t"
        ),
        "7,8"
    );
}

#[test]
fn a_lock_that_does_not_go_away_names_who_holds_it() {
    let cluster = testing::cluster();
    let settings = testing::database(&cluster, "CREATE TABLE t (id int)");
    let writer = Connection::open(&settings, testing::runtime()).unwrap();
    writer
        .execute(
            "lock",
            "BEGIN; LOCK TABLE public.t IN ACCESS EXCLUSIVE MODE",
        )
        .unwrap();
    let options = MomentOptions {
        lock_wait: Duration::from_millis(100),
    };
    let Err(error) = Moment::hold(&settings, &options, testing::runtime()) else {
        panic!("a locked table was locked");
    };
    let text = error.to_string();
    assert!(
        text.contains("of postgres (BEGIN; LOCK TABLE public.t"),
        "{text}"
    );
}

#[test]
fn tables_that_come_and_go_while_locking_are_followed() {
    let cluster = testing::cluster();
    let settings = testing::database(&cluster, "CREATE TABLE stays (id int)");
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let writer = {
        let settings = settings.clone();
        let stop = Arc::clone(&stop);
        thread::spawn(move || {
            let connection = Connection::open(&settings, testing::runtime()).unwrap();
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                connection
                    .execute("make", "CREATE TABLE public.comes (id int)")
                    .unwrap();
                thread::sleep(Duration::from_millis(3));
                connection
                    .execute("drop", "DROP TABLE public.comes")
                    .unwrap();
                thread::sleep(Duration::from_millis(3));
            }
        })
    };
    for _ in 0..20 {
        match Moment::hold(&settings, &MomentOptions::default(), testing::runtime()) {
            Ok(moment) => assert!(all_locked(&moment.connection).unwrap()),
            Err(MomentError::Restless) => {}
            Err(error) => panic!("{error}"),
        }
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    writer.join().unwrap();
}

#[test]
fn a_role_without_rights_is_told_all_that_it_lacks() {
    let cluster = testing::cluster();
    let role = testing::unique("reader");
    let settings = testing::database(
        &cluster,
        &format!("CREATE ROLE {role} LOGIN; CREATE TABLE t (id serial)"),
    );
    let reader = Settings {
        user: role,
        ..settings
    };
    match Moment::hold(&reader, &MomentOptions::default(), testing::runtime()) {
        Err(MomentError::Rights(findings)) => assert_eq!(findings.len(), 2),
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("a role without rights holds a moment"),
    }
}

#[test]
fn a_session_that_is_ended_from_outside_is_noticed() {
    let cluster = testing::cluster();
    let settings = testing::database(&cluster, "CREATE TABLE t (id int)");
    let moment = hold(&settings);
    testing::run(
        &settings,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
          WHERE datname = current_database() AND state = 'idle in transaction'",
    );
    let error = moment.check().unwrap_err();
    assert!(matches!(error, MomentError::Lost { .. }), "{error}");
}
