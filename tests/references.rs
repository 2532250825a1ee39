//! Rows and the files that they name: what a backup says of them, and what a restore of it has.
//!
//! **Invariant**: a file that a row names is in the snapshot, or the snapshot says that it lacks and which row names it.

use std::fs;

use rusqlite::Connection;
use serde_json::Value;

use crate::support::{
    cluster::{self, address, new_name, psql},
    messages::{number, text},
    program::{Lifeboat, Ran},
    trees::Tree,
};

const TABLE: &str =
    "CREATE TABLE asset (id integer PRIMARY KEY, path text, bytes integer, sha text);";

/// A machine with a configured app: the folder `media`, and what `database` says beside it.
fn machine(database: &str, media: &str) -> (Lifeboat, Tree) {
    let machine = Lifeboat::with_repository();
    let tree = Tree::create(machine.path("media"));
    let path = tree.root().display();
    let text = format!("{database}\n[app.shop.media.media]\npath = \"{path}\"\n{media}\n");
    fs::write(machine.path("lifeboat.toml"), text).unwrap();
    (machine, tree)
}

/// The same with an SQLite database that has [`TABLE`].
fn with_sqlite(media: &str) -> (Lifeboat, Tree, Connection) {
    let database = "[app.shop.sqlite.rows]\npath = \"app.db\"";
    let (machine, tree) = machine(database, media);
    let rows = Connection::open(machine.path("app.db")).unwrap();
    rows.execute_batch(TABLE).unwrap();
    (machine, tree, rows)
}

fn backup(machine: &Lifeboat) -> Ran {
    let config = machine.path("lifeboat.toml");
    machine.run(["backup", "--json", "--config", config.to_str().unwrap()])
}

/// What the run says of the rows that name files.
fn references(ran: &Ran) -> Value {
    let summary = ran.summary();
    let sources = summary["sources"].as_array().unwrap().iter();
    let media = sources.clone().find(|source| source["name"] == "media");
    media.unwrap()["references"].clone()
}

fn counts<const N: usize>(ran: &Ran, names: [&str; N]) -> [u64; N] {
    let references = references(ran);
    names.map(|name| number(&references, name))
}

/// The media folder of a snapshot, restored.
fn restored(machine: &Lifeboat, selector: &str, folder: &str) -> Tree {
    let target = machine.path(folder);
    machine
        .run(["restore", selector, "--target", target.to_str().unwrap()])
        .done();
    Tree::create(target)
}

#[test]
fn rows_and_files_that_fit_are_counted_and_a_folder_without_references_says_nothing() {
    let (machine, tree, rows) = with_sqlite("referenced-by = [\"asset.path\"]");
    tree.file("a.jpg", "first")
        .file("sub/b.jpg", "second")
        .file("alone.jpg", "third");
    rows.execute_batch("INSERT INTO asset VALUES (1, 'a.jpg', 5, NULL), (2, 'sub/b.jpg', 6, NULL), (3, NULL, 0, NULL), (4, 'a.jpg', 5, NULL)")
        .unwrap();
    let ran = backup(&machine).done();
    let names = [
        "values",
        "files",
        "missing",
        "carried_forward",
        "orphans",
        "orphan_bytes",
    ];
    assert_eq!(counts(&ran, names), [3, 2, 0, 0, 1, 5]);
    let (machine, tree, _rows) = with_sqlite("");
    tree.file("a.jpg", "first");
    assert_eq!(references(&backup(&machine).done()), Value::Null);
}

#[test]
fn a_file_that_lacks_is_told_with_its_row() {
    let (machine, tree, rows) = with_sqlite("referenced-by = [\"asset.path\"]");
    tree.file("a.jpg", "first");
    rows.execute_batch("INSERT INTO asset VALUES (1, 'a.jpg', 5, NULL), (7, 'gone.jpg', 6, NULL), (8, '../x', 0, NULL)")
        .unwrap();
    let ran = backup(&machine).ends_with_code(3);
    assert_eq!(counts(&ran, ["missing", "outside"]), [1, 1]);
    let told = ran.problems();
    assert!(
        told.iter()
            .any(|told| told.contains("media/gone.jpg: row 7 of asset names it")),
        "{told:?}"
    );
    assert!(
        told.iter()
            .any(|told| told.contains("row 8 of asset names ../x")),
        "{told:?}"
    );
    let shown = machine.run(["stats", "shop"]).done();
    assert!(shown.stdout().contains("row 7 of asset"), "{shown:?}");
}

#[test]
fn a_file_that_a_row_still_names_is_carried_forward_as_long_as_it_does() {
    let (machine, tree, rows) = with_sqlite("referenced-by = [\"asset.path\"]");
    tree.file("a.jpg", "first")
        .file("sub/deep/b.jpg", "second")
        .file("unnamed.jpg", "third");
    rows.execute_batch(
        "INSERT INTO asset VALUES (1, 'a.jpg', 5, NULL), (2, 'sub/deep/b.jpg', 6, NULL)",
    )
    .unwrap();
    backup(&machine).done();
    for gone in ["a.jpg", "sub", "unnamed.jpg"] {
        tree.remove(gone);
    }
    let config = machine.path("lifeboat.toml");
    let config = config.to_str().unwrap();
    // Over several nights, each from the one before.
    for night in 0..3 {
        let ran = backup(&machine).done();
        let again = if night == 0 { 0 } else { 2 };
        assert_eq!(
            counts(&ran, ["missing", "carried_forward", "carried_again"]),
            [0, 2, again],
            "{ran:?}"
        );
        let check = machine.run(["status", "--check", "--config", config]);
        if night == 0 {
            check.done();
        } else {
            let check = check.ends_with_code(4);
            let line = "rows name 2 files that snapshot";
            assert!(check.stdout().contains(line), "{check:?}");
        }
        let back = restored(&machine, "shop:media", &format!("back{night}"));
        assert_eq!(fs::read(back.root().join("a.jpg")).unwrap(), b"first");
        assert_eq!(
            fs::read(back.root().join("sub/deep/b.jpg")).unwrap(),
            b"second"
        );
        assert!(!back.root().join("unnamed.jpg").exists());
    }
    machine.run(["check", "--read-data"]).done();
    let ran = machine.run(["backup", "--config", config]).done();
    for said in [
        "media has them no more: a.jpg, sub/deep/b.jpg.",
        "2 files that rows name were not in media at the backup before either",
    ] {
        assert!(ran.stderr.contains(said), "{said}: {ran:?}");
    }
    let shown = machine.run(["status", "--config", config]).done();
    assert!(shown.stdout().contains("2 gone since before"), "{shown:?}");
    let listed = machine
        .run(["ls", "shop:media", "--recursive", "--long"])
        .done();
    let marked = listed
        .stdout()
        .lines()
        .filter(|line| line.contains("carried forward"))
        .count();
    assert_eq!(marked, 4, "the files and their folders: {listed:?}");
    // What comes back is marked no more.
    tree.file("a.jpg", "first").file("sub/deep/b.jpg", "second");
    let ran = backup(&machine).done();
    assert_eq!(counts(&ran, ["carried_forward", "carried_again"]), [0, 0]);
    let listed = machine
        .run(["ls", "shop:media", "--recursive", "--long"])
        .done();
    assert!(!listed.stdout().contains("carried forward"), "{listed:?}");
    tree.remove("a.jpg").remove("sub");
    rows.execute_batch("DELETE FROM asset WHERE id = 1")
        .unwrap();
    let ran = backup(&machine).done();
    assert_eq!(
        counts(&ran, ["missing", "carried_forward"]),
        [0, 1],
        "{ran:?}"
    );
    let back = restored(&machine, "shop:media", "last");
    assert!(!back.root().join("a.jpg").exists());
}

#[test]
fn a_file_is_carried_forward_wherever_it_stood_between_folders() {
    let (machine, tree, rows) = with_sqlite("referenced-by = [\"asset.path\"]");
    let gone = ["0.jpg", "b.jpg", "d.jpg", "z.jpg"];
    for (number, name) in gone.iter().enumerate() {
        tree.file(name, "gone");
        let row = format!("INSERT INTO asset VALUES ({number}, '{name}', 4, NULL)");
        rows.execute_batch(&row).unwrap();
    }
    for folder in ["a", "c", "e"] {
        tree.file(&format!("{folder}/stays"), folder);
    }
    backup(&machine).done();
    for name in gone {
        tree.remove(name);
    }
    for night in 0..2 {
        let ran = backup(&machine).done();
        assert_eq!(
            counts(&ran, ["missing", "carried_forward"]),
            [0, 4],
            "{ran:?}"
        );
        let back = restored(&machine, "shop:media", &format!("back{night}"));
        for name in gone {
            assert_eq!(fs::read(back.root().join(name)).unwrap(), b"gone", "{name}");
        }
    }
}

#[test]
fn only_the_file_that_the_row_means_is_carried_forward() {
    let media = "[app.shop.media.media.reference.assets]\ncolumn = \"asset.path\"\nsize = \"bytes\"\nsha256 = \"sha\"";
    let (machine, tree, rows) = with_sqlite(media);
    tree.file("same.jpg", "first")
        .file("size.jpg", "first")
        .file("hash.jpg", "first");
    // SHA-256 of `first`.
    let sha = "a7937b64b8caa58f03721bb6bacf5c78cb235febe0e70b1b84cd99541461a08e";
    let insert = |name: &str, bytes: u32, sha: &str| {
        rows.execute(
            "INSERT INTO asset (path, bytes, sha) VALUES (?1, ?2, ?3)",
            (name, bytes, sha),
        )
        .unwrap();
    };
    insert("same.jpg", 5, sha);
    insert("size.jpg", 5, sha);
    insert("hash.jpg", 5, sha);
    backup(&machine).done();
    for gone in ["same.jpg", "size.jpg", "hash.jpg"] {
        tree.remove(gone);
    }
    rows.execute_batch("UPDATE asset SET bytes = 6 WHERE path = 'size.jpg'; UPDATE asset SET sha = replace(sha, 'a', 'b') WHERE path = 'hash.jpg'")
        .unwrap();
    let ran = backup(&machine).ends_with_code(3);
    assert_eq!(
        counts(&ran, ["missing", "carried_forward"]),
        [2, 1],
        "{ran:?}"
    );
    let back = restored(&machine, "shop:media", "back");
    let names: Vec<_> = fs::read_dir(back.root())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(names, ["same.jpg"]);
}

#[test]
fn a_file_of_another_size_than_its_row_says_is_told() {
    let media = "[app.shop.media.media.reference.assets]\ncolumn = \"asset.path\"\nbelow = \"/media/\"\nsize = \"bytes\"";
    let (machine, tree, rows) = with_sqlite(media);
    tree.file("a.jpg", "first").file("cut.jpg", "fi");
    rows.execute_batch(
        "INSERT INTO asset VALUES (1, '/media/a.jpg', 5, NULL), (2, '/media/cut.jpg', 5, NULL)",
    )
    .unwrap();
    let ran = backup(&machine).ends_with_code(3);
    assert_eq!(counts(&ran, ["missing", "differing"]), [0, 1]);
    assert!(
        ran.problems()[0].contains("row 2 of asset says that it has 5 bytes"),
        "{ran:?}"
    );
}

#[test]
fn a_link_out_of_the_folder_in_a_files_place_is_told_by_the_backup_and_by_monitoring_and_passes_a_drill_as_known()
 {
    let media = "[app.shop.media.media.reference.assets]\ncolumn = \"asset.path\"\nsize = \"bytes\"\nsha256 = \"sha\"";
    let (machine, tree, rows) = with_sqlite(media);
    tree.file("a.jpg", "first").file("b.jpg", "first");
    // SHA-256 of `first`.
    let sha = "a7937b64b8caa58f03721bb6bacf5c78cb235febe0e70b1b84cd99541461a08e";
    rows.execute_batch(&format!(
        "INSERT INTO asset VALUES (1, 'a.jpg', 5, '{sha}'), (2, 'b.jpg', 5, '{sha}')"
    ))
    .unwrap();
    let config = machine.path("lifeboat.toml");
    let config = config.to_str().unwrap();
    backup(&machine).done();
    fs::rename(tree.root().join("a.jpg"), machine.path("moved away")).unwrap();
    std::os::unix::fs::symlink(machine.path("moved away"), tree.root().join("a.jpg")).unwrap();
    // The second one takes the link over as it is.
    for _ in 0..2 {
        let ran = backup(&machine).ends_with_code(3);
        assert_eq!(counts(&ran, ["missing", "no_files"]), [0, 1]);
        assert!(
            ran.problems()[0]
                .contains("media/a.jpg: row 1 of asset names it, and it is a symbolic link"),
            "{ran:?}"
        );
    }
    let check = machine
        .run(["status", "--check", "--config", config])
        .ends_with_code(4);
    assert!(
        check.stdout().contains("rows name 1 file that"),
        "{check:?}"
    );
    let shown = machine.run(["status", "--config", config]).done();
    assert!(shown.stdout().contains("1 no regular file"), "{shown:?}");
    let drill = || machine.run(["drill", "shop", "--json", "--config", config]);
    assert_eq!(drill().done().summary()["verdict"], "passed");
    // Of a file that is as long as it was not: once, as what the snapshot knows.
    tree.file("b.jpg", "more than first");
    backup(&machine).ends_with_code(3);
    let report = drill().done().summary();
    assert_eq!(report["problems"], serde_json::json!([]), "{report}");
}

#[test]
fn rows_of_postgresql_name_files_too_those_of_partitions_by_either_name() {
    let cluster = cluster::shared();
    let name = new_name("shop");
    psql(&cluster, "postgres", &format!("CREATE DATABASE {name}"));
    psql(
        &cluster,
        &name,
        "CREATE SCHEMA crm;
         CREATE TABLE crm.asset (id bigint PRIMARY KEY, \"the path\" text, gen text GENERATED ALWAYS AS (upper(\"the path\")) STORED, bytes bigint);
         INSERT INTO crm.asset VALUES (1, E'tab\\there.jpg', DEFAULT, 5), (2, 'gone.jpg', DEFAULT, 1), (3, NULL, DEFAULT, NULL), (4, E'back\\\\slash.jpg', DEFAULT, 6);
         CREATE TABLE page (at int, path text) PARTITION BY RANGE (at);
         CREATE TABLE page_1 PARTITION OF page FOR VALUES FROM (0) TO (10);
         CREATE TABLE page_2 (path text, at int);
         ALTER TABLE page ATTACH PARTITION page_2 FOR VALUES FROM (10) TO (20);
         INSERT INTO page VALUES (1, 'p1.jpg'), (11, 'p2.jpg'), (12, 'p3.jpg');",
    );
    let database = format!(
        "[app.shop.postgres]\nurl = \"{}\"",
        address(&cluster, "postgres", &name)
    );
    let media =
        "referenced-by = [\"crm.asset.the path\", \"public.page.path\", \"public.page_2.path\"]";
    let (machine, tree) = machine(&database, media);
    tree.file("tab\there.jpg", "first")
        .file("back\\slash.jpg", "second");
    tree.file("p1.jpg", "1")
        .file("p2.jpg", "2")
        .file("orphan.jpg", "");
    let ran = backup(&machine).ends_with_code(3);
    let names = ["values", "files", "missing", "orphans"];
    // The partition's two rows are named by the table's column and by its own.
    assert_eq!(counts(&ran, names), [8, 6, 2, 1], "{ran:?}");
    let told = ran.problems().join("\n");
    assert!(told.contains("gone.jpg: row 2 of crm.asset"), "{told}");
    assert!(told.contains("p3.jpg: row p3.jpg of public.page"), "{told}");
    tree.file("gone.jpg", "x").file("p3.jpg", "3");
    backup(&machine).done();
    tree.remove("gone.jpg")
        .remove("p3.jpg")
        .remove("tab\there.jpg");
    let ran = backup(&machine).done();
    assert_eq!(counts(&ran, ["missing", "carried_forward"]), [0, 3]);
    let back = restored(&machine, "shop:media", "back");
    assert_eq!(
        fs::read(back.root().join("tab\there.jpg")).unwrap(),
        b"first"
    );
}

#[test]
fn a_column_that_a_migration_took_away_is_told_and_the_rest_is_backed_up() {
    let (machine, tree, rows) =
        with_sqlite("referenced-by = [\"asset.old_path\", \"former.path\"]");
    tree.file("a.jpg", "first");
    rows.execute_batch("INSERT INTO asset VALUES (1, 'a.jpg', 5, NULL)")
        .unwrap();
    let ran = backup(&machine).ends_with_code(3);
    let told = ran.problems().join("\n");
    assert!(told.contains("asset has no column old_path"), "{told}");
    assert!(
        told.contains("no database of this run has rows of former"),
        "{told}"
    );
    let listed = machine.run(["ls", "shop:media", "--json"]).done();
    assert!(listed.stdout().contains("a.jpg"), "{listed:?}");
    assert!(!text(&ran.summary(), "snapshot").is_empty());
}

#[test]
fn a_backup_of_the_rows_alone_takes_nothing_from_what_the_next_one_carries_forward() {
    let (machine, tree, rows) = with_sqlite("referenced-by = [\"asset.path\"]");
    tree.file("a.jpg", "first");
    rows.execute_batch("INSERT INTO asset VALUES (1, 'a.jpg', NULL, NULL)")
        .unwrap();
    let config = machine.path("lifeboat.toml");
    backup(&machine).done();
    machine
        .run([
            "backup",
            "--only",
            "rows",
            "--config",
            config.to_str().unwrap(),
        ])
        .done();
    fs::remove_file(tree.root().join("a.jpg")).unwrap();
    let ran = backup(&machine).done();
    assert_eq!(counts(&ran, ["carried_forward", "missing"]), [1, 0]);
}

#[test]
fn a_drill_takes_no_file_for_known_beyond_those_that_the_snapshot_counted() {
    let (machine, tree, rows) = with_sqlite("referenced-by = [\"asset.path\"]");
    tree.file("a.jpg", "first");
    rows.execute_batch(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1005)
         INSERT INTO asset SELECT i, 'gone ' || i, NULL, NULL FROM n;
         CREATE TABLE other (id integer PRIMARY KEY, path text);
         INSERT INTO other VALUES (1, 'never there')",
    )
    .unwrap();
    let config = machine.path("lifeboat.toml");
    backup(&machine).ends_with_code(3);
    let drill = || {
        machine.run([
            "drill",
            "shop",
            "--json",
            "--config",
            config.to_str().unwrap(),
        ])
    };
    let passed = drill().done().summary();
    assert_eq!(passed["verdict"], "passed", "{passed}");
    // Since then somebody told of one more column.
    let text = fs::read_to_string(&config).unwrap();
    let text = text.replace("[\"asset.path\"]", "[\"asset.path\", \"other.path\"]");
    fs::write(&config, text).unwrap();
    let failed = drill().ends_with_code(4).summary();
    let problems = failed["problems"].to_string();
    assert!(
        problems.contains("1006") && problems.contains("1005"),
        "{failed}"
    );
}

#[test]
fn a_plan_says_that_columns_named_after_the_snapshot_are_not_asked() {
    let (machine, tree, _rows) = with_sqlite("");
    tree.file("a.jpg", "first");
    backup(&machine).done();
    let config = machine.path("lifeboat.toml");
    let planned = |referenced: &str| {
        let text = fs::read_to_string(&config).unwrap();
        fs::write(&config, format!("{text}{referenced}")).unwrap();
        let config = config.to_str().unwrap();
        machine.run(["restore-app", "shop", "-n", "--config", config])
    };
    let words = "the files that restored rows name are not looked for";
    assert!(!planned("").done().stderr.contains(words));
    let column = "referenced-by = [\"asset.path\"]\n";
    assert!(planned(column).done().stderr.contains(words));
    backup(&machine).done();
    assert!(!planned("").done().stderr.contains(words));
}
