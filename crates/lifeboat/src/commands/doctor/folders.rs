//! The folders that the program reads and writes: who may enter them, and how much room is left.

use std::{
    env, fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use lifeboat_app::Bytes;
use lifeboat_store::{Location, Store};
use rustix::fs::{Access, access, statvfs};

use super::{Finding, Verdict};
use crate::{context::Context, error::CommandError, exit_code::ExitCode, text::printable_path};

/// With less room than this a backup may end in the middle: packs are built in the temporary folder, and the cache
/// grows with the repository.
const ROOM_MIN: u64 = 1 << 30;

/// The cache, the state, the temporary folder and the repository.
pub(super) fn look(context: &Context) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (topic, folder) in [
        ("cache", context.cache_folder()),
        ("state", context.state_folder()),
        ("temporary", Ok(env::temp_dir())),
    ] {
        match folder {
            Ok(folder) => findings.extend(own_folder(topic, &folder)),
            Err(error) => findings.push(Finding::failed(topic, &error)),
        }
    }
    match context.location_if_named() {
        Ok(Some(location)) => findings.extend(repository(&location)),
        Ok(None) => {}
        Err(error) => findings.push(Finding::failed("repository", &error)),
    }
    findings
}

/// A folder that the program writes to; it need not exist yet, but then the one above must let it be made.
fn own_folder(topic: &'static str, folder: &Path) -> Vec<Finding> {
    let named = printable_path(folder.as_ref());
    let existing = match nearest_existing(folder) {
        Ok(existing) => existing,
        Err(error) => {
            let error = CommandError::new(ExitCode::Failed, format!("{named} cannot be looked at"))
                .caused_by(&error)
                .hint("Check the path and its owner.");
            return vec![Finding::failed(topic, &error)];
        }
    };
    if access(&existing, Access::WRITE_OK | Access::EXEC_OK).is_err() {
        return vec![Finding::problem(
            topic,
            format!(
                "The program may not write to {}",
                printable_path(existing.as_ref())
            ),
            "Change its owner or mode, or choose another folder.",
        )];
    }
    let mut findings = vec![room(topic, &existing, &named)];
    // Everybody shares the folder for temporary files.
    if topic != "temporary" && existing == folder {
        findings.extend(openness(topic, folder, &named));
    }
    findings
}

fn nearest_existing(folder: &Path) -> io::Result<PathBuf> {
    for candidate in std::path::absolute(folder)?.ancestors() {
        match fs::metadata(candidate) {
            Ok(metadata) if metadata.is_dir() => return Ok(candidate.to_owned()),
            Ok(_) => return Err(io::Error::from(io::ErrorKind::NotADirectory)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::from(io::ErrorKind::NotFound))
}

fn room(topic: &'static str, existing: &Path, named: &str) -> Finding {
    let free = match statvfs(existing) {
        Ok(numbers) => numbers.f_bavail.saturating_mul(numbers.f_frsize),
        Err(error) => {
            let error = CommandError::new(
                ExitCode::Failed,
                format!("the room left in {named} is not known"),
            )
            .caused_by(&io::Error::from(error));
            return Finding::failed(topic, &error);
        }
    };
    if free < ROOM_MIN {
        return Finding::warning(
            topic,
            format!("Only {} are free in {named}", Bytes(free)),
            "Make room, or choose a folder on another disk.",
        );
    }
    Finding::ok(topic, format!("{} are free in {named}", Bytes(free)))
}

/// A warning when other users can look into the folder.
fn openness(topic: &'static str, folder: &Path, named: &str) -> Option<Finding> {
    let mode = fs::metadata(folder).ok()?.mode() & 0o7777;
    (mode & 0o077 != 0).then(|| {
        Finding::warning(
            topic,
            format!("{named} is open to other users (mode {mode:04o})."),
            format!("Close it with: chmod 700 {named}"),
        )
    })
}

fn repository(location: &Location) -> Vec<Finding> {
    const TOPIC: &str = "repository";
    let store = match lifeboat_store::open(location) {
        Ok(store) => store,
        Err(error) => return vec![Finding::failed(TOPIC, &error.into())],
    };
    let Location::Folder(folder) = location else {
        return vec![Finding::ok(
            TOPIC,
            format!("The storage at {location} answers."),
        )];
    };
    let mut findings = vec![room(TOPIC, folder, &printable_path(folder.as_ref()))];
    findings.extend(warnings(store.as_ref()));
    findings
}

/// What the store itself warns about; its sentences carry what to do.
fn warnings(store: &dyn Store) -> impl Iterator<Item = Finding> {
    store
        .abilities()
        .warnings
        .into_iter()
        .map(|sentence| Finding {
            topic: "repository",
            verdict: Verdict::Warning,
            sentence,
            hint: None,
        })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_folder_that_is_still_to_be_made_is_judged_by_the_one_above() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("deep/er");
        let findings = own_folder("cache", &folder);
        assert_eq!(findings.len(), 1, "{findings:?}");
        assert!(findings[0].sentence.contains("deep/er"), "{findings:?}");
        assert!(!folder.exists());
    }

    #[test]
    fn an_open_folder_is_a_warning_and_a_file_in_its_place_a_problem() {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let findings = own_folder("state", folder.path());
        assert!(
            findings
                .iter()
                .any(|finding| finding.sentence.ends_with("(mode 0755).")),
            "{findings:?}"
        );
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        let findings = own_folder("state", &file);
        assert_eq!(findings[0].verdict, Verdict::Problem);
    }

    #[test]
    fn a_repository_that_is_not_there_is_a_problem_with_a_hint() {
        let findings = repository(&Location::Folder("/no/such/folder".into()));
        assert_eq!(findings[0].verdict, Verdict::Problem, "{findings:?}");
        assert!(findings[0].hint.is_some(), "{findings:?}");
    }
}
