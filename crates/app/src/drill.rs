//! A drill: a snapshot restored into a scratch place, and what came held against what the snapshot says (docs/drill.md).
//!
//! Invariant: "passed" is said only when every step was done. What keeps a step from being done is a problem with the
//! backup, or the surroundings' fault, and then the backup was not judged.

mod report;
mod running;
mod scratch;
mod database;
mod files;
mod dumps;
mod references;
mod sqlite;
mod urls;
mod service;
mod checks;
mod page;
mod keep;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use lifeboat_codec::{FormatError, Manifest, SourceRecord};
use lifeboat_postgres::Cluster;
use lifeboat_repository::{Progress, ReadError, Reader, Repository, Snapshot};
use lifeboat_store::ErrorKind;
use thiserror::Error;
use tokio::runtime::Handle;

pub use self::keep::{KeptDrill, SignedDrill, drilled, keep_drill, signed_drills};
pub use self::page::drill_page;
use self::report::add;
pub use self::report::{
    DrillReport, DrillStep, DrilledCheck, DrilledDatabase, DrilledFiles, DrilledReferences,
    DrilledTable, Verdict,
};
use self::scratch::{Scratch, remove_leftovers};
use crate::backup::host_name;
use crate::config::{AppConfig, SourceConfig};
use crate::display::Bytes;
use crate::text::sentence;

/// Room that is left beside what is restored: a new cluster, and its log of changes.
const SERVER_BYTES: u64 = 400 << 20;

/// How a drill is done.
#[derive(Clone, Debug)]
pub struct DrillRequest<'a> {
    /// What the configuration has on the app, if it has.
    pub app: Option<&'a AppConfig>,
    /// Where the scratch place is made.
    pub parent: PathBuf,
}

/// A drill did not come to a judgement.
#[derive(Debug, Error)]
pub enum DrillError {
    /// The surroundings failed.
    #[error("the drill's surroundings failed, and the backup was not judged: {0}")]
    Surroundings(String),
    /// It was asked to end.
    #[error("the drill was stopped")]
    Stopped,
}

/// Why a step was not done; problems with the backup are in the report.
#[derive(Debug)]
enum Trouble {
    Surroundings(String),
    Stopped,
    /// The report says why.
    Backup,
}

type Done<T> = Result<T, Trouble>;

fn surroundings(error: &dyn std::error::Error) -> Trouble {
    Trouble::Surroundings(sentence(error))
}

/// A database that is there again.
struct Restored {
    source: String,
    at: At,
}

enum At {
    Postgres(Box<lifeboat_postgres::Settings>),
    Sqlite(PathBuf),
}

/// A drill under way.
struct Drill<'a> {
    repository: &'a Repository,
    snapshot: &'a Snapshot,
    reader: Reader<'a>,
    manifest: Manifest,
    app: Option<&'a AppConfig>,
    scratch: &'a Scratch,
    progress: &'a dyn Progress,
    stop: &'a AtomicBool,
    runtime: &'a Handle,
    report: DrillReport,
    server: Option<Cluster>,
    service: Option<service::Service>,
    restored: Vec<Restored>,
    uncounted: Vec<database::Uncounted>,
}

/// Drills a snapshot.
///
/// # Errors
/// When the surroundings fail before a problem with the backup was found, or `stop` is set.
pub fn drill(
    repository: &Repository,
    snapshot: &Snapshot,
    request: &DrillRequest<'_>,
    progress: &dyn Progress,
    stop: &AtomicBool,
    runtime: &Handle,
) -> Result<DrillReport, DrillError> {
    let mut report = begin(repository, snapshot);
    report.warnings = remove_leftovers(&request.parent);
    let scratch = Scratch::make(&request.parent).map_err(|error| {
        DrillError::Surroundings(format!(
            "no folder can be made in {}: {error}",
            request.parent.display()
        ))
    })?;
    let read = repository.reader(snapshot.head.domain).and_then(|reader| {
        let manifest = repository.manifest(snapshot)?;
        Ok((reader, manifest))
    });
    let done = match read {
        Err(error) => {
            let judged = judge(&mut report, "the snapshot cannot be read", &error);
            report
                .problems
                .iter()
                .for_each(|problem| progress.problem(problem));
            judged
        }
        Ok((reader, manifest)) => {
            let mut drill = Drill {
                repository,
                snapshot,
                reader,
                manifest,
                app: request.app,
                scratch: &scratch,
                progress,
                stop,
                runtime,
                report,
                server: None,
                service: None,
                restored: Vec::new(),
                uncounted: Vec::new(),
            };
            let done = drill.all();
            // The app ends before its server, and the server before its folder goes.
            drop(drill.service.take());
            drop(drill.server.take());
            report = drill.report;
            done
        }
    };
    if let Err(error) = scratch.remove() {
        add(
            &mut report.warnings,
            format!("What the drill restored could not be removed: {error}."),
        );
    }
    if stop.load(Ordering::Relaxed) {
        return Err(DrillError::Stopped);
    }
    report.finished_ms = repository.now_ms();
    conclude(&mut report, done)?;
    Ok(report)
}

/// The verdict, once everything was done or a step was not.
fn conclude(report: &mut DrillReport, done: Done<()>) -> Result<(), DrillError> {
    match done {
        Err(Trouble::Stopped) => return Err(DrillError::Stopped),
        Err(Trouble::Surroundings(what)) if report.problems.is_empty() => {
            return Err(DrillError::Surroundings(what));
        }
        Err(Trouble::Surroundings(what)) => add(
            &mut report.warnings,
            format!("The drill ended early, for its surroundings failed: {what}."),
        ),
        // Nobody shall read "passed" of what was not done.
        Err(Trouble::Backup) if report.problems.is_empty() => add(
            &mut report.problems,
            "a step of the drill was not done".to_owned(),
        ),
        Ok(()) | Err(Trouble::Backup) => {}
    }
    if !report.problems.is_empty() {
        report.verdict = Verdict::Failed;
    }
    Ok(())
}

fn begin(repository: &Repository, snapshot: &Snapshot) -> DrillReport {
    let now = repository.now_ms();
    DrillReport {
        app: snapshot.head.app.clone(),
        snapshot: snapshot.name.id.to_string(),
        snapshot_ms: snapshot.head.started_ms,
        snapshot_host: snapshot.head.host.clone(),
        host: host_name(),
        program: format!("lifeboat {}", env!("CARGO_PKG_VERSION")),
        started_ms: now,
        finished_ms: now,
        verdict: Verdict::Passed,
        restore_ms: 0,
        problems: Vec::new(),
        warnings: Vec::new(),
        steps: Vec::new(),
        databases: Vec::new(),
        files: DrilledFiles::default(),
        references: Vec::new(),
        checks: Vec::new(),
    }
}

/// Whose fault it is that something cannot be read: a storage that does not answer says nothing about the backup.
fn judge(report: &mut DrillReport, what: &str, error: &ReadError) -> Done<()> {
    let is_the_storages = match error {
        ReadError::Store(error) => error.kind() != ErrorKind::NotFound,
        ReadError::Format { source, .. } => matches!(source, FormatError::NoKey(_)),
        ReadError::MissingChunk(_) => false,
    };
    let told = format!("{what}: {}", sentence(error));
    if is_the_storages {
        return Err(Trouble::Surroundings(told));
    }
    add(&mut report.problems, told);
    Err(Trouble::Backup)
}

impl Drill<'_> {
    fn all(&mut self) -> Done<()> {
        self.lacking_sources();
        self.room()?;
        let begun = Instant::now();
        // One source that does not come back keeps no other from being tried.
        let mut worst = self.databases();
        if !matches!(worst, Err(Trouble::Stopped | Trouble::Surroundings(_))) {
            worst = worse(worst, self.files());
        }
        if !matches!(worst, Err(Trouble::Stopped | Trouble::Surroundings(_))) {
            worst = worse(worst, self.dumps());
        }
        self.report.restore_ms = milliseconds(begun);
        for step in [
            Self::rows,
            Self::compare_files,
            Self::sqlite,
            Self::references,
            Self::checks,
        ] {
            match worst {
                Ok(()) | Err(Trouble::Backup) => worst = worse(worst, step(self)),
                trouble => return trouble,
            }
        }
        worst
    }

    /// Says which sources of the app are not in the snapshot: a backup can be of some of them, or older than one.
    fn lacking_sources(&mut self) {
        let configured = self.app.map_or(&[][..], |app| &app.sources[..]);
        let all = &self.manifest.sources;
        let lacking = |name: &&str| all.iter().all(|source| source.name != **name);
        let names = configured.iter().map(SourceConfig::name).filter(lacking);
        let names: Vec<&str> = names.collect();
        if !names.is_empty() {
            let names = names.join(", ");
            self.warning(format!(
                "The configuration has {names}, and the snapshot has not: nothing of that was drilled."
            ));
        }
    }

    /// What comes back needs room, and that is known before the first byte.
    fn room(&self) -> Done<()> {
        let bytes = |kind: fn(&str) -> bool| -> u64 {
            let sources = self.manifest.sources.iter();
            sources
                .filter(|source| kind(&source.kind))
                .map(|source| source.bytes)
                .sum()
        };
        let databases = bytes(|kind| kind == "postgres");
        let mut needed = bytes(|kind| kind != "postgres") + databases;
        if self.sources("postgres").next().is_some() {
            needed += SERVER_BYTES;
        }
        let free = self
            .scratch
            .free_bytes()
            .map_err(|error| surroundings(&error))?;
        if free >= needed {
            return Ok(());
        }
        Err(Trouble::Surroundings(format!(
            "{} has {} free, and the drill needs {}; TMPDIR names another folder",
            self.scratch
                .path()
                .parent()
                .unwrap_or(self.scratch.path())
                .display(),
            Bytes(free),
            Bytes(needed)
        )))
    }

    fn sources<'s>(&'s self, kind: &'static str) -> impl Iterator<Item = &'s SourceRecord> {
        let sources = self.manifest.sources.iter();
        sources.filter(move |source| source.kind == kind)
    }

    fn names(&self, kind: &'static str) -> Vec<String> {
        self.sources(kind)
            .map(|source| source.name.clone())
            .collect()
    }

    fn going_on(&self) -> Done<()> {
        if self.stop.load(Ordering::Relaxed) {
            return Err(Trouble::Stopped);
        }
        Ok(())
    }

    /// Does a step, and writes down what came of it and how long it took.
    fn step<T>(
        &mut self,
        what: String,
        work: impl FnOnce(&mut Self) -> Done<(T, String)>,
    ) -> Done<T> {
        self.going_on()?;
        self.progress.phase(&what);
        let begun = Instant::now();
        let before = self.report.problems.len();
        let done = work(self);
        let result = match &done {
            Ok((_, result)) => result.clone(),
            Err(Trouble::Surroundings(why)) => format!("not done: {why}"),
            Err(Trouble::Stopped) => "not done: it was stopped".to_owned(),
            Err(Trouble::Backup) => {
                let problems = self.report.problems.get(before..).unwrap_or_default();
                problems
                    .first()
                    .cloned()
                    .unwrap_or_else(|| "failed".to_owned())
            }
        };
        self.report.steps.push(DrillStep {
            what,
            result,
            elapsed_ms: milliseconds(begun),
        });
        done.map(|(value, _)| value)
    }

    fn problem(&mut self, sentence: String) -> Trouble {
        self.progress.problem(&sentence);
        add(&mut self.report.problems, sentence);
        Trouble::Backup
    }

    fn warning(&mut self, sentence: String) {
        add(&mut self.report.warnings, sentence);
    }

    /// What it means that something cannot be read from the repository.
    fn judge(&mut self, what: &str, error: &ReadError) -> Trouble {
        match judge(&mut self.report, what, error) {
            Err(Trouble::Backup) => {
                if let Some(problem) = self.report.problems.last() {
                    self.progress.problem(problem);
                }
                Trouble::Backup
            }
            Err(trouble) => trouble,
            Ok(()) => Trouble::Backup,
        }
    }
}

fn milliseconds(begun: Instant) -> u64 {
    u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX)
}

/// The one of two ends that says more.
fn worse(one: Done<()>, other: Done<()>) -> Done<()> {
    match (one, other) {
        (Err(Trouble::Stopped), _) | (_, Err(Trouble::Stopped)) => Err(Trouble::Stopped),
        (Err(surroundings @ Trouble::Surroundings(_)), _)
        | (_, Err(surroundings @ Trouble::Surroundings(_))) => Err(surroundings),
        (Err(Trouble::Backup), _) | (_, Err(Trouble::Backup)) => Err(Trouble::Backup),
        (Ok(()), Ok(())) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_drill_whose_every_step_was_done_has_passed() {
        let ended = |done, problems: &[&str]| {
            let mut report = DrillReport {
                app: "shop".to_owned(),
                snapshot: String::new(),
                snapshot_ms: 0,
                snapshot_host: String::new(),
                host: String::new(),
                program: String::new(),
                started_ms: 0,
                finished_ms: 0,
                verdict: Verdict::Passed,
                restore_ms: 0,
                problems: problems.iter().map(|&one| one.to_owned()).collect(),
                warnings: Vec::new(),
                steps: Vec::new(),
                databases: Vec::new(),
                files: DrilledFiles::default(),
                references: Vec::new(),
                checks: Vec::new(),
            };
            conclude(&mut report, done).map(|()| report)
        };
        let passed = ended(Ok(()), &[]).unwrap();
        assert_eq!(passed.verdict, Verdict::Passed);
        for (done, problems) in [
            (Ok(()), &["wrong"][..]),
            (Err(Trouble::Backup), &["wrong"]),
            (Err(Trouble::Backup), &[]),
            (Err(Trouble::Surroundings("full".to_owned())), &["wrong"]),
        ] {
            let failed = ended(done, problems).unwrap();
            assert_eq!(failed.verdict, Verdict::Failed, "{failed:?}");
            assert_eq!(failed.problems.len(), 1);
        }
        let full = ended(Err(Trouble::Surroundings("full".to_owned())), &[]);
        assert!(matches!(full, Err(DrillError::Surroundings(_))));
    }
}
