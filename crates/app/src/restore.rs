//! Puts a snapshot's files back: folders first, then content in the order in which it lies in packs, then links.
//!
//! Every byte was authenticated before it is written. Nothing is created outside the target, and what could not be
//! restored as it was is a problem that is reported, never silence.

mod select;

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use lifeboat_codec::{ChunkId, Content, Entry, EntryKind, StreamRef, status};
use lifeboat_files::{
    Attributes, ErrorKind, FileSlot, FolderId, Metadata, NewFile, Original, Overwrite, Owner,
    RestoreOptions, Restored, Target, TargetFolder,
};
use lifeboat_repository::{Counter, Progress, ReadError, Reader, Repository, Snapshot, Wanted};
use thiserror::Error;

use self::select::{Selected, dry_run, owner, select};
use crate::browse::{PathError, Step, content_of, walk_entries};
use crate::entry::{attributes_of, metadata_of};
use crate::text::{sentence, shown_path};

/// Open target folders that are kept for the files that come next.
const FOLDERS_MAX: usize = 256;
/// Problems that are kept word for word; more are counted.
const PROBLEMS_MAX: usize = 1000;

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
    /// Files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Folders.
    pub folders: u64,
    /// Files that stood there already.
    pub kept: u64,
    /// Entries deleted because the snapshot does not have them.
    pub deleted: u64,
    /// Secrets that were left out.
    pub secrets_left_out: u64,
    /// Sentences about what is not as it was.
    pub problems: Vec<String>,
    /// More problems than those.
    pub more_problems: u64,
}

/// A restore could not be done.
#[derive(Debug, Error)]
pub enum RestoreError {
    /// A path is not in the snapshot.
    #[error(transparent)]
    Path(#[from] PathError),
    /// The repository failed before anything was written.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The target cannot be used.
    #[error(transparent)]
    Target(#[from] lifeboat_files::Error),
    /// Two of the paths end in the same name.
    #[error("two of the paths would be restored as {0}")]
    SameName(String),
    /// It was asked to end.
    #[error("the restore was stopped")]
    Stopped,
}

/// A file that waits for its content.
struct Waiting {
    folder: FolderId,
    path: Box<[u8]>,
    /// Where the name starts in the path.
    name_at: usize,
    metadata: Metadata,
    attributes: Attributes,
    group: u64,
    /// Pieces that are not written yet; failed ones are never counted down.
    left: AtomicU32,
}

#[derive(Clone, Copy)]
struct Piece {
    file: u32,
    length: u32,
    offset: u64,
}

#[derive(Default)]
struct Plan {
    files: Vec<Waiting>,
    pieces: Vec<Piece>,
    wanted: Vec<Wanted>,
    links: Vec<Link>,
    /// Link groups whose first name was met.
    groups: HashSet<u64>,
    folders: u64,
    /// Names that belong into each folder, for an exact restore.
    names: HashMap<FolderId, Vec<Box<[u8]>>>,
}

struct Link {
    folder: FolderId,
    name: Vec<u8>,
    path: Vec<u8>,
    group: u64,
    metadata: Metadata,
    attributes: Attributes,
    content: Option<StreamRef>,
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
    let reader = repository.reader(snapshot.head.domain)?;
    let manifest = repository.manifest(snapshot)?;
    let selected = select(&reader, snapshot, request)?;
    if request.dry_run {
        return dry_run(&reader, &selected, request);
    }
    let options = RestoreOptions {
        overwrite: request.overwrite,
        owner: owner(request, &manifest),
        devices: request.devices,
        sparse: request.sparse,
        durable: request.durable,
    };
    progress.phase("Making folders");
    let target = Target::prepare(&request.target, options)?;
    let work = Work {
        reader: &reader,
        request,
        target: &target,
        progress,
        stop,
    };
    let outcome = work.run(&selected)?;
    finish(target, outcome, progress)
}

fn finish(
    target: Target,
    mut outcome: RestoreOutcome,
    progress: &dyn Progress,
) -> Result<RestoreOutcome, RestoreError> {
    progress.phase("Giving folders their times");
    for problem in target.finish() {
        let mut text = format!("{} {}", problem.what, problem.path.display());
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

struct Work<'a> {
    reader: &'a Reader<'a>,
    request: &'a RestoreRequest,
    target: &'a Target,
    progress: &'a dyn Progress,
    stop: &'a AtomicBool,
}

/// What the threads that write share.
#[derive(Default)]
struct Writing<'t> {
    outcome: Mutex<RestoreOutcome>,
    originals: Mutex<HashMap<u64, Original>>,
    folders: Mutex<HashMap<FolderId, TargetFolder<'t>>>,
    /// Files of several pieces that are begun; `None` inside: the file is kept or has failed.
    open: Mutex<HashMap<u32, Option<Arc<NewFile<'t>>>>>,
    files: AtomicU64,
    bytes: AtomicU64,
    full: AtomicBool,
}

impl<'t> Writing<'t> {
    fn problem(&self, progress: &dyn Progress, text: String) {
        progress.problem(&text);
        let mut outcome = self
            .outcome
            .lock()
            .expect("no thread panics with the outcome");
        if outcome.problems.len() < PROBLEMS_MAX {
            outcome.problems.push(text);
        } else {
            outcome.more_problems += 1;
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
            self.plan(part, &mut plan, &writing)?;
        }
        let bytes = plan.files.iter().map(|file| file.metadata.size).sum();
        self.progress
            .expect(Counter::Files, plan.files.len() as u64);
        self.progress.expect(Counter::Bytes, bytes);
        self.progress.phase("Restoring files");
        let ended = AtomicBool::new(false);
        self.reader.deliver(&plan.wanted, &ended, &|tag, chunk| {
            if self.stop.load(Ordering::Relaxed) || writing.full.load(Ordering::Relaxed) {
                ended.store(true, Ordering::Relaxed);
                return;
            }
            self.piece(&plan, plan.pieces[tag as usize], chunk, &writing);
        });
        if self.stop.load(Ordering::Relaxed) {
            return Err(RestoreError::Stopped);
        }
        if writing.full.load(Ordering::Relaxed) {
            writing.problem(
                self.progress,
                "the restore ended early: the target is full".to_owned(),
            );
        }
        for link in &plan.links {
            self.link(link, &writing);
        }
        if self.request.exact && !writing.full.load(Ordering::Relaxed) {
            self.remove_extras(&plan, &writing)?;
        }
        let mut outcome = writing
            .outcome
            .into_inner()
            .expect("no thread panics with the outcome");
        (outcome.files, outcome.bytes) = (writing.files.into_inner(), writing.bytes.into_inner());
        outcome.folders = plan.folders;
        Ok(outcome)
    }

    /// Makes folders and everything without content, and lists what is to be written.
    fn plan(
        &self,
        part: &Selected,
        plan: &mut Plan,
        writing: &Writing<'a>,
    ) -> Result<(), RestoreError> {
        let mut top = self.target.open(FolderId::TOP)?;
        for name in &part.above {
            let metadata = Metadata {
                mode: 0o700,
                ..metadata_of(&Entry::new(EntryKind::Folder, name))
            };
            top = top.create_folder(name, &metadata, Attributes::default())?;
        }
        // Folders that are being filled: length of their path, and themselves.
        let mut stack: Vec<(usize, TargetFolder<'a>)> = vec![(0, top)];
        let open_prefix = part.only.as_ref().filter(|_| part.open).map(Vec::len);
        walk_entries(self.reader, &part.tree, b"", &mut |path, entry| {
            if self.stop.load(Ordering::Relaxed) {
                return Ok(Step::End);
            }
            let parent = path.len() - entry.name.len();
            if parent == 0 && part.only.as_deref().is_some_and(|only| only != entry.name) {
                return Ok(Step::Past);
            }
            while stack.len() > 1
                && stack
                    .last()
                    .is_some_and(|(length, _)| *length + 1 != parent)
            {
                stack.pop();
            }
            if entry.status & status::SECRET != 0 && !self.request.with_secrets {
                writing
                    .outcome
                    .lock()
                    .expect("no thread panics with the outcome")
                    .secrets_left_out += 1;
                return Ok(Step::Past);
            }
            if parent == 0
                && entry.kind == EntryKind::Folder
                && open_prefix == Some(entry.name.len())
            {
                self.target
                    .describe_top(&metadata_of(entry), attributes_of(entry));
                let top = stack[0].1.clone();
                stack.push((path.len(), top));
                return Ok(Step::Into);
            }
            let folder = &stack.last().expect("the top is never left").1;
            match self.entry(path, entry, folder, plan, writing) {
                Ok(Some(below)) => {
                    stack.push((path.len(), below));
                    Ok(Step::Into)
                }
                Ok(None) => Ok(Step::Past),
                Err(PlanError::Files(error)) => {
                    writing.failed(self.progress, path, &error);
                    Ok(if writing.full.load(Ordering::Relaxed) {
                        Step::End
                    } else {
                        Step::Past
                    })
                }
                Err(PlanError::Read(error)) => {
                    writing.problem(
                        self.progress,
                        format!("{}: {}", shown_path(path), sentence(&error)),
                    );
                    Ok(Step::Past)
                }
            }
        })?;
        if self.stop.load(Ordering::Relaxed) {
            Err(RestoreError::Stopped)
        } else {
            Ok(())
        }
    }

    /// One entry: a folder is made and returned; a file with content waits; all else is made.
    fn entry(
        &self,
        path: &[u8],
        entry: &Entry<'_>,
        folder: &TargetFolder<'a>,
        plan: &mut Plan,
        writing: &Writing<'a>,
    ) -> Result<Option<TargetFolder<'a>>, PlanError> {
        let (metadata, attributes) = (metadata_of(entry), attributes_of(entry));
        if self.request.exact {
            plan.names
                .entry(folder.id())
                .or_default()
                .push(entry.name.into());
        }
        if entry.status & status::UNREADABLE != 0 {
            writing.problem(
                self.progress,
                format!(
                    "{}: it could not be read when the snapshot was made",
                    shown_path(path)
                ),
            );
            if entry.kind != EntryKind::Folder {
                return Ok(None);
            }
        }
        if entry.status & status::CHANGED != 0 {
            writing.problem(
                self.progress,
                format!(
                    "{}: it changed while it was read; it may be a mixture",
                    shown_path(path)
                ),
            );
        }
        if entry.status & status::LIVE != 0 {
            writing.problem(
                self.progress,
                format!(
                    "{}: it belonged to a database in use; it may not be whole",
                    shown_path(path)
                ),
            );
        }
        if entry.link_group != 0 && plan.groups.contains(&entry.link_group) {
            let content = if entry.kind == EntryKind::File {
                Some(content_of(entry)?)
            } else {
                None
            };
            plan.links.push(Link {
                folder: folder.id(),
                name: entry.name.to_vec(),
                path: path.to_vec(),
                group: entry.link_group,
                metadata,
                attributes,
                content,
            });
            return Ok(None);
        }
        match entry.kind {
            EntryKind::Folder => {
                plan.folders += 1;
                return Ok(Some(
                    folder.create_folder(entry.name, &metadata, attributes)?,
                ));
            }
            EntryKind::File if entry.content != Content::None => {
                self.wait_for(entry, folder, metadata, attributes, path, plan)?;
            }
            kind => {
                let restored = match kind {
                    EntryKind::File => {
                        folder.write_file(entry.name, &metadata, &attributes, &[])?
                    }
                    EntryKind::Symlink => {
                        folder.create_symlink(entry.name, entry.target, &metadata, &attributes)?
                    }
                    _ => folder.create_special(entry.name, &metadata, &attributes)?,
                };
                if kind == EntryKind::File {
                    writing.files.fetch_add(1, Ordering::Relaxed);
                }
                if let Some(original) = restored.original {
                    writing
                        .originals
                        .lock()
                        .expect("no thread panics with originals")
                        .insert(entry.link_group, original);
                }
            }
        }
        if entry.link_group != 0 {
            plan.groups.insert(entry.link_group);
        }
        Ok(None)
    }

    fn wait_for(
        &self,
        entry: &Entry<'_>,
        folder: &TargetFolder<'a>,
        metadata: Metadata,
        attributes: Attributes,
        path: &[u8],
        plan: &mut Plan,
    ) -> Result<(), PlanError> {
        let file = u32::try_from(plan.files.len())
            .expect("a snapshot of four billion files does not fit into memory");
        let mut put = |id: ChunkId, length: u32, offset: u64| {
            plan.wanted.push(Wanted {
                id,
                tag: plan.pieces.len() as u64,
            });
            plan.pieces.push(Piece {
                file,
                length,
                offset,
            });
        };
        let mut count = 0;
        if let Content::Chunk(id) = entry.content {
            put(id, content_of(entry)?.length as u32, 0);
            count = 1;
        } else {
            let mut offset = 0;
            for item in self.reader.chunks(&content_of(entry)?)? {
                put(item.id, item.length, offset);
                offset += u64::from(item.length);
                count += 1;
            }
        }
        plan.files.push(Waiting {
            folder: folder.id(),
            name_at: path.len() - entry.name.len(),
            path: path.into(),
            metadata,
            attributes,
            group: entry.link_group,
            left: AtomicU32::new(count),
        });
        Ok(())
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
        plan: &Plan,
        piece: Piece,
        chunk: Result<&[u8], &ReadError>,
        writing: &Writing<'a>,
    ) {
        let file = &plan.files[piece.file as usize];
        let chunk = match chunk {
            Ok(chunk) if chunk.len() == piece.length as usize => chunk,
            Ok(_) => {
                return writing.problem(
                    self.progress,
                    format!(
                        "{}: a chunk of it has another length",
                        shown_path(&file.path)
                    ),
                );
            }
            Err(error) => {
                writing
                    .open
                    .lock()
                    .expect("no thread panics with a file")
                    .insert(piece.file, None);
                return writing.problem(
                    self.progress,
                    format!("{}: {}", shown_path(&file.path), sentence(error)),
                );
            }
        };
        let done = if piece.offset == 0 && chunk.len() as u64 == file.metadata.size {
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
                writing.files.fetch_add(1, Ordering::Relaxed);
                writing
                    .bytes
                    .fetch_add(file.metadata.size, Ordering::Relaxed);
                self.progress.count(Counter::Files, 1);
                if restored.outcome == lifeboat_files::Outcome::Kept {
                    writing
                        .outcome
                        .lock()
                        .expect("no thread panics with the outcome")
                        .kept += 1;
                }
                if let Some(original) = restored.original {
                    writing
                        .originals
                        .lock()
                        .expect("no thread panics with originals")
                        .insert(file.group, original);
                }
            }
            Err(error) => writing.failed(self.progress, &file.path, &error),
        }
        self.progress.count(Counter::Bytes, chunk.len() as u64);
    }

    fn part_of(
        &self,
        file: &Waiting,
        piece: Piece,
        chunk: &[u8],
        writing: &Writing<'a>,
    ) -> Result<Option<Restored>, lifeboat_files::Error> {
        let open = {
            let mut open = writing.open.lock().expect("no thread panics with a file");
            match open.get(&piece.file) {
                Some(slot) => slot.clone(),
                None => {
                    let created = self.folder(file.folder, writing).and_then(|folder| {
                        folder.create_file(
                            &file.path[file.name_at..],
                            &file.metadata,
                            file.attributes.clone(),
                        )
                    });
                    match created {
                        Ok(FileSlot::New(new)) => {
                            let new = Arc::new(new);
                            open.insert(piece.file, Some(Arc::clone(&new)));
                            Some(new)
                        }
                        Ok(FileSlot::Kept(restored)) => {
                            open.insert(piece.file, None);
                            return Ok(Some(restored));
                        }
                        Err(error) => {
                            open.insert(piece.file, None);
                            return Err(error);
                        }
                    }
                }
            }
        };
        // Kept, or failed before: said once.
        let Some(new) = open else { return Ok(None) };
        if let Err(error) = new.write_at(chunk, piece.offset) {
            writing
                .open
                .lock()
                .expect("no thread panics with a file")
                .insert(piece.file, None);
            return Err(error);
        }
        drop(new);
        if file.left.fetch_sub(1, Ordering::AcqRel) != 1 {
            return Ok(None);
        }
        let last = writing
            .open
            .lock()
            .expect("no thread panics with a file")
            .remove(&piece.file)
            .flatten();
        last.and_then(Arc::into_inner)
            .map(NewFile::finish)
            .transpose()
    }

    /// Gives a file one more name; where that cannot be, the content once more.
    fn link(&self, link: &Link, writing: &Writing<'a>) {
        let original = writing
            .originals
            .lock()
            .expect("no thread panics with originals")
            .get(&link.group)
            .cloned();
        let linked = self
            .folder(link.folder, writing)
            .and_then(|folder| match &original {
                Some(original) => folder.create_link(&link.name, original).map(|_| ()),
                None => self.copy_of(link, &folder),
            });
        match linked {
            Ok(()) if link.content.is_some() => {
                writing.files.fetch_add(1, Ordering::Relaxed);
            }
            Ok(()) => {}
            Err(error) => writing.failed(self.progress, &link.path, &error),
        }
    }

    /// The first name was not restored: this one is a file of its own.
    fn copy_of(&self, link: &Link, folder: &TargetFolder<'a>) -> Result<(), lifeboat_files::Error> {
        let Some(stream) = &link.content else {
            return folder
                .create_special(&link.name, &link.metadata, &link.attributes)
                .map(|_| ());
        };
        if let FileSlot::New(file) =
            folder.create_file(&link.name, &link.metadata, link.attributes.clone())?
        {
            let mut out = AtOffset {
                file: &file,
                offset: 0,
                error: None,
            };
            if self.reader.copy_to(stream, &mut out).is_err()
                && let Some(error) = out.error
            {
                return Err(error);
            }
            file.finish()?;
        }
        Ok(())
    }

    fn remove_extras(&self, plan: &Plan, writing: &Writing<'a>) -> Result<(), RestoreError> {
        for (id, names) in &plan.names {
            let mut names = names.clone();
            names.sort();
            let folder = self.folder(*id, writing)?;
            let deleted = folder.remove_extras(&|name| {
                names.binary_search_by(|known| (**known).cmp(name)).is_ok()
            })?;
            writing
                .outcome
                .lock()
                .expect("no thread panics with the outcome")
                .deleted += deleted;
        }
        Ok(())
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

enum PlanError {
    Files(lifeboat_files::Error),
    Read(ReadError),
}

impl From<lifeboat_files::Error> for PlanError {
    fn from(error: lifeboat_files::Error) -> Self {
        Self::Files(error)
    }
}

impl From<ReadError> for PlanError {
    fn from(error: ReadError) -> Self {
        Self::Read(error)
    }
}
