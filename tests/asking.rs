//! What a person gets who asks for something that is not there, or mistypes it.
//!
//! **Invariant**: silence is no answer; what is mistyped is told apart from what is empty.

use crate::support::{
    program::{Lifeboat, Ran},
    trees::Tree,
};

/// A machine with one snapshot of the app `shop`.
fn machine() -> Lifeboat {
    let machine = Lifeboat::with_repository();
    let tree = Tree::create(machine.path("media"));
    tree.file("2026/logo.png", "a picture");
    ask(&machine, "backup --app shop --source media").done();
    machine
}

fn ask(machine: &Lifeboat, words: &str) -> Ran {
    machine.run(words.split(' '))
}

#[test]
fn a_wrong_command_line_is_told_in_three_lines() {
    let machine = Lifeboat::new();
    for words in [
        "snaphots",
        "snapshots --reppo x",
        "restore shop",
        "restore shop --target x --overwrite sometimes",
        "tag shop",
        "log nosuch",
    ] {
        let mut command = machine.command();
        command
            .env("LIFEBOAT_REPOSITORY", "/srv/repo")
            .args(words.split(' '));
        let ran = Ran::of(command);
        let told = ran.explains(2);
        assert!(!told.contains("Usage:"), "{told}");
    }
    let listed = machine.run(["key"]).ends_with_code(2);
    assert!(listed.stderr.contains("rotate"), "{listed:?}");
}

#[test]
fn help_is_a_verb_too() {
    let machine = Lifeboat::new();
    for (verb, option) in [("help restore", "restore --help"), ("help", "--help")] {
        let verb = ask(&machine, verb).done();
        let option = ask(&machine, option).done();
        assert_eq!(verb.stdout(), option.stdout());
    }
    ask(&machine, "help restroe").explains(2);
}

#[test]
fn an_app_that_is_not_there_is_no_empty_answer() {
    let machine = machine();
    for words in ["snapshots shpo", "find logo.png shpo"] {
        let ran = ask(&machine, words);
        assert!(ran.explains(1).contains("Did you mean `shop`?"), "{ran:?}");
    }
    ask(&machine, "snapshots shop").done();
    let empty = Lifeboat::with_repository();
    ask(&empty, "snapshots shpo").done();
}

#[test]
fn what_finds_nothing_says_so() {
    let machine = machine();
    let found = ask(&machine, "find logo.png").done();
    assert!(found.stdout().contains("media/2026/logo.png"));
    assert!(found.stderr.is_empty(), "{found:?}");
    let nothing = ask(&machine, "find logo.gif").done();
    assert!(
        nothing
            .stderr
            .contains("Nothing in 1 snapshot fits logo.gif."),
        "{nothing:?}"
    );
    let anchored = ask(&machine, "find 2026/logo.png").done();
    assert!(
        anchored.stderr.contains("'**/2026/logo.png'"),
        "{anchored:?}"
    );
    let anywhere = ask(&machine, "find **/2026/logo.png").done();
    assert!(anywhere.stdout().contains("media/2026/logo.png"));
}

#[test]
fn a_list_of_runs_that_is_cut_says_so() {
    let machine = machine();
    let all = ask(&machine, "log").done();
    assert!(!all.stderr.contains("--latest"), "{all:?}");
    let newest = ask(&machine, "log --latest 1").done();
    assert!(
        newest
            .stderr
            .contains("The newest 1 of 2 runs; --latest N lists more."),
        "{newest:?}"
    );
}

#[test]
fn what_cannot_be_meant_is_refused_before_anything_is_done() {
    let machine = machine();
    for words in [
        "tag shop --add a,b",
        "backup --app shop --source media --tag tag:x",
        "backup --app shop --source media --exclude [",
        "backup --app shop --source postgress://db/shop",
        "snapshots --since tomorrow",
    ] {
        ask(&machine, words).explains(2);
    }
    let recent = ask(&machine, "snapshots --since yesterday --until today --json").done();
    assert_eq!(recent.answer().as_array().unwrap().len(), 1);
    let tomorrow = ask(&machine, "snapshots --until yesterday --json").done();
    assert_eq!(tomorrow.answer().as_array().unwrap().len(), 0);
}

#[test]
fn programs_get_numbers_and_nothing_instead_of_words_and_zeros() {
    let machine = machine();
    let listed = ask(&machine, "ls shop:media/2026 --json").done().answer();
    let modified_ms = listed[0]["modified_ms"].as_u64().unwrap();
    let file = std::fs::metadata(machine.path("media/2026/logo.png")).unwrap();
    let modified = file.modified().unwrap();
    let since_1970 = modified.duration_since(std::time::UNIX_EPOCH).unwrap();
    assert_eq!(u128::from(modified_ms), since_1970.as_millis());

    std::fs::remove_file(machine.path("media/2026/logo.png")).unwrap();
    std::fs::write(machine.path("media/2026/new.png"), "other").unwrap();
    ask(&machine, "backup --app shop --source media").done();
    let changes = ask(&machine, "diff shop~1 shop --json").done().answer();
    let sizes = |path: &str| {
        let changes = changes.as_array().unwrap();
        let change = changes.iter().find(|change| change["path"] == path);
        let change = change.unwrap();
        (
            change["size_before"].as_u64(),
            change["size_after"].as_u64(),
        )
    };
    assert_eq!(sizes("media/2026/logo.png"), (Some(9), None));
    assert_eq!(sizes("media/2026/new.png"), (None, Some(5)));

    let begin = ask(&machine, "config init --json").done().answer();
    assert!(begin["configuration"].as_str().unwrap().contains("[app."));
}
