//! One entry takes the place of another: two names change their objects in a single step.
//!
//! Both lie under paths that the caller has made complete: no link in them is followed, so that whoever may write into a
//! folder on the way leads nobody elsewhere. Invariant: nothing is replaced. Either both objects are still there afterwards, each under one of the two names, or nothing has changed.

use crate::error::{Error, ErrorKind};
use crate::held::HeldFolder;
use crate::metadata::{Metadata, stat_name};
use rustix::fs::{RenameFlags, fsync, renameat_with};
use rustix::io::Errno;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// The mounts that this process sees.
const MOUNTS: &str = "/proc/self/mountinfo";

/// A name, and the open folder that it stands in.
struct Entry<'a> {
    folder: Rc<HeldFolder>,
    name: &'a [u8],
    path: &'a [u8],
}

impl<'a> Entry<'a> {
    fn of(path: &'a Path, action: &'static str) -> Result<Self, Error> {
        let bytes = path.as_os_str().as_bytes();
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            let reason = "it is no entry of a folder";
            return Err(Error::because(
                ErrorKind::InvalidName,
                action,
                bytes,
                reason,
            ));
        };
        let folder = Rc::new(HeldFolder::open(parent)?);
        Ok(Self {
            folder,
            name: name.as_bytes(),
            path: bytes,
        })
    }

    fn within(folder: &Rc<HeldFolder>, name: &'a OsStr) -> Self {
        Self {
            folder: folder.clone(),
            name: name.as_bytes(),
            path: name.as_bytes(),
        }
    }

    fn rename(&self, to: &Self, flags: RenameFlags) -> Result<(), Errno> {
        renameat_with(self.folder.fd(), self.name, to.folder.fd(), to.name, flags)
    }

    /// Renames it to what has no object yet.
    fn rename_new(&self, to: &Self) -> Result<(), Errno> {
        match self.rename(to, RenameFlags::NOREPLACE) {
            // Some file systems of networks know no flags. Whoever else would take the name just now, takes a random one.
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
                match stat_name(to.folder.fd(), to.name) {
                    Err(Errno::NOENT) => self.rename(to, RenameFlags::empty()),
                    Ok(_) => Err(Errno::EXIST),
                    Err(errno) => Err(errno),
                }
            }
            renamed => renamed,
        }
    }

    fn sync(&self) -> Result<(), Error> {
        fsync(self.folder.fd())
            .map_err(|errno| Error::from_errno("make durable the name of", self.path, errno))
    }
}

/// What stands at a path; `None` when nothing does. A symbolic link stands for itself.
pub fn standing(path: &Path) -> Result<Option<Metadata>, Error> {
    let action = "look at";
    let entry = match Entry::of(path, action) {
        Err(error) if error.kind() == ErrorKind::Vanished => return Ok(None),
        entry => entry?,
    };
    match stat_name(entry.folder.fd(), entry.name) {
        Ok(metadata) => Ok(Some(metadata)),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(Error::from_errno(action, entry.path, errno)),
    }
}

/// Lets two entries of one file system change names. `false` when the file system cannot do that in one step; then
/// nothing has changed. Durable when it returns.
///
/// # Errors
/// When one of them is not there, or may not be renamed.
pub fn exchange(one: &Path, other: &Path) -> Result<bool, Error> {
    let action = "exchange";
    let (one, other) = (Entry::of(one, action)?, Entry::of(other, action)?);
    match one.rename(&other, RenameFlags::EXCHANGE) {
        Ok(()) => {}
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => return Ok(false),
        Err(errno) => return Err(Error::from_errno(action, other.path, errno)),
    }
    one.sync()?;
    other.sync()?;
    Ok(true)
}

/// Gives an entry a name that nothing has yet. Durable when it returns.
///
/// # Errors
/// When something has the name, or the entry may not be renamed.
pub fn rename_new(from: &Path, to: &Path) -> Result<(), Error> {
    let action = "rename to";
    let (from, to) = (Entry::of(from, action)?, Entry::of(to, action)?);
    from.rename_new(&to)
        .map_err(|errno| Error::from_errno(action, to.path, errno))?;
    to.sync()?;
    from.sync()
}

/// Moves every entry of the folder `from`, but the one called `except`, into the folder `to` of the same file system, where
/// nothing may have their names. What comes while it goes on is moved too. Durable when it returns.
///
/// # Errors
/// When an entry may not be renamed or something has its name; those before it have been moved.
pub fn move_entries(from: &Path, to: &Path, except: Option<&OsStr>) -> Result<(), Error> {
    let action = "rename to";
    let (source, target) = (HeldFolder::open(from)?, HeldFolder::open(to)?);
    let (source, target) = (Rc::new(source), Rc::new(target));
    let listed = || -> Result<Vec<OsString>, Error> {
        let failed = |error: std::io::Error| {
            let bytes = from.as_os_str().as_bytes();
            Error::because(ErrorKind::Other, "list", bytes, error.to_string())
        };
        let names = std::fs::read_dir(source.path()).map_err(failed)?;
        let names = names.map(|entry| entry.map(|entry| entry.file_name()));
        names.collect::<Result<_, _>>().map_err(failed)
    };
    loop {
        let mut names = listed()?;
        names.retain(|name| Some(name.as_os_str()) != except);
        if names.is_empty() {
            return Ok(());
        }
        for name in &names {
            let (one, other) = (Entry::within(&source, name), Entry::within(&target, name));
            match one.rename_new(&other) {
                // Whoever else works there has removed it.
                Ok(()) | Err(Errno::NOENT) => {}
                Err(errno) => {
                    let path = to.join(name);
                    let path = path.as_os_str().as_bytes();
                    return Err(Error::from_errno(action, path, errno));
                }
            }
        }
        for folder in [&target, &source] {
            fsync(folder.fd()).map_err(|errno| {
                Error::from_errno(
                    "make durable the names in",
                    to.as_os_str().as_bytes(),
                    errno,
                )
            })?;
        }
    }
}

/// What is mounted at a path or below it, as this process sees it.
///
/// # Errors
/// When the system does not say it.
pub fn mounts_within(path: &Path) -> Result<Vec<PathBuf>, Error> {
    let text = std::fs::read(MOUNTS).map_err(|error| {
        let reason = format!("{MOUNTS} cannot be read: {error}");
        let bytes = path.as_os_str().as_bytes();
        Error::because(ErrorKind::Other, "find what is mounted in", bytes, reason)
    })?;
    let points = text.split(|byte| *byte == b'\n').filter_map(mount_point);
    Ok(points.filter(|point| point.starts_with(path)).collect())
}

/// The fifth field of a line of `mountinfo`, where a blank is written `\040`.
fn mount_point(line: &[u8]) -> Option<PathBuf> {
    let field = line.split(|byte| *byte == b' ').nth(4)?;
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let [first, tail @ ..] = rest {
        let octal = (*first == b'\\').then(|| tail.get(..3)).flatten();
        let value =
            octal.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        bytes.push(value.unwrap_or(*first));
        rest = if value.is_some() { &tail[3..] } else { tail };
    }
    Some(PathBuf::from(OsString::from_vec(bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn two_folders_change_names_and_nothing_is_lost() {
        let scratch = tempfile::tempdir().unwrap();
        let (one, other) = (scratch.path().join("one"), scratch.path().join("other"));
        fs::create_dir(&one).unwrap();
        fs::write(one.join("a"), "1").unwrap();
        fs::create_dir(&other).unwrap();
        let before = [&one, &other].map(|path| standing(path).unwrap().unwrap().inode);
        assert!(exchange(&one, &other).unwrap());
        assert_eq!(fs::read(other.join("a")).unwrap(), b"1");
        let after = [&other, &one].map(|path| standing(path).unwrap().unwrap().inode);
        assert_eq!(before, after);
        let error = exchange(&one, &scratch.path().join("none")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Vanished);
    }

    #[test]
    fn a_name_that_something_has_is_not_given() {
        let scratch = tempfile::tempdir().unwrap();
        let paths = ["one", "other", "new"].map(|name| scratch.path().join(name));
        fs::write(&paths[0], "1").unwrap();
        fs::write(&paths[1], "2").unwrap();
        let error = rename_new(&paths[0], &paths[1]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Exists);
        assert_eq!(fs::read(&paths[1]).unwrap(), b"2");
        rename_new(&paths[0], &paths[2]).unwrap();
        assert!(standing(&paths[0]).unwrap().is_none());
        assert_eq!(fs::read(&paths[2]).unwrap(), b"1");
        assert!(standing(Path::new("/")).is_err(), "it has no name");
    }

    #[test]
    fn all_entries_move_but_one_and_none_is_replaced() {
        let scratch = tempfile::tempdir().unwrap();
        let (from, to) = (scratch.path().to_owned(), scratch.path().join("kept"));
        fs::create_dir_all(from.join("sub/deep")).unwrap();
        fs::write(from.join("a"), "1").unwrap();
        std::os::unix::fs::symlink("nowhere", from.join("link")).unwrap();
        fs::create_dir(&to).unwrap();
        let kept = Some(OsStr::new("kept"));
        move_entries(&from, &to, kept).unwrap();
        assert_eq!(fs::read_dir(&from).unwrap().count(), 1);
        assert!(to.join("sub/deep").is_dir() && standing(&to.join("link")).unwrap().is_some());
        fs::write(from.join("a"), "2").unwrap();
        let error = move_entries(&from, &to, kept).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Exists);
        assert_eq!(fs::read(to.join("a")).unwrap(), b"1");
        assert_eq!(fs::read(from.join("a")).unwrap(), b"2");
    }

    #[test]
    fn a_link_on_the_way_leads_nobody_elsewhere() {
        let scratch = tempfile::tempdir().unwrap();
        let whole = scratch.path().canonicalize().unwrap();
        let path = |name: &str| whole.join(name);
        fs::create_dir_all(path("foreign/sub")).unwrap();
        fs::write(path("foreign/file"), "x").unwrap();
        fs::create_dir(path("own")).unwrap();
        std::os::unix::fs::symlink("foreign", path("link")).unwrap();
        assert!(move_entries(&path("link"), &path("own"), None).is_err());
        assert!(move_entries(&path("own"), &path("link/sub"), None).is_err());
        assert!(rename_new(&path("link/file"), &path("own/file")).is_err());
        assert!(exchange(&path("link/file"), &path("own")).is_err());
        assert!(standing(&path("link/file")).is_err());
        assert!(path("foreign/file").exists());
    }

    #[test]
    fn mounts_are_found_by_their_path() {
        let line = b"36 35 98:0 / /srv/a\\040b\\134c rw,noatime master:1 - ext3 /dev/root rw";
        assert_eq!(mount_point(line).unwrap(), Path::new("/srv/a b\\c"));
        let all = mounts_within(Path::new("/")).unwrap();
        assert!(
            all.iter().any(|point| point == Path::new("/proc")),
            "{all:?}"
        );
        let scratch = tempfile::tempdir().unwrap();
        assert!(mounts_within(scratch.path()).unwrap().is_empty());
    }
}
