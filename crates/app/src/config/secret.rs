//! A secret as the configuration names it: by file, by environment variable, or itself.
//!
//! Invariant: the secret is never shown; what `Debug` prints says where it lies, not what it is.

use std::ffi::OsString;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// No password or passphrase comes near this; it bounds what a wrong path can make us read.
const BYTES_MAX: u64 = 64 << 10;

/// Where a secret is found.
#[derive(Clone, PartialEq, Eq)]
pub enum Secret {
    /// The first line of this file.
    File(PathBuf),
    /// The value of this environment variable.
    Variable(String),
    /// The secret itself stands in the configuration.
    Literal(Zeroizing<String>),
}

/// Why a secret cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The file cannot be read as text.
    #[error("cannot read the secret in {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The file has nothing in its first line.
    #[error("the first line of {} is empty", path.display())]
    EmptyFile {
        /// The file.
        path: PathBuf,
    },
    /// The file is too large to hold a secret only.
    #[error("{} is larger than {BYTES_MAX} bytes and so no file with a secret", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// The environment variable is not set, empty, or no text.
    #[error("the environment variable {name} holds no secret")]
    Variable {
        /// The variable.
        name: String,
    },
}

impl Secret {
    /// Takes `file:PATH`, `env:VARIABLE`, or the secret itself; a relative path is taken from `folder`.
    ///
    /// An error is a fragment that says what is wrong with the form.
    pub(super) fn parse(text: &str, folder: &Path) -> Result<Self, &'static str> {
        if let Some(path) = text.strip_prefix("file:") {
            return match path {
                "" => Err("`file:` is followed by a path"),
                _ if path == "~" || path.starts_with("~/") => {
                    Err("`~` is not replaced by a home folder here; write the whole path")
                }
                _ => Ok(Self::File(folder.join(path))),
            };
        }
        if let Some(name) = text.strip_prefix("env:") {
            return match name {
                "" => Err("`env:` is followed by the name of an environment variable"),
                _ if name.contains(['=', '\0']) => {
                    Err("this is no name of an environment variable")
                }
                _ => Ok(Self::Variable(name.to_owned())),
            };
        }
        Ok(Self::Literal(Zeroizing::new(text.to_owned())))
    }

    /// Reads the secret; `variable` is how an environment variable is looked up.
    pub fn read(
        &self,
        variable: impl Fn(&str) -> Option<OsString>,
    ) -> Result<Zeroizing<String>, SecretError> {
        match self {
            Self::File(path) => first_line(path),
            Self::Variable(name) => variable(name)
                .and_then(|value| value.into_string().ok())
                .filter(|value| !value.is_empty())
                .map(Zeroizing::new)
                .ok_or_else(|| SecretError::Variable { name: name.clone() }),
            Self::Literal(secret) => Ok(secret.clone()),
        }
    }
}

fn first_line(path: &Path) -> Result<Zeroizing<String>, SecretError> {
    let unreadable = |source| SecretError::Read {
        path: path.to_owned(),
        source,
    };
    let file = File::open(path).map_err(unreadable)?;
    // Room for all of it at once, so that a growing buffer leaves no copy behind.
    let length = file.metadata().map_err(unreadable)?.len().min(BYTES_MAX);
    let room = usize::try_from(length).unwrap_or_default() + 1;
    let mut text = Zeroizing::new(String::with_capacity(room));
    file.take(BYTES_MAX + 1)
        .read_to_string(&mut text)
        .map_err(unreadable)?;
    if text.len() as u64 > BYTES_MAX {
        return Err(SecretError::TooLarge {
            path: path.to_owned(),
        });
    }
    match text.lines().next() {
        None | Some("") => Err(SecretError::EmptyFile {
            path: path.to_owned(),
        }),
        Some(line) => Ok(Zeroizing::new(line.to_owned())),
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => out.debug_tuple("File").field(path).finish(),
            Self::Variable(name) => out.debug_tuple("Variable").field(name).finish(),
            Self::Literal(_) => out.write_str("Literal(***)"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_of_a_file_is_the_secret() {
        let folder = tempfile::tempdir().unwrap();
        let secret = Secret::parse("file:pw", folder.path()).unwrap();
        assert_eq!(secret, Secret::File(folder.path().join("pw")));
        let error = secret.read(|_| None).unwrap_err().to_string();
        assert_eq!(
            error,
            format!(
                "cannot read the secret in {}",
                folder.path().join("pw").display()
            )
        );
        for (content, expected) in [
            ("s3 cret\r\nmore\n", Some("s3 cret")),
            ("x", Some("x")),
            ("\nx", None),
            ("", None),
        ] {
            std::fs::write(folder.path().join("pw"), content).unwrap();
            assert_eq!(
                secret.read(|_| None).ok().as_deref().map(String::as_str),
                expected
            );
        }
        std::fs::write(folder.path().join("pw"), "x".repeat(100_000)).unwrap();
        assert!(matches!(
            secret.read(|_| None),
            Err(SecretError::TooLarge { .. })
        ));
    }

    #[test]
    fn a_variable_is_looked_up_and_must_hold_something() {
        let secret = Secret::parse("env:PW", Path::new("")).unwrap();
        let read =
            |value: &'static str| secret.read(move |name| (name == "PW").then(|| value.into()));
        assert_eq!(read("abc").unwrap().as_str(), "abc");
        assert_eq!(
            read("").unwrap_err().to_string(),
            "the environment variable PW holds no secret"
        );
    }

    #[test]
    fn a_literal_is_never_shown() {
        let secret = Secret::parse("hunter2", Path::new("")).unwrap();
        assert_eq!(secret.read(|_| None).unwrap().as_str(), "hunter2");
        assert_eq!(format!("{secret:?}"), "Literal(***)");
    }

    #[test]
    fn a_wrong_form_is_refused() {
        for text in ["file:", "file:~/pw", "env:", "env:A=b"] {
            assert!(Secret::parse(text, Path::new("/")).is_err(), "{text}");
        }
    }
}
