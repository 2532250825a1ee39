//! The part of `lifeboat restore-db` that takes a dump which others made: from a snapshot or from this machine.

use std::time::Instant;

use lifeboat_app::{Elapsed, ForeignRequest, ForeignSource, restore_foreign_dump, shown_path};
use lifeboat_postgres::{ForeignContent, ForeignReport};
use serde::Serialize;

use crate::{context::Context, error::CommandError, exit_code::ExitCode, text::counted};

/// What the restore says at its end.
#[derive(Debug, Serialize)]
struct Summary {
    snapshot: Option<String>,
    dump: String,
    database: String,
    /// `archive` or `script`.
    form: &'static str,
    statements: Option<u64>,
    rows: Option<u64>,
    warnings: Vec<String>,
    seconds: f64,
}

/// Restores.
pub(super) fn run(
    source: ForeignSource<'_>,
    request: &ForeignRequest,
    context: &Context,
) -> Result<ExitCode, CommandError> {
    let started = Instant::now();
    let runtime = context.runtime()?;
    let stop = context.interrupt().flag();
    let report = context
        .ui()
        .watched(|watch| restore_foreign_dump(source, request, watch, stop, runtime))?;
    for warning in &report.warnings {
        context.ui().warning(warning);
    }
    let elapsed = started.elapsed();
    let (snapshot, dump) = match source {
        ForeignSource::File(path) => (None, path.display().to_string()),
        ForeignSource::Snapshot(_, snapshot, path) => (Some(snapshot.name.id), shown_path(path)),
    };
    let of = snapshot.map_or_else(String::new, |id| format!(" of snapshot {}", id.short()));
    let ForeignReport {
        database,
        content,
        warnings,
    } = report;
    let (form, statements, rows) = match content {
        ForeignContent::Archive(_) => ("archive", None, None),
        ForeignContent::Script { statements, rows } => ("script", Some(statements), Some(rows)),
    };
    let loaded = rows.map_or_else(String::new, |rows| {
        format!("; {} loaded", counted(rows, "row"))
    });
    context.ui().note(&format!(
        "Restored {dump}{of} into the database {database} in {}{loaded}.",
        Elapsed(elapsed)
    ));
    context.ui().summary(&Summary {
        snapshot: snapshot.map(|id| id.to_string()),
        dump,
        database,
        form,
        statements,
        rows,
        warnings,
        seconds: elapsed.as_secs_f64(),
    })?;
    Ok(ExitCode::Done)
}
