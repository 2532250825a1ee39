//! Why something cannot be written into the history, or read from it.
//!
//! None of these ends a backup: whoever does the work goes on and tells the error beside the result.

use std::io;
use std::path::PathBuf;

/// A failure of the history.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// A file or folder of the history cannot be used.
    #[error("cannot {action} {} of the history", path.display())]
    File {
        /// What was wanted of it; completes "cannot".
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The database refuses.
    #[error("cannot {action} the history {}", path.display())]
    Database {
        /// What was wanted of it; completes "cannot".
        action: &'static str,
        /// The database.
        path: PathBuf,
        /// What SQLite said.
        source: rusqlite::Error,
    },
    /// A newer version of the program wrote the database.
    #[error("the history {} is of version {version}, newer than this program", path.display())]
    Newer {
        /// The database.
        path: PathBuf,
        /// The version of its schema.
        version: i64,
    },
    /// The row of a run has vanished, because the database was removed or replaced while it ran.
    #[error("run {id} is no longer in the history")]
    Gone {
        /// The run's number.
        id: i64,
    },
}
