//! What the last backups of an app stored newly, of each table and folder.

use jiff::{Timestamp, tz::TimeZone};
use lifeboat_app::{Grown, GrowthPart, growth, shown_path};
use lifeboat_repository::{Repository, Snapshot};
use serde::Serialize;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use super::unread::UnreadItems;
use crate::text::{counted, printable};

/// A terminal's width, which the table keeps to.
const WIDTH: usize = 80;
/// Snapshots that have a column; older ones share one.
const COLUMNS_MAX: usize = 7;
/// Of a column, with the gap before it.
const COLUMN_WIDTH: usize = 7;
/// Parts that have a line; the others share one.
const LINES_MAX: usize = 20;

/// The answer.
#[derive(Debug, Serialize)]
pub(super) struct Grew {
    snapshots: Vec<GrewSnapshot>,
    parts: Vec<GrewPart>,
}

#[derive(Debug, Serialize)]
struct GrewSnapshot {
    snapshot: String,
    started_ms: u64,
    bytes_new: u64,
    bytes_stored: u64,
}

/// A table or folder.
#[derive(Debug, Serialize)]
struct GrewPart {
    path: String,
    bytes_new: u64,
    bytes_stored: u64,
    /// In the order of the snapshots.
    nights: Vec<GrewNight>,
}

#[derive(Debug, Serialize)]
struct GrewNight {
    bytes_new: u64,
    bytes_stored: u64,
}

impl Grew {
    /// Looks at the newest `last` snapshots of an app up to `snapshot`.
    pub(super) fn of(
        repository: &Repository,
        all: &[Snapshot],
        snapshot: &Snapshot,
        last: usize,
        unread: &mut UnreadItems,
    ) -> Self {
        let mut until: Vec<&Snapshot> = all
            .iter()
            .filter(|known| known.head.app == snapshot.head.app)
            .collect();
        let end = until.iter().position(|known| known.name == snapshot.name);
        until.truncate(end.map_or(0, |end| end + 1));
        let nights = &until[until.len().saturating_sub(last)..];
        let parts = growth(repository, all, nights, &mut |what| unread.add(what));
        let parts = parts.unwrap_or_else(|error| {
            unread.add(format!("what grew: {error}"));
            Vec::new()
        });
        Self {
            snapshots: nights.iter().map(|snapshot| told(snapshot)).collect(),
            parts: parts.iter().map(part).collect(),
        }
    }

    /// The table, in lines; none where nothing was stored.
    pub(super) fn lines(&self, zone: &TimeZone) -> Vec<String> {
        let stored = |night: &GrewNight| night.bytes_stored;
        let shown = self.parts.len().min(LINES_MAX);
        let (first, others) = self.parts.split_at(shown);
        let mut rows: Vec<(String, Vec<u64>)> = first
            .iter()
            .map(|part| (part.path.clone(), part.nights.iter().map(stored).collect()))
            .collect();
        let sum_of = |parts: &[GrewPart]| -> Vec<u64> {
            let of_night = |night: usize| parts.iter().map(move |part| stored(&part.nights[night]));
            let nights = 0..self.snapshots.len();
            nights.map(|night| of_night(night).sum()).collect()
        };
        if !others.is_empty() {
            let others_name = format!("{} more", counted(others.len() as u64, "part"));
            rows.push((others_name, sum_of(others)));
        }
        let all: Vec<u64> = self.snapshots.iter().map(|one| one.bytes_stored).collect();
        let of_parts = sum_of(&self.parts).into_iter();
        let rest = all.iter().zip(of_parts);
        let rest = rest.map(|(all, parts)| all.saturating_sub(parts)).collect();
        // Names, lists of chunks, the index, and what rounds packs up.
        rows.push(("everything else".to_owned(), rest));
        rows.push(("all".to_owned(), all));
        self.table(&rows, zone)
    }

    fn table(&self, rows: &[(String, Vec<u64>)], zone: &TimeZone) -> Vec<String> {
        let largest = rows.iter().map(|(_, nights)| nights.iter().sum::<u64>());
        let unit = Unit::of(largest.max().unwrap_or(0));
        let older = self.snapshots.len().saturating_sub(COLUMNS_MAX);
        let mut headings = Vec::new();
        if older > 0 {
            headings.push("older".to_owned());
        }
        headings.extend(dates(&self.snapshots[older..], zone));
        headings.push("sum".to_owned());
        let name_width = WIDTH - COLUMN_WIDTH * headings.len();
        let line = |name: &str, cells: &[String]| {
            let name = shortened(name, name_width);
            let space = name_width - name.width();
            let mut line = format!("{name}{:space$}", "");
            for cell in cells {
                line += &format!("{cell:>COLUMN_WIDTH$}");
            }
            line
        };
        let mut lines = vec![
            format!(
                "What the last {} stored newly, in {}",
                counted(self.snapshots.len() as u64, "backup"),
                unit.name
            ),
            line("", &headings),
        ];
        for (name, nights) in rows {
            let (before, shown) = nights.split_at(older);
            let mut cells = Vec::new();
            if older > 0 {
                cells.push(before.iter().sum());
            }
            cells.extend(shown);
            cells.push(nights.iter().sum());
            let cells: Vec<String> = cells.into_iter().map(|bytes| unit.shown(bytes)).collect();
            lines.push(line(name, &cells));
        }
        lines
    }
}

fn told(snapshot: &Snapshot) -> GrewSnapshot {
    GrewSnapshot {
        snapshot: snapshot.head.id.to_string(),
        started_ms: snapshot.head.started_ms,
        bytes_new: snapshot.head.totals.new_bytes,
        bytes_stored: snapshot.head.totals.stored_bytes,
    }
}

fn part(part: &GrowthPart) -> GrewPart {
    let sum = part.sum();
    let night = |grown: &Grown| GrewNight {
        bytes_new: grown.new_bytes,
        bytes_stored: grown.stored_bytes,
    };
    GrewPart {
        path: shown_path(&part.path),
        bytes_new: sum.new_bytes,
        bytes_stored: sum.stored_bytes,
        nights: part.nights.iter().map(night).collect(),
    }
}

/// One unit for a whole table, so that its numbers compare at a glance.
struct Unit {
    name: &'static str,
    bytes: u64,
}

impl Unit {
    /// The smallest in which no number has more than four digits before its point.
    fn of(largest: u64) -> Self {
        let units = ["KiB", "MiB", "GiB", "TiB", "PiB"];
        let mut bytes = 1024;
        let mut name = units[0];
        for unit in &units[1..] {
            if largest / bytes < 10_000 {
                break;
            }
            bytes *= 1024;
            name = unit;
        }
        Self { name, bytes }
    }

    /// A tenth where there is room for it; what is less than that, but not nothing, is not shown as nothing.
    fn shown(&self, bytes: u64) -> String {
        let value = bytes as f64 / self.bytes as f64;
        match bytes {
            0 => "-".to_owned(),
            _ if value < 0.05 => "<0.1".to_owned(),
            _ if value < 99.95 => format!("{value:.1}"),
            _ => format!("{value:.0}"),
        }
    }
}

/// The day of each, or the time of day where all are of one day.
fn dates(snapshots: &[GrewSnapshot], zone: &TimeZone) -> Vec<String> {
    let moment = |snapshot: &GrewSnapshot| {
        let moment = i64::try_from(snapshot.started_ms).ok();
        let moment = moment.and_then(|moment| Timestamp::from_millisecond(moment).ok());
        moment.unwrap_or_default().to_zoned(zone.clone())
    };
    let moments: Vec<_> = snapshots.iter().map(moment).collect();
    let one_day = moments.windows(2).all(|two| two[0].date() == two[1].date());
    let format = if one_day && moments.len() > 1 {
        "%H:%M"
    } else {
        "%m-%d"
    };
    moments
        .iter()
        .map(|moment| moment.strftime(format).to_string())
        .collect()
}

/// The end of a name that is too long, which tells more than its beginning.
fn shortened(name: &str, width: usize) -> String {
    let name = printable(name);
    if name.width() <= width {
        return name.into_owned();
    }
    let mut left = width - 1;
    let fits = |letter: &char| {
        let width = letter.width().unwrap_or(0);
        let fits = width <= left;
        left = left.saturating_sub(width);
        fits
    };
    let end: Vec<char> = name.chars().rev().take_while(fits).collect();
    let end: String = end.into_iter().rev().collect();
    format!("…{end}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grew(nights: usize, parts: &[(&str, u64)]) -> Grew {
        let snapshots = (0..nights).map(|night| GrewSnapshot {
            snapshot: String::new(),
            started_ms: 1_763_500_000_000 + night as u64 * 86_400_000,
            bytes_new: 0,
            bytes_stored: parts.iter().map(|(_, bytes)| bytes).sum::<u64>() + 3000,
        });
        let parts = parts.iter().map(|(path, bytes)| {
            let night = || GrewNight {
                bytes_new: 2 * bytes,
                bytes_stored: *bytes,
            };
            GrewPart {
                path: (*path).to_owned(),
                bytes_new: 0,
                bytes_stored: bytes * nights as u64,
                nights: (0..nights).map(|_| night()).collect(),
            }
        });
        Grew {
            snapshots: snapshots.collect(),
            parts: parts.collect(),
        }
    }

    #[test]
    fn the_table_has_the_width_of_a_terminal_and_a_column_for_each_night() {
        let parts = [
            ("db/public.a_table_with_quite_a_long_name", 300_000_000),
            ("uploads/2026", 900),
        ];
        let lines = grew(9, &parts).lines(&TimeZone::UTC);
        assert!(lines.iter().all(|line| line.width() <= WIDTH), "{lines:#?}");
        assert_eq!(
            lines,
            [
                "What the last 9 backups stored newly, in MiB",
                "                   older  11-20  11-21  11-22  11-23  11-24  11-25  11-26    sum",
                "…uite_a_long_name    572    286    286    286    286    286    286    286   2575",
                "uploads/2026        <0.1   <0.1   <0.1   <0.1   <0.1   <0.1   <0.1   <0.1   <0.1",
                "everything else     <0.1   <0.1   <0.1   <0.1   <0.1   <0.1   <0.1   <0.1   <0.1",
                "all                  572    286    286    286    286    286    286    286   2575",
            ]
        );
        let two = grew(2, &parts).lines(&TimeZone::UTC);
        assert_eq!(two[1].split_whitespace().count(), 3);
    }

    #[test]
    fn many_parts_share_a_line() {
        let names: Vec<String> = (0..30).map(|part| format!("uploads/{part}")).collect();
        let parts: Vec<(&str, u64)> = names.iter().map(|name| (name.as_str(), 5000)).collect();
        let lines = grew(1, &parts).lines(&TimeZone::UTC);
        assert_eq!(lines.len(), 2 + LINES_MAX + 3);
        assert!(
            lines[2 + LINES_MAX].starts_with("10 parts more"),
            "{lines:#?}"
        );
    }
}
