//! What a swap has in mind, on disk: whoever comes after a kill reads here how to end it.
//!
//! Invariant: the file is replaced as a whole, and durable before the step that it announces. It names objects by what
//! they are (oid, inode) and says under which names they can be met; who has which name is asked of the server and the
//! file system. It holds no password.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The folder of the journals, in the state folder.
const FOLDER: &str = "restore-app";
/// The form of a journal that replaces everything by names.
const BY_NAMES: u32 = 1;
/// The form of one that has something which stays the object that it is.
const IN_PLACE: u32 = 2;

/// Which of the two states.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// The one that was there before.
    Old,
    /// The restored one.
    New,
}

impl Side {
    /// The other one.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::Old => Self::New,
            Self::New => Self::Old,
        }
    }
}

/// How far a swap is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Something is restored beside; nothing that was there is touched.
    Preparing,
    /// Names change, until the state that is wanted is live.
    Swapping,
    /// One state is live and whole, the other is kept.
    Standing,
    /// The state that is not live is being removed.
    Forgetting,
}

/// A database that is swapped.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct DatabaseItem {
    /// The source's name.
    pub(super) source: String,
    /// The name that the app uses.
    pub(super) live: String,
    /// The name of the restored one while it is not live.
    pub(super) new: String,
    /// The name of the one that was there before while it is not live.
    pub(super) old: String,
    /// The one that was there before; none when there was none.
    pub(super) old_oid: Option<u32>,
    /// The restored one, once it is whole.
    pub(super) new_oid: Option<u32>,
}

/// What a place holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum PlaceKind {
    /// A folder of files.
    Folder,
    /// An SQLite database.
    Sqlite,
}

/// A folder or file that is swapped; its three paths lie in one folder.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct PlaceItem {
    /// The source's name.
    pub(super) source: String,
    /// What it is.
    pub(super) kind: PlaceKind,
    /// The path that the app uses.
    pub(super) live: PathBuf,
    /// Where the restored one lies while it is not live.
    pub(super) new: PathBuf,
    /// Where the one that was there before lies while it is not live.
    pub(super) old: PathBuf,
    /// The one that was there before; none when there was none.
    pub(super) old_inode: Option<u64>,
    /// The restored one, once it is whole.
    pub(super) new_inode: Option<u64>,
    /// Whether `live` stays the folder that it is, and its entries change places with those of folders inside it:
    /// `new` and `old` lie in it then.
    #[serde(default)]
    pub(super) inside: bool,
}

/// A database whose content is replaced in one transaction.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct ContentItem {
    /// The source's name.
    pub(super) source: String,
    /// The database's name.
    pub(super) database: String,
    /// By what sessions of this restore are known.
    pub(super) mark: String,
    /// The snapshot that has the content that was there before, in hexadecimal, once it is made.
    pub(super) old_snapshot: Option<String>,
    /// The snapshot that has the restored content, or what became of it.
    pub(super) new_snapshot: Option<String>,
    /// The last transaction that was to replace the content. What became of it decides which side is live.
    pub(super) transaction: Option<String>,
}

impl ContentItem {
    /// The snapshot that has the content of a side.
    pub(super) fn snapshot(&self, side: Side) -> Option<&str> {
        match side {
            Side::Old => self.old_snapshot.as_deref(),
            Side::New => self.new_snapshot.as_deref(),
        }
    }

    /// Notes the snapshot that has the content of a side.
    pub(super) fn keep(&mut self, side: Side, snapshot: String) {
        match side {
            Side::Old => self.old_snapshot = Some(snapshot),
            Side::New => self.new_snapshot = Some(snapshot),
        }
    }
}

/// The whole of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Journal {
    version: u32,
    /// The app.
    pub(super) app: String,
    /// The snapshot that was restored, in hexadecimal.
    pub(super) snapshot: String,
    /// When it was begun, in milliseconds since 1970.
    pub(super) begun_ms: u64,
    /// How far it is.
    pub(super) phase: Phase,
    /// The state that is live, or is to be.
    pub(super) live: Side,
    /// The address, without a password, by which databases are renamed, where it is not the app's own.
    pub(super) admin: Option<String>,
    /// The databases.
    pub(super) databases: Vec<DatabaseItem>,
    /// The folders and files.
    pub(super) places: Vec<PlaceItem>,
    /// The database that stays the object that it is.
    #[serde(default)]
    pub(super) content: Option<ContentItem>,
    /// Whether nothing has been replaced yet, so that what was restored goes again when it cannot be.
    #[serde(default)]
    pub(super) is_first: bool,
    /// SQLite databases that must be in nobody's hands while names change: those of `places`, and those that lie in
    /// its folders.
    pub(super) locks: Vec<PathBuf>,
}

impl Journal {
    /// A journal of a swap that begins.
    pub(super) fn new(app: &str, snapshot: String, begun_ms: u64, admin: Option<String>) -> Self {
        Self {
            version: BY_NAMES,
            app: app.to_owned(),
            snapshot,
            begun_ms,
            phase: Phase::Preparing,
            live: Side::Old,
            admin,
            databases: Vec::new(),
            places: Vec::new(),
            content: None,
            is_first: true,
            locks: Vec::new(),
        }
    }

    /// What an older version would not understand gets a number that it refuses.
    pub(super) fn number(&mut self) {
        let is_in_place = self.content.is_some() || self.places.iter().any(|place| place.inside);
        self.version = if is_in_place { IN_PLACE } else { BY_NAMES };
    }
}

/// The journal of an app cannot be used.
#[derive(Debug, Error)]
pub enum JournalError {
    /// Another run has it.
    #[error("another restore-app of {0} is at work")]
    Busy(String),
    /// It cannot be read or written.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// It is not one that this version has written.
    #[error("{} is no journal that this version understands", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: serde_json::Error,
    },
}

/// Where the journal of one app lies. As long as this lives, no other run has it.
#[derive(Debug)]
pub(super) struct JournalFile {
    folder: PathBuf,
    path: PathBuf,
    /// Closing it lets others in.
    _lock: File,
}

impl JournalFile {
    /// Takes the journal of `app` below the state folder.
    pub(super) fn take(state: &Path, app: &str) -> Result<Self, JournalError> {
        let folder = state.join(FOLDER);
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&folder)
            .map_err(|source| failed("make", &folder, source))?;
        let path = folder.join(format!("{app}.lock"));
        let lock = OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(&path)
            .map_err(|source| failed("open", &path, source))?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => return Err(JournalError::Busy(app.to_owned())),
            Err(errno) => return Err(failed("lock", &path, errno.into())),
        }
        Ok(Self {
            path: folder.join(format!("{app}.json")),
            folder,
            _lock: lock,
        })
    }

    /// Where it lies.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// What it says; `None` when there is nothing to end.
    pub(super) fn read(&self) -> Result<Option<Journal>, JournalError> {
        let text = match fs::read(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(failed("read", &self.path, source)),
        };
        let content = |source| JournalError::Content {
            path: self.path.clone(),
            source,
        };
        let journal: Journal = serde_json::from_slice(&text).map_err(content)?;
        if ![BY_NAMES, IN_PLACE].contains(&journal.version) {
            let version = journal.version;
            let error = serde::de::Error::custom(format!("it has the version {version}"));
            return Err(content(error));
        }
        Ok(Some(journal))
    }

    /// Replaces it; durable when it returns.
    pub(super) fn write(&self, journal: &Journal) -> Result<(), JournalError> {
        let content = |source| JournalError::Content {
            path: self.path.clone(),
            source,
        };
        let text = serde_json::to_vec_pretty(journal).map_err(content)?;
        let new = self.path.with_extension("json.new");
        let write = || {
            let mut file = OpenOptions::new()
                .create(true)
                .write(true)
                .truncate(true)
                .mode(0o600)
                .open(&new)?;
            file.write_all(&text)?;
            file.sync_all()?;
            fs::rename(&new, &self.path)?;
            File::open(&self.folder)?.sync_all()
        };
        write().map_err(|source| failed("write", &self.path, source))
    }

    /// Removes it: there is nothing to end any more.
    pub(super) fn remove(&self) -> Result<(), JournalError> {
        let remove = || {
            fs::remove_file(&self.path)?;
            File::open(&self.folder)?.sync_all()
        };
        remove().map_err(|source| failed("remove", &self.path, source))
    }
}

fn failed(action: &'static str, path: &Path, source: io::Error) -> JournalError {
    JournalError::Io {
        action,
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_journal_is_read_as_it_was_written_and_by_one_run_only() {
        let state = tempfile::tempdir().unwrap();
        let file = JournalFile::take(state.path(), "shop").unwrap();
        assert!(file.read().unwrap().is_none());
        let busy = JournalFile::take(state.path(), "shop").unwrap_err();
        assert!(matches!(busy, JournalError::Busy(app) if app == "shop"));
        assert!(JournalFile::take(state.path(), "blog").is_ok());

        let mut journal = Journal::new("shop", "3f".repeat(16), 7, None);
        file.write(&journal).unwrap();
        journal.phase = Phase::Swapping;
        journal.live = Side::New;
        file.write(&journal).unwrap();
        let read = file.read().unwrap().unwrap();
        assert_eq!((read.phase, read.live), (Phase::Swapping, Side::New));
        file.remove().unwrap();
        assert!(file.read().unwrap().is_none());
        drop(file);
        assert!(JournalFile::take(state.path(), "shop").is_ok());
    }

    #[test]
    fn a_journal_of_another_version_is_left_alone() {
        let state = tempfile::tempdir().unwrap();
        let file = JournalFile::take(state.path(), "shop").unwrap();
        let mut journal = Journal::new("shop", String::new(), 7, None);
        journal.version = 3;
        file.write(&journal).unwrap();
        let error = file.read().unwrap_err();
        assert!(matches!(error, JournalError::Content { .. }), "{error}");
    }
}
