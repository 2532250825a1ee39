//! The data that is measured with: media that cannot be compressed, a source tree of many small files, a database's
//! dump. What is made is the same on every machine, drawn from a seed.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use blake3::OutputReader;
use clap::ValueEnum;

use crate::Failure;

const MEDIA_BYTES: u64 = 2_000_000_000;
const DUMP_BYTES: u64 = 300_000_000;
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
    fn folder(self) -> &'static str {
        match self {
            Self::Media => "media",
            Self::Tree => "tree",
            Self::Dump => "dump",
        }
    }
}

/// Data that lies there.
pub(crate) struct Made {
    kind: Data,
    pub(crate) folder: PathBuf,
    pub(crate) files: u64,
    pub(crate) bytes: u64,
    own: bool,
}

impl Made {
    /// Makes the data of this kind below `folder`, or takes what an earlier run kept there.
    pub(crate) fn make(kind: Data, folder: &Path, tree: Option<&Path>) -> Result<Self, Failure> {
        let given = tree.filter(|_| kind == Data::Tree);
        let own = given.is_none();
        let folder = given.map_or_else(|| folder.join(kind.folder()), Path::to_path_buf);
        if own && !folder.exists() {
            let half = folder.with_extension("half");
            if half.exists() {
                fs::remove_dir_all(&half)?;
            }
            fs::create_dir(&half)?;
            match kind {
                Data::Media => make_media(&half)?,
                Data::Tree => unpack_tree(&half)?,
                Data::Dump => make_dump(&half.join("shop.sql"))?,
            }
            fs::rename(&half, &folder)?;
        }
        let mut made = Self {
            kind,
            files: 0,
            bytes: 0,
            own,
            folder,
        };
        (made.files, made.bytes) = count(&made.folder)?;
        Ok(made)
    }

    /// Reads everything once, so that the first program does not pay for all.
    pub(crate) fn warm(&self) -> io::Result<()> {
        let mut buffer = vec![0; 1 << 20];
        each_file(&self.folder, &mut |path, _| {
            let mut file = File::open(path)?;
            while file.read(&mut buffer)? > 0 {}
            Ok(())
        })
    }

    /// Takes away what was made; a tree that was given stays.
    pub(crate) fn remove(&self) -> io::Result<()> {
        if self.own {
            fs::remove_dir_all(&self.folder)?;
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
fn make_media(folder: &Path) -> io::Result<()> {
    let mut sizes = stream("sizes of media");
    let (mut made, mut file) = (0, 0_u64);
    while made < MEDIA_BYTES {
        let octave = number(&mut sizes) % 9;
        let least = 20_000_u64 << octave;
        let length = (least + number(&mut sizes) % least).min(MEDIA_BYTES - made);
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

fn unpack_tree(folder: &Path) -> Result<(), Failure> {
    if !Path::new(TREE_PACKAGE).exists() {
        return Err(format!(
            "{TREE_PACKAGE} is missing; install the Debian package linux-source-6.1, or name a tree with --tree"
        )
        .into());
    }
    let unpacked = Command::new("tar")
        .args(["--extract", "--strip-components=1", "--file", TREE_PACKAGE])
        .arg("--directory")
        .arg(folder)
        .status()?;
    if unpacked.success() {
        Ok(())
    } else {
        Err(format!("tar could not unpack {TREE_PACKAGE}: {unpacked}").into())
    }
}

const WORDS: &str = "the of order invoice late parcel return please customer address weekly and box in blue for \
    delivery was to north garden shelf with repair small paper lamp is wooden table again chair not cotton damaged \
    refund on sent received warehouse by label express missing second call answered green at old new price paid";

/// A table's rows as `pg_dump` writes them: numbers that count, keys that are random, dates, words, prices.
fn make_dump(path: &Path) -> io::Result<()> {
    let words: Vec<&str> = WORDS.split_whitespace().collect();
    let mut random = stream("rows of the dump");
    let mut out = BufWriter::with_capacity(1 << 20, File::create(path)?);
    out.write_all(
        b"COPY public.orders (id, token, placed, customer, remark, price, state) FROM stdin;\n",
    )?;
    let (mut written, mut id) = (0, 0_u64);
    while written < DUMP_BYTES {
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
