//! Which migrations a database of a snapshot had had, before anything of it is restored.
//!
//! Of rows that are streams of their own a few are read. An archive is read as far as its last table of migrations, an
//! SQLite database as a whole, into a temporary file; so only where the database that is there has such tables.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use lifeboat_codec::{Entries, EntryKind, StreamRef};
use lifeboat_postgres::{ArchivePick, CopyField, CopyFields, TablePart, Wanted};
use lifeboat_repository::{Reader, Repository, Snapshot, StreamError};
use rustix::fs::fstatvfs;

use super::super::SwapError;
use super::{Applied, TOOLS, Tool, of_sqlite};
use crate::browse::{Found, find_item};
use crate::database::DatabaseError;
use crate::entry::{content_of, wrong};
use crate::stored::{Form, StoredDatabase, StoredError, StoredParts};

/// An SQLite database above this size is compared once it is restored, and not before.
const SQLITE_BYTES_MAX: u64 = 1 << 30;

/// The databases of a snapshot.
#[derive(Clone, Copy)]
pub(in super::super) struct InSnapshot<'a> {
    pub(in super::super) repository: &'a Repository,
    pub(in super::super) snapshot: &'a Snapshot,
    /// When set, reading ends soon.
    pub(in super::super) stop: &'a AtomicBool,
}

impl InSnapshot<'_> {
    /// What a PostgreSQL database had had, by the tools that `there` has.
    pub(in super::super) fn postgres(
        self,
        source: &str,
        there: &Applied,
    ) -> Result<Applied, SwapError> {
        let stored = StoredDatabase::find(self.repository, self.snapshot, Some(source))
            .map_err(|error| SwapError::Database(error.into()))?;
        match &stored.form {
            Form::Parts(parts) => self.parts(&stored, parts, there),
            Form::Archive(archive) => self.archive(stored.reader(), archive, there),
        }
    }

    fn parts(
        self,
        stored: &StoredDatabase<'_>,
        parts: &StoredParts,
        there: &Applied,
    ) -> Result<Applied, SwapError> {
        let mut applied = Applied::new();
        let with_rows = parts.parts.tables.iter();
        for part in with_rows.filter(|part| part.digest.is_some()) {
            let Some(tool) = tool_of(&part.name, there) else {
                continue;
            };
            let at = |column: &&str| part.columns.iter().position(|known| known == column);
            let columns: Option<Vec<usize>> = TOOLS[tool].columns.iter().map(at).collect();
            // Another tool's table.
            let Some(columns) = columns else { continue };
            let mut rows = Rows {
                fields: CopyFields::new(&columns),
                tool: &TOOLS[tool],
                found: BTreeSet::new(),
            };
            self.read(stored, parts, part, &mut rows)?;
            applied.push((tool, place(&part.schema, &part.name), rows.found));
        }
        Ok(applied)
    }

    fn read(
        self,
        stored: &StoredDatabase<'_>,
        parts: &StoredParts,
        part: &TablePart,
        rows: &mut Rows<'_>,
    ) -> Result<(), SwapError> {
        let read = stored.write(parts, Wanted::Rows(part), rows);
        let read = read.map_err(|error| DatabaseError::from(StoredError::Temporary(error)));
        Ok(parts.judge(read)?)
    }

    /// Reads no further than it must.
    fn archive(
        self,
        reader: &Reader<'_>,
        archive: &StreamRef,
        there: &Applied,
    ) -> Result<Applied, SwapError> {
        let tools: BTreeSet<usize> = there.iter().map(|(tool, _, _)| *tool).collect();
        let tools: Vec<usize> = tools.into_iter().collect();
        let wanted = tools.iter().map(|tool| {
            let Tool { table, columns, .. } = TOOLS[*tool];
            (table, columns)
        });
        let mut sets: Vec<BTreeSet<String>> = Vec::new();
        let mut pick = ArchivePick::new(wanted.collect(), |table, kind, row| {
            sets.resize_with(sets.len().max(table + 1), BTreeSet::new);
            sets[table].extend(of_row(&TOOLS[tools[kind]], row));
        });
        let mut until = Until {
            to: &mut pick,
            stop: self.stop,
        };
        let found = match reader.copy_to(archive, &mut until) {
            Err(StreamError::Read(error)) => return Err(error.into()),
            // It has what it wanted, or says below what it met.
            Ok(()) | Err(StreamError::Write(_)) => pick.finish(),
        };
        // What is wrong with an archive is told when it is restored; until then nothing is known of it.
        let found = found.unwrap_or_default();
        let known = found.into_iter().enumerate();
        Ok(known
            .map(|(at, table)| {
                let set = sets.get(at).cloned().unwrap_or_default();
                (tools[table.kind], place(&table.schema, &table.name), set)
            })
            .collect())
    }

    /// What an SQLite database had had; nothing when it is too large to be looked at before it is restored.
    pub(in super::super) fn sqlite(self, source: &str) -> Result<Applied, SwapError> {
        let reader = self.repository.reader(self.snapshot.head.domain)?;
        let Ok(Found::Folder { tree, .. }) = find_item(&reader, self.snapshot, source.as_bytes())
        else {
            return Ok(Applied::new());
        };
        let mut content = None;
        for entry in Entries::new(&reader.whole(&tree)?) {
            let entry = entry.map_err(wrong)?;
            if entry.kind == EntryKind::File {
                content = Some(content_of(&entry)?);
            }
        }
        let Some(content) = content.filter(|content| content.length <= SQLITE_BYTES_MAX) else {
            return Ok(Applied::new());
        };
        // Nobody but us can open it.
        let Ok(mut file) = tempfile::NamedTempFile::new() else {
            return Ok(Applied::new());
        };
        if !has_room(file.as_file(), content.length) {
            return Ok(Applied::new());
        }
        let mut until = Until {
            to: file.as_file_mut(),
            stop: self.stop,
        };
        match reader.copy_to(&content, &mut until) {
            Ok(()) => Ok(of_sqlite(file.path(), true).unwrap_or_default()),
            Err(StreamError::Read(error)) => Err(error.into()),
            Err(StreamError::Write(_)) => Ok(Applied::new()),
        }
    }
}

/// Whether a temporary file may take so much: as much has to be left to others.
fn has_room(file: &File, len_bytes: u64) -> bool {
    fstatvfs(file).is_ok_and(|found| found.f_bavail.saturating_mul(found.f_frsize) / 2 >= len_bytes)
}

/// The tool that keeps a table of this name, where what is there has one of it too.
fn tool_of(name: &str, there: &Applied) -> Option<usize> {
    let tool = TOOLS.iter().position(|tool| tool.table == name)?;
    there
        .iter()
        .any(|(known, _, _)| *known == tool)
        .then_some(tool)
}

/// A table's name as the server's `%I.%I` writes ordinary ones; another one is compared when it has been restored.
fn place(schema: &str, name: &str) -> String {
    let is_plain =
        |letter: u8| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == b'_';
    if schema.bytes().all(is_plain) {
        format!("{schema}.{name}")
    } else {
        format!("\"{}\".{name}", schema.replace('"', "\"\""))
    }
}

fn of_row(tool: &Tool, row: &[CopyField]) -> Option<String> {
    let text = |field: &CopyField| {
        let text = std::str::from_utf8(&field.text).ok();
        text.filter(|_| !field.null).map(str::to_owned)
    };
    let values: Vec<Option<String>> = row.iter().map(text).collect();
    let values: Vec<Option<&str>> = values.iter().map(Option::as_deref).collect();
    (tool.of_row)(&values)
}

/// Takes bytes until it is time to stop.
struct Until<'a, W> {
    to: W,
    stop: &'a AtomicBool,
}

impl<W: Write> Write for Until<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.stop.load(Relaxed) {
            return Err(io::Error::other("it was asked to stop"));
        }
        self.to.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

/// Rows of a snapshot on their way past.
struct Rows<'a> {
    fields: CopyFields,
    tool: &'a Tool,
    found: BTreeSet<String>,
}

impl Write for Rows<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Self {
            fields,
            tool,
            found,
        } = self;
        fields.feed(bytes, &mut |row| found.extend(of_row(tool, row)));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_that_pass_say_what_the_query_would() {
        let passed = |table: &str, text: &str| -> Vec<String> {
            let tool = TOOLS.iter().find(|tool| tool.table == table).unwrap();
            let columns: Vec<usize> = (0..tool.columns.len()).collect();
            let mut rows = Rows {
                fields: CopyFields::new(&columns),
                tool,
                found: BTreeSet::new(),
            };
            rows.write_all(text.as_bytes()).unwrap();
            rows.found.into_iter().collect()
        };
        let django = passed("django_migrations", "shop\t0001\nauth\t0002\n");
        assert_eq!(django, ["auth.0002", "shop.0001"]);
        let flyway = "1\tone\tt\n2\ttwo\tf\n\\N\trepeated\tt\n";
        assert_eq!(passed("flyway_schema_history", flyway), ["1", "repeated"]);
        let prisma = "a\t2026\t\\N\nb\t\\N\t\\N\nc\t2026\t2026\n";
        assert_eq!(passed("_prisma_migrations", prisma), ["a"]);
        assert_eq!(passed("alembic_version", "3f9a\n"), ["3f9a"]);
        assert_eq!(passed("schema_migrations", "7\n8\n"), ["7", "8"]);
    }

    #[test]
    fn only_what_is_there_too_is_asked_for() {
        let django = TOOLS.iter().position(|tool| tool.name == "Django").unwrap();
        let there = vec![(
            django,
            "public.django_migrations".to_owned(),
            BTreeSet::new(),
        )];
        assert_eq!(tool_of("django_migrations", &there), Some(django));
        assert_eq!(tool_of("schema_migrations", &there), None);
        assert_eq!(place("public", "t"), "public.t");
        assert_eq!(place("Pu\"blic", "t"), "\"Pu\"\"blic\".t");
    }
}
