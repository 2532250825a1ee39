//! `lifeboat version`: the versions that an answer to a question begins with.

use lifeboat_codec::{DRAFT, FORMAT};
use serde::Serialize;

use crate::{context::Context, error::CommandError, exit_code::ExitCode};

/// Print the versions of the program, the repository format and SQLite.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  lifeboat version
  lifeboat version --json")]
pub(crate) struct Args {}

#[derive(Serialize)]
struct Versions {
    version: &'static str,
    format: u64,
    format_draft: u64,
    sqlite: &'static str,
    target: String,
}

/// Prints them.
pub(super) fn run(_args: &Args, context: &Context) -> Result<ExitCode, CommandError> {
    let versions = Versions {
        version: env!("CARGO_PKG_VERSION"),
        format: FORMAT,
        format_draft: DRAFT,
        sqlite: rusqlite::version(),
        target: format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS),
    };
    if context.ui().is_json() {
        context.ui().answer(&versions)?;
    } else {
        context.ui().stdout(|out| {
            writeln!(out, "lifeboat {} ({})", versions.version, versions.target)?;
            writeln!(
                out,
                "repository format {}, draft {}",
                versions.format, versions.format_draft
            )?;
            writeln!(out, "SQLite {}", versions.sqlite)
        })?;
    }
    Ok(ExitCode::Done)
}
