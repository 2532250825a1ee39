//! Saying something about snapshots, for the verbs `tag`, `pin` and `unpin`.

use lifeboat_app::only_sources;
use lifeboat_codec::Note;
use lifeboat_repository::Repository;
use serde::Serialize;

use crate::{context::Context, error::CommandError, text::counted};

/// The kind of a note that is a tag.
pub(super) const TAG: &str = "tag";
/// The kind of a note that is a pin.
pub(super) const PIN: &str = "pin";

/// Checks that each of `tags` can stand in a list and in a selector (`tag:NAME`) without being taken for something else,
/// and does not say of a snapshot that it has some sources only.
pub(super) fn check_tags(tags: &[String]) -> Result<(), CommandError> {
    let is_plain = |letter: char| letter.is_alphanumeric() || "-_.+=/".contains(letter);
    let wrong = |tag: &&String| tag.is_empty() || !tag.chars().all(is_plain);
    if only_sources(tags.iter().map(String::as_str)).is_some() {
        return Err(
            CommandError::usage("a tag `only=SOURCE` is given by `backup --only` alone")
                .hint("It says what such a snapshot has; write another tag."),
        );
    }
    match tags.iter().find(wrong) {
        None => Ok(()),
        Some(tag) => Err(CommandError::usage(format!("`{tag}` cannot be a tag")).hint(
            "Write letters, digits and any of - _ . + = / without spaces; give --tag or --add several times for several tags.",
        )),
    }
}

/// What the notes of one command say.
#[derive(Clone, Copy, Debug)]
pub(super) enum Said {
    /// Tags were added or removed.
    Tags,
    /// Snapshots were pinned.
    Pins,
    /// Pins were taken away.
    Unpins,
}

#[derive(Serialize)]
struct Summary {
    changes: usize,
}

/// Stores the notes and says how many there were; none is no failure, since all is as it was asked for.
pub(super) fn say(
    repository: &mut Repository,
    notes: &[Note],
    said: Said,
    context: &Context,
) -> Result<(), CommandError> {
    for note in notes {
        repository.say(note)?;
    }
    if context.ui().is_json() {
        return context.ui().summary(&Summary {
            changes: notes.len(),
        });
    }
    let number = notes.len() as u64;
    let sentence = match said {
        Said::Tags => format!("Made {} to tags.", counted(number, "change")),
        Said::Pins => format!("Pinned {}.", counted(number, "snapshot")),
        Said::Unpins => format!("Took {} away.", counted(number, "pin")),
    };
    context.ui().stdout(|out| writeln!(out, "{sentence}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_single_words() {
        for tag in ["nightly", "vor-dem-Übergang", "v1.2+3", "year=2026", "a/b"] {
            assert!(check_tags(&[tag.to_owned()]).is_ok(), "{tag}");
        }
        for tag in [
            "", "a b", "a,b", "tag:x", "(pinned)", "a\nb", "x~1", "x@y", "only=db",
        ] {
            assert!(
                check_tags(&["fine".to_owned(), tag.to_owned()]).is_err(),
                "{tag}"
            );
        }
    }
}
