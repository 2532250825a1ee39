//! `lifeboat pin`: snapshots that no rule forgets.

use std::ffi::OsString;

use lifeboat_codec::Note;

use super::note::{self, Said};
use crate::{context::Context, error::CommandError, exit_code::ExitCode, selection::Selection};

/// Pin snapshots, so that no rule forgets them.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  lifeboat pin shop
  lifeboat pin 3f9a21c0 tag:before-upgrade")]
pub(crate) struct Args {
    /// The snapshots.
    #[arg(value_name = "SNAP", required = true)]
    snapshots: Vec<OsString>,
}

/// Pins those that are not pinned yet.
pub(super) fn run(args: &Args, context: &Context) -> Result<ExitCode, CommandError> {
    let mut repository = context.open_to_read()?;
    let selection = Selection::of(&repository, context)?;
    let now = repository.now_ms();
    let chosen = selection.select_whole(&args.snapshots)?.into_iter();
    let notes: Vec<Note> = chosen
        .map(|snapshot| snapshot.name.id)
        .filter(|id| !selection.notes().pinned(*id))
        .map(|snapshot| Note {
            snapshot,
            kind: note::PIN.to_owned(),
            value: String::new(),
            removes: None,
            said_ms: now,
        })
        .collect();
    note::say(&mut repository, &notes, Said::Pins, context)?;
    Ok(ExitCode::Done)
}
