//! Trees: a folder's entries, sorted by name, and a bundle's parts (`docs/format.md` §7).
//!
//! Entries borrow from the bytes they were read from: a tree of a million files is read without an allocation for
//! each. Names are bytes and are checked here, so that nothing behind this file ever sees `..` or a slash.

use crate::error::FormatError;
use crate::id::ChunkId;
use crate::record::{Fields, Input, RecordWriter, Unknown, put_varint};

/// No entry's record is longer, in bytes: twice what a backup keeps of one file's extended attributes, which are the
/// only part of it that grows. A reader holds one entry whole, for each folder on its way down.
pub const ENTRY_MAX: usize = 64 << 20;
pub(crate) const TOO_LONG: FormatError =
    FormatError::Invalid("a tree's entry is longer than any can be");

const WHAT: &str = "a tree's entry";
/// A name is at most this long.
pub const NAME_MAX: usize = 4096;

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum EntryKind {
    /// A file.
    File = 1,
    /// A folder.
    Folder = 2,
    /// A symbolic link.
    Symlink = 3,
    /// A FIFO.
    Fifo = 4,
    /// A socket.
    Socket = 5,
    /// A block device.
    BlockDevice = 6,
    /// A character device.
    CharDevice = 7,
}

impl EntryKind {
    fn from_number(number: u64) -> Result<Self, FormatError> {
        Ok(match number {
            1 => Self::File,
            2 => Self::Folder,
            3 => Self::Symlink,
            4 => Self::Fifo,
            5 => Self::Socket,
            6 => Self::BlockDevice,
            7 => Self::CharDevice,
            _ => return Err(FormatError::Unsupported("this kind of tree entry")),
        })
    }
}

/// Bits of an entry's status.
pub mod status {
    /// The file changed while it was read.
    pub const CHANGED: u64 = 1;
    /// It could not be read; there is no content.
    pub const UNREADABLE: u64 = 2;
    /// A secret: restored only when asked for.
    pub const SECRET: u64 = 4;
    /// A live database's file: not restorable as it is.
    pub const LIVE: u64 = 8;
    /// It was not there any more and is taken over from an earlier snapshot, because a row names it.
    pub const CARRIED: u64 = 16;
    /// It changed after the moment of the database.
    pub const NEWER: u64 = 32;
}

/// Where a file's content or a folder's entries are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Content<'a> {
    /// Nowhere: an empty file or folder, or something without content.
    #[default]
    None,
    /// One chunk.
    Chunk(ChunkId),
    /// An encoded stream reference.
    Stream(&'a [u8]),
    /// An encoded stream reference of the tree of the parts that a file is made of.
    Bundle(&'a [u8]),
}

/// How the bytes of a bundle's part are made of its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Coding {
    /// They are the content.
    Plain = 0,
    /// A deflate stream: the content is its text, which preflate-rs 0.7 packs again by corrections.
    Deflate = 1,
    /// It makes no bytes: its content is the corrections of the part behind it.
    Corrections = 2,
    /// It makes no bytes, and is the first: its content is all bytes that stand between what the others make, and short
    /// corrections.
    Frame = 3,
}

/// What an entry of a bundle's tree is, which no entry of a folder has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BundlePart<'a> {
    /// How its bytes are made.
    pub coding: Coding,
    /// How many bytes are made of the content.
    pub makes: u64,
    /// So many bytes of the frame stand before those.
    pub lead: u64,
    /// So many bytes of the frame behind those are its corrections; longer ones are the part before it.
    pub corrections: u64,
    /// What the part is called in the bundle, for finding it again in a later one.
    pub label: &'a [u8],
    /// Fields of a newer version, kept as they were read.
    pub unknown: Unknown,
}

impl<'a> BundlePart<'a> {
    /// A part with everything else empty.
    #[must_use]
    pub fn new(coding: Coding) -> Self {
        Self {
            coding,
            makes: 0,
            lead: 0,
            corrections: 0,
            label: &[],
            unknown: Unknown::default(),
        }
    }

    fn put(&self, out: &mut Vec<u8>) {
        RecordWriter::new(out)
            .number(1, self.coding as u64)
            .number(2, self.makes)
            .number(3, self.lead)
            .number(4, self.corrections)
            .bytes(5, self.label)
            .unknown(&self.unknown);
    }

    fn decode(bytes: &'a [u8]) -> Result<Self, FormatError> {
        let mut part = Self::new(Coding::Plain);
        for field in Fields::new(bytes, "a bundle's part") {
            let field = field?;
            match field.number {
                1 => {
                    part.coding = match field.number_value()? {
                        0 => Coding::Plain,
                        1 => Coding::Deflate,
                        2 => Coding::Corrections,
                        3 => Coding::Frame,
                        _ => return Err(FormatError::Unsupported("the coding of a bundle's part")),
                    };
                }
                2 => part.makes = field.number_value()?,
                3 => part.lead = field.number_value()?,
                4 => part.corrections = field.number_value()?,
                5 => part.label = field.bytes()?,
                _ => field.unknown(&mut part.unknown)?,
            }
        }
        Ok(part)
    }
}

/// A time: seconds since 1970 and nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct EntryTime {
    /// Seconds, negative before 1970.
    pub seconds: i64,
    /// Nanoseconds, below 10⁹.
    pub nanos: u32,
}

/// One entry of a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// What it is.
    pub kind: EntryKind,
    /// Its name in its folder.
    pub name: &'a [u8],
    /// The 12 permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Last change of the content.
    pub mtime: EntryTime,
    /// Last change of anything; for recognising unchanged files only.
    pub ctime: EntryTime,
    /// Inode number; the same.
    pub inode: u64,
    /// Files: length in bytes.
    pub size: u64,
    /// Where the content is.
    pub content: Content<'a>,
    /// What a symbolic link says.
    pub target: &'a [u8],
    /// Device number: major << 32 | minor.
    pub device: u64,
    /// The same number = the same file under several names; 0 = one name.
    pub link_group: u64,
    /// Extended attributes: name, value.
    pub attributes: Vec<(&'a [u8], &'a [u8])>,
    /// Inode flags.
    pub flags: u32,
    /// Bits of [`status`].
    pub status: u64,
    /// For an entry of a bundle's tree: what it is there.
    pub part: Option<BundlePart<'a>>,
    /// Fields of a newer version, kept as they were read.
    pub unknown: Unknown,
}

impl<'a> Entry<'a> {
    /// An entry with everything else empty.
    #[must_use]
    pub fn new(kind: EntryKind, name: &'a [u8]) -> Self {
        Self {
            kind,
            name,
            mode: 0,
            uid: 0,
            gid: 0,
            mtime: EntryTime::default(),
            ctime: EntryTime::default(),
            inode: 0,
            size: 0,
            content: Content::None,
            target: &[],
            device: 0,
            link_group: 0,
            attributes: Vec::new(),
            flags: 0,
            status: 0,
            part: None,
            unknown: Unknown::default(),
        }
    }

    fn put(&self, out: &mut Vec<u8>) {
        let mut writer = RecordWriter::new(out);
        writer
            .required_number(1, self.kind as u64)
            .required_bytes(2, self.name)
            .number(3, self.mode.into())
            .number(4, self.uid.into())
            .number(5, self.gid.into())
            .signed(6, self.mtime.seconds)
            .number(7, self.mtime.nanos.into())
            .signed(8, self.ctime.seconds)
            .number(9, self.ctime.nanos.into())
            .number(10, self.inode)
            .number(12, self.size);
        match self.content {
            Content::None | Content::Bundle(_) => {}
            Content::Chunk(id) => {
                writer.bytes(13, &id.0);
            }
            Content::Stream(reference) => {
                writer.bytes(14, reference);
            }
        }
        writer
            .bytes(15, self.target)
            .number(16, self.device)
            .number(17, self.link_group);
        for (name, value) in &self.attributes {
            writer.record(18, |record| {
                record.required_bytes(1, name).bytes(2, value);
            });
        }
        writer.number(19, self.flags.into()).number(20, self.status);
        if let Content::Bundle(reference) = self.content {
            writer.required_bytes(21, reference);
        }
        if let Some(part) = &self.part {
            let mut record = Vec::new();
            part.put(&mut record);
            writer.required_bytes(22, &record);
        }
        writer.unknown(&self.unknown);
    }

    pub(crate) fn decode(bytes: &'a [u8]) -> Result<Self, FormatError> {
        let mut kind = None;
        let mut entry = Self::new(EntryKind::File, &[]);
        for field in Fields::new(bytes, WHAT) {
            let field = field?;
            match field.number {
                1 => kind = Some(EntryKind::from_number(field.number_value()?)?),
                2 => entry.name = field.bytes()?,
                3 => entry.mode = field.small()?,
                4 => entry.uid = field.small()?,
                5 => entry.gid = field.small()?,
                6 => entry.mtime.seconds = field.signed()?,
                7 => entry.mtime.nanos = field.small()?,
                8 => entry.ctime.seconds = field.signed()?,
                9 => entry.ctime.nanos = field.small()?,
                10 => entry.inode = field.number_value()?,
                // Kept fields are written behind all others, where this number would be out of order.
                11 => {
                    return Err(FormatError::Invalid(
                        "a tree's entry has a field that the format does not use",
                    ));
                }
                12 => entry.size = field.number_value()?,
                13 => entry.content = Content::Chunk(ChunkId(field.array()?)),
                14 => match field.bytes()? {
                    // As a field that is not there: an empty string is what a missing one means.
                    [] => {}
                    reference => entry.content = Content::Stream(reference),
                },
                15 => entry.target = field.bytes()?,
                16 => entry.device = field.number_value()?,
                17 => entry.link_group = field.number_value()?,
                18 => entry
                    .attributes
                    .push(decode_attribute(field.listed().bytes()?)?),
                19 => entry.flags = field.small()?,
                20 => entry.status = field.number_value()?,
                21 => {
                    if entry.content != Content::None {
                        return Err(FormatError::Invalid(
                            "a tree's entry has content of two kinds",
                        ));
                    }
                    match field.bytes()? {
                        [] => {}
                        reference => entry.content = Content::Bundle(reference),
                    }
                }
                22 => entry.part = Some(BundlePart::decode(field.bytes()?)?),
                _ => field.unknown(&mut entry.unknown)?,
            }
        }
        entry.kind = kind.ok_or(FormatError::Truncated(WHAT))?;
        let is_file = entry.kind == EntryKind::File;
        if !is_file && (matches!(entry.content, Content::Bundle(_)) || entry.part.is_some()) {
            return Err(FormatError::Invalid(
                "only a file can be a bundle, or a part of one",
            ));
        }
        if !name_allowed(entry.name) {
            return Err(FormatError::Invalid(
                "a tree holds a name that no file may have",
            ));
        }
        if entry.mode > 0o7777
            || entry.mtime.nanos >= 1_000_000_000
            || entry.ctime.nanos >= 1_000_000_000
        {
            return Err(FormatError::Invalid(
                "a tree's entry has numbers that no file may have",
            ));
        }
        Ok(entry)
    }
}

fn decode_attribute(bytes: &[u8]) -> Result<(&[u8], &[u8]), FormatError> {
    let (mut name, mut value, mut unknown): (&[u8], &[u8], _) = (&[], &[], Unknown::default());
    for field in Fields::new(bytes, "an extended attribute") {
        let field = field?;
        match field.number {
            1 => name = field.bytes()?,
            2 => value = field.bytes()?,
            _ => field.unknown(&mut unknown)?,
        }
    }
    Ok((name, value))
}

/// True for a name that an entry may have.
#[must_use]
pub fn name_allowed(name: &[u8]) -> bool {
    !name.is_empty()
        && name.len() <= NAME_MAX
        && name != b"."
        && name != b".."
        && !name.contains(&b'/')
        && !name.contains(&0)
}

/// Appends an entry to a tree; the caller keeps the order of names.
pub fn put_entry(tree: &mut Vec<u8>, entry: &Entry<'_>, scratch: &mut Vec<u8>) {
    debug_assert!(
        name_allowed(entry.name),
        "names are checked when they are read from the file system"
    );
    scratch.clear();
    entry.put(scratch);
    debug_assert!(
        scratch.len() <= ENTRY_MAX,
        "attributes are bounded when they are read from the file system"
    );
    put_varint(tree, scratch.len() as u64);
    tree.extend_from_slice(scratch);
}

/// The entries of a tree, whose names must go up.
#[derive(Clone, Debug)]
pub struct Entries<'a> {
    input: Input<'a>,
    last: &'a [u8],
    raw: &'a [u8],
}

impl<'a> Entries<'a> {
    /// Starts reading `tree`.
    #[must_use]
    pub fn new(tree: &'a [u8]) -> Self {
        Self {
            input: Input::new(tree, "a tree"),
            last: &[],
            raw: &[],
        }
    }

    /// The bytes of the entry that was read last, as they stand in the tree; an unchanged entry is copied with them.
    #[must_use]
    pub fn raw(&self) -> &'a [u8] {
        self.raw
    }

    fn entry(&mut self) -> Result<Entry<'a>, FormatError> {
        let before = self.input.rest();
        let record = self.input.block()?;
        if record.len() > ENTRY_MAX {
            return Err(TOO_LONG);
        }
        let entry = Entry::decode(record)?;
        self.raw = before
            .get(..before.len() - self.input.rest().len())
            .unwrap_or_default();
        if entry.name <= self.last {
            return Err(FormatError::Invalid("a tree's names are not in order"));
        }
        self.last = entry.name;
        Ok(entry)
    }
}

impl<'a> Iterator for Entries<'a> {
    type Item = Result<Entry<'a>, FormatError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.input.is_empty() {
            return None;
        }
        let entry = self.entry();
        if entry.is_err() {
            self.input = Input::new(&[], "a tree");
        }
        Some(entry)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_empty_reference_is_none() {
        let tree = [7, 1 << 2 | 2, 1, 2 << 2 | 3, 1, b'a', 14 << 2 | 1, 0];
        let entry = Entries::new(&tree).next().unwrap().unwrap();
        assert_eq!(entry.content, Content::None);
    }

    #[test]
    fn a_later_version_adds_fields_above_all_others() {
        let entry = |field: u64| {
            let mut record = Vec::new();
            RecordWriter::new(&mut record)
                .required_number(1, 1)
                .required_bytes(2, b"a")
                .number(field, 5);
            let mut tree = Vec::new();
            put_varint(&mut tree, record.len() as u64);
            [tree, record].concat()
        };
        assert!(Entries::new(&entry(11)).next().unwrap().is_err());
        let later = entry(23);
        let read = Entries::new(&later).next().unwrap().unwrap();
        let mut again = Vec::new();
        put_entry(&mut again, &read, &mut Vec::new());
        assert_eq!(again, later);
    }

    fn full(name: &[u8]) -> Entry<'_> {
        Entry {
            mode: 0o4755,
            uid: 1000,
            gid: 4_294_967_294,
            mtime: EntryTime {
                seconds: -5,
                nanos: 999_999_999,
            },
            ctime: EntryTime {
                seconds: 9_223_372_036,
                nanos: 1,
            },
            inode: u64::MAX,
            size: 123,
            content: Content::Chunk(ChunkId([7; 16])),
            target: b"../x",
            device: 8 << 32 | 1,
            link_group: 5,
            attributes: vec![(b"user.a", b""), (b"user.b", &[0; 70_000])],
            flags: 0x10,
            status: status::CHANGED | status::SECRET,
            ..Entry::new(EntryKind::File, name)
        }
    }

    #[test]
    fn entries_come_back_as_they_went_in() {
        let (mut tree, mut scratch) = (Vec::new(), Vec::new());
        let entries = [
            Entry::new(EntryKind::Folder, b"\xff\n"),
            full(b"\xff\xfe"),
            Entry {
                content: Content::Stream(b"ref"),
                ..full(b"\xff\xff")
            },
            Entry {
                content: Content::Bundle(b"parts"),
                part: Some(BundlePart {
                    makes: 77,
                    lead: 30,
                    corrections: 5,
                    label: b"word/document.xml",
                    ..BundlePart::new(Coding::Deflate)
                }),
                ..full(b"\xff\xff\xff")
            },
        ];
        entries
            .iter()
            .for_each(|entry| put_entry(&mut tree, entry, &mut scratch));
        assert_eq!(
            Entries::new(&tree).collect::<Result<Vec<_>, _>>().unwrap(),
            entries
        );
    }

    fn refused(change: impl FnOnce(&mut RecordWriter<'_>), kind: u64) -> bool {
        let mut record = Vec::new();
        let mut writer = RecordWriter::new(&mut record);
        writer.required_number(1, kind).required_bytes(2, b"a");
        change(&mut writer);
        let mut tree = Vec::new();
        put_varint(&mut tree, record.len() as u64);
        tree.extend_from_slice(&record);
        Entries::new(&tree).any(|entry| entry.is_err())
    }

    #[test]
    fn a_bundle_that_is_no_file_or_has_other_content_or_an_unknown_coding_is_refused() {
        let bundle = |writer: &mut RecordWriter<'_>| {
            writer.required_bytes(21, b"parts");
        };
        assert!(!refused(bundle, 1));
        assert!(refused(bundle, 2));
        assert!(refused(
            |writer| {
                writer.bytes(14, b"stream").required_bytes(21, b"parts");
            },
            1
        ));
        let part = |coding: u64| {
            let mut record = Vec::new();
            RecordWriter::new(&mut record)
                .number(1, coding)
                .number(3, 7);
            move |writer: &mut RecordWriter<'_>| {
                writer.required_bytes(22, &record);
            }
        };
        assert!(!refused(part(3), 1));
        assert!(refused(part(4), 1));
        assert!(refused(part(0), 3));
    }

    #[test]
    fn hostile_names_and_orders_are_refused() {
        for names in [
            [b"..".as_slice(), b"x"],
            [b".", b"x"],
            [b"a/b", b"x"],
            [b"a\0", b"x"],
            [b"b", b"a"],
            [b"a", b"a"],
        ] {
            let mut tree = Vec::new();
            for name in names {
                let mut record = Vec::new();
                Entry::new(EntryKind::File, name).put(&mut record);
                put_varint(&mut tree, record.len() as u64);
                tree.extend_from_slice(&record);
            }
            assert!(Entries::new(&tree).any(|entry| entry.is_err()), "{names:?}");
        }
        assert!(!name_allowed(&[b'x'; NAME_MAX + 1]) && !name_allowed(b""));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            Entries::new(&bytes).for_each(drop);
        }
    }
}
