//! Puts a PostgreSQL database of a snapshot back, into a new database.

use std::io::Write;
use std::sync::atomic::AtomicBool;

use lifeboat_codec::EntryKind;
use lifeboat_postgres::{
    ConnectError, Connection, PreflightError, Programs, ProgramsError, ResolveError,
    RestoreOptions, RestoreReport, Settings, resolve, restore_archive,
};
use lifeboat_repository::{Counter, Progress, ReadError, Repository, Snapshot, StreamError};
use thiserror::Error;
use tokio::runtime::Handle;

use crate::browse::{Found, PathError, find_item};
use crate::facts::database_facts;

/// What a server says to whoever wants to connect to a database that is not there.
const NO_SUCH_DATABASE: &str = "3D000";

/// How a database is restored.
#[derive(Clone, Debug, Default)]
pub struct DatabaseRequest {
    /// The source's name in the snapshot; `None` when there is only one database.
    pub source: Option<String>,
    /// Where to: an address whose database is the new one.
    pub to: String,
    /// Only these tables; empty = all.
    pub tables: Vec<String>,
    /// Connections at once.
    pub jobs: u32,
    /// Leave owners out.
    pub no_owner: bool,
    /// Leave grants out.
    pub no_acl: bool,
}

/// A database could not be restored.
#[derive(Debug, Error)]
pub enum DatabaseError {
    /// The snapshot has none, or several.
    #[error("{0}")]
    Which(String),
    /// It is not in the snapshot.
    #[error(transparent)]
    Path(#[from] PathError),
    /// The repository does not give it.
    #[error("the database cannot be read from the repository")]
    Read(#[from] ReadError),
    /// The target's address.
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    /// The target's server.
    #[error(transparent)]
    Server(#[from] PreflightError),
    /// The server's programs.
    #[error(transparent)]
    Programs(#[from] ProgramsError),
    /// The restore itself.
    #[error(transparent)]
    Restore(#[from] lifeboat_postgres::RestoreError),
    /// A pipe could not be made.
    #[error("cannot make a pipe")]
    Pipe(#[source] std::io::Error),
}

/// Restores a PostgreSQL database of a snapshot into a new database.
///
/// # Errors
/// When the snapshot has no such database, the target exists or does not fit, `stop` is set, or anything fails on the
/// way. Then the new database is removed again.
pub fn restore_database(
    repository: &Repository,
    snapshot: &Snapshot,
    request: &DatabaseRequest,
    progress: &dyn Progress,
    stop: &AtomicBool,
    runtime: &Handle,
) -> Result<RestoreReport, DatabaseError> {
    let manifest = repository.manifest(snapshot)?;
    let databases: Vec<&str> = manifest
        .sources
        .iter()
        .filter(|source| source.kind == "postgres")
        .map(|source| source.name.as_str())
        .collect();
    let source = match (&request.source, databases.as_slice()) {
        (Some(name), _) => name.as_str(),
        (None, [only]) => only,
        (None, []) => {
            return Err(DatabaseError::Which(
                "the snapshot holds no PostgreSQL database".to_owned(),
            ));
        }
        (None, several) => {
            return Err(DatabaseError::Which(format!(
                "the snapshot holds several databases: {}",
                several.join(", ")
            )));
        }
    };
    let reader = repository.reader(snapshot.head.domain)?;
    let file =
        |name: &str| match find_item(&reader, snapshot, format!("{source}/{name}").as_bytes())? {
            Found::Other(item) if item.kind == EntryKind::File => {
                Ok(item.content.expect("a file has content"))
            }
            _ => Err(DatabaseError::Which(format!(
                "{source} is not a PostgreSQL database"
            ))),
        };
    let archive = file("database.dump")?;
    let facts = reader.whole(&file("database.json")?)?;
    let facts = database_facts(&String::from_utf8_lossy(&facts));
    let unknown = facts.is_none().then(|| {
        "The snapshot does not say in words known here how the database was made: the new one has the server's usual \
         encoding, locale and settings."
            .to_owned()
    });

    let environment = |name: &str| std::env::var_os(name);
    let target = resolve(&request.to, &environment)?;
    let new_database = target.database().to_owned();
    let (admin, major) = administration(&target, runtime)?;
    let programs = Programs::find(major, &environment)?;
    let options = RestoreOptions {
        facts,
        jobs: request.jobs.max(1),
        no_owner: request.no_owner,
        no_acl: request.no_acl,
        tables: request.tables.clone(),
        ..RestoreOptions::default()
    };
    progress.phase(&format!(
        "Restoring {source} into the database {new_database}"
    ));
    progress.expect(Counter::Bytes, archive.length);
    let (mut from, to) = std::io::pipe().map_err(DatabaseError::Pipe)?;
    let mut to = Told { to, progress };
    std::thread::scope(|scope| {
        let sender = scope.spawn({
            let (reader, archive, new_database) = (&reader, &archive, &new_database);
            move || {
                let result = reader.copy_to(archive, &mut to);
                // Closing the pipe is what tells the other side that this is all.
                let flushed = to.flush();
                drop(to);
                progress.phase(&format!("Finishing the database {new_database}"));
                result.and_then(|()| flushed.map_err(StreamError::Write))
            }
        });
        let restored = restore_archive(
            &admin,
            &programs,
            &new_database,
            &mut from,
            &options,
            stop,
            runtime,
        );
        drop(from);
        match (
            sender.join().expect("no thread panics while it reads"),
            restored,
        ) {
            // The repository's fault is the cause, whatever the server made of it.
            (Err(StreamError::Read(error)), _) => Err(error.into()),
            (_, Ok(mut report)) => {
                report.warnings.extend(unknown);
                Ok(report)
            }
            (_, Err(error)) => Err(error.into()),
        }
    })
}

/// Tells whoever watches how much went through.
struct Told<'a, W> {
    to: W,
    progress: &'a dyn Progress,
}

impl<W: Write> Write for Told<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let count = self.to.write(bytes)?;
        self.progress.count(Counter::Bytes, count as u64);
        Ok(count)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.to.flush()
    }
}

/// The way to a database of the target's server that is there before the new one, and the server's major version.
///
/// `postgres` may have been dropped, or never made by whoever runs the server; `template1` always is.
fn administration(target: &Settings, runtime: &Handle) -> Result<(Settings, u32), DatabaseError> {
    let mut admin = target.with_database("postgres");
    let connection = match Connection::open(&admin, runtime) {
        Err(ConnectError::Refused { source, .. })
            if source.sqlstate.as_deref() == Some(NO_SUCH_DATABASE) =>
        {
            admin = target.with_database("template1");
            Connection::open(&admin, runtime)
        }
        opened => opened,
    }
    .map_err(PreflightError::from)?;
    let major = connection.server_major().map_err(PreflightError::from)?;
    Ok((admin, major))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Watcher;

    #[test]
    fn what_goes_into_the_pipe_is_told_as_it_is_taken() {
        let (watcher, mut room) = (Watcher::default(), [0; 5]);
        let mut told = Told {
            to: room.as_mut_slice(),
            progress: &watcher,
        };
        assert_eq!(told.write(b"abc").unwrap(), 3);
        assert_eq!(told.write(b"defg").unwrap(), 2, "there is no more room");
        assert_eq!(watcher.amounts(Counter::Bytes), [3, 2]);
        assert_eq!(&room, b"abcde");
    }
}
