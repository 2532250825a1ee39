//! The program itself and the system it runs on.

use std::{
    env,
    time::{SystemTime, UNIX_EPOCH},
};

use jiff::tz::TimeZone;
use lifeboat_codec::{DRAFT, FORMAT};

use super::Finding;

/// The start of 2026 in unix seconds: before this program was made, so that a clock which says less is wrong.
const EARLIEST: u64 = 1_767_225_600;

/// Everything about the system.
pub(super) fn look() -> Vec<Finding> {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs());
    vec![
        versions(),
        user(rustix::process::geteuid().as_raw()),
        clock(now),
        time_zone(),
        locale(["LC_ALL", "LC_CTYPE", "LANG"].map(|name| env::var(name).ok())),
    ]
}

fn versions() -> Finding {
    let system = rustix::system::uname();
    Finding::ok(
        "versions",
        format!(
            "Lifeboat {}, repository format {FORMAT} draft {DRAFT}, SQLite {}, {} {}.",
            env!("CARGO_PKG_VERSION"),
            rusqlite::version(),
            system.sysname().to_string_lossy(),
            system.release().to_string_lossy()
        ),
    )
}

fn user(id: u32) -> Finding {
    if id == 0 {
        return Finding::ok("user", "The program runs as root and may read every file.");
    }
    Finding::ok(
        "user",
        format!(
            "The program runs as user {id}; it reads what that user may read, and restored files belong to that user."
        ),
    )
}

fn clock(now: u64) -> Finding {
    if now >= EARLIEST {
        return Finding::ok("clock", "The clock is plausible.");
    }
    Finding::problem(
        "clock",
        "The clock is far in the past, so that snapshots would carry wrong times.",
        "Set the clock, for example with timedatectl.",
    )
}

fn time_zone() -> Finding {
    match TimeZone::try_system() {
        Ok(zone) => Finding::ok(
            "time zone",
            format!(
                "Times are shown in {}.",
                zone.iana_name().unwrap_or("the system's zone")
            ),
        ),
        Err(_) => Finding::warning(
            "time zone",
            "The system's time zone is not known; times are shown in UTC.",
            "Set timezone in the configuration, or the variable TZ, and install tzdata.",
        ),
    }
}

/// The first variable that is set and not empty decides, as in every program.
fn locale(variables: [Option<String>; 3]) -> Finding {
    let name = variables
        .into_iter()
        .flatten()
        .find(|value| !value.is_empty())
        .unwrap_or_else(|| "POSIX".to_owned());
    let folded = name.to_ascii_lowercase();
    if folded.contains("utf-8") || folded.contains("utf8") {
        return Finding::ok("locale", format!("The locale is {name}."));
    }
    Finding::warning(
        "locale",
        format!(
            "The locale is {name}, not UTF-8; a terminal may show names with other letters wrongly."
        ),
        "Set LANG=C.UTF-8. What is backed up does not depend on it.",
    )
}

#[cfg(test)]
mod tests {
    use super::{super::Verdict, *};

    #[test]
    fn the_first_variable_that_is_set_decides_about_the_locale() {
        let verdict = |values: [&str; 3]| {
            locale(values.map(|value| (value != "-").then(|| value.to_owned()))).verdict
        };
        assert_eq!(verdict(["-", "-", "de_DE.UTF-8"]), Verdict::Ok);
        assert_eq!(verdict(["", "C.utf8", "C"]), Verdict::Ok);
        assert_eq!(verdict(["C", "-", "de_DE.UTF-8"]), Verdict::Warning);
        assert_eq!(verdict(["-", "-", "-"]), Verdict::Warning);
    }

    #[test]
    fn a_clock_that_was_never_set_is_a_problem() {
        assert_eq!(clock(0).verdict, Verdict::Problem);
        assert_eq!(clock(EARLIEST).verdict, Verdict::Ok);
    }
}
