//! Key slots, key files and the recovery key (`docs/format.md` §4).
//!
//! A slot opens in two steps: the secret opens the slot's own key pair, and that opens the keyring. So keys are
//! rotated for every slot without knowing any passphrase, and passphrases change without touching anything else.
//! The parameters are an attacker's to choose, so they are checked before a byte of memory is taken.

use argon2::{Algorithm, Argon2, Params, Version};
use zeroize::Zeroizing;

use crate::error::FormatError;
use crate::frame::{Frame, HEADER_BYTES, Header, Kind, assemble};
use crate::id::{FamilyId, RunId, SlotId};
use crate::key::{
    Entropy, Keyring, PublicKey, Role, Secret, context, hpke_open, hpke_seal, random,
    recipient_pair,
};
use crate::record::{Fields, Input, RecordWriter, Unknown, padded_text, unpadded_text};
use crate::seal::{Nonce, SEAL_BYTES, open_in_place, seal};
use crate::sign::{Author, SignerKey, verify_bytes};

const WHAT: &str = "the key slot";
const SIGNATURE_BYTES: usize = 64;

/// How a slot's secret is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum SlotType {
    /// A person types it.
    Passphrase = 1,
    /// 32 random bytes in a file.
    KeyFile = 2,
    /// 32 random bytes on paper.
    Recovery = 3,
    /// A command prints it.
    Command = 4,
}

impl SlotType {
    fn from_number(number: u64) -> Result<Self, FormatError> {
        match number {
            1 => Ok(Self::Passphrase),
            2 => Ok(Self::KeyFile),
            3 => Ok(Self::Recovery),
            4 => Ok(Self::Command),
            _ => Err(FormatError::Unsupported("this type of key slot")),
        }
    }

    /// The type's name for people.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Passphrase => "passphrase",
            Self::KeyFile => "key file",
            Self::Recovery => "recovery key",
            Self::Command => "command",
        }
    }

    fn stretched(self) -> bool {
        matches!(self, Self::Passphrase | Self::Command)
    }
}

/// Argon2id's cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stretch {
    /// Memory in KiB.
    pub memory_kib: u32,
    /// Passes over it.
    pub passes: u32,
    /// Lanes.
    pub lanes: u32,
}

impl Stretch {
    /// What new slots use: RFC 9106's second choice with one lane, which libsodium can compute too.
    pub const DEFAULT: Self = Self {
        memory_kib: 65_536,
        passes: 3,
        lanes: 1,
    };

    fn allowed(self) -> bool {
        // The floor keeps a slot from being weaker than it looks, the ceiling keeps an attacker's slot from taking the machine's memory.
        (65_536..=262_144).contains(&self.memory_kib)
            && (3..=10).contains(&self.passes)
            && self.lanes == 1
    }
}

/// What stands in a slot in clear.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotInfo {
    /// The slot's id.
    pub id: SlotId,
    /// How its secret is given.
    pub slot_type: SlotType,
    /// The cost of stretching, for the types that are stretched.
    pub stretch: Stretch,
    salt: [u8; 16],
    public: PublicKey,
    /// What its holder may do.
    pub role: Role,
    /// A name that the owner gave it.
    pub label: String,
    /// Unix milliseconds.
    pub created_ms: u64,
}

impl SlotInfo {
    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let stretch = |value: u32| {
            if self.slot_type.stretched() {
                u64::from(value)
            } else {
                0
            }
        };
        RecordWriter::new(&mut out)
            .required_bytes(1, &self.id.0)
            .required_number(2, self.slot_type as u64)
            .number(3, stretch(self.stretch.memory_kib))
            .number(4, stretch(self.stretch.passes))
            .number(5, stretch(self.stretch.lanes))
            .required_bytes(6, &self.salt)
            .required_bytes(7, &self.public)
            .required_number(8, self.role as u64)
            .bytes(9, self.label.as_bytes())
            .number(10, self.created_ms);
        out
    }

    fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let (mut id, mut slot_type, mut salt, mut public, mut role) =
            (None, None, None, None, None);
        let mut stretch = Stretch {
            memory_kib: 0,
            passes: 0,
            lanes: 0,
        };
        let (mut label, mut created_ms, mut unknown) = (String::new(), 0, Unknown::default());
        for field in Fields::new(bytes, WHAT) {
            let field = field?;
            match field.number {
                1 => id = Some(SlotId(field.array()?)),
                2 => slot_type = Some(SlotType::from_number(field.number_value()?)?),
                3 => stretch.memory_kib = field.small()?,
                4 => stretch.passes = field.small()?,
                5 => stretch.lanes = field.small()?,
                6 => salt = Some(field.array()?),
                7 => public = Some(field.array()?),
                8 => role = Some(Role::from_number(field.number_value()?)?),
                9 => label = field.text()?,
                10 => created_ms = field.number_value()?,
                _ => field.unknown(&mut unknown)?,
            }
        }
        let (Some(id), Some(slot_type), Some(salt), Some(public), Some(role)) =
            (id, slot_type, salt, public, role)
        else {
            return Err(FormatError::Truncated(WHAT));
        };
        Ok(Self {
            id,
            slot_type,
            stretch,
            salt,
            public,
            role,
            label,
            created_ms,
        })
    }

    /// Derives slot key and commitment from the secret, after the parameters were found acceptable.
    fn stretch_secret(&self, secret: &[u8]) -> Result<(Secret, [u8; 32]), FormatError> {
        let mut stretched = Zeroizing::new([0_u8; 32]);
        if self.slot_type.stretched() {
            if !self.stretch.allowed() {
                return Err(FormatError::Invalid(
                    "the key slot asks for a key derivation outside the limits of the format",
                ));
            }
            let params = Params::new(
                self.stretch.memory_kib,
                self.stretch.passes,
                self.stretch.lanes,
                Some(32),
            )
            .map_err(|_| FormatError::Invalid("the key slot's key derivation is not possible"))?;
            Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
                .hash_password_into(secret, &self.salt, stretched.as_mut_slice())
                .map_err(|_| FormatError::Invalid("the key slot's key derivation failed"))?;
        } else {
            let material = Zeroizing::new([secret, &self.salt].concat());
            *stretched = blake3::derive_key(context::SLOT_SECRET, &material);
        }
        let key = Secret::new(blake3::derive_key(context::SLOT_KEY, stretched.as_slice()));
        Ok((
            key,
            blake3::derive_key(context::SLOT_COMMITMENT, stretched.as_slice()),
        ))
    }
}

/// The name of version `version` of a slot.
#[must_use]
pub fn slot_name(id: SlotId, version: u16) -> String {
    format!("keys/{id}.{version:04x}")
}

/// The version of a slot with this keyring: who reads the names alone knows which slots have newer keys than others.
#[must_use]
pub fn version_of(keyring: &Keyring) -> u16 {
    keyring.newest().number.saturating_sub(1)
}

/// A slot as read, not yet opened.
#[derive(Clone, Debug)]
pub struct Slot {
    /// Its clear part.
    pub info: SlotInfo,
    name: String,
    header: [u8; HEADER_BYTES],
    family: FamilyId,
    info_bytes: Vec<u8>,
    commitment: [u8; 32],
    sealed: Vec<u8>,
    encapsulated: [u8; 32],
    keyring: Vec<u8>,
    signed: Vec<u8>,
    signature: [u8; SIGNATURE_BYTES],
}

/// What a slot opens.
pub struct OpenedSlot {
    /// The keys.
    pub keyring: Keyring,
    /// The pinned admin public key.
    pub admin: SignerKey,
    /// The pinned family.
    pub family: FamilyId,
    /// The superblock's record as it was when the slot was made.
    pub superblock: Vec<u8>,
}

/// What a new slot is made of.
pub struct NewSlot<'a> {
    /// How its secret is given.
    pub slot_type: SlotType,
    /// The secret.
    pub secret: &'a [u8],
    /// A name for people.
    pub label: &'a str,
    /// The cost of stretching.
    pub stretch: Stretch,
    /// The keys that it opens.
    pub keyring: &'a Keyring,
    /// The repository.
    pub family: FamilyId,
    /// The superblock's record.
    pub superblock: &'a [u8],
    /// Unix milliseconds.
    pub created_ms: u64,
}

/// Makes a slot: its id, its name and its object. `admin` signs it.
///
/// # Errors
/// When the parameters are outside the limits.
pub fn create_slot(
    new: &NewSlot<'_>,
    admin: &Author,
    entropy: &mut dyn Entropy,
) -> Result<(SlotId, String, Vec<u8>), FormatError> {
    let (slot_secret, public) = recipient_pair(entropy);
    let id = SlotId(random(entropy));
    let info = SlotInfo {
        id,
        slot_type: new.slot_type,
        stretch: new.stretch,
        salt: random(entropy),
        public,
        role: new.keyring.role,
        label: new.label.to_owned(),
        created_ms: new.created_ms,
    };
    let name = slot_name(id, version_of(new.keyring));
    let header = Header::named(
        Kind::Slot,
        new.family,
        RunId([0; 16]),
        new.created_ms,
        &name,
    );
    let info_bytes = info.encode();
    let (key, commitment) = info.stretch_secret(new.secret)?;
    let mut inner = Zeroizing::new(Vec::with_capacity(1024 + new.superblock.len()));
    RecordWriter::new(&mut inner)
        .required_bytes(1, slot_secret.bytes())
        .required_bytes(2, &admin.public())
        .required_bytes(3, &new.family.0)
        .required_bytes(4, new.superblock);
    let mut sealed = Vec::new();
    // The slot key is derived with a random salt and used for this one text: the pair cannot repeat.
    seal(
        &key,
        Nonce(random(entropy)),
        &slot_data(new.family, &info_bytes),
        &inner,
        &mut sealed,
    );
    let parts = SlotParts {
        info: &info,
        info_bytes: &info_bytes,
        commitment: &commitment,
        sealed: &sealed,
    };
    let object = assemble_slot(&header, &name, &parts, new.keyring, admin, entropy);
    Ok((id, name, object))
}

/// What stays the same in every version of a slot.
struct SlotParts<'a> {
    info: &'a SlotInfo,
    info_bytes: &'a [u8],
    commitment: &'a [u8; 32],
    sealed: &'a [u8],
}

fn assemble_slot(
    header: &Header,
    name: &str,
    parts: &SlotParts<'_>,
    keyring: &Keyring,
    admin: &Author,
    entropy: &mut dyn Entropy,
) -> Vec<u8> {
    let text = Zeroizing::new(padded_text(&keyring.encode()));
    let (encapsulated, sealed_keyring) = hpke_seal(
        &parts.info.public,
        &keyring_info(header.family),
        &parts.info.id.0,
        &text,
        entropy,
    );
    let length = |bytes: &[u8]| {
        u32::try_from(bytes.len())
            .expect("slots are small")
            .to_le_bytes()
    };
    let mut body = [
        length(parts.info_bytes).as_slice(),
        parts.info_bytes,
        parts.commitment,
        length(parts.sealed).as_slice(),
        parts.sealed,
        &encapsulated,
        length(&sealed_keyring).as_slice(),
        &sealed_keyring,
    ]
    .concat();
    let signature = admin.sign_bytes(&slot_message(&header.encode(), name, &body));
    body.extend_from_slice(&signature);
    assemble(header, &body).0
}

impl Slot {
    /// Reads a slot whose frame is verified.
    ///
    /// # Errors
    /// When it is malformed.
    pub fn decode(frame: &Frame<'_>, name: &str) -> Result<Self, FormatError> {
        let (signed, signature) = frame
            .body
            .split_last_chunk::<SIGNATURE_BYTES>()
            .ok_or(FormatError::Truncated(WHAT))?;
        let mut input = Input::new(signed, WHAT);
        let part = |input: &mut Input<'_>| -> Result<Vec<u8>, FormatError> {
            let length = input.u32()?;
            input.take(length as usize).map(<[u8]>::to_vec)
        };
        let info_bytes = part(&mut input)?;
        let commitment = input.array()?;
        let sealed = part(&mut input)?;
        let encapsulated = input.array()?;
        let keyring = part(&mut input)?;
        if !input.is_empty() || sealed.len() < SEAL_BYTES {
            return Err(FormatError::Invalid("the key slot's parts do not add up"));
        }
        Ok(Self {
            info: SlotInfo::decode(&info_bytes)?,
            name: name.to_owned(),
            header: *frame.header_bytes,
            family: frame.header.family,
            info_bytes,
            commitment,
            sealed,
            encapsulated,
            keyring,
            signed: signed.to_vec(),
            signature: *signature,
        })
    }

    /// Verifies that `admin` made this version of the slot: whoever can write to the storage can put others there.
    ///
    /// # Errors
    /// When somebody else made it.
    pub fn verify(&self, admin: &SignerKey) -> Result<(), FormatError> {
        verify_bytes(
            admin,
            &slot_message(&self.header, &self.name, &self.signed),
            &self.signature,
            WHAT,
        )
    }

    /// The repository that it belongs to.
    #[must_use]
    pub fn family(&self) -> FamilyId {
        self.family
    }

    /// The same slot with a newer keyring of the same role: its next version. Needs no secret, only the admin key.
    /// The slot must be [verified](Self::verify): who made it reads the new keyring.
    #[must_use]
    pub fn renew(
        &self,
        keyring: &Keyring,
        admin: &Author,
        created_ms: u64,
        entropy: &mut dyn Entropy,
    ) -> (String, Vec<u8>) {
        assert!(
            keyring.role == self.info.role,
            "a slot's role never changes"
        );
        let name = slot_name(self.info.id, version_of(keyring));
        let header = Header::named(Kind::Slot, self.family, RunId([0; 16]), created_ms, &name);
        let parts = SlotParts {
            info: &self.info,
            info_bytes: &self.info_bytes,
            commitment: &self.commitment,
            sealed: &self.sealed,
        };
        let object = assemble_slot(&header, &name, &parts, keyring, admin, entropy);
        (name, object)
    }

    /// Opens the slot with its secret; `None` when the secret is another one.
    ///
    /// # Errors
    /// When the slot asks for too much, or was changed.
    pub fn open(&self, secret: &[u8]) -> Result<Option<OpenedSlot>, FormatError> {
        let (key, commitment) = self.info.stretch_secret(secret)?;
        // blake3::Hash compares in constant time.
        if blake3::Hash::from(commitment) != self.commitment {
            return Ok(None);
        }
        let mut sealed = Zeroizing::new(self.sealed.clone());
        let inner = open_in_place(
            &key,
            &slot_data(self.family, &self.info_bytes),
            &mut sealed,
            WHAT,
        )?;
        let (mut slot_secret, mut admin, mut family, mut superblock, mut unknown) =
            (None, None, None, Vec::new(), Unknown::default());
        for field in Fields::new(inner, WHAT) {
            let field = field?;
            match field.number {
                1 => slot_secret = Some(Secret::new(field.array()?)),
                2 => admin = Some(field.array()?),
                3 => family = Some(FamilyId(field.array()?)),
                4 => superblock = field.bytes()?.to_vec(),
                _ => field.unknown(&mut unknown)?,
            }
        }
        let (Some(slot_secret), Some(admin), Some(family)) = (slot_secret, admin, family) else {
            return Err(FormatError::Truncated(WHAT));
        };
        if family != self.family {
            return Err(FormatError::Invalid(
                "the key slot belongs to another repository",
            ));
        }
        self.verify(&admin)?;
        let text = Zeroizing::new(hpke_open(
            &slot_secret,
            &self.encapsulated,
            &keyring_info(family),
            &self.info.id.0,
            &self.keyring,
            WHAT,
        )?);
        let keyring = Keyring::decode(unpadded_text(&text, WHAT)?)?;
        if keyring.role != self.info.role {
            return Err(FormatError::Invalid(
                "the key slot's role is not its keyring's",
            ));
        }
        Ok(Some(OpenedSlot {
            keyring,
            admin,
            family,
            superblock,
        }))
    }
}

/// Binds the family and the clear part, but no version: the sealed part is the same in all of them.
fn slot_data(family: FamilyId, info: &[u8]) -> Vec<u8> {
    [context::SLOT.as_bytes(), &family.0, info].concat()
}

fn keyring_info(family: FamilyId) -> Vec<u8> {
    [context::KEYRING.as_bytes(), &family.0].concat()
}

fn slot_message(header: &[u8; HEADER_BYTES], name: &str, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(name.len()).expect("names are short");
    [
        context::SLOT.as_bytes(),
        header,
        &length.to_le_bytes(),
        name.as_bytes(),
        body,
    ]
    .concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::tests::Counted;

    fn new<'a>(slot_type: SlotType, secret: &'a [u8], keyring: &'a Keyring) -> NewSlot<'a> {
        NewSlot {
            slot_type,
            secret,
            label: "test",
            stretch: Stretch::DEFAULT,
            keyring,
            family: FamilyId([1; 16]),
            superblock: b"super",
            created_ms: 5,
        }
    }

    #[test]
    fn a_slot_opens_with_its_secret_and_no_other() {
        let mut entropy = Counted(0);
        let keyring = Keyring::create(&mut entropy);
        let admin = Author::new(keyring.admin.as_ref().unwrap());
        for (slot_type, secret) in [
            (SlotType::Passphrase, b"correct horse".as_slice()),
            (SlotType::KeyFile, &[9; 32]),
        ] {
            let (id, name, object) =
                create_slot(&new(slot_type, secret, &keyring), &admin, &mut entropy).unwrap();
            let slot = Slot::decode(&Frame::decode(&object).unwrap(), &name).unwrap();
            assert_eq!((slot.info.id, slot.info.label.as_str()), (id, "test"));
            let opened = slot.open(secret).unwrap().unwrap();
            assert_eq!(
                (opened.admin, opened.superblock.as_slice()),
                (admin.public(), b"super".as_slice())
            );
            assert_eq!(opened.keyring.chunker.bytes(), keyring.chunker.bytes());
            assert!(slot.open(b"wrong").unwrap().is_none());
        }
    }

    #[test]
    fn a_slot_takes_another_keyring_without_its_secret() {
        let mut entropy = Counted(0);
        let mut keyring = Keyring::create(&mut entropy);
        let admin = Author::new(keyring.admin.as_ref().unwrap());
        let (_, name, object) = create_slot(
            &new(SlotType::KeyFile, &[9; 32], &keyring),
            &admin,
            &mut entropy,
        )
        .unwrap();
        let slot = Slot::decode(&Frame::decode(&object).unwrap(), &name).unwrap();
        keyring
            .generations
            .push(crate::key::Generation::random(2, &mut entropy));
        let (name, object) = slot.renew(&keyring, &admin, 6, &mut entropy);
        let renewed = Slot::decode(&Frame::decode(&object).unwrap(), &name)
            .unwrap()
            .open(&[9; 32])
            .unwrap()
            .unwrap();
        assert_eq!(renewed.keyring.newest().number, 2);

        let stranger = Author::new(&Secret::new([7; 32]));
        let (name, object) = slot.renew(&keyring, &stranger, 6, &mut entropy);
        let forged = Slot::decode(&Frame::decode(&object).unwrap(), &name)
            .unwrap()
            .open(&[9; 32]);
        assert_eq!(
            forged.err(),
            Some(FormatError::Signature(WHAT)),
            "a keyring that the admin did not sign"
        );
    }

    #[test]
    fn an_attackers_parameters_are_refused_before_any_work() {
        let mut entropy = Counted(0);
        let keyring = Keyring::create(&mut entropy);
        let admin = Author::new(keyring.admin.as_ref().unwrap());
        for stretch in [
            Stretch {
                memory_kib: u32::MAX,
                ..Stretch::DEFAULT
            },
            Stretch {
                passes: 1_000_000,
                ..Stretch::DEFAULT
            },
            Stretch {
                lanes: 2,
                ..Stretch::DEFAULT
            },
            Stretch {
                memory_kib: 8,
                ..Stretch::DEFAULT
            },
        ] {
            let refused = create_slot(
                &NewSlot {
                    stretch,
                    ..new(SlotType::Passphrase, b"x", &keyring)
                },
                &admin,
                &mut entropy,
            );
            assert!(
                matches!(refused, Err(FormatError::Invalid(_))),
                "{stretch:?}"
            );
        }
    }
}
