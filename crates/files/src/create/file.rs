//! A file that is being restored.
//!
//! Several threads may write different ranges of it at once. Invariants: a file stands under its final name in a
//! folder that others can enter only when all its bytes are there; a file that is given up is removed again; a hole
//! is left only where zeros were to be written, since a new file reads as zeros where nothing was.

use crate::attributes::{Attributes, FLAGS_SEALING};
use crate::beneath::check_name;
use crate::create::apply::{self, Have, Object};
use crate::create::folder::{Original, Outcome, Place, Restored, TargetFolder};
use crate::create::options::Overwrite;
use crate::create::target::Sealed;
use crate::entry::Kind;
use crate::error::{Error, ErrorKind};
use crate::metadata::{Metadata, stat_open};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{AtFlags, Mode, OFlags, ftruncate, openat, unlinkat};
use rustix::io::{Errno, pwrite};
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

/// Zero runs from this length on become holes.
const HOLE_MIN_BYTES: usize = 64 * 1024;
/// Holes begin and end at multiples of this, the block size of nearly every file system.
const BLOCK_BYTES: usize = 4096;

/// Where the content of a file goes.
#[derive(Debug)]
pub enum FileSlot<'t> {
    /// Into this new file.
    New(NewFile<'t>),
    /// Nowhere: the file that stands there is kept.
    Kept(Restored),
}

/// A file whose content is being written; dropped without [`finish`](Self::finish), it is removed.
#[derive(Debug)]
pub struct NewFile<'t> {
    folder: TargetFolder<'t>,
    fd: OwnedFd,
    name: Box<[u8]>,
    /// Where it stands for now; `None` once it is settled.
    place: Option<Place>,
    metadata: Metadata,
    attributes: Attributes,
    have: Have,
    /// Bytes written or left as holes; each byte counts once.
    covered: AtomicU64,
    /// Where the last byte written ends; what follows are holes.
    written_end: AtomicU64,
}

impl<'t> TargetFolder<'t> {
    /// Restores the file `name` with all its `content` at hand.
    pub fn write_file(
        &self,
        name: &[u8],
        metadata: &Metadata,
        attributes: &Attributes,
        content: &[u8],
    ) -> Result<Restored, Error> {
        let metadata = Metadata {
            size: content.len() as u64,
            ..*metadata
        };
        match self.create_file(name, &metadata, attributes.clone())? {
            FileSlot::Kept(restored) => Ok(restored),
            FileSlot::New(file) => {
                file.write_at(content, 0)?;
                file.finish()
            }
        }
    }

    /// Creates the file `name`, to be filled with `metadata.size` bytes, unless the policy keeps the one there.
    pub fn create_file(
        &self,
        name: &[u8],
        metadata: &Metadata,
        attributes: Attributes,
    ) -> Result<FileSlot<'t>, Error> {
        check_name(name)?;
        if let Some(found) = self.standing(name)? {
            if self.target().options().overwrite == Overwrite::IfChanged
                && let Some(kept) = self.keep_file(name, &found, metadata, &attributes)?
            {
                return Ok(FileSlot::Kept(kept));
            }
            self.check_way(name, &found, Kind::File)?;
        }
        // A folder that nobody else can enter hides the file until it is complete.
        let mode = if self.known().fresh {
            metadata.mode & 0o777
        } else {
            0o600
        };
        let flags = OFlags::WRONLY
            | OFlags::CREATE
            | OFlags::EXCL
            | OFlags::NOFOLLOW
            | OFlags::NOCTTY
            | OFlags::CLOEXEC;
        let (place, fd) = self.place(name, |candidate| {
            openat(
                self.fd(),
                candidate,
                flags,
                Mode::from_raw_mode(mode.into()),
            )
        })?;
        let mut file = NewFile {
            folder: self.clone(),
            fd,
            name: name.into(),
            place: Some(place),
            metadata: *metadata,
            attributes,
            have: Have::default(),
            covered: AtomicU64::new(0),
            written_end: AtomicU64::new(0),
        };
        let mode = self.target().umask().map(|umask| mode & !umask);
        let birth = self
            .handle()
            .birth(file.fd.as_fd(), mode)
            .map_err(|errno| Error::from_errno("create", name, errno))?;
        file.have = Have {
            owner: Some(birth.owner),
            mode: mode.filter(|_| birth.honest),
            reused: false,
            acl: self.known().inherits,
        };
        let path = || self.path(name);
        apply::apply_early_flags(self.target(), file.fd.as_fd(), &file.attributes, &path);
        Ok(FileSlot::New(file))
    }

    /// Keeps the file that stands there if it looks unchanged and its metadata can be set without touching others.
    fn keep_file(
        &self,
        name: &[u8],
        found: &Metadata,
        metadata: &Metadata,
        attributes: &Attributes,
    ) -> Result<Option<Restored>, Error> {
        let unchanged = found.kind == Kind::File
            && found.size == metadata.size
            && found.mtime == metadata.mtime
            && !found.mount_root;
        let owner = self.target().options().owner.of(metadata.uid, metadata.gid);
        let same_metadata = (found.uid, found.gid) == owner && found.mode == metadata.mode;
        // Another name of this object may lie outside the target.
        if !unchanged || (found.nlink > 1 && !same_metadata) {
            return Ok(None);
        }
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        // What cannot be opened is replaced.
        let Ok(fd) = openat(self.fd(), name, flags, Mode::empty()) else {
            return Ok(None);
        };
        match stat_open(fd.as_fd()) {
            Ok(open) if open.same_object(found) => {}
            _ => return Ok(None),
        }
        if found.nlink < 2 {
            let have = Have {
                owner: Some((found.uid, found.gid)),
                mode: Some(found.mode),
                reused: true,
                acl: false,
            };
            let object = Object::Open(fd.as_fd());
            apply::apply(self.target(), object, have, metadata, attributes, &|| {
                self.path(name)
            });
        }
        let restored = self.restored(Outcome::Kept, name, metadata, || Ok(found.identity()))?;
        self.seal_later(restored.original.as_ref(), attributes);
        Ok(Some(restored))
    }

    /// A file that may get further names gets the flags that forbid them at the end.
    fn seal_later(&self, original: Option<&Original>, attributes: &Attributes) {
        if let Some(original) = original
            && attributes.flags & FLAGS_SEALING != 0
        {
            self.target().seal_later(Sealed {
                folder: original.folder,
                name: original.name.clone(),
                identity: original.identity,
                flags: attributes.flags,
            });
        }
    }
}

impl NewFile<'_> {
    /// How many bytes the file is to have.
    pub fn size(&self) -> u64 {
        self.metadata.size
    }

    /// Writes `data` at `offset`; each byte of the file exactly once, in any order, from any thread.
    pub fn write_at(&self, data: &[u8], offset: u64) -> Result<(), Error> {
        let end = offset.checked_add(data.len() as u64);
        if end.is_none_or(|end| end > self.metadata.size) {
            let reason = format!("{} bytes at {offset} lie beyond its end", data.len());
            return Err(Error::because(
                ErrorKind::Other,
                "write",
                &self.name,
                reason,
            ));
        }
        if self.folder.target().options().sparse && data.len() >= HOLE_MIN_BYTES {
            let mut start = 0;
            while let Some(hole) = next_hole(data, offset, start) {
                self.write_range(&data[start..hole.start], offset + start as u64)?;
                start = hole.end;
            }
            self.write_range(&data[start..], offset + start as u64)?;
        } else {
            self.write_range(data, offset)?;
        }
        self.covered.fetch_add(data.len() as u64, Ordering::Relaxed);
        Ok(())
    }

    fn write_range(&self, mut data: &[u8], mut offset: u64) -> Result<(), Error> {
        if data.is_empty() {
            return Ok(());
        }
        while !data.is_empty() {
            match pwrite(&self.fd, data, offset) {
                Ok(0) => return Err(Error::from_errno("write", &self.name, Errno::IO)),
                Ok(count) => {
                    data = &data[count..];
                    offset += count as u64;
                }
                Err(Errno::INTR) => {}
                Err(errno) => return Err(Error::from_errno("write", &self.name, errno)),
            }
        }
        self.written_end.fetch_max(offset, Ordering::Relaxed);
        Ok(())
    }

    /// Gives the file its length, metadata and name, when all of it has been written.
    pub fn finish(mut self) -> Result<Restored, Error> {
        let covered = self.covered.load(Ordering::Relaxed);
        if covered != self.metadata.size {
            let reason = format!("{covered} of {} bytes were written", self.metadata.size);
            return Err(Error::because(
                ErrorKind::Other,
                "complete",
                &self.name,
                reason,
            ));
        }
        if self.written_end.load(Ordering::Relaxed) != self.metadata.size {
            ftruncate(&self.fd, self.metadata.size)
                .map_err(|errno| Error::from_errno("complete", &self.name, errno))?;
        }
        let folder = self.folder.clone();
        let path = || folder.path(&self.name);
        let object = Object::Open(self.fd.as_fd());
        let (metadata, attributes) = (&self.metadata, &self.attributes);
        apply::apply(
            folder.target(),
            object,
            self.have,
            metadata,
            attributes,
            &path,
        );
        let identity = || stat_open(self.fd.as_fd()).map(|found| found.identity());
        let place = self.place.take().expect("a file is finished once");
        let temporary = match &place {
            Place::Temporary(name) => Some(name.clone()),
            Place::Final(_) => None,
        };
        let settled = folder.settle(place, &self.name, Kind::File, identity);
        if settled.is_err() {
            self.place = temporary.map(Place::Temporary);
        }
        let restored = folder.restored(Outcome::Written, &settled?, metadata, identity)?;
        folder.seal_later(restored.original.as_ref(), attributes);
        Ok(restored)
    }
}

impl Drop for NewFile<'_> {
    fn drop(&mut self) {
        if let Some(place) = &self.place {
            // Nothing better can be done with a file that is incomplete; what remains has a temporary name, or lies
            // in a folder that is closed.
            let _ = unlinkat(self.folder.fd(), place.name(), AtFlags::empty());
        }
    }
}

/// The first run of zeros at or after `from` that is worth a hole; `offset` is where `data` lies in the file.
///
/// One byte for each block is looked at unless it is zero.
fn next_hole(data: &[u8], offset: u64, from: usize) -> Option<Range<usize>> {
    let into_block = (offset % BLOCK_BYTES as u64) as usize;
    // The end of the block in which `at` lies.
    let block_end = |at: usize| {
        let end = (at + into_block) / BLOCK_BYTES * BLOCK_BYTES + BLOCK_BYTES - into_block;
        end.min(data.len())
    };
    let mut start = from;
    while data.len() - start >= HOLE_MIN_BYTES {
        let mut end = start;
        while end < data.len() && is_zero(&data[end..block_end(end)]) {
            end = block_end(end);
        }
        if end - start >= HOLE_MIN_BYTES {
            return Some(start..end);
        }
        start = block_end(end.min(data.len() - 1));
    }
    None
}

fn is_zero(block: &[u8]) -> bool {
    block.first().is_none_or(|first| *first == 0)
        && block.iter().fold(0, |seen, byte| seen | byte) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holes(data: &[u8], offset: u64) -> Vec<Range<usize>> {
        let mut found = Vec::new();
        let mut from = 0;
        while let Some(hole) = next_hole(data, offset, from) {
            from = hole.end;
            found.push(hole);
        }
        found
    }

    #[test]
    fn only_long_runs_of_whole_zero_blocks_become_holes() {
        let k = 1024;
        let mut data = vec![0; 512 * k];
        let whole = Range {
            start: 0,
            end: 512 * k,
        };
        assert_eq!(next_hole(&data, 0, 0), Some(whole.clone()));
        assert_eq!(next_hole(&data, 100, 0), Some(whole));
        data[200 * k] = 1;
        assert_eq!(holes(&data, 0), [0..200 * k, 204 * k..512 * k]);
        data[230 * k] = 1;
        assert_eq!(holes(&data, 0), [0..200 * k, 232 * k..512 * k]);
        assert_eq!(next_hole(&data[..64 * k], 0, 0), Some(0..64 * k));
        assert!(holes(&data[..64 * k - 1], 0).is_empty());
        assert!(holes(&vec![1; 512 * k], 0).is_empty());
        assert!(holes(&[], 0).is_empty());
    }

    #[test]
    fn a_hole_never_covers_a_byte_that_is_not_zero() {
        let k = 1024;
        for offset in [0, 1, 4095, 4096, 5000] {
            for place in [0, 1, 4095, 4096, 70 * k, 150 * k, 300 * k - 1] {
                let mut data = vec![0; 300 * k];
                data[place] = 9;
                for hole in holes(&data, offset) {
                    assert!(!hole.contains(&place), "offset {offset}, place {place}");
                }
            }
        }
    }
}
