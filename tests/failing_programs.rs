//! PostgreSQL's programs that fail, in every way in which a program can.
//!
//! **Invariant**: no backup is confirmed and no restore is called done; what a restore has begun is gone again.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::Stdio,
    thread,
    time::Duration,
};

use lifeboat_postgres::Cluster;

use crate::support::{
    cluster::{self, address, client, new_name, psql},
    program::{Lifeboat, Ran},
};

const PROGRAMS: [&str; 4] = ["pg_dump", "pg_dumpall", "pg_restore", "psql"];

/// A machine whose app is a small database, read by this engine.
fn app(cluster: &Cluster, engine: &str) -> Lifeboat {
    let name = new_name("small");
    psql(cluster, "postgres", &format!("CREATE DATABASE {name}"));
    let sql = "CREATE TABLE t (n int PRIMARY KEY, x text);
         INSERT INTO t SELECT n, md5(n::text) FROM generate_series(1, 1000) n; CREATE INDEX ON t (x)";
    psql(cluster, &name, sql);
    let machine = Lifeboat::with_repository();
    let url = address(cluster, "postgres", &name);
    let text = format!("[app.shop.postgres]\nurl = \"{url}\"\nengine = \"{engine}\"\n");
    fs::write(machine.path("lifeboat.toml"), text).unwrap();
    machine
}

/// A folder with PostgreSQL's programs, of which one is a script that finds the real one as `$REAL`. What asks for its
/// version gets it.
fn stand_in(machine: &Lifeboat, cluster: &Cluster, replaced: &str, script: &str) -> PathBuf {
    let folder = machine.path("programs");
    if folder.exists() {
        fs::remove_dir_all(&folder).unwrap();
    }
    fs::create_dir(&folder).unwrap();
    for program in PROGRAMS {
        let (real, path) = (client(cluster, program), folder.join(program));
        if program != replaced {
            symlink(real, path).unwrap();
            continue;
        }
        let real = real.display();
        let version = "case \"$1\" in --version) exec $REAL --version;; esac";
        fs::write(
            &path,
            format!("#!/bin/sh\nREAL={real}\n{version}\n{script}\n"),
        )
        .unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    folder
}

fn run(machine: &Lifeboat, programs: &Path, arguments: &[&str]) -> Ran {
    let mut command = machine.command();
    command
        .args(arguments)
        .arg("--config")
        .arg(machine.path("lifeboat.toml"))
        .env("LIFEBOAT_PG_BIN", programs);
    Ran::of(command)
}

/// Fails the test unless the run failed as a whole, with a reason.
#[track_caller]
fn failed(ran: &Ran, how: &str) {
    assert!(!matches!(ran.code, 0 | 3), "{how}: {ran:?}");
    ran.explains(ran.code);
    assert!(!ran.stderr.contains("Restored"), "{how}: {ran:?}");
}

#[test]
fn whatever_fails_in_a_backup_there_is_no_snapshot() {
    let cluster = cluster::shared();
    for engine in ["native", "pg_dump"] {
        let machine = app(&cluster, engine);
        for program in ["pg_dump", "pg_dumpall", "psql"] {
            // Less than any of them writes.
            let some = match program {
                "psql" => 10,
                "pg_dumpall" => 200,
                _ => 700,
            };
            for script in [
                "kill -9 $$".to_owned(),
                format!("$REAL \"$@\" | head -c {some}; kill -9 $$"),
                "$REAL \"$@\"; kill -9 $$".to_owned(),
                "$REAL \"$@\"; exit 1".to_owned(),
                format!("$REAL \"$@\"; echo '{program}: error: no more paper' >&2; exit 0"),
                format!("$REAL \"$@\" | head -c {some}; exit 0"),
                "exit 0".to_owned(),
                // No room on the disk.
                "exec $REAL \"$@\" >/dev/full".to_owned(),
            ] {
                let programs = stand_in(&machine, &cluster, program, &script);
                let ran = run(&machine, &programs, &["backup", "shop"]);
                failed(&ran, &format!("{engine}, {program}: {script}"));
                let list = machine.run(["snapshots", "--json"]).done().answer();
                assert!(list.as_array().unwrap().is_empty(), "{script}: {list}");
            }
        }
        let programs = stand_in(&machine, &cluster, "pg_dump", "exec $REAL \"$@\"");
        run(&machine, &programs, &["backup", "shop"]).done();
    }
}

#[test]
fn whatever_fails_in_a_restore_there_is_no_database() {
    let cluster = cluster::shared();
    for engine in ["native", "pg_dump"] {
        let machine = app(&cluster, engine);
        let programs = stand_in(&machine, &cluster, "psql", "exec $REAL \"$@\"");
        run(&machine, &programs, &["backup", "shop"]).done();
        for program in ["pg_restore", "psql"] {
            for script in [
                "kill -9 $$".to_owned(),
                "$REAL \"$@\"; kill -9 $$".to_owned(),
                "$REAL \"$@\"; exit 1".to_owned(),
                format!("$REAL \"$@\"; echo '{program}: error: no more paper' >&2; exit 0"),
                "echo 'could not extend file: No space left on device' >&2; exit 1".to_owned(),
            ] {
                let programs = stand_in(&machine, &cluster, program, &script);
                let back = new_name("back");
                let to = address(&cluster, "postgres", &back);
                let ran = run(&machine, &programs, &["restore-db", "shop", "--to", &to]);
                failed(&ran, &format!("{engine}, {program}: {script}"));
                let there = format!(
                    "SELECT count(*) FROM pg_database WHERE datname IN ('{back}', '{back}.restoring')"
                );
                let there = psql(&cluster, "postgres", &there);
                assert_eq!(there.trim(), "0", "{engine}, {program}: {script}");
            }
        }
    }
}

#[test]
fn a_server_that_goes_while_pg_restore_runs_is_no_restored_database() {
    for engine in ["native", "pg_dump"] {
        let mut server = cluster::own();
        let machine = app(&server, engine);
        let script = format!(
            "cd '{}' && touch begun\nwhile [ ! -e gone ]; do sleep 0.05; done\nexec $REAL \"$@\"",
            machine.folder().display()
        );
        let programs = stand_in(&machine, &server, "pg_restore", &script);
        run(&machine, &programs, &["backup", "shop"]).done();
        let to = address(&server, "postgres", "back");
        let mut restore = machine.command();
        restore
            .args(["restore-db", "shop", "--to", &to])
            .env("LIFEBOAT_PG_BIN", &programs)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let child = restore.spawn().unwrap();
        while !machine.path("begun").exists() {
            thread::sleep(Duration::from_millis(20));
        }
        server.stop();
        fs::write(machine.path("gone"), "").unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(!output.status.success(), "{engine}");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains("error: "), "{engine}: {said}");
        assert!(!said.contains("Restored"), "{engine}: {said}");
    }
}
