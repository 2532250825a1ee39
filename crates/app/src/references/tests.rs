//! Paths that rows name, counted and told as a folder was found.

use std::path::PathBuf;

use super::*;

fn folder(references: Vec<ReferenceColumn>) -> FolderSource {
    FolderSource {
        name: "uploads".to_owned(),
        path: PathBuf::from("/srv/shop/uploads"),
        exclude: Vec::new(),
        one_file_system: false,
        exclude_caches: false,
        references,
        bundles: true,
    }
}

fn column() -> ReferenceColumn {
    ReferenceColumn {
        source: "db".to_owned(),
        table: "public.asset".to_owned(),
        column: "path".to_owned(),
        ..ReferenceColumn::default()
    }
}

fn asking<'a>(all: &'a [References<'a>]) -> Asking<'a> {
    Asking(all)
}

fn tapped<'a>(all: &'a [References<'a>], lines: &[u8]) {
    let columns = ["id", "path", "bytes", "sha"].map(str::to_owned);
    let mut tap = Tap::new(
        asking(all),
        "db",
        &["public.asset"],
        &columns,
        &columns[..1],
    )
    .unwrap();
    // As a stream comes: cut anywhere.
    lines.chunks(7).for_each(|piece| tap.feed(piece));
    tap.finish().unwrap();
}

fn texts(outcome: &Outcome) -> Vec<String> {
    outcome
        .problems
        .iter()
        .map(|problem| {
            let path = String::from_utf8_lossy(&problem.path);
            format!("{} {path}: {}", problem.class, problem.what)
        })
        .collect()
}

fn counts(outcome: &Outcome) -> ReferenceCounts {
    ReferenceCounts::of(&outcome.facts).unwrap()
}

#[test]
fn each_value_is_one_path_of_the_folder_or_none() {
    let place = |value: &str| path_of(value.as_bytes(), Some("/media/"), b"/srv/shop/uploads");
    let path = |text: &str| Place::Path(text.as_bytes().to_vec());
    assert_eq!(place("a/b.jpg"), path("a/b.jpg"));
    assert_eq!(place("/media/a/b.jpg"), path("a/b.jpg"));
    assert_eq!(place("/srv/shop/uploads/a/b.jpg"), path("a/b.jpg"));
    assert_eq!(
        place("/srv/shop/uploads2/b.jpg"),
        path("srv/shop/uploads2/b.jpg")
    );
    assert_eq!(place(".//a/./b.jpg/"), path("a/b.jpg"));
    assert_eq!(place("a/..b"), path("a/..b"));
    assert_eq!(place(""), Place::Nothing);
    for outside in ["..", "a/../b", "/", ".", "/media/", "a\0b"] {
        assert_eq!(place(outside), Place::Outside, "{outside}");
    }
}

#[test]
fn what_rows_name_is_there_or_carried_or_told_and_the_rest_are_orphans() {
    let folder = folder(vec![column()]);
    let all = [References::of(&folder).unwrap().unwrap()];
    tapped(
        &all,
        b"1\ta.jpg\t1\t\\N\n2\tsub/gone.jpg\t2\t\\N\n3\tkept.jpg\t3\t\\N\n4\t\\N\t4\t\\N\n5\t\t5\t\\N\n\
          6\t../secret\t6\t\\N\n7\ta.jpg\t1\t\\N\n",
    );
    let expected = asking(&all).expected("uploads").unwrap();
    expected.met(b"a.jpg", 1);
    expected.met(b"new.jpg", 10);
    assert_eq!(expected.wanted(b"other.jpg"), None);
    let wanted = Wanted {
        size: None,
        sha256: None,
    };
    assert_eq!(expected.wanted(b"kept.jpg"), Some(wanted));
    expected.carried(b"kept.jpg", true);
    let outcome = expected.finish().unwrap();
    assert_eq!(
        texts(&outcome),
        [
            "reference : row 6 of public.asset names ../secret, which is no path in this folder",
            "missing sub/gone.jpg: row 2 of public.asset names it, and it is not there",
        ]
    );
    let expected = ReferenceCounts {
        references: 4,
        files: 3,
        missing: 1,
        carried_forward: 1,
        carried_again: 1,
        outside: 1,
        orphans: 1,
        orphan_bytes: 10,
        ..ReferenceCounts::default()
    };
    assert_eq!(counts(&outcome), expected);
}

#[test]
fn sizes_and_hashes_that_rows_know_are_asked_for() {
    let folder = folder(vec![ReferenceColumn {
        size: Some("bytes".to_owned()),
        sha256: Some("sha".to_owned()),
        ..column()
    }]);
    let all = [References::of(&folder).unwrap().unwrap()];
    let line = format!(
        "1\ta\t5\t{0}\n2\tb\t6\t\\\\x{0}\n3\tc\t\\N\tzz\n",
        "ab".repeat(32)
    );
    tapped(&all, line.as_bytes());
    let expected = asking(&all).expected("uploads").unwrap();
    let wanted = |size, sha256| Some(Wanted { size, sha256 });
    assert_eq!(expected.wanted(b"a"), wanted(Some(5), Some([0xab; 32])));
    assert_eq!(expected.wanted(b"b"), wanted(Some(6), Some([0xab; 32])));
    assert_eq!(expected.wanted(b"c"), wanted(None, None));
    expected.met(b"a", 5);
    expected.met(b"b", 7);
    expected.met(b"c", 99);
    let outcome = expected.finish().unwrap();
    assert_eq!(
        texts(&outcome),
        ["differs b: row 2 of public.asset says that it has 6 bytes, and it has 7"]
    );
}

#[test]
fn what_a_row_names_is_a_file_or_a_link_to_one_in_the_same_folder() {
    let media = tempfile::tempdir().unwrap();
    let (root, elsewhere) = (media.path().join("media"), media.path().join("else"));
    fs::create_dir_all(root.join("folder")).unwrap();
    fs::write(root.join("folder/real"), "12345").unwrap();
    fs::write(&elsewhere, "12345").unwrap();
    let absolute = root.join("folder/real");
    let links = [
        ("inside", Path::new("folder/real")),
        ("short", Path::new("folder/real")),
        ("outside", Path::new("../else")),
        ("nowhere", Path::new("gone")),
        ("to folder", Path::new("folder")),
        ("absolute", &absolute),
    ];
    let folder = folder(vec![ReferenceColumn {
        size: Some("bytes".to_owned()),
        ..column()
    }]);
    let all = [References::of(&folder).unwrap().unwrap()];
    let mut rows = "0\tfolder\t5\t\\N\n9\tpipe\t\\N\t\\N\n".to_owned();
    for (number, (name, target)) in links.iter().enumerate() {
        std::os::unix::fs::symlink(target, root.join(name)).unwrap();
        let size = if *name == "short" { 6 } else { 5 };
        rows.push_str(&format!("{}\t{name}\t{size}\t\\N\n", number + 1));
    }
    tapped(&all, rows.as_bytes());
    let expected = asking(&all).expected("uploads").unwrap();
    expected.met_other(&root, b"folder", NoFile::Folder);
    expected.met_other(&root, b"pipe", NoFile::Special);
    for (name, _) in links {
        expected.met_other(&root, name.as_bytes(), NoFile::Link);
    }
    let outcome = expected.finish().unwrap();
    let link = |row: u8, name: &str| {
        format!(
            "no-file {name}: row {row} of public.asset names it, and it is a symbolic link that leads to no file in this folder"
        )
    };
    assert_eq!(
        texts(&outcome),
        [
            "no-file folder: row 0 of public.asset names it, and it is a folder, not a file"
                .to_owned(),
            "no-file pipe: row 9 of public.asset names it, and it is no regular file".to_owned(),
            "differs short: row 2 of public.asset says that it has 6 bytes, and it has 5"
                .to_owned(),
            link(3, "outside"),
            link(4, "nowhere"),
            link(5, "to folder"),
            link(6, "absolute"),
        ]
    );
    let counts = counts(&outcome);
    assert_eq!((counts.no_files, counts.lacking()), (6, 7));
}

#[test]
fn a_table_or_column_that_is_not_there_is_told() {
    let missing = |name: &str, table: &str| ReferenceColumn {
        table: table.to_owned(),
        column: name.to_owned(),
        ..column()
    };
    let folder = folder(vec![
        missing("renamed", "public.asset"),
        missing("path", "public.gone"),
        ReferenceColumn {
            source: "other".to_owned(),
            ..column()
        },
    ]);
    let all = [References::of(&folder).unwrap().unwrap()];
    let columns = ["id".to_owned()];
    assert!(Tap::new(asking(&all), "db", &["public.asset"], &columns, &[]).is_none());
    let expected = asking(&all).expected("uploads").unwrap();
    let outcome = expected.finish().unwrap();
    assert_eq!(
        texts(&outcome),
        [
            "reference : rows are to name its files, and public.asset has no column renamed",
            "reference : no database of this run has rows of public.gone, which are to name its files",
            "reference : no database of this run has rows of public.asset, which are to name its files",
        ]
    );
    assert_eq!(counts(&outcome).unasked, 3);
}

#[test]
fn thousands_of_missing_files_are_told_in_bounded_space() {
    let folder = folder(vec![column()]);
    let all = [References::of(&folder).unwrap().unwrap()];
    let lines: String = (0..5000)
        .map(|row| format!("{row}\tf{row}\t0\t\\N\n"))
        .collect();
    tapped(&all, lines.as_bytes());
    let expected = asking(&all).expected("uploads").unwrap();
    let outcome = expected.finish().unwrap();
    assert_eq!(outcome.problems.len(), 1001);
    assert_eq!(
        outcome.problems[1000].what,
        "4000 more rows name what is not there, differs or is no file"
    );
    assert_eq!(counts(&outcome).missing, 5000);
}

#[test]
fn what_changed_after_the_moment_is_newer() {
    let folder = folder(vec![column()]);
    let references = References::of(&folder).unwrap().unwrap();
    let time = |seconds| EntryTime { seconds, nanos: 0 };
    references.taken_at(time(100));
    references.taken_at(time(90));
    let expected = references.expect();
    assert!(expected.is_newer(&[time(1), time(91)]));
    assert!(!expected.is_newer(&[time(1), time(90)]));
}
