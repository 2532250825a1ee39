//! A PostgreSQL database: its schema and each table's rows as streams of their own, or one archive (docs/postgres.md).

mod native;
mod whole;

use std::sync::atomic::AtomicBool;
use std::time::Duration;

use lifeboat_codec::{Profile, status};
use lifeboat_postgres::{
    Connection, Engine, EngineWishes, Environment, Globals, Moment, Parts, SourceFacts, Table,
    TablePart, choose_engine, preflight, resolve, resolve_via, table_file,
};
use lifeboat_repository::{WriteError, Writer};
use tokio::runtime::Handle;

use crate::config::PostgresSource;
use crate::earlier::Earlier;
use crate::facts::{database_sql, describe};
use crate::references::{Asking, Tap};
use crate::source::{
    ENGINE_BECAUSE, MadeFile, PG_DUMP_SAID, SourceError, SourceRead, entry_time, made, on_lane,
    put_folder, record,
};

/// How long is waited for locks that others hold.
const LOCK_WAIT: Duration = Duration::from_secs(60);

/// What a database is read with.
pub(crate) struct Reading<'a, 'r> {
    pub(crate) writer: &'a Writer<'r>,
    pub(crate) threads: usize,
    pub(crate) now_ms: u64,
    pub(crate) runtime: &'a Handle,
    pub(crate) stop: &'a AtomicBool,
    /// Where chunks are written, whose key hashes rows too.
    pub(crate) domain: u32,
    pub(crate) asking: Asking<'a>,
    /// What the snapshot before says of the tables.
    pub(crate) earlier: Vec<TablePart>,
    /// What streams were.
    pub(crate) before: &'a Earlier<'r>,
}

/// What an engine gave.
struct Given {
    facts: SourceFacts,
    roles: Globals,
    /// Rows and schema, or all in one.
    files: Vec<MadeFile>,
    large_objects: Vec<MadeFile>,
    parts: Option<Parts>,
    /// What is said of the source.
    said: Vec<(String, String)>,
}

/// Where a source's database is, with the password that the configuration has for it.
pub(crate) fn postgres_settings(
    source: &PostgresSource,
    environment: Environment<'_>,
) -> Result<lifeboat_postgres::Settings, SourceError> {
    if !source.via.is_empty() {
        return Ok(resolve_via(&source.url, &source.via)?);
    }
    let settings = resolve(&source.url, environment)?;
    match &source.password {
        Some(secret) => Ok(settings.with_password(secret.read(environment)?)),
        None => Ok(settings),
    }
}

/// Reads the database; files that rows name are told to who asks for them.
pub(crate) fn read_postgres(
    reading: &Reading<'_, '_>,
    source: &PostgresSource,
) -> Result<SourceRead, SourceError> {
    let environment = |name: &str| std::env::var_os(name);
    let settings = postgres_settings(source, &environment)?;
    let progress = reading.writer.progress();
    progress.phase(&format!("Looking at {}", settings.display()));
    let found = preflight(&settings, &source.skip_data, &environment, reading.runtime)?;
    let wishes = EngineWishes {
        pg_dump: source.pg_dump,
        via: !source.via.is_empty(),
    };
    let choice = match wishes.choice() {
        Some(choice) => choice,
        None => {
            let connection = Connection::open(&settings, reading.runtime)?;
            choose_engine(&connection, found.programs.version(), wishes)?
        }
    };
    let now = entry_time(reading.writer.repository().now_ms());
    reading.asking.taken_at(&source.name, now);
    let given = match choice.engine {
        Engine::Native => native::read(reading, source, &settings, &found.programs)?,
        Engine::PgDump => whole::read(reading, source, &settings, &found.programs)?,
    };
    let facts = &given.facts;
    let mut said = vec![
        ("server".to_owned(), facts.server.version.clone()),
        ("client".to_owned(), found.programs.version().to_string()),
        ("database".to_owned(), facts.database.name.clone()),
        ("tables".to_owned(), facts.tables.len().to_string()),
        ("large-objects".to_owned(), facts.large_objects.to_string()),
        ("exit-status".to_owned(), "0".to_owned()),
    ];
    said.push(match choice.engine {
        Engine::Native => ("engine".to_owned(), "native".to_owned()),
        Engine::PgDump => ("engine".to_owned(), "pg_dump".to_owned()),
    });
    if choice.engine == Engine::PgDump && !source.pg_dump {
        said.push((ENGINE_BECAUSE.to_owned(), choice.reason));
    }
    let identifier = facts.server.system_identifier.clone();
    said.extend(identifier.map(|id| ("system-identifier".to_owned(), id)));
    let warning = |text: String| ("warning".to_owned(), text);
    said.extend(found.warnings.into_iter().map(warning));
    said.extend(given.roles.note.clone().map(warning));
    said.extend(given.said.iter().cloned());
    store(reading, &settings.display(), &source.name, given, said)
}

/// Puts what an engine gave into the source's folder, with what a restore needs to know beside it.
fn store(
    reading: &Reading<'_, '_>,
    location: &str,
    name: &str,
    given: Given,
    said: Vec<(String, String)>,
) -> Result<SourceRead, SourceError> {
    let now_ms = reading.now_ms;
    let settings_sql = database_sql(&given.facts.database, given.facts.server.major());
    let described = describe(&given.facts, given.parts.as_ref());
    on_lane(reading.writer, reading.threads, |lane| {
        let mut put = |bytes: &[u8]| lane.put_stream(Profile::Database, None, &mut &*bytes);
        let mut files = given.files;
        files.push(made("database.json", &put(described.as_bytes())?, now_ms));
        files.push(made("database.sql", &put(settings_sql.as_bytes())?, now_ms));
        let mut globals = made("globals.sql", &put(given.roles.sql.as_bytes())?, now_ms);
        // Hashes of passwords are secrets; what holds them is restored only when secrets are asked for.
        if given.roles.with_passwords {
            globals.status = status::SECRET;
        }
        files.push(globals);
        let mut record = record(name, "postgres", location, &files);
        let large: u64 = given.large_objects.iter().map(MadeFile::length).sum();
        record.files += given.large_objects.len() as u64;
        record.bytes += large;
        record.facts = said;
        let now = entry_time(now_ms);
        let mut folders = Vec::new();
        if !given.large_objects.is_empty() {
            let folder = lifeboat_postgres::LARGE_OBJECTS_FOLDER;
            let entry = put_folder(lane, folder, now, given.large_objects, Vec::new())?;
            folders.push((folder.to_owned(), entry));
        }
        Ok(SourceRead {
            entry: put_folder(lane, name, now, files, folders)?,
            record,
            problems: Vec::new(),
        })
    })
}

/// What `pg_dump` wrote to standard error although it succeeded.
fn pg_dump_said(lines: &[String]) -> Vec<(String, String)> {
    let said = |line: &String| (PG_DUMP_SAID.to_owned(), line.clone());
    lines.iter().map(said).collect()
}

/// The tables whose rows name files, and who follows them.
#[derive(Default)]
struct Taps<'r>(Vec<Tapped<'r>>);

struct Tapped<'r> {
    schema: String,
    name: String,
    tap: Tap<'r>,
}

impl<'r> Taps<'r> {
    fn new(
        moment: &Moment,
        source: &PostgresSource,
        asking: Asking<'r>,
    ) -> Result<Self, SourceError> {
        let mut taps = Self::default();
        if asking.tables_of(&source.name).is_empty() {
            return Ok(taps);
        }
        let known = &moment.facts().tables;
        let planned = moment.plan_tables(&source.skip_data, &[])?;
        for table in planned.into_iter().filter(|table| !table.skipped) {
            let part = table.part;
            let names = names_of(known, &part.schema, &part.name);
            if let Some(tap) = Tap::new(asking, &source.name, &names, &part.columns, &part.order) {
                taps.0.push(Tapped {
                    schema: part.schema,
                    name: part.name,
                    tap,
                });
            }
        }
        Ok(taps)
    }

    /// The tap of the table whose rows are in the file `name`.
    fn take(&mut self, name: &str) -> Option<Tap<'r>> {
        let mut all = self.0.iter();
        let at = all.position(|tapped| table_file(&tapped.schema, &tapped.name) == name)?;
        Some(self.0.swap_remove(at).tap)
    }

    /// Whether everything that was named could be kept.
    fn finish(self) -> Result<(), WriteError> {
        let mut taps = self.0.into_iter();
        taps.try_for_each(|tapped| tapped.tap.finish())
            .map_err(WriteError::Source)
    }
}

/// What a table with rows is called: its own name, and those of the tables whose partition it is.
pub(crate) fn names_of(known: &[Table], schema: &str, name: &str) -> Vec<String> {
    let own = |table: &&Table| table.schema == schema && table.name == name;
    let mut next = known.iter().find(own);
    let mut names = Vec::new();
    while let Some(table) = next {
        names.push(table.path());
        next = known
            .iter()
            .find(|parent| table.partition_of == Some(parent.oid));
    }
    names
}
