//! Where the program keeps its own files on this machine.
//!
//! Two kinds that are never mixed: the cache can be rebuilt, the state cannot. Each lies where the XDG rules say. A
//! service without a home folder, such as root's under systemd or cron, uses the system's folders.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

use crate::{error::CommandError, exit_code::ExitCode};

/// Where environment variables come from; `std::env::var_os` in the program, a table in tests.
pub(crate) type Environment<'a> = &'a dyn Fn(&str) -> Option<OsString>;

struct Place {
    /// What it holds, for messages.
    holds: &'static str,
    /// The variable that names the parent.
    variable: &'static str,
    /// The parent below the home folder.
    below_home: &'static str,
    /// The folder where there is no home.
    of_system: &'static str,
}

const CACHE: Place = Place {
    holds: "cache",
    variable: "XDG_CACHE_HOME",
    below_home: ".cache",
    of_system: "/var/cache/lifeboat",
};

const STATE: Place = Place {
    holds: "state",
    variable: "XDG_STATE_HOME",
    below_home: ".local/state",
    of_system: "/var/lib/lifeboat",
};

/// The folder for what can be rebuilt; `chosen` is what the command line or LIFEBOAT_CACHE_DIR names.
pub(crate) fn cache(
    chosen: Option<&Path>,
    environment: Environment<'_>,
) -> Result<PathBuf, CommandError> {
    match chosen {
        Some(folder) => Ok(folder.to_owned()),
        None => folder(&CACHE, environment, rustix::process::geteuid().is_root()),
    }
}

/// The folder for what must not be lost.
pub(crate) fn state(environment: Environment<'_>) -> Result<PathBuf, CommandError> {
    folder(&STATE, environment, rustix::process::geteuid().is_root())
}

fn folder(
    place: &Place,
    environment: Environment<'_>,
    is_root: bool,
) -> Result<PathBuf, CommandError> {
    // The XDG rules say that a relative path is to be ignored.
    let absolute = |name| {
        environment(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    if let Some(parent) = absolute(place.variable) {
        return Ok(parent.join("lifeboat"));
    }
    match absolute("HOME") {
        // A service manager that gives "/" as home means that there is none.
        Some(home) if home != Path::new("/") => Ok(home.join(place.below_home).join("lifeboat")),
        _ if is_root => Ok(PathBuf::from(place.of_system)),
        _ => Err(CommandError::new(
            ExitCode::Usage,
            format!("there is no home folder to keep the {} in", place.holds),
        )
        .hint(format!("Set HOME or {}.", place.variable))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(place: &Place, variables: &[(&str, &str)], is_root: bool) -> Option<String> {
        let environment = |name: &str| {
            variables
                .iter()
                .find(|(known, _)| *known == name)
                .map(|(_, value)| OsString::from(value))
        };
        folder(place, &environment, is_root)
            .ok()
            .map(|path| path.display().to_string())
    }

    #[test]
    fn folders_follow_the_xdg_rules() {
        let home = ("HOME", "/home/anna");
        for (variables, cache, state) in [
            (
                vec![home],
                "/home/anna/.cache/lifeboat",
                "/home/anna/.local/state/lifeboat",
            ),
            (
                vec![home, ("XDG_CACHE_HOME", "/c"), ("XDG_STATE_HOME", "/s")],
                "/c/lifeboat",
                "/s/lifeboat",
            ),
            (
                vec![home, ("XDG_CACHE_HOME", "relative"), ("XDG_STATE_HOME", "")],
                "/home/anna/.cache/lifeboat",
                "/home/anna/.local/state/lifeboat",
            ),
        ] {
            assert_eq!(found(&CACHE, &variables, false).as_deref(), Some(cache));
            assert_eq!(found(&STATE, &variables, false).as_deref(), Some(state));
        }
    }

    #[test]
    fn without_a_home_root_has_the_systems_folders_and_others_are_told() {
        for variables in [vec![], vec![("HOME", "/")]] {
            assert_eq!(
                found(&CACHE, &variables, true).as_deref(),
                Some("/var/cache/lifeboat")
            );
            assert_eq!(
                found(&STATE, &variables, true).as_deref(),
                Some("/var/lib/lifeboat")
            );
            assert_eq!(found(&STATE, &variables, false), None);
        }
    }

    #[test]
    fn a_chosen_cache_comes_first() {
        let environment = |_: &str| Some(OsString::from("/elsewhere"));
        assert_eq!(
            cache(Some(Path::new("here")), &environment).unwrap(),
            Path::new("here")
        );
    }
}
