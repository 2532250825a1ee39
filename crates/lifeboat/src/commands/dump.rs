//! `lifeboat dump`: one file of a snapshot, or its database, to standard output.

use std::{
    ffi::OsString,
    io::{self, Write},
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use lifeboat_app::{Found, shown_path};
use lifeboat_repository::StreamError;
use tempfile::NamedTempFile;

use crate::{
    context::Context, error::CommandError, exit_code::ExitCode, interrupt::Interrupt,
    selection::Selection,
};

/// Write a file or database of a snapshot to standard output or a file.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  lifeboat dump shop:uploads/2026/logo.png > logo.png
  lifeboat dump shop:db | pg_restore --list
  lifeboat dump shop:db | pg_restore --table=orders --file=orders.sql
  lifeboat dump shop:stdin/shop.sql | psql -X -v ON_ERROR_STOP=1 shop_new")]
pub(crate) struct Args {
    /// The snapshot, and behind a colon the file; a database's folder stands for its archive.
    #[arg(value_name = "SNAP[:PATH]")]
    snapshot: OsString,

    /// Write to this new file.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Writes.
pub(super) fn run(args: &Args, context: &Context) -> Result<ExitCode, CommandError> {
    let repository = context.open_to_read()?;
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
    let interrupt = context.interrupt();
    let copied = |out: &mut dyn Write, failure: &mut Option<StreamError>| {
        let mut out = UntilStopped { out, interrupt };
        match reader.copy_to(content, &mut out) {
            Ok(()) => Ok(()),
            Err(StreamError::Write(error)) => Err(error),
            Err(error) => {
                *failure = Some(error);
                Ok(())
            }
        }
    };
    match &args.output {
        None => context.ui().stdout(|out| copied(out, &mut failure))?,
        Some(file) => {
            let wrong = |error: io::Error| {
                CommandError::new(ExitCode::Failed, format!("cannot write {}", file.display()))
                    .caused_by(&error)
                    .hint(hint(error.kind()))
            };
            // Long work is not begun for a name that is taken.
            if file.symlink_metadata().is_ok() {
                return Err(wrong(io::ErrorKind::AlreadyExists.into()));
            }
            // Under its name stands the whole file or none.
            let folder = file.parent().filter(|folder| *folder != Path::new(""));
            let mut out = NamedTempFile::new_in(folder.unwrap_or(Path::new("."))).map_err(wrong)?;
            copied(&mut out, &mut failure).map_err(wrong)?;
            if failure.is_none() {
                out.as_file().sync_all().map_err(wrong)?;
                out.persist_noclobber(file)
                    .map_err(|error| wrong(error.error))?;
            }
        }
    }
    match failure {
        Some(StreamError::Read(error)) => Err(error.into()),
        _ => Ok(ExitCode::Done),
    }
}

/// What to do about a file that could not be written.
fn hint(kind: io::ErrorKind) -> &'static str {
    match kind {
        io::ErrorKind::AlreadyExists => "Choose a new file name.",
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
            "Make the folder first, or name one that is there."
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "Make room there, or write it to another disk."
        }
        _ => "Choose a folder that this user may write to.",
    }
}

/// Passes bytes on until the program is asked to stop.
struct UntilStopped<'a> {
    out: &'a mut dyn Write,
    interrupt: &'a Interrupt,
}

impl Write for UntilStopped<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.interrupt.is_set() {
            return Err(io::Error::other("it was asked to stop"));
        }
        self.out.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
