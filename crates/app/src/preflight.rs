//! Looking at an app's sources before a backup: what would make it fail, or leave something out.
//!
//! Everything is opened as a backup would open it, and nothing is kept. Invariant: a source without a problem here
//! gives a snapshot, unless it changes in between.

use std::{
    error::Error,
    fs::File,
    os::unix::fs::PermissionsExt,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
};

use lifeboat_files::{ClusterState, Excludes, Folder, Kind, Listing, Metadata, Special, recognise};
use lifeboat_postgres::PreflightError;
use lifeboat_repository::{Counter, Progress};
use rusqlite::Connection;
use tokio::runtime::Handle;

use crate::config::{FolderSource, PostgresSource, SecretsSource, SqliteSource};
use crate::display::Bytes;
use crate::postgres::postgres_settings;
use crate::source::{SECRET_BYTES_MAX, Source, SourceError};
use crate::sqlite::{open_read_only, verdict};
use crate::text::{sentence, shown_path};

/// Unreadable items that are named; more are counted.
const NAMED_MAX: u64 = 5;

/// What was found about one source.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TestResult {
    /// The source's name.
    pub name: String,
    /// What kind of source it is, as the manifest says it.
    pub kind: &'static str,
    /// What was seen, in a few words; empty when nothing was.
    pub seen: String,
    /// What would make a backup fail or leave something out.
    pub problems: Vec<TestProblem>,
    /// What works and should be known.
    pub warnings: Vec<String>,
}

/// One thing that is in the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TestProblem {
    /// What is wrong.
    pub what: String,
    /// The command or statement that mends it, where one is known.
    pub mend: Option<String>,
}

impl TestResult {
    /// True when it is a database, whose failure has an exit code of its own.
    #[must_use]
    pub fn is_database(&self) -> bool {
        matches!(self.kind, "postgres" | "sqlite")
    }

    fn problem(&mut self, what: impl Into<String>) {
        self.problems.push(TestProblem {
            what: what.into(),
            mend: None,
        });
    }

    fn failed(&mut self, error: &dyn Error) {
        self.problem(sentence(error));
    }
}

/// Looks at each of `sources`, in their order. When `stop` is set, the rest is left out.
pub fn app_test(
    sources: &[Source],
    progress: &dyn Progress,
    stop: &AtomicBool,
    runtime: &Handle,
) -> Vec<TestResult> {
    sources
        .iter()
        .take_while(|_| !stop.load(Ordering::Relaxed))
        .map(|source| {
            progress.phase(&format!("Looking at {}", source.name()));
            let mut result = TestResult {
                name: source.name().to_owned(),
                kind: source.kind(),
                ..TestResult::default()
            };
            match source {
                Source::Folder(source) => folder(source, progress, stop, &mut result),
                Source::Secrets(source) => secrets(source, &mut result),
                Source::Sqlite(source) => sqlite(source, &mut result),
                Source::Postgres(source) => postgres(source, runtime, &mut result),
                Source::Command(source) => program(&source.run, &mut result),
                Source::Stdin { .. } => {}
            }
            result
        })
        .collect()
}

fn postgres(source: &PostgresSource, runtime: &Handle, result: &mut TestResult) {
    let environment = |name: &str| std::env::var_os(name);
    let settings = match postgres_settings(source, &environment) {
        Ok(settings) => settings,
        Err(error) => return result.failed(&error),
    };
    match lifeboat_postgres::preflight(&settings, &source.skip_data, &environment, runtime) {
        Ok(found) => {
            result.seen = format!(
                "{}, PostgreSQL {}, read with pg_dump {}",
                settings.display(),
                found.server.version,
                found.programs.version()
            );
            result.warnings = found.warnings;
        }
        Err(PreflightError::Findings(findings)) => {
            result
                .problems
                .extend(findings.into_iter().map(|finding| TestProblem {
                    what: finding.sentence,
                    mend: finding.mend,
                }));
        }
        Err(error) => result.failed(&error),
    }
}

fn sqlite(source: &SqliteSource, result: &mut TestResult) {
    let look = |database: &Connection| -> rusqlite::Result<(i64, String)> {
        let tables = "SELECT count(*) FROM sqlite_schema WHERE type = 'table'";
        Ok((
            database.query_row(tables, [], |row| row.get(0))?,
            verdict(database)?,
        ))
    };
    match open_read_only(&source.path).and_then(|database| look(&database)) {
        Ok((tables, verdict)) => {
            let size = source.path.metadata().map_or(0, |metadata| metadata.len());
            result.seen = format!(
                "{}, {}, tables: {tables}",
                source.path.display(),
                Bytes(size)
            );
            if verdict != "ok" {
                result.problem(format!("SQLite finds it damaged: {verdict}"));
            }
        }
        Err(source_error) => result.failed(&SourceError::Sqlite {
            path: source.path.display().to_string(),
            source: source_error,
        }),
    }
}

fn secrets(source: &SecretsSource, result: &mut TestResult) {
    for path in &source.paths {
        match File::open(path).and_then(|file| file.metadata()) {
            Ok(metadata) if !metadata.is_file() || metadata.len() > SECRET_BYTES_MAX => {
                result.problem(format!(
                    "{} is no file of at most {}",
                    path.display(),
                    Bytes(SECRET_BYTES_MAX)
                ));
            }
            Ok(_) => {}
            Err(error) => result.problem(format!("cannot read {}: {error}", path.display())),
        }
    }
    result.seen = format!("files: {}", source.paths.len());
}

/// The program is looked for and not run: what it does is its own affair.
fn program(run: &[String], result: &mut TestResult) {
    let Some(program) = run.first() else {
        return result.problem("the command is empty");
    };
    let may_run = |path: &Path| {
        path.metadata()
            .is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
    };
    let found = if program.contains('/') {
        Some(Path::new(program).to_owned()).filter(|path| may_run(path))
    } else {
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path)
            .map(|folder| folder.join(program))
            .find(|path| may_run(path))
    };
    match found {
        Some(path) => result.seen = path.display().to_string(),
        None => result.problem(format!("there is no program {program}")),
    }
}

fn folder(
    source: &FolderSource,
    progress: &dyn Progress,
    stop: &AtomicBool,
    result: &mut TestResult,
) {
    let excludes = match Excludes::new(&source.exclude.iter().collect::<Vec<_>>()) {
        Ok(excludes) => excludes,
        Err(error) => return result.failed(&error),
    };
    let opened = Folder::open(&source.path)
        .and_then(|top| top.own_metadata().map(|metadata| (top, metadata)));
    let (top, metadata) = match opened {
        Ok(opened) => opened,
        Err(error) => return result.failed(&error),
    };
    let mut walk = Walk {
        source,
        excludes,
        dev: metadata.dev,
        top,
        files: 0,
        bytes: 0,
        unreadable: 0,
        pending: vec![Vec::new()],
        listing: Listing::new(),
    };
    while let Some(path) = walk.pending.pop() {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let before = walk.files;
        walk.folder(&path, result);
        progress.count(Counter::Files, walk.files - before);
    }
    if walk.unreadable > NAMED_MAX {
        let more = walk.unreadable - NAMED_MAX;
        result.problem(format!("{more} more items cannot be read"));
    }
    if walk.files == 0 && walk.unreadable == 0 {
        result
            .warnings
            .push("It holds no file; is a disk not mounted?".to_owned());
    }
    result.seen = format!(
        "{}, {} in files: {}",
        source.path.display(),
        Bytes(walk.bytes),
        walk.files
    );
}

/// A walk through a folder that opens every file and reads none.
struct Walk<'a> {
    source: &'a FolderSource,
    excludes: Excludes,
    dev: u64,
    top: Folder,
    files: u64,
    bytes: u64,
    unreadable: u64,
    /// Folders that were not looked into yet, by their paths.
    pending: Vec<Vec<u8>>,
    listing: Listing,
}

impl Walk<'_> {
    fn folder(&mut self, path: &[u8], result: &mut TestResult) {
        let mut listing = std::mem::take(&mut self.listing);
        let opened = self.top.open_beneath(path).and_then(|mut folder| {
            folder.list(&mut listing)?;
            Ok(folder)
        });
        match opened {
            Ok(folder) => {
                result
                    .warnings
                    .extend(live_cluster(path, &folder, &listing));
                if !(self.source.exclude_caches && folder.is_cache(&listing)) {
                    for listed in listing.iter() {
                        match listed {
                            Ok(listed) => self.entry(path, &folder, &listed.name, result),
                            Err(error) => {
                                self.lost(path, &error, result);
                                break;
                            }
                        }
                    }
                }
            }
            Err(error) => self.lost(path, &error, result),
        }
        self.listing = listing;
    }

    fn entry(&mut self, parent: &[u8], folder: &Folder, name: &[u8], result: &mut TestResult) {
        let mut path = parent.to_vec();
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(name);
        let metadata = match folder.metadata(name) {
            Ok(metadata) => metadata,
            Err(error) => return self.lost(&path, &error, result),
        };
        if self
            .excludes
            .excludes(name, &path, metadata.kind == Kind::Folder)
        {
            return;
        }
        match metadata.kind {
            Kind::Folder if self.is_elsewhere(&metadata) => {}
            Kind::Folder => self.pending.push(path),
            Kind::File => match folder.open_file(name, &metadata) {
                Ok(_) => {
                    self.files += 1;
                    self.bytes += metadata.size;
                }
                Err(error) => self.lost(&path, &error, result),
            },
            _ => {}
        }
    }

    fn is_elsewhere(&self, metadata: &Metadata) -> bool {
        self.source.one_file_system && metadata.dev != self.dev
    }

    fn lost(&mut self, path: &[u8], error: &lifeboat_files::Error, result: &mut TestResult) {
        self.unreadable += 1;
        if self.unreadable <= NAMED_MAX {
            result.problem(format!("{}: {}", shown_path(path), sentence(error)));
        }
    }
}

fn live_cluster(path: &[u8], folder: &Folder, listing: &Listing) -> Option<String> {
    let Special::PostgresCluster { version, state } = recognise(folder, listing)?;
    if state == ClusterState::ShutDown {
        return None;
    }
    Some(format!(
        "{} is the data folder of a PostgreSQL {version} server in use: a copy of it cannot be restored as it is; add \
         the database as a source of its own.",
        if path.is_empty() {
            "It".into()
        } else {
            shown_path(path)
        }
    ))
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink, path::PathBuf};

    use lifeboat_repository::Silent;

    use super::*;
    use crate::config::CommandSource;

    fn look(source: Source) -> TestResult {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let stop = AtomicBool::new(false);
        app_test(&[source], &Silent, &stop, runtime.handle()).remove(0)
    }

    fn a_folder(path: PathBuf) -> FolderSource {
        FolderSource {
            name: "media".to_owned(),
            path,
            exclude: vec!["*.tmp".to_owned()],
            one_file_system: false,
            exclude_caches: false,
            references: Vec::new(),
            bundles: true,
        }
    }

    fn problems(result: &TestResult) -> Vec<&str> {
        let problems = result.problems.iter();
        problems.map(|problem| problem.what.as_str()).collect()
    }

    #[test]
    fn files_of_a_folder_are_counted_as_a_backup_would() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("inner")).unwrap();
        for name in ["a", "b.tmp", "inner/c"] {
            fs::write(folder.path().join(name), "x").unwrap();
        }
        symlink("/nowhere", folder.path().join("link")).unwrap();
        let result = look(Source::Folder(a_folder(folder.path().to_owned())));
        let shown = folder.path().display();
        assert_eq!(result.seen, format!("{shown}, 2 B in files: 2"));
        assert_eq!(problems(&result), [""; 0]);
        assert!(result.warnings.is_empty());
        assert!(!result.is_database());
    }

    #[test]
    fn a_folder_that_is_not_there_is_a_problem_and_an_empty_one_a_warning() {
        let folder = tempfile::tempdir().unwrap();
        let result = look(Source::Folder(a_folder(folder.path().to_owned())));
        assert_eq!(
            result.warnings,
            ["It holds no file; is a disk not mounted?"]
        );
        let result = look(Source::Folder(a_folder(folder.path().join("none"))));
        assert_eq!(result.problems.len(), 1);
    }

    #[test]
    fn secrets_are_small_files_that_can_be_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(".env");
        fs::write(&path, "KEY=1").unwrap();
        let paths = vec![path, folder.path().join("none"), folder.path().to_owned()];
        let result = look(Source::Secrets(SecretsSource { paths }));
        let shown = folder.path().display();
        assert_eq!(
            problems(&result),
            [
                format!("cannot read {shown}/none: No such file or directory (os error 2)"),
                format!("{shown} is no file of at most 16.0 MiB")
            ]
        );
    }

    #[test]
    fn an_sqlite_database_opens_and_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("shop.db");
        let source = |path: &Path| {
            Source::Sqlite(SqliteSource {
                name: "shop".to_owned(),
                path: path.to_owned(),
            })
        };
        let result = look(source(&path));
        assert!(result.is_database() && result.problems.len() == 1);
        assert!(!path.exists(), "looking makes no database");
        let database = Connection::open(&path).unwrap();
        database
            .execute_batch("CREATE TABLE t (x); INSERT INTO t VALUES (1)")
            .unwrap();
        drop(database);
        let result = look(source(&path));
        assert!(
            result.seen.ends_with("tables: 1") && result.problems.is_empty(),
            "{result:?}"
        );
        fs::write(
            &path,
            "no database at all, but long enough to be looked at".repeat(99),
        )
        .unwrap();
        assert_eq!(look(source(&path)).problems.len(), 1);
    }

    #[test]
    fn a_program_is_found_and_not_run() {
        let source = |program: &str| {
            Source::Command(CommandSource {
                name: "legacy".to_owned(),
                run: vec![program.to_owned()],
                filename: "x".to_owned(),
                bundles: true,
            })
        };
        assert!(look(source("sh")).problems.is_empty());
        assert!(look(source("/bin/sh")).problems.is_empty());
        for none in ["lifeboat-has-no-such-program", "/etc/passwd", "/"] {
            assert_eq!(
                problems(&look(source(none))),
                [format!("there is no program {none}")]
            );
        }
    }
}
