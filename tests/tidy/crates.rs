//! The order of the house: crates use only crates before them, modules only modules above them.

use std::collections::BTreeMap;

use super::{
    expect_none,
    rust::Line,
    sources::{RustSource, files, is_test_module, rust_files},
};

/// The crates in their order; each may use only those before it. `server` joins when it exists.
///
/// The four at the beginning know nothing of each other: none of them may use any crate of the house.
const ORDER: [&str; 7] = [
    "codec",
    "store",
    "files",
    "postgres",
    "repository",
    "app",
    "lifeboat",
];
const GROUND: usize = 4;

/// Libraries that make a room what it is, and the crates that may name them.
const ROOMS: [(&str, &[&str]); 30] = [
    ("argon2", &["codec"]),
    // The repository sums up rows of its cache and marks trees it has seen; ids are the codec's. PostgreSQL's rows are
    // hashed as they stream past, by a crate that knows no codec.
    ("blake3", &["codec", "postgres", "repository"]),
    ("chacha20poly1305", &["codec"]),
    ("ed25519-dalek", &["codec"]),
    ("fastcdc", &["codec"]),
    ("hpke", &["codec"]),
    ("zstd", &["codec"]),
    ("opendal", &["store"]),
    ("rayon", &["repository"]),
    // The app backs up SQLite databases and keeps its history in one; the program tells SQLite's version.
    ("rusqlite", &["repository", "app", "lifeboat"]),
    ("globset", &["files"]),
    ("xattr", &["files"]),
    ("futures-util", &["postgres"]),
    ("rustls", &["postgres"]),
    ("tokio-postgres", &["postgres"]),
    ("tokio-postgres-rustls", &["postgres"]),
    ("flate2", &["app"]),
    ("preflate-rs", &["app"]),
    // A time zone is an argument of what the app shows; the program reads and passes it.
    ("jiff", &["app", "lifeboat"]),
    ("tar", &["app"]),
    ("toml", &["app"]),
    ("toml_edit", &["app"]),
    ("ureq", &["app"]),
    ("zip", &["app"]),
    ("askama", &["server"]),
    ("axum", &["server"]),
    ("croner", &["server"]),
    ("lettre", &["server"]),
    ("clap", &["lifeboat"]),
    ("indicatif", &["lifeboat"]),
];

/// The packages that a manifest names in its dependencies of every sort, with the section.
fn dependencies(manifest: &str) -> Vec<(String, String)> {
    let mut section = "";
    let mut found = Vec::new();
    for line in manifest.lines().map(str::trim) {
        if let Some(name) = line
            .strip_prefix('[')
            .and_then(|line| line.strip_suffix(']'))
        {
            section = name;
            // The long form: a section for one dependency.
            if let Some((kind, package)) = name.split_once("dependencies.") {
                found.push((format!("{kind}dependencies"), package.to_owned()));
            }
        } else if section.ends_with("dependencies") && !line.starts_with('#') {
            let name = line.split(['.', '=', ' ']).next().unwrap_or_default();
            if !name.is_empty() {
                found.push((section.to_owned(), name.to_owned()));
            }
        }
    }
    found
}

/// Each crate's name and its dependencies.
fn manifests() -> BTreeMap<String, Vec<(String, String)>> {
    files(&["Cargo.toml"])
        .into_iter()
        .filter_map(|file| {
            let name = file
                .path
                .strip_prefix("crates/")?
                .strip_suffix("/Cargo.toml")?
                .to_owned();
            Some((name, dependencies(&file.text)))
        })
        .collect()
}

#[test]
fn a_crate_uses_only_crates_before_it() {
    let mut findings = Vec::new();
    for (name, dependencies) in manifests() {
        let Some(place) = ORDER.iter().position(|known| *known == name) else {
            findings.push(format!("crates/{name}: has no place in the order"));
            continue;
        };
        let allowed = if place < GROUND { 0 } else { place };
        for (section, package) in dependencies {
            let Some(used) = package.strip_prefix("lifeboat-") else {
                continue;
            };
            if !ORDER[..allowed].contains(&used) {
                findings.push(format!(
                    "crates/{name}/Cargo.toml: {section} names {package}, which is not before it"
                ));
            }
        }
    }
    expect_none("a crate uses only crates before it", &findings);
}

#[test]
fn a_library_is_named_only_in_its_room() {
    let mut findings = Vec::new();
    for (name, dependencies) in manifests() {
        for (_, package) in dependencies
            .iter()
            .filter(|(section, _)| !section.starts_with("dev-"))
        {
            let room = ROOMS.iter().find(|(library, _)| library == package);
            if let Some((library, rooms)) = room
                && !rooms.contains(&name.as_str())
            {
                findings.push(format!(
                    "crates/{name}/Cargo.toml: {library} belongs to {}",
                    rooms.join(" and ")
                ));
            }
        }
    }
    expect_none("a library is named only in its room", &findings);
}

/// The packages that a lock file lists for one of its packages.
fn locked<'a>(lock: &'a str, package: &str) -> Option<Vec<&'a str>> {
    let name = format!("name = \"{package}\"");
    let block = lock
        .split("[[package]]")
        .find(|block| block.lines().any(|line| line == name))?;
    let list = block
        .split_once("dependencies = [")
        .map_or("", |(_, list)| list);
    Some(
        list.lines()
            .filter_map(|line| line.trim().strip_prefix('"'))
            .map(|entry| entry.split(['"', ' ']).next().unwrap_or_default())
            .collect(),
    )
}

/// The fuzz targets are a workspace of their own; who gives a crate a library easily forgets their lock file.
#[test]
fn the_lock_file_of_the_fuzz_targets_knows_the_libraries_of_every_crate() {
    let locks = files(&["Cargo.lock"]);
    let lock = locks
        .iter()
        .find(|file| file.path == "fuzz/Cargo.lock")
        .expect("the fuzz targets have a lock file");
    let mut findings = Vec::new();
    let mut looked_at = 0;
    for (name, dependencies) in manifests() {
        let Some(known) = locked(&lock.text, &format!("lifeboat-{name}")) else {
            continue;
        };
        looked_at += 1;
        let of_others = dependencies
            .iter()
            .filter(|(section, _)| !section.starts_with("dev-"))
            .filter(|(_, package)| !known.contains(&package.as_str()));
        findings.extend(of_others.map(|(_, package)| {
            format!("fuzz/Cargo.lock: does not know {package} of crates/{name}")
        }));
    }
    assert!(
        looked_at >= 5,
        "the fuzz targets rest on {looked_at} crates"
    );
    expect_none("both lock files know every library", &findings);
}

/// What a crate root declares: its modules in order, and the module that each re-exported name comes from.
struct Declared<'a> {
    modules: Vec<&'a str>,
    exports: BTreeMap<String, &'a str>,
}

impl<'a> Declared<'a> {
    fn of(root: &'a RustSource) -> Self {
        let modules = root.modules();
        let mut exports = BTreeMap::new();
        let code = joined(root.without_tests());
        for (at, _) in code.match_indices("pub use ") {
            let statement = code[at + "pub use ".len()..]
                .split(';')
                .next()
                .unwrap_or_default();
            let (module, names) = statement.split_once("::").unwrap_or((statement, ""));
            let Some(module) = modules.iter().find(|known| **known == module.trim()) else {
                continue;
            };
            for name in names.trim_matches(['{', '}', ' ']).split(',') {
                let name = name.rsplit(" as ").next().unwrap_or(name).trim();
                exports.insert(name.to_owned(), *module);
            }
        }
        Self { modules, exports }
    }

    /// The place in the order of the module that `name`, said after `crate::`, leads to.
    fn place(&self, name: &str) -> Option<usize> {
        let module = self.exports.get(name).copied().unwrap_or(name);
        self.modules.iter().position(|known| *known == module)
    }
}

fn joined(lines: &[Line]) -> String {
    lines
        .iter()
        .flat_map(|line| [line.code.as_str(), " "])
        .collect()
}

/// The first name of every path that begins with `start` in a piece of code; groups in braces are followed.
fn names_after(code: &str, start: &str) -> Vec<String> {
    let mut names = Vec::new();
    for (at, _) in code.match_indices(start) {
        let standing_alone = !code[..at]
            .ends_with(|before: char| before.is_alphanumeric() || matches!(before, '_' | ':'));
        let rest = code[at + start.len()..].trim_start();
        if !standing_alone {
            continue;
        }
        let Some(group) = rest.strip_prefix('{') else {
            names.extend(first_name(rest));
            continue;
        };
        let mut depth = 0;
        let mut at_start = true;
        for (place, letter) in group.char_indices() {
            match letter {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' if depth == 0 => at_start = true,
                _ if letter.is_whitespace() => {}
                _ if at_start => {
                    names.extend(first_name(&group[place..]));
                    at_start = false;
                }
                _ => {}
            }
        }
    }
    names
}

fn first_name(code: &str) -> Option<String> {
    let name: String = code
        .chars()
        .take_while(|letter| letter.is_alphanumeric() || *letter == '_')
        .collect();
    (!name.is_empty()).then_some(name)
}

#[test]
fn a_module_uses_only_modules_above_it() {
    let all = rust_files();
    let mut findings = Vec::new();
    for name in ORDER {
        let folder = format!("crates/{name}/src/");
        let roots = [format!("{folder}lib.rs"), format!("{folder}main.rs")];
        let root = all
            .iter()
            .find(|file| roots.contains(&file.path))
            .expect("a crate has a root");
        let declared = Declared::of(root);
        for file in all
            .iter()
            .filter(|file| file.path.starts_with(&folder) && file.path != root.path)
        {
            let inner = &file.path[folder.len()..];
            let own_name = inner.split(['/', '.']).next().unwrap_or_default();
            let Some(own) = declared.modules.iter().position(|known| *known == own_name) else {
                continue;
            };
            let code = joined(file.without_tests());
            let mut used = names_after(&code, "crate::");
            // In a file at the top, the module above is the crate itself.
            if !inner.contains('/') {
                used.extend(names_after(&code, "super::"));
            }
            used.sort();
            used.dedup();
            let below = |used: &String| declared.place(used).is_some_and(|place| place > own);
            findings.extend(used.iter().filter(|used| below(used)).map(|used| {
                format!(
                    "{}: uses crate::{used}, which stands below {own_name} in {}",
                    file.path, root.path
                )
            }));
        }
    }
    expect_none("a module uses only modules above it", &findings);
}

#[test]
fn every_module_of_a_crate_is_in_its_order() {
    // A crate root that hides its modules behind `pub mod` or a macro would escape the rule above.
    let all = rust_files();
    let findings: Vec<String> = ORDER
        .iter()
        .flat_map(|name| {
            all.iter().filter(move |file| {
                [
                    format!("crates/{name}/src/lib.rs"),
                    format!("crates/{name}/src/main.rs"),
                ]
                .contains(&file.path)
            })
        })
        .flat_map(|root| {
            let folder = root.path.rsplit_once('/').map_or("", |(folder, _)| folder);
            let declared = root.modules();
            all.iter()
                .filter_map(move |file| {
                    file.path
                        .strip_prefix(folder)?
                        .strip_prefix('/')?
                        .strip_suffix(".rs")
                })
                .filter(|name| {
                    !name.contains('/') && !matches!(*name, "lib" | "main") && !is_test_module(name)
                })
                .filter(move |name| !declared.contains(name))
                .map(|name| format!("{}: does not declare `mod {name};`", root.path))
                .collect::<Vec<_>>()
        })
        .collect();
    expect_none("a crate's root declares its modules in order", &findings);
}

#[test]
fn paths_and_manifests_are_read_as_written() {
    let code = "use crate::{ one::{a, b}, two, three::c }; fn f(x: crate::four::D) { other_crate::five(); super::six() }";
    assert_eq!(
        names_after(code, "crate::"),
        ["one", "two", "three", "four"]
    );
    assert_eq!(names_after(code, "super::"), ["six"]);

    let manifest = "[package]\nname = \"x\"\n[dependencies]\n# why\nserde.workspace = true\nrustix = { workspace = true }\n\n[dev-dependencies.insta]\nversion = \"1\"\n";
    let found = dependencies(manifest);
    let words: Vec<(&str, &str)> = found
        .iter()
        .map(|(section, name)| (section.as_str(), name.as_str()))
        .collect();
    assert_eq!(
        words,
        [
            ("dependencies", "serde"),
            ("dependencies", "rustix"),
            ("dev-dependencies", "insta")
        ]
    );
}
