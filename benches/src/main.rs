//! Measures what Lifeboat is made of, how well it is put together, and what it does beside other programs.
//!
//! Everything is measured in one run on one machine, with data that this program makes itself, so that the figures may
//! be divided by each other. They say nothing about another machine. `README.md` has the last ones and the command.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program that prints tables"
)]

mod curve;
mod data;
mod figures;
mod measure;
mod nightly;
mod nights;
mod one_file;
mod plot;
mod postgres;
mod primitives;
mod programs;
mod same;
mod scale;
mod whole;

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, ValueEnum};

use data::{Data, Made, Trees};
use figures::Figures;
use nightly::Change;
use nights::Nights;
use programs::Program;

/// What goes wrong is said once, at the edge.
type Failure = Box<dyn std::error::Error>;

/// Measures the primitives, the pipeline against their sum, and whole commands beside other programs.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// What to measure: programs, nights, one-file and pipeline by default.
    #[arg(value_enum)]
    what: Vec<What>,
    /// Where data, repositories and restored files go: a folder in memory, with 8 GB of room.
    #[arg(long, default_value = "/dev/shm/lifeboat-benches")]
    folder: PathBuf,
    /// How often everything is done; the medians are shown.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Which data: all by default.
    #[arg(long, value_enum)]
    data: Vec<Data>,
    /// Beside which programs: all by default; each must be found in PATH.
    #[arg(long, value_enum)]
    program: Vec<Program>,
    /// A source tree to take, a folder or a tarball, instead of the one that Debian's package linux-source-6.1 brings.
    #[arg(long)]
    tree: Option<PathBuf>,
    /// Its next release.
    #[arg(long, requires = "tree")]
    next_tree: Option<PathBuf>,
    /// What changes in the nights; the first by default.
    #[arg(long, value_enum)]
    change: Vec<Change>,
    /// Take a twentieth of media, dump and nights and a tenth of the curves, to see that everything works; its figures say nothing.
    #[arg(long)]
    small: bool,
    /// Let the curves go to a million files and a dump of 3 GB.
    #[arg(long)]
    large: bool,
    /// Draw the curves into this file.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Keep the data for the next run.
    #[arg(long)]
    keep: bool,
    /// Repositories of how many chunks, for `scale`.
    #[arg(long, default_values_t = [1_000_000, 10_000_000])]
    chunks: Vec<u64>,
    /// Folders of how many files, for `scale`; 0 for none.
    #[arg(long, default_value_t = 1_000_000)]
    files: usize,
    /// How many snapshots, for `scale`; 0 for none.
    #[arg(long, default_value_t = 10_000)]
    snapshots: usize,
    /// A step of `scale` in a process of its own: makes a repository of so many chunks.
    #[arg(long, hide = true)]
    scale_make: Option<u64>,
    /// The same: opens it and looks up, with this cache.
    #[arg(long, hide = true)]
    scale_probe: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum What {
    /// Whole commands side by side.
    Programs,
    /// Seven nights of a database's dump side by side.
    Nights,
    /// One file out of the media.
    OneFile,
    /// What one core does in a second of each step, and the pipeline's efficiency: their sum by what a backup takes.
    Pipeline,
    /// Time, memory and room as the work grows tenfold, Lifeboat only; not by default.
    Curve,
    /// A PostgreSQL database beside pg_dump and pg_restore; not by default.
    Postgres,
    /// What grows: many chunks, files, snapshots; not by default.
    Scale,
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Programs => "Whole commands",
            Self::Nights => "Nights",
            Self::OneFile => "One file",
            Self::Pipeline => "Pipeline",
            Self::Curve => "Curves",
            Self::Postgres => "A PostgreSQL database",
            Self::Scale => "Scale",
        })
    }
}

fn all_or<T: ValueEnum + Clone + 'static>(chosen: &[T]) -> Vec<T> {
    if chosen.is_empty() {
        T::value_variants().to_vec()
    } else {
        chosen.to_vec()
    }
}

fn run(arguments: &Arguments) -> Result<(), Failure> {
    if let Some(count) = arguments.scale_make {
        return scale::make(&arguments.folder, count);
    }
    if let Some(cache) = &arguments.scale_probe {
        return scale::probe(&arguments.folder, cache);
    }
    let what = if arguments.what.is_empty() {
        vec![What::Programs, What::Nights, What::OneFile, What::Pipeline]
    } else {
        arguments.what.clone()
    };
    let programs = all_or(&arguments.program);
    std::fs::create_dir_all(&arguments.folder)?;
    measure::print_machine(&arguments.folder)?;
    if what.contains(&What::Programs) || what.contains(&What::Nights) {
        programs::print_versions(&programs)?;
    }
    let work = arguments.folder.join("work");
    std::fs::create_dir_all(&work)?;
    let mut figures = Figures::default();
    if what.contains(&What::Postgres) {
        println!("\n## {}\n", What::Postgres);
        postgres::print(&arguments.folder, &work, arguments.rounds)?;
    }
    if what.contains(&What::Scale) {
        println!("\n## {}", What::Scale);
        let sizes = scale::Sizes {
            chunks: arguments.chunks.clone(),
            files: arguments.files,
            snapshots: arguments.snapshots,
        };
        scale::print(&work.join("scale"), &sizes)?;
    }
    if what.contains(&What::Nights) {
        nights(arguments, &programs, &work, &mut figures)?;
    }
    data_of(arguments, &what, &programs, &work, &mut figures)?;
    if what.contains(&What::Curve) {
        println!("\n## {}\n", What::Curve);
        let options = curve::Options {
            rounds: arguments.rounds,
            small: arguments.small,
            large: arguments.large,
            svg: arguments.svg.as_deref(),
        };
        curve::print(&arguments.folder, &work, &options, &mut figures)?;
    }
    if arguments.small {
        println!("\nA try with a part of the data: the limits are not meant for it.");
    }
    figures.print();
    Ok(())
}

/// So many bytes, or a twentieth of them.
fn size(arguments: &Arguments, bytes: u64) -> u64 {
    if arguments.small { bytes / 20 } else { bytes }
}

/// The nights of each kind of change; only the first kind is made in gzip too.
fn nights(
    arguments: &Arguments,
    programs: &[Program],
    work: &Path,
    figures: &mut Figures,
) -> Result<(), Failure> {
    println!("\n## {}\n", What::Nights);
    let changes = if arguments.change.is_empty() {
        vec![Change::Rows]
    } else {
        arguments.change.clone()
    };
    for change in changes {
        let nights = Nights::make(
            change,
            size(arguments, change.bytes()),
            &arguments.folder,
            change == Change::Rows,
        )?;
        nights::print(&nights, programs, work, arguments.rounds, figures)?;
        if !arguments.keep {
            nights.remove()?;
        }
    }
    Ok(())
}

/// What is measured for each kind of data.
fn data_of(
    arguments: &Arguments,
    what: &[What],
    programs: &[Program],
    work: &Path,
    figures: &mut Figures,
) -> Result<(), Failure> {
    let trees = Trees {
        this: arguments.tree.clone(),
        next: arguments.next_tree.clone(),
    };
    let mut kinds = all_or(&arguments.data);
    if !what.contains(&What::Programs) && !what.contains(&What::Pipeline) {
        kinds.retain(|kind| *kind == Data::Media && what.contains(&What::OneFile));
    }
    let data = kinds
        .into_iter()
        .map(|kind| {
            Made::make(
                kind,
                size(arguments, kind.bytes()),
                &arguments.folder,
                &trees,
            )
        })
        .collect::<Result<Vec<_>, _>>()?;
    for step in [What::Programs, What::OneFile, What::Pipeline] {
        let wanted = |made: &&Made| {
            what.contains(&step) && (step != What::OneFile || made.kind == Data::Media)
        };
        for made in data.iter().filter(wanted) {
            made.warm()?;
            println!("\n## {step}: {made}\n");
            match step {
                What::Programs => {
                    whole::print(made, programs, work, arguments.rounds, figures)?;
                }
                What::OneFile => one_file::print(made, work, figures)?,
                _ => primitives::print(made, work, arguments.rounds, figures)?,
            }
        }
    }
    if !arguments.keep {
        data.iter().try_for_each(Made::remove)?;
    }
    Ok(())
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
