//! Giving one object its owner, mode, attributes, time and flags, in the order in which they survive each other.
//!
//! Invariants: the object is reached through a descriptor, never by a path that somebody could exchange. Set-id bits
//! are given only to an object that has the owner they were meant for. Each thing that cannot be given is noted.

use crate::attributes::{ACL_ACCESS, ACL_DEFAULT, Attributes, CAPABILITY, Carrier};
use crate::attributes::{FLAGS_EARLY, FLAGS_SEALING, path_of, set_flags};
use crate::create::options::Owner;
use crate::create::problem::What;
use crate::create::target::Target;
use crate::entry::{Kind, Time};
use crate::metadata::{Metadata, stat_open};
use rustix::fd::BorrowedFd;
use rustix::fs::{
    AtFlags, CWD, Gid, Mode, Timespec, Timestamps, UTIME_OMIT, Uid, chmodat, chownat, fchmod,
    fchown, futimens, utimensat,
};
use rustix::io::Errno;
use std::borrow::Cow;
use std::io;

const SET_USER_ID: u16 = 0o4000;
const SET_GROUP_ID: u16 = 0o2000;
const SET_ID: u16 = SET_USER_ID | SET_GROUP_ID;

/// An object that gets its metadata.
#[derive(Clone, Copy)]
pub(crate) enum Object<'a> {
    /// A file or folder, open.
    Open(BorrowedFd<'a>),
    /// Anything, held without being opened.
    Held(BorrowedFd<'a>),
}

/// What the object has already, so that nothing is set twice.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Have {
    pub(crate) owner: Option<(u32, u32)>,
    pub(crate) mode: Option<u16>,
    /// It was there before the restore, so it may have what it should not.
    pub(crate) reused: bool,
    /// It may have got an access list from its folder.
    pub(crate) acl: bool,
}

/// Gives `object` its metadata; what fails is noted under `path`.
pub(crate) fn apply(
    target: &Target,
    object: Object<'_>,
    have: Have,
    metadata: &Metadata,
    attributes: &Attributes,
    path: &dyn Fn() -> Vec<u8>,
) {
    let note = |what, errno: Errno| target.note(what, Some(errno.into()), path);
    let owner = target.options().owner.of(metadata.uid, metadata.gid);
    let mut mode = metadata.mode;
    let taken = set_id_taken(&target.options().owner, metadata);
    if taken != 0 {
        mode &= !taken;
        let reason = "a program that runs as its owner is not handed to another one";
        target.note(What::Mode, Some(io::Error::other(reason)), path);
    }
    let mut mode_now = have.mode;
    if have.owner != Some(owner) {
        // The kernel takes set-id bits away when the owner changes.
        mode_now = mode_now.filter(|mode| mode & SET_ID == 0);
        if let Err(errno) = object.set_owner(owner) {
            note(What::Owner, errno);
            if mode & SET_ID != 0 {
                mode &= !SET_ID;
                note(What::Mode, errno);
            }
        }
    }
    let held_path = object.held_path();
    let carrier = object.carrier(&held_path);
    if have.reused || have.acl {
        for (name, errno) in remove_unwanted(carrier, have.reused, attributes) {
            note(What::Attribute(name), errno);
        }
        // Removing an access list leaves its mask behind as the group's permissions.
        mode_now = None;
    }
    if mode_now != Some(mode)
        && metadata.kind != Kind::Symlink
        && let Err(errno) = object.set_mode(mode)
    {
        note(What::Mode, errno);
    }
    set_extended(target, object, carrier, mode, attributes, path);
    match object.set_time(metadata.mtime) {
        Err(errno) => note(What::Time, errno),
        // File systems hold different ranges, and the kernel takes the nearest time without a word.
        Ok(()) if u32::try_from(metadata.mtime.seconds).is_ok_and(|s| s < 1 << 31) => {}
        Ok(()) => {
            if object
                .metadata()
                .is_ok_and(|now| now.mtime.seconds != metadata.mtime.seconds)
            {
                note(What::Time, Errno::RANGE);
            }
        }
    }
    let mut flags = attributes.flags;
    if metadata.kind == Kind::File && metadata.nlink > 1 {
        // Its other names come first; `Target::seal` does the rest.
        flags &= !FLAGS_SEALING;
    }
    if let Object::Open(fd) = object
        && (flags & !FLAGS_EARLY != 0 || have.reused)
        && let Err(errno) = set_late_flags(fd, flags)
    {
        note(What::Flags, errno);
    }
}

/// The set-id bits that a file loses: under one owner for everything they would let it act for whoever that is.
fn set_id_taken(owner: &Owner, metadata: &Metadata) -> u16 {
    let Owner::All { uid, gid } = owner else {
        return 0;
    };
    if metadata.kind == Kind::Folder {
        return 0;
    }
    let user = if *uid == metadata.uid { 0 } else { SET_USER_ID };
    let group = if *gid == metadata.gid {
        0
    } else {
        SET_GROUP_ID
    };
    metadata.mode & (user | group)
}

/// Sets the flags that must be there before content; what fails is noted under `path`.
pub(crate) fn apply_early_flags(
    target: &Target,
    fd: BorrowedFd<'_>,
    attributes: &Attributes,
    path: &dyn Fn() -> Vec<u8>,
) {
    let flags = attributes.flags & FLAGS_EARLY;
    if flags != 0
        && let Err(errno) = set_flags(fd, flags, flags)
    {
        target.note(What::Flags, Some(errno.into()), path);
    }
}

pub(crate) fn set_late_flags(fd: BorrowedFd<'_>, flags: u32) -> Result<(), Errno> {
    match set_flags(fd, flags, !FLAGS_EARLY) {
        // A file system without flags has none that could be wrong.
        Err(Errno::NOTTY | Errno::OPNOTSUPP) if flags & !FLAGS_EARLY == 0 => Ok(()),
        done => done,
    }
}

/// Removes attributes that the object got from its folder or had before; returns those that it could not.
fn remove_unwanted(
    carrier: Carrier<'_>,
    reused: bool,
    attributes: &Attributes,
) -> Vec<(Box<[u8]>, Errno)> {
    // If they cannot be listed, those that a folder hands down are tried; what fails then is told by its name.
    let names = carrier
        .names()
        .unwrap_or_else(|_| vec![ACL_ACCESS.into(), ACL_DEFAULT.into()]);
    let names = names.into_iter().filter(|name| {
        let access_list = matches!(&**name, ACL_ACCESS | ACL_DEFAULT);
        // What the system itself puts there, as a security label, is not ours to remove.
        let removable =
            access_list || (reused && (name.starts_with(b"user.") || **name == *CAPABILITY));
        removable && attributes.get(name).is_none()
    });
    names
        .filter_map(|name| carrier.remove(&name).err().map(|errno| (name, errno)))
        .collect()
}

fn set_extended(
    target: &Target,
    object: Object<'_>,
    carrier: Carrier<'_>,
    mode: u16,
    attributes: &Attributes,
    path: &dyn Fn() -> Vec<u8>,
) {
    // Stable, so the rest keeps its order: capabilities come after everything that would drop them.
    let mut extended: Vec<_> = attributes.extended.iter().collect();
    extended.sort_by_key(|one| &*one.name == CAPABILITY);
    for one in extended {
        let value = mapped(&target.options().owner, &one.name, &one.value);
        let mut done = carrier.set(&one.name, &value);
        // Only who may write a file may give it attributes; its owner lends himself that right.
        if done == Err(Errno::ACCESS) && mode & 0o200 == 0 && object.set_mode(mode | 0o200).is_ok()
        {
            done = carrier.set(&one.name, &value);
            if let Err(errno) = object.set_mode(mode) {
                target.note(What::Mode, Some(errno.into()), path);
            }
        }
        if let Err(errno) = done {
            target.note(What::Attribute(one.name.clone()), Some(errno.into()), path);
        }
    }
}

/// The value with the numbers of users and groups exchanged, if it is an access list and the policy says so.
fn mapped<'a>(owner: &Owner, name: &[u8], value: &'a [u8]) -> Cow<'a, [u8]> {
    /// `u32` version, then entries of `u16` tag, `u16` permissions, `u32` id, all little-endian.
    const HEADER_BYTES: usize = 4;
    const ENTRY_BYTES: usize = 8;
    const TAG_USER: [u8; 2] = [0x02, 0];
    const TAG_GROUP: [u8; 2] = [0x08, 0];
    let Owner::Map(map) = owner else {
        return Cow::Borrowed(value);
    };
    if !matches!(name, ACL_ACCESS | ACL_DEFAULT) || value.len() < HEADER_BYTES {
        return Cow::Borrowed(value);
    }
    let mut value = value.to_vec();
    for entry in value[HEADER_BYTES..].chunks_exact_mut(ENTRY_BYTES) {
        let (head, id) = entry.split_at_mut(4);
        let number = u32::from_le_bytes((&*id).try_into().expect("an entry has four bytes of id"));
        let number = match head[..2] {
            [a, b] if [a, b] == TAG_USER => map.user(number),
            [a, b] if [a, b] == TAG_GROUP => map.group(number),
            _ => number,
        };
        id.copy_from_slice(&number.to_le_bytes());
    }
    Cow::Owned(value)
}

impl<'a> Object<'a> {
    fn set_owner(self, (uid, gid): (u32, u32)) -> Result<(), Errno> {
        let (uid, gid) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
        match self {
            Self::Open(fd) => fchown(fd, uid, gid),
            Self::Held(fd) => chownat(fd, c"", uid, gid, AtFlags::EMPTY_PATH),
        }
    }

    fn set_mode(self, mode: u16) -> Result<(), Errno> {
        let mode = Mode::from_raw_mode(mode.into());
        match self {
            Self::Open(fd) => fchmod(fd, mode),
            Self::Held(fd) => chmodat(CWD, path_of(fd), mode, AtFlags::empty()),
        }
    }

    fn set_time(self, mtime: Time) -> Result<(), Errno> {
        let times = Timestamps {
            last_access: Timespec {
                tv_sec: 0,
                tv_nsec: UTIME_OMIT,
            },
            last_modification: Timespec {
                tv_sec: mtime.seconds,
                tv_nsec: mtime.nanos.into(),
            },
        };
        match self {
            Self::Open(fd) => futimens(fd, &times),
            Self::Held(fd) => utimensat(CWD, path_of(fd), &times, AtFlags::empty()),
        }
    }

    fn metadata(self) -> Result<Metadata, Errno> {
        let (Self::Open(fd) | Self::Held(fd)) = self;
        stat_open(fd)
    }

    fn held_path(self) -> String {
        match self {
            Self::Open(_) => String::new(),
            Self::Held(fd) => path_of(fd),
        }
    }

    fn carrier(self, held_path: &'a str) -> Carrier<'a> {
        match self {
            Self::Open(fd) => Carrier::Open(fd),
            Self::Held(_) => Carrier::Held(held_path),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::create::options::IdMap;

    #[test]
    fn mapping_owners_exchanges_the_numbers_in_access_lists_too() {
        let entry =
            |tag: u16, id: u32| [&tag.to_le_bytes()[..], &[7, 0], &id.to_le_bytes()].concat();
        let list = |user, group| {
            let anyone = u32::MAX;
            [
                vec![2, 0, 0, 0],
                entry(1, anyone),
                entry(2, user),
                entry(4, anyone),
                entry(8, group),
                entry(16, anyone),
            ]
            .concat()
        };
        let mut map = IdMap::default();
        map.users.insert(1000, 2000);
        map.groups.insert(1000, 3000);
        let owner = Owner::Map(map);
        assert_eq!(
            &*mapped(&owner, ACL_ACCESS, &list(1000, 1000)),
            list(2000, 3000)
        );
        assert_eq!(
            &*mapped(&owner, b"user.x", &list(1000, 1000)),
            list(1000, 1000)
        );
        assert_eq!(
            &*mapped(&Owner::Keep, ACL_ACCESS, &list(1000, 1000)),
            list(1000, 1000)
        );
    }
}
