//! Copying between families: everything is read, and written anew under the other family's keys.
//!
//! A copy is a new snapshot with an id of its own. Each source of its manifest names the snapshot that it was copied
//! from, by which a later copy knows what is there; all else that the snapshot says of itself is kept.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use lifeboat_codec::{FormatError, Head, Manifest, Note, Role, SnapshotId, StreamRef};

use super::memo::Memo;
use super::walk::Walk;
use super::{CopyError, CopyReport};
use crate::commit::{Contents, Draft};
use crate::progress::{Counter, Progress};
use crate::repository::{ReadError, Repository};
use crate::snapshots::Snapshot;
use crate::write_error::WriteError;
use crate::writer::{Writer, work};

/// The fact of a source that names the snapshot it was copied from.
const COPIED_FROM: &str = "copied-from";

pub(super) fn copy(
    from: &Repository,
    to: &mut Repository,
    snapshots: &[&Snapshot],
    progress: &dyn Progress,
    stop: &AtomicBool,
) -> Result<CopyReport, CopyError> {
    if from.role() != Role::Full {
        return Err(CopyError::From(ReadError::format(
            "the repository",
            FormatError::NoKey("copying to another family"),
        )));
    }
    if to.role() != Role::Full {
        return Err(WriteError::Role("take over snapshots of another family").into());
    }
    progress.phase("Comparing the repositories");
    let mut there = copied_before(to)?;
    let memo = Mutex::new(Memo::default());
    let mut report = CopyReport::default();
    for snapshot in snapshots {
        if stop.load(Ordering::Relaxed) {
            return Err(CopyError::Stopped);
        }
        let id = snapshot.name.id;
        let mut manifest = from.manifest(snapshot).map_err(CopyError::From)?;
        // Copied here before, or copied from here once.
        let known = there
            .get(&id)
            .copied()
            .or_else(|| origins(&manifest).find(|origin| there.values().any(|new| new == origin)));
        if let Some(new) = known {
            report.skipped.push((id, new));
            continue;
        }
        for source in &mut manifest.sources {
            source.facts.push((COPIED_FROM.to_owned(), id.to_string()));
        }
        let (new, bytes) = one(
            from,
            to,
            snapshot,
            &manifest,
            (&memo, &there),
            progress,
            stop,
        )?;
        there.insert(id, new);
        report.copied.push((id, new));
        report.bytes += bytes;
    }
    notes(from, to, &mut report, progress)?;
    Ok(report)
}

/// Every snapshot of `to`: those that were copied by the id of what they are a copy of, all of them by their own.
fn copied_before(to: &Repository) -> Result<BTreeMap<SnapshotId, SnapshotId>, WriteError> {
    let mut copies = BTreeMap::new();
    for snapshot in to.snapshots()?.snapshots {
        copies.insert(snapshot.name.id, snapshot.name.id);
        // One that cannot be read is no copy to rely on.
        if let Ok(manifest) = to.manifest(&snapshot) {
            copies.extend(origins(&manifest).map(|origin| (origin, snapshot.name.id)));
        }
    }
    Ok(copies)
}

fn origins(manifest: &Manifest) -> impl Iterator<Item = SnapshotId> {
    let facts = manifest.sources.iter().flat_map(|source| &source.facts);
    facts
        .filter(|(name, _)| name == COPIED_FROM)
        .filter_map(|(_, id)| SnapshotId::from_hex(id))
}

/// What is said about the snapshots in `from` is said about their copies, unless it was before.
fn notes(
    from: &Repository,
    to: &mut Repository,
    report: &mut CopyReport,
    progress: &dyn Progress,
) -> Result<(), CopyError> {
    let said = from.notes().map_err(CopyError::From)?;
    let known = to.notes().map_err(WriteError::from)?;
    said.damaged
        .iter()
        .chain(&known.damaged)
        .for_each(|sentence| progress.problem(sentence));
    let (said, known) = (said.notes, known.notes);
    for (old, new) in report.copied.iter().chain(&report.skipped) {
        for (_, note) in said.of(*old) {
            if known
                .of(*new)
                .all(|(_, known)| (&known.kind, &known.value) != (&note.kind, &note.value))
            {
                to.say(&Note {
                    snapshot: *new,
                    removes: None,
                    ..note.clone()
                })?;
                report.notes += 1;
            }
        }
    }
    Ok(())
}

/// Copies one snapshot; returns its new id and what it cost.
fn one(
    from: &Repository,
    to: &mut Repository,
    snapshot: &Snapshot,
    manifest: &Manifest,
    (memo, there): (&Mutex<Memo>, &BTreeMap<SnapshotId, SnapshotId>),
    progress: &dyn Progress,
    stop: &AtomicBool,
) -> Result<(SnapshotId, u64), CopyError> {
    let head = &snapshot.head;
    progress.phase("Copying a snapshot");
    progress.expect(Counter::Files, head.totals.files);
    progress.expect(Counter::Bytes, head.totals.bytes);
    let draft = Draft {
        app: head.app.clone(),
        host: head.host.clone(),
        user: head.user.clone(),
        time_zone: head.time_zone.clone(),
        program: head.program.clone(),
        started_ms: head.started_ms,
        parent: head.parent.and_then(|parent| there.get(&parent).copied()),
        tags: head.tags.clone(),
    };
    let adjust = |new: &mut Head| {
        new.finished_ms = head.finished_ms;
        new.unknown = head.unknown.clone();
    };
    let reader = from.reader(head.domain).map_err(CopyError::From)?;
    let walk = Walk::new(&reader, memo, progress);
    let committed = to.backup_as(
        &draft,
        &adjust,
        progress,
        stop,
        |writer| -> Result<Contents, CopyError> {
            let root = walk.root(writer, &head.root)?;
            let (root, manifest) = metadata(writer, &root, &manifest.encode())?;
            Ok(Contents {
                root,
                manifest,
                files: head.totals.files,
                bytes: head.totals.bytes,
                unreadable: head.totals.unreadable,
            })
        },
    )?;
    Ok((committed.name.id, committed.head.totals.stored_bytes))
}

/// Stores the root tree and the manifest.
fn metadata(
    writer: &Writer<'_>,
    root: &[u8],
    manifest: &[u8],
) -> Result<(StreamRef, StreamRef), CopyError> {
    let stored = Mutex::new(None);
    work(
        writer,
        1,
        vec![()],
        |lane, (), _| -> Result<(), WriteError> {
            let pair = (lane.put_meta(root)?, lane.put_meta(manifest)?);
            *stored.lock().expect("no thread panics with a reference") = Some(pair);
            Ok(())
        },
    )?;
    Ok(stored
        .into_inner()
        .expect("no thread panics with a reference")
        .expect("the only task was done"))
}
