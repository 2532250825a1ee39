//! What is in order and what is not.
//!
//! A backup that is too old goes before everything else in the exit code: a file that lacks may lack for years, and must
//! not hide that nothing is backed up any more.

use std::str::FromStr;

use jiff::{Span, SpanRelativeTo, Unit};
use lifeboat_app::Verdict;
use lifeboat_repository::ReadError;
use serde::Serialize;

use super::{Newest, References, Standing, ago, lasting};
use crate::{error::CommandError, exit_code::ExitCode, text::counted};

/// How far the clocks of two machines may be apart.
const CLOCKS_APART_MS: u64 = 60 * 60 * 1000;

/// How old something may be, as it was typed.
#[derive(Clone, Debug)]
pub(super) struct TimeLimit {
    text: String,
    ms: u64,
}

impl FromStr for TimeLimit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || "a time such as 26h, 90m or 14d is meant".to_owned();
        let span: Span = text.parse().map_err(|_| wrong())?;
        let days = SpanRelativeTo::days_are_24_hours();
        let ms = span.total((Unit::Millisecond, days)).map_err(|_| wrong())?;
        let duration = span.to_duration(days).map_err(|_| wrong())?;
        match u64::try_from(duration.as_millis()) {
            Ok(whole) if ms > 0.0 => Ok(Self {
                text: text.to_owned(),
                ms: whole,
            }),
            _ => Err(wrong()),
        }
    }
}

/// What is asked of every app.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits<'a> {
    pub(super) age: &'a TimeLimit,
    pub(super) drill_age: Option<&'a TimeLimit>,
    pub(super) missing: u64,
}

/// Something that is not in order.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Problem {
    /// Nothing where it is the whole repository's.
    app: Option<String>,
    /// The exit code that stands for it.
    code: u8,
    message: String,
}

impl Problem {
    pub(super) fn of_repository(said: &str) -> Self {
        Self {
            app: None,
            code: ExitCode::Problem.number(),
            message: said.to_owned(),
        }
    }

    /// A snapshot's manifest could not be read, so that nobody knows which files lack.
    pub(super) fn unread(app: &str, newest: &Newest, error: ReadError) -> Self {
        Self {
            app: Some(app.to_owned()),
            code: ExitCode::Problem.number(),
            message: format!(
                "what snapshot {} says of its sources cannot be read: {}",
                newest.id.short(),
                CommandError::from(error).facts().message
            ),
        }
    }

    /// For people and for mails.
    pub(super) fn line(&self) -> String {
        match &self.app {
            Some(app) => format!("{app}: {}", self.message),
            None => self.message.clone(),
        }
    }
}

/// The gravest of the codes.
pub(super) fn code(problems: &[Problem]) -> ExitCode {
    let is = |code: ExitCode| problems.iter().any(|one| one.code == code.number());
    if is(ExitCode::TooOld) {
        ExitCode::TooOld
    } else if problems.is_empty() {
        ExitCode::Done
    } else {
        ExitCode::Problem
    }
}

impl Limits<'_> {
    /// Everything that is not in order with an app.
    pub(super) fn judge(&self, standing: &Standing, now_ms: u64) -> Vec<Problem> {
        let mut problems = Vec::new();
        let mut add = |code: ExitCode, message: String| {
            problems.push(Problem {
                app: Some(standing.app.clone()),
                code: code.number(),
                message,
            });
        };
        let failed = standing.failed_run.as_ref();
        let failed = failed.map_or_else(String::new, |failed| {
            format!("; run {} failed since (`lifeboat log {0}`)", failed.run)
        });
        match &standing.newest {
            None => add(
                ExitCode::TooOld,
                format!("there is no backup of the whole app{failed}"),
            ),
            Some(newest) => {
                if now_ms.saturating_sub(newest.started_ms) > self.age.ms {
                    let message = format!(
                        "the newest backup, snapshot {}, is {} old, more than {}{failed}",
                        short(&newest.snapshot),
                        lasting(newest.age_seconds),
                        self.age.text
                    );
                    add(ExitCode::TooOld, message);
                }
                let references = newest.references.as_ref();
                let lacking = references.map_or(0, References::lacking);
                let again = references.map_or(0, |counts| counts.carried_again);
                let beyond = lacking + again > self.missing;
                if beyond && lacking > 0 {
                    let message = format!(
                        "rows name {} that snapshot {} has not as they say",
                        counted(lacking, "file"),
                        short(&newest.snapshot)
                    );
                    add(ExitCode::Problem, message);
                }
                if beyond && again > 0 {
                    let message = format!(
                        "rows name {} that snapshot {} carried forward, and so had the one before it: the running app \
                         lacks what they name",
                        counted(again, "file"),
                        short(&newest.snapshot)
                    );
                    add(ExitCode::Problem, message);
                }
                let unasked = references.map_or(0, |counts| counts.unasked_columns);
                if unasked > 0 {
                    let message = format!(
                        "{} that should name files could not be asked when snapshot {} was made",
                        counted(unasked, "column"),
                        short(&newest.snapshot)
                    );
                    add(ExitCode::Problem, message);
                }
                if is_ahead(newest.started_ms, now_ms) {
                    let message = format!(
                        "the newest backup, snapshot {}, is of the future by {}: a clock is wrong or was, and how old the \
                         backups are is not known",
                        short(&newest.snapshot),
                        ago(newest.started_ms, now_ms)
                    );
                    add(ExitCode::Problem, message);
                }
            }
        }
        if let Some(drill) = &standing.drill
            && is_ahead(drill.finished_ms, now_ms)
        {
            let message = format!(
                "the last drill, of snapshot {}, is of the future by {}: a clock is wrong or was, and how old the drills are \
                 is not known",
                short(&drill.snapshot),
                ago(drill.finished_ms, now_ms)
            );
            add(ExitCode::Problem, message);
        }
        if let Some(drill) = &standing.drill
            && drill.verdict == Verdict::Failed
        {
            let message = format!(
                "the last drill, {} ago, found a problem with snapshot {}",
                ago(now_ms, drill.finished_ms),
                short(&drill.snapshot)
            );
            add(ExitCode::Problem, message);
        }
        match (self.drill_age, standing.drill_passed_ms) {
            (Some(_), None) => add(ExitCode::TooOld, "no drill has passed yet".to_owned()),
            (Some(limit), Some(passed_ms)) if now_ms.saturating_sub(passed_ms) > limit.ms => {
                let message = format!(
                    "the last drill that passed was {} ago, more than {}",
                    ago(now_ms, passed_ms),
                    limit.text
                );
                add(ExitCode::TooOld, message);
            }
            _ => {}
        }
        problems
    }
}

/// Whether a time has not come yet, for any clock that is about right.
fn is_ahead(then_ms: u64, now_ms: u64) -> bool {
    then_ms > now_ms.saturating_add(CLOCKS_APART_MS)
}

fn short(id: &str) -> &str {
    id.get(..8).unwrap_or(id)
}

#[cfg(test)]
mod tests {
    use lifeboat_codec::SnapshotId;

    use super::super::{Drill, FailedRun};
    use super::*;

    const HOUR: u64 = 3_600_000;
    const NOW: u64 = 1_000 * HOUR;

    fn limit(text: &str) -> TimeLimit {
        text.parse().unwrap()
    }

    fn standing(age: u64) -> Standing {
        Standing {
            app: "shop".to_owned(),
            snapshots: 1,
            newest: Some(Newest {
                id: SnapshotId([0; 16]),
                snapshot: "3f9a21c0aa".to_owned(),
                host: "web1".to_owned(),
                started_ms: NOW - age,
                age_seconds: age / 1000,
                files: 1,
                bytes: 1,
                unreadable: 0,
                references: None,
            }),
            drill: None,
            drill_passed_ms: None,
            failed_run: None,
        }
    }

    fn drill(verdict: Verdict, ago: u64) -> Option<Drill> {
        Some(Drill {
            snapshot: "3f9a21c0aa".to_owned(),
            verdict,
            finished_ms: NOW - ago,
            restore_ms: 1,
        })
    }

    fn judged(standing: &Standing, drill_age: Option<&str>, missing: u64) -> (u8, Vec<String>) {
        let drill_age = drill_age.map(limit);
        let limits = Limits {
            age: &limit("26h"),
            drill_age: drill_age.as_ref(),
            missing,
        };
        let problems = limits.judge(standing, NOW);
        let lines = problems.iter().map(Problem::line).collect();
        (code(&problems).number(), lines)
    }

    #[test]
    fn a_backup_is_too_old_when_it_is_older_than_the_limit_or_not_there() {
        assert_eq!(judged(&standing(26 * HOUR), None, 0), (0, Vec::new()));
        let mut old = standing(26 * HOUR + 60_000);
        old.failed_run = Some(FailedRun {
            run: 42,
            started_ms: NOW - HOUR,
            exit_code: Some(13),
        });
        let line = "shop: the newest backup, snapshot 3f9a21c0, is 1 d 2 h old, more than 26h; run 42 failed since \
                    (`lifeboat log 42`)";
        assert_eq!(judged(&old, None, 0), (5, vec![line.to_owned()]));
        let never = Standing {
            newest: None,
            ..standing(0)
        };
        let line = "shop: there is no backup of the whole app".to_owned();
        assert_eq!(judged(&never, None, 0), (5, vec![line]));
    }

    #[test]
    fn drills_are_asked_for_only_when_wanted_but_a_failed_one_is_always_told() {
        let mut one = standing(HOUR);
        assert_eq!(judged(&one, None, 0).0, 0);
        let line = "shop: no drill has passed yet".to_owned();
        assert_eq!(judged(&one, Some("14d"), 0), (5, vec![line]));
        one.drill = drill(Verdict::Passed, 15 * 24 * HOUR);
        one.drill_passed_ms = Some(NOW - 15 * 24 * HOUR);
        assert_eq!(judged(&one, None, 0).0, 0);
        assert_eq!(judged(&one, Some("15d"), 0).0, 0);
        let line = "shop: the last drill that passed was 15 d 0 h ago, more than 2 weeks";
        assert_eq!(judged(&one, Some("2 weeks"), 0), (5, vec![line.to_owned()]));
        one.drill = drill(Verdict::Failed, 2 * HOUR);
        let line = "shop: the last drill, 2 h 0 m ago, found a problem with snapshot 3f9a21c0";
        assert_eq!(judged(&one, None, 0), (4, vec![line.to_owned()]));
        let (code, lines) = judged(&one, Some("14d"), 0);
        assert_eq!((code, lines.len()), (5, 2), "what is too old goes first");
    }

    #[test]
    fn files_that_lack_are_told_beyond_what_is_allowed() {
        let mut one = standing(HOUR);
        let counts = lifeboat_app::ReferenceCounts {
            missing: 1,
            differing: 1,
            no_files: 1,
            ..lifeboat_app::ReferenceCounts::default()
        };
        one.newest.as_mut().unwrap().references = Some(References::new(&counts));
        let line = "shop: rows name 3 files that snapshot 3f9a21c0 has not as they say";
        assert_eq!(judged(&one, None, 2), (4, vec![line.to_owned()]));
        assert_eq!(judged(&one, None, 3).0, 0);
    }

    #[test]
    fn files_that_are_carried_forward_once_are_in_order_and_twice_are_not() {
        let mut one = standing(HOUR);
        let mut counts = lifeboat_app::ReferenceCounts {
            carried_forward: 3,
            ..lifeboat_app::ReferenceCounts::default()
        };
        one.newest.as_mut().unwrap().references = Some(References::new(&counts));
        assert_eq!(judged(&one, None, 0).0, 0);
        counts.carried_again = 2;
        one.newest.as_mut().unwrap().references = Some(References::new(&counts));
        let line = "shop: rows name 2 files that snapshot 3f9a21c0 carried forward, and so had the one before it: the running app \
                    lacks what they name";
        assert_eq!(judged(&one, None, 1), (4, vec![line.to_owned()]));
        assert_eq!(judged(&one, None, 2).0, 0);
        counts.missing = 1;
        one.newest.as_mut().unwrap().references = Some(References::new(&counts));
        assert_eq!(judged(&one, None, 2).1.len(), 2, "they count together");
        assert_eq!(judged(&one, None, 3).0, 0);
    }

    #[test]
    fn columns_that_were_not_asked_are_told_whatever_may_lack() {
        let mut one = standing(HOUR);
        let counts = lifeboat_app::ReferenceCounts {
            unasked: 1,
            ..lifeboat_app::ReferenceCounts::default()
        };
        one.newest.as_mut().unwrap().references = Some(References::new(&counts));
        let line = "shop: 1 column that should name files could not be asked when snapshot 3f9a21c0 was made";
        assert_eq!(judged(&one, None, 1000), (4, vec![line.to_owned()]));
    }

    #[test]
    fn what_is_of_the_future_is_not_taken_for_new() {
        let mut one = standing(0);
        one.newest.as_mut().unwrap().started_ms = NOW + HOUR;
        assert_eq!(judged(&one, None, 0).0, 0, "clocks are a little apart");
        one.newest.as_mut().unwrap().started_ms = NOW + 48 * HOUR;
        let backup = "shop: the newest backup, snapshot 3f9a21c0, is of the future by 2 d 0 h: a clock is wrong or was, and how \
                      old the backups are is not known";
        assert_eq!(judged(&one, None, 0), (4, vec![backup.to_owned()]));
        let mut one = standing(0);
        one.drill = Some(Drill {
            finished_ms: NOW + 48 * HOUR,
            ..drill(Verdict::Passed, 0).unwrap()
        });
        one.drill_passed_ms = Some(NOW + 48 * HOUR);
        let (code, lines) = judged(&one, Some("14d"), 0);
        assert_eq!((code, lines.len()), (4, 1), "{lines:?}");
        assert!(
            lines[0].contains("the last drill, of snapshot 3f9a21c0, is of the future by 2 d 0 h")
        );
    }

    #[test]
    fn a_limit_is_a_time_that_has_passed_some_day() {
        assert_eq!(limit("26h").ms, 26 * HOUR);
        assert_eq!(limit("14d").ms, 14 * 24 * HOUR);
        assert_eq!(limit("1 day 2 hours").ms, 26 * HOUR);
        for text in ["", "26", "0h", "-1h", "2 months", "soon"] {
            assert!(text.parse::<TimeLimit>().is_err(), "{text}");
        }
    }
}
