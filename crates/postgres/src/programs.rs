//! The programs of PostgreSQL on this machine: which `pg_dump`, `pg_restore`, `pg_dumpall` and `psql` fit a server.
//!
//! Rule: the client of the server's own major version, else the next newer one (its output may not load into the older
//! server without care, so it is second best), never an older one: `pg_dump` refuses newer servers with an empty
//! output. Debian's `/usr/bin/pg_dump` is a wrapper that chooses a version by itself; it is passed over for the real
//! programs.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    child::{self, ProgramError},
    resolve::Environment,
    settings::Settings,
};

/// The variable that names the folder with PostgreSQL's programs, for places where they are not looked for.
const FOLDER_VARIABLE: &str = "LIFEBOAT_PG_BIN";

/// Where packages put versions side by side: the part before and after the major version's number.
const VERSIONED_FOLDERS: [(&str, &str, &str); 5] = [
    ("/usr/lib/postgresql", "", "bin"),
    ("/usr", "pgsql-", "bin"),
    ("/usr/libexec", "postgresql", ""),
    ("/opt/homebrew/opt", "postgresql@", "bin"),
    ("/usr/local/opt", "postgresql@", "bin"),
];

const CLIENT_PROGRAMS: [&str; 4] = ["pg_dump", "pg_dumpall", "pg_restore", "psql"];
const SERVER_PROGRAMS: [&str; 3] = ["initdb", "pg_ctl", "postgres"];

/// The first release of each major version whose clients no longer have CVE-2026-18408.
const MENDED: [(u32, u32); 5] = [(14, 24), (15, 19), (16, 15), (17, 11), (18, 6)];

/// A program's version: `15.18`, or `19` for one that is not released yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ProgramVersion {
    /// 15 in 15.18.
    pub major: u32,
    /// 18 in 15.18; nothing for a development or beta version.
    pub minor: Option<u32>,
}

impl fmt::Display for ProgramVersion {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.minor {
            Some(minor) => write!(formatter, "{}.{minor}", self.major),
            None => write!(formatter, "{}", self.major),
        }
    }
}

impl ProgramVersion {
    /// Reads `pg_dump (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)`.
    fn from_output(text: &str) -> Option<Self> {
        let word = text
            .split("(PostgreSQL) ")
            .nth(1)?
            .split_whitespace()
            .next()?;
        let digits_end = |text: &str| {
            text.find(|letter: char| !letter.is_ascii_digit())
                .unwrap_or(text.len())
        };
        let end = digits_end(word);
        let major = word[..end].parse().ok()?;
        let minor = word[end..]
            .strip_prefix('.')
            .and_then(|rest| rest[..digits_end(rest)].parse().ok());
        Some(Self { major, minor })
    }
}

/// Why no programs can be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProgramsError {
    /// None are there.
    #[error(
        "no PostgreSQL client programs were found for server version {wanted}; install postgresql-client-{wanted}"
    )]
    NoClient {
        /// The server's major version.
        wanted: u32,
    },
    /// Those that are there are older than the server.
    #[error("pg_dump {found} in {} is older than the server (version {wanted}) and cannot dump it; install postgresql-client-{wanted}", folder.display())]
    TooOld {
        /// The server's major version.
        wanted: u32,
        /// The newest client.
        found: ProgramVersion,
        /// Where it is.
        folder: PathBuf,
    },
    /// One that runs where the server is does not run.
    #[error("{name} cannot be run where the server is")]
    Beyond {
        /// The program.
        name: &'static str,
        /// What was met.
        #[source]
        source: ProgramError,
    },
    /// One that runs where the server is is older than the server.
    #[error(
        "{name} {found} where the server is is older than the server (version {wanted}) and cannot dump it"
    )]
    OldBeyond {
        /// The server's major version.
        wanted: u32,
        /// The program.
        name: &'static str,
        /// Its version.
        found: ProgramVersion,
    },
    /// No server programs are there.
    #[error("no PostgreSQL server programs{} were found; install postgresql{}", of_version(*wanted), package_suffix(*wanted))]
    NoServer {
        /// The oldest major version that would do.
        wanted: Option<u32>,
    },
    /// A folder lacks a program, or it does not run.
    #[error("the PostgreSQL programs in {} cannot be used", folder.display())]
    Unusable {
        /// The folder.
        folder: PathBuf,
        /// What was met.
        #[source]
        source: ProgramError,
    },
}

fn of_version(wanted: Option<u32>) -> String {
    wanted.map_or_else(String::new, |major| format!(" of version {major} or newer"))
}

fn package_suffix(wanted: Option<u32>) -> String {
    wanted.map_or_else(String::new, |major| format!("-{major}"))
}

/// The client programs of one version, from one folder; the empty one for those that run where the server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Programs {
    folder: PathBuf,
    version: ProgramVersion,
}

impl Programs {
    /// Finds the clients for a server of `server_major`.
    ///
    /// The folder in `LIFEBOAT_PG_BIN`, when set, is the only one looked at; else the places of packages and `PATH`.
    pub fn find(server_major: u32, environment: Environment<'_>) -> Result<Self, ProgramsError> {
        let candidates = candidates(environment, &CLIENT_PROGRAMS, "pg_dump")?;
        let fit = candidates
            .iter()
            .filter(|found| found.version.major >= server_major)
            .min_by_key(|found| (found.version.major, std::cmp::Reverse(found.version.minor)));
        if let Some(found) = fit {
            return Ok(Self {
                folder: found.folder.clone(),
                version: found.version,
            });
        }
        match candidates.into_iter().max_by_key(|found| found.version) {
            Some(newest) => Err(ProgramsError::TooOld {
                wanted: server_major,
                found: newest.version,
                folder: newest.folder,
            }),
            None => Err(ProgramsError::NoClient {
                wanted: server_major,
            }),
        }
    }

    /// The programs that reach a server of this version as the settings say: of this machine, or where the server is.
    ///
    /// # Errors
    /// When there are none, or only older ones.
    pub fn reaching(
        settings: &Settings,
        server_major: u32,
        environment: Environment<'_>,
    ) -> Result<Self, ProgramsError> {
        if settings.is_beyond() {
            Self::beyond(settings, server_major)
        } else {
            Self::find(server_major, environment)
        }
    }

    /// The programs that run where the server is, by way of the settings' program.
    pub(crate) fn beyond(settings: &Settings, server_major: u32) -> Result<Self, ProgramsError> {
        let mut asked = None;
        for name in ["pg_dumpall", "pg_dump"] {
            let version = version(name, child::command(Path::new(name), Some(settings)))
                .map_err(|source| ProgramsError::Beyond { name, source })?;
            if version.major < server_major {
                return Err(ProgramsError::OldBeyond {
                    wanted: server_major,
                    name,
                    found: version,
                });
            }
            asked = Some(version);
        }
        Ok(Self {
            folder: PathBuf::new(),
            version: asked.expect("two programs were asked"),
        })
    }

    /// The version of `pg_dump`.
    pub fn version(&self) -> ProgramVersion {
        self.version
    }

    /// The folder that the programs are in.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    pub(crate) fn program(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// A sentence about a known hole in this version, if it has one.
    pub fn known_hole(&self) -> Option<String> {
        let ProgramVersion { major, minor } = self.version;
        let advice = match MENDED.iter().find(|(mended, _)| *mended == major) {
            Some((_, first)) => match minor {
                Some(minor) if minor < *first => {
                    format!("update postgresql-client-{major} to {major}.{first} or newer")
                }
                _ => return None,
            },
            None if major < MENDED[0].0 => {
                "it gets no updates any more; install a supported version".to_owned()
            }
            None => return None,
        };
        let place = if self.folder.as_os_str().is_empty() {
            "where the server is".to_owned()
        } else {
            format!("in {}", self.folder.display())
        };
        Some(format!(
            "PostgreSQL's client programs {} {place} have known holes (CVE-2026-18408: a hostile database can make psql \
             run commands when its plain dump is loaded); {advice}.",
            self.version
        ))
    }
}

/// The server programs of one version, for throw-away clusters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerPrograms {
    folder: PathBuf,
    version: ProgramVersion,
}

/// Finds the server programs of major version `wanted` or the next newer one; of the newest when any will do.
pub fn server_programs(
    wanted: Option<u32>,
    environment: Environment<'_>,
) -> Result<ServerPrograms, ProgramsError> {
    let candidates = candidates(environment, &SERVER_PROGRAMS, "postgres")?;
    let fit = match wanted {
        Some(wanted) => candidates
            .into_iter()
            .filter(|found| found.version.major >= wanted)
            .min_by_key(|found| (found.version.major, std::cmp::Reverse(found.version.minor))),
        // Of equals the first, as above: where packages are, not a folder of links to them.
        None => candidates
            .into_iter()
            .rev()
            .max_by_key(|found| found.version),
    };
    fit.map(|found| ServerPrograms {
        folder: found.folder,
        version: found.version,
    })
    .ok_or(ProgramsError::NoServer { wanted })
}

impl ServerPrograms {
    /// The version of `postgres`.
    pub fn version(&self) -> ProgramVersion {
        self.version
    }

    /// The folder that the programs are in.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    pub(crate) fn program(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}

struct Candidate {
    folder: PathBuf,
    version: ProgramVersion,
}

/// The folders that hold all of `programs`, with the version that `asked` gives.
fn candidates(
    environment: Environment<'_>,
    programs: &[&str],
    asked: &str,
) -> Result<Vec<Candidate>, ProgramsError> {
    if let Some(folder) = environment(FOLDER_VARIABLE).filter(|folder| !folder.is_empty()) {
        // Child programs are started from another folder.
        let folder = std::path::absolute(&folder).unwrap_or_else(|_| folder.into());
        return match version_in(&folder, asked) {
            Ok(version) => Ok(vec![Candidate { folder, version }]),
            Err(source) => Err(ProgramsError::Unusable { folder, source }),
        };
    }
    let mut folders = packaged_folders();
    let path = environment("PATH").unwrap_or_default();
    folders.extend(std::env::split_paths(&path).filter(|folder| folder.is_absolute()));
    let mut found: Vec<Candidate> = Vec::new();
    for folder in folders {
        if found.iter().any(|candidate| candidate.folder == folder)
            || !programs
                .iter()
                .all(|program| is_real_program(&folder.join(program)))
        {
            continue;
        }
        // A program that is there and does not run is of no use, and another folder may hold a good one.
        if let Ok(version) = version_in(&folder, asked) {
            found.push(Candidate { folder, version });
        }
    }
    Ok(found)
}

fn packaged_folders() -> Vec<PathBuf> {
    let mut folders = Vec::new();
    for (parent, prefix, inside) in VERSIONED_FOLDERS {
        let Ok(entries) = fs::read_dir(parent) else {
            continue;
        };
        let versions = entries.flatten().filter(|entry| {
            let name = entry.file_name();
            name.to_str()
                .and_then(|name| name.strip_prefix(prefix))
                .is_some_and(|number| number.parse::<u32>().is_ok())
        });
        folders.extend(versions.map(|entry| entry.path().join(inside)));
    }
    folders.sort();
    folders
}

/// Whether the path leads to a file other than Debian's wrapper.
fn is_real_program(path: &Path) -> bool {
    fs::canonicalize(path).is_ok_and(|real| {
        real.is_file() && real.file_name().is_some_and(|name| name != "pg_wrapper")
    })
}

fn version_in(folder: &Path, name: &str) -> Result<ProgramVersion, ProgramError> {
    version(name, child::command(&folder.join(name), None))
}

fn version(name: &str, mut command: Command) -> Result<ProgramVersion, ProgramError> {
    command.arg("--version");
    let (stdout, stderr) = child::output_as(name, command)?;
    ProgramVersion::from_output(&String::from_utf8_lossy(&stdout)).ok_or_else(|| {
        ProgramError::Contact {
            program: name.to_owned(),
            source: std::io::Error::other(format!("--version gave no version {stderr}")),
        }
    })
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::*;
    use crate::testing;

    fn version(text: &str) -> Option<(u32, Option<u32>)> {
        ProgramVersion::from_output(text).map(|version| (version.major, version.minor))
    }

    #[test]
    fn versions_are_read_from_what_the_programs_say() {
        let debian = "pg_dump (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n";
        assert_eq!(version(debian), Some((15, Some(18))));
        assert_eq!(version("postgres (PostgreSQL) 18.6\n"), Some((18, Some(6))));
        assert_eq!(version("pg_dump (PostgreSQL) 19beta1"), Some((19, None)));
        assert_eq!(version("pg_dump (PostgreSQL) 20devel"), Some((20, None)));
        assert_eq!(version("mysqldump 8"), None);
    }

    /// A folder whose programs say that they are of `version`.
    fn fake(version: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for program in CLIENT_PROGRAMS.iter().chain(&SERVER_PROGRAMS) {
            let says = format!("echo '{program} (PostgreSQL) {version}'");
            testing::script(&folder.path().join(program), &says);
        }
        folder
    }

    fn find(server_major: u32, version: &str) -> Result<Programs, ProgramsError> {
        let folder = fake(version);
        let path: OsString = folder.path().into();
        Programs::find(server_major, &|name| {
            (name == FOLDER_VARIABLE).then(|| path.clone())
        })
    }

    #[test]
    fn a_newer_client_will_do_and_an_older_one_is_refused_with_the_package_to_install() {
        assert_eq!(find(15, "15.18").unwrap().version().to_string(), "15.18");
        assert_eq!(find(15, "17.2").unwrap().version().to_string(), "17.2");
        let error = find(16, "15.18").unwrap_err().to_string();
        assert!(error.contains("pg_dump 15.18"), "{error}");
        assert!(error.ends_with("install postgresql-client-16"), "{error}");
    }

    #[test]
    fn the_servers_own_version_is_preferred_among_several() {
        let folders = [fake("14.24"), fake("17.1"), fake("17.11"), fake("18.6")];
        let path = std::env::join_paths(folders.iter().map(tempfile::TempDir::path)).unwrap();
        let environment = |name: &str| (name == "PATH").then(|| path.clone());
        let found = |major| {
            Programs::find(major, &environment)
                .unwrap()
                .version()
                .to_string()
        };
        assert_eq!(found(17), "17.11");
        assert_eq!(found(18), "18.6");
        // Version 15 may be installed in a package's folder; if not, the next newer one serves.
        assert!(["15", "17"].contains(&&found(15)[..2]));
        let error = Programs::find(99, &environment).unwrap_err();
        assert!(matches!(error, ProgramsError::TooOld { .. }));
    }

    #[test]
    fn of_equal_programs_the_first_are_taken_clients_and_servers_alike() {
        let folders = [fake("97.1"), fake("98.2"), fake("98.2"), fake("98.1")];
        let path = std::env::join_paths(folders.iter().map(tempfile::TempDir::path)).unwrap();
        let environment = |name: &str| (name == "PATH").then(|| path.clone());
        let first = folders[1].path();
        let clients = Programs::find(98, &environment).unwrap();
        assert_eq!(clients.folder(), first);
        for wanted in [None, Some(98)] {
            let server = server_programs(wanted, &environment).unwrap();
            assert_eq!(server.folder(), first, "{wanted:?}");
        }
    }

    #[test]
    fn known_holes_are_named_with_the_release_that_mends_them() {
        let hole = find(15, "15.18").unwrap().known_hole().unwrap();
        assert!(
            hole.contains("CVE-2026-18408") && hole.contains("15.19"),
            "{hole}"
        );
        for (version, holed) in [
            ("15.19", false),
            ("18.5", true),
            ("18.6", false),
            ("19beta1", false),
            ("13.30", true),
        ] {
            assert_eq!(
                find(13, version).unwrap().known_hole().is_some(),
                holed,
                "{version}"
            );
        }
    }

    #[test]
    fn a_folder_without_programs_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path: OsString = folder.path().into();
        let environment = |name: &str| (name == FOLDER_VARIABLE).then(|| path.clone());
        let error = Programs::find(15, &environment).unwrap_err().to_string();
        assert!(error.contains(folder.path().to_str().unwrap()), "{error}");
    }

    #[test]
    fn the_programs_of_this_machine_are_found_without_help() {
        let programs = server_programs(None, &|_| None).unwrap();
        assert!(programs.program("initdb").is_file());
        let clients = Programs::find(15, &|_| None).unwrap();
        assert!(clients.version().major >= 15);
    }
}
