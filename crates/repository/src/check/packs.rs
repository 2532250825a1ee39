//! Packs without their content: front and directory of each, held against the list and the index.
//!
//! Invariant I6 of the design: all index objects together say what all directories together say. What a check finds
//! out about chunks, it finds out from the directories, so that a lost index hides nothing.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex};

use lifeboat_codec::{
    Directory, Envelope, FOOTER_BYTES, Footer, FormatError, HASH_BYTES, HEADER_BYTES, Index, Kind,
    ObjectHash, PackEntry, PackFront, PackId, pack_name, padding_class, parse_pack_name,
};
use lifeboat_store::ObjectName;

use super::Check;
use super::objects::Listing;
use crate::finding::{Finding, Severity, body_end};
use crate::lookup::Lookup;
use crate::parallel;
use crate::repository::{OBJECT_MAX, ReadError, Repository};
use crate::verify::{fetch, named_so};

/// Front of a pack with the usual one or two envelopes.
const FRONT_BYTES: u64 = 512;
/// What a directory adds to its rows: area hash, origin, signature, nonce, tag.
const DIRECTORY_EXTRA: u64 = 512;
/// Read from the end of a pack that no index knows.
const UNKNOWN_DIRECTORY: u64 = 64 << 10;

/// A pack that the store lists.
pub(super) struct Pack {
    pub(super) name: ObjectName,
    pub(super) id: PackId,
    pub(super) bytes: u64,
    kind: Kind,
    run: [u8; 8],
    /// Its number in the lookup, and the number of its first segment there; `None` when nobody knows what it holds.
    pub(super) place: Option<(u32, u32)>,
    /// What its directory says of itself; `None` when that could not be opened.
    pub(super) area: Option<Area>,
    /// Why the directory could not be opened.
    pub(super) problem: Option<ReadError>,
    /// True when an index object names it.
    pub(super) indexed: bool,
}

/// The bytes before a directory.
#[derive(Clone, Copy)]
pub(super) struct Area {
    pub(super) bytes: u64,
    pub(super) hash: ObjectHash,
}

/// All packs, and what the index says that is not so.
pub(super) struct Packs {
    pub(super) packs: Vec<Pack>,
    pub(super) lookup: Arc<Lookup>,
    /// For each pack of the lookup its number among the packs.
    owners: Vec<usize>,
    /// Packs that the index names and the store does not have, each with the index object that names it.
    pub(super) gone: Vec<(PackEntry, String)>,
}

impl Packs {
    /// The number of the pack that a segment lies in.
    pub(super) fn owner(&self, segment: u32) -> usize {
        self.owners[self.lookup.row(segment).0.pack as usize]
    }
}

struct Inside {
    front: PackFront,
    directory: Directory,
    area_bytes: u64,
}

impl Check<'_> {
    /// Reads the directories of all packs and compares them with `indexes`.
    pub(super) fn packs(&mut self, listing: &Listing, indexes: &BTreeMap<String, Index>) -> Packs {
        let named: HashMap<PackId, &PackEntry> = indexes
            .values()
            .flat_map(|index| &index.packs)
            .map(|entry| (entry.id, entry))
            .collect();
        let mut packs: Vec<Pack> = Vec::new();
        for (name, bytes) in listing
            .of(Kind::DataPack)
            .iter()
            .chain(listing.of(Kind::MetaPack))
        {
            if let Some((kind, id, run)) = parse_pack_name(name.as_str()) {
                let indexed = named.get(&id).is_some_and(|entry| entry.run == run);
                packs.push(Pack {
                    name: name.clone(),
                    id,
                    bytes: *bytes,
                    kind,
                    run,
                    place: None,
                    area: None,
                    problem: None,
                    indexed,
                });
            }
        }
        let numbered: Vec<(usize, &Pack)> = packs.iter().enumerate().collect();
        let insides = Mutex::new(Vec::new());
        parallel::for_each(
            &numbered,
            self.threads,
            self.stop,
            |window: &mut Vec<u8>, (number, pack)| {
                let guess = named.get(&pack.id).map_or(UNKNOWN_DIRECTORY, |entry| {
                    padding_class(entry.rows.len() as u64 + DIRECTORY_EXTRA)
                });
                let inside = inside(self.repository, pack, guess, window);
                self.looked_at(0);
                insides
                    .lock()
                    .expect("no thread panics with a directory")
                    .push((*number, inside));
            },
        );
        let mut insides: HashMap<usize, Result<Inside, ReadError>> = insides
            .into_inner()
            .expect("no thread panics with a directory")
            .into_iter()
            .collect();

        let gone = self.compare(&packs, &insides, indexes);
        let (mut lookup, mut owners) = (Lookup::default(), Vec::new());
        for (number, pack) in packs.iter_mut().enumerate() {
            let from_index = || {
                let (index, entry) = indexes.values().find_map(|index| {
                    Some((index, index.packs.iter().find(|entry| entry.id == pack.id)?))
                })?;
                (entry.object_bytes == pack.bytes).then(|| (entry.clone(), envelopes(entry, index)))
            };
            let known = match insides.remove(&number) {
                Some(Ok(inside)) => {
                    pack.area = Some(Area {
                        bytes: inside.area_bytes,
                        hash: inside.directory.area_hash,
                    });
                    Some((
                        entry(pack, &inside.front, inside.directory),
                        inside.front.envelopes,
                    ))
                }
                Some(Err(error)) => {
                    pack.problem = Some(error);
                    from_index()
                }
                None => None,
            };
            if let Some((mut entry, envelopes)) = known {
                let (place, segment) = (owners.len(), lookup.segment_count());
                entry.envelopes = (0..envelopes.len() as u32).collect();
                // A row that cannot be is noticed when the directory is opened; an entry of the index was decoded before.
                if lookup.add(entry, 0, &envelopes).is_ok() && lookup.pack_count() as usize > place
                {
                    pack.place = Some((place as u32, segment));
                    owners.push(number);
                }
            }
        }
        Packs {
            packs,
            lookup: Arc::new(lookup.settle()),
            owners,
            gone,
        }
    }

    /// Holds each row of each index object against the pack; returns the packs that are gone.
    fn compare(
        &mut self,
        packs: &[Pack],
        insides: &HashMap<usize, Result<Inside, ReadError>>,
        indexes: &BTreeMap<String, Index>,
    ) -> Vec<(PackEntry, String)> {
        let by_name: HashMap<&str, usize> = packs
            .iter()
            .enumerate()
            .map(|(number, pack)| (pack.name.as_str(), number))
            .collect();
        let superseded: HashSet<ObjectHash> = indexes
            .values()
            .flat_map(|index| &index.supersedes)
            .copied()
            .collect();
        let replaced = |name: &str| {
            lifeboat_codec::parse_name(name)
                .and_then(|parsed| parsed.hash)
                .is_some_and(|hash| superseded.contains(&hash))
        };
        let (mut gone, mut seen) = (Vec::new(), BTreeSet::new());
        for (name, index) in indexes {
            for entry in &index.packs {
                let pack_name = pack_name(entry.kind, entry.id, entry.run);
                let Some(number) = by_name.get(pack_name.as_str()) else {
                    // What an index object says that another one replaced need not hold any more.
                    if !replaced(name) && seen.insert(entry.id) {
                        gone.push((entry.clone(), name.clone()));
                    }
                    continue;
                };
                let pack = &packs[*number];
                if pack.bytes != entry.object_bytes {
                    let what = format!(
                        "is {} bytes long, but {name} says {}",
                        pack.bytes, entry.object_bytes
                    );
                    self.report(Finding::new(Severity::Damage, pack_name, what));
                } else if let Some(Ok(inside)) = insides.get(number)
                    && !same(entry, index, inside)
                {
                    self.report(Finding::new(
                        Severity::Damage,
                        name,
                        format!("says something else about {pack_name} than the pack itself"),
                    ));
                }
            }
        }
        gone
    }
}

fn envelopes(entry: &PackEntry, index: &Index) -> Vec<Option<Envelope>> {
    entry
        .envelopes
        .iter()
        .map(|number| index.envelopes.get(*number as usize).copied().flatten())
        .collect()
}

fn same(entry: &PackEntry, index: &Index, inside: &Inside) -> bool {
    entry.rows == inside.directory.rows
        && entry.origins == inside.directory.origins
        && entry.segments_at == inside.front.segments_at
        && envelopes(entry, index) == inside.front.envelopes
}

fn entry(pack: &Pack, front: &PackFront, directory: Directory) -> PackEntry {
    PackEntry {
        id: pack.id,
        run: pack.run,
        kind: pack.kind,
        object_bytes: pack.bytes,
        segments_at: front.segments_at,
        origins: directory.origins,
        rows: directory.rows,
        envelopes: Vec::new(),
    }
}

/// Reads front, footer and directory of a pack by two or three ranged reads.
fn inside(
    repository: &Repository,
    pack: &Pack,
    guess: u64,
    window: &mut Vec<u8>,
) -> Result<Inside, ReadError> {
    let name = pack.name.as_str();
    let wrong = |source| ReadError::format(name, source);
    let cut_short = || wrong(FormatError::Truncated("the pack"));
    let end = body_end(pack.bytes).ok_or_else(cut_short)?;
    let front = front(repository, pack, end, window)?;
    if front.header.kind != pack.kind
        || front.header.family != repository.family()
        || !named_so(&front.header, name)
    {
        return Err(wrong(FormatError::Invalid(
            "another object stands under this name",
        )));
    }
    let start = end.saturating_sub(guess).max(HEADER_BYTES as u64);
    let tail = fetch(
        repository.store(),
        &pack.name,
        start,
        pack.bytes - start,
        window,
    )?;
    let footer = tail
        .len()
        .checked_sub(FOOTER_BYTES + HASH_BYTES)
        .and_then(|at| tail.get(at..at + FOOTER_BYTES))
        .ok_or_else(cut_short)?;
    let footer = Footer::decode(footer, pack.bytes).map_err(wrong)?;
    let directory_bytes = u64::from(footer.directory_bytes);
    let area_bytes = end
        .checked_sub(directory_bytes)
        .filter(|area| *area >= front.segments_at && directory_bytes <= OBJECT_MAX)
        .ok_or_else(cut_short)?;
    let sealed = if area_bytes >= start {
        &mut tail[(area_bytes - start) as usize..(end - start) as usize]
    } else {
        fetch(
            repository.store(),
            &pack.name,
            area_bytes,
            directory_bytes,
            window,
        )?
    };
    let envelope = front
        .directory_envelope()
        .ok_or_else(|| wrong(FormatError::Unsupported("a pack's envelope")))?;
    let key = repository.run_key(envelope).map_err(wrong)?;
    let directory = front
        .open_directory(&key, sealed, area_bytes, &repository.authors)
        .map_err(wrong)?;
    Ok(Inside {
        front,
        directory,
        area_bytes,
    })
}

fn front(
    repository: &Repository,
    pack: &Pack,
    end: u64,
    window: &mut Vec<u8>,
) -> Result<PackFront, ReadError> {
    let mut length = FRONT_BYTES.min(end);
    loop {
        let bytes = fetch(repository.store(), &pack.name, 0, length, window)?;
        match PackFront::decode(bytes)
            .map_err(|source| ReadError::format(pack.name.as_str(), source))?
        {
            Some(front) => return Ok(front),
            None if length == end => {
                return Err(ReadError::format(
                    pack.name.as_str(),
                    FormatError::Truncated("the pack"),
                ));
            }
            None => length = (length * 8).min(end),
        }
    }
}
