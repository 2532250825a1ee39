//! `lifeboat log`: the runs on this machine, and what one of them said.

use std::time::Duration;

use lifeboat_app::{Elapsed, History, RunRecord, RunState, clock_time};
use serde::Serialize;
use serde_json::Value;

use crate::{
    context::Context,
    error::{CommandError, OrFail},
    exit_code::ExitCode,
    table::{Align, Table},
    text::counted,
};

/// List the runs on this machine, failed ones too, or show the log of one.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  lifeboat log
  lifeboat log --app shop --failed
  lifeboat log 42

Runs of this user on this machine are kept: the newest 1000, with their logs for 90 days.")]
pub(crate) struct Args {
    /// Show the log of the run with this number.
    #[arg(value_name = "RUN", conflicts_with_all = ["app", "failed"])]
    run: Option<i64>,

    /// List only runs about this app.
    #[arg(long, value_name = "APP")]
    app: Option<String>,

    /// List only runs that failed, were interrupted, or left something out.
    #[arg(long)]
    failed: bool,

    /// List this many of the newest.
    #[arg(long, value_name = "N", default_value_t = 20, conflicts_with = "run")]
    latest: usize,
}

/// One run in the answer.
#[derive(Debug, Serialize)]
struct Listed {
    run: i64,
    verb: String,
    app: Option<String>,
    repository: String,
    arguments: Vec<String>,
    host: String,
    pid: u32,
    started_ms: i64,
    finished_ms: Option<i64>,
    /// `running`, `interrupted` or `finished`.
    state: &'static str,
    exit_code: Option<i32>,
    summary: Option<Value>,
}

/// One run with its log.
#[derive(Debug, Serialize)]
struct Shown {
    #[serde(flatten)]
    run: Listed,
    /// Nothing when it was thrown away.
    log: Option<String>,
}

impl From<RunRecord> for Listed {
    fn from(record: RunRecord) -> Self {
        let (state, finished_ms, exit_code, summary) = match record.state {
            RunState::Running => ("running", None, None, None),
            RunState::Interrupted => ("interrupted", None, None, None),
            RunState::Finished {
                finished,
                exit_code,
                summary,
            } => (
                "finished",
                Some(finished.as_millisecond()),
                Some(exit_code),
                summary,
            ),
        };
        Self {
            run: record.id,
            verb: record.verb,
            app: record.app,
            repository: record.repository,
            arguments: record.arguments,
            host: record.host,
            pid: record.pid,
            started_ms: record.started.as_millisecond(),
            finished_ms,
            state,
            exit_code,
            summary,
        }
    }
}

impl Listed {
    fn went_well(&self) -> bool {
        self.state == "running" || self.exit_code == Some(0)
    }

    fn took(&self) -> String {
        self.finished_ms.map_or_else(String::new, |finished_ms| {
            let milliseconds = u64::try_from(finished_ms - self.started_ms).unwrap_or(0);
            Elapsed(Duration::from_millis(milliseconds)).to_string()
        })
    }

    fn result(&self) -> String {
        let meaning = |number: i32| {
            ExitCode::ALL
                .into_iter()
                .find(|code| i32::from(code.number()) == number)
        };
        match self.exit_code {
            None => self.state.to_owned(),
            Some(0) => "done".to_owned(),
            Some(number) => meaning(number).map_or_else(
                || format!("exit code {number}"),
                |code| format!("{number}: {}", code.meaning().trim_end_matches('.')),
            ),
        }
    }
}

/// Lists the runs, or shows one.
pub(super) fn run(args: &Args, context: &Context) -> Result<ExitCode, CommandError> {
    let unread = || "the history cannot be read".to_owned();
    let history = History::open(&context.state_folder()?).or_fail(ExitCode::Failed, unread)?;
    if let Some(note) = history.note() {
        context.ui().warning(note);
    }
    if let Some(number) = args.run {
        let run = history
            .run(number)
            .or_fail(ExitCode::Failed, unread)?
            .ok_or_else(|| {
                CommandError::usage(format!("there is no run {number}"))
                    .hint("`lifeboat log` lists the runs of this user on this machine.")
            })?;
        let log = history.read_log(number).or_fail(ExitCode::Failed, unread)?;
        show(run.into(), log, context)?;
        return Ok(ExitCode::Done);
    }
    let mut runs: Vec<Listed> = history
        .list(usize::MAX, args.app.as_deref())
        .or_fail(ExitCode::Failed, unread)?
        .into_iter()
        .map(Listed::from)
        .filter(|run| !args.failed || !run.went_well())
        .collect();
    let fitting = runs.len();
    runs.truncate(args.latest);
    runs.reverse();
    if context.ui().is_json() {
        context.ui().answer(&runs)?;
    } else {
        print(&runs, fitting, context)?;
    }
    Ok(ExitCode::Done)
}

fn started(run: &Listed, context: &Context) -> Result<String, CommandError> {
    let started_ms = u64::try_from(run.started_ms).unwrap_or(0);
    Ok(clock_time(started_ms, &context.time_zone()?))
}

fn show(run: Listed, log: Option<String>, context: &Context) -> Result<(), CommandError> {
    if context.ui().is_json() {
        return context.ui().answer(&Shown { run, log });
    }
    let mut text = format!(
        "Run {}: lifeboat {}\nBegun {} by process {} on {}{}; {}.\n",
        run.run,
        run.arguments.join(" "),
        started(&run, context)?,
        run.pid,
        run.host,
        match run.took() {
            took if took.is_empty() => took,
            took => format!(", took {took}"),
        },
        run.result(),
    );
    text.push('\n');
    text.push_str(log.as_deref().unwrap_or("Its log was thrown away.\n"));
    context.ui().stdout(|out| out.write_all(text.as_bytes()))
}

fn print(runs: &[Listed], fitting: usize, context: &Context) -> Result<(), CommandError> {
    let mut table = Table::new([
        ("Run", Align::Right),
        ("Begun", Align::Left),
        ("Verb", Align::Left),
        ("App", Align::Left),
        ("Took", Align::Right),
        ("Result", Align::Left),
    ]);
    for run in runs {
        table.row([
            run.run.to_string(),
            started(run, context)?,
            run.verb.clone(),
            run.app.clone().unwrap_or_default(),
            run.took(),
            run.result(),
        ]);
    }
    if !runs.is_empty() {
        let heading = context.ui().heading();
        context.ui().stdout(|out| table.write(out, heading))?;
    }
    let all = counted(fitting as u64, "run");
    context.ui().note(&match runs.len() {
        shown if shown < fitting => format!("The newest {shown} of {all}; --latest N lists more."),
        _ => format!("{all}."),
    });
    Ok(())
}
