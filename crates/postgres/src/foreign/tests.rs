//! Foreign dumps into a real server: what comes back is what was dumped, and what fails leaves nothing.

use std::{
    cell::Cell,
    sync::{Arc, atomic::Ordering},
};

use super::*;
use crate::{
    child,
    cluster::Cluster,
    testing::{self, chain},
};

static GO_ON: AtomicBool = AtomicBool::new(false);

fn no_environment(_: &str) -> Option<std::ffi::OsString> {
    None
}

/// A role that may create databases and nothing else.
fn plain_role(cluster: &Cluster) -> Settings {
    let role = testing::unique("restorer");
    let admin = cluster.settings("postgres");
    testing::run(&admin, &format!("CREATE ROLE {role} LOGIN CREATEDB"));
    Settings {
        user: role,
        ..admin
    }
}

fn job<'a>(admin: &'a Settings, database: &'a str) -> ForeignRestore<'a> {
    ForeignRestore {
        admin,
        database,
        environment: &no_environment,
        no_owner: false,
        no_acl: false,
        jobs: 1,
        as_superuser: false,
        stop: &GO_ON,
    }
}

fn restore(restore: &ForeignRestore<'_>, dump: &[u8]) -> Result<ForeignReport, ForeignError> {
    restore_foreign(
        restore,
        &|| Ok(Box::new(Cursor::new(dump.to_vec()))),
        testing::runtime(),
    )
}

/// The databases of a server that a restore has made or left.
fn databases(cluster: &Cluster, name: &str) -> String {
    let sql = format!(
        "SELECT count(*) FROM pg_database WHERE starts_with(datname, {})",
        quote::literal(name)
    );
    testing::ask(&cluster.settings("postgres"), &sql)
}

fn dump(cluster: &Cluster, settings: &Settings, arguments: &[&str]) -> Vec<u8> {
    let mut command = child::command(
        &testing::programs(cluster).program("pg_dump"),
        Some(settings),
    );
    command.arg("--no-password").args(arguments);
    child::output(command).unwrap().0
}

/// Fails where what was restored does not dump as what was given. The order of lines does not count: an enum's values go
/// to other partitions in another database.
fn same(cluster: &Cluster, name: &str, source: &Settings) {
    let programs = testing::programs(cluster);
    let lines = |settings: &Settings| {
        let dump = testing::plain_dump(&programs, settings);
        let mut lines: Vec<String> = dump.lines().map(ToOwned::to_owned).collect();
        lines.sort();
        lines
    };
    for (found, expected) in lines(&cluster.settings(name)).iter().zip(&lines(source)) {
        assert_eq!(found, expected);
    }
    assert_eq!(lines(&cluster.settings(name)).len(), lines(source).len());
}

fn cluster() -> Arc<Cluster> {
    testing::cluster()
}

#[test]
fn a_plain_dump_with_every_kind_of_object_comes_back_the_same() {
    let cluster = cluster();
    let source = testing::everything(&cluster);
    let admin = cluster.settings("postgres");
    for arguments in [
        &[][..],
        &["--rows-per-insert=7"],
        &["--clean", "--if-exists"],
    ] {
        let name = testing::unique("foreign");
        let wish = ForeignRestore {
            as_superuser: true,
            ..job(&admin, &name)
        };
        let report = restore(&wish, &dump(&cluster, &source, arguments)).unwrap();
        assert_eq!(report.database, name);
        let [locale] = &report.warnings[..] else {
            panic!("{arguments:?}: {:?}", report.warnings);
        };
        let there = "SELECT concat_ws(', ', pg_encoding_to_char(encoding), datcollate) FROM pg_database WHERE datname = current_database()";
        let there = testing::ask(&cluster.settings(&name), there);
        assert!(
            locale.contains(&format!("this server's own ({there})")),
            "{locale}"
        );
        same(&cluster, &name, &source);
        let ForeignContent::Script { rows, .. } = report.content else {
            panic!("it is a script");
        };
        assert_eq!(rows == 0, arguments == ["--rows-per-insert=7"]);
    }
}

#[test]
fn a_plain_role_restores_what_it_may_own_and_an_archive_too() {
    let cluster = cluster();
    let (source, _) = testing::shop(&cluster);
    let admin = plain_role(&cluster);
    for format in ["--format=plain", "--format=custom"] {
        let name = testing::unique("foreign");
        let dump = dump(&cluster, &source, &[format]);
        let owned = restore(&job(&admin, &name), &dump).unwrap_err();
        let said = chain(&owned).to_lowercase();
        assert!(said.contains("role"), "{said}");
        assert_eq!(databases(&cluster, &name), "0");

        let wish = ForeignRestore {
            no_owner: true,
            no_acl: true,
            ..job(&admin, &name)
        };
        let report = restore(&wish, &dump).unwrap();
        assert_eq!(databases(&cluster, &name), "1");
        let archive = matches!(report.content, ForeignContent::Archive(_));
        assert_eq!(archive, format == "--format=custom");
        let count =
            "SELECT count(*) || ' ' || (SELECT count(*) FROM shop.customer) FROM shop.\"Order\"";
        assert_eq!(testing::ask(&cluster.settings(&name), count), "500 50");
        let owner = "SELECT pg_get_userbyid(relowner) FROM pg_class WHERE relname = 'customer'";
        assert_eq!(testing::ask(&cluster.settings(&name), owner), admin.user);
    }
}

#[test]
fn a_role_with_too_many_rights_is_refused_for_every_kind_of_dump() {
    let cluster = cluster();
    let source = testing::database(&cluster, "CREATE TABLE t (id int)");
    let superuser = cluster.settings("postgres");
    let [member, maker, files] = [(); 3].map(|()| plain_role(&cluster));
    testing::run(
        &superuser,
        &format!(
            "GRANT {} TO {}; ALTER ROLE {} CREATEROLE; GRANT pg_execute_server_program TO {}; ALTER ROLE {} NOINHERIT",
            superuser.user, member.user, maker.user, files.user, member.user
        ),
    );
    let makes_roles = cluster.version().major < 16;
    for format in ["--format=plain", "--format=custom"] {
        let dump = dump(&cluster, &source, &[format, "--no-owner"]);
        for (role, words) in [
            (&superuser, "is a superuser"),
            (&member, "is a member of"),
            (&files, "is a member of \"pg_execute_server_program\""),
            (&maker, "may make roles"),
        ] {
            if role.user == maker.user && !makes_roles {
                continue;
            }
            let name = testing::unique("foreign");
            let error = restore(&job(role, &name), &dump).unwrap_err();
            assert!(matches!(error, ForeignError::Powerful { .. }), "{error}");
            assert!(error.to_string().contains(words), "{error}");
            assert_eq!(databases(&cluster, &name), "0");
        }
    }
}

#[test]
fn whatever_fails_leaves_no_database() {
    let cluster = cluster();
    let admin = plain_role(&cluster);
    let name = testing::unique("foreign");
    let rows = "CREATE TABLE t (id int UNIQUE DEFERRABLE INITIALLY DEFERRED);\nCOPY t FROM stdin;\n1\n2\n\\.\n";
    for (more, words) in [
        (
            "SELECT 1/0;",
            "cannot run line 6 of the dump: division by zero",
        ),
        ("COPY t FROM stdin;\n3\nx\n\\.\n", "invalid input syntax"),
        ("COPY t FROM stdin;\n1\n\\.\n", "duplicate key"),
        ("COPY t FROM stdin;\n3\n", "cut off"),
        ("INSERT INTO t VALUES (3)", "cut off"),
        ("DO 'BEGIN COMMIT; END';", "invalid transaction termination"),
        ("CREATE DATABASE more;", "line 6 has CREATE DATABASE"),
        ("\\! touch /tmp/pwned\n", "psql command \\!"),
        ("COPY t TO PROGRAM 'id';", "line 6 has COPY"),
        ("ROLLBACK;", "line 6 has ROLLBACK"),
        (
            "SELECT pg_terminate_backend(pg_backend_pid());",
            "terminating connection",
        ),
        (
            "ALTER TABLE t OWNER TO nobody_here;",
            "lacks the role \"nobody_here\"",
        ),
        (
            "CREATE EXTENSION no_such_thing;",
            "lacks the extension \"no_such_thing\"",
        ),
        (
            "CREATE FUNCTION skip() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';\n\
             CREATE TRIGGER skip BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION skip();\n\
             COPY t FROM stdin;\n7\n\\.\n",
            "has 1 rows, and the server kept 0",
        ),
        ("INSERT INTO t VALUES ('\u{0}');", "neither text nor"),
    ] {
        let error = restore(&job(&admin, &name), format!("{rows}{more}").as_bytes()).unwrap_err();
        assert!(chain(&error).contains(words), "{}", chain(&error));
        assert_eq!(databases(&cluster, &name), "0", "{more}");
    }
    for (dump, words) in [
        (&b""[..], "this is empty"),
        (b"-- nothing\n", "this is empty"),
        (b"-- MySQL dump 10.13\n", "a dump of MySQL"),
        (b"\xff\xfeS\0", "iconv"),
        (b"PGDMP\x01\x0e", "cut off"),
    ] {
        let error = restore(&job(&admin, &name), dump).unwrap_err();
        assert!(chain(&error).contains(words), "{}", chain(&error));
        assert_eq!(databases(&cluster, &name), "0");
    }
    testing::run(&admin, &format!("CREATE DATABASE {name}"));
    let error = restore(&job(&admin, &name), rows.as_bytes()).unwrap_err();
    assert!(error.to_string().contains("exists already"), "{error}");
    assert_eq!(databases(&cluster, &name), "1");
}

#[test]
fn a_dump_that_changes_or_fails_between_its_two_readings_is_judged_again() {
    let cluster = cluster();
    let admin = plain_role(&cluster);
    let name = testing::unique("foreign");
    struct Failing;
    impl Read for Failing {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("the disk is gone"))
        }
    }
    let good = "CREATE TABLE t (id int);\n";
    for (second, words) in [
        ("\\! id\n", "psql command"),
        ("DROP DATABASE shop;\n", "DROP DATABASE"),
        ("", "the disk is gone"),
    ] {
        let readings = Cell::new(0);
        let open = || -> io::Result<Box<dyn Read>> {
            readings.set(readings.get() + 1);
            let first = Cursor::new(good.as_bytes());
            Ok(match (readings.get(), second) {
                (1, _) => Box::new(first),
                (_, "") => Box::new(first.chain(Failing)),
                (_, second) => Box::new(first.chain(second.as_bytes())),
            })
        };
        let error = restore_foreign(&job(&admin, &name), &open, testing::runtime()).unwrap_err();
        assert!(chain(&error).contains(words), "{}", chain(&error));
        assert_eq!(databases(&cluster, &name), "0");
    }
}

#[test]
fn a_stop_or_a_server_that_is_gone_in_the_middle_is_no_restored_database() {
    let cluster = cluster();
    let admin = plain_role(&cluster);
    let name = testing::unique("foreign");
    let stop = AtomicBool::new(false);
    let error = std::thread::scope(|scope| {
        let restoring = scope.spawn(|| {
            let wish = ForeignRestore {
                stop: &stop,
                ..job(&admin, &name)
            };
            restore(&wish, b"CREATE TABLE t ();\nSELECT pg_sleep(600);\n")
        });
        let asleep =
            "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep(600)%'";
        while testing::ask(&cluster.settings("postgres"), asleep) == "0" {
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        stop.store(true, Ordering::Relaxed);
        restoring.join().unwrap().unwrap_err()
    });
    assert!(chain(&error).contains("asked to stop"), "{}", chain(&error));
    assert_eq!(databases(&cluster, &name), "0");

    let own = testing::own_cluster(&crate::cluster::ClusterOptions::default());
    let admin = plain_role(&own);
    let own = Cell::new(Some(own));
    let readings = Cell::new(0);
    let open = || -> io::Result<Box<dyn Read>> {
        readings.set(readings.get() + 1);
        if readings.get() == 2 {
            // Stopped at once, with all its sessions.
            drop(own.take());
        }
        Ok(Box::new("CREATE TABLE t ();\n".as_bytes()))
    };
    let error = restore_foreign(&job(&admin, &name), &open, testing::runtime()).unwrap_err();
    assert!(
        chain(&error).contains("dropped by hand"),
        "{}",
        chain(&error)
    );
}

#[test]
fn text_in_another_encoding_arrives_as_it_was() {
    let cluster = cluster();
    let latin = testing::latin_database(&cluster);
    testing::run(
        &latin,
        "CREATE TABLE \"Bücher\" (id int, titel text DEFAULT 'ü');
         INSERT INTO \"Bücher\" VALUES (1, 'Größe'), (2, E'\\t\\\\ñ');
         COMMENT ON TABLE \"Bücher\" IS 'schön'",
    );
    let admin = plain_role(&cluster);
    for arguments in [&["--no-owner"][..], &["--no-owner", "--inserts"]] {
        let dump = dump(&cluster, &latin, arguments);
        assert!(std::str::from_utf8(&dump).is_err(), "it is in LATIN1");
        let name = testing::unique("foreign");
        restore(&job(&admin, &name), &dump).unwrap();
        let settings = cluster.settings(&name);
        let told = "SELECT string_agg(titel, '|' ORDER BY id) || obj_description('\"Bücher\"'::regclass) FROM \"Bücher\"";
        assert_eq!(testing::ask(&settings, told), "Größe|\t\\ñschön");

        let undeclared: Vec<u8> = dump
            .split_inclusive(|byte| *byte == b'\n')
            .filter(|line| !line.starts_with(b"SET client_encoding"))
            .flatten()
            .copied()
            .collect();
        let error = restore(&job(&admin, &testing::unique("foreign")), &undeclared).unwrap_err();
        assert!(chain(&error).contains("not in UTF-8"), "{}", chain(&error));
    }
}

#[test]
fn what_is_about_the_old_database_or_the_session_is_left_out_and_told() {
    let cluster = cluster();
    let admin = plain_role(&cluster);
    let name = testing::unique("foreign");
    let dump = "SET transaction_timeout = 0;\nCOMMENT ON DATABASE postgres IS 'changed';\nREVOKE ALL ON DATABASE postgres FROM PUBLIC;\n\
                CREATE SCHEMA public;\nCOMMENT ON EXTENSION plpgsql IS 'x';\nBEGIN;\nCREATE TABLE t (id int);\nCOMMIT;\n\
                INSERT INTO t VALUES (1);\n";
    let report = restore(&job(&admin, &name), dump.as_bytes()).unwrap();
    assert_eq!(report.warnings.len(), 3, "{:?}", report.warnings);
    assert!(report.warnings[0].contains("does not say where it ends"));
    assert!(report.warnings[1].contains("which encoding and locale"));
    assert!(report.warnings[2].contains("about the database that was dumped"));
    assert_eq!(
        testing::ask(&cluster.settings(&name), "SELECT count(*) FROM t"),
        "1"
    );
    // Others may enter it now, and nothing has its other name.
    let others = "SELECT has_database_privilege('public', current_database(), 'CONNECT')::text";
    assert_eq!(testing::ask(&cluster.settings(&name), others), "true");
    assert_eq!(databases(&cluster, &name), "1");
}
