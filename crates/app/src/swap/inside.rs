//! A folder that stays the folder that it is, as a mount point must: its entries change places with those of two folders
//! inside it.
//!
//! In `uploads` stands `.lifeboat-restore-3f9a21` with `new`, `old` and, as long as the entries in `uploads` itself are those of
//! the new state, the empty file `new-is-up`. Each way first takes the entries of the wrong side down, then turns the file,
//! then brings those of the other side up. Invariant: whose entries stand in `uploads` is what the file says, at any moment;
//! so each step can be done again after any kill, in either direction, and no rename replaces anything. `uploads` may belong
//! to somebody who could put another folder or a link in the place of ours: it is reached by a handle, and must be our own.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use lifeboat_files::{HeldFolder, move_entries, standing};

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

fn sync(path: &Path, shown: &Path) -> Result<(), PlaceError> {
    let synced = File::open(path).and_then(|folder| folder.sync_all());
    synced.map_err(failed("make durable", shown))
}

impl PlaceItem {
    /// The folder inside `live` with both sides.
    pub(super) fn holder(&self) -> &Path {
        self.new.parent().unwrap_or(&self.live)
    }

    fn mark(&self) -> PathBuf {
        self.holder().join(NEW_IS_UP)
    }

    /// The folder with both sides, held open.
    fn held(&self) -> Result<HeldFolder, PlaceError> {
        let held = HeldFolder::open(self.holder())?;
        match held.is_own()? {
            true => Ok(held),
            false => Err(PlaceError::Foreign(self.holder().to_owned())),
        }
    }

    /// Where a side lies in the folder that is held.
    fn rest_in(&self, held: &HeldFolder, side: Side) -> PathBuf {
        let name = self.rest(side).file_name().unwrap_or_default();
        held.path().join(name)
    }

    /// Makes the folders for both sides. Nobody but the owner looks into them.
    pub(super) fn make_holder(&self) -> Result<(), PlaceError> {
        let make = |path: &Path, shown: &Path| {
            let made = DirBuilder::new().mode(0o700).create(path);
            made.map_err(failed("make", shown))
        };
        make(self.holder(), self.holder())?;
        let held = self.held()?;
        make(&self.rest_in(&held, Side::Old), &self.old)?;
        sync(held.path(), self.holder())?;
        sync(&self.live, &self.live)
    }

    /// Removes what was made for a restore that has moved nothing.
    pub(super) fn remove_unused_holder(&self) -> Result<(), PlaceError> {
        if standing(self.holder())?.is_none() {
            return Ok(());
        }
        let held = self.held()?;
        if self.up()? == Side::New || !self.is_empty(&held, Side::Old)? {
            return Err(PlaceError::Foreign(self.old.clone()));
        }
        fs::remove_dir_all(self.holder()).map_err(failed("remove", self.holder()))
    }

    /// Removes the side that is not live, with everything that was made for it.
    pub(super) fn remove_holder(&self, live: Side) -> Result<(), PlaceError> {
        if standing(self.holder())?.is_none() {
            return Ok(());
        }
        let held = self.held()?;
        let (own, other) = (self.rest(live), self.rest(live.other()));
        // Whoever was killed here has removed both before he removed what says whose entries are up.
        let is_begun = standing(own)?.is_none() && standing(other)?.is_none();
        if !is_begun && !self.is_settled_inside(live)? {
            return Err(PlaceError::Foreign(own.to_owned()));
        }
        for side in [live.other(), live] {
            if standing(self.rest(side))?.is_some() {
                fs::remove_dir_all(self.rest_in(&held, side))
                    .map_err(failed("remove", self.rest(side)))?;
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

    fn is_empty(&self, held: &HeldFolder, side: Side) -> Result<bool, PlaceError> {
        match fs::read_dir(self.rest_in(held, side)) {
            Ok(mut entries) => Ok(entries.next().is_none()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
            Err(error) => Err(failed("list", self.rest(side))(error)),
        }
    }

    pub(super) fn is_settled_inside(&self, side: Side) -> Result<bool, PlaceError> {
        if standing(self.holder())?.is_none() {
            return Ok(side == Side::Old);
        }
        let held = self.held()?;
        Ok(self.up()? == side && self.is_empty(&held, side)?)
    }

    pub(super) fn settle_inside(&self, side: Side) -> Result<(), PlaceError> {
        let holder = self.holder();
        if standing(holder)?.is_none() {
            return Err(PlaceError::Gone(self.live.clone()));
        }
        let held = self.held()?;
        if self.up()? != side {
            move_entries(&self.live, self.rest(side.other()), holder.file_name())?;
            // The entries are down for good before the file says so.
            let mark = held.path().join(NEW_IS_UP);
            let turned = match side {
                Side::New => File::create_new(&mark).map(drop),
                Side::Old => fs::remove_file(&mark),
            };
            turned.map_err(failed("turn", &self.mark()))?;
            sync(held.path(), holder)?;
        }
        Ok(move_entries(self.rest(side), &self.live, None)?)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

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

    /// Whoever owns the folder may take ours away and put a link there.
    #[test]
    fn a_link_in_the_place_of_our_folder_moves_and_removes_nothing_elsewhere() {
        let (folder, item) = bench();
        item.settle(Side::New).unwrap();
        let foreign = folder.path().join("foreign");
        fs::rename(item.holder(), &foreign).unwrap();
        std::os::unix::fs::symlink(&foreign, item.holder()).unwrap();
        assert!(item.settle(Side::Old).is_err());
        assert!(item.remove_holder(Side::New).is_err());
        assert!(item.is_settled(Side::New).is_err());
        assert!(foreign.join("old/only-old").exists() && foreign.join("new-is-up").exists());
        assert!(item.live.join("only-new").exists());
        fs::remove_file(item.holder()).unwrap();
        fs::create_dir(item.holder()).unwrap();
        fs::set_permissions(item.holder(), fs::Permissions::from_mode(0o777)).unwrap();
        let error = item.settle(Side::Old).unwrap_err();
        assert!(matches!(error, PlaceError::Foreign(_)), "{error}");
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
