//! PostgreSQL: a database and its media come back as they were each night, and what goes wrong leaves no snapshot.
//!
//! **Invariant**: two databases are the same when `pg_dump` prints the same of both.
//!
//! Long form, by environment variables: `LIFEBOAT_TEST_NIGHTS` (4; the long form takes 11), `LIFEBOAT_TEST_MEGABYTES`
//! (size of the database, 20; 300) and `LIFEBOAT_TEST_FILES` (200; 5000).

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::Path,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use lifeboat_postgres::Cluster;
use rustix::process::{Pid, Signal, kill_process, test_kill_process};

use crate::support::{
    cluster::{self, address, client, looks, new_name, psql},
    long_form,
    program::{Lifeboat, Ran, ends_soon},
    same::same,
    trees::Tree,
};

/// Everything that a schema is made of. `CLERK` stands for a role of the test's own.
const SCHEMA: &str = "
CREATE ROLE \"CLERK\" LOGIN;
CREATE SCHEMA crm;
COMMENT ON SCHEMA crm IS 'Kunden – customers; it''s quoted';
CREATE TYPE crm.mood AS ENUM ('sad', 'ok', 'happy');
CREATE DOMAIN crm.email AS text CHECK (VALUE LIKE '%@%');
CREATE TABLE crm.customer (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL,
    mood crm.mood NOT NULL DEFAULT 'ok',
    email crm.email,
    tags text[] NOT NULL DEFAULT '{}',
    data jsonb,
    upper_name text GENERATED ALWAYS AS (upper(name)) STORED
);
COMMENT ON COLUMN crm.customer.data IS E'two\\nlines';
CREATE INDEX ON crm.customer USING gin (data);
CREATE INDEX happy ON crm.customer (name) WHERE mood = 'happy';
CREATE TABLE attachment (
    id serial PRIMARY KEY,
    customer bigint REFERENCES crm.customer ON DELETE SET NULL,
    path text NOT NULL UNIQUE,
    content oid,
    thumbnail bytea
);
CREATE TABLE event (at timestamptz NOT NULL, customer bigint, what text) PARTITION BY RANGE (at);
CREATE TABLE event_2025 PARTITION OF event FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
CREATE TABLE event_rest PARTITION OF event DEFAULT;
CREATE VIEW crm.happy_customer AS SELECT id, name FROM crm.customer WHERE mood = 'happy';
CREATE MATERIALIZED VIEW customers_by_mood AS SELECT mood, count(*) FROM crm.customer GROUP BY mood ORDER BY mood;
CREATE TABLE \"Odd \"\"name\"\" – ünï\" (\"select\" numeric(30, 10), x real, y double precision, z inet, s interval);
INSERT INTO \"Odd \"\"name\"\" – ünï\" VALUES
    ('NaN', 'Infinity', 5e-324, '2001:db8::/32', '1 mon -3 days'), (12345678901234567890.0123456789, 0.1, 0.1, '::1', NULL);
CREATE SEQUENCE invoice_number START 4711 INCREMENT 7;
SELECT nextval('invoice_number'), nextval('invoice_number');
CREATE FUNCTION crm.note_event() RETURNS trigger LANGUAGE plpgsql AS $body$
BEGIN
    INSERT INTO event VALUES ('2025-06-01', NEW.id, 'changed; $$ quoted $$');
    RETURN NEW;
END $body$;
CREATE TRIGGER note_event AFTER UPDATE OF mood ON crm.customer FOR EACH ROW EXECUTE FUNCTION crm.note_event();
ALTER TABLE attachment ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON attachment TO \"CLERK\" USING (customer IS NOT NULL);
GRANT USAGE ON SCHEMA crm TO \"CLERK\";
GRANT SELECT, UPDATE (name) ON crm.customer TO \"CLERK\" WITH GRANT OPTION;
ALTER DEFAULT PRIVILEGES IN SCHEMA crm GRANT SELECT ON TABLES TO \"CLERK\";
ALTER TABLE event OWNER TO \"CLERK\";
";

/// Makes a database with everything in it and about so many megabytes of rows.
fn database(cluster: &Cluster, megabytes: u64) -> (String, String) {
    let (name, role) = (new_name("shop"), new_name("clerk \"x\" of"));
    psql(cluster, "postgres", &format!("CREATE DATABASE {name}"));
    psql(
        cluster,
        &name,
        &SCHEMA.replace("CLERK", &role.replace('"', "\"\"")),
    );
    let rows = megabytes * 2_200;
    psql(
        cluster,
        &name,
        &format!(
            "INSERT INTO crm.customer (name, mood, email, tags, data)
             SELECT 'Customer ' || n, (ARRAY['sad', 'ok', 'happy'])[n % 3 + 1]::crm.mood, md5(n::text) || '@example.org',
                    ARRAY['a' || n % 5, E'tab\\t and \\\\ backslash'], jsonb_build_object('n', n, 'text', repeat(md5(random()::text), 6))
             FROM generate_series(1, {rows}) n;
             INSERT INTO event SELECT timestamptz '2024-12-01' + n * interval '20 minutes', n, md5(n::text) FROM generate_series(1, {rows}) n;
             INSERT INTO attachment (customer, path, content, thumbnail)
             SELECT n, n || '.bin', lo_from_bytea(0, decode(repeat(md5(n::text), 500), 'hex')), decode(md5(n::text), 'hex')
             FROM generate_series(1, 20) n;
             REFRESH MATERIALIZED VIEW customers_by_mood;"
        ),
    );
    (name, role)
}

/// Runs `restore-db` into a new database and returns its name.
fn restored(machine: &Lifeboat, cluster: &Cluster, selector: &str) -> String {
    let name = new_name("back");
    let to = address(cluster, "postgres", &name);
    let ran = machine
        .run(["restore-db", selector, "--to", &to, "-v"])
        .done();
    for phase in ["Restoring ", "Finishing "] {
        let told = ran.stderr.lines().any(|line| line.starts_with(phase));
        assert!(told, "{ran:?}");
    }
    name
}

#[test]
fn a_database_of_every_kind_of_object_comes_back() {
    let cluster = cluster::shared();
    let (name, role) = database(&cluster, 1);
    let machine = Lifeboat::with_repository();
    let source = address(&cluster, "postgres", &name);
    machine
        .run(["backup", "--app", "shop", "--source", &source])
        .done();
    let back = restored(&machine, &cluster, "shop");
    assert_eq!(looks(&cluster, &back), looks(&cluster, &name));
    let grants = psql(&cluster, &back, "SELECT count(*) FROM pg_default_acl");
    assert_eq!(grants.trim(), "1");
    let quoted = role.replace('\'', "''");
    let owner = format!(
        "SELECT relname FROM pg_class WHERE relowner = (SELECT oid FROM pg_roles WHERE rolname = '{quoted}') AND relkind = 'p'"
    );
    assert_eq!(psql(&cluster, &back, &owner).trim(), "event");

    let listed = machine.run(["ls", "shop:db"]).done();
    for file in [
        "schema.dump",
        "crm.customer",
        "large-objects",
        "database.json",
        "database.sql",
        "globals.sql",
    ] {
        assert!(listed.stdout().contains(file), "{}", listed.stdout());
    }
}

#[test]
fn what_is_kept_beside_the_archive_makes_the_database_again_by_psql_alone() {
    let cluster = cluster::shared();
    let name = new_name("shop");
    psql(&cluster, "postgres", &format!("CREATE DATABASE {name}"));
    psql(
        &cluster,
        "postgres",
        &format!(
            "ALTER DATABASE {name} SET work_mem = '7MB'; COMMENT ON DATABASE {name} IS 'it''s the shop'"
        ),
    );
    let machine = Lifeboat::with_repository();
    let source = address(&cluster, "postgres", &name);
    machine
        .run(["backup", "--app", "shop", "--source", &source])
        .done();
    let sql = machine.run(["dump", "shop:db/database.sql"]).done();
    let other = cluster::own();
    psql(&other, "postgres", sql.stdout());
    assert_eq!(psql(&other, &name, "SHOW work_mem").trim(), "7MB");

    // A server that has no database of the usual name is restored to all the same.
    psql(&other, "template1", "DROP DATABASE postgres");
    let back = restored(&machine, &other, "shop");
    assert_eq!(psql(&other, &back, "SHOW work_mem").trim(), "7MB");
}

#[test]
fn a_comparison_tells_the_tables_whose_rows_changed_and_what_became_a_link() {
    let cluster = cluster::shared();
    let name = new_name("shop");
    psql(&cluster, "postgres", &format!("CREATE DATABASE {name}"));
    let tables = "CREATE TABLE kept (x int); INSERT INTO kept VALUES (1); CREATE TABLE changed (x int); INSERT INTO changed VALUES (1)";
    psql(&cluster, &name, tables);
    let machine = Lifeboat::with_repository();
    let media = Tree::create(machine.path("media"));
    media.file("photo", "as it was").file("touched", "the same");
    let source = address(&cluster, "postgres", &name);
    let folder = media.root().to_str().unwrap();
    let backup = || {
        let sources = ["--source", folder, "--source", &source];
        machine
            .run([&["backup", "--app", "shop"][..], &sources].concat())
            .done();
    };
    backup();
    psql(&cluster, &name, "UPDATE changed SET x = 2");
    media.remove("photo");
    symlink("touched", media.root().join("photo")).unwrap();
    let file = fs::File::options()
        .append(true)
        .open(media.root().join("touched"));
    file.unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
    backup();
    let ran = machine.run(["diff", "shop~1", "shop"]).done();
    let lines: Vec<&str> = ran.stdout().lines().collect();
    assert!(
        lines.contains(&"M media/photo  (file -> symlink)"),
        "{ran:?}"
    );
    assert!(lines.contains(&"U media/touched"), "{ran:?}");
    let of_database: Vec<&&str> = lines.iter().filter(|line| line.contains(" db/")).collect();
    assert!(
        of_database
            .iter()
            .any(|line| line.contains("public.changed")),
        "{ran:?}"
    );
    assert!(
        of_database
            .iter()
            .all(|line| line.starts_with("M ") && !line.contains("public.kept")),
        "{ran:?}"
    );
    let json = machine.run(["diff", "shop~1", "shop", "--json"]).done();
    let json = json.answer();
    let mut all = json.as_array().unwrap().iter();
    let photo = all.find(|one| one["path"] == "media/photo").unwrap();
    assert_eq!(
        (&photo["kind_before"], &photo["kind_after"]),
        (&"file".into(), &"symlink".into())
    );
}

#[test]
fn one_table_comes_back_alone() {
    let cluster = cluster::shared();
    let (name, _) = database(&cluster, 1);
    let machine = Lifeboat::with_repository();
    let source = address(&cluster, "postgres", &name);
    machine
        .run(["backup", "--app", "shop", "--source", &source])
        .done();
    let back = new_name("back");
    let to = address(&cluster, "postgres", &back);
    let table = "crm.customer";
    machine
        .run(["restore-db", "shop", "--to", &to, "--table", table])
        .done();
    let tables = "SELECT string_agg(relname, ' ') FROM pg_class WHERE relkind IN ('r', 'p') AND relnamespace::regnamespace::text IN ('public', 'crm')";
    assert_eq!(psql(&cluster, &back, tables).trim(), "customer");
    let rows = "SELECT count(*), md5(string_agg(c::text, ',' ORDER BY id)) FROM crm.customer c";
    assert_eq!(psql(&cluster, &back, rows), psql(&cluster, &name, rows));
    let ran = machine.run(["restore-db", "shop", "--to", &to, "--table", table]);
    assert!(ran.explains(14).contains("--schema NEW"), "{ran:?}");
}

/// What happens to the database and its media between two backups.
fn night(cluster: &Cluster, name: &str, media: &Tree, number: u64, files: u64) {
    psql(
        cluster,
        name,
        &format!(
            "UPDATE crm.customer SET mood = 'happy', data = data || jsonb_build_object('night', {number}) WHERE id % 199 = {number};
             DELETE FROM event WHERE customer % 997 = {number};
             INSERT INTO event SELECT now(), n, 'night {number}' FROM generate_series(1, 300) n;
             INSERT INTO attachment (path, content) VALUES ('night-{number}.bin', lo_from_bytea(0, 'night {number}'));
             SELECT lo_unlink(content) FROM attachment WHERE path = '{number}.bin';
             DELETE FROM attachment WHERE path = '{number}.bin';
             ALTER TABLE crm.customer ADD COLUMN night_{number} int DEFAULT {number};
             REFRESH MATERIALIZED VIEW customers_by_mood;"
        ),
    );
    media.file(
        &format!("night-{number}.bin"),
        number.to_string().repeat(50_000),
    );
    for file in (number..files).step_by(37) {
        let path = format!("{:02}/item-{file:05}.bin", file % 7);
        if !media.root().join(&path).exists() {
            continue;
        }
        match file % 3 {
            0 => media.remove(&path),
            1 => media.file(&path, format!("changed in night {number}")),
            _ => media.mode(&path, 0o600),
        };
    }
}

#[test]
fn every_night_of_a_database_and_its_media_comes_back() {
    let cluster = cluster::shared();
    let nights = long_form("LIFEBOAT_TEST_NIGHTS", 4);
    let files = long_form("LIFEBOAT_TEST_FILES", 200);
    let (name, _) = database(&cluster, long_form("LIFEBOAT_TEST_MEGABYTES", 20));
    let machine = Lifeboat::with_repository();
    let media = Tree::create(machine.path("media"));
    media.media(8, files);
    let source = address(&cluster, "postgres", &name);
    let mut kept = Vec::new();
    for number in 0..nights {
        if number > 0 {
            night(&cluster, &name, &media, number, files);
        }
        let mut backup = machine.command();
        backup
            .args(["backup", "--app", "shop", "--source", &source, "--source"])
            .arg(media.root());
        Ran::of(backup).done();
        let copy = machine.path(format!("media-{number}"));
        let copied = Command::new("cp")
            .arg("-a")
            .args([media.root(), &copy])
            .status();
        assert!(copied.unwrap().success());
        kept.push((looks(&cluster, &name), copy));
    }
    for (back, (looked, copy)) in kept.iter().rev().enumerate() {
        let database = restored(&machine, &cluster, &format!("shop~{back}"));
        assert_eq!(
            looks(&cluster, &database),
            *looked,
            "the database {back} nights ago"
        );
        psql(&cluster, "postgres", &format!("DROP DATABASE {database}"));
        let target = machine.path("back");
        let mut restore = machine.command();
        restore
            .args(["restore", &format!("shop~{back}:media"), "--target"])
            .arg(&target);
        Ran::of(restore).done();
        same(copy, &target);
        fs::remove_dir_all(target).unwrap();
    }
    psql(&cluster, "postgres", &format!("DROP DATABASE {name}"));
}

fn no_snapshot(machine: &Lifeboat) {
    let list = machine.run(["snapshots", "--json"]).done().answer();
    assert!(list.as_array().unwrap().is_empty(), "{list}");
}

#[test]
fn a_database_that_cannot_be_read_is_found_before_the_first_byte() {
    let cluster = cluster::shared();
    let (name, role) = (new_name("closed"), new_name("weak"));
    psql(&cluster, "postgres", &format!("CREATE DATABASE {name}"));
    psql(
        &cluster,
        &name,
        &format!(
            "CREATE TABLE hidden (x int); CREATE ROLE {role} LOGIN; CREATE ROLE {role}_shut NOLOGIN"
        ),
    );
    let machine = Lifeboat::with_repository();
    let gone = format!("postgres://postgres@127.0.0.1:1/{name}");
    let cases = [
        (address(&cluster, "no_such_role", &name), "no_such_role"),
        (
            address(&cluster, &format!("{role}_shut"), &name),
            "not permitted to log in",
        ),
        (
            address(&cluster, "postgres", "no_such_database"),
            "no_such_database",
        ),
        (address(&cluster, &role, &name), "hidden"),
        (gone, "127.0.0.1"),
    ];
    for (source, said) in cases {
        let ran = machine.run(["backup", "--app", "shop", "--source", &source]);
        assert!(ran.explains(13).contains(said), "{ran:?}");
        assert!(!ran.stderr.contains("lifeboat app test"), "{ran:?}");
    }
    no_snapshot(&machine);
}

/// PostgreSQL's programs with `pg_dump` replaced by a script that finds the real one as `$REAL`.
fn stand_in(machine: &Lifeboat, cluster: &Cluster, script: &str) -> Command {
    let folder = machine.path("programs");
    fs::create_dir(&folder).unwrap();
    for program in ["pg_dumpall", "pg_restore", "psql"] {
        symlink(client(cluster, program), folder.join(program)).unwrap();
    }
    let text = format!(
        "#!/bin/sh\nREAL={}\n{script}\n",
        client(cluster, "pg_dump").display()
    );
    let path = folder.join("pg_dump");
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = machine.command();
    command.env("LIFEBOAT_PG_BIN", folder);
    command
}

const VERSION: &str = "case \"$1\" in --version) exec $REAL --version;; esac";

#[test]
fn a_dump_that_ends_too_early_is_no_backup() {
    let cluster = cluster::shared();
    let (name, _) = database(&cluster, 1);
    let source = address(&cluster, "postgres", &name);
    for script in [
        // Killed half way, with a part of the archive already printed.
        "$REAL \"$@\" | head -c 5000; kill -9 $$",
        // Cut off, and yet it claims to have succeeded.
        "$REAL \"$@\" | head -c 5000; exit 0",
        "$REAL \"$@\"; echo 'a table was locked' >&2; exit 1",
        "exit 0",
    ] {
        for engine in ["native", "pg_dump"] {
            let machine = Lifeboat::with_repository();
            let config = machine.path("lifeboat.toml");
            let text = format!("[app.shop.postgres]\nurl = \"{source}\"\nengine = \"{engine}\"\n");
            fs::write(&config, text).unwrap();
            let mut backup = stand_in(&machine, &cluster, &format!("{VERSION}\n{script}"));
            backup.arg("backup").arg("--config").arg(config);
            let ran = Ran::of(backup);
            assert_eq!(ran.code, 1, "{engine}, {script}: {ran:?}");
            ran.explains(1);
            no_snapshot(&machine);
        }
    }
}

#[test]
fn a_pg_dump_older_than_its_server_is_refused() {
    let cluster = cluster::shared();
    let machine = Lifeboat::with_repository();
    let mut backup = stand_in(&machine, &cluster, "echo 'pg_dump (PostgreSQL) 9.6.24'");
    let source = address(&cluster, "postgres", "postgres");
    backup.args(["backup", "--app", "shop", "--source", &source]);
    let ran = Ran::of(backup);
    assert!(
        ran.explains(13).contains("older than the server"),
        "{ran:?}"
    );
    no_snapshot(&machine);
}

#[test]
fn a_server_that_goes_away_half_way_leaves_no_snapshot() {
    let mut cluster = cluster::own();
    psql(
        &cluster,
        "postgres",
        "CREATE TABLE t AS SELECT n, md5(n::text) FROM generate_series(1, 50000) n",
    );
    let machine = Lifeboat::with_repository();
    let script = format!(
        "{VERSION}\ncd '{}' && touch begun\nwhile [ ! -e gone ]; do sleep 0.05; done\nexec $REAL \"$@\"",
        machine.folder().display()
    );
    let mut backup = stand_in(&machine, &cluster, &script);
    let source = address(&cluster, "postgres", "postgres");
    backup
        .args(["backup", "--app", "shop", "--source", &source])
        .stdout(Stdio::null());
    let mut child = backup.spawn().unwrap();
    wait_for(&machine.path("begun"));
    cluster.stop();
    fs::write(machine.path("gone"), "").unwrap();
    let code = child.wait().unwrap().code();
    assert_eq!(code, Some(13), "as when the server was gone before");
    no_snapshot(&machine);
    machine
        .run(["backup", "--app", "shop", "--source", &source])
        .explains(13);
    no_snapshot(&machine);
}

#[test]
fn a_backup_that_waits_for_pg_dump_can_be_stopped() {
    let cluster = cluster::shared();
    let machine = Lifeboat::with_repository();
    let script = format!(
        "{VERSION}\ncd '{}' && echo $$ > number && mv number begun\nexec sleep 1000",
        machine.folder().display()
    );
    let mut backup = stand_in(&machine, &cluster, &script);
    let source = address(&cluster, "postgres", "postgres");
    backup.args(["backup", "--app", "shop", "--source", &source]);
    let mut child = backup.spawn().unwrap();
    wait_for(&machine.path("begun"));
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    assert_eq!(ends_soon(&mut child), Some(143));
    let dump = fs::read_to_string(machine.path("begun")).unwrap();
    let dump = Pid::from_raw(dump.trim().parse().unwrap()).unwrap();
    assert!(test_kill_process(dump).is_err(), "pg_dump was ended too");
    no_snapshot(&machine);
}

#[test]
fn what_pg_dump_says_although_it_succeeds_is_told() {
    let cluster = cluster::shared();
    let machine = Lifeboat::with_repository();
    let script = format!(
        "{VERSION}\necho 'pg_dump: warning: a subscription was left out' >&2\nexec $REAL \"$@\""
    );
    let mut backup = stand_in(&machine, &cluster, &script);
    let source = address(&cluster, "postgres", "postgres");
    backup.args(["backup", "--app", "shop", "--source", &source]);
    let ran = Ran::of(backup).done();
    assert!(
        ran.stderr
            .contains("pg_dump said about db: pg_dump: warning: a subscription was left out"),
        "{ran:?}"
    );
}

#[test]
fn a_restore_that_is_stopped_takes_its_database_away_again() {
    let cluster = cluster::shared();
    let (name, back) = (new_name("fast"), new_name("slow"));
    psql(&cluster, "postgres", &format!("CREATE DATABASE {name}"));
    psql(
        &cluster,
        &name,
        "CREATE FUNCTION one() RETURNS int LANGUAGE plpgsql AS $$ BEGIN
           PERFORM pg_catalog.pg_sleep(CASE WHEN pg_catalog.current_database() LIKE 'slow%' THEN 600 ELSE 0 END);
           RETURN 1; END $$;
         CREATE MATERIALIZED VIEW waits AS SELECT public.one()",
    );
    let machine = Lifeboat::with_repository();
    let source = address(&cluster, "postgres", &name);
    machine
        .run(["backup", "--app", "shop", "--source", &source])
        .done();
    let mut restore = machine.command();
    let to = address(&cluster, "postgres", &back);
    restore.args(["restore-db", "shop", "--to", &to]);
    let mut child = restore.spawn().unwrap();
    let asleep = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE datname LIKE '{back}%' AND wait_event = 'PgSleep'"
    );
    let begun = Instant::now();
    while psql(&cluster, "postgres", &asleep).trim() == "0" {
        assert!(begun.elapsed() < Duration::from_secs(30), "it is restored");
        thread::sleep(Duration::from_millis(20));
    }
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    assert_eq!(ends_soon(&mut child), Some(143));
    let there = format!("SELECT count(*) FROM pg_database WHERE datname LIKE '{back}%'");
    assert_eq!(psql(&cluster, "postgres", &there).trim(), "0");
}

#[test]
fn a_restore_that_cannot_begin_says_whose_fault_it_is() {
    let cluster = cluster::shared();
    let (name, role) = (new_name("shop"), new_name("small"));
    psql(&cluster, "postgres", &format!("CREATE DATABASE {name}"));
    psql(
        &cluster,
        &name,
        &format!("CREATE TABLE t (x int); CREATE ROLE {role} LOGIN"),
    );
    let machine = Lifeboat::with_repository();
    let source = address(&cluster, "postgres", &name);
    machine
        .run(["backup", "--app", "shop", "--source", &source])
        .done();
    let new = new_name("back");
    let to = address(&cluster, &role, &new);
    let ran = machine.run(["restore-db", "shop", "--to", &to]);
    let told = ran.explains(13);
    assert!(told.contains("CREATEDB"), "{told}");
    let said = "may not make databases";
    assert_eq!(told.matches(said).count(), 1, "{told}");
    let to = address(&cluster, "postgres", &new);
    let ran = machine.run(["restore-db", "shop", "--to", &to, "--table", "public.none"]);
    assert!(ran.explains(2).contains("public.none"), "{ran:?}");
    let ran = machine.run(["restore-db", "shop", "--to", &to, "--table", "t"]);
    assert!(ran.explains(2).contains("`public.t`"), "{ran:?}");
}

fn wait_for(path: &Path) {
    let begun = Instant::now();
    while !path.exists() {
        assert!(
            begun.elapsed() < Duration::from_secs(30),
            "{} comes",
            path.display()
        );
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_database_that_exists_is_never_restored_into() {
    let cluster = cluster::shared();
    let (name, _) = database(&cluster, 1);
    let machine = Lifeboat::with_repository();
    let source = address(&cluster, "postgres", &name);
    machine
        .run(["backup", "--app", "shop", "--source", &source])
        .done();
    let before = looks(&cluster, &name);
    machine
        .run(["restore-db", "shop", "--to", &source])
        .explains(14);
    assert_eq!(looks(&cluster, &name), before);
    let secret = "postgres://postgres:hunter2@/x";
    let ran = machine.run(["restore-db", "shop", "--to", secret]);
    assert!(!ran.explains(2).contains("hunter2"), "{ran:?}");
}

#[test]
fn a_restore_that_fails_takes_its_database_away_again() {
    let cluster = cluster::shared();
    let (name, _) = database(&cluster, 1);
    let machine = Lifeboat::with_repository();
    let source = address(&cluster, "postgres", &name);
    machine
        .run(["backup", "--app", "shop", "--source", &source])
        .done();
    let packs = machine.repository();
    let damaged = Command::new("sh")
        .args(["-c", "find . -type f -size +100k -exec sh -c 'printf damaged8 | dd of=\"$1\" bs=1 seek=60000 conv=notrunc 2>/dev/null' - {} \\;"])
        .current_dir(packs)
        .status();
    assert!(damaged.unwrap().success());
    let back = new_name("back");
    let to = address(&cluster, "postgres", &back);
    let ran = machine.run(["restore-db", "shop", "--to", &to]);
    assert!(matches!(ran.code, 1 | 4), "{ran:?}");
    let there = format!("SELECT count(*) FROM pg_database WHERE datname = '{back}'");
    assert_eq!(psql(&cluster, "postgres", &there).trim(), "0");
}
