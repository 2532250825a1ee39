//! Whether an archive fits a server, and what of it is restored: decided before anything is made.

use std::path::PathBuf;

use tokio_postgres::error::SqlState;

use crate::{
    archive::{ArchiveEntry, ArchiveError, ArchiveScanner},
    asking::Ask,
    connect::QueryError,
    facts::{DatabaseFacts, Extension},
    preflight::Finding,
    programs::{ProgramVersion, Programs},
    quote, selection,
};

/// Every object that a transaction makes is a lock until its end, and a server with default settings has room for
/// 6,400. An archive with more entries than this is restored without one transaction around it; the new database is
/// dropped as a whole in either case.
pub(crate) const SINGLE_TRANSACTION_ENTRIES_MAX: usize = 4_000;

/// How an archive is restored.
#[derive(Clone, Debug)]
pub struct RestoreOptions {
    /// What the source database was: the new one gets its encoding, locale, settings and grants. Without it the
    /// server's defaults hold.
    pub facts: Option<DatabaseFacts>,
    /// The source database's extensions, whose versions are held against the server's.
    pub extensions: Vec<Extension>,
    /// How many connections load data and build indexes. With more than one the archive is first written to an
    /// unlinked file of mode 0600 in `spool_folder`, since a stream cannot be read in parallel.
    pub jobs: u32,
    /// Objects belong to the role that restores, whoever owned them.
    pub no_owner: bool,
    /// Grants are left out.
    pub no_acl: bool,
    /// Everything goes to the default tablespace.
    pub no_tablespaces: bool,
    /// Only these tables, as `schema.table`, with what they need; empty for all.
    pub tables: Vec<String>,
    /// Whether the planner's statistics are made at the end, without which the first queries are slow.
    pub analyze: bool,
    /// Where the archive is put for parallel jobs.
    pub spool_folder: PathBuf,
}

impl Default for RestoreOptions {
    fn default() -> Self {
        Self {
            facts: None,
            extensions: Vec::new(),
            jobs: 1,
            no_owner: false,
            no_acl: false,
            no_tablespaces: false,
            tables: Vec::new(),
            analyze: true,
            spool_folder: std::env::temp_dir(),
        }
    }
}

/// Why an archive cannot be restored to a server.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    /// A question was not answered.
    #[error(transparent)]
    Query(#[from] QueryError),
    /// The archive stopped before its head was complete.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// The archive was written by a newer `pg_dump` than our `pg_restore`.
    #[error(
        "the archive was made by pg_dump {archive}, and pg_restore {found} is older; install postgresql-client-{archive}"
    )]
    ClientTooOld {
        /// The major version that wrote it.
        archive: u32,
        /// Ours.
        found: ProgramVersion,
    },
    /// The server has not everything that the archive's objects name.
    #[error("the server lacks {}", lacking(roles, extensions))]
    Lacks {
        /// Roles that own something, or that something is granted to.
        roles: Vec<String>,
        /// Extensions that cannot be created, because their files are not installed there.
        extensions: Vec<String>,
    },
    /// The plan says why it cannot be done.
    #[error("{}", refused(.0))]
    Refused(Vec<Finding>),
    /// A table that was asked for is not in the archive.
    #[error("the archive has no table \"{wanted}\"")]
    UnknownTable {
        /// What was asked for.
        wanted: String,
        /// The tables that it has, as `schema.table`.
        there: Vec<String>,
    },
    /// Tables were asked for, and the format is too new for its table of contents to be read here.
    #[error("single tables cannot be taken out of an archive in format 1.{0}")]
    UnknownFormat(u8),
    /// The rows are beside the archive, and its format is too new for its table of contents to be read here.
    #[error("the schema is an archive in format 1.{0}, which is newer than any that is known here")]
    UnknownSchema(u8),
}

fn refused(findings: &[Finding]) -> String {
    let sentences: Vec<_> = findings
        .iter()
        .map(|finding| finding.sentence.trim_end_matches('.'))
        .collect();
    sentences.join("; ")
}

fn lacking(roles: &[String], extensions: &[String]) -> String {
    let parts: Vec<String> = [("the role", roles), ("the extension", extensions)]
        .into_iter()
        .filter_map(|(kind, names)| match names {
            [] => None,
            [one] => Some(format!("{kind} \"{one}\"")),
            several => Some(format!("{kind}s \"{}\"", several.join("\", \""))),
        })
        .collect();
    parts.join(" and ")
}

/// What is to be restored, decided before anything is made.
pub(crate) struct Plan {
    /// The entries for `--use-list`; nothing for all.
    pub(crate) list: Option<Vec<i64>>,
    pub(crate) single_transaction: bool,
    pub(crate) warnings: Vec<String>,
}

impl Plan {
    pub(crate) fn make(
        connection: &dyn Ask,
        programs: &Programs,
        scanner: &ArchiveScanner,
        options: &RestoreOptions,
    ) -> Result<Self, PlanError> {
        let head = scanner.head().ok_or(ArchiveError::CutOff("in its head"))?;
        let ours = programs.version();
        if let Some(archive) = head.program_major()
            && archive > ours.major
        {
            return Err(PlanError::ClientTooOld {
                archive,
                found: ours,
            });
        }
        let mut plan = Self {
            list: None,
            single_transaction: options.jobs <= 1,
            warnings: Vec::new(),
        };
        let Some(contents) = scanner.contents() else {
            if !options.tables.is_empty() {
                return Err(PlanError::UnknownFormat(head.format_minor));
            }
            return Ok(plan);
        };
        let mut chosen: Vec<&ArchiveEntry> = contents.iter().collect();
        if !options.tables.is_empty() {
            let selection = selection::select(contents, &options.tables).map_err(|wanted| {
                PlanError::UnknownTable {
                    wanted,
                    there: selection::tables(contents),
                }
            })?;
            chosen.retain(|entry| selection.ids.contains(&entry.id));
            plan.warnings.extend(
                selection
                    .left_out
                    .iter()
                    .map(|what| format!("Left out, because it needs what was not chosen: {what}.")),
            );
            plan.list = Some(selection.ids);
        }
        plan.single_transaction &= chosen.len() <= SINGLE_TRANSACTION_ENTRIES_MAX;
        let roles = missing_roles(connection, &chosen, options)?;
        let extensions = missing_extensions(connection, &chosen)?;
        if !roles.is_empty() || !extensions.is_empty() {
            return Err(PlanError::Lacks { roles, extensions });
        }
        let (refusals, doubts) = superusers_extensions(connection, &chosen)?;
        if !refusals.is_empty() {
            return Err(PlanError::Refused(refusals));
        }
        let doubts = doubts.into_iter().map(|doubt| doubt.sentence);
        plan.warnings.extend(doubts);
        Ok(plan)
    }
}

pub(crate) fn missing_roles(
    connection: &dyn Ask,
    chosen: &[&ArchiveEntry],
    options: &RestoreOptions,
) -> Result<Vec<String>, QueryError> {
    let mut needed: Vec<&str> = Vec::new();
    if !options.no_owner {
        // The entries of the database itself are not restored; it is made here.
        let objects = chosen
            .iter()
            .filter(|entry| !entry.kind.starts_with("DATABASE"));
        needed.extend(objects.filter_map(|entry| entry.owner()));
    }
    // With some tables only, a role may be needed by others alone; `pg_restore` will say.
    if let Some(facts) = options.facts.as_ref().filter(|_| options.tables.is_empty()) {
        if !options.no_acl {
            needed.extend(facts.granted_roles.iter().map(String::as_str));
        }
        needed.extend(facts.policy_roles.iter().map(String::as_str));
    }
    let present = column(
        connection,
        "list the roles",
        "SELECT rolname FROM pg_catalog.pg_roles",
    )?;
    Ok(missing(needed, &present))
}

pub(crate) fn missing_extensions(
    connection: &dyn Ask,
    chosen: &[&ArchiveEntry],
) -> Result<Vec<String>, QueryError> {
    let extensions = chosen.iter().filter(|entry| entry.kind == "EXTENSION");
    let needed = extensions.map(|entry| entry.name.as_str()).collect();
    let present = column(
        connection,
        "list the extensions that can be installed",
        "SELECT name FROM pg_catalog.pg_available_extensions",
    )?;
    Ok(missing(needed, &present))
}

/// Extensions that the role may not make, and those of which that is not known. Managed servers let more roles make them
/// than their catalogs say: so it is tried, in a transaction that is rolled back. Who may not is told before anything of
/// the extension runs.
pub(crate) fn superusers_extensions(
    connection: &dyn Ask,
    chosen: &[&ArchiveEntry],
) -> Result<(Vec<Finding>, Vec<Finding>), QueryError> {
    // The column `trusted` is there since PostgreSQL 13.
    let of_superusers = column(
        connection,
        "list the extensions that only a superuser makes",
        "SELECT e.name
           FROM pg_catalog.pg_available_extensions e
           JOIN pg_catalog.pg_available_extension_versions v ON v.name = e.name AND v.version = e.default_version
          WHERE v.superuser AND COALESCE(pg_catalog.to_json(v) ->> 'trusted', 'false') <> 'true'
            AND NOT (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user)
          ORDER BY 1",
    )?;
    let (mut refusals, mut doubts) = (Vec::new(), Vec::new());
    for name in &of_superusers {
        let mut extensions = chosen.iter().filter(|entry| entry.kind == "EXTENSION");
        if extensions.all(|entry| entry.name != *name) {
            continue;
        }
        let tried = connection.execute_together(
            "try to make an extension",
            &[
                "SET TRANSACTION READ WRITE",
                "SET LOCAL search_path = public",
                &format!("CREATE EXTENSION {} CASCADE", quote::identifier(name)),
                "ROLLBACK",
            ],
        );
        let is_refused = match tried {
            Ok(()) => continue,
            Err(error) if error.sqlstate.is_none() => return Err(error),
            Err(error) => error.is(&SqlState::INSUFFICIENT_PRIVILEGE),
        };
        let (findings, may) = match is_refused {
            true => (&mut refusals, "is not"),
            false => (&mut doubts, "may not be"),
        };
        findings.push(Finding {
            sentence: format!(
                "The database uses the extension {name}, which only a superuser makes, and the role {may} allowed to."
            ),
            mend: Some(
                "Name a superuser in --to, or in --admin where an app is replaced.".to_owned(),
            ),
        });
    }
    Ok((refusals, doubts))
}

pub(crate) fn column(
    connection: &dyn Ask,
    what: &str,
    sql: &str,
) -> Result<Vec<String>, QueryError> {
    let rows = connection.rows(what, sql)?;
    Ok(rows
        .into_iter()
        .filter_map(|mut row| row.pop().flatten())
        .collect())
}

pub(crate) fn missing(mut needed: Vec<&str>, present: &[String]) -> Vec<String> {
    needed.sort_unstable();
    needed.dedup();
    needed.retain(|name| !present.iter().any(|there| there == name));
    needed.into_iter().map(ToOwned::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{connect::Connection, testing};

    #[test]
    fn an_extension_of_superusers_is_tried_and_refused_or_doubted() {
        let cluster = testing::other_cluster();
        let role = testing::unique("maker");
        let create = format!("CREATE ROLE {role} LOGIN CREATEDB");
        let postgres = cluster.settings("postgres");
        testing::run(&postgres, &create);
        let entries = ["hstore", "pageinspect", "nowhere"].map(|name| ArchiveEntry {
            kind: "EXTENSION".to_owned(),
            name: name.to_owned(),
            ..ArchiveEntry::default()
        });
        let entries: Vec<&ArchiveEntry> = entries.iter().collect();
        let found = |settings: &crate::settings::Settings| {
            let connection = Connection::open(settings, testing::runtime()).unwrap();
            superusers_extensions(&connection, &entries).unwrap()
        };
        let mut own = postgres.clone();
        own.user.clone_from(&role);
        let (refusals, doubts) = found(&own);
        assert_eq!((refusals.len(), doubts.len()), (1, 0), "{refusals:?}");
        assert!(refusals[0].sentence.contains("extension pageinspect,"));
        assert_eq!(found(&postgres), (Vec::new(), Vec::new()));
        // What is there already is not made again, so the server does not say whether it would be.
        testing::run(&postgres, "CREATE EXTENSION pageinspect SCHEMA public");
        let (refusals, doubts) = found(&own);
        assert_eq!((refusals.len(), doubts.len()), (0, 1), "{refusals:?}");
    }
}
