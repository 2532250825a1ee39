//! The configuration as types: what `lifeboat.toml` says once it has been found right.
//!
//! Invariant: paths are complete (relative ones were taken from the folder of the file), names are valid, the
//! sources of one app have different names, and `Debug` shows no secret.

use super::drill::DrillConfig;
use super::secret::Secret;
use crate::redact::{redact, redact_arguments};
use crate::spelling::nearest;
use jiff::tz::TimeZone;
use lifeboat_store::Location;
use std::fmt;
use std::path::PathBuf;

/// The name inside snapshots of a PostgreSQL source that is given no other.
pub const DATABASE_NAME: &str = "db";

/// The name inside snapshots of the secrets.
pub const SECRETS_NAME: &str = "secrets";

/// A whole configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// Where backups go, unless the command line or the environment says otherwise.
    pub repository: Option<RepositoryConfig>,
    /// The time zone for all that has none of its own; without it, the machine's.
    pub time_zone: Option<TimeZone>,
    /// Further repositories, in the order of the file.
    pub copies: Vec<CopyConfig>,
    /// The apps, in the order of the file.
    pub apps: Vec<AppConfig>,
    /// What works but should not stay so, in whole sentences.
    pub warnings: Vec<String>,
}

/// The repository and what opens it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RepositoryConfig {
    /// Where it lies.
    pub location: Location,
    /// What opens it.
    pub opened_by: Option<OpenedBy>,
}

/// What opens a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OpenedBy {
    /// The passphrase on the only line of this file.
    PassphraseFile(PathBuf),
    /// The passphrase on the only line that this program prints; never empty.
    PassphraseCommand(Vec<String>),
    /// This key file.
    KeyFile(PathBuf),
}

/// A further repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopyConfig {
    /// Its name.
    pub name: String,
    /// Where it lies.
    pub location: Location,
}

/// One app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppConfig {
    /// Its name.
    pub name: String,
    /// Its time zone: its own, else the configuration's, else the machine's (`None`).
    pub time_zone: Option<TimeZone>,
    /// What is backed up, in the order of the file; at least one.
    pub sources: Vec<SourceConfig>,
    /// What a drill asks beside what it always does.
    pub drill: DrillConfig,
}

/// One source of an app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceConfig {
    /// A folder of files.
    Folder(FolderSource),
    /// Small files that are restored only when asked for.
    Secrets(SecretsSource),
    /// An SQLite database.
    Sqlite(SqliteSource),
    /// A PostgreSQL database.
    Postgres(PostgresSource),
    /// A program's output.
    Command(CommandSource),
}

/// A folder of files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FolderSource {
    /// Its name inside snapshots.
    pub name: String,
    /// The folder.
    pub path: PathBuf,
    /// Patterns of what is left out; each is valid.
    pub exclude: Vec<String>,
    /// Whether other file systems below the folder are left out.
    pub one_file_system: bool,
    /// Whether folders marked by a `CACHEDIR.TAG` are left out.
    pub exclude_caches: bool,
    /// The columns whose rows name the folder's files.
    pub references: Vec<ReferenceColumn>,
    /// Whether files that hold others, such as `.zip` and `.gz`, are taken apart.
    pub bundles: bool,
}

/// A column whose rows name files of a folder, with what else a row knows of its file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReferenceColumn {
    /// The database source that has it.
    pub source: String,
    /// `public.asset`; in an SQLite database `asset`.
    pub table: String,
    /// The column with the path.
    pub column: String,
    /// What stands before the path in the folder.
    pub below: Option<String>,
    /// The column with the file's size in bytes.
    pub size: Option<String>,
    /// The column with the SHA-256 of its content, in hexadecimal.
    pub sha256: Option<String>,
}

impl ReferenceColumn {
    /// Whether it says more than `referenced-by` can.
    pub(super) fn knows_more(&self) -> bool {
        self.below.is_some() || self.size.is_some() || self.sha256.is_some()
    }

    /// The column as `referenced-by` names it.
    pub(super) fn in_short(&self) -> String {
        let Self {
            source,
            table,
            column,
            ..
        } = self;
        let colon = if source.is_empty() { "" } else { ":" };
        format!("{source}{colon}{table}.{column}")
    }
}

/// Small files that the app needs to start again. Its name inside snapshots is [`SECRETS_NAME`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretsSource {
    /// The files; at least one.
    pub paths: Vec<PathBuf>,
}

/// An SQLite database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SqliteSource {
    /// Its name inside snapshots.
    pub name: String,
    /// The database's file.
    pub path: PathBuf,
}

/// A PostgreSQL database.
#[derive(Clone, PartialEq, Eq)]
pub struct PostgresSource {
    /// Its name inside snapshots.
    pub name: String,
    /// A URL or connection string; it may hold a password.
    pub url: String,
    /// The password, where the URL is not to hold it.
    pub password: Option<Secret>,
    /// Tables kept without their rows, as `schema.table`.
    pub skip_data: Vec<String>,
    /// Whether `pg_dump` reads the rows too, also where native reading could.
    pub pg_dump: bool,
    /// The program and its arguments by way of which PostgreSQL's programs run where the server is; empty where they run
    /// here.
    pub via: Vec<String>,
}

/// A program's output.
#[derive(Clone, PartialEq, Eq)]
pub struct CommandSource {
    /// Its name inside snapshots.
    pub name: String,
    /// The program and its arguments; never empty.
    pub run: Vec<String>,
    /// The name of the file that the output becomes.
    pub filename: String,
    /// Whether an output that holds files, such as `.zip` and `.gz`, is taken apart.
    pub bundles: bool,
}

/// No app has the name asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the configuration has no app `{name}`; {advice}")]
pub struct UnknownApp {
    name: String,
    advice: String,
}

impl Config {
    /// The app of that name.
    pub fn app(&self, name: &str) -> Result<&AppConfig, UnknownApp> {
        if let Some(app) = self.apps.iter().find(|app| app.name == name) {
            return Ok(app);
        }
        let names = || self.apps.iter().map(|app| app.name.as_str());
        let advice = match (nearest(name, names()), self.apps.is_empty()) {
            (Some(meant), _) => format!("did you mean `{meant}`?"),
            (None, true) => "it has no app at all".to_owned(),
            (None, false) => format!("it has {}", names().collect::<Vec<_>>().join(", ")),
        };
        Err(UnknownApp {
            name: name.to_owned(),
            advice,
        })
    }
}

impl SourceConfig {
    /// Whether it is a database, whose rows can name files.
    pub(super) fn is_database(&self) -> bool {
        matches!(self, Self::Sqlite(_) | Self::Postgres(_))
    }

    /// The source's name: its first folder inside snapshots.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Folder(source) => &source.name,
            Self::Secrets(_) => SECRETS_NAME,
            Self::Sqlite(source) => &source.name,
            Self::Postgres(source) => &source.name,
            Self::Command(source) => &source.name,
        }
    }
}

impl fmt::Debug for PostgresSource {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            name,
            url,
            password,
            skip_data,
            pg_dump,
            via,
        } = self;
        out.debug_struct("PostgresSource")
            .field("name", name)
            .field("url", &redact(url))
            .field("password", password)
            .field("skip_data", skip_data)
            .field("pg_dump", pg_dump)
            .field("via", &redact_arguments(via))
            .finish()
    }
}

impl fmt::Debug for CommandSource {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            name,
            run,
            filename,
            bundles,
        } = self;
        out.debug_struct("CommandSource")
            .field("name", name)
            .field("run", &redact_arguments(run))
            .field("filename", filename)
            .field("bundles", bundles)
            .finish()
    }
}
