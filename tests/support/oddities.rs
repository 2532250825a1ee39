//! A tree with everything that an entry of a folder can be, have or be called, as far as this machine lets us make it.
//!
//! **Invariant**: what cannot be made here is printed, and nothing else is left out. What only root can make (owners,
//! devices, attributes of the kernel) is made when the tests run as root.

use std::{
    ffi::{OsStr, OsString},
    fs,
    os::unix::{
        ffi::{OsStrExt, OsStringExt},
        fs::{FileExt, lchown, symlink},
    },
    path::Path,
};

use rustix::fs::{
    AtFlags, CWD, FileType, IFlags, Mode, OFlags, Timespec, Timestamps, XattrFlags, ioctl_getflags,
    ioctl_setflags, makedev, mkdirat, mknodat, open, openat, setxattr, utimensat,
};

use super::{
    account::is_root,
    trees::{Tree, noise},
};

/// Fills a tree with oddities.
pub(crate) fn fill(tree: &Tree) {
    names(tree);
    links(tree);
    specials(tree);
    holes(tree);
    attributes(tree);
    modes(tree);
    if is_root() {
        owners(tree);
    }
    // Last, as everything else touches the times.
    times(tree);
}

/// Makes `levels` folders inside each other below `root`, each with a name of `length` bytes, and a file in the last.
/// The whole path may be longer than a system call takes.
pub(crate) fn deep_folders(root: &Path, first: &str, levels: usize, length: usize) {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    let mut folder = open(root, flags, Mode::empty()).expect("the folder of a tree can be opened");
    for level in 0..levels {
        let name = if level == 0 {
            first.to_owned()
        } else {
            "d".repeat(length)
        };
        mkdirat(&folder, &name, Mode::from(0o755)).expect("a folder of a tree can be made");
        folder = openat(&folder, &name, flags, Mode::empty()).expect("what was made can be opened");
    }
    let create = OFlags::WRONLY | OFlags::CREATE;
    let file = openat(&folder, "bottom", create, Mode::from(0o644));
    fs::File::from(file.expect("a file of a tree can be made"))
        .write_all_at(b"far down\n", 0)
        .expect("a file of a tree can be written");
}

fn names(tree: &Tree) {
    let folder = tree.folder("names").root().join("names");
    let write = |name: &[u8]| {
        fs::write(folder.join(OsStr::from_bytes(name)), name).expect("any name can be used");
    };
    for byte in (1..=u8::MAX).filter(|byte| *byte != b'/') {
        write(&[b'x', byte, b'y']);
    }
    for name in [
        &b"-rf"[..],
        b" ",
        b"...",
        b"~",
        b"C:\\con",
        b"\xff\xfe",
        &[b'n'; 255],
    ] {
        write(name);
    }
    fs::create_dir(folder.join(OsString::from_vec(vec![0x80; 255]))).expect("any name can be used");
}

fn links(tree: &Tree) {
    tree.file("links/one", noise(1, 300_000))
        .second_name("links/below/two", "links/one")
        .second_name("links/z/three", "links/one")
        .file("links/empty", "")
        .second_name("links/empty-again", "links/empty")
        .link("links/dangling", "nowhere/at all")
        .link("links/absolute", "/etc/passwd")
        .link("links/upwards", "../../../..")
        .link("links/long", &"l".repeat(4095))
        .second_name("links/dangling-again", "links/dangling");
    symlink(
        OsStr::from_bytes(b"\xe9\n"),
        tree.root().join("links/bytes"),
    )
    .expect("a link of a tree can be made");
}

fn specials(tree: &Tree) {
    let place = |name: &str| tree.folder("specials").root().join("specials").join(name);
    mknodat(CWD, place("fifo"), FileType::Fifo, Mode::from(0o640), 0).expect("a pipe can be made");
    tree.second_name("specials/fifo-again", "specials/fifo");
    if is_root() {
        let zero = makedev(1, 5);
        let made = mknodat(
            CWD,
            place("zero"),
            FileType::CharacterDevice,
            Mode::from(0o666),
            zero,
        );
        attempted("a device", made);
    }
}

fn holes(tree: &Tree) {
    tree.folder("empty")
        .file("nothing", "")
        .sparse_file("holes/end", 64 << 20);
    let file = fs::File::create(tree.root().join("holes/middle"));
    let file = file.expect("a file of a tree can be made");
    for offset in [0, 10 << 20, 33 << 20] {
        file.write_all_at(&noise(offset + 1, 100_000), offset)
            .expect("a file of a tree can be written");
    }
    file.set_len(40 << 20).expect("a file can be lengthened");
}

/// What an access list in the kernel's form says: user 1234 may read, the mask lets it.
fn access_list() -> Vec<u8> {
    let mut list = 2_u32.to_le_bytes().to_vec();
    let unused = u32::MAX;
    for (tag, may, who) in [
        (0x01_u16, 6_u16, unused),
        (0x02, 4, 1234),
        (0x04, 4, unused),
        (0x10, 4, unused),
        (0x20, 0, unused),
    ] {
        list.extend_from_slice(&tag.to_le_bytes());
        list.extend_from_slice(&may.to_le_bytes());
        list.extend_from_slice(&who.to_le_bytes());
    }
    list
}

fn attributes(tree: &Tree) {
    tree.file("attributes/file", "with attributes")
        .folder("attributes/folder");
    let set = |path: &str, name: &str, value: &[u8]| {
        let path = tree.root().join(path);
        attempted(name, setxattr(path, name, value, XattrFlags::empty()));
    };
    for path in ["attributes/file", "attributes/folder"] {
        set(path, "user.empty", b"");
        set(path, "user.binary", &noise(3, 2_000));
        set(path, "system.posix_acl_access", &access_list());
    }
    set(
        "attributes/folder",
        "system.posix_acl_default",
        &access_list(),
    );
    if is_root() {
        set("attributes/file", "trusted.mark", b"root alone sees this");
        // May bind to low ports.
        let capability = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        set("attributes/file", "security.capability", &capability);
    }
    let file = fs::File::open(tree.root().join("attributes/folder")).expect("it can be opened");
    let flagged =
        ioctl_getflags(&file).and_then(|flags| ioctl_setflags(&file, flags | IFlags::NODUMP));
    attempted("an inode flag", flagged);
}

fn modes(tree: &Tree) {
    for mode in [
        0o400, 0o444, 0o644, 0o711, 0o755, 0o2711, 0o4711, 0o6755, 0o7777,
    ] {
        let path = format!("modes/file-{mode:o}");
        tree.file(&path, path.clone()).mode(&path, mode);
    }
    for mode in [0o500, 0o700, 0o1777, 0o2775] {
        let path = format!("modes/folder-{mode:o}");
        tree.folder(&path).mode(&path, mode);
    }
    if is_root() {
        tree.file("modes/file-0", "root alone")
            .mode("modes/file-0", 0);
    }
}

fn owners(tree: &Tree) {
    tree.file("owners/file", "given away")
        .folder("owners/folder")
        .link("owners/link", "file")
        .file("owners/set-user", "a changed owner takes this bit away");
    for (path, user, group) in [
        ("owners/file", 12_345, 54_321),
        ("owners/folder", 65_534, 0),
        ("owners/link", 4_000_000_000, 1),
        ("owners/set-user", 77, 78),
    ] {
        lchown(tree.root().join(path), Some(user), Some(group)).expect("root may give away");
    }
    tree.mode("owners/set-user", 0o4755);
}

fn times(tree: &Tree) {
    let times = [
        ("times/before-1970", -123_456_789, 987_654_321),
        ("times/zero", 0, 0),
        ("times/last-nanosecond", 1_700_000_000, 999_999_999),
        ("times/later", 4_000_000_000, 1),
        ("empty", 1_234_567_890, 123_456_789),
        ("links/dangling", 1_111_111_111, 222_222_222),
        ("specials/fifo", 1_333_333_333, 444_444_444),
    ];
    for (path, seconds, nanoseconds) in times {
        if path.starts_with("times/") {
            tree.file(path, path);
        }
        let time = Timespec {
            tv_sec: seconds,
            tv_nsec: nanoseconds,
        };
        let times = Timestamps {
            last_access: time,
            last_modification: time,
        };
        utimensat(
            CWD,
            tree.root().join(path),
            &times,
            AtFlags::SYMLINK_NOFOLLOW,
        )
        .expect("our own entry's time can be set");
    }
}

/// Says what this machine does not let us make.
fn attempted(what: &str, result: rustix::io::Result<()>) {
    if let Err(error) = result {
        println!("{what} cannot be made here: {error}");
    }
}
