//! An SQLite database, read by its online backup interface: never a copy of a live file.

use std::fs::File;
use std::path::Path;
use std::time::{Duration, Instant};

use lifeboat_codec::{EntryTime, Problem, Profile};
use lifeboat_postgres::{CopyField, FIELD_BYTES_MAX};
use lifeboat_repository::{Counter, WriteError, Writer};
use rusqlite::backup::{Backup, StepResult};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, ErrorCode, OpenFlags, ffi};

use crate::config::SqliteSource;
use crate::earlier::Earlier;
use crate::references::{Asking, Tap};
use crate::source::{
    MadeFile, SourceError, SourceRead, as_stream, entry_time, on_lane, put_folder,
};

/// How long another program may keep the database to itself.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long is waited before it is tried again.
const PAUSE: Duration = Duration::from_millis(50);
/// Pages that are copied before the wish to stop is looked at.
const STEP_PAGES: i32 = 4096;

/// Reads the database: a consistent copy in a private temporary file, checked, then stored.
pub(crate) fn read_sqlite(
    writer: &Writer<'_>,
    threads: usize,
    source: &SqliteSource,
    now_ms: u64,
    asking: Asking<'_>,
    before: &Earlier<'_>,
) -> Result<SourceRead, SourceError> {
    use std::os::unix::fs::MetadataExt;
    let shown = source.path.display().to_string();
    let io = |source| SourceError::File {
        path: shown.clone(),
        source,
    };
    let metadata = std::fs::metadata(&source.path).map_err(io)?;
    writer
        .progress()
        .phase(&format!("Copying the SQLite database {shown}"));
    writer.progress().expect(Counter::Bytes, metadata.len());
    let folder = tempfile::Builder::new()
        .prefix("lifeboat-sqlite-")
        .tempdir()
        .map_err(io)?;
    let copy_path = folder.path().join("copy.db");
    let patience = Patience {
        stopped: &|| writer.stopped(),
        deadline: Instant::now() + PATIENCE,
    };
    asking.taken_at(&source.name, entry_time(writer.repository().now_ms()));
    let copied = copy(&source.path, &copy_path, &patience).map_err(|source| {
        if writer.stopped() {
            return SourceError::Write(WriteError::Stopped);
        }
        let path = shown.clone();
        // Only the copy is written.
        if source.sqlite_error_code() == Some(ErrorCode::DiskFull) {
            let folder = std::env::temp_dir().display().to_string();
            return SourceError::NoRoom { folder, path };
        }
        SourceError::Sqlite { path, source }
    })?;
    ask(&copy_path, &source.name, asking).map_err(|error| match error {
        AskError::Sqlite(source) => SourceError::Sqlite {
            path: shown.clone(),
            source,
        },
        AskError::Kept(source) => SourceError::Write(WriteError::Source(source)),
    })?;
    let copy = File::open(&copy_path).map_err(io)?;
    let mut problems = Vec::new();
    if let Some(damage) = &copied.damage {
        problems.push(Problem {
            source: source.name.clone(),
            path: Vec::new(),
            what: format!("SQLite finds it damaged: {damage}"),
            class: "other".to_owned(),
        });
    }
    let file_name = source.path.file_name().map_or_else(
        || "database.db".to_owned(),
        |name| name.to_string_lossy().into_owned(),
    );
    on_lane(writer, threads, |lane| {
        let mut counted = CountedFile { file: copy, writer };
        let before = before.stream(&source.name, file_name.as_bytes());
        let stream = lane.put_stream(Profile::Database, before.as_ref(), &mut counted)?;
        let mut record = lifeboat_codec::SourceRecord::new(&source.name, "sqlite", &shown);
        (record.files, record.bytes, record.unreadable) = (1, stream.length, problems.len() as u64);
        record.facts = copied.facts.clone();
        let made = MadeFile {
            name: file_name,
            mode: metadata.mode() & 0o7777,
            owner: (metadata.uid(), metadata.gid()),
            mtime: EntryTime {
                seconds: metadata.mtime(),
                nanos: u32::try_from(metadata.mtime_nsec()).unwrap_or(0),
            },
            length: stream.length,
            stored: as_stream(&stream),
            status: 0,
        };
        Ok(SourceRead {
            entry: put_folder(
                lane,
                &source.name,
                entry_time(now_ms),
                vec![made],
                Vec::new(),
            )?,
            record,
            problems,
        })
    })
}

/// How long is waited for whoever keeps a database to himself.
struct Patience<'a> {
    stopped: &'a dyn Fn() -> bool,
    deadline: Instant,
}

impl Patience<'_> {
    /// An error once it has come to an end.
    fn go_on(&self) -> rusqlite::Result<()> {
        if (self.stopped)() {
            return Err(failure(ffi::SQLITE_INTERRUPT, "it was asked to stop"));
        }
        if Instant::now() > self.deadline {
            return Err(failure(ffi::SQLITE_BUSY, "another program keeps it locked"));
        }
        Ok(())
    }

    /// Tries until nobody else keeps the database locked.
    fn with<T>(&self, mut each: impl FnMut() -> rusqlite::Result<T>) -> rusqlite::Result<T> {
        loop {
            let done = each();
            let code = done
                .as_ref()
                .err()
                .and_then(rusqlite::Error::sqlite_error_code);
            if !matches!(
                code,
                Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked)
            ) {
                return done;
            }
            self.go_on()?;
            std::thread::sleep(PAUSE);
        }
    }
}

fn failure(code: i32, what: &str) -> rusqlite::Error {
    rusqlite::Error::SqliteFailure(ffi::Error::new(code), Some(what.to_owned()))
}

struct Copied {
    facts: Vec<(String, String)>,
    damage: Option<String>,
}

/// Opens a database that a program may be using.
pub(crate) fn open_read_only(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let database = Connection::open_with_flags(path, flags)?;
    database.busy_timeout(Duration::from_secs(5))?;
    Ok(database)
}

/// What SQLite says of the whole database: `ok`, or what is wrong with it.
pub(crate) fn verdict(database: &Connection) -> rusqlite::Result<String> {
    let mut statement = database.prepare("PRAGMA integrity_check(10)")?;
    let lines: Vec<String> = statement
        .query_map([], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    Ok(lines.join("; "))
}

fn copy(from: &Path, to: &Path, patience: &Patience<'_>) -> rusqlite::Result<Copied> {
    let source = open_read_only(from)?;
    source.busy_timeout(PAUSE)?;
    // A foreign file says so here, before anything is copied.
    let journal: String =
        patience.with(|| source.pragma_query_value(None, "journal_mode", |row| row.get(0)))?;
    // One moment for all pages: this transaction lasts until they are copied. In write-ahead mode nobody waits for it.
    source.execute_batch("BEGIN")?;
    patience.with(|| {
        let any = "SELECT count(*) FROM sqlite_schema";
        source.query_row(any, [], |row| row.get::<_, i64>(0))
    })?;
    let mut copy = Connection::open(to)?;
    copy.execute_batch("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;")?;
    {
        let backup = Backup::new(&source, &mut copy)?;
        loop {
            match backup.step(STEP_PAGES)? {
                StepResult::Done => break,
                StepResult::More => {
                    if (patience.stopped)() {
                        patience.go_on()?;
                    }
                }
                _ => {
                    patience.go_on()?;
                    std::thread::sleep(PAUSE);
                }
            }
        }
    }
    source.execute_batch("COMMIT")?;
    let verdict = verdict(&copy)?;
    let tables: i64 = copy.query_row(
        "SELECT count(*) FROM sqlite_schema WHERE type = 'table'",
        [],
        |row| row.get(0),
    )?;
    let number = |name: &str| copy.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let facts = vec![
        ("sqlite".to_owned(), rusqlite::version().to_owned()),
        ("journal-mode".to_owned(), journal),
        ("pages".to_owned(), number("page_count")?.to_string()),
        ("page-size".to_owned(), number("page_size")?.to_string()),
        (
            "user-version".to_owned(),
            number("user_version")?.to_string(),
        ),
        ("tables".to_owned(), tables.to_string()),
        ("integrity".to_owned(), verdict.clone()),
    ];
    Ok(Copied {
        facts,
        damage: (verdict != "ok").then_some(verdict),
    })
}

/// Why the files that rows name are not known.
pub(crate) enum AskError {
    Sqlite(rusqlite::Error),
    /// They could not be kept.
    Kept(std::io::Error),
}

impl From<rusqlite::Error> for AskError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

/// Asks the copy, which is what is stored, which files its rows name.
pub(crate) fn ask(copy: &Path, name: &str, asking: Asking<'_>) -> Result<(), AskError> {
    let tables = asking.tables_of(name);
    if tables.is_empty() {
        return Ok(());
    }
    let database = open_read_only(copy)?;
    for table in tables {
        let mut statement =
            database.prepare("SELECT name, pk FROM pragma_table_info(?1) ORDER BY cid")?;
        let columns: Vec<(String, i64)> = statement
            .query_map([table], |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect::<Result<_, _>>()?;
        if columns.is_empty() {
            continue;
        }
        let key: Vec<String> = columns
            .iter()
            .filter(|(_, place)| *place > 0)
            .map(|(name, _)| name.clone())
            .collect();
        let names: Vec<String> = columns.into_iter().map(|(name, _)| name).collect();
        let Some(mut tap) = Tap::new(asking, name, &[table], &names, &key) else {
            continue;
        };
        let wanted: Vec<String> = tap
            .columns()
            .iter()
            .map(|place| quoted(&names[*place]))
            .collect();
        let sql = format!("SELECT {} FROM {}", wanted.join(", "), quoted(table));
        let mut statement = database.prepare(&sql)?;
        let mut rows = statement.query([])?;
        let mut fields = vec![CopyField::default(); wanted.len()];
        while let Some(row) = rows.next()? {
            for (place, field) in fields.iter_mut().enumerate() {
                field.text.clear();
                let value = row.get_ref(place)?;
                field.null = matches!(value, ValueRef::Null);
                match value {
                    ValueRef::Null => {}
                    ValueRef::Integer(number) => field.text.extend(number.to_string().bytes()),
                    ValueRef::Real(number) => field.text.extend(number.to_string().bytes()),
                    ValueRef::Text(bytes) | ValueRef::Blob(bytes) => {
                        let end = bytes.len().min(FIELD_BYTES_MAX);
                        field.cut = bytes.len() > end;
                        field.text.extend_from_slice(&bytes[..end]);
                    }
                }
            }
            tap.row(&fields);
        }
        tap.finish().map_err(AskError::Kept)?;
    }
    Ok(())
}

pub(crate) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

struct CountedFile<'a> {
    file: File,
    writer: &'a Writer<'a>,
}

impl std::io::Read for CountedFile<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.file.read(buffer)?;
        self.writer.progress().count(Counter::Bytes, count as u64);
        Ok(count)
    }
}
