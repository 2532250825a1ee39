//! How quantities are shown to people: sizes, durations, moments.
//!
//! Invariant: the text is short, in units that anybody knows, and never rounded so that it says a unit too many
//! (`1024 KiB`). Machines get the plain numbers; nothing here is meant to be read back.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use std::fmt;
use std::time::Duration;

/// A number of bytes, shown as `512 B`, `1.2 GiB`, `340 MiB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bytes(pub u64);

impl fmt::Display for Bytes {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
        if self.0 < 1024 {
            return write!(out, "{} B", self.0);
        }
        // Tenths of the unit, so that rounding is decided once and in whole numbers.
        let mut unit = 0;
        let mut tenths = tenths_of(self.0, unit);
        // From 1023.5 on, the whole number shown would be 1024.
        while tenths >= 10_235 && unit + 1 < UNITS.len() {
            unit += 1;
            tenths = tenths_of(self.0, unit);
        }
        if tenths < 1000 {
            write!(out, "{}.{} {}", tenths / 10, tenths % 10, UNITS[unit])
        } else {
            write!(out, "{} {}", (tenths + 5) / 10, UNITS[unit])
        }
    }
}

/// `bytes` in tenths of 1024 to the power of `unit + 1`, rounded.
fn tenths_of(bytes: u64, unit: usize) -> u64 {
    let shift = 10 * (unit + 1);
    let tenths = (u128::from(bytes) * 10 + (1 << (shift - 1))) >> shift;
    // At most ten times the largest size, divided by 1024: fits.
    u64::try_from(tenths).unwrap_or(u64::MAX)
}

/// A duration, shown by its two greatest units: `0.4 s`, `12 s`, `3 m 12 s`, `2 h 5 m`, `3 d 4 h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Elapsed(pub Duration);

impl fmt::Display for Elapsed {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tenths = (self.0.as_millis() + 50) / 100;
        if tenths < 100 {
            return write!(out, "{}.{} s", tenths / 10, tenths % 10);
        }
        let seconds = (self.0.as_millis() + 500) / 1000;
        let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
        match (days, hours, minutes) {
            (0, 0, 0) => write!(out, "{seconds} s"),
            (0, 0, _) => write!(out, "{minutes} m {} s", seconds % 60),
            (0, _, _) => write!(out, "{hours} h {} m", minutes % 60),
            (_, _, _) => write!(out, "{days} d {} h", hours % 24),
        }
    }
}

/// A moment on the clock of `zone`, to the second: `2026-11-19 03:00:12`.
///
/// `moment_ms` counts milliseconds since 1970 in UTC; one beyond the year 9999 is shown as that number.
#[must_use]
pub fn clock_time(moment_ms: u64, zone: &TimeZone) -> String {
    i64::try_from(moment_ms)
        .ok()
        .and_then(|moment_ms| Timestamp::from_millisecond(moment_ms).ok())
        .map_or_else(
            || format!("{moment_ms} ms"),
            |moment| {
                let moment = moment.to_zoned(zone.clone());
                moment.strftime("%Y-%m-%d %H:%M:%S").to_string()
            },
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_never_show_a_unit_too_many() {
        for (bytes, shown) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1536, "1.5 KiB"),
            (102_348, "99.9 KiB"),
            (102_400, "100 KiB"),
            (1_047_552, "1023 KiB"),
            (1_048_000, "1023 KiB"),
            (1_048_064, "1.0 MiB"),
            (1_048_575, "1.0 MiB"),
            (1_288_490_189, "1.2 GiB"),
            (u64::MAX, "16.0 EiB"),
        ] {
            assert_eq!(Bytes(bytes).to_string(), shown);
        }
    }

    #[test]
    fn durations_show_their_two_greatest_units() {
        for (elapsed_ms, shown) in [
            (0, "0.0 s"),
            (449, "0.4 s"),
            (9_949, "9.9 s"),
            (9_950, "10 s"),
            (59_499, "59 s"),
            (59_500, "1 m 0 s"),
            (192_000, "3 m 12 s"),
            (7_500_000, "2 h 5 m"),
            (273_600_000, "3 d 4 h"),
        ] {
            assert_eq!(
                Elapsed(Duration::from_millis(elapsed_ms)).to_string(),
                shown
            );
        }
    }

    #[test]
    fn moments_are_shown_on_the_clock_of_the_zone() {
        let berlin = TimeZone::get("Europe/Berlin").unwrap();
        assert_eq!(clock_time(0, &TimeZone::UTC), "1970-01-01 00:00:00");
        assert_eq!(
            clock_time(1_795_053_612_999, &berlin),
            "2026-11-19 03:00:12"
        );
        assert_eq!(clock_time(u64::MAX, &berlin), "18446744073709551615 ms");
    }
}
