//! The way from the words typed to a verb, and what is said when there is none.

use std::{ffi::OsString, fmt::Write as _};

use clap::{
    CommandFactory, FromArgMatches, Parser,
    builder::{StyledStr, styling},
    error::ErrorKind,
};

use crate::{
    commands::Command,
    options::GlobalOptions,
    ui::{ColorWhen, Manner},
    usage::WrongUsage,
};

const STYLES: styling::Styles = styling::Styles::styled()
    .header(styling::Style::new().bold())
    .usage(styling::Style::new().bold())
    .literal(styling::AnsiColor::Cyan.on_default())
    .placeholder(styling::AnsiColor::Green.on_default());

/// The six commands shown when none is typed are the first of these that exist.
const MOST_USED: [(&str, &str, &str); 11] = [
    ("demo", "lifeboat demo", "Try everything on a sample app."),
    (
        "init",
        "lifeboat init -r /srv/lifeboat/repo",
        "Create a repository.",
    ),
    ("backup", "lifeboat backup shop", "Back up an app."),
    ("snapshots", "lifeboat snapshots shop", "List what is kept."),
    (
        "restore",
        "lifeboat restore shop:uploads --target /tmp/uploads",
        "Get files back.",
    ),
    (
        "restore-db",
        "lifeboat restore-db shop --to postgres://db/shop_new",
        "Get a database back.",
    ),
    (
        "check",
        "lifeboat check --read-data",
        "Verify that all of it can be read.",
    ),
    (
        "config",
        "lifeboat config init > lifeboat.toml",
        "Begin a configuration.",
    ),
    (
        "doctor",
        "lifeboat doctor",
        "Look at this machine for what would make a backup fail.",
    ),
    (
        "completions",
        "lifeboat completions bash",
        "Let the shell complete commands.",
    ),
    ("man", "lifeboat man", "Read the manual page."),
];

/// Keeps applications safe: a database and the media files that its rows point to, together.
///
/// Lifeboat stores encrypted, deduplicated snapshots of applications in a repository and brings them back.
#[derive(Debug, Parser)]
#[command(
    name = "lifeboat",
    version,
    styles = STYLES,
    max_term_width = 100,
    infer_subcommands = false,
    disable_help_subcommand = true,
    subcommand_help_heading = "Commands",
    after_help = "Run `lifeboat help COMMAND` to read more about a command."
)]
pub(crate) struct Cli {
    /// What every verb understands.
    #[command(flatten)]
    pub(crate) global: GlobalOptions,
    /// The verb.
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

/// Why there is no verb to run.
pub(crate) enum NoCommand {
    /// Help or the version was asked for; clap prints it.
    Asked(clap::Error),
    /// The command line is wrong.
    Wrong(Box<WrongUsage>),
}

/// Understands the words typed, the program's name first.
pub(crate) fn parse(words: &[OsString]) -> Result<Cli, NoCommand> {
    let manner = manner_of(words);
    let command = definition().color(match manner.color {
        ColorWhen::Auto => clap::ColorChoice::Auto,
        ColorWhen::Always => clap::ColorChoice::Always,
        ColorWhen::Never => clap::ColorChoice::Never,
    });
    command
        .try_get_matches_from(words)
        .and_then(|matches| Cli::from_arg_matches(&matches))
        .map_err(|error| {
            // For people, a verb of several that stands alone is answered with the help that lists them.
            let lists = error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand;
            if error.use_stderr() && (manner.json || !lists) {
                NoCommand::Wrong(Box::new(WrongUsage::new(
                    error,
                    manner,
                    &definition(),
                    words,
                )))
            } else {
                NoCommand::Asked(error)
            }
        })
}

/// The command line as clap knows it, for help, manual pages and completions.
pub(crate) fn definition() -> clap::Command {
    in_sentences(Cli::command())
}

/// Gives every help text the full stop back that clap takes from the end of a doc comment.
fn in_sentences(command: clap::Command) -> clap::Command {
    let stopped = |text: &StyledStr| format!("{}.", text.to_string().trim_end_matches('.'));
    let about = command.get_about().map(stopped);
    let command = match about {
        Some(about) => command.about(about),
        None => command,
    };
    command
        .mut_args(|argument| {
            let help = argument.get_help().map(stopped);
            match help {
                Some(help) => argument.help(help),
                None => argument,
            }
        })
        .mut_subcommands(in_sentences)
}

/// How errors about a command line are to be told, before it could be understood.
fn manner_of(words: &[OsString]) -> Manner {
    let mut manner = Manner::default();
    let mut words = words.iter().skip(1).filter_map(|word| word.to_str());
    while let Some(word) = words.next() {
        let color = match word {
            "--" => break,
            "--json" => {
                manner.json = true;
                None
            }
            "--color" => words.next(),
            _ => word.strip_prefix("--color="),
        };
        match color {
            Some("always") => manner.color = ColorWhen::Always,
            Some("never") => manner.color = ColorWhen::Never,
            _ => {}
        }
    }
    manner
}

/// What is shown when no verb is typed: six commands with an example each.
pub(crate) fn overview() -> String {
    let definition = definition();
    let shown: Vec<_> = MOST_USED
        .iter()
        .filter(|(verb, ..)| definition.find_subcommand(verb).is_some())
        .take(6)
        .collect();
    let width = shown
        .iter()
        .map(|(_, example, _)| example.len())
        .max()
        .unwrap_or(0);
    let mut text = String::from("Lifeboat keeps applications safe. The commands used most:\n\n");
    for (_, example, sentence) in shown {
        writeln!(text, "  {example:width$}  {sentence}").expect("writing to a String never fails");
    }
    text.push_str("\nAll commands: lifeboat --help\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit_code::ExitCode;

    fn words(line: &str) -> Vec<OsString> {
        line.split(' ').map(OsString::from).collect()
    }

    fn parsed(line: &str) -> Cli {
        parse(&words(line)).unwrap_or_else(|_| panic!("{line} is understood"))
    }

    /// The part of the page of the command line that is made of the definition: verbs, variables, exit codes.
    fn reference() -> String {
        fn typed(argument: &clap::Arg) -> String {
            if argument.is_last_set() {
                return format!("-- {argument}");
            }
            let short = argument.get_short();
            short.map_or_else(
                || argument.to_string(),
                |short| format!("-{short}, {argument}"),
            )
        }
        fn verb(text: &mut String, command: &clap::Command, path: &str) {
            let line = format!("{path} {}", command.get_name());
            let about = command.get_about().map(ToString::to_string);
            let aliases: Vec<_> = command.get_all_aliases().collect();
            write!(text, "\n### {line}\n\n{}", about.unwrap_or_default()).unwrap();
            if !aliases.is_empty() {
                write!(text, " Also called `{}`.", aliases.join("`, `")).unwrap();
            }
            text.push_str("\n\n");
            for argument in command
                .get_arguments()
                .filter(|argument| !argument.is_global_set() && argument.get_id() != "help")
            {
                let help = argument.get_long_help().or(argument.get_help());
                let help = help.map(ToString::to_string).unwrap_or_default();
                let help: Vec<_> = help.split_whitespace().collect();
                writeln!(text, "- `{}` — {}", typed(argument), help.join(" ")).unwrap();
            }
            if let Some(examples) = command.get_after_help() {
                let examples = examples.to_string();
                let (first, rest) = examples.split_once("\n\n").unwrap_or((&examples, ""));
                let lines = first.strip_prefix("Examples:\n").unwrap_or(first);
                let lines: Vec<_> = lines.lines().map(str::trim_start).collect();
                write!(text, "\n```sh\n{}\n```\n", lines.join("\n")).unwrap();
                if !rest.is_empty() {
                    write!(text, "\n{}\n", rest.trim()).unwrap();
                }
            }
            let below = command.get_subcommands();
            below.for_each(|command| verb(text, command, &line));
        }
        let mut definition = definition();
        definition.build();
        let mut text = String::from("## Options everywhere\n\n");
        for argument in definition
            .get_arguments()
            .filter(|argument| argument.is_global_set())
        {
            let help = argument.get_help().map(ToString::to_string);
            writeln!(
                text,
                "- `{}` — {}",
                typed(argument),
                help.unwrap_or_default()
            )
            .unwrap();
        }
        text.push_str("\n## Environment\n\n| variable | meaning |\n|---|---|\n");
        for (name, sentence) in crate::commands::ENVIRONMENT {
            writeln!(text, "| `{name}` | {sentence} |").unwrap();
        }
        text.push_str("\n## Exit codes\n\n| code | meaning |\n|--:|---|\n");
        for code in ExitCode::ALL {
            writeln!(text, "| {} | {} |", code.number(), code.meaning()).unwrap();
        }
        text.push_str(
            "\nNew codes may come; a script takes an unknown one for a failure.\n\n## Verbs\n",
        );
        for command in definition.get_subcommands() {
            verb(&mut text, command, "lifeboat");
        }
        text
    }

    #[test]
    fn the_page_of_the_command_line_says_what_the_program_understands() {
        const BEGIN: &str =
            "<!-- From here on the page is made of the program's own definition. -->\n\n";
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/cli.md");
        let page = std::fs::read_to_string(path).unwrap();
        let (written, made) = page.split_once(BEGIN).expect("the page has both parts");
        if std::env::var_os("LIFEBOAT_TEST_WRITE_PAGES").is_some() {
            std::fs::write(path, [written, BEGIN, &reference()].concat()).unwrap();
            return;
        }
        assert!(
            made == reference(),
            "docs/cli.md is out of date; LIFEBOAT_TEST_WRITE_PAGES=1 cargo test -p lifeboat writes it anew"
        );
    }

    #[test]
    fn the_definition_is_sound() {
        definition().debug_assert();
    }

    #[test]
    fn options_stand_before_or_after_the_verb() {
        for line in [
            "lifeboat -r /repo --json -v version",
            "lifeboat version -r /repo --json -v",
        ] {
            let global = parsed(line).global;
            assert_eq!(global.repo.as_deref(), Some("/repo"));
            assert!(global.json && global.verbose == 1);
        }
    }

    #[test]
    fn no_verb_is_an_overview_of_six_commands_that_exist() {
        assert!(parsed("lifeboat").command.is_none());
        let text = overview();
        let examples: Vec<_> = text
            .lines()
            .filter_map(|line| line.strip_prefix("  lifeboat "))
            .collect();
        assert!(!examples.is_empty() && examples.len() <= 6, "{text}");
        for example in examples {
            let verb = example.split(' ').next().unwrap();
            assert!(definition().find_subcommand(verb).is_some(), "{verb}");
        }
    }

    #[test]
    fn quiet_and_verbose_exclude_each_other() {
        assert!(parse(&words("lifeboat -q -v version")).is_err());
    }

    #[test]
    fn a_wrong_word_is_told_to_programs_on_one_line() {
        let Err(NoCommand::Wrong(wrong)) = parse(&words("lifeboat --json version --bogus")) else {
            panic!("--bogus is no option");
        };
        assert!(wrong.manner().json);
        let facts = serde_json::to_string(&wrong.to_error().facts()).unwrap();
        assert!(
            facts.starts_with(r#"{"code":2,"message":"`lifeboat version` has no option --bogus""#),
            "{facts}"
        );
    }

    #[test]
    fn a_wrong_command_line_is_told_with_the_nearest_right_word() {
        for (line, told) in [
            (
                "lifeboat snaphots",
                "there is no command `lifeboat snaphots`|Did you mean `snapshots`? `lifeboat --help` says what it takes.",
            ),
            (
                "lifeboat snapshots --reppo x",
                "`lifeboat snapshots` has no option --reppo|Did you mean `--repo`? `lifeboat snapshots --help` says what \
                 it takes.",
            ),
            (
                "lifeboat restore shop",
                "--target <DIR> is missing|`lifeboat restore --help` says what it takes.",
            ),
            (
                "lifeboat restore shop --target x --overwrite sometimes",
                "`sometimes` does not fit --overwrite <WHEN>|It may be never, if-changed, always. `lifeboat restore --help` \
                 says what it takes.",
            ),
            (
                "lifeboat tag shop",
                "--add <TAG> or --remove <TAG> is missing|`lifeboat tag --help` says what it takes.",
            ),
            (
                "lifeboat log nosuch",
                "`nosuch` does not fit [RUN]: it is no number that fits|`lifeboat log --help` says what it takes.",
            ),
            (
                "lifeboat key list more",
                "`lifeboat key list` takes no `more`|`lifeboat key list --help` says what it takes.",
            ),
            (
                "lifeboat -q -v version",
                "--quiet cannot stand beside --verbose|`lifeboat version --help` says what it takes.",
            ),
            (
                "lifeboat snapshots --tag",
                "--tag <TAG> has no value|`lifeboat snapshots --help` says what it takes.",
            ),
        ] {
            let Err(NoCommand::Wrong(wrong)) = parse(&words(line)) else {
                panic!("{line} is wrong");
            };
            let error = wrong.to_error();
            let facts = error.facts();
            let hint = facts.hint.unwrap_or_default();
            assert_eq!(format!("{}|{hint}", facts.message), told, "{line}");
        }
    }

    #[test]
    fn the_values_that_an_argument_may_have_stand_in_its_help() {
        fn look(command: &clap::Command) {
            let takes_one = |argument: &&clap::Arg| argument.get_action().takes_values();
            for argument in command.get_arguments().filter(takes_one) {
                let help = argument.get_help().map(ToString::to_string);
                let help = help.unwrap_or_default();
                for value in argument.get_possible_values() {
                    let value = value.get_name();
                    assert!(help.contains(value), "{value} of {argument}: {help}");
                }
            }
            command.get_subcommands().for_each(look);
        }
        look(&definition());
    }

    #[test]
    fn what_comes_after_two_dashes_is_no_option() {
        let manner = manner_of(&words("lifeboat --color never x -- --json --color=always"));
        assert!(!manner.json);
        assert_eq!(manner.color, ColorWhen::Never);
    }

    #[test]
    fn every_command_option_and_argument_is_explained_in_sentences() {
        fn look(command: &clap::Command) {
            let about = command.get_about().map(ToString::to_string);
            let about = about.unwrap_or_default();
            assert!(about.ends_with('.'), "{}: {about}", command.get_name());
            for argument in command.get_arguments() {
                let help = argument.get_help().map(ToString::to_string);
                let help = help.unwrap_or_default();
                let name = argument.get_id();
                assert!(help.ends_with('.'), "{} {name}: {help}", command.get_name());
            }
            command.get_subcommands().for_each(look);
        }
        look(&definition());
    }
}
