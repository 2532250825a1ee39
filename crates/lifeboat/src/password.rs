//! Where the secret that opens a repository comes from.
//!
//! In this order: the argument, the environment, systemd's credentials, the configuration, a person at a terminal.
//! **Invariant**: a secret is never an argument of this or another program, is wiped from memory after use, and is
//! asked for only where a person can answer. Two sources of the same rank are refused rather than guessed between.

use std::{
    ffi::{OsStr, OsString},
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use lifeboat_app::SECRET_VARIABLES;
use lifeboat_codec::{KeyFile, Secret, decode_recovery};
use zeroize::Zeroizing;

use crate::{
    directories::Environment,
    error::{CommandError, OrFail},
    exit_code::ExitCode,
    interrupt::Interrupt,
    prompt,
    text::printable_path,
};

/// The variables that hold or lead to the secret.
const PASSWORD: &str = "LIFEBOAT_PASSWORD";
const PASSWORD_FILE: &str = "LIFEBOAT_PASSWORD_FILE";
const PASSWORD_COMMAND: &str = "LIFEBOAT_PASSWORD_COMMAND";
const KEY_FILE: &str = "LIFEBOAT_KEY_FILE";
const OTHER_PASSWORD_FILE: &str = "LIFEBOAT_TO_PASSWORD_FILE";
const OTHER_KEY_FILE: &str = "LIFEBOAT_TO_KEY_FILE";
const CREDENTIALS: &str = "CREDENTIALS_DIRECTORY";

/// The name of the passphrase among a service's credentials.
const CREDENTIAL: &str = "lifeboat.passphrase";

/// A passphrase or key file is small; something larger is the wrong file.
const SECRET_BYTES_MAX: u64 = 64 << 10;

/// Where a secret is to be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// The value of LIFEBOAT_PASSWORD.
    Variable,
    /// A file with the passphrase on its only line.
    File(PathBuf),
    /// A program and its arguments; it prints the passphrase.
    Command(Vec<String>),
    /// A key file.
    KeyFile(PathBuf),
    /// A person at a terminal.
    Prompt,
}

/// What opens a repository.
pub(crate) enum Credential {
    /// A passphrase.
    Passphrase(Zeroizing<String>),
    /// A key file.
    KeyFile(KeyFile),
    /// The recovery key; it may be given wherever a passphrase is asked for.
    Recovery(Secret),
}

/// The sources that the command line and the configuration name.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Named<'a> {
    /// `-p`.
    pub(crate) argument: Option<&'a Path>,
    /// `repository.password-file`, `password-command` or `key-file`; the configuration holds at most one.
    pub(crate) configured: Option<&'a Source>,
}

/// Finds the one source that counts.
///
/// Fails when two of the same rank are given, or when none is and nobody can be asked.
pub(crate) fn source(
    named: Named<'_>,
    environment: Environment<'_>,
) -> Result<Source, CommandError> {
    if let Some(file) = named.argument {
        return Ok(Source::File(file.to_owned()));
    }
    if let Some(source) = from_environment(environment)? {
        return Ok(source);
    }
    let credential = environment(CREDENTIALS).map(|folder| Path::new(&folder).join(CREDENTIAL));
    if let Some(file) = credential.filter(|file| file.is_file()) {
        return Ok(Source::File(file));
    }
    if let Some(source) = named.configured {
        return Ok(source.clone());
    }
    if prompt::is_possible() {
        return Ok(Source::Prompt);
    }
    Err(
        CommandError::new(ExitCode::WrongKey, "no passphrase is given").hint(
            "Name a file that holds it with -p, LIFEBOAT_PASSWORD_FILE or password-file in the configuration, or a key \
             file with LIFEBOAT_KEY_FILE or key-file; there is no terminal to ask at.",
        ),
    )
}

/// Finds the source for the second repository of a copy; nothing when it opens as the first does.
pub(crate) fn other_source(
    argument: Option<&Path>,
    environment: Environment<'_>,
) -> Result<Option<Source>, CommandError> {
    if let Some(file) = argument {
        return Ok(Some(Source::File(file.to_owned())));
    }
    let given = |name| environment(name).filter(|value| !value.is_empty());
    match (given(OTHER_PASSWORD_FILE), given(OTHER_KEY_FILE)) {
        (None, None) => Ok(None),
        (Some(file), None) => Ok(Some(Source::File(file.into()))),
        (None, Some(file)) => Ok(Some(Source::KeyFile(file.into()))),
        (Some(_), Some(_)) => Err(CommandError::usage(format!(
            "both {OTHER_PASSWORD_FILE} and {OTHER_KEY_FILE} are set"
        ))
        .hint("Unset one of them.")),
    }
}

fn from_environment(environment: Environment<'_>) -> Result<Option<Source>, CommandError> {
    let given: Vec<(&str, OsString)> = [PASSWORD, PASSWORD_FILE, PASSWORD_COMMAND, KEY_FILE]
        .into_iter()
        .filter_map(|name| {
            let value = environment(name).filter(|value| !value.is_empty())?;
            Some((name, value))
        })
        .collect();
    match given.as_slice() {
        [] => Ok(None),
        [(PASSWORD, _)] => Ok(Some(Source::Variable)),
        [(PASSWORD_FILE, file)] => Ok(Some(Source::File(file.into()))),
        [(KEY_FILE, file)] => Ok(Some(Source::KeyFile(file.into()))),
        [(_, command)] => split_command(command).map(Some),
        [(first, _), (second, _), ..] => Err(CommandError::usage(format!(
            "both {first} and {second} are set"
        ))
        .hint("Unset one of them.")),
    }
}

/// Splits a command as a shell would, with quotes and backslashes; nothing is expanded.
fn split_command(command: &OsStr) -> Result<Source, CommandError> {
    let words = command.to_str().and_then(shlex::split);
    match words.filter(|words| !words.is_empty()) {
        Some(words) => Ok(Source::Command(words)),
        None => Err(
            CommandError::usage(format!("{PASSWORD_COMMAND} is not a command"))
                .hint("Write a program and its arguments, and close every quote."),
        ),
    }
}

impl Source {
    /// A person, where there is one to ask.
    pub(crate) fn at_terminal() -> Result<Self, CommandError> {
        if prompt::is_possible() {
            return Ok(Self::Prompt);
        }
        Err(CommandError::new(
            ExitCode::WrongKey,
            "there is no terminal to ask for a new passphrase",
        )
        .hint("Name a file that holds it with --new-password-file."))
    }

    /// Gets the secret. At a terminal a wrong one can be typed again by running the command again.
    pub(crate) fn read(
        &self,
        environment: Environment<'_>,
        interrupt: &Interrupt,
    ) -> Result<Credential, CommandError> {
        let passphrase = match self {
            Self::Variable => from_variable(environment)?,
            Self::File(path) => from_bytes(&read_secret_file(path)?, &of_file(path))?,
            Self::Command(words) => from_command(words)?,
            Self::KeyFile(path) => return key_file(path),
            Self::Prompt => prompt::ask("Passphrase: ", interrupt)?,
        };
        Ok(match decode_recovery(&passphrase) {
            Ok(secret) => Credential::Recovery(secret),
            Err(_) => Credential::Passphrase(passphrase),
        })
    }

    /// Gets the passphrase of a repository or slot that is to be created; a person types it twice.
    pub(crate) fn read_new(
        &self,
        environment: Environment<'_>,
        interrupt: &Interrupt,
    ) -> Result<Zeroizing<String>, CommandError> {
        if *self == Self::Prompt {
            return prompt::ask_twice(interrupt);
        }
        match self.read(environment, interrupt)? {
            Credential::Passphrase(passphrase) => Ok(passphrase),
            Credential::KeyFile(_) | Credential::Recovery(_) => Err(CommandError::usage(
                "a new passphrase is needed, not a key file or recovery key",
            )
            .hint("Give the passphrase with -p or LIFEBOAT_PASSWORD_FILE.")),
        }
    }
}

impl std::fmt::Display for Source {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Variable => write!(formatter, "the variable {PASSWORD}"),
            Self::File(path) => formatter.write_str(&of_file(path)),
            // Arguments may lead to the secret, or be one by mistake.
            Self::Command(words) => write!(
                formatter,
                "the password command {}",
                printable_path(OsStr::new(words.first().map_or("", String::as_str)))
            ),
            Self::KeyFile(path) => {
                write!(formatter, "the key file {}", printable_path(path.as_ref()))
            }
            Self::Prompt => formatter.write_str("a question at the terminal"),
        }
    }
}

fn of_file(path: &Path) -> String {
    format!("the passphrase file {}", printable_path(path.as_ref()))
}

fn from_variable(environment: Environment<'_>) -> Result<Zeroizing<String>, CommandError> {
    let value = environment(PASSWORD).unwrap_or_default();
    let bytes = Zeroizing::new(value.into_encoded_bytes());
    from_bytes(&bytes, &format!("the variable {PASSWORD}"))
}

fn from_command(words: &[String]) -> Result<Zeroizing<String>, CommandError> {
    let what = Source::Command(words.to_vec()).to_string();
    let hint = "Run it by hand; it must end with 0 and print the passphrase on one line.";
    let (program, arguments) = words.split_first().ok_or_else(|| {
        CommandError::usage("the password command is empty")
            .hint("Write a program and its arguments.")
    })?;
    let mut command = Command::new(program);
    for variable in SECRET_VARIABLES {
        command.env_remove(variable);
    }
    let mut child = command
        .args(arguments)
        // Standard input may be what is to be backed up.
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .or_fail(ExitCode::WrongKey, || format!("{what} cannot be started"))
        .map_err(|error| error.hint(hint))?;
    let read = child
        .stdout
        .take()
        .map_or_else(|| Ok(Zeroizing::default()), read_limited);
    let ended = child
        .wait()
        .or_fail(ExitCode::WrongKey, || format!("{what} was lost"))?;
    let bytes = read
        .or_fail(ExitCode::WrongKey, || format!("{what} cannot be read"))
        .map_err(|error| error.hint(hint))?;
    if !ended.success() {
        let message = format!("{what} failed: {ended}");
        return Err(CommandError::new(ExitCode::WrongKey, message).hint(hint));
    }
    from_bytes(&bytes, &what)
}

fn key_file(path: &Path) -> Result<Credential, CommandError> {
    let what = format!("the key file {}", printable_path(path.as_ref()));
    let bytes = read_secret_file(path)?;
    let text = std::str::from_utf8(&bytes).unwrap_or_default();
    KeyFile::decode(text)
        .map(Credential::KeyFile)
        .or_fail(ExitCode::WrongKey, || format!("{what} cannot be used"))
        .map_err(|error| error.hint("Name the file that `init --key-file` or `key add` wrote."))
}

fn read_secret_file(path: &Path) -> Result<Zeroizing<Vec<u8>>, CommandError> {
    File::open(path)
        .and_then(|file| read_limited(&file))
        .or_fail(ExitCode::WrongKey, || {
            format!("{} cannot be read", printable_path(path.as_ref()))
        })
        .map_err(|error| error.hint("Check the path, and who may read the file."))
}

fn read_limited(mut file: impl Read) -> io::Result<Zeroizing<Vec<u8>>> {
    // Room for everything at once: a vector that grows leaves copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(SECRET_BYTES_MAX as usize + 1));
    file.by_ref()
        .take(SECRET_BYTES_MAX + 1)
        .read_to_end(&mut bytes)?;
    if bytes.len() as u64 > SECRET_BYTES_MAX {
        return Err(io::Error::other("it is too long for a secret"));
    }
    Ok(bytes)
}

/// Makes a passphrase of what a source gave: one line of text, without its end.
fn from_bytes(bytes: &[u8], what: &str) -> Result<Zeroizing<String>, CommandError> {
    let wrong = |message: &str, hint: &str| {
        Err(CommandError::new(ExitCode::WrongKey, format!("{what} {message}")).hint(hint))
    };
    let Ok(text) = std::str::from_utf8(bytes) else {
        return wrong(
            "holds no text",
            "A passphrase is text; `openssl rand -base64 32` makes a good one.",
        );
    };
    let line = text.strip_suffix('\n').unwrap_or(text);
    let line = line.strip_suffix('\r').unwrap_or(line);
    if line.is_empty() {
        return wrong("is empty", "Write the passphrase into it.");
    }
    if line.contains(['\n', '\r', '\0']) {
        return wrong(
            "holds more than one line",
            "A passphrase is one line; a key file is named by LIFEBOAT_KEY_FILE or key-file.",
        );
    }
    Ok(Zeroizing::new(line.to_owned()))
}

#[cfg(test)]
mod tests;
