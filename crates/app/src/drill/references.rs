//! The rows of restored databases held against the restored files.
//!
//! What the snapshot itself said of its references is no news: it is told as a warning.

use std::collections::{BTreeSet, hash_map::RandomState};
use std::fs::{self, File};
use std::hash::BuildHasher;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use lifeboat_codec::Problem;
use lifeboat_postgres::{Connection, Moment, MomentOptions, Rows, Settings};
use sha2::{Digest, Sha256};

use super::{At, Done, Drill, DrilledReferences, Trouble, surroundings};
use crate::config::SourceConfig;
use crate::postgres::names_of;
use crate::references::{Asking, Expected, NoFile, ReferenceCounts, References, Tap};
use crate::sqlite::{AskError, ask};
use crate::text::shown_path;

/// Of files whose hash the app keeps, so many bytes are read again.
const HASHED_BYTES_MAX: u64 = 256 << 20;
/// How soon the wish to stop is noticed.
const SLICE: Duration = Duration::from_millis(50);

impl Drill<'_> {
    /// Compares all columns that name files with the folders that have them.
    pub(super) fn references(&mut self) -> Done<()> {
        let Some(app) = self.app else {
            return Ok(());
        };
        let there = self.names("folder");
        let mut folders = Vec::new();
        for source in &app.sources {
            let SourceConfig::Folder(folder) = source else {
                continue;
            };
            let databases = folder.references.iter().map(|column| &column.source);
            let mut lacking =
                databases.filter(|name| self.restored.iter().all(|one| one.source != **name));
            match lacking.next() {
                _ if !there.contains(&folder.name) => {}
                None => folders.push(folder),
                Some(name) => {
                    let sentence = format!(
                        "{} was not compared with the rows that name its files: {name} is not there to be asked.",
                        folder.name
                    );
                    self.warning(sentence);
                }
            }
        }
        let references: Vec<References<'_>> = folders
            .into_iter()
            .filter_map(|folder| References::of(folder).transpose())
            .collect::<Result<_, _>>()
            .map_err(|error| surroundings(&error))?;
        if references.is_empty() {
            return Ok(());
        }
        let asking = Asking(&references);
        self.step("Reading which files the rows name".to_owned(), |drill| {
            for at in 0..drill.restored.len() {
                drill.ask(at, asking)?;
            }
            Ok(((), "read".to_owned()))
        })?;
        let mut done = Ok(());
        for name in there {
            let Some(expected) = asking.expected(&name) else {
                continue;
            };
            let one = self.step(format!("Comparing {name} with the rows"), |drill| {
                drill.compare_rows(&name, expected)
            });
            done = super::worse(done, one);
        }
        done
    }

    fn ask(&mut self, at: usize, asking: Asking<'_>) -> Done<()> {
        self.going_on()?;
        let restored = &self.restored[at];
        if asking.tables_of(&restored.source).is_empty() {
            return Ok(());
        }
        match &restored.at {
            At::Sqlite(path) => ask(path, &restored.source, asking).map_err(|error| match error {
                AskError::Sqlite(error) => surroundings(&error),
                AskError::Kept(error) => surroundings(&error),
            }),
            At::Postgres(settings) => self.ask_postgres(&restored.source, settings, asking),
        }
    }

    fn ask_postgres(&self, source: &str, settings: &Settings, asking: Asking<'_>) -> Done<()> {
        let moment = Moment::hold(settings, &MomentOptions::default(), self.runtime)
            .map_err(|error| surroundings(&error))?;
        let planned = moment
            .plan_tables(&[], &[])
            .map_err(|error| surroundings(&error))?;
        let mut connection =
            Connection::open(settings, self.runtime).map_err(|error| surroundings(&error))?;
        for part in planned.into_iter().map(|table| table.part) {
            let names = names_of(&moment.facts().tables, &part.schema, &part.name);
            let Some(mut tap) = Tap::new(asking, source, &names, &part.columns, &part.order) else {
                continue;
            };
            // Nobody looks at the digest, so any key is as good.
            let mut rows = Rows::start(&mut connection, &part, &[0; 32]);
            let mut buffer = vec![0; 64 << 10];
            loop {
                while !rows.wait(SLICE) {
                    self.going_on()?;
                }
                match rows.read(&mut buffer) {
                    Ok(0) => break,
                    Ok(count) => tap.feed(&buffer[..count]),
                    Err(error) => return Err(surroundings(&error)),
                }
            }
            rows.finish().map_err(|error| surroundings(&error))?;
            tap.finish().map_err(|error| surroundings(&error))?;
        }
        Ok(())
    }

    fn compare_rows(&mut self, source: &str, expected: Expected<'_>) -> Done<((), String)> {
        let folder = self.scratch.files().join(source);
        let (mut hashable, mut odd) = (0, Vec::new());
        walk(&folder, &mut |path, found| {
            if found.is_file() {
                expected.met(path, found.len());
                if expected
                    .wanted(path)
                    .is_some_and(|wanted| wanted.sha256.is_some())
                {
                    hashable += found.len();
                }
            } else {
                let kind = match found.file_type() {
                    kind if kind.is_dir() => NoFile::Folder,
                    kind if kind.is_symlink() => NoFile::Link,
                    _ => NoFile::Special,
                };
                expected.met_other(&folder, path, kind);
            }
            self.going_on()
        })?;
        let choice = RandomState::new();
        let (stop, mut hashed) = (self.stop, 0);
        walk(&folder, &mut |path, found| {
            if stop.load(std::sync::atomic::Ordering::Relaxed) {
                return Err(Trouble::Stopped);
            }
            // One of another size is told as that, once.
            let wanted = expected
                .wanted(path)
                .filter(|wanted| wanted.size.is_none_or(|size| size == found.len()))
                .and_then(|wanted| wanted.sha256);
            let Some(wanted) =
                wanted.filter(|_| found.is_file() && is_chosen(&choice, path, hashable))
            else {
                return Ok(());
            };
            hashed += 1;
            let file = folder.join(std::ffi::OsStr::from_bytes(path));
            let is = sha256(&file).map_err(|error| surroundings(&error))?;
            if is != wanted {
                odd.push(path.to_vec());
            }
            Ok(())
        })?;
        self.report.files.hashed += hashed;
        let mut failed = !odd.is_empty();
        for path in odd {
            self.problem(format!(
                "the file {source}/{} is not the one that its row names: its SHA-256 is another",
                shown_path(&path)
            ));
        }
        let outcome = expected.finish().map_err(|error| surroundings(&error))?;
        let (known, known_is_all) = self.known(source);
        let mut old = 0_u64;
        for problem in &outcome.problems {
            let lacks = matches!(problem.class.as_str(), "missing" | "differs" | "no-file");
            if known.contains(&(problem.path.clone(), problem.class.clone()))
                || (lacks && !known_is_all)
            {
                old += 1;
                self.warning(format!(
                    "The snapshot said so when it was made: {}.",
                    told(problem)
                ));
            } else {
                failed = true;
                self.problem(told(problem));
            }
        }
        let counts = ReferenceCounts::of(&outcome.facts).unwrap_or_default();
        // Where the snapshot names only the first ones, any of these may be another; the number may not.
        let (now, then) = (counts.lacking(), self.counted(source).lacking());
        if !known_is_all && now > then {
            failed = true;
            self.problem(format!(
                "rows name {now} files that {source} has not as they say, and the snapshot says so of {then}"
            ));
        }
        self.report
            .references
            .push(DrilledReferences::of(source, &counts));
        if failed {
            return Err(Trouble::Backup);
        }
        let known = if old > 0 {
            format!(", but for {old} that the snapshot lists")
        } else {
            String::new()
        };
        Ok((
            (),
            format!(
                "{} paths that rows name are there{known}; {hashed} files were hashed",
                counts.files
            ),
        ))
    }

    /// How the rows and the files of a folder fitted together when the snapshot was made.
    fn counted(&self, source: &str) -> ReferenceCounts {
        let sources = self.manifest.sources.iter();
        let mut own = sources.filter(|record| record.name == source);
        own.find_map(|record| ReferenceCounts::of(&record.facts))
            .unwrap_or_default()
    }

    /// What the snapshot itself lists of a folder, by path and class, and whether it lists all that it found.
    fn known(&self, source: &str) -> (BTreeSet<(Vec<u8>, String)>, bool) {
        let problems = self.manifest.problems.iter();
        let known: BTreeSet<_> = problems
            .filter(|problem| problem.source == source)
            .map(|problem| (problem.path.clone(), problem.class.clone()))
            .collect();
        // What is beyond the list is told in one problem of the folder as a whole.
        let is_all = !known.contains(&(Vec::new(), "missing".to_owned()));
        (known, is_all)
    }
}

fn told(problem: &Problem) -> String {
    let Problem {
        source, path, what, ..
    } = problem;
    if path.is_empty() {
        format!("{source}: {what}")
    } else {
        format!("{source}/{}: {what}", shown_path(path))
    }
}

/// Whether a file is among those that are read again.
fn is_chosen(choice: &RandomState, path: &[u8], bytes: u64) -> bool {
    // One in so many, and all of a few.
    choice
        .hash_one(path)
        .is_multiple_of(bytes.div_ceil(HASHED_BYTES_MAX).max(1))
}

fn sha256(path: &Path) -> std::io::Result<[u8; 32]> {
    let mut file = File::open(path)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hasher.finalize().into()),
            count => hasher.update(&buffer[..count]),
        }
    }
}

/// Visits everything below a folder of our own, by its path in the folder; no link is followed.
fn walk(folder: &Path, each: &mut dyn FnMut(&[u8], &fs::Metadata) -> Done<()>) -> Done<()> {
    let mut folders = vec![folder.to_owned()];
    while let Some(below) = folders.pop() {
        let Ok(entries) = fs::read_dir(&below) else {
            continue;
        };
        for entry in entries {
            let entry = entry.map_err(|error| surroundings(&error))?;
            let found = entry.metadata().map_err(|error| surroundings(&error))?;
            let path = entry.path();
            let inside = path.strip_prefix(folder).unwrap_or(&path);
            each(inside.as_os_str().as_bytes(), &found)?;
            if found.is_dir() {
                folders.push(path);
            }
        }
    }
    Ok(())
}
