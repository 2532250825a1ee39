//! The keys of one made-up repository, and frames and seals put around arbitrary bytes.
//!
//! Frame and seal are written here a second time, from `docs/format.md` alone: the codec neither frames nor seals what it
//! would not write itself, and whoever can write to the storage, or holds a key, does.

use std::sync::OnceLock;

use chacha20poly1305::aead::{AeadInOut, KeyInit};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use lifeboat_codec::{
    Author, Authors, Enrolled, Entropy, Envelope, FamilyId, Header, Keyring, Kind, Recipient, Role,
    RunId, RunKey, Secret, TreeHasher, padding_class,
};

/// Randomness that is the same on every run.
pub(crate) struct Counted(pub(crate) u64);

impl Entropy for Counted {
    fn fill(&mut self, out: &mut [u8]) {
        self.0 += 1;
        blake3::Hasher::new()
            .update(&self.0.to_le_bytes())
            .finalize_xof()
            .fill(out);
    }
}

/// One repository's keys, and those of a run of its writer.
pub(crate) struct Keys {
    pub(crate) family: FamilyId,
    pub(crate) keyring: Keyring,
    /// The enrolled writer, of domain 0.
    pub(crate) author: Author,
    pub(crate) authors: Authors,
    pub(crate) data: (Envelope, RunKey),
    pub(crate) meta: (Envelope, RunKey),
}

/// The keys, made once.
pub(crate) fn keys() -> &'static Keys {
    static KEYS: OnceLock<Keys> = OnceLock::new();
    KEYS.get_or_init(|| {
        let entropy = &mut Counted(0);
        let family = FamilyId([7; 16]);
        let keyring = Keyring::create(entropy);
        let author = Author::new(&Secret::new([5; 32]));
        let admin = Author::new(keyring.admin.as_ref().expect("a new keyring has an admin"));
        let mut authors = Authors::new(admin.public());
        authors.enrol(Enrolled {
            public: author.public(),
            domain: 0,
            role: Role::Full,
        });
        let data = Envelope::create(Recipient::Data, &keyring, family, entropy);
        let meta = Envelope::create(Recipient::Meta, &keyring, family, entropy);
        Keys {
            family,
            keyring,
            author,
            authors,
            data,
            meta,
        }
    })
}

/// The header of an object of the made-up repository that is called `name`, or by its content.
pub(crate) fn header(kind: Kind, name: &str) -> Header {
    let (family, run, time) = (keys().family, RunId([9; 16]), 1_700_000_000_000);
    if kind.named_by_content() {
        Header::by_content(kind, family, run, time)
    } else {
        Header::named(kind, family, run, time, name)
    }
}

/// An object with any body (§2): header, body, block table, footer, final hash.
pub(crate) fn framed(header: &Header, body: &[u8], directory_bytes: u32) -> Vec<u8> {
    let mut object = header.encode().to_vec();
    object.extend_from_slice(body);
    let mut hasher = TreeHasher::new();
    hasher.update(&object);
    let table = hasher.table();
    object.extend_from_slice(&table);
    object.extend_from_slice(&(body.len() as u64).to_le_bytes());
    object.extend_from_slice(&directory_bytes.to_le_bytes());
    object.extend_from_slice(&((table.len() / 16) as u32).to_le_bytes());
    object.extend_from_slice(&[0; 8]);
    object.extend_from_slice(b"LBFOOT01");
    let hash = blake3::hash(&object);
    object.extend_from_slice(hash.as_bytes());
    object
}

/// Any text as a padded text (§1).
pub(crate) fn padded(text: &[u8]) -> Vec<u8> {
    let mut padded = (text.len() as u32).to_le_bytes().to_vec();
    padded.extend_from_slice(text);
    padded.resize(padding_class(padded.len() as u64) as usize, 0);
    padded
}

/// Any text sealed: nonce, ciphertext, tag.
pub(crate) fn sealed(key: &Secret, associated: &[u8], text: &[u8]) -> Vec<u8> {
    let nonce = [3; 24];
    let mut sealed = nonce.to_vec();
    sealed.extend_from_slice(text);
    let tag = XChaCha20Poly1305::new(key.bytes().into())
        .encrypt_inout_detached(
            &XNonce::from(nonce),
            associated,
            (&mut sealed[nonce.len()..]).into(),
        )
        .expect("the text is short");
    sealed.extend_from_slice(&tag);
    sealed
}

/// An envelope area (§4) of these envelopes.
pub(crate) fn area(envelopes: &[&Envelope]) -> Vec<u8> {
    let mut area = (envelopes.len() as u16).to_le_bytes().to_vec();
    for envelope in envelopes {
        area.extend_from_slice(envelope.bytes());
    }
    area
}
