//! What to do when a database is not reached, not read, or not made.

use lifeboat_app::{DatabaseError, ForeignDumpError, SourceError, StoredError, nearest};
use lifeboat_postgres::{
    BesideError, ConnectError, Finding, ForeignError, LoadError, MomentError, NativeError,
    PlainError, PlanError, PreflightError, QueryError, RestoreError as PgRestoreError,
    RestoreFailure,
};

use super::of_read;
use crate::{error::CommandError, exit_code::ExitCode};

const ADDRESS: &str =
    "Write it as postgres://user@host:port/name; passwords come from ~/.pgpass or PGPASSWORD.";
const TABLES: &str =
    "Name it as schema.table; `lifeboat dump SNAP:DB/database.json` lists the tables.";
/// What a server says to whoever may not do something.
const INSUFFICIENT_PRIVILEGE: &str = "42501";
const NOTHING_TOUCHED: &str = "Nothing that existed before was touched.";
const AGAIN: &str = "See why in the server's log, then run the command again.";

/// The advice for a database that cannot be backed up.
pub(super) fn of_source(error: &SourceError) -> String {
    match error {
        SourceError::Resolve(_) => ADDRESS.to_owned(),
        SourceError::Secret(_) => {
            "Mend `password` of this source in the configuration; `lifeboat config explain` says what it may be."
                .to_owned()
        }
        SourceError::Preflight(error) => of_preflight(error),
        SourceError::Connect(error) => of_connect(error).to_owned(),
        SourceError::Moment(error) | SourceError::Native(NativeError::Moment(error)) => {
            of_moment(error)
        }
        _ => AGAIN.to_owned(),
    }
}

fn of_moment(error: &MomentError) -> String {
    match error {
        MomentError::Connect(error) => of_connect(error).to_owned(),
        MomentError::Rights(findings) => of_findings(findings),
        MomentError::LockTimeout { .. } | MomentError::Restless { .. } => {
            "Run the backup when nothing changes the tables of this database.".to_owned()
        }
        _ => AGAIN.to_owned(),
    }
}

fn of_preflight(error: &PreflightError) -> String {
    match error {
        PreflightError::Connect(error) => of_connect(error).to_owned(),
        PreflightError::Findings(findings) => of_findings(findings),
        _ => AGAIN.to_owned(),
    }
}

/// What the preflight says to each thing that it found.
fn of_findings(findings: &[Finding]) -> String {
    let mends = findings
        .iter()
        .filter_map(|finding| finding.mend.as_deref());
    // One grant may mend several.
    let mut once: Vec<&str> = Vec::new();
    for mend in mends {
        if !once.contains(&mend) {
            once.push(mend);
        }
    }
    let mut mends = once.into_iter();
    let Some(first) = mends.next() else {
        return AGAIN.to_owned();
    };
    // A sentence says by itself what is to be done.
    let first = match first.ends_with('.') {
        true => first.to_owned(),
        false => format!("Mend it by: {first}"),
    };
    mends.fold(first, |before, mend| {
        // A statement has its semicolon already, and a sentence its full stop.
        let end = if before.ends_with([';', '.']) {
            ""
        } else {
            ";"
        };
        format!("{before}{end} {mend}")
    })
}

/// What the server has not that a dump needs.
fn of_lacks(roles: &[String], extensions: &[String]) -> &'static str {
    match (roles.is_empty(), extensions.is_empty()) {
        (true, _) => "Install the extension's package on the server's machine.",
        (_, true) => {
            "Make the roles on the server, or leave owners and grants out with --no-owner and --no-acl."
        }
        _ => {
            "Install the extension's package on the server's machine, and make the roles or leave owners and grants out \
             with --no-owner and --no-acl."
        }
    }
}

pub(super) fn of_connect(error: &ConnectError) -> &'static str {
    match error {
        ConnectError::Tls { .. } => {
            "Check sslmode, sslrootcert, sslcert and sslkey of the address."
        }
        ConnectError::NoPassword { .. } => "Put the password into ~/.pgpass, or into PGPASSWORD.",
        ConnectError::Refused { source, .. } => match source.sqlstate.as_deref() {
            Some("3D000") => "Check the name of the database.",
            Some(code) if code.starts_with("28") => {
                "Check the user and the password, and what the server's pg_hba.conf lets in."
            }
            Some("53300") => {
                "Wait until fewer sessions are open, or raise max_connections of the server."
            }
            _ => "See why in the server's log.",
        },
        _ => "Check that the server runs, and its host and port; `pg_isready` asks the same.",
    }
}

/// The advice for a database that was not made.
fn of_creation(answer: &QueryError) -> &'static str {
    match answer.sqlstate.as_deref() {
        Some(INSUFFICIENT_PRIVILEGE) => {
            "Let an administrator run ALTER ROLE … CREATEDB for this user, or name one in --to who may make databases."
        }
        _ => "See why in the server's log; nothing that existed before was touched.",
    }
}

/// The advice for tables that do not come into a schema beside; nothing where there is none of its own.
fn beside(error: &BesideError) -> Option<CommandError> {
    if let BesideError::UnknownTable { wanted, there } = error {
        let hint = of_table(wanted, there);
        return Some(CommandError::from_error(ExitCode::Usage, error).hint(hint));
    }
    if let BesideError::Extensions { extensions, .. } = error {
        let make = extensions
            .iter()
            .map(|name| format!("CREATE EXTENSION \"{name}\";"));
        let make: Vec<String> = make.collect();
        let hint = format!(
            "Install its package on the server's machine where that lacks, and make it in the database: {}",
            make.join(" ")
        );
        return Some(CommandError::from_error(ExitCode::Database, error).hint(hint));
    }
    let (code, hint) = match error {
        BesideError::Exists(_) => (
            ExitCode::Refused,
            "Choose another schema: a restore never touches one that exists.",
        ),
        BesideError::SameName(_) => (
            ExitCode::Usage,
            "Restore them into two schemas, one by one.",
        ),
        BesideError::NotAlone { .. } | BesideError::Encoding { .. } => (
            ExitCode::Refused,
            "Leave --schema out, and name a new database in --to.",
        ),
        BesideError::Connect(error) => (ExitCode::Database, of_connect(error)),
        _ => return None,
    };
    Some(CommandError::from_error(code, error).hint(hint))
}

/// The advice for a table that is not in the archive.
fn of_table(wanted: &str, there: &[String]) -> String {
    // The schema alone, which nearly all tables have in common, is no likeness.
    let (schema, name) = match wanted.split_once('.') {
        Some((schema, name)) => (Some(schema), name),
        None => (None, wanted),
    };
    let parts = there.iter().filter_map(|table| table.split_once('.'));
    let parts: Vec<(&str, &str)> = parts.collect();
    let same_name = parts.iter().find(|(_, table)| *table == name);
    let like = same_name.copied().or_else(|| {
        let inside = parts
            .iter()
            .filter(|(place, _)| schema.is_none_or(|schema| schema == *place));
        let like = nearest(name, inside.clone().map(|(_, table)| *table))?;
        inside.copied().find(|(_, table)| *table == like)
    });
    match like.map(|(schema, table)| format!("{schema}.{table}")) {
        Some(table) => format!("Did you mean `{table}`? {TABLES}"),
        None => TABLES.to_owned(),
    }
}

impl From<DatabaseError> for CommandError {
    fn from(error: DatabaseError) -> Self {
        let (code, hint) = match &error {
            DatabaseError::Stored(StoredError::Which(_)) => (
                ExitCode::Usage,
                "`lifeboat ls SNAP` shows the sources; name one as SNAP:NAME.",
            ),
            DatabaseError::Stored(StoredError::Path(_)) => {
                (ExitCode::Failed, "`lifeboat ls SNAP` shows what it has.")
            }
            DatabaseError::Stored(StoredError::Read(error)) => of_read(error),
            DatabaseError::Stored(StoredError::Temporary(_)) => (
                ExitCode::Failed,
                "Make room there, or name another folder for temporary files in TMPDIR.",
            ),
            DatabaseError::Archive { .. } => (
                ExitCode::Failed,
                "Restore it into a new database with `lifeboat restore-db`.",
            ),
            DatabaseError::Plain(PlainError::NoProgram { .. }) => (
                ExitCode::Failed,
                "Install the PostgreSQL client of that version, or write it with --format custom, which needs none.",
            ),
            DatabaseError::Plain(_) => (
                ExitCode::Failed,
                "What was written is a part; write it with --format custom, or restore it into a new database with \
                 `lifeboat restore-db`.",
            ),
            DatabaseError::Beside(error) => {
                return beside(error).unwrap_or_else(|| {
                    Self::from_error(ExitCode::Database, error).hint(NOTHING_TOUCHED)
                });
            }
            DatabaseError::Resolve(_) => (ExitCode::Usage, ADDRESS),
            DatabaseError::Server(inner) => {
                let hint = of_preflight(inner);
                return Self::from_error(ExitCode::Database, &error).hint(hint);
            }
            DatabaseError::Programs(_) => (
                ExitCode::Database,
                "Install the PostgreSQL client of the server's version.",
            ),
            DatabaseError::Restore(PgRestoreError::Exists(_)) => (
                ExitCode::Refused,
                "Choose another name: a restore never touches a database that exists.",
            ),
            DatabaseError::Restore(PgRestoreError::Plan(PlanError::UnknownTable {
                wanted,
                there,
            })) => {
                let hint = of_table(wanted, there);
                return Self::from_error(ExitCode::Usage, &error).hint(hint);
            }
            DatabaseError::Restore(PgRestoreError::Create { answer, .. }) => {
                (ExitCode::Database, of_creation(answer))
            }
            DatabaseError::Restore(PgRestoreError::Connect(error)) => {
                (ExitCode::Database, of_connect(error))
            }
            DatabaseError::Restore(PgRestoreError::Query(_)) => (ExitCode::Database, AGAIN),
            DatabaseError::Restore(PgRestoreError::Plan(PlanError::Refused(findings))) => {
                let hint = of_findings(findings);
                return Self::from_error(ExitCode::Database, &error).hint(hint);
            }
            DatabaseError::Restore(PgRestoreError::Plan(PlanError::Lacks {
                roles,
                extensions,
            })) => (ExitCode::Database, of_lacks(roles, extensions)),
            DatabaseError::Restore(PgRestoreError::Plan(_)) => (ExitCode::Database, AGAIN),
            DatabaseError::Assembly(_) => (
                ExitCode::Failed,
                "Restore it into a new database with `lifeboat restore-db`.",
            ),
            DatabaseError::Restore(_) | DatabaseError::Pipe(_) | DatabaseError::Write(_) => {
                (ExitCode::Failed, NOTHING_TOUCHED)
            }
        };
        Self::from_error(code, &error).hint(hint)
    }
}

/// Whether the role may not do what a script wants.
fn lacks_rights(failure: &RestoreFailure) -> bool {
    matches!(failure, RestoreFailure::Load(LoadError::Query(answer))
        if answer.sqlstate.as_deref() == Some(INSUFFICIENT_PRIVILEGE))
}

impl From<ForeignDumpError> for CommandError {
    fn from(error: ForeignDumpError) -> Self {
        let (code, hint) = match error {
            // What a restore says of a server, it says of this one too.
            ForeignDumpError::Resolve(error) => return DatabaseError::Resolve(error).into(),
            ForeignDumpError::Server(error) => return DatabaseError::Server(error).into(),
            ForeignDumpError::Foreign(ForeignError::Restore(PgRestoreError::Failed {
                ref source,
                ..
            })) if lacks_rights(source) => (
                ExitCode::Failed,
                "Leave owners and grants out with --no-owner and --no-acl, or name a role in --to that may do it.",
            ),
            ForeignDumpError::Foreign(ForeignError::Restore(error)) => {
                return DatabaseError::Restore(error).into();
            }
            ForeignDumpError::Foreign(ForeignError::Plan(error)) => {
                return DatabaseError::Restore(error.into()).into();
            }
            ForeignDumpError::Foreign(ForeignError::Programs(error)) => {
                return DatabaseError::Programs(error).into();
            }
            ForeignDumpError::File { .. } => {
                (ExitCode::Failed, "Name a file that can be read twice.")
            }
            ForeignDumpError::Path(_) => {
                (ExitCode::Failed, "`lifeboat ls SNAP` shows what it has.")
            }
            ForeignDumpError::Read(ref error) => of_read(error),
            ForeignDumpError::Foreign(ForeignError::Powerful { .. }) => (
                ExitCode::Refused,
                "Name such a role in --to, or add --as-superuser if you trust whoever made the dump with the whole server.",
            ),
            ForeignDumpError::Foreign(ForeignError::Connect(ref error)) => {
                (ExitCode::Database, of_connect(error))
            }
            ForeignDumpError::Foreign(_) => (ExitCode::Failed, NOTHING_TOUCHED),
        };
        Self::from_error(code, &error).hint(hint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_that_is_not_there_leads_to_the_one_that_was_meant() {
        let there = ["public.auth_group", "shop.customer", "public.app_t0"].map(str::to_owned);
        for (wanted, meant) in [
            ("public.auth_grup", "public.auth_group"),
            ("customer", "shop.customer"),
            ("custmer", "shop.customer"),
            ("public.customer", "shop.customer"),
        ] {
            let hint = of_table(wanted, &there);
            assert!(
                hint.starts_with(&format!("Did you mean `{meant}`? Name it")),
                "{hint}"
            );
        }
        for nothing_like_it in ["invoices", "public.invoices", "public.nope"] {
            assert_eq!(of_table(nothing_like_it, &there), TABLES);
        }
    }

    #[test]
    fn statements_sentences_and_commands_are_told_apart() {
        let finding = |mend: &str| Finding {
            sentence: String::new(),
            mend: Some(mend.to_owned()),
        };
        let hint = of_findings(
            &[
                "ALTER ROLE a CREATEDB;",
                "apt install b",
                "ALTER ROLE a CREATEDB;",
                "Install c.",
            ]
            .map(finding),
        );
        assert_eq!(
            hint,
            "Mend it by: ALTER ROLE a CREATEDB; apt install b; Install c."
        );
        assert_eq!(of_findings(&[finding("Install c.")]), "Install c.");
        assert_eq!(of_findings(&[]), AGAIN);
    }
}
