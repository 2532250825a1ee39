//! A snapshot's databases and folders take the place of the running app's, and go back: docs/restore-app.md.
//!
//! Invariant: whoever is killed, whenever, leaves the old state or the new one, or something in between that nobody can
//! enter and that the journal says how to end. What was there before is kept until it is told to go.

mod journal;
mod place;
mod inside;
mod lock;
mod migrations;
mod references;
mod settle;
mod plan;
mod beside;
mod content;

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use lifeboat_postgres::{
    InPlaceError, InPlacePlanError, QueryError, ResolveError, SwapError as DatabaseSwapError,
    Swapper,
};
use lifeboat_repository::{Progress, ReadError, Repository, Snapshot};
use thiserror::Error;
use tokio::runtime::Handle;

use self::beside::Beside;
pub use self::content::Ready;
use self::journal::{Journal, JournalFile, PlaceKind};
pub use self::journal::{JournalError, Phase, Side};
pub use self::lock::LockError;
pub use self::migrations::{Migrated, Migrations};
pub use self::place::PlaceError;
use self::place::inode_at;
use self::plan::Seat;
pub use self::plan::{InPlaceWish, PlannedTarget, SwapPlan, SwapRequest, TargetKind, plan_swap};
use self::settle::{Ways, remove_half_made, remove_other, settle};
use crate::config::AppConfig;
use crate::database::DatabaseError;
use crate::restore::RestoreError;
use crate::source::SourceError;
use crate::stored::StoredError;

/// An app could not be swapped.
#[derive(Debug, Error)]
pub enum SwapError {
    /// The journal.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The snapshot.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A server.
    #[error(transparent)]
    Server(#[from] DatabaseSwapError),
    /// The content of a database.
    #[error(transparent)]
    Content(#[from] InPlaceError),
    /// The plan for the content of a database.
    #[error(transparent)]
    ContentPlan(#[from] InPlacePlanError),
    /// A database in a snapshot.
    #[error(transparent)]
    Stored(#[from] StoredError),
    /// There is no restore point.
    #[error("there is no restore point, without which nothing is replaced in place")]
    NoPoint,
    /// The restore point lacks rows.
    #[error("the restore point lacks the rows of {0}")]
    PointLacks(String),
    /// The rows are not streams of their own.
    #[error("{0} is one archive of pg_dump, of which nothing comes back in place")]
    WholeArchive(String),
    /// A folder or file.
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// An SQLite database.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// An address.
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    /// The configured way to a database.
    #[error("the database cannot be reached as it is configured")]
    Source(#[from] SourceError),
    /// The restore of a database.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// The restore of a folder.
    #[error(transparent)]
    Restore(#[from] RestoreError),
    /// The configuration has no such database.
    #[error("the configuration has no database {0}")]
    NotConfigured(String),
    /// The plan has refusals.
    #[error("{}", .0.join("; "))]
    Refused(Vec<String>),
    /// What the plan showed is not there any more.
    #[error("{0} is not what the plan showed")]
    Changed(String),
    /// The snapshot is ahead of what is there.
    #[error("the snapshot is newer than the database that it replaces: {}", .0.join(" "))]
    Newer(Vec<String>),
    /// Not everything came as it was.
    #[error("{problems} items of {source_name} could not be restored as they were")]
    Problems {
        /// The source.
        source_name: String,
        /// How many.
        problems: u64,
    },
    /// Rows name files that were not restored, and of which the snapshot does not say that they lack.
    #[error(
        "rows name at least {missing} files that {folder} does not have once it is restored; the snapshot lacks {known}"
    )]
    References {
        /// The folder.
        folder: String,
        /// How many were found.
        missing: u64,
        /// How many the snapshot says.
        known: u64,
    },
    /// There is no room.
    #[error("there is no room at {}", .0.display())]
    Full(PathBuf),
    /// The snapshot's SQLite source is not a file.
    #[error("{0} is not one SQLite database in the snapshot")]
    NotOneFile(String),
    /// SQLite finds something wrong with what was restored.
    #[error("SQLite finds the restored database {source_name} damaged: {found}")]
    Damaged {
        /// The source.
        source_name: String,
        /// What it found.
        found: String,
    },
    /// An SQLite database could not be put where it belongs.
    #[error("cannot put a restored database at {}", path.display())]
    Unpack {
        /// The path.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// Something could not be removed.
    #[error("cannot remove {}", path.display())]
    Remove {
        /// The path.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// What is to be removed holds a repository.
    #[error("a repository lies at {}, and is not removed", .0.display())]
    Repository(PathBuf),
    /// Something was mounted in what is to be removed, and would be emptied.
    #[error("something is mounted at {}, and is not removed", .0.display())]
    Mounted(PathBuf),
    /// There is nothing to undo, or to forget.
    #[error("nothing is kept of a restore of {0}")]
    NothingKept(String),
    /// An earlier swap stands.
    #[error("what the last restore of {app} replaced is still kept")]
    Kept {
        /// The app.
        app: String,
    },
    /// The restore failed before anything was swapped, and what it made could not be removed.
    #[error("nothing was swapped, but what was restored beside is still there: {left}")]
    LeftBeside {
        /// Why it failed.
        #[source]
        source: Box<Self>,
        /// Why it is still there.
        left: Box<Self>,
    },
    /// It failed, and what was there before is live again.
    #[error("the swap failed and was turned back")]
    TurnedBack(#[source] Box<Self>),
    /// It failed, and so did the way back.
    #[error("the swap failed, and could not be turned back either: {back}")]
    Stuck {
        /// Why it failed.
        #[source]
        source: Box<Self>,
        /// Why it is not turned back.
        back: Box<Self>,
    },
}

impl From<QueryError> for SwapError {
    fn from(error: QueryError) -> Self {
        Self::Server(error.into())
    }
}

/// What is kept of a swap.
#[derive(Clone, Debug)]
pub struct KeptSwap {
    /// The snapshot that was restored, in hexadecimal.
    pub snapshot: String,
    /// When it was begun, in milliseconds since 1970.
    pub begun_ms: u64,
    /// How far it is.
    pub phase: Phase,
    /// What is live, or is to be.
    pub live: Side,
    /// Where what is not live is kept, for people.
    pub kept_as: Vec<String>,
    /// The snapshot that has the content which a database that stays would get back, in hexadecimal.
    pub content: Option<String>,
}

/// A swap that was done.
#[derive(Clone, Debug)]
pub struct Swapped {
    /// Where what was there before is kept, for people.
    pub kept_as: Vec<String>,
    /// How the databases stand to those that they replaced.
    pub migrations: Vec<Migrations>,
    /// What could not be set in the restored databases.
    pub warnings: Vec<String>,
}

/// The swaps of one app on this machine. As long as this lives, no other run swaps it.
#[derive(Debug)]
pub struct Swaps {
    file: JournalFile,
    app: String,
}

/// How a swap is made.
#[derive(Clone, Copy, Debug)]
pub struct SwapOptions {
    /// Connections at once for each database; `None` for as many as suit.
    pub jobs: Option<u32>,
    /// Replace a database also when it has had fewer migrations than what comes.
    pub allow_newer: bool,
    /// The time, in milliseconds since 1970.
    pub now_ms: u64,
}

impl Swaps {
    /// Takes the swaps of an app; `state` is the folder for what must not be lost.
    ///
    /// # Errors
    /// When another run has them, or the folder cannot be used.
    pub fn take(state: &Path, app: &str) -> Result<Self, SwapError> {
        Ok(Self {
            file: JournalFile::take(state, app)?,
            app: app.to_owned(),
        })
    }

    /// The journal's path.
    #[must_use]
    pub fn journal(&self) -> &Path {
        self.file.path()
    }

    /// What there is to end, or is kept.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub fn kept(&self) -> Result<Option<KeptSwap>, SwapError> {
        Ok(self.file.read()?.map(|journal| KeptSwap {
            kept_as: kept_as(&journal, journal.live.other()),
            content: journal
                .content
                .and_then(|item| item.snapshot(journal.live.other()).map(str::to_owned)),
            snapshot: journal.snapshot,
            begun_ms: journal.begun_ms,
            phase: journal.phase,
            live: journal.live,
        }))
    }

    /// Ends what a run that was killed has begun: removes what it restored beside, goes on with names that were
    /// changing, or with what was being removed. `None` when there was nothing to end.
    ///
    /// # Errors
    /// When it cannot be ended; the journal stays, and it can be tried again.
    pub fn resume(
        &self,
        app: &AppConfig,
        admin: Option<&str>,
        stop: &AtomicBool,
        runtime: &Handle,
    ) -> Result<Option<KeptSwap>, SwapError> {
        let Some(mut journal) = self.file.read()? else {
            return Ok(None);
        };
        let admin = admin.map(str::to_owned).or_else(|| journal.admin.clone());
        let ways = Ways {
            app,
            admin: admin.as_deref(),
            runtime,
        };
        let found = self.kept()?;
        match journal.phase {
            Phase::Standing => return Ok(None),
            Phase::Preparing => {
                if let Some(item) = &journal.content {
                    item.end_sessions(ways)?;
                }
                remove_half_made(&journal, ways)?;
                self.file.remove()?;
            }
            Phase::Swapping if journal.content.is_some() => {
                self.end(&mut journal, ways)?;
            }
            Phase::Swapping => {
                settle(&journal, ways, stop)?;
                journal.phase = Phase::Standing;
                self.file.write(&journal)?;
            }
            Phase::Forgetting => {
                remove_other(&journal, ways)?;
                self.file.remove()?;
            }
        }
        Ok(found)
    }

    /// Swaps back: what is kept becomes live, and what is live is kept. Also in the middle of a swap that was killed.
    ///
    /// # Errors
    /// When there is nothing to swap back. When it fails, what was live before is live again, or the error says that
    /// it is not.
    pub fn undo(
        &self,
        app: &AppConfig,
        admin: Option<&str>,
        stop: &AtomicBool,
        runtime: &Handle,
    ) -> Result<KeptSwap, SwapError> {
        let Some(mut journal) = self.swapped()? else {
            return Err(SwapError::NothingKept(self.app.clone()));
        };
        let admin = admin.map(str::to_owned).or_else(|| journal.admin.clone());
        let ways = Ways {
            app,
            admin: admin.as_deref(),
            runtime,
        };
        // An undo that was killed is done again; it does not turn round.
        let side = match journal.phase {
            Phase::Swapping => Side::Old,
            _ => journal.live.other(),
        };
        self.turn(&mut journal, side, ways, stop)?;
        self.kept()?
            .ok_or_else(|| SwapError::NothingKept(self.app.clone()))
    }

    /// The journal of a swap of which both states are there.
    fn swapped(&self) -> Result<Option<Journal>, SwapError> {
        let journal = self.file.read()?;
        Ok(journal.filter(|journal| matches!(journal.phase, Phase::Swapping | Phase::Standing)))
    }

    /// Makes a side live. If it fails, the other one.
    fn turn(
        &self,
        journal: &mut Journal,
        side: Side,
        ways: Ways<'_>,
        stop: &AtomicBool,
    ) -> Result<(), SwapError> {
        journal.phase = Phase::Swapping;
        journal.live = side;
        self.file.write(journal)?;
        let Err(failure) = settle(journal, ways, stop) else {
            journal.phase = Phase::Standing;
            return Ok(self.file.write(journal)?);
        };
        Err(match self.turn_back(journal, ways) {
            Ok(()) => SwapError::TurnedBack(Box::new(failure)),
            Err(back) => SwapError::Stuck {
                source: Box::new(failure),
                back: Box::new(back),
            },
        })
    }

    fn turn_back(&self, journal: &mut Journal, ways: Ways<'_>) -> Result<(), SwapError> {
        journal.live = journal.live.other();
        self.file.write(journal)?;
        // Whoever pressed Ctrl-C wants this most of all.
        settle(journal, ways, &AtomicBool::new(false))?;
        journal.phase = Phase::Standing;
        Ok(self.file.write(journal)?)
    }

    /// Removes what is kept and not live, for good.
    ///
    /// # Errors
    /// When nothing is kept, or it cannot be removed; then it can be tried again.
    pub fn forget(
        &self,
        app: &AppConfig,
        admin: Option<&str>,
        runtime: &Handle,
    ) -> Result<KeptSwap, SwapError> {
        let nothing = || SwapError::NothingKept(self.app.clone());
        let kept = self.kept()?.ok_or_else(nothing)?;
        let mut journal = self.file.read()?.ok_or_else(nothing)?;
        if journal.phase != Phase::Standing {
            return Err(nothing());
        }
        let admin = admin.map(str::to_owned).or_else(|| journal.admin.clone());
        let ways = Ways {
            app,
            admin: admin.as_deref(),
            runtime,
        };
        self.forget_other(&mut journal, ways)?;
        Ok(kept)
    }

    fn forget_other(&self, journal: &mut Journal, ways: Ways<'_>) -> Result<(), SwapError> {
        journal.phase = Phase::Forgetting;
        self.file.write(journal)?;
        remove_other(journal, ways)?;
        Ok(self.file.remove()?)
    }

    /// Restores what the plan says beside what is there, and swaps it in.
    ///
    /// # Errors
    /// When the plan has a refusal, what it showed has changed, or anything fails on the way. Then everything is as it
    /// was before, unless the error says that it is not.
    #[expect(clippy::too_many_arguments, reason = "each is of another owner")]
    pub fn make(
        &self,
        repository: &Repository,
        snapshot: &Snapshot,
        request: &SwapRequest<'_>,
        plan: &SwapPlan,
        options: SwapOptions,
        progress: &dyn Progress,
        stop: &AtomicBool,
        runtime: &Handle,
    ) -> Result<Swapped, SwapError> {
        let ways = Ways {
            app: request.app,
            admin: request.admin,
            runtime,
        };
        let mut journal = self.begin(snapshot, plan, options, ways)?;
        let beside = Beside {
            repository,
            snapshot,
            ways,
            jobs: options.jobs,
            progress,
            stop,
            content: None,
        };
        let prepared = prepare(&beside, plan, &mut journal, options.allow_newer);
        let (warnings, migrations) = match prepared {
            Ok(prepared) => prepared,
            Err(failure) => return Err(self.clean_up(&journal, ways, failure)),
        };
        progress.phase("Swapping");
        self.swap(&mut journal, ways, stop)?;
        Ok(Swapped {
            kept_as: kept_as(&journal, Side::Old),
            migrations,
            warnings,
        })
    }

    /// Begins to replace what the plan says.
    fn begin(
        &self,
        snapshot: &Snapshot,
        plan: &SwapPlan,
        options: SwapOptions,
        ways: Ways<'_>,
    ) -> Result<Journal, SwapError> {
        if !plan.refusals.is_empty() {
            return Err(SwapError::Refused(plan.refusals.clone()));
        }
        if self.file.read()?.is_some() {
            return Err(SwapError::Kept {
                app: self.app.clone(),
            });
        }
        look_again(plan, ways)?;
        let mut journal = Journal::new(
            &self.app,
            snapshot.name.id.to_string(),
            options.now_ms,
            ways.admin.map(str::to_owned),
        );
        for target in &plan.targets {
            match &target.seat {
                Seat::Database(item) => journal.databases.push(item.clone()),
                Seat::Content(content) => journal.content = Some(content.0.clone()),
                Seat::Place(item) => {
                    if item.kind == PlaceKind::Sqlite {
                        journal.locks.push(item.live.clone());
                    }
                    journal.places.push(item.clone());
                }
                Seat::Inside { live, kind, .. } => {
                    if *kind == PlaceKind::Sqlite {
                        journal.locks.push(live.clone());
                    }
                }
            }
        }
        journal.number();
        self.file.write(&journal)?;
        Ok(journal)
    }

    /// Removes what was restored and did not become live, after a failure; gives the error that tells both.
    fn clean_up(&self, journal: &Journal, ways: Ways<'_>, failure: SwapError) -> SwapError {
        let removed = remove_half_made(journal, ways);
        match removed.and_then(|()| Ok(self.file.remove()?)) {
            Ok(()) => failure,
            Err(left) => SwapError::LeftBeside {
                source: Box::new(failure),
                left: Box::new(left),
            },
        }
    }

    /// Makes what was restored live. If that fails, it is removed, and what was there before is live.
    fn swap(
        &self,
        journal: &mut Journal,
        ways: Ways<'_>,
        stop: &AtomicBool,
    ) -> Result<(), SwapError> {
        match self.turn(journal, Side::New, ways, stop) {
            Err(failure @ SwapError::TurnedBack(_)) => match self.forget_other(journal, ways) {
                Ok(()) => Err(failure),
                Err(left) => Err(SwapError::LeftBeside {
                    source: Box::new(failure),
                    left: Box::new(left),
                }),
            },
            turned => turned,
        }
    }
}

/// Everything before names change.
fn prepare(
    beside: &Beside<'_>,
    plan: &SwapPlan,
    journal: &mut Journal,
    allow_newer: bool,
) -> Result<(Vec<String>, Vec<Migrations>), SwapError> {
    let mut warnings = beside.all(plan, journal)?;
    warnings.extend(beside.references(plan, journal)?);
    let migrations = beside.migrations(plan, journal)?;
    refuse_newer(&migrations, allow_newer)?;
    look_again(plan, beside.ways)?;
    if beside.stop.load(std::sync::atomic::Ordering::Relaxed) {
        return Err(RestoreError::Stopped.into());
    }
    Ok((warnings, migrations))
}

/// Refuses databases that have had more migrations than those that they replace, unless that is wished.
///
/// # Errors
/// When one has, and it is not.
pub fn refuse_newer(migrations: &[Migrations], allow_newer: bool) -> Result<(), SwapError> {
    let newer = migrations
        .iter()
        .filter(|found| found.migrated == Migrated::Newer);
    let newer: Vec<String> = newer.map(|found| found.sentence.clone()).collect();
    if allow_newer || newer.is_empty() {
        return Ok(());
    }
    Err(SwapError::Newer(newer))
}

/// What is to be replaced must be what the plan showed.
fn look_again(plan: &SwapPlan, ways: Ways<'_>) -> Result<(), SwapError> {
    for target in &plan.targets {
        let is_same = match &target.seat {
            Seat::Database(item) => {
                let (_, settings) = ways.settings(ways.source(&item.source)?)?;
                let swapper = Swapper::open(&settings, &[&item.live], ways.runtime)?;
                let now = swapper.named(&item.live)?;
                now.map(|database| database.oid) == item.old_oid
            }
            Seat::Place(item) => inode_at(&item.live).map_err(PlaceError::from)? == item.old_inode,
            // Whoever replaces a content looks at it in the transaction that does it.
            Seat::Content(_) | Seat::Inside { .. } => true,
        };
        if !is_same {
            return Err(SwapError::Changed(target.at.clone()));
        }
    }
    Ok(())
}

/// Where the objects of a side are kept, for people.
fn kept_as(journal: &Journal, side: Side) -> Vec<String> {
    let databases = journal.databases.iter();
    let databases = databases
        .filter(|item| item.oid(side).is_some())
        .map(|item| format!("database {}", item.rest(side)));
    let places = journal.places.iter();
    let places = places
        .filter(|item| item.inside || item.inode(side).is_some())
        .map(|item| item.rest(side).display().to_string());
    let content = journal.content.iter().filter_map(|item| {
        let snapshot = item.snapshot(side)?;
        let short = snapshot.get(..8).unwrap_or(snapshot);
        Some(format!("database {} in snapshot {short}", item.database))
    });
    databases.chain(content).chain(places).collect()
}
