//! Whether two trees are the same, as tests ask it.

use std::path::Path;

use lifeboat_files::{CompareOptions, compare};

/// Fails the test unless both trees are the same in everything but holes.
#[track_caller]
pub(crate) fn same(original: &Path, restored: &Path) {
    let differences = compare(original, restored, &CompareOptions::default());
    let differences = differences.expect("both trees can be opened");
    assert!(
        differences.is_empty(),
        "{} and {} differ: {differences:#?}",
        original.display(),
        restored.display()
    );
}
