//! `lifeboat config`: begin, check, show and explain the configuration.

use std::{
    fs::OpenOptions,
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use lifeboat_app::{AppConfig, Config, config_template, explain_key};
use serde::Serialize;

use super::sources::{self, SourceFacts};
use crate::{
    context::{Configuration, Context},
    error::{CommandError, OrFail},
    exit_code::ExitCode,
    text::{counted, printable, printable_path},
};

/// Begin, check, show or explain the configuration.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  lifeboat config init /etc/lifeboat/lifeboat.toml
  lifeboat config check -c /etc/lifeboat/lifeboat.toml
  lifeboat config show
  lifeboat config explain app.shop.postgres.url")]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Print a configuration to begin with, or write it to a new file.
    Init {
        /// Write it to this file, which must not exist.
        #[arg(value_name = "FILE")]
        file: Option<PathBuf>,
    },
    /// Check the configuration for errors and for what should not stay so.
    Check,
    /// Show what the configuration, the environment and the options come to.
    Show,
    /// Say what a key of the configuration is for.
    Explain {
        /// The key by its path, such as app.shop.postgres.url.
        #[arg(value_name = "KEY")]
        key: String,
    },
}

/// A configuration to begin with, as text.
#[derive(Serialize)]
struct Template {
    configuration: String,
}

/// Does what is asked.
pub(super) fn run(args: &Args, context: &Context) -> Result<ExitCode, CommandError> {
    match &args.action {
        Action::Init { file: None } if context.ui().is_json() => {
            let configuration = config_template();
            context.ui().answer(&Template { configuration })?;
        }
        Action::Init { file: None } => {
            context
                .ui()
                .stdout(|out| out.write_all(config_template().as_bytes()))?;
        }
        Action::Init { file: Some(file) } => init(file, context)?,
        Action::Check => check(context)?,
        Action::Show => show(context)?,
        Action::Explain { key } => explain(key, context)?,
    }
    Ok(ExitCode::Done)
}

fn init(file: &Path, context: &Context) -> Result<(), CommandError> {
    let named = printable_path(file.as_ref());
    // A configuration may come to hold passwords.
    let created = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(file);
    let mut created = match created {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            return Err(
                CommandError::new(ExitCode::Refused, format!("{named} exists already"))
                    .hint("Choose another name, or edit the file."),
            );
        }
        created => created
            .or_fail(ExitCode::Failed, || format!("{named} cannot be created"))
            .map_err(|error| error.hint("Check the folder and who may write to it."))?,
    };
    created
        .write_all(config_template().as_bytes())
        .and_then(|()| created.sync_all())
        .or_fail(ExitCode::Failed, || format!("{named} cannot be written"))
        .map_err(|error| error.hint("Make room, remove the file, and run the command again."))?;
    context.ui().note(&format!(
        "Wrote a configuration to begin with; every key in it is explained and switched off. It is in {named}"
    ));
    Ok(())
}

#[derive(Serialize)]
struct Checked<'a> {
    file: Option<String>,
    apps: usize,
    sources: usize,
    warnings: &'a [String],
}

fn check(context: &Context) -> Result<(), CommandError> {
    let Configuration { file, config } = context.configuration()?;
    let Some(file) = file else {
        return Err(CommandError::usage("there is no configuration")
            .hint("Name one with --config; `lifeboat config init` begins a new one."));
    };
    let sources = config.apps.iter().map(|app| app.sources.len()).sum();
    if context.ui().is_json() {
        return context.ui().answer(&Checked {
            file: Some(file.display().to_string()),
            apps: config.apps.len(),
            sources,
            warnings: &config.warnings,
        });
    }
    context.ui().stdout(|out| {
        writeln!(
            out,
            "The configuration is valid: {} with {}, in {}",
            counted(config.apps.len() as u64, "app"),
            counted(sources as u64, "source"),
            printable_path(file.as_ref())
        )
    })
}

/// What is in force, without any secret.
#[derive(Serialize)]
struct Shown {
    file: Option<String>,
    repository: Option<String>,
    secret: Option<String>,
    cache: String,
    state: String,
    timezone: Option<String>,
    copies: Vec<ShownCopy>,
    apps: Vec<ShownApp>,
}

#[derive(Serialize)]
struct ShownCopy {
    name: String,
    location: String,
}

#[derive(Serialize)]
struct ShownApp {
    name: String,
    sources: Vec<SourceFacts>,
}

fn show(context: &Context) -> Result<(), CommandError> {
    let Configuration { file, config } = context.configuration()?;
    let shown = Shown {
        file: file.as_ref().map(|file| file.display().to_string()),
        repository: context
            .location_if_named()?
            .map(|location| location.to_string()),
        secret: context
            .secret_source()
            .ok()
            .map(|source| source.to_string()),
        cache: context.cache_folder()?.display().to_string(),
        state: context.state_folder()?.display().to_string(),
        timezone: context.time_zone()?.iana_name().map(str::to_owned),
        copies: copies(config),
        apps: config.apps.iter().map(shown_app).collect(),
    };
    if context.ui().is_json() {
        return context.ui().answer(&shown);
    }
    context.ui().stdout(|out| write_shown(&shown, out))
}

fn copies(config: &Config) -> Vec<ShownCopy> {
    let copies = config.copies.iter();
    copies
        .map(|copy| ShownCopy {
            name: copy.name.clone(),
            location: copy.location.to_string(),
        })
        .collect()
}

fn shown_app(app: &AppConfig) -> ShownApp {
    ShownApp {
        name: app.name.clone(),
        sources: sources::facts(app),
    }
}

fn write_shown(shown: &Shown, out: &mut dyn Write) -> io::Result<()> {
    let none = || "none".to_owned();
    for (what, value) in [
        ("configuration", shown.file.clone().unwrap_or_else(none)),
        ("repository", shown.repository.clone().unwrap_or_else(none)),
        ("secret", shown.secret.clone().unwrap_or_else(none)),
        ("cache", shown.cache.clone()),
        ("state", shown.state.clone()),
        (
            "time zone",
            shown
                .timezone
                .clone()
                .unwrap_or_else(|| "the system's".to_owned()),
        ),
    ] {
        writeln!(out, "{what:15}{}", printable(&value))?;
    }
    for copy in &shown.copies {
        let what = format!("copy {}", copy.name);
        writeln!(out, "{what:15}{}", printable(&copy.location))?;
    }
    for app in &shown.apps {
        writeln!(out, "\napp {}", printable(&app.name))?;
        for source in &app.sources {
            let SourceFacts { name, kind, from } = source;
            writeln!(out, "  {kind:10}{:15}{}", printable(name), printable(from))?;
        }
    }
    Ok(())
}

#[derive(Serialize)]
struct Explained<'a> {
    key: &'a str,
    explanation: &'a str,
}

fn explain(key: &str, context: &Context) -> Result<(), CommandError> {
    let Some(explanation) = explain_key(key) else {
        return Err(
            CommandError::usage(format!("the configuration has no key `{key}`"))
                .hint("`lifeboat config init` prints all keys."),
        );
    };
    if context.ui().is_json() {
        return context.ui().answer(&Explained { key, explanation });
    }
    context.ui().stdout(|out| writeln!(out, "{explanation}"))
}
