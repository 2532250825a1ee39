//! A real database's parts put together again, held against what PostgreSQL's programs make of the same database; and
//! parts that do not fit.

use std::{collections::HashMap, io::Write, process::Stdio};

mod by_hand;

use super::*;
use crate::{
    child,
    cluster::Cluster,
    programs::Programs,
    rearchive::write_archive,
    script::{ScriptOptions, write_script},
    settings::Settings,
    source::{PartSource, Wanted},
    testing::{self, Backup},
};

fn script(backup: &Backup, options: &ScriptOptions) -> Result<String, AssemblyError> {
    let mut script = Vec::new();
    write_script(
        &mut &backup.schema[..],
        &backup.parts,
        &|wanted, into| backup.write(wanted, into),
        options,
        &mut script,
    )?;
    Ok(String::from_utf8(script).unwrap())
}

fn archive(backup: &Backup) -> Result<Vec<u8>, AssemblyError> {
    let mut archive = Vec::new();
    write_archive(
        &mut &backup.schema[..],
        &backup.parts,
        &|wanted, into| backup.write(wanted, into),
        &mut archive,
    )?;
    Ok(archive)
}

fn dump(programs: &Programs, source: &Settings, arguments: &[&str]) -> Vec<u8> {
    let mut command = child::command(&programs.program("pg_dump"), Some(source));
    command
        .args(["--format=custom", "--compress=0", "--encoding=UTF8"])
        .args(arguments);
    child::output(command).unwrap().0
}

/// What `pg_restore` makes of an archive with these arguments.
fn pg_restore(programs: &Programs, archive: &[u8], arguments: &[&str]) -> String {
    let file = file_of(archive);
    let mut command = child::command(&programs.program("pg_restore"), None);
    command.args(arguments).arg(file.path());
    testing::in_older_words(&String::from_utf8(child::output(command).unwrap().0).unwrap())
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

/// What `pg_dump` does not write: in which locale amounts of money are to be read.
fn without_locale(ours: &str) -> String {
    assert!(ours.contains(AMOUNTS));
    ours.replace(AMOUNTS, "")
        .replace("RESET lc_monetary;\n\n", "")
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
    let backup = Backup::of(&programs, &source);
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
        let ours = script(&backup, &options).unwrap();
        assert_same(&without_locale(&ours), &theirs);
    }
}

#[test]
fn amounts_of_money_are_written_for_one_locale_and_read_in_it() {
    let cluster = testing::cluster();
    let programs = testing::programs(&cluster);
    let source = testing::database(
        &cluster,
        "CREATE TABLE price (amount money); INSERT INTO price VALUES (1234.5), (-0.01)",
    );
    let backup = Backup::of(&programs, &source);
    let script = script(&backup, &ScriptOptions::default()).unwrap();
    let rows = "SET lc_monetary = 'C';\nCOPY public.price (amount) FROM stdin;\n$1,234.50\n-$0.01\n\\.\n\n\n";
    let written = format!("{rows}RESET lc_monetary;\n");
    assert!(script.contains(&written), "{script}");
    let archive = archive(&backup).unwrap();
    let theirs = pg_restore(&programs, &archive, &["--file=-"]);
    assert!(theirs.contains(rows), "{theirs}");
    let loaded = new_database(&cluster);
    let file = file_of(&archive);
    let mut command = child::command(&programs.program("pg_restore"), Some(&loaded));
    command
        .args(["--exit-on-error", "--jobs=2", "--dbname"])
        .arg(loaded.conninfo())
        .arg(file.path());
    child::output(command).unwrap();
    let sum = "SELECT sum(amount)::numeric FROM price";
    assert_eq!(testing::ask(&loaded, sum), "1234.49");
}

#[test]
fn the_script_loads_and_gives_the_same_database() {
    let cluster = testing::cluster();
    let programs = testing::programs(&cluster);
    let source = testing::everything(&cluster);
    let backup = Backup::of(&programs, &source);
    let script = script(&backup, &ScriptOptions::default()).unwrap();
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
    let ours = archive(&Backup::of(&programs, &source)).unwrap();
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
    assert_same(&without_locale(&script(&ours)), &script(&theirs));
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
        // Since 17 contents of large objects need something else that no archive has.
        let needs: Vec<Vec<String>> = entries
            .iter()
            .map(|entry| {
                let needs = entry.needs.iter();
                needs.filter_map(|need| names.get(need).cloned()).collect()
            })
            .collect();
        for entry in &mut entries {
            entry.copy = entry.copy.take().map(|copy| copy.replace(AMOUNTS, ""));
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
    let archive = archive(&Backup::of(&programs, &source)).unwrap();
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

/// Since 17 an entry of an archive has up to a thousand of them.
#[test]
fn many_large_objects_come_back_with_their_owners_grants_and_comments() {
    let cluster = testing::cluster();
    let programs = testing::programs(&cluster);
    let [owner, reader] = ["Keep er", "look er"].map(testing::unique);
    let [owner, reader] = [owner, reader].map(|name| crate::quote::identifier(&name));
    let source = testing::database(
        &cluster,
        &format!(
            "CREATE ROLE {owner}; CREATE ROLE {reader};
             SELECT lo_from_bytea(oid::oid, convert_to(oid::text, 'UTF8')) FROM generate_series(50001, 52102) oid;
             DO $$ BEGIN FOR i IN 51101..52102 LOOP
               EXECUTE 'ALTER LARGE OBJECT ' || i || ' OWNER TO {owner}';
               EXECUTE 'GRANT SELECT ON LARGE OBJECT ' || i || ' TO {reader} WITH GRANT OPTION';
             END LOOP; END $$;
             REVOKE ALL ON LARGE OBJECT 50001 FROM CURRENT_USER; GRANT UPDATE ON LARGE OBJECT 50002 TO PUBLIC;
             SET SESSION AUTHORIZATION {reader}; GRANT SELECT ON LARGE OBJECT 52102 TO PUBLIC; RESET SESSION AUTHORIZATION;
             COMMENT ON LARGE OBJECT 51100 IS 'it''s large'; COMMENT ON LARGE OBJECT 52102 IS 'the last'"
        ),
    );
    let expected = testing::plain_dump(&programs, &source);
    let backup = Backup::of(&programs, &source);
    let script = file_of(
        script(&backup, &ScriptOptions::default())
            .unwrap()
            .as_bytes(),
    );
    let archive = file_of(&archive(&backup).unwrap());
    let by_psql = ["--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", "--file"];
    for (program, arguments, file) in [
        ("psql", &by_psql[..], &script),
        ("pg_restore", &["--exit-on-error", "--jobs=2"], &archive),
    ] {
        let loaded = new_database(&cluster);
        let mut command = child::command(&programs.program(program), Some(&loaded));
        command.args(arguments).arg(file.path());
        if program == "pg_restore" {
            command.args(["--dbname", loaded.database()]);
        }
        child::output(command).unwrap();
        assert_same(&testing::plain_dump(&programs, &loaded), &expected);
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
    let backup = Backup::of(&programs, &source);
    let script = script(&backup, &ScriptOptions::default()).unwrap();
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
    let file = file_of(&archive(&backup).unwrap());
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
