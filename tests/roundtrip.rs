//! Folders: what goes in comes back, as it was at each time, and an unchanged one costs nothing.
//!
//! **Invariant**: trees are held against each other by `lifeboat_files::compare`, in everything it knows of; a test of
//! its own (`lifeboat-files`) shows that it sees every difference.
//!
//! Long forms, by environment variables: `LIFEBOAT_TEST_ROUNDS` (rounds of random changes, 6) and
//! `LIFEBOAT_TEST_DEPTH` (folders inside each other, 300; the long form takes 5000).

use std::{
    ffi::OsString,
    fs,
    os::unix::{
        ffi::OsStringExt,
        fs::{MetadataExt, PermissionsExt},
        net::UnixListener,
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use lifeboat_files::{CompareOptions, compare};
use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};

use crate::support::{
    account::{is_root, ordinary, ordinary_user},
    long_form,
    messages::{number, text},
    oddities,
    program::{Lifeboat, Ran},
    same::same,
    trees::{Tree, noise},
};

/// What a file must have been left alone for, so that the next backup trusts its times.
const SETTLED: Duration = Duration::from_millis(2_100);

fn back_up(machine: &Lifeboat, app: &str, folder: &Path) -> Ran {
    let arguments = ["backup", "--json", "--app", app, "--source"].map(OsString::from);
    machine.run(arguments.into_iter().chain([folder.into()]))
}

fn restore(machine: &Lifeboat, selector: &str, name: &str, more: &[&str]) -> (Ran, PathBuf) {
    let target = machine.path(name);
    let arguments = ["restore", selector, "--json", "--target"].map(OsString::from);
    let more = more.iter().map(OsString::from);
    let ran = machine.run(
        arguments
            .into_iter()
            .chain([target.clone().into()])
            .chain(more),
    );
    (ran, target)
}

/// Restores what the selector names and holds it against `original`.
#[track_caller]
fn comes_back(machine: &Lifeboat, selector: &str, original: &Path) {
    let (ran, target) = restore(machine, selector, "back", &[]);
    ran.done();
    same(original, &target);
    fs::remove_dir_all(target).unwrap();
}

#[test]
fn everything_that_a_folder_can_hold_comes_back() {
    let machine = Lifeboat::with_repository();
    let tree = Tree::create(machine.path("media"));
    tree.media(1, 120);
    oddities::fill(&tree);
    oddities::deep_folders(tree.root(), "deep", 60, 100);
    back_up(&machine, "shop", tree.root()).done();
    let devices: &[&str] = if is_root() { &["--devices"] } else { &[] };
    let (ran, target) = restore(&machine, "shop:media", "back", devices);
    let restored = ran.done().summary();
    assert_eq!(number(&restored, "problems"), 0);
    let options = CompareOptions {
        holes: true,
        ..CompareOptions::default()
    };
    let differences = compare(tree.root(), &target, &options).unwrap();
    assert!(differences.is_empty(), "{differences:#?}");
}

#[test]
fn a_socket_is_left_out_and_told() {
    let machine = Lifeboat::with_repository();
    let tree = Tree::create(machine.path("media"));
    tree.file("a.txt", "a file");
    drop(UnixListener::bind(tree.root().join("socket")).unwrap());
    back_up(&machine, "shop", tree.root()).done();
    let listed = machine.run(["ls", "shop:media"]).done();
    assert_eq!(listed.stdout(), "media/a.txt\nmedia/socket\n");
    let (ran, target) = restore(&machine, "shop:media", "back", &[]);
    let told = ran.ends_with_code(3).problems();
    assert!(
        matches!(&told[..], [one] if one.ends_with("socket")),
        "{told:?}"
    );
    assert_eq!(fs::read_dir(target).unwrap().count(), 1);
}

#[test]
fn folders_far_inside_each_other_come_back() {
    let levels = long_form("LIFEBOAT_TEST_DEPTH", 300);
    let machine = Lifeboat::with_repository();
    let tree = Tree::create(machine.path("media"));
    oddities::deep_folders(tree.root(), "top", usize::try_from(levels).unwrap(), 30);
    let made = back_up(&machine, "shop", tree.root()).done().summary();
    assert_eq!(number(&made, "files"), 1);
    let again = back_up(&machine, "shop", tree.root()).done().summary();
    assert_eq!(number(&again, "bytes"), number(&made, "bytes"));
    let (ran, target) = restore(&machine, "shop:media", "back", &[]);
    ran.done();
    same(tree.root(), &target);
    for tree in [tree.root(), &target] {
        // The standard library keeps a handle for each level.
        let removed = Command::new("rm").arg("-rf").arg(tree).status().unwrap();
        assert!(removed.success());
    }
}

#[test]
fn files_of_every_size_around_the_borders_of_chunks_come_back() {
    let machine = Lifeboat::with_repository();
    let tree = Tree::create(machine.path("media"));
    let mut sizes: Vec<usize> = vec![0, 1, 15, 16, 17];
    for power in 10..=23 {
        sizes.extend([(1 << power) - 1, 1 << power, (1 << power) + 1]);
    }
    for (seed, size) in sizes.iter().enumerate() {
        tree.file(&format!("noise/{size}"), noise(seed as u64, *size))
            .file(&format!("zeros/{size}"), vec![0; *size]);
    }
    back_up(&machine, "shop", tree.root()).done();
    comes_back(&machine, "shop:media", tree.root());
}

/// Bytes that the program read, from wherever, until it ended well.
fn bytes_read(mut command: Command) -> u64 {
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    // What it did can be asked for as long as nobody has taken note of its end.
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
    waitid(WaitId::Pid(Pid::from_child(&child)), options).unwrap();
    let counts = fs::read_to_string(format!("/proc/{}/io", child.id())).unwrap();
    assert!(child.wait().unwrap().success());
    let read = counts.lines().find_map(|line| line.strip_prefix("rchar: "));
    read.unwrap().parse().unwrap()
}

#[test]
fn an_unchanged_folder_is_recognised_without_reading_its_files() {
    let machine = Lifeboat::with_repository();
    let tree = Tree::create(machine.path("media"));
    tree.media(2, 100);
    for number in 0..8 {
        tree.file(&format!("big/{number}"), noise(number, 4 << 20));
    }
    thread::sleep(SETTLED);
    let first = back_up(&machine, "shop", tree.root()).done().summary();
    let second = back_up(&machine, "shop", tree.root()).done().summary();
    for field in ["files", "bytes"] {
        assert_eq!(number(&second, field), number(&first, field), "{field}");
    }
    assert_eq!(number(&second, "bytes_new"), 0, "{second}");
    assert!(number(&second, "bytes_stored") < 64 << 10, "{second}");

    let command = |cache: Option<&str>| {
        let mut command = machine.command();
        command
            .args(["backup", "--app", "shop", "--source"])
            .arg(tree.root());
        if let Some(cache) = cache {
            command.arg("--cache-dir").arg(machine.path(cache));
        }
        command
    };
    let content = number(&first, "bytes");
    for cache in [None, Some("another-cache")] {
        let read = bytes_read(command(cache));
        assert!(
            read < content / 8,
            "read {read} bytes of {content}, {cache:?}"
        );
    }
    comes_back(&machine, "shop:media", tree.root());
}

#[test]
fn who_may_no_longer_read_a_file_can_still_back_it_up_unchanged() {
    let machine = Lifeboat::with_repository();
    let tree = Tree::create(machine.path("media"));
    tree.file("private", noise(5, 200_000))
        .mode("private", 0o400);
    tree.file("changed", "before").mode("changed", 0o400);
    thread::sleep(SETTLED);
    back_up(&machine, "shop", tree.root()).done();
    if !is_root() {
        // Without root nobody can take the right away and leave the times alone; the count of bytes read shows it.
        return;
    }
    tree.file("changed", "after!");
    let mut command = ordinary(&machine, &[tree.root()]);
    command
        .args(["backup", "--json", "--app", "shop", "--source"])
        .arg(tree.root());
    let ran = Ran::of(command).ends_with_code(3);
    assert_eq!(number(&ran.summary(), "unreadable"), 1);
    assert!(ran.problems()[0].starts_with("media/changed: "), "{ran:?}");
    let dumped = machine.run(["dump", "shop:media/private"]).done();
    assert_eq!(dumped.output, noise(5, 200_000));
}

#[test]
fn without_the_cache_everything_is_as_before() {
    let machine = Lifeboat::with_repository();
    let tree = Tree::create(machine.path("media"));
    tree.media(3, 150);
    thread::sleep(SETTLED);
    back_up(&machine, "shop", tree.root()).done();
    tree.file("00/item-00000.bin", noise(77, 2_000_000))
        .remove("01/item-00001.bin");
    let with = back_up(&machine, "shop", tree.root()).done().summary();
    let list = machine.run(["ls", "shop", "--recursive", "--json"]).done();

    fs::remove_dir_all(machine.path("cache")).unwrap();
    let without = machine.run(["ls", "shop", "--recursive", "--json"]).done();
    assert_eq!(without.output, list.output);
    comes_back(&machine, "shop:media", tree.root());
    fs::remove_dir_all(machine.path("cache")).unwrap();
    let again = back_up(&machine, "shop", tree.root()).done().summary();
    for field in ["files", "bytes", "unreadable"] {
        assert_eq!(number(&again, field), number(&with, field), "{field}");
    }
    assert_eq!(number(&again, "bytes_new"), 0, "{again}");
    let after = machine.run(["ls", "shop", "--recursive", "--json"]).done();
    assert_eq!(after.output, list.output);
}

#[test]
fn a_file_changed_within_the_same_tick_of_a_clock_is_read_again() {
    let machine = Lifeboat::with_repository();
    let tree = Tree::create(machine.path("media"));
    for round in 0..8 {
        let content = format!("round {round}");
        // Same size, same time of modification: only the clock of the inode tells, and that may stand still.
        tree.file("file", &content)
            .modified("file", 1_000_000_000_000_000_000);
        back_up(&machine, "shop", tree.root()).done();
        let dumped = machine.run(["dump", "shop:media/file"]).done();
        assert_eq!(dumped.stdout(), content);
    }
}

#[test]
fn what_is_excluded_is_left_out_and_nothing_else() {
    let machine = Lifeboat::with_repository();
    let tree = Tree::create(machine.path("media"));
    tree.file("a/thumbs/1.jpg", "thumb")
        .file("a/b/thumbs/2.jpg", "thumb")
        .file("a/photo.jpg", "photo")
        .file("a/photo.tmp", "temporary")
        .file("keep.tmp", "asked for")
        .file("top/only.txt", "at the top")
        .file("a/top/only.txt", "deeper")
        .file("thumbs.txt", "a file");
    let mut command = machine.command();
    command.args(["backup", "--json", "--app", "shop"]);
    for pattern in ["**/thumbs/", "*.tmp", "!keep.tmp", "/top"] {
        command.args(["--exclude", pattern]);
    }
    command.arg("--source").arg(tree.root());
    Ran::of(command).done();
    let listed = machine.run(["ls", "shop", "--recursive", "--json"]).done();
    let listed: Vec<String> = listed
        .answer()
        .as_array()
        .unwrap()
        .iter()
        .map(|item| text(item, "path"))
        .collect();
    assert_eq!(
        listed,
        [
            "media",
            "media/a",
            "media/a/b",
            "media/a/photo.jpg",
            "media/a/top",
            "media/a/top/only.txt",
            "media/keep.tmp",
            "media/thumbs.txt",
        ]
    );
}

#[test]
fn every_point_in_time_of_a_changing_folder_comes_back() {
    let machine = Lifeboat::with_repository();
    let tree = Tree::create(machine.path("media"));
    tree.media(9, 40);
    let rounds = long_form("LIFEBOAT_TEST_ROUNDS", 6);
    let mut state = noise(11, 8 * 1024).into_iter().cycle();
    let mut random = move |below: u64| u64::from(state.next().unwrap()) * 256 % below;
    for round in 0..rounds {
        for change in 0..6 {
            let path = format!("{}/changing-{}", random(4), random(12));
            let seed = round * 100 + change;
            let is_there = tree.root().join(&path).symlink_metadata().is_ok();
            match random(5) {
                0 if is_there => drop(tree.remove(&path)),
                1 if tree.root().join(&path).is_file() => drop(tree.mode(&path, 0o600)),
                2 => drop(tree.file(&path, noise(seed, 1_500_000))),
                3 if !is_there => drop(tree.link(&path, "somewhere")),
                _ if is_there => drop(tree.remove(&path).file(&path, noise(seed, 700))),
                _ => drop(tree.file(&path, noise(seed, 90_000))),
            }
        }
        let copied = Command::new("cp")
            .arg("-a")
            .args([tree.root(), &machine.path(format!("copy-{round}"))])
            .status();
        assert!(copied.unwrap().success());
        back_up(&machine, "shop", tree.root()).done();
    }
    for round in 0..rounds {
        let selector = format!("shop~{}:media", rounds - 1 - round);
        comes_back(&machine, &selector, &machine.path(format!("copy-{round}")));
    }
}

/// Files of two apps, with three snapshots and one of them, and their ids from the oldest to the newest.
fn two_apps() -> (Lifeboat, [String; 4]) {
    let machine = Lifeboat::with_repository();
    let shop = Tree::create(machine.path("shop-files"));
    let blog = Tree::create(machine.path("blog-files"));
    blog.file("post.txt", "a post");
    let mut ids = Vec::new();
    for state in ["one", "two"] {
        shop.file("state.txt", state);
        ids.push(text(
            &back_up(&machine, "shop", shop.root()).done().summary(),
            "snapshot",
        ));
    }
    ids.push(text(
        &back_up(&machine, "blog", blog.root()).done().summary(),
        "snapshot",
    ));
    shop.file("state.txt", "three")
        .file("new.txt", "new")
        .mode("state.txt", 0o600);
    let mut command = machine.command();
    command
        .args([
            "backup", "--json", "--app", "shop", "--tag", "third", "--source",
        ])
        .arg(shop.root());
    ids.push(text(&Ran::of(command).done().summary(), "snapshot"));
    (machine, ids.try_into().unwrap())
}

#[test]
fn selectors_name_the_snapshot_that_is_meant() {
    let (machine, [one, two, blog, three]) = two_apps();
    let state = |selector: &str| {
        let path = format!("{selector}:shop-files/state.txt");
        machine.run(["dump", &path]).done().stdout().to_owned()
    };
    let tomorrow = "shop@2999-01-01";
    for selector in [
        "shop",
        "shop~0",
        "latest",
        "tag:third",
        "shop@today",
        tomorrow,
        &three[..12],
    ] {
        assert_eq!(state(selector), "three", "{selector}");
    }
    for selector in ["shop~1", "latest~2", &two] {
        assert_eq!(state(selector), "two", "{selector}");
    }
    assert_eq!(state("shop~2"), "one");
    assert_eq!(state(&one), "one");
    let post = machine.run(["dump", "blog:blog-files/post.txt"]).done();
    assert_eq!(post.stdout(), "a post");

    machine.run(["tag", &one[..16], "--add", "first"]).done();
    assert_eq!(state("tag:first"), "one");
    machine.run(["tag", &blog[..16], "--add", "first"]).done();
    let ambiguous = machine.run(["dump", "tag:first:shop-files/state.txt"]);
    let said = ambiguous.explains(2);
    assert!(
        said.contains(&one[..8]) && said.contains(&blog[..8]),
        "{said}"
    );
    machine
        .run(["tag", &blog[..16], "--remove", "first"])
        .done();
    assert_eq!(state("tag:first"), "one");

    for selector in [
        "shop~3",
        "shop@2001-01-01",
        "tag:none",
        "shpo",
        "0123456789",
    ] {
        machine.run(["ls", selector]).explains(1);
    }
    for selector in ["shop~x", "shop@noon", "", "shop:../etc"] {
        machine.run(["ls", selector]).explains(2);
    }
}

#[test]
fn answers_about_snapshots_are_true() {
    let (machine, [_, two, blog, three]) = two_apps();
    let answer = |arguments: &[&str]| {
        machine
            .run(arguments.iter().chain(&["--json"]))
            .done()
            .answer()
    };

    let list = answer(&["snapshots"]);
    let ids: Vec<String> = list
        .as_array()
        .unwrap()
        .iter()
        .map(|one| text(one, "id"))
        .collect();
    assert_eq!(ids.len(), 4);
    assert_eq!(ids[1..], [two.clone(), blog, three.clone()]);
    assert_eq!(
        answer(&["snapshots", "shop", "--latest", "1"])[0]["id"],
        *three
    );
    assert_eq!(answer(&["snapshots", "--tag", "third"])[0]["parent"], *two);

    let listed = answer(&["ls", "shop:shop-files"]);
    let names: Vec<String> = listed
        .as_array()
        .unwrap()
        .iter()
        .map(|item| text(item, "path"))
        .collect();
    assert_eq!(names, ["shop-files/new.txt", "shop-files/state.txt"]);
    assert_eq!(
        (&listed[1]["mode"], &listed[1]["size"]),
        (&"0600".into(), &5.into())
    );

    let found = answer(&["find", "state.*", "shop"]);
    assert_eq!(found.as_array().unwrap().len(), 3);
    assert_eq!(found[0]["snapshot"], *three);
    assert_eq!(
        answer(&["find", "post.txt", "shop"])
            .as_array()
            .unwrap()
            .len(),
        0
    );

    let changes = answer(&["diff", "shop~1", "shop"]);
    let changes: Vec<(String, String)> = changes
        .as_array()
        .unwrap()
        .iter()
        .map(|one| (text(one, "path"), text(one, "change")))
        .filter(|(path, _)| path != "shop-files")
        .collect();
    let expected = [
        ("shop-files/new.txt", "added"),
        ("shop-files/state.txt", "content"),
    ];
    assert_eq!(
        changes,
        expected.map(|(path, change)| (path.to_owned(), change.to_owned()))
    );

    let stats = answer(&["stats"]);
    assert_eq!(number(&stats, "snapshots"), 4);
    assert_eq!(number(&answer(&["stats", "shop"]), "files"), 2);

    let file = machine.path("dumped");
    let arguments = ["dump", "shop:shop-files/new.txt", "-o"].map(OsString::from);
    machine
        .run(arguments.into_iter().chain([file.clone().into()]))
        .done();
    assert_eq!(fs::read_to_string(&file).unwrap(), "new");
    assert_eq!(
        fs::metadata(&file).unwrap().permissions().mode() & 0o777,
        0o600
    );
    machine.run(["dump", "shop:shop-files"]).explains(2);
    machine.run(["dump", "shop:shop-files/none"]).explains(1);
}

/// A machine with a snapshot of the folder `media`, and a target in which something else stands.
fn occupied() -> (Lifeboat, Tree, Tree) {
    let machine = Lifeboat::with_repository();
    let tree = Tree::create(machine.path("media"));
    tree.file("same.txt", "the same")
        .modified("same.txt", 1_500_000_000_000_000_000)
        .file("differs.txt", "as it was backed up")
        .file("folder/inside.txt", "inside")
        .file("kind", "a file");
    back_up(&machine, "shop", tree.root()).done();
    let target = Tree::create(machine.path("back"));
    target
        .file("same.txt", "the same")
        .modified("same.txt", 1_500_000_000_000_000_000)
        .file("differs.txt", "edited since")
        .file("extra/of-mine.txt", "not in the snapshot")
        .folder("kind");
    (machine, tree, target)
}

#[test]
fn a_restore_replaces_only_what_it_is_told_to() {
    let (machine, tree, target) = occupied();
    let (ran, _) = restore(&machine, "shop:media", "back", &[]);
    let (message, hint) = ran.ends_with_code(14).exit_error();
    assert!(
        message.contains("not empty") && hint.contains("--overwrite"),
        "{message} {hint}"
    );
    let read = |name: &str| fs::read_to_string(target.root().join(name)).unwrap();
    assert_eq!(read("differs.txt"), "edited since");

    let same_file = || fs::metadata(target.root().join("same.txt")).unwrap().ino();
    let inode = same_file();
    let (ran, _) = restore(
        &machine,
        "shop:media",
        "back",
        &["--overwrite", "if-changed"],
    );
    let ran = ran.ends_with_code(3);
    assert_eq!(
        number(&ran.summary(), "problems"),
        1,
        "a folder is in the way of a file"
    );
    assert!(ran.problems()[0].contains("kind"), "{ran:?}");
    assert_eq!(read("differs.txt"), "as it was backed up");
    assert_eq!(read("extra/of-mine.txt"), "not in the snapshot");
    assert_eq!(same_file(), inode, "what is equal is left alone");
    assert!(target.root().join("kind").is_dir());

    let (ran, _) = restore(&machine, "shop:media", "back", &["--overwrite", "always"]);
    ran.done();
    assert_eq!(read("kind"), "a file");
    assert_eq!(read("extra/of-mine.txt"), "not in the snapshot");
    target.remove("extra");
    let but_times = CompareOptions {
        times: false,
        ..CompareOptions::default()
    };
    let differences = compare(tree.root(), target.root(), &but_times).unwrap();
    assert!(differences.is_empty(), "{differences:#?}");
}

#[test]
fn an_exact_restore_leaves_nothing_else() {
    let (machine, tree, target) = occupied();
    let more = ["--exact", "--overwrite", "always"];
    let (planned, _) = restore(
        &machine,
        "shop:media",
        "back",
        &[&more[..], &["--dry-run"]].concat(),
    );
    planned.done();
    assert!(
        target.root().join("extra/of-mine.txt").exists(),
        "a dry run changes nothing"
    );
    let (ran, _) = restore(&machine, "shop:media", "back", &more);
    assert!(number(&ran.done().summary(), "deleted") >= 1);
    same(tree.root(), target.root());
}

#[test]
fn parts_of_a_snapshot_come_back_where_they_are_asked_for() {
    let machine = Lifeboat::with_repository();
    let tree = Tree::create(machine.path("media"));
    tree.file("2025/a.txt", "a")
        .file("2026/b.txt", "b")
        .file("2026/c.txt", "c");
    back_up(&machine, "shop", tree.root()).done();
    let paths = |folder: &Path| {
        let mut find = Command::new("find");
        find.args(["-type", "f", "-printf", "%P\n"])
            .current_dir(folder);
        let found = String::from_utf8(find.output().unwrap().stdout).unwrap();
        let mut paths: Vec<String> = found.lines().map(str::to_owned).collect();
        paths.sort();
        paths
    };
    let (ran, target) = restore(&machine, "shop:media/2026", "folder", &[]);
    ran.done();
    assert_eq!(paths(&target), ["b.txt", "c.txt"]);
    let (ran, target) = restore(&machine, "shop:media/2026/b.txt", "file", &[]);
    ran.done();
    assert_eq!(paths(&target), ["b.txt"]);
    let (ran, target) = restore(&machine, "shop:media/2026/b.txt", "tree", &["--tree"]);
    ran.done();
    assert_eq!(paths(&target), ["media/2026/b.txt"]);
    let (ran, target) = restore(
        &machine,
        "shop:media/2025",
        "two",
        &["shop:media/2026/b.txt"],
    );
    ran.done();
    assert_eq!(paths(&target), ["2025/a.txt", "b.txt"]);
    let (ran, _) = restore(&machine, "shop:media/2027", "none", &[]);
    assert!(ran.ends_with_code(1).exit_error().1.contains("2026"));
    assert!(
        !machine.path("none").exists(),
        "nothing is made for what is not there"
    );
}

#[test]
fn a_restore_gives_everything_to_the_owner_who_is_asked_for() {
    let machine = Lifeboat::with_repository();
    let tree = Tree::create(machine.path("media"));
    tree.file("folder/file", "content")
        .link("link", "folder/file");
    back_up(&machine, "shop", tree.root()).done();
    let user = ordinary_user();
    let (ran, target) = restore(
        &machine,
        "shop:media",
        "back",
        &["--owner", &format!("{user}:{user}")],
    );
    if is_root() || rustix::process::getegid().as_raw() == user {
        ran.done();
        for name in ["", "folder", "folder/file", "link"] {
            let metadata = target.join(name).symlink_metadata().unwrap();
            assert_eq!((metadata.uid(), metadata.gid()), (user, user), "{name}");
        }
    }
    let (ran, _) = restore(
        &machine,
        "shop:media",
        "none",
        &["--owner", "no-such-user:nobody"],
    );
    ran.ends_with_code(2);
}

#[test]
fn a_name_that_is_no_text_can_be_asked_for() {
    let machine = Lifeboat::with_repository();
    let tree = Tree::create(machine.path("media"));
    let name = OsString::from_vec(b"caf\xe9\n.txt".to_vec());
    fs::write(tree.root().join(&name), "any byte").unwrap();
    back_up(&machine, "shop", tree.root()).done();
    let mut selector = OsString::from("shop:media/");
    selector.push(&name);
    let dumped = machine.run([OsString::from("dump"), selector]).done();
    assert_eq!(dumped.stdout(), "any byte");
    let listed = machine.run(["ls", "shop:media"]).done();
    assert_eq!(listed.stdout().lines().count(), 1, "{}", listed.stdout());
}

#[test]
fn a_dry_run_says_what_a_backup_would_store_and_stores_nothing() {
    let machine = Lifeboat::with_repository();
    let tree = Tree::create(machine.path("media"));
    tree.media(1, 40);
    let backup = |options: &[&str]| {
        let words = ["backup", "--json", "--app", "shop", "--source", "media"];
        let ran = machine.run(words.iter().chain(options)).done();
        ran.json().pop().unwrap()
    };
    let stored = || {
        let listed = machine
            .run(["verify-store", "--json"])
            .done()
            .json()
            .pop()
            .unwrap();
        (listed["objects"].clone(), listed["bytes"].clone())
    };
    let before = stored();
    let rehearsed = backup(&["--dry-run", "--pin"]);
    assert_eq!(stored(), before);
    assert_eq!(
        (&rehearsed["dry_run"], &rehearsed["snapshot"]),
        (&true.into(), &serde_json::Value::Null)
    );
    let first = backup(&[]);
    for field in ["files", "bytes", "unreadable"] {
        assert_eq!(rehearsed[field], first[field], "{field}");
    }
    let close = |field: &str| {
        let (said, was) = (
            rehearsed[field].as_f64().unwrap(),
            first[field].as_f64().unwrap(),
        );
        assert!(
            (said - was).abs() / was < 0.05,
            "{field}: {said} was said, {was} were stored"
        );
    };
    close("bytes_new");
    close("bytes_stored");

    // What the repository has is known to a rehearsal too.
    tree.file("one-more.txt", "a new file");
    let after = stored();
    let again = backup(&["--dry-run"]);
    assert!(again["bytes_new"].as_u64().unwrap() < first["bytes_new"].as_u64().unwrap() / 10);
    assert_eq!(
        again["files"].as_u64().unwrap(),
        first["files"].as_u64().unwrap() + 1
    );
    assert_eq!(stored(), after);
    let listed = machine.run(["snapshots", "--json"]).done().json().remove(0);
    assert_eq!(listed.as_array().unwrap().len(), 1);
}

#[test]
fn two_keys_on_one_machine_write_chains_of_their_own() {
    let machine = Lifeboat::with_repository();
    Tree::create(machine.path("media")).file("a.txt", "a file");
    machine
        .run([
            "key",
            "add",
            "--write-only",
            "-o",
            "web.key",
            "--label",
            "web",
        ])
        .done();
    let backup = ["backup", "--app", "shop", "--source", "media"];
    for key in ["web.key", "key", "web.key", "web.key", "key"] {
        let mut command = machine.command();
        command
            .env("LIFEBOAT_KEY_FILE", machine.path(key))
            .args(backup);
        Ran::of(command).done();
    }
    let listed = machine.run(["snapshots", "shop"]).done();
    assert_eq!(listed.stderr, "5 snapshots.\n");
    let checked = machine
        .run(["check", "--read-data", "--json"])
        .done()
        .json()
        .pop()
        .unwrap();
    assert_eq!(
        (&checked["warnings"], &checked["damage"]),
        (&0.into(), &0.into()),
        "{checked}"
    );
}
