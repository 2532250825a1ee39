//! The sources of an app: each is read into one folder of the snapshot.
//!
//! Invariant: a source that fails as a whole makes the run fail, so no snapshot ever holds half a database; an item of
//! a folder that cannot be read is an entry and a problem, and the run goes on.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::process::{Command, Stdio};
use std::sync::Mutex;

use lifeboat_codec::{
    Content, Entry, EntryKind, EntryTime, Problem, Profile, SourceRecord, StreamRef, put_entry,
};
use lifeboat_postgres::{
    ConnectError, DumpError, GlobalsError, MomentError, NativeError, PreflightError, QueryError,
    ResolveError, TablePlanError,
};
use lifeboat_repository::{Counter, Lane, ReadError, WriteError, Writer, work};
use thiserror::Error;

use crate::bundle::{Bundles, put_content};
use crate::config::{
    CommandSource, FolderSource, PostgresSource, SecretError, SecretsSource, SourceConfig,
    SqliteSource,
};
use crate::earlier::Earlier;
use crate::entry::Stored;
use crate::folder::FolderError;
use crate::patient::{wait_for, wait_for_end};
use crate::redact::redact_arguments;

/// The variables that hold a repository's secret or lead to it: no other program needs them, so none gets them.
pub const SECRET_VARIABLES: [&str; 6] = [
    "LIFEBOAT_PASSWORD",
    "LIFEBOAT_PASSWORD_FILE",
    "LIFEBOAT_PASSWORD_COMMAND",
    "LIFEBOAT_KEY_FILE",
    "LIFEBOAT_TO_PASSWORD_FILE",
    "LIFEBOAT_TO_KEY_FILE",
];

/// The fact of a PostgreSQL source that is a line which `pg_dump` wrote to standard error although it succeeded.
///
/// It may speak of something that is not in the dump, such as a subscription, so whoever runs the backup is told.
pub const PG_DUMP_SAID: &str = "pg_dump-said";

/// The fact of a PostgreSQL source that says why `pg_dump` read its rows although nobody asked for that.
pub const ENGINE_BECAUSE: &str = "engine-because";

/// A file with secrets is never larger than a file of settings is.
pub(crate) const SECRET_BYTES_MAX: u64 = 16 << 20;

/// One thing that is read.
#[derive(Clone, Debug)]
pub enum Source {
    /// A folder of files.
    Folder(FolderSource),
    /// Files with secrets.
    Secrets(SecretsSource),
    /// An SQLite database.
    Sqlite(SqliteSource),
    /// A PostgreSQL database.
    Postgres(PostgresSource),
    /// A command's output.
    Command(CommandSource),
    /// Standard input, under this file name.
    Stdin {
        /// The file's name in the snapshot.
        filename: String,
    },
}

impl From<SourceConfig> for Source {
    fn from(config: SourceConfig) -> Self {
        match config {
            SourceConfig::Folder(source) => Self::Folder(source),
            SourceConfig::Secrets(source) => Self::Secrets(source),
            SourceConfig::Sqlite(source) => Self::Sqlite(source),
            SourceConfig::Postgres(source) => Self::Postgres(source),
            SourceConfig::Command(source) => Self::Command(source),
        }
    }
}

impl Source {
    /// The source's folder in a snapshot.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Folder(source) => &source.name,
            Self::Secrets(_) => crate::config::SECRETS_NAME,
            Self::Sqlite(source) => &source.name,
            Self::Postgres(source) => &source.name,
            Self::Command(source) => &source.name,
            Self::Stdin { .. } => "stdin",
        }
    }

    /// What kind of source it is, as the manifest says it.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Folder(_) => "folder",
            Self::Secrets(_) => "secrets",
            Self::Sqlite(_) => "sqlite",
            Self::Postgres(_) => "postgres",
            Self::Command(_) => "command",
            Self::Stdin { .. } => "stdin",
        }
    }

    /// Whether it is a database whose rows can name files.
    pub(crate) fn has_rows(&self) -> bool {
        matches!(self, Self::Postgres(_) | Self::Sqlite(_))
    }

    /// Databases come first, so that every file that a row names at that moment is read after it.
    pub(crate) fn order(&self) -> u8 {
        match self {
            Self::Postgres(_) => 0,
            Self::Sqlite(_) => 1,
            Self::Stdin { .. } | Self::Command(_) => 2,
            Self::Folder(_) => 3,
            Self::Secrets(_) => 4,
        }
    }
}

/// A source could not be read.
#[derive(Debug, Error)]
pub enum SourceError {
    /// A folder.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// Exclude patterns.
    #[error(transparent)]
    Exclude(#[from] lifeboat_files::ExcludeError),
    /// A file of secrets.
    #[error("cannot read {path}")]
    File {
        /// Which.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// An SQLite database.
    #[error("cannot read the SQLite database {path}")]
    Sqlite {
        /// Which.
        path: String,
        /// Why.
        #[source]
        source: rusqlite::Error,
    },
    /// The copy of an SQLite database does not fit into the folder for temporary files.
    #[error("no room in {folder} for a copy of the SQLite database {path}")]
    NoRoom {
        /// Where the copy would lie.
        folder: String,
        /// The database.
        path: String,
    },
    /// The database's address.
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    /// Its password.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// What would make the dump fail.
    #[error(transparent)]
    Preflight(#[from] PreflightError),
    /// The moment of the dump.
    #[error(transparent)]
    Moment(#[from] MomentError),
    /// There is no connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The server did not say what the database holds.
    #[error(transparent)]
    Query(#[from] QueryError),
    /// The streams.
    #[error(transparent)]
    Native(NativeError),
    /// The key for the rows' digests.
    #[error(transparent)]
    Key(#[from] ReadError),
    /// Which tables have rows is not known.
    #[error(transparent)]
    Tables(#[from] TablePlanError),
    /// The dump.
    #[error(transparent)]
    Dump(#[from] DumpError),
    /// Roles and settings.
    #[error(transparent)]
    Globals(#[from] GlobalsError),
    /// A command could not be started.
    #[error("cannot start {0}")]
    Start(String, #[source] io::Error),
    /// A command failed: whatever it printed is not a backup.
    #[error("{command} failed: {how}")]
    Command {
        /// What was run.
        command: String,
        /// Exit status and the last lines of its errors.
        how: String,
    },
    /// The repository failed.
    #[error(transparent)]
    Write(#[from] WriteError),
}

impl SourceError {
    /// True when the database or the way to it, not the repository or a program, is the cause.
    #[must_use]
    pub fn is_database(&self) -> bool {
        matches!(
            self,
            Self::Resolve(_)
                | Self::Secret(_)
                | Self::Preflight(_)
                | Self::Moment(_)
                | Self::Connect(_)
                | Self::Query(_)
                | Self::Native(
                    NativeError::Moment(_) | NativeError::Tables(_) | NativeError::Query(_)
                )
                | Self::Tables(_)
                | Self::Dump(DumpError::Moment(_))
        )
    }
}

impl From<NativeError> for SourceError {
    fn from(error: NativeError) -> Self {
        match error {
            NativeError::Stopped => Self::Write(WriteError::Stopped),
            error => Self::Native(error),
        }
    }
}

/// What a source gave.
pub(crate) struct SourceRead {
    pub(crate) entry: Vec<u8>,
    pub(crate) record: SourceRecord,
    pub(crate) problems: Vec<Problem>,
}

/// Runs `each` on one lane while the other workers seal for it.
pub(crate) fn on_lane<T, E>(
    writer: &Writer<'_>,
    threads: usize,
    each: impl FnOnce(&mut Lane<'_, '_>) -> Result<T, E> + Send,
) -> Result<T, E>
where
    T: Send,
    E: From<WriteError> + Send,
{
    let (each, result) = (Mutex::new(Some(each)), Mutex::new(None));
    work(writer, threads, vec![()], |lane, (), _| -> Result<(), E> {
        let each = each
            .lock()
            .expect("no thread panics here")
            .take()
            .expect("there is one task");
        let value = each(lane)?;
        *result.lock().expect("no thread panics here") = Some(value);
        Ok(())
    })?;
    Ok(result
        .into_inner()
        .expect("no thread panics here")
        .expect("the task was done"))
}

/// A file that a source is made of.
pub(crate) struct MadeFile {
    pub(crate) name: String,
    pub(crate) mode: u32,
    pub(crate) owner: (u32, u32),
    pub(crate) mtime: EntryTime,
    pub(crate) stored: Stored,
    /// Bytes of its content.
    pub(crate) length: u64,
    pub(crate) status: u64,
}

impl MadeFile {
    /// Bytes of its content.
    pub(crate) fn length(&self) -> u64 {
        self.length
    }
}

/// The folder `name` that is made of these files, and of folders that were made before, each with its entry.
pub(crate) fn put_folder(
    lane: &mut Lane<'_, '_>,
    name: &str,
    mtime: EntryTime,
    files: Vec<MadeFile>,
    folders: Vec<(String, Vec<u8>)>,
) -> Result<Vec<u8>, WriteError> {
    let (mut entries, mut scratch) = (folders, Vec::new());
    for file in files {
        let entry = Entry {
            mode: file.mode,
            uid: file.owner.0,
            gid: file.owner.1,
            mtime: file.mtime,
            size: file.length,
            content: file.stored.content(),
            status: file.status,
            ..Entry::new(EntryKind::File, file.name.as_bytes())
        };
        let mut encoded = Vec::new();
        put_entry(&mut encoded, &entry, &mut scratch);
        entries.push((file.name, encoded));
    }
    entries.sort();
    let tree: Vec<u8> = entries.into_iter().flat_map(|(_, entry)| entry).collect();
    let reference = lane.put_meta(&tree)?.encode();
    let content = if tree.is_empty() {
        Content::None
    } else {
        Content::Stream(&reference)
    };
    let (uid, gid) = own();
    let entry = Entry {
        mode: 0o700,
        uid,
        gid,
        mtime,
        content,
        ..Entry::new(EntryKind::Folder, name.as_bytes())
    };
    let mut encoded = Vec::new();
    put_entry(&mut encoded, &entry, &mut scratch);
    Ok(encoded)
}

/// Unix milliseconds as an entry's time.
pub(crate) fn entry_time(now_ms: u64) -> EntryTime {
    EntryTime {
        seconds: i64::try_from(now_ms / 1000).unwrap_or(0),
        nanos: u32::try_from(now_ms % 1000).unwrap_or(0) * 1_000_000,
    }
}

/// Whoever makes the backup: the owner of what is made for it, whom whoever restores it can give it to again.
fn own() -> (u32, u32) {
    (
        rustix::process::geteuid().as_raw(),
        rustix::process::getegid().as_raw(),
    )
}

pub(crate) fn made(name: &str, stream: &StreamRef, now_ms: u64) -> MadeFile {
    made_of(name, (as_stream(stream), stream.length), now_ms)
}

/// A stream as it stands in the entry of a file that is made: never as one chunk, which is cut by the profile of files.
pub(crate) fn as_stream(stream: &StreamRef) -> Stored {
    match stream.length {
        0 => Stored::Empty,
        _ => Stored::Stream(stream.encode()),
    }
}

fn made_of(name: &str, (stored, length): (Stored, u64), now_ms: u64) -> MadeFile {
    MadeFile {
        name: name.to_owned(),
        mode: 0o600,
        owner: own(),
        mtime: entry_time(now_ms),
        stored,
        length,
        status: 0,
    }
}

/// Counts what is read from a stream, and does not wait for it longer than the run goes on.
pub(crate) struct Counted<'a, R> {
    pub(crate) inner: R,
    pub(crate) writer: &'a Writer<'a>,
}

impl<R: Read + AsFd> Read for Counted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        wait_for(&self.inner, || self.writer.stopped())?;
        let count = self.inner.read(buffer)?;
        self.writer.progress().count(Counter::Bytes, count as u64);
        Ok(count)
    }
}

pub(crate) fn record(name: &str, kind: &str, location: &str, files: &[MadeFile]) -> SourceRecord {
    SourceRecord {
        files: files.len() as u64,
        bytes: files.iter().map(MadeFile::length).sum(),
        ..SourceRecord::new(name, kind, location)
    }
}

/// Standard input.
pub(crate) fn read_stdin(
    writer: &Writer<'_>,
    threads: usize,
    filename: &str,
    now_ms: u64,
    (before, bundles): (&Earlier<'_>, &Bundles),
) -> Result<SourceRead, SourceError> {
    on_lane(writer, threads, |lane| {
        // Without the library's buffer, whose content a wait for the handle would not see.
        let input = io::stdin().as_fd().try_clone_to_owned();
        let input = input.map_err(WriteError::Source)?;
        let mut input = Counted {
            inner: File::from(input),
            writer,
        };
        let was = before.file("stdin", filename.as_bytes());
        let was = (before.reader(), was.as_ref());
        let (stored, length) = put_content(lane, Profile::Database, bundles, was, &mut input)?;
        // What a program leaves that failed before it wrote a byte; how it ended is not seen from here.
        let empty = (length == 0).then(|| Problem {
            source: "stdin".to_owned(),
            path: filename.as_bytes().to_vec(),
            what: "standard input was empty".to_owned(),
            class: "other".to_owned(),
        });
        let files = vec![made_of(filename, (stored, length), now_ms)];
        let mut record = record("stdin", "stdin", "standard input", &files);
        record.facts.extend(bundles.facts());
        Ok(SourceRead {
            entry: put_folder(lane, "stdin", entry_time(now_ms), files, Vec::new())?,
            record,
            problems: empty.into_iter().collect(),
        })
    })
}

/// A command's output; a command that fails gives no snapshot.
pub(crate) fn read_command(
    writer: &Writer<'_>,
    threads: usize,
    source: &CommandSource,
    now_ms: u64,
    (before, bundles): (&Earlier<'_>, &Bundles),
) -> Result<SourceRead, SourceError> {
    let shown = redact_arguments(&source.run).join(" ");
    let (program, arguments) = source.run.split_first().ok_or_else(|| {
        SourceError::Start("a command".to_owned(), io::Error::other("it is empty"))
    })?;
    let mut command = Command::new(program);
    for variable in SECRET_VARIABLES {
        command.env_remove(variable);
    }
    let mut child = command
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| SourceError::Start(shown.clone(), error))?;
    let (output, errors) = (
        child.stdout.take().expect("it is piped"),
        child.stderr.take().expect("it is piped"),
    );
    let (stream, status, complaints) = std::thread::scope(|scope| {
        let complaints = scope.spawn(|| last_lines(errors, || writer.stopped()));
        let stream = on_lane(writer, threads, |lane| -> Result<_, WriteError> {
            let was = before.file(&source.name, source.filename.as_bytes());
            let mut output = Counted {
                inner: output,
                writer,
            };
            let was = (before.reader(), was.as_ref());
            put_content(lane, Profile::Database, bundles, was, &mut output)
        });
        if stream.is_err() {
            // Our own child, by its handle; it may have ended by itself.
            let _ = child.kill();
        }
        let status = wait_for_end(&mut child, || writer.stopped());
        (stream, status, complaints.join().unwrap_or_default())
    });
    let status = status.map_err(|error| SourceError::Start(shown.clone(), error))?;
    let stream = stream?;
    if !status.success() {
        let how = if complaints.is_empty() {
            status.to_string()
        } else {
            format!("{status}: {complaints}")
        };
        return Err(SourceError::Command {
            command: shown,
            how,
        });
    }
    on_lane(writer, 1, |lane| {
        let files = vec![made_of(&source.filename, stream, now_ms)];
        let mut record = record(&source.name, "command", &shown, &files);
        record
            .facts
            .push(("exit-status".to_owned(), "0".to_owned()));
        record.facts.extend(bundles.facts());
        Ok(SourceRead {
            entry: put_folder(lane, &source.name, entry_time(now_ms), files, Vec::new())?,
            record,
            problems: Vec::new(),
        })
    })
}

/// The end of what a program complained about, bounded.
///
/// A program that was ended may have left others behind that keep the pipe open; then it is `stopped` that ends this.
fn last_lines(mut errors: impl Read + AsFd, stopped: impl Fn() -> bool) -> String {
    let (mut kept, mut buffer) = (Vec::new(), [0; 4096]);
    while wait_for(&errors, &stopped).is_ok()
        && let Ok(count @ 1..) = errors.read(&mut buffer)
    {
        kept.extend_from_slice(&buffer[..count]);
        let surplus = kept.len().saturating_sub(2048);
        kept.drain(..surplus);
    }
    let said = String::from_utf8_lossy(&kept).trim().replace('\n', " / ");
    crate::text::shown_path(crate::redact::redact(&said).as_bytes())
}

/// Files with secrets.
pub(crate) fn read_secrets(
    writer: &Writer<'_>,
    source: &SecretsSource,
) -> Result<SourceRead, SourceError> {
    use std::os::unix::fs::MetadataExt;
    let name = crate::config::SECRETS_NAME;
    let mut files = Vec::new();
    let mut facts = Vec::new();
    for path in &source.paths {
        let shown = path.display().to_string();
        let fail = |source| SourceError::File {
            path: shown.clone(),
            source,
        };
        let metadata = std::fs::metadata(path).map_err(fail)?;
        if !metadata.is_file() || metadata.len() > SECRET_BYTES_MAX {
            return Err(fail(io::Error::other(
                "it is no file of settings: secrets are files of at most 16 MiB",
            )));
        }
        let content = zeroize::Zeroizing::new(std::fs::read(path).map_err(fail)?);
        let base = path.file_name().map_or_else(
            || "secret".to_owned(),
            |base| base.to_string_lossy().into_owned(),
        );
        let taken = |name: &String| files.iter().any(|file: &MadeFile| file.name == *name);
        // Two files of the same name from different folders: the second is told by its whole path.
        let whole = shown.trim_start_matches('/').replace('/', "_");
        let numbered = (2..).map(|number| format!("{whole}~{number}"));
        let file_name = [base, whole.clone()]
            .into_iter()
            .chain(numbered)
            .find(|name| !taken(name))
            .expect("numbers do not end");
        facts.push((format!("path of {file_name}"), shown.clone()));
        let stream = on_lane(writer, 1, |lane| {
            lane.put_stream(Profile::Files, None, &mut content.as_slice())
                .map_err(SourceError::from)
        })?;
        files.push(MadeFile {
            name: file_name,
            mode: 0o600,
            owner: (metadata.uid(), metadata.gid()),
            mtime: EntryTime {
                seconds: metadata.mtime(),
                nanos: u32::try_from(metadata.mtime_nsec()).unwrap_or(0),
            },
            stored: as_stream(&stream),
            length: stream.length,
            status: lifeboat_codec::status::SECRET,
        });
    }
    let mut record = record(name, "secrets", "", &files);
    record.facts = facts;
    let mtime = files
        .iter()
        .map(|file| file.mtime)
        .max()
        .unwrap_or_default();
    let entry = on_lane(writer, 1, |lane| {
        put_folder(lane, name, mtime, files, Vec::new()).map_err(SourceError::from)
    })?;
    Ok(SourceRead {
        entry,
        record,
        problems: Vec::new(),
    })
}
