//! Which migrations of its app a database has had, and how two databases compare.
//!
//! Each of the usual tools keeps a table of what was applied. A restored database that has had fewer than the one that it
//! replaces is brought up by the app's own command; one that has had more may be too new for the app's code.

use std::collections::BTreeSet;
use std::io::{self, Write};

use lifeboat_postgres::{Connection, CopyField, CopyFields, TablePart, Wanted};
use lifeboat_repository::{Repository, Snapshot};

use super::SwapError;
use crate::database::DatabaseError;
use crate::stored::{Form, StoredDatabase, StoredError, StoredParts};

/// One row, every value as text.
pub(super) type Row = Vec<Option<String>>;

/// A tool, and the table in which it keeps what was applied.
struct Tool {
    name: &'static str,
    table: &'static str,
    /// What identifies a migration, and which rows count. Both are SQL of PostgreSQL and SQLite alike.
    select: &'static str,
    rows: &'static str,
    /// The columns that `of_row` is given, which says the same of a row as it is stored.
    columns: &'static [&'static str],
    of_row: fn(&[Option<&str>]) -> Option<String>,
    /// It keeps only what was applied last, which has no order.
    keeps_heads: bool,
    command: &'static str,
}

const TOOLS: [Tool; 5] = [
    Tool {
        name: "Django",
        table: "django_migrations",
        select: "app || '.' || name",
        rows: "true",
        columns: &["app", "name"],
        of_row: |row| Some(format!("{}.{}", row[0]?, row[1]?)),
        keeps_heads: false,
        command: "python manage.py migrate",
    },
    Tool {
        name: "Rails",
        table: "schema_migrations",
        select: "version",
        rows: "true",
        columns: &["version"],
        of_row: |row| row[0].map(str::to_owned),
        keeps_heads: false,
        command: "bin/rails db:migrate",
    },
    Tool {
        name: "Alembic",
        table: "alembic_version",
        select: "version_num",
        rows: "true",
        columns: &["version_num"],
        of_row: |row| row[0].map(str::to_owned),
        keeps_heads: true,
        command: "alembic upgrade head",
    },
    Tool {
        name: "Flyway",
        table: "flyway_schema_history",
        select: "coalesce(version, description)",
        rows: "success",
        columns: &["version", "description", "success"],
        of_row: |row| {
            let named = row[0].or(row[1]).map(str::to_owned);
            named.filter(|_| row[2] == Some("t"))
        },
        keeps_heads: false,
        command: "flyway migrate",
    },
    Tool {
        name: "Prisma",
        table: "_prisma_migrations",
        select: "migration_name",
        rows: "finished_at IS NOT NULL AND rolled_back_at IS NULL",
        columns: &["migration_name", "finished_at", "rolled_back_at"],
        of_row: |row| {
            let is_applied = row[1].is_some() && row[2].is_none();
            row[0].filter(|_| is_applied).map(str::to_owned)
        },
        keeps_heads: false,
        command: "npx prisma migrate deploy",
    },
];

/// How the restored database stands to the one that it replaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Migrated {
    /// The same migrations.
    Equal,
    /// It lacks some.
    Older,
    /// It has some that the other one lacks.
    Newer,
    /// It has others, which have no order.
    Other,
}

/// What was found out about one table of migrations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Migrations {
    /// The tool that keeps it.
    pub tool: &'static str,
    /// How the restored database stands.
    pub migrated: Migrated,
    /// The same as a sentence, with what to do; empty where they are equal.
    pub sentence: String,
}

/// What one database has had, by tool and place of the table.
pub(super) type Applied = Vec<(usize, String, BTreeSet<String>)>;

/// The names of the tables, for a query.
pub(super) fn tables() -> String {
    let names: Vec<String> = TOOLS
        .iter()
        .map(|tool| format!("'{}'", tool.table))
        .collect();
    names.join(", ")
}

/// What a database has had. `found` are its tables: a name as SQL, and as [`tables`] has it; `ask` runs a query. A table
/// that has not the columns is another tool's, and is passed over.
pub(super) fn applied(
    found: &[(String, String)],
    mut ask: impl FnMut(&str) -> Option<Vec<Row>>,
) -> Applied {
    let mut applied = Applied::new();
    for (place, name) in found {
        let Some(tool) = TOOLS.iter().position(|tool| tool.table == name) else {
            continue;
        };
        let Tool { select, rows, .. } = TOOLS[tool];
        let sql = format!("SELECT {select} FROM {place} WHERE {rows}");
        if let Some(rows) = ask(&sql) {
            let set = rows.into_iter().flatten().flatten().collect();
            applied.push((tool, place.clone(), set));
        }
    }
    applied
}

/// What a PostgreSQL database has had.
pub(super) fn of_postgres(session: &Connection) -> Result<Applied, SwapError> {
    let sql = format!(
        "SELECT pg_catalog.format('%I.%I', n.nspname, c.relname), c.relname
           FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
          WHERE c.relkind IN ('r', 'p') AND c.relname IN ({}) ORDER BY 1",
        tables()
    );
    let rows = session
        .rows("look for tables of migrations", &sql)
        .map_err(lifeboat_postgres::SwapError::from)?;
    let ask = |sql: &str| session.rows("read the migrations", sql).ok();
    Ok(applied(&pairs(rows), ask))
}

pub(super) fn pairs(rows: Vec<Row>) -> Vec<(String, String)> {
    let pair = |row: Row| {
        let mut values = row.into_iter().flatten();
        Some((values.next()?, values.next()?))
    };
    rows.into_iter().filter_map(pair).collect()
}

/// What a PostgreSQL database of a snapshot had had. Only of rows that are streams of their own, of which a few are read
/// here; an archive would have to be read as a whole.
pub(super) fn of_snapshot(
    repository: &Repository,
    snapshot: &Snapshot,
    source: &str,
) -> Result<Applied, SwapError> {
    let mut applied = Applied::new();
    let stored = StoredDatabase::find(repository, snapshot, Some(source))
        .map_err(|error| SwapError::Database(error.into()))?;
    let Form::Parts(parts) = &stored.form else {
        return Ok(applied);
    };
    for part in parts
        .parts
        .tables
        .iter()
        .filter(|part| part.digest.is_some())
    {
        let Some(tool) = TOOLS.iter().position(|tool| tool.table == part.name) else {
            continue;
        };
        let at = |column: &&str| part.columns.iter().position(|known| known == column);
        let columns: Option<Vec<usize>> = TOOLS[tool].columns.iter().map(at).collect();
        // Another tool's table.
        let Some(columns) = columns else { continue };
        let mut rows = Rows {
            fields: CopyFields::new(&columns),
            of_row: TOOLS[tool].of_row,
            found: BTreeSet::new(),
        };
        read(&stored, parts, part, &mut rows)?;
        let place = format!("{}.{}", identifier(&part.schema), part.name);
        applied.push((tool, place, rows.found));
    }
    Ok(applied)
}

fn read(
    stored: &StoredDatabase<'_>,
    parts: &StoredParts,
    part: &TablePart,
    rows: &mut Rows,
) -> Result<(), SwapError> {
    let read = stored.write(parts, Wanted::Rows(part), rows);
    let read = read.map_err(|error| DatabaseError::from(StoredError::Temporary(error)));
    Ok(parts.judge(read)?)
}

/// As the server's `%I` writes an ordinary name; another one is compared when it has been restored.
fn identifier(name: &str) -> String {
    let is_plain =
        |letter: u8| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == b'_';
    if name.bytes().all(is_plain) {
        name.to_owned()
    } else {
        format!("\"{}\"", name.replace('"', "\"\""))
    }
}

/// Rows of a snapshot on their way past.
struct Rows {
    fields: CopyFields,
    of_row: fn(&[Option<&str>]) -> Option<String>,
    found: BTreeSet<String>,
}

impl Write for Rows {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Self {
            fields,
            of_row,
            found,
        } = self;
        fields.feed(bytes, &mut |row: &[CopyField]| {
            let values: Vec<Option<&str>> = row
                .iter()
                .map(|field| {
                    std::str::from_utf8(&field.text)
                        .ok()
                        .filter(|_| !field.null)
                })
                .collect();
            found.extend(of_row(&values));
        });
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Compares what was restored with what is there.
pub(super) fn compare(source: &str, restored: &Applied, there: &Applied) -> Vec<Migrations> {
    let mut found = Vec::new();
    for (tool, place, ours) in restored {
        let same =
            |known: &&(usize, String, BTreeSet<String>)| known.0 == *tool && known.1 == *place;
        if let Some((_, _, theirs)) = there.iter().find(same) {
            found.push(one(source, &TOOLS[*tool], ours, theirs));
        }
    }
    found
}

fn one(
    source: &str,
    tool: &Tool,
    ours: &BTreeSet<String>,
    theirs: &BTreeSet<String>,
) -> Migrations {
    let Tool { name, command, .. } = tool;
    let lacks: Vec<&str> = theirs.difference(ours).map(String::as_str).collect();
    let more: Vec<&str> = ours.difference(theirs).map(String::as_str).collect();
    // Where only one row is kept, it says as little of the order.
    let is_head = tool.keeps_heads || (ours.len() == 1 && theirs.len() == 1);
    let (migrated, sentence) = match (&lacks[..], &more[..]) {
        ([], []) => (Migrated::Equal, String::new()),
        (lacks, more) if is_head => (
            Migrated::Other,
            format!(
                "{source} is at {} of {name}, and the database that it replaces at {}: which is newer, {name} does not \
                 say. If the app's code is newer, run `{command}` before the app is started.",
                listed(more),
                listed(lacks)
            ),
        ),
        (lacks, []) => (
            Migrated::Older,
            format!(
                "{source} lacks {} migrations of {name} ({}): run `{command}` before the app is started.",
                lacks.len(),
                listed(lacks)
            ),
        ),
        (_, more) => (
            Migrated::Newer,
            format!(
                "{source} has {} migrations of {name} that the database that it replaces has not ({}): the app's code may \
                 be too old for it.",
                more.len(),
                listed(more)
            ),
        ),
    };
    Migrations {
        tool: tool.name,
        migrated,
        sentence,
    }
}

/// The last of them: their names begin with a number or a date.
fn listed(names: &[&str]) -> String {
    const NAMED_MAX: usize = 3;
    match names {
        [] => "none".to_owned(),
        _ => {
            let first = names.len().saturating_sub(NAMED_MAX);
            let dots = if first > 0 { "…, " } else { "" };
            format!("{dots}{}", names[first..].join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn compared(table: &str, ours: &[&str], theirs: &[&str]) -> Migrations {
        let tool = TOOLS.iter().position(|tool| tool.table == table).unwrap();
        let applied = |names| vec![(tool, table.to_owned(), set(names))];
        let mut found = compare("db", &applied(ours), &applied(theirs));
        assert_eq!(found.len(), 1);
        found.remove(0)
    }

    #[test]
    fn fewer_more_and_other_migrations_are_told_apart() {
        let django = |ours: &[&str], theirs: &[&str]| compared("django_migrations", ours, theirs);
        let both = ["shop.0001", "shop.0002"];
        assert_eq!(django(&both, &both).migrated, Migrated::Equal);
        let older = django(&both[..1], &both);
        assert_eq!(older.migrated, Migrated::Older);
        assert!(older.sentence.contains("shop.0002"), "{older:?}");
        assert!(older.sentence.contains("manage.py migrate"), "{older:?}");
        assert_eq!(django(&both, &both[..1]).migrated, Migrated::Newer);
        let apart = django(&["a.1", "a.2"], &["a.1", "a.3"]);
        assert_eq!(apart.migrated, Migrated::Newer);
        let alembic = compared("alembic_version", &["3f9a"], &["81c0"]);
        assert_eq!(alembic.migrated, Migrated::Other);
        assert!(alembic.sentence.contains("alembic upgrade"), "{alembic:?}");
        let one_row = compared("schema_migrations", &["7"], &["8"]);
        assert_eq!(one_row.migrated, Migrated::Other);
    }

    #[test]
    fn rows_that_pass_say_what_the_query_would() {
        let passed = |table: &str, text: &str| -> Vec<String> {
            let tool = TOOLS.iter().find(|tool| tool.table == table).unwrap();
            let columns: Vec<usize> = (0..tool.columns.len()).collect();
            let mut rows = Rows {
                fields: CopyFields::new(&columns),
                of_row: tool.of_row,
                found: BTreeSet::new(),
            };
            rows.write_all(text.as_bytes()).unwrap();
            rows.found.into_iter().collect()
        };
        let django = passed("django_migrations", "shop\t0001\nauth\t0002\n");
        assert_eq!(django, ["auth.0002", "shop.0001"]);
        let flyway = "1\tone\tt\n2\ttwo\tf\n\\N\trepeated\tt\n";
        assert_eq!(passed("flyway_schema_history", flyway), ["1", "repeated"]);
        let prisma = "a\t2026\t\\N\nb\t\\N\t\\N\nc\t2026\t2026\n";
        assert_eq!(passed("_prisma_migrations", prisma), ["a"]);
        assert_eq!(passed("alembic_version", "3f9a\n"), ["3f9a"]);
        assert_eq!(passed("schema_migrations", "7\n8\n"), ["7", "8"]);
    }

    #[test]
    fn a_table_of_another_tool_is_passed_over() {
        let found = [
            ("public.django_migrations", "django_migrations"),
            ("public.schema_migrations", "schema_migrations"),
        ]
        .map(|(place, name)| (place.to_owned(), name.to_owned()));
        let applied = applied(&found, |sql| {
            let row = vec![Some("20261119".to_owned())];
            sql.contains("SELECT version FROM public.schema")
                .then(|| vec![row])
        });
        assert_eq!(applied.len(), 1);
        assert_eq!(TOOLS[applied[0].0].name, "Rails");
        assert!(compare("db", &applied, &Applied::new()).is_empty());
    }
}
