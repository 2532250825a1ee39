//! Where a repository lies, as a person writes it.
//!
//! **Invariant:** what looks like a remote storage is never taken for a folder with a strange name,
//! and an address (it may hold a password) is never repeated in an error.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use crate::contract::Store;
use crate::error::Result;
use crate::local::LocalStore;

/// The beginnings by which backup tools name remote storage. A path may hold a colon, so that only
/// known words count here; `anything://` counts always.
const REMOTE_SCHEMES: [&str; 13] = [
    "azure", "b2", "ftp", "gs", "http", "https", "rclone", "rest", "s3", "sftp", "smb", "ssh",
    "webdav",
];

/// Where a repository lies.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Location {
    /// A folder of this machine, or mounted on it.
    Folder(PathBuf),
}

/// Why a text is not a location.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LocationError {
    /// Nothing was written.
    #[error("the repository's location is empty")]
    Empty,
    /// A storage that this version cannot reach.
    #[error("this version keeps repositories in local folders only, not at {scheme}: locations")]
    Remote {
        /// The word before the first colon.
        scheme: String,
    },
    /// `user@host:path`, which other programs take for a path on another host.
    #[error(
        "this version keeps repositories in local folders only, not on another host (user@host:path)"
    )]
    OtherHost,
    /// `file://host/path` with a host.
    #[error("a file: location names a path of this machine, not a host")]
    Host,
    /// A path that begins with `~`, which only a shell replaces.
    #[error("the location begins with ~, which is not replaced by a home folder here")]
    Tilde,
    /// A path with a zero byte.
    #[error("the location holds a zero byte")]
    ZeroByte,
}

impl LocationError {
    /// What a person can do about it, as a whole sentence.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Empty => "Name a folder, for example /srv/lifeboat/repo.",
            Self::Remote { .. } => {
                "Name a folder (a mounted disk or network share will do); a path that only looks so is \
                 written ./s3:x."
            }
            Self::OtherHost => {
                "Mount the host's folder and name that; a folder of this machine with such a name is written \
                 ./user@host:path."
            }
            Self::Host => "Write file:/path, or only the path; mount what lies on another host.",
            Self::Tilde => "Write the whole path; a folder whose name is ~ is written ./~.",
            Self::ZeroByte => "Write the path without it.",
        }
    }
}

impl FromStr for Location {
    type Err = LocationError;

    /// Takes a path, or `file:` and a path. Nothing in it is decoded or replaced.
    fn from_str(text: &str) -> std::result::Result<Self, LocationError> {
        if text.contains('\0') {
            return Err(LocationError::ZeroByte);
        }
        let path = match text.split_once(':') {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("file") => path_of_file(rest)?,
            Some((scheme, rest)) if is_remote(scheme, rest) => {
                return Err(LocationError::Remote {
                    scheme: scheme.to_ascii_lowercase(),
                });
            }
            Some((host, _)) if host.contains('@') && !host.contains('/') => {
                return Err(LocationError::OtherHost);
            }
            _ => text,
        };
        if path.is_empty() {
            return Err(LocationError::Empty);
        }
        if path == "~" || path.starts_with("~/") {
            return Err(LocationError::Tilde);
        }
        Ok(Self::Folder(PathBuf::from(path)))
    }
}

/// The path of a `file:` location: `file:path`, `file:/path` or `file:///path`.
fn path_of_file(rest: &str) -> std::result::Result<&str, LocationError> {
    match rest.strip_prefix("//") {
        Some(path) if path.starts_with('/') => Ok(path),
        Some("") => Err(LocationError::Empty),
        Some(_) => Err(LocationError::Host),
        None => Ok(rest),
    }
}

fn is_remote(scheme: &str, rest: &str) -> bool {
    let is_word = !scheme.is_empty()
        && scheme
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.'));
    is_word
        && (rest.starts_with("//")
            || REMOTE_SCHEMES.contains(&scheme.to_ascii_lowercase().as_str()))
}

impl fmt::Display for Location {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(path) => write!(formatter, "{}", path.display()),
        }
    }
}

/// Opens the store at a location; it must exist.
///
/// What a person should know about it is in its [`Abilities::warnings`](crate::Abilities::warnings).
pub fn open(location: &Location) -> Result<Box<dyn Store>> {
    match location {
        Location::Folder(path) => Ok(Box::new(LocalStore::open(path)?)),
    }
}

/// Makes an empty store at a location; what lies there already is never taken over.
pub fn create(location: &Location) -> Result<Box<dyn Store>> {
    match location {
        Location::Folder(path) => Ok(Box::new(LocalStore::create(path)?)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(path: &str) -> std::result::Result<Location, LocationError> {
        Ok(Location::Folder(PathBuf::from(path)))
    }

    #[test]
    fn paths_are_taken_as_they_are() {
        for path in [
            "/srv/repo",
            "repo",
            "./s3:x",
            "a b",
            "/mnt/2026:11",
            "c:d",
            "100%20",
            "./~",
        ] {
            assert_eq!(path.parse(), folder(path));
        }
    }

    #[test]
    fn file_locations_are_paths() {
        assert_eq!("file:/srv/repo".parse(), folder("/srv/repo"));
        assert_eq!("file:repo".parse(), folder("repo"));
        assert_eq!("FILE:///srv/a%20b".parse(), folder("/srv/a%20b"));
        assert_eq!(
            "file://nas/repo".parse::<Location>(),
            Err(LocationError::Host)
        );
        assert_eq!("file:".parse::<Location>(), Err(LocationError::Empty));
        assert_eq!("file://".parse::<Location>(), Err(LocationError::Empty));
    }

    #[test]
    fn remote_storage_is_refused_without_repeating_its_password() {
        for text in [
            "s3://key:secret@host/b",
            "s3:host/secret",
            "sftp://u:secret@h/p",
            "sftp:u@h:/secret",
            "Gopher://secret",
        ] {
            let error = text.parse::<Location>().unwrap_err();
            assert!(matches!(error, LocationError::Remote { .. }), "{text}");
            assert!(!error.to_string().contains("secret"), "{error}");
            assert!(!error.hint().is_empty());
        }
    }

    #[test]
    fn a_path_on_another_host_is_refused_and_a_folder_of_that_name_is_not() {
        for text in ["user@host:/srv/x", "user@host:x", "me@10.0.0.1:"] {
            assert_eq!(text.parse::<Location>(), Err(LocationError::OtherHost));
        }
        for path in ["./user@host:/srv/x", "/srv/user@host:x", "user@host/a:b"] {
            assert_eq!(path.parse(), folder(path));
        }
    }

    #[test]
    fn a_home_folder_that_no_shell_replaced_is_refused() {
        assert_eq!("~/repo".parse::<Location>(), Err(LocationError::Tilde));
        assert_eq!("".parse::<Location>(), Err(LocationError::Empty));
        assert_eq!("a\0b".parse::<Location>(), Err(LocationError::ZeroByte));
    }

    #[test]
    fn a_location_is_created_once_and_opened_often() {
        let folder = tempfile::tempdir().unwrap();
        let location = Location::Folder(folder.path().join("new/repo"));
        assert_eq!(
            open(&location).err().unwrap().kind(),
            crate::ErrorKind::NotFound
        );
        let store = create(&location).unwrap();
        let name = crate::ObjectName::new("lifeboat").unwrap();
        store.put_new(&name, crate::Body::Bytes(b"x")).unwrap();
        assert_eq!(open(&location).unwrap().get(&name, 1).unwrap(), b"x");
        assert_eq!(
            create(&location).err().unwrap().kind(),
            crate::ErrorKind::AlreadyExists
        );
    }
}
