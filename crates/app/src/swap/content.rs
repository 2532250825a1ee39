//! An app that is replaced while its database and folders stay the objects that they are.
//!
//! Folders are restored inside themselves first. Then the database is held against writers, the restore point is made, and
//! its content is replaced in one transaction, which also decides: folders are exchanged while it is open and nobody can
//! read, and after a kill the server is asked what became of it. Invariant: the journal has the transaction's number before
//! the first entry of a folder moves, and what was there before is in a snapshot before the transaction drops it.

use std::sync::atomic::AtomicBool;
use std::time::Duration;

use lifeboat_postgres::{
    InPlace, InPlacePlan, Outcome, Settings, end_sessions, outcome, plan_in_place,
};
use lifeboat_repository::{Counter, Progress, Repository, Snapshot};
use tokio::runtime::Handle;

use super::beside::Beside;
use super::journal::{ContentItem, Journal, Phase, Side};
use super::plan::{Seat, SwapPlan, SwapRequest, content_restore};
use super::settle::{Ways, remove_half_made, remove_other, settle};
use super::{SwapError, SwapOptions, Swapped, Swaps, kept_as, look_again, refuse_newer};
use crate::config::AppConfig;
use crate::restore::RestoreError;
use crate::stored::{Form, StoredDatabase, StoredParts};

/// How long is waited for those who write.
const PATIENCE: Duration = Duration::from_secs(20);

/// An app that nobody writes to, with everything restored that can be beforehand. Dropped, the database is free again; a
/// [`Swaps::give_up`] removes the rest.
pub struct Ready<'a> {
    journal: Journal,
    /// The side that is to be live.
    side: Side,
    content: Option<InPlace<'a>>,
    shown: InPlacePlan,
    /// What was agreed to; nothing on the ways between two states that both were.
    plan: Option<&'a SwapPlan>,
}

impl ContentItem {
    /// The way into the database.
    fn settings(&self, ways: Ways<'_>) -> Result<Settings, SwapError> {
        let (_, settings) = ways.settings(ways.source(&self.source)?)?;
        Ok(settings.with_database(&self.database))
    }

    /// Ends what the server does for a killed run.
    pub(super) fn end_sessions(&self, ways: Ways<'_>) -> Result<(), SwapError> {
        Ok(end_sessions(
            &self.settings(ways)?,
            &self.mark,
            ways.runtime,
        )?)
    }

    /// A session that holds the database against writers.
    fn hold<'a>(
        &self,
        ways: Ways<'_>,
        stops: &'a [&'a AtomicBool],
    ) -> Result<InPlace<'a>, SwapError> {
        let settings = self.settings(ways)?;
        let mut content = InPlace::open(&settings, &self.mark, stops, ways.runtime)?;
        content.hold(PATIENCE)?;
        Ok(content)
    }
}

/// The rows of a database in a snapshot, which are streams of their own.
fn parts_of<'s>(stored: &'s StoredDatabase<'_>) -> Result<&'s StoredParts, SwapError> {
    match &stored.form {
        Form::Parts(parts) => Ok(parts),
        Form::Archive(_) => Err(SwapError::WholeArchive(stored.source.clone())),
    }
}

impl Swaps {
    /// Restores the folders of the plan inside themselves, and holds the database against writers.
    ///
    /// # Errors
    /// When the plan has a refusal, what it showed has changed, or anything fails on the way. Then everything is as it was
    /// before, unless the error says that it is not.
    #[expect(clippy::too_many_arguments, reason = "each is of another owner")]
    pub fn make_ready<'a>(
        &self,
        repository: &Repository,
        snapshot: &Snapshot,
        request: &SwapRequest<'_>,
        plan: &'a SwapPlan,
        options: SwapOptions,
        progress: &dyn Progress,
        stops: &'a [&'a AtomicBool; 1],
        runtime: &Handle,
    ) -> Result<Ready<'a>, SwapError> {
        let ways = Ways {
            app: request.app,
            admin: request.admin,
            runtime,
        };
        let mut journal = self.begin(snapshot, plan, options, ways)?;
        let [stop] = *stops;
        let beside = Beside {
            repository,
            snapshot,
            ways,
            jobs: options.jobs,
            progress,
            stop,
            content: None,
        };
        let mut prepare = || {
            beside.all(plan, &mut journal)?;
            let item = journal.content.as_ref();
            item.map(|item| item.hold(ways, stops)).transpose()
        };
        match prepare() {
            Ok(content) => Ok(Ready {
                journal,
                side: Side::New,
                content,
                shown: shown(plan),
                plan: Some(plan),
            }),
            Err(failure) => Err(self.clean_up(&journal, ways, failure)),
        }
    }

    /// Holds the database of an app that goes back, or forth again; `snapshot` has the content that it is to have.
    ///
    /// # Errors
    /// When there is nothing to go back to, something is in the way, or somebody stays in the database.
    pub fn make_ready_again<'a>(
        &self,
        repository: &Repository,
        snapshot: &Snapshot,
        app: &AppConfig,
        admin: Option<&str>,
        stops: &'a [&'a AtomicBool; 1],
        runtime: &Handle,
    ) -> Result<Ready<'a>, SwapError> {
        let nothing = || SwapError::NothingKept(self.app.clone());
        let journal = self.file.read()?.ok_or_else(nothing)?;
        let admin = admin.map(str::to_owned).or_else(|| journal.admin.clone());
        let ways = Ways {
            app,
            admin: admin.as_deref(),
            runtime,
        };
        let item = journal.content.as_ref().ok_or_else(nothing)?;
        let stored = StoredDatabase::find(repository, snapshot, Some(&item.source))?;
        let parts = parts_of(&stored)?;
        // What came since is in the restore point that is made next.
        let restore = content_restore(&stored, parts, true);
        let mut schema = stored.schema(parts)?;
        let settings = item.settings(ways)?;
        let shown = plan_in_place(&settings, &restore, &mut schema, runtime)?;
        if !shown.refusals.is_empty() {
            let refusals = shown.refusals.iter();
            let refusals =
                refusals.map(|finding| finding.sentence.trim_end_matches('.').to_owned());
            return Err(SwapError::Refused(refusals.collect()));
        }
        let content = Some(item.hold(ways, stops)?);
        Ok(Ready {
            side: journal.live.other(),
            journal,
            content,
            shown,
            plan: None,
        })
    }

    /// Lets go of an app that is not replaced after all.
    ///
    /// # Errors
    /// When what was restored inside its folders cannot be removed; the next run removes it.
    pub fn give_up(
        &self,
        ready: Ready<'_>,
        app: &AppConfig,
        admin: Option<&str>,
        runtime: &Handle,
    ) -> Result<(), SwapError> {
        let Ready {
            journal, content, ..
        } = ready;
        drop(content);
        if journal.is_first {
            remove_half_made(
                &journal,
                Ways {
                    app,
                    admin,
                    runtime,
                },
            )?;
            self.file.remove()?;
        }
        Ok(())
    }

    /// Replaces the app. `snapshot` has the content that its database is to have, `point` the one that it has.
    ///
    /// # Errors
    /// When anything fails. Then everything is as it was before, unless the error says that it is not.
    #[expect(clippy::too_many_arguments, reason = "each is of another owner")]
    pub fn carry_out(
        &self,
        ready: Ready<'_>,
        repository: &Repository,
        snapshot: &Snapshot,
        point: Option<&Snapshot>,
        app: &AppConfig,
        admin: Option<&str>,
        options: SwapOptions,
        progress: &dyn Progress,
        stop: &AtomicBool,
        runtime: &Handle,
    ) -> Result<Swapped, SwapError> {
        let Ready {
            mut journal,
            side,
            mut content,
            shown,
            plan,
        } = ready;
        let admin = admin.map(str::to_owned).or_else(|| journal.admin.clone());
        let ways = Ways {
            app,
            admin: admin.as_deref(),
            runtime,
        };
        let beside = Beside {
            repository,
            snapshot,
            ways,
            jobs: options.jobs,
            progress,
            stop,
            content: None,
        };
        if let (Some(item), Some(content)) = (&mut journal.content, &content) {
            item.transaction = Some(content.transaction().to_owned());
            if let Some(point) = point {
                item.keep(side.other(), point.name.id.to_string());
            }
        }
        let prepared = prepare(
            &beside,
            plan,
            &shown,
            &journal,
            side,
            content.as_mut(),
            point,
            options,
        );
        let (mut warnings, migrations) = match prepared {
            Ok(prepared) => prepared,
            Err(failure) => {
                drop(content);
                return Err(match journal.is_first {
                    true => self.clean_up(&journal, ways, failure),
                    false => failure,
                });
            }
        };
        progress.phase("Replacing");
        let Some(content) = content else {
            self.swap(&mut journal, ways, stop)?;
            return Ok(Swapped {
                kept_as: kept_as(&journal, Side::Old),
                migrations,
                warnings,
            });
        };
        warnings.extend(self.exchange(&mut journal, side, content, ways, stop)?);
        Ok(Swapped {
            kept_as: kept_as(&journal, side.other()),
            migrations,
            warnings,
        })
    }

    /// Exchanges the folders and commits. From the journal's word on, the transaction decides.
    fn exchange(
        &self,
        journal: &mut Journal,
        side: Side,
        content: InPlace<'_>,
        ways: Ways<'_>,
        stop: &AtomicBool,
    ) -> Result<Vec<String>, SwapError> {
        journal.phase = Phase::Swapping;
        journal.live = side;
        self.file.write(journal)?;
        let done = settle(journal, ways, stop).and_then(|()| Ok(content.commit()?));
        match done {
            Ok(warnings) => {
                journal.phase = Phase::Standing;
                journal.is_first = false;
                self.file.write(journal)?;
                Ok(warnings)
            }
            Err(failure) => match self.end(journal, ways) {
                Ok(live) if live == side => Ok(Vec::new()),
                Ok(_) => Err(SwapError::TurnedBack(Box::new(failure))),
                Err(back) => Err(SwapError::Stuck {
                    source: Box::new(failure),
                    back: Box::new(back),
                }),
            },
        }
    }

    /// Ends what the transaction has decided. Gives the side that is live.
    pub(super) fn end(&self, journal: &mut Journal, ways: Ways<'_>) -> Result<Side, SwapError> {
        let wanted = journal.live;
        journal.live = decided(journal, ways)?;
        // On disk it is said only together with the phase: until then the transaction says it.
        settle(journal, ways, &AtomicBool::new(false))?;
        if journal.live != wanted && journal.is_first {
            journal.phase = Phase::Forgetting;
            self.file.write(journal)?;
            remove_other(journal, ways)?;
            self.file.remove()?;
        } else {
            journal.phase = Phase::Standing;
            journal.is_first = false;
            self.file.write(journal)?;
        }
        Ok(journal.live)
    }
}

/// The side that the transaction has made live.
fn decided(journal: &Journal, ways: Ways<'_>) -> Result<Side, SwapError> {
    let Some((item, transaction)) = journal
        .content
        .as_ref()
        .and_then(|item| Some((item, item.transaction.as_ref()?)))
    else {
        return Ok(journal.live);
    };
    let became = outcome(&item.settings(ways)?, &item.mark, transaction, ways.runtime)?;
    Ok(match became {
        Outcome::Committed => journal.live,
        Outcome::Aborted => journal.live.other(),
    })
}

/// What was seen in the database whose content is replaced.
fn shown(plan: &SwapPlan) -> InPlacePlan {
    let mut targets = plan.targets.iter();
    let seen = targets.find_map(|target| match &target.seat {
        Seat::Content(content) => Some(content.1.clone()),
        _ => None,
    });
    seen.unwrap_or_default()
}

/// Everything before the first entry moves.
#[expect(clippy::too_many_arguments, reason = "each is of another owner")]
fn prepare(
    beside: &Beside<'_>,
    plan: Option<&SwapPlan>,
    shown: &InPlacePlan,
    journal: &Journal,
    side: Side,
    content: Option<&mut InPlace<'_>>,
    point: Option<&Snapshot>,
    options: SwapOptions,
) -> Result<(Vec<String>, Vec<super::Migrations>), SwapError> {
    let mut beside = Beside { ..*beside };
    let mut warnings = Vec::new();
    if let (Some(item), Some(content)) = (&journal.content, content) {
        // Only what can come back in the same way is replaced.
        let point = point.ok_or(SwapError::NoPoint)?;
        let kept = StoredDatabase::find(beside.repository, point, Some(&item.source))?;
        let kept = parts_of(&kept)?;
        if let Some(table) = kept.parts.tables.iter().find(|part| part.digest.is_none()) {
            return Err(SwapError::PointLacks(table.path()));
        }
        replace(&beside, item, shown, plan, side, content)?;
        let content = &*content;
        beside.content = Some((item, content));
        if let Some(plan) = plan {
            warnings.extend(beside.references(plan, journal)?);
        }
    } else if let Some(plan) = plan {
        warnings.extend(beside.references(plan, journal)?);
    }
    let mut migrations = Vec::new();
    if let Some(plan) = plan {
        migrations = beside.migrations(plan, journal)?;
        refuse_newer(&migrations, options.allow_newer)?;
        look_again(plan, beside.ways)?;
    }
    if beside.stop.load(std::sync::atomic::Ordering::Relaxed) {
        return Err(RestoreError::Stopped.into());
    }
    Ok((warnings, migrations))
}

fn replace(
    beside: &Beside<'_>,
    item: &ContentItem,
    shown: &InPlacePlan,
    plan: Option<&SwapPlan>,
    side: Side,
    content: &mut InPlace<'_>,
) -> Result<(), SwapError> {
    let progress = beside.progress;
    progress.phase(&format!(
        "Restoring {} into the database {}",
        item.source, item.database
    ));
    let stored = StoredDatabase::find(beside.repository, beside.snapshot, Some(&item.source))?;
    let parts = parts_of(&stored)?;
    // Without a plan it is a way between two states that both were, and each is in a snapshot.
    let reset = plan.is_none_or(|plan| plan.reset) || side == Side::Old;
    let restore = content_restore(&stored, parts, reset);
    let mut schema = stored.schema(parts)?;
    let tables = parts.parts.tables.iter().filter_map(|part| part.digest);
    let bytes = tables.map(|digest| digest.len_bytes).sum();
    progress.expect(Counter::Bytes, bytes);
    let source = |wanted: lifeboat_postgres::Wanted<'_>, out: &mut dyn std::io::Write| {
        stored.write(parts, wanted, out)?;
        if let lifeboat_postgres::Wanted::Rows(part) = wanted {
            let bytes = part.digest.map_or(0, |digest| digest.len_bytes);
            progress.count(Counter::Bytes, bytes);
        }
        Ok(())
    };
    let replaced = content.replace(&restore, shown, &mut schema, &source);
    parts.judge(replaced.map_err(SwapError::from))?;
    Ok(())
}
