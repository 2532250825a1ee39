//! The planner's statistics of a database that was just filled, the largest table first, over several sessions.
//!
//! The rows are all there without them, so what fails is a warning, and it keeps no other table from its own.

use std::{
    iter,
    sync::{Mutex, PoisonError, atomic::AtomicBool},
    thread,
};

use tokio::runtime::Handle;

use crate::{
    asking::Ask,
    connect::{QueryError, Row},
    load::LoadError,
    quote,
    session::{Session, SessionError},
    settings::Settings,
};

/// What is done, for messages.
const WHAT: &str = "make the planner's statistics";
/// Functions in indexes may count on the database's own path.
const OWN_PATH: &str = "RESET search_path";
/// Tables in one message: a large one keeps a session busy alone, and many small ones shall not be many messages.
const TABLES_PER_MESSAGE: usize = 100;
const LEN_BYTES_PER_MESSAGE: i64 = 8 << 20;
/// All tables that have statistics, the system's as well, the largest last.
///
/// A partitioned one stands for its partitions: who asks for its statistics gets theirs made as well, and asked for by
/// themselves they would be read twice.
const TABLES: &str = "SELECT pg_catalog.format('%I.%I', n.nspname, c.relname),
       coalesce(CASE c.relkind
           WHEN 'p' THEN (SELECT pg_catalog.sum(pg_catalog.pg_relation_size(p.relid))::pg_catalog.int8
                          FROM pg_catalog.pg_partition_tree(c.oid) p)
           ELSE pg_catalog.pg_relation_size(c.oid) END, 0) AS len_bytes
     FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
     WHERE c.relkind IN ('r', 'm', 'p') AND NOT c.relispartition AND c.relpersistence <> 't'
       AND (NOT c.relisshared OR pg_catalog.pg_has_role(c.relowner, 'USAGE'))
     ORDER BY len_bytes, 1";

/// Makes them over `jobs` sessions; gives sentences about what could not be made.
///
/// # Errors
/// When the database cannot be reached or `stop` is set. That it takes fewer sessions than `jobs`, or ends one, is none.
pub(crate) fn analyze(
    database: &Settings,
    jobs: u32,
    stop: &AtomicBool,
    handle: &Handle,
) -> Result<Vec<String>, LoadError> {
    let stops = [stop];
    let open = || -> Result<Session<'_>, LoadError> {
        let session = Session::open(database, handle, &stops)?;
        session.execute("reset the path", OWN_PATH)?;
        Ok(session)
    };
    let first = open()?;
    let messages = match first.rows("ask for the tables", TABLES) {
        Ok(rows) => messages(rows.into_iter().filter_map(sized)),
        Err(SessionError::Query(error)) => return Ok(vec![lacking("", &error)]),
        Err(error) => return Err(error.into()),
    };
    let others = messages.len().min(jobs as usize).saturating_sub(1);
    let messages = Mutex::new(messages);
    let next = || {
        let mut messages = messages.lock().unwrap_or_else(PoisonError::into_inner);
        messages.pop()
    };
    let work = |session: &Session<'_>| -> Result<Vec<String>, LoadError> {
        let mut warnings = Vec::new();
        while !session.connection().client().is_closed()
            && let Some(tables) = next()
        {
            warnings.extend(message(session, &tables)?);
        }
        Ok(warnings)
    };
    let mut warnings = thread::scope(|scope| {
        let others: Vec<_> = (0..others)
            .map(|_| {
                scope.spawn(|| open().map_or_else(|_| Ok(Vec::new()), |session| work(&session)))
            })
            .collect();
        let mut warnings = work(&first)?;
        for other in others {
            // Its panic is the scope's.
            warnings.extend(other.join().unwrap_or_else(|_| Ok(Vec::new()))?);
        }
        Ok::<_, LoadError>(warnings)
    })?;
    let left: usize = iter::from_fn(next).map(|tables| tables.len()).sum();
    if left > 0 {
        warnings.push(format!(
            "The planner's statistics of {left} tables were not made: the server ended the sessions."
        ));
    }
    Ok(warnings)
}

/// The same over a session of which nothing else is needed.
pub(crate) fn analyze_by(session: &dyn Ask) -> Option<String> {
    let made = session
        .execute("reset the path", OWN_PATH)
        .and_then(|()| session.execute(WHAT, "ANALYZE"));
    made.err().map(|error| lacking("", &error))
}

/// A table's name, and its size in bytes.
fn sized(row: Row) -> Option<(String, i64)> {
    let [Some(name), Some(len_bytes)] = <[_; 2]>::try_from(row).ok()? else {
        return None;
    };
    Some((name, len_bytes.parse().ok()?))
}

/// Tables by name and size, the largest last, as lists for one message each, in the same order.
fn messages(tables: impl Iterator<Item = (String, i64)>) -> Vec<Vec<String>> {
    let mut messages: Vec<Vec<String>> = Vec::new();
    let mut sum = 0;
    for (name, len_bytes) in tables {
        sum += len_bytes;
        match messages.last_mut() {
            Some(list) if list.len() < TABLES_PER_MESSAGE && sum <= LEN_BYTES_PER_MESSAGE => {
                list.push(name);
            }
            _ => {
                sum = len_bytes;
                messages.push(vec![name]);
            }
        }
    }
    messages
}

/// One message; where it fails, one for each of its tables, and where that fails, one for each of the table's partitions.
fn message(session: &Session<'_>, tables: &[String]) -> Result<Vec<String>, LoadError> {
    let error = match session.execute(WHAT, &format!("ANALYZE {}", tables.join(", "))) {
        Ok(()) => return Ok(Vec::new()),
        Err(SessionError::Query(error)) => error,
        Err(error) => return Err(error.into()),
    };
    let (of, parts) = match tables {
        [table] => (format!(" of {table}"), partitions(session, table)),
        // It may be the session that has failed.
        tables => {
            let lives = session.execute(WHAT, "SELECT");
            let of = format!(" of {} tables", tables.len());
            (of, lives.map(|()| tables.to_vec()))
        }
    };
    let parts = match parts {
        Ok(parts) => parts,
        Err(SessionError::Query(_)) => return Ok(vec![lacking(&of, &error)]),
        Err(error) => return Err(error.into()),
    };
    let mut warnings = Vec::new();
    for part in parts {
        warnings.extend(message(session, &[part])?);
    }
    if warnings.is_empty() && tables.len() == 1 {
        warnings.push(lacking(&of, &error));
    }
    Ok(warnings)
}

/// The tables that are parts of this one, without their own.
fn partitions(session: &Session<'_>, table: &str) -> Result<Vec<String>, SessionError> {
    let sql = format!(
        "SELECT pg_catalog.format('%I.%I', n.nspname, c.relname)
           FROM pg_catalog.pg_partition_tree(pg_catalog.to_regclass({})) p
           JOIN pg_catalog.pg_class c ON c.oid = p.relid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
          WHERE p.level = 1 AND c.relkind IN ('r', 'p') ORDER BY 1",
        quote::literal(table)
    );
    let rows = session.rows("ask for partitions", &sql)?;
    Ok(rows.into_iter().flatten().flatten().collect())
}

fn lacking(of: &str, error: &QueryError) -> String {
    format!(
        "The planner's statistics{of} were not made: {}.",
        error.message
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn large_tables_go_alone_and_small_ones_together() {
        let tables = |sizes: &[i64]| {
            let named = sizes.iter().enumerate();
            messages(named.map(|(at, megabytes)| (at.to_string(), megabytes << 20)))
        };
        let lens = |sizes: &[i64]| -> Vec<usize> { tables(sizes).iter().map(Vec::len).collect() };
        assert_eq!(lens(&[]), [0_usize; 0]);
        assert_eq!(lens(&[0; 250]), [100, 100, 50]);
        assert_eq!(lens(&[0, 4, 5, 5, 40, 90]), [2, 1, 1, 1, 1]);
        assert_eq!(tables(&[1, 50]), [["0"], ["1"]], "the largest stays last");
    }

    /// A function `once` that fails as soon as somebody has made a table `broken`.
    const ONCE: &str = "CREATE FUNCTION once(int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$
        BEGIN IF to_regclass('public.broken') IS NOT NULL THEN RAISE 'enough'; END IF; RETURN $1; END $$;";

    #[test]
    fn a_table_that_fails_keeps_no_other_from_its_statistics() {
        let cluster = testing::cluster();
        let settings = testing::database(
            &cluster,
            &format!(
                "{ONCE} CREATE TABLE a (id int); CREATE TABLE \"b b\" (id int); CREATE TABLE c (id int);
                 INSERT INTO a SELECT generate_series(1, 9); INSERT INTO \"b b\" SELECT generate_series(1, 9);
                 INSERT INTO c SELECT generate_series(1, 9);
                 CREATE INDEX ON \"b b\" (once(id)); CREATE TABLE broken ()"
            ),
        );
        // Nor does a role or a server that is read-only by default.
        let read_only = settings.with_option("default_transaction_read_only=on");
        for jobs in [0, 1, 3] {
            let forget = "UPDATE pg_class SET reltuples = -1 WHERE relname IN ('a', 'b b', 'c')";
            testing::run(&settings, forget);
            let warnings = made(&read_only, jobs);
            let expected = "The planner's statistics of public.\"b b\" were not made: enough.";
            assert_eq!(warnings, [expected], "{jobs} jobs");
            assert_eq!(counted(&settings), "a,c", "{jobs} jobs");
        }
        let stopped = AtomicBool::new(true);
        let error = analyze(&settings, 2, &stopped, testing::runtime()).unwrap_err();
        assert!(matches!(error, LoadError::Stopped), "{error}");
    }

    #[test]
    fn partitions_are_analyzed_with_their_table_and_by_themselves_where_one_fails() {
        let cluster = testing::cluster();
        let settings = testing::database(
            &cluster,
            &format!(
                "{ONCE} CREATE TABLE p (id int) PARTITION BY LIST (id); CREATE TABLE p1 PARTITION OF p FOR VALUES IN (1);
                 CREATE TABLE q PARTITION OF p FOR VALUES IN (2, 3) PARTITION BY LIST (id);
                 CREATE TABLE q2 PARTITION OF q FOR VALUES IN (2); CREATE TABLE q3 PARTITION OF q FOR VALUES IN (3);
                 INSERT INTO p SELECT i FROM generate_series(1, 3) i, generate_series(1, 9);
                 CREATE INDEX ON q2 (once(id));
                 CREATE TABLE parent (id int); CREATE TABLE child () INHERITS (parent);
                 INSERT INTO child SELECT generate_series(1, 9)"
            ),
        );
        let tables = || {
            let stops = [&AtomicBool::new(false)];
            let session = Session::open(&settings, testing::runtime(), &stops).unwrap();
            let rows = session.rows("ask", TABLES).unwrap();
            let tables = rows.into_iter().filter_map(sized);
            tables
                .filter(|(name, _)| name.starts_with("public."))
                .collect::<Vec<_>>()
        };
        let page = |name: &str, pages: i64| (format!("public.{name}"), pages * 8192);
        assert_eq!(
            tables(),
            [page("parent", 0), page("child", 1), page("p", 3)]
        );
        assert_eq!(made(&settings, 3), [""; 0]);
        assert_eq!(counted(&settings), "child,p1,q2,q3");

        testing::run(
            &settings,
            "CREATE TABLE broken (); DELETE FROM pg_statistic; UPDATE pg_class SET reltuples = -1",
        );
        let warnings = made(&settings, 3);
        let expected = "The planner's statistics of public.q2 were not made: enough.";
        assert_eq!(warnings, [expected]);
        assert_eq!(counted(&settings), "child,p1,q3");
        let whole = "SELECT string_agg(DISTINCT tablename, ',' ORDER BY tablename) FROM pg_stats
                     WHERE schemaname = 'public' AND inherited";
        assert_eq!(testing::ask(&settings, whole), "p,parent,q");
    }

    #[test]
    fn a_session_that_the_server_ends_is_told_in_a_sentence() {
        let cluster = testing::cluster();
        let settings = testing::database(
            &cluster,
            "CREATE TABLE a (id int); CREATE TABLE killer (id int); INSERT INTO killer VALUES (1);
             CREATE FUNCTION once(int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$
             BEGIN IF EXISTS (SELECT FROM public.a) THEN PERFORM pg_terminate_backend(pg_backend_pid()); END IF; RETURN $1; END $$;
             CREATE INDEX ON killer (once(id)); INSERT INTO a VALUES (1);
             DO $$ BEGIN FOR i IN 1..100 LOOP EXECUTE 'CREATE TABLE z' || i || ' ()'; END LOOP; END $$",
        );
        for (jobs, sentences) in [(1, 2), (2, 1)] {
            let warnings = made(&settings, jobs);
            let ended =
                "tables were not made: terminating connection due to administrator command.";
            assert!(warnings[0].contains(ended), "{warnings:?}");
            assert_eq!(warnings.len(), sentences, "{warnings:?}");
        }
    }

    fn made(settings: &Settings, jobs: u32) -> Vec<String> {
        analyze(settings, jobs, &AtomicBool::new(false), testing::runtime()).unwrap()
    }

    /// The tables with nine rows, as far as the server knows.
    fn counted(settings: &Settings) -> String {
        let sql = "SELECT string_agg(relname, ',' ORDER BY relname) FROM pg_class
                   WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' AND reltuples = 9";
        testing::ask(settings, sql)
    }
}
