//! Whether what an earlier run stored is there still, so that it may be taken over without reading the source.

use lifeboat_codec::{Content, StreamRef};

use super::Writer;
use crate::reader::Reader;

/// Bundles lie at most this deep in each other.
const BUNDLE_DEPTH_MAX: usize = 8;

impl Writer<'_> {
    /// True when every chunk of a bundle is stored: those of the tree of its parts, and of every part. Reads the tree; a key
    /// that reads nothing says no.
    #[must_use]
    pub fn has_bundle(&self, parts: &StreamRef) -> bool {
        let reader = self.lists.as_ref();
        reader.is_some_and(|reader| self.has_parts(reader, parts, 1))
    }

    fn has_parts(&self, reader: &Reader<'_>, parts: &StreamRef, depth: usize) -> bool {
        if depth > BUNDLE_DEPTH_MAX || !self.has_stream(parts) {
            return false;
        }
        let Ok(mut tree) = reader.tree(parts) else {
            return false;
        };
        loop {
            let entry = match tree.next_entry() {
                Ok(Some(entry)) => entry,
                Ok(None) => return true,
                Err(_) => return false,
            };
            let is_there = match entry.content {
                Content::None => true,
                Content::Chunk(id) => self.has_chunk(id),
                Content::Stream(reference) => {
                    StreamRef::decode(reference).is_ok_and(|stream| self.has_stream(&stream))
                }
                Content::Bundle(reference) => StreamRef::decode(reference)
                    .is_ok_and(|parts| self.has_parts(reader, &parts, depth + 1)),
            };
            if !is_there {
                return false;
            }
        }
    }
}
