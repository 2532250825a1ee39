//! `status`: how the backups of each app stand, as a person reads it and as monitoring asks.
//!
//! **Invariant**: what is not in order is a line of its own, and the exit code says so.

use std::fs;

use rusqlite::Connection;
use serde_json::Value;

use crate::support::{
    program::{Lifeboat, Ran},
    trees::Tree,
};

/// An app whose rows name two files, and one that was never backed up.
struct Apps {
    machine: Lifeboat,
    media: Tree,
}

impl Apps {
    fn new() -> Self {
        let machine = Lifeboat::with_repository();
        let media = Tree::create(machine.path("media"));
        media.file("a.jpg", "first").file("other.jpg", "no row's");
        Connection::open(machine.path("app.db"))
            .unwrap()
            .execute_batch(
                "CREATE TABLE asset (path text); INSERT INTO asset VALUES ('a.jpg'), ('b.jpg')",
            )
            .unwrap();
        let text = "[app.shop.sqlite.rows]\npath = \"app.db\"\n\
                    [app.shop.media.media]\npath = \"media\"\nreferenced-by = [\"asset.path\"]\n\
                    [app.blog.media.pages]\npath = \"media\"\n";
        fs::write(machine.path("lifeboat.toml"), text).unwrap();
        Self { machine, media }
    }

    fn run(&self, arguments: &[&str]) -> Ran {
        let config = self.machine.path("lifeboat.toml");
        let config = ["--config", config.to_str().unwrap()];
        self.machine.run([arguments, &config].concat())
    }
}

fn lines(ran: &Ran) -> Vec<&str> {
    ran.stdout().lines().collect()
}

#[test]
fn a_check_tells_each_problem_in_a_line_and_ends_with_its_code() {
    let apps = Apps::new();
    apps.run(&["backup", "shop"]).ends_with_code(3);
    let ran = apps.run(&["status", "--check"]).ends_with_code(5);
    let told = lines(&ran);
    assert_eq!(told.len(), 2, "{ran:?}");
    assert!(told[0].starts_with("shop: rows name 1 file that snapshot "));
    assert_eq!(told[1], "blog: there is no backup of the whole app");

    // What is not its whole is no backup of an app.
    for more in [["--only", "rows"], ["--tag", "restore-point"]] {
        apps.run(&[["backup", "shop"], more].concat());
    }
    apps.media.file("b.jpg", "second");
    apps.run(&["status", "shop", "--check"]).ends_with_code(4);
    apps.run(&["backup"]).done();
    let ran = apps.run(&["status", "--check"]).done();
    assert!(ran.stdout().is_empty() && ran.stderr.contains("In order: shop, blog."));
    let ran = apps.run(&["status", "--check", "--max-drill-age", "14d", "-q"]);
    assert_eq!(
        lines(&ran.ends_with_code(5)),
        [
            "shop: no drill has passed yet",
            "blog: no drill has passed yet"
        ]
    );
    apps.run(&["drill", "shop"]).done();
    let with_drill = ["status", "shop", "--check", "--max-drill-age", "14d"];
    apps.run(&with_drill).done();

    // Nothing is as old as a millisecond only by luck.
    std::thread::sleep(std::time::Duration::from_millis(5));
    let ran = apps.run(&["status", "shop", "--check", "--max-age", "1ms"]);
    let told = lines(&ran.ends_with_code(5)).join("\n");
    assert!(told.contains("more than 1ms") && told.lines().count() == 1);

    apps.run(&["backup", "blog", "--tag", "a b"]).explains(2);
    let shown = apps.run(&["status", "--json"]).done().answer();
    assert!(shown["apps"][0]["failed_run"].is_null(), "{shown}");
    assert_eq!(shown["apps"][1]["failed_run"]["exit_code"], 2, "{shown}");

    fs::rename(apps.machine.path("app.db"), apps.machine.path("gone.db")).unwrap();
    // The repository is the same one, however it was named.
    let mut backup = apps.machine.command();
    let repository = apps.machine.repository();
    backup.current_dir(repository.parent().unwrap());
    backup.args(["backup", "shop", "--config"]);
    backup.arg(apps.machine.path("lifeboat.toml"));
    backup.arg("--repo").arg(repository.file_name().unwrap());
    Ran::of(backup).ends_with_code(1);
    let shown = apps.run(&["status", "shop", "--json"]).done().answer();
    let shop = &shown["apps"][0];
    assert_eq!(shop["failed_run"]["exit_code"], 1, "{shop}");
    assert_eq!(shop["drill"]["verdict"], "passed");
    assert_eq!(shop["snapshots"], 2, "whole backups: {shop}");
    let ran = apps.run(&["status", "shop", "--check", "--max-age", "1ms"]);
    let run = shop["failed_run"]["run"].to_string();
    let failed = format!("; run {run} failed since");
    assert!(lines(&ran.ends_with_code(5))[0].contains(&failed));
}

#[test]
fn what_lacks_is_shown_by_status_and_by_the_list_of_snapshots() {
    let apps = Apps::new();
    apps.run(&["backup", "shop"]).ends_with_code(3);
    let shown = apps.run(&["status"]).done();
    let told = lines(&shown);
    let shop = told.iter().find(|line| line.starts_with("shop")).unwrap();
    assert!(shop.contains("1 missing, 1 named by none"), "{shop}");
    assert!(shop.contains("(incomplete)") && shop.contains("never"));
    assert!(told.iter().any(|line| line.starts_with("blog  never")));
    let listed = apps.run(&["snapshots"]).done();
    assert!(listed.stdout().contains("(1 missing)"), "{listed:?}");
    let counted = |json: Value| -> [Value; 3] {
        ["missing", "orphans", "newer"].map(|name| json["references"][name].clone())
    };
    let expected = [1, 1, 0].map(Value::from);
    let json = apps.run(&["snapshots", "--json"]).done().answer();
    assert_eq!(counted(json[0].clone()), expected);
    let json = apps.run(&["status", "--json"]).done().answer();
    assert_eq!(counted(json["apps"][0]["newest"].clone()), expected);
    assert!(json["apps"][1]["newest"].is_null(), "{json}");

    apps.media.file("b.jpg", "second");
    apps.run(&["backup", "shop"]).done();
    let listed = apps.run(&["snapshots", "--latest", "1"]).done();
    assert!(!listed.stdout().contains("missing"), "{listed:?}");
    let json = apps.run(&["snapshots", "--json", "--latest", "1"]).done();
    assert_eq!(
        counted(json.answer()[0].clone()),
        [0, 1, 0].map(Value::from)
    );
}

/// As after a migration, or when a name in the configuration is wrong.
#[test]
fn rows_that_could_not_be_asked_are_never_all_there() {
    let apps = Apps::new();
    let config = apps.machine.path("lifeboat.toml");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, text.replace("asset.path", "gone.path")).unwrap();
    let ran = apps.run(&["backup", "shop"]).ends_with_code(3);
    assert!(ran.stderr.contains(": 1 column not asked"), "{ran:?}");
    let shown = apps.run(&["status"]).done();
    assert!(shown.stdout().contains("1 column not asked") && !shown.stdout().contains("all there"));
    let listed = apps.run(&["snapshots"]).done();
    assert!(
        listed.stdout().contains("(1 column not asked)"),
        "{listed:?}"
    );
    let check = ["status", "shop", "--check", "--max-missing", "9"];
    let ran = apps.run(&check).ends_with_code(4);
    assert!(
        lines(&ran)[0].contains("1 column that should name files"),
        "{ran:?}"
    );
}

#[test]
fn a_check_of_nothing_fails() {
    let machine = Lifeboat::with_repository();
    let ran = machine.run(["status", "--check"]);
    assert!(ran.explains(2).contains("no app to look at"), "{ran:?}");
    let ran = machine.run(["status", "--max-age", "26h"]);
    assert_eq!(ran.code, 2, "{ran:?}");
}
