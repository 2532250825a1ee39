//! What a walk sees of folders of every shape, and of a file that changes between the moments at which it is looked at.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use lifeboat_repository::{Contents, Draft, NewSecret, Repository, Silent, Surroundings};
use lifeboat_store::MemoryStore;

use super::*;
use crate::backup::backup;
use crate::browse::{Step, walk_tree};
use crate::memory::{StoredTrees, stored_tree};
use crate::source::on_lane;
use crate::testing::request;

/// Runs `each` with a walk over the folder at `path`, its top node, and a lane into a repository in memory.
fn walking(path: &Path, each: impl FnOnce(&Walk<'_>, &Arc<Node>, &mut Lane<'_, '_>) + Send) {
    let state = tempfile::tempdir().unwrap();
    let surroundings = Surroundings::system(None, state.path().to_owned());
    let store = Arc::new(MemoryStore::new());
    let created = Repository::create(store, &[NewSecret::KeyFile], surroundings).unwrap();
    let mut repository = created.repository;
    let draft = Draft {
        app: "shop".to_owned(),
        host: "host".to_owned(),
        user: "user".to_owned(),
        time_zone: "UTC".to_owned(),
        program: "test".to_owned(),
        started_ms: 0,
        parent: None,
        tags: Vec::new(),
    };
    let run = |writer: &Writer<'_>| -> Result<Contents, WriteError> {
        let earlier = Earlier::default();
        let bundles = Bundles::new(false);
        let options = FolderOptions {
            excludes: Excludes::default(),
            one_file_system: false,
            exclude_caches: false,
            skip: HashSet::new(),
            secrets: HashSet::new(),
            rows: None,
            earlier: &earlier,
            bundles: &bundles,
        };
        let memory = Memory::none();
        let gathered = Gathered::new(writer.repository(), "shop", "media");
        let top = Folder::open(path).unwrap();
        let walk = Walk::new("media", &options, &memory, gathered, top).unwrap();
        let top = walk.top_node().unwrap();
        on_lane(writer, 1, |lane| -> Result<(), WriteError> {
            each(&walk, &top, lane);
            Ok(())
        })?;
        Err(WriteError::Stopped)
    };
    let stop = AtomicBool::new(false);
    // What is tested is what the walk says; no snapshot is made of it.
    assert!(repository.backup(&draft, &Silent, &stop, run).is_err());
}

/// Reads the file `name`, which was listed as `listed`, and looks at its entry.
fn entry_of_file<T>(
    (walk, node, lane): (&Walk<'_>, &Arc<Node>, &mut Lane<'_, '_>),
    (name, listed): (&[u8], &Metadata),
    look: impl FnOnce(&Entry<'_>) -> T,
) -> T {
    let mut part = Part::from_place(0);
    let folder = walk.reopen(node).unwrap();
    let at = At {
        node,
        folder: &folder,
        listing: &Listing::new(),
        place: 0,
        name,
        hint: None,
    };
    walk.file(lane, &mut part, &at, listed, None).unwrap();
    let mut entries = lifeboat_codec::Entries::new(&part.entries.stored);
    let entry = entries.next().unwrap().unwrap();
    look(&entry)
}

#[test]
fn a_file_that_was_replaced_since_it_was_listed_is_read_as_it_is_now() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("a");
    fs::write(&path, "listed").unwrap();
    walking(scratch.path(), |walk, node, lane| {
        let listed = walk.top.metadata(b"a").unwrap();
        let new = scratch.path().join("new");
        fs::write(&new, "the one that is there now").unwrap();
        fs::rename(&new, &path).unwrap();
        let (size, inode, status) = entry_of_file((walk, node, lane), (b"a", &listed), |entry| {
            (entry.size, entry.inode, entry.status)
        });
        assert_eq!((size, status), (25, 0));
        assert_eq!(inode, fs::metadata(&path).unwrap().ino());
        assert!(walk.problems.lock().unwrap().is_empty());
    });
}

#[test]
fn another_name_of_a_file_that_changed_since_it_was_read_is_read_again() {
    let scratch = tempfile::tempdir().unwrap();
    let [a, b] = ["a", "b"].map(|name| scratch.path().join(name));
    fs::write(&a, "before").unwrap();
    fs::hard_link(&a, &b).unwrap();
    walking(scratch.path(), |walk, node, lane| {
        let mut content = |name: &[u8]| {
            let listed = walk.top.metadata(name).unwrap();
            entry_of_file((walk, node, lane), (name, &listed), |entry| {
                match entry.content {
                    Content::Chunk(id) => id,
                    _ => panic!("a small file is one chunk"),
                }
            })
        };
        let first = content(b"a");
        assert_eq!(content(b"b"), first, "nothing changed, and nothing is read");
        fs::write(&b, "after!").unwrap();
        assert_ne!(content(b"b"), first);
    });
}

/// The folder at `path` backed up by so many workers, twice; its paths as the second snapshot has them, the snapshot's
/// root of both times, and how many bytes the second one added.
fn twice(path: &Path, threads: usize) -> (Vec<Vec<u8>>, [StreamRef; 2], u64) {
    let scratch = tempfile::tempdir().unwrap();
    let [cache, state] = ["cache", "state"].map(|name| scratch.path().join(name));
    let store = Arc::new(MemoryStore::new());
    let surroundings = Surroundings::system(Some(cache), state);
    let created = Repository::create(store, &[NewSecret::KeyFile], surroundings).unwrap();
    let mut repository = created.repository;
    let request = request(path, threads);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let stop = AtomicBool::new(false);
    let mut run = || {
        let outcome = backup(&mut repository, &request, &Silent, &stop, runtime.handle()).unwrap();
        assert_eq!(outcome.problems, []);
        outcome.committed
    };
    let (first, second) = (run(), run());
    let reader = repository.reader(second.head.domain).unwrap();
    let mut paths = Vec::new();
    walk_tree(&reader, &second.head.root, b"", &mut |_, item| {
        paths.push(item.unwrap().path);
        Step::Into
    })
    .unwrap();
    let added = second.head.totals.new_bytes;
    (paths, [first.head.root, second.head.root], added)
}

/// Whether both runs over a folder, by one worker and by several, see all that there is, and agree.
fn is_seen_whole(path: &Path) {
    let mut expected: Vec<Vec<u8>> = vec![b"media".to_vec()];
    let mut folders = vec![(path.to_owned(), "media".to_owned())];
    while let Some((folder, name)) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            let name = format!("{name}/{}", entry.file_name().to_str().unwrap());
            expected.push(name.clone().into_bytes());
            if entry.file_type().unwrap().is_dir() {
                folders.push((entry.path(), name));
            }
        }
    }
    expected.sort();
    for threads in [1, 3] {
        let (mut paths, [first, second], added) = twice(path, threads);
        paths.sort();
        assert!(
            paths == expected,
            "{threads} workers: not all of it is there"
        );
        assert!(
            first == second,
            "{threads} workers: it is not seen as unchanged"
        );
        assert!(added < 4096, "{threads} workers: {added} bytes were added");
    }
}

#[test]
fn a_folder_of_very_many_folders_and_files_between_them_is_read_whole() {
    let scratch = tempfile::tempdir().unwrap();
    for number in 0..2_500 {
        let folder = scratch.path().join(format!("{number:05}"));
        fs::create_dir(&folder).unwrap();
        // Some are large enough for the rest of the folder to be shared.
        let content = if number % 500 == 0 {
            SHARE_BYTES as usize
        } else {
            0
        };
        fs::write(folder.join("within"), "").unwrap();
        fs::write(
            scratch.path().join(format!("{number:05} large")),
            vec![7; content],
        )
        .unwrap();
        fs::write(scratch.path().join(format!("{number:05} beside")), "").unwrap();
    }
    is_seen_whole(scratch.path());
}

#[test]
fn what_stands_behind_a_folder_waits_for_it_in_bounded_room() {
    let scratch = tempfile::tempdir().unwrap();
    // The first name is a folder, so that all behind it is read before it: more than may wait.
    let first = scratch.path().join("a");
    fs::create_dir_all(first.join("deep/deeper")).unwrap();
    for number in 0..36_000 {
        let name = format!("{number:05}, which has a long name so that its entry takes more room");
        fs::write(scratch.path().join(&name), "").unwrap();
        if number % 20 == 0 {
            fs::write(first.join("deep").join(&name), "").unwrap();
        }
    }
    is_seen_whole(scratch.path());
}

#[test]
fn where_a_piece_of_the_memory_lacks_the_snapshot_tells_the_rest() {
    let scratch = tempfile::tempdir().unwrap();
    let [cache, state, media] = ["cache", "state", "media"].map(|name| scratch.path().join(name));
    fs::create_dir_all(media.join("500/below")).unwrap();
    let (mut all, mut below) = (Vec::new(), Vec::new());
    for number in 0..5_000 {
        fs::write(media.join(format!("{number:04}, and more")), "").unwrap();
        fs::write(media.join(format!("500/below/{number:04}")), "").unwrap();
        all.push(format!("{number:04}, and more").into_bytes());
        below.push(format!("{number:04}").into_bytes());
    }
    all.push(b"500".to_vec());
    all.sort();
    let store = Arc::new(MemoryStore::new());
    let surroundings = Surroundings::system(Some(cache.clone()), state);
    let created = Repository::create(store, &[NewSecret::KeyFile], surroundings).unwrap();
    let mut repository = created.repository;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let stop = AtomicBool::new(false);
    let request = request(&media, 2);
    let outcome = backup(&mut repository, &request, &Silent, &stop, runtime.handle()).unwrap();
    let head = outcome.committed.head;
    let reader = repository.reader(head.domain).unwrap();
    let root = reader.whole(&head.root).unwrap();
    let top = stored_tree(&lifeboat_codec::Entries::new(&root).next().unwrap().unwrap()).unwrap();
    let seen = repository.source_memory("shop", "media").unwrap();
    let id = outcome.committed.name.id;
    let names = |tree: &PastTree, path: &[u8], memory: &Memory<'_>| {
        let (mut past, mut names, mut folder) = (memory.past(tree, path), Vec::new(), None);
        while let Some(known) = past.next_below(None) {
            names.push(known.entry.name.to_vec());
            if known.tree() != PastTree::None {
                folder = Some(known.tree());
            }
        }
        (names, folder)
    };
    let read = |with_snapshot: bool| {
        let stored = StoredTrees {
            reader: &reader,
            top: top.clone(),
        };
        // Anew each time: pieces that were read before are kept.
        let memory = Memory::local(&repository, &seen, id, true).unwrap();
        let memory = memory.or_stored(with_snapshot.then_some(stored));
        let (first, folder) = names(&memory.top(), b"", &memory);
        let second = folder.map(|folder| names(&folder, b"500", &memory));
        let third = second.and_then(|(_, folder)| folder);
        let third = third.map(|folder| names(&folder, b"500/below", &memory).0);
        (first, third.unwrap_or_default())
    };
    let whole = (all, below);
    assert!(read(false) == whole);
    let file = fs::read_dir(&cache)
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    let pieces = rusqlite::Connection::open(file.join("cache.sqlite")).unwrap();
    let count: u32 = pieces
        .query_row("SELECT count(*) FROM piece", [], |row| row.get(0))
        .unwrap();
    assert!(count >= 3, "each large tree has one of its own");
    for place in 0..count {
        pieces
            .execute_batch("BEGIN; CREATE TEMP TABLE kept AS SELECT * FROM piece;")
            .unwrap();
        pieces
            .execute(
                "DELETE FROM piece WHERE id = (SELECT id FROM piece ORDER BY id LIMIT 1 OFFSET ?1)",
                [place],
            )
            .unwrap();
        pieces.execute_batch("COMMIT").unwrap();
        assert!(read(false) != whole, "piece {place} is of use");
        assert!(read(true) == whole, "piece {place} lacks");
        pieces
            .execute_batch("INSERT OR IGNORE INTO piece SELECT * FROM kept; DROP TABLE kept;")
            .unwrap();
    }
}
