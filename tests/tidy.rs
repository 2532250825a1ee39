//! The rules of the house that a machine can keep, read off the source itself (`docs/style.md`).
//!
//! Each test collects everything that breaks its rule and says it in one go, with the place. **Invariant**: a rule has
//! no hidden exceptions; the few that there are stand in a table beside the rule, each with its reason.

mod crates;
mod documents;
mod format;
mod rust;
mod sources;
mod text;

use std::path::Path;

/// The top of the workspace.
fn root() -> &'static Path {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package
        .ancestors()
        .nth(2)
        .expect("the program's package is two folders below the top")
}

/// Fails with all findings, unless there are none.
#[track_caller]
fn expect_none(rule: &str, findings: &[String]) {
    let count = findings.len();
    assert!(
        findings.is_empty(),
        "{rule}; {count} found:\n  {}",
        findings.join("\n  ")
    );
}
