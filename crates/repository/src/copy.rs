//! Copying snapshots from one repository into another.
//!
//! Between replicas of one family packs, snapshots and notes are taken over as they are, byte for byte, so a copy needs
//! no key to content. Between families everything is read and written anew under the other family's keys. Either way
//! what is there already is left out, so that a copy that ended early goes on where it stopped.

mod replica;
mod memo;
mod walk;
mod translate;

use std::sync::atomic::AtomicBool;

use lifeboat_codec::SnapshotId;
use thiserror::Error;

use crate::progress::Progress;
use crate::repository::{ReadError, Repository};
use crate::snapshots::Snapshot;
use crate::write_error::WriteError;

/// Snapshots could not be copied; those that were copied before stay.
#[derive(Debug, Error)]
pub enum CopyError {
    /// The repository that is copied from did not give something.
    #[error("cannot read the repository that is copied from")]
    From(#[source] ReadError),
    /// The repository that is copied to did not take something.
    #[error("cannot write the repository that is copied to")]
    To(#[source] WriteError),
    /// Both are one and the same.
    #[error("the two repositories are one and the same")]
    Same,
    /// The caller stopped it.
    #[error("copying was stopped")]
    Stopped,
}

impl From<WriteError> for CopyError {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Stopped => Self::Stopped,
            // What a writer calls its source is here the other repository.
            WriteError::Source(error) => match error.downcast::<ReadError>() {
                Ok(error) => Self::From(error),
                Err(error) => Self::To(WriteError::Source(error)),
            },
            error => Self::To(error),
        }
    }
}

/// What was copied.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CopyReport {
    /// Each snapshot that was copied, and its id in the other repository.
    pub copied: Vec<(SnapshotId, SnapshotId)>,
    /// Snapshots that were there already, each with its id there.
    pub skipped: Vec<(SnapshotId, SnapshotId)>,
    /// Packs that were taken over as they are; none between families.
    pub packs: u64,
    /// Bytes that were stored.
    pub bytes: u64,
    /// Notes that were copied.
    pub notes: u64,
}

/// Copies `snapshots`, which `from` listed, into `to`.
///
/// # Errors
/// When either side fails, the keys do not suffice (between replicas: the admin key of `to`; between families: all keys
/// of both), or `stop` was set.
pub fn copy(
    from: &Repository,
    to: &mut Repository,
    snapshots: &[Snapshot],
    progress: &dyn Progress,
    stop: &AtomicBool,
) -> Result<CopyReport, CopyError> {
    if from.superblock().replica == to.superblock().replica {
        return Err(CopyError::Same);
    }
    let mut oldest_first: Vec<&Snapshot> = snapshots.iter().collect();
    oldest_first.sort_by_key(|snapshot| (snapshot.head.started_ms, snapshot.name));
    oldest_first.dedup_by_key(|snapshot| snapshot.name);
    if from.family() == to.family() {
        replica::copy(from, to, &oldest_first, progress, stop)
    } else {
        translate::copy(from, to, &oldest_first, progress, stop)
    }
}

#[cfg(test)]
mod tests;
