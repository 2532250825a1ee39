//! Saying something about snapshots, for the verbs `tag`, `pin` and `unpin`.

use lifeboat_codec::Note;
use lifeboat_repository::Repository;
use serde::Serialize;

use crate::{context::Context, error::CommandError, text::counted};

/// The kind of a note that is a tag.
pub(super) const TAG: &str = "tag";
/// The kind of a note that is a pin.
pub(super) const PIN: &str = "pin";

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
