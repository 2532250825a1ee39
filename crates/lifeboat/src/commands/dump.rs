//! `lifeboat dump`: one file of a snapshot, or its database, to standard output.

use std::{
    ffi::{OsStr, OsString},
    io::{self, Write},
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use lifeboat_app::{DatabaseError, DumpFormat, FileContent, Found, shown_path};
use lifeboat_repository::{Reader, Repository, Snapshot, StreamError};
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
  lifeboat dump shop:db | psql -X -v ON_ERROR_STOP=1 shop_new
  lifeboat dump shop:db --format custom | pg_restore --dbname shop_new
  lifeboat dump shop:stdin/shop.sql | psql -X -v ON_ERROR_STOP=1 shop_new")]
pub(crate) struct Args {
    /// The snapshot, and behind a colon the file, or the name of a PostgreSQL database.
    #[arg(value_name = "SNAP[:PATH]")]
    snapshot: OsString,

    /// Write a database as SQL for psql (plain), or as an archive for pg_restore (custom); no server is needed, but for
    /// SQL of a snapshot that is one archive a pg_restore.
    #[arg(long, value_name = "FORMAT")]
    format: Option<Format>,

    /// Write to this new file.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// How a database is written.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Format {
    /// SQL that psql loads.
    Plain,
    /// An archive that pg_restore loads.
    Custom,
}

/// What is written.
enum Content<'a> {
    File(FileContent),
    Database { source: &'a str, format: DumpFormat },
}

/// Why it was not written.
enum Fault {
    Write(io::Error),
    Read(Box<CommandError>),
}

/// Writes.
pub(super) fn run(args: &Args, context: &Context) -> Result<ExitCode, CommandError> {
    let repository = context.open_to_read()?;
    let selection = Selection::of(&repository, context)?;
    let selected = selection.select(&args.snapshot)?;
    let reader = repository.reader(selected.snapshot.head.domain)?;
    let content = match database(&repository, selected.snapshot, &selected.path)? {
        Some(source) => Content::Database {
            source,
            format: match args.format {
                Some(Format::Custom) => DumpFormat::Custom,
                None | Some(Format::Plain) => DumpFormat::Plain,
            },
        },
        None if args.format.is_some() => {
            return Err(CommandError::usage(format!(
                "{} is not a PostgreSQL database",
                shown_path(selected.path.as_bytes())
            ))
            .hint("Leave --format out: files are written as they are."));
        }
        None => Content::File(file(&reader, selected.snapshot, selected.path.as_bytes())?),
    };
    let interrupt = context.interrupt();
    let write = |out: &mut dyn Write| -> Result<(), Fault> {
        let mut out = UntilStopped { out, interrupt };
        match &content {
            Content::File(content) => lifeboat_app::copy_content(&reader, content, &mut out)
                .map_err(|error| match error {
                    StreamError::Write(error) => Fault::Write(error),
                    StreamError::Read(error) => Fault::Read(Box::new(error.into())),
                }),
            Content::Database { source, format } => lifeboat_app::dump_database(
                &repository,
                selected.snapshot,
                source,
                *format,
                interrupt.flag(),
                &mut out,
            )
            .map_err(|error| match error {
                DatabaseError::Write(error) => Fault::Write(error),
                error => Fault::Read(Box::new(error.into())),
            }),
        }
    };
    match &args.output {
        None => to_stdout(context, &write),
        Some(file) => to_file(file, &write),
    }
}

fn to_stdout(
    context: &Context,
    write: &dyn Fn(&mut dyn Write) -> Result<(), Fault>,
) -> Result<ExitCode, CommandError> {
    let mut fault = None;
    context.ui().stdout(|out| match write(out) {
        Ok(()) => Ok(()),
        Err(Fault::Write(error)) => Err(error),
        Err(Fault::Read(error)) => {
            fault = Some(error);
            Ok(())
        }
    })?;
    match fault {
        Some(error) => Err(*error),
        None => Ok(ExitCode::Done),
    }
}

/// Under its name stands the whole file or none.
fn to_file(
    file: &Path,
    write: &dyn Fn(&mut dyn Write) -> Result<(), Fault>,
) -> Result<ExitCode, CommandError> {
    let wrong = |error: io::Error| {
        CommandError::new(ExitCode::Failed, format!("cannot write {}", file.display()))
            .caused_by(&error)
            .hint(hint(error.kind()))
    };
    // Long work is not begun for a name that is taken.
    if file.symlink_metadata().is_ok() {
        return Err(wrong(io::ErrorKind::AlreadyExists.into()));
    }
    let folder = file.parent().filter(|folder| *folder != Path::new(""));
    let mut out = NamedTempFile::new_in(folder.unwrap_or(Path::new("."))).map_err(wrong)?;
    match write(&mut out) {
        Ok(()) => {}
        Err(Fault::Write(error)) => return Err(wrong(error)),
        Err(Fault::Read(error)) => return Err(*error),
    }
    out.as_file().sync_all().map_err(wrong)?;
    out.persist_noclobber(file)
        .map_err(|error| wrong(error.error))?;
    Ok(ExitCode::Done)
}

/// The PostgreSQL database whose folder the path names, if it does.
fn database<'p>(
    repository: &Repository,
    snapshot: &Snapshot,
    path: &'p OsStr,
) -> Result<Option<&'p str>, CommandError> {
    let Some(name) = path.to_str().map(|path| path.trim_matches('/')) else {
        return Ok(None);
    };
    if name.is_empty() || name.contains('/') {
        return Ok(None);
    }
    let manifest = repository.manifest(snapshot)?;
    let mut sources = manifest.sources.iter();
    let found = sources.any(|source| source.kind == "postgres" && source.name == name);
    Ok(found.then_some(name))
}

/// The content of one file.
fn file(
    reader: &Reader<'_>,
    snapshot: &Snapshot,
    path: &[u8],
) -> Result<FileContent, CommandError> {
    let Found::Other(item) = lifeboat_app::find_item(reader, snapshot, path)? else {
        let shown = if path.is_empty() {
            b"the snapshot"
        } else {
            path
        };
        return Err(
            CommandError::usage(format!("{} is a folder", shown_path(shown)))
                .hint("Name one file in it; lifeboat restore takes folders."),
        );
    };
    item.content.ok_or_else(|| {
        CommandError::usage(format!("{} is not a file", shown_path(path)))
            .hint("Only files have content.")
    })
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
