//! A file of more pieces than a round is to hold: written by itself, a window of its pieces at a time.
//!
//! Within a window pieces come as their segments are opened, as in a round. Memory holds the list of the
//! file's chunks, 20 bytes for each, and one window.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use lifeboat_codec::{ChunkItem, Entry, StreamRef};
use lifeboat_files::{Attributes, FileSlot, Metadata, NewFile, Restored, TargetFolder};
use lifeboat_repository::{Counter, ReadError, Wanted};

use super::plan::PlanError;
use super::{Work, Writing};
use crate::text::{sentence, shown_path};

/// Pieces of a file that are wanted at once.
const WINDOW_PIECES: usize = 64 << 10;

/// Why a window was not written.
enum Failed {
    Files(lifeboat_files::Error),
    Chunk(String),
}

impl<'a> Work<'a> {
    /// Writes a large file; `None` when it was given up, which is told already, or nothing more is to be written.
    pub(super) fn large(
        &self,
        path: &[u8],
        entry: &Entry<'_>,
        stream: &StreamRef,
        folder: &TargetFolder<'a>,
        (metadata, attributes): (&Metadata, &Attributes),
        writing: &Writing<'a>,
    ) -> Result<Option<Restored>, PlanError> {
        let items = self.reader.chunks(stream)?;
        let file = match folder.create_file(entry.name, metadata, attributes.clone())? {
            FileSlot::Kept(restored) => return Ok(Some(restored)),
            FileSlot::New(file) => file,
        };
        let mut offset = 0;
        for window in items.chunks(WINDOW_PIECES.min(self.bounds.items)) {
            match self.window(&file, window, offset) {
                Ok(()) => {}
                Err(Failed::Files(error)) => return Err(error.into()),
                Err(Failed::Chunk(wrong)) => {
                    let text = format!("{}: {wrong}", shown_path(path));
                    writing.problem(self.progress, text);
                    return Ok(None);
                }
            }
            if self.stop.load(Ordering::Relaxed) {
                return Ok(None);
            }
            offset += bytes_of(window);
        }
        Ok(Some(file.finish()?))
    }

    /// Writes neighbouring pieces, the first of which begins at `start`; ends early when the restore is stopped.
    fn window(&self, file: &NewFile<'a>, window: &[ChunkItem], start: u64) -> Result<(), Failed> {
        let mut offset = start;
        let (mut wanted, mut offsets) = (Vec::new(), Vec::new());
        for (item, tag) in window.iter().zip(0..) {
            wanted.push(Wanted { id: item.id, tag });
            offsets.push(offset);
            offset += u64::from(item.length);
        }
        let failed = Mutex::new(None);
        let ended = AtomicBool::new(self.stop.load(Ordering::Relaxed));
        self.reader.deliver(&wanted, &ended, &|tag, chunk| {
            let place = tag as usize;
            let written = write(file, chunk, window[place].length, offsets[place]);
            match written {
                Ok(bytes) => self.progress.count(Counter::Bytes, bytes),
                Err(error) => {
                    let mut failed = failed.lock().expect("no thread panics with a failure");
                    failed.get_or_insert(error);
                    ended.store(true, Ordering::Relaxed);
                }
            }
            if self.stop.load(Ordering::Relaxed) {
                ended.store(true, Ordering::Relaxed);
            }
        });
        match failed
            .into_inner()
            .expect("no thread panics with a failure")
        {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }
}

fn write(
    file: &NewFile<'_>,
    chunk: Result<&[u8], &ReadError>,
    length: u32,
    offset: u64,
) -> Result<u64, Failed> {
    let chunk = chunk.map_err(|error| Failed::Chunk(sentence(error)))?;
    if chunk.len() != length as usize {
        return Err(Failed::Chunk("a chunk of it has another length".to_owned()));
    }
    file.write_at(chunk, offset).map_err(Failed::Files)?;
    Ok(chunk.len() as u64)
}

fn bytes_of(items: &[ChunkItem]) -> u64 {
    items.iter().map(|item| u64::from(item.length)).sum()
}
