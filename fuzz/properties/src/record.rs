//! Records: their framing, and every record that is signed.

use std::fmt::Debug;

use lifeboat_codec::{
    Confirm, Field, Fields, FormatError, Head, Keyring, Lease, Manifest, Marker, Note, Notes,
    ObjectHash, Revocation, StreamRef, Superblock, Unknown, WriterRecord, padding_class,
    put_varint,
};

use crate::draw::Draw;

/// Takes the bytes as fields, and as the record that the first byte chooses.
///
/// - Fields that are read are the one way to write them.
/// - A record that is read is written as one that says the same, fields of a newer version too.
/// - A field that is not a list stands once at most.
/// - Notes merge to the same whatever their order.
pub fn record(bytes: &[u8]) {
    let mut draw = Draw(bytes);
    let choice = draw.byte();
    let bytes = draw.0;
    fields(bytes);
    let length = u64::from_le_bytes(draw.array()) >> 16;
    let class = padding_class(length);
    assert!(class >= length.max(256) && class <= length + (length / 15).clamp(256, 131_072));
    assert_eq!(padding_class(class), class);
    match choice % 12 {
        0 => settles(bytes, Superblock::decode, Superblock::encode, 9, &[]),
        1 => settles(bytes, WriterRecord::decode, WriterRecord::encode, 5, &[]),
        2 => settles(bytes, Revocation::decode, Revocation::encode, 4, &[4]),
        3 => settles(bytes, Lease::decode, Lease::encode, 4, &[]),
        4 => settles(bytes, Marker::decode, Marker::encode, 4, &[2, 3]),
        5 => settles(bytes, Note::decode, Note::encode, 5, &[]),
        6 => settles(bytes, Confirm::decode, Confirm::encode, 4, &[]),
        7 => settles(bytes, Head::decode, Head::encode, 20, &[15]),
        8 => settles(bytes, Manifest::decode, Manifest::encode, 4, &[1, 2, 3, 4]),
        9 => settles(bytes, StreamRef::decode, StreamRef::encode, 4, &[]),
        10 => keyring(bytes),
        _ => notes(bytes),
    }
}

/// Reads fields and writes them again.
fn fields(bytes: &[u8]) {
    let mut written = Vec::new();
    for field in Fields::new(bytes, "it") {
        let Ok(field) = field.map(Field::listed) else {
            return;
        };
        let critical = field.unknown(&mut Unknown::default()).is_err();
        let key = field.number << 2 | u64::from(critical) << 1;
        match (field.bytes(), field.number_value()) {
            (Ok(value), Err(_)) => {
                put_varint(&mut written, key | 1);
                put_varint(&mut written, value.len() as u64);
                written.extend_from_slice(value);
            }
            (Err(_), Ok(value)) => {
                put_varint(&mut written, key);
                put_varint(&mut written, value);
            }
            _ => panic!("a field holds a number or bytes"),
        }
    }
    assert_eq!(written, bytes);
}

/// What is read is written as something that is read as the same; `known` is the highest field, `lists` repeat.
pub(crate) fn settles<T: Debug + PartialEq>(
    bytes: &[u8],
    decode: impl Fn(&[u8]) -> Result<T, FormatError>,
    encode: impl Fn(&T) -> Vec<u8>,
    known: u64,
    lists: &[u64],
) {
    let Ok(first) = decode(bytes) else { return };
    once(bytes, known, lists);
    let written = encode(&first);
    assert_eq!(decode(&written).as_ref(), Ok(&first));
    assert_eq!(encode(&first), written);
}

/// No field that this version knows and that is not a list stands twice.
pub(crate) fn once(bytes: &[u8], known: u64, lists: &[u64]) {
    let mut last = 0;
    for field in Fields::new(bytes, "it") {
        let number = field.expect("the record was read").number;
        assert!(
            number != last || number > known || lists.contains(&number),
            "field {number} stands twice"
        );
        last = number;
    }
}

/// A keyring shows nothing of itself, so that only its text can be compared.
fn keyring(bytes: &[u8]) {
    let Ok(first) = Keyring::decode(bytes) else {
        return;
    };
    once(bytes, 9, &[2]);
    let written = first.encode();
    let second = Keyring::decode(&written).expect("what is written is read");
    assert_eq!(*second.encode(), *written);
    assert!(first.newest().number >= first.generations[0].number);
}

fn notes(bytes: &[u8]) {
    let mut draw = Draw(bytes);
    let mut all = Vec::new();
    while !draw.0.is_empty() && all.len() < 16 {
        let (hash, length) = (ObjectHash([draw.byte(); 32]), draw.byte());
        if let Ok(note) = Note::decode(draw.bytes(length.into())) {
            all.push((hash, note));
        }
    }
    // A note is named by its content, so that two notes never have one name.
    all.sort_by_key(|(hash, _)| *hash);
    all.dedup_by_key(|(hash, _)| *hash);
    let merged = Notes::merge(all.clone());
    all.reverse();
    assert_eq!(
        format!("{merged:?}"),
        format!("{:?}", Notes::merge(all.clone()))
    );
    for (_, note) in &all {
        let tags = merged.tags(note.snapshot);
        assert!(tags.len() <= merged.of(note.snapshot).count());
    }
}
