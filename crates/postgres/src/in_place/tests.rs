//! Content replaced in one transaction: equal to the backup, or what it was.

use std::sync::atomic::AtomicBool;

use super::*;
use crate::{
    cluster::{Cluster, ClusterOptions},
    in_place_plan::plan_in_place,
    testing::{self, Backup},
};

static GO_ON: AtomicBool = AtomicBool::new(false);
static STOPS: [&AtomicBool; 1] = [&GO_ON];

fn restore(backup: &Backup, reset: bool) -> InPlaceRestore<'_> {
    InPlaceRestore {
        parts: &backup.parts,
        facts: Some(&backup.facts),
        extensions: &backup.extensions,
        hash_key: &testing::KEY,
        reset,
    }
}

fn plan(settings: &Settings, backup: &Backup, reset: bool) -> InPlacePlan {
    let restore = restore(backup, reset);
    plan_in_place(
        settings,
        &restore,
        &mut &backup.schema[..],
        testing::runtime(),
    )
    .unwrap()
}

fn open(settings: &Settings) -> InPlace<'static> {
    let mark = format!("mark of {}", settings.database());
    InPlace::open(settings, &mark, &STOPS, testing::runtime()).unwrap()
}

fn replace(settings: &Settings, backup: &Backup, reset: bool) -> Result<(), InPlaceError> {
    let shown = plan(settings, backup, reset);
    let mut work = open(settings);
    work.hold(Duration::from_secs(20))?;
    work.replace(
        &restore(backup, reset),
        &shown,
        &mut &backup.schema[..],
        &|wanted, into| backup.write(wanted, into),
    )?;
    assert_eq!(work.commit()?, Vec::<String>::new());
    Ok(())
}

fn dump(cluster: &Cluster, settings: &Settings) -> String {
    testing::plain_dump(&testing::programs(cluster), settings)
}

fn sentences(plan: &InPlacePlan) -> String {
    let refusals = plan.refusals.iter().map(|one| one.sentence.as_str());
    refusals.collect::<Vec<_>>().join("\n")
}

/// A role that owns a database and nothing else, and the database with what `sql` makes as that role.
fn owned(cluster: &Cluster, sql: &str) -> (Settings, Settings, String) {
    let role = testing::unique("plain");
    let admin = testing::database(cluster, &format!("CREATE ROLE {role} LOGIN"));
    let name = admin.database().to_owned();
    testing::run(&admin, &format!("ALTER DATABASE {name} OWNER TO {role}"));
    let settings = Settings {
        user: role.clone(),
        ..admin.clone()
    };
    testing::run(&settings, sql);
    (settings, admin, role)
}

#[test]
fn every_kind_of_object_comes_back_equal_into_the_same_database() {
    let cluster = testing::cluster();
    let (settings, role) = testing::shop(&cluster);
    testing::run(&settings, testing::MORE);
    testing::run(
        &settings,
        &format!(
            "CREATE TABLE public.plain (id int); GRANT USAGE ON SCHEMA public TO {role};
             ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO {role}"
        ),
    );
    let backup = Backup::of(&testing::programs(&cluster), &settings);
    let before = dump(&cluster, &settings);
    testing::run(
        &settings,
        "DROP TABLE public.plain; DROP EXTENSION postgres_fdw CASCADE; ALTER TABLE shop.plenty ADD later int;
         UPDATE shop.plenty SET big = 'other'; SELECT lo_unlink(oid) FROM pg_largeobject_metadata WHERE oid = 40003;
         SELECT lo_create(40009);
         ALTER DEFAULT PRIVILEGES GRANT EXECUTE ON FUNCTIONS TO PUBLIC; GRANT CREATE ON SCHEMA public TO PUBLIC;
         DROP PUBLICATION news; CREATE PUBLICATION news FOR ALL TABLES",
    );
    // An extension is in it, so it stays.
    let grants =
        format!("REVOKE ALL ON SCHEMA shop FROM {role}; GRANT ALL ON SCHEMA shop TO PUBLIC");
    testing::run(&settings, &grants);
    assert_ne!(dump(&cluster, &settings), before);
    replace(&settings, &backup, false).unwrap();
    assert_eq!(dump(&cluster, &settings), before);
    // And from a state in which it is already.
    replace(&settings, &backup, false).unwrap();
    assert_eq!(dump(&cluster, &settings), before);
}

#[test]
fn a_role_that_owns_only_its_database_can_do_it() {
    let cluster = testing::cluster();
    let (settings, admin, _) = owned(
        &cluster,
        "CREATE SCHEMA shop; CREATE TYPE shop.state AS ENUM ('new', 'paid');
         CREATE TABLE shop.customer (id serial PRIMARY KEY, name text);
         CREATE TABLE public.orders (id int PRIMARY KEY, state shop.state, customer int REFERENCES shop.customer);
         INSERT INTO shop.customer (name) VALUES ('Ann'), ('Bob');
         INSERT INTO public.orders VALUES (1, 'new', 1), (2, 'paid', 2);
         CREATE MATERIALIZED VIEW public.sums AS SELECT state, count(*) FROM public.orders GROUP BY 1;
         CREATE EXTENSION citext; CREATE TABLE public.mail (address citext UNIQUE);
         SELECT lo_from_bytea(70001, 'abc')",
    );
    // What only an administrator can have done, and is left alone.
    testing::run(
        &admin,
        "ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO PUBLIC",
    );
    let backup = Backup::of(&testing::programs(&cluster), &admin);
    let before = dump(&cluster, &admin);
    testing::run(
        &settings,
        "INSERT INTO shop.customer (name) VALUES ('Eve'); ALTER TYPE shop.state ADD VALUE 'sent'; DROP TABLE public.mail",
    );
    let shown = plan(&settings, &backup, false);
    assert_eq!(sentences(&shown), "");
    assert!(
        shown
            .notes
            .iter()
            .any(|note| note.contains("grants beforehand")),
        "{shown:?}"
    );
    assert!(shown.unknown.is_empty() && shown.objects == 5, "{shown:?}");
    replace(&settings, &backup, false).unwrap();
    assert_eq!(dump(&cluster, &admin), before);
}

#[test]
fn what_the_backup_does_not_have_is_named_and_goes_only_when_that_is_wished() {
    let cluster = testing::cluster();
    let (settings, admin, _) = owned(
        &cluster,
        "CREATE TABLE mine (id int); INSERT INTO mine VALUES (1)",
    );
    let backup = Backup::of(&testing::programs(&cluster), &admin);
    let before = dump(&cluster, &admin);
    testing::run(
        &settings,
        "CREATE SCHEMA other; CREATE TABLE other.theirs (id int); CREATE VIEW seen AS SELECT * FROM mine; SELECT lo_create(0)",
    );
    let shown = plan(&settings, &backup, false);
    for name in [
        "schema other",
        "table other.theirs",
        "view public.seen",
        "1 large objects",
    ] {
        assert!(sentences(&shown).contains(name), "{shown:?}");
    }
    let with_others = dump(&cluster, &admin);
    let error = replace(&settings, &backup, false).unwrap_err();
    assert!(matches!(error, InPlaceError::Refused(_)), "{error}");
    assert_eq!(dump(&cluster, &admin), with_others);
    let shown = plan(&settings, &backup, true);
    assert_eq!((sentences(&shown).as_str(), shown.unknown.len()), ("", 4));
    replace(&settings, &backup, true).unwrap();
    assert_eq!(dump(&cluster, &admin), before);
}

#[test]
fn what_comes_after_the_plan_ends_it() {
    let cluster = testing::cluster();
    let (settings, admin, _) = owned(
        &cluster,
        "CREATE TABLE mine (id int); INSERT INTO mine VALUES (1)",
    );
    let backup = Backup::of(&testing::programs(&cluster), &admin);
    for (at, reset) in [(0, true), (1, true), (1, false)] {
        let shown = plan(&settings, &backup, reset);
        let mut work = open(&settings);
        let late = "CREATE TABLE late (id int)";
        if at == 0 {
            testing::run(&settings, late);
        }
        work.hold(Duration::from_secs(20)).unwrap();
        if at == 1 {
            testing::run(&settings, late);
        }
        let done = work.replace(
            &restore(&backup, reset),
            &shown,
            &mut &backup.schema[..],
            &|wanted, into| backup.write(wanted, into),
        );
        let error = done.unwrap_err();
        assert!(
            matches!(&error, InPlaceError::Appeared(names) if names == &["table public.late"]),
            "{error}"
        );
        drop(work);
        testing::run(&settings, "DROP TABLE late");
    }
    // While rows come in, too.
    let shown = plan(&settings, &backup, true);
    let mut work = open(&settings);
    work.hold(Duration::from_secs(20)).unwrap();
    let done = work.replace(
        &restore(&backup, true),
        &shown,
        &mut &backup.schema[..],
        &|wanted, into| {
            testing::run(&settings, "CREATE SCHEMA late");
            backup.write(wanted, into)
        },
    );
    let error = done.unwrap_err();
    assert!(
        matches!(&error, InPlaceError::Appeared(names) if names == &["schema late"]),
        "{error}"
    );
}

#[test]
fn what_belongs_to_others_or_cannot_be_made_is_told_before() {
    let cluster = testing::cluster();
    let (settings, admin, role) = owned(&cluster, "CREATE TABLE mine (id int)");
    let other = testing::unique("other");
    testing::run(
        &admin,
        &format!(
            "CREATE ROLE {other}; CREATE TABLE theirs (id int); ALTER TABLE theirs OWNER TO {other};
             CREATE EXTENSION hstore; CREATE EXTENSION pageinspect;
             CREATE FUNCTION fired() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END';
             ALTER FUNCTION fired() OWNER TO {role};
             CREATE EVENT TRIGGER watch ON ddl_command_end EXECUTE FUNCTION fired()"
        ),
    );
    let backup = Backup::of(&testing::programs(&cluster), &admin);
    let shown = plan(&settings, &backup, false);
    let said = sentences(&shown);
    assert!(
        said.contains(&format!("table public.theirs of {other}")),
        "{said}"
    );
    assert!(said.contains(&format!("belongs to {other}")), "{said}");
    assert!(
        shown
            .notes
            .iter()
            .any(|note| note.contains("event trigger watch")),
        "{shown:?}"
    );
    testing::run(
        &admin,
        "DROP EVENT TRIGGER watch; DROP EXTENSION hstore; DROP EXTENSION pageinspect; DROP TABLE theirs",
    );
    let said = sentences(&plan(&settings, &backup, false));
    assert!(
        said.contains("extension pageinspect, which only a superuser"),
        "{said}"
    );
    assert!(!said.contains("extension hstore"), "{said}");
    assert!(said.contains("event trigger watch"), "{said}");
    testing::run(
        &admin,
        &format!("REVOKE CREATE ON SCHEMA public FROM {role}, pg_database_owner"),
    );
    assert!(sentences(&plan(&settings, &backup, false)).contains("nothing in the schema public"));
}

#[test]
fn what_no_transaction_brings_back_and_another_encoding_are_refused() {
    let cluster = testing::cluster();
    let settings = testing::database(&cluster, "CREATE TABLE mine (id int)");
    let backup = Backup::of(&testing::programs(&cluster), &settings);
    let latin = testing::latin_database(&cluster);
    assert!(sentences(&plan(&latin, &backup, true)).contains("the database in LATIN1"));
    testing::run(
        &settings,
        "CREATE SUBSCRIPTION news CONNECTION 'host=none' PUBLICATION p WITH (connect = false)",
    );
    assert!(sentences(&plan(&settings, &backup, true)).contains("has a subscription"));
    testing::run(
        &settings,
        "ALTER SUBSCRIPTION news SET (slot_name = NONE); DROP SUBSCRIPTION news",
    );
    assert_eq!(sentences(&plan(&settings, &backup, true)), "");
}

#[test]
fn what_would_take_an_extension_along_changes_nothing() {
    let cluster = testing::cluster();
    let settings = testing::database(
        &cluster,
        "CREATE TABLE mine (id int); CREATE EXTENSION citext",
    );
    let backup = Backup::of(&testing::programs(&cluster), &settings);
    testing::run(
        &settings,
        "CREATE VIEW seen AS SELECT * FROM mine; ALTER EXTENSION citext ADD VIEW seen",
    );
    let now = dump(&cluster, &settings);
    let error = replace(&settings, &backup, false).unwrap_err();
    assert!(
        matches!(&error, InPlaceError::Lost(names) if names == &["extension citext"]),
        "{error}"
    );
    assert_eq!(dump(&cluster, &settings), now);
}

#[test]
fn rows_that_are_not_the_backups_change_nothing() {
    let cluster = testing::cluster();
    let (settings, admin, _) = owned(
        &cluster,
        "CREATE TABLE mine (id int, word text); INSERT INTO mine VALUES (1, 'one'), (2, 'two')",
    );
    let mut backup = Backup::of(&testing::programs(&cluster), &admin);
    testing::run(&settings, "UPDATE mine SET word = 'later'");
    let now = dump(&cluster, &admin);
    let rows = backup.rows("public.mine");
    let at = rows.iter().position(|letter| *letter == b'o').unwrap();
    rows[at] = b'0';
    let error = replace(&settings, &backup, false).unwrap_err();
    assert!(matches!(error, InPlaceError::Verify(_)), "{error}");
    assert_eq!(dump(&cluster, &admin), now);
    backup.rows("public.mine").extend(b"3\tthree\n");
    let error = replace(&settings, &backup, false).unwrap_err();
    assert!(matches!(error, InPlaceError::Load(_)), "{error}");
    assert_eq!(dump(&cluster, &admin), now);
}

#[test]
fn writers_wait_readers_go_on_and_who_holds_a_table_is_sent_away_or_named() {
    let cluster = testing::cluster();
    let (settings, admin, _) = owned(
        &cluster,
        "CREATE TABLE mine (id int); INSERT INTO mine VALUES (1)",
    );
    let backup = Backup::of(&testing::programs(&cluster), &admin);
    let idle = Connection::open(&settings, testing::runtime()).unwrap();
    idle.execute("write", "SET default_transaction_read_only = off; BEGIN READ WRITE; INSERT INTO public.mine VALUES (2)")
        .unwrap();
    let shown = plan(&settings, &backup, false);
    let mut work = open(&settings);
    work.hold(Duration::from_secs(20)).unwrap();
    assert!(idle.rows("look", "SELECT 1").is_err(), "it was sent away");
    assert_eq!(testing::ask(&settings, "SELECT count(*) FROM mine"), "1");
    let writer = Connection::open(&settings, testing::runtime()).unwrap();
    let patience = "SET lock_timeout = '100ms'; SET default_transaction_read_only = off";
    writer.execute("have little patience", patience).unwrap();
    let written = writer.execute("write", "INSERT INTO public.mine VALUES (3)");
    assert!(written.is_err(), "nobody writes");
    let done = work.replace(
        &restore(&backup, false),
        &shown,
        &mut &backup.schema[..],
        &|wanted, into| backup.write(wanted, into),
    );
    done.unwrap();
    let read = writer.rows("read", "SELECT count(*) FROM public.mine");
    assert!(read.is_err(), "nobody reads");
    let transaction = work.transaction().to_owned();
    work.commit().unwrap();
    assert_eq!(testing::ask(&settings, "SELECT count(*) FROM mine"), "1");
    let became = outcome(&settings, "x", &transaction, testing::runtime()).unwrap();
    assert_eq!(became, Outcome::Committed);

    // A superuser's session is not ours to end.
    let held = Connection::open(&admin, testing::runtime()).unwrap();
    held.execute("hold", "BEGIN; LOCK TABLE public.mine IN ROW SHARE MODE")
        .unwrap();
    let error = open(&settings).hold(Duration::ZERO).unwrap_err();
    let InPlaceError::Held(names) = error else {
        panic!("{error}");
    };
    assert!(names[0].contains("process"), "{names:?}");
}

#[test]
fn what_became_of_a_transaction_is_known_when_its_session_is_gone() {
    let cluster = testing::cluster();
    let (settings, admin, _) = owned(&cluster, "CREATE TABLE mine (id int)");
    let mark = format!("mark of {}", settings.database());
    let mut work = open(&settings);
    work.hold(Duration::from_secs(20)).unwrap();
    let transaction = work.transaction().to_owned();
    let asked = work.ask(|session| {
        let rows = session.rows("count", "SELECT count(*) FROM public.mine")?;
        assert_eq!(rows[0][0].as_deref(), Some("0"));
        session.rows("fail", "SELECT nothing")
    });
    assert!(asked.is_err());
    work.ask(|session| session.rows("go on", "SELECT 1"))
        .unwrap();
    // It is at work, and whoever comes next ends it.
    let became = outcome(&settings, &mark, &transaction, testing::runtime()).unwrap();
    assert_eq!(became, Outcome::Aborted);
    assert!(work.commit().is_err());
    let forgotten = outcome(&admin, &mark, "999999999999", testing::runtime());
    assert!(forgotten.is_err());
}

#[test]
fn a_table_that_comes_into_a_schema_while_that_goes_is_not_taken_along() {
    let cluster = testing::cluster();
    let (settings, admin, _) = owned(
        &cluster,
        "CREATE SCHEMA shop; CREATE TABLE shop.mine (id int); INSERT INTO shop.mine VALUES (1)",
    );
    let backup = Backup::of(&testing::programs(&cluster), &admin);
    let other = Connection::open(&settings, testing::runtime()).unwrap();
    other
        .execute(
            "write",
            "SET default_transaction_read_only = off; BEGIN READ WRITE; CREATE TABLE shop.late (id int);
             INSERT INTO shop.late VALUES (7)",
        )
        .unwrap();
    let shown = plan(&settings, &backup, true);
    let mut work = open(&settings);
    work.hold(Duration::from_secs(20)).unwrap();
    let waits = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'mark of {}' AND wait_event_type = 'Lock'",
        settings.database()
    );
    let done = thread::scope(|scope| {
        scope.spawn(|| {
            while testing::ask(&admin, &waits) != "1" {
                thread::sleep(PAUSE);
            }
            other.execute("commit", "COMMIT").unwrap();
        });
        work.replace(
            &restore(&backup, true),
            &shown,
            &mut &backup.schema[..],
            &|wanted, into| backup.write(wanted, into),
        )
    });
    let error = done.unwrap_err().to_string();
    assert!(error.contains("table shop.late"), "{error}");
    drop(work);
    assert_eq!(testing::ask(&settings, "SELECT id FROM shop.late"), "7");
}

#[test]
fn a_transaction_that_has_failed_is_not_taken_for_one_that_is_committed() {
    let cluster = testing::cluster();
    let (settings, _, _) = owned(&cluster, "CREATE TABLE mine (id int)");
    let mut work = open(&settings);
    work.hold(Duration::from_secs(20)).unwrap();
    let session = work.session.connection();
    assert!(session.execute("fail", "SELECT nothing").is_err());
    // The server answers to its COMMIT without an error.
    let error = work.commit().unwrap_err();
    assert!(matches!(error, InPlaceError::Query(_)), "{error}");
}

#[test]
fn what_belongs_to_what_stays_is_not_made_again() {
    let cluster = testing::cluster();
    let (settings, admin, role) = owned(
        &cluster,
        "CREATE TABLE mine (id int); INSERT INTO mine VALUES (1)",
    );
    testing::run(
        &admin,
        &format!(
            "CREATE EXTENSION postgres_fdw; CREATE SERVER far FOREIGN DATA WRAPPER postgres_fdw;
             GRANT USAGE ON FOREIGN SERVER far TO {role}; CREATE USER MAPPING FOR {role} SERVER far OPTIONS (user 'x');
             COMMENT ON SERVER far IS 'far';"
        ),
    );
    testing::run(&settings, "CREATE FOREIGN TABLE afar (id int) SERVER far");
    let backup = Backup::of(&testing::programs(&cluster), &admin);
    let before = dump(&cluster, &admin);
    replace(&settings, &backup, false).unwrap();
    assert_eq!(dump(&cluster, &admin), before);
}

#[test]
fn a_publication_of_others_does_not_lose_its_tables() {
    let cluster = testing::cluster();
    let (settings, admin, _) = owned(
        &cluster,
        "CREATE TABLE mine (id int); INSERT INTO mine VALUES (1)",
    );
    testing::run(&admin, "CREATE PUBLICATION news FOR TABLE mine");
    let backup = Backup::of(&testing::programs(&cluster), &admin);
    let refused = |settings| sentences(&plan(settings, &backup, true)).contains("publication news");
    assert!(refused(&settings));
    assert!(!refused(&admin));
    testing::run(&admin, "ALTER PUBLICATION news DROP TABLE mine");
    assert!(refused(&settings), "the snapshot has its tables");
    testing::run(&admin, "DROP PUBLICATION news; CREATE SCHEMA empty");
    assert!(!refused(&settings));
    testing::run(&admin, "CREATE PUBLICATION news FOR TABLES IN SCHEMA empty");
    assert!(refused(&settings));
}

#[test]
fn rows_in_an_extensions_table_are_held_as_others_are() {
    let cluster = testing::cluster();
    let settings = testing::database(&cluster, testing::EVERY_KIND_OF_TABLE);
    let mut work = open(&settings);
    work.hold(Duration::from_secs(20)).unwrap();
    let writer = Connection::open(&settings, testing::runtime()).unwrap();
    let patience = "SET lock_timeout = '100ms'; SET default_transaction_read_only = off";
    writer.execute("have little patience", patience).unwrap();
    for table in ["plain", "configured", "part_low"] {
        let sql = format!("INSERT INTO public.{table} (id) VALUES (2000)");
        let error = writer.execute("write", &sql).unwrap_err();
        assert!(error.is(&SqlState::LOCK_NOT_AVAILABLE), "{table}: {error}");
        let sql = format!("SELECT count(*) FROM public.{table}");
        writer.rows("read", &sql).unwrap();
    }
}

#[test]
fn who_holds_a_partition_alone_is_named_too() {
    let cluster = testing::cluster();
    let settings = testing::database(&cluster, testing::EVERY_KIND_OF_TABLE);
    let held = Connection::open(&settings, testing::runtime()).unwrap();
    held.execute(
        "hold",
        "BEGIN; LOCK TABLE public.part_low IN ROW SHARE MODE",
    )
    .unwrap();
    let error = open(&settings).hold(Duration::ZERO).unwrap_err();
    let InPlaceError::Held(names) = error else {
        panic!("{error}");
    };
    assert!(names[0].contains("process"), "{names:?}");
}

#[test]
fn what_holds_the_tables_or_lacks_at_the_server_is_told_before() {
    let cluster = testing::own_cluster(&ClusterOptions {
        parameters: vec![("max_prepared_transactions".to_owned(), "2".to_owned())],
        ..ClusterOptions::default()
    });
    let settings = testing::database(&cluster, "CREATE TABLE mine (id int)");
    let connection = Connection::open(&settings, testing::runtime()).unwrap();
    for statement in [
        "SET default_transaction_read_only = off; SET allow_in_place_tablespaces = on",
        "CREATE TABLESPACE \"the other\" LOCATION ''",
        "CREATE TABLE public.far (id int) TABLESPACE \"the other\"",
    ] {
        connection.execute("make", statement).unwrap();
    }
    let mut backup = Backup::of(&testing::programs(&cluster), &settings);
    assert_eq!(sentences(&plan(&settings, &backup, false)), "");
    for statement in [
        "DROP TABLE public.far",
        "DROP TABLESPACE \"the other\"",
        "BEGIN; INSERT INTO public.mine VALUES (1); PREPARE TRANSACTION 'half of it'",
    ] {
        connection.execute("change", statement).unwrap();
    }
    let digest = backup.table("public.mine").digest.as_mut().unwrap();
    digest.len_bytes = 1 << 60;
    let shown = plan(&settings, &backup, false);
    let mut refusals = shown.refusals.iter();
    for (sentence, mend) in [
        (
            "Prepared transactions hold what is to be replaced: half of it.",
            "ROLLBACK PREPARED",
        ),
        (
            "Something in the snapshot lies in the tablespace the other, and the server lacks it.",
            "CREATE TABLESPACE \"the other\" LOCATION",
        ),
        (
            "The new rows need at least 1099511627776 MB beside the old ones",
            "Free some room in /",
        ),
    ] {
        let refusal = refusals.next().unwrap();
        assert!(refusal.sentence.starts_with(sentence), "{shown:?}");
        let told = refusal.mend.as_deref().unwrap_or_default();
        assert!(told.contains(mend), "{shown:?}");
    }
    assert!(refusals.next().is_none(), "{shown:?}");
}

#[test]
fn tables_whose_names_look_alike_where_a_dot_is_in_them_come_back_each_with_its_rows() {
    let cluster = testing::cluster();
    let settings = testing::database(&cluster, testing::ALIKE);
    let backup = Backup::of(&testing::programs(&cluster), &settings);
    let before = dump(&cluster, &settings);
    replace(&settings, &backup, false).unwrap();
    assert_eq!(dump(&cluster, &settings), before);
}

#[test]
fn kinds_of_object_that_hardly_anybody_has_come_back_too() {
    let cluster = testing::cluster();
    let everything = testing::everything(&cluster);
    testing::run(&everything, "DROP SUBSCRIPTION far");
    let tables = testing::database(&cluster, testing::EVERY_KIND_OF_TABLE);
    for settings in [everything, tables] {
        let backup = Backup::of(&testing::programs(&cluster), &settings);
        // Rows that found their partition by a hash may stand in another order.
        let sorted = || {
            let dump = dump(&cluster, &settings);
            let mut lines: Vec<String> = dump.lines().map(str::to_owned).collect();
            lines.sort_unstable();
            lines
        };
        let before = sorted();
        assert_eq!(sentences(&plan(&settings, &backup, false)), "");
        replace(&settings, &backup, false).unwrap();
        assert_eq!(sorted(), before);
    }
}
