//! Local state: what must not be lost, in contrast to the cache.
//!
//! The writer's key of this machine, and anchors: the newest snapshot that each writer of this machine wrote of each
//! app, by which a rolled-back or hidden list of snapshots is noticed. Losing it is reported and never loses backed-up data.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use lifeboat_codec::{FamilyId, ObjectHash, Secret, WriterId};
use thiserror::Error;
use zeroize::Zeroizing;

/// Local state could not be read or written.
#[derive(Debug, Error)]
#[error("cannot {action} {path}")]
pub struct StateError {
    action: &'static str,
    path: String,
    #[source]
    source: io::Error,
}

/// The newest snapshot of an app that this machine knows to have written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Anchor {
    /// Its number in the chain.
    pub seq: u32,
    /// Its object's final hash.
    pub hash: ObjectHash,
}

/// The state of one repository's family on this machine.
#[derive(Clone, Debug)]
pub struct State {
    folder: PathBuf,
}

impl State {
    /// Opens the state of `family` below `root`, which is made with mode 0700 where it lacks.
    ///
    /// # Errors
    /// When the folder cannot be made.
    pub fn open(root: &Path, family: FamilyId) -> Result<Self, StateError> {
        let folder = root.join(family.to_string());
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&folder)
            .map_err(|source| failed("make", &folder, source))?;
        Ok(Self { folder })
    }

    /// The seed of this machine's writer.
    ///
    /// # Errors
    /// When the file is there but cannot be read, or holds something else.
    pub fn writer(&self) -> Result<Option<Secret>, StateError> {
        let path = self.folder.join("writer");
        let mut text = Zeroizing::new(String::new());
        match File::open(&path) {
            Ok(file) => file
                .take(1024)
                .read_to_string(&mut text)
                .map_err(|source| failed("read", &path, source))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(failed("read", &path, source)),
        };
        let seed = ObjectHash::from_hex(text.trim())
            .ok_or_else(|| failed("read", &path, io::Error::other("it holds no writer's key")))?;
        Ok(Some(Secret::new(seed.0)))
    }

    /// Keeps the seed of this machine's writer; durable when it returns.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn keep_writer(&self, seed: &Secret) -> Result<(), StateError> {
        let text = Zeroizing::new(format!("{}\n", ObjectHash(*seed.bytes())));
        self.replace("writer", text.as_bytes())
    }

    /// The anchors of all writers of this machine and their apps. A machine has several writers when several keys are
    /// used on it, each with chains of its own.
    ///
    /// # Errors
    /// When the file cannot be read. Lines that are damaged are left out: an anchor can only be missed, not wrong.
    pub fn anchors(&self) -> Result<BTreeMap<(WriterId, String), Anchor>, StateError> {
        let path = self.folder.join("anchors");
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
            Err(source) => return Err(failed("read", &path, source)),
        };
        let parse = |line: &str| {
            let mut parts = line.splitn(4, ' ');
            let writer = WriterId::from_hex(parts.next()?)?;
            let seq = parts.next()?.parse().ok()?;
            let hash = ObjectHash::from_hex(parts.next()?)?;
            Some(((writer, parts.next()?.to_owned()), Anchor { seq, hash }))
        };
        Ok(text.lines().filter_map(parse).collect())
    }

    /// Keeps the newest snapshot of `app` that `writer` wrote; durable when it returns.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn keep_anchor(
        &self,
        writer: WriterId,
        app: &str,
        anchor: Anchor,
    ) -> Result<(), StateError> {
        let mut anchors = self.anchors()?;
        anchors.insert((writer, app.to_owned()), anchor);
        let text: String = anchors
            .iter()
            .map(|((writer, app), anchor)| {
                format!("{writer} {} {} {app}\n", anchor.seq, anchor.hash)
            })
            .collect();
        self.replace("anchors", text.as_bytes())
    }

    /// Writes a file beside, makes it durable, renames it over the old one.
    fn replace(&self, name: &str, content: &[u8]) -> Result<(), StateError> {
        let path = self.folder.join(name);
        let beside = self
            .folder
            .join(format!("{name}.{}.new", std::process::id()));
        let write = || {
            let mut file = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&beside)?;
            file.write_all(content)?;
            file.sync_all()?;
            fs::rename(&beside, &path)?;
            File::open(&self.folder)?.sync_all()
        };
        write().map_err(|source| failed("write", &path, source))
    }
}

fn failed(action: &'static str, path: &Path, source: io::Error) -> StateError {
    StateError {
        action,
        path: path.display().to_string(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn state_survives_and_its_files_are_private() {
        use std::os::unix::fs::PermissionsExt;
        let root = tempfile::tempdir().unwrap();
        let state = State::open(&root.path().join("deep/er"), FamilyId([1; 16])).unwrap();
        assert!(state.writer().unwrap().is_none());
        state.keep_writer(&Secret::new([7; 32])).unwrap();
        assert_eq!(state.writer().unwrap().unwrap().bytes(), &[7; 32]);
        let anchor = Anchor {
            seq: 3,
            hash: ObjectHash([9; 32]),
        };
        let (writer, other) = (WriterId([1; 16]), WriterId([2; 16]));
        let first = Anchor { seq: 1, ..anchor };
        state
            .keep_anchor(writer, "shop with spaces", anchor)
            .unwrap();
        state.keep_anchor(writer, "other", first).unwrap();
        state.keep_anchor(other, "shop with spaces", first).unwrap();
        let anchors = state.anchors().unwrap();
        let of = |writer| anchors[&(writer, "shop with spaces".to_owned())];
        assert_eq!((of(writer), of(other)), (anchor, first));
        for name in ["writer", "anchors"] {
            assert_eq!(
                fs::metadata(state.folder.join(name))
                    .unwrap()
                    .permissions()
                    .mode()
                    & 0o777,
                0o600
            );
        }
        fs::write(state.folder.join("writer"), "nonsense").unwrap();
        assert!(state.writer().is_err());
    }
}
