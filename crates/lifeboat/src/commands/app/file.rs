//! The configuration's file, changed as a whole or not at all.
//!
//! Invariant: whoever could read the file before can read it afterwards, and nobody else can.

use std::{
    fs::{self, File, Permissions},
    io::{self, Write},
    os::unix::fs::{MetadataExt, PermissionsExt, fchown},
    path::{Path, PathBuf},
};

use crate::{
    context::Context,
    error::{CommandError, OrFail},
    exit_code::ExitCode,
    text::printable_path,
};

/// The file that holds the configuration, and its text.
pub(super) struct ConfigFile {
    /// From the root.
    pub(super) path: PathBuf,
    /// As it was read.
    pub(super) text: String,
}

impl ConfigFile {
    /// Reads the file that is in force; there must be one.
    pub(super) fn read(context: &Context) -> Result<Self, CommandError> {
        let Some(file) = &context.configuration()?.file else {
            return Err(CommandError::usage("there is no configuration to change").hint(
                "Begin one with `lifeboat config init lifeboat.toml`, or name it with --config.",
            ));
        };
        Self::read_at(file)
    }

    fn read_at(file: &Path) -> Result<Self, CommandError> {
        let unread = || format!("{} cannot be read", printable_path(file.as_ref()));
        let path = std::path::absolute(file).or_fail(ExitCode::Failed, unread)?;
        let text = fs::read_to_string(&path).or_fail(ExitCode::Failed, unread)?;
        Ok(Self { path, text })
    }

    /// Puts `text` in the place of what the file holds; on an error it holds what it held.
    pub(super) fn replace(&self, text: &str) -> Result<(), CommandError> {
        self.replaced_by(text)
            .or_fail(ExitCode::Failed, || {
                format!("{} cannot be changed", printable_path(self.path.as_ref()))
            })
            .map_err(|error| {
                error.hint("Check who may write to the file and its folder, and the room there.")
            })
    }

    fn replaced_by(&self, text: &str) -> io::Result<()> {
        // A link stays; what it leads to is replaced.
        let path = self.path.canonicalize()?;
        let old = path.metadata()?;
        let folder = path.parent().unwrap_or(Path::new("/"));
        let mut new = tempfile::Builder::new()
            .prefix(".lifeboat.toml-")
            .permissions(Permissions::from_mode(0o600))
            .tempfile_in(folder)?;
        new.write_all(text.as_bytes())?;
        let own = new.as_file().metadata()?;
        if (own.uid(), own.gid()) != (old.uid(), old.gid()) {
            fchown(new.as_file(), Some(old.uid()), Some(old.gid()))?;
        }
        // Last, since a change of owner takes bits away.
        new.as_file()
            .set_permissions(Permissions::from_mode(old.mode() & 0o7777))?;
        new.as_file().sync_all()?;
        new.persist(&path).map_err(|error| error.error)?;
        File::open(folder)?.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_file_is_replaced_behind_its_link_and_keeps_its_mode() {
        let folder = tempfile::tempdir().unwrap();
        let (real, link) = (
            folder.path().join("real.toml"),
            folder.path().join("link.toml"),
        );
        fs::write(&real, "old").unwrap();
        fs::set_permissions(&real, Permissions::from_mode(0o640)).unwrap();
        symlink("real.toml", &link).unwrap();
        let file = ConfigFile::read_at(&link).unwrap();
        assert_eq!(file.text, "old");
        file.replace("new").unwrap();
        assert!(link.is_symlink());
        assert_eq!(fs::read_to_string(&real).unwrap(), "new");
        assert_eq!(real.metadata().unwrap().mode() & 0o7777, 0o640);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }
}
