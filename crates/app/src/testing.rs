//! What the tests of this crate share: a backup to ask for, and someone who watches and adds up what is told.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

use lifeboat_repository::{Counter, NewSecret, Progress, Repository, Surroundings};
use lifeboat_store::{MemoryStore, Store};

use crate::backup::BackupRequest;
use crate::config::FolderSource;
use crate::source::Source;

/// A backup of the folder at `path` as the source `media` of the app `shop`, by so many workers.
pub(crate) fn request(path: &Path, threads: usize) -> BackupRequest {
    BackupRequest {
        app: "shop".to_owned(),
        sources: vec![Source::Folder(FolderSource {
            name: "media".to_owned(),
            path: path.to_owned(),
            exclude: Vec::new(),
            one_file_system: false,
            exclude_caches: false,
            references: Vec::new(),
            bundles: true,
        })],
        tags: Vec::new(),
        exclude: Vec::new(),
        bundles: true,
        time_zone: "UTC".to_owned(),
        threads,
        skip: Vec::new(),
        secrets: Vec::new(),
    }
}

/// Adds up what it is told, and remembers how often.
#[derive(Default)]
pub(crate) struct Watcher {
    told: Mutex<HashMap<Counter, Vec<u64>>>,
}

impl Watcher {
    /// The sum of what was told of `counter`.
    pub(crate) fn sum(&self, counter: Counter) -> u64 {
        self.amounts(counter).iter().sum()
    }

    /// What was told of `counter`, one amount for each time.
    pub(crate) fn amounts(&self, counter: Counter) -> Vec<u64> {
        let told = self.told.lock().unwrap();
        told.get(&counter).cloned().unwrap_or_default()
    }
}

impl Progress for Watcher {
    fn phase(&self, _what: &str) {}

    fn expect(&self, _counter: Counter, _amount: u64) {}

    fn count(&self, counter: Counter, amount: u64) {
        let mut told = self.told.lock().unwrap();
        told.entry(counter).or_default().push(amount);
    }

    fn problem(&self, what: &str) {
        panic!("nothing is wrong, but it was told: {what}");
    }
}

/// An empty repository in memory, and the folder that its state lies in.
pub(crate) fn memory_repository() -> (tempfile::TempDir, Repository) {
    let scratch = tempfile::tempdir().unwrap();
    let surroundings = Surroundings::system(None, scratch.path().join("state"));
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let created = Repository::create(store, &[NewSecret::KeyFile], surroundings).unwrap();
    (scratch, created.repository)
}
