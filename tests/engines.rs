//! The two engines that read a PostgreSQL database, and what a database whose rows are streams of their own can do.
//!
//! **Invariant**: whichever engine read it and whichever way it comes back, the database is the same.

use std::{fs, path::Path, process::Command};

use lifeboat_postgres::Cluster;

use crate::support::{
    cluster::{self, address, client, looks, new_name, psql},
    messages::number,
    program::{Lifeboat, Ran},
};

const SHOP: &str = "
CREATE SCHEMA crm;
CREATE TYPE crm.mood AS ENUM ('sad', 'happy');
CREATE TABLE crm.customer (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text NOT NULL, mood crm.mood, loud text GENERATED ALWAYS AS (upper(name)) STORED);
CREATE TABLE orders (id serial PRIMARY KEY, customer bigint REFERENCES crm.customer, price numeric(10, 2), note text);
CREATE INDEX ON orders (price);
CREATE TABLE event (at date, what text) PARTITION BY RANGE (at);
CREATE TABLE event_2025 PARTITION OF event FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
CREATE TABLE event_rest PARTITION OF event DEFAULT;
CREATE MATERIALIZED VIEW totals AS SELECT customer, sum(price) FROM orders GROUP BY customer;
CREATE SEQUENCE invoice START 100 INCREMENT 5;
SELECT nextval('invoice');
INSERT INTO crm.customer (name, mood) SELECT E'Name\\t' || n || E'\\n\\\\', 'happy' FROM generate_series(1, 500) n;
INSERT INTO orders (customer, price, note) SELECT n, n / 7.0, repeat(md5(n::text), 20) FROM generate_series(1, 500) n;
INSERT INTO event SELECT date '2024-12-01' + n, md5(n::text) FROM generate_series(1, 400) n;
SELECT lo_from_bytea(0, decode(repeat('ab', 5000), 'hex')), lo_from_bytea(0, '');
REFRESH MATERIALIZED VIEW totals;
";

/// A server's database with a little of everything, backed up on a machine whose configuration has `more` of it.
fn backed_up(cluster: &Cluster, more: &str) -> (Lifeboat, String) {
    let name = new_name("shop");
    psql(cluster, "postgres", &format!("CREATE DATABASE {name}"));
    psql(cluster, &name, SHOP);
    let machine = Lifeboat::with_repository();
    let url = address(cluster, "postgres", &name);
    let text = format!("[app.shop.postgres]\nurl = \"{url}\"\n{more}\n");
    fs::write(machine.path("lifeboat.toml"), text).unwrap();
    backup(&machine).done();
    (machine, name)
}

fn backup(machine: &Lifeboat) -> Ran {
    let config = machine.path("lifeboat.toml");
    machine.run(["backup", "--json", "--config", config.to_str().unwrap()])
}

fn empty_database(cluster: &Cluster) -> String {
    let name = new_name("back");
    let sql = format!("CREATE DATABASE {name} TEMPLATE template0");
    psql(cluster, "postgres", &sql);
    name
}

fn runs(mut command: Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn both_engines_give_the_same_database() {
    let cluster = cluster::shared();
    for more in ["", "engine = \"native\"", "engine = \"pg_dump\""] {
        let (machine, name) = backed_up(&cluster, more);
        let back = new_name("back");
        let to = address(&cluster, "postgres", &back);
        let ran = machine
            .run(["restore-db", "shop", "--to", &to, "--json"])
            .done();
        assert_eq!(looks(&cluster, &back), looks(&cluster, &name), "{more}");
        let is_native = !more.contains("pg_dump");
        assert_eq!(ran.summary()["verified"], is_native, "{more}");
        let archive = machine.run(["ls", "shop:db"]).done();
        assert_eq!(archive.stdout().contains("database.dump"), !is_native);
    }
}

#[test]
fn a_dump_is_put_together_without_a_server() {
    let cluster = cluster::shared();
    let (machine, name) = backed_up(&cluster, "");
    let (plain, custom) = (machine.path("shop.sql"), machine.path("shop.dump"));
    let to = |format: &str, file: &Path| {
        let file = file.to_str().unwrap();
        machine
            .run(["dump", "shop:db", "--format", format, "-o", file])
            .done();
    };
    to("plain", &plain);
    to("custom", &custom);
    let sql = fs::read_to_string(&plain).unwrap();
    assert_eq!(machine.run(["dump", "shop:db"]).done().stdout(), sql);

    let loaded = empty_database(&cluster);
    let mut load = Command::new(client(&cluster, "psql"));
    load.args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-f"])
        .arg(&plain);
    load.arg(address(&cluster, "postgres", &loaded));
    runs(load);
    assert_eq!(looks(&cluster, &loaded), looks(&cluster, &name));

    let loaded = empty_database(&cluster);
    let mut load = Command::new(client(&cluster, "pg_restore"));
    load.args(["--exit-on-error", "--jobs=2", "--dbname"]);
    load.arg(address(&cluster, "postgres", &loaded))
        .arg(&custom);
    runs(load);
    assert_eq!(looks(&cluster, &loaded), looks(&cluster, &name));
}

#[test]
fn one_archive_becomes_sql_where_a_pg_restore_is() {
    let cluster = cluster::shared();
    let (machine, name) = backed_up(&cluster, "engine = \"pg_dump\"");
    let plain = machine.path("shop.sql");
    machine
        .run(["dump", "shop:db", "-o", plain.to_str().unwrap()])
        .done();
    let loaded = empty_database(&cluster);
    let mut load = Command::new(client(&cluster, "psql"));
    load.args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-f"])
        .arg(&plain);
    load.arg(address(&cluster, "postgres", &loaded));
    runs(load);
    assert_eq!(looks(&cluster, &loaded), looks(&cluster, &name));

    let without = |arguments: &[&str]| {
        let mut command = machine.command();
        command.args(arguments);
        command
            .env("PATH", "")
            .env("LIFEBOAT_PG_BIN", machine.path("nothing"));
        Ran::of(command)
    };
    let ran = without(&["dump", "shop:db"]);
    assert!(ran.explains(1).contains("--format custom"), "{ran:?}");
    assert!(ran.output.is_empty());
    without(&["dump", "shop:db", "--format", "custom"]).done();
}

#[test]
fn what_a_dump_cannot_be_is_said() {
    let cluster = cluster::shared();
    let (machine, name) = backed_up(&cluster, "engine = \"pg_dump\"");
    let archive = machine
        .run(["dump", "shop:db", "--format", "custom"])
        .done();
    assert!(archive.output.starts_with(b"PGDMP"));
    let ran = machine.run(["dump", "shop:db/database.json", "--format", "plain"]);
    ran.explains(2);
    let to = address(&cluster, "postgres", &name);
    let beside = [
        "restore-db",
        "shop",
        "--to",
        &to,
        "--table",
        "public.orders",
        "--schema",
        "old",
    ];
    assert!(machine.run(beside).explains(1).contains("one archive"));
}

#[test]
fn tables_come_into_a_schema_beside_and_only_their_rows_are_read() {
    let cluster = cluster::shared();
    let (machine, name) = backed_up(&cluster, "");
    psql(
        &cluster,
        &name,
        "DELETE FROM orders WHERE id <= 100; UPDATE orders SET note = 'overwritten'",
    );
    let to = address(&cluster, "postgres", &name);
    let beside = [
        "restore-db",
        "shop",
        "--to",
        &to,
        "--schema",
        "yesterday",
        "--json",
        "--table",
        "public.orders",
        "--table",
        "public.event",
    ];
    let summary = machine.run(beside).done().summary();
    assert_eq!(number(&summary, "tables"), 2);
    assert_eq!(number(&summary, "rows"), 900);
    let lost = "SELECT count(*) FROM yesterday.orders o WHERE NOT EXISTS (SELECT FROM public.orders p WHERE p.id = o.id)";
    assert_eq!(psql(&cluster, &name, lost).trim(), "100");
    assert_eq!(
        psql(&cluster, &name, "SELECT count(*) FROM yesterday.event").trim(),
        "400"
    );
    // What is there is not touched, and the schema is not made twice.
    assert!(machine.run(beside).exit_error().0.contains("yesterday"));
    let ran = machine.run([
        "restore-db",
        "shop",
        "--to",
        &to,
        "--schema",
        "x",
        "--table",
        "orders",
    ]);
    assert!(ran.explains(2).contains("no table \"orders\""), "{ran:?}");
    assert!(
        ran.stderr.contains("Did you mean `public.orders`?"),
        "{ran:?}"
    );
    assert_eq!(
        psql(
            &cluster,
            &name,
            "SELECT count(*) FROM pg_namespace WHERE nspname = 'x'"
        )
        .trim(),
        "0"
    );
}

#[test]
fn a_second_night_stores_what_changed_and_keeps_the_order_of_the_rows() {
    let cluster = cluster::shared();
    let (machine, name) = backed_up(&cluster, "");
    psql(
        &cluster,
        &name,
        "INSERT INTO orders (customer, price, note) SELECT 1, n % 89, repeat(md5(n::text), 20) FROM generate_series(1, 5000) n",
    );
    backup(&machine).done();
    psql(
        &cluster,
        &name,
        "INSERT INTO orders (customer, price) VALUES (1, 1); CLUSTER orders USING orders_price_idx",
    );
    let ran = backup(&machine).done();
    let new = number(&ran.summary(), "bytes_new");
    let all = number(&ran.summary(), "bytes");
    assert!(new < all / 5, "{new} of {all} bytes are new");
    let rows = machine.run(["dump", "shop:db/public.orders"]).done();
    let ids: Vec<u32> = rows
        .stdout()
        .lines()
        .map(|line| line.split('\t').next().unwrap().parse().unwrap())
        .collect();
    assert!(ids.is_sorted() && ids.len() == 5501, "{ids:?}");
}

#[test]
fn a_file_that_lacks_or_differs_is_no_restored_database() {
    let cluster = cluster::shared();
    let (machine, _) = backed_up(&cluster, "");
    // Every data pack loses a byte in its middle.
    let packs = machine.repository().join("packs/d");
    let mut changed = 0;
    for folder in fs::read_dir(&packs).unwrap().flatten() {
        let inside = if folder.path().is_dir() {
            fs::read_dir(folder.path())
                .unwrap()
                .flatten()
                .map(|entry| entry.path())
                .collect()
        } else {
            vec![folder.path()]
        };
        for path in inside {
            let mut bytes = fs::read(&path).unwrap();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            fs::remove_file(&path).unwrap();
            fs::write(&path, bytes).unwrap();
            changed += 1;
        }
    }
    assert!(changed > 0);
    let back = new_name("back");
    let to = address(&cluster, "postgres", &back);
    let ran = machine.run(["restore-db", "shop", "--to", &to]);
    assert!(matches!(ran.code, 1 | 4), "{ran:?}");
    let made = format!("SELECT count(*) FROM pg_database WHERE datname LIKE '{back}%'");
    assert_eq!(psql(&cluster, "postgres", &made).trim(), "0");
    assert!(
        !machine
            .run(["dump", "shop:db", "-o", "half.sql"])
            .output
            .starts_with(b"--")
    );
    assert!(!machine.path("half.sql").exists());
}
