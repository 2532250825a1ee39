//! What a holder of the storage learns about the sizes of files, computed from what it can see.
//!
//! It sees names, lengths and whatever stands in clear: headers, footers, block tables, the count of envelopes. It does
//! not see rows, chunk ids, directories' content, index, trees. These tests take that view and try to guess.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use lifeboat_codec::{
    BLOCK_BYTES, ENVELOPE_BYTES, FOOTER_BYTES, Footer, HASH_BYTES, HEADER_BYTES, Kind, Role,
    padding_class, parse_name,
};
use lifeboat_store::{MemoryStore, Operation, RecordingStore, Store};

use crate::keys::NewSecret;
use crate::repository::{Repository, Unlock};
use crate::testing::{Files, World, backup, noise, restore, surroundings};

/// Nonce and tag of one sealed thing.
const SEAL_BYTES: u64 = 24 + 16;

/// One object as the storage shows it.
struct Seen {
    name: String,
    kind: Kind,
    bytes: u64,
    footer: Footer,
}

fn look(store: &MemoryStore) -> Vec<Seen> {
    let mut seen = Vec::new();
    let mut names = Vec::new();
    store
        .list("", &mut |listed| names.push((listed.name, listed.len)))
        .unwrap();
    for (name, bytes) in names {
        let mut footer = [0; FOOTER_BYTES];
        store
            .get_range(
                &name,
                bytes - (FOOTER_BYTES + HASH_BYTES) as u64,
                &mut footer,
            )
            .unwrap();
        let kind = parse_name(name.as_str()).unwrap().kind;
        seen.push(Seen {
            name: name.to_string(),
            kind,
            bytes,
            footer: Footer::decode(&footer, bytes).unwrap(),
        });
    }
    seen.sort_by(|a, b| a.name.cmp(&b.name));
    seen
}

/// Numbers in 0..`below`, the same each time.
struct Dice(u64);

impl Dice {
    fn next(&mut self, below: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % below
    }

    /// A size between 4 and 128 KiB; every power of two is as likely as any other.
    fn size(&mut self) -> usize {
        let power = 12 + self.next(5);
        ((1 << power) + self.next(1 << power)) as usize
    }
}

fn is_class(length: u64) -> bool {
    padding_class(length) == length
}

#[test]
fn every_sealed_length_is_that_of_a_padding_class() {
    let (world, mut repository) = World::new();
    repository
        .add_slot(
            &NewSecret::KeyFile,
            Role::WriteOnly,
            "a label of some length",
        )
        .unwrap();
    let mut dice = Dice(1);
    for run in 0..40_u64 {
        let count = 1 + dice.next(30);
        let files: Files = (0..count)
            .map(|file| {
                (
                    format!("{run}/{file}"),
                    noise(run * 100 + file, dice.size()),
                )
            })
            .collect();
        backup(&mut repository, &files).unwrap();
    }
    let area = 2 + ENVELOPE_BYTES as u64;
    let mut counts = [0; 2];
    for object in look(&world.store) {
        let body = object.footer.body_bytes;
        match object.kind {
            Kind::DataPack | Kind::MetaPack => {
                let directory = u64::from(object.footer.directory_bytes);
                assert!(
                    is_class(HEADER_BYTES as u64 + body - directory),
                    "{}: segments and padding",
                    object.name
                );
                assert!(
                    is_class(directory - SEAL_BYTES),
                    "{}: directory",
                    object.name
                );
                counts[0] += 1;
            }
            Kind::Index | Kind::Snapshot | Kind::Confirm => {
                assert!(is_class(body - area - SEAL_BYTES), "{}: body", object.name);
                counts[1] += 1;
            }
            // They hold nothing about what is backed up.
            Kind::Superblock | Kind::Slot | Kind::Writer => {}
            other => panic!("{other:?} was not expected"),
        }
    }
    assert_eq!(counts, [80, 120]);
}

/// Pearson's correlation; 0 when one side never changes.
fn correlation(a: &[f64], b: &[f64]) -> f64 {
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    let (ma, mb) = (mean(a), mean(b));
    let sum =
        |f: &dyn Fn(f64, f64) -> f64| a.iter().zip(b).map(|(a, b)| f(a - ma, b - mb)).sum::<f64>();
    let (both, aa, bb) = (sum(&|a, b| a * b), sum(&|a, _| a * a), sum(&|_, b| b * b));
    if aa == 0.0 || bb == 0.0 {
        0.0
    } else {
        both / (aa * bb).sqrt()
    }
}

/// For each file what an observer would guess its length to be, given one observed length for each position.
///
/// The estimator: the observer knows all sizes and their order, not which file is where in a pack. The file at
/// position i of n lies, as well as can be known, in the pack at position i·m⁄n of m. It names the file whose size is
/// nearest to its share of that pack.
fn hits(sizes: &[f64], guesses: &[f64]) -> usize {
    let nearest = |guess: f64| {
        let distance = |size: &f64| (size.max(1.0).ln() - guess.max(1.0).ln()).abs();
        (0..sizes.len())
            .min_by(|a, b| distance(&sizes[*a]).total_cmp(&distance(&sizes[*b])))
            .unwrap()
    };
    guesses
        .iter()
        .enumerate()
        .filter(|(position, guess)| nearest(**guess) == *position)
        .count()
}

#[test]
fn no_length_tells_the_size_of_a_file_among_two_thousand() {
    const FILES: usize = 2000;
    let (world, mut repository) = World::new();
    let before: BTreeSet<String> = look(&world.store)
        .into_iter()
        .map(|seen| seen.name)
        .collect();
    let mut dice = Dice(7);
    let sizes: Vec<usize> = (0..FILES).map(|_| dice.size()).collect();
    let files: Files = sizes
        .iter()
        .enumerate()
        .map(|(number, size)| (format!("{number:04}"), noise(number as u64, *size)))
        .collect();
    backup(&mut repository, &files).unwrap();
    let seen: Vec<Seen> = look(&world.store)
        .into_iter()
        .filter(|seen| !before.contains(&seen.name))
        .collect();

    // Whatever has a length, spread over the files in their order.
    let sizes: Vec<f64> = sizes.into_iter().map(|size| size as f64).collect();
    let data: Vec<f64> = seen
        .iter()
        .filter(|seen| seen.kind == Kind::DataPack)
        .map(|seen| seen.bytes as f64)
        .collect();
    let all: Vec<f64> = seen.iter().map(|seen| seen.bytes as f64).collect();
    let directories: Vec<f64> = seen
        .iter()
        .map(|seen| f64::from(seen.footer.directory_bytes))
        .collect();
    for observed in [&data, &all, &directories] {
        let spread: Vec<f64> = (0..FILES)
            .map(|file| observed[file * observed.len() / FILES])
            .collect();
        let found = correlation(&sizes, &spread);
        assert!(found.abs() < 0.1, "correlation {found}");
        let share: Vec<f64> = spread
            .iter()
            .map(|length| length * observed.len() as f64 / FILES as f64)
            .collect();
        for guesses in [&spread, &share] {
            let right = hits(&sizes, guesses);
            // Chance is one file; 1 % of all is twenty.
            assert!(right <= 21, "{right} files were recognised");
        }
    }

    // The same estimators find almost every file where each is an object of its own, as long as it is.
    assert!(correlation(&sizes, &sizes) > 0.99);
    let distinct = sizes
        .iter()
        .map(|size| *size as u64)
        .collect::<BTreeSet<_>>()
        .len();
    assert!(distinct > 1800 && hits(&sizes, &sizes) >= distinct);
}

#[test]
fn a_run_shows_the_class_of_its_sum_and_nothing_finer() {
    let lengths = |sizes: &[usize], kinds: &[Kind]| {
        let (world, mut repository) = World::new();
        let files: Files = sizes
            .iter()
            .enumerate()
            .map(|(number, size)| (format!("{number}"), noise(number as u64, *size)))
            .collect();
        backup(&mut repository, &files).unwrap();
        let seen = look(&world.store)
            .into_iter()
            .filter(|seen| kinds.contains(&seen.kind));
        let mut lengths: Vec<(Kind, u64)> = seen.map(|seen| (seen.kind, seen.bytes)).collect();
        lengths.sort_unstable();
        lengths
    };
    let (all, data) = (
        [
            Kind::DataPack,
            Kind::MetaPack,
            Kind::Index,
            Kind::Snapshot,
            Kind::Confirm,
        ],
        [Kind::DataPack],
    );
    // All of these fill a pack of the class that ends at 241,664 bytes and begins 4 KiB before. They are smaller than
    // the smallest chunk but a last one, so that no key cuts them.
    let reference = lengths(&[240_000], &all);
    assert_eq!(
        lengths(&[239_000], &all),
        reference,
        "a thousand bytes less"
    );
    assert_eq!(lengths(&[241_000], &all), reference, "a thousand more");
    // How many chunks there are is seen by the class of the directory, 16 bytes for each; how they divide the content is not.
    let reference = lengths(&[240_000], &data);
    assert_eq!(lengths(&[120_000, 119_900], &data), reference, "two files");
    assert_eq!(
        lengths(&[239_500, 500], &data),
        reference,
        "a large one and a tiny one"
    );
    assert_ne!(
        lengths(&[246_000], &data),
        reference,
        "another class is seen: that much is stated"
    );
}

#[test]
fn who_logs_reads_sees_whole_blocks_and_no_segment() {
    let (world, mut repository) = World::new();
    let files: Files = (0..40)
        .map(|number| {
            (
                format!("{number}"),
                noise(number, 70_000 + 37 * number as usize),
            )
        })
        .collect();
    let head = backup(&mut repository, &files).unwrap().head;
    let lengths: BTreeMap<String, u64> = look(&world.store)
        .into_iter()
        .map(|seen| (seen.name, seen.bytes))
        .collect();
    let store = Arc::new(RecordingStore::keeping_calls(Arc::clone(&world.store)));
    let watched = Arc::clone(&store) as Arc<dyn Store>;
    let reading = Repository::open(
        watched,
        &Unlock::KeyFile(&world.key),
        surroundings(&world.folder),
    );
    assert_eq!(restore(&reading.unwrap(), &head).unwrap(), files);
    let calls = store.calls();
    let reads: Vec<_> = calls
        .iter()
        .filter(|call| call.operation == Operation::GetRange && call.name.starts_with("packs/"))
        .collect();
    assert!(!reads.is_empty());
    for read in reads {
        let end = lengths[&read.name];
        let whole = |bytes: u64| bytes % BLOCK_BYTES as u64;
        assert!(
            whole(read.bytes) == 0 || whole(read.bytes) == whole(end),
            "{} bytes of {end} were read",
            read.bytes
        );
    }
}
