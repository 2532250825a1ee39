//! A folder that is being filled: where a new entry is put, and what becomes of what stands there.
//!
//! In a folder that this restore created, nobody else can have put anything, so entries get their final names at
//! once. Elsewhere a new object is made under a temporary name and takes the place of the old one by a rename, when
//! it is complete. Invariants: no link is followed and no object written through; nothing that this restore made is
//! lost to another name that the file system takes for the same; nothing on another mount is removed.

use crate::attributes::{ACL_ACCESS, ACL_DEFAULT, Attributes, Carrier};
use crate::beneath::{check_name, open_above, open_child, open_path};
use crate::create::apply;
use crate::create::options::Overwrite;
use crate::create::problem::What;
use crate::create::remove::{Bounds, remove_entry, remove_folder};
use crate::create::target::{FolderId, Known, Target, inherits};
use crate::entry::Kind;
use crate::error::{Error, ErrorKind};
use crate::listing::Listing;
use crate::metadata::{Identity, Metadata, stat_name, stat_open};
use crate::walk::{Folder, bears};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{
    AtFlags, Mode, OFlags, RenameFlags, fchmod, mkdirat, openat, renameat, renameat_with, unlinkat,
};
use rustix::io::Errno;
use std::io;
use std::sync::{Arc, OnceLock};

/// Names tried for one entry before giving up; more can only be taken by an attacker.
const NAMES_MAX: u32 = 1000;
/// The longest name that Linux file systems hold, in bytes.
const NAME_MAX_BYTES: usize = 255;

/// An open folder of a [`Target`].
#[derive(Clone, Debug)]
pub struct TargetFolder<'t> {
    target: &'t Target,
    handle: Arc<Handle>,
}

/// An open folder and what is known about it.
#[derive(Debug)]
pub(crate) struct Handle {
    fd: OwnedFd,
    id: FolderId,
    known: Known,
    birth: OnceLock<Birth>,
    folds: OnceLock<bool>,
}

/// How new files of one folder come into the world, learned from the first.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Birth {
    pub(crate) owner: (u32, u32),
    /// The mode is what was asked for, less the mask.
    pub(crate) honest: bool,
}

/// What became of one entry of a restore.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    /// Whether it was made, kept or left out.
    pub outcome: Outcome,
    /// What further names of the same object are linked to; there if the metadata said `nlink` > 1.
    pub original: Option<Original>,
}

/// Whether an entry was made, kept or left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was made.
    Written,
    /// It stood there already, unchanged; its metadata was set.
    Kept,
    /// It is not restored: a socket, or a device that was not asked for. Noted as a problem.
    Skipped,
}

/// An object that this restore put in its place and that may get further names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Original {
    pub(crate) folder: FolderId,
    pub(crate) name: Box<[u8]>,
    pub(crate) identity: Identity,
}

/// The name under which a new object was made.
#[derive(Debug)]
pub(crate) enum Place {
    /// Its final one.
    Final(Box<[u8]>),
    /// One that it is yet to lose.
    Temporary(Box<[u8]>),
}

impl Place {
    pub(crate) fn name(&self) -> &[u8] {
        let (Self::Final(name) | Self::Temporary(name)) = self;
        name
    }
}

impl Target {
    /// Opens a folder of this restore; [`ErrorKind::Changed`] if somebody put another one in its place, and an error if
    /// it is [complete](Self::complete).
    pub fn open(&self, id: FolderId) -> Result<TargetFolder<'_>, Error> {
        let Some((path, known)) = self.find(id) else {
            let (action, reason) = ("open the folder", "it is complete already");
            return Err(Error::because(ErrorKind::Other, action, b"", reason));
        };
        let fail = |errno| Error::from_errno("open the folder", &path, errno);
        let fd = open_path(self.top(), &path).map_err(fail)?;
        let found = stat_open(fd.as_fd()).map_err(fail)?;
        if found.identity() != known.identity {
            let (action, reason) = ("open the folder", "another folder stands in its place");
            return Err(Error::because(ErrorKind::Changed, action, &path, reason));
        }
        Ok(TargetFolder::new(self, Handle::new(fd, id, known)))
    }

    /// Opens the folder `id`, from `below` if there is an open folder that lies in it.
    pub(crate) fn open_again<'t>(
        &'t self,
        id: FolderId,
        below: Option<&TargetFolder<'t>>,
    ) -> Result<TargetFolder<'t>, Error> {
        let known = self.known(id);
        match below.and_then(|below| open_above(below.fd(), known.identity)) {
            Some(fd) => Ok(TargetFolder::new(self, Handle::new(fd, id, known))),
            None => self.open(id),
        }
    }
}

impl Handle {
    fn new(fd: OwnedFd, id: FolderId, known: Known) -> Self {
        Self {
            fd,
            id,
            known,
            birth: OnceLock::new(),
            folds: OnceLock::new(),
        }
    }

    /// How files are born here; the first one, with the mode that it should have, is looked at and the others are
    /// taken to be like it.
    pub(crate) fn birth(&self, first: BorrowedFd<'_>, mode: Option<u16>) -> Result<Birth, Errno> {
        if let Some(birth) = self.birth.get() {
            return Ok(*birth);
        }
        let found = stat_open(first)?;
        let honest = Some(found.mode) == mode && !self.known.inherits;
        Ok(*self.birth.get_or_init(|| Birth {
            owner: (found.uid, found.gid),
            honest,
        }))
    }
}

impl<'t> TargetFolder<'t> {
    fn new(target: &'t Target, handle: Handle) -> Self {
        Self {
            target,
            handle: Arc::new(handle),
        }
    }

    /// The folder's place in the target, by which it can be opened again.
    pub fn id(&self) -> FolderId {
        self.handle.id
    }

    /// Creates the folder `name`, or takes the one that stands there if the policy permits, and registers what it is
    /// to look like when it is complete.
    pub fn create_folder(
        &self,
        name: &[u8],
        metadata: &Metadata,
        attributes: Attributes,
    ) -> Result<Self, Error> {
        check_name(name)?;
        let (name_here, created) = self.make_folder(name)?;
        let fail = |errno| Error::from_errno("open the folder", name, errno);
        let fd = open_child(self.fd(), &name_here).map_err(fail)?;
        let found = stat_open(fd.as_fd()).map_err(fail)?;
        let fresh = created && self.target.is_own(&found);
        let keep_out = self.target.options().keep_out;
        if let Some(mark) = keep_out.filter(|mark| !created && bears(fd.as_fd(), mark)) {
            let (action, kind) = ("restore into the folder", ErrorKind::KeptOut);
            return Err(Error::because(kind, action, name, mark.reason));
        }
        let inherits = if created && self.known().inherits {
            // Whatever the parent hands down would reach everything below.
            let carrier = Carrier::Open(fd.as_fd());
            let removed = carrier
                .remove(ACL_DEFAULT)
                .and_then(|()| carrier.remove(ACL_ACCESS));
            removed.is_err()
        } else {
            !created && inherits(fd.as_fd()).map_err(fail)?
        };
        if created {
            let path = || self.path(&name_here);
            apply::apply_early_flags(self.target, fd.as_fd(), &attributes, &path);
        } else {
            lend_access(fd.as_fd(), &found);
        }
        if !self.known().fresh {
            self.target.remember(self.handle.id, found.identity());
        }
        let known = Known {
            identity: found.identity(),
            fresh,
            inherits,
        };
        let id = self
            .target
            .register(self.handle.id, &name_here, known, (*metadata, attributes));
        Ok(Self::new(self.target, Handle::new(fd, id, known)))
    }

    /// Deletes every entry whose name is not `wanted`, folders with all they hold, and returns how many.
    ///
    /// `wanted` is asked for each entry once, in the order of name bytes. Call it when the restore of this folder has
    /// succeeded. What cannot be deleted, or lies on another mount, is
    /// noted as a problem and stays. Where the file system takes different names for the same, nothing is deleted.
    pub fn remove_extras(&self, wanted: &mut dyn FnMut(&[u8]) -> bool) -> Result<u64, Error> {
        if self.known().fresh {
            return Ok(0);
        }
        let again = open_path(self.fd(), b"")
            .map_err(|errno| Error::from_errno("open the folder", b".", errno))?;
        let mut folder = Folder::from_fd(again);
        let mut listing = Listing::new();
        folder.list(&mut listing)?;
        let mut deleted = 0;
        for entry in listing.iter() {
            let name = entry?.name;
            if wanted(&name) {
                continue;
            }
            if self.learn_folding()? {
                let reason = "names that differ in case are the same here";
                let source = Some(io::Error::other(reason));
                self.target.note(What::Extra, source, || self.path(&name));
                continue;
            }
            match remove_entry(self.fd(), &name, self.bounds()) {
                Ok(()) => deleted += 1,
                Err(error) if error.kind() == ErrorKind::Vanished => {}
                Err(error) => {
                    let source = Some(error.into_source());
                    self.target.note(What::Extra, source, || self.path(&name));
                }
            }
        }
        Ok(deleted)
    }

    /// Whether the folder takes names that differ in case for the same; tried out if no file has shown it yet.
    fn learn_folding(&self) -> Result<bool, Error> {
        if let Some(folds) = self.handle.folds.get() {
            return Ok(*folds);
        }
        let name = self.target.temporary_name();
        let fail = |errno| Error::from_errno("create", &name, errno);
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let probe = openat(self.fd(), &*name, flags, Mode::RUSR | Mode::WUSR).map_err(fail)?;
        let folds = self.folds(&name);
        drop(probe);
        unlinkat(self.fd(), &*name, AtFlags::empty()).map_err(fail)?;
        Ok(folds)
    }

    /// Makes the folder `name`, or finds one that may be used; returns its name and whether it was made.
    fn make_folder(&self, name: &[u8]) -> Result<(Box<[u8]>, bool), Error> {
        let fail = |errno| Error::from_errno("create the folder", name, errno);
        for number in 0..NAMES_MAX {
            let candidate = variant(name, number);
            match mkdirat(self.fd(), &*candidate, Mode::RWXU) {
                Ok(()) => {
                    self.note_variant(name, &candidate, number);
                    return Ok((candidate, true));
                }
                Err(Errno::EXIST) if self.direct() => continue,
                Err(Errno::EXIST) => {}
                Err(errno) => return Err(fail(errno)),
            }
            let found = match stat_name(self.fd(), &candidate) {
                Ok(found) => found,
                Err(Errno::NOENT) => continue,
                Err(errno) => return Err(fail(errno)),
            };
            if self.made(&found) {
                continue;
            }
            if found.kind == Kind::Folder {
                return Ok((candidate, false));
            }
            self.check_way(name, &found, Kind::Folder)?;
            unlinkat(self.fd(), &*candidate, AtFlags::empty()).map_err(fail)?;
            mkdirat(self.fd(), &*candidate, Mode::RWXU).map_err(fail)?;
            return Ok((candidate, true));
        }
        Err(fail(Errno::EXIST))
    }

    /// Whether this restore made what was found in this folder.
    fn made(&self, found: &Metadata) -> bool {
        self.target.made(self.handle.id, found.identity())
    }

    /// What stands where `name` is to be, if anything can stand there.
    pub(crate) fn standing(&self, name: &[u8]) -> Result<Option<Metadata>, Error> {
        if self.direct() {
            return Ok(None);
        }
        match stat_name(self.fd(), name) {
            Ok(found) if self.made(&found) => Ok(None),
            Ok(found) => Ok(Some(found)),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(Error::from_errno("look at", name, errno)),
        }
    }

    /// An error if the policy does not permit a new object of `kind` to take the place of what was `found`.
    pub(crate) fn check_way(&self, name: &[u8], found: &Metadata, kind: Kind) -> Result<(), Error> {
        if found.mount_root || found.dev != self.known().identity.dev {
            let reason = "another file system is mounted there";
            return Err(Error::because(ErrorKind::Exists, "replace", name, reason));
        }
        if found.kind != kind && self.target.options().overwrite != Overwrite::Always {
            let reason = format!("a {} stands where a {kind} is to be", found.kind);
            return Err(Error::because(ErrorKind::Exists, "replace", name, reason));
        }
        Ok(())
    }

    /// Makes an object by `make`, under its final name where that is safe, else under a temporary one.
    pub(crate) fn place<T>(
        &self,
        name: &[u8],
        make: impl Fn(&[u8]) -> Result<T, Errno>,
    ) -> Result<(Place, T), Error> {
        let fail = |errno| Error::from_errno("create", name, errno);
        for number in 0..NAMES_MAX {
            let candidate = if self.direct() {
                variant(name, number)
            } else {
                self.target.temporary_name().into_boxed_slice()
            };
            match make(&candidate) {
                Ok(made) if self.direct() => {
                    self.note_variant(name, &candidate, number);
                    return Ok((Place::Final(candidate), made));
                }
                Ok(made) => return Ok((Place::Temporary(candidate), made)),
                Err(Errno::EXIST) => {}
                Err(errno) => return Err(fail(errno)),
            }
        }
        Err(fail(Errno::EXIST))
    }

    /// Puts an object that is complete where it belongs, and returns the name that it has there.
    pub(crate) fn settle(
        &self,
        place: Place,
        name: &[u8],
        kind: Kind,
        identity: impl FnOnce() -> Result<Identity, Errno>,
    ) -> Result<Box<[u8]>, Error> {
        let temporary = match place {
            Place::Final(name) => return Ok(name),
            Place::Temporary(temporary) => temporary,
        };
        let fail = |errno| Error::from_errno("put in its place", name, errno);
        let folds = self.folds(&temporary);
        if folds {
            self.target
                .remember(self.handle.id, identity().map_err(fail)?);
        }
        match stat_name(self.fd(), name) {
            Ok(found) if self.made(&found) => {
                return self.settle_beside(&temporary, name);
            }
            Ok(found) => {
                self.check_way(name, &found, kind)?;
                if found.kind == Kind::Folder {
                    remove_folder(self.fd(), name, self.bounds())?;
                }
            }
            Err(Errno::NOENT) => {}
            Err(errno) => return Err(fail(errno)),
        }
        renameat(self.fd(), &*temporary, self.fd(), name).map_err(fail)?;
        // Renaming one name of an object to another of its names does nothing; else this name is gone already.
        if kind != Kind::Folder {
            let _ = unlinkat(self.fd(), &*temporary, AtFlags::empty());
        }
        Ok(name.into())
    }

    /// The name leads to something that this very restore made under another name.
    fn settle_beside(&self, temporary: &[u8], name: &[u8]) -> Result<Box<[u8]>, Error> {
        let fail = |errno| Error::from_errno("put in its place", name, errno);
        for number in 1..NAMES_MAX {
            let candidate = variant(name, number);
            let flags = RenameFlags::NOREPLACE;
            match renameat_with(self.fd(), temporary, self.fd(), &*candidate, flags) {
                Ok(()) => {
                    self.note_variant(name, &candidate, number);
                    return Ok(candidate);
                }
                Err(Errno::EXIST) => {}
                Err(errno) => return Err(fail(errno)),
            }
        }
        Err(fail(Errno::EXIST))
    }

    /// Whether the folder takes names that differ in case for the same, learned from the first temporary name.
    fn folds(&self, temporary: &[u8]) -> bool {
        *self.handle.folds.get_or_init(|| {
            let upper = temporary.to_ascii_uppercase();
            stat_name(self.fd(), &upper).is_ok()
        })
    }

    /// Whether new entries get their final names at once: nothing may be replaced, or nothing can be there.
    pub(crate) fn direct(&self) -> bool {
        self.known().fresh || self.target.options().overwrite == Overwrite::Never
    }

    pub(crate) fn restored(
        &self,
        outcome: Outcome,
        name: &[u8],
        metadata: &Metadata,
        identity: impl FnOnce() -> Result<Identity, Errno>,
    ) -> Result<Restored, Error> {
        if metadata.nlink < 2 {
            return Ok(Restored {
                outcome,
                original: None,
            });
        }
        let identity = identity().map_err(|errno| Error::from_errno("look at", name, errno))?;
        self.target.hold(self.handle.id);
        let original = Original {
            folder: self.handle.id,
            name: name.into(),
            identity,
        };
        Ok(Restored {
            outcome,
            original: Some(original),
        })
    }

    pub(crate) fn target(&self) -> &'t Target {
        self.target
    }

    pub(crate) fn handle(&self) -> &Handle {
        &self.handle
    }

    fn bounds(&self) -> Bounds {
        Bounds {
            dev: self.known().identity.dev,
            keep_out: self.target.options().keep_out,
        }
    }

    pub(crate) fn known(&self) -> Known {
        self.handle.known
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.handle.fd.as_fd()
    }

    pub(crate) fn path(&self, name: &[u8]) -> Vec<u8> {
        self.target.path(self.handle.id, name)
    }

    fn note_variant(&self, name: &[u8], candidate: &[u8], number: u32) {
        if number > 0 {
            self.target
                .note(What::Renamed(candidate.into()), None, || self.path(name));
        }
    }
}

/// The name itself, or the `number`-th name for an entry whose own is taken, within what a file system holds.
fn variant(name: &[u8], number: u32) -> Box<[u8]> {
    if number == 0 {
        return name.into();
    }
    let suffix = format!("~lifeboat-{number}");
    let kept = name.len().min(NAME_MAX_BYTES - suffix.len());
    [&name[..kept], suffix.as_bytes()]
        .concat()
        .into_boxed_slice()
}

/// A folder that even its owner may not enter or write is opened to him; it gets its mode at the end anyway.
fn lend_access(fd: BorrowedFd<'_>, found: &Metadata) {
    if found.mode & 0o700 != 0o700 {
        // Where this is denied, what needs it fails and tells.
        let _ = fchmod(fd, Mode::from_raw_mode((found.mode | 0o700).into()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::create::options::RestoreOptions;
    use crate::create::problem::Problem;

    #[test]
    fn where_names_differ_in_nothing_but_case_nothing_is_lost() {
        // No such file system can be counted on, so the folder is told that it is on one, and one name is used twice.
        let scratch = tempfile::tempdir().unwrap();
        let options = RestoreOptions {
            overwrite: Overwrite::Always,
            ..RestoreOptions::default()
        };
        std::fs::write(scratch.path().join("X"), "old").unwrap();
        std::fs::write(scratch.path().join("extra"), "old").unwrap();
        let target = Target::prepare(scratch.path(), options).unwrap();
        let top = target.open(FolderId::TOP).unwrap();
        top.handle.folds.set(true).unwrap();
        let (file, none) = (
            Metadata {
                mode: 0o600,
                ..Metadata::default()
            },
            Attributes::default(),
        );
        top.write_file(b"X", &file, &none, b"first").unwrap();
        top.write_file(b"X", &file, &none, b"second").unwrap();
        let folder = Metadata {
            mode: 0o700,
            ..file
        };
        top.create_folder(b"D", &folder, none.clone()).unwrap();
        top.create_folder(b"D", &folder, none).unwrap();
        assert_eq!(top.remove_extras(&mut |_| false).unwrap(), 0);
        let read = |name: &str| std::fs::read_to_string(scratch.path().join(name)).unwrap();
        assert_eq!(read("X"), "first");
        assert_eq!(read("X~lifeboat-1"), "second");
        assert_eq!(read("extra"), "old");
        assert!(scratch.path().join("D~lifeboat-1").is_dir());
        let problems = target.finish();
        let renamed = |problem: &&Problem| matches!(problem.what, What::Renamed(_));
        assert_eq!(problems.iter().filter(renamed).count(), 2);
        let kept = |problem: &&Problem| problem.what == What::Extra;
        assert_eq!(problems.iter().filter(kept).count(), 5);
    }

    #[test]
    fn a_variant_of_the_longest_name_is_not_longer() {
        assert_eq!(&*variant(b"a", 0), b"a");
        assert_eq!(&*variant(b"a", 2), b"a~lifeboat-2");
        assert_eq!(variant(&[b'x'; 255], 12).len(), 255);
    }
}
