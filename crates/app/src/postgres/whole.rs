//! The engine `pg_dump`: one archive of everything, at one moment.

use lifeboat_codec::{Profile, StreamRef};
use lifeboat_postgres::{Dump, DumpOptions, Moment, MomentOptions, Programs, Settings, globals};
use lifeboat_repository::{Counter, WriteError};

use super::{Given, LOCK_WAIT, Reading, Taps, pg_dump_said};
use crate::config::PostgresSource;
use crate::source::{Counted, SourceError, made, on_lane};

/// The file that the archive is in.
const ARCHIVE: &str = "database.dump";

pub(super) fn read(
    reading: &Reading<'_, '_>,
    source: &PostgresSource,
    settings: &Settings,
    programs: &Programs,
) -> Result<Given, SourceError> {
    let writer = reading.writer;
    let patience = MomentOptions {
        lock_wait: LOCK_WAIT,
    };
    let moment = Moment::hold(settings, &patience, reading.runtime)?;
    let facts = moment.facts().clone();
    let bytes = facts.database.size_bytes.unwrap_or(0);
    writer.progress().expect(Counter::Bytes, bytes);
    let phase = format!("Dumping {}", settings.display());
    writer.progress().phase(&phase);
    let roles = globals(&moment, programs)?;
    let options = DumpOptions {
        skip_data: source.skip_data.clone(),
        lock_wait: LOCK_WAIT,
    };
    let mut taps = Taps::new(&moment, source, reading.asking)?;
    let mut dump = Dump::start(&moment, programs, &options)?;
    if !taps.0.is_empty() {
        let table = |tapped: &super::Tapped<'_>| (tapped.schema.clone(), tapped.name.clone());
        let tables = taps.0.iter().map(table).collect();
        let rows = |place: usize, bytes: &[u8]| taps.0[place].tap.feed(bytes);
        dump.watch(tables, Box::new(rows));
    }
    let stored = on_lane(
        writer,
        reading.threads,
        |lane| -> Result<StreamRef, WriteError> {
            let mut counted = Counted {
                inner: &mut dump,
                writer,
            };
            let before = reading.before.stream(&source.name, ARCHIVE.as_bytes());
            lane.put_stream(Profile::Database, before.as_ref(), &mut counted)
        },
    );
    // The program's own words tell more than the broken stream: they are asked for first.
    let (stream, report) = match (stored, dump.finish()) {
        (Ok(stream), Ok(report)) => (stream, report),
        (Err(WriteError::Source(_)), Err(error)) | (Ok(_), Err(error)) => return Err(error.into()),
        (Err(error), _) => return Err(error.into()),
    };
    taps.finish()?;
    let mut said = pg_dump_said(&report.warnings);
    said.push((
        "archive-entries".to_owned(),
        report.archive.entries.to_string(),
    ));
    Ok(Given {
        facts,
        roles,
        files: vec![made(ARCHIVE, &stream, reading.now_ms)],
        large_objects: Vec::new(),
        parts: None,
        said,
    })
}
