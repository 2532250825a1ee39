//! What is a partition of what, read off an archive's table of contents.

use std::collections::HashMap;

use crate::archive::ArchiveEntry;

/// `pg_class.relkind` of a partitioned table.
pub(crate) const PARTITIONED: i64 = b'p' as i64;

/// Whether it is a table that has partitions, and no rows of its own.
pub(crate) fn is_partitioned(entry: &ArchiveEntry) -> bool {
    entry.relation_kind == PARTITIONED || defines(entry, "\nPARTITION BY ")
}

fn defines(entry: &ArchiveEntry, text: &str) -> bool {
    let definition = entry.definition.as_deref();
    definition.is_some_and(|definition| definition.contains(text))
}

/// For each partition what it is a partition of.
pub(crate) struct Partitions<'e> {
    parents: HashMap<i64, &'e ArchiveEntry>,
}

impl<'e> Partitions<'e> {
    /// Of the entries that are told, others being no partitions.
    pub(crate) fn of(entries: &[&'e ArchiveEntry]) -> Self {
        let of_kind = |kind: &'static str| {
            let entries = entries.iter().copied();
            entries.filter(move |entry| entry.kind == kind)
        };
        let tables: HashMap<_, _> = of_kind("TABLE")
            .map(|entry| ((entry.schema(), entry.name.as_str()), entry))
            .collect();
        let by_id: HashMap<i64, &ArchiveEntry> =
            tables.values().map(|entry| (entry.id, *entry)).collect();
        // An entry `TABLE ATTACH` is named for the partition and needs both it and its parent.
        let attached = |entry: &ArchiveEntry| {
            let partition = tables.get(&(entry.schema(), entry.name.as_str()))?;
            let mut needs = entry.needs.iter().filter(|need| **need != partition.id);
            Some((partition.id, *needs.find_map(|need| by_id.get(need))?))
        };
        Self {
            parents: of_kind("TABLE ATTACH").filter_map(attached).collect(),
        }
    }

    /// The partitioned tables above a table, the next one first.
    pub(crate) fn above(&self, table: &ArchiveEntry) -> impl Iterator<Item = &'e ArchiveEntry> {
        let next = |entry: &&'e ArchiveEntry| self.parents.get(&entry.id).copied();
        // As many steps as there are partitions, so that a circle ends.
        std::iter::successors(self.parents.get(&table.id).copied(), next).take(self.parents.len())
    }

    /// The topmost partitioned table, when rows find their partition by a hash somewhere on the way.
    ///
    /// A hash need not be the same elsewhere: that of an enum's value depends on numbers that the new database gives,
    /// others on the machine. A row would be refused by the partition that it came from; from the top it finds its place.
    pub(crate) fn root_of_hashes(&self, table: &ArchiveEntry) -> Option<&'e ArchiveEntry> {
        let hashed = |parent: &ArchiveEntry| defines(parent, "\nPARTITION BY HASH (");
        self.above(table)
            .any(hashed)
            .then(|| self.above(table).last())
            .flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(id: i64, kind: &str, name: &str, definition: &str, needs: &[i64]) -> ArchiveEntry {
        ArchiveEntry {
            id,
            kind: kind.to_owned(),
            name: name.to_owned(),
            definition: Some(definition.to_owned()),
            schema: Some("public".to_owned()),
            needs: needs.to_vec(),
            ..ArchiveEntry::default()
        }
    }

    #[test]
    fn below_a_hash_rows_belong_to_the_topmost_table_and_elsewhere_to_their_own() {
        let entries = [
            entry(1, "TABLE", "top", "x\nPARTITION BY RANGE (a);", &[]),
            entry(2, "TABLE", "middle", "x\nPARTITION BY HASH (b);", &[]),
            entry(3, "TABLE", "hashed", "x;", &[]),
            entry(4, "TABLE", "ranged", "x;", &[]),
            entry(5, "TABLE ATTACH", "middle", "", &[1, 2]),
            entry(6, "TABLE ATTACH", "hashed", "", &[3, 2]),
            entry(7, "TABLE ATTACH", "ranged", "", &[1, 4]),
        ];
        let entries: Vec<&ArchiveEntry> = entries.iter().collect();
        let partitions = Partitions::of(&entries);
        let root = |at: usize| {
            let root = partitions.root_of_hashes(entries[at]);
            root.map(|root| root.name.as_str())
        };
        assert_eq!((root(2), root(3), root(0)), (Some("top"), None, None));
        let above: Vec<_> = partitions.above(entries[2]).map(|entry| entry.id).collect();
        assert_eq!(above, [2, 1]);
        assert!(is_partitioned(entries[0]) && !is_partitioned(entries[2]));
    }
}
