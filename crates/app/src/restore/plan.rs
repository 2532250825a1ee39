//! The walk of a restore: everything without content is made, and what is to be written is listed; whenever the list
//! is long enough, it is written before the walk goes on.
//!
//! Invariants: however deep a tree is, a bounded number of its folders is open. A folder is among those that the walk
//! [left](Round::left) behind all that lie in it, and when everything that it is to hold is made, or listed in this
//! round or an earlier one.

use std::collections::HashSet;
use std::mem::size_of;
use std::sync::atomic::{AtomicU32, Ordering};

use lifeboat_codec::{ChunkItem, Content, Entry, EntryKind, FormatError, StreamRef, status};
use lifeboat_files::{Attributes, FolderId, Metadata, TargetFolder};
use lifeboat_repository::{Counter, ReadError, Wanted};

use super::select::{Selected, dry_run};
use super::{Bounds, RestoreError, Work, Writing};
use crate::browse::{Step, Unread, told_unread};
use crate::entry::{FileContent, attributes_of, content_of, file_content, metadata_of, wrong};
use crate::text::{sentence, shown_path};

/// Of the folders that lie in each other while they are made, the innermost that are kept open.
const DEPTH_OPEN_MAX: usize = 64;

/// A file that waits for its content.
pub(super) struct Waiting {
    pub(super) folder: FolderId,
    pub(super) path: Box<[u8]>,
    /// Where the name starts in the path.
    pub(super) name_at: usize,
    pub(super) metadata: Metadata,
    pub(super) attributes: Attributes,
    pub(super) group: u64,
    /// Pieces that are not written yet; failed ones are never counted down.
    pub(super) left: AtomicU32,
}

#[derive(Clone, Copy)]
pub(super) struct Piece {
    pub(super) file: u32,
    pub(super) length: u32,
    pub(super) offset: u64,
}

/// A file that waits to be made of its parts.
pub(super) struct Rebuilt {
    pub(super) folder: FolderId,
    pub(super) path: Box<[u8]>,
    /// Where the name starts in the path.
    pub(super) name_at: usize,
    pub(super) metadata: Metadata,
    pub(super) attributes: Attributes,
    pub(super) group: u64,
    pub(super) content: FileContent,
}

/// What is to be written before the walk goes on.
#[derive(Default)]
pub(super) struct Round {
    pub(super) files: Vec<Waiting>,
    pub(super) pieces: Vec<Piece>,
    pub(super) wanted: Vec<Wanted>,
    pub(super) links: Vec<Link>,
    pub(super) bundles: Vec<Rebuilt>,
    /// Folders that the walk has left.
    pub(super) left: Vec<FolderId>,
    /// What all this and the folders take in memory, about.
    bytes: usize,
}

impl Round {
    pub(super) fn piece(&self, tag: u64) -> Piece {
        self.pieces[tag as usize]
    }

    fn is_full(&self, bounds: Bounds) -> bool {
        self.files.len() + self.bundles.len() + self.links.len() + self.left.len() >= bounds.items
            || self.bytes >= bounds.bytes
    }
}

#[derive(Default)]
pub(super) struct Plan {
    pub(super) round: Round,
    /// Link groups whose first name was met.
    groups: HashSet<u64>,
    pub(super) folders: u64,
    /// Files that were made during the walk: those without content, and large ones.
    pub(super) made: u64,
    /// Their bytes.
    pub(super) made_bytes: u64,
    /// What the whole restore will write was told.
    pub(super) is_expected: bool,
    /// For an exact restore, the folders of which everything is asked for and which may hold more, with their trees.
    pub(super) exact: Vec<(FolderId, StreamRef)>,
}

impl Plan {
    /// Nothing was made or is to be.
    fn is_untouched(&self) -> bool {
        let round = &self.round;
        self.folders + self.made == 0
            && round.files.is_empty()
            && round.bundles.is_empty()
            && round.links.is_empty()
    }
}

/// What a folder takes while it is not complete: a row in the target's table, with a name and the metadata to come.
const FOLDER_BYTES: usize = 512;
/// What a piece takes, its place in the order of packs too.
const PIECE_BYTES: usize = size_of::<Piece>() + 2 * size_of::<Wanted>() + 16;

/// A folder that is being filled.
struct Level<'t> {
    /// The length of its path.
    path: usize,
    id: FolderId,
    /// Open, unless it lies far above.
    folder: Option<TargetFolder<'t>>,
    /// Something in it may be to go: it is completed behind that.
    is_held: bool,
}

pub(super) struct Link {
    pub(super) folder: FolderId,
    pub(super) name: Vec<u8>,
    pub(super) path: Vec<u8>,
    pub(super) group: u64,
    pub(super) metadata: Metadata,
    pub(super) attributes: Attributes,
    /// What a file holds.
    pub(super) content: Option<FileContent>,
    /// Where a symbolic link points.
    pub(super) target: Box<[u8]>,
}

pub(super) enum PlanError {
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

impl<'a> Work<'a> {
    /// Makes folders and everything without content, and lists what is to be written, round by round; the last one
    /// stays in the plan. `all` is what the whole restore was asked for.
    pub(super) fn plan(
        &self,
        part: &Selected,
        all: &[Selected],
        plan: &mut Plan,
        writing: &Writing<'a>,
    ) -> Result<(), RestoreError> {
        let top = Level {
            path: 0,
            id: FolderId::TOP,
            folder: None,
            is_held: true,
        };
        if part.is_whole() && self.held.contains(&b""[..]) {
            plan.exact.push((FolderId::TOP, part.tree.clone()));
        }
        // The folders that are being filled, each in the one before.
        let mut levels: Vec<Level<'a>> = vec![top];
        let walked = part.walk(self.reader, self.stop, &mut |path, entry| {
            if plan.round.is_full(self.bounds) {
                self.expect_all(all, plan);
                self.end_round(plan, writing);
            }
            if self.stop.load(Ordering::Relaxed) || writing.full.load(Ordering::Relaxed) {
                return Ok(Step::End);
            }
            let entry = match entry {
                Ok(entry) => entry,
                Err(unread) => {
                    let here = levels.iter().rev().find(|level| level.path == path.len());
                    if let (Some(level), Unread::Rest(_)) = (here, &unread) {
                        plan.exact.retain(|(id, _)| *id != level.id);
                    }
                    let text = told_unread(path, &unread.into());
                    writing.problem(self.progress, text);
                    return Ok(Step::Past);
                }
            };
            let parent = path.len() - entry.name.len();
            while levels.len() > 1 && levels.last().is_some_and(|level| level.path + 1 != parent) {
                leave(&mut levels, plan);
            }
            let opened = parent == 0 && part.open && entry.kind == EntryKind::Folder;
            let step = if opened {
                self.target
                    .describe_top(&metadata_of(entry), attributes_of(entry));
                self.remarks(path, entry, writing);
                Ok(levels[0].folder.clone())
            } else {
                self.open_level(&mut levels)
                    .map_err(PlanError::Files)
                    .and_then(|folder| self.entry(path, entry, &folder, plan, writing))
            };
            let error = match step {
                Ok(below) if below.is_some() || opened => {
                    let id = below.as_ref().map_or(FolderId::TOP, TargetFolder::id);
                    let is_held = self.held.contains(part.place(path));
                    // The walk itself tells of a tree that it cannot go into.
                    if is_held && let Ok(tree) = content_of(entry) {
                        plan.exact.push((id, tree));
                    }
                    levels.push(Level {
                        path: path.len(),
                        id,
                        folder: below,
                        is_held: is_held || opened,
                    });
                    if let Some(far) = levels.len().checked_sub(DEPTH_OPEN_MAX) {
                        levels[far].folder = None;
                    }
                    return Ok(Step::Into);
                }
                Ok(_) => return Ok(Step::Past),
                Err(error) => error,
            };
            match error {
                PlanError::Files(error) => writing.failed(self.progress, path, &error),
                PlanError::Read(error) => writing.problem(
                    self.progress,
                    format!("{}: {}", shown_path(path), sentence(&error)),
                ),
            }
            Ok(if writing.full.load(Ordering::Relaxed) {
                Step::End
            } else {
                Step::Past
            })
        });
        if let Err(error) = walked {
            if plan.is_untouched() {
                return Err(error.into());
            }
            writing.problem(self.progress, sentence(&error));
        }
        while levels.len() > 1 {
            leave(&mut levels, plan);
        }
        if self.stop.load(Ordering::Relaxed) {
            Err(RestoreError::Stopped)
        } else {
            Ok(())
        }
    }

    /// The innermost folder, opened again if it was not kept.
    fn open_level(
        &self,
        levels: &mut [Level<'a>],
    ) -> Result<TargetFolder<'a>, lifeboat_files::Error> {
        let level = levels.last_mut().expect("the top is never left");
        let folder = match level.folder.take() {
            Some(folder) => folder,
            None => self.target.open(level.id)?,
        };
        Ok(level.folder.insert(folder).clone())
    }

    /// Tells how much the whole restore will write, once it is known that one round does not do.
    fn expect_all(&self, all: &[Selected], plan: &mut Plan) {
        if !plan.is_expected {
            plan.is_expected = true;
            // What of it cannot be read is told when the walk comes to it.
            if let Ok(counted) = dry_run(self.reader, all, self.request, self.stop) {
                self.progress.expect(Counter::Files, counted.files);
                self.progress.expect(Counter::Bytes, counted.bytes);
            }
        }
    }

    /// Tells what the snapshot itself says against an entry.
    fn remarks(&self, path: &[u8], entry: &Entry<'_>, writing: &Writing<'a>) {
        for (bit, remark) in [
            (
                status::UNREADABLE,
                "it could not be read when the snapshot was made",
            ),
            (
                status::CHANGED,
                "it changed while it was read; it may be a mixture",
            ),
            (
                status::LIVE,
                "it belonged to a database in use; it may not be whole",
            ),
        ] {
            if entry.status & bit != 0 {
                writing.problem(self.progress, format!("{}: {remark}", shown_path(path)));
            }
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
        if entry.status & status::SECRET != 0 && !self.request.with_secrets {
            let mut outcome = writing
                .outcome
                .lock()
                .expect("no thread panics with the outcome");
            outcome.leave_out(path);
            return Ok(None);
        }
        self.remarks(path, entry, writing);
        if entry.status & status::UNREADABLE != 0 && entry.kind != EntryKind::Folder {
            return Ok(None);
        }
        let (metadata, attributes) = (metadata_of(entry), attributes_of(entry));
        if entry.link_group != 0 && plan.groups.contains(&entry.link_group) {
            let content = if entry.kind == EntryKind::File {
                Some(file_content(entry)?)
            } else {
                None
            };
            plan.round.bytes += size_of::<Link>()
                + 2 * path.len()
                + entry.target.len()
                + attributes_bytes(&attributes)
                + content.as_ref().map_or(0, FileContent::held_bytes);
            plan.round.links.push(Link {
                folder: folder.id(),
                name: entry.name.to_vec(),
                path: path.to_vec(),
                group: entry.link_group,
                metadata,
                attributes,
                content,
                target: entry.target.into(),
            });
            return Ok(None);
        }
        match entry.kind {
            EntryKind::Folder => {
                plan.folders += 1;
                plan.round.bytes += FOLDER_BYTES + attributes_bytes(&attributes);
                return Ok(Some(
                    folder.create_folder(entry.name, &metadata, attributes)?,
                ));
            }
            EntryKind::File if matches!(entry.content, Content::Bundle(_)) => {
                let content = file_content(entry)?;
                plan.round.bytes += size_of::<Rebuilt>()
                    + path.len()
                    + attributes_bytes(&attributes)
                    + content.held_bytes();
                plan.round.bundles.push(Rebuilt {
                    folder: folder.id(),
                    name_at: path.len() - entry.name.len(),
                    path: path.into(),
                    metadata,
                    attributes,
                    group: entry.link_group,
                    content,
                });
            }
            EntryKind::File if entry.size > self.bounds.large && entry.content != Content::None => {
                let stream = content_of(entry)?;
                let described = (&metadata, &attributes);
                let made = self.large(path, entry, &stream, folder, described, writing)?;
                if let Some(restored) = made {
                    plan.made += 1;
                    plan.made_bytes += entry.size;
                    self.progress.count(Counter::Files, 1);
                    writing.restored(restored, entry.size, entry.link_group);
                }
            }
            EntryKind::File if entry.content != Content::None || entry.size > 0 => {
                let items = self.items(entry)?;
                if items.is_empty() {
                    let restored = folder.write_file(entry.name, &metadata, &attributes, &[])?;
                    plan.made += 1;
                    self.progress.count(Counter::Files, 1);
                    writing.restored(restored, 0, entry.link_group);
                } else {
                    wait_for(entry, &items, folder, metadata, attributes, path, plan);
                }
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
                    plan.made += 1;
                    self.progress.count(Counter::Files, 1);
                    writing.restored(restored, 0, entry.link_group);
                } else {
                    writing.original(restored, entry.link_group);
                }
            }
        }
        if entry.link_group != 0 {
            plan.groups.insert(entry.link_group);
        }
        Ok(None)
    }

    /// The chunks of a file that is written piece by piece; none only where it is empty.
    fn items(&self, entry: &Entry<'_>) -> Result<Vec<ChunkItem>, ReadError> {
        if let Content::Chunk(id) = entry.content {
            let length = content_of(entry)?.length as u32;
            return Ok(vec![ChunkItem { id, length }]);
        }
        let items = if entry.content == Content::None {
            Vec::new()
        } else {
            self.reader.chunks(&content_of(entry)?)?
        };
        if items.is_empty() && entry.size > 0 {
            let what = FormatError::Invalid("a file that is not empty has no content");
            return Err(wrong(what));
        }
        Ok(items)
    }
}

/// Lists a file whose content is to be written.
fn wait_for(
    entry: &Entry<'_>,
    items: &[ChunkItem],
    folder: &TargetFolder<'_>,
    metadata: Metadata,
    attributes: Attributes,
    path: &[u8],
    plan: &mut Plan,
) {
    let round = &mut plan.round;
    let file = u32::try_from(round.files.len()).expect("a round is bounded");
    let mut offset = 0;
    for item in items {
        round.wanted.push(Wanted {
            id: item.id,
            tag: round.pieces.len() as u64,
        });
        round.pieces.push(Piece {
            file,
            length: item.length,
            offset,
        });
        offset += u64::from(item.length);
    }
    round.bytes += size_of::<Waiting>()
        + path.len()
        + attributes_bytes(&attributes)
        + items.len() * PIECE_BYTES;
    round.files.push(Waiting {
        folder: folder.id(),
        name_at: path.len() - entry.name.len(),
        path: path.into(),
        metadata,
        attributes,
        group: entry.link_group,
        left: AtomicU32::new(u32::try_from(items.len()).expect("a round is bounded")),
    });
}

/// The walk goes back from the innermost folder to the one above.
fn leave(levels: &mut Vec<Level<'_>>, plan: &mut Plan) {
    if let Some(level) = levels.pop().filter(|level| !level.is_held) {
        plan.round.left.push(level.id);
    }
}

fn attributes_bytes(attributes: &Attributes) -> usize {
    let each = attributes.extended.iter();
    each.map(|one| one.name.len() + one.value.len() + 64).sum()
}
