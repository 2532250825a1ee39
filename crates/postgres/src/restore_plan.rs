//! What a restore from parts will do, as data: what comes, where to, what does not fit.
//!
//! The plan is made without touching anything, and can be shown before the first byte moves. A restore makes it again
//! and does what it says; so what was not shown is not done, and what changed meanwhile is found.

use std::{
    collections::{HashMap, HashSet},
    sync::atomic::AtomicBool,
};

use crate::{
    archive::{ArchiveEntry, ArchiveError, ArchiveHead, ArchiveScanner, section},
    catalog,
    connect::Connection,
    fit::{Demand, Fit},
    partitions::Partitions,
    parts::{LargeObjectPart, Parts, SequencePart, TablePart},
    plan::{PlanError, RestoreOptions, SINGLE_TRANSACTION_ENTRIES_MAX},
    preflight::Finding,
    programs::{ProgramVersion, Programs},
    quote,
    script::RUN_CODE,
    selection,
    settings::Settings,
};

/// A restore from parts.
#[derive(Clone, Copy)]
pub struct PartsRestore<'a> {
    /// A database of the server to connect to meanwhile, usually `postgres`, and a role that may create databases.
    pub admin: &'a Settings,
    /// The programs that fit the server.
    pub programs: &'a Programs,
    /// The new database, which has this name only when it is whole.
    pub database: &'a str,
    /// What the backup consists of beside its schema.
    pub parts: &'a Parts,
    /// The key that the digests of the parts were made with: the database is read again at the end and held against
    /// them. Without it, the server's counts of what it took are all that is known.
    pub hash_key: Option<&'a [u8; 32]>,
    /// How.
    pub options: &'a RestoreOptions,
    /// When set, the restore fails soon.
    pub stop: &'a AtomicBool,
}

/// What a restore will do.
#[derive(Clone, Debug)]
pub struct RestorePlan {
    /// The new database.
    pub database: String,
    /// The server's version, in its own words.
    pub server: String,
    /// The `pg_restore` that makes the schema.
    pub program: ProgramVersion,
    /// How many objects the schema has: tables, types, functions, indexes, grants.
    pub objects: u64,
    /// The tables whose rows come, the largest first.
    pub tables: Vec<ComingTable>,
    /// How many sequences are set.
    pub sequences: u64,
    /// How many large objects come.
    pub large_objects: u64,
    /// Bytes of rows and large objects that are read from the backup.
    pub len_bytes: u64,
    /// Bytes that the database will take on the server's disk with its indexes: the source's size, or a guess.
    pub size_bytes: u64,
    /// Bytes that are free there, where that can be seen.
    pub free_bytes: Option<u64>,
    /// What belongs to the chosen tables and does not come, because it needs what was not chosen.
    pub left_out: Vec<String>,
    /// What has to be mended first; with any of these nothing is restored.
    pub refusals: Vec<Finding>,
    /// What may go wrong, or be different afterwards.
    pub doubts: Vec<Finding>,
}

/// A table of a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ComingTable {
    /// `public.orders`.
    pub path: String,
    /// How many rows come; nothing when the backup left them out, and the table stays empty.
    pub rows: Option<u64>,
    /// Bytes of their text.
    pub len_bytes: u64,
}

/// What is known of the backup's schema.
pub(crate) struct Schema {
    head: ArchiveHead,
    contents: Vec<ArchiveEntry>,
}

impl Schema {
    /// From an archive whose table of contents has passed.
    pub(crate) fn of(scanner: &ArchiveScanner) -> Result<Self, PlanError> {
        let head = scanner.head().ok_or(ArchiveError::CutOff("in its head"))?;
        let contents = scanner
            .contents()
            .ok_or(PlanError::UnknownSchema(head.format_minor))?;
        Ok(Self {
            head: head.clone(),
            contents: contents.to_vec(),
        })
    }
}

/// What the plan means in terms of the archive and the parts.
pub(crate) struct Chosen<'a> {
    /// The entries that are made before the rows come.
    pub(crate) before: Vec<i64>,
    /// The entries that are made afterwards. Grants are among them: an owner may have no right to write to his table.
    pub(crate) after: Vec<i64>,
    /// Whether what the database's owners wrote runs then, which could change rows.
    pub(crate) runs_code: bool,
    pub(crate) single_transaction: bool,
    pub(crate) tables: Vec<&'a TablePart>,
    /// The tables among them that the archive does not make, by their names in SQL.
    pub(crate) of_extensions: HashSet<String>,
    /// For each partition whose rows go to the topmost table, that table.
    pub(crate) through_root: HashMap<String, (String, String)>,
    pub(crate) sequences: Vec<&'a SequencePart>,
    pub(crate) large_objects: &'a [LargeObjectPart],
}

impl<'a> Chosen<'a> {
    /// Chooses from the archive; also gives the chosen entries and what was left out.
    fn from(
        contents: &'a [ArchiveEntry],
        parts: &'a Parts,
        options: &RestoreOptions,
    ) -> Result<(Self, Vec<&'a ArchiveEntry>, Vec<String>), PlanError> {
        let mut entries: Vec<&ArchiveEntry> = contents.iter().collect();
        let mut tables: Vec<&TablePart> = parts.tables.iter().collect();
        let mut sequences: Vec<&SequencePart> = parts.sequences.iter().collect();
        let mut large_objects = &parts.large_objects[..];
        let mut left_out = Vec::new();
        let of_kind = |entries: &[&ArchiveEntry], kinds: &[&str]| -> HashSet<String> {
            entries
                .iter()
                .filter(|entry| kinds.contains(&entry.kind.as_str()))
                .map(|entry| selection::key(entry))
                .collect()
        };
        if !options.tables.is_empty() {
            let selection = selection::select(contents, &options.tables).map_err(|wanted| {
                PlanError::UnknownTable {
                    wanted,
                    there: selection::tables(contents),
                }
            })?;
            entries.retain(|entry| selection.ids.contains(&entry.id));
            tables.retain(|table| selection.with_rows.contains(&table.key()));
            let chosen = of_kind(&entries, &["SEQUENCE"]);
            sequences.retain(|sequence| {
                chosen.contains(&quote::qualified(&sequence.schema, &sequence.name))
            });
            large_objects = &[];
            left_out = selection.left_out;
        }
        let made = of_kind(&entries, &selection::TABLES);
        let of_extensions = tables
            .iter()
            .map(|table| table.key())
            .filter(|key| !made.contains(key))
            .collect();
        let partitions = Partitions::of(&entries);
        let through_root = entries
            .iter()
            .filter(|entry| entry.kind == "TABLE")
            .filter_map(|entry| {
                let root = partitions.root_of_hashes(entry)?;
                let schema = root.schema().unwrap_or_default().to_owned();
                Some((selection::key(entry), (schema, root.name.clone())))
            })
            .collect();
        let (before, after) = halves(&entries);
        let chosen = Self {
            single_transaction: before.len() <= SINGLE_TRANSACTION_ENTRIES_MAX,
            before,
            after,
            runs_code: entries.iter().any(|entry| runs_code(entry)),
            tables,
            of_extensions,
            through_root,
            sequences,
            large_objects,
        };
        Ok((chosen, entries, left_out))
    }
}

/// Whether what the database's owners wrote runs when the entry is made, or from then on.
fn runs_code(entry: &ArchiveEntry) -> bool {
    let computes = matches!(entry.kind.as_str(), "INDEX" | "CONSTRAINT");
    let definition = entry.definition.as_deref().unwrap_or_default();
    RUN_CODE.contains(&entry.kind.as_str()) || (computes && calls_what_has_a_schema(definition))
}

/// Whether a statement of `pg_dump` calls a function or operator with a schema before its name, which the server's own
/// do not have.
fn calls_what_has_a_schema(definition: &str) -> bool {
    definition.match_indices('(').any(|(at, _)| {
        let called = &definition[..at];
        let before = match called.strip_suffix('"') {
            Some(quoted) => quoted.rsplit_once('"').map_or("", |(before, _)| before),
            None => called.trim_end_matches(|letter: char| {
                letter.is_alphanumeric() || matches!(letter, '_' | '$')
            }),
        };
        before.ends_with('.') || called.ends_with("OPERATOR")
    })
}

/// The numbers of the entries before and after the rows. A comment belongs to what stands before it.
fn halves(entries: &[&ArchiveEntry]) -> (Vec<i64>, Vec<i64>) {
    let (mut before, mut after) = (Vec::new(), Vec::new());
    let mut current = section::PRE_DATA;
    for entry in entries {
        if entry.section != section::NONE {
            current = entry.section;
        }
        // Rows inside the archive would come twice.
        if entry.has_data {
            continue;
        }
        if current == section::POST_DATA || entry.kind == "ACL" {
            after.push(entry.id);
        } else {
            before.push(entry.id);
        }
    }
    (before, after)
}

/// The name that a database has while it is being made: `shop.restoring`, cut to what the server takes.
pub(crate) fn place(database: &str) -> String {
    const ENDING: &str = ".restoring";
    const NAME_LEN_BYTES_MAX: usize = 63;
    let mut end = database.len().min(NAME_LEN_BYTES_MAX - ENDING.len());
    while !database.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{ENDING}", &database[..end])
}

impl RestorePlan {
    /// Makes the plan, and says what it means.
    pub(crate) fn make<'a>(
        connection: &Connection,
        restore: &PartsRestore<'a>,
        schema: &'a Schema,
    ) -> Result<(Self, Chosen<'a>), PlanError> {
        let (chosen, entries, left_out) =
            Chosen::from(&schema.contents, restore.parts, restore.options)?;
        let server = catalog::server(connection)?;
        let mut tables: Vec<_> = chosen
            .tables
            .iter()
            .map(|table| ComingTable {
                path: table.path(),
                rows: table.digest.map(|digest| digest.rows),
                len_bytes: table.digest.map_or(0, |digest| digest.len_bytes),
            })
            .collect();
        tables
            .sort_by(|one, other| (other.len_bytes, &one.path).cmp(&(one.len_bytes, &other.path)));
        let large: u64 = chosen
            .large_objects
            .iter()
            .map(|object| object.len_bytes)
            .sum();
        let len_bytes = large + tables.iter().map(|table| table.len_bytes).sum::<u64>();
        // The source's own size counts only for all of it. Rows and their indexes take about twice what their text does.
        let facts = restore.options.facts.as_ref();
        let size_bytes = facts
            .filter(|_| restore.options.tables.is_empty())
            .and_then(|facts| facts.size_bytes)
            .unwrap_or(len_bytes.saturating_mul(2));
        let fit = Fit::examine(
            connection,
            &server,
            restore.programs,
            &Demand {
                database: restore.database,
                place: &place(restore.database),
                head: &schema.head,
                entries: &entries,
                options: restore.options,
                len_bytes,
                size_bytes,
            },
        )?;
        let plan = Self {
            database: restore.database.to_owned(),
            server: server.version,
            program: restore.programs.version(),
            objects: (chosen.before.len() + chosen.after.len()) as u64,
            tables,
            sequences: chosen.sequences.len() as u64,
            large_objects: chosen.large_objects.len() as u64,
            len_bytes,
            size_bytes,
            free_bytes: fit.free_bytes,
            left_out,
            refusals: fit.refusals,
            doubts: fit.doubts,
        };
        Ok((plan, chosen))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_runs_code_when_it_calls_what_the_server_does_not_have_itself() {
        let index = |definition: &str| {
            runs_code(&ArchiveEntry {
                kind: "INDEX".to_owned(),
                definition: Some(definition.to_owned()),
                ..ArchiveEntry::default()
            })
        };
        for definition in [
            "CREATE INDEX i ON public.t USING btree (a, lower(b));",
            "CREATE INDEX \"i.\" ON public.\"t.u\" USING btree (\"a.b\") WHERE (c > 1);",
        ] {
            assert!(!index(definition), "{definition}");
        }
        for definition in [
            "CREATE INDEX i ON public.t USING btree (public.f(a));",
            "CREATE INDEX i ON public.t USING btree (a) WHERE (\"My\".\"Fun ction\"(a) > 1);",
            "CREATE INDEX i ON public.t USING btree (a) WHERE (a OPERATOR(public.=) 1);",
        ] {
            assert!(index(definition), "{definition}");
        }
    }
}
