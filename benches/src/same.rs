//! What was restored against what was backed up: the same files with the same bytes.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::Failure;
use crate::data::{count, each_file};

const BUFFER_BYTES: usize = 1 << 20;

/// Refuses a restored folder that lacks a regular file of `source`, has one more, or has other bytes in one.
///
/// Programs put what they restore below more or fewer of the folders above it; those are passed.
pub(crate) fn judge(source: &Path, restored: &Path) -> Result<(), Failure> {
    let (back, expected) = (count(restored)?, count(source)?);
    if back != expected {
        return Err(format!("{back:?} files and bytes came back instead of {expected:?}").into());
    }
    // Found with the first file. Names are not gathered: what this program holds counts as a later command's memory.
    let mut place = None;
    let mut buffers = (vec![0; BUFFER_BYTES], vec![0; BUFFER_BYTES]);
    each_file(source, &mut |path, _| {
        let below = path.strip_prefix(source).map_err(io::Error::other)?;
        let place = match &place {
            Some(place) => place,
            None => place.insert(root(restored, below)?),
        };
        let other = place.join(below);
        if same(path, &other, &mut buffers)? {
            return Ok(());
        }
        let (path, other) = (path.display(), other.display());
        Err(io::Error::other(format!(
            "{other} has other bytes than {path}"
        )))
    })?;
    Ok(())
}

/// The folder, at or below `restored`, in which `file` lies; above it there is one entry in each folder.
fn root(restored: &Path, file: &Path) -> io::Result<PathBuf> {
    let mut folder = restored.to_path_buf();
    while !folder.join(file).is_file() {
        let mut entries = fs::read_dir(&folder)?;
        folder = entries
            .next()
            .ok_or_else(|| io::Error::other(format!("{} did not come back", file.display())))??
            .path();
    }
    Ok(folder)
}

fn same(one: &Path, other: &Path, buffers: &mut (Vec<u8>, Vec<u8>)) -> io::Result<bool> {
    let open = |path: &Path| {
        File::open(path)
            .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))
    };
    let (mut one, mut other) = (open(one)?, open(other)?);
    loop {
        let read = fill(&mut one, &mut buffers.0)?;
        if read != fill(&mut other, &mut buffers.1)? || buffers.0[..read] != buffers.1[..read] {
            return Ok(false);
        }
        if read < BUFFER_BYTES {
            return Ok(true);
        }
    }
}

fn fill(file: &mut File, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read(&mut buffer[filled..])? {
            0 => break,
            read => filled += read,
        }
    }
    Ok(filled)
}
