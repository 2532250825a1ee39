//! The data that is measured with: media that cannot be compressed, a source tree of many small files, a database's
//! dump. What is made is the same on every machine, drawn from a seed.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use blake3::OutputReader;
use clap::ValueEnum;

use crate::Failure;

const MEDIA_BYTES: u64 = 2_000_000_000;
const DUMP_BYTES: u64 = 300_000_000;

/// How old data are at least when they are measured with.
const SETTLED: Duration = Duration::from_secs(5);

/// Where packages are looked for that were unpacked and not installed, each in a folder named for its version.
const TREE_FOLDER: &str = "/opt/linux-source";
/// Where Debian's package is when it is installed.
const TREE_PACKAGE: &str = "/usr/src/linux-source-6.1.tar.xz";

/// A kind of data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Data {
    /// 2 GB in files of 20 KB to 8 MB that cannot be compressed.
    Media,
    /// A kernel's source tree.
    Tree,
    /// A database's plain dump of 300 MB, one file.
    Dump,
}

impl Data {
    /// How large it is made; a tree is as large as it is.
    pub(crate) fn bytes(self) -> u64 {
        match self {
            Self::Media => MEDIA_BYTES,
            Self::Tree => 0,
            Self::Dump => DUMP_BYTES,
        }
    }

    fn folder(self) -> &'static str {
        match self {
            Self::Media => "media",
            Self::Tree => "tree",
            Self::Dump => "dump",
        }
    }
}

/// The source trees that were named: folders, tarballs, or folders that Debian's package was unpacked into.
#[derive(Clone, Debug, Default)]
pub(crate) struct Trees {
    pub(crate) this: Option<PathBuf>,
    pub(crate) next: Option<PathBuf>,
}

impl Trees {
    /// What was named; otherwise two packages that lie unpacked, or the one that is installed.
    fn found(&self) -> Result<Self, Failure> {
        if self.this.is_some() || self.next.is_some() {
            return Ok(self.clone());
        }
        let mut unpacked = match fs::read_dir(TREE_FOLDER) {
            Ok(entries) => entries
                .map(|entry| entry.map(|entry| entry.path()))
                .collect::<Result<Vec<_>, _>>()?,
            Err(_) => Vec::new(),
        };
        unpacked.sort();
        let mut unpacked = unpacked.into_iter();
        Ok(Self {
            this: unpacked.next(),
            next: unpacked.next(),
        })
    }
}

/// Data that lies there.
pub(crate) struct Made {
    pub(crate) kind: Data,
    pub(crate) folder: PathBuf,
    /// The tree's next release.
    pub(crate) next: Option<PathBuf>,
    pub(crate) files: u64,
    pub(crate) bytes: u64,
}

impl Made {
    /// Makes so many bytes of this kind below `folder`, or takes what an earlier run kept there.
    pub(crate) fn make(
        kind: Data,
        bytes: u64,
        folder: &Path,
        trees: &Trees,
    ) -> Result<Self, Failure> {
        let own = folder.join(kind.folder());
        let mut next = None;
        match kind {
            Data::Media => once(&own, |half| Ok(make_media(half, bytes)?))?,
            Data::Dump => once(&own, |half| Ok(make_dump(&half.join("shop.sql"), bytes)?))?,
            Data::Tree => {
                let trees = trees.found()?;
                let own_next = folder.join("tree-next");
                put_back(&own, &own_next)?;
                let this = trees.this.as_deref().unwrap_or(Path::new(TREE_PACKAGE));
                once(&own, |half| bring_tree(this, half))?;
                if let Some(tree) = &trees.next {
                    once(&own_next, |half| bring_tree(tree, half))?;
                    next = Some(own_next);
                }
            }
        }
        Self::lying(kind, own, next)
    }

    /// Data that somebody else made.
    pub(crate) fn lying(
        kind: Data,
        folder: PathBuf,
        next: Option<PathBuf>,
    ) -> Result<Self, Failure> {
        let (files, bytes) = count(&folder)?;
        Ok(Self {
            kind,
            folder,
            next,
            files,
            bytes,
        })
    }

    /// Puts the next release in the tree's place; the tree waits aside.
    pub(crate) fn take_next(&self) -> io::Result<()> {
        let Some(next) = &self.next else {
            return Ok(());
        };
        fs::rename(&self.folder, aside(&self.folder))?;
        fs::rename(next, &self.folder)
    }

    /// Puts the tree back in its place, and the next release in its own.
    pub(crate) fn put_back(&self) -> io::Result<()> {
        match &self.next {
            Some(next) => put_back(&self.folder, next),
            None => Ok(()),
        }
    }

    /// Reads everything once, so that the first program does not pay for all.
    pub(crate) fn warm(&self) -> io::Result<()> {
        let mut buffer = vec![0; 1 << 20];
        for folder in [Some(&self.folder), self.next.as_ref()]
            .into_iter()
            .flatten()
        {
            each_file(folder, &mut |path, _| {
                let mut file = File::open(path)?;
                while file.read(&mut buffer)? > 0 {}
                Ok(())
            })?;
        }
        Ok(())
    }

    /// Takes away what was made.
    pub(crate) fn remove(&self) -> io::Result<()> {
        for folder in [Some(&self.folder), self.next.as_ref()]
            .into_iter()
            .flatten()
        {
            fs::remove_dir_all(folder)?;
        }
        Ok(())
    }
}

impl fmt::Display for Made {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            Data::Media => "media",
            Data::Tree => "source tree",
            Data::Dump => "database dump",
        };
        let megabytes = self.bytes as f64 / 1e6;
        match self.files {
            1 => write!(f, "{kind}, one file, {megabytes:.0} MB"),
            files => write!(f, "{kind}, {files} files, {megabytes:.0} MB"),
        }
    }
}

fn aside(folder: &Path) -> PathBuf {
    folder.with_extension("aside")
}

/// Wherever a run was stopped, the tree is aside then, and what lies in its place is the next release.
fn put_back(folder: &Path, next: &Path) -> io::Result<()> {
    if !aside(folder).exists() {
        return Ok(());
    }
    if folder.exists() {
        fs::rename(folder, next)?;
    }
    fs::rename(aside(folder), folder)
}

/// Makes a folder whole or not at all; one that is there already is taken as it is.
pub(crate) fn once(
    folder: &Path,
    make: impl FnOnce(&Path) -> Result<(), Failure>,
) -> Result<(), Failure> {
    if folder.exists() {
        return Ok(());
    }
    let half = folder.with_extension("half");
    if half.exists() {
        fs::remove_dir_all(&half)?;
    }
    fs::create_dir_all(&half)?;
    make(&half)?;
    fs::rename(half, folder)?;
    // What changed just before a backup is read again by the next one; here it should be as old as data mostly are.
    std::thread::sleep(SETTLED);
    Ok(())
}

/// Calls `visit` with the path and length of every regular file below `folder`.
pub(crate) fn each_file(
    folder: &Path,
    visit: &mut dyn FnMut(&Path, u64) -> io::Result<()>,
) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            each_file(&entry.path(), visit)?;
        } else if kind.is_file() {
            visit(&entry.path(), entry.metadata()?.len())?;
        }
    }
    Ok(())
}

/// Regular files below `folder`, and their bytes.
pub(crate) fn count(folder: &Path) -> io::Result<(u64, u64)> {
    let (mut files, mut bytes) = (0, 0);
    each_file(folder, &mut |_, length| {
        files += 1;
        bytes += length;
        Ok(())
    })?;
    Ok((files, bytes))
}

/// Bytes without end from a seed.
fn stream(seed: &str) -> OutputReader {
    blake3::Hasher::new_derive_key("lifeboat benches 2026 data")
        .update(seed.as_bytes())
        .finalize_xof()
}

fn number(stream: &mut OutputReader) -> u64 {
    let mut bytes = [0; 8];
    stream.fill(&mut bytes);
    u64::from_le_bytes(bytes)
}

/// Files of 20 KB to 8 MB, small ones more often: each octave of sizes as often as the next.
pub(crate) fn make_media(folder: &Path, bytes: u64) -> io::Result<()> {
    let mut sizes = stream("sizes of media");
    let (mut made, mut file) = (0, 0_u64);
    while made < bytes {
        let octave = number(&mut sizes) % 9;
        let least = 20_000_u64 << octave;
        let length = (least + number(&mut sizes) % least).min(bytes - made);
        let month = folder.join(format!("2026/{:02}", file % 12 + 1));
        fs::create_dir_all(&month)?;
        let mut content = stream(&format!("media {file}"));
        io::copy(
            &mut Read::by_ref(&mut content).take(length),
            &mut File::create(month.join(format!("{file:05}.jpg")))?,
        )?;
        made += length;
        file += 1;
    }
    Ok(())
}

/// Files of 500 bytes to 16 KB of words, fifty in a folder, twenty folders in a folder.
pub(crate) fn make_files(folder: &Path, files: u64) -> io::Result<()> {
    let words: Vec<&str> = WORDS.split_whitespace().collect();
    let mut random = stream("small files");
    let mut text = String::new();
    for file in 0..files {
        let place = folder.join(format!("{:04}/{:02}", file / 1000, file / 50 % 20));
        if file % 50 == 0 {
            fs::create_dir_all(&place)?;
        }
        let least = 500_u64 << (number(&mut random) % 5);
        let length = (least + number(&mut random) % least) as usize;
        text.clear();
        text.push_str(&format!("{file}\n"));
        while text.len() < length {
            // A word for each byte of a number.
            for byte in number(&mut random).to_le_bytes() {
                text.push_str(words[usize::from(byte) % words.len()]);
                text.push(' ');
            }
        }
        fs::write(place.join(format!("{file:07}.txt")), &text)?;
    }
    Ok(())
}

/// Brings a source tree: every file is new, as after unpacking a release, and has the time of now.
fn bring_tree(tree: &Path, folder: &Path) -> Result<(), Failure> {
    let inside = tree.join("usr/src").join(
        Path::new(TREE_PACKAGE)
            .file_name()
            .expect("a path to a file"),
    );
    let tree = if inside.exists() { &inside } else { tree };
    let mut command = if tree.is_dir() {
        let mut command = Command::new("cp");
        command
            .args(["--recursive", "--no-dereference", "--no-target-directory"])
            .arg(tree);
        command.arg(folder);
        command
    } else if tree.exists() {
        let mut command = Command::new("tar");
        command.args(["--extract", "--touch", "--strip-components=1"]);
        command.arg("--file").arg(tree);
        command.arg("--directory").arg(folder);
        command
    } else {
        return Err(format!(
            "{} is missing; benches/README.md says how to get source trees",
            tree.display()
        )
        .into());
    };
    let done = command.status()?;
    if done.success() {
        Ok(())
    } else {
        Err(format!("{command:?} ended with {done}").into())
    }
}

const WORDS: &str = "the of order invoice late parcel return please customer address weekly and box in blue for \
    delivery was to north garden shelf with repair small paper lamp is wooden table again chair not cotton damaged \
    refund on sent received warehouse by label express missing second call answered green at old new price paid";

/// A table's rows as `pg_dump` writes them: numbers that count, keys that are random, dates, words, prices.
fn make_dump(path: &Path, bytes: u64) -> io::Result<()> {
    let words: Vec<&str> = WORDS.split_whitespace().collect();
    let mut random = stream("rows of the dump");
    let mut out = BufWriter::with_capacity(1 << 20, File::create(path)?);
    out.write_all(
        b"COPY public.orders (id, token, placed, customer, remark, price, state) FROM stdin;\n",
    )?;
    let (mut written, mut id) = (0, 0_u64);
    while written < bytes {
        id += 1;
        let (token, rest) = (
            u128::from(number(&mut random)) << 64 | u128::from(number(&mut random)),
            number(&mut random),
        );
        let count = 4 + rest % 24;
        let remark: Vec<&str> = (0..count)
            .map(|_| words[number(&mut random) as usize % words.len()])
            .collect();
        let row = format!(
            "{id}\t{token:032x}\t2026-{:02}-{:02} {:02}:{:02}:{:02}.{:06}+00\t{}\t{}\t{}.{:02}\t{}\n",
            rest / 31 % 12 + 1,
            rest / 372 % 28 + 1,
            rest / 7 % 24,
            rest / 11 % 60,
            rest / 13 % 60,
            rest / 17 % 1_000_000,
            rest / 19 % 50_000,
            remark.join(" "),
            rest / 23 % 900,
            rest / 29 % 100,
            ["open", "paid", "sent", "returned"][rest as usize / 37 % 4],
        );
        out.write_all(row.as_bytes())?;
        written += row.len() as u64;
    }
    out.write_all(b"\\.\n")?;
    out.flush()
}
