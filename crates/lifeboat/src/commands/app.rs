//! `lifeboat app`: the apps of the configuration.

mod file;
mod test;

use std::io::Write;

use lifeboat_app::{AppConfig, Config, EditError, SourceConfig, add_app, remove_app};
use serde::Serialize;

use self::file::ConfigFile;
use super::sources::{self, SourceFacts};
use crate::{
    context::Context,
    error::CommandError,
    exit_code::ExitCode,
    table::{Align, Table},
    text::{counted, printable},
};

/// Add, list, show, test or remove the apps of the configuration.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  lifeboat app add shop --source /srv/shop/uploads --source postgres://backup@db/shop
  lifeboat app list
  lifeboat app test shop
  lifeboat app remove shop")]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Add an app to the configuration; its comments and order stay.
    Add {
        /// The new app.
        #[arg(value_name = "NAME")]
        name: String,
        /// A source of it: a folder, postgres://…, or sqlite:FILE; may be given several times.
        #[arg(long, value_name = "SRC", required = true)]
        source: Vec<String>,
    },
    /// List the apps.
    List,
    /// Show an app's sources.
    Show {
        /// The app.
        #[arg(value_name = "NAME")]
        name: String,
    },
    /// Look for everything that would make a backup of apps fail; without names, of all.
    Test {
        /// The apps.
        #[arg(value_name = "NAME")]
        names: Vec<String>,
    },
    /// Remove an app from the configuration; its snapshots stay.
    Remove {
        /// The app.
        #[arg(value_name = "NAME")]
        name: String,
    },
}

impl Args {
    /// Under which name the history keeps this run; only tests stand there.
    pub(super) fn kept_as(&self) -> Option<&'static str> {
        matches!(self.action, Action::Test { .. }).then_some("app test")
    }
}

/// Does what is asked.
pub(super) fn run(args: &Args, context: &Context) -> Result<ExitCode, CommandError> {
    match &args.action {
        Action::Add { name, source } => add(name, source, context)?,
        Action::List => list(context)?,
        Action::Show { name } => show(name, context)?,
        Action::Test { names } => return test::run(names, context),
        Action::Remove { name } => remove(name, context)?,
    }
    Ok(ExitCode::Done)
}

#[derive(Serialize)]
struct Changed<'a> {
    app: &'a str,
    file: String,
}

fn add(name: &str, typed: &[String], context: &Context) -> Result<(), CommandError> {
    let typed: Vec<SourceConfig> = typed
        .iter()
        .map(|source| sources::typed(source))
        .collect::<Result<_, _>>()?;
    let file = ConfigFile::read(context)?;
    file.replace(&add_app(&file.text, &file.path, name, &typed)?)?;
    let sources = counted(typed.len() as u64, "source");
    say(
        name,
        &file,
        context,
        &format!("Added {name} with {sources} to"),
    )
}

fn remove(name: &str, context: &Context) -> Result<(), CommandError> {
    let file = ConfigFile::read(context)?;
    file.replace(&remove_app(&file.text, &file.path, name)?)?;
    say(
        name,
        &file,
        context,
        &format!("Removed {name}, whose snapshots stay, from"),
    )
}

fn say(app: &str, file: &ConfigFile, context: &Context, what: &str) -> Result<(), CommandError> {
    let file = file.path.display().to_string();
    context.ui().note(&format!("{what} {file}"));
    context.ui().summary(&Changed { app, file })
}

/// An app for programs.
#[derive(Serialize)]
struct AppFacts<'a> {
    name: &'a str,
    timezone: Option<&'a str>,
    sources: Vec<SourceFacts>,
}

fn facts(app: &AppConfig) -> AppFacts<'_> {
    AppFacts {
        name: &app.name,
        timezone: app.time_zone.as_ref().and_then(|zone| zone.iana_name()),
        sources: sources::facts(app),
    }
}

fn list(context: &Context) -> Result<(), CommandError> {
    let apps: Vec<AppFacts<'_>> = config(context)?.apps.iter().map(facts).collect();
    if context.ui().is_json() {
        return context.ui().answer(&apps);
    }
    let mut table = Table::new([("App", Align::Left), ("Sources", Align::Left)]);
    for app in &apps {
        let sources: Vec<String> = app
            .sources
            .iter()
            .map(|source| format!("{} ({})", source.name, source.kind))
            .collect();
        table.row([app.name.to_owned(), sources.join(", ")]);
    }
    let heading = context.ui().heading();
    if !apps.is_empty() {
        context.ui().stdout(|out| table.write(out, heading))?;
    }
    let number = counted(apps.len() as u64, "app");
    context.ui().note(&format!("{number}."));
    Ok(())
}

fn show(name: &str, context: &Context) -> Result<(), CommandError> {
    let app = facts(app_of(context, name)?);
    if context.ui().is_json() {
        return context.ui().answer(&app);
    }
    context.ui().stdout(|out| {
        if let Some(zone) = app.timezone {
            writeln!(out, "time zone  {zone}")?;
        }
        app.sources
            .iter()
            .try_for_each(|source| write_source(source, out))
    })
}

fn write_source(source: &SourceFacts, out: &mut dyn Write) -> std::io::Result<()> {
    let SourceFacts { name, kind, from } = source;
    writeln!(out, "{kind:9}  {:15}  {}", printable(name), printable(from))
}

fn config(context: &Context) -> Result<&Config, CommandError> {
    Ok(&context.configuration()?.config)
}

fn app_of<'a>(context: &'a Context, name: &str) -> Result<&'a AppConfig, CommandError> {
    context.app(name, "`lifeboat app list` shows the apps.", "")
}

impl From<EditError> for CommandError {
    fn from(error: EditError) -> Self {
        let hint = match &error {
            EditError::Before(_) => "`lifeboat config check` says what is wrong with it.",
            EditError::Exists { .. } => "Choose another name, or edit the file to change this app.",
            EditError::Name { .. } => "Use letters, digits, `-`, `_` and `.`.",
            EditError::Path { .. } => "Give it a name that is text.",
            EditError::After(_) | EditError::Inexpressible => {
                "Edit the file by hand; `lifeboat config init` prints all keys."
            }
            EditError::Unknown(_) => "`lifeboat app list` shows the apps.",
        };
        Self::from_error(ExitCode::Usage, &error).hint(hint)
    }
}
