//! Whether what an archive has is there after it was restored by way of another program.
//!
//! There an exit status of 0 and silence may be that program's and not `pg_restore`'s. `pg_restore` makes indexes and
//! constraints after all rows, stops at the first error, and where there are few objects does all in one transaction. So who
//! finds all relations and all constraints finds the rows that came before them too.

use crate::{archive::ArchiveEntry, asking::Ask, connect::QueryError, quote};

/// The kinds of entries that are rows of `pg_class`, by their own names.
const RELATIONS: [&str; 6] = [
    "TABLE",
    "VIEW",
    "MATERIALIZED VIEW",
    "SEQUENCE",
    "INDEX",
    "FOREIGN TABLE",
];
/// Those that are constraints, whose entries have the table's name and a space before theirs.
const CONSTRAINTS: [&str; 2] = ["CONSTRAINT", "FK CONSTRAINT"];

const RELATIONS_THERE: &str = "SELECT n.nspname, c.relname
   FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace";
const CONSTRAINTS_THERE: &str = "SELECT n.nspname, pg_catalog.concat(c.relname, ' ', k.conname)
   FROM pg_catalog.pg_constraint k JOIN pg_catalog.pg_class c ON c.oid = k.conrelid
        JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace";

/// Schema and name, as entries have them.
type Name = (String, String);

/// What is to be there.
pub(crate) struct Arriving {
    relations: Vec<Name>,
    constraints: Vec<Name>,
}

impl Arriving {
    /// All of an archive.
    pub(crate) fn of(contents: &[ArchiveEntry]) -> Self {
        let names = |kinds: &[&str]| {
            let entries = contents.iter();
            entries
                .filter(|entry| kinds.contains(&entry.kind.as_str()))
                .filter_map(|entry| Some((entry.schema()?.to_owned(), entry.name.clone())))
                .collect()
        };
        Self {
            relations: names(&RELATIONS),
            constraints: names(&CONSTRAINTS),
        }
    }

    /// How many of these are not there, and the first of them.
    pub(crate) fn lacking(&self, session: &dyn Ask) -> Result<Option<(usize, String)>, QueryError> {
        let mut all = lacking(session, &self.relations, RELATIONS_THERE)?;
        all.extend(lacking(session, &self.constraints, CONSTRAINTS_THERE)?);
        let first = all.first().map(|(schema, name)| format!("{schema}.{name}"));
        Ok(first.map(|first| (all.len(), first)))
    }
}

/// Those of the wanted that a query does not give.
fn lacking(session: &dyn Ask, wanted: &[Name], query: &str) -> Result<Vec<Name>, QueryError> {
    const WHAT: &str = "look for what was restored";
    let mut found = Vec::new();
    // One statement is of a length that every server takes.
    for portion in wanted.chunks(500) {
        let rows: Vec<String> = portion
            .iter()
            .map(|(schema, name)| format!("({}, {})", quote::literal(schema), quote::literal(name)))
            .collect();
        let sql = format!("VALUES {} EXCEPT {query}", rows.join(", "));
        for row in session.rows(WHAT, &sql)? {
            let [Some(schema), Some(name)] = &row[..] else {
                return Err(QueryError::shape(WHAT));
            };
            found.push((schema.clone(), name.clone()));
        }
    }
    Ok(found)
}
