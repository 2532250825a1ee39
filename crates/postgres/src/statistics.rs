//! The planner's statistics of a database that was just filled, the largest table first, over several sessions.
//!
//! The rows are all there without them, so what fails is a warning, and it keeps no other table from its own.

use std::{
    sync::{Mutex, PoisonError, atomic::AtomicBool},
    thread,
};

use tokio::runtime::Handle;

use crate::{
    asking::Ask,
    connect::{QueryError, Row},
    load::LoadError,
    session::{Session, SessionError, is_set},
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
const TABLES: &str = "SELECT pg_catalog.format('%I.%I', n.nspname, c.relname),
       coalesce(pg_catalog.pg_relation_size(c.oid), 0) AS len_bytes
     FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
     WHERE c.relkind IN ('r', 'm', 'p') AND c.relpersistence <> 't'
       AND (NOT c.relisshared OR pg_catalog.pg_has_role(c.relowner, 'USAGE'))
     ORDER BY len_bytes, 1";

/// Makes them over `jobs` sessions; gives sentences about what could not be made.
///
/// # Errors
/// When the database cannot be reached or `stop` is set.
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
    let work = |session: &Session<'_>| -> Result<Vec<String>, LoadError> {
        let mut warnings = Vec::new();
        loop {
            let next = messages
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .pop();
            let Some(tables) = next else {
                return Ok(warnings);
            };
            warnings.extend(message(session, &tables)?);
        }
    };
    thread::scope(|scope| {
        let others: Vec<_> = (0..others)
            .map(|_| scope.spawn(|| work(&open()?)))
            .collect();
        let mut warnings = work(&first)?;
        for other in others {
            // Its panic is the scope's.
            warnings.extend(other.join().unwrap_or_else(|_| Ok(Vec::new()))?);
        }
        Ok(warnings)
    })
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

/// One message; where a table fails, each of them in its own.
fn message(session: &Session<'_>, tables: &[String]) -> Result<Vec<String>, LoadError> {
    let made = session.execute(WHAT, &format!("ANALYZE {}", tables.join(", ")));
    match (made, tables) {
        (Ok(()), _) => Ok(Vec::new()),
        (Err(SessionError::Query(error)), [table]) => {
            Ok(vec![lacking(&format!(" of {table}"), &error)])
        }
        (Err(SessionError::Query(_)), tables) if !is_set(session.stops()) => {
            let mut warnings = Vec::new();
            for table in tables {
                warnings.extend(message(session, std::slice::from_ref(table))?);
            }
            Ok(warnings)
        }
        (Err(error), _) => Err(error.into()),
    }
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

    #[test]
    fn a_table_that_fails_keeps_no_other_from_its_statistics() {
        let cluster = testing::cluster();
        let settings = testing::database(
            &cluster,
            "CREATE TABLE a (id int); CREATE TABLE \"b b\" (id int); CREATE TABLE c (id int); CREATE TABLE full (id int);
             INSERT INTO a SELECT generate_series(1, 9); INSERT INTO \"b b\" SELECT generate_series(1, 9);
             INSERT INTO c SELECT generate_series(1, 9);
             CREATE FUNCTION once(int) RETURNS int IMMUTABLE LANGUAGE plpgsql
             AS 'BEGIN IF EXISTS (SELECT FROM \"full\") THEN RAISE ''enough''; END IF; RETURN $1; END';
             CREATE INDEX ON \"b b\" (once(id)); INSERT INTO \"full\" VALUES (1)",
        );
        let of = "SELECT string_agg(relname, ',' ORDER BY relname) FROM pg_class
                  WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' AND reltuples = 9";
        for jobs in [1, 3] {
            testing::run(
                &settings,
                "UPDATE pg_class SET reltuples = -1 WHERE relname IN ('a', 'c')",
            );
            let never = AtomicBool::new(false);
            let warnings = analyze(&settings, jobs, &never, testing::runtime()).unwrap();
            let expected = "The planner's statistics of public.\"b b\" were not made: enough.";
            assert_eq!(warnings, [expected], "{jobs} jobs");
            assert_eq!(testing::ask(&settings, of), "a,c", "{jobs} jobs");
        }
        let stopped = AtomicBool::new(true);
        let error = analyze(&settings, 2, &stopped, testing::runtime()).unwrap_err();
        assert!(matches!(error, LoadError::Stopped), "{error}");
    }
}
