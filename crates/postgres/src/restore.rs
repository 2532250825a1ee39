//! An archive into a new database, whole or not at all.
//!
//! Restoring a dump runs what the dump says, so it never happens inside a database that was there before: a new one is
//! made from `template0`, and dropped again if anything goes wrong. What can be known from the archive's table of
//! contents is checked before it is made: the client's age, roles, extensions, the tables that were asked for.
//!
//! Success needs all of it: every byte of the archive was read and the archive was complete, `pg_restore` (told to stop
//! at the first error) exited with 0, and it was talking to the database that was just made.

use std::{
    fs::File,
    io::{self, Read, Write as _},
    path::PathBuf,
    process::{Command, Stdio},
    sync::atomic::{AtomicBool, Ordering},
};

use tokio::runtime::Handle;
use tokio_postgres::error::SqlState;

use crate::{
    archive::ArchiveSummary,
    catalog,
    child::{self, Input, ProgramError, Running},
    connect::{ConnectError, Connection, QueryError},
    identity::{Identity, IdentityError},
    intake::{Intake, IntakeError, Passed},
    load::LoadError,
    plan::{Plan, PlanError, RestoreOptions},
    programs::{ProgramVersion, Programs},
    quote,
    settings::Settings,
    survey::ScriptError,
    verify::VerifyError,
};

/// Why an archive was not restored. Nothing was made, except where [`Failed`](Self::Failed) says so.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RestoreError {
    /// There is no connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// A question was not answered.
    #[error(transparent)]
    Query(#[from] QueryError),
    /// The database is there already.
    #[error("the database \"{0}\" exists already, and a restore makes a new one")]
    Exists(String),
    /// The archive and the server do not fit.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The archive cannot be read, or is none.
    #[error(transparent)]
    Intake(#[from] IntakeError),
    /// The server does not make such a database.
    #[error("cannot make the database \"{database}\": {}", answer.message)]
    Create {
        /// Its name.
        database: String,
        /// What the server said to it.
        answer: QueryError,
    },
    /// The restore failed after the new database was made.
    #[error("the restore into \"{database}\" failed; {}", leftover(left_behind.as_deref()))]
    Failed {
        /// The new database.
        database: String,
        /// What went wrong.
        #[source]
        source: Box<RestoreFailure>,
        /// Why the half-made database is still there, if it is.
        left_behind: Option<String>,
    },
}

/// What went wrong inside the new database.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RestoreFailure {
    /// It cannot be connected to.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// A statement failed.
    #[error(transparent)]
    Query(#[from] QueryError),
    /// The child programs do not reach it.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// `pg_restore` failed.
    #[error(transparent)]
    Program(#[from] ProgramError),
    /// The archive could not be read to its end, or was not complete.
    #[error(transparent)]
    Intake(#[from] IntakeError),
    /// The rows did not come in.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// What came in is not what the backup was made of.
    #[error(transparent)]
    Verify(#[from] VerifyError),
    /// A script is not run to its end.
    #[error(transparent)]
    Script(#[from] ScriptError),
    /// The list of what is to be restored could not be written.
    #[error("cannot write a temporary file in {}", folder.display())]
    List {
        /// The folder.
        folder: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

fn leftover(left_behind: Option<&str>) -> String {
    match left_behind {
        None => "the half-made database was dropped again".to_owned(),
        Some(why) => {
            format!("the half-made database is still there and has to be dropped by hand ({why})")
        }
    }
}

/// What was restored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestoreReport {
    /// The new database.
    pub database: String,
    /// What the archive was.
    pub archive: ArchiveSummary,
    /// The `pg_restore` that did it.
    pub program: ProgramVersion,
    /// Sentences about what was left out or could not be set, and what `pg_restore` wrote to standard error.
    pub warnings: Vec<String>,
}

/// Restores `archive` into the new database `new_database` of the server that `admin` leads to.
///
/// `admin` names a database to connect to meanwhile, usually `postgres`, and a role that may create databases. When
/// `stop` is set, the restore fails soon.
pub fn restore_archive(
    admin: &Settings,
    programs: &Programs,
    new_database: &str,
    archive: &mut dyn Read,
    options: &RestoreOptions,
    stop: &AtomicBool,
    handle: &Handle,
) -> Result<RestoreReport, RestoreError> {
    let connection = Connection::open(admin, handle)?;
    if exists(&connection, new_database)? {
        return Err(RestoreError::Exists(new_database.to_owned()));
    }
    let server = catalog::server(&connection)?;
    let intake = Intake::open(archive, stop)?;
    let plan = Plan::make(&connection, programs, intake.scanner(), options)?;
    let source = if options.jobs > 1 {
        Source::File(intake.spool(&options.spool_folder)?)
    } else {
        Source::Stream(intake)
    };
    create(&connection, new_database, options, server.major())?;
    let settings = connection.settings().with_database(new_database);
    let outcome = Connection::open(&settings, handle)
        .map_err(RestoreFailure::from)
        .and_then(|inside| fill(&inside, programs, source, &plan, options, stop));
    match outcome {
        Ok((archive, mut warnings)) => {
            warnings.splice(0..0, plan.warnings);
            warnings.extend(apply_settings(&connection, new_database, options));
            Ok(RestoreReport {
                database: new_database.to_owned(),
                archive,
                program: programs.version(),
                warnings,
            })
        }
        Err(source) => Err(RestoreError::Failed {
            database: new_database.to_owned(),
            source: Box::new(source),
            left_behind: drop_database(&connection, new_database, server.major())
                .err()
                .map(|error| error.message),
        }),
    }
}

pub(crate) fn exists(connection: &Connection, database: &str) -> Result<bool, QueryError> {
    let sql = format!(
        "SELECT 1 FROM pg_catalog.pg_database WHERE datname = {}",
        quote::literal(database)
    );
    Ok(!connection
        .rows("look whether the database exists", &sql)?
        .is_empty())
}

/// Where `pg_restore` reads from.
enum Source<'a> {
    Stream(Intake<'a>),
    File((File, ArchiveSummary)),
}

pub(crate) fn create(
    connection: &Connection,
    database: &str,
    options: &RestoreOptions,
    major: u32,
) -> Result<(), RestoreError> {
    let sql = match &options.facts {
        Some(facts) => facts.create_sql(database, major),
        None => format!(
            "CREATE DATABASE {} TEMPLATE template0",
            quote::identifier(database)
        ),
    };
    match connection.execute("make the database", &sql) {
        Ok(()) => Ok(()),
        Err(error) if error.is(&SqlState::DUPLICATE_DATABASE) => {
            Err(RestoreError::Exists(database.to_owned()))
        }
        Err(answer) => Err(RestoreError::Create {
            database: database.to_owned(),
            answer,
        }),
    }
}

/// Everything that happens inside the new database.
fn fill(
    connection: &Connection,
    programs: &Programs,
    source: Source<'_>,
    plan: &Plan,
    options: &RestoreOptions,
    stop: &AtomicBool,
) -> Result<(ArchiveSummary, Vec<String>), RestoreFailure> {
    let settings = connection.settings();
    Identity::of(connection)?.confirm(settings, programs)?;
    let list = plan
        .list
        .as_deref()
        .map(|ids| write_list(ids, options))
        .transpose()?;
    let mut command = command(settings, programs, plan.single_transaction, options);
    if let Some(list) = &list {
        command.arg("--use-list").arg(list.path());
    }
    let (summary, stderr) = match source {
        Source::File((file, summary)) => {
            // Parallel workers open the archive again by its name; this name leads to the file that has none.
            command.arg("/dev/stdin").stdin(Stdio::from(file));
            (summary, Running::start(command)?.wait_unless(stop)?)
        }
        Source::Stream(intake) => {
            command.stdin(Stdio::piped());
            let mut running = Running::start(command)?;
            let stdin = running
                .child()
                .stdin
                .take()
                .expect("standard input is a pipe");
            let stdin = Input::new(stdin, stop).map_err(|source| running.contact(source))?;
            let passed = intake.pass_on(stdin);
            match passed {
                Ok(Passed::All(summary)) => (summary, running.wait_unless(stop)?),
                // Its words count first. If it had all that was chosen, the rest must be good all the same.
                Ok(Passed::Refused(intake)) => {
                    let stderr = running.wait_unless(stop)?;
                    (intake.follow_to_the_end()?, stderr)
                }
                // A bad archive is the cause, and what `pg_restore` makes of half of it the consequence.
                Err(error) => {
                    running.kill();
                    return Err(error.into());
                }
            }
        }
    };
    let mut warnings: Vec<String> = stderr.lines().map(ToOwned::to_owned).collect();
    if options.analyze && !stop.load(Ordering::Relaxed) {
        warnings.extend(analyze(connection));
    }
    Ok((summary, warnings))
}

/// Makes the planner's statistics; without them the rows are all there, so a failure is a warning.
fn analyze(connection: &Connection) -> Option<String> {
    // Functions in indexes may count on the database's own path.
    let error = connection
        .execute("reset the path", "RESET search_path")
        .and_then(|()| connection.execute("make the planner's statistics", "ANALYZE"))
        .err()?;
    Some(format!(
        "The planner's statistics were not made: {}.",
        error.message
    ))
}

pub(crate) fn command(
    settings: &Settings,
    programs: &Programs,
    single_transaction: bool,
    options: &RestoreOptions,
) -> Command {
    // A role or server that is read-only by default would refuse everything.
    let mut settings = settings.clone();
    let given = settings.options.take().unwrap_or_default();
    settings.options = Some(
        format!("{given} -c default_transaction_read_only=off")
            .trim()
            .to_owned(),
    );
    let mut command = child::command(&programs.program("pg_restore"), Some(&settings));
    command
        .args(["--exit-on-error", "--no-password", "--dbname"])
        .arg(settings.conninfo())
        .stdout(Stdio::null());
    if options.jobs > 1 && !single_transaction {
        command.arg(format!("--jobs={}", options.jobs));
    }
    for (wanted, argument) in [
        (single_transaction, "--single-transaction"),
        (options.no_owner, "--no-owner"),
        (options.no_acl, "--no-privileges"),
        (options.no_tablespaces, "--no-tablespaces"),
    ] {
        if wanted {
            command.arg(argument);
        }
    }
    command
}

pub(crate) fn write_list(
    ids: &[i64],
    options: &RestoreOptions,
) -> Result<tempfile::NamedTempFile, RestoreFailure> {
    let write = || {
        let mut file = tempfile::NamedTempFile::new_in(&options.spool_folder)?;
        for id in ids {
            writeln!(file, "{id};")?;
        }
        file.flush()?;
        Ok(file)
    };
    write().map_err(|source| RestoreFailure::List {
        folder: options.spool_folder.clone(),
        source,
    })
}

/// Gives the new database the source's settings; what cannot be set is a warning, for the rows are all there.
pub(crate) fn apply_settings(
    connection: &Connection,
    database: &str,
    options: &RestoreOptions,
) -> Vec<String> {
    let Some(facts) = &options.facts else {
        return Vec::new();
    };
    facts
        .settings_sql(database, !options.no_owner, !options.no_acl)
        .into_iter()
        .filter_map(|sql| {
            let error = connection.execute("set", &sql).err()?;
            Some(format!(
                "A setting of the database was not restored: {sql}: {}.",
                error.message
            ))
        })
        .collect()
}

pub(crate) fn drop_database(
    connection: &Connection,
    database: &str,
    major: u32,
) -> Result<(), QueryError> {
    let name = quote::identifier(database);
    if major >= 13 {
        return connection.execute(
            "drop the database",
            &format!("DROP DATABASE {name} WITH (FORCE)"),
        );
    }
    connection.execute(
        "end the sessions in the database",
        &format!(
            "SELECT pg_catalog.pg_terminate_backend(pid) FROM pg_catalog.pg_stat_activity WHERE datname = {}",
            quote::literal(database)
        ),
    )?;
    connection.execute("drop the database", &format!("DROP DATABASE {name}"))
}

#[cfg(test)]
mod tests;
