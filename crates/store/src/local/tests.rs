//! Tests of a store in a real folder, and of the trouble that real folders make.

use super::*;
use crate::conformance::conformance;
use crate::spool::spool;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

mod children;
mod model;

fn name(text: &str) -> ObjectName {
    ObjectName::new(text).unwrap()
}

fn new_store() -> (tempfile::TempDir, LocalStore) {
    let folder = tempfile::tempdir().unwrap();
    let store = LocalStore::open(folder.path()).unwrap();
    (folder, store)
}

/// A store that believes that its file system has no files without a name.
fn store_with_named_files() -> (tempfile::TempDir, LocalStore) {
    let (folder, store) = new_store();
    store.puts.unnamed_files.store(false, Ordering::Relaxed);
    (folder, store)
}

fn put(store: &LocalStore, text: &str, bytes: &[u8]) -> Result<()> {
    store.put_new(&name(text), Body::Bytes(bytes))
}

fn listed(store: &LocalStore) -> Vec<String> {
    let mut names = Vec::new();
    store
        .list("", &mut |object| names.push(object.name.to_string()))
        .unwrap();
    names.sort();
    names
}

fn mode(path: &Path) -> u32 {
    std::fs::symlink_metadata(path)
        .unwrap()
        .permissions()
        .mode()
        & 0o7777
}

fn names_in(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn a_file_system_without_unnamed_files_will_do() {
    let (folder, store) = store_with_named_files();
    assert_eq!(conformance(&store, &mut |_, _| {}), []);
    assert!(!store.puts.unnamed_files.load(Ordering::Relaxed));
    assert!(names_in(&folder.path().join(temporary::FOLDER)).is_empty());
}

#[test]
fn objects_are_read_only_and_folders_private() {
    for (folder, store) in [new_store(), store_with_named_files()] {
        put(&store, "packs/d/ab/x", b"1").unwrap();
        assert_eq!(mode(&folder.path().join("packs/d/ab/x")), 0o400);
        assert_eq!(mode(&folder.path().join("packs")), 0o700);
        assert_eq!(mode(&folder.path().join("packs/d/ab")), 0o700);
        let spool = spool(&store).unwrap();
        assert_eq!(spool.metadata().unwrap().mode() & 0o7777, 0o600);
        assert_eq!(mode(&folder.path().join(temporary::FOLDER)), 0o700);
    }
}

#[test]
fn a_spool_becomes_the_object_without_a_copy() {
    let (folder, store) = new_store();
    let file = spool(&store).unwrap();
    file.write_all_at(b"content", 0).unwrap();
    let body = Body::File {
        file: &file,
        len: 7,
    };
    store.put_new(&name("packs/a"), body).unwrap();
    let object = std::fs::metadata(folder.path().join("packs/a")).unwrap();
    assert_eq!(object.ino(), file.metadata().unwrap().ino());
    assert_eq!(object.mode() & 0o7777, 0o400);
    assert!(names_in(&folder.path().join(temporary::FOLDER)).is_empty());
}

#[test]
fn a_file_that_has_a_name_is_copied() {
    let (folder, store) = new_store();
    let theirs = tempfile::NamedTempFile::new_in(folder.path()).unwrap();
    theirs.as_file().write_all_at(b"before", 0).unwrap();
    let body = Body::File {
        file: theirs.as_file(),
        len: 6,
    };
    store.put_new(&name("a"), body).unwrap();
    theirs.as_file().write_all_at(b"after!", 0).unwrap();
    assert_eq!(store.get(&name("a"), 6).unwrap(), b"before");
    assert_eq!(mode(theirs.path()), 0o600);
}

#[test]
fn a_file_that_lost_its_name_is_copied() {
    let (folder, store) = new_store();
    let theirs = tempfile::tempfile_in(folder.path()).unwrap();
    theirs.write_all_at(b"content", 0).unwrap();
    let named = tempfile::NamedTempFile::new_in(folder.path())
        .unwrap()
        .into_file();
    named.write_all_at(b"content", 0).unwrap();
    for (text, file) in [("a", &theirs), ("b", &named)] {
        store
            .put_new(&name(text), Body::File { file, len: 7 })
            .unwrap();
        assert_eq!(store.get(&name(text), 7).unwrap(), b"content");
    }
}

#[test]
fn the_last_step_to_a_name_by_link_replaces_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let handle = OwnedFd::from(File::open(folder.path()).unwrap());
    let (first, first_name) = temporary::named(&handle).unwrap();
    put::link_then_unlink(&first, &handle, &first_name, &handle, "object").unwrap();
    assert_eq!(names_in(folder.path()), ["object"]);

    let (second, second_name) = temporary::named(&handle).unwrap();
    let taken = put::link_then_unlink(&second, &handle, &second_name, &handle, "object");
    assert!(taken.unwrap_err().has_errno(&[rustix::io::Errno::EXIST]));
}

#[test]
fn a_link_whose_reply_was_lost_is_recognised() {
    let folder = tempfile::tempdir().unwrap();
    let handle = OwnedFd::from(File::open(folder.path()).unwrap());
    let (file, temporary_name) = temporary::named(&handle).unwrap();
    let object = folder.path().join("object");
    std::fs::hard_link(folder.path().join(&temporary_name), object).unwrap();
    put::link_then_unlink(&file, &handle, &temporary_name, &handle, "object").unwrap();
    assert_eq!(names_in(folder.path()), ["object"]);
}

#[test]
fn links_fifos_and_folders_are_no_objects_and_never_followed() {
    let (folder, store) = new_store();
    let outside = tempfile::tempdir().unwrap();
    let secret = outside.path().join("secret");
    std::fs::write(&secret, b"secret").unwrap();
    let place = |text: &str| folder.path().join(text);
    symlink(&secret, place("link")).unwrap();
    symlink("nowhere", place("dangling")).unwrap();
    std::fs::create_dir(place("folder")).unwrap();
    let fifo = Command::new("mkfifo").arg(place("fifo")).status().unwrap();
    assert!(fifo.success());
    let socket = std::os::unix::net::UnixListener::bind(place("socket")).unwrap();

    for text in ["link", "dangling", "folder", "fifo", "socket"] {
        let name = name(text);
        let results = [
            store.put_new(&name, Body::Bytes(b"x")),
            store.get(&name, 100).map(drop),
            store.get_range(&name, 0, &mut [0]),
            store.delete(&name),
        ];
        for result in results {
            let error = result.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Other, "{error}");
            assert!(error.to_string().contains("in its place"), "{error}");
        }
        assert!(
            std::fs::symlink_metadata(place(text)).is_ok(),
            "{text} was removed"
        );
    }
    drop(socket);
    assert_eq!(std::fs::read(&secret).unwrap(), b"secret");
    assert_eq!(names_in(outside.path()), ["secret"]);
}

#[test]
fn a_link_in_the_place_of_a_folder_is_never_followed() {
    let (folder, store) = new_store();
    let outside = tempfile::tempdir().unwrap();
    std::fs::write(outside.path().join("x"), b"secret").unwrap();
    symlink(outside.path(), folder.path().join("packs")).unwrap();

    for text in ["packs/x", "packs/new"] {
        assert_eq!(
            put(&store, text, b"x").unwrap_err().kind(),
            ErrorKind::Other
        );
        assert_eq!(
            store.get(&name(text), 10).unwrap_err().kind(),
            ErrorKind::Other
        );
        assert_eq!(
            store.delete(&name(text)).unwrap_err().kind(),
            ErrorKind::Other
        );
    }
    for prefix in ["", "packs/"] {
        let error = store.list(prefix, &mut |_| {}).unwrap_err();
        assert!(error.to_string().contains("symbolic link"), "{error}");
    }
    assert_eq!(names_in(outside.path()), ["x"]);
}

#[test]
fn a_list_that_meets_something_else_than_objects_is_an_error() {
    for kind in ["link", "fifo", "socket"] {
        let (folder, store) = new_store();
        put(&store, "packs/a", b"1").unwrap();
        let place = folder.path().join("packs/b");
        match kind {
            "link" => symlink("a", &place).unwrap(),
            "fifo" => assert!(
                Command::new("mkfifo")
                    .arg(&place)
                    .status()
                    .unwrap()
                    .success()
            ),
            _ => drop(std::os::unix::net::UnixListener::bind(&place).unwrap()),
        }
        let error = store.list("", &mut |_| {}).unwrap_err();
        assert!(error.to_string().contains("in its place"), "{error}");
    }
}

#[test]
fn an_object_in_the_place_of_a_folder_is_said_to_be_so() {
    let (_folder, store) = new_store();
    put(&store, "a", b"1").unwrap();
    let error = put(&store, "a/b", b"2").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Other);
    assert_eq!(
        error.to_string(),
        "cannot put a/b: an object has the name of its folder"
    );
    assert_eq!(
        store.get(&name("a/b"), 1).unwrap_err().kind(),
        ErrorKind::NotFound
    );
}

#[test]
fn what_is_no_object_is_not_listed() {
    let (folder, store) = new_store();
    put(&store, "packs/a", b"1").unwrap();
    for stranger in ["lost+found", ".tmp", "packs/.hidden"] {
        std::fs::create_dir(folder.path().join(stranger)).unwrap();
        std::fs::write(folder.path().join(stranger).join("file"), b"x").unwrap();
    }
    for stranger in [".DS_Store", "Thumbs.db", "packs/a~", ".tmp/lifeboat-0123"] {
        std::fs::write(folder.path().join(stranger), b"x").unwrap();
    }
    assert_eq!(listed(&store), ["packs/a"]);
}

#[test]
fn a_list_tells_when_an_object_was_put() {
    let (folder, store) = new_store();
    put(&store, "a", b"1").unwrap();
    let mut modified = None;
    store
        .list("", &mut |object| modified = object.modified)
        .unwrap();
    let wanted = std::fs::metadata(folder.path().join("a"))
        .unwrap()
        .modified()
        .unwrap();
    assert_eq!(modified, Some(wanted));
}

#[test]
fn files_that_others_left_do_not_disturb_and_old_ones_are_swept() {
    let (folder, store) = store_with_named_files();
    let room = folder.path().join(temporary::FOLDER);
    std::fs::create_dir(&room).unwrap();
    let old = File::create(room.join("lifeboat-old")).unwrap();
    old.set_modified(std::time::SystemTime::now() - Duration::from_secs(30 * 60 * 60))
        .unwrap();
    File::create(room.join("lifeboat-new")).unwrap();

    put(&store, "a", b"1").unwrap();
    assert_eq!(listed(&store), ["a"]);
    assert_eq!(names_in(&room), ["lifeboat-new"]);
}

#[test]
fn a_failed_put_leaves_nothing_behind() {
    for (folder, store) in [new_store(), store_with_named_files()] {
        let file = spool(&store).unwrap();
        file.write_all_at(b"short", 0).unwrap();
        let put = store.put_new(
            &name("a"),
            Body::File {
                file: &file,
                len: 6,
            },
        );
        assert_eq!(put.unwrap_err().kind(), ErrorKind::Truncated);
        assert!(listed(&store).is_empty());
        assert!(names_in(&folder.path().join(temporary::FOLDER)).is_empty());
    }
}

#[test]
fn a_put_makes_its_folder_again_when_somebody_removed_it() {
    let (folder, store) = new_store();
    put(&store, "packs/d/a", b"1").unwrap();
    store.get_range(&name("packs/d/a"), 0, &mut [0]).unwrap();
    std::fs::remove_dir_all(folder.path().join("packs")).unwrap();
    assert_eq!(
        store.get(&name("packs/d/a"), 1).unwrap_err().kind(),
        ErrorKind::NotFound
    );
    put(&store, "packs/d/a", b"2").unwrap();
    assert_eq!(store.get(&name("packs/d/a"), 1).unwrap(), b"2");
}

#[test]
fn what_another_process_deletes_and_puts_again_is_read_anew() {
    let (folder, store) = new_store();
    let other = LocalStore::open(folder.path()).unwrap();
    let mut byte = [0];
    put(&store, "a", b"1").unwrap();
    store.get_range(&name("a"), 0, &mut byte).unwrap();

    other.delete(&name("a")).unwrap();
    let gone = store.get_range(&name("a"), 0, &mut byte).unwrap_err();
    assert_eq!(gone.kind(), ErrorKind::NotFound);

    put(&other, "a", b"2").unwrap();
    store.get_range(&name("a"), 0, &mut byte).unwrap();
    assert_eq!(&byte, b"2");
}

#[test]
fn more_objects_and_folders_than_kept_handles_are_served() {
    let (_folder, store) = new_store();
    let names: Vec<_> = (0..300)
        .map(|number| name(&format!("{:02x}/{number}", number % 200)))
        .collect();
    for name in &names {
        store
            .put_new(name, Body::Bytes(name.as_str().as_bytes()))
            .unwrap();
    }
    for name in names.iter().chain(&names) {
        let mut bytes = vec![0; name.as_str().len()];
        store.get_range(name, 0, &mut bytes).unwrap();
        assert_eq!(bytes, name.as_str().as_bytes());
    }
    let handles = names_in(Path::new("/proc/self/fd")).len();
    assert!(handles < 900, "{handles} handles are open");
}

#[test]
fn reads_and_deletes_at_the_same_time_never_show_a_deleted_object() {
    let (_folder, store) = new_store();
    let store = Arc::new(store);
    for round in 0..50_u8 {
        put(&store, "a", &[round]).unwrap();
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    let mut byte = [0];
                    match store.get_range(&name("a"), 0, &mut byte) {
                        Ok(()) => assert_eq!(byte[0], round),
                        Err(error) => assert_eq!(error.kind(), ErrorKind::NotFound),
                    }
                });
            }
            store.delete(&name("a")).unwrap();
        });
        let gone = store.get_range(&name("a"), 0, &mut [0]).unwrap_err();
        assert_eq!(gone.kind(), ErrorKind::NotFound);
    }
}

#[test]
fn a_folder_that_others_can_enter_is_warned_about() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o700)).unwrap();
    let private = LocalStore::open(folder.path()).unwrap();
    assert_eq!(private.abilities().warnings, [""; 0]);
    std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let warnings = LocalStore::open(folder.path())
        .unwrap()
        .abilities()
        .warnings;
    assert_eq!(warnings.len(), 1);
    assert!(
        warnings[0].contains("0755") && warnings[0].contains("chmod 700"),
        "{warnings:?}"
    );
}

#[test]
fn a_store_is_created_in_a_new_or_empty_folder_only() {
    let parent = tempfile::tempdir().unwrap();
    let new = parent.path().join("a/b");
    LocalStore::create(&new).unwrap();
    assert_eq!((mode(&new), mode(&parent.path().join("a"))), (0o700, 0o700));

    // The root of a disk of its own.
    std::fs::create_dir(new.join("lost+found")).unwrap();
    let store = LocalStore::create(&new).unwrap();
    put(&store, "lifeboat", b"x").unwrap();
    let taken = LocalStore::create(&new).unwrap_err();
    assert_eq!(taken.kind(), ErrorKind::AlreadyExists);
    assert!(taken.to_string().contains("lifeboat"), "{taken}");
    let home = parent.path().join("home");
    std::fs::create_dir_all(home.join("Pictures")).unwrap();
    assert_eq!(
        LocalStore::create(&home).unwrap_err().kind(),
        ErrorKind::AlreadyExists
    );

    std::fs::write(parent.path().join("file"), b"x").unwrap();
    for path in ["file", "file/below"] {
        let path = parent.path().join(path);
        assert!(LocalStore::create(&path).is_err());
        assert!(LocalStore::open(&path).is_err());
    }
    let missing = LocalStore::open(&parent.path().join("missing"))
        .err()
        .unwrap();
    assert_eq!(missing.kind(), ErrorKind::NotFound);
}

#[test]
fn an_object_too_large_for_its_reader_is_refused_before_memory_is_taken() {
    let (folder, store) = new_store();
    // A hole of an exabyte would be refused by most file systems; a terabyte is enough.
    let huge = File::create(folder.path().join("huge")).unwrap();
    huge.set_len(1 << 40).unwrap();
    assert_eq!(
        store.get(&name("huge"), 1 << 20).unwrap_err().kind(),
        ErrorKind::TooLarge
    );
    let mut byte = [1];
    store
        .get_range(&name("huge"), (1 << 40) - 1, &mut byte)
        .unwrap();
    assert_eq!(byte, [0]);
}
