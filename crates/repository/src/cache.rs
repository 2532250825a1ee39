//! The local SQLite cache: records of opened objects, and what each source's last run saw, in pieces.
//!
//! Invariant: deleting, replacing or damaging it changes time only, never results. Each value carries a keyed sum, so
//! whatever a disk or another program did to it is a miss. An error of SQLite makes a new file, never a failure; but
//! where another process is in the way, or the disk is full, only writing ends, and what is there is read on.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use lifeboat_codec::{FamilyId, Header, ObjectHash, Opened, ReplicaId, WriterId};
use rusqlite::{
    Connection, ErrorCode, OpenFlags, OptionalExtension, Transaction, TransactionBehavior, params,
};

const APPLICATION_ID: i32 = 0x4C46_4254;
const VERSION: i32 = 4;
/// SQLite before this version can corrupt a write-ahead log that two connections use.
const SQLITE_MIN: i32 = 3_051_003;
const SUM_BYTES: usize = 16;

/// The cache of one replica; `None` inside when there is none.
pub(crate) struct Cache {
    connection: Mutex<Option<Connection>>,
    /// Nothing more is written in this run.
    read_only: AtomicBool,
    /// Where it lies; `None` where no folder could be made.
    pub(crate) folder: Option<PathBuf>,
    pub(crate) sum_key: [u8; 32],
}

/// A run over a source that leaves pieces for the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PieceRun {
    number: u32,
    /// Bound into the sums of its pieces, so that none of another run passes for one of this.
    nonce: [u8; 16],
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
        let folder = root.and_then(|root| {
            let folder = root.join(format!("{family}-{replica}"));
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&folder)
                .ok()?;
            Some(folder)
        });
        let connection = folder.as_ref().and_then(|folder| {
            let path = folder.join("cache.sqlite");
            connect(&path).or_else(|| {
                // Old, foreign or damaged: a cache is never repaired.
                remove(&path);
                connect(&path)
            })
        });
        Self {
            connection: Mutex::new(connection),
            read_only: AtomicBool::new(false),
            folder,
            sum_key,
        }
    }

    /// Runs `work`; any error but that another process is in the way means that the file cannot be trusted.
    fn with<T>(&self, work: impl FnOnce(&mut Connection) -> rusqlite::Result<T>) -> Option<T> {
        let mut slot = self.connection.lock().ok()?;
        let connection = slot.as_mut()?;
        match work(connection) {
            Ok(value) => Some(value),
            Err(error) if is_in_the_way(&error) => None,
            Err(_) => {
                let path = connection.path().map(PathBuf::from);
                *slot = None;
                path.iter().for_each(|path| remove(path));
                None
            }
        }
    }

    /// Writes in a transaction, until that is not possible: then nothing more is written in this run.
    fn write(&self, work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<()>) -> Option<()> {
        if self.read_only.load(Ordering::Relaxed) {
            return None;
        }
        self.with(|connection| {
            // Asks for the right to write at once: a reader that wants it later is refused without waiting.
            let done = connection
                .transaction_with_behavior(TransactionBehavior::Immediate)
                .and_then(|transaction| {
                    work(&transaction)?;
                    transaction.commit()
                });
            match done {
                Err(error) if is_in_the_way(&error) => {
                    self.read_only.store(true, Ordering::Relaxed);
                    Ok(None)
                }
                done => done.map(Some),
            }
        })
        .flatten()
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
        self.opened(name, &value)
    }

    /// The same of all objects below `prefix`, by name: thousands of single questions would each lock the file.
    pub(crate) fn objects(&self, prefix: &str) -> HashMap<String, Opened> {
        let found = self.with(|connection| {
            let range = [prefix, &format!("{prefix}\u{7f}")];
            let mut objects = HashMap::new();
            let mut statement = connection
                .prepare_cached("SELECT name, value FROM object WHERE name >= ?1 AND name < ?2")?;
            let mut rows = statement.query(range)?;
            while let Some(row) = rows.next()? {
                let name: String = row.get(0)?;
                if let Some(opened) = self.opened(&name, row.get_ref(1)?.as_blob()?) {
                    objects.insert(name, opened);
                }
            }
            Ok(objects)
        });
        found.unwrap_or_default()
    }

    fn opened(&self, name: &str, value: &[u8]) -> Option<Opened> {
        let (rest, sum) = value.split_last_chunk::<SUM_BYTES>()?;
        (self.sum(name, rest) == *sum).then_some(())?;
        let (header, rest) = rest.split_first_chunk::<64>()?;
        let (author, rest) = rest.split_first_chunk::<16>()?;
        let (hash, record) = rest.split_first_chunk::<32>()?;
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
        self.write(|transaction| {
            transaction
                .prepare_cached("INSERT OR REPLACE INTO object VALUES (?1, ?2)")?
                .execute(params![name, value])
                .map(drop)
        });
    }

    /// Forgets the objects below `prefix` that are not in `names`, which is sorted.
    pub(crate) fn retain_objects(&self, prefix: &str, names: &[&str]) {
        self.write(|transaction| {
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
            Ok(())
        });
    }

    /// Begins to leave something for a source's next run. `nonce` is drawn anew for each run.
    ///
    /// Of the runs before, the one stays that ended well last, and the newest: it may be at work. What others left that
    /// did not end well is forgotten.
    pub(crate) fn begin_source(&self, key: &str, nonce: [u8; 16]) -> Option<PieceRun> {
        let valid = self.source(key).map_or(0, |(run, _)| run.number);
        let mut number = None;
        self.write(|transaction| {
            let newest: Option<u32> = transaction.query_row(
                "SELECT max(id) FROM run WHERE source = ?1",
                [key],
                |row| row.get(0),
            )?;
            forget_runs(transaction, key, newest.unwrap_or(0), valid)?;
            transaction.execute("INSERT INTO run (source) VALUES (?1)", [key])?;
            number = u32::try_from(transaction.last_insert_rowid()).ok();
            Ok(())
        })?;
        let number = number?;
        Some(PieceRun { number, nonce })
    }

    /// Leaves one piece; false when that was not possible, and what the run leaves is not whole.
    pub(crate) fn keep_piece(&self, run: PieceRun, number: u32, mut value: Vec<u8>) -> bool {
        let sum = self.sum(&piece_name(run, number), &value);
        value.extend_from_slice(&sum);
        self.write(|transaction| {
            transaction
                .prepare_cached("INSERT OR REPLACE INTO piece VALUES (?1, ?2)")?
                .execute(params![piece_id(run.number, number), value])
                .map(drop)
        })
        .is_some()
    }

    /// A piece that a run left.
    pub(crate) fn piece(&self, run: PieceRun, number: u32) -> Option<Vec<u8>> {
        let value: Vec<u8> = self.with(|connection| {
            connection
                .prepare_cached("SELECT value FROM piece WHERE id = ?1")?
                .query_row([piece_id(run.number, number)], |row| row.get(0))
                .optional()
        })??;
        self.without_sum(&piece_name(run, number), value)
    }

    /// The run of a source that ended well last, and its last word.
    pub(crate) fn source(&self, key: &str) -> Option<(PieceRun, Vec<u8>)> {
        let value: Vec<u8> = self.with(|connection| {
            connection
                .prepare_cached("SELECT value FROM source WHERE key = ?1")?
                .query_row([key], |row| row.get(0))
                .optional()
        })??;
        let value = self.without_sum(key, value)?;
        let (number, rest) = value.split_first_chunk()?;
        let (nonce, word) = rest.split_first_chunk()?;
        let number = u32::from_le_bytes(*number);
        let nonce = *nonce;
        Some((PieceRun { number, nonce }, word.to_vec()))
    }

    /// A run over a source ended well: its pieces and its last word are for the next one, those before it are forgotten.
    /// When others took its pieces for those of a run that was killed, nothing is kept.
    pub(crate) fn keep_source(&self, key: &str, run: PieceRun, word: &[u8]) {
        let mut value = [&run.number.to_le_bytes(), run.nonce.as_slice(), word].concat();
        let sum = self.sum(key, &value);
        value.extend_from_slice(&sum);
        self.write(|transaction| {
            let is_there: bool = transaction.query_row(
                "SELECT count(*) FROM run WHERE id = ?1 AND source = ?2",
                params![run.number, key],
                |row| row.get(0),
            )?;
            if is_there {
                transaction.execute(
                    "INSERT OR REPLACE INTO source VALUES (?1, ?2)",
                    params![key, value],
                )?;
            }
            let before = if is_there { run.number } else { 0 };
            forget_runs(transaction, key, before, 0)
        });
    }

    fn without_sum(&self, name: &str, mut value: Vec<u8>) -> Option<Vec<u8>> {
        let end = value.len().checked_sub(SUM_BYTES)?;
        (self.sum(name, &value[..end]) == value[end..]).then_some(())?;
        value.truncate(end);
        Some(value)
    }
}

/// Pieces of a run lie beside each other.
fn piece_id(run: u32, number: u32) -> i64 {
    i64::from(run & (u32::MAX >> 1)) << 32 | i64::from(number)
}

fn piece_name(run: PieceRun, number: u32) -> String {
    format!("piece {number} of {:x?}", run.nonce)
}

/// Forgets what runs over a source left before run `before`, but that of run `but`; and pieces of no run.
fn forget_runs(
    transaction: &Transaction<'_>,
    key: &str,
    before: u32,
    but: u32,
) -> rusqlite::Result<()> {
    transaction.execute(
        "DELETE FROM run WHERE source = ?1 AND id < ?2 AND id <> ?3",
        params![key, before, but],
    )?;
    transaction
        .execute(
            "DELETE FROM piece WHERE id >> 32 NOT IN (SELECT id FROM run)",
            [],
        )
        .map(drop)
}

/// Another process works with the file, or nothing more can be written: what is there is as good as before.
fn is_in_the_way(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked | ErrorCode::DiskFull)
    )
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
            // Names of objects are in an index of their own: who goes through them must not read what they name.
            connection.execute_batch(&format!(
                "PRAGMA page_size = 8192; PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {VERSION};
                 CREATE TABLE object (name TEXT PRIMARY KEY, value BLOB NOT NULL);
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
        let run = cache.begin_source("app\0src", [7; 16]).unwrap();
        assert!(cache.keep_piece(run, 0, b"piece".to_vec()));
        cache.keep_source("app\0src", run, &[1, 2, 3]);
        drop(cache);
        let cache = open(root.path());
        assert_eq!(cache.object("index/a").unwrap().record, b"a");
        let below = cache.objects("index/");
        assert_eq!((below.len(), &below["index/b"].record[..]), (2, &b"b"[..]));
        cache.retain_objects("index/", &["index/b"]);
        assert!(
            cache.object("index/a").is_none()
                && cache.object("index/b").is_some()
                && cache.object("snap/c").is_some()
        );
        assert_eq!(cache.source("app\0src"), Some((run, vec![1, 2, 3])));
        assert_eq!(cache.piece(run, 0).unwrap(), b"piece");
    }

    /// A run over source `key` that leaves two pieces.
    fn run(cache: &Cache, key: &str, nonce: u8) -> PieceRun {
        let run = cache.begin_source(key, [nonce; 16]).unwrap();
        for number in [0, u32::MAX] {
            assert!(cache.keep_piece(run, number, vec![nonce]));
        }
        run
    }

    /// How many of the two pieces of a run are there.
    fn pieces(cache: &Cache, run: PieceRun) -> usize {
        let there = [0, u32::MAX].map(|number| cache.piece(run, number));
        let kept = there.into_iter().flatten();
        kept.inspect(|piece| assert_eq!(piece[..], run.nonce[..1]))
            .count()
    }

    #[test]
    fn pieces_stay_until_the_next_run_ended_well() {
        let root = tempfile::tempdir().unwrap();
        let cache = open(root.path());
        let first = run(&cache, "a", 1);
        cache.keep_source("a", first, b"word");
        let other = run(&cache, "b", 2);
        let killed = [run(&cache, "a", 3), run(&cache, "a", 4)];
        let last = run(&cache, "a", 5);
        assert_eq!(
            killed.map(|run| pieces(&cache, run)),
            [0, 2],
            "the second may be at work"
        );
        assert_eq!(cache.source("a"), Some((first, b"word".to_vec())));
        assert_eq!(pieces(&cache, first), 2);
        cache.keep_source("a", last, b"");
        let gone = [first, killed[0], killed[1]].map(|run| pieces(&cache, run));
        assert_eq!(gone, [0; 3]);
        assert_eq!([last, other].map(|run| pieces(&cache, run)), [2; 2]);
        assert!(
            run(&cache, "a", 6).number > last.number,
            "a number is not used again"
        );
    }

    #[test]
    fn of_runs_at_the_same_time_each_is_kept_whole_or_not_at_all() {
        let root = tempfile::tempdir().unwrap();
        let cache = open(root.path());
        let [a, b] = [1, 2].map(|nonce| run(&cache, "a", nonce));
        cache.keep_source("a", a, b"");
        assert_eq!(
            [a, b].map(|run| pieces(&cache, run)),
            [2, 2],
            "the other goes on"
        );
        cache.keep_source("a", b, b"");
        assert_eq!(cache.source("a").unwrap().0, b);
        assert_eq!([a, b].map(|run| pieces(&cache, run)), [0, 2]);
        // Two more begin, so that the first is taken for one that was killed.
        let overtaken = run(&cache, "a", 3);
        let [_, latest] = [4, 5].map(|nonce| run(&cache, "a", nonce));
        assert_eq!(pieces(&cache, overtaken), 0);
        assert!(cache.keep_piece(overtaken, 1, b"a piece of it".to_vec()));
        cache.keep_source("a", overtaken, b"");
        assert_eq!(
            cache.source("a").unwrap().0,
            b,
            "one that is not whole does not count"
        );
        assert!(cache.piece(overtaken, 1).is_none(), "nor stays any of it");
        assert_eq!([b, latest].map(|run| pieces(&cache, run)), [2, 2]);
    }

    #[test]
    fn where_another_process_writes_what_is_there_is_read_on() {
        let root = tempfile::tempdir().unwrap();
        let cache = open(root.path());
        let first = run(&cache, "a", 1);
        cache.keep_source("a", first, b"word");
        let path = cache.with(|connection| Ok(connection.path().map(PathBuf::from)));
        let path = path.flatten().unwrap();
        cache.with(|connection| connection.busy_timeout(Duration::ZERO));
        let other = Connection::open(&path).unwrap();
        other.execute_batch("BEGIN IMMEDIATE").unwrap();
        assert!(cache.begin_source("a", [2; 16]).is_none());
        assert!(!cache.keep_piece(first, 7, b"more".to_vec()));
        assert_eq!(cache.source("a"), Some((first, b"word".to_vec())));
        assert_eq!(pieces(&cache, first), 2);
        other.execute_batch("ROLLBACK").unwrap();
        assert!(path.exists());
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
