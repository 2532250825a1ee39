//! The options that every verb understands.
//!
//! What is typed goes before the environment, that before the configuration. No option takes a secret: other users
//! see the arguments of every process.

use std::path::PathBuf;

use crate::ui::{ColorWhen, Manner};

/// The heading of these options in help texts.
const EVERYWHERE: &str = "Options everywhere";

/// What every verb understands.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct GlobalOptions {
    /// Use the repository at this place instead of the configured one.
    #[arg(
        short, long, global = true, value_name = "REPO", env = "LIFEBOAT_REPOSITORY",
        hide_env_values = true, help_heading = EVERYWHERE
    )]
    pub(crate) repo: Option<String>,

    /// Read this configuration instead of the first lifeboat.toml that is found.
    #[arg(
        short, long, global = true, value_name = "FILE", env = "LIFEBOAT_CONFIG",
        help_heading = EVERYWHERE
    )]
    pub(crate) config: Option<PathBuf>,

    /// Read the repository's passphrase from this file.
    #[arg(short, long, global = true, value_name = "FILE", help_heading = EVERYWHERE)]
    pub(crate) password_file: Option<PathBuf>,

    /// Keep what can be rebuilt in this folder.
    #[arg(
        long, global = true, value_name = "DIR", env = "LIFEBOAT_CACHE_DIR",
        help_heading = EVERYWHERE
    )]
    pub(crate) cache_dir: Option<PathBuf>,

    /// Print only answers, warnings and errors.
    #[arg(
        short, long, global = true, conflicts_with = "verbose", help_heading = EVERYWHERE
    )]
    pub(crate) quiet: bool,

    /// Say more about the work.
    #[arg(short, long, global = true, action = clap::ArgAction::Count, help_heading = EVERYWHERE)]
    pub(crate) verbose: u8,

    /// Print JSON, one object per line.
    #[arg(long, global = true, help_heading = EVERYWHERE)]
    pub(crate) json: bool,

    /// Do not show how far the work is.
    #[arg(long, global = true, help_heading = EVERYWHERE)]
    pub(crate) no_progress: bool,

    /// Use colours: auto (on a terminal, unless NO_COLOR is set), always or never.
    #[arg(
        long, global = true, value_name = "WHEN", value_enum, default_value_t,
        hide_possible_values = true, help_heading = EVERYWHERE
    )]
    pub(crate) color: ColorWhen,
}

impl GlobalOptions {
    /// How the caller wants to be spoken to.
    pub(crate) fn manner(&self) -> Manner {
        Manner {
            json: self.json,
            quiet: self.quiet,
            verbose: self.verbose > 0,
            no_progress: self.no_progress,
            color: self.color,
            stdout_is_content: false,
        }
    }
}
