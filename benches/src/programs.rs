//! Whole commands side by side: each program with its own encryption on, its own defaults otherwise, in fresh folders,
//! in an order that changes with each round.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::ValueEnum;

use crate::Failure;
use crate::data::{Made, count};
use crate::measure::{Usage, median, medians, timed};

/// A program that is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Program {
    /// The one that was built beside this one.
    Lifeboat,
    Bupstash,
    Rustic,
    Restic,
    /// With zstd at level 3; its own default is faster and leaves more.
    Borg,
}

impl Program {
    fn name(self) -> &'static str {
        match self {
            Self::Lifeboat => "lifeboat",
            Self::Bupstash => "bupstash",
            Self::Rustic => "rustic",
            Self::Restic => "restic",
            Self::Borg => "borg",
        }
    }

    fn command(self) -> Result<Command, Failure> {
        if self != Self::Lifeboat {
            return Ok(Command::new(self.name()));
        }
        let built = std::env::current_exe()?.with_file_name("lifeboat");
        if built.exists() {
            Ok(Command::new(built))
        } else {
            Err(format!(
                "{} is missing; build it first: cargo build --release",
                built.display()
            )
            .into())
        }
    }
}

/// What is done with a repository, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Step {
    First,
    Unchanged,
    Restore,
    Check,
}

const STEPS: [(Step, &str); 4] = [
    (Step::First, "first backup"),
    (Step::Unchanged, "backup, nothing changed"),
    (Step::Restore, "restore"),
    (Step::Check, "check, all data read"),
];

/// Prints what is compared.
pub(crate) fn print_versions(programs: &[Program]) -> Result<(), Failure> {
    println!();
    for program in programs {
        let argument = match program {
            Program::Restic | Program::Lifeboat => "version",
            _ => "--version",
        };
        let said = program
            .command()?
            .arg(argument)
            .output()
            .map_err(|error| format!("cannot run {}: {error}", program.name()))?;
        let said = String::from_utf8_lossy(&said.stdout).into_owned();
        println!("- {}", said.lines().next().unwrap_or(program.name()));
    }
    Ok(())
}

/// One program with one repository of one kind of data.
pub(crate) struct Bench<'a> {
    program: Program,
    data: &'a Path,
    work: PathBuf,
}

impl<'a> Bench<'a> {
    /// A new repository.
    pub(crate) fn begin(program: Program, data: &'a Path, work: &Path) -> Result<Self, Failure> {
        let work = work.join(program.name());
        if work.exists() {
            fs::remove_dir_all(&work)?;
        }
        fs::create_dir_all(work.join("home"))?;
        let bench = Self {
            program,
            data,
            work,
        };
        match program {
            Program::Lifeboat => bench.quietly(&["init", "--key-file", &bench.at("key")])?,
            Program::Bupstash => {
                bench.quietly(&["new-key", "--output", &bench.at("key")])?;
                bench.quietly(&["init"])?;
            }
            Program::Rustic | Program::Restic => bench.quietly(&["init"])?,
            Program::Borg => bench.quietly(&["init", "--encryption", "repokey-blake2"])?,
        }
        Ok(bench)
    }

    fn at(&self, name: &str) -> String {
        self.work.join(name).display().to_string()
    }

    /// The program, which finds its repository, key and caches in this bench's folder and nothing of the machine's user.
    fn command(&self) -> Result<Command, Failure> {
        let repository = self.at("repository");
        let mut command = self.program.command()?;
        command
            .env("HOME", self.at("home"))
            .env("XDG_CACHE_HOME", self.at("home/cache"))
            .env("XDG_STATE_HOME", self.at("home/state"))
            .env("XDG_CONFIG_HOME", self.at("home/config"));
        match self.program {
            Program::Lifeboat => {
                command
                    .env("LIFEBOAT_REPOSITORY", repository)
                    .env("LIFEBOAT_CACHE_DIR", self.at("home/cache"));
                if Path::new(&self.at("key")).exists() {
                    command.env("LIFEBOAT_KEY_FILE", self.at("key"));
                }
            }
            Program::Bupstash => {
                command
                    .env("BUPSTASH_REPOSITORY", repository)
                    .env("BUPSTASH_KEY", self.at("key"));
            }
            Program::Rustic => {
                command
                    .env("RUSTIC_REPOSITORY", repository)
                    .env("RUSTIC_PASSWORD", "benches")
                    .env("RUSTIC_NO_PROGRESS", "true");
            }
            Program::Restic => {
                command
                    .env("RESTIC_REPOSITORY", repository)
                    .env("RESTIC_PASSWORD", "benches");
            }
            Program::Borg => {
                command
                    .env("BORG_REPO", repository)
                    .env("BORG_PASSPHRASE", "benches");
            }
        }
        Ok(command)
    }

    /// A command of this program over the bench's repository.
    pub(crate) fn lifeboat(&self, arguments: &[&str]) -> Result<Command, Failure> {
        let mut command = self.command()?;
        command.args(arguments);
        Ok(command)
    }

    fn quietly(&self, arguments: &[&str]) -> Result<(), Failure> {
        timed(self.command()?.args(arguments), &self.work.join("log")).map(drop)
    }

    /// Does a step; `None` when the program has no such command.
    fn step(&self, step: Step) -> Result<Option<Command>, Failure> {
        let mut command = self.command()?;
        let out = self.at("restored");
        match (self.program, step) {
            (Program::Lifeboat, Step::First | Step::Unchanged) => {
                command
                    .args(["backup", "--app", "bench", "--source"])
                    .arg(self.data);
            }
            (Program::Lifeboat, Step::Restore) => {
                command.args(["restore", "bench", "--target", &out]);
            }
            (Program::Bupstash, Step::First | Step::Unchanged) => {
                command
                    .args([
                        "put",
                        "--quiet",
                        "--send-log",
                        &self.at("send-log"),
                        "name=bench",
                    ])
                    .arg(self.data);
            }
            (Program::Bupstash, Step::Restore) => {
                // Two snapshots have the name by now, and it restores one by its id.
                let listed = self
                    .command()?
                    .args(["list", "--format=jsonl1", "name=bench"])
                    .output()?;
                let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
                let id = listed
                    .split("\"id\":\"")
                    .nth(1)
                    .and_then(|rest| rest.split('"').next())
                    .ok_or("bupstash lists no id")?;
                command.args(["restore", "--quiet", "--into", &out, &format!("id={id}")]);
            }
            (Program::Bupstash, Step::Check) => return Ok(None),
            (Program::Rustic | Program::Restic, Step::First | Step::Unchanged) => {
                command.arg("backup").arg(self.data);
            }
            (Program::Rustic, Step::Restore) => {
                command.args(["restore", "latest", &out]);
            }
            (Program::Restic, Step::Restore) => {
                command.args(["restore", "latest", "--target", &out]);
            }
            (Program::Borg, Step::First | Step::Unchanged) => {
                command
                    .args(["create", "--compression", "zstd,3", "::{utcnow:%H%M%S%f}"])
                    .arg(self.data);
            }
            (Program::Borg, Step::Restore) => {
                let listed = self
                    .command()?
                    .args(["list", "--short", "--last", "1"])
                    .output()?;
                let archive = String::from_utf8_lossy(&listed.stdout).trim().to_owned();
                command
                    .args(["extract", &format!("::{archive}")])
                    .current_dir(&out);
            }
            (Program::Borg, Step::Check) => {
                command.args(["check", "--verify-data"]);
            }
            (Program::Lifeboat | Program::Rustic | Program::Restic, Step::Check) => {
                command.args(["check", "--read-data"]);
            }
        }
        Ok(Some(command))
    }

    /// Does a step that the program has, and measures it.
    pub(crate) fn run(&self, step: Step) -> Result<Usage, Failure> {
        self.measure(step)?
            .ok_or_else(|| format!("{} cannot do that", self.program.name()).into())
    }

    fn measure(&self, step: Step) -> Result<Option<Usage>, Failure> {
        if step == Step::Restore {
            fs::create_dir(self.work.join("restored"))?;
        }
        self.step(step)?
            .map(|mut command| timed(&mut command, &self.work.join("log")))
            .transpose()
    }

    /// Bytes of the repository.
    fn size(&self) -> Result<u64, Failure> {
        Ok(count(&self.work.join("repository"))?.1)
    }

    /// Whether everything came back, by number and bytes of files; takes it away.
    fn judge_restored(&self, made: &Made) -> Result<(), Failure> {
        let restored = self.work.join("restored");
        let back = count(&restored)?;
        if back != (made.files, made.bytes) {
            return Err(
                format!("{} restored {back:?} files and bytes", self.program.name()).into(),
            );
        }
        fs::remove_dir_all(restored)?;
        Ok(())
    }

    /// Takes everything away.
    pub(crate) fn end(self) -> Result<(), Failure> {
        Ok(fs::remove_dir_all(self.work)?)
    }
}

/// Runs all programs over the data and prints a table for each step.
pub(crate) fn print(
    made: &Made,
    programs: &[Program],
    work: &Path,
    rounds: usize,
) -> Result<(), Failure> {
    let mut usages: BTreeMap<(Step, Program), Vec<Usage>> = BTreeMap::new();
    let mut sizes: BTreeMap<Program, Vec<u64>> = BTreeMap::new();
    for round in 0..rounds {
        let mut order = programs.to_vec();
        order.rotate_left(round % programs.len());
        for program in order {
            let bench = Bench::begin(program, &made.folder, work)?;
            for (step, _) in STEPS {
                if let Some(usage) = bench.measure(step)? {
                    usages.entry((step, program)).or_default().push(usage);
                }
                match step {
                    Step::First => sizes.entry(program).or_default().push(bench.size()?),
                    Step::Restore => bench.judge_restored(made)?,
                    Step::Unchanged | Step::Check => {}
                }
            }
            bench.end()?;
        }
    }
    for (step, title) in STEPS {
        println!(
            "| {title} | wall s | processor s | peak MB | wall by the best other |\n|---|--:|--:|--:|--:|"
        );
        let of = |program| {
            usages
                .get(&(step, program))
                .and_then(|usages| medians(usages))
        };
        let best = programs
            .iter()
            .filter(|program| **program != Program::Lifeboat)
            .filter_map(|program| of(*program))
            .map(|usage| usage.wall.as_secs_f64())
            .reduce(f64::min);
        for program in programs {
            let Some(usage) = of(*program) else {
                continue;
            };
            let wall = usage.wall.as_secs_f64();
            println!(
                "| {} | {wall:.2} | {:.2} | {:.0} | {} |",
                program.name(),
                usage.cpu.as_secs_f64(),
                usage.peak_bytes as f64 / 1e6,
                best.map_or(String::from("–"), |best| format!("{:.2}", wall / best)),
            );
        }
        println!();
    }
    println!("| repository after the first backup | MB |\n|---|--:|");
    for program in programs {
        if let Some(bytes) = sizes.get(program).and_then(|sizes| median(sizes)) {
            println!("| {} | {:.1} |", program.name(), bytes as f64 / 1e6);
        }
    }
    Ok(())
}
