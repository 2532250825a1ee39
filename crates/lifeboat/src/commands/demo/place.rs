//! Where the demonstration happens: a folder that goes away with it, or a new one that stays.

use std::{
    fs::{self, Permissions},
    io,
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Path, PathBuf},
};

use tempfile::TempDir;

use crate::{
    error::{CommandError, OrFail},
    exit_code::ExitCode,
    text::printable_path,
};

/// A folder of its own, closed to others; a temporary one is removed when this is dropped, whatever happened.
pub(super) enum Place {
    /// It stays.
    Kept(PathBuf),
    /// It goes away.
    Temporary(TempDir),
}

impl Place {
    /// Makes the folder: at `keep`, which must not exist or be empty, or where temporary files are.
    pub(super) fn make(keep: Option<&Path>) -> Result<Self, CommandError> {
        let Some(keep) = keep else {
            let made = tempfile::Builder::new()
                .prefix("lifeboat-demo-")
                .permissions(Permissions::from_mode(0o700))
                .tempdir();
            return made.map(Self::Temporary).or_fail(ExitCode::Failed, || {
                "there is no room for temporary files".to_owned()
            });
        };
        let named = printable_path(keep.as_ref());
        match fs::DirBuilder::new().mode(0o700).create(keep) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && is_empty(keep) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                return Err(CommandError::new(
                    ExitCode::Refused,
                    format!("{named} exists already"),
                )
                .hint(
                    "Choose a new or empty folder; a demonstration never touches what is there.",
                ));
            }
            Err(error) => {
                return Err(CommandError::new(
                    ExitCode::Failed,
                    format!("the folder {named} cannot be made"),
                )
                .caused_by(&error)
                .hint("Check the folder above it, and who may write there."));
            }
        }
        // The commands that are shown at the end work from anywhere.
        let path = keep.canonicalize().or_fail(ExitCode::Failed, || {
            format!("the folder {named} cannot be found")
        })?;
        Ok(Self::Kept(path))
    }

    /// The folder.
    pub(super) fn path(&self) -> &Path {
        match self {
            Self::Kept(path) => path,
            Self::Temporary(folder) => folder.path(),
        }
    }

    /// Removes a temporary folder; a sentence when something of it stays.
    pub(super) fn leave(self) -> Option<String> {
        let Self::Temporary(folder) = self else {
            return None;
        };
        let path = printable_path(folder.path().as_ref());
        let error = folder.close().err()?;
        Some(format!(
            "The temporary folder {path} could not be removed ({error}); remove it by hand."
        ))
    }
}

fn is_empty(folder: &Path) -> bool {
    fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_temporary_place_goes_away_and_a_kept_one_stays_private() {
        let temporary = Place::make(None).unwrap();
        let path = temporary.path().to_owned();
        fs::write(path.join("x"), "x").unwrap();
        assert_eq!(temporary.leave(), None);
        assert!(!path.exists());

        let folder = tempfile::tempdir().unwrap();
        let keep = folder.path().join("demo");
        let kept = Place::make(Some(&keep)).unwrap();
        assert_eq!(
            kept.path().metadata().unwrap().permissions().mode() & 0o777,
            0o700
        );
        assert_eq!(kept.leave(), None);
        assert!(keep.is_dir());
    }

    #[test]
    fn a_folder_with_anything_in_it_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        assert!(Place::make(Some(folder.path())).is_ok());
        fs::write(folder.path().join("x"), "x").unwrap();
        let refused = Place::make(Some(folder.path())).err().unwrap();
        assert_eq!(refused.code(), ExitCode::Refused);
    }
}
