//! Measures what Lifeboat is made of, how well it is put together, and what it does beside other programs.
//!
//! Everything is measured in one run on one machine, with data that this program makes itself, so that the figures may
//! be divided by each other. They say nothing about another machine. `README.md` has the last ones and the command.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program that prints tables"
)]

mod data;
mod measure;
mod postgres;
mod primitives;
mod programs;
mod scale;

use std::fmt;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, ValueEnum};

use data::{Data, Made};
use programs::Program;

/// What goes wrong is said once, at the edge.
type Failure = Box<dyn std::error::Error>;

/// Measures the primitives, the pipeline against their sum, and whole commands beside other programs.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// What to measure: programs and pipeline by default.
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
    /// A source tree to take, instead of the one that Debian's package linux-source-6.1 brings.
    #[arg(long)]
    tree: Option<PathBuf>,
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
    /// What one core does in a second of each step, and the pipeline's efficiency: their sum by what a backup takes.
    Pipeline,
    /// A PostgreSQL database beside pg_dump and pg_restore; not by default.
    Postgres,
    /// What grows: many chunks, files, snapshots; not by default.
    Scale,
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Programs => "Whole commands",
            Self::Pipeline => "Pipeline",
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
        vec![What::Programs, What::Pipeline]
    } else {
        arguments.what.clone()
    };
    let programs = all_or(&arguments.program);
    std::fs::create_dir_all(&arguments.folder)?;
    measure::print_machine(&arguments.folder)?;
    if what.contains(&What::Programs) {
        programs::print_versions(&programs)?;
    }
    let work = arguments.folder.join("work");
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
    let has_data = what
        .iter()
        .any(|what| !matches!(what, What::Postgres | What::Scale));
    let data = all_or(&arguments.data)
        .into_iter()
        .filter(|_| has_data)
        .map(|kind| Made::make(kind, &arguments.folder, arguments.tree.as_deref()))
        .collect::<Result<Vec<_>, _>>()?;
    // Programs first: Linux counts what its parent held among a process's peak, and the steps hold more than some need.
    for step in [What::Programs, What::Pipeline] {
        for made in data.iter().filter(|_| what.contains(&step)) {
            made.warm()?;
            println!("\n## {step}: {made}\n");
            match step {
                What::Programs => programs::print(made, &programs, &work, arguments.rounds)?,
                What::Pipeline => primitives::print(made, &work, arguments.rounds)?,
                What::Postgres | What::Scale => {}
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
