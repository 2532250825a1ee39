//! Which snapshots and paths cannot come back because of lost chunks.
//!
//! Walked only when something is lost. Each distinct tree is visited once, from the newest snapshot on, so a path that
//! thousands of snapshots share is named once; what lies below a tree is remembered as the set of findings it meets.

use std::collections::{BTreeSet, HashMap};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use lifeboat_codec::{ChunkId, ChunkItem, Content, Entry, EntryKind, StreamRef};

use crate::finding::Finding;
use crate::lookup::Lookup;
use crate::reader::{Reader, chunks_of_stream, read_all};
use crate::repository::Repository;
use crate::snapshots::Snapshot;
use crate::stored_tree::{StoredTree, TreeKey, tree_key};

/// Numbers of findings; `None` when there are none, which is almost always.
type Met = Option<Rc<BTreeSet<usize>>>;

/// The lost chunks of one domain, each with the findings that lost it.
type Lost = HashMap<ChunkId, Vec<usize>>;

/// Walks from snapshots down to lost chunks.
pub(super) struct Tracer<'c> {
    repository: &'c Repository,
    lookup: Arc<Lookup>,
    stop: &'c AtomicBool,
    lost: HashMap<u32, Lost>,
    met: HashMap<TreeKey, Met>,
}

/// A tree on the way down.
struct Open<'r> {
    key: TreeKey,
    /// The length of its path.
    path: usize,
    /// Its entries are parts of the file at the path.
    is_bundle: bool,
    /// `None` where not all of it can be read: it is lost itself, with all that it holds.
    tree: Option<StoredTree<'r>>,
    met: BTreeSet<usize>,
}

impl<'c> Tracer<'c> {
    /// `lost[n]` are the chunks that finding n lost.
    pub(super) fn new(
        repository: &'c Repository,
        lookup: Arc<Lookup>,
        stop: &'c AtomicBool,
        lost: &[Vec<(u32, ChunkId)>],
    ) -> Self {
        let mut by_domain: HashMap<u32, Lost> = HashMap::new();
        for (finding, chunks) in lost.iter().enumerate() {
            for (domain, id) in chunks {
                by_domain
                    .entry(*domain)
                    .or_default()
                    .entry(*id)
                    .or_default()
                    .push(finding);
            }
        }
        Self {
            repository,
            lookup,
            stop,
            lost: by_domain,
            met: HashMap::new(),
        }
    }

    /// Fills in what each of `findings` concerns.
    pub(super) fn trace(&mut self, snapshots: &[Snapshot], findings: &mut [Finding]) {
        let mut domains: Vec<u32> = self.lost.keys().copied().collect();
        domains.sort_unstable();
        for domain in domains {
            let lost = self.lost.remove(&domain).unwrap_or_default();
            let Ok(reader) = self
                .repository
                .reader_over(Arc::clone(&self.lookup), domain)
            else {
                continue;
            };
            for snapshot in snapshots
                .iter()
                .filter(|snapshot| snapshot.head.domain == domain)
            {
                if self.stop.load(Ordering::Relaxed) {
                    return;
                }
                let mut met = BTreeSet::new();
                file(
                    &reader,
                    &snapshot.head.manifest,
                    b"",
                    &lost,
                    findings,
                    &mut met,
                );
                self.tree(&reader, &snapshot.head.root, &lost, findings, &mut met);
                for finding in met {
                    findings[finding].concerns.snapshots.push(snapshot.name.id);
                }
            }
        }
    }

    /// Walks a tree and all below it, children before their parents, without recursion: trees may be deep.
    fn tree(
        &mut self,
        reader: &Reader<'_>,
        root: &StreamRef,
        lost: &Lost,
        findings: &mut [Finding],
        met: &mut BTreeSet<usize>,
    ) {
        let domain = reader.domain();
        if let Some(known) = self.met.get(&tree_key(domain, root)) {
            met.extend(known.iter().flat_map(|known| known.iter()));
            return;
        }
        let mut path = Vec::new();
        let mut stack = vec![open(reader, root, &path, lost, findings)];
        while let Some(top) = stack.last_mut() {
            if self.stop.load(Ordering::Relaxed) {
                return;
            }
            path.truncate(top.path);
            let Some(entry) = top.tree.as_mut().and_then(|tree| tree.next_entry().ok()?) else {
                let done = stack.pop().expect("the loop goes on while there is one");
                let above = stack.last_mut().map_or(&mut *met, |above| &mut above.met);
                above.extend(&done.met);
                self.met
                    .insert(done.key, (!done.met.is_empty()).then(|| Rc::new(done.met)));
                continue;
            };
            if !top.is_bundle {
                if !path.is_empty() {
                    path.push(b'/');
                }
                path.extend_from_slice(entry.name);
            }
            let is_bundle = matches!(entry.content, Content::Bundle(_));
            let Some(tree) = look(reader, &entry, &path, lost, findings, &mut top.met) else {
                continue;
            };
            match self.met.get(&tree_key(domain, &tree)) {
                Some(known) => top.met.extend(known.iter().flat_map(|known| known.iter())),
                None => stack.push(Open {
                    is_bundle,
                    ..open(reader, &tree, &path, lost, findings)
                }),
            }
        }
    }
}

/// Begins to look at the entries of one tree.
fn open<'r>(
    reader: &'r Reader<'r>,
    tree: &StreamRef,
    path: &[u8],
    lost: &Lost,
    findings: &mut [Finding],
) -> Open<'r> {
    let mut met = BTreeSet::new();
    let items = file(reader, tree, path, lost, findings, &mut met);
    Open {
        key: tree_key(reader.domain(), tree),
        path: path.len(),
        is_bundle: false,
        tree: items
            .filter(|items| read_all(reader, items).is_ok())
            .map(|items| reader.tree_of(items)),
        met,
    }
}

/// Notes what one entry meets, and returns the tree of a folder or a bundle.
fn look(
    reader: &Reader<'_>,
    entry: &Entry<'_>,
    path: &[u8],
    lost: &Lost,
    findings: &mut [Finding],
    met: &mut BTreeSet<usize>,
) -> Option<StreamRef> {
    match (entry.kind, entry.content) {
        (_, Content::None) => {}
        (_, Content::Bundle(reference)) => return StreamRef::decode(reference).ok(),
        (_, Content::Chunk(id)) => note(lost.get(&id).into_iter().flatten(), path, findings, met),
        (kind, Content::Stream(reference)) => {
            let stream = StreamRef::decode(reference).ok()?;
            if kind == EntryKind::Folder {
                return Some(stream);
            }
            file(reader, &stream, path, lost, findings, met);
        }
    }
    None
}

/// Notes the findings that a stream meets, and returns its chunks where its lists can be read.
fn file(
    reader: &Reader<'_>,
    stream: &StreamRef,
    path: &[u8],
    lost: &Lost,
    findings: &mut [Finding],
    met: &mut BTreeSet<usize>,
) -> Option<Vec<ChunkItem>> {
    let mut meets = BTreeSet::new();
    let items = chunks_of_stream(reader, stream, &mut |_, item| {
        meets.extend(lost.get(&item.id).into_iter().flatten());
        Ok(())
    });
    note(meets.iter(), path, findings, met);
    items.ok()
}

fn note<'n>(
    numbers: impl Iterator<Item = &'n usize>,
    path: &[u8],
    findings: &mut [Finding],
    met: &mut BTreeSet<usize>,
) {
    for number in numbers {
        findings[*number].concerns.add_path(path);
        met.insert(*number);
    }
}
