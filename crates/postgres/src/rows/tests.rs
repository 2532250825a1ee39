//! Rows of real tables, and of a server that lies.

use std::{
    io::Write as _,
    os::unix::net::{UnixListener, UnixStream},
    thread,
    time::Instant,
};

use super::*;
use crate::{
    identity::Identity,
    settings::Settings,
    testing::{self, message, plain_dump},
};

const KEY: [u8; 32] = [3; 32];

fn part(name: &str, columns: &[&str]) -> TablePart {
    TablePart {
        schema: "public".to_owned(),
        name: name.to_owned(),
        columns: columns.iter().map(ToString::to_string).collect(),
        condition: None,
        order: Vec::new(),
        digest: None,
    }
}

fn open(settings: &Settings) -> Connection {
    Connection::open(settings, testing::runtime()).unwrap()
}

/// The rows and their digest; one error for whatever went wrong, which both the reader and the judgement must say.
fn take(connection: &mut Connection, part: &TablePart) -> Result<(Vec<u8>, Digest), RowsError> {
    let mut rows = Rows::start(connection, part, &KEY);
    let mut bytes = Vec::new();
    let read = rows.read_to_end(&mut bytes);
    let digest = rows.finish();
    assert_eq!(read.is_ok(), digest.is_ok());
    digest.map(|digest| (bytes, digest))
}

/// What `pg_dump` writes between `COPY public.name` and the closing `\.`.
fn dumped(plain: &str, name: &str) -> String {
    let start = plain.find(&format!("COPY public.{name} ")).unwrap();
    let rows = plain[start..].split_once('\n').unwrap().1;
    rows[..rows.find("\\.\n").unwrap()].to_owned()
}

#[test]
fn rows_are_what_pg_dump_writes() {
    let cluster = testing::cluster();
    let settings = testing::database(
        &cluster,
        r#"CREATE TABLE odd ("a ""b" text, n numeric, made text GENERATED ALWAYS AS ("a ""b" || '!') STORED, x bytea, f float8);
           INSERT INTO odd VALUES (E'tab\t, line\n, return\r, \\ and \\.', 1.50, DEFAULT, '\x00ff', 0.1::float8 + 0.2),
                                  (NULL, NULL, DEFAULT, NULL, 'NaN'), ('', 0, DEFAULT, '', '-infinity'), ('\N', 1, DEFAULT, NULL, 1);
           CREATE TABLE parent (id int); INSERT INTO parent VALUES (1);
           CREATE TABLE child (more text) INHERITS (parent); INSERT INTO child VALUES (2, 'two');
           CREATE TABLE nothing (); INSERT INTO nothing SELECT FROM generate_series(1, 3);
           CREATE TABLE empty (id int);
           CREATE TABLE wide (x text); INSERT INTO wide SELECT repeat('x', 300000) FROM generate_series(1, 3)"#,
    );
    let plain = plain_dump(&testing::programs(&cluster), &settings);
    let mut connection = open(&settings);
    for (name, columns, rows) in [
        ("odd", &["a \"b", "n", "x", "f"][..], 4),
        ("parent", &["id"], 1),
        ("child", &["id", "more"], 1),
        ("nothing", &[], 3),
        ("empty", &["id"], 0),
        ("wide", &["x"], 3),
    ] {
        let (bytes, digest) = take(&mut connection, &part(name, columns)).unwrap();
        assert_eq!(
            String::from_utf8_lossy(&bytes),
            dumped(&plain, name),
            "{name}"
        );
        assert_eq!((digest.rows, digest.len_bytes), (rows, bytes.len() as u64));
    }
    // The session goes on as before.
    Identity::of(&connection).unwrap();
}

#[test]
fn equal_rows_are_equal_text_whatever_is_set_for_their_database() {
    let cluster = testing::cluster();
    let sql = "CREATE TABLE t (at timestamptz, bytes bytea, class regclass);
               INSERT INTO t VALUES ('2024-02-29 12:00+00', '\\x00ff', 'pg_catalog.pg_class')";
    let plain = testing::database(&cluster, sql);
    let odd = testing::database(&cluster, sql);
    for (name, value) in [
        ("TimeZone", "'Asia/Kathmandu'"),
        ("DateStyle", "German"),
        ("bytea_output", "escape"),
        ("quote_all_identifiers", "on"),
    ] {
        let database = odd.database();
        testing::run(
            &odd,
            &format!("ALTER DATABASE {database} SET {name} = {value}"),
        );
    }
    let part = part("t", &["at", "bytes", "class"]);
    let (bytes, _) = take(&mut open(&odd), &part).unwrap();
    assert_eq!(bytes, take(&mut open(&plain), &part).unwrap().0);
    assert_eq!(bytes, b"2024-02-29 12:00:00+00\t\\\\x00ff\tpg_class\n");
}

#[test]
fn an_order_and_a_condition_are_followed_and_children_stay_out() {
    let cluster = testing::cluster();
    let settings = testing::database(
        &cluster,
        "CREATE TABLE t (id int, \"Key\" text); INSERT INTO t VALUES (3, 'a'), (1, 'b'), (2, 'c'), (9, 'd');
         CREATE TABLE child () INHERITS (t); INSERT INTO child VALUES (0, 'child');
         CREATE TABLE nothing (); INSERT INTO nothing SELECT FROM generate_series(1, 3)",
    );
    let mut connection = open(&settings);
    let chosen = TablePart {
        condition: Some("WHERE id < 5".to_owned()),
        order: vec!["id".to_owned(), "Key".to_owned()],
        ..part("t", &["Key"])
    };
    let (bytes, _) = take(&mut connection, &chosen).unwrap();
    assert_eq!(bytes, b"b\nc\na\n");
    let chosen = TablePart {
        condition: Some("WHERE true".to_owned()),
        ..part("nothing", &[])
    };
    assert_eq!(take(&mut connection, &chosen).unwrap().0, b"\n\n\n");
    let as_they_lie = take(&mut connection, &part("t", &["id"])).unwrap().1;
    let sorted = TablePart {
        order: vec!["id".to_owned()],
        ..part("t", &["id"])
    };
    assert_eq!(take(&mut connection, &sorted).unwrap().1, as_they_lie);
}

#[test]
fn rows_have_the_encoding_of_the_database_even_where_it_has_none() {
    let cluster = testing::cluster();
    let latin = testing::latin_database(&cluster);
    testing::run(
        &latin,
        "CREATE TABLE \"Bücher\" (x text); INSERT INTO \"Bücher\" VALUES ('ü')",
    );
    let (bytes, _) = take(&mut open(&latin), &part("Bücher", &["x"])).unwrap();
    assert_eq!(bytes, b"\xfc\n");

    let name = testing::unique("ascii");
    testing::run(
        &cluster.settings("postgres"),
        &format!("CREATE DATABASE {name} TEMPLATE template0 ENCODING 'SQL_ASCII' LOCALE 'C'"),
    );
    let ascii = cluster.settings(&name);
    testing::run(
        &ascii,
        "CREATE TABLE t (x text); INSERT INTO t VALUES (convert_from('\\xfc', 'SQL_ASCII'))",
    );
    let (bytes, _) = take(&mut open(&ascii), &part("t", &["x"])).unwrap();
    assert_eq!(bytes, b"\xfc\n");
}

#[test]
fn an_error_after_many_rows_stands_in_place_of_the_end() {
    let cluster = testing::cluster();
    let settings = testing::database(
        &cluster,
        "CREATE TABLE t (id int); INSERT INTO t SELECT generate_series(1, 100000)",
    );
    let chosen = TablePart {
        condition: Some("WHERE 1 / (id - 99999) = 0".to_owned()),
        ..part("t", &["id"])
    };
    let error = take(&mut open(&settings), &chosen).unwrap_err().to_string();
    assert!(
        error.starts_with("cannot read the rows of \"public\".\"t\": division by zero"),
        "{error}"
    );
    let error = take(&mut open(&settings), &part("gone", &["id"])).unwrap_err();
    assert!(error.to_string().contains("does not exist"), "{error}");
}

#[test]
fn a_session_that_is_ended_while_it_reads_is_an_error() {
    let cluster = testing::cluster();
    let settings = testing::database(
        &cluster,
        "CREATE TABLE t (x text); INSERT INTO t SELECT repeat('x', 1000) FROM generate_series(1, 20000)",
    );
    let mut connection = open(&settings);
    let chosen = part("t", &["x"]);
    let mut rows = Rows::start(&mut connection, &chosen, &KEY);
    rows.read_exact(&mut [0; 10]).unwrap();
    testing::run(
        &settings,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
          WHERE datname = current_database() AND pid <> pg_backend_pid()",
    );
    rows.read_to_end(&mut Vec::new()).unwrap_err();
    assert!(matches!(rows.finish(), Err(RowsError::Query(_))));
}

#[test]
fn rows_that_are_given_up_are_none_and_the_server_stops_working_on_them() {
    let cluster = testing::cluster();
    let settings = testing::database(
        &cluster,
        "CREATE TABLE t (id int); INSERT INTO t VALUES (1), (2)",
    );
    let chosen = TablePart {
        condition: Some("WHERE id = 1 OR pg_catalog.pg_sleep(600) IS NULL".to_owned()),
        ..part("t", &["id"])
    };
    let mut connection = open(&settings);
    let mut rows = Rows::start(&mut connection, &chosen, &KEY);
    let working = "SELECT count(*) FROM pg_stat_activity
                    WHERE datname = current_database() AND state = 'active' AND wait_event = 'PgSleep'";
    let wait_for = |expected: &str| {
        let deadline = Instant::now() + Duration::from_secs(20);
        while testing::ask(&settings, working) != expected {
            assert!(Instant::now() < deadline, "{expected} were expected");
            thread::sleep(Duration::from_millis(10));
        }
    };
    wait_for("1");
    assert!(!rows.wait(Duration::from_millis(1)));
    assert!(matches!(rows.finish(), Err(RowsError::GivenUp { .. })));
    wait_for("0");
}

#[test]
fn rows_that_are_dropped_half_way_take_their_session_with_them() {
    let cluster = testing::cluster();
    let settings = testing::database(
        &cluster,
        "CREATE TABLE t (x text); INSERT INTO t SELECT repeat('x', 100000) FROM generate_series(1, 300)",
    );
    let mut connection = open(&settings);
    let chosen = part("t", &["x"]);
    let mut rows = Rows::start(&mut connection, &chosen, &KEY);
    rows.read_exact(&mut [0; 10]).unwrap();
    drop(rows);
    // The session went with its rows.
    Identity::of(&connection).unwrap_err();
}

/// A server of a few words: it lets everybody in and answers each query with the next of `answers`.
struct Liar {
    folder: tempfile::TempDir,
}

impl Liar {
    fn with(answers: Vec<Vec<u8>>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(folder.path().join(".s.PGSQL.5432")).unwrap();
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            skip(&mut stream);
            let welcome = [
                message(b'R', &[0; 4]),
                message(b'S', b"server_encoding\0UTF8\0"),
                message(b'Z', b"I"),
            ];
            stream.write_all(&welcome.concat()).unwrap();
            for answer in answers {
                stream.read_exact(&mut [0]).unwrap();
                skip(&mut stream);
                stream.write_all(&answer).unwrap();
            }
        });
        Self { folder }
    }

    /// What comes of reading a table whose `COPY` is answered so.
    fn reads(copy: &[Vec<u8>]) -> Result<(Vec<u8>, Digest), RowsError> {
        let set_up = [message(b'C', b"SET\0"), message(b'Z', b"I")].concat();
        let liar = Self::with(vec![set_up, copy.concat()]);
        let settings = Settings::over_socket(liar.folder.path(), 5432, "ann", "shop");
        take(&mut open(&settings), &part("t", &["x"]))
    }
}

/// Reads what is left of a message, its length first.
#[expect(
    clippy::big_endian_bytes,
    reason = "the network's order of bytes is the protocol's"
)]
fn skip(stream: &mut UnixStream) {
    let mut length = [0; 4];
    stream.read_exact(&mut length).unwrap();
    let mut content = vec![0; u32::from_be_bytes(length) as usize - 4];
    stream.read_exact(&mut content).unwrap();
}

#[test]
fn a_count_that_differs_a_cut_line_and_a_missing_end_are_errors() {
    let begin = message(b'H', &[0, 0, 1, 0, 0]);
    let row = message(b'd', b"x\n");
    let done = message(b'c', b"");
    let ready = message(b'Z', b"T");
    let told = |count: &str| message(b'C', format!("COPY {count}\0").as_bytes());
    let good = [
        begin.clone(),
        row.clone(),
        done.clone(),
        told("1"),
        ready.clone(),
    ];
    assert_eq!(Liar::reads(&good).unwrap().0, b"x\n");

    let more = [
        begin.clone(),
        row.clone(),
        done.clone(),
        told("2"),
        ready.clone(),
    ];
    let error = Liar::reads(&more).unwrap_err();
    assert!(
        matches!(
            error,
            RowsError::Count {
                lines: 1,
                rows: 2,
                ..
            }
        ),
        "{error}"
    );

    let cut = [
        begin.clone(),
        message(b'd', b"x"),
        done.clone(),
        told("1"),
        ready.clone(),
    ];
    let error = Liar::reads(&cut).unwrap_err();
    assert!(matches!(error, RowsError::CutOff { .. }), "{error}");

    for until in 1..good.len() {
        let error = Liar::reads(&good[..until]).unwrap_err();
        assert!(matches!(error, RowsError::Query(_)), "{until}: {error}");
    }
    let error = message(
        b'E',
        b"SERROR\0VERROR\0C57014\0Mcancelled at the last moment\0\0",
    );
    let failed = [begin, row, done, error, ready];
    let error = Liar::reads(&failed).unwrap_err().to_string();
    assert!(error.contains("cancelled at the last moment"), "{error}");
}
