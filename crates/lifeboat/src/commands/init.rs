//! `lifeboat init`: makes a repository, and shows its recovery key once.

use std::{path::PathBuf, sync::Arc};

use lifeboat_codec::encode_recovery;
use lifeboat_repository::{Created, NewSecret, Repository};
use lifeboat_store::{Location, Store};
use serde::Serialize;
use zeroize::Zeroizing;

use super::key_file::NewKeyFile;
use crate::{
    context::Context,
    error::CommandError,
    exit_code::ExitCode,
    password::{Credential, Source},
    text::printable_path,
};

/// Create a repository and print its recovery key once.
#[derive(Debug, clap::Args)]
#[command(
    alias = "repo-create",
    after_help = "\
Examples:
  lifeboat init -r /srv/lifeboat/repo
  lifeboat init -r /srv/lifeboat/repo -p /etc/lifeboat/passphrase
  lifeboat init -r /srv/lifeboat/repo --key-file /etc/lifeboat/key
  lifeboat init -r /mnt/offsite/repo --replica-of /srv/lifeboat/repo"
)]
pub(crate) struct Args {
    /// Write a key file that opens the repository to this new file.
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,

    /// Make a replica of this repository, which takes over its data as it is.
    #[arg(long, value_name = "REPO")]
    replica_of: Option<Location>,
}

/// Makes the repository.
pub(super) fn run(args: &Args, context: &Context) -> Result<ExitCode, CommandError> {
    let location = context.location()?;
    let original = args
        .replica_of
        .as_ref()
        .map(|original| open_original(original, context))
        .transpose()?;
    let passphrase = match &original {
        Some(original) => original.passphrase.clone(),
        None => new_passphrase(args, context)?,
    };
    let key_file = args
        .key_file
        .as_deref()
        .map(NewKeyFile::reserve)
        .transpose()?;
    let mut secrets = Vec::new();
    if let Some(passphrase) = &passphrase {
        secrets.push(NewSecret::Passphrase(passphrase.as_bytes()));
    }
    if key_file.is_some() {
        secrets.push(NewSecret::KeyFile);
    }
    if secrets.is_empty() {
        return Err(no_passphrase());
    }
    let store: Arc<dyn Store> = lifeboat_store::create(&location)?.into();
    let surroundings = context.surroundings()?;
    let created = match &original {
        Some(original) => {
            original
                .repository
                .create_replica(Arc::clone(&store), &secrets, surroundings)?
        }
        None => Repository::create(Arc::clone(&store), &secrets, surroundings)?,
    };
    context.warn_of_store(store.as_ref());
    if let (Some(reserved), Some(content)) = (key_file, &created.key_file) {
        reserved.fill(content)?;
    }
    tell(&location, args, &created, context)?;
    Ok(ExitCode::Done)
}

fn no_passphrase() -> CommandError {
    CommandError::usage("a key file or recovery key cannot be the passphrase of a new repository")
        .hint("Give a passphrase with -p or LIFEBOAT_PASSWORD_FILE, or have a key file made with --key-file.")
}

/// The passphrase of a new repository; none when a key file is made and nobody gives a passphrase.
fn new_passphrase(
    args: &Args,
    context: &Context,
) -> Result<Option<Zeroizing<String>>, CommandError> {
    match context.secret_source() {
        Ok(Source::Prompt | Source::KeyFile(_)) if args.key_file.is_some() => Ok(None),
        Ok(Source::KeyFile(_)) => Err(no_passphrase()),
        Ok(source) => context.new_passphrase(&source).map(Some),
        Err(error) if error.code() == ExitCode::WrongKey && args.key_file.is_some() => Ok(None),
        Err(error) => Err(error),
    }
}

/// The repository that a replica is made of, and the passphrase that opened it.
struct Original {
    repository: Repository,
    passphrase: Option<Zeroizing<String>>,
}

fn open_original(location: &Location, context: &Context) -> Result<Original, CommandError> {
    let credential = context.credential()?;
    let repository = context.unlock(context.open_store(location)?, &credential)?;
    let passphrase = match credential {
        Credential::Passphrase(words) => Some(words),
        Credential::KeyFile(_) | Credential::Recovery(_) => None,
    };
    Ok(Original {
        repository,
        passphrase,
    })
}

#[derive(Serialize)]
struct Told<'a> {
    repository: String,
    family: String,
    replica: String,
    recovery_key: &'a str,
    key_file: Option<String>,
}

fn tell(
    location: &Location,
    args: &Args,
    created: &Created,
    context: &Context,
) -> Result<(), CommandError> {
    let recovery = encode_recovery(&created.recovery);
    let superblock = created.repository.superblock();
    let key_file = args
        .key_file
        .as_ref()
        .map(|file| printable_path(file.as_ref()));
    if context.ui().is_json() {
        return context.ui().secret_summary(&Told {
            repository: location.to_string(),
            family: superblock.family.to_string(),
            replica: superblock.replica.to_string(),
            recovery_key: &recovery,
            key_file,
        });
    }
    context.ui().stdout(|out| {
        writeln!(out, "Created the repository {} at {location}", superblock.family.short())?;
        if let Some(file) = &key_file {
            writeln!(out, "Wrote the key file {file}")?;
        }
        writeln!(out, "\nRecovery key:\n\n  {}\n", *recovery)?;
        writeln!(
            out,
            "Write it down and keep it away from this machine. It opens the repository when the {}\n\
             is lost; without both, nobody can read the backups.",
            if key_file.is_some() { "key file" } else { "passphrase" }
        )
    })
}
