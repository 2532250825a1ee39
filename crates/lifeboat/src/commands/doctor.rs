//! `lifeboat doctor`: looks at this machine for what would make a backup or restore fail.
//!
//! Every check is one [`Finding`]: a sentence, and what to do where something is wrong. Nothing is changed, and no
//! secret is read. A problem is something that will fail; a warning is something that should be known.

mod folders;
mod machine;
mod programs;
mod secret;

use std::io::{self, Write};

use serde::Serialize;

use crate::{context::Context, error::CommandError, exit_code::ExitCode, text, ui::Ui};

/// Look at this machine for what would make a backup or restore fail.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  lifeboat doctor
  lifeboat doctor -r /srv/lifeboat/repo --json")]
pub(crate) struct Args {}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    /// As it should be.
    Ok,
    /// Something that should be known.
    Warning,
    /// Something that will fail.
    Problem,
}

impl Verdict {
    fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Problem => "problem",
        }
    }
}

/// What was found about one thing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Finding {
    /// The thing, in one or two words.
    topic: &'static str,
    verdict: Verdict,
    /// A whole sentence.
    sentence: String,
    /// What to do, in whole sentences; nothing when all is well.
    hint: Option<String>,
}

impl Finding {
    fn ok(topic: &'static str, sentence: impl Into<String>) -> Self {
        Self {
            topic,
            verdict: Verdict::Ok,
            sentence: sentence.into(),
            hint: None,
        }
    }

    fn warning(topic: &'static str, sentence: impl Into<String>, hint: impl Into<String>) -> Self {
        Self {
            topic,
            verdict: Verdict::Warning,
            sentence: sentence.into(),
            hint: Some(hint.into()),
        }
    }

    fn problem(topic: &'static str, sentence: impl Into<String>, hint: impl Into<String>) -> Self {
        Self {
            verdict: Verdict::Problem,
            ..Self::warning(topic, sentence, hint)
        }
    }

    /// A failure of something that this check needed.
    fn failed(topic: &'static str, error: &CommandError) -> Self {
        let facts = error.facts();
        Self {
            topic,
            verdict: Verdict::Problem,
            sentence: text::sentence(&facts.message),
            hint: facts.hint.map(str::to_owned),
        }
    }
}

/// Looks at everything and prints what was found. Ends with 1 when something will fail.
pub(super) fn run(_args: &Args, context: &Context) -> Result<ExitCode, CommandError> {
    let mut findings = machine::look();
    findings.extend(programs::look());
    findings.extend(folders::look(context));
    findings.push(secret::look(context));
    if context.ui().is_json() {
        context.ui().answer(&Report {
            findings: &findings,
        })?;
    } else {
        let ui = context.ui();
        ui.stdout(|out| {
            findings
                .iter()
                .try_for_each(|finding| print(finding, ui, out))
        })?;
    }
    let fails = findings
        .iter()
        .any(|finding| finding.verdict == Verdict::Problem);
    Ok(if fails {
        ExitCode::Failed
    } else {
        ExitCode::Done
    })
}

#[derive(Serialize)]
struct Report<'a> {
    findings: &'a [Finding],
}

fn print(finding: &Finding, ui: &Ui, out: &mut dyn Write) -> io::Result<()> {
    let style = match finding.verdict {
        Verdict::Ok => ui.good(),
        Verdict::Warning => ui.warned(),
        Verdict::Problem => ui.bad(),
    };
    let word = finding.verdict.word();
    let topic = finding.topic;
    let sentence = text::printable(&finding.sentence);
    writeln!(out, "{style}{word:7}{style:#}  {topic:11}  {sentence}")?;
    match &finding.hint {
        Some(hint) => writeln!(out, "{:22}{}", "", text::printable(hint)),
        None => Ok(()),
    }
}
