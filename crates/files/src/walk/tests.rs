//! Listing and opening folders of every kind.

use super::*;
use rustix::fs::{FileType, mknodat};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

fn names(listing: &Listing) -> Vec<Vec<u8>> {
    listing
        .iter()
        .map(|entry| entry.unwrap().name.to_vec())
        .collect()
}

#[test]
fn a_listing_is_sorted_by_bytes_and_keeps_any_name() {
    let scratch = tempfile::tempdir().unwrap();
    let mut wanted: Vec<Vec<u8>> = vec![
        b"plain".to_vec(),
        b"a\nb".to_vec(),
        b"-rf".to_vec(),
        b"*".to_vec(),
        b"back\\slash".to_vec(),
        b"dot. ".to_vec(),
        b"\xff\xfe".to_vec(),
        "e\u{301}".into(),
        "\u{e9}".into(),
        b"Case".to_vec(),
        b"case".to_vec(),
        vec![b'x'; 255],
        b"...".to_vec(),
        b"\x01".to_vec(),
    ];
    for name in &wanted {
        fs::write(scratch.path().join(OsStr::from_bytes(name)), name).unwrap();
    }
    wanted.sort();
    let mut folder = Folder::open(scratch.path()).unwrap();
    let mut listing = Listing::new();
    folder.list(&mut listing).unwrap();
    assert_eq!(names(&listing), wanted);
    folder.list(&mut listing).unwrap();
    assert_eq!(names(&listing), wanted, "listing a second time");
    for name in &wanted {
        assert!(listing.holds(name).unwrap());
        assert_eq!(folder.metadata(name).unwrap().size, name.len() as u64);
    }
    assert!(!listing.holds(b"missing").unwrap());
}

#[test]
fn a_folder_larger_than_the_buffer_is_listed_whole() {
    let scratch = tempfile::tempdir().unwrap();
    for number in 0..3000 {
        fs::write(
            scratch
                .path()
                .join(format!("a-name-of-some-length-{number:05}")),
            "",
        )
        .unwrap();
    }
    let mut folder = Folder::open(scratch.path()).unwrap();
    let mut listing = Listing::new();
    folder.list(&mut listing).unwrap();
    assert_eq!(listing.len(), 3000);
    assert_eq!(
        *listing.get(2999).unwrap().unwrap().name,
        *b"a-name-of-some-length-02999"
    );
    let other = tempfile::tempdir().unwrap();
    let mut empty = Folder::open(other.path()).unwrap();
    empty.list(&mut listing).unwrap();
    assert!(listing.is_empty());
    drop(other);
    assert_eq!(
        empty.list(&mut listing).unwrap_err().kind(),
        ErrorKind::Vanished
    );
}

#[test]
fn links_are_told_and_never_followed() {
    let scratch = tempfile::tempdir().unwrap();
    fs::create_dir(scratch.path().join("real")).unwrap();
    symlink("real", scratch.path().join("link")).unwrap();
    let long = OsStr::from_bytes(&[b'l'; 1000]).to_owned();
    symlink(&long, scratch.path().join("long")).unwrap();
    symlink(
        OsStr::from_bytes(b"no\xff\ntext"),
        scratch.path().join("bytes"),
    )
    .unwrap();
    let folder = Folder::open(scratch.path()).unwrap();
    assert_eq!(folder.metadata(b"link").unwrap().kind, Kind::Symlink);
    assert_eq!(folder.read_link(b"link").unwrap(), b"real");
    assert_eq!(folder.read_link(b"long").unwrap(), long.as_bytes());
    assert_eq!(folder.read_link(b"bytes").unwrap(), b"no\xff\ntext");
    assert_eq!(
        folder.read_link(b"real").unwrap_err().kind(),
        ErrorKind::Changed
    );
    assert_eq!(
        folder.open_child(b"link").unwrap_err().kind(),
        ErrorKind::Changed
    );
    assert_eq!(
        folder.open_beneath(b"link").unwrap_err().kind(),
        ErrorKind::Changed
    );
    assert!(folder.open_child(b"real").is_ok());
}

#[test]
fn what_vanished_is_told_apart_from_what_is_denied() {
    let scratch = tempfile::tempdir().unwrap();
    let folder = Folder::open(scratch.path()).unwrap();
    assert_eq!(
        folder.metadata(b"gone").unwrap_err().kind(),
        ErrorKind::Vanished
    );
    assert_eq!(
        folder.open_child(b"gone").unwrap_err().kind(),
        ErrorKind::Vanished
    );
    assert_eq!(
        folder.read_link(b"gone").unwrap_err().kind(),
        ErrorKind::Vanished
    );
    let closed = scratch.path().join("closed");
    fs::create_dir(&closed).unwrap();
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o000)).unwrap();
    match folder.open_child(b"closed") {
        Ok(_) => assert!(rustix::process::geteuid().is_root()),
        Err(error) => assert_eq!(error.kind(), ErrorKind::Denied),
    }
    // The metadata of what cannot be opened is still there.
    assert_eq!(folder.metadata(b"closed").unwrap().mode, 0);
}

#[test]
fn no_name_leads_out_of_the_folder() {
    let scratch = tempfile::tempdir().unwrap();
    fs::create_dir(scratch.path().join("a")).unwrap();
    fs::write(scratch.path().join("secret"), "").unwrap();
    let folder = Folder::open(&scratch.path().join("a")).unwrap();
    for name in [&b"../secret"[..], b"..", b".", b"", b"/etc/passwd"] {
        assert_eq!(
            folder.metadata(name).unwrap_err().kind(),
            ErrorKind::InvalidName
        );
        assert_eq!(
            folder.open_child(name).unwrap_err().kind(),
            ErrorKind::InvalidName
        );
    }
    assert_eq!(
        folder.open_beneath(b"..").unwrap_err().kind(),
        ErrorKind::InvalidName
    );
    assert_eq!(
        folder.open_beneath(b"x//y").unwrap_err().kind(),
        ErrorKind::InvalidName
    );
}

#[test]
fn metadata_says_what_the_standard_library_says() {
    use std::os::unix::fs::MetadataExt;
    let scratch = tempfile::tempdir().unwrap();
    fs::write(scratch.path().join("file"), vec![1; 10_000]).unwrap();
    let fifo_mode = Mode::RUSR | Mode::WUSR;
    let folder = Folder::open(scratch.path()).unwrap();
    mknodat(folder.fd(), c"fifo", FileType::Fifo, fifo_mode, 0).unwrap();
    for (name, kind) in [("file", Kind::File), ("fifo", Kind::Fifo)] {
        let ours = folder.metadata(name.as_bytes()).unwrap();
        let theirs = fs::symlink_metadata(scratch.path().join(name)).unwrap();
        assert_eq!(ours.kind, kind);
        assert_eq!(u32::from(ours.mode), theirs.mode() & 0o7777);
        assert_eq!((ours.uid, ours.gid), (theirs.uid(), theirs.gid()));
        assert_eq!((ours.dev, ours.inode), (theirs.dev(), theirs.ino()));
        assert_eq!((ours.size, ours.rdev), (theirs.size(), theirs.rdev()));
        assert_eq!(ours.mtime.seconds, theirs.mtime());
        assert_eq!(i64::from(ours.mtime.nanos), theirs.mtime_nsec());
        assert_eq!(ours.ctime.seconds, theirs.ctime());
        assert_eq!(ours.allocated, theirs.blocks() * 512);
        assert_eq!(u64::from(ours.nlink), theirs.nlink());
    }
    let device = Folder::open(Path::new("/dev"))
        .unwrap()
        .metadata(b"null")
        .unwrap();
    assert_eq!(device.kind, Kind::CharDevice);
    assert_eq!(device.rdev, fs::metadata("/dev/null").unwrap().rdev());
    assert!(
        Folder::open(Path::new("/proc"))
            .unwrap()
            .own_metadata()
            .unwrap()
            .mount_root
    );
    assert!(!folder.own_metadata().unwrap().mount_root);
}

#[test]
fn a_cache_is_known_by_its_tag_alone() {
    let scratch = tempfile::tempdir().unwrap();
    let mut listing = Listing::new();
    let mut is_cache = |content: Option<&str>| {
        if let Some(content) = content {
            fs::write(scratch.path().join("CACHEDIR.TAG"), content).unwrap();
        }
        let mut folder = Folder::open(scratch.path()).unwrap();
        folder.list(&mut listing).unwrap();
        folder.is_cache(&listing)
    };
    assert!(!is_cache(None));
    assert!(!is_cache(Some("")));
    assert!(!is_cache(Some(
        "Signature: 8a477f597d28d172789f06886806bc56\n"
    )));
    assert!(is_cache(Some(
        "Signature: 8a477f597d28d172789f06886806bc55"
    )));
    assert!(is_cache(Some(
        "Signature: 8a477f597d28d172789f06886806bc55\n# by a browser\n"
    )));
}
