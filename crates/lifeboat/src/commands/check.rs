//! `lifeboat check`: whether everything that the snapshots name is there and whole.

use std::{str::FromStr, time::Instant};

use lifeboat_app::{Bytes, Elapsed};
use lifeboat_repository::{CheckOptions, CheckReport, ReadData, Severity};
use serde::Serialize;

use super::findings::{self, FindingFacts, Teller};
use crate::{context::Context, error::CommandError, exit_code::ExitCode, text::counted};

/// Check that everything that the snapshots need is there and whole.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  lifeboat check
  lifeboat check --read-data
  lifeboat check --read-data-subset 5%
  lifeboat check --read-data-subset 3/12")]
pub(crate) struct Args {
    /// Read all data, open it and hold it against its ids.
    #[arg(long, conflicts_with = "read_data_subset")]
    read_data: bool,

    /// Read a part of the data, one pack at least: 5% is another part every day, 3/12 the third of twelve fixed parts.
    #[arg(long, value_name = "PART")]
    read_data_subset: Option<Subset>,
}

/// Which part of the data is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Subset {
    /// So many percent of it, 1 to 100.
    Percent(u8),
    /// One of several fixed parts, counted from 1.
    Part { number: u32, of: u32 },
}

impl FromStr for Subset {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let percent = |digits: &str| {
            let percent: u8 = digits.parse().ok()?;
            (1..=100)
                .contains(&percent)
                .then_some(Self::Percent(percent))
        };
        let part = |(number, of): (&str, &str)| {
            let (number, of) = (number.parse().ok()?, of.parse().ok()?);
            (1..=of)
                .contains(&number)
                .then_some(Self::Part { number, of })
        };
        text.strip_suffix('%')
            .map_or_else(|| text.split_once('/').and_then(part), percent)
            .ok_or_else(|| "write whole percents such as 5%, or a part such as 3/12".to_owned())
    }
}

/// What a check says at its end.
#[derive(Debug, Serialize)]
struct Summary {
    snapshots: u64,
    chunks: u64,
    objects: u64,
    bytes: u64,
    packs: u64,
    packs_read: u64,
    bytes_read: u64,
    closed_segments: u64,
    damage: usize,
    warnings: usize,
    findings: Vec<FindingFacts>,
    seconds: f64,
}

/// Checks. Ends with 4 when something is damaged or lost.
pub(super) fn run(args: &Args, context: &Context) -> Result<ExitCode, CommandError> {
    let started = Instant::now();
    let read_data = match args.read_data_subset {
        Some(Subset::Percent(percent)) => ReadData::Percent(percent),
        Some(Subset::Part { number, of }) => ReadData::Share { part: number, of },
        None if args.read_data => ReadData::All,
        None => ReadData::None,
    };
    let repository = context.open_to_read()?;
    let (ui, stop) = (context.ui(), context.interrupt().flag());
    let report = ui.watched(|watch| -> Result<CheckReport, CommandError> {
        let teller = Teller::at_end(ui, watch);
        let options = CheckOptions { read_data };
        let report = lifeboat_repository::check(&repository, &options, &teller, stop)?;
        teller.tell(&report.findings);
        Ok(report)
    })?;
    context.going_on()?;
    let elapsed = started.elapsed();
    let damage = report.count(Severity::Damage);
    let sums = report.kinds.values();
    let (objects, bytes) = sums.fold((0, 0), |sum, kind| (sum.0 + kind.0, sum.1 + kind.1));
    ui.summary(&Summary {
        snapshots: report.snapshots,
        chunks: report.chunks,
        objects,
        bytes,
        packs: report.packs,
        packs_read: report.packs_read,
        bytes_read: report.bytes_read,
        closed_segments: report.closed_segments,
        damage,
        warnings: report.count(Severity::Warning),
        findings: findings::facts(&report.findings),
        seconds: elapsed.as_secs_f64(),
    })?;
    ui.note(&format!(
        "Checked {} and {} of {} in {}.",
        counted(report.snapshots, "snapshot"),
        counted(objects, "object"),
        Bytes(bytes),
        Elapsed(elapsed)
    ));
    ui.note(&what_was_read(&report));
    if damage == 0 {
        ui.note("No damage was found.");
        return Ok(ExitCode::Done);
    }
    ui.warning(&format!(
        "Found {} of damage, named above.",
        counted(damage as u64, "case")
    ));
    Ok(ExitCode::Problem)
}

fn what_was_read(report: &CheckReport) -> String {
    let packs = counted(report.packs, "pack");
    if report.packs_read == 0 {
        return format!("The content of {packs} was not read; --read-data does that.");
    }
    format!(
        "Read the content of {} of {packs}, {}.",
        report.packs_read,
        Bytes(report.bytes_read)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_the_data_is_a_share_or_one_of_several() {
        assert_eq!("5%".parse(), Ok(Subset::Percent(5)));
        assert_eq!("100%".parse(), Ok(Subset::Percent(100)));
        assert_eq!("3/12".parse(), Ok(Subset::Part { number: 3, of: 12 }));
        for wrong in [
            "", "5", "0%", "101%", "0.5%", "0/12", "13/12", "1/0", "-1/2", "1/2/3",
        ] {
            assert!(wrong.parse::<Subset>().is_err(), "{wrong}");
        }
    }
}
