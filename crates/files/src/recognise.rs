//! What must not be backed up as mere files: database files that a server or a program has open.
//!
//! A copy of a running PostgreSQL data directory, or of an SQLite database between two of its writes, looks like a
//! backup and is none. This file notices them so that the caller can say so and read them in the right way. It only
//! looks: it opens no database, takes no lock and drops none. Invariant: it errs on the side of "in use".

use crate::entry::Kind;
use crate::listing::Listing;
use crate::read::OpenFile;
use crate::walk::{Folder, read_start};
use rustix::process::{Flock, FlockOffsetType, FlockType, Pid, fcntl_getlk, test_kill_process};

/// The first bytes of every SQLite 3 database.
pub const SQLITE_MAGIC: &[u8; 16] = b"SQLite format 3\0";

/// Where SQLite locks: the pending byte, the reserved byte and the shared range (its `PENDING_BYTE` and after).
const SQLITE_LOCKS_START: u64 = 0x4000_0000;
const SQLITE_LOCKS_BYTES: u64 = 2 + 510;

/// `DBState` in `global/pg_control`; its place has been the same since PostgreSQL 8.
const CONTROL_STATE_OFFSET: usize = 16;
const CONTROL_STATE_SHUT_DOWN: [u32; 2] = [1, 2];

/// A folder that is more than files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Special {
    /// The data directory of a PostgreSQL server.
    PostgresCluster {
        /// The major version, as in `16`.
        version: String,
        /// Whether a server works in it.
        state: ClusterState,
    },
}

/// Whether a PostgreSQL data directory may be copied as files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClusterState {
    /// A server runs, and this is its process as far as can be seen from here.
    Running {
        /// The number in `postmaster.pid`.
        pid: i32,
    },
    /// It was not shut down: a server runs where it cannot be seen (in a container, on another host), or it crashed.
    NotShutDown,
    /// It was shut down in order; its files are consistent.
    ShutDown,
}

/// How an SQLite database is in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SqliteUse {
    /// No sign of use: the file alone is the database.
    Idle,
    /// A write-ahead log with content lies beside it; the file alone lacks what is in there.
    WriteAheadLog,
    /// A journal with content lies beside it; the file alone may be in the middle of a transaction.
    Journal,
    /// Another process has it open and holds a lock.
    Locked,
}

/// Recognises a folder that must not be taken for mere files.
pub fn recognise(folder: &Folder, listing: &Listing) -> Option<Special> {
    if !(listing.may_hold(b"PG_VERSION") && listing.may_hold(b"global")) {
        return None;
    }
    let mut version = [0; 16];
    let length = read_start(folder.fd(), b"PG_VERSION", &mut version)?;
    let version = str::from_utf8(&version[..length]).ok()?.trim();
    if !version.starts_with(|first: char| first.is_ascii_digit()) {
        return None;
    }
    let global = folder.open_child(b"global").ok()?;
    let mut control = [0; CONTROL_STATE_OFFSET + 4];
    if read_start(global.fd(), b"pg_control", &mut control)? < control.len() {
        return None;
    }
    let state = cluster_state(folder, listing, &control);
    Some(Special::PostgresCluster {
        version: version.to_owned(),
        state,
    })
}

fn cluster_state(
    folder: &Folder,
    listing: &Listing,
    control: &[u8; CONTROL_STATE_OFFSET + 4],
) -> ClusterState {
    if listing.may_hold(b"postmaster.pid")
        && let Some(pid) = postmaster(folder)
        && lives(pid)
    {
        return ClusterState::Running { pid };
    }
    let state = control[CONTROL_STATE_OFFSET..]
        .try_into()
        .expect("the slice has four bytes");
    // A server writes in its machine's byte order; the other order yields none of the known values.
    let orders = [
        u32::from_le_bytes(state),
        u32::from_le_bytes(state).swap_bytes(),
    ];
    if orders
        .iter()
        .any(|state| CONTROL_STATE_SHUT_DOWN.contains(state))
    {
        ClusterState::ShutDown
    } else {
        ClusterState::NotShutDown
    }
}

fn postmaster(folder: &Folder) -> Option<i32> {
    let mut start = [0; 16];
    let length = read_start(folder.fd(), b"postmaster.pid", &mut start)?;
    let text = str::from_utf8(&start[..length]).ok()?;
    // A single-user server writes its number negative.
    text.lines()
        .next()?
        .trim()
        .parse::<i32>()
        .ok()?
        .checked_abs()
}

fn lives(pid: i32) -> bool {
    let Some(pid) = Pid::from_raw(pid) else {
        return false;
    };
    // A process of another user answers "not permitted", which says that it lives.
    !matches!(test_kill_process(pid), Err(rustix::io::Errno::SRCH))
}

/// Recognises an SQLite database by the first bytes of `file`, and says whether it is in use; `None` if it is none.
///
/// `start` is what was read from the start of the file, `listing` the folder in which it lies under `name`. A lock of
/// this very process is not seen.
pub fn recognise_sqlite(
    folder: &Folder,
    listing: &Listing,
    name: &[u8],
    file: &OpenFile<'_>,
    start: &[u8],
) -> Option<SqliteUse> {
    if !start.starts_with(SQLITE_MAGIC) {
        return None;
    }
    let companion = |suffix: &[u8]| {
        let companion = [name, suffix].concat();
        if !listing.may_hold(&companion) {
            return None;
        }
        folder
            .metadata(&companion)
            .ok()
            .filter(|found| found.kind == Kind::File && found.size > 0)
    };
    Some(if companion(b"-wal").is_some() {
        SqliteUse::WriteAheadLog
    } else if companion(b"-journal").is_some() && journal_is_hot(folder, name) {
        SqliteUse::Journal
    } else if is_locked(file) {
        SqliteUse::Locked
    } else {
        SqliteUse::Idle
    })
}

/// A journal that is kept between transactions has its header overwritten with zeros; one that cannot be read counts.
fn journal_is_hot(folder: &Folder, name: &[u8]) -> bool {
    let mut header = [0; 8];
    let journal = [name, b"-journal"].concat();
    match read_start(folder.fd(), &journal, &mut header) {
        Some(length) => header[..length].iter().any(|byte| *byte != 0),
        None => true,
    }
}

/// Asks, without taking a lock, whether another process holds one where SQLite puts them.
fn is_locked(file: &OpenFile<'_>) -> bool {
    let query = Flock {
        start: SQLITE_LOCKS_START,
        length: SQLITE_LOCKS_BYTES,
        pid: None,
        typ: FlockType::WriteLock,
        offset_type: FlockOffsetType::Set,
    };
    // Where locks cannot be asked for, nothing proves that there is none.
    fcntl_getlk(file.fd(), &query).map_or(true, |holder| holder.is_some())
}

#[cfg(test)]
mod tests;
