//! A server that only PostgreSQL's own programs reach, by way of another program (`via`).
//!
//! **Invariant**: whatever stands between, a backup that is confirmed is whole, and every other one is none.

use std::{fs, os::unix::fs::PermissionsExt};

use lifeboat_postgres::Cluster;

use crate::support::{
    cluster::{self, address, client, looks, new_name, psql},
    program::{Lifeboat, Ran},
};

/// Runs what stands behind `exec -T db` where neither the environment nor the folder is ours, as a container does.
const RUN: &str = "exec $RUN \"$@\"";

struct App {
    machine: Lifeboat,
    database: String,
}

impl App {
    fn new(cluster: &Cluster) -> Self {
        let database = new_name("inside");
        psql(cluster, "postgres", &format!("CREATE DATABASE {database}"));
        let sql = "CREATE TABLE orders (id int PRIMARY KEY, file text);
             INSERT INTO orders SELECT n, 'photo-' || n % 3 FROM generate_series(1, 20000) n";
        psql(cluster, &database, sql);
        let machine = Lifeboat::with_repository();
        fs::create_dir(machine.path("media")).unwrap();
        for photo in 0..3 {
            fs::write(machine.path(format!("media/photo-{photo}")), "x").unwrap();
        }
        let url = address(cluster, "postgres", &database);
        let text = format!(
            "[app.shop.postgres]\nurl = \"{url}\"\nvia = [\"{}\", \"exec\", \"-T\", \"db\"]\n\
             [app.shop.media.media]\npath = \"{}\"\nreferenced-by = [\"public.orders.file\"]\n",
            machine.path("container").display(),
            machine.path("media").display()
        );
        fs::write(machine.path("lifeboat.toml"), text).unwrap();
        let app = Self { machine, database };
        app.container(cluster, RUN);
        app
    }

    /// Puts a stand-in for the container there; `$RUN` in its script runs a program inside.
    fn container(&self, cluster: &Cluster, script: &str) {
        let clients = client(cluster, "psql");
        let clients = clients.parent().unwrap().display();
        let path = self.machine.path("container");
        let text = format!(
            "#!/bin/sh\nRUN='env -i PATH={clients}:/usr/bin:/bin'; shift 3; cd /\n{script}\n"
        );
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn run(&self, arguments: &[&str]) -> Ran {
        let config = self.machine.path("lifeboat.toml");
        let config = ["--config", config.to_str().unwrap()];
        self.machine.run([arguments, &config].concat())
    }

    fn snapshots(&self) -> usize {
        let listed = self.run(&["snapshots", "--json"]).done().json();
        listed[0].as_array().unwrap().len()
    }
}

#[test]
fn a_database_that_only_its_own_programs_reach_is_backed_up_and_comes_back() {
    let cluster = cluster::shared();
    let app = App::new(&cluster);
    let tested = app.run(&["app", "test", "shop"]).done();
    let said = tested.stdout();
    assert!(said.contains("by way of"), "{said}");
    assert!(said.contains("is not seen from here"), "{said}");
    let ran = app.run(&["backup", "shop"]).done();
    let reason = "pg_dump reads all, because it is started by way of another program";
    assert!(
        ran.stderr.contains(reason) || ran.stdout().contains(reason),
        "{ran:?}"
    );

    let back = new_name("outside");
    let to = address(&cluster, "postgres", &back);
    app.run(&["restore-db", "shop", "--to", &to]).done();
    assert_eq!(looks(&cluster, &back), looks(&cluster, &app.database));
    app.run(&["drill", "shop"]).done();

    // What the rows name is seen there too.
    fs::remove_file(app.machine.path("media/photo-1")).unwrap();
    psql(
        &cluster,
        &app.database,
        "INSERT INTO orders VALUES (0, 'photo-9')",
    );
    let ran = app.run(&["backup", "shop"]).ends_with_code(3);
    assert!(ran.stderr.contains("photo-9"), "{ran:?}");

    // Where only programs go no database can be replaced.
    let ran = app.run(&["restore-app", "shop", "--yes-replace", "shop"]);
    assert!(
        ran.explains(14).contains("lifeboat restore-db shop:db"),
        "{ran:?}"
    );
    let state = psql(&cluster, &app.database, "SELECT count(*) FROM orders");
    assert_eq!(state.trim(), "20001");
}

#[test]
fn what_fails_on_the_way_leaves_no_snapshot() {
    let cluster = cluster::shared();
    let app = App::new(&cluster);
    // Before the first byte `pg_dump --version` is asked.
    let dump_only =
        |then: &str| format!("case \"$1 $2\" in 'pg_dump --format=custom') {then};; esac\n{RUN}");
    for (script, code, words) in [
        (
            dump_only("$RUN \"$@\"; exit 1"),
            1,
            "pg_dump ended with exit code 1",
        ),
        (
            dump_only("$RUN \"$@\"; echo 'pg_dump: error: no space' >&2; exit 0"),
            1,
            "no space",
        ),
        (
            dump_only("$RUN \"$@\" | head -c 90000; kill -9 $$"),
            1,
            "SIGKILL",
        ),
        (
            dump_only("$RUN \"$@\" | head -c 90000; exit 0"),
            1,
            "cut off",
        ),
        (
            "echo 'no such service: db' >&2; exit 1".to_owned(),
            13,
            "no such service: db",
        ),
        ("exec $RUN \"no-$@\"".to_owned(), 13, "exit code 127"),
        (
            format!("case \"$1\" in pg_dump) echo 'pg_dump (PostgreSQL) 9.6'; exit;; esac\n{RUN}"),
            13,
            "older than the server",
        ),
    ] {
        app.container(&cluster, &script);
        let ran = app.run(&["backup", "shop"]).ends_with_code(code);
        assert!(ran.stderr.contains(words), "{script}: {ran:?}");
        assert_eq!(app.snapshots(), 0, "{script}");
    }
    fs::remove_file(app.machine.path("container")).unwrap();
    let ran = app.run(&["backup", "shop"]).ends_with_code(13);
    assert!(ran.stderr.contains("cannot start"), "{ran:?}");
    app.container(&cluster, RUN);
    app.run(&["backup", "shop"]).done();
    assert_eq!(app.snapshots(), 1);
}

/// Databases whose name begins so.
fn there(cluster: &Cluster, name: &str) -> String {
    let sql = format!("SELECT count(*) FROM pg_database WHERE starts_with(datname, '{name}')");
    psql(cluster, "postgres", &sql).trim().to_owned()
}

#[test]
fn a_snapshot_of_either_engine_comes_back_by_way_of_another_program() {
    let cluster = cluster::shared();
    let app = App::new(&cluster);
    psql(
        &cluster,
        &app.database,
        "CREATE TABLE line (orders int REFERENCES orders, text text);
         INSERT INTO line SELECT n, E'tab\t' || n FROM generate_series(1, 100) n;
         CREATE INDEX ON line (text); CREATE SEQUENCE ticket; SELECT nextval('ticket'), lo_from_bytea(7, 'large');
         CREATE DOMAIN small AS int CHECK (VALUE < 10); CREATE VIEW all_lines AS SELECT * FROM line",
    );
    let config = app.machine.path("lifeboat.toml");
    let text = fs::read_to_string(&config).unwrap();
    let native: String = text
        .lines()
        .filter(|line| !line.starts_with("via"))
        .fold(String::new(), |text, line| text + line + "\n");
    let via = format!("{} exec -T db", app.machine.path("container").display());
    for (engine, text) in [("pg_dump", &text), ("native", &native)] {
        fs::write(&config, text).unwrap();
        app.run(&["backup", "shop"]).done();
        let back = new_name("back");
        let to = address(&cluster, "postgres", &back);
        let ran = app
            .run(&["restore-db", "shop:db", "--to", &to, "--via", &via])
            .done();
        assert!(ran.stderr.contains("Restored database"), "{ran:?}");
        assert_eq!(
            looks(&cluster, &back),
            looks(&cluster, &app.database),
            "{engine}"
        );
        let large = psql(&cluster, &back, "SELECT lo_get(7)");
        assert_eq!(large.trim(), "\\x6c61726765");
        let ran = app.run(&["restore-db", "shop:db", "--to", &to, "--via", &via]);
        assert!(ran.explains(14).contains("exists already"), "{ran:?}");

        // However it fails, and whatever is said of it: the database is not there.
        let restore_only = |then: &str| format!("case \"$1\" in pg_restore) {then};; esac\n{RUN}");
        for (script, words) in [
            ("$RUN \"$@\"; exit 1", "pg_restore ended with exit code 1"),
            ("head -c 5000 | $RUN \"$@\"; exit 0", "pg_restore"),
            ("cat > /dev/null; exit 0", "objects are not there"),
            ("head -c 100 > /dev/null; exit 0", "objects are not there"),
            ("head -c 100 > /dev/null; kill -9 $$", "SIGKILL"),
        ] {
            app.container(&cluster, &restore_only(script));
            let back = new_name("back");
            let to = address(&cluster, "postgres", &back);
            let ran = app.run(&["restore-db", "shop:db", "--to", &to, "--via", &via]);
            assert_eq!(ran.code, 1, "{engine}, {script}: {ran:?}");
            assert!(ran.stderr.contains(words), "{engine}, {script}: {ran:?}");
            assert!(!ran.stderr.contains("Restored"), "{ran:?}");
            assert_eq!(there(&cluster, &back), "0", "{engine}, {script}");
        }
        app.container(&cluster, RUN);
    }
    for more in [
        &["--via", &via, "--table", "public.orders"][..],
        &["--via", &via, "--jobs", "2"],
        &["--via", "'docker exec"],
        &["--via", ""],
    ] {
        let to = address(&cluster, "postgres", "never");
        app.run(&[&["restore-db", "shop:db", "--to", &to][..], more].concat())
            .ends_with_code(2);
    }
    assert_eq!(there(&cluster, "never"), "0");
}
