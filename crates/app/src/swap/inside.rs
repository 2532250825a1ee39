//! A folder that stays the folder that it is, as a mount point must: its entries change places with those of two folders
//! inside it.
//!
//! In `uploads` stands `.lifeboat-restore-3f9a21` with `new`, `old` and, as long as the entries in `uploads` itself are those of
//! the new state, the empty file `new-is-up`. Each way first takes the entries of the wrong side down, then turns the file,
//! then brings those of the other side up. Invariant: whose entries stand in `uploads` is what the file says, at any moment;
//! so each step can be done again after any kill, in either direction, and no rename replaces anything.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use lifeboat_files::{move_entries, standing};

use super::journal::{PlaceItem, Side};
use super::place::PlaceError;

/// The file that says whose entries are up.
const NEW_IS_UP: &str = "new-is-up";

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> PlaceError {
    let path = path.to_owned();
    move |source| PlaceError::Inside {
        action,
        path,
        source,
    }
}

fn sync(path: &Path) -> Result<(), PlaceError> {
    let synced = File::open(path).and_then(|folder| folder.sync_all());
    synced.map_err(failed("make durable", path))
}

impl PlaceItem {
    /// The folder inside `live` with both sides.
    pub(super) fn holder(&self) -> &Path {
        self.new.parent().unwrap_or(&self.live)
    }

    fn mark(&self) -> PathBuf {
        self.holder().join(NEW_IS_UP)
    }

    /// Makes the folders for both sides. Nobody but the owner looks into them.
    pub(super) fn make_holder(&self) -> Result<(), PlaceError> {
        for path in [self.holder(), &self.old] {
            let made = DirBuilder::new().mode(0o700).create(path);
            made.map_err(failed("make", path))?;
        }
        sync(self.holder())?;
        sync(&self.live)
    }

    /// Removes what was made for a restore that has moved nothing.
    pub(super) fn remove_unused_holder(&self) -> Result<(), PlaceError> {
        if standing(self.holder())?.is_none() {
            return Ok(());
        }
        if self.up()? == Side::New || !self.is_empty(Side::Old)? {
            return Err(PlaceError::Foreign(self.old.clone()));
        }
        fs::remove_dir_all(self.holder()).map_err(failed("remove", self.holder()))
    }

    /// Removes the side that is not live, with everything that was made for it.
    pub(super) fn remove_holder(&self, live: Side) -> Result<(), PlaceError> {
        if standing(self.holder())?.is_none() {
            return Ok(());
        }
        let (own, other) = (self.rest(live), self.rest(live.other()));
        // Whoever was killed here has removed both before he removed what says whose entries are up.
        let is_begun = standing(own)?.is_none() && standing(other)?.is_none();
        if !is_begun && !self.is_settled_inside(live)? {
            return Err(PlaceError::Foreign(own.to_owned()));
        }
        for path in [other, own] {
            if standing(path)?.is_some() {
                fs::remove_dir_all(path).map_err(failed("remove", path))?;
            }
        }
        fs::remove_dir_all(self.holder()).map_err(failed("remove", self.holder()))
    }

    /// Whose entries are up.
    fn up(&self) -> Result<Side, PlaceError> {
        Ok(match standing(&self.mark())? {
            Some(_) => Side::New,
            None => Side::Old,
        })
    }

    fn is_empty(&self, side: Side) -> Result<bool, PlaceError> {
        let path = self.rest(side);
        match fs::read_dir(path) {
            Ok(mut entries) => Ok(entries.next().is_none()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
            Err(error) => Err(failed("list", path)(error)),
        }
    }

    pub(super) fn is_settled_inside(&self, side: Side) -> Result<bool, PlaceError> {
        Ok(self.up()? == side && self.is_empty(side)?)
    }

    pub(super) fn settle_inside(&self, side: Side) -> Result<(), PlaceError> {
        let holder = self.holder();
        if standing(holder)?.is_none() {
            return Err(PlaceError::Gone(self.live.clone()));
        }
        if self.up()? != side {
            move_entries(&self.live, self.rest(side.other()), holder.file_name())?;
            // The entries are down for good before the file says so.
            let mark = self.mark();
            let turned = match side {
                Side::New => File::create_new(&mark).map(drop),
                Side::Old => fs::remove_file(&mark),
            };
            turned.map_err(failed("turn", &mark))?;
            sync(holder)?;
        }
        Ok(move_entries(self.rest(side), &self.live, None)?)
    }
}

#[cfg(test)]
mod tests {
    use super::super::journal::PlaceKind;
    use super::*;

    /// A folder with three entries and a new side with three, of which one has the same name.
    fn bench() -> (tempfile::TempDir, PlaceItem) {
        let folder = tempfile::tempdir().unwrap();
        let live = folder.path().join("live");
        let holder = live.join(".lifeboat-restore-3f9a21");
        let item = PlaceItem {
            source: "media".to_owned(),
            kind: PlaceKind::Folder,
            new: holder.join("new"),
            old: holder.join("old"),
            live,
            old_inode: None,
            new_inode: None,
            inside: true,
        };
        fs::create_dir(&item.live).unwrap();
        item.make_holder().unwrap();
        fs::create_dir(&item.new).unwrap();
        for (root, what) in [(&item.live, "old"), (&item.new, "new")] {
            fs::create_dir(root.join("sub")).unwrap();
            fs::write(root.join("sub/file"), what).unwrap();
            fs::write(root.join("both"), what).unwrap();
            fs::write(root.join(format!("only-{what}")), what).unwrap();
        }
        (folder, item)
    }

    fn looks(item: &PlaceItem) -> String {
        let both = fs::read_to_string(item.live.join("both")).unwrap();
        assert_eq!(
            fs::read_to_string(item.live.join("sub/file")).unwrap(),
            both
        );
        assert!(item.live.join(format!("only-{both}")).exists());
        assert_eq!(fs::read_dir(&item.live).unwrap().count(), 4);
        both
    }

    #[test]
    fn entries_go_and_come_and_the_folder_stays() {
        let (_folder, item) = bench();
        for (side, looked) in [(Side::New, "new"), (Side::Old, "old"), (Side::New, "new")] {
            for _ in 0..2 {
                item.settle(side).unwrap();
                assert_eq!(looks(&item), looked);
                assert!(item.is_settled(side).unwrap() && !item.is_settled(side.other()).unwrap());
            }
        }
        assert!(
            item.remove_unused_holder().is_err(),
            "the old side is in it"
        );
        assert!(
            item.remove_holder(Side::Old).is_err(),
            "the old side is not up"
        );
        item.remove_holder(Side::New).unwrap();
        assert_eq!(fs::read_to_string(item.live.join("both")).unwrap(), "new");
        assert_eq!(fs::read_dir(&item.live).unwrap().count(), 3);
    }

    #[test]
    fn from_everything_that_a_kill_can_leave_each_side_is_reached() {
        // As many renames of a way are done as a kill lets it: down, the file, up.
        for done in 0..=7 {
            for (from, to) in [(Side::Old, Side::New), (Side::New, Side::Old)] {
                for end in [Side::Old, Side::New] {
                    let (_folder, item) = bench();
                    item.settle(from).unwrap();
                    partly(&item, to, done);
                    item.settle(end).unwrap();
                    let looked = if end == Side::New { "new" } else { "old" };
                    assert_eq!(looks(&item), looked, "{done} of {from:?} to {to:?}");
                    item.settle(end.other()).unwrap();
                    assert_ne!(looks(&item), looked);
                }
            }
        }
    }

    /// Does the first steps of a way.
    fn partly(item: &PlaceItem, to: Side, mut steps: usize) {
        let some = |from: &Path, to: &Path, steps: &mut usize| {
            for entry in fs::read_dir(from).unwrap() {
                let entry = entry.unwrap();
                let is_holder = entry.path() == item.holder();
                if *steps > 0 && !is_holder {
                    fs::rename(entry.path(), to.join(entry.file_name())).unwrap();
                    *steps -= 1;
                }
            }
        };
        some(&item.live, item.rest(to.other()), &mut steps);
        if steps > 0 {
            match to {
                Side::New => drop(File::create(item.mark()).unwrap()),
                Side::Old => fs::remove_file(item.mark()).unwrap(),
            }
            steps -= 1;
        }
        some(item.rest(to), &item.live, &mut steps);
    }

    #[test]
    fn what_was_never_moved_goes_and_a_foreign_entry_is_not_replaced() {
        let (_folder, item) = bench();
        item.remove_unused_holder().unwrap();
        assert_eq!(fs::read_dir(&item.live).unwrap().count(), 3);
        let (_folder, item) = bench();
        partly(&item, Side::New, 4);
        fs::write(item.live.join("both"), "of the app").unwrap();
        assert!(item.settle(Side::New).is_err());
        assert_eq!(
            fs::read_to_string(item.live.join("both")).unwrap(),
            "of the app"
        );
        fs::remove_file(item.live.join("both")).unwrap();
        item.settle(Side::New).unwrap();
        assert_eq!(looks(&item), "new");
    }
}
