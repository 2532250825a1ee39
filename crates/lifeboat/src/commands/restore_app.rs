//! `lifeboat restore-app`: a snapshot's databases and folders take the place of the running app's, or go into a new
//! place.

mod in_place;
mod into;
mod told;

use std::{ffi::OsString, num::NonZeroUsize, path::PathBuf, time::Instant};

use lifeboat_app::{
    AppConfig, Elapsed, InPlaceWish, KeptSwap, RESTORE_POINT, Source, SwapOptions, SwapPhase,
    SwapRequest, SwapSide, Swaps, plan_swap, refuse_newer,
};
use lifeboat_repository::{Repository, Snapshot};

use self::told::{Action, Summary, say_migrations, say_plan};
use super::{
    address::refuse_secret,
    backup::{of_app, own_folders},
};
use crate::{
    context::Context, error::CommandError, exit_code::ExitCode, prompt, selection::Selection,
};

/// Restore a whole app: its databases and folders, in place of the running one or into a new place.
///
/// Everything is restored beside what is there, verified, and swapped in. What was there is kept until --forget-old, and
/// --undo brings it back. A run that was cut off is ended by the next one of that app.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  lifeboat restore-app shop -n
  lifeboat restore-app shop --at 2026-11-19
  lifeboat restore-app shop shop~1 --yes-replace shop --admin postgres://postgres@db/postgres
  lifeboat restore-app shop --in-place --yes-replace shop
  lifeboat restore-app staging --from shop
  lifeboat restore-app shop --undo
  lifeboat restore-app shop --forget-old
  lifeboat restore-app shop --into /srv/copy --to postgres://postgres@db/shop_copy")]
pub(crate) struct Args {
    /// The app.
    #[arg(value_name = "APP")]
    app: String,

    /// Take this snapshot of it; without one, the newest of the whole app that is no restore point.
    #[arg(value_name = "SNAP", conflicts_with = "at")]
    snapshot: Option<OsString>,

    /// Take a snapshot of this other app, whose sources have the same names, such as the one that runs in production.
    #[arg(long, value_name = "OTHER")]
    from: Option<String>,

    /// Take the newest snapshot begun at this time or before, such as yesterday or "2026-11-19 03:00"; a day or a minute
    /// counts to its end.
    #[arg(long, value_name = "TIME")]
    at: Option<String>,

    /// Put the folders below this new folder, and replace nothing.
    #[arg(long, value_name = "DIR")]
    into: Option<PathBuf>,

    /// Create this database, which must not exist, and replace nothing.
    #[arg(long, value_name = "URL")]
    to: Option<String>,

    /// Leave the database and the folders the objects that they are, and replace their content: where no database can be
    /// made or renamed, and a folder is a mount point. A restore point is always made.
    #[arg(long, conflicts_with_all = ["into", "to", "undo", "forget_old", "no_restore_point"])]
    in_place: bool,

    /// With --in-place: remove also what the snapshot does not have, such as another app's tables in the same database.
    #[arg(long, requires = "in_place")]
    reset: bool,

    /// Replace it without asking; the app's name once more.
    #[arg(long, value_name = "APP", conflicts_with_all = ["into", "to"])]
    yes_replace: Option<String>,

    /// Bring back what the last restore has replaced.
    #[arg(
        long,
        conflicts_with_all = ["snapshot", "at", "from", "into", "to", "yes_replace", "forget_old", "dry_run"]
    )]
    undo: bool,

    /// Remove for good what the last restore has replaced; after --undo, what it has restored.
    #[arg(
        long,
        conflicts_with_all = ["snapshot", "at", "from", "into", "to", "yes_replace", "dry_run"]
    )]
    forget_old: bool,

    /// Replace without a backup of what is there.
    #[arg(long)]
    no_restore_point: bool,

    /// Replace also a database that has had fewer migrations than the snapshot's.
    #[arg(long)]
    allow_newer: bool,

    /// Reach the app's database server by this address of somebody who may make and rename databases.
    #[arg(long, value_name = "URL")]
    admin: Option<String>,

    /// Restore each database with so many connections at once.
    #[arg(long, value_name = "N")]
    jobs: Option<NonZeroUsize>,

    /// Say what would be done, but change nothing.
    #[arg(short = 'n', long)]
    dry_run: bool,
}

impl Args {
    /// Under which name the history keeps this run; what only looks leaves nothing there.
    pub(super) fn kept_as(&self) -> Option<&'static str> {
        match (self.dry_run, self.undo, self.forget_old) {
            (true, ..) => None,
            (_, true, _) => Some("restore-app --undo"),
            (_, _, true) => Some("restore-app --forget-old"),
            _ => Some("restore-app"),
        }
    }

    /// What a person can do who stopped this run in the middle.
    pub(super) fn when_stopped(&self) -> &'static str {
        if self.into.is_some() || self.to.is_some() {
            "Remove what was made, then run the command again."
        } else {
            "Run the command again; it begins with what is to be ended."
        }
    }

    fn jobs(&self) -> Option<u32> {
        self.jobs
            .map(|jobs| u32::try_from(jobs.get()).unwrap_or(u32::MAX))
    }
}

/// Restores, undoes or forgets.
pub(super) fn run(args: &Args, context: &Context) -> Result<ExitCode, CommandError> {
    for address in args.to.iter().chain(&args.admin) {
        refuse_secret(address)?;
    }
    for name in std::iter::once(&args.app).chain(&args.from) {
        lifeboat_app::check_app_name(name)
            .map_err(|error| CommandError::from_error(ExitCode::Usage, &error))?;
    }
    context.ui().record().about(&args.app);
    if args.into.is_some() || args.to.is_some() {
        return into::run(args, context);
    }
    let app = context.app(
        &args.app,
        "To replace an app it has to be configured; --into and --to restore any app into a new place.",
        " Without one, --into and --to restore any app into a new place.",
    )?;
    if let Some(typed) = &args.yes_replace
        && *typed != args.app
    {
        return Err(unconfirmed(args, &format!("`{typed}` was given")));
    }
    let swaps = Swaps::take(&context.state_folder()?, &args.app)?;
    match begun(args, app, &swaps, context)? {
        Some(code) => Ok(code),
        None if args.undo => undo(args, app, &swaps, context),
        None if args.forget_old => forget(args, app, &swaps, context),
        None => replace(args, app, &swaps, context),
    }
}

/// Ends what was begun. An exit code means that this was all there is to do.
fn begun(
    args: &Args,
    app: &AppConfig,
    swaps: &Swaps,
    context: &Context,
) -> Result<Option<ExitCode>, CommandError> {
    let Some(mut kept) = swaps.kept()? else {
        return Ok(None);
    };
    // What a transaction decides is ended first, and nobody turns it round.
    let undoes = args.undo && kept.phase == SwapPhase::Swapping && kept.content.is_none();
    if kept.phase == SwapPhase::Standing || undoes {
        return Ok(None);
    }
    if args.dry_run {
        context.ui().note(&format!(
            "A restore of {} was cut off; the next one ends it first.",
            args.app
        ));
        return Ok(Some(ExitCode::Done));
    }
    let started = Instant::now();
    let stop = context.interrupt().flag();
    context.ui().note(&format!(
        "A restore of {} was cut off: it is ended first.",
        args.app
    ));
    swaps.resume(app, args.admin.as_deref(), stop, context.runtime()?)?;
    if kept.phase == SwapPhase::Preparing {
        context
            .ui()
            .note("It had replaced nothing; what it had restored beside is removed.");
        return Ok(None);
    }
    let now = swaps.kept()?;
    if kept.phase == SwapPhase::Swapping && now.is_none() {
        context
            .ui()
            .note("Its transaction was not committed: nothing is replaced, and what it had restored is removed.");
        return Ok(Some(ExitCode::Done).filter(|_| args.undo || args.forget_old));
    }
    if let Some(now) = now {
        kept = now;
    }
    let action = match (kept.phase, kept.live) {
        (SwapPhase::Forgetting, _) => Action::Forgotten,
        (_, SwapSide::New) => Action::Replaced,
        (_, SwapSide::Old) => Action::Undone,
    };
    say_ended(args, context, action, &kept, started)?;
    Ok(Some(ExitCode::Done))
}

fn undo(
    args: &Args,
    app: &AppConfig,
    swaps: &Swaps,
    context: &Context,
) -> Result<ExitCode, CommandError> {
    let started = Instant::now();
    let stop = context.interrupt().flag();
    if let Some(content) = swaps.kept()?.and_then(|kept| kept.content) {
        let kept = in_place::undo(args, app, swaps, &content, context)?;
        say_ended(args, context, action_of(&kept), &kept, started)?;
        return Ok(ExitCode::Done);
    }
    let kept = swaps.undo(app, args.admin.as_deref(), stop, context.runtime()?)?;
    say_ended(args, context, action_of(&kept), &kept, started)?;
    Ok(ExitCode::Done)
}

fn action_of(kept: &KeptSwap) -> Action {
    match kept.live {
        SwapSide::Old => Action::Undone,
        SwapSide::New => Action::Replaced,
    }
}

fn forget(
    args: &Args,
    app: &AppConfig,
    swaps: &Swaps,
    context: &Context,
) -> Result<ExitCode, CommandError> {
    let started = Instant::now();
    let kept = swaps.forget(app, args.admin.as_deref(), context.runtime()?)?;
    if let Some(content) = &kept.content {
        let short = content.get(..8).unwrap_or(content);
        context.ui().note(&format!(
            "Snapshot {short} stays, with the database's content; once it is not wanted, `lifeboat unpin {short}` lets rules forget it."
        ));
    }
    say_ended(args, context, Action::Forgotten, &kept, started)?;
    Ok(ExitCode::Done)
}

fn say_ended(
    args: &Args,
    context: &Context,
    action: Action,
    kept: &KeptSwap,
    started: Instant,
) -> Result<(), CommandError> {
    let elapsed = started.elapsed();
    let kept_as = kept.kept_as.join(", ");
    let app = &args.app;
    let short = kept.snapshot.get(..8).unwrap_or(&kept.snapshot);
    context.ui().note(&match action {
        Action::Replaced => format!(
            "{app} is as in snapshot {short}. What was there before is kept as {kept_as}."
        ),
        Action::Undone => format!(
            "{app} is as it was before the restore of snapshot {short}. What was restored is kept as {kept_as}."
        ),
        Action::Forgotten if kept.kept_as.is_empty() => "Nothing is kept any more.".to_owned(),
        Action::Forgotten => format!("Removed {kept_as}."),
    });
    let is_kept = action != Action::Forgotten;
    context.ui().summary(&Summary {
        app,
        snapshot: kept.snapshot.clone(),
        dry_run: false,
        action: Some(action),
        restore_point: None,
        kept: if is_kept {
            kept.kept_as.clone()
        } else {
            Vec::new()
        },
        targets: Vec::new(),
        warnings: Vec::new(),
        seconds: elapsed.as_secs_f64(),
    })
}

/// The snapshot that is meant; it is of this app, or of the one that was named for it.
fn chosen<'s>(args: &Args, selection: &'s Selection<'_>) -> Result<&'s Snapshot, CommandError> {
    let app = args.from.as_ref().unwrap_or(&args.app);
    let selector = match (&args.snapshot, &args.at) {
        (Some(selector), _) => selector.clone(),
        (None, Some(at)) => OsString::from(format!("{app}@\"{at}\"")),
        (None, None) => return selection.newest_of(app),
    };
    let [snapshot] = selection.select_whole(&[selector])?[..] else {
        return Err(CommandError::usage("no snapshot is named"));
    };
    if snapshot.head.app != *app {
        return Err(CommandError::usage(format!(
            "snapshot {} is of the app {}, not of {app}",
            snapshot.name.id.short(),
            snapshot.head.app
        ))
        .hint(format!(
            "`lifeboat snapshots {app}` lists the snapshots of this app; --from names another one."
        )));
    }
    Ok(snapshot)
}

fn replace(
    args: &Args,
    app: &AppConfig,
    swaps: &Swaps,
    context: &Context,
) -> Result<ExitCode, CommandError> {
    if swaps.kept()?.is_some() {
        let app = args.app.clone();
        return Err(lifeboat_app::SwapError::Kept { app }.into());
    }
    let started = Instant::now();
    let mut repository = context.open_to_read()?;
    let selection = Selection::of(&repository, context)?;
    let snapshot = chosen(args, &selection)?;
    let request = SwapRequest {
        app,
        admin: args.admin.as_deref(),
        in_place: args.in_place.then_some(InPlaceWish { reset: args.reset }),
        keep_out: own_folders(context)?,
    };
    let runtime = context.runtime()?;
    let stop = context.interrupt().flag();
    let plan = plan_swap(&repository, snapshot, &request, stop, runtime)?;
    context.going_on()?;
    say_plan(args.dry_run, snapshot, &plan, context)?;
    let mut summary = Summary::of(&args.app, snapshot, &plan, args.dry_run);
    if !plan.refusals.is_empty() {
        let lacks_rights = plan.lacks_rights;
        let refused = CommandError::from(lifeboat_app::SwapError::Refused(plan.refusals));
        return Err(match lacks_rights {
            true => refused.hint(hint_of_rights(args)),
            false => refused,
        });
    }
    refuse_newer(&plan.migrations, args.allow_newer)?;
    say_migrations(&plan.migrations, context);
    if args.dry_run {
        summary.seconds = started.elapsed().as_secs_f64();
        context.ui().summary(&summary)?;
        return Ok(ExitCode::Done);
    }
    confirm(args, context)?;
    let now_ms = repository.now_ms();
    let options = SwapOptions {
        jobs: args.jobs(),
        allow_newer: args.allow_newer,
        now_ms,
    };
    let swapped = if args.in_place {
        let job = in_place::Job {
            app,
            snapshot,
            request: &request,
            plan: &plan,
            options,
        };
        let (swapped, point) = in_place::replace(&job, swaps, &mut repository, context)?;
        summary.restore_point = Some(point);
        swapped
    } else {
        let is_there = plan.targets.iter().any(|target| target.exists);
        if !args.no_restore_point && is_there {
            summary.restore_point = Some(restore_point(app, &mut repository, context)?);
        } else if !args.no_restore_point {
            let ui = context.ui();
            ui.note("Nothing is there that a restore point could keep.");
        }
        context.going_on()?;
        context.ui().watched(|watch| {
            swaps.make(
                &repository,
                snapshot,
                &request,
                &plan,
                options,
                watch,
                stop,
                runtime,
            )
        })?
    };
    for warning in &swapped.warnings {
        context.ui().warning(warning);
    }
    say_migrations(&swapped.migrations, context);
    let elapsed = started.elapsed();
    context.ui().note(&format!(
        "{} is as in snapshot {}, after {}.",
        args.app,
        snapshot.name.id.short(),
        Elapsed(elapsed)
    ));
    if !swapped.kept_as.is_empty() {
        context.ui().note(&format!(
            "What was there before is kept as {}; --undo brings it back, --forget-old removes it.",
            swapped.kept_as.join(", ")
        ));
    }
    if plan.has_folders() && !args.in_place {
        context.ui().note(
            "Programs and containers that have a folder open see the old one until they are started again.",
        );
    }
    summary.action = Some(Action::Replaced);
    summary.kept = swapped.kept_as;
    summary.warnings = swapped.warnings;
    summary.seconds = elapsed.as_secs_f64();
    context.ui().summary(&summary)?;
    Ok(ExitCode::Done)
}

/// What helps whose role may not make or rename databases.
fn hint_of_rights(args: &Args) -> String {
    let somebody = match args.admin {
        Some(_) => "somebody else",
        None => "somebody",
    };
    format!(
        "Name {somebody} with --admin who may make and rename databases, or give --in-place, which makes and renames none; \
         nothing was touched."
    )
}

/// A person types the app's name, or the command line has it.
fn confirm(args: &Args, context: &Context) -> Result<(), CommandError> {
    if args.yes_replace.is_some() {
        return Ok(());
    }
    if context.ui().is_json() || !prompt::is_possible() {
        return Err(unconfirmed(args, "nobody is there to ask"));
    }
    let question = format!("Type the app's name to replace it ({}): ", args.app);
    let typed = prompt::ask_for_word(&question, context.interrupt()).map_err(|error| {
        // Whoever stops here need not hear what would have to be ended.
        match context.interrupt().is_set() {
            true => error.hint("Nothing was touched.").staying(),
            false => error,
        }
    })?;
    if typed == args.app {
        return Ok(());
    }
    Err(unconfirmed(args, "something else was typed"))
}

fn unconfirmed(args: &Args, why: &str) -> CommandError {
    CommandError::new(
        ExitCode::Refused,
        format!("replacing {} was not confirmed: {why}", args.app),
    )
    .hint(format!("Give --yes-replace {} to replace it.", args.app))
}

/// Backs up what is there, so that it can come back even when the kept state is gone. Gives the snapshot's id.
fn restore_point(
    app: &AppConfig,
    repository: &mut Repository,
    context: &Context,
) -> Result<String, CommandError> {
    let sources = app.sources.iter().cloned().map(Source::from).collect();
    let request = of_app(context, app, sources, &[RESTORE_POINT.to_owned()])?;
    let runtime = context.runtime()?;
    let stop = context.interrupt().flag();
    let made = context
        .ui()
        .watched(|watch| lifeboat_app::backup(repository, &request, watch, stop, runtime));
    let outcome = made.map_err(|error| {
        CommandError::from(error)
            .within("no restore point could be made, and nothing was replaced")
            .hint("Mend the cause; --no-restore-point replaces without one. What was there is kept in any case.")
    })?;
    let id = outcome.committed.name.id;
    let unreadable = outcome.committed.head.totals.unreadable;
    if unreadable > 0 {
        context.ui().warning(&format!(
            "the restore point is incomplete, as it says itself of {unreadable} of its items"
        ));
    }
    context.ui().note(&format!(
        "Restore point: snapshot {}, as {} is now.",
        id.short(),
        app.name
    ));
    Ok(id.to_string())
}
