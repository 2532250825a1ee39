//! Where a restore must not write: a repository is kept by nobody but this program's verbs for it.

use std::path::{Path, PathBuf};

use lifeboat_codec::{FRAME_MAGIC, SUPERBLOCK};
use lifeboat_files::{Folder, Mark};

/// What a repository in a local folder is known by, without a key: its superblock.
pub(super) const REPOSITORY: Mark = Mark {
    name: SUPERBLOCK.as_bytes(),
    begins: FRAME_MAGIC,
    reason: "it is a repository",
};

/// The repository that `path` is or lies in, whether `path` exists or not.
pub(super) fn repository_around(path: &Path) -> Option<PathBuf> {
    let bears = |path: &&Path| Folder::open(path).is_ok_and(|folder| folder.bears(&REPOSITORY));
    let whole = whole_path(path);
    whole.ancestors().find(bears).map(Path::to_path_buf)
}

/// The path without links and dots, as far as it exists.
fn whole_path(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    let whole = |there: &Path| {
        let rest = absolute.strip_prefix(there).ok()?;
        Some(there.canonicalize().ok()?.join(rest))
    };
    absolute
        .ancestors()
        .find_map(whole)
        .unwrap_or_else(|| absolute.clone())
}
