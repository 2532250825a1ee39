//! A folder: walk it, read it safely, put it back exactly and safely.
//!
//! Four things, each on its own. Reading: a [`Folder`] lists its entries, tells their metadata and opens files, and
//! an [`OpenFile`] proves that a file stayed the same while it was read. Writing: a [`Target`] puts a tree back as it
//! was, without ever touching anything outside it. Comparing: [`compare`](fn@compare) says in sentences how two trees
//! differ. Swapping: [`exchange`](fn@exchange) lets two entries change names in one step.
//!
//! **Invariant**: names are bytes, objects are reached through handles of folders, and no symbolic link is followed
//! below what the user named. **Boundary**: nothing here knows of repositories, chunks or encryption, waits for a
//! network, or reads a clock.

// In the order of dependence: a module uses only those above it.
mod entry;
mod error;
mod exclude;
mod metadata;
mod beneath;
mod held;
mod attributes;
mod listing;
mod walk;
mod read;
mod recognise;
mod create;
mod compare;
mod exchange;

pub use attributes::{Attributes, AttributesRead, ExtendedAttribute};
pub use compare::{CompareOptions, Difference, compare};
pub use create::{
    FileSlot, FolderId, IdMap, NewFile, Original, Outcome, Overwrite, Owner, Problem,
    RestoreOptions, Restored, Target, TargetFolder, What,
};
pub use entry::{Kind, Time};
pub use error::{Error, ErrorKind};
pub use exchange::{exchange, mounts_within, move_entries, rename_new, standing};
pub use exclude::{ExcludeError, Excludes};
pub use held::HeldFolder;
pub use listing::{Listed, Listing};
pub use metadata::{Identity, Metadata};
pub use read::{Change, Finished, OpenFile};
pub use recognise::{ClusterState, SQLITE_MAGIC, Special, SqliteUse, recognise, recognise_sqlite};
pub use walk::{Folder, Mark};
