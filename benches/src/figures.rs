//! The figures that this project wants to reach, each held against what this run measured.

use std::fmt;

/// The most memory that any command may need.
const PEAK_BYTES: u64 = 128_000_000;

/// How a figure is written.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Unit {
    /// A part of what the best other program needs, or of another figure.
    Times,
    Megabytes,
    Milliseconds,
    Number,
}

/// A value with its unit.
struct Value(f64, Unit);

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.1 {
            Unit::Times => write!(f, "{:.2}", self.0),
            Unit::Megabytes => write!(f, "{:.1} MB", self.0),
            Unit::Milliseconds => write!(f, "{:.0} ms", self.0),
            Unit::Number => write!(f, "{:.0}", self.0),
        }
    }
}

struct Figure {
    work: String,
    what: String,
    reached: Value,
    least: bool,
    limit: f64,
}

/// What was reached so far.
#[derive(Default)]
pub(crate) struct Figures {
    figures: Vec<Figure>,
    peak: Option<(u64, String)>,
}

impl Figures {
    /// A figure that may not be larger than its limit.
    pub(crate) fn at_most(
        &mut self,
        work: impl fmt::Display,
        what: impl Into<String>,
        reached: f64,
        limit: f64,
        unit: Unit,
    ) {
        self.add(work, what, Value(reached, unit), limit, false);
    }

    /// A figure that may not be smaller than its limit.
    pub(crate) fn at_least(
        &mut self,
        work: impl fmt::Display,
        what: impl Into<String>,
        reached: f64,
        limit: f64,
        unit: Unit,
    ) {
        self.add(work, what, Value(reached, unit), limit, true);
    }

    fn add(
        &mut self,
        work: impl fmt::Display,
        what: impl Into<String>,
        reached: Value,
        limit: f64,
        least: bool,
    ) {
        self.figures.push(Figure {
            work: work.to_string(),
            what: what.into(),
            reached,
            least,
            limit,
        });
    }

    /// The memory that a command of Lifeboat needed, 0 for one that did not run; the largest of the run is a figure.
    pub(crate) fn peak(&mut self, bytes: u64, what: impl FnOnce() -> String) {
        if self.peak.as_ref().map_or(0, |(peak, _)| *peak) < bytes {
            self.peak = Some((bytes, what()));
        }
    }

    /// Prints all, in the order in which they were measured.
    pub(crate) fn print(mut self) {
        if let Some((bytes, what)) = self.peak.take() {
            let megabytes = |bytes: u64| bytes as f64 / 1e6;
            let (reached, limit) = (megabytes(bytes), megabytes(PEAK_BYTES));
            self.at_most(
                "all of this run",
                format!("largest peak: {what}"),
                reached,
                limit,
                Unit::Megabytes,
            );
        }
        if self.figures.is_empty() {
            return;
        }
        println!("\n## Figures\n\n| work | figure | reached | limit | |\n|---|---|--:|--:|---|");
        for figure in &self.figures {
            let Value(reached, unit) = figure.reached;
            let (word, good) = if figure.least {
                ("at least", reached >= figure.limit)
            } else {
                ("at most", reached <= figure.limit)
            };
            println!(
                "| {} | {} | {} | {word} {} | {} |",
                figure.work,
                figure.what,
                figure.reached,
                Value(figure.limit, unit),
                if good { "yes" } else { "**no**" },
            );
        }
    }
}
