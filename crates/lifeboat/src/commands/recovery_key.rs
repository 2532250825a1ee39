//! `lifeboat recovery-key`: the key that opens the repository when everything else is lost.

use lifeboat_codec::encode_recovery;
use serde::Serialize;

use super::key::{Key, outdated, tell_outdated};
use crate::{context::Context, error::CommandError, exit_code::ExitCode};

/// Show the recovery key of the repository, or make a new one.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  lifeboat recovery-key show
  lifeboat recovery-key show -r /srv/lifeboat/repo
  lifeboat recovery-key new")]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Print the recovery key to standard output.
    Show,
    /// Draw a new recovery key, and new keys as `key rotate` does; the old one no longer opens the repository.
    New,
}

impl Args {
    /// Under which name the history keeps this run.
    pub(super) fn kept_as(&self) -> &'static str {
        match self.action {
            Action::Show => "recovery-key show",
            Action::New => "recovery-key new",
        }
    }
}

#[derive(Serialize)]
struct Shown<'a> {
    recovery_key: &'a str,
}

#[derive(Serialize)]
struct Replaced<'a> {
    recovery_key: &'a str,
    generation: u16,
    outdated: Vec<Key<'a>>,
}

/// Does what is asked.
pub(super) fn run(args: &Args, context: &Context) -> Result<ExitCode, CommandError> {
    match args.action {
        Action::Show => show(context)?,
        Action::New => replace(context)?,
    }
    Ok(ExitCode::Done)
}

fn show(context: &Context) -> Result<(), CommandError> {
    let repository = context.open_repository()?;
    let recovery = encode_recovery(repository.recovery()?);
    if context.ui().is_json() {
        return context.ui().answer(&Shown {
            recovery_key: &recovery,
        });
    }
    context.ui().stdout(|out| writeln!(out, "{}", *recovery))
}

fn replace(context: &Context) -> Result<(), CommandError> {
    let mut repository = context.open_repository()?;
    let generation = repository.replace_recovery()?;
    let recovery = encode_recovery(repository.recovery()?);
    let outdated = outdated(&repository)?;
    if context.ui().is_json() {
        return context.ui().secret_summary(&Replaced {
            recovery_key: &recovery,
            generation,
            outdated: outdated.iter().map(Key::of).collect(),
        });
    }
    context.ui().stdout(|out| {
        writeln!(out, "Recovery key:\n\n  {}\n", *recovery)?;
        writeln!(
            out,
            "Write it down and keep it away from this machine; the old one no longer opens the repository.\n\
             All keys were rotated to generation {generation}."
        )
    })?;
    tell_outdated(&outdated, context)
}
