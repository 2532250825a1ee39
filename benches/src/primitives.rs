//! What each step of a first backup costs by itself on one core, and the pipeline's *efficiency*: the sum of the steps
//! divided by the processors' time between the backup's begin and end. 100 % would be a backup whose parts fit together
//! without a seam; what is above the sum is walking, metadata, locks, waiting, commit.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use lifeboat_codec::{
    Chunker, Codec, Envelope, FamilyId, Keyring, Kind, Nonce, Profile, Recipient, RunKey,
    SEGMENT_BYTES, Secret, SegmentOpener, SegmentPlan, SegmentSealer, TreeHasher, chunk_id,
    content_tail,
};
use lifeboat_repository::SystemEntropy;

use crate::data::{Made, each_file};
use crate::figures::{Figures, Unit};
use crate::measure::{cores, median};
use crate::programs::{Bench, Program, Step};
use crate::{Failure, measure};

/// Read at once: what is timed works from memory. A file that goes on behind it is cut there.
const BATCH_BYTES: usize = 64 << 20;

/// The steps of a first backup, and two of a restore.
const STEPS: [&str; 8] = [
    "open and read files",
    "cut into chunks",
    "keyed ids",
    "compress, decode, compare, encrypt",
    "hash of packs and blocks",
    "write packs",
    "(restore) decrypt, decode, ids",
    "(reference) BLAKE3 of everything",
];
const BACKUP_STEPS: usize = 6;

/// What the efficiency should be at least.
const EFFICIENCY: f64 = 0.85;

struct Steps<'a> {
    chunker: Chunker,
    id_key: Secret,
    run_key: RunKey,
    sealer: SegmentSealer,
    opener: SegmentOpener,
    seen: HashSet<[u8; 16]>,
    hasher: TreeHasher,
    out: File,
    segments: u64,
    spent: [Duration; STEPS.len()],
    log: &'a Path,
}

/// A part of the data in memory, and where its files end.
#[derive(Default)]
struct Batch {
    bytes: Vec<u8>,
    used: usize,
    ends: Vec<usize>,
}

impl<'a> Steps<'a> {
    fn new(log: &'a Path) -> Result<Self, Failure> {
        let mut entropy = SystemEntropy::default();
        let keyring = Keyring::create(&mut entropy);
        let id_key = Secret::random(&mut entropy);
        let (_, run_key) =
            Envelope::create(Recipient::Data, &keyring, FamilyId([1; 16]), &mut entropy);
        Ok(Self {
            chunker: Chunker::new(&id_key),
            id_key,
            run_key,
            sealer: SegmentSealer::default(),
            opener: SegmentOpener::default(),
            seen: HashSet::new(),
            hasher: TreeHasher::new(),
            out: File::create(log)?,
            segments: 0,
            spent: [Duration::ZERO; STEPS.len()],
            log,
        })
    }

    fn time<T>(&mut self, step: usize, work: impl FnOnce(&mut Self) -> T) -> T {
        let started = Instant::now();
        let done = work(self);
        self.spent[step] += started.elapsed();
        done
    }

    /// Takes a batch through all steps, one after the other, each over the whole batch.
    fn take(&mut self, batch: &mut Batch) -> Result<(), Failure> {
        let bytes = &batch.bytes[..batch.used];
        self.time(7, |_| std::hint::black_box(blake3::hash(bytes)));
        let chunks: Vec<&[u8]> = self.time(1, |steps| {
            let mut chunks = Vec::new();
            let mut at = 0;
            for end in &batch.ends {
                while at < *end {
                    let length = steps.chunker.cut(Profile::Files, &bytes[at..*end]);
                    chunks.push(&bytes[at..at + length]);
                    at += length;
                }
            }
            chunks
        });
        let ids: Vec<_> = self.time(2, |steps| {
            chunks
                .iter()
                .map(|chunk| chunk_id(&steps.id_key, chunk))
                .collect()
        });
        let (mut content, mut lengths, mut names) = (Vec::new(), Vec::new(), Vec::new());
        for (chunk, id) in chunks.iter().zip(&ids) {
            if self.seen.insert(id.0) {
                content.extend_from_slice(chunk);
                lengths.push(chunk.len() as u32);
                names.extend_from_slice(&id.0);
            }
            if content.len() >= SEGMENT_BYTES {
                self.segment(&mut content, &mut lengths, &mut names)?;
            }
        }
        if !lengths.is_empty() {
            self.segment(&mut content, &mut lengths, &mut names)?;
        }
        batch.used = 0;
        batch.ends.clear();
        Ok(())
    }

    fn segment(
        &mut self,
        content: &mut Vec<u8>,
        lengths: &mut Vec<u32>,
        ids: &mut Vec<u8>,
    ) -> Result<(), Failure> {
        content.extend_from_slice(&content_tail(lengths));
        self.segments += 1;
        let mut nonce = [0; 24];
        nonce[..8].copy_from_slice(&self.segments.to_le_bytes());
        let (family, kind) = (FamilyId([1; 16]), Kind::DataPack);
        let started = Instant::now();
        let (codec, sealed) =
            self.sealer
                .seal(&self.run_key, family, kind, ids, content, &[], Nonce(nonce))?;
        self.spent[3] += started.elapsed();
        let started = Instant::now();
        self.hasher.update(sealed);
        self.spent[4] += started.elapsed();
        let started = Instant::now();
        self.out.write_all(sealed)?;
        self.spent[5] += started.elapsed();
        let mut sealed = sealed.to_vec();
        self.open(codec, ids, &mut sealed)?;
        content.clear();
        lengths.clear();
        ids.clear();
        Ok(())
    }

    fn open(&mut self, codec: Codec, ids: &[u8], sealed: &mut [u8]) -> Result<(), Failure> {
        let plan = SegmentPlan {
            family: FamilyId([1; 16]),
            kind: Kind::DataPack,
            codec,
            ids,
            base: &[],
        };
        let started = Instant::now();
        self.opener
            .open(&self.run_key, &self.id_key, &plan, sealed)?;
        self.spent[6] += started.elapsed();
        Ok(())
    }

    fn all(mut self, made: &Made) -> Result<[Duration; STEPS.len()], Failure> {
        let mut batch = Batch::default();
        batch.bytes.resize(BATCH_BYTES, 0);
        let mut files = Vec::new();
        each_file(&made.folder, &mut |path, _| {
            files.push(path.to_path_buf());
            Ok(())
        })?;
        for path in files {
            let mut file = self.time(0, |_| File::open(&path))?;
            loop {
                let read = self.time(0, |_| file.read(&mut batch.bytes[batch.used..]))?;
                batch.used += read;
                if read == 0 {
                    break;
                }
                if batch.used == BATCH_BYTES {
                    batch.ends.push(batch.used);
                    self.take(&mut batch)?;
                }
            }
            batch.ends.push(batch.used);
        }
        self.take(&mut batch)?;
        fs::remove_file(self.log)?;
        Ok(self.spent)
    }
}

/// What keyed ids, compressing, decoding and comparing, sealing and hashing cost one core for this data.
pub(crate) fn backup_cost(made: &Made, pack: &Path) -> Result<Duration, Failure> {
    let spent = Steps::new(pack)?.all(made)?;
    Ok(spent[2] + spent[3] + spent[4])
}

/// Prints the steps, their sum, and what a whole backup needs.
pub(crate) fn print(
    made: &Made,
    work: &Path,
    rounds: usize,
    figures: &mut Figures,
) -> Result<(), Failure> {
    fs::create_dir_all(work)?;
    let mut spent = Vec::new();
    let mut whole = Vec::new();
    for _ in 0..rounds {
        spent.push(Steps::new(&work.join("pack"))?.all(made)?);
        let bench = Bench::begin(Program::Lifeboat, &made.folder, work)?;
        whole.push(bench.run(Step::First)?);
        bench.end()?;
    }
    let whole = measure::medians(&whole).ok_or("no rounds")?;
    println!("| step, one core | seconds | MB/s |\n|---|--:|--:|");
    let mut sum = Duration::ZERO;
    for (step, name) in STEPS.iter().enumerate() {
        let time = median(&spent.iter().map(|spent| spent[step]).collect::<Vec<_>>())
            .ok_or("no rounds")?;
        if step < BACKUP_STEPS {
            sum += time;
        }
        println!(
            "| {name} | {:.2} | {:.0} |",
            time.as_secs_f64(),
            made.bytes as f64 / 1e6 / time.as_secs_f64()
        );
    }
    let efficiency = sum.as_secs_f64() / (whole.wall.as_secs_f64() * cores() as f64);
    println!(
        "\nSum of the steps of a backup: {:.2} s. `lifeboat backup`: {:.2} s on {} cores, {:.2} s of processor time. \
         Efficiency: **{:.0} %**.\n",
        sum.as_secs_f64(),
        whole.wall.as_secs_f64(),
        cores(),
        whole.cpu.as_secs_f64(),
        100.0 * efficiency
    );
    figures.at_least(
        made,
        "pipeline's efficiency",
        efficiency,
        EFFICIENCY,
        Unit::Times,
    );
    Ok(())
}
