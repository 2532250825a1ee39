//! Open packs: sealed segments go into one of several, chosen at random, and full packs go up (`docs/format.md` §6).
//!
//! A pack is spooled in an unlinked file, which the local store turns into the object without a copy; memory holds
//! one segment for each worker, whatever the size of a pack. What is spooled is sealed already.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::mpsc::{Receiver, SyncSender};
use std::sync::{Mutex, MutexGuard};

use lifeboat_codec::{
    Author, Codec, Envelope, FinishedPack, Index, Kind, Moved, Origin, PackBuilder, Row, Rows,
    RunId, RunKey, pack_name, padding_class,
};
use lifeboat_store::{Body, Store, spool};

use crate::progress::{Counter, Progress};
use crate::repository::{Repository, object_name};
use crate::write_error::WriteError;

/// A pack is closed when it is about this long: so much shorter or longer, where little has to be padded.
const PACK_BYTES: u64 = 32 << 20;
const PACK_SLACK_BYTES: u64 = 2 << 20;
const PADDING_BYTES: u64 = 16 << 10;
/// Packs of content that are open at once.
const OPEN_PACKS: usize = 4;
/// Content that goes into one pack before another is drawn.
pub(crate) const RUN_BYTES: u64 = 8 << 20;

/// A finished pack on its way into the store.
pub(crate) struct Upload {
    file: File,
    finished: FinishedPack,
}

struct OpenPack {
    builder: PackBuilder,
    file: File,
}

/// The open packs of one kind.
pub(crate) struct OpenPacks {
    kind: Kind,
    slots: Vec<Mutex<Option<OpenPack>>>,
}

/// What every pack of a run is made with.
pub(crate) struct PackMaker<'r> {
    pub(crate) repository: &'r Repository,
    pub(crate) run: RunId,
    pub(crate) started_ms: u64,
    pub(crate) author: &'r Author,
    pub(crate) origin: Origin,
    pub(crate) data: (Envelope, RunKey),
    pub(crate) meta: (Envelope, RunKey),
    pub(crate) uploads: SyncSender<Upload>,
}

impl PackMaker<'_> {
    fn begin(&self, kind: Kind) -> Result<OpenPack, WriteError> {
        let envelopes = if kind == Kind::DataPack {
            vec![self.data.0, self.meta.0]
        } else {
            vec![self.meta.0]
        };
        let (builder, first) = PackBuilder::begin(
            kind,
            self.repository.family(),
            self.run,
            self.started_ms,
            &envelopes,
        );
        let file = spool(self.repository.store.as_ref())?;
        file.write_all_at(&first, 0).map_err(WriteError::Spool)?;
        Ok(OpenPack { builder, file })
    }

    fn finish(&self, pack: OpenPack) -> Result<(), WriteError> {
        let start = pack.builder.length();
        let finished = self.repository.surroundings.with_entropy(|entropy| {
            pack.builder
                .finish(&[self.origin], self.author, &self.meta.1, entropy)
        });
        pack.file
            .write_all_at(&finished.tail, start)
            .map_err(WriteError::Spool)?;
        // The channel is closed early only when an upload failed, and that error is the one to report.
        self.uploads
            .send(Upload {
                file: pack.file,
                finished,
            })
            .map_err(|_| WriteError::Stopped)
    }
}

impl OpenPacks {
    pub(crate) fn new(kind: Kind) -> Self {
        // Metadata is little and is read together: one pack.
        let slots = if kind == Kind::DataPack {
            OPEN_PACKS
        } else {
            1
        };
        Self {
            kind,
            slots: (0..slots).map(|_| Mutex::new(None)).collect(),
        }
    }

    /// How many packs may be open at once.
    pub(crate) fn count(&self) -> usize {
        self.slots.len()
    }

    /// Appends a sealed segment to the pack in `slot`.
    pub(crate) fn append(
        &self,
        maker: &PackMaker<'_>,
        slot: usize,
        sealed: &[u8],
        codec: Codec,
        base: &[u8],
        ids: &[u8],
    ) -> Result<(), WriteError> {
        let mut open = self.lock(slot);
        let pack = match open.as_mut() {
            Some(pack) => pack,
            None => open.insert(maker.begin(self.kind)?),
        };
        pack.file
            .write_all_at(sealed, pack.builder.length())
            .map_err(WriteError::Spool)?;
        // It lies in the pack that it was made for, whose first envelope and origin are its own.
        let moved = (!base.is_empty()).then_some(Moved {
            envelope: 0,
            origin: 0,
            base,
        });
        pack.builder.append(sealed, codec, moved, ids);
        if !is_full(pack.builder.length()) {
            return Ok(());
        }
        let full = open.take();
        drop(open);
        full.map_or(Ok(()), |full| maker.finish(full))
    }

    fn lock(&self, slot: usize) -> MutexGuard<'_, Option<OpenPack>> {
        self.slots[slot % self.slots.len()]
            .lock()
            .expect("no thread panics while it appends to a pack")
    }

    /// Closes what is open; small remainders become one pack, so that a small run leaves one object and its parts cannot be told apart.
    pub(crate) fn flush(&self, maker: &PackMaker<'_>) -> Result<(), WriteError> {
        let mut open: Vec<OpenPack> = (0..self.slots.len())
            .filter_map(|slot| self.lock(slot).take())
            .collect();
        open.sort_by_key(|pack| pack.builder.length());
        let mut rest = open.into_iter();
        let Some(mut into) = rest.next() else {
            return Ok(());
        };
        for pack in rest {
            if into.builder.length() + pack.builder.length() <= PACK_BYTES * 3 / 2 {
                into = merge(pack, &into)?;
            } else {
                maker.finish(into)?;
                into = pack;
            }
        }
        maker.finish(into)
    }
}

fn is_full(length: u64) -> bool {
    let padding = padding_class(length) - length;
    length >= PACK_BYTES + PACK_SLACK_BYTES
        || length >= PACK_BYTES - PACK_SLACK_BYTES && padding <= PADDING_BYTES
}

/// Appends all segments of the smaller pack to the larger one. They open as before: a segment is not bound to its pack.
fn merge(mut larger: OpenPack, smaller: &OpenPack) -> Result<OpenPack, WriteError> {
    let mut sealed = Vec::new();
    for row in Rows::new(smaller.builder.rows()) {
        let Row {
            offset,
            sealed_bytes,
            codec,
            moved,
            ids,
        } = row.expect("the rows were just written");
        sealed.resize(sealed_bytes as usize, 0);
        smaller
            .file
            .read_exact_at(&mut sealed, smaller.builder.segments_at() + offset)
            .map_err(WriteError::Spool)?;
        larger
            .file
            .write_all_at(&sealed, larger.builder.length())
            .map_err(WriteError::Spool)?;
        larger.builder.append(&sealed, codec, moved, ids);
    }
    Ok(larger)
}

/// Where finished packs come from; nothing once an upload has failed.
pub(crate) type Uploads = Mutex<Option<Receiver<Upload>>>;

/// Puts finished packs into the store until no more come, and notes each in `index` once it is durable.
pub(crate) fn upload(
    store: &dyn Store,
    uploads: &Uploads,
    index: &Mutex<Index>,
    progress: &dyn Progress,
) -> Result<u64, WriteError> {
    let result = put_all(store, uploads, index, progress);
    if result.is_err() {
        // Closes the channel, or who finishes a pack would wait for ever when the last uploader has failed.
        uploads
            .lock()
            .expect("no thread panics while it receives")
            .take();
    }
    result
}

fn put_all(
    store: &dyn Store,
    uploads: &Uploads,
    index: &Mutex<Index>,
    progress: &dyn Progress,
) -> Result<u64, WriteError> {
    let mut stored = 0;
    loop {
        let received = uploads
            .lock()
            .expect("no thread panics while it receives")
            .as_ref()
            .and_then(|uploads| uploads.recv().ok());
        let Some(Upload { file, finished }) = received else {
            return Ok(stored);
        };
        let entry = finished.entry;
        let name = object_name(&pack_name(entry.kind, entry.id, entry.run));
        store.put_new(
            &name,
            Body::File {
                file: &file,
                len: entry.object_bytes,
            },
        )?;
        stored += entry.object_bytes;
        progress.count(Counter::StoredBytes, entry.object_bytes);
        index
            .lock()
            .expect("no thread panics while it adds a pack")
            .add(entry, &finished.envelopes);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{TrySendError, sync_channel};

    use lifeboat_codec::Recipient;
    use lifeboat_store::{ErrorKind, Fault, FaultyStore, MemoryStore, Operation, When};

    use super::*;
    use crate::progress::Silent;
    use crate::testing::World;

    #[test]
    fn when_the_store_takes_no_more_packs_nobody_waits_for_it() {
        let (_world, repository) = World::new();
        let author = repository.admin().unwrap();
        let upload_of = || {
            let (envelope, key) = repository.surroundings.with_entropy(|entropy| {
                Envelope::create(
                    Recipient::Meta,
                    &repository.keyring,
                    repository.family(),
                    entropy,
                )
            });
            let (builder, _) = PackBuilder::begin(
                Kind::MetaPack,
                repository.family(),
                RunId([1; 16]),
                0,
                &[envelope],
            );
            let finished = repository
                .surroundings
                .with_entropy(|entropy| builder.finish(&[], &author, &key, entropy));
            Upload {
                file: spool(repository.store.as_ref()).unwrap(),
                finished,
            }
        };
        let store = FaultyStore::new(MemoryStore::new());
        store.inject(
            When::EveryOf(Operation::Put, 1),
            Fault::Fail(ErrorKind::Full),
        );
        let (sender, receiver) = sync_channel(2);
        let uploads = Mutex::new(Some(receiver));
        sender.send(upload_of()).unwrap();
        let result = upload(&store, &uploads, &Mutex::default(), &Silent);
        assert!(matches!(result, Err(WriteError::Store(error)) if error.kind() == ErrorKind::Full));
        assert!(matches!(
            sender.try_send(upload_of()),
            Err(TrySendError::Disconnected(_))
        ));
    }
}
