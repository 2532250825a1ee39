//! The files of the project: which there are, and for Rust which of their lines are tests.

use std::{fs, path::PathBuf};

use super::{
    root,
    rust::{self, Line},
};

/// Folders that hold nothing which was written by hand, or by this hand.
const LEFT_OUT: [&str; 6] = [
    "target",
    ".git",
    "__pycache__",
    "corpus",
    "corpus-new",
    "vendor",
];

/// A file of text.
#[derive(Debug)]
pub(crate) struct Source {
    /// From the top of the workspace, with `/`.
    pub(crate) path: String,
    /// What is in it.
    pub(crate) text: String,
}

/// A Rust file, taken apart.
#[derive(Debug)]
pub(crate) struct RustSource {
    /// From the top of the workspace, with `/`.
    pub(crate) path: String,
    /// Its lines.
    pub(crate) lines: Vec<Line>,
    /// How many of the lines, from the first on, are not tests.
    pub(crate) lines_without_tests: usize,
}

/// All files of the project whose name ends with one of `endings`, in order.
pub(crate) fn files(endings: &[&str]) -> Vec<Source> {
    let mut found = Vec::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        for entry in
            fs::read_dir(root().join(&folder)).expect("a folder of the project can be listed")
        {
            let entry = entry.expect("a folder of the project can be listed");
            let name = entry
                .file_name()
                .into_string()
                .expect("names in the project are UTF-8");
            let path = folder.join(&name);
            let file_type = entry
                .file_type()
                .expect("an entry of the project has a type");
            if file_type.is_dir() && !LEFT_OUT.contains(&name.as_str()) {
                folders.push(path);
            } else if file_type.is_file() && endings.iter().any(|ending| name.ends_with(ending)) {
                let text = fs::read_to_string(root().join(&path))
                    .expect("a file of the project is UTF-8 text");
                let path = path
                    .into_os_string()
                    .into_string()
                    .expect("names in the project are UTF-8");
                found.push(Source { path, text });
            }
        }
    }
    assert!(
        !found.is_empty(),
        "the project has files that end with one of {endings:?}"
    );
    found.sort_by(|one, other| one.path.cmp(&other.path));
    found
}

/// All Rust files.
pub(crate) fn rust_files() -> Vec<RustSource> {
    files(&[".rs"])
        .into_iter()
        .map(|source| {
            let lines = rust::lines(&source.text);
            let lines_without_tests = if is_test_file(&source.path) {
                0
            } else {
                before_tests(&lines)
            };
            RustSource {
                path: source.path,
                lines,
                lines_without_tests,
            }
        })
        .collect()
}

/// True for files that are only compiled for tests: those of the folder of tests, and modules that are named so.
fn is_test_file(path: &str) -> bool {
    path.trim_end_matches(".rs").split('/').any(is_test_module)
}

/// True for the names of modules that stand behind `#[cfg(test)]`, by the custom of the house.
pub(crate) fn is_test_module(name: &str) -> bool {
    matches!(name, "tests" | "testing") || name.ends_with("_tests")
}

/// The number of lines before the module of tests that stands at the end of a file.
fn before_tests(lines: &[Line]) -> usize {
    lines
        .windows(2)
        .position(|pair| {
            let module = pair[1].code.trim();
            pair[0].code.trim() == "#[cfg(test)]"
                && module.starts_with("mod ")
                && module.ends_with('{')
        })
        .unwrap_or(lines.len())
}

impl RustSource {
    /// The lines that are not tests.
    pub(crate) fn without_tests(&self) -> &[Line] {
        &self.lines[..self.lines_without_tests]
    }

    /// The names of the modules that the file declares, in order; those inside `#[cfg(test)]` are left out.
    pub(crate) fn modules(&self) -> Vec<&str> {
        let name = |line: &'_ Line| -> Option<(usize, usize)> {
            let code = line.code.trim_end();
            let declared = code.strip_suffix(';')?.trim_start();
            let declared = declared
                .strip_prefix("pub(crate) ")
                .or_else(|| declared.strip_prefix("pub "))
                .unwrap_or(declared);
            let name = declared.strip_prefix("mod ")?;
            let end = code.len() - 1;
            Some((end - name.len(), end))
        };
        let mut modules = Vec::new();
        for (at, line) in self.lines.iter().enumerate() {
            let for_tests = at > 0 && self.lines[at - 1].code.trim() == "#[cfg(test)]";
            if let Some((from, to)) = name(line).filter(|_| !for_tests) {
                modules.push(&line.code[from..to]);
            }
        }
        modules
    }
}

/// Every file of tests is a module of the one binary of tests; a file that is not declared would never run.
#[test]
fn every_file_of_tests_is_declared() {
    let all = rust_files();
    let findings: Vec<String> = all
        .iter()
        .filter(|file| file.path.starts_with("tests/") && file.path != "tests/main.rs")
        .filter_map(|file| {
            let (parent, name) = file.path.strip_suffix(".rs")?.rsplit_once('/')?;
            let parent = if parent == "tests" {
                "tests/main.rs".to_owned()
            } else {
                format!("{parent}.rs")
            };
            let declared = all
                .iter()
                .find(|file| file.path == parent)
                .is_some_and(|file| file.modules().contains(&name));
            (!declared).then(|| format!("{}: `mod {name};` is missing in {parent}", file.path))
        })
        .collect();
    super::expect_none(
        "a file of tests is a module of the one binary of tests",
        &findings,
    );
}
