//! The names of a huge folder, sorted in a file that has no name.
//!
//! Written as sorted runs, merged once, then read in blocks through a small cache: a walk goes through them in order, and
//! a look-up reads the first names of a few blocks.

use super::Listed;
use crate::entry::Kind;
use crate::error::{Error, ErrorKind};
use std::borrow::Cow;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

/// Names in a block.
const BLOCK_NAMES: usize = 1024;
/// Blocks that are kept in memory: one for each of a few workers that walk the same folder.
const BLOCKS_MAX: usize = 4;
/// What a run is read ahead while runs are merged.
const RUN_BUFFER_BYTES: usize = 64 << 10;

/// Sorted runs of names, one behind the other in one file.
pub(super) struct Runs {
    file: BufWriter<File>,
    /// Where each run ends.
    ends: Vec<u64>,
    at: u64,
}

/// All names in order.
pub(super) struct Sorted {
    file: File,
    /// Where each block begins, and where the last one ends.
    blocks: Vec<u64>,
    names: usize,
    cache: Mutex<Vec<(usize, Arc<Block>)>>,
}

/// Some names that follow each other.
struct Block(Vec<Name>);

/// A name, and the number of its kind.
type Name = (Box<[u8]>, u8);

impl Runs {
    /// Runs in a file in `scratch`.
    pub(super) fn new(scratch: &Path) -> Result<Self, Error> {
        Ok(Self {
            file: BufWriter::new(tempfile::tempfile_in(scratch).map_err(failed)?),
            ends: Vec::new(),
            at: 0,
        })
    }

    /// Adds a run of sorted names.
    pub(super) fn add<'n>(&mut self, names: impl Iterator<Item = Listed<'n>>) -> Result<(), Error> {
        for name in names {
            self.at += put(&mut self.file, &name.name, number_of(name.hint)).map_err(failed)?;
        }
        self.ends.push(self.at);
        Ok(())
    }

    /// Merges the runs into another file in `scratch`.
    pub(super) fn merge(self, scratch: &Path) -> Result<Sorted, Error> {
        let runs = self
            .file
            .into_inner()
            .map_err(|error| failed(error.into_error()))?;
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        let mut readers: Vec<_> = starts
            .zip(&self.ends)
            .map(|(start, end)| {
                let run = Span {
                    file: &runs,
                    at: start,
                    end: *end,
                };
                BufReader::with_capacity(RUN_BUFFER_BYTES, run)
            })
            .collect();
        let mut heads = BinaryHeap::new();
        for (number, reader) in readers.iter_mut().enumerate() {
            if let Some((name, kind)) = take(reader).map_err(failed)? {
                heads.push(Reverse((name, number, kind)));
            }
        }
        let mut file = BufWriter::new(tempfile::tempfile_in(scratch).map_err(failed)?);
        let (mut blocks, mut at, mut names) = (Vec::new(), 0, 0);
        let mut last: Box<[u8]> = Box::default();
        while let Some(Reverse((name, number, kind))) = heads.pop() {
            if name != last {
                if names % BLOCK_NAMES == 0 {
                    blocks.push(at);
                }
                at += put(&mut file, &name, kind).map_err(failed)?;
                names += 1;
                last = name;
            }
            if let Some((name, kind)) = take(&mut readers[number]).map_err(failed)? {
                heads.push(Reverse((name, number, kind)));
            }
        }
        blocks.push(at);
        Ok(Sorted {
            file: file
                .into_inner()
                .map_err(|error| failed(error.into_error()))?,
            blocks,
            names,
            cache: Mutex::default(),
        })
    }
}

impl Sorted {
    pub(super) fn len(&self) -> usize {
        self.names
    }

    pub(super) fn get(&self, place: usize) -> Result<Option<Listed<'static>>, Error> {
        if place >= self.names {
            return Ok(None);
        }
        let block = self.block(place / BLOCK_NAMES)?;
        let (name, kind) = block
            .0
            .get(place % BLOCK_NAMES)
            .ok_or_else(|| failed(io::ErrorKind::UnexpectedEof.into()))?;
        Ok(Some(Listed {
            name: Cow::Owned(name.to_vec()),
            hint: kind_of(*kind),
        }))
    }

    pub(super) fn holds(&self, name: &[u8]) -> Result<bool, Error> {
        // The last block that does not begin behind the name.
        let (mut low, mut high) = (0, self.blocks.len() - 1);
        while high - low > 1 {
            let middle = usize::midpoint(low, high);
            let mut first = BufReader::with_capacity(
                512,
                Span {
                    file: &self.file,
                    at: self.blocks[middle],
                    end: self.blocks[middle + 1],
                },
            );
            match take(&mut first).map_err(failed)? {
                Some((first, _)) if *first <= *name => low = middle,
                _ => high = middle,
            }
        }
        let block = self.block(low)?;
        Ok(block
            .0
            .binary_search_by(|(there, _)| (**there).cmp(name))
            .is_ok())
    }

    fn block(&self, number: usize) -> Result<Arc<Block>, Error> {
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, block)) = cache.iter().find(|(there, _)| *there == number) {
            return Ok(Arc::clone(block));
        }
        let mut span = BufReader::with_capacity(
            RUN_BUFFER_BYTES,
            Span {
                file: &self.file,
                at: self.blocks[number],
                end: self.blocks[number + 1],
            },
        );
        let mut names = Vec::with_capacity(BLOCK_NAMES);
        while let Some(name) = take(&mut span).map_err(failed)? {
            names.push(name);
        }
        let block = Arc::new(Block(names));
        if cache.len() == BLOCKS_MAX {
            cache.remove(0);
        }
        cache.push((number, Arc::clone(&block)));
        Ok(block)
    }
}

/// A part of a file, read from its own place.
struct Span<'f> {
    file: &'f File,
    at: u64,
    end: u64,
}

impl Read for Span<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.end - self.at).unwrap_or(usize::MAX);
        let most = into.len().min(left);
        let count = self.file.read_at(&mut into[..most], self.at)?;
        self.at += count as u64;
        Ok(count)
    }
}

/// A kind as the file has it, 0 for unknown.
fn number_of(hint: Option<Kind>) -> u8 {
    hint.and_then(|hint| Kind::ALL.iter().position(|kind| *kind == hint))
        .map_or(0, |place| place as u8 + 1)
}

fn kind_of(number: u8) -> Option<Kind> {
    Kind::ALL.get(usize::from(number).checked_sub(1)?).copied()
}

/// Writes a name and returns how many bytes that took.
fn put(file: &mut impl Write, name: &[u8], kind: u8) -> io::Result<u64> {
    let length = u16::try_from(name.len()).map_err(io::Error::other)?;
    file.write_all(&length.to_le_bytes())?;
    file.write_all(&[kind])?;
    file.write_all(name)?;
    Ok(3 + u64::from(length))
}

/// Reads a name; `None` at the end.
fn take(file: &mut impl Read) -> io::Result<Option<Name>> {
    let mut head = [0; 3];
    let mut filled = 0;
    while filled < head.len() {
        match file.read(&mut head[filled..]) {
            Ok(0) if filled == 0 => return Ok(None),
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    let [low, high, kind] = head;
    let mut name = vec![0; usize::from(u16::from_le_bytes([low, high]))].into_boxed_slice();
    file.read_exact(&mut name)?;
    Ok(Some((name, kind)))
}

fn failed(source: io::Error) -> Error {
    Error::new(
        ErrorKind::Other,
        "sort, in the folder for temporary files, the names in",
        b".",
        source,
    )
}
