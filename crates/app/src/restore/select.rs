//! What of a snapshot is restored, and to whom it will belong.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};

use lifeboat_codec::{Entry, EntryKind, Manifest, StreamRef, status};
use lifeboat_files::{IdMap, Owner};
use lifeboat_repository::{ReadError, Reader, Snapshot};

use super::{RestoreError, RestoreOutcome, RestoreRequest};
use crate::backup::names_in;
use crate::browse::{Found, Step, Visit, find_item, told_unread, walk_entries};
use crate::text::shown_path;

/// One selected part of the snapshot.
pub(super) struct Selected {
    pub(super) tree: StreamRef,
    /// Paths in the tree that are wanted; none = all.
    only: Vec<Vec<u8>>,
    /// The one wanted is a folder whose own entries go right into the target.
    pub(super) open: bool,
}

/// How a path lies to what is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Relation {
    /// It is wanted, and so is everything below it.
    Wanted,
    /// A folder on the way to something wanted.
    Above,
    /// Neither.
    Outside,
}

impl Selected {
    /// How the path lies to what is wanted of this tree.
    pub(super) fn relation(&self, path: &[u8]) -> Relation {
        let all = self.only.is_empty();
        if all || self.only.iter().any(|only| lies_in(path, only)) {
            Relation::Wanted
        } else if self.only.iter().any(|only| lies_in(only, path)) {
            Relation::Above
        } else {
            Relation::Outside
        }
    }

    /// Visits what is wanted and the folders above it, until `stop`. It ends behind the last that is wanted; where the
    /// rest of a folder cannot be read in which nothing more is wanted, nothing lacks and nothing is said.
    ///
    /// # Errors
    /// As [`walk_entries`].
    pub(super) fn walk(
        &self,
        reader: &Reader<'_>,
        stop: &AtomicBool,
        each: &mut Visit<'_>,
    ) -> Result<(), ReadError> {
        let mut missing: Vec<&[u8]> = self.only.iter().map(Vec::as_slice).collect();
        walk_entries(reader, &self.tree, b"", &mut |path, entry| {
            if stop.load(Ordering::Relaxed) {
                return Ok(Step::End);
            }
            let relation = self.relation(path);
            let is_needed = match (&entry, relation) {
                (_, Relation::Wanted) => {
                    missing.retain(|only| *only != path);
                    true
                }
                (Ok(_), Relation::Above) => true,
                (Ok(_), Relation::Outside) => false,
                (Err(_), _) => missing
                    .iter()
                    .any(|only| path.is_empty() || lies_in(only, path)),
            };
            if is_needed {
                each(path, entry)
            } else if missing.is_empty() {
                Ok(Step::End)
            } else {
                Ok(Step::Past)
            }
        })
    }

    /// Where the path comes to lie in the target: the one folder whose entries go right into it has no name there.
    pub(super) fn place<'p>(&self, path: &'p [u8]) -> &'p [u8] {
        match path.iter().position(|byte| *byte == b'/') {
            _ if !self.open => path,
            Some(slash) => &path[slash + 1..],
            None => b"",
        }
    }

    /// The tree's own folder is restored with everything in it.
    pub(super) fn is_whole(&self) -> bool {
        self.only.is_empty()
    }
}

/// Whether `path` is `folder`, or lies below it.
fn lies_in(path: &[u8], folder: &[u8]) -> bool {
    path.strip_prefix(folder)
        .is_some_and(|rest| rest.first().is_none_or(|first| *first == b'/'))
}

/// Finds what was asked for.
pub(super) fn select(
    reader: &Reader<'_>,
    snapshot: &Snapshot,
    request: &RestoreRequest,
) -> Result<Vec<Selected>, RestoreError> {
    let root = |only: Vec<Vec<u8>>| Selected {
        tree: snapshot.head.root.clone(),
        only,
        open: false,
    };
    let mut paths: Vec<Vec<&[u8]>> = Vec::new();
    for path in &request.paths {
        let parts = path.split(|byte| *byte == b'/');
        paths.push(parts.filter(|part| !part.is_empty()).collect());
    }
    if paths.iter().any(Vec::is_empty) || paths.is_empty() {
        return Ok(vec![root(Vec::new())]);
    }
    let mut names: Vec<&[u8]> = Vec::new();
    let mut selected = Vec::new();
    for parts in &paths {
        let (name, above) = parts.split_last().expect("a path that is not empty");
        let found = find_item(reader, snapshot, &parts.join(&b'/'))?;
        if request.tree {
            continue;
        }
        if names.contains(name) {
            return Err(RestoreError::SameName(shown_path(name)));
        }
        names.push(name);
        let Found::Folder { tree, .. } = find_item(reader, snapshot, &above.join(&b'/'))? else {
            unreachable!("what is above something that was found is a folder");
        };
        selected.push(Selected {
            tree,
            only: vec![name.to_vec()],
            open: paths.len() == 1 && matches!(found, Found::Folder { .. }),
        });
    }
    if request.tree {
        selected.push(root(paths.iter().map(|parts| parts.join(&b'/')).collect()));
    }
    Ok(selected)
}

/// Names before numbers: the same user may have another number here.
pub(super) fn owner(request: &RestoreRequest, manifest: &Manifest) -> Owner {
    if let Some(owner) = &request.owner {
        return owner.clone();
    }
    if request.numeric_ids {
        return Owner::Keep;
    }
    let map = |there: &[(u32, String)], here: &[(u32, String)]| {
        let pairs = there.iter().filter_map(|(number, name)| {
            let local = here.iter().find(|(_, local)| local == name)?.0;
            (local != *number).then_some((*number, local))
        });
        pairs.collect::<HashMap<u32, u32>>()
    };
    let ids = IdMap {
        users: map(&manifest.users, &names_in("/etc/passwd")),
        groups: map(&manifest.groups, &names_in("/etc/group")),
    };
    if ids.users.is_empty() && ids.groups.is_empty() {
        Owner::Keep
    } else {
        Owner::Map(ids)
    }
}

/// Counts what would be restored and keeps what could not be, until `stop`.
pub(super) fn dry_run(
    reader: &Reader<'_>,
    selected: &[Selected],
    request: &RestoreRequest,
    stop: &AtomicBool,
) -> Result<RestoreOutcome, RestoreError> {
    let mut outcome = RestoreOutcome::default();
    for part in selected {
        part.walk(reader, stop, &mut |path, entry| {
            let entry = match entry {
                Ok(entry) => entry,
                Err(unread) => {
                    outcome.problem(told_unread(path, &unread.into()));
                    return Ok(Step::Past);
                }
            };
            match entry.kind {
                _ if is_left_out(entry, request) => outcome.leave_out(path),
                EntryKind::Folder => outcome.folders += 1,
                EntryKind::File => {
                    outcome.files += 1;
                    outcome.bytes += entry.size;
                }
                _ => {}
            }
            Ok(Step::Into)
        })?;
    }
    Ok(outcome)
}

/// Whether paths were named, and everything below them is secret and not to be restored.
pub(super) fn has_nothing_but_secrets(
    reader: &Reader<'_>,
    selected: &[Selected],
    request: &RestoreRequest,
    stop: &AtomicBool,
) -> Result<bool, ReadError> {
    if request.with_secrets || request.paths.is_empty() {
        return Ok(false);
    }
    let (mut secrets, mut others) = (0_u64, 0_u64);
    for part in selected {
        part.walk(reader, stop, &mut |_, entry| {
            // What cannot be read is told by the restore itself.
            let Ok(entry) = entry else {
                others += 1;
                return Ok(Step::End);
            };
            match entry.kind {
                _ if is_left_out(entry, request) => secrets += 1,
                EntryKind::Folder => {}
                _ => others += 1,
            }
            Ok(if others > 0 { Step::End } else { Step::Into })
        })?;
    }
    Ok(secrets > 0 && others == 0)
}

/// Whether the entry is a secret that was not asked for.
pub(super) fn is_left_out(entry: &Entry<'_>, request: &RestoreRequest) -> bool {
    entry.status & status::SECRET != 0 && !request.with_secrets
}

#[cfg(test)]
mod tests {
    use lifeboat_codec::Profile;

    use super::*;

    #[test]
    fn a_path_is_wanted_or_above_or_outside_by_whole_names() {
        let selected = Selected {
            tree: StreamRef::empty(Profile::Metadata),
            only: vec![b"media/2026".to_vec(), b"db".to_vec()],
            open: false,
        };
        for (path, relation) in [
            ("media", Relation::Above),
            ("media/2026", Relation::Wanted),
            ("media/2026/a", Relation::Wanted),
            ("media/20", Relation::Outside),
            ("media/2026x", Relation::Outside),
            ("db", Relation::Wanted),
            ("d", Relation::Outside),
        ] {
            assert_eq!(selected.relation(path.as_bytes()), relation, "{path}");
        }
    }
}
