//! Everything that is no pack: superblock, key slots, writers, index objects, snapshots, notes, words between runs.
//!
//! Read from the store itself, never from the cache: what was once read well may be damaged now.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use lifeboat_codec::{
    FormatError, Head, Index, Kind, Lease, Marker, Note, ObjectHash, Opened, Revocation, Role,
    SUPERBLOCK, Slot, SlotId, SlotInfo, SlotType, SnapshotName, Superblock, WriterRecord,
    parse_name, parse_slot_name, revocation_name, signer_id, slot_name, writer_name,
};
use lifeboat_store::{ErrorKind, ObjectName};

use super::Check;
use crate::finding::{Finding, Severity};
use crate::parallel;
use crate::repository::{OBJECT_MAX, ReadError, Repository, object_name, read_frame};
use crate::snapshots::{Snapshot, sentence};
use crate::verify::examine;

/// Names and lengths of objects.
pub(super) type Names = Vec<(ObjectName, u64)>;

/// What the store lists, by kind.
pub(super) struct Listing {
    kinds: BTreeMap<Kind, Names>,
    pub(super) strangers: Vec<ObjectName>,
}

impl Listing {
    /// Lists all objects. What relies on others is listed before them, so that a backup that goes on meanwhile leaves
    /// no gap: its packs are put before its index, and that before its snapshot.
    pub(super) fn read(repository: &Repository) -> Result<Self, ReadError> {
        let mut listing = Self {
            kinds: BTreeMap::new(),
            strangers: Vec::new(),
        };
        for prefix in [
            "snap/", "notes/", "tomb/", "ckpt/", "lease/", "trash/", "keys/", "writers/", "index/",
            "packs/",
        ] {
            for (name, bytes) in repository.list(prefix)? {
                match parse_name(name.as_str()) {
                    Some(parsed) => listing
                        .kinds
                        .entry(parsed.kind)
                        .or_default()
                        .push((name, bytes)),
                    None => listing.strangers.push(name),
                }
            }
        }
        Ok(listing)
    }

    pub(super) fn of(&self, kind: Kind) -> &[(ObjectName, u64)] {
        self.kinds.get(&kind).map_or(&[], Vec::as_slice)
    }

    /// Objects and bytes of each kind.
    pub(super) fn counts(&self) -> BTreeMap<Kind, (u64, u64)> {
        let sum = |names: &Names| {
            (
                names.len() as u64,
                names.iter().map(|(_, bytes)| bytes).sum(),
            )
        };
        self.kinds
            .iter()
            .map(|(kind, names)| (*kind, sum(names)))
            .collect()
    }
}

/// The snapshots, and what is needed to judge their chains.
#[derive(Default)]
pub(super) struct Snapshots {
    /// Newest first.
    pub(super) confirmed: Vec<Snapshot>,
    /// Intents without a confirm, with the final hash of the object.
    pub(super) unconfirmed: Vec<(SnapshotName, ObjectHash)>,
}

impl Check<'_> {
    /// Reads many objects at once; those that cannot be read become findings.
    fn read_all<T: Send>(
        &mut self,
        names: &[(ObjectName, u64)],
        read: impl Fn(&str) -> Result<T, ReadError> + Sync,
    ) -> BTreeMap<String, T> {
        let (good, bad) = (Mutex::new(BTreeMap::new()), Mutex::new(Vec::new()));
        parallel::for_each(
            names,
            self.threads,
            self.stop,
            |(): &mut (), (name, bytes)| {
                match read(name.as_str()) {
                    Ok(value) => drop(
                        good.lock()
                            .expect("no thread panics with a result")
                            .insert(name.to_string(), value),
                    ),
                    Err(error) => bad.lock().expect("no thread panics with a result").push((
                        name.clone(),
                        *bytes,
                        error,
                    )),
                }
                self.looked_at(*bytes);
            },
        );
        for (name, bytes, error) in bad.into_inner().expect("no thread panics with a result") {
            self.unreadable(&name, bytes, &error);
        }
        good.into_inner().expect("no thread panics with a result")
    }

    /// Says what is wrong with an object that could not be read, down to the block where that can be told.
    pub(super) fn unreadable(&mut self, name: &ObjectName, bytes: u64, error: &ReadError) {
        match error {
            ReadError::Store(error) if error.kind() == ErrorKind::NotFound => {
                return self.vanished.push(name.clone());
            }
            ReadError::Format { .. } => {
                if let Some(parsed) = parse_name(name.as_str())
                    && let Ok(examined) = examine(
                        self.repository.store(),
                        name,
                        bytes,
                        &parsed,
                        &mut Vec::new(),
                        &mut |_| {},
                    )
                    && !examined.damage.is_empty()
                {
                    for part in examined.damage {
                        self.report(Finding::damage(name.as_str(), bytes, part));
                    }
                    return;
                }
            }
            ReadError::Store(_) | ReadError::MissingChunk(_) => {}
        }
        self.report(Finding::new(
            Severity::Damage,
            name.as_str(),
            format!("cannot be used: {}", sentence(error)),
        ));
    }

    /// The superblock is still the one that the repository was opened with.
    pub(super) fn superblock(&mut self) {
        let name = object_name(SUPERBLOCK);
        let read = || {
            let opened = self.repository.clear(SUPERBLOCK, "the superblock")?;
            Superblock::decode(&opened.record)
                .map_err(|source| ReadError::format(SUPERBLOCK, source))
        };
        match read() {
            Ok(superblock) if superblock == self.repository.superblock => {}
            Ok(_) => self.report(Finding::new(
                Severity::Damage,
                SUPERBLOCK,
                "is another one than the repository was opened with",
            )),
            Err(error) if error.is_missing() => {
                self.report(Finding::new(Severity::Damage, SUPERBLOCK, "is gone"));
            }
            Err(error) => {
                let bytes = self
                    .repository
                    .store()
                    .get(&name, OBJECT_MAX)
                    .map_or(0, |bytes| bytes.len() as u64);
                self.unreadable(&name, bytes, &error);
            }
        }
    }

    /// Every version of every slot can be read, and enough of them are left.
    pub(super) fn slots(&mut self, listing: &Listing) {
        let names = listing.of(Kind::Slot);
        let slots = self.read_all(names, |name| slot(self.repository, name));
        let listed: Vec<SlotId> = names
            .iter()
            .filter_map(|(name, _)| parse_slot_name(name.as_str()))
            .map(|(id, _)| id)
            .collect();
        let current = self.repository.slot();
        // A repository that was just made without any secret but the recovery key has no current slot.
        if current != SlotId([0; 16]) && !listed.contains(&current) {
            self.report(Finding::new(
                Severity::Damage,
                slot_name(current, 0),
                "is gone: it is the key slot that opened the repository",
            ));
        }
        if !slots
            .values()
            .any(|slot| slot.slot_type == SlotType::Recovery)
        {
            self.report(Finding::new(
                Severity::Warning,
                "keys",
                "holds no slot for a recovery key: whoever loses the other keys loses everything",
            ));
        }
        if !slots.values().any(|slot| slot.role == Role::Full) {
            self.report(Finding::new(
                Severity::Damage,
                "keys",
                "holds no slot that can read everything",
            ));
        }
        let mut versions: BTreeMap<SlotId, usize> = BTreeMap::new();
        listed
            .iter()
            .for_each(|id| *versions.entry(*id).or_default() += 1);
        for (id, count) in versions.into_iter().filter(|(_, count)| *count > 1) {
            let what = format!(
                "holds {count} versions of slot {}: a change of keys ended early",
                id.short()
            );
            self.report(Finding::new(Severity::Note, "keys", what));
        }
    }

    /// Every enrolment and revocation is the admin's, and nobody whom we believed is missing.
    pub(super) fn writers(&mut self, listing: &Listing) {
        let repository = self.repository;
        self.read_all(listing.of(Kind::Writer), |name| {
            let (record, signed) = by_admin(repository, name, "a writer's enrolment")?;
            let writer =
                WriterRecord::decode(&record).map_err(|source| ReadError::format(name, source))?;
            fits(
                name,
                signed && writer_name(signer_id(&writer.enrolled.public)) == name,
                "a writer's enrolment",
            )
        });
        self.read_all(listing.of(Kind::Revocation), |name| {
            let (record, signed) = by_admin(repository, name, "a revocation")?;
            let revocation =
                Revocation::decode(&record).map_err(|source| ReadError::format(name, source))?;
            fits(
                name,
                signed && revocation_name(revocation.writer) == name,
                "a revocation",
            )
        });
        let listed: BTreeSet<&str> = listing
            .of(Kind::Writer)
            .iter()
            .map(|(name, _)| name.as_str())
            .collect();
        let known: Vec<String> = self
            .repository
            .authors
            .writers()
            .map(|(id, _)| writer_name(*id))
            .collect();
        for name in known.iter().filter(|name| !listed.contains(name.as_str())) {
            self.report(Finding::new(
                Severity::Damage,
                name,
                "is gone: nothing that this writer signed will be believed",
            ));
        }
    }

    /// Index objects by name.
    pub(super) fn index(&mut self, listing: &Listing) -> BTreeMap<String, Index> {
        let repository = self.repository;
        self.read_all(listing.of(Kind::Index), |name| {
            let opened = sealed(repository, name, "an index object")?;
            Index::decode(&opened.record, opened.author, &repository.authors)
                .map_err(|source| ReadError::format(name, source))
        })
    }

    /// Intents and confirms, held against each other.
    pub(super) fn snapshots(&mut self, listing: &Listing) -> Snapshots {
        let repository = self.repository;
        let mut intents = self.read_all(listing.of(Kind::Snapshot), |name| {
            sealed(repository, name, "a snapshot")
        });
        let confirms = self.read_all(listing.of(Kind::Confirm), |name| {
            sealed(repository, name, "a confirm")
        });
        let listed = |kind| {
            listing
                .of(kind)
                .iter()
                .filter_map(|(name, _)| SnapshotName::parse(name.as_str()))
                .map(|(name, _)| name)
        };
        let with_intent: BTreeSet<SnapshotName> = listed(Kind::Snapshot).collect();
        let with_confirm: BTreeSet<SnapshotName> = listed(Kind::Confirm).collect();
        for name in with_confirm
            .iter()
            .filter(|name| !with_intent.contains(name))
        {
            self.report(
                Finding::new(
                    Severity::Damage,
                    name.intent(),
                    "is gone, but its confirm is there: the snapshot is lost",
                )
                .concerning(name.id),
            );
        }
        let mut snapshots = Snapshots::default();
        for name in with_intent {
            let Some(intent) = intents.remove(&name.intent()) else {
                self.concern(&name.intent(), &name);
                continue;
            };
            if !with_confirm.contains(&name) {
                self.report(Finding::new(
                    Severity::Note,
                    name.intent(),
                    "has no confirm: a backup that ended early, or has not ended yet",
                ));
                let fits = Head::decode(&intent.record)
                    .map(drop)
                    .map_err(|source| ReadError::format(name.intent(), source));
                if let Err(error) = fits {
                    self.report(Finding::new(
                        Severity::Damage,
                        name.intent(),
                        sentence(&error),
                    ));
                }
                snapshots.unconfirmed.push((name, intent.hash));
                continue;
            }
            let Some(confirm) = confirms.get(&name.confirm()) else {
                self.concern(&name.confirm(), &name);
                continue;
            };
            match self.repository.join(name, &intent, confirm) {
                Ok(snapshot) => snapshots.confirmed.push(snapshot),
                Err(error) => self.report(
                    Finding::new(Severity::Damage, name.intent(), sentence(&error))
                        .concerning(name.id),
                ),
            }
        }
        snapshots
            .confirmed
            .sort_by_key(|snapshot| std::cmp::Reverse((snapshot.head.started_ms, snapshot.name)));
        snapshots
    }

    /// The snapshot is lost by what was found about `object`.
    fn concern(&mut self, object: &str, name: &SnapshotName) {
        for finding in self
            .findings
            .iter_mut()
            .filter(|finding| finding.object == object)
        {
            finding.concerns.snapshots.push(name.id);
        }
    }

    /// Notes, tombstones, checkpoints, leases, markers.
    pub(super) fn words(&mut self, listing: &Listing) {
        let repository = self.repository;
        self.read_all(listing.of(Kind::Note), |name| {
            Note::decode(&sealed(repository, name, "a note")?.record)
                .map_err(|source| ReadError::format(name, source))
        });
        self.read_all(listing.of(Kind::Tombstone), |name| {
            sealed(repository, name, "a tombstone")
        });
        self.read_all(listing.of(Kind::Checkpoint), |name| {
            sealed(repository, name, "a checkpoint")
        });
        self.read_all(listing.of(Kind::Lease), |name| {
            Lease::decode(&repository.clear(name, "a lease")?.record)
                .map_err(|source| ReadError::format(name, source))
        });
        self.read_all(listing.of(Kind::Marker), |name| {
            Marker::decode(&repository.clear(name, "a marker")?.record)
                .map_err(|source| ReadError::format(name, source))
        });
        let (leases, markers) = (
            listing.of(Kind::Lease).len(),
            listing.of(Kind::Marker).len(),
        );
        if leases > 0 {
            self.report(Finding::new(
                Severity::Note,
                "lease",
                format!("holds {leases} leases: runs that go on, or ended early"),
            ));
        }
        if markers > 0 {
            self.report(Finding::new(
                Severity::Note,
                "trash",
                format!("holds {markers} markers: a prune that goes on, or ended early"),
            ));
        }
    }
}

/// Opens a sealed object as it is in the store now.
fn sealed(repository: &Repository, name: &str, what: &'static str) -> Result<Opened, ReadError> {
    let bytes = repository.object(name)?;
    repository.open_sealed(name, &bytes, what)
}

/// A clear object's record, and whether the admin signed it.
fn by_admin(
    repository: &Repository,
    name: &str,
    what: &'static str,
) -> Result<(Vec<u8>, bool), ReadError> {
    let opened = repository.clear(name, what)?;
    Ok((
        opened.record,
        opened.author == repository.authors.admin_id(),
    ))
}

fn slot(repository: &Repository, name: &str) -> Result<SlotInfo, ReadError> {
    let bytes = repository.object(name)?;
    let wrong = |source| ReadError::format(name, source);
    let slot =
        Slot::decode(&read_frame(name, &bytes, Some(repository.family()))?, name).map_err(wrong)?;
    if parse_slot_name(name).is_none_or(|(id, _)| id != slot.info.id) {
        return Err(wrong(FormatError::Invalid(
            "another slot stands under this name",
        )));
    }
    slot.verify(repository.authors.admin()).map_err(wrong)?;
    Ok(slot.info)
}

fn fits(name: &str, fits: bool, what: &'static str) -> Result<(), ReadError> {
    if fits {
        Ok(())
    } else {
        Err(ReadError::format(name, FormatError::Signature(what)))
    }
}
