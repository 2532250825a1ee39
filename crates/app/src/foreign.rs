//! Puts a dump that others made into a new database: a local file, or a file of a snapshot.
//!
//! Here it is found, unpacked and followed; what it is and whether it may run is judged by the PostgreSQL side. Invariant: a
//! dump that ends because it could not be read further never looks like one that has ended.

use std::fs::File;
use std::io::{self, Cursor, PipeReader, PipeWriter, Read};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::thread::{Scope, ScopedJoinHandle};

use flate2::read::MultiGzDecoder;
use lifeboat_codec::EntryKind;
use lifeboat_postgres::{
    DUMP_HEAD_LEN_BYTES, DumpKind, ForeignError, ForeignReport, ForeignRestore, PreflightError,
    ResolveError, administration, resolve, restore_foreign,
};
use lifeboat_repository::{Counter, Progress, ReadError, Repository, Snapshot, StreamError};
use thiserror::Error;
use tokio::runtime::Handle;

use crate::browse::{Found, PathError, find_item};
use crate::bundle::copy_content;
use crate::text::shown_path;

/// How a foreign dump is restored.
#[derive(Clone, Debug, Default)]
pub struct ForeignRequest {
    /// Where to: an address whose database is the new one.
    pub to: String,
    /// Connections at once, for an archive.
    pub jobs: u32,
    /// Leave owners out.
    pub no_owner: bool,
    /// Leave grants out.
    pub no_acl: bool,
    /// Let the dump run with a superuser's rights.
    pub as_superuser: bool,
}

/// Where a foreign dump lies.
#[derive(Clone, Copy)]
pub enum ForeignSource<'a> {
    /// In a local file.
    File(&'a Path),
    /// In a file of a snapshot.
    Snapshot(&'a Repository, &'a Snapshot, &'a [u8]),
}

/// A foreign dump could not be restored.
#[derive(Debug, Error)]
pub enum ForeignDumpError {
    /// The file cannot be opened, or is no file.
    #[error("cannot read {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// It is not in the snapshot.
    #[error(transparent)]
    Path(#[from] PathError),
    /// The repository does not give it.
    #[error("the dump cannot be read from the repository")]
    Read(#[from] ReadError),
    /// The target's address.
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    /// The target's server.
    #[error(transparent)]
    Server(#[from] PreflightError),
    /// The restore itself.
    #[error(transparent)]
    Foreign(#[from] ForeignError),
}

/// Whether a path in a snapshot is a file, and so no database that was backed up as one.
///
/// # Errors
/// When a tree cannot be read.
pub fn dump_in(
    repository: &Repository,
    snapshot: &Snapshot,
    path: &[u8],
) -> Result<bool, ReadError> {
    let reader = repository.reader(snapshot.head.domain)?;
    match find_item(&reader, snapshot, path) {
        Ok(Found::Other(item)) => Ok(item.kind == EntryKind::File),
        // Whoever looks for the database says what is there instead.
        Ok(Found::Folder { .. }) | Err(PathError::NotFound { .. }) => Ok(false),
        Err(PathError::Read(error)) => Err(error),
    }
}

/// Restores a foreign dump into a new database.
///
/// # Errors
/// When the dump cannot be read or is none, the role has too many rights, the target exists, `stop` is set, or anything
/// fails on the way. Then the new database is removed again.
pub fn restore_foreign_dump(
    source: ForeignSource<'_>,
    request: &ForeignRequest,
    progress: &dyn Progress,
    stop: &AtomicBool,
    runtime: &Handle,
) -> Result<ForeignReport, ForeignDumpError> {
    let environment = |name: &str| std::env::var_os(name);
    let target = resolve(&request.to, &environment)?;
    let (admin, _) = administration(&target, runtime)?;
    let restore = ForeignRestore {
        admin: &admin,
        database: target.database(),
        environment: &environment,
        no_owner: request.no_owner,
        no_acl: request.no_acl,
        jobs: request.jobs.max(1),
        as_superuser: request.as_superuser,
        stop,
    };
    match source {
        ForeignSource::File(path) => {
            let failed = |source| ForeignDumpError::File {
                path: path.to_owned(),
                source,
            };
            let metadata = std::fs::metadata(path).map_err(failed)?;
            if !metadata.is_file() {
                // It is read twice.
                return Err(failed(io::Error::other("it is not a regular file")));
            }
            File::open(path).map_err(failed)?;
            let shown = path.display().to_string();
            let told = Telling::new(progress, &shown, target.database(), metadata.len());
            let open = || told.unpacked(File::open(path)?);
            Ok(restore_foreign(&restore, &open, runtime)?)
        }
        ForeignSource::Snapshot(repository, snapshot, path) => {
            let reader = repository.reader(snapshot.head.domain)?;
            let content = match find_item(&reader, snapshot, path)? {
                Found::Other(item) if item.kind == EntryKind::File => item.content,
                _ => None,
            };
            let Some(content) = content else {
                let (path, beside) = (shown_path(path), Vec::new());
                return Err(PathError::NotFound { path, beside }.into());
            };
            let shown = shown_path(path);
            let told = Telling::new(progress, &shown, target.database(), content.length());
            let failure = Mutex::new(None);
            let restored = std::thread::scope(|scope| {
                let send = |to: &mut PipeWriter| copy_content(&reader, &content, to);
                let open = || told.unpacked(Piped::open(scope, send, &failure)?);
                restore_foreign(&restore, &open, runtime)
            });
            // The repository's fault is the cause, whatever was made of it.
            match failure
                .into_inner()
                .expect("no thread panics while it reads")
            {
                Some(error) => Err(ForeignDumpError::Read(error)),
                None => Ok(restored?),
            }
        }
    }
}

/// What a local file is, below gzip where that is around it.
///
/// # Errors
/// When it cannot be read or unpacked, and what came before that does not tell.
pub(crate) fn kind_of_dump(path: &Path) -> io::Result<DumpKind> {
    let kind = |from: &mut dyn Read| {
        let mut head = Vec::new();
        let read = from.take(DUMP_HEAD_LEN_BYTES as u64).read_to_end(&mut head);
        match (DumpKind::of(&head), read) {
            (kind @ (DumpKind::Archive | DumpKind::Script), _) => Ok(kind),
            (kind, read) => read.map(|_| kind),
        }
    };
    match kind(&mut File::open(path)?)? {
        DumpKind::Gzip => kind(&mut MultiGzDecoder::new(File::open(path)?)),
        kind => Ok(kind),
    }
}

/// Says what is done with a dump each time that it is opened, and how much of it was read.
struct Telling<'a> {
    progress: &'a dyn Progress,
    shown: &'a str,
    database: &'a str,
    len_bytes: u64,
    opened: Mutex<bool>,
}

impl<'a> Telling<'a> {
    fn new(progress: &'a dyn Progress, shown: &'a str, database: &'a str, len_bytes: u64) -> Self {
        Self {
            progress,
            shown,
            database,
            len_bytes,
            opened: Mutex::new(false),
        }
    }

    /// The dump from its beginning, without the gzip around it.
    fn unpacked<'r>(&self, packed: impl Read + 'r) -> io::Result<Box<dyn Read + 'r>>
    where
        'a: 'r,
    {
        let mut counted = Counted {
            from: packed,
            progress: self.progress,
        };
        let mut head = Vec::new();
        (&mut counted)
            .take(DUMP_HEAD_LEN_BYTES as u64)
            .read_to_end(&mut head)?;
        let kind = DumpKind::of(&head);
        let mut opened = self.opened.lock().expect("no thread panics while it opens");
        let (shown, database) = (self.shown, self.database);
        let restoring = std::mem::replace(&mut *opened, true) || kind == DumpKind::Archive;
        self.progress.phase(&if restoring {
            format!("Restoring {shown} into the database {database}")
        } else {
            format!("Looking through {shown}")
        });
        self.progress.expect(Counter::Bytes, self.len_bytes);
        let whole = Cursor::new(head).chain(counted);
        Ok(if kind == DumpKind::Gzip {
            // Several that were put behind each other are one, as gzip itself has it.
            Box::new(MultiGzDecoder::new(whole))
        } else {
            Box::new(whole)
        })
    }
}

/// Tells how much was read.
struct Counted<'a, R> {
    from: R,
    progress: &'a dyn Progress,
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.from.read(buffer)?;
        self.progress.count(Counter::Bytes, count as u64);
        Ok(count)
    }
}

type Sender<'scope> = ScopedJoinHandle<'scope, Result<(), StreamError>>;

/// A file of a repository, to be read from; it comes through a pipe.
///
/// Its end is an end only when all of it was sent: a pipe closes as well when its sender has failed.
struct Piped<'scope, 'env> {
    pipe: PipeReader,
    sender: Option<Sender<'scope>>,
    failure: &'env Mutex<Option<ReadError>>,
    whole: bool,
}

impl<'scope, 'env> Piped<'scope, 'env> {
    fn open(
        scope: &'scope Scope<'scope, 'env>,
        send: impl FnOnce(&mut PipeWriter) -> Result<(), StreamError> + Send + 'scope,
        failure: &'env Mutex<Option<ReadError>>,
    ) -> io::Result<Self> {
        let (pipe, mut to) = io::pipe()?;
        let sender = scope.spawn(move || send(&mut to));
        Ok(Self {
            pipe,
            sender: Some(sender),
            failure,
            whole: false,
        })
    }
}

impl Read for Piped<'_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.pipe.read(buffer)?;
        if count > 0 || buffer.is_empty() || self.whole {
            return Ok(count);
        }
        let Some(sender) = self.sender.take() else {
            return Err(io::Error::other("the repository does not give all of it"));
        };
        match sender.join().expect("no thread panics while it reads") {
            Ok(()) => self.whole = true,
            Err(StreamError::Write(error)) => return Err(error),
            Err(StreamError::Read(error)) => {
                let shown = io::Error::other(error.to_string());
                let mut failure = self
                    .failure
                    .lock()
                    .expect("no thread panics while it reads");
                failure.get_or_insert(error);
                return Err(shown);
            }
        }
        Ok(0)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::{Compression, write::GzEncoder};

    use super::*;
    use crate::testing::Watcher;

    fn packed(text: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    fn unpacked(bytes: &[u8]) -> io::Result<Vec<u8>> {
        let watcher = Watcher::default();
        let told = Telling::new(&watcher, "shop.sql", "shop", bytes.len() as u64);
        let mut whole = Vec::new();
        told.unpacked(bytes)?.read_to_end(&mut whole)?;
        let read: u64 = watcher.amounts(Counter::Bytes).iter().sum();
        assert_eq!(read, bytes.len() as u64, "all of it is counted");
        Ok(whole)
    }

    #[test]
    fn gzip_is_known_by_its_first_bytes_and_several_are_one() {
        let text = b"SELECT 1;\n".repeat(10_000);
        assert_eq!(unpacked(&text).unwrap(), text);
        assert_eq!(unpacked(&packed(&text)).unwrap(), text);
        let two = [packed(b"SELECT"), packed(b" 1;")].concat();
        assert_eq!(unpacked(&two).unwrap(), b"SELECT 1;");
        assert_eq!(unpacked(b"").unwrap(), b"");
    }

    #[test]
    fn a_pipe_whose_sender_failed_has_no_end() {
        let failure = Mutex::new(None);
        for fails in [false, true] {
            let send = move |to: &mut PipeWriter| {
                to.write_all(b"SELECT 1;\n").map_err(StreamError::Write)?;
                if fails {
                    return Err(StreamError::Write(io::Error::other("the disk is gone")));
                }
                Ok(())
            };
            std::thread::scope(|scope| {
                let mut piped = Piped::open(scope, send, &failure).unwrap();
                let mut text = Vec::new();
                assert_eq!(piped.read_to_end(&mut text).is_err(), fails);
                assert_eq!(text, b"SELECT 1;\n");
                // Whoever asks again is told the same.
                assert_eq!(piped.read(&mut [0]).is_err(), fails);
            });
        }
    }

    #[test]
    fn a_gzip_that_is_cut_off_or_damaged_is_an_error_and_no_end() {
        let whole = packed(&b"SELECT 1;\n".repeat(10_000));
        for end in [2, 9, 20, whole.len() / 2, whole.len() - 8, whole.len() - 1] {
            assert!(unpacked(&whole[..end]).is_err(), "ends at {end}");
        }
        let mut damaged = whole.clone();
        let sum = whole.len() - 6;
        damaged[sum] ^= 1;
        assert!(unpacked(&damaged).is_err());
        assert!(unpacked(&[whole, b"more".to_vec()].concat()).is_err());
    }
}
