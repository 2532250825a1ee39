//! What an exact restore would delete, found out before anything is touched.
//!
//! Each folder of the target is held against its tree as both are sorted, so that memory holds one listing and the
//! first of what is found. Invariant: an entry of the target is found here exactly if the restore would delete it, were
//! all that it wants to write written: folders that are restored as a whole, less the names that the snapshot has for
//! them.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::sync::atomic::{AtomicBool, Ordering};

use lifeboat_codec::{EntryKind, FormatError, StreamRef, status};
use lifeboat_files::{ErrorKind, Folder, Kind, Listed, Listing};
use lifeboat_repository::{ReadError, Reader, StoredTree};

use super::guard::REPOSITORY;
use super::select::{Relation, Selected, is_left_out};
use super::{RestoreError, RestoreOutcome, RestoreRequest};
use crate::browse::Step;
use crate::entry::{content_of, wrong};
use crate::text::shown_path;

/// Paths that are named; more are counted.
const SHOWN_MAX: usize = 10_000;

/// What is to go.
#[derive(Default)]
pub(super) struct Extras {
    /// The first paths below the target; a folder stands for all that it holds.
    shown: Vec<Vec<u8>>,
    pub(super) count: u64,
    /// The folders in which something is to go, or of which nobody knows, by their paths below the target.
    pub(super) held: HashSet<Vec<u8>>,
}

impl Extras {
    /// Says what is to go.
    pub(super) fn tell(mut self, outcome: &mut RestoreOutcome) {
        self.shown.sort_unstable();
        outcome.more_extras = self.count - self.shown.len() as u64;
        outcome.extras = self.shown.iter().map(|path| shown_path(path)).collect();
    }
}

/// The names in a tree, asked for in their order.
pub(super) struct Names<'r> {
    tree: StoredTree<'r>,
    is_there: bool,
    /// An entry could not be read: of no later name is known whether the tree has it.
    has_failed: bool,
}

impl<'r> Names<'r> {
    fn begin(reader: &'r Reader<'r>, tree: &StreamRef) -> Result<Self, ReadError> {
        let mut names = Self {
            tree: reader.tree(tree)?,
            is_there: false,
            has_failed: false,
        };
        names.advance()?;
        Ok(names)
    }

    /// The names of a tree that can be read to its end.
    pub(super) fn whole(reader: &'r Reader<'r>, tree: &StreamRef) -> Result<Self, ReadError> {
        Self::begin(reader, tree)?.end()?;
        Self::begin(reader, tree)
    }

    fn advance(&mut self) -> Result<(), ReadError> {
        match self.tree.next_entry() {
            Ok(entry) => self.is_there = entry.is_some(),
            Err(error) => {
                self.has_failed = true;
                return Err(error);
            }
        }
        Ok(())
    }

    /// Whether the tree has this name, which stands behind those that were asked for before.
    ///
    /// # Errors
    /// When the tree cannot be read up to there, and ever after.
    pub(super) fn has(&mut self, name: &[u8]) -> Result<bool, ReadError> {
        if self.has_failed {
            return Err(in_part());
        }
        while self.is_there && self.tree.name() < name {
            self.advance()?;
        }
        Ok(self.is_there && self.tree.name() == name)
    }

    /// Reads the rest.
    fn end(mut self) -> Result<(), ReadError> {
        if self.has_failed {
            return Err(in_part());
        }
        while self.is_there {
            self.advance()?;
        }
        Ok(())
    }
}

fn in_part() -> ReadError {
    wrong(FormatError::Invalid("a part of it cannot be read"))
}

/// What an exact restore would delete, or a part of it when `stop` was set.
///
/// # Errors
/// [`RestoreError::Repository`] when a repository lies in it; when nobody can know whether one does; when the
/// snapshot's top cannot be read.
pub(super) fn extras(
    reader: &Reader<'_>,
    selected: &[Selected],
    request: &RestoreRequest,
    stop: &AtomicBool,
) -> Result<Extras, RestoreError> {
    let Ok(top) = Folder::open(&request.target) else {
        // There is nothing yet, or `Target::prepare` says what is wrong with it.
        return Ok(Extras::default());
    };
    let mut search = Search {
        reader,
        request,
        top,
        listing: Listing::new(),
        found: Extras::default(),
        refusal: None,
        stop,
    };
    for part in selected {
        search.part(part)?;
    }
    match search.refusal {
        Some(refusal) => Err(refusal),
        None => Ok(search.found),
    }
}

struct Search<'r> {
    reader: &'r Reader<'r>,
    request: &'r RestoreRequest,
    top: Folder,
    listing: Listing,
    found: Extras,
    /// A repository lies in what is to go, or may.
    refusal: Option<RestoreError>,
    stop: &'r AtomicBool,
}

impl Search<'_> {
    fn part(&mut self, part: &Selected) -> Result<(), ReadError> {
        if part.is_whole() {
            self.folder(b"", &part.tree);
        }
        part.walk(self.reader, self.stop, &mut |path, entry| {
            // Of a folder that cannot be read to its end nothing is deleted.
            let Ok(entry) = entry else {
                return Ok(Step::Past);
            };
            let relation = part.relation(path);
            let is_folder = entry.kind == EntryKind::Folder;
            if !is_folder || is_left_out(entry, self.request) {
                return Ok(Step::Past);
            }
            let known = entry.status & status::UNREADABLE == 0;
            if relation == Relation::Wanted
                && known
                && let Ok(tree) = content_of(entry)
                && !self.folder(part.place(path), &tree)
            {
                return Ok(Step::Past);
            }
            Ok(if self.refusal.is_some() {
                Step::End
            } else {
                Step::Into
            })
        })
    }

    /// Holds one folder of the target against its tree; false when there is no such folder yet.
    fn folder(&mut self, path: &[u8], tree: &StreamRef) -> bool {
        let mut folder = match self.top.open_beneath(path) {
            Ok(folder) => folder,
            Err(error) => {
                let is_missing = error.kind() == ErrorKind::Vanished;
                if !is_missing {
                    // The restore may open it yet.
                    self.found.held.insert(path.to_vec());
                }
                return !is_missing;
            }
        };
        // What cannot be listed to its end is deleted as far as it was listed.
        let is_listed = folder.list(&mut self.listing).is_ok();
        let (shown, count) = (self.found.shown.len(), self.found.count);
        match self.beside(path, tree) {
            Err(_) => {
                // Not all names are known, so that nothing is deleted there.
                self.found.shown.truncate(shown);
                self.found.count = count;
            }
            Ok(to_the_end) if to_the_end && is_listed && self.found.count == count => {}
            Ok(_) => {
                self.found.held.insert(path.to_vec());
            }
        }
        true
    }

    /// Finds what was listed and is not in the tree; false when the list could not be read to its end.
    fn beside(&mut self, path: &[u8], tree: &StreamRef) -> Result<bool, ReadError> {
        let mut names = Names::begin(self.reader, tree)?;
        let mut to_the_end = true;
        for entry in self.listing.iter() {
            if self.stop.load(Ordering::Relaxed) {
                return Ok(false);
            }
            let Ok(Listed { name, .. }) = entry else {
                to_the_end = false;
                break;
            };
            if names.has(&name)? {
                continue;
            }
            let mut full = path.to_vec();
            if !full.is_empty() {
                full.push(b'/');
            }
            full.extend_from_slice(&name);
            if self.refusal.is_none() {
                self.refusal = match repository_in(&self.top, &full, self.stop) {
                    Ok(found) => found.map(|path| {
                        let path = self.request.target.join(OsStr::from_bytes(&path));
                        RestoreError::Repository(path)
                    }),
                    Err(error) => Some(RestoreError::Target(error)),
                };
            }
            self.found.count += 1;
            if self.found.shown.len() < SHOWN_MAX {
                self.found.shown.push(full);
            }
        }
        names.end()?;
        Ok(to_the_end)
    }
}

/// The path below `top` of a repository that `path` is or holds. Other file systems are not entered: nothing is
/// deleted there. It is not looked for behind `stop`.
///
/// # Errors
/// When a list of names was lost while it was read: one of them may be a repository.
pub(super) fn repository_in(
    top: &Folder,
    path: &[u8],
    stop: &AtomicBool,
) -> Result<Option<Vec<u8>>, lifeboat_files::Error> {
    let device = |folder: &Folder| folder.own_metadata().ok().map(|own| own.dev);
    let Some(dev) = device(top) else {
        return Ok(None);
    };
    let mut listing = Listing::new();
    let mut waiting = vec![path.to_vec()];
    while let Some(path) = waiting.pop() {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let Ok(mut folder) = top.open_beneath(&path) else {
            continue;
        };
        if device(&folder) != Some(dev) {
            continue;
        }
        if folder.bears(&REPOSITORY) {
            return Ok(Some(path));
        }
        // What cannot be listed cannot be deleted either.
        let _ = folder.list(&mut listing);
        for entry in listing.iter() {
            let entry = entry?;
            if entry.hint.is_none_or(|kind| kind == Kind::Folder) {
                waiting.push([&path, &b"/"[..], &entry.name].concat());
            }
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use lifeboat_codec::{Entry, put_entry};
    use lifeboat_store::Store;

    use super::super::tests::{World, noise};
    use super::*;

    #[test]
    fn names_behind_what_cannot_be_read_are_never_said_not_to_be_there() {
        let (mut tree, mut scratch) = (Vec::new(), Vec::new());
        let names: Vec<String> = (0..3000).map(|number| format!("{number:04}")).collect();
        for (number, name) in names.iter().enumerate() {
            let target = noise(number as u64 + 7, 3000);
            let link = Entry {
                target: &target,
                ..Entry::new(EntryKind::Symlink, name.as_bytes())
            };
            put_entry(&mut tree, &link, &mut scratch);
        }
        let world = World::forged(&tree);
        let snapshot = world.repository.snapshots().unwrap().snapshots.remove(0);
        let reader = world.repository.reader(snapshot.head.domain).unwrap();
        let mut top = reader.tree(&snapshot.head.root).unwrap();
        let media = content_of(&top.next_entry().unwrap().unwrap()).unwrap();
        let mut asked = Names::whole(&reader, &media).unwrap();
        assert!(asked.has(b"0000").unwrap());
        assert!(!asked.has(b"0000 and more").unwrap());
        // What the reader keeps in memory must not help.
        let reader = world.repository.reader(snapshot.head.domain).unwrap();
        let mut asked = Names::begin(&reader, &media).unwrap();
        let mut packs = Vec::new();
        world
            .store
            .list("packs/m/", &mut |listed| packs.push(listed.name))
            .unwrap();
        for pack in packs {
            world.store.delete(&pack).unwrap();
        }
        let said: Vec<_> = names
            .iter()
            .map(|name| asked.has(name.as_bytes()))
            .collect();
        assert!(matches!(said.first(), Some(Ok(true))));
        assert!(said.last().is_some_and(Result::is_err));
        assert!(!said.iter().any(|said| matches!(said, Ok(false))));
        assert!(asked.end().is_err(), "nor does the tree end there");
    }
}
