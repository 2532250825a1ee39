//! Seven nights of a database's dump side by side: what the first and each next night take, how the repository grows,
//! and whether the last and the first night come back, byte for byte, in what time.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::Failure;
use crate::data::once;
use crate::figures::{Figures, Unit};
use crate::measure::{Usage, median, medians};
use crate::nightly::{Change, Nightly};
use crate::programs::{Bench, Program, Step};
use crate::whole::{best_other, ratio};

const NIGHTS: usize = 7;

/// What the first and a next night may take of the fastest other program's time.
const FIRST: f64 = 0.68;
const NEXT: f64 = 0.42;
/// What a next night may add, in the mean.
const GROWTH_MEGABYTES: f64 = 1.0;
/// What the restore of the last night may take of that of the first.
const RESTORE: f64 = 1.8;
/// What each next night of a dump in gzip may add.
const GZIP_GROWTH_MEGABYTES: f64 = 5.0;

/// How a night reaches the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Form {
    /// A file, which is another one of the same name each night.
    File,
    /// Through standard input.
    Stream,
    /// A file that `gzip -6 -n` made of it.
    Gzip,
}

impl Form {
    fn extension(self) -> &'static str {
        match self {
            Self::File | Self::Stream => "sql",
            Self::Gzip => "sql.gz",
        }
    }
}

/// A program, and how it gets the nights.
type Way = (Program, Form);

fn name(way: Way) -> String {
    match way.1 {
        Form::Stream => format!("{}, standard input", way.0.name()),
        _ => way.0.name().to_owned(),
    }
}

/// The nights of one kind of change, in a folder that is kept or taken away with the other data.
pub(crate) struct Nights {
    change: Change,
    folder: PathBuf,
}

impl Nights {
    /// Writes them below `folder`, the first night of about so many bytes; with `gzip` also each in gzip.
    pub(crate) fn make(
        change: Change,
        bytes: u64,
        folder: &Path,
        gzip: bool,
    ) -> Result<Self, Failure> {
        let name = format!("nights-{change:?}").to_lowercase();
        let plain = folder.join(&name);
        once(&plain, |half| {
            let mut nightly = Nightly::new(change, bytes);
            for night in 1..=NIGHTS {
                nightly.write_next(File::create(half.join(format!("{night}.sql")))?)?;
            }
            Ok(())
        })?;
        let nights = Self {
            change,
            folder: plain,
        };
        if gzip {
            once(&nights.folder.join("gzip"), |half| nights.compress(half))?;
        }
        Ok(nights)
    }

    fn compress(&self, folder: &Path) -> Result<(), Failure> {
        for night in 1..=NIGHTS {
            let done = Command::new("gzip")
                .args(["-6", "-n", "-c"])
                .arg(self.folder.join(format!("{night}.sql")))
                .stdout(File::create(folder.join(format!("{night}.sql.gz")))?)
                .status()?;
            if !done.success() {
                return Err(format!("gzip ended with {done}").into());
            }
        }
        Ok(())
    }

    fn path(&self, form: Form, night: usize) -> PathBuf {
        let folder = match form {
            Form::File | Form::Stream => self.folder.clone(),
            Form::Gzip => self.folder.join("gzip"),
        };
        folder.join(format!("{night}.{}", form.extension()))
    }

    /// Takes them away.
    pub(crate) fn remove(&self) -> Result<(), Failure> {
        Ok(fs::remove_dir_all(&self.folder)?)
    }
}

/// What all rounds found.
#[derive(Default)]
struct Measured {
    usages: BTreeMap<(Step, Way), Vec<Usage>>,
    /// Bytes that each next night added, of every round.
    growth: BTreeMap<Way, Vec<[u64; NIGHTS - 1]>>,
}

impl Measured {
    fn add(&mut self, step: Step, way: Way, usage: Usage) {
        self.usages.entry((step, way)).or_default().push(usage);
    }

    fn of(&self, step: Step, way: Way) -> Option<Usage> {
        self.usages
            .get(&(step, way))
            .and_then(|usages| medians(usages))
    }

    fn wall(&self, step: Step, way: Way) -> Option<f64> {
        Some(self.of(step, way)?.wall.as_secs_f64())
    }

    /// The largest peak of all steps.
    fn peak(&self, way: Way) -> u64 {
        let of_way = self.usages.keys().filter(|(_, known)| *known == way);
        of_way
            .filter_map(|(step, way)| self.of(*step, *way))
            .map(|usage| usage.peak_bytes)
            .max()
            .unwrap_or(0)
    }

    /// What each night added, in MB: the median of the rounds.
    fn growth(&self, way: Way) -> Option<[f64; NIGHTS - 1]> {
        let rounds = self.growth.get(&way)?;
        let mut nights = [0.0; NIGHTS - 1];
        for (night, added) in nights.iter_mut().enumerate() {
            let of_night: Vec<u64> = rounds.iter().map(|round| round[night]).collect();
            *added = median(&of_night)? as f64 / 1e6;
        }
        Some(nights)
    }

    /// Seven nights of one program with a new repository, and both restores.
    fn round(&mut self, nights: &Nights, way: Way, work: &Path) -> Result<(), Failure> {
        let (program, form) = way;
        let source = work.join("database");
        fs::create_dir_all(&source)?;
        let file = source.join("dump").with_extension(form.extension());
        // As a dump is replaced: written beside and renamed, so that a new file has the old name.
        let put = |night| -> Result<(), Failure> {
            let new = work.join("new-dump");
            fs::copy(nights.path(form, night), &new)?;
            Ok(fs::rename(new, &file)?)
        };
        let bench = Bench::begin(program, &source, work)?;
        let mut growth = [0; NIGHTS - 1];
        for night in 1..=NIGHTS {
            put(night)?;
            let before = bench.size()?;
            let step = if night == 1 { Step::First } else { Step::Next };
            let usage = match form {
                Form::File | Form::Gzip => bench.run(step)?,
                Form::Stream => bench.measure_stream(Stdio::from(File::open(&file)?))?,
            };
            self.add(step, way, usage);
            if night > 1 {
                growth[night - 2] = bench.size()? - before;
            }
        }
        self.growth.entry(way).or_default().push(growth);
        self.add(Step::Restore, way, bench.run(Step::Restore)?);
        bench.judge_restored(&source)?;
        self.add(Step::RestoreFirst, way, bench.run(Step::RestoreFirst)?);
        put(1)?;
        bench.judge_restored(&source)?;
        if let Some(usage) = bench.measure(Step::Check)? {
            self.add(Step::Check, way, usage);
        }
        bench.end()?;
        Ok(fs::remove_dir_all(source)?)
    }
}

/// Runs all programs over the nights and prints a table for each form.
pub(crate) fn print(
    nights: &Nights,
    programs: &[Program],
    work: &Path,
    rounds: usize,
    figures: &mut Figures,
) -> Result<(), Failure> {
    let of_form = |form: Form| programs.iter().map(move |program| (*program, form));
    let mut plain: Vec<Way> = of_form(Form::File).collect();
    if programs.contains(&Program::Lifeboat) {
        plain.push((Program::Lifeboat, Form::Stream));
    }
    let mut tables = vec![(Form::File, plain)];
    if nights.path(Form::Gzip, 1).exists() {
        tables.push((Form::Gzip, of_form(Form::Gzip).collect()));
    }
    for (form, ways) in tables {
        let mut measured = Measured::default();
        for round in 0..rounds {
            let mut order = ways.clone();
            order.rotate_left(round % ways.len());
            for way in order {
                measured.round(nights, way, work)?;
            }
        }
        let bytes = fs::metadata(nights.path(form, 1))?.len();
        let title = match form {
            Form::Gzip => "nightly .sql.gz",
            _ => "nightly dump",
        };
        let title = format!(
            "{title}, {:.0} MB, {}",
            bytes as f64 / 1e6,
            nights.change.name()
        );
        print_table(&title, &ways, programs, &measured);
        add_figures(&title, (nights.change, form), programs, &measured, figures);
    }
    Ok(())
}

fn print_table(title: &str, ways: &[Way], programs: &[Program], measured: &Measured) {
    println!(
        "| {title} | first s | by the best other | next s | by the best other | growth MB, mean | largest \
         | restore night 1 s | night 7 s | check s | peak MB |\n|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|"
    );
    let form = ways[0].1;
    let best = |step| best_other(programs, |program| measured.wall(step, (program, form)));
    for way in ways {
        let shown =
            |value: Option<f64>| value.map_or(String::from("–"), |value| format!("{value:.2}"));
        let seconds = |step| shown(measured.wall(step, *way));
        let beside = |step| {
            let wall = measured.wall(step, *way);
            wall.map_or(String::from("–"), |wall| ratio(wall, best(step)))
        };
        let growth = measured.growth(*way);
        println!(
            "| {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {:.0} |",
            name(*way),
            seconds(Step::First),
            beside(Step::First),
            seconds(Step::Next),
            beside(Step::Next),
            shown(growth.as_ref().map(mean)),
            shown(growth.as_ref().and_then(largest)),
            seconds(Step::RestoreFirst),
            seconds(Step::Restore),
            seconds(Step::Check),
            measured.peak(*way) as f64 / 1e6,
        );
    }
    println!();
    for way in ways.iter().filter(|way| way.0 == Program::Lifeboat) {
        if let Some(growth) = measured.growth(*way) {
            let shown = growth.map(|added| format!("{added:.2}")).join(", ");
            println!("Growth by night, MB, {}: {shown}.\n", name(*way));
        }
    }
}

fn mean(growth: &[f64; NIGHTS - 1]) -> f64 {
    growth.iter().sum::<f64>() / growth.len() as f64
}

fn largest(growth: &[f64; NIGHTS - 1]) -> Option<f64> {
    growth.iter().copied().reduce(f64::max)
}

/// The figures with limits are those of the first kind of change; memory counts for all.
fn add_figures(
    title: &str,
    (change, form): (Change, Form),
    programs: &[Program],
    measured: &Measured,
    figures: &mut Figures,
) {
    let own = (Program::Lifeboat, form);
    for way in [own, (Program::Lifeboat, Form::Stream)] {
        figures.peak(measured.peak(way), || format!("{title}, {}", name(way)));
    }
    let Some(growth) = measured.growth(own).filter(|_| change == Change::Rows) else {
        return;
    };
    if form == Form::Gzip {
        let what = "largest growth by a next night";
        let largest = largest(&growth).unwrap_or(0.0);
        figures.at_most(title, what, largest, GZIP_GROWTH_MEGABYTES, Unit::Megabytes);
        return;
    }
    for (step, limit) in [(Step::First, FIRST), (Step::Next, NEXT)] {
        let best = best_other(programs, |program| measured.wall(step, (program, form)));
        if let (Some(wall), Some(best)) = (measured.wall(step, own), best) {
            let what = match step {
                Step::First => "first night, wall by the best other",
                _ => "next night, wall by the best other",
            };
            figures.at_most(title, what, wall / best, limit, Unit::Times);
        }
    }
    let what = "growth by a next night, mean of six";
    figures.at_most(
        title,
        what,
        mean(&growth),
        GROWTH_MEGABYTES,
        Unit::Megabytes,
    );
    let restores = (
        measured.wall(Step::Restore, own),
        measured.wall(Step::RestoreFirst, own),
    );
    if let (Some(last), Some(first)) = restores {
        let what = "restore of night 7 by that of night 1";
        figures.at_most(title, what, last / first, RESTORE, Unit::Times);
    }
}
