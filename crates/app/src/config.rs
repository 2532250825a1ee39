//! The configuration, `lifeboat.toml`: which apps there are, what belongs to them, and where their backups go.
//!
//! One list holds all keys; the parser, the explanations and the template come from it. Reading is strict: an unknown
//! key is an error with its line and what was probably meant, for a key that is silently passed over is a backup that
//! is silently not made. Edits keep every comment and the order. Invariant: what reading accepts has a meaning in
//! this version, and no secret of the file is repeated in an error, a warning or debug output.

mod names;
mod secret;
mod drill;
mod model;
mod problem;
mod keys;
mod section;
mod read;
mod edit;

pub(crate) use drill::DrillText;
#[cfg(test)]
pub(crate) use drill::drill_text;
pub use drill::{
    DrillBody, DrillCheck, DrillCommand, DrillConfig, DrillService, DrillTake, DrillUrl,
};
pub use edit::{EditError, add_app, remove_app};
pub use keys::{config_template, explain_key};
pub use model::{
    AppConfig, CommandSource, Config, CopyConfig, DATABASE_NAME, FolderSource, OpenedBy,
    PostgresSource, ReferenceColumn, RepositoryConfig, SECRETS_NAME, SecretsSource, SourceConfig,
    SqliteSource, UnknownApp,
};
pub use names::{InvalidName, check_app_name};
pub use problem::{ConfigError, ConfigProblem, Place};
pub use secret::{Secret, SecretError};

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The name of the file.
pub const FILE_NAME: &str = "lifeboat.toml";

/// The largest configuration that is read, in bytes.
const BYTES_MAX: u64 = 4 << 20;

/// Permission bits that let others than the owner read.
const READABLE_BY_OTHERS: u32 = 0o044;

/// The permission bit that lets everybody write.
const WRITABLE_BY_ALL: u32 = 0o002;

impl Config {
    /// Reads the file at `path`.
    ///
    /// A `lifeboat.toml` that is only named so, without a folder, is one that lay in the working folder by chance. It
    /// is refused when another user may have put it there: it decides what is read, where that goes, and what is run.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let unreadable = |source| ConfigError::Read {
            path: path.to_owned(),
            source,
        };
        let file = File::open(path).map_err(unreadable)?;
        let metadata = file.metadata().map_err(unreadable)?;
        let mode = metadata.mode();
        let user = rustix::process::geteuid().as_raw();
        if path == Path::new(FILE_NAME) && !is_own(metadata.uid(), mode, user) {
            return Err(unreadable(io::Error::new(
                io::ErrorKind::PermissionDenied,
                "another user may have written it; to use it all the same, name it with its folder: \
                 --config ./lifeboat.toml",
            )));
        }
        let path = std::path::absolute(path).map_err(unreadable)?;
        let mut text = String::new();
        file.take(BYTES_MAX + 1)
            .read_to_string(&mut text)
            .map_err(unreadable)?;
        if text.len() as u64 > BYTES_MAX {
            return Err(ConfigError::TooLarge {
                path,
                bytes_max: BYTES_MAX,
            });
        }
        let read::Reading {
            mut config,
            secrets,
        } = read::read(&text, &path)?;
        if mode & READABLE_BY_OTHERS != 0 {
            config.warnings.extend(secrets.iter().map(|place| {
                format!(
                    "A password stands in line {} of {}, which others can read: chmod 600 the file, or write \
                     password = \"file:PATH\".",
                    place.line,
                    path.display()
                )
            }));
        }
        Ok(config)
    }

    /// Reads `text` as the content of `file`; nothing is opened. Relative paths are taken from the file's folder.
    pub fn parse(text: &str, file: &Path) -> Result<Self, ConfigError> {
        read::read(text, file).map(|reading| reading.config)
    }

    /// Where the configuration lies: at `argument` (`--config`), else at `LIFEBOAT_CONFIG`, else the first that exists
    /// of `./lifeboat.toml`, `$XDG_CONFIG_HOME/lifeboat/lifeboat.toml` and `/etc/lifeboat/lifeboat.toml`.
    ///
    /// `None` when there is none of them. What is named is returned even when nothing lies there, so that reading it
    /// tells so. `variable` is how an environment variable is looked up.
    pub fn default_path(
        argument: Option<&Path>,
        variable: impl Fn(&str) -> Option<OsString>,
    ) -> Option<PathBuf> {
        let variable = |name| variable(name).filter(|value: &OsString| !value.is_empty());
        let named = argument
            .map(Path::to_owned)
            .or_else(|| variable("LIFEBOAT_CONFIG").map(PathBuf::from));
        if named.is_some() {
            return named;
        }
        let home = variable("XDG_CONFIG_HOME")
            .map(PathBuf::from)
            .or_else(|| variable("HOME").map(|home| Path::new(&home).join(".config")));
        let places = [Some(PathBuf::from(FILE_NAME))]
            .into_iter()
            .chain([home.map(|home| home.join("lifeboat").join(FILE_NAME))])
            .chain([Some(Path::new("/etc/lifeboat").join(FILE_NAME))]);
        // A file that may not be looked at exists: passing over it would use another one without a word.
        places.flatten().find(|path| !is_missing(path))
    }
}

/// Whether a file of this owner and mode is as `user` or the system's administrator wants it.
fn is_own(owner: u32, mode: u32, user: u32) -> bool {
    (owner == user || owner == 0) && mode & WRITABLE_BY_ALL == 0
}

/// Whether nothing lies there; below a file nothing can, such as below the `/dev/null` that is a service's home.
fn is_missing(path: &Path) -> bool {
    path.metadata().is_err_and(|error| {
        matches!(
            error.kind(),
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
        )
    })
}

#[cfg(test)]
mod tests;
