//! Between a file system's words and the format's: metadata here, tree entries there.

use lifeboat_codec::{
    ChunkId, ChunkItem, Content, Entry, EntryKind, EntryTime, FormatError, Profile, StreamRef,
    list_chunks, put_chunk, status,
};
use lifeboat_files::{Attributes, ExtendedAttribute, Identity, Kind, Metadata, Time};
use lifeboat_repository::ReadError;

/// What a kind of object is called in a tree.
pub(crate) fn entry_kind(kind: Kind) -> EntryKind {
    match kind {
        Kind::File => EntryKind::File,
        Kind::Folder => EntryKind::Folder,
        Kind::Symlink => EntryKind::Symlink,
        Kind::Fifo => EntryKind::Fifo,
        Kind::Socket => EntryKind::Socket,
        Kind::BlockDevice => EntryKind::BlockDevice,
        Kind::CharDevice => EntryKind::CharDevice,
    }
}

/// What a tree's kind is on a file system.
pub(crate) fn file_kind(kind: EntryKind) -> Kind {
    match kind {
        EntryKind::File => Kind::File,
        EntryKind::Folder => Kind::Folder,
        EntryKind::Symlink => Kind::Symlink,
        EntryKind::Fifo => Kind::Fifo,
        EntryKind::Socket => Kind::Socket,
        EntryKind::BlockDevice => Kind::BlockDevice,
        EntryKind::CharDevice => Kind::CharDevice,
    }
}

pub(crate) fn entry_time(time: Time) -> EntryTime {
    EntryTime {
        seconds: time.seconds,
        nanos: time.nanos,
    }
}

/// The entry of an object, without content, target and attributes.
pub(crate) fn entry_of<'a>(name: &'a [u8], metadata: &Metadata) -> Entry<'a> {
    Entry {
        mode: metadata.mode.into(),
        uid: metadata.uid,
        gid: metadata.gid,
        mtime: entry_time(metadata.mtime),
        ctime: entry_time(metadata.ctime),
        inode: metadata.inode,
        size: if metadata.kind == Kind::File {
            metadata.size
        } else {
            0
        },
        device: if matches!(metadata.kind, Kind::BlockDevice | Kind::CharDevice) {
            metadata.rdev
        } else {
            0
        },
        link_group: if metadata.nlink > 1 && metadata.kind != Kind::Folder {
            link_group(metadata.identity())
        } else {
            0
        },
        ..Entry::new(entry_kind(metadata.kind), name)
    }
}

/// Lends attributes to an entry.
pub(crate) fn put_attributes<'a>(entry: &mut Entry<'a>, attributes: &'a Attributes) {
    entry.attributes = attributes
        .extended
        .iter()
        .map(|attribute| (&*attribute.name, &*attribute.value))
        .collect();
    entry.flags = attributes.flags;
}

/// The same number for all names of one file, the same in every run.
fn link_group(identity: Identity) -> u64 {
    // Inode numbers alone repeat between file systems; zero means "one name".
    let mixed = identity.inode ^ identity.dev.rotate_left(40);
    mixed.max(1)
}

/// The metadata that a restore gives an object.
pub(crate) fn metadata_of(entry: &Entry<'_>) -> Metadata {
    Metadata {
        kind: file_kind(entry.kind),
        mode: u16::try_from(entry.mode & 0o7777).unwrap_or(0o600),
        uid: entry.uid,
        gid: entry.gid,
        size: entry.size,
        mtime: Time {
            seconds: entry.mtime.seconds,
            nanos: entry.mtime.nanos,
        },
        ctime: Time {
            seconds: entry.ctime.seconds,
            nanos: entry.ctime.nanos,
        },
        inode: entry.inode,
        dev: 0,
        nlink: if entry.link_group == 0 { 1 } else { 2 },
        rdev: entry.device,
        allocated: entry.size,
        mount_root: false,
    }
}

/// The attributes that a restore gives an object.
pub(crate) fn attributes_of(entry: &Entry<'_>) -> Attributes {
    let extended = entry
        .attributes
        .iter()
        .map(|(name, value)| ExtendedAttribute {
            name: (*name).into(),
            value: (*value).into(),
        });
    Attributes {
        extended: extended.collect(),
        flags: entry.flags,
    }
}

/// True when `entry` describes the object as it is now, so that its content need not be read.
///
/// An entry that changed within two seconds before the run that read it is not trusted: a file may change twice
/// within one tick of a clock, the second time after it was read.
pub(crate) fn unchanged(entry: &Entry<'_>, metadata: &Metadata, trusted_before: EntryTime) -> bool {
    entry.kind == entry_kind(metadata.kind)
        && entry.status & (status::CHANGED | status::UNREADABLE | status::LIVE | status::CARRIED)
            == 0
        && (entry.kind != EntryKind::File || entry.size == metadata.size)
        && entry.inode == metadata.inode
        && entry.mtime == entry_time(metadata.mtime)
        && entry.ctime == entry_time(metadata.ctime)
        && entry.ctime < trusted_before
        && entry.mtime < trusted_before
}

/// Entries changed at or after this moment are read again: `started_ms` is when the run that wrote them began.
pub(crate) fn trusted_before(started_ms: u64) -> EntryTime {
    let millis = i64::try_from(started_ms)
        .unwrap_or(i64::MAX)
        .saturating_sub(2_000);
    EntryTime {
        seconds: millis.div_euclid(1000),
        nanos: u32::try_from(millis.rem_euclid(1000)).unwrap_or(0) * 1_000_000,
    }
}

pub(crate) fn wrong(source: FormatError) -> ReadError {
    ReadError::Format {
        object: "a tree".to_owned(),
        source,
    }
}

/// Where a file's content is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileContent {
    /// It is stored as it is.
    Stream(StreamRef),
    /// It is made of parts.
    Bundle {
        /// The tree of the parts.
        parts: StreamRef,
        /// Bytes of the file.
        length: u64,
    },
}

impl FileContent {
    /// Bytes of the file.
    #[must_use]
    pub fn length(&self) -> u64 {
        match self {
            Self::Stream(stream) => stream.length,
            Self::Bundle { length, .. } => *length,
        }
    }

    /// The content where it is stored as it is.
    #[must_use]
    pub fn stream(self) -> Option<StreamRef> {
        match self {
            Self::Stream(stream) => Some(stream),
            Self::Bundle { .. } => None,
        }
    }

    /// Bytes that it takes in memory beside itself.
    pub(crate) fn held_bytes(&self) -> usize {
        match self {
            Self::Stream(stream) | Self::Bundle { parts: stream, .. } => stream.items.len(),
        }
    }
}

/// A file's content as it was stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Stored {
    Empty,
    Chunk(ChunkId),
    Stream(Vec<u8>),
    Bundle(Vec<u8>),
}

impl Stored {
    pub(crate) fn content(&self) -> Content<'_> {
        match self {
            Self::Empty => Content::None,
            Self::Chunk(id) => Content::Chunk(*id),
            Self::Stream(reference) => Content::Stream(reference),
            Self::Bundle(reference) => Content::Bundle(reference),
        }
    }

    /// What a stream is that was stored.
    pub(crate) fn of(stream: &StreamRef) -> Self {
        match only_chunk(stream) {
            _ if stream.length == 0 => Self::Empty,
            Some(id) => Self::Chunk(id),
            None => Self::Stream(stream.encode()),
        }
    }
}

/// The chunk of a stream that is one.
pub(crate) fn only_chunk(stream: &StreamRef) -> Option<ChunkId> {
    let items = (stream.depth == 0).then(|| list_chunks(&stream.items).ok())??;
    match items[..] {
        [only] => Some(only.id),
        _ => None,
    }
}

/// The content of a file that stands in a folder.
pub(crate) fn file_content(entry: &Entry<'_>) -> Result<FileContent, ReadError> {
    if entry.part.is_some() {
        let what = FormatError::Invalid("a folder holds a part of a bundle");
        return Err(wrong(what));
    }
    part_content(entry)
}

/// The content of a file, or of a part of a bundle.
pub(crate) fn part_content(entry: &Entry<'_>) -> Result<FileContent, ReadError> {
    match entry.content {
        Content::Bundle(reference) => Ok(FileContent::Bundle {
            parts: StreamRef::decode(reference).map_err(wrong)?,
            length: entry.size,
        }),
        _ => stream_of(entry).map(FileContent::Stream),
    }
}

/// What is stored as a stream, whether one chunk or many: a folder's tree, or a file's content that is no bundle.
pub(crate) fn content_of(entry: &Entry<'_>) -> Result<StreamRef, ReadError> {
    if entry.part.is_some() {
        let what = FormatError::Invalid("a folder holds a part of a bundle");
        return Err(wrong(what));
    }
    stream_of(entry)
}

fn stream_of(entry: &Entry<'_>) -> Result<StreamRef, ReadError> {
    match entry.content {
        Content::None => Ok(StreamRef::empty(Profile::Files)),
        Content::Chunk(id) => {
            let length = u32::try_from(entry.size)
                .map_err(|_| wrong(FormatError::Invalid("a chunk's length is not allowed")))?;
            let mut items = Vec::new();
            put_chunk(&mut items, ChunkItem { id, length });
            Ok(StreamRef::new(entry.size, Profile::Files, 0, items))
        }
        Content::Stream(reference) => {
            let stream = StreamRef::decode(reference).map_err(wrong)?;
            if entry.kind == EntryKind::File && stream.length != entry.size {
                return Err(wrong(FormatError::Invalid(
                    "a file's size is not the length of its content",
                )));
            }
            Ok(stream)
        }
        Content::Bundle(_) => Err(wrong(FormatError::Invalid("a bundle stands here"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_changed_near_the_last_run_is_not_trusted() {
        let metadata = Metadata {
            kind: Kind::File,
            ..metadata_of(&Entry::new(EntryKind::File, b"x"))
        };
        let at = |seconds| Metadata {
            mtime: Time { seconds, nanos: 5 },
            ctime: Time { seconds, nanos: 5 },
            ..metadata
        };
        let started = trusted_before(1_000_000);
        assert!(unchanged(&entry_of(b"x", &at(997)), &at(997), started));
        assert!(
            !unchanged(&entry_of(b"x", &at(998)), &at(998), started),
            "the same second"
        );
        assert!(
            !unchanged(&entry_of(b"x", &at(2000)), &at(2000), started),
            "the future"
        );
        assert!(!unchanged(&entry_of(b"x", &at(900)), &at(901), started));
        let larger = Metadata { size: 9, ..at(900) };
        assert!(!unchanged(&entry_of(b"x", &at(900)), &larger, started));
    }

    #[test]
    fn a_file_that_was_away_and_came_back_as_it_was_loses_the_mark_of_what_is_carried() {
        let entry = Entry::new(EntryKind::File, b"x");
        let carried = Entry {
            status: status::CARRIED,
            ..entry.clone()
        };
        let (metadata, started) = (metadata_of(&entry), trusted_before(1_000_000));
        assert!(unchanged(&entry, &metadata, started));
        assert!(!unchanged(&carried, &metadata, started));
    }
}
