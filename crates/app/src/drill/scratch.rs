//! The place of a drill: a folder that is gone when the drill is, and the next drill's business when it was killed.
//!
//! Invariant: a folder with a lock file that nobody keeps locked belongs to no living drill. The lock is taken before the
//! file gets its name, so that no other drill ever sees one that is not locked yet.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use tempfile::TempDir;

use super::running::{Running, end_marked};

const PREFIX: &str = "lifeboat-drill-";
const LOCK: &str = "lock";
/// The folder of what was restored, which nobody else enters.
const FILES: &str = "files";
/// The file that tells which program the app is.
const PROGRAM: &str = "program";
/// How the folders of throw-away servers begin.
const SERVER_PREFIX: &str = "lifeboat-pg-";

/// A scratch folder, kept for one drill.
pub(super) struct Scratch {
    folder: Option<TempDir>,
    path: PathBuf,
    /// Kept open, for the lock is on it.
    _lock: File,
}

impl Scratch {
    /// Makes the folder below `parent`.
    pub(super) fn make(parent: &Path) -> io::Result<Self> {
        // The server runs as somebody else when we are root, and has to reach its folder in here.
        let mode = if rustix::process::geteuid().is_root() {
            0o711
        } else {
            0o700
        };
        let folder = tempfile::Builder::new()
            .prefix(PREFIX)
            .permissions(Permissions::from_mode(0o700))
            .tempdir_in(parent)?;
        let path = folder.path().to_owned();
        // Whatever the mask of this process takes away.
        fs::set_permissions(&path, Permissions::from_mode(mode))?;
        let unnamed = path.join("lock.new");
        let lock = File::create(&unnamed)?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
        fs::rename(&unnamed, path.join(LOCK))?;
        let files = path.join(FILES);
        fs::create_dir(&files)?;
        fs::set_permissions(&files, Permissions::from_mode(0o700))?;
        Ok(Self {
            folder: Some(folder),
            path,
            _lock: lock,
        })
    }

    /// The folder, for a server's folder in it.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The folder with a folder for each source of files.
    pub(super) fn files(&self) -> PathBuf {
        self.path.join(FILES)
    }

    /// Writes down a program that has to be ended also when this drill is killed.
    pub(super) fn note(&self, running: &Running) -> io::Result<()> {
        fs::write(self.path.join(PROGRAM), running.mark()?)
    }

    /// Bytes that are free here.
    pub(super) fn free_bytes(&self) -> io::Result<u64> {
        let found = rustix::fs::statvfs(&self.path)?;
        Ok(found.f_bavail.saturating_mul(found.f_frsize))
    }

    /// Removes everything.
    pub(super) fn remove(mut self) -> io::Result<()> {
        self.folder.take().map_or(Ok(()), |folder| {
            loosen(&self.path.join(FILES));
            folder.close()
        })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if self.folder.is_some() {
            loosen(&self.files());
        }
    }
}

/// Removes what drills below `parent` left that were killed, and returns what could not be removed.
pub(super) fn remove_leftovers(parent: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(parent) else {
        return Vec::new();
    };
    let ours = rustix::process::geteuid().as_raw();
    let mut left = Vec::new();
    for path in entries.flatten().map(|entry| entry.path()) {
        let named = path.file_name().and_then(|name| name.to_str());
        let is_ours =
            fs::symlink_metadata(&path).is_ok_and(|found| found.is_dir() && found.uid() == ours);
        if !named.is_some_and(|name| name.starts_with(PREFIX)) || !is_ours {
            continue;
        }
        let Ok(lock) = File::open(path.join(LOCK)) else {
            continue;
        };
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            continue;
        }
        if let Err(error) = remove_leftover(&path) {
            left.push(format!(
                "{} of an earlier drill cannot be removed: {error}",
                path.display()
            ));
        }
    }
    left
}

fn remove_leftover(path: &Path) -> io::Result<()> {
    if let Ok(marked) = fs::read_to_string(path.join(PROGRAM)) {
        end_marked(&marked);
    }
    for entry in fs::read_dir(path)?.flatten() {
        let name = entry.file_name();
        if name.to_string_lossy().starts_with(SERVER_PREFIX) {
            lifeboat_postgres::remove_abandoned(&entry.path())?;
        }
    }
    loosen(&path.join(FILES));
    fs::remove_dir_all(path)
}

/// Lets the owner into folders and files: they come back with the mode that they had, and some of those shut out
/// everybody but root. Only for a folder that nobody else enters: elsewhere a link could come in between.
pub(super) fn loosen(path: &Path) {
    let mut folders = vec![path.to_owned()];
    while let Some(folder) = folders.pop() {
        let Ok(found) = fs::symlink_metadata(&folder) else {
            continue;
        };
        if found.mode() & 0o700 != 0o700 {
            let _ = fs::set_permissions(&folder, Permissions::from_mode(0o700));
        }
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let Ok(found) = entry.metadata() else {
                continue;
            };
            if found.is_dir() {
                folders.push(entry.path());
            } else if found.is_file() && found.mode() & 0o400 == 0 {
                let readable = Permissions::from_mode(found.mode() & 0o777 | 0o400);
                let _ = fs::set_permissions(entry.path(), readable);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_nobody_keeps_is_a_leftover() {
        let parent = tempfile::tempdir().unwrap();
        let alive = Scratch::make(parent.path()).unwrap();
        let killed = parent.path().join("lifeboat-drill-killed");
        let deep = killed.join("files/closed");
        fs::create_dir_all(&deep).unwrap();
        fs::write(deep.join("x"), "x").unwrap();
        fs::write(killed.join(LOCK), "").unwrap();
        fs::set_permissions(&deep, Permissions::from_mode(0o555)).unwrap();
        let young = parent.path().join("lifeboat-drill-young");
        fs::create_dir(&young).unwrap();
        assert!(remove_leftovers(parent.path()).is_empty());
        assert!(!killed.exists() && young.exists() && alive.files().is_dir());
        let path = alive.path().to_owned();
        alive.remove().unwrap();
        assert!(!path.exists());
    }

    #[test]
    fn a_scratch_folder_goes_away_with_whoever_forgets_it() {
        let parent = tempfile::tempdir().unwrap();
        let scratch = Scratch::make(parent.path()).unwrap();
        let closed = scratch.files().join("closed");
        fs::create_dir(&closed).unwrap();
        fs::set_permissions(&closed, Permissions::from_mode(0o000)).unwrap();
        drop(scratch);
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 0);
    }
}
