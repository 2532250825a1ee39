//! Listing the objects below a folder.
//!
//! **Invariant:** a file that vanishes during the walk is left out; whatever else cannot be looked
//! at ends the walk with an error. A list is never silently shorter than the truth.

use std::os::fd::OwnedFd;
use std::time::{Duration, SystemTime};

use rustix::fs::{AtFlags, Dir, FileType, Stat};
use rustix::io::Errno;

use super::folders::{in_the_way, open_folder};
use super::problem::Problem;
use crate::contract::Listed;
use crate::name::{ObjectName, is_component};

/// Reports every object in `folder` (`None`: everywhere) and below.
pub(super) fn list(
    root: &OwnedFd,
    folder: Option<&str>,
    found: &mut dyn FnMut(Listed),
) -> Result<(), Problem> {
    let Some(path) = folder else {
        return list_folder(root, "", found);
    };
    let mut handle: Option<OwnedFd> = None;
    for component in path.split('/') {
        match open_folder(handle.as_ref().unwrap_or(root), component) {
            Ok(below) => handle = Some(below),
            // Below what is missing, and below an object, there is nothing.
            Err(problem) if problem.has_errno(&[Errno::NOENT, Errno::NOTDIR]) => return Ok(()),
            Err(problem) => return Err(problem),
        }
    }
    let start = handle.as_ref().unwrap_or(root);
    list_folder(start, &format!("{path}/"), found)
}

/// Reports the objects of one folder; `prefix` is its path with a last `/`, or empty.
fn list_folder(
    folder: &OwnedFd,
    prefix: &str,
    found: &mut dyn FnMut(Listed),
) -> Result<(), Problem> {
    for entry in Dir::read_from(folder)? {
        let entry = entry?;
        // What cannot be an object's name (temporary files, `lost+found`, what a file manager left)
        // is no object.
        let Ok(component) = entry.file_name().to_str() else {
            continue;
        };
        if !is_component(component) {
            continue;
        }
        let Ok(name) = ObjectName::new(format!("{prefix}{component}")) else {
            continue;
        };
        match look_at(folder, component, entry.file_type()) {
            Ok(Entry::Folder(below)) => list_folder(&below, &format!("{name}/"), found)?,
            Ok(Entry::Object(len, modified)) => found(Listed {
                name,
                len,
                modified,
            }),
            Err(problem) if problem.is_not_found() => {}
            Err(problem) => return Err(problem),
        }
    }
    Ok(())
}

enum Entry {
    Folder(OwnedFd),
    Object(u64, Option<SystemTime>),
}

/// Looks at one entry; the type that the folder told may be unknown and saves a call where it is not.
fn look_at(folder: &OwnedFd, component: &str, told: FileType) -> Result<Entry, Problem> {
    if told == FileType::Directory {
        return Ok(Entry::Folder(open_folder(folder, component)?));
    }
    let stat = rustix::fs::statat(folder, component, AtFlags::SYMLINK_NOFOLLOW)?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => Ok(Entry::Folder(open_folder(folder, component)?)),
        FileType::RegularFile => {
            let len = u64::try_from(stat.st_size).map_err(|_| Errno::OVERFLOW)?;
            Ok(Entry::Object(len, modified(&stat)))
        }
        other => Err(Problem::InTheWay(in_the_way(other))),
    }
}

/// When a file was last written; `None` for a time before 1970 or past the end of time.
fn modified(stat: &Stat) -> Option<SystemTime> {
    let seconds = u64::try_from(stat.st_mtime).ok()?;
    let nanoseconds = u32::try_from(stat.st_mtime_nsec).ok()?;
    SystemTime::UNIX_EPOCH.checked_add(Duration::new(seconds, nanoseconds))
}
