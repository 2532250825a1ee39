//! An account that may not do everything: the one of the tests, or, when they run as root, another one.
//!
//! **Invariant**: what a test says about files that cannot be read holds whoever runs it, and is never left out.

use std::{
    fs,
    os::unix::{
        fs::{PermissionsExt, lchown},
        process::CommandExt,
    },
    path::Path,
    process::Command,
};

use super::program::{Lifeboat, PROGRAM};

/// The number that Linux calls `nobody`: an account that owns nothing.
const NOBODY: u32 = 65_534;

/// True when the tests run as root, whom no mode keeps out.
pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// The account that [`ordinary`] commands run as.
pub(crate) fn ordinary_user() -> u32 {
    if is_root() {
        NOBODY
    } else {
        rustix::process::geteuid().as_raw()
    }
}

/// The program as an account whom modes keep out. When that is another one, it is given the machine's folder, but
/// nothing that lies in `kept`.
pub(crate) fn ordinary(machine: &Lifeboat, kept: &[&Path]) -> Command {
    if !is_root() {
        return machine.command();
    }
    give(machine.folder(), kept);
    // The program may lie in a folder that root alone may enter.
    let program = machine.path("lifeboat");
    fs::copy(PROGRAM, &program).expect("the program can be copied");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755))
        .expect("our own file's mode can be set");
    let mut command = machine.command_of(program);
    command
        .env("TMPDIR", machine.folder())
        .uid(NOBODY)
        .gid(NOBODY);
    command
}

/// Gives everything below `path` to nobody, but what lies in `kept`.
fn give(path: &Path, kept: &[&Path]) {
    if kept.contains(&path) {
        return;
    }
    lchown(path, Some(NOBODY), Some(NOBODY)).expect("root may give away what is its own");
    let metadata = path
        .symlink_metadata()
        .expect("what was just given away is there");
    if metadata.is_dir() {
        for entry in fs::read_dir(path).expect("root may list a folder") {
            give(&entry.expect("root may list a folder").path(), kept);
        }
    }
}
