//! Files that rows name and that are not in the folder any more: taken over from the previous snapshot, marked.
//!
//! The walk goes in step with the previous snapshot's tree, so what vanished is met where it stood. Only what a row
//! names is taken, only with the size and hash that the row knows, and only while its chunks are there.

use std::io;

use lifeboat_codec::{Content, Entry, EntryKind, status};
use lifeboat_files::{Kind, Listing};
use lifeboat_repository::{Lane, Reader, WriteError};
use sha2::{Digest, Sha256};

use super::item::{Part, join};
use super::tree::{Entries, Growing};
use super::{Node, PART_BYTES, Walk};
use crate::bundle::copy_content;
use crate::entry::file_content;
use crate::memory::{Known, Past};
use crate::references::{Expected, NoFile, Wanted};

/// What rows say of a folder's files, and who reads the previous snapshot where that is needed.
#[derive(Clone, Copy)]
pub(crate) struct Rows<'a> {
    pub(crate) expected: &'a Expected<'a>,
    pub(crate) reader: Option<&'a Reader<'a>>,
}

impl Walk<'_> {
    /// Takes over what stood before the name `limit` (at all, without one) and is not in the listing any more.
    pub(super) fn carry_before(
        &self,
        lane: &mut Lane<'_, '_>,
        part: &mut Part,
        node: &Node<'_>,
        past: &mut Past<'_>,
        limit: Option<&[u8]>,
        listing: &Listing,
    ) -> Result<(), WriteError> {
        let Some(rows) = self.options.rows else {
            return Ok(());
        };
        while let Some(known) = past.next_below(limit) {
            if !listing.may_hold(known.entry.name) {
                self.carry(lane, part, &node.path, &known, rows)?;
            }
        }
        Ok(())
    }

    /// Takes over what vanished between the list of the folder and the look at it.
    pub(super) fn carry_again(
        &self,
        lane: &mut Lane<'_, '_>,
        part: &mut Part,
        node: &Node<'_>,
        known: Option<&Known<'_>>,
    ) -> Result<(), WriteError> {
        match (self.options.rows, known) {
            (Some(rows), Some(known)) => self.carry(lane, part, &node.path, known, rows),
            _ => Ok(()),
        }
    }

    /// Says that the walk met an object.
    pub(super) fn met(&self, node: &Node<'_>, name: &[u8], kind: Kind, size: u64) {
        let Some(rows) = self.options.rows else {
            return;
        };
        let mut path = Vec::new();
        join(&mut path, &node.path, name);
        let no_file = match kind {
            Kind::File => return rows.expected.met(&path, size),
            Kind::Folder => NoFile::Folder,
            Kind::Symlink => NoFile::Link,
            _ => NoFile::Special,
        };
        rows.expected
            .met_other(rows.expected.root(), &path, no_file);
    }

    /// Takes over one entry of the previous snapshot, or what is wanted of a folder.
    fn carry(
        &self,
        lane: &mut Lane<'_, '_>,
        part: &mut Part,
        folder: &[u8],
        known: &Known<'_>,
        rows: Rows<'_>,
    ) -> Result<(), WriteError> {
        let entry = &known.entry;
        let mut path = Vec::new();
        join(&mut path, folder, entry.name);
        match entry.kind {
            EntryKind::File => {
                let Some(wanted) = rows.expected.wanted(&path) else {
                    return Ok(());
                };
                let unread = entry.status & (status::UNREADABLE | status::CHANGED) != 0;
                if unread
                    || !self.is_stored(lane.writer(), entry)
                    || !fits(entry, wanted, rows.reader)
                {
                    return Ok(());
                }
                let again = entry.status & status::CARRIED != 0;
                rows.expected.carried(&path, again);
                part.put_entry(&Entry {
                    status: entry.status | status::CARRIED,
                    // Its other names are not taken over with it.
                    link_group: 0,
                    ..entry.clone()
                });
                part.count(entry.size);
            }
            EntryKind::Folder => {
                let mut growing = Growing::default();
                let mut below = Part::from_place(0);
                let mut past = self.memory.past(&known.tree(), &path);
                while let Some(known) = past.next_below(None) {
                    self.carry(lane, &mut below, &path, &known, rows)?;
                    if below.entries.stored.len() >= PART_BYTES {
                        growing.extend(lane, &self.gathered, &below.entries)?;
                        below.entries = Entries::default();
                    }
                }
                growing.extend(lane, &self.gathered, &below.entries)?;
                let Some((stored, seen)) = growing.close(lane, &self.gathered)? else {
                    return Ok(());
                };
                let reference = stored.encode();
                let carried = Entry {
                    status: entry.status | status::CARRIED,
                    content: Content::Stream(&reference),
                    ..entry.clone()
                };
                part.put_folder(&carried, &seen);
                (part.files, part.bytes) = (part.files + below.files, part.bytes + below.bytes);
            }
            _ => {}
        }
        Ok(())
    }
}

/// Whether a file is what the row knows of it.
fn fits(entry: &Entry<'_>, wanted: Wanted, reader: Option<&Reader<'_>>) -> bool {
    if wanted.size.is_some_and(|size| size != entry.size) {
        return false;
    }
    let Some(sha256) = wanted.sha256 else {
        return true;
    };
    let Some((reader, content)) = reader.zip(file_content(entry).ok()) else {
        return false;
    };
    let mut hashed = Hashed(Sha256::new());
    copy_content(reader, &content, &mut hashed).is_ok() && hashed.0.finalize()[..] == sha256
}

/// What is written is hashed.
struct Hashed(Sha256);

impl io::Write for Hashed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
