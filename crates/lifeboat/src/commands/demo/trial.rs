//! The repository of the demonstration, and what is done with it: back up, go back, get one file.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use lifeboat_app::{
    BackupRequest, Bytes, DatabaseRequest, Elapsed, Found as InSnapshot, RestoreOutcome,
    RestoreRequest,
};
use lifeboat_codec::KeyFile;
use lifeboat_files::Overwrite;
use lifeboat_repository::{NewSecret, Repository, Snapshot, StreamError, Surroundings, Unlock};
use lifeboat_store::{Location, Store};

use super::{
    APP,
    app::App,
    comparison::{Comparison, Found, all_there, same_files, same_rows},
    sample::LOST,
    server::{DATABASE, Server},
    stage::Stage,
};
use crate::{
    commands::key_file::NewKeyFile,
    context::Context,
    error::{CommandError, OrFail},
    exit_code::ExitCode,
    text::{counted, printable_path},
};

/// A point in time that can be gone back to.
pub(super) struct Point {
    /// Which backup.
    pub(super) name: &'static str,
    /// What it made.
    pub(super) snapshot: Snapshot,
    /// How long it took.
    pub(super) elapsed: Duration,
    /// The PostgreSQL database as SQL, dumped from the server at that time.
    sql: Option<Vec<u8>>,
}

/// The repository, and what was found with it.
pub(super) struct Trial<'a> {
    context: &'a Context,
    folder: &'a Path,
    /// Open, by its key file.
    pub(super) repository: Repository,
    /// What was compared so far.
    pub(super) comparisons: Vec<Comparison>,
}

impl<'a> Trial<'a> {
    /// Makes a new repository in `folder`, with a key file beside it, and opens it as any other run would.
    pub(super) fn prepare(context: &'a Context, folder: &'a Path) -> Result<Self, CommandError> {
        let surroundings =
            || Surroundings::system(Some(folder.join("cache")), folder.join("state"));
        let key_path = folder.join("key");
        let reserved = NewKeyFile::reserve(&key_path)?;
        let location = Location::Folder(folder.join("repository"));
        let store: Arc<dyn Store> = lifeboat_store::create(&location)?.into();
        let created =
            Repository::create(Arc::clone(&store), &[NewSecret::KeyFile], surroundings())?;
        let content = created
            .key_file
            .as_ref()
            .expect("a repository with a key file comes with its content");
        reserved.fill(content)?;
        drop(created);
        let text = fs::read_to_string(&key_path).or_fail(ExitCode::Failed, || {
            "the new key file cannot be read".to_owned()
        })?;
        let key = KeyFile::decode(&text).or_fail(ExitCode::WrongKey, || {
            "the new key file is not whole".to_owned()
        })?;
        Ok(Self {
            context,
            folder,
            repository: Repository::open(store, &Unlock::KeyFile(&key), surroundings())?,
            comparisons: Vec::new(),
        })
    }

    /// Backs the app up.
    pub(super) fn back_up(
        &mut self,
        name: &'static str,
        app: &App,
        stage: &Stage<'_>,
    ) -> Result<Point, CommandError> {
        let dump = |server: &Server| server.dump(DATABASE);
        let sql = app.server.as_ref().map(dump).transpose()?;
        let request = BackupRequest {
            app: APP.to_owned(),
            sources: app.sources(),
            tags: Vec::new(),
            exclude: Vec::new(),
            bundles: true,
            time_zone: "UTC".to_owned(),
            threads: std::thread::available_parallelism().map_or(2, std::num::NonZero::get),
            skip: Vec::new(),
            secrets: Vec::new(),
        };
        let (runtime, stop) = (self.context.runtime()?, self.context.interrupt().flag());
        let started = Instant::now();
        let repository = &mut self.repository;
        let outcome = self
            .context
            .ui()
            .watched(|watch| lifeboat_app::backup(repository, &request, watch, stop, runtime))?;
        let elapsed = started.elapsed();
        let snapshot = self.repository.snapshot(outcome.committed.name)?;
        let totals = snapshot.head.totals;
        stage.done(
            "snapshot",
            &format!(
                "{} of {}, {}, in {}",
                snapshot.name.id.short(),
                counted(totals.files, "file"),
                Bytes(totals.bytes),
                Elapsed(elapsed)
            ),
        )?;
        self.context.going_on()?;
        Ok(Point {
            name,
            snapshot,
            elapsed,
            sql,
        })
    }

    /// Restores everything of a point in time, and holds it against the twin and the dump of that time.
    pub(super) fn go_back(
        &mut self,
        point: &Point,
        app: &App,
        stage: &Stage<'_>,
    ) -> Result<(), CommandError> {
        let target = self.folder.join(point.name.replace(' ', "-"));
        let started = Instant::now();
        let outcome = self.restore(point, &target)?;
        let restored = match outcome.problems.first() {
            Some(problem) => Err(problem.clone()),
            None => Ok(format!(
                "{}, {}, in {}",
                counted(outcome.files, "file"),
                Bytes(outcome.bytes),
                Elapsed(started.elapsed())
            )),
        };
        self.judge(point, "restored", restored, stage)?;
        let files = same_files(&app.twin.media(), &target.join("media"));
        self.judge(point, "files", files, stage)?;
        let database = target.join("sqlite/shop.db");
        let rows = same_rows(&app.twin.database(), &database);
        self.judge(point, "SQLite", rows, stage)?;
        let attachments = all_there(&database, &target.join("media"));
        self.judge(point, "attachments", attachments, stage)?;
        self.context.going_on()?;
        if let (Some(server), Some(sql)) = (&app.server, &point.sql) {
            let dump = self.same_database(point, server, sql)?;
            self.judge(point, "PostgreSQL", dump, stage)?;
        }
        self.context.going_on()
    }

    fn restore(&self, point: &Point, target: &Path) -> Result<RestoreOutcome, CommandError> {
        let request = RestoreRequest {
            paths: Vec::new(),
            target: target.to_owned(),
            tree: false,
            overwrite: Overwrite::Never,
            exact: false,
            owner: None,
            numeric_ids: false,
            devices: false,
            with_secrets: false,
            sparse: true,
            durable: false,
            dry_run: false,
        };
        let stop = self.context.interrupt().flag();
        Ok(self.context.ui().watched(|watch| {
            lifeboat_app::restore(&self.repository, &point.snapshot, &request, watch, stop)
        })?)
    }

    /// Restores the PostgreSQL database under a new name, and holds its dump against the one of that time.
    fn same_database(
        &self,
        point: &Point,
        server: &Server,
        sql: &[u8],
    ) -> Result<Found, CommandError> {
        let new = format!("{DATABASE}_{}", point.name.replace(' ', "_"));
        let request = DatabaseRequest {
            to: server.address(&new),
            ..DatabaseRequest::default()
        };
        let (runtime, stop) = (self.context.runtime()?, self.context.interrupt().flag());
        let (repository, snapshot) = (&self.repository, &point.snapshot);
        self.context.ui().watched(|watch| {
            lifeboat_app::restore_database(repository, snapshot, &request, watch, stop, runtime)
        })?;
        let size = Bytes(sql.len() as u64);
        Ok(if server.dump(&new)? == sql {
            Ok(format!(
                "in a new database; pg_dump of both is equal, {size}"
            ))
        } else {
            Err(format!("pg_dump of the new database {new} is another"))
        })
    }

    /// Gets one file that was deleted, by its path alone.
    pub(super) fn fetch_lost(
        &mut self,
        point: &Point,
        app: &App,
        stage: &Stage<'_>,
    ) -> Result<(), CommandError> {
        let started = Instant::now();
        let back = self.dump(point, &format!("media/{LOST}"))?;
        let elapsed_ms = started.elapsed().as_millis();
        let read = |path: PathBuf| fs::read(path).map_err(|error| error.to_string());
        let same = read(back).and_then(|back| {
            if back != read(app.twin.media().join(LOST))? {
                return Err(format!("{LOST} has other bytes"));
            }
            let size = Bytes(back.len() as u64);
            Ok(format!("{LOST}, {size}, in {elapsed_ms} ms"))
        });
        self.judge(point, "attachment", same, stage)?;
        self.context.going_on()
    }

    /// Writes one file of a point in time into a file, and returns where that is.
    fn dump(&self, point: &Point, path: &str) -> Result<PathBuf, CommandError> {
        let failed = |what: String| CommandError::new(ExitCode::Failed, what);
        let reader = self.repository.reader(point.snapshot.head.domain)?;
        let found = lifeboat_app::find_item(&reader, &point.snapshot, path.as_bytes())?;
        let content = match &found {
            InSnapshot::Other(item) => item.content.as_ref(),
            InSnapshot::Folder { .. } => None,
        };
        let content = content.ok_or_else(|| failed(format!("{path} is no file")))?;
        let target = self.folder.join("one-attachment");
        let unwritten = || format!("{} cannot be written", printable_path(target.as_ref()));
        let mut file = File::create_new(&target).or_fail(ExitCode::Failed, unwritten)?;
        match lifeboat_app::copy_content(&reader, content, &mut file) {
            Ok(()) => Ok(target),
            Err(StreamError::Read(error)) => Err(error.into()),
            Err(StreamError::Write(error)) => Err(failed(unwritten()).caused_by(&error)),
        }
    }

    /// Says and keeps what a comparison found.
    fn judge(
        &mut self,
        point: &Point,
        what: &'static str,
        found: Found,
        stage: &Stage<'_>,
    ) -> Result<(), CommandError> {
        let equal = found.is_ok();
        let (Ok(detail) | Err(detail)) = found;
        if equal {
            stage.done(what, &detail)?;
        } else {
            stage.wrong(what, &detail)?;
        }
        self.comparisons.push(Comparison {
            point: point.name,
            what,
            equal,
            detail,
        });
        Ok(())
    }
}
