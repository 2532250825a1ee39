//! Where the content of a database's parts comes from: whoever has the backup writes what is asked for.

use std::io::{self, Write};

use crate::parts::{LargeObjectPart, TablePart};

/// What is asked of whoever has the backup.
#[derive(Clone, Copy, Debug)]
pub enum Wanted<'a> {
    /// A table's rows, as [`Rows`](crate::Rows) gave them. Asked for only where the part has a digest.
    Rows(&'a TablePart),
    /// A large object's bytes.
    LargeObject(&'a LargeObjectPart),
}

impl Wanted<'_> {
    /// In words, for messages: `the rows of public.orders`.
    pub(crate) fn words(self) -> String {
        match self {
            Self::Rows(part) => format!("the rows of {}", part.path()),
            Self::LargeObject(part) => format!("the large object {}", part.oid),
        }
    }
}

/// Writes what is wanted, whole, in portions of any size. A restore calls it from several threads at once.
pub type PartSource<'a> = dyn Fn(Wanted<'_>, &mut dyn Write) -> io::Result<()> + Sync + 'a;
