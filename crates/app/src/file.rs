//! Reads one file into the repository, and proves that it stayed the same meanwhile.

use std::io::Read;

use lifeboat_codec::Profile;
use lifeboat_files::{Attributes, Folder, Listing, Metadata, SqliteUse, recognise_sqlite};
use lifeboat_repository::{Counter, Lane, Progress, Reader, WriteError};

use crate::bundle::{BUNDLE_MIN_BYTES, Bundles, HEAD_BYTES, put_content};
use crate::entry::{FileContent, Stored, only_chunk};

/// A file as it was read.
pub(crate) struct FileRead {
    pub(crate) stored: Stored,
    /// Bytes that are stored.
    pub(crate) bytes: u64,
    pub(crate) metadata: Metadata,
    pub(crate) attributes: Attributes,
    /// Attributes that could not be read.
    pub(crate) unread: Vec<lifeboat_files::Error>,
    /// It changed while it was read.
    pub(crate) changed: bool,
    /// It is an SQLite database that somebody uses.
    pub(crate) in_use: bool,
}

/// Reads the file `name` of `folder`, which was just seen as `seen`, and in an earlier snapshot, which `before` reads, was
/// `earlier`.
///
/// What is read of a file that is cut is told at once to whoever watches; `told` is how much of this file was, and stays
/// between tries, so that nothing is told twice.
pub(crate) fn read_file(
    lane: &mut Lane<'_, '_>,
    folder: &Folder,
    listing: &Listing,
    name: &[u8],
    seen: &Metadata,
    (bundles, before, earlier): (&Bundles, Option<&Reader<'_>>, Option<&FileContent>),
    told: &mut u64,
) -> Result<FileRead, FileError> {
    let mut file = folder.open_file(name, seen)?;
    let read = file.attributes();
    let size = file.metadata().size;
    let mut start = [0; 16];
    let mut bytes = 0;
    let mut head = Vec::new();
    if size >= BUNDLE_MIN_BYTES as u64 {
        head.resize(HEAD_BYTES, 0);
        let mut filled = 0;
        while filled < head.len() {
            match file.read(&mut head[filled..])? {
                0 => break,
                count => filled += count,
            }
        }
        head.truncate(filled);
    }
    let is_small = size <= Profile::Files.min_bytes() as u64;
    let stored = if is_small && !bundles.may_be(&head) {
        let expected = size as usize;
        let was = earlier.cloned().and_then(FileContent::stream);
        let item = lane.put_small(
            Profile::Files,
            expected + 1,
            was.as_ref().and_then(only_chunk),
            |room| -> Result<usize, FileError> {
                let mut filled = head.len();
                room[..filled].copy_from_slice(&head);
                while filled < room.len() {
                    match file.read(&mut room[filled..])? {
                        0 => break,
                        count => filled += count,
                    }
                }
                // One byte more than there should be means that the file grew: what is stored ends where it was to end.
                let kept = filled.min(expected);
                bytes = kept as u64;
                let head = kept.min(start.len());
                start[..head].copy_from_slice(&room[..head]);
                Ok(kept)
            },
        )?;
        item.map_or(Stored::Empty, |item| Stored::Chunk(item.id))
    } else {
        let mut reader = FileReader {
            head: &head,
            file: &mut file,
            start: &mut start,
            bytes: &mut bytes,
            told,
            progress: lane.writer().progress(),
            error: None,
        };
        let was = (before, earlier);
        match put_content(lane, Profile::Files, bundles, was, &mut reader) {
            Ok((stored, _)) => stored,
            Err(WriteError::Source(source)) => {
                let cause = reader.error.take();
                return Err(cause.map_or(
                    FileError::Write(WriteError::Source(source)),
                    FileError::Files,
                ));
            }
            Err(error) => return Err(FileError::Write(error)),
        }
    };
    let in_use = recognise_sqlite(folder, listing, name, &file, &start)
        .is_some_and(|usage| usage != SqliteUse::Idle);
    let finished = file.finish()?;
    let changed = finished.change.is_some() || bytes != finished.metadata.size;
    Ok(FileRead {
        stored,
        bytes,
        metadata: finished.metadata,
        attributes: read.attributes,
        unread: read.unread,
        changed,
        in_use,
    })
}

/// Why a file could not be read.
pub(crate) enum FileError {
    Files(lifeboat_files::Error),
    Write(WriteError),
}

impl From<lifeboat_files::Error> for FileError {
    fn from(error: lifeboat_files::Error) -> Self {
        Self::Files(error)
    }
}

impl From<WriteError> for FileError {
    fn from(error: WriteError) -> Self {
        Self::Write(error)
    }
}

/// Lends an open file to the repository and keeps what must be known of it.
struct FileReader<'f, 'a> {
    /// What was read of the file before.
    head: &'f [u8],
    file: &'f mut lifeboat_files::OpenFile<'a>,
    start: &'f mut [u8; 16],
    bytes: &'f mut u64,
    told: &'f mut u64,
    progress: &'f dyn Progress,
    error: Option<lifeboat_files::Error>,
}

impl Read for FileReader<'_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        // A file that grows as fast as it is read would never end: what it had at first is enough to say that it changed.
        let left = self.file.metadata().size.saturating_sub(*self.bytes);
        let room = usize::try_from(left).map_or(buffer.len(), |left| left.min(buffer.len()));
        let read = if self.head.is_empty() {
            self.file.read(&mut buffer[..room])
        } else {
            let (begin, rest) = self.head.split_at(room.min(self.head.len()));
            buffer[..begin.len()].copy_from_slice(begin);
            self.head = rest;
            Ok(begin.len())
        };
        match read {
            Ok(count) => {
                if *self.bytes == 0 {
                    let head = count.min(16);
                    self.start[..head].copy_from_slice(&buffer[..head]);
                }
                *self.bytes += count as u64;
                if *self.bytes > *self.told {
                    self.progress
                        .count(Counter::Bytes, *self.bytes - *self.told);
                    *self.told = *self.bytes;
                }
                Ok(count)
            }
            Err(error) => {
                self.error = Some(error);
                Err(std::io::Error::other("the file cannot be read"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::testing::Watcher;

    #[test]
    fn bytes_are_told_as_they_are_read_and_those_of_a_second_try_not_again() {
        let scratch = tempfile::tempdir().unwrap();
        std::fs::write(scratch.path().join("film"), [7; 1000]).unwrap();
        let folder = Folder::open(scratch.path()).unwrap();
        let seen = folder.metadata(b"film").unwrap();
        let (watcher, mut told) = (Watcher::default(), 0);
        for (room, told_then) in [(600, 600), (300, 600), (1000, 1000)] {
            let mut file = folder.open_file(b"film", &seen).unwrap();
            let mut reader = FileReader {
                head: &[],
                file: &mut file,
                start: &mut [0; 16],
                bytes: &mut 0,
                told: &mut told,
                progress: &watcher,
                error: None,
            };
            reader.read_exact(&mut vec![0; room]).unwrap();
            assert_eq!(watcher.sum(Counter::Bytes), told_then);
        }
    }

    #[test]
    fn of_a_file_that_grows_no_more_is_read_than_it_had_and_the_growth_is_noticed() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("log");
        std::fs::write(&path, [7; 1000]).unwrap();
        let folder = Folder::open(scratch.path()).unwrap();
        let seen = folder.metadata(b"log").unwrap();
        let mut file = folder.open_file(b"log", &seen).unwrap();
        let mut appended = std::fs::File::options().append(true).open(&path).unwrap();
        appended.write_all(&[8; 500]).unwrap();
        let (mut start, mut bytes, mut content) = ([0; 16], 0, Vec::new());
        let mut reader = FileReader {
            head: &[],
            file: &mut file,
            start: &mut start,
            bytes: &mut bytes,
            told: &mut 0,
            progress: &Watcher::default(),
            error: None,
        };
        reader.read_to_end(&mut content).unwrap();
        assert_eq!(content, [7; 1000]);
        assert_eq!((start, bytes), ([7; 16], 1000));
        assert!(file.finish().unwrap().change.is_some());
    }
}
