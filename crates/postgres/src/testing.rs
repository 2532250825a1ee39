//! What the tests share: one runtime, one cluster, databases with every kind of object.

mod parts;

pub(crate) use parts::{Backup, KEY, MORE};

use std::{
    ffi::OsString,
    os::unix::fs::symlink,
    path::Path,
    sync::{
        Arc, LazyLock, Mutex, PoisonError, Weak,
        atomic::{AtomicU32, Ordering},
    },
};

use tokio::runtime::{Handle, Runtime};

use crate::{
    cluster::{Cluster, ClusterOptions},
    connect::Connection,
    programs::{Programs, server_programs},
    quote,
    settings::Settings,
};

/// The handle of a runtime that lives as long as the test program.
pub(crate) fn runtime() -> &'static Handle {
    static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap()
    });
    RUNTIME.handle()
}

/// A value that tests share while they run. It is held weakly: the last test to end drops it, because a value in a
/// static is never dropped.
pub(crate) type Shared<T> = Mutex<Weak<T>>;

/// The shared value, made if nobody holds it.
pub(crate) fn shared<T>(place: &Shared<T>, make: impl FnOnce() -> T) -> Arc<T> {
    let mut place = place.lock().unwrap_or_else(PoisonError::into_inner);
    place.upgrade().unwrap_or_else(|| {
        let value = Arc::new(make());
        *place = Arc::downgrade(&value);
        value
    })
}

/// The cluster that most tests share.
pub(crate) fn cluster() -> Arc<Cluster> {
    static SHARED: Shared<Cluster> = Mutex::new(Weak::new());
    shared(&SHARED, || own_cluster(&ClusterOptions::default()))
}

/// A second shared cluster, which has not the roles of the first.
pub(crate) fn other_cluster() -> Arc<Cluster> {
    static SHARED: Shared<Cluster> = Mutex::new(Weak::new());
    shared(&SHARED, || own_cluster(&ClusterOptions::default()))
}

/// A cluster for one test.
pub(crate) fn own_cluster(options: &ClusterOptions) -> Cluster {
    let programs = server_programs(None, &|_| None).unwrap();
    Cluster::start(&programs, options).unwrap()
}

/// The clients that fit the cluster.
pub(crate) fn programs(cluster: &Cluster) -> Programs {
    Programs::find(cluster.version().major, &|_| None).unwrap()
}

/// Runs statements as the superuser of `settings`, with the usual search path.
pub(crate) fn run(settings: &Settings, sql: &str) {
    let connection = Connection::open(settings, runtime()).unwrap();
    connection.execute("reset", "RESET search_path").unwrap();
    connection.execute("prepare the test", sql).unwrap();
}

/// The first column of a query's first row.
pub(crate) fn ask(settings: &Settings, sql: &str) -> String {
    let connection = Connection::open(settings, runtime()).unwrap();
    connection.execute("reset", "RESET search_path").unwrap();
    connection.rows("ask", sql).unwrap()[0][0]
        .clone()
        .unwrap_or_default()
}

/// A name that no other test uses.
pub(crate) fn unique(prefix: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("{prefix}_{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// A new database with what `sql` makes.
pub(crate) fn database(cluster: &Cluster, sql: &str) -> Settings {
    let name = unique("db");
    run(
        &cluster.settings("postgres"),
        &format!(
            "CREATE DATABASE {} TEMPLATE template0",
            quote::identifier(&name)
        ),
    );
    let settings = cluster.settings(&name);
    run(&settings, sql);
    settings
}

/// A new database with an accent in its name whose encoding is not UTF-8.
pub(crate) fn latin_database(cluster: &Cluster) -> Settings {
    let name = unique("bücher");
    run(
        &cluster.settings("postgres"),
        &format!(
            "CREATE DATABASE {} TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'",
            quote::identifier(&name)
        ),
    );
    cluster.settings(&name)
}

/// Every kind of table that a backup meets, most with rows: with generated columns and dropped ones, without columns,
/// of a type, inherited, partitioned on two levels, unlogged, foreign, of an extension; and what is no table at all.
pub(crate) const EVERY_KIND_OF_TABLE: &str = "\
CREATE TABLE plain (id int PRIMARY KEY, gone int, twice int GENERATED ALWAYS AS (id * 2) STORED, note text);
INSERT INTO plain (id, note) SELECT i, CASE WHEN i % 3 > 0 THEN 'row ' || i || E'\\n' END FROM generate_series(1, 1000) i;
ALTER TABLE plain DROP gone;
CREATE TABLE nothing ();
INSERT INTO nothing SELECT FROM generate_series(1, 3);
CREATE TABLE made (CHECK (true));
CREATE TYPE pair AS (a int, b text);
CREATE TABLE of_type OF pair;
INSERT INTO of_type VALUES (1, 'one');
CREATE TABLE parent (id int);
INSERT INTO parent VALUES (1);
CREATE TABLE child (more text) INHERITS (parent);
INSERT INTO child VALUES (2, 'two');
CREATE TABLE parted (id int, word text) PARTITION BY RANGE (id);
CREATE TABLE part_low PARTITION OF parted FOR VALUES FROM (0) TO (100);
CREATE TABLE part_high PARTITION OF parted FOR VALUES FROM (100) TO (200) PARTITION BY LIST (word);
CREATE TABLE part_high_a PARTITION OF part_high FOR VALUES IN ('a');
INSERT INTO parted VALUES (1, 'low'), (101, 'a'), (102, 'a');
CREATE UNLOGGED TABLE fast (id int);
INSERT INTO fast VALUES (7);
CREATE SCHEMA odd;
CREATE TABLE odd.crumbs (id serial, stamp timestamptz, bytes bytea);
INSERT INTO odd.crumbs (stamp, bytes) VALUES ('2024-02-29 12:00+02', '\\x00ff'), (NULL, NULL);
CREATE VIEW seen AS SELECT id FROM plain;
CREATE MATERIALIZED VIEW kept AS SELECT count(*) FROM plain;
CREATE FOREIGN DATA WRAPPER nowhere;
CREATE SERVER far FOREIGN DATA WRAPPER nowhere;
CREATE FOREIGN TABLE away (id int) SERVER far;
CREATE EXTENSION hstore;
CREATE TABLE internal (id int);
CREATE TABLE configured (id int);
CREATE TABLE chosen (id int);
INSERT INTO configured VALUES (1);
INSERT INTO chosen SELECT generate_series(1, 9);
ALTER EXTENSION hstore ADD TABLE internal;
ALTER EXTENSION hstore ADD TABLE configured;
ALTER EXTENSION hstore ADD TABLE chosen;
UPDATE pg_extension SET extconfig = ARRAY['configured'::regclass, 'chosen'::regclass]::oid[],
                        extcondition = ARRAY['', 'WHERE id > 5'] WHERE extname = 'hstore'";

/// Two tables that one path means: a partition below a hash, and one whose rows stay by themselves.
pub(crate) const ALIKE: &str = "\
CREATE SCHEMA a;
CREATE SCHEMA \"a.b\";
CREATE TABLE a.top (id int) PARTITION BY HASH (id);
CREATE TABLE a.\"b.c\" PARTITION OF a.top FOR VALUES WITH (MODULUS 1, REMAINDER 0);
CREATE TABLE \"a.b\".c (id int);
INSERT INTO a.top VALUES (1);
INSERT INTO \"a.b\".c VALUES (2), (3)";

/// A script in the words that `pg_dump` had before 17, which are ours: older servers know no `transaction_timeout`, and
/// owners of sequences and views are set as those of tables.
pub(crate) fn in_older_words(script: &str) -> String {
    let lines = script
        .lines()
        .filter(|line| *line != "SET transaction_timeout = 0;");
    let older = lines.map(|line| {
        let kinds = ["ALTER SEQUENCE ", "ALTER VIEW ", "ALTER MATERIALIZED VIEW "];
        let mut names = kinds.iter().filter_map(|kind| line.strip_prefix(kind));
        match names.find(|name| name.contains(" OWNER TO ")) {
            Some(name) => format!("ALTER TABLE {name}\n"),
            None => format!("{line}\n"),
        }
    });
    older.collect()
}

/// A plain dump of a database, for comparison.
pub(crate) fn plain_dump(programs: &Programs, settings: &Settings) -> String {
    let mut command = crate::child::command(&programs.program("pg_dump"), Some(settings));
    command.args(["--no-password", "--format=plain", "--encoding=UTF8"]);
    let (stdout, _) = crate::child::output(command).unwrap();
    String::from_utf8(stdout)
        .unwrap()
        .lines()
        .filter(|line| !line.starts_with("\\restrict") && !line.starts_with("\\unrestrict"))
        .collect::<Vec<_>>()
        .join("\n")
}

/// An error with all its sources, as a person sees it.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let sources = std::iter::successors(error.source(), |error| error.source());
    std::iter::once(error.to_string())
        .chain(sources.map(ToString::to_string))
        .collect::<Vec<_>>()
        .join(": ")
}

/// Makes a shell script that can be run.
///
/// It is written by `cp`: a file that this process has open for writing may be held open by a child that another
/// test's thread forks in that moment, and could then not be run.
pub(crate) fn script(path: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt as _;
    let draft = path.with_extension("draft");
    std::fs::write(&draft, format!("#!/bin/sh\n{text}\n")).unwrap();
    std::fs::set_permissions(&draft, std::fs::Permissions::from_mode(0o755)).unwrap();
    let status = std::process::Command::new("cp")
        .arg("-p")
        .arg(&draft)
        .arg(path)
        .status()
        .unwrap();
    assert!(status.success());
}

/// The real programs, with `pg_dump` replaced by a script that finds the real one as `$REAL`.
pub(crate) fn with_pg_dump(cluster: &Cluster, script: &str) -> (tempfile::TempDir, Programs) {
    let real = programs(cluster);
    let folder = tempfile::tempdir().unwrap();
    for program in ["pg_dumpall", "pg_restore", "psql"] {
        symlink(real.program(program), folder.path().join(program)).unwrap();
    }
    let real_dump = real.program("pg_dump");
    let text = format!(
        "REAL={0}\ncase \"$1\" in --version) exec $REAL --version;; esac\n{script}",
        real_dump.display()
    );
    self::script(&folder.path().join("pg_dump"), &text);
    let path: OsString = folder.path().into();
    let found = Programs::find(cluster.version().major, &|name| {
        (name == "LIFEBOAT_PG_BIN").then(|| path.clone())
    });
    (folder, found.unwrap())
}

/// A message as a server sends it.
#[expect(
    clippy::big_endian_bytes,
    reason = "the network's order of bytes is the protocol's"
)]
pub(crate) fn message(letter: u8, content: &[u8]) -> Vec<u8> {
    let length = u32::try_from(content.len() + 4).unwrap();
    [&[letter], &length.to_be_bytes()[..], content].concat()
}

/// A database with every kind of object, two roles, and a table in a tablespace of its own.
pub(crate) fn everything(cluster: &Cluster) -> Settings {
    let [owner, reader, space] = ["Own er", "reader", "other space"].map(unique);
    run(
        &cluster.settings("postgres"),
        &format!(
            "CREATE ROLE {}; CREATE ROLE {reader}",
            quote::identifier(&owner)
        ),
    );
    let connection = Connection::open(&cluster.settings("postgres"), runtime()).unwrap();
    // Below the cluster's own folder. It cannot be made among other statements.
    for statement in [
        "SET allow_in_place_tablespaces = on".to_owned(),
        format!(
            "CREATE TABLESPACE {} LOCATION ''",
            quote::identifier(&space)
        ),
    ] {
        connection.execute("make a tablespace", &statement).unwrap();
    }
    let sql = include_str!("assembly/everything.sql")
        .replace("THE_OWNER", &quote::identifier(&owner))
        .replace("THE_READER", &reader)
        .replace("THE SPACE", &space);
    database(cluster, &sql)
}

/// One of every kind of object that has once been lost somewhere.
const SHOP: &str = r#"
CREATE SCHEMA shop; COMMENT ON SCHEMA shop IS 'the shop';
CREATE TYPE shop.mood AS ENUM ('sad', 'glad');
CREATE DOMAIN shop.amount AS numeric(10, 2) CHECK (VALUE >= 0);
CREATE TYPE shop.pair AS (a int, b text);
CREATE FUNCTION shop.twice(x int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT x * 2';
CREATE TABLE shop.customer (
  id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text NOT NULL, mood shop.mood DEFAULT 'glad',
  shout text GENERATED ALWAYS AS (upper(name)) STORED, twofold int GENERATED ALWAYS AS (shop.twice(1)) STORED,
  tags text[], data jsonb, raw bytea, pair shop.pair);
COMMENT ON COLUMN shop.customer.name IS 'with ''quotes'' and "more"';
CREATE TABLE shop."Order" (id serial PRIMARY KEY, customer int REFERENCES shop.customer, total shop.amount, at timestamptz);
CREATE INDEX ON shop."Order" (at DESC) WHERE total > 5;
CREATE TABLE shop.log (id int, day date, line text) PARTITION BY RANGE (day);
CREATE TABLE shop.log_old PARTITION OF shop.log FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
CREATE TABLE shop.log_rest PARTITION OF shop.log DEFAULT;
CREATE VIEW shop.glad AS SELECT id, name FROM shop.customer WHERE mood = 'glad';
CREATE MATERIALIZED VIEW shop.sums AS SELECT customer, sum(total) FROM shop."Order" GROUP BY customer;
CREATE UNIQUE INDEX ON shop.sums (customer);
CREATE FUNCTION shop.note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.at := coalesce(NEW.at, now()); RETURN NEW; END $$;
CREATE TRIGGER note BEFORE INSERT ON shop."Order" FOR EACH ROW EXECUTE FUNCTION shop.note();
CREATE STATISTICS shop.stats ON customer, total FROM shop."Order";
ALTER TABLE shop.customer ENABLE ROW LEVEL SECURITY;
CREATE POLICY readers ON shop.customer TO READER USING (mood = 'glad');
CREATE TABLE shop.odd (f float8, d date, n numeric, m text);
INSERT INTO shop.customer (name, tags, data, raw, pair)
  SELECT 'name ' || i || E'\ttab\nline\\ ünïcode', ARRAY['a', NULL, '{}'], '{"k": [1, null]}', '\xdeadbeef00', ROW(i, 'x'::text)::shop.pair
    FROM generate_series(1, 50) i;
INSERT INTO shop."Order" (customer, total) SELECT 1 + i % 50, i FROM generate_series(1, 500) i;
INSERT INTO shop.log SELECT i, '2025-06-01'::date + i, repeat('x', i) FROM generate_series(1, 400) i;
INSERT INTO shop.odd VALUES ('NaN', 'infinity', 'NaN', NULL), ('-Infinity', '-infinity', 1e100, '');
REFRESH MATERIALIZED VIEW shop.sums;
SELECT lo_from_bytea(40000, '\x00ff'), lo_from_bytea(40001, decode(repeat('ab', 5000), 'hex'));
COMMENT ON LARGE OBJECT 40000 IS 'large';
GRANT USAGE ON SCHEMA shop TO READER; GRANT SELECT ON shop.customer, shop.glad TO READER;
GRANT SELECT (id) ON shop."Order" TO READER; GRANT SELECT ON LARGE OBJECT 40000 TO READER;
ALTER DEFAULT PRIVILEGES IN SCHEMA shop GRANT SELECT ON TABLES TO READER;
"#;

/// A database with [`SHOP`], and the role in it.
pub(crate) fn shop(cluster: &Cluster) -> (Settings, String) {
    let role = unique("reader");
    let sql = format!(
        "CREATE ROLE {role} LOGIN; {}",
        SHOP.replace("READER", &role)
    );
    (database(cluster, &sql), role)
}
