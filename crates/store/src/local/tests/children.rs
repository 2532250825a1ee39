//! Tests that need a process of their own: a full or read-only file system, a limit, a kill.
//!
//! Such a test starts this test program again, for that one test, inside the surroundings it needs.
//! A mount is private to the child's mount namespace and vanishes with it.

use super::*;
use std::path::PathBuf;
use std::process::Stdio;

/// The folder that a child works in.
const FOLDER_OF_CHILD: &str = "LIFEBOAT_STORE_TEST_FOLDER";

/// The folder to work in, when this process is the child.
fn child_folder() -> Option<PathBuf> {
    std::env::var_os(FOLDER_OF_CHILD).map(PathBuf::from)
}

/// A shell command that prepares the surroundings and then becomes this test program, running one
/// test. The shell finds the folder as `$0` and the program with its arguments as `$@`.
fn child(test: &str, folder: &Path, prepare: &str, namespace: bool) -> Command {
    let mut command = if namespace {
        let mut unshare = Command::new("unshare");
        unshare.arg("--mount");
        if !rustix::process::getuid().is_root() {
            unshare.arg("--map-root-user");
        }
        unshare.arg("sh");
        unshare
    } else {
        Command::new("sh")
    };
    command
        .arg("-c")
        .arg(format!("{prepare} && exec \"$@\""))
        .arg(folder)
        .arg(std::env::current_exe().unwrap())
        .arg("--exact")
        .arg(format!("local::tests::children::{test}"))
        .env(FOLDER_OF_CHILD, folder);
    command
}

fn expect_success(mut command: Command) {
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && said.contains("1 passed"),
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Whether a mount of one's own is allowed here, as it is for root and in most user namespaces.
fn can_mount() -> bool {
    let folder = tempfile::tempdir().unwrap();
    let mut probe = child(
        "",
        folder.path(),
        "mount -t tmpfs none \"$0\" && exit 0",
        true,
    );
    let allowed = probe.status().is_ok_and(|status| status.success());
    if !allowed {
        println!("mounts are not allowed here: only the limit of file sizes was tested");
    }
    allowed
}

/// Fills a store until it is full and expects it to stay sound.
fn expect_a_full_store_to_stay_sound(folder: &Path, object: &[u8]) {
    for named in [false, true] {
        let store = LocalStore::open(folder).unwrap();
        if named {
            store.puts.unnamed_files.store(false, Ordering::Relaxed);
        }
        put(&store, "small", b"fits").unwrap();
        let mut fitting = 0;
        let error = loop {
            match put(&store, &format!("packs/{fitting}"), object) {
                Ok(()) => fitting += 1,
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), ErrorKind::Full, "{error}");
        let mut file = Ok(spool(&store).unwrap());
        if let Ok(spool) = &file
            && let Err(error) = spool.write_all_at(object, 0)
        {
            file = Err(error);
        }
        if let Err(error) = file {
            assert_eq!(ErrorKind::of_io(&error), ErrorKind::Full);
        }
        assert_eq!(listed(&store).len(), fitting + 1);
        store
            .list("packs/", &mut |listed| {
                assert_eq!(listed.len, object.len() as u64);
            })
            .unwrap();

        // Deleting needs no space, and what it frees can be used again.
        for number in 0..fitting {
            store.delete(&name(&format!("packs/{number}"))).unwrap();
        }
        store.delete(&name("small")).unwrap();
        put(&store, "small", b"fits").unwrap();
        store.delete(&name("small")).unwrap();
    }
}

#[test]
fn a_full_disk_fails_the_put_and_nothing_else() {
    const NAME: &str = "a_full_disk_fails_the_put_and_nothing_else";
    if let Some(folder) = child_folder() {
        expect_a_full_store_to_stay_sound(&folder, &[7; 300_000]);
    } else if can_mount() {
        let folder = tempfile::tempdir().unwrap();
        expect_success(child(
            NAME,
            folder.path(),
            "mount -t tmpfs -o size=1m none \"$0\"",
            true,
        ));
    }
}

#[test]
fn a_limit_of_file_sizes_counts_as_full() {
    const NAME: &str = "a_limit_of_file_sizes_counts_as_full";
    if let Some(folder) = child_folder() {
        expect_a_full_store_to_stay_sound(&folder, &[7; 300_000]);
    } else {
        let folder = tempfile::tempdir().unwrap();
        // Without the trap the system ends a process that passes the limit.
        expect_success(child(
            NAME,
            folder.path(),
            "trap '' XFSZ && ulimit -f 64",
            false,
        ));
    }
}

#[test]
fn a_read_only_file_system_can_be_read_and_denies_the_rest() {
    const NAME: &str = "a_read_only_file_system_can_be_read_and_denies_the_rest";
    if let Some(folder) = child_folder() {
        let store = LocalStore::open(&folder).unwrap();
        assert_eq!(listed(&store), ["packs/a"]);
        assert_eq!(store.get(&name("packs/a"), 1).unwrap(), b"1");
        for text in ["b", "packs/b", "new/b"] {
            assert_eq!(
                put(&store, text, b"x").unwrap_err().kind(),
                ErrorKind::Denied
            );
        }
        assert_eq!(
            put(&store, "packs/a", b"x").unwrap_err().kind(),
            ErrorKind::AlreadyExists
        );
        assert_eq!(
            store.delete(&name("packs/a")).unwrap_err().kind(),
            ErrorKind::Denied
        );
        assert_eq!(spool(&store).unwrap_err().kind(), ErrorKind::Denied);
    } else if can_mount() {
        let (folder, store) = new_store();
        put(&store, "packs/a", b"1").unwrap();
        let prepare = "mount --bind \"$0\" \"$0\" && mount -o remount,bind,ro \"$0\"";
        expect_success(child(NAME, folder.path(), prepare, true));
    }
}

#[test]
fn a_kill_at_any_moment_leaves_whole_objects_only() {
    const NAME: &str = "a_kill_at_any_moment_leaves_whole_objects_only";
    const LEN: usize = 200_000;
    if let Some(folder) = child_folder() {
        // Works until it is killed; each object is full of its number's last byte.
        let store = LocalStore::open(&folder).unwrap();
        let first = listed(&store).len();
        if first % 2 == 1 {
            store.puts.unnamed_files.store(false, Ordering::Relaxed);
        }
        for number in first.. {
            put(
                &store,
                &format!("packs/{number}"),
                &[number.to_le_bytes()[0]; LEN],
            )
            .unwrap();
        }
    }
    let (folder, store) = new_store();
    for round in 1..=8 {
        let mut worker = child(NAME, folder.path(), "true", false)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(40 + 13 * round));
        worker.kill().unwrap();
        worker.wait().unwrap();

        for text in listed(&store) {
            let number: usize = text.strip_prefix("packs/").unwrap().parse().unwrap();
            let bytes = store.get(&name(&text), u64::MAX).unwrap();
            assert_eq!(bytes, [number.to_le_bytes()[0]; LEN], "{text} is torn");
        }
    }
    assert!(!listed(&store).is_empty(), "no child came to work");
    put(&store, "after", b"1").unwrap();
}
