//! What grows: how much each snapshot stored newly of each table and each folder.
//!
//! A *part* is what an admin might leave out: a table or another file of a database, a folder in a source, or what
//! lies in the source beside its folders. Chunks that an older snapshot's run had stored cost nothing again and do not
//! count; what a segment takes is shared by the parts whose chunks are in it.
//!
//! **Invariant**: only what differs from the snapshot before is looked at, and of it chunk lists and the trees of bundles
//! alone; no content is read.

use std::collections::{BTreeMap, HashMap, HashSet};

use lifeboat_codec::{ChunkId, ChunkItem, FormatError};
use lifeboat_repository::{ReadError, Reader, Repository, Snapshot};

use crate::browse::{differences, told_unread};
use crate::entry::{FileContent, part_content, wrong};

/// What came newly.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Grown {
    /// Bytes as they are in the files.
    pub new_bytes: u64,
    /// Bytes that they take in the repository.
    pub stored_bytes: u64,
}

impl Grown {
    fn add(&mut self, more: Self) {
        self.new_bytes += more.new_bytes;
        self.stored_bytes += more.stored_bytes;
    }
}

/// A table or folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrowthPart {
    /// Its path in the snapshots.
    pub path: Vec<u8>,
    /// What each snapshot brought, in their order.
    pub nights: Vec<Grown>,
}

impl GrowthPart {
    /// What all snapshots brought.
    #[must_use]
    pub fn sum(&self) -> Grown {
        self.nights
            .iter()
            .fold(Grown::default(), |sum, night| Grown {
                new_bytes: sum.new_bytes + night.new_bytes,
                stored_bytes: sum.stored_bytes + night.stored_bytes,
            })
    }
}

/// Bundles lie at most this deep in each other.
const DEPTH_MAX: usize = 4;

/// The first half of the id of a run.
type RunStart = [u8; 8];

/// One snapshot, as it is looked at.
struct Night<'r> {
    reader: &'r Reader<'r>,
    /// Reads the snapshot before.
    before: Option<&'r Reader<'r>>,
    /// The run that stored it, where that stored no older snapshot.
    own: Option<RunStart>,
    /// The runs that stored older snapshots.
    older: HashSet<RunStart>,
    /// Sources whose entries are parts each: databases and streams.
    streams: HashSet<Vec<u8>>,
    parts: Vec<(Vec<u8>, Grown)>,
    /// What each segment takes, and the bytes that each part has in it.
    shares: HashMap<u32, (u32, Vec<(usize, u64)>)>,
}

/// What `nights` brought, which are some of `all`, both oldest first: the parts that brought anything, what stored most
/// first. What cannot be read does not count, and is told to `unread`.
///
/// # Errors
/// When the index or a snapshot's own tree cannot be read.
pub fn growth(
    repository: &Repository,
    all: &[Snapshot],
    nights: &[&Snapshot],
    unread: &mut dyn FnMut(String),
) -> Result<Vec<GrowthPart>, ReadError> {
    let mut found: BTreeMap<Vec<u8>, Vec<Grown>> = BTreeMap::new();
    for (number, snapshot) in nights.iter().enumerate() {
        for (part, grown) in brought(repository, all, snapshot, unread)? {
            let nights = found
                .entry(part)
                .or_insert_with(|| vec![Grown::default(); nights.len()]);
            nights[number].add(grown);
        }
    }
    let parts = found.into_iter();
    let mut parts: Vec<GrowthPart> = parts
        .map(|(path, nights)| GrowthPart { path, nights })
        .filter(|part| part.sum() != Grown::default())
        .collect();
    parts.sort_by_key(|part| std::cmp::Reverse((part.sum().stored_bytes, part.sum().new_bytes)));
    Ok(parts)
}

/// What one snapshot brought; a part may come several times.
fn brought(
    repository: &Repository,
    all: &[Snapshot],
    snapshot: &Snapshot,
    unread: &mut dyn FnMut(String),
) -> Result<Vec<(Vec<u8>, Grown)>, ReadError> {
    let reader = repository.reader(snapshot.head.domain)?;
    let older = all.iter().take_while(|known| known.name != snapshot.name);
    let mut older: HashSet<RunStart> = older
        .filter(|known| known.head.domain == snapshot.head.domain)
        .filter_map(|known| run_of(&reader, known))
        .collect();
    // A copy stores many snapshots in one run, which then says nothing of their order.
    let own = run_of(&reader, snapshot).filter(|own| !older.remove(own));
    let before = match before(all, snapshot) {
        Some(before) => Some((repository.reader(before.head.domain)?, before)),
        None => None,
    };
    let before = before.as_ref().map(|(reader, before)| (reader, *before));
    let mut night = Night {
        reader: &reader,
        before: before.map(|(reader, _)| reader),
        own,
        older,
        streams: streams(repository, snapshot),
        parts: Vec::new(),
        shares: HashMap::new(),
    };
    differences(before, (&reader, snapshot), &mut |path, differing| {
        let counted = differing.and_then(|(_, content)| match content {
            [_, None] => Ok(()),
            [old, Some(new)] => night.count(path, old.as_ref(), &new),
        });
        if let Err(error) = counted {
            unread(told_unread(path, &error));
        }
        true
    })?;
    Ok(night.shared())
}

/// The snapshot that this one was held against when it was made, or the one of the app before it.
fn before<'s>(all: &'s [Snapshot], snapshot: &Snapshot) -> Option<&'s Snapshot> {
    let older = all.iter().take_while(|known| known.name != snapshot.name);
    if let Some(parent) = snapshot.head.parent
        && let Some(parent) = older.clone().find(|known| known.name.id == parent)
    {
        return Some(parent);
    }
    older
        .filter(|known| known.head.app == snapshot.head.app)
        .last()
}

/// The run that stored a snapshot: the one whose pack has its manifest, which no two snapshots share.
fn run_of(reader: &Reader<'_>, snapshot: &Snapshot) -> Option<RunStart> {
    let chunks = reader.chunks(&snapshot.head.manifest).ok()?;
    Some(reader.kept(chunks.first()?.id)?.run)
}

/// The sources that are no folders. Of a manifest that cannot be read none is known: what such a source has counts together.
fn streams(repository: &Repository, snapshot: &Snapshot) -> HashSet<Vec<u8>> {
    let sources = repository
        .manifest(snapshot)
        .map(|manifest| manifest.sources);
    let sources = sources.unwrap_or_default().into_iter();
    sources
        .filter(|source| !matches!(source.kind.as_str(), "folder" | "secrets"))
        .map(|source| source.name.into_bytes())
        .collect()
}

impl Night<'_> {
    /// The number of a part; paths of one come one after the other.
    fn part(&mut self, path: &[u8]) -> usize {
        let part = part_of(path, &self.streams);
        if self.parts.last().is_none_or(|(last, _)| last != part) {
            self.parts.push((part.to_vec(), Grown::default()));
        }
        self.parts.len() - 1
    }

    /// Counts the chunks of a file that are new.
    fn count(
        &mut self,
        path: &[u8],
        old: Option<&FileContent>,
        new: &FileContent,
    ) -> Result<(), ReadError> {
        let part = self.part(path);
        // Read when it is asked for: where the run says who stored a chunk, it is not.
        let mut known: Option<HashSet<ChunkId>> = None;
        for item in chunks_of(self.reader, new)? {
            let Some(kept) = self.reader.kept(item.id) else {
                continue;
            };
            if self.older.contains(&kept.run) {
                continue;
            }
            if self.own != Some(kept.run) {
                let known = match &mut known {
                    Some(known) => known,
                    None => known.insert(self.ids(old)?),
                };
                if known.contains(&item.id) {
                    continue;
                }
            }
            let length = u64::from(item.length);
            self.parts[part].1.new_bytes += length;
            let (_, shares) = self
                .shares
                .entry(kept.segment)
                .or_insert_with(|| (kept.sealed_bytes, Vec::new()));
            match shares.last_mut() {
                Some((last, bytes)) if *last == part => *bytes += length,
                _ => shares.push((part, length)),
            }
        }
        Ok(())
    }

    /// The chunks of what a file was before.
    fn ids(&self, old: Option<&FileContent>) -> Result<HashSet<ChunkId>, ReadError> {
        let Some((reader, old)) = self.before.zip(old) else {
            return Ok(HashSet::new());
        };
        Ok(chunks_of(reader, old)?.iter().map(|item| item.id).collect())
    }

    /// Shares what each segment takes among the parts that have chunks in it.
    fn shared(mut self) -> Vec<(Vec<u8>, Grown)> {
        for (sealed_bytes, shares) in self.shares.into_values() {
            let all: u64 = shares.iter().map(|(_, bytes)| bytes).sum();
            for (part, bytes) in shares {
                let stored = u128::from(sealed_bytes) * u128::from(bytes) / u128::from(all.max(1));
                self.parts[part].1.stored_bytes +=
                    u64::try_from(stored).expect("a part of a segment is smaller than it");
            }
        }
        self.parts
    }
}

/// The chunks of a file, or of all the parts of a bundle.
fn chunks_of(reader: &Reader<'_>, content: &FileContent) -> Result<Vec<ChunkItem>, ReadError> {
    let mut chunks = Vec::new();
    let mut left = vec![(content.clone(), 0)];
    while let Some((content, depth)) = left.pop() {
        match content {
            FileContent::Stream(stream) => chunks.extend(reader.chunks(&stream)?),
            FileContent::Bundle { parts, .. } if depth < DEPTH_MAX => {
                chunks.extend(reader.chunks(&parts)?);
                let mut tree = reader.tree(&parts)?;
                while let Some(entry) = tree.next_entry()? {
                    left.push((part_content(&entry)?, depth + 1));
                }
            }
            FileContent::Bundle { .. } => {
                let deep = "bundles lie in each other deeper than any do";
                return Err(wrong(FormatError::Invalid(deep)));
            }
        }
    }
    Ok(chunks)
}

/// The part that a file belongs to: two names of its path, or the source's alone for a file that lies in its folder.
fn part_of<'p>(path: &'p [u8], streams: &HashSet<Vec<u8>>) -> &'p [u8] {
    let mut ends = path
        .iter()
        .enumerate()
        .filter(|(_, byte)| **byte == b'/')
        .map(|(at, _)| at);
    let Some(source) = ends.next() else {
        return path;
    };
    match ends.next() {
        Some(end) => &path[..end],
        None if streams.contains(&path[..source]) => path,
        None => &path[..source],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_a_table_or_a_folder_of_a_source() {
        let streams = HashSet::from([b"db".to_vec()]);
        for (path, part) in [
            ("db/public.orders", "db/public.orders"),
            ("db/large-objects/16423", "db/large-objects"),
            ("uploads/2026/11/a.jpg", "uploads/2026"),
            ("uploads/readme", "uploads"),
            ("uploads", "uploads"),
        ] {
            let found = part_of(path.as_bytes(), &streams);
            assert_eq!(String::from_utf8_lossy(found), part);
        }
    }
}
