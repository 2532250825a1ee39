//! `lifeboat key`: the keys that open the repository.
//!
//! No change of keys writes any backed-up data anew.

use std::path::PathBuf;

use lifeboat_app::clock_time;
use lifeboat_codec::{Role, SlotId, SlotInfo, SlotType};
use lifeboat_repository::{ListedSlot, NewSecret, Repository};
use serde::Serialize;

use super::key_file::NewKeyFile;
use crate::{
    context::Context,
    error::CommandError,
    exit_code::ExitCode,
    password::Source,
    table::{Align, Table},
    text::printable_path,
};

/// A beginning of an id shorter than this is refused.
const PREFIX_MIN: usize = 4;

/// List, add, remove or rotate the keys that open the repository.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  lifeboat key list
  lifeboat key add -o /root/offsite.key --label offsite
  lifeboat key add --write-only -o web1.key --label web1
  lifeboat key add --new-password-file /root/second-passphrase
  lifeboat key remove 3f9a21c0
  lifeboat key rotate")]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// List the keys, oldest first.
    List,
    /// Add a passphrase, or make a key file.
    Add(AddArgs),
    /// Remove a key; who has only its secret is shut out.
    Remove {
        /// The key's id, or the beginning of it.
        #[arg(value_name = "KEY")]
        key: String,

        /// Remove the recovery key too, without a new one in its place.
        #[arg(long)]
        yes: bool,
    },
    /// Draw new keys, so that copies of removed ones do not open what is written from now on.
    Rotate,
}

#[derive(Debug, clap::Args)]
struct AddArgs {
    /// Write a key file to this new file, instead of adding a passphrase.
    #[arg(short, long, value_name = "FILE", conflicts_with = "new_password_file")]
    output: Option<PathBuf>,

    /// Read the new passphrase from this file, instead of asking for it.
    #[arg(long, value_name = "FILE")]
    new_password_file: Option<PathBuf>,

    /// Let the key make backups, and read nothing.
    #[arg(long, requires = "output")]
    write_only: bool,

    /// Name the key in lists.
    #[arg(long, value_name = "TEXT", default_value = "")]
    label: String,
}

impl Args {
    /// Under which name the history keeps this run; a list leaves nothing there.
    pub(super) fn kept_as(&self) -> Option<&'static str> {
        match &self.action {
            Action::List => None,
            Action::Add(_) => Some("key add"),
            Action::Remove { .. } => Some("key remove"),
            Action::Rotate => Some("key rotate"),
        }
    }
}

/// Does what is asked.
pub(super) fn run(args: &Args, context: &Context) -> Result<ExitCode, CommandError> {
    match &args.action {
        Action::List => list(&context.open_repository()?, context)?,
        Action::Add(args) => add(args, context)?,
        Action::Remove { key, yes } => remove(key, *yes, context)?,
        Action::Rotate => rotate(context)?,
    }
    Ok(ExitCode::Done)
}

/// A key, for programs.
#[derive(Serialize)]
pub(super) struct Key<'a> {
    id: String,
    kind: &'static str,
    role: &'static str,
    label: &'a str,
    created_ms: u64,
    current: bool,
    /// A rotation left it out: it is to be replaced.
    outdated: bool,
}

impl<'a> Key<'a> {
    pub(super) fn of(slot: &'a ListedSlot) -> Self {
        Self {
            id: slot.info.id.to_string(),
            kind: slot.info.slot_type.name(),
            role: slot.info.role.name(),
            label: &slot.info.label,
            created_ms: slot.info.created_ms,
            current: slot.current,
            outdated: slot.outdated,
        }
    }
}

fn list(repository: &Repository, context: &Context) -> Result<(), CommandError> {
    let (slots, damaged) = repository.slots()?;
    for sentence in &damaged {
        context
            .ui()
            .warning(&format!("A key cannot be read: {sentence}."));
    }
    if context.ui().is_json() {
        return context
            .ui()
            .answer(&slots.iter().map(Key::of).collect::<Vec<_>>());
    }
    print(&slots, context)
}

fn print(slots: &[ListedSlot], context: &Context) -> Result<(), CommandError> {
    let zone = context.time_zone()?;
    let mut table = Table::new([
        ("Id", Align::Left),
        ("Kind", Align::Left),
        ("Role", Align::Left),
        ("Created", Align::Left),
        ("", Align::Left),
        ("Label", Align::Left),
    ]);
    for slot in slots {
        let remark = match slot {
            slot if slot.current => "in use",
            slot if slot.outdated => "has old keys",
            _ => "",
        };
        table.row([
            slot.info.id.short(),
            slot.info.slot_type.name().to_owned(),
            slot.info.role.name().to_owned(),
            clock_time(slot.info.created_ms, &zone),
            remark.to_owned(),
            slot.info.label.clone(),
        ]);
    }
    let heading = context.ui().heading();
    context.ui().stdout(|out| table.write(out, heading))
}

fn add(args: &AddArgs, context: &Context) -> Result<(), CommandError> {
    let mut repository = context.open_repository()?;
    let role = if args.write_only {
        Role::WriteOnly
    } else {
        Role::Full
    };
    let id = match &args.output {
        Some(path) => {
            let reserved = NewKeyFile::reserve(path)?;
            let (id, content) = repository.add_slot(&NewSecret::KeyFile, role, &args.label)?;
            let content = content.expect("a slot for a key file comes with its content");
            reserved.fill(&content)?;
            id
        }
        None => {
            let source = match &args.new_password_file {
                Some(path) => Source::File(path.clone()),
                None => Source::at_terminal()?,
            };
            let words = context.new_passphrase(&source)?;
            let secret = NewSecret::Passphrase(words.as_bytes());
            repository.add_slot(&secret, role, &args.label)?.0
        }
    };
    let file = args.output.as_ref();
    tell_added(id, file.map(|path| printable_path(path.as_ref())), context)
}

#[derive(Serialize)]
struct Added {
    id: String,
    key_file: Option<String>,
}

fn tell_added(id: SlotId, key_file: Option<String>, context: &Context) -> Result<(), CommandError> {
    if context.ui().is_json() {
        let id = id.to_string();
        return context.ui().summary(&Added { id, key_file });
    }
    context.ui().stdout(|out| match &key_file {
        Some(file) => writeln!(out, "Added the key {} and wrote it to {file}", id.short()),
        None => writeln!(out, "Added the key {}", id.short()),
    })
}

#[derive(Serialize)]
struct Removed {
    id: String,
}

fn remove(key: &str, yes: bool, context: &Context) -> Result<(), CommandError> {
    let repository = context.open_repository()?;
    let (slots, _) = repository.slots()?;
    let SlotInfo { id, slot_type, .. } = *named(key, &slots)?;
    if slot_type == SlotType::Recovery && !yes {
        return Err(CommandError::new(
            ExitCode::Refused,
            "this is the recovery key: without it, who loses the other keys loses everything",
        )
        .hint(
            "`lifeboat recovery-key new` puts a new one in its place; --yes removes it all the same.",
        ));
    }
    repository.remove_slot(id)?;
    if context.ui().is_json() {
        return context.ui().summary(&Removed { id: id.to_string() });
    }
    context.ui().stdout(|out| {
        writeln!(
            out,
            "Removed the key {}. Whoever copied it can still open what is written from now on, until `lifeboat key \
             rotate`.",
            id.short()
        )
    })
}

/// The one key whose id begins so.
fn named<'a>(key: &str, slots: &'a [ListedSlot]) -> Result<&'a SlotInfo, CommandError> {
    let key = key.to_ascii_lowercase();
    let hint = "`lifeboat key list` shows the keys; write four digits of an id or more.";
    if key.len() < PREFIX_MIN || !key.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(CommandError::usage(format!("`{key}` is no id of a key")).hint(hint));
    }
    let mut found = slots
        .iter()
        .map(|slot| &slot.info)
        .filter(|info| info.id.to_string().starts_with(&key));
    match (found.next(), found.next()) {
        (Some(info), None) => Ok(info),
        (Some(_), Some(_)) => {
            Err(CommandError::usage(format!("several keys begin with {key}")).hint(hint))
        }
        (None, _) => Err(CommandError::usage(format!("no key begins with {key}")).hint(hint)),
    }
}

#[derive(Serialize)]
struct Rotated<'a> {
    generation: u16,
    outdated: Vec<Key<'a>>,
}

fn rotate(context: &Context) -> Result<(), CommandError> {
    let mut repository = context.open_repository()?;
    let generation = repository.rotate()?;
    let outdated = outdated(&repository)?;
    if context.ui().is_json() {
        return context.ui().summary(&Rotated {
            generation,
            outdated: outdated.iter().map(Key::of).collect(),
        });
    }
    context.ui().stdout(|out| {
        writeln!(
            out,
            "Rotated: what runs that begin now write opens with generation {generation} of the keys only. Keys in use \
             stay valid."
        )
    })?;
    tell_outdated(&outdated, context)
}

/// The keys that a rotation leaves out, which are write-only.
pub(super) fn outdated(repository: &Repository) -> Result<Vec<ListedSlot>, CommandError> {
    let (mut slots, _) = repository.slots()?;
    slots.retain(|slot| slot.outdated);
    Ok(slots)
}

/// Says which keys are to be replaced, if any.
pub(super) fn tell_outdated(slots: &[ListedSlot], context: &Context) -> Result<(), CommandError> {
    let (keys_go, they_are) = match slots.len() {
        0 => return Ok(()),
        1 => ("This write-only key goes", "it is"),
        _ => ("These write-only keys go", "they are"),
    };
    context.ui().stdout(|out| {
        writeln!(
            out,
            "{keys_go} on with the old ones until {they_are} replaced (`lifeboat key add --write-only -o FILE`, then \
             `lifeboat key remove KEY`):"
        )
    })?;
    print(slots, context)
}
