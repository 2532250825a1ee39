//! `lifeboat recovery-key`: shows the key that opens the repository when everything else is lost.

use lifeboat_codec::encode_recovery;
use serde::Serialize;

use crate::{context::Context, error::CommandError, exit_code::ExitCode};

/// Show the recovery key of the repository.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  lifeboat recovery-key show
  lifeboat recovery-key show -r /srv/lifeboat/repo")]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Print the recovery key to standard output.
    Show,
}

#[derive(Serialize)]
struct Shown<'a> {
    recovery_key: &'a str,
}

/// Prints it.
pub(super) fn run(args: &Args, context: &Context) -> Result<ExitCode, CommandError> {
    let Action::Show = args.action;
    let repository = context.open_repository()?;
    let secret = repository.recovery().ok_or_else(|| {
        CommandError::new(
            ExitCode::WrongKey,
            "this key does not hold the recovery key",
        )
        .hint("Open the repository with a key that may do everything.")
    })?;
    let recovery = encode_recovery(secret);
    if context.ui().is_json() {
        context.ui().answer(&Shown {
            recovery_key: &recovery,
        })?;
    } else {
        context.ui().stdout(|out| writeln!(out, "{}", *recovery))?;
    }
    Ok(ExitCode::Done)
}
