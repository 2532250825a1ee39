//! `lifeboat restore-db`: puts a PostgreSQL database of a snapshot back, into a new database.

use std::{ffi::OsString, num::NonZeroUsize, time::Instant};

use lifeboat_app::{DatabaseRequest, Elapsed};
use serde::Serialize;

use super::address::refuse_secret;
use crate::{context::Context, error::CommandError, exit_code::ExitCode, selection::Selection};

/// Restore a PostgreSQL database of a snapshot into a new database.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  lifeboat restore-db shop --to postgres://postgres@db/shop_new
  lifeboat restore-db shop@2026-11-19 --to postgres:///scratch --no-owner --no-acl
  lifeboat restore-db shop --to postgres:///scratch --table public.orders")]
pub(crate) struct Args {
    /// The snapshot, and the name of the database in it behind a colon where there are several.
    #[arg(value_name = "SNAP[:DB]")]
    snapshot: OsString,

    /// Create this database, which must not exist, and restore into it.
    #[arg(long, value_name = "URL")]
    to: String,

    /// Restore only this table, as schema.table; may be given several times.
    #[arg(long, value_name = "TABLE")]
    table: Vec<String>,

    /// Restore with so many connections at once.
    #[arg(long, value_name = "N")]
    jobs: Option<NonZeroUsize>,

    /// Do not restore who owns what.
    #[arg(long)]
    no_owner: bool,

    /// Do not restore who may do what.
    #[arg(long)]
    no_acl: bool,
}

/// What the restore says at its end.
#[derive(Debug, Serialize)]
struct Summary {
    snapshot: String,
    database: String,
    entries: u64,
    warnings: Vec<String>,
    seconds: f64,
}

/// Restores.
pub(super) fn run(args: &Args, context: &Context) -> Result<ExitCode, CommandError> {
    refuse_secret(&args.to)?;
    let started = Instant::now();
    let repository = context.open_to_read()?;
    let selection = Selection::of(&repository, context)?;
    let selected = selection.select(&args.snapshot)?;
    let source = selected.path.to_string_lossy().into_owned();
    let request = DatabaseRequest {
        source: (!source.is_empty()).then_some(source),
        to: args.to.clone(),
        tables: args.table.clone(),
        jobs: args
            .jobs
            .map_or(1, |jobs| u32::try_from(jobs.get()).unwrap_or(u32::MAX)),
        no_owner: args.no_owner,
        no_acl: args.no_acl,
    };
    let runtime = context.runtime()?;
    let stop = context.interrupt().flag();
    let report = context.ui().watched(|watch| {
        lifeboat_app::restore_database(
            &repository,
            selected.snapshot,
            &request,
            watch,
            stop,
            runtime,
        )
    })?;
    for warning in &report.warnings {
        context.ui().warning(warning);
    }
    let elapsed = started.elapsed();
    context.ui().note(&format!(
        "Restored database {} of snapshot {} in {}.",
        report.database,
        selected.snapshot.name.id.short(),
        Elapsed(elapsed)
    ));
    context.ui().summary(&Summary {
        snapshot: selected.snapshot.name.id.to_string(),
        database: report.database,
        entries: report.archive.entries,
        warnings: report.warnings,
        seconds: elapsed.as_secs_f64(),
    })?;
    Ok(ExitCode::Done)
}
