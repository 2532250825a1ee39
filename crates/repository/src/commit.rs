//! One run that makes a snapshot, from its lease to its confirm (`docs/format.md` §8).
//!
//! The order is the safety: packs, then index, then the snapshot (from here on it is a root for prune), then a look at
//! the markers, then at the packs, and only when every pack that it relies on is there and condemned by nobody, the
//! confirm. No lock and no clock is involved. Exit 0 means that the confirm is durable.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, mpsc};

use lifeboat_codec::{
    Author, Confirm, Envelope, Frame, HEAD_BYTES_MAX, Head, Header, Index, Kind, Lease, Marker,
    ObjectHash, Opened, Origin, Recipient, Role, RunId, RunKey, Secret, SnapshotId, SnapshotName,
    StreamRef, Totals, WriterRecord, clear_object, index_name, lease_name, open_clear, pack_name,
    parse_pack_name, seal_object, writer_name,
};
use lifeboat_codec::{Enrolled, PackId};
use lifeboat_store::{Body, ErrorKind};

use crate::basis::Basis;
use crate::index;
use crate::known::Known;
use crate::packs::{PackMaker, upload};
use crate::progress::{Counter, Progress};
use crate::reachable::chunks_of;
use crate::repository::{ReadError, Repository, object_name, read_frame};
use crate::state::{Anchor, Chain};
use crate::write_error::WriteError;
use crate::writer::Writer;

/// How long a lease is meant to hold.
const LEASE_SECONDS: u64 = 1800;
/// Finished packs that wait for the store.
const UPLOADS_WAITING: usize = 2;
/// Threads that put packs.
const UPLOADERS_MAX: usize = 4;

/// What is known of a snapshot before it is made.
#[derive(Clone, Debug, Default)]
pub struct Draft {
    /// Of which app.
    pub app: String,
    /// The machine.
    pub host: String,
    /// Who runs the program.
    pub user: String,
    /// The app's time zone, an IANA name.
    pub time_zone: String,
    /// Program and version.
    pub program: String,
    /// When the sources began to be read, in unix milliseconds.
    pub started_ms: u64,
    /// The snapshot that unchanged items are taken from.
    pub parent: Option<SnapshotId>,
    /// Tags.
    pub tags: Vec<String>,
}

/// What the sources gave.
#[derive(Clone, Debug)]
pub struct Contents {
    /// A tree with a folder for each source.
    pub root: StreamRef,
    /// The manifest.
    pub manifest: StreamRef,
    /// Files, database streams included.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Items that could not be read, or not as they should: changed meanwhile, or of a database in use.
    pub unreadable: u64,
}

/// A snapshot that exists.
#[derive(Clone, Debug)]
pub struct Committed {
    /// Where it stands.
    pub name: SnapshotName,
    /// What it says.
    pub head: Head,
    /// The index objects that it rests on, for [`Repository::remember_source`].
    pub basis: Basis,
}

/// What was found between intents and confirms.
pub(crate) struct Look {
    /// How many packs the store lists.
    packs: u64,
    /// How many chunks the index knows.
    chunks: u64,
    basis: Basis,
}

/// Bytes of rows in one index object, about: readers hold one in memory, and refuse what is larger than any should be.
const INDEX_ROWS_MAX: usize = 16 << 20;

/// The packs that are in the store, with their lengths.
type Present = HashMap<PackId, u64>;

impl Repository {
    /// Makes a snapshot: `work` reads the sources into the writer, everything else is done here.
    ///
    /// When `stop` is set, the run ends with [`WriteError::Stopped`] and no snapshot; what was stored is used by the next run.
    ///
    /// # Errors
    /// What `work` returns, or when anything cannot be stored. Then there is no snapshot.
    pub fn backup<E: From<WriteError>>(
        &mut self,
        draft: &Draft,
        progress: &dyn Progress,
        stop: &AtomicBool,
        work: impl FnOnce(&Writer<'_>) -> Result<Contents, E>,
    ) -> Result<Committed, E> {
        self.backup_as(draft, &|_| {}, progress, stop, work)
    }

    /// The same; `adjust` has the last word about the head.
    pub(crate) fn backup_as<E: From<WriteError>>(
        &mut self,
        draft: &Draft,
        adjust: &dyn Fn(&mut Head),
        progress: &dyn Progress,
        stop: &AtomicBool,
        work: impl FnOnce(&Writer<'_>) -> Result<Contents, E>,
    ) -> Result<Committed, E> {
        self.may_write()?;
        let author = self.author()?;
        let origin = self.origin(&author)?;
        let run = RunId(self.random());
        let lease = self.put_lease(run, &author)?;
        let result = self.run(draft, adjust, progress, stop, &author, origin, run, work);
        // A lease only saves work: one that stays behind ends by itself.
        let _ = self.store.delete(&object_name(&lease));
        result
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of one run")]
    fn run<E: From<WriteError>>(
        &mut self,
        draft: &Draft,
        adjust: &dyn Fn(&mut Head),
        progress: &dyn Progress,
        stop: &AtomicBool,
        author: &Author,
        origin: Origin,
        run: RunId,
        work: impl FnOnce(&Writer<'_>) -> Result<Contents, E>,
    ) -> Result<Committed, E> {
        let (chain_seq, previous) = self.chain(&draft.app, author)?;
        // Markers first, packs second: the order of the protocol, here only to save work.
        let condemned = self.condemned().map_err(WriteError::from)?;
        let present = self.present().map_err(WriteError::from)?;
        self.refresh();
        let all = index::load_anew(self).map_err(WriteError::from)?;
        let gone =
            |id: &PackId, bytes: u64| present.get(id) != Some(&bytes) || condemned.contains(id);
        let complete = !all
            .packs()
            .any(|(_, pack)| gone(&pack.entry.id, pack.entry.object_bytes));
        let lookup = Arc::new(all.without(|entry| gone(&entry.id, entry.object_bytes)));

        let (uploads, received) = mpsc::sync_channel(UPLOADS_WAITING);
        let received = Mutex::new(Some(received));
        let index = Mutex::new(Index::default());
        let keys = self
            .keyring
            .domain(origin.domain)
            .map_err(WriteError::from)?;
        let (data, meta) = self.surroundings.with_entropy(|entropy| {
            let mut create =
                |recipient| Envelope::create(recipient, &self.keyring, self.family(), entropy);
            (create(Recipient::Data), create(Recipient::Meta))
        });
        let maker = PackMaker {
            repository: self,
            run,
            started_ms: draft.started_ms,
            author,
            origin,
            data,
            meta,
            uploads,
        };
        let writer = Writer::new(
            maker,
            Known::new(Arc::clone(&lookup), origin.domain),
            keys,
            progress,
            stop,
            complete,
        );

        let uploaders = self.store.connections().clamp(1, UPLOADERS_MAX);
        let (worked, uploaded, added) = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..uploaders)
                .map(|_| scope.spawn(|| upload(self.store.as_ref(), &received, &index, progress)))
                .collect();
            let worked = work(&writer);
            let flushed = writer.flush();
            let added = writer.added();
            let keys = (writer.maker.meta.0, writer.maker.meta.1.duplicate());
            // Ends the channel: the uploaders return when they have put what is in it.
            drop(writer);
            let mut uploaded = flushed.map(|()| 0);
            for thread in threads {
                let result = thread.join().expect("no thread panics while it uploads");
                uploaded = match (uploaded, result) {
                    (Ok(sum), Ok(bytes)) => Ok(sum + bytes),
                    // A closed channel is the consequence, a failed put the cause.
                    (Ok(_) | Err(WriteError::Stopped), Err(error)) | (Err(error), _) => Err(error),
                };
            }
            (worked, uploaded, (added, keys))
        });
        let (added, meta) = added;
        let index = index.into_inner().expect("no thread panics with the index");
        let contents = match (worked, uploaded) {
            (Ok(contents), Ok(_)) => contents,
            (Ok(_), Err(error)) => return Err(error.into()),
            (Err(error), uploaded) => {
                // What went up is whole: with an index the next run uses it. Failing that, it is prune's.
                if uploaded.is_ok() {
                    let _ = self.put_index(&index, run, author, &meta);
                }
                return Err(uploaded
                    .err()
                    .filter(|first| !matches!(first, WriteError::Stopped))
                    .map_or(error, E::from));
            }
        };
        let stored: u64 = index.packs.iter().map(|pack| pack.object_bytes).sum();
        let index_bytes = self.put_index(&index, run, author, &meta)?;
        progress.count(Counter::StoredBytes, index_bytes);

        let id = SnapshotId(self.random());
        let mut head = Head::new(
            id,
            draft.app.clone(),
            chain_seq,
            contents.root,
            contents.manifest,
            origin.domain,
        );
        head.previous = previous;
        head.host.clone_from(&draft.host);
        head.user.clone_from(&draft.user);
        head.time_zone.clone_from(&draft.time_zone);
        head.program.clone_from(&draft.program);
        head.started_ms = draft.started_ms;
        head.finished_ms = self.now_ms();
        head.parent = draft.parent;
        head.tags.clone_from(&draft.tags);
        head.totals = Totals {
            files: contents.files,
            bytes: contents.bytes,
            unreadable: contents.unreadable,
            new_bytes: added.new_bytes,
            stored_bytes: stored + index_bytes,
        };
        adjust(&mut head);
        progress.phase("Confirming the snapshot");
        let relied = lookup
            .packs()
            .map(|(_, pack)| pack.entry.id)
            .chain(index.packs.iter().map(|pack| pack.id))
            .collect();
        Ok(self.confirm(head, &relied, run, author, &meta)?)
    }

    /// Puts intent and confirm with the looks between them.
    fn confirm(
        &mut self,
        head: Head,
        relied: &HashSet<PackId>,
        run: RunId,
        author: &Author,
        meta: &(Envelope, RunKey),
    ) -> Result<Committed, WriteError> {
        let name = SnapshotName {
            writer: author.id(),
            seq: head.seq,
            id: head.id,
        };
        let header = Header::named(
            Kind::Snapshot,
            self.family(),
            run,
            head.finished_ms,
            &name.intent(),
        );
        let record = head.encode();
        let (object, hash) = self.seal_with(&header, &name.intent(), &record, author, meta);
        if object.len() > HEAD_BYTES_MAX {
            return Err(WriteError::HeadTooLong);
        }
        self.store
            .put_new(&object_name(&name.intent()), Body::Bytes(&object))?;

        let look = self.look(&[&head], relied)?;
        let confirm = Confirm {
            snapshot: hash,
            confirmed_ms: self.now_ms(),
            packs: look.packs,
            chunks: look.chunks,
        };
        let confirm_header = Header::named(
            Kind::Confirm,
            self.family(),
            run,
            confirm.confirmed_ms,
            &name.confirm(),
        );
        let confirm_record = confirm.encode();
        let (object, confirm_hash) = self.seal_with(
            &confirm_header,
            &name.confirm(),
            &confirm_record,
            author,
            meta,
        );
        self.store
            .put_new(&object_name(&name.confirm()), Body::Bytes(&object))?;

        self.cache.keep_object(
            &name.intent(),
            &Opened {
                record,
                author: author.id(),
                header,
                hash,
            },
        );
        self.cache.keep_object(
            &name.confirm(),
            &Opened {
                record: confirm_record,
                author: author.id(),
                header: confirm_header,
                hash: confirm_hash,
            },
        );
        let chain = Chain {
            replica: self.superblock.replica,
            writer: author.id(),
            app: head.app.clone(),
        };
        let seq = head.seq;
        self.state.keep_anchors([(chain, Anchor { seq, hash })])?;
        Ok(Committed {
            name,
            head,
            basis: look.basis,
        })
    }

    /// The look between intents and confirms: every pack that `heads` rely on is there, condemned by nobody, and still in
    /// the index; `relied` are those that were when they were relied on.
    pub(crate) fn look(
        &mut self,
        heads: &[&Head],
        relied: &HashSet<PackId>,
    ) -> Result<Look, WriteError> {
        // From here on the snapshots are roots. A pruner either saw them, or wrote its marker before: then it is seen now.
        let condemned = self.condemned()?;
        let present = self.present()?;
        self.refresh();
        let all = index::load_anew(self)?;
        let gone =
            |id: &PackId, bytes: u64| present.get(id) != Some(&bytes) || condemned.contains(id);
        let named: HashSet<PackId> = all.packs().map(|(_, pack)| pack.entry.id).collect();
        let missing = all
            .packs()
            .filter(|(_, pack)| gone(&pack.entry.id, pack.entry.object_bytes))
            .count()
            + relied.difference(&named).count();
        let look = Look {
            packs: present.len() as u64,
            chunks: all.chunk_count(),
            basis: all.basis.clone(),
        };
        if missing > 0 {
            self.lookup = std::sync::OnceLock::from(Arc::new(
                all.without(|entry| gone(&entry.id, entry.object_bytes)),
            ));
            let whole = heads
                .iter()
                .all(|head| chunks_of(self, head, &mut |_, _| {}).is_ok());
            self.refresh();
            if !whole {
                return Err(WriteError::Overtaken { packs: missing });
            }
        }
        Ok(look)
    }

    /// Writes the index of new packs; returns its length. Nothing when there are none.
    pub(crate) fn put_index(
        &self,
        index: &Index,
        run: RunId,
        author: &Author,
        meta: &(Envelope, RunKey),
    ) -> Result<u64, WriteError> {
        // Each part is true by itself: of a run that ends between them, the next one uses what was put.
        let parts = index.parts(INDEX_ROWS_MAX);
        let parts = parts.iter();
        parts
            .map(|part| self.put_index_object(part, run, author, meta))
            .sum()
    }

    fn put_index_object(
        &self,
        index: &Index,
        run: RunId,
        author: &Author,
        meta: &(Envelope, RunKey),
    ) -> Result<u64, WriteError> {
        let header = Header::by_content(Kind::Index, self.family(), run, self.now_ms());
        let record = index.encode();
        let (object, hash) = self.seal_with(&header, "", &record, author, meta);
        let name = index_name(hash);
        self.store
            .put_new(&object_name(&name), Body::Bytes(&object))?;
        self.cache.keep_object(
            &name,
            &Opened {
                record,
                author: author.id(),
                header,
                hash,
            },
        );
        Ok(object.len() as u64)
    }

    /// Packs that a marker condemns.
    fn condemned(&self) -> Result<HashSet<PackId>, ReadError> {
        let mut condemned = HashSet::new();
        for (name, _) in self.list("trash/")? {
            let bytes = match self.object(name.as_str()) {
                Ok(bytes) => bytes,
                // Removed by its author since the list was made: its packs are gone, or were spared; the list of packs tells.
                Err(ReadError::Store(error)) if error.kind() == ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            let wrong = |source| ReadError::format(name.as_str(), source);
            let frame = read_frame(name.as_str(), &bytes, Some(self.family()))?;
            debug_assert!(Frame::decode(&bytes).is_ok(), "the frame was just verified");
            let opened =
                open_clear(&frame, name.as_str(), &self.authors, "a marker").map_err(wrong)?;
            let marker = Marker::decode(&opened.record).map_err(wrong)?;
            condemned.extend(
                marker
                    .packs
                    .iter()
                    .filter_map(|pack| parse_pack_name(pack))
                    .map(|(_, id, _)| id),
            );
        }
        Ok(condemned)
    }

    /// Packs that the store lists.
    pub(crate) fn present(&self) -> Result<Present, ReadError> {
        let mut present = Present::new();
        self.store.list("packs/", &mut |listed| {
            if let Some((kind, id, run)) = parse_pack_name(listed.name.as_str()) {
                debug_assert_eq!(
                    pack_name(kind, id, run),
                    listed.name.as_str(),
                    "a pack's name is made of its parts"
                );
                present.insert(id, listed.len);
            }
        })?;
        Ok(present)
    }

    /// The next number in the writer's chain for `app`, and the snapshot before it.
    fn chain(&self, app: &str, author: &Author) -> Result<(u32, Option<ObjectHash>), WriteError> {
        let newest = if self.role() == Role::WriteOnly {
            None
        } else {
            let list = self.snapshots()?;
            let own = list
                .snapshots
                .iter()
                .filter(|snapshot| snapshot.name.writer == author.id() && snapshot.head.app == app);
            own.max_by_key(|snapshot| snapshot.name.seq)
                .map(|snapshot| Anchor {
                    seq: snapshot.name.seq,
                    hash: snapshot.hash,
                })
        };
        let anchors = self.state.anchors()?.into_iter();
        let anchor = anchors.filter(|(chain, _)| chain.writer == author.id() && chain.app == app);
        // Our own memory counts even when the store shows less, and that of other replicas: a number is never used twice.
        let last = newest
            .into_iter()
            .chain(anchor.map(|(_, anchor)| anchor))
            .max_by_key(|anchor| anchor.seq);
        Ok(last.map_or((1, None), |last| {
            (last.seq.saturating_add(1), Some(last.hash))
        }))
    }

    fn put_lease(&self, run: RunId, author: &Author) -> Result<String, WriteError> {
        let name = lease_name(run, 0);
        let now = self.now_ms();
        let lease = Lease {
            run,
            number: 0,
            renewed_ms: now,
            valid_seconds: LEASE_SECONDS,
        };
        let header = Header::named(Kind::Lease, self.family(), run, now, &name);
        let (object, _) = clear_object(&header, &name, &lease.encode(), author);
        self.store
            .put_new(&object_name(&name), Body::Bytes(&object))?;
        Ok(name)
    }

    /// Refuses when feature bits forbid writing.
    pub(crate) fn may_write(&self) -> Result<(), WriteError> {
        if self.superblock.allowed().write {
            Ok(())
        } else {
            Err(WriteError::Feature("written to"))
        }
    }

    pub(crate) fn random<const N: usize>(&self) -> [u8; N] {
        self.surroundings.with_entropy(|entropy| {
            let mut out = [0; N];
            entropy.fill(&mut out);
            out
        })
    }

    /// Seals an object with a run key of its own.
    pub(crate) fn seal(
        &self,
        header: &Header,
        name: &str,
        record: &[u8],
        author: &Author,
    ) -> (Vec<u8>, ObjectHash) {
        let meta = self.surroundings.with_entropy(|entropy| {
            Envelope::create(Recipient::Meta, &self.keyring, self.family(), entropy)
        });
        self.seal_with(header, name, record, author, &meta)
    }

    fn seal_with(
        &self,
        header: &Header,
        name: &str,
        record: &[u8],
        author: &Author,
        meta: &(Envelope, RunKey),
    ) -> (Vec<u8>, ObjectHash) {
        self.surroundings.with_entropy(|entropy| {
            seal_object(header, name, record, author, (&meta.0, &meta.1), entropy)
        })
    }

    /// This machine's writer, enrolled when it is new.
    pub(crate) fn author(&mut self) -> Result<Author, WriteError> {
        if let Some(seed) = &self.keyring.own_writer {
            let author = Author::new(seed);
            return if self.authors.may_write(author.id()) {
                Ok(author)
            } else {
                Err(WriteError::Role("write: it was revoked"))
            };
        }
        if let Some(author) = self
            .state
            .writer()?
            .map(|seed| Author::new(&seed))
            .filter(|author| self.authors.may_write(author.id()))
        {
            return Ok(author);
        }
        let admin = self.admin().ok_or(WriteError::Role("enrol a writer"))?;
        let seed = Secret::new(self.random());
        // Kept before it is enrolled: a crash between the two leaves a key that nobody believes, not a writer that nobody is.
        self.state.keep_writer(&seed)?;
        let author = Author::new(&seed);
        self.enrol(&author, 0, self.role(), &admin)?;
        Ok(author)
    }

    pub(crate) fn enrol(
        &mut self,
        author: &Author,
        domain: u32,
        role: Role,
        admin: &Author,
    ) -> Result<(), WriteError> {
        let host = rustix::system::uname()
            .nodename()
            .to_string_lossy()
            .into_owned();
        let record = WriterRecord {
            enrolled: Enrolled {
                public: author.public(),
                domain,
                role,
            },
            host,
            created_ms: self.now_ms(),
        };
        let name = writer_name(author.id());
        let header = Header::named(
            Kind::Writer,
            self.family(),
            RunId([0; 16]),
            record.created_ms,
            &name,
        );
        let (object, _) = clear_object(&header, &name, &record.encode(), admin);
        self.store
            .put_new(&object_name(&name), Body::Bytes(&object))?;
        self.authors.enrol(record.enrolled);
        Ok(())
    }

    fn origin(&self, author: &Author) -> Result<Origin, WriteError> {
        let writer = self
            .authors
            .writer(author.id())
            .ok_or(WriteError::Role("write"))?;
        Ok(Origin {
            domain: writer.domain,
            writer: author.id(),
        })
    }

    /// The domain that this machine writes to.
    ///
    /// # Errors
    /// When it has no writer yet and may not enrol one.
    pub fn own_domain(&mut self) -> Result<u32, WriteError> {
        let author = self.author()?;
        Ok(self.origin(&author)?.domain)
    }
}
