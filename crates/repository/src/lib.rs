//! One repository: open, keys, write and read streams, the index, commit, check, copy.
//!
//! Knows nothing of file systems or databases. Modules stand in the order in which they build on each other.

mod progress;
mod finding;
mod parallel;
mod surroundings;
mod state;
mod cache;
mod basis;
mod place;
mod table;
mod lookup;
mod near;
mod repository;
mod index;
mod reader;
mod stored_tree;
mod write_error;
mod packs;
mod known;
mod writer;
mod reachable;
mod snapshots;
mod commit;
mod source_memory;
mod keys;
mod verify;
mod check;
mod copy;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod leak_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod nights_tests;

pub use basis::Basis;
pub use check::{CheckOptions, CheckReport, ReadData, check};
pub use commit::{Committed, Contents, Draft};
pub use copy::{CopyError, CopyReport, copy};
pub use finding::{Concerns, Finding, Severity};
pub use keys::{CreateError, Created, KeyError, ListedSlot, NewSecret};
pub use progress::{Counter, Progress, Silent};
pub use reader::{ChunkReader, Deliver, Kept, Reader, StreamError, Wanted};
pub use repository::{OpenError, ReadError, Repository, Unlock};
pub use snapshots::{Missing, NoteList, ReportSignature, Snapshot, SnapshotList, Stored};
pub use source_memory::{NewMemory, SourceMemory};
pub use state::{Anchor, Chain, State, StateError};
pub use stored_tree::{FOLDER_DEPTH_MAX, StoredTree};
pub use surroundings::{Surroundings, SystemEntropy};
pub use verify::{Verification, verify_store};
pub use write_error::WriteError;
pub use writer::{Added, Lane, MetaStream, Source, Tasks, Writer, work};
