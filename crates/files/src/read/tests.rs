//! Reading files that change, vanish or are exchanged.

use super::*;
use crate::attributes::Carrier;
use rustix::fs::{FileType, IFlags, Mode, ioctl_setflags, mknodat};
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::Path;

const SIZE: usize = 5000;

/// Opens a file of `SIZE` bytes, reads all of it, lets `meanwhile` happen before the end and returns what was found.
fn read_while(meanwhile: impl FnOnce(&Path)) -> Finished {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("f");
    fs::write(&path, vec![7; SIZE]).unwrap();
    let folder = Folder::open(scratch.path()).unwrap();
    let seen = folder.metadata(b"f").unwrap();
    let mut file = folder.open_file(b"f", &seen).unwrap();
    let mut buffer = vec![0; SIZE + 1];
    assert_eq!(file.read(&mut buffer).unwrap(), SIZE);
    assert_eq!(buffer[..SIZE], [7; SIZE]);
    // The clock that stamps changes may be as coarse as a few milliseconds.
    std::thread::sleep(Duration::from_millis(30));
    meanwhile(&path);
    file.finish().unwrap()
}

#[test]
fn a_file_that_stays_the_same_is_read_without_a_change() {
    let finished = read_while(|_| {});
    assert_eq!(finished.change, None);
    assert_eq!(finished.metadata.size, SIZE as u64);
}

#[test]
fn whatever_happens_to_a_file_while_it_is_read_is_noticed() {
    let modified = Some(Change::Modified);
    let append = |path: &Path| {
        File::options()
            .append(true)
            .open(path)
            .unwrap()
            .write_all(b"more")
            .unwrap();
    };
    assert_eq!(read_while(append).change, modified);
    let shrink = |path: &Path| {
        File::options()
            .write(true)
            .open(path)
            .unwrap()
            .set_len(10)
            .unwrap();
    };
    assert_eq!(read_while(shrink).change, modified);
    let same_size = |path: &Path| {
        let file = File::options().write(true).open(path).unwrap();
        let before = file.metadata().unwrap().modified().unwrap();
        (&file).write_all(b"other").unwrap();
        // Whoever puts the time back cannot put back the time of change.
        file.set_modified(before).unwrap();
    };
    assert_eq!(read_while(same_size).change, modified);
    let rename_over = |path: &Path| {
        let other = path.with_extension("new");
        fs::write(&other, vec![7; SIZE]).unwrap();
        fs::rename(other, path).unwrap();
    };
    assert_eq!(read_while(rename_over).change, Some(Change::Replaced));
    let swap_for_link = |path: &Path| {
        fs::remove_file(path).unwrap();
        symlink("/dev/zero", path).unwrap();
    };
    assert_eq!(read_while(swap_for_link).change, Some(Change::Replaced));
    // It was written just before, so nobody can say that it was not written since.
    assert_eq!(
        read_while(|path| fs::remove_file(path).unwrap()).change,
        Some(Change::Removed)
    );
}

#[test]
fn a_file_that_only_goes_away_while_it_is_read_is_whole() {
    let read_while = |change: &dyn Fn(&Path)| {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("f");
        fs::write(&path, vec![7; SIZE]).unwrap();
        let long_ago = SystemTime::now() - Duration::from_secs(60);
        File::options()
            .write(true)
            .open(&path)
            .unwrap()
            .set_modified(long_ago)
            .unwrap();
        let folder = Folder::open(scratch.path()).unwrap();
        let seen = folder.metadata(b"f").unwrap();
        let mut file = folder.open_file(b"f", &seen).unwrap();
        let mut content = vec![0; SIZE + 1];
        assert_eq!(file.read(&mut content).unwrap(), SIZE);
        change(&path);
        let finished = file.finish().unwrap();
        (finished.change, finished.metadata == seen)
    };
    let remove = |path: &Path| fs::remove_file(path).unwrap();
    assert_eq!(read_while(&remove), (None, true));
    let write_and_remove = |path: &Path| {
        fs::write(path, vec![8; SIZE]).unwrap();
        fs::remove_file(path).unwrap();
    };
    assert_eq!(read_while(&write_and_remove).0, Some(Change::Removed));
}

#[test]
fn reading_only_a_part_is_not_taken_for_the_whole() {
    let scratch = tempfile::tempdir().unwrap();
    fs::write(scratch.path().join("f"), vec![7; SIZE]).unwrap();
    let folder = Folder::open(scratch.path()).unwrap();
    let mut file = folder
        .open_file(b"f", &folder.metadata(b"f").unwrap())
        .unwrap();
    assert_eq!(file.read(&mut [0; 100]).unwrap(), 100);
    assert_eq!(file.finish().unwrap().change, Some(Change::Modified));
}

#[test]
fn what_took_the_place_of_a_listed_file_is_not_opened() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("f");
    fs::write(&path, "x").unwrap();
    let folder = Folder::open(scratch.path()).unwrap();
    let seen = folder.metadata(b"f").unwrap();
    let swaps: [&dyn Fn(); 5] = [
        &|| fs::create_dir(&path).unwrap(),
        &|| symlink("elsewhere", &path).unwrap(),
        &|| mknodat(folder.fd(), c"f", FileType::Fifo, Mode::RUSR, 0).unwrap(),
        &|| mknodat(folder.fd(), c"f", FileType::Socket, Mode::RUSR, 0).unwrap(),
        &|| {
            fs::write(scratch.path().join("other"), "x").unwrap();
            fs::rename(scratch.path().join("other"), &path).unwrap();
        },
    ];
    // The object stays alive under this name, so that its number is not given to another.
    fs::hard_link(&path, scratch.path().join("kept")).unwrap();
    for swap in swaps {
        fs::remove_file(&path)
            .or_else(|_| fs::remove_dir(&path))
            .unwrap();
        swap();
        assert_eq!(
            folder.open_file(b"f", &seen).unwrap_err().kind(),
            ErrorKind::Changed
        );
    }
    fs::remove_file(&path).unwrap();
    assert_eq!(
        folder.open_file(b"f", &seen).unwrap_err().kind(),
        ErrorKind::Vanished
    );
}

#[test]
fn large_files_come_in_pieces_and_end_once() {
    let scratch = tempfile::tempdir().unwrap();
    let content: Vec<u8> = (0..3_000_000_u32)
        .map(|number| (number % 251) as u8)
        .collect();
    fs::write(scratch.path().join("f"), &content).unwrap();
    let folder = Folder::open(scratch.path()).unwrap();
    let mut file = folder
        .open_file(b"f", &folder.metadata(b"f").unwrap())
        .unwrap();
    let mut piece = vec![0; 1 << 20];
    let mut read = Vec::new();
    loop {
        let count = file.read(&mut piece).unwrap();
        read.extend_from_slice(&piece[..count]);
        if count < piece.len() {
            break;
        }
    }
    assert_eq!(read, content);
    assert_eq!(file.read(&mut piece).unwrap(), 0);
    assert_eq!(file.finish().unwrap().change, None);
}

#[test]
fn attributes_and_flags_are_read_from_the_open_file() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("f");
    let handle = File::create(&path).unwrap();
    Carrier::Open(handle.as_fd())
        .set(b"user.note", b"\0bytes\xff")
        .unwrap();
    let flagged = ioctl_setflags(&handle, IFlags::NODUMP).is_ok();
    let folder = Folder::open(scratch.path()).unwrap();
    let file = folder
        .open_file(b"f", &folder.metadata(b"f").unwrap())
        .unwrap();
    let read = file.attributes();
    assert!(read.unread.is_empty());
    assert_eq!(read.attributes.get(b"user.note"), Some(&b"\0bytes\xff"[..]));
    assert_eq!(
        read.attributes.flags,
        if flagged { IFlags::NODUMP.bits() } else { 0 }
    );
}
