//! What `restore-app` tells: the plan before anything is done, and the facts at the end.

use lifeboat_app::{Bytes, Migrated, Migrations, PlannedTarget, SwapPlan, TargetKind, clock_time};
use lifeboat_repository::Snapshot;
use serde::Serialize;

use crate::{context::Context, error::CommandError, text::counted};

/// What was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Action {
    /// What was restored is live.
    Replaced,
    /// What was there before is live again.
    Undone,
    /// What was kept is removed.
    Forgotten,
}

/// What the verb says at its end.
#[derive(Debug, Serialize)]
pub(super) struct Summary<'a> {
    pub(super) app: &'a str,
    pub(super) snapshot: String,
    pub(super) dry_run: bool,
    /// None when nothing was done.
    pub(super) action: Option<Action>,
    pub(super) restore_point: Option<String>,
    /// Where what is not live is kept.
    pub(super) kept: Vec<String>,
    pub(super) targets: Vec<Target>,
    pub(super) warnings: Vec<String>,
    pub(super) seconds: f64,
}

/// One thing that is replaced.
#[derive(Debug, Serialize)]
pub(super) struct Target {
    source: String,
    kind: &'static str,
    at: String,
    exists: bool,
    in_place: bool,
    files: u64,
    bytes: u64,
    replaced_bytes: Option<u64>,
    sessions: u64,
}

impl<'a> Summary<'a> {
    /// Before anything is done.
    pub(super) fn of(app: &'a str, snapshot: &Snapshot, plan: &SwapPlan, dry_run: bool) -> Self {
        Self {
            app,
            snapshot: snapshot.name.id.to_string(),
            dry_run,
            action: None,
            restore_point: None,
            kept: Vec::new(),
            targets: plan.targets.iter().map(Target::of).collect(),
            warnings: Vec::new(),
            seconds: 0.0,
        }
    }
}

impl Target {
    fn of(planned: &PlannedTarget) -> Self {
        Self {
            source: planned.source.clone(),
            kind: match planned.kind {
                TargetKind::Database => "postgres",
                TargetKind::Folder => "folder",
                TargetKind::Sqlite => "sqlite",
            },
            at: planned.at.clone(),
            exists: planned.exists,
            in_place: planned.in_place,
            files: planned.files,
            bytes: planned.bytes,
            replaced_bytes: planned.replaced_bytes,
            sessions: planned.sessions,
        }
    }
}

/// Shows the plan.
pub(super) fn say_plan(
    is_rehearsal: bool,
    snapshot: &Snapshot,
    plan: &SwapPlan,
    context: &Context,
) -> Result<(), CommandError> {
    let ui = context.ui();
    let zone = context.time_zone()?;
    ui.note(&format!(
        "{} snapshot {} of {}, begun {}:",
        if is_rehearsal {
            "Would restore"
        } else {
            "To be restored:"
        },
        snapshot.name.id.short(),
        snapshot.head.app,
        clock_time(snapshot.head.started_ms, &zone)
    ));
    for target in &plan.targets {
        ui.note(&format!("  {}", sentence(target)));
    }
    for note in &plan.notes {
        ui.note(&format!("  {note}"));
    }
    Ok(())
}

fn sentence(target: &PlannedTarget) -> String {
    let PlannedTarget {
        source, at, bytes, ..
    } = target;
    let comes = match target.kind {
        TargetKind::Folder => format!("{}, {}", counted(target.files, "file"), Bytes(*bytes)),
        TargetKind::Database | TargetKind::Sqlite => Bytes(*bytes).to_string(),
    };
    if !target.exists {
        return format!("{source} ({comes}) becomes {at}, where nothing is now");
    }
    let does = match target.in_place {
        true => "replaces the content of",
        false => "takes the place of",
    };
    let mut text = format!("{source} ({comes}) {does} {at}");
    if let Some(bytes) = target.replaced_bytes {
        text.push_str(&format!(" ({})", Bytes(bytes)));
    }
    if let Some(kept) = &target.kept_as {
        text.push_str(&format!(", which is kept as {kept}"));
    }
    if target.in_place && target.sessions > 0 {
        text.push_str(&format!(
            "; of {} in it those end that are in the way",
            counted(target.sessions, "session")
        ));
    } else if target.sessions > 0 {
        text.push_str(&format!("; {} end", counted(target.sessions, "session")));
    }
    text
}

/// Says what the app's own migrations have to do.
pub(super) fn say_migrations(migrations: &[Migrations], context: &Context) {
    for found in migrations {
        match found.migrated {
            Migrated::Equal => {}
            Migrated::Older | Migrated::Newer | Migrated::Other => {
                context.ui().warning(&found.sentence);
            }
        }
    }
}
