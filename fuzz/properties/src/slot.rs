//! Key slots and secrets as text.

use lifeboat_codec::{Frame, KeyFile, Kind, Slot, SlotType, decode_recovery, encode_recovery};

use crate::draw::Draw;
use crate::world::{framed, header};

/// Takes the bytes as the body of a key slot.
///
/// - A slot that is read but was not made by the admin opens with no secret, and one that asks for a key derivation
///   outside the limits does not get to it.
pub fn slot(bytes: &[u8]) {
    const NAME: &str = "keys/06060606060606060606060606060606.0000";
    let object = framed(&header(Kind::Slot, NAME), bytes, 0);
    let frame = Frame::decode(&object).expect("the frame is whole");
    let Ok(slot) = Slot::decode(&frame, NAME) else {
        return;
    };
    let stretch = slot.info.stretch;
    let stretched = matches!(
        slot.info.slot_type,
        SlotType::Passphrase | SlotType::Command
    );
    let within = (65_536..=262_144).contains(&stretch.memory_kib)
        && (3..=10).contains(&stretch.passes)
        && stretch.lanes == 1;
    // Deriving takes long and is the derivation's own concern; that the limits come before it is ours.
    if !stretched {
        assert!(!matches!(slot.open(&[4; 32]), Ok(Some(_))));
    } else if !within {
        assert!(slot.open(b"passphrase").is_err());
    }
}

/// Takes the bytes as a key file and as a recovery key.
///
/// - What is read is written as a text that is read as the same, and a recovery key has one spelling but for case,
///   dashes and white space.
pub fn secret_text(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    if let Ok(file) = KeyFile::decode(&text) {
        let written = file.encode();
        let again = KeyFile::decode(&written).expect("what is written is read");
        assert_eq!(*again.encode(), *written);
        assert!(text.lines().take(5).eq(written.lines()));
    }
    if let Ok(secret) = decode_recovery(&text) {
        let letters: String = text
            .chars()
            .filter(|letter| !letter.is_whitespace() && *letter != '-')
            .map(|letter| letter.to_ascii_uppercase())
            .collect();
        assert_eq!(encode_recovery(&secret).replace('-', ""), letters);
    }
    let mut draw = Draw(bytes);
    let secret = lifeboat_codec::Secret::new(draw.array());
    let spelled = encode_recovery(&secret).to_lowercase();
    let read = decode_recovery(&spelled).expect("what is written is read");
    assert_eq!(read.bytes(), secret.bytes());
}
