//! What an exact restore would delete, found out before anything is touched.
//!
//! Invariant: an entry of the target is listed here exactly if the restore would delete it, were all that it wants to
//! write written: folders that are restored as a whole, less the names that the snapshot has for them.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use lifeboat_codec::{EntryKind, status};
use lifeboat_files::{Folder, Kind, Listing};
use lifeboat_repository::{ReadError, Reader};

use super::guard::REPOSITORY;
use super::select::{Relation, Selected};
use super::{RestoreError, RestoreRequest};
use crate::browse::{Step, walk_entries};

/// The names that belong into each folder of the target, by its path, where the rest is to go.
type Expected = HashMap<Vec<u8>, HashSet<Box<[u8]>>>;

/// The paths below the target of what an exact restore would delete, sorted; a folder stands for all that it holds.
///
/// # Errors
/// [`RestoreError::Repository`] when a repository lies in it; when the snapshot's top cannot be read.
pub(super) fn extras(
    reader: &Reader<'_>,
    selected: &[Selected],
    request: &RestoreRequest,
) -> Result<Vec<Vec<u8>>, RestoreError> {
    let Ok(top) = Folder::open(&request.target) else {
        // There is nothing yet, or `Target::prepare` says what is wrong with it.
        return Ok(Vec::new());
    };
    let mut expected = Expected::new();
    for part in selected {
        expect(reader, part, &mut expected)?;
    }
    let mut extras = Vec::new();
    let mut listing = Listing::new();
    for (path, names) in &expected {
        // What is no folder yet has nothing that could go.
        let Ok(mut folder) = top.open_beneath(path) else {
            continue;
        };
        // What cannot be listed to its end is deleted as far as it was listed.
        let _ = folder.list(&mut listing);
        for entry in listing.iter().filter(|entry| !names.contains(entry.name)) {
            let mut full = path.clone();
            if !full.is_empty() {
                full.push(b'/');
            }
            full.extend_from_slice(entry.name);
            extras.push(full);
        }
    }
    extras.sort_unstable();
    for extra in &extras {
        if let Some(found) = repository_in(&top, extra) {
            let whole = request.target.join(OsStr::from_bytes(&found));
            return Err(RestoreError::Repository(whole));
        }
    }
    Ok(extras)
}

/// Collects what belongs into the folders that this part restores as a whole.
fn expect(reader: &Reader<'_>, part: &Selected, expected: &mut Expected) -> Result<(), ReadError> {
    if part.is_whole() {
        expected.entry(Vec::new()).or_default();
    }
    // The one folder whose entries go right into the target has no name there.
    let place = |path: &[u8]| match path.iter().position(|byte| *byte == b'/') {
        _ if !part.open => path.to_vec(),
        Some(slash) => path[slash + 1..].to_vec(),
        None => Vec::new(),
    };
    walk_entries(reader, &part.tree, b"", &mut |path, entry| {
        let Ok(entry) = entry else {
            // Not all names are known, so that nothing is deleted there.
            expected.remove(&place(path));
            return Ok(Step::Past);
        };
        let relation = part.relation(path);
        if relation == Relation::Outside {
            return Ok(Step::Past);
        }
        let here = place(path);
        let above = path.len().saturating_sub(entry.name.len() + 1);
        let opened = part.open && above == 0 && path.len() == entry.name.len();
        if !opened && let Some(names) = expected.get_mut(&place(&path[..above])) {
            names.insert(entry.name.into());
        }
        let known = entry.status & status::UNREADABLE == 0;
        if entry.kind == EntryKind::Folder && relation == Relation::Wanted && known {
            expected.entry(here).or_default();
        }
        Ok(Step::Into)
    })
}

/// The path below `top` of a repository that `path` is or holds. Other file systems are not entered: nothing is
/// deleted there.
pub(super) fn repository_in(top: &Folder, path: &[u8]) -> Option<Vec<u8>> {
    let device = |folder: &Folder| folder.own_metadata().ok().map(|own| own.dev);
    let dev = device(top)?;
    let mut listing = Listing::new();
    let mut waiting = vec![path.to_vec()];
    while let Some(path) = waiting.pop() {
        let Ok(mut folder) = top.open_beneath(&path) else {
            continue;
        };
        if device(&folder) != Some(dev) {
            continue;
        }
        if folder.bears(&REPOSITORY) {
            return Some(path);
        }
        // What cannot be listed cannot be deleted either.
        let _ = folder.list(&mut listing);
        for entry in listing.iter() {
            if entry.hint.is_none_or(|kind| kind == Kind::Folder) {
                waiting.push([&path, &b"/"[..], entry.name].concat());
            }
        }
    }
    None
}
