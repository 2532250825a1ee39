//! Copying within a family: packs, snapshots and notes as they are.
//!
//! The order is that of a backup: packs, index, intents, the look, confirms. The index object is new, because it names
//! only the packs that were taken over, and is the admin's, who may speak for every writer.

use std::collections::{BTreeSet, HashSet};
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use lifeboat_codec::{
    Author, Envelope, FormatError, Head, Index, Note, ObjectHash, PackId, Recipient, RunId,
    SnapshotId, SnapshotName,
};
use lifeboat_store::{Body, ErrorKind, ObjectName, spool};

use super::{CopyError, CopyReport};
use crate::lookup::Lookup;
use crate::parallel;
use crate::place::PackPlace;
use crate::progress::{Counter, Progress};
use crate::reachable::chunks_of_unseen;
use crate::repository::{ReadError, Repository, object_name};
use crate::snapshots::Snapshot;
use crate::state::{Anchor, Chain};
use crate::verify::{Scan, fetch};
use crate::write_error::WriteError;

/// When this many bytes of packs have gathered, they are copied and their snapshots confirmed.
const BATCH_BYTES: u64 = 4 << 30;
/// Bytes that are copied at once.
const WINDOW_BYTES: u64 = 4 << 20;

pub(super) fn copy(
    from: &Repository,
    to: &mut Repository,
    snapshots: &[&Snapshot],
    progress: &dyn Progress,
    stop: &AtomicBool,
) -> Result<CopyReport, CopyError> {
    to.may_write()?;
    let admin = to
        .admin()
        .ok_or(WriteError::Role("copy snapshots of other writers"))?;
    progress.phase("Comparing the repositories");
    writers(from, to, snapshots)?;
    to.refresh();
    let lookup = from.lookup().map_err(CopyError::From)?;
    let there = crate::index::load_anew(to).map_err(WriteError::from)?;
    let present = to.present().map_err(WriteError::from)?;
    let there = there.without(|entry| present.get(&entry.id) != Some(&entry.object_bytes));
    let confirmed: BTreeSet<SnapshotName> = confirms(to)?;

    let mut report = CopyReport::default();
    let mut job = Job {
        from,
        to,
        lookup: &lookup,
        admin,
        progress,
        stop,
        done: HashSet::new(),
    };
    let mut batch = Batch::default();
    let mut seen = HashSet::new();
    for snapshot in snapshots {
        if confirmed.contains(&snapshot.name) {
            report.skipped.push((snapshot.name.id, snapshot.name.id));
            continue;
        }
        if stop.load(Ordering::Relaxed) {
            return Err(CopyError::Stopped);
        }
        let domain = snapshot.head.domain;
        let mut lacking = HashSet::new();
        chunks_of_unseen(from, &snapshot.head, &mut seen, &mut |_, item| {
            if there.find(domain, item.id).is_none() {
                lacking.extend(lookup.find(domain, item.id));
            }
        })
        .map_err(CopyError::From)?;
        for segment in lookup.with_bases(lacking) {
            let (place, pack, row) = lookup.row(segment);
            if row.ids.is_empty() {
                return Err(rows_lost(pack));
            }
            if !there.has_segment(domain, pack.entry.kind, &row)
                && !job.done.contains(&place.pack)
                && batch.packs.insert(place.pack)
            {
                batch.bytes += pack.entry.object_bytes;
            }
        }
        batch.snapshots.push(snapshot);
        if batch.bytes >= BATCH_BYTES {
            job.flush(std::mem::take(&mut batch), &mut report)?;
        }
    }
    job.flush(batch, &mut report)?;
    let put = snapshots.iter().map(|snapshot| {
        let chain = Chain {
            replica: to.superblock.replica,
            writer: snapshot.name.writer,
            app: snapshot.head.app.clone(),
        };
        let seq = snapshot.name.seq;
        let hash = snapshot.hash;
        (chain, Anchor { seq, hash })
    });
    to.state.keep_anchors(put).map_err(WriteError::from)?;
    notes(from, to, &mut report)?;
    Ok(report)
}

/// Snapshots whose confirm is in `to`.
fn confirms(to: &Repository) -> Result<BTreeSet<SnapshotName>, WriteError> {
    let listed = to.list("snap/")?;
    Ok(listed
        .iter()
        .filter_map(|(name, _)| SnapshotName::parse(name.as_str()))
        .filter(|(_, confirm)| *confirm)
        .map(|(name, _)| name)
        .collect())
}

/// Enrolments and revocations come first: without them nothing that a writer signed is believed.
fn writers(
    from: &Repository,
    to: &mut Repository,
    snapshots: &[&Snapshot],
) -> Result<(), CopyError> {
    let there: BTreeSet<ObjectName> = names(to, "writers/")?;
    for (name, _) in from.list("writers/").map_err(CopyError::From)? {
        if !there.contains(&name) {
            verbatim(from, to, name.as_str())?;
        }
    }
    to.read_writers().map_err(WriteError::from)?;
    if snapshots
        .iter()
        .any(|snapshot| to.authors.writer(snapshot.name.writer).is_none())
    {
        return Err(WriteError::Role(
            "take over snapshots of a writer whom the other repository revoked",
        )
        .into());
    }
    Ok(())
}

fn names(repository: &Repository, prefix: &str) -> Result<BTreeSet<ObjectName>, WriteError> {
    Ok(repository
        .list(prefix)?
        .into_iter()
        .map(|(name, _)| name)
        .collect())
}

/// Notes about snapshots that are in `to` now.
fn notes(from: &Repository, to: &Repository, report: &mut CopyReport) -> Result<(), CopyError> {
    let about: HashSet<SnapshotId> = confirms(to)?.into_iter().map(|name| name.id).collect();
    let there = names(to, "notes/")?;
    for (name, _) in from.list("notes/").map_err(CopyError::From)? {
        if there.contains(&name) {
            continue;
        }
        let opened = from
            .sealed(name.as_str(), "a note")
            .map_err(CopyError::From)?;
        let note = Note::decode(&opened.record)
            .map_err(|source| CopyError::From(ReadError::format(name.as_str(), source)))?;
        if about.contains(&note.snapshot) {
            verbatim(from, to, name.as_str())?;
            report.notes += 1;
        }
    }
    Ok(())
}

/// Copies a verified object as it is. One that is there must be the same one.
fn verbatim(from: &Repository, to: &Repository, name: &str) -> Result<(), CopyError> {
    let bytes = from.object(name).map_err(CopyError::From)?;
    match to.store.put_new(&object_name(name), Body::Bytes(&bytes)) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            let there = to.object(name).map_err(WriteError::from)?;
            if there == bytes {
                Ok(())
            } else {
                Err(WriteError::Read(ReadError::format(
                    name,
                    FormatError::Invalid("both repositories have it, and differ"),
                ))
                .into())
            }
        }
        Err(error) => Err(WriteError::from(error).into()),
    }
}

/// Snapshots that are confirmed together, and the packs that they need.
#[derive(Default)]
struct Batch<'s> {
    snapshots: Vec<&'s Snapshot>,
    packs: BTreeSet<u32>,
    bytes: u64,
}

struct Job<'j> {
    from: &'j Repository,
    to: &'j mut Repository,
    lookup: &'j Arc<Lookup>,
    admin: Author,
    progress: &'j dyn Progress,
    stop: &'j AtomicBool,
    /// Packs that an earlier batch took over.
    done: HashSet<u32>,
}

impl Job<'_> {
    fn flush(&mut self, batch: Batch<'_>, report: &mut CopyReport) -> Result<(), CopyError> {
        if batch.snapshots.is_empty() {
            return Ok(());
        }
        self.progress.phase("Copying packs");
        let packs: Vec<&PackPlace> = batch
            .packs
            .iter()
            .map(|number| self.lookup.pack(*number))
            .collect();
        let (count, bytes) = self.transfer(&packs)?;
        report.packs += count;
        report.bytes += bytes;
        self.index(&batch.packs)?;

        self.progress.phase("Confirming the snapshots");
        for snapshot in &batch.snapshots {
            verbatim(self.from, self.to, &snapshot.name.intent())?;
        }
        let heads: Vec<&Head> = batch
            .snapshots
            .iter()
            .map(|snapshot| &snapshot.head)
            .collect();
        let relied = packs.iter().map(|pack| pack.entry.id).collect();
        self.to.look(&heads, &relied)?;
        for snapshot in &batch.snapshots {
            verbatim(self.from, self.to, &snapshot.name.confirm())?;
            report.copied.push((snapshot.name.id, snapshot.name.id));
        }
        self.done.extend(batch.packs);
        Ok(())
    }

    /// Copies the packs that the other store does not have; returns how many, and their bytes.
    fn transfer(&self, packs: &[&PackPlace]) -> Result<(u64, u64), CopyError> {
        let present = self.to.present().map_err(WriteError::from)?;
        // An earlier copy that ended before its index left whole packs: a store never shows a part of one.
        let lacking: Vec<&PackPlace> = packs
            .iter()
            .copied()
            .filter(|pack| present.get(&pack.entry.id) != Some(&pack.entry.object_bytes))
            .collect();
        let bytes = lacking.iter().map(|pack| pack.entry.object_bytes).sum();
        self.progress.expect(Counter::Bytes, bytes);
        let failed = Mutex::new(None);
        let over = AtomicBool::new(false);
        let threads = parallel::threads(self.to.store.as_ref());
        parallel::for_each(&lacking, threads, &over, |window: &mut Vec<u8>, pack| {
            if let Err(error) = self.pack(pack, window) {
                failed
                    .lock()
                    .expect("no thread panics with an error")
                    .get_or_insert(error);
                over.store(true, Ordering::Relaxed);
            }
        });
        match failed.into_inner().expect("no thread panics with an error") {
            Some(error) => Err(error),
            None => Ok((lacking.len() as u64, bytes)),
        }
    }

    /// Copies one pack and verifies its hash on the way.
    fn pack(&self, pack: &PackPlace, window: &mut Vec<u8>) -> Result<(), CopyError> {
        let (text, bytes) = (pack.name(), pack.entry.object_bytes);
        let wrong =
            |what| CopyError::From(ReadError::format(text.as_str(), FormatError::Invalid(what)));
        let name = object_name(&text);
        let file = spool(self.to.store.as_ref()).map_err(WriteError::from)?;
        let mut scan = Scan::begin(bytes)
            .ok_or_else(|| wrong("the object's length is not one that an object has"))?;
        loop {
            if self.stop.load(Ordering::Relaxed) {
                return Err(CopyError::Stopped);
            }
            let at = scan.position();
            let body = at < scan.body_end();
            let length = if body {
                (scan.body_end() - at).min(WINDOW_BYTES)
            } else {
                bytes - at
            };
            let part = fetch(self.from.store(), &name, at, length, window)
                .map_err(|error| CopyError::From(error.into()))?;
            file.write_all_at(part, at).map_err(WriteError::Spool)?;
            self.progress.count(Counter::Bytes, length);
            if body {
                scan.update(part);
            } else {
                if !scan.finish(part, Some(hash_of(pack.entry.id))).is_empty() {
                    return Err(wrong("the object's bytes do not fit its final hash"));
                }
                break;
            }
        }
        match self.to.store.put_new(
            &name,
            Body::File {
                file: &file,
                len: bytes,
            },
        ) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => {
                Err(WriteError::from(error).into())
            }
            _ => Ok(()),
        }
    }

    /// Names the packs in an index object of the other repository.
    fn index(&self, packs: &BTreeSet<u32>) -> Result<(), CopyError> {
        let mut index = Index::default();
        for number in packs {
            let pack = self.lookup.pack(*number);
            let envelopes: Option<Vec<Envelope>> = pack.envelopes.iter().copied().collect();
            // What this version cannot read it cannot name either.
            let envelopes = envelopes.ok_or_else(|| {
                CopyError::From(ReadError::format(
                    pack.name(),
                    FormatError::Unsupported("an envelope"),
                ))
            })?;
            let entry = self.lookup.entry(*number);
            if entry.rows.is_empty() && pack.segment_count > 0 {
                return Err(rows_lost(pack));
            }
            index.add(entry, &envelopes);
        }
        let meta = self.to.surroundings.with_entropy(|entropy| {
            Envelope::create(Recipient::Meta, &self.to.keyring, self.to.family(), entropy)
        });
        self.to
            .put_index(&index, RunId(self.to.random()), &self.admin, &meta)?;
        Ok(())
    }
}

fn hash_of(pack: PackId) -> ObjectHash {
    ObjectHash(pack.0)
}

/// Of a pack it is not known what is in it, so that a replica would not know it either.
fn rows_lost(pack: &PackPlace) -> CopyError {
    let lost = FormatError::Truncated("what the index says of a pack");
    CopyError::From(ReadError::format(pack.name(), lost))
}
