//! A file as it is read, and the proof that it stayed the same while it was.
//!
//! Opening never follows a link, never waits for a pipe's other end, and refuses what is no longer the regular file
//! that was seen. Invariant: what was read under an [`OpenFile`] whose [`finish`](OpenFile::finish) reports no
//! [`Change`] is the file's whole content at one time: neither the object nor what the name leads to changed from
//! before the first byte until after the last; or the name went away, and nothing was written meanwhile.

use crate::attributes::{self, AttributesRead};
use crate::beneath::check_name;
use crate::entry::Kind;
use crate::error::{Error, ErrorKind};
use crate::metadata::{Metadata, stat_name, stat_open};
use crate::walk::{Folder, quietly};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{Advice, Mode, OFlags, fadvise, openat};
use rustix::io::Errno;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Files from this size on are announced to the kernel as read from start to end.
const SEQUENTIAL_MIN_BYTES: u64 = 1 << 20;

/// The kernel's clock of files goes in steps; two changes within one look like one.
const CLOCK_STEP: Duration = Duration::from_millis(100);

/// A regular file that is being read from its start to its end.
///
/// Closing a file drops every POSIX record lock that this process holds on it. A database file that this process
/// has open by SQLite must therefore never be opened here.
#[derive(Debug)]
pub struct OpenFile<'f> {
    folder: &'f Folder,
    name: &'f [u8],
    fd: OwnedFd,
    before: Metadata,
    opened: SystemTime,
    position: u64,
}

/// What happened to a file while it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Its content or metadata changed, or not all of it was read.
    Modified,
    /// Its name now leads to another object.
    Replaced,
    /// Its name is gone, and it may have been written to before.
    Removed,
}

/// What [`OpenFile::finish`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finished {
    /// The file's metadata after the last byte was read, also where its name now leads elsewhere.
    pub metadata: Metadata,
    /// What happened meanwhile; `None` if the bytes read are the file.
    pub change: Option<Change>,
}

impl Folder {
    /// Opens the regular file `name`, which was seen as `seen`; [`ErrorKind::Changed`] if it is another object now.
    pub fn open_file<'f>(&'f self, name: &'f [u8], seen: &Metadata) -> Result<OpenFile<'f>, Error> {
        check_name(name)?;
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let fail = |errno| Error::from_errno("open", name, errno);
        let open = |extra| open_past_lease(self.fd(), name, flags | extra);
        let fd = match quietly(self.no_atime(), open) {
            Ok((fd, _)) => fd,
            // A socket, or a device without driver, stands there now.
            Err(Errno::NXIO | Errno::NODEV) => return Err(changed(name)),
            Err(errno) => return Err(fail(errno)),
        };
        let before = stat_open(fd.as_fd()).map_err(fail)?;
        if before.kind != Kind::File || !before.same_object(seen) {
            return Err(changed(name));
        }
        if before.size >= SEQUENTIAL_MIN_BYTES {
            // Advice only: a file system that does not take it reads as before.
            let _ = fadvise(&fd, 0, None, Advice::Sequential);
        }
        Ok(OpenFile {
            folder: self,
            name,
            fd,
            before,
            opened: SystemTime::now(),
            position: 0,
        })
    }
}

/// Opens a file that may be leased (as file servers do): the first try asks the holder to let go, and is refused.
fn open_past_lease(folder: BorrowedFd<'_>, name: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
    const TRIES: u32 = 50;
    const PAUSE: Duration = Duration::from_millis(20);
    for _ in 1..TRIES {
        match openat(folder, name, flags, Mode::empty()) {
            Err(Errno::AGAIN) => std::thread::sleep(PAUSE),
            done => return done,
        }
    }
    openat(folder, name, flags, Mode::empty())
}

fn changed(name: &[u8]) -> Error {
    let reason = "it is not the file any more that was listed";
    Error::because(ErrorKind::Changed, "open", name, reason)
}

impl OpenFile<'_> {
    /// The metadata as it was before the first byte was read.
    pub fn metadata(&self) -> &Metadata {
        &self.before
    }

    /// Reads on until `buffer` is full or the file ends, and returns how many bytes came.
    ///
    /// Fewer than `buffer` holds means that the file ended. A buffer one byte larger than the file takes it with a
    /// single call to the kernel.
    pub fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Error> {
        let mut filled = 0;
        while filled < buffer.len() {
            match rustix::io::read(&self.fd, &mut buffer[filled..]) {
                Ok(0) => break,
                Ok(count) => {
                    filled += count;
                    self.position += count as u64;
                    // A short read at the known end saves asking again; `finish` tells if the file grew since.
                    if filled < buffer.len() && self.position == self.before.size {
                        break;
                    }
                }
                Err(Errno::INTR) => {}
                Err(errno) => return Err(Error::from_errno("read", self.name, errno)),
            }
        }
        Ok(filled)
    }

    /// The file's extended attributes and inode flags.
    pub fn attributes(&self) -> AttributesRead {
        attributes::read_open(self.fd.as_fd(), self.name)
    }

    /// Looks again at what the name leads to, and says whether anything changed since the file was opened.
    pub fn finish(self) -> Result<Finished, Error> {
        let fail = |errno| Error::from_errno("look again at", self.name, errno);
        let named = match stat_name(self.folder.fd(), self.name) {
            Ok(named) => Some(named),
            Err(Errno::NOENT) => None,
            Err(errno) => return Err(fail(errno)),
        };
        let (metadata, change) = match named {
            Some(named) if named.same_object(&self.before) => {
                let whole = self.position == named.size && named.is_unmodified_since(&self.before);
                (named, (!whole).then_some(Change::Modified))
            }
            other => {
                let open = stat_open(self.fd.as_fd()).map_err(fail)?;
                if other.is_some() {
                    (open, Some(Change::Replaced))
                } else if self.was_only_removed(&open) {
                    (self.before, None)
                } else {
                    (open, Some(Change::Removed))
                }
            }
        };
        Ok(Finished { metadata, change })
    }

    /// Whether nothing happened to the file but that its name went away, which sets the time of change: then the time of
    /// the last writing has to tell, and can when it lies well before the file was opened.
    fn was_only_removed(&self, now: &Metadata) -> bool {
        let since_epoch = self.opened.duration_since(UNIX_EPOCH);
        let steps_before = since_epoch.unwrap_or_default().saturating_sub(CLOCK_STEP);
        let written = self.before.mtime;
        let is_settled = u64::try_from(written.seconds).map_or(true, |seconds| {
            Duration::new(seconds, written.nanos) < steps_before
        });
        is_settled
            && self.position == now.size
            && now.size == self.before.size
            && now.mtime == written
            && now.same_object(&self.before)
            // As many, when the name went between opening the file and looking at it.
            && now.nlink <= self.before.nlink
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(test)]
mod tests;
