//! Looking into a snapshot: one item, everything below it, what differs between two.
//!
//! Trees are walked without recursion, and a folder that names itself, which only a forged repository can hold, ends
//! in an error.

use lifeboat_codec::{Entries, Entry, EntryKind, EntryTime, FormatError, StreamRef};
use lifeboat_repository::{ReadError, Reader, Snapshot};
use thiserror::Error;

use crate::entry::{content_of, wrong};

/// A tree is at most this deep; no file system makes a deeper one.
const DEPTH_MAX: usize = 100_000;

/// An entry without its ties to the tree that it was read from.
#[derive(Clone, Debug)]
pub struct Item {
    /// What it is.
    pub kind: EntryKind,
    /// Its path in the snapshot, the source's folder first.
    pub path: Vec<u8>,
    /// The 12 permission bits.
    pub mode: u32,
    /// Owner and group, numbers.
    pub owner: (u32, u32),
    /// Last change.
    pub mtime: EntryTime,
    /// Bytes of a file.
    pub size: u64,
    /// What a symbolic link says.
    pub target: Vec<u8>,
    /// Bits of [`lifeboat_codec::status`].
    pub status: u64,
    /// A file's content.
    pub content: Option<StreamRef>,
}

/// What a path names.
#[derive(Clone, Debug)]
pub enum Found {
    /// The snapshot itself, or a folder: its tree.
    Folder {
        /// Its own item; `None` for the snapshot.
        item: Option<Box<Item>>,
        /// Its entries.
        tree: StreamRef,
    },
    /// Anything else.
    Other(Box<Item>),
}

/// A path in a snapshot is not there.
#[derive(Debug, Error)]
pub enum PathError {
    /// Nothing has this name.
    #[error("the snapshot has no {path}")]
    NotFound {
        /// The path as it was asked for.
        path: String,
        /// Names that are there instead, some of them.
        beside: Vec<String>,
    },
    /// Something could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
}

fn item_of(entry: &Entry<'_>, path: Vec<u8>) -> Result<Item, ReadError> {
    Ok(Item {
        kind: entry.kind,
        path,
        mode: entry.mode,
        owner: (entry.uid, entry.gid),
        mtime: entry.mtime,
        size: entry.size,
        target: entry.target.to_vec(),
        status: entry.status,
        content: if entry.kind == EntryKind::File {
            Some(content_of(entry)?)
        } else {
            None
        },
    })
}

/// What `path` names in a snapshot; the empty path is the snapshot itself.
///
/// # Errors
/// When there is no such item, or a tree cannot be read.
pub fn find_item(
    reader: &Reader<'_>,
    snapshot: &Snapshot,
    path: &[u8],
) -> Result<Found, PathError> {
    let mut found = Found::Folder {
        item: None,
        tree: snapshot.head.root.clone(),
    };
    let mut walked = Vec::new();
    for name in path
        .split(|byte| *byte == b'/')
        .filter(|name| !name.is_empty())
    {
        let not_found = |beside| PathError::NotFound {
            path: crate::text::shown_path(path),
            beside,
        };
        let Found::Folder { tree, .. } = &found else {
            return Err(not_found(Vec::new()));
        };
        let bytes = reader.whole(tree)?;
        if !walked.is_empty() {
            walked.push(b'/');
        }
        walked.extend_from_slice(name);
        let (mut next, mut beside) = (None, Vec::new());
        for entry in Entries::new(&bytes) {
            let entry = entry.map_err(wrong)?;
            if entry.name == name {
                let item = Box::new(item_of(&entry, walked.clone())?);
                next = Some(if entry.kind == EntryKind::Folder {
                    Found::Folder {
                        item: Some(item),
                        tree: content_of(&entry)?,
                    }
                } else {
                    Found::Other(item)
                });
                break;
            }
            if beside.len() < 10 {
                beside.push(crate::text::shown_path(entry.name));
            }
        }
        found = next.ok_or_else(|| not_found(beside))?;
    }
    Ok(found)
}

/// Looks at one entry and its path, and says where the walk goes. An error instead of the entry is why the rest of
/// the folder at this path cannot be read; who returns it ends the walk, who does not goes on beside it.
pub(crate) type Visit<'a> =
    dyn FnMut(&[u8], Result<&Entry<'_>, ReadError>) -> Result<Step, ReadError> + 'a;

/// Takes a path that differs, how, and its sizes before and after.
pub type Differs<'a> = dyn FnMut(&[u8], Change, u64, u64) + 'a;

/// Whether a walk goes into a folder.
pub enum Step {
    /// Go on, into the folder.
    Into,
    /// Go on, past it.
    Past,
    /// End the walk.
    End,
}

/// Visits everything below a tree, folders before what they hold, names in order.
///
/// # Errors
/// When the tree itself cannot be read, or `each` says so.
pub(crate) fn walk_entries(
    reader: &Reader<'_>,
    tree: &StreamRef,
    path: &[u8],
    each: &mut Visit<'_>,
) -> Result<(), ReadError> {
    struct Level {
        bytes: Vec<u8>,
        at: usize,
        path: usize,
    }
    let mut full = path.to_vec();
    let mut levels = vec![Level {
        bytes: reader.whole(tree)?,
        at: 0,
        path: full.len(),
    }];
    while let Some(level) = levels.last_mut() {
        full.truncate(level.path);
        let mut entries = Entries::new(&level.bytes[level.at..]);
        let Some(entry) = entries.next() else {
            levels.pop();
            continue;
        };
        let entry = match entry {
            Ok(entry) => entry,
            Err(error) => {
                // Where the next entry would begin is not known.
                levels.pop();
                match each(&full, Err(wrong(error)))? {
                    Step::End => return Ok(()),
                    Step::Into | Step::Past => continue,
                }
            }
        };
        if !full.is_empty() {
            full.push(b'/');
        }
        full.extend_from_slice(entry.name);
        let below = match each(&full, Ok(&entry))? {
            Step::Into if entry.kind == EntryKind::Folder => Some(content_of(&entry)),
            Step::Into | Step::Past => None,
            Step::End => return Ok(()),
        };
        let length = entries.raw().len();
        level.at += length;
        let Some(below) = below else { continue };
        if levels.len() >= DEPTH_MAX {
            return Err(wrong(FormatError::Invalid(
                "the tree is deeper than any folder",
            )));
        }
        match below.and_then(|below| reader.whole(&below)) {
            Ok(bytes) => levels.push(Level {
                bytes,
                at: 0,
                path: full.len(),
            }),
            Err(error) => {
                if matches!(each(&full, Err(error))?, Step::End) {
                    return Ok(());
                }
            }
        }
    }
    Ok(())
}

/// Visits everything below a tree as items.
///
/// # Errors
/// When a tree cannot be read.
pub fn walk_tree(
    reader: &Reader<'_>,
    tree: &StreamRef,
    path: &[u8],
    each: &mut dyn FnMut(Item) -> Step,
) -> Result<(), ReadError> {
    walk_entries(reader, tree, path, &mut |path, entry| {
        Ok(each(item_of(entry?, path.to_vec())?))
    })
}

/// How one path differs between two snapshots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Only in the second.
    Added,
    /// Only in the first.
    Removed,
    /// Other content.
    Content,
    /// Other metadata.
    Metadata,
}

/// Visits what differs between two snapshots; equal folders are not opened.
///
/// # Errors
/// When a tree cannot be read.
pub fn diff(
    first: (&Reader<'_>, &Snapshot),
    second: (&Reader<'_>, &Snapshot),
    each: &mut Differs<'_>,
) -> Result<(), ReadError> {
    // Chunks of different domains have different names for the same content: then only sizes and times can be compared.
    let same_domain = first.1.head.domain == second.1.head.domain;
    let mut pairs = vec![(
        Vec::new(),
        Some(first.1.head.root.clone()),
        Some(second.1.head.root.clone()),
    )];
    while let Some((path, a, b)) = pairs.pop() {
        if same_domain && a == b {
            continue;
        }
        let read = |reader: &Reader<'_>, tree: &Option<StreamRef>| {
            tree.as_ref()
                .map_or(Ok(Vec::new()), |tree| reader.whole(tree))
        };
        let (a, b) = (read(first.0, &a)?, read(second.0, &b)?);
        let (mut a, mut b) = (Entries::new(&a).peekable(), Entries::new(&b).peekable());
        let mut below = Vec::new();
        loop {
            let name = |side: &mut std::iter::Peekable<Entries<'_>>| {
                side.peek()
                    .and_then(|entry| entry.as_ref().ok())
                    .map(|entry| entry.name.to_vec())
            };
            let (left, right) = (name(&mut a), name(&mut b));
            let (take_a, take_b) = match (&left, &right) {
                (Some(left), Some(right)) => (left <= right, right <= left),
                (left, right) => (left.is_some(), right.is_some()),
            };
            let x = if take_a || left.is_none() {
                a.next().transpose().map_err(wrong)?
            } else {
                None
            };
            let y = if take_b || right.is_none() {
                b.next().transpose().map_err(wrong)?
            } else {
                None
            };
            let Some(named) = x.as_ref().or(y.as_ref()) else {
                break;
            };
            let mut full = path.clone();
            if !full.is_empty() {
                full.push(b'/');
            }
            full.extend_from_slice(named.name);
            if let Some(change) = change(x.as_ref(), y.as_ref(), same_domain) {
                each(
                    &full,
                    change,
                    x.as_ref().map_or(0, |entry| entry.size),
                    y.as_ref().map_or(0, |entry| entry.size),
                );
            }
            let tree = |entry: &Option<Entry<'_>>| {
                entry
                    .as_ref()
                    .filter(|entry| entry.kind == EntryKind::Folder)
                    .map(content_of)
                    .transpose()
            };
            let (x, y) = (tree(&x)?, tree(&y)?);
            if x.is_some() || y.is_some() {
                below.push((full, x, y));
            }
        }
        below.reverse();
        pairs.extend(below);
    }
    Ok(())
}

fn change(a: Option<&Entry<'_>>, b: Option<&Entry<'_>>, same_domain: bool) -> Option<Change> {
    let (a, b) = match (a, b) {
        (None, None) => return None,
        (None, Some(_)) => return Some(Change::Added),
        (Some(_), None) => return Some(Change::Removed),
        (Some(a), Some(b)) => (a, b),
    };
    let content = a.kind != b.kind
        || a.target != b.target
        || a.device != b.device
        || (a.kind == EntryKind::File
            && (a.size != b.size
                || if same_domain {
                    a.content != b.content
                } else {
                    a.mtime != b.mtime
                }));
    let metadata = a.mode != b.mode
        || (a.uid, a.gid) != (b.uid, b.gid)
        || a.attributes != b.attributes
        || a.flags != b.flags;
    let time = a.kind != EntryKind::Folder && a.mtime != b.mtime;
    if content {
        Some(Change::Content)
    } else {
        (metadata || time).then_some(Change::Metadata)
    }
}
