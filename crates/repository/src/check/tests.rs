//! Checking: what is whole is found whole, and whatever is done to a repository is found and named.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use lifeboat_codec::{Kind, Note, SnapshotId};
use lifeboat_store::{MemoryStore, ObjectName, Store};

use super::*;
use crate::progress::Silent;
use crate::testing::{Files, World, backup, noise, restore, tiny_files};
use crate::verify::verify_with;

const ALL: CheckOptions = CheckOptions {
    read_data: ReadData::All,
};

fn run(repository: &Repository, options: CheckOptions) -> CheckReport {
    check_with(repository, &options, &Silent, &AtomicBool::new(false), 1).unwrap()
}

fn objects(store: &MemoryStore) -> Vec<(ObjectName, Vec<u8>)> {
    let mut names = Vec::new();
    store
        .list("", &mut |listed| names.push(listed.name))
        .unwrap();
    names.sort();
    names
        .into_iter()
        .map(|name| (name.clone(), store.get(&name, u64::MAX).unwrap()))
        .collect()
}

/// Two snapshots of tiny files and a note: about 30 KB in all.
fn small() -> (World, Vec<(SnapshotId, Files)>) {
    let (world, mut repository) = World::new();
    let mut files = tiny_files();
    let first = backup(&mut repository, &files).unwrap();
    files.insert("2026/new.jpg".into(), noise(9, 700));
    let second = backup(&mut repository, &files).unwrap();
    let note = Note {
        snapshot: first.name.id,
        kind: "pin".into(),
        value: String::new(),
        removes: None,
        said_ms: 5,
    };
    repository.say(&note).unwrap();
    (
        world,
        vec![(first.name.id, tiny_files()), (second.name.id, files)],
    )
}

#[test]
fn what_is_whole_is_found_whole_and_counted() {
    let (world, expected) = small();
    let repository = world.open().unwrap();
    let report = run(&repository, ALL);
    assert_eq!(report.findings, []);
    assert!(report.is_clean());
    assert_eq!(
        (report.snapshots, report.packs, report.packs_read),
        (2, 4, 4)
    );
    assert_eq!(report.bytes_read, report.pack_bytes);
    assert_eq!(report.kinds[&Kind::Note].0, 1);
    // Six files have content, one more in the second; trees and manifests come on top.
    assert!(report.chunks >= 7 + 2, "{}", report.chunks);
    assert_eq!(run(&repository, CheckOptions::default()).packs_read, 0);
    let verification =
        verify_with(world.store.as_ref(), &Silent, &AtomicBool::new(false), 2).unwrap();
    assert_eq!(
        (verification.findings.len(), verification.strangers.len()),
        (0, 0)
    );
    assert_eq!(verification.objects, objects(&world.store).len() as u64);
    assert_eq!(expected.len(), 2);
}

/// Verifies, checks and restores with one damaged object in place; returns what is wrong with that.
fn judge(
    repository: &mut Repository,
    store: &MemoryStore,
    expected: &[(SnapshotId, Files)],
    object: &str,
    bytes: &Range<u64>,
) -> Result<(), String> {
    let never = AtomicBool::new(false);
    let verification = verify_with(store, &Silent, &never, 1).map_err(|error| sentence(&error))?;
    let named = |finding: &Finding| {
        finding.object == object
            && finding
                .bytes
                .as_ref()
                .is_some_and(|range| range.start <= bytes.start && bytes.end <= range.end)
    };
    if !verification.findings.iter().any(named)
        || verification
            .findings
            .iter()
            .any(|finding| finding.object != object)
    {
        return Err(format!("verified: {:?}", verification.findings));
    }
    let report =
        check_with(repository, &ALL, &Silent, &never, 1).map_err(|error| sentence(&error))?;
    if !report
        .findings
        .iter()
        .any(|finding| finding.severity == Severity::Damage && finding.object == object)
    {
        return Err(format!("checked: {:?}", report.findings));
    }
    repository.refresh();
    let Ok(list) = repository.snapshots() else {
        return Ok(());
    };
    for snapshot in list.snapshots {
        let (_, files) = expected
            .iter()
            .find(|(id, _)| *id == snapshot.name.id)
            .ok_or("a snapshot that nobody made")?;
        if restore(repository, &snapshot.head).is_ok_and(|restored| restored != *files) {
            return Err("restored something else".to_owned());
        }
    }
    Ok(())
}

#[test]
fn every_changed_byte_is_found_named_and_never_restored() {
    let (world, expected) = small();
    let objects = objects(&world.store);
    let total: usize = objects.iter().map(|(_, bytes)| bytes.len()).sum();
    assert!((25_000..35_000).contains(&total), "{total} bytes");
    let next = AtomicUsize::new(0);
    let places: Vec<(usize, usize)> = objects
        .iter()
        .enumerate()
        .flat_map(|(object, (_, bytes))| (0..bytes.len()).map(move |at| (object, at)))
        .collect();
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(2, std::num::NonZero::get) {
            scope.spawn(|| {
                let store = Arc::new(world.store.image());
                let mut repository = world.open_uncached(&store).unwrap();
                while let Some((object, at)) = places.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let (name, whole) = &objects[*object];
                    for pattern in [0x01, 0x80, 0xff] {
                        let mut damaged = whole.clone();
                        damaged[*at] ^= pattern;
                        assert!(store.damage(name, damaged));
                        if let Err(what) = judge(
                            &mut repository,
                            &store,
                            &expected,
                            name.as_str(),
                            &(*at as u64..*at as u64 + 1),
                        ) {
                            panic!(
                                "{name}, byte {at} of {}, pattern {pattern:#x}: {what}",
                                whole.len()
                            );
                        }
                    }
                    store.damage(name, whole.as_slice());
                }
            });
        }
    });
}
