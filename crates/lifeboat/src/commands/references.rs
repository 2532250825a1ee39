//! What is said of the rows that name files: by a backup at its end, and by the lists of snapshots later.

use lifeboat_app::{Bytes, CARRIED_FILE, ReferenceCounts};
use lifeboat_codec::SourceRecord;
use lifeboat_repository::{ReadError, Repository, Snapshot};
use serde::Serialize;

use crate::{
    text::{count, counted},
    ui::Ui,
};

/// Files that were carried forward and that every backup names.
const CARRIED_SAID: usize = 3;

/// How rows and files fit together.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct References {
    values: u64,
    files: u64,
    missing: u64,
    differing: u64,
    no_files: u64,
    carried_forward: u64,
    pub(super) carried_again: u64,
    outside: u64,
    orphans: u64,
    orphan_bytes: u64,
    newer: u64,
    pub(super) unasked_columns: u64,
}

impl References {
    /// Those of a whole snapshot, if rows name files in it.
    pub(super) fn of_snapshot(
        repository: &Repository,
        snapshot: &Snapshot,
    ) -> Result<Option<Self>, ReadError> {
        let manifest = repository.manifest(snapshot)?;
        let sources = manifest.sources.iter();
        let counts = sources.filter_map(|source| ReferenceCounts::of(&source.facts));
        let sum = counts.reduce(|one, other| one.and(&other));
        Ok(sum.as_ref().map(Self::new))
    }

    /// Files that rows name and that a restore will not have as the rows say.
    pub(super) fn lacking(&self) -> u64 {
        self.missing + self.differing + self.no_files
    }

    pub(super) fn new(counts: &ReferenceCounts) -> Self {
        Self {
            values: counts.references,
            files: counts.files,
            missing: counts.missing,
            differing: counts.differing,
            no_files: counts.no_files,
            carried_forward: counts.carried_forward,
            carried_again: counts.carried_again,
            outside: counts.outside,
            orphans: counts.orphans,
            orphan_bytes: counts.orphan_bytes,
            newer: counts.newer,
            unasked_columns: counts.unasked,
        }
    }
}

/// In words, what is worth a person's look.
pub(super) fn told(name: &str, counts: &ReferenceCounts) -> String {
    let more = [
        (counts.missing, "missing"),
        (counts.differing, "of another size"),
        (counts.no_files, "no regular file"),
        (
            counts.carried_forward,
            "carried forward from the snapshot before",
        ),
        (counts.outside, "outside of the folder"),
    ];
    let mut parts: Vec<String> = more
        .into_iter()
        .filter(|(number, _)| *number > 0)
        .map(|(number, what)| format!("{} {what}", count(number)))
        .collect();
    parts.extend(unasked(counts.unasked));
    if parts.is_empty() {
        parts.push("all there".to_owned());
    }
    let orphans = match counts.orphans {
        0 => String::new(),
        number => format!(
            "; no row names {} with {}",
            counted(number, "file"),
            Bytes(counts.orphan_bytes)
        ),
    };
    format!(
        "Rows name {} of {name}: {}{orphans}.",
        counted(counts.files, "file"),
        parts.join(", ")
    )
}

/// The first files that were carried forward, and those that are named to who wants to know more.
pub(super) fn tell_carried(source: &SourceRecord, counts: &ReferenceCounts, ui: &Ui) {
    let names = source.facts.iter().filter(|(fact, _)| fact == CARRIED_FILE);
    let names: Vec<&str> = names.map(|(_, name)| name.as_str()).collect();
    if names.is_empty() {
        return;
    }
    let (first, rest) = names.split_at(names.len().min(CARRIED_SAID));
    let more = match counts.carried_forward.saturating_sub(first.len() as u64) {
        0 => String::new(),
        more => format!(" and {} more", count(more)),
    };
    ui.note(&format!(
        "Rows name them, and {} has them no more: {}{more}.",
        source.name,
        first.join(", ")
    ));
    if !rest.is_empty() {
        ui.detail(&format!("Of the others: {}.", rest.join(", ")));
    }
    if counts.carried_again > 0 {
        ui.warning(&format!(
            "{} that rows name {} not in {} at the backup before either: the running app lacks {}",
            counted(counts.carried_again, "file"),
            if counts.carried_again == 1 {
                "was"
            } else {
                "were"
            },
            source.name,
            if counts.carried_again == 1 {
                "it"
            } else {
                "them"
            },
        ));
    }
}

/// In a few words, for a column: what lacks, and what no row names.
pub(super) fn in_short(counts: &References) -> String {
    let lacking = lacking(counts).unwrap_or_else(|| "all there".to_owned());
    let more = [
        (
            counts.carried_forward.saturating_sub(counts.carried_again),
            "carried forward",
        ),
        (counts.orphans, "named by none"),
        (counts.newer, "newer than the rows"),
    ];
    let more = more.into_iter().filter(|(number, _)| *number > 0);
    more.fold(lacking, |text, (number, what)| {
        format!("{text}, {} {what}", count(number))
    })
}

/// In fewer words still: what lacks, if anything does.
pub(super) fn lacking(counts: &References) -> Option<String> {
    let kinds = [
        (counts.missing, "missing"),
        (counts.differing, "of another size"),
        (counts.no_files, "no regular file"),
        (counts.carried_again, "gone since before"),
    ];
    let kinds = kinds.into_iter().filter(|(number, _)| *number > 0);
    let mut told: Vec<String> = kinds
        .map(|(number, what)| format!("{} {what}", count(number)))
        .collect();
    told.extend(unasked(counts.unasked_columns));
    (!told.is_empty()).then(|| told.join(", "))
}

/// Of columns that could have named more.
fn unasked(columns: u64) -> Option<String> {
    (columns > 0).then(|| format!("{} not asked", counted(columns, "column")))
}
