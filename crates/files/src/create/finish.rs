//! The end of a restore: folders get their metadata, the storage gets time to take everything in.
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
use std::collections::HashSet;

impl Target {
    /// Gives every folder its metadata, deepest first, and returns everything that could not be done.
    ///
    /// Until then the folders that the restore created are closed to all but its user: a restore that is given up
    /// half-way exposes nothing.
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
        for id in self.ids().rev() {
            match self.complete_folder(id, below.as_ref()) {
                Ok(folder) => below = folder,
                Err(error) => {
                    let source = Some(error.into_source());
                    self.note(What::Folder, source, || self.folder_path(id));
                }
            }
        }
        drop(below);
        if self.options().durable {
            self.sync();
        }
        self.into_problems()
    }

    fn complete_folder<'t>(
        &'t self,
        id: FolderId,
        below: Option<&TargetFolder<'t>>,
    ) -> Result<Option<TargetFolder<'t>>, Error> {
        let Some(wanted) = self.take_wanted(id) else {
            if id == FolderId::TOP && self.known(id).fresh {
                self.open_top_to_others();
            }
            return Ok(None);
        };
        let (metadata, attributes) = *wanted;
        let folder = self.open_again(id, below)?;
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
        let mut synced = HashSet::new();
        for id in self.ids() {
            let identity = self.known(id).identity;
            if !synced.insert(identity.dev) {
                continue;
            }
            let path = self.folder_path(id);
            // The top's own handle, open since the start, hears of every failed write since then.
            let done = match id {
                FolderId::TOP => syncfs(self.top()),
                _ => open_path(self.top(), &path).and_then(syncfs),
            };
            if let Err(errno) = done {
                self.note(What::Durable, Some(errno.into()), || path);
            }
        }
    }
}
