//! The snapshots of a repository, and what was said about them.
//!
//! A snapshot exists once its confirm does. Both are held against each other, against the name and against who may
//! write there; whatever does not fit is reported, never shown as a snapshot.

use std::collections::{BTreeMap, BTreeSet};

use lifeboat_codec::{
    Confirm, FormatError, Head, Header, Kind, Manifest, Note, Notes, ObjectHash, Opened, RunId,
    SnapshotId, SnapshotName, Totals, WriterId, note_name,
};

use crate::repository::{ReadError, Repository, object_name};
use crate::write_error::WriteError;

/// A snapshot in the list.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Where it stands.
    pub name: SnapshotName,
    /// What it says.
    pub head: Head,
    /// Final hash of its object.
    pub hash: ObjectHash,
}

/// All snapshots and what is wrong with the rest.
#[derive(Debug, Default)]
pub struct SnapshotList {
    /// Oldest first.
    pub snapshots: Vec<Snapshot>,
    /// Intents without a confirm: runs that ended early, or are not done.
    pub unconfirmed: Vec<SnapshotName>,
    /// Sentences about objects that could not be read or do not fit.
    pub damaged: Vec<String>,
}

/// All notes and what is wrong with the rest.
#[derive(Debug, Default)]
pub struct NoteList {
    /// Those that count.
    pub notes: Notes,
    /// Sentences about objects that could not be read or do not fit. What only looks goes on without them; what deletes
    /// must not, for one of them may be a pin.
    pub damaged: Vec<String>,
}

/// What a list of snapshots lacks of what this machine wrote or copied.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Missing {
    /// Sentences about snapshots that this replica had: it was rolled back, or hides them.
    pub hidden: Vec<String>,
    /// Sentences about snapshots that only another replica was given.
    pub behind: Vec<String>,
}

/// A signature over a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReportSignature {
    /// Who signed.
    pub writer: WriterId,
    /// The writer's Ed25519 public key.
    pub public: [u8; 32],
    /// The signature.
    pub signature: [u8; 64],
}

/// What the store keeps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stored {
    /// Objects of every kind.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Packs among them.
    pub packs: u64,
    /// Chunks that the index knows.
    pub chunks: u64,
}

impl Repository {
    /// Lists the snapshots.
    ///
    /// # Errors
    /// When the store cannot be listed.
    pub fn snapshots(&self) -> Result<SnapshotList, ReadError> {
        let names = self.list("snap/")?;
        let listed: Vec<&str> = names.iter().map(|(name, _)| name.as_str()).collect();
        self.cache.retain_objects("snap/", &listed);
        let confirms: BTreeSet<SnapshotName> = listed
            .iter()
            .filter_map(|name| SnapshotName::parse(name))
            .filter(|(_, confirm)| *confirm)
            .map(|(name, _)| name)
            .collect();
        let mut cached = self.cache.objects("snap/");
        let mut list = SnapshotList::default();
        for name in listed
            .iter()
            .filter_map(|name| SnapshotName::parse(name))
            .filter(|(_, confirm)| !*confirm)
            .map(|(name, _)| name)
        {
            if !confirms.contains(&name) {
                list.unconfirmed.push(name);
                continue;
            }
            let (intent, confirm) = (name.intent(), name.confirm());
            let intent = self.sealed_or(cached.remove(&intent), &intent, "a snapshot");
            let confirm = self.sealed_or(cached.remove(&confirm), &confirm, "a confirm");
            let joined = intent.and_then(|intent| self.join(name, &intent, &confirm?));
            match joined {
                Ok(snapshot) => list.snapshots.push(snapshot),
                Err(error) if error.is_missing() => {}
                Err(error) => list.damaged.push(sentence(&error)),
            }
        }
        for name in confirms
            .iter()
            .filter(|name| listed.binary_search(&name.intent().as_str()).is_err())
        {
            list.damaged.push(format!(
                "snapshot {} has a confirm but its object is gone",
                name.id.short()
            ));
        }
        list.snapshots
            .sort_by_key(|snapshot| (snapshot.head.started_ms, snapshot.name));
        Ok(list)
    }

    /// Reads one snapshot and its confirm.
    ///
    /// # Errors
    /// When either cannot be read, or they do not fit each other, their name and their author.
    pub fn snapshot(&self, name: SnapshotName) -> Result<Snapshot, ReadError> {
        let intent = self.sealed(&name.intent(), "a snapshot")?;
        let confirm = self.sealed(&name.confirm(), "a confirm")?;
        self.join(name, &intent, &confirm)
    }

    /// Holds an opened snapshot, its confirm, their name and their authors against each other.
    pub(crate) fn join(
        &self,
        name: SnapshotName,
        opened: &Opened,
        confirm: &Opened,
    ) -> Result<Snapshot, ReadError> {
        let wrong = |source| ReadError::format(name.intent(), source);
        let head = Head::decode(&opened.record).map_err(wrong)?;
        let says = Confirm::decode(&confirm.record)
            .map_err(|source| ReadError::format(name.confirm(), source))?;
        let domain = self.authors.writer(name.writer).map(|writer| writer.domain);
        let may_write = |author, hash| {
            (author == name.writer || author == self.authors.admin_id())
                && self.authors.believes(author, hash)
        };
        if !may_write(opened.author, opened.hash)
            || !may_write(confirm.author, confirm.hash)
            || domain != Some(head.domain)
        {
            return Err(wrong(FormatError::Signature("a snapshot")));
        }
        if head.id != name.id || head.seq != name.seq || says.snapshot != opened.hash {
            return Err(wrong(FormatError::Invalid(
                "the snapshot, its name and its confirm do not fit each other",
            )));
        }
        Ok(Snapshot {
            name,
            head,
            hash: opened.hash,
        })
    }

    /// Reads a snapshot's details.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn manifest(&self, snapshot: &Snapshot) -> Result<Manifest, ReadError> {
        let bytes = self
            .reader(snapshot.head.domain)?
            .whole(&snapshot.head.manifest)?;
        Manifest::decode(&bytes).map_err(|source| ReadError::format("a manifest", source))
    }

    /// Reads all notes.
    ///
    /// # Errors
    /// When the store cannot be listed.
    pub fn notes(&self) -> Result<NoteList, ReadError> {
        let names = self.list("notes/")?;
        let mut notes = Vec::with_capacity(names.len());
        let mut damaged = Vec::new();
        for (name, _) in &names {
            match self.note(name.as_str()) {
                Ok(note) => notes.extend(note),
                Err(error) if error.is_missing() => {}
                Err(error) => damaged.push(sentence(&error)),
            }
        }
        Ok(NoteList {
            notes: Notes::merge(notes),
            damaged,
        })
    }

    /// Reads one note; nothing when its writer was revoked before it said that.
    fn note(&self, name: &str) -> Result<Option<(ObjectHash, Note)>, ReadError> {
        let opened = self.sealed(name, "a note")?;
        if !self.authors.believes(opened.author, opened.hash) {
            return Ok(None);
        }
        let note =
            Note::decode(&opened.record).map_err(|source| ReadError::format(name, source))?;
        Ok(Some((opened.hash, note)))
    }

    /// Says something about a snapshot.
    ///
    /// # Errors
    /// When it cannot be stored.
    pub fn say(&mut self, note: &Note) -> Result<(), WriteError> {
        self.may_write()?;
        let author = self.author()?;
        let run = RunId(self.random());
        let header = Header::by_content(Kind::Note, self.family(), run, self.now_ms());
        let record = note.encode();
        let (object, hash) = self.seal(&header, "", &record, &author);
        let name = note_name(hash);
        self.store
            .put_new(&object_name(&name), lifeboat_store::Body::Bytes(&object))?;
        self.cache.keep_object(
            &name,
            &Opened {
                record,
                author: author.id(),
                header,
                hash,
            },
        );
        Ok(())
    }

    /// Signs the text of a report that leaves the repository, as this machine's writer.
    ///
    /// # Errors
    /// When this key may not write.
    pub fn sign_report(&mut self, text: &str) -> Result<ReportSignature, WriteError> {
        self.may_write()?;
        let author = self.author()?;
        Ok(ReportSignature {
            writer: author.id(),
            public: author.public(),
            signature: author.sign_report(text),
        })
    }

    /// Holds the list against what this machine wrote or copied.
    ///
    /// # Errors
    /// When local state cannot be read.
    pub fn missing(&self, list: &SnapshotList) -> Result<Missing, crate::state::StateError> {
        let mut newest: BTreeMap<(WriterId, &str), u32> = BTreeMap::new();
        for snapshot in &list.snapshots {
            let of = (snapshot.name.writer, snapshot.head.app.as_str());
            let seq = newest.entry(of).or_default();
            *seq = (*seq).max(snapshot.name.seq);
        }
        let anchors = self.state.anchors()?;
        let (here, elsewhere): (Vec<_>, Vec<_>) = anchors
            .iter()
            .partition(|(chain, _)| chain.replica == self.superblock.replica);
        let mut missing = Missing::default();
        let mut told = BTreeSet::new();
        for (chain, anchor) in here {
            let of = (chain.writer, chain.app.as_str());
            let shown = newest.get(&of).copied();
            if shown.unwrap_or(0) < anchor.seq {
                told.insert(of);
                let shown = shown.map_or_else(
                    || "none".to_owned(),
                    |seq| format!("number {seq} as the newest"),
                );
                missing.hidden.push(format!(
                    "this machine put snapshot number {} of {} there, but the storage shows {shown}: it was rolled back, or hides snapshots",
                    anchor.seq, chain.app
                ));
            }
        }
        let mut behind: BTreeMap<(WriterId, &str), u32> = BTreeMap::new();
        for (chain, anchor) in elsewhere {
            let of = (chain.writer, chain.app.as_str());
            let lacks = anchor
                .seq
                .saturating_sub(newest.get(&of).copied().unwrap_or(0));
            if lacks > 0 && !told.contains(&of) {
                let most = behind.entry(of).or_default();
                *most = (*most).max(lacks);
            }
        }
        for ((_, app), lacks) in behind {
            let (number, them) = match lacks {
                1 => ("1 snapshot".to_owned(), "it"),
                _ => (format!("{lacks} snapshots"), "them"),
            };
            missing.behind.push(format!(
                "this replica lacks {number} of {app} that another one has; `lifeboat copy` brings {them}"
            ));
        }
        Ok(missing)
    }

    /// What the store keeps.
    ///
    /// # Errors
    /// When the store cannot be listed, or the index cannot be read.
    pub fn stored(&self) -> Result<Stored, ReadError> {
        let mut stored = Stored {
            chunks: self.lookup()?.chunk_count(),
            ..Stored::default()
        };
        self.store.list("", &mut |listed| {
            stored.objects += 1;
            stored.bytes += listed.len;
            stored.packs += u64::from(listed.name.as_str().starts_with("packs/"));
        })?;
        Ok(stored)
    }

    /// Sums of what all snapshots hold.
    #[must_use]
    pub fn totals(list: &SnapshotList) -> Totals {
        list.snapshots
            .iter()
            .fold(Totals::default(), |sum, snapshot| Totals {
                files: sum.files + snapshot.head.totals.files,
                bytes: sum.bytes + snapshot.head.totals.bytes,
                unreadable: sum.unreadable + snapshot.head.totals.unreadable,
                new_bytes: sum.new_bytes + snapshot.head.totals.new_bytes,
                stored_bytes: sum.stored_bytes + snapshot.head.totals.stored_bytes,
            })
    }

    /// The newest snapshot of an app that a run of this machine can start from, among those that `has_all` is true of.
    ///
    /// # Errors
    /// When the snapshots cannot be listed.
    pub fn parent_of(
        &self,
        app: &str,
        host: &str,
        domain: u32,
        has_all: impl Fn(&Snapshot) -> bool,
    ) -> Result<Option<Snapshot>, ReadError> {
        let list = self.snapshots()?;
        let fits = |snapshot: &&Snapshot| {
            snapshot.head.app == app && snapshot.head.domain == domain && has_all(snapshot)
        };
        let newest = |same_host: bool| {
            list.snapshots
                .iter()
                .rev()
                .filter(fits)
                .find(|snapshot| !same_host || snapshot.head.host == host)
                .cloned()
        };
        Ok(newest(true).or_else(|| newest(false)))
    }

    /// The snapshot with this id.
    #[must_use]
    pub fn find(list: &SnapshotList, id: SnapshotId) -> Option<&Snapshot> {
        list.snapshots
            .iter()
            .find(|snapshot| snapshot.name.id == id)
    }
}

/// An error and its causes in one line.
pub(crate) fn sentence(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}
