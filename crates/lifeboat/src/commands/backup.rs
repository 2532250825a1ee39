//! `lifeboat backup`: reads an app's sources into a new snapshot.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use jiff::tz::TimeZone;
use lifeboat_app::{
    AppConfig, BackupRequest, BundleCounts, Bytes, CommandSource, ENGINE_BECAUSE, Elapsed,
    PG_DUMP_SAID, ReferenceCounts, Source, SourceConfig, only_tags,
};
use lifeboat_codec::Note;
use lifeboat_files::Excludes;
use lifeboat_repository::Repository;
use lifeboat_store::Location;
use serde::Serialize;
use tempfile::TempDir;

use super::{
    note,
    references::{References, tell_carried, told},
    sources,
};
use crate::{
    context::Context,
    error::{CommandError, OrFail},
    exit_code::ExitCode,
    text::counted,
};

/// Back up apps: of the configuration, or from sources named here.
#[derive(Debug, clap::Args)]
#[command(
    alias = "create",
    after_help = "\
Examples:
  lifeboat backup
  lifeboat backup shop --tag before-upgrade --pin
  lifeboat backup shop --dry-run
  lifeboat backup --app shop --source /srv/shop/uploads --source postgres://backup@db/shop
  lifeboat backup --app shop --source sqlite:/srv/shop/app.db --exclude '**/thumbs/**'
  pg_dump shop | lifeboat backup --app shop --stdin --stdin-filename shop.sql
  lifeboat backup --app shop --stdin-filename shop.sql --stdin-from-command -- pg_dump shop"
)]
pub(crate) struct Args {
    /// Back up these apps of the configuration; without any, all.
    #[arg(value_name = "APP", conflicts_with = "named")]
    apps: Vec<String>,

    /// Back up the sources that follow as this app, without a configuration.
    #[arg(long = "app", value_name = "NAME", requires = "sources")]
    named: Option<String>,

    /// Read this source: a folder, postgres://…, or sqlite:FILE; may be given several times.
    #[arg(long, value_name = "SRC", group = "sources", requires = "named")]
    source: Vec<String>,

    /// Read standard input.
    #[arg(long, group = "sources", requires_all = ["named", "stdin_filename"], conflicts_with = "source")]
    stdin: bool,

    /// Run the command behind `--` and read its output; when it fails there is no snapshot.
    #[arg(
        long, group = "sources", requires_all = ["named", "stdin_filename", "command"],
        conflicts_with_all = ["source", "stdin"]
    )]
    stdin_from_command: bool,

    /// Keep what is read from standard input or the command under this file name.
    #[arg(long, value_name = "NAME")]
    stdin_filename: Option<String>,

    /// The command and its arguments, run without a shell.
    #[arg(last = true, value_name = "CMD", requires = "stdin_from_command")]
    command: Vec<std::ffi::OsString>,

    /// Give the snapshot this tag; may be given several times.
    #[arg(long, value_name = "TAG")]
    tag: Vec<String>,

    /// Pin the snapshot, so that it is never forgotten by rules.
    #[arg(long)]
    pin: bool,

    /// Leave out what fits this pattern, by the rules of .gitignore; may be given several times.
    #[arg(long, value_name = "GLOB")]
    exclude: Vec<String>,

    /// Read only this source of the app; may be given several times. The snapshot is tagged only=SOURCE, and is passed over
    /// where the whole app is asked for.
    #[arg(long, value_name = "SOURCE", conflicts_with = "named")]
    only: Vec<String>,

    /// Store files that hold others (.gz, .tgz, .tar, .zip, .docx and their like) as they are, without taking them apart.
    #[arg(long)]
    no_bundles: bool,

    /// Read and compress everything as a backup would, say what it would store, and store nothing.
    ///
    /// A write-only key cannot read what is stored, so that with one everything counts as new.
    #[arg(short = 'n', long)]
    dry_run: bool,
}

impl Args {
    /// Whether nothing is to be stored.
    pub(super) fn is_rehearsal(&self) -> bool {
        self.dry_run
    }

    /// Under which name the history keeps this run: a rehearsal is no backup.
    pub(super) fn kept_as(&self) -> &'static str {
        if self.is_rehearsal() {
            "backup --dry-run"
        } else {
            "backup"
        }
    }
}

/// Backs up each app; one that fails does not keep the others from their turn.
pub(super) fn run(args: &Args, context: &Context) -> Result<ExitCode, CommandError> {
    // Before anything can fail, so that a wrong word about one app is not held to be every app's.
    if let (Some(app), _) | (None, [app]) = (&args.named, &args.apps[..]) {
        context.ui().record().about(app);
    }
    let requests = requests(args, context)?;
    if let [only] = &requests[..] {
        context.ui().record().about(&only.app);
    }
    let state = args.dry_run.then(rehearsal_state).transpose()?;
    let mut repository = match &state {
        Some(state) => context.rehearse_repository(state.path())?,
        None => context.open_repository()?,
    };
    let mut worst = ExitCode::Done;
    let mut failed: Vec<(&str, CommandError)> = Vec::new();
    for (number, request) in requests.iter().enumerate() {
        context.going_on()?;
        if number > 0 {
            // Each app has its own place in the history; the first one has that of the command.
            context.begin_run(args.kept_as());
        }
        context.ui().record().about(&request.app);
        let code = match one(args, context, &mut repository, request) {
            Ok(code) => code,
            Err(error) if requests.len() == 1 => return Err(error),
            Err(error) => {
                // Work that was asked to stop fails in many ways; they all mean this one.
                let error = context.interrupt().as_error().unwrap_or(error);
                // Each is said at once, also to programs; the end names them.
                context.ui().problem(&format!(
                    "{} failed: {}",
                    request.app,
                    error.facts().message
                ));
                let code = error.code();
                failed.push((&request.app, error));
                code
            }
        };
        context.end_run(code);
        if code != ExitCode::Done {
            worst = code;
        }
    }
    all_failures(failed, requests.len()).map_or(Ok(worst), Err)
}

/// What a run of several apps ends with of which some failed: the code and the advice of the first.
fn all_failures(failed: Vec<(&str, CommandError)>, apps: usize) -> Option<CommandError> {
    let names: Vec<&str> = failed.iter().map(|(app, _)| *app).collect();
    let message = format!(
        "{} of {apps} apps could not be backed up: {}",
        names.len(),
        names.join(", ")
    );
    let (_, first) = failed.into_iter().next()?;
    let error = CommandError::new(first.code(), message);
    Some(match first.facts().hint {
        Some(hint) => error.hint(hint),
        None => error,
    })
}

/// A rehearsal writes as a machine that was never here before, and leaves as little behind.
fn rehearsal_state() -> Result<TempDir, CommandError> {
    tempfile::Builder::new()
        .prefix("lifeboat-rehearsal-")
        .tempdir()
        .or_fail(ExitCode::Failed, || {
            "a temporary folder cannot be made".to_owned()
        })
}

/// What one backup says at its end.
#[derive(Debug, Serialize)]
struct Summary<'a> {
    app: &'a str,
    /// None after a rehearsal.
    snapshot: Option<String>,
    dry_run: bool,
    files: u64,
    bytes: u64,
    unreadable: u64,
    bytes_new: u64,
    bytes_stored: u64,
    seconds: f64,
    sources: Vec<SourceSummary<'a>>,
}

#[derive(Debug, Serialize)]
struct SourceSummary<'a> {
    name: &'a str,
    kind: &'a str,
    files: u64,
    bytes: u64,
    unreadable: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    references: Option<References>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bundles: Option<Bundled>,
}

/// What came of files that hold others.
#[derive(Debug, Serialize)]
struct Bundled {
    files: u64,
    bytes: u64,
    /// Of the text of what was packed in them.
    text_bytes: u64,
    /// Of all workers together.
    seconds: f64,
}

impl Bundled {
    fn new(counts: BundleCounts) -> Self {
        Self {
            files: counts.files,
            bytes: counts.bytes,
            text_bytes: counts.text_bytes,
            seconds: Duration::from_millis(counts.elapsed_ms).as_secs_f64(),
        }
    }
}

/// What is said of a source's bundles.
fn told_bundles(source: &str, counts: BundleCounts) -> String {
    format!(
        "{source}: {} with {} taken apart into {} of text, for which workers needed {}.",
        counted(counts.files, "bundle"),
        Bytes(counts.bytes),
        Bytes(counts.text_bytes),
        Elapsed(Duration::from_millis(counts.elapsed_ms)),
    )
}

fn one(
    args: &Args,
    context: &Context,
    repository: &mut Repository,
    request: &BackupRequest,
) -> Result<ExitCode, CommandError> {
    let started = Instant::now();
    let runtime = context.runtime()?;
    let stop = context.interrupt().flag();
    let outcome = context
        .ui()
        .watched(|watch| lifeboat_app::backup(repository, request, watch, stop, runtime))?;
    let id = outcome.committed.name.id;
    if args.pin && !args.dry_run {
        let said_ms = repository.now_ms();
        repository.say(&Note {
            snapshot: id,
            kind: note::PIN.to_owned(),
            value: String::new(),
            removes: None,
            said_ms,
        })?;
    }
    for source in &outcome.sources {
        let said = source.facts.iter().filter(|(fact, _)| fact == PG_DUMP_SAID);
        for (_, line) in said {
            let warning = format!("pg_dump said about {}: {line}", source.name);
            context.ui().warning(&warning);
        }
        let because = source.facts.iter().find(|(fact, _)| fact == ENGINE_BECAUSE);
        if let Some((_, reason)) = because {
            let note = format!("pg_dump read the rows of {}: {reason}", source.name);
            context.ui().note(&note);
        }
    }
    let totals = outcome.committed.head.totals;
    let seconds = started.elapsed();
    context.ui().summary(&Summary {
        app: &request.app,
        snapshot: (!args.dry_run).then(|| id.to_string()),
        dry_run: args.dry_run,
        files: totals.files,
        bytes: totals.bytes,
        unreadable: totals.unreadable,
        bytes_new: totals.new_bytes,
        bytes_stored: totals.stored_bytes,
        seconds: seconds.as_secs_f64(),
        sources: outcome
            .sources
            .iter()
            .map(|source| SourceSummary {
                name: &source.name,
                kind: &source.kind,
                files: source.files,
                bytes: source.bytes,
                unreadable: source.unreadable,
                references: ReferenceCounts::of(&source.facts)
                    .as_ref()
                    .map(References::new),
                bundles: BundleCounts::of(&source.facts).map(Bundled::new),
            })
            .collect(),
    })?;
    let (begin, end) = if args.dry_run {
        ("Would back up", "Nothing was stored".to_owned())
    } else {
        ("Backed up", format!("Snapshot {}", id.short()))
    };
    context.ui().note(&format!(
        "{begin} {}: {}, {}; {} new, {} stored, in {}. {end}",
        request.app,
        counted(totals.files, "file"),
        Bytes(totals.bytes),
        Bytes(totals.new_bytes),
        Bytes(totals.stored_bytes),
        Elapsed(seconds),
    ));
    for source in &outcome.sources {
        if let Some(counts) = BundleCounts::of(&source.facts) {
            context.ui().note(&told_bundles(&source.name, counts));
        }
        if let Some(counts) = ReferenceCounts::of(&source.facts) {
            context.ui().note(&told(&source.name, &counts));
            tell_carried(source, &counts, context.ui());
        }
    }
    if totals.unreadable == 0 {
        return Ok(ExitCode::Done);
    }
    context.ui().warning(&format!(
        "{} could not be read, or not as {} should be; the snapshot lists {}",
        counted(totals.unreadable, "item"),
        if totals.unreadable == 1 { "it" } else { "they" },
        if totals.unreadable == 1 { "it" } else { "them" },
    ));
    Ok(ExitCode::Incomplete)
}

/// What is to be backed up: apps of the configuration, or the sources named here.
fn requests(args: &Args, context: &Context) -> Result<Vec<BackupRequest>, CommandError> {
    note::check_tags(&args.tag)?;
    // Before hours of databases are read.
    Excludes::new(&args.exclude.iter().collect::<Vec<_>>()).map_err(|error| {
        CommandError::from_error(ExitCode::Usage, &error)
            .hint("Write the pattern by the rules of .gitignore, in quotes.")
    })?;
    if let Some(app) = &args.named {
        lifeboat_app::check_app_name(app)
            .map_err(|error| CommandError::from_error(ExitCode::Usage, &error))?;
        let sources = named_sources(args)?;
        return Ok(vec![BackupRequest {
            tags: args.tag.clone(),
            exclude: args.exclude.clone(),
            bundles: !args.no_bundles,
            ..request(context, app, sources, None)?
        }]);
    }
    let config = &context.configuration()?.config;
    if config.apps.is_empty() {
        return Err(CommandError::usage("there is no app to back up").hint(
            "Name sources here (lifeboat backup --app NAME --source SRC), or add an app to lifeboat.toml (lifeboat app add).",
        ));
    }
    let mut chosen: Vec<&AppConfig> = Vec::new();
    for name in &args.apps {
        let app = config
            .app(name)
            .map_err(|error| CommandError::from_error(ExitCode::Usage, &error))?;
        if chosen.iter().all(|known| known.name != app.name) {
            chosen.push(app);
        }
    }
    if args.apps.is_empty() {
        chosen.extend(&config.apps);
    }
    chosen
        .into_iter()
        .map(|app| {
            let sources = configured_sources(args, app)?;
            let mut request = of_app(context, app, sources, &args.tag)?;
            if request.sources.len() < app.sources.len() {
                let sources: Vec<&str> = request.sources.iter().map(Source::name).collect();
                request.tags.extend(only_tags(&sources));
            }
            Ok(BackupRequest {
                exclude: args.exclude.clone(),
                bundles: !args.no_bundles,
                ..request
            })
        })
        .collect()
}

/// A backup of these sources of a configured app.
pub(super) fn of_app(
    context: &Context,
    app: &AppConfig,
    sources: Vec<Source>,
    tags: &[String],
) -> Result<BackupRequest, CommandError> {
    let zone = app.time_zone.as_ref();
    let mut request = request(context, &app.name, sources, zone)?;
    request.tags = tags.to_vec();
    // Also when only a folder is read in which they lie.
    for source in &app.sources {
        if let SourceConfig::Secrets(secrets) = source {
            request.secrets.extend_from_slice(&secrets.paths);
        }
    }
    Ok(request)
}

fn configured_sources(args: &Args, app: &AppConfig) -> Result<Vec<Source>, CommandError> {
    for only in &args.only {
        if app.sources.iter().all(|source| source.name() != only) {
            let names: Vec<&str> = app.sources.iter().map(SourceConfig::name).collect();
            return Err(
                CommandError::usage(format!("app {} has no source {only}", app.name))
                    .hint(format!("Its sources are: {}.", names.join(", "))),
            );
        }
    }
    let wanted = |source: &&SourceConfig| {
        args.only.is_empty() || args.only.iter().any(|only| only == source.name())
    };
    Ok(app
        .sources
        .iter()
        .filter(wanted)
        .cloned()
        .map(Source::from)
        .collect())
}

fn request(
    context: &Context,
    app: &str,
    sources: Vec<Source>,
    time_zone: Option<&TimeZone>,
) -> Result<BackupRequest, CommandError> {
    let zone = match time_zone {
        Some(zone) => zone.clone(),
        None => context.time_zone()?,
    };
    // They would back up themselves, and grow by it.
    let skip = own_folders(context)?;
    Ok(BackupRequest {
        app: app.to_owned(),
        sources,
        tags: Vec::new(),
        exclude: Vec::new(),
        bundles: true,
        time_zone: zone.iana_name().unwrap_or("UTC").to_owned(),
        threads: std::thread::available_parallelism().map_or(2, std::num::NonZero::get),
        skip: skip
            .into_iter()
            .map(|path| path.canonicalize().unwrap_or(path))
            .collect(),
        secrets: Vec::new(),
    })
}

/// The folders that are this program's own: the repository, the cache and the state.
pub(super) fn own_folders(context: &Context) -> Result<Vec<PathBuf>, CommandError> {
    let mut folders = vec![context.cache_folder()?, context.state_folder()?];
    if let Location::Folder(path) = context.location()? {
        folders.push(path);
    }
    Ok(folders)
}

fn named_sources(args: &Args) -> Result<Vec<Source>, CommandError> {
    let filename = args.stdin_filename.clone().unwrap_or_default();
    if args.stdin || args.stdin_from_command {
        if filename.is_empty() || filename.contains('/') || filename == "." || filename == ".." {
            return Err(
                CommandError::usage("the name of the stored file is no file name")
                    .hint("Give a plain name, such as --stdin-filename shop.sql."),
            );
        }
        if args.stdin {
            return Ok(vec![Source::Stdin { filename }]);
        }
        let text = |word: &std::ffi::OsString| word.to_str().map(str::to_owned);
        let run = args
            .command
            .iter()
            .map(text)
            .collect::<Option<Vec<String>>>();
        let run = run.ok_or_else(|| {
            CommandError::usage("the command has words that are not UTF-8")
                .hint("Put it into a script, and run that.")
        })?;
        let name = "stdin".to_owned();
        return Ok(vec![Source::Command(CommandSource {
            name,
            run,
            filename,
            bundles: true,
        })]);
    }
    args.source
        .iter()
        .map(|source| sources::typed(source).map(Source::from))
        .collect()
}
