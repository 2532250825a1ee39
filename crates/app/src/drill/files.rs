//! The files of a drill: restored, and then each entry of the snapshot looked up.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use lifeboat_codec::{Entry, EntryKind, status};
use lifeboat_files::{Overwrite, Owner};
use lifeboat_repository::{ReadError, StreamError};

use super::scratch::loosen;
use super::{Done, Drill, Trouble, surroundings};
use crate::browse::{Found, PathError, Step, find_item, walk_entries};
use crate::bundle::copy_content;
use crate::entry::{FileContent, file_content};
use crate::restore::{RestoreError, RestoreRequest, restore};
use crate::text::shown_path;

/// Sources whose content is in no file of the scratch folder.
const ELSEWHERE: [&str; 2] = ["postgres", "secrets"];

/// What one entry was found to be.
enum Met {
    /// As it should be.
    Right,
    /// A file, of its size.
    File,
    /// A file whose content nobody shall find on a disk.
    Secret(FileContent),
    /// It could not be read when the snapshot was made.
    Unread,
    /// Not there, or another thing.
    Wrong(Option<FileContent>),
    /// The repository does not give it.
    Unknown(ReadError),
}

impl Drill<'_> {
    /// Restores everything but databases and secrets.
    pub(super) fn files(&mut self) -> Done<()> {
        let sources = self.manifest.sources.iter();
        let paths: Vec<Vec<u8>> = sources
            .filter(|source| !ELSEWHERE.contains(&source.kind.as_str()))
            .map(|source| source.name.clone().into_bytes())
            .collect();
        if paths.is_empty() {
            return Ok(());
        }
        self.step("Restoring the files".to_owned(), |drill| {
            let request = RestoreRequest {
                paths,
                target: drill.scratch.files(),
                tree: true,
                overwrite: Overwrite::Never,
                exact: false,
                owner: Some(Owner::All {
                    uid: rustix::process::geteuid().as_raw(),
                    gid: rustix::process::getegid().as_raw(),
                }),
                numeric_ids: false,
                devices: false,
                with_secrets: false,
                sparse: true,
                durable: false,
                dry_run: false,
            };
            let outcome = restore(
                drill.repository,
                drill.snapshot,
                &request,
                drill.progress,
                drill.stop,
            );
            let outcome = outcome.map_err(|error| match error {
                RestoreError::Stopped => Trouble::Stopped,
                RestoreError::Read(error) | RestoreError::Path(PathError::Read(error)) => {
                    drill.judge("the files cannot be restored", &error)
                }
                RestoreError::Path(error) => {
                    drill.problem(format!("the files cannot be restored: {error}"))
                }
                error => surroundings(&error),
            })?;
            if outcome.full {
                return Err(Trouble::Surroundings(format!(
                    "{} is full",
                    drill.scratch.path().display()
                )));
            }
            // Whether content lacks is found by looking; the rest is what this place cannot hold.
            for problem in &outcome.problems {
                drill.warning(format!("While the files were restored: {problem}."));
            }
            // What even its owner may not enter could not be looked at.
            loosen(&drill.scratch.files());
            drill.report.files.files = outcome.files;
            drill.report.files.bytes = outcome.bytes;
            Ok(((), format!("{} files", outcome.files)))
        })
    }

    /// Holds what was restored against the snapshot's trees.
    pub(super) fn compare_files(&mut self) -> Done<()> {
        let sources = self.manifest.sources.iter();
        let sources: Vec<String> = sources
            .filter(|source| source.kind != "postgres")
            .map(|source| source.name.clone())
            .collect();
        if sources.is_empty() {
            return Ok(());
        }
        self.step("Comparing the files".to_owned(), |drill| {
            let mut compared = 0;
            let mut failed = false;
            for source in &sources {
                match drill.compare_source(source, &mut compared) {
                    Ok(()) => {}
                    Err(Trouble::Backup) => failed = true,
                    trouble => trouble?,
                }
            }
            if failed {
                return Err(Trouble::Backup);
            }
            Ok(((), format!("{compared} files are there, with their sizes")))
        })
    }

    fn compare_source(&mut self, source: &str, compared: &mut u64) -> Done<()> {
        let what = format!("{source} cannot be read");
        let tree = match find_item(&self.reader, self.snapshot, source.as_bytes()) {
            Ok(Found::Folder { tree, .. }) => tree,
            Ok(Found::Other(_)) | Err(PathError::NotFound { .. }) => {
                return Err(self.problem(format!("the snapshot has no folder {source}")));
            }
            Err(PathError::Read(error)) => return Err(self.judge(&what, &error)),
        };
        let files = self.scratch.files();
        let mut odd: Vec<(Vec<u8>, Met)> = Vec::new();
        let mut unread = 0_u64;
        let (stop, mut stopped) = (self.stop, false);
        let walked = walk_entries(
            &self.reader,
            &tree,
            source.as_bytes(),
            &mut |path, entry| {
                if stop.load(std::sync::atomic::Ordering::Relaxed) {
                    stopped = true;
                    return Ok(Step::End);
                }
                let met = entry.map_or_else(
                    |unread| Met::Unknown(unread.into()),
                    |entry| look(&files, path, entry),
                );
                match met {
                    Met::Right => {}
                    Met::File => *compared += 1,
                    Met::Unread => unread += 1,
                    met => odd.push((path.to_vec(), met)),
                }
                Ok(Step::Into)
            },
        );
        if stopped {
            return Err(Trouble::Stopped);
        }
        if let Err(error) = walked {
            return Err(self.judge(&what, &error));
        }
        if unread > 0 {
            self.warning(format!(
                "{source}: {unread} entries could not be read when the snapshot was made."
            ));
        }
        let mut done = Ok(());
        for (path, met) in odd {
            let one = self.odd(&path, met);
            done = super::worse(done, one);
            if matches!(done, Err(Trouble::Stopped | Trouble::Surroundings(_))) {
                break;
            }
        }
        done
    }

    /// An entry that is not simply there: the repository says whose fault that is.
    fn odd(&mut self, path: &[u8], met: Met) -> Done<()> {
        self.going_on()?;
        let shown = shown_path(path);
        let (content, is_secret) = match met {
            Met::Secret(content) => (Some(content), true),
            Met::Wrong(content) => (content, false),
            Met::Unknown(error) => {
                return Err(self.judge(&format!("{shown} cannot be read"), &error));
            }
            Met::Right | Met::File | Met::Unread => return Ok(()),
        };
        if let Some(content) = content {
            match copy_content(&self.reader, &content, &mut io::sink()) {
                Ok(()) => {}
                Err(StreamError::Read(error)) => {
                    return Err(self.judge(&format!("{shown} does not come back"), &error));
                }
                Err(StreamError::Write(error)) => return Err(surroundings(&error)),
            }
        }
        if is_secret {
            self.report.files.secrets += 1;
            return Ok(());
        }
        Err(Trouble::Surroundings(format!(
            "{shown} is good in the repository, and could not be written into the scratch folder"
        )))
    }
}

/// Looks an entry up below `files`.
fn look(files: &Path, path: &[u8], entry: &Entry<'_>) -> Met {
    if entry.status & status::UNREADABLE != 0 {
        return Met::Unread;
    }
    let content = match (entry.kind == EntryKind::File)
        .then(|| file_content(entry))
        .transpose()
    {
        Ok(content) => content,
        Err(error) => return Met::Unknown(error),
    };
    if entry.status & status::SECRET != 0
        && let Some(content) = content
    {
        return Met::Secret(content);
    }
    let Ok(found) = fs::symlink_metadata(files.join(OsStr::from_bytes(path))) else {
        return match entry.kind {
            // Nothing that an app keeps its data in, and only root can make some of them.
            EntryKind::Fifo
            | EntryKind::Socket
            | EntryKind::BlockDevice
            | EntryKind::CharDevice => Met::Right,
            // A folder of nothing but secrets is not made.
            EntryKind::Folder => Met::Right,
            EntryKind::File | EntryKind::Symlink => Met::Wrong(content),
        };
    };
    let kind = found.file_type();
    match entry.kind {
        EntryKind::File if kind.is_file() && found.size() == entry.size => Met::File,
        EntryKind::Folder if kind.is_dir() => Met::Right,
        EntryKind::Symlink if kind.is_symlink() => Met::Right,
        EntryKind::Fifo if kind.is_fifo() => Met::Right,
        EntryKind::Socket | EntryKind::BlockDevice | EntryKind::CharDevice => Met::Right,
        EntryKind::File | EntryKind::Folder | EntryKind::Symlink | EntryKind::Fifo => {
            Met::Wrong(content)
        }
    }
}
