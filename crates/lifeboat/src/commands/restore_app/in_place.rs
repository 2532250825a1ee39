//! `restore-app --in-place`: the order in which an app is held, backed up and replaced, there and back again.

use lifeboat_app::{
    AppConfig, KeptSwap, ReadySwap, SourceConfig, SwapError, SwapOptions, SwapPlan, SwapRequest,
    Swapped, Swaps,
};
use lifeboat_codec::Note;
use lifeboat_repository::{Repository, Snapshot};

use super::{Args, restore_point};
use crate::{
    commands::note, context::Context, error::CommandError, exit_code::ExitCode,
    selection::Selection,
};

/// What is replaced by what.
pub(super) struct Job<'a> {
    pub(super) app: &'a AppConfig,
    pub(super) snapshot: &'a Snapshot,
    pub(super) request: &'a SwapRequest<'a>,
    pub(super) plan: &'a SwapPlan,
    pub(super) options: SwapOptions,
}

/// Replaces the app; gives also the restore point's id.
pub(super) fn replace(
    job: &Job<'_>,
    swaps: &Swaps,
    repository: &mut Repository,
    context: &Context,
) -> Result<(Swapped, String), CommandError> {
    let runtime = context.runtime()?;
    let stops = [context.interrupt().flag()];
    let ready = context.ui().watched(|watch| {
        swaps.make_ready(
            repository,
            job.snapshot,
            job.request,
            job.plan,
            job.options,
            watch,
            &stops,
            runtime,
        )
    })?;
    let way = Way {
        app: job.app,
        admin: job.request.admin,
        options: job.options,
    };
    way.go(ready, job.snapshot, swaps, repository, context)
}

/// Goes back to what was there before, or forth again; `content` is the snapshot that has the database's content.
pub(super) fn undo(
    args: &Args,
    app: &AppConfig,
    swaps: &Swaps,
    content: &str,
    context: &Context,
) -> Result<KeptSwap, CommandError> {
    let mut repository = context.open_to_read()?;
    let snapshot = snapshot_of(content, &repository, context)?;
    let runtime = context.runtime()?;
    let stops = [context.interrupt().flag()];
    let admin = args.admin.as_deref();
    let ready = swaps.make_ready_again(&repository, &snapshot, app, admin, &stops, runtime)?;
    let options = SwapOptions {
        jobs: args.jobs(),
        allow_newer: true,
        now_ms: repository.now_ms(),
    };
    let way = Way {
        app,
        admin,
        options,
    };
    let (swapped, _) = way.go(ready, &snapshot, swaps, &mut repository, context)?;
    for warning in &swapped.warnings {
        context.ui().warning(warning);
    }
    let kept = swaps.kept()?;
    kept.ok_or_else(|| SwapError::NothingKept(app.name.clone()).into())
}

/// A way from one state to the other, once the app is held.
struct Way<'a> {
    app: &'a AppConfig,
    admin: Option<&'a str>,
    options: SwapOptions,
}

impl Way<'_> {
    fn go(
        &self,
        ready: ReadySwap<'_>,
        snapshot: &Snapshot,
        swaps: &Swaps,
        repository: &mut Repository,
        context: &Context,
    ) -> Result<(Swapped, String), CommandError> {
        let runtime = context.runtime()?;
        let point = match self.point(repository, context) {
            Ok(point) => point,
            Err(error) => {
                swaps.give_up(ready, self.app, self.admin, runtime)?;
                return Err(error);
            }
        };
        let stop = context.interrupt().flag();
        let swapped = context.ui().watched(|watch| {
            swaps.carry_out(
                ready,
                repository,
                snapshot,
                Some(&point),
                self.app,
                self.admin,
                self.options,
                watch,
                stop,
                runtime,
            )
        });
        match swapped {
            Ok(swapped) => Ok((swapped, point.name.id.to_string())),
            Err(error) => {
                // Where no way back leads to it, nobody needs it.
                let id = point.name.id.to_string();
                let kept = swaps.kept().map(|kept| kept.and_then(|kept| kept.content));
                if kept.is_ok_and(|content| content != Some(id)) {
                    unpin(&point, repository, context)?;
                }
                Err(error.into())
            }
        }
    }

    /// Backs up what is there, all rows of it, and keeps rules from forgetting it.
    fn point(
        &self,
        repository: &mut Repository,
        context: &Context,
    ) -> Result<Snapshot, CommandError> {
        let mut app = self.app.clone();
        for source in &mut app.sources {
            if let SourceConfig::Postgres(source) = source {
                source.skip_data.clear();
            }
        }
        let id = restore_point(&app, repository, context)?;
        let point = snapshot_of(&id, repository, context)?;
        repository.say(&Note {
            snapshot: point.name.id,
            kind: note::PIN.to_owned(),
            value: String::new(),
            removes: None,
            said_ms: repository.now_ms(),
        })?;
        context.going_on()?;
        Ok(point)
    }
}

/// Lets rules forget a restore point again.
fn unpin(
    point: &Snapshot,
    repository: &mut Repository,
    context: &Context,
) -> Result<(), CommandError> {
    let selection = Selection::of(repository, context)?;
    let pins = selection.notes().of(point.name.id);
    let pins: Vec<Note> = pins
        .filter(|(_, said)| said.kind == note::PIN)
        .map(|(hash, said)| Note {
            removes: Some(*hash),
            ..said.clone()
        })
        .collect();
    for mut pin in pins {
        pin.said_ms = repository.now_ms();
        repository.say(&pin)?;
    }
    Ok(())
}

/// The snapshot with that id.
fn snapshot_of(
    id: &str,
    repository: &Repository,
    context: &Context,
) -> Result<Snapshot, CommandError> {
    let selection = Selection::of(repository, context)?;
    let mut all = selection.all().iter();
    let found = all.find(|snapshot| snapshot.name.id.to_string() == id);
    found.cloned().ok_or_else(|| {
        CommandError::new(
            ExitCode::Failed,
            format!("snapshot {id}, which has what is to come back, is not in the repository"),
        )
        .hint("Name the repository that was used then; nothing was touched.")
    })
}
