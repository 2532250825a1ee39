//! One backup of an app: every source into one snapshot.

use std::collections::HashSet;
use std::io;
use std::sync::atomic::AtomicBool;

use lifeboat_codec::{Entries, Manifest, Problem, Role, SnapshotId, SourceRecord, StreamRef};
use lifeboat_files::{Excludes, Folder, Identity};
use lifeboat_postgres::TablePart;
use lifeboat_repository::{
    Committed, Contents, Draft, Progress, ReadError, Repository, Snapshot, SourceMemory,
    WriteError, Writer,
};
use thiserror::Error;
use tokio::runtime::Handle;

use crate::bundle::Bundles;
use crate::config::FolderSource;
use crate::earlier::{Earlier, fitting};
use crate::entry::content_of;
use crate::facts::database_parts;
use crate::folder::{FolderError, FolderOptions, Rows, read_folder};
use crate::memory::{Gathered, Memory, Seen, StoredTrees, remembered, stored_tree};
use crate::postgres::{Reading, read_postgres};
use crate::references::{Asking, References};
use crate::selector::only_sources;
use crate::source::{
    Source, SourceError, SourceRead, on_lane, read_command, read_secrets, read_stdin,
};
use crate::sqlite::read_sqlite;

/// What is to be backed up.
#[derive(Clone, Debug)]
pub struct BackupRequest {
    /// The app.
    pub app: String,
    /// Its sources.
    pub sources: Vec<Source>,
    /// Tags for the snapshot.
    pub tags: Vec<String>,
    /// More patterns to leave out, in every folder.
    pub exclude: Vec<String>,
    /// Take apart files that hold others, where the source allows it.
    pub bundles: bool,
    /// The app's time zone, an IANA name.
    pub time_zone: String,
    /// Workers.
    pub threads: usize,
    /// Folders that are never read: the repository itself, local caches.
    pub skip: Vec<std::path::PathBuf>,
    /// Files that hold secrets, wherever a folder shows them.
    pub secrets: Vec<std::path::PathBuf>,
}

/// A backup that was made.
#[derive(Debug)]
pub struct BackupOutcome {
    /// The snapshot.
    pub committed: Committed,
    /// What could not be read, or is not as it should be.
    pub problems: Vec<Problem>,
    /// What was read.
    pub sources: Vec<SourceRecord>,
}

/// A backup failed; there is no snapshot.
#[derive(Debug, Error)]
pub enum BackupError {
    /// A source could not be read as a whole.
    #[error("source {name} could not be backed up")]
    Source {
        /// Its name.
        name: String,
        /// Why.
        #[source]
        source: Box<SourceError>,
    },
    /// Two sources would have the same folder in the snapshot.
    #[error("two sources are called {0}")]
    SameName(String),
    /// There is nothing to back up.
    #[error("the app has no sources")]
    NoSources,
    /// The repository failed.
    #[error(transparent)]
    Write(#[from] WriteError),
}

impl From<ReadError> for BackupError {
    fn from(error: ReadError) -> Self {
        Self::Write(WriteError::Read(error))
    }
}

/// Makes a snapshot of an app.
///
/// # Errors
/// When a source fails as a whole, or the repository does. Single items that cannot be read are in the outcome.
pub fn backup(
    repository: &mut Repository,
    request: &BackupRequest,
    progress: &dyn Progress,
    stop: &AtomicBool,
    runtime: &Handle,
) -> Result<BackupOutcome, BackupError> {
    let mut sources: Vec<&Source> = request.sources.iter().collect();
    if sources.is_empty() {
        return Err(BackupError::NoSources);
    }
    let mut names = HashSet::new();
    if let Some(twice) = sources.iter().find(|source| !names.insert(source.name())) {
        return Err(BackupError::SameName(twice.name().to_owned()));
    }
    sources.sort_by_key(|source| source.order());
    let started_ms = repository.now_ms();
    let domain = repository.own_domain()?;
    let host = host_name();
    let parent = if repository.role() == Role::WriteOnly {
        None
    } else {
        // One that lacks a folder would have it read anew, and nothing of it carried forward.
        let has_all = |snapshot: &Snapshot| {
            let only = only_sources(snapshot.head.tags.iter().map(String::as_str));
            only.is_none_or(|only| names.iter().all(|name| only.contains(name)))
        };
        repository.parent_of(&request.app, &host, domain, has_all)?
    };
    let past = Past::find(repository, &request.app, parent.as_ref(), &sources);
    let fitting = fitting(repository, parent.as_ref());
    let (skip, secrets) = (skipped(request), secrets(request));
    let draft = Draft {
        app: request.app.clone(),
        host,
        user: user_name(),
        time_zone: request.time_zone.clone(),
        program: format!("lifeboat {}", env!("CARGO_PKG_VERSION")),
        started_ms,
        parent: parent.as_ref().map(|parent| parent.name.id),
        tags: request.tags.clone(),
    };
    let mut kept = None;
    let committed = repository.backup(
        &draft,
        progress,
        stop,
        |writer| -> Result<Contents, BackupError> {
            let run = Run {
                writer,
                stop,
                domain,
                request,
                now_ms: started_ms,
                runtime,
                past: &past,
                earlier: Earlier::new(writer.repository(), &fitting),
                skip: &skip,
                secrets: &secrets,
            };
            let (contents, rest) = run.sources(&sources)?;
            kept = Some(rest);
            Ok(contents)
        },
    )?;
    let rest = kept.expect("a run that ended well kept what it read");
    for seen in rest.seen {
        seen.remember(repository, &committed.basis, committed.name.id, started_ms);
    }
    Ok(BackupOutcome {
        committed,
        problems: rest.problems,
        sources: rest.records,
    })
}

/// What the last snapshot knows, taken out before the run borrows the repository.
struct Past {
    id: Option<SnapshotId>,
    started_ms: u64,
    /// Source name and local memory.
    local: Vec<(String, SourceMemory)>,
    /// The root tree of the parent snapshot, where local memory lacks.
    root: Option<Vec<u8>>,
    domain: u32,
}

impl Past {
    fn find(
        repository: &Repository,
        app: &str,
        parent: Option<&Snapshot>,
        sources: &[&Source],
    ) -> Self {
        let folders = sources
            .iter()
            .filter(|source| matches!(source, Source::Folder(_)));
        let local: Vec<_> = folders
            .filter_map(|source| {
                Some((
                    source.name().to_owned(),
                    repository.source_memory(app, source.name())?,
                ))
            })
            .collect();
        let root = parent.and_then(|parent| {
            repository
                .reader(parent.head.domain)
                .ok()?
                .whole(&parent.head.root)
                .ok()
        });
        // A write-only host lists no snapshots; its own memory names the one that it made.
        let own = local.first().and_then(|(_, memory)| remembered(memory));
        let id = parent
            .map(|parent| parent.name.id)
            .or_else(|| own.filter(|_| repository.role() == Role::WriteOnly));
        Self {
            id,
            started_ms: parent.map_or(0, |parent| parent.head.started_ms),
            local,
            root,
            domain: parent.map_or(0, |parent| parent.head.domain),
        }
    }
}

struct Run<'a, 'r> {
    writer: &'a Writer<'r>,
    stop: &'a AtomicBool,
    /// Where chunks are written.
    domain: u32,
    request: &'a BackupRequest,
    now_ms: u64,
    runtime: &'a Handle,
    past: &'a Past,
    /// What streams were.
    earlier: Earlier<'r>,
    skip: &'a HashSet<Identity>,
    secrets: &'a HashSet<Identity>,
}

struct Kept {
    problems: Vec<Problem>,
    records: Vec<SourceRecord>,
    /// What the next run may use.
    seen: Vec<Seen>,
    /// The sources' folders, encoded, by name.
    entries: Vec<(String, Vec<u8>)>,
}

impl<'r> Run<'_, 'r> {
    fn sources(&self, sources: &[&Source]) -> Result<(Contents, Kept), BackupError> {
        let mut kept = Kept {
            problems: Vec::new(),
            records: Vec::new(),
            seen: Vec::new(),
            entries: Vec::new(),
        };
        let references =
            references(sources).map_err(|error| BackupError::Write(WriteError::Source(error)))?;
        let asking = Asking(&references);
        // Databases come first: what their rows name is known when the folders are read.
        for source in sources {
            let read = self.source(source, asking, &mut kept.seen);
            self.keep(source.name(), read, &mut kept)?;
        }
        let mut entries = std::mem::take(&mut kept.entries);
        entries.sort();
        let root_tree: Vec<u8> = entries.into_iter().flat_map(|(_, entry)| entry).collect();
        let manifest = Manifest {
            sources: kept.records.clone(),
            problems: kept.problems.clone(),
            users: names_in("/etc/passwd"),
            groups: names_in("/etc/group"),
            ..Manifest::default()
        };
        let manifest = manifest.encode();
        let (root, manifest) = on_lane(self.writer, 1, |lane| -> Result<_, WriteError> {
            Ok((lane.put_meta(&root_tree)?, lane.put_meta(&manifest)?))
        })?;
        let sum = |of: fn(&SourceRecord) -> u64| kept.records.iter().map(of).sum();
        let contents = Contents {
            root,
            manifest,
            files: sum(|record| record.files),
            bytes: sum(|record| record.bytes),
            unreadable: sum(|record| record.unreadable),
        };
        Ok((contents, kept))
    }

    /// Keeps what a source gave, and tells what it could not give.
    fn keep(
        &self,
        name: &str,
        read: Result<SourceRead, SourceError>,
        kept: &mut Kept,
    ) -> Result<(), BackupError> {
        let read = read.map_err(|error| match error {
            SourceError::Write(error) => BackupError::Write(error),
            SourceError::Folder(FolderError::Write(error)) => BackupError::Write(error),
            source_error => BackupError::Source {
                name: name.to_owned(),
                source: Box::new(source_error),
            },
        })?;
        for problem in &read.problems {
            self.writer.progress().problem(&format!(
                "{}/{}: {}",
                problem.source,
                crate::text::shown_path(&problem.path),
                problem.what
            ));
        }
        kept.entries.push((name.to_owned(), read.entry));
        kept.records.push(read.record);
        kept.problems.extend(read.problems);
        Ok(())
    }

    fn source(
        &self,
        source: &Source,
        asking: Asking<'_>,
        seen: &mut Vec<Seen>,
    ) -> Result<SourceRead, SourceError> {
        let threads = self.request.threads;
        match source {
            Source::Postgres(source) => {
                let reading = Reading {
                    writer: self.writer,
                    threads,
                    now_ms: self.now_ms,
                    runtime: self.runtime,
                    stop: self.stop,
                    domain: self.domain,
                    asking,
                    earlier: self.earlier_tables(&source.name),
                    before: &self.earlier,
                };
                read_postgres(&reading, source)
            }
            Source::Sqlite(source) => read_sqlite(
                self.writer,
                threads,
                source,
                self.now_ms,
                asking,
                &self.earlier,
            ),
            Source::Command(source) => {
                let bundles = Bundles::new(source.bundles && self.request.bundles);
                let reading = (&self.earlier, &bundles);
                read_command(self.writer, threads, source, self.now_ms, reading)
            }
            Source::Stdin { filename } => {
                let bundles = Bundles::new(self.request.bundles);
                let reading = (&self.earlier, &bundles);
                read_stdin(self.writer, threads, filename, self.now_ms, reading)
            }
            Source::Secrets(source) => read_secrets(self.writer, source),
            Source::Folder(source) => self.folder(source, asking, seen),
        }
    }

    /// What the previous snapshot says of a database's tables; without it each order is decided anew.
    fn earlier_tables(&self, name: &str) -> Vec<TablePart> {
        let repository = self.writer.repository();
        let parts = || {
            let reader = repository.reader(self.past.domain).ok()?;
            let tree = past_of_source(self.past.root.as_deref()?, name)?;
            let tree = StreamRef::decode(&tree).ok()?;
            let tree = reader.whole(&tree).ok()?;
            let mut entries = Entries::new(&tree).filter_map(Result::ok);
            let entry = entries.find(|entry| entry.name == b"database.json")?;
            let text = reader.whole(&content_of(&entry).ok()?).ok()?;
            database_parts(&String::from_utf8_lossy(&text))
        };
        parts().map_or_else(Vec::new, |parts| parts.tables)
    }

    fn folder(
        &self,
        source: &FolderSource,
        asking: Asking<'_>,
        seen: &mut Vec<Seen>,
    ) -> Result<SourceRead, SourceError> {
        self.writer
            .progress()
            .phase(&format!("Reading {}", source.path.display()));
        let patterns: Vec<&String> = source.exclude.iter().chain(&self.request.exclude).collect();
        let repository = self.writer.repository();
        let reader = self
            .past
            .root
            .as_ref()
            .and_then(|_| repository.reader(self.past.domain).ok());
        let expected = asking.expected(&source.name);
        let bundles = Bundles::new(source.bundles && self.request.bundles);
        let options = FolderOptions {
            excludes: Excludes::new(&patterns)?,
            one_file_system: source.one_file_system,
            exclude_caches: source.exclude_caches,
            skip: self.skip.clone(),
            secrets: self.secrets.clone(),
            rows: expected.as_ref().map(|expected| Rows {
                expected,
                reader: reader.as_ref(),
            }),
            earlier: &self.earlier,
            bundles: &bundles,
        };
        let local = self
            .past
            .local
            .iter()
            .find(|(name, _)| *name == source.name);
        let local = local.zip(self.past.id).and_then(|((_, memory), id)| {
            let whole = self.writer.still_has(&memory.basis);
            Memory::local(repository, memory, id, whole)
        });
        let stored = reader.as_ref().and_then(|reader| {
            let top = past_of_source(self.past.root.as_deref()?, &source.name)?;
            Some(StoredTrees { reader, top })
        });
        let memory = match (local, &stored) {
            (Some(memory), _) => memory,
            (None, Some(_)) => Memory::snapshot(self.past.started_ms),
            (None, None) => Memory::none(),
        };
        let memory = memory.or_stored(stored);
        let read = read_folder(
            self.writer,
            self.request.threads,
            &source.name,
            &source.path,
            &options,
            &memory,
            Gathered::new(repository, &self.request.app, &source.name),
        )?;
        let mut record =
            SourceRecord::new(&source.name, "folder", &source.path.display().to_string());
        (record.files, record.bytes, record.unreadable) = (read.files, read.bytes, read.unreadable);
        record.facts.extend(bundles.facts());
        seen.push(read.seen);
        let mut problems = read.problems;
        if let Some(expected) = expected {
            let outcome = expected.finish().map_err(WriteError::Source)?;
            record.unreadable += outcome.told;
            record.facts.extend(outcome.facts);
            problems.extend(outcome.problems);
        }
        Ok(SourceRead {
            entry: read.entry,
            record,
            problems,
        })
    }
}

/// The encoded reference to the past tree of a source's own folder, from the parent snapshot's root.
fn past_of_source(root: &[u8], name: &str) -> Option<Box<[u8]>> {
    Entries::new(root)
        .map_while(Result::ok)
        .find(|entry| entry.name == name.as_bytes())
        .and_then(|entry| stored_tree(&entry))
}

/// What rows say of the folders' files. Without a database in this run nothing can be said.
fn references<'s>(sources: &[&'s Source]) -> io::Result<Vec<References<'s>>> {
    let has_rows = sources.iter().any(|source| source.has_rows());
    let folders = sources.iter().filter_map(|source| match source {
        Source::Folder(folder) if has_rows => Some(folder),
        _ => None,
    });
    folders
        .filter_map(|folder| References::of(folder).transpose())
        .collect()
}

/// What the walk must not touch: the repository, and databases that are sources of their own.
///
/// Closing any handle of a database's file would drop the locks of this very process on it.
fn skipped(request: &BackupRequest) -> HashSet<Identity> {
    let mut skip: HashSet<Identity> = request
        .skip
        .iter()
        .filter_map(|path| identity(path))
        .collect();
    for source in &request.sources {
        if let Source::Sqlite(source) = source {
            // The logs lie beside the file itself, wherever a link to it lies.
            let real = source.path.canonicalize();
            let real = real.unwrap_or_else(|_| source.path.clone());
            skip.extend(
                ["", "-wal", "-shm", "-journal"]
                    .iter()
                    .filter_map(|suffix| {
                        let mut path = real.as_os_str().to_owned();
                        path.push(suffix);
                        identity(std::path::Path::new(&path))
                    }),
            );
        }
    }
    skip
}

/// The files that are marked as secrets where a folder shows them too.
fn secrets(request: &BackupRequest) -> HashSet<Identity> {
    let of_sources = request.sources.iter().filter_map(|source| match source {
        Source::Secrets(source) => Some(&source.paths),
        _ => None,
    });
    let paths = of_sources.flatten().chain(&request.secrets);
    // One that is not there is told by the source that is to read it.
    paths
        .filter_map(|path| identity(&path.canonicalize().ok()?))
        .collect()
}

/// Which object lies at the path, if any; of a link the link itself.
fn identity(path: &std::path::Path) -> Option<Identity> {
    use std::os::unix::ffi::OsStrExt;
    let name = path.file_name()?;
    let parent = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    let folder = Folder::open(parent.unwrap_or(std::path::Path::new("."))).ok()?;
    Some(folder.metadata(name.as_bytes()).ok()?.identity())
}

/// The machine's name.
#[must_use]
pub fn host_name() -> String {
    rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned()
}

/// The name of the user who runs the program.
#[must_use]
pub fn user_name() -> String {
    let uid = rustix::process::geteuid().as_raw();
    names_in("/etc/passwd")
        .into_iter()
        .find(|(number, _)| *number == uid)
        .map_or_else(|| uid.to_string(), |(_, name)| name)
}

/// Numbers and names of `/etc/passwd` or `/etc/group`.
pub(crate) fn names_in(path: &str) -> Vec<(u32, String)> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let parse = |line: &str| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        Some((fields.nth(1)?.parse().ok()?, name.to_owned()))
    };
    text.lines().filter_map(parse).collect()
}

/// The number that `name` has in `/etc/passwd` or `/etc/group`.
#[must_use]
pub fn number_of(name: &str, file: &str) -> Option<u32> {
    names_in(file)
        .into_iter()
        .find(|(_, known)| known == name)
        .map(|(number, _)| number)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::Arc;

    use lifeboat_repository::{Counter, NewSecret, Surroundings};
    use lifeboat_store::MemoryStore;

    use super::*;
    use crate::testing::Watcher;

    #[test]
    fn what_is_told_along_the_way_adds_up_to_what_was_done() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("media");
        fs::create_dir(&path).unwrap();
        let (mut film, mut noise) = (vec![0; 20 << 20], 1_u64);
        for part in film.chunks_exact_mut(8) {
            noise ^= noise << 13;
            noise ^= noise >> 7;
            noise ^= noise << 17;
            part.copy_from_slice(&noise.to_le_bytes());
        }
        fs::write(path.join("film"), film).unwrap();
        for number in 0..300 {
            fs::write(path.join(format!("note {number}")), "a few words").unwrap();
        }
        let surroundings = Surroundings::system(None, scratch.path().join("state"));
        let store = Arc::new(MemoryStore::new());
        let created = Repository::create(store, &[NewSecret::KeyFile], surroundings).unwrap();
        let mut repository = created.repository;
        let request = crate::testing::request(&path, 2);
        let (stop, runtime) = (AtomicBool::new(false), tokio::runtime::Runtime::new());
        for is_first in [true, false] {
            let watcher = Watcher::default();
            let runtime = runtime.as_ref().unwrap().handle();
            let made = backup(&mut repository, &request, &watcher, &stop, runtime).unwrap();
            let totals = made.committed.head.totals;
            assert_eq!(totals.files, 301);
            assert_eq!(watcher.sum(Counter::Files), totals.files);
            assert_eq!(watcher.sum(Counter::Bytes), totals.bytes);
            assert_eq!(watcher.sum(Counter::StoredBytes), totals.stored_bytes);
            if is_first {
                let largest = watcher.amounts(Counter::Bytes).into_iter().max();
                assert!(largest <= Some(8 << 20), "{largest:?}");
                assert!(totals.stored_bytes > 20 << 20);
            }
        }
    }
}
