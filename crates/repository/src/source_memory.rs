//! What a run over a source leaves for the next one: pieces and a last word, in the local cache.
//!
//! Invariant: nothing of a run counts until it ended well, and what counts is there as it was left, or not at all. What
//! lacks only takes longer.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::basis::Basis;
use crate::cache::PieceRun;
use crate::repository::Repository;

/// What the last run over a source left.
pub struct SourceMemory {
    run: PieceRun,
    /// What that run rested on.
    pub basis: Basis,
    /// Its last word.
    pub word: Vec<u8>,
}

/// What this run over a source leaves.
pub struct NewMemory {
    /// `None` without a cache: then nothing is left.
    run: Option<PieceRun>,
    key: String,
    /// A piece could not be kept.
    is_broken: AtomicBool,
}

impl Repository {
    /// What the last run over `app`'s source left for this one; `None` means only that it takes longer.
    #[must_use]
    pub fn source_memory(&self, app: &str, source: &str) -> Option<SourceMemory> {
        let (run, word) = self.cache.source(&key(app, source))?;
        let (basis, word) = Basis::decode(&word)?;
        let word = word.to_vec();
        Some(SourceMemory { run, basis, word })
    }

    /// The piece of this number that the last run left.
    #[must_use]
    pub fn source_piece(&self, memory: &SourceMemory, number: u32) -> Option<Vec<u8>> {
        self.cache.piece(memory.run, number)
    }

    /// Begins to leave something for the next run over `app`'s source.
    #[must_use]
    pub fn new_memory(&self, app: &str, source: &str) -> NewMemory {
        let key = key(app, source);
        NewMemory {
            run: self.cache.begin_source(&key, self.random()),
            key,
            is_broken: AtomicBool::new(false),
        }
    }

    /// Leaves a piece under a number that no other has.
    pub fn keep_piece(&self, memory: &NewMemory, number: u32, piece: Vec<u8>) {
        if let Some(run) = memory.run
            && !self.cache.keep_piece(run, number, piece)
        {
            memory.is_broken.store(true, Ordering::Relaxed);
        }
    }

    /// The run ended well: its pieces, if all could be kept, and its last word are for the next one. It rests on `basis`.
    pub fn remember_source(&self, memory: &NewMemory, basis: &Basis, word: &[u8]) {
        if let Some(run) = memory.run
            && !memory.is_broken.load(Ordering::Relaxed)
        {
            let word = [&basis.encode(), word].concat();
            self.cache.keep_source(&memory.key, run, &word);
        }
    }
}

fn key(app: &str, source: &str) -> String {
    format!("{app}\0{source}")
}
