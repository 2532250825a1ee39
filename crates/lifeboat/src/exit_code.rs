//! How a run ended, as the number that scripts see.
//!
//! **Invariant**: a number keeps its meaning for ever and is never given to another. New numbers may come, so that a
//! script must take an unknown one for a failure.

/// The exit codes of the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum ExitCode {
    /// Everything was done.
    Done = 0,
    /// The command failed.
    Failed = 1,
    /// The command line or the configuration is wrong.
    Usage = 2,
    /// Done, but some items of the source could not be read or restored.
    Incomplete = 3,
    /// A check or drill found a problem with the backup.
    Problem = 4,
    /// `status --check` found a backup or drill that is too old.
    TooOld = 5,
    /// The surroundings of a drill failed, and it judged nothing.
    Surroundings = 6,
    /// There is no repository at that place.
    NoRepository = 10,
    /// The repository is locked or busy.
    Busy = 11,
    /// The passphrase, key file or recovery key is missing or wrong.
    WrongKey = 12,
    /// The database cannot be reached, or its preflight found something.
    Database = 13,
    /// Refused: the target is not empty, or a confirmation is missing.
    Refused = 14,
    /// Stopped by SIGHUP.
    HungUp = 129,
    /// Stopped by SIGINT.
    Interrupted = 130,
    /// The reader of standard output went away before the end.
    OutputClosed = 141,
    /// Stopped by SIGTERM.
    Terminated = 143,
}

impl ExitCode {
    /// Every code, in the order of the numbers.
    pub(crate) const ALL: [Self; 16] = [
        Self::Done,
        Self::Failed,
        Self::Usage,
        Self::Incomplete,
        Self::Problem,
        Self::TooOld,
        Self::Surroundings,
        Self::NoRepository,
        Self::Busy,
        Self::WrongKey,
        Self::Database,
        Self::Refused,
        Self::HungUp,
        Self::Interrupted,
        Self::OutputClosed,
        Self::Terminated,
    ];

    /// The number.
    pub(crate) fn number(self) -> u8 {
        self as u8
    }

    /// What the number says, as a sentence for the manual.
    pub(crate) fn meaning(self) -> &'static str {
        match self {
            Self::Done => "Everything was done.",
            Self::Failed => "The command failed.",
            Self::Usage => "The command line or the configuration is wrong.",
            Self::Incomplete => "Done, but some items of the source could not be read or restored.",
            Self::Problem => "A check or drill found a problem with the backup.",
            Self::TooOld => "A backup or drill is too old, which `status --check` found.",
            Self::Surroundings => {
                "The surroundings of a drill failed, and the backup was not judged."
            }
            Self::NoRepository => "There is no repository at that place.",
            Self::Busy => "The repository is locked or busy.",
            Self::WrongKey => "The passphrase, key file or recovery key is missing or wrong.",
            Self::Database => "The database cannot be reached, or its preflight found something.",
            Self::Refused => "Refused: the target is not empty, or a confirmation is missing.",
            Self::HungUp => "Stopped by SIGHUP, as when its terminal is closed.",
            Self::Interrupted => "Stopped by SIGINT.",
            Self::OutputClosed => "The reader of standard output went away before the end.",
            Self::Terminated => "Stopped by SIGTERM.",
        }
    }
}

impl From<ExitCode> for std::process::ExitCode {
    fn from(code: ExitCode) -> Self {
        Self::from(code.number())
    }
}

#[cfg(test)]
mod tests {
    use super::ExitCode;

    #[test]
    fn numbers_are_the_ones_that_scripts_know() {
        let numbers = ExitCode::ALL.map(ExitCode::number);
        assert_eq!(
            numbers,
            [0, 1, 2, 3, 4, 5, 6, 10, 11, 12, 13, 14, 129, 130, 141, 143]
        );
    }

    #[test]
    fn every_meaning_is_a_sentence() {
        for code in ExitCode::ALL {
            let meaning = code.meaning();
            assert!(meaning.ends_with('.'), "{meaning}");
            assert!(meaning.starts_with(char::is_uppercase), "{meaning}");
        }
    }
}
