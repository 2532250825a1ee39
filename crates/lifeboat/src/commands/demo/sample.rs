//! The sample app: a folder of media and an SQLite database whose rows name them.
//!
//! Everything comes from numbers, so that the app can be made a second time, entry for entry and row for row: that
//! twin, which no backup has seen, is what a restored app is held against.

use std::{
    fmt::Write as _,
    fs::{self, OpenOptions, Permissions},
    io::{self, Write},
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use lifeboat_app::sentence;
use rusqlite::{Connection, params};
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, utimensat};

use crate::{error::CommandError, exit_code::ExitCode, text::printable_path};

const PICTURES: u64 = 48;
const THUMBNAILS: u64 = 36;
const NOTES: u64 = 40;
/// Pictures that stand in a second folder too, as the same bytes.
const SHARED: u64 = 12;
const CUSTOMERS: i64 = 800;
const ORDERS: i64 = 4_000;

/// Names that a careless program trips over.
const AWKWARD: [&str; 6] = [
    "Grüße aus Köln/Übersicht März.txt",
    "Grüße aus Köln/Größe und Maß (2).pdf",
    "with spaces/ a file with spaces .txt",
    "with spaces/quote's \"and\" $dollars.txt",
    "写真/海 🌊.jpg",
    "-rf/--help.txt",
];

/// The words that texts are made of.
const WORDS: [&str; 16] = [
    "lantern", "harbour", "of", "the", "and", "copper", "winter", "letter", "with", "under",
    "bridge", "a", "slow", "river", "garden", "seven",
];

/// A sample app in a folder of its own.
pub(super) struct Sample {
    root: PathBuf,
    database: Connection,
    /// All times of its files count from here.
    born: SystemTime,
}

impl Sample {
    /// Makes the app as it is before the first backup, in `root`, which must not exist.
    pub(super) fn make(root: &Path, born: SystemTime) -> Result<Self, CommandError> {
        let media = root.join("media");
        fs::create_dir_all(&media)
            .and_then(|()| make_media(&media, born))
            .map_err(|error| unmade(root, &error))?;
        let database = root.join("shop.db");
        let database =
            make_database(&database, &media).map_err(|error| unmade(root, error.as_ref()))?;
        Ok(Self {
            root: root.to_owned(),
            database,
            born,
        })
    }

    /// The folder of media.
    pub(super) fn media(&self) -> PathBuf {
        self.root.join("media")
    }

    /// The SQLite database's file.
    pub(super) fn database(&self) -> PathBuf {
        self.root.join("shop.db")
    }

    /// A day passes: rows and files are changed, added and deleted.
    pub(super) fn change(&mut self) -> Result<(), CommandError> {
        let media = self.media();
        change_media(&media, self.born + Duration::from_secs(24 * 3600))
            .map_err(|error| unmade(&self.root, &error))?;
        change_database(&mut self.database).map_err(|error| unmade(&self.root, &error))
    }

    /// How many files and bytes the media are, links counted once.
    pub(super) fn media_size(&self) -> Result<(u64, u64), CommandError> {
        let paths = files_below(&self.media()).map_err(|error| unmade(&self.root, &error))?;
        let bytes = paths
            .iter()
            .filter_map(|path| path.metadata().ok())
            .map(|metadata| metadata.len())
            .sum();
        Ok((paths.len() as u64, bytes))
    }

    /// How many rows the database has.
    pub(super) fn rows(&self) -> Result<u64, CommandError> {
        rows_of(&self.database)
            .map(|rows| rows.len() as u64)
            .map_err(|error| unmade(&self.root, &error))
    }
}

/// The attachment that somebody deletes by mistake between the two backups.
pub(super) const LOST: &str = "pictures/2026-05/IMG_0040.jpg";

fn unmade(root: &Path, error: &(dyn std::error::Error + 'static)) -> CommandError {
    let root = printable_path(root.as_ref());
    CommandError::new(
        ExitCode::Failed,
        format!("the sample app in {root} cannot be made"),
    )
    .caused_by(error)
    .hint("It needs some 300 MB of room; TMPDIR names another folder for temporary files.")
}

/// Every row of every table, as text, in the order of the keys.
pub(super) fn rows_of(database: &Connection) -> rusqlite::Result<Vec<String>> {
    let mut tables = database
        .prepare("SELECT name, sql FROM sqlite_schema WHERE type = 'table' ORDER BY name")?;
    let tables: Vec<(String, String)> = tables
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<Result<_, _>>()?;
    let mut rows = Vec::new();
    for (table, sql) in tables {
        let mut statement = database.prepare(&format!("SELECT * FROM \"{table}\" ORDER BY 1"))?;
        let columns = statement.column_count();
        let mut found = statement.query([])?;
        while let Some(row) = found.next()? {
            let mut text = sql.clone();
            for column in 0..columns {
                let value = row.get_ref(column)?;
                write!(text, "|{value:?}").expect("writing to a String never fails");
            }
            rows.push(text);
        }
    }
    Ok(rows)
}

/// The rows of the database in `file`.
pub(super) fn rows_in(file: &Path) -> Result<Vec<String>, String> {
    Connection::open(file)
        .and_then(|database| rows_of(&database))
        .map_err(|error| sentence(&error))
}

/// The media that rows of the database in `file` name.
pub(super) fn attachments_in(file: &Path) -> Result<Vec<String>, String> {
    let read = || -> rusqlite::Result<Vec<String>> {
        let database = Connection::open(file)?;
        let mut statement = database.prepare("SELECT file_path FROM attachment ORDER BY id")?;
        statement
            .query_map([], |row| row.get(0))?
            .collect::<Result<_, _>>()
    };
    read().map_err(|error| sentence(&error))
}

/// Numbers that look random and come again: each seed gives one sequence (SplitMix64).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Bytes that no program can make smaller, as those of a picture.
    fn noise(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(length + 8);
        while bytes.len() < length {
            bytes.extend_from_slice(&self.next().to_le_bytes());
        }
        bytes.truncate(length);
        bytes
    }

    fn text(&mut self, words: u64) -> String {
        let mut text = String::new();
        for word in 0..words {
            let index = (self.next() % WORDS.len() as u64) as usize;
            text.push_str(WORDS[index]);
            text.push(if word % 12 == 11 { '\n' } else { ' ' });
        }
        text
    }

    /// A number from `from` up to, not including, `to`.
    fn between(&mut self, from: u64, to: u64) -> usize {
        usize::try_from(from + self.next() % (to - from)).expect("sizes of sample files are small")
    }
}

fn put(media: &Path, name: &str, content: &[u8]) -> io::Result<()> {
    let path = media.join(name);
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(path, content)
}

fn picture_name(number: u64) -> String {
    format!("pictures/2026-{:02}/IMG_{number:04}.jpg", number % 6 + 1)
}

fn picture(number: u64) -> Vec<u8> {
    let mut numbers = Numbers(number);
    let length = numbers.between(380 << 10, 900 << 10);
    numbers.noise(length)
}

fn make_media(media: &Path, born: SystemTime) -> io::Result<()> {
    for number in 0..PICTURES {
        put(media, &picture_name(number), &picture(number))?;
    }
    for number in 0..SHARED {
        let name = format!("shared with customers/IMG_{number:04} copy.jpg");
        put(media, &name, &picture(number * 3))?;
    }
    for number in 0..THUMBNAILS {
        let mut numbers = Numbers(1_000 + number);
        let length = numbers.between(4 << 10, 24 << 10);
        let name = format!("thumbnails/IMG_{number:04}.webp");
        put(media, &name, &numbers.noise(length))?;
    }
    for number in 0..NOTES {
        let mut numbers = Numbers(2_000 + number);
        let words = numbers.between(50, 4_000) as u64;
        let name = format!("notes/{:02}/note {number}.md", number % 8);
        put(media, &name, numbers.text(words).as_bytes())?;
    }
    for (number, name) in AWKWARD.iter().enumerate() {
        let mut numbers = Numbers(3_000 + number as u64);
        put(media, name, numbers.text(300).as_bytes())?;
    }
    put(media, "videos/intro.mp4", &Numbers(4_000).noise(3 << 20))?;
    put(media, "notes/empty.md", b"")?;
    put(media, "import.sh", b"#!/bin/sh\nexit 0\n")?;
    fs::create_dir(media.join("incoming"))?;
    fs::hard_link(
        media.join(picture_name(7)),
        media.join("pictures/cover.jpg"),
    )?;
    symlink("2026-06", media.join("pictures/newest"))?;
    fs::set_permissions(media.join("import.sh"), Permissions::from_mode(0o750))?;
    fs::set_permissions(media.join("notes/empty.md"), Permissions::from_mode(0o600))?;
    set_times(media, born)
}

fn change_media(media: &Path, now: SystemTime) -> io::Result<()> {
    fs::remove_file(media.join(LOST))?;
    for number in 0..6 {
        fs::remove_file(media.join(format!("thumbnails/IMG_{number:04}.webp")))?;
    }
    for number in 100..104 {
        put(media, &picture_name(number), &picture(number))?;
    }
    // A picture is edited at its end; a note grows; another has a new name.
    let edited = media.join(picture_name(20));
    let mut content = fs::read(&edited)?;
    content.extend(Numbers(5_000).noise(20 << 10));
    fs::write(&edited, content)?;
    let mut note = OpenOptions::new()
        .append(true)
        .open(media.join("notes/03/note 3.md"))?;
    note.write_all(b"\nOne more line.\n")?;
    fs::rename(
        media.join("notes/05/note 5.md"),
        media.join("notes/05/Notiz fünf.md"),
    )?;
    set_times(media, now)
}

/// Gives `folder` and all that was just written in it times of their own, counted from `newest`, which is past; what
/// has such a time already keeps it.
fn set_times(folder: &Path, newest: SystemTime) -> io::Result<()> {
    let mut entries: Vec<_> = fs::read_dir(folder)?.collect::<Result<_, _>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for (index, entry) in entries.iter().enumerate() {
        let path = entry.path();
        let time = newest - Duration::new(60 * index as u64, 123_456_789);
        let kind = entry.file_type()?;
        if kind.is_dir() {
            set_times(&path, time)?;
        } else if entry.metadata()?.modified()? > newest {
            set_time(&path, time)?;
        }
    }
    // A folder's time changes with what is put into it, so that it comes last.
    if folder.metadata()?.modified()? > newest {
        set_time(folder, newest)?;
    }
    Ok(())
}

/// Sets the time of anything, without following a link.
fn set_time(path: &Path, time: SystemTime) -> io::Result<()> {
    let since = time
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_err(io::Error::other)?;
    let time = Timespec {
        tv_sec: i64::try_from(since.as_secs()).map_err(io::Error::other)?,
        tv_nsec: since.subsec_nanos().into(),
    };
    let times = Timestamps {
        last_access: time,
        last_modification: time,
    };
    Ok(utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW)?)
}

/// The regular files below `folder`, each name of an object for itself, in order.
fn files_below(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            files.extend(files_below(&entry.path())?);
        } else if kind.is_file() {
            files.push(entry.path());
        }
    }
    files.sort();
    Ok(files)
}

const SCHEMA: &str = "
    PRAGMA journal_mode = WAL;
    PRAGMA synchronous = OFF;
    CREATE TABLE customer (id INTEGER PRIMARY KEY, name TEXT NOT NULL, email TEXT UNIQUE, since TEXT NOT NULL);
    CREATE TABLE \"order\" (
        id INTEGER PRIMARY KEY, customer_id INTEGER NOT NULL REFERENCES customer,
        state TEXT NOT NULL, total REAL, remark TEXT
    );
    CREATE TABLE attachment (
        id INTEGER PRIMARY KEY, order_id INTEGER NOT NULL REFERENCES \"order\",
        file_path TEXT NOT NULL UNIQUE, filename TEXT NOT NULL, thumbnail BLOB
    );
    CREATE INDEX order_by_customer ON \"order\" (customer_id);";

fn make_database(file: &Path, media: &Path) -> Result<Connection, Box<dyn std::error::Error>> {
    let mut database = Connection::open(file)?;
    database.execute_batch(SCHEMA)?;
    let mut numbers = Numbers(6_000);
    let change = database.transaction()?;
    for id in 1..=CUSTOMERS {
        change.execute(
            "INSERT INTO customer VALUES (?1, ?2, ?3, ?4)",
            params![
                id,
                format!("Käthe Größe {id}"),
                format!("customer{id}@example.com"),
                "2026-01-02"
            ],
        )?;
    }
    for id in 1..=ORDERS {
        let cents = numbers.between(100, 90_000) as u32;
        let total = (id % 17 != 0).then_some(f64::from(cents) / 100.0);
        change.execute(
            "INSERT INTO \"order\" VALUES (?1, ?2, 'open', ?3, ?4)",
            params![id, id % CUSTOMERS + 1, total, numbers.text(9)],
        )?;
    }
    for path in files_below(media)? {
        let path = path.strip_prefix(media)?;
        attach(&change, &path.to_string_lossy(), &mut numbers)?;
    }
    change.commit()?;
    Ok(database)
}

fn attach(database: &Connection, path: &str, numbers: &mut Numbers) -> rusqlite::Result<usize> {
    let filename = path.rsplit('/').next().unwrap_or(path);
    let order = i64::try_from(numbers.between(1, 4_000)).unwrap_or(1);
    database.execute(
        "INSERT INTO attachment (order_id, file_path, filename, thumbnail) VALUES (?1, ?2, ?3, ?4)",
        params![order, path, filename, numbers.noise(16)],
    )
}

fn change_database(database: &mut Connection) -> rusqlite::Result<()> {
    let mut numbers = Numbers(7_000);
    let change = database.transaction()?;
    change.execute_batch(
        "UPDATE \"order\" SET state = 'shipped' WHERE id % 9 = 0;
         DELETE FROM \"order\" WHERE id > 3990 AND id NOT IN (SELECT order_id FROM attachment);
         UPDATE attachment SET file_path = 'notes/05/Notiz fünf.md', filename = 'Notiz fünf.md'
             WHERE file_path = 'notes/05/note 5.md';
         ALTER TABLE customer ADD COLUMN phone TEXT;
         UPDATE customer SET phone = '+49 221 ' || id WHERE id % 5 = 0;",
    )?;
    change.execute("DELETE FROM attachment WHERE file_path = ?1", [LOST])?;
    for number in 0..6 {
        let path = format!("thumbnails/IMG_{number:04}.webp");
        change.execute("DELETE FROM attachment WHERE file_path = ?1", [path])?;
    }
    for number in 100..104 {
        attach(&change, &picture_name(number), &mut numbers)?;
    }
    for id in ORDERS + 1..=ORDERS + 150 {
        change.execute(
            "INSERT INTO \"order\" VALUES (?1, ?2, 'open', 1.5, ?3)",
            params![id, id % CUSTOMERS + 1, numbers.text(9)],
        )?;
    }
    change.commit()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use lifeboat_files::{CompareOptions, compare};

    use super::*;

    fn make(folder: &Path, name: &str) -> Sample {
        let born = SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_000_000);
        Sample::make(&folder.join(name), born).unwrap()
    }

    #[test]
    fn a_twin_is_the_same_app_before_and_after_the_change() {
        let folder = tempfile::tempdir().unwrap();
        let (mut app, mut twin) = (make(folder.path(), "app"), make(folder.path(), "twin"));
        let same = |app: &Sample, twin: &Sample| {
            let found = compare(&app.media(), &twin.media(), &CompareOptions::default());
            assert_eq!(found.unwrap(), []);
            assert_eq!(rows_in(&app.database()), rows_in(&twin.database()));
        };
        same(&app, &twin);
        app.change().unwrap();
        let found = compare(&app.media(), &twin.media(), &CompareOptions::default());
        assert!(found.unwrap().len() > 10);
        assert_ne!(rows_in(&app.database()), rows_in(&twin.database()));
        twin.change().unwrap();
        same(&app, &twin);
    }

    #[test]
    fn every_attachment_of_a_row_is_a_file_before_and_after_the_change() {
        let folder = tempfile::tempdir().unwrap();
        let mut app = make(folder.path(), "app");
        for changed in [false, true] {
            if changed {
                app.change().unwrap();
            }
            let named: BTreeSet<PathBuf> = attachments_in(&app.database())
                .unwrap()
                .into_iter()
                .map(|path| app.media().join(path))
                .collect();
            let there: BTreeSet<PathBuf> = files_below(&app.media()).unwrap().into_iter().collect();
            assert_eq!(named, there);
            assert_eq!(named.contains(&app.media().join(LOST)), !changed);
        }
    }

    #[test]
    fn the_app_has_the_size_that_a_demonstration_wants() {
        let folder = tempfile::tempdir().unwrap();
        let app = make(folder.path(), "app");
        let (files, bytes) = app.media_size().unwrap();
        assert!((140..170).contains(&files), "{files}");
        assert!((35 << 20..48 << 20).contains(&bytes), "{bytes}");
        assert!(app.rows().unwrap() > 4_000);
    }
}
