//! A repository whose bytes were changed: what comes back is right, or an error; never anything else.
//!
//! **Invariant**: after any damage a file that a restore left in its target has the bytes that were backed up.
//!
//! Long form, by an environment variable: `LIFEBOAT_TEST_FLIPS` (60; the long form takes 500).

use std::{
    ffi::OsStr,
    fs,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    process::Command,
};

use crate::support::{
    long_form,
    program::{Lifeboat, Ran},
    trees::{Tree, noise, text},
};

/// A small repository with two snapshots of one folder, and a copy of it that nobody damages.
struct Bench {
    machine: Lifeboat,
    tree: Tree,
    whole: PathBuf,
    /// Paths of all objects, from the repository's folder.
    objects: Vec<PathBuf>,
}

impl Bench {
    fn new() -> Self {
        let machine = Lifeboat::with_repository();
        let tree = Tree::create(machine.path("media"));
        tree.file("letters/a.txt", text(1, 9_000))
            .file("letters/b.txt", text(2, 400))
            .file("picture.jpg", noise(3, 12_000))
            .file("empty", "")
            .link("newest", "picture.jpg");
        back_up(&machine, &tree);
        tree.file("picture-2.jpg", noise(4, 9_000));
        back_up(&machine, &tree);
        let whole = machine.path("whole");
        copy(&machine.repository(), &whole);
        let mut objects = Vec::new();
        list(&whole, Path::new(""), &mut objects);
        objects.sort();
        Self {
            machine,
            tree,
            whole,
            objects,
        }
    }

    /// Puts the whole repository back.
    fn mend(&self) {
        fs::remove_dir_all(self.machine.repository()).unwrap();
        copy(&self.whole, &self.machine.repository());
    }

    fn object(&self, number: u64) -> &Path {
        &self.objects[usize::try_from(number % self.objects.len() as u64).unwrap()]
    }

    /// Fails unless everything that a restore brings back is right. Returns whether all of it came.
    fn never_wrong(&self, what: &str) -> bool {
        let target = self.machine.path("back");
        // Both ways of finding things: by what this machine remembers, and by the repository alone.
        let mut all_came = true;
        for cache in ["cache", "no-cache"] {
            let mut restore = self.machine.command();
            restore
                .args(["restore", "shop:media", "--target"])
                .arg(&target);
            restore.arg("--cache-dir").arg(self.machine.path(cache));
            let ran = Ran::of(restore);
            assert!(
                matches!(ran.code, 0 | 1 | 3 | 4 | 10 | 12),
                "{what}: {ran:?}"
            );
            let all = self.holds_only_right_bytes(&target, what);
            if ran.code == 0 {
                // Older snapshots are right too, but the newest must not silently become an older one.
                assert!(all || ran.stderr.contains("warning:"), "{what}: {ran:?}");
            } else {
                assert!(
                    ran.stderr.contains("hint: ") || ran.code == 3,
                    "{what}: {ran:?}"
                );
            }
            all_came &= all && ran.code == 0;
            let _ = fs::remove_dir_all(&target);
            let _ = fs::remove_dir_all(self.machine.path("no-cache"));
        }
        all_came
    }

    /// Fails when a file in the target is not as it was backed up. Returns whether all files are there.
    fn holds_only_right_bytes(&self, target: &Path, what: &str) -> bool {
        let (mut files, mut there) = (Vec::new(), Vec::new());
        list(self.tree.root(), Path::new(""), &mut files);
        if target.exists() {
            list(target, Path::new(""), &mut there);
        }
        for path in &there {
            let restored = fs::read(target.join(path)).unwrap();
            let original = fs::read(self.tree.root().join(path));
            let original =
                original.unwrap_or_else(|_| panic!("{what}: {} was never there", path.display()));
            assert!(
                restored == original,
                "{what}: {} has wrong bytes",
                path.display()
            );
        }
        there.len() == files.len()
    }

    /// Fails unless a verification without any key names the object.
    fn is_named(&self, object: &Path, what: &str) {
        let mut verify = self.machine.command();
        let ran = Ran::of({
            verify.env_remove("LIFEBOAT_KEY_FILE").arg("verify-store");
            verify
        });
        assert_eq!(ran.code, 4, "{what}: {ran:?}");
        let said = format!("{}{}", ran.stdout(), ran.stderr);
        let name = object.to_str().unwrap();
        assert!(said.contains(name), "{what}: {name} is not named in {said}");
    }
}

fn back_up(machine: &Lifeboat, tree: &Tree) {
    let mut backup = machine.command();
    backup
        .args(["backup", "--app", "shop", "--source"])
        .arg(tree.root());
    Ran::of(backup).done();
}

fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-a").args([from, to]).status();
    assert!(copied.unwrap().success());
}

/// Paths of all files below `top`/`folder`, from `top`.
fn list(top: &Path, folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(top.join(folder)).unwrap().map(Result::unwrap) {
        let path = folder.join(entry.file_name());
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            list(top, &path, files);
        } else if kind.is_file() {
            files.push(path);
        }
    }
}

#[test]
fn flipped_bits_never_give_wrong_bytes() {
    let flips = long_form("LIFEBOAT_TEST_FLIPS", 60);
    let bench = Bench::new();
    assert!(bench.never_wrong("nothing is damaged"));
    let draws = noise(99, usize::try_from(flips * 3).unwrap() * 8);
    let (draws, _) = draws.as_chunks::<8>();
    let mut came_back = 0;
    for flip in draws.chunks_exact(3) {
        let [place, offset, bits] = [0, 1, 2].map(|index| u64::from_le_bytes(flip[index]));
        let object = bench.object(place);
        let path = bench.machine.repository().join(object);
        let file = fs::File::options()
            .read(true)
            .write(true)
            .open(&path)
            .unwrap();
        let offset = offset % file.metadata().unwrap().len();
        let mut byte = [0];
        file.read_exact_at(&mut byte, offset).unwrap();
        let flipped = byte[0] ^ [0x01, 0x80, 0xff][usize::try_from(bits % 3).unwrap()];
        file.write_all_at(&[flipped], offset).unwrap();
        drop(file);
        let what = format!(
            "byte {offset} of {} is {flipped:#x} instead of {:#x}",
            object.display(),
            byte[0]
        );
        came_back += u64::from(bench.never_wrong(&what));
        bench.is_named(object, &what);
        bench.mend();
    }
    println!("{came_back} of {flips} times all files came back");
    assert!(bench.never_wrong("everything is mended"));
}

#[test]
fn objects_cut_emptied_or_gone_never_give_wrong_bytes() {
    let bench = Bench::new();
    for object in &bench.objects {
        let path = bench.machine.repository().join(object);
        let length = fs::metadata(&path).unwrap().len();
        for left in [length - 1, length / 2, 0] {
            let file = fs::File::options().write(true).open(&path).unwrap();
            file.set_len(left).unwrap();
            drop(file);
            let what = format!("{} has {left} bytes left of {length}", object.display());
            bench.never_wrong(&what);
            bench.is_named(object, &what);
            bench.mend();
        }
        fs::remove_file(&path).unwrap();
        bench.never_wrong(&format!("{} is gone", object.display()));
        bench.mend();
    }
}

#[test]
fn objects_in_each_others_place_never_give_wrong_bytes() {
    let bench = Bench::new();
    let count = bench.objects.len();
    for (number, object) in bench.objects.iter().enumerate() {
        for step in [1, count / 2] {
            let other = &bench.objects[(number + step) % count];
            if object == other {
                continue;
            }
            let [one, two] = [object, other].map(|object| bench.machine.repository().join(object));
            let (first, second) = (fs::read(&one).unwrap(), fs::read(&two).unwrap());
            fs::write(&one, second).unwrap();
            fs::write(&two, first).unwrap();
            let what = format!("{} and {} are exchanged", object.display(), other.display());
            bench.never_wrong(&what);
            bench.is_named(object, &what);
            bench.mend();
        }
    }
}

#[test]
fn what_only_a_key_can_see_is_found_by_check() {
    let bench = Bench::new();
    bench.machine.run(["check", "--read-data"]).done();
    for object in &bench.objects {
        let path = bench.machine.repository().join(object);
        fs::remove_file(&path).unwrap();
        let what = format!("{} is gone", object.display());
        let ran = bench.machine.run(["check", "--read-data"]);
        // A key that is gone is missed by its owner alone; a snapshot that is gone, by the machine that made it.
        let is_told = matches!(ran.code, 4 | 10 | 12) || ran.stderr.contains("warning: ");
        assert!(is_told || object.starts_with("keys"), "{what}: {ran:?}");
        bench.mend();
    }
}

/// The list of what lies in `letters` is in the first backup's objects, the lists above it are in each backup's own.
#[test]
fn lists_go_on_behind_a_folder_that_cannot_be_read_and_end_with_3() {
    let machine = Lifeboat::with_repository();
    let tree = Tree::create(machine.path("media"));
    tree.file("letters/a.txt", text(1, 9_000));
    back_up(&machine, &tree);
    let mut lost = Vec::new();
    list(&machine.repository(), Path::new("packs/m"), &mut lost);
    tree.file("picture.jpg", noise(3, 12_000));
    back_up(&machine, &tree);
    tree.file("letters/b.txt", text(2, 400)).file("zebra", "z");
    back_up(&machine, &tree);
    for pack in &lost {
        fs::remove_file(machine.repository().join(pack)).unwrap();
    }
    fs::remove_dir_all(machine.path("cache")).unwrap();

    let target = machine.path("out");
    let target = target.to_str().unwrap();
    for (arguments, listed) in [
        (&["ls", "shop~1", "--recursive"][..], "media/picture.jpg"),
        (&["find", "*.jpg", "shop"], "media/picture.jpg"),
        (&["diff", "shop~1", "shop"], "media/zebra"),
        (&["restore", "shop~1", "-n", "--target", target], ""),
    ] {
        let ran = machine.run(arguments).ends_with_code(3);
        assert!(ran.stdout().contains(listed), "{ran:?}");
        let told = ran
            .stderr
            .lines()
            .any(|line| line.starts_with("problem: ") && line.contains("media/letters: "));
        assert!(told, "{ran:?}");
    }
    // Behind the whole answer, so that a program can read that.
    let ran = machine
        .run(["ls", "shop~1", "--recursive", "--json"])
        .ends_with_code(3);
    let (list, messages) = ran.stdout().split_once("]\n").unwrap();
    assert!(list.contains("media/picture.jpg"), "{ran:?}");
    assert!(messages.contains("media/letters: "), "{ran:?}");
    // What does not lie there is whole.
    machine.run(["ls", "shop", "--recursive"]).done();
    machine
        .run(["diff", "shop~1:media/zebra", "shop:media/zebra"])
        .done();
}

#[test]
fn who_looks_for_a_file_hears_of_a_snapshot_that_could_not_be_looked_into() {
    let bench = Bench::new();
    let found = bench.machine.run(["find", "picture.jpg"]).done();
    assert_eq!(found.stdout().lines().count(), 2, "{found:?}");
    let mut snapshots = bench.objects.iter().filter(|path| path.starts_with("snap"));
    let path = bench.machine.repository().join(snapshots.next().unwrap());
    let file = fs::File::options().write(true).open(path).unwrap();
    file.set_len(1).unwrap();
    fs::remove_dir_all(bench.machine.path("cache")).unwrap();
    let found = bench.machine.run(["find", "picture.jpg"]).ends_with_code(3);
    assert_eq!(found.stdout().lines().count(), 1, "{found:?}");
    assert!(
        found.stderr.contains("problem: ") && found.stderr.contains("snap/"),
        "{found:?}"
    );
}

#[test]
fn a_note_that_cannot_be_read_is_told_and_hides_nothing() {
    let bench = Bench::new();
    bench.machine.run(["tag", "shop", "--add", "kept"]).done();
    bench.machine.run(["pin", "shop"]).done();
    let notes = bench.machine.repository().join("notes");
    let mut names: Vec<_> = fs::read_dir(&notes)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    assert_eq!(names.len(), 2);
    names.sort();
    let mut bytes = fs::read(&names[0]).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::remove_file(&names[0]).unwrap();
    fs::write(&names[0], bytes).unwrap();
    fs::remove_dir_all(bench.machine.path("cache")).unwrap();

    let listed = bench.machine.run(["snapshots"]).ends_with_code(4);
    assert!(
        listed.stderr.contains("warning: ") && listed.stderr.contains("notes/"),
        "{listed:?}"
    );
    assert!(listed.stdout().contains("shop"), "{listed:?}");
    let target = bench.machine.path("out");
    let restored = bench
        .machine
        .run([
            OsStr::new("restore"),
            "shop".as_ref(),
            "--target".as_ref(),
            target.as_os_str(),
        ])
        .done();
    assert!(restored.stderr.contains("notes/"), "{restored:?}");
}
