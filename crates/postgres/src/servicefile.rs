//! libpq's service files: named sets of connection parameters.
//!
//! The user's file (`PGSERVICEFILE`, else `~/.pg_service.conf`) is asked first, then the system's
//! (`PGSYSCONFDIR/pg_service.conf`, else the two places where distributions keep it). The first file that has the
//! section decides; inside it the first value of a keyword holds.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use zeroize::Zeroizing;

use crate::conninfo::{ConninfoError, Parameters};

/// Where the system's service file may be when `PGSYSCONFDIR` is not set: Debian's place, then upstream's.
const SYSTEM_FOLDERS: [&str; 2] = ["/etc/postgresql-common", "/etc/sysconfig/pgsql"];

/// Why a service cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServiceError {
    /// No file defines it.
    #[error("the service \"{name}\" is not defined in {}", list(searched))]
    Undefined {
        /// The service that was asked for.
        name: String,
        /// The files that were searched.
        searched: Vec<PathBuf>,
    },
    /// A file cannot be read.
    #[error("cannot read the service file {}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A line is not `keyword=value`.
    #[error("line {line} of the service file {} is not \"keyword=value\"", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
    },
    /// A line's keyword or value cannot be used.
    #[error("line {line} of the service file {} cannot be used", path.display())]
    Parameter {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// What is wrong with it.
        #[source]
        source: ConninfoError,
    },
}

fn list(paths: &[PathBuf]) -> String {
    let paths: Vec<_> = paths
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    paths.join(" or ")
}

/// The files to search, in order.
pub(crate) fn places(
    user_file: Option<PathBuf>,
    home: Option<&Path>,
    system_folder: Option<PathBuf>,
) -> Vec<PathBuf> {
    let mut places = Vec::new();
    places.extend(user_file.or_else(|| home.map(|home| home.join(".pg_service.conf"))));
    match system_folder {
        Some(folder) => places.push(folder.join("pg_service.conf")),
        None => {
            places.extend(SYSTEM_FOLDERS.map(|folder| Path::new(folder).join("pg_service.conf")));
        }
    }
    places
}

/// Adds the parameters of service `name` to those that have no value yet.
pub(crate) fn apply(
    name: &str,
    places: Vec<PathBuf>,
    parameters: &mut Parameters,
) -> Result<(), ServiceError> {
    for path in &places {
        let text = match fs::read_to_string(path) {
            Ok(text) => Zeroizing::new(text),
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                ) =>
            {
                continue;
            }
            Err(source) => {
                return Err(ServiceError::Unreadable {
                    path: path.clone(),
                    source,
                });
            }
        };
        if apply_text(name, path, &text, parameters)? {
            return Ok(());
        }
    }
    Err(ServiceError::Undefined {
        name: name.to_owned(),
        searched: places,
    })
}

/// Whether `text` has the section.
pub(crate) fn apply_text(
    name: &str,
    path: &Path,
    text: &str,
    parameters: &mut Parameters,
) -> Result<bool, ServiceError> {
    let mut inside = false;
    for (at, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(section) = line.strip_prefix('[') {
            if inside {
                break;
            }
            inside = section.strip_suffix(']') == Some(name);
            continue;
        }
        if !inside {
            continue;
        }
        let syntax = || ServiceError::Syntax {
            path: path.to_owned(),
            line: at + 1,
        };
        let (keyword, value) = line.split_once('=').ok_or_else(syntax)?;
        if keyword == "service" || keyword == "servicefile" {
            return Err(syntax());
        }
        parameters
            .set_default(keyword, Zeroizing::new(value.to_owned()))
            .map_err(|source| ServiceError::Parameter {
                path: path.to_owned(),
                line: at + 1,
                source,
            })?;
    }
    Ok(inside)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_fills_only_what_is_not_given_and_its_first_value_holds() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("services");
        fs::write(
            &file,
            "# comment\n[other]\nhost=wrong\n\n[shop]\nhost=right\nport=6000\nport=7000\nuser=ann\n[last]\ndbname=no\n",
        )
        .unwrap();
        let mut parameters = Parameters::default();
        parameters
            .set("user", Zeroizing::new("bob".to_owned()))
            .unwrap();
        let places = places(Some(file), None, Some(folder.path().to_owned()));
        apply("shop", places, &mut parameters).unwrap();
        assert_eq!(parameters.get("host"), Some("right"));
        assert_eq!(parameters.get("port"), Some("6000"));
        assert_eq!(parameters.get("user"), Some("bob"));
        assert_eq!(parameters.get("dbname"), None);
    }

    #[test]
    fn a_home_that_is_no_folder_has_no_service_file() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("pg_service.conf"), "[shop]\nhost=db\n").unwrap();
        let places = places(
            None,
            Some(Path::new("/dev/null")),
            Some(folder.path().to_owned()),
        );
        let mut parameters = Parameters::default();
        apply("shop", places, &mut parameters).unwrap();
        assert_eq!(parameters.get("host"), Some("db"));
    }

    #[test]
    fn an_unknown_service_names_the_files_that_were_searched() {
        let places = places(
            None,
            Some(Path::new("/nowhere")),
            Some(PathBuf::from("/none")),
        );
        let error = apply("shop", places, &mut Parameters::default()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the service \"shop\" is not defined in /nowhere/.pg_service.conf or /none/pg_service.conf"
        );
    }

    #[test]
    fn a_bad_line_is_named_by_its_number() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("services");
        for (text, line) in [
            ("[s]\nnonsense\n", 2),
            ("[s]\n\nservice=t\n", 3),
            ("[s]\nhots=x\n", 2),
        ] {
            fs::write(&file, text).unwrap();
            let error = apply("s", vec![file.clone()], &mut Parameters::default()).unwrap_err();
            assert!(
                error.to_string().contains(&format!("line {line} ")),
                "{error}"
            );
        }
    }
}
