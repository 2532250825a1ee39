//! Numbers, times and foreign text as people read them.
//!
//! **Invariant**: what comes from outside (a file's name, a server's message) reaches a terminal only through
//! [`printable`], so that it cannot move the cursor, change colours or forge another line.

use std::{borrow::Cow, ffi::OsStr, fmt::Write as _, os::unix::ffi::OsStrExt, time::Duration};

use jiff::{Timestamp, tz::TimeZone};

const BINARY_UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];

/// A number of bytes with three digits at most: `512 B`, `1.2 GiB`, `340 MiB`.
pub(crate) fn bytes(number: u64) -> String {
    if number < 1024 {
        return format!("{number} B");
    }
    let mut value = number as f64 / 1024.0;
    let mut unit = 0;
    // 1023.5 would be rounded to 1024, which is 1.0 of the next unit.
    while value >= 1023.5 && unit + 1 < BINARY_UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    // 9.95 and more would be shown with three digits and a decimal.
    let decimals = usize::from(value < 9.95 || (value < 99.95 && unit >= 2));
    format!("{value:.decimals$} {}", BINARY_UNITS[unit])
}

/// A number with commas between thousands: `12,345`.
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A number and what it counts: `1 file`, `12,345 files`.
pub(crate) fn counted(number: u64, noun: &str) -> String {
    let ending = if number == 1 { "" } else { "s" };
    format!("{} {noun}{ending}", count(number))
}

/// A length of time by its two largest units: `4.2 s`, `3 m 12 s`, `2 h 5 m`, `3 d 4 h`.
pub(crate) fn duration(length: Duration) -> String {
    if length.as_millis() < 9_950 {
        return format!("{:.1} s", length.as_secs_f64());
    }
    let seconds = length.as_secs_f64().round() as u64;
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} m {} s", seconds % 60),
        (0, _, _) => format!("{hours} h {} m", minutes % 60),
        _ => format!("{days} d {} h", hours % 24),
    }
}

/// A point in time as the clock of `zone` shows it: `2026-11-19 03:00:12`.
///
/// A time outside the calendar, which only damaged data can hold, is shown as its number.
pub(crate) fn moment(unix_ms: u64, zone: &TimeZone) -> String {
    i64::try_from(unix_ms)
        .ok()
        .and_then(|unix_ms| Timestamp::from_millisecond(unix_ms).ok())
        .map_or_else(
            || format!("{unix_ms} ms after 1970"),
            |time| {
                time.to_zoned(zone.clone())
                    .strftime("%Y-%m-%d %H:%M:%S")
                    .to_string()
            },
        )
}

/// The text on one line and without anything that a terminal obeys: `a\nb`, `\u{1b}[2J`.
pub(crate) fn printable(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_obeyed) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 8);
    for letter in text.chars() {
        if is_obeyed(letter) {
            out.extend(letter.escape_default());
        } else {
            out.push(letter);
        }
    }
    Cow::Owned(out)
}

/// A name or path like [`printable`]; bytes that are no UTF-8 are shown as `\xff`.
pub(crate) fn printable_path(path: &OsStr) -> String {
    let mut out = String::new();
    for chunk in path.as_bytes().utf8_chunks() {
        out.push_str(&printable(chunk.valid()));
        for byte in chunk.invalid() {
            write!(out, "\\x{byte:02x}").expect("writing to a String never fails");
        }
    }
    out
}

/// A fragment, such as an error's message, as a sentence of its own.
pub(crate) fn sentence(fragment: &str) -> String {
    let fragment = fragment.trim_end_matches('.');
    let mut letters = fragment.chars();
    let first: String = letters
        .next()
        .into_iter()
        .flat_map(char::to_uppercase)
        .collect();
    format!("{first}{}.", letters.as_str())
}

/// Control characters, and those that turn the direction of text so that a name looks like another.
fn is_obeyed(letter: char) -> bool {
    letter.is_control()
        || matches!(letter, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2028}' | '\u{2029}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_have_three_digits_at_most_and_the_right_unit() {
        for (number, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (10_240, "10 KiB"),
            (1_048_064, "1.0 MiB"),
            (1_288_490_189, "1.2 GiB"),
            (53_687_091_200, "50.0 GiB"),
            (365_072_220_160, "340 GiB"),
            (u64::MAX, "16.0 EiB"),
        ] {
            assert_eq!(bytes(number), text, "{number}");
        }
    }

    #[test]
    fn numbers_have_commas_and_nouns_their_plural() {
        assert_eq!(count(0), "0");
        assert_eq!(count(999), "999");
        assert_eq!(count(1_000), "1,000");
        assert_eq!(count(1_234_567), "1,234,567");
        assert_eq!(counted(1, "file"), "1 file");
        assert_eq!(counted(12_345, "file"), "12,345 files");
        assert_eq!(counted(0, "file"), "0 files");
    }

    #[test]
    fn durations_show_their_two_largest_units() {
        for (ms, text) in [
            (0, "0.0 s"),
            (4_240, "4.2 s"),
            (9_949, "9.9 s"),
            (9_951, "10 s"),
            (59_600, "1 m 0 s"),
            (192_000, "3 m 12 s"),
            (7_500_000, "2 h 5 m"),
            (273_600_000, "3 d 4 h"),
        ] {
            assert_eq!(duration(Duration::from_millis(ms)), text, "{ms}");
        }
    }

    #[test]
    fn moments_are_shown_in_the_zone_and_impossible_ones_as_numbers() {
        assert_eq!(moment(0, &TimeZone::UTC), "1970-01-01 00:00:00");
        let east = TimeZone::fixed(jiff::tz::offset(2));
        assert_eq!(moment(1_795_050_012_000, &east), "2026-11-19 03:00:12");
        assert_eq!(
            moment(u64::MAX, &TimeZone::UTC),
            format!("{} ms after 1970", u64::MAX)
        );
    }

    #[test]
    fn fragments_become_sentences() {
        assert_eq!(sentence("update it."), "Update it.");
        assert_eq!(sentence("ärgerlich"), "Ärgerlich.");
        assert_eq!(sentence(""), ".");
    }

    #[test]
    fn nothing_that_a_terminal_obeys_gets_through() {
        assert!(matches!(
            printable("grüße/😀 a.txt"),
            Cow::Borrowed("grüße/😀 a.txt")
        ));
        assert_eq!(printable("a\nb\x1b[2J\u{202e}"), "a\\nb\\u{1b}[2J\\u{202e}");
        assert_eq!(printable("\u{9b}31m"), "\\u{9b}31m");
        assert_eq!(
            printable_path(OsStr::from_bytes(b"caf\xe9/\x07x")),
            "caf\\xe9/\\u{7}x"
        );
    }
}
