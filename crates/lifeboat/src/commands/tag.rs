//! `lifeboat tag`: words on snapshots, by which they are found and kept.

use std::ffi::OsString;

use lifeboat_codec::{Note, ObjectHash, SnapshotId};
use lifeboat_repository::Snapshot;

use super::note::{self, Said};
use crate::{
    context::Context,
    error::CommandError,
    exit_code::ExitCode,
    selection::{Selection, tags},
};

/// Add tags to snapshots, or remove them.
#[derive(Debug, clap::Args)]
#[command(
    group = clap::ArgGroup::new("change").required(true).multiple(true),
    after_help = "\
Examples:
  lifeboat tag shop --add before-upgrade
  lifeboat tag 3f9a21c0 --remove nightly --add yearly"
)]
pub(crate) struct Args {
    /// The snapshots.
    #[arg(value_name = "SNAP", required = true)]
    snapshots: Vec<OsString>,

    /// Add this tag; may be given several times.
    #[arg(long, value_name = "TAG", group = "change")]
    add: Vec<String>,

    /// Remove this tag; may be given several times.
    #[arg(long, value_name = "TAG", group = "change")]
    remove: Vec<String>,
}

/// Says the new tags and takes the others back.
pub(super) fn run(args: &Args, context: &Context) -> Result<ExitCode, CommandError> {
    note::check_tags(&args.add)?;
    let mut repository = context.open_to_read()?;
    let selection = Selection::of(&repository, context)?;
    let now = repository.now_ms();
    let mut notes = Vec::new();
    for snapshot in selection.select_whole(&args.snapshots)? {
        refuse_first_tags(snapshot, &args.remove)?;
        let id = snapshot.name.id;
        let there = tags(snapshot, selection.notes());
        let new = args.add.iter().filter(|tag| !there.contains(tag.as_str()));
        notes.extend(new.map(|tag| tag_note(id, tag, None, now)));
        for (hash, said) in selection
            .notes()
            .of(id)
            .filter(|(_, said)| said.kind == note::TAG)
        {
            if args.remove.contains(&said.value) {
                notes.push(tag_note(id, &said.value, Some(*hash), now));
            }
        }
    }
    note::say(&mut repository, &notes, Said::Tags, context)?;
    Ok(ExitCode::Done)
}

/// What a snapshot was made with is part of it, and snapshots are never changed.
fn refuse_first_tags(snapshot: &Snapshot, remove: &[String]) -> Result<(), CommandError> {
    match snapshot.head.tags.iter().find(|tag| remove.contains(tag)) {
        None => Ok(()),
        Some(tag) => Err(CommandError::new(
            ExitCode::Refused,
            format!(
                "snapshot {} was made with the tag {tag}, which is part of it",
                snapshot.name.id.short()
            ),
        )
        .hint("Only tags that were added later can be removed.")),
    }
}

fn tag_note(snapshot: SnapshotId, tag: &str, removes: Option<ObjectHash>, now: u64) -> Note {
    Note {
        snapshot,
        kind: note::TAG.to_owned(),
        value: tag.to_owned(),
        removes,
        said_ms: now,
    }
}
