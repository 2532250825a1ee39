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

/// Backs up an app with a secret, and with one file of this content.
fn with_secret(machine: &Lifeboat, content: &str) {
    let app = Tree::create(machine.path("app"));
    app.file(".env", "KEY=value\n")
        .file("uploads/a.txt", content);
    let config = format!(
        "[app.shop.media.uploads]\npath = \"{0}/uploads\"\n\n[app.shop.secrets]\npaths = [\"{0}/.env\"]\n",
        app.root().display()
    );
    fs::write(machine.path("lifeboat.toml"), config).unwrap();
    machine
        .run(["backup", "shop", "--config", "lifeboat.toml"])
        .done();
}

#[test]
fn an_exact_restore_keeps_secrets_that_it_was_not_asked_for() {
    let machine = Lifeboat::with_repository();
    with_secret(&machine, "a");
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

#[test]
fn no_restore_writes_into_a_repository_or_deletes_one() {
    let machine = Lifeboat::with_repository();
    let tree = Tree::create(machine.path("media"));
    tree.file("a.txt", "a").file("sub/b.txt", "b");
    back_up(&machine, tree.root()).done();
    let mode = || fs::metadata(machine.repository()).unwrap().mode();
    let before = mode();
    let over = ["--overwrite", "if-changed"];
    let exact = [&over[..], &["--exact"]].concat();
    for target in ["repository", "repository/packs", "repository/new/folder"] {
        for more in [&over[..], &exact, &[&exact[..], &["-n"]].concat()] {
            let ran = restore(&machine, &["shop:media"], target, more).ends_with_code(14);
            assert!(ran.exit_error().0.contains("repository"), "{ran:?}");
        }
    }
    // Linked to under another name, and standing in what would be deleted.
    std::os::unix::fs::symlink(machine.repository(), machine.path("link")).unwrap();
    restore(&machine, &["shop:media"], "link", &exact).ends_with_code(14);
    let around = Tree::create(machine.path("around"));
    around.file("old/deep/extra.txt", "extra");
    fs::rename(machine.repository(), around.root().join("old/deep/kept")).unwrap();
    let place = around.root().join("old/deep/kept");
    for more in [&exact[..], &[&exact[..], &["-n"]].concat()] {
        let mut command = machine.command();
        command
            .env("LIFEBOAT_REPOSITORY", &place)
            .args(["restore", "shop:media", "--target", "around"])
            .args(more);
        let ran = Ran::of(command);
        assert!(ran.explains(14).contains("old/deep/kept"), "{ran:?}");
    }
    assert!(around.root().join("old/deep/extra.txt").exists());
    fs::rename(&place, machine.repository()).unwrap();
    assert_eq!(mode(), before);
    machine.run(["check", "--read-data"]).done();
}

#[test]
fn a_folder_that_is_a_repository_now_stays_as_it_is() {
    let machine = Lifeboat::with_repository();
    let tree = Tree::create(machine.path("media"));
    tree.file("kept/a.txt", "a").file("other/b.txt", "b");
    back_up(&machine, tree.root()).done();
    let target = Tree::create(machine.path("back"));
    fs::rename(machine.repository(), target.root().join("kept")).unwrap();
    let mut command = machine.command();
    command
        .env("LIFEBOAT_REPOSITORY", target.root().join("kept"))
        .args(["restore", "shop:media", "--target", "back", "--json"])
        .args(["--overwrite", "always"]);
    let ran = Ran::of(command).ends_with_code(3);
    assert!(ran.problems()[0].contains("it is a repository"), "{ran:?}");
    assert!(!target.root().join("kept/a.txt").exists());
    assert_eq!(read(&target, "other/b.txt").unwrap(), "b");
    fs::rename(target.root().join("kept"), machine.repository()).unwrap();
    machine.run(["check"]).done();
}

#[test]
fn an_exact_restore_says_what_it_deletes_before_and_after() {
    let machine = Lifeboat::with_repository();
    let tree = Tree::create(machine.path("media"));
    tree.file("a.txt", "a").file("sub/b.txt", "b");
    back_up(&machine, tree.root()).done();
    let target = Tree::create(machine.path("back"));
    target
        .file("extra/deep/c.txt", "c")
        .file("sub/d.txt", "d")
        .file("a.txt", "mine");
    let dry = [&EXACT[..], &["-n"]].concat();
    let said = restore(&machine, &["shop:media"], "back", &dry).done();
    let would = said.summary()["would_delete"].clone();
    assert_eq!(would, serde_json::json!(["extra", "sub/d.txt"]));
    assert_eq!(number(&said.summary(), "deleted"), 2);
    let arguments = ["restore", "shop:media", "--target", "back"];
    let ran = machine.run(arguments.iter().chain(&dry)).done();
    assert!(ran.stderr.contains("Would delete sub/d.txt\n"), "{ran:?}");
    assert!(target.root().join("extra/deep/c.txt").exists());
    let ran = machine.run(arguments.iter().chain(&EXACT)).done();
    assert!(ran.stderr.contains("deleted 2 items"), "{ran:?}");
    same(tree.root(), target.root());
}

#[test]
fn a_dry_run_refuses_what_the_restore_would_refuse() {
    let machine = Lifeboat::with_repository();
    let tree = Tree::create(machine.path("media"));
    tree.file("a.txt", "a");
    back_up(&machine, tree.root()).done();
    Tree::create(machine.path("back")).file("mine.txt", "mine");
    for target in ["back", "/"] {
        for more in [&["-n"][..], &[]] {
            restore(&machine, &["shop:media"], target, more).ends_with_code(14);
        }
    }
    restore(&machine, &["shop:media"], "new/folder", &["-n"]).done();
    assert!(!machine.path("new").exists());
}

#[test]
fn the_end_of_a_restore_tells_what_was_kept_and_which_secrets_were_left_out() {
    let machine = Lifeboat::with_repository();
    with_secret(&machine, "abc");
    let again = ["restore", "shop", "--target", "back"];
    let again = || again.iter().chain(&["--overwrite", "if-changed"]);
    let first = machine.run(again()).done();
    assert!(first.stderr.contains("Restored 1 file, 3 B"), "{first:?}");
    assert!(
        first.stderr.contains("1 secret (secrets/.env)"),
        "{first:?}"
    );
    let second = machine.run(again()).done();
    assert!(
        second.stderr.contains("Restored 0 files, 0 B"),
        "{second:?}"
    );
    assert!(second.stderr.contains("kept 1 file (3 B)"), "{second:?}");

    for path in ["shop:secrets", "shop:secrets/.env"] {
        let arguments = ["restore", path, "--target", "secrets"];
        let refused = machine.run(arguments);
        assert!(
            refused.explains(14).contains("--with-secrets"),
            "{refused:?}"
        );
        assert!(!machine.path("secrets").exists());
    }
    let arguments = [
        "restore",
        "shop:secrets",
        "--with-secrets",
        "--target",
        "secrets",
    ];
    machine.run(arguments).done();
    assert_eq!(
        fs::read_to_string(machine.path("secrets/.env")).unwrap(),
        "KEY=value\n"
    );
}
