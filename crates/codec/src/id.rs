//! One newtype for each kind of id, so that one can never stand in another's place.
//!
//! Shown as lower-case hex; `short()` is the form for people.

use std::fmt;

macro_rules! id_type {
    ($(#[$meta:meta])* $name:ident, $length:expr) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; $length]);

        impl $name {
            /// Length in bytes.
            pub const LENGTH: usize = $length;

            /// The id whose bytes these are; `None` when the length differs.
            #[must_use]
            pub fn from_slice(bytes: &[u8]) -> Option<Self> {
                bytes.try_into().ok().map(Self)
            }

            /// The id written as this hex text; `None` when it is no such text.
            #[must_use]
            pub fn from_hex(text: &str) -> Option<Self> {
                let mut id = [0; $length];
                hex_into(text, &mut id).then_some(Self(id))
            }

            /// The first eight hex digits, for people.
            #[must_use]
            pub fn short(&self) -> String {
                self.to_string().chars().take(8).collect()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(out, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(out, concat!(stringify!($name), "({})"), self)
            }
        }
    };
}

fn hex_into(text: &str, into: &mut [u8]) -> bool {
    let digits = text.as_bytes();
    if digits.len() != into.len() * 2 {
        return false;
    }
    let value = |digit: u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    for (byte, pair) in into.iter_mut().zip(digits.chunks_exact(2)) {
        let [high, low] = pair else { return false };
        let (Some(high), Some(low)) = (value(*high), value(*low)) else {
            return false;
        };
        *byte = high << 4 | low;
    }
    true
}

id_type!(/// Names a chunk's content within one domain: a keyed hash of it.
    ChunkId, 16);
id_type!(/// Names a pack: the final hash of the object.
    PackId, 32);
id_type!(/// The final hash of an object.
    ObjectHash, 32);
id_type!(/// Names a snapshot; random.
    SnapshotId, 16);
id_type!(/// All replicas of a repository share it: keys, ids and associated data hang on it.
    FamilyId, 16);
id_type!(/// Tells one replica of a family from another.
    ReplicaId, 16);
id_type!(/// One run of one writer; random.
    RunId, 16);
id_type!(/// Who signed: a hash of an Ed25519 public key.
    WriterId, 16);
id_type!(/// Names a key slot; random.
    SlotId, 16);
id_type!(/// Names an envelope; random.
    EnvelopeId, 16);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_survives_its_hex_form_and_nothing_else_parses() {
        let id = ChunkId([0xa5; 16]);
        assert_eq!(ChunkId::from_hex(&id.to_string()), Some(id));
        assert_eq!(id.short(), "a5a5a5a5");
        for wrong in [
            "",
            "a5",
            &"A5".repeat(16),
            &"g0".repeat(16),
            &"a5".repeat(17),
        ] {
            assert_eq!(ChunkId::from_hex(wrong), None, "{wrong}");
        }
        assert_eq!(ChunkId::from_slice(&[0; 15]), None);
    }
}
