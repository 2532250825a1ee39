//! The files that rows name at the moment T, and what the walk of the folder found of them (docs/references.md).
//!
//! Rows pass a [`Tap`] on their way into the repository; their paths go into a file, and 32 bytes of each stay in
//! memory. The walk asks by path. Invariant: a path that a row names is in the end there, carried forward, or told.

mod spill;
mod tap;

use std::{
    collections::{HashMap, hash_map::RandomState},
    ffi::OsStr,
    fs,
    hash::BuildHasher,
    io,
    os::unix::ffi::OsStrExt,
    path::Path,
    sync::{
        Mutex,
        atomic::{AtomicU8, AtomicU64, Ordering},
    },
};

use lifeboat_codec::{EntryTime, Problem};

use self::spill::Spill;
pub(crate) use self::tap::Tap;
use crate::{
    config::{FolderSource, ReferenceColumn},
    text::shown_path,
};

/// Problems that are told word for word; more are counted.
const TOLD_MAX: u64 = 1000;
/// Orphans that are named, and files that were carried forward.
const NAMED_MAX: usize = 20;
/// The fact that names a file that was carried forward.
pub const CARRIED_FILE: &str = "carried";

/// No size is known.
const NO_SIZE: u64 = u64::MAX;

/// What is known of one path at the end.
const MISSING: u8 = 0;
const PRESENT: u8 = 1;
const CARRIED: u8 = 2;
const DIFFERS: u8 = 3;
const FOLDER: u8 = 4;
const LINK: u8 = 5;
const SPECIAL: u8 = 6;
const CARRIED_AGAIN: u8 = 7;

/// What lies at a path and is no regular file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoFile {
    Folder,
    Link,
    /// A pipe, a socket or a device.
    Special,
}

/// What folders want to know of the rows: those to which rows refer.
#[derive(Clone, Copy)]
pub(crate) struct Asking<'a>(pub(crate) &'a [References<'a>]);

impl<'a> Asking<'a> {
    /// The tables of the database `name` to which folders refer, each once.
    pub(crate) fn tables_of(self, name: &str) -> Vec<&'a str> {
        let columns = self
            .0
            .iter()
            .flat_map(|references| references.columns_of(name));
        let mut tables: Vec<&str> = columns.map(|(_, column)| column.table.as_str()).collect();
        tables.sort_unstable();
        tables.dedup();
        tables
    }

    /// What the folder `name` is asked for, once all rows have passed.
    pub(crate) fn expected(self, name: &str) -> Option<Expected<'a>> {
        let mut all = self.0.iter();
        all.find(|references| references.source.name == name)
            .map(References::expect)
    }

    /// The rows are being read as they are at `moment`, or a little later.
    pub(crate) fn taken_at(self, name: &str, moment: EntryTime) {
        for references in self.0 {
            if references.columns_of(name).next().is_some() {
                references.taken_at(moment);
            }
        }
    }
}

/// What rows say of the files of one folder.
pub(crate) struct References<'s> {
    source: &'s FolderSource,
    hashers: [RandomState; 2],
    gathering: Mutex<Gathering>,
}

/// While rows pass.
#[derive(Default)]
struct Gathering {
    named: Vec<Named>,
    spill: Option<Spill>,
    outside: u64,
    problems: Vec<Problem>,
    unasked: u64,
    taken: Option<EntryTime>,
    /// The columns whose table was met.
    met: Vec<bool>,
}

/// One path that a row names.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Named {
    /// Two halves: as one number it would take more room between the others.
    hash: [u64; 2],
    size: u64,
    /// Apart, because few apps keep one.
    sha256: Option<Box<[u8; 32]>>,
}

/// The paths in their order, asked by the walk.
pub(crate) struct Expected<'s> {
    source: &'s FolderSource,
    hashers: [RandomState; 2],
    named: Vec<Named>,
    states: Vec<AtomicU8>,
    spill: Option<Spill>,
    outside: u64,
    problems: Vec<Problem>,
    unasked: u64,
    /// The moment of the database.
    taken: Option<EntryTime>,
    orphans: AtomicU64,
    orphan_bytes: AtomicU64,
    newer: AtomicU64,
    orphan_names: Mutex<Vec<Vec<u8>>>,
    carried_names: Mutex<Vec<Vec<u8>>>,
    /// How large the files are that have another size, by their places; of as many as are told.
    sizes: Mutex<HashMap<usize, u64>>,
}

/// What came of it.
pub(crate) struct Outcome {
    pub(crate) problems: Vec<Problem>,
    /// How many rows name what is not as they say, and what else could not be compared.
    pub(crate) told: u64,
    pub(crate) facts: Vec<(String, String)>,
}

/// How the rows and the files of a folder fit together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReferenceCounts {
    /// Values that name a file.
    pub references: u64,
    /// Distinct paths among them.
    pub files: u64,
    /// Paths at which nothing is.
    pub missing: u64,
    /// Paths at which a file of another size is.
    pub differing: u64,
    /// Paths at which something is that is no file: a folder, or a link that leads to no file in the folder.
    pub no_files: u64,
    /// Files that were taken over from the previous snapshot.
    pub carried_forward: u64,
    /// Those of them that the previous snapshot had not found either: the running app lacks them.
    pub carried_again: u64,
    /// Values that name no path of the folder.
    pub outside: u64,
    /// Files that no row names.
    pub orphans: u64,
    /// Their bytes.
    pub orphan_bytes: u64,
    /// Files that changed after the rows were read.
    pub newer: u64,
    /// Columns that could not be asked, since they or their tables are not there.
    pub unasked: u64,
}

impl ReferenceCounts {
    const NAMES: [&str; 12] = [
        "references",
        "referenced-files",
        "missing",
        "differing",
        "no-files",
        "carried-forward",
        "carried-again",
        "outside",
        "orphans",
        "orphan-bytes",
        "newer",
        "unasked-columns",
    ];

    /// These and those of another folder together.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        Self {
            references: self.references + other.references,
            files: self.files + other.files,
            missing: self.missing + other.missing,
            differing: self.differing + other.differing,
            no_files: self.no_files + other.no_files,
            carried_forward: self.carried_forward + other.carried_forward,
            carried_again: self.carried_again + other.carried_again,
            outside: self.outside + other.outside,
            orphans: self.orphans + other.orphans,
            orphan_bytes: self.orphan_bytes + other.orphan_bytes,
            newer: self.newer + other.newer,
            unasked: self.unasked + other.unasked,
        }
    }

    /// Files that rows name and that a restore will not have as the rows say.
    #[must_use]
    pub fn lacking(&self) -> u64 {
        self.missing + self.differing + self.no_files
    }

    /// Of a source's facts, if rows name its files.
    #[must_use]
    pub fn of(facts: &[(String, String)]) -> Option<Self> {
        let mut counts = [0; Self::NAMES.len()];
        for (count, name) in counts.iter_mut().zip(Self::NAMES) {
            let (_, value) = facts.iter().find(|(known, _)| known == name)?;
            *count = value.parse().ok()?;
        }
        let [
            references,
            files,
            missing,
            differing,
            no_files,
            carried_forward,
            carried_again,
            outside,
            orphans,
            orphan_bytes,
            newer,
            unasked,
        ] = counts;
        Some(Self {
            references,
            files,
            missing,
            differing,
            no_files,
            carried_forward,
            carried_again,
            outside,
            orphans,
            orphan_bytes,
            newer,
            unasked,
        })
    }

    fn facts(self) -> Vec<(String, String)> {
        let counts = [
            self.references,
            self.files,
            self.missing,
            self.differing,
            self.no_files,
            self.carried_forward,
            self.carried_again,
            self.outside,
            self.orphans,
            self.orphan_bytes,
            self.newer,
            self.unasked,
        ];
        Self::NAMES
            .iter()
            .zip(counts)
            .map(|(name, count)| ((*name).to_owned(), count.to_string()))
            .collect()
    }
}

/// What an app knows of a file beside its path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) size: Option<u64>,
    pub(crate) sha256: Option<[u8; 32]>,
}

impl<'s> References<'s> {
    /// For a folder that rows refer to; nothing for any other.
    pub(crate) fn of(source: &'s FolderSource) -> io::Result<Option<Self>> {
        if source.references.is_empty() {
            return Ok(None);
        }
        Ok(Some(Self {
            source,
            hashers: [RandomState::new(), RandomState::new()],
            gathering: Mutex::new(Gathering {
                spill: Some(Spill::new(tempfile::tempfile()?)),
                met: vec![false; source.references.len()],
                ..Gathering::default()
            }),
        }))
    }

    /// The columns that the database `database` has of them, with their numbers.
    fn columns_of(&self, database: &str) -> impl Iterator<Item = (usize, &'s ReferenceColumn)> {
        let columns = self.source.references.iter().enumerate();
        columns.filter(move |(_, column)| column.source == database)
    }

    /// Says that a column that was to name files, or its table, is not there.
    fn lack(&self, what: String) {
        if self.complain(what) {
            self.lock().unasked += 1;
        }
    }

    /// Says what keeps rows from naming files; false when it was said before.
    fn complain(&self, what: String) -> bool {
        let problem = Problem {
            source: self.source.name.clone(),
            path: Vec::new(),
            what,
            class: "reference".to_owned(),
        };
        let mut gathering = self.lock();
        // Each partition of a table has the same to say.
        let is_new = !gathering.problems.contains(&problem);
        if is_new {
            gathering.problems.push(problem);
        }
        is_new
    }

    /// The table of a column is there.
    fn meet(&self, column: usize) {
        self.lock().met[column] = true;
    }

    /// A row names `value`.
    fn name(&self, column: usize, value: &[u8], key: &[u8], wanted: Wanted) -> io::Result<()> {
        let below = self.source.references[column].below.as_deref();
        let path = match path_of(value, below, self.source.path.as_os_str().as_bytes()) {
            Place::Nothing => return Ok(()),
            Place::Outside => {
                let mut gathering = self.lock();
                gathering.outside += 1;
                if gathering.outside <= TOLD_MAX {
                    let what = format!(
                        "row {} of {} names {}, which is no path in this folder",
                        String::from_utf8_lossy(key),
                        self.source.references[column].table,
                        shown_path(value),
                    );
                    drop(gathering);
                    self.complain(what);
                }
                return Ok(());
            }
            Place::Path(path) => path,
        };
        let named = Named {
            hash: hash(&self.hashers, &path),
            size: wanted.size.unwrap_or(NO_SIZE),
            sha256: wanted.sha256.map(Box::new),
        };
        let mut gathering = self.lock();
        gathering.named.push(named);
        match &mut gathering.spill {
            Some(spill) => spill.put(column, key, &path),
            None => Err(io::Error::other("rows came after the folder was read")),
        }
    }

    fn taken_at(&self, moment: EntryTime) {
        let mut gathering = self.lock();
        gathering.taken = Some(gathering.taken.map_or(moment, |other| other.min(moment)));
    }

    /// All rows have passed: from here on the walk asks.
    fn expect(&self) -> Expected<'s> {
        let met = self.lock().met.clone();
        for (column, _) in self
            .source
            .references
            .iter()
            .zip(met)
            .filter(|(_, met)| !met)
        {
            self.lack(format!(
                "no database of this run has rows of {}, which are to name its files",
                column.table
            ));
        }
        let gathering = std::mem::take(&mut *self.lock());
        let mut named = gathering.named;
        named.sort_unstable();
        named.dedup_by_key(|named| named.hash);
        named.shrink_to_fit();
        Expected {
            source: self.source,
            hashers: self.hashers.clone(),
            states: named.iter().map(|_| AtomicU8::new(MISSING)).collect(),
            named,
            spill: gathering.spill,
            outside: gathering.outside,
            problems: gathering.problems,
            unasked: gathering.unasked,
            taken: gathering.taken,
            orphans: AtomicU64::new(0),
            orphan_bytes: AtomicU64::new(0),
            newer: AtomicU64::new(0),
            orphan_names: Mutex::default(),
            carried_names: Mutex::default(),
            sizes: Mutex::default(),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Gathering> {
        self.gathering
            .lock()
            .expect("no thread panics while rows pass")
    }
}

impl Expected<'_> {
    fn find(&self, path: &[u8]) -> Option<usize> {
        let hash = hash(&self.hashers, path);
        self.named
            .binary_search_by_key(&hash, |named| named.hash)
            .ok()
    }

    /// The walk met a file.
    pub(crate) fn met(&self, path: &[u8], size: u64) {
        let Some(at) = self.find(path) else {
            self.orphans.fetch_add(1, Ordering::Relaxed);
            self.orphan_bytes.fetch_add(size, Ordering::Relaxed);
            return note_name(&self.orphan_names, path);
        };
        let wanted = self.named[at].size;
        let state = if wanted == NO_SIZE || wanted == size {
            PRESENT
        } else {
            let mut sizes = self.sizes.lock().expect("no thread panics here");
            if sizes.len() < TOLD_MAX as usize {
                sizes.insert(at, size);
            }
            DIFFERS
        };
        self.states[at].store(state, Ordering::Relaxed);
    }

    /// The walk of the folder `root` met something that is no file. A link counts as the file to which it leads, where a
    /// restore will have both.
    pub(crate) fn met_other(&self, root: &Path, path: &[u8], kind: NoFile) {
        let Some(at) = self.find(path) else {
            return;
        };
        let state = match kind {
            NoFile::Folder => FOLDER,
            NoFile::Special => SPECIAL,
            NoFile::Link => match file_inside(root, path) {
                Some(size) => return self.met(path, size),
                None => LINK,
            },
        };
        self.states[at].store(state, Ordering::Relaxed);
    }

    /// The folder as it is configured, where a backup reads it.
    pub(crate) fn root(&self) -> &Path {
        &self.source.path
    }

    /// What is wanted of a file that is not there, when a row names it.
    pub(crate) fn wanted(&self, path: &[u8]) -> Option<Wanted> {
        let named = &self.named[self.find(path)?];
        Some(Wanted {
            size: (named.size != NO_SIZE).then_some(named.size),
            sha256: named.sha256.as_deref().copied(),
        })
    }

    /// The file was carried forward, `again` when the previous snapshot had it so already.
    pub(crate) fn carried(&self, path: &[u8], again: bool) {
        if let Some(at) = self.find(path) {
            let state = if again { CARRIED_AGAIN } else { CARRIED };
            self.states[at].store(state, Ordering::Relaxed);
            note_name(&self.carried_names, path);
        }
    }

    /// Whether a file with these times is newer than the rows; counts those that are.
    pub(crate) fn is_newer(&self, times: &[EntryTime]) -> bool {
        let newer = self
            .taken
            .is_some_and(|taken| times.iter().any(|time| *time > taken));
        if newer {
            self.newer.fetch_add(1, Ordering::Relaxed);
        }
        newer
    }

    /// The walk is done: what lacks is told, with the row that names it.
    pub(crate) fn finish(self) -> io::Result<Outcome> {
        let state = |at: usize| self.states[at].load(Ordering::Relaxed);
        let count = |wanted: u8| {
            (0..self.states.len())
                .filter(|at| state(*at) == wanted)
                .count() as u64
        };
        let (missing, differing) = (count(MISSING), count(DIFFERS));
        let no_files = count(FOLDER) + count(LINK) + count(SPECIAL);
        let (carried, again) = (count(CARRIED), count(CARRIED_AGAIN));
        let files = self.named.len() as u64;
        let mut problems = self.problems;
        let others = problems.len() as u64;
        let (mut values, mut told) = (0_u64, 0_u64);
        let sizes = self.sizes.into_inner().expect("no thread panics here");
        let (named, hashers, source) = (&self.named, &self.hashers, self.source);
        let each = |column: usize, key: &[u8], path: &[u8]| {
            values += 1;
            let hash = hash(hashers, path);
            let Ok(at) = named.binary_search_by_key(&hash, |named| named.hash) else {
                return;
            };
            let table = source
                .references
                .get(column)
                .map_or("a table", |column| column.table.as_str());
            let key = String::from_utf8_lossy(key);
            let (class, what) = match self.states[at].load(Ordering::Relaxed) {
                MISSING => (
                    "missing",
                    format!("row {key} of {table} names it, and it is not there"),
                ),
                DIFFERS => (
                    "differs",
                    format!(
                        "row {key} of {table} says that it has {} bytes, and it has {}",
                        named[at].size,
                        sizes
                            .get(&at)
                            .map_or_else(|| "not".to_owned(), u64::to_string),
                    ),
                ),
                FOLDER => (
                    "no-file",
                    format!("row {key} of {table} names it, and it is a folder, not a file"),
                ),
                LINK => (
                    "no-file",
                    format!(
                        "row {key} of {table} names it, and it is a symbolic link that leads to no file in this folder"
                    ),
                ),
                SPECIAL => (
                    "no-file",
                    format!("row {key} of {table} names it, and it is no regular file"),
                ),
                _ => return,
            };
            told += 1;
            if told <= TOLD_MAX {
                problems.push(Problem {
                    source: source.name.clone(),
                    path: path.to_vec(),
                    what,
                    class: class.to_owned(),
                });
            }
        };
        self.spill.map_or(Ok(()), |spill| spill.read(each))?;
        if told > TOLD_MAX {
            problems.push(Problem {
                source: source.name.clone(),
                path: Vec::new(),
                what: format!(
                    "{} more rows name what is not there, differs or is no file",
                    told - TOLD_MAX
                ),
                class: "missing".to_owned(),
            });
        }
        let counts = ReferenceCounts {
            references: values,
            files,
            missing,
            differing,
            no_files,
            carried_forward: carried + again,
            carried_again: again,
            outside: self.outside,
            orphans: self.orphans.into_inner(),
            orphan_bytes: self.orphan_bytes.into_inner(),
            newer: self.newer.into_inner(),
            unasked: self.unasked,
        };
        let mut facts = counts.facts();
        for (fact, names) in [
            ("orphan", self.orphan_names),
            (CARRIED_FILE, self.carried_names),
        ] {
            let mut names = names.into_inner().expect("no thread panics here");
            names.sort();
            let named = names.iter().map(|name| (fact.to_owned(), shown_path(name)));
            facts.extend(named);
        }
        Ok(Outcome {
            problems,
            told: told + others,
            facts,
        })
    }
}

/// Keeps the first names.
fn note_name(names: &Mutex<Vec<Vec<u8>>>, path: &[u8]) {
    let mut names = names.lock().expect("no thread panics here");
    if names.len() < NAMED_MAX {
        names.push(path.to_vec());
    }
}

/// 128 bits of a path, by keys that nobody knows: nobody can make two paths meet.
fn hash(hashers: &[RandomState; 2], path: &[u8]) -> [u64; 2] {
    [&hashers[0], &hashers[1]].map(|hasher| hasher.hash_one(path))
}

/// The size of the file to which the link `path` leads, where that is in the folder `root` wherever that is restored.
fn file_inside(root: &Path, path: &[u8]) -> Option<u64> {
    let link = root.join(OsStr::from_bytes(path));
    // An absolute one leads to the old place out of a restore into a new one.
    if fs::read_link(&link).ok()?.is_absolute() {
        return None;
    }
    let file = link.canonicalize().ok()?;
    let found = file.symlink_metadata().ok()?;
    (found.is_file() && file.starts_with(root.canonicalize().ok()?)).then_some(found.len())
}

/// The path in the folder that a value of one of its columns means; `None` when it names none of its files.
pub(crate) fn path_named(
    source: &FolderSource,
    column: &ReferenceColumn,
    value: &[u8],
) -> Option<Vec<u8>> {
    let root = source.path.as_os_str().as_bytes();
    match path_of(value, column.below.as_deref(), root) {
        Place::Path(path) => Some(path),
        Place::Nothing | Place::Outside => None,
    }
}

/// What a value is for a folder.
#[derive(Debug, PartialEq, Eq)]
enum Place {
    /// No file at all.
    Nothing,
    /// A file, by its path in the folder.
    Path(Vec<u8>),
    /// Something that is not in the folder.
    Outside,
}

/// The path in the folder `root` that `value` means.
fn path_of(value: &[u8], below: Option<&str>, root: &[u8]) -> Place {
    if value.is_empty() {
        return Place::Nothing;
    }
    let below = below.unwrap_or_default().as_bytes();
    let rest = value.strip_prefix(below).unwrap_or(value);
    let rest = match rest.strip_prefix(root) {
        Some(inside)
            if !root.is_empty() && (inside.first() == Some(&b'/') || root.ends_with(b"/")) =>
        {
            inside
        }
        _ => rest,
    };
    let mut path = Vec::with_capacity(rest.len());
    for part in rest.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => return Place::Outside,
            part => {
                if !path.is_empty() {
                    path.push(b'/');
                }
                path.extend_from_slice(part);
            }
        }
    }
    if path.is_empty() || path.contains(&0) {
        return Place::Outside;
    }
    Place::Path(path)
}

/// A number of bytes as a database writes it.
fn size_of(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// A SHA-256 as a database writes it: hexadecimal, as text or as bytes.
fn sha256_of(text: &[u8]) -> Option<[u8; 32]> {
    let text = text.strip_prefix(b"\\x").unwrap_or(text);
    let mut hash = [0; 32];
    if text.len() != 2 * hash.len() {
        return None;
    }
    for (byte, digits) in hash.iter_mut().zip(text.chunks_exact(2)) {
        let digits = std::str::from_utf8(digits).ok()?;
        *byte = u8::from_str_radix(digits, 16).ok()?;
    }
    Some(hash)
}

#[cfg(test)]
mod tests;
