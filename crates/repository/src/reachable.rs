//! Everything that a snapshot names: its trees, lists and chunks, down to the last one.
//!
//! Memory holds a piece of each folder on the way down, and 16 bytes for each distinct tree.

use std::collections::HashSet;

use lifeboat_codec::{ChunkItem, Content, EntryKind, FormatError, Head, Kind, StreamRef};

use crate::reader::{Part, Reader, chunks_of_stream};
use crate::repository::{ReadError, Repository};
use crate::stored_tree::{FOLDER_DEPTH_MAX, TreeKey, tree_key};

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
    seen: &mut HashSet<TreeKey>,
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
    let wrong = |source| ReadError::format("a tree", source);
    let mut levels = Vec::new();
    let mut below = Some(head.root.clone());
    loop {
        if let Some(tree) = below.take() {
            // Equal folders are one tree: visited once, or a small repository could name 2^64 paths.
            if seen.insert(tree_key(head.domain, &tree)) {
                if levels.len() >= FOLDER_DEPTH_MAX {
                    return Err(wrong(FormatError::Invalid(
                        "the tree is deeper than any folder",
                    )));
                }
                stream(&reader, &tree, Kind::MetaPack, &mut found)?;
                levels.push(reader.tree(&tree)?);
            }
        }
        let Some(level) = levels.last_mut() else {
            return Ok(());
        };
        let Some(entry) = level.next_entry()? else {
            levels.pop();
            continue;
        };
        match (entry.kind, entry.content) {
            (_, Content::None) => {}
            (EntryKind::Folder, Content::Stream(reference)) | (_, Content::Bundle(reference)) => {
                below = Some(StreamRef::decode(reference).map_err(wrong)?);
            }
            (_, Content::Chunk(id)) => {
                let length = u32::try_from(entry.size)
                    .map_err(|_| wrong(FormatError::Invalid("a chunk's length is not allowed")))?;
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

fn stream(
    reader: &Reader<'_>,
    stream: &StreamRef,
    kind: Kind,
    found: &mut dyn FnMut(Kind, ChunkItem) -> Result<(), ReadError>,
) -> Result<(), ReadError> {
    chunks_of_stream(reader, stream, &mut |part, item| {
        let kind = match part {
            Part::List => Kind::MetaPack,
            Part::Own => kind,
        };
        found(kind, item)
    })?;
    Ok(())
}
