//! One entry of a folder: what it holds is stored, and what cannot be read of it is told.

use std::sync::atomic::Ordering;

use lifeboat_codec::{Content, Entry, Problem, put_entry, status};
use lifeboat_files::{Attributes, AttributesRead, ErrorKind, Folder, Kind, Metadata, Time};
use lifeboat_repository::{Counter, Lane, Progress, WriteError};

use super::tree::{Done, Entries};
use super::{At, Named, Node, Rows, Walk};
use crate::entry::{FileContent, entry_of, entry_time, put_attributes};
use crate::file::{FileError, read_file};

/// How often a file that changes while it is read is read again.
const TRIES: usize = 3;
/// The time of change of an entry of which something could not be read: no object has it, so the next run does not
/// take the entry over, and tells again what is missing.
pub(super) const READ_AGAIN: Time = Time {
    seconds: 0,
    nanos: 0,
};
/// Files and bytes of which whoever watches is told at once: one by one would be slow, a folder at a time would jump.
const TELL_FILES: u64 = 100;
const TELL_BYTES: u64 = 1 << 20;
/// Files of several names that are remembered until all their names were met.
const LINKS_MAX: usize = 100_000;
/// Problems that are listed one by one; the entries themselves say of all that could not be read.
const PROBLEMS_MAX: usize = 10_000;

impl Walk<'_> {
    /// Reads one file, again when it changes meanwhile.
    pub(super) fn file(
        &self,
        lane: &mut Lane<'_, '_>,
        part: &mut Part,
        at: &At<'_, '_>,
        metadata: &Metadata,
        earlier: Option<&FileContent>,
    ) -> Result<(), WriteError> {
        let At {
            node,
            folder,
            listing,
            name,
            ..
        } = *at;
        if metadata.nlink > 1
            && let Some(named) = self.named(metadata)
        {
            let bits = self.newer(metadata);
            part.put(
                name,
                metadata,
                &named.attributes,
                named.stored.content(),
                bits,
            );
            return Ok(());
        }
        let mut path = Vec::new();
        let mut seen = *metadata;
        let mut told = 0;
        for attempt in 1..=TRIES {
            let again = |now: &Metadata| attempt < TRIES && now.kind == Kind::File;
            let options = self.options;
            let was = (options.bundles, options.earlier.reader(), earlier);
            let read = match read_file(lane, folder, listing, name, &seen, was, &mut told) {
                Ok(read) => read,
                Err(FileError::Write(error)) => return Err(error),
                Err(FileError::Files(error)) => {
                    // Programs replace a file by renaming a new one over it: that is the one to read.
                    if error.kind() == ErrorKind::Changed
                        && let Ok(now) = folder.metadata(name)
                        && again(&now)
                    {
                        seen = now;
                        continue;
                    }
                    part.told_bytes += told;
                    join(&mut path, &node.path, name);
                    self.lost_item(part, name, Kind::File, &path, &error);
                    return Ok(());
                }
            };
            let change = read.changed;
            if change
                && let Ok(now) = folder.metadata(name)
                && again(&now)
            {
                seen = now;
                continue;
            }
            let mut bits = if self.is_secret(&read.metadata) {
                status::SECRET
            } else {
                0
            };
            if read.in_use || change {
                self.unreadable.fetch_add(1, Ordering::Relaxed);
            }
            if read.in_use {
                bits |= status::LIVE;
                join(&mut path, &node.path, name);
                self.push(Problem {
                    source: self.source.to_owned(),
                    path: path.clone(),
                    what: "it is an SQLite database in use: a copy of it may not be whole; add it as a source of its own".to_owned(),
                    class: "live-database".to_owned(),
                });
            }
            for error in &read.unread {
                join(&mut path, &node.path, name);
                self.problem(&path, error, "unreadable");
            }
            if change {
                bits |= status::CHANGED;
                join(&mut path, &node.path, name);
                self.push(Problem {
                    source: self.source.to_owned(),
                    path: path.clone(),
                    what: format!("it changed while it was read, {attempt} times; what is stored may be a mixture"),
                    class: "changed".to_owned(),
                });
            }
            // What was read counts, not what the metadata promised.
            let mut metadata = Metadata {
                size: read.bytes,
                ..read.metadata
            };
            if !read.unread.is_empty() {
                metadata.ctime = READ_AGAIN;
            }
            if bits & status::SECRET != 0 {
                metadata.mode &= 0o600;
            }
            part.told_bytes += told;
            part.put(
                name,
                &metadata,
                &read.attributes,
                read.stored.content(),
                bits | self.newer(&metadata),
            );
            if metadata.nlink > 1 && bits == 0 && read.unread.is_empty() {
                let named = Named {
                    metadata,
                    stored: read.stored,
                    attributes: read.attributes,
                    left: metadata.nlink - 1,
                };
                let mut links = self.links.lock().expect("no thread panics with links");
                // One that is not kept is read again under its next name: that costs time, not space.
                if links.len() < LINKS_MAX {
                    links.insert(metadata.identity(), named);
                }
            }
            return Ok(());
        }
        Ok(())
    }

    /// A file of several names, if it was read under another and did not change since; forgotten with the last name.
    fn named(&self, metadata: &Metadata) -> Option<Named> {
        let mut links = self.links.lock().expect("no thread panics with links");
        let named = links.get_mut(&metadata.identity())?;
        if !named.metadata.is_unmodified_since(metadata) {
            return None;
        }
        named.left -= 1;
        if named.left == 0 {
            links.remove(&metadata.identity())
        } else {
            Some(named.clone())
        }
    }

    /// The mark of a file that changed after the moment of the database.
    fn newer(&self, metadata: &Metadata) -> u64 {
        let times = [metadata.mtime, metadata.ctime].map(entry_time);
        let newer = |rows: Rows<'_>| rows.expected.is_newer(&times);
        if self.options.rows.is_some_and(newer) {
            status::NEWER
        } else {
            0
        }
    }

    /// An entry that has no content of its own to read.
    pub(super) fn plain(
        &self,
        part: &mut Part,
        folder: &Folder,
        name: &[u8],
        metadata: &Metadata,
        node: &Node<'_>,
    ) {
        let mut path = Vec::new();
        let target = if metadata.kind == Kind::Symlink {
            match folder.read_link(name) {
                Ok(target) => target,
                Err(error) => {
                    join(&mut path, &node.path, name);
                    return self.lost_item(part, name, metadata.kind, &path, &error);
                }
            }
        } else {
            Vec::new()
        };
        let read = folder.attributes(name).unwrap_or_else(|error| {
            let (attributes, unread) = (Attributes::default(), vec![error]);
            AttributesRead { attributes, unread }
        });
        let mut metadata = *metadata;
        if !read.unread.is_empty() {
            join(&mut path, &node.path, name);
            read.unread
                .iter()
                .for_each(|error| self.item_problem(&path, error));
            metadata.ctime = READ_AGAIN;
        }
        let attributes = read.attributes;
        let mut entry = entry_of(name, &metadata);
        put_attributes(&mut entry, &attributes);
        entry.target = &target;
        part.put_entry(&entry);
    }

    /// An entry that was listed and could not be read.
    pub(super) fn lost_item(
        &self,
        part: &mut Part,
        name: &[u8],
        kind: Kind,
        path: &[u8],
        error: &lifeboat_files::Error,
    ) {
        if error.kind() != ErrorKind::Vanished {
            let kind = crate::entry::entry_kind(kind);
            let entry = Entry {
                status: status::UNREADABLE,
                ..Entry::new(kind, name)
            };
            part.put_entry(&entry);
        }
        self.item_problem(path, error);
    }

    /// A folder whose entries could not be listed, or not all of them.
    pub(super) fn lost_folder(&self, node: &Node<'_>, error: &lifeboat_files::Error) {
        *node.status.lock().expect("no thread panics with a status") |= status::UNREADABLE;
        self.item_problem(&node.path, error);
    }

    pub(super) fn item_problem(&self, path: &[u8], error: &lifeboat_files::Error) {
        self.problem(
            path,
            error,
            if error.kind() == ErrorKind::Vanished {
                "vanished"
            } else {
                "unreadable"
            },
        );
    }

    pub(super) fn problem(&self, path: &[u8], error: &lifeboat_files::Error, class: &str) {
        // What vanished between the list and the look was deleted while we ran: it is named, but nothing of now is missing.
        if class != "vanished" {
            self.unreadable.fetch_add(1, Ordering::Relaxed);
        }
        self.push(Problem {
            source: self.source.to_owned(),
            path: path.to_vec(),
            what: crate::text::sentence(error),
            class: class.to_owned(),
        });
    }

    pub(super) fn push(&self, problem: Problem) {
        let mut problems = self
            .problems
            .lock()
            .expect("no thread panics with a problem");
        if problems.len() < PROBLEMS_MAX {
            problems.push(problem);
        } else {
            self.more_problems.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Says how many problems are not in the list.
    pub(super) fn end_problems(&self) {
        let more = self.more_problems.load(Ordering::Relaxed);
        if more > 0 {
            self.problems
                .lock()
                .expect("no thread panics with a problem")
                .push(Problem {
                    source: self.source.to_owned(),
                    path: Vec::new(),
                    what: format!("{more} more problems are not listed one by one"),
                    class: "other".to_owned(),
                });
        }
    }
}

/// A run of entries of one folder.
pub(super) struct Part {
    /// The place of the first one in the listing.
    pub(super) first: usize,
    pub(super) entries: Entries,
    /// Room for an entry, and for one with its length before it.
    scratch: (Vec<u8>, Vec<u8>),
    pub(super) files: u64,
    pub(super) bytes: u64,
    /// Files and bytes of which whoever watches was told.
    told_files: u64,
    told_bytes: u64,
}

impl Part {
    pub(super) fn from_place(first: usize) -> Self {
        Self {
            first,
            entries: Entries::default(),
            scratch: (Vec::new(), Vec::new()),
            files: 0,
            bytes: 0,
            told_files: 0,
            told_bytes: 0,
        }
    }

    /// Tells whoever watches what was done since the last time, when it is worth it.
    pub(super) fn tell_now_and_then(&mut self, progress: &dyn Progress) {
        if self.files - self.told_files >= TELL_FILES
            || self.bytes.saturating_sub(self.told_bytes) >= TELL_BYTES
        {
            self.tell(progress);
        }
    }

    /// Tells whoever watches what was done since the last time.
    pub(super) fn tell(&mut self, progress: &dyn Progress) {
        progress.count(Counter::Files, self.files - self.told_files);
        let bytes = self.bytes.saturating_sub(self.told_bytes);
        progress.count(Counter::Bytes, bytes);
        self.told_files = self.files;
        self.told_bytes += bytes;
    }

    pub(super) fn put(
        &mut self,
        name: &[u8],
        metadata: &Metadata,
        attributes: &Attributes,
        content: Content<'_>,
        bits: u64,
    ) {
        let mut entry = entry_of(name, metadata);
        put_attributes(&mut entry, attributes);
        entry.content = content;
        entry.status = bits;
        self.put_entry(&entry);
        self.count(metadata.size);
    }

    pub(super) fn put_entry(&mut self, entry: &Entry<'_>) {
        let (encoded, scratch) = &mut self.scratch;
        encoded.clear();
        put_entry(encoded, entry, scratch);
        self.entries.put(encoded);
    }

    /// The entry of a folder that was taken over, whose tree is in the memory at `seen`.
    pub(super) fn put_folder(&mut self, entry: &Entry<'_>, seen: &[u8]) {
        let (mut stored, mut remembered) = (Vec::new(), Vec::new());
        let scratch = &mut self.scratch.1;
        put_entry(&mut stored, entry, scratch);
        let seen = Entry {
            content: Content::Stream(seen),
            ..entry.clone()
        };
        put_entry(&mut remembered, &seen, scratch);
        self.entries.put_both(&stored, &remembered);
    }

    pub(super) fn count(&mut self, bytes: u64) {
        self.files += 1;
        self.bytes += bytes;
    }

    /// What was gathered of all that stands before place `end`, after which the part goes on; `None` for nothing.
    pub(super) fn take(&mut self, end: usize) -> Option<Done> {
        let entries = std::mem::take(&mut self.entries);
        let first = std::mem::replace(&mut self.first, end);
        (first < end || !entries.stored.is_empty()).then_some(Done {
            first,
            end,
            entries,
        })
    }
}

pub(super) fn join(path: &mut Vec<u8>, folder: &[u8], name: &[u8]) {
    path.clear();
    path.extend_from_slice(folder);
    if !folder.is_empty() {
        path.push(b'/');
    }
    path.extend_from_slice(name);
}
