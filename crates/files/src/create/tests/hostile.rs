//! Names, links and neighbours that want a restore to write elsewhere.

use super::*;

#[test]
fn names_that_lead_elsewhere_are_refused_by_every_call() {
    let scratch = tempfile::tempdir().unwrap();
    let target = Target::prepare(&scratch.path().join("t"), over(Overwrite::Always)).unwrap();
    let top = target.open(FolderId::TOP).unwrap();
    let (metadata, none) = (
        Metadata {
            nlink: 2,
            ..Metadata::default()
        },
        Attributes::default(),
    );
    let original = top
        .write_file(b"f", &metadata, &none, b"")
        .unwrap()
        .original
        .unwrap();
    for name in [&b""[..], b".", b"..", b"../x", b"a/b", b"/tmp/x", b"a\0b"] {
        let fifo = Metadata {
            kind: Kind::Fifo,
            ..metadata
        };
        let errors = [
            top.write_file(name, &metadata, &none, b"").unwrap_err(),
            top.create_folder(name, &metadata, none.clone())
                .unwrap_err(),
            top.create_symlink(name, b"x", &metadata, &none)
                .unwrap_err(),
            top.create_special(name, &fifo, &none).unwrap_err(),
            top.create_link(name, &original).unwrap_err(),
        ];
        for error in errors {
            assert_eq!(error.kind(), ErrorKind::InvalidName, "{error}");
        }
    }
    let long = [b'x'; 256];
    let error = top.write_file(&long, &metadata, &none, b"").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidName);
}

#[test]
fn a_link_where_a_folder_is_to_be_is_replaced_or_an_error() {
    for overwrite in [Overwrite::IfChanged, Overwrite::Always] {
        let scratch = tempfile::tempdir().unwrap();
        let outside = scratch.path().join("outside");
        fs::create_dir(&outside).unwrap();
        let (source, target) = (scratch.path().join("s"), scratch.path().join("t"));
        fs::create_dir_all(source.join("d")).unwrap();
        fs::write(source.join("d/f"), "x").unwrap();
        fs::create_dir(&target).unwrap();
        symlink(&outside, target.join("d")).unwrap();
        let done = copy(&source, &target, over(overwrite), false);
        assert_eq!(done.errors.is_empty(), overwrite == Overwrite::Always);
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
        let replaced = fs::symlink_metadata(target.join("d")).unwrap().is_dir();
        assert_eq!(replaced, overwrite == Overwrite::Always);
    }
}

#[test]
fn one_name_twice_gives_two_entries_and_a_problem() {
    let scratch = tempfile::tempdir().unwrap();
    let target = Target::prepare(&scratch.path().join("t"), over(Overwrite::Never)).unwrap();
    let top = target.open(FolderId::TOP).unwrap();
    let own = Folder::open(scratch.path())
        .unwrap()
        .own_metadata()
        .unwrap();
    let metadata = Metadata {
        uid: own.uid,
        gid: own.gid,
        mode: 0o600,
        ..Metadata::default()
    };
    let none = Attributes::default();
    top.write_file(b"x", &metadata, &none, b"first").unwrap();
    top.write_file(b"x", &metadata, &none, b"second").unwrap();
    let folder = Metadata {
        mode: 0o700,
        ..metadata
    };
    let inner = top.create_folder(b"x", &folder, none.clone()).unwrap();
    inner.write_file(b"y", &metadata, &none, b"third").unwrap();
    let problems = target.finish();
    let renamed: Vec<_> = problems
        .iter()
        .map(|problem| problem.what.clone())
        .collect();
    let to = |name: &[u8]| What::Renamed(name.into());
    assert_eq!(renamed, [to(b"x~lifeboat-1"), to(b"x~lifeboat-2")]);
    let read = |name: &str| fs::read_to_string(scratch.path().join("t").join(name)).unwrap();
    assert_eq!(read("x"), "first");
    assert_eq!(read("x~lifeboat-1"), "second");
    assert_eq!(read("x~lifeboat-2/y"), "third");
}

#[test]
fn a_further_name_is_never_given_to_an_object_that_was_exchanged() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("t");
    let target = Target::prepare(&path, over(Overwrite::Always)).unwrap();
    let top = target.open(FolderId::TOP).unwrap();
    let metadata = Metadata {
        nlink: 2,
        mode: 0o600,
        ..Metadata::default()
    };
    let restored = top
        .write_file(b"a", &metadata, &Attributes::default(), b"mine")
        .unwrap();
    let original = restored.original.unwrap();
    fs::rename(path.join("a"), path.join("moved")).unwrap();
    symlink("/etc/passwd", path.join("a")).unwrap();
    let error = top.create_link(b"b", &original).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Changed);
    fs::remove_file(path.join("a")).unwrap();
    fs::write(path.join("a"), "other").unwrap();
    assert_eq!(
        top.create_link(b"b", &original).unwrap_err().kind(),
        ErrorKind::Changed
    );
    assert!(!path.join("b").exists());
}

#[test]
fn a_folder_that_was_exchanged_is_not_opened_again() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("t");
    let target = Target::prepare(&path, over(Overwrite::Always)).unwrap();
    let top = target.open(FolderId::TOP).unwrap();
    let metadata = Metadata {
        mode: 0o700,
        ..Metadata::default()
    };
    let id = top
        .create_folder(b"d", &metadata, Attributes::default())
        .unwrap()
        .id();
    target.open(id).unwrap();
    fs::rename(path.join("d"), path.join("moved")).unwrap();
    fs::create_dir(path.join("d")).unwrap();
    assert_eq!(target.open(id).unwrap_err().kind(), ErrorKind::Changed);
    fs::remove_dir(path.join("d")).unwrap();
    symlink("moved", path.join("d")).unwrap();
    assert_eq!(target.open(id).unwrap_err().kind(), ErrorKind::Changed);
    drop(top);
    let problems = target.finish();
    assert!(
        problems.iter().any(|problem| problem.what == What::Folder),
        "{problems:?}"
    );
}

/// How often the attacker below is given a chance.
const ROUNDS: usize = 10_000;

#[test]
fn a_folder_swapped_for_a_link_again_and_again_never_leads_outside() {
    let scratch = quick_tempdir();
    let outside = scratch.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("f"), "untouched").unwrap();
    set_mode(&outside.join("f"), 0o640);
    set_mode(&outside, 0o751);
    let before = fs::metadata(&outside).unwrap();
    let path = scratch.path().join("t");
    fs::create_dir_all(path.join("d")).unwrap();
    let stop = AtomicBool::new(false);
    let mut written = 0;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (real, aside) = (path.join("d"), path.join("aside"));
            while !stop.load(Ordering::Relaxed) {
                let _ = fs::rename(&real, &aside);
                let _ = symlink(&outside, &real);
                let _ = fs::remove_file(&real);
                let _ = fs::rename(&aside, &real);
            }
        });
        for _ in 0..ROUNDS {
            written += usize::from(restore_one(&path).is_ok());
        }
        stop.store(true, Ordering::Relaxed);
    });
    let after = fs::metadata(&outside).unwrap();
    assert_eq!(fs::read(outside.join("f")).unwrap(), b"untouched");
    assert_eq!(
        fs::metadata(outside.join("f")).unwrap().mode() & 0o777,
        0o640
    );
    assert_eq!(
        (after.mode(), after.mtime_nsec()),
        (before.mode(), before.mtime_nsec())
    );
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
    assert!(
        written > 0,
        "the restore must sometimes succeed, or nothing was tried"
    );
}

/// Restores a file in a folder, with a further name, over what stands there, and deletes the rest.
fn restore_one(path: &Path) -> Result<(), Error> {
    let target = Target::prepare(path, over(Overwrite::Always))?;
    let top = target.open(FolderId::TOP)?;
    let metadata = Metadata {
        mode: 0o604,
        nlink: 2,
        ..Metadata::default()
    };
    let folder = Metadata {
        mode: 0o707,
        ..metadata
    };
    let inner = top.create_folder(b"d", &folder, Attributes::default())?;
    let restored = inner.write_file(b"f", &metadata, &Attributes::default(), b"restored")?;
    let original = restored.original.expect("the metadata speaks of two names");
    let inner = target.open(inner.id())?;
    inner.create_link(b"g", &original)?;
    inner.remove_extras(&mut |name| matches!(name, b"f" | b"g"))?;
    target.finish();
    Ok(())
}
