//! What would make a dump fail or lie, found before its first byte.
//!
//! Each [`Finding`] is one sentence with the SQL that mends it. `pg_dump` would stop at the first of these, often
//! after an hour; here they come all at once.

use std::fmt;

use tokio::runtime::Handle;
use tokio_postgres::error::SqlState;

use crate::{
    asking::{self, Ask},
    catalog::{self, TABLES, dumped},
    connect::{ConnectError, QueryError},
    facts::ServerFacts,
    programs::{Programs, ProgramsError},
    quote,
    resolve::Environment,
    settings::Settings,
};

/// Whether the role has not the right that `pg_dump` needs; it holds for sequences as for tables.
const UNREADABLE: &str = "NOT pg_catalog.has_table_privilege(c.oid, 'SELECT')";

/// How many names a sentence holds before it counts the rest.
const NAMED_MAX: usize = 5;

/// One thing that is in the way of a dump.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What is wrong, as one sentence.
    pub sentence: String,
    /// The SQL, or the command, that mends it.
    pub mend: Option<String>,
}

impl fmt::Display for Finding {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.sentence)?;
        match &self.mend {
            // A sentence says by itself what is to be done.
            Some(mend) if mend.ends_with('.') => write!(formatter, " {mend}"),
            Some(mend) => write!(formatter, " Mend it by: {mend}"),
            None => Ok(()),
        }
    }
}

/// Why a dump cannot be taken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PreflightError {
    /// There is no connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// A question was not answered.
    #[error(transparent)]
    Query(#[from] QueryError),
    /// These things stand in the way, all of them.
    #[error("the database cannot be dumped: {}", joined(.0))]
    Findings(Vec<Finding>),
}

/// The way to a database of the target's server that is there before a new one is made, and the server's major version.
///
/// `postgres` may have been dropped, or never made by whoever runs the server; `template1` always is.
///
/// # Errors
/// When the server does not answer.
pub fn administration(
    target: &Settings,
    handle: &Handle,
) -> Result<(Settings, u32), PreflightError> {
    let mut admin = target.with_database("postgres");
    let session = match asking::open(&admin, handle) {
        Err(error) if lacks_database(&error) => {
            admin = target.with_database("template1");
            asking::open(&admin, handle)
        }
        opened => opened,
    }?;
    let major = catalog::server(&*session)?.major();
    Ok((admin, major))
}

fn lacks_database(error: &ConnectError) -> bool {
    match error {
        ConnectError::Refused { source, .. } => source.is(&SqlState::INVALID_CATALOG_NAME),
        // The words of a server that speaks English; `psql` has no code for what keeps it out.
        ConnectError::Unreachable { source, .. } => {
            let said = source.to_string();
            said.contains("database \"postgres\" does not exist")
        }
        _ => false,
    }
}

fn joined(findings: &[Finding]) -> String {
    let sentences: Vec<_> = findings
        .iter()
        .map(|finding| finding.sentence.as_str())
        .collect();
    sentences.join(" ").trim_end_matches('.').to_owned()
}

/// What the preflight of a database that can be dumped says.
#[derive(Debug)]
pub struct Preflight {
    /// The server.
    pub server: ServerFacts,
    /// The clients that fit it.
    pub programs: Programs,
    /// Sentences about what does not stop a dump and should be known.
    pub warnings: Vec<String>,
}

/// Looks at everything that would make a dump of the database fail that leaves out the rows of the tables `skip_data`.
pub fn preflight(
    settings: &Settings,
    skip_data: &[String],
    environment: Environment<'_>,
    handle: &Handle,
) -> Result<Preflight, PreflightError> {
    let session = asking::open(settings, handle)?;
    let connection = &*session;
    let server = catalog::server(connection)?;
    let mut findings = rights(connection, &server)?;
    findings.extend(unknown_tables(connection, skip_data)?);
    let programs = match Programs::reaching(settings, server.major(), environment) {
        Ok(programs) => Some(programs),
        Err(error) => {
            findings.push(clients(&error, server.major()));
            None
        }
    };
    match programs {
        Some(programs) if findings.is_empty() => Ok(Preflight {
            warnings: warnings(connection, &server, &programs, settings)?,
            programs,
            server,
        }),
        _ => Err(PreflightError::Findings(findings)),
    }
}

/// The tables whose rows are to be left out and that are not there.
fn unknown_tables(connection: &dyn Ask, skip_data: &[String]) -> Result<Vec<Finding>, QueryError> {
    if skip_data.is_empty() {
        return Ok(Vec::new());
    }
    let sql = format!(
        "SELECT n.nspname || '.' || c.relname
           FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE {}",
        dumped(TABLES)
    );
    let rows = connection.rows("look for the tables without their rows", &sql)?;
    let known: Vec<String> = rows.into_iter().filter_map(|mut row| row.pop()?).collect();
    let unknown = skip_data.iter().filter(|table| !known.contains(table));
    Ok(unknown
        .map(|table| Finding {
            sentence: format!("There is no table {table} whose rows could be left out."),
            mend: None,
        })
        .collect())
}

fn clients(error: &ProgramsError, major: u32) -> Finding {
    let mut sentence = error.to_string();
    if let Some(source) = std::error::Error::source(error) {
        sentence = format!("{sentence}: {source}");
    }
    let mut letters = sentence.chars();
    let first = letters
        .next()
        .map(|letter| letter.to_uppercase().to_string());
    Finding {
        sentence: format!("{}{}.", first.unwrap_or_default(), letters.as_str()),
        mend: match error {
            ProgramsError::Beyond { .. } | ProgramsError::OldBeyond { .. } => None,
            _ => Some(format!("apt-get install postgresql-client-{major}")),
        },
    }
}

fn warnings(
    connection: &dyn Ask,
    server: &ServerFacts,
    programs: &Programs,
    settings: &Settings,
) -> Result<Vec<String>, QueryError> {
    let mut warnings = settings.warnings().to_vec();
    warnings.extend(programs.known_hole());
    if programs.version().major > server.major() {
        warnings.push(format!(
            "The client programs ({}) are newer than the server ({}): the dump may need a newer server to be restored; \
             install postgresql-client-{}.",
            programs.version(),
            server.version,
            server.major()
        ));
    }
    if settings.via.is_some() {
        warnings.push(
            "The programs run where the server is: how they reach it and whether that is protected, and whether they are \
             at an end when a backup is killed, is not seen from here."
                .to_owned(),
        );
    }
    if server.in_recovery {
        warnings.push(
            "The server is a standby: unlogged tables are empty there, and the dump can be cancelled by what the \
             primary does."
                .to_owned(),
        );
    }
    let foreign = relations(connection, "look for foreign tables", "'f'", "true")?;
    if !foreign.is_empty() {
        warnings.push(format!(
            "The rows of {} are on another server and are not in a backup of this one.",
            listed("foreign table", &foreign)
        ));
    }
    Ok(warnings)
}

/// The rights that `pg_dump` needs and the role lacks.
pub(crate) fn rights(
    connection: &dyn Ask,
    server: &ServerFacts,
) -> Result<Vec<Finding>, QueryError> {
    // Asked only of roles that are not superuser: to a superuser everything is allowed.
    if server.role.superuser {
        return Ok(Vec::new());
    }
    let role = quote::identifier(&server.role.name);
    let findings = [
        schemas(connection, &role)?,
        tables(connection, &role, server.major())?,
        sequences(connection, &role, server.major())?,
        row_security(connection, &role)?,
        large_objects(connection, server, &role)?,
    ];
    Ok(findings.into_iter().flatten().collect())
}

/// What is not allowed on schemas that hold something to dump.
fn schemas(connection: &dyn Ask, role: &str) -> Result<Option<Finding>, QueryError> {
    let schemas = connection.rows(
        "look for schemas that the role may not use",
        &format!(
            "SELECT DISTINCT n.nspname
               FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
              WHERE {} AND NOT pg_catalog.has_schema_privilege(n.oid, 'USAGE') ORDER BY 1",
            dumped(TABLES)
        ),
    )?;
    let schemas: Vec<_> = schemas
        .into_iter()
        .filter_map(|mut row| row.pop().flatten())
        .collect();
    Ok((!schemas.is_empty()).then(|| Finding {
        sentence: format!(
            "The role {role} may not use {}.",
            listed("schema", &schemas)
        ),
        mend: Some(format!(
            "GRANT USAGE ON SCHEMA {} TO {role};",
            schemas
                .iter()
                .map(|name| quote::identifier(name))
                .collect::<Vec<_>>()
                .join(", ")
        )),
    }))
}

fn tables(connection: &dyn Ask, role: &str, major: u32) -> Result<Option<Finding>, QueryError> {
    let tables = relations(
        connection,
        "look for tables that the role may not read",
        TABLES,
        UNREADABLE,
    )?;
    Ok((!tables.is_empty()).then(|| Finding {
        sentence: format!("The role {role} may not read {}.", listed("table", &tables)),
        mend: Some(grant_select("TABLE", &tables, role, major)),
    }))
}

fn sequences(connection: &dyn Ask, role: &str, major: u32) -> Result<Option<Finding>, QueryError> {
    let sequences = relations(
        connection,
        "look for sequences that the role may not read",
        "'S'",
        UNREADABLE,
    )?;
    Ok((!sequences.is_empty()).then(|| Finding {
        sentence: format!(
            "The role {role} may not read {}.",
            listed("sequence", &sequences)
        ),
        mend: Some(grant_select("SEQUENCE", &sequences, role, major)),
    }))
}

/// For a few objects their own grant, for many the role that reads everything (since 14).
fn grant_select(kind: &str, paths: &[String], role: &str, major: u32) -> String {
    if paths.len() > NAMED_MAX && major >= 14 {
        return format!("GRANT pg_read_all_data TO {role};");
    }
    format!("GRANT SELECT ON {kind} {} TO {role};", paths.join(", "))
}

fn row_security(connection: &dyn Ask, role: &str) -> Result<Option<Finding>, QueryError> {
    let tables = relations(
        connection,
        "look for tables with row-level security",
        TABLES,
        "c.relrowsecurity AND pg_catalog.row_security_active(c.oid)",
    )?;
    Ok((!tables.is_empty()).then(|| Finding {
        sentence: format!(
            "Row-level security would hide rows of {} from the role {role}.",
            listed("table", &tables)
        ),
        mend: Some(format!("ALTER ROLE {role} BYPASSRLS;")),
    }))
}

fn large_objects(
    connection: &dyn Ask,
    server: &ServerFacts,
    role: &str,
) -> Result<Option<Finding>, QueryError> {
    const WHAT: &str = "look for large objects that the role may not read";
    // From 19 on the role that reads all data reads large objects too.
    let all_data = if server.major() >= 19 {
        "NOT pg_catalog.pg_has_role('pg_read_all_data', 'USAGE') AND"
    } else {
        ""
    };
    let row = connection.row(
        WHAT,
        &format!(
            "SELECT pg_catalog.count(*) FROM pg_catalog.pg_largeobject_metadata l
              WHERE {all_data} pg_catalog.current_setting('lo_compat_privileges') <> 'on'
                AND NOT pg_catalog.pg_has_role(l.lomowner, 'USAGE')
                AND NOT EXISTS (SELECT FROM pg_catalog.aclexplode(l.lomacl) a
                                 WHERE a.privilege_type = 'SELECT'
                                   AND CASE a.grantee WHEN 0 THEN true
                                       ELSE pg_catalog.pg_has_role(a.grantee, 'USAGE') END)"
        ),
    )?;
    let count: u64 = row
        .into_iter()
        .next()
        .flatten()
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| QueryError::shape(WHAT))?;
    Ok((count != 0).then(|| Finding {
        sentence: format!(
            "The role {role} may not read {count} large object{}.",
            if count == 1 { "" } else { "s" }
        ),
        mend: Some(format!(
            "DO $$ DECLARE o oid; BEGIN FOR o IN SELECT oid FROM pg_largeobject_metadata LOOP EXECUTE \
             format('GRANT SELECT ON LARGE OBJECT %s TO %s', o, {}); END LOOP; END $$;",
            quote::literal(role)
        )),
    }))
}

/// The relations of these kinds that a dump reads and the condition holds for, each as a quoted path.
fn relations(
    connection: &dyn Ask,
    what: &str,
    kinds: &str,
    condition: &str,
) -> Result<Vec<String>, QueryError> {
    connection
        .rows(
            what,
            &format!(
                "SELECT n.nspname, c.relname
                   FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
                  WHERE {} AND {condition} ORDER BY 1, 2",
                dumped(kinds)
            ),
        )?
        .into_iter()
        .map(|row| match &row[..] {
            [Some(schema), Some(name)] => Ok(quote::qualified(schema, name)),
            _ => Err(QueryError::shape(what)),
        })
        .collect()
}

/// "the table a", "the tables a and b", "the tables a, b, c, d, e and 7 more".
fn listed(kind: &str, names: &[String]) -> String {
    match names {
        [one] => format!("the {kind} {one}"),
        several if several.len() <= NAMED_MAX => {
            let (last, others) = several.split_last().expect("there are several");
            format!("the {kind}s {} and {last}", others.join(", "))
        }
        many => format!(
            "the {kind}s {} and {} more",
            many[..NAMED_MAX].join(", "),
            many.len() - NAMED_MAX
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    fn findings(settings: &Settings) -> Vec<Finding> {
        match preflight(settings, &[], &|_| None, testing::runtime()) {
            Ok(_) => Vec::new(),
            Err(PreflightError::Findings(findings)) => findings,
            Err(error) => panic!("{error}"),
        }
    }

    #[test]
    fn every_missing_right_is_one_sentence_and_its_sql_mends_it() {
        let cluster = testing::cluster();
        let role = testing::unique("reader");
        let owner = testing::database(
            &cluster,
            &format!(
                "CREATE ROLE {role} LOGIN;
                 CREATE SCHEMA hidden; CREATE TABLE hidden.t (id serial);
                 CREATE TABLE \"Orders\" (id int GENERATED ALWAYS AS IDENTITY);
                 CREATE TABLE tenant (id int); ALTER TABLE tenant ENABLE ROW LEVEL SECURITY;
                 CREATE POLICY none ON tenant USING (false);
                 SELECT lo_from_bytea(0, 'large');"
            ),
        );
        let reader = Settings {
            user: role.clone(),
            ..owner.clone()
        };
        let found = findings(&reader);
        let sentences: Vec<_> = found
            .iter()
            .map(|finding| finding.sentence.as_str())
            .collect();
        let role = format!("\"{role}\"");
        assert_eq!(
            sentences,
            [
                format!("The role {role} may not use the schema hidden."),
                format!(
                    "The role {role} may not read the tables \"hidden\".\"t\", \"public\".\"Orders\" and \"public\".\"tenant\"."
                ),
                format!(
                    "The role {role} may not read the sequences \"hidden\".\"t_id_seq\" and \"public\".\"Orders_id_seq\"."
                ),
                format!(
                    "Row-level security would hide rows of the table \"public\".\"tenant\" from the role {role}."
                ),
                format!("The role {role} may not read 1 large object."),
            ]
        );
        for finding in found {
            testing::run(&owner, &finding.mend.unwrap());
        }
        assert_eq!(findings(&reader), []);
        let programs = testing::programs(&cluster);
        testing::plain_dump(&programs, &reader);
    }

    #[test]
    fn many_tables_are_counted_and_mended_by_one_role() {
        let cluster = testing::cluster();
        let role = testing::unique("reader");
        let tables: String = (0..8)
            .map(|at| format!("CREATE TABLE t{at} (id int);"))
            .collect();
        let owner = testing::database(&cluster, &format!("CREATE ROLE {role} LOGIN; {tables}"));
        let reader = Settings {
            user: role,
            ..owner.clone()
        };
        let found = findings(&reader);
        assert_eq!(found.len(), 1);
        assert!(found[0].sentence.contains("and 3 more"), "{}", found[0]);
        testing::run(&owner, found[0].mend.as_ref().unwrap());
        assert_eq!(findings(&reader), []);
    }

    #[test]
    fn clients_older_than_the_server_are_a_finding() {
        let cluster = testing::cluster();
        let folder = tempfile::tempdir().unwrap();
        testing::script(
            &folder.path().join("pg_dump"),
            "echo 'pg_dump (PostgreSQL) 9.6'",
        );
        let path = folder.path().as_os_str().to_owned();
        let settings = testing::database(&cluster, "");
        let result = preflight(
            &settings,
            &[],
            &|name| (name == "LIFEBOAT_PG_BIN").then(|| path.clone()),
            testing::runtime(),
        );
        let error = result.unwrap_err().to_string();
        assert!(error.contains("is older than the server"), "{error}");
    }

    #[test]
    fn a_table_to_leave_out_that_is_not_there_is_a_finding() {
        let cluster = testing::cluster();
        let settings = testing::database(&cluster, "CREATE TABLE \"Sessions\" (id int)");
        let skip_data = ["public.Sessions", "public.sessions"].map(str::to_owned);
        let result = preflight(&settings, &skip_data, &|_| None, testing::runtime());
        let Err(PreflightError::Findings(found)) = result else {
            panic!("nothing was found");
        };
        let sentences: Vec<_> = found.iter().map(ToString::to_string).collect();
        assert_eq!(
            sentences,
            ["There is no table public.sessions whose rows could be left out."]
        );
    }
}
