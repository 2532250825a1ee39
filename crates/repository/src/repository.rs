//! A repository that is open: its store, its keys, whom it believes.
//!
//! Everything that is read from a store passes through here: the frame is verified, the kind and family are held
//! against the name, the seal is opened and the signature checked, before any other file sees a record.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock};

use lifeboat_codec::{
    Author, Authors, Envelope, FamilyId, FormatError, Frame, Keyring, Kind, Opened, Revocation,
    RunKey, SUPERBLOCK, Secret, SignerKey, Slot, Superblock, WriterRecord, open_clear, open_object,
    parse_name, parse_slot_name, signer_id,
};
use lifeboat_store::{ErrorKind, ObjectName, Store};
use thiserror::Error;

use crate::cache::Cache;
use crate::lookup::Lookup;
use crate::near::Near;
use crate::state::{State, StateError};
use crate::surroundings::Surroundings;

/// No object but a pack is larger; the limit stands before any allocation.
pub(crate) const OBJECT_MAX: u64 = 256 << 20;
const SMALL_OBJECT_MAX: u64 = 1 << 20;

/// Something in the repository could not be read.
#[derive(Debug, Error)]
pub enum ReadError {
    /// The store did not give it.
    #[error("the storage does not give the repository's data")]
    Store(#[from] lifeboat_store::Error),
    /// The store gave something else than was written.
    #[error("{object} is not what was written")]
    Format {
        /// The object's name.
        object: String,
        /// What is wrong with it.
        #[source]
        source: FormatError,
    },
    /// A chunk that a snapshot needs is in no pack.
    #[error("chunk {0} is in no pack of the repository")]
    MissingChunk(lifeboat_codec::ChunkId),
}

impl ReadError {
    pub(crate) fn format(object: impl Into<String>, source: FormatError) -> Self {
        Self::Format {
            object: object.into(),
            source,
        }
    }

    /// True when an object or chunk is not there at all.
    #[must_use]
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::MissingChunk(_))
            || matches!(self, Self::Store(error) if error.kind() == ErrorKind::NotFound)
    }
}

/// A repository could not be opened.
#[derive(Debug, Error)]
pub enum OpenError {
    /// There is none.
    #[error("there is no repository at this place")]
    NoRepository,
    /// No slot opens with the secret that was given.
    #[error("the {0} does not open this repository")]
    WrongKey(&'static str),
    /// The key file or recovery key belongs to another repository.
    #[error("the key belongs to another repository")]
    OtherRepository,
    /// It is whole, and of a format that this program does not have.
    #[error("the repository is of another version of the format")]
    Version(#[source] FormatError),
    /// Something could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// Local state could not be used.
    #[error(transparent)]
    State(#[from] StateError),
}

impl From<lifeboat_store::Error> for OpenError {
    fn from(error: lifeboat_store::Error) -> Self {
        Self::Read(ReadError::Store(error))
    }
}

/// What opens a repository.
pub enum Unlock<'a> {
    /// A person's or a command's words.
    Passphrase(&'a [u8]),
    /// A key file.
    KeyFile(&'a lifeboat_codec::KeyFile),
    /// The words on paper.
    Recovery(&'a Secret),
}

/// One open repository.
pub struct Repository {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) superblock: Superblock,
    pub(crate) keyring: Keyring,
    pub(crate) authors: Authors,
    pub(crate) state: State,
    pub(crate) cache: Arc<Cache>,
    pub(crate) surroundings: Surroundings,
    pub(crate) lookup: OnceLock<Arc<Lookup>>,
    pub(crate) slot: lifeboat_codec::SlotId,
    /// By the whole envelope: one that was changed, or made up, has another's id but must not get its key.
    run_keys: Mutex<HashMap<Envelope, Arc<RunKey>>>,
    pub(crate) near: Near,
}

impl Repository {
    /// Opens the repository in `store`.
    ///
    /// # Errors
    /// When there is none, no slot opens, or something was changed.
    pub fn open(
        store: Arc<dyn Store>,
        unlock: &Unlock<'_>,
        surroundings: Surroundings,
    ) -> Result<Self, OpenError> {
        let bytes = match store.get(&object_name(SUPERBLOCK), SMALL_OBJECT_MAX) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Err(OpenError::NoRepository);
            }
            Err(error) => return Err(error.into()),
        };
        let frame = read_frame(SUPERBLOCK, &bytes, None)?;
        let wrong = |source| ReadError::format(SUPERBLOCK, source);
        // Feature bits come first: a newer repository must say so, not fail somewhere later.
        let claimed = Superblock::decode(&unsigned_record(&frame).map_err(wrong)?)
            .map_err(OpenError::Version)?;
        let (slot, opened) = open_slot(store.as_ref(), unlock, claimed.family)?;
        let authors = Authors::new(opened.admin);
        let record = open_clear(&frame, SUPERBLOCK, &authors, "the superblock")
            .map_err(wrong)?
            .record;
        let superblock = Superblock::decode(&record).map_err(wrong)?;
        if opened.family != superblock.family {
            return Err(OpenError::OtherRepository);
        }
        Self::assemble(
            store,
            superblock,
            opened.keyring,
            authors,
            slot,
            surroundings,
        )
    }

    pub(crate) fn assemble(
        store: Arc<dyn Store>,
        superblock: Superblock,
        keyring: Keyring,
        authors: Authors,
        slot: lifeboat_codec::SlotId,
        surroundings: Surroundings,
    ) -> Result<Self, OpenError> {
        let state = State::open(&surroundings.state, superblock.family)?;
        let sum_key = blake3::derive_key("lifeboat 1 cache sum", keyring.chunker.bytes());
        let cache = Cache::open(
            surroundings.cache.as_deref(),
            superblock.family,
            superblock.replica,
            sum_key,
        );
        let mut repository = Self {
            store,
            superblock,
            keyring,
            authors,
            state,
            cache: Arc::new(cache),
            surroundings,
            lookup: OnceLock::new(),
            slot,
            run_keys: Mutex::new(HashMap::new()),
            near: Near::default(),
        };
        repository.read_writers()?;
        Ok(repository)
    }

    /// All versions of all key slots, as [`read_slots`], but an error for those that the admin did not make.
    ///
    /// # Errors
    /// When the store cannot be listed.
    pub(crate) fn own_slots(&self) -> Result<Vec<NamedSlot>, ReadError> {
        let mut slots = read_slots(self.store.as_ref())?;
        for (name, slot) in &mut slots {
            let refused = slot
                .as_ref()
                .ok()
                .and_then(|slot| slot.verify(self.authors.admin()).err());
            if let Some(source) = refused {
                *slot = Err(ReadError::format(name.as_str(), source));
            }
        }
        Ok(slots)
    }

    /// The superblock.
    #[must_use]
    pub fn superblock(&self) -> &Superblock {
        &self.superblock
    }

    /// What this key may do.
    #[must_use]
    pub fn role(&self) -> lifeboat_codec::Role {
        self.keyring.role
    }

    /// The slot that opened the repository.
    #[must_use]
    pub fn slot(&self) -> lifeboat_codec::SlotId {
        self.slot
    }

    /// The store below.
    #[must_use]
    pub fn store(&self) -> &dyn Store {
        self.store.as_ref()
    }

    /// Now, in unix milliseconds.
    #[must_use]
    pub fn now_ms(&self) -> u64 {
        (self.surroundings.now_ms)()
    }

    pub(crate) fn family(&self) -> FamilyId {
        self.superblock.family
    }

    /// The admin, where the key may act as one.
    pub(crate) fn admin(&self) -> Option<Author> {
        self.keyring.admin.as_ref().map(Author::new)
    }

    /// Reads whom the admin enrolled and revoked.
    pub(crate) fn read_writers(&mut self) -> Result<(), ReadError> {
        let names = self.list("writers/")?;
        let mut revoked = Vec::new();
        for (name, _) in &names {
            match parse_name(name.as_str()).map(|parsed| parsed.kind) {
                Some(Kind::Writer) => {
                    let opened = self.clear(name.as_str(), "a writer's enrolment")?;
                    let writer = WriterRecord::decode(&opened.record)
                        .map_err(|source| ReadError::format(name.as_str(), source))?;
                    if opened.author != self.authors.admin_id()
                        || lifeboat_codec::writer_name(signer_id(&writer.enrolled.public))
                            != name.as_str()
                    {
                        return Err(ReadError::format(
                            name.as_str(),
                            FormatError::Signature("a writer's enrolment"),
                        ));
                    }
                    self.authors.enrol(writer.enrolled);
                }
                Some(Kind::Revocation) => revoked.push(name.clone()),
                _ => {}
            }
        }
        for name in revoked {
            let opened = self.clear(name.as_str(), "a revocation")?;
            let revocation = Revocation::decode(&opened.record)
                .map_err(|source| ReadError::format(name.as_str(), source))?;
            if opened.author != self.authors.admin_id() {
                return Err(ReadError::format(
                    name.as_str(),
                    FormatError::Signature("a revocation"),
                ));
            }
            self.authors.revoke(revocation.writer, revocation.kept);
        }
        Ok(())
    }

    /// Names and lengths of all objects below `prefix`, sorted.
    pub(crate) fn list(&self, prefix: &str) -> Result<Vec<(ObjectName, u64)>, ReadError> {
        let mut names = Vec::new();
        self.store
            .list(prefix, &mut |listed| names.push((listed.name, listed.len)))?;
        names.sort();
        Ok(names)
    }

    /// Reads an object whole and verifies that it is what its name says.
    pub(crate) fn object(&self, name: &str) -> Result<Vec<u8>, ReadError> {
        let bytes = self.store.get(&object_name(name), OBJECT_MAX)?;
        read_frame(name, &bytes, Some(self.family()))?;
        Ok(bytes)
    }

    /// Opens a clear signed object.
    pub(crate) fn clear(&self, name: &str, what: &'static str) -> Result<Opened, ReadError> {
        let bytes = self.object(name)?;
        let frame = Frame::decode(&bytes).map_err(|source| ReadError::format(name, source))?;
        open_clear(&frame, name, &self.authors, what)
            .map_err(|source| ReadError::format(name, source))
    }

    /// Opens a sealed object, from the cache where it was opened before.
    pub(crate) fn sealed(&self, name: &str, what: &'static str) -> Result<Opened, ReadError> {
        self.sealed_or(self.cache.object(name), name, what)
    }

    /// The same, where it was looked up in the cache before.
    pub(crate) fn sealed_or(
        &self,
        cached: Option<Opened>,
        name: &str,
        what: &'static str,
    ) -> Result<Opened, ReadError> {
        // A revoked author's word must not live on in the cache.
        if let Some(opened) = cached.filter(|opened| self.authors.knows(opened.author)) {
            return Ok(opened);
        }
        let bytes = self.object(name)?;
        let opened = self.open_sealed(name, &bytes, what)?;
        self.cache.keep_object(name, &opened);
        Ok(opened)
    }

    /// Opens a sealed object's bytes.
    pub(crate) fn open_sealed(
        &self,
        name: &str,
        bytes: &[u8],
        what: &'static str,
    ) -> Result<Opened, ReadError> {
        let wrong = |source| ReadError::format(name, source);
        let frame = Frame::decode(bytes).map_err(wrong)?;
        let bound_name = if frame.header.kind.named_by_content() {
            ""
        } else {
            name
        };
        open_object(
            &frame,
            bound_name,
            &self.authors,
            |envelope| self.run_key(envelope),
            what,
        )
        .map_err(wrong)
    }

    /// The key inside an envelope.
    pub(crate) fn run_key(&self, envelope: &Envelope) -> Result<Arc<RunKey>, FormatError> {
        let mut keys = self
            .run_keys
            .lock()
            .expect("no thread panics while it opens an envelope");
        if let Some(key) = keys.get(envelope) {
            return Ok(Arc::clone(key));
        }
        let key = Arc::new(envelope.open(&self.keyring, self.family())?);
        keys.insert(*envelope, Arc::clone(&key));
        Ok(key)
    }
}

/// A name that this program makes itself.
pub(crate) fn object_name(name: &str) -> ObjectName {
    name.parse()
        .expect("names of the format are names of a store")
}

/// Verifies an object's frame and holds kind, family and hash against its name.
pub(crate) fn read_frame<'a>(
    name: &str,
    bytes: &'a [u8],
    family: Option<FamilyId>,
) -> Result<Frame<'a>, ReadError> {
    let wrong = |source| ReadError::format(name, source);
    let frame = Frame::decode(bytes).map_err(wrong)?;
    let parsed =
        parse_name(name).ok_or_else(|| wrong(FormatError::Invalid("no object has this name")))?;
    let named = match parsed.hash {
        Some(hash) => hash == frame.hash,
        None => frame.header.key_tag == lifeboat_codec::key_tag(name),
    };
    if parsed.kind != frame.header.kind
        || !named
        || family.is_some_and(|family| family != frame.header.family)
    {
        return Err(wrong(FormatError::Invalid(
            "another object stands under this name",
        )));
    }
    Ok(frame)
}

/// The record of a clear object before anyone is believed; only for feature bits.
fn unsigned_record(frame: &Frame<'_>) -> Result<Vec<u8>, FormatError> {
    let mut input = lifeboat_codec::Input::new(frame.body, "the superblock");
    let length = input.u32()? as usize;
    let signed = input.take(length)?;
    let record = length
        .checked_sub(80)
        .and_then(|length| signed.get(..length))
        .ok_or(FormatError::Truncated("the superblock"))?;
    Ok(record.to_vec())
}

/// A slot's name, and the slot or what is wrong with it.
pub(crate) type NamedSlot = (String, Result<Slot, ReadError>);

/// All versions of all slots, newest version first within a slot.
pub(crate) fn read_slots(store: &dyn Store) -> Result<Vec<NamedSlot>, ReadError> {
    let mut names = Vec::new();
    store.list("keys/", &mut |listed| names.push(listed.name))?;
    names.sort();
    names.reverse();
    let read = |name: &ObjectName| -> Result<Slot, ReadError> {
        let bytes = store.get(name, SMALL_OBJECT_MAX)?;
        let frame = read_frame(name.as_str(), &bytes, None)?;
        Slot::decode(&frame, name.as_str())
            .map_err(|source| ReadError::format(name.as_str(), source))
    };
    Ok(names
        .iter()
        .filter(|name| parse_slot_name(name.as_str()).is_some())
        .map(|name| (name.as_str().to_owned(), read(name)))
        .collect())
}

type OpenedSlot = (lifeboat_codec::SlotId, lifeboat_codec::OpenedSlot);

fn open_slot(
    store: &dyn Store,
    unlock: &Unlock<'_>,
    family: FamilyId,
) -> Result<OpenedSlot, OpenError> {
    use lifeboat_codec::SlotType::{Command, KeyFile, Passphrase, Recovery};
    let (what, secret, pinned): (_, &[u8], Option<&SignerKey>) = match unlock {
        Unlock::Passphrase(words) => ("passphrase", words, None),
        Unlock::KeyFile(file) => {
            if file.family != family {
                return Err(OpenError::OtherRepository);
            }
            ("key file", file.secret.bytes(), Some(&file.admin))
        }
        Unlock::Recovery(secret) => ("recovery key", secret.bytes(), None),
    };
    let mut first_failure = None;
    for (name, slot) in read_slots(store)? {
        let slot = match slot {
            // Left by another repository whose making ended early; the same passphrase may open it.
            Ok(slot) if slot.family() != family => continue,
            Ok(slot) => slot,
            // A damaged slot must not lock out the others.
            Err(error) => {
                first_failure.get_or_insert(error);
                continue;
            }
        };
        let fits = match unlock {
            Unlock::Passphrase(_) => matches!(slot.info.slot_type, Passphrase | Command),
            Unlock::KeyFile(file) => slot.info.slot_type == KeyFile && slot.info.id == file.slot,
            Unlock::Recovery(_) => slot.info.slot_type == Recovery,
        };
        if !fits {
            continue;
        }
        match slot.open(secret) {
            Ok(Some(opened)) if pinned.is_none_or(|pinned| *pinned == opened.admin) => {
                return Ok((slot.info.id, opened));
            }
            Ok(Some(_)) => return Err(OpenError::OtherRepository),
            Ok(None) => {}
            Err(source) => {
                first_failure.get_or_insert(ReadError::format(name, source));
            }
        }
    }
    match first_failure {
        Some(error) => Err(OpenError::Read(error)),
        None => Err(OpenError::WrongKey(what)),
    }
}
