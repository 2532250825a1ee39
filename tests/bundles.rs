//! Bundles: what is in a `.gz`, `.tgz` or `.zip` is stored once, and the file comes back as it was.
//!
//! **Invariant**: how a file is stored shows in nothing but its size. It is listed, compared, restored, dumped, checked and
//! copied like any other, and is the same to the last byte.

use std::{
    ffi::OsString,
    fs,
    path::Path,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use crate::support::{
    messages::{number, text},
    program::{Lifeboat, Ran},
    reader::reader,
    same::same,
    trees::{Tree, dump, noise},
};

/// What a file must have been left alone for, so that the next backup trusts its times.
const SETTLED: Duration = Duration::from_millis(2_100);

/// Runs a program in a folder, with this input.
fn program(folder: &Path, words: &[&str], input: &[u8]) -> Vec<u8> {
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).current_dir(folder);
    command.stdin(Stdio::piped());
    Ran::with_input(command, input).done().output
}

fn back_up(machine: &Lifeboat, folder: &Path, more: &[&str]) -> serde_json::Value {
    let arguments = ["backup", "--json", "--app", "shop", "--source"].map(OsString::from);
    let more = more.iter().map(OsString::from);
    let all = arguments.into_iter().chain([folder.into()]).chain(more);
    machine.run(all).done().summary()
}

fn comes_back(machine: &Lifeboat, original: &Path) {
    let target = machine.path("back");
    let arguments = ["restore", "shop:media", "--target"].map(OsString::from);
    let all = arguments.into_iter().chain([target.clone().into()]);
    machine.run(all).done();
    same(original, &target);
    fs::remove_dir_all(target).unwrap();
}

/// Files, and then the same in bundles.
fn fill(tree: &Tree) {
    tree.file("photos/a.jpg", noise(2, 700_000))
        .file("photos/b.jpg", noise(3, 300_000))
        .file("photos/note.txt", b"two photos")
        .file("shop.sql", dump(0));
}

fn bundle(tree: &Tree) {
    let root = tree.root().to_owned();
    let packed = program(&root, &["gzip", "-6", "-n"], &dump(0));
    let tgz = program(&root, &["tar", "-cz", "photos"], b"");
    let zip = program(&root, &["zip", "-q", "-r", "-", "photos", "shop.sql"], b"");
    let deep = program(&root, &["gzip", "-9"], &zip);
    tree.file("shop.sql.gz", packed)
        .file("photos.tgz", tgz)
        .file("all.zip", zip)
        .file("all.zip.gz", deep);
}

#[test]
fn what_lies_in_a_folder_and_in_bundles_is_stored_once_and_comes_back() {
    let machine = Lifeboat::with_repository();
    let tree = Tree::create(machine.path("media"));
    fill(&tree);
    let first = back_up(&machine, tree.root(), &[]);
    assert!(first["sources"][0]["bundles"].is_null(), "{first}");
    bundle(&tree);
    thread::sleep(SETTLED);
    let second = back_up(&machine, tree.root(), &[]);
    // The text of the dump is cut finer within gzip than as a file, so that it is stored once more.
    let stored = number(&second, "bytes_stored");
    assert!(stored < 1_100_000, "{stored} stored");
    let told = &second["sources"][0]["bundles"];
    assert_eq!(told["files"], 4, "{told}");
    assert!(told["seconds"].as_f64().unwrap() > 0.0, "{told}");
    comes_back(&machine, tree.root());

    let size = fs::metadata(tree.root().join("all.zip")).unwrap().len();
    let listed = machine.run(["ls", "shop:media", "--json"]).done();
    let is_told = |text: &str| {
        let text: String = text.chars().filter(|letter| *letter != ' ').collect();
        text.contains(&format!("\"size\":{size},"))
    };
    assert!(is_told(listed.stdout()), "{listed:?}");
    let dumped = machine.run(["dump", "shop:media/photos.tgz"]).done();
    assert!(dumped.output == fs::read(tree.root().join("photos.tgz")).unwrap());
    machine.run(["check", "--read-data"]).done();

    // Taken over without a look, and stored as it is where that is asked for.
    let third = back_up(&machine, tree.root(), &[]);
    let new = number(&third, "bytes_new");
    assert!(new < 10_000, "what is new is the time of the run: {new}");
    assert!(third["sources"][0]["bundles"].is_null(), "{third}");
    let id = text(&third, "snapshot");
    let changed = program(tree.root(), &["gzip", "-6", "-n"], &dump(1));
    tree.file("shop.sql.gz", changed);
    let before = number(&back_up(&machine, tree.root(), &[]), "bytes_stored");
    assert!(before < 100_000, "a night takes {before}");
    let differs = machine.run(["diff", &id, "shop"]).done();
    assert!(differs.stdout().contains("shop.sql.gz"), "{differs:?}");
    assert!(!differs.stdout().contains("all.zip"), "{differs:?}");
    tree.file(
        "other.zip.gz",
        program(
            tree.root(),
            &["gzip", "-5"],
            &fs::read(tree.root().join("all.zip")).unwrap(),
        ),
    );
    let whole = back_up(&machine, tree.root(), &["--no-bundles"]);
    assert!(number(&whole, "bytes_stored") > 1_000_000, "{whole}");
    comes_back(&machine, tree.root());
}

#[test]
fn a_copy_under_other_keys_has_bundles_too() {
    let machine = Lifeboat::with_repository();
    let tree = Tree::create(machine.path("media"));
    fill(&tree);
    bundle(&tree);
    back_up(&machine, tree.root(), &[]);
    let other = |words: &[&str]| {
        let mut command = machine.command();
        command
            .env("LIFEBOAT_REPOSITORY", machine.path("other"))
            .env("LIFEBOAT_KEY_FILE", machine.path("other.key"))
            .args(words);
        command
    };
    let mut init = other(&["init", "--password-file"]);
    init.env_remove("LIFEBOAT_KEY_FILE")
        .arg(machine.passphrase_file())
        .arg("--key-file")
        .arg(machine.path("other.key"));
    Ran::of(init).done();
    let mut copy = machine.command();
    copy.env("LIFEBOAT_TO_KEY_FILE", machine.path("other.key"))
        .args(["copy", "--to", "other"]);
    Ran::of(copy).done();
    Ran::of(other(&["check", "--read-data"])).done();
    let mut restore = other(&["restore", "shop:media", "--target"]);
    restore.arg(machine.path("copied"));
    Ran::of(restore).done();
    same(tree.root(), &machine.path("copied"));
}

#[test]
fn a_night_of_a_packed_dump_from_standard_input_costs_what_changed() {
    let machine = Lifeboat::with_repository();
    let backup = ["backup", "--json", "--app", "shop", "--stdin"];
    let backup = || backup.iter().chain(&["--stdin-filename", "shop.sql.gz"]);
    for night in 0..4 {
        let packed = program(machine.folder(), &["gzip", "-6", "-n"], &dump(night));
        let made = machine.run_with_input(backup(), &packed).done().summary();
        assert_eq!(number(&made, "bytes"), packed.len() as u64);
        let stored = number(&made, "bytes_stored");
        if night > 0 {
            assert!(stored < 60_000, "night {night} took {stored}");
        }
        let dumped = machine.run(["dump", "shop:stdin/shop.sql.gz"]).done();
        assert!(dumped.output == packed, "night {night}");
    }
    // What ends in the middle is kept as far as it came.
    let packed = program(machine.folder(), &["gzip", "-6", "-n"], &dump(7));
    let half = &packed[..packed.len() / 2];
    machine.run_with_input(backup(), half).done();
    let dumped = machine.run(["dump", "shop:stdin/shop.sql.gz"]).done();
    assert!(dumped.output == half);
    machine.run(["check", "--read-data"]).done();
}

#[test]
fn a_source_whose_bundles_are_not_wanted_keeps_them_as_they_are() {
    let machine = Lifeboat::with_repository();
    let tree = Tree::create(machine.path("media"));
    fill(&tree);
    bundle(&tree);
    thread::sleep(SETTLED);
    let config = |wanted: bool| {
        let path = tree.root().display();
        let text = format!("[app.shop.media.media]\npath = \"{path}\"\nbundles = {wanted}\n");
        fs::write(machine.path("lifeboat.toml"), text).unwrap();
        let ran = machine
            .run(["backup", "--json", "--config", "lifeboat.toml"])
            .done();
        ran.summary()
    };
    let without = config(false);
    assert!(without["sources"][0]["bundles"].is_null(), "{without}");
    comes_back(&machine, tree.root());
    // What was taken over is as it was stored.
    assert!(config(true)["sources"][0]["bundles"].is_null());
    comes_back(&machine, tree.root());
}

#[test]
fn the_independent_reader_gives_what_is_in_a_bundle() {
    let machine = Lifeboat::with_repository();
    let tree = Tree::create(machine.path("media"));
    fill(&tree);
    bundle(&tree);
    tree.file(
        "plain.tar",
        program(tree.root(), &["tar", "-c", "photos"], b""),
    );
    let made = back_up(&machine, tree.root(), &[]);
    let target = machine.path("read");
    let mut reading = reader();
    reading
        .arg("--key-file")
        .arg(machine.key_file())
        .arg(machine.repository())
        .args(["restore", &text(&made, "snapshot")])
        .arg(&target);
    let ran = Ran::of(reading).done();
    assert!(
        ran.stderr
            .contains("Note: /media/shop.sql.gz was packed by deflate"),
        "{ran:?}"
    );
    let media = target.join("media");
    let plain = fs::read(media.join("plain.tar")).unwrap();
    assert!(plain == fs::read(tree.root().join("plain.tar")).unwrap());
    assert!(!media.join("shop.sql.gz").exists());
    let parts = fs::read_dir(media.join("shop.sql.gz.parts")).unwrap();
    let holds = parts.map(|part| fs::read(part.unwrap().path()).unwrap());
    assert!(holds.into_iter().any(|content| content == dump(0)));
}
