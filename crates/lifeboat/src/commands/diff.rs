//! `lifeboat diff`: what two snapshots have differently.

use std::{collections::BTreeSet, ffi::OsString, os::unix::ffi::OsStrExt};

use lifeboat_app::{Bytes, Differing, TreeChange, shown_path, told_unread};
use lifeboat_repository::{Repository, Snapshot};
use serde::Serialize;

use super::{ls::kind, unread::UnreadItems};
use crate::{
    context::Context, error::CommandError, exit_code::ExitCode, selection::Selection, text::counted,
};

/// Show what changed from one snapshot to another.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  lifeboat diff shop~1 shop
  lifeboat diff shop@2026-11-01:uploads shop:uploads

A line begins with + (added), - (removed), M (other content or kind) or U (other metadata only). What a backup makes itself,
such as the tables of a database, is compared by its content alone.")]
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
    kind_before: Option<&'static str>,
    kind_after: Option<&'static str>,
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
    let streams = streams(&repository, [from.snapshot, to.snapshot]);
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
                let differing = match differing {
                    Ok(differing) if inside => differing,
                    Err(error) if inside || around => {
                        unread.add(told_unread(path, &error));
                        return true;
                    }
                    _ => return true,
                };
                let source = path.split(|byte| *byte == b'/').next();
                let is_stream = source.is_some_and(|source| streams.contains(source));
                if is_stream && differing.how == TreeChange::Metadata {
                    return true;
                }
                counts.add(differing.how);
                items.put(|| told(path, &differing), || line(path, &differing))
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

/// The sources whose files no folder has: each backup writes them anew, so their times say nothing.
///
/// Of a manifest that cannot be read none is known, and more is shown.
fn streams(repository: &Repository, snapshots: [&Snapshot; 2]) -> BTreeSet<Vec<u8>> {
    let manifests = snapshots.map(|snapshot| repository.manifest(snapshot));
    let sources = manifests.into_iter().flatten();
    let sources = sources.flat_map(|manifest| manifest.sources);
    sources
        .filter(|source| !matches!(source.kind.as_str(), "folder" | "secrets"))
        .map(|source| source.name.into_bytes())
        .collect()
}

/// A difference for programs.
fn told(path: &[u8], differing: &Differing) -> Difference {
    let [kind_before, kind_after] = differing.kinds.map(|side| side.map(kind));
    Difference {
        path: shown_path(path),
        change: word(differing.how),
        size_before: (differing.how != TreeChange::Added).then_some(differing.before),
        size_after: (differing.how != TreeChange::Removed).then_some(differing.after),
        kind_before,
        kind_after,
    }
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

fn line(path: &[u8], differing: &Differing) -> String {
    let Differing {
        how,
        before,
        after,
        kinds,
    } = *differing;
    let what = match kinds {
        [Some(first), Some(second)] if first != second => {
            format!("  ({} -> {})", kind(first), kind(second))
        }
        _ if before == after => String::new(),
        _ => format!("  ({} -> {})", Bytes(before), Bytes(after)),
    };
    format!("{} {}{what}", sign(how), shown_path(path))
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
