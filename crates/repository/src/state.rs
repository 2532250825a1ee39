//! Local state: what must not be lost, in contrast to the cache.
//!
//! The writer's key of this machine, and anchors: the newest snapshot of each chain that this machine wrote or copied
//! to each replica, by which a rolled-back or hidden list of snapshots is noticed. Losing it is reported and never loses
//! backed-up data.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use lifeboat_codec::{FamilyId, ObjectHash, ReplicaId, Secret, WriterId};
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

/// One writer's snapshots of one app in one replica.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Chain {
    /// Where they are.
    pub replica: ReplicaId,
    /// Who wrote them.
    pub writer: WriterId,
    /// Of what.
    pub app: String,
}

/// The newest snapshot of a chain that this machine knows to be there.
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

    /// The anchors of all chains. A machine has several writers when several keys are used on it, each with chains of its
    /// own; replicas of one repository share this state, and each may lack what another one has.
    ///
    /// # Errors
    /// When the file cannot be read. Lines that are damaged are left out: an anchor can only be missed, not wrong.
    pub fn anchors(&self) -> Result<BTreeMap<Chain, Anchor>, StateError> {
        let path = self.folder.join("anchors");
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
            Err(source) => return Err(failed("read", &path, source)),
        };
        let parse = |line: &str| {
            let mut parts = line.splitn(5, ' ');
            let replica = ReplicaId::from_hex(parts.next()?)?;
            let writer = WriterId::from_hex(parts.next()?)?;
            let seq = parts.next()?.parse().ok()?;
            let hash = ObjectHash::from_hex(parts.next()?)?;
            let chain = Chain {
                replica,
                writer,
                app: parts.next()?.to_owned(),
            };
            Some((chain, Anchor { seq, hash }))
        };
        Ok(text.lines().filter_map(parse).collect())
    }

    /// Keeps the newest snapshots of chains; one that is older than what is known changes nothing. Durable when it
    /// returns.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn keep_anchors(
        &self,
        news: impl IntoIterator<Item = (Chain, Anchor)>,
    ) -> Result<(), StateError> {
        let mut anchors = self.anchors()?;
        let mut is_new = false;
        for (chain, anchor) in news {
            if anchors
                .get(&chain)
                .is_none_or(|known| known.seq < anchor.seq)
            {
                anchors.insert(chain, anchor);
                is_new = true;
            }
        }
        if !is_new {
            return Ok(());
        }
        let text: String = anchors
            .iter()
            .map(|(chain, anchor)| {
                let Chain {
                    replica,
                    writer,
                    app,
                } = chain;
                format!("{replica} {writer} {} {} {app}\n", anchor.seq, anchor.hash)
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
        let chain = |replica, writer, app: &str| Chain {
            replica: ReplicaId([replica; 16]),
            writer: WriterId([writer; 16]),
            app: app.to_owned(),
        };
        let first = Anchor { seq: 1, ..anchor };
        let kept = [
            (chain(1, 1, "shop with spaces"), anchor),
            (chain(1, 1, "other"), first),
            (chain(1, 2, "shop with spaces"), first),
            (chain(2, 1, "shop with spaces"), first),
        ];
        state.keep_anchors(kept.clone()).unwrap();
        let older = [(chain(1, 1, "shop with spaces"), first)];
        state.keep_anchors(older).unwrap();
        assert_eq!(state.anchors().unwrap(), BTreeMap::from(kept));
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
