//! Frames: header, footer, block table, final hash.

use lifeboat_codec::{
    Damage, Footer, Frame, HASH_BYTES, HEADER_BYTES, Header, Kind, ObjectHash, TreeHasher, verify,
};

use crate::draw::Draw;
use crate::world::{framed, header};

/// Bytes of a block of the table.
const BLOCK: usize = 65_536;

/// Takes the bytes as an object, and as what an object is made of.
///
/// - What is read as a header is written as the same 64 bytes; what is read as a frame verifies.
/// - The hash of a tree is BLAKE3's, however the bytes are portioned.
/// - A framed object is read as what it is, and verifying names the block in which a byte was changed.
pub fn frame(bytes: &[u8]) {
    if let Ok(header) = Header::decode(bytes) {
        assert_eq!(header.encode(), bytes[..HEADER_BYTES]);
    }
    let _ = Footer::decode(bytes, bytes.len() as u64);
    let (length, footer) = bytes.split_at(bytes.len().min(8));
    let mut draw = Draw(length);
    let _ = Footer::decode(footer, u64::from_le_bytes(draw.array()));
    let mut draw = Draw(bytes);
    let named = ObjectHash(draw.array());
    let damage = verify(bytes, None);
    match Frame::decode(bytes) {
        Ok(frame) => {
            assert_eq!(damage, []);
            assert_eq!(verify(bytes, Some(frame.hash)), []);
            assert!(frame.directory_bytes as usize <= frame.body.len());
        }
        // The hash may fit and the header still be none; then there is nothing to locate.
        Err(_) => assert_ne!(verify(bytes, Some(named)), []),
    }
    made(Draw(bytes));
}

fn made(mut draw: Draw<'_>) {
    let kind = Kind::from_number(draw.byte()).unwrap_or(Kind::Lease);
    let (at, portion) = (draw.array::<4>(), draw.number() + 1);
    // A small input becomes a body of up to four blocks.
    let repeated = usize::from(draw.byte() % 4) * BLOCK / draw.0.len().max(1) + 1;
    let body = draw.0.repeat(repeated);
    let header = header(kind, "a/name");
    let mut object = framed(&header, &body, 0);

    let mut hasher = TreeHasher::new();
    object
        .chunks(portion)
        .for_each(|portion| hasher.update(portion));
    assert_eq!(hasher.hash().0, *blake3::hash(&object).as_bytes());

    let frame = Frame::decode(&object).expect("a frame as the format says is read");
    assert_eq!((frame.header, frame.body), (header, body.as_slice()));
    let hash = frame.hash;
    assert_eq!(verify(&object, Some(hash)), []);

    let at = u32::from_le_bytes(at) as usize % object.len();
    object[at] ^= 1;
    assert!(Frame::decode(&object).is_err());
    let damage = verify(&object, Some(hash));
    let part = if at >= object.len() - HASH_BYTES {
        Damage::Hash
    } else if at >= object.len() - HASH_BYTES - 32 {
        Damage::Footer
    } else if at >= HEADER_BYTES + body.len() {
        Damage::Table
    } else {
        Damage::Block((at / BLOCK) as u64)
    };
    // What has no table is one block, and a footer that contradicts nothing is not told from it.
    let untold = object.len() <= BLOCK && damage == [Damage::Block(0)];
    assert!(
        damage == [part] || untold,
        "byte {at} of {}: {damage:?}",
        object.len()
    );
}
