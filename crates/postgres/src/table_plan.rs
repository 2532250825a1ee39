//! What is read of each table: which columns, which rows, in which order.
//!
//! The tables and columns are those that `pg_dump` reads. The order is by primary key where that costs the server
//! little, so that rows which were moved on disk are found again by whoever looks for what is known already; and an
//! order that was decided once is kept, because another one makes all rows new (docs/postgres.md).
//!
//! Invariant: nothing that somebody with fewer rights has written runs as us. So only tables are sorted whose owner has
//! our rights.

use std::collections::{HashMap, HashSet};

use crate::{
    asking::Ask,
    catalog::dumped,
    connect::QueryError,
    facts::{SourceFacts, Table},
    parts::TablePart,
};

/// Below this a table is sorted whatever its order on disk.
const SORTED_LEN_BYTES: u64 = 64 << 20;
/// From this on the rows of a large table are wide: to find one by its key costs the same for any, which is much beside
/// reading a narrow one.
const WIDE_ROW_LEN_BYTES: u64 = 64;
/// Below this a table that was sorted before is sorted again.
const STILL_SORTED_LEN_BYTES: u64 = 1 << 30;
/// From this on a large table lies in the order of its key.
const ORDERLY: f64 = 0.9;
/// From this on a large table that was sorted before still does.
const STILL_ORDERLY: f64 = 0.5;

/// Whether whoever owns a table could be us anyway: it is ours, or a superuser's, or of a member of our role.
///
/// `COPY` of a table runs nothing that its owner wrote. To sort, the server plans a query, and plans it as us: it works
/// out functions in what its indexes are limited to, which the owner may have exchanged for any other.
const OWNER_IS_TRUSTED: &str = "\
pg_catalog.pg_has_role(c.relowner, (SELECT r.oid FROM pg_catalog.pg_roles r WHERE r.rolname = current_user), 'MEMBER')";

/// The plain tables, which are those that have rows of their own.
const WITH_ROWS: &str = "'r'";

/// How a table lies on disk, as the server's statistics say.
#[derive(Clone, Copy, Debug)]
struct Layout {
    /// Of its key's first column with the order on disk.
    correlation: f64,
    /// How many rows it has, where that is known.
    rows: Option<u64>,
}

impl Layout {
    /// Whether the rows of a table of this size are wide; those that nobody counted are.
    fn is_wide(self, size_bytes: u64) -> bool {
        self.rows
            .is_none_or(|rows| size_bytes >= rows.saturating_mul(WIDE_ROW_LEN_BYTES))
    }
}

/// One table to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedTable {
    /// What is asked of the server; it has no digest yet.
    pub part: TablePart,
    /// Bytes of its rows on disk.
    pub size_bytes: u64,
    /// Whether its rows are left out.
    pub skipped: bool,
}

/// Why it is not known what to read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TablePlanError {
    /// There is no table of that name whose rows could be left out.
    #[error("there is no table \"{0}\" whose rows could be left out")]
    UnknownTable(String),
    /// A question was not answered.
    #[error(transparent)]
    Query(#[from] QueryError),
}

/// The tables whose rows `skip_data` leaves out, given as `schema.table`; a partitioned table stands for all its
/// partitions, and is among them.
pub(crate) fn skipped_tables<'a>(
    facts: &'a SourceFacts,
    skip_data: &[String],
) -> Result<Vec<&'a Table>, TablePlanError> {
    let mut skipped = Vec::new();
    for wanted in skip_data {
        let table = facts
            .tables
            .iter()
            .find(|table| table.path() == *wanted)
            .ok_or_else(|| TablePlanError::UnknownTable(wanted.clone()))?;
        let mut open = vec![table];
        while let Some(table) = open.pop() {
            skipped.push(table);
            open.extend(
                facts
                    .tables
                    .iter()
                    .filter(|part| part.partition_of == Some(table.oid)),
            );
        }
    }
    Ok(skipped)
}

/// Plans the tables of `facts` over the session that holds the moment of the facts.
pub(crate) fn plan_tables(
    connection: &dyn Ask,
    facts: &SourceFacts,
    skip_data: &[String],
    earlier: &[TablePart],
) -> Result<Vec<PlannedTable>, TablePlanError> {
    let skipped: HashSet<u32> = skipped_tables(facts, skip_data)?
        .into_iter()
        .map(|table| table.oid)
        .collect();
    let earlier: HashMap<(&str, &str), &TablePart> = earlier
        .iter()
        .map(|part| ((part.schema.as_str(), part.name.as_str()), part))
        .collect();
    let mut columns = texts(connection, "read the columns of the tables", &columns_sql())?;
    let mut keys = texts(connection, "read the primary keys", &keys_sql())?;
    let mut conditions = texts(
        connection,
        "read which rows of extensions are the user's",
        CONDITIONS_SQL,
    )?;
    let layouts = texts(connection, "read how the tables lie", &layouts_sql())?;
    let with_rows = facts.tables.iter().filter(|table| !table.partitioned);
    Ok(with_rows
        .map(|table| {
            let layout = layouts.get(&table.oid).and_then(|texts| layout(texts));
            let part = TablePart {
                schema: table.schema.clone(),
                name: table.name.clone(),
                columns: columns.remove(&table.oid).unwrap_or_default(),
                condition: conditions
                    .remove(&table.oid)
                    .and_then(|mut texts| texts.pop()),
                order: order(
                    keys.remove(&table.oid).unwrap_or_default(),
                    table.size_bytes,
                    layout,
                    earlier
                        .get(&(table.schema.as_str(), table.name.as_str()))
                        .map(|part| part.order.as_slice()),
                ),
                digest: None,
            };
            PlannedTable {
                part,
                size_bytes: table.size_bytes,
                // A standby has no rows of such a table and refuses to be asked for them.
                skipped: skipped.contains(&table.oid)
                    || (table.unlogged && facts.server.in_recovery),
            }
        })
        .collect())
}

/// By which columns a table with this primary key is sorted; `earlier` is by which it was.
fn order(
    key: Vec<String>,
    size_bytes: u64,
    layout: Option<Layout>,
    earlier: Option<&[String]>,
) -> Vec<String> {
    let costs_little = match earlier {
        // As it lies, it stays as it lies: to sort it would make all its rows new.
        Some([]) => false,
        Some(earlier) if earlier == key => {
            size_bytes < STILL_SORTED_LEN_BYTES
                || layout.is_some_and(|layout| layout.correlation >= STILL_ORDERLY)
        }
        _ => {
            size_bytes < SORTED_LEN_BYTES
                || layout.is_some_and(|layout| {
                    layout.correlation >= ORDERLY && layout.is_wide(size_bytes)
                })
        }
    };
    if costs_little { key } else { Vec::new() }
}

/// What a row of [`layouts_sql`] says, behind the table's number.
fn layout(texts: &[String]) -> Option<Layout> {
    let [correlation, rows] = texts else {
        return None;
    };
    Some(Layout {
        correlation: correlation.parse().ok()?,
        // A table that nobody counted has -1, before PostgreSQL 14 none.
        rows: rows.parse().ok().filter(|rows| *rows > 0),
    })
}

/// The values of a query's further columns, by the table's number in the first.
fn texts(
    connection: &dyn Ask,
    what: &str,
    sql: &str,
) -> Result<HashMap<u32, Vec<String>>, QueryError> {
    let mut texts: HashMap<u32, Vec<String>> = HashMap::new();
    for row in connection.rows(what, sql)? {
        let mut values = row.into_iter().flatten();
        let oid = values.next().and_then(|oid| oid.parse().ok());
        let oid = oid.ok_or_else(|| QueryError::shape(what))?;
        texts.entry(oid).or_default().extend(values);
    }
    Ok(texts)
}

fn columns_sql() -> String {
    format!(
        "SELECT a.attrelid, a.attname
           FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
          WHERE {} AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
          ORDER BY a.attrelid, a.attnum",
        dumped(WITH_ROWS)
    )
}

fn keys_sql() -> String {
    format!(
        "SELECT i.indrelid, a.attname
           FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indrelid
          CROSS JOIN LATERAL pg_catalog.unnest(i.indkey::pg_catalog.int2[]) WITH ORDINALITY AS k (attnum, place)
           JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
          WHERE {} AND i.indisprimary AND k.place <= i.indnkeyatts AND {OWNER_IS_TRUSTED}
          ORDER BY i.indrelid, k.place",
        dumped(WITH_ROWS)
    )
}

fn layouts_sql() -> String {
    format!(
        "SELECT c.oid, s.correlation, c.reltuples::pg_catalog.int8
           FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indrelid
           JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
           JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
           JOIN pg_catalog.pg_stats s ON s.schemaname = n.nspname AND s.tablename = c.relname
                                     AND s.attname = a.attname AND NOT s.inherited
          WHERE {} AND i.indisprimary AND s.correlation IS NOT NULL",
        dumped(WITH_ROWS)
    )
}

const CONDITIONS_SQL: &str = "\
SELECT x.oid, x.condition
  FROM pg_catalog.pg_extension e
 CROSS JOIN LATERAL ROWS FROM (pg_catalog.unnest(e.extconfig), pg_catalog.unnest(e.extcondition)) AS x (oid, condition)
 WHERE x.condition <> ''";

#[cfg(test)]
mod tests;
