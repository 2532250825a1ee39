//! `lifeboat man`: the manual pages, made from the same definition as the help texts.
//!
//! A page per command, in the sections that readers of manual pages expect; examples keep their lines.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use clap::ArgAction;
use clap_mangen::{
    Man,
    roff::{Roff, bold, roman},
};

use crate::{
    context::Context,
    error::{CommandError, OrFail},
    exit_code::ExitCode,
    text::printable_path,
};

/// The environment variables that the program reads, with a sentence each.
pub(crate) const ENVIRONMENT: [(&str, &str); 17] = [
    (
        "LIFEBOAT_REPOSITORY",
        "The repository, where --repo is not given.",
    ),
    (
        "LIFEBOAT_CONFIG",
        "The configuration, where --config is not given.",
    ),
    (
        "LIFEBOAT_CACHE_DIR",
        "The folder for what can be rebuilt, where --cache-dir is not given.",
    ),
    (
        "LIFEBOAT_PASSWORD",
        "The passphrase. A file or command is safer: a process shows its environment to its user.",
    ),
    (
        "LIFEBOAT_PASSWORD_FILE",
        "A file that holds the passphrase on its only line.",
    ),
    (
        "LIFEBOAT_PASSWORD_COMMAND",
        "A program and its arguments, run without a shell; it prints the passphrase.",
    ),
    ("LIFEBOAT_KEY_FILE", "A key file that opens the repository."),
    (
        "LIFEBOAT_TO_PASSWORD_FILE",
        "A file that holds the passphrase of the repository that is copied to.",
    ),
    (
        "LIFEBOAT_TO_KEY_FILE",
        "A key file that opens the repository that is copied to.",
    ),
    (
        "LIFEBOAT_PG_BIN",
        "The folder with PostgreSQL's programs, where they are not found by themselves.",
    ),
    (
        "CREDENTIALS_DIRECTORY",
        "Set by systemd; the credential lifeboat.passphrase in it holds the passphrase.",
    ),
    (
        "PGHOST, PGPORT, PGUSER, PGPASSWORD and the others of libpq",
        "What the address of a database leaves out.",
    ),
    (
        "PGPASSFILE",
        "The file with the passwords of databases, by default ~/.pgpass.",
    ),
    ("PGSERVICEFILE", "The file with named database connections."),
    (
        "XDG_CACHE_HOME, XDG_STATE_HOME",
        "The parents of the folders for what can be rebuilt, and for what cannot.",
    ),
    ("NO_COLOR", "No colours, when set and not empty."),
    ("TMPDIR", "The folder for temporary files."),
];

/// Print the manual page, or write the pages of all commands into a folder.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  lifeboat man | man -l -
  lifeboat man /usr/local/share/man/man1")]
pub(crate) struct Args {
    /// Write the pages of all commands into this folder.
    #[arg(value_name = "DIR")]
    folder: Option<PathBuf>,
}

/// Prints or writes the pages.
pub(super) fn run(args: &Args, context: &Context) -> Result<ExitCode, CommandError> {
    let mut definition = context.definition();
    definition.build();
    match &args.folder {
        None => {
            let page = page(&definition);
            context.ui().stdout(|out| out.write_all(&page))?;
        }
        Some(folder) => {
            fs::create_dir_all(folder)
                .and_then(|()| write_pages(&definition, folder))
                .or_fail(ExitCode::Failed, || {
                    format!(
                        "the pages cannot be written to {}",
                        printable_path(folder.as_ref())
                    )
                })
                .map_err(|error| error.hint("Name a folder that you may write to."))?;
        }
    }
    Ok(ExitCode::Done)
}

fn write_pages(command: &clap::Command, folder: &Path) -> io::Result<()> {
    fs::write(
        folder.join(Man::new(command.clone()).get_filename()),
        page(command),
    )?;
    command
        .get_subcommands()
        .filter(|inner| !inner.is_hide_set())
        .try_for_each(|inner| write_pages(inner, folder))
}

/// One page. Writing to memory never fails.
fn page(command: &clap::Command) -> Vec<u8> {
    let is_root = command
        .get_display_name()
        .is_none_or(|name| name == "lifeboat");
    let man = Man::new(command.clone()).manual("Lifeboat");
    let mut out = Vec::new();
    let write = |out: &mut Vec<u8>| -> io::Result<()> {
        man.render_title(out)?;
        man.render_name_section(out)?;
        synopsis(command).to_writer(out)?;
        man.render_description_section(out)?;
        if command.has_subcommands() {
            man.render_subcommands_section(out)?;
        }
        man.render_options_section(out)?;
        if let Some(help) = command.get_after_help() {
            examples(&help.to_string()).to_writer(out)?;
        }
        if is_root {
            environment().to_writer(out)?;
            exit_status().to_writer(out)?;
        }
        Ok(())
    };
    write(&mut out).expect("writing to memory never fails");
    out
}

/// How the command is typed: its own options with their values, then what has no name. What every command
/// understands is left to the section of the options.
fn synopsis(command: &clap::Command) -> Roff {
    let mut last = Vec::new();
    let mut line = vec![bold(command.get_bin_name().unwrap_or(command.get_name()))];
    for argument in command
        .get_arguments()
        .filter(|argument| !argument.is_global_set() && !argument.is_hide_set())
    {
        let takes_part = !matches!(
            argument.get_action(),
            ArgAction::Help | ArgAction::HelpShort | ArgAction::HelpLong | ArgAction::Version
        );
        let place = if argument.is_last_set() {
            &mut last
        } else {
            &mut line
        };
        if takes_part {
            place.push(roman(format!(" {}", typed(argument))));
        }
    }
    if command.has_subcommands() {
        line.push(roman(" COMMAND ..."));
    }
    line.push(roman(" [OPTION EVERYWHERE]..."));
    line.extend(last);
    let mut roff = Roff::new();
    roff.control("SH", ["SYNOPSIS"]);
    roff.text(line);
    roff
}

/// One argument as it is typed, in brackets where it may be left out.
fn typed(argument: &clap::Arg) -> String {
    if argument.is_positional() {
        return if argument.is_last_set() {
            format!("[-- {}]", argument.to_string().replace(['[', ']'], ""))
        } else {
            argument.to_string().replace(['<', '>'], "")
        };
    }
    let long = argument.to_string().replace(['<', '>'], "");
    let named = match argument.get_short() {
        Some(short) => format!("-{short}|{long}"),
        None => long,
    };
    let again = if matches!(argument.get_action(), ArgAction::Append) {
        "..."
    } else {
        ""
    };
    if argument.is_required_set() {
        format!("{named}{again}")
    } else {
        format!("[{named}]{again}")
    }
}

/// The section of examples; their lines are kept as they are.
fn examples(help: &str) -> Roff {
    let mut roff = Roff::new();
    let Some(lines) = help.strip_prefix("Examples:\n") else {
        roff.control("SH", ["NOTES"]);
        roff.text([roman(help)]);
        return roff;
    };
    roff.control("SH", ["EXAMPLES"]);
    roff.control("nf", []);
    for line in lines.lines() {
        roff.text([roman(line.strip_prefix("  ").unwrap_or(line))]);
    }
    roff.control("fi", []);
    roff
}

fn environment() -> Roff {
    let mut roff = Roff::new();
    roff.control("SH", ["ENVIRONMENT"]);
    for (variable, sentence) in ENVIRONMENT {
        roff.control("TP", []);
        roff.text([bold(variable)]);
        roff.text([roman(sentence)]);
    }
    roff
}

fn exit_status() -> Roff {
    let mut roff = Roff::new();
    roff.control("SH", ["EXIT STATUS"]);
    for code in ExitCode::ALL {
        roff.control("TP", []);
        roff.text([bold(code.number().to_string())]);
        roff.text([roman(code.meaning())]);
    }
    roff.control("PP", []);
    roff.text([roman(
        "New codes may come; take an unknown one for a failure.",
    )]);
    roff
}

#[cfg(test)]
mod tests {
    use clap::Subcommand as _;

    use super::*;
    use crate::commands::Command;

    fn definition() -> clap::Command {
        let mut definition = clap::Command::new("lifeboat")
            .about("Keeps.")
            .subcommand(
                clap::Command::new("look")
                    .about("Looks.")
                    .after_help("Examples:\n  lifeboat look\n  lifeboat look 'twice'"),
            )
            .subcommand(clap::Command::new("unseen").hide(true));
        definition.build();
        definition
    }

    #[test]
    fn the_programs_page_has_its_exit_codes_and_variables() {
        let page = String::from_utf8(page(&definition())).unwrap();
        for part in [
            ".SH \"EXIT STATUS\"",
            "\\fB141\\fR",
            ".SH ENVIRONMENT",
            "LIFEBOAT_KEY_FILE",
        ] {
            assert!(page.contains(part), "{part} in {page}");
        }
    }

    #[test]
    fn the_synopsis_is_what_is_typed() {
        let everywhere = clap::Arg::new("repo").long("repo").global(true);
        let definition = clap::Command::new("lifeboat").arg(everywhere);
        let definition = definition.disable_help_subcommand(true);
        let mut definition = Command::augment_subcommands(definition);
        definition.build();
        let lines = |verb: &str| {
            let command = definition.find_subcommand(verb).unwrap();
            let page = synopsis(command).to_roff().replace("\\-", "-");
            page.lines().last().unwrap().to_owned()
        };
        assert_eq!(
            lines("dump"),
            "\\fBlifeboat dump\\fR SNAP[:PATH] [--format FORMAT] [-o|--output FILE] [OPTION EVERYWHERE]..."
        );
        let backup = lines("backup");
        for part in [" [APP]...", " [--source SRC]...", " [-n|--dry-run]"] {
            assert!(backup.contains(part), "{part} in {backup}");
        }
        assert!(
            backup.ends_with(" [OPTION EVERYWHERE]... [-- CMD...]"),
            "{backup}"
        );
        assert!(!backup.contains("--repo"), "{backup}");
        assert!(lines("restore").contains(" --target DIR"));
        assert!(lines("key").contains(" COMMAND ..."));
    }

    #[test]
    fn every_visible_command_has_a_page_whose_examples_keep_their_lines() {
        let folder = tempfile::tempdir().unwrap();
        write_pages(&definition(), folder.path()).unwrap();
        let page = fs::read_to_string(folder.path().join("lifeboat-look.1")).unwrap();
        assert!(
            page.contains(".nf\nlifeboat look\nlifeboat look \\*(Aqtwice\\*(Aq\n.fi"),
            "{page}"
        );
        assert!(!page.contains("EXIT STATUS"));
        assert!(folder.path().join("lifeboat.1").exists());
        assert!(!folder.path().join("lifeboat-unseen.1").exists());
    }
}
