//! The life of one app: configuration, backup, restore.

// In the order of dependence: a module uses only those above it.
mod spelling;
mod redact;
mod display;
mod config;

pub use config::{
    AppConfig, CommandSource, Config, ConfigError, ConfigProblem, CopyConfig, DATABASE_NAME,
    EditError, FILE_NAME, FolderSource, InvalidName, OpenedBy, Place, PostgresSource,
    RepositoryConfig, SECRETS_NAME, Secret, SecretError, SecretsSource, SourceConfig, SqliteSource,
    UnknownApp, add_app, check_app_name, config_template, explain_key, remove_app,
};
pub use display::{Bytes, Elapsed, clock_time};
pub use redact::{redact, redact_arguments};
pub use spelling::nearest;
