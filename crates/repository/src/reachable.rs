//! Everything that a snapshot names: its trees, lists and chunks, down to the last one.

use std::collections::HashSet;

use lifeboat_codec::{
    ChunkItem, Content, Entries, EntryKind, FormatError, Head, Kind, StreamRef, list_chunks,
};

use crate::reader::Reader;
use crate::repository::{ReadError, Repository};

/// Trees are at most this deep; a deeper one is an attack, because no file system makes it.
const DEPTH_MAX: usize = 100_000;

/// Names every chunk of a snapshot once for each place where it stands, and checks that each has a holder.
///
/// # Errors
/// When a tree or list cannot be read, or a chunk is in no pack.
pub(crate) fn chunks_of(
    repository: &Repository,
    head: &Head,
    found: &mut dyn FnMut(Kind, ChunkItem),
) -> Result<(), ReadError> {
    chunks_of_unseen(repository, head, &mut HashSet::new(), found)
}

/// The same, without what lies in trees that were `seen` before; adds those that it visits.
pub(crate) fn chunks_of_unseen(
    repository: &Repository,
    head: &Head,
    seen: &mut HashSet<(u32, Vec<u8>)>,
    found: &mut dyn FnMut(Kind, ChunkItem),
) -> Result<(), ReadError> {
    let reader = repository.reader(head.domain)?;
    let mut found = |kind, item: ChunkItem| -> Result<(), ReadError> {
        if !reader.holds(item.id) {
            return Err(ReadError::MissingChunk(item.id));
        }
        found(kind, item);
        Ok(())
    };
    stream(&reader, &head.manifest, Kind::MetaPack, &mut found)?;
    let mut trees = vec![(head.root.clone(), 0)];
    while let Some((tree, depth)) = trees.pop() {
        // Equal folders are one tree: visited once, or a small repository could name 2^64 paths.
        if !seen.insert((head.domain, tree.items.clone())) {
            continue;
        }
        stream(&reader, &tree, Kind::MetaPack, &mut found)?;
        let bytes = reader.whole(&tree)?;
        for entry in Entries::new(&bytes) {
            let wrong = |source| ReadError::format("a tree", source);
            let entry = entry.map_err(wrong)?;
            match (entry.kind, entry.content) {
                (_, Content::None) => {}
                (EntryKind::Folder, Content::Stream(reference)) => {
                    if depth >= DEPTH_MAX {
                        return Err(wrong(FormatError::Invalid(
                            "the tree is deeper than any folder",
                        )));
                    }
                    trees.push((StreamRef::decode(reference).map_err(wrong)?, depth + 1));
                }
                (_, Content::Chunk(id)) => {
                    let length = u32::try_from(entry.size).map_err(|_| {
                        wrong(FormatError::Invalid("a chunk's length is not allowed"))
                    })?;
                    found(Kind::DataPack, ChunkItem { id, length })?;
                }
                (_, Content::Stream(reference)) => stream(
                    &reader,
                    &StreamRef::decode(reference).map_err(wrong)?,
                    Kind::DataPack,
                    &mut found,
                )?,
            }
        }
    }
    Ok(())
}

fn stream(
    reader: &Reader<'_>,
    stream: &StreamRef,
    kind: Kind,
    found: &mut dyn FnMut(Kind, ChunkItem) -> Result<(), ReadError>,
) -> Result<(), ReadError> {
    if stream.depth > 0 {
        for item in list_chunks(&stream.items)
            .map_err(|source| ReadError::format("a chunk list", source))?
        {
            found(Kind::MetaPack, item)?;
        }
    }
    for item in reader.chunks(stream)? {
        found(kind, item)?;
    }
    Ok(())
}
