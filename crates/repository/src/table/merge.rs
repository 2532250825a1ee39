//! Makes a table of an older one and what is new: both are sorted, and read and written from front to back.
//!
//! Invariant: the file takes its name when it is whole, in one step. A process that is killed before leaves a file that
//! nobody has locked; the next one removes it. Memory holds what is new, and one block of the rest.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, ErrorKind, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering as Atomic};

use rayon::prelude::*;

use super::contents::Contents;
use super::{
    BLOCK_BYTES, Domain, ENTRY_BYTES, HEAD_BYTES, MAGIC, Object, Shelf, StoredRows, Table,
    entry_of, order, segment_of, start_of,
};
use crate::place::PackPlace;
use lifeboat_codec::ChunkId;

const BUFFER_BYTES: usize = 1 << 20;

/// What comes behind what a table has.
pub(crate) struct Fresh<'f> {
    pub(crate) objects: &'f [Object],
    /// With their rows in memory.
    pub(crate) packs: &'f [PackPlace],
    /// All segments with a base, the old table's too, by height.
    pub(crate) based: Vec<(u8, u32)>,
}

type Entry = [u8; ENTRY_BYTES];

/// Writes entries in blocks.
struct Entries<'f> {
    out: BufWriter<&'f File>,
    shelf: &'f Shelf,
    contents: Contents,
    block: Vec<u8>,
    entries: u64,
    last: Option<u128>,
}

impl Entries<'_> {
    fn put(&mut self, entry: &Entry) -> io::Result<()> {
        if self.block.len() == BLOCK_BYTES {
            self.end_block()?;
        }
        if self.block.is_empty() {
            let id = ChunkId::from_slice(&entry[..ChunkId::LENGTH]);
            let start = start_of(id.expect("an entry is longer than its id"));
            self.contents.starts.push(start);
        }
        self.block.extend_from_slice(entry);
        self.entries += 1;
        let order = order(entry);
        if self.last.replace(order) != Some(order) {
            self.contents.chunks += 1;
        }
        Ok(())
    }

    fn end_block(&mut self) -> io::Result<()> {
        if !self.block.is_empty() {
            let sum = self.shelf.sum("block", &self.block);
            self.contents.sums.push(sum);
            self.out.write_all(&self.block)?;
            self.block.clear();
        }
        Ok(())
    }

    fn end_domain(&mut self, domain: u32) -> io::Result<()> {
        self.end_block()?;
        let before = self.contents.domains.last();
        self.contents.domains.push(Domain {
            domain,
            entries: std::mem::take(&mut self.entries),
            first_block: before.map_or(0, |last| last.first_block + last.blocks()),
        });
        self.last = None;
        Ok(())
    }
}

impl Table {
    /// Writes entries and rows of `old` and of what is `fresh` into a new file, which has no name yet that counts.
    pub(crate) fn merge(shelf: &Shelf, old: Option<&Self>, fresh: Fresh<'_>) -> io::Result<Self> {
        let (file, path) = unfinished(shelf)?;
        let made = Self::merge_into(shelf, old, fresh, &file);
        if made.is_err() {
            // If that fails too, the next one to make a table removes it.
            let _ = fs::remove_file(&path);
        }
        let mut table = Self::new(shelf, file, made?);
        table.unfinished = Some(path);
        Ok(table)
    }

    fn merge_into(
        shelf: &Shelf,
        old: Option<&Self>,
        fresh: Fresh<'_>,
        file: &File,
    ) -> io::Result<Contents> {
        let mut out = BufWriter::with_capacity(BUFFER_BYTES, file);
        out.write_all(&[0; HEAD_BYTES])?;
        let mut entries = Entries {
            out,
            shelf,
            contents: Contents::default(),
            block: Vec::with_capacity(BLOCK_BYTES),
            entries: 0,
            last: None,
        };
        let old_domains = old.map_or(&[][..], |old| &old.contents.domains);
        let mut domains: BTreeSet<u32> = old_domains.iter().map(|known| known.domain).collect();
        for pack in fresh.packs {
            domains.extend(pack.entry.origins.iter().map(|origin| origin.domain));
        }
        for domain in domains {
            merge_domain(
                &mut entries,
                old,
                domain,
                &fresh_entries(fresh.packs, domain),
            )?;
        }
        let mut contents = entries.contents;
        let mut out = entries.out;
        let mut at = HEAD_BYTES as u64;
        at += ENTRY_BYTES as u64 * contents.domains.iter().map(|all| all.entries).sum::<u64>();
        if let Some(old) = old {
            at = copy_rows(old, &mut contents, &mut out, at)?;
            contents.objects.extend_from_slice(old.objects());
        }
        for pack in fresh.packs {
            let bytes = pack.rows.get().map_or(&[][..], |rows| rows.bytes());
            contents.rows.push(StoredRows {
                at,
                bytes: u32::try_from(bytes.len()).map_err(|_| ErrorKind::FileTooLarge)?,
                sum: shelf.sum("rows", bytes),
            });
            out.write_all(bytes)?;
            at += bytes.len() as u64;
            contents.packs.push(pack.bare());
        }
        out.flush()?;
        contents.objects.extend_from_slice(fresh.objects);
        contents.based = fresh.based;
        Ok(contents)
    }

    /// Gives the file its name, with the segments that are `hollow` among its own; reads it anew.
    pub(crate) fn finish(mut self, hollow: Vec<(u8, u32)>) -> io::Result<Self> {
        let path = self.unfinished.take().ok_or(ErrorKind::InvalidInput)?;
        self.contents.hollow = hollow;
        let finish = || {
            let bytes = self.contents.encode();
            let at = self.file.metadata()?.len();
            self.file.write_all_at(&bytes, at)?;
            let head = [
                MAGIC.as_slice(),
                &at.to_le_bytes(),
                &(bytes.len() as u64).to_le_bytes(),
                &self.shelf.sum("contents", &bytes),
            ]
            .concat();
            self.file.write_all_at(&head, 0)?;
            fs::rename(&path, self.shelf.path())
        };
        if let Err(error) = finish() {
            let _ = fs::remove_file(&path);
            return Err(error);
        }
        // What was read for the making is not held longer. The file is this one, whoever has put another in its place by now.
        let contents = Self::contents(&self.shelf, &self.file).ok_or(ErrorKind::InvalidData)?;
        Ok(Self::new(&self.shelf, self.file, contents))
    }
}

/// A new file that this process has locked; what killed ones left is removed.
fn unfinished(shelf: &Shelf) -> io::Result<(File, PathBuf)> {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    for entry in fs::read_dir(&shelf.folder)?.filter_map(Result::ok) {
        let name = entry.file_name();
        let is_left = name.to_string_lossy().starts_with("chunks.table.");
        if is_left
            && let Ok(file) = OpenOptions::new().read(true).write(true).open(entry.path())
            && file.try_lock().is_ok()
        {
            let _ = fs::remove_file(entry.path());
        }
    }
    let number = NUMBER.fetch_add(1, Atomic::Relaxed);
    let name = format!("chunks.table.{}-{number}", std::process::id());
    let path = shelf.folder.join(name);
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&path)?;
    if let Err(error) = file.try_lock() {
        // Where nothing can be locked, nobody could tell later that it is left.
        let _ = fs::remove_file(&path);
        return Err(error.into());
    }
    Ok((file, path))
}

fn fresh_entries(packs: &[PackPlace], domain: u32) -> Vec<Entry> {
    let mut entries = Vec::new();
    let has_some = |pack: &&PackPlace| {
        pack.entry
            .origins
            .iter()
            .any(|origin| origin.domain == domain)
    };
    for pack in packs.iter().filter(has_some) {
        let rows = pack.rows.get().into_iter().flat_map(|rows| rows.rows());
        for (segment, row) in (pack.first_segment..).zip(rows) {
            if pack.domain_of(&row) == domain {
                entries.extend(row.chunk_ids().map(|id| entry_of(id, segment)));
            }
        }
    }
    entries.par_sort_unstable_by_key(|entry| (order(entry), segment_of(entry)));
    entries
}

fn merge_domain(
    out: &mut Entries<'_>,
    old: Option<&Table>,
    domain: u32,
    fresh: &[Entry],
) -> io::Result<()> {
    let mut fresh = fresh.iter().peekable();
    let old = old.and_then(|old| {
        let mut domains = old.contents.domains.iter();
        Some((old, domains.find(|known| known.domain == domain)?))
    });
    if let Some((old, known)) = old {
        for number in known.first_block..known.first_block + known.blocks() {
            let Some(block) = old.read_block(known, number) else {
                // What is damaged is not taken along; the next run makes all of it anew.
                old.shelf.forget();
                return Err(ErrorKind::InvalidData.into());
            };
            for entry in block.as_chunks().0 {
                // Of one chunk, the old holders have lower numbers.
                while let Some(next) =
                    fresh.next_if(|next| order(next).cmp(&order(entry)) == Ordering::Less)
                {
                    out.put(next)?;
                }
                out.put(entry)?;
            }
        }
    }
    fresh.try_for_each(|entry| out.put(entry))?;
    out.end_domain(domain)
}

/// Copies the rows of `old` as they are: each pack's has its sum. Returns where they end.
fn copy_rows(
    old: &Table,
    contents: &mut Contents,
    out: &mut impl Write,
    at: u64,
) -> io::Result<u64> {
    let stored = &old.contents.rows;
    let from = stored.first().map_or(0, |rows| rows.at);
    let end = stored
        .last()
        .map_or(0, |rows| rows.at + u64::from(rows.bytes));
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut next = from;
    while next < end {
        let part = &mut buffer[..(end - next).min(BUFFER_BYTES as u64) as usize];
        old.file.read_exact_at(part, next)?;
        out.write_all(part)?;
        next += part.len() as u64;
    }
    contents.rows.extend(stored.iter().map(|rows| StoredRows {
        at: rows.at - from + at,
        ..*rows
    }));
    contents
        .packs
        .extend(old.packs().iter().map(PackPlace::bare));
    Ok(at + (end - from))
}
