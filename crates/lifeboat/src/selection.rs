//! From the selectors that were typed to snapshots of an open repository.
//!
//! All selectors of one command are resolved against one list, so that `shop` and `shop~1` fit each other whatever is
//! stored meanwhile.

use std::{
    collections::BTreeSet,
    ffi::{OsStr, OsString},
};

use jiff::{Zoned, tz::TimeZone};
use lifeboat_app::{
    Choice, Config, Selector, SelectorError, SnapshotSummary, Verdict, clock_time, drilled, nearest,
};
use lifeboat_codec::Notes;
use lifeboat_repository::{Missing, NoteList, OpenError, Repository, Snapshot, SnapshotList};

use crate::{
    context::Context, error::CommandError, exit_code::ExitCode, text::sentence as as_sentence,
    ui::Ui,
};

/// The snapshots of a repository, for resolving selectors.
pub(crate) struct Selection<'a> {
    /// What is passed over is told; the run is about the app whose snapshot is chosen.
    ui: &'a Ui,
    config: &'a Config,
    /// Where an app has no zone of its own.
    zone: TimeZone,
    list: SnapshotList,
    notes: Notes,
    summaries: Vec<SnapshotSummary>,
}

/// One selected snapshot, and the path inside it.
pub(crate) struct Selected<'a> {
    /// The snapshot.
    pub(crate) snapshot: &'a Snapshot,
    /// Relative and without `..`; empty for the whole snapshot.
    pub(crate) path: OsString,
}

impl<'a> Selection<'a> {
    /// Lists the snapshots; damaged and hidden ones are warned about, since a selector passes over them.
    pub(crate) fn of(repository: &Repository, context: &'a Context) -> Result<Self, CommandError> {
        let list = repository.snapshots()?;
        let NoteList { notes, damaged } = repository.notes()?;
        let missing = missing(repository, &list)?;
        for sentence in list.damaged.iter().chain(&damaged).chain(&missing.hidden) {
            context.ui().warning(sentence);
        }
        for sentence in &missing.behind {
            context.ui().note(&as_sentence(sentence));
        }
        let summaries = list
            .snapshots
            .iter()
            .map(|snapshot| SnapshotSummary {
                id_hex: snapshot.name.id.to_string(),
                app: snapshot.head.app.clone(),
                started_ms: snapshot.head.started_ms,
                tags: tags(snapshot, &notes)
                    .into_iter()
                    .map(str::to_owned)
                    .collect(),
                drilled: drilled(&notes, snapshot.name.id)
                    .is_some_and(|drill| drill.verdict == Verdict::Passed),
            })
            .collect();
        Ok(Self {
            ui: context.ui(),
            config: &context.configuration()?.config,
            zone: context.time_zone()?,
            list,
            notes,
            summaries,
        })
    }

    /// All snapshots, oldest first.
    pub(crate) fn all(&self) -> &[Snapshot] {
        &self.list.snapshots
    }

    /// How many snapshots could not be read.
    pub(crate) fn damaged(&self) -> usize {
        self.list.damaged.len()
    }

    /// What was said about the snapshots.
    pub(crate) fn notes(&self) -> &Notes {
        &self.notes
    }

    /// The one snapshot that a selector names. A newer backup of some sources only that it passes over is told.
    pub(crate) fn select(&self, selector: &OsStr) -> Result<Selected<'_>, CommandError> {
        let selector = Selector::parse(selector)?;
        let choice = self.resolve(&selector)?;
        Ok(self.selected(&selector, choice))
    }

    /// The snapshot that has the database which is meant: the newest state of the whole app says what its only database is
    /// called, and then any snapshot that has that one counts.
    pub(crate) fn select_database(
        &self,
        selector: &OsStr,
        repository: &Repository,
    ) -> Result<Selected<'_>, CommandError> {
        let selector = Selector::parse(selector)?;
        let choice = self.resolve(&selector)?;
        if choice.passed_over.is_some() && selector.path().is_empty() {
            let manifest = repository.manifest(&self.list.snapshots[choice.index])?;
            let sources = manifest.sources.iter();
            let mut databases = sources.filter(|source| source.kind == "postgres");
            if let (Some(only), None) = (databases.next(), databases.next()) {
                let within = selector.within(&only.name);
                let choice = self.resolve(&within)?;
                return Ok(self.selected(&within, choice));
            }
        }
        Ok(self.selected(&selector, choice))
    }

    /// The newest state of an app as a whole.
    pub(crate) fn newest_of(&self, app: &str) -> Result<&Snapshot, CommandError> {
        // With `~0` it is never the beginning of an id.
        let selected = self.select(OsStr::new(&format!("{app}~0")))?;
        Ok(selected.snapshot)
    }

    fn resolve(&self, selector: &Selector) -> Result<Choice, SelectorError> {
        selector.resolve(
            &self.summaries,
            &Zoned::now().with_time_zone(self.zone_of(selector)),
        )
    }

    /// The time zone in which a selector's times are meant.
    fn zone_of(&self, selector: &Selector) -> TimeZone {
        let app = selector.name().and_then(|name| self.config.app(name).ok());
        app.and_then(|app| app.time_zone.clone())
            .unwrap_or_else(|| self.zone.clone())
    }

    fn selected(&self, selector: &Selector, choice: Choice) -> Selected<'_> {
        if let Some(index) = choice.passed_over {
            let passed_over = &self.list.snapshots[index];
            self.ui.note(&format!(
                "Snapshot {} of {} is newer, but has only {} of {}: it is passed over.",
                passed_over.name.id.short(),
                clock_time(passed_over.head.started_ms, &self.zone_of(selector)),
                self.summaries[index].only().unwrap_or_default().join(", "),
                passed_over.head.app,
            ));
        }
        let snapshot = &self.list.snapshots[choice.index];
        self.ui.record().about(&snapshot.head.app);
        Selected {
            snapshot,
            path: selector.path().to_owned(),
        }
    }

    /// The snapshots that several selectors name, each once; a path inside one is refused.
    pub(crate) fn select_whole(
        &self,
        selectors: &[OsString],
    ) -> Result<Vec<&Snapshot>, CommandError> {
        let mut chosen: Vec<&Snapshot> = Vec::new();
        for selector in selectors {
            let Selected { snapshot, path } = self.select(selector)?;
            if !path.is_empty() {
                return Err(CommandError::usage(format!(
                    "`{}` names a part of a snapshot",
                    selector.display()
                ))
                .hint(
                    "This command takes whole snapshots; leave out the colon and what follows.",
                ));
            }
            if chosen.iter().all(|known| known.name != snapshot.name) {
                chosen.push(snapshot);
            }
        }
        Ok(chosen)
    }
}

/// Refuses the name of an app that has no snapshot and is not configured: it is mistyped. Where there are no snapshots
/// at all nothing tells a mistyped name from a new one.
pub(crate) fn refuse_unknown_app(
    app: &str,
    list: &SnapshotList,
    context: &Context,
) -> Result<(), CommandError> {
    let known: BTreeSet<&str> = list
        .snapshots
        .iter()
        .map(|snapshot| snapshot.head.app.as_str())
        .collect();
    let is_configured = context.configuration()?.config.app(app).is_ok();
    if known.is_empty() || known.contains(app) || is_configured {
        return Ok(());
    }
    let there: Vec<&str> = known.iter().copied().collect();
    Err(CommandError::new(
        ExitCode::Failed,
        format!("the app `{app}` has no snapshot here"),
    )
    .hint(match nearest(app, known) {
        Some(nearest) => format!("Did you mean `{nearest}`?"),
        None => format!("There are snapshots of {}.", there.join(", ")),
    }))
}

/// What this machine knows of and the repository does not show.
pub(crate) fn missing(
    repository: &Repository,
    list: &SnapshotList,
) -> Result<Missing, CommandError> {
    repository
        .missing(list)
        .map_err(|error| OpenError::State(error).into())
}

/// All tags of a snapshot: those it was made with, and those given later.
pub(crate) fn tags<'a>(snapshot: &'a Snapshot, notes: &'a Notes) -> BTreeSet<&'a str> {
    let mut tags = notes.tags(snapshot.name.id);
    tags.extend(snapshot.head.tags.iter().map(String::as_str));
    tags
}

impl From<SelectorError> for CommandError {
    fn from(error: SelectorError) -> Self {
        match error {
            SelectorError::None { .. } => Self::from_error(ExitCode::Failed, &error)
                .hint("`lifeboat snapshots` lists what there is."),
            SelectorError::Several { .. } => Self::from_error(ExitCode::Usage, &error)
                .hint("Name one of them by the first digits of its id."),
            _ => Self::from_error(ExitCode::Usage, &error).hint(
                "Write an app (shop), an earlier one (shop~1), a time (shop@2026-11-19), a tag (tag:NAME), latest, \
                 drilled, or the first digits of an id.",
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        sync::{Arc, Mutex, atomic::AtomicBool},
    };

    use lifeboat_codec::{Manifest, Note};
    use lifeboat_repository::{Contents, Draft, NewSecret, Silent, Surroundings, WriteError, work};
    use lifeboat_store::MemoryStore;

    use super::*;
    use crate::{interrupt::Interrupt, options::GlobalOptions, ui::Manner};

    fn repository(folder: &tempfile::TempDir) -> Repository {
        let surroundings = Surroundings::system(None, folder.path().join("state"));
        let store = Arc::new(MemoryStore::new());
        Repository::create(store, &[NewSecret::KeyFile], surroundings)
            .unwrap()
            .repository
    }

    fn context(folder: &tempfile::TempDir) -> Context {
        let file = folder.path().join("lifeboat.toml");
        fs::write(&file, "timezone = \"Europe/Berlin\"\n").unwrap();
        let global = GlobalOptions {
            config: Some(file),
            ..GlobalOptions::default()
        };
        let definition = clap::Command::new("lifeboat");
        Context::new(
            definition,
            global,
            Ui::new(Manner::default()),
            Interrupt::default(),
        )
    }

    /// Makes an empty snapshot and returns its id.
    fn back_up(repository: &mut Repository, app: &str, tag: &str, started_ms: u64) -> String {
        let draft = Draft {
            app: app.to_owned(),
            tags: vec![tag.to_owned()],
            started_ms,
            ..Draft::default()
        };
        let made: Result<_, WriteError> =
            repository.backup(&draft, &Silent, &AtomicBool::new(false), |writer| {
                let streams = Mutex::new(None);
                work(
                    writer,
                    1,
                    vec![()],
                    |lane, (), _| -> Result<(), WriteError> {
                        let root = lane.put_meta(&[])?;
                        let manifest = lane.put_meta(&Manifest::default().encode())?;
                        *streams.lock().unwrap() = Some((root, manifest));
                        Ok(())
                    },
                )?;
                let (root, manifest) = streams.into_inner().unwrap().unwrap();
                Ok(Contents {
                    root,
                    manifest,
                    files: 0,
                    bytes: 0,
                    unreadable: 0,
                })
            });
        made.unwrap().name.id.to_string()
    }

    /// 2026-11-19 03:00 in Berlin.
    const THREE: u64 = 1_795_053_600_000;
    const DAY: u64 = 86_400_000;

    #[test]
    fn selectors_name_snapshots_of_the_repository_in_the_configured_zone() {
        let folder = tempfile::tempdir().unwrap();
        let mut repository = repository(&folder);
        let older = back_up(&mut repository, "shop", "nightly", THREE);
        let newer = back_up(&mut repository, "shop", "nightly", THREE + DAY);
        let other = back_up(&mut repository, "blog", "first", THREE + 2 * DAY);
        let context = context(&folder);
        let selection = Selection::of(&repository, &context).unwrap();
        let select = |text: &str| {
            let selected = selection.select(OsStr::new(text));
            selected.map(|selected| (selected.snapshot.name.id.to_string(), selected.path))
        };
        let path = OsString::from;
        assert_eq!(select("shop").unwrap(), (newer.clone(), path("")));
        assert_eq!(
            select("shop~1:uploads/a").unwrap(),
            (older.clone(), path("uploads/a"))
        );
        assert_eq!(select("shop@2026-11-19 03:00").unwrap().0, older);
        assert_eq!(select("latest").unwrap().0, other);
        assert_eq!(select(&newer[..8]).unwrap().0, newer);
        assert_eq!(select("shop~5").unwrap_err().code(), ExitCode::Failed);
        assert_eq!(select("shop~x").unwrap_err().code(), ExitCode::Usage);

        let whole = |texts: &[&str]| {
            let texts: Vec<OsString> = texts.iter().map(OsString::from).collect();
            let chosen = selection.select_whole(&texts);
            chosen
                .map(|chosen| chosen.len())
                .map_err(|error| error.code())
        };
        assert_eq!(whole(&["shop", "latest", "shop~0"]), Ok(2));
        assert_eq!(whole(&["shop:uploads"]), Err(ExitCode::Usage));
    }

    #[test]
    fn tags_given_later_count_like_those_from_the_start() {
        let folder = tempfile::tempdir().unwrap();
        let mut repository = repository(&folder);
        back_up(&mut repository, "shop", "nightly", THREE);
        let snapshot = repository.snapshots().unwrap().snapshots[0].clone();
        let note = Note {
            snapshot: snapshot.name.id,
            kind: "tag".to_owned(),
            value: "before-upgrade".to_owned(),
            removes: None,
            said_ms: THREE,
        };
        repository.say(&note).unwrap();
        let context = context(&folder);
        let selection = Selection::of(&repository, &context).unwrap();
        let all: Vec<_> = tags(&snapshot, selection.notes()).into_iter().collect();
        assert_eq!(all, ["before-upgrade", "nightly"]);
        let selected = selection.select(OsStr::new("tag:before-upgrade")).unwrap();
        assert_eq!(selected.snapshot.name, snapshot.name);
    }
}
