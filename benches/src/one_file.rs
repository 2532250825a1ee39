//! One file out of a large repository: what a person waits for who lost one.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::Failure;
use crate::data::{Made, each_file};
use crate::figures::{Figures, Unit};
use crate::measure::{medians, timed};
use crate::programs::{Bench, Program, Step};

/// The file is the one whose length is nearest to this.
const FILE_BYTES: u64 = 200_000;
const RUNS: usize = 20;

/// What a restore may take, and how often it may read from packs.
const MILLISECONDS: f64 = 40.0;
const READS: f64 = 3.0;

/// Backs the data up and restores one file, again and again.
pub(crate) fn print(made: &Made, work: &Path, figures: &mut Figures) -> Result<(), Failure> {
    let file = chosen(made)?;
    let bench = Bench::begin(Program::Lifeboat, &made.folder, work)?;
    bench.run(Step::First)?;
    let name = made.folder.file_name().ok_or("the data has no name")?;
    let inside = Path::new(name).join(file.strip_prefix(&made.folder)?);
    let wanted = format!("bench:{}", inside.display());
    let out = work.join("one");
    let target = out.display().to_string();
    let restore = || bench.lifeboat(&["restore", &wanted, "--target", &target]);
    let log = work.join("one-log");
    let came_back = || -> Result<(), Failure> {
        let back = out.join(file.file_name().ok_or("a file has a name")?);
        if fs::read(back)? != fs::read(&file)? {
            return Err("another file came back".into());
        }
        Ok(fs::remove_dir_all(&out)?)
    };
    // As on the machine that made the backup, which keeps a cache; and as on any other.
    let mut found = Vec::new();
    for cached in [true, false] {
        let mut usages = Vec::new();
        for _ in 0..RUNS {
            if !cached {
                bench.forget_cache()?;
            }
            usages.push(timed(&mut restore()?, &log)?);
            came_back()?;
        }
        if !cached {
            bench.forget_cache()?;
        }
        let reads = reads(&restore()?, &bench.repository(), work)?;
        came_back()?;
        let walls: Vec<Duration> = usages.iter().map(|usage| usage.wall).collect();
        let slowest = walls.iter().max().copied().unwrap_or_default();
        let usage = medians(&usages).ok_or("no runs")?;
        found.push((cached, usage, slowest, reads));
    }
    bench.end()?;

    let length = fs::metadata(&file)?.len();
    println!(
        "One file of {} KB, key file, {RUNS} runs each.\n",
        length / 1000
    );
    println!(
        "| restore of one file | median ms | slowest ms | processor ms | peak MB | reads of packs | reads of other objects |\n\
         |---|--:|--:|--:|--:|--:|--:|"
    );
    for (cached, usage, slowest, reads) in found {
        let milliseconds = |time: Duration| time.as_secs_f64() * 1e3;
        let title = if cached {
            "where the backup was made"
        } else {
            "with an empty cache"
        };
        println!(
            "| {title} | {:.1} | {:.1} | {:.1} | {:.0} | {} | {} |",
            milliseconds(usage.wall),
            milliseconds(slowest),
            milliseconds(usage.cpu),
            usage.peak_bytes as f64 / 1e6,
            reads.packs,
            reads.others,
        );
        let work = format!("one file out of {made}");
        figures.peak(usage.peak_bytes, || work.clone());
        if cached {
            let wall = milliseconds(usage.wall);
            figures.at_most(&work, "restore", wall, MILLISECONDS, Unit::Milliseconds);
            let what = "reads of packs";
            figures.at_most(&work, what, reads.packs as f64, READS, Unit::Number);
        }
    }
    Ok(())
}

/// The file whose length is nearest to what is asked for.
fn chosen(made: &Made) -> Result<PathBuf, Failure> {
    let mut best: Option<(u64, PathBuf)> = None;
    each_file(&made.folder, &mut |path, length| {
        let distance = length.abs_diff(FILE_BYTES);
        if best.as_ref().is_none_or(|(least, _)| distance < *least) {
            best = Some((distance, path.to_path_buf()));
        }
        Ok(())
    })?;
    let (_, path) = best.ok_or("there is no file")?;
    Ok(path)
}

/// Calls that read something from the repository's files.
struct Reads {
    packs: usize,
    others: usize,
}

/// Runs the command once more under `strace`, which makes it slow, and counts.
fn reads(command: &Command, repository: &Path, work: &Path) -> Result<Reads, Failure> {
    let trace = work.join("trace");
    let mut strace = Command::new("strace");
    strace
        .args(["-f", "-y", "-s", "0", "-e"])
        .arg("trace=read,pread64,readv,preadv,preadv2,mmap,copy_file_range,sendfile")
        .arg("-o")
        .arg(&trace)
        .arg(command.get_program())
        .args(command.get_args())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    for (name, value) in command.get_envs() {
        if let Some(value) = value {
            strace.env(name, value);
        }
    }
    let done = strace
        .status()
        .map_err(|error| format!("cannot run strace, which counts reads: {error}"))?;
    if !done.success() {
        return Err(format!("{command:?} under strace ended with {done}").into());
    }
    let place = format!("<{}/", repository.display());
    let packs = format!("{place}packs/");
    let traced = fs::read_to_string(&trace)?;
    // A call that other threads interrupt has two lines, of which the first names the file; the end of a file is no read.
    let calls = || {
        traced
            .lines()
            .filter(|line| line.contains(&place) && !line.ends_with(" = 0"))
    };
    let of_packs = calls().filter(|line| line.contains(&packs)).count();
    fs::remove_file(trace)?;
    Ok(Reads {
        packs: of_packs,
        others: calls().count() - of_packs,
    })
}
