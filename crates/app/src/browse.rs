//! Looking into a snapshot: one item, everything below it, what differs between two.
//!
//! Trees are walked without recursion and read entry by entry: memory holds a piece of each folder on the way down,
//! however many entries those have. A folder that names itself, which only a forged repository can hold, ends in an
//! error.

use std::cmp::Ordering;

use lifeboat_codec::{Entry, EntryKind, EntryTime, FormatError, StreamRef};
use lifeboat_repository::{FOLDER_DEPTH_MAX, ReadError, Reader, Snapshot, StoredTree};
use thiserror::Error;

use crate::entry::{FileContent, content_of, file_content, wrong};
use crate::text::{sentence, shown_path};

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
    pub content: Option<FileContent>,
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
            Some(file_content(entry)?)
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
            path: shown_path(path),
            beside,
        };
        let Found::Folder { tree, .. } = &found else {
            return Err(not_found(Vec::new()));
        };
        let mut entries = reader.tree(tree)?;
        if !walked.is_empty() {
            walked.push(b'/');
        }
        walked.extend_from_slice(name);
        let (mut next, mut beside) = (None, Vec::new());
        // A refused entry with another name is nobody's business here.
        while entries.advance()? {
            if entries.name() == name {
                let entry = entries.entry()?;
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
                beside.push(shown_path(entries.name()));
            }
        }
        found = next.ok_or_else(|| not_found(beside))?;
    }
    Ok(found)
}

/// Looks at one entry and its path, and says where the walk goes. Who returns what stands there instead of an entry
/// ends the walk, who does not goes on beside it.
pub(crate) type Visit<'a> =
    dyn FnMut(&[u8], Result<&Entry<'_>, Unread>) -> Result<Step, ReadError> + 'a;

/// What a walk does not see.
#[derive(Debug)]
pub(crate) enum Unread {
    /// The entry at the path alone, which is none that this version may read.
    Entry(ReadError),
    /// The rest of the folder at the path: where its next entry would begin is not known.
    Rest(ReadError),
}

impl From<Unread> for ReadError {
    fn from(unread: Unread) -> Self {
        match unread {
            Unread::Entry(error) | Unread::Rest(error) => error,
        }
    }
}

/// Takes a path and what stands there, or why that or what lies in it cannot be read; says where the walk goes.
pub type Lists<'a> = dyn FnMut(&[u8], Result<Item, ReadError>) -> Step + 'a;

/// Takes a path that differs and how, or why it or what lies in it cannot be compared; false ends the comparison.
pub type Differs<'a> = dyn FnMut(&[u8], Result<Differing, ReadError>) -> bool + 'a;

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
/// When the tree itself cannot be read from its first entry on, or `each` says so.
pub(crate) fn walk_entries<'r>(
    reader: &'r Reader<'r>,
    tree: &StreamRef,
    path: &[u8],
    each: &mut Visit<'_>,
) -> Result<(), ReadError> {
    struct Level<'r> {
        tree: StoredTree<'r>,
        path: usize,
    }
    let mut full = path.to_vec();
    let mut top = reader.tree(tree)?;
    let mut is_first = Some(top.advance()?);
    let mut levels = vec![Level {
        tree: top,
        path: full.len(),
    }];
    while let Some(level) = levels.last_mut() {
        full.truncate(level.path);
        let advanced = is_first.take().map_or_else(|| level.tree.advance(), Ok);
        match advanced {
            Ok(true) => {}
            Ok(false) => {
                levels.pop();
                continue;
            }
            Err(error) => {
                levels.pop();
                match each(&full, Err(Unread::Rest(error)))? {
                    Step::End => return Ok(()),
                    Step::Into | Step::Past => continue,
                }
            }
        }
        if !full.is_empty() {
            full.push(b'/');
        }
        full.extend_from_slice(level.tree.name());
        let entry = match level.tree.entry() {
            Ok(entry) => entry,
            // Its neighbours can be read all the same.
            Err(error) => match each(&full, Err(Unread::Entry(error)))? {
                Step::End => return Ok(()),
                Step::Into | Step::Past => continue,
            },
        };
        let below = match each(&full, Ok(&entry))? {
            Step::Into if entry.kind == EntryKind::Folder => content_of(&entry),
            Step::Into | Step::Past => continue,
            Step::End => return Ok(()),
        };
        let below = match levels.len() {
            0..FOLDER_DEPTH_MAX => below.and_then(|below| reader.tree(&below)),
            _ => Err(too_deep()),
        };
        match below {
            Ok(tree) => levels.push(Level {
                tree,
                path: full.len(),
            }),
            Err(error) => {
                if matches!(each(&full, Err(Unread::Rest(error)))?, Step::End) {
                    return Ok(());
                }
            }
        }
    }
    Ok(())
}

fn too_deep() -> ReadError {
    wrong(FormatError::Invalid("the tree is deeper than any folder"))
}

/// What is said of a path at which something cannot be read.
#[must_use]
pub fn told_unread(path: &[u8], error: &ReadError) -> String {
    let place = if path.is_empty() {
        "the top folder".to_owned()
    } else {
        shown_path(path)
    };
    format!("{place}: {}", sentence(error))
}

/// Visits everything below a tree as items. What stands at a path and cannot be read is handed over as the error, and the
/// walk goes on beside it.
///
/// # Errors
/// When the tree itself cannot be read from its first entry on.
pub fn walk_tree<'r>(
    reader: &'r Reader<'r>,
    tree: &StreamRef,
    path: &[u8],
    each: &mut Lists<'_>,
) -> Result<(), ReadError> {
    walk_entries(reader, tree, path, &mut |path, entry| {
        let item = entry.map_err(ReadError::from);
        Ok(each(
            path,
            item.and_then(|entry| item_of(entry, path.to_vec())),
        ))
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

/// A path that differs between two snapshots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Differing {
    /// How.
    pub how: Change,
    /// Its size in the first; 0 where it is not there.
    pub before: u64,
    /// Its size in the second.
    pub after: u64,
    /// What it was in the first, where it is there, and what it is in the second.
    pub kinds: [Option<EntryKind>; 2],
}

/// One side of a pair of folders: its tree, standing at an entry that the other side may have too.
struct Side<'r> {
    tree: StoredTree<'r>,
    is_there: bool,
}

impl<'r> Side<'r> {
    fn begin(reader: &'r Reader<'r>, tree: &StreamRef) -> Result<Self, ReadError> {
        let mut tree = reader.tree(tree)?;
        let is_there = tree.advance()?;
        Ok(Self { tree, is_there })
    }

    fn name(&self) -> Option<&[u8]> {
        self.is_there.then(|| self.tree.name())
    }
}

/// A folder of two snapshots, or of one of them.
struct Pair<'r> {
    /// The length of its path.
    path: usize,
    sides: [Option<Side<'r>>; 2],
}

impl Pair<'_> {
    /// On which sides the first name stands that was not looked at yet; `None` when there is no more.
    fn next(&self) -> Option<[bool; 2]> {
        let [first, second] = &self.sides;
        let first = first.as_ref().and_then(Side::name);
        let second = second.as_ref().and_then(Side::name);
        match (first, second) {
            (None, None) => None,
            (Some(first), Some(second)) => Some(match first.cmp(second) {
                Ordering::Less => [true, false],
                Ordering::Equal => [true, true],
                Ordering::Greater => [false, true],
            }),
            (first, second) => Some([first.is_some(), second.is_some()]),
        }
    }

    /// The name that stands on these sides.
    fn name(&self, taken: [bool; 2]) -> &[u8] {
        let mut sides = self.sides.iter().zip(taken);
        let side = sides.find_map(|(side, taken)| side.as_ref().filter(|_| taken));
        side.map_or(&[], |side| side.tree.name())
    }

    fn entries(&self, taken: [bool; 2]) -> Result<[Option<Entry<'_>>; 2], ReadError> {
        let entry = |number: usize| {
            let side = self.sides[number].as_ref().filter(|_| taken[number]);
            side.map(|side| side.tree.entry()).transpose()
        };
        Ok([entry(0)?, entry(1)?])
    }

    /// Goes on to the next name of these sides.
    fn advance(&mut self, taken: [bool; 2]) -> Result<(), ReadError> {
        let sides = self.sides.iter_mut().zip(taken);
        for side in sides.filter_map(|(side, taken)| side.as_mut().filter(|_| taken)) {
            side.is_there = side.tree.advance()?;
        }
        Ok(())
    }
}

/// Visits what differs between two snapshots, each folder before what it holds, names in order; equal folders are not
/// opened. What cannot be read is handed over as the error, and the comparison goes on beside it.
///
/// # Errors
/// When the snapshots' own trees cannot be read from their first entries on.
pub fn diff<'r>(
    first: (&'r Reader<'r>, &Snapshot),
    second: (&'r Reader<'r>, &Snapshot),
    each: &mut Differs<'_>,
) -> Result<(), ReadError> {
    differences(Some(first), second, &mut |path, differing| {
        each(path, differing.map(|(differing, _)| differing))
    })
}

/// Takes a path that differs with what a file's content is on each side where it is another, or why it cannot be compared.
pub(crate) type Changes<'a> =
    dyn FnMut(&[u8], Result<(Differing, [Option<FileContent>; 2]), ReadError>) -> bool + 'a;

/// As [`diff`], with the content of files; everything in the second differs from no snapshot.
pub(crate) fn differences<'r>(
    first: Option<(&'r Reader<'r>, &Snapshot)>,
    second: (&'r Reader<'r>, &Snapshot),
    each: &mut Changes<'_>,
) -> Result<(), ReadError> {
    // Chunks of different domains have different names for the same content: then only sizes and times can be compared.
    let same_domain =
        first.is_none_or(|(_, snapshot)| snapshot.head.domain == second.1.head.domain);
    let first_reader = first.map_or(second.0, |(reader, _)| reader);
    let open = |path: usize, trees: [Option<StreamRef>; 2]| -> Result<_, ReadError> {
        let [a, b] = trees;
        if same_domain && a == b {
            return Ok(None);
        }
        let a = a.map(|tree| Side::begin(first_reader, &tree)).transpose()?;
        let b = b.map(|tree| Side::begin(second.0, &tree)).transpose()?;
        Ok(Some(Pair {
            path,
            sides: [a, b],
        }))
    };
    let roots = [first.map(|(_, snapshot)| snapshot), Some(second.1)];
    let roots = roots.map(|side| side.map(|snapshot| snapshot.head.root.clone()));
    let mut full = Vec::new();
    let mut levels = Vec::from_iter(open(0, roots)?);
    while let Some(level) = levels.last_mut() {
        full.truncate(level.path);
        let Some(taken) = level.next() else {
            levels.pop();
            continue;
        };
        if !full.is_empty() {
            full.push(b'/');
        }
        full.extend_from_slice(level.name(taken));
        let compared = level
            .entries(taken)
            .and_then(|sides| Compared::of(&sides, same_domain));
        let goes_on = level.advance(taken);
        let below = match compared {
            Ok(Compared {
                differing,
                content,
                below,
            }) => {
                if let Some(differing) = differing
                    && !each(&full, Ok((differing, content)))
                {
                    return Ok(());
                }
                below
            }
            Err(error) => {
                if !each(&full, Err(error)) {
                    return Ok(());
                }
                [None, None]
            }
        };
        if let Err(error) = goes_on {
            // What one side still has cannot be told from what the other has not.
            level.sides = [None, None];
            if !each(&full[..level.path], Err(error)) {
                return Ok(());
            }
        }
        if below.iter().all(Option::is_none) {
            continue;
        }
        let pair = match levels.len() {
            0..FOLDER_DEPTH_MAX => open(full.len(), below),
            _ => Err(too_deep()),
        };
        match pair {
            Ok(pair) => levels.extend(pair),
            Err(error) => {
                if !each(&full, Err(error)) {
                    return Ok(());
                }
            }
        }
    }
    Ok(())
}

/// What is known of one path of two snapshots.
struct Compared {
    differing: Option<Differing>,
    /// What a file holds on each side, where that differs.
    content: [Option<FileContent>; 2],
    /// What lies below it, on each side where it is a folder.
    below: [Option<StreamRef>; 2],
}

impl Compared {
    fn of(sides: &[Option<Entry<'_>>; 2], same_domain: bool) -> Result<Self, ReadError> {
        let size = |side: &Option<Entry<'_>>| side.as_ref().map_or(0, |entry| entry.size);
        let tree = |side: &Option<Entry<'_>>| {
            let folder = side.as_ref();
            folder
                .filter(|entry| entry.kind == EntryKind::Folder)
                .map(content_of)
                .transpose()
        };
        let file = |side: &Option<Entry<'_>>| {
            let file = side.as_ref();
            file.filter(|entry| entry.kind == EntryKind::File)
                .map(file_content)
                .transpose()
        };
        let [first, second] = sides;
        let how = change(first.as_ref(), second.as_ref(), same_domain);
        let content = match how {
            None | Some(Change::Metadata) => [None, None],
            Some(_) => [file(first)?, file(second)?],
        };
        Ok(Self {
            content,
            differing: how.map(|how| Differing {
                how,
                before: size(first),
                after: size(second),
                kinds: [first, second].map(|side| side.as_ref().map(|entry| entry.kind)),
            }),
            below: [tree(first)?, tree(second)?],
        })
    }
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
