//! `lifeboat status`: how each app's backups stand, for people and for monitoring.
//!
//! **Invariant**: with `--check` nothing that could not be looked at counts as being in order.

mod judge;

use std::{collections::BTreeSet, time::Duration};

use lifeboat_app::{
    Bytes, Elapsed, History, RunState, Verdict, clock_time, drilled, is_whole, redact,
};
use lifeboat_codec::{Notes, SnapshotId};
use lifeboat_repository::{NoteList, Repository, Snapshot, SnapshotList};
use serde::Serialize;

use self::judge::{Limits, Problem, TimeLimit};
use super::references::{References, in_short};
use crate::{
    context::Context,
    error::{CommandError, OrFail},
    exit_code::ExitCode,
    selection::{missing, refuse_unknown_app, tags},
    table::{Align, Table},
    text::sentence,
};

/// Show how the backups of each app stand, or check that they are in order.
///
/// Looked at are the apps of the configuration; where none is configured, all that have snapshots. Restore points and
/// backups of some sources only are no backups of an app.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  lifeboat status
  lifeboat status --check --max-age 26h --max-drill-age 14d
  lifeboat status shop --check --quiet || echo 'look at the backups of the shop'

With --check each problem is a line. The command ends with 5 when a backup or drill is too old, else with 4 when something
else is not in order: the last drill failed, rows name files that are missing or could not be asked, or that two backups in
a row carried forward, a backup or drill is of the future, or snapshots are damaged or hidden.")]
pub(crate) struct Args {
    /// Look at these apps only.
    #[arg(value_name = "APP")]
    apps: Vec<String>,

    /// Say only what is not in order, a line for each, and end with 5 or 4 then.
    #[arg(long)]
    check: bool,

    /// With --check: the newest backup may be so old.
    #[arg(long, value_name = "TIME", default_value = "26h", requires = "check")]
    max_age: TimeLimit,

    /// With --check: a drill must have passed in this time, such as 14d.
    #[arg(long, value_name = "TIME", requires = "check")]
    max_drill_age: Option<TimeLimit>,

    /// With --check: so many of the files that rows name may be missing, of another size, no files, or carried
    /// forward by the backup before too.
    #[arg(long, value_name = "N", default_value_t = 0, requires = "check")]
    max_missing: u64,
}

/// How an app stands.
#[derive(Debug, Serialize)]
struct Standing {
    app: String,
    /// Whole backups that there are.
    snapshots: u64,
    newest: Option<Newest>,
    /// The last drill of a whole backup.
    drill: Option<Drill>,
    /// When a drill passed last.
    drill_passed_ms: Option<u64>,
    /// The newest run on this machine that made no snapshot, where it began after the newest one.
    failed_run: Option<FailedRun>,
}

/// The newest whole backup.
#[derive(Debug, Serialize)]
struct Newest {
    #[serde(skip)]
    id: SnapshotId,
    snapshot: String,
    host: String,
    started_ms: u64,
    age_seconds: u64,
    files: u64,
    bytes: u64,
    unreadable: u64,
    /// Nothing where no rows are held against files.
    references: Option<References>,
}

#[derive(Debug, Serialize)]
struct Drill {
    snapshot: String,
    verdict: Verdict,
    finished_ms: u64,
    restore_ms: u64,
}

#[derive(Debug, Serialize)]
struct FailedRun {
    run: i64,
    started_ms: u64,
    /// Nothing when it was cut off.
    exit_code: Option<i32>,
}

/// The answer for programs.
#[derive(Debug, Serialize)]
struct Answer<'a> {
    apps: &'a [Standing],
    /// Only with `--check`.
    #[serde(skip_serializing_if = "Option::is_none")]
    problems: Option<&'a [Problem]>,
}

/// Shows or checks.
pub(super) fn run(args: &Args, context: &Context) -> Result<ExitCode, CommandError> {
    let repository = context.open_to_read()?;
    let list = repository.snapshots()?;
    let NoteList { notes, damaged } = repository.notes()?;
    let missing = missing(&repository, &list)?;
    for behind in &missing.behind {
        context.ui().note(&sentence(behind));
    }
    let said = list.damaged.iter().chain(&damaged).chain(&missing.hidden);
    let mut problems: Vec<Problem> = said.map(|said| Problem::of_repository(said)).collect();
    let now_ms = repository.now_ms();
    let chosen = chosen(args, &list, context)?;
    let mut standings = Vec::with_capacity(chosen.len());
    for app in chosen {
        let mut standing = standing(app, now_ms, &list, &notes);
        problems.extend(add_references(&mut standing, &repository, &list));
        standings.push(standing);
    }
    add_failed_runs(&mut standings, context);
    if !args.check {
        for problem in &problems {
            context.ui().warning(&problem.line());
        }
        if context.ui().is_json() {
            context.ui().answer(&Answer {
                apps: &standings,
                problems: None,
            })?;
        } else {
            print(&standings, now_ms, context)?;
        }
        return Ok(ExitCode::Done);
    }
    let limits = Limits {
        age: &args.max_age,
        drill_age: args.max_drill_age.as_ref(),
        missing: args.max_missing,
    };
    for standing in &standings {
        problems.extend(limits.judge(standing, now_ms));
    }
    tell(&standings, &problems, context)?;
    Ok(judge::code(&problems))
}

/// The apps that are looked at; there is one at least, so that a check always checks something.
fn chosen(
    args: &Args,
    list: &SnapshotList,
    context: &Context,
) -> Result<Vec<String>, CommandError> {
    let mut chosen: Vec<String> = Vec::new();
    for app in &args.apps {
        refuse_unknown_app(app, list, context)?;
        if !chosen.contains(app) {
            chosen.push(app.clone());
        }
    }
    if chosen.is_empty() {
        let configured = &context.configuration()?.config.apps;
        chosen.extend(configured.iter().map(|app| app.name.clone()));
    }
    if chosen.is_empty() {
        let apps = list.snapshots.iter().map(|snapshot| &snapshot.head.app);
        let apps: BTreeSet<&String> = apps.collect();
        chosen.extend(apps.into_iter().cloned());
    }
    if chosen.is_empty() {
        return Err(CommandError::usage("there is no app to look at").hint(
            "No app is configured, and the repository has no snapshots; `lifeboat app add` configures one.",
        ));
    }
    Ok(chosen)
}

fn standing(app: String, now_ms: u64, list: &SnapshotList, notes: &Notes) -> Standing {
    let whole: Vec<&Snapshot> = list
        .snapshots
        .iter()
        .filter(|snapshot| snapshot.head.app == app && is_whole(tags(snapshot, notes)))
        .collect();
    let drills = whole.iter().filter_map(|snapshot| {
        let kept = drilled(notes, snapshot.name.id)?;
        Some(Drill {
            snapshot: snapshot.name.id.to_string(),
            verdict: kept.verdict,
            finished_ms: kept.finished_ms,
            restore_ms: kept.restore_ms,
        })
    });
    let drills: Vec<Drill> = drills.collect();
    let passed = drills
        .iter()
        .filter(|drill| drill.verdict == Verdict::Passed);
    let drill_passed_ms = passed.map(|drill| drill.finished_ms).max();
    Standing {
        snapshots: whole.len() as u64,
        newest: whole.last().map(|snapshot| newest(snapshot, now_ms)),
        drill: drills.into_iter().max_by_key(|drill| drill.finished_ms),
        drill_passed_ms,
        failed_run: None,
        app,
    }
}

fn newest(snapshot: &Snapshot, now_ms: u64) -> Newest {
    let head = &snapshot.head;
    Newest {
        id: snapshot.name.id,
        snapshot: snapshot.name.id.to_string(),
        host: head.host.clone(),
        started_ms: head.started_ms,
        age_seconds: now_ms.saturating_sub(head.started_ms) / 1000,
        files: head.totals.files,
        bytes: head.totals.bytes,
        unreadable: head.totals.unreadable,
        references: None,
    }
}

/// Adds how rows and files fit together, which the snapshot's manifest says. One that cannot be read is a problem.
fn add_references(
    standing: &mut Standing,
    repository: &Repository,
    list: &SnapshotList,
) -> Option<Problem> {
    let newest = standing.newest.as_mut()?;
    let snapshot = Repository::find(list, newest.id)?;
    match References::of_snapshot(repository, snapshot) {
        Ok(references) => {
            newest.references = references;
            None
        }
        Err(error) => Some(Problem::unread(&standing.app, newest, error)),
    }
}

/// Adds what this machine's history knows; one that cannot be read is warned about, as everywhere.
fn add_failed_runs(standings: &mut [Standing], context: &Context) {
    let runs = || -> Result<_, CommandError> {
        let unread = || "the history cannot be read".to_owned();
        let history = History::open(&context.state_folder()?).or_fail(ExitCode::Failed, unread)?;
        let runs = history.list(usize::MAX, None);
        let here = redact(&context.kept_location());
        let mut runs = runs.or_fail(ExitCode::Failed, unread)?;
        runs.retain(|run| run.verb == "backup" && run.repository == here);
        Ok(runs)
    };
    let runs = match runs() {
        Ok(runs) => runs,
        Err(error) => {
            let message = &error.facts().message;
            context.ui().warning(&sentence(message));
            return;
        }
    };
    for standing in standings {
        let newest_ms = standing
            .newest
            .as_ref()
            .map_or(0, |newest| newest.started_ms);
        standing.failed_run = runs.iter().find_map(|run| {
            // One without an app ended before it came to any of them.
            let is_of_app = run.app.as_ref().is_none_or(|app| *app == standing.app);
            let exit_code = match &run.state {
                RunState::Interrupted => None,
                RunState::Finished { exit_code, .. } if !made_snapshot(*exit_code) => {
                    Some(*exit_code)
                }
                RunState::Finished { .. } | RunState::Running => return None,
            };
            let started_ms = u64::try_from(run.started.as_millisecond()).unwrap_or(0);
            (is_of_app && started_ms > newest_ms).then_some(FailedRun {
                run: run.id,
                started_ms,
                exit_code,
            })
        });
    }
}

fn made_snapshot(exit_code: i32) -> bool {
    [ExitCode::Done, ExitCode::Incomplete]
        .map(|code| i32::from(code.number()))
        .contains(&exit_code)
}

fn print(standings: &[Standing], now_ms: u64, context: &Context) -> Result<(), CommandError> {
    let zone = context.time_zone()?;
    let mut table = Table::new([
        ("App", Align::Left),
        ("Newest backup", Align::Left),
        ("Age", Align::Left),
        ("Snapshot", Align::Left),
        ("Size", Align::Right),
        ("Files that rows name", Align::Left),
        ("Last drill", Align::Left),
        ("Failed since", Align::Left),
    ]);
    for standing in standings {
        let [time, age, id, size, references] = match &standing.newest {
            None => ["never", "", "", "", ""].map(str::to_owned),
            Some(newest) => [
                clock_time(newest.started_ms, &zone)
                    + if newest.unreadable > 0 {
                        " (incomplete)"
                    } else {
                        ""
                    },
                lasting(newest.age_seconds),
                newest.snapshot.chars().take(8).collect(),
                Bytes(newest.bytes).to_string(),
                newest.references.as_ref().map(in_short).unwrap_or_default(),
            ],
        };
        let drill = standing.drill.as_ref().map_or_else(
            || "never".to_owned(),
            |drill| {
                let verdict = match drill.verdict {
                    Verdict::Passed => "passed",
                    Verdict::Failed => "failed",
                };
                format!("{verdict} {} ago", ago(now_ms, drill.finished_ms))
            },
        );
        let failed = standing.failed_run.as_ref();
        let failed = failed.map_or_else(String::new, |failed| format!("run {}", failed.run));
        let app = standing.app.clone();
        table.row([app, time, age, id, size, references, drill, failed]);
    }
    let heading = context.ui().heading();
    context.ui().stdout(|out| table.write(out, heading))
}

/// Says the problems; without any, that there is none.
fn tell(
    standings: &[Standing],
    problems: &[Problem],
    context: &Context,
) -> Result<(), CommandError> {
    if context.ui().is_json() {
        return context.ui().answer(&Answer {
            apps: standings,
            problems: Some(problems),
        });
    }
    context.ui().stdout(|out| {
        for problem in problems {
            writeln!(out, "{}", crate::text::printable(&problem.line()))?;
        }
        Ok(())
    })?;
    if problems.is_empty() {
        let apps: Vec<&str> = standings.iter().map(|one| one.app.as_str()).collect();
        context
            .ui()
            .note(&format!("In order: {}.", apps.join(", ")));
    }
    Ok(())
}

fn ago(now_ms: u64, then_ms: u64) -> String {
    lasting(now_ms.saturating_sub(then_ms) / 1000)
}

fn lasting(seconds: u64) -> String {
    Elapsed(Duration::from_secs(seconds)).to_string()
}
