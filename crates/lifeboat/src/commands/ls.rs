//! `lifeboat ls`: what a snapshot holds.

use std::{ffi::OsString, os::unix::ffi::OsStrExt};

use jiff::{Timestamp, tz::TimeZone};
use lifeboat_app::{Bytes, Found, Item, Step, shown_path, told_unread};
use lifeboat_codec::{EntryKind, status};
use serde::Serialize;

use super::unread::UnreadItems;
use crate::{context::Context, error::CommandError, exit_code::ExitCode, selection::Selection};

/// List what a snapshot holds.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  lifeboat ls shop
  lifeboat ls shop:uploads/2026 --long
  lifeboat ls latest~1 --recursive")]
pub(crate) struct Args {
    /// The snapshot, and a folder in it behind a colon.
    #[arg(value_name = "SNAP[:PATH]")]
    snapshot: OsString,

    /// Show mode, owner, size and time too.
    #[arg(short, long)]
    long: bool,

    /// List folders inside folders too.
    #[arg(long)]
    recursive: bool,
}

/// One item in the answer.
#[derive(Debug, Serialize)]
pub(super) struct Listed {
    path: String,
    kind: &'static str,
    mode: String,
    user: u32,
    group: u32,
    size: u64,
    modified: String,
    /// The same in unix milliseconds.
    modified_ms: i64,
    target: Option<String>,
    remarks: Vec<&'static str>,
}

/// Lists.
pub(super) fn run(args: &Args, context: &Context) -> Result<ExitCode, CommandError> {
    let repository = context.open_to_read()?;
    let selection = Selection::of(&repository, context)?;
    let selected = selection.select(&args.snapshot)?;
    let path = selected.path.as_bytes();
    let reader = repository.reader(selected.snapshot.head.domain)?;
    let found = lifeboat_app::find_item(&reader, selected.snapshot, path)?;
    let zone = context.time_zone()?;
    let mut unread = UnreadItems::default();
    context.ui().list(|items| {
        let mut put = |item: &Item| {
            items.put(
                || listed(item, &zone),
                || {
                    if args.long {
                        long_line(item, &zone)
                    } else {
                        format!("{}{}", shown_path(&item.path), suffix(item.kind))
                    }
                },
            )
        };
        match found {
            Found::Other(item) => {
                put(&item);
            }
            Found::Folder { tree, .. } => {
                lifeboat_app::walk_tree(&reader, &tree, path, &mut |path, item| {
                    let goes_on = match item {
                        Ok(item) => put(&item),
                        Err(error) => {
                            unread.add(told_unread(path, &error));
                            true
                        }
                    };
                    match goes_on {
                        false => Step::End,
                        true if args.recursive => Step::Into,
                        true => Step::Past,
                    }
                })?;
            }
        }
        Ok(())
    })?;
    Ok(unread.tell(context))
}

/// An item for programs.
pub(super) fn listed(item: &Item, zone: &TimeZone) -> Listed {
    Listed {
        path: shown_path(&item.path),
        kind: kind(item.kind),
        mode: format!("{:04o}", item.mode),
        user: item.owner.0,
        group: item.owner.1,
        size: item.size,
        modified: time(item, zone),
        modified_ms: item.mtime.seconds.saturating_mul(1000)
            + i64::from(item.mtime.nanos / 1_000_000),
        target: (item.kind == EntryKind::Symlink).then(|| shown_path(&item.target)),
        remarks: remarks(item.status),
    }
}

fn long_line(item: &Item, zone: &TimeZone) -> String {
    let size = if item.kind == EntryKind::File {
        Bytes(item.size).to_string()
    } else {
        "-".to_owned()
    };
    let target = if item.target.is_empty() {
        String::new()
    } else {
        format!(" -> {}", shown_path(&item.target))
    };
    let remarks = remarks(item.status);
    let remarks = if remarks.is_empty() {
        String::new()
    } else {
        format!("  ({})", remarks.join(", "))
    };
    format!(
        "{}{:04o} {:>6} {:>6} {size:>10}  {}  {}{}{target}{remarks}",
        letter(item.kind),
        item.mode,
        item.owner.0,
        item.owner.1,
        time(item, zone),
        shown_path(&item.path),
        suffix(item.kind),
    )
}

fn time(item: &Item, zone: &TimeZone) -> String {
    Timestamp::from_second(item.mtime.seconds).map_or_else(
        |_| format!("@{}", item.mtime.seconds),
        |time| {
            time.to_zoned(zone.clone())
                .strftime("%Y-%m-%d %H:%M:%S")
                .to_string()
        },
    )
}

/// The word for a kind.
pub(super) fn kind(kind: EntryKind) -> &'static str {
    match kind {
        EntryKind::File => "file",
        EntryKind::Folder => "folder",
        EntryKind::Symlink => "symlink",
        EntryKind::Fifo => "fifo",
        EntryKind::Socket => "socket",
        EntryKind::BlockDevice => "block-device",
        EntryKind::CharDevice => "char-device",
    }
}

fn letter(kind: EntryKind) -> char {
    match kind {
        EntryKind::File => '-',
        EntryKind::Folder => 'd',
        EntryKind::Symlink => 'l',
        EntryKind::Fifo => 'p',
        EntryKind::Socket => 's',
        EntryKind::BlockDevice => 'b',
        EntryKind::CharDevice => 'c',
    }
}

fn suffix(kind: EntryKind) -> &'static str {
    if kind == EntryKind::Folder { "/" } else { "" }
}

fn remarks(bits: u64) -> Vec<&'static str> {
    [
        (status::CHANGED, "changed while it was read"),
        (status::UNREADABLE, "could not be read"),
        (status::SECRET, "secret"),
        (status::LIVE, "of a database in use"),
        (status::CARRIED, "carried forward from an earlier snapshot"),
        (status::NEWER, "changed after the database was read"),
    ]
    .into_iter()
    .filter(|(bit, _)| bits & bit != 0)
    .map(|(_, remark)| remark)
    .collect()
}
