//! What time, memory and room come to as the work grows tenfold, and tenfold again.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::Failure;
use crate::data::{make_files, make_media, once};
use crate::figures::Figures;
use crate::measure::{Usage, median, medians};
use crate::nightly::{Change, Nightly};
use crate::plot::{self, Line, Panel};
use crate::programs::{Bench, Program, Step};

/// What grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Work {
    Media,
    Files,
    Dump,
}

impl Work {
    const ALL: [Self; 3] = [Self::Media, Self::Files, Self::Dump];

    fn title(self) -> &'static str {
        match self {
            Self::Media => "media",
            Self::Files => "small files",
            Self::Dump => "database dump",
        }
    }

    fn unit(self) -> &'static str {
        match self {
            Self::Media | Self::Dump => "MB of data",
            Self::Files => "files",
        }
    }

    /// In its unit. The last of `Files` and `Dump` only where much is asked for.
    fn sizes(self, small: bool, large: bool) -> Vec<u64> {
        let mut sizes = match self {
            Self::Media => vec![20, 200, 2000],
            Self::Files => vec![1000, 10_000, 100_000],
            Self::Dump => vec![30, 300],
        };
        match self {
            Self::Files if large => sizes.push(1_000_000),
            Self::Dump if large => sizes.push(3000),
            _ => {}
        }
        if small {
            for size in &mut sizes {
                *size /= 10;
            }
        }
        sizes
    }

    /// The second backup: of the next night where there is one.
    fn second(self) -> Step {
        match self {
            Self::Media | Self::Files => Step::Unchanged,
            Self::Dump => Step::Next,
        }
    }
}

/// What one size came to.
struct Point {
    size: u64,
    steps: Vec<(Step, Usage)>,
    stored: u64,
    added: u64,
}

/// How the curves are made.
pub(crate) struct Options<'a> {
    pub(crate) rounds: usize,
    /// A tenth of everything, to see that it works.
    pub(crate) small: bool,
    /// A million files and a dump of 3 GB too.
    pub(crate) large: bool,
    /// Where the picture goes.
    pub(crate) svg: Option<&'a Path>,
}

/// Measures, prints a table for each work, and draws them.
pub(crate) fn print(
    folder: &Path,
    work: &Path,
    options: &Options<'_>,
    figures: &mut Figures,
) -> Result<(), Failure> {
    let mut curves = Vec::new();
    for kind in Work::ALL {
        let mut points = Vec::new();
        for size in kind.sizes(options.small, options.large) {
            points.push(point(kind, size, folder, work, options.rounds)?);
        }
        print_table(kind, &points, figures);
        curves.push((kind, points));
    }
    if let Some(path) = options.svg {
        let mut out = File::create(path)?;
        out.write_all(plot::svg(&panels(&curves)).as_bytes())?;
        println!("The picture: {}.", path.display());
    }
    Ok(())
}

/// The source of one size; what belongs to the next night lies beside it.
fn make(kind: Work, size: u64, folder: &Path) -> Result<(PathBuf, PathBuf), Failure> {
    let source = folder.join(format!("curve-{kind:?}-{size}").to_lowercase());
    let next = source.with_extension("next");
    once(&source, |half| match kind {
        Work::Media => Ok(make_media(half, size * 1_000_000)?),
        Work::Files => Ok(make_files(half, size)?),
        Work::Dump => {
            let mut nightly = Nightly::new(Change::Rows, size * 1_000_000);
            nightly.write_next(File::create(half.join("dump.sql"))?)?;
            Ok(nightly.write_next(File::create(&next)?)?)
        }
    })?;
    Ok((source, next))
}

fn point(
    kind: Work,
    size: u64,
    folder: &Path,
    work: &Path,
    rounds: usize,
) -> Result<Point, Failure> {
    let (source, next) = make(kind, size, folder)?;
    let steps = [Step::First, kind.second(), Step::Restore, Step::Check];
    let mut usages: Vec<(Step, Vec<Usage>)> = steps.map(|step| (step, Vec::new())).to_vec();
    let (mut stored, mut added) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        let first = work.join("first-night");
        if next.exists() {
            fs::copy(source.join("dump.sql"), &first)?;
        }
        let bench = Bench::begin(Program::Lifeboat, &source, work)?;
        for (step, usages) in &mut usages {
            if *step == Step::Next {
                // Written beside and renamed, as dumps are replaced.
                let new = work.join("new-dump");
                fs::copy(&next, &new)?;
                fs::rename(new, source.join("dump.sql"))?;
            }
            let before = bench.size()?;
            usages.push(bench.run(*step)?);
            let new = bench.size()? - before;
            match step {
                Step::First => stored.push(before + new),
                Step::Unchanged | Step::Next => added.push(new),
                Step::Restore => bench.judge_restored(&source)?,
                _ => {}
            }
        }
        bench.end()?;
        if next.exists() {
            fs::rename(first, source.join("dump.sql"))?;
        }
    }
    fs::remove_dir_all(source)?;
    if next.exists() {
        fs::remove_file(next)?;
    }
    let steps = usages
        .iter()
        .map(|(step, usages)| Ok((*step, medians(usages).ok_or("no rounds")?)))
        .collect::<Result<_, Failure>>()?;
    Ok(Point {
        size,
        steps,
        stored: median(&stored).ok_or("no rounds")?,
        added: median(&added).ok_or("no rounds")?,
    })
}

fn print_table(kind: Work, points: &[Point], figures: &mut Figures) {
    println!(
        "| {}, {} | step | wall s | processor s | peak MB | stored MB |\n|--:|---|--:|--:|--:|--:|",
        kind.title(),
        kind.unit()
    );
    for point in points {
        for (step, usage) in &point.steps {
            let stored = match step {
                Step::First => format!("{:.2}", point.stored as f64 / 1e6),
                Step::Unchanged | Step::Next => format!("{:.3}", point.added as f64 / 1e6),
                _ => String::from("–"),
            };
            println!(
                "| {} | {} | {:.3} | {:.3} | {:.0} | {stored} |",
                point.size,
                step.name(),
                usage.wall.as_secs_f64(),
                usage.cpu.as_secs_f64(),
                usage.peak_bytes as f64 / 1e6
            );
            figures.peak(usage.peak_bytes, || {
                format!("{}, {} {}", step.name(), point.size, kind.unit())
            });
        }
    }
    println!();
}

/// Time, memory and room, a row for each.
fn panels(curves: &[(Work, Vec<Point>)]) -> Vec<Vec<Panel>> {
    let name = |step: Step| match step {
        Step::Unchanged | Step::Next => "nothing changed, or the next night",
        step => step.name(),
    };
    let of_steps = |up: &'static str, value: &dyn Fn(&Usage) -> f64| {
        let panel = |(kind, points): &(Work, Vec<Point>)| Panel {
            title: kind.title().to_owned(),
            across: kind.unit(),
            up,
            lines: points.first().map_or_else(Vec::new, |first| {
                let lines = first.steps.iter().enumerate().map(|(at, (step, _))| Line {
                    name: name(*step),
                    points: points
                        .iter()
                        .map(|point| (point.size as f64, value(&point.steps[at].1)))
                        .collect(),
                });
                lines.collect()
            }),
        };
        curves.iter().map(panel).collect::<Vec<_>>()
    };
    let room = curves.iter().map(|(kind, points)| Panel {
        title: kind.title().to_owned(),
        across: kind.unit(),
        up: "MB stored",
        lines: [(name(Step::First), true), (name(Step::Unchanged), false)]
            .map(|(name, first)| Line {
                name,
                points: points
                    .iter()
                    .map(|point| {
                        let bytes = if first { point.stored } else { point.added };
                        (point.size as f64, bytes as f64 / 1e6)
                    })
                    .collect(),
            })
            .into(),
    });
    vec![
        of_steps("seconds", &|usage| usage.wall.as_secs_f64()),
        of_steps("peak memory, MB", &|usage| usage.peak_bytes as f64 / 1e6),
        room.collect(),
    ]
}
