//! `lifeboat dump`: one file of a snapshot, or its database, to standard output.

use std::{
    ffi::OsString,
    fs::OpenOptions,
    io::Write,
    os::unix::{ffi::OsStrExt, fs::OpenOptionsExt},
    path::PathBuf,
};

use lifeboat_app::{Found, shown_path};
use lifeboat_repository::StreamError;

use crate::{context::Context, error::CommandError, exit_code::ExitCode, selection::Selection};

/// Write a file, database or table of a snapshot to standard output or a file.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  lifeboat dump shop:uploads/2026/logo.png > logo.png
  lifeboat dump shop:db | pg_restore --list
  lifeboat dump shop:stdin/shop.sql | psql -X -v ON_ERROR_STOP=1 shop_new")]
pub(crate) struct Args {
    /// The snapshot, and what to write of it behind a colon.
    #[arg(value_name = "SNAP[:PATH]")]
    snapshot: OsString,

    /// Write to this new file.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Writes.
pub(super) fn run(args: &Args, context: &Context) -> Result<ExitCode, CommandError> {
    let repository = context.open_repository()?;
    let selection = Selection::of(&repository, context)?;
    let selected = selection.select(&args.snapshot)?;
    let path = selected.path.as_bytes();
    let reader = repository.reader(selected.snapshot.head.domain)?;
    let mut found = lifeboat_app::find_item(&reader, selected.snapshot, path)?;
    // The folder of a database stands for its archive.
    if let Found::Folder { item: Some(_), .. } = &found {
        let archive = [path, b"/database.dump"].concat();
        if let Ok(archive) = lifeboat_app::find_item(&reader, selected.snapshot, &archive) {
            found = archive;
        }
    }
    let Found::Other(item) = found else {
        return Err(CommandError::usage(format!(
            "{} is a folder",
            shown_path(if path.is_empty() {
                b"the snapshot"
            } else {
                path
            })
        ))
        .hint("Name one file in it; lifeboat restore takes folders."));
    };
    let Some(content) = &item.content else {
        return Err(
            CommandError::usage(format!("{} is not a file", shown_path(path)))
                .hint("Only files have content."),
        );
    };
    let mut failure = None;
    let copied = |out: &mut dyn Write, failure: &mut Option<StreamError>| match reader
        .copy_to(content, out)
    {
        Ok(()) => Ok(()),
        Err(StreamError::Write(error)) => Err(error),
        Err(error) => {
            *failure = Some(error);
            Ok(())
        }
    };
    match &args.output {
        None => context.ui().stdout(|out| copied(out, &mut failure))?,
        Some(file) => {
            let wrong = |error: std::io::Error| {
                CommandError::new(ExitCode::Failed, format!("cannot write {}", file.display()))
                    .caused_by(&error)
                    .hint("Choose a new file name.")
            };
            let mut out = OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(file)
                .map_err(wrong)?;
            copied(&mut out, &mut failure).map_err(wrong)?;
            out.sync_all().map_err(wrong)?;
        }
    }
    match failure {
        Some(StreamError::Read(error)) => Err(error.into()),
        _ => Ok(ExitCode::Done),
    }
}
