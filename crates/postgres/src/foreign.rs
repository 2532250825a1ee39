//! A dump that others made, into a new database: whole or not at all, and with no more rights than it needs.
//!
//! A dump is a program. An archive goes to `pg_restore`, as [`restore_archive`] does it. Plain SQL is not given to
//! `psql`, which would run commands of the dump's on this machine: it is taken apart here and sent over our own session, one
//! statement after the other, in one transaction that ends at the first error. What is left is what SQL can do with the
//! rights of the role that runs it; so a role that is a superuser, or may become one, is refused unless it was wished so.
//!
//! A script is read twice: once before anything is made, to know that it is whole and that all of it may be run, and what
//! it takes for granted; and once to run it. What has changed meanwhile is judged again.
//!
//! Invariant: the database that was asked for is whole or not there. It has another name until then, and nobody else can
//! enter it.

use std::{
    fmt::Write as _,
    io::{self, Cursor, Read, Write as _},
    sync::atomic::AtomicBool,
};

use tokio::runtime::Handle;

use crate::{
    archive::ArchiveSummary,
    catalog,
    connect::{ConnectError, Connection, QueryError, Row},
    dump_kind::{DUMP_HEAD_LEN_BYTES, DumpKind},
    load::LoadError,
    plan::{PlanError, RestoreOptions, column, missing},
    programs::{Programs, ProgramsError},
    quote,
    resolve::Environment,
    restore::{
        RestoreError, RestoreFailure, create, drop_database, free_place, give_name, open_to_others,
        restore_archive, shut,
    },
    session::{CopyIn, Session},
    settings::Settings,
    sql_statement::{Meaning, Statement},
    sql_text::Piece,
    statistics,
    survey::{self, ScriptError, Survey, Without, refused},
};

/// A restore of a foreign dump.
#[derive(Clone, Copy)]
pub struct ForeignRestore<'a> {
    /// A database of the server to connect to meanwhile, usually `postgres`, and a role that may create databases.
    pub admin: &'a Settings,
    /// The new database.
    pub database: &'a str,
    /// Where PostgreSQL's programs are looked for, which an archive needs.
    pub environment: Environment<'a>,
    /// Objects belong to the role that restores, whoever owned them.
    pub no_owner: bool,
    /// Grants are left out.
    pub no_acl: bool,
    /// How many connections load an archive; a script comes over one.
    pub jobs: u32,
    /// Whether the dump may run with the rights of a superuser.
    pub as_superuser: bool,
    /// When set, the restore fails soon.
    pub stop: &'a AtomicBool,
}

/// Opens the dump at its beginning, unpacked; may be called several times.
pub type OpenDump<'a> = dyn Fn() -> io::Result<Box<dyn Read + 'a>> + 'a;

/// What was restored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForeignReport {
    /// The new database.
    pub database: String,
    /// What came.
    pub content: ForeignContent,
    /// Sentences about what was left out or could not be set.
    pub warnings: Vec<String>,
}

/// What a foreign dump was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ForeignContent {
    /// An archive of `pg_dump`.
    Archive(ArchiveSummary),
    /// Plain SQL.
    Script {
        /// How many statements it has.
        statements: u64,
        /// How many rows came by `COPY`, as the server counted them.
        rows: u64,
    },
}

/// Why a foreign dump was not restored. Nothing was made, except where [`RestoreError::Failed`] says so.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ForeignError {
    /// There is no connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// A question was not answered.
    #[error(transparent)]
    Query(#[from] QueryError),
    /// It is nothing that can be restored.
    #[error(
        "this is {kind}, and what can be restored is plain SQL or a custom archive of one database by pg_dump{}",
        mends(kind)
    )]
    Kind {
        /// What it is.
        kind: DumpKind,
    },
    /// It would run with too many rights.
    #[error(
        "a foreign dump runs with all rights of its role, and \"{role}\" {why}; restore it as a role that may only create databases"
    )]
    Powerful {
        /// The role that connects.
        role: String,
        /// "is a superuser".
        why: String,
    },
    /// It is not whole, not understood, or not run.
    #[error("the dump cannot be restored")]
    Script(#[from] ScriptError),
    /// The server has not everything that it names.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// There is no `pg_restore` for an archive.
    #[error(transparent)]
    Programs(#[from] ProgramsError),
    /// The restore itself.
    #[error(transparent)]
    Restore(#[from] RestoreError),
}

fn mends(kind: &DumpKind) -> &'static str {
    match kind {
        DumpKind::Packed(_) => "; unpack it first",
        DumpKind::Gzip => "; it is packed twice, so unpack it first",
        DumpKind::Wide => {
            "; turn it into UTF-8 first, for example with iconv --from-code=UTF-16 --to-code=UTF-8"
        }
        DumpKind::Tar => "; load it with pg_restore",
        _ => "",
    }
}

/// Restores a foreign dump into a new database.
///
/// # Errors
/// When it is no dump, not whole, or would do what is not done here; when the role has too many rights; when anything
/// fails on the way or `stop` is set. Then the new database is gone again.
pub fn restore_foreign(
    restore: &ForeignRestore<'_>,
    open: &OpenDump<'_>,
    handle: &Handle,
) -> Result<ForeignReport, ForeignError> {
    let mut dump = open().map_err(ScriptError::Read)?;
    let mut head = Vec::new();
    (&mut dump)
        .take(DUMP_HEAD_LEN_BYTES as u64)
        .read_to_end(&mut head)
        .map_err(ScriptError::Read)?;
    let kind = DumpKind::of(&head);
    if !matches!(kind, DumpKind::Archive | DumpKind::Script | DumpKind::Sql) {
        return Err(ForeignError::Kind { kind });
    }
    let mut dump = Cursor::new(head).chain(dump);
    let admin = Connection::open(restore.admin, handle)?;
    let server = catalog::server(&admin)?;
    if !restore.as_superuser {
        refuse_power(&admin, server.major())?;
    }
    let place = free_place(&admin, restore.database)?;
    let options = RestoreOptions {
        no_owner: restore.no_owner,
        no_acl: restore.no_acl,
        jobs: restore.jobs,
        ..RestoreOptions::default()
    };
    if kind == DumpKind::Archive {
        drop(admin);
        let programs = Programs::find(server.major(), restore.environment)?;
        let report = restore_archive(
            restore.admin,
            &programs,
            restore.database,
            &mut dump,
            &options,
            restore.stop,
            handle,
        )?;
        return Ok(ForeignReport {
            database: report.database,
            content: ForeignContent::Archive(report.archive),
            warnings: report.warnings,
        });
    }
    let without = Without {
        owners: restore.no_owner,
        grants: restore.no_acl,
    };
    let survey = Survey::of(&mut dump, without, restore.stop)?;
    drop(dump);
    if survey.statements == 0 {
        return Err(ForeignError::Kind {
            kind: DumpKind::Empty,
        });
    }
    refuse_lacks(&admin, &survey)?;
    create(&admin, &place, &options, server.major())?;
    // Hours may pass until somebody asks the next question there; a server may end idle sessions.
    drop(admin);
    let work = Work {
        restore,
        place: &place,
        without,
        options: &options,
        handle,
    };
    match work.whole(open) {
        Ok((rows, mut warnings)) => {
            if !survey.marked {
                warnings.insert(
                    0,
                    "The dump does not say where it ends, so nobody knows whether all of it is there.".to_owned(),
                );
            }
            Ok(ForeignReport {
                database: restore.database.to_owned(),
                content: ForeignContent::Script {
                    statements: survey.statements,
                    rows,
                },
                warnings,
            })
        }
        Err(source) => {
            let admin = Connection::open(restore.admin, handle).map_err(|error| error.to_string());
            let dropped = admin.and_then(|admin| {
                drop_database(&admin, &place, server.major()).map_err(|error| error.message)
            });
            Err(ForeignError::Restore(RestoreError::Failed {
                database: restore.database.to_owned(),
                source: Box::new(source),
                left_behind: dropped.err().map(|why| format!("{place}: {why}")),
            }))
        }
    }
}

/// Refuses a role that is a superuser or can become one, or reach the server's files and programs. Before version 16
/// whoever may make roles can make himself a member of any but a superuser.
fn refuse_power(admin: &Connection, major: u32) -> Result<(), ForeignError> {
    let rows = admin.rows(
        "ask what the role may do",
        "SELECT session_user, r.rolname, r.rolname = session_user, r.rolsuper
           FROM pg_catalog.pg_roles r
          WHERE pg_catalog.pg_has_role(session_user, r.oid, 'MEMBER')
            AND (r.rolsuper OR r.rolname IN ('pg_execute_server_program', 'pg_read_server_files', 'pg_write_server_files')
                 OR (r.rolcreaterole AND r.rolname = session_user))
          ORDER BY r.rolsuper DESC, r.rolname <> session_user, r.rolname",
    )?;
    let harmless = |reach: &Reach| reach.own && !reach.superuser && major >= 16;
    let mut found = rows.into_iter().filter_map(Reach::of);
    let Some(reach) = found.find(|reach| !harmless(reach)) else {
        return Ok(());
    };
    let why = match (reach.own, reach.superuser) {
        (true, true) => "is a superuser".to_owned(),
        (true, false) => {
            "may make roles, and before PostgreSQL 16 may make itself a member of almost any"
                .to_owned()
        }
        (false, _) => format!("is a member of \"{}\"", reach.other),
    };
    Err(ForeignError::Powerful {
        role: reach.role,
        why,
    })
}

/// A role that another one can use.
struct Reach {
    role: String,
    other: String,
    own: bool,
    superuser: bool,
}

impl Reach {
    fn of(row: Row) -> Option<Self> {
        let [role, other, own, superuser] = <[_; 4]>::try_from(row).ok()?;
        Some(Self {
            role: role?,
            other: other?,
            own: own? == "t",
            superuser: superuser? == "t",
        })
    }
}

/// Refuses a dump whose roles or extensions the server has not.
fn refuse_lacks(admin: &Connection, survey: &Survey) -> Result<(), ForeignError> {
    let roles = column(
        admin,
        "list the roles",
        "SELECT rolname FROM pg_catalog.pg_roles",
    )?;
    let extensions = column(
        admin,
        "list the extensions that can be installed",
        "SELECT name FROM pg_catalog.pg_available_extensions",
    )?;
    let roles = missing(survey.roles.iter().map(String::as_str).collect(), &roles);
    let needed = survey.extensions.iter().map(String::as_str).collect();
    let extensions = missing(needed, &extensions);
    if roles.is_empty() && extensions.is_empty() {
        return Ok(());
    }
    Err(PlanError::Lacks { roles, extensions }.into())
}

/// What the new database has in place of what no script tells.
fn locale(admin: &Connection, database: &str) -> Result<String, QueryError> {
    let what = "ask for the new database's locale";
    let row = admin.row(
        what,
        &format!(
            "SELECT pg_catalog.pg_encoding_to_char(encoding), datcollate FROM pg_catalog.pg_database WHERE datname = {}",
            quote::literal(database)
        ),
    )?;
    let [Some(encoding), Some(collate)] = &row[..] else {
        return Err(QueryError::shape(what));
    };
    Ok(format!(
        "The dump does not say which encoding and locale its database had: the new one has this server's own ({encoding}, \
         {collate}), by which text is sorted and compared."
    ))
}

/// What happens around and in the new database.
struct Work<'a> {
    restore: &'a ForeignRestore<'a>,
    /// The database's name meanwhile.
    place: &'a str,
    without: Without,
    options: &'a RestoreOptions,
    handle: &'a Handle,
}

impl Work<'_> {
    fn admin(&self) -> Result<Connection, ConnectError> {
        Connection::open(self.restore.admin, self.handle)
    }

    /// Makes the database whole, and then gives it its name; the number of rows, and warnings.
    fn whole(&self, open: &OpenDump<'_>) -> Result<(u64, Vec<String>), RestoreFailure> {
        let admin = self.admin()?;
        shut(&admin, self.place)?;
        let locale = locale(&admin, self.place)?;
        drop(admin);
        let settings = self.restore.admin.with_database(self.place);
        let (rows, mut warnings) = self.run(&settings, open)?;
        warnings.insert(0, locale);
        let (stop, jobs) = (self.restore.stop, self.options.jobs);
        warnings.extend(statistics::analyze(&settings, jobs, stop, self.handle)?);
        let admin = self.admin()?;
        warnings.extend(open_to_others(&admin, self.place, self.options));
        give_name(&admin, self.place, self.restore.database, self.restore.stop)?;
        Ok((rows, warnings))
    }

    /// Runs the script in one transaction.
    fn run(
        &self,
        settings: &Settings,
        open: &OpenDump<'_>,
    ) -> Result<(u64, Vec<String>), RestoreFailure> {
        const WHAT: &str = "ask for the transaction";
        let stops = [self.restore.stop];
        let session = Session::open(settings, self.handle, &stops)?;
        // The dump expects a session as psql has it, and not one for reading as ours are. What it finds it may change.
        let execute = |what, sql| session.execute(what, sql).map_err(LoadError::from);
        execute(
            "set up the session",
            "RESET ALL; SET client_encoding = 'UTF8'; SET standard_conforming_strings = on; SET statement_timeout = 0;
             SET lock_timeout = 0; SET idle_in_transaction_session_timeout = 0;
             SELECT pg_catalog.set_config(name, '0', false)
               FROM pg_catalog.pg_settings WHERE name = 'transaction_timeout'",
        )?;
        execute("begin", "BEGIN READ WRITE")?;
        const ASK: &str = "SELECT pg_catalog.txid_current()";
        let begun = session.row(WHAT, ASK).map_err(LoadError::from)?;
        let mut loading = Loading {
            session: &session,
            without: self.without,
            encoding: None,
            copy: None,
            rows: 0,
            warnings: Vec::new(),
        };
        let mut dump = open().map_err(ScriptError::Read)?;
        survey::read(&mut dump, self.restore.stop, &mut |piece| {
            loading.take(piece)
        })?;
        let (rows, warnings) = (loading.rows, loading.warnings);
        // Whoever has ended the transaction in a way that is not seen here has left half of it outside.
        if session.row(WHAT, ASK).map_err(LoadError::from)? != begun {
            return Err(ScriptError::TransactionLost.into());
        }
        execute("make the database last", "COMMIT")?;
        Ok((rows, warnings))
    }
}

/// Rows on their way.
struct Copying<'s> {
    rows: CopyIn<'s, 's>,
    line: u64,
    plain: bool,
    sent: u64,
}

/// A script on its way to the server.
struct Loading<'s> {
    session: &'s Session<'s>,
    without: Without,
    /// What the script's text is in, where that is not UTF-8.
    encoding: Option<String>,
    copy: Option<Copying<'s>>,
    rows: u64,
    warnings: Vec<String>,
}

impl Loading<'_> {
    fn take(&mut self, piece: Piece<'_>) -> Result<(), RestoreFailure> {
        match piece {
            Piece::Statement { sql, line } => self.statement(sql, line),
            Piece::Rows(bytes) => {
                let copy = self
                    .copy
                    .as_mut()
                    .expect("rows follow the statement that announces them");
                copy.sent += memchr::memchr_iter(b'\n', bytes).count() as u64;
                // The server's refusal is the cause, and is kept where the rows are written.
                if let Err(error) = copy.rows.write_all(bytes) {
                    return Err(match copy.rows.take_failure() {
                        Some(failure) => LoadError::from(failure).into(),
                        None => ScriptError::Read(error).into(),
                    });
                }
                Ok(())
            }
            Piece::RowsEnd => {
                let copy = self.copy.take().expect("rows that end have begun");
                let kept = copy.rows.finish().map_err(LoadError::from)?;
                if copy.plain && kept != copy.sent {
                    return Err(ScriptError::Rows {
                        line: copy.line,
                        sent: copy.sent,
                        kept,
                    }
                    .into());
                }
                self.rows += kept;
                Ok(())
            }
        }
    }

    fn statement(&mut self, sql: &[u8], line: u64) -> Result<(), RestoreFailure> {
        let what = format!("run line {line} of the dump");
        let meaning = Statement::of(sql).meaning;
        if self.without.covers(&meaning) {
            return Ok(());
        }
        match meaning {
            Meaning::Run | Meaning::Owner | Meaning::Grants => {
                let text = self.text(sql, line)?;
                self.execute(&what, &text)
            }
            Meaning::Instead(other) => self.execute(&what, other),
            Meaning::Transaction => Ok(()),
            Meaning::Needless(words) => {
                let sentence = words.map(|words| format!("The dump was not followed in {words}."));
                if let Some(sentence) = sentence
                    && !self.warnings.contains(&sentence)
                {
                    self.warnings.push(sentence);
                }
                Ok(())
            }
            Meaning::Encoding(name) => {
                self.encoding = (name != "UTF8").then_some(name);
                Ok(())
            }
            Meaning::Rows { plain } => {
                let mut text = self.text(sql, line)?;
                if let Some(encoding) = &self.encoding {
                    if !plain {
                        return Err(ScriptError::CopyOptions { line }.into());
                    }
                    // On a line of its own, behind a comment that the statement may end with.
                    text.push_str(&format!("\n(ENCODING {})", quote::literal(encoding)));
                }
                self.copy = Some(Copying {
                    rows: self
                        .session
                        .copy_in(&what, &text)
                        .map_err(LoadError::from)?,
                    line,
                    plain,
                    sent: 0,
                });
                Ok(())
            }
            Meaning::Refused(why) => Err(refused(sql, line, why).into()),
        }
    }

    fn execute(&self, what: &str, sql: &str) -> Result<(), RestoreFailure> {
        Ok(self.session.execute(what, sql).map_err(LoadError::from)?)
    }

    /// A statement in UTF-8, which the session speaks: the server knows all encodings, so it is the one that is asked.
    fn text(&self, sql: &[u8], line: u64) -> Result<String, RestoreFailure> {
        let Some(encoding) = self.encoding.as_ref().filter(|_| !sql.is_ascii()) else {
            let text = std::str::from_utf8(sql).map_err(|_| ScriptError::NotUtf8 { line })?;
            return Ok(text.to_owned());
        };
        let mut digits = String::with_capacity(sql.len() * 2);
        for byte in sql {
            write!(digits, "{byte:02x}").expect("memory takes every text");
        }
        let question = format!(
            "SELECT pg_catalog.convert_from(pg_catalog.decode('{digits}', 'hex'), {})",
            quote::literal(encoding)
        );
        let what = format!("convert line {line} of the dump from {encoding}");
        let row = self
            .session
            .row(&what, &question)
            .map_err(LoadError::from)?;
        let text = row.into_iter().next().flatten();
        Ok(text.ok_or_else(|| QueryError::shape(what))?)
    }
}

#[cfg(test)]
mod tests;
