//! A database's content replaced by a backup's, in one transaction of one session: for roles that may make no database,
//! and for databases that must stay the object that they are.
//!
//! Everything is in it: locks on all tables, the dropping of what is there, the schema, the rows, the reading again of what
//! came in. Until the `COMMIT` nobody sees any of it, and whoever is killed leaves what was there before, as the server
//! itself warrants. Whether it was committed is asked of the server by the transaction's number.
//!
//! The order: [`open`](InPlace::open) and [`hold`](InPlace::hold), after which others can read and nobody can write, so that
//! what is backed up then is what will be replaced; [`replace`](InPlace::replace); [`ask`](InPlace::ask) as often as wanted;
//! [`commit`](InPlace::commit). Dropped before, it was nothing.

use std::{
    collections::HashSet,
    io::Read,
    thread,
    time::{Duration, Instant},
};

use tokio::runtime::Handle;
use tokio_postgres::error::SqlState;

use crate::{
    archive::ArchiveError,
    assembly::{Assembly, AssemblyError, Data, Item},
    connect::{ConnectError, Connection, QueryError},
    in_place_plan::{Decision, InPlacePlan, InPlaceRestore},
    intake::IntakeError,
    inventory::{Inventory, Object, reset_grants},
    load::{self, LoadError},
    partitions::Partitions,
    parts::TablePart,
    quote,
    script::{Script, ScriptOptions},
    selection,
    session::{Session, SessionError},
    settings::Settings,
    source::PartSource,
    statistics,
    verify::{Verification, Verified, VerifyError},
};

/// How long is waited for those who read a table, and for sessions of killed runs.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long one attempt to lock all tables waits, and keeps others waiting behind it: longer than the server's usual
/// `deadlock_timeout`, after which whoever vacuums by itself gives way.
const ATTEMPT: &str = "2s";
const PAUSE: Duration = Duration::from_millis(50);
/// What is done with a transaction's number, for messages.
const NUMBER: &str = "ask for the transaction's number";
/// How many statements one message has.
const STATEMENTS_PER_MESSAGE: usize = 100;

/// Why a database's content was not replaced. It is what it was.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InPlaceError {
    /// There is no connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// A statement failed.
    #[error(transparent)]
    Query(#[from] QueryError),
    /// The schema's archive cannot be read.
    #[error(transparent)]
    Intake(#[from] IntakeError),
    /// The schema and the rows do not make a database.
    #[error(transparent)]
    Assembly(#[from] AssemblyError),
    /// The rows did not come in.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// What came in is not what the backup was made of.
    #[error(transparent)]
    Verify(#[from] VerifyError),
    /// Somebody else is at work in the database.
    #[error("others hold what is to be replaced: {}", .0.join("; "))]
    Held(Vec<String>),
    /// Something is in the way.
    #[error("{}", .0.join(" "))]
    Refused(Vec<String>),
    /// Something is there that the plan has not shown.
    #[error("the database has what the plan did not show: {}", .0.join(", "))]
    Appeared(Vec<String>),
    /// Something was to stay, and did not.
    #[error("dropping what is replaced would take away what is to stay: {}", .0.join(", "))]
    Lost(Vec<String>),
    /// What a killed run began goes on.
    #[error("the server is still at work for a run that was killed ({0})")]
    AtWork(String),
    /// Nobody knows any more whether it was committed.
    #[error("the server does not know any more what became of the transaction {0}")]
    Forgotten(String),
    /// The server did not answer to the commit.
    #[error("the server did not say whether it has committed")]
    Unsaid(#[source] QueryError),
}

impl From<SessionError> for InPlaceError {
    fn from(error: SessionError) -> Self {
        match error {
            SessionError::Query(error) => Self::Query(error),
            SessionError::Stopped => Self::Load(LoadError::Stopped),
        }
    }
}

impl From<ArchiveError> for InPlaceError {
    fn from(error: ArchiveError) -> Self {
        Self::Intake(error.into())
    }
}

/// What became of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All of it is there.
    Committed,
    /// Nothing of it ever was.
    Aborted,
}

/// What came in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InPlaceReport {
    /// What was read again and found equal.
    pub verified: Verified,
}

/// A transaction that replaces a database's content.
pub struct InPlace<'a> {
    session: Session<'a>,
    transaction: String,
}

impl<'a> InPlace<'a> {
    /// Begins in the database of `settings`, after sessions of killed runs with the same `mark` have ended.
    ///
    /// # Errors
    /// When there is no connection, or such a session does not end.
    pub fn open(
        settings: &Settings,
        mark: &str,
        stops: &'a [&'a std::sync::atomic::AtomicBool],
        handle: &Handle,
    ) -> Result<Self, InPlaceError> {
        let session = Session::open(settings, handle, stops)?;
        end_marked(session.connection(), mark)?;
        // What the role's defaults say does not count here. The commit decides about folders, so it has to last.
        session.execute(
            "set up the session",
            &format!(
                "SET application_name = {}; SET default_transaction_read_only = off; SET xmloption = content;
                 SET synchronous_commit = on; SET statement_timeout = 0; SET idle_in_transaction_session_timeout = 0",
                quote::literal(mark)
            ),
        )?;
        Ok(Self {
            session,
            transaction: String::new(),
        })
    }

    /// Locks all tables against whoever writes. Who holds one and may be sent away by our role is sent away.
    ///
    /// # Errors
    /// When somebody stays longer than `patience`; the error names him.
    pub fn hold(&mut self, patience: Duration) -> Result<(), InPlaceError> {
        const WHAT: &str = "begin";
        let begun = Instant::now();
        loop {
            self.session.execute(
                WHAT,
                &format!("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; SET LOCAL lock_timeout = '{ATTEMPT}'"),
            )?;
            let tables = Inventory::take(self.session.connection())?;
            match self.lock(&tables, "EXCLUSIVE") {
                Ok(()) => break,
                Err(error) => {
                    self.session.execute("begin again", "ROLLBACK")?;
                    self.wait_for_holders(&tables, "'AccessShareLock'", begun + patience, error)?;
                }
            }
        }
        self.transaction = number(self.session.connection())?;
        Ok(())
    }

    /// The transaction's number, by which the server knows what became of it.
    pub fn transaction(&self) -> &str {
        &self.transaction
    }

    fn lock(&self, inventory: &Inventory, mode: &str) -> Result<(), SessionError> {
        let tables: Vec<&str> = inventory.tables().map(|(_, identity)| identity).collect();
        if tables.is_empty() {
            return Ok(());
        }
        let sql = format!("LOCK TABLE {} IN {mode} MODE", tables.join(", "));
        self.session.execute("lock the tables", &sql)
    }

    /// After a lock was not given: sends away who holds one, and waits a little, but for not longer than `until`.
    /// `harmless` are modes that do no harm.
    fn wait_for_holders(
        &self,
        inventory: &Inventory,
        harmless: &str,
        until: Instant,
        error: SessionError,
    ) -> Result<(), InPlaceError> {
        match &error {
            SessionError::Query(refused)
                if refused.is(&SqlState::LOCK_NOT_AVAILABLE)
                    || refused.is(&SqlState::T_R_DEADLOCK_DETECTED) => {}
            _ => return Err(error.into()),
        }
        let connection = self.session.connection();
        let oids: Vec<&str> = inventory.tables().map(|(oid, _)| oid).collect();
        let holders = connection.rows(
            "look who holds the tables",
            &format!(
                "SELECT DISTINCT l.pid, pg_catalog.format('%s (%s, process %s, %s)', a.usename,
                        coalesce(nullif(a.application_name, ''), 'no name'), l.pid, coalesce(a.state, 'at work'))
                   FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid
                  WHERE l.locktype = 'relation' AND l.granted AND l.pid <> pg_catalog.pg_backend_pid()
                    AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())
                    AND coalesce(pg_catalog.pg_partition_root(l.relation), l.relation) = ANY ('{{{}}}'::oid[])
                    AND l.mode NOT IN ({harmless})",
                oids.join(",")
            ),
        )?;
        let mut names = Vec::new();
        for row in holders {
            let [Some(pid), Some(name)] = &row[..] else {
                continue;
            };
            names.push(name.clone());
            let sql = format!("SELECT pg_catalog.pg_terminate_backend({pid})");
            match connection.rows("end a session in the database", &sql) {
                Err(error) if !error.is(&SqlState::INSUFFICIENT_PRIVILEGE) => {
                    return Err(error.into());
                }
                _ => {}
            }
        }
        if Instant::now() > until {
            return Err(match names.is_empty() {
                true => error.into(),
                false => InPlaceError::Held(names),
            });
        }
        thread::sleep(PAUSE);
        Ok(())
    }

    /// Replaces the content. Of `archive`, which is the backup's schema, all is read; `source` is asked for the rest.
    /// `shown` is the plan that somebody has agreed to.
    ///
    /// # Errors
    /// When something is in the way that the plan has not shown, when anything fails or a stop is set, or when what came in
    /// is not what the backup was made of.
    pub fn replace(
        &mut self,
        restore: &InPlaceRestore<'_>,
        shown: &InPlacePlan,
        archive: &mut dyn Read,
        source: &PartSource<'_>,
    ) -> Result<InPlaceReport, InPlaceError> {
        let assembly = Assembly::new(archive, restore.parts)?;
        self.shut()?;
        let decision = Decision::make(self.session.connection(), restore, &assembly)?;
        let new = decision.plan.seen.difference(&shown.seen);
        let mut new: Vec<String> = new.cloned().collect();
        if decision.plan.oid != shown.oid {
            new.push("another database of that name".to_owned());
        }
        if !new.is_empty() {
            return Err(InPlaceError::Appeared(new));
        }
        if !decision.plan.refusals.is_empty() {
            let refusals = decision.plan.refusals.into_iter();
            return Err(InPlaceError::Refused(
                refusals.map(|finding| finding.sentence).collect(),
            ));
        }
        self.empty(&decision)?;
        self.fill(&decision, &assembly, source)?;
        let verified = Verification {
            tables: restore.parts.tables.iter().collect(),
            large_objects: &restore.parts.large_objects,
            sequences: restore.parts.sequences.iter().collect(),
            hash_key: restore.hash_key,
            jobs: 1,
        }
        .within(&mut self.session)?;
        self.look_for_strangers(&decision)?;
        Ok(InPlaceReport { verified })
    }

    /// From here on nobody reads either. An attempt that fails leaves the tables held.
    fn shut(&mut self) -> Result<(), InPlaceError> {
        let begun = Instant::now();
        let tables = Inventory::take(self.session.connection())?;
        loop {
            self.session
                .execute("lock the tables", "SAVEPOINT readers")?;
            match self.lock(&tables, "ACCESS EXCLUSIVE") {
                Ok(()) => break,
                Err(error) => {
                    self.session
                        .execute("try again", "ROLLBACK TO SAVEPOINT readers")?;
                    self.wait_for_holders(&tables, "''", begun + PATIENCE, error)?;
                }
            }
        }
        // Rows of the catalog are known as ours by the number of the transaction itself.
        self.session.execute(
            "lock the tables",
            &format!(
                "RELEASE SAVEPOINT readers; SET LOCAL lock_timeout = '{}s'",
                PATIENCE.as_secs()
            ),
        )?;
        Ok(())
    }

    fn empty(&self, decision: &Decision) -> Result<(), InPlaceError> {
        let connection = self.session.connection();
        let grants = reset_grants(connection, &decision.inventory.kept_schemas())?;
        for some in grants.chunks(STATEMENTS_PER_MESSAGE) {
            self.session
                .execute("take grants back", &some.join(";\n"))?;
        }
        // A notice for each object that goes would come otherwise.
        self.session
            .execute("set up the session", "SET client_min_messages = warning")?;
        let drops = decision.inventory.drop_sql(&decision.stays);
        for some in drops.chunks(STATEMENTS_PER_MESSAGE) {
            self.session
                .execute("drop what is replaced", &some.join(";\n"))?;
        }
        let now = Inventory::take(connection)?;
        let lost = now.lacks(&decision.inventory, &decision.stays);
        if !lost.is_empty() {
            return Err(InPlaceError::Lost(lost));
        }
        if now.owns_public.is_none() {
            self.session.execute(
                "make the schema public",
                "CREATE SCHEMA IF NOT EXISTS public",
            )?;
        }
        Ok(())
    }

    fn fill(
        &self,
        decision: &Decision,
        assembly: &Assembly<'_>,
        source: &PartSource<'_>,
    ) -> Result<(), InPlaceError> {
        let options = ScriptOptions::default();
        let mut script = Script::new(assembly, &options, Vec::new());
        let head = script.head_text()?;
        self.session.execute("set up the session", &head)?;
        // The script's own settings are for a session without any: here a lock is still not waited for for ever.
        self.session.execute(
            "set up the session",
            &format!("SET LOCAL lock_timeout = '{}s'", PATIENCE.as_secs()),
        )?;
        let tables = Tables::of(assembly);
        for item in script.in_order() {
            let entry = &item.entry;
            if decision.left_out.contains(&entry.id) {
                continue;
            }
            let text = script.text_of(entry)?;
            let name = match entry.schema() {
                Some(schema) => format!("{schema}.{}", entry.name),
                None => entry.name.clone(),
            };
            let what = format!("make {} {name}", entry.kind.to_lowercase());
            self.session.execute(&what, &text)?;
            self.data(item, &tables, source)?;
        }
        Ok(())
    }

    fn data(
        &self,
        item: &Item<'_>,
        tables: &Tables,
        source: &PartSource<'_>,
    ) -> Result<(), InPlaceError> {
        match &item.data {
            Data::Nothing => {}
            Data::Rows(part, _) => self.rows(part, tables, source)?,
            Data::LargeObjects(group) => {
                for some in group.chunks(STATEMENTS_PER_MESSAGE) {
                    load::put_large_objects(&self.session, some, source)?;
                }
            }
        }
        Ok(())
    }

    fn rows(
        &self,
        part: &TablePart,
        tables: &Tables,
        source: &PartSource<'_>,
    ) -> Result<(), InPlaceError> {
        let what = format!("load the rows of {}", part.path());
        let mut target = quote::qualified(&part.schema, &part.name);
        // Rows of a table that was made in the same transaction may be written as if they had always been there.
        let mut options = "FREEZE, ";
        if let Some(root) = tables.roots.get(&part.key()) {
            target.clone_from(root);
            options = "";
        } else if !tables.made.contains(&part.key()) {
            // An extension's table stays, and of its rows those that the extension does not bring are replaced.
            let condition = part.condition.as_deref().unwrap_or_default();
            self.session
                .execute(&what, &format!("DELETE FROM ONLY {target} {condition}"))?;
            options = "";
        }
        let sql = load::copy_sql(part, &target, options, self.session.connection().encoding());
        load::copy(&self.session, &what, &sql, part, source)?;
        Ok(())
    }

    /// What others have made meanwhile would be a part of the new state that nobody has backed up or agreed to.
    fn look_for_strangers(&self, decision: &Decision) -> Result<(), InPlaceError> {
        let now = Inventory::take(self.session.connection())?;
        let is_strange = |object: &&Object| {
            let was_kept =
                decision.stays.contains(&object.words())
                    || object.is_schema()
                        && decision.inventory.objects.iter().any(|before| {
                            before.oid == object.oid && decision.inventory.keeps(before)
                        });
            !object.is_new && !was_kept
        };
        let strange: Vec<String> = now
            .objects
            .iter()
            .filter(is_strange)
            .map(Object::words)
            .collect();
        if strange.is_empty() {
            return Ok(());
        }
        Err(InPlaceError::Appeared(strange))
    }

    /// Asks in the transaction, and lets it forget the question, also one that the server refuses.
    ///
    /// # Errors
    /// When the question is not answered. The transaction goes on.
    pub fn ask<T, E: From<QueryError>>(
        &self,
        question: impl FnOnce(&Connection) -> Result<T, E>,
    ) -> Result<T, E> {
        let connection = self.session.connection();
        connection.execute("ask", "SAVEPOINT question")?;
        let asked = question(connection);
        let forget = "ROLLBACK TO SAVEPOINT question; RELEASE SAVEPOINT question";
        connection.execute("forget the question", forget)?;
        asked
    }

    /// Makes it last; then the planner's statistics are made, without which the first queries are slow. Gives sentences about
    /// what could not be done afterwards.
    ///
    /// # Errors
    /// When the server refuses it, and all is as it was; or when it says nothing, and has to be asked for the
    /// [`outcome`].
    pub fn commit(self) -> Result<Vec<String>, InPlaceError> {
        let connection = self.session.connection();
        // To a COMMIT of one that has failed the server answers that all is well, and rolls it back.
        if number(connection)? != self.transaction {
            return Err(QueryError::shape(NUMBER).into());
        }
        // Nobody stops it here: it is done when it is sent.
        if let Err(error) = connection.execute("make the new content last", "COMMIT") {
            return Err(match error.sqlstate {
                Some(_) => InPlaceError::Query(error),
                None => InPlaceError::Unsaid(error),
            });
        }
        Ok(statistics::analyze_by(connection).into_iter().collect())
    }
}

/// The number of the transaction that the session is in, which one that has failed does not tell.
fn number(connection: &Connection) -> Result<String, QueryError> {
    let row = connection.row(NUMBER, "SELECT pg_catalog.txid_current()")?;
    let number = row.into_iter().next().flatten();
    number.ok_or_else(|| QueryError::shape(NUMBER))
}

/// What the archive makes of tables.
struct Tables {
    /// Those that it makes, by their names in SQL.
    made: HashSet<String>,
    /// For each partition whose rows go to the topmost table, that table.
    roots: std::collections::HashMap<String, String>,
}

impl Tables {
    fn of(assembly: &Assembly<'_>) -> Self {
        let entries: Vec<_> = assembly.items.iter().map(|item| &item.entry).collect();
        let partitions = Partitions::of(&entries);
        let tables = || entries.iter().filter(|entry| entry.kind == "TABLE");
        Self {
            made: tables().map(|entry| selection::key(entry)).collect(),
            roots: tables()
                .filter_map(|entry| {
                    let root = partitions.root_of_hashes(entry)?;
                    Some((selection::key(entry), selection::key(root)))
                })
                .collect(),
        }
    }
}

/// What became of the transaction of a run with this `mark`, which is ended if it is still at work.
///
/// # Errors
/// When the server does not answer, does not end the session, or has forgotten the transaction.
pub fn outcome(
    settings: &Settings,
    mark: &str,
    transaction: &str,
    handle: &Handle,
) -> Result<Outcome, InPlaceError> {
    let connection = Connection::open(settings, handle)?;
    end_marked(&connection, mark)?;
    let row = connection.row(
        "ask what became of the transaction",
        &format!(
            "SELECT pg_catalog.txid_status({}::bigint)",
            quote::literal(transaction)
        ),
    )?;
    match row.first().and_then(Option::as_deref) {
        Some("committed") => Ok(Outcome::Committed),
        Some("aborted") => Ok(Outcome::Aborted),
        Some(_) => Err(InPlaceError::AtWork(mark.to_owned())),
        None => Err(InPlaceError::Forgotten(transaction.to_owned())),
    }
}

/// Ends the sessions that a killed run with this `mark` has left.
///
/// # Errors
/// When the server does not answer, or one of them does not end.
pub fn end_sessions(settings: &Settings, mark: &str, handle: &Handle) -> Result<(), InPlaceError> {
    end_marked(&Connection::open(settings, handle)?, mark)
}

/// Ends the sessions that a killed run has left: a statement outlives the program that sent it.
fn end_marked(connection: &Connection, mark: &str) -> Result<(), InPlaceError> {
    let sql = format!(
        "SELECT pg_catalog.pg_terminate_backend(pid) FROM pg_catalog.pg_stat_activity
          WHERE application_name = {} AND pid <> pg_catalog.pg_backend_pid()",
        quote::literal(mark)
    );
    let begun = Instant::now();
    loop {
        let left = connection.rows("end what the server does for a killed run", &sql)?;
        if left.is_empty() {
            return Ok(());
        }
        if begun.elapsed() > PATIENCE {
            return Err(InPlaceError::AtWork(mark.to_owned()));
        }
        thread::sleep(PAUSE);
    }
}

#[cfg(test)]
mod tests;
