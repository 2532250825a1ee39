//! Secrets, what is derived from them, and the keyring that a slot opens (`docs/format.md` §4).
//!
//! Secrets are overwritten when they go, cannot be printed and cannot be cloned by accident. Every derivation
//! context is a constant of this file.

use hpke::aead::ChaCha20Poly1305;
use hpke::kdf::HkdfSha256;
use hpke::kem::X25519HkdfSha256;
use hpke::{Deserializable, Kem, OpModeR, OpModeS, Serializable};
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::error::FormatError;
use crate::id::ChunkId;
use crate::record::{Fields, RecordWriter, Unknown};

/// Derivation contexts; stored data depends on each.
pub(crate) mod context {
    pub(crate) const CHUNK_ID: &str = "lifeboat 1 chunk id";
    pub(crate) const GEAR: &str = "lifeboat 1 gear";
    pub(crate) const ROWS: &str = "lifeboat 1 rows";
    pub(crate) const OBJECT: &str = "lifeboat 1 object";
    pub(crate) const DIRECTORY: &str = "lifeboat 1 directory";
    pub(crate) const SEGMENT: &str = "lifeboat 1 segment";
    pub(crate) const ENVELOPE: &str = "lifeboat 1 envelope";
    pub(crate) const SLOT: &str = "lifeboat 1 slot";
    pub(crate) const SLOT_KEY: &str = "lifeboat 1 slot key";
    pub(crate) const SLOT_COMMITMENT: &str = "lifeboat 1 slot commitment";
    pub(crate) const SLOT_SECRET: &str = "lifeboat 1 slot secret";
    pub(crate) const KEYRING: &str = "lifeboat 1 keyring";
    pub(crate) const RECOVERY: &[u8] = b"lifeboat 1 recovery key";
}

/// Where randomness comes from; given in, so that a simulation can be replayed.
pub trait Entropy {
    /// Fills `out` with bytes that nobody can predict.
    fn fill(&mut self, out: &mut [u8]);

    /// An array of such bytes.
    fn array<const N: usize>(&mut self) -> [u8; N]
    where
        Self: Sized,
    {
        let mut out = [0; N];
        self.fill(&mut out);
        out
    }
}

/// `N` random bytes from a borrowed source.
pub(crate) fn random<const N: usize>(entropy: &mut dyn Entropy) -> [u8; N] {
    let mut out = [0; N];
    entropy.fill(&mut out);
    out
}

/// 32 secret bytes.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct Secret([u8; 32]);

impl Secret {
    /// Takes over these bytes.
    #[must_use]
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Draws a new secret.
    #[must_use]
    pub fn random(entropy: &mut dyn Entropy) -> Self {
        Self(random(entropy))
    }

    /// The bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// A second copy, for a second owner.
    #[must_use]
    pub fn duplicate(&self) -> Self {
        Self(self.0)
    }

    /// The secret for another purpose.
    #[must_use]
    pub(crate) fn derive(&self, context: &str) -> Self {
        Self(blake3::derive_key(context, &self.0))
    }

    fn from_field(field: &crate::record::Field<'_>) -> Result<Self, FormatError> {
        field.array().map(Self)
    }
}

/// Whom a run key is handed to, and which packs it seals.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Recipient {
    /// Content.
    Data = 1,
    /// Everything else: directories, index, trees, chunk lists, snapshots.
    Meta = 2,
}

/// An X25519 public key.
pub(crate) type PublicKey = [u8; 32];

type Suite = (ChaCha20Poly1305, HkdfSha256, X25519HkdfSha256);

/// Draws a pair for a recipient or a slot.
#[must_use]
pub(crate) fn recipient_pair(entropy: &mut dyn Entropy) -> (Secret, PublicKey) {
    let mut material = Secret::random(entropy);
    let (secret, public) = X25519HkdfSha256::derive_keypair(material.bytes());
    material.zeroize();
    (Secret(secret.to_bytes().into()), public.to_bytes().into())
}

/// HPKE in one shot: `(encapsulated key, ciphertext ‖ tag)`.
pub(crate) fn hpke_seal(
    public: &PublicKey,
    info: &[u8],
    associated: &[u8],
    text: &[u8],
    entropy: &mut dyn Entropy,
) -> ([u8; 32], Vec<u8>) {
    let public = <X25519HkdfSha256 as Kem>::PublicKey::from_bytes(public)
        .expect("any 32 bytes are an X25519 public key");
    let (key, sealed) = hpke::single_shot_seal_with_rng::<
        <Suite as HpkeSuite>::Aead,
        <Suite as HpkeSuite>::Kdf,
        <Suite as HpkeSuite>::Kem,
    >(
        &OpModeS::Base,
        &public,
        info,
        text,
        associated,
        &mut HpkeRandom(entropy),
    )
    .expect("sealing fails only for a public key of low order, which no keyring holds");
    (key.to_bytes().into(), sealed)
}

/// The inverse of [`hpke_seal`].
pub(crate) fn hpke_open(
    secret: &Secret,
    key: &[u8; 32],
    info: &[u8],
    associated: &[u8],
    sealed: &[u8],
    what: &'static str,
) -> Result<Vec<u8>, FormatError> {
    let secret = <X25519HkdfSha256 as Kem>::PrivateKey::from_bytes(secret.bytes())
        .map_err(|_| FormatError::Unsealed(what))?;
    let key = <X25519HkdfSha256 as Kem>::EncappedKey::from_bytes(key)
        .map_err(|_| FormatError::Unsealed(what))?;
    hpke::single_shot_open::<
        <Suite as HpkeSuite>::Aead,
        <Suite as HpkeSuite>::Kdf,
        <Suite as HpkeSuite>::Kem,
    >(&OpModeR::Base, &secret, &key, info, sealed, associated)
    .map_err(|_| FormatError::Unsealed(what))
}

/// Names the three parts of the suite once.
trait HpkeSuite {
    type Aead;
    type Kdf;
    type Kem;
}

impl<A, D, K> HpkeSuite for (A, D, K) {
    type Aead = A;
    type Kdf = D;
    type Kem = K;
}

/// Hands our entropy to HPKE in the shape that it asks for.
struct HpkeRandom<'a>(&'a mut dyn Entropy);

impl rand_core::TryRng for HpkeRandom<'_> {
    type Error = std::convert::Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Self::Error> {
        Ok(u32::from_le_bytes(random(self.0)))
    }

    fn try_next_u64(&mut self) -> Result<u64, Self::Error> {
        Ok(u64::from_le_bytes(random(self.0)))
    }

    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Self::Error> {
        self.0.fill(out);
        Ok(())
    }
}

impl rand_core::TryCryptoRng for HpkeRandom<'_> {}

/// What the holder of a keyring may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Role {
    /// Read and write everything, enrol writers, change keys.
    Full = 1,
    /// Read metadata, forget and prune; no content.
    Prune = 2,
    /// Write snapshots; read nothing.
    WriteOnly = 3,
}

impl Role {
    /// The role with this number.
    ///
    /// # Errors
    /// When there is none.
    pub fn from_number(number: u64) -> Result<Self, FormatError> {
        match number {
            1 => Ok(Self::Full),
            2 => Ok(Self::Prune),
            3 => Ok(Self::WriteOnly),
            _ => Err(FormatError::Unsupported("this role of a key")),
        }
    }

    /// The role's name for people.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Prune => "prune",
            Self::WriteOnly => "write-only",
        }
    }
}

/// The recipients' keys of one time; rotating adds a generation.
pub struct Generation {
    /// Counts from 1.
    pub number: u16,
    /// Content is sealed to it.
    pub data_public: PublicKey,
    /// Metadata is sealed to it.
    pub meta_public: PublicKey,
    /// Opens content; only in role full.
    pub data_secret: Option<Secret>,
    /// Opens metadata; not in role write-only.
    pub meta_secret: Option<Secret>,
}

impl Generation {
    /// Draws both pairs.
    #[must_use]
    pub fn random(number: u16, entropy: &mut dyn Entropy) -> Self {
        let (data_secret, data_public) = recipient_pair(entropy);
        let (meta_secret, meta_public) = recipient_pair(entropy);
        Self {
            number,
            data_public,
            meta_public,
            data_secret: Some(data_secret),
            meta_secret: Some(meta_secret),
        }
    }

    /// The public key of `recipient`.
    #[must_use]
    pub fn public(&self, recipient: Recipient) -> &PublicKey {
        match recipient {
            Recipient::Data => &self.data_public,
            Recipient::Meta => &self.meta_public,
        }
    }

    /// The secret key of `recipient`, where the role has it.
    #[must_use]
    pub fn secret(&self, recipient: Recipient) -> Option<&Secret> {
        match recipient {
            Recipient::Data => self.data_secret.as_ref(),
            Recipient::Meta => self.meta_secret.as_ref(),
        }
    }
}

/// The keys by which one domain's chunks are named.
pub struct DomainKeys {
    /// Whose chunks.
    pub domain: u32,
    /// Names chunks in data packs; `None` for role prune.
    pub data: Option<Secret>,
    /// Names chunks in meta packs.
    pub meta: Secret,
}

impl DomainKeys {
    /// The key for chunks of `recipient`'s packs.
    ///
    /// # Errors
    /// When the role may not name content.
    pub fn key(&self, recipient: Recipient) -> Result<&Secret, FormatError> {
        match recipient {
            Recipient::Data => self
                .data
                .as_ref()
                .ok_or(FormatError::NoKey("naming content")),
            Recipient::Meta => Ok(&self.meta),
        }
    }

    /// The key by which rows of databases are hashed: equal tables of two domains do not show as equal.
    ///
    /// # Errors
    /// When the role may not name content.
    pub fn rows(&self) -> Result<Secret, FormatError> {
        let key = self.key(Recipient::Data)?;
        Ok(Secret(blake3::derive_key(context::ROWS, key.bytes())))
    }
}

/// The id of `content` under `key`.
#[must_use]
#[inline]
pub fn chunk_id(key: &Secret, content: &[u8]) -> ChunkId {
    let hash = blake3::keyed_hash(key.bytes(), content);
    let (id, _) = hash
        .as_bytes()
        .split_first_chunk::<{ ChunkId::LENGTH }>()
        .expect("a hash is longer than an id");
    ChunkId(*id)
}

/// Everything that one key opens.
pub struct Keyring {
    /// What its holder may do.
    pub role: Role,
    /// Recipients' keys, oldest first; never empty.
    pub generations: Vec<Generation>,
    /// Signs writers, slots and what prune does; not in role write-only.
    pub admin: Option<Secret>,
    /// Names content in every domain; only in role full.
    pub data_root: Option<Secret>,
    /// Names metadata in every domain; not in role write-only.
    pub meta_root: Option<Secret>,
    /// Makes the gear table.
    pub chunker: Secret,
    /// Own domain; only in role write-only, the others derive every domain.
    pub own_domain: Option<DomainKeys>,
    /// Own signing seed; only in role write-only, the others enrol a writer for each machine.
    pub own_writer: Option<Secret>,
    /// What `recovery-key show` prints; only in role full.
    pub recovery: Option<Secret>,
    unknown: Unknown,
}

impl Keyring {
    /// A new repository's keys, role full.
    #[must_use]
    pub fn create(entropy: &mut dyn Entropy) -> Self {
        Self {
            role: Role::Full,
            generations: vec![Generation::random(1, entropy)],
            admin: Some(Secret::random(entropy)),
            data_root: Some(Secret::random(entropy)),
            meta_root: Some(Secret::random(entropy)),
            chunker: Secret::random(entropy),
            own_domain: None,
            own_writer: None,
            recovery: Some(Secret::random(entropy)),
            unknown: Unknown::default(),
        }
    }

    /// The same repository's keys for a lesser role; `own` are a write-only writer's domain and signing seed.
    ///
    /// # Errors
    /// When this keyring lacks what the role needs.
    pub fn reduced(&self, role: Role, own: Option<(u32, Secret)>) -> Result<Self, FormatError> {
        let no_key = || FormatError::NoKey("making a key");
        let copy = |secret: &Option<Secret>| secret.as_ref().map(Secret::duplicate);
        let generations = self
            .generations
            .iter()
            .map(|generation| Generation {
                number: generation.number,
                data_public: generation.data_public,
                meta_public: generation.meta_public,
                data_secret: if role == Role::Full {
                    copy(&generation.data_secret)
                } else {
                    None
                },
                meta_secret: if role == Role::WriteOnly {
                    None
                } else {
                    copy(&generation.meta_secret)
                },
            })
            .collect();
        let mut reduced = Self {
            role,
            generations,
            admin: copy(&self.admin),
            data_root: copy(&self.data_root),
            meta_root: copy(&self.meta_root),
            chunker: self.chunker.duplicate(),
            own_domain: None,
            own_writer: None,
            recovery: copy(&self.recovery),
            unknown: self.unknown.clone(),
        };
        if role != Role::Full {
            reduced.data_root = None;
            reduced.recovery = None;
        }
        if role == Role::WriteOnly {
            let (domain, seed) = own.ok_or_else(no_key)?;
            reduced.own_domain = Some(self.domain(domain)?);
            reduced.own_writer = Some(seed);
            reduced.admin = None;
            reduced.meta_root = None;
        } else if reduced.admin.is_none() || reduced.meta_root.is_none() {
            return Err(no_key());
        }
        Ok(reduced)
    }

    /// The generation that writing uses.
    #[must_use]
    pub fn newest(&self) -> &Generation {
        self.generations
            .iter()
            .max_by_key(|generation| generation.number)
            .expect("a keyring has a generation")
    }

    /// The secret that opens envelopes of `recipient` and `generation`.
    #[must_use]
    pub fn secret(&self, recipient: Recipient, generation: u16) -> Option<&Secret> {
        self.generations
            .iter()
            .find(|candidate| candidate.number == generation)?
            .secret(recipient)
    }

    /// The keys that name the chunks of `domain`.
    ///
    /// # Errors
    /// When a write-only keyring is asked for another domain than its own.
    pub fn domain(&self, domain: u32) -> Result<DomainKeys, FormatError> {
        if let Some(own) = &self.own_domain {
            return if own.domain == domain {
                Ok(DomainKeys {
                    domain,
                    data: own.data.as_ref().map(Secret::duplicate),
                    meta: own.meta.duplicate(),
                })
            } else {
                Err(FormatError::NoKey("another writer's chunks"))
            };
        }
        let meta = self
            .meta_root
            .as_ref()
            .ok_or(FormatError::NoKey("naming chunks"))?;
        let data = self
            .data_root
            .as_ref()
            .map(|root| domain_key(root, Recipient::Data, domain));
        Ok(DomainKeys {
            domain,
            data,
            meta: domain_key(meta, Recipient::Meta, domain),
        })
    }

    /// The keyring as a record.
    #[must_use]
    pub fn encode(&self) -> zeroize::Zeroizing<Vec<u8>> {
        // Large enough that growing never leaves a copy of a secret behind.
        let mut out =
            zeroize::Zeroizing::new(Vec::with_capacity(1024 + 256 * self.generations.len()));
        let mut writer = RecordWriter::new(&mut out);
        let secret = |secret: &Option<Secret>| {
            secret
                .as_ref()
                .map_or([].as_slice(), |secret| secret.bytes().as_slice())
                .to_vec()
        };
        writer.required_number(1, self.role as u64);
        for generation in &self.generations {
            let mut record = zeroize::Zeroizing::new(Vec::with_capacity(256));
            RecordWriter::new(&mut record)
                .number(1, generation.number.into())
                .bytes(2, &generation.data_public)
                .bytes(3, &generation.meta_public)
                .bytes(4, &zeroize::Zeroizing::new(secret(&generation.data_secret)))
                .bytes(5, &zeroize::Zeroizing::new(secret(&generation.meta_secret)));
            writer.element(2, &record);
        }
        writer
            .bytes(3, &zeroize::Zeroizing::new(secret(&self.admin)))
            .bytes(4, &zeroize::Zeroizing::new(secret(&self.data_root)))
            .bytes(5, &zeroize::Zeroizing::new(secret(&self.meta_root)))
            .required_bytes(6, self.chunker.bytes());
        if let Some(own) = &self.own_domain {
            let mut record = zeroize::Zeroizing::new(Vec::with_capacity(128));
            RecordWriter::new(&mut record)
                .number(1, own.domain.into())
                .bytes(2, &zeroize::Zeroizing::new(secret(&own.data)))
                .bytes(3, own.meta.bytes());
            writer.element(7, &record);
        }
        writer
            .bytes(8, &zeroize::Zeroizing::new(secret(&self.own_writer)))
            .bytes(9, &zeroize::Zeroizing::new(secret(&self.recovery)))
            .unknown(&self.unknown);
        out
    }

    /// Reads a keyring.
    ///
    /// # Errors
    /// When the record is malformed or lacks what its role needs.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        const WHAT: &str = "the keyring";
        let (mut role, mut chunker) = (None, None);
        let mut keyring = Self {
            role: Role::WriteOnly,
            generations: Vec::new(),
            admin: None,
            data_root: None,
            meta_root: None,
            chunker: Secret([0; 32]),
            own_domain: None,
            own_writer: None,
            recovery: None,
            unknown: Unknown::default(),
        };
        for field in Fields::new(bytes, WHAT) {
            let field = field?;
            match field.number {
                1 => role = Some(Role::from_number(field.number_value()?)?),
                2 => keyring
                    .generations
                    .push(decode_generation(field.listed().bytes()?)?),
                3 => keyring.admin = Some(Secret::from_field(&field)?),
                4 => keyring.data_root = Some(Secret::from_field(&field)?),
                5 => keyring.meta_root = Some(Secret::from_field(&field)?),
                6 => chunker = Some(Secret::from_field(&field)?),
                7 => keyring.own_domain = Some(decode_own_domain(field.bytes()?)?),
                8 => keyring.own_writer = Some(Secret::from_field(&field)?),
                9 => keyring.recovery = Some(Secret::from_field(&field)?),
                _ => field.unknown(&mut keyring.unknown)?,
            }
        }
        keyring.role = role.ok_or(FormatError::Truncated(WHAT))?;
        keyring.chunker = chunker.ok_or(FormatError::Truncated(WHAT))?;
        let complete = match keyring.role {
            Role::Full => {
                keyring.admin.is_some()
                    && keyring.data_root.is_some()
                    && keyring.meta_root.is_some()
            }
            Role::Prune => keyring.admin.is_some() && keyring.meta_root.is_some(),
            Role::WriteOnly => keyring.own_domain.is_some() && keyring.own_writer.is_some(),
        };
        if !complete || keyring.generations.is_empty() {
            return Err(FormatError::Truncated(WHAT));
        }
        Ok(keyring)
    }
}

fn domain_key(root: &Secret, recipient: Recipient, domain: u32) -> Secret {
    let mut material = zeroize::Zeroizing::new([0_u8; 37]);
    let mut parts = material.iter_mut();
    let source = root
        .bytes()
        .iter()
        .copied()
        .chain([recipient as u8])
        .chain(domain.to_le_bytes());
    parts.by_ref().zip(source).for_each(|(to, from)| *to = from);
    Secret(blake3::derive_key(context::CHUNK_ID, material.as_slice()))
}

fn decode_generation(bytes: &[u8]) -> Result<Generation, FormatError> {
    const WHAT: &str = "a generation of keys";
    let mut generation = Generation {
        number: 0,
        data_public: [0; 32],
        meta_public: [0; 32],
        data_secret: None,
        meta_secret: None,
    };
    let mut unknown = Unknown::default();
    let mut seen = 0;
    for field in Fields::new(bytes, WHAT) {
        let field = field?;
        seen |= 1_u8 << (field.number & 7);
        match field.number {
            1 => generation.number = field.small()?,
            2 => generation.data_public = field.array()?,
            3 => generation.meta_public = field.array()?,
            4 => generation.data_secret = Some(Secret::from_field(&field)?),
            5 => generation.meta_secret = Some(Secret::from_field(&field)?),
            _ => field.unknown(&mut unknown)?,
        }
    }
    if seen & 0b1110 == 0b1110 {
        Ok(generation)
    } else {
        Err(FormatError::Truncated(WHAT))
    }
}

fn decode_own_domain(bytes: &[u8]) -> Result<DomainKeys, FormatError> {
    const WHAT: &str = "a writer's own domain";
    let (mut domain, mut data, mut meta, mut unknown) = (0, None, None, Unknown::default());
    for field in Fields::new(bytes, WHAT) {
        let field = field?;
        match field.number {
            1 => domain = field.small()?,
            2 => data = Some(Secret::from_field(&field)?),
            3 => meta = Some(Secret::from_field(&field)?),
            _ => field.unknown(&mut unknown)?,
        }
    }
    Ok(DomainKeys {
        domain,
        data,
        meta: meta.ok_or(FormatError::Truncated(WHAT))?,
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Replayable bytes for tests.
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

    #[test]
    fn each_role_holds_what_it_may_and_no_more() {
        let mut entropy = Counted(0);
        let full = Keyring::create(&mut entropy);
        let full = Keyring::decode(&full.encode()).unwrap();
        assert!(full.secret(Recipient::Data, 1).is_some() && full.recovery.is_some());

        let prune = Keyring::decode(&full.reduced(Role::Prune, None).unwrap().encode()).unwrap();
        assert!(
            prune.secret(Recipient::Data, 1).is_none()
                && prune.secret(Recipient::Meta, 1).is_some()
        );
        assert!(prune.data_root.is_none() && prune.recovery.is_none() && prune.admin.is_some());
        assert!(prune.domain(0).unwrap().key(Recipient::Data).is_err());
        assert_eq!(
            prune.domain(0).unwrap().meta.bytes(),
            full.domain(0).unwrap().meta.bytes()
        );

        let own = Some((77, Secret::random(&mut entropy)));
        let write = Keyring::decode(&full.reduced(Role::WriteOnly, own).unwrap().encode()).unwrap();
        assert!(
            write.secret(Recipient::Data, 1).is_none()
                && write.secret(Recipient::Meta, 1).is_none()
        );
        assert!(
            write.admin.is_none()
                && write.meta_root.is_none()
                && write.data_root.is_none()
                && write.recovery.is_none()
        );
        assert!(write.domain(0).is_err());
        assert_eq!(
            write.domain(77).unwrap().meta.bytes(),
            full.domain(77).unwrap().meta.bytes()
        );

        assert!(
            prune.reduced(Role::Full, None).unwrap().data_root.is_none(),
            "a role is never raised"
        );
        assert!(write.reduced(Role::Prune, None).is_err());
    }

    #[test]
    fn domains_and_recipients_name_the_same_content_differently() {
        let full = Keyring::create(&mut Counted(5));
        let (a, b) = (full.domain(0).unwrap(), full.domain(1).unwrap());
        let ids = [
            chunk_id(a.key(Recipient::Data).unwrap(), b"x"),
            chunk_id(a.key(Recipient::Meta).unwrap(), b"x"),
            chunk_id(b.key(Recipient::Data).unwrap(), b"x"),
            chunk_id(b.key(Recipient::Meta).unwrap(), b"x"),
        ];
        for (index, id) in ids.iter().enumerate() {
            assert!(!ids[..index].contains(id));
        }
    }

    #[test]
    fn hpke_opens_only_with_the_right_key_info_and_data() {
        let mut entropy = Counted(1);
        let (secret, public) = recipient_pair(&mut entropy);
        let (key, sealed) = hpke_seal(&public, b"info", b"data", b"text", &mut entropy);
        assert_eq!(
            hpke_open(&secret, &key, b"info", b"data", &sealed, "it").unwrap(),
            b"text"
        );
        assert!(hpke_open(&secret, &key, b"other", b"data", &sealed, "it").is_err());
        assert!(hpke_open(&secret, &key, b"info", b"other", &sealed, "it").is_err());
        let (other, _) = recipient_pair(&mut entropy);
        assert!(hpke_open(&other, &key, b"info", b"data", &sealed, "it").is_err());
    }
}
