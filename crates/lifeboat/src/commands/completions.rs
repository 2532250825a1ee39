//! `lifeboat completions`: what a shell needs to complete commands and options.

use clap_complete::{Shell, generate};

use crate::{context::Context, error::CommandError, exit_code::ExitCode};

/// Print a script that lets a shell complete commands and options.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  lifeboat completions bash > /etc/bash_completion.d/lifeboat
  lifeboat completions zsh > \"${fpath[1]}/_lifeboat\"
  lifeboat completions fish > ~/.config/fish/completions/lifeboat.fish")]
pub(crate) struct Args {
    /// The shell that is to read the script: bash, elvish, fish, powershell or zsh.
    #[arg(hide_possible_values = true)]
    shell: Shell,
}

/// Prints the script.
pub(super) fn run(args: &Args, context: &Context) -> Result<ExitCode, CommandError> {
    let mut definition = context.definition();
    let name = definition.get_name().to_owned();
    // The generator panics when it cannot write, so that it writes to memory.
    let mut script = Vec::new();
    generate(args.shell, &mut definition, name, &mut script);
    context.ui().stdout(|out| out.write_all(&script))?;
    Ok(ExitCode::Done)
}
