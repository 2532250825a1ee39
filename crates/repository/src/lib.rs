//! One repository: open, keys, write and read streams, the index, commit, check, copy.
//!
//! Knows nothing of file systems or databases.

mod progress;

pub use progress::{Counter, Progress, Silent};
