//! Trees of files, made in a few words; the same words make the same bytes.

use std::{
    fs,
    os::unix::fs::{FileExt, PermissionsExt, symlink},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use lifeboat_files::{CompareOptions, compare};

/// A folder that a test fills.
pub(crate) struct Tree {
    root: PathBuf,
}

impl Tree {
    /// Makes an empty folder.
    pub(crate) fn create(root: impl Into<PathBuf>) -> Self {
        let root = root.into();
        fs::create_dir_all(&root).expect("the folder of a tree can be made");
        Self { root }
    }

    /// The folder.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Writes a file, and the folders above it where they lack.
    pub(crate) fn file(&self, path: &str, content: impl AsRef<[u8]>) -> &Self {
        fs::write(self.place(path), content).expect("a file of a tree can be written");
        self
    }

    /// Makes a file of `len` bytes of which only the last few are not a hole.
    pub(crate) fn sparse_file(&self, path: &str, len: u64) -> &Self {
        let end = b"the end";
        let file = fs::File::create(self.place(path)).expect("a file of a tree can be made");
        let start = len.checked_sub(end.len() as u64);
        file.write_all_at(end, start.expect("the file has room for its end"))
            .expect("a file of a tree can be written");
        self
    }

    /// Makes an empty folder, and those above it.
    pub(crate) fn folder(&self, path: &str) -> &Self {
        fs::create_dir_all(self.root.join(path)).expect("a folder of a tree can be made");
        self
    }

    /// Makes a symbolic link with this text, which may lead nowhere.
    pub(crate) fn link(&self, path: &str, target: &str) -> &Self {
        symlink(target, self.place(path)).expect("a link of a tree can be made");
        self
    }

    /// Gives a file a second name.
    pub(crate) fn second_name(&self, path: &str, of: &str) -> &Self {
        fs::hard_link(self.root.join(of), self.place(path)).expect("a file can have two names");
        self
    }

    /// Sets the permission bits.
    pub(crate) fn mode(&self, path: &str, mode: u32) -> &Self {
        fs::set_permissions(self.root.join(path), fs::Permissions::from_mode(mode))
            .expect("our own file's mode can be set");
        self
    }

    /// Sets a file's modification time, in nanoseconds since 1970.
    pub(crate) fn modified(&self, path: &str, nanoseconds: u64) -> &Self {
        let time = SystemTime::UNIX_EPOCH + Duration::from_nanos(nanoseconds);
        fs::File::options()
            .write(true)
            .open(self.root.join(path))
            .and_then(|file| file.set_modified(time))
            .expect("our own file's time can be set");
        self
    }

    /// Removes a file, or a folder with all that is in it.
    pub(crate) fn remove(&self, path: &str) -> &Self {
        let path = self.root.join(path);
        let removed = if path
            .symlink_metadata()
            .is_ok_and(|metadata| metadata.is_dir())
        {
            fs::remove_dir_all(&path)
        } else {
            fs::remove_file(&path)
        };
        removed.expect("an entry of a tree can be removed");
        self
    }

    /// What a media folder may look like: `files` files of very different sizes in a few folders, a link, a second
    /// name, an empty folder, a file with holes and a name that is no UTF-8.
    pub(crate) fn media(&self, seed: u64, files: u64) -> &Self {
        for number in 0..files {
            let path = format!("{:02}/item-{number:05}.bin", number % 7);
            // Most are small, a few are larger than a chunk.
            let len = match number % 50 {
                0 => 3_000_000 + number,
                1..10 => 40_000 + 997 * number,
                _ => 17 * number,
            };
            let len = usize::try_from(len).expect("tests make small files");
            self.file(&path, noise(seed ^ (number + 1), len));
        }
        self.folder("empty")
            .link("newest", "00/item-00000.bin")
            .file("notes.txt", text(seed, 20_000))
            .second_name("notes-again.txt", "notes.txt")
            .mode("notes.txt", 0o640)
            .modified("notes.txt", 1_000_000_000_123_456_789)
            .sparse_file("disk.img", 5_000_000);
        let odd = std::os::unix::ffi::OsStrExt::from_bytes(b"caf\xe9 \n.txt");
        fs::write(self.root.join::<&std::ffi::OsStr>(odd), "any byte\n")
            .expect("a file of a tree can be written");
        self
    }

    fn place(&self, path: &str) -> PathBuf {
        let place = self.root.join(path);
        let parent = place.parent().expect("a path in a tree has a parent");
        fs::create_dir_all(parent).expect("a folder of a tree can be made");
        place
    }
}

/// Bytes that no compression shortens.
pub(crate) fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        bytes.extend_from_slice(&next(&mut state).to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// Lines of words.
pub(crate) fn text(seed: u64, len: usize) -> String {
    const WORDS: [&str; 16] = [
        "harbour", "keel", "anchor", "mast", "tide", "rope", "sail", "rudder", "buoy", "deck",
        "bow", "stern", "oar", "pier", "gale", "chart",
    ];
    let mut state = seed;
    let mut text = String::with_capacity(len + 16);
    while text.len() < len {
        let drawn = next(&mut state);
        let word = usize::try_from(drawn >> 60).expect("four bits are a word's number");
        text.push_str(WORDS[word]);
        text.push(if drawn.is_multiple_of(11) { '\n' } else { ' ' });
    }
    text.truncate(len);
    text
}

/// The next number of SplitMix64.
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[test]
fn the_same_words_make_the_same_tree() {
    let folder = tempfile::tempdir().unwrap();
    let trees = ["one", "two"].map(|name| Tree::create(folder.path().join(name)));
    for tree in &trees {
        tree.media(7, 60).remove("00/item-00007.bin");
    }
    let but_times = CompareOptions {
        times: false,
        ..CompareOptions::default()
    };
    let differences = compare(trees[0].root(), trees[1].root(), &but_times).unwrap();
    assert!(differences.is_empty(), "{differences:?}");
    assert_ne!(noise(1, 100), noise(2, 100));
    assert_eq!(text(1, 333).len(), 333);
}

/// A dump of rows, each with a word that nothing compresses; of every row of 200 the word depends on the night.
pub(crate) fn dump(night: u64) -> Vec<u8> {
    let words = noise(1, 60_000 * 8);
    let mut text = format!("-- night {night}\n").into_bytes();
    for (row, word) in words.chunks(8).enumerate() {
        let row = row as u64;
        let changed = if (row * 7919 + night).is_multiple_of(200) {
            night
        } else {
            0
        };
        let word = u64::from_le_bytes(word.try_into().unwrap());
        text.extend_from_slice(format!("{row}\t{word:x}\t{changed}\tplaced\n").as_bytes());
    }
    text
}
