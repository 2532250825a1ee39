//! A PostgreSQL database as it lies in a snapshot: what it was, and where its content is.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Seek, Write};
use std::sync::Mutex;

use lifeboat_codec::{Entries, EntryKind, Secret, StreamRef};
use lifeboat_postgres::{
    DatabaseFacts, Extension, LARGE_OBJECTS_FOLDER, Parts, SCHEMA_FILE, Wanted, large_object_file,
    table_file,
};
use lifeboat_repository::{ReadError, Reader, Repository, Snapshot, StreamError};
use thiserror::Error;

use crate::browse::{Found, PathError, find_item};
use crate::entry::{content_of, wrong};
use crate::facts::{database_extensions, database_facts, database_parts};

/// A database is not in the snapshot, or cannot be read.
#[derive(Debug, Error)]
pub enum StoredError {
    /// The snapshot has none, or several.
    #[error("{0}")]
    Which(String),
    /// It is not in the snapshot.
    #[error(transparent)]
    Path(#[from] PathError),
    /// The repository does not give it.
    #[error("the database cannot be read from the repository")]
    Read(#[from] ReadError),
    /// A file for the time of the work could not be made or written.
    #[error("cannot write a temporary file")]
    Temporary(#[source] io::Error),
}

/// A database of a snapshot.
pub(crate) struct StoredDatabase<'r> {
    reader: Reader<'r>,
    /// The source's name.
    pub(crate) source: String,
    /// How the database was made, where that is told in words known here.
    pub(crate) facts: Option<DatabaseFacts>,
    pub(crate) extensions: Vec<Extension>,
    pub(crate) form: Form,
}

/// How it is stored.
pub(crate) enum Form {
    /// By `pg_dump`: one archive of everything.
    Archive(StreamRef),
    /// Natively: the schema, and a file for each table's rows and each large object.
    Parts(Box<StoredParts>),
}

pub(crate) struct StoredParts {
    schema: StreamRef,
    pub(crate) parts: Parts,
    /// By their paths in the database's folder.
    files: HashMap<Vec<u8>, StreamRef>,
    /// What rows are hashed with.
    pub(crate) key: Secret,
    /// The first thing that the repository did not give.
    failure: Mutex<Option<ReadError>>,
}

impl<'r> StoredDatabase<'r> {
    /// The database `source` of a snapshot, or its only one.
    pub(crate) fn find(
        repository: &'r Repository,
        snapshot: &Snapshot,
        source: Option<&str>,
    ) -> Result<Self, StoredError> {
        let source = match source {
            Some(source) => source.to_owned(),
            None => only_database(repository, snapshot)?,
        };
        let reader = repository.reader(snapshot.head.domain)?;
        let tree = match find_item(&reader, snapshot, source.as_bytes())? {
            Found::Folder { tree, .. } => tree,
            Found::Other(_) => return Err(no_database(&source)),
        };
        let mut files = files(&reader, &tree)?;
        let described = match files.get(b"database.json".as_slice()) {
            Some(content) => reader.whole(content)?,
            None => return Err(no_database(&source)),
        };
        let described = String::from_utf8_lossy(&described);
        let archive = files.remove(b"database.dump".as_slice());
        let form = match (archive, files.remove(SCHEMA_FILE.as_bytes())) {
            (Some(archive), _) => Form::Archive(archive),
            (None, Some(schema)) => {
                let parts = database_parts(&described).ok_or_else(|| {
                    let message = "database.json does not say what the database's files are";
                    StoredError::Which(format!("{source}: {message}"))
                })?;
                Form::Parts(Box::new(StoredParts {
                    schema,
                    parts,
                    files,
                    key: repository.rows_key(snapshot.head.domain)?,
                    failure: Mutex::new(None),
                }))
            }
            (None, None) => return Err(no_database(&source)),
        };
        Ok(Self {
            reader,
            facts: database_facts(&described),
            extensions: database_extensions(&described),
            form,
            source,
        })
    }

    pub(crate) fn reader(&self) -> &Reader<'r> {
        &self.reader
    }

    /// The archive of the schema, in a file without a name that nobody else can open.
    pub(crate) fn schema(&self, stored: &StoredParts) -> Result<File, StoredError> {
        let mut file = tempfile::tempfile().map_err(StoredError::Temporary)?;
        let copied = self.reader.copy_to(&stored.schema, &mut file);
        copied.map_err(|error| match error {
            StreamError::Read(error) => StoredError::Read(error),
            StreamError::Write(error) => StoredError::Temporary(error),
        })?;
        file.rewind().map_err(StoredError::Temporary)?;
        Ok(file)
    }

    /// Writes a part's content. What the repository does not give is kept for [`StoredParts::judge`].
    pub(crate) fn write(
        &self,
        stored: &StoredParts,
        wanted: Wanted<'_>,
        out: &mut dyn Write,
    ) -> io::Result<()> {
        let name = match wanted {
            Wanted::Rows(part) => table_file(&part.schema, &part.name),
            Wanted::LargeObject(part) => large_object_file(part.oid),
        };
        let content = stored.files.get(name.as_bytes());
        let content =
            content.ok_or_else(|| io::Error::other(format!("the snapshot has no {name}")))?;
        match self.reader.copy_to(content, out) {
            Ok(()) => Ok(()),
            Err(StreamError::Write(error)) => Err(error),
            Err(StreamError::Read(error)) => {
                let shown = io::Error::other(error.to_string());
                let mut failure = stored
                    .failure
                    .lock()
                    .expect("no thread panics while it reads");
                failure.get_or_insert(error);
                Err(shown)
            }
        }
    }
}

impl StoredParts {
    /// What came of work that read parts: the repository's fault is the cause, whatever was made of it.
    pub(crate) fn judge<T, E: From<StoredError>>(&self, result: Result<T, E>) -> Result<T, E> {
        let mut failure = self
            .failure
            .lock()
            .expect("no thread panics while it reads");
        match failure.take() {
            Some(error) => Err(StoredError::Read(error).into()),
            None => result,
        }
    }
}

fn no_database(source: &str) -> StoredError {
    StoredError::Which(format!("{source} is not a PostgreSQL database"))
}

fn only_database(repository: &Repository, snapshot: &Snapshot) -> Result<String, StoredError> {
    let manifest = repository.manifest(snapshot)?;
    let databases = manifest
        .sources
        .iter()
        .filter(|source| source.kind == "postgres");
    let names: Vec<&str> = databases.map(|source| source.name.as_str()).collect();
    match names.as_slice() {
        [only] => Ok((*only).to_owned()),
        [] => Err(StoredError::Which(
            "the snapshot holds no PostgreSQL database".to_owned(),
        )),
        several => Err(StoredError::Which(format!(
            "the snapshot holds several databases: {}",
            several.join(", ")
        ))),
    }
}

/// The files of a database's folder, by their paths in it.
fn files(reader: &Reader<'_>, tree: &StreamRef) -> Result<HashMap<Vec<u8>, StreamRef>, ReadError> {
    let mut files = HashMap::new();
    for entry in Entries::new(&reader.whole(tree)?) {
        let entry = entry.map_err(wrong)?;
        match entry.kind {
            EntryKind::File => {
                files.insert(entry.name.to_vec(), content_of(&entry)?);
            }
            EntryKind::Folder if entry.name == LARGE_OBJECTS_FOLDER.as_bytes() => {
                for object in Entries::new(&reader.whole(&content_of(&entry)?)?) {
                    let object = object.map_err(wrong)?;
                    let path = [entry.name, b"/", object.name].concat();
                    files.insert(path, content_of(&object)?);
                }
            }
            _ => {}
        }
    }
    Ok(files)
}
