//! The chains of snapshots: each names the one that its writer made before it for the same app.
//!
//! Invariant I12 of the design: a snapshot that is lost, hidden or rolled back is noticed by those that follow it.
//! Two with the same number are a fork, which is legal: a machine that lost its memory counts anew.

use std::collections::BTreeMap;

use lifeboat_codec::{ObjectHash, SnapshotName, WriterId};

use crate::finding::{Finding, Severity};
use crate::snapshots::Snapshot;

/// Judges all chains. `unconfirmed` are intents whose confirm is not there, with their hashes.
pub(super) fn judge(
    snapshots: &[Snapshot],
    unconfirmed: &[(SnapshotName, ObjectHash)],
) -> Vec<Finding> {
    let mut chains: BTreeMap<(WriterId, &str), BTreeMap<u32, Vec<&Snapshot>>> = BTreeMap::new();
    for snapshot in snapshots {
        let chain = chains
            .entry((snapshot.name.writer, snapshot.head.app.as_str()))
            .or_default();
        chain.entry(snapshot.name.seq).or_default().push(snapshot);
    }
    let mut findings = Vec::new();
    for ((writer, app), chain) in &chains {
        let mut below = 0;
        for (seq, here) in chain {
            if here.len() > 1 {
                let what = format!(
                    "{} snapshots of {app} are number {seq} of writer {}: a fork",
                    here.len(),
                    writer.short()
                );
                findings.push(Finding::new(Severity::Note, "", what));
            }
            if *seq > 1 {
                let before = chain.get(&(seq - 1)).map_or(&[][..], Vec::as_slice);
                findings.extend(
                    here.iter()
                        .filter_map(|snapshot| link(snapshot, before, below, unconfirmed)),
                );
            }
            below = *seq;
        }
    }
    findings
}

/// What is wrong between a snapshot and those that could be before it; `below` is the number of the next lower one.
fn link(
    snapshot: &Snapshot,
    before: &[&Snapshot],
    below: u32,
    unconfirmed: &[(SnapshotName, ObjectHash)],
) -> Option<Finding> {
    let seq = snapshot.name.seq;
    let Some(previous) = snapshot.head.previous else {
        return Some(Finding::new(
            Severity::Warning,
            snapshot.name.intent(),
            format!("is number {seq} of its chain but names none before it"),
        ));
    };
    if before.iter().any(|candidate| candidate.hash == previous) {
        return None;
    }
    if let Some((name, _)) = unconfirmed.iter().find(|(_, hash)| *hash == previous) {
        let what = format!(
            "is gone: snapshot {} follows on it, so it was there once",
            snapshot.name.id.short()
        );
        return Some(Finding::new(Severity::Damage, name.confirm(), what).concerning(name.id));
    }
    let app = &snapshot.head.app;
    let what = if !before.is_empty() {
        format!(
            "follows on another number {} of {app} than the one that is here: a snapshot is hidden, or was lost",
            seq - 1
        )
    } else if below + 2 == seq {
        format!(
            "follows on number {} of {app}, which is not here: it was lost, is hidden, or was not copied here",
            seq - 1
        )
    } else {
        format!(
            "follows on numbers {} to {} of {app}, which are not here: they were lost, are hidden, or were not copied here",
            below + 1,
            seq - 1
        )
    };
    Some(Finding::new(
        Severity::Warning,
        snapshot.name.intent(),
        what,
    ))
}
