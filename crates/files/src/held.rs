//! A folder that is held open, and a path by which programs and libraries reach it that know nothing of handles.
//!
//! Invariant: no link was followed on the way to it, and its path leads to it and nowhere else, whatever becomes of its
//! name: the path goes through the handle.

use crate::beneath::{check_name, open_child, open_path};
use crate::error::{Error, ErrorKind};
use crate::metadata::stat_open;
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::fs::{CWD, Mode, OFlags, openat};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// A folder that is held open.
#[derive(Debug)]
pub struct HeldFolder {
    fd: OwnedFd,
    path: PathBuf,
}

impl HeldFolder {
    /// Opens the folder at a path that begins at the root and has no link in it; [`ErrorKind::Changed`] if it has.
    ///
    /// # Errors
    /// When it cannot be opened, or is no such path.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let bytes = path.as_os_str().as_bytes();
        let fail = |errno| Error::from_errno("open the folder", bytes, errno);
        let Some(rest) = bytes.strip_prefix(b"/") else {
            let reason = "its path does not begin at the root";
            let kind = ErrorKind::InvalidName;
            return Err(Error::because(kind, "open the folder", bytes, reason));
        };
        if !rest.is_empty() {
            let mut names = rest.split(|byte| *byte == b'/');
            names
                .try_for_each(check_name)
                .map_err(|error| error.about(bytes))?;
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = openat(CWD, c"/", flags, Mode::empty()).map_err(fail)?;
        Ok(Self::of(open_path(root.as_fd(), rest).map_err(fail)?))
    }

    /// Opens the folder `name` in this one; [`ErrorKind::Changed`] if it is a link.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn child(&self, name: &OsStr) -> Result<Self, Error> {
        let name = name.as_bytes();
        check_name(name)?;
        let opened = open_child(self.fd(), name);
        let fd = opened.map_err(|errno| Error::from_errno("open the folder", name, errno))?;
        Ok(Self::of(fd))
    }

    fn of(fd: OwnedFd) -> Self {
        let path = PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()));
        Self { fd, path }
    }

    /// A path that leads to it as long as this lives.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it belongs to the user of this process, and nobody else may write into it.
    ///
    /// # Errors
    /// When it cannot be looked at.
    pub fn is_own(&self) -> Result<bool, Error> {
        let found = stat_open(self.fd())
            .map_err(|errno| Error::from_errno("look at the folder", b".", errno))?;
        Ok(found.uid == rustix::process::geteuid().as_raw() && found.mode & 0o022 == 0)
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn a_held_folder_is_reached_without_links_and_stays_the_folder_that_it_is() {
        let scratch = tempfile::tempdir().unwrap();
        let whole = scratch.path().canonicalize().unwrap();
        let (own, link) = (whole.join("own"), whole.join("link"));
        fs::create_dir_all(own.join("sub")).unwrap();
        fs::set_permissions(&own, fs::Permissions::from_mode(0o700)).unwrap();
        symlink(&own, &link).unwrap();
        for path in [link.clone(), link.join("sub"), whole.join("own/../own")] {
            assert!(HeldFolder::open(&path).is_err(), "{}", path.display());
        }
        assert!(HeldFolder::open(Path::new("own")).is_err());
        let held = HeldFolder::open(&own).unwrap();
        assert!(held.is_own().unwrap() && held.child(OsStr::new("sub")).is_ok());
        fs::rename(&own, whole.join("moved")).unwrap();
        fs::create_dir(&own).unwrap();
        fs::write(held.path().join("file"), "x").unwrap();
        assert!(whole.join("moved/file").exists() && !own.join("file").exists());
        fs::set_permissions(held.path(), fs::Permissions::from_mode(0o770)).unwrap();
        assert!(!held.is_own().unwrap(), "others may write into it");
        assert!(HeldFolder::open(Path::new("/")).is_ok());
    }
}
