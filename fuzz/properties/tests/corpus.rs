//! The properties hold for the seeds, for all that is kept in the corpus, and for what is near to them.

use std::path::Path;

use lifeboat_fuzz::{Seed, TARGETS, seeds};

/// Every kept input of a target.
fn kept() -> Vec<Seed> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../corpus");
    let mut all = Vec::new();
    for (target, _) in TARGETS {
        let files = std::fs::read_dir(corpus.join(target)).expect("every target has a corpus");
        for file in files {
            let file = file.expect("the corpus can be listed");
            all.push(Seed {
                target,
                name: file.file_name().to_string_lossy().into_owned(),
                bytes: std::fs::read(file.path()).expect("the corpus can be read"),
            });
        }
    }
    all
}

fn run(seed: &Seed) {
    let (_, target) = TARGETS
        .iter()
        .find(|(name, _)| *name == seed.target)
        .expect("a seed is a target's");
    std::panic::catch_unwind(|| target(&seed.bytes))
        .unwrap_or_else(|_| panic!("{} does not hold for {}", seed.target, seed.name));
}

#[test]
fn every_target_has_seeds_and_keeps_them() {
    let kept = kept();
    let known = |target: &str, name: &str| {
        kept.iter()
            .any(|seed| (seed.target, seed.name.as_str()) == (target, name))
    };
    for seed in seeds() {
        assert!(
            known(seed.target, &seed.name),
            "fuzz/corpus lacks {}/{}: cargo run -p lifeboat-fuzz --bin seeds",
            seed.target,
            seed.name
        );
    }
    let with_seeds = |target: &str| seeds().iter().any(|seed| seed.target == target);
    assert!(TARGETS.iter().all(|(target, _)| with_seeds(target)));
    let bytes: usize = kept.iter().map(|seed| seed.bytes.len()).sum();
    assert!(bytes < 1 << 20, "the corpus has {bytes} bytes");
}

#[test]
fn everything_holds_for_the_seeds_and_the_corpus() {
    seeds().iter().chain(&kept()).for_each(run);
}

#[test]
fn everything_holds_for_seeds_that_are_cut_or_changed() {
    for seed in seeds() {
        // The repository's seeds say what to do with it; each takes some milliseconds.
        let step = if seed.target == "repository" { 7 } else { 1 };
        for at in (0..seed.bytes.len().min(400)).step_by(step) {
            let mut bytes = seed.bytes.clone();
            bytes[at] ^= 1 << (at % 8);
            let name = format!("{}, byte {at} changed", seed.name);
            run(&Seed {
                name,
                bytes,
                ..seed
            });
            let bytes = seed.bytes[..at].to_vec();
            let name = format!("{}, cut at {at}", seed.name);
            run(&Seed {
                name,
                bytes,
                ..seed
            });
        }
    }
}
