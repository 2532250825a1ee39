//! Folders that are completed while the restore goes on beside them.

use super::*;

#[test]
fn a_folder_is_completed_when_it_is_full_and_not_before_what_lies_in_it() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("t");
    let mode = |name: &str| fs::metadata(path.join(name)).unwrap().permissions().mode() & 0o777;
    let target = Target::prepare(&path, over(Overwrite::Never)).unwrap();
    let top = target.open(FolderId::TOP).unwrap();
    let own = Folder::open(&path).unwrap().own_metadata().unwrap();
    let file = Metadata {
        mode: 0o644,
        uid: own.uid,
        gid: own.gid,
        ..Metadata::default()
    };
    let folder = Metadata {
        mode: 0o555,
        mtime: Time {
            seconds: 1_000_000_000,
            nanos: 7,
        },
        ..file
    };
    let none = Attributes::default;
    let outer = top.create_folder(b"outer", &folder, none()).unwrap();
    let inner = outer.create_folder(b"inner", &folder, none()).unwrap();
    inner.write_file(b"file", &file, &none(), b"x").unwrap();
    target.complete([outer.id()]);
    assert_eq!((mode("outer"), mode("outer/inner")), (0o700, 0o700));
    target.complete([inner.id(), outer.id()]);
    assert_eq!((mode("outer"), mode("outer/inner")), (0o555, 0o555));
    assert!(target.open(inner.id()).is_err(), "it is not used any more");
    let next = top.create_folder(b"next", &folder, none()).unwrap();
    assert!(
        ![outer.id(), inner.id()].contains(&next.id()),
        "a number is given once"
    );
    drop(next);
    assert!(target.finish().is_empty());
    for name in ["outer", "outer/inner", "next"] {
        let found = fs::metadata(path.join(name)).unwrap();
        assert_eq!(found.mtime(), 1_000_000_000, "{name}");
        assert_eq!(mode(name), 0o555);
    }
}

#[test]
fn a_folder_whose_file_may_get_further_names_is_completed_at_the_end() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("t");
    let target = Target::prepare(&path, over(Overwrite::Never)).unwrap();
    let top = target.open(FolderId::TOP).unwrap();
    let own = Folder::open(&path).unwrap().own_metadata().unwrap();
    let file = Metadata {
        mode: 0o644,
        uid: own.uid,
        gid: own.gid,
        nlink: 2,
        ..Metadata::default()
    };
    // Nobody but root could reach the file once this folder is complete.
    let folder = Metadata {
        mode: 0o000,
        ..file
    };
    let none = Attributes::default;
    let above = top.create_folder(b"above", &folder, none()).unwrap();
    let first = above.create_folder(b"first", &folder, none()).unwrap();
    let restored = first.write_file(b"one", &file, &none(), b"x").unwrap();
    target.complete([first.id(), above.id()]);
    let mode = |name: &str| fs::metadata(path.join(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("above"), mode("above/first")), (0o700, 0o700));
    let second = top.create_folder(b"second", &file, none()).unwrap();
    second
        .create_link(b"two", &restored.original.unwrap())
        .unwrap();
    drop((top, above, first, second));
    assert!(target.finish().is_empty());
    assert_eq!(mode("above"), 0o000);
    assert_eq!(fs::metadata(path.join("second/two")).unwrap().nlink(), 2);
}
