//! Documents against what they speak of: paths that they name exist, and the page of the command line knows each verb.

use std::path::{Component, Path, PathBuf};

use super::{expect_none, root, sources::files};
use crate::support::program::Lifeboat;

#[test]
fn every_link_of_a_document_leads_somewhere() {
    let mut findings = Vec::new();
    for file in files(&[".md"]) {
        let folder = Path::new(&file.path).parent().expect("a file has a folder");
        for (at, line) in file.text.lines().enumerate() {
            for target in links(line) {
                let path = target.split('#').next().unwrap_or_default();
                let outside = path.contains("://") || path.starts_with("mailto:");
                if !path.is_empty() && !outside && !exists(&folder.join(path)) {
                    findings.push(format!("{}:{}: {target}", file.path, at + 1));
                }
            }
        }
    }
    expect_none("a link leads to a file of the project", &findings);
}

/// The targets of the links in one line of Markdown.
fn links(line: &str) -> impl Iterator<Item = &str> {
    line.match_indices("](").filter_map(|(at, start)| {
        line[at + start.len()..]
            .split_once(')')
            .map(|(target, _)| target)
    })
}

#[test]
fn every_document_that_is_named_exists() {
    let mut findings = Vec::new();
    let all = files(&[".rs", ".md", ".toml", ".py", "run"]);
    // This file names a document that it looks at only where there is one.
    for file in all
        .iter()
        .filter(|file| file.path != "tests/tidy/documents.rs")
    {
        for (at, line) in file.text.lines().enumerate() {
            for (start, _) in line.match_indices("docs/") {
                let before = line[..start].chars().next_back();
                // A path of something else that has such a folder too.
                if before.is_some_and(|letter| {
                    letter.is_alphanumeric() || matches!(letter, '/' | '.' | '-' | '_')
                }) {
                    continue;
                }
                let named = |letter: char| {
                    letter.is_ascii_alphanumeric() || matches!(letter, '/' | '.' | '-' | '_')
                };
                let path: String = line[start..]
                    .chars()
                    .take_while(|letter| named(*letter))
                    .collect();
                let path = path.trim_end_matches(['.', '/']);
                if !exists(Path::new(path)) {
                    findings.push(format!("{}:{}: {path}", file.path, at + 1));
                }
            }
        }
    }
    expect_none("a document that is named exists", &findings);
}

/// Whether a path from the top of the workspace exists, and stays inside.
fn exists(path: &Path) -> bool {
    let mut clean = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => {
                if !clean.pop() {
                    return false;
                }
            }
            Component::CurDir => {}
            Component::RootDir | Component::Prefix(_) => return false,
        }
    }
    root().join(clean).exists()
}

#[test]
fn the_page_of_the_command_line_knows_every_verb() {
    let page = root().join("docs/cli.md");
    if !page.exists() {
        return;
    }
    let page = std::fs::read_to_string(page).expect("a document is UTF-8 text");
    let help = Lifeboat::new().run(["--help"]).done();
    let verbs: Vec<&str> = help
        .stdout()
        .lines()
        .skip_while(|line| !line.starts_with("Commands:"))
        .skip(1)
        .take_while(|line| !line.is_empty())
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    assert!(verbs.contains(&"version"), "{verbs:?}");
    let findings: Vec<String> = verbs
        .iter()
        .filter(|verb| !page.contains(&format!("lifeboat {verb}")))
        .map(|verb| format!("docs/cli.md: `lifeboat {verb}` is missing"))
        .collect();
    expect_none("the page of the command line knows every verb", &findings);
}
