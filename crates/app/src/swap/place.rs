//! Folders and files that change names: which object has which path is looked up, and what lacks is done.
//!
//! Invariant: nothing is ever replaced or deleted by a rename, so from each state that a kill can leave either side can
//! be reached.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use lifeboat_files::{Error as FileError, exchange, rename_new, standing};
use thiserror::Error;

use super::journal::{PlaceItem, PlaceKind, Side};

/// What SQLite keeps beside a database, which belongs to it and to no other.
pub(super) const SIDECARS: [&str; 3] = ["-wal", "-shm", "-journal"];

/// More renames than any way from one side to the other has.
const STEPS_MAX: usize = 4;

/// A folder or file could not be swapped.
#[derive(Debug, Error)]
pub enum PlaceError {
    /// The file system refused.
    #[error(transparent)]
    File(#[from] FileError),
    /// Something is in a folder that is made by nobody else.
    #[error("cannot {action} {}", path.display())]
    Inside {
        /// What was tried.
        action: &'static str,
        /// Where.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// Something else stands where the app's own should.
    #[error("{} is neither what was there before nor what was restored", .0.display())]
    Foreign(PathBuf),
    /// It is under none of its names.
    #[error("what is to be at {} is under none of the names that it can have", .0.display())]
    Gone(PathBuf),
}

impl PlaceItem {
    /// The object of a side.
    pub(super) fn inode(&self, side: Side) -> Option<u64> {
        match side {
            Side::Old => self.old_inode,
            Side::New => self.new_inode,
        }
    }

    /// Where the object of a side lies while it is not live.
    pub(super) fn rest(&self, side: Side) -> &Path {
        match side {
            Side::Old => &self.old,
            Side::New => &self.new,
        }
    }

    fn find(&self, inode: u64) -> Result<Option<&Path>, FileError> {
        for path in [&self.live, &self.new, &self.old] {
            if inode_at(path)? == Some(inode) {
                return Ok(Some(path));
            }
        }
        Ok(None)
    }

    /// Whether this side is live and the other one is where it rests.
    pub(super) fn is_settled(&self, side: Side) -> Result<bool, PlaceError> {
        if self.inside {
            return self.is_settled_inside(side);
        }
        let at_live = inode_at(&self.live)?;
        let other = self.inode(side.other());
        let rests = match other {
            Some(other) => self.find(other)? == Some(self.rest(side.other())),
            None => true,
        };
        Ok(at_live == self.inode(side) && rests)
    }

    /// Makes this side live, and puts the other one where it rests.
    pub(super) fn settle(&self, side: Side) -> Result<(), PlaceError> {
        if self.inside {
            return self.settle_inside(side);
        }
        let (wanted, other) = (self.inode(side), self.inode(side.other()));
        let rest = self.rest(side.other());
        for _ in 0..STEPS_MAX {
            match inode_at(&self.live)? {
                at_live if at_live == wanted => {
                    self.bring_sidecars(self.rest(side), &self.live)?;
                    return match other.map(|other| self.find(other)).transpose()?.flatten() {
                        Some(from) if from != rest => Ok(rename_new(from, rest)?),
                        // Somebody has removed it; what is wanted is live all the same.
                        _ => Ok(()),
                    };
                }
                None => rename_new(self.source(wanted)?, &self.live)?,
                at_live if at_live == other => {
                    self.bring_sidecars(&self.live, rest)?;
                    let exchanged = match wanted {
                        Some(_) => exchange(self.source(wanted)?, &self.live)?,
                        None => false,
                    };
                    if !exchanged {
                        rename_new(&self.live, rest)?;
                    }
                }
                Some(_) => return Err(PlaceError::Foreign(self.live.clone())),
            }
        }
        Err(PlaceError::Foreign(self.live.clone()))
    }

    fn source(&self, wanted: Option<u64>) -> Result<&Path, PlaceError> {
        let found = wanted.map(|wanted| self.find(wanted)).transpose()?;
        found
            .flatten()
            .ok_or_else(|| PlaceError::Gone(self.live.clone()))
    }

    /// What SQLite keeps beside a database goes with it. Where a lock was given there is nothing of that; what there is
    /// then belongs to a database that SQLite cannot read.
    fn bring_sidecars(&self, from: &Path, to: &Path) -> Result<(), FileError> {
        if self.kind != PlaceKind::Sqlite {
            return Ok(());
        }
        for ending in SIDECARS {
            let (from, to) = (with_ending(from, ending), with_ending(to, ending));
            if standing(&from)?.is_some() && standing(&to)?.is_none() {
                rename_new(&from, &to)?;
            }
        }
        Ok(())
    }
}

/// The path with more behind its name.
pub(super) fn with_ending(path: &Path, ending: &str) -> PathBuf {
    let mut whole = OsString::from(path);
    whole.push(ending);
    PathBuf::from(whole)
}

/// The number of what stands at a path.
pub(super) fn inode_at(path: &Path) -> Result<Option<u64>, FileError> {
    Ok(standing(path)?.map(|metadata| metadata.inode))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    /// The three paths of an item, and what stands at each: `o`, `n` or nothing.
    struct Bench {
        folder: tempfile::TempDir,
        item: PlaceItem,
    }

    impl Bench {
        fn new(at_start: [&str; 3], had_old: bool) -> Self {
            let folder = tempfile::tempdir().unwrap();
            let path = |name: &str| folder.path().join(name);
            let mut item = PlaceItem {
                source: "media".to_owned(),
                kind: PlaceKind::Folder,
                live: path("live"),
                new: path("new"),
                old: path("old"),
                old_inode: None,
                new_inode: None,
                inside: false,
            };
            // Both live at once, so that they have different numbers.
            for what in ["o", "n"] {
                fs::create_dir(path(what)).unwrap();
                fs::write(path(what).join("what"), what).unwrap();
            }
            item.old_inode = inode_at(&path("o")).unwrap().filter(|_| had_old);
            item.new_inode = inode_at(&path("n")).unwrap();
            for (name, what) in ["live", "new", "old"].into_iter().zip(at_start) {
                if !what.is_empty() {
                    fs::rename(path(what), path(name)).unwrap();
                }
            }
            Self { folder, item }
        }

        fn looks(&self) -> [String; 3] {
            ["live", "new", "old"].map(|name| {
                let path = self.folder.path().join(name).join("what");
                fs::read_to_string(path).unwrap_or_default()
            })
        }
    }

    #[test]
    fn from_everything_that_a_kill_can_leave_each_side_is_reached() {
        let states = [
            ["o", "n", ""],
            ["n", "o", ""],
            ["n", "", "o"],
            ["", "n", "o"],
            ["o", "", "n"],
        ];
        for start in states {
            let bench = Bench::new(start, true);
            bench.item.settle(Side::New).unwrap();
            assert_eq!(bench.looks(), ["n", "", "o"], "{start:?}");
            assert!(bench.item.is_settled(Side::New).unwrap());
            assert!(!bench.item.is_settled(Side::Old).unwrap());
            bench.item.settle(Side::New).unwrap();
            let bench = Bench::new(start, true);
            bench.item.settle(Side::Old).unwrap();
            assert_eq!(bench.looks(), ["o", "n", ""], "{start:?}");
            assert!(bench.item.is_settled(Side::Old).unwrap());
        }
    }

    #[test]
    fn what_was_not_there_before_comes_and_goes() {
        let bench = Bench::new(["", "n", ""], false);
        bench.item.settle(Side::New).unwrap();
        assert_eq!(bench.looks(), ["n", "", ""]);
        bench.item.settle(Side::Old).unwrap();
        assert_eq!(bench.looks(), ["", "n", ""]);
        assert!(bench.item.is_settled(Side::Old).unwrap());
    }

    #[test]
    fn what_is_neither_old_nor_new_is_left_alone() {
        let bench = Bench::new(["", "n", "o"], true);
        fs::create_dir(&bench.item.live).unwrap();
        let error = bench.item.settle(Side::New).unwrap_err();
        assert!(matches!(error, PlaceError::Foreign(_)), "{error}");
        assert_eq!(bench.looks(), ["", "n", "o"]);
        let bench = Bench::new(["o", "", ""], true);
        let error = bench.item.settle(Side::New).unwrap_err();
        assert!(matches!(error, PlaceError::Gone(_)), "{error}");
        assert_eq!(bench.looks(), ["o", "", ""]);
    }

    #[test]
    fn what_sqlite_keeps_beside_a_database_goes_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::write(path("app.db"), "old").unwrap();
        fs::write(path("app.db-wal"), "of old").unwrap();
        fs::write(path("new"), "new").unwrap();
        let item = PlaceItem {
            source: "app".to_owned(),
            kind: PlaceKind::Sqlite,
            live: path("app.db"),
            new: path("new"),
            old: path("kept"),
            old_inode: inode_at(&path("app.db")).unwrap(),
            new_inode: inode_at(&path("new")).unwrap(),
            inside: false,
        };
        item.settle(Side::New).unwrap();
        assert_eq!(fs::read(path("app.db")).unwrap(), b"new");
        assert!(!path("app.db-wal").exists());
        assert_eq!(fs::read(path("kept-wal")).unwrap(), b"of old");
        fs::write(path("app.db-wal"), "of new").unwrap();
        item.settle(Side::Old).unwrap();
        assert_eq!(fs::read(path("app.db")).unwrap(), b"old");
        assert_eq!(fs::read(path("app.db-wal")).unwrap(), b"of old");
        assert_eq!(fs::read(path("new-wal")).unwrap(), b"of new");
    }
}
