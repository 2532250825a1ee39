//! A database out of its parts, whole or not at all.
//!
//! The order is that of docs/postgres.md, "A restore": the plan; a new database from `template0` under a name of its own,
//! which lets in nobody but us; the schema's first half by `pg_restore`; rows, large objects and sequences by our own
//! sessions; the second half, with grants, by `pg_restore`; the planner's statistics; all of it read again; the database's
//! own settings and grants, and with them the others; last its name.
//!
//! Invariant: the database that was asked for is whole or not there. Whatever fails, what was made is dropped again; who
//! is killed leaves a database of another name that nobody can enter, and the next plan names it.

use std::{
    fs::File,
    io::{self, Read},
    num::NonZeroUsize,
    process::Stdio,
    thread,
};

use tokio::runtime::Handle;

use crate::{
    catalog,
    child::{ProgramError, Running},
    connect::{ConnectError, Connection},
    identity::Identity,
    intake::Intake,
    load::Load,
    plan::PlanError,
    programs::ProgramVersion,
    restore::{
        RestoreError, RestoreFailure, command, create, drop_database, exists, give_name,
        open_to_others, shut, write_list,
    },
    restore_plan::{Chosen, PartsRestore, RestorePlan, Schema, place},
    settings::{Host, Settings},
    source::PartSource,
    statistics,
    verify::{Verification, Verified},
};

/// What was restored from parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartsReport {
    /// The new database.
    pub database: String,
    /// The `pg_restore` that made its schema.
    pub program: ProgramVersion,
    /// How many tables got their rows.
    pub tables: u64,
    /// How many rows, as the server counted them.
    pub rows: u64,
    /// How many large objects.
    pub large_objects: u64,
    /// How many sequences were set.
    pub sequences: u64,
    /// Bytes of rows and large objects.
    pub len_bytes: u64,
    /// What was read again and found equal, if that was wanted.
    pub verified: Option<Verified>,
    /// Sentences about what was left out or could not be set, and what `pg_restore` wrote to standard error.
    pub warnings: Vec<String>,
}

/// Says what a restore would do, without touching anything. Of `archive`, which is the backup's schema, the beginning
/// is read.
///
/// # Errors
/// When the database is there already, the server does not answer or the schema cannot be read; what does not fit is in
/// the plan.
pub fn plan_parts(
    restore: &PartsRestore<'_>,
    archive: &mut dyn Read,
    handle: &Handle,
) -> Result<RestorePlan, RestoreError> {
    let connection = Connection::open(restore.admin, handle)?;
    if exists(&connection, restore.database)? {
        return Err(RestoreError::Exists(restore.database.to_owned()));
    }
    let intake = Intake::open(archive, restore.stop)?;
    let (plan, _) = RestorePlan::make(&connection, restore, &Schema::of(intake.scanner())?)?;
    Ok(plan)
}

/// Restores a database from `archive`, which is its schema, and from `source`, which has the rest.
///
/// # Errors
/// When the plan has a refusal, `stop` is set, or anything fails on the way; then the new database is gone again.
pub fn restore_parts(
    restore: &PartsRestore<'_>,
    archive: &mut dyn Read,
    source: &PartSource<'_>,
    handle: &Handle,
) -> Result<PartsReport, RestoreError> {
    let connection = Connection::open(restore.admin, handle)?;
    let (database, options) = (restore.database, restore.options);
    if exists(&connection, database)? {
        return Err(RestoreError::Exists(database.to_owned()));
    }
    let intake = Intake::open(archive, restore.stop)?;
    let schema = Schema::of(intake.scanner())?;
    let (plan, chosen) = RestorePlan::make(&connection, restore, &schema)?;
    if !plan.refusals.is_empty() {
        return Err(PlanError::Refused(plan.refusals).into());
    }
    let (file, _) = intake.spool(&options.spool_folder)?;
    let server = catalog::server(&connection)?;
    let place = place(database);
    create(&connection, &place, options, server.major())?;
    // Hours may pass until somebody asks the next question there; a server may end idle sessions.
    drop(connection);
    let work = Work {
        restore,
        place: &place,
        chosen: &chosen,
        schema: &file,
        superuser: server.role.superuser,
        major: server.major(),
        handle,
    };
    let (mut warnings, verified) = match work.whole(source) {
        Ok(filled) => filled,
        Err(source) => {
            let dropped = work.admin().map_err(|error| error.to_string());
            let dropped = dropped.and_then(|admin| {
                drop_database(&admin, &place, server.major()).map_err(|error| error.message)
            });
            return Err(RestoreError::Failed {
                database: database.to_owned(),
                source: Box::new(source),
                left_behind: dropped.err().map(|why| format!("{place}: {why}")),
            });
        }
    };
    warnings.splice(0..0, notes(&plan));
    Ok(PartsReport {
        database: database.to_owned(),
        program: plan.program,
        tables: plan
            .tables
            .iter()
            .filter(|table| table.rows.is_some())
            .count() as u64,
        rows: plan.tables.iter().filter_map(|table| table.rows).sum(),
        large_objects: plan.large_objects,
        sequences: plan.sequences,
        len_bytes: plan.len_bytes,
        verified,
        warnings,
    })
}

/// What the plan says that whoever gets the database should know.
fn notes(plan: &RestorePlan) -> Vec<String> {
    let doubts = plan.doubts.iter().map(|doubt| doubt.sentence.clone());
    let left_out = plan
        .left_out
        .iter()
        .map(|what| format!("Left out, because it needs what was not chosen: {what}."));
    let skipped = plan
        .tables
        .iter()
        .filter(|table| table.rows.is_none())
        .map(|table| format!("{} is empty: the backup has left its rows out.", table.path));
    doubts.chain(left_out).chain(skipped).collect()
}

/// What happens inside the new database.
struct Work<'a> {
    restore: &'a PartsRestore<'a>,
    /// The database's name meanwhile.
    place: &'a str,
    chosen: &'a Chosen<'a>,
    schema: &'a File,
    superuser: bool,
    /// The server's version.
    major: u32,
    handle: &'a Handle,
}

/// What to tell of a database that is whole, and what was found equal.
type Filled = (Vec<String>, Option<Verified>);

impl Work<'_> {
    /// A new session with the server, in the database that was there before.
    fn admin(&self) -> Result<Connection, ConnectError> {
        Connection::open(self.restore.admin, self.handle)
    }

    /// Makes the database whole, and then gives it its name.
    fn whole(&self, source: &PartSource<'_>) -> Result<Filled, RestoreFailure> {
        shut(&self.admin()?, self.place)?;
        let (mut warnings, verified) = self.fill(source)?;
        let admin = self.admin()?;
        let restore = self.restore;
        warnings.extend(open_to_others(&admin, self.place, restore.options));
        give_name(&admin, self.place, restore.database, restore.stop)?;
        Ok((warnings, verified))
    }

    fn fill(&self, source: &PartSource<'_>) -> Result<Filled, RestoreFailure> {
        let PartsRestore { programs, stop, .. } = *self.restore;
        let settings = self.restore.admin.with_database(self.place);
        let (settings, encoding) = {
            let inside = Connection::open(&settings, self.handle)?;
            Identity::of(&inside)?.confirm(inside.settings(), programs)?;
            (inside.settings().clone(), inside.encoding().to_owned())
        };
        let settings = &settings;
        let mut stderr = self.half(
            settings,
            &self.chosen.before,
            self.restore.options.jobs,
            self.chosen.single_transaction,
        )?;
        let load = Load {
            tables: self.chosen.tables.clone(),
            of_extensions: self.chosen.of_extensions.clone(),
            through_root: self.chosen.through_root.clone(),
            large_objects: self.chosen.large_objects,
            sequences: self.chosen.sequences.clone(),
            encoding,
            superuser: self.superuser,
            jobs: self.restore.options.jobs.max(1),
        };
        load.run(settings, source, stop, self.handle)?;
        let beside = self.restore.hash_key.is_some() && !self.chosen.runs_code && load.jobs > 1;
        let after = After {
            major: self.major,
            runs_code: self.chosen.runs_code,
            beside,
            jobs: load.jobs,
            largest_of: load.largest_of(),
        };
        let mut rest = || -> Result<Vec<String>, RestoreFailure> {
            let settings = &after.settings(settings);
            stderr.push_str(&self.half(
                settings,
                &self.chosen.after,
                after.workers(settings),
                false,
            )?);
            let mut warnings: Vec<String> = stderr.lines().map(ToOwned::to_owned).collect();
            if self.restore.options.analyze {
                let made = statistics::analyze(settings, load.jobs, stop, self.handle)?;
                warnings.extend(made);
            }
            Ok(warnings)
        };
        let Some(hash_key) = self.restore.hash_key else {
            return Ok((rest()?, None));
        };
        let verification = Verification {
            tables: load.tables,
            large_objects: load.large_objects,
            sequences: load.sequences,
            hash_key,
            jobs: load.jobs,
        };
        let (warnings, verified) = if beside {
            // Two keys of one table come one after the other, and leave a processor idle.
            verification.run_beside(settings, stop, self.handle, rest)?
        } else {
            let warnings = rest()?;
            let verified = verification.run(settings, stop, self.handle)?;
            (warnings, verified)
        };
        Ok((warnings, Some(verified)))
    }

    /// Has `pg_restore` make these entries; gives what it wrote to standard error.
    fn half(
        &self,
        settings: &Settings,
        ids: &[i64],
        jobs: u32,
        single_transaction: bool,
    ) -> Result<String, RestoreFailure> {
        let PartsRestore {
            programs,
            options,
            stop,
            ..
        } = *self.restore;
        let list = write_list(ids, options)?;
        let mut command = command(settings, programs, jobs, single_transaction, options);
        let contact = |source: io::Error| {
            RestoreFailure::from(ProgramError::Contact {
                program: "pg_restore".to_owned(),
                source,
            })
        };
        // By its name, so that each program and each of its workers opens the file anew, at its beginning.
        command
            .arg("--use-list")
            .arg(list.path())
            .arg("/dev/stdin")
            .stdin(Stdio::from(self.schema.try_clone().map_err(contact)?));
        Ok(Running::start(command)?.wait_unless(stop)?)
    }
}

/// From which version on rows that are loaded frozen need not be looked up by who comes from an index.
const FROZEN_IS_VISIBLE: u32 = 14;
/// An index that was just built lies in the order of its keys, and such rows need not be looked up: by way of indexes a foreign
/// key is proven in a third of the time that the rows themselves take. The planner sees that where the next page costs
/// what any page costs, and an entry of an index a small part of a row.
const BY_NEW_INDEXES: [&str; 2] = ["random_page_cost=1", "cpu_index_tuple_cost=0.001"];

/// What is known of the work that comes after the rows.
struct After {
    major: u32,
    /// Whether something runs that the database's owners wrote.
    runs_code: bool,
    /// Whether all rows are read again meanwhile.
    beside: bool,
    jobs: u32,
    /// The costs of the largest table's rows, and of all.
    largest_of: (u64, u64),
}

impl After {
    /// For the sessions that make keys and indexes.
    fn settings(&self, settings: &Settings) -> Settings {
        let mut settings = settings.clone();
        // What the owners wrote is planned as it would be anywhere.
        if self.major >= FROZEN_IS_VISIBLE && !self.runs_code {
            for option in BY_NEW_INDEXES {
                settings = settings.with_option(option);
            }
        }
        if self.is_busy(&settings) {
            // Helpers of one index cost a quarter more work than they take off.
            settings = settings.with_option("max_parallel_maintenance_workers=0");
        }
        settings
    }

    /// How many workers make keys and indexes.
    fn workers(&self, settings: &Settings) -> u32 {
        // Keys of one table are made one after the other, and wait for who reads its rows: one more keeps the processors
        // busy, and the longest row of keys is not begun last. Memory for an index it takes from the helpers, who are none.
        self.jobs + u32::from(self.is_busy(settings))
    }

    /// Whether our own work keeps all of the server's processors busy until the end.
    fn is_busy(&self, settings: &Settings) -> bool {
        let local = matches!(settings.host, Host::Socket(_));
        let processors = thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let (largest, all) = self.largest_of;
        // One large table's indexes are made alone at the end, when processors wait for them.
        let is_even = largest <= all / 2;
        local && self.beside && is_even && self.jobs as usize >= processors
    }
}

#[cfg(test)]
mod tests;
