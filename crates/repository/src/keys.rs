//! Making a repository, and its key slots: list, add, remove, rotate.
//!
//! No change of keys ever rewrites a pack. Removing a slot shuts out whoever has only its secret and no copy of the
//! slot; rotating also keeps those who copied it from reading what is written from then on.

use std::sync::Arc;

use lifeboat_codec::{
    Author, Authors, FamilyId, Generation, Header, KeyFile, Keyring, Kind, NewSlot, ReplicaId,
    Revocation, Role, RunId, SUPERBLOCK, Secret, Slot, SlotId, SlotInfo, SlotType, Stretch,
    Superblock, WriterId, clear_object, create_slot, parse_slot_name, revocation_name, version_of,
};
use lifeboat_store::{Body, ErrorKind, Store};
use thiserror::Error;

use crate::repository::{OpenError, ReadError, Repository, object_name};
use crate::surroundings::Surroundings;
use crate::write_error::WriteError;

/// A repository could not be made.
#[derive(Debug, Error)]
pub enum CreateError {
    /// There is one already.
    #[error("there is a repository at this place already")]
    Exists,
    /// Something could not be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// It could not be opened afterwards.
    #[error(transparent)]
    Open(#[from] OpenError),
}

/// What a new slot is opened with.
pub enum NewSecret<'a> {
    /// A person's words.
    Passphrase(&'a [u8]),
    /// What a command prints.
    Command(&'a [u8]),
    /// A key file, whose content is returned.
    KeyFile,
}

/// A repository that was just made.
pub struct Created {
    /// The repository, open.
    pub repository: Repository,
    /// The recovery key, to be shown once.
    pub recovery: Secret,
    /// The key file's content, where one was asked for.
    pub key_file: Option<KeyFile>,
}

/// A slot in the list.
#[derive(Clone, Debug)]
pub struct ListedSlot {
    /// What stands in it in clear.
    pub info: SlotInfo,
    /// True for the slot that opened the repository.
    pub current: bool,
    /// True when a rotation left it out: it holds older keys than the one that opened the repository.
    pub outdated: bool,
}

impl Repository {
    /// Makes a repository in an empty store. The superblock is written last: before it there is no repository.
    ///
    /// # Errors
    /// When there is one already, or something cannot be written.
    pub fn create(
        store: Arc<dyn Store>,
        secrets: &[NewSecret<'_>],
        surroundings: Surroundings,
    ) -> Result<Created, CreateError> {
        let keyring = surroundings.with_entropy(Keyring::create);
        let random = || {
            surroundings.with_entropy(|entropy| {
                let mut id = [0; 16];
                entropy.fill(&mut id);
                id
            })
        };
        let (family, replica) = (FamilyId(random()), ReplicaId(random()));
        Self::create_with(store, secrets, keyring, family, replica, surroundings)
    }

    /// Makes a replica: a repository of the same family, which takes over packs as they are.
    ///
    /// # Errors
    /// When there is a repository already, or this key may not make one.
    pub fn create_replica(
        &self,
        store: Arc<dyn Store>,
        secrets: &[NewSecret<'_>],
        surroundings: Surroundings,
    ) -> Result<Created, CreateError> {
        if self.role() != Role::Full {
            return Err(WriteError::Role("make a replica").into());
        }
        let mut keyring = self
            .keyring
            .reduced(Role::Full, None)
            .map_err(WriteError::from)?;
        if self.recovery_slot().map_err(WriteError::from)?.is_none() {
            // A key that was removed here must not open the replica.
            keyring.recovery = Some(self.surroundings.with_entropy(Secret::random));
        }
        let created = Self::create_with(
            store,
            secrets,
            keyring,
            self.family(),
            ReplicaId(self.random()),
            surroundings,
        )?;
        Ok(created)
    }

    fn create_with(
        store: Arc<dyn Store>,
        secrets: &[NewSecret<'_>],
        keyring: Keyring,
        family: FamilyId,
        replica: ReplicaId,
        surroundings: Surroundings,
    ) -> Result<Created, CreateError> {
        match store.get(&object_name(SUPERBLOCK), 1 << 20) {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(WriteError::from(error).into()),
            Ok(_) => return Err(CreateError::Exists),
        }
        let admin = Author::new(keyring.admin.as_ref().expect("a new keyring has an admin"));
        let now = (surroundings.now_ms)();
        let superblock = Superblock::create(family, replica, admin.public(), now);
        let record = superblock.encode();
        let maker = SlotMaker {
            keyring: &keyring,
            family,
            superblock: &record,
            admin: &admin,
            now,
            surroundings: &surroundings,
        };
        let recovery = maker.put_recovery(store.as_ref())?;
        let (mut key_file, mut slot) = (None, None);
        for secret in secrets {
            let (id, file) =
                maker.put_secret(store.as_ref(), secret, "made with the repository")?;
            slot = slot.or(Some(id));
            key_file = key_file.or(file);
        }
        let header = Header::named(Kind::Superblock, family, RunId([0; 16]), now, SUPERBLOCK);
        let (object, _) = clear_object(&header, SUPERBLOCK, &record, &admin);
        match store.put_new(&object_name(SUPERBLOCK), Body::Bytes(&object)) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                return Err(CreateError::Exists);
            }
            Err(error) => return Err(WriteError::from(error).into()),
        }
        let authors = Authors::new(admin.public());
        let repository = Self::assemble(
            store,
            superblock,
            keyring,
            authors,
            slot.unwrap_or(SlotId([0; 16])),
            surroundings,
        )?;
        Ok(Created {
            repository,
            recovery,
            key_file,
        })
    }

    /// The key slots, oldest first; sentences for those that are damaged.
    ///
    /// # Errors
    /// When the store cannot be listed.
    pub fn slots(&self) -> Result<(Vec<ListedSlot>, Vec<String>), ReadError> {
        let (mut slots, mut damaged): (Vec<ListedSlot>, Vec<String>) = (Vec::new(), Vec::new());
        let newest = version_of(&self.keyring);
        for (name, slot) in self.own_slots()? {
            match slot {
                // Of several versions of one slot the newest comes first.
                Ok(slot) if slots.iter().all(|known| known.info.id != slot.info.id) => {
                    slots.push(ListedSlot {
                        current: slot.info.id == self.slot,
                        outdated: parse_slot_name(&name)
                            .is_some_and(|(_, version)| version < newest),
                        info: slot.info,
                    });
                }
                Ok(_) => {}
                Err(error) => damaged.push(crate::snapshots::sentence(&error)),
            }
        }
        slots.sort_by_key(|slot| (slot.info.created_ms, slot.info.id));
        Ok((slots, damaged))
    }

    /// Adds a slot for `role`; write-only ones are enrolled as a writer of their own.
    ///
    /// # Errors
    /// When this key may not give that role, a slot opens with the same words already, or the slot cannot be written.
    pub fn add_slot(
        &mut self,
        secret: &NewSecret<'_>,
        role: Role,
        label: &str,
    ) -> Result<(SlotId, Option<KeyFile>), KeyError> {
        self.may_write()?;
        let admin = self.admin().ok_or(WriteError::Role("add a key"))?;
        if role == Role::Full && self.role() != Role::Full {
            return Err(WriteError::Role("give a role that it does not have").into());
        }
        if let NewSecret::Passphrase(words) | NewSecret::Command(words) = secret
            && let Some(id) = self.slot_of_words(words)?
        {
            return Err(KeyError::SameWords(id.short()));
        }
        let own = if role == Role::WriteOnly {
            let seed = Secret::new(self.random());
            let domain = u32::from_le_bytes(self.random()).max(1);
            self.enrol(&Author::new(&seed), domain, role, &admin)?;
            Some((domain, seed))
        } else {
            None
        };
        let keyring = self.keyring.reduced(role, own).map_err(WriteError::from)?;
        let record = self.superblock.encode();
        let maker = self.slot_maker(&keyring, &record, &admin);
        Ok(maker.put_secret(self.store.as_ref(), secret, label)?)
    }

    /// The slot that opens with these words, which are stretched anew for each.
    fn slot_of_words(&self, words: &[u8]) -> Result<Option<SlotId>, ReadError> {
        let is_of_words = |slot: &Slot| {
            matches!(
                slot.info.slot_type,
                SlotType::Passphrase | SlotType::Command
            )
        };
        let mut tried: Vec<SlotId> = Vec::new();
        for slot in self
            .own_slots()?
            .into_iter()
            .filter_map(|(_, slot)| slot.ok())
        {
            if !is_of_words(&slot) || tried.contains(&slot.info.id) {
                continue;
            }
            tried.push(slot.info.id);
            if let Ok(Some(_)) = slot.open(words) {
                return Ok(Some(slot.info.id));
            }
        }
        Ok(None)
    }

    /// Removes all versions of a slot.
    ///
    /// # Errors
    /// When there is none, it is the one in use or the last that holds everything, or it cannot be deleted.
    pub fn remove_slot(&self, id: SlotId) -> Result<(), KeyError> {
        self.may_write()?;
        if self.admin().is_none() {
            return Err(WriteError::Role("remove a key").into());
        }
        let (slots, _) = self.slots()?;
        if slots.iter().all(|slot| slot.info.id != id) {
            return Err(KeyError::NoSlot);
        }
        if id == self.slot {
            return Err(KeyError::InUse);
        }
        if !slots
            .iter()
            .any(|slot| slot.info.id != id && slot.info.role == Role::Full)
        {
            return Err(KeyError::Last);
        }
        Ok(self.delete_slot(id)?)
    }

    /// Deletes all versions of a slot.
    fn delete_slot(&self, id: SlotId) -> Result<(), WriteError> {
        for (name, _) in self.list("keys/")? {
            if parse_slot_name(name.as_str()).is_some_and(|(slot, _)| slot == id) {
                self.store.delete(&name)?;
            }
        }
        Ok(())
    }

    /// Draws new recipients' keys, and hands them to every slot that stays, but write-only ones: what these hold besides is
    /// known to them alone, so that they go on sealing to the old keys and are [`ListedSlot::outdated`] until they are
    /// replaced. What was written before stays readable for those who have the new keyring; what others write from now on
    /// is not for those who only have the old one.
    ///
    /// # Errors
    /// When the key may not, a slot cannot be written, or another slot has newer keys than this one. Half done it is whole:
    /// each slot opens old data, and rotating again with one that was handed the newest keys completes it.
    pub fn rotate(&mut self) -> Result<u16, KeyError> {
        self.renew(None)
    }

    /// Draws a new recovery key, and new recipients' keys as [`rotate`](Self::rotate) does: every version of a slot holds
    /// the recovery key, and there is one version for each generation. The old recovery key opens nothing from then on.
    ///
    /// # Errors
    /// As for `rotate`; and when the old recovery key opened the repository for this very run.
    pub fn replace_recovery(&mut self) -> Result<u16, KeyError> {
        let recovery = self.surroundings.with_entropy(Secret::random);
        self.renew(Some(recovery))
    }

    fn renew(&mut self, recovery: Option<Secret>) -> Result<u16, KeyError> {
        self.may_write()?;
        let admin = self
            .admin()
            .filter(|_| self.role() == Role::Full)
            .ok_or(WriteError::Role("rotate the keys"))?;
        let number = self
            .keyring
            .newest()
            .number
            .checked_add(1)
            .ok_or(WriteError::Role("rotate more than 65,535 times"))?;
        // What somebody else put there must not be handed the new keys.
        let mut slots = Vec::new();
        for (name, slot) in self.own_slots()? {
            match slot {
                Ok(slot) => slots.push((name, slot)),
                // Rubbish has no holder. What the store only failed to give now would be left out of all that is to come.
                Err(ReadError::Format { .. }) => {}
                Err(error) if error.is_missing() => {}
                Err(error) => return Err(error.into()),
            }
        }
        let newest = version_of(&self.keyring);
        if let Some((_, ahead)) = slots
            .iter()
            .find(|(name, _)| parse_slot_name(name).is_some_and(|(_, version)| version > newest))
        {
            // Its generation is not in this keyring: to go on would take it from every slot that has it, and with it
            // everything that was sealed to it.
            return Err(KeyError::Behind(ahead.info.label.clone()));
        }
        let is_new = recovery.is_some();
        let (old, slots): (Vec<_>, Vec<_>) = slots
            .into_iter()
            .partition(|(_, slot)| is_new && slot.info.slot_type == SlotType::Recovery);
        let mut replaced: Vec<SlotId> = old.iter().map(|(_, slot)| slot.info.id).collect();
        replaced.dedup();
        if replaced.contains(&self.slot) {
            return Err(KeyError::InUse);
        }
        let generation = self
            .surroundings
            .with_entropy(|entropy| Generation::random(number, entropy));
        self.keyring.generations.push(generation);
        let before = match recovery {
            Some(new) => self.keyring.recovery.replace(new),
            None => None,
        };
        // The slot of a new recovery key comes after the others: when two do this at the same time, one fails at the
        // first of those, and must not leave a slot behind that alone has newer keys.
        let handed_out = self.hand_out(&slots, &admin).and_then(|()| match is_new {
            true => self.put_recovery(&admin),
            false => Ok(()),
        });
        if let Err(error) = handed_out {
            // Nobody may hold it yet: nothing may be sealed to it.
            self.keyring.generations.pop();
            if is_new {
                self.keyring.recovery = before;
            }
            return Err(error.into());
        }
        // Last: until the new recovery key has its slot, the old one keeps its own.
        for id in replaced {
            self.delete_slot(id)?;
        }
        Ok(number)
    }

    /// Writes the slot of the keyring's recovery key.
    fn put_recovery(&self, admin: &Author) -> Result<(), WriteError> {
        let keyring = self.keyring.reduced(Role::Full, None)?;
        let record = self.superblock.encode();
        let maker = self.slot_maker(&keyring, &record, admin);
        maker.put_recovery(self.store.as_ref())?;
        Ok(())
    }

    fn slot_maker<'a>(
        &'a self,
        keyring: &'a Keyring,
        superblock: &'a [u8],
        admin: &'a Author,
    ) -> SlotMaker<'a> {
        SlotMaker {
            keyring,
            family: self.family(),
            superblock,
            admin,
            now: self.now_ms(),
            surroundings: &self.surroundings,
        }
    }

    /// Gives every slot a version with the keyring as it is now, and deletes the others.
    fn hand_out(&self, slots: &[(String, Slot)], admin: &Author) -> Result<(), WriteError> {
        let mut done: Vec<SlotId> = Vec::new();
        // In the order of their names: of two that rotate at the same time, one fails at the first slot, before it has
        // handed out anything.
        for (_, slot) in slots {
            if done.contains(&slot.info.id) || slot.info.role == Role::WriteOnly {
                continue;
            }
            done.push(slot.info.id);
            let keyring = self.keyring.reduced(slot.info.role, None)?;
            let now = self.now_ms();
            let (name, object) = self
                .surroundings
                .with_entropy(|entropy| slot.renew(&keyring, admin, now, entropy));
            self.store
                .put_new(&object_name(&name), Body::Bytes(&object))?;
        }
        // Old versions go last: until then every slot has one that opens. One that stays behind is passed over.
        for (name, _) in slots
            .iter()
            .filter(|(_, slot)| done.contains(&slot.info.id))
        {
            let _ = self.store.delete(&object_name(name));
        }
        Ok(())
    }

    /// No longer believes a writer. Its snapshots of now still count, and what it stored stays where others use it.
    ///
    /// # Errors
    /// When the key may not, the snapshots cannot be listed, or the revocation cannot be written.
    pub fn revoke(&mut self, writer: WriterId, reason: &str) -> Result<(), WriteError> {
        self.may_write()?;
        let admin = self.admin().ok_or(WriteError::Role("revoke a writer"))?;
        let list = self.snapshots()?;
        let own = list
            .snapshots
            .iter()
            .filter(|snapshot| snapshot.name.writer == writer);
        let mut kept = Vec::new();
        for snapshot in own {
            kept.push(snapshot.hash);
            kept.push(self.sealed(&snapshot.name.confirm(), "a confirm")?.hash);
        }
        let name = revocation_name(writer);
        let record = Revocation {
            writer,
            revoked_ms: self.now_ms(),
            reason: reason.to_owned(),
            kept: kept.clone(),
        };
        let header = Header::named(
            Kind::Revocation,
            self.family(),
            RunId([0; 16]),
            record.revoked_ms,
            &name,
        );
        let (object, _) = clear_object(&header, &name, &record.encode(), &admin);
        self.store
            .put_new(&object_name(&name), Body::Bytes(&object))?;
        self.authors.revoke(writer, kept);
        Ok(())
    }

    /// The recovery key.
    ///
    /// # Errors
    /// When this key may not show it, the slots cannot be read, or none opens with it any more.
    pub fn recovery(&self) -> Result<&Secret, KeyError> {
        let secret = self.keyring.recovery.as_ref();
        let secret = secret.ok_or(WriteError::Role("show the recovery key"))?;
        self.recovery_slot()?.ok_or(KeyError::NoRecovery)?;
        Ok(secret)
    }

    /// The slot that opens with the keyring's recovery key.
    fn recovery_slot(&self) -> Result<Option<SlotId>, ReadError> {
        let Some(secret) = &self.keyring.recovery else {
            return Ok(None);
        };
        for (_, slot) in self.own_slots()? {
            match slot {
                Ok(slot) if slot.info.slot_type == SlotType::Recovery => {
                    if let Ok(Some(_)) = slot.open(secret.bytes()) {
                        return Ok(Some(slot.info.id));
                    }
                }
                Ok(_) | Err(ReadError::Format { .. }) => {}
                Err(error) if error.is_missing() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }
}

/// A change of keys failed.
#[derive(Debug, Error)]
pub enum KeyError {
    /// There is no such slot.
    #[error("there is no such key")]
    NoSlot,
    /// It opened the repository for this very run.
    #[error("this key is the one in use")]
    InUse,
    /// Without it nobody could read everything.
    #[error("this is the last key that can read everything")]
    Last,
    /// The slot with this id opens with the same words already.
    #[error("the key {0} opens with this passphrase already")]
    SameWords(String),
    /// It was removed.
    #[error("the recovery key of this repository was removed")]
    NoRecovery,
    /// Another key, with this label, was handed a generation that this one was not: a rotation ended early.
    #[error("the key {0:?} has newer keys than this one: a rotation ended before it was done")]
    Behind(String),
    /// Something could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// Something could not be written.
    #[error(transparent)]
    Write(#[from] WriteError),
}

struct SlotMaker<'a> {
    keyring: &'a Keyring,
    family: FamilyId,
    superblock: &'a [u8],
    admin: &'a Author,
    now: u64,
    surroundings: &'a Surroundings,
}

impl SlotMaker<'_> {
    /// The slot of the keyring's own recovery key, which comes back.
    fn put_recovery(&self, store: &dyn Store) -> Result<Secret, WriteError> {
        let secret = self.keyring.recovery.as_ref();
        let secret = secret.expect("a full keyring has a recovery secret");
        self.put(store, SlotType::Recovery, secret.bytes(), "recovery key")?;
        Ok(secret.duplicate())
    }

    fn put_secret(
        &self,
        store: &dyn Store,
        secret: &NewSecret<'_>,
        label: &str,
    ) -> Result<(SlotId, Option<KeyFile>), WriteError> {
        match secret {
            NewSecret::Passphrase(words) => {
                Ok((self.put(store, SlotType::Passphrase, words, label)?, None))
            }
            NewSecret::Command(words) => {
                Ok((self.put(store, SlotType::Command, words, label)?, None))
            }
            NewSecret::KeyFile => {
                let secret = self.surroundings.with_entropy(Secret::random);
                let slot = self.put(store, SlotType::KeyFile, secret.bytes(), label)?;
                Ok((
                    slot,
                    Some(KeyFile {
                        family: self.family,
                        slot,
                        admin: self.admin.public(),
                        secret,
                    }),
                ))
            }
        }
    }

    fn put(
        &self,
        store: &dyn Store,
        slot_type: SlotType,
        secret: &[u8],
        label: &str,
    ) -> Result<SlotId, WriteError> {
        let new = NewSlot {
            slot_type,
            secret,
            label,
            stretch: Stretch::DEFAULT,
            keyring: self.keyring,
            family: self.family,
            superblock: self.superblock,
            created_ms: self.now,
        };
        let (id, name, object) = self
            .surroundings
            .with_entropy(|entropy| create_slot(&new, self.admin, entropy))?;
        store.put_new(&object_name(&name), Body::Bytes(&object))?;
        Ok(id)
    }
}
