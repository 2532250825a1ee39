//! The repository over the memory store: what goes in comes back, and what is changed is noticed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use lifeboat_codec::{
    Author, Content, ENVELOPE_BYTES, Entries, Envelope, Frame, Head, Index, Input, Keyring,
    NewSlot, PackEntry, Profile, Recipient, Role, RunId, SlotType, StreamRef, Stretch, create_slot,
};
use lifeboat_store::{Body, MemoryStore, Store};

use super::*;
use crate::testing::{Files, World, backup, noise, restore, surroundings};

fn files() -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    files.insert("empty".into(), Vec::new());
    files.insert("large".into(), noise(1, 9_000_000));
    files.insert("text".into(), b"all work and no play ".repeat(200_000));
    for number in 0..300 {
        files.insert(
            format!("small-{number}"),
            noise(number, 1000 + number as usize * 7),
        );
    }
    files
}

#[test]
fn a_machine_that_comes_while_another_works_is_believed_by_it() {
    let (world, mut repository) = World::new();
    let files = files();
    // Enrolled after the first machine opened the repository.
    let elsewhere = tempfile::tempdir().unwrap();
    let mut newcomer = Repository::open(
        Arc::clone(&world.store) as Arc<dyn Store>,
        &Unlock::KeyFile(&world.key),
        surroundings(&elsewhere),
    )
    .unwrap();
    backup(&mut newcomer, &files).unwrap();
    let made = backup(&mut repository, &files).unwrap();
    assert_eq!(restore(&world.open().unwrap(), &made.head).unwrap(), files);
}

#[test]
fn what_goes_in_comes_back_and_a_second_time_costs_almost_nothing() {
    let (world, mut repository) = World::new();
    let mut files = files();
    let first = backup(&mut repository, &files).unwrap();
    assert!(first.head.totals.new_bytes > 9_000_000);
    assert_eq!(restore(&repository, &first.head).unwrap(), files);

    files.insert("new".into(), noise(77, 50_000));
    let second = backup(&mut repository, &files).unwrap();
    assert!(
        second.head.totals.new_bytes < 200_000,
        "{:?}",
        second.head.totals
    );
    assert_eq!((second.head.seq, second.head.previous.is_some()), (2, true));

    // Another machine, with nothing but the key.
    let elsewhere = tempfile::tempdir().unwrap();
    let other = Repository::open(
        Arc::clone(&world.store) as Arc<dyn Store>,
        &Unlock::KeyFile(&world.key),
        surroundings(&elsewhere),
    )
    .unwrap();
    let list = other.snapshots().unwrap();
    assert_eq!(list.snapshots.len(), 2);
    assert!(list.damaged.is_empty() && list.unconfirmed.is_empty());
    assert_eq!(restore(&other, &list.snapshots[1].head).unwrap(), files);
}

#[test]
fn a_run_that_fails_or_is_stopped_leaves_no_snapshot_but_its_packs_are_used() {
    let (_world, mut repository) = World::new();
    let files = files();
    let draft = Draft {
        app: "shop".into(),
        ..Draft::default()
    };
    let result = repository.backup(&draft, &Silent, &AtomicBool::new(false), |writer| {
        work(writer, 2, files.values().collect(), |lane, bytes, _| {
            lane.put_stream(Profile::Files, None, &mut bytes.as_slice())
                .map(drop)
        })?;
        Err::<Contents, _>(WriteError::Source(std::io::Error::other(
            "the disk fell out",
        )))
    });
    assert!(matches!(result, Err(WriteError::Source(_))));
    assert!(repository.snapshots().unwrap().snapshots.is_empty());
    let next = backup(&mut repository, &files).unwrap();
    assert!(
        next.head.totals.new_bytes < 100_000,
        "{:?}",
        next.head.totals
    );

    let stop = AtomicBool::new(true);
    let stopped = repository.backup(&draft, &Silent, &stop, |writer| {
        work(writer, 2, vec![()], |_, (), _| Ok::<(), WriteError>(()))?;
        unreachable!("a stopped run does no task")
    });
    assert!(matches!(stopped, Err(WriteError::Stopped)));
}

#[test]
fn packs_that_vanish_are_noticed_and_their_chunks_written_again() {
    let (world, mut repository) = World::new();
    let files = files();
    backup(&mut repository, &files).unwrap();
    let mut packs = Vec::new();
    world
        .store
        .list("packs/d/", &mut |listed| packs.push(listed.name))
        .unwrap();
    for pack in packs {
        world.store.delete(&pack).unwrap();
    }
    let second = backup(&mut repository, &files).unwrap();
    assert!(
        second.head.totals.new_bytes > 9_000_000,
        "{:?}",
        second.head.totals
    );
    assert_eq!(
        restore(&world.open().unwrap(), &second.head).unwrap(),
        files
    );
}

#[test]
fn each_role_reads_and_writes_what_it_may() {
    let (world, mut repository) = World::new();
    let files = files();
    let first = backup(&mut repository, &files).unwrap();
    let open = |key: &lifeboat_codec::KeyFile, folder: &tempfile::TempDir| {
        Repository::open(
            Arc::clone(&world.store) as Arc<dyn Store>,
            &Unlock::KeyFile(key),
            surroundings(folder),
        )
        .unwrap()
    };

    let (_, prune) = repository
        .add_slot(&NewSecret::KeyFile, Role::Prune, "pruner")
        .unwrap();
    let folder = tempfile::tempdir().unwrap();
    let prune = open(&prune.unwrap(), &folder);
    let list = prune.snapshots().unwrap();
    assert_eq!(list.snapshots[0].head, first.head);
    assert!(prune.manifest(&list.snapshots[0]).is_ok(), "all metadata");
    assert!(
        matches!(
            restore(&prune, &first.head),
            Err(ReadError::Format {
                source: lifeboat_codec::FormatError::NoKey(_),
                ..
            })
        ),
        "no content"
    );

    let (_, write) = repository
        .add_slot(&NewSecret::KeyFile, Role::WriteOnly, "web host")
        .unwrap();
    let write = write.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut host = open(&write, &folder);
    assert!(
        host.snapshots().unwrap().snapshots.is_empty(),
        "it reads nothing of others"
    );
    let own = backup(&mut host, &files).unwrap();
    assert_ne!(own.head.domain, 0);
    let again = backup(&mut open(&write, &folder), &files).unwrap();
    assert!(
        again.head.totals.new_bytes < 100_000,
        "its own memory lets it deduplicate: {:?}",
        again.head.totals
    );
    assert_eq!(again.head.seq, 2);

    let mut full = world.open().unwrap();
    let list = full.snapshots().unwrap();
    assert_eq!(list.snapshots.len(), 3, "{:?}", list.damaged);
    assert_eq!(restore(&full, &again.head).unwrap(), files);

    // A stolen host: what it wrote before still counts, what it writes from now on does not.
    full.revoke(again.name.writer, "stolen").unwrap();
    assert!(backup(&mut open(&write, &folder), &files).is_err());
    let full = world.open().unwrap();
    assert_eq!(full.snapshots().unwrap().snapshots.len(), 3);
    assert_eq!(restore(&full, &again.head).unwrap(), files);
}

#[test]
fn a_slot_that_somebody_put_into_the_store_is_found_and_never_handed_the_keys() {
    let (world, mut repository) = World::new();
    let mut entropy = SystemEntropy::default();
    let keyring = Keyring::create(&mut entropy);
    let new = NewSlot {
        slot_type: SlotType::KeyFile,
        secret: &[1; 32],
        label: "recovery",
        stretch: Stretch::DEFAULT,
        keyring: &keyring,
        family: repository.superblock().family,
        superblock: &[],
        created_ms: 0,
    };
    let stranger = Author::new(keyring.admin.as_ref().unwrap());
    let (id, name, object) = create_slot(&new, &stranger, &mut entropy).unwrap();
    let name = name.parse().unwrap();
    world.store.put_new(&name, Body::Bytes(&object)).unwrap();

    let (slots, damaged) = repository.slots().unwrap();
    assert!(slots.iter().all(|slot| slot.info.id != id));
    assert_eq!(damaged.len(), 1);
    let never = AtomicBool::new(false);
    let report = check(&repository, &CheckOptions::default(), &Silent, &never).unwrap();
    assert!(
        report
            .findings
            .iter()
            .any(|finding| finding.object == name.as_str() && finding.severity == Severity::Damage)
    );

    repository.rotate().unwrap();
    let mut of_stranger = Vec::new();
    let prefix = format!("keys/{id}");
    let mut found = |listed: lifeboat_store::Listed| {
        if listed.name.as_str().starts_with(&prefix) {
            of_stranger.push(listed.name);
        }
    };
    world.store.list("keys/", &mut found).unwrap();
    assert_eq!(of_stranger, [name]);
    assert!(world.open().is_ok());
}

#[test]
fn a_changed_envelope_opens_nothing_though_its_run_is_known() {
    let (world, mut repository) = World::new();
    let made = backup(&mut repository, &BTreeMap::new()).unwrap();
    let name = made.name.confirm().parse().unwrap();
    let confirm = world.store.get(&name, u64::MAX).unwrap();
    let frame = Frame::decode(&confirm).unwrap();
    let envelope = |bytes: &[u8]| {
        Envelope::decode(&mut Input::new(bytes, "it"))
            .unwrap()
            .unwrap()
    };
    let mut bytes = frame.body[2..2 + ENVELOPE_BYTES].to_vec();
    assert!(repository.run_key(&envelope(&bytes)).is_ok());
    bytes[ENVELOPE_BYTES - 1] ^= 1;
    assert!(repository.run_key(&envelope(&bytes)).is_err());
}

#[test]
fn keys_are_added_rotated_and_removed_without_touching_packs() {
    let (world, mut repository) = World::new();
    let files = files();
    let first = backup(&mut repository, &files).unwrap();
    let (slot, second_key) = repository
        .add_slot(&NewSecret::KeyFile, Role::Full, "second")
        .unwrap();
    let second_key = second_key.unwrap();
    let mut packs = Vec::new();
    world
        .store
        .list("packs/", &mut |listed| packs.push(listed.name))
        .unwrap();
    packs.sort();
    assert_eq!(repository.rotate().unwrap(), 2);
    let newer = backup(
        &mut repository,
        &BTreeMap::from([("x".to_owned(), noise(5, 100_000))]),
    )
    .unwrap();
    for key in [&world.key, &second_key] {
        let folder = tempfile::tempdir().unwrap();
        let opened = Repository::open(
            Arc::clone(&world.store) as Arc<dyn Store>,
            &Unlock::KeyFile(key),
            surroundings(&folder),
        )
        .unwrap();
        assert_eq!(restore(&opened, &first.head).unwrap(), files);
        assert_eq!(restore(&opened, &newer.head).unwrap().len(), 1);
    }
    let mut after = Vec::new();
    world
        .store
        .list("packs/", &mut |listed| after.push(listed.name))
        .unwrap();
    assert!(packs.iter().all(|pack| after.contains(pack)));
    repository.remove_slot(slot).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let refused = Repository::open(
        Arc::clone(&world.store) as Arc<dyn Store>,
        &Unlock::KeyFile(&second_key),
        surroundings(&folder),
    );
    assert!(matches!(refused, Err(OpenError::WrongKey(_))));
    assert!(matches!(
        repository.remove_slot(world.key.slot),
        Err(KeyError::InUse)
    ));
    assert_eq!(
        repository.slots().unwrap().0.len(),
        2,
        "the key file's and the recovery key's"
    );
}

#[test]
fn losing_the_cache_or_the_state_costs_time_only() {
    let (world, mut repository) = World::new();
    let files = files();
    backup(&mut repository, &files).unwrap();
    std::fs::remove_dir_all(world.folder.path().join("cache")).unwrap();
    let mut reopened = world.open().unwrap();
    assert!(backup(&mut reopened, &files).unwrap().head.totals.new_bytes < 100_000);
    std::fs::remove_dir_all(world.folder.path().join("state")).unwrap();
    let mut reopened = world.open().unwrap();
    let third = backup(&mut reopened, &files).unwrap();
    assert!(third.head.totals.new_bytes < 100_000);
    assert_eq!(third.head.seq, 1, "a new writer's first");
    assert_eq!(
        world.open().unwrap().snapshots().unwrap().snapshots.len(),
        3
    );
}

/// The objects of a store below `prefix`, by name.
fn objects(store: &MemoryStore, prefix: &str) -> BTreeMap<String, Vec<u8>> {
    let mut names = Vec::new();
    store
        .list(prefix, &mut |listed| names.push(listed.name))
        .unwrap();
    names
        .into_iter()
        .map(|name| (name.to_string(), store.get(&name, 1 << 20).unwrap()))
        .collect()
}

#[test]
fn a_rotation_that_ended_early_never_loses_the_keys_that_it_handed_out() {
    let (world, mut repository) = World::new();
    let (second, second_key) = repository
        .add_slot(&NewSecret::KeyFile, Role::Full, "second")
        .unwrap();
    let before = objects(&world.store, "keys/");
    repository.rotate().unwrap();
    // As if it had ended before it came to the second key's slot.
    for (name, object) in before {
        if name.contains(&second.to_string()) {
            let renewed = name.replace(".0000", ".0001").parse().unwrap();
            world.store.delete(&renewed).unwrap();
            let name = name.parse().unwrap();
            world.store.put_new(&name, Body::Bytes(&object)).unwrap();
        }
    }
    let files = files();
    let sealed_to_new = backup(&mut world.open().unwrap(), &files).unwrap();

    let folder = tempfile::tempdir().unwrap();
    let mut behind = Repository::open(
        Arc::clone(&world.store) as Arc<dyn Store>,
        &Unlock::KeyFile(&second_key.unwrap()),
        surroundings(&folder),
    )
    .unwrap();
    assert!(matches!(behind.rotate(), Err(KeyError::Behind(_))));
    assert_eq!(world.open().unwrap().rotate().unwrap(), 3);
    let all = world.open().unwrap();
    assert_eq!(restore(&all, &sealed_to_new.head).unwrap(), files);
}

#[test]
fn a_recovery_key_that_was_not_replaced_to_the_end_leaves_the_old_one_its_slot() {
    let (world, mut repository) = World::new();
    let files = files();
    let made = backup(&mut repository, &files).unwrap();
    let old = repository.recovery().unwrap().duplicate();
    let opened = |secret: &lifeboat_codec::Secret| {
        let folder = tempfile::tempdir().unwrap();
        Repository::open(
            Arc::clone(&world.store) as Arc<dyn Store>,
            &Unlock::Recovery(secret),
            surroundings(&folder),
        )
    };
    let of_key_file = format!("keys/{}", world.key.slot);
    let before = objects(&world.store, "keys/");
    assert_eq!(repository.replace_recovery().unwrap(), 2);
    let new = repository.recovery().unwrap().duplicate();
    assert!(opened(&old).is_err() && opened(&new).is_ok());

    // As if it had ended before the slot of the new one was written.
    for (name, object) in objects(&world.store, "keys/")
        .into_keys()
        .map(|name| (name, None))
        .chain(
            before
                .into_iter()
                .map(|(name, object)| (name, Some(object))),
        )
        .filter(|(name, _)| !name.starts_with(&of_key_file))
    {
        let name = name.parse().unwrap();
        match object {
            None => world.store.delete(&name).unwrap(),
            Some(object) => world.store.put_new(&name, Body::Bytes(&object)).unwrap(),
        }
    }
    let mut repository = world.open().unwrap();
    assert!(matches!(repository.recovery(), Err(KeyError::NoRecovery)));
    assert_eq!(restore(&opened(&old).unwrap(), &made.head).unwrap(), files);
    assert_eq!(repository.replace_recovery().unwrap(), 3);
    assert!(opened(&old).is_err());
    let opened = opened(repository.recovery().unwrap()).unwrap();
    assert_eq!(restore(&opened, &made.head).unwrap(), files);
}

#[test]
fn a_slot_that_an_unfinished_repository_left_behind_shuts_nobody_out() {
    let words = || [NewSecret::Passphrase(b"the same words")];
    let make = |folder: &tempfile::TempDir| {
        let store = Arc::new(MemoryStore::new());
        Repository::create(
            Arc::clone(&store) as Arc<dyn Store>,
            &words(),
            surroundings(folder),
        )
        .unwrap();
        store
    };
    let folder = tempfile::tempdir().unwrap();
    // Until the slots of one are all tried before those of the other.
    let (store, left) = loop {
        let (one, other) = (make(&folder), make(&folder));
        let (slots, others) = (objects(&one, "keys/"), objects(&other, "keys/"));
        if slots.keys().max() < others.keys().min() {
            break (one, others);
        }
        if others.keys().max() < slots.keys().min() {
            break (other, slots);
        }
    };
    for (name, object) in left {
        let name = name.parse().unwrap();
        store.put_new(&name, Body::Bytes(&object)).unwrap();
    }
    let opened = Repository::open(
        store as Arc<dyn Store>,
        &Unlock::Passphrase(b"the same words"),
        surroundings(&folder),
    );
    assert!(opened.is_ok(), "{:?}", opened.err());
}

#[test]
fn an_index_that_names_anothers_pack_hides_none_of_its_chunks() {
    let (world, mut repository) = World::new();
    let files = files();
    let first = backup(&mut repository, &files).unwrap();
    let (victim_name, _) = objects(&world.store, "index/").pop_first().unwrap();
    let (_, victim) = index::read(&repository, &victim_name).unwrap();
    let (_, key) = repository
        .add_slot(&NewSecret::KeyFile, Role::WriteOnly, "web host")
        .unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut host = Repository::open(
        Arc::clone(&world.store) as Arc<dyn Store>,
        &Unlock::KeyFile(&key.unwrap()),
        surroundings(&folder),
    )
    .unwrap();
    let author = host.author().unwrap();
    let meta = host.surroundings.with_entropy(|entropy| {
        Envelope::create(Recipient::Meta, &host.keyring, host.family(), entropy)
    });
    let mut forged = Index::default();
    for pack in victim.packs {
        forged.packs.push(PackEntry {
            rows: Vec::new(),
            origins: Vec::new(),
            envelopes: Vec::new(),
            ..pack
        });
    }
    // Until one is read before the victim's own.
    loop {
        host.put_index(&forged, RunId(host.random()), &author, &meta)
            .unwrap();
        if objects(&world.store, "index/").keys().next() != Some(&victim_name) {
            break;
        }
    }
    assert_eq!(restore(&world.open().unwrap(), &first.head).unwrap(), files);
}

/// Whether a run of `repository` would take over each file of the snapshot unread.
fn taken_over(repository: &mut Repository, head: &Head) -> BTreeMap<String, bool> {
    let reader = repository.reader(head.domain).unwrap();
    let root = reader.whole(&head.root).unwrap();
    let media = Entries::new(&root).next().unwrap().unwrap();
    let Content::Stream(media) = media.content else {
        panic!("a source without a tree")
    };
    let tree = reader.whole(&StreamRef::decode(media).unwrap()).unwrap();
    drop(reader);
    let mut taken = BTreeMap::new();
    let never = AtomicBool::new(false);
    let ended = repository.backup(&Draft::default(), &Silent, &never, |writer| {
        for entry in Entries::new(&tree).map(Result::unwrap) {
            let has = match entry.content {
                Content::None => true,
                Content::Chunk(id) => writer.has_chunk(id),
                Content::Stream(reference) => {
                    writer.has_stream(&StreamRef::decode(reference).unwrap())
                }
                Content::Bundle(reference) => {
                    writer.has_bundle(&StreamRef::decode(reference).unwrap())
                }
            };
            taken.insert(String::from_utf8(entry.name.to_vec()).unwrap(), has);
        }
        Err::<Contents, _>(WriteError::Stopped)
    });
    assert!(matches!(ended, Err(WriteError::Stopped)));
    taken
}

#[test]
fn what_a_lost_index_object_named_is_not_taken_over_unread() {
    let (world, mut repository) = World::new();
    let mut files = files();
    backup(&mut repository, &files).unwrap();
    let lost = objects(&world.store, "index/");
    // Its list is new; half of what it lists is not.
    files.insert(
        "longer".into(),
        [files["large"].as_slice(), &noise(2, 9_000_000)].concat(),
    );
    files.insert("new".into(), noise(3, 1000));
    let second = backup(&mut repository, &files).unwrap();
    assert!(
        taken_over(&mut repository, &second.head)
            .values()
            .all(|taken| *taken)
    );

    // The trees are read before the index object is lost, as a run reads what its cache remembers.
    let mut open = world.open().unwrap();
    open.lookup().unwrap();
    for name in lost.keys() {
        world.store.delete(&name.parse().unwrap()).unwrap();
    }
    let taken = taken_over(&mut open, &second.head);
    let still: Vec<&str> = taken
        .iter()
        .filter(|(_, taken)| **taken)
        .map(|(name, _)| name.as_str())
        .collect();
    assert_eq!(still, ["empty", "new"]);
    let third = backup(&mut open, &files).unwrap();
    assert_eq!(restore(&world.open().unwrap(), &third.head).unwrap(), files);
}

#[test]
fn an_index_object_that_vanishes_under_a_run_leaves_no_snapshot_that_rests_on_it() {
    let (world, mut repository) = World::new();
    let files = Files::from([("a".to_owned(), noise(1, 3_000_000))]);
    let first = backup(&mut repository, &files).unwrap();
    let never = AtomicBool::new(false);
    let result = repository.backup(&Draft::default(), &Silent, &never, |writer| {
        for name in objects(&world.store, "index/").into_keys() {
            world.store.delete(&name.parse().unwrap()).unwrap();
        }
        Ok::<_, WriteError>(Contents {
            root: first.head.root.clone(),
            manifest: first.head.manifest.clone(),
            files: writer.added().chunks,
            bytes: 0,
            unreadable: 0,
        })
    });
    assert!(matches!(result, Err(WriteError::Overtaken { .. })));
    assert_eq!(
        world.open().unwrap().snapshots().unwrap().snapshots.len(),
        1
    );
}

#[test]
fn a_write_only_host_does_not_rest_on_what_it_remembers_of_a_lost_index_object() {
    let (world, mut repository) = World::new();
    let (_, key) = repository
        .add_slot(&NewSecret::KeyFile, Role::WriteOnly, "web host")
        .unwrap();
    let (key, folder) = (key.unwrap(), tempfile::tempdir().unwrap());
    let open = || {
        Repository::open(
            Arc::clone(&world.store) as Arc<dyn Store>,
            &Unlock::KeyFile(&key),
            surroundings(&folder),
        )
        .unwrap()
    };
    let mut host = open();
    let committed = backup(&mut host, &files()).unwrap();
    let memory = host.new_memory("shop", "media");
    host.keep_piece(&memory, 7, b"a piece".to_vec());
    host.remember_source(&memory, &committed.basis, b"seen");
    let believed = || {
        let mut host = open();
        let memory = host.source_memory("shop", "media").unwrap();
        assert_eq!(memory.word, b"seen");
        assert_eq!(host.source_piece(&memory, 7).unwrap(), b"a piece");
        let (mut still, never) = (false, AtomicBool::new(false));
        let ended = host.backup(&Draft::default(), &Silent, &never, |writer| {
            still = writer.still_has(&memory.basis);
            Err::<Contents, _>(WriteError::Stopped)
        });
        assert!(matches!(ended, Err(WriteError::Stopped)));
        still
    };
    assert!(believed());
    for name in objects(&world.store, "index/").into_keys() {
        world.store.delete(&name.parse().unwrap()).unwrap();
    }
    // Also by the run after the one that noticed.
    assert!(!believed() && !believed());
}
