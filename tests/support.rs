//! What the tests share: a run of the program in surroundings of its own, and trees of files to back up.

pub(crate) mod program;
pub(crate) mod reader;
pub(crate) mod trees;
