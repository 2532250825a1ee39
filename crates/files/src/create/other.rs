//! Restoring what is neither file nor folder: links of both kinds, pipes and devices.
//!
//! None of these can be opened to be acted on, so the new object is held by a descriptor without being opened, looked
//! at, and given its metadata through that. Invariant: a hard link is made to the very object that this restore put in
//! its place, never to whatever a path leads to.

use crate::attributes::{Attributes, path_of};
use crate::beneath::{check_name, hold};
use crate::create::apply::{self, Have, Object};
use crate::create::folder::{Original, Outcome, Restored, TargetFolder};
use crate::create::options::Overwrite;
use crate::create::problem::What;
use crate::entry::Kind;
use crate::error::{Error, ErrorKind};
use crate::metadata::{Metadata, stat_open};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{AtFlags, CWD, Mode, linkat, mknodat, readlinkat, symlinkat, unlinkat};
use rustix::io::Errno;

impl TargetFolder<'_> {
    /// Restores the symbolic link `name`, which points to `points_to`, whatever that is.
    pub fn create_symlink(
        &self,
        name: &[u8],
        points_to: &[u8],
        metadata: &Metadata,
        attributes: &Attributes,
    ) -> Result<Restored, Error> {
        let metadata = Metadata {
            kind: Kind::Symlink,
            ..*metadata
        };
        let unchanged = |_: &Metadata| {
            readlinkat(self.fd(), name, Vec::new())
                .is_ok_and(|target| target.as_bytes() == points_to)
        };
        self.create_other(name, &metadata, attributes, &unchanged, &|candidate| {
            symlinkat(points_to, self.fd(), candidate)
        })
    }

    /// Restores the named pipe, socket or device `name`.
    ///
    /// Sockets are left out: they mean nothing without the program that listened. Devices are left out unless the
    /// options ask for them. What is left out is noted as a problem.
    pub fn create_special(
        &self,
        name: &[u8],
        metadata: &Metadata,
        attributes: &Attributes,
    ) -> Result<Restored, Error> {
        let wanted = match metadata.kind {
            Kind::Fifo => true,
            Kind::BlockDevice | Kind::CharDevice => self.target().options().devices,
            Kind::Socket => false,
            Kind::File | Kind::Folder | Kind::Symlink => {
                let reason = format!("a {} is no special file", metadata.kind);
                return Err(Error::because(ErrorKind::Other, "create", name, reason));
            }
        };
        if !wanted {
            self.target()
                .note(What::Skipped(metadata.kind), None, || self.path(name));
            return Ok(Restored {
                outcome: Outcome::Skipped,
                original: None,
            });
        }
        let unchanged = |found: &Metadata| found.rdev == metadata.rdev;
        self.create_other(name, metadata, attributes, &unchanged, &|candidate| {
            let mode = Mode::RUSR | Mode::WUSR;
            mknodat(
                self.fd(),
                candidate,
                metadata.kind.file_type(),
                mode,
                metadata.rdev,
            )
        })
    }

    /// Gives `original` the further name `name`.
    ///
    /// File systems limit how many names an object has, and some permit only one; then the caller may restore the
    /// content once more instead.
    pub fn create_link(&self, name: &[u8], original: &Original) -> Result<Restored, Error> {
        check_name(name)?;
        let fail = |errno| Error::from_errno("link", name, errno);
        let held = if original.folder == self.id() {
            hold(self.fd(), &original.name).map_err(fail)?
        } else {
            let folder = self.target().open(original.folder)?;
            hold(folder.fd(), &original.name).map_err(fail)?
        };
        let found = stat_open(held.as_fd()).map_err(fail)?;
        if found.identity() != original.identity {
            let reason = "the object that it is another name of was exchanged";
            return Err(Error::because(ErrorKind::Changed, "link", name, reason));
        }
        let done = |outcome| Restored {
            outcome,
            original: Some(original.clone()),
        };
        if let Some(standing) = self.standing(name)? {
            if standing.identity() == original.identity {
                return Ok(done(Outcome::Kept));
            }
            self.check_way(name, &standing, found.kind)?;
        }
        let from = path_of(held.as_fd());
        let (place, ()) = self.place(name, |candidate| {
            // The path is the kernel's own link to what is held; it leads to that object and no further.
            linkat(CWD, &from, self.fd(), candidate, AtFlags::SYMLINK_FOLLOW)
        })?;
        let temporary = place.name().to_vec();
        self.settle(place, name, found.kind, || Ok(original.identity))
            .inspect_err(|_| self.give_up(&temporary))?;
        Ok(done(Outcome::Written))
    }

    fn create_other(
        &self,
        name: &[u8],
        metadata: &Metadata,
        attributes: &Attributes,
        unchanged: &dyn Fn(&Metadata) -> bool,
        make: &dyn Fn(&[u8]) -> Result<(), Errno>,
    ) -> Result<Restored, Error> {
        check_name(name)?;
        if let Some(found) = self.standing(name)? {
            let keep = self.target().options().overwrite == Overwrite::IfChanged
                && found.kind == metadata.kind
                && found.nlink < 2
                && unchanged(&found);
            if keep && let Some(held) = self.hold_if(name, |now| now.same_object(&found)) {
                self.apply_held(&held, true, name, metadata, attributes)?;
                let identity = || Ok(found.identity());
                return self.restored(Outcome::Kept, name, metadata, identity);
            }
            self.check_way(name, &found, metadata.kind)?;
        }
        let (place, ()) = self.place(name, make)?;
        let made = place.name().to_vec();
        let finish = || {
            let is_new = |now: &Metadata| now.kind == metadata.kind && now.nlink == 1;
            let held = self.hold_if(&made, is_new).ok_or_else(|| {
                let reason = "it was exchanged while it was made";
                Error::because(ErrorKind::Changed, "create", name, reason)
            })?;
            self.apply_held(&held, false, name, metadata, attributes)?;
            let identity = || stat_open(held.as_fd()).map(|found| found.identity());
            let settled = self.settle(place, name, metadata.kind, identity)?;
            self.restored(Outcome::Written, &settled, metadata, identity)
        };
        finish().inspect_err(|_| self.give_up(&made))
    }

    fn hold_if(&self, name: &[u8], right: impl FnOnce(&Metadata) -> bool) -> Option<OwnedFd> {
        let held = hold(self.fd(), name).ok()?;
        right(&stat_open(held.as_fd()).ok()?).then_some(held)
    }

    fn apply_held(
        &self,
        held: &OwnedFd,
        reused: bool,
        name: &[u8],
        metadata: &Metadata,
        attributes: &Attributes,
    ) -> Result<(), Error> {
        let found =
            stat_open(held.as_fd()).map_err(|errno| Error::from_errno("look at", name, errno))?;
        let have = Have {
            owner: Some((found.uid, found.gid)),
            mode: Some(found.mode),
            reused,
            acl: self.known().inherits && metadata.kind != Kind::Symlink,
        };
        let object = Object::Held(held.as_fd());
        apply::apply(self.target(), object, have, metadata, attributes, &|| {
            self.path(name)
        });
        Ok(())
    }

    fn give_up(&self, made: &[u8]) {
        // The error that led here is told; a temporary name that stays behind is the lesser evil.
        let _ = unlinkat(self.fd(), made, AtFlags::empty());
    }
}
