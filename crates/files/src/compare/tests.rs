//! Two trees and every way in which they can differ.

use super::*;
use rustix::fd::AsFd;
use rustix::fs::{FileType, Mode, mknodat};
use std::fs::{self, File};
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::time::{Duration, SystemTime};

struct Trees {
    scratch: tempfile::TempDir,
}

impl Trees {
    /// Two trees that are the same in everything.
    fn new() -> Self {
        let trees = Self {
            scratch: tempfile::tempdir().unwrap(),
        };
        for side in ["a", "b"] {
            let path = |name: &str| trees.path(side, name);
            fs::create_dir_all(path("folder/inner")).unwrap();
            fs::write(path("file"), "content").unwrap();
            fs::write(path("folder/first"), "content").unwrap();
            fs::hard_link(path("folder/first"), path("second")).unwrap();
            symlink("file", path("link")).unwrap();
            let top = File::open(path("")).unwrap();
            let mode = Mode::RUSR | Mode::WUSR;
            mknodat(top.as_fd(), c"fifo", FileType::Fifo, mode, 0).unwrap();
        }
        trees.even_times();
        trees
    }

    fn path(&self, side: &str, name: &str) -> PathBuf {
        self.scratch.path().join(side).join(name)
    }

    /// Gives everything the same time, so that only what a test changes is different.
    fn even_times(&self) {
        for side in ["a", "b"] {
            for name in ["file", "folder/first", "folder/inner", "folder", ""] {
                if let Ok(file) = File::open(self.path(side, name)) {
                    file.set_modified(SystemTime::UNIX_EPOCH).unwrap();
                }
            }
        }
    }

    fn sentences(&self, options: &CompareOptions) -> Vec<String> {
        let (a, b) = (self.path("a", ""), self.path("b", ""));
        compare(&a, &b, options)
            .unwrap()
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    /// What is found after `change` was made, without times of what cannot be evened.
    fn after(change: impl FnOnce(&Self)) -> Vec<String> {
        let trees = Self::new();
        change(&trees);
        trees.even_times();
        trees.sentences(&CompareOptions {
            times: false,
            ..CompareOptions::default()
        })
    }
}

#[test]
fn equal_trees_have_no_difference() {
    assert_eq!(Trees::after(|_| {}), Vec::<String>::new());
}

#[test]
fn each_kind_of_difference_is_found_and_said_once() {
    let found = Trees::after(|trees| fs::remove_file(trees.path("b", "file")).unwrap());
    assert_eq!(found, ["\"file\" is missing in b"]);
    let found = Trees::after(|trees| fs::write(trees.path("b", "folder/new"), "").unwrap());
    assert_eq!(found, ["\"folder/new\" is missing in a"]);
    let found = Trees::after(|trees| fs::write(trees.path("b", "file"), "contend").unwrap());
    assert_eq!(found, ["\"file\" has other content from byte 6 on"]);
    let found = Trees::after(|trees| fs::write(trees.path("b", "file"), "long content").unwrap());
    assert_eq!(found, ["\"file\" has 7 bytes in a and 12 in b"]);
    let found = Trees::after(|trees| {
        let mode = fs::Permissions::from_mode(0o4600);
        fs::set_permissions(trees.path("a", "file"), fs::Permissions::from_mode(0o640)).unwrap();
        fs::set_permissions(trees.path("b", "file"), mode).unwrap();
    });
    assert_eq!(found, ["\"file\" has mode 0640 in a and 4600 in b"]);
    let found = Trees::after(|trees| {
        fs::remove_file(trees.path("b", "link")).unwrap();
        symlink("elsewhere", trees.path("b", "link")).unwrap();
    });
    assert_eq!(
        found,
        ["\"link\" points to \"file\" in a and \"elsewhere\" in b"]
    );
    let found = Trees::after(|trees| {
        fs::remove_file(trees.path("b", "fifo")).unwrap();
        fs::create_dir(trees.path("b", "fifo")).unwrap();
    });
    assert_eq!(found, ["\"fifo\" is a named pipe in a and a folder in b"]);
    let found = Trees::after(|trees| {
        fs::remove_file(trees.path("b", "second")).unwrap();
        fs::write(trees.path("b", "second"), "content").unwrap();
    });
    assert_eq!(
        found,
        ["\"folder/first\" is the same object as \"second\" in a and as \"folder/first\" in b"]
    );
}

#[test]
fn attributes_that_differ_are_named() {
    let set = |path: PathBuf, value: &[u8]| {
        let file = File::open(path).unwrap();
        crate::attributes::Carrier::Open(file.as_fd())
            .set(b"user.note", value)
            .unwrap();
    };
    let found = Trees::after(|trees| set(trees.path("a", "file"), b"1"));
    assert_eq!(found, ["\"file\" lacks the attribute \"user.note\" in b"]);
    let found = Trees::after(|trees| set(trees.path("b", "folder"), b"1"));
    assert_eq!(
        found,
        ["\"folder\" has the attribute \"user.note\" in b alone"]
    );
    let found = Trees::after(|trees| {
        set(trees.path("a", "file"), b"1");
        set(trees.path("b", "file"), b"2");
    });
    assert_eq!(
        found,
        ["\"file\" has another value of the attribute \"user.note\" in b"]
    );
}

#[test]
fn times_are_compared_to_the_nanosecond_and_holes_when_asked() {
    let trees = Trees::new();
    let time = SystemTime::UNIX_EPOCH + Duration::new(5, 1);
    File::open(trees.path("b", "file"))
        .unwrap()
        .set_modified(time)
        .unwrap();
    let found = trees.sentences(&CompareOptions::default());
    let wanted = "\"file\" changed at 0.000000000 in a and at 5.000000001 in b".to_owned();
    assert!(found.contains(&wanted), "{found:?}");

    let sparse = File::create(trees.path("a", "sparse")).unwrap();
    sparse.write_all_at(b"x", 1 << 20).unwrap();
    fs::write(
        trees.path("b", "sparse"),
        [vec![0; 1 << 20], vec![b'x']].concat(),
    )
    .unwrap();
    let without_times = CompareOptions {
        times: false,
        ..CompareOptions::default()
    };
    assert_eq!(trees.sentences(&without_times), Vec::<String>::new());
    let found = trees.sentences(&CompareOptions {
        holes: true,
        ..without_times
    });
    assert!(
        found.len() == 1 && found[0].contains("bytes of room"),
        "{found:?}"
    );
}

#[test]
fn a_tree_that_cannot_be_opened_is_an_error() {
    let trees = Trees::new();
    let missing = trees.path("a", "missing");
    assert!(compare(&missing, &trees.path("b", ""), &CompareOptions::default()).is_err());
}
