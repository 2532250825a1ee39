//! Temporary files: without a name where the file system can make such, otherwise with one that
//! nobody else has.
//!
//! A file without a name (`O_TMPFILE`) vanishes with its last handle, so that a killed process
//! leaves nothing behind. A named one lies in the hidden folder [`FOLDER`], which no object's name
//! can reach; what killed processes left there is swept by age.
//!
//! **Invariant:** temporary files are made with mode 0600 and never through a link.

use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;

/// The folder below a store's own that holds temporary files. The dot keeps it apart from objects.
pub(crate) const FOLDER: &str = ".tmp";

/// How temporary names begin: the sweep touches nothing else.
const PREFIX: &str = "lifeboat-";

/// The age from which a named temporary file counts as left behind, in seconds. A live one is
/// renamed within the minutes that one object takes; were a slower one swept all the same, its put
/// would fail and be repeated.
const LEFT_BEHIND_SECONDS: i64 = 24 * 60 * 60;

/// Makes a file without a name; `None` where the file system cannot.
pub(crate) fn unnamed(folder: impl AsFd) -> io::Result<Option<File>> {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    match rustix::fs::openat(folder, ".", flags, Mode::RUSR | Mode::WUSR) {
        Ok(file) => Ok(Some(File::from(file))),
        // EISDIR and ENOENT are what kernels and servers say that do not know the flag at all.
        Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::NOENT | Errno::INVAL | Errno::NOSYS) => {
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

/// Makes a file with a new random name and returns both.
pub(crate) fn named(folder: impl AsFd) -> io::Result<(File, String)> {
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::RDWR | OFlags::CLOEXEC;
    // The names need not be secret (O_EXCL decides whose a name is), only unlikely to collide: the
    // keys that the standard library draws for its hash maps are random enough.
    let random = RandomState::new();
    for attempt in 0..16_u32 {
        let name = format!(
            "{PREFIX}{:016x}",
            random.hash_one((std::process::id(), attempt))
        );
        match rustix::fs::openat(folder.as_fd(), &name, flags, Mode::RUSR | Mode::WUSR) {
            Ok(file) => return Ok((File::from(file), name)),
            Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(Errno::EXIST.into())
}

/// Removes what killed processes left in a folder of temporary files.
///
/// The age is measured against `newest`, a file just made in the same folder, so that the storage's
/// own clock decides and no other.
pub(crate) fn sweep(folder: impl AsFd, newest: &File) -> io::Result<()> {
    let now_seconds = newest.metadata()?.mtime();
    for entry in Dir::read_from(folder.as_fd())? {
        let entry = entry?;
        let name = entry.file_name();
        if !name.to_bytes().starts_with(PREFIX.as_bytes()) {
            continue;
        }
        // Another process may sweep at the same time: what is gone already is no error.
        let stat = match rustix::fs::statat(folder.as_fd(), name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => continue,
            found => found?,
        };
        let is_file = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
        if is_file && now_seconds.saturating_sub(stat.st_mtime) > LEFT_BEHIND_SECONDS {
            match rustix::fs::unlinkat(folder.as_fd(), name, AtFlags::empty()) {
                Err(Errno::NOENT) => {}
                removed => removed?,
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;
    use std::time::{Duration, SystemTime};

    #[test]
    fn temporary_files_are_private() {
        let folder = tempfile::tempdir().unwrap();
        let handle = File::open(folder.path()).unwrap();
        let (file, name) = named(&handle).unwrap();
        assert_eq!(
            file.metadata().unwrap().permissions().mode() & 0o7777,
            0o600
        );
        assert_ne!(named(&handle).unwrap().1, name);
        if let Some(file) = unnamed(&handle).unwrap() {
            assert_eq!(
                file.metadata().unwrap().permissions().mode() & 0o7777,
                0o600
            );
            assert_eq!(file.metadata().unwrap().nlink(), 0);
        }
    }

    #[test]
    fn the_sweep_takes_old_temporary_files_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let handle = File::open(folder.path()).unwrap();
        let two_days_ago = SystemTime::now() - Duration::from_secs(2 * 24 * 60 * 60);
        for name in ["lifeboat-left", "keep-me"] {
            let file = File::create(folder.path().join(name)).unwrap();
            file.set_modified(two_days_ago).unwrap();
        }
        std::fs::create_dir(folder.path().join("lifeboat-folder")).unwrap();
        let (_recent, recent_name) = named(&handle).unwrap();
        let (newest, newest_name) = named(&handle).unwrap();

        sweep(&handle, &newest).unwrap();

        let mut left: Vec<_> = std::fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        let mut expected = vec![
            "keep-me".into(),
            "lifeboat-folder".into(),
            recent_name,
            newest_name,
        ];
        expected.sort();
        assert_eq!(left, expected);
    }
}
