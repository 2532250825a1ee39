//! Turns data into the bytes of the repository format and back.
//!
//! No I/O, no clock, no thread, no randomness of its own: time and entropy are arguments. The layout stands in
//! `docs/format.md`; each file of this crate is one concept of that page. Modules stand in the order in which they
//! build on each other.

mod error;
mod id;
mod record;
mod hash;
mod frame;
mod key;
mod seal;
mod envelope;
mod sign;
mod object;
mod superblock;
mod slot;
mod secret_text;
mod name;
mod chunker;
mod compress;
mod stream;
mod segment;
mod base;
mod pack;
mod index;
mod tree;
mod cursor;
mod snapshot;
mod note;
mod control;

pub use base::{BASE_TEXT_MAX, Base, HEIGHT_MAX, PIECES_MAX, Piece};
pub use chunker::{CHUNK_MAX, Chunker, End, Profile, cut_at_end};
pub use control::{Lease, Marker};
pub use cursor::TreeCursor;
pub use envelope::{ENVELOPE_BYTES, Envelope, RunKey};
pub use error::FormatError;
pub use frame::{
    Damage, FOOTER_BYTES, FRAME_MAGIC, Footer, Frame, HASH_BYTES, HEADER_BYTES, Header, Kind,
    key_tag, verify,
};
pub use hash::{BLOCK_BYTES, TreeHasher};
pub use id::{
    ChunkId, EnvelopeId, FamilyId, ObjectHash, PackId, ReplicaId, RunId, SlotId, SnapshotId,
    WriterId,
};
pub use index::Index;
pub use key::{DomainKeys, Entropy, Generation, Keyring, Recipient, Role, Secret, chunk_id};
pub use name::{
    ParsedName, SUPERBLOCK, SnapshotName, index_name, lease_name, note_name, pack_name, parse_name,
    parse_pack_name, parse_slot_name, revocation_name, writer_name,
};
pub use note::{Note, Notes};
pub use object::{Opened, clear_object, open_clear, open_object, seal_object};
pub use pack::{
    Directory, FinishedPack, Moved, Origin, PackBuilder, PackEntry, PackFront, Row, Rows,
    envelope_number, metadata_per_chunk, put_row, recipient_of,
};
pub use record::{Field, Fields, Input, RecordWriter, Unknown, Value, padding_class, put_varint};
pub use seal::Nonce;
pub use secret_text::{KeyFile, decode_recovery, encode_recovery};
pub use segment::{
    CONTENT_MAX, Codec, SEGMENT_BYTES, SegmentOpener, SegmentPlan, SegmentSealer, content_tail,
    split_content,
};
pub use sign::{Author, Authors, Enrolled, SignerKey, signer_id};
pub use slot::{
    NewSlot, OpenedSlot, Slot, SlotInfo, SlotType, Stretch, create_slot, slot_name, version_of,
};
pub use snapshot::{Confirm, HEAD_BYTES_MAX, Head, Manifest, Problem, SourceRecord, Totals};
pub use stream::{
    ChunkItem, DEPTH_MAX, ListItem, ListItems, StreamRef, list_chunks, put_chunk, put_mark,
};
pub use superblock::{Allowed, DRAFT, FORMAT, Revocation, Superblock, WriterRecord};
pub use tree::{
    BundlePart, Coding, Content, ENTRY_MAX, Entries, Entry, EntryKind, EntryTime, NAME_MAX,
    name_allowed, put_entry, status,
};
