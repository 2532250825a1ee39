//! What grows with a repository: many chunks, many files, many snapshots; and what a command costs then that touches
//! little of it.
//!
//! Everything is made by the repository's own code. A process of its own opens the repository and looks chunks up, so that
//! the making counts for nothing; its files are in memory, as after a first look at them. Look-ups are one thread's, and
//! timed by what it uses of a processor.

use std::fs::{self, File};
use std::io::{BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use lifeboat_codec::{ChunkId, KeyFile, Profile, StreamRef};
use lifeboat_repository::{
    Contents, Draft, NewSecret, Repository, Silent, Surroundings, Unlock, WriteError, work,
};
use lifeboat_store::LocalStore;
use rustix::time::{ClockId, clock_gettime};

use crate::Failure;
use crate::measure::{Usage, cores, timed};

/// Chunks of one run.
const RUN_CHUNKS: u64 = 1_000_000;
const CHUNK_BYTES: usize = 40;
const LOOKUPS: usize = 10_000_000;
const ID_BYTES: usize = 16;
/// Ids that are read before the look-ups of them are timed.
const BATCH_IDS: usize = 65_536;

/// How much is made.
pub(crate) struct Sizes {
    pub(crate) chunks: Vec<u64>,
    pub(crate) files: usize,
    pub(crate) snapshots: usize,
}

/// Measures and prints.
pub(crate) fn print(work: &Path, sizes: &Sizes) -> Result<(), Failure> {
    if work.exists() {
        fs::remove_dir_all(work)?;
    }
    fs::create_dir_all(work)?;
    // Commands first: Linux counts what its parent held among a process's peak.
    for many in [false, true].into_iter().filter(|_| sizes.files > 0) {
        files(&work.join("files"), sizes.files, many)?;
    }
    if sizes.snapshots > 0 {
        snapshots(&work.join("snapshots"), sizes.snapshots)?;
    }
    println!("\n### Chunks\n");
    println!("| chunks | the index | open s | misses M/s | hits M/s | peak MB |");
    println!("|--:|---|--:|--:|--:|--:|");
    for count in sizes.chunks.iter().filter(|count| **count > 0) {
        let folder = work.join(format!("chunks-{count}"));
        // In a process of its own, for the same reason.
        child(&["--scale-make", &count.to_string()], &folder)?;
        for (name, cache) in [
            ("its table is made", "cache"),
            ("by its table", "cache"),
            ("in memory, without a cache", ""),
        ] {
            let said = child(&["--scale-probe", cache], &folder)?;
            println!("| {count} | {name} | {} |", said.trim());
        }
        fs::remove_dir_all(&folder)?;
    }
    Ok(())
}

/// Runs this program for one step in `folder`; returns what it says.
fn child(arguments: &[&str], folder: &Path) -> Result<String, Failure> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("--folder").arg(folder).args(arguments);
    let done = command.output()?;
    if !done.status.success() {
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        return Err(format!("{command:?} ended with {}:\n{said}", done.status).into());
    }
    Ok(String::from_utf8(done.stdout)?)
}

/// Makes a repository with `count` chunks, and a list of their ids in a random order.
pub(crate) fn make(folder: &Path, count: u64) -> Result<(), Failure> {
    fs::create_dir_all(folder)?;
    let store = Arc::new(LocalStore::create(&folder.join("store"))?);
    // What is made leaves no cache behind.
    let surroundings = Surroundings::system(None, folder.join("state"));
    let created = Repository::create(store, &[NewSecret::KeyFile], surroundings)?;
    let key = created.key_file.ok_or("there is no key file")?;
    fs::write(folder.join("key"), key.encode().as_bytes())?;
    let mut repository = created.repository;
    let ids = Mutex::new(Vec::with_capacity(count as usize * ID_BYTES));
    for run in 0..count.div_ceil(RUN_CHUNKS) {
        let numbers = run * RUN_CHUNKS..count.min((run + 1) * RUN_CHUNKS);
        let parts: Vec<u64> = numbers.clone().step_by(10_000).collect();
        let never = AtomicBool::new(false);
        let draft = Draft {
            app: "scale".into(),
            ..Draft::default()
        };
        repository.backup(&draft, &Silent, &never, |writer| {
            work(
                writer,
                cores(),
                parts,
                |lane, first, _| -> Result<(), WriteError> {
                    let mut own = Vec::new();
                    for number in first..numbers.end.min(first + 10_000) {
                        let item = lane.put_small(Profile::Files, CHUNK_BYTES, None, |room| {
                            room[..8].copy_from_slice(&number.to_le_bytes());
                            Ok::<_, WriteError>(CHUNK_BYTES)
                        })?;
                        own.extend(item.map(|item| item.id.0));
                    }
                    let mut ids = ids.lock().expect("no thread panics with the ids");
                    ids.extend_from_slice(own.as_flattened());
                    Ok(())
                },
            )?;
            let nothing = || StreamRef::new(0, Profile::Files, 0, Vec::new());
            Ok::<_, WriteError>(Contents {
                root: nothing(),
                manifest: nothing(),
                files: 0,
                bytes: 0,
                unreadable: 0,
            })
        })?;
    }
    let mut ids = ids.into_inner().expect("no thread panics with the ids");
    let (ids, _) = ids.as_chunks_mut::<ID_BYTES>();
    let mut random = blake3::Hasher::new().finalize_xof();
    for last in (1..ids.len()).rev() {
        let mut number = [0; 8];
        random.fill(&mut number);
        ids.swap(
            last,
            (u64::from_le_bytes(number) % (last as u64 + 1)) as usize,
        );
    }
    fs::write(folder.join("ids"), ids.as_flattened())?;
    Ok(())
}

/// Opens the repository in `folder`, looks up, and says how long that took.
pub(crate) fn probe(folder: &Path, cache: &str) -> Result<(), Failure> {
    let key = KeyFile::decode(&fs::read_to_string(folder.join("key"))?)?;
    let cache = (!cache.is_empty()).then(|| folder.join(cache));
    let store = Arc::new(LocalStore::open(&folder.join("store"))?);
    let surroundings = Surroundings::system(cache, folder.join("state"));
    let started = Instant::now();
    let repository = Repository::open(store, &Unlock::KeyFile(&key), surroundings)?;
    let reader = repository.reader(0)?;
    let open = started.elapsed();

    let mut spent = [0.0; 2];
    // What misses is any number; what hits comes out of the list.
    for (is_hit, spent) in [false, true].into_iter().zip(&mut spent) {
        let mut file = File::open(folder.join("ids"))?;
        let mut random = blake3::Hasher::new().finalize_xof();
        let mut batch = vec![0; BATCH_IDS * ID_BYTES];
        let (mut left, mut found) = (LOOKUPS, 0);
        while left > 0 {
            let length = if is_hit {
                let read = read_whole(&mut file, &mut batch)?;
                if read == 0 {
                    file = File::open(folder.join("ids"))?;
                }
                read
            } else {
                random.fill(&mut batch);
                batch.len()
            };
            let (ids, _) = batch[..length].as_chunks::<ID_BYTES>();
            let ids = &ids[..left.min(ids.len())];
            let started = processor_time();
            found += ids.iter().filter(|id| reader.holds(ChunkId(**id))).count();
            *spent += processor_time() - started;
            left -= ids.len();
        }
        if found != if is_hit { LOOKUPS } else { 0 } {
            return Err(format!("{found} of {LOOKUPS} were found").into());
        }
    }
    let [misses, hits] = spent.map(|seconds| LOOKUPS as f64 / seconds / 1e6);
    let peak = peak_bytes()? as f64 / 1e6;
    println!(
        "{:.3} | {misses:.2} | {hits:.2} | {peak:.0}",
        open.as_secs_f64()
    );
    Ok(())
}

fn read_whole(from: &mut impl Read, into: &mut [u8]) -> Result<usize, Failure> {
    let mut read = 0;
    while read < into.len() {
        match from.read(&mut into[read..])? {
            0 => break,
            more => read += more,
        }
    }
    Ok(read)
}

/// Seconds of a processor that this thread has used: others may work on the machine meanwhile.
fn processor_time() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// The most memory that this process had.
fn peak_bytes() -> Result<u64, Failure> {
    let status = fs::read_to_string("/proc/self/status")?;
    let peak = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .and_then(|line| line.trim().strip_suffix(" kB"))
        .ok_or("the system does not say how much memory was used")?;
    Ok(peak.parse::<u64>()? * 1024)
}

/// The program with a repository, key and caches of its own.
struct Program {
    folder: PathBuf,
}

impl Program {
    fn new(folder: &Path) -> Result<Self, Failure> {
        fs::create_dir_all(folder.join("home"))?;
        let program = Self {
            folder: folder.to_owned(),
        };
        program.run(&["init", "--key-file", &program.at("key")])?;
        Ok(program)
    }

    fn at(&self, name: &str) -> String {
        self.folder.join(name).display().to_string()
    }

    fn run(&self, arguments: &[&str]) -> Result<Usage, Failure> {
        let built = std::env::current_exe()?.with_file_name("lifeboat");
        let mut command = Command::new(built);
        command
            .args(arguments)
            .env("HOME", self.at("home"))
            .env("XDG_CACHE_HOME", self.at("home/cache"))
            .env("XDG_STATE_HOME", self.at("home/state"))
            .env("XDG_CONFIG_HOME", self.at("home/config"))
            .env("LIFEBOAT_REPOSITORY", self.at("repository"))
            .env("LIFEBOAT_CACHE_DIR", self.at("home/cache"));
        if Path::new(&self.at("key")).exists() {
            command.env("LIFEBOAT_KEY_FILE", self.at("key"));
        }
        timed(&mut command, &self.folder.join("log"))
    }

    fn row(&self, what: &str, arguments: &[&str]) -> Result<(), Failure> {
        let usage = self.run(arguments)?;
        println!(
            "| {what} | {:.2} | {:.2} | {:.0} |",
            usage.wall.as_secs_f64(),
            usage.cpu.as_secs_f64(),
            usage.peak_bytes as f64 / 1e6
        );
        Ok(())
    }

    fn head(title: &str) {
        println!("\n### {title}\n");
        println!("| command | wall s | processor s | peak MB |");
        println!("|---|--:|--:|--:|");
    }
}

/// Many small files, in one folder or in folders of a thousand.
fn files(folder: &Path, count: usize, many: bool) -> Result<(), Failure> {
    let program = Program::new(folder)?;
    let data = folder.join("data");
    let mut one = PathBuf::new();
    for number in 0..count {
        let within = if many {
            data.join(format!("{:03}/{:05}", number / 100_000, number / 1000))
        } else {
            data.clone()
        };
        if number == 0 || many && number % 1000 == 0 {
            fs::create_dir_all(&within)?;
        }
        one = within.join(format!("{number:08}.txt"));
        fs::write(&one, format!("file {number} of many"))?;
    }
    let one = one.strip_prefix(&data)?.display().to_string();
    Program::head(&format!(
        "{count} files in {}",
        if many {
            "folders of 1,000"
        } else {
            "one folder"
        }
    ));
    let source = program.at("data");
    let back_up = ["backup", "--app", "shop", "--source", &source];
    program.row("first backup", &back_up)?;
    program.row("backup, nothing changed", &back_up)?;
    fs::write(data.join(&one), "another text")?;
    program.row("backup, one file changed", &back_up)?;
    let path = format!("shop:data/{one}");
    program.row("`ls` of one file", &["ls", &path])?;
    program.row(
        "`find` of its name",
        &["find", one.rsplit('/').next().unwrap_or(&one)],
    )?;
    let target = program.at("back");
    program.row("`restore` of it", &["restore", &path, "--target", &target])?;
    fs::remove_dir_all(folder)?;
    Ok(())
}

/// Many snapshots of a small app, a file of which changes each time.
fn snapshots(folder: &Path, count: usize) -> Result<(), Failure> {
    let program = Program::new(folder)?;
    let data = folder.join("data");
    fs::create_dir_all(&data)?;
    for number in 0..10 {
        fs::write(data.join(format!("{number}.txt")), format!("file {number}"))?;
    }
    let source = program.at("data");
    let back_up = ["backup", "--app", "shop", "--source", &source];
    let mut log = BufWriter::new(File::create(folder.join("times"))?);
    for number in 0..count {
        fs::write(data.join("0.txt"), format!("text {number}"))?;
        let usage = program.run(&back_up)?;
        writeln!(log, "{number} {:.4}", usage.wall.as_secs_f64())?;
    }
    log.flush()?;
    Program::head(&format!("{count} snapshots of an app of ten files"));
    program.row("`snapshots`", &["snapshots"])?;
    program.row("backup, nothing changed", &back_up)?;
    fs::write(data.join("0.txt"), "another text")?;
    program.row("backup, one file changed", &back_up)?;
    program.row("`ls` of the newest", &["ls", "shop:data"])?;
    let target = program.at("back");
    program.row(
        "`restore` of one file",
        &["restore", "shop:data/0.txt", "--target", &target],
    )?;
    program.row("`stats`", &["stats"])?;
    fs::remove_dir_all(folder)?;
    Ok(())
}
