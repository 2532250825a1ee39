//! `lifeboat snapshots`: what is kept.

use std::collections::HashMap;

use jiff::{Zoned, civil, tz::TimeZone};
use lifeboat_app::{Bytes, Verdict, clock_time, drilled};
use lifeboat_codec::Notes;
use lifeboat_repository::{NoteList, Repository, Snapshot, SnapshotList};
use serde::Serialize;

use super::references::{References, lacking};
use crate::{
    context::Context,
    error::CommandError,
    exit_code::ExitCode,
    selection::{missing, refuse_unknown_app, tags},
    table::{Align, Table},
    text::{count, counted, sentence},
};

/// The length of 2026-11-19.
const DATE_LENGTH: usize = 10;

/// List the snapshots, oldest first.
#[derive(Debug, clap::Args)]
#[command(
    alias = "list",
    after_help = "\
Examples:
  lifeboat snapshots
  lifeboat snapshots shop --latest 5
  lifeboat snapshots --tag before-upgrade --since 2026-11-01"
)]
pub(crate) struct Args {
    /// Show only the snapshots of this app.
    #[arg(value_name = "APP")]
    app: Option<String>,

    /// Show only snapshots with this tag; may be given several times, and each must fit.
    #[arg(long, value_name = "TAG")]
    tag: Vec<String>,

    /// Show only snapshots of this machine.
    #[arg(long, value_name = "HOST")]
    host: Option<String>,

    /// Show only snapshots begun at this time or later, such as yesterday, 2026-11-19 or "2026-11-19 03:00".
    #[arg(long, value_name = "TIME")]
    since: Option<String>,

    /// Show only snapshots begun before this time; a date counts to its end.
    #[arg(long, value_name = "TIME")]
    until: Option<String>,

    /// Show only this many of the newest snapshots of each app.
    #[arg(long, value_name = "N")]
    latest: Option<usize>,
}

/// What is asked of a snapshot.
struct Filter<'a> {
    args: &'a Args,
    since_ms: u64,
    /// Exclusive.
    until_ms: u64,
}

/// One snapshot in the answer.
#[derive(Debug, Serialize)]
struct Listed<'a> {
    id: String,
    app: &'a str,
    host: &'a str,
    started_ms: u64,
    finished_ms: u64,
    tags: Vec<&'a str>,
    pinned: bool,
    files: u64,
    bytes: u64,
    unreadable: u64,
    bytes_new: u64,
    bytes_stored: u64,
    parent: Option<String>,
    /// Nothing where no rows are held against files.
    references: Option<References>,
    /// The last drill.
    drill: Option<Drilled>,
}

/// How a drill of a snapshot ended.
#[derive(Debug, Serialize)]
struct Drilled {
    verdict: Verdict,
    finished_ms: u64,
    restore_ms: u64,
}

/// Lists them.
pub(super) fn run(args: &Args, context: &Context) -> Result<ExitCode, CommandError> {
    let zone = context.time_zone()?;
    let now = Zoned::now().with_time_zone(zone.clone());
    let filter = Filter {
        args,
        since_ms: bound(args.since.as_deref(), Day::Start, &now)?.unwrap_or(0),
        until_ms: bound(args.until.as_deref(), Day::End, &now)?.unwrap_or(u64::MAX),
    };
    let repository = context.open_to_read()?;
    let list = repository.snapshots()?;
    if let Some(app) = &args.app {
        refuse_unknown_app(app, &list, context)?;
    }
    let NoteList { notes, damaged } = repository.notes()?;
    let mut snapshots = listed(&list, &notes, &filter);
    let missing = missing(&repository, &list)?;
    let unread = add_references(&mut snapshots, &list, &repository, context);
    for sentence in list.damaged.iter().chain(&damaged).chain(&missing.hidden) {
        context.ui().warning(sentence);
    }
    for behind in &missing.behind {
        context.ui().note(&sentence(behind));
    }
    if context.ui().is_json() {
        context.ui().answer(&snapshots)?;
    } else {
        print(&snapshots, &zone, context)?;
    }
    let is_sound =
        list.damaged.is_empty() && damaged.is_empty() && missing.hidden.is_empty() && unread == 0;
    Ok(if is_sound {
        ExitCode::Done
    } else {
        ExitCode::Problem
    })
}

fn print(snapshots: &[Listed<'_>], zone: &TimeZone, context: &Context) -> Result<(), CommandError> {
    let mut table = Table::new([
        ("Id", Align::Left),
        ("App", Align::Left),
        ("Time", Align::Left),
        ("Host", Align::Left),
        ("Files", Align::Right),
        ("Size", Align::Right),
        ("Stored", Align::Right),
        ("Tags", Align::Left),
    ]);
    for snapshot in snapshots {
        let mut tags = snapshot.tags.clone();
        tags.extend(snapshot.pinned.then_some("(pinned)"));
        tags.extend((snapshot.unreadable > 0).then_some("(incomplete)"));
        let lacking = snapshot.references.as_ref().and_then(lacking);
        let lacking = lacking.map(|lacking| format!("({lacking})"));
        tags.extend(lacking.as_deref());
        tags.extend(snapshot.drill.as_ref().map(|drill| match drill.verdict {
            Verdict::Passed => "(drilled)",
            Verdict::Failed => "(drill failed)",
        }));
        table.row([
            snapshot.id.chars().take(8).collect(),
            snapshot.app.to_owned(),
            clock_time(snapshot.started_ms, zone),
            snapshot.host.to_owned(),
            count(snapshot.files),
            Bytes(snapshot.bytes).to_string(),
            Bytes(snapshot.bytes_stored).to_string(),
            tags.join(" "),
        ]);
    }
    if !snapshots.is_empty() {
        let heading = context.ui().heading();
        context.ui().stdout(|out| table.write(out, heading))?;
    }
    context
        .ui()
        .note(&format!("{}.", counted(snapshots.len() as u64, "snapshot")));
    Ok(())
}

fn listed<'a>(list: &'a SnapshotList, notes: &'a Notes, filter: &Filter<'_>) -> Vec<Listed<'a>> {
    let all = list.snapshots.iter();
    let mut fitting: Vec<Listed<'a>> = all
        .map(|snapshot| describe(snapshot, notes))
        .filter(|snapshot| filter.fits(snapshot))
        .collect();
    if let Some(latest) = filter.args.latest {
        keep_latest(&mut fitting, latest);
    }
    fitting
}

fn describe<'a>(snapshot: &'a Snapshot, notes: &'a Notes) -> Listed<'a> {
    let head = &snapshot.head;
    let id = snapshot.name.id;
    Listed {
        id: id.to_string(),
        app: &head.app,
        host: &head.host,
        started_ms: head.started_ms,
        finished_ms: head.finished_ms,
        tags: tags(snapshot, notes).into_iter().collect(),
        pinned: notes.pinned(id),
        files: head.totals.files,
        bytes: head.totals.bytes,
        unreadable: head.totals.unreadable,
        bytes_new: head.totals.new_bytes,
        bytes_stored: head.totals.stored_bytes,
        parent: head.parent.map(|parent| parent.to_string()),
        references: None,
        drill: drilled(notes, id).map(|drill| Drilled {
            verdict: drill.verdict,
            finished_ms: drill.finished_ms,
            restore_ms: drill.restore_ms,
        }),
    }
}

impl Filter<'_> {
    fn fits(&self, snapshot: &Listed<'_>) -> bool {
        let Args { app, tag, host, .. } = self.args;
        let is = |wanted: &Option<String>, value: &str| {
            wanted.as_deref().is_none_or(|wanted| wanted == value)
        };
        is(app, snapshot.app)
            && is(host, snapshot.host)
            && tag.iter().all(|tag| snapshot.tags.contains(&tag.as_str()))
            && (self.since_ms..self.until_ms).contains(&snapshot.started_ms)
    }
}

/// Adds how rows and files fit together, which only a snapshot's manifest says. People are told what lacks, which a
/// complete snapshot says by being complete, so that its manifest need not be read. Gives how many could not be read.
fn add_references(
    snapshots: &mut [Listed<'_>],
    list: &SnapshotList,
    repository: &Repository,
    context: &Context,
) -> u64 {
    let mut unread = 0;
    let is_json = context.ui().is_json();
    let all = list.snapshots.iter();
    let by_id: HashMap<String, &Snapshot> = all.map(|one| (one.name.id.to_string(), one)).collect();
    for listed in snapshots.iter_mut() {
        let Some(snapshot) = by_id
            .get(&listed.id)
            .filter(|_| is_json || listed.unreadable > 0)
        else {
            continue;
        };
        match References::of_snapshot(repository, snapshot) {
            Ok(references) => listed.references = references,
            Err(error) => {
                unread += 1;
                let message = CommandError::from(error).facts().message.clone();
                context.ui().warning(&format!(
                    "what snapshot {} says of its sources cannot be read: {message}",
                    snapshot.name.id.short()
                ));
            }
        }
    }
    unread
}

/// Keeps the newest `latest` of each app; the order stays.
fn keep_latest(snapshots: &mut Vec<Listed<'_>>, latest: usize) {
    let mut seen = std::collections::BTreeMap::new();
    let mut keep: Vec<bool> = snapshots
        .iter()
        .rev()
        .map(|snapshot| {
            let seen: &mut usize = seen.entry(snapshot.app).or_default();
            *seen += 1;
            *seen <= latest
        })
        .collect();
    snapshots.retain(|_| keep.pop() == Some(true));
}

/// Which moment of a day a date means.
#[derive(Clone, Copy)]
enum Day {
    Start,
    End,
}

/// A time as it was typed, in unix milliseconds; `now` is the present moment in the time zone that is meant.
fn bound(text: Option<&str>, day: Day, now: &Zoned) -> Result<Option<u64>, CommandError> {
    let Some(text) = text else { return Ok(None) };
    let wrong = || {
        CommandError::usage(format!("`{text}` is no time")).hint(
            "Write yesterday, a date such as 2026-11-19, or a date and a time such as \"2026-11-19 03:00\".",
        )
    };
    // jiff passes over a time behind a date, so that the longer form is tried where there is more than a date.
    let date = match text {
        "today" => now.date(),
        "yesterday" => now.date().yesterday().map_err(|_| wrong())?,
        _ => text.parse::<civil::Date>().map_err(|_| wrong())?,
    };
    let moment = match day {
        _ if text.len() > DATE_LENGTH => text.parse::<civil::DateTime>().map_err(|_| wrong())?,
        Day::Start => date.at(0, 0, 0, 0),
        Day::End => date.tomorrow().map_err(|_| wrong())?.at(0, 0, 0, 0),
    };
    let zoned = moment
        .to_zoned(now.time_zone().clone())
        .map_err(|_| wrong())?;
    Ok(Some(
        u64::try_from(zoned.timestamp().as_millisecond()).unwrap_or(0),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(app: &'static str, started_ms: u64) -> Listed<'static> {
        Listed {
            id: "00".repeat(16),
            app,
            host: "web1",
            started_ms,
            finished_ms: started_ms,
            tags: vec!["nightly"],
            pinned: false,
            files: 1,
            bytes: 1,
            unreadable: 0,
            bytes_new: 1,
            bytes_stored: 1,
            parent: None,
            references: None,
            drill: None,
        }
    }

    fn args() -> Args {
        Args {
            app: None,
            tag: Vec::new(),
            host: None,
            since: None,
            until: None,
            latest: None,
        }
    }

    fn ms(text: &str, day: Day) -> Option<u64> {
        let zone = TimeZone::get("Europe/Berlin").unwrap();
        let now = civil::date(2026, 11, 20).at(12, 0, 0, 0).to_zoned(zone);
        bound(Some(text), day, &now.unwrap()).ok().flatten()
    }

    #[test]
    fn a_date_means_its_start_or_its_end_and_a_time_itself() {
        const MIDNIGHT: u64 = 1_795_042_800_000;
        for text in ["2026-11-19", "yesterday"] {
            assert_eq!(ms(text, Day::Start), Some(MIDNIGHT), "{text}");
            assert_eq!(ms(text, Day::End), Some(MIDNIGHT + 86_400_000), "{text}");
        }
        assert_eq!(ms("today", Day::Start), Some(MIDNIGHT + 86_400_000));
        for text in ["2026-11-19 03:00", "2026-11-19T03:00:00"] {
            assert_eq!(ms(text, Day::End), Some(MIDNIGHT + 3 * 3_600_000), "{text}");
        }
        for text in ["", "tomorrow", "2026-13-01", "2026-11-19 25:00"] {
            assert_eq!(ms(text, Day::Start), None, "{text}");
        }
    }

    #[test]
    fn a_snapshot_fits_when_everything_that_was_asked_does() {
        let snapshot = listed("shop", 1_000);
        let fits = |args: &Args, since_ms, until_ms| {
            let filter = Filter {
                args,
                since_ms,
                until_ms,
            };
            filter.fits(&snapshot)
        };
        assert!(fits(&args(), 0, u64::MAX));
        assert!(fits(&args(), 1_000, 1_001));
        assert!(!fits(&args(), 0, 1_000));
        let tagged = Args {
            app: Some("shop".to_owned()),
            tag: vec!["nightly".to_owned()],
            ..args()
        };
        assert!(fits(&tagged, 0, u64::MAX));
        let twice = Args {
            tag: vec!["nightly".to_owned(), "other".to_owned()],
            ..args()
        };
        assert!(!fits(&twice, 0, u64::MAX));
        let elsewhere = Args {
            host: Some("web2".to_owned()),
            ..args()
        };
        assert!(!fits(&elsewhere, 0, u64::MAX));
    }

    #[test]
    fn the_newest_of_each_app_are_kept_in_order() {
        let mut snapshots = vec![
            listed("a", 1),
            listed("b", 2),
            listed("a", 3),
            listed("a", 4),
        ];
        keep_latest(&mut snapshots, 2);
        let times: Vec<_> = snapshots
            .iter()
            .map(|snapshot| snapshot.started_ms)
            .collect();
        assert_eq!(times, [2, 3, 4]);
    }
}
