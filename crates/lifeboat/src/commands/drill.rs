//! `lifeboat drill`: restores the newest snapshot into a scratch place and says whether the app would come back.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use jiff::tz::TimeZone;
use lifeboat_app::{
    AppConfig, DrillError, DrillReport, DrillRequest, Elapsed, SignedDrill, Verdict, clock_time,
    drill_page, keep_drill, signed_drills,
};
use lifeboat_repository::{Repository, Snapshot};
use serde::Serialize;

use crate::{
    context::Context,
    error::{CommandError, OrFail},
    exit_code::ExitCode,
    selection::{Selected, Selection},
    text::counted,
};

/// Under which name the history keeps a drill.
pub(super) const KEPT_AS: &str = "drill";

/// Restore the newest snapshot of apps into a scratch place, compare, ask, measure, and keep the result.
///
/// The databases go to a server of their own, which listens on no port; everything is removed at the end. What a drill asks
/// beside what it always does stands in the configuration, at app.NAME.drill.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  lifeboat drill
  lifeboat drill shop --report shop.html --report shop.json
  lifeboat drill --snapshot shop@2026-11-19")]
pub(crate) struct Args {
    /// Drill these apps; without any, all of the configuration.
    #[arg(value_name = "APP", conflicts_with = "snapshot")]
    apps: Vec<String>,

    /// Drill this snapshot.
    #[arg(long, value_name = "SNAP")]
    snapshot: Option<OsString>,

    /// Write the signed report to this file, as a page when it ends in .html and else as JSON; may be given several times.
    #[arg(long, value_name = "FILE")]
    report: Vec<PathBuf>,
}

/// What one drill says at its end.
#[derive(Debug, Serialize)]
struct Summary<'a> {
    #[serde(flatten)]
    report: &'a DrillReport,
    sha256: &'a str,
    seconds: f64,
}

/// Drills each; one whose surroundings fail does not keep the others from their turn.
pub(super) fn run(args: &Args, context: &Context) -> Result<ExitCode, CommandError> {
    let mut repository = context.open_to_read()?;
    let chosen = chosen(args, &repository, context)?;
    let mut worst = ExitCode::Done;
    let mut done = Vec::new();
    let mut failed = Vec::new();
    for (number, snapshot) in chosen.iter().enumerate() {
        context.going_on()?;
        if number > 0 {
            // Each app has its own place in the history; the first one has that of the command.
            context.begin_run(KEPT_AS);
        }
        let app = snapshot.head.app.as_str();
        context.ui().record().about(app);
        let code = match one(context, &mut repository, snapshot) {
            Ok((code, drilled)) => {
                done.push(drilled);
                code
            }
            Err(error) => {
                let error = context.interrupt().as_error().unwrap_or(error);
                let code = error.code();
                if chosen.len() > 1 {
                    let message = error.facts().message;
                    context.ui().problem(&format!("{app}: {message}"));
                }
                failed.push(error);
                code
            }
        };
        context.end_run(code);
        worst = graver(worst, code);
    }
    for path in args.report.iter().filter(|_| !done.is_empty()) {
        write_report(path, &done, &context.time_zone()?)?;
    }
    match failed.into_iter().find(|error| error.code() == worst) {
        Some(error) => Err(error),
        None => Ok(worst),
    }
}

/// Of two ends the one that a script has to hear of. A bad backup goes before a drill that judged nothing.
fn graver(one: ExitCode, other: ExitCode) -> ExitCode {
    let rank = |code: ExitCode| match code {
        ExitCode::Done => 0,
        ExitCode::Surroundings => 1,
        ExitCode::Problem => 2,
        _ => 3,
    };
    if rank(other) > rank(one) { other } else { one }
}

fn chosen(
    args: &Args,
    repository: &Repository,
    context: &Context,
) -> Result<Vec<Snapshot>, CommandError> {
    let selection = Selection::of(repository, context)?;
    if let Some(selector) = &args.snapshot {
        let Selected { snapshot, path } = selection.select(selector)?;
        if !path.is_empty() {
            return Err(CommandError::usage("a drill is of a whole snapshot")
                .hint("Leave out the colon and what follows."));
        }
        return Ok(vec![snapshot.clone()]);
    }
    let config = &context.configuration()?.config;
    let mut names = args.apps.clone();
    if names.is_empty() {
        names.extend(config.apps.iter().map(|app| app.name.clone()));
    }
    if names.is_empty() {
        return Err(CommandError::usage("there is no app to drill")
            .hint("Name one, or a snapshot with --snapshot; `lifeboat snapshots` lists them."));
    }
    let mut chosen: Vec<Snapshot> = Vec::new();
    for name in &names {
        lifeboat_app::check_app_name(name).map_err(|error| {
            CommandError::from_error(ExitCode::Usage, &error)
                .hint("Name an app here, and a snapshot with --snapshot.")
        })?;
        let newest = selection.newest_of(name)?;
        if chosen.iter().all(|known| known.name != newest.name) {
            chosen.push(newest.clone());
        }
    }
    Ok(chosen)
}

fn one(
    context: &Context,
    repository: &mut Repository,
    snapshot: &Snapshot,
) -> Result<(ExitCode, (DrillReport, SignedDrill)), CommandError> {
    let app: Option<&AppConfig> = context.configuration()?.config.app(&snapshot.head.app).ok();
    let request = DrillRequest {
        app,
        parent: std::env::temp_dir(),
    };
    let (runtime, stop) = (context.runtime()?, context.interrupt().flag());
    let drilled = context
        .ui()
        .watched(|watch| lifeboat_app::drill(repository, snapshot, &request, watch, stop, runtime));
    let report = drilled.map_err(|error| match &error {
        DrillError::Surroundings(_) => CommandError::from_error(ExitCode::Surroundings, &error)
            .hint("Mend that and drill again: nothing is known about the backup yet."),
        DrillError::Stopped => {
            CommandError::from_error(ExitCode::Failed, &error).hint("Run the command again.")
        }
    })?;
    say(context, &report)?;
    let signed = keep_drill(repository, snapshot, &report).map_err(|error| {
        match report.verdict {
            Verdict::Passed => CommandError::from(error),
            // What was found stays found.
            Verdict::Failed => CommandError::from_error(ExitCode::Problem, &error)
                .within("the drill found a problem with the backup, and its report could not be kept")
                .hint("Read above what was found; mend why the repository takes nothing, then drill again."),
        }
    })?;
    let elapsed = report.finished_ms.saturating_sub(report.started_ms);
    context.ui().summary(&Summary {
        report: &report,
        sha256: &signed.sha256,
        seconds: Duration::from_millis(elapsed).as_secs_f64(),
    })?;
    let code = match report.verdict {
        Verdict::Passed => ExitCode::Done,
        Verdict::Failed => ExitCode::Problem,
    };
    Ok((code, (report, signed)))
}

fn say(context: &Context, report: &DrillReport) -> Result<(), CommandError> {
    let ui = context.ui();
    for warning in &report.warnings {
        ui.warning(warning.trim_end_matches('.'));
    }
    let lasting = |ms: u64| Elapsed(Duration::from_millis(ms));
    let of = format!(
        "{}, snapshot {} of {}",
        report.app,
        report.snapshot.chars().take(8).collect::<String>(),
        clock_time(report.snapshot_ms, &context.time_zone()?)
    );
    let all = report.finished_ms.saturating_sub(report.started_ms);
    ui.note(&match report.verdict {
        Verdict::Passed => format!(
            "The drill passed: {of} was back after {}; {}; it took {} in all.",
            lasting(report.restore_ms),
            match report.checks.len() as u64 {
                1 => "1 question was asked".to_owned(),
                number => format!("{} were asked", counted(number, "question")),
            },
            lasting(all)
        ),
        Verdict::Failed => format!(
            "The drill found {} with the backup of {of}.",
            counted(report.problems.len() as u64, "problem")
        ),
    });
    Ok(())
}

fn write_report(
    path: &Path,
    drills: &[(DrillReport, SignedDrill)],
    zone: &TimeZone,
) -> Result<(), CommandError> {
    let is_page = path
        .extension()
        .is_some_and(|ending| ending.eq_ignore_ascii_case("html"));
    let text = if is_page {
        drill_page(drills, zone)
    } else {
        let signed: Vec<SignedDrill> = drills.iter().map(|(_, signed)| signed.clone()).collect();
        signed_drills(&signed)
    };
    fs::write(path, text).or_fail(ExitCode::Failed, || {
        format!("the report {} cannot be written", path.display())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_backup_is_graver_than_a_drill_that_judged_nothing() {
        use ExitCode::{Done, Failed, Problem, Surroundings};
        assert_eq!(graver(Done, Surroundings), Surroundings);
        assert_eq!(graver(Problem, Surroundings), Problem);
        assert_eq!(graver(Surroundings, Problem), Problem);
        assert_eq!(graver(Failed, Done), Failed);
    }
}
