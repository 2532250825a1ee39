//! Drills: a good backup passes, what is not in order is named (more in `faults`), and nothing of the scratch place stays.
//!
//! **Invariant**: a drill that could not be done says nothing about the backup, and one that passed has done everything.

use std::{
    fs,
    path::Path,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::support::{
    cluster::client,
    messages::text,
    program::Ran,
    shop::{Shop, names_it, sentences},
};

fn table<'r>(report: &'r Value, name: &str) -> &'r Value {
    let databases = report["databases"].as_array().unwrap().iter();
    let mut tables = databases.flat_map(|one| one["tables"].as_array().unwrap());
    tables
        .find(|table| table["table"] == name)
        .unwrap_or_else(|| panic!("the table {name} in {report}"))
}

const CHECKS: &str = "checks = [\"db: SELECT count(*) = 1000 FROM orders\", \"rows: SELECT count(*) FROM session\"]\n\
    [app.shop.drill.command.look]\n\
    run = [\"sh\", \"-c\", \"test -f \\\"$LIFEBOAT_DRILL_FILES/media/sub/b.jpg\\\" && test -z \\\"$LIFEBOAT_KEY_FILE\\\" && echo \\\"$LIFEBOAT_DRILL_DATABASE\\\" | grep -q drill_db && test ! -e \\\"$LIFEBOAT_DRILL_FILES/secrets/.env\\\"\"]";

#[test]
fn a_good_backup_passes_and_its_snapshot_is_called_drilled() {
    let app = Shop::new(CHECKS);
    for engine in ["", "engine = \"pg_dump\""] {
        app.configure(engine, CHECKS);
        app.back_up();
        let before = app.run(&["ls", "drilled"]).code;
        let report = app.drill(0);
        assert_eq!(report["verdict"], "passed", "{report}");
        assert!(sentences(&report, "problems").is_empty(), "{report}");
        assert!(sentences(&report, "warnings").is_empty(), "{report}");
        for (name, rows) in [
            ("public.orders", 1000),
            ("public.asset", 2),
            ("public.event", 7),
        ] {
            let found = table(&report, name);
            assert_eq!(
                (&found["rows"], &found["expected"]),
                (&rows.into(), &rows.into())
            );
        }
        assert_eq!(table(&report, "session")["rows"], 3);
        assert_eq!(report["databases"][0]["foreign_keys"], 1);
        assert_eq!(report["databases"][0]["hashes_equal"], engine.is_empty());
        let files = &report["files"];
        assert_eq!(
            (&files["hashed"], &files["secrets"]),
            (&2.into(), &1.into())
        );
        assert_eq!(report["references"][0]["files"], 2);
        assert_eq!(report["checks"].as_array().unwrap().len(), 3);
        assert!(report["restore_ms"].as_u64().unwrap() > 0);
        // Before the first drill no snapshot is drilled, and then the newest is.
        assert_eq!(before, i32::from(engine.is_empty()));
        let listed = app.run(&["snapshots", "--json"]).done().answer();
        let newest = listed.as_array().unwrap().last().unwrap();
        assert_eq!(newest["drill"]["verdict"], "passed");
        assert_eq!(newest["id"], report["snapshot"]);
    }
    let shown = app.run(&["snapshots"]).done();
    assert_eq!(shown.stdout().matches("(drilled)").count(), 2);
}

/// What this process has of a way to the running database is nothing for those who try the restored one.
#[test]
fn a_program_that_tries_the_app_finds_the_drills_server_and_no_other() {
    let app = Shop::new("");
    let psql = client(&app.cluster, "psql");
    let asks = format!(
        "[app.shop.drill.command.ask]\nrun = ['sh', '-c', \"{} -Atc 'SELECT current_database()' | grep -qx drill_db && test -z $CREDENTIALS_DIRECTORY\"]",
        psql.display()
    );
    app.configure("", &asks);
    app.back_up();
    let mut drill = app.command(&["drill", "shop"]);
    drill
        .env("PGHOSTADDR", "127.0.0.1")
        .env("PGSERVICE", "running");
    drill.env("CREDENTIALS_DIRECTORY", app.machine.folder());
    let ran = Ran::of(drill).done();
    assert!(!ran.stderr.contains("Warning"), "{ran:?}");
}

#[test]
fn the_report_is_signed_and_a_page_shows_it() {
    let app = Shop::new("checks = [\"db: SELECT '<b>' = '<b>'\"]");
    app.back_up();
    let (page, json) = (app.machine.path("r.html"), app.machine.path("r.json"));
    let paths = [page.to_str().unwrap(), json.to_str().unwrap()];
    app.run(&["drill", "--report", paths[0], "--report", paths[1]])
        .done();
    let signed: Value = serde_json::from_slice(&fs::read(json).unwrap()).unwrap();
    let signed = &signed["drills"][0];
    let report: Value = serde_json::from_str(&text(signed, "report")).unwrap();
    assert_eq!(report["verdict"], "passed");
    let page = fs::read_to_string(page).unwrap();
    for part in ["sha256", "signature", "public_key", "writer"] {
        assert!(page.contains(&text(signed, part)), "{part}");
    }
    assert!(page.contains("&lt;b&gt;") && !page.contains("<b>"));
    assert!(!page.contains("http://") && !page.contains("https://"));
    verify(signed);
}

/// A backup of a part of the app is no backup of the app, and a drill of it says what it does not have.
#[test]
fn what_the_configuration_has_and_the_snapshot_has_not_is_told() {
    let app = Shop::new("");
    let file = app.machine.path("lifeboat.toml");
    let config = fs::read_to_string(&file).unwrap();
    app.back_up();
    let later = format!("{config}\n[app.shop.media.later]\npath = \"later\"\n");
    fs::write(&file, later).unwrap();
    let report = app.drill(0);
    let warnings = sentences(&report, "warnings");
    assert!(warnings[0].contains("has later, and the snapshot has not"));
}

#[test]
fn what_was_found_stays_found_when_the_report_cannot_be_kept() {
    let app = Shop::new("");
    let notes = app.machine.repository().join("notes");
    let breaks = format!(
        "[app.shop.drill.command.breaks]\nrun = ['sh', '-c', 'rm -rf {0}; touch {0}; exit 1']",
        notes.display()
    );
    app.configure("", &breaks);
    app.back_up();
    let ran = app.run(&["drill", "shop"]);
    assert!(ran.explains(4).contains("could not be kept"), "{ran:?}");
    assert!(ran.stderr.contains("The drill found 1 problem"), "{ran:?}");
}

/// A pipe ends well although the program before it has failed.
#[test]
fn a_dump_with_nothing_in_it_is_no_good_backup_and_one_that_cannot_be_unpacked_is_told() {
    let app = Shop::new("");
    let file = app.machine.path("lifeboat.toml");
    let config = fs::read_to_string(&file).unwrap();
    let dump = |script: &str| {
        let command = format!(
            "{config}\n[app.shop.command.packed]\nfilename = \"shop.sql.gz\"\nrun = ['sh', '-c', '{script}']\n"
        );
        fs::write(&file, command).unwrap();
        app.back_up();
    };
    dump("false | gzip");
    names_it(&app.drill(4), &["packed/shop.sql.gz", "empty"]);
    dump("echo SELECT 1 | gzip | head -c 12");
    let warnings = sentences(&app.drill(0), "warnings");
    assert!(
        warnings[0].contains("packed/shop.sql.gz was not looked into"),
        "{warnings:?}"
    );
}

/// Verifies the signature as docs/drill.md tells people to, by a program of other people.
fn verify(signed: &Value) {
    let folder = tempfile::tempdir().unwrap();
    let bytes = |field: &str| -> Vec<u8> {
        let text = text(signed, field);
        let digit = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
        (0..text.len()).step_by(2).map(digit).collect()
    };
    // A public key as RFC 8410 has it.
    let mut key = b"\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00".to_vec();
    key.extend(bytes("public_key"));
    let message = format!("lifeboat 1 drill report\n{}", text(signed, "report"));
    let write = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    };
    let check = |message: &str| {
        let mut openssl = Command::new("openssl");
        openssl
            .args([
                "pkeyutl", "-verify", "-pubin", "-keyform", "DER", "-rawin", "-inkey",
            ])
            .arg(write("key", &key))
            .arg("-in")
            .arg(write("message", message.as_bytes()))
            .arg("-sigfile")
            .arg(write("signature", &bytes("signature")));
        openssl.output().unwrap().status.success()
    };
    assert!(check(&message));
    assert!(!check(&message.replace("passed", "failed")));
}

#[test]
fn a_file_that_went_after_the_backup_said_so_is_a_warning_and_a_swapped_one_a_problem() {
    let app = Shop::new("");
    app.media.remove("a.jpg");
    app.run(&["backup", "shop"]).ends_with_code(3);
    let report = app.drill(0);
    let warnings = sentences(&report, "warnings");
    assert!(
        warnings
            .iter()
            .any(|warning| warning.contains("media/a.jpg: row 1 of public.asset names it")),
        "{warnings:?}"
    );

    // Another file of the same size, and a row that the snapshot never compared.
    app.media.file("a.jpg", "wrong");
    app.back_up();
    names_it(&app.drill(4), &["media/a.jpg", "SHA-256"]);
}

#[test]
fn checks_that_fail_are_named() {
    let drill = "checks = [\"db: SELECT x FROM nowhere\", \"rows: SELECT 0\"]\n\
                 [app.shop.drill.command.bad]\nrun = [\"sh\", \"-c\", \"echo cannot log in >&2; exit 3\"]";
    let app = Shop::new(drill);
    app.back_up();
    let report = app.drill(4);
    let problems = sentences(&report, "problems").join("\n");
    for words in ["nowhere", "it gives 0", "cannot log in"] {
        assert!(problems.contains(words), "{words} in {problems}");
    }
    assert_eq!(report["checks"].as_array().unwrap().len(), 3);
}

#[test]
fn surroundings_that_fail_are_no_judgement() {
    let app = Shop::new("[app.shop.drill.command.none]\nrun = [\"/no/such/program\"]");
    app.back_up();
    let ran = app.run(&["drill", "shop"]);
    assert!(ran.explains(6).contains("/no/such/program"), "{ran:?}");
    let mut without = app.command(&["drill", "shop"]);
    without.env("LIFEBOAT_PG_BIN", app.machine.path("empty"));
    let ran = Ran::of(without);
    assert!(ran.explains(6).contains("PostgreSQL"), "{ran:?}");
    app.is_clean();
    app.run(&["ls", "drilled"]).explains(1);
    let listed = app.run(&["snapshots", "--json"]).done().answer();
    assert_eq!(listed[0]["drill"], Value::Null);
}

#[test]
fn what_a_killed_drill_leaves_the_next_one_removes() {
    let app = Shop::new("[app.shop.drill.command.wait]\nrun = [\"sleep\", \"600\"]");
    app.back_up();
    let mut child = app.command(&["drill", "shop"]).spawn().unwrap();
    let scratch = wait_until(|| {
        let entries = fs::read_dir(app.machine.path("tmp")).ok()?;
        let mut paths = entries.map(|entry| entry.unwrap().path());
        paths.find(|path| path.join("files/media/a.jpg").exists())
    });
    let server = wait_until(|| postmaster(&scratch));
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(is_alive(server), "nobody has ended the server yet");

    app.configure("", "");
    app.drill(0);
    assert!(!is_alive(server));

    // One that is asked to stop cleans up by itself.
    app.configure(
        "",
        "[app.shop.drill.command.wait]\nrun = [\"sleep\", \"600\"]",
    );
    let mut child = app.command(&["drill", "shop"]).spawn().unwrap();
    wait_until(|| {
        let entries = fs::read_dir(app.machine.path("tmp")).ok()?;
        let mut paths = entries.map(|entry| entry.unwrap().path());
        paths.find(|path| path.join("files/media/a.jpg").exists())
    });
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    app.is_clean();
}

fn wait_until<T>(mut look: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begun.elapsed() < Duration::from_secs(120), "it never came");
        thread::sleep(Duration::from_millis(20));
    }
}

/// The number of the server in a scratch folder.
fn postmaster(scratch: &Path) -> Option<Pid> {
    let mut entries = fs::read_dir(scratch).ok()?.flatten();
    let server = entries.find(|entry| entry.file_name().to_string_lossy().contains("pg-"))?;
    let status = fs::read_to_string(server.path().join("data/postmaster.pid")).ok()?;
    Pid::from_raw(status.lines().next()?.parse().ok()?)
}

fn is_alive(server: Pid) -> bool {
    // Whoever has nobody left to ask how it ended is a zombie at most.
    let status = fs::read_to_string(format!("/proc/{}/stat", server.as_raw_pid()));
    status.is_ok_and(|status| !status.contains(") Z "))
}
