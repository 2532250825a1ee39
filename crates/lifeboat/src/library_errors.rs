//! Which exit code and which advice an error of a library means: the only place that decides it.

use lifeboat_app::ConfigError;
use lifeboat_repository::{CreateError, KeyError, OpenError, ReadError, WriteError};
use lifeboat_store::{ErrorKind, LocationError};

use crate::{error::CommandError, exit_code::ExitCode};

const WRONG_KEY: &str = "Check where the passphrase or key file comes from (`lifeboat doctor` says it); the recovery \
                         key may be given in a passphrase's place.";
const NO_REPOSITORY: &str =
    "Check the path, and that the disk is mounted; `lifeboat init` creates a repository.";
const DAMAGED: &str = "Something in the repository was lost or changed; look at its other snapshots and copies before \
                       anything else is written.";
const STATE: &str = "Check who owns the folder that `lifeboat doctor` calls state, and the room that is left there.";
const ROLE: &str = "Use a key that may do everything; `lifeboat key list` shows them.";

impl From<LocationError> for CommandError {
    fn from(error: LocationError) -> Self {
        Self::from_error(ExitCode::Usage, &error).hint(error.hint())
    }
}

impl From<ConfigError> for CommandError {
    fn from(error: ConfigError) -> Self {
        Self::from_error(ExitCode::Usage, &error).hint(match error {
            ConfigError::Read { .. } | ConfigError::TooLarge { .. } => {
                "Name the right file with --config; `lifeboat config init` begins a new one."
            }
            ConfigError::Invalid { .. } => {
                "Mend these lines; `lifeboat config explain KEY` says what a key is for."
            }
        })
    }
}

impl From<lifeboat_store::Error> for CommandError {
    fn from(error: lifeboat_store::Error) -> Self {
        let (code, hint) = of_store(error.kind());
        Self::from_error(code, &error).hint(hint)
    }
}

impl From<OpenError> for CommandError {
    fn from(error: OpenError) -> Self {
        let (code, hint) = of_open(&error);
        Self::from_error(code, &error).hint(hint)
    }
}

impl From<ReadError> for CommandError {
    fn from(error: ReadError) -> Self {
        let (code, hint) = of_read(&error);
        Self::from_error(code, &error).hint(hint)
    }
}

impl From<WriteError> for CommandError {
    fn from(error: WriteError) -> Self {
        let (code, hint) = of_write(&error);
        Self::from_error(code, &error).hint(hint)
    }
}

impl From<CreateError> for CommandError {
    fn from(error: CreateError) -> Self {
        let (code, hint) = match &error {
            CreateError::Exists => (
                ExitCode::Refused,
                "Use it as it is, or choose another folder for a new one.",
            ),
            CreateError::Write(error) => of_write(error),
            CreateError::Open(error) => of_open(error),
        };
        Self::from_error(code, &error).hint(hint)
    }
}

impl From<KeyError> for CommandError {
    fn from(error: KeyError) -> Self {
        let (code, hint) = match &error {
            KeyError::NoSlot => (ExitCode::Usage, "`lifeboat key list` shows the keys."),
            KeyError::InUse => (ExitCode::Refused, "Open the repository with another key."),
            KeyError::Last => (ExitCode::Refused, "Add another key first."),
            KeyError::Read(error) => of_read(error),
            KeyError::Write(error) => of_write(error),
        };
        Self::from_error(code, &error).hint(hint)
    }
}

fn of_store(kind: ErrorKind) -> (ExitCode, &'static str) {
    match kind {
        ErrorKind::NotFound => (ExitCode::NoRepository, NO_REPOSITORY),
        ErrorKind::AlreadyExists => (ExitCode::Refused, "Choose an empty or new folder."),
        ErrorKind::Full => (
            ExitCode::Failed,
            "Make room where the repository lies, then run the command again.",
        ),
        ErrorKind::Denied => (
            ExitCode::Failed,
            "Run as the user that owns the repository, or change its owner or mode.",
        ),
        ErrorKind::Transient => (
            ExitCode::Failed,
            "Run the command again; what was stored already is used.",
        ),
        _ => (
            ExitCode::Failed,
            "Run `lifeboat doctor` with the same options.",
        ),
    }
}

fn of_open(error: &OpenError) -> (ExitCode, &'static str) {
    match error {
        OpenError::NoRepository => (ExitCode::NoRepository, NO_REPOSITORY),
        OpenError::WrongKey(_) | OpenError::OtherRepository => (ExitCode::WrongKey, WRONG_KEY),
        OpenError::Read(error) => of_read(error),
        OpenError::State(_) => (ExitCode::Failed, STATE),
    }
}

fn of_read(error: &ReadError) -> (ExitCode, &'static str) {
    match error {
        // A repository that was opened is there: what lacks is one of its objects.
        ReadError::Store(error) if error.kind() == ErrorKind::NotFound => {
            (ExitCode::Problem, DAMAGED)
        }
        ReadError::Store(error) => of_store(error.kind()),
        ReadError::Format { .. } | ReadError::MissingChunk(_) => (ExitCode::Problem, DAMAGED),
    }
}

fn of_write(error: &WriteError) -> (ExitCode, &'static str) {
    match error {
        WriteError::Store(error) => of_store(error.kind()),
        WriteError::Read(error) => of_read(error),
        WriteError::State(_) => (ExitCode::Failed, STATE),
        WriteError::Spool(_) => (
            ExitCode::Failed,
            "Make room in the folder for temporary files, or name another with TMPDIR.",
        ),
        WriteError::Role(_) => (ExitCode::WrongKey, ROLE),
        WriteError::Feature(_) => (ExitCode::Failed, "Install a newer version of lifeboat."),
        WriteError::Overtaken { .. } => (
            ExitCode::Busy,
            "Run the command again when nothing else works on the repository.",
        ),
        WriteError::HeadTooLong => (ExitCode::Usage, "Use fewer or shorter tags."),
        WriteError::Format(_) | WriteError::Source(_) | WriteError::Stopped => (
            ExitCode::Failed,
            "Run the command again; what was stored already is used.",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_has_the_code_of_the_contract_and_advice() {
        let cases: [(CommandError, ExitCode); 8] = [
            (OpenError::NoRepository.into(), ExitCode::NoRepository),
            (OpenError::WrongKey("passphrase").into(), ExitCode::WrongKey),
            (CreateError::Exists.into(), ExitCode::Refused),
            (KeyError::Last.into(), ExitCode::Refused),
            (WriteError::Role("add a key").into(), ExitCode::WrongKey),
            (WriteError::Overtaken { packs: 2 }.into(), ExitCode::Busy),
            (
                KeyError::Write(WriteError::HeadTooLong).into(),
                ExitCode::Usage,
            ),
            (LocationError::Empty.into(), ExitCode::Usage),
        ];
        for (error, code) in cases {
            assert_eq!(error.code(), code, "{error:?}");
            assert!(error.facts().hint.is_some(), "{error:?}");
        }
    }
}
