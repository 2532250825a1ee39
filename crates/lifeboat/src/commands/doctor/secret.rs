//! Where the passphrase would come from, and who else could read it. It is not read here.

use std::{fs, os::unix::fs::MetadataExt, path::Path};

use super::Finding;
use crate::{
    context::Context,
    password::Source,
    text::{printable_path, sentence},
};

const TOPIC: &str = "passphrase";

/// The source that would be used now.
pub(super) fn look(context: &Context) -> Finding {
    match context.secret_source() {
        Ok(Source::File(path) | Source::KeyFile(path)) => file(&path),
        Ok(Source::Prompt) => Finding::ok(
            TOPIC,
            "The passphrase is asked for at the terminal; a scheduled backup needs a file that holds it.",
        ),
        Ok(source) => Finding::ok(
            TOPIC,
            format!("The passphrase, which is not tried here, comes from {source}"),
        ),
        Err(error) => {
            let facts = error.facts();
            let hint = facts.hint.unwrap_or_default();
            Finding::warning(TOPIC, sentence(&facts.message), hint)
        }
    }
}

/// A file with a secret: there, and closed to other users.
fn file(path: &Path) -> Finding {
    let named = printable_path(path.as_ref());
    let readable = fs::File::open(path).and_then(|file| file.metadata());
    match readable {
        Ok(metadata) if metadata.mode() & 0o007 != 0 => Finding::warning(
            TOPIC,
            format!(
                "Every user of this machine may read or change {named} (mode {:04o}).",
                metadata.mode() & 0o7777
            ),
            format!("Close it with: chmod 600 {named}"),
        ),
        Ok(_) => Finding::ok(
            TOPIC,
            format!("The secret, which is not tried here, comes from the file {named}"),
        ),
        Err(error) => Finding::problem(
            TOPIC,
            format!("The file {named} cannot be read: {error}."),
            "Check the path, and who may read the file.",
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::{super::Verdict, *};

    #[test]
    fn a_secret_that_everybody_may_read_is_a_warning_and_a_missing_one_a_problem() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("passphrase");
        assert_eq!(file(&path).verdict, Verdict::Problem);
        fs::write(&path, "words").unwrap();
        for (mode, verdict) in [
            (0o600, Verdict::Ok),
            (0o640, Verdict::Ok),
            (0o644, Verdict::Warning),
        ] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(file(&path).verdict, verdict, "{mode:o}");
        }
    }
}
