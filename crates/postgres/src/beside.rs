//! Single tables out of a backup, into a new schema beside those that a database has.
//!
//! For rows that were lost: what was is put beside what is, to compare and to copy from. The tables come with their
//! columns, checks, keys and rows; types and functions that they name are the database's own. Indexes, foreign keys,
//! triggers, policies, defaults from the table's own sequences and grants stay away, for they would act on what is there, or let others
//! see what they may not. Only the chosen tables' rows are read from the backup. A partitioned table comes as one table.
//!
//! Invariant: everything happens in one transaction, so the schema is whole or not there, also when we are killed; and
//! no statement names anything but what it makes.

use std::{
    collections::HashSet,
    io::Read,
    sync::atomic::{AtomicBool, Ordering},
};

use tokio::runtime::Handle;

use crate::{
    archive::{ArchiveEntry, ArchiveError, ArchiveScanner},
    connect::{ConnectError, QueryError},
    definition::{self, TableBody},
    intake::{Intake, IntakeError},
    load::{self, LoadError},
    partitions::{Partitions, is_partitioned},
    parts::{Digest, Parts, TablePart},
    quote, selection,
    session::{Session, SessionError},
    settings::Settings,
    source::PartSource,
    verify::{self, Difference, VerifyError},
};

/// A restore of single tables.
#[derive(Clone, Copy)]
pub struct BesideRestore<'a> {
    /// The database that the schema is made in.
    pub database: &'a Settings,
    /// The new schema.
    pub schema: &'a str,
    /// The tables, as `schema.table`.
    pub tables: &'a [String],
    /// What the backup consists of beside its schema.
    pub parts: &'a Parts,
    /// The encoding of the database that was backed up, as its server called it.
    pub encoding: &'a str,
    /// The key that the digests of the parts were made with: what came in is read again and held against them.
    pub hash_key: Option<&'a [u8; 32]>,
    /// When set, the restore fails soon.
    pub stop: &'a AtomicBool,
}

/// What was restored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BesideReport {
    /// The tables that were made, in the new schema.
    pub tables: Vec<String>,
    /// Rows.
    pub rows: u64,
    /// Bytes of their text.
    pub len_bytes: u64,
    /// Sentences about what was left out.
    pub warnings: Vec<String>,
}

/// Why the tables were not restored. Nothing of them is there.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BesideError {
    /// There is no connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// A statement failed.
    #[error(transparent)]
    Query(#[from] QueryError),
    /// The schema's archive could not be read.
    #[error(transparent)]
    Intake(#[from] IntakeError),
    /// The archive is newer than any that is known here.
    #[error("the schema is an archive in format 1.{0}, which is newer than any that is known here")]
    UnknownFormat(u8),
    /// A schema of the name is there.
    #[error("the schema \"{0}\" exists already, and the tables come into a new one")]
    Exists(String),
    /// The backup has no such table.
    #[error("the backup has no table \"{wanted}\"")]
    UnknownTable {
        /// What was asked for.
        wanted: String,
        /// The tables that it has, as `schema.table`.
        there: Vec<String>,
    },
    /// Two of the tables have one name.
    #[error("two tables are called \"{0}\", and one schema can have one of them only")]
    SameName(String),
    /// A table cannot be made by itself.
    #[error("{table} cannot come by itself: {why}; restore it into a new database")]
    NotAlone {
        /// The table.
        table: String,
        /// Why.
        why: &'static str,
    },
    /// A table is not made, and the database has not the extensions whose types or functions are in it.
    #[error(
        "cannot make the table {table}, for the database lacks the extension {}",
        extensions.join(", ")
    )]
    Extensions {
        /// The table.
        table: String,
        /// The extensions.
        extensions: Vec<String>,
        /// What the server said.
        #[source]
        answer: QueryError,
    },
    /// The text is in another encoding than the database, so it could not be compared.
    #[error(
        "the backup is in {backup}, and the database is in {database}; restore into a new database"
    )]
    Encoding {
        /// The backup's.
        backup: String,
        /// The database's.
        database: String,
    },
    /// The rows did not come in.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// What came in is not what the backup was made of.
    #[error(transparent)]
    Verify(#[from] VerifyError),
}

impl From<SessionError> for BesideError {
    fn from(error: SessionError) -> Self {
        match error {
            SessionError::Query(error) => Self::Query(error),
            SessionError::Stopped => Self::Load(LoadError::Stopped),
        }
    }
}

/// One of the tables.
struct BesideTable<'a> {
    path: String,
    name: String,
    /// From the opening bracket of its columns.
    columns: String,
    /// Its keys, from `ADD CONSTRAINT`.
    keys: Vec<String>,
    /// Whose rows come: its own, or those of all its partitions.
    parts: Vec<&'a TablePart>,
    /// The extensions that it needs.
    extensions: Vec<String>,
}

/// Restores tables into a new schema of a database that is there. Of `archive`, which is the backup's schema, the
/// beginning is read; `source` is asked for the rows of the chosen tables.
///
/// # Errors
/// When a table cannot be made by itself or the schema is there, before the first byte; when anything fails on the way or
/// `stop` is set. Then nothing was made.
pub fn restore_beside(
    restore: &BesideRestore<'_>,
    archive: &mut dyn Read,
    source: &PartSource<'_>,
    handle: &Handle,
) -> Result<BesideReport, BesideError> {
    let intake = Intake::open(archive, restore.stop)?;
    let (mut tables, mut warnings) = plan(intake.scanner(), restore)?;
    let stops = [restore.stop];
    let mut session = Session::open(restore.database, handle, &stops)?;
    let encoding = session.connection().encoding();
    if encoding != restore.encoding {
        return Err(BesideError::Encoding {
            backup: restore.encoding.to_owned(),
            database: encoding.to_owned(),
        });
    }
    let schema = quote::identifier(restore.schema);
    let there = session.rows(
        "look whether the schema exists",
        &format!(
            "SELECT 1 FROM pg_catalog.pg_namespace WHERE nspname = {}",
            quote::literal(restore.schema)
        ),
    )?;
    if !there.is_empty() {
        return Err(BesideError::Exists(restore.schema.to_owned()));
    }
    let installed = session.rows(
        "list the extensions",
        "SELECT extname FROM pg_catalog.pg_extension",
    )?;
    let installed: Vec<String> = installed.into_iter().flatten().flatten().collect();
    for table in &mut tables {
        table.extensions.retain(|name| !installed.contains(name));
    }
    session.execute(
        "make the schema",
        &format!("SET xmloption = content; BEGIN READ WRITE; CREATE SCHEMA {schema}"),
    )?;
    let mut report = BesideReport {
        tables: Vec::new(),
        rows: 0,
        len_bytes: 0,
        warnings: Vec::new(),
    };
    for table in &tables {
        let digest = table.make(&mut session, restore, source)?;
        report
            .tables
            .push(format!("{}.{}", restore.schema, table.name));
        report.rows += digest.rows;
        report.len_bytes += digest.len_bytes;
        let skipped = table.parts.iter().filter(|part| part.digest.is_none());
        warnings.extend(
            skipped.map(|part| format!("The backup has left the rows of {} out.", part.path())),
        );
    }
    if restore.stop.load(Ordering::Relaxed) {
        return Err(LoadError::Stopped.into());
    }
    session.execute("make the schema last", "COMMIT")?;
    report.warnings = warnings;
    Ok(report)
}

impl BesideTable<'_> {
    /// Makes the table with its rows and keys; gives what identifies its rows.
    fn make(
        &self,
        session: &mut Session<'_>,
        restore: &BesideRestore<'_>,
        source: &PartSource<'_>,
    ) -> Result<Digest, BesideError> {
        let name = quote::qualified(restore.schema, &self.name);
        let made = session.execute(
            &format!("make the table {}", self.path),
            &format!("CREATE TABLE {name} {}", self.columns),
        );
        made.map_err(|error| match error {
            SessionError::Query(answer) if !self.extensions.is_empty() => BesideError::Extensions {
                table: self.path.clone(),
                extensions: self.extensions.clone(),
                answer,
            },
            error => error.into(),
        })?;
        let mut expected = Digest::default();
        for part in &self.parts {
            let what = format!("load the rows of {}", part.path());
            // The table was made in the same transaction.
            let sql = load::copy_sql(part, &name, "FREEZE, ", restore.encoding);
            load::copy(session, &what, &sql, part, source)?;
            expected = expected.plus(&part.digest.unwrap_or_default());
        }
        for key in &self.keys {
            session.execute(
                &format!("make a key of {}", self.path),
                &format!("ALTER TABLE ONLY {name} {key}"),
            )?;
        }
        if let (Some(hash_key), [part, ..]) = (restore.hash_key, &self.parts[..]) {
            let here = TablePart {
                schema: restore.schema.to_owned(),
                name: self.name.clone(),
                columns: part.columns.clone(),
                condition: None,
                order: Vec::new(),
                digest: None,
            };
            let found = verify::read(session, &here, hash_key)?;
            let difference =
                Difference::between(format!("the rows of {}", self.path), &expected, &found);
            if let Some(difference) = difference {
                return Err(VerifyError::Differs(vec![difference]).into());
            }
        }
        Ok(expected)
    }
}

/// What is to be made, and sentences about what is not.
fn plan<'a>(
    scanner: &ArchiveScanner,
    restore: &BesideRestore<'a>,
) -> Result<(Vec<BesideTable<'a>>, Vec<String>), BesideError> {
    let head = scanner
        .head()
        .ok_or_else(|| IntakeError::from(ArchiveError::CutOff("in its head")))?;
    let contents = scanner
        .contents()
        .ok_or(BesideError::UnknownFormat(head.format_minor))?;
    let contents: Vec<&ArchiveEntry> = contents.iter().collect();
    let standard_strings = contents.iter().any(|entry| {
        let definition = entry.definition.as_deref().unwrap_or_default();
        entry.kind == "STDSTRINGS" && definition.contains("'on'")
    });
    let planner = Planner {
        partitions: Partitions::of(&contents),
        contents,
        parts: restore.parts,
        standard_strings,
    };
    let mut tables: Vec<BesideTable<'a>> = Vec::new();
    let mut warnings = Vec::new();
    let mut names = HashSet::new();
    for path in restore.tables {
        if tables.iter().any(|table| table.path == *path) {
            continue;
        }
        let table = planner.table(path, &mut warnings)?;
        if !names.insert(table.name.clone()) {
            return Err(BesideError::SameName(table.name));
        }
        tables.push(table);
    }
    Ok((tables, warnings))
}

/// Finds tables in an archive.
struct Planner<'e, 'a> {
    contents: Vec<&'e ArchiveEntry>,
    partitions: Partitions<'e>,
    parts: &'a Parts,
    standard_strings: bool,
}

impl<'a> Planner<'_, 'a> {
    fn table(
        &self,
        path: &str,
        warnings: &mut Vec<String>,
    ) -> Result<BesideTable<'a>, BesideError> {
        let refused = |why| BesideError::NotAlone {
            table: path.to_owned(),
            why,
        };
        let entry = self
            .contents
            .iter()
            .find(|entry| {
                selection::TABLES.contains(&entry.kind.as_str()) && selection::path(entry) == path
            })
            .ok_or_else(|| BesideError::UnknownTable {
                wanted: path.to_owned(),
                there: selection::tables(self.contents.iter().copied()),
            })?;
        if entry.kind != "TABLE" {
            return Err(refused("its rows are elsewhere, and not in the backup"));
        }
        let (schema, definition) = (
            entry.schema().unwrap_or_default(),
            entry.definition.as_deref().unwrap_or_default(),
        );
        let columns =
            match definition::table_body(definition, schema, &entry.name, self.standard_strings) {
                Some(TableBody::Columns(columns)) => columns.to_owned(),
                Some(TableBody::Inherits) => {
                    return Err(refused("it inherits columns from another table"));
                }
                None => return Err(refused("the statement that makes it is not understood")),
            };
        let parts = self.parts_of(entry);
        if parts
            .windows(2)
            .any(|pair| pair[0].columns != pair[1].columns)
        {
            return Err(refused(
                "its partitions have their columns in different orders",
            ));
        }
        if parts.is_empty() && !is_partitioned(entry) {
            return Err(refused("the backup does not have its rows"));
        }
        Ok(BesideTable {
            path: path.to_owned(),
            name: entry.name.clone(),
            columns,
            keys: self.keys(entry, schema, warnings),
            parts,
            extensions: self.extensions_of(entry),
        })
    }

    /// The parts whose rows are the table's: its own, or its partitions' of every depth.
    fn parts_of(&self, table: &ArchiveEntry) -> Vec<&'a TablePart> {
        let keys: HashSet<String> = self
            .contents
            .iter()
            .filter(|entry| entry.kind == "TABLE")
            .filter(|entry| {
                entry.id == table.id
                    || self
                        .partitions
                        .above(entry)
                        .any(|above| above.id == table.id)
            })
            .map(|entry| selection::key(entry))
            .collect();
        let parts = self.parts.tables.iter();
        parts.filter(|part| keys.contains(&part.key())).collect()
    }

    /// The extensions that have something of which the table is made.
    fn extensions_of(&self, table: &ArchiveEntry) -> Vec<String> {
        let needed = self
            .contents
            .iter()
            .filter(|entry| entry.kind == "EXTENSION" && table.needs.contains(&entry.id));
        needed.map(|entry| entry.name.clone()).collect()
    }

    fn keys(&self, table: &ArchiveEntry, schema: &str, warnings: &mut Vec<String>) -> Vec<String> {
        let mut keys = Vec::new();
        let of_table =
            |entry: &&&ArchiveEntry| entry.kind == "CONSTRAINT" && entry.needs.contains(&table.id);
        for entry in self.contents.iter().filter(of_table) {
            let definition = entry.definition.as_deref().unwrap_or_default();
            match definition::constraint(definition, schema, &table.name, self.standard_strings) {
                Some(key) => keys.push(key.to_owned()),
                None => warnings.push(format!(
                    "Left out, because its statement is not understood: {}.",
                    entry.name
                )),
            }
        }
        keys
    }
}

#[cfg(test)]
mod tests;
