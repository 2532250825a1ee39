//! Chunk lists, references to streams, and trees.

use lifeboat_codec::{
    Content, DEPTH_MAX, Entries, EntryKind, ListItem, ListItems, StreamRef, list_chunks,
    name_allowed, put_chunk, put_entry, put_varint,
};

use crate::record::{once, settles};

/// Takes the bytes as a chunk list and as a reference to a stream.
///
/// - A list that is read is the one way to write its items.
/// - A reference is written as one that says the same, and its length is the sum of its chunks.
pub fn stream(bytes: &[u8]) {
    list(bytes);
    settles(bytes, StreamRef::decode, StreamRef::encode, 4, &[]);
    if let Ok(stream) = StreamRef::decode(bytes) {
        assert!(stream.depth <= DEPTH_MAX);
        let chunks = list_chunks(&stream.items).expect("the list was checked");
        let total: u64 = chunks.iter().map(|chunk| u64::from(chunk.length)).sum();
        assert!(stream.depth > 0 || total == stream.length);
    }
}

fn list(bytes: &[u8]) {
    let (mut written, mut chunks) = (Vec::new(), Vec::new());
    for item in ListItems::new(bytes) {
        match item {
            Err(_) => {
                assert!(list_chunks(bytes).is_err());
                return;
            }
            Ok(ListItem::Chunk(chunk)) => {
                put_chunk(&mut written, chunk);
                chunks.push(chunk);
            }
            Ok(ListItem::Mark(record)) => {
                put_varint(&mut written, (record.len() as u64) << 1 | 1);
                written.extend_from_slice(record);
            }
        }
    }
    assert_eq!(written, bytes);
    assert_eq!(list_chunks(bytes), Ok(chunks));
}

/// Takes the bytes as a tree.
///
/// - Names go up and are such that they lead nowhere else.
/// - An entry is written as one that is read as the same, fields of a newer version too, and the bytes by which an
///   unchanged entry is copied are its own.
pub fn tree(bytes: &[u8]) {
    let mut entries = Entries::new(bytes);
    let (mut copied, mut written, mut scratch) = (Vec::new(), Vec::new(), Vec::new());
    let mut read = Vec::new();
    let mut last: &[u8] = &[];
    while let Some(entry) = entries.next() {
        let Ok(entry) = entry else { return };
        assert!(name_allowed(entry.name) && entry.name > last);
        last = entry.name;
        if let (EntryKind::Folder | EntryKind::File, Content::Stream(reference)) =
            (entry.kind, entry.content)
        {
            let _ = StreamRef::decode(reference);
        }
        let raw = entries.raw();
        let length = raw.len() - raw.iter().position(|byte| *byte < 0x80).unwrap_or(0) - 1;
        once(&raw[raw.len() - length..], 22, &[18]);
        copied.extend_from_slice(raw);
        put_entry(&mut written, &entry, &mut scratch);
        read.push(entry);
    }
    assert_eq!(copied, bytes);
    let again: Result<Vec<_>, _> = Entries::new(&written).collect();
    assert_eq!(again, Ok(read));
}
