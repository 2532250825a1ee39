//! Copying: between replicas as it is, between families anew, and on from where an earlier copy ended.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use lifeboat_codec::{
    Content, Entries, Entry, EntryKind, KeyFile, Manifest, Note, Profile, Role, StreamRef,
    put_entry,
};
use lifeboat_store::{ErrorKind, Fault, FaultyStore, MemoryStore, Operation, Store, When};

use super::*;
use crate::check::{CheckOptions, ReadData, check};
use crate::commit::{Contents, Draft};
use crate::keys::NewSecret;
use crate::progress::Silent;
use crate::repository::Unlock;
use crate::surroundings::Surroundings;
use crate::testing::{Files, World, backup, noise, restore, tiny_files};
use crate::write_error::WriteError;
use crate::writer::{Lane, Writer, work};

/// The repository that is copied to, and the store below it.
struct Target {
    store: Arc<FaultyStore<MemoryStore>>,
    repository: Repository,
    key: KeyFile,
    folder: tempfile::TempDir,
}

impl Target {
    fn new(create: impl FnOnce(Arc<dyn Store>, Surroundings) -> crate::keys::Created) -> Self {
        let store = Arc::new(FaultyStore::new(MemoryStore::new()));
        let folder = tempfile::tempdir().unwrap();
        let surroundings = Surroundings::system(
            Some(folder.path().join("cache")),
            folder.path().join("state"),
        );
        let created = create(Arc::clone(&store) as Arc<dyn Store>, surroundings);
        Self {
            store,
            repository: created.repository,
            key: created.key_file.unwrap(),
            folder,
        }
    }

    fn replica_of(repository: &Repository) -> Self {
        Self::new(|store, surroundings| {
            repository
                .create_replica(store, &[NewSecret::KeyFile], surroundings)
                .unwrap()
        })
    }

    fn other_family() -> Self {
        Self::new(|store, surroundings| {
            Repository::create(store, &[NewSecret::KeyFile], surroundings).unwrap()
        })
    }

    /// Opens it as another process would.
    fn reopen(&mut self) {
        let surroundings = Surroundings::system(
            Some(self.folder.path().join("cache")),
            self.folder.path().join("state"),
        );
        self.repository = Repository::open(
            Arc::clone(&self.store) as Arc<dyn Store>,
            &Unlock::KeyFile(&self.key),
            surroundings,
        )
        .unwrap();
    }

    fn assert_sound(&self) {
        let options = CheckOptions {
            read_data: ReadData::All,
        };
        let report = check(&self.repository, &options, &Silent, &AtomicBool::new(false)).unwrap();
        assert!(report.is_clean(), "{:?}", report.findings);
    }
}

/// Three snapshots, the last two with a large file that has a chunk list of its own.
fn source() -> (World, Repository, Vec<Files>) {
    let (world, mut repository) = World::new();
    let first = tiny_files();
    let mut second = first.clone();
    second.insert("films/a.mp4".into(), noise(1, 9_000_000));
    second.insert("films/b.mp4".into(), noise(2, 700_000));
    let mut third = second.clone();
    third.insert("2026/new.jpg".into(), noise(3, 4000));
    third.remove("notes.txt");
    let states = vec![first, second, third];
    for files in &states {
        backup(&mut repository, files).unwrap();
    }
    (world, repository, states)
}

fn list(repository: &Repository) -> Vec<Snapshot> {
    let list = repository.snapshots().unwrap();
    assert!(
        list.damaged.is_empty() && list.unconfirmed.is_empty(),
        "{list:?}"
    );
    list.snapshots
}

fn run(
    from: &Repository,
    to: &mut Repository,
    snapshots: &[Snapshot],
) -> Result<CopyReport, CopyError> {
    copy(from, to, snapshots, &Silent, &AtomicBool::new(false))
}

fn pin(repository: &mut Repository, snapshot: SnapshotId) {
    let note = Note {
        snapshot,
        kind: "pin".into(),
        value: "keep".into(),
        removes: None,
        said_ms: 1,
    };
    repository.say(&note).unwrap();
}

#[test]
fn a_replica_gets_packs_snapshots_and_notes_as_they_are() {
    let (_world, mut repository, states) = source();
    let snapshots = list(&repository);
    pin(&mut repository, snapshots[1].name.id);
    let mut target = Target::replica_of(&repository);

    let some = run(&repository, &mut target.repository, &snapshots[1..2]).unwrap();
    assert_eq!((some.copied.len(), some.notes), (1, 1));
    let report = run(&repository, &mut target.repository, &snapshots).unwrap();
    assert_eq!(
        (report.copied.len(), report.skipped.len(), report.notes),
        (2, 1, 0)
    );
    target.reopen();
    let there = list(&target.repository);
    assert_eq!(
        there
            .iter()
            .map(|snapshot| (snapshot.name, snapshot.hash))
            .collect::<Vec<_>>(),
        snapshots
            .iter()
            .map(|snapshot| (snapshot.name, snapshot.hash))
            .collect::<Vec<_>>()
    );
    for (snapshot, files) in there.iter().zip(&states) {
        assert_eq!(restore(&target.repository, &snapshot.head).unwrap(), *files);
    }
    assert!(
        target
            .repository
            .notes()
            .unwrap()
            .notes
            .pinned(snapshots[1].name.id)
    );
    target.assert_sound();

    let again = run(&repository, &mut target.repository, &snapshots).unwrap();
    assert_eq!(
        (again.copied.len(), again.packs, again.bytes, again.notes),
        (0, 0, 0, 0)
    );
    let same = run(
        &repository,
        &mut Repository::open(
            Arc::clone(&_world.store) as Arc<dyn Store>,
            &Unlock::KeyFile(&_world.key),
            crate::testing::surroundings(&target.folder),
        )
        .unwrap(),
        &snapshots,
    );
    assert!(matches!(same, Err(CopyError::Same)));
}

#[test]
fn a_replica_is_filled_without_any_key_to_content_and_by_several_writers() {
    let (world, mut repository, states) = source();
    let (_, write) = repository
        .add_slot(&NewSecret::KeyFile, Role::WriteOnly, "web host")
        .unwrap();
    let (_, prune) = repository
        .add_slot(&NewSecret::KeyFile, Role::Prune, "pruner")
        .unwrap();
    let open = |store: Arc<dyn Store>, key: &KeyFile, folder: &tempfile::TempDir| {
        Repository::open(
            store,
            &Unlock::KeyFile(key),
            crate::testing::surroundings(folder),
        )
        .unwrap()
    };
    let (host_folder, prune_folder, replica_folder) = (
        tempfile::tempdir().unwrap(),
        tempfile::tempdir().unwrap(),
        tempfile::tempdir().unwrap(),
    );
    let mut host = open(
        Arc::clone(&world.store) as Arc<dyn Store>,
        &write.unwrap(),
        &host_folder,
    );
    let own = backup(&mut host, &states[0]).unwrap();

    let mut target = Target::replica_of(&repository);
    let (_, prune_there) = target
        .repository
        .add_slot(&NewSecret::KeyFile, Role::Prune, "pruner")
        .unwrap();
    let from = open(
        Arc::clone(&world.store) as Arc<dyn Store>,
        &prune.unwrap(),
        &prune_folder,
    );
    let mut to = open(
        Arc::clone(&target.store) as Arc<dyn Store>,
        &prune_there.unwrap(),
        &replica_folder,
    );
    let snapshots = list(&from);
    assert_eq!(run(&from, &mut to, &snapshots).unwrap().copied.len(), 4);
    target.reopen();
    assert_eq!(
        restore(&target.repository, &own.head).unwrap(),
        states[0],
        "another domain"
    );
    assert_eq!(
        restore(&target.repository, &snapshots[2].head).unwrap(),
        states[2]
    );
    target.assert_sound();
}

#[test]
fn a_copy_that_ended_anywhere_goes_on_where_it_ended() {
    let (_world, repository, states) = source();
    let snapshots = list(&repository);
    for other_family in [false, true] {
        let mut puts = 1;
        loop {
            let mut target = if other_family {
                Target::other_family()
            } else {
                Target::replica_of(&repository)
            };
            target.store.reset();
            target
                .store
                .inject(When::CallOf(Operation::Put, puts), Fault::CrashBefore);
            let crashed = run(&repository, &mut target.repository, &snapshots);
            target.store.reset();
            if crashed.is_ok() {
                break;
            }
            target.reopen();
            let report = run(&repository, &mut target.repository, &snapshots).unwrap();
            assert_eq!(report.copied.len() + report.skipped.len(), 3, "put {puts}");
            for (snapshot, files) in target
                .repository
                .snapshots()
                .unwrap()
                .snapshots
                .iter()
                .zip(&states)
            {
                assert_eq!(
                    restore(&target.repository, &snapshot.head).unwrap(),
                    *files,
                    "put {puts}"
                );
            }
            puts += if puts < 8 { 1 } else { 5 };
        }
        assert!(puts > 5, "the copy made {puts} puts");
    }
}

#[test]
fn another_family_gets_the_same_content_under_its_own_keys() {
    let (_world, mut repository, states) = source();
    let snapshots = list(&repository);
    pin(&mut repository, snapshots[1].name.id);
    let mut target = Target::other_family();
    let report = run(&repository, &mut target.repository, &snapshots).unwrap();
    assert_eq!((report.copied.len(), report.notes), (3, 1));
    target.reopen();
    let there = list(&target.repository);
    for ((new, old), files) in there.iter().zip(&snapshots).zip(&states) {
        assert_eq!(restore(&target.repository, &new.head).unwrap(), *files);
        assert_ne!(new.name.id, old.name.id);
        assert!(report.copied.contains(&(old.name.id, new.name.id)));
        for (a, b) in [
            (&new.head.app, &old.head.app),
            (&new.head.host, &old.head.host),
            (&new.head.user, &old.head.user),
            (&new.head.time_zone, &old.head.time_zone),
            (&new.head.program, &old.head.program),
        ] {
            assert_eq!(a, b);
        }
        assert_eq!(
            (new.head.started_ms, new.head.finished_ms, &new.head.tags),
            (old.head.started_ms, old.head.finished_ms, &old.head.tags)
        );
        assert_eq!(
            (new.head.totals.files, new.head.totals.bytes),
            (old.head.totals.files, old.head.totals.bytes)
        );
        let (manifest, before) = (
            target.repository.manifest(new).unwrap(),
            repository.manifest(old).unwrap(),
        );
        assert_eq!(
            manifest.sources[0].fact("copied-from"),
            Some(old.name.id.to_string().as_str())
        );
        assert_eq!(
            (manifest.sources[0].fact("colour"), &manifest.users),
            (Some("blue"), &before.users)
        );
        assert_eq!(
            attributes(&target.repository, new),
            attributes(&repository, old)
        );
    }
    assert!(
        target
            .repository
            .notes()
            .unwrap()
            .notes
            .pinned(there[1].name.id)
    );
    // The second snapshot shares all of the first, the third almost all of the second.
    assert!(
        there[2].head.totals.new_bytes < 20_000,
        "{:?}",
        there[2].head.totals
    );
    target.assert_sound();

    let again = run(&repository, &mut target.repository, &snapshots).unwrap();
    assert_eq!(
        (again.copied.len(), again.skipped, again.notes),
        (0, report.copied, 0)
    );
    let back = run(&target.repository, &mut repository, &there).unwrap();
    assert_eq!(
        (back.copied.len(), back.skipped.len()),
        (0, 3),
        "what was copied from here is not copied back"
    );
}

/// Everything about the entries of a snapshot's folders but their content's place.
fn attributes(repository: &Repository, snapshot: &Snapshot) -> Vec<String> {
    let reader = repository.reader(snapshot.head.domain).unwrap();
    let (mut found, mut trees) = (Vec::new(), vec![snapshot.head.root.clone()]);
    while let Some(tree) = trees.pop() {
        for entry in Entries::new(&reader.whole(&tree).unwrap()) {
            let mut entry = entry.unwrap();
            if let (EntryKind::Folder, Content::Stream(reference)) = (entry.kind, entry.content) {
                trees.push(StreamRef::decode(reference).unwrap());
            }
            entry.content = Content::None;
            found.push(format!("{entry:?}"));
        }
    }
    found
}

#[test]
fn damaged_packs_are_not_copied() {
    let (world, repository, _) = source();
    let snapshots = list(&repository);
    let mut packs = Vec::new();
    world
        .store
        .list("packs/d/", &mut |listed| {
            packs.push((listed.len, listed.name));
        })
        .unwrap();
    packs.sort();
    let (_, pack) = packs.pop().unwrap();
    let mut bytes = world.store.get(&pack, u64::MAX).unwrap();
    bytes[300_000] ^= 1;
    world.store.damage(&pack, bytes);
    for mut target in [Target::replica_of(&repository), Target::other_family()] {
        let refused = run(&repository, &mut target.repository, &snapshots).unwrap_err();
        let CopyError::From(ReadError::Format { object, .. }) = &refused else {
            panic!("{refused:?}")
        };
        assert_eq!(object, pack.as_str());
        assert!(
            target
                .store
                .get(&pack, u64::MAX)
                .is_err_and(|error| error.kind() == ErrorKind::NotFound)
        );
        let kept = list_confirmed(&target.repository);
        assert!(
            kept.iter()
                .all(|snapshot| restore(&target.repository, &snapshot.head).is_ok()),
            "whatever was confirmed is whole"
        );
    }
}

fn list_confirmed(repository: &Repository) -> Vec<Snapshot> {
    repository.snapshots().unwrap().snapshots
}

#[test]
fn a_copy_needs_the_keys_that_it_uses_and_stops_when_told() {
    let (world, mut repository, _) = source();
    let snapshots = list(&repository);
    let (_, prune) = repository
        .add_slot(&NewSecret::KeyFile, Role::Prune, "pruner")
        .unwrap();
    let folder = tempfile::tempdir().unwrap();
    let pruner = Repository::open(
        Arc::clone(&world.store) as Arc<dyn Store>,
        &Unlock::KeyFile(&prune.unwrap()),
        crate::testing::surroundings(&folder),
    )
    .unwrap();
    let mut target = Target::other_family();
    assert!(matches!(
        run(&pruner, &mut target.repository, &snapshots),
        Err(CopyError::From(ReadError::Format {
            source: lifeboat_codec::FormatError::NoKey(_),
            ..
        }))
    ));
    for mut target in [Target::replica_of(&repository), target] {
        let stopped = copy(
            &repository,
            &mut target.repository,
            &snapshots,
            &Silent,
            &AtomicBool::new(true),
        );
        assert!(matches!(stopped, Err(CopyError::Stopped)));
        assert!(list_confirmed(&target.repository).is_empty());
    }
}

#[test]
fn a_replica_gets_the_lists_between_the_first_and_the_last_too() {
    /// A run with one file of this reference, made after `put` put what it names.
    fn snapshot_of(
        repository: &mut Repository,
        put: impl Fn(&mut Lane<'_, '_>) -> Result<StreamRef, WriteError> + Sync,
    ) {
        let draft = Draft {
            app: "shop".into(),
            ..Draft::default()
        };
        let write = |writer: &Writer<'_>| -> Result<Contents, WriteError> {
            let refs = Mutex::new(None);
            work(
                writer,
                1,
                vec![()],
                |lane, (), _| -> Result<(), WriteError> {
                    let (mut root, mut scratch) = (Vec::new(), Vec::new());
                    let content = put(lane)?;
                    let file = Entry {
                        size: content.length,
                        content: Content::Stream(&content.encode()),
                        ..Entry::new(EntryKind::File, b"file")
                    };
                    put_entry(&mut root, &file, &mut scratch);
                    let manifest = lane.put_meta(&Manifest::default().encode())?;
                    *refs.lock().unwrap() = Some((lane.put_meta(&root)?, manifest));
                    Ok(())
                },
            )?;
            let (root, manifest) = refs.into_inner().unwrap().unwrap();
            Ok(Contents {
                root,
                manifest,
                files: 1,
                bytes: 5000,
                unreadable: 0,
            })
        };
        let stop = AtomicBool::new(false);
        repository.backup(&draft, &Silent, &stop, write).unwrap();
    }
    let content = noise(5, 5000);
    let (_world, mut from) = World::new();
    let elsewhere = Mutex::new(Vec::new());
    snapshot_of(&mut from, |lane| {
        let own = lane.put_stream(Profile::Files, None, &mut &*content)?;
        elsewhere.lock().unwrap().clone_from(&own.items);
        Ok(own)
    });
    let list = elsewhere.into_inner().unwrap();
    // The list between lies in a pack that the last snapshot has no other reason to need.
    snapshot_of(&mut from, |lane| lane.put_meta(&list));
    snapshot_of(&mut from, |lane| {
        let between = lane.put_meta(&list)?;
        let top = lane.put_meta(&between.items)?;
        Ok(StreamRef::new(5000, Profile::Files, 2, top.items))
    });
    let mut target = Target::replica_of(&from);
    let snapshots = list_newest(&from);
    run(&from, &mut target.repository, &snapshots).unwrap();
    target.reopen();
    let snapshot = &list_newest(&target.repository)[0];
    let reader = target.repository.reader(snapshot.head.domain).unwrap();
    let mut root = reader.tree(&snapshot.head.root).unwrap();
    let entry = root.next_entry().unwrap().unwrap();
    let Content::Stream(reference) = entry.content else {
        panic!("it was written as a stream")
    };
    let stream = StreamRef::decode(reference).unwrap();
    assert_eq!(stream.depth, 2);
    assert_eq!(reader.whole(&stream).unwrap(), content);
}

/// The newest snapshot alone.
fn list_newest(repository: &Repository) -> Vec<Snapshot> {
    let mut all = list(repository);
    all.sort_by_key(|snapshot| snapshot.name.seq);
    all.split_off(all.len() - 1)
}
