//! Tables beside those of a live database: as they were, without touching what is there.

use std::sync::Mutex;

use super::*;
use crate::{
    source::Wanted,
    testing::{self, Backup},
};

/// A live database with tables of every sort, and a backup of it.
fn live() -> (std::sync::Arc<crate::cluster::Cluster>, Settings, Backup) {
    let cluster = testing::cluster();
    let (live, _) = testing::shop(&cluster);
    testing::run(&live, testing::MORE);
    testing::run(
        &live,
        r#"ALTER TABLE shop."Order" REPLICA IDENTITY FULL; ALTER TABLE shop."Order" CLUSTER ON "Order_pkey";
           ALTER TABLE shop."Order" ALTER COLUMN total SET STATISTICS 7"#,
    );
    let backup = Backup::of(&testing::programs(&cluster), &live);
    (cluster, live, backup)
}

fn restore(
    live: &Settings,
    backup: &Backup,
    schema: &str,
    tables: &[&str],
    read: &Mutex<Vec<String>>,
) -> Result<BesideReport, BesideError> {
    let go_on = AtomicBool::new(false);
    restore_stopped_by(live, backup, schema, tables, read, &go_on)
}

fn restore_stopped_by(
    live: &Settings,
    backup: &Backup,
    schema: &str,
    tables: &[&str],
    read: &Mutex<Vec<String>>,
    stop: &AtomicBool,
) -> Result<BesideReport, BesideError> {
    let tables: Vec<String> = tables.iter().map(|table| (*table).to_owned()).collect();
    let restore = BesideRestore {
        database: live,
        schema,
        tables: &tables,
        parts: &backup.parts,
        encoding: "UTF8",
        hash_key: Some(&testing::KEY),
        stop,
    };
    let source = |wanted: Wanted<'_>, into: &mut dyn std::io::Write| {
        read.lock().unwrap().push(wanted.words());
        backup.write(wanted, into)
    };
    restore_beside(
        &restore,
        &mut &backup.schema[..],
        &source,
        testing::runtime(),
    )
}

fn has_schema(live: &Settings, schema: &str) -> bool {
    let sql = format!("SELECT count(*) FROM pg_namespace WHERE nspname = '{schema}'");
    testing::ask(live, &sql) == "1"
}

#[test]
fn tables_come_beside_with_rows_and_keys_and_nothing_that_is_there_changes() {
    let (cluster, live, backup) = live();
    let programs = testing::programs(&cluster);
    testing::run(
        &live,
        r#"DELETE FROM shop."Order"; UPDATE shop.customer SET name = 'gone'; DROP TABLE shop.plenty"#,
    );
    let before = testing::plain_dump(&programs, &live);
    let read = Mutex::new(Vec::new());
    let tables = [
        "shop.Order",
        "shop.customer",
        "shop.log",
        "shop.plenty",
        "shop.cache",
        "shop.nothing",
        "shop.generated",
        "shop.Wei.rd \"%/",
    ];
    let report = restore(&live, &backup, "Lost & found", &tables, &read).unwrap();
    assert_eq!(report.warnings, Vec::<String>::new());
    assert_eq!(report.tables[0], "Lost & found.Order");
    assert_eq!(report.rows, 500 + 50 + 400 + 3000 + 1 + 4 + 3 + 4);
    let mut read = read.into_inner().unwrap();
    read.sort();
    assert_eq!(
        read.len(),
        tables.len() + 1,
        "one table has two partitions: {read:?}"
    );
    assert!(
        read.contains(&"the rows of shop.log_old".to_owned()),
        "{read:?}"
    );
    for (sql, answer) in [
        (r#"SELECT count(*) FROM "Lost & found"."Order""#, "500"),
        (r#"SELECT count(*) FROM shop."Order""#, "0"),
        (r#"SELECT count(*) FROM "Lost & found".log"#, "400"),
        (
            r#"SELECT name FROM "Lost & found".customer WHERE id = 1"#,
            "name 1\ttab\nline\\ ünïcode",
        ),
        // Keys and checks are there; what would act on other tables is not.
        (
            r#"SELECT string_agg(conname, ' ' ORDER BY conname) FROM pg_constraint
                WHERE connamespace = '"Lost & found"'::regnamespace AND contype <> 'n'"#,
            "Order_pkey Wei.rd \"%/_pkey cache_pkey customer_pkey short",
        ),
        (
            r#"SELECT count(*) FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
                WHERE c.relnamespace = '"Lost & found"'::regnamespace"#,
            "0",
        ),
    ] {
        assert_eq!(testing::ask(&live, sql), answer, "{sql}");
    }
    testing::run(&live, r#"DROP SCHEMA "Lost & found" CASCADE"#);
    assert_eq!(testing::plain_dump(&programs, &live), before);
}

#[test]
fn what_cannot_come_by_itself_is_refused_before_anything_is_read() {
    let (_cluster, live, mut backup) = live();
    let read = Mutex::new(Vec::new());
    let refused = |backup: &Backup, schema: &str, tables: &[&str]| {
        restore(&live, backup, schema, tables, &read)
            .unwrap_err()
            .to_string()
    };
    assert_eq!(
        refused(&backup, "beside", &["shop.log", "shop.bird"]),
        "shop.bird cannot come by itself: it inherits columns from another table; restore it into a new database"
    );
    assert_eq!(
        refused(&backup, "beside", &["shop.afar"]),
        "shop.afar cannot come by itself: its rows are elsewhere, and not in the backup; restore it into a new database"
    );
    assert_eq!(
        refused(&backup, "beside", &["shop.none"]),
        "the backup has no table \"shop.none\""
    );
    assert_eq!(
        refused(&backup, "shop", &["shop.odd"]),
        "the schema \"shop\" exists already, and the tables come into a new one"
    );
    backup.table("shop.log_old").columns.reverse();
    assert!(refused(&backup, "beside", &["shop.log"]).contains("in different orders"));
    backup.parts.tables.clear();
    assert!(refused(&backup, "beside", &["shop.odd"]).contains("does not have its rows"));
    let odd = TablePart {
        schema: "shop".to_owned(),
        name: "odd".to_owned(),
        columns: Vec::new(),
        condition: None,
        order: Vec::new(),
        digest: None,
    };
    backup.parts.tables.push(odd);
    let restore = BesideRestore {
        database: &live,
        schema: "beside",
        tables: &["shop.odd".to_owned()],
        parts: &backup.parts,
        encoding: "LATIN1",
        hash_key: None,
        stop: &AtomicBool::new(false),
    };
    let error = restore_beside(
        &restore,
        &mut &backup.schema[..],
        &|_, _| unreachable!("nothing is read"),
        testing::runtime(),
    );
    assert_eq!(
        error.unwrap_err().to_string(),
        "the backup is in LATIN1, and the database is in UTF8; restore into a new database"
    );
    assert!(read.into_inner().unwrap().is_empty() && !has_schema(&live, "beside"));
}

#[test]
fn rows_that_are_wrong_and_a_wish_to_stop_leave_nothing() {
    let (_cluster, live, mut backup) = live();
    let read = Mutex::new(Vec::new());
    let stop = AtomicBool::new(false);
    let text = |backup: &Backup, stop: &AtomicBool| {
        let tables = ["shop.odd", "shop.log"];
        let error = restore_stopped_by(&live, backup, "beside", &tables, &read, stop).unwrap_err();
        assert!(!has_schema(&live, "beside"));
        testing::chain(&error)
    };
    let rows = backup.rows("shop.log_rest").clone();
    backup.rows("shop.log_rest").truncate(rows.len() / 2);
    let short = text(&backup, &stop);
    assert!(
        short.contains("invalid input syntax") || short.contains("rows of"),
        "{short}"
    );
    let at = rows.len() - 2;
    *backup.rows("shop.log_rest") = rows;
    backup.rows("shop.log_rest")[at] = b'y';
    let other = text(&backup, &stop);
    assert!(
        other.contains("the rows of shop.log: 400 rows") && other.contains("another content"),
        "{other}"
    );
    stop.store(true, Ordering::Relaxed);
    assert!(text(&backup, &stop).contains("asked to stop"));
}

#[test]
fn a_session_that_ends_half_way_leaves_nothing() {
    let (cluster, live, backup) = live();
    let tables = ["shop.log".to_owned()];
    let restore = BesideRestore {
        database: &live,
        schema: "beside",
        tables: &tables,
        parts: &backup.parts,
        encoding: "UTF8",
        hash_key: Some(&testing::KEY),
        stop: &AtomicBool::new(false),
    };
    let end = format!(
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = '{}' AND query ~ '^COPY'",
        live.database()
    );
    let source = |wanted: Wanted<'_>, into: &mut dyn std::io::Write| {
        assert_eq!(testing::ask(&cluster.settings("postgres"), &end), "1");
        backup.write(wanted, into)
    };
    restore_beside(
        &restore,
        &mut &backup.schema[..],
        &source,
        testing::runtime(),
    )
    .unwrap_err();
    assert!(!has_schema(&live, "beside"));
}

#[test]
fn a_table_of_a_lacking_extensions_type_names_the_extension() {
    let cluster = testing::cluster();
    let source = testing::database(
        &cluster,
        "CREATE EXTENSION hstore SCHEMA public; CREATE TABLE vague (tags public.hstore)",
    );
    let backup = Backup::of(&testing::programs(&cluster), &source);
    let other = testing::database(&cluster, "SELECT 1");
    let read = Mutex::new(Vec::new());
    let error = restore(&other, &backup, "back", &["public.vague"], &read).unwrap_err();
    let text = testing::chain(&error);
    assert!(text.contains("lacks the extension hstore"), "{text}");
    assert!(text.contains("\"public.hstore\" does not exist"), "{text}");
    assert!(!has_schema(&other, "back"));
    restore(&source, &backup, "back", &["public.vague"], &read).unwrap();
}
