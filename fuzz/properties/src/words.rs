//! What people write: configurations, selectors, exclude patterns.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use jiff::{Timestamp, tz::TimeZone};
use lifeboat_app::{
    Config, FolderSource, Selector, SnapshotSummary, SourceConfig, add_app, check_app_name,
    remove_app,
};
use lifeboat_files::Excludes;

use crate::draw::Draw;

/// Takes the bytes as a configuration.
///
/// - The names of apps are such as they may have.
/// - An app that is added is there, and when it is removed everything is as before.
/// - An app that is removed leaves all others as they were.
pub fn config(bytes: &[u8]) {
    const NAME: &str = "fuzzed";
    let text = String::from_utf8_lossy(bytes);
    let file = Path::new("/etc/lifeboat/lifeboat.toml");
    let before = match Config::parse(&text, file) {
        Ok(config) => config,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return;
        }
    };
    for app in &before.apps {
        assert!(check_app_name(&app.name).is_ok() && !app.sources.is_empty());
        if let Ok(changed) = remove_app(&text, file, &app.name) {
            let after = Config::parse(&changed, file).expect("what was changed can be read");
            assert!(after.apps.iter().all(|other| before.apps.contains(other)));
            assert_eq!(after.apps.len() + 1, before.apps.len());
        }
    }
    let source = SourceConfig::Folder(FolderSource {
        name: "media".into(),
        path: "/srv/fuzzed".into(),
        exclude: vec!["*.tmp".into()],
        one_file_system: false,
        exclude_caches: true,
        bundles: false,
        references: Vec::new(),
    });
    let Ok(added) = add_app(&text, file, NAME, std::slice::from_ref(&source)) else {
        return;
    };
    let with = Config::parse(&added, file).expect("what was changed can be read");
    let app = with.app(NAME).expect("it was added");
    assert_eq!(app.sources, [source]);
    let removed = remove_app(&added, file, NAME).expect("what was added can be removed");
    assert_eq!(Config::parse(&removed, file).ok(), Some(before));
}

/// Takes the bytes as the times of two snapshots, a name, a tag and a selector.
///
/// - The path leads nowhere else.
/// - A selector names a snapshot that is there, or says why none, whatever the snapshots say of themselves.
pub fn selector(bytes: &[u8]) {
    let mut draw = Draw(bytes);
    let times = [draw.array(), draw.array()].map(u64::from_le_bytes);
    let app = String::from_utf8_lossy(draw.line()).into_owned();
    let tag = String::from_utf8_lossy(draw.line()).into_owned();
    let Ok(selector) = Selector::parse(OsStr::from_bytes(draw.0)) else {
        return;
    };
    let path = selector.path().as_bytes();
    assert!(!path.contains(&0));
    assert!(
        path.is_empty()
            || path
                .split(|byte| *byte == b'/')
                .all(|part| !matches!(part, b"" | b"." | b".."))
    );
    let snapshots: Vec<SnapshotSummary> = times
        .iter()
        .zip(["4fa01c", "4fa7d2"])
        .map(|(started_ms, id)| SnapshotSummary {
            id_hex: format!("{id}{}", "0".repeat(26)),
            app: app.clone(),
            started_ms: *started_ms,
            tags: vec![tag.clone()],
            drilled: false,
        })
        .collect();
    let now = Timestamp::UNIX_EPOCH.to_zoned(TimeZone::UTC);
    for snapshots in [&snapshots[..], &snapshots[..1], &[]] {
        match selector.resolve(snapshots, &now) {
            Ok(choice) => {
                let mut places = choice.passed_over.iter().chain([&choice.index]);
                assert!(places.all(|place| *place < snapshots.len()));
            }
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    }
}

/// Takes the first line as a name and the others as exclude patterns.
///
/// - Patterns compile or are refused, in bounded memory.
/// - The last pattern that matches decides: the name itself, with every sign escaped, leaves it out, and taken back does not.
pub fn exclude(bytes: &[u8]) {
    let mut draw = Draw(bytes);
    let name = String::from_utf8_lossy(draw.line()).replace('/', "");
    let text = String::from_utf8_lossy(draw.0);
    let mut patterns: Vec<String> = text.lines().map(str::to_owned).collect();
    let Ok(excludes) = Excludes::new(&patterns) else {
        return;
    };
    let path = format!("a/b/{name}");
    let (folder, file) = (
        excludes.excludes(name.as_bytes(), path.as_bytes(), true),
        excludes.excludes(name.as_bytes(), path.as_bytes(), false),
    );
    assert!(!patterns.is_empty() || !(folder || file));
    if name.is_empty() {
        return;
    }
    let literal: String = name
        .chars()
        .flat_map(|letter| {
            let escape = letter.is_ascii_punctuation().then_some('\\');
            escape.into_iter().chain([letter])
        })
        .collect();
    for (pattern, out) in [(literal.clone(), true), (format!("!{literal}"), false)] {
        patterns.push(pattern);
        let excludes = Excludes::new(&patterns).expect("a literal name is a pattern");
        for is_folder in [true, false] {
            assert_eq!(
                excludes.excludes(name.as_bytes(), path.as_bytes(), is_folder),
                out
            );
        }
    }
}
