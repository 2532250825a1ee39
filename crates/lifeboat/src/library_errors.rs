//! Which exit code and which advice an error of a library means: the only place that decides it.

mod databases;
mod swaps;

use lifeboat_app::{BackupError, ConfigError, PathError, RestoreError, SourceError};
use lifeboat_codec::FormatError;
use lifeboat_repository::{CopyError, CreateError, KeyError, OpenError, ReadError, WriteError};
use lifeboat_store::{ErrorKind, LocationError};

use crate::{error::CommandError, exit_code::ExitCode};

const WRONG_KEY: &str = "Check where the passphrase or key file comes from (`lifeboat config show` says it); the recovery \
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

impl From<CopyError> for CommandError {
    fn from(error: CopyError) -> Self {
        let (code, hint) = match &error {
            CopyError::From(error) => of_read(error),
            CopyError::To(error) => of_write(error),
            CopyError::Same => (
                ExitCode::Usage,
                "Name another repository; `lifeboat init --replica-of` makes one for copies.",
            ),
            CopyError::Stopped => (
                ExitCode::Failed,
                "Run the command again; what was copied already is used.",
            ),
        };
        Self::from_error(code, &error).hint(hint)
    }
}

impl From<KeyError> for CommandError {
    fn from(error: KeyError) -> Self {
        let (code, hint) = match &error {
            KeyError::NoSlot => (ExitCode::Usage, "`lifeboat key list` shows the keys."),
            KeyError::InUse => (
                ExitCode::Refused,
                "Open the repository with another key, by --password-file or LIFEBOAT_KEY_FILE; `lifeboat key add` makes one.",
            ),
            KeyError::Last => (ExitCode::Refused, "Add another key first."),
            KeyError::SameWords(_) => (
                ExitCode::Refused,
                "Choose another passphrase; `lifeboat key remove KEY` removes the key that has this one.",
            ),
            KeyError::NoRecovery => (
                ExitCode::WrongKey,
                "`lifeboat recovery-key new` makes a new one.",
            ),
            KeyError::Behind(_) => (
                ExitCode::Refused,
                "Rotate with that key; if it is lost for good, remove it first.",
            ),
            KeyError::Read(error) => of_read(error),
            KeyError::Write(error) => of_write(error),
        };
        Self::from_error(code, &error).hint(hint)
    }
}

impl From<BackupError> for CommandError {
    fn from(error: BackupError) -> Self {
        let (code, hint) = match &error {
            BackupError::Source { source, .. } if source.is_database() => {
                let hint = databases::of_source(source);
                return Self::from_error(ExitCode::Database, &error).hint(hint);
            }
            BackupError::Source { source, .. }
                if matches!(**source, SourceError::NoRoom { .. }) =>
            {
                (
                    ExitCode::Failed,
                    "Make room there, or name another folder for temporary files in TMPDIR.",
                )
            }
            BackupError::Source { source, .. }
                if matches!(
                    **source,
                    SourceError::Command { .. } | SourceError::Start(..)
                ) =>
            {
                (
                    ExitCode::Failed,
                    "Run the command by hand as the same user; what a failed command printed is never kept.",
                )
            }
            BackupError::Source { .. } => (
                ExitCode::Failed,
                "Mend the cause and run the backup again; no snapshot was made.",
            ),
            BackupError::SameName(_) => (
                ExitCode::Usage,
                "Give one of them another name in lifeboat.toml, or back them up as two apps.",
            ),
            BackupError::NoSources => (ExitCode::Usage, "Add a source with `lifeboat app add`."),
            BackupError::Write(error) => of_write(error),
        };
        Self::from_error(code, &error).hint(hint)
    }
}

impl From<PathError> for CommandError {
    fn from(error: PathError) -> Self {
        match &error {
            PathError::NotFound { beside, .. } => {
                let hint = if beside.is_empty() {
                    "`lifeboat ls SNAP` shows what it has.".to_owned()
                } else {
                    format!("There is: {}.", beside.join(", "))
                };
                Self::from_error(ExitCode::Failed, &error).hint(hint)
            }
            PathError::Read(inner) => {
                let (code, hint) = of_read(inner);
                Self::from_error(code, &error).hint(hint)
            }
        }
    }
}

impl From<RestoreError> for CommandError {
    fn from(error: RestoreError) -> Self {
        let (code, hint) = match &error {
            RestoreError::Path(_) => {
                let RestoreError::Path(error) = error else {
                    unreachable!("it was just looked at")
                };
                return error.into();
            }
            RestoreError::Read(error) => of_read(error),
            RestoreError::Target(inner) if inner.kind() == lifeboat_files::ErrorKind::NotEmpty => (
                ExitCode::Refused,
                "Choose a new folder, or say what may be replaced with --overwrite if-changed or always.",
            ),
            RestoreError::Repository(_) => (
                ExitCode::Refused,
                "Choose a folder that neither is in a repository nor, with --exact, has one in what would be deleted.",
            ),
            RestoreError::OnlySecrets => (
                ExitCode::Refused,
                "Restore secrets too with --with-secrets, into a folder that nobody else may read.",
            ),
            RestoreError::Target(_) => {
                (ExitCode::Failed, "Check the target's path, room and owner.")
            }
            RestoreError::SameName(_) => (
                ExitCode::Usage,
                "Restore them one at a time, or with --tree, which keeps whole paths.",
            ),
            RestoreError::Stopped => (ExitCode::Failed, "Run the command again."),
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
        OpenError::Version(_) => (
            ExitCode::Failed,
            "Open it with the version of lifeboat that made it, or a newer one; nothing was changed.",
        ),
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
        ReadError::Format {
            source: FormatError::NoKey(_),
            ..
        } => (ExitCode::WrongKey, ROLE),
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
            "Make room where the repository lies and in the folder for temporary files (TMPDIR), then run the command again.",
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
