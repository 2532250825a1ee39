//! What a restore promises, on whatever file system the temporary folder lies. Where a promise depends on being root
//! or on what the file system can hold, the test asserts what must happen in the other case instead.

use super::*;
use crate::attributes::{ACL_ACCESS, ACL_DEFAULT, Attributes, CAPABILITY, Carrier};
use crate::compare::{CompareOptions, compare};
use crate::entry::{Kind, Time};
use crate::error::{Error, ErrorKind};
use crate::listing::Listing;
use crate::metadata::{Identity, Metadata};
use crate::walk::Folder;
use rustix::fd::AsFd;
use rustix::fs::{
    AtFlags, CWD, FileType, Gid, IFlags, Mode, Timespec, Timestamps, UTIME_OMIT, Uid, chownat,
    ioctl_getflags, ioctl_setflags, makedev, mknodat, utimensat,
};
use rustix::io::Errno;
use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

mod complete;
mod existing;
mod hostile;
mod random;

/// A temporary folder in memory where there is one, for tests whose subject is not the file system.
fn quick_tempdir() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm")
        .or_else(|_| tempfile::tempdir())
        .unwrap()
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn over(overwrite: Overwrite) -> RestoreOptions {
    RestoreOptions {
        overwrite,
        devices: true,
        ..RestoreOptions::default()
    }
}

/// What a restore did: its problems, and the entries that it could not put back.
#[derive(Debug, Default)]
struct Done {
    problems: Vec<Problem>,
    errors: Vec<Error>,
}

impl Done {
    fn assert_clean(&self) {
        assert!(
            self.problems.is_empty() && self.errors.is_empty(),
            "{self:?}"
        );
    }
}

/// Copies the tree at `source` to `target` as a backup and a restore would; each folder is completed as soon as
/// everything below it is there.
fn copy(source: &Path, target: &Path, options: RestoreOptions, exact: bool) -> Done {
    let target = Target::prepare(target, options).unwrap();
    let mut done = Done::default();
    copy_into(source, &target, exact, &mut done.errors);
    done.problems = target.finish();
    done
}

fn copy_into(source: &Path, target: &Target, exact: bool, errors: &mut Vec<Error>) {
    let top = Folder::open(source).unwrap();
    target.describe_top(
        &top.own_metadata().unwrap(),
        top.own_attributes().attributes,
    );
    let mut originals = HashMap::new();
    let mut pending = vec![(Some(Vec::new()), FolderId::TOP)];
    while let Some((path, id)) = pending.pop() {
        let Some(path) = path else {
            target.complete([id]);
            continue;
        };
        pending.push((None, id));
        let mut folder = top.open_beneath(&path).unwrap();
        let mut listing = Listing::new();
        folder.list(&mut listing).unwrap();
        let into = target.open(id).unwrap();
        for entry in listing.iter() {
            let name = entry.unwrap().name;
            match copy_entry(&folder, &name, &into, &mut originals) {
                Ok(Some(id)) => {
                    let path = [&*path, &*name].join(&b'/');
                    let path = path.strip_prefix(b"/").unwrap_or(&path).to_vec();
                    pending.push((Some(path), id));
                }
                Ok(None) => {}
                Err(error) => errors.push(error),
            }
        }
        if exact {
            into.remove_extras(&mut |name| listing.holds(name).unwrap())
                .unwrap();
        }
    }
}

/// Copies one entry; returns the new folder if it was one.
fn copy_entry(
    from: &Folder,
    name: &[u8],
    into: &TargetFolder<'_>,
    originals: &mut HashMap<Identity, Original>,
) -> Result<Option<FolderId>, Error> {
    let metadata = from.metadata(name).unwrap();
    if metadata.kind == Kind::Folder {
        let attributes = from.open_child(name).unwrap().own_attributes().attributes;
        return into
            .create_folder(name, &metadata, attributes)
            .map(|made| Some(made.id()));
    }
    if let Some(original) = originals.get(&metadata.identity()) {
        return into.create_link(name, original).map(|_| None);
    }
    let restored = match metadata.kind {
        Kind::File => {
            let mut file = from.open_file(name, &metadata).unwrap();
            let mut content = vec![0; usize::try_from(metadata.size).unwrap() + 1];
            let count = file.read(&mut content).unwrap();
            content.truncate(count);
            let attributes = file.attributes().attributes;
            assert_eq!(file.finish().unwrap().change, None);
            into.write_file(name, &metadata, &attributes, &content)?
        }
        Kind::Symlink => {
            let points_to = from.read_link(name).unwrap();
            let attributes = from.attributes(name).unwrap().attributes;
            into.create_symlink(name, &points_to, &metadata, &attributes)?
        }
        _ => {
            let attributes = from.attributes(name).unwrap().attributes;
            into.create_special(name, &metadata, &attributes)?
        }
    };
    if let Some(original) = restored.original {
        originals.insert(metadata.identity(), original);
    }
    Ok(None)
}

fn assert_same(a: &Path, b: &Path) {
    let differences = compare(
        a,
        b,
        &CompareOptions {
            holes: true,
            ..CompareOptions::default()
        },
    );
    let differences: Vec<String> = differences
        .unwrap()
        .iter()
        .map(ToString::to_string)
        .collect();
    assert!(differences.is_empty(), "{differences:#?}");
}

/// Restores `source` into a new folder and asserts that nothing is missing or different.
fn assert_round_trip(source: &Path) {
    let scratch = tempfile::tempdir().unwrap();
    let target = scratch.path().join("new/target");
    copy(source, &target, over(Overwrite::Never), false).assert_clean();
    assert_same(source, &target);
    assert_no_leftovers(&target);
}

fn assert_no_leftovers(path: &Path) {
    for entry in fs::read_dir(path).unwrap() {
        let entry = entry.unwrap();
        assert!(
            !entry.file_name().as_bytes().starts_with(b".lifeboat-"),
            "{entry:?}"
        );
        if entry.file_type().unwrap().is_dir() {
            assert_no_leftovers(&entry.path());
        }
    }
}

fn set_time(path: &Path, seconds: i64, nanos: i64) {
    let times = Timestamps {
        last_access: Timespec {
            tv_sec: 0,
            tv_nsec: UTIME_OMIT,
        },
        last_modification: Timespec {
            tv_sec: seconds,
            tv_nsec: nanos,
        },
    };
    utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn make_special(path: &Path, kind: FileType, device: u64) {
    mknodat(CWD, path, kind, Mode::from_raw_mode(0o640), device).unwrap();
}

/// An access list with one named user and one named group, as the kernel stores it.
fn access_list(user: u32, group: u32) -> Vec<u8> {
    let entries = [
        (1, 7, u32::MAX),
        (2, 5, user),
        (4, 5, u32::MAX),
        (8, 4, group),
        (16, 5, u32::MAX),
        (32, 0, u32::MAX),
    ];
    let mut list = 2_u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in entries {
        list.extend(u16::to_le_bytes(tag));
        list.extend(u16::to_le_bytes(permissions));
        list.extend(u32::to_le_bytes(id));
    }
    list
}

fn change_flags(path: &Path, change: impl FnOnce(IFlags) -> IFlags) -> Result<(), Errno> {
    let file = File::open(path).unwrap();
    ioctl_setflags(&file, change(ioctl_getflags(&file)?))
}

fn set_attribute(path: &Path, name: &[u8], value: &[u8]) -> bool {
    let file = File::open(path).unwrap();
    Carrier::Open(file.as_fd()).set(name, value).is_ok()
}

#[test]
fn content_of_every_shape_comes_back() {
    let source = tempfile::tempdir().unwrap();
    let path = |name: &str| source.path().join(name);
    fs::write(path("empty"), "").unwrap();
    fs::write(path("one"), "1").unwrap();
    for size in [4095, 4096, 4097, 65_535, 65_536, 65_537, 1 << 20] {
        let content: Vec<u8> = (0..size).map(|at| (at % 253) as u8).collect();
        fs::write(path(&format!("of-{size}")), content).unwrap();
        fs::write(path(&format!("zeros-{size}")), vec![0; size]).unwrap();
    }
    let sparse = File::create(path("data-at-the-end")).unwrap();
    sparse.write_all_at(b"end", 8 << 20).unwrap();
    let hollow = File::create(path("hole-at-the-end")).unwrap();
    hollow.write_all_at(b"start", 0).unwrap();
    hollow.set_len(8 << 20).unwrap();
    assert_round_trip(source.path());
}

#[test]
fn zeros_become_holes_only_when_asked() {
    let scratch = tempfile::tempdir().unwrap();
    let content = [vec![1; 4096], vec![0; 4 << 20], vec![2; 4096]].concat();
    for sparse in [true, false] {
        let path = scratch.path().join(format!("sparse-{sparse}"));
        let options = RestoreOptions {
            sparse,
            ..RestoreOptions::default()
        };
        let target = Target::prepare(&path, options).unwrap();
        let top = target.open(FolderId::TOP).unwrap();
        let metadata = Metadata {
            mode: 0o600,
            ..Metadata::default()
        };
        top.write_file(b"f", &metadata, &Attributes::default(), &content)
            .unwrap();
        assert_eq!(fs::read(path.join("f")).unwrap(), content);
        let allocated = fs::metadata(path.join("f")).unwrap().blocks() * 512;
        assert_eq!(
            allocated < 1 << 20,
            sparse,
            "{allocated} bytes are allocated"
        );
    }
}

#[test]
fn several_threads_write_one_file_and_none_may_leave_a_gap() {
    let scratch = tempfile::tempdir().unwrap();
    let target = Target::prepare(&scratch.path().join("t"), over(Overwrite::Never)).unwrap();
    let top = target.open(FolderId::TOP).unwrap();
    let content: Vec<u8> = (0..1_000_003_u32).map(|at| (at % 241) as u8).collect();
    let metadata = Metadata {
        size: content.len() as u64,
        mode: 0o600,
        ..Metadata::default()
    };
    let slot = |name: &[u8]| match top.create_file(name, &metadata, Attributes::default()) {
        Ok(FileSlot::New(file)) => file,
        other => panic!("{other:?}"),
    };
    let file = slot(b"whole");
    std::thread::scope(|scope| {
        for part in 0..4 {
            let (file, content) = (&file, &content);
            scope.spawn(move || {
                for (number, piece) in content.chunks(10_000).enumerate() {
                    if number % 4 == part {
                        file.write_at(piece, number as u64 * 10_000).unwrap();
                    }
                }
            });
        }
    });
    file.finish().unwrap();
    assert_eq!(fs::read(scratch.path().join("t/whole")).unwrap(), content);

    let gap = slot(b"gap");
    gap.write_at(&content[..100], 0).unwrap();
    assert!(
        gap.write_at(&content[..100], content.len() as u64 - 99)
            .is_err()
    );
    assert!(gap.finish().is_err());
    drop(slot(b"given-up"));
    let left: Vec<_> = fs::read_dir(scratch.path().join("t")).unwrap().collect();
    assert_eq!(left.len(), 1, "{left:?}");
}

#[test]
fn times_come_back_to_the_nanosecond_or_are_told() {
    let source = tempfile::tempdir().unwrap();
    let moments = [
        (0, 0),
        (1, 999_999_999),
        (-1, 1),
        (-2_145_916_800, 5), // 1901
        (4_000_000_000, 7),  // 2096
        (15_032_385_535, 9), // 2446, the last year of ext4
        (9_300_000_000, 11), // 2264, after the last nanosecond that fits into 64 bits
    ];
    for (number, (seconds, nanos)) in moments.into_iter().enumerate() {
        let path = source.path().join(format!("f{number}"));
        fs::write(&path, "x").unwrap();
        set_time(&path, seconds, nanos);
        let folder = source.path().join(format!("d{number}"));
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("below"), "x").unwrap();
        set_time(&folder, seconds, nanos);
        let link = source.path().join(format!("l{number}"));
        symlink("x", &link).unwrap();
        set_time(&link, seconds, nanos);
    }
    assert_round_trip(source.path());

    let scratch = tempfile::tempdir().unwrap();
    let target = Target::prepare(&scratch.path().join("t"), over(Overwrite::Never)).unwrap();
    let far = Time {
        seconds: 1 << 40,
        nanos: 3,
    };
    let metadata = Metadata {
        mtime: far,
        mode: 0o600,
        ..Metadata::default()
    };
    let top = target.open(FolderId::TOP).unwrap();
    let owner = Folder::open(scratch.path())
        .unwrap()
        .own_metadata()
        .unwrap();
    let metadata = Metadata {
        uid: owner.uid,
        gid: owner.gid,
        ..metadata
    };
    top.write_file(b"far", &metadata, &Attributes::default(), b"")
        .unwrap();
    let got = fs::metadata(scratch.path().join("t/far")).unwrap().mtime();
    let problems = target.finish();
    assert_eq!(
        problems.iter().any(|problem| problem.what == What::Time),
        got != far.seconds
    );
}

#[test]
fn every_mode_comes_back_and_closed_folders_with_what_is_in_them() {
    let source = tempfile::tempdir().unwrap();
    for mode in [
        0, 0o400, 0o444, 0o600, 0o644, 0o664, 0o755, 0o777, 0o4755, 0o2755, 0o6711, 0o1644,
    ] {
        let path = source.path().join(format!("f{mode:o}"));
        fs::write(&path, "x").unwrap();
        // Only root can read what its owner may not.
        set_mode(&path, if is_root() { mode } else { mode | 0o400 });
    }
    for mode in [0o500, 0o555, 0o700, 0o755, 0o1777, 0o2775] {
        let path = source.path().join(format!("d{mode:o}"));
        fs::create_dir_all(path.join("below")).unwrap();
        fs::write(path.join("below/file"), "x").unwrap();
        set_mode(&path.join("below"), mode);
        set_mode(&path, mode);
    }
    assert_round_trip(source.path());
    for entry in fs::read_dir(source.path()).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            // So that the temporary folder can be removed without being root.
            set_mode(&path, 0o700);
            set_mode(&path.join("below"), 0o700);
        }
    }
}

#[test]
fn owners_come_back_or_one_problem_tells_that_none_did() {
    let scratch = tempfile::tempdir().unwrap();
    let owners = [
        (0, 0),
        (1, 2),
        (65_534, 65_534),
        (4_000_000_000, u32::MAX - 1),
    ];
    let target = Target::prepare(&scratch.path().join("t"), over(Overwrite::Never)).unwrap();
    let top = target.open(FolderId::TOP).unwrap();
    for (number, (uid, gid)) in owners.into_iter().enumerate() {
        let metadata = Metadata {
            uid,
            gid,
            mode: 0o4640,
            ..Metadata::default()
        };
        let name = |prefix: &str| format!("{prefix}{number}").into_bytes();
        let none = Attributes::default();
        top.write_file(&name("f"), &metadata, &none, b"x").unwrap();
        top.create_symlink(&name("l"), b"x", &metadata, &none)
            .unwrap();
        let folder = Metadata {
            mode: 0o750,
            ..metadata
        };
        top.create_folder(&name("d"), &folder, none).unwrap();
    }
    let problems = target.finish();
    if is_root() {
        assert!(problems.is_empty(), "{problems:?}");
        for (number, owner) in owners.into_iter().enumerate() {
            for prefix in ["f", "l", "d"] {
                let path = scratch.path().join(format!("t/{prefix}{number}"));
                let found = fs::symlink_metadata(path).unwrap();
                assert_eq!((found.uid(), found.gid()), owner);
                if prefix == "f" {
                    assert_eq!(found.mode() & 0o7777, 0o4640);
                }
            }
        }
    } else {
        let owner = problems
            .iter()
            .find(|problem| problem.what == What::Owner)
            .unwrap();
        assert!(owner.count >= 9, "{problems:?}");
        let own = rustix::process::geteuid().as_raw();
        for number in (0..owners.len()).filter(|number| owners[*number].0 != own) {
            let found = fs::metadata(scratch.path().join(format!("t/f{number}"))).unwrap();
            assert_eq!(
                found.mode() & 0o7000,
                0,
                "set-id bits only for the right owner"
            );
        }
    }
}

#[test]
fn one_owner_for_everything_is_given_to_everything() {
    let scratch = tempfile::tempdir().unwrap();
    let own = Folder::open(scratch.path())
        .unwrap()
        .own_metadata()
        .unwrap();
    let owner = Owner::All {
        uid: own.uid,
        gid: own.gid,
    };
    let options = RestoreOptions {
        owner,
        ..RestoreOptions::default()
    };
    let target = Target::prepare(&scratch.path().join("t"), options).unwrap();
    let top = target.open(FolderId::TOP).unwrap();
    let metadata = Metadata {
        uid: 12_345,
        gid: 54_321,
        mode: 0o644,
        ..Metadata::default()
    };
    top.write_file(b"f", &metadata, &Attributes::default(), b"x")
        .unwrap();
    top.create_symlink(b"l", b"f", &metadata, &Attributes::default())
        .unwrap();
    let problems = target.finish();
    assert!(problems.is_empty(), "{problems:?}");
    for name in ["f", "l"] {
        let found = fs::symlink_metadata(scratch.path().join("t").join(name)).unwrap();
        assert_eq!((found.uid(), found.gid()), (own.uid, own.gid));
    }
}

#[test]
fn hard_links_stay_one_object_across_folders() {
    let source = tempfile::tempdir().unwrap();
    let path = |name: &str| source.path().join(name);
    fs::create_dir_all(path("a/b")).unwrap();
    fs::write(path("a/first"), "content").unwrap();
    fs::hard_link(path("a/first"), path("a/b/second")).unwrap();
    fs::hard_link(path("a/first"), path("z-third")).unwrap();
    symlink("a/first", path("link")).unwrap();
    fs::hard_link(path("link"), path("a/link-again")).unwrap();
    make_special(&path("fifo"), FileType::Fifo, 0);
    fs::hard_link(path("fifo"), path("a/fifo-again")).unwrap();
    fs::write(path("single"), "content").unwrap();
    assert_round_trip(source.path());
}

#[test]
fn symbolic_links_keep_whatever_they_point_to() {
    let source = tempfile::tempdir().unwrap();
    let long = [b'p'; 4095];
    for (number, target) in [
        &b"relative"[..],
        b"/absolute/path",
        b"../../..",
        b"dangling/x",
        b"l4",
        b"\xff\xfe",
        b" ",
        &long,
    ]
    .into_iter()
    .enumerate()
    {
        // Some file systems hold less than Linux permits.
        let made = symlink(
            OsStr::from_bytes(target),
            source.path().join(format!("l{number}")),
        );
        assert!(made.is_ok() || target.len() > 1000, "{made:?}");
    }
    assert_round_trip(source.path());
}

#[test]
fn names_of_any_bytes_come_back() {
    let source = tempfile::tempdir().unwrap();
    let names: [&[u8]; 14] = [
        &[b'n'; 255],
        b"\xff\xfe\x80",
        b"new\nline",
        b"\x01\x1b[31m",
        b"-rf",
        b"*",
        b"back\\slash",
        b"trailing. ",
        b"...",
        "e\u{301}".as_bytes(),
        "\u{e9}".as_bytes(),
        b"Case",
        b"case",
        b".lifeboat-note",
    ];
    for name in names {
        fs::write(source.path().join(OsStr::from_bytes(name)), name).unwrap();
    }
    assert_round_trip_of_names(source.path());
}

/// As [`assert_round_trip`], for a tree with a name that looks like a temporary one.
fn assert_round_trip_of_names(source: &Path) {
    let scratch = tempfile::tempdir().unwrap();
    for (name, overwrite) in [("never", Overwrite::Never), ("always", Overwrite::Always)] {
        let target = scratch.path().join(name);
        copy(source, &target, over(overwrite), false).assert_clean();
        assert_same(source, &target);
    }
}

#[test]
fn attributes_and_access_lists_come_back() {
    let source = tempfile::tempdir().unwrap();
    let file = source.path().join("file");
    fs::write(&file, "x").unwrap();
    assert!(set_attribute(&file, b"user.empty", b""));
    assert!(set_attribute(&file, b"user.bytes", b"\0\xff\n"));
    // ext4 keeps what fits into a block; others up to 64 KiB.
    let _ = set_attribute(&file, b"user.large", &vec![b'v'; 65_536])
        || set_attribute(&file, b"user.large", &vec![b'v'; 3000]);
    set_attribute(&file, ACL_ACCESS, &access_list(1234, 4321));
    let folder = source.path().join("folder");
    fs::create_dir(&folder).unwrap();
    set_attribute(&folder, b"user.of", b"folder");
    set_attribute(&folder, ACL_ACCESS, &access_list(1, 2));
    fs::write(
        folder.join("before"),
        "made before the folder had a default list",
    )
    .unwrap();
    set_attribute(&folder, ACL_DEFAULT, &access_list(3, 4));
    fs::write(
        folder.join("after"),
        "has got an access list from the folder",
    )
    .unwrap();
    fs::create_dir(folder.join("below")).unwrap();
    let read_only = source.path().join("read-only");
    fs::write(&read_only, "x").unwrap();
    set_attribute(&read_only, b"user.note", b"kept");
    set_mode(&read_only, 0o444);
    if is_root() {
        // Version 2, CAP_NET_BIND_SERVICE, effective.
        let capability = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        assert!(set_attribute(&file, CAPABILITY, &capability));
        set_attribute(&file, b"trusted.note", b"kept");
        chownat(
            CWD,
            &file,
            Some(Uid::from_raw(77)),
            Some(Gid::from_raw(88)),
            AtFlags::empty(),
        )
        .unwrap();
        assert!(set_attribute(&file, CAPABILITY, &capability));
    }
    assert_round_trip(source.path());
}

#[test]
fn nothing_is_inherited_from_the_target() {
    let source = tempfile::tempdir().unwrap();
    fs::create_dir_all(source.path().join("a/b")).unwrap();
    fs::write(source.path().join("a/file"), "x").unwrap();
    fs::write(source.path().join("file"), "x").unwrap();
    make_special(&source.path().join("fifo"), FileType::Fifo, 0);
    for overwrite in [Overwrite::Never, Overwrite::Always] {
        let scratch = tempfile::tempdir().unwrap();
        let target = scratch.path().join("t");
        fs::create_dir(&target).unwrap();
        assert!(set_attribute(&target, ACL_DEFAULT, &access_list(1, 2)));
        set_mode(&target, 0o2777);
        copy(source.path(), &target, over(overwrite), false).assert_clean();
        assert_same(source.path(), &target);
    }
}

#[test]
fn inode_flags_come_back_or_are_told() {
    let source = tempfile::tempdir().unwrap();
    let scratch = tempfile::tempdir().unwrap();
    let mut flagged = Vec::new();
    for (name, flag) in [
        ("immutable", IFlags::IMMUTABLE),
        ("append", IFlags::APPEND),
        ("nodump", IFlags::NODUMP),
    ] {
        let path = source.path().join(name);
        fs::write(&path, "x").unwrap();
        let file = File::open(&path).unwrap();
        if ioctl_setflags(&file, flag).is_ok() {
            flagged.push(name);
        }
        let folder = source.path().join(format!("{name}-folder"));
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("below"), "x").unwrap();
        let _ = ioctl_setflags(File::open(&folder).unwrap(), flag);
    }
    assert!(!is_root() || !flagged.is_empty());
    let target = scratch.path().join("t");
    let done = copy(source.path(), &target, over(Overwrite::Never), false);
    done.assert_clean();
    assert_same(source.path(), &target);
    for top in [source.path(), &target] {
        for entry in fs::read_dir(top).unwrap() {
            // So that the temporary folders can be removed.
            let _ = ioctl_setflags(File::open(entry.unwrap().path()).unwrap(), IFlags::empty());
        }
    }
}

#[test]
fn a_file_that_takes_no_more_names_gets_all_of_them_first() {
    let source = tempfile::tempdir().unwrap();
    let scratch = tempfile::tempdir().unwrap();
    let target = scratch.path().join("t");
    for (name, flag) in [("i", IFlags::IMMUTABLE), ("a", IFlags::APPEND)] {
        let path = |folder: &str| source.path().join(folder).join(name);
        for folder in ["1", "2"] {
            fs::create_dir_all(source.path().join(folder)).unwrap();
        }
        fs::write(path("1"), "x").unwrap();
        fs::hard_link(path("1"), path("2")).unwrap();
        let flagged = change_flags(&path("1"), |flags| flags | flag);
        assert!(!is_root() || flagged.is_ok(), "{flagged:?}");
    }
    let clear = |top: &Path| {
        for name in ["i", "a"] {
            // So that the temporary folders can be removed.
            let sealing = IFlags::IMMUTABLE | IFlags::APPEND;
            let _ = change_flags(&top.join("1").join(name), |flags| flags - sealing);
        }
    };
    copy(source.path(), &target, over(Overwrite::Never), false).assert_clean();
    assert_same(source.path(), &target);
    clear(&target);
    // What is kept gets its flags back too.
    copy(source.path(), &target, over(Overwrite::IfChanged), false).assert_clean();
    assert_same(source.path(), &target);
    clear(&target);
    clear(source.path());
}

#[test]
fn who_gets_everything_gets_no_program_that_acts_for_him() {
    let scratch = tempfile::tempdir().unwrap();
    let found = Folder::open(scratch.path()).unwrap();
    let own = found.own_metadata().unwrap();
    let options = RestoreOptions {
        owner: Owner::All {
            uid: own.uid,
            gid: own.gid,
        },
        ..RestoreOptions::default()
    };
    let target = Target::prepare(&scratch.path().join("t"), options).unwrap();
    let top = target.open(FolderId::TOP).unwrap();
    let none = Attributes::default();
    for (name, uid, gid) in [
        ("others", own.uid + 1, own.gid + 1),
        ("group", own.uid, own.gid + 1),
        ("own", own.uid, own.gid),
    ] {
        let metadata = Metadata {
            mode: 0o6755,
            uid,
            gid,
            ..Metadata::default()
        };
        top.write_file(name.as_bytes(), &metadata, &none, b"x")
            .unwrap();
    }
    let problems = target.finish();
    let told: Vec<_> = problems.iter().map(|one| (&one.what, one.count)).collect();
    assert_eq!(told, [(&What::Mode, 2)]);
    for (name, mode) in [("others", 0o755), ("group", 0o4755), ("own", 0o6755)] {
        let found = fs::metadata(scratch.path().join("t").join(name)).unwrap();
        assert_eq!(found.mode() & 0o7777, mode, "{name}");
    }
}

#[test]
fn a_target_that_is_made_belongs_to_the_one_owner_too() {
    if !is_root() {
        eprintln!("root alone gives folders away: another test sees that the own one is kept");
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("t");
    let options = RestoreOptions {
        owner: Owner::All { uid: 7, gid: 8 },
        ..RestoreOptions::default()
    };
    let target = Target::prepare(&path, options).unwrap();
    assert!(target.finish().is_empty());
    let found = fs::metadata(&path).unwrap();
    assert_eq!((found.uid(), found.gid()), (7, 8));
}

#[test]
fn pipes_come_back_and_what_is_left_out_is_told() {
    let scratch = tempfile::tempdir().unwrap();
    let source = scratch.path().join("s");
    fs::create_dir(&source).unwrap();
    make_special(&source.join("fifo"), FileType::Fifo, 0);
    set_mode(&source.join("fifo"), 0o622);
    make_special(&source.join("socket"), FileType::Socket, 0);
    if is_root() {
        make_special(
            &source.join("char"),
            FileType::CharacterDevice,
            makedev(1, 3),
        );
        make_special(
            &source.join("block"),
            FileType::BlockDevice,
            makedev(7, 200),
        );
    }
    let without = scratch.path().join("without");
    let done = copy(&source, &without, RestoreOptions::default(), false);
    let left_out: Vec<_> = done
        .problems
        .iter()
        .map(|problem| problem.what.clone())
        .collect();
    assert!(left_out.contains(&What::Skipped(Kind::Socket)));
    assert_eq!(
        left_out.contains(&What::Skipped(Kind::CharDevice)),
        is_root()
    );
    assert_eq!(fs::read_dir(&without).unwrap().count(), 1);
    let with = scratch.path().join("with");
    let done = copy(&source, &with, over(Overwrite::Never), false);
    assert_eq!(done.problems.len(), 1, "{done:?}");
    fs::remove_file(source.join("socket")).unwrap();
    let times = CompareOptions {
        times: false,
        ..CompareOptions::default()
    };
    assert_eq!(compare(&source, &with, &times).unwrap(), []);
}

#[test]
fn until_the_end_nobody_else_can_enter() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("t");
    let target = Target::prepare(&path, over(Overwrite::Never)).unwrap();
    let top = target.open(FolderId::TOP).unwrap();
    let own = Folder::open(scratch.path())
        .unwrap()
        .own_metadata()
        .unwrap();
    let metadata = Metadata {
        mode: 0o777,
        uid: own.uid,
        gid: own.gid,
        ..Metadata::default()
    };
    let folder = top
        .create_folder(b"d", &metadata, Attributes::default())
        .unwrap();
    folder
        .write_file(b"f", &metadata, &Attributes::default(), b"secret")
        .unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o7777;
    assert_eq!(mode(&path), 0o700);
    assert_eq!(mode(&path.join("d")), 0o700);
    drop((folder, top));
    assert!(target.finish().is_empty());
    assert_eq!(mode(&path.join("d")), 0o777);
    assert_eq!(mode(&path.join("d/f")), 0o777);
    // A top that nobody described is as open as a folder made by hand.
    fs::create_dir(scratch.path().join("by-hand")).unwrap();
    assert_eq!(mode(&path), mode(&scratch.path().join("by-hand")));
}

#[test]
fn a_tree_deeper_than_any_path_is_restored_compared_and_removed() {
    let scratch = quick_tempdir();
    let depth = 5000;
    let name = [b'd'; 40];
    let own = Folder::open(scratch.path())
        .unwrap()
        .own_metadata()
        .unwrap();
    let metadata = Metadata {
        mode: 0o755,
        uid: own.uid,
        gid: own.gid,
        ..Metadata::default()
    };
    let path = scratch.path().join("t");
    let target = Target::prepare(&path, over(Overwrite::Never)).unwrap();
    let mut folder = target.open(FolderId::TOP).unwrap();
    for _ in 0..depth {
        folder = folder
            .create_folder(&name, &metadata, Attributes::default())
            .unwrap();
    }
    let deepest = folder.id();
    drop(folder);
    let folder = target.open(deepest).unwrap();
    folder
        .write_file(b"bottom", &metadata, &Attributes::default(), b"reached")
        .unwrap();
    drop(folder);
    let problems = target.finish();
    assert!(problems.is_empty(), "{problems:?}");
    let top = Folder::open(&path).unwrap();
    let bottom = top
        .open_beneath(&vec![&name[..]; depth].join(&b'/'))
        .unwrap();
    assert_eq!(bottom.metadata(b"bottom").unwrap().size, 7);
    assert_eq!(bottom.own_metadata().unwrap().mode, 0o755);
    drop((bottom, top));
    let target = Target::prepare(&path, over(Overwrite::Always)).unwrap();
    assert_eq!(
        target
            .open(FolderId::TOP)
            .unwrap()
            .remove_extras(&mut |_| false)
            .unwrap(),
        1
    );
    assert_eq!(fs::read_dir(&path).unwrap().count(), 0);
}

#[test]
fn a_durable_restore_ends_without_a_problem() {
    let scratch = tempfile::tempdir().unwrap();
    let source = scratch.path().join("s");
    fs::create_dir_all(source.join("a/b")).unwrap();
    fs::write(source.join("a/b/c"), "x").unwrap();
    let options = RestoreOptions {
        durable: true,
        ..RestoreOptions::default()
    };
    copy(&source, &scratch.path().join("t"), options, false).assert_clean();
}
