//! A whole app into a new place: its database into a new one, its folders below a new folder. Nothing is replaced.
//!
//! **Invariant**: nothing is made before both the server and the folder were looked at, and would take what comes.

use std::{path::Path, time::Instant};

use lifeboat_app::{
    DatabaseError, DatabaseRequest, Elapsed, RestoreError, RestoreOutcome, RestoreRequest,
};
use lifeboat_codec::SourceRecord;
use lifeboat_files::{ErrorKind, Overwrite};
use lifeboat_repository::{Repository, Snapshot};
use serde::Serialize;

use super::{Args, chosen};
use crate::{
    context::Context, error::CommandError, exit_code::ExitCode, selection::Selection, text::counted,
};

/// What the restore says at its end.
#[derive(Debug, Serialize)]
struct Summary<'a> {
    app: &'a str,
    snapshot: String,
    dry_run: bool,
    database: Option<String>,
    target: Option<String>,
    files: u64,
    bytes: u64,
    problems: u64,
    warnings: Vec<String>,
    seconds: f64,
}

/// Restores into a new place.
pub(super) fn run(args: &Args, context: &Context) -> Result<ExitCode, CommandError> {
    let started = Instant::now();
    let repository = context.open_to_read()?;
    let selection = Selection::of(&repository, context)?;
    let snapshot = chosen(args, &selection)?;
    let manifest = repository.manifest(snapshot)?;
    let names = |wanted: fn(&SourceRecord) -> bool| -> Vec<String> {
        let sources = manifest.sources.iter().filter(|source| wanted(source));
        sources.map(|source| source.name.clone()).collect()
    };
    let databases = names(|source| source.kind == "postgres");
    let others = names(|source| source.kind != "postgres" && source.kind != "secrets");
    let database = one_database(args, &databases)?;
    let target = match (&args.into, others.is_empty()) {
        (Some(target), false) => Some(target.as_path()),
        (None, true) => None,
        (Some(_), true) => {
            return Err(CommandError::usage("the snapshot has no folder for --into"));
        }
        (None, false) => {
            return Err(CommandError::usage(format!(
                "the snapshot has {}, and no folder is given for that",
                others.join(", ")
            ))
            .hint("Name a new folder with --into, or restore the database alone with `lifeboat restore-db`."));
        }
    };
    let mut summary = Summary {
        app: &args.app,
        snapshot: snapshot.name.id.to_string(),
        dry_run: args.dry_run,
        database: None,
        target: target.map(|target| target.display().to_string()),
        files: 0,
        bytes: 0,
        problems: 0,
        warnings: Vec::new(),
        seconds: 0.0,
    };
    if let Some(request) = &database {
        let runtime = context.runtime()?;
        let stop = context.interrupt().flag();
        let foreseen =
            lifeboat_app::foresee_database(&repository, snapshot, request, stop, runtime)?;
        summary.database = Some(foreseen.database);
        // The restore itself says them too.
        if args.dry_run {
            for doubt in &foreseen.doubts {
                context.ui().warning(doubt);
            }
            summary.warnings = foreseen.doubts;
        }
    }
    context.going_on()?;
    // The folder first: it is looked at once more as it is made, and it takes no server's room.
    let mut outcome = None;
    if let Some(target) = target {
        let files = folders(args, &repository, snapshot, &others, target, context)?;
        summary.problems = files.problems.len() as u64 + files.more_problems;
        (summary.files, summary.bytes) = (files.files, files.bytes);
        outcome = Some(files);
    }
    if let Some(request) = database.filter(|_| !args.dry_run) {
        let runtime = context.runtime()?;
        let stop = context.interrupt().flag();
        let report = context.ui().watched(|watch| {
            lifeboat_app::restore_database(&repository, snapshot, &request, watch, stop, runtime)
        });
        let report = report.map_err(|error| match target {
            Some(target) => without_database(error, target, snapshot, &request),
            None => error.into(),
        })?;
        for warning in &report.warnings {
            context.ui().warning(warning);
        }
        summary.database = Some(report.database);
        summary.warnings = report.warnings;
    }
    let elapsed = started.elapsed();
    summary.seconds = elapsed.as_secs_f64();
    say(&summary, snapshot, Elapsed(elapsed), context);
    context.ui().summary(&summary)?;
    if outcome.is_some_and(|outcome| outcome.full) {
        return Err(CommandError::new(
            ExitCode::Failed,
            "the restore ended early: the target is full",
        )
        .hint("Make room, or name another folder with --into."));
    }
    if summary.problems == 0 {
        return Ok(ExitCode::Done);
    }
    context.ui().warning(&format!(
        "{} could not be restored as they were",
        counted(summary.problems, "item")
    ));
    Ok(ExitCode::Incomplete)
}

/// The restore of the only database, if there is one.
fn one_database(
    args: &Args,
    databases: &[String],
) -> Result<Option<DatabaseRequest>, CommandError> {
    match (&args.to, databases) {
        (Some(to), [only]) => Ok(Some(DatabaseRequest {
            source: Some(only.clone()),
            to: to.clone(),
            jobs: args.jobs(),
            ..DatabaseRequest::default()
        })),
        (None, []) => Ok(None),
        (Some(_), []) => Err(CommandError::usage(
            "the snapshot has no PostgreSQL database for --to",
        )),
        (None, [only]) => Err(CommandError::usage(format!(
            "the snapshot has the database {only}, and no address is given for it"
        ))
        .hint("Name a new database with --to, or restore folders alone with `lifeboat restore`.")),
        (_, several) => Err(CommandError::usage(format!(
            "the snapshot has several databases: {}",
            several.join(", ")
        ))
        .hint("Restore each with `lifeboat restore-db`, and the folders with `lifeboat restore`.")),
    }
}

fn folders(
    args: &Args,
    repository: &Repository,
    snapshot: &Snapshot,
    names: &[String],
    target: &Path,
    context: &Context,
) -> Result<RestoreOutcome, CommandError> {
    let request = RestoreRequest {
        paths: names.iter().map(|name| name.as_bytes().to_vec()).collect(),
        target: target.to_owned(),
        tree: true,
        overwrite: Overwrite::Never,
        exact: false,
        owner: None,
        numeric_ids: false,
        devices: false,
        with_secrets: false,
        sparse: true,
        durable: false,
        dry_run: args.dry_run,
    };
    let stop = context.interrupt().flag();
    let restored = context
        .ui()
        .watched(|watch| lifeboat_app::restore(repository, snapshot, &request, watch, stop));
    restored.map_err(|error| {
        let hint = match &error {
            RestoreError::Target(inner) if inner.kind() == ErrorKind::NotEmpty => {
                "Name a folder that is new or empty with --into, which replaces nothing."
            }
            RestoreError::Repository(_) => "Name a folder outside of the repository with --into.",
            _ => return error.into(),
        };
        CommandError::from(error).hint(hint)
    })
}

/// The folders are there already, so the same command would be refused.
fn without_database(
    error: DatabaseError,
    target: &Path,
    snapshot: &Snapshot,
    request: &DatabaseRequest,
) -> CommandError {
    let selector = format!(
        "{}:{}",
        snapshot.name.id.short(),
        request.source.as_deref().unwrap_or_default()
    );
    CommandError::from(error)
        .within(format!(
            "the folders are restored in {}, and the database is not",
            target.display()
        ))
        .hint(format!(
            "Mend the cause, then restore the database alone: `lifeboat restore-db {selector} --to URL`."
        ))
}

fn say(summary: &Summary<'_>, snapshot: &Snapshot, elapsed: Elapsed, context: &Context) {
    let begin = if summary.dry_run {
        "Would restore"
    } else {
        "Restored"
    };
    let mut parts = Vec::new();
    if let Some(database) = &summary.database {
        parts.push(format!("the database {database}"));
    }
    if let Some(target) = &summary.target {
        parts.push(format!("{} into {target}", counted(summary.files, "file")));
    }
    context.ui().note(&format!(
        "{begin} {} of snapshot {}, in {elapsed}.",
        parts.join(" and "),
        snapshot.name.id.short()
    ));
}
