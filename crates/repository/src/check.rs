//! Checking a repository: that every snapshot can come back, as far as can be told without restoring it.
//!
//! Structure always: every object that is no pack is opened, every pack's directory is read and held against the index,
//! every snapshot is followed down to its last chunk. Content when asked for: every segment of the chosen packs is
//! opened and every chunk held against its id. Nothing is ever changed.
//!
//! Invariant: what is damaged or gone is a finding that names the object and, where something is lost by it, the
//! snapshots and paths; only a store that cannot be listed ends a check early.

mod objects;
mod packs;
mod reach;
mod waiting;
mod data;
mod losses;
mod concerns;
mod chains;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use lifeboat_codec::{FormatError, Kind, PackId, Role};
use lifeboat_store::ObjectName;

use self::concerns::Tracer;
use self::data::PackRead;
use self::losses::{Chunk, Losses};
use self::objects::{Listing, Snapshots};
use self::packs::Packs;
use self::reach::Reach;
use crate::finding::{Finding, Severity};
use crate::parallel;
use crate::progress::{Counter, Progress};
use crate::repository::{ReadError, Repository};
use crate::snapshots::{SnapshotList, sentence};
use crate::verify::hollow;

const DAY_MS: u64 = 24 * 3600 * 1000;

/// Which packs a check reads whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReadData {
    /// None: front and directory of each only.
    #[default]
    None,
    /// All.
    All,
    /// The packs of one of `of` equal parts, counted from 1; all parts together are all packs.
    Share {
        /// Which part.
        part: u32,
        /// How many parts there are.
        of: u32,
    },
    /// This many of a hundred; another part each day, so that a check that runs daily or weekly comes round to all.
    Percent(u8),
}

impl ReadData {
    /// The numbers of those of `packs` that are to be read. Their ids alone decide, so that the choice is the same on every
    /// machine. Where packs are so few that none is in the part that is to be read, the one behind it is read.
    fn choose(self, packs: impl IntoIterator<Item = PackId>, now_ms: u64) -> Vec<usize> {
        let (mut chosen, mut next) = (Vec::new(), None);
        for (number, pack) in packs.into_iter().enumerate() {
            match self.behind(pack, now_ms) {
                Some(0) => chosen.push(number),
                Some(behind) => {
                    let this = (behind, number);
                    next = Some(next.map_or(this, |next: (u64, usize)| next.min(this)));
                }
                None => {}
            }
        }
        if chosen.is_empty() {
            chosen.extend(next.map(|(_, number)| number));
        }
        chosen
    }

    /// How far a pack is behind the part that is to be read, which is 0 for one in it; nothing when none is to be read.
    fn behind(self, pack: PackId, now_ms: u64) -> Option<u64> {
        let (_, last) = pack
            .0
            .split_last_chunk::<8>()
            .expect("an id is longer than 8 bytes");
        let number = u64::from_le_bytes(*last);
        let (first, parts, around) = match self {
            Self::None | Self::Percent(0) | Self::Share { of: 0, .. } => return None,
            Self::All => return Some(0),
            Self::Share { part, of } => (u64::from(part.saturating_sub(1)), 1, u64::from(of)),
            Self::Percent(percent) => {
                let parts = u64::from(percent);
                (now_ms / DAY_MS % 100 * parts % 100, parts, 100)
            }
        };
        let place = (number % around + around - first % around) % around;
        Some((place + 1).saturating_sub(parts))
    }
}

/// How much is checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CheckOptions {
    /// Which packs are read whole.
    pub read_data: ReadData,
}

/// What a check saw.
#[derive(Clone, Debug, Default)]
pub struct CheckReport {
    /// What it found, the worst first.
    pub findings: Vec<Finding>,
    /// Objects and bytes that are there, by kind.
    pub kinds: BTreeMap<Kind, (u64, u64)>,
    /// Packs of both kinds.
    pub packs: u64,
    /// Their bytes.
    pub pack_bytes: u64,
    /// Packs that were read whole.
    pub packs_read: u64,
    /// Their bytes.
    pub bytes_read: u64,
    /// Snapshots that exist.
    pub snapshots: u64,
    /// Distinct chunks that they need.
    pub chunks: u64,
    /// Segments in the packs that were read whole that this key does not open.
    pub closed_segments: u64,
    /// True when it was stopped before its end; then it says nothing about what it did not reach.
    pub stopped: bool,
}

impl CheckReport {
    /// How many findings are of this severity.
    #[must_use]
    pub fn count(&self, severity: Severity) -> usize {
        self.findings
            .iter()
            .filter(|finding| finding.severity == severity)
            .count()
    }

    /// True when nothing is damaged and nothing deserves a look.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        !self.stopped
            && self
                .findings
                .iter()
                .all(|finding| finding.severity == Severity::Note)
    }
}

/// Checks `repository`.
///
/// When `stop` is set, it ends early and says so.
///
/// # Errors
/// When the store cannot be listed, local state cannot be read, or the key reads no metadata.
pub fn check(
    repository: &Repository,
    options: &CheckOptions,
    progress: &dyn Progress,
    stop: &AtomicBool,
) -> Result<CheckReport, ReadError> {
    check_with(
        repository,
        options,
        progress,
        stop,
        parallel::threads(repository.store()),
    )
}

pub(crate) fn check_with(
    repository: &Repository,
    options: &CheckOptions,
    progress: &dyn Progress,
    stop: &AtomicBool,
    threads: usize,
) -> Result<CheckReport, ReadError> {
    if repository.role() == Role::WriteOnly {
        return Err(ReadError::format(
            "the repository",
            FormatError::NoKey("checking"),
        ));
    }
    // Not from memory: what was read before may be damaged now.
    repository.near.clear();
    let mut check = Check {
        repository,
        progress,
        stop,
        threads,
        findings: Vec::new(),
        vanished: Vec::new(),
    };
    let mut report = check.run(*options)?;
    check
        .findings
        .extend(hollow(repository.store(), &check.vanished)?);
    check.findings.sort_by(|a, b| {
        b.severity
            .cmp(&a.severity)
            .then_with(|| a.object.cmp(&b.object))
    });
    check
        .findings
        .iter()
        .for_each(|finding| progress.problem(&finding.to_string()));
    report.findings = check.findings;
    report.stopped = stop.load(Ordering::Relaxed);
    Ok(report)
}

/// One check that goes on.
struct Check<'c> {
    repository: &'c Repository,
    progress: &'c dyn Progress,
    stop: &'c AtomicBool,
    threads: usize,
    findings: Vec<Finding>,
    /// Objects that were listed and then not found.
    vanished: Vec<ObjectName>,
}

impl Check<'_> {
    fn report(&mut self, finding: Finding) {
        self.findings.push(finding);
    }

    fn looked_at(&self, bytes: u64) {
        self.progress.count(Counter::Objects, 1);
        self.progress.count(Counter::Bytes, bytes);
    }

    fn run(&mut self, options: CheckOptions) -> Result<CheckReport, ReadError> {
        self.progress.phase("Listing the objects");
        let listing = Listing::read(self.repository)?;
        let mut report = CheckReport {
            kinds: listing.counts(),
            ..CheckReport::default()
        };
        self.progress.expect(
            Counter::Objects,
            report.kinds.values().map(|(objects, _)| objects).sum(),
        );
        for name in &listing.strangers {
            self.report(Finding::new(
                Severity::Note,
                name.as_str(),
                "is no object of a repository",
            ));
        }

        self.progress.phase("Checking keys, snapshots and index");
        self.superblock();
        self.slots(&listing);
        self.writers(&listing);
        self.words(&listing);
        let snapshots = self.snapshots(&listing);
        self.chains(&snapshots);
        let indexes = self.index(&listing);

        self.progress.phase("Checking the packs' directories");
        let packs = self.packs(&listing, &indexes);
        drop(indexes);

        self.progress.phase("Following the snapshots");
        let mut reach = Reach::new(self.repository, Arc::clone(&packs.lookup), self.stop);
        let now = self.repository.now_ms();
        let ids = packs.packs.iter().map(|pack| pack.id);
        let chosen = options.read_data.choose(ids, now);
        // Both at once, for one thread follows the snapshots.
        let mut reads = std::thread::scope(|scope| {
            scope.spawn(|| reach.walk(&snapshots.confirmed));
            if !chosen.is_empty() {
                self.progress
                    .phase("Following the snapshots and reading the packs");
            }
            self.read_packs(&chosen, &packs)
        });
        for (_, read) in &mut reads {
            read.hold_against(&reach, &packs.lookup);
        }

        report.packs = packs.packs.len() as u64;
        report.pack_bytes = packs.packs.iter().map(|pack| pack.bytes).sum();
        report.packs_read = reads.len() as u64;
        report.bytes_read = reads
            .iter()
            .map(|(number, _)| packs.packs[*number].bytes)
            .sum();
        report.snapshots = snapshots.confirmed.len() as u64;
        report.chunks = reach
            .needed
            .values()
            .map(|needed| needed.len() as u64)
            .sum();
        report.closed_segments = reads.iter().map(|(_, read)| read.closed).sum();
        if !self.stop.load(Ordering::Relaxed) {
            self.judge(
                &snapshots,
                &packs,
                &mut reach,
                reads,
                report.closed_segments,
            );
        }
        Ok(report)
    }

    fn chains(&mut self, snapshots: &Snapshots) {
        self.findings
            .extend(chains::judge(&snapshots.confirmed, &snapshots.unconfirmed));
        let list = SnapshotList {
            snapshots: snapshots.confirmed.clone(),
            ..SnapshotList::default()
        };
        match self.repository.missing(&list) {
            Ok(missing) => {
                for what in missing.hidden {
                    self.report(Finding::new(Severity::Damage, "", what));
                }
                for what in missing.behind {
                    self.report(Finding::new(Severity::Note, "", what));
                }
            }
            Err(error) => self.report(Finding::new(
                Severity::Warning,
                "",
                format!("what this machine wrote is not known: {}", sentence(&error)),
            )),
        }
    }

    /// Puts together what was seen, and traces it to snapshots and paths.
    fn judge(
        &mut self,
        snapshots: &Snapshots,
        packs: &Packs,
        reach: &mut Reach<'_>,
        mut reads: Vec<(usize, PackRead)>,
        closed: u64,
    ) {
        for (number, what) in std::mem::take(&mut reach.malformed) {
            let name = snapshots.confirmed[number].name;
            self.report(Finding::new(Severity::Damage, name.intent(), what).concerning(name.id));
        }
        if closed > 0 {
            let what = format!(
                "this key reads no content: {closed} segments were verified as sealed, and not opened"
            );
            self.report(Finding::new(Severity::Note, "", what));
        }
        let read: BTreeSet<usize> = reads.iter().map(|(number, _)| *number).collect();
        let unopened =
            (0..packs.packs.len()).filter(|number| packs.packs[*number].problem.is_some());
        let suspects: BTreeSet<usize> = reach
            .broken
            .keys()
            .map(|segment| packs.owner(*segment))
            .chain(unopened)
            .filter(|number| !read.contains(number))
            .collect();
        reads.extend(self.examine_packs(&suspects.into_iter().collect::<Vec<_>>(), packs));

        let (mut findings, lost): (Vec<Finding>, Vec<Vec<Chunk>>) =
            Losses::new(packs, reach, &reads)
                .all(&reads)
                .into_iter()
                .unzip();
        if lost.iter().any(|lost| !lost.is_empty()) {
            self.progress.phase("Finding out what is lost");
            Tracer::new(self.repository, Arc::clone(&packs.lookup), self.stop, &lost)
                .trace(&snapshots.confirmed, &mut findings);
        }
        self.findings.append(&mut findings);
    }
}

#[cfg(test)]
mod tests;
