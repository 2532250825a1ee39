//! Whole databases read at once, while others change them, and every way in which a read is no good.

use std::{
    collections::{BTreeMap, HashMap},
    thread,
    time::Instant,
};

use super::*;
use crate::{
    Digest, Digester, PartsRestore, RestoreOptions, ScriptOptions, Wanted, cluster::Cluster,
    restore_parts, testing, write_script,
};

const KEY: [u8; 32] = [9; 32];

static GO_ON: AtomicBool = AtomicBool::new(false);

/// Enough rows that a session cannot have sent them all before we look.
const MANY_ROWS: &str = "CREATE TABLE many (id int PRIMARY KEY, x text);
    INSERT INTO many SELECT i, repeat('x', 200) FROM generate_series(1, 20000) i;
    CREATE TABLE few (id int); INSERT INTO few VALUES (1)";

fn start<'a>(
    cluster: &Cluster,
    settings: &Settings,
    options: &NativeOptions,
    stop: &'a AtomicBool,
) -> Result<NativeRead<'a>, NativeError> {
    let programs = testing::programs(cluster);
    NativeRead::start(settings, &programs, options, &KEY, stop, testing::runtime())
}

fn started(cluster: &Cluster, settings: &Settings) -> NativeRead<'static> {
    start(cluster, settings, &NativeOptions::default(), &GO_ON).unwrap()
}

/// Takes a file whole.
fn take<'a>(
    read: &NativeRead<'a>,
    file: NativeFile<'a>,
) -> Result<Vec<u8>, FileFailure<io::Error>> {
    read.read(file, |stream| {
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).map(|_| bytes)
    })
}

fn failure<T>(result: Result<T, FileFailure<io::Error>>) -> NativeError {
    match result {
        Ok(_) => panic!("the file was read"),
        Err(FileFailure::Read(error)) => error,
        Err(FileFailure::Sink(error)) => panic!("the sink failed: {error}"),
    }
}

/// Takes all files by so many threads.
fn take_all(read: &NativeRead<'_>, threads: usize) -> HashMap<String, Vec<u8>> {
    let files = Mutex::new(HashMap::new());
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(file) = read.next_file() {
                    let name = file.name().to_owned();
                    let bytes = take(read, file).unwrap();
                    let twice = files.lock().unwrap().insert(name, bytes);
                    assert!(twice.is_none());
                }
            });
        }
    });
    files.into_inner().unwrap()
}

/// The next file of that name; those before it are read.
fn skip_to<'a>(read: &NativeRead<'a>, name: &str) -> NativeFile<'a> {
    loop {
        let file = read.next_file().unwrap();
        if file.name() == name {
            return file;
        }
        take(read, file).unwrap();
    }
}

fn digest_of(rows: &[u8]) -> Digest {
    let mut digester = Digester::new(&KEY);
    digester.feed(rows);
    digester.finish().unwrap()
}

/// How often each line is in a script; without those that differ each time, and the empty ones at its end. Who owns a
/// table of an extension no schema tells: that comment is compared without its end.
fn lines(script: &str) -> BTreeMap<String, u32> {
    let kept: Vec<_> = script
        .lines()
        .filter(|line| !line.starts_with("\\restrict") && !line.starts_with("\\unrestrict"))
        .collect();
    let mut lines = BTreeMap::new();
    for line in kept.join("\n").trim_end().lines() {
        let line = match line.split_once("; Owner: ") {
            Some((data, _)) if line.starts_with("-- Data for Name: ") => data,
            _ => line,
        };
        *lines.entry(line.to_owned()).or_default() += 1;
    }
    lines
}

/// Gives back what was read.
fn write_wanted(
    files: &HashMap<String, Vec<u8>>,
    wanted: Wanted<'_>,
    out: &mut dyn io::Write,
) -> io::Result<()> {
    let name = match wanted {
        Wanted::Rows(part) => table_file(&part.schema, &part.name),
        Wanted::LargeObject(part) => large_object_file(part.oid),
    };
    out.write_all(&files[&name])
}

/// Reads a database by so many threads, and puts it together again: the script must be that of `pg_dump`, but for the
/// order of rows.
fn assert_read_is_what_pg_dump_reads(cluster: &Cluster, settings: &Settings, threads: usize) {
    let read = started(cluster, settings);
    let files = take_all(&read, threads);
    let NativeReport { parts, .. } = read.finish().unwrap();
    for part in &parts.tables {
        let rows = &files[&table_file(&part.schema, &part.name)];
        assert_eq!(part.digest.unwrap(), digest_of(rows), "{}", part.path());
    }
    let mut script = Vec::new();
    write_script(
        &mut files[SCHEMA_FILE].as_slice(),
        &parts,
        &|wanted, out| write_wanted(&files, wanted, out),
        &ScriptOptions {
            restrict_key: Some("key".to_owned()),
            ..ScriptOptions::default()
        },
        &mut script,
    )
    .unwrap();
    // The locale of amounts is said before the rows; pg_dump leaves it to the one who reads.
    let script = String::from_utf8(script)
        .unwrap()
        .replace("SET lc_monetary = 'C';\n", "")
        .replace("RESET lc_monetary;\n\n", "");
    let plain = testing::plain_dump(&testing::programs(cluster), settings);
    let (ours, theirs) = (lines(&script), lines(&testing::in_older_words(&plain)));
    let differing: Vec<_> = ours
        .iter()
        .filter(|(line, count)| theirs.get(*line) != Some(count))
        .chain(theirs.iter().filter(|(line, _)| !ours.contains_key(*line)))
        .collect();
    assert!(differing.is_empty(), "{differing:#?}");
    let content = parts.tables.len() + parts.large_objects.len() + 1;
    assert_eq!(files.len(), content);
}

#[test]
fn every_kind_of_table_and_object_is_read_as_pg_dump_reads_it() {
    let cluster = testing::cluster();
    let settings = testing::everything(&cluster);
    assert_read_is_what_pg_dump_reads(&cluster, &settings, 3);
    let settings = testing::database(&cluster, testing::EVERY_KIND_OF_TABLE);
    // More than there are sessions for.
    assert_read_is_what_pg_dump_reads(&cluster, &settings, 6);
    let empty = testing::database(&cluster, "");
    assert_read_is_what_pg_dump_reads(&cluster, &empty, 1);
}

#[test]
fn what_was_read_is_restored_and_found_equal_by_its_digests() {
    let cluster = testing::cluster();
    let (source, _role) = testing::shop(&cluster);
    testing::run(&source, testing::MORE);
    let programs = testing::programs(&cluster);
    let read = started(&cluster, &source);
    let files = take_all(&read, 2);
    let facts = read.moment().facts().clone();
    let parts = read.finish().unwrap().parts;
    let name = testing::unique("again");
    let restore = PartsRestore {
        admin: &cluster.settings("postgres"),
        programs: &programs,
        database: &name,
        parts: &parts,
        hash_key: Some(&KEY),
        options: &RestoreOptions {
            facts: Some(facts.database),
            extensions: facts.extensions,
            jobs: 2,
            ..RestoreOptions::default()
        },
        stop: &GO_ON,
    };
    let report = restore_parts(
        &restore,
        &mut files[SCHEMA_FILE].as_slice(),
        &|wanted, out| write_wanted(&files, wanted, out),
        testing::runtime(),
    )
    .unwrap();
    let verified = report.verified.unwrap();
    assert_eq!(verified.tables, parts.tables.len() as u64);
    let [ours, theirs] = [cluster.settings(&name), source]
        .map(|settings| lines(&testing::plain_dump(&programs, &settings)));
    assert_eq!(ours, theirs);
}

#[test]
fn files_come_the_schema_first_and_then_the_largest_tables() {
    let cluster = testing::cluster();
    let settings = testing::database(
        &cluster,
        &format!("{MANY_ROWS}; CREATE TABLE empty (id int); SELECT lo_create(7)"),
    );
    let read = started(&cluster, &settings);
    assert_eq!(read.sessions(), 4);
    let files: Vec<_> = std::iter::from_fn(|| read.next_file()).collect();
    let names: Vec<_> = files.iter().map(NativeFile::name).collect();
    assert_eq!(
        names,
        [
            "schema.dump",
            "public.many",
            "public.few",
            "public.empty",
            "large-objects/7"
        ]
    );
    assert!(files[1].size_bytes().unwrap() > 4_000_000);
}

#[test]
fn what_changes_while_it_is_read_is_read_as_it_was_at_the_moment() {
    let cluster = testing::cluster();
    let settings = testing::database(
        &cluster,
        "CREATE TABLE a (id serial PRIMARY KEY); INSERT INTO a SELECT generate_series(1, 100);
         SELECT setval('a_id_seq', 100);
         CREATE TABLE b (LIKE a); INSERT INTO b VALUES (1); SELECT lo_from_bytea(7, 'before')",
    );
    let read = started(&cluster, &settings);
    testing::run(
        &settings,
        "UPDATE a SET id = id + 1000; INSERT INTO a DEFAULT VALUES; DELETE FROM b; SELECT lo_put(7, 0, 'after!')",
    );
    let files = take_all(&read, 2);
    let rows: String = (1..=100).map(|id| format!("{id}\n")).collect();
    assert_eq!(files["public.a"], rows.as_bytes());
    assert_eq!(files["public.b"], b"1\n");
    assert_eq!(files["large-objects/7"], b"before");
    let parts = read.finish().unwrap().parts;
    // Of the time after the last row.
    assert_eq!(parts.sequences[0].last_value, 101);
}

#[test]
fn tables_stay_locked_and_what_only_sorting_needs_does_not() {
    let cluster = testing::cluster();
    let settings = testing::database(
        &cluster,
        "CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1); CREATE TABLE u (id int PRIMARY KEY)",
    );
    let read = started(&cluster, &settings);
    take_all(&read, 1);
    let locks = |name: &str| {
        let sql = format!("SELECT count(*) FROM pg_locks WHERE relation = '{name}'::regclass");
        testing::ask(&settings, &sql)
    };
    assert_eq!(
        ["t", "u", "t_pkey", "u_pkey"].map(locks),
        ["5", "5", "0", "0"]
    );
    read.finish().unwrap();
}

#[test]
fn a_role_that_may_read_everything_and_nothing_else_reads_everything() {
    let cluster = testing::cluster();
    let role = testing::unique("reader");
    let owner = testing::database(
        &cluster,
        &format!(
            "{}; CREATE ROLE {role} LOGIN BYPASSRLS; GRANT pg_read_all_data TO {role};
             ALTER TABLE plain ENABLE ROW LEVEL SECURITY; SELECT lo_from_bytea(7, 'large');
             GRANT SELECT ON LARGE OBJECT 7 TO {role}",
            testing::EVERY_KIND_OF_TABLE
        ),
    );
    let reader = Settings {
        user: role,
        ..owner.clone()
    };
    let parts = [owner, reader].map(|settings| {
        let read = started(&cluster, &settings);
        take_all(&read, 2);
        read.finish().unwrap().parts
    });
    assert_eq!(parts[0], parts[1]);
    assert_eq!(parts[0].large_objects.len(), 1);
}

#[test]
fn rows_that_are_left_out_have_no_file_and_an_earlier_order_holds() {
    let cluster = testing::cluster();
    let settings = testing::database(
        &cluster,
        "CREATE TABLE kept (id int PRIMARY KEY); INSERT INTO kept VALUES (3), (1), (2);
         CREATE TABLE sorted (id int PRIMARY KEY); INSERT INTO sorted VALUES (3), (1), (2);
         CREATE TABLE gone (id int); INSERT INTO gone VALUES (1)",
    );
    let earlier = TablePart {
        schema: "public".to_owned(),
        name: "kept".to_owned(),
        columns: vec!["id".to_owned()],
        condition: None,
        order: Vec::new(),
        digest: None,
    };
    let options = NativeOptions {
        skip_data: vec!["public.gone".to_owned()],
        earlier: vec![earlier],
        ..NativeOptions::default()
    };
    let read = start(&cluster, &settings, &options, &GO_ON).unwrap();
    let files = take_all(&read, 1);
    assert_eq!(files["public.kept"], b"3\n1\n2\n");
    assert_eq!(files["public.sorted"], b"1\n2\n3\n");
    assert_eq!(files.len(), 3);
    let parts = read.finish().unwrap().parts;
    assert_eq!(
        (&*parts.tables[0].name, parts.tables[0].digest),
        ("gone", None)
    );

    let options = NativeOptions {
        skip_data: vec!["public.none".to_owned()],
        ..NativeOptions::default()
    };
    let error = start(&cluster, &settings, &options, &GO_ON).err().unwrap();
    assert!(
        matches!(error, NativeError::Tables(TablePlanError::UnknownTable(_))),
        "{error}"
    );
}

#[test]
fn who_queues_while_pg_dump_starts_has_his_turn_and_all_begins_again() {
    let cluster = testing::cluster();
    let settings = testing::database(
        &cluster,
        "CREATE TABLE t (id int); INSERT INTO t VALUES (1)",
    );
    // At its first start somebody else comes between.
    let flag = tempfile::tempdir().unwrap();
    let waiting = "SELECT 1 FROM pg_locks JOIN pg_database d ON d.oid = database
                    WHERE NOT granted AND datname = current_database()";
    let (_folder, programs) = testing::with_pg_dump(
        &cluster,
        &format!(
            "if mkdir {}/met 2>/dev/null; then
               psql --no-psqlrc --quiet --command 'ALTER TABLE t ADD more int DEFAULT 7' </dev/null >/dev/null 2>&1 &
               until psql --no-psqlrc --tuples-only --command '{waiting}' | grep -q 1; do sleep 0.1; done
             fi
             exec $REAL \"$@\"",
            flag.path().display()
        ),
    );
    let options = NativeOptions::default();
    let read = NativeRead::start(
        &settings,
        &programs,
        &options,
        &KEY,
        &GO_ON,
        testing::runtime(),
    )
    .unwrap();
    assert!(flag.path().join("met").exists());
    let files = take_all(&read, 1);
    assert_eq!(files["public.t"], b"1\t7\n");
    read.finish().unwrap();
}

#[test]
fn who_stands_in_the_way_for_too_long_is_named_and_nothing_stays_locked() {
    let cluster = testing::cluster();
    let settings = testing::database(
        &cluster,
        "CREATE TABLE t (id int); CREATE VIEW one AS SELECT id FROM t; CREATE VIEW two AS SELECT id FROM one",
    );
    let keeper = Connection::open(&settings, testing::runtime()).unwrap();
    keeper
        .execute("rename", "BEGIN; ALTER VIEW public.one RENAME TO other")
        .unwrap();
    let options = NativeOptions {
        lock_wait: Duration::from_secs(1),
        ..NativeOptions::default()
    };
    let error = start(&cluster, &settings, &options, &GO_ON).err().unwrap();
    assert!(
        matches!(error, NativeError::Moment(MomentError::LockTimeout { .. })),
        "{error}"
    );
    let deadline = Instant::now() + Duration::from_secs(20);
    let locked = "SELECT count(*) FROM pg_locks WHERE relation = 't'::regclass";
    while testing::ask(&settings, locked) != "0" {
        assert!(Instant::now() < deadline, "the table stays locked");
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_session_that_is_lost_while_it_reads_fails_the_whole() {
    let cluster = testing::cluster();
    let settings = testing::database(&cluster, MANY_ROWS);
    let read = started(&cluster, &settings);
    let many = skip_to(&read, "public.many");
    let few = read.next_file().unwrap();
    let error = failure(read.read(many, |stream| {
        stream.read_exact(&mut [0; 1000])?;
        testing::run(
            &settings,
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
              WHERE datname = current_database() AND query LIKE 'COPY%'",
        );
        stream.read_to_end(&mut Vec::new())
    }));
    assert!(matches!(error, NativeError::Rows(_)), "{error}");
    // What else is read is of no use any more.
    let error = failure(take(&read, few));
    assert!(matches!(error, NativeError::Spoilt), "{error}");
    assert!(read.next_file().is_none());
    let error = read.finish().unwrap_err();
    assert!(matches!(error, NativeError::Spoilt), "{error}");
}

#[test]
fn a_holder_that_is_lost_fails_the_whole_although_all_rows_have_come() {
    let cluster = testing::cluster();
    let settings = testing::database(&cluster, MANY_ROWS);
    let read = started(&cluster, &settings);
    let session = read.moment().schema_session();
    let (_, pid) = session.rsplit_once(' ').unwrap();
    let sql = format!("SELECT pg_terminate_backend({pid})");
    assert_eq!(testing::ask(&settings, &sql), "t");
    take_all(&read, 2);
    let error = read.finish().unwrap_err();
    assert!(
        matches!(
            error,
            NativeError::Query(_) | NativeError::Moment(MomentError::Lost { .. })
        ),
        "{error}"
    );
}

#[test]
fn a_read_that_is_asked_to_stop_ends_in_the_middle_of_everything() {
    let cluster = testing::cluster();
    let settings = testing::database(
        &cluster,
        &format!("{MANY_ROWS}; CREATE FUNCTION slow(int) RETURNS int LANGUAGE sql VOLATILE AS 'SELECT 1 FROM pg_sleep(60)';
                  CREATE TABLE configured (id int); INSERT INTO configured VALUES (1);
                  CREATE EXTENSION hstore; ALTER EXTENSION hstore ADD TABLE configured;
                  UPDATE pg_extension SET extconfig = ARRAY['configured'::regclass]::oid[],
                         extcondition = ARRAY['WHERE public.slow(id) = 1'] WHERE extname = 'hstore'"),
    );
    let stop = AtomicBool::new(false);
    let read = start(&cluster, &settings, &NativeOptions::default(), &stop).unwrap();
    // The server thinks about its rows for a minute.
    let slow = skip_to(&read, "public.configured");
    let began = Instant::now();
    thread::scope(|scope| {
        let reading = scope.spawn(|| failure(take(&read, slow)));
        thread::sleep(Duration::from_millis(300));
        stop.store(true, Ordering::Relaxed);
        let error = reading.join().unwrap();
        assert!(matches!(error, NativeError::Stopped), "{error}");
    });
    assert!(began.elapsed() < Duration::from_secs(30));
    assert!(read.next_file().is_none());
    assert!(matches!(read.finish(), Err(NativeError::Stopped)));
    assert!(matches!(
        start(&cluster, &settings, &NativeOptions::default(), &stop),
        Err(NativeError::Stopped)
    ));
}

#[test]
fn a_sink_that_fails_says_so_itself_and_the_read_is_no_good() {
    let cluster = testing::cluster();
    let settings = testing::database(&cluster, MANY_ROWS);
    let read = started(&cluster, &settings);
    let many = skip_to(&read, "public.many");
    let taken: Result<(), _> = read.read(many, |stream| {
        stream.read_exact(&mut [0; 10]).unwrap();
        Err("the disk is full")
    });
    assert!(matches!(taken, Err(FileFailure::Sink("the disk is full"))));
    assert!(matches!(read.finish(), Err(NativeError::Spoilt)));
}

#[test]
fn a_file_that_was_not_read_to_its_end_or_not_at_all_is_no_good() {
    let cluster = testing::cluster();
    let settings = testing::database(&cluster, MANY_ROWS);
    let read = started(&cluster, &settings);
    let many = skip_to(&read, "public.many");
    let error = failure(read.read(many, |stream| stream.read_exact(&mut [0; 10])));
    assert!(
        matches!(error, NativeError::Rows(RowsError::GivenUp { .. })),
        "{error}"
    );

    for (name, unread) in [
        ("schema.dump", "schema.dump was not read to its end"),
        ("public.few", "public.few was not read to its end"),
    ] {
        let read = started(&cluster, &settings);
        drop(skip_to(&read, name));
        while let Some(file) = read.next_file() {
            take(&read, file).unwrap();
        }
        let error = read.finish().unwrap_err();
        assert_eq!(error.to_string(), unread);
    }
    let read = started(&cluster, &settings);
    let error = read.finish().unwrap_err().to_string();
    assert_eq!(error, "schema.dump was not read to its end");
}

#[test]
fn a_schema_whose_program_fails_late_is_no_good() {
    let cluster = testing::cluster();
    let settings = testing::database(&cluster, "CREATE TABLE t (id int)");
    let (_folder, programs) =
        testing::with_pg_dump(&cluster, "$REAL \"$@\"; echo 'out of paper' >&2; exit 1");
    let options = NativeOptions::default();
    let read = NativeRead::start(
        &settings,
        &programs,
        &options,
        &KEY,
        &GO_ON,
        testing::runtime(),
    )
    .unwrap();
    let schema = read.next_file().unwrap();
    let error = testing::chain(&failure(take(&read, schema)));
    assert!(error.contains("out of paper"), "{error}");
    assert!(read.finish().is_err());
}

#[test]
fn a_read_goes_from_thread_to_thread() {
    fn shared<T: Send + Sync>() {}
    fn sent<T: Send>() {}
    shared::<NativeRead<'_>>();
    sent::<NativeFile<'_>>();
}
