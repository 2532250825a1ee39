//! A real database's parts put together again, held against what PostgreSQL's programs make of the same database; and
//! parts that do not fit.

use std::{collections::HashMap, io::Write, process::Stdio};

mod by_hand;

use super::*;
use crate::{
    child,
    cluster::Cluster,
    connect::Connection,
    programs::Programs,
    quote,
    rearchive::write_archive,
    script::{ScriptOptions, write_script},
    settings::Settings,
    source::{PartSource, Wanted},
    testing,
};

/// What a native read would give: the schema's archive, the parts, and their bytes.
struct Taken {
    schema: Vec<u8>,
    parts: Parts,
    rows: HashMap<String, Vec<u8>>,
    large_objects: HashMap<u32, Vec<u8>>,
}

impl Taken {
    fn of(programs: &Programs, source: &Settings) -> Self {
        let connection = Connection::open(source, testing::runtime()).unwrap();
        let query = |sql: &str| connection.rows("list the parts", sql).unwrap();
        let mut taken = Self {
            schema: dump(
                programs,
                source,
                &["--section=pre-data", "--section=post-data"],
            ),
            parts: Parts::default(),
            rows: HashMap::new(),
            large_objects: HashMap::new(),
        };
        let tables = query(
            "SELECT n.nspname, c.relname, (SELECT pg_catalog.string_agg(a.attname, '|' ORDER BY a.attnum)
                 FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
                 AND a.attgenerated = '')
             FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
             WHERE c.relkind = 'r' AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'",
        );
        for row in tables {
            let text = |at: usize| row[at].clone().unwrap_or_default();
            let mut part = TablePart {
                schema: text(0),
                name: text(1),
                columns: text(2)
                    .split_terminator('|')
                    .map(ToOwned::to_owned)
                    .collect(),
                condition: None,
                order: Vec::new(),
                digest: None,
            };
            let columns: Vec<String> = part
                .columns
                .iter()
                .map(|column| quote::identifier(column))
                .collect();
            let columns = if columns.is_empty() {
                String::new()
            } else {
                format!("({})", columns.join(", "))
            };
            let name = quote::qualified(&part.schema, &part.name);
            let bytes = psql(
                programs,
                source,
                &format!("COPY {name} {columns} TO STDOUT"),
            );
            part.digest = Some(Digest {
                rows: bytes.iter().filter(|byte| **byte == b'\n').count() as u64,
                len_bytes: bytes.len() as u64,
                sum: [0; 32],
            });
            taken.rows.insert(part.path(), bytes);
            taken.parts.tables.push(part);
        }
        for row in query("SELECT schemaname, sequencename FROM pg_catalog.pg_sequences") {
            let (schema, name) = (row[0].clone().unwrap(), row[1].clone().unwrap());
            let state = query(&format!(
                "SELECT last_value, is_called FROM {}",
                quote::qualified(&schema, &name)
            ));
            taken.parts.sequences.push(SequencePart {
                schema,
                name,
                last_value: state[0][0].as_ref().unwrap().parse().unwrap(),
                is_called: state[0][1].as_deref() == Some("t"),
            });
        }
        let objects = query(
            "SELECT oid, pg_catalog.encode(pg_catalog.lo_get(oid), 'hex') FROM pg_catalog.pg_largeobject_metadata",
        );
        for row in objects {
            let digits = row[1].clone().unwrap();
            let bytes: Vec<u8> = (0..digits.len())
                .step_by(2)
                .map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap())
                .collect();
            let oid = row[0].as_ref().unwrap().parse().unwrap();
            taken.parts.large_objects.push(LargeObjectPart {
                oid,
                len_bytes: bytes.len() as u64,
                hash: [0; 32],
            });
            taken.large_objects.insert(oid, bytes);
        }
        taken
    }

    fn with_source<T>(&self, then: impl FnOnce(&PartSource<'_>) -> T) -> T {
        // In odd portions, so that none of the writers' own boundaries is met by chance.
        then(&|wanted, out| {
            let bytes = match wanted {
                Wanted::Rows(part) => &self.rows[&part.path()],
                Wanted::LargeObject(part) => &self.large_objects[&part.oid],
            };
            bytes
                .chunks(7_001)
                .try_for_each(|chunk| out.write_all(chunk))
        })
    }

    fn script(&self, options: &ScriptOptions) -> Result<String, AssemblyError> {
        let mut script = Vec::new();
        self.with_source(|source| {
            write_script(
                &mut self.schema.as_slice(),
                &self.parts,
                source,
                options,
                &mut script,
            )
        })?;
        Ok(String::from_utf8(script).unwrap())
    }

    fn archive(&self) -> Result<Vec<u8>, AssemblyError> {
        let mut archive = Vec::new();
        self.with_source(|source| {
            write_archive(
                &mut self.schema.as_slice(),
                &self.parts,
                source,
                &mut archive,
            )
        })?;
        Ok(archive)
    }
}

fn dump(programs: &Programs, source: &Settings, arguments: &[&str]) -> Vec<u8> {
    let mut command = child::command(&programs.program("pg_dump"), Some(source));
    command
        .args(["--format=custom", "--compress=0", "--encoding=UTF8"])
        .args(arguments);
    child::output(command).unwrap().0
}

fn psql(programs: &Programs, database: &Settings, statement: &str) -> Vec<u8> {
    let mut command = child::command(&programs.program("psql"), Some(database));
    command.args(["--no-psqlrc", "--quiet", "--command", statement]);
    child::output(command).unwrap().0
}

/// What `pg_restore` makes of an archive with these arguments.
fn pg_restore(programs: &Programs, archive: &[u8], arguments: &[&str]) -> String {
    let file = file_of(archive);
    let mut command = child::command(&programs.program("pg_restore"), None);
    command.args(arguments).arg(file.path());
    String::from_utf8(child::output(command).unwrap().0).unwrap()
}

fn file_of(bytes: &[u8]) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    file
}

fn new_database(cluster: &Cluster) -> Settings {
    testing::database(cluster, "SELECT 1")
}

/// The key with which `pg_restore` closed a script.
fn key_of(script: &str) -> Option<String> {
    let line = script
        .lines()
        .find(|line| line.starts_with("\\restrict "))?;
    Some(line["\\restrict ".len()..].to_owned())
}

/// Whether two databases have the same in them, by their plain dumps. The rows of `hashed` are compared as a whole: an
/// enum's values have other numbers in another database, and go to other partitions.
fn assert_equal(programs: &Programs, ours: &Settings, theirs: &Settings) {
    let dump = |database: &Settings| {
        let mut in_partition = false;
        let dump = testing::plain_dump(programs, database);
        let lines = dump.lines().filter(|line| {
            in_partition = line.starts_with("-- Data for Name: hashed_")
                || in_partition
                    && !line.starts_with("-- Data for ")
                    && !line.starts_with("-- Name: ");
            !in_partition
        });
        lines.collect::<Vec<_>>().join("\n")
    };
    assert_same(&dump(ours), &dump(theirs));
    let rows = "SELECT pg_catalog.string_agg(h::text, ' ' ORDER BY x) FROM public.hashed h";
    assert_eq!(testing::ask(ours, rows), testing::ask(theirs, rows));
}

fn assert_same(ours: &str, theirs: &str) {
    for (at, (ours, theirs)) in ours.lines().zip(theirs.lines()).enumerate() {
        assert_eq!(ours, theirs, "line {}", at + 1);
    }
    assert_eq!(ours.len(), theirs.len());
}

#[test]
fn the_script_is_what_pg_restore_makes_of_pg_dumps_archive_to_the_byte() {
    let cluster = testing::cluster();
    let programs = testing::programs(&cluster);
    let source = testing::everything(&cluster);
    let taken = Taken::of(&programs, &source);
    let whole = dump(&programs, &source, &[]);
    for (no_owner, no_acl) in [(false, false), (true, true)] {
        let mut arguments = vec!["--file=-"];
        arguments.extend(no_owner.then_some("--no-owner"));
        arguments.extend(no_acl.then_some("--no-acl"));
        let theirs = pg_restore(&programs, &whole, &arguments);
        let options = ScriptOptions {
            no_owner,
            no_acl,
            restrict_key: key_of(&theirs),
        };
        assert_same(&taken.script(&options).unwrap(), &theirs);
    }
}

#[test]
fn the_script_loads_and_gives_the_same_database() {
    let cluster = testing::cluster();
    let programs = testing::programs(&cluster);
    let source = testing::everything(&cluster);
    let taken = Taken::of(&programs, &source);
    let script = taken.script(&ScriptOptions::default()).unwrap();
    assert!(script.ends_with("\n--\n-- PostgreSQL database dump complete\n--\n\n"));
    let loaded = new_database(&cluster);
    let file = file_of(script.as_bytes());
    let mut command = child::command(&programs.program("psql"), Some(&loaded));
    command
        .args(["--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", "--file"])
        .arg(file.path());
    child::output(command).unwrap();
    assert_equal(&programs, &loaded, &source);
}

#[test]
fn the_archive_has_the_contents_of_pg_dumps_and_their_data() {
    let cluster = testing::cluster();
    let programs = testing::programs(&cluster);
    let source = testing::everything(&cluster);
    let ours = Taken::of(&programs, &source).archive().unwrap();
    let theirs = dump(&programs, &source, &[]);
    // Its own reader follows it to its end; the scripts say that every statement and every byte of data is there.
    let mut scanner = ArchiveScanner::new();
    scanner.feed(&ours).unwrap();
    assert!(scanner.finish().unwrap().followed_to_the_end);
    let script = |archive| {
        let script = pg_restore(&programs, archive, &["--file=-"]);
        let restricts =
            |line: &&str| !line.starts_with("\\restrict") && !line.starts_with("\\unrestrict");
        script
            .lines()
            .filter(restricts)
            .collect::<Vec<_>>()
            .join("\n")
    };
    assert_same(&script(&ours), &script(&theirs));
    // All but the numbers is equal: those of data are ours.
    let entries = |archive: &[u8]| {
        let mut scanner = ArchiveScanner::new();
        scanner.feed(archive).unwrap();
        let (summary, mut entries) = scanner.complete().unwrap();
        let names: HashMap<i64, String> = entries
            .iter()
            .map(|entry| {
                (
                    entry.id,
                    format!("{} {:?} {}", entry.kind, entry.schema, entry.name),
                )
            })
            .collect();
        let needs: Vec<Vec<Option<String>>> = entries
            .iter()
            .map(|entry| {
                entry
                    .needs
                    .iter()
                    .map(|need| names.get(need).cloned())
                    .collect()
            })
            .collect();
        for entry in &mut entries {
            entry.id = 0;
            entry.needs.clear();
        }
        (summary.head.server_version, entries, needs)
    };
    let (ours, theirs) = (entries(&ours), entries(&theirs));
    for (ours, theirs) in ours.1.iter().zip(&theirs.1) {
        assert_eq!(ours, theirs);
    }
    assert_eq!(ours, theirs);
}

#[test]
fn pg_restore_loads_the_archive_from_a_pipe_and_by_two_jobs_from_a_file() {
    let cluster = testing::cluster();
    let programs = testing::programs(&cluster);
    let source = testing::everything(&cluster);
    let archive = Taken::of(&programs, &source).archive().unwrap();
    let file = file_of(&archive);
    for jobs in ["--jobs=1", "--jobs=2"] {
        let loaded = new_database(&cluster);
        let mut command = child::command(&programs.program("pg_restore"), Some(&loaded));
        command
            .args(["--exit-on-error", "--dbname", loaded.database()])
            .arg(jobs);
        if jobs == "--jobs=1" {
            // A pipe cannot be sought in.
            let mut cat = std::process::Command::new("cat")
                .arg(file.path())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            command.stdin(cat.stdout.take().unwrap());
            child::output(command).unwrap();
            cat.wait().unwrap();
        } else {
            command.arg(file.path());
            child::output(command).unwrap();
        }
        assert_equal(&programs, &loaded, &source);
    }
}

#[test]
fn rows_that_find_their_partition_by_a_hash_go_through_the_top() {
    let cluster = testing::cluster();
    let programs = testing::programs(&cluster);
    let source = testing::database(
        &cluster,
        "CREATE TABLE spread (id int, day date) PARTITION BY RANGE (day);
         CREATE TABLE middle PARTITION OF spread DEFAULT PARTITION BY HASH (id);
         CREATE TABLE part_0 PARTITION OF middle FOR VALUES WITH (MODULUS 2, REMAINDER 0);
         CREATE TABLE part_1 PARTITION OF middle FOR VALUES WITH (MODULUS 2, REMAINDER 1);
         CREATE TABLE ranged PARTITION OF spread FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
         INSERT INTO spread SELECT i, '2026-12-01'::date + i FROM generate_series(1, 100) i;
         ALTER TABLE spread ADD PRIMARY KEY (id, day)",
    );
    let taken = Taken::of(&programs, &source);
    let script = taken.script(&ScriptOptions::default()).unwrap();
    let copies: Vec<&str> = script
        .lines()
        .filter(|line| line.starts_with("COPY "))
        .collect();
    assert_eq!(
        copies,
        [
            "COPY public.spread (id, day) FROM stdin;",
            "COPY public.spread (id, day) FROM stdin;",
            "COPY public.ranged (id, day) FROM stdin;",
        ]
    );
    // Both partitions at once, neither of which may be emptied first.
    let file = file_of(&taken.archive().unwrap());
    let loaded = new_database(&cluster);
    let mut command = child::command(&programs.program("pg_restore"), Some(&loaded));
    command
        .args(["--exit-on-error", "--jobs=2", "--dbname", loaded.database()])
        .arg(file.path());
    child::output(command).unwrap();
    assert_same(
        &testing::plain_dump(&programs, &loaded),
        &testing::plain_dump(&programs, &source),
    );
}
