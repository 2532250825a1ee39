//! `lifeboat diff`: what two snapshots have differently.

use std::{ffi::OsString, os::unix::ffi::OsStrExt};

use lifeboat_app::{Bytes, Differing, TreeChange, shown_path, told_unread};
use serde::Serialize;

use super::unread::UnreadItems;
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
    let mut counts = Counts::default();
    let mut unread = UnreadItems::default();
    context.ui().list(|items| {
        lifeboat_app::diff(
            (&readers.0, from.snapshot),
            (&readers.1, to.snapshot),
            &mut |path, differing| {
                let inside = below.is_empty()
                    || path == below
                    || (path.starts_with(below) && path.get(below.len()) == Some(&b'/'));
                // Above the path something may lack that lies in it.
                let around = path.is_empty()
                    || (below.starts_with(path) && below.get(path.len()) == Some(&b'/'));
                let Differing {
                    how: change,
                    before,
                    after,
                } = match differing {
                    Ok(differing) if inside => differing,
                    Err(error) if inside || around => {
                        unread.add(told_unread(path, &error));
                        return true;
                    }
                    _ => return true,
                };
                counts.add(change);
                items.put(
                    || Difference {
                        path: shown_path(path),
                        change: word(change),
                        size_before: (change != TreeChange::Added).then_some(before),
                        size_after: (change != TreeChange::Removed).then_some(after),
                    },
                    || line(path, change, before, after),
                )
            },
        )?;
        Ok(())
    })?;
    if !context.ui().is_json() {
        context.ui().note(&format!(
            "{} added, {} removed, {} with other content, {} with other metadata.",
            counted(counts.added, "item"),
            counts.removed,
            counts.content,
            counts.metadata,
        ));
    }
    Ok(unread.tell(context))
}

/// How many differences of each kind there were.
#[derive(Default)]
struct Counts {
    added: u64,
    removed: u64,
    content: u64,
    metadata: u64,
}

impl Counts {
    fn add(&mut self, change: TreeChange) {
        *match change {
            TreeChange::Added => &mut self.added,
            TreeChange::Removed => &mut self.removed,
            TreeChange::Content => &mut self.content,
            TreeChange::Metadata => &mut self.metadata,
        } += 1;
    }
}

fn line(path: &[u8], change: TreeChange, before: u64, after: u64) -> String {
    let sizes = if before == after {
        String::new()
    } else {
        format!("  ({} -> {})", Bytes(before), Bytes(after))
    };
    format!("{} {}{sizes}", sign(change), shown_path(path))
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
