//! How a restore is to be done: what may be replaced, who is to own the result.

use crate::walk::Mark;
use std::collections::HashMap;

/// What a restore does.
#[derive(Clone, Debug)]
pub struct RestoreOptions {
    /// What happens to what stands in the target already.
    pub overwrite: Overwrite,
    /// Who owns what is restored.
    pub owner: Owner,
    /// Create devices; otherwise they are reported as skipped. Needs root.
    pub devices: bool,
    /// Leave runs of 64 KiB and more zeros as holes.
    pub sparse: bool,
    /// Wait at the end until the storage has everything.
    pub durable: bool,
    /// Folders with this mark stay as they are, whatever may be overwritten: nothing is put into them or deleted.
    pub keep_out: Option<Mark>,
}

impl Default for RestoreOptions {
    fn default() -> Self {
        Self {
            overwrite: Overwrite::Never,
            owner: Owner::Keep,
            devices: false,
            sparse: true,
            durable: false,
            keep_out: None,
        }
    }
}

/// What happens to what stands in the target already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Overwrite {
    /// The target must be missing or an empty folder.
    #[default]
    Never,
    /// Keep a file of the same size and time of change, replace other objects of the same kind; anything of another
    /// kind in the way is an error for that entry.
    IfChanged,
    /// Replace everything that is in the way, whole folders included, but nothing on another mount.
    Always,
}

/// Who owns what is restored.
#[derive(Clone, Debug, Default)]
pub enum Owner {
    /// The numbers as they were backed up.
    #[default]
    Keep,
    /// The numbers as they were backed up, with some exchanged; in access lists too.
    Map(IdMap),
    /// One user and one group for everything.
    All {
        /// The user's number.
        uid: u32,
        /// The group's number.
        gid: u32,
    },
}

/// Which numbers of users and groups stand for which others; numbers that are not in it stay.
#[derive(Clone, Debug, Default)]
pub struct IdMap {
    /// Users: from the backup's number to this machine's.
    pub users: HashMap<u32, u32>,
    /// Groups: from the backup's number to this machine's.
    pub groups: HashMap<u32, u32>,
}

impl IdMap {
    pub(crate) fn user(&self, uid: u32) -> u32 {
        self.users.get(&uid).copied().unwrap_or(uid)
    }

    pub(crate) fn group(&self, gid: u32) -> u32 {
        self.groups.get(&gid).copied().unwrap_or(gid)
    }
}

impl Owner {
    /// The user and group that an object of `uid` and `gid` gets.
    pub(crate) fn of(&self, uid: u32, gid: u32) -> (u32, u32) {
        match self {
            Self::Keep => (uid, gid),
            Self::Map(map) => (map.user(uid), map.group(gid)),
            Self::All { uid, gid } => (*uid, *gid),
        }
    }
}
