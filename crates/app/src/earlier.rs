//! What a stream was in an earlier snapshot, of which it may be stored as a change.
//!
//! Not always in the last one: who reads a change reads what it rests on, so that changes of changes cost time. Every
//! eighth night rests on the one eight nights before, every thirty-second on the one thirty-two before, and after
//! ninety-six it begins anew, but for small files, which rest on their last content. So at most twelve changes stand on each
//! other, and few are of many nights.

use std::collections::HashMap;

use lifeboat_codec::{Entry, EntryKind, StreamRef};
use lifeboat_repository::{Reader, Repository, Snapshot};

use crate::browse::{Found, find_item};
use crate::entry::{FileContent, content_of, file_content};

/// How far back nights go whose number can be divided by that, the farthest first.
const STEPS: [u32; 3] = [32, 8, 1];
/// A night whose number can be divided by it rests on nothing.
const NIGHTS: u32 = 96;
/// From this size on a file's earlier content is looked for in the snapshot that fits best; below, the last one's will do.
const LARGE_BYTES: u64 = 4 << 20;

/// Earlier snapshots of an app, the best one first.
#[derive(Default)]
pub(crate) struct Earlier<'r> {
    reader: Option<Reader<'r>>,
    snapshots: Vec<Snapshot>,
}

impl<'r> Earlier<'r> {
    /// For a run that may rest on these, the best one first.
    pub(crate) fn new(repository: &'r Repository, snapshots: &[Snapshot]) -> Self {
        let reader = snapshots.first();
        Self {
            reader: reader.and_then(|first| repository.reader(first.head.domain).ok()),
            snapshots: snapshots.to_vec(),
        }
    }

    /// Reads what files were.
    pub(crate) fn reader(&self) -> Option<&Reader<'r>> {
        self.reader.as_ref()
    }

    /// What the file at `path` of a source was, where it was stored as it is.
    pub(crate) fn stream(&self, source: &str, path: &[u8]) -> Option<StreamRef> {
        self.file(source, path)?.stream()
    }

    /// What the file at `path` of a source was.
    pub(crate) fn file(&self, source: &str, path: &[u8]) -> Option<FileContent> {
        let reader = self.reader.as_ref()?;
        let path = [source.as_bytes(), b"/", path].concat();
        self.snapshots.iter().find_map(|snapshot| {
            match find_item(reader, snapshot, &path).ok()? {
                Found::Other(item) if item.kind == EntryKind::File => item.content,
                _ => None,
            }
        })
    }

    /// What the files of a source were that lie in no folder of it, by their names: for who has many.
    pub(crate) fn streams(&self, source: &str) -> HashMap<Vec<u8>, StreamRef> {
        let read = |snapshot| {
            let reader = self.reader.as_ref()?;
            let Found::Folder { tree, .. } = find_item(reader, snapshot, source.as_bytes()).ok()?
            else {
                return None;
            };
            let (mut entries, mut streams) = (reader.tree(&tree).ok()?, HashMap::new());
            while let Some(entry) = entries.next_entry().ok()? {
                if entry.kind == EntryKind::File && entry.size > 0 {
                    streams.insert(entry.name.to_vec(), content_of(&entry).ok()?);
                }
            }
            Some(streams)
        };
        self.snapshots.iter().find_map(read).unwrap_or_default()
    }

    /// What a file was of which the last snapshot says `entry`.
    pub(crate) fn content(
        &self,
        source: &str,
        path: &[u8],
        entry: &Entry<'_>,
    ) -> Option<FileContent> {
        if entry.kind != EntryKind::File || entry.size == 0 {
            return None;
        }
        if entry.size >= LARGE_BYTES {
            return self.file(source, path);
        }
        file_content(entry).ok()
    }
}

/// On which snapshots the one after `parent` may rest, the best one first; on none when it is to begin anew.
pub(crate) fn fitting(repository: &Repository, parent: Option<&Snapshot>) -> Vec<Snapshot> {
    let best = parent.and_then(|parent| best(repository, parent));
    // A snapshot may lack a source that its parent has.
    best.into_iter()
        .flat_map(|best| [Some(best), parent.cloned()])
        .flatten()
        .collect()
}

/// The one of the writer's snapshots on which the one after `parent` should rest.
fn best(repository: &Repository, parent: &Snapshot) -> Option<Snapshot> {
    let wanted = base_seq(parent.name.seq.checked_add(1)?)?;
    if wanted == parent.name.seq {
        return Some(parent.clone());
    }
    let list = repository.snapshots().ok()?;
    let fits = |snapshot: &&Snapshot| {
        snapshot.name.writer == parent.name.writer
            && snapshot.head.app == parent.head.app
            && snapshot.head.domain == parent.head.domain
            && snapshot.name.seq <= wanted
    };
    let all = list.snapshots.iter().filter(fits);
    all.max_by_key(|snapshot| snapshot.name.seq).cloned()
}

/// On which of a writer's snapshots the one with this number rests, if on any; they are counted from 1.
fn base_seq(seq: u32) -> Option<u32> {
    let night = seq.checked_sub(1)?;
    let step = STEPS.iter().find(|step| night.is_multiple_of(**step))?;
    (!night.is_multiple_of(NIGHTS)).then(|| seq - step)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_snapshots_stand_on_each_other_and_hardly_one_is_of_many_nights() {
        let bases: Vec<u32> = (2..=10).filter_map(base_seq).collect();
        assert_eq!(bases, [1, 2, 3, 4, 5, 6, 7, 1, 9]);
        assert_eq!(
            [17, 33, 41, 65, 97, 98].map(base_seq),
            [Some(9), Some(1), Some(33), Some(33), None, Some(97)]
        );
        let height = |mut seq| {
            let mut height = 0;
            while let Some(base) = base_seq(seq) {
                seq = base;
                height += 1;
            }
            height
        };
        assert_eq!((1..=4096).map(height).max(), Some(12));
        let nights: u32 = (1..=96).filter_map(|seq| Some(seq - base_seq(seq)?)).sum();
        assert!(nights <= 96 * 5 / 2, "{nights} nights of changes in 96");
        assert_eq!((base_seq(0), base_seq(1)), (None, None));
    }
}
