//! What becomes of a file that changes between the moments at which a walk looks at it.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use lifeboat_repository::{Contents, Draft, NewSecret, Repository, Silent, Surroundings};
use lifeboat_store::MemoryStore;

use super::*;
use crate::source::on_lane;

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
        let options = FolderOptions {
            excludes: Excludes::default(),
            one_file_system: false,
            exclude_caches: false,
            skip: HashSet::new(),
            secrets: HashSet::new(),
            rows: None,
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
    walk.file(
        lane,
        &mut part,
        node,
        &folder,
        &Listing::new(),
        name,
        listed,
    )
    .unwrap();
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
