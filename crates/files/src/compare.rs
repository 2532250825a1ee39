//! Whether two trees are the same, and if not, how they differ, in sentences.
//!
//! Everything that a restore promises is compared: what entries there are, their kind, content, permissions, owner,
//! time, link target, extended attributes, inode flags, which names are one object, which device. Invariant: an empty
//! answer means that everything asked for was read on both sides and is equal; what cannot be read is a difference.

use crate::attributes::AttributesRead;
use crate::entry::{Kind, Shown};
use crate::error::Error;
use crate::listing::Listing;
use crate::metadata::{Identity, Metadata};
use crate::walk::Folder;
use std::collections::HashMap;
use std::ffi::OsString;
use std::fmt;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// Content is read and compared in pieces of this size.
const PIECE_BYTES: usize = 1 << 20;

/// What is compared; `Default` is everything but holes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompareOptions {
    /// The bytes of files, not only their sizes.
    pub content: bool,
    /// Permission bits.
    pub modes: bool,
    /// User and group.
    pub owners: bool,
    /// Times of change, to the nanosecond.
    pub times: bool,
    /// Extended attributes, access lists and inode flags.
    pub attributes: bool,
    /// Which names lead to the same object.
    pub hard_links: bool,
    /// Whether files take much more room in the second tree than in the first.
    pub holes: bool,
}

impl Default for CompareOptions {
    fn default() -> Self {
        Self {
            content: true,
            modes: true,
            owners: true,
            times: true,
            attributes: true,
            hard_links: true,
            holes: false,
        }
    }
}

/// One way in which two trees differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The entry, from the top of the trees; empty for the top itself.
    pub path: PathBuf,
    /// What is different, as the rest of a sentence that begins with the path.
    pub what: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {}", self.path, self.what)
    }
}

/// Compares the trees at `a` and `b`; an error only if one of the two cannot be opened at all.
///
/// Differences come folder by folder, in the order of name bytes within each.
pub fn compare(a: &Path, b: &Path, options: &CompareOptions) -> Result<Vec<Difference>, Error> {
    let mut comparison = Comparison {
        options: *options,
        top_a: Folder::open(a)?,
        top_b: Folder::open(b)?,
        differences: Vec::new(),
        first_names: [HashMap::new(), HashMap::new()],
        buffers: [vec![0; PIECE_BYTES], vec![0; PIECE_BYTES]],
    };
    let mut pending = vec![Vec::new()];
    // Paths, not handles, are put aside, so a deep tree takes no descriptors.
    while let Some(path) = pending.pop() {
        let below = comparison.folder(&path);
        pending.extend(below.into_iter().rev());
    }
    Ok(comparison.differences)
}

struct Comparison {
    options: CompareOptions,
    top_a: Folder,
    top_b: Folder,
    differences: Vec<Difference>,
    /// On each side, under which path an object with several names was met first.
    first_names: [HashMap<Identity, Vec<u8>>; 2],
    buffers: [Vec<u8>; 2],
}

/// An entry that exists on both sides.
struct Pair<'p> {
    a: &'p Folder,
    b: &'p Folder,
    name: &'p [u8],
    path: &'p [u8],
}

impl Comparison {
    /// Compares one folder, and returns the paths of the folders below it that both sides have.
    fn folder(&mut self, path: &[u8]) -> Vec<Vec<u8>> {
        let folder_a = self.top_a.open_beneath(path);
        let Some(mut folder_a) = self.readable(folder_a, path, "a") else {
            return Vec::new();
        };
        let folder_b = self.top_b.open_beneath(path);
        let Some(mut folder_b) = self.readable(folder_b, path, "b") else {
            return Vec::new();
        };
        self.folder_itself(path, &folder_a, &folder_b);
        let (mut names_a, mut names_b) = (Listing::new(), Listing::new());
        let listed = folder_a.list(&mut names_a);
        self.readable(listed, path, "a");
        let listed = folder_b.list(&mut names_b);
        self.readable(listed, path, "b");
        let mut below = Vec::new();
        for entry in names_a.iter() {
            let Some(entry) = self.readable(entry, path, "a") else {
                break;
            };
            let path = join(path, &entry.name);
            if self.readable(names_b.holds(&entry.name), &path, "b") == Some(false) {
                self.differ(&path, "is missing in b");
                continue;
            }
            let pair = Pair {
                a: &folder_a,
                b: &folder_b,
                name: &entry.name,
                path: &path,
            };
            if self.entry(&pair) == Some(Kind::Folder) {
                below.push(path);
            }
        }
        for entry in names_b.iter() {
            let Some(entry) = self.readable(entry, path, "b") else {
                break;
            };
            if self.readable(names_a.holds(&entry.name), path, "a") == Some(false) {
                self.differ(&join(path, &entry.name), "is missing in a");
            }
        }
        below
    }

    fn folder_itself(&mut self, path: &[u8], a: &Folder, b: &Folder) {
        let own_a = self.readable(a.own_metadata(), path, "a");
        let own_b = self.readable(b.own_metadata(), path, "b");
        if let (Some(own_a), Some(own_b)) = (own_a, own_b) {
            self.metadata(path, &own_a, &own_b);
        }
        if self.options.attributes {
            self.attributes(path, a.own_attributes(), b.own_attributes());
        }
    }

    /// Compares one entry but for what lies below it, and returns its kind if both sides agree on it.
    fn entry(&mut self, pair: &Pair<'_>) -> Option<Kind> {
        let a = self.readable(pair.a.metadata(pair.name), pair.path, "a")?;
        let b = self.readable(pair.b.metadata(pair.name), pair.path, "b")?;
        if a.kind != b.kind {
            self.differ(
                pair.path,
                format!("is a {} in a and a {} in b", a.kind, b.kind),
            );
            return None;
        }
        if a.kind == Kind::Folder {
            return Some(Kind::Folder);
        }
        self.metadata(pair.path, &a, &b);
        self.names_of_one_object(pair.path, &a, &b);
        match a.kind {
            Kind::File => self.file(pair, &a, &b),
            Kind::Symlink => self.link(pair),
            _ => self.plain_attributes(pair),
        }
        Some(a.kind)
    }

    fn metadata(&mut self, path: &[u8], a: &Metadata, b: &Metadata) {
        let is_link = a.kind == Kind::Symlink;
        if self.options.modes && !is_link && a.mode != b.mode {
            self.differ(
                path,
                format!("has mode {:04o} in a and {:04o} in b", a.mode, b.mode),
            );
        }
        if self.options.owners && (a.uid, a.gid) != (b.uid, b.gid) {
            let (a, b) = (
                format!("{}:{}", a.uid, a.gid),
                format!("{}:{}", b.uid, b.gid),
            );
            self.differ(path, format!("belongs to {a} in a and to {b} in b"));
        }
        if self.options.times && a.mtime != b.mtime {
            let shown = |metadata: &Metadata| {
                format!("{}.{:09}", metadata.mtime.seconds, metadata.mtime.nanos)
            };
            self.differ(
                path,
                format!("changed at {} in a and at {} in b", shown(a), shown(b)),
            );
        }
        if a.rdev != b.rdev {
            self.differ(
                path,
                format!("is device {:#x} in a and {:#x} in b", a.rdev, b.rdev),
            );
        }
        if a.kind == Kind::File && a.size != b.size {
            self.differ(
                path,
                format!("has {} bytes in a and {} in b", a.size, b.size),
            );
        }
        /// File systems differ in what they allocate for the same file by less than this.
        const ROOM_BYTES: u64 = 64 * 1024;
        if self.options.holes && a.kind == Kind::File && b.allocated > a.allocated + ROOM_BYTES {
            let (a, b) = (a.allocated, b.allocated);
            self.differ(path, format!("takes {a} bytes of room in a and {b} in b"));
        }
    }

    /// Both sides must agree on which earlier path, if any, is the same object as this one.
    fn names_of_one_object(&mut self, path: &[u8], a: &Metadata, b: &Metadata) {
        if !self.options.hard_links || (a.nlink < 2 && b.nlink < 2) {
            return;
        }
        let [first_a, first_b] = &mut self.first_names;
        let first = |names: &mut HashMap<Identity, Vec<u8>>, identity| {
            names
                .entry(identity)
                .or_insert_with(|| path.to_vec())
                .clone()
        };
        let (first_a, first_b) = (first(first_a, a.identity()), first(first_b, b.identity()));
        if first_a != first_b {
            let (a, b) = (Shown(&first_a).to_string(), Shown(&first_b).to_string());
            self.differ(
                path,
                format!("is the same object as {a} in a and as {b} in b"),
            );
        }
    }

    fn link(&mut self, pair: &Pair<'_>) {
        let a = self.readable(pair.a.read_link(pair.name), pair.path, "a");
        let b = self.readable(pair.b.read_link(pair.name), pair.path, "b");
        if let (Some(a), Some(b)) = (a, b)
            && a != b
        {
            self.differ(
                pair.path,
                format!("points to {} in a and {} in b", Shown(&a), Shown(&b)),
            );
        }
        self.plain_attributes(pair);
    }

    fn plain_attributes(&mut self, pair: &Pair<'_>) {
        if !self.options.attributes {
            return;
        }
        let a = self.readable(pair.a.attributes(pair.name), pair.path, "a");
        let b = self.readable(pair.b.attributes(pair.name), pair.path, "b");
        if let (Some(a), Some(b)) = (a, b) {
            self.attributes(pair.path, a, b);
        }
    }

    fn file(&mut self, pair: &Pair<'_>, a: &Metadata, b: &Metadata) {
        if !self.options.content && !self.options.attributes {
            return;
        }
        let file_a = self.readable(pair.a.open_file(pair.name, a), pair.path, "a");
        let file_b = self.readable(pair.b.open_file(pair.name, b), pair.path, "b");
        let (Some(mut file_a), Some(mut file_b)) = (file_a, file_b) else {
            return;
        };
        if self.options.attributes {
            self.attributes(pair.path, file_a.attributes(), file_b.attributes());
        }
        if !self.options.content || a.size != b.size {
            return;
        }
        let mut offset = 0;
        loop {
            let [buffer_a, buffer_b] = &mut self.buffers;
            let read = (file_a.read(buffer_a), file_b.read(buffer_b));
            let count_a = self.readable(read.0, pair.path, "a");
            let count_b = self.readable(read.1, pair.path, "b");
            let (Some(count_a), Some(count_b)) = (count_a, count_b) else {
                return;
            };
            let (piece_a, piece_b) = (&self.buffers[0][..count_a], &self.buffers[1][..count_b]);
            if piece_a != piece_b {
                let equal = piece_a
                    .iter()
                    .zip(piece_b)
                    .take_while(|(a, b)| a == b)
                    .count();
                let what = format!("has other content from byte {} on", offset + equal as u64);
                return self.differ(pair.path, what);
            }
            if count_a < PIECE_BYTES {
                return;
            }
            offset += count_a as u64;
        }
    }

    fn attributes(&mut self, path: &[u8], a: AttributesRead, b: AttributesRead) {
        for (side, unread) in [("a", a.unread), ("b", b.unread)] {
            for error in unread {
                self.readable::<()>(Err(error), path, side);
            }
        }
        let (a, b) = (a.attributes, b.attributes);
        for one in &a.extended {
            let name = Shown(&one.name).to_string();
            match b.get(&one.name) {
                None => self.differ(path, format!("lacks the attribute {name} in b")),
                Some(value) if value != &*one.value => {
                    self.differ(
                        path,
                        format!("has another value of the attribute {name} in b"),
                    );
                }
                Some(_) => {}
            }
        }
        for one in b.extended.iter().filter(|one| a.get(&one.name).is_none()) {
            self.differ(
                path,
                format!("has the attribute {} in b alone", Shown(&one.name)),
            );
        }
        if a.flags != b.flags {
            let what = format!(
                "has inode flags {:#x} in a and {:#x} in b",
                a.flags, b.flags
            );
            self.differ(path, what);
        }
    }

    /// What was read, or the difference that one side could not be.
    fn readable<T>(&mut self, read: Result<T, Error>, path: &[u8], side: &str) -> Option<T> {
        read.map_err(|error| {
            let source = std::error::Error::source(&error);
            let source = source
                .map(|source| format!(": {source}"))
                .unwrap_or_default();
            self.differ(
                path,
                format!("cannot be compared: in {side}, {error}{source}"),
            );
        })
        .ok()
    }

    fn differ(&mut self, path: &[u8], what: impl Into<String>) {
        let path = PathBuf::from(OsString::from_vec(path.to_vec()));
        self.differences.push(Difference {
            path,
            what: what.into(),
        });
    }
}

fn join(path: &[u8], name: &[u8]) -> Vec<u8> {
    if path.is_empty() {
        name.to_vec()
    } else {
        [path, b"/", name].concat()
    }
}

#[cfg(test)]
mod tests;
