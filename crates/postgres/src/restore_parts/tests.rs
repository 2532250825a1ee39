//! Databases put together from their parts: equal to their source, or not there at all.

use std::{
    collections::HashMap,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use super::*;
use crate::{
    cluster::Cluster,
    plan::RestoreOptions,
    source::Wanted,
    testing::{self, Backup},
};

/// Makes something of a backup wrong.
type Spoil = fn(&mut Backup);

fn job<'a>(
    admin: &'a Settings,
    programs: &'a crate::programs::Programs,
    database: &'a str,
    backup: &'a Backup,
    options: &'a RestoreOptions,
) -> PartsRestore<'a> {
    static GO_ON: AtomicBool = AtomicBool::new(false);
    PartsRestore {
        admin,
        programs,
        database,
        parts: &backup.parts,
        hash_key: Some(&testing::KEY),
        options,
        stop: &GO_ON,
    }
}

fn restore(
    cluster: &Cluster,
    name: &str,
    backup: &Backup,
    options: &RestoreOptions,
) -> Result<PartsReport, RestoreError> {
    let (admin, programs) = (cluster.settings("postgres"), testing::programs(cluster));
    restore_parts(
        &job(&admin, &programs, name, backup, options),
        &mut &backup.schema[..],
        &|wanted, into| backup.write(wanted, into),
        testing::runtime(),
    )
}

fn plan(
    cluster: &Cluster,
    name: &str,
    backup: &Backup,
    options: &RestoreOptions,
) -> Result<RestorePlan, RestoreError> {
    let (admin, programs) = (cluster.settings("postgres"), testing::programs(cluster));
    plan_parts(
        &job(&admin, &programs, name, backup, options),
        &mut &backup.schema[..],
        testing::runtime(),
    )
}

fn is_there(cluster: &Cluster, name: &str) -> bool {
    let sql = format!("SELECT count(*) FROM pg_database WHERE datname = '{name}'");
    testing::ask(&cluster.settings("postgres"), &sql) == "1"
}

/// A database with all that is known to be difficult.
fn source(cluster: &Cluster) -> (Settings, String) {
    let (settings, role) = testing::shop(cluster);
    testing::run(&settings, testing::MORE);
    (settings, role)
}

/// The options of a restore of all of `backup`.
fn all(backup: &Backup, jobs: u32) -> RestoreOptions {
    RestoreOptions {
        facts: Some(backup.facts.clone()),
        extensions: backup.extensions.clone(),
        jobs,
        ..RestoreOptions::default()
    }
}

#[test]
fn every_kind_of_object_comes_back_equal_by_one_job_and_by_several() {
    let cluster = testing::cluster();
    let (source, role) = source(&cluster);
    let name = source.database();
    for sql in [
        format!("ALTER DATABASE {name} SET work_mem = '7MB'"),
        format!("GRANT CREATE ON DATABASE {name} TO {role}"),
    ] {
        testing::run(&source, &sql);
    }
    let backup = Backup::of(&testing::programs(&cluster), &source);
    let programs = testing::programs(&cluster);
    let expected = testing::plain_dump(&programs, &source);
    for jobs in [1, 3] {
        let name = testing::unique("whole");
        let options = all(&backup, jobs);
        let plan = plan(&cluster, &name, &backup, &options).unwrap();
        assert!(
            plan.refusals.is_empty() && plan.doubts.is_empty(),
            "{plan:?}"
        );
        assert!(plan.size_bytes > plan.len_bytes && plan.free_bytes.is_some());
        assert_eq!(plan.tables[0].path, "shop.plenty");
        let report = restore(&cluster, &name, &backup, &options).unwrap();
        assert_eq!(report.warnings, Vec::<String>::new());
        assert_eq!(report.tables, backup.parts.tables.len() as u64);
        let large_objects = testing::ask(&source, "SELECT count(*) FROM pg_largeobject_metadata");
        assert_eq!(report.large_objects.to_string(), large_objects);
        let verified = report.verified.unwrap();
        assert_eq!(
            (verified.tables, verified.rows, verified.len_bytes),
            (report.tables, report.rows, report.len_bytes)
        );
        assert_eq!(verified.sequences, report.sequences);
        let restored = cluster.settings(&name);
        assert_eq!(
            testing::plain_dump(&programs, &restored),
            expected,
            "{jobs} jobs"
        );
        assert_eq!(testing::ask(&restored, "SHOW work_mem"), "7MB");
        let connection = Connection::open(&restored, testing::runtime()).unwrap();
        let copy = catalog::database(&connection, cluster.version().major).unwrap();
        assert_eq!(copy.grants, backup.facts.grants);
        let analysed = "SELECT count(*) > 0 FROM pg_stats WHERE schemaname = 'shop'";
        assert_eq!(testing::ask(&restored, analysed), "t");
    }
}

#[test]
fn a_database_without_grants_of_its_own_lets_everybody_in_again_but_not_before_it_is_whole() {
    let cluster = testing::cluster();
    let role = testing::unique("guest");
    let source = testing::database(
        &cluster,
        &format!("CREATE ROLE {role} LOGIN; CREATE TABLE t (id int); INSERT INTO t VALUES (1)"),
    );
    let backup = Backup::of(&testing::programs(&cluster), &source);
    let name = testing::unique("shut");
    let (admin, programs) = (cluster.settings("postgres"), testing::programs(&cluster));
    let guest = Settings {
        user: role,
        ..cluster.settings(&place(&name))
    };
    let options = all(&backup, 1);
    restore_parts(
        &job(&admin, &programs, &name, &backup, &options),
        &mut &backup.schema[..],
        &|wanted, into| {
            let refused = Connection::open(&guest, testing::runtime()).err().unwrap();
            assert!(testing::chain(&refused).contains("permission denied"));
            backup.write(wanted, into)
        },
        testing::runtime(),
    )
    .unwrap();
    let guest = guest.with_database(&name);
    Connection::open(&guest, testing::runtime()).unwrap();
}

#[test]
fn rows_that_are_short_long_broken_or_unreadable_leave_no_database() {
    let cluster = testing::cluster();
    let source = testing::database(
        &cluster,
        "CREATE TABLE t AS SELECT i, repeat('x', 100) AS x FROM generate_series(1, 3000) i;
         CREATE TABLE u AS SELECT i FROM generate_series(1, 10) i",
    );
    let spoil: [(Spoil, &str); 5] = [
        (|it| it.rows("public.t").truncate(103), "3000 rows of"),
        (|it| it.rows("public.u").extend(b"11\n"), "10 rows of"),
        (
            |it| it.rows("public.t").splice(0..1, *b"x").for_each(drop),
            "invalid input syntax",
        ),
        (
            |it| it.table("public.u").columns[0] = "j".to_owned(),
            "does not exist",
        ),
        (
            |it| {
                it.parts.sequences.push(crate::parts::SequencePart {
                    schema: "public".to_owned(),
                    name: "none".to_owned(),
                    last_value: 1,
                    is_called: true,
                });
            },
            "does not exist",
        ),
    ];
    for (spoil, words) in spoil {
        let mut backup = Backup::of(&testing::programs(&cluster), &source);
        spoil(&mut backup);
        let name = testing::unique("spoilt");
        let error = restore(&cluster, &name, &backup, &all(&backup, 2)).unwrap_err();
        let text = testing::chain(&error);
        assert!(text.contains("was dropped again"), "{text}");
        assert!(text.contains(words), "{text}");
        assert!(!is_there(&cluster, &name) && !is_there(&cluster, &place(&name)));
    }
    let backup = Backup::of(&testing::programs(&cluster), &source);
    let name = testing::unique("spoilt");
    let (admin, programs) = (cluster.settings("postgres"), testing::programs(&cluster));
    let options = all(&backup, 2);
    let error = restore_parts(
        &job(&admin, &programs, &name, &backup, &options),
        &mut &backup.schema[..],
        &|wanted, into| match wanted {
            Wanted::Rows(table) if table.name == "u" => {
                into.write_all(b"1\n")?;
                Err(io::Error::other("the store is gone"))
            }
            _ => backup.write(wanted, into),
        },
        testing::runtime(),
    )
    .unwrap_err();
    let text = testing::chain(&error);
    assert!(
        text.contains("cannot read the rows of public.u: the store is gone"),
        "{text}"
    );
    assert!(!is_there(&cluster, &name));
}

#[test]
fn all_that_does_not_fit_is_in_the_plan_with_what_mends_it_and_nothing_is_made() {
    let cluster = testing::cluster();
    let (source, role) = source(&cluster);
    let mut backup = Backup::of(&testing::programs(&cluster), &source);
    let other = testing::other_cluster();
    backup.facts.collate = "xx_YY.UTF-8".to_owned();
    let citext = |extension: &&mut crate::facts::Extension| extension.name == "citext";
    let citext = backup.extensions.iter_mut().find(citext).unwrap();
    citext.version = "0.9".to_owned();
    // Wherever the name stands in the archive, so that its lengths still hold.
    let at = |backup: &Backup, name: &[u8]| -> Vec<usize> {
        let windows = backup.schema.windows(name.len()).enumerate();
        windows
            .filter(|(_, window)| *window == name)
            .map(|(at, _)| at)
            .collect()
    };
    for place in at(&backup, b"postgres_fdw") {
        backup.schema[place..place + 12].copy_from_slice(b"postgres_fdx");
    }
    let major = cluster.version().major;
    let server = at(&backup, format!("{major}.").as_bytes())[0];
    backup.schema[server..server + 2].copy_from_slice(b"99");
    let name = testing::unique("unfit");
    let options = all(&backup, 1);
    let plan = plan(&other, &name, &backup, &options).unwrap();
    let said = |findings: &[crate::preflight::Finding], words: &str, mend: &str| {
        assert!(
            findings
                .iter()
                .any(|finding| finding.sentence.contains(words)
                    && finding.mend.as_deref().unwrap_or_default().contains(mend)),
            "{words}: {findings:?}"
        );
    };
    said(
        &plan.refusals,
        &format!("The role {role} "),
        &format!("CREATE ROLE \"{role}\";"),
    );
    said(
        &plan.refusals,
        "the extension postgres_fdx",
        &format!("postgresql-{major}-postgres_fdx"),
    );
    said(&plan.refusals, "locale", "locale-gen xx_YY.UTF-8");
    assert_eq!(plan.refusals.len(), 3, "{:?}", plan.refusals);
    said(&plan.doubts, "citext in version 0.9", "");
    said(
        &plan.doubts,
        "comes from PostgreSQL 99",
        "PostgreSQL 99 or newer",
    );
    assert_eq!(plan.doubts.len(), 2, "{:?}", plan.doubts);
    let error = restore(&other, &name, &backup, &options).unwrap_err();
    assert!(
        matches!(error, RestoreError::Plan(PlanError::Refused(_))),
        "{error}"
    );
    assert!(!is_there(&other, &name));
    let collations = "SELECT count(*) FROM pg_collation WHERE collname LIKE 'lifeboat%'";
    assert_eq!(testing::ask(&other.settings("postgres"), collations), "0");
}

#[test]
fn chosen_tables_come_with_types_rows_keys_and_sequences_and_only_their_rows_are_read() {
    let cluster = testing::cluster();
    let (source, _) = source(&cluster);
    let backup = Backup::of(&testing::programs(&cluster), &source);
    let (admin, programs) = (cluster.settings("postgres"), testing::programs(&cluster));
    let name = testing::unique("some");
    let options = RestoreOptions {
        tables: ["shop.Order", "shop.log", "shop.bird"]
            .map(ToOwned::to_owned)
            .to_vec(),
        ..all(&backup, 2)
    };
    let read = std::sync::Mutex::new(Vec::new());
    let report = restore_parts(
        &job(&admin, &programs, &name, &backup, &options),
        &mut &backup.schema[..],
        &|wanted, into| {
            if let Wanted::Rows(table) = wanted {
                read.lock().unwrap().push(table.path());
            }
            backup.write(wanted, into)
        },
        testing::runtime(),
    )
    .unwrap();
    let mut read = read.into_inner().unwrap();
    read.sort();
    assert_eq!(
        read,
        ["shop.Order", "shop.bird", "shop.log_old", "shop.log_rest"]
    );
    assert!(
        report.warnings[1].contains("FK CONSTRAINT"),
        "{:?}",
        report.warnings
    );
    let restored = cluster.settings(&name);
    for (sql, answer) in [
        ("SELECT count(*) FROM shop.\"Order\"", "500"),
        ("SELECT nextval('shop.\"Order_id_seq\"')", "501"),
        ("SELECT count(*) FROM shop.log", "400"),
        // The parent is there, for the child cannot be without it, and has only the child's row.
        ("SELECT string_agg(name, ',') FROM shop.animal", "crow"),
        (
            "SELECT count(*) FROM pg_indexes WHERE schemaname = 'shop'",
            "2",
        ),
        ("SELECT to_regclass('shop.customer') IS NULL", "t"),
        ("SELECT count(*) FROM pg_largeobject_metadata", "0"),
    ] {
        assert_eq!(testing::ask(&restored, sql), answer, "{sql}");
    }
}

#[test]
fn rows_that_the_backup_left_out_are_told_and_the_table_is_empty() {
    let cluster = testing::cluster();
    let source = testing::database(&cluster, "CREATE TABLE t AS SELECT 1 AS one");
    let mut backup = Backup::of(&testing::programs(&cluster), &source);
    backup.table("public.t").digest = None;
    let name = testing::unique("empty");
    let report = restore(&cluster, &name, &backup, &all(&backup, 1)).unwrap();
    assert_eq!(
        report.warnings,
        ["public.t is empty: the backup has left its rows out."]
    );
    assert_eq!(
        testing::ask(&cluster.settings(&name), "SELECT count(*) FROM t"),
        "0"
    );
}

/// In the rows (a check that sleeps), in the second half (a view that does) and while the source gives nothing.
#[test]
fn a_restore_that_is_stopped_ends_soon_and_leaves_no_database() {
    let cluster = testing::cluster();
    let slow = "CREATE FUNCTION slow() RETURNS int LANGUAGE plpgsql AS $$ BEGIN
           PERFORM pg_catalog.pg_sleep(CASE WHEN pg_catalog.current_database() LIKE 'halted%' THEN 600 ELSE 0 END);
           RETURN 1; END $$;";
    for what in [
        "CREATE TABLE a_checked (one int DEFAULT 1 CHECK (one = public.slow())); INSERT INTO a_checked DEFAULT VALUES",
        "CREATE MATERIALIZED VIEW waits AS SELECT public.slow() AS one; CREATE TABLE t AS SELECT 1 AS one",
    ] {
        let source = testing::database(&cluster, &format!("{slow} {what}"));
        let backup = Backup::of(&testing::programs(&cluster), &source);
        let (admin, programs) = (cluster.settings("postgres"), testing::programs(&cluster));
        let name = testing::unique("halted");
        let options = all(&backup, 2);
        let stop = AtomicBool::new(false);
        let asked = thread::scope(|scope| {
            let watcher = scope.spawn(|| {
                let asleep = format!(
                    "SELECT count(*) FROM pg_stat_activity WHERE datname = '{}' AND wait_event = 'PgSleep'",
                    place(&name)
                );
                while testing::ask(&admin, &asleep) == "0" {
                    thread::sleep(Duration::from_millis(20));
                }
                stop.store(true, Ordering::Relaxed);
                Instant::now()
            });
            let restore = PartsRestore {
                stop: &stop,
                ..job(&admin, &programs, &name, &backup, &options)
            };
            let error = restore_parts(
                &restore,
                &mut &backup.schema[..],
                &|wanted, into| backup.write(wanted, into),
                testing::runtime(),
            )
            .unwrap_err();
            let text = testing::chain(&error);
            assert!(
                text.contains("stop") && text.contains("was dropped again"),
                "{text}"
            );
            watcher.join().unwrap()
        });
        assert!(asked.elapsed() < Duration::from_secs(4), "{what}");
        assert!(!is_there(&cluster, &name));
    }
}

#[test]
fn tables_whose_names_look_alike_where_a_dot_is_in_them_are_not_taken_for_each_other() {
    let cluster = testing::cluster();
    let source = testing::database(&cluster, testing::ALIKE);
    let backup = Backup::of(&testing::programs(&cluster), &source);
    let name = testing::unique("alike");
    restore(&cluster, &name, &backup, &all(&backup, 2)).unwrap();
    let programs = testing::programs(&cluster);
    assert_eq!(
        testing::plain_dump(&programs, &cluster.settings(&name)),
        testing::plain_dump(&programs, &source)
    );
}

#[test]
fn an_extensions_configuration_gets_the_backups_rows_in_place_of_those_it_is_made_with() {
    let cluster = testing::cluster();
    let sql =
        "CREATE TABLE config (id int PRIMARY KEY, mine boolean, parent int REFERENCES config);
               INSERT INTO config VALUES (1, false, NULL), (2, true, 1), (3, true, 2)";
    let source = testing::database(
        &cluster,
        "CREATE TABLE config AS SELECT 3 AS id, true AS mine, 1 AS parent",
    );
    let mut backup = Backup::of(&testing::programs(&cluster), &source);
    backup.table("public.config").condition = Some("WHERE mine".to_owned());
    let target = testing::database(&cluster, sql);
    let load = Load {
        tables: backup.parts.tables.iter().collect(),
        of_extensions: ["\"public\".\"config\"".to_owned()].into(),
        through_root: HashMap::new(),
        large_objects: &[],
        sequences: Vec::new(),
        encoding: "UTF8".to_owned(),
        superuser: true,
        jobs: 1,
    };
    load.run(
        &target,
        &|wanted, into| backup.write(wanted, into),
        &AtomicBool::new(false),
        testing::runtime(),
    )
    .unwrap();
    let rows = "SELECT string_agg(id || ' ' || coalesce(parent, 0), ', ' ORDER BY id) FROM config";
    assert_eq!(testing::ask(&target, rows), "1 0, 3 1");
}

#[test]
fn rows_below_a_hash_come_back_and_count_together() {
    let cluster = testing::cluster();
    let source = testing::everything(&cluster);
    let backup = Backup::of(&testing::programs(&cluster), &source);
    let name = testing::unique("hashed");
    let report = restore(&cluster, &name, &backup, &all(&backup, 2)).unwrap();
    assert_eq!(report.warnings, Vec::<String>::new());
    let restored = cluster.settings(&name);
    let programs = testing::programs(&cluster);
    let rows = "SELECT string_agg(h::text, ' ' ORDER BY x) FROM hashed h";
    assert_eq!(testing::ask(&restored, rows), "(sad,1) (it's,2) (glad,3)");
    // Which partition an enum's value goes to is not the database's to keep; all else is.
    for database in [&source, &restored] {
        testing::run(database, "TRUNCATE hashed");
    }
    assert_eq!(
        testing::plain_dump(&programs, &restored),
        testing::plain_dump(&programs, &source)
    );
}

#[test]
fn a_role_that_policies_hold_for_restores_and_verifies_what_it_owns() {
    let cluster = testing::cluster();
    let role = testing::unique("owner");
    let source = testing::database(
        &cluster,
        &format!(
            "CREATE ROLE {role} LOGIN CREATEDB; CREATE TABLE t AS SELECT i FROM generate_series(1, 9) i;
             ALTER TABLE t OWNER TO {role}; ALTER TABLE t ENABLE ROW LEVEL SECURITY;
             ALTER TABLE t FORCE ROW LEVEL SECURITY; CREATE POLICY few ON t USING (i < 3)"
        ),
    );
    let backup = Backup::of(&testing::programs(&cluster), &source);
    let (mut admin, programs) = (cluster.settings("postgres"), testing::programs(&cluster));
    admin.user = role;
    // With two sessions, rows are read while policies come into force.
    for jobs in [1, 2] {
        let name = testing::unique("policed");
        let options = RestoreOptions {
            no_owner: true,
            no_acl: true,
            ..all(&backup, jobs)
        };
        let report = restore_parts(
            &job(&admin, &programs, &name, &backup, &options),
            &mut &backup.schema[..],
            &|wanted, into| backup.write(wanted, into),
            testing::runtime(),
        )
        .unwrap();
        assert_eq!(report.verified.map(|verified| verified.rows), Some(9));
        let forced = "SELECT relforcerowsecurity FROM pg_class WHERE relname = 't'";
        assert_eq!(testing::ask(&cluster.settings(&name), forced), "t");
    }
}

#[test]
fn rows_that_come_when_a_view_is_filled_again_are_found() {
    let cluster = testing::cluster();
    let source = testing::database(
        &cluster,
        "CREATE TABLE t (i int);
         CREATE FUNCTION grow() RETURNS int LANGUAGE plpgsql AS
         'BEGIN INSERT INTO public.t VALUES (1); RETURN 1; END';
         CREATE MATERIALIZED VIEW m AS SELECT public.grow() AS one",
    );
    let backup = Backup::of(&testing::programs(&cluster), &source);
    let name = testing::unique("grown");
    let error = restore(&cluster, &name, &backup, &all(&backup, 2)).unwrap_err();
    let text = testing::chain(&error);
    assert!(
        text.contains(
            "the rows of public.t: 1 rows of 2 bytes in the backup, 2 rows of 4 bytes here"
        ),
        "{text}"
    );
}

#[test]
fn who_makes_keys_and_indexes_is_told_what_they_cost_but_not_what_the_owners_wrote() {
    let cluster = testing::cluster();
    let told = "SELECT current_setting('random_page_cost') || ' ' || current_setting('cpu_index_tuple_cost') AS told";
    let view = format!("CREATE MATERIALIZED VIEW m AS {told}");
    let source = testing::database(&cluster, &view);
    let backup = Backup::of(&testing::programs(&cluster), &source);
    let name = testing::unique("told");
    restore(&cluster, &name, &backup, &all(&backup, 2)).unwrap();
    let found = testing::ask(&cluster.settings(&name), "SELECT told FROM m");
    assert_eq!(found, "4 0.005");

    let after = |jobs| After {
        major: 14,
        runs_code: false,
        beside: true,
        jobs,
        largest_of: (5, 10),
    };
    let remote = Settings {
        host: Host::Tcp("db.internal".to_owned()),
        ..source.clone()
    };
    let many = 1 << 20;
    let costs = "-c random_page_cost=1 -c cpu_index_tuple_cost=0.001";
    let alone = "-c max_parallel_maintenance_workers=0";
    for (settings, after, told, is_alone) in [
        (&source, after(many), true, true),
        (
            &source,
            After {
                beside: false,
                ..after(many)
            },
            true,
            false,
        ),
        (
            &source,
            After {
                largest_of: (6, 10),
                ..after(many)
            },
            true,
            false,
        ),
        (&source, after(0), true, false),
        (
            &source,
            After {
                major: 13,
                ..after(many)
            },
            false,
            true,
        ),
        (
            &source,
            After {
                runs_code: true,
                beside: false,
                ..after(many)
            },
            false,
            false,
        ),
        (&remote, after(many), true, false),
    ] {
        let more = after.workers(settings) - after.jobs;
        assert_eq!(more, u32::from(is_alone), "one more for the helpers");
        let options = after.settings(settings).options.unwrap_or_default();
        assert_eq!(options.contains(costs), told, "{options}");
        assert_eq!(options.ends_with(alone), is_alone, "{options}");
    }
}

#[test]
fn what_is_as_much_as_it_was_and_another_content_is_found_and_dropped() {
    let cluster = testing::cluster();
    let source = testing::database(
        &cluster,
        "CREATE TABLE t AS SELECT i, 'text' AS x FROM generate_series(1, 100) i; SELECT lo_from_bytea(77, 'large')",
    );
    let spoil: [(Spoil, &str); 2] = [
        (
            |it| it.rows("public.t").splice(0..1, *b"7").for_each(drop),
            "the rows of public.t: 100 rows of 792 bytes in the backup, as many with another content here",
        ),
        (
            |it| it.parts.large_objects[0].hash[31] ^= 1,
            "the large object 77: 5 bytes in the backup, as many with another content here",
        ),
    ];
    for (spoil, words) in spoil {
        let mut backup = Backup::of(&testing::programs(&cluster), &source);
        spoil(&mut backup);
        let name = testing::unique("other");
        let error = restore(&cluster, &name, &backup, &all(&backup, 2)).unwrap_err();
        let text = testing::chain(&error);
        assert!(
            text.contains(words) && text.contains("was dropped again"),
            "{text}"
        );
        assert!(!is_there(&cluster, &name) && !is_there(&cluster, &place(&name)));
    }
}

#[test]
fn who_watches_over_all_databases_does_not_keep_the_new_one_from_its_name() {
    let cluster = testing::cluster();
    let source = testing::database(&cluster, "CREATE TABLE t AS SELECT 1 AS one");
    let backup = Backup::of(&testing::programs(&cluster), &source);
    let name = testing::unique("watched");
    let (admin, programs) = (cluster.settings("postgres"), testing::programs(&cluster));
    let options = all(&backup, 1);
    let watcher = std::sync::Mutex::new(None);
    restore_parts(
        &job(&admin, &programs, &name, &backup, &options),
        &mut &backup.schema[..],
        &|wanted, into| {
            let inside = Connection::open(&admin.with_database(&place(&name)), testing::runtime());
            *watcher.lock().unwrap() = Some(inside.unwrap());
            backup.write(wanted, into)
        },
        testing::runtime(),
    )
    .unwrap();
    let watcher = watcher.into_inner().unwrap().unwrap();
    assert!(
        watcher.execute("look", "SELECT 1").is_err(),
        "it was sent away"
    );
    assert_eq!(
        testing::ask(&cluster.settings(&name), "SELECT one FROM t"),
        "1"
    );
}

#[test]
fn a_database_that_is_not_in_utf_8_comes_back_with_its_letters() {
    let cluster = testing::cluster();
    let source = testing::latin_database(&cluster);
    testing::run(
        &source,
        "CREATE TABLE \"bücher\" AS SELECT 'größe' AS x, i FROM generate_series(1, 50) i; COMMENT ON TABLE \"bücher\" IS 'schön'",
    );
    let programs = testing::programs(&cluster);
    let backup = Backup::of(&programs, &source);
    assert!(std::str::from_utf8(&backup.schema).is_err());
    let name = testing::unique("latin");
    let report = restore(&cluster, &name, &backup, &all(&backup, 2)).unwrap();
    assert!(report.verified.unwrap().rows >= 50);
    let restored = cluster.settings(&name);
    assert_eq!(
        testing::plain_dump(&programs, &restored),
        testing::plain_dump(&programs, &source)
    );
    let sql =
        "SELECT pg_encoding_to_char(encoding) FROM pg_database WHERE datname = current_database()";
    assert_eq!(testing::ask(&restored, sql), "LATIN1");
}

#[test]
fn the_name_meanwhile_fits_whatever_the_database_is_called() {
    assert_eq!(place("shop"), "shop.restoring");
    for long in [
        "x".repeat(63),
        "ü".repeat(31),
        format!("x{}", "ü".repeat(31)),
    ] {
        let place = place(&long);
        assert!(
            place.len() <= 63 && place.ends_with(".restoring"),
            "{place}"
        );
        assert!(long.starts_with(place.strip_suffix(".restoring").unwrap()));
    }
}

/// A session that is ended under the restore's hands, as when the server restarts or somebody ends it.
#[test]
fn a_session_that_is_lost_half_way_leaves_no_database() {
    let cluster = testing::cluster();
    let source = testing::database(
        &cluster,
        "CREATE TABLE t AS SELECT i FROM generate_series(1, 9) i",
    );
    let backup = Backup::of(&testing::programs(&cluster), &source);
    let name = testing::unique("lost");
    let (admin, programs) = (cluster.settings("postgres"), testing::programs(&cluster));
    let options = all(&backup, 1);
    let error = restore_parts(
        &job(&admin, &programs, &name, &backup, &options),
        &mut &backup.schema[..],
        &|wanted, into| {
            let end = format!(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = '{}' AND query ~ '^COPY'",
                place(&name)
            );
            assert_eq!(testing::ask(&admin, &end), "1");
            backup.write(wanted, into)
        },
        testing::runtime(),
    )
    .unwrap_err();
    let text = testing::chain(&error);
    assert!(text.contains("was dropped again"), "{text}");
    assert!(!is_there(&cluster, &name) && !is_there(&cluster, &place(&name)));
}

/// What the test below runs in a process of its own: a restore that waits for its end in the middle of a table's rows.
fn restore_until_killed(admin: &str, source: &str, name: &str) -> ! {
    let admin = crate::resolve::resolve(admin, &|_| None).unwrap();
    let connection = Connection::open(&admin, testing::runtime()).unwrap();
    let major = connection.server_major().unwrap();
    let programs = crate::programs::Programs::find(major, &|_| None).unwrap();
    let backup = Backup::of(&programs, &admin.with_database(source));
    let options = all(&backup, 1);
    let endless = |_: Wanted<'_>, into: &mut dyn io::Write| {
        into.write_all(b"1\n")?;
        thread::sleep(Duration::from_secs(600));
        Ok(())
    };
    let job = job(&admin, &programs, name, &backup, &options);
    let ended = restore_parts(&job, &mut &backup.schema[..], &endless, testing::runtime());
    panic!("the restore ended by itself: {ended:?}");
}

#[test]
fn a_restore_that_is_killed_leaves_no_database_of_its_name_and_the_next_plan_says_what_it_left() {
    const CHILD: [&str; 3] = ["ADMIN", "SOURCE", "NAME"];
    let variable = |name: &str| format!("LIFEBOAT_TEST_KILLED_{name}");
    if let [Ok(admin), Ok(source), Ok(name)] = CHILD.map(|name| std::env::var(variable(name))) {
        restore_until_killed(&admin, &source, &name);
    }
    let cluster = testing::cluster();
    let source = testing::database(
        &cluster,
        "CREATE TABLE t AS SELECT i FROM generate_series(1, 9) i",
    );
    let (admin, name) = (cluster.settings("postgres"), testing::unique("killed"));
    let Host::Socket(folder) = admin.host() else {
        panic!("a cluster has a socket");
    };
    let server = format!(
        "host={} port={} user={} dbname=postgres",
        folder.display(),
        cluster.port(),
        admin.user
    );
    let values = [server, source.database().to_owned(), name.clone()];
    let mut child = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture", "restore_parts::tests::a_restore_that_is_killed_leaves_no_database_of_its_name_and_the_next_plan_says_what_it_left"])
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
        thread::sleep(Duration::from_millis(20));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!is_there(&cluster, &name) && is_there(&cluster, &place(&name)));
    let backup = Backup::of(&testing::programs(&cluster), &source);
    let options = all(&backup, 1);
    let plan = plan(&cluster, &name, &backup, &options).unwrap();
    let [finding] = &plan.refusals[..] else {
        panic!("{:?}", plan.refusals);
    };
    assert!(finding.sentence.contains("was cut off"));
    // As the plan says, once the server has seen that nobody is there any more.
    let drop = finding.mend.clone().unwrap();
    while testing::ask(&admin, &copies) != "0" {
        thread::sleep(Duration::from_millis(20));
    }
    testing::run(&admin, &drop);
    restore(&cluster, &name, &backup, &options).unwrap();
    assert_eq!(
        testing::ask(&cluster.settings(&name), "SELECT sum(i) FROM t"),
        "45"
    );
}
