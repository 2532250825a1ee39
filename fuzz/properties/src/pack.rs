//! Packs, their segments, and index objects.

use lifeboat_codec::{
    CONTENT_MAX, ChunkId, Codec, Envelope, Index, Kind, Nonce, PackFront, Rows, SegmentOpener,
    SegmentPlan, SegmentSealer, chunk_id, content_tail, put_row, split_content,
};

use crate::draw::Draw;
use crate::record::{once, settles};
use crate::world::{area, header, keys, padded, sealed};

/// Takes the bytes as the front of a pack, as rows, and as a sealed directory.
///
/// - Rows that are read are the one way to write them, and lie one behind the other.
/// - A front is read as the same bytes, or more are asked for.
/// - A directory that opens was signed, and its rows fit the pack.
pub fn pack(bytes: &[u8]) {
    rows(bytes);
    front(bytes);
    let head = header(Kind::DataPack, "").encode();
    front(&[&head, bytes].concat());
    let (data, meta) = (&keys().data.0, &keys().meta.0);
    front(&[&head, area(&[data, meta]).as_slice(), bytes].concat());
    directory(Draw(bytes));
}

fn rows(bytes: &[u8]) {
    let (mut written, mut end) = (Vec::new(), 0);
    for row in Rows::new(bytes) {
        let Ok(row) = row else { return };
        assert_eq!(
            (row.offset, row.count() * ChunkId::LENGTH),
            (end, row.ids.len())
        );
        assert!(row.sealed_bytes <= CONTENT_MAX as u64 + 40);
        end += row.sealed_bytes;
        put_row(
            &mut written,
            row.sealed_bytes,
            row.codec,
            row.moved,
            row.ids,
        );
    }
    assert_eq!(written, bytes);
}

fn front(bytes: &[u8]) {
    let Ok(Some(front)) = PackFront::decode(bytes) else {
        return;
    };
    assert!(front.segments_at as usize <= bytes.len());
    // An envelope of an unknown suite is kept as nothing, so that only an area of known ones can be written again.
    let known: Option<Vec<&Envelope>> = front.envelopes.iter().map(Option::as_ref).collect();
    if let Some(known) = known {
        let mut written = front.header.encode().to_vec();
        written.extend_from_slice(&area(&known));
        assert_eq!(written, bytes[..front.segments_at as usize]);
    }
    for envelope in front.envelopes.iter().flatten() {
        let opened = envelope.open(&keys().keyring, keys().family).is_ok();
        assert!(!opened || [&keys().data.0, &keys().meta.0].contains(&envelope));
    }
}

fn directory(mut draw: Draw<'_>) {
    let keys = keys();
    let header = header(Kind::DataPack, "");
    let head = header.encode();
    let (data, meta) = (&keys.data.0, &keys.meta.0);
    let first = [&head, area(&[data, meta]).as_slice()].concat();
    let front = PackFront::decode(&first)
        .expect("the front was made")
        .expect("it is whole");
    let area_bytes = front.segments_at + u64::from(u32::from_le_bytes(draw.array()));
    let bytes = draw.0;
    let signed = keys.author.sign_record(&head, "", bytes);
    let associated = [b"lifeboat 1 directory".as_slice(), &head].concat();
    let key = &keys.meta.1;
    for (text, is_signed) in [
        (bytes.to_vec(), false),
        (padded(bytes), false),
        (padded(&signed), true),
    ] {
        let mut closed = sealed(key.directory(), &associated, &text);
        let opened = front.open_directory(key, &mut closed, area_bytes, &keys.authors);
        let Ok(directory) = opened else { continue };
        assert!(is_signed, "nobody signed the directory");
        once(bytes, 3, &[2]);
        let end = Rows::new(&directory.rows)
            .map(|row| row.expect("rows are checked"))
            .map(|row| {
                assert!(usize::from(row.origin()) < directory.origins.len());
                row.offset + row.sealed_bytes
            })
            .last();
        assert!(front.segments_at + end.unwrap_or_default() <= area_bytes);
    }
}

/// Takes the bytes as an index.
///
/// - What is read is written as something that is read as the same, speaks for its author alone, and its rows fit the
///   packs.
pub fn index(bytes: &[u8]) {
    let keys = keys();
    let author = keys.author.id();
    let Ok(index) = Index::decode(bytes, author, &keys.authors) else {
        return;
    };
    for pack in &index.packs {
        assert!(
            pack.origins
                .iter()
                .all(|origin| (origin.writer, origin.domain) == (author, 0))
        );
        for row in Rows::new(&pack.rows) {
            let row = row.expect("rows are checked");
            assert!(pack.segments_at + row.offset + row.sealed_bytes <= pack.object_bytes);
        }
    }
    // An envelope of an unknown suite is kept as nothing; an index with one is never written again.
    if index.envelopes.iter().all(Option::is_some) {
        let decode = |bytes: &[u8]| Index::decode(bytes, author, &keys.authors);
        settles(bytes, decode, Index::encode, 3, &[1, 2, 3]);
    }
}

/// Takes the bytes as a segment's content, as what it was compressed to, and as chunks.
///
/// - Content that is split is the one way to join its chunks.
/// - A segment opens as chunks whose ids are those of its row, and in bounded memory whatever was compressed.
/// - Chunks that are sealed come back.
pub fn segment(bytes: &[u8]) {
    let mut draw = Draw(bytes);
    let count = usize::from(draw.byte() % 5) + 1;
    let bytes = draw.0;
    split(bytes, count);
    hostile(bytes, count);
    there_and_back(draw, count);
}

fn split(bytes: &[u8], count: usize) {
    let Ok(chunks) = split_content(bytes, count) else {
        return;
    };
    let lengths: Vec<u32> = chunks.iter().map(|chunk| chunk.len() as u32).collect();
    assert_eq!([chunks.concat(), content_tail(&lengths)].concat(), bytes);
}

/// The bytes as a segment of every codec, sealed by somebody who has the run's key.
fn hostile(bytes: &[u8], count: usize) {
    let keys = keys();
    let domain = keys.keyring.domain(0).expect("a full key has every domain");
    let id_key = domain
        .key(lifeboat_codec::Recipient::Data)
        .expect("a full key names content");
    let chunks = split_content(bytes, count).unwrap_or_else(|_| vec![bytes]);
    let ids: Vec<u8> = chunks
        .iter()
        .flat_map(|chunk| chunk_id(id_key, chunk).0)
        .collect();
    for codec in [Codec::Raw, Codec::Zstd, Codec::ZstdBase] {
        let associated = [
            b"lifeboat 1 segment".as_slice(),
            &keys.family.0,
            &[Kind::DataPack as u8, codec as u8],
            blake3::hash(&ids).as_bytes(),
        ]
        .concat();
        let mut closed = sealed(keys.data.1.segment(), &associated, bytes);
        let base = if codec == Codec::ZstdBase { bytes } else { &[] };
        let plan = SegmentPlan {
            family: keys.family,
            kind: Kind::DataPack,
            codec,
            ids: &ids,
            base,
        };
        let mut opener = SegmentOpener::default();
        if let Ok(opened) = opener.open(&keys.data.1, id_key, &plan, &mut closed) {
            assert_eq!(opened, chunks);
        }
    }
}

fn there_and_back(mut draw: Draw<'_>, count: usize) {
    let keys = keys();
    let domain = keys.keyring.domain(0).expect("a full key has every domain");
    let id_key = domain
        .key(lifeboat_codec::Recipient::Data)
        .expect("a full key names content");
    let at = draw.number();
    let chunks: Vec<&[u8]> = (1..=count)
        .map(|number| {
            let length = if number == count {
                draw.0.len()
            } else {
                usize::from(draw.byte())
            };
            draw.bytes(length)
        })
        .collect();
    let ids: Vec<u8> = chunks
        .iter()
        .flat_map(|chunk| chunk_id(id_key, chunk).0)
        .collect();
    let lengths: Vec<u32> = chunks.iter().map(|chunk| chunk.len() as u32).collect();
    let content = [chunks.concat(), content_tail(&lengths)].concat();
    let mut sealer = SegmentSealer::default();
    let (codec, closed) = sealer
        .seal(
            &keys.data.1,
            keys.family,
            Kind::DataPack,
            &ids,
            &content,
            &[],
            Nonce([2; 24]),
        )
        .expect("what is compressed decodes to what it was");
    let plan = SegmentPlan {
        family: keys.family,
        kind: Kind::DataPack,
        codec,
        ids: &ids,
        base: &[],
    };
    let mut opener = SegmentOpener::default();
    let (mut whole, mut changed) = (closed.to_vec(), closed.to_vec());
    let opened = opener.open(&keys.data.1, id_key, &plan, &mut whole);
    assert_eq!(opened.as_deref(), Ok(chunks.as_slice()));
    let at = at % changed.len();
    changed[at] ^= 1;
    assert!(
        opener
            .open(&keys.data.1, id_key, &plan, &mut changed)
            .is_err()
    );
}
