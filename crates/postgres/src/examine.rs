//! A restored database looked into: its rows counted, its keys, and sentences in SQL that have to be true.

use std::{collections::BTreeMap, sync::atomic::AtomicBool, time::Duration};

use tokio::runtime::Handle;
use tokio_postgres::SimpleQueryMessage;

use crate::{
    connect::{ConnectError, QueryError},
    quote,
    session::{Session, SessionError},
    settings::Settings,
};

/// A table and the rows that it and its partitions have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CountedTable {
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// The tables that have its rows, by schema and name: itself, or its partitions.
    pub parts: Vec<(String, String)>,
    /// How many rows.
    pub rows: u64,
}

impl CountedTable {
    /// `public.orders`.
    #[must_use]
    pub fn path(&self) -> String {
        format!("{}.{}", self.schema, self.name)
    }
}

/// What a database has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Examined {
    /// Its tables, by schema and name; partitions count together.
    pub tables: Vec<CountedTable>,
    /// How many foreign keys hold for all rows.
    pub foreign_keys: u64,
    /// Foreign keys that were never validated, each with its table.
    pub unvalidated: Vec<String>,
}

/// Why a database could not be looked into.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExamineError {
    /// There is no connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// A question was not answered.
    #[error(transparent)]
    Query(#[from] QueryError),
    /// The work was to stop.
    #[error("it was asked to stop")]
    Stopped,
}

impl From<SessionError> for ExamineError {
    fn from(error: SessionError) -> Self {
        match error {
            SessionError::Query(error) => Self::Query(error),
            SessionError::Stopped => Self::Stopped,
        }
    }
}

const TABLES: &str = "\
SELECT n.nspname, c.relname, rn.nspname, r.relname
FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_class r ON r.oid = COALESCE(pg_catalog.pg_partition_root(c.oid), c.oid)
JOIN pg_catalog.pg_namespace rn ON rn.oid = r.relnamespace
WHERE c.relkind = 'r' AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
ORDER BY 3, 4, 1, 2";

const FOREIGN_KEYS: &str = "\
SELECT k.convalidated, k.conname, k.conrelid::pg_catalog.regclass::text
FROM pg_catalog.pg_constraint k
WHERE k.contype = 'f' AND k.conparentid = 0
ORDER BY 3, 2";

/// Counts the rows of every table and looks at the foreign keys.
///
/// # Errors
/// When the server does not answer, or `stop` is set.
pub fn examine(
    database: &Settings,
    stop: &AtomicBool,
    handle: &Handle,
) -> Result<Examined, ExamineError> {
    let stops = [stop];
    let session = Session::open(database, handle, &stops)?;
    let mut tables: BTreeMap<(String, String), CountedTable> = BTreeMap::new();
    for row in rows(&session, "list the tables", TABLES)? {
        let [schema, name, root_schema, root] = texts("list the tables", row)?;
        let what = format!("count the rows of {schema}.{name}");
        let sql = format!(
            "SELECT count(*) FROM ONLY {}",
            quote::qualified(&schema, &name)
        );
        let count: u64 = match rows(&session, &what, &sql)?.pop() {
            Some(row) => {
                let [count] = texts(&what, row)?;
                count.parse().map_err(|_| QueryError::shape(&what))?
            }
            None => return Err(QueryError::shape(&what).into()),
        };
        let key = (root_schema.clone(), root.clone());
        let table = tables.entry(key).or_insert_with(|| CountedTable {
            schema: root_schema,
            name: root,
            parts: Vec::new(),
            rows: 0,
        });
        table.parts.push((schema, name));
        table.rows += count;
    }
    let mut examined = Examined {
        tables: tables.into_values().collect(),
        ..Examined::default()
    };
    for row in rows(&session, "list the foreign keys", FOREIGN_KEYS)? {
        let [validated, name, table] = texts("list the foreign keys", row)?;
        if validated == "t" {
            examined.foreign_keys += 1;
        } else {
            examined.unvalidated.push(format!("{name} of {table}"));
        }
    }
    Ok(examined)
}

/// The one value that a statement gives, as text; nothing for NULL. It may read, and takes no longer than `limit`.
///
/// # Errors
/// When the server does not answer, the answer is not one row with one value, or `stop` is set.
pub fn ask(
    database: &Settings,
    sql: &str,
    limit: Duration,
    stop: &AtomicBool,
    handle: &Handle,
) -> Result<Option<String>, ExamineError> {
    const WHAT: &str = "get an answer";
    let stops = [stop];
    let session = Session::open(database, handle, &stops)?;
    let limit = format!(
        "SET default_transaction_read_only = on; SET statement_timeout = {}; RESET search_path",
        limit.as_millis()
    );
    session.execute("prepare the session", &limit)?;
    let mut answer = rows(&session, WHAT, sql)?;
    match (answer.pop(), answer.is_empty()) {
        (Some(mut row), true) if row.len() == 1 => Ok(row.pop().flatten()),
        _ => Err(QueryError {
            what: WHAT.to_owned(),
            message: "the answer is not one row with one value".to_owned(),
            sqlstate: None,
        }
        .into()),
    }
}

/// Makes the roles and tablespaces that the text of [`globals`](crate::globals()) makes, as far as the server has not
/// got them: roles without any right, tablespaces in the server's own folder.
///
/// # Errors
/// When the server does not do that, or `stop` is set.
pub fn make_globals(
    admin: &Settings,
    globals: &str,
    stop: &AtomicBool,
    handle: &Handle,
) -> Result<(), ExamineError> {
    let stops = [stop];
    let session = Session::open(admin, handle, &stops)?;
    let sql = "SELECT rolname FROM pg_catalog.pg_roles";
    let there = names(&session, "list the roles", sql)?;
    let wanted = named_by(globals, "CREATE ROLE ");
    for role in wanted.iter().filter(|role| !there.contains(role)) {
        let sql = format!("CREATE ROLE {}", quote::identifier(role));
        session.execute(&format!("make the role \"{role}\""), &sql)?;
    }
    let sql = "SELECT spcname FROM pg_catalog.pg_tablespace";
    let there = names(&session, "list the tablespaces", sql)?;
    let wanted = named_by(globals, "CREATE TABLESPACE ");
    for space in wanted.iter().filter(|space| !there.contains(space)) {
        let what = format!("make the tablespace \"{space}\"");
        session.execute(&what, "SET allow_in_place_tablespaces = on")?;
        let sql = format!("CREATE TABLESPACE {} LOCATION ''", quote::identifier(space));
        session.execute(&what, &sql)?;
    }
    Ok(())
}

/// What the statements make that begin so.
fn named_by(globals: &str, beginning: &str) -> Vec<String> {
    let rests = globals
        .lines()
        .filter_map(|line| line.strip_prefix(beginning));
    rests.map(first_identifier).collect()
}

/// The identifier at the beginning of a statement's rest, without its quotes.
fn first_identifier(text: &str) -> String {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([' ', ';']).unwrap_or(text.len());
        return text[..end].to_owned();
    };
    let mut name = String::new();
    let mut letters = quoted.chars();
    while let Some(letter) = letters.next() {
        if letter == '"' && letters.next() != Some('"') {
            break;
        }
        name.push(letter);
    }
    name
}

/// Those of `extensions` whose files the server has not.
///
/// # Errors
/// When the server does not answer, or `stop` is set.
pub fn lacking_extensions(
    admin: &Settings,
    extensions: &[String],
    stop: &AtomicBool,
    handle: &Handle,
) -> Result<Vec<String>, ExamineError> {
    let stops = [stop];
    let session = Session::open(admin, handle, &stops)?;
    let there = names(
        &session,
        "list the extensions that can be installed",
        "SELECT name FROM pg_catalog.pg_available_extensions",
    )?;
    let lacks = extensions.iter().filter(|name| !there.contains(name));
    Ok(lacks.cloned().collect())
}

fn names(session: &Session<'_>, what: &str, sql: &str) -> Result<Vec<String>, ExamineError> {
    let rows = rows(session, what, sql)?;
    Ok(rows
        .into_iter()
        .filter_map(|mut row| row.pop().flatten())
        .collect())
}

fn rows(
    session: &Session<'_>,
    what: &str,
    sql: &str,
) -> Result<Vec<Vec<Option<String>>>, SessionError> {
    let client = session.connection().client();
    let messages = session.wait(what, client.simple_query(sql))?;
    let row = |message| match message {
        SimpleQueryMessage::Row(row) => Some(
            (0..row.len())
                .map(|column| row.get(column).map(ToOwned::to_owned))
                .collect(),
        ),
        _ => None,
    };
    Ok(messages.into_iter().filter_map(row).collect())
}

fn texts<const N: usize>(what: &str, row: Vec<Option<String>>) -> Result<[String; N], QueryError> {
    let texts: Option<Vec<String>> = row.into_iter().collect();
    texts
        .and_then(|texts| <[String; N]>::try_from(texts).ok())
        .ok_or_else(|| QueryError::shape(what))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    static GOING: AtomicBool = AtomicBool::new(false);

    #[test]
    fn tables_are_counted_with_their_partitions_and_keys_are_told_apart() {
        let cluster = testing::cluster();
        let settings = testing::database(
            &cluster,
            "CREATE TABLE \"Odd \"\"t\" (id int PRIMARY KEY);
             INSERT INTO \"Odd \"\"t\" SELECT generate_series(1, 3);
             CREATE TABLE p (x int) PARTITION BY RANGE (x);
             CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (5);
             CREATE TABLE p2 PARTITION OF p FOR VALUES FROM (5) TO (9);
             INSERT INTO p SELECT generate_series(0, 8);
             CREATE TABLE child (t int REFERENCES \"Odd \"\"t\", u int);
             CREATE TABLE heir (z int) INHERITS (child);
             INSERT INTO heir VALUES (1, 1, 1);
             ALTER TABLE child ADD CONSTRAINT loose FOREIGN KEY (u) REFERENCES \"Odd \"\"t\" NOT VALID;",
        );
        let examined = examine(&settings, &GOING, testing::runtime()).unwrap();
        let counted: Vec<_> = examined
            .tables
            .iter()
            .map(|table| (table.path(), table.parts.len(), table.rows))
            .collect();
        let expected = [
            ("public.Odd \"t", 1, 3),
            ("public.child", 1, 0),
            ("public.heir", 1, 1),
            ("public.p", 2, 9),
        ];
        assert_eq!(
            counted,
            expected.map(|(path, parts, rows)| (path.to_owned(), parts, rows))
        );
        assert_eq!(examined.foreign_keys, 1);
        assert_eq!(examined.unvalidated, ["loose of public.child"]);
    }

    #[test]
    fn a_question_has_one_answer_and_changes_nothing() {
        let cluster = testing::cluster();
        let settings = testing::database(&cluster, "CREATE TABLE t (x int)");
        let answer = |sql: &str| {
            let limit = Duration::from_millis(200);
            ask(&settings, sql, limit, &GOING, testing::runtime())
        };
        assert_eq!(
            answer("SELECT count(*) = 0 FROM t").unwrap().as_deref(),
            Some("t")
        );
        assert_eq!(answer("SELECT NULL").unwrap(), None);
        for wrong in [
            "SELECT 1, 2",
            "SELECT 1 WHERE false",
            "VALUES (1), (2)",
            "INSERT INTO t VALUES (1) RETURNING x",
            "SELECT x FROM nowhere",
            "SELECT pg_sleep(10)",
        ] {
            assert!(
                matches!(answer(wrong), Err(ExamineError::Query(_))),
                "{wrong}"
            );
        }
    }

    #[test]
    fn roles_and_tablespaces_of_one_server_come_into_another() {
        let globals = "-- CREATE ROLE no;\nCREATE ROLE postgres;\nCREATE ROLE \"a \"\"b\"\"; c\";\nALTER ROLE x SUPERUSER;\n\
                       CREATE TABLESPACE fast OWNER postgres LOCATION '/nowhere';\n";
        let cluster = testing::own_cluster(&crate::cluster::ClusterOptions::default());
        let admin = cluster.settings("postgres");
        // A second time finds them there.
        for _ in 0..2 {
            make_globals(&admin, globals, &GOING, testing::runtime()).unwrap();
        }
        let sql = "SELECT (SELECT rolcanlogin::text FROM pg_roles WHERE rolname = 'a \"b\"; c') || count(*)
                   FROM pg_tablespace WHERE spcname = 'fast'";
        let limit = Duration::from_secs(10);
        let answer = ask(&admin, sql, limit, &GOING, testing::runtime()).unwrap();
        assert_eq!(answer.as_deref(), Some("false1"));
        let wanted = ["plpgsql", "no such"].map(str::to_owned);
        let lacks = lacking_extensions(&admin, &wanted, &GOING, testing::runtime()).unwrap();
        assert_eq!(lacks, ["no such"]);
    }
}
