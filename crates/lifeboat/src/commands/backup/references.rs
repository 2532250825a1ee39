//! What a backup says of the rows that name files.

use lifeboat_app::{Bytes, ReferenceCounts};
use serde::Serialize;

use crate::text::{count, counted};

/// How rows and files fit together.
#[derive(Debug, Serialize)]
pub(super) struct References {
    values: u64,
    files: u64,
    missing: u64,
    differing: u64,
    carried_forward: u64,
    outside: u64,
    orphans: u64,
    orphan_bytes: u64,
    newer: u64,
}

impl References {
    pub(super) fn new(counts: &ReferenceCounts) -> Self {
        Self {
            values: counts.references,
            files: counts.files,
            missing: counts.missing,
            differing: counts.differing,
            carried_forward: counts.carried_forward,
            outside: counts.outside,
            orphans: counts.orphans,
            orphan_bytes: counts.orphan_bytes,
            newer: counts.newer,
        }
    }
}

/// In words, what is worth a person's look.
pub(super) fn told(name: &str, counts: &ReferenceCounts) -> String {
    let more = [
        (counts.missing, "missing"),
        (counts.differing, "of another size"),
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
