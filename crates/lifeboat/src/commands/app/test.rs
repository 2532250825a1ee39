//! `lifeboat app test`: what would make a backup of an app fail, found before it is made.

use std::io::{self, Write};

use lifeboat_app::{AppConfig, Source, TestProblem, TestResult, app_test};
use serde::Serialize;

use crate::{
    context::Context,
    error::CommandError,
    exit_code::ExitCode,
    text::{counted, printable},
    ui::Ui,
};

/// What was found about one app.
#[derive(Debug, Serialize)]
struct AppReport<'a> {
    app: &'a str,
    sources: Vec<SourceReport>,
}

#[derive(Debug, Serialize)]
struct SourceReport {
    name: String,
    kind: &'static str,
    ok: bool,
    seen: String,
    problems: Vec<ProblemReport>,
    warnings: Vec<String>,
    #[serde(skip)]
    is_database: bool,
}

#[derive(Debug, Serialize)]
struct ProblemReport {
    what: String,
    mend: Option<String>,
}

/// The answer for programs.
#[derive(Serialize)]
struct Summary<'a> {
    apps: &'a [AppReport<'a>],
    failed: usize,
}

/// Tests the apps. Ends with 13 when a database would fail, with 1 when another source would.
pub(super) fn run(names: &[String], context: &Context) -> Result<ExitCode, CommandError> {
    let config = super::config(context)?;
    let mut apps: Vec<&AppConfig> = Vec::new();
    for name in names {
        apps.push(super::app_of(context, name)?);
    }
    if names.is_empty() {
        apps.extend(&config.apps);
    }
    if apps.is_empty() {
        return Err(CommandError::usage("there is no app to test")
            .hint("`lifeboat app add` adds one to the configuration."));
    }
    let (ui, stop) = (context.ui(), context.interrupt().flag());
    let runtime = context.runtime()?;
    let mut reports = Vec::with_capacity(apps.len());
    for app in apps {
        let sources: Vec<Source> = app.sources.iter().cloned().map(Source::from).collect();
        let results = ui.watched(|watch| app_test(&sources, watch, stop, runtime));
        context.going_on()?;
        let report = AppReport {
            app: &app.name,
            sources: results.into_iter().map(report).collect(),
        };
        if !ui.is_json() {
            ui.stdout(|out| print(&report, ui, out))?;
        }
        reports.push(report);
    }
    let failed: Vec<&SourceReport> = reports
        .iter()
        .flat_map(|report| &report.sources)
        .filter(|source| !source.ok)
        .collect();
    ui.summary(&Summary {
        apps: &reports,
        failed: failed.len(),
    })?;
    if failed.is_empty() {
        ui.note("A backup would read all of it.");
        return Ok(ExitCode::Done);
    }
    let number = counted(failed.len() as u64, "source");
    ui.warning(&format!(
        "A backup would fail, or leave something out: {number} with problems."
    ));
    Ok(if failed.iter().any(|source| source.is_database) {
        ExitCode::Database
    } else {
        ExitCode::Failed
    })
}

fn report(result: TestResult) -> SourceReport {
    let problem = |problem: TestProblem| ProblemReport {
        what: problem.what,
        mend: problem.mend,
    };
    SourceReport {
        is_database: result.is_database(),
        ok: result.problems.is_empty(),
        name: result.name,
        kind: result.kind,
        seen: result.seen,
        problems: result.problems.into_iter().map(problem).collect(),
        warnings: result.warnings,
    }
}

fn print(report: &AppReport<'_>, ui: &Ui, out: &mut dyn Write) -> io::Result<()> {
    let bold = ui.heading();
    writeln!(out, "{bold}{}{bold:#}", report.app)?;
    for source in &report.sources {
        let (style, mark) = if source.ok {
            (ui.good(), "✓")
        } else {
            (ui.bad(), "✗")
        };
        let (kind, name) = (source.kind, printable(&source.name));
        let seen = printable(&source.seen);
        writeln!(out, "  {style}{mark}{style:#} {kind:9} {name:12} {seen}")?;
        for problem in &source.problems {
            line(out, "problem:", &problem.what)?;
            if let Some(mend) = &problem.mend {
                line(out, "mend by:", mend)?;
            }
        }
        for warning in &source.warnings {
            line(out, "warning:", warning)?;
        }
    }
    Ok(())
}

fn line(out: &mut dyn Write, label: &str, text: &str) -> io::Result<()> {
    writeln!(out, "      {label} {}", printable(text))
}
