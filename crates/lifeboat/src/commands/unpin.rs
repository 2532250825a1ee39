//! `lifeboat unpin`: takes pins away.

use std::ffi::OsString;

use lifeboat_codec::Note;

use super::note::{self, Said};
use crate::{context::Context, error::CommandError, exit_code::ExitCode, selection::Selection};

/// Take the pins of snapshots away.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  lifeboat unpin 3f9a21c0")]
pub(crate) struct Args {
    /// The snapshots.
    #[arg(value_name = "SNAP", required = true)]
    snapshots: Vec<OsString>,
}

/// Takes back every word that pins them: two machines may have said it.
pub(super) fn run(args: &Args, context: &Context) -> Result<ExitCode, CommandError> {
    let mut repository = context.open_to_read()?;
    let selection = Selection::of(&repository, context)?;
    let now = repository.now_ms();
    let mut notes = Vec::new();
    for snapshot in selection.select_whole(&args.snapshots)? {
        let pins = selection.notes().of(snapshot.name.id);
        let pins = pins.filter(|(_, said)| said.kind == note::PIN);
        notes.extend(pins.map(|(hash, said)| Note {
            removes: Some(*hash),
            said_ms: now,
            ..said.clone()
        }));
    }
    note::say(&mut repository, &notes, Said::Unpins, context)?;
    Ok(ExitCode::Done)
}
