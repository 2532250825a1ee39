//! Puts a snapshot's files back, in rounds: folders first, then content in the order in which it lies in packs, then
//! links; then the folders that are full are completed, and the walk goes on.
//!
//! Every byte was authenticated before it is written. Nothing is created outside the target, and what could not be
//! restored as it was is a problem that is reported, never silence. Memory holds one round, the folders on the way
//! down, a few words for each file of several names with the folders of their first names, and, of an exact restore,
//! the folders that hold something that is to go, or that could not be opened or listed when it was looked for.

mod guard;
mod select;
mod extras;
mod plan;
mod large;
mod bundles;

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use lifeboat_files::{
    ErrorKind, FileSlot, Folder, FolderId, Kind, NewFile, Original, Outcome, Overwrite, Owner,
    RestoreOptions, Restored, Target, TargetFolder,
};
use lifeboat_repository::{Counter, Progress, ReadError, Reader, Repository, Snapshot, Wanted};
use thiserror::Error;

use self::extras::{Extras, Names, extras, repository_in};
use self::guard::{REPOSITORY, repository_around};
use self::plan::{Link, Piece, Plan, Round, Waiting};
use self::select::{Selected, dry_run, has_nothing_but_secrets, owner, select};
use crate::browse::PathError;
use crate::bundle::copy_content;
use crate::text::{sentence, shown_path};

/// Open target folders that are kept for the files that come next.
const FOLDERS_MAX: usize = 256;
/// Files of several pieces that are open at once; more wait for another round. Each may keep its folder open too, and
/// all together stay below the 1,024 descriptors that a process may usually have.
const FILES_OPEN_MAX: usize = 256;
/// How much is planned before it is written. A round is what is read in the order of packs: the larger it is, the
/// less is read twice and the longer the reads are. Most snapshots are restored in one.
const ROUND: Bounds = Bounds {
    items: 128 << 10,
    bytes: 48 << 20,
    large: 64 << 30,
};
/// Problems that are kept word for word; more are counted.
const PROBLEMS_MAX: usize = 1000;
/// Secrets that were left out and are named; more are counted.
const SECRETS_MAX: usize = 100;

/// What is to be restored, and how.
#[derive(Clone, Debug)]
pub struct RestoreRequest {
    /// Paths in the snapshot; none = everything.
    pub paths: Vec<Vec<u8>>,
    /// Where to.
    pub target: PathBuf,
    /// Keep the whole path below the target, instead of putting a folder's entries right into it.
    pub tree: bool,
    /// What happens to what stands there.
    pub overwrite: Overwrite,
    /// Delete what the snapshot does not have.
    pub exact: bool,
    /// Who owns the result; `None` = as it was, names before numbers.
    pub owner: Option<Owner>,
    /// Numbers as they were, whatever names say.
    pub numeric_ids: bool,
    /// Create devices too.
    pub devices: bool,
    /// Restore secrets too.
    pub with_secrets: bool,
    /// Leave zeros as holes.
    pub sparse: bool,
    /// Wait until the storage has everything.
    pub durable: bool,
    /// Only say what would be restored.
    pub dry_run: bool,
}

/// What was restored.
#[derive(Debug, Default)]
pub struct RestoreOutcome {
    /// Files, those that stood there already among them.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Folders.
    pub folders: u64,
    /// Files that stood there already.
    pub kept: u64,
    /// Bytes of those.
    pub kept_bytes: u64,
    /// Entries deleted because the snapshot does not have them; a folder counts once, with all that it held.
    pub deleted: u64,
    /// The first of the paths below the target of what was to be deleted, shown for people.
    pub extras: Vec<String>,
    /// How many more there were.
    pub more_extras: u64,
    /// Secrets that were left out.
    pub secrets_left_out: u64,
    /// The first of their paths.
    pub secrets: Vec<String>,
    /// The target is full; what is missing is not counted.
    pub full: bool,
    /// Sentences about what is not as it was.
    pub problems: Vec<String>,
    /// More problems than those.
    pub more_problems: u64,
}

impl RestoreOutcome {
    /// Keeps a problem that was told, or counts it.
    fn problem(&mut self, text: String) {
        if self.problems.len() < PROBLEMS_MAX {
            self.problems.push(text);
        } else {
            self.more_problems += 1;
        }
    }

    /// Counts a secret that was left out.
    fn leave_out(&mut self, path: &[u8]) {
        self.secrets_left_out += 1;
        if self.secrets.len() < SECRETS_MAX {
            self.secrets.push(shown_path(path));
        }
    }
}

/// A restore could not be done.
#[derive(Debug, Error)]
pub enum RestoreError {
    /// A path is not in the snapshot.
    #[error(transparent)]
    Path(#[from] PathError),
    /// The repository failed before anything was written; what fails later is a problem in the outcome.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The target cannot be used.
    #[error(transparent)]
    Target(#[from] lifeboat_files::Error),
    /// It would write into a repository, or delete one.
    #[error("a repository lies at {}, and a restore changes none", .0.display())]
    Repository(PathBuf),
    /// All that was asked for is secret.
    #[error("what was asked for is secret")]
    OnlySecrets,
    /// Two of the paths end in the same name.
    #[error("two of the paths would be restored as {0}")]
    SameName(String),
    /// It was asked to end.
    #[error("the restore was stopped")]
    Stopped,
}

/// A repository that the folder at `path` is, or has in it. Nobody but this program's verbs for it may delete one.
///
/// # Errors
/// When a list of names was lost while it was read: one of them may be a repository.
pub(crate) fn repository_within(path: &Path) -> Result<Option<PathBuf>, lifeboat_files::Error> {
    // What cannot be opened cannot be deleted either.
    let Ok(top) = Folder::open(path) else {
        return Ok(None);
    };
    // Half a look is none: it is not stopped.
    let found = repository_in(&top, b"", &AtomicBool::new(false))?;
    Ok(found.map(|found| path.join(OsStr::from_bytes(&found))))
}

/// Restores files of a snapshot.
///
/// # Errors
/// When nothing could be begun, or it was stopped. What could not be restored is in the outcome.
pub fn restore(
    repository: &Repository,
    snapshot: &Snapshot,
    request: &RestoreRequest,
    progress: &dyn Progress,
    stop: &AtomicBool,
) -> Result<RestoreOutcome, RestoreError> {
    restore_in(ROUND, repository, snapshot, request, (progress, stop))
}

/// The same in rounds of this size.
fn restore_in(
    bounds: Bounds,
    repository: &Repository,
    snapshot: &Snapshot,
    request: &RestoreRequest,
    (progress, stop): (&dyn Progress, &AtomicBool),
) -> Result<RestoreOutcome, RestoreError> {
    let reader = repository.reader(snapshot.head.domain)?;
    let manifest = repository.manifest(snapshot)?;
    let selected = select(&reader, snapshot, request)?;
    if let Some(repository) = repository_around(&request.target) {
        return Err(RestoreError::Repository(repository));
    }
    let only_secrets = has_nothing_but_secrets(&reader, &selected, request, stop)?;
    let go_on = || match stop.load(Ordering::Relaxed) {
        true => Err(RestoreError::Stopped),
        false => Ok(()),
    };
    go_on()?;
    if only_secrets {
        return Err(RestoreError::OnlySecrets);
    }
    let options = RestoreOptions {
        overwrite: request.overwrite,
        owner: owner(request, &manifest),
        devices: request.devices,
        sparse: request.sparse,
        durable: request.durable,
        keep_out: Some(REPOSITORY),
    };
    Target::check(&request.target, &options)?;
    let extras = if request.exact {
        progress.phase("Looking for what the snapshot does not have");
        extras(&reader, &selected, request, stop)?
    } else {
        Extras::default()
    };
    // What was found until it was stopped is not all that lies there.
    go_on()?;
    if request.dry_run {
        let mut outcome = dry_run(&reader, &selected, request, stop)?;
        go_on()?;
        for problem in &outcome.problems {
            progress.problem(problem);
        }
        outcome.deleted = extras.count;
        extras.tell(&mut outcome);
        return Ok(outcome);
    }
    progress.phase("Making folders");
    let target = Target::prepare(&request.target, options)?;
    let work = Work {
        reader: &reader,
        request,
        target: &target,
        progress,
        stop,
        bounds,
        held: &extras.held,
    };
    let mut outcome = work.run(&selected)?;
    extras.tell(&mut outcome);
    finish(target, outcome, progress)
}

fn finish(
    target: Target,
    mut outcome: RestoreOutcome,
    progress: &dyn Progress,
) -> Result<RestoreOutcome, RestoreError> {
    progress.phase("Giving folders their times");
    for problem in target.finish() {
        let path = shown_path(problem.path.as_os_str().as_bytes());
        let mut text = format!("{} {path}", problem.what);
        if problem.count > 1 {
            text.push_str(&format!(" and {} more", problem.count - 1));
        }
        if let Some(source) = &problem.source {
            text.push_str(&format!(": {source}"));
        }
        progress.problem(&text);
        outcome.problems.push(text);
    }
    Ok(outcome)
}

/// The largest round.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    /// Files, further names and folders.
    items: usize,
    /// What they take in memory, about.
    bytes: usize,
    /// A file of more bytes than this is written by itself.
    large: u64,
}

struct Work<'a> {
    reader: &'a Reader<'a>,
    request: &'a RestoreRequest,
    target: &'a Target,
    progress: &'a dyn Progress,
    stop: &'a AtomicBool,
    bounds: Bounds,
    /// Folders of the target, by path, that may hold what is to go: they are completed at the end.
    held: &'a HashSet<Vec<u8>>,
}

/// What the threads that write share.
#[derive(Default)]
struct Writing<'t> {
    outcome: Mutex<RestoreOutcome>,
    originals: Mutex<HashMap<u64, Original>>,
    folders: Mutex<HashMap<FolderId, TargetFolder<'t>>>,
    slots: Mutex<Slots<'t>>,
    files: AtomicU64,
    bytes: AtomicU64,
    full: AtomicBool,
}

/// Files of several pieces that are begun.
#[derive(Default)]
struct Slots<'t> {
    files: HashMap<u32, Slot<'t>>,
    /// How many of them are open.
    open: usize,
}

enum Slot<'t> {
    Open(Arc<NewFile<'t>>),
    /// Kept as it stood there, or given up.
    Closed,
    /// Too many were open: it is written in another round.
    Later,
}

impl<'t> Slots<'t> {
    fn put(&mut self, file: u32, slot: Slot<'t>) {
        self.open += usize::from(matches!(slot, Slot::Open(_)));
        if let Some(Slot::Open(_)) = self.files.insert(file, slot) {
            self.open -= 1;
        }
    }

    fn take(&mut self, file: u32) -> Option<Arc<NewFile<'t>>> {
        match self.files.remove(&file) {
            Some(Slot::Open(new)) => {
                self.open -= 1;
                Some(new)
            }
            _ => None,
        }
    }

    /// Forgets all of them, and returns those that are to be written later.
    fn end_round(&mut self) -> Vec<u32> {
        let files = std::mem::take(self).files.into_iter();
        let mut later: Vec<u32> = files
            .filter_map(|(file, slot)| matches!(slot, Slot::Later).then_some(file))
            .collect();
        later.sort_unstable();
        later
    }
}

impl<'t> Writing<'t> {
    /// Gives a file up, and says whether this is the first to do so.
    fn close(&self, file: u32) -> bool {
        let mut slots = self.slots.lock().expect("no thread panics with a file");
        let closed = matches!(slots.files.get(&file), Some(Slot::Closed));
        slots.put(file, Slot::Closed);
        !closed
    }

    /// Forgets the files of several pieces, and returns those that are to be written later.
    fn end_round(&self) -> Vec<u32> {
        let mut slots = self.slots.lock().expect("no thread panics with a file");
        slots.end_round()
    }

    fn problem(&self, progress: &dyn Progress, text: String) {
        progress.problem(&text);
        let mut outcome = self
            .outcome
            .lock()
            .expect("no thread panics with the outcome");
        outcome.problem(text);
    }

    /// A file stands in its place; its further names are made from it.
    fn restored(&self, restored: Restored, bytes: u64, group: u64) {
        self.files.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        if restored.outcome == Outcome::Kept {
            let mut outcome = self
                .outcome
                .lock()
                .expect("no thread panics with the outcome");
            outcome.kept += 1;
            outcome.kept_bytes += bytes;
        }
        self.original(restored, group);
    }

    /// An object of which further names may follow.
    fn original(&self, restored: Restored, group: u64) {
        if let Some(original) = restored.original {
            self.originals
                .lock()
                .expect("no thread panics with originals")
                .insert(group, original);
        }
    }

    /// An item failed; when nothing more fits, the rest would fail the same way.
    fn failed(&self, progress: &dyn Progress, path: &[u8], error: &lifeboat_files::Error) {
        if error.kind() == ErrorKind::Full {
            self.full.store(true, Ordering::Relaxed);
        }
        self.problem(
            progress,
            format!("{}: {}", shown_path(path), sentence(error)),
        );
    }
}

impl<'a> Work<'a> {
    fn run(&self, selected: &[Selected]) -> Result<RestoreOutcome, RestoreError> {
        let writing = Writing::default();
        let mut plan = Plan::default();
        for part in selected {
            self.plan(part, selected, &mut plan, &writing)?;
        }
        if !plan.is_expected {
            let round = &plan.round;
            let linked = round.links.iter().filter(|link| link.content.is_some());
            let files = round.files.len() + round.bundles.len() + linked.clone().count();
            let files = plan.made + files as u64;
            let sizes = round.files.iter().map(|file| file.metadata.size);
            let bundles = round.bundles.iter().map(|bundle| bundle.metadata.size);
            let bytes: u64 = sizes
                .chain(bundles)
                .chain(linked.map(|link| link.metadata.size))
                .sum();
            self.progress.expect(Counter::Files, files);
            self.progress
                .expect(Counter::Bytes, plan.made_bytes + bytes);
        }
        self.end_round(&mut plan, &writing);
        if self.stop.load(Ordering::Relaxed) {
            return Err(RestoreError::Stopped);
        }
        if !writing.full.load(Ordering::Relaxed) {
            self.remove_extras(&plan, &writing);
        }
        let mut outcome = writing
            .outcome
            .into_inner()
            .expect("no thread panics with the outcome");
        (outcome.files, outcome.bytes) = (writing.files.into_inner(), writing.bytes.into_inner());
        outcome.folders = plan.folders;
        outcome.full = writing.full.into_inner();
        Ok(outcome)
    }

    /// Writes what was planned, and completes the folders of which nothing more will come.
    ///
    /// Whatever lies in a folder is there before it is completed: its files, its further names of files of this round
    /// or an earlier one, and the folders in it. When the restore was stopped, nothing more is completed.
    fn end_round(&self, plan: &mut Plan, writing: &Writing<'a>) {
        let round = std::mem::take(&mut plan.round);
        self.progress.phase("Restoring files");
        self.deliver(&round, &round.wanted, writing);
        for files in writing.end_round().chunks(FILES_OPEN_MAX) {
            let files: HashSet<u32> = files.iter().copied().collect();
            let of_these = |wanted: &&Wanted| files.contains(&round.piece(wanted.tag).file);
            let wanted: Vec<Wanted> = round.wanted.iter().filter(of_these).copied().collect();
            self.deliver(&round, &wanted, writing);
        }
        self.rebuild(&round.bundles, writing);
        for link in &round.links {
            if self.stop.load(Ordering::Relaxed) {
                return;
            }
            self.link(link, writing);
        }
        // A file that is given up is removed when it is dropped, which changes the folder once more.
        writing.end_round();
        writing
            .folders
            .lock()
            .expect("no thread panics with a folder")
            .clear();
        if !self.stop.load(Ordering::Relaxed) {
            self.target.complete(round.left);
        }
    }

    /// Fetches what is wanted and writes it, until all is done, somebody stops it, or nothing more fits.
    fn deliver(&self, round: &Round, wanted: &[Wanted], writing: &Writing<'a>) {
        let over = || self.stop.load(Ordering::Relaxed) || writing.full.load(Ordering::Relaxed);
        let ended = AtomicBool::new(over());
        self.reader.deliver(wanted, &ended, &|tag, chunk| {
            if over() {
                ended.store(true, Ordering::Relaxed);
                return;
            }
            self.piece(round, round.piece(tag), chunk, writing);
        });
    }

    fn folder(
        &self,
        id: FolderId,
        writing: &Writing<'a>,
    ) -> Result<TargetFolder<'a>, lifeboat_files::Error> {
        let mut folders = writing
            .folders
            .lock()
            .expect("no thread panics with a folder");
        if let Some(folder) = folders.get(&id) {
            return Ok(folder.clone());
        }
        let folder = self.target.open(id)?;
        if folders.len() >= FOLDERS_MAX {
            folders.clear();
        }
        folders.insert(id, folder.clone());
        Ok(folder)
    }

    /// Writes one piece where it belongs; the last one completes the file.
    fn piece(
        &self,
        round: &Round,
        piece: Piece,
        chunk: Result<&[u8], &ReadError>,
        writing: &Writing<'a>,
    ) {
        let file = &round.files[piece.file as usize];
        let wrong = match chunk {
            Ok(chunk) if chunk.len() == piece.length as usize => None,
            Ok(_) => Some("a chunk of it has another length".to_owned()),
            Err(error) => Some(sentence(error)),
        };
        if let Some(wrong) = wrong {
            if writing.close(piece.file) {
                let text = format!("{}: {wrong}", shown_path(&file.path));
                writing.problem(self.progress, text);
            }
            return;
        }
        let chunk = chunk.unwrap_or_default();
        let done = if piece.offset == 0 && chunk.len() as u64 == file.metadata.size {
            self.progress.count(Counter::Bytes, chunk.len() as u64);
            self.folder(file.folder, writing)
                .and_then(|folder| {
                    folder.write_file(
                        &file.path[file.name_at..],
                        &file.metadata,
                        &file.attributes,
                        chunk,
                    )
                })
                .map(Some)
        } else {
            self.part_of(file, piece, chunk, writing)
        };
        match done {
            Ok(None) => {}
            Ok(Some(restored)) => {
                self.progress.count(Counter::Files, 1);
                writing.restored(restored, file.metadata.size, file.group);
            }
            Err(error) => writing.failed(self.progress, &file.path, &error),
        }
    }

    fn part_of(
        &self,
        file: &Waiting,
        piece: Piece,
        chunk: &[u8],
        writing: &Writing<'a>,
    ) -> Result<Option<Restored>, lifeboat_files::Error> {
        let new = {
            let mut slots = writing.slots.lock().expect("no thread panics with a file");
            match slots.files.get(&piece.file) {
                Some(Slot::Open(new)) => Arc::clone(new),
                // Kept, failed before and said then, or left for another round.
                Some(Slot::Closed | Slot::Later) => return Ok(None),
                None if slots.open >= FILES_OPEN_MAX => {
                    slots.put(piece.file, Slot::Later);
                    return Ok(None);
                }
                None => {
                    slots.put(piece.file, Slot::Closed);
                    let created = self.folder(file.folder, writing)?.create_file(
                        &file.path[file.name_at..],
                        &file.metadata,
                        file.attributes.clone(),
                    )?;
                    match created {
                        FileSlot::Kept(restored) => return Ok(Some(restored)),
                        FileSlot::New(new) => {
                            let new = Arc::new(new);
                            slots.put(piece.file, Slot::Open(Arc::clone(&new)));
                            new
                        }
                    }
                }
            }
        };
        let written = new.write_at(chunk, piece.offset);
        drop(new);
        self.progress.count(Counter::Bytes, chunk.len() as u64);
        if let Err(error) = written {
            return if writing.close(piece.file) {
                Err(error)
            } else {
                Ok(None)
            };
        }
        if file.left.fetch_sub(1, Ordering::AcqRel) != 1 {
            return Ok(None);
        }
        let last = writing
            .slots
            .lock()
            .expect("no thread panics with a file")
            .take(piece.file);
        last.and_then(Arc::into_inner)
            .map(NewFile::finish)
            .transpose()
    }

    /// Gives an object one more name; where that cannot be, a file's content once more.
    fn link(&self, link: &Link, writing: &Writing<'a>) {
        let original = writing
            .originals
            .lock()
            .expect("no thread panics with originals")
            .get(&link.group)
            .cloned();
        let done = self.folder(link.folder, writing).and_then(|folder| {
            let Some(original) = &original else {
                return self.copy_of(link, &folder, writing);
            };
            match folder.create_link(&link.name, original) {
                Ok(_) if link.content.is_some() => {
                    writing.files.fetch_add(1, Ordering::Relaxed);
                    self.progress.count(Counter::Files, 1);
                    self.progress.count(Counter::Bytes, link.metadata.size);
                    Ok(())
                }
                Ok(_) => Ok(()),
                // What stands in the way stands in the way of a copy too.
                Err(error) if link.content.is_none() || error.kind() == ErrorKind::Exists => {
                    Err(error)
                }
                Err(error) => {
                    let text = format!(
                        "{}: restored as a file of its own, not as one more name of another: {}",
                        shown_path(&link.path),
                        sentence(&error)
                    );
                    writing.problem(self.progress, text);
                    self.copy_of(link, &folder, writing)
                }
            }
        });
        if let Err(error) = done {
            writing.failed(self.progress, &link.path, &error);
        }
    }

    /// There is nothing to give this name to: it becomes a file of its own, and the first for those that follow.
    fn copy_of(
        &self,
        link: &Link,
        folder: &TargetFolder<'a>,
        writing: &Writing<'a>,
    ) -> Result<(), lifeboat_files::Error> {
        let (name, metadata, attributes) = (&link.name, &link.metadata, &link.attributes);
        let Some(content) = &link.content else {
            let restored = if metadata.kind == Kind::Symlink {
                folder.create_symlink(name, &link.target, metadata, attributes)?
            } else {
                folder.create_special(name, metadata, attributes)?
            };
            writing.original(restored, link.group);
            return Ok(());
        };
        let restored = match folder.create_file(name, metadata, attributes.clone())? {
            FileSlot::Kept(restored) => restored,
            FileSlot::New(file) => {
                let mut out = AtOffset {
                    file: &file,
                    offset: 0,
                    error: None,
                };
                if let Err(unread) = copy_content(self.reader, content, &mut out) {
                    return match out.error {
                        Some(error) => Err(error),
                        None => {
                            let text = format!("{}: {}", shown_path(&link.path), sentence(&unread));
                            writing.problem(self.progress, text);
                            Ok(())
                        }
                    };
                }
                file.finish()?
            }
        };
        self.progress.count(Counter::Files, 1);
        self.progress.count(Counter::Bytes, metadata.size);
        writing.restored(restored, metadata.size, link.group);
        Ok(())
    }

    /// Deletes what folders that are restored as a whole hold beside what the snapshot has. Of a folder whose tree
    /// cannot be read to its end, nothing.
    fn remove_extras(&self, plan: &Plan, writing: &Writing<'a>) {
        for (id, tree) in &plan.exact {
            let names = Names::whole(self.reader, tree);
            let deleted = names.map(|mut names| {
                let mut unread = None;
                let deleted = self.folder(*id, writing).and_then(|folder| {
                    folder.remove_extras(&mut |name| {
                        // Behind the first failure nothing is known of any name, and all of them stay.
                        unread.is_some()
                            || names.has(name).unwrap_or_else(|error| {
                                unread = Some(error);
                                true
                            })
                    })
                });
                (deleted, unread)
            });
            let (deleted, unread) = match deleted {
                Ok((deleted, unread)) => (Some(deleted), unread),
                Err(error) => (None, Some(error)),
            };
            if let Some(error) = unread {
                writing.problem(self.progress, sentence(&error));
            }
            match deleted {
                Some(Ok(deleted)) => {
                    writing
                        .outcome
                        .lock()
                        .expect("no thread panics with the outcome")
                        .deleted += deleted;
                }
                Some(Err(error)) => writing.failed(self.progress, error.object(), &error),
                None => {}
            }
        }
    }
}

struct AtOffset<'f, 't> {
    file: &'f NewFile<'t>,
    offset: u64,
    error: Option<lifeboat_files::Error>,
}

impl std::io::Write for AtOffset<'_, '_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if let Err(error) = self.file.write_at(bytes, self.offset) {
            self.error = Some(error);
            return Err(std::io::Error::other("the file cannot be written"));
        }
        self.offset += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
