//! Putting a tree back: exactly, and without making anything worse.
//!
//! A [`Target`] is one restore into one folder. Everything is created through handles of folders beneath it, under
//! names that are checked, without ever following a link; what stands there already is dealt with as [`Overwrite`]
//! says, and is replaced only when its successor is complete. Folders stay closed to everybody else (mode 0700) until
//! [`Target::finish`] gives them their metadata, deepest first. What could not be done is a [`Problem`], not silence.
//!
//! The order in which an object gets its metadata matters: data, owner (drops set-id bits and capabilities), mode,
//! access lists and other attributes, capabilities, times, and inode flags last (an immutable file takes nothing more).

// In the order of dependence: a module uses only those above it.
mod options;
mod problem;
mod target;
mod apply;
mod remove;
mod folder;
mod file;
mod other;
mod finish;

pub use file::{FileSlot, NewFile};
pub use folder::{Original, Outcome, Restored, TargetFolder};
pub use options::{IdMap, Overwrite, Owner, RestoreOptions};
pub use problem::{Problem, What};
pub use target::{FolderId, Target};

#[cfg(test)]
mod tests;
