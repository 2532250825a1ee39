//! A small repository whose objects anyone has changed.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, OnceLock};

use lifeboat_codec::{
    ChunkItem, Content, Entries, Entry, EntryKind, Head, Header, KeyFile, Manifest, Note, Profile,
    SnapshotId, SourceRecord, StreamRef, list_chunks, put_chunk, put_entry,
};
use lifeboat_repository::{
    CheckOptions, Contents, Draft, Lane, NewSecret, ReadData, Reader, Repository, Silent,
    Surroundings, Unlock, WriteError, check, verify_store, work,
};
use lifeboat_store::{Body, MemoryStore, ObjectName, Store};

use crate::draw::Draw;
use crate::world::{Counted, framed};

/// Files by path, in the snapshot's folder `media`.
type Files = BTreeMap<String, Vec<u8>>;

/// The repository as it was made, and what is in its snapshots.
struct Original {
    store: MemoryStore,
    names: Vec<ObjectName>,
    key: KeyFile,
    snapshots: Vec<(SnapshotId, Files)>,
}

/// Takes the bytes as changes to the objects of a repository: overwritten, cut, made longer, put in another's place,
/// copied under another name, removed; with or without a final hash that fits again.
///
/// - Opening, verifying, checking and restoring end, with or without an error.
/// - Every file comes back as it was or not at all, and every tree and manifest too.
/// - An object that is not as it was written is found.
pub fn repository(bytes: &[u8]) {
    static ORIGINAL: OnceLock<Original> = OnceLock::new();
    let original = ORIGINAL.get_or_init(make);
    let store = Arc::new(original.store.image());
    let mut draw = Draw(bytes);
    for _ in 0..8 {
        if draw.0.is_empty() {
            break;
        }
        change(&store, &original.names, &mut draw);
    }
    judge(original, &store);
}

fn surroundings(folder: &tempfile::TempDir) -> Surroundings {
    Surroundings {
        now_ms: Box::new(|| 1_700_000_000_000),
        entropy: Mutex::new(Box::new(Counted(0))),
        cache: None,
        state: folder.path().to_owned(),
    }
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary folder can be made")
}

fn make() -> Original {
    let folder = folder();
    let store = Arc::new(MemoryStore::new());
    let created = Repository::create(
        Arc::clone(&store) as Arc<dyn Store>,
        &[NewSecret::KeyFile],
        surroundings(&folder),
    )
    .expect("an empty store takes a repository");
    let mut repository = created.repository;
    let mut noise = vec![0; 2000];
    blake3::Hasher::new().finalize_xof().fill(&mut noise);
    let mut files = Files::from([
        ("a.jpg".to_owned(), noise),
        ("empty".to_owned(), Vec::new()),
        ("notes.txt".to_owned(), b"all work and no play ".repeat(20)),
    ]);
    let mut snapshots = Vec::new();
    for content in [b"first".as_slice(), b"second"] {
        files.insert("z.txt".to_owned(), content.to_vec());
        let draft = Draft {
            app: "shop".into(),
            ..Draft::default()
        };
        let never = AtomicBool::new(false);
        let committed = repository
            .backup(&draft, &Silent, &never, |writer| {
                let contents = Mutex::new(None);
                work(writer, 1, vec![()], |lane, (), _| {
                    *contents.lock().expect("one thread works") = Some(put(lane, &files)?);
                    Ok::<(), WriteError>(())
                })?;
                let contents = contents.into_inner().expect("one thread works");
                Ok::<_, WriteError>(contents.expect("the work was done"))
            })
            .expect("a memory store takes a snapshot");
        snapshots.push((committed.name.id, files.clone()));
    }
    repository
        .say(&Note {
            snapshot: snapshots[0].0,
            kind: "pin".into(),
            value: String::new(),
            removes: None,
            said_ms: 5,
        })
        .expect("a memory store takes a note");
    let mut names = Vec::new();
    store
        .list("", &mut |listed| names.push(listed.name))
        .expect("a memory store can be listed");
    names.sort();
    Original {
        store: store.image(),
        names,
        key: created.key_file.expect("a key file was asked for"),
        snapshots,
    }
}

fn put(lane: &mut Lane<'_, '_>, files: &Files) -> Result<Contents, WriteError> {
    let (mut tree, mut root, mut scratch) = (Vec::new(), Vec::new(), Vec::new());
    for (name, bytes) in files {
        let stream = lane.put_stream(Profile::Files, None, &mut bytes.as_slice())?;
        let chunks = list_chunks(&stream.items)?;
        let entry = Entry {
            size: bytes.len() as u64,
            content: chunks
                .first()
                .map_or(Content::None, |chunk| Content::Chunk(chunk.id)),
            ..Entry::new(EntryKind::File, name.as_bytes())
        };
        put_entry(&mut tree, &entry, &mut scratch);
    }
    let media = lane.put_meta(&tree)?.encode();
    let entry = Entry {
        content: Content::Stream(&media),
        ..Entry::new(EntryKind::Folder, b"media")
    };
    put_entry(&mut root, &entry, &mut scratch);
    let manifest = manifest();
    Ok(Contents {
        root: lane.put_meta(&root)?,
        manifest: lane.put_meta(&manifest.encode())?,
        files: files.len() as u64,
        bytes: files.values().map(|bytes| bytes.len() as u64).sum(),
        unreadable: 0,
    })
}

fn manifest() -> Manifest {
    Manifest {
        sources: vec![SourceRecord::new("media", "folder", "/srv/media")],
        ..Manifest::default()
    }
}

fn get(store: &MemoryStore, name: &ObjectName) -> Option<Vec<u8>> {
    store.get(name, u64::MAX).ok()
}

fn change(store: &MemoryStore, names: &[ObjectName], draw: &mut Draw<'_>) {
    let name = &names[usize::from(draw.byte()) % names.len()];
    let kind = draw.byte();
    let Some(mut object) = get(store, name) else {
        return;
    };
    let at = draw.number() % (object.len() + 1);
    match kind % 6 {
        0 => {
            let count = usize::from(draw.byte() % 64);
            let end = object.len();
            for (byte, new) in object[at..end].iter_mut().zip(draw.bytes(count)) {
                *byte = *new;
            }
        }
        1 => object.truncate(at),
        2 => {
            let count = usize::from(draw.byte());
            let more = draw.bytes(count);
            object.splice(at..at, more.iter().copied());
        }
        3 => {
            let other = &names[usize::from(draw.byte()) % names.len()];
            object = get(store, other).unwrap_or_default();
        }
        4 => {
            let count = usize::from(draw.byte());
            let new = String::from_utf8_lossy(draw.bytes(count)).into_owned();
            if let Ok(new) = ObjectName::new(new) {
                // Where an object is already, this one does not come.
                let _ = store.put_new(&new, Body::Bytes(&object));
            }
            return;
        }
        _ => {
            store.delete(name).expect("a memory store deletes");
            return;
        }
    }
    if kind >= 128 {
        object = framed_again(&object).unwrap_or(object);
    }
    store.damage(name, object);
}

/// The object with table, footer and final hash that fit its header and what was its body.
fn framed_again(object: &[u8]) -> Option<Vec<u8>> {
    let header = Header::decode(object).ok()?;
    let end = object.len().checked_sub(64)?;
    let directory = object.get(end + 8..end + 12)?.try_into().ok()?;
    Some(framed(
        &header,
        object.get(64..end)?,
        u32::from_le_bytes(directory),
    ))
}

fn judge(original: &Original, store: &Arc<MemoryStore>) {
    let never = AtomicBool::new(false);
    let changed: Vec<&ObjectName> = original
        .names
        .iter()
        .filter(|name| {
            get(store, name).is_some_and(|object| Some(object) != get(&original.store, name))
        })
        .collect();
    let verified = verify_store(store.as_ref(), &Silent, &never).expect("the store can be listed");
    let folder = folder();
    let opened = Repository::open(
        Arc::clone(store) as Arc<dyn Store>,
        &Unlock::KeyFile(&original.key),
        surroundings(&folder),
    );
    let Ok(repository) = opened else { return };
    let options = CheckOptions {
        read_data: ReadData::All,
    };
    if let Ok(report) = check(&repository, &options, &Silent, &never) {
        assert!(
            changed.is_empty() || !report.findings.is_empty() || !verified.findings.is_empty(),
            "nobody found {changed:?}"
        );
    }
    let _ = repository.notes();
    let Ok(list) = repository.snapshots() else {
        return;
    };
    for snapshot in &list.snapshots {
        let (_, files) = original
            .snapshots
            .iter()
            .find(|(id, _)| *id == snapshot.name.id)
            .expect("every snapshot was made by its writer");
        if let Ok(read) = repository.manifest(snapshot) {
            assert_eq!(read, manifest());
        }
        restore(&repository, &snapshot.head, files);
    }
}

/// Reads a snapshot back; what is read is what was written.
fn restore(repository: &Repository, head: &Head, files: &Files) {
    let Ok(reader) = repository.reader(head.domain) else {
        return;
    };
    let Ok(root) = reader.whole(&head.root) else {
        return;
    };
    let tree = match only(Entries::new(&root).map(|entry| entry.expect("the tree is as written")))
        .content
    {
        Content::Stream(reference) => StreamRef::decode(reference).expect("it is as written"),
        _ => panic!("the root names the source's tree"),
    };
    let Ok(tree) = reader.whole(&tree) else {
        return;
    };
    let mut listed = Vec::new();
    for entry in Entries::new(&tree) {
        let entry = entry.expect("the tree is as written");
        let name = String::from_utf8_lossy(entry.name).into_owned();
        if let Some(bytes) = content(&reader, &entry) {
            assert_eq!(Some(&bytes), files.get(&name));
        }
        listed.push(name);
    }
    assert!(listed.iter().eq(files.keys()));
}

fn only<T>(mut all: impl Iterator<Item = T>) -> T {
    let first = all.next().expect("the root has one source");
    assert!(all.next().is_none());
    first
}

fn content(reader: &Reader<'_>, entry: &Entry<'_>) -> Option<Vec<u8>> {
    let mut list = Vec::new();
    match entry.content {
        Content::Chunk(id) => put_chunk(
            &mut list,
            ChunkItem {
                id,
                length: entry.size as u32,
            },
        ),
        _ => return Some(Vec::new()),
    }
    let stream = StreamRef::new(entry.size, Profile::Files, 0, list);
    let mut bytes = Vec::new();
    reader.copy_to(&stream, &mut bytes).ok().map(|()| bytes)
}
