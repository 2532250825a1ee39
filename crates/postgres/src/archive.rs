//! `pg_dump`'s custom archive format, read as it streams past.
//!
//! A custom archive is a head (versions, the database's name), a table of contents, and then one block of data per
//! entry that has data. [`ArchiveScanner`] is fed the bytes in any portions and follows this structure to its end, so
//! that a stream that stops early is known to be incomplete whatever the program that made it says. Row content is
//! stepped over, not looked at.
//!
//! Invariant: the scanner keeps at most one unfinished token in memory, beside the table of contents. Every length is
//! checked before it is used; no input makes it panic.

use std::collections::HashSet;

/// The first bytes of every custom archive.
const MAGIC: &[u8] = b"PGDMP";
const FORMAT_CUSTOM: u8 = 1;
const BLOCK_DATA: u8 = 1;
const BLOCK_LARGE_OBJECTS: u8 = 3;
/// The oldest minor version of the format that is read (PostgreSQL 9.0) and the newest that is known (17 and 18).
const MINOR_MIN: u8 = 12;
const MINOR_MAX: u8 = 16;
/// More than any table of contents has entries for, or any entry has text for.
const ENTRIES_MAX: i64 = 100_000_000;
const TOKEN_LEN_BYTES_MAX: usize = 256 << 20;

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
}

/// One entry of the table of contents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ArchiveEntry {
    pub(crate) id: i64,
    /// What it is: `TABLE`, `TABLE DATA`, `INDEX`, `ACL`.
    pub(crate) kind: String,
    pub(crate) schema: Option<String>,
    pub(crate) name: String,
    pub(crate) owner: Option<String>,
    pub(crate) has_data: bool,
    /// The entries that must be restored before it.
    pub(crate) needs: Vec<i64>,
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
    /// How many bytes of content are to be stepped over.
    skip: u64,
    widths: Widths,
    head: Option<ArchiveHead>,
    entries: Vec<ArchiveEntry>,
    /// The entries whose data have not been seen.
    awaited: HashSet<i64>,
}

/// How many bytes the archive's integers and offsets have.
#[derive(Clone, Copy, Debug, Default)]
struct Widths {
    integer: usize,
    offset: usize,
}

impl ArchiveScanner {
    pub(crate) fn new() -> Self {
        Self {
            state: State::Head,
            rest: Vec::new(),
            skip: 0,
            widths: Widths::default(),
            head: None,
            entries: Vec::new(),
            awaited: HashSet::new(),
        }
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

    /// Whether nothing more can be learnt before the data.
    pub(crate) fn knows_contents(&self) -> bool {
        !matches!(self.state, State::Head | State::Contents(_))
    }

    /// Takes the next bytes.
    pub(crate) fn feed(&mut self, bytes: &[u8]) -> Result<(), ArchiveError> {
        if self.rest.is_empty() {
            let used = self.consume(bytes)?;
            self.rest.extend_from_slice(&bytes[used..]);
        } else {
            let mut joined = std::mem::take(&mut self.rest);
            joined.extend_from_slice(bytes);
            let used = self.consume(&joined)?;
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
        let place = match self.state {
            State::Head => "in its head",
            State::Contents(_) => "in its table of contents",
            State::Blocks | State::Portions { .. } | State::LargeObject => "in its data",
            State::Complete | State::Unknown => {
                let head = self.head.ok_or(ArchiveError::CutOff("in its head"))?;
                let with_data = self.entries.iter().filter(|entry| entry.has_data).count();
                return Ok(ArchiveSummary {
                    head,
                    entries: self.entries.len() as u64,
                    entries_with_data: with_data as u64,
                    followed_to_the_end: self.state == State::Complete,
                });
            }
        };
        Err(ArchiveError::CutOff(place))
    }

    /// Goes through all complete tokens of `input`; returns how many bytes they have.
    fn consume(&mut self, input: &[u8]) -> Result<usize, ArchiveError> {
        let mut at = 0;
        loop {
            if self.skip > 0 {
                let left = (input.len() - at) as u64;
                let stepped = left.min(self.skip);
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
            };
            match self.step(&mut token) {
                Ok(()) => at += token.used,
                Err(Stop::Incomplete) => return Ok(at),
                Err(Stop::Error(error)) => return Err(error),
            }
        }
    }

    fn step(&mut self, token: &mut Token<'_>) -> Result<(), Stop> {
        match self.state {
            State::Head => self.read_head(token),
            State::Contents(left) => {
                let entry = token.entry(self.minor())?;
                if entry.has_data {
                    self.awaited.insert(entry.id);
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
        // When it was made: second, minute, hour, day, month, year, daylight saving.
        for _ in 0..7 {
            token.integer()?;
        }
        let head = ArchiveHead {
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

/// Why a token was not read.
enum Stop {
    /// Its end has not come yet.
    Incomplete,
    Error(ArchiveError),
}

impl From<ArchiveError> for Stop {
    fn from(error: ArchiveError) -> Self {
        Self::Error(error)
    }
}

/// One token being read from the front of the input.
struct Token<'a> {
    input: &'a [u8],
    used: usize,
    widths: Widths,
}

impl<'a> Token<'a> {
    fn bytes(&mut self, count: usize) -> Result<&'a [u8], Stop> {
        let end = self.used.checked_add(count).ok_or(Stop::Incomplete)?;
        let bytes = self.input.get(self.used..end).ok_or(Stop::Incomplete)?;
        self.used = end;
        Ok(bytes)
    }

    fn byte(&mut self) -> Result<u8, Stop> {
        Ok(self.bytes(1)?[0])
    }

    /// A sign byte, then the absolute value, least significant byte first.
    fn integer(&mut self) -> Result<i64, Stop> {
        let negative = self.byte()? != 0;
        let width = self.widths.integer;
        let mut value: u64 = 0;
        for (at, byte) in self.bytes(width)?.iter().enumerate() {
            value |= u64::from(*byte) << (8 * at);
        }
        let value = i64::try_from(value)
            .map_err(|_| ArchiveError::Damaged("it has an impossible number"))?;
        Ok(if negative { -value } else { value })
    }

    fn length(&mut self) -> Result<u64, Stop> {
        u64::try_from(self.integer()?)
            .map_err(|_| ArchiveError::Damaged("it has a negative length").into())
    }

    /// A length, then the bytes; a negative length is no text at all.
    fn text(&mut self) -> Result<Option<String>, Stop> {
        let Ok(length) = usize::try_from(self.integer()?) else {
            return Ok(None);
        };
        if length > TOKEN_LEN_BYTES_MAX {
            return Err(ArchiveError::Damaged("it has a text of impossible length").into());
        }
        let bytes = self.bytes(length)?;
        Ok(Some(String::from_utf8_lossy(bytes).into_owned()))
    }

    fn skip_text(&mut self) -> Result<(), Stop> {
        self.text().map(|_| ())
    }

    fn entry(&mut self, minor: u8) -> Result<ArchiveEntry, Stop> {
        let id = self.integer()?;
        let has_data = self.integer()? != 0;
        self.skip_text()?; // the catalog's oid
        self.skip_text()?; // the object's oid
        let name = self.text()?.unwrap_or_default();
        let kind = self.text()?.unwrap_or_default();
        self.integer()?; // section
        self.skip_text()?; // statement that makes it
        self.skip_text()?; // statement that drops it
        self.skip_text()?; // COPY statement
        let schema = self.text()?.filter(|schema| !schema.is_empty());
        self.skip_text()?; // tablespace
        if minor >= 14 {
            self.skip_text()?; // table access method
        }
        if minor >= 16 {
            self.integer()?; // kind of relation
        }
        let owner = self.text()?.filter(|owner| !owner.is_empty());
        self.skip_text()?; // whether it has oids; of old
        let mut needs = Vec::new();
        while let Some(need) = self.text()? {
            let need = need
                .parse()
                .map_err(|_| ArchiveError::Damaged("it has a dependency that is no number"))?;
            needs.push(need);
        }
        // Where its data begin; unknown to a writer that cannot seek.
        self.bytes(1 + self.widths.offset)?;
        Ok(ArchiveEntry {
            id,
            kind,
            schema,
            name,
            owner,
            has_data,
            needs,
        })
    }
}

#[cfg(test)]
mod tests;
