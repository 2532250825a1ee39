//! Which migrations of its app a database has had, and how two databases compare.
//!
//! Each of the usual tools keeps a table of what was applied. A restored database that has had fewer than the one that it
//! replaces is brought up by the app's own command; one that has had more may be too new for the app's code.

mod sqlite;
mod stored;

use std::collections::BTreeSet;

use lifeboat_postgres::Connection;

use super::SwapError;

pub(super) use self::sqlite::of_sqlite;
pub(super) use self::stored::InSnapshot;

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
