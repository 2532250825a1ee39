//! Some tables out of an archive: which entries of its table of contents they need.
//!
//! `pg_restore --table` brings a table alone: no schema, no type, no index. Here the entries' own dependencies decide.
//! A partitioned table brings its partitions. Upwards comes whatever the tables cannot be made without: schemas, types,
//! functions in defaults, parents. Downwards comes what belongs to them and needs nothing else: rows, defaults,
//! sequences' values, indexes, keys, comments, grants. A foreign key to a table that is not chosen needs that table,
//! and is left out, as are triggers whose function nothing else brings.

use std::collections::{HashMap, HashSet};

use crate::{archive::ArchiveEntry, quote};

/// What is chosen, in the order of the archive.
pub(crate) struct Selection {
    /// The numbers of the entries.
    pub(crate) ids: Vec<i64>,
    /// What belongs to the tables and was left out, in words.
    pub(crate) left_out: Vec<String>,
    /// The tables whose rows come: those that were asked for and their partitions, and not what they merely need;
    /// by their names in SQL.
    pub(crate) with_rows: HashSet<String>,
}

/// The kinds of entry that a table can be.
pub(crate) const TABLES: [&str; 2] = ["TABLE", "FOREIGN TABLE"];

/// The kinds of entry that belong to a table; a view or a function that needs it does not.
const BELONGINGS: [&str; 18] = [
    "ACL",
    "CHECK CONSTRAINT",
    "COMMENT",
    "CONSTRAINT",
    "DEFAULT",
    "FK CONSTRAINT",
    "INDEX",
    "INDEX ATTACH",
    "POLICY",
    "ROW SECURITY",
    "RULE",
    "SECURITY LABEL",
    "SEQUENCE",
    "SEQUENCE OWNED BY",
    "SEQUENCE SET",
    "STATISTICS",
    "TABLE ATTACH",
    "TRIGGER",
];
const ROWS: &str = "TABLE DATA";

/// Chooses `tables`, given as `schema.table`; the error names one that is not there.
pub(crate) fn select(contents: &[ArchiveEntry], tables: &[String]) -> Result<Selection, String> {
    let by_id: HashMap<i64, &ArchiveEntry> =
        contents.iter().map(|entry| (entry.id, entry)).collect();
    let mut own = HashSet::new();
    for wanted in tables {
        let entry = contents
            .iter()
            .find(|entry| TABLES.contains(&entry.kind.as_str()) && path(entry) == *wanted)
            .ok_or_else(|| wanted.clone())?;
        own.insert(entry.id);
    }
    add_partitions(contents, &mut own);
    let with_rows = own.iter().filter_map(|id| by_id.get(id)).copied();
    let with_rows = with_rows.map(key).collect();
    let mut chosen = HashSet::new();
    let mut open: Vec<i64> = own.iter().copied().collect();
    while let Some(id) = open.pop() {
        if let Some(entry) = by_id.get(&id)
            && chosen.insert(id)
        {
            open.extend(&entry.needs);
        }
    }
    // An entry may hang on another that hangs on a table (a sequence's value on the sequence), in any order.
    let mut left_out = Vec::new();
    loop {
        let before = chosen.len();
        left_out.clear();
        for entry in contents {
            let belongs = entry.kind == ROWS || BELONGINGS.contains(&entry.kind.as_str());
            if !belongs
                || chosen.contains(&entry.id)
                || !entry.needs.iter().any(|need| own.contains(need))
            {
                continue;
            }
            // What the archive does not hold is there already: the server's own objects.
            let lacks = |need: &i64| by_id.contains_key(need) && !chosen.contains(need);
            if entry.needs.iter().any(lacks) {
                left_out.push(format!("{} {}", entry.kind, path(entry)));
            } else {
                chosen.insert(entry.id);
                own.insert(entry.id);
            }
        }
        if chosen.len() == before {
            break;
        }
    }
    Ok(Selection {
        ids: contents
            .iter()
            .map(|entry| entry.id)
            .filter(|id| chosen.contains(id))
            .collect(),
        left_out,
        with_rows,
    })
}

/// The tables that can be chosen.
pub(crate) fn tables<'a>(contents: impl IntoIterator<Item = &'a ArchiveEntry>) -> Vec<String> {
    contents
        .into_iter()
        .filter(|entry| TABLES.contains(&entry.kind.as_str()))
        .map(path)
        .collect()
}

/// Adds the partitions of partitioned tables, of every depth. An entry `TABLE ATTACH` is named for the partition and
/// needs both it and its parent.
fn add_partitions(contents: &[ArchiveEntry], own: &mut HashSet<i64>) {
    let attachments: Vec<(i64, &ArchiveEntry)> = contents
        .iter()
        .filter(|entry| entry.kind == "TABLE ATTACH")
        .filter_map(|attachment| {
            let partition = contents.iter().find(|entry| {
                TABLES.contains(&entry.kind.as_str()) && path(entry) == path(attachment)
            })?;
            Some((partition.id, attachment))
        })
        .collect();
    loop {
        let before = own.len();
        for (partition, attachment) in &attachments {
            if attachment
                .needs
                .iter()
                .any(|need| need != partition && own.contains(need))
            {
                own.insert(*partition);
            }
        }
        if own.len() == before {
            break;
        }
    }
}

/// `public.orders`, as configuration names tables.
pub(crate) fn path(entry: &ArchiveEntry) -> String {
    match entry.schema() {
        Some(schema) => format!("{schema}.{}", entry.name),
        None => entry.name.clone(),
    }
}

/// What no other object of its kind is called, in SQL.
pub(crate) fn key(entry: &ArchiveEntry) -> String {
    quote::qualified(entry.schema().unwrap_or_default(), &entry.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(id: i64, kind: &str, name: &str, needs: &[i64]) -> ArchiveEntry {
        ArchiveEntry {
            id,
            kind: kind.to_owned(),
            schema: Some("public".to_owned()),
            name: name.to_owned(),
            needs: needs.to_vec(),
            ..ArchiveEntry::default()
        }
    }

    #[test]
    fn a_table_brings_what_it_needs_and_what_belongs_to_it_and_no_other_table() {
        let contents = [
            entry(1, "TYPE", "mood", &[]),
            entry(2, "TABLE", "orders", &[1, 99]),
            entry(3, "TABLE", "customers", &[]),
            entry(4, "SEQUENCE", "orders_id_seq", &[2]),
            entry(5, "TABLE DATA", "orders", &[2]),
            entry(6, "TABLE DATA", "customers", &[3]),
            entry(7, "SEQUENCE SET", "orders_id_seq", &[4]),
            entry(8, "CONSTRAINT", "orders orders_pkey", &[2]),
            entry(9, "FK CONSTRAINT", "orders to customers", &[2, 3]),
            entry(10, "COMMENT", "orders_pkey", &[8]),
            entry(11, "TYPE", "unused", &[]),
            entry(12, "VIEW", "all_orders", &[2]),
            entry(13, "COMMENT", "VIEW all_orders", &[12]),
        ];
        let selection = select(&contents, &["public.orders".to_owned()]).unwrap();
        assert_eq!(selection.ids, [1, 2, 4, 5, 7, 8, 10]);
        assert_eq!(
            selection.left_out,
            ["FK CONSTRAINT public.orders to customers"]
        );
        let both = ["public.orders".to_owned(), "public.customers".to_owned()];
        assert_eq!(select(&contents, &both).unwrap().ids.len(), 10);
    }

    #[test]
    fn a_partitioned_table_brings_its_partitions_and_a_partition_comes_alone() {
        let contents = [
            entry(1, "TABLE", "log", &[]),
            entry(2, "TABLE", "log_1", &[]),
            entry(3, "TABLE", "log_1_a", &[]),
            entry(4, "TABLE ATTACH", "log_1", &[1, 2]),
            entry(5, "TABLE ATTACH", "log_1_a", &[3, 2]),
            entry(6, "TABLE DATA", "log_1_a", &[3]),
        ];
        let chosen = |table: &str| select(&contents, &[table.to_owned()]).unwrap().ids;
        assert_eq!(chosen("public.log"), [1, 2, 3, 4, 5, 6]);
        assert_eq!(chosen("public.log_1_a"), [3, 6]);
    }

    #[test]
    fn circles_end_and_unknown_tables_are_named() {
        let contents = [
            entry(1, "TABLE", "a", &[2]),
            entry(2, "FUNCTION", "f", &[1]),
        ];
        assert_eq!(
            select(&contents, &["public.a".to_owned()]).unwrap().ids,
            [1, 2]
        );
        assert_eq!(
            select(&contents, &["a".to_owned()]).err(),
            Some("a".to_owned())
        );
    }
}
