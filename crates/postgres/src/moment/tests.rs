//! Moments against writers that change rows and shapes meanwhile.

use std::{sync::atomic::Ordering, thread, time::Instant};

use super::{locks::all_locked, *};
use crate::{cluster::ClusterOptions, testing};

fn hold(settings: &Settings) -> Moment {
    Moment::hold(settings, &MomentOptions::default(), testing::runtime()).unwrap()
}

/// The moment with two sessions more, and their answers to `sql`.
fn hold_and_ask(settings: &Settings, sql: &str) -> (Moment, Vec<Connection>, [String; 2]) {
    let stop = AtomicBool::new(false);
    let mut patience = Patience::new(Duration::from_secs(60), &stop);
    let (moment, workers) =
        Moment::hold_with(settings, 2, &mut patience, testing::runtime()).unwrap();
    let answers: Vec<_> = workers
        .iter()
        .map(|worker| worker.rows("read", sql).unwrap()[0][0].clone().unwrap())
        .collect();
    (moment, workers, answers.try_into().unwrap())
}

/// Waits until so many requests for locks wait in the database.
fn wait_for_waiting(settings: &Settings, count: u32) {
    let waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted
                      AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    let deadline = Instant::now() + Duration::from_secs(20);
    while testing::ask(settings, waiting) != count.to_string() {
        assert!(Instant::now() < deadline, "{count} do not wait");
        thread::sleep(Duration::from_millis(20));
    }
}

/// A session that has run these statements and not ended its transaction.
fn writer(settings: &Settings, sql: &str) -> Connection {
    let writer = Connection::open(settings, testing::runtime()).unwrap();
    writer.execute("write", &format!("BEGIN; {sql}")).unwrap();
    writer
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
    wait_for_waiting(&settings, 2);
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
    let stop = Arc::new(AtomicBool::new(false));
    let writer = {
        let settings = settings.clone();
        let stop = Arc::clone(&stop);
        thread::spawn(move || {
            let connection = Connection::open(&settings, testing::runtime()).unwrap();
            while !stop.load(Ordering::Relaxed) {
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
            Ok(moment) => {
                let own = [pid(&*moment.connection).unwrap()];
                assert!(all_locked(&*moment.connection, &own).unwrap());
            }
            Err(MomentError::Restless { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
    stop.store(true, Ordering::Relaxed);
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

#[test]
fn a_truncate_and_a_rewrite_between_listing_and_locking_are_seen_by_every_session() {
    let cluster = testing::cluster();
    let settings = testing::database(
        &cluster,
        "CREATE TABLE a (id int); INSERT INTO a SELECT generate_series(1, 100);
         CREATE TABLE b (id int); INSERT INTO b SELECT generate_series(1, 100);
         CREATE TABLE c (id int)",
    );
    let writer = writer(
        &settings,
        "TRUNCATE public.a; ALTER TABLE public.b ALTER id TYPE bigint USING id * 2;
         DROP TABLE public.c; CREATE TABLE public.c AS SELECT 7 AS id",
    );
    let reader = {
        let settings = settings.clone();
        thread::spawn(move || {
            hold_and_ask(
                &settings,
                "SELECT concat_ws(' ', (SELECT count(*) FROM public.a), (SELECT sum(id) FROM public.b),
                                       (SELECT max(id) FROM public.c))",
            )
        })
    };
    wait_for_waiting(&settings, 1);
    writer.execute("commit", "COMMIT").unwrap();
    let (moment, _workers, answers) = reader.join().unwrap();
    assert_eq!(answers, ["0 10100 7", "0 10100 7"]);
    moment.check().unwrap();
}

#[test]
fn who_queues_between_the_holders_lock_and_the_others_has_his_turn_and_all_begins_again() {
    let cluster = testing::cluster();
    let settings = testing::database(
        &cluster,
        "CREATE TABLE a (id int); INSERT INTO a SELECT generate_series(1, 100); CREATE TABLE b (id int)",
    );
    let last = writer(&settings, "LOCK TABLE public.b IN ACCESS EXCLUSIVE MODE");
    let reader = {
        let settings = settings.clone();
        thread::spawn(move || hold_and_ask(&settings, "SELECT count(*) FROM public.a"))
    };
    // The holder has `a` and waits for `b`.
    wait_for_waiting(&settings, 1);
    let truncating = {
        let settings = settings.clone();
        thread::spawn(move || testing::run(&settings, "TRUNCATE a; INSERT INTO a VALUES (1)"))
    };
    wait_for_waiting(&settings, 2);
    last.execute("commit", "COMMIT").unwrap();
    let (moment, _workers, answers) = reader.join().unwrap();
    truncating.join().unwrap();
    assert_eq!(answers, ["1", "1"]);
    moment.check().unwrap();
}

#[test]
fn sessions_beside_the_holder_see_the_moment_and_hold_the_locks_without_it() {
    let cluster = testing::cluster();
    let settings = testing::database(
        &cluster,
        "CREATE TABLE t (id serial); INSERT INTO t VALUES (1), (2)",
    );
    let (moment, workers, answers) = hold_and_ask(&settings, "SELECT count(*) FROM public.t");
    assert_eq!(answers, ["2", "2"]);
    testing::run(&settings, "INSERT INTO t VALUES (3)");
    assert_eq!(
        workers[0]
            .row("read", "SELECT count(*) FROM public.t")
            .unwrap(),
        [Some("2".to_owned())]
    );
    drop(moment);
    let deadline = Instant::now() + Duration::from_secs(20);
    // The holder is gone, and with it the sequence's lock; the table's is the others' too.
    let locked =
        |name| format!("SELECT count(*) FROM pg_locks WHERE relation = '{name}'::regclass");
    while testing::ask(&settings, &locked("t_id_seq")) != "0" {
        assert!(Instant::now() < deadline, "the holder goes on");
        thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(testing::ask(&settings, &locked("t")), "2");
}

#[test]
fn a_wait_ends_when_it_is_asked_to_stop_and_leaves_nothing_behind() {
    let cluster = testing::cluster();
    let settings = testing::database(&cluster, "CREATE TABLE t (id int)");
    let _writer = writer(&settings, "LOCK TABLE public.t IN ACCESS EXCLUSIVE MODE");
    let stop = AtomicBool::new(false);
    let began = Instant::now();
    thread::scope(|scope| {
        let holder = scope.spawn(|| {
            let mut patience = Patience::new(Duration::from_secs(60), &stop);
            Moment::hold_with(&settings, 2, &mut patience, testing::runtime()).map(|_| ())
        });
        wait_for_waiting(&settings, 1);
        stop.store(true, Ordering::Relaxed);
        let error = holder.join().unwrap().unwrap_err();
        assert!(matches!(error, MomentError::Stopped), "{error}");
    });
    assert!(began.elapsed() < Duration::from_secs(30));
    wait_for_waiting(&settings, 0);
}

#[test]
fn as_many_sessions_are_opened_as_the_server_has_room_for() {
    let parameter = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let cluster = testing::own_cluster(&ClusterOptions {
        parameters: vec![
            parameter("max_locks_per_transaction", "10"),
            parameter("max_connections", "10"),
        ],
        ..ClusterOptions::default()
    });
    let tables = |count| {
        (0..count)
            .map(|at| format!("CREATE TABLE t{at} (id int);"))
            .collect::<String>()
    };
    let many = testing::database(&cluster, &tables(40));
    let few = testing::database(&cluster, &tables(1));
    let stop = AtomicBool::new(false);
    for (settings, wanted, got) in [(&many, 8, 1), (&few, 0, 0), (&few, 3, 3)] {
        let mut patience = Patience::new(Duration::from_secs(5), &stop);
        let held = Moment::hold_with(settings, wanted, &mut patience, testing::runtime());
        assert_eq!(held.unwrap().1.len(), got, "{wanted}");
    }
    // Seven others leave three: one that holds, one that reads, one for the program.
    let others: Vec<_> = (0..7)
        .map(|_| Connection::open(&few, testing::runtime()).unwrap())
        .collect();
    let held = hold_when_others_have_gone(&few, &stop);
    assert_eq!(held.1.len(), 1);
    drop(others);
}

/// The server notices a little later that a session has ended.
fn hold_when_others_have_gone(settings: &Settings, stop: &AtomicBool) -> (Moment, Vec<Connection>) {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let mut patience = Patience::new(Duration::from_secs(5), stop);
        match Moment::hold_with(settings, 8, &mut patience, testing::runtime()) {
            Ok(held) => return held,
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
    }
}

#[test]
fn large_objects_are_those_of_the_moment_and_sequences_those_of_now() {
    let cluster = testing::cluster();
    let settings = testing::database(
        &cluster,
        "SELECT lo_create(7), lo_create(3000000000); CREATE SEQUENCE s; SELECT nextval('s')",
    );
    let moment = hold(&settings);
    testing::run(
        &settings,
        "SELECT lo_create(8), lo_unlink(7), nextval('s'); ",
    );
    assert_eq!(moment.large_objects().unwrap(), [7, 3_000_000_000]);
    let sequences = moment.read_sequences().unwrap();
    let [s] = &sequences[..] else {
        panic!("{sequences:?}");
    };
    assert_eq!((s.last_value, s.is_called), (2, true));
}
