//! From damaged, unreadable and missing packs to findings, and to the chunks that are lost by each.
//!
//! A chunk is lost when a snapshot needs it and none of its holders can be relied on.

use std::collections::{BTreeSet, HashSet};
use std::ops::Range;

use lifeboat_codec::{ChunkId, Damage, PackEntry, Rows, pack_name};

use super::data::PackRead;
use super::packs::{Pack, Packs};
use super::reach::Reach;
use crate::finding::{Finding, Severity};
use crate::snapshots::sentence;

/// A chunk and its domain.
pub(super) type Chunk = (u32, ChunkId);

/// A finding and the needed chunks that are lost by it.
type Loss = (Finding, Vec<Chunk>);

/// What is lost.
pub(super) struct Losses<'c> {
    packs: &'c Packs,
    reach: &'c Reach<'c>,
    /// Segments that cannot be relied on.
    bad: HashSet<u32>,
    /// Segments of packs that no index names, and what rests on them: no reader finds it.
    unnamed: HashSet<u32>,
}

impl<'c> Losses<'c> {
    /// Judges the segments; `reads` are numbers of packs and what reading them showed.
    pub(super) fn new(packs: &'c Packs, reach: &'c Reach<'c>, reads: &[(usize, PackRead)]) -> Self {
        let mut losses = Self {
            packs,
            reach,
            bad: reach.broken.keys().copied().collect(),
            unnamed: HashSet::new(),
        };
        let unnamed = packs.packs.iter().filter(|pack| !pack.indexed);
        let unnamed = unnamed.flat_map(|pack| losses.segments(pack)).collect();
        losses.unnamed = packs.lookup.resting_on(unnamed);
        for (number, read) in reads {
            losses
                .bad
                .extend(read.broken.iter().map(|(segment, _)| *segment));
            if !read.tried {
                // Nobody opened them: whatever lies in a damaged block is not relied on.
                let pack = &packs.packs[*number];
                let ranges: Vec<Range<u64>> = read
                    .damage
                    .iter()
                    .filter_map(|part| Finding::damage("", pack.bytes, *part).bytes)
                    .collect();
                let hit: Vec<u32> = losses
                    .segments(pack)
                    .filter(|segment| ranges.iter().any(|range| losses.overlaps(*segment, range)))
                    .collect();
                losses.bad.extend(hit);
            }
        }
        losses.bad = packs.lookup.resting_on(losses.bad);
        losses
    }

    /// Everything that is wrong with packs.
    pub(super) fn all(&self, reads: &[(usize, PackRead)]) -> Vec<Loss> {
        let mut losses: Vec<Loss> = reads
            .iter()
            .flat_map(|(number, read)| self.of_pack(&self.packs.packs[*number], read))
            .collect();
        let mut named: HashSet<Chunk> = HashSet::new();
        for (entry, index) in &self.packs.gone {
            let lost: Vec<Chunk> = chunks_of(entry)
                .filter(|chunk| self.reach.missing.contains(chunk))
                .collect();
            named.extend(&lost);
            let (severity, rest) = if lost.is_empty() {
                (Severity::Warning, "no snapshot needs it")
            } else {
                (Severity::Damage, "snapshots need it")
            };
            let finding = Finding::new(
                severity,
                pack_name(entry.kind, entry.id, entry.run),
                format!("is gone: {index} names it, and {rest}"),
            );
            losses.push((finding, lost));
        }
        let unknown: Vec<Chunk> = self
            .reach
            .missing
            .iter()
            .filter(|chunk| !named.contains(chunk))
            .copied()
            .collect();
        if !unknown.is_empty() {
            losses.push((
                Finding::new(
                    Severity::Damage,
                    "",
                    format!(
                        "{} chunks that snapshots need are in no pack, or what they rest on is not",
                        unknown.len()
                    ),
                ),
                unknown,
            ));
        }
        losses.extend(
            self.packs
                .packs
                .iter()
                .filter(|pack| !pack.indexed)
                .map(|pack| self.unnamed(pack)),
        );
        losses
    }

    /// A pack that no index object names.
    fn unnamed(&self, pack: &Pack) -> Loss {
        let is_found = |(domain, id): Chunk| {
            let mut holders = self.packs.lookup.holders(domain, id);
            holders.any(|segment| !self.unnamed.contains(&segment))
        };
        let segments = self.packs.lookup.resting_on(self.segments(pack).collect());
        let lost: Vec<Chunk> = segments
            .into_iter()
            .flat_map(|segment| self.chunks_in(segment))
            .filter(|chunk| self.needed(*chunk) && !is_found(*chunk))
            .collect();
        let (severity, what) = if lost.is_empty() {
            (
                Severity::Note,
                "is named by no index object, and no snapshot needs it: of a run that ended early, or goes on",
            )
        } else {
            (
                Severity::Damage,
                "is named by no index object, but snapshots need it: the index has to be built again",
            )
        };
        (Finding::new(severity, pack.name.as_str(), what), lost)
    }

    /// What is wrong with one pack that was read.
    fn of_pack(&self, pack: &Pack, read: &PackRead) -> Vec<Loss> {
        let name = pack.name.as_str();
        let mut left: BTreeSet<u32> = self
            .segments(pack)
            .filter(|segment| self.bad.contains(segment))
            .collect();
        let mut losses: Vec<Loss> = Vec::new();
        for part in &read.damage {
            let finding = Finding::damage(name, pack.bytes, *part);
            let hit: Vec<u32> = left
                .iter()
                .copied()
                .filter(|segment| {
                    finding
                        .bytes
                        .as_ref()
                        .is_some_and(|range| self.overlaps(*segment, range))
                })
                .collect();
            let lost = self.lost(&hit);
            losses.push((finding, lost));
        }
        left.retain(|segment| {
            !losses.iter().any(|(finding, _)| {
                finding
                    .bytes
                    .as_ref()
                    .is_some_and(|range| self.overlaps(*segment, range))
            })
        });
        if let Some(what) = &read.other {
            losses.push((
                Finding::new(Severity::Damage, name, what.clone()),
                Vec::new(),
            ));
        }
        if let Some(error) = pack.problem.as_ref().filter(|_| losses.is_empty()) {
            losses.push((
                Finding::new(
                    Severity::Damage,
                    name,
                    format!("cannot be used: {}", sentence(error)),
                ),
                Vec::new(),
            ));
        }
        let blocks_only = pack.problem.is_none()
            && read.other.is_none()
            && read
                .damage
                .iter()
                .all(|part| matches!(part, Damage::Block(_)));
        let rest = self.lost(&left.iter().copied().collect::<Vec<_>>());
        match (losses.first_mut(), left.first()) {
            // The object as a whole is not what it should be: its segments are lost by that.
            (Some((_, lost)), Some(_)) if !blocks_only => lost.extend(rest),
            (_, Some(first)) => losses.push((self.closed(pack, &left, *first, read), rest)),
            (_, None) => {}
        }
        if !read.wrong_length.is_empty() {
            let what = format!(
                "holds {} chunks that are not as long as snapshots say",
                read.wrong_length.len()
            );
            let lost = self
                .segments(pack)
                .flat_map(|segment| self.chunks_in(segment))
                .filter(|(_, id)| read.wrong_length.contains(id))
                .collect();
            losses.push((Finding::new(Severity::Damage, name, what), lost));
        }
        losses
    }

    /// Segments that do not open although no block is damaged: they were made so, or exchanged by somebody who could.
    fn closed(
        &self,
        pack: &Pack,
        segments: &BTreeSet<u32>,
        first: u32,
        read: &PackRead,
    ) -> Finding {
        let why = read
            .broken
            .iter()
            .find(|(segment, _)| *segment == first)
            .map(|(_, why)| why)
            .or_else(|| self.reach.broken.get(&first));
        let what = format!(
            "holds {} segments that do not open: {}",
            segments.len(),
            why.map_or("they were changed", String::as_str)
        );
        let mut finding = Finding::new(Severity::Damage, pack.name.as_str(), what);
        let ends = segments
            .iter()
            .map(|segment| self.packs.lookup.row(*segment).0)
            .map(|place| place.offset + u64::from(place.sealed_bytes));
        finding.bytes = ends
            .max()
            .map(|end| self.packs.lookup.row(first).0.offset..end);
        finding
    }

    /// The needed chunks that these segments hold, or what rests on them, and no good one does.
    fn lost(&self, segments: &[u32]) -> Vec<Chunk> {
        let mut lost = Vec::new();
        let segments = segments.iter().copied().collect();
        for segment in self.packs.lookup.resting_on(segments) {
            let bad = |chunk: &Chunk| {
                self.needed(*chunk)
                    && self
                        .packs
                        .lookup
                        .holders(chunk.0, chunk.1)
                        .all(|holder| self.bad.contains(&holder))
            };
            lost.extend(self.chunks_in(segment).into_iter().filter(bad));
        }
        lost
    }

    fn needed(&self, (domain, id): Chunk) -> bool {
        self.reach
            .needed
            .get(&domain)
            .is_some_and(|needed| needed.contains_key(&id))
    }

    fn segments(&self, pack: &Pack) -> Range<u32> {
        pack.place.map_or(0..0, |(place, first)| {
            first..first + self.packs.lookup.pack(place).segment_count
        })
    }

    fn chunks_in(&self, segment: u32) -> Vec<Chunk> {
        let (_, place, row) = self.packs.lookup.row(segment);
        let domain = place.domain_of(&row);
        row.chunk_ids().map(|id| (domain, id)).collect()
    }

    fn overlaps(&self, segment: u32, range: &Range<u64>) -> bool {
        let place = self.packs.lookup.row(segment).0;
        place.offset < range.end && range.start < place.offset + u64::from(place.sealed_bytes)
    }
}

/// Every chunk that a pack holds.
fn chunks_of(entry: &PackEntry) -> impl Iterator<Item = Chunk> {
    Rows::new(&entry.rows)
        .filter_map(Result::ok)
        .flat_map(|row| {
            let domain = entry
                .origins
                .get(usize::from(row.origin()))
                .map_or(0, |origin| origin.domain);
            row.chunk_ids()
                .map(move |id| (domain, id))
                .collect::<Vec<_>>()
        })
}
