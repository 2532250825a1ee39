//! Writing a new key file.
//!
//! **Invariant**: the file is made before the key, so that no key is added to a repository and then lost for want of
//! a place; it is closed to others from the start, and never takes the place of another file.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use lifeboat_codec::KeyFile;

use crate::{
    error::{CommandError, OrFail},
    exit_code::ExitCode,
    text::printable_path,
};

/// An empty file that waits for its key; it is removed again when it gets none.
pub(super) struct NewKeyFile {
    path: PathBuf,
    file: File,
    is_filled: bool,
}

impl NewKeyFile {
    /// Makes the file, which must not exist.
    pub(super) fn reserve(path: &Path) -> Result<Self, CommandError> {
        let named = printable_path(path.as_ref());
        let opened = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path);
        match opened {
            Ok(file) => Ok(Self {
                path: path.to_owned(),
                file,
                is_filled: false,
            }),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(CommandError::new(
                ExitCode::Refused,
                format!("{named} exists already"),
            )
            .hint("Choose a new name; a key that lies there may be needed.")),
            Err(error) => Err(error)
                .or_fail(ExitCode::Failed, || {
                    format!("the key file {named} cannot be created")
                })
                .map_err(|error| error.hint("Check the folder and who may write to it.")),
        }
    }

    /// Writes the key; durable when it returns.
    pub(super) fn fill(mut self, content: &KeyFile) -> Result<(), CommandError> {
        self.file
            .write_all(content.encode().as_bytes())
            .and_then(|()| self.file.sync_all())
            .and_then(|()| sync_folder(&self.path))
            .or_fail(ExitCode::Failed, || {
                let named = printable_path(self.path.as_ref());
                format!("the key file {named} cannot be written")
            })
            .map_err(|error| {
                error.hint(
                    "The key was added and is of no use without its file: remove it with `lifeboat key remove`, \
                     then add another.",
                )
            })?;
        self.is_filled = true;
        Ok(())
    }
}

/// A name is durable when its folder is.
fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| *folder != Path::new(""));
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

impl Drop for NewKeyFile {
    fn drop(&mut self) {
        if !self.is_filled {
            // An empty file that stays is no harm.
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use lifeboat_codec::{FamilyId, Secret, SlotId};

    use super::*;

    fn key() -> KeyFile {
        KeyFile {
            family: FamilyId([1; 16]),
            slot: SlotId([2; 16]),
            admin: [3; 32],
            secret: Secret::new([4; 32]),
        }
    }

    #[test]
    fn a_key_file_is_private_and_reads_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        NewKeyFile::reserve(&path).unwrap().fill(&key()).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(KeyFile::decode(&text).unwrap().family, key().family);
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn what_lies_there_is_never_touched_and_an_unused_file_goes_away() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        fs::write(&path, "old").unwrap();
        let refused = NewKeyFile::reserve(&path).err().unwrap();
        assert_eq!(refused.code(), ExitCode::Refused);
        assert_eq!(fs::read_to_string(&path).unwrap(), "old");
        fs::remove_file(&path).unwrap();
        drop(NewKeyFile::reserve(&path).unwrap());
        assert!(!path.exists());
    }
}
