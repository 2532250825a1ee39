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
