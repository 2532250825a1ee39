//! `lifeboat restore`: puts files of a snapshot back into a folder.

use std::{ffi::OsString, os::unix::ffi::OsStrExt, path::PathBuf, time::Instant};

use lifeboat_app::{Bytes, Elapsed, RestoreOutcome, RestoreRequest};
use lifeboat_files::{Overwrite, Owner};
use serde::Serialize;

use crate::{
    context::Context,
    error::CommandError,
    exit_code::ExitCode,
    selection::Selection,
    text::{count, counted},
};

/// Secrets that a sentence names.
const SECRETS_NAMED: usize = 5;

/// Restore files of snapshots into a folder.
#[derive(Debug, clap::Args)]
#[command(
    alias = "extract",
    after_help = "\
Examples:
  lifeboat restore shop --target /tmp/shop
  lifeboat restore shop:uploads/2026 --target /srv/shop/uploads/2026 --overwrite if-changed
  lifeboat restore shop@2026-11-19:uploads --target /tmp/uploads --owner www-data:www-data"
)]
pub(crate) struct Args {
    /// The snapshots, each with a path in it behind a colon.
    #[arg(value_name = "SNAP[:PATH]", required = true)]
    snapshots: Vec<OsString>,

    /// Put the files into this folder.
    #[arg(long, value_name = "DIR")]
    target: PathBuf,

    /// Remove what the target holds and the snapshot does not.
    #[arg(long)]
    exact: bool,

    /// What to do with files that exist: never replace one, replace them if-changed, or always.
    ///
    /// Without this the target must be new or empty.
    #[arg(
        long,
        value_name = "WHEN",
        value_enum,
        default_value_t,
        hide_possible_values = true
    )]
    overwrite: OverwriteWhen,

    /// Give everything to this user and group, instead of those of the snapshot.
    #[arg(long, value_name = "USER:GROUP")]
    owner: Option<String>,

    /// Keep owners as numbers; without this, a user or group of the same name here is taken.
    #[arg(long, conflicts_with = "owner")]
    numeric_ids: bool,

    /// Make block and character devices too; needs root.
    #[arg(long)]
    devices: bool,

    /// Write runs of zeros instead of leaving holes.
    #[arg(long)]
    no_sparse: bool,

    /// Wait at the end until the disk has everything.
    #[arg(long)]
    durable: bool,

    /// Restore the app's secrets too.
    #[arg(long)]
    with_secrets: bool,

    /// Restore the folders above a path too.
    #[arg(long)]
    tree: bool,

    /// Say what would be done, but change nothing.
    #[arg(short = 'n', long)]
    dry_run: bool,
}

impl Args {
    /// Whether nothing is to be changed.
    pub(super) fn is_rehearsal(&self) -> bool {
        self.dry_run
    }
}

/// What is done with a file that exists.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
enum OverwriteWhen {
    /// It is left as it is, and the restore says so.
    #[default]
    Never,
    /// It is replaced when it differs.
    IfChanged,
    /// It is replaced.
    Always,
}

/// What a restore says at its end.
#[derive(Debug, Serialize)]
struct Summary {
    snapshot: String,
    target: String,
    dry_run: bool,
    files: u64,
    bytes: u64,
    folders: u64,
    /// Of the files, those that stood there already.
    kept: u64,
    /// In a dry run, what would be.
    deleted: u64,
    /// In a dry run, the paths below the target of what would be deleted.
    #[serde(skip_serializing_if = "Option::is_none")]
    would_delete: Option<Vec<String>>,
    secrets_left_out: u64,
    problems: u64,
    seconds: f64,
}

/// Restores.
pub(super) fn run(args: &Args, context: &Context) -> Result<ExitCode, CommandError> {
    let started = Instant::now();
    let owner = args.owner.as_deref().map(owner).transpose()?;
    let repository = context.open_to_read()?;
    let selection = Selection::of(&repository, context)?;
    let mut paths = Vec::new();
    let mut chosen = None;
    for selector in &args.snapshots {
        let selected = selection.select(selector)?;
        let first = chosen.get_or_insert(selected.snapshot);
        if first.name != selected.snapshot.name {
            return Err(CommandError::usage("the paths are of different snapshots")
                .hint("Restore one snapshot at a time."));
        }
        paths.push(selected.path.as_bytes().to_vec());
    }
    let snapshot = chosen.ok_or_else(|| CommandError::usage("no snapshot is named"))?;
    if paths.iter().any(Vec::is_empty) {
        paths.clear();
    }
    let request = RestoreRequest {
        paths,
        target: args.target.clone(),
        tree: args.tree,
        overwrite: match args.overwrite {
            OverwriteWhen::Never => Overwrite::Never,
            OverwriteWhen::IfChanged => Overwrite::IfChanged,
            OverwriteWhen::Always => Overwrite::Always,
        },
        exact: args.exact,
        owner,
        numeric_ids: args.numeric_ids,
        devices: args.devices,
        with_secrets: args.with_secrets,
        sparse: !args.no_sparse,
        durable: args.durable,
        dry_run: args.dry_run,
    };
    let stop = context.interrupt().flag();
    let outcome = context
        .ui()
        .watched(|watch| lifeboat_app::restore(&repository, snapshot, &request, watch, stop))?;
    let problems = outcome.problems.len() as u64 + outcome.more_problems;
    let elapsed = started.elapsed();
    context.ui().summary(&Summary {
        snapshot: snapshot.name.id.to_string(),
        target: args.target.display().to_string(),
        dry_run: args.dry_run,
        files: outcome.files,
        bytes: outcome.bytes,
        folders: outcome.folders,
        kept: outcome.kept,
        deleted: outcome.deleted,
        would_delete: (args.dry_run && args.exact).then(|| outcome.extras.clone()),
        secrets_left_out: outcome.secrets_left_out,
        problems,
        seconds: elapsed.as_secs_f64(),
    })?;
    say(args, context, &outcome, Elapsed(elapsed));
    if outcome.full {
        return Err(CommandError::new(
            ExitCode::Failed,
            "the restore ended early: the target is full",
        )
        .hint(
            "Make room, and run it again with --overwrite if-changed: what is restored already is then kept.",
        ));
    }
    if problems == 0 {
        return Ok(ExitCode::Done);
    }
    context.ui().warning(&format!(
        "{} could not be restored as they were",
        counted(problems, "item")
    ));
    Ok(ExitCode::Incomplete)
}

fn say(args: &Args, context: &Context, outcome: &RestoreOutcome, elapsed: Elapsed) {
    let ui = context.ui();
    for extra in &outcome.extras {
        if args.dry_run {
            ui.note(&format!("Would delete {extra}"));
        } else {
            ui.detail(&format!("Not in the snapshot: {extra}"));
        }
    }
    if outcome.more_extras > 0 && args.dry_run {
        ui.note(&format!("… and {} more", count(outcome.more_extras)));
    }
    let what = format!(
        "{}, {}",
        counted(outcome.files - outcome.kept, "file"),
        Bytes(outcome.bytes - outcome.kept_bytes)
    );
    let mut also = String::new();
    if outcome.kept > 0 {
        also.push_str(&format!(
            "; kept {} ({}) that stood there already",
            counted(outcome.kept, "file"),
            Bytes(outcome.kept_bytes)
        ));
    }
    if args.exact {
        also.push_str(&format!(
            "; {} {} that the snapshot does not have",
            if args.dry_run {
                "would delete"
            } else {
                "deleted"
            },
            counted(outcome.deleted, "item")
        ));
    }
    let target = args.target.display();
    ui.note(&if args.dry_run {
        format!("Would restore {what} into {target}{also}")
    } else {
        format!("Restored {what} in {elapsed} into {target}{also}")
    });
    if outcome.secrets_left_out > 0 {
        let named = outcome.secrets.iter().take(SECRETS_NAMED);
        let mut named: Vec<&str> = named.map(String::as_str).collect();
        if outcome.secrets_left_out > named.len() as u64 {
            named.push("…");
        }
        ui.note(&format!(
            "Left out {} ({}); --with-secrets restores them.",
            counted(outcome.secrets_left_out, "secret"),
            named.join(", ")
        ));
    }
}

/// A user and a group, by name or number.
fn owner(text: &str) -> Result<Owner, CommandError> {
    let wrong = |what: &str| {
        CommandError::usage(format!("there is no {what}"))
            .hint("Give USER:GROUP, each a name of this machine or a number.")
    };
    let (user, group) = text.split_once(':').unwrap_or((text, text));
    let number = |name: &str, file: &str| {
        name.parse()
            .ok()
            .or_else(|| lifeboat_app::number_of(name, file))
    };
    let uid = number(user, "/etc/passwd").ok_or_else(|| wrong(&format!("user {user}")))?;
    let gid = number(group, "/etc/group").ok_or_else(|| wrong(&format!("group {group}")))?;
    Ok(Owner::All { uid, gid })
}
