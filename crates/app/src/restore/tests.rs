//! A restore in many small rounds is the same as in one.
//!
//! **Invariant**: whatever the bounds of a round, the target, its folders' times, the counts and the problems are those
//! of a single round.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use lifeboat_codec::{Content, Entry, EntryKind, Manifest, Profile, StreamRef, put_entry};
use lifeboat_files::{CompareOptions, compare};
use lifeboat_repository::{Contents, Draft, NewSecret, Silent, Surroundings, WriteError, Writer};
use lifeboat_store::{MemoryStore, Store};

use super::*;
use crate::backup::{BackupRequest, backup};
use crate::browse::{Step, diff, walk_tree};
use crate::source::on_lane;

/// From one item to all.
const SIZES: [usize; 4] = [1, 2, 3, usize::MAX];

/// Small rounds write what is larger than a mebibyte by itself.
fn bounds(items: usize) -> Bounds {
    Bounds {
        items,
        bytes: usize::MAX,
        large: if items == usize::MAX {
            u64::MAX
        } else {
            1 << 20
        },
    }
}

pub(super) struct World {
    scratch: tempfile::TempDir,
    pub(super) store: Arc<MemoryStore>,
    pub(super) repository: Repository,
}

impl World {
    /// An empty repository beside an empty folder `media`.
    fn new() -> Self {
        let scratch = tempfile::tempdir().unwrap();
        fs::create_dir(scratch.path().join("media")).unwrap();
        let surroundings = Surroundings::system(None, scratch.path().join("state"));
        let store = Arc::new(MemoryStore::new());
        let shared: Arc<dyn Store> = Arc::<MemoryStore>::clone(&store);
        let created = Repository::create(shared, &[NewSecret::KeyFile], surroundings).unwrap();
        Self {
            scratch,
            store,
            repository: created.repository,
        }
    }

    /// A repository with a snapshot of the folder `media`, which `make` fills.
    fn of(make: impl FnOnce(&Path), secrets: &[&str]) -> Self {
        let mut world = Self::new();
        let path = world.media();
        make(&path);
        let request = BackupRequest {
            secrets: secrets.iter().map(|secret| path.join(secret)).collect(),
            ..crate::testing::request(&path, 1)
        };
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let stop = AtomicBool::new(false);
        backup(
            &mut world.repository,
            &request,
            &Silent,
            &stop,
            runtime.handle(),
        )
        .unwrap();
        world
    }

    /// A repository with a snapshot whose source `media` is this tree, whatever it is.
    pub(super) fn forged(tree: &[u8]) -> Self {
        Self::forged_beside(tree, &[])
    }

    /// The same, with these bytes behind `media` in the root tree.
    fn forged_beside(tree: &[u8], behind: &[u8]) -> Self {
        let mut world = Self::new();
        world.forge(tree, behind);
        world
    }

    /// Adds a snapshot whose source `media` is this tree, newer than all that are there.
    fn forge(&mut self, tree: &[u8], behind: &[u8]) {
        let draft = Draft {
            app: "shop".to_owned(),
            host: "host".to_owned(),
            user: "user".to_owned(),
            time_zone: "UTC".to_owned(),
            program: "test".to_owned(),
            started_ms: self.repository.snapshots().unwrap().snapshots.len() as u64,
            parent: None,
            tags: Vec::new(),
        };
        let write = |writer: &Writer<'_>| -> Result<Contents, WriteError> {
            on_lane(writer, 1, |lane| -> Result<Contents, WriteError> {
                let below = lane.put_meta(tree)?.encode();
                let media = Entry {
                    mode: 0o755,
                    content: Content::Stream(&below),
                    ..Entry::new(EntryKind::Folder, b"media")
                };
                let (mut root, mut scratch) = (Vec::new(), Vec::new());
                put_entry(&mut root, &media, &mut scratch);
                root.extend_from_slice(behind);
                Ok(Contents {
                    root: lane.put_meta(&root)?,
                    manifest: lane.put_meta(&Manifest::default().encode())?,
                    files: 0,
                    bytes: 0,
                    unreadable: 0,
                })
            })
        };
        let stop = AtomicBool::new(false);
        let made = self.repository.backup(&draft, &Silent, &stop, write);
        made.unwrap();
    }

    fn media(&self) -> PathBuf {
        self.scratch.path().join("media")
    }

    fn request(&self, target: &str) -> RestoreRequest {
        RestoreRequest {
            paths: vec![b"media".to_vec()],
            target: self.scratch.path().join(target),
            tree: false,
            overwrite: Overwrite::Never,
            exact: false,
            owner: None,
            numeric_ids: true,
            devices: false,
            with_secrets: false,
            sparse: true,
            durable: false,
            dry_run: false,
        }
    }

    fn restore(&self, items: usize, request: &RestoreRequest, progress: &dyn Progress) -> Told {
        self.restore_until(items, request, progress, &AtomicBool::new(false))
            .unwrap()
    }

    fn restore_until(
        &self,
        items: usize,
        request: &RestoreRequest,
        progress: &dyn Progress,
        stop: &AtomicBool,
    ) -> Result<Told, RestoreError> {
        let snapshot = self.repository.snapshots().unwrap().snapshots.remove(0);
        let watch = (progress, stop);
        let outcome = restore_in(bounds(items), &self.repository, &snapshot, request, watch)?;
        let mut problems = outcome.problems;
        problems.sort();
        Ok(Told {
            files: outcome.files,
            bytes: outcome.bytes,
            folders: outcome.folders,
            deleted: outcome.deleted,
            extras: outcome.extras,
            secrets: outcome.secrets,
            problems,
        })
    }

    /// Changes a byte in the middle of every pack of content.
    fn damage(&self) {
        let mut packs = Vec::new();
        self.store
            .list("packs/d/", &mut |listed| packs.push(listed.name))
            .unwrap();
        assert!(!packs.is_empty(), "there are packs of content");
        for pack in packs {
            let mut bytes = self.store.get(&pack, u64::MAX).unwrap();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            assert!(self.store.damage(&pack, bytes));
        }
    }
}

/// What a restore said of itself.
#[derive(Debug, PartialEq, Eq)]
struct Told {
    files: u64,
    bytes: u64,
    folders: u64,
    deleted: u64,
    extras: Vec<String>,
    secrets: Vec<String>,
    problems: Vec<String>,
}

/// Bytes that no compression makes smaller, the same for each seed.
pub(super) fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed * 2 + 1;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    std::iter::repeat_with(next).take(length).collect()
}

/// Gives every folder below `path` a time of its own, long ago, the top first.
fn age(path: &Path) {
    let mut number = 0;
    let mut waiting = vec![path.to_owned()];
    while let Some(folder) = waiting.pop() {
        number += 1;
        let below = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap());
        waiting.extend(
            below
                .filter(|entry| entry.file_type().unwrap().is_dir())
                .map(|entry| entry.path()),
        );
        let then = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000 + number);
        fs::File::open(&folder).unwrap().set_modified(then).unwrap();
    }
}

/// Folders in folders, files of all sizes, and names of one file near and far, before and behind its folder.
fn oddities(path: &Path) {
    for folder in ["a", "a/deep", "a/deep/er", "b", "b/empty", "c", "d", "d/e"] {
        fs::create_dir(path.join(folder)).unwrap();
    }
    for (number, name) in ["a/1", "a/deep/2", "a/deep/er/3", "b/4", "c/5", "d/e/6", "7"]
        .into_iter()
        .enumerate()
    {
        fs::write(path.join(name), noise(number as u64, 3000 + number)).unwrap();
    }
    fs::write(path.join("b/large"), noise(99, 9 << 20)).unwrap();
    fs::write(path.join("c/nothing"), "").unwrap();
    symlink("nowhere", path.join("c/link")).unwrap();
    for (first, further) in [
        ("a/1", "a/one more"),
        ("a/1", "d/one more"),
        ("a/deep/er/3", "a/deep/three more"),
        ("a/deep/er/3", "z-last"),
        ("c/nothing", "d/e/nothing"),
        ("b/large", "d/large"),
        ("c/link", "d/link"),
    ] {
        fs::hard_link(path.join(first), path.join(further)).unwrap();
    }
    fs::set_permissions(path.join("a/deep"), fs::Permissions::from_mode(0o555)).unwrap();
    age(path);
}

fn assert_same(a: &Path, b: &Path) {
    let differences = compare(a, b, &CompareOptions::default()).unwrap();
    assert!(differences.is_empty(), "{differences:?}");
}

#[test]
fn rounds_of_any_size_restore_the_same() {
    let world = World::of(oddities, &[]);
    let whole = world.restore(usize::MAX, &world.request("whole"), &Silent);
    assert!(whole.problems.is_empty(), "{whole:?}");
    assert_eq!(whole.files, 7 + 1 + 1 + 6);
    for items in SIZES {
        let name = format!("rounds of {items}");
        assert_eq!(world.restore(items, &world.request(&name), &Silent), whole);
        assert_same(&world.media(), &world.scratch.path().join(name));
    }
}

#[test]
fn a_round_ends_when_its_memory_is_full_too() {
    let world = World::of(oddities, &[]);
    let request = world.request("target");
    let snapshot = world.repository.snapshots().unwrap().snapshots.remove(0);
    let phases = Phases::default();
    let small = Bounds {
        items: usize::MAX,
        bytes: 2000,
        large: u64::MAX,
    };
    let watch: (&dyn Progress, _) = (&phases, &AtomicBool::new(false));
    restore_in(small, &world.repository, &snapshot, &request, watch).unwrap();
    let rounds = phases.0.into_inner().unwrap();
    assert!(rounds > 3, "{rounds}");
    assert_same(&world.media(), &request.target);
}

/// Counts rounds.
#[derive(Default)]
struct Phases(Mutex<u64>);

impl Progress for Phases {
    fn phase(&self, what: &str) {
        *self.0.lock().unwrap() += u64::from(what == "Restoring files");
    }
    fn expect(&self, _counter: Counter, _amount: u64) {}
    fn count(&self, _counter: Counter, _amount: u64) {}
    fn problem(&self, what: &str) {
        panic!("nothing is wrong, but it was told: {what}");
    }
}

/// What is expected and done, and when it is enough.
struct Sums<'s> {
    sums: Mutex<HashMap<(bool, Counter), u64>>,
    stop: (&'s AtomicBool, u64),
}

impl Sums<'_> {
    fn add(&self, is_done: bool, counter: Counter, amount: u64) {
        let mut sums = self.sums.lock().unwrap();
        let sum = sums.entry((is_done, counter)).or_default();
        *sum += amount;
        if (is_done, counter) == (true, Counter::Files) && *sum >= self.stop.1 {
            self.stop.0.store(true, Ordering::Relaxed);
        }
    }
}

impl Progress for Sums<'_> {
    fn phase(&self, _what: &str) {}
    fn expect(&self, counter: Counter, amount: u64) {
        self.add(false, counter, amount);
    }
    fn count(&self, counter: Counter, amount: u64) {
        self.add(true, counter, amount);
    }
    fn problem(&self, what: &str) {
        panic!("nothing is wrong, but it was told: {what}");
    }
}

#[test]
fn what_is_expected_is_what_is_done_in_one_round_and_in_many() {
    let world = World::of(oddities, &[]);
    for items in SIZES {
        let sums = Sums {
            sums: Mutex::default(),
            stop: (&AtomicBool::new(false), u64::MAX),
        };
        world.restore(items, &world.request(&format!("{items}")), &sums);
        let sums = sums.sums.into_inner().unwrap();
        for counter in [Counter::Files, Counter::Bytes] {
            assert_eq!(sums[&(false, counter)], sums[&(true, counter)], "{items}");
        }
    }
}

/// Puts into a restored tree what the snapshot does not have.
fn clutter(target: &Path) {
    for name in ["extra", "a/deep/er/extra", "b/empty/extra", "d/extra"] {
        fs::write(target.join(name), "extra").unwrap();
    }
    fs::create_dir_all(target.join("c/folder/in")).unwrap();
    fs::write(target.join("c/folder/in/file"), "extra").unwrap();
    fs::remove_file(target.join("a/1")).unwrap();
    fs::write(target.join("b/4"), "other").unwrap();
}

#[test]
fn an_exact_restore_deletes_the_same_whatever_the_rounds_and_folders_keep_their_times() {
    let world = World::of(oddities, &[]);
    for items in SIZES {
        let mut request = world.request(&format!("{items}"));
        world.restore(items, &request, &Silent);
        clutter(&request.target);
        (request.overwrite, request.exact) = (Overwrite::IfChanged, true);
        request.dry_run = true;
        let planned = world.restore(items, &request, &Silent);
        request.dry_run = false;
        let told = world.restore(items, &request, &Silent);
        let extras = [
            "a/deep/er/extra",
            "b/empty/extra",
            "c/folder",
            "d/extra",
            "extra",
        ];
        assert_eq!(
            (&told.extras[..], told.deleted),
            (&extras.map(str::to_owned)[..], 5)
        );
        assert_eq!((planned.extras, planned.deleted), (told.extras, 5));
        assert_same(&world.media(), &request.target);
    }
}

#[test]
fn what_lies_beside_a_secret_that_was_left_out_goes_and_the_secret_stays() {
    let world = World::of(oddities, &["b/4"]);
    for items in SIZES {
        let mut request = world.request(&format!("{items}"));
        let told = world.restore(items, &request, &Silent);
        assert_eq!(told.secrets, ["media/b/4"]);
        fs::write(request.target.join("b/4"), "of today").unwrap();
        fs::write(request.target.join("b/extra"), "extra").unwrap();
        (request.overwrite, request.exact) = (Overwrite::Always, true);
        let told = world.restore(items, &request, &Silent);
        assert_eq!((told.deleted, told.extras), (1, vec!["b/extra".to_owned()]));
        let kept = fs::read_to_string(request.target.join("b/4")).unwrap();
        assert_eq!(kept, "of today");
        assert!(!request.target.join("b/extra").exists());
    }
}

#[test]
fn a_restore_that_is_stopped_between_rounds_deletes_nothing_and_can_be_made_again() {
    let world = World::of(oddities, &[]);
    for items in [1, 2, 3] {
        let mut request = world.request(&format!("{items}"));
        world.restore(items, &request, &Silent);
        clutter(&request.target);
        (request.overwrite, request.exact) = (Overwrite::Always, true);
        let stop = AtomicBool::new(false);
        let sums = Sums {
            sums: Mutex::default(),
            stop: (&stop, 4),
        };
        let stopped = world.restore_until(items, &request, &sums, &stop);
        assert!(matches!(stopped, Err(RestoreError::Stopped)), "{stopped:?}");
        for name in ["extra", "a/deep/er/extra", "c/folder/in/file"] {
            assert!(request.target.join(name).exists(), "{name}");
        }
        world.restore(items, &request, &Silent);
        assert_same(&world.media(), &request.target);
    }
}

#[test]
fn damaged_chunks_cost_the_same_files_whatever_the_rounds() {
    let world = World::of(oddities, &[]);
    world.damage();
    let whole = world.restore(usize::MAX, &world.request("whole"), &Silent);
    assert!(!whole.problems.is_empty());
    for items in SIZES {
        let name = format!("rounds of {items}");
        let told = world.restore(items, &world.request(&name), &Silent);
        assert_eq!(told, whole);
        let options = CompareOptions::default();
        let (one, other) = (
            world.scratch.path().join("whole"),
            world.scratch.path().join(name),
        );
        assert!(compare(&one, &other, &options).unwrap().is_empty());
        assert_eq!(
            fs::metadata(one.join("d/e")).unwrap().mtime(),
            fs::metadata(world.media().join("d/e")).unwrap().mtime()
        );
    }
}

#[test]
fn a_folder_is_open_to_others_as_soon_as_its_round_is_over() {
    /// Looks at the first folder when the second round begins.
    struct Look(PathBuf, Mutex<Vec<u32>>);
    impl Progress for Look {
        fn phase(&self, what: &str) {
            if what == "Restoring files"
                && let Ok(found) = fs::metadata(self.0.join("first"))
            {
                self.1.lock().unwrap().push(found.mode() & 0o777);
            }
        }
        fn expect(&self, _counter: Counter, _amount: u64) {}
        fn count(&self, _counter: Counter, _amount: u64) {}
        fn problem(&self, what: &str) {
            panic!("nothing is wrong, but it was told: {what}");
        }
    }
    let make = |path: &Path| {
        for folder in ["first", "second", "third"] {
            fs::create_dir(path.join(folder)).unwrap();
            fs::write(path.join(folder).join("file"), folder).unwrap();
            let mode = fs::Permissions::from_mode(0o755);
            fs::set_permissions(path.join(folder), mode).unwrap();
        }
    };
    let world = World::of(make, &[]);
    let request = world.request("target");
    let look = Look(request.target.clone(), Mutex::default());
    world.restore(1, &request, &look);
    let modes = look.1.into_inner().unwrap();
    assert_eq!(modes.first(), Some(&0o700), "while its file is on the way");
    assert_eq!(modes.last(), Some(&0o755), "and behind that");
}

#[test]
fn in_a_folder_whose_tree_ends_in_the_middle_nothing_is_deleted() {
    let (mut tree, mut scratch) = (Vec::new(), Vec::new());
    for name in [b"b", b"d"] {
        let file = Entry {
            mode: 0o600,
            ..Entry::new(EntryKind::File, name)
        };
        put_entry(&mut tree, &file, &mut scratch);
    }
    let whole = World::forged(&tree);
    tree.extend_from_slice(&[9, 1]);
    let broken = World::forged(&tree);
    for (world, deleted, problems) in [(&whole, 3, 0), (&broken, 0, 1)] {
        for items in SIZES {
            let mut request = world.request(&format!("{items}"));
            fs::create_dir(&request.target).unwrap();
            for name in ["a", "c", "e"] {
                fs::write(request.target.join(name), "extra").unwrap();
            }
            (request.overwrite, request.exact) = (Overwrite::Always, true);
            let told = world.restore(items, &request, &Silent);
            assert_eq!(told.files, 2, "what can be read is restored: {told:?}");
            assert_eq!((told.deleted, told.extras.len() as u64), (deleted, deleted));
            assert_eq!(told.problems.len(), problems, "{told:?}");
            assert_eq!(request.target.join("c").exists(), deleted == 0);
        }
    }
}

#[test]
fn an_entry_that_is_refused_costs_none_of_its_neighbours_and_nothing_is_deleted_beside_it() {
    let (mut tree, mut scratch) = (Vec::new(), Vec::new());
    for (name, mode) in [(b"a", 0o600), (b"b", 0o1_0000), (b"c", 0o600)] {
        let file = Entry {
            mode,
            ..Entry::new(EntryKind::File, name)
        };
        put_entry(&mut tree, &file, &mut scratch);
    }
    let world = World::forged(&tree);
    for items in SIZES {
        let mut request = world.request(&format!("all {items}"));
        let told = world.restore(items, &request, &Silent);
        assert_eq!(told.files, 2, "{told:?}");
        let [problem] = &told.problems[..] else {
            panic!("{told:?}");
        };
        assert!(problem.starts_with("media/b: "), "{problem}");
        fs::write(request.target.join("b"), "kept").unwrap();
        (request.overwrite, request.exact) = (Overwrite::Always, true);
        let told = world.restore(items, &request, &Silent);
        assert_eq!((told.deleted, told.extras.len()), (0, 0), "{told:?}");
        assert!(request.target.join("b").exists() && !told.problems.is_empty());

        // A rehearsal tells the same.
        let mut request = world.request(&format!("rehearsed {items}"));
        request.dry_run = true;
        let told = world.restore(items, &request, &Silent);
        assert_eq!((told.files, told.problems.len()), (2, 1), "{told:?}");
        assert!(told.problems[0].starts_with("media/b: "), "{told:?}");

        // Whoever asks for a neighbour hears nothing of it.
        let mut request = world.request(&format!("one {items}"));
        request.paths = vec![b"media/a".to_vec(), b"media/c".to_vec()];
        let told = world.restore(items, &request, &Silent);
        assert_eq!((told.files, told.problems.len()), (2, 0), "{told:?}");
    }
}

/// What is told of an item, or that it cannot be read.
fn told_of(path: &[u8], is_read: bool) -> String {
    let path = String::from_utf8(path.to_vec()).unwrap();
    if is_read { path } else { format!("{path}!") }
}

/// A tree of files with these names and modes.
fn tree_of(files: &[(&[u8], u32)]) -> Vec<u8> {
    let (mut tree, mut scratch) = (Vec::new(), Vec::new());
    for (name, mode) in files {
        let file = Entry {
            mode: *mode,
            ..Entry::new(EntryKind::File, name)
        };
        put_entry(&mut tree, &file, &mut scratch);
    }
    tree
}

const REFUSED: u32 = 0o1_0000;

#[test]
fn a_list_goes_on_behind_an_entry_that_is_refused() {
    let mut tree = tree_of(&[(b"a", 0o600), (b"b", REFUSED), (b"c", 0o600)]);
    for rest in [&[][..], &[9, 1]] {
        tree.extend_from_slice(rest);
        let world = World::forged(&tree);
        let snapshot = world.repository.snapshots().unwrap().snapshots.remove(0);
        let reader = world.repository.reader(snapshot.head.domain).unwrap();
        let mut told = Vec::new();
        walk_tree(&reader, &snapshot.head.root, b"", &mut |path, item| {
            told.push(told_of(path, item.is_ok()));
            Step::Into
        })
        .unwrap();
        let mut expected = vec!["media", "media/a", "media/b!", "media/c"];
        expected.extend((!rest.is_empty()).then_some("media!"));
        assert_eq!(told, expected);
    }
}

#[test]
fn a_comparison_goes_on_behind_an_entry_that_is_refused_and_takes_nothing_lost_for_removed() {
    let refused = (&b"b"[..], REFUSED);
    let first = tree_of(&[(b"a", 0o600), refused, (b"c", 0o600), (b"e", 0o600)]);
    let second = tree_of(&[(b"a", 0o644), (b"b", 0o600), (b"d", 0o600), (b"e", 0o600)]);
    let mut cut = tree_of(&[(b"a", 0o644)]);
    cut.extend_from_slice(&[9, 1]);
    for (second, expected) in [
        (second, vec!["media/a", "media/b!", "media/c", "media/d"]),
        (cut, vec!["media/a", "media!"]),
    ] {
        let mut world = World::forged(&first);
        world.forge(&second, &[]);
        let snapshots = world.repository.snapshots().unwrap().snapshots;
        let reader = world.repository.reader(snapshots[0].head.domain).unwrap();
        for order in [[0, 1], [1, 0]] {
            let sides = order.map(|number| (&reader, &snapshots[number]));
            let mut told = Vec::new();
            diff(sides[0], sides[1], &mut |path, differing| {
                told.push(told_of(path, differing.is_ok()));
                true
            })
            .unwrap();
            assert_eq!(told, expected);
        }
    }
}

#[test]
fn damage_behind_all_that_is_wanted_is_no_problem() {
    let (mut tree, mut scratch) = (Vec::new(), Vec::new());
    put_entry(
        &mut tree,
        &Entry::new(EntryKind::File, b"file"),
        &mut scratch,
    );
    let world = World::forged_beside(&tree, &[9, 1]);
    for (whole, put_tree, problems) in [(false, false, 0), (false, true, 0), (true, false, 1)] {
        let mut request = world.request(&format!("{whole} {put_tree}"));
        request.tree = put_tree;
        if whole {
            request.paths.clear();
        }
        let told = world.restore(usize::MAX, &request, &Silent);
        assert_eq!(
            (told.files, told.problems.len()),
            (1, problems),
            "{whole} {put_tree}: {told:?}"
        );
    }
}

#[test]
fn a_file_without_chunks_is_made_if_it_is_empty_and_told_if_it_is_not() {
    let nothing = StreamRef::empty(Profile::Files).encode();
    let (mut tree, mut scratch) = (Vec::new(), Vec::new());
    for (name, size, content) in [
        (b"a", 0, Content::Stream(&nothing)),
        (b"b", 5, Content::Stream(&nothing)),
        (b"c", 5, Content::None),
        (b"d", 0, Content::None),
    ] {
        let file = Entry {
            size,
            content,
            ..Entry::new(EntryKind::File, name)
        };
        put_entry(&mut tree, &file, &mut scratch);
    }
    let world = World::forged(&tree);
    for items in SIZES {
        let request = world.request(&format!("{items}"));
        let told = world.restore(items, &request, &Silent);
        assert_eq!((told.files, told.problems.len()), (2, 2), "{told:?}");
        let made = ["a", "b", "c", "d"].map(|name| request.target.join(name).exists());
        assert_eq!(made, [true, false, false, true]);
    }
}

#[test]
fn what_is_stopped_while_it_looks_says_so_and_changes_nothing() {
    let world = World::of(oddities, &[]);
    let stop = AtomicBool::new(true);
    for (exact, dry_run) in [(true, false), (true, true), (false, true), (false, false)] {
        let mut request = world.request("target");
        (request.exact, request.dry_run) = (exact, dry_run);
        request.overwrite = Overwrite::Always;
        let stopped = world.restore_until(usize::MAX, &request, &Silent, &stop);
        assert!(matches!(stopped, Err(RestoreError::Stopped)), "{stopped:?}");
        assert!(!request.target.exists());
    }
}
