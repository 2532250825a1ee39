//! `pg_dump`'s custom archive format, read as it streams past.
//!
//! A custom archive is a head (versions, the database's name), a table of contents, and then one block of data per
//! entry that has data. [`ArchiveScanner`] is fed the bytes in any portions and follows this structure to its end, so
//! that a stream that stops early is known to be incomplete whatever the program that made it says. Row content is
//! stepped over, not looked at; the rows of tables that somebody watches are shown to him.
//!
//! Invariant: the scanner keeps at most one unfinished token in memory, beside the table of contents. Every length is
//! checked before it is used; no input makes it panic.

use std::collections::{HashMap, HashSet};

mod wire;
mod entry;
pub(crate) mod block;

pub(crate) use entry::{ArchiveEntry, section};
use wire::{Stop, TOKEN_LEN_BYTES_MAX, Token, Widths, put_integer, put_text};

/// The first bytes of every custom archive.
const MAGIC: &[u8] = b"PGDMP";
const FORMAT_CUSTOM: u8 = 1;
const BLOCK_DATA: u8 = 1;
const BLOCK_LARGE_OBJECTS: u8 = 3;
/// The oldest minor version of the format that is read (PostgreSQL 9.0) and the newest that is known (17 and 18).
const MINOR_MIN: u8 = 12;
const MINOR_MAX: u8 = 16;
/// More than any table of contents has entries for, or bytes.
const ENTRIES_MAX: i64 = 100_000_000;
const CONTENTS_LEN_BYTES_MAX: u64 = 1 << 30;

/// The widths that are written here.
const WRITTEN: Widths = Widths {
    integer: 4,
    offset: 8,
};

/// Why bytes are not a complete custom archive.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ArchiveError {
    /// They do not start like one.
    #[error("this is no PostgreSQL archive in custom format")]
    NotAnArchive,
    /// A part contradicts the format.
    #[error("the PostgreSQL archive is damaged: {0}")]
    Damaged(&'static str),
    /// They end before the archive does.
    #[error("the PostgreSQL archive is cut off {0}")]
    CutOff(&'static str),
}

/// The head of an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArchiveHead {
    /// When it was made: second, minute, hour, day, month, year, daylight saving.
    made: [i64; 7],
    /// The minor version of the format: 14 in 1.14.
    pub format_minor: u8,
    /// Whether the data are compressed inside.
    pub compressed: bool,
    /// The database that was dumped.
    pub database: String,
    /// The version of its server, as it said it.
    pub server_version: String,
    /// The version of the `pg_dump` that wrote it.
    pub program_version: String,
}

impl ArchiveHead {
    /// The major version of the `pg_dump` that wrote the archive, when its text starts with a number.
    pub fn program_major(&self) -> Option<u32> {
        let digits = self
            .program_version
            .split(|letter: char| !letter.is_ascii_digit())
            .next()?;
        digits.parse().ok()
    }

    /// The front of an archive with this head and table of contents, whose data follow uncompressed.
    pub(crate) fn encode<'a>(
        &self,
        entries: impl ExactSizeIterator<Item = &'a ArchiveEntry>,
    ) -> Result<Vec<u8>, ArchiveError> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&[1, self.format_minor, 0]);
        bytes.extend_from_slice(&[WRITTEN.integer as u8, WRITTEN.offset as u8, FORMAT_CUSTOM]);
        if self.format_minor >= 15 {
            bytes.push(0);
        } else {
            put_integer(&mut bytes, 0);
        }
        for part in self.made {
            put_integer(&mut bytes, entry::small(part)?);
        }
        put_text(&mut bytes, Some(&self.database))?;
        put_text(&mut bytes, Some(&self.server_version))?;
        put_text(&mut bytes, Some(&self.program_version))?;
        put_integer(&mut bytes, entry::small(entries.len() as i64)?);
        for entry in entries {
            entry.encode(self.format_minor, &mut bytes)?;
        }
        Ok(bytes)
    }
}

#[cfg(test)]
impl ArchiveHead {
    /// A head for archives that are made by hand.
    pub(crate) fn example(format_minor: u8) -> Self {
        Self {
            made: [1; 7],
            format_minor,
            compressed: false,
            database: "shop".to_owned(),
            server_version: "15.18".to_owned(),
            program_version: "17.2".to_owned(),
        }
    }
}

/// What a complete archive was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArchiveSummary {
    /// Its head.
    pub head: ArchiveHead,
    /// How many entries its table of contents has.
    pub entries: u64,
    /// How many of them have data (tables, large objects).
    pub entries_with_data: u64,
    /// Whether the data of every entry were seen to their end; not so when the format is newer than this reader.
    pub followed_to_the_end: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Head,
    /// So many entries are still to come.
    Contents(u64),
    /// Between two blocks of data.
    Blocks,
    /// In an entry's data, or in a large object's: a portion's length comes next.
    Portions {
        large_object: bool,
    },
    /// In an entry of large objects: the number of the next one comes.
    LargeObject,
    Complete,
    /// The format is newer than this reader: the bytes pass unread.
    Unknown,
}

/// Follows an archive; see the module.
#[derive(Debug)]
pub(crate) struct ArchiveScanner {
    state: State,
    /// The beginning of a token that is not complete yet.
    rest: Vec<u8>,
    /// It is not looked at again before it has so many bytes: of a long one each look costs.
    rest_len_bytes_min: usize,
    /// How many bytes of content are to be stepped over.
    skip: u64,
    widths: Widths,
    head: Option<ArchiveHead>,
    entries: Vec<ArchiveEntry>,
    contents_len_bytes: u64,
    /// Whether a text of the head or the table of contents was not UTF-8.
    inexact: bool,
    /// The entries whose data have not been seen.
    awaited: HashSet<i64>,
    watch: Option<Box<Watch>>,
}

/// Whose rows are shown while they pass.
#[derive(Debug, Default)]
struct Watch {
    /// Schema and name.
    tables: Vec<(String, String)>,
    /// Their entries, and their places in that list.
    entries: HashMap<i64, usize>,
    /// The one that is passing.
    passing: Option<usize>,
}

impl Watch {
    fn note(&mut self, entry: &ArchiveEntry) {
        let same = |(schema, name): &(String, String)| {
            entry.schema() == Some(schema) && entry.name == *name
        };
        if entry.kind == "TABLE DATA"
            && let Some(place) = self.tables.iter().position(same)
        {
            self.entries.insert(entry.id, place);
        }
    }
}

impl ArchiveScanner {
    pub(crate) fn new() -> Self {
        Self {
            state: State::Head,
            rest: Vec::new(),
            rest_len_bytes_min: 0,
            skip: 0,
            widths: Widths::default(),
            head: None,
            entries: Vec::new(),
            contents_len_bytes: 0,
            inexact: false,
            awaited: HashSet::new(),
            watch: None,
        }
    }

    /// Shows the rows of these tables, given by schema and name, to who calls [`feed_watched`](Self::feed_watched).
    pub(crate) fn watch(&mut self, tables: Vec<(String, String)>) {
        self.watch = Some(Box::new(Watch {
            tables,
            ..Watch::default()
        }));
    }

    /// Whether the table of contents and all rows of watched tables have passed.
    pub(crate) fn has_shown_all(&self) -> bool {
        let is_left = |watch: &Watch| {
            let is_passing = watch.passing.is_some() && !matches!(self.state, State::Blocks);
            is_passing || watch.entries.keys().any(|id| self.awaited.contains(id))
        };
        let is_done = matches!(self.state, State::Complete | State::Unknown);
        is_done || (self.knows_contents() && !self.watch.as_deref().is_some_and(is_left))
    }

    /// The head, once it has passed.
    pub(crate) fn head(&self) -> Option<&ArchiveHead> {
        self.head.as_ref()
    }

    /// The table of contents, once all of it has passed; nothing for a format that is not known.
    pub(crate) fn contents(&self) -> Option<&[ArchiveEntry]> {
        match self.state {
            State::Head | State::Contents(_) | State::Unknown => None,
            _ => Some(&self.entries),
        }
    }

    /// Whether the head and the table of contents, as far as they have passed, are all in UTF-8.
    pub(crate) fn is_exact(&self) -> bool {
        !self.inexact
    }

    /// Whether nothing more can be learnt before the data.
    pub(crate) fn knows_contents(&self) -> bool {
        !matches!(self.state, State::Head | State::Contents(_))
    }

    /// Takes the next bytes.
    pub(crate) fn feed(&mut self, bytes: &[u8]) -> Result<(), ArchiveError> {
        self.feed_watched(bytes, &mut |_, _| ())
    }

    /// Takes the next bytes; `rows` gets what they have of watched tables, each named by its place in the list.
    pub(crate) fn feed_watched(
        &mut self,
        bytes: &[u8],
        rows: &mut dyn FnMut(usize, &[u8]),
    ) -> Result<(), ArchiveError> {
        if self.rest.is_empty() {
            let used = self.consume(bytes, rows)?;
            self.rest.extend_from_slice(&bytes[used..]);
        } else if self.rest.len() + bytes.len() < self.rest_len_bytes_min {
            self.rest.extend_from_slice(bytes);
        } else {
            let mut joined = std::mem::take(&mut self.rest);
            joined.extend_from_slice(bytes);
            let used = self.consume(&joined, rows)?;
            joined.drain(..used);
            self.rest = joined;
        }
        if self.rest.len() > TOKEN_LEN_BYTES_MAX {
            return Err(ArchiveError::Damaged(
                "an entry of the table of contents is too large",
            ));
        }
        Ok(())
    }

    /// Says whether the archive was complete when the stream ended.
    pub(crate) fn finish(self) -> Result<ArchiveSummary, ArchiveError> {
        self.complete().map(|(summary, _)| summary)
    }

    /// The same, with the table of contents.
    pub(crate) fn complete(self) -> Result<(ArchiveSummary, Vec<ArchiveEntry>), ArchiveError> {
        let place = match self.state {
            State::Head => "in its head",
            State::Contents(_) => "in its table of contents",
            State::Blocks | State::Portions { .. } | State::LargeObject => "in its data",
            State::Complete | State::Unknown => {
                let head = self.head.ok_or(ArchiveError::CutOff("in its head"))?;
                let with_data = self.entries.iter().filter(|entry| entry.has_data).count();
                let summary = ArchiveSummary {
                    head,
                    entries: self.entries.len() as u64,
                    entries_with_data: with_data as u64,
                    followed_to_the_end: self.state == State::Complete,
                };
                return Ok((summary, self.entries));
            }
        };
        Err(ArchiveError::CutOff(place))
    }

    /// Goes through all complete tokens of `input`; returns how many bytes they have.
    fn consume(
        &mut self,
        input: &[u8],
        rows: &mut dyn FnMut(usize, &[u8]),
    ) -> Result<usize, ArchiveError> {
        let mut at = 0;
        loop {
            if self.skip > 0 {
                let left = (input.len() - at) as u64;
                let stepped = left.min(self.skip);
                if let Some(place) = self.watch.as_ref().and_then(|watch| watch.passing) {
                    rows(place, &input[at..at + stepped as usize]);
                }
                self.skip -= stepped;
                at += stepped as usize;
            }
            if at == input.len() {
                return Ok(at);
            }
            let mut token = Token {
                input: &input[at..],
                used: 0,
                widths: self.widths,
                inexact: false,
            };
            match self.step(&mut token) {
                Ok(()) => {
                    at += token.used;
                    self.inexact |= token.inexact;
                }
                Err(Stop::Incomplete(len_bytes_min)) => {
                    self.rest_len_bytes_min = len_bytes_min;
                    return Ok(at);
                }
                Err(Stop::Error(error)) => return Err(error),
            }
        }
    }

    fn step(&mut self, token: &mut Token<'_>) -> Result<(), Stop> {
        match self.state {
            State::Head => self.read_head(token),
            State::Contents(left) => {
                let entry = ArchiveEntry::decode(token, self.minor())?;
                self.contents_len_bytes += token.used as u64;
                if self.contents_len_bytes > CONTENTS_LEN_BYTES_MAX {
                    return Err(ArchiveError::Damaged("its table of contents is too large").into());
                }
                if entry.has_data {
                    self.awaited.insert(entry.id);
                    if let Some(watch) = &mut self.watch {
                        watch.note(&entry);
                    }
                }
                self.entries.push(entry);
                self.after_contents(left - 1);
                Ok(())
            }
            State::Blocks => self.read_block_start(token),
            State::Portions { large_object } => {
                match token.length()? {
                    0 if large_object => self.state = State::LargeObject,
                    0 => self.after_block(),
                    length => self.skip = length,
                }
                Ok(())
            }
            State::LargeObject => {
                match token.integer()? {
                    0 => self.after_block(),
                    _ => self.state = State::Portions { large_object: true },
                }
                Ok(())
            }
            State::Complete => Err(ArchiveError::Damaged("bytes follow after its end").into()),
            State::Unknown => {
                token.used = token.input.len();
                Ok(())
            }
        }
    }

    fn minor(&self) -> u8 {
        self.head.as_ref().map_or(0, |head| head.format_minor)
    }

    fn after_contents(&mut self, left: u64) {
        self.state = match left {
            0 if self.awaited.is_empty() => State::Complete,
            0 => State::Blocks,
            left => State::Contents(left),
        };
    }

    fn after_block(&mut self) {
        self.state = if self.awaited.is_empty() {
            State::Complete
        } else {
            State::Blocks
        };
    }

    fn read_head(&mut self, token: &mut Token<'_>) -> Result<(), Stop> {
        let at_hand = token.input.len().min(MAGIC.len());
        if token.input[..at_hand] != MAGIC[..at_hand] {
            return Err(ArchiveError::NotAnArchive.into());
        }
        token.bytes(MAGIC.len())?;
        let major = token.byte()?;
        let minor = token.byte()?;
        let _revision = token.byte()?;
        if major != 1 || minor < MINOR_MIN {
            return Err(ArchiveError::Damaged("its version is not one of custom format").into());
        }
        token.widths = Widths {
            integer: token.byte()?.into(),
            offset: token.byte()?.into(),
        };
        if !matches!(token.widths.integer, 4 | 8) || !matches!(token.widths.offset, 4 | 8) {
            return Err(ArchiveError::Damaged("its integers have an unknown width").into());
        }
        if token.byte()? != FORMAT_CUSTOM {
            return Err(ArchiveError::NotAnArchive.into());
        }
        let compressed = if minor >= 15 {
            token.byte()? != 0
        } else {
            token.integer()? != 0
        };
        let mut made = [0; 7];
        for part in &mut made {
            *part = token.integer()?;
        }
        let head = ArchiveHead {
            made,
            format_minor: minor,
            compressed,
            database: token.text()?.unwrap_or_default(),
            server_version: token.text()?.unwrap_or_default(),
            program_version: token.text()?.unwrap_or_default(),
        };
        if minor > MINOR_MAX {
            self.head = Some(head);
            self.state = State::Unknown;
            return Ok(());
        }
        let count = token.integer()?;
        if !(0..=ENTRIES_MAX).contains(&count) {
            return Err(
                ArchiveError::Damaged("its table of contents has an impossible size").into(),
            );
        }
        self.widths = token.widths;
        self.head = Some(head);
        self.after_contents(count.unsigned_abs());
        Ok(())
    }

    fn read_block_start(&mut self, token: &mut Token<'_>) -> Result<(), Stop> {
        let kind = token.byte()?;
        let id = token.integer()?;
        if !self.awaited.remove(&id) {
            return Err(ArchiveError::Damaged(
                "it has data that its table of contents does not name",
            )
            .into());
        }
        if let Some(watch) = &mut self.watch {
            watch.passing = watch.entries.get(&id).copied();
        }
        self.state = match kind {
            BLOCK_DATA => State::Portions {
                large_object: false,
            },
            BLOCK_LARGE_OBJECTS => State::LargeObject,
            _ => return Err(ArchiveError::Damaged("it has a block of unknown kind").into()),
        };
        Ok(())
    }
}

#[cfg(test)]
mod tests;
