//! A PostgreSQL database: one archive at one moment, and beside it what an archive leaves out.

use std::time::Duration;

use lifeboat_codec::{Profile, StreamRef};
use lifeboat_postgres::{
    Dump, DumpOptions, Environment, Moment, MomentOptions, Table, globals, preflight, resolve,
};
use lifeboat_repository::{Counter, WriteError, Writer};
use tokio::runtime::Handle;

use crate::config::PostgresSource;
use crate::facts::{database_sql, describe};
use crate::references::{Asking, Tap};
use crate::source::{
    Counted, PG_DUMP_SAID, SourceError, SourceRead, entry_time, made, on_lane, put_folder, record,
};

/// How long is waited for locks that others hold.
const LOCK_WAIT: Duration = Duration::from_secs(60);

/// Where a source's database is, with the password that the configuration has for it.
pub(crate) fn postgres_settings(
    source: &PostgresSource,
    environment: Environment<'_>,
) -> Result<lifeboat_postgres::Settings, SourceError> {
    let settings = resolve(&source.url, environment)?;
    match &source.password {
        Some(secret) => Ok(settings.with_password(secret.read(environment)?)),
        None => Ok(settings),
    }
}

/// Reads the database; files that rows name are told to who asks for them.
pub(crate) fn read_postgres(
    writer: &Writer<'_>,
    threads: usize,
    source: &PostgresSource,
    now_ms: u64,
    runtime: &Handle,
    asking: Asking<'_>,
) -> Result<SourceRead, SourceError> {
    let environment = |name: &str| std::env::var_os(name);
    let settings = postgres_settings(source, &environment)?;
    writer
        .progress()
        .phase(&format!("Looking at {}", settings.display()));
    let found = preflight(&settings, &source.skip_data, &environment, runtime)?;
    asking.taken_at(&source.name, entry_time(writer.repository().now_ms()));
    let moment = Moment::hold(
        &settings,
        &MomentOptions {
            lock_wait: LOCK_WAIT,
        },
        runtime,
    )?;
    let facts = moment.facts().clone();
    writer
        .progress()
        .expect(Counter::Bytes, facts.database.size_bytes.unwrap_or(0));
    writer
        .progress()
        .phase(&format!("Dumping {}", settings.display()));
    let roles = globals(&moment, &found.programs)?;
    let options = DumpOptions {
        skip_data: source.skip_data.clone(),
        lock_wait: LOCK_WAIT,
    };
    let mut taps = Taps::new(&moment, source, asking)?;
    let mut dump = Dump::start(&moment, &found.programs, &options)?;
    taps.follow(&mut dump);
    let stream = on_lane(writer, threads, |lane| -> Result<StreamRef, WriteError> {
        lane.put_stream(
            Profile::Database,
            &mut Counted {
                inner: &mut dump,
                writer,
            },
        )
    });
    // The program's own words tell more than the broken stream: they are asked for first.
    let report = match (stream, dump.finish()) {
        (Ok(stream), Ok(report)) => (stream, report),
        (Err(WriteError::Source(_)), Err(error)) | (Ok(_), Err(error)) => return Err(error.into()),
        (Err(error), _) => return Err(error.into()),
    };
    let (stream, report) = report;
    taps.finish()?;
    let mut record_facts = vec![
        ("server".to_owned(), facts.server.version.clone()),
        ("client".to_owned(), report.program.to_string()),
        ("database".to_owned(), facts.database.name.clone()),
        ("tables".to_owned(), facts.tables.len().to_string()),
        ("large-objects".to_owned(), facts.large_objects.to_string()),
        (
            "archive-entries".to_owned(),
            report.archive.entries.to_string(),
        ),
        ("exit-status".to_owned(), "0".to_owned()),
    ];
    record_facts.extend(
        facts
            .server
            .system_identifier
            .clone()
            .map(|id| ("system-identifier".to_owned(), id)),
    );
    let warnings = found.warnings.iter();
    record_facts.extend(warnings.map(|warning| ("warning".to_owned(), warning.clone())));
    let said = report.warnings.iter();
    record_facts.extend(said.map(|line| (PG_DUMP_SAID.to_owned(), line.clone())));
    record_facts.extend(roles.note.clone().map(|note| ("warning".to_owned(), note)));
    let settings_sql = database_sql(&facts.database, facts.server.major());
    let described = describe(&facts);
    on_lane(writer, threads, |lane| {
        let mut put = |bytes: &[u8]| lane.put_stream(Profile::Database, &mut &*bytes);
        let mut files = vec![
            made("database.dump", stream, now_ms),
            made("database.json", put(described.as_bytes())?, now_ms),
            made("database.sql", put(settings_sql.as_bytes())?, now_ms),
            made("globals.sql", put(roles.sql.as_bytes())?, now_ms),
        ];
        // Hashes of passwords are secrets; what holds them is restored only when secrets are asked for.
        if roles.with_passwords {
            files
                .iter_mut()
                .filter(|file| file.name == "globals.sql")
                .for_each(|file| file.status = lifeboat_codec::status::SECRET);
        }
        let mut record = record(&source.name, "postgres", &settings.display(), &files);
        record.facts = record_facts;
        Ok(SourceRead {
            entry: put_folder(lane, &source.name, entry_time(now_ms), files)?,
            record,
            problems: Vec::new(),
        })
    })
}

/// The tables whose rows name files, and who follows them.
#[derive(Default)]
struct Taps<'r> {
    /// Schema and name.
    tables: Vec<(String, String)>,
    taps: Vec<Tap<'r>>,
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
                taps.tables.push((part.schema, part.name));
                taps.taps.push(tap);
            }
        }
        Ok(taps)
    }

    /// From here on what the dump reads is followed.
    fn follow<'t>(&'t mut self, dump: &mut Dump<'t>) {
        let taps = &mut self.taps;
        if !taps.is_empty() {
            let rows = |place: usize, bytes: &[u8]| taps[place].feed(bytes);
            dump.watch(self.tables.clone(), Box::new(rows));
        }
    }

    /// Whether everything that was named could be kept.
    fn finish(self) -> Result<(), WriteError> {
        let mut taps = self.taps.into_iter();
        taps.try_for_each(Tap::finish).map_err(WriteError::Source)
    }
}

/// What a table with rows is called: its own name, and those of the tables whose partition it is.
fn names_of(known: &[Table], schema: &str, name: &str) -> Vec<String> {
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
