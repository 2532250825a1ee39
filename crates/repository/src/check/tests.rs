//! Checking: what is whole is found whole, and whatever is done to a repository is found and named.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use lifeboat_codec::{Damage, Kind, Note, ObjectHash, Role, SnapshotId, SnapshotName, parse_name};
use lifeboat_store::{Body, MemoryStore, ObjectName, Store};

use super::*;
use crate::keys::NewSecret;
use crate::progress::Silent;
use crate::repository::Unlock;
use crate::surroundings::Surroundings;
use crate::testing::{Files, Hollow, World, backup, noise, restore, restore_each, tiny_files};
use crate::verify::{Verification, examine, verify_store, verify_with};

const ALL: CheckOptions = CheckOptions {
    read_data: ReadData::All,
};

fn run(repository: &Repository, options: CheckOptions) -> CheckReport {
    check_with(repository, &options, &Silent, &AtomicBool::new(false), 1).unwrap()
}

fn verify(store: &dyn Store) -> Verification {
    verify_with(store, &Silent, &AtomicBool::new(false), 1).unwrap()
}

fn name(text: &str) -> ObjectName {
    text.parse().unwrap()
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
    // Few objects and files, because what is done some 80,000 times is mostly the verifying of signatures.
    let (world, mut repository) = World::new();
    let files = Files::from([
        ("a.jpg".to_owned(), noise(1, 14_000)),
        ("b.jpg".to_owned(), noise(2, 9000)),
        ("notes.txt".to_owned(), b"all work and no play ".repeat(40)),
    ]);
    let snapshot = backup(&mut repository, &files).unwrap().name.id;
    repository
        .say(&Note {
            snapshot,
            kind: "pin".into(),
            value: String::new(),
            removes: None,
            said_ms: 5,
        })
        .unwrap();
    let expected = vec![(snapshot, files)];
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

/// Findings about `object` that are worse than a note.
fn about<'f>(findings: &'f [Finding], object: &str) -> Vec<&'f Finding> {
    findings
        .iter()
        .filter(|finding| finding.object == object && finding.severity > Severity::Note)
        .collect()
}

#[test]
fn objects_that_are_cut_emptied_or_exchanged_are_found_and_named() {
    let (world, expected) = small();
    let objects = objects(&world.store);
    for (name, whole) in &objects {
        let kind = parse_name(name.as_str()).unwrap().kind;
        let sibling = objects
            .iter()
            .find(|(other, _)| other != name && parse_name(other.as_str()).unwrap().kind == kind);
        let mut others: Vec<Vec<u8>> = [
            0,
            1,
            63,
            64,
            128,
            whole.len() / 2,
            whole.len() - 33,
            whole.len() - 1,
        ]
        .iter()
        .map(|length| whole[..*length].to_vec())
        .collect();
        others.push([whole.as_slice(), b"x"].concat());
        others.extend(sibling.map(|(_, bytes)| bytes.clone()));
        for bytes in others {
            let store = Arc::new(world.store.image());
            let mut repository = world.open_uncached(&store).unwrap();
            assert!(store.damage(name, bytes.as_slice()));
            let verified = verify(store.as_ref());
            assert!(
                !about(&verified.findings, name.as_str()).is_empty(),
                "{name} as {} bytes: {:?}",
                bytes.len(),
                verified.findings
            );
            assert!(
                verified
                    .findings
                    .iter()
                    .all(|finding| finding.object == name.as_str()),
                "{name}: {:?}",
                verified.findings
            );
            for options in [ALL, CheckOptions::default()] {
                let report = run(&repository, options);
                assert!(
                    !about(&report.findings, name.as_str()).is_empty(),
                    "{name} as {} bytes: {:?}",
                    bytes.len(),
                    report.findings
                );
            }
            repository.refresh();
            for snapshot in repository
                .snapshots()
                .map_or_else(|_| Vec::new(), |list| list.snapshots)
            {
                let files = &expected
                    .iter()
                    .find(|(id, _)| *id == snapshot.name.id)
                    .unwrap()
                    .1;
                assert!(
                    restore(&repository, &snapshot.head)
                        .map_or(true, |restored| restored == *files),
                    "{name}"
                );
            }
        }
    }
}

#[test]
fn objects_that_are_gone_are_found_and_named() {
    let (world, _) = small();
    let newest = world
        .open_uncached(&world.store)
        .unwrap()
        .snapshots()
        .unwrap()
        .snapshots[1]
        .name;
    for (name, _) in objects(&world.store) {
        let kind = parse_name(name.as_str()).unwrap().kind;
        let store = Arc::new(world.store.image());
        let repository = world.open_uncached(&store).unwrap();
        store.delete(&name).unwrap();
        let report = run(&repository, CheckOptions::default());
        let worst = report
            .findings
            .first()
            .map(|finding| (finding.severity, finding.object.clone()));
        let (severity, object) = match kind {
            // Nothing refers to a note: one that is gone was never there.
            Kind::Note => {
                assert_eq!(worst, None);
                continue;
            }
            Kind::Slot if name.as_str().contains(&repository.slot().to_string()) => (
                Severity::Damage,
                lifeboat_codec::slot_name(repository.slot(), 0),
            ),
            // The recovery key's: it may have been removed on purpose.
            Kind::Slot => (Severity::Warning, "keys".to_owned()),
            // The index is what is gone; the packs that it named are what can be named.
            Kind::Index => {
                assert!(
                    report
                        .findings
                        .iter()
                        .any(|finding| finding.severity == Severity::Damage
                            && finding.object.starts_with("packs/")
                            && !finding.concerns.is_empty()),
                    "{:?}",
                    report.findings
                );
                continue;
            }
            // Only this machine's memory tells it from a run that ended early.
            Kind::Confirm if name.as_str() == newest.confirm() => (Severity::Damage, String::new()),
            _ => (Severity::Damage, name.to_string()),
        };
        assert!(
            report
                .findings
                .iter()
                .any(|finding| finding.severity == severity && finding.object == object),
            "{name}: {:?}",
            report.findings
        );
        let verified = verify(store.as_ref());
        let named = verified
            .findings
            .iter()
            .any(|finding| finding.object == name.as_str());
        // Without a key only what other names point to can be missed.
        assert_eq!(
            named,
            matches!(kind, Kind::Superblock | Kind::Writer | Kind::Snapshot),
            "{name}: {:?}",
            verified.findings
        );
    }
}

#[test]
fn an_object_under_another_name_is_found_and_named() {
    let (world, _) = small();
    for (original, bytes) in objects(&world.store) {
        let text = original.as_str();
        let kind = parse_name(text).unwrap().kind;
        let copies: Vec<String> = match kind {
            Kind::Superblock => continue,
            Kind::Slot => vec![
                format!("{}0009", &text[..text.len() - 4]),
                format!("keys/{}{}", "ab".repeat(16), &text[37..]),
            ],
            Kind::Writer => vec![format!("writers/{}", "ab".repeat(16))],
            Kind::Snapshot | Kind::Confirm => {
                let (mut other, confirm) = SnapshotName::parse(text).unwrap();
                other.seq = 9;
                vec![if confirm {
                    other.confirm()
                } else {
                    other.intent()
                }]
            }
            Kind::Index => vec![format!("index/{}", "ab".repeat(32))],
            Kind::Note => vec![format!("notes/{}", "ab".repeat(32))],
            // The second one has the right hash, but another run.
            _ => vec![
                format!("{}/ab/{}-{}", &text[..7], "ab".repeat(32), &text[76..]),
                format!("{}{}", &text[..76], "ab".repeat(8)),
            ],
        };
        for copy in copies {
            let store = Arc::new(world.store.image());
            let repository = world.open_uncached(&store).unwrap();
            store.put_new(&name(&copy), Body::Bytes(&bytes)).unwrap();
            let verified = verify(store.as_ref());
            assert!(
                verified
                    .findings
                    .iter()
                    .any(|finding| finding.object == copy && finding.part == Some(Damage::Name)),
                "{copy}: {:?}",
                verified.findings
            );
            let report = run(&repository, ALL);
            assert!(
                !about(&report.findings, &copy).is_empty(),
                "{copy}: {:?}",
                report.findings
            );
        }
    }
}

#[test]
fn what_is_listed_but_not_given_is_found_and_named() {
    let (world, _) = small();
    for (hidden, _) in objects(&world.store) {
        let store = Arc::new(Hollow(world.store.image(), hidden.clone()));
        let verified = verify(store.as_ref());
        assert!(
            !about(&verified.findings, hidden.as_str()).is_empty(),
            "{hidden}: {:?}",
            verified.findings
        );
        let surroundings = Surroundings::system(None, world.folder.path().join("state"));
        let Ok(repository) = Repository::open(store, &Unlock::KeyFile(&world.key), surroundings)
        else {
            continue;
        };
        let report = run(&repository, ALL);
        assert!(
            !about(&report.findings, hidden.as_str()).is_empty(),
            "{hidden}: {:?}",
            report.findings
        );
    }
}

#[test]
fn a_key_without_content_checks_all_metadata_and_says_what_it_could_not_open() {
    let (world, expected) = small();
    let mut repository = world.open().unwrap();
    let (_, prune) = repository
        .add_slot(&NewSecret::KeyFile, Role::Prune, "pruner")
        .unwrap();
    let (_, write) = repository
        .add_slot(&NewSecret::KeyFile, Role::WriteOnly, "web host")
        .unwrap();
    let folder = tempfile::tempdir().unwrap();
    let open = |key| {
        let surroundings = Surroundings::system(None, folder.path().to_owned());
        Repository::open(
            Arc::clone(&world.store) as Arc<dyn Store>,
            &Unlock::KeyFile(key),
            surroundings,
        )
        .unwrap()
    };
    let pruner = open(prune.as_ref().unwrap());
    let report = run(&pruner, ALL);
    assert!(report.is_clean(), "{:?}", report.findings);
    assert!(
        report.closed_segments >= 2
            && report
                .findings
                .iter()
                .any(|finding| finding.what.contains("this key reads no content"))
    );
    assert_eq!((report.snapshots, report.packs_read), (2, 4));
    assert!(restore(&pruner, &pruner.snapshots().unwrap().snapshots[0].head).is_err());

    // The larger one is the first snapshot's, which the second relies on too.
    let data = objects(&world.store)
        .into_iter()
        .filter(|(name, _)| name.as_str().starts_with("packs/d/"));
    let (pack, bytes) = data.max_by_key(|(_, bytes)| bytes.len()).unwrap();
    let mut damaged = bytes;
    damaged[1000] ^= 1;
    world.store.damage(&pack, damaged);
    let report = run(&pruner, ALL);
    let found = about(&report.findings, pack.as_str());
    assert!(
        found
            .iter()
            .any(|finding| finding.part == Some(Damage::Block(0))
                && finding.concerns.snapshots.len() == expected.len()),
        "{:?}",
        report.findings
    );

    let host = open(write.as_ref().unwrap());
    assert!(
        check(&host, &ALL, &Silent, &AtomicBool::new(false)).is_err(),
        "a key that reads nothing checks nothing"
    );
}

/// Twelve files in packs with block tables.
fn large() -> (World, Repository, Files) {
    let (world, mut repository) = World::new();
    let mut files = Files::new();
    for number in 0..12 {
        files.insert(
            format!("photos/{number:02}.jpg"),
            noise(number, 200_000 + number as usize * 10_000),
        );
    }
    files.insert("film.mp4".into(), noise(77, 9_000_000));
    backup(&mut repository, &files).unwrap();
    (world, repository, files)
}

#[test]
fn damage_in_a_large_pack_is_placed_and_traced_to_exactly_the_files_that_are_lost() {
    let (world, _, files) = large();
    let (pack, whole) = objects(&world.store)
        .into_iter()
        .max_by_key(|(_, bytes)| bytes.len())
        .unwrap();
    let parsed = parse_name(pack.as_str()).unwrap();
    let mut repository = world.open_uncached(&world.store).unwrap();
    let head = repository.snapshots().unwrap().snapshots[0].head.clone();
    let (mut hit_film, mut hit_photos) = (false, false);
    for at in (0..whole.len()).step_by(whole.len() / 23).chain([
        whole.len() - 1,
        whole.len() - 40,
        whole.len() - 100,
    ]) {
        let mut damaged = whole.clone();
        damaged[at] ^= 0x10;
        world.store.damage(&pack, damaged.as_slice());
        let examined = examine(
            world.store.as_ref(),
            &pack,
            whole.len() as u64,
            &parsed,
            &mut Vec::new(),
            &mut |_| {},
        )
        .unwrap();
        assert_eq!(
            examined.damage,
            lifeboat_codec::verify(&damaged, parsed.hash),
            "byte {at}"
        );

        let report = run(&repository, ALL);
        let [finding] = report.findings.as_slice() else {
            panic!("byte {at}: {:?}", report.findings)
        };
        assert_eq!(
            (finding.object.as_str(), finding.severity),
            (pack.as_str(), Severity::Damage)
        );
        assert!(
            finding.bytes.as_ref().unwrap().contains(&(at as u64)),
            "byte {at}: {finding}"
        );
        repository.refresh();
        let restored = restore_each(&repository, &head).unwrap();
        let mut lost: Vec<String> = restored
            .iter()
            .filter(|(_, content)| content.is_err())
            .map(|(path, _)| format!("media/{path}"))
            .collect();
        let mut named: Vec<String> = finding
            .concerns
            .paths
            .iter()
            .map(|path| String::from_utf8(path.clone()).unwrap())
            .collect();
        lost.sort();
        named.sort();
        assert_eq!(named, lost, "byte {at}");
        assert_eq!(
            finding.concerns.snapshots.len(),
            usize::from(!lost.is_empty())
        );
        assert!(
            restored
                .into_iter()
                .all(|(path, content)| content.map_or(true, |content| content == files[&path]))
        );
        hit_film |= lost.iter().any(|path| path.contains("film"));
        hit_photos |= lost.iter().any(|path| path.contains("photos"));
    }
    assert!(
        hit_film && hit_photos,
        "the places are spread over the pack"
    );
}

#[test]
fn a_pack_that_is_gone_names_the_snapshots_and_at_most_twenty_paths() {
    let (world, mut repository) = World::new();
    let files: Files = (0..50)
        .map(|number| (format!("{number}"), noise(number, 500)))
        .collect();
    backup(&mut repository, &files).unwrap();
    let second = backup(&mut repository, &files).unwrap();
    let pack = objects(&world.store)
        .into_iter()
        .find(|(name, _)| name.as_str().starts_with("packs/d/"))
        .unwrap()
        .0;
    world.store.delete(&pack).unwrap();
    let report = run(&repository, CheckOptions::default());
    let [finding] = report.findings.as_slice() else {
        panic!("{:?}", report.findings)
    };
    assert_eq!(
        (finding.object.as_str(), finding.severity),
        (pack.as_str(), Severity::Damage)
    );
    assert_eq!(
        (
            finding.concerns.snapshots.len(),
            finding.concerns.paths.len(),
            finding.concerns.more_paths
        ),
        (2, 20, 30)
    );
    assert_eq!(
        finding.concerns.snapshots[0], second.name.id,
        "the newest first"
    );
}

#[test]
fn a_lost_directory_costs_nothing_that_the_index_knows() {
    let (world, mut repository, files) = large();
    let (pack, whole) = objects(&world.store)
        .into_iter()
        .max_by_key(|(_, bytes)| bytes.len())
        .unwrap();
    let end = crate::finding::body_end(whole.len() as u64).unwrap() as usize;
    let mut damaged = whole;
    damaged[end - 10] ^= 1;
    world.store.damage(&pack, damaged);
    for options in [ALL, CheckOptions::default()] {
        let report = run(&repository, options);
        let [finding] = report.findings.as_slice() else {
            panic!("{:?}", report.findings)
        };
        assert!(
            finding.object == pack.as_str()
                && finding.bytes.as_ref().unwrap().contains(&(end as u64 - 10)),
            "{finding}"
        );
        assert!(
            options == CheckOptions::default() || finding.concerns.is_empty(),
            "{finding}"
        );
    }
    repository.refresh();
    let head = repository.snapshots().unwrap().snapshots[0].head.clone();
    assert_eq!(restore(&repository, &head).unwrap(), files);
}

#[test]
fn what_ended_runs_leave_behind_is_noted_and_nothing_more() {
    let (world, mut repository) = World::new();
    backup(&mut repository, &tiny_files()).unwrap();
    let before = world.store.image();
    let mut files = tiny_files();
    files.insert("more".into(), noise(5, 5000));
    let second = backup(&mut repository, &files).unwrap();
    // As if the second run had ended after its packs, after its index, and before its confirm.
    for keep in ["packs/", "packs/ index/", "packs/ index/ snap/"] {
        let store = Arc::new(before.image());
        for (name, bytes) in objects(&world.store) {
            let folder = &name.as_str()[..=name.as_str().find('/').unwrap_or(0)];
            if keep.contains(folder) && name.as_str() != second.name.confirm() {
                // What the first run left is there already.
                let _ = store.put_new(&name, Body::Bytes(&bytes));
            }
        }
        let elsewhere = tempfile::tempdir().unwrap();
        let surroundings = Surroundings::system(None, elsewhere.path().to_owned());
        let repository = Repository::open(
            Arc::clone(&store) as Arc<dyn Store>,
            &Unlock::KeyFile(&world.key),
            surroundings,
        )
        .unwrap();
        let report = run(&repository, ALL);
        assert!(report.is_clean(), "{keep}: {:?}", report.findings);
        assert_eq!(
            report.findings.is_empty(),
            keep == "packs/ index/",
            "{keep}: {:?}",
            report.findings
        );
    }
}

#[test]
fn a_gap_in_a_chain_is_noticed_and_a_lost_confirm_is_named() {
    let (world, mut repository) = World::new();
    let mut names = Vec::new();
    for number in 0..4_u64 {
        let files = Files::from([("a".to_owned(), noise(number, 100))]);
        names.push(backup(&mut repository, &files).unwrap().name);
    }
    assert_eq!(run(&repository, CheckOptions::default()).findings, []);
    let hide = |hidden: &[String]| {
        let store = Arc::new(world.store.image());
        hidden
            .iter()
            .for_each(|hidden| store.delete(&name(hidden)).unwrap());
        run(
            &world.open_uncached(&store).unwrap(),
            CheckOptions::default(),
        )
        .findings
    };
    let found = hide(&[
        names[1].intent(),
        names[1].confirm(),
        names[2].intent(),
        names[2].confirm(),
    ]);
    let [gap] = found.as_slice() else {
        panic!("{found:?}")
    };
    assert!(
        gap.object == names[3].intent()
            && gap.severity == Severity::Warning
            && gap.what.contains("numbers 2 to 3 of shop"),
        "{gap}"
    );

    let found = hide(&[names[1].confirm()]);
    assert!(
        found
            .iter()
            .any(|finding| finding.object == names[1].confirm()
                && finding.severity == Severity::Damage
                && finding.concerns.snapshots == [names[1].id]),
        "{found:?}"
    );

    let found = hide(&[names[3].intent(), names[3].confirm()]);
    assert!(
        found
            .iter()
            .any(|finding| finding.severity == Severity::Damage
                && finding
                    .what
                    .contains("this machine put snapshot number 4 of shop")),
        "{found:?}"
    );
}

#[test]
fn parts_and_percentages_choose_each_pack_in_turn() {
    let packs: Vec<PackId> = (0..2000_u64)
        .map(|number| PackId(*blake3::hash(&number.to_le_bytes()).as_bytes()))
        .collect();
    let all: Vec<usize> = (0..packs.len()).collect();
    let choose = |read: ReadData, day| read.choose(packs.iter().copied(), day * DAY_MS);
    let share = |part, of| ReadData::Share { part, of };
    let mut parts: Vec<usize> = (1..=12)
        .flat_map(|part| choose(share(part, 12), 0))
        .collect();
    parts.sort_unstable();
    assert_eq!(parts, all, "each is in one part");
    for read in [ReadData::None, ReadData::Percent(0), share(1, 0)] {
        assert!(choose(read, 0).is_empty());
    }
    for read in [ReadData::All, ReadData::Percent(100)] {
        assert_eq!(choose(read, 7), all);
    }
    for (percent, every) in [(5, 1), (5, 7), (10, 7), (20, 7), (50, 7), (7, 1)] {
        let times = 100_u64.div_ceil(u64::from(percent)) + u64::from(100 % percent != 0) * 100;
        let mut read: Vec<usize> = (0..times)
            .flat_map(|run| choose(ReadData::Percent(percent), 20_000 + run * every))
            .collect();
        read.sort_unstable();
        read.dedup();
        assert_eq!(read, all, "{percent} % every {every} days");
    }
    let chosen = choose(ReadData::Percent(5), 0).len();
    assert!((60..140).contains(&chosen), "{chosen}");
    let (world, repository, _) = large();
    let report = run(
        &repository,
        CheckOptions {
            read_data: ReadData::Share { part: 1, of: 2 },
        },
    );
    let other = run(
        &repository,
        CheckOptions {
            read_data: ReadData::Share { part: 2, of: 2 },
        },
    );
    // One half may hold no pack; then the next one is read.
    let read = report.packs_read + other.packs_read;
    assert!((report.packs..=report.packs + 1).contains(&read), "{read}");
    assert!(report.bytes_read + other.bytes_read >= report.pack_bytes);
    assert!(report.packs_read > 0 && other.packs_read > 0);
    drop(world);
}

#[test]
fn of_few_packs_one_at_least_is_read() {
    let packs = [3, 50, 51, 99].map(|number: u8| {
        let mut id = PackId([0; 32]);
        id.0[24] = number;
        id
    });
    let choose = |read: ReadData, day| read.choose(packs, day * DAY_MS);
    let by_percent = |day| choose(ReadData::Percent(5), day);
    // The parts of twenty days begin with 0, 5, 10, …
    assert_eq!(by_percent(0), [0]);
    assert_eq!(by_percent(1), [1], "the next pack of a part without any");
    assert_eq!(by_percent(10), [1, 2]);
    assert_eq!(by_percent(11), [3]);
    assert_eq!(by_percent(19), [3]);
    let part = |part, of| choose(ReadData::Share { part, of }, 0);
    assert_eq!([part(1, 12), part(3, 12)], [[1], [1]]);
    assert_eq!(part(4, 12), [0, 2, 3]);
    assert!(ReadData::Percent(5).choose([], 0).is_empty());
}

#[test]
fn a_stopped_check_says_so() {
    let (world, _) = small();
    let stop = AtomicBool::new(true);
    let report = check(&world.open().unwrap(), &ALL, &Silent, &stop).unwrap();
    assert!(report.stopped && !report.is_clean());
    assert!(
        verify_store(world.store.as_ref(), &Silent, &stop)
            .unwrap()
            .stopped
    );
}

#[test]
fn several_threads_find_what_one_finds() {
    let (world, repository, _) = large();
    let (pack, whole) = objects(&world.store)
        .into_iter()
        .max_by_key(|(_, bytes)| bytes.len())
        .unwrap();
    let mut damaged = whole;
    damaged[700_000] ^= 4;
    damaged[4_000_000] ^= 4;
    world.store.damage(&pack, damaged);
    let report = check(&repository, &ALL, &Silent, &AtomicBool::new(false)).unwrap();
    assert_eq!(report.findings, run(&repository, ALL).findings);
    assert_eq!(report.count(Severity::Damage), 2);
    let verified = verify_store(world.store.as_ref(), &Silent, &AtomicBool::new(false)).unwrap();
    assert_eq!(verified.findings, verify(world.store.as_ref()).findings);
    assert_eq!(
        verified
            .findings
            .iter()
            .map(|finding| finding.part)
            .collect::<Vec<_>>(),
        [Some(Damage::Block(10)), Some(Damage::Block(61))]
    );
}

#[test]
fn an_object_that_was_whole_and_is_of_another_family_is_a_stranger_among_its_kind() {
    let (world, _) = small();
    let (other, mut repository) = World::new();
    backup(&mut repository, &tiny_files()).unwrap();
    let (foreign, bytes) = objects(&other.store)
        .into_iter()
        .find(|(name, _)| name.as_str().starts_with("packs/d/"))
        .unwrap();
    world.store.put_new(&foreign, Body::Bytes(&bytes)).unwrap();
    world
        .store
        .put_new(&name("lost-and-found"), Body::Bytes(b"?"))
        .unwrap();
    let verified = verify(world.store.as_ref());
    assert_eq!(verified.strangers, ["lost-and-found"]);
    let [finding] = verified.findings.as_slice() else {
        panic!("{:?}", verified.findings)
    };
    assert_eq!(
        (finding.object.as_str(), finding.what.as_str()),
        (foreign.as_str(), "belongs to another repository")
    );
    assert_eq!(
        parse_name(foreign.as_str())
            .unwrap()
            .hash
            .map(|hash: ObjectHash| hash.0),
        lifeboat_codec::parse_pack_name(foreign.as_str()).map(|(_, id, _)| id.0)
    );
}

#[test]
fn a_pack_that_fills_its_class_without_padding_is_whole() {
    let (world, mut repository) = World::new();
    // Classes near 3 KiB are 128 bytes apart, so one of these lengths meets one exactly.
    for length in 3000..3128 {
        backup(
            &mut repository,
            &Files::from([("a".to_owned(), noise(length, length as usize))]),
        )
        .unwrap();
    }
    assert_eq!(run(&repository, ALL).findings, []);
    drop(world);
}
