//! The independent reader, `docs/reader.py`, and the Python that runs it.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use super::program::Ran;

/// The reader, ready for its arguments. `tests/run` makes the environment with its packages.
pub(crate) fn reader() -> Command {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent();
    let python: PathBuf = target
        .expect("a folder in the target folder")
        .join("reader-venv/bin/python");
    assert!(
        python.exists(),
        "the packages of docs/reader.py are not installed; run tests/run, which installs them"
    );
    let mut command = Command::new(python);
    command
        .arg("-I")
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/reader.py"));
    command.env("PYTHONDONTWRITEBYTECODE", "1");
    command
}

#[test]
fn the_readers_cryptography_agrees_with_published_vectors() {
    let mut check = reader();
    check.arg("--self-check");
    Ran::of(check).done();
}
