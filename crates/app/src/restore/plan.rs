//! The first half of a restore: everything without content is made, and what is to be written is listed.
//!
//! Invariant: however deep a tree is, a bounded number of its folders is open.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU32, Ordering};

use lifeboat_codec::{ChunkId, Content, Entry, EntryKind, StreamRef, status};
use lifeboat_files::{Attributes, FolderId, Metadata, TargetFolder};
use lifeboat_repository::{ReadError, Wanted};

use super::select::{Relation, Selected};
use super::{RestoreError, Work, Writing};
use crate::browse::{Step, walk_entries};
use crate::entry::content_of;
use crate::entry::{attributes_of, metadata_of};
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

#[derive(Default)]
pub(super) struct Plan {
    pub(super) files: Vec<Waiting>,
    pub(super) pieces: Vec<Piece>,
    pub(super) wanted: Vec<Wanted>,
    pub(super) links: Vec<Link>,
    /// Link groups whose first name was met.
    groups: HashSet<u64>,
    pub(super) folders: u64,
    /// For an exact restore, the names that belong into each folder of which everything is asked for and known.
    pub(super) names: HashMap<FolderId, Vec<Box<[u8]>>>,
}

/// A folder that is being filled.
struct Level<'t> {
    /// The length of its path.
    path: usize,
    id: FolderId,
    /// Open, unless it lies far above.
    folder: Option<TargetFolder<'t>>,
}

pub(super) struct Link {
    pub(super) folder: FolderId,
    pub(super) name: Vec<u8>,
    pub(super) path: Vec<u8>,
    pub(super) group: u64,
    pub(super) metadata: Metadata,
    pub(super) attributes: Attributes,
    /// What a file holds.
    pub(super) content: Option<StreamRef>,
    /// Where a symbolic link points.
    pub(super) target: Box<[u8]>,
}

impl Plan {
    pub(super) fn piece(&self, tag: u64) -> Piece {
        self.pieces[tag as usize]
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

impl<'a> Work<'a> {
    /// Makes folders and everything without content, and lists what is to be written.
    pub(super) fn plan(
        &self,
        part: &Selected,
        plan: &mut Plan,
        writing: &Writing<'a>,
    ) -> Result<(), RestoreError> {
        let top = Level {
            path: 0,
            id: FolderId::TOP,
            folder: None,
        };
        if self.request.exact && part.is_whole() {
            plan.names.entry(FolderId::TOP).or_default();
        }
        // The folders that are being filled, each in the one before.
        let mut levels: Vec<Level<'a>> = vec![top];
        walk_entries(self.reader, &part.tree, b"", &mut |path, entry| {
            if self.stop.load(Ordering::Relaxed) {
                return Ok(Step::End);
            }
            let entry = match entry {
                Ok(entry) => entry,
                Err(error) => {
                    let here = levels.iter().rev().find(|level| level.path == path.len());
                    here.map(|level| plan.names.remove(&level.id));
                    let text = format!("{}: {}", shown_path(path), sentence(&error));
                    writing.problem(self.progress, text);
                    return Ok(Step::Past);
                }
            };
            let relation = part.relation(path);
            if relation == Relation::Outside {
                return Ok(Step::Past);
            }
            let parent = path.len() - entry.name.len();
            while levels.len() > 1 && levels.last().is_some_and(|level| level.path + 1 != parent) {
                levels.pop();
            }
            let opened = parent == 0 && part.open && entry.kind == EntryKind::Folder;
            let step = if opened {
                self.target
                    .describe_top(&metadata_of(entry), attributes_of(entry));
                self.expect_all(entry, FolderId::TOP, plan);
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
                    if relation == Relation::Wanted && !opened {
                        self.expect_all(entry, id, plan);
                    }
                    levels.push(Level {
                        path: path.len(),
                        id,
                        folder: below,
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
        })?;
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

    /// For an exact restore: whatever this folder holds beside what the snapshot has is to go. Where not all of it
    /// could be read, nobody knows what the rest was.
    fn expect_all(&self, entry: &Entry<'_>, id: FolderId, plan: &mut Plan) {
        if self.request.exact && entry.status & status::UNREADABLE == 0 {
            plan.names.entry(id).or_default();
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
        if let Some(names) = plan.names.get_mut(&folder.id()) {
            names.push(entry.name.into());
        }
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
                target: entry.target.into(),
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
}
