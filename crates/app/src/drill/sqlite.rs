//! The SQLite databases of a drill: whole, and their rows counted.

use std::fs;

use rusqlite::Connection;
use rusqlite::types::Value;

use super::{At, Done, Drill, DrilledDatabase, DrilledTable, Restored};
use crate::sqlite::{open_read_only, quoted, verdict};

/// What SQLite says of a database.
struct Found {
    verdict: String,
    tables: Vec<DrilledTable>,
    /// Tables that this SQLite cannot read, for they are some extension's.
    foreign: Vec<String>,
    /// Rows whose foreign keys name nothing.
    dangling: u64,
    keys: u64,
}

impl Drill<'_> {
    /// Examines all of them.
    pub(super) fn sqlite(&mut self) -> Done<()> {
        let mut done = Ok(());
        for source in self.names("sqlite") {
            let one = self.step(format!("Checking the database {source}"), |drill| {
                drill.sqlite_one(&source)
            });
            done = super::worse(done, one);
        }
        done
    }

    fn sqlite_one(&mut self, source: &str) -> Done<((), String)> {
        let folder = self.scratch.files().join(source);
        let mut files = fs::read_dir(&folder).into_iter().flatten().flatten();
        let Some(path) = files.next().map(|entry| entry.path()) else {
            return Err(self.problem(format!("the database {source} did not come back")));
        };
        let found = match open_read_only(&path).and_then(|database| examine(&database)) {
            Ok(found) => found,
            Err(error) => {
                return Err(self.problem(format!("SQLite cannot read {source}: {error}")));
            }
        };
        if found.verdict != "ok" {
            return Err(self.problem(format!("SQLite finds {source} damaged: {}", found.verdict)));
        }
        if found.dangling > 0 {
            self.warning(format!(
                "{source}: foreign keys of {} rows name rows that are not there; SQLite holds them only where a program asks.",
                found.dangling
            ));
        }
        for table in found.foreign {
            self.warning(format!(
                "{source}: the table {table} needs an extension, and its rows were not counted."
            ));
        }
        let rows = found.tables.iter().map(|table| table.rows).sum();
        let result = format!("whole, with {rows} rows in {} tables", found.tables.len());
        self.report.databases.push(DrilledDatabase {
            source: source.to_owned(),
            kind: "sqlite".to_owned(),
            server: format!("SQLite {}", rusqlite::version()),
            rows,
            tables: Some(found.tables),
            foreign_keys: found.keys,
            // The file as a whole came out of chunks that were held against their ids.
            hashes_equal: true,
        });
        self.restored.push(Restored {
            source: source.to_owned(),
            at: At::Sqlite(path),
        });
        Ok(((), result))
    }
}

/// The answer to a statement that has to give one row with one value.
pub(super) fn only_value(database: &Connection, sql: &str) -> Result<Value, String> {
    let asked = || -> rusqlite::Result<Option<Value>> {
        let mut statement = database.prepare(sql)?;
        let is_one_column = statement.column_count() == 1;
        let mut rows = statement.query([])?;
        let first = rows.next()?.map(|row| row.get(0)).transpose()?;
        let is_only = rows.next()?.is_none();
        Ok(first.filter(|_| is_one_column && is_only))
    };
    let value = asked().map_err(|error| error.to_string())?;
    value.ok_or_else(|| "the answer is not one row with one value".to_owned())
}

fn examine(database: &Connection) -> rusqlite::Result<Found> {
    let mut found = Found {
        verdict: verdict(database)?,
        tables: Vec::new(),
        foreign: Vec::new(),
        dangling: 0,
        keys: 0,
    };
    if found.verdict != "ok" {
        return Ok(found);
    }
    let mut statement = database.prepare(
        "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY name",
    )?;
    let names: Vec<String> = statement
        .query_map([], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    for name in names {
        let sql = format!("SELECT count(*) FROM {}", quoted(&name));
        let Ok(rows) = database.query_row(&sql, [], |row| row.get::<_, i64>(0)) else {
            found.foreign.push(name);
            continue;
        };
        let keys = "SELECT count(DISTINCT id) FROM pragma_foreign_key_list(?1)";
        let keys: i64 = database.query_row(keys, [&name], |row| row.get(0))?;
        found.keys += u64::try_from(keys).unwrap_or(0);
        found.tables.push(DrilledTable {
            table: name,
            rows: u64::try_from(rows).unwrap_or(0),
            expected: None,
        });
    }
    if found.foreign.is_empty() && found.keys > 0 {
        let mut statement = database.prepare("PRAGMA foreign_key_check")?;
        let mut rows = statement.query([])?;
        while rows.next()?.is_some() {
            found.dangling += 1;
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_one_row_with_one_value() {
        let database = Connection::open_in_memory().unwrap();
        assert_eq!(only_value(&database, "SELECT 1 < 2"), Ok(Value::Integer(1)));
        assert_eq!(only_value(&database, "SELECT NULL"), Ok(Value::Null));
        for sql in [
            "SELECT 1 UNION ALL SELECT 0",
            "SELECT 1, 0",
            "SELECT 1 WHERE 0",
            "",
            "SELECT 1; SELECT 0",
        ] {
            assert!(only_value(&database, sql).is_err(), "{sql}");
        }
    }
}
