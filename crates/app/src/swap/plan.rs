//! What a swap will do, as data: what comes out of the snapshot, where to, what stands there, and what is in the way.
//!
//! The plan touches nothing. What it showed of the targets (oids, inodes) is looked at again before names change.

use std::ffi::OsStr;
use std::hash::{BuildHasher, RandomState};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use lifeboat_codec::{Manifest, SourceRecord};
use lifeboat_files::{Kind, mounts_within, standing};
use lifeboat_postgres::{
    Connection, Finding, InPlacePlan, InPlaceRestore, Settings, Swapper, plan_in_place,
};
use lifeboat_repository::{Repository, Snapshot};
use rustix::fs::statvfs;
use tokio::runtime::Handle;

use super::SwapError;
use super::journal::{ContentItem, DatabaseItem, PlaceItem, PlaceKind};
use super::migrations::{InSnapshot, Migrations, compare, of_postgres, of_sqlite};
use super::place::{PlaceError, with_ending};
use super::settle::Ways;
use crate::config::{AppConfig, PostgresSource, SourceConfig};
use crate::database::plan_database;
use crate::display::Bytes;
use crate::folder::KEPT_INSIDE;
use crate::postgres::postgres_settings;
use crate::redact::redact_arguments;
use crate::references::ReferenceCounts;
use crate::stored::{Form, StoredDatabase, StoredParts};

/// PostgreSQL cuts longer names off.
const NAME_BYTES_MAX: usize = 63;
/// How long the ending of a database's name beside can be: `_lifeboat_new_3f9a21`, and room for what a restore puts
/// behind the name until the database is whole.
const ENDING_BYTES_MAX: usize = 31;
/// The longest name of an entry of a folder.
const ENTRY_BYTES_MAX: usize = 255;

/// What is to take the place of what.
#[derive(Clone, Debug)]
pub struct SwapRequest<'a> {
    /// The app, as it is configured.
    pub app: &'a AppConfig,
    /// The address of somebody who may make and rename databases, without a password, where the app's role may not.
    pub admin: Option<&'a str>,
    /// Whether databases and folders stay the objects that they are, and only their content is replaced.
    pub in_place: Option<InPlaceWish>,
    /// Folders that no target may contain: the repository, and what this program keeps.
    pub keep_out: Vec<PathBuf>,
}

/// How content is replaced.
#[derive(Clone, Copy, Debug)]
pub struct InPlaceWish {
    /// Whether what the snapshot does not have is removed too.
    pub reset: bool,
}

/// What kind of thing is replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TargetKind {
    /// A PostgreSQL database.
    Database,
    /// A folder.
    Folder,
    /// An SQLite database.
    Sqlite,
}

/// One thing that is replaced.
#[derive(Clone, Debug)]
pub struct PlannedTarget {
    /// The source's name, in the snapshot and in the configuration.
    pub source: String,
    /// What it is.
    pub kind: TargetKind,
    /// Where it is, for people.
    pub at: String,
    /// Whether something is there that is replaced.
    pub exists: bool,
    /// Whether that stays the object that it is, and its content is replaced.
    pub in_place: bool,
    /// The size of that, where it can be asked for cheaply.
    pub replaced_bytes: Option<u64>,
    /// Sessions that will be ended.
    pub sessions: u64,
    /// Files that come.
    pub files: u64,
    /// Bytes that come.
    pub bytes: u64,
    /// Where what was there will be kept, for people; nothing when nothing is there.
    pub kept_as: Option<String>,
    pub(super) seat: Seat,
}

/// Where it goes.
#[derive(Clone, Debug)]
pub(super) enum Seat {
    Database(DatabaseItem),
    /// A database that stays; with what was seen in it.
    Content(Box<(ContentItem, InPlacePlan)>),
    /// A place of its own.
    Place(PlaceItem),
    /// Inside the place of another target, at this path below it.
    Inside {
        outer: PathBuf,
        below: PathBuf,
        live: PathBuf,
        kind: PlaceKind,
    },
}

/// What a swap will do.
#[derive(Clone, Debug)]
pub struct SwapPlan {
    /// What is replaced: databases, then folders and files, outer ones first.
    pub targets: Vec<PlannedTarget>,
    /// Whether what the snapshot does not have goes too.
    pub(super) reset: bool,
    /// How the snapshot's databases stand to those that they replace, as far as that is known before they are restored.
    pub migrations: Vec<Migrations>,
    /// Sentences about what stays as it is, and what to know.
    pub notes: Vec<String>,
    /// Sentences about what is in the way; with one of them nothing is done.
    pub refusals: Vec<String>,
    /// Whether one of them is that the role may not make or rename databases.
    pub lacks_rights: bool,
}

impl SwapPlan {
    /// Whether a folder is replaced that programs may have open.
    #[must_use]
    pub fn has_folders(&self) -> bool {
        let is_replaced =
            |target: &PlannedTarget| target.exists && target.kind == TargetKind::Folder;
        self.targets.iter().any(is_replaced)
    }
}

/// Makes the plan.
///
/// # Errors
/// When the snapshot or a server cannot be read. What is in the way stands in the plan. Once `stop` is set, what takes long
/// is left out.
pub fn plan_swap(
    repository: &Repository,
    snapshot: &Snapshot,
    request: &SwapRequest<'_>,
    stop: &AtomicBool,
    runtime: &Handle,
) -> Result<SwapPlan, SwapError> {
    let manifest = repository.manifest(snapshot)?;
    let mut planner = Planner {
        request,
        ways: Ways {
            app: request.app,
            admin: request.admin,
            runtime,
        },
        comes: InSnapshot {
            repository,
            snapshot,
            stop,
        },
        suffix: format!("{:06x}", RandomState::new().hash_one(()) & 0xff_ffff),
        plan: SwapPlan {
            targets: Vec::new(),
            reset: request.in_place.is_some_and(|wish| wish.reset),
            migrations: Vec::new(),
            notes: Vec::new(),
            refusals: Vec::new(),
            lacks_rights: false,
        },
    };
    planner.sources(&manifest)?;
    planner.look_for_room();
    let plan = &mut planner.plan;
    if plan.targets.is_empty() && plan.refusals.is_empty() {
        let nothing = "the snapshot has nothing that can take the place of anything";
        plan.refusals.push(nothing.to_owned());
    }
    Ok(planner.plan)
}

struct Planner<'a> {
    request: &'a SwapRequest<'a>,
    ways: Ways<'a>,
    comes: InSnapshot<'a>,
    suffix: String,
    plan: SwapPlan,
}

/// A folder or an SQLite database before it has a seat.
struct Wanted<'a> {
    record: &'a SourceRecord,
    kind: PlaceKind,
    live: PathBuf,
}

impl<'a> Planner<'a> {
    fn refuse(&mut self, sentence: String) {
        self.plan.refusals.push(sentence);
    }

    fn refuse_findings(&mut self, at: &str, findings: Vec<Finding>) {
        for finding in findings {
            let mend = finding.mend.map(|mend| format!(" ({mend})"));
            let sentence = finding.sentence.trim_end_matches('.');
            self.refuse(format!("{at}: {sentence}{}", mend.unwrap_or_default()));
        }
    }

    fn sources(&mut self, manifest: &Manifest) -> Result<(), SwapError> {
        let app = self.request.app;
        let mut places = Vec::new();
        for record in &manifest.sources {
            let name = &record.name;
            if record.unreadable > 0 {
                self.plan.notes.push(format!(
                    "{name} is incomplete in the snapshot, which says so of {} of its items.",
                    record.unreadable
                ));
            }
            let configured = app.sources.iter().find(|source| source.name() == name);
            match (record.kind.as_str(), configured) {
                ("postgres", Some(SourceConfig::Postgres(source))) if !source.via.is_empty() => {
                    self.refuse(format!(
                        "{name} is reached by way of {}, where its database cannot be replaced; `lifeboat restore-db {}:{name} \
                         --to postgres:///NEW --via '{}'` restores it into a new one there",
                        source.via[0],
                        app.name,
                        redact_arguments(&source.via).join(" ")
                    ));
                }
                ("postgres", Some(SourceConfig::Postgres(source))) => self.database(record, source)?,
                ("folder", Some(SourceConfig::Folder(source))) => {
                    if !source.exclude.is_empty() {
                        self.plan.notes.push(format!(
                            "What a backup of {name} leaves out ({}) is not in the restored folder.",
                            source.exclude.join(", ")
                        ));
                    }
                    if !source.references.is_empty() && ReferenceCounts::of(&record.facts).is_none() {
                        self.plan.notes.push(format!(
                            "The snapshot does not say which files of {name} lacked when it was made, since no rows were held against \
                             it then: the files that restored rows name are not looked for."
                        ));
                    }
                    places.extend(self.wanted(record, PlaceKind::Folder, &source.path));
                }
                ("sqlite", Some(SourceConfig::Sqlite(source))) => {
                    places.extend(self.wanted(record, PlaceKind::Sqlite, &source.path));
                }
                ("secrets", _) => self.plan.notes.push(
                    "Secrets stay as they are, but in a folder that is replaced they come with it; `lifeboat restore --with-secrets` restores them."
                        .to_owned(),
                ),
                ("command" | "stdin", _) => self.plan.notes.push(format!(
                    "{name} is a program's output and has no place; `lifeboat dump` gives it."
                )),
                (kind, _) => self.refuse(format!(
                    "the configuration does not say where {name} of the snapshot belongs, which is a {kind}"
                )),
            }
        }
        for source in &app.sources {
            let mut records = manifest.sources.iter();
            if records.all(|record| record.name != source.name()) {
                let around = place_of(source).and_then(|path| {
                    let mut outer = places.iter().map(|outer: &Wanted<'_>| &outer.live);
                    outer.find(|outer| path.starts_with(outer))
                });
                self.plan.notes.push(match around {
                    Some(outer) => format!(
                        "{} is not in the snapshot as a source of its own, and lies in {}, which is replaced with all that it has.",
                        source.name(),
                        outer.display()
                    ),
                    None => format!(
                        "{} is not in the snapshot and stays as it is.",
                        source.name()
                    ),
                });
            }
        }
        places.sort_by_key(|place: &Wanted<'_>| place.live.components().count());
        self.places(&places)
    }

    fn database(
        &mut self,
        record: &SourceRecord,
        source: &'a PostgresSource,
    ) -> Result<(), SwapError> {
        let environment = |name: &str| std::env::var_os(name);
        let own = postgres_settings(source, &environment)?;
        let (_, settings) = self.ways.settings(source)?;
        let live = own.database().to_owned();
        let at = format!("the database {live} on {}", server_of(&own));
        if let Some(wish) = self.request.in_place {
            return self.content(record, source, &settings.with_database(&live), at, wish);
        }
        let swapper = Swapper::open(&settings, &[&live], self.ways.runtime)?;
        self.look_at_server(&own, &live, &swapper);
        let beside = |which| database_beside(&live, which, &self.suffix);
        let (new, old) = (beside("new"), beside("old"));
        match swapper.obstacle()? {
            Some(obstacle) => {
                self.plan.lacks_rights = true;
                self.refuse(format!("{at} cannot be replaced: {obstacle}"));
            }
            None => self.fits(&record.name, &settings.with_database(&new), &at)?,
        }
        let standing = swapper.named(&live)?;
        if let Some(standing) = &standing {
            if !standing.is_ours {
                self.plan.lacks_rights = true;
                self.refuse(format!(
                    "{at} cannot be renamed by {}, who does not own it",
                    settings.user()
                ));
            }
            if !standing.is_open {
                self.refuse(format!(
                    "{at} takes no connections: somebody has closed it, perhaps a swap that another user has begun"
                ));
            }
            for slot in &standing.slots {
                self.plan.notes.push(format!(
                    "The replication slot {slot} belongs to the database that is replaced, and stays with it."
                ));
            }
        }
        if standing.as_ref().is_some_and(|standing| standing.is_open) {
            self.migrations(&record.name, &settings.with_database(&live))?;
        }
        let item = DatabaseItem {
            source: record.name.clone(),
            new,
            old,
            live,
            old_oid: standing.as_ref().map(|standing| standing.oid),
            new_oid: None,
        };
        for name in [&item.new, &item.old] {
            if swapper.named(name)?.is_some() {
                self.refuse(format!("there is a database {name} already"));
            }
        }
        self.plan.targets.push(PlannedTarget {
            source: record.name.clone(),
            kind: TargetKind::Database,
            at,
            exists: standing.is_some(),
            in_place: false,
            replaced_bytes: standing.as_ref().and_then(|standing| standing.len_bytes),
            sessions: standing.as_ref().map_or(0, |standing| standing.sessions),
            files: record.files,
            bytes: record.bytes,
            kept_as: standing.map(|_| item.old.clone()),
            seat: Seat::Database(item),
        });
        Ok(())
    }

    /// Whether the server can hold the snapshot's database, which is restored beside the one that is there.
    fn fits(&mut self, name: &str, new: &Settings, at: &str) -> Result<(), SwapError> {
        let stored = StoredDatabase::find(self.comes.repository, self.comes.snapshot, Some(name))?;
        let plan = plan_database(&stored, new, self.comes.stop, self.ways.runtime)?;
        self.refuse_findings(at, plan.refusals);
        let doubts = plan.doubts.into_iter().map(|doubt| doubt.sentence);
        self.plan.notes.extend(doubts);
        Ok(())
    }

    /// A database whose content is replaced.
    fn content(
        &mut self,
        record: &SourceRecord,
        source: &PostgresSource,
        settings: &Settings,
        at: String,
        wish: InPlaceWish,
    ) -> Result<(), SwapError> {
        let name = &record.name;
        let mut seats = self.plan.targets.iter().map(|target| &target.seat);
        if seats.any(|seat| matches!(seat, Seat::Content(_))) {
            self.refuse(format!(
                "the snapshot has more than one PostgreSQL database, and no transaction spans {name} and the other"
            ));
            return Ok(());
        }
        let stored = StoredDatabase::find(self.comes.repository, self.comes.snapshot, Some(name))?;
        let Form::Parts(parts) = &stored.form else {
            self.refuse(format!(
                "{name} is one archive of pg_dump in this snapshot, and only rows that are streams of their own are restored in place"
            ));
            return Ok(());
        };
        if source.pg_dump {
            self.refuse(format!(
                "{name} is configured to be read by pg_dump, and from such a restore point nothing comes back in place"
            ));
        }
        let restore = content_restore(&stored, parts, wish.reset);
        let mut schema = stored.schema(parts)?;
        let mut plan = parts.judge(
            plan_in_place(settings, &restore, &mut schema, self.ways.runtime)
                .map_err(SwapError::from),
        )?;
        self.refuse_findings(&at, std::mem::take(&mut plan.refusals));
        self.plan.notes.append(&mut plan.notes);
        if wish.reset && !plan.unknown.is_empty() {
            self.plan.notes.push(format!(
                "Goes, although the snapshot does not have it: {}.",
                plan.unknown.join(", ")
            ));
        }
        self.migrations(name, settings)?;
        let item = ContentItem {
            source: name.clone(),
            database: settings.database().to_owned(),
            mark: format!("lifeboat-in-place-{}", self.suffix),
            old_snapshot: None,
            new_snapshot: Some(self.comes.snapshot.name.id.to_string()),
            transaction: None,
        };
        self.plan.targets.push(PlannedTarget {
            source: name.clone(),
            kind: TargetKind::Database,
            at,
            exists: true,
            in_place: true,
            replaced_bytes: plan.len_bytes,
            sessions: plan.sessions,
            files: record.files,
            bytes: record.bytes,
            kept_as: Some("the restore point".to_owned()),
            seat: Seat::Content(Box::new((item, plan))),
        });
        Ok(())
    }

    /// Compares the snapshot's migrations with those that are there. What cannot be read there is looked at again when
    /// the database has been restored.
    fn migrations(&mut self, source: &str, live: &Settings) -> Result<(), SwapError> {
        let there = Connection::open(live, self.ways.runtime)
            .ok()
            .and_then(|session| of_postgres(&session).ok())
            .unwrap_or_default();
        if !there.is_empty() {
            let comes = self.comes.postgres(source, &there)?;
            self.plan.migrations.extend(compare(source, &comes, &there));
        }
        Ok(())
    }

    /// The same of an SQLite database.
    fn sqlite_migrations(&mut self, source: &str, live: &Path) -> Result<(), SwapError> {
        let there = of_sqlite(live, false).unwrap_or_default();
        if !there.is_empty() {
            let comes = self.comes.sqlite(source)?;
            self.plan.migrations.extend(compare(source, &comes, &there));
        }
        Ok(())
    }

    /// Another role must lead to the same server.
    fn look_at_server(&mut self, own: &Settings, live: &str, swapper: &Swapper) {
        if self.request.admin.is_none() {
            return;
        }
        let theirs = Swapper::open(own, &[live], self.ways.runtime)
            .map_err(|error| error.to_string())
            .and_then(|own| own.server().map_err(|error| error.to_string()));
        match (theirs, swapper.server()) {
            (Ok(theirs), Ok(ours)) if theirs == ours => {}
            (Ok(_), Ok(_)) => self.refuse(format!(
                "--admin leads to another server than the app's own address of {live}"
            )),
            (Err(why), _) => self.plan.notes.push(format!(
                "Whether --admin leads to the server of {live} is not known: {why}."
            )),
            (_, Err(why)) => self.refuse(why.to_string()),
        }
    }

    /// The path without links, as far as it exists.
    fn wanted<'r>(
        &mut self,
        record: &'r SourceRecord,
        kind: PlaceKind,
        path: &Path,
    ) -> Option<Wanted<'r>> {
        let whole = path.canonicalize().or_else(|_| {
            let parent = path.parent().unwrap_or(Path::new("/")).canonicalize()?;
            Ok::<_, std::io::Error>(parent.join(path.file_name().unwrap_or(OsStr::new(""))))
        });
        match whole {
            Ok(live) => Some(Wanted { record, kind, live }),
            Err(error) => {
                self.refuse(format!(
                    "the folder in which {} is to lie cannot be used: {error}",
                    path.display()
                ));
                None
            }
        }
    }

    fn places(&mut self, places: &[Wanted<'_>]) -> Result<(), SwapError> {
        for (index, place) in places.iter().enumerate() {
            let outer = places[..index].iter().find(|outer| {
                outer.kind == PlaceKind::Folder && place.live.starts_with(&outer.live)
            });
            let there = standing(&place.live).map_err(PlaceError::from)?;
            let wanted_kind = match place.kind {
                PlaceKind::Folder => Kind::Folder,
                PlaceKind::Sqlite => Kind::File,
            };
            let at = place.live.display().to_string();
            if there.is_some_and(|there| there.kind != wanted_kind) {
                self.refuse(format!("{at} is something else than what the snapshot has"));
            }
            if place.live.to_str().is_none() {
                self.refuse(format!("the path {at} is not UTF-8"));
            }
            let (seat, kept_as) = match outer {
                Some(outer) if outer.live == place.live => {
                    self.refuse(format!("two sources of the app lie at {at}"));
                    continue;
                }
                Some(outer) => {
                    let below = place.live.strip_prefix(&outer.live);
                    let seat = Seat::Inside {
                        outer: outer.live.clone(),
                        below: below.expect("it begins with it").to_owned(),
                        live: place.live.clone(),
                        kind: place.kind,
                    };
                    (seat, None)
                }
                None => {
                    let inside = self.request.in_place.is_some()
                        && place.kind == PlaceKind::Folder
                        && there.is_some();
                    self.look_at_place(place, inside);
                    let (new, old) = if inside {
                        let holder = format!("{KEPT_INSIDE}{}", self.suffix);
                        let holder = place.live.join(holder);
                        (holder.join("new"), holder.join("old"))
                    } else {
                        let beside = |which| path_beside(&place.live, which, &self.suffix);
                        (beside("new"), beside("old"))
                    };
                    let item = PlaceItem {
                        source: place.record.name.clone(),
                        kind: place.kind,
                        new,
                        old,
                        live: place.live.clone(),
                        old_inode: there.map(|there| there.inode),
                        new_inode: None,
                        inside,
                    };
                    for path in [&item.new, &item.old] {
                        if standing(path).map_err(PlaceError::from)?.is_some() {
                            self.refuse(format!(
                                "there is something at {} already",
                                path.display()
                            ));
                        }
                    }
                    let kept = there.map(|_| item.old.display().to_string());
                    (Seat::Place(item), kept)
                }
            };
            let is_file = place.kind == PlaceKind::Sqlite;
            if is_file && there.is_some_and(|there| there.kind == Kind::File) {
                self.sqlite_migrations(&place.record.name, &place.live)?;
            }
            let in_place = matches!(&seat, Seat::Place(item) if item.inside);
            self.plan.targets.push(PlannedTarget {
                source: place.record.name.clone(),
                kind: match place.kind {
                    PlaceKind::Folder => TargetKind::Folder,
                    PlaceKind::Sqlite => TargetKind::Sqlite,
                },
                at,
                exists: there.is_some(),
                in_place,
                replaced_bytes: there.filter(|_| is_file).map(|there| there.size),
                sessions: 0,
                files: place.record.files,
                bytes: place.record.bytes,
                kept_as,
                seat,
            });
        }
        Ok(())
    }

    /// What keeps a folder or file from being renamed, or would be taken away with it.
    fn look_at_place(&mut self, place: &Wanted<'_>, inside: bool) {
        let at = place.live.display();
        let mounts = mounts_within(&place.live).map(|mut mounts| {
            mounts.retain(|mount| !(inside && *mount == place.live));
            mounts
        });
        match mounts {
            Ok(mounts) if mounts.is_empty() => {}
            Ok(mounts) => {
                let mount = mounts[0].display();
                self.refuse(if mounts[0] == place.live {
                    format!("{at} is a mount point, and cannot be renamed; --in-place leaves it where it is")
                } else {
                    format!("{mount} is mounted in {at}, and would go away with it")
                });
            }
            Err(error) => self.refuse(error.to_string()),
        }
        let kept_out = self.request.keep_out.iter();
        let inside = kept_out.filter_map(|path| path.canonicalize().ok());
        let inside = inside.filter(|path| path.starts_with(&place.live));
        for path in inside.collect::<Vec<_>>() {
            self.refuse(format!(
                "{} lies in {at}, and would go away with it",
                path.display()
            ));
        }
    }

    /// What comes beside must fit on the file systems of the places.
    fn look_for_room(&mut self) {
        let mut needed: Vec<(u64, PathBuf, u64)> = Vec::new();
        for target in &self.plan.targets {
            let live = match &target.seat {
                Seat::Database(_) | Seat::Content(_) => continue,
                Seat::Place(item) => &item.live,
                Seat::Inside { outer, .. } => outer,
            };
            let is_inside = self.request.in_place.is_some() && live.is_dir();
            let parent = match is_inside {
                true => live,
                false => live.parent().unwrap_or(Path::new("/")),
            };
            let Ok(Some(folder)) = standing(parent) else {
                continue;
            };
            match needed.iter_mut().find(|(dev, _, _)| *dev == folder.dev) {
                Some((_, _, bytes)) => *bytes += target.bytes,
                None => needed.push((folder.dev, parent.to_owned(), target.bytes)),
            }
        }
        for (_, folder, bytes) in needed {
            let Ok(found) = statvfs(&folder) else {
                continue;
            };
            let free = found.f_bavail.saturating_mul(found.f_frsize);
            if free < bytes {
                self.refuse(format!(
                    "{} are needed where {} lies, and {} are free",
                    Bytes(bytes),
                    folder.display(),
                    Bytes(free)
                ));
            }
        }
    }
}

/// A stored database as what replaces a content.
pub(super) fn content_restore<'s>(
    stored: &'s StoredDatabase<'_>,
    parts: &'s StoredParts,
    reset: bool,
) -> InPlaceRestore<'s> {
    InPlaceRestore {
        parts: &parts.parts,
        facts: stored.facts.as_ref(),
        extensions: &stored.extensions,
        hash_key: parts.key.bytes(),
        reset,
    }
}

/// Where a source lies that is a folder or a file.
fn place_of(source: &SourceConfig) -> Option<PathBuf> {
    let path = match source {
        SourceConfig::Folder(source) => &source.path,
        SourceConfig::Sqlite(source) => &source.path,
        SourceConfig::Secrets(_) | SourceConfig::Postgres(_) | SourceConfig::Command(_) => {
            return None;
        }
    };
    path.canonicalize().ok()
}

fn server_of(settings: &Settings) -> String {
    format!("{}:{}", settings.host(), settings.port())
}

/// The name of a database beside another one.
fn database_beside(live: &str, which: &str, suffix: &str) -> String {
    let mut end = live.len().min(NAME_BYTES_MAX - ENDING_BYTES_MAX);
    while !live.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}_lifeboat_{which}_{suffix}", &live[..end])
}

/// The path of something beside another one.
fn path_beside(live: &Path, which: &str, suffix: &str) -> PathBuf {
    let ending = format!(".lifeboat-{which}-{suffix}");
    let name = live.file_name().unwrap_or(OsStr::new("")).to_string_lossy();
    // Room for what SQLite and a restore put behind it.
    let mut end = name.len().min(ENTRY_BYTES_MAX - ending.len() - 16);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    with_ending(&live.with_file_name(&name[..end]), &ending)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_beside_are_short_enough_for_server_and_file_system() {
        assert_eq!(
            database_beside("shop", "new", "3f9a21"),
            "shop_lifeboat_new_3f9a21"
        );
        let long = database_beside(&"ü".repeat(31), "old", "3f9a21");
        assert!(long.len() + ".restoring".len() <= NAME_BYTES_MAX, "{long}");
        assert!(long.ends_with("ü_lifeboat_old_3f9a21"));
        assert_eq!(
            path_beside(Path::new("/srv/shop/uploads"), "new", "3f9a21"),
            Path::new("/srv/shop/uploads.lifeboat-new-3f9a21")
        );
        let long = path_beside(&Path::new("/srv").join("x".repeat(255)), "old", "3f9a21");
        assert!(long.file_name().unwrap().len() + "-journal".len() <= ENTRY_BYTES_MAX);
    }
}
