//! Envelopes hand a run's key to a recipient (`docs/format.md` §4).
//!
//! A run draws one key for content and one for metadata. Writing needs only the public keys; reading needs the
//! recipient's secret. The commitment is compared before anything is opened with the key, because Poly1305 does
//! not commit to its key.

use zeroize::Zeroizing;

use crate::error::FormatError;
use crate::id::{EnvelopeId, FamilyId};
use crate::key::{Entropy, Keyring, Recipient, Secret, context, hpke_open, hpke_seal, random};
use crate::record::Input;

/// Length of an envelope of suite 1.
pub const ENVELOPE_BYTES: usize = 136;
const SUITE: u16 = 1;
const CLEAR_BYTES: usize = 56;

/// The keys that one run seals with, for one recipient.
pub struct RunKey {
    /// For whom.
    pub recipient: Recipient,
    /// The envelope's id, by which opened keys are remembered.
    pub id: EnvelopeId,
    segment: Secret,
    directory: Secret,
    object: Secret,
}

impl RunKey {
    fn new(recipient: Recipient, id: EnvelopeId, key: &Secret) -> Self {
        Self {
            recipient,
            id,
            segment: key.derive(context::SEGMENT),
            directory: key.derive(context::DIRECTORY),
            object: key.derive(context::OBJECT),
        }
    }

    /// A second copy, for a second owner.
    #[must_use]
    pub fn duplicate(&self) -> Self {
        Self {
            recipient: self.recipient,
            id: self.id,
            segment: self.segment.duplicate(),
            directory: self.directory.duplicate(),
            object: self.object.duplicate(),
        }
    }

    /// Seals segments.
    #[must_use]
    pub fn segment(&self) -> &Secret {
        &self.segment
    }

    /// Seals directories.
    #[must_use]
    pub fn directory(&self) -> &Secret {
        &self.directory
    }

    /// Seals objects that are no packs.
    #[must_use]
    pub fn object(&self) -> &Secret {
        &self.object
    }
}

/// An envelope as it stands in an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Envelope {
    /// For whom.
    pub recipient: Recipient,
    /// Which of the recipient's keys opens it.
    pub generation: u16,
    /// Its id.
    pub id: EnvelopeId,
    bytes: [u8; ENVELOPE_BYTES],
}

impl Envelope {
    /// Draws a run key and seals it to `recipient`.
    #[must_use]
    pub fn create(
        recipient: Recipient,
        keyring: &Keyring,
        family: FamilyId,
        entropy: &mut dyn Entropy,
    ) -> (Self, RunKey) {
        let generation = keyring.newest();
        let key = Secret::random(entropy);
        let id = EnvelopeId(random(entropy));
        let mut bytes = Vec::with_capacity(ENVELOPE_BYTES);
        bytes.extend_from_slice(&SUITE.to_le_bytes());
        bytes.extend_from_slice(&(ENVELOPE_BYTES as u16).to_le_bytes());
        bytes.extend_from_slice(&[recipient as u8, 0]);
        bytes.extend_from_slice(&generation.number.to_le_bytes());
        bytes.extend_from_slice(&id.0);
        bytes.extend_from_slice(&commitment(&key, id));
        let (encapsulated, sealed) = hpke_seal(
            generation.public(recipient),
            &info(family),
            &bytes,
            key.bytes(),
            entropy,
        );
        bytes.extend_from_slice(&encapsulated);
        bytes.extend_from_slice(&sealed);
        let bytes = bytes.try_into().expect("the parts add up to an envelope");
        (
            Self {
                recipient,
                generation: generation.number,
                id,
                bytes,
            },
            RunKey::new(recipient, id, &key),
        )
    }

    /// Reads one envelope; `None` for a suite that this program does not know, which is skipped.
    ///
    /// # Errors
    /// When it is cut short or its fields are not allowed.
    pub fn decode(input: &mut Input<'_>) -> Result<Option<Self>, FormatError> {
        let start = input.rest();
        let (suite, length) = (input.u16()?, input.u16()?);
        let rest = usize::from(length)
            .checked_sub(4)
            .ok_or(FormatError::Invalid("an envelope is too short"))?;
        let fields = input.take(rest)?;
        if suite != SUITE {
            return Ok(None);
        }
        let bytes = start
            .get(..usize::from(length))
            .and_then(|bytes| <[u8; ENVELOPE_BYTES]>::try_from(bytes).ok())
            .ok_or(FormatError::Invalid("an envelope has a wrong length"))?;
        let mut fields = Input::new(fields, "an envelope");
        let recipient = match fields.array()? {
            [1, 0] => Recipient::Data,
            [2, 0] => Recipient::Meta,
            _ => return Err(FormatError::Invalid("an envelope's recipient is unknown")),
        };
        Ok(Some(Self {
            recipient,
            generation: fields.u16()?,
            id: EnvelopeId(fields.array()?),
            bytes,
        }))
    }

    /// Opens it with the recipient's secret.
    ///
    /// # Errors
    /// When the keyring lacks the secret, or the envelope was changed.
    pub fn open(&self, keyring: &Keyring, family: FamilyId) -> Result<RunKey, FormatError> {
        const WHAT: &str = "an envelope";
        let secret = keyring
            .secret(self.recipient, self.generation)
            .ok_or(FormatError::NoKey(match self.recipient {
                Recipient::Data => "reading content",
                Recipient::Meta => "reading metadata",
            }))?;
        let (clear, rest) = self.bytes.split_at(CLEAR_BYTES);
        let (encapsulated, sealed) = rest
            .split_first_chunk::<32>()
            .ok_or(FormatError::Truncated(WHAT))?;
        let opened = Zeroizing::new(hpke_open(
            secret,
            encapsulated,
            &info(family),
            clear,
            sealed,
            WHAT,
        )?);
        let key = Secret::new(
            opened
                .as_slice()
                .try_into()
                .map_err(|_| FormatError::Truncated(WHAT))?,
        );
        let stored = clear.get(24..).unwrap_or_default();
        if blake3::Hash::from(commitment(&key, self.id)) != *stored {
            return Err(FormatError::Unsealed(WHAT));
        }
        Ok(RunKey::new(self.recipient, self.id, &key))
    }

    /// The envelope's bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8; ENVELOPE_BYTES] {
        &self.bytes
    }
}

fn info(family: FamilyId) -> Vec<u8> {
    [context::ENVELOPE.as_bytes(), &family.0].concat()
}

fn commitment(key: &Secret, id: EnvelopeId) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new_derive_key(context::ENVELOPE);
    hasher.update(key.bytes()).update(&id.0);
    *hasher.finalize().as_bytes()
}

/// `u16 count ‖ envelopes`.
#[must_use]
pub(crate) fn encode_area(envelopes: &[Envelope]) -> Vec<u8> {
    let count = u16::try_from(envelopes.len()).expect("an object has at most 65,535 envelopes");
    let mut area = Vec::with_capacity(2 + envelopes.len() * ENVELOPE_BYTES);
    area.extend_from_slice(&count.to_le_bytes());
    for envelope in envelopes {
        area.extend_from_slice(&envelope.bytes);
    }
    area
}

/// Reads an envelope area. An envelope of an unknown suite stands as `None`, so that numbers keep their meaning.
///
/// # Errors
/// When it is malformed.
pub(crate) fn decode_area(input: &mut Input<'_>) -> Result<Vec<Option<Envelope>>, FormatError> {
    let count = input.u16()?;
    (0..count).map(|_| Envelope::decode(input)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::Role;
    use crate::key::tests::Counted;

    #[test]
    fn an_envelope_opens_for_its_recipient_only() {
        let mut entropy = Counted(0);
        let keyring = Keyring::create(&mut entropy);
        let family = FamilyId([3; 16]);
        let (envelope, key) = Envelope::create(Recipient::Data, &keyring, family, &mut entropy);
        let area = encode_area(&[envelope]);
        let read = decode_area(&mut Input::new(&area, "area")).unwrap();
        let read = read[0].unwrap();
        assert_eq!(read, envelope);
        assert_eq!(
            read.open(&keyring, family).unwrap().segment().bytes(),
            key.segment().bytes()
        );
        assert!(read.open(&keyring, FamilyId([4; 16])).is_err());
        let prune = keyring.reduced(Role::Prune, None).unwrap();
        assert!(matches!(
            read.open(&prune, family),
            Err(FormatError::NoKey(_))
        ));
        for at in 6..ENVELOPE_BYTES {
            let mut changed = area.clone();
            changed[2 + at] ^= 1;
            if let Ok(read) = decode_area(&mut Input::new(&changed, "area")) {
                assert!(
                    read[0].unwrap().open(&keyring, family).is_err(),
                    "byte {at}"
                );
            }
        }
    }

    #[test]
    fn an_envelope_of_a_later_suite_is_skipped() {
        let mut area = vec![1, 0, 2, 0, 10, 0];
        area.extend([0; 6]);
        assert_eq!(decode_area(&mut Input::new(&area, "area")).unwrap(), [None]);
    }
}
