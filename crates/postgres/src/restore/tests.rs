//! Archives restored into new databases: equal to their source, or not there at all.

use super::*;
use crate::{
    cluster::Cluster,
    dump::{Dump, DumpOptions},
    facts::DatabaseFacts,
    moment::{Moment, MomentOptions},
    testing,
};

fn dump(cluster: &Cluster, settings: &Settings) -> (Vec<u8>, DatabaseFacts) {
    dump_with(settings, &testing::programs(cluster))
}

fn dump_with(settings: &Settings, programs: &Programs) -> (Vec<u8>, DatabaseFacts) {
    let moment = Moment::hold(settings, &MomentOptions::default(), testing::runtime()).unwrap();
    let mut dump = Dump::start(&moment, programs, &DumpOptions::default()).unwrap();
    let mut bytes = Vec::new();
    dump.read_to_end(&mut bytes).unwrap();
    dump.finish().unwrap();
    (bytes, moment.facts().database.clone())
}

fn restore(
    cluster: &Cluster,
    name: &str,
    mut archive: &[u8],
    options: &RestoreOptions,
) -> Result<RestoreReport, RestoreError> {
    restore_archive(
        &cluster.settings("postgres"),
        &testing::programs(cluster),
        name,
        &mut archive,
        options,
        &AtomicBool::new(false),
        testing::runtime(),
    )
}

fn is_there(cluster: &Cluster, name: &str) -> bool {
    let connection = Connection::open(&cluster.settings("postgres"), testing::runtime()).unwrap();
    exists(&connection, name).unwrap()
}

#[test]
fn every_kind_of_object_comes_back_equal_by_one_job_and_by_several() {
    let cluster = testing::cluster();
    let (source, role) = testing::shop(&cluster);
    testing::run(
        &source,
        &format!("ALTER DATABASE {} SET work_mem = '7MB'", source.database()),
    );
    testing::run(
        &source,
        &format!("GRANT CREATE ON DATABASE {} TO {role}", source.database()),
    );
    let (archive, facts) = dump(&cluster, &source);
    for roles in [&facts.granted_roles, &facts.policy_roles] {
        assert_eq!(roles.as_slice(), [role.as_str()]);
    }
    let programs = testing::programs(&cluster);
    let expected = testing::plain_dump(&programs, &source);
    for jobs in [1, 2] {
        let name = testing::unique("restored");
        let options = RestoreOptions {
            facts: Some(facts.clone()),
            jobs,
            ..RestoreOptions::default()
        };
        let report = restore(&cluster, &name, &archive, &options).unwrap();
        assert_eq!(report.warnings, Vec::<String>::new());
        assert!(report.archive.followed_to_the_end);
        let restored = cluster.settings(&name);
        assert_eq!(
            testing::plain_dump(&programs, &restored),
            expected,
            "{jobs} jobs"
        );
        assert_eq!(testing::ask(&restored, "SHOW work_mem"), "7MB");
        let connection = Connection::open(&restored, testing::runtime()).unwrap();
        let copy = catalog::database(&connection, cluster.version().major).unwrap();
        assert_eq!(copy.grants, facts.grants);
        assert_eq!(
            (copy.collate, copy.encoding),
            (facts.collate.clone(), facts.encoding.clone())
        );
    }
}

#[test]
fn a_database_that_exists_is_refused_and_not_touched() {
    let cluster = testing::cluster();
    let settings = testing::database(
        &cluster,
        "CREATE TABLE t (id int); INSERT INTO t VALUES (1)",
    );
    let (archive, _) = dump(&cluster, &settings);
    let error = restore(
        &cluster,
        settings.database(),
        &archive,
        &RestoreOptions::default(),
    )
    .unwrap_err();
    assert!(matches!(error, RestoreError::Exists(_)), "{error}");
    assert_eq!(testing::ask(&settings, "SELECT count(*) FROM t"), "1");
}

#[test]
fn an_archive_that_is_cut_off_damaged_or_unreadable_leaves_no_database() {
    let cluster = testing::cluster();
    let (source, _) = testing::shop(&cluster);
    let (archive, _) = dump(&cluster, &source);
    let mut swapped = archive.clone();
    let middle = archive.len() * 2 / 3;
    swapped[middle..middle + 400].fill(0xff);
    for jobs in [1, 2] {
        let options = RestoreOptions {
            jobs,
            ..RestoreOptions::default()
        };
        for bad in [
            &archive[..archive.len() - 1],
            &archive[..archive.len() / 2],
            &archive[..200],
            b"",
            b"SELECT 1;",
            &swapped,
        ] {
            let name = testing::unique("bad");
            let error = restore(&cluster, &name, bad, &options).unwrap_err();
            assert!(
                !is_there(&cluster, &name) && !is_there(&cluster, &place(&name)),
                "{}",
                testing::chain(&error)
            );
        }
    }

    struct Breaks<'a>(&'a [u8]);
    impl Read for Breaks<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            match self.0.read(buffer)? {
                0 => Err(io::Error::other("the store is gone")),
                count => Ok(count),
            }
        }
    }
    let name = testing::unique("bad");
    let error = restore_archive(
        &cluster.settings("postgres"),
        &testing::programs(&cluster),
        &name,
        &mut Breaks(&archive[..archive.len() - 10]),
        &RestoreOptions::default(),
        &AtomicBool::new(false),
        testing::runtime(),
    )
    .unwrap_err();
    let text = testing::chain(&error);
    assert!(
        text.contains("the store is gone") && text.contains("was dropped again"),
        "{text}"
    );
    assert!(!is_there(&cluster, &name) && !is_there(&cluster, &place(&name)));
}

#[test]
fn what_the_server_lacks_is_said_before_anything_is_made() {
    let cluster = testing::cluster();
    let (source, role) = testing::shop(&cluster);
    let (archive, facts) = dump(&cluster, &source);
    let other = testing::other_cluster();
    let name = testing::unique("new");
    let options = RestoreOptions {
        facts: Some(facts),
        ..RestoreOptions::default()
    };
    let error = restore(&other, &name, &archive, &options).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("the server lacks the role \"{role}\"")
    );
    assert!(!is_there(&other, &name));
    // Grants can be left out, but a policy names its role in any case.
    let options = RestoreOptions {
        no_acl: true,
        ..options
    };
    assert!(matches!(
        restore(&other, &name, &archive, &options),
        Err(RestoreError::Plan(PlanError::Lacks { .. }))
    ));
    testing::run(&other.settings("postgres"), &format!("CREATE ROLE {role}"));
    restore(&other, &name, &archive, &options).unwrap();
}

#[test]
fn owners_are_needed_unless_they_are_left_out() {
    let cluster = testing::cluster();
    let role = testing::unique("owner");
    let source = testing::database(
        &cluster,
        &format!("CREATE ROLE {role}; CREATE TABLE t (id int); ALTER TABLE t OWNER TO {role}"),
    );
    let (archive, facts) = dump(&cluster, &source);
    let other = testing::other_cluster();
    let name = testing::unique("new");
    let mut options = RestoreOptions {
        facts: Some(facts),
        ..RestoreOptions::default()
    };
    let error = restore(&other, &name, &archive, &options).unwrap_err();
    assert!(
        matches!(error, RestoreError::Plan(PlanError::Lacks { .. })),
        "{error}"
    );
    options.no_owner = true;
    restore(&other, &name, &archive, &options).unwrap();
    let owner = "SELECT pg_get_userbyid(relowner) FROM pg_class WHERE relname = 't'";
    assert_eq!(testing::ask(&other.settings(&name), owner), "postgres");
}

#[test]
fn a_failure_half_way_drops_the_database_again_and_quotes_pg_restore() {
    let cluster = testing::cluster();
    let source = testing::database(
        &cluster,
        "CREATE TABLE t (id int); INSERT INTO t VALUES (1);
         CREATE FUNCTION bad(int) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT true';
         ALTER TABLE t ADD CONSTRAINT never CHECK (bad(id));
         CREATE OR REPLACE FUNCTION bad(int) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT false'",
    );
    let (archive, _) = dump(&cluster, &source);
    for jobs in [1, 2] {
        let name = testing::unique("half");
        let options = RestoreOptions {
            jobs,
            ..RestoreOptions::default()
        };
        let error = testing::chain(&restore(&cluster, &name, &archive, &options).unwrap_err());
        assert!(error.contains("was dropped again"), "{error}");
        assert!(error.contains("violates check constraint"), "{error}");
        assert!(!is_there(&cluster, &name) && !is_there(&cluster, &place(&name)));
    }
}

#[test]
fn a_locale_that_the_server_lacks_is_the_servers_own_word_and_makes_nothing() {
    let cluster = testing::cluster();
    let source = testing::database(&cluster, "CREATE TABLE t (id int)");
    let (archive, mut facts) = dump(&cluster, &source);
    facts.collate = "xx_YY.UTF-8".to_owned();
    let name = testing::unique("locale");
    let options = RestoreOptions {
        facts: Some(facts),
        ..RestoreOptions::default()
    };
    let error = restore(&cluster, &name, &archive, &options).unwrap_err();
    let said = testing::chain(&error);
    assert!(
        said.contains("invalid") && said.contains("locale name"),
        "{said}"
    );
    assert!(!is_there(&cluster, &name) && !is_there(&cluster, &place(&name)));
}

#[test]
fn chosen_tables_come_with_types_rows_keys_and_indexes_and_nothing_else() {
    let cluster = testing::cluster();
    let (source, _) = testing::shop(&cluster);
    let (archive, _) = dump(&cluster, &source);
    for jobs in [1, 2] {
        let name = testing::unique("some");
        let options = RestoreOptions {
            tables: vec!["shop.Order".to_owned(), "shop.log_old".to_owned()],
            jobs,
            ..RestoreOptions::default()
        };
        let report = restore(&cluster, &name, &archive, &options).unwrap();
        assert!(
            report
                .warnings
                .iter()
                .any(|warning| warning.contains("FK CONSTRAINT")),
            "{:?}",
            report.warnings
        );
        let restored = cluster.settings(&name);
        assert_eq!(
            testing::ask(&restored, "SELECT count(*) FROM shop.\"Order\""),
            "500"
        );
        assert_eq!(
            testing::ask(&restored, "SELECT nextval('shop.\"Order_id_seq\"')"),
            "501"
        );
        assert_eq!(
            testing::ask(
                &restored,
                "SELECT count(*) FROM pg_indexes WHERE schemaname = 'shop'"
            ),
            "2"
        );
        assert_ne!(
            testing::ask(&restored, "SELECT count(*) FROM shop.log_old"),
            "0"
        );
        assert_eq!(
            testing::ask(&restored, "SELECT to_regclass('shop.customer') IS NULL"),
            "t"
        );
    }
    let options = RestoreOptions {
        tables: vec!["shop.nobody".to_owned()],
        ..RestoreOptions::default()
    };
    let error = restore(&cluster, &testing::unique("some"), &archive, &options).unwrap_err();
    let RestoreError::Plan(PlanError::UnknownTable { wanted, there }) = &error else {
        panic!("{error}");
    };
    assert_eq!(wanted, "shop.nobody");
    assert!(
        there.iter().any(|table| table == "shop.log_old"),
        "{there:?}"
    );
}

#[test]
fn an_archive_of_a_newer_pg_dump_is_refused_with_the_package_to_install() {
    let cluster = testing::cluster();
    let source = testing::database(&cluster, "");
    let (mut archive, _) = dump(&cluster, &source);
    let ours = testing::programs(&cluster).version().to_string();
    let at = archive
        .windows(ours.len())
        .enumerate()
        .filter(|(_, window)| *window == ours.as_bytes())
        .map(|(at, _)| at)
        .nth(2) // twice in the server's version, then in the program's
        .unwrap();
    archive[at..at + 2].copy_from_slice(b"99");
    let error = restore(
        &cluster,
        &testing::unique("new"),
        &archive,
        &RestoreOptions::default(),
    )
    .unwrap_err();
    assert!(
        error.to_string().ends_with("install postgresql-client-99"),
        "{error}"
    );
}

/// By one job `pg_restore` itself waits for the server, by several its workers do, which are processes of their own.
#[test]
fn a_restore_that_is_stopped_ends_its_programs_and_leaves_no_database() {
    let cluster = testing::cluster();
    // Fast where it is made, and without an end where it is restored.
    let source = testing::database(
        &cluster,
        "CREATE TABLE big AS SELECT i, repeat('x', 1000) x FROM generate_series(1, 2000) i;
         CREATE FUNCTION slow() RETURNS int LANGUAGE plpgsql AS $$ BEGIN
           PERFORM pg_catalog.pg_sleep(CASE WHEN pg_catalog.current_database() LIKE 'stopped%' THEN 600 ELSE 0 END);
           RETURN 1; END $$;
         CREATE MATERIALIZED VIEW waits AS SELECT public.slow() AS one;
         CREATE TABLE a_checked (one int DEFAULT 1 CHECK (one = public.slow()));
         INSERT INTO a_checked DEFAULT VALUES",
    );
    let (archive, _) = dump(&cluster, &source);
    for jobs in [1, 2] {
        let name = testing::unique("stopped");
        let options = RestoreOptions {
            jobs,
            ..RestoreOptions::default()
        };
        let stop = AtomicBool::new(false);
        let asked = std::thread::scope(|scope| {
            let watcher = scope.spawn(|| {
                let asleep = format!(
                    "SELECT count(*) FROM pg_stat_activity WHERE datname = '{}' AND wait_event = 'PgSleep'",
                    place(&name)
                );
                while testing::ask(&cluster.settings("postgres"), &asleep) == "0" {
                    std::thread::sleep(std::time::Duration::from_millis(20));
                }
                stop.store(true, Ordering::Relaxed);
                std::time::Instant::now()
            });
            let error = restore_archive(
                &cluster.settings("postgres"),
                &testing::programs(&cluster),
                &name,
                &mut &archive[..],
                &options,
                &stop,
                testing::runtime(),
            )
            .unwrap_err();
            assert!(
                testing::chain(&error).contains("pg_restore was stopped"),
                "{}",
                testing::chain(&error)
            );
            watcher.join().unwrap()
        });
        // Less than the time after which a program is ended that did not obey.
        assert!(
            asked.elapsed() < std::time::Duration::from_secs(4),
            "{jobs} jobs"
        );
        assert!(
            !is_there(&cluster, &name) && !is_there(&cluster, &place(&name)),
            "{jobs} jobs"
        );
    }
}

/// What the test below runs in a process of its own: a restore that waits for its end in the middle of the archive.
fn restore_until_killed(admin: &str, source: &str, name: &str) -> ! {
    let admin = crate::resolve::resolve(admin, &|_| None).unwrap();
    let connection = Connection::open(&admin, testing::runtime()).unwrap();
    let programs = Programs::find(connection.server_major().unwrap(), &|_| None).unwrap();
    let (archive, _) = dump_with(&admin.with_database(source), &programs);
    let half = &archive[..archive.len() / 2];
    /// Never comes to its end.
    struct Waiting;
    impl Read for Waiting {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            std::thread::sleep(std::time::Duration::from_secs(600));
            Ok(0)
        }
    }
    let ended = restore_archive(
        &admin,
        &programs,
        name,
        &mut half.chain(Waiting),
        &RestoreOptions::default(),
        &AtomicBool::new(false),
        testing::runtime(),
    );
    panic!("the restore ended by itself: {ended:?}");
}

#[test]
fn a_restore_that_is_killed_leaves_no_database_of_its_name_and_the_next_one_names_what_it_left() {
    const CHILD: [&str; 3] = ["ADMIN", "SOURCE", "NAME"];
    let variable = |name: &str| format!("LIFEBOAT_TEST_KILLED_{name}");
    if let [Ok(admin), Ok(source), Ok(name)] = CHILD.map(|name| std::env::var(variable(name))) {
        restore_until_killed(&admin, &source, &name);
    }
    let cluster = testing::cluster();
    let source = testing::database(
        &cluster,
        "CREATE TABLE t AS SELECT i, repeat('x', 200) FROM generate_series(1, 20000) i",
    );
    let (admin, name) = (cluster.settings("postgres"), testing::unique("killed"));
    let server = format!(
        "host={} port={} user={} dbname=postgres",
        admin.host, admin.port, admin.user
    );
    let values = [server, source.database().to_owned(), name.clone()];
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture", "restore::tests::a_restore_that_is_killed_leaves_no_database_of_its_name_and_the_next_one_names_what_it_left"])
        .envs(CHILD.map(variable).into_iter().zip(values))
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let copies = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = '{}' AND query ~ '^COPY'",
        place(&name)
    );
    while testing::ask(&admin, &copies) == "0" {
        assert_eq!(child.try_wait().unwrap(), None, "it ended by itself");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let grants = format!(
        "SELECT has_database_privilege('pg_monitor', '{}', 'CONNECT')",
        place(&name)
    );
    assert_eq!(testing::ask(&admin, &grants), "f", "others are kept out");
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!is_there(&cluster, &name) && is_there(&cluster, &place(&name)));
    let (archive, _) = dump(&cluster, &source);
    let again = || restore(&cluster, &name, &archive, &RestoreOptions::default());
    let Err(RestoreError::Plan(PlanError::Refused(findings))) = again() else {
        panic!("it is refused");
    };
    assert!(findings[0].sentence.contains("was cut off"));
    while testing::ask(&admin, &copies) != "0" {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    testing::run(&admin, findings[0].mend.as_ref().unwrap());
    again().unwrap();
    assert!(is_there(&cluster, &name) && !is_there(&cluster, &place(&name)));
    assert_eq!(
        testing::ask(&cluster.settings(&name), "SELECT count(*) FROM t"),
        "20000"
    );
}
