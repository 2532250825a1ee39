//! `lifeboat diff`: what two snapshots have differently.

use std::{ffi::OsString, os::unix::ffi::OsStrExt};

use lifeboat_app::{Bytes, TreeChange, shown_path};
use serde::Serialize;

use crate::{
    context::Context, error::CommandError, exit_code::ExitCode, selection::Selection, text::counted,
};

/// Show what changed from one snapshot to another.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  lifeboat diff shop~1 shop
  lifeboat diff shop@2026-11-01:uploads shop:uploads")]
pub(crate) struct Args {
    /// The older snapshot.
    #[arg(value_name = "SNAP[:PATH]")]
    from: OsString,

    /// The newer snapshot.
    #[arg(value_name = "SNAP[:PATH]")]
    to: OsString,
}

/// One difference in the answer.
#[derive(Debug, Serialize)]
struct Difference {
    path: String,
    change: &'static str,
    /// Nothing for what was not there.
    size_before: Option<u64>,
    size_after: Option<u64>,
}

/// Compares.
pub(super) fn run(args: &Args, context: &Context) -> Result<ExitCode, CommandError> {
    let repository = context.open_to_read()?;
    let selection = Selection::of(&repository, context)?;
    let (from, to) = (selection.select(&args.from)?, selection.select(&args.to)?);
    if from.path != to.path {
        return Err(CommandError::usage("the two paths differ")
            .hint("Compare the same path of two snapshots."));
    }
    let below = from.path.as_bytes();
    let readers = (
        repository.reader(from.snapshot.head.domain)?,
        repository.reader(to.snapshot.head.domain)?,
    );
    let mut differences = Vec::new();
    lifeboat_app::diff(
        (&readers.0, from.snapshot),
        (&readers.1, to.snapshot),
        &mut |path, change, before, after| {
            let inside = below.is_empty()
                || path == below
                || (path.starts_with(below) && path.get(below.len()) == Some(&b'/'));
            if inside {
                differences.push((path.to_vec(), change, before, after));
            }
        },
    )?;
    differences.sort_by(|a, b| a.0.cmp(&b.0));
    if context.ui().is_json() {
        let differences: Vec<Difference> = differences
            .iter()
            .map(|(path, change, before, after)| Difference {
                path: shown_path(path),
                change: word(*change),
                size_before: (*change != TreeChange::Added).then_some(*before),
                size_after: (*change != TreeChange::Removed).then_some(*after),
            })
            .collect();
        context.ui().answer(&differences)?;
        return Ok(ExitCode::Done);
    }
    context.ui().stdout(|out| {
        for (path, change, before, after) in &differences {
            let sizes = if before == after {
                String::new()
            } else {
                format!("  ({} -> {})", Bytes(*before), Bytes(*after))
            };
            writeln!(out, "{} {}{sizes}", sign(*change), shown_path(path))?;
        }
        Ok(())
    })?;
    let count = |wanted: TreeChange| {
        differences
            .iter()
            .filter(|(_, change, ..)| *change == wanted)
            .count() as u64
    };
    context.ui().note(&format!(
        "{} added, {} removed, {} with other content, {} with other metadata.",
        counted(count(TreeChange::Added), "item"),
        count(TreeChange::Removed),
        count(TreeChange::Content),
        count(TreeChange::Metadata),
    ));
    Ok(ExitCode::Done)
}

fn sign(change: TreeChange) -> char {
    match change {
        TreeChange::Added => '+',
        TreeChange::Removed => '-',
        TreeChange::Content => 'M',
        TreeChange::Metadata => 'U',
    }
}

fn word(change: TreeChange) -> &'static str {
    match change {
        TreeChange::Added => "added",
        TreeChange::Removed => "removed",
        TreeChange::Content => "content",
        TreeChange::Metadata => "metadata",
    }
}
