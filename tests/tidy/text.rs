//! What stands in every file: a page at its top, the closed vocabulary, nothing left over, a length one can read.

use super::{
    expect_none,
    sources::{Source, files, rust_files},
};

/// A file without its tests is meant to stay below the first of these, and may never pass the second.
const LINES_MEANT: usize = 500;
const LINES_MAX: usize = 800;

/// Words for what the vocabulary of `docs/design.md` calls something else.
const SYNONYMS: [(&str, &str); 17] = [
    ("backend", "store"),
    ("back-end", "store"),
    ("backends", "store"),
    ("vault", "repository"),
    ("backup set", "snapshot"),
    ("restore point in time", "snapshot"),
    ("blob", "chunk"),
    ("blobs", "chunks"),
    ("packfile", "pack"),
    ("pack file", "pack"),
    ("pack files", "packs"),
    ("chunk map", "index"),
    ("test restore", "drill"),
    ("restore test", "drill"),
    ("master key", "passphrase, key file or recovery key"),
    ("recovery code", "recovery key"),
    ("recovery phrase", "recovery key"),
];

/// Signs of work that was left for later.
const LEFT_IN_CODE: [&str; 5] = ["todo!", "unimplemented!", "dbg!", "#[allow", "#![allow"];
const LEFT_IN_TEXT: [&str; 8] = [
    "TODO",
    "FIXME",
    "XXX",
    "HACK",
    "not implemented yet",
    "not yet implemented",
    "to be implemented",
    "lorem ipsum",
];

/// Beginnings of paths that exist on one machine only; in two parts, so that this file does not hold them.
const MACHINE_PATHS: [(&str, &str); 4] = [
    ("/wo", "rk/"),
    ("/tmp/tar", "get"),
    ("/Us", "ers/"),
    ("/root/.car", "go"),
];

/// Files whose subject is the words themselves.
fn is_about_words(path: &str) -> bool {
    path.starts_with("tests/tidy")
}

/// Whether `text` holds `phrase` as whole words.
fn holds(text: &str, phrase: &str) -> bool {
    text.match_indices(phrase).any(|(at, _)| {
        let is_part = |letter: char| letter.is_alphanumeric() || letter == '_';
        let after = &text[at + phrase.len()..];
        !text[..at].ends_with(is_part) && !after.starts_with(is_part)
    })
}

fn written_files() -> Vec<Source> {
    files(&[".rs", ".md", ".toml", ".py", "run"])
}

#[test]
fn every_file_begins_with_what_it_is() {
    let findings: Vec<String> = files(&[".rs"])
        .iter()
        .filter(|file| !file.text.starts_with("//! "))
        .map(|file| format!("{}: does not begin with `//!`", file.path))
        .collect();
    expect_none(
        "a Rust file begins with what it is and what it keeps",
        &findings,
    );
}

#[test]
fn nothing_is_left_over() {
    let mut findings = Vec::new();
    for file in rust_files()
        .iter()
        .filter(|file| !is_about_words(&file.path))
    {
        for (at, line) in file.lines.iter().enumerate() {
            let in_code = LEFT_IN_CODE
                .iter()
                .filter(|left| line.code.contains(**left));
            let in_text = LEFT_IN_TEXT
                .iter()
                .filter(|left| holds(&line.comment, left) || holds(&line.string, left));
            let place = format!("{}:{}", file.path, at + 1);
            findings.extend(
                in_code
                    .chain(in_text)
                    .map(|left| format!("{place}: {left}")),
            );
        }
    }
    for file in files(&[".md", ".toml", ".py", "run"]) {
        for (at, line) in file.text.lines().enumerate() {
            let left = LEFT_IN_TEXT.iter().filter(|left| holds(line, left));
            findings.extend(left.map(|left| format!("{}:{}: {left}", file.path, at + 1)));
        }
    }
    expect_none("nothing is left for later in the source", &findings);
}

#[test]
fn things_have_one_name() {
    // The words of SQL and of other programs are not ours.
    let is_foreign = |line: &str| line.contains("BLOB");
    let mut findings = Vec::new();
    let mut look = |path: &str, at: usize, text: &str| {
        let text = text.to_lowercase();
        for (synonym, word) in SYNONYMS.iter().filter(|(synonym, _)| holds(&text, synonym)) {
            findings.push(format!(
                "{path}:{}: \"{synonym}\" is called {word} here",
                at + 1
            ));
        }
    };
    for file in rust_files()
        .iter()
        .filter(|file| !is_about_words(&file.path))
    {
        for (at, line) in file.lines.iter().enumerate() {
            look(&file.path, at, &line.comment);
            if !is_foreign(&line.string) {
                look(&file.path, at, &line.string);
            }
        }
    }
    for file in files(&[".md"]) {
        for (at, line) in file.text.lines().enumerate() {
            if !is_foreign(line) {
                look(&file.path, at, line);
            }
        }
    }
    expect_none("a thing has one name everywhere", &findings);
}

#[test]
fn no_path_of_one_machine_is_written_down() {
    let mut findings = Vec::new();
    for file in written_files() {
        for (at, line) in file.text.lines().enumerate() {
            let found = MACHINE_PATHS.iter().map(|(one, two)| format!("{one}{two}"));
            findings.extend(
                found
                    .filter(|path| line.contains(path))
                    .map(|path| format!("{}:{}: {path}", file.path, at + 1)),
            );
        }
    }
    expect_none("the project knows no machine", &findings);
}

#[test]
fn files_are_short_enough_to_be_read() {
    let mut findings = Vec::new();
    for file in rust_files() {
        let lines = file.lines_without_tests;
        if lines > LINES_MAX {
            findings.push(format!(
                "{}: {lines} lines without tests, at most {LINES_MAX} are allowed",
                file.path
            ));
        } else if lines > LINES_MEANT {
            println!(
                "{}: {lines} lines without tests, {LINES_MEANT} are meant",
                file.path
            );
        }
    }
    expect_none("a file is short enough to be read in one go", &findings);
}

#[test]
fn words_are_found_whole() {
    assert!(holds("a blob, sealed", "blob"));
    assert!(!holds("blobby and my_blob", "blob"));
    assert!(holds("master key", "master key"));
}
