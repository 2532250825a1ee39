//! Databases that are what was backed up, and such as are not.

use std::time::Instant;

use super::*;
use crate::{
    connect::Connection,
    testing::{self, Backup},
};

#[test]
fn everything_that_differs_is_told_of_a_database_that_is_there() {
    let cluster = testing::cluster();
    let source = testing::database(
        &cluster,
        "CREATE TABLE t AS SELECT 1 AS one; CREATE TABLE u AS SELECT 1 AS one; CREATE SEQUENCE s; SELECT lo_create(78)",
    );
    let backup = Backup::of(&testing::programs(&cluster), &source);
    let verify = || {
        let go_on = AtomicBool::new(false);
        verify_parts(
            &source,
            &backup.parts,
            &testing::KEY,
            2,
            &go_on,
            testing::runtime(),
        )
    };
    let verified = verify().unwrap();
    assert_eq!(
        (verified.tables, verified.rows, verified.sequences),
        (2, 2, 1)
    );
    testing::run(
        &source,
        "UPDATE t SET one = 2; INSERT INTO u VALUES (2); SELECT nextval('s'); SELECT nextval('s'); SELECT lo_unlink(78)",
    );
    assert_eq!(
        verify().unwrap_err().to_string(),
        "the database is not what the backup was made of: \
         the large object 78: 0 bytes in the backup, none here; \
         the rows of public.t: 1 rows of 2 bytes in the backup, as many with another content here; \
         the rows of public.u: 1 rows of 2 bytes in the backup, 2 rows of 4 bytes here; \
         the sequence public.s: 1, not given yet in the backup, 2 here"
    );
}

/// Somebody's lock keeps a table from being read.
#[test]
fn a_verification_that_is_stopped_ends_soon_and_finds_nothing_equal() {
    let cluster = testing::cluster();
    let source = testing::database(&cluster, "CREATE TABLE t AS SELECT 1 AS one");
    let backup = Backup::of(&testing::programs(&cluster), &source);
    let holder = Connection::open(&source, testing::runtime()).unwrap();
    holder
        .execute("lock", "BEGIN; LOCK TABLE public.t")
        .unwrap();
    let stop = AtomicBool::new(false);
    let asked = std::thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            let waiting = format!(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = '{}' AND wait_event_type = 'Lock'",
                source.database()
            );
            while testing::ask(&cluster.settings("postgres"), &waiting) == "0" {
                std::thread::sleep(Duration::from_millis(20));
            }
            stop.store(true, Ordering::Relaxed);
            Instant::now()
        });
        let verified = verify_parts(
            &source,
            &backup.parts,
            &testing::KEY,
            2,
            &stop,
            testing::runtime(),
        );
        let error = verified.unwrap_err();
        assert!(matches!(error, VerifyError::Stopped), "{error}");
        watcher.join().unwrap()
    });
    assert!(asked.elapsed() < Duration::from_secs(4));
}

fn rows_of(backup: &Backup) -> Verification<'_> {
    Verification {
        tables: backup.parts.tables.iter().collect(),
        large_objects: &[],
        sequences: Vec::new(),
        hash_key: &testing::KEY,
        jobs: 2,
    }
}

/// Somebody's lock keeps the table from being read until its policies hold.
#[test]
fn policies_that_come_into_force_while_rows_are_read_keep_none_back() {
    let cluster = testing::cluster();
    let role = testing::unique("owner");
    let source = testing::database(
        &cluster,
        &format!(
            "CREATE ROLE {role} LOGIN; CREATE TABLE t AS SELECT i FROM generate_series(1, 9) i;
             ALTER TABLE t OWNER TO {role}; ALTER TABLE t FORCE ROW LEVEL SECURITY;
             CREATE POLICY few ON t USING (i < 3)"
        ),
    );
    let backup = Backup::of(&testing::programs(&cluster), &source);
    let holder = Connection::open(&source, testing::runtime()).unwrap();
    let execute = |sql: &str| holder.execute("hold", sql).unwrap();
    let mut owner = source;
    owner.user = role;
    let go_on = AtomicBool::new(false);
    execute("BEGIN; LOCK TABLE public.t");
    let enable = || {
        // Time enough for whoever does not wait for this to meet the lock.
        std::thread::sleep(Duration::from_millis(300));
        execute("ALTER TABLE public.t ENABLE ROW LEVEL SECURITY; COMMIT");
        Ok::<_, VerifyError>(())
    };
    let ((), verified) = rows_of(&backup)
        .run_beside(&owner, &go_on, testing::runtime(), enable)
        .unwrap();
    assert_eq!(verified.rows, 9);
}

#[test]
fn work_that_fails_beside_a_verification_is_what_is_told() {
    let cluster = testing::cluster();
    let source = testing::database(&cluster, "CREATE TABLE t AS SELECT 1 AS one");
    let backup = Backup::of(&testing::programs(&cluster), &source);
    let go_on = AtomicBool::new(false);
    let fail = || Err::<(), _>(VerifyError::Differs(Vec::new()));
    let error = rows_of(&backup).run_beside(&source, &go_on, testing::runtime(), fail);
    assert!(matches!(error, Err(VerifyError::Differs(none)) if none.is_empty()));
}
