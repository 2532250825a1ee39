//! What a backup of a folder makes of files that others open or share, and of what it is to leave out.
//!
//! **Invariant**: what is told once is told again while it lasts.

use std::{ffi::OsString, fs, path::Path, thread, time::Duration};

use lifeboat_files::{CompareOptions, compare};
use rusqlite::Connection;
use rustix::fs::{IFlags, XattrFlags, ioctl_getflags, ioctl_setflags, setxattr};

use crate::support::{
    account::ordinary,
    program::{Lifeboat, Ran},
    trees::Tree,
};

fn back_up(machine: &Lifeboat, folder: &Path) -> Ran {
    let arguments = ["backup", "--json", "--app", "shop", "--source"].map(OsString::from);
    machine.run(arguments.into_iter().chain([folder.into()]))
}

#[test]
fn a_database_that_is_in_use_is_told_at_every_backup_changed_or_not() {
    let machine = Lifeboat::with_repository();
    let tree = Tree::create(machine.path("media"));
    let path = tree.root().join("app.db");
    let open = || Connection::open(&path).unwrap();
    open()
        .execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE t (x); INSERT INTO t VALUES (1);")
        .unwrap();
    // Long enough for the next backup to trust the file's times.
    thread::sleep(Duration::from_millis(2_100));
    let idle = back_up(&machine, tree.root()).done();
    assert!(idle.problems().is_empty(), "{idle:?}");
    let database = open();
    database
        .execute_batch("PRAGMA wal_autocheckpoint = 0; INSERT INTO t VALUES (2);")
        .unwrap();
    for _ in 0..2 {
        let ran = back_up(&machine, tree.root());
        let told = ran.problems();
        assert!(told.iter().any(|told| told.contains("SQLite")), "{ran:?}");
    }
    drop(database);
}

#[test]
fn what_is_left_out_is_not_looked_at() {
    let machine = Lifeboat::with_repository();
    let tree = Tree::create(machine.path("media"));
    // Who may list a folder but not enter it knows names and nothing else.
    tree.file("listed/a.tmp", "a").mode("listed", 0o444);
    let backup = |more: &[&str]| {
        let mut backup = ordinary(&machine, &[tree.root()]);
        backup
            .args(["backup", "--app", "shop", "--source"])
            .arg(tree.root())
            .args(more);
        Ran::of(backup)
    };
    backup(&[]).ends_with_code(3);
    backup(&["--exclude", "*.tmp"]).done();
    backup(&["--exclude", "/listed/a*"]).done();
    tree.mode("listed", 0o700);
}

#[test]
fn every_name_of_a_file_has_its_attributes() {
    let machine = Lifeboat::with_repository();
    let tree = Tree::create(machine.path("media"));
    tree.file("a", "shared").second_name("b", "a");
    let file = fs::File::open(tree.root().join("a")).unwrap();
    setxattr(
        tree.root().join("a"),
        "user.mark",
        b"1",
        XattrFlags::empty(),
    )
    .unwrap();
    let flagged =
        ioctl_getflags(&file).and_then(|flags| ioctl_setflags(&file, flags | IFlags::NODUMP));
    if let Err(errno) = flagged {
        eprintln!("this file system keeps no inode flags, so the mark alone is looked at: {errno}");
    }
    back_up(&machine, tree.root()).done();
    for name in ["a", "b"] {
        let target = machine.path(format!("back-{name}"));
        let ran = machine.run(
            ["restore", &format!("shop:media/{name}"), "--target"]
                .map(OsString::from)
                .into_iter()
                .chain([target.clone().into()]),
        );
        ran.done();
        let one = Tree::create(machine.path(format!("one-{name}")));
        fs::hard_link(tree.root().join(name), one.root().join(name)).unwrap();
        let options = CompareOptions {
            hard_links: false,
            ..CompareOptions::default()
        };
        let differences = compare(one.root(), &target, &options).unwrap();
        let of_the_file: Vec<_> = differences
            .iter()
            .filter(|difference| difference.path == Path::new(name))
            .collect();
        assert!(of_the_file.is_empty(), "{of_the_file:#?}");
    }
}
