//! The local SQLite cache: records of opened objects, and the trees of each source's last snapshot.
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
const VERSION: i32 = 2;
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

    /// What a source's last run left for the next.
    pub(crate) fn source(&self, key: &str) -> Option<Vec<u8>> {
        let mut value: Vec<u8> = self.with(|connection| {
            connection
                .prepare_cached("SELECT value FROM source WHERE key = ?1")?
                .query_row([key], |row| row.get(0))
                .optional()
        })??;
        let end = value.len().checked_sub(SUM_BYTES)?;
        (self.sum(key, &value[..end]) == value[end..]).then_some(())?;
        value.truncate(end);
        Some(value)
    }

    /// Leaves something for a source's next run.
    pub(crate) fn keep_source(&self, key: &str, mut value: Vec<u8>) {
        let sum = self.sum(key, &value);
        value.extend_from_slice(&sum);
        self.with(|connection| {
            connection
                .prepare_cached("INSERT OR REPLACE INTO source VALUES (?1, ?2)")?
                .execute(params![key, value])
        });
    }
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
                 CREATE TABLE source (key TEXT PRIMARY KEY, value BLOB NOT NULL);"
            ))?;
        }
        connection.execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON;",
        )?;
        connection.query_row(
            "SELECT count(*) FROM object, source WHERE name = '' AND key = ''",
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
        cache.keep_source("app\0src", vec![1, 2, 3]);
        drop(cache);
        let cache = open(root.path());
        assert_eq!(cache.object("index/a").unwrap().record, b"a");
        cache.retain_objects("index/", &["index/b"]);
        assert!(
            cache.object("index/a").is_none()
                && cache.object("index/b").is_some()
                && cache.object("snap/c").is_some()
        );
        assert_eq!(cache.source("app\0src"), Some(vec![1, 2, 3]));
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
