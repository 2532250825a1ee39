//! The native engine: the schema, each table's rows and each large object as a file of its own, several read at once.

use std::io::{self, Read};
use std::sync::Mutex;

use lifeboat_codec::{End, Profile};
use lifeboat_postgres::{
    FileFailure, LARGE_OBJECTS_FOLDER, NativeError, NativeOptions, NativeRead, Programs, RowEnd,
    Settings, Stream, globals,
};
use lifeboat_repository::{Counter, Source, WriteError, Writer, work};

use super::{Given, LOCK_WAIT, Reading, Taps, pg_dump_said};
use crate::config::PostgresSource;
use crate::references::Tap;
use crate::source::{MadeFile, SourceError, made};

/// What the threads put together.
struct Stored<'r> {
    taps: Taps<'r>,
    files: Vec<MadeFile>,
    large_objects: Vec<MadeFile>,
    failure: Option<SourceError>,
}

impl Stored<'_> {
    /// Keeps why there is no snapshot: not that others gave up because of it.
    fn fail(&mut self, error: SourceError) {
        let is_consequence = |error: &SourceError| {
            matches!(
                error,
                SourceError::Native(NativeError::Spoilt) | SourceError::Write(WriteError::Stopped)
            )
        };
        if self.failure.as_ref().is_none_or(is_consequence) {
            self.failure = Some(error);
        }
    }

    fn put(&mut self, name: &str, file: MadeFile) {
        let in_folder = name
            .strip_prefix(LARGE_OBJECTS_FOLDER)
            .and_then(|rest| rest.strip_prefix('/'));
        match in_folder {
            Some(name) => self.large_objects.push(MadeFile {
                name: name.to_owned(),
                ..file
            }),
            None => self.files.push(file),
        }
    }
}

pub(super) fn read(
    reading: &Reading<'_, '_>,
    source: &PostgresSource,
    settings: &Settings,
    programs: &Programs,
) -> Result<Given, SourceError> {
    let writer = reading.writer;
    let options = NativeOptions {
        skip_data: source.skip_data.clone(),
        lock_wait: LOCK_WAIT,
        sessions: reading.threads,
        earlier: reading.earlier.clone(),
    };
    let key = writer.repository().rows_key(reading.domain)?;
    let read = NativeRead::start(
        settings,
        programs,
        &options,
        key.bytes(),
        reading.stop,
        reading.runtime,
    )?;
    let facts = read.moment().facts().clone();
    let bytes = facts.database.size_bytes.unwrap_or(0);
    writer.progress().expect(Counter::Bytes, bytes);
    let phase = format!("Reading {}", settings.display());
    writer.progress().phase(&phase);
    let roles = globals(read.moment(), programs)?;
    let stored = Mutex::new(Stored {
        taps: Taps::new(read.moment(), source, reading.asking)?,
        files: Vec::new(),
        large_objects: Vec::new(),
        failure: None,
    });
    let lock = || stored.lock().expect("no thread panics while it stores");
    let before = reading.before.streams(&source.name);
    let sessions = vec![(); read.sessions()];
    let worked = work(writer, reading.threads, sessions, |lane, (), _| {
        while let Some(file) = read.next_file() {
            let name = file.name().to_owned();
            let mut tap = lock().taps.take(&name);
            let before = before.get(name.as_bytes());
            let put = read.read(file, |stream| {
                let mut followed = Followed {
                    stream,
                    writer,
                    tap: tap.as_mut(),
                };
                lane.put_rows(Profile::Database, before, &mut followed)
            });
            let kept = match put {
                Ok(stream) => tap
                    .map_or(Ok(()), Tap::finish)
                    .map(|()| made(&name, &stream, reading.now_ms))
                    .map_err(|error| SourceError::Write(WriteError::Source(error))),
                Err(FileFailure::Read(error)) => Err(error.into()),
                Err(FileFailure::Sink(error)) => Err(error.into()),
            };
            match kept {
                Ok(file) => lock().put(&name, file),
                Err(error) => {
                    lock().fail(error);
                    return Err(WriteError::Stopped);
                }
            }
        }
        Ok(())
    });
    let stored = stored
        .into_inner()
        .expect("no thread panics while it stores");
    if let Some(failure) = stored.failure {
        // What broke when the server went is the consequence.
        if matches!(failure, SourceError::Native(_)) {
            read.moment().check().map_err(NativeError::from)?;
        }
        return Err(failure);
    }
    worked?;
    let report = read.finish()?;
    stored.taps.finish()?;
    Ok(Given {
        facts,
        roles,
        files: stored.files,
        large_objects: stored.large_objects,
        parts: Some(report.parts),
        said: pg_dump_said(&report.schema.warnings),
    })
}

/// Counts what passes, and shows it to who follows the rows.
struct Followed<'a, 'r> {
    stream: &'a mut dyn Stream,
    writer: &'a Writer<'a>,
    tap: Option<&'a mut Tap<'r>>,
}

impl Read for Followed<'_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.stream.read(buffer)?;
        self.writer.progress().count(Counter::Bytes, count as u64);
        if let Some(tap) = &mut self.tap {
            tap.feed(&buffer[..count]);
        }
        Ok(count)
    }
}

impl Source for Followed<'_, '_> {
    fn ends(&mut self) -> Option<Vec<End>> {
        let ends = self.stream.row_ends()?.into_iter();
        Some(
            ends.map(|RowEnd { at, rarity }| End { at, rarity })
                .collect(),
        )
    }
}
