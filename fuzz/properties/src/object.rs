//! Objects of one signed record, sealed or clear, as anyone may put them into the storage.

use lifeboat_codec::{
    Frame, Kind, Opened, RunKey, clear_object, open_clear, open_object, seal_object,
};

use crate::draw::Draw;
use crate::world::{Counted, area, framed, header, keys, padded, sealed};

const KINDS: [Kind; 6] = [
    Kind::Snapshot,
    Kind::Confirm,
    Kind::Lease,
    Kind::Marker,
    Kind::Note,
    Kind::Index,
];

/// Takes the bytes as a body, as a sealed text, and as a record.
///
/// - Nothing that an enrolled writer did not sign is opened: not a body of any shape, not even sealed with the run's key.
/// - A record that was signed comes back as it was, clear or sealed, and with any byte changed it does not.
pub fn object(bytes: &[u8]) {
    let keys = keys();
    let mut draw = Draw(bytes);
    let kind = KINDS[usize::from(draw.byte()) % KINDS.len()];
    let at = draw.number();
    let bytes = draw.0;
    let name = if kind.named_by_content() {
        ""
    } else {
        "a/name"
    };
    let header = header(kind, name);
    let head = header.encode();

    let (envelope, key) = &keys.meta;
    let mut unsigned = vec![bytes.to_vec(), area(&[envelope])];
    unsigned[1].extend_from_slice(bytes);
    let associated = [b"lifeboat 1 object".as_slice(), &head, name.as_bytes()].concat();
    for text in [bytes.to_vec(), padded(bytes)] {
        let mut body = area(&[envelope]);
        body.extend_from_slice(&sealed(key.object(), &associated, &text));
        unsigned.push(body);
    }
    unsigned.push([&(bytes.len() as u32).to_le_bytes(), bytes].concat());
    for body in unsigned {
        let object = framed(&header, &body, 0);
        assert!(open_sealed(&object, name).is_none());
        assert!(open(&object, name).is_none());
    }

    let (clear, _) = clear_object(&header, name, bytes, &keys.author);
    let (closed, _) = seal_object(
        &header,
        name,
        bytes,
        &keys.author,
        (envelope, key),
        &mut Counted(100),
    );
    let (clear_opened, closed_opened) = (open(&clear, name), open_sealed(&closed, name));
    for opened in [clear_opened, closed_opened] {
        let opened = opened.expect("what was signed is opened");
        assert_eq!(
            (opened.record.as_slice(), opened.author),
            (bytes, keys.author.id())
        );
    }
    for object in [clear, closed] {
        let frame = Frame::decode(&object).expect("an object was made");
        // The envelope may say anything of the run key that it holds, but its own commitment.
        let mut body = frame.body.to_vec();
        let at = at % body.len();
        body[at] ^= 1 << (at % 8);
        let changed = framed(&header, &body, 0);
        assert!(open(&changed, name).is_none() && open_sealed(&changed, name).is_none());
        assert!(open(&object, "b/name").is_none() && open_sealed(&object, "b/name").is_none());
    }
}

fn open(object: &[u8], name: &str) -> Option<Opened> {
    let frame = Frame::decode(object).expect("the frame is whole");
    open_clear(&frame, name, &keys().authors, "it").ok()
}

fn open_sealed(object: &[u8], name: &str) -> Option<Opened> {
    let frame = Frame::decode(object).expect("the frame is whole");
    let keys = keys();
    open_object(
        &frame,
        name,
        &keys.authors,
        |envelope| {
            envelope
                .open(&keys.keyring, keys.family)
                .map(Box::<RunKey>::new)
        },
        "it",
    )
    .ok()
}
