//! Whole commands side by side, in an order of the programs that changes with each round.

use std::collections::BTreeMap;
use std::path::Path;

use crate::Failure;
use crate::data::{Data, Made};
use crate::figures::{Figures, Unit};
use crate::measure::{Usage, median, medians};
use crate::programs::{Bench, Program, Step};

const STEPS: [Step; 5] = [
    Step::First,
    Step::Unchanged,
    Step::Next,
    Step::Restore,
    Step::Check,
];

/// What Lifeboat's time may be of that of the fastest other program.
fn limit(data: Data, step: Step) -> Option<f64> {
    match (data, step) {
        (Data::Media, Step::First) => Some(0.48),
        (Data::Media | Data::Tree, Step::Restore) => Some(0.45),
        (Data::Media | Data::Tree, Step::Check) => Some(0.4),
        (Data::Tree, Step::First) => Some(0.72),
        (Data::Tree, Step::Unchanged) => Some(0.5),
        (Data::Tree, Step::Next) => Some(0.32),
        _ => None,
    }
}

/// What the repository of a tree may be of the smallest other one, and what the next release may add.
const TREE_SIZE: f64 = 0.98;
const TREE_ADDED_MEGABYTES: f64 = 6.0;

#[derive(Default)]
struct Measured {
    usages: BTreeMap<(Step, Program), Vec<Usage>>,
    /// After the first backup.
    sizes: BTreeMap<Program, Vec<u64>>,
    /// By the next release.
    added: BTreeMap<Program, Vec<u64>>,
}

impl Measured {
    fn of(&self, step: Step, program: Program) -> Option<Usage> {
        self.usages
            .get(&(step, program))
            .and_then(|usages| medians(usages))
    }

    /// All steps of one program with a new repository.
    fn round(&mut self, made: &Made, program: Program, work: &Path) -> Result<(), Failure> {
        let bench = Bench::begin(program, &made.folder, work)?;
        for step in STEPS {
            if step == Step::Next && made.next.is_none() {
                continue;
            }
            let before = bench.size()?;
            if step == Step::Next {
                made.take_next()?;
            }
            if let Some(usage) = bench.measure(step)? {
                self.usages.entry((step, program)).or_default().push(usage);
            }
            let new = bench.size()? - before;
            match step {
                Step::First => self.sizes.entry(program).or_default().push(before + new),
                Step::Next => self.added.entry(program).or_default().push(new),
                Step::Restore => bench.judge_restored(&made.folder)?,
                _ => {}
            }
        }
        bench.end()
    }
}

/// The smallest value of another program.
pub(crate) fn best_other(programs: &[Program], of: impl Fn(Program) -> Option<f64>) -> Option<f64> {
    programs
        .iter()
        .filter(|program| **program != Program::Lifeboat)
        .filter_map(|program| of(*program))
        .reduce(f64::min)
}

/// A ratio in a table.
pub(crate) fn ratio(value: f64, best: Option<f64>) -> String {
    best.map_or(String::from("–"), |best| format!("{:.2}", value / best))
}

/// Runs all programs over the data and prints a table for each step.
pub(crate) fn print(
    made: &Made,
    programs: &[Program],
    work: &Path,
    rounds: usize,
    figures: &mut Figures,
) -> Result<(), Failure> {
    let mut measured = Measured::default();
    for round in 0..rounds {
        let mut order = programs.to_vec();
        order.rotate_left(round % programs.len());
        for program in order {
            let done = measured.round(made, program, work);
            // Also when it failed: the next run finds each tree in its place.
            made.put_back()?;
            done?;
        }
    }
    if made.kind == Data::Tree && made.next.is_none() {
        println!("There is no next release of the tree; benches/README.md says how to get one.\n");
    }
    for step in STEPS {
        print_step(made, step, programs, &measured, figures);
    }
    print_sizes(made, programs, &measured, figures);
    Ok(())
}

fn print_step(
    made: &Made,
    step: Step,
    programs: &[Program],
    measured: &Measured,
    figures: &mut Figures,
) {
    if programs
        .iter()
        .all(|program| measured.of(step, *program).is_none())
    {
        return;
    }
    let title = match step {
        Step::Next => "backup of the next release, every time new",
        step => step.name(),
    };
    println!(
        "| {title} | wall s | processor s | peak MB | wall by the best other |\n|---|--:|--:|--:|--:|"
    );
    let wall = |program| Some(measured.of(step, program)?.wall.as_secs_f64());
    let best = best_other(programs, wall);
    for program in programs {
        let Some(usage) = measured.of(step, *program) else {
            continue;
        };
        let wall = usage.wall.as_secs_f64();
        println!(
            "| {} | {wall:.2} | {:.2} | {:.0} | {} |",
            program.name(),
            usage.cpu.as_secs_f64(),
            usage.peak_bytes as f64 / 1e6,
            ratio(wall, best),
        );
        if *program == Program::Lifeboat {
            figures.peak(usage.peak_bytes, || format!("{title}, {made}"));
            if let (Some(best), Some(limit)) = (best, limit(made.kind, step)) {
                let what = format!("{title}, wall by the best other");
                figures.at_most(made, what, wall / best, limit, Unit::Times);
            }
        }
    }
    println!();
}

fn print_sizes(made: &Made, programs: &[Program], measured: &Measured, figures: &mut Figures) {
    let of = |from: &BTreeMap<Program, Vec<u64>>, program| {
        let bytes = median(from.get(&program)?)?;
        Some(bytes as f64 / 1e6)
    };
    let (heading, line) = match made.next {
        Some(_) => (" added by the next release |", "--:|"),
        None => ("", ""),
    };
    println!("| repository, MB | after the first backup |{heading}\n|---|--:|{line}");
    for program in programs {
        let Some(size) = of(&measured.sizes, *program) else {
            continue;
        };
        let added = of(&measured.added, *program);
        let added = added.map_or_else(String::new, |added| format!(" {added:.1} |"));
        println!("| {} | {size:.1} |{added}", program.name());
    }
    if made.kind != Data::Tree {
        return;
    }
    let best = best_other(programs, |program| of(&measured.sizes, program));
    if let (Some(size), Some(best)) = (of(&measured.sizes, Program::Lifeboat), best) {
        let what = "repository by the smallest other";
        figures.at_most(made, what, size / best, TREE_SIZE, Unit::Times);
    }
    if let Some(added) = of(&measured.added, Program::Lifeboat) {
        let what = "added by the next release";
        figures.at_most(made, what, added, TREE_ADDED_MEGABYTES, Unit::Megabytes);
    }
}
