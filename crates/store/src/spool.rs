//! Temporary files that may become objects.
//!
//! An object that is too large for memory is written into a spool first. Where the store has a
//! folder for that on its own file system, the put gives the spool a name instead of copying it.
//!
//! **Invariant:** a spool has no name, so that it vanishes with its handle however the process ends.

use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use rustix::fs::{AtFlags, Mode, OFlags};

use crate::contract::Store;
use crate::error::{Error, Operation, Result};
use crate::temporary;

/// Makes a temporary file without a name, mode 0600, for reading and writing.
///
/// It lies in the store's spool folder (made when it is missing), or in the system's folder for
/// temporary files (`TMPDIR`) when the store has none.
pub fn spool(store: &dyn Store) -> Result<File> {
    match store.abilities().spool_folder {
        Some(folder) => {
            let ready = match DirBuilder::new().mode(0o700).create(&folder) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
                _ => make_in(&folder, OFlags::NOFOLLOW),
            };
            ready.map_err(|error| Error::from_io(error, Operation::Spool, folder.as_path()))
        }
        None => {
            let folder = std::env::temp_dir();
            make_in(&folder, OFlags::empty())
                .map_err(|error| Error::from_io(error, Operation::Spool, folder.as_path()))
        }
    }
}

fn make_in(folder: &Path, links: OFlags) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | links;
    let handle = rustix::fs::open(folder, flags, Mode::empty())?;
    if let Some(file) = temporary::unnamed(&handle)? {
        return Ok(file);
    }
    let (file, name) = temporary::named(&handle)?;
    rustix::fs::unlinkat(&handle, &name, AtFlags::empty())?;
    Ok(file)
}
