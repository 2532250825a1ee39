//! What to do when an app cannot take the place of the running one.

use lifeboat_app::{DatabaseError, JournalError, LockError, PlaceError, SwapError};
use lifeboat_postgres::{ConnectError, InPlaceError, InPlacePlanError, SwapError as ServerError};

use super::{databases, of_read};
use crate::{error::CommandError, exit_code::ExitCode};

const FREE: &str = "Stop the app, then run the command again.";
const ADMIN: &str = "Name somebody with --admin who may make and rename databases, such as --admin postgres://postgres@db/postgres.";
const AGAIN: &str = "Mend the cause, then run the same command again: it goes on where it ended. The old state is not lost.";

impl From<SwapError> for CommandError {
    fn from(error: SwapError) -> Self {
        let (code, hint) = match error {
            SwapError::Database(error) => return error.into(),
            SwapError::Restore(error) => return error.into(),
            SwapError::Stored(error) => return DatabaseError::from(error).into(),
            SwapError::TurnedBack(ref source) => of_turned_back(source),
            SwapError::Stuck { .. } => (ExitCode::Failed, AGAIN),
            SwapError::LeftBeside { .. } => (
                ExitCode::Failed,
                "Run the command again: it removes first what is left.",
            ),
            ref error => of(error),
        };
        Self::from_error(code, &error).hint(hint)
    }
}

/// The advice for a swap after which everything is as it was.
fn of_turned_back(error: &SwapError) -> (ExitCode, &'static str) {
    match error {
        SwapError::Lock(LockError::InUse(_)) => (ExitCode::Refused, FREE),
        SwapError::Content(error) => of_content(error),
        SwapError::Server(_) => (
            ExitCode::Database,
            "See who stays in the database; `SELECT * FROM pg_stat_activity` shows it. Then run the command again.",
        ),
        _ => (
            ExitCode::Failed,
            "Mend the cause, then run the command again.",
        ),
    }
}

fn of(error: &SwapError) -> (ExitCode, &'static str) {
    match error {
        SwapError::Journal(JournalError::Busy(_)) => (ExitCode::Busy, "Wait until it has ended."),
        SwapError::Journal(JournalError::Content { .. }) => (
            ExitCode::Failed,
            "Use the version of lifeboat that wrote it; docs/restore-app.md says what stands in it.",
        ),
        SwapError::Journal(JournalError::Io { .. }) => (
            ExitCode::Failed,
            "Check who owns the folder that `lifeboat doctor` calls state, and the room that is left there.",
        ),
        SwapError::Read(error) => of_read(error),
        SwapError::Server(ServerError::Connect(error)) => of_connect(error),
        SwapError::Server(_) => (ExitCode::Database, ADMIN),
        SwapError::Resolve(_) | SwapError::NotConfigured(_) => (
            ExitCode::Usage,
            "Mend the address of this app's database in the configuration, or in --admin.",
        ),
        SwapError::Source(_) => (
            ExitCode::Usage,
            "Mend this source in the configuration; `lifeboat app test` tries it.",
        ),
        SwapError::Lock(LockError::InUse(_)) => (ExitCode::Refused, FREE),
        SwapError::Content(error) => of_content(error),
        SwapError::ContentPlan(InPlacePlanError::Connect(error)) => of_connect(error),
        SwapError::ContentPlan(_) => (
            ExitCode::Database,
            "Restore without --in-place, into a database of its own (--admin); nothing was touched.",
        ),
        SwapError::NoPoint | SwapError::PointLacks(_) | SwapError::WholeArchive(_) => (
            ExitCode::Refused,
            "Restore without --in-place, which keeps what was there as it is (--admin); nothing was replaced.",
        ),
        SwapError::Refused(_) => (
            ExitCode::Refused,
            "Mend that, or restore into a new place with --into and --to; nothing was touched.",
        ),
        SwapError::Changed(_) => (
            ExitCode::Refused,
            "Look who else is at work there, then run the command again to see a new plan; nothing was touched.",
        ),
        SwapError::Newer(_) => (
            ExitCode::Refused,
            "Bring the app's code up first, or give --allow-newer; nothing was touched.",
        ),
        SwapError::Problems { .. }
        | SwapError::References { .. }
        | SwapError::NotOneFile(_)
        | SwapError::Damaged { .. } => (
            ExitCode::Incomplete,
            "Nothing was swapped. `lifeboat restore-app APP --into DIR --to URL` gives what there is, beside the running app.",
        ),
        SwapError::Full(_) => (
            ExitCode::Failed,
            "Make room there, then run the command again; nothing was swapped.",
        ),
        SwapError::Kept { .. } => (
            ExitCode::Refused,
            "--forget-old removes it; --undo brings it back.",
        ),
        SwapError::NothingKept(_) => (
            ExitCode::Refused,
            "`lifeboat log` shows what was restored on this machine.",
        ),
        SwapError::Repository(_) => (
            ExitCode::Refused,
            "Move the repository to another place, then run the command again.",
        ),
        SwapError::Mounted(_) => (ExitCode::Refused, "Unmount it, then run the command again."),
        SwapError::Place(PlaceError::Foreign(_) | PlaceError::Gone(_)) => (
            ExitCode::Failed,
            "Put back what was moved; the journal says what belongs where.",
        ),
        _ => (ExitCode::Failed, AGAIN),
    }
}

/// The advice for a content that was not replaced.
fn of_content(error: &InPlaceError) -> (ExitCode, &'static str) {
    match error {
        InPlaceError::Connect(error) => of_connect(error),
        InPlaceError::Held(_) => (
            ExitCode::Refused,
            "Stop who works there, then run the command again; nothing was replaced.",
        ),
        InPlaceError::Appeared(_) | InPlaceError::Refused(_) => (
            ExitCode::Refused,
            "Look who else is at work there, then run the command again to see a new plan; nothing was replaced.",
        ),
        InPlaceError::Lost(_) => (
            ExitCode::Refused,
            "Restore without --in-place, into a database of its own (--admin); nothing was replaced.",
        ),
        InPlaceError::Verify(_) | InPlaceError::Load(_) | InPlaceError::Assembly(_) => (
            ExitCode::Incomplete,
            "Nothing was replaced. `lifeboat check --read-data` looks whether the repository is whole; an older snapshot may be.",
        ),
        _ => (
            ExitCode::Database,
            "Mend the cause, then run the command again; nothing was replaced.",
        ),
    }
}

fn of_connect(error: &ConnectError) -> (ExitCode, &'static str) {
    (ExitCode::Database, databases::of_connect(error))
}
