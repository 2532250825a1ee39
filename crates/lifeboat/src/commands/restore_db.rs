//! `lifeboat restore-db`: puts a PostgreSQL database of a snapshot back, into a new database; or a dump that others made.

use std::{
    ffi::OsString, num::NonZeroUsize, os::unix::ffi::OsStrExt as _, path::PathBuf, time::Instant,
};

use lifeboat_app::{
    DatabaseError, DatabaseRequest, Elapsed, ForeignRequest, ForeignSource, dump_in,
};
use lifeboat_postgres::RestoreError;
use serde::Serialize;

use super::{address::refuse_secret, foreign_dump};
use crate::{
    context::Context, error::CommandError, exit_code::ExitCode, selection::Selection, text::counted,
};

/// Restore a PostgreSQL database of a snapshot, or a dump that pg_dump made, into a new database.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  lifeboat restore-db shop --to postgres://postgres@db/shop_new
  lifeboat restore-db shop@2026-11-19 --to postgres:///scratch --no-owner --no-acl
  lifeboat restore-db shop --to postgres:///scratch --table public.orders
  lifeboat restore-db shop --to postgres:///shop --table public.orders --schema of_yesterday
  lifeboat restore-db shop --to postgres://postgres@/shop_new --via 'docker compose exec -T db'
  lifeboat restore-db shop:legacy/shop.sql.gz --to postgres://restorer@db/shop_old --no-owner --no-acl
  lifeboat restore-db --file shop.dump --to postgres://restorer@db/shop_old --no-owner --no-acl")]
pub(crate) struct Args {
    /// The snapshot, and behind a colon the name of the database where there are several, or the path of a dump: plain
    /// SQL or an archive of pg_dump, also compressed by gzip.
    #[arg(value_name = "SNAP[:DB]", required_unless_present = "file")]
    snapshot: Option<OsString>,

    /// Restore this dump, which lies on this machine, instead of a snapshot.
    #[arg(long, value_name = "PATH", conflicts_with_all = ["snapshot", "table", "schema", "no_verify"])]
    file: Option<PathBuf>,

    /// Create this database, which must not exist, and restore into it; with --schema a database that exists.
    #[arg(long, value_name = "URL")]
    to: String,

    /// Reach the server by way of this program, which starts PostgreSQL's own where the server is; --to is the address
    /// from there.
    #[arg(
        long,
        value_name = "COMMAND",
        conflicts_with_all = ["file", "table", "schema", "jobs", "as_superuser"]
    )]
    via: Option<String>,

    /// Restore only this table, as schema.table; may be given several times.
    #[arg(long, value_name = "TABLE")]
    table: Vec<String>,

    /// Put the tables into this new schema, beside those that the database has.
    #[arg(long, value_name = "NAME", requires = "table")]
    schema: Option<String>,

    /// Restore with so many connections at once.
    #[arg(long, value_name = "N")]
    jobs: Option<NonZeroUsize>,

    /// Do not restore who owns what.
    #[arg(long)]
    no_owner: bool,

    /// Do not restore who may do what.
    #[arg(long)]
    no_acl: bool,

    /// Do not read the rows again to hold them against the snapshot; the server's counts are believed.
    #[arg(long)]
    no_verify: bool,

    /// Let a dump run with all rights of the role in --to, also where that is a superuser or may become one.
    #[arg(long)]
    as_superuser: bool,
}

impl Args {
    /// The program and arguments of `--via`, taken apart as a shell does it.
    fn via(&self) -> Result<Vec<String>, CommandError> {
        let Some(command) = &self.via else {
            return Ok(Vec::new());
        };
        match shlex::split(command) {
            Some(words) if !words.is_empty() => Ok(words),
            _ => Err(CommandError::usage(format!(
                "--via '{command}' is no command: a quote has no end, or there is nothing"
            ))),
        }
    }

    fn foreign(&self) -> ForeignRequest {
        ForeignRequest {
            to: self.to.clone(),
            jobs: self
                .jobs
                .map_or(1, |jobs| u32::try_from(jobs.get()).unwrap_or(u32::MAX)),
            no_owner: self.no_owner,
            no_acl: self.no_acl,
            as_superuser: self.as_superuser,
        }
    }
}

/// What the restore says at its end.
#[derive(Debug, Serialize)]
struct Summary {
    snapshot: String,
    database: String,
    schema: Option<String>,
    tables: Option<u64>,
    rows: Option<u64>,
    verified: bool,
    warnings: Vec<String>,
    seconds: f64,
}

/// Restores.
pub(super) fn run(args: &Args, context: &Context) -> Result<ExitCode, CommandError> {
    refuse_secret(&args.to)?;
    let Some(snapshot) = &args.snapshot else {
        let file = args.file.as_ref().expect("there is one or the other");
        return foreign_dump::run(ForeignSource::File(file), &args.foreign(), context);
    };
    let started = Instant::now();
    let repository = context.open_to_read()?;
    let selection = Selection::of(&repository, context)?;
    let selected = selection.select_database(snapshot, &repository)?;
    let path = selected.path.as_bytes();
    if dump_in(&repository, selected.snapshot, path)? {
        if !args.table.is_empty() || args.no_verify || args.via.is_some() {
            return Err(CommandError::usage(
                "a dump that others made is restored as a whole and without --via, --table and --no-verify",
            ));
        }
        let source = ForeignSource::Snapshot(&repository, selected.snapshot, path);
        return foreign_dump::run(source, &args.foreign(), context);
    }
    let source = selected.path.to_string_lossy().into_owned();
    let request = DatabaseRequest {
        source: (!source.is_empty()).then_some(source),
        to: args.to.clone(),
        tables: args.table.clone(),
        schema: args.schema.clone(),
        jobs: args
            .jobs
            .map(|jobs| u32::try_from(jobs.get()).unwrap_or(u32::MAX)),
        no_owner: args.no_owner,
        no_acl: args.no_acl,
        no_verify: args.no_verify,
        via: args.via()?,
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
    });
    let report = report.map_err(|error| {
        let is_there = matches!(&error, DatabaseError::Restore(RestoreError::Exists(_)));
        let error = CommandError::from(error);
        if is_there && !request.tables.is_empty() && request.schema.is_none() {
            return error.hint(
                "Choose another name, or give --schema NEW: then the tables go into a new schema of the database that exists.",
            );
        }
        error
    })?;
    for warning in &report.warnings {
        context.ui().warning(warning);
    }
    let elapsed = started.elapsed();
    let what = match (&args.schema, report.tables) {
        (Some(schema), Some(tables)) => format!(
            "{} into the schema {schema} of {}",
            counted(tables, "table"),
            report.database
        ),
        _ => format!("database {}", report.database),
    };
    let verified = match report.rows {
        Some(rows) if report.verified => {
            format!(
                "; {} read again, and equal to the snapshot's",
                counted(rows, "row")
            )
        }
        _ => String::new(),
    };
    context.ui().note(&format!(
        "Restored {what} of snapshot {} in {}{verified}.",
        selected.snapshot.name.id.short(),
        Elapsed(elapsed)
    ));
    context.ui().summary(&Summary {
        snapshot: selected.snapshot.name.id.to_string(),
        database: report.database,
        schema: args.schema.clone(),
        tables: report.tables,
        rows: report.rows,
        verified: report.verified,
        warnings: report.warnings,
        seconds: elapsed.as_secs_f64(),
    })?;
    Ok(ExitCode::Done)
}
