//! What a database consists of in a snapshot when its rows are streams of their own: plain data, for a manifest to keep.
//!
//! The native engine makes these while it reads; a restore and a dump put the database together from them and hold
//! what they did against them. How the parts lie in a snapshot is not this crate's business (docs/postgres.md).

use crate::quote;

/// One table's rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TablePart {
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// The columns that are stored, in the order in which a line has them.
    pub columns: Vec<String>,
    /// The SQL condition, beginning with `WHERE`, that an extension sets for its configuration table.
    pub condition: Option<String>,
    /// The columns of the key by which the rows are sorted; none for rows as they lie.
    pub order: Vec<String>,
    /// What was read; nothing where the rows were left out.
    pub digest: Option<Digest>,
}

/// What identifies the rows of a table, in whatever order they stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Digest {
    /// How many.
    pub rows: u64,
    /// Bytes of their lines, newlines included.
    pub len_bytes: u64,
    /// The sum modulo 2^128 of each line's SipHash.
    pub sum: u128,
}

/// A sequence's state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SequencePart {
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// The value given last, or to be given first.
    pub last_value: i64,
    /// Whether `last_value` has been given.
    pub is_called: bool,
}

/// A large object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LargeObjectPart {
    /// Its number in the database.
    pub oid: u32,
    /// Bytes of its content.
    pub len_bytes: u64,
    /// The keyed BLAKE3 of its content.
    pub hash: [u8; 32],
}

/// All of a database but its schema.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parts {
    /// The tables that can have rows: partitions, not what they are partitions of.
    pub tables: Vec<TablePart>,
    /// The sequences.
    pub sequences: Vec<SequencePart>,
    /// The large objects, by number.
    pub large_objects: Vec<LargeObjectPart>,
}

impl TablePart {
    /// `public.orders`, as configuration names tables.
    pub fn path(&self) -> String {
        format!("{}.{}", self.schema, self.name)
    }

    /// What no other table is called, in SQL: the path of `"a.b".c` is that of `a."b.c"` too.
    pub(crate) fn key(&self) -> String {
        quote::qualified(&self.schema, &self.name)
    }
}

impl SequencePart {
    /// `public.orders_id_seq`.
    pub fn path(&self) -> String {
        format!("{}.{}", self.schema, self.name)
    }
}

impl Digest {
    /// What identifies the rows of both.
    pub fn plus(&self, other: &Self) -> Self {
        Self {
            rows: self.rows + other.rows,
            len_bytes: self.len_bytes + other.len_bytes,
            sum: self.sum.wrapping_add(other.sum),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digester;

    #[test]
    fn the_digests_of_two_halves_are_together_that_of_the_whole() {
        let digest = |bytes: &[u8]| {
            let mut digester = Digester::new(&[7; 32]);
            digester.feed(bytes);
            digester.finish().unwrap()
        };
        let lines: Vec<String> = (0..200).map(|at| format!("{at}\tx\n")).collect();
        let (one, other) = (lines[..77].concat(), lines[77..].concat());
        let together = digest(one.as_bytes()).plus(&digest(other.as_bytes()));
        assert_eq!(together, digest(lines.concat().as_bytes()));
        assert_eq!(together.plus(&Digest::default()), together);
    }
}
