//! `lifeboat stats`: what a repository or a snapshot holds and costs, and what of it grows.

use std::ffi::OsString;
use std::num::NonZeroUsize;

use lifeboat_app::Bytes;
use lifeboat_repository::Repository;
use serde::Serialize;

use super::{growth::Grew, unread::UnreadItems};
use crate::{
    context::Context,
    error::CommandError,
    exit_code::ExitCode,
    selection::Selection,
    text::{count, counted},
};

/// Show how much is kept and how much room it takes.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  lifeboat stats
  lifeboat stats shop
  lifeboat stats shop --last 30

With a snapshot, a table shows what grows: how much each table of a database and each folder in a source brought in the last backups,
as it is stored, so that it can be seen what to leave out. What several of them share in a pack is divided by their bytes.")]
pub(crate) struct Args {
    /// Look at this snapshot only.
    #[arg(value_name = "SNAP")]
    snapshot: Option<OsString>,

    /// Show what grew in so many backups of the app, up to the snapshot.
    #[arg(long, value_name = "N", default_value = "7", requires = "snapshot")]
    last: NonZeroUsize,
}

/// The answer about a repository.
#[derive(Debug, Serialize)]
struct Whole {
    snapshots: u64,
    bytes_in_snapshots: u64,
    bytes_stored: u64,
    packs: u64,
    objects: u64,
    chunks: u64,
}

/// The answer about a snapshot.
#[derive(Debug, Serialize)]
struct One {
    snapshot: String,
    app: String,
    files: u64,
    bytes: u64,
    unreadable: u64,
    bytes_new: u64,
    bytes_stored: u64,
    sources: Vec<SourceFacts>,
    growth: Grew,
}

#[derive(Debug, Serialize)]
struct SourceFacts {
    name: String,
    kind: String,
    location: String,
    files: u64,
    bytes: u64,
    unreadable: u64,
    facts: Vec<(String, String)>,
}

/// Counts.
pub(super) fn run(args: &Args, context: &Context) -> Result<ExitCode, CommandError> {
    let repository = context.open_to_read()?;
    match &args.snapshot {
        Some(snapshot) => one(snapshot, args.last.get(), &repository, context),
        None => whole(&repository, context),
    }
}

fn whole(repository: &Repository, context: &Context) -> Result<ExitCode, CommandError> {
    let list = repository.snapshots()?;
    let totals = Repository::totals(&list);
    let stored = repository.stored()?;
    let answer = Whole {
        snapshots: list.snapshots.len() as u64,
        bytes_in_snapshots: totals.bytes,
        bytes_stored: stored.bytes,
        packs: stored.packs,
        objects: stored.objects,
        chunks: stored.chunks,
    };
    if context.ui().is_json() {
        context.ui().answer(&answer)?;
        return Ok(ExitCode::Done);
    }
    let factor = answer.bytes_in_snapshots as f64 / answer.bytes_stored.max(1) as f64;
    context.ui().stdout(|out| {
        writeln!(out, "Snapshots      {}", count(answer.snapshots))?;
        writeln!(out, "They hold      {}", Bytes(answer.bytes_in_snapshots))?;
        writeln!(
            out,
            "Stored         {} in {} objects ({factor:.1} times less)",
            Bytes(answer.bytes_stored),
            count(answer.objects)
        )?;
        writeln!(
            out,
            "Packs, chunks  {}, {}",
            count(answer.packs),
            count(answer.chunks)
        )
    })?;
    Ok(ExitCode::Done)
}

fn one(
    snapshot: &OsString,
    last: usize,
    repository: &Repository,
    context: &Context,
) -> Result<ExitCode, CommandError> {
    let selection = Selection::of(repository, context)?;
    let selected = selection.select(snapshot)?;
    let head = &selected.snapshot.head;
    let manifest = repository.manifest(selected.snapshot)?;
    let mut unread = UnreadItems::default();
    let all = selection.all();
    let growth = Grew::of(repository, all, selected.snapshot, last, &mut unread);
    let answer = One {
        snapshot: head.id.to_string(),
        app: head.app.clone(),
        files: head.totals.files,
        bytes: head.totals.bytes,
        unreadable: head.totals.unreadable,
        bytes_new: head.totals.new_bytes,
        bytes_stored: head.totals.stored_bytes,
        sources: manifest
            .sources
            .iter()
            .map(|source| SourceFacts {
                name: source.name.clone(),
                kind: source.kind.clone(),
                location: source.location.clone(),
                files: source.files,
                bytes: source.bytes,
                unreadable: source.unreadable,
                facts: source.facts.clone(),
            })
            .collect(),
        growth,
    };
    if context.ui().is_json() {
        context.ui().answer(&answer)?;
        return Ok(unread.tell(context));
    }
    let grew = answer.growth.lines(&context.time_zone()?);
    context.ui().stdout(|out| {
        writeln!(out, "Snapshot {} of {}", head.id.short(), answer.app)?;
        writeln!(
            out,
            "Holds    {} files, {}",
            count(answer.files),
            Bytes(answer.bytes)
        )?;
        writeln!(
            out,
            "Added    {}, stored as {}",
            Bytes(answer.bytes_new),
            Bytes(answer.bytes_stored)
        )?;
        if answer.unreadable > 0 {
            let items = counted(answer.unreadable, "item");
            writeln!(
                out,
                "Lacks    {items} that could not be read as they should"
            )?;
        }
        for source in &answer.sources {
            writeln!(
                out,
                "  {} ({}) {}: {} files, {}",
                source.name,
                source.kind,
                source.location,
                count(source.files),
                Bytes(source.bytes)
            )?;
            for (key, value) in &source.facts {
                writeln!(out, "    {key}: {value}")?;
            }
        }
        for problem in &manifest.problems {
            writeln!(
                out,
                "  ! {}/{}: {}",
                problem.source,
                lifeboat_app::shown_path(&problem.path),
                problem.what
            )?;
        }
        writeln!(out)?;
        grew.iter().try_for_each(|line| writeln!(out, "{line}"))
    })?;
    Ok(unread.tell(context))
}
