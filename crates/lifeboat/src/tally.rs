//! How far a long command is: what was expected, what is done, how fast, how long it may still take.
//!
//! Many threads count, one reads; every count is one atomic addition. A [`Standing`] is what was true at one moment,
//! and all that is shown of it, to people or programs, is made from it alone.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use lifeboat_app::{Bytes, Elapsed};
use lifeboat_repository::Counter;
use serde::Serialize;

use crate::text;

const COUNTERS: usize = 5;

/// The time over which a rate is smoothed.
const SMOOTHED: Duration = Duration::from_secs(8);

/// Before this no guess is made about the time that is left.
const GUESS_AFTER: Duration = Duration::from_secs(3);

/// What was counted since the command began.
#[derive(Debug)]
pub(crate) struct Tally {
    started: Instant,
    phase: Mutex<String>,
    expected: [AtomicU64; COUNTERS],
    done: [AtomicU64; COUNTERS],
    problems: AtomicU64,
}

impl Tally {
    /// Nothing is counted yet.
    pub(crate) fn new(started: Instant) -> Self {
        Self {
            started,
            phase: Mutex::new(String::new()),
            expected: Default::default(),
            done: Default::default(),
            problems: AtomicU64::new(0),
        }
    }

    /// The next part of the work begins.
    pub(crate) fn begin(&self, phase: &str) {
        phase.clone_into(&mut self.phase.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// There will be more than was known before.
    pub(crate) fn expect(&self, counter: Counter, amount: u64) {
        self.expected[place(counter)].fetch_add(amount, Ordering::Relaxed);
    }

    /// More is done.
    pub(crate) fn count(&self, counter: Counter, amount: u64) {
        self.done[place(counter)].fetch_add(amount, Ordering::Relaxed);
    }

    /// One item could not be handled.
    pub(crate) fn problem(&self) {
        self.problems.fetch_add(1, Ordering::Relaxed);
    }

    /// How many items could not be handled.
    pub(crate) fn problems(&self) -> u64 {
        self.problems.load(Ordering::Relaxed)
    }

    /// What is true at `now`; `pace` carries the rate from one look to the next.
    pub(crate) fn look(&self, now: Instant, pace: &mut Pace) -> Standing {
        let elapsed = now.saturating_duration_since(self.started);
        let read = |numbers: &[AtomicU64; COUNTERS]| {
            std::array::from_fn(|index| numbers[index].load(Ordering::Relaxed))
        };
        let done: [u64; COUNTERS] = read(&self.done);
        let expected: [u64; COUNTERS] = read(&self.expected);
        let leading = [Counter::Bytes, Counter::Objects, Counter::Files]
            .into_iter()
            .find(|counter| expected[place(*counter)] > 0);
        let paced = place(leading.unwrap_or(Counter::Bytes));
        let per_second = pace.update(elapsed, paced, done[paced]);
        Standing {
            phase: self
                .phase
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone(),
            elapsed,
            expected,
            done,
            problems: self.problems(),
            leading,
            per_second,
        }
    }
}

fn place(counter: Counter) -> usize {
    match counter {
        Counter::Files => 0,
        Counter::Bytes => 1,
        Counter::NewBytes => 2,
        Counter::StoredBytes => 3,
        Counter::Objects => 4,
    }
}

/// A rate that follows changes, but not every jump.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    counter: usize,
    at: Duration,
    done: u64,
    per_second: f64,
}

impl Pace {
    fn update(&mut self, elapsed: Duration, counter: usize, done: u64) -> f64 {
        if self.counter != counter {
            *self = Self {
                counter,
                at: elapsed,
                done,
                per_second: 0.0,
            };
        }
        let seconds = elapsed.saturating_sub(self.at).as_secs_f64();
        if seconds > 0.0 {
            let current = done.saturating_sub(self.done) as f64 / seconds;
            // The first look has no past to be smoothed with.
            let weight = if self.per_second == 0.0 {
                1.0
            } else {
                1.0 - (-seconds / SMOOTHED.as_secs_f64()).exp()
            };
            self.per_second += weight * (current - self.per_second);
            self.at = elapsed;
            self.done = done;
        }
        self.per_second
    }
}

/// How far the command was at one moment.
#[derive(Clone, Debug)]
pub(crate) struct Standing {
    phase: String,
    elapsed: Duration,
    expected: [u64; COUNTERS],
    done: [u64; COUNTERS],
    problems: u64,
    leading: Option<Counter>,
    per_second: f64,
}

impl Standing {
    fn done(&self, counter: Counter) -> u64 {
        self.done[place(counter)]
    }

    fn expected(&self, counter: Counter) -> u64 {
        self.expected[place(counter)]
    }

    /// Done and expected of what leads the work, where anything is expected. Done never exceeds expected: sources grow.
    pub(crate) fn share(&self) -> Option<(u64, u64)> {
        let leading = self.leading?;
        let expected = self.expected(leading);
        Some((self.done(leading).min(expected), expected))
    }

    fn left(&self) -> Option<Duration> {
        let (done, expected) = self.share()?;
        let seconds = (expected - done) as f64 / self.per_second;
        // When all is counted, what goes on is not counted: the indexes of a database are made then.
        if self.elapsed < GUESS_AFTER || done == 0 || done == expected {
            return None;
        }
        Duration::try_from_secs_f64(seconds).ok()
    }

    /// One line for people; what matters most comes first, since a narrow terminal cuts the end off.
    pub(crate) fn line(&self) -> String {
        let mut parts = Vec::new();
        if !self.phase.is_empty() {
            parts.push(text::printable(&self.phase).into_owned());
        }
        if let Some((done, expected)) = self.share() {
            parts.push(format!("{} %", percent(done, expected) as u64));
        }
        if let Some(left) = self.left() {
            parts.push(format!("{} left", Elapsed(left)));
        }
        let of = |counter, show: &dyn Fn(u64) -> String, noun: &str| {
            let (done, expected) = (self.done(counter), self.expected(counter));
            match (done, expected) {
                (0, 0) => None,
                (done, 0) => Some(format!("{}{noun}", show(done))),
                (done, expected) => Some(format!("{} of {}{noun}", show(done), show(expected))),
            }
        };
        parts.extend(of(Counter::Bytes, &|bytes| Bytes(bytes).to_string(), ""));
        let per_second = self.per_second_bytes();
        if per_second > 0 && !matches!(self.leading, Some(Counter::Objects)) {
            parts.push(format!("{}/s", Bytes(per_second)));
        }
        parts.extend(of(Counter::Files, &text::count, " files"));
        parts.extend(of(Counter::Objects, &text::count, " objects"));
        if self.done(Counter::StoredBytes) > 0 {
            parts.push(format!("{} stored", Bytes(self.done(Counter::StoredBytes))));
        }
        if self.problems > 0 {
            parts.push(text::counted(self.problems, "problem"));
        }
        parts.join(" · ")
    }

    fn per_second_bytes(&self) -> u64 {
        match self.leading {
            None | Some(Counter::Bytes) => self.per_second as u64,
            Some(_) => {
                (self.done(Counter::Bytes) as f64 / self.elapsed.as_secs_f64().max(0.001)) as u64
            }
        }
    }

    /// The same for programs: the fields of the message `status`.
    pub(crate) fn status(&self) -> Status<'_> {
        Status {
            phase: &self.phase,
            percent_done: self
                .share()
                .map(|(done, expected)| percent(done, expected) / 100.0),
            seconds_elapsed: self.elapsed.as_secs(),
            seconds_remaining: self.left().map(|left| left.as_secs()),
            total_files: self.expected(Counter::Files),
            files_done: self.done(Counter::Files),
            total_bytes: self.expected(Counter::Bytes),
            bytes_done: self.done(Counter::Bytes),
            bytes_new: self.done(Counter::NewBytes),
            bytes_stored: self.done(Counter::StoredBytes),
            total_objects: self.expected(Counter::Objects),
            objects_done: self.done(Counter::Objects),
            error_count: self.problems,
        }
    }
}

fn percent(done: u64, expected: u64) -> f64 {
    if expected == 0 {
        return 100.0;
    }
    done as f64 * 100.0 / expected as f64
}

/// The fields of the message `status`; names that restic has too mean the same.
#[derive(Debug, Serialize)]
pub(crate) struct Status<'a> {
    phase: &'a str,
    /// 0 to 1; null where nothing is known about the whole.
    percent_done: Option<f64>,
    seconds_elapsed: u64,
    seconds_remaining: Option<u64>,
    total_files: u64,
    files_done: u64,
    total_bytes: u64,
    bytes_done: u64,
    bytes_new: u64,
    bytes_stored: u64,
    total_objects: u64,
    objects_done: u64,
    error_count: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks each second of `seconds` while `per_second` bytes go by.
    fn run(
        tally: &Tally,
        pace: &mut Pace,
        seconds: std::ops::Range<u64>,
        per_second: u64,
    ) -> Standing {
        let mut standing = None;
        for second in seconds {
            tally.count(Counter::Bytes, per_second);
            let now = tally.started + Duration::from_secs(second + 1);
            standing = Some(tally.look(now, pace));
        }
        standing.unwrap()
    }

    #[test]
    fn a_line_says_phase_share_rate_and_time_left() {
        let tally = Tally::new(Instant::now());
        tally.begin("Reading uploads");
        tally.expect(Counter::Bytes, 100 << 20);
        tally.expect(Counter::Files, 3_000);
        tally.count(Counter::Files, 1_200);
        let standing = run(&tally, &mut Pace::default(), 0..10, 4 << 20);
        assert_eq!(
            standing.line(),
            "Reading uploads · 40 % · 15 s left · 40.0 MiB of 100 MiB · 4.0 MiB/s · 1,200 of 3,000 files"
        );
    }

    #[test]
    fn nothing_is_guessed_where_nothing_is_known() {
        let tally = Tally::new(Instant::now());
        let mut pace = Pace::default();
        let standing = tally.look(tally.started, &mut pace);
        assert_eq!(standing.line(), "");
        assert_eq!(standing.share(), None);
        let standing = run(&tally, &mut pace, 0..10, 1 << 10);
        assert_eq!(standing.line(), "10.0 KiB · 1.0 KiB/s");
        tally.expect(Counter::Objects, 4);
        tally.problem();
        let standing = tally.look(tally.started + Duration::from_secs(11), &mut pace);
        assert_eq!(
            standing.line(),
            "0 % · 10.0 KiB · 0 of 4 objects · 1 problem"
        );
    }

    #[test]
    fn a_source_that_grows_never_passes_one_hundred_percent() {
        let tally = Tally::new(Instant::now());
        tally.expect(Counter::Bytes, 10);
        let standing = run(&tally, &mut Pace::default(), 0..5, 10);
        assert_eq!(standing.share(), Some((10, 10)));
        assert_eq!(standing.status().percent_done, Some(1.0));
        assert_eq!(
            standing.status().seconds_remaining,
            None,
            "of what is not counted"
        );
    }

    #[test]
    fn the_rate_follows_a_change_without_jumping() {
        let tally = Tally::new(Instant::now());
        let mut pace = Pace::default();
        run(&tally, &mut pace, 0..10, 1_000);
        let after_one = run(&tally, &mut pace, 10..11, 9_000).per_second;
        assert!((1_500.0..3_000.0).contains(&after_one), "{after_one}");
        let after_many = run(&tally, &mut pace, 11..60, 9_000).per_second;
        assert!((8_900.0..=9_000.0).contains(&after_many), "{after_many}");
    }

    #[test]
    fn programs_get_the_fields_they_know() {
        let tally = Tally::new(Instant::now());
        tally.begin("Checking");
        tally.expect(Counter::Objects, 8);
        tally.count(Counter::Objects, 2);
        let standing = tally.look(tally.started + Duration::from_secs(2), &mut Pace::default());
        assert_eq!(
            serde_json::to_string(&standing.status()).unwrap(),
            r#"{"phase":"Checking","percent_done":0.25,"seconds_elapsed":2,"seconds_remaining":null,"total_files":0,"files_done":0,"total_bytes":0,"bytes_done":0,"bytes_new":0,"bytes_stored":0,"total_objects":8,"objects_done":2,"error_count":0}"#
        );
    }
}
