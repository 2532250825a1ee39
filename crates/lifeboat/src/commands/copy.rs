//! `lifeboat copy`: snapshots into another repository.

use std::{ffi::OsString, path::PathBuf, time::Instant};

use lifeboat_app::{Bytes, Elapsed};
use lifeboat_codec::SnapshotId;
use lifeboat_repository::{CopyReport, Repository, Snapshot};
use lifeboat_store::Location;
use serde::Serialize;

use crate::{
    context::{Context, may_read},
    error::CommandError,
    exit_code::ExitCode,
    selection::Selection,
    text::counted,
};

/// Copy snapshots to another repository.
///
/// A replica (`lifeboat init --replica-of`) takes over the data as it is; any other repository has keys of its own, and
/// gets the data anew under them. What is there already is left out, so that a copy can be repeated.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  lifeboat copy --to offsite
  lifeboat copy --to /mnt/offsite/repo shop tag:yearly
  lifeboat copy --to /mnt/usb/repo --to-password-file /root/usb-passphrase")]
pub(crate) struct Args {
    /// The other repository, or its name among the copies of the configuration.
    #[arg(long, value_name = "REPO")]
    to: String,

    /// Read the other repository's passphrase from this file; without it, both open with the same secret.
    #[arg(long, value_name = "FILE")]
    to_password_file: Option<PathBuf>,

    /// The snapshots; without any, all.
    #[arg(value_name = "SNAP")]
    snapshots: Vec<OsString>,
}

/// What a copy says at its end.
#[derive(Debug, Serialize)]
struct Summary {
    to: String,
    copied: Vec<Pair>,
    skipped: Vec<Pair>,
    packs: u64,
    bytes_stored: u64,
    notes: u64,
    seconds: f64,
}

/// A snapshot, and its id in the other repository.
#[derive(Debug, Serialize)]
struct Pair {
    snapshot: String,
    copy: String,
}

fn pairs(ids: &[(SnapshotId, SnapshotId)]) -> Vec<Pair> {
    let pair = |(from, to): &(SnapshotId, SnapshotId)| Pair {
        snapshot: from.to_string(),
        copy: to.to_string(),
    };
    ids.iter().map(pair).collect()
}

/// Copies.
pub(super) fn run(args: &Args, context: &Context) -> Result<ExitCode, CommandError> {
    let started = Instant::now();
    let location = other_location(&args.to, context)?;
    let credential = context.credential()?;
    let from = context.unlock(context.open_store(&context.location()?)?, &credential)?;
    may_read(&from)?;
    let other = context.other_credential(args.to_password_file.as_deref())?;
    let mut to = context
        .open_store(&location)
        .and_then(|store| context.unlock(store, other.as_ref().unwrap_or(&credential)))
        .map_err(|error| of_other(error, &location))?;
    let selection = Selection::of(&from, context)?;
    let chosen: Vec<Snapshot> = if args.snapshots.is_empty() {
        selection.all().to_vec()
    } else {
        let chosen = selection.select_whole(&args.snapshots)?;
        chosen.into_iter().cloned().collect()
    };
    let report = copy(&from, &mut to, &chosen, context)?;
    let elapsed = started.elapsed();
    for (snapshot, copy) in &report.copied {
        let (snapshot, copy) = (snapshot.short(), copy.short());
        context.ui().detail(&if snapshot == copy {
            format!("Copied {snapshot}")
        } else {
            format!("Copied {snapshot}, there as {copy}")
        });
    }
    context.ui().summary(&Summary {
        to: location.to_string(),
        copied: pairs(&report.copied),
        skipped: pairs(&report.skipped),
        packs: report.packs,
        bytes_stored: report.bytes,
        notes: report.notes,
        seconds: elapsed.as_secs_f64(),
    })?;
    context.ui().note(&format!(
        "Copied {}, {} stored, in {}; {} there already. The copy is {location}",
        counted(report.copied.len() as u64, "snapshot"),
        Bytes(report.bytes),
        Elapsed(elapsed),
        match report.skipped.len() {
            1 => "1 was".to_owned(),
            number => format!("{number} were"),
        },
    ));
    Ok(if args.snapshots.is_empty() && selection.damaged() > 0 {
        ExitCode::Incomplete
    } else {
        ExitCode::Done
    })
}

fn copy(
    from: &Repository,
    to: &mut Repository,
    snapshots: &[Snapshot],
    context: &Context,
) -> Result<CopyReport, CommandError> {
    let stop = context.interrupt().flag();
    let copied = context
        .ui()
        .watched(|watch| lifeboat_repository::copy(from, to, snapshots, watch, stop));
    Ok(copied?)
}

/// A copy of the configuration by its name, else what was typed as a location.
fn other_location(to: &str, context: &Context) -> Result<Location, CommandError> {
    let copies = &context.configuration()?.config.copies;
    match copies.iter().find(|copy| copy.name == to) {
        Some(copy) => Ok(copy.location.clone()),
        None => Ok(to.parse()?),
    }
}

/// Says of an error that it is the other repository's.
fn of_other(error: CommandError, location: &Location) -> CommandError {
    let code = error.code();
    let error = error.within(format!(
        "the repository to copy to, {location}, cannot be opened"
    ));
    match code {
        ExitCode::NoRepository => error.hint(
            "Check the path, and that the disk is mounted; `lifeboat init --replica-of` makes a repository for copies.",
        ),
        ExitCode::WrongKey => error.hint(
            "Name its own secret with --to-password-file, LIFEBOAT_TO_PASSWORD_FILE or LIFEBOAT_TO_KEY_FILE.",
        ),
        _ => error,
    }
}
