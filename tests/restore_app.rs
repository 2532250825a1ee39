//! A whole app comes back in place of the running one, and goes again: docs/restore-app.md.
//!
//! **Invariant**: as long as its database takes connections, an app is in one state: rows and files of the same moment.
//!
//! Long form, by an environment variable: `LIFEBOAT_TEST_SWAP_KILLS` (20; the long form takes 50).

use std::{
    fs,
    ops::Deref,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use rusqlite::Connection;

use crate::support::{
    cluster::{address, client, looks, new_name, psql},
    long_form,
    program::{Lifeboat, Ran},
    same::same,
    trees::Tree,
    two_states::TwoStates,
};

/// An app whose databases may be beside each other for a while.
struct App(TwoStates);

impl Deref for App {
    type Target = TwoStates;

    fn deref(&self) -> &TwoStates {
        &self.0
    }
}

impl App {
    /// In state 1, which is backed up, and then in state 2.
    fn new() -> Self {
        let machine = Lifeboat::with_repository();
        let folder = machine.path("srv/media");
        fs::create_dir(folder.parent().unwrap()).unwrap();
        let app = Self(TwoStates::new(machine, &folder, "postgres"));
        app.run(&["backup", "shop"]).done();
        app.goes_to(2);
        app
    }

    /// The database's state, if it takes connections.
    fn open_rows(&self) -> Option<u64> {
        // A statement outlives the program that sent it, and may close the database yet.
        let at_work =
            "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'lifeboat%'";
        let deadline = Instant::now() + Duration::from_secs(20);
        while psql(&self.cluster, "postgres", at_work).trim() != "0" {
            assert!(Instant::now() < deadline, "sessions of a killed run stay");
            thread::sleep(Duration::from_millis(10));
        }
        let sql = format!(
            "SELECT datallowconn FROM pg_database WHERE datname = '{}'",
            self.database
        );
        let is_open = psql(&self.cluster, "postgres", &sql).trim() == "t";
        is_open.then(|| self.rows())
    }

    #[track_caller]
    fn is_in(&self, number: u64) {
        assert_eq!((self.open_rows(), self.files()), (Some(number), number));
        assert!(self.has_assets());
    }

    /// Databases and entries that stand beside the app's own.
    fn beside(&self) -> Vec<String> {
        let sql = format!(
            "SELECT datname FROM pg_database WHERE datname LIKE '{}\\_%' ORDER BY 1",
            self.database
        );
        let databases = psql(&self.cluster, "postgres", &sql);
        let mut beside: Vec<String> = databases.lines().map(str::to_owned).collect();
        for entry in fs::read_dir(self.machine.path("srv")).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            if name != "media" {
                beside.push(name);
            }
        }
        beside
    }

    /// Begins to replace the app.
    fn begin(&self) -> Child {
        let mut command = self.command(&[
            "restore-app",
            "shop",
            "--yes-replace",
            "shop",
            "--no-restore-point",
        ]);
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        command.spawn().unwrap()
    }

    /// Waits until the folder has its new name: the last thing that happens before the database is opened.
    fn wait_for_names(&self, child: &mut Child) {
        self.wait_for(child, "swapping");
        let text = fs::read_to_string(self.journal()).unwrap();
        let journal: serde_json::Value = serde_json::from_str(&text).unwrap();
        let kept = PathBuf::from(journal["places"][0]["old"].as_str().unwrap());
        while !kept.exists() && child.try_wait().unwrap().is_none() {
            thread::yield_now();
        }
    }
}

impl Drop for App {
    fn drop(&mut self) {
        if thread::panicking() {
            return;
        }
        for database in self.beside().into_iter().chain([self.database.clone()]) {
            let sql = format!("DROP DATABASE IF EXISTS \"{database}\" WITH (FORCE)");
            psql(&self.cluster, "postgres", &sql);
        }
    }
}

#[test]
fn an_app_is_replaced_comes_back_and_is_forgotten() {
    let app = App::new();
    let now = (looks(&app.cluster, &app.database), app.machine.path("copy"));
    let copied = Command::new("cp")
        .arg("-a")
        .args([app.media.root(), &now.1])
        .status();
    assert!(copied.unwrap().success());

    let ran = app.restore_app(&["-n", "--json", "--at", "today"]).done();
    let summary = ran.summary();
    assert_eq!(summary["dry_run"], true);
    assert_eq!(summary["targets"].as_array().unwrap().len(), 2, "{ran:?}");
    assert!(app.beside().is_empty() && !app.journal().exists());

    let ran = app.restore_app(&["--yes-replace", "shop"]).done();
    assert!(ran.stderr.contains("takes the place of"), "{ran:?}");
    assert!(ran.stderr.contains("--undo brings it back"), "{ran:?}");
    app.is_in(1);
    let kept = app.beside();
    assert_eq!(kept.len(), 2, "{kept:?}");
    same(&now.1, &app.machine.path("srv").join(&kept[1]));

    // What was there is in the repository too, and is not what "the newest" means.
    let listed = app.run(&["snapshots", "shop", "--json"]).done().answer();
    let listed = listed.as_array().unwrap();
    assert_eq!(listed.len(), 2);
    let is_point = |snapshot: &&serde_json::Value| {
        snapshot["tags"]
            .as_array()
            .unwrap()
            .contains(&"restore-point".into())
    };
    assert_eq!(listed.iter().filter(is_point).count(), 1);

    let ran = app.restore_app(&["--yes-replace", "shop"]);
    assert!(ran.explains(14).contains("--forget-old"), "{ran:?}");
    app.restore_app(&["--undo"]).done();
    app.is_in(2);
    assert_eq!(looks(&app.cluster, &app.database), now.0);
    same(&now.1, app.media.root());
    app.restore_app(&["--undo"]).done();
    app.is_in(1);
    app.restore_app(&["--forget-old"]).done();
    app.is_in(1);
    assert!(app.beside().is_empty(), "{:?}", app.beside());
    app.restore_app(&["--undo"]).explains(14);
    app.restore_app(&["--forget-old"]).explains(14);

    let ran = app.restore_app(&[
        "tag:restore-point",
        "--yes-replace",
        "shop",
        "--no-restore-point",
    ]);
    ran.done();
    app.is_in(2);
    assert_eq!(looks(&app.cluster, &app.database), now.0);
}

#[test]
fn whoever_is_in_the_database_is_sent_away() {
    let app = App::new();
    let mut session = Command::new(client(&app.cluster, "psql"))
        .args(["-X", "-c", "SELECT pg_sleep(600)", "-d"])
        .arg(address(&app.cluster, "postgres", &app.database))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let sessions = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = '{}'",
        app.database
    );
    while psql(&app.cluster, "postgres", &sessions).trim() != "1" {
        thread::sleep(Duration::from_millis(5));
    }
    let ran = app
        .restore_app(&["--yes-replace", "shop", "--no-restore-point"])
        .done();
    assert!(ran.stderr.contains("1 session end"), "{ran:?}");
    app.is_in(1);
    assert!(!session.wait().unwrap().success(), "it was sent away");
}

#[test]
fn what_is_not_confirmed_or_not_this_app_is_left_alone() {
    let app = App::new();
    app.run(&["backup", "--app", "blog", "--source", "lifeboat.toml"])
        .ends_with_code(2);
    let other = app.machine.path("srv").join("media");
    let mut blog = app.machine.command();
    blog.args(["backup", "--app", "blog", "--source"])
        .arg(other);
    Ran::of(blog).done();
    let cases: [(&[&str], i32, &str); 5] = [
        (&["restore-app", "shop"], 14, "--yes-replace shop"),
        (
            &["restore-app", "shop", "--yes-replace", "shopp"],
            14,
            "not confirmed",
        ),
        (
            &["restore-app", "shop", "blog", "--yes-replace", "shop"],
            2,
            "of the app blog",
        ),
        (
            &["restore-app", "blog", "--yes-replace", "blog"],
            2,
            "--into",
        ),
        (
            &[
                "restore-app",
                "shop",
                "--at",
                "2001-01-01",
                "--yes-replace",
                "shop",
            ],
            1,
            "no snapshot",
        ),
    ];
    for (arguments, code, said) in cases {
        let ran = app.run(arguments);
        let text = format!("{}{}", ran.explains(code), ran.stderr);
        assert!(text.contains(said), "{ran:?}");
    }
    app.is_in(2);
    assert!(app.beside().is_empty() && !app.journal().exists());
}

#[test]
fn an_app_takes_the_state_of_another_one_that_is_named() {
    let app = App::new();
    let twin = new_name("twin");
    psql(&app.cluster, "postgres", &format!("CREATE DATABASE {twin}"));
    psql(&app.cluster, &twin, "CREATE TABLE state (number int)");
    let folder = app.machine.path("twin");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("state"), "none").unwrap();
    let path = app.machine.path("lifeboat.toml");
    let text = fs::read_to_string(&path).unwrap();
    let more = format!(
        "{text}[app.twin.postgres]\nurl = \"{}\"\n[app.twin.media.media]\npath = \"{}\"\n",
        address(&app.cluster, "postgres", &twin),
        folder.display()
    );
    fs::write(&path, more).unwrap();

    let ran = app.run(&["restore-app", "twin", "shop", "--yes-replace", "twin"]);
    assert!(ran.explains(2).contains("--from"), "{ran:?}");
    let from = ["restore-app", "twin", "--from", "shop", "--yes-replace"];
    // What is replaced has to be named, and not what comes.
    app.run(&[&from[..], &["shop"]].concat()).explains(14);
    let ran = app.run(&[&from[..], &["twin"]].concat()).done();
    assert!(ran.stderr.contains("of shop"), "{ran:?}");
    let number = psql(&app.cluster, &twin, "SELECT number FROM state");
    assert_eq!(number.trim(), "1");
    assert_eq!(fs::read_to_string(folder.join("state")).unwrap(), "1");
    app.is_in(2);

    // The restore point is of what was replaced.
    let listed = app.run(&["snapshots", "twin", "--json"]).done().answer();
    assert_eq!(listed[0]["tags"], serde_json::json!(["restore-point"]));
    app.run(&["restore-app", "twin", "--undo"]).done();
    assert_eq!(fs::read_to_string(folder.join("state")).unwrap(), "none");
    app.run(&["restore-app", "twin", "--forget-old"]).done();
}

#[test]
fn a_target_that_changes_after_the_plan_is_left_alone() {
    let app = App::new();
    let media = app.media.root().to_owned();
    let (moved, database) = (app.machine.path("moved"), app.database.clone());

    let mut child = app.begin();
    app.wait_for(&mut child, "preparing");
    fs::rename(&media, &moved).unwrap();
    fs::create_dir(&media).unwrap();
    fs::write(media.join("foreign"), "of somebody else").unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(14));
    assert_eq!(
        fs::read(media.join("foreign")).unwrap(),
        b"of somebody else"
    );
    fs::remove_dir_all(&media).unwrap();
    fs::rename(&moved, &media).unwrap();
    app.is_in(2);
    assert!(app.beside().is_empty() && !app.journal().exists());

    let mut child = app.begin();
    app.wait_for(&mut child, "preparing");
    let sql = format!(
        "ALTER DATABASE {database} RENAME TO moved_{database};
         CREATE DATABASE {database} TEMPLATE moved_{database}"
    );
    psql(&app.cluster, "postgres", &sql);
    assert_eq!(child.wait().unwrap().code(), Some(14));
    app.is_in(2);
    assert!(app.beside().is_empty() && !app.journal().exists());
    psql(
        &app.cluster,
        "postgres",
        &format!("DROP DATABASE moved_{database}"),
    );
}

/// What must hold at any time: as long as somebody can be in the database, rows and files are of one state.
#[track_caller]
fn is_no_mixture(app: &App) -> Option<u64> {
    let rows = app.open_rows()?;
    assert_eq!(rows, app.files(), "rows and files of one state");
    Some(rows)
}

#[test]
fn a_kill_at_any_moment_leaves_the_old_state_or_the_new_one() {
    let kills = long_form("LIFEBOAT_TEST_SWAP_KILLS", 20);
    let app = App::new();
    let begun = Instant::now();
    assert!(app.begin().wait().unwrap().success());
    let mut usual = begun.elapsed();
    app.restore_app(&["--undo"]).done();
    app.restore_app(&["--forget-old"]).done();
    let (mut killed, mut between, mut forward, mut backward, mut undone) = (0, 0, 0, 0, 0);
    for kill in 0..kills {
        app.is_in(2);
        let mut child = app.begin();
        // Moments in an order without a pattern: half of them over the whole run, a quarter while names change, a quarter
        // between the last name and the opening.
        let share = f64::from(u32::try_from(kill * 37 % kills).unwrap()) / kills as f64;
        match kill % 4 {
            0 | 2 => thread::sleep(usual.mul_f64(share * 1.1)),
            1 => {
                app.wait_for(&mut child, "swapping");
                thread::sleep(Duration::from_millis(50).mul_f64(share));
            }
            _ => app.wait_for_names(&mut child),
        }
        child.kill().unwrap();
        if child.wait().unwrap().code().is_none() {
            killed += 1;
        } else {
            // It was faster than the first one, which met a busier machine.
            usual = usual.mul_f64(0.8);
        }
        between += u64::from(is_no_mixture(&app).is_none());
        if kill % 8 < 4 {
            // The verb once more: it ends what was begun, or begins again.
            let ran = app.restore_app(&["--yes-replace", "shop", "--no-restore-point"]);
            let had_ended = ran.code == 14 && ran.stderr.contains("still kept");
            assert!(ran.code == 0 || had_ended, "{ran:?}");
            app.is_in(1);
            // The way back is killed too. Whoever comes next ends it, or finds it not begun, or done.
            let mut child = app.command(&["restore-app", "shop", "--undo"]);
            let mut child = child.stderr(Stdio::null()).spawn().unwrap();
            thread::sleep(Duration::from_millis(150).mul_f64(share));
            child.kill().unwrap();
            undone += u64::from(child.wait().unwrap().code().is_none());
            is_no_mixture(&app);
            app.restore_app(&["--yes-replace", "shop"]);
            if is_no_mixture(&app).expect("nothing is left between") == 1 {
                app.restore_app(&["--undo"]).done();
            }
            forward += 1;
        } else {
            let ran = app.restore_app(&["--undo"]);
            let had_not_begun = ran.code == 14 && ran.stderr.contains("nothing is kept");
            assert!(ran.code == 0 || had_not_begun, "{ran:?}");
            backward += 1;
        }
        app.is_in(2);
        app.restore_app(&["--forget-old"]);
        assert!(app.beside().is_empty(), "{:?}", app.beside());
        assert!(!app.journal().exists());
    }
    println!(
        "{killed} of {kills} were killed at work, {between} while the database was closed; {forward} were ended, \
         {backward} undone; {undone} of the ways back were killed at work; one takes {usual:?}"
    );
    assert!(killed > kills / 2, "{killed} of {kills}");
    assert!(between > 0, "some are killed in the middle of the swap");
}

/// A machine with an app that has an SQLite database, in a folder that is backed up too when it is `inside`.
fn with_sqlite(inside: bool) -> (Lifeboat, PathBuf) {
    let machine = Lifeboat::with_repository();
    let folder = machine.path("srv");
    fs::create_dir(&folder).unwrap();
    let media = Tree::create(folder.join("media"));
    media.file("a.jpg", "one");
    let path = if inside {
        folder.join("media/app.db")
    } else {
        folder.join("app.db")
    };
    let text = format!(
        "[app.shop.sqlite.rows]\npath = \"{}\"\n[app.shop.media.media]\npath = \"{}\"\n",
        path.display(),
        media.root().display()
    );
    fs::write(machine.path("lifeboat.toml"), text).unwrap();
    let rows = Connection::open(&path).unwrap();
    rows.execute_batch(
        "PRAGMA journal_mode = wal; CREATE TABLE t (x); INSERT INTO t VALUES (1);
         CREATE TABLE schema_migrations (version); INSERT INTO schema_migrations VALUES ('1'), ('2')",
    )
    .unwrap();
    machine.run(["backup", "shop"]).done();
    rows.execute_batch("UPDATE t SET x = 2; INSERT INTO schema_migrations VALUES ('3')")
        .unwrap();
    fs::write(media.root().join("a.jpg"), "two").unwrap();
    (machine, path)
}

fn sqlite_state(path: &Path) -> (i64, String) {
    let rows = Connection::open(path).unwrap();
    let number = rows.query_row("SELECT x FROM t", [], |row| row.get(0));
    let folder = path.ancestors().find(|above| above.ends_with("srv"));
    let file = fs::read_to_string(folder.unwrap().join("media/a.jpg"));
    (number.unwrap(), file.unwrap())
}

#[test]
fn an_sqlite_database_and_its_folder_are_replaced_when_nobody_has_it_open() {
    for inside in [false, true] {
        let (machine, path) = with_sqlite(inside);
        let confirmed = ["restore-app", "shop", "--yes-replace", "shop"];
        let open = Connection::open(&path).unwrap();
        open.query_row("SELECT x FROM t", [], |row| row.get::<_, i64>(0))
            .unwrap();
        let ran = machine.run(confirmed);
        assert!(ran.explains(14).contains("Stop the app"), "{ran:?}");
        drop(open);
        assert_eq!(sqlite_state(&path), (2, "two".to_owned()));

        let ran = machine.run(confirmed.into_iter().chain(["tag:none"]));
        assert_eq!(ran.code, 1, "{ran:?}");
        let ran = machine
            .run(confirmed.into_iter().chain(["--no-restore-point"]))
            .done();
        assert!(ran.stderr.contains("bin/rails db:migrate"), "{ran:?}");
        assert_eq!(sqlite_state(&path), (1, "one".to_owned()));
        machine.run(["restore-app", "shop", "--undo"]).done();
        assert_eq!(sqlite_state(&path), (2, "two".to_owned()));
        machine.run(["restore-app", "shop", "--forget-old"]).done();
        let left = fs::read_dir(machine.path("srv")).unwrap();
        let left = left.filter(|entry| {
            let name = entry.as_ref().unwrap().file_name();
            name.to_string_lossy().contains("lifeboat")
        });
        assert_eq!(left.count(), 0);
    }
}

#[test]
fn a_snapshot_with_more_migrations_than_the_database_is_refused_unless_asked_for() {
    let (machine, path) = with_sqlite(false);
    let rows = Connection::open(&path).unwrap();
    rows.execute_batch("DELETE FROM schema_migrations WHERE version > '1'; INSERT INTO schema_migrations VALUES ('0')")
        .unwrap();
    drop(rows);
    let confirmed = [
        "restore-app",
        "shop",
        "--no-restore-point",
        "--yes-replace",
        "shop",
    ];
    let ran = machine.run(confirmed);
    assert!(ran.explains(14).contains("--allow-newer"), "{ran:?}");
    assert_eq!(sqlite_state(&path), (2, "two".to_owned()));
    machine
        .run(confirmed.into_iter().chain(["--allow-newer"]))
        .done();
    assert_eq!(sqlite_state(&path), (1, "one".to_owned()));
}

#[test]
fn restored_rows_that_name_files_that_are_not_restored_replace_nothing() {
    let app = App::new();
    let path = app.machine.path("lifeboat.toml");
    let text = fs::read_to_string(&path).unwrap();
    // Of these columns the snapshot does not say that their files lack.
    fs::write(&path, text.replace("public.state.file", "shop.asset.path")).unwrap();
    let ran = app.restore_app(&["--yes-replace", "shop", "--no-restore-point"]);
    assert!(ran.explains(3).contains("--into"), "{ran:?}");
    assert!(ran.stderr.contains("rows name"), "{ran:?}");
    app.is_in(2);
    assert!(app.beside().is_empty() && !app.journal().exists());
    fs::write(&path, text.replace("public.state.file", "public.gone.path")).unwrap();
    let ran = app.restore_app(&["--yes-replace", "shop", "--no-restore-point"]);
    assert!(ran.done().stderr.contains("were not looked for"));
    app.is_in(1);
}

#[test]
fn a_role_that_may_not_rename_databases_is_told_before_and_helped_by_one_that_may() {
    let app = App::new();
    let (reader, owner) = (new_name("reader"), new_name("owner"));
    let database = &app.database;
    psql(
        &app.cluster,
        "postgres",
        &format!(
            "CREATE ROLE {reader} LOGIN IN ROLE pg_read_all_data; CREATE ROLE {owner} LOGIN CREATEDB;
             ALTER DATABASE {database} OWNER TO {owner}"
        ),
    );
    app.sql(&format!(
        "ALTER TABLE state OWNER TO {owner}; ALTER TABLE shop.asset OWNER TO {owner}; ALTER SCHEMA shop OWNER TO {owner}"
    ));
    let path = app.machine.path("lifeboat.toml");
    let text = fs::read_to_string(&path).unwrap();
    let with =
        |role: &str| fs::write(&path, text.replace("postgres@", &format!("{role}@"))).unwrap();
    with(&reader);
    app.goes_to(3);
    app.run(&["backup", "shop"]).done();
    app.goes_to(2);
    let confirmed = ["--yes-replace", "shop", "--no-restore-point"];
    let ran = app.restore_app(&confirmed);
    ran.explains(14);
    assert!(ran.stderr.contains("may not make databases"), "{ran:?}");
    assert!(ran.stderr.contains("Name somebody with --admin"), "{ran:?}");
    let reader_again = address(&app.cluster, &reader, "postgres");
    let ran = app.restore_app(&[&confirmed[..], &["--admin", &reader_again]].concat());
    assert!(ran.explains(14).contains("Name somebody else"), "{ran:?}");
    app.is_in(2);

    let admin = address(&app.cluster, "postgres", "postgres");
    let with_admin = [&confirmed[..], &["--admin", &admin]].concat();
    app.restore_app(&with_admin).done();
    app.is_in(3);
    // The address is known from the first time.
    app.restore_app(&["--undo"]).done();
    app.is_in(2);
    app.restore_app(&["--forget-old"]).done();

    with(&owner);
    app.restore_app(&confirmed).done();
    app.is_in(3);
    let sql =
        format!("SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = '{database}'");
    assert_eq!(psql(&app.cluster, "postgres", &sql).trim(), owner);
    app.restore_app(&["--forget-old"]).done();
    assert!(app.beside().is_empty(), "{:?}", app.beside());
}

#[test]
fn an_extension_that_only_a_superuser_makes_is_named_before_anything_is_made() {
    let app = App::new();
    let (owner, new) = (new_name("owner"), new_name("new"));
    let role = format!(
        "CREATE ROLE {owner} LOGIN CREATEDB IN ROLE pg_read_all_data; ALTER DATABASE {} OWNER TO {owner}",
        app.database
    );
    psql(&app.cluster, "postgres", &role);
    app.sql("CREATE EXTENSION pageinspect");
    let path = app.machine.path("lifeboat.toml");
    let native = fs::read_to_string(&path).unwrap();
    let whole = native.replacen("]\n", "]\nengine = \"pg_dump\"\n", 1);
    let to = address(&app.cluster, &owner, &new);
    for text in [native, whole] {
        fs::write(&path, &text).unwrap();
        app.run(&["backup", "shop"]).done();
        fs::write(&path, text.replace("postgres@", &format!("{owner}@"))).unwrap();
        let ran = app.run(&["restore-db", "shop", "--to", &to]);
        let said = ran.explains(13);
        assert!(
            said.contains("pageinspect, which only a superuser"),
            "{said}"
        );
        assert!(said.contains("in --to"), "{said}");
        let ran = app.restore_app(&["--yes-replace", "shop"]);
        let said = ran.explains(14);
        assert!(
            said.contains("pageinspect, which only a superuser"),
            "{said}"
        );
        assert!(app.beside().is_empty(), "{:?}", app.beside());
    }
}

#[test]
fn an_app_that_is_gone_comes_back_to_where_it_was() {
    let app = App::new();
    psql(
        &app.cluster,
        "postgres",
        &format!("DROP DATABASE {}", app.database),
    );
    fs::remove_dir_all(app.media.root()).unwrap();
    let ran = app.restore_app(&["--yes-replace", "shop"]).done();
    assert!(ran.stderr.contains("where nothing is now"), "{ran:?}");
    app.is_in(1);
    app.restore_app(&["--undo"]).done();
    assert!(!app.media.root().exists());
    app.restore_app(&["--undo"]).done();
    app.is_in(1);
    app.restore_app(&["--forget-old"]).done();
    assert!(app.beside().is_empty(), "{:?}", app.beside());
}

#[test]
fn an_app_goes_into_a_new_place_and_the_running_one_stays() {
    let app = App::new();
    let (name, target) = (format!("{}_copy", app.database), app.machine.path("copy"));
    let to = address(&app.cluster, "postgres", &name);
    let into = target.to_str().unwrap();
    app.restore_app(&["--into", into]).ends_with_code(2);
    app.restore_app(&["--to", &to]).ends_with_code(2);
    app.restore_app(&["--into", into, "--to", &to]).done();
    let number = psql(&app.cluster, &name, "SELECT number FROM state");
    assert_eq!(number.trim(), "1");
    assert_eq!(fs::read(target.join("media/state")).unwrap(), b"1");
    app.is_in(2);
}

#[test]
fn a_new_place_is_looked_at_whole_before_anything_is_made_there() {
    let app = App::new();
    let (name, target) = (format!("{}_new", app.database), app.machine.path("new"));
    let to = |name: &str| address(&app.cluster, "postgres", name);
    let into = target.to_str().unwrap();
    let taken = to(&app.database);
    for rehearsal in [true, false] {
        let restore = |to: &str| {
            let mut words = vec!["--into", into, "--to", to];
            words.extend(rehearsal.then_some("-n"));
            app.restore_app(&words)
        };
        assert!(restore(&taken).explains(14).contains("exists already"));
        restore("postgres://postgres@127.0.0.1:1/new").ends_with_code(13);
        let role = new_name("poor");
        psql(
            &app.cluster,
            "postgres",
            &format!("CREATE ROLE {role} LOGIN"),
        );
        let ran = restore(&address(&app.cluster, &role, &name));
        psql(&app.cluster, "postgres", &format!("DROP ROLE {role}"));
        assert!(ran.explains(13).contains("CREATEDB"), "{ran:?}");
        assert!(!target.exists());
    }
    fs::create_dir(&target).unwrap();
    fs::write(target.join("mine"), "x").unwrap();
    let ran = app.restore_app(&["--into", into, "--to", &to(&name)]);
    let hint = ran.explains(14);
    assert!(
        hint.contains("--into") && !hint.contains("--overwrite"),
        "{hint}"
    );
    assert!(app.beside().is_empty(), "{:?}", app.beside());
    fs::remove_file(target.join("mine")).unwrap();
    let ran = app.restore_app(&["--into", into, "--to", &to(&name), "-n"]);
    let ran = ran.done();
    assert!(
        ran.stderr.contains(&format!("the database {name}")),
        "{ran:?}"
    );
    assert!(app.beside().is_empty() && target.read_dir().unwrap().next().is_none());
}

#[test]
fn a_folder_with_the_repository_in_it_is_refused() {
    let machine = Lifeboat::with_repository();
    let text = format!(
        "[app.shop.media.all]\npath = \"{}\"\n",
        machine.folder().display()
    );
    fs::write(machine.path("lifeboat.toml"), text).unwrap();
    machine.run(["backup", "shop"]).done();
    let ran = machine.run(["restore-app", "shop", "--yes-replace", "shop"]);
    ran.explains(14);
    assert!(ran.stderr.contains("would go away with it"), "{ran:?}");
    assert!(!ran.stderr.contains("--admin"), "{ran:?}");
}

/// A source that came into the configuration later, inside of a folder that an earlier snapshot replaces.
#[test]
fn a_source_that_the_snapshot_has_not_is_said_to_stay_only_where_it_stays() {
    let machine = Lifeboat::with_repository();
    for name in ["media/later", "apart"] {
        fs::create_dir_all(machine.path(name)).unwrap();
    }
    let media = "[app.shop.media.media]\npath = \"media\"\n";
    fs::write(machine.path("lifeboat.toml"), media).unwrap();
    machine.run(["backup", "shop"]).done();
    let later = "[app.shop.media.later]\npath = \"media/later\"\n[app.shop.media.apart]\npath = \"apart\"\n";
    fs::write(machine.path("lifeboat.toml"), format!("{media}{later}")).unwrap();
    let said = machine.run(["restore-app", "shop", "-n"]).done().stderr;
    assert!(
        said.contains("apart is not in the snapshot and stays as it is"),
        "{said}"
    );
    assert!(
        !said.contains("later is not in the snapshot and stays"),
        "{said}"
    );
    assert!(
        said.contains("later is not in the snapshot as a source of its own, and lies in"),
        "{said}"
    );
}
