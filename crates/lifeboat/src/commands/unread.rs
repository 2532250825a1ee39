//! Items that a listing met and could not read: told behind the list, which must not have them in its middle.

use crate::{context::Context, exit_code::ExitCode, text::counted};

/// The most that are told by name; all are counted.
const TOLD_MAX: usize = 1000;

/// What could not be read.
#[derive(Debug, Default)]
pub(super) struct UnreadItems {
    told: Vec<String>,
    more: u64,
}

impl UnreadItems {
    /// One more, with its path and why.
    pub(super) fn add(&mut self, what: String) {
        if self.told.len() < TOLD_MAX {
            self.told.push(what);
        } else {
            self.more += 1;
        }
    }

    /// Tells them, and gives the exit code of the listing.
    pub(super) fn tell(&self, context: &Context) -> ExitCode {
        for what in &self.told {
            context.ui().problem(what);
        }
        match self.told.len() as u64 + self.more {
            0 => ExitCode::Done,
            number => {
                context.ui().warning(&format!(
                    "{} could not be read; `lifeboat check` looks for what is damaged",
                    counted(number, "item")
                ));
                ExitCode::Incomplete
            }
        }
    }
}
