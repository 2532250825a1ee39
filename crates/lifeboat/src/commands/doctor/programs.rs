//! The programs of PostgreSQL: which versions are here, and whether they have known holes.

use lifeboat_postgres::{Programs, ProgramsError, server_programs};

use super::Finding;
use crate::{
    context::environment,
    directories::Environment,
    error::CommandError,
    exit_code::ExitCode,
    text::{printable_path, sentence},
};

const CLIENTS: &str = "postgres";
const SERVERS: &str = "servers";

/// All clients, and the newest server.
pub(super) fn look() -> Vec<Finding> {
    let mut findings = clients(environment());
    findings.push(server(environment()));
    findings
}

/// A finding for each version of the clients. Asking for the next newer version than the last one finds them all.
fn clients(environment: Environment<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut wanted = 1;
    loop {
        match Programs::find(wanted, environment) {
            Ok(programs) => {
                wanted = programs.version().major + 1;
                findings.push(client(&programs));
            }
            Err(ProgramsError::TooOld { .. }) => return findings,
            Err(ProgramsError::NoClient { .. }) => {
                findings.push(Finding::warning(
                    CLIENTS,
                    "PostgreSQL's client programs are not installed; databases of PostgreSQL cannot be backed up.",
                    "Install postgresql-client in the server's version or a newer one, or set LIFEBOAT_PG_BIN.",
                ));
                return findings;
            }
            Err(error) => {
                let error = CommandError::from_error(ExitCode::Failed, &error);
                let error = error.hint("Set LIFEBOAT_PG_BIN to a folder with pg_dump and its kin.");
                findings.push(Finding::failed(CLIENTS, &error));
                return findings;
            }
        }
    }
}

fn client(programs: &Programs) -> Finding {
    match programs.known_hole() {
        Some(hole) => {
            let (hole, advice) = hole.rsplit_once("; ").unwrap_or((&hole, "update them"));
            Finding::warning(CLIENTS, sentence(hole), sentence(advice))
        }
        None => Finding::ok(
            CLIENTS,
            format!(
                "The client programs {} are in {}",
                programs.version(),
                printable_path(programs.folder().as_ref())
            ),
        ),
    }
}

fn server(environment: Environment<'_>) -> Finding {
    match server_programs(None, environment) {
        Ok(programs) => Finding::ok(
            SERVERS,
            format!(
                "The server programs {}, for throw-away servers, are in {}",
                programs.version(),
                printable_path(programs.folder().as_ref())
            ),
        ),
        Err(_) => Finding::ok(
            SERVERS,
            "There are no server programs of PostgreSQL here; only throw-away servers need them.",
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::{ffi::OsString, fs, os::unix::fs::PermissionsExt, path::Path};

    use super::{super::Verdict, *};

    /// A folder whose client programs say that they are of `version`.
    fn fake(folder: &Path, version: &str) {
        for program in ["pg_dump", "pg_dumpall", "pg_restore", "psql"] {
            let path = folder.join(program);
            fs::write(
                &path,
                format!("#!/bin/sh\necho '{program} (PostgreSQL) {version}'\n"),
            )
            .unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }
    }

    fn found(version: &str) -> Vec<Finding> {
        let folder = tempfile::tempdir().unwrap();
        fake(folder.path(), version);
        let path: OsString = folder.path().into();
        clients(&|name| (name == "LIFEBOAT_PG_BIN").then(|| path.clone()))
    }

    #[test]
    fn each_version_is_one_finding_and_a_hole_a_warning_with_the_release_that_mends_it() {
        let findings = found("17.11");
        assert_eq!(findings.len(), 1);
        assert_eq!(findings[0].verdict, Verdict::Ok);
        assert!(findings[0].sentence.contains("17.11"), "{findings:?}");

        let findings = found("17.2");
        assert_eq!(findings[0].verdict, Verdict::Warning);
        assert!(
            findings[0].sentence.ends_with("its plain dump is loaded)."),
            "{findings:?}"
        );
        let hint = findings[0].hint.as_deref().unwrap();
        assert!(
            hint.starts_with("Update postgresql-client-17 to 17.11"),
            "{hint}"
        );
    }

    #[test]
    fn a_folder_that_was_named_and_has_no_programs_is_a_problem() {
        let folder = tempfile::tempdir().unwrap();
        let path: OsString = folder.path().into();
        let findings = clients(&|name| (name == "LIFEBOAT_PG_BIN").then(|| path.clone()));
        assert_eq!(findings[0].verdict, Verdict::Problem);
        assert!(
            findings[0]
                .sentence
                .contains(folder.path().to_str().unwrap()),
            "{findings:?}"
        );
    }
}
