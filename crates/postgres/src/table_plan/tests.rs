//! Plans of databases with every kind of table, held against what `pg_dump` reads of them.

use std::{collections::BTreeSet, io::Read as _};

use super::*;
use crate::{
    catalog,
    connect::Connection,
    rows::Rows,
    settings::Settings,
    testing::{self, plain_dump},
};

fn facts(connection: &Connection) -> SourceFacts {
    let server = catalog::server(connection).unwrap();
    SourceFacts {
        database: catalog::database(connection, server.major()).unwrap(),
        extensions: catalog::extensions(connection).unwrap(),
        tables: catalog::tables(connection).unwrap(),
        large_objects: 0,
        server,
    }
}

fn plan(settings: &Settings, skip_data: &[&str], earlier: &[TablePart]) -> Vec<PlannedTable> {
    let connection = Connection::open(settings, testing::runtime()).unwrap();
    let facts = facts(&connection);
    let skip_data: Vec<String> = skip_data.iter().map(ToString::to_string).collect();
    plan_tables(&connection, &facts, &skip_data, earlier).unwrap()
}

fn planned<'a>(tables: &'a [PlannedTable], name: &str) -> &'a TablePart {
    let table = tables.iter().find(|table| table.part.name == name);
    &table.unwrap().part
}

/// The tables and columns of a plain dump's `COPY` statements.
fn copied(plain: &str) -> BTreeSet<String> {
    plain
        .lines()
        .filter_map(|line| {
            line.strip_prefix("COPY ")?
                .strip_suffix(" FROM stdin;")
                .map(|copied| copied.trim_end().to_owned())
        })
        .collect()
}

#[test]
fn tables_and_columns_are_those_that_pg_dump_reads() {
    let cluster = testing::cluster();
    let settings = testing::database(&cluster, testing::EVERY_KIND_OF_TABLE);
    let tables = plan(&settings, &[], &[]);
    let planned: BTreeSet<String> = tables
        .iter()
        .map(|table| {
            let part = &table.part;
            let columns = match part.columns.join(", ") {
                none if none.is_empty() => none,
                columns => format!(" ({columns})"),
            };
            format!("{}{columns}", part.path())
        })
        .collect();
    let plain = plain_dump(&testing::programs(&cluster), &settings);
    assert_eq!(planned, copied(&plain));
    assert!(tables.iter().all(|table| !table.skipped));
}

#[test]
fn rows_of_an_extension_are_those_that_it_calls_the_users() {
    let cluster = testing::cluster();
    let settings = testing::database(&cluster, testing::EVERY_KIND_OF_TABLE);
    let tables = plan(&settings, &[], &[]);
    assert_eq!(
        planned(&tables, "chosen").condition.as_deref(),
        Some("WHERE id > 5")
    );
    assert_eq!(planned(&tables, "configured").condition, None);
    assert!(tables.iter().all(|table| table.part.name != "internal"));
}

#[test]
fn rows_that_are_left_out_take_those_of_partitions_with_them() {
    let cluster = testing::cluster();
    let settings = testing::database(&cluster, testing::EVERY_KIND_OF_TABLE);
    let tables = plan(&settings, &["public.parted", "public.plain"], &[]);
    let skipped: Vec<_> = tables
        .iter()
        .filter(|table| table.skipped)
        .map(|table| table.part.name.as_str())
        .collect();
    assert_eq!(skipped, ["part_high_a", "part_low", "plain"]);

    let connection = Connection::open(&settings, testing::runtime()).unwrap();
    let unknown = plan_tables(
        &connection,
        &facts(&connection),
        &["public.none".to_owned()],
        &[],
    );
    let error = unknown.unwrap_err().to_string();
    assert_eq!(
        error,
        "there is no table \"public.none\" whose rows could be left out"
    );
}

#[test]
fn a_table_is_sorted_by_all_of_its_key_and_by_nothing_else() {
    let cluster = testing::cluster();
    let settings = testing::database(
        &cluster,
        "CREATE TABLE two (b int, a int, \"c d\" int, PRIMARY KEY (\"c d\", a) INCLUDE (b));
         CREATE TABLE none (id int UNIQUE NOT NULL)",
    );
    let tables = plan(&settings, &[], &[]);
    assert_eq!(planned(&tables, "two").order, ["c d", "a"]);
    assert_eq!(planned(&tables, "none").order, [""; 0]);
    let earlier = TablePart {
        order: Vec::new(),
        ..planned(&tables, "two").clone()
    };
    let tables = plan(&settings, &[], &[earlier]);
    assert_eq!(planned(&tables, "two").order, [""; 0]);
}

#[test]
fn code_of_an_owner_with_fewer_rights_does_not_run_as_us() {
    let cluster = testing::cluster();
    let [owner, member] = ["owner", "member"].map(testing::unique);
    let settings = testing::database(
        &cluster,
        &format!(
            "CREATE ROLE {owner} LOGIN; CREATE ROLE {member} IN ROLE {owner};
             CREATE FUNCTION planned(int) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT true';
             CREATE TABLE theirs (id int PRIMARY KEY); CREATE INDEX ON theirs (id) WHERE planned(1);
             INSERT INTO theirs VALUES (2), (1);
             CREATE OR REPLACE FUNCTION planned(int) RETURNS boolean LANGUAGE plpgsql IMMUTABLE
                 AS $$ BEGIN RAISE 'this ran as %', current_user; END $$;
             CREATE TABLE ours (id int PRIMARY KEY); CREATE TABLE member (id int PRIMARY KEY);
             ALTER TABLE theirs OWNER TO {owner}; ALTER TABLE member OWNER TO {member};
             GRANT SELECT ON ours, member TO {owner}"
        ),
    );
    // As it would be sorted.
    let mut connection = Connection::open(&settings, testing::runtime()).unwrap();
    let sorted = TablePart {
        order: vec!["id".to_owned()],
        ..planned(&plan(&settings, &[], &[]), "theirs").clone()
    };
    let error = read(&mut connection, &sorted).unwrap_err();
    assert!(error.contains("this ran as postgres"), "{error}");
    // As it is planned, whatever was decided before.
    let mut connection = Connection::open(&settings, testing::runtime()).unwrap();
    let tables = plan(&settings, &[], &[sorted]);
    let part = planned(&tables, "theirs");
    assert_eq!(part.order, [""; 0]);
    assert_eq!(read(&mut connection, part).unwrap(), "2\n1\n");
    assert_eq!(planned(&tables, "ours").order, ["id"]);
    assert_eq!(planned(&tables, "member").order, [""; 0]);
    // The owner trusts himself, whoever can become him, and superusers.
    let tables = plan(
        &Settings {
            user: owner,
            ..settings
        },
        &[],
        &[],
    );
    for name in ["theirs", "ours", "member"] {
        assert_eq!(planned(&tables, name).order, ["id"], "{name}");
    }
}

/// A table's rows, or what was said instead.
fn read(connection: &mut Connection, part: &TablePart) -> Result<String, String> {
    let mut rows = Rows::start(connection, part, &[1; 32]);
    let mut text = String::new();
    match rows.read_to_string(&mut text) {
        Ok(_) => Ok(text),
        Err(error) => Err(error.to_string()),
    }
}

#[test]
fn how_a_table_lies_is_what_the_server_has_counted() {
    let cluster = testing::cluster();
    let settings = testing::database(
        &cluster,
        "CREATE TABLE t (x int, id int PRIMARY KEY); INSERT INTO t SELECT -i, i FROM generate_series(1, 1000) i; ANALYZE",
    );
    let layouts = || {
        let connection = Connection::open(&settings, testing::runtime()).unwrap();
        let found = texts(&connection, "read", &layouts_sql()).unwrap();
        let layouts = found.values().map(|texts| layout(texts).unwrap());
        layouts
            .map(|layout| (layout.correlation, layout.rows))
            .collect::<Vec<_>>()
    };
    assert_eq!(layouts(), [(1.0, Some(1000))]);
    for uncounted in ["-1", "0"] {
        let sql = format!("UPDATE pg_class SET reltuples = {uncounted} WHERE relname = 't'");
        testing::run(&settings, &sql);
        assert_eq!(layouts(), [(1.0, None)], "{uncounted}");
    }
}

#[test]
fn an_order_costs_little_and_is_kept() {
    let key = || vec!["id".to_owned()];
    let other = ["uuid".to_owned()];
    let lies = |correlation, rows| Some(Layout { correlation, rows });
    let of = |correlation| lies(correlation, None);
    let (small, large, huge) = (1, SORTED_LEN_BYTES, STILL_SORTED_LEN_BYTES);
    let (wide, narrow) = (Some(large / 64), Some(large / 64 + 1));
    for (size_bytes, layout, earlier, sorted) in [
        (small, None, None, true),
        (large, None, None, false),
        (large, of(0.89), None, false),
        (large, of(-1.0), None, false),
        (huge, of(0.9), None, true),
        // Rows that are narrow are not worth the way by their key.
        (large, lies(1.0, wide), None, true),
        (large, lies(1.0, narrow), None, false),
        (large, lies(0.89, wide), None, false),
        (large, lies(1.0, Some(u64::MAX)), None, false),
        (large - 1, lies(1.0, narrow), None, true),
        // What was decided holds.
        (small, None, Some(&[][..]), false),
        (huge, lies(1.0, wide), Some(&[][..]), false),
        (large, of(0.0), Some(&key()[..]), true),
        (huge, of(0.5), Some(&key()[..]), true),
        (huge, lies(0.5, Some(u64::MAX)), Some(&key()[..]), true),
        // To sort a large heap every night costs more than to store it once more.
        (huge, of(0.4), Some(&key()[..]), false),
        (huge, None, Some(&key()[..]), false),
        // Another key is a new decision.
        (small, None, Some(&other[..]), true),
        (large, None, Some(&other[..]), false),
        (large, lies(1.0, narrow), Some(&other[..]), false),
        (large, lies(1.0, wide), Some(&other[..]), true),
    ] {
        let order = order(key(), size_bytes, layout, earlier);
        assert_eq!(
            order == key(),
            sorted,
            "{size_bytes} {layout:?} {earlier:?}"
        );
    }
    assert_eq!(order(Vec::new(), small, None, None), [""; 0]);
}

#[test]
fn a_standby_has_no_rows_of_unlogged_tables() {
    let cluster = testing::cluster();
    let settings = testing::database(&cluster, "CREATE UNLOGGED TABLE fast (id int)");
    let connection = Connection::open(&settings, testing::runtime()).unwrap();
    let mut facts = facts(&connection);
    for in_recovery in [false, true] {
        facts.server.in_recovery = in_recovery;
        let tables = plan_tables(&connection, &facts, &[], &[]).unwrap();
        assert_eq!(tables[0].skipped, in_recovery);
    }
}
