//! What a run leaves, and what the next one reads of it.

use std::sync::Arc;

use lifeboat_codec::{EntryKind, put_entry};
use lifeboat_repository::{NewSecret, Surroundings};
use lifeboat_store::MemoryStore;

use super::*;

fn tree(names: impl IntoIterator<Item = String>) -> Vec<u8> {
    let (mut tree, mut scratch) = (Vec::new(), Vec::new());
    for name in names {
        let entry = Entry::new(EntryKind::File, name.as_bytes());
        put_entry(&mut tree, &entry, &mut scratch);
    }
    tree
}

/// A repository with a cache, which is deleted with the folder.
fn repository() -> (Repository, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let surroundings = Surroundings::system(
        Some(folder.path().join("cache")),
        folder.path().join("state"),
    );
    let store = Arc::new(MemoryStore::new());
    let created = Repository::create(store, &[NewSecret::KeyFile], surroundings).unwrap();
    (created.repository, folder)
}

fn names(mut past: Past<'_>) -> Vec<String> {
    let mut names = Vec::new();
    while let Some(known) = past.next_below(None) {
        names.push(String::from_utf8(known.entry.name.to_vec()).unwrap());
    }
    names
}

fn numbers(range: std::ops::Range<u32>) -> impl Iterator<Item = String> {
    range.map(|number| format!("{number:08}"))
}

#[test]
fn what_a_run_saw_is_read_by_the_next_and_by_no_other() {
    let (repository, _folder) = repository();
    let gathered = Gathered::new(&repository, "shop", "media");
    let (mut large, mut small) = (NewTree::default(), NewTree::default());
    // In parts whose borders are no borders of entries, and more of it than one piece takes.
    for part in tree(numbers(0..40_000)).chunks(1_000) {
        gathered.extend(&mut large, part);
    }
    gathered.extend(&mut small, &tree(numbers(5..9)));
    let [large, small] = [large, small].map(|tree| gathered.close(tree));
    let empty = gathered.close(NewTree::default());
    let top = large.clone();
    let (basis, id) = (Basis::default(), SnapshotId([1; 16]));
    gathered
        .finish(top)
        .remember(&repository, &basis, id, 5_000);

    let seen = repository.source_memory("shop", "media").unwrap();
    assert_eq!(remembered(&seen), Some(id));
    assert!(repository.source_memory("shop", "other").is_none());
    assert!(Memory::local(&repository, &seen, SnapshotId([2; 16]), true).is_none());
    let memory = Memory::local(&repository, &seen, id, true).unwrap();
    let at = |place: &[u8]| PastTree::Remembered(place.into());
    let past = |place: &[u8]| names(memory.past(&at(place), b""));
    assert_eq!(memory.top(), at(&large));
    assert!(past(&large).into_iter().eq(numbers(0..40_000)));
    assert!(past(&small).into_iter().eq(numbers(5..9)));
    assert!(past(&empty).is_empty());
    assert!(names(memory.past(&PastTree::None, b"")).is_empty());
    for damaged in [b"".as_slice(), &[1], &[0xff; 30], &large[..large.len() - 1]] {
        past(damaged);
    }
}

#[test]
fn a_past_tree_is_walked_in_step() {
    let (repository, _folder) = repository();
    let gathered = Gathered::new(&repository, "shop", "media");
    let mut all = NewTree::default();
    gathered.extend(&mut all, &tree(["a", "c", "e", "g"].map(str::to_owned)));
    let top = gathered.close(all);
    let id = SnapshotId([1; 16]);
    gathered
        .finish(top)
        .remember(&repository, &Basis::default(), id, 5_000);
    let seen = repository.source_memory("shop", "media").unwrap();
    let memory = Memory::local(&repository, &seen, id, true).unwrap();
    let past = || memory.past(&memory.top(), b"");
    let mut all = past();
    let found: Vec<bool> = ["a", "b", "c", "d", "e", "f"]
        .map(|name| all.find(name.as_bytes()).is_some())
        .to_vec();
    assert_eq!(found, [true, false, true, false, true, false]);
    let mut passed = past();
    assert_eq!(passed.next_below(Some(b"b")).unwrap().entry.name, b"a");
    assert!(passed.next_below(Some(b"b")).is_none());
    assert_eq!(passed.find(b"c").unwrap().entry.name, b"c");
    assert_eq!(passed.next_below(Some(b"f")).unwrap().entry.name, b"e");
    assert!(passed.find(b"f").is_none());
    assert_eq!(passed.next_below(None).unwrap().entry.name, b"g");
    assert!(passed.next_below(None).is_none() && passed.find(b"z").is_none());
}

#[test]
fn what_was_a_file_is_no_past_tree() {
    let mut known = Known {
        entry: Entry {
            content: Content::Stream(b"somewhere"),
            ..Entry::new(EntryKind::Folder, b"x")
        },
        raw: &[],
        is_remembered: false,
    };
    assert_eq!(known.tree(), PastTree::Stored((*b"somewhere").into()));
    known.entry.kind = EntryKind::File;
    assert_eq!(known.tree(), PastTree::None);
}
