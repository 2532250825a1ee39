//! What the tests of this crate share: a repository over the memory store, files that go in, files that come back.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use lifeboat_codec::{
    Content, Entries, Entry, EntryKind, EntryTime, Head, KeyFile, Manifest, Profile, SourceRecord,
    StreamRef, list_chunks, put_entry,
};
use lifeboat_store::{
    Abilities, Body, Error, ErrorKind, Listed, MemoryStore, ObjectName, Operation, Store,
};

use crate::commit::{Committed, Contents, Draft};
use crate::keys::NewSecret;
use crate::progress::Silent;
use crate::reader::{Reader, StreamError};
use crate::repository::{OpenError, ReadError, Repository, Unlock};
use crate::surroundings::Surroundings;
use crate::write_error::WriteError;
use crate::writer::{Lane, work};

/// Files by path; folders are made of the paths.
pub(crate) type Files = BTreeMap<String, Vec<u8>>;

/// A store, the key of the repository in it, and a machine's folders.
pub(crate) struct World {
    pub(crate) store: Arc<MemoryStore>,
    pub(crate) folder: tempfile::TempDir,
    pub(crate) key: KeyFile,
}

impl World {
    pub(crate) fn new() -> (Self, Repository) {
        let store = Arc::new(MemoryStore::new());
        let folder = tempfile::tempdir().unwrap();
        let created = Repository::create(
            Arc::clone(&store) as Arc<dyn Store>,
            &[NewSecret::KeyFile],
            surroundings(&folder),
        )
        .unwrap();
        (
            Self {
                store,
                folder,
                key: created.key_file.unwrap(),
            },
            created.repository,
        )
    }

    pub(crate) fn open(&self) -> Result<Repository, OpenError> {
        Repository::open(
            Arc::clone(&self.store) as Arc<dyn Store>,
            &Unlock::KeyFile(&self.key),
            surroundings(&self.folder),
        )
    }

    /// Opens what `store` holds, by the same machine but without any cache.
    pub(crate) fn open_uncached<S: Store + 'static>(
        &self,
        store: &Arc<S>,
    ) -> Result<Repository, OpenError> {
        let surroundings = Surroundings::system(None, self.folder.path().join("state"));
        Repository::open(
            Arc::clone(store) as Arc<dyn Store>,
            &Unlock::KeyFile(&self.key),
            surroundings,
        )
    }
}

pub(crate) fn surroundings(folder: &tempfile::TempDir) -> Surroundings {
    Surroundings::system(
        Some(folder.path().join("cache")),
        folder.path().join("state"),
    )
}

/// A store that lists what it does not give.
pub(crate) struct Hollow(pub(crate) MemoryStore, pub(crate) ObjectName);

impl Store for Hollow {
    fn put_new(&self, name: &ObjectName, body: Body<'_>) -> Result<(), Error> {
        self.0.put_new(name, body)
    }

    fn get(&self, name: &ObjectName, max_bytes: u64) -> Result<Vec<u8>, Error> {
        if *name == self.1 {
            Err(Error::new(ErrorKind::NotFound, Operation::Get, name))
        } else {
            self.0.get(name, max_bytes)
        }
    }

    fn get_range(&self, name: &ObjectName, offset: u64, into: &mut [u8]) -> Result<(), Error> {
        if *name == self.1 {
            Err(Error::new(ErrorKind::NotFound, Operation::GetRange, name))
        } else {
            self.0.get_range(name, offset, into)
        }
    }

    fn list(&self, prefix: &str, found: &mut dyn FnMut(Listed)) -> Result<(), Error> {
        self.0.list(prefix, found)
    }

    fn delete(&self, name: &ObjectName) -> Result<(), Error> {
        self.0.delete(name)
    }

    fn connections(&self) -> usize {
        1
    }

    fn abilities(&self) -> Abilities {
        self.0.abilities()
    }
}

/// Bytes that nothing compresses.
pub(crate) fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new()
        .update(&seed.to_le_bytes())
        .finalize_xof()
        .fill(&mut bytes);
    bytes
}

/// Where the content of a file went.
enum Stored {
    Nothing,
    Alone(lifeboat_codec::ChunkId),
    Stream(Vec<u8>),
}

fn store_file(
    lane: &mut Lane<'_, '_>,
    profile: Profile,
    earlier: Option<&StreamRef>,
    bytes: &[u8],
) -> Result<Stored, WriteError> {
    let stream = lane.put_stream(profile, earlier, &mut &*bytes)?;
    let items = list_chunks(&stream.items)?;
    Ok(match items.as_slice() {
        [] => Stored::Nothing,
        [only] if stream.depth == 0 => Stored::Alone(only.id),
        _ => Stored::Stream(stream.encode()),
    })
}

/// Writes the tree of everything below `folder` and returns its reference.
fn store_tree(
    lane: &mut Lane<'_, '_>,
    folder: &str,
    files: &Files,
    stored: &BTreeMap<&str, Stored>,
) -> Result<StreamRef, WriteError> {
    let mut names: BTreeMap<&str, bool> = BTreeMap::new();
    for path in files.keys().filter_map(|path| path.strip_prefix(folder)) {
        let (name, folder) = path
            .split_once('/')
            .map_or((path, false), |(name, _)| (name, true));
        names.insert(name, folder);
    }
    let (mut tree, mut scratch) = (Vec::new(), Vec::new());
    for (name, is_folder) in names {
        let path = format!("{folder}{name}");
        let times = EntryTime {
            seconds: 1_700_000_000,
            nanos: name.len() as u32,
        };
        if is_folder {
            let below = store_tree(lane, &format!("{path}/"), files, stored)?.encode();
            let entry = Entry {
                mode: 0o755,
                mtime: times,
                content: Content::Stream(&below),
                ..Entry::new(EntryKind::Folder, name.as_bytes())
            };
            put_entry(&mut tree, &entry, &mut scratch);
        } else {
            let content = match &stored[path.as_str()] {
                Stored::Nothing => Content::None,
                Stored::Alone(id) => Content::Chunk(*id),
                Stored::Stream(reference) => Content::Stream(reference),
            };
            let entry = Entry {
                mode: 0o640,
                mtime: times,
                size: files[&path].len() as u64,
                content,
                ..Entry::new(EntryKind::File, name.as_bytes())
            };
            put_entry(&mut tree, &entry, &mut scratch);
        }
    }
    lane.put_meta(&tree)
}

/// Backs up `files` as the source `media` of the app `shop`.
pub(crate) fn backup(repository: &mut Repository, files: &Files) -> Result<Committed, WriteError> {
    backup_beside(repository, files, Profile::Files, None)
}

/// The same, cut by `profile`, and as changes of what an earlier snapshot has.
pub(crate) fn backup_beside(
    repository: &mut Repository,
    files: &Files,
    profile: Profile,
    earlier: Option<&Head>,
) -> Result<Committed, WriteError> {
    backup_by(2, repository, files, profile, earlier)
}

/// The same by so many workers.
pub(crate) fn backup_by(
    workers: usize,
    repository: &mut Repository,
    files: &Files,
    profile: Profile,
    earlier: Option<&Head>,
) -> Result<Committed, WriteError> {
    let earlier = earlier.map(|head| streams(repository, head).unwrap());
    let earlier = |name: &String| earlier.as_ref().and_then(|streams| streams.get(name));
    let draft = Draft {
        app: "shop".into(),
        host: "web-1".into(),
        user: "www".into(),
        time_zone: "Europe/Berlin".into(),
        program: "test 1".into(),
        started_ms: repository.now_ms(),
        tags: vec!["nightly".into()],
        ..Draft::default()
    };
    repository.backup(&draft, &Silent, &AtomicBool::new(false), |writer| {
        let stored = Mutex::new(BTreeMap::new());
        work(
            writer,
            workers,
            files.iter().collect(),
            |lane, (name, bytes), _| -> Result<(), WriteError> {
                let file = store_file(lane, profile, earlier(name), bytes)?;
                stored.lock().unwrap().insert(name.as_str(), file);
                Ok(())
            },
        )?;
        let stored = stored.into_inner().unwrap();
        let bytes = files.values().map(|bytes| bytes.len() as u64).sum();
        let refs = Mutex::new(None);
        work(
            writer,
            1,
            vec![()],
            |lane, (), _| -> Result<(), WriteError> {
                let media = store_tree(lane, "", files, &stored)?.encode();
                let (mut root, mut scratch) = (Vec::new(), Vec::new());
                put_entry(
                    &mut root,
                    &Entry {
                        content: Content::Stream(&media),
                        ..Entry::new(EntryKind::Folder, b"media")
                    },
                    &mut scratch,
                );
                let mut source = SourceRecord {
                    files: files.len() as u64,
                    bytes,
                    ..SourceRecord::new("media", "folder", "/srv/media")
                };
                source.facts.push(("colour".into(), "blue".into()));
                let manifest = Manifest {
                    sources: vec![source],
                    users: vec![(33, "www-data".into())],
                    ..Manifest::default()
                };
                *refs.lock().unwrap() =
                    Some((lane.put_meta(&root)?, lane.put_meta(&manifest.encode())?));
                Ok(())
            },
        )?;
        let (root, manifest) = refs.into_inner().unwrap().unwrap();
        Ok(Contents {
            root,
            manifest,
            files: files.len() as u64,
            bytes,
            unreadable: 0,
        })
    })
}

/// Reads a snapshot's files back, without the name of their source.
pub(crate) fn restore(repository: &Repository, head: &Head) -> Result<Files, ReadError> {
    restore_each(repository, head)?
        .into_iter()
        .map(|(path, content)| Ok((path, content?)))
        .collect()
}

/// The same, with each file's own result.
pub(crate) fn restore_each(
    repository: &Repository,
    head: &Head,
) -> Result<BTreeMap<String, Result<Vec<u8>, ReadError>>, ReadError> {
    let mut files = BTreeMap::new();
    walk(repository, head, &mut |path, reader, entry| {
        files.insert(path, content(reader, entry));
    })?;
    Ok(files)
}

/// Names each file of a snapshot to `each`.
fn walk(
    repository: &Repository,
    head: &Head,
    each: &mut dyn FnMut(String, &Reader<'_>, &Entry<'_>),
) -> Result<(), ReadError> {
    let reader = repository.reader(head.domain)?;
    let mut folders = vec![(String::new(), head.root.clone())];
    while let Some((folder, tree)) = folders.pop() {
        let tree = reader.whole(&tree)?;
        for entry in Entries::new(&tree) {
            let entry = entry.map_err(|source| ReadError::format("a tree", source))?;
            let path = format!("{folder}{}", std::str::from_utf8(entry.name).unwrap());
            match (entry.kind, entry.content) {
                (EntryKind::Folder, Content::Stream(reference)) => {
                    folders.push((format!("{path}/"), StreamRef::decode(reference).unwrap()));
                }
                (EntryKind::Folder, _) => {}
                _ => {
                    let path = path.strip_prefix("media/").unwrap().to_owned();
                    each(path, &reader, &entry);
                }
            }
        }
    }
    Ok(())
}

/// The content of each file of a snapshot that has some.
fn streams(repository: &Repository, head: &Head) -> Result<BTreeMap<String, StreamRef>, ReadError> {
    let mut streams = BTreeMap::new();
    walk(repository, head, &mut |path, _, entry| {
        streams.extend(stream_of(entry).map(|stream| (path, stream)));
    })?;
    Ok(streams)
}

fn content(reader: &Reader<'_>, entry: &Entry<'_>) -> Result<Vec<u8>, ReadError> {
    let Some(stream) = stream_of(entry) else {
        return Ok(Vec::new());
    };
    let mut bytes = Vec::new();
    match reader.copy_to(&stream, &mut bytes) {
        Ok(()) => Ok(bytes),
        Err(StreamError::Read(error)) => Err(error),
        Err(StreamError::Write(error)) => panic!("{error}"),
    }
}

fn stream_of(entry: &Entry<'_>) -> Option<StreamRef> {
    Some(match entry.content {
        Content::None => return None,
        Content::Chunk(id) => {
            let mut list = Vec::new();
            lifeboat_codec::put_chunk(
                &mut list,
                lifeboat_codec::ChunkItem {
                    id,
                    length: entry.size as u32,
                },
            );
            StreamRef::new(entry.size, Profile::Files, 0, list)
        }
        Content::Stream(reference) => StreamRef::decode(reference).unwrap(),
        Content::Bundle(_) => panic!("no test of this crate makes bundles"),
    })
}

/// A few small files in two folders: about 14 KB.
pub(crate) fn tiny_files() -> Files {
    let mut files = Files::new();
    files.insert("empty".into(), Vec::new());
    files.insert("notes.txt".into(), b"all work and no play ".repeat(40));
    for number in 0..5 {
        files.insert(
            format!("2026/0{number}.jpg"),
            noise(number, 1900 + number as usize * 397),
        );
    }
    files
}
