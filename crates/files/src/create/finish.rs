//! The end of a folder and of a restore: folders get their metadata, the storage gets time to take everything in.
//!
//! Invariant: a folder gets its metadata after everything below it, since creating an entry changes the folder's time
//! and a read-only folder takes no entries.

use crate::beneath::open_path;
use crate::create::apply::{self, Have, Object};
use crate::create::folder::TargetFolder;
use crate::create::options::Owner;
use crate::create::problem::{Problem, What};
use crate::create::target::{FolderId, Sealed, Target};
use crate::error::{Error, ErrorKind};
use crate::metadata::stat_open;
use rustix::fd::AsFd;
use rustix::fs::{Gid, Mode, OFlags, Uid, fchmod, fchown, openat, syncfs};

impl Target {
    /// Gives these folders their metadata and forgets them; each stands behind those that lie in it, everything that
    /// they are to hold is in them, and they are not used again.
    ///
    /// What cannot be completed yet, for an object in it may get further names, is left to [`finish`](Self::finish).
    pub fn complete(&self, folders: impl IntoIterator<Item = FolderId>) {
        let mut below = None;
        for id in folders.into_iter().filter(|id| self.is_ready(*id)) {
            below = self.complete_one(id, below.as_ref());
        }
    }

    /// Gives every folder that is not complete its metadata, deepest first, and returns everything that could not be
    /// done.
    ///
    /// Until it is complete, a folder that the restore created is closed to all but its user: a restore that is given
    /// up half-way exposes nothing that is not whole.
    pub fn finish(self) -> Vec<Problem> {
        for sealed in self.take_sealed() {
            if let Err(error) = self.seal(&sealed) {
                let source = Some(error.into_source());
                self.note(What::Flags, source, || {
                    self.path(sealed.folder, &sealed.name)
                });
            }
        }
        // A folder is registered after its parent, so the way back meets children first.
        let mut below = None;
        while let Some(id) = self.last() {
            below = self.complete_one(id, below.as_ref());
        }
        drop(below);
        if self.options().durable {
            self.sync();
        }
        self.into_problems()
    }

    /// Completes a folder in which no other one of the table lies; returns it open. `below` was completed before it.
    fn complete_one<'t>(
        &'t self,
        id: FolderId,
        below: Option<&(FolderId, TargetFolder<'t>)>,
    ) -> Option<(FolderId, TargetFolder<'t>)> {
        let completed = self.complete_folder(id, below);
        let folder = completed.unwrap_or_else(|error| {
            let source = Some(error.into_source());
            self.note(What::Folder, source, || self.folder_path(id));
            None
        });
        let parent = self.parent(id);
        self.forget(id);
        folder.map(|folder| (parent, folder))
    }

    fn complete_folder<'t>(
        &'t self,
        id: FolderId,
        below: Option<&(FolderId, TargetFolder<'t>)>,
    ) -> Result<Option<TargetFolder<'t>>, Error> {
        let Some(wanted) = self.take_wanted(id) else {
            if id == FolderId::TOP && self.known(id).fresh {
                self.open_top_to_others();
            }
            return Ok(None);
        };
        let (metadata, attributes) = *wanted;
        let below = below.filter(|(parent, _)| *parent == id);
        let folder = self.open_again(id, below.map(|(_, folder)| folder))?;
        let found = stat_open(folder.fd())
            .map_err(|errno| Error::from_errno("read the metadata of", b".", errno))?;
        let have = Have {
            owner: Some((found.uid, found.gid)),
            mode: Some(found.mode),
            reused: !folder.known().fresh,
            acl: folder.known().inherits,
        };
        let object = Object::Open(folder.fd());
        let path = || self.folder_path(id);
        apply::apply(self, object, have, &metadata, &attributes, &path);
        Ok(Some(folder))
    }

    /// Gives a file that has all its names the flags that forbid any more.
    fn seal(&self, sealed: &Sealed) -> Result<(), Error> {
        let Sealed {
            folder,
            name,
            identity,
            flags,
        } = sealed;
        let folder = self.open(*folder)?;
        let fail = |errno| Error::from_errno("open", name, errno);
        let how = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = openat(folder.fd(), &**name, how, Mode::empty()).map_err(fail)?;
        if stat_open(file.as_fd()).map_err(fail)?.identity() != *identity {
            let reason = "another file stands in its place";
            return Err(Error::because(ErrorKind::Changed, "open", name, reason));
        }
        apply::set_late_flags(file.as_fd(), *flags).map_err(fail)
    }

    fn open_top_to_others(&self) {
        if let Owner::All { uid, gid } = self.options().owner {
            let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
            if let Err(errno) = fchown(self.top(), Some(uid), Some(gid)) {
                self.note(What::Owner, Some(errno.into()), Vec::new);
            }
        }
        let Some(umask) = self.umask() else { return };
        let mode = Mode::from_raw_mode((0o777 & !umask).into());
        if let Err(errno) = fchmod(self.top(), mode) {
            self.note(What::Mode, Some(errno.into()), Vec::new);
        }
    }

    /// Waits for every file system on which a folder of this restore lies.
    fn sync(&self) {
        for path in self.take_devices().into_values() {
            // The top's own handle, open since the start, hears of every failed write since then.
            let done = if path.is_empty() {
                syncfs(self.top())
            } else {
                open_path(self.top(), &path).and_then(syncfs)
            };
            if let Err(errno) = done {
                self.note(What::Durable, Some(errno.into()), || path);
            }
        }
    }
}
