//! The independent reader: what the program wrote comes back without it, by `docs/reader.py`.
//!
//! **Invariant**: reader and program share the format's description and nothing else, so that what both agree on is
//! what `docs/format.md` says.

use std::{fs, path::Path};

use lifeboat_files::{CompareOptions, Difference, compare};

use crate::support::{
    oddities,
    program::{Lifeboat, Ran},
    reader::reader,
    same::same,
    trees::{Tree, noise},
};

/// Restores with the reader and holds the result against the program's own.
fn agrees(machine: &Lifeboat, secret: &[&str], snapshot: &str, own: &Path) {
    let target = machine.path("read");
    let mut read = reader();
    read.args(secret)
        .arg(machine.repository())
        .args(["restore", snapshot])
        .arg(&target);
    Ran::of(read).done();
    same(&own.join("media"), &target.join("media"));
    fs::remove_dir_all(target).unwrap();
}

#[test]
fn the_reader_restores_what_the_program_wrote() {
    let machine = Lifeboat::with_repository();
    let tree = Tree::create(machine.path("media"));
    tree.media(5, 150)
        .file("large.bin", noise(6, 9_000_000))
        .file("zeros.bin", vec![0; 3_000_000]);
    let back_up = |words: &[&str]| {
        let mut backup = machine.command();
        backup
            .args(["backup", "--json", "--app", "shop"])
            .args(words);
        let backup = Ran::of({
            backup.arg("--source").arg(tree.root());
            backup
        });
        backup.done().summary()["snapshot"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    let older = back_up(&[]);
    tree.file("large.bin", noise(7, 9_000_000))
        .remove("00/item-00000.bin")
        .file("new.txt", "new");
    let newer = back_up(&["--tag", "second"]);
    let own = machine.path("own");
    for snapshot in [&older, &newer] {
        let mut restore = machine.command();
        restore
            .args(["restore", snapshot, "--target"])
            .arg(own.join(snapshot));
        Ran::of(restore).done();
    }

    let key = machine.key_file();
    let key = ["--key-file", key.to_str().unwrap()];
    let passphrase = machine.passphrase_file();
    let passphrase = ["--passphrase-file", passphrase.to_str().unwrap()];
    let mut list = reader();
    list.args(key).arg(machine.repository()).arg("list");
    let listed = Ran::of(list).done();
    for snapshot in [&older, &newer] {
        assert!(
            listed.stdout().contains(&snapshot[..8]),
            "{}",
            listed.stdout()
        );
    }
    agrees(&machine, &key, &older, &own.join(&older));
    agrees(&machine, &passphrase, &newer, &own.join(&newer));
    agrees(
        &machine,
        &[&key[..], &["--no-index"]].concat(),
        &newer,
        &own.join(&newer),
    );

    let indexes = machine.repository().join("index");
    assert!(fs::read_dir(&indexes).unwrap().count() > 0);
    fs::remove_dir_all(&indexes).unwrap();
    fs::create_dir(&indexes).unwrap();
    agrees(&machine, &key, &older, &own.join(&older));
    agrees(&machine, &passphrase, &newer, &own.join(&newer));
}

#[test]
fn the_reader_restores_names_links_holes_and_times() {
    let machine = Lifeboat::with_repository();
    let tree = Tree::create(machine.path("media"));
    oddities::fill(&tree);
    let mut backup = machine.command();
    backup
        .args(["backup", "--json", "--app", "shop", "--source"])
        .arg(tree.root());
    let made = Ran::of(backup).done().summary();
    let target = machine.path("read");
    let mut read = reader();
    read.arg("--key-file")
        .arg(machine.key_file())
        .arg(machine.repository())
        .args(["restore", made["snapshot"].as_str().unwrap()])
        .arg(&target);
    let ran = Ran::of(read).done();
    assert!(
        ran.stdout().contains("Note:") || ran.stderr.contains("Note:"),
        "{ran:?}"
    );
    // It says of itself that it makes no devices and sets no inode flags.
    let left_out = |one: &Difference| {
        one.path == Path::new("specials/zero") || one.what.contains("inode flags")
    };
    let options = CompareOptions::default();
    let mut differences = compare(tree.root(), &target.join("media"), &options).unwrap();
    differences.retain(|one| !left_out(one));
    assert!(differences.is_empty(), "{differences:#?}");
}
