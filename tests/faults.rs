//! Eight faults that a backup can have, each planted in a whole app: a drill or the plan of a restore names each in one
//! sentence, and nothing of the running app is touched.
//!
//! **Invariant**: no fault of this list ever gives "passed", and none takes the place of what is there.

use std::fs;

use crate::support::{
    cluster::{address, client, psql},
    program::Ran,
    shop::{Shop, names_it, sentences},
};

const ENGINES: [&str; 2] = ["", "engine = \"pg_dump\""];
const CONFIRMED: [&str; 4] = ["restore-app", "shop", "--no-restore-point", "--yes-replace"];

impl Shop {
    /// Asks for the snapshot in place of the running app, which is refused with these words; the app stays as it is.
    #[track_caller]
    fn is_not_replaced(&self, code: i32, words: &[&str]) {
        let before = self.live();
        let ran = self.run(&[&CONFIRMED[..], &["shop"]].concat());
        assert_eq!(ran.code, code, "{ran:?}");
        for word in words {
            assert!(ran.stderr.contains(word), "{word} in {ran:?}");
        }
        assert!(!ran.stderr.contains("Restored"), "{ran:?}");
        assert_eq!(self.live(), before);
        assert!(
            !self
                .machine
                .path("state/lifeboat/restore-app/shop.json")
                .exists()
        );
    }

    /// Plans only; gives what was said.
    #[track_caller]
    fn plan(&self, code: i32) -> String {
        let before = self.live();
        let ran = self.run(&["restore-app", "shop", "--dry-run"]);
        assert_eq!(ran.code, code, "{ran:?}");
        assert_eq!(self.live(), before);
        ran.stderr
    }
}

#[test]
fn a_missing_chunk_is_named_and_the_snapshot_is_not_called_drilled() {
    let shop = Shop::new("");
    shop.back_up();
    shop.drill(0);
    fs::remove_dir_all(shop.machine.repository().join("packs/d")).unwrap();
    let report = shop.drill(4);
    let problems = sentences(&report, "problems");
    for source in ["db", "media/a.jpg", "rows/app.db"] {
        let told = problems
            .iter()
            .any(|problem| problem.contains(source) && problem.contains("packs/d"));
        assert!(told, "{source} in {problems:#?}");
    }
    let listed = shop.run(&["snapshots"]).done();
    assert!(listed.stdout().contains("(drill failed)"), "{listed:?}");
    shop.run(&["ls", "drilled"]).explains(1);
    shop.is_not_replaced(4, &["packs/d"]);
}

#[test]
fn a_truncated_dump_is_named_wherever_it_was_cut_off() {
    let shop = Shop::new("");
    let dump = format!(
        "{} --dbname='{}'",
        client(&shop.cluster, "pg_dump").display(),
        address(&shop.cluster, "postgres", &shop.database)
    );
    let lines = [
        (
            "archive",
            "shop.dump",
            "--format=custom",
            "head -c 5000",
            "cat",
        ),
        ("script", "shop.sql", "", "head -n 90", "cat"),
        ("packed", "shop.sql.gz", "", "gzip | head -c 500", "gzip"),
    ];
    let path = shop.machine.path("lifeboat.toml");
    let plain = fs::read_to_string(&path).unwrap();
    for (name, file, option, cut, whole) in lines {
        let command = |through: &str| {
            format!(
                "{plain}[app.shop.command.{name}]\nfilename = \"{file}\"\nrun = ['sh', '-c', \"{dump} {option} | {through}\"]\n"
            )
        };
        fs::write(&path, command(whole)).unwrap();
        shop.back_up();
        let report = shop.drill(0);
        let mut databases = report["databases"].as_array().unwrap().iter();
        let dump = databases.find(|one| one["source"] == format!("{name}/{file}"));
        assert_eq!(dump.unwrap()["rows"], 1009, "{report}");
        assert!(sentences(&report, "warnings").is_empty(), "{report}");

        // The program that cuts it off ends well, so the backup has no reason to complain.
        fs::write(&path, command(cut)).unwrap();
        shop.back_up();
        names_it(
            &shop.drill(4),
            &[
                &format!("the dump {name}/{file} does not come back"),
                if name == "packed" {
                    "cannot read the dump"
                } else {
                    "cut off"
                },
            ],
        );
    }
}

/// `pg_dump` says that all is well, and its archive ends early: there never is such a snapshot.
#[test]
fn a_dump_that_is_truncated_while_it_is_made_is_no_backup() {
    let shop = Shop::new("");
    let cut =
        "case \"$*\" in *--version*) exec $REAL --version;; esac; $REAL \"$@\" | head -c 5000";
    let programs = shop.programs("pg_dump", cut);
    shop.configure(ENGINES[1], "");
    let mut backup = shop.command(&["backup", "shop"]);
    backup.env("LIFEBOAT_PG_BIN", programs);
    let ran = Ran::of(backup);
    assert!(ran.explains(1).contains("cut off"), "{ran:?}");
    let listed = shop.run(&["snapshots", "--json"]).done().answer();
    assert_eq!(listed.as_array().unwrap().len(), 0);
}

#[test]
fn a_missing_role_is_named() {
    let shop = Shop::new("");
    let programs = shop.programs("pg_dumpall", "$REAL \"$@\" | grep -v clerk");
    for engine in ENGINES {
        shop.configure(engine, "");
        let mut backup = shop.command(&["backup", "shop"]);
        backup.env("LIFEBOAT_PG_BIN", &programs);
        Ran::of(backup).done();
        let report = shop.drill(4);
        names_it(&report, &["globals.sql does not make", "clerk", "db"]);
    }
    // A text that the server does not understand is the backup's fault too.
    let broken = "$REAL \"$@\" | sed 's/^CREATE ROLE .*clerk.*/CREATE ROLE pg_clerk;/'";
    fs::remove_dir_all(shop.machine.path("programs")).unwrap();
    let programs = shop.programs("pg_dumpall", broken);
    let mut backup = shop.command(&["backup", "shop"]);
    backup.env("LIFEBOAT_PG_BIN", &programs);
    Ran::of(backup).done();
    names_it(&shop.drill(4), &["db/globals.sql", "pg_clerk", "reserved"]);

    // On the server where the app is to go.
    let role = shop.sql("SELECT relowner::regrole FROM pg_class WHERE relname = 'orders'");
    let role = role.trim();
    for engine in ENGINES {
        shop.sql(&format!("ALTER TABLE orders OWNER TO {role}"));
        shop.configure(engine, "");
        shop.back_up();
        shop.sql("ALTER TABLE orders OWNER TO postgres");
        shop.sql(&format!("DROP ROLE {role}"));
        assert!(shop.plan(14).contains("clerk"), "{engine}");
        shop.is_not_replaced(14, &["clerk"]);
        shop.sql(&format!("CREATE ROLE {role}"));
    }
}

#[test]
fn a_missing_extension_is_named_before_the_first_byte() {
    let shop = Shop::new("");
    // Nothing on a machine of tests can be taken away: the catalog is made to speak of an extension that nobody has.
    shop.sql(
        "INSERT INTO pg_extension SELECT 99999, 'nobodys', extowner, extnamespace, false, '0.7', NULL, NULL
           FROM pg_extension WHERE extname = 'plpgsql'",
    );
    for engine in ENGINES {
        shop.configure(engine, "");
        shop.back_up();
        let ran = shop.run(&["drill", "shop"]);
        assert!(ran.explains(6).contains("extension nobodys"), "{ran:?}");
        assert!(!ran.stderr.contains("Restoring"), "{ran:?}");
        shop.is_clean();
        assert!(shop.plan(14).contains("nobodys"), "{engine}");
        shop.is_not_replaced(14, &["nobodys"]);
    }
}

#[test]
fn a_missing_file_is_named() {
    let shop = Shop::new("");
    // A column that the configuration had not when the backup was made.
    shop.sql("CREATE TABLE page (id int PRIMARY KEY, path text); INSERT INTO page VALUES (7, 'gone.jpg')");
    shop.back_up();
    let file = shop.machine.path("lifeboat.toml");
    let config = fs::read_to_string(&file).unwrap();
    let more = "[app.shop.media.media]\nreferenced-by = [\"db:public.page.path\"]";
    fs::write(&file, config.replace("[app.shop.media.media]", more)).unwrap();
    names_it(&shop.drill(4), &["media/gone.jpg", "row 7 of public.page"]);
    shop.is_not_replaced(3, &["rows name", "media"]);
}

#[test]
fn a_swapped_file_is_named() {
    let shop = Shop::new("");
    // Another file of the same size: nothing but its content tells.
    shop.media.file("a.jpg", "wrong");
    shop.back_up();
    names_it(&shop.drill(4), &["media/a.jpg", "SHA-256"]);
}

#[test]
fn an_older_and_a_newer_migration_are_in_the_plan() {
    let shop = Shop::new("");
    shop.sql(
        "CREATE TABLE django_migrations (id serial, app text, name text);
         INSERT INTO django_migrations (app, name) VALUES ('shop', '0001'), ('shop', '0002')",
    );
    let session = rusqlite::Connection::open(shop.machine.path("app.db")).unwrap();
    session
        .execute_batch(
            "CREATE TABLE schema_migrations (version); INSERT INTO schema_migrations VALUES ('1'), ('2')",
        )
        .unwrap();
    for engine in ENGINES {
        shop.configure(engine, "");
        shop.back_up();
        shop.sql("INSERT INTO django_migrations (app, name) VALUES ('shop', '0003_later')");
        session
            .execute("INSERT INTO schema_migrations VALUES ('3')", [])
            .unwrap();
        let said = shop.plan(0);
        for words in [
            "db lacks 1 migrations of Django (shop.0003_later): run `python manage.py migrate`",
            "rows lacks 1 migrations of Rails (3): run `bin/rails db:migrate`",
        ] {
            assert!(said.contains(words), "{engine}: {words} in {said}");
        }
        shop.sql("DELETE FROM django_migrations WHERE name > '0001'");
        session
            .execute("DELETE FROM schema_migrations WHERE version > '2'", [])
            .unwrap();
        let said = shop.plan(14);
        assert!(
            said.contains("shop.0002") && said.contains("--allow-newer"),
            "{said}"
        );
        // Before anything is backed up or restored.
        let ran = shop.run(&["restore-app", "shop", "--yes-replace", "shop"]);
        assert!(!ran.explains(14).contains("restore point"), "{ran:?}");
        shop.is_not_replaced(14, &["shop.0002", "--allow-newer"]);

        shop.sql("INSERT INTO django_migrations (app, name) VALUES ('shop', '0002')");
        session
            .execute("DELETE FROM schema_migrations WHERE version > '1'", [])
            .unwrap();
        session
            .execute("INSERT INTO schema_migrations VALUES ('0')", [])
            .unwrap();
        let said = shop.plan(14);
        assert!(
            said.contains("rows has 1 migrations of Rails") && said.contains("--allow-newer"),
            "{said}"
        );
        session
            .execute_batch(
                "DELETE FROM schema_migrations; INSERT INTO schema_migrations VALUES ('1'), ('2')",
            )
            .unwrap();
    }
}

#[test]
fn an_empty_table_is_named_by_a_check_and_by_what_the_source_guessed() {
    let shop = Shop::new("checks = [\"db: SELECT count(*) > 0 FROM orders\"]");
    psql(&shop.cluster, &shop.database, "ANALYZE; DELETE FROM orders");
    shop.back_up();
    let report = shop.drill(4);
    names_it(&report, &["SELECT count(*) > 0 FROM orders", "not true"]);
    let warnings = sentences(&report, "warnings");
    assert!(
        warnings
            .iter()
            .any(|warning| warning.contains("public.orders is empty")
                && warning.contains("1000 rows")),
        "{warnings:?}"
    );
}
