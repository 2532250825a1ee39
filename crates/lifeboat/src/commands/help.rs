//! `lifeboat help`: what `--help` says, for who types a word rather than an option.

use clap::builder::styling::Style;
use lifeboat_app::nearest;

use crate::{context::Context, error::CommandError, exit_code::ExitCode};

/// Say what a command does and takes; without a name, what commands there are.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  lifeboat help
  lifeboat help backup
  lifeboat help key add")]
pub(crate) struct Args {
    /// The command, in one word or two.
    #[arg(value_name = "COMMAND")]
    command: Vec<String>,
}

/// Prints the same text as `--help`.
pub(super) fn run(args: &Args, context: &Context) -> Result<ExitCode, CommandError> {
    let mut definition = context.definition();
    // Only then a command knows under which name it is called.
    definition.build();
    let text = found(&mut definition, &args.command)?.render_long_help();
    let colored = context.ui().heading() != Style::new();
    context.ui().stdout(|out| {
        if colored {
            write!(out, "{}", text.ansi())
        } else {
            write!(out, "{text}")
        }
    })?;
    Ok(ExitCode::Done)
}

fn found<'a>(
    definition: &'a mut clap::Command,
    words: &[String],
) -> Result<&'a mut clap::Command, CommandError> {
    let mut command = definition;
    for word in words {
        if command.find_subcommand(word).is_none() {
            let path = command.get_bin_name().unwrap_or("lifeboat");
            let names = command.get_subcommands().map(clap::Command::get_name);
            let hint = match nearest(word, names) {
                Some(name) => format!("Did you mean `{name}`? `lifeboat help` lists the commands."),
                None => "`lifeboat help` lists the commands.".to_owned(),
            };
            let message = format!("there is no command `{path} {word}`");
            return Err(CommandError::usage(message).hint(hint));
        }
        command = command
            .find_subcommand_mut(word)
            .expect("it was found just now");
    }
    Ok(command)
}

#[cfg(test)]
mod tests {
    use clap::Subcommand as _;

    use super::*;
    use crate::commands::Command;

    fn text(words: &[&str]) -> Result<String, CommandError> {
        let definition = clap::Command::new("lifeboat").disable_help_subcommand(true);
        let mut definition = Command::augment_subcommands(definition);
        definition.build();
        let words: Vec<String> = words.iter().map(ToString::to_string).collect();
        found(&mut definition, &words).map(|command| command.render_long_help().to_string())
    }

    #[test]
    fn help_is_said_about_all_or_one_command() {
        assert!(text(&[]).unwrap().contains("Usage: lifeboat"));
        assert!(
            text(&["restore"])
                .unwrap()
                .contains("Usage: lifeboat restore")
        );
        assert!(
            text(&["extract"])
                .unwrap()
                .contains("Usage: lifeboat restore")
        );
        assert!(
            text(&["key", "add"])
                .unwrap()
                .contains("Usage: lifeboat key add")
        );
        let error = text(&["snaphots"]).unwrap_err();
        assert_eq!(error.code(), ExitCode::Usage);
        assert!(error.facts().hint.unwrap().contains("snapshots"));
    }
}
