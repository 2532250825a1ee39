//! Why nothing, or nothing more, could be written to a repository.

use std::io;

use lifeboat_codec::FormatError;
use thiserror::Error;

use crate::repository::ReadError;
use crate::state::StateError;

/// A write to the repository failed; no snapshot was made.
#[derive(Debug, Error)]
pub enum WriteError {
    /// The store did not take it.
    #[error("the storage does not take the repository's data")]
    Store(#[from] lifeboat_store::Error),
    /// The temporary file of an open pack failed.
    #[error("cannot write the temporary file of an open pack")]
    Spool(#[source] io::Error),
    /// The format does not allow it, or memory or a library failed us.
    #[error("cannot make the repository's data")]
    Format(#[from] FormatError),
    /// Something that had to be read could not be.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The source that was being read failed.
    #[error("cannot read the source")]
    Source(#[source] io::Error),
    /// Local state could not be used.
    #[error(transparent)]
    State(#[from] StateError),
    /// This key may not do that.
    #[error("this key may not {0}")]
    Role(&'static str),
    /// A newer program forbade it.
    #[error("this repository may only be {0} by a newer version of lifeboat")]
    Feature(&'static str),
    /// Data that the snapshot relies on vanished or was condemned while it was made.
    #[error(
        "{packs} packs that this snapshot relies on vanished or were condemned while it was made"
    )]
    Overtaken {
        /// How many packs.
        packs: usize,
    },
    /// Another part of the same run failed first.
    #[error("the run was stopped")]
    Stopped,
    /// The snapshot's head does not fit.
    #[error("the snapshot's name, tags and sources are longer than a snapshot may be")]
    HeadTooLong,
}
