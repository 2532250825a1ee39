//! The local SQLite cache: records of opened objects, and what each source's last run saw, in pieces.
//!
//! Invariant: deleting, replacing or damaging it changes time only, never results. Each value carries a keyed sum, so
//! whatever a disk or another program did to it is a miss; any error of SQLite makes a new file, never a failure.

use std::fs;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use lifeboat_codec::{FamilyId, Header, ObjectHash, Opened, ReplicaId, WriterId};
use rusqlite::{Connection, OpenFlags, OptionalExtension, params};

const APPLICATION_ID: i32 = 0x4C46_4254;
const VERSION: i32 = 3;
/// SQLite before this version can corrupt a write-ahead log that two connections use.
const SQLITE_MIN: i32 = 3_051_003;
const SUM_BYTES: usize = 16;

/// The cache of one replica; `None` inside when there is none.
pub(crate) struct Cache {
    connection: Mutex<Option<Connection>>,
    sum_key: [u8; 32],
}

impl Cache {
    /// Opens the cache below `root`, or makes it, or goes without.
    pub(crate) fn open(
        root: Option<&Path>,
        family: FamilyId,
        replica: ReplicaId,
        sum_key: [u8; 32],
    ) -> Self {
        assert!(
            rusqlite::version_number() >= SQLITE_MIN,
            "the program is built with a sound SQLite"
        );
        let connection = root.and_then(|root| {
            let folder = root.join(format!("{family}-{replica}"));
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&folder)
                .ok()?;
            let path = folder.join("cache.sqlite");
            connect(&path).or_else(|| {
                // Old, foreign or damaged: a cache is never repaired.
                remove(&path);
                connect(&path)
            })
        });
        Self {
            connection: Mutex::new(connection),
            sum_key,
        }
    }

    /// Runs `work`; any error means that the cache is of no use any more in this run.
    fn with<T>(&self, work: impl FnOnce(&mut Connection) -> rusqlite::Result<T>) -> Option<T> {
        let mut slot = self.connection.lock().ok()?;
        let connection = slot.as_mut()?;
        match work(connection) {
            Ok(value) => Some(value),
            Err(error) => {
                let path = connection.path().map(PathBuf::from);
                *slot = None;
                // Busy only means that another process works; everything else means that the file cannot be trusted.
                if !matches!(
                    error.sqlite_error_code(),
                    Some(rusqlite::ErrorCode::DatabaseBusy | rusqlite::ErrorCode::DatabaseLocked)
                ) {
                    path.iter().for_each(|path| remove(path));
                }
                None
            }
        }
    }

    fn sum(&self, name: &str, value: &[u8]) -> [u8; SUM_BYTES] {
        let hash = blake3::Hasher::new_keyed(&self.sum_key)
            .update(&(name.len() as u64).to_le_bytes())
            .update(name.as_bytes())
            .update(value)
            .finalize();
        let (sum, _) = hash
            .as_bytes()
            .split_first_chunk()
            .expect("a hash is longer than a sum");
        *sum
    }

    /// The record of an object that was opened before.
    pub(crate) fn object(&self, name: &str) -> Option<Opened> {
        let value: Vec<u8> = self.with(|connection| {
            connection
                .prepare_cached("SELECT value FROM object WHERE name = ?1")?
                .query_row([name], |row| row.get(0))
                .optional()
        })??;
        let (rest, sum) = value.split_last_chunk::<SUM_BYTES>()?;
        let (header, rest) = rest.split_first_chunk::<64>()?;
        let (author, rest) = rest.split_first_chunk::<16>()?;
        let (hash, record) = rest.split_first_chunk::<32>()?;
        (self.sum(name, &value[..value.len() - SUM_BYTES]) == *sum).then_some(())?;
        Some(Opened {
            record: record.to_vec(),
            author: WriterId(*author),
            header: Header::decode(header).ok()?,
            hash: ObjectHash(*hash),
        })
    }

    /// Remembers an opened object.
    pub(crate) fn keep_object(&self, name: &str, opened: &Opened) {
        let mut value = [
            opened.header.encode().as_slice(),
            &opened.author.0,
            &opened.hash.0,
            &opened.record,
        ]
        .concat();
        value.extend_from_slice(&self.sum(name, &value));
        self.with(|connection| {
            connection
                .prepare_cached("INSERT OR REPLACE INTO object VALUES (?1, ?2)")?
                .execute(params![name, value])
        });
    }

    /// Forgets the objects below `prefix` that are not in `names`, which is sorted.
    pub(crate) fn retain_objects(&self, prefix: &str, names: &[&str]) {
        self.with(|connection| {
            let transaction = connection.transaction()?;
            let known: Vec<String> = transaction
                .prepare("SELECT name FROM object WHERE name >= ?1 AND name < ?2")?
                .query_map([prefix, &format!("{prefix}\u{7f}")], |row| row.get(0))?
                .collect::<Result<_, _>>()?;
            for name in known
                .iter()
                .filter(|name| names.binary_search(&name.as_str()).is_err())
            {
                transaction.execute("DELETE FROM object WHERE name = ?1", [name])?;
            }
            transaction.commit()
        });
    }

    /// Begins to leave something for a source's next run, and returns the number of this one. What runs left that did
    /// not end well is forgotten.
    pub(crate) fn begin_source(&self, key: &str) -> Option<u32> {
        let valid = self.source(key).map_or(0, |(run, _)| run);
        self.with(|connection| {
            let transaction = connection.transaction()?;
            forget_runs(&transaction, key, valid)?;
            transaction.execute("INSERT INTO run (source) VALUES (?1)", [key])?;
            let run = transaction.last_insert_rowid();
            transaction.commit()?;
            Ok(run)
        })
        .and_then(|run| u32::try_from(run).ok())
    }

    /// Leaves one piece, number `number` of run `run`.
    pub(crate) fn keep_piece(&self, run: u32, number: u32, mut value: Vec<u8>) {
        let id = piece_id(run, number);
        let sum = self.sum(&piece_name(id), &value);
        value.extend_from_slice(&sum);
        self.with(|connection| {
            connection
                .prepare_cached("INSERT OR REPLACE INTO piece VALUES (?1, ?2)")?
                .execute(params![id, value])
        });
    }

    /// A piece that a run left.
    pub(crate) fn piece(&self, run: u32, number: u32) -> Option<Vec<u8>> {
        let id = piece_id(run, number);
        let value: Vec<u8> = self.with(|connection| {
            connection
                .prepare_cached("SELECT value FROM piece WHERE id = ?1")?
                .query_row([id], |row| row.get(0))
                .optional()
        })??;
        self.without_sum(&piece_name(id), value)
    }

    /// The run of a source that ended well last, and its last word.
    pub(crate) fn source(&self, key: &str) -> Option<(u32, Vec<u8>)> {
        let value: Vec<u8> = self.with(|connection| {
            connection
                .prepare_cached("SELECT value FROM source WHERE key = ?1")?
                .query_row([key], |row| row.get(0))
                .optional()
        })??;
        let value = self.without_sum(key, value)?;
        let (run, rest) = value.split_first_chunk()?;
        Some((u32::from_le_bytes(*run), rest.to_vec()))
    }

    /// A run over a source ended well: its pieces and its last word are for the next one, those before it are forgotten.
    pub(crate) fn keep_source(&self, key: &str, run: u32, word: &[u8]) {
        let mut value = [&run.to_le_bytes(), word].concat();
        let sum = self.sum(key, &value);
        value.extend_from_slice(&sum);
        self.with(|connection| {
            let transaction = connection.transaction()?;
            transaction.execute(
                "INSERT OR REPLACE INTO source VALUES (?1, ?2)",
                params![key, value],
            )?;
            forget_runs(&transaction, key, run)?;
            transaction.commit()
        });
    }

    fn without_sum(&self, name: &str, mut value: Vec<u8>) -> Option<Vec<u8>> {
        let end = value.len().checked_sub(SUM_BYTES)?;
        (self.sum(name, &value[..end]) == value[end..]).then_some(())?;
        value.truncate(end);
        Some(value)
    }
}

/// Pieces of a run lie beside each other; numbers of runs are never used again.
fn piece_id(run: u32, number: u32) -> i64 {
    i64::from(run & (u32::MAX >> 1)) << 32 | i64::from(number)
}

fn piece_name(id: i64) -> String {
    format!("piece {id}")
}

/// Forgets what runs over a source left, but that of run `but`.
fn forget_runs(connection: &Connection, key: &str, but: u32) -> rusqlite::Result<()> {
    let runs: Vec<u32> = connection
        .prepare("SELECT id FROM run WHERE source = ?1 AND id <> ?2")?
        .query_map(params![key, but], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    for run in runs {
        connection.execute(
            "DELETE FROM piece WHERE id BETWEEN ?1 AND ?2",
            params![piece_id(run, 0), piece_id(run, u32::MAX)],
        )?;
        connection.execute("DELETE FROM run WHERE id = ?1", [run])?;
    }
    Ok(())
}

fn remove(path: &Path) {
    for suffix in ["", "-wal", "-shm", "-journal"] {
        let mut file = path.as_os_str().to_owned();
        file.push(suffix);
        // A file that cannot be removed is not used either: opening it again fails the same way.
        let _ = fs::remove_file(&file);
    }
}

fn connect(path: &Path) -> Option<Connection> {
    let open = || -> rusqlite::Result<Option<Connection>> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_CREATE
            | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags)?;
        connection.busy_timeout(Duration::from_secs(10))?;
        let version: i32 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
        let application: i32 =
            connection.pragma_query_value(None, "application_id", |row| row.get(0))?;
        if (application, version) != (APPLICATION_ID, VERSION) {
            let tables: i64 =
                connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
            if tables != 0 {
                return Ok(None);
            }
            connection.execute_batch(&format!(
                "PRAGMA page_size = 8192; PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {VERSION};
                 CREATE TABLE object (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
                 CREATE TABLE source (key TEXT PRIMARY KEY, value BLOB NOT NULL);
                 CREATE TABLE run (id INTEGER PRIMARY KEY AUTOINCREMENT, source TEXT NOT NULL);
                 CREATE TABLE piece (id INTEGER PRIMARY KEY, value BLOB NOT NULL);"
            ))?;
        }
        connection.execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON;",
        )?;
        connection.query_row(
            "SELECT count(*) FROM object, source, run, piece WHERE name = '' AND key = '' AND run.id = 0 AND piece.id = 0",
            [],
            |row| row.get::<_, i64>(0),
        )?;
        Ok(Some(connection))
    };
    let connection = open().ok().flatten()?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).ok()?;
    Some(connection)
}

#[cfg(test)]
mod tests {
    use super::*;
    use lifeboat_codec::{Kind, RunId};

    fn open(root: &Path) -> Cache {
        Cache::open(Some(root), FamilyId([1; 16]), ReplicaId([2; 16]), [3; 32])
    }

    fn opened(record: &[u8]) -> Opened {
        let header = Header::by_content(Kind::Index, FamilyId([1; 16]), RunId([2; 16]), 3);
        Opened {
            record: record.to_vec(),
            author: WriterId([4; 16]),
            header,
            hash: ObjectHash([5; 32]),
        }
    }

    #[test]
    fn what_was_kept_is_found_and_what_vanished_is_forgotten() {
        let root = tempfile::tempdir().unwrap();
        let cache = open(root.path());
        cache.keep_object("index/a", &opened(b"a"));
        cache.keep_object("index/b", &opened(b"b"));
        cache.keep_object("snap/c", &opened(b"c"));
        let run = cache.begin_source("app\0src").unwrap();
        cache.keep_piece(run, 0, b"piece".to_vec());
        cache.keep_source("app\0src", run, &[1, 2, 3]);
        drop(cache);
        let cache = open(root.path());
        assert_eq!(cache.object("index/a").unwrap().record, b"a");
        cache.retain_objects("index/", &["index/b"]);
        assert!(
            cache.object("index/a").is_none()
                && cache.object("index/b").is_some()
                && cache.object("snap/c").is_some()
        );
        assert_eq!(cache.source("app\0src"), Some((run, vec![1, 2, 3])));
        assert_eq!(cache.piece(run, 0).unwrap(), b"piece");
    }

    #[test]
    fn pieces_stay_until_the_next_run_ended_well() {
        let root = tempfile::tempdir().unwrap();
        let cache = open(root.path());
        let run = |key: &str, piece: &[u8]| {
            let run = cache.begin_source(key).unwrap();
            cache.keep_piece(run, 0, piece.to_vec());
            cache.keep_piece(run, u32::MAX, piece.to_vec());
            run
        };
        let first = run("a", b"first");
        cache.keep_source("a", first, b"");
        let other = run("b", b"other");
        let killed = run("a", b"killed");
        assert_eq!(cache.piece(first, 0).unwrap(), b"first");
        assert_eq!(cache.piece(killed, 0).unwrap(), b"killed");
        let last = run("a", b"last");
        assert!(
            cache.piece(killed, u32::MAX).is_none(),
            "nobody will ask for it"
        );
        assert_eq!(cache.source("a").unwrap().0, first);
        assert_eq!(cache.piece(first, u32::MAX).unwrap(), b"first");
        cache.keep_source("a", last, b"");
        assert!(cache.piece(first, 0).is_none() && cache.piece(first, u32::MAX).is_none());
        assert_eq!(cache.piece(last, 0).unwrap(), b"last");
        assert_eq!(cache.piece(other, 0).unwrap(), b"other");
        assert!(run("a", b"next") > last, "a number is not used again");
    }

    #[test]
    fn a_damaged_file_is_a_miss_or_the_truth_but_never_something_else() {
        let root = tempfile::tempdir().unwrap();
        let cache = open(root.path());
        cache.keep_object("index/a", &opened(&[7; 3000]));
        drop(cache);
        let path = root.path().join(format!(
            "{}-{}/cache.sqlite",
            FamilyId([1; 16]),
            ReplicaId([2; 16])
        ));
        let whole = fs::read(&path).unwrap();
        for at in (0..whole.len()).step_by(61) {
            let mut damaged = whole.clone();
            damaged[at] ^= 0x55;
            fs::write(&path, &damaged).unwrap();
            let found = open(root.path()).object("index/a");
            assert!(
                found.is_none_or(|found| found.record == [7; 3000]),
                "byte {at}"
            );
        }
        for content in [
            b"".as_slice(),
            b"not a database at all",
            &whole[..whole.len() / 2],
        ] {
            fs::write(&path, content).unwrap();
            let cache = open(root.path());
            assert!(cache.object("index/a").is_none());
            cache.keep_object("index/a", &opened(b"new"));
            assert_eq!(
                cache.object("index/a").unwrap().record,
                b"new",
                "a new file was made"
            );
        }
    }

    #[test]
    fn without_a_folder_nothing_is_kept_and_nothing_fails() {
        let cache = Cache::open(None, FamilyId([1; 16]), ReplicaId([2; 16]), [3; 32]);
        cache.keep_object("index/a", &opened(b"a"));
        assert!(cache.object("index/a").is_none());
    }
}
