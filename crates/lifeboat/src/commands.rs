//! The verbs: one file each, with what it understands (`Args`) and what it does (`run`).
//!
//! A verb that cannot be run is not declared. To add one: its file, its line in [`Command`] and its line in `run`.

mod address;
mod app;
mod backup;
mod check;
mod completions;
mod config;
mod copy;
mod demo;
mod diff;
mod doctor;
mod drill;
mod dump;
mod find;
mod findings;
mod foreign_dump;
mod growth;
mod help;
mod init;
mod key;
mod key_file;
mod log;
mod ls;
mod man;
mod note;
mod pin;
mod recovery_key;
mod references;
mod restore;
mod restore_app;
mod restore_db;
mod snapshots;
mod sources;
mod stats;
mod status;
mod tag;
mod unpin;
mod unread;
mod verify_store;
mod version;

#[cfg(test)]
pub(crate) use man::ENVIRONMENT;

use crate::{context::Context, error::CommandError, exit_code::ExitCode};

/// A verb and what was typed behind it.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    Demo(demo::Args),
    Init(init::Args),
    App(app::Args),
    Backup(backup::Args),
    Snapshots(snapshots::Args),
    Status(status::Args),
    Ls(ls::Args),
    Find(find::Args),
    Diff(diff::Args),
    Stats(stats::Args),
    Restore(restore::Args),
    RestoreDb(restore_db::Args),
    RestoreApp(restore_app::Args),
    Dump(dump::Args),
    Drill(drill::Args),
    Check(check::Args),
    VerifyStore(verify_store::Args),
    Copy(copy::Args),
    Tag(tag::Args),
    Pin(pin::Args),
    Unpin(unpin::Args),
    Key(key::Args),
    RecoveryKey(recovery_key::Args),
    Log(log::Args),
    Config(config::Args),
    Doctor(doctor::Args),
    Completions(completions::Args),
    Man(man::Args),
    Version(version::Args),
    Help(help::Args),
}

impl Command {
    /// Does what the verb says. A code other than 0 is a result, not an error: the verb has said what it found.
    pub(crate) fn run(&self, context: &Context) -> Result<ExitCode, CommandError> {
        match self {
            Self::Demo(args) => demo::run(args, context),
            Self::Init(args) => init::run(args, context),
            Self::App(args) => app::run(args, context),
            Self::Backup(args) => backup::run(args, context),
            Self::Ls(args) => ls::run(args, context),
            Self::Find(args) => find::run(args, context),
            Self::Diff(args) => diff::run(args, context),
            Self::Stats(args) => stats::run(args, context),
            Self::Restore(args) => restore::run(args, context),
            Self::RestoreDb(args) => restore_db::run(args, context),
            Self::RestoreApp(args) => restore_app::run(args, context),
            Self::Dump(args) => dump::run(args, context),
            Self::Drill(args) => drill::run(args, context),
            Self::Check(args) => check::run(args, context),
            Self::VerifyStore(args) => verify_store::run(args, context),
            Self::Copy(args) => copy::run(args, context),
            Self::Snapshots(args) => snapshots::run(args, context),
            Self::Status(args) => status::run(args, context),
            Self::Tag(args) => tag::run(args, context),
            Self::Pin(args) => pin::run(args, context),
            Self::Unpin(args) => unpin::run(args, context),
            Self::Key(args) => key::run(args, context),
            Self::RecoveryKey(args) => recovery_key::run(args, context),
            Self::Log(args) => log::run(args, context),
            Self::Config(args) => config::run(args, context),
            Self::Doctor(args) => doctor::run(args, context),
            Self::Completions(args) => completions::run(args, context),
            Self::Man(args) => man::run(args, context),
            Self::Version(args) => version::run(args, context),
            Self::Help(args) => help::run(args, context),
        }
    }

    /// Under which name the history keeps runs of this verb; what only looks or helps leaves nothing there.
    pub(crate) fn kept_as(&self) -> Option<&'static str> {
        match self {
            Self::Init(_) => Some("init"),
            Self::App(args) => args.kept_as(),
            Self::Backup(args) => Some(args.kept_as()),
            Self::Restore(_) => Some("restore"),
            Self::RestoreDb(_) => Some("restore-db"),
            Self::RestoreApp(args) => args.kept_as(),
            Self::Dump(_) => Some("dump"),
            Self::Drill(_) => Some(drill::KEPT_AS),
            Self::Check(_) => Some("check"),
            Self::VerifyStore(_) => Some("verify-store"),
            Self::Copy(_) => Some("copy"),
            Self::Tag(_) => Some("tag"),
            Self::Pin(_) => Some("pin"),
            Self::Unpin(_) => Some("unpin"),
            Self::Key(args) => args.kept_as(),
            Self::RecoveryKey(args) => Some(args.kept_as()),
            Self::Demo(_)
            | Self::Snapshots(_)
            | Self::Status(_)
            | Self::Ls(_)
            | Self::Find(_)
            | Self::Diff(_)
            | Self::Stats(_)
            | Self::Log(_)
            | Self::Config(_)
            | Self::Doctor(_)
            | Self::Completions(_)
            | Self::Man(_)
            | Self::Version(_)
            | Self::Help(_) => None,
        }
    }

    /// What a person can do who stopped this verb in the middle.
    pub(crate) fn when_stopped(&self) -> &'static str {
        match self {
            Self::Backup(args) if !args.is_rehearsal() => {
                "Run the command again; what was stored already is used."
            }
            Self::Copy(_) => "Run the command again; what was copied already is used.",
            Self::Restore(args) if !args.is_rehearsal() => {
                "Restore into a new folder, or go on with --overwrite if-changed: what is restored already is then kept."
            }
            Self::RestoreApp(args) => args.when_stopped(),
            _ => "Run the command again.",
        }
    }

    /// True when standard output carries content that a message would spoil.
    pub(crate) fn prints_content(&self) -> bool {
        matches!(
            self,
            Self::Completions(_) | Self::Man(_) | Self::Dump(_) | Self::Help(_)
        )
    }
}
