//! What a restore leaves alone, and what it manages with little.
//!
//! **Invariant**: an exact restore deletes nothing that the snapshot may have had, and nothing beside what was asked
//! for; neither depth nor number of open files ends a restore.

use std::{
    ffi::OsString,
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::Path,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use crate::support::{
    account::ordinary,
    messages::number,
    oddities,
    program::{Lifeboat, Ran},
    same::same,
    trees::{Tree, noise},
};

/// What an exact restore over something needs.
const EXACT: [&str; 3] = ["--exact", "--overwrite", "always"];

fn back_up(machine: &Lifeboat, folder: &Path) -> Ran {
    let arguments = ["backup", "--json", "--app", "shop", "--source"].map(OsString::from);
    machine.run(arguments.into_iter().chain([folder.into()]))
}

fn restore(machine: &Lifeboat, paths: &[&str], target: &str, more: &[&str]) -> Ran {
    let words = ["restore", "--json", "--target", target];
    machine.run(words.iter().chain(more).chain(paths))
}

fn read(tree: &Tree, path: &str) -> Option<String> {
    fs::read_to_string(tree.root().join(path)).ok()
}

#[test]
fn an_exact_restore_keeps_secrets_that_it_was_not_asked_for() {
    let machine = Lifeboat::with_repository();
    let app = Tree::create(machine.path("app"));
    app.file(".env", "KEY=value\n").file("uploads/a.txt", "a");
    let config = format!(
        "[app.shop.media.uploads]\npath = \"{0}/uploads\"\n\n[app.shop.secrets]\npaths = [\"{0}/.env\"]\n",
        app.root().display()
    );
    fs::write(machine.path("lifeboat.toml"), config).unwrap();
    machine
        .run(["backup", "shop", "--config", "lifeboat.toml"])
        .done();
    let target = Tree::create(machine.path("back"));
    target
        .file("secrets/.env", "KEY=of today\n")
        .file("uploads/b.txt", "b");
    let ran = restore(&machine, &["shop"], "back", &EXACT).done();
    assert_eq!(number(&ran.summary(), "deleted"), 1);
    assert_eq!(read(&target, "secrets/.env").unwrap(), "KEY=of today\n");
    assert_eq!(read(&target, "uploads/a.txt").unwrap(), "a");
    assert!(!target.root().join("uploads/b.txt").exists());
}

#[test]
fn an_exact_restore_of_a_part_deletes_nothing_beside_it() {
    let machine = Lifeboat::with_repository();
    let tree = Tree::create(machine.path("media"));
    tree.file("2025/a.txt", "a")
        .file("2026/b.txt", "b")
        .file("2026/c.txt", "c");
    back_up(&machine, tree.root()).done();
    let target = Tree::create(machine.path("back"));
    target
        .file("notes.txt", "mine")
        .file("2025/z.txt", "deleted")
        .file("media/2026/y.txt", "kept")
        .file("media/2025/x.txt", "deleted");
    let one = restore(&machine, &["shop:media/2026/b.txt"], "back", &EXACT).done();
    assert_eq!(number(&one.summary(), "deleted"), 0);
    let two = ["shop:media/2025", "shop:media/2026/c.txt"];
    let ran = restore(&machine, &two, "back", &EXACT).done();
    assert_eq!(number(&ran.summary(), "deleted"), 1);
    let tree_too = [&EXACT[..], &["--tree"]].concat();
    let ran = restore(&machine, &two, "back", &tree_too).done();
    assert_eq!(number(&ran.summary(), "deleted"), 1);
    for (path, content) in [
        ("notes.txt", Some("mine")),
        ("b.txt", Some("b")),
        ("c.txt", Some("c")),
        ("2025/a.txt", Some("a")),
        ("2025/z.txt", None),
        ("media/2026/y.txt", Some("kept")),
        ("media/2026/c.txt", Some("c")),
        ("media/2025/a.txt", Some("a")),
        ("media/2025/x.txt", None),
    ] {
        assert_eq!(read(&target, path).as_deref(), content, "{path}");
    }
}

#[test]
fn an_exact_restore_empties_a_folder_that_was_empty_but_none_that_could_not_be_read() {
    let machine = Lifeboat::with_repository();
    let tree = Tree::create(machine.path("media"));
    tree.folder("empty")
        .file("closed/inside.txt", "inside")
        .mode("closed", 0o000);
    let mut backup = ordinary(&machine, &[tree.root()]);
    backup
        .args(["backup", "--app", "shop", "--source"])
        .arg(tree.root());
    Ran::of(backup).ends_with_code(3);
    let target = Tree::create(machine.path("back"));
    target
        .file("empty/extra.txt", "extra")
        .file("closed/inside.txt", "inside");
    let ran = restore(&machine, &["shop:media"], "back", &EXACT).ends_with_code(3);
    assert_eq!(number(&ran.summary(), "deleted"), 1);
    assert!(!target.root().join("empty/extra.txt").exists());
    target.mode("closed", 0o700);
    assert_eq!(read(&target, "closed/inside.txt").unwrap(), "inside");
    tree.mode("closed", 0o700);
}

#[test]
fn parts_of_one_folder_come_back_into_one_folder_as_it_was() {
    let machine = Lifeboat::with_repository();
    let tree = Tree::create(machine.path("media"));
    tree.file("2026/a.txt", "a")
        .file("2026/b.txt", "b")
        .file("2026/c.txt", "c")
        .mode("2026", 0o750);
    back_up(&machine, tree.root()).done();
    let paths = ["shop:media/2026/a.txt", "shop:media/2026/c.txt"];
    restore(&machine, &paths, "back", &["--tree"]).done();
    let folder = machine.path("back/media/2026");
    let names = fs::read_dir(&folder).unwrap();
    let mut names: Vec<_> = names.map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["a.txt", "c.txt"]);
    let (was, is) = (
        fs::metadata(tree.root().join("2026")).unwrap(),
        fs::metadata(&folder).unwrap(),
    );
    assert_eq!(is.permissions().mode() & 0o7777, 0o750);
    assert_eq!((is.uid(), is.gid()), (was.uid(), was.gid()));
    assert_eq!(is.modified().unwrap(), was.modified().unwrap());
}

/// The program, with at most this many files open at once.
fn with_few_descriptors(machine: &Lifeboat, descriptors: u32, arguments: &[&str]) -> Ran {
    let mut command: Command = machine.command_of("sh");
    let script = format!("ulimit -n {descriptors}; exec \"$0\" \"$@\"");
    command
        .args(["-c", &script, env!("CARGO_BIN_EXE_lifeboat")])
        .args(arguments);
    Ran::of(command)
}

#[test]
fn neither_depth_nor_many_open_files_end_a_restore() {
    let machine = Lifeboat::with_repository();
    let tree = Tree::create(machine.path("media"));
    oddities::deep_folders(tree.root(), "deep", 700, 20);
    // Each has a chunk of its own and one that all share, which opens all of them at once.
    let shared = noise(7, 5 << 20);
    for number in 0..300_u64 {
        let mut content = noise(100 + number, 400_000);
        content.extend_from_slice(&shared[..shared.len() / 3]);
        tree.file(&format!("{}/{number}.bin", number % 40), content);
    }
    back_up(&machine, tree.root()).done();
    let target = machine.path("back");
    let arguments = ["restore", "shop:media", "--target", "back"];
    with_few_descriptors(&machine, 640, &arguments).done();
    same(tree.root(), &target);
}

#[test]
fn a_restore_that_was_killed_is_completed_by_the_next() {
    let machine = Lifeboat::with_repository();
    let tree = Tree::create(machine.path("media"));
    tree.media(3, 200)
        .file("closed/inside.txt", "inside")
        .mode("closed", 0o500);
    back_up(&machine, tree.root()).done();
    let arguments = ["restore", "shop:media", "--target", "back"];
    let again = [&arguments[..], &EXACT[..1], &["--overwrite", "if-changed"]].concat();
    for round in 0..8 {
        let mut command = machine.command();
        command.args(if round == 0 { &arguments[..] } else { &again });
        let mut child = command.stderr(Stdio::null()).spawn().unwrap();
        thread::sleep(Duration::from_millis(20 + 15 * round));
        // One that has ended already is as good.
        let _ = child.kill();
        child.wait().unwrap();
    }
    let ran = machine.run(&again).done();
    assert!(!ran.stderr.contains("error"), "{ran:?}");
    same(tree.root(), &machine.path("back"));
}
