//! The frame around every object: header, body, block table, footer, final hash (`docs/format.md` §2).
//!
//! Invariant: whoever holds the storage can verify any object without a key, and name the damaged block.

use crate::error::FormatError;
use crate::hash::{BLOCK_BYTES, BLOCK_ENTRY_BYTES, TreeHasher};
use crate::id::{FamilyId, ObjectHash, RunId};
use crate::record::Input;

/// Length of the header.
pub const HEADER_BYTES: usize = 64;
/// Length of the footer.
pub const FOOTER_BYTES: usize = 32;
/// Length of the final hash.
pub const HASH_BYTES: usize = 32;
/// What every object begins with.
pub const FRAME_MAGIC: &[u8; 8] = b"LIFEBOAT";
const FOOTER_MAGIC: &[u8; 8] = b"LBFOOT01";
const FRAME_VERSION: u8 = 1;
const SUITE: u8 = 1;
const FLAG_CONTENT_NAMED: u8 = 1;

/// What an object is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Kind {
    /// What the repository is and what a program must know to touch it.
    Superblock = 1,
    /// A keyring, sealed to one secret.
    Slot = 2,
    /// A pack of content.
    DataPack = 3,
    /// A pack of trees, lists and manifests.
    MetaPack = 4,
    /// A list of packs and their rows.
    Index = 5,
    /// A snapshot's intent.
    Snapshot = 6,
    /// What makes a snapshot exist.
    Confirm = 7,
    /// A run's heartbeat.
    Lease = 8,
    /// Condemned packs.
    Marker = 9,
    /// A signed forget.
    Tombstone = 10,
    /// An anchor against rollback.
    Checkpoint = 11,
    /// An enrolled author.
    Writer = 13,
    /// What was said about a snapshot later.
    Note = 14,
    /// An author who is no longer believed.
    Revocation = 15,
}

impl Kind {
    /// The kind with this number.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        Some(match number {
            1 => Self::Superblock,
            2 => Self::Slot,
            3 => Self::DataPack,
            4 => Self::MetaPack,
            5 => Self::Index,
            6 => Self::Snapshot,
            7 => Self::Confirm,
            8 => Self::Lease,
            9 => Self::Marker,
            10 => Self::Tombstone,
            11 => Self::Checkpoint,
            13 => Self::Writer,
            14 => Self::Note,
            15 => Self::Revocation,
            _ => return None,
        })
    }

    /// True when the object's name ends in its final hash.
    #[must_use]
    pub fn named_by_content(self) -> bool {
        matches!(
            self,
            Self::DataPack | Self::MetaPack | Self::Index | Self::Note
        )
    }
}

/// The first 64 bytes of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// What the object is.
    pub kind: Kind,
    /// Bits that a reader of this object must know.
    pub incompat: u32,
    /// The repository's family.
    pub family: FamilyId,
    /// Who wrote it; zeros in superblock, slot, writer.
    pub run: RunId,
    /// Unix milliseconds; advice only.
    pub created_ms: u64,
    /// Ties a named object to its name; zeros when named by content.
    pub key_tag: [u8; 8],
}

impl Header {
    /// The header of an object whose name is its hash.
    #[must_use]
    pub fn by_content(kind: Kind, family: FamilyId, run: RunId, created_ms: u64) -> Self {
        Self {
            kind,
            incompat: 0,
            family,
            run,
            created_ms,
            key_tag: [0; 8],
        }
    }

    /// The header of the object that is called `name`.
    #[must_use]
    pub fn named(kind: Kind, family: FamilyId, run: RunId, created_ms: u64, name: &str) -> Self {
        Self {
            kind,
            incompat: 0,
            family,
            run,
            created_ms,
            key_tag: key_tag(name),
        }
    }

    fn flags(&self) -> u8 {
        if self.kind.named_by_content() {
            FLAG_CONTENT_NAMED
        } else {
            0
        }
    }

    /// The 64 bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut out = Vec::with_capacity(HEADER_BYTES);
        out.extend_from_slice(FRAME_MAGIC);
        out.extend_from_slice(&[FRAME_VERSION, self.kind as u8, SUITE, self.flags()]);
        out.extend_from_slice(&self.incompat.to_le_bytes());
        out.extend_from_slice(&self.family.0);
        out.extend_from_slice(&self.run.0);
        out.extend_from_slice(&self.created_ms.to_le_bytes());
        out.extend_from_slice(&self.key_tag);
        out.try_into().expect("the fields add up to 64 bytes")
    }

    /// Reads a header.
    ///
    /// # Errors
    /// When it is none, or of a version, suite or kind that this program does not know.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let mut input = Input::new(bytes, "the header");
        if &input.array::<8>()? != FRAME_MAGIC {
            return Err(FormatError::Invalid(
                "this is not an object of a lifeboat repository",
            ));
        }
        let [version, kind, suite, flags] = input.array()?;
        if version != FRAME_VERSION || suite != SUITE {
            return Err(FormatError::Unsupported("the object"));
        }
        let kind =
            Kind::from_number(kind).ok_or(FormatError::Unsupported("this kind of object"))?;
        let incompat = input.u32()?;
        if incompat != 0 {
            return Err(FormatError::Unsupported("the object"));
        }
        let header = Self {
            kind,
            incompat,
            family: FamilyId(input.array()?),
            run: RunId(input.array()?),
            created_ms: input.u64()?,
            key_tag: input.array()?,
        };
        if flags != header.flags() || (kind.named_by_content() && header.key_tag != [0; 8]) {
            return Err(FormatError::Invalid(
                "the header's flags do not fit the kind of object",
            ));
        }
        Ok(header)
    }
}

/// The tag that ties a named object to its name.
#[must_use]
pub fn key_tag(name: &str) -> [u8; 8] {
    let hash = blake3::hash(name.as_bytes());
    let (tag, _) = hash
        .as_bytes()
        .split_first_chunk::<8>()
        .expect("a hash is longer than 8 bytes");
    *tag
}

/// The 32 bytes before the final hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Footer {
    /// Length of the body.
    pub body_bytes: u64,
    /// Length of a pack's sealed directory, which ends the body; 0 otherwise.
    pub directory_bytes: u32,
    /// Entries of the block table.
    pub blocks: u32,
}

impl Footer {
    fn encode(self) -> [u8; FOOTER_BYTES] {
        let mut out = Vec::with_capacity(FOOTER_BYTES);
        out.extend_from_slice(&self.body_bytes.to_le_bytes());
        out.extend_from_slice(&self.directory_bytes.to_le_bytes());
        out.extend_from_slice(&self.blocks.to_le_bytes());
        out.extend_from_slice(&[0; 8]);
        out.extend_from_slice(FOOTER_MAGIC);
        out.try_into().expect("the fields add up to 32 bytes")
    }

    /// Reads the footer of an object of `object_bytes` bytes and holds it against that length.
    ///
    /// # Errors
    /// When the lengths contradict each other.
    pub fn decode(bytes: &[u8], object_bytes: u64) -> Result<Self, FormatError> {
        let mut input = Input::new(bytes, "the footer");
        let footer = Self {
            body_bytes: input.u64()?,
            directory_bytes: input.u32()?,
            blocks: input.u32()?,
        };
        if input.array::<8>()? != [0; 8] || &input.array::<8>()? != FOOTER_MAGIC {
            return Err(FormatError::Invalid("the footer is damaged"));
        }
        // `object_bytes` is what the store reports; a body longer than that cannot be, and the check keeps the sums below 2^64.
        if footer.body_bytes > object_bytes {
            return Err(FormatError::Truncated("the object"));
        }
        let before_table = HEADER_BYTES as u64 + footer.body_bytes;
        let blocks = if before_table > BLOCK_BYTES as u64 {
            before_table.div_ceil(BLOCK_BYTES as u64)
        } else {
            0
        };
        let total =
            before_table + blocks * BLOCK_ENTRY_BYTES as u64 + (FOOTER_BYTES + HASH_BYTES) as u64;
        if blocks != u64::from(footer.blocks)
            || total != object_bytes
            || u64::from(footer.directory_bytes) > footer.body_bytes
        {
            return Err(FormatError::Invalid(
                "the object's length is not what its footer says",
            ));
        }
        Ok(footer)
    }

    /// True when an object of this kind may have this footer: only packs have a directory.
    #[must_use]
    pub fn fits(&self, kind: Kind) -> bool {
        self.directory_bytes == 0 || matches!(kind, Kind::DataPack | Kind::MetaPack)
    }
}

/// The bytes after the body, and the object's final hash, from a hasher that saw header and body.
#[must_use]
pub(crate) fn close(mut hasher: TreeHasher, directory_bytes: u32) -> (Vec<u8>, ObjectHash) {
    let mut tail = hasher.table();
    let footer = Footer {
        body_bytes: hasher.length() - HEADER_BYTES as u64,
        directory_bytes,
        blocks: u32::try_from(tail.len() / BLOCK_ENTRY_BYTES)
            .expect("objects are smaller than 256 TiB"),
    };
    tail.extend_from_slice(&footer.encode());
    hasher.update(&tail);
    let hash = hasher.hash();
    tail.extend_from_slice(&hash.0);
    (tail, hash)
}

/// A whole object from its header and body.
#[must_use]
pub(crate) fn assemble(header: &Header, body: &[u8]) -> (Vec<u8>, ObjectHash) {
    let mut object = Vec::with_capacity(HEADER_BYTES + body.len() + 1024);
    object.extend_from_slice(&header.encode());
    object.extend_from_slice(body);
    let mut hasher = TreeHasher::new();
    hasher.update(&object);
    let (tail, hash) = close(hasher, 0);
    object.extend_from_slice(&tail);
    (object, hash)
}

/// A whole object whose final hash fits.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    /// Its header.
    pub header: Header,
    /// Its 64 header bytes, which every seal and signature binds.
    pub header_bytes: &'a [u8; HEADER_BYTES],
    /// Everything between header and block table.
    pub body: &'a [u8],
    /// Length of a pack's sealed directory.
    pub directory_bytes: u32,
    /// The final hash.
    pub hash: ObjectHash,
}

impl<'a> Frame<'a> {
    /// Reads an object and verifies its final hash.
    ///
    /// # Errors
    /// When any byte is not what was written.
    pub fn decode(object: &'a [u8]) -> Result<Self, FormatError> {
        let (header_bytes, _) = object
            .split_first_chunk::<HEADER_BYTES>()
            .ok_or(FormatError::Truncated("the object"))?;
        let (hashed, hash) = object
            .split_last_chunk::<HASH_BYTES>()
            .ok_or(FormatError::Truncated("the object"))?;
        let (_, footer) = hashed
            .split_last_chunk::<FOOTER_BYTES>()
            .ok_or(FormatError::Truncated("the object"))?;
        let mut hasher = TreeHasher::new();
        hasher.update(hashed);
        if hasher.hash().0 != *hash {
            return Err(FormatError::Invalid(
                "the object's bytes do not fit its final hash",
            ));
        }
        let header = Header::decode(header_bytes)?;
        let footer = Footer::decode(footer, object.len() as u64)?;
        if !footer.fits(header.kind) {
            return Err(FormatError::Invalid(
                "the footer of an object that is no pack names a directory",
            ));
        }
        let body_end = HEADER_BYTES
            + usize::try_from(footer.body_bytes)
                .map_err(|_| FormatError::Truncated("the object"))?;
        let body = object
            .get(HEADER_BYTES..body_end)
            .ok_or(FormatError::Truncated("the object"))?;
        Ok(Self {
            header,
            header_bytes,
            body,
            directory_bytes: footer.directory_bytes,
            hash: ObjectHash(*hash),
        })
    }
}

/// A part of an object that is not as it was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damage {
    /// The 64 KiB block with this number.
    Block(u64),
    /// The block table; the blocks themselves are whole.
    Table,
    /// The footer, or the object's length.
    Footer,
    /// The final hash itself; everything before it is whole.
    Hash,
    /// The bytes are whole, but stand under another object's name.
    Name,
    /// The header is of another kind, family or version than the name says.
    Header,
}

/// Verifies an object without any key and locates what is damaged; an empty list means that it is whole.
///
/// `expected` is the final hash that the object's name states, if it states one. With it, damage to the table and to
/// the hash can be told from damage to the blocks.
#[must_use]
pub fn verify(object: &[u8], expected: Option<ObjectHash>) -> Vec<Damage> {
    let Some((hashed, stored)) = object.split_last_chunk::<HASH_BYTES>() else {
        return vec![Damage::Footer];
    };
    let computed = hash_of(hashed);
    if computed.0 == *stored {
        return match expected {
            Some(expected) if expected != computed => vec![Damage::Name],
            _ => Vec::new(),
        };
    }
    if expected == Some(computed) {
        return vec![Damage::Hash];
    }
    locate(object, hashed, expected.unwrap_or(ObjectHash(*stored)))
}

fn hash_of(bytes: &[u8]) -> ObjectHash {
    let mut hasher = TreeHasher::new();
    hasher.update(bytes);
    hasher.hash()
}

fn locate(object: &[u8], hashed: &[u8], wanted: ObjectHash) -> Vec<Damage> {
    let Some((before_footer, footer)) = hashed.split_last_chunk::<FOOTER_BYTES>() else {
        return vec![Damage::Footer];
    };
    let Ok(footer) = Footer::decode(footer, object.len() as u64) else {
        return vec![Damage::Footer];
    };
    let table_bytes = footer.blocks as usize * BLOCK_ENTRY_BYTES;
    let Some((blocks, table)) = before_footer.split_at_checked(before_footer.len() - table_bytes)
    else {
        return vec![Damage::Footer];
    };
    if table.is_empty() {
        // One block and no table: only the hash knows, so everything before it is one unit.
        return vec![Damage::Block(0)];
    }
    let mut hasher = TreeHasher::new();
    hasher.update(blocks);
    let computed = hasher.table();
    // If the object with the computed table has the wanted hash, then the table was hit and the blocks are whole.
    if hash_of(&[blocks, &computed, &footer.encode()].concat()) == wanted {
        return vec![Damage::Table];
    }
    let entries = table
        .chunks(BLOCK_ENTRY_BYTES)
        .zip(computed.chunks(BLOCK_ENTRY_BYTES))
        .enumerate();
    let damaged: Vec<Damage> = entries
        .filter(|(_, (stored, computed))| stored != computed)
        .map(|(block, _)| Damage::Block(block as u64))
        .collect();
    if damaged.is_empty() {
        vec![Damage::Footer]
    } else {
        damaged
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(kind: Kind) -> Header {
        Header::by_content(kind, FamilyId([1; 16]), RunId([2; 16]), 3)
    }

    #[test]
    fn a_whole_object_decodes_to_what_was_put_in() {
        for length in [0, 1, 65_472, 65_473, 200_000] {
            let body = vec![9; length];
            let (object, hash) = assemble(&header(Kind::Index), &body);
            let frame = Frame::decode(&object).unwrap();
            assert_eq!(
                (frame.body, frame.hash, frame.header),
                (&body[..], hash, header(Kind::Index))
            );
            assert_eq!(verify(&object, Some(hash)), []);
            assert_eq!(verify(&object, Some(ObjectHash([0; 32]))), [Damage::Name]);
        }
    }

    #[test]
    fn only_a_pack_has_a_directory() {
        for (kind, fits) in [(Kind::MetaPack, true), (Kind::Note, false)] {
            let mut hasher = TreeHasher::new();
            let mut object = [&header(kind).encode(), [9; 700].as_slice()].concat();
            hasher.update(&object);
            object.extend_from_slice(&close(hasher, 5).0);
            assert_eq!(Frame::decode(&object).is_ok(), fits);
        }
    }

    #[test]
    fn every_changed_byte_is_found_and_placed() {
        let (object, hash) = assemble(&header(Kind::Index), &vec![9; 140_000]);
        let table_at = 64 + 140_000;
        for at in (0..object.len()).step_by(997).chain(table_at..object.len()) {
            let mut damaged = object.clone();
            damaged[at] ^= 0x40;
            assert!(Frame::decode(&damaged).is_err());
            let expected = match at {
                at if at < table_at => Damage::Block(at as u64 / 65_536),
                at if at < table_at + 48 => Damage::Table,
                at if at < table_at + 80 => Damage::Footer,
                _ => Damage::Hash,
            };
            assert_eq!(verify(&damaged, Some(hash)), [expected], "byte {at}");
        }
    }

    #[test]
    fn every_truncation_is_found() {
        let (object, hash) = assemble(&header(Kind::Index), &vec![9; 700]);
        for length in 0..object.len() {
            assert!(Frame::decode(&object[..length]).is_err());
            assert_ne!(verify(&object[..length], Some(hash)), [], "cut to {length}");
        }
    }

    #[test]
    fn a_header_of_a_newer_program_is_refused() {
        let mut bytes = header(Kind::Note).encode();
        bytes[8] = 2;
        assert_eq!(
            Header::decode(&bytes),
            Err(FormatError::Unsupported("the object"))
        );
        let mut bytes = header(Kind::Note).encode();
        bytes[12] = 2;
        assert_eq!(
            Header::decode(&bytes),
            Err(FormatError::Unsupported("the object"))
        );
    }
}
