//! Which migrations an SQLite database has had.
//!
//! Invariant: to look leaves nothing beside the database, neither what a live one keeps there nor what it does not.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use rusqlite::types::Value;
use rusqlite::{Connection, OpenFlags};

use super::super::beside::read_only;
use super::super::place::with_ending;
use super::{Applied, Row, applied, pairs, tables};

/// Where the head of a database says that changes go to a `-wal` file, and how.
const VERSION_AT: usize = 18;
const VERSION_WAL: u8 = 2;

/// What a database has had. `at_rest` is one that nobody writes to.
pub(in super::super) fn of_sqlite(path: &Path, at_rest: bool) -> rusqlite::Result<Applied> {
    let database = if at_rest || is_whole_in_one_file(path) {
        read_only(path)?
    } else {
        Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?
    };
    let sql = format!(
        "SELECT '\"' || name || '\"', name FROM sqlite_master WHERE type = 'table' AND name IN ({}) ORDER BY 1",
        tables()
    );
    let found = ask(&database, &sql)?;
    Ok(applied(&pairs(found), |sql| ask(&database, sql).ok()))
}

/// Whether all of a live database is in its file, and whoever opens it to read would make files that are not there: so it
/// is with one whose changes go to a `-wal`, while nobody has it open.
fn is_whole_in_one_file(path: &Path) -> bool {
    let mut head = [0; VERSION_AT + 1];
    let read = File::open(path).and_then(|mut file| file.read_exact(&mut head));
    read.is_ok() && head[VERSION_AT] == VERSION_WAL && !with_ending(path, "-wal").exists()
}

fn ask(database: &Connection, sql: &str) -> rusqlite::Result<Vec<Row>> {
    let mut statement = database.prepare(sql)?;
    let columns = statement.column_count();
    let text = |value: Value| match value {
        Value::Null | Value::Blob(_) => None,
        Value::Integer(number) => Some(number.to_string()),
        Value::Real(number) => Some(number.to_string()),
        Value::Text(text) => Some(text),
    };
    let rows = statement.query_map([], |row| {
        (0..columns)
            .map(|column| Ok(text(row.get(column)?)))
            .collect()
    })?;
    rows.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_looks_leaves_nothing_and_sees_what_is_not_in_the_file_yet() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("app.db");
        let names = || {
            let entries = std::fs::read_dir(folder.path()).unwrap();
            let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
            names.sort();
            names
        };
        let versions = || {
            let found = of_sqlite(&path, false).unwrap();
            found[0].2.iter().cloned().collect::<Vec<_>>()
        };
        let app = Connection::open(&path).unwrap();
        app.execute_batch(
            "CREATE TABLE schema_migrations (version); INSERT INTO schema_migrations VALUES ('1')",
        )
        .unwrap();
        assert_eq!((versions(), names().len()), (vec!["1".to_owned()], 1));
        app.execute_batch("PRAGMA journal_mode = wal; INSERT INTO schema_migrations VALUES (2)")
            .unwrap();
        let before = names();
        assert_eq!(versions(), ["1", "2"]);
        assert_eq!(names(), before);
        drop(app);
        assert_eq!((versions().len(), names().len()), (2, 1));
    }
}
