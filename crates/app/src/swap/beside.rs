//! Restores an app's databases and folders beside those that are there.
//!
//! Invariant: nothing that was there before is touched. What is restored here counts only when all of it came as it was:
//! a single problem ends it.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use lifeboat_files::{HeldFolder, Overwrite, standing};
use lifeboat_postgres::{Connection as Session, InPlace, to_database};
use lifeboat_repository::{Progress, Repository, Snapshot};
use rusqlite::{Connection, OpenFlags};

use super::SwapError;
use super::journal::{ContentItem, Journal, PlaceKind};
use super::migrations::{self, Applied, Migrations, of_sqlite};
use super::place::{PlaceError, SIDECARS, inode_at, with_ending};
use super::plan::{PlannedTarget, Seat, SwapPlan, TargetKind};
use super::settle::{UNPACKED, Ways};
use crate::database::{DatabaseRequest, restore_database};
use crate::restore::{RestoreRequest, restore};

/// The restore of one swap.
pub(super) struct Beside<'a> {
    pub(super) repository: &'a Repository,
    pub(super) snapshot: &'a Snapshot,
    pub(super) ways: Ways<'a>,
    /// Connections at once for each database; `None` for as many as suit.
    pub(super) jobs: Option<u32>,
    pub(super) progress: &'a dyn Progress,
    pub(super) stop: &'a AtomicBool,
    /// The database that stays, while its new content is in a transaction.
    pub(super) content: Option<(&'a ContentItem, &'a InPlace<'a>)>,
}

impl Beside<'_> {
    /// Restores everything of the plan, and writes into the journal what it became. Gives sentences about what could not
    /// be set.
    pub(super) fn all(
        &self,
        plan: &SwapPlan,
        journal: &mut Journal,
    ) -> Result<Vec<String>, SwapError> {
        let mut warnings = Vec::new();
        for item in &mut journal.databases {
            let source = self.ways.source(&item.source)?;
            let (text, settings) = self.ways.settings(source)?;
            let request = DatabaseRequest {
                source: Some(item.source.clone()),
                to: to_database(text, &settings, &item.new)?.to_string(),
                jobs: self.jobs,
                ..DatabaseRequest::default()
            };
            let report = restore_database(
                self.repository,
                self.snapshot,
                &request,
                self.progress,
                self.stop,
                self.ways.runtime,
            )?;
            let about = |warning: String| format!("{}: {warning}", item.source);
            warnings.extend(report.warnings.into_iter().map(about));
            let swapper = lifeboat_postgres::Swapper::open(
                &settings,
                &[&item.live, &item.new],
                self.ways.runtime,
            )?;
            item.new_oid = swapper.named(&item.new)?.map(|database| database.oid);
        }
        for place in journal.places.iter().filter(|place| place.inside) {
            place.make_holder()?;
        }
        for target in &plan.targets {
            match &target.seat {
                Seat::Database(_) | Seat::Content(_) => {}
                Seat::Place(item) => self.place(target, &item.new, item.kind)?,
                Seat::Inside { kind, .. } => {
                    let path = new_path(target, journal);
                    let path = path.expect("the plan has a seat for what it lies in");
                    self.place(target, &path, *kind)?;
                }
            }
        }
        for place in journal.places.iter_mut().filter(|place| !place.inside) {
            place.new_inode = inode_at(&place.new).map_err(PlaceError::from)?;
        }
        Ok(warnings)
    }

    /// A folder or an SQLite database at `path`; over what another source has put there, where it lies inside of that one.
    /// Others may write into the folders on the way: what stands there is never taken for our own.
    fn place(&self, target: &PlannedTarget, path: &Path, kind: PlaceKind) -> Result<(), SwapError> {
        let is_inside = matches!(target.seat, Seat::Inside { .. });
        let at = |source| SwapError::Unpack {
            path: path.to_owned(),
            source,
        };
        let foreign = || SwapError::from(PlaceError::Foreign(path.to_owned()));
        if kind == PlaceKind::Folder {
            return match standing(path).map_err(PlaceError::from)? {
                None => self.folder(&target.source, path, false),
                Some(_) if is_inside => {
                    let held = HeldFolder::open(path).map_err(PlaceError::from)?;
                    self.folder(&target.source, held.path(), true)
                }
                Some(_) => Err(foreign()),
            };
        }
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(foreign());
        };
        fs::create_dir_all(parent).map_err(at)?;
        let parent = HeldFolder::open(parent).map_err(PlaceError::from)?;
        let whole = parent.path().join(name);
        let unpacked = with_ending(&whole, UNPACKED);
        let is_free = |path: &Path| path.symlink_metadata().is_err();
        if !is_free(&unpacked) || !(is_inside || is_free(&whole)) {
            return Err(foreign());
        }
        self.folder(&target.source, &unpacked, false)?;
        let folder = unpacked.file_name().unwrap_or_default();
        let folder = parent.child(folder).map_err(PlaceError::from)?;
        let mut entries = fs::read_dir(folder.path()).map_err(at)?;
        let only = entries.next().transpose().map_err(at)?;
        let Some(only) = only.filter(|_| entries.next().is_none()) else {
            return Err(SwapError::NotOneFile(target.source.clone()));
        };
        // A copy of the running one may have come with the folder around it.
        for ending in SIDECARS.into_iter().chain([""]) {
            match fs::remove_file(with_ending(&whole, ending)) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(at(error));
                }
                _ => {}
            }
        }
        fs::rename(only.path(), &whole).map_err(at)?;
        fs::remove_dir(&unpacked).map_err(at)?;
        self.progress
            .phase(&format!("Checking the SQLite database {}", target.source));
        let found: Result<String, rusqlite::Error> = read_only(path).and_then(|database| {
            database.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))
        });
        match found {
            Ok(found) if found == "ok" => Ok(()),
            Ok(found) => Err(SwapError::Damaged {
                source_name: target.source.clone(),
                found,
            }),
            Err(error) => Err(SwapError::Damaged {
                source_name: target.source.clone(),
                found: error.to_string(),
            }),
        }
    }

    /// A folder at `path`, where something stands if `is_there`: what the snapshot does not have goes then.
    fn folder(&self, source: &str, path: &Path, is_there: bool) -> Result<(), SwapError> {
        self.progress.phase(&format!("Restoring {source}"));
        let request = RestoreRequest {
            paths: vec![source.as_bytes().to_vec()],
            target: path.to_owned(),
            tree: false,
            overwrite: if is_there {
                Overwrite::Always
            } else {
                Overwrite::Never
            },
            exact: is_there,
            owner: None,
            numeric_ids: false,
            devices: false,
            // They go where they were.
            with_secrets: true,
            sparse: true,
            durable: true,
            dry_run: false,
        };
        let outcome = restore(
            self.repository,
            self.snapshot,
            &request,
            self.progress,
            self.stop,
        )?;
        let problems = outcome.problems.len() as u64 + outcome.more_problems;
        if outcome.full {
            return Err(SwapError::Full(path.to_owned()));
        }
        if problems > 0 {
            return Err(SwapError::Problems {
                source_name: source.to_owned(),
                problems,
            });
        }
        Ok(())
    }

    /// How the restored databases stand to those that they replace.
    pub(super) fn migrations(
        &self,
        plan: &SwapPlan,
        journal: &Journal,
    ) -> Result<Vec<Migrations>, SwapError> {
        let mut found = Vec::new();
        for item in &journal.databases {
            if item.old_oid.is_none() {
                continue;
            }
            let (_, settings) = self.ways.settings(self.ways.source(&item.source)?)?;
            let applied = |database: &str| -> Result<Applied, SwapError> {
                let settings = settings.with_database(database);
                let session = Session::open(&settings, self.ways.runtime)
                    .map_err(lifeboat_postgres::SwapError::from)?;
                migrations::of_postgres(&session)
            };
            let pair = (applied(&item.new)?, applied(&item.live)?);
            found.extend(migrations::compare(&item.source, &pair.0, &pair.1));
        }
        for target in &plan.targets {
            let Some((new, live)) = sqlite_paths(target, journal) else {
                continue;
            };
            // What is there may be why it is replaced.
            if let (Ok(new), Ok(live)) = (of_sqlite(&new, true), of_sqlite(&live, false)) {
                found.extend(migrations::compare(&target.source, &new, &live));
            }
        }
        Ok(found)
    }
}

/// Where the restored SQLite database of a target is, and the one that is there.
fn sqlite_paths(target: &PlannedTarget, journal: &Journal) -> Option<(PathBuf, PathBuf)> {
    let is_replaced = target.exists && target.kind == TargetKind::Sqlite;
    let new = new_path(target, journal).filter(|_| is_replaced)?;
    match &target.seat {
        Seat::Place(item) => Some((new, item.live.clone())),
        Seat::Inside { live, .. } => Some((new, live.clone())),
        Seat::Database(_) | Seat::Content(_) => None,
    }
}

/// Where a target that is a folder or a file is restored to.
pub(super) fn new_path(target: &PlannedTarget, journal: &Journal) -> Option<PathBuf> {
    match &target.seat {
        Seat::Place(item) => Some(item.new.clone()),
        Seat::Inside { outer, below, .. } => {
            let outer = journal.places.iter().find(|place| place.live == *outer)?;
            Some(outer.new.join(below))
        }
        Seat::Database(_) | Seat::Content(_) => None,
    }
}

/// A database that nobody writes to. Nothing is made beside it.
pub(super) fn read_only(path: &Path) -> rusqlite::Result<Connection> {
    let mut uri = String::from("file:");
    for byte in std::os::unix::ffi::OsStrExt::as_bytes(OsStr::new(path)) {
        match byte {
            b'/' | b'.' | b'-' | b'_' => uri.push(char::from(*byte)),
            byte if byte.is_ascii_alphanumeric() => uri.push(char::from(*byte)),
            byte => uri.push_str(&format!("%{byte:02X}")),
        }
    }
    uri.push_str("?immutable=1");
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
    Connection::open_with_flags(uri, flags)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::sync::Arc;

    use lifeboat_repository::{NewSecret, Silent, Surroundings};
    use lifeboat_store::MemoryStore;

    use super::super::plan::{SwapRequest, plan_swap};
    use super::*;
    use crate::backup::backup;
    use crate::config::{AppConfig, DrillConfig, SourceConfig};
    use crate::source::Source;
    use crate::testing::request;

    /// Whoever may write into the folder around the app's can put something where the restored one is to be made.
    #[test]
    fn what_stands_where_a_folder_is_restored_to_is_neither_filled_nor_emptied() {
        let scratch = tempfile::tempdir().unwrap();
        let whole = scratch.path().canonicalize().unwrap();
        let media = whole.join("media");
        fs::create_dir(&media).unwrap();
        fs::write(media.join("file"), "x").unwrap();
        let surroundings = Surroundings::system(None, whole.join("state"));
        let store = Arc::new(MemoryStore::new());
        let created = Repository::create(store, &[NewSecret::KeyFile], surroundings);
        let mut repository = created.unwrap().repository;
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let (stop, request) = (AtomicBool::new(false), request(&media, 1));
        backup(&mut repository, &request, &Silent, &stop, runtime.handle()).unwrap();
        let Source::Folder(source) = request.sources[0].clone() else {
            panic!("the backup is of a folder");
        };
        let app = AppConfig {
            name: "shop".to_owned(),
            time_zone: None,
            sources: vec![SourceConfig::Folder(source)],
            drill: DrillConfig::default(),
        };
        let snapshot = repository.snapshots().unwrap().snapshots.remove(0);
        let request = SwapRequest {
            app: &app,
            admin: None,
            in_place: None,
            keep_out: Vec::new(),
        };
        let runtime = runtime.handle();
        let plan = plan_swap(&repository, &snapshot, &request, &stop, runtime).unwrap();
        let beside = Beside {
            repository: &repository,
            snapshot: &snapshot,
            ways: Ways {
                app: &app,
                admin: None,
                runtime,
            },
            jobs: None,
            progress: &Silent,
            stop: &stop,
            content: None,
        };
        let Seat::Place(item) = &plan.targets[0].seat else {
            panic!("a folder has a place");
        };
        let foreign = whole.join("foreign");
        fs::create_dir(&foreign).unwrap();
        fs::write(foreign.join("kept"), "x").unwrap();
        let mut journal = Journal::new("shop", String::new(), 0, None);
        for is_link in [true, false] {
            match is_link {
                true => symlink(&foreign, &item.new).unwrap(),
                false => fs::rename(&foreign, &item.new).unwrap(),
            }
            let error = beside.all(&plan, &mut journal).unwrap_err();
            let is_foreign = matches!(error, SwapError::Place(PlaceError::Foreign(_)));
            assert!(is_foreign, "{error}");
            assert!(item.new.join("kept").exists() && !item.new.join("file").exists());
            if is_link {
                fs::remove_file(&item.new).unwrap();
            }
        }
    }
}
