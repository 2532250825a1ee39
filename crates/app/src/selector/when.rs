//! The times of selectors: `2026-11-19`, `2026-11-19 03:00`, `2026-11-19 03:00:12`, `yesterday`, `today`.
//!
//! A time lasts as long as its last unit: a day to its end, a minute for sixty seconds. Invariant: a time means the
//! same wherever it is read, for the zone and the present moment are given.

use jiff::civil::{Date, DateTime, Time};
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp, ToSpan, Zoned};

/// A moment as it was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum When {
    Yesterday,
    Today,
    Day(Date),
    Minute(DateTime),
    Second(DateTime),
}

impl When {
    /// The first millisecond since 1970 at which the moment has passed; `None` when it never will.
    pub(super) fn passed(self, now: &Zoned) -> Option<i128> {
        let zone = now.time_zone();
        let day_after = |day: Date| {
            let start = day.tomorrow().ok()?.to_zoned(zone.clone()).ok()?;
            Some(i128::from(start.timestamp().as_millisecond()))
        };
        match self {
            Self::Today => day_after(now.date()),
            Self::Yesterday => day_after(now.date().yesterday().ok()?),
            Self::Day(day) => day_after(day),
            Self::Minute(start) => end_of(start, 1.minute(), zone),
            Self::Second(start) => end_of(start, 1.second(), zone),
        }
    }
}

/// The first millisecond after the `length` that begins when the clock shows `start`.
///
/// A time that a clock shows twice, when it is set back, is taken as the later one: the snapshots of both are at or
/// before it.
fn end_of(start: DateTime, length: Span, zone: &TimeZone) -> Option<i128> {
    let start: Timestamp = zone.to_ambiguous_timestamp(start).later().ok()?;
    let end = start.checked_add(length).ok()?;
    Some(i128::from(end.as_millisecond()))
}

/// The time that `bytes` begin with, and its length; a time in quotes ends with them.
pub(super) fn time_at(bytes: &[u8]) -> Option<(When, usize)> {
    for quote in [b'"', b'\''] {
        if let Some(quoted) = bytes.strip_prefix(&[quote]) {
            let end = quoted.iter().position(|byte| *byte == quote)?;
            let (when, length) = plain_time_at(&quoted[..end])?;
            return (length == end).then_some((when, end + 2));
        }
    }
    plain_time_at(bytes)
}

fn plain_time_at(bytes: &[u8]) -> Option<(When, usize)> {
    for (word, when) in [("yesterday", When::Yesterday), ("today", When::Today)] {
        if bytes.starts_with(word.as_bytes()) {
            return Some((when, word.len()));
        }
    }
    let [year, month, day] = numbers(bytes, "dddd-dd-dd")?;
    let day = Date::new(year, i8::try_from(month).ok()?, i8::try_from(day).ok()?).ok()?;
    let clock = bytes.get(10..).unwrap_or_default();
    let clock = clock
        .strip_prefix(b" ")
        .or_else(|| clock.strip_prefix(b"T"));
    let Some(clock) = clock else {
        return Some((When::Day(day), 10));
    };
    let time = |hour: i16, minute: i16, second: i16| {
        let [hour, minute, second] = [hour, minute, second].map(i8::try_from);
        let time = Time::new(hour.ok()?, minute.ok()?, second.ok()?, 0).ok()?;
        Some(day.to_datetime(time))
    };
    if let Some([hour, minute, second]) = numbers(clock, "dd:dd:dd") {
        // Two digits that begin a longer name are a path: `shop@2026-11-19 03:00:2026/x`.
        if matches!(clock.get(8), None | Some(b':')) {
            return Some((When::Second(time(hour, minute, second)?), 19));
        }
    }
    let [hour, minute] = numbers(clock, "dd:dd")?;
    Some((When::Minute(time(hour, minute, 0)?), 16))
}

/// The `COUNT` numbers at the beginning of `bytes`, which must look like `shape`: a digit for each `d`.
fn numbers<const COUNT: usize>(bytes: &[u8], shape: &str) -> Option<[i16; COUNT]> {
    let mut numbers = [0_i16; COUNT];
    let mut place = 0;
    for (index, wanted) in shape.bytes().enumerate() {
        let byte = *bytes.get(index)?;
        if wanted != b'd' {
            place += 1;
            if byte != wanted {
                return None;
            }
        } else if byte.is_ascii_digit() {
            let number = numbers.get_mut(place)?;
            *number = *number * 10 + i16::from(byte - b'0');
        } else {
            return None;
        }
    }
    Some(numbers)
}
