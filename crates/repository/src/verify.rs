//! Verifying a store without any key: every object is read once and held against its own hash, block table and name.
//!
//! Whoever holds the storage can do it, so a scrub needs no secret. Invariant: a changed byte in any object is found and
//! named by object and block; memory holds one window for each thread, whatever the size of an object.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use lifeboat_codec::{
    Damage, FOOTER_BYTES, FamilyId, Footer, HASH_BYTES, HEADER_BYTES, Header, Kind, ObjectHash,
    ParsedName, SUPERBLOCK, SnapshotName, TreeHasher, key_tag, parse_name, parse_pack_name,
    writer_name,
};
use lifeboat_store::{ErrorKind, ObjectName, Store};

use crate::finding::{Finding, Severity, TABLE_ENTRY_BYTES, body_end};
use crate::parallel;
use crate::progress::{Counter, Progress};
use crate::repository::ReadError;
use crate::snapshots::sentence;

/// Bytes that are read at once: enough to keep a remote store busy, few enough to stay in a processor's cache.
const WINDOW_BYTES: u64 = 4 << 20;

/// What a keyless verification saw.
#[derive(Clone, Debug, Default)]
pub struct Verification {
    /// Objects that were read.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
    /// What is wrong, by object.
    pub findings: Vec<Finding>,
    /// Names that no object of the format has; they are left alone.
    pub strangers: Vec<String>,
    /// True when it was stopped before it had read everything.
    pub stopped: bool,
}

/// Reads every object of `store` and verifies it without any key.
///
/// # Errors
/// When the store cannot be listed. An object that cannot be read is a finding.
pub fn verify_store(
    store: &dyn Store,
    progress: &dyn Progress,
    stop: &AtomicBool,
) -> Result<Verification, ReadError> {
    verify_with(store, progress, stop, parallel::threads(store))
}

pub(crate) fn verify_with(
    store: &dyn Store,
    progress: &dyn Progress,
    stop: &AtomicBool,
    threads: usize,
) -> Result<Verification, ReadError> {
    progress.phase("Listing the objects");
    let (mut objects, mut result) = (Vec::new(), Verification::default());
    store.list("", &mut |listed| match parse_name(listed.name.as_str()) {
        Some(parsed) => objects.push((listed.name, listed.len, parsed)),
        None => result.strangers.push(listed.name.to_string()),
    })?;
    result.strangers.sort();
    // Large ones first, so that no thread is left alone with one at the end.
    objects.sort_by(|a, b| (b.1, &a.0).cmp(&(a.1, &b.0)));

    progress.phase("Verifying the objects");
    progress.expect(Counter::Objects, objects.len() as u64);
    progress.expect(Counter::Bytes, objects.iter().map(|object| object.1).sum());
    let seen = Mutex::new(Seen::default());
    parallel::for_each(
        &objects,
        threads,
        stop,
        |window: &mut Vec<u8>, (name, bytes, parsed)| {
            let examined = examine(store, name, *bytes, parsed, window, &mut |read| {
                progress.count(Counter::Bytes, read);
            });
            progress.count(Counter::Objects, 1);
            seen.lock()
                .expect("no thread panics with the findings")
                .add(name, *bytes, examined, progress);
        },
    );
    let mut seen = seen
        .into_inner()
        .expect("no thread panics with the findings");
    seen.other_families();
    seen.findings.extend(hollow(store, &seen.vanished)?);
    seen.findings.extend(absent(
        objects
            .iter()
            .map(|(name, _, parsed)| (name.as_str(), parsed.kind)),
    ));
    result.findings = seen.findings;
    result.findings.sort_by(|a, b| {
        (&a.object, a.bytes.as_ref().map(|bytes| bytes.start))
            .cmp(&(&b.object, b.bytes.as_ref().map(|bytes| bytes.start)))
    });
    (result.objects, result.bytes) = (seen.objects, seen.bytes);
    result.stopped = stop.load(Ordering::Relaxed);
    Ok(result)
}

/// What the threads saw together.
#[derive(Default)]
struct Seen {
    objects: u64,
    bytes: u64,
    findings: Vec<Finding>,
    families: HashMap<FamilyId, Vec<(ObjectName, u64)>>,
    superblock: Option<FamilyId>,
    vanished: Vec<ObjectName>,
}

impl Seen {
    fn add(
        &mut self,
        name: &ObjectName,
        bytes: u64,
        examined: Result<Examined, lifeboat_store::Error>,
        progress: &dyn Progress,
    ) {
        let mut found = Vec::new();
        match examined {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return self.vanished.push(name.clone());
            }
            Err(error) => found.push(Finding::new(
                Severity::Damage,
                name.as_str(),
                format!("cannot be read: {}", sentence(&error)),
            )),
            Ok(examined) => {
                if let Some(family) = examined.family {
                    self.families
                        .entry(family)
                        .or_default()
                        .push((name.clone(), bytes));
                    if name.as_str() == SUPERBLOCK {
                        self.superblock = Some(family);
                    }
                }
                found.extend(
                    examined
                        .damage
                        .iter()
                        .map(|part| Finding::damage(name.as_str(), bytes, *part)),
                );
            }
        }
        self.objects += 1;
        self.bytes += bytes;
        found
            .iter()
            .for_each(|finding| progress.problem(&finding.to_string()));
        self.findings.append(&mut found);
    }

    /// All objects are of the superblock's family; without a superblock, of the one that most are of.
    fn other_families(&mut self) {
        let most = || {
            self.families
                .iter()
                .max_by_key(|(family, objects)| (objects.len(), **family))
                .map(|(family, _)| *family)
        };
        let Some(own) = self.superblock.or_else(most) else {
            return;
        };
        for (_, objects) in self.families.iter().filter(|(family, _)| **family != own) {
            for (name, _) in objects {
                self.findings.push(Finding::new(
                    Severity::Damage,
                    name.as_str(),
                    "belongs to another repository",
                ));
            }
        }
    }
}

/// Of objects that were listed and then not found: those that are still listed. The others were deleted meanwhile.
pub(crate) fn hollow(
    store: &dyn Store,
    vanished: &[ObjectName],
) -> Result<Vec<Finding>, lifeboat_store::Error> {
    let mut still = BTreeSet::new();
    if !vanished.is_empty() {
        store.list("", &mut |listed| {
            if vanished.contains(&listed.name) {
                still.insert(listed.name);
            }
        })?;
    }
    Ok(still
        .into_iter()
        .map(|name| {
            Finding::new(
                Severity::Damage,
                name.as_str(),
                "is listed, but the storage does not give it",
            )
        })
        .collect())
}

/// Objects that must be there because of what is there.
fn absent<'n>(objects: impl Iterator<Item = (&'n str, Kind)>) -> Vec<Finding> {
    let (mut names, mut counts, mut named) = (BTreeSet::new(), BTreeMap::new(), BTreeSet::new());
    for (name, kind) in objects {
        *counts.entry(kind).or_insert(0_u64) += 1;
        if let Some((snapshot, confirm)) = SnapshotName::parse(name) {
            named.insert(writer_name(snapshot.writer));
            if confirm {
                named.insert(snapshot.intent());
            }
        }
        if matches!(kind, Kind::Snapshot | Kind::Writer) {
            names.insert(name);
        }
    }
    let gone =
        |name: &str, what: &str| Finding::new(Severity::Damage, name, format!("is gone: {what}"));
    let mut findings = Vec::new();
    if !counts.contains_key(&Kind::Superblock) {
        findings.push(gone(
            SUPERBLOCK,
            "without the superblock there is no repository here",
        ));
    }
    if !counts.contains_key(&Kind::Slot) {
        findings.push(gone(
            "keys",
            "without a key slot nobody can open the repository",
        ));
    }
    let lost = named.iter().filter(|name| !names.contains(name.as_str()));
    findings.extend(lost.map(|name| gone(name, "other objects rely on it")));
    findings
}

/// What one object turned out to be.
pub(crate) struct Examined {
    pub(crate) damage: Vec<Damage>,
    /// The family in its header, where its bytes are whole.
    pub(crate) family: Option<FamilyId>,
}

/// Reads one object from front to back and locates what is damaged.
pub(crate) fn examine(
    store: &dyn Store,
    name: &ObjectName,
    object_bytes: u64,
    parsed: &ParsedName,
    window: &mut Vec<u8>,
    read: &mut dyn FnMut(u64),
) -> Result<Examined, lifeboat_store::Error> {
    let Some(mut scan) = Scan::begin(object_bytes) else {
        return Ok(Examined {
            damage: vec![Damage::Footer],
            family: None,
        });
    };
    let mut header = [0; HEADER_BYTES];
    while scan.position() < scan.body_end() {
        let at = scan.position();
        let bytes = fetch(
            store,
            name,
            at,
            (scan.body_end() - at).min(WINDOW_BYTES),
            window,
        )?;
        if let Some(first) = bytes.first_chunk::<HEADER_BYTES>().filter(|_| at == 0) {
            header = *first;
        }
        scan.update(bytes);
        read(bytes.len() as u64);
    }
    let tail = fetch(
        store,
        name,
        scan.body_end(),
        object_bytes - scan.body_end(),
        window,
    )?;
    read(tail.len() as u64);
    let mut damage = scan.finish(tail, parsed.hash);
    let mut family = None;
    if damage.is_empty() {
        match Header::decode(&header) {
            Ok(header) if header.kind == parsed.kind => {
                family = Some(header.family);
                if !named_so(&header, name.as_str()) {
                    damage.push(Damage::Name);
                }
                if !footer_of(tail, object_bytes).is_some_and(|footer| footer.fits(header.kind)) {
                    damage.push(Damage::Footer);
                }
            }
            _ => damage.push(Damage::Header),
        }
    }
    Ok(Examined { damage, family })
}

/// The footer in the last bytes of an object.
fn footer_of(tail: &[u8], object_bytes: u64) -> Option<Footer> {
    let (rest, _) = tail.split_last_chunk::<HASH_BYTES>()?;
    let (_, footer) = rest.split_last_chunk::<FOOTER_BYTES>()?;
    Footer::decode(footer, object_bytes).ok()
}

/// True when an object with this header may have this name, as far as the header tells.
pub(crate) fn named_so(header: &Header, name: &str) -> bool {
    match parse_pack_name(name) {
        Some((_, _, run)) => header.run.0.starts_with(&run),
        None => header.kind.named_by_content() || header.key_tag == key_tag(name),
    }
}

/// Reads a range into a buffer that is used again and again.
pub(crate) fn fetch<'w>(
    store: &dyn Store,
    name: &ObjectName,
    offset: u64,
    bytes: u64,
    window: &'w mut Vec<u8>,
) -> Result<&'w mut [u8], lifeboat_store::Error> {
    let length = usize::try_from(bytes).expect("a window fits into memory");
    if window.len() < length {
        window.resize(length, 0);
    }
    let into = &mut window[..length];
    store.get_range(name, offset, into)?;
    Ok(into)
}

/// An object on its way through the hash tree, up to its block table.
pub(crate) struct Scan {
    hasher: TreeHasher,
    body_end: u64,
    object_bytes: u64,
}

impl Scan {
    /// Starts at the first byte of an object of this length; `None` when no object has it.
    pub(crate) fn begin(object_bytes: u64) -> Option<Self> {
        body_end(object_bytes).map(|body_end| Self {
            hasher: TreeHasher::new(),
            body_end,
            object_bytes,
        })
    }

    /// Where the block table begins.
    pub(crate) fn body_end(&self) -> u64 {
        self.body_end
    }

    /// How many bytes went by.
    pub(crate) fn position(&self) -> u64 {
        self.hasher.length()
    }

    /// Takes in the next bytes before the block table.
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
        debug_assert!(
            self.position() <= self.body_end,
            "the block table is not of the body"
        );
    }

    /// BLAKE3 of all bytes so far.
    pub(crate) fn hash(&self) -> ObjectHash {
        self.hasher.hash()
    }

    /// Locates the damage, from the bytes behind the body: table, footer, hash. `expected` is the hash that the name states.
    pub(crate) fn finish(self, tail: &[u8], expected: Option<ObjectHash>) -> Vec<Damage> {
        debug_assert!(self.position() == self.body_end, "the whole body went by");
        let Some((hashed, stored)) = tail.split_last_chunk::<HASH_BYTES>() else {
            return vec![Damage::Footer];
        };
        let Some((table, footer)) = hashed.split_last_chunk::<FOOTER_BYTES>() else {
            return vec![Damage::Footer];
        };
        let computed_table = self.hasher.table();
        let hash_with = |table: &[u8]| {
            let mut hasher = self.hasher.clone();
            hasher.update(table);
            hasher.update(footer);
            hasher.hash()
        };
        let (computed, stored) = (hash_with(table), ObjectHash(*stored));
        let footer_fits = Footer::decode(footer, self.object_bytes).is_ok();
        if computed == stored || expected == Some(computed) {
            let mut damage = Vec::new();
            if computed != stored {
                damage.push(Damage::Hash);
            } else if expected.is_some_and(|expected| expected != computed) {
                damage.push(Damage::Name);
            }
            // The hash vouches for what was written, not for a writer that wrote nonsense.
            if !footer_fits {
                damage.push(Damage::Footer);
            } else if table != computed_table {
                damage.push(Damage::Table);
            }
            return damage;
        }
        if !footer_fits {
            return vec![Damage::Footer];
        }
        // If the object with the computed table has the wanted hash, then the table was hit and the blocks are whole.
        if !table.is_empty() && hash_with(&computed_table) == expected.unwrap_or(stored) {
            return vec![Damage::Table];
        }
        if table.is_empty() {
            return vec![Damage::Block(0)];
        }
        let entries = table
            .chunks(TABLE_ENTRY_BYTES)
            .zip(computed_table.chunks(TABLE_ENTRY_BYTES))
            .enumerate();
        let blocks: Vec<Damage> = entries
            .filter(|(_, (stored, computed))| stored != computed)
            .map(|(block, _)| Damage::Block(block as u64))
            .collect();
        if blocks.is_empty() {
            vec![Damage::Footer]
        } else {
            blocks
        }
    }
}
