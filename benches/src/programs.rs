//! The programs that are measured, and how each is told to do a step: with its own encryption on, its own defaults
//! otherwise, in fresh folders.

use std::cell::Cell;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use clap::ValueEnum;

use crate::Failure;
use crate::data::count;
use crate::measure::{Usage, timed, timed_from};
use crate::same;

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
    pub(crate) fn name(self) -> &'static str {
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
    /// Of what lies there by then.
    Next,
    /// Of the newest snapshot.
    Restore,
    /// Of the first one.
    RestoreFirst,
    Check,
}

impl Step {
    /// What the tables call it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::First => "first backup",
            Self::Unchanged => "backup, nothing changed",
            Self::Next => "backup of the next one",
            Self::Restore => "restore",
            Self::RestoreFirst => "restore of the first one",
            Self::Check => "check, all data read",
        }
    }

    fn is_backup(self) -> bool {
        matches!(self, Self::First | Self::Unchanged | Self::Next)
    }

    fn is_restore(self) -> bool {
        matches!(self, Self::Restore | Self::RestoreFirst)
    }
}

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
    /// Snapshots that were made.
    made: Cell<u64>,
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
            made: Cell::new(0),
        };
        match program {
            Program::Lifeboat => bench.quietly(&["init", "--key-file", &bench.at("key")])?,
            Program::Bupstash => {
                bench.quietly(&["new-key", "--output", &bench.at("key")])?;
                bench.quietly(&["init"])?;
            }
            Program::Rustic => {
                bench.quietly(&["key", "create", &bench.at("key")])?;
                bench.quietly(&["init"])?;
            }
            Program::Restic => bench.quietly(&["init"])?,
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
                    .env("RUSTIC_KEY_FILE", self.at("key"))
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
        if self.program == Program::Bupstash && step == Step::Check {
            return Ok(None);
        }
        let mut command = self.command()?;
        if step.is_backup() {
            self.backup(&mut command);
        } else if step.is_restore() {
            let number = if step == Step::Restore {
                self.made.get()
            } else {
                1
            };
            self.restore(&mut command, number)?;
        } else if self.program == Program::Borg {
            command.args(["check", "--verify-data"]);
        } else {
            command.args(["check", "--read-data"]);
        }
        Ok(Some(command))
    }

    fn backup(&self, command: &mut Command) {
        let number = self.made.get() + 1;
        match self.program {
            Program::Lifeboat => command.args(["backup", "--app", "bench", "--source"]),
            Program::Bupstash => {
                let log = self.at("send-log");
                command.args(["put", "--quiet", "--send-log", &log, "name=bench"]);
                command.arg(format!("number={number}"))
            }
            Program::Rustic | Program::Restic => command.arg("backup"),
            Program::Borg => command
                .args(["create", "--compression", "zstd,3"])
                .arg(format!("::{number}")),
        };
        command.arg(self.data);
    }

    /// Restores the snapshot of this number; the first has 1.
    fn restore(&self, command: &mut Command, number: u64) -> Result<(), Failure> {
        let out = self.at("restored");
        match self.program {
            Program::Lifeboat => {
                let snapshot = format!("bench~{}", self.made.get() - number);
                command.args(["restore", &snapshot, "--target", &out]);
            }
            Program::Bupstash => {
                let snapshot = format!("number={number}");
                command.args(["restore", "--quiet", "--into", &out, &snapshot]);
            }
            Program::Rustic => {
                command.args(["restore", &self.id(number)?, &out]);
            }
            Program::Restic => {
                command.args(["restore", &self.id(number)?, "--target", &out]);
            }
            Program::Borg => {
                command
                    .args(["extract", &format!("::{number}")])
                    .current_dir(&out);
            }
        }
        Ok(())
    }

    /// What restic and rustic call the snapshot of this number.
    fn id(&self, number: u64) -> Result<String, Failure> {
        let listed = self.command()?.args(["snapshots", "--json"]).output()?;
        let mut found = Vec::new();
        snapshots(&serde_json::from_slice(&listed.stdout)?, &mut found);
        found.sort();
        let (_, id) = found
            .into_iter()
            .nth(usize::try_from(number)? - 1)
            .ok_or_else(|| format!("{} lists no snapshot {number}", self.program.name()))?;
        Ok(id)
    }

    /// Does a step that the program has, and measures it.
    pub(crate) fn run(&self, step: Step) -> Result<Usage, Failure> {
        self.measure(step)?
            .ok_or_else(|| format!("{} cannot do that", self.program.name()).into())
    }

    /// The same; `None` when the program has no such command.
    pub(crate) fn measure(&self, step: Step) -> Result<Option<Usage>, Failure> {
        if step.is_restore() {
            fs::create_dir(self.work.join("restored"))?;
        }
        let usage = self
            .step(step)?
            .map(|mut command| timed(&mut command, &self.work.join("log")))
            .transpose()?;
        if step.is_backup() {
            self.made.set(self.made.get() + 1);
        }
        Ok(usage)
    }

    /// Backs up what comes through standard input, which Lifeboat's snapshot calls `dump.sql`.
    pub(crate) fn measure_stream(&self, input: Stdio) -> Result<Usage, Failure> {
        let mut command = self.lifeboat(&[
            "backup",
            "--app",
            "bench",
            "--stdin",
            "--stdin-filename",
            "dump.sql",
        ])?;
        let usage = timed_from(&mut command, input, &self.work.join("log"))?;
        self.made.set(self.made.get() + 1);
        Ok(usage)
    }

    /// Takes the caches away, as on a machine that knows nothing but the repository and its key.
    pub(crate) fn forget_cache(&self) -> Result<(), Failure> {
        let cache = self.work.join("home/cache");
        if cache.exists() {
            fs::remove_dir_all(cache)?;
        }
        Ok(())
    }

    /// Bytes of the repository.
    pub(crate) fn size(&self) -> Result<u64, Failure> {
        Ok(count(&self.repository())?.1)
    }

    /// Where the repository is.
    pub(crate) fn repository(&self) -> PathBuf {
        self.work.join("repository")
    }

    /// Whether everything came back, with the bytes of `source`; takes what came away.
    pub(crate) fn judge_restored(&self, source: &Path) -> Result<(), Failure> {
        let restored = self.work.join("restored");
        same::judge(source, &restored)
            .map_err(|error| format!("restored by {}: {error}", self.program.name()))?;
        Ok(fs::remove_dir_all(restored)?)
    }

    /// Takes everything away.
    pub(crate) fn end(self) -> Result<(), Failure> {
        Ok(fs::remove_dir_all(self.work)?)
    }
}

/// The time and id of everything that is listed as a snapshot, however the program groups them.
fn snapshots(listed: &serde_json::Value, found: &mut Vec<(String, String)>) {
    let text = |name| listed.get(name).and_then(serde_json::Value::as_str);
    if let (Some(time), Some(id)) = (text("time"), text("id")) {
        found.push((time.to_owned(), id.to_owned()));
        return;
    }
    match listed {
        serde_json::Value::Array(items) => items.iter().for_each(|item| snapshots(item, found)),
        serde_json::Value::Object(items) => items.values().for_each(|item| snapshots(item, found)),
        _ => {}
    }
}
