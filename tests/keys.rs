//! Keys and replicas: what each key may do is said as it is, and nothing is called tampering that is not.
//!
//! **Invariant**: an alarm means that the storage shows less than it was given; a key that reads nothing raises none,
//! and neither does a replica that only lacks a copy.

use std::{fs, os::unix::fs::PermissionsExt, path::Path, process::Command};

use crate::support::{
    program::{Lifeboat, Ran},
    trees::Tree,
};

/// A machine with a repository, and a folder that was backed up once.
fn machine() -> (Lifeboat, Tree) {
    let machine = Lifeboat::with_repository();
    let tree = Tree::create(machine.path("media"));
    tree.file("a.txt", "a");
    back_up(&machine, &tree).done();
    (machine, tree)
}

fn back_up(machine: &Lifeboat, tree: &Tree) -> Ran {
    let source = tree.root().to_str().expect("our own paths are text");
    machine.run(["backup", "--app", "shop", "--source", source])
}

/// The program on another machine: with a cache and a state of its own, and this key.
fn elsewhere(machine: &Lifeboat, key: &Path) -> Command {
    let mut command = machine.command();
    for (variable, folder) in [("XDG_CACHE_HOME", "cache2"), ("XDG_STATE_HOME", "state2")] {
        fs::create_dir_all(machine.path(folder)).unwrap();
        command.env(variable, machine.path(folder));
    }
    command.env("LIFEBOAT_KEY_FILE", key);
    command
}

#[test]
fn a_key_that_makes_backups_only_says_so_and_raises_no_alarm() {
    let (machine, tree) = machine();
    let key = machine.path("web1.key");
    let add = ["key", "add", "--write-only", "-o", "web1.key"];
    machine.run(add).done();
    let host = |words: &[&str]| {
        let mut command = elsewhere(&machine, &key);
        command.args(words);
        Ran::of(command)
    };
    let source = tree.root().to_str().unwrap();
    for _ in 0..2 {
        host(&["backup", "--app", "web", "--source", source]).done();
    }
    let reading: [&[&str]; 14] = [
        &["snapshots"],
        &["ls", "web"],
        &["find", "a.txt"],
        &["diff", "web~1", "web"],
        &["stats"],
        &["stats", "web"],
        &["restore", "web", "--target", "back"],
        &["restore-db", "web", "--to", "postgres:///x"],
        &["dump", "web:media/a.txt"],
        &["check"],
        &["copy", "--to", "repository"],
        &["tag", "web", "--add", "x"],
        &["pin", "web"],
        &["unpin", "web"],
    ];
    for cache in ["as it was", "lost"] {
        for words in reading {
            let ran = host(words);
            assert!(ran.stdout().is_empty(), "{cache}: {ran:?}");
            let said = ran.explains(12);
            let reason = "error: this key makes backups and reads nothing\n";
            assert!(said.starts_with(reason), "{cache}: {said}");
        }
        fs::remove_dir_all(machine.path("cache2")).unwrap();
    }
    assert_eq!(
        machine
            .run(["snapshots", "--json"])
            .done()
            .answer()
            .as_array()
            .unwrap()
            .len(),
        3
    );
}

#[test]
fn a_replica_that_is_behind_is_called_so_and_one_that_was_rolled_back_is_not_overlooked() {
    let (machine, tree) = machine();
    let replica = |words: &[&str]| {
        let mut command = machine.command();
        command
            .env("LIFEBOAT_REPOSITORY", machine.path("replica"))
            .env("LIFEBOAT_KEY_FILE", machine.path("replica.key"))
            .args(words);
        Ran::of(command)
    };
    let repository = machine.repository();
    let mut init = machine.command();
    init.env("LIFEBOAT_REPOSITORY", machine.path("replica"))
        .args(["init", "--key-file", "replica.key", "--replica-of"])
        .arg(&repository);
    Ran::of(init).done();
    let copy = || {
        let mut command = machine.command();
        command
            .env("LIFEBOAT_TO_KEY_FILE", machine.path("replica.key"))
            .args(["copy", "--to", "replica"]);
        Ran::of(command).done()
    };
    copy();
    let kept = machine.path("kept");
    Ran::of({
        let mut command = machine.command_of("cp");
        command.arg("-a").arg(machine.path("replica")).arg(&kept);
        command
    })
    .done();
    back_up(&machine, &tree).done();

    let ran = replica(&["snapshots"]).done();
    assert!(ran.stderr.contains("lacks 1 snapshot of shop"), "{ran:?}");
    assert!(!ran.stderr.contains("warning"), "{ran:?}");
    replica(&["check"]).done();
    machine.run(["snapshots"]).done();

    copy();
    let ran = replica(&["snapshots"]).done();
    assert!(!ran.stderr.contains("lacks"), "{ran:?}");

    // Somebody puts the old state back.
    fs::rename(machine.path("replica"), machine.path("gone")).unwrap();
    fs::rename(&kept, machine.path("replica")).unwrap();
    for verb in ["snapshots", "check"] {
        let ran = replica(&[verb]).ends_with_code(4);
        assert!(ran.stderr.contains("was rolled back"), "{ran:?}");
    }
    machine.run(["snapshots"]).done();
    // The number of a snapshot that any replica was given is not used again.
    let source = tree.root().to_str().unwrap();
    replica(&["backup", "--app", "shop", "--source", source]).done();
    replica(&["snapshots"]).done();
}

#[test]
fn no_advice_is_given_about_a_folder_that_is_no_repository() {
    let machine = Lifeboat::new();
    let folder = machine.path("app");
    fs::create_dir(&folder).unwrap();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
    for verb in ["snapshots", "verify-store"] {
        let mut command = machine.command();
        command
            .env_remove("LIFEBOAT_KEY_FILE")
            .args([verb, "-r", "app", "-p", "passphrase"]);
        let ran = Ran::of(command);
        assert!(!ran.explains(10).contains("chmod"), "{ran:?}");
    }
}

#[test]
fn a_rotation_names_the_write_only_keys_that_it_leaves_out() {
    let (machine, _) = machine();
    let rotated = machine.run(["key", "rotate"]).done();
    assert!(rotated.stdout().contains("generation 2"), "{rotated:?}");
    assert!(!rotated.stdout().contains("write-only"), "{rotated:?}");
    let add = |label: &str| {
        let file = format!("{label}.key");
        let words = ["key", "add", "--write-only", "-o", &file, "--label", label];
        machine.run(words).done();
    };
    let outdated = || {
        let listed = machine.run(["key", "list", "--json"]).done().answer();
        let keys = listed.as_array().unwrap().iter();
        let outdated = keys.filter(|key| key["outdated"] == true);
        outdated.cloned().collect::<Vec<_>>()
    };
    add("web1");
    assert!(outdated().is_empty());

    let rotated = machine.run(["key", "rotate"]).done();
    let told = rotated.stdout();
    assert!(told.contains("goes on with the old ones"), "{told}");
    assert!(
        told.contains("web1") && !told.contains("recovery"),
        "{told}"
    );
    let listed = machine.run(["key", "list"]).done();
    let of_web1 = listed.stdout().lines().find(|line| line.contains("web1"));
    assert!(of_web1.unwrap().contains("has old keys"), "{listed:?}");
    let old = outdated();
    assert_eq!((old.len(), &old[0]["label"]), (1, &"web1".into()));

    add("web2");
    let id = old[0]["id"].as_str().unwrap();
    machine.run(["key", "remove", id]).done();
    assert!(outdated().is_empty());
    let rotated = machine.run(["key", "rotate", "--json"]).done().summary();
    assert_eq!(rotated["generation"], 4);
    let left_out = rotated["outdated"].as_array().unwrap();
    assert_eq!((left_out.len(), &left_out[0]["label"]), (1, &"web2".into()));
}

#[test]
fn a_recovery_key_is_removed_only_on_purpose_and_never_shown_when_it_opens_nothing() {
    let (machine, _) = machine();
    let show = || machine.run(["recovery-key", "show"]);
    let opens = |repository: &str, key: &str| {
        fs::write(machine.path("paper"), key).unwrap();
        let mut command = machine.command();
        command.env_remove("LIFEBOAT_KEY_FILE");
        command.args(["snapshots", "-p", "paper", "-r", repository]);
        Ran::of(command).code
    };
    let first = show().done().stdout().to_owned();
    assert_eq!(opens("repository", &first), 0);

    let listed = machine.run(["key", "list", "--json"]).done().answer();
    let keys = listed.as_array().unwrap();
    let slot = keys.iter().find(|key| key["kind"] == "recovery key");
    let slot = slot.unwrap()["id"].as_str().unwrap();
    let refused = machine.run(["key", "remove", slot]);
    assert!(refused.explains(14).contains("recovery-key new"));
    assert_eq!(opens("repository", &first), 0);
    machine.run(["key", "remove", slot, "--yes"]).done();
    assert_eq!(opens("repository", &first), 12);
    let gone = show();
    assert!(gone.stdout().is_empty(), "{gone:?}");
    assert!(gone.explains(12).contains("was removed"));

    // A replica is not opened by what was taken from its original.
    let mut init = machine.command();
    init.args(["init", "-r", "replica", "--key-file", "replica.key"]);
    init.args(["--json", "--replica-of", "repository"]);
    let of_replica = Ran::of(init).done().summary()["recovery_key"].clone();
    assert_eq!(opens("replica", &first), 12);
    assert_eq!(opens("replica", of_replica.as_str().unwrap()), 0);

    let new = || {
        let made = machine.run(["recovery-key", "new", "--json"]).done();
        made.summary()["recovery_key"].as_str().unwrap().to_owned()
    };
    let second = new();
    assert_eq!(show().done().stdout().trim_end(), second);
    let third = new();
    let opened = [&first, &second, &third].map(|key| opens("repository", key));
    assert_eq!(opened, [12, 12, 0]);
    machine.run(["check", "--read-data"]).done();

    // Nobody saws off the branch on which he sits.
    let mut command = machine.command();
    command.env_remove("LIFEBOAT_KEY_FILE");
    command.args(["recovery-key", "new", "-p", "paper"]);
    Ran::of(command).explains(14);
    assert_eq!(opens("repository", &third), 0);
}

#[test]
fn no_key_that_is_needed_to_get_in_can_be_removed() {
    let (machine, _) = machine();
    let listed = machine.run(["key", "list", "--json"]).done().answer();
    let mut last = None;
    for key in listed.as_array().unwrap() {
        let id = key["id"].as_str().unwrap();
        if key["current"] == true {
            last = Some(id.to_owned());
        } else {
            machine.run(["key", "remove", id, "--yes"]).done();
        }
    }
    machine
        .run(["key", "remove", &last.unwrap(), "--yes"])
        .explains(14);
    machine.run(["snapshots"]).done();
}

#[test]
fn one_passphrase_is_not_two_keys() {
    let (machine, _) = machine();
    fs::write(machine.path("second"), "other words, long enough\n").unwrap();
    let words = ["key", "add", "--new-password-file", "second"];
    machine.run(words).done();
    let again = machine.run(words);
    assert!(
        again
            .explains(14)
            .contains("opens with this passphrase already")
    );
    let listed = machine.run(["key", "list", "--json"]).done().answer();
    assert_eq!(listed.as_array().unwrap().len(), 4);
}
