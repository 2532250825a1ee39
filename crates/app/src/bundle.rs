//! Files that hold others, taken apart: what is in them is stored as if it lay in a folder, and so that the file comes back byte
//! for byte (`docs/format.md` §7).
//!
//! Invariant: the parts of a bundle make, one behind the other, exactly the bytes that were read. What is taken apart is proven
//! by making it again before it counts, and everything that is not understood is a part as it is. So there is no error but those
//! of the source and the repository, and a bundle needs to be read only once, from its first byte to its last.

mod corrections;
mod deflate;
mod gzip;
mod inflate;
mod input;
mod parts;
mod rebuild;
mod tar;
mod text;
mod zip;
#[cfg(test)]
mod tests;

use std::io::Read;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex};

use lifeboat_codec::Profile;
use lifeboat_repository::{Lane, Reader, WriteError};

use self::input::Input;
use self::parts::{EarlierParts, Parts};
pub use self::rebuild::copy_content;
use crate::entry::{FileContent, Stored, only_chunk};

/// Bundles lie in each other so deep; what lies deeper is stored as it is.
const DEPTH_MAX: usize = 4;
/// A file with fewer bytes is not looked into: what it holds takes hardly less room.
pub(crate) const BUNDLE_MIN_BYTES: usize = 64 << 10;
/// Bundles that are worked on at once: each takes some 25 MB of memory.
const AT_ONCE: usize = 2;

/// What a source's bundles came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BundleCounts {
    /// Files that were taken apart.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Bytes of text of the deflate streams in them.
    pub text_bytes: u64,
    /// How long it took to take these apart and to prove them, all workers together, in milliseconds.
    pub elapsed_ms: u64,
}

const FACTS: [&str; 4] = [
    "bundles",
    "bundle-bytes",
    "bundle-text-bytes",
    "bundle-milliseconds",
];

impl BundleCounts {
    /// What the facts of a source say; `None` where it had no bundles.
    #[must_use]
    pub fn of(facts: &[(String, String)]) -> Option<Self> {
        let [files, bytes, text_bytes, elapsed_ms] = FACTS.map(|name| {
            let fact = facts.iter().find(|(fact, _)| fact == name);
            fact.and_then(|(_, value)| value.parse().ok())
        });
        Some(Self {
            files: files?,
            bytes: bytes?,
            text_bytes: text_bytes?,
            elapsed_ms: elapsed_ms?,
        })
    }

    fn facts(self) -> impl Iterator<Item = (String, String)> {
        let values = [self.files, self.bytes, self.text_bytes, self.elapsed_ms];
        let named = FACTS.into_iter().zip(values);
        named.map(|(name, value)| (name.to_owned(), value.to_string()))
    }
}

/// The bundles of one source, while they are taken apart.
pub(crate) struct Bundles {
    wanted: bool,
    at_once: Mutex<usize>,
    free: Condvar,
    files: AtomicU64,
    bytes: AtomicU64,
    text_bytes: AtomicU64,
    elapsed_us: AtomicU64,
}

impl Bundles {
    /// For a source whose bundles are taken apart if that is `wanted`.
    pub(crate) fn new(wanted: bool) -> Self {
        Self {
            wanted,
            at_once: Mutex::new(0),
            free: Condvar::new(),
            files: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            text_bytes: AtomicU64::new(0),
            elapsed_us: AtomicU64::new(0),
        }
    }

    /// What a source's record says of its bundles; nothing where it has none.
    pub(crate) fn facts(&self) -> Vec<(String, String)> {
        let counts = BundleCounts {
            files: self.files.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
            text_bytes: self.text_bytes.load(Ordering::Relaxed),
            elapsed_ms: self.elapsed_us.load(Ordering::Relaxed) / 1000,
        };
        if counts.files == 0 {
            return Vec::new();
        }
        counts.facts().collect()
    }

    /// Whether a file that begins so may be a bundle.
    pub(crate) fn may_be(&self, head: &[u8]) -> bool {
        self.wanted && kind_of(head).is_some()
    }

    /// Waits until there is room for one more, which has it until it drops this.
    fn enter(&self) -> Entered<'_> {
        let mut count = self
            .at_once
            .lock()
            .expect("no thread panics while it counts");
        while *count >= AT_ONCE {
            count = self
                .free
                .wait(count)
                .expect("no thread panics while it counts");
        }
        *count += 1;
        Entered(self)
    }
}

struct Entered<'b>(&'b Bundles);

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        *self
            .0
            .at_once
            .lock()
            .expect("no thread panics while it counts") -= 1;
        self.0.free.notify_one();
    }
}

/// What a file holds others by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum BundleKind {
    Gzip,
    Zip,
    Tar,
}

/// How many bytes of its beginning tell what a file is.
pub(crate) const HEAD_BYTES: usize = tar::BLOCK_BYTES;

fn kind_of(head: &[u8]) -> Option<BundleKind> {
    if head.starts_with(&gzip::MAGIC) {
        Some(BundleKind::Gzip)
    } else if head.starts_with(&zip::MEMBER) {
        Some(BundleKind::Zip)
    } else if tar::is_header(head) {
        Some(BundleKind::Tar)
    } else {
        None
    }
}

/// What was stored, and how many bytes it gives back.
struct Whole {
    stored: Stored,
    length: u64,
}

/// Stores a stream of any length, taken apart where it is a bundle. `earlier` is what it was in an earlier snapshot, which
/// `reader` reads. Returns how it is stored and how long it was.
///
/// # Errors
/// As those of [`Lane::put_stream`].
pub(crate) fn put_content(
    lane: &mut Lane<'_, '_>,
    profile: Profile,
    bundles: &Bundles,
    (reader, earlier): (Option<&Reader<'_>>, Option<&FileContent>),
    source: &mut dyn Read,
) -> Result<(Stored, u64), WriteError> {
    let mut input = Input::new(source);
    let mut taker = Taker {
        lane,
        bundles,
        reader,
    };
    let whole = if bundles.wanted {
        taker.content(&mut input, profile, earlier.cloned(), 0)?
    } else {
        taker.plain(&mut input, profile, earlier.cloned())?
    };
    Ok((whole.stored, whole.length))
}

/// One worker that takes a bundle apart.
struct Taker<'t, 'w, 'r> {
    lane: &'t mut Lane<'w, 'r>,
    bundles: &'t Bundles,
    reader: Option<&'t Reader<'t>>,
}

impl Taker<'_, '_, '_> {
    /// Stores all that is left of the input.
    fn content(
        &mut self,
        input: &mut Input<'_>,
        profile: Profile,
        earlier: Option<FileContent>,
        depth: usize,
    ) -> Result<Whole, WriteError> {
        // Small parts are put without a look at it.
        if self.lane.writer().stopped() {
            return Err(WriteError::Stopped);
        }
        input.fill(BUNDLE_MIN_BYTES)?;
        let is_large = input.held().len() >= BUNDLE_MIN_BYTES;
        let kind = kind_of(input.held()).filter(|_| is_large && depth < DEPTH_MAX);
        let Some(kind) = kind else {
            return self.plain(input, profile, earlier);
        };
        let _entered = (depth == 0).then(|| self.bundles.enter());
        let of_parts = EarlierParts::read(self.reader, earlier.as_ref());
        let mut parts = Parts::new(of_parts);
        match kind {
            BundleKind::Gzip => self.gzip(input, &mut parts, profile, depth)?,
            BundleKind::Zip => self.zip(input, &mut parts, depth)?,
            BundleKind::Tar => self.tar(input, &mut parts, depth)?,
        }
        if parts.is_empty() {
            let mut whole = parts.into_frame()?.chain(input);
            return self.plain(&mut Input::new(&mut whole), profile, earlier);
        }
        self.rest(input, &mut parts, profile)?;
        let whole = parts.close(self)?;
        if depth == 0 {
            self.bundles.files.fetch_add(1, Ordering::Relaxed);
            self.bundles
                .bytes
                .fetch_add(whole.length, Ordering::Relaxed);
        }
        Ok(whole)
    }

    /// Stores all that is left of the input as it is.
    fn plain(
        &mut self,
        input: &mut Input<'_>,
        profile: Profile,
        earlier: Option<FileContent>,
    ) -> Result<Whole, WriteError> {
        let earlier = earlier.and_then(FileContent::stream);
        let least = profile.min_bytes();
        input.fill(least + 1)?;
        if input.held().len() > least {
            let stream = self.lane.put_stream(profile, earlier.as_ref(), input)?;
            return Ok(Whole {
                stored: Stored::of(&stream),
                length: stream.length,
            });
        }
        let held = input.take_held();
        let before = earlier.as_ref().and_then(only_chunk);
        let put = |room: &mut [u8]| -> Result<usize, WriteError> {
            room[..held.len()].copy_from_slice(&held);
            Ok(held.len())
        };
        let item = self.lane.put_small(profile, held.len(), before, put)?;
        Ok(Whole {
            stored: item.map_or(Stored::Empty, |item| Stored::Chunk(item.id)),
            length: held.len() as u64,
        })
    }

    /// Stores what is left behind the last part that is understood.
    fn rest(
        &mut self,
        input: &mut Input<'_>,
        parts: &mut Parts,
        profile: Profile,
    ) -> Result<(), WriteError> {
        if !parts.lead_to_end(input)? {
            let whole = self.plain(input, profile, None)?;
            parts.put_plain(&whole, b"")?;
        }
        Ok(())
    }
}

/// What bytes of a stream that was packed are stored as: text has no zeros, and is cut finer.
fn profile_of(text: &[u8], otherwise: Profile) -> Profile {
    if text.is_empty() || text.contains(&0) {
        otherwise
    } else {
        Profile::Database
    }
}
