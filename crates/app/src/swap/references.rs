//! Whether the restored folders have the files that the restored rows name.
//!
//! The rows are asked in the restored databases, and the files are looked for in the restored folders: what is compared is
//! what the app will see. What the snapshot itself says it lacks is no surprise.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::hash::{BuildHasher, RandomState};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use lifeboat_postgres::{Connection as Session, SwapError as DatabaseSwapError};

use super::SwapError;
use super::beside::{Beside, new_path, read_only};
use super::journal::{DatabaseItem, Journal};
use super::plan::{SwapPlan, TargetKind};
use crate::config::{FolderSource, ReferenceColumn, SourceConfig};
use crate::references::{ReferenceCounts, path_named};

/// Rows that are fetched at once.
const ROWS_MAX: usize = 5000;

/// A folder, and what it lacks.
struct Held<'a> {
    source: &'a FolderSource,
    root: &'a Path,
    hasher: RandomState,
    missing: HashSet<u64>,
    known: u64,
}

impl Held<'_> {
    /// Looks for the file that a value names. An error once more lack than is known; so no more are kept.
    fn look(&mut self, column: &ReferenceColumn, value: &str) -> Result<(), SwapError> {
        let Some(path) = path_named(self.source, column, value.as_bytes()) else {
            return Ok(());
        };
        if self
            .root
            .join(OsStr::from_bytes(&path))
            .symlink_metadata()
            .is_ok()
        {
            return Ok(());
        }
        self.missing.insert(self.hasher.hash_one(&path));
        let missing = self.missing.len() as u64;
        if missing > self.known {
            return Err(SwapError::References {
                folder: self.source.name.clone(),
                missing,
                known: self.known,
            });
        }
        Ok(())
    }
}

impl Beside<'_> {
    /// Holds the restored rows against the restored folders. Gives sentences about columns that could not be asked.
    ///
    /// # Errors
    /// When more files lack than the snapshot says.
    pub(super) fn references(
        &self,
        plan: &SwapPlan,
        journal: &Journal,
    ) -> Result<Vec<String>, SwapError> {
        let manifest = self.repository.manifest(self.snapshot)?;
        let mut warnings = Vec::new();
        for target in &plan.targets {
            let mut sources = self.ways.app.sources.iter();
            let source = sources.find_map(|source| match source {
                SourceConfig::Folder(folder) if folder.name == target.source => Some(folder),
                _ => None,
            });
            let record = manifest.sources.iter();
            let mut record = record.filter(|record| record.name == target.source);
            let counts = record.find_map(|record| ReferenceCounts::of(&record.facts));
            let (Some(source), Some(root), Some(counts)) =
                (source, new_path(target, journal), counts)
            else {
                continue;
            };
            let mut held = Held {
                source,
                root: &root,
                hasher: RandomState::new(),
                missing: HashSet::new(),
                known: counts.missing,
            };
            for column in &source.references {
                self.progress.phase(&format!(
                    "Looking for the files that {}.{} names",
                    column.table, column.column
                ));
                if let Some(warning) = self.ask(column, &mut held, plan, journal)? {
                    warnings.push(warning);
                }
            }
        }
        Ok(warnings)
    }

    /// Asks one column. What cannot be asked was not there at the backup either, which the snapshot says.
    fn ask(
        &self,
        column: &ReferenceColumn,
        held: &mut Held<'_>,
        plan: &SwapPlan,
        journal: &Journal,
    ) -> Result<Option<String>, SwapError> {
        let unasked = |why: String| {
            Some(format!(
                "The files that {}.{} names were not looked for: {why}.",
                column.table, column.column
            ))
        };
        if let Some((item, content)) = self.content
            && item.source == column.source
        {
            let asked = content.ask(|session| read_names(session, column, held));
            return match asked {
                Err(SwapError::Server(DatabaseSwapError::Query(error))) => {
                    Ok(unasked(error.message))
                }
                asked => asked.map(|()| None),
            };
        }
        let mut databases = journal.databases.iter();
        if let Some(item) = databases.find(|item| item.source == column.source) {
            return match self.ask_postgres(item, column, held) {
                Err(SwapError::Server(DatabaseSwapError::Query(error))) => {
                    Ok(unasked(error.message))
                }
                asked => asked.map(|()| None),
            };
        }
        let is_its =
            |kind: TargetKind, source: &str| kind == TargetKind::Sqlite && source == column.source;
        let mut targets = plan.targets.iter();
        let target = targets.find(|target| is_its(target.kind, &target.source));
        let Some(path) = target.and_then(|target| new_path(target, journal)) else {
            return Ok(unasked(format!("the snapshot has no {}", column.source)));
        };
        let mut values = || -> rusqlite::Result<Result<(), SwapError>> {
            let database = read_only(&path)?;
            let name = quoted(&column.column);
            let sql = format!(
                "SELECT CAST({name} AS text) FROM {} WHERE {name} IS NOT NULL",
                quoted(&column.table)
            );
            let mut statement = database.prepare(&sql)?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                if let Err(error) = held.look(column, &row.get::<_, String>(0)?) {
                    return Ok(Err(error));
                }
            }
            Ok(Ok(()))
        };
        match values() {
            Ok(looked) => looked.map(|()| None),
            Err(error) => Ok(unasked(error.to_string())),
        }
    }

    fn ask_postgres(
        &self,
        item: &DatabaseItem,
        column: &ReferenceColumn,
        held: &mut Held<'_>,
    ) -> Result<(), SwapError> {
        let (_, settings) = self.ways.settings(self.ways.source(&item.source)?)?;
        let settings = settings.with_database(&item.new);
        let session =
            Session::open(&settings, self.ways.runtime).map_err(DatabaseSwapError::from)?;
        let begun = session.rows("begin", "BEGIN READ ONLY");
        begun.map_err(DatabaseSwapError::from)?;
        read_names(&session, column, held)
    }
}

/// Reads a column in the transaction that the session is in.
fn read_names(
    session: &Session,
    column: &ReferenceColumn,
    held: &mut Held<'_>,
) -> Result<(), SwapError> {
    let ask = |sql: &str| {
        let rows = session.rows("read the rows that name files", sql);
        rows.map_err(|error| SwapError::from(DatabaseSwapError::from(error)))
    };
    let (schema, table) = column
        .table
        .split_once('.')
        .unwrap_or(("public", &column.table));
    let name = quoted(&column.column);
    ask(&format!(
        "DECLARE named NO SCROLL CURSOR FOR SELECT {name}::text FROM {}.{} WHERE {name} IS NOT NULL",
        quoted(schema),
        quoted(table)
    ))?;
    loop {
        let rows = ask(&format!("FETCH {ROWS_MAX} FROM named"))?;
        if rows.is_empty() {
            return Ok(());
        }
        for value in rows.into_iter().flatten().flatten() {
            held.look(column, &value)?;
        }
    }
}

/// A name as SQL, of PostgreSQL and SQLite alike.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn as_many_files_may_lack_as_the_snapshot_says_and_no_more() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("sub")).unwrap();
        fs::write(folder.path().join("sub/there"), "").unwrap();
        let source = FolderSource {
            name: "media".to_owned(),
            path: "/srv/media".into(),
            exclude: Vec::new(),
            one_file_system: false,
            exclude_caches: false,
            references: Vec::new(),
            bundles: true,
        };
        let column = ReferenceColumn::default();
        let mut held = Held {
            source: &source,
            root: folder.path(),
            hasher: RandomState::new(),
            missing: HashSet::new(),
            known: 1,
        };
        for value in [
            "sub/there",
            "/srv/media/sub/there",
            "",
            "../x",
            "gone",
            "/gone",
        ] {
            held.look(&column, value).unwrap();
        }
        let error = held.look(&column, "gone too").unwrap_err();
        assert!(
            matches!(
                error,
                SwapError::References {
                    missing: 2,
                    known: 1,
                    ..
                }
            ),
            "{error}"
        );
    }
}
