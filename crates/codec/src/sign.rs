//! Who wrote it: Ed25519 signatures by enrolled writers under the pinned admin key (`docs/format.md` §2, §3).
//!
//! Sealing to a public key proves nothing about the author. So everything that says something about the
//! repository is signed, and an author who is not enrolled, or revoked, is a failure.

use std::collections::{HashMap, HashSet};

use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};

use crate::error::FormatError;
use crate::frame::HEADER_BYTES;
use crate::id::{ObjectHash, WriterId};
use crate::key::{Role, Secret};

const LABEL: &[u8] = b"lifeboat 1 signed";
/// What is signed before a report's text; `docs/drill.md` tells people how to verify it.
const REPORT_LABEL: &[u8] = b"lifeboat 1 drill report";
const SIGNATURE_BYTES: usize = 64;

/// An Ed25519 public key.
pub type SignerKey = [u8; 32];

/// Signs as one author.
pub struct Author {
    key: SigningKey,
    id: WriterId,
}

impl Author {
    /// The author with this seed.
    #[must_use]
    pub fn new(seed: &Secret) -> Self {
        let key = SigningKey::from_bytes(seed.bytes());
        let id = signer_id(&key.verifying_key().to_bytes());
        Self { key, id }
    }

    /// The author's id.
    #[must_use]
    pub fn id(&self) -> WriterId {
        self.id
    }

    /// The author's public key.
    #[must_use]
    pub fn public(&self) -> SignerKey {
        self.key.verifying_key().to_bytes()
    }

    /// `record ‖ signer id ‖ signature`, bound to the object's header and name.
    #[must_use]
    pub fn sign_record(&self, header: &[u8; HEADER_BYTES], name: &str, record: &[u8]) -> Vec<u8> {
        let signature = self.key.sign(&message(header, name, record));
        [record, &self.id.0, &signature.to_bytes()].concat()
    }

    /// A signature over the text of a report that leaves the repository.
    #[must_use]
    pub fn sign_report(&self, text: &str) -> [u8; SIGNATURE_BYTES] {
        self.sign_bytes(&[REPORT_LABEL, b"\n", text.as_bytes()].concat())
    }

    /// A bare signature over `message`, which must start with a label of its own.
    pub(crate) fn sign_bytes(&self, message: &[u8]) -> [u8; SIGNATURE_BYTES] {
        self.key.sign(message).to_bytes()
    }
}

/// The id of the signer with this public key.
#[must_use]
pub fn signer_id(public: &SignerKey) -> WriterId {
    let hash = blake3::hash(public);
    let (id, _) = hash
        .as_bytes()
        .split_first_chunk::<{ WriterId::LENGTH }>()
        .expect("a hash is longer than an id");
    WriterId(*id)
}

fn message(header: &[u8; HEADER_BYTES], name: &str, record: &[u8]) -> Vec<u8> {
    let name_bytes = u16::try_from(name.len()).expect("names are short");
    [
        LABEL,
        header,
        &name_bytes.to_le_bytes(),
        name.as_bytes(),
        record,
    ]
    .concat()
}

/// Verifies a bare signature.
pub(crate) fn verify_bytes(
    public: &SignerKey,
    message: &[u8],
    signature: &[u8; SIGNATURE_BYTES],
    what: &'static str,
) -> Result<(), FormatError> {
    let key = VerifyingKey::from_bytes(public).map_err(|_| FormatError::Signature(what))?;
    key.verify_strict(message, &Signature::from_bytes(signature))
        .map_err(|_| FormatError::Signature(what))
}

/// What is known of an enrolled author.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Enrolled {
    /// The public key.
    pub public: SignerKey,
    /// Whose chunks the author shares.
    pub domain: u32,
    /// What the author may do.
    pub role: Role,
}

/// Everyone who may sign: the admin, and the writers that the admin enrolled.
#[derive(Clone, Debug)]
pub struct Authors {
    admin: SignerKey,
    admin_id: WriterId,
    writers: HashMap<WriterId, Enrolled>,
    /// Writers who are no longer believed, and which of their snapshots still count.
    revoked: HashMap<WriterId, HashSet<ObjectHash>>,
}

impl Authors {
    /// Only the admin, whose key is pinned.
    #[must_use]
    pub fn new(admin: SignerKey) -> Self {
        Self {
            admin,
            admin_id: signer_id(&admin),
            writers: HashMap::new(),
            revoked: HashMap::new(),
        }
    }

    /// The admin's public key.
    #[must_use]
    pub fn admin(&self) -> &SignerKey {
        &self.admin
    }

    /// The admin's id.
    #[must_use]
    pub fn admin_id(&self) -> WriterId {
        self.admin_id
    }

    /// Adds a writer whose enrolment was verified.
    pub fn enrol(&mut self, writer: Enrolled) {
        self.writers.insert(signer_id(&writer.public), writer);
    }

    /// No longer believes what `writer` says about snapshots, but for those with these final hashes.
    ///
    /// What it stored stays readable: other snapshots may rest on it, and chunks are verified by their ids.
    pub fn revoke(&mut self, writer: WriterId, kept: impl IntoIterator<Item = ObjectHash>) {
        self.revoked.insert(writer, kept.into_iter().collect());
    }

    /// True when `author` may say something new.
    #[must_use]
    pub fn may_write(&self, author: WriterId) -> bool {
        self.knows(author) && !self.revoked.contains_key(&author)
    }

    /// True when the object with this final hash, signed by `author`, counts.
    #[must_use]
    pub fn believes(&self, author: WriterId, hash: ObjectHash) -> bool {
        self.revoked
            .get(&author)
            .is_none_or(|kept| kept.contains(&hash))
    }

    /// The writer with this id.
    #[must_use]
    pub fn writer(&self, id: WriterId) -> Option<&Enrolled> {
        self.writers.get(&id)
    }

    /// True for the admin and for enrolled writers.
    #[must_use]
    pub fn knows(&self, id: WriterId) -> bool {
        id == self.admin_id || self.writers.contains_key(&id)
    }

    /// All writers.
    pub fn writers(&self) -> impl Iterator<Item = (&WriterId, &Enrolled)> {
        self.writers.iter()
    }

    /// Verifies `record ‖ signer id ‖ signature` and returns the record and who signed.
    ///
    /// # Errors
    /// When the signer is neither the admin nor enrolled, or the signature does not fit.
    pub fn verify_record<'a>(
        &self,
        header: &[u8; HEADER_BYTES],
        name: &str,
        signed: &'a [u8],
        what: &'static str,
    ) -> Result<(&'a [u8], WriterId), FormatError> {
        let (rest, signature) = signed
            .split_last_chunk::<SIGNATURE_BYTES>()
            .ok_or(FormatError::Truncated(what))?;
        let (record, id) = rest
            .split_last_chunk::<{ WriterId::LENGTH }>()
            .ok_or(FormatError::Truncated(what))?;
        let id = WriterId(*id);
        let public = if id == self.admin_id {
            &self.admin
        } else {
            &self
                .writers
                .get(&id)
                .ok_or(FormatError::Signature(what))?
                .public
        };
        verify_bytes(public, &message(header, name, record), signature, what)?;
        Ok((record, id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_admin_and_enrolled_writers_are_believed() {
        let admin = Author::new(&Secret::new([1; 32]));
        let writer = Author::new(&Secret::new([2; 32]));
        let mut authors = Authors::new(admin.public());
        let header = [7; HEADER_BYTES];
        let signed = writer.sign_record(&header, "name", b"record");
        assert_eq!(
            authors.verify_record(&header, "name", &signed, "it"),
            Err(FormatError::Signature("it"))
        );

        authors.enrol(Enrolled {
            public: writer.public(),
            domain: 0,
            role: Role::Full,
        });
        assert_eq!(
            authors.verify_record(&header, "name", &signed, "it"),
            Ok((b"record".as_slice(), writer.id()))
        );
        assert!(
            authors
                .verify_record(&header, "other", &signed, "it")
                .is_err()
        );
        assert!(
            authors
                .verify_record(&[8; HEADER_BYTES], "name", &signed, "it")
                .is_err()
        );
        for at in 0..signed.len() {
            let mut changed = signed.clone();
            changed[at] ^= 1;
            assert!(
                authors
                    .verify_record(&header, "name", &changed, "it")
                    .is_err(),
                "byte {at}"
            );
        }
        let (kept, other) = (ObjectHash([1; 32]), ObjectHash([2; 32]));
        authors.revoke(writer.id(), [kept]);
        assert!(!authors.may_write(writer.id()));
        assert!(authors.believes(writer.id(), kept) && !authors.believes(writer.id(), other));
        assert!(
            authors
                .verify_record(&header, "name", &signed, "it")
                .is_ok(),
            "what it stored stays readable"
        );
        assert!(authors.believes(admin.id(), other) && authors.may_write(admin.id()));
        let signed = admin.sign_record(&header, "", b"");
        assert_eq!(
            authors.verify_record(&header, "", &signed, "it"),
            Ok((b"".as_slice(), admin.id()))
        );
    }
}
