//! An archive into a new database, whole or not at all.
//!
//! Restoring a dump runs what the dump says, so it never happens inside a database that was there before: a new one is
//! made from `template0` under a name of its own, which lets in nobody but us, and has the name that was asked for last.
//! If anything goes wrong it is dropped again; who is killed leaves it, and the next restore names it. What can be known from the archive's table of
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
    arrived::Arriving,
    asking::{self, Ask},
    catalog,
    child::{self, Input, ProgramError, Running},
    connect::{ConnectError, Connection, QueryError},
    fit::left_over,
    identity::{Identity, IdentityError},
    intake::{Intake, IntakeError, Passed},
    load::LoadError,
    plan::{Plan, PlanError, RestoreOptions},
    programs::{ProgramVersion, Programs},
    quote,
    restore_plan::place,
    settings::Settings,
    statistics,
    survey::ScriptError,
    verify::VerifyError,
};

const PROGRAM: &str = "pg_restore";

/// How often the name is tried while somebody is in the new database who cannot be sent away: for about a minute.
const RENAMES_MAX: u32 = 12;

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
    /// Not all objects of the archive are there, whatever was said on the way.
    #[error(
        "pg_restore was said to have ended well, and {lacking} of the archive's objects are not there, such as {first}"
    )]
    Lacking {
        /// How many.
        lacking: usize,
        /// One of them.
        first: String,
    },
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

/// Says what keeps `archive` from being restored, as an error, without touching anything. Of `archive` the beginning is
/// read; the arguments are those of [`restore_archive`].
///
/// # Errors
/// When something does not fit, the server does not answer, or the archive cannot be read.
pub fn plan_archive(
    admin: &Settings,
    programs: &Programs,
    new_database: &str,
    archive: &mut dyn Read,
    options: &RestoreOptions,
    stop: &AtomicBool,
    handle: &Handle,
) -> Result<(), RestoreError> {
    let connection = asking::open(admin, handle)?;
    free_place(&*connection, new_database)?;
    let intake = Intake::open(archive, stop)?;
    Plan::make(&*connection, programs, intake.scanner(), options)?;
    Ok(())
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
    let connection = asking::open(admin, handle)?;
    let place = free_place(&*connection, new_database)?;
    let server = catalog::server(&*connection)?;
    let intake = Intake::open(archive, stop)?;
    let plan = Plan::make(&*connection, programs, intake.scanner(), options)?;
    let arriving = Arriving::of(intake.scanner().contents().unwrap_or_default());
    let source = if options.jobs > 1 {
        Source::File(intake.spool(&options.spool_folder)?)
    } else {
        Source::Stream(intake)
    };
    create(&*connection, &place, options, server.major())?;
    // Hours may pass until somebody asks the next question there; a server may end idle sessions.
    drop(connection);
    let work = Work {
        admin,
        programs,
        place: &place,
        plan: &plan,
        arriving: &arriving,
        options,
        stop,
        handle,
    };
    match work.whole(source, new_database) {
        Ok((archive, mut warnings)) => {
            warnings.splice(0..0, plan.warnings);
            Ok(RestoreReport {
                database: new_database.to_owned(),
                archive,
                program: programs.version(),
                warnings,
            })
        }
        Err(source) => {
            let dropped = asking::open(admin, handle).map_err(|error| error.to_string());
            let dropped = dropped.and_then(|connection| {
                drop_database(&*connection, &place, server.major()).map_err(|error| error.message)
            });
            Err(RestoreError::Failed {
                database: new_database.to_owned(),
                source: Box::new(source),
                left_behind: dropped.err().map(|why| format!("{place}: {why}")),
            })
        }
    }
}

/// The name that a new database has while it is being made, when neither that nor its own is taken.
pub(crate) fn free_place(connection: &dyn Ask, database: &str) -> Result<String, RestoreError> {
    if exists(connection, database)? {
        return Err(RestoreError::Exists(database.to_owned()));
    }
    let place = place(database);
    if exists(connection, &place)? {
        return Err(PlanError::Refused(vec![left_over(database, &place)]).into());
    }
    Ok(place)
}

pub(crate) fn exists(connection: &dyn Ask, database: &str) -> Result<bool, QueryError> {
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
    connection: &dyn Ask,
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

/// What happens around and in the new database.
struct Work<'a> {
    admin: &'a Settings,
    programs: &'a Programs,
    /// The database's name meanwhile.
    place: &'a str,
    plan: &'a Plan,
    arriving: &'a Arriving,
    options: &'a RestoreOptions,
    stop: &'a AtomicBool,
    handle: &'a Handle,
}

impl Work<'_> {
    /// Makes the database whole, and then gives it its name; what the archive was, and warnings.
    fn whole(
        &self,
        source: Source<'_>,
        database: &str,
    ) -> Result<(ArchiveSummary, Vec<String>), RestoreFailure> {
        let admin = || asking::open(self.admin, self.handle);
        shut(&*admin()?, self.place)?;
        let settings = self.admin.with_database(self.place);
        let settings = if settings.is_beyond() {
            settings
        } else {
            // The address that was reached is the one that the programs shall reach.
            let inside = Connection::open(&settings, self.handle)?;
            inside.settings().clone()
        };
        Identity::of(&*asking::open(&settings, self.handle)?)?.confirm(&settings, self.programs)?;
        let (summary, stderr) = self.fill(&settings, source)?;
        let mut warnings: Vec<String> = stderr.lines().map(ToOwned::to_owned).collect();
        if settings.is_beyond() {
            let inside = asking::open(&settings, self.handle)?;
            if let Some((lacking, first)) = self.arriving.lacking(&*inside)? {
                return Err(RestoreFailure::Lacking { lacking, first });
            }
            if self.options.analyze {
                warnings.extend(statistics::analyze_by(&*inside));
            }
        } else if self.options.analyze {
            let made = statistics::analyze(&settings, self.options.jobs, self.stop, self.handle)?;
            warnings.extend(made);
        }
        let admin = admin()?;
        warnings.extend(open_to_others(&*admin, self.place, self.options));
        give_name(&*admin, self.place, database, self.stop)?;
        Ok((summary, warnings))
    }

    /// Has `pg_restore` make everything; gives what the archive was, and what was written to standard error.
    fn fill(
        &self,
        settings: &Settings,
        source: Source<'_>,
    ) -> Result<(ArchiveSummary, String), RestoreFailure> {
        let Self {
            programs,
            plan,
            options,
            stop,
            ..
        } = *self;
        let list = plan
            .list
            .as_deref()
            .map(|ids| write_list(ids, options))
            .transpose()?;
        let mut command = command(
            settings,
            programs,
            options.jobs,
            plan.single_transaction,
            options,
        );
        if let Some(list) = &list {
            command.arg("--use-list").arg(list.path());
        }
        Ok(match source {
            Source::File((file, summary)) => {
                // Parallel workers open the archive again by its name; this name leads to the file that has none.
                command.arg("/dev/stdin").stdin(Stdio::from(file));
                (
                    summary,
                    Running::start_as(PROGRAM, command)?.wait_unless(stop)?,
                )
            }
            Source::Stream(intake) => {
                command.stdin(Stdio::piped());
                let mut running = Running::start_as(PROGRAM, command)?;
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
        })
    }
}

pub(crate) fn command(
    settings: &Settings,
    programs: &Programs,
    jobs: u32,
    single_transaction: bool,
    options: &RestoreOptions,
) -> Command {
    // A role or server that is read-only by default would refuse everything.
    let settings = settings.with_option("default_transaction_read_only=off");
    let mut command = child::command(&programs.program(PROGRAM), Some(&settings));
    command
        .args(["--exit-on-error", "--no-password", "--dbname"])
        .arg(settings.conninfo())
        .stdout(Stdio::null());
    if jobs > 1 && !single_transaction {
        command.arg(format!("--jobs={jobs}"));
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
    connection: &dyn Ask,
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

/// Keeps everybody out but its owner, who we are, and superusers; whoever was quicker is sent away.
pub(crate) fn shut(admin: &dyn Ask, database: &str) -> Result<(), QueryError> {
    admin.execute(
        "shut the new database",
        &format!(
            "REVOKE ALL ON DATABASE {} FROM PUBLIC",
            quote::identifier(database)
        ),
    )?;
    send_away(admin, database)
}

/// Ends all sessions in a database that we may end; a superuser's are not ours to end unless we are one.
pub(crate) fn send_away(admin: &dyn Ask, database: &str) -> Result<(), QueryError> {
    let sessions = admin.rows(
        "list the sessions in the new database",
        &format!(
            "SELECT pid FROM pg_catalog.pg_stat_activity WHERE datname = {}",
            quote::literal(database)
        ),
    )?;
    for pid in sessions.into_iter().flatten().flatten() {
        let sql = format!("SELECT pg_catalog.pg_terminate_backend({pid})");
        match admin.execute("end a session in the new database", &sql) {
            Err(error) if !error.is(&SqlState::INSUFFICIENT_PRIVILEGE) => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// Gives a database that is whole its name. Nobody may be in it meanwhile, such as a program that watches over all
/// databases of a server: it is closed to everybody, who is in it is sent away, and the name opens it again.
pub(crate) fn give_name(
    admin: &dyn Ask,
    place: &str,
    database: &str,
    stop: &AtomicBool,
) -> Result<(), RestoreFailure> {
    let (old, new) = (quote::identifier(place), quote::identifier(database));
    admin.execute(
        "close the new database",
        &format!("ALTER DATABASE {old} ALLOW_CONNECTIONS false"),
    )?;
    for attempts_left in (0..RENAMES_MAX).rev() {
        if stop.load(Ordering::Relaxed) {
            return Err(LoadError::Stopped.into());
        }
        send_away(admin, place)?;
        // The server itself waits five seconds for the last session to end.
        let renamed = admin.execute_together(
            "give the new database its name",
            &[
                &format!("ALTER DATABASE {old} RENAME TO {new}"),
                &format!("ALTER DATABASE {new} ALLOW_CONNECTIONS true"),
            ],
        );
        match renamed {
            Err(error) if error.is(&SqlState::OBJECT_IN_USE) && attempts_left > 0 => {}
            renamed => return Ok(renamed?),
        }
    }
    Ok(())
}

/// Gives the database its settings and lets in whom the source let in. What cannot be set is a warning, for the rows
/// are all there.
pub(crate) fn open_to_others(
    connection: &dyn Ask,
    database: &str,
    options: &RestoreOptions,
) -> Vec<String> {
    let mut warnings = Vec::new();
    let grants = options
        .facts
        .as_ref()
        .and_then(|facts| facts.grants.as_ref());
    if grants.is_none() || options.no_acl {
        let sql = format!(
            "GRANT CONNECT, TEMPORARY ON DATABASE {} TO PUBLIC",
            quote::identifier(database)
        );
        if let Err(error) = connection.execute("let others in", &sql) {
            warnings.push(format!(
                "Others cannot connect to the database yet: {sql}: {}.",
                error.message
            ));
        }
    }
    warnings.extend(apply_settings(connection, database, options));
    warnings
}

pub(crate) fn drop_database(
    connection: &dyn Ask,
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
