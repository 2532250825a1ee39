//! What one finished command used, and the middle of several.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};
use wait4::{ResUse, Wait4};

use crate::Failure;

/// What a command used.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    pub(crate) wall: Duration,
    /// Of all its processes.
    pub(crate) cpu: Duration,
    /// Of its largest process.
    pub(crate) peak_bytes: u64,
}

/// Runs a command to its end; what it prints goes to `log`. A command that fails ends the run of the benches.
pub(crate) fn timed(command: &mut Command, log: &Path) -> Result<Usage, Failure> {
    timed_from(command, Stdio::null(), log)
}

/// The same, with something to read from.
pub(crate) fn timed_from(
    command: &mut Command,
    input: Stdio,
    log: &Path,
) -> Result<Usage, Failure> {
    let (child, started) = begun(command, input, log)?;
    let result = child.wait4()?;
    ended(command, log, started, result)
}

/// Starts a command whose output goes to `log`.
fn begun(command: &mut Command, input: Stdio, log: &Path) -> Result<(Child, Instant), Failure> {
    let out = File::create(log)?;
    // Linux counts the most that the parent ever held among a new process's peak: that is set back to what it holds now.
    // Where the system does not let it, peaks are shown larger than they are, never smaller.
    let _ = fs::write("/proc/self/clear_refs", "5");
    command.stdin(input).stdout(out.try_clone()?).stderr(out);
    let started = Instant::now();
    let child = command
        .spawn()
        .map_err(|error| format!("cannot run {command:?}: {error}"))?;
    Ok((child, started))
}

/// What a command that has ended used.
fn ended(command: &Command, log: &Path, started: Instant, ended: ResUse) -> Result<Usage, Failure> {
    let wall = started.elapsed();
    if !ended.status.success() {
        let said = fs::read_to_string(log).unwrap_or_default();
        return Err(format!("{command:?} ended with {}:\n{said}", ended.status).into());
    }
    Ok(Usage {
        wall,
        cpu: ended.rusage.utime + ended.rusage.stime,
        peak_bytes: ended.rusage.maxrss,
    })
}

/// The same, and how many bytes it read from files of any kind: the repository's, and its own cache and libraries.
pub(crate) fn bytes_read(command: &mut Command, log: &Path) -> Result<(Usage, u64), Failure> {
    let (child, started) = begun(command, Stdio::null(), log)?;
    // Not taken away yet: the system still says what it read.
    let id = Pid::from_child(&child);
    waitid(
        WaitId::Pid(id),
        WaitIdOptions::EXITED | WaitIdOptions::NOWAIT,
    )?;
    let io = fs::read_to_string(format!("/proc/{}/io", child.id()))?;
    let usage = ended(command, log, started, child.wait4()?)?;
    let read = io
        .lines()
        .find_map(|line| line.strip_prefix("rchar: "))
        .ok_or("the system does not say how much was read")?;
    Ok((usage, read.parse()?))
}

/// The middle one; of an even number, the lower of the two.
pub(crate) fn median<T: PartialOrd + Copy>(values: &[T]) -> Option<T> {
    let mut sorted = values.to_vec();
    sorted.sort_by(|a, b| a.partial_cmp(b).expect("no figure is a NaN"));
    sorted.get(sorted.len().saturating_sub(1) / 2).copied()
}

/// The medians of each figure by itself.
pub(crate) fn medians(usages: &[Usage]) -> Option<Usage> {
    let of =
        |figure: fn(&Usage) -> Duration| median(&usages.iter().map(figure).collect::<Vec<_>>());
    Some(Usage {
        wall: of(|usage| usage.wall)?,
        cpu: of(|usage| usage.cpu)?,
        peak_bytes: median(
            &usages
                .iter()
                .map(|usage| usage.peak_bytes)
                .collect::<Vec<_>>(),
        )?,
    })
}

/// How many processors this run may use.
pub(crate) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Says on what it ran.
pub(crate) fn print_machine(folder: &Path) -> Result<(), Failure> {
    let processors = fs::read_to_string("/proc/cpuinfo")?;
    let model = processors
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .map_or("unknown processor", |line| {
            line.trim_matches([' ', '\t', ':'])
        });
    let kind = Command::new("stat")
        .args(["--file-system", "--format=%T"])
        .arg(folder)
        .output()?;
    println!(
        "{model}, {} cores; data and repositories on {}.",
        cores(),
        String::from_utf8_lossy(&kind.stdout).trim()
    );
    let load = fs::read_to_string("/proc/loadavg")?;
    println!(
        "Load when it began: {}.",
        load.split(' ').next().unwrap_or("unknown")
    );
    Ok(())
}
