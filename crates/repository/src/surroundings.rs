//! Clock, randomness and local folders, given in so that a simulation can replay a run.

use std::path::PathBuf;
use std::sync::Mutex;
use std::time::{SystemTime, UNIX_EPOCH};

use lifeboat_codec::Entropy;

/// The operating system's randomness, drawn in larger pieces.
#[derive(Debug)]
pub struct SystemEntropy {
    buffer: [u8; 256],
    used: usize,
}

impl Default for SystemEntropy {
    fn default() -> Self {
        Self {
            buffer: [0; 256],
            used: 256,
        }
    }
}

impl Entropy for SystemEntropy {
    fn fill(&mut self, out: &mut [u8]) {
        if out.len() > self.buffer.len() {
            getrandom::fill(out).expect("the operating system has randomness");
            return;
        }
        if self.buffer.len() - self.used < out.len() {
            getrandom::fill(&mut self.buffer).expect("the operating system has randomness");
            self.used = 0;
        }
        let end = self.used + out.len();
        out.copy_from_slice(&self.buffer[self.used..end]);
        // What was handed out must not be found in memory later.
        self.buffer[self.used..end].fill(0);
        self.used = end;
    }
}

/// What a repository needs from its machine.
pub struct Surroundings {
    /// Unix milliseconds.
    pub now_ms: Box<dyn Fn() -> u64 + Send + Sync>,
    /// Randomness.
    pub entropy: Mutex<Box<dyn Entropy + Send>>,
    /// Folder for what can be rebuilt; `None` = keep nothing.
    pub cache: Option<PathBuf>,
    /// Folder for what must not be lost: the writer's key, anchors.
    pub state: PathBuf,
}

impl Surroundings {
    /// The real clock and randomness, with these local folders.
    #[must_use]
    pub fn system(cache: Option<PathBuf>, state: PathBuf) -> Self {
        let now = || {
            SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |since| since.as_millis() as u64)
        };
        Self {
            now_ms: Box::new(now),
            entropy: Mutex::new(Box::<SystemEntropy>::default()),
            cache,
            state,
        }
    }

    /// Uses the randomness for a moment.
    pub fn with_entropy<T>(&self, work: impl FnOnce(&mut dyn Entropy) -> T) -> T {
        let mut entropy = self
            .entropy
            .lock()
            .expect("no thread panics while it draws randomness");
        work(entropy.as_mut())
    }
}
