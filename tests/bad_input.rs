//! What people and machines get wrong: each gives one clear error, the right exit code, and changes nothing.
//!
//! **Invariant**: an error says what happened and what to do; nothing that was asked in vain leaves a snapshot, a file
//! in a target, or a change in the repository.

use std::{
    ffi::OsString,
    fs,
    io::Read,
    os::unix::fs::{MetadataExt, PermissionsExt, symlink},
    path::Path,
    process::Stdio,
};

use lifeboat_codec::{
    Author, DRAFT, FORMAT, Frame, Header, Kind, RecordWriter, SUPERBLOCK, Secret, clear_object,
};

use crate::support::{
    account::{is_root, ordinary},
    messages::number,
    program::{Lifeboat, PROGRAM, Ran},
    trees::{Tree, noise},
};

/// A machine with one snapshot of the folder `media`.
fn machine() -> (Lifeboat, Tree) {
    let machine = Lifeboat::with_repository();
    let tree = Tree::create(machine.path("media"));
    tree.media(1, 20);
    back_up(&machine, &tree).done();
    (machine, tree)
}

fn back_up(machine: &Lifeboat, tree: &Tree) -> Ran {
    let arguments = ["backup", "--app", "shop", "--source"].map(OsString::from);
    machine.run(arguments.into_iter().chain([tree.root().into()]))
}

fn snapshots(machine: &Lifeboat) -> usize {
    let list = machine.run(["snapshots", "--json"]).done().answer();
    list.as_array().unwrap().len()
}

/// The names and contents of everything in the repository.
fn content(folder: &Path) -> Vec<(OsString, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        if entry.file_type().unwrap().is_dir() {
            found.extend(content(&entry.path()));
        } else {
            found.push((entry.path().into(), fs::read(entry.path()).unwrap()));
        }
    }
    found.sort();
    found
}

#[test]
fn a_wrong_secret_opens_nothing() {
    let (machine, tree) = machine();
    let before = content(&machine.repository());
    let with = |variable: &str, value: &OsString, verb: &[&str]| {
        let mut command = machine.command();
        command
            .env_remove("LIFEBOAT_KEY_FILE")
            .env(variable, value)
            .args(verb);
        Ran::of(command)
    };
    let source = tree.root().to_str().unwrap();
    let backup = ["backup", "--app", "shop", "--source", source];
    let wrong = OsString::from("correct horse battery stable");
    for verb in [
        &["snapshots"][..],
        &backup,
        &["restore", "shop", "--target", "none"],
    ] {
        with("LIFEBOAT_PASSWORD", &wrong, verb).explains(12);
    }
    assert!(!machine.path("none").exists());

    let other = Lifeboat::with_repository();
    with(
        "LIFEBOAT_KEY_FILE",
        &other.key_file().into(),
        &["snapshots"],
    )
    .explains(12);
    with(
        "LIFEBOAT_KEY_FILE",
        &machine.path("no-file").into(),
        &["snapshots"],
    )
    .explains(12);
    with(
        "LIFEBOAT_KEY_FILE",
        &machine.passphrase_file().into(),
        &["snapshots"],
    )
    .explains(12);
    with(
        "LIFEBOAT_PASSWORD_FILE",
        &tree.root().into(),
        &["snapshots"],
    )
    .explains(12);
    with("LIFEBOAT_PASSWORD_COMMAND", &"false".into(), &["snapshots"]).explains(12);
    with("NOTHING", &"".into(), &["snapshots"]).explains(12);
    let mut both = machine.command();
    both.env("LIFEBOAT_PASSWORD", "x").arg("snapshots");
    Ran::of(both).explains(2);
    assert_eq!(
        content(&machine.repository()),
        before,
        "nothing was written"
    );

    let file = machine.passphrase_file();
    with(
        "LIFEBOAT_PASSWORD_FILE",
        &file.clone().into(),
        &["snapshots"],
    )
    .done();
    let cat = format!("cat '{}'", file.display());
    with("LIFEBOAT_PASSWORD_COMMAND", &cat.into(), &["snapshots"]).done();
}

#[test]
fn a_place_without_a_repository_is_told_apart() {
    let machine = Lifeboat::new();
    fs::create_dir(machine.path("empty")).unwrap();
    fs::create_dir(machine.path("full")).unwrap();
    fs::write(machine.path("full/photo.jpg"), "mine").unwrap();
    let with = |place: &str, verb: &[&str]| {
        let mut command = machine.command();
        command
            .env("LIFEBOAT_PASSWORD_FILE", machine.passphrase_file())
            .env_remove("LIFEBOAT_KEY_FILE")
            .args(verb)
            .arg("--repo")
            .arg(place);
        Ran::of(command)
    };
    for place in ["empty", "full", "missing/deeper"] {
        for verb in ["snapshots", "verify-store", "key list", "check"] {
            let words: Vec<&str> = verb.split(' ').collect();
            with(place, &words).explains(10);
        }
    }
    assert!(!machine.path("missing").exists());
    for place in ["ftp://host/path", "", "s4://bucket"] {
        with(place, &["snapshots"]).explains(2);
    }
    with("full", &["init"]).explains(14);
    with("empty", &["init"]).done();
    with("empty", &["init"]).explains(14);
    assert_eq!(fs::read_dir(machine.path("full")).unwrap().count(), 1);
}

/// Puts a superblock of another kind in the repository's place.
fn replace_superblock(machine: &Lifeboat, draft: u64, incompat: u64) {
    let path = machine.repository().join(SUPERBLOCK);
    let bytes = fs::read(&path).unwrap();
    let frame = Frame::decode(&bytes).unwrap();
    let Header {
        family,
        run,
        created_ms,
        ..
    } = frame.header;
    let header = Header::named(Kind::Superblock, family, run, created_ms, SUPERBLOCK);
    let mut record = Vec::new();
    RecordWriter::new(&mut record)
        .required_number(1, FORMAT)
        .required_number(2, draft)
        .required_bytes(3, &family.0)
        .required_bytes(4, &[7; 16])
        .required_number(5, incompat)
        .required_number(6, 0)
        .required_number(7, 0)
        .number(8, created_ms)
        .required_bytes(9, &[7; 32]);
    // What a repository says of its format counts before anybody's signature does.
    let author = Author::new(&Secret::new([7; 32]));
    let (object, _) = clear_object(&header, SUPERBLOCK, &record, &author);
    fs::remove_file(&path).unwrap();
    fs::write(path, object).unwrap();
}

#[test]
fn a_repository_of_another_format_is_refused_and_left_alone() {
    const IS_DRAFT: u64 = 1 << 63;
    for (draft, incompat) in [(DRAFT + 1, IS_DRAFT), (DRAFT, IS_DRAFT | 1 << 5), (0, 1)] {
        let (machine, tree) = machine();
        replace_superblock(&machine, draft, incompat);
        let before = content(&machine.repository());
        for ran in [
            machine.run(["snapshots"]),
            machine.run(["restore", "shop", "--target", "none"]),
            back_up(&machine, &tree),
        ] {
            let said = ran.explains(1);
            assert!(said.contains("version"), "{said}");
            assert!(
                !said.contains("lost or changed"),
                "a newer repository is not damaged: {said}"
            );
        }
        assert_eq!(content(&machine.repository()), before);
        assert!(!machine.path("none").exists());
    }
}

#[test]
fn what_cannot_be_read_is_listed_and_never_silently_absent() {
    let machine = Lifeboat::with_repository();
    let tree = Tree::create(machine.path("media"));
    tree.file("open.txt", "open")
        .file("closed.txt", "closed")
        .mode("closed.txt", 0)
        .file("folder/inside.txt", "inside")
        .mode("folder", 0);
    let mut backup = ordinary(&machine, &[tree.root()]);
    backup
        .args(["backup", "--json", "--app", "shop", "--source"])
        .arg(tree.root());
    let ran = Ran::of(backup).ends_with_code(3);
    assert_eq!(number(&ran.summary(), "unreadable"), 2, "{ran:?}");
    for path in ["media/closed.txt", "media/folder"] {
        let told = ran.problems();
        assert!(
            told.iter()
                .any(|told| told.starts_with(&format!("{path}: "))),
            "{told:?}"
        );
    }
    tree.mode("folder", 0o700).mode("closed.txt", 0o600);
    let listed = machine.run(["ls", "shop:media", "--long"]).done();
    for name in ["closed.txt", "folder"] {
        let line = listed
            .stdout()
            .lines()
            .find(|line| line.contains(name))
            .unwrap();
        assert!(line.ends_with(')'), "it is marked: {line}");
    }
    let ran = machine
        .run(["restore", "shop:media", "--json", "--target", "back"])
        .ends_with_code(3);
    assert_eq!(ran.problems().len(), 2, "{ran:?}");
    assert_eq!(
        fs::read_to_string(machine.path("back/open.txt")).unwrap(),
        "open"
    );
    assert!(!machine.path("back/closed.txt").exists());
}

#[test]
fn a_source_that_is_gone_leaves_no_snapshot() {
    let machine = Lifeboat::with_repository();
    let tree = Tree::create(machine.path("media"));
    tree.file("a.txt", "a");
    for words in [
        "backup --app shop --source media --source gone",
        "backup --app shop --source media/a.txt",
    ] {
        let ran = machine.run(words.split(' '));
        assert!(matches!(ran.code, 1 | 2), "{ran:?}");
        ran.explains(ran.code);
    }
    for (words, code) in [
        ("backup", 2),
        ("backup shop", 2),
        ("backup --app shop", 2),
        ("backup --app ../x --source media", 2),
        ("backup --app shop --stdin", 2),
        ("backup --app shop --source postgres://me:secret@db/shop", 2),
    ] {
        let ran = machine.run(words.split(' ')).ends_with_code(code);
        assert!(!ran.stderr.contains("secret@"), "{ran:?}");
    }
    machine
        .run([
            "backup", "--app", "shop", "--source", "media", "--source", "media",
        ])
        .explains(2);
    assert_eq!(snapshots(&machine), 0);
}

#[test]
fn a_configuration_that_is_wrong_is_refused_with_line_and_advice() {
    let machine = Lifeboat::with_repository();
    let file = machine.path("lifeboat.toml");
    for (text, line, said) in [
        (
            "[app.shop.media.uploads]\npath = \"/srv\"\nexclud = [\"*.tmp\"]\n",
            "3",
            "exclude",
        ),
        ("[app.shop.postgres]\nurl = 5\n", "2", "url"),
        ("[app.shop\n", "1", ""),
        ("[app.\"../up\".media.x]\npath = \"/srv\"\n", "1", "name"),
    ] {
        fs::write(&file, text).unwrap();
        let arguments = ["backup", "--config"].map(OsString::from);
        let ran = machine.run(arguments.into_iter().chain([file.clone().into()]));
        let told = ran.explains(2);
        assert!(told.contains(line) && told.contains(said), "{told}");
    }
}

#[test]
fn a_link_in_the_way_is_not_followed() {
    let (machine, _) = machine();
    let outside = Tree::create(machine.path("outside"));
    outside.file("item.txt", "not ours");
    for overwrite in ["if-changed", "always"] {
        let target = Tree::create(machine.path("back"));
        symlink(outside.root(), target.root().join("00")).unwrap();
        symlink(
            outside.root().join("item.txt"),
            target.root().join("notes.txt"),
        )
        .unwrap();
        let ran = machine.run([
            "restore",
            "shop:media",
            "--target",
            "back",
            "--overwrite",
            overwrite,
        ]);
        assert!(matches!(ran.code, 0 | 3), "{ran:?}");
        let there = fs::read_dir(outside.root()).unwrap().count();
        assert_eq!(there, 1, "nothing was put beside it");
        assert_eq!(
            fs::read_to_string(outside.root().join("item.txt")).unwrap(),
            "not ours"
        );
        if overwrite == "always" {
            assert!(
                target
                    .root()
                    .join("00")
                    .symlink_metadata()
                    .unwrap()
                    .is_dir()
            );
        } else {
            assert_eq!(ran.code, 3, "what a link stands in the way of is told");
        }
        fs::remove_dir_all(target.root()).unwrap();
    }
}

#[test]
fn a_target_that_cannot_be_used_is_refused_before_anything_is_made() {
    let (machine, _) = machine();
    fs::write(machine.path("file"), "mine").unwrap();
    machine
        .run(["restore", "shop", "--target", "file"])
        .explains(1);
    machine
        .run(["restore", "shop", "--target", "file/below"])
        .explains(1);
    fs::create_dir(machine.path("full")).unwrap();
    fs::write(machine.path("full/mine"), "mine").unwrap();
    machine
        .run(["restore", "shop", "--target", "full"])
        .explains(14);
    assert_eq!(fs::read_to_string(machine.path("file")).unwrap(), "mine");
    assert_eq!(fs::read_dir(machine.path("full")).unwrap().count(), 1);
    fs::write(machine.path("dump"), "mine").unwrap();
    machine
        .run(["dump", "shop:media/notes.txt", "-o", "dump"])
        .explains(1);
    assert_eq!(fs::read_to_string(machine.path("dump")).unwrap(), "mine");
}

#[test]
fn everything_that_is_made_is_closed_to_others_from_the_start() {
    fn look(path: &Path, found: &mut Vec<String>) {
        let metadata = path.symlink_metadata().unwrap();
        if metadata.mode() & 0o077 != 0 {
            found.push(format!(
                "{} {:04o}",
                path.display(),
                metadata.mode() & 0o7777
            ));
        }
        if metadata.is_dir() {
            let entries = fs::read_dir(path).unwrap();
            entries.for_each(|entry| look(&entry.unwrap().path(), found));
        }
    }
    let (machine, _) = machine();
    machine.run(["tag", "shop", "--add", "x"]).done();
    let mut open = Vec::new();
    look(&machine.repository(), &mut open);
    look(&machine.key_file(), &mut open);
    for folder in ["cache", "state"] {
        let entries = fs::read_dir(machine.path(folder)).unwrap();
        entries.for_each(|entry| look(&entry.unwrap().path(), &mut open));
    }
    assert!(open.is_empty(), "{open:#?}");
}

#[test]
fn wide_modes_are_warned_about() {
    let (machine, tree) = machine();
    let widen =
        |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    widen(&machine.repository(), 0o755);
    let ran = back_up(&machine, &tree).done();
    assert!(
        ran.stderr.contains("warning: ") && ran.stderr.contains("0755"),
        "{}",
        ran.stderr
    );
    widen(&machine.repository(), 0o700);
    let ran = back_up(&machine, &tree).done();
    assert!(!ran.stderr.contains("warning: "), "{}", ran.stderr);
    widen(&machine.key_file(), 0o644);
    let ran = machine.run(["doctor"]);
    let said = format!("{}{}", ran.stdout(), ran.stderr);
    assert!(said.contains("0644"), "{said}");
}

/// Runs a shell script in which the folder `small` is a file system of 6 MB; `$0` is the program. The file system is
/// seen by the script alone, and goes with it.
fn on_a_small_disk(machine: &Lifeboat, script: &str) -> Ran {
    fs::create_dir(machine.path("small")).unwrap();
    let mut command = machine.command_of("unshare");
    if !is_root() {
        command.arg("--map-root-user");
    }
    let script = format!("mount -t tmpfs -o size=6m,mode=700 none small || exit 99\n{script}");
    command.args(["--mount", "sh", "-c", &script, PROGRAM]);
    Ran::of(command)
}

#[test]
fn a_full_disk_ends_a_backup_with_one_clear_error() {
    let machine = Lifeboat::new();
    let tree = Tree::create(machine.path("media"));
    tree.file("small.bin", noise(1, 500_000));
    let large = Tree::create(machine.path("large"));
    large.file("large.bin", noise(2, 20_000_000));
    let ran = on_a_small_disk(
        &machine,
        "export LIFEBOAT_REPOSITORY=small/repository
         LIFEBOAT_KEY_FILE= \"$0\" init --key-file key >&2 || exit 98
         \"$0\" backup --app shop --source media || exit 97
         \"$0\" backup --app shop --source large; code=$?
         \"$0\" snapshots --json
         \"$0\" restore shop:media --target back --quiet || exit 96
         \"$0\" verify-store >&2 || exit 95
         exit $code",
    );
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.stderr.contains("error: "), "{ran:?}");
    assert!(ran.stderr.contains("hint: Make room"), "{ran:?}");
    assert_eq!(ran.answer().as_array().unwrap().len(), 1, "{ran:?}");
    assert_eq!(
        fs::read(machine.path("back/small.bin")).unwrap(),
        noise(1, 500_000)
    );
}

#[test]
fn a_target_without_room_is_told_and_holds_no_half_file() {
    let machine = Lifeboat::with_repository();
    let tree = Tree::create(machine.path("media"));
    tree.file("a.bin", noise(1, 2_000_000))
        .file("b.bin", noise(2, 9_000_000));
    back_up(&machine, &tree).done();
    let ran = on_a_small_disk(
        &machine,
        "\"$0\" restore shop:media --target small/back; code=$?
         cp -a small/back left; exit $code",
    );
    let said = ran.explains(1);
    assert!(said.contains("error: the restore ended early: the target is full"));
    assert!(said.contains("hint: Make room, and run it again with --overwrite if-changed"));
    for entry in fs::read_dir(machine.path("left"))
        .unwrap()
        .map(Result::unwrap)
    {
        let original = fs::read(tree.root().join(entry.file_name()));
        assert_eq!(
            fs::read(entry.path()).unwrap(),
            original.unwrap(),
            "{entry:?}"
        );
    }
}

#[test]
fn a_dump_that_has_no_place_says_what_would_help() {
    let machine = Lifeboat::with_repository();
    let tree = Tree::create(machine.path("media"));
    tree.file("a.bin", noise(2, 9_000_000));
    back_up(&machine, &tree).done();
    let dump = |file: &str| machine.run(["dump", "shop:media/a.bin", "-o", file]);
    let ran = dump("none/a.bin");
    assert!(ran.explains(1).contains("hint: Make the folder"), "{ran:?}");
    dump("a.bin").done();
    let ran = dump("a.bin");
    assert!(ran.explains(1).contains("hint: Choose a new"), "{ran:?}");
    let ran = on_a_small_disk(&machine, "\"$0\" dump shop:media/a.bin -o small/a.bin");
    assert!(ran.explains(1).contains("hint: Make room"), "{ran:?}");
}

#[test]
fn a_full_folder_for_temporary_files_is_named_once() {
    let machine = Lifeboat::with_repository();
    let database = rusqlite::Connection::open(machine.path("app.db")).unwrap();
    database
        .execute_batch("CREATE TABLE t (x); INSERT INTO t VALUES (zeroblob(9000000))")
        .unwrap();
    drop(database);
    let ran = on_a_small_disk(
        &machine,
        "TMPDIR=small \"$0\" backup --app shop --source sqlite:app.db",
    );
    let told = ran.explains(1);
    assert!(told.contains("no room in small for a copy"), "{told}");
    assert!(told.contains("TMPDIR"), "{told}");
    assert!(!told.contains("Error code 13"), "{told}");
}

#[test]
fn of_several_apps_the_one_that_fails_is_told_once() {
    let machine = Lifeboat::with_repository();
    let tree = Tree::create(machine.path("media"));
    tree.file("a.txt", "a");
    let file = machine.path("lifeboat.toml");
    let folder = machine.folder().display();
    let text = format!(
        "[app.shop.media.media]\npath = \"{folder}/media\"\n[app.blog.media.gone]\npath = \"{folder}/gone\"\n"
    );
    fs::write(&file, text).unwrap();
    let ran = machine.run(["backup", "--config", file.to_str().unwrap()]);
    let told = ran.explains(ran.code);
    assert!(
        told.contains("error: 1 of 2 apps could not be backed up: blog"),
        "{told}"
    );
    let named = told.matches("/gone").count();
    assert!(
        named > 0 && told.matches("problem: blog failed").count() == 1,
        "{told}"
    );
    assert_eq!(snapshots(&machine), 1);
}

#[test]
fn programs_are_told_of_failures_in_one_message() {
    let (machine, tree) = machine();
    let none = machine.path("none");
    let none = none.to_str().unwrap();
    let source = tree.root().to_str().unwrap();
    for (words, code) in [
        (&["snapshots", "--repo", none][..], 10),
        (&["restore", "shop", "--target", source], 14),
        (&["ls", "shpo"], 1),
        (&["ls", "shop~x"], 2),
        (&["backup", "--bogus"], 2),
        (
            &[
                "backup",
                "--app",
                "shop",
                "--source",
                "postgres://nobody@127.0.0.1:1/x",
            ],
            13,
        ),
        (&["snapshots", "--password-file", "/dev/null"], 12),
    ] {
        let ran = machine
            .run(words.iter().chain(&["--json"]))
            .ends_with_code(code);
        let (message, hint) = ran.exit_error();
        assert!(
            !message.is_empty() && hint.ends_with('.'),
            "{message} {hint}"
        );
        assert!(
            !ran.stderr.contains("error:"),
            "people's words are not mixed in: {ran:?}"
        );
    }
}

#[test]
fn a_reader_that_goes_away_is_no_failure_to_talk_about() {
    let (machine, _) = machine();
    let mut list = machine.command();
    list.args(["ls", "shop", "--recursive"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = list.spawn().unwrap();
    drop(child.stdout.take());
    let mut said = String::new();
    child
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut said)
        .unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(141), "{said}");
    assert_eq!(said, "");
}

#[test]
fn a_pattern_that_is_none_is_found_before_anything_is_read() {
    let machine = Lifeboat::with_repository();
    Tree::create(machine.path("media")).file("a.txt", "a file");
    let ran = machine.run([
        "backup",
        "--app",
        "shop",
        "--source",
        "media",
        "--exclude",
        "a[",
    ]);
    assert!(ran.explains(2).contains("a["), "{ran:?}");
}

#[test]
fn without_a_configuration_an_app_is_told_how_to_begin_one() {
    let machine = Lifeboat::with_repository();
    for arguments in [
        &["app", "test", "shop"][..],
        &["app", "show", "shop"],
        &["restore-app", "shop", "-n"],
    ] {
        let ran = machine.run(arguments);
        let said = ran.explains(2);
        assert!(said.contains("no lifeboat.toml"), "{ran:?}");
        assert!(
            said.contains("lifeboat config init lifeboat.toml"),
            "{ran:?}"
        );
        let has_other_way = said.contains("--into and --to");
        assert_eq!(has_other_way, arguments[0] == "restore-app", "{ran:?}");
    }
}
