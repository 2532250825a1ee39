//! What of a snapshot is restored, and to whom it will belong.

use std::collections::HashMap;

use lifeboat_codec::{EntryKind, Manifest, StreamRef, status};
use lifeboat_files::{IdMap, Owner};
use lifeboat_repository::{Reader, Snapshot};

use super::{RestoreError, RestoreOutcome, RestoreRequest};
use crate::backup::names_in;
use crate::browse::{Found, Step, find_item, walk_entries};
use crate::text::shown_path;

/// One selected part of the snapshot: all entries of a tree, or one of them.
pub(super) struct Selected {
    /// Folders to make above it.
    pub(super) above: Vec<Vec<u8>>,
    pub(super) tree: StreamRef,
    /// The one entry that is wanted.
    pub(super) only: Option<Vec<u8>>,
    /// That entry is a folder whose own entries go right into the target.
    pub(super) open: bool,
}

/// Finds what was asked for.
pub(super) fn select(
    reader: &Reader<'_>,
    snapshot: &Snapshot,
    request: &RestoreRequest,
) -> Result<Vec<Selected>, RestoreError> {
    let everything = [Vec::new()];
    let paths = if request.paths.is_empty() {
        everything.as_slice()
    } else {
        &request.paths
    };
    let mut names: Vec<&[u8]> = Vec::new();
    let mut selected = Vec::new();
    for path in paths {
        let parts: Vec<&[u8]> = path
            .split(|byte| *byte == b'/')
            .filter(|part| !part.is_empty())
            .collect();
        let Some((name, above)) = parts.split_last() else {
            selected.push(Selected {
                above: Vec::new(),
                tree: snapshot.head.root.clone(),
                only: None,
                open: false,
            });
            continue;
        };
        if !request.tree && names.contains(name) {
            return Err(RestoreError::SameName(shown_path(name)));
        }
        names.push(name);
        let found = find_item(reader, snapshot, path)?;
        let Found::Folder { tree, .. } = find_item(reader, snapshot, &above.join(&b'/'))? else {
            unreachable!("what is above something that was found is a folder");
        };
        selected.push(Selected {
            above: if request.tree {
                above.iter().map(|part| part.to_vec()).collect()
            } else {
                Vec::new()
            },
            tree,
            only: Some(name.to_vec()),
            open: paths.len() == 1 && !request.tree && matches!(found, Found::Folder { .. }),
        });
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

/// Counts what would be restored.
pub(super) fn dry_run(
    reader: &Reader<'_>,
    selected: &[Selected],
    request: &RestoreRequest,
) -> Result<RestoreOutcome, RestoreError> {
    let mut outcome = RestoreOutcome::default();
    let mut count = |kind: EntryKind, size: u64, bits: u64| match kind {
        _ if bits & status::SECRET != 0 && !request.with_secrets => outcome.secrets_left_out += 1,
        EntryKind::Folder => outcome.folders += 1,
        EntryKind::File => {
            outcome.files += 1;
            outcome.bytes += size;
        }
        _ => {}
    };
    for part in selected {
        walk_entries(reader, &part.tree, b"", &mut |path, entry| {
            let depth = path.iter().filter(|byte| **byte == b'/').count();
            if depth == 0 && part.only.as_deref().is_some_and(|only| only != entry.name) {
                return Ok(Step::Past);
            }
            count(entry.kind, entry.size, entry.status);
            Ok(Step::Into)
        })?;
    }
    Ok(outcome)
}
