//! What a person is told when a command fails: what happened, why, and what to do next.
//!
//! Errors of the libraries become a [`CommandError`] at the edge, where the exit code and the hint are chosen; their
//! chain of causes is printed here, once. The message and the causes are lower-case fragments, the hint is whole
//! sentences.

use std::{error::Error, io};

use serde::Serialize;

use crate::{exit_code::ExitCode, text};

/// A command that failed.
#[derive(Debug)]
pub(crate) struct CommandError {
    code: ExitCode,
    message: String,
    causes: Vec<String>,
    hint: Option<String>,
    /// Said as it is, also when the program was asked to stop.
    stays: bool,
}

impl CommandError {
    /// A failure; `message` is a lower-case fragment without a full stop.
    pub(crate) fn new(code: ExitCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            causes: Vec::new(),
            hint: None,
            stays: false,
        }
    }

    /// A failure whose message is the library's own; its sources become the causes.
    pub(crate) fn from_error(code: ExitCode, error: &(dyn Error + 'static)) -> Self {
        let mut command = Self::new(code, error.to_string());
        if let Some(source) = error.source() {
            command = command.caused_by(source);
        }
        command
    }

    /// The command line or the configuration is wrong.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(ExitCode::Usage, message)
    }

    /// Standard output could not be written. A reader that went away is no failure to talk about.
    pub(crate) fn output(error: &io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Self::new(ExitCode::OutputClosed, "standard output was closed");
        }
        Self::new(ExitCode::Failed, "standard output cannot be written")
            .caused_by(error)
            .hint("Make room where the output goes, then run the command again.")
    }

    /// Adds an error and its sources to the causes.
    #[must_use]
    pub(crate) fn caused_by(mut self, error: &(dyn Error + 'static)) -> Self {
        let mut next = Some(error);
        while let Some(cause) = next {
            let sentence = cause.to_string();
            let said = self.causes.last().unwrap_or(&self.message);
            // Some foreign errors print their source themselves.
            if !said.ends_with(&sentence) {
                self.causes.push(sentence);
            }
            next = cause.source();
        }
        self
    }

    /// Says first what the failure means here; what was said so far becomes its cause.
    #[must_use]
    pub(crate) fn within(mut self, message: impl Into<String>) -> Self {
        let inner = std::mem::replace(&mut self.message, message.into());
        self.causes.insert(0, inner);
        self
    }

    /// Says what to do, in whole sentences.
    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Says of a stop already what can be said of it.
    #[must_use]
    pub(crate) fn staying(mut self) -> Self {
        self.stays = true;
        self
    }

    /// True when nothing else is said where the program was asked to stop.
    pub(crate) fn stays(&self) -> bool {
        self.stays
    }

    /// How the program ends.
    pub(crate) fn code(&self) -> ExitCode {
        self.code
    }

    /// True when nobody is left to read about it.
    pub(crate) fn is_silent(&self) -> bool {
        self.code == ExitCode::OutputClosed
    }

    /// The labelled lines for people, in their order; lines after the first of a text are indented below it.
    pub(crate) fn lines(&self) -> Vec<(&'static str, String)> {
        let mut lines = vec![("error:", under("error:", &self.message))];
        if !self.causes.is_empty() {
            lines.push(("cause:", under("cause:", &self.causes.join(": "))));
        }
        if let Some(hint) = &self.hint {
            lines.push(("hint:", under("hint:", hint)));
        }
        lines
    }

    /// The same facts for programs.
    pub(crate) fn facts(&self) -> ErrorFacts<'_> {
        let mut message = self.message.clone();
        for cause in &self.causes {
            message.push_str(": ");
            message.push_str(cause);
        }
        ErrorFacts {
            code: self.code.number(),
            message,
            hint: self.hint.as_deref(),
        }
    }
}

/// The fields of the message `exit_error`.
#[derive(Debug, Serialize)]
pub(crate) struct ErrorFacts<'a> {
    /// The exit code's number.
    pub(crate) code: u8,
    /// What happened and why, as one fragment.
    pub(crate) message: String,
    /// What to do next, in whole sentences.
    pub(crate) hint: Option<&'a str>,
}

/// Puts the lines of `sentence` under its first one, behind the label, and makes them printable.
fn under(label: &str, sentence: &str) -> String {
    let indent = " ".repeat(label.len() + 1);
    let lines: Vec<_> = sentence.trim_end().lines().map(text::printable).collect();
    lines.join(&format!("\n{indent}"))
}

/// Turns the errors of libraries into [`CommandError`]s where they are met.
pub(crate) trait OrFail<T> {
    /// Says what could not be done; the library's error becomes the cause.
    fn or_fail(self, code: ExitCode, message: impl FnOnce() -> String) -> Result<T, CommandError>;
}

impl<T, E: Error + 'static> OrFail<T> for Result<T, E> {
    fn or_fail(self, code: ExitCode, message: impl FnOnce() -> String) -> Result<T, CommandError> {
        self.map_err(|error| CommandError::new(code, message()).caused_by(&error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot read {path}")]
    struct Outer {
        path: &'static str,
        #[source]
        source: io::Error,
    }

    fn outer() -> Outer {
        Outer {
            path: "/srv/repo",
            source: io::Error::other("the disk is gone"),
        }
    }

    fn shown(error: &CommandError) -> String {
        let lines = error.lines();
        let lines: Vec<_> = lines
            .iter()
            .map(|(label, text)| format!("{label} {text}"))
            .collect();
        lines.join("\n")
    }

    #[test]
    fn a_failure_is_three_lines_with_the_whole_chain_on_the_second() {
        let error = Err::<(), _>(outer())
            .or_fail(ExitCode::NoRepository, || {
                "the repository cannot be opened".to_owned()
            })
            .unwrap_err()
            .hint("Mount the disk.");
        assert_eq!(
            shown(&error),
            "error: the repository cannot be opened\n\
             cause: cannot read /srv/repo: the disk is gone\n\
             hint: Mount the disk."
        );
        assert_eq!(error.code(), ExitCode::NoRepository);
    }

    #[test]
    fn a_librarys_own_message_is_not_said_twice() {
        let error = CommandError::from_error(ExitCode::Failed, &outer());
        assert_eq!(
            shown(&error),
            "error: cannot read /srv/repo\ncause: the disk is gone"
        );
        let chatty = io::Error::other(format!("reading failed: {}", "the disk is gone"));
        let error = CommandError::new(ExitCode::Failed, "reading failed: the disk is gone");
        assert_eq!(error.caused_by(&chatty).lines().len(), 1);
    }

    #[test]
    fn what_a_failure_means_here_comes_first() {
        let error = CommandError::from_error(ExitCode::Failed, &outer());
        assert_eq!(
            shown(&error.within("the copy cannot be opened")),
            "error: the copy cannot be opened\ncause: cannot read /srv/repo: the disk is gone"
        );
    }

    #[test]
    fn further_lines_stand_under_the_first_and_escapes_do_not_get_through() {
        let error =
            CommandError::usage("two snapshots match").hint("Name one of:\n  3f9a\x1b[2J\n  81c0");
        assert_eq!(
            shown(&error),
            "error: two snapshots match\nhint: Name one of:\n        3f9a\\u{1b}[2J\n        81c0"
        );
    }

    #[test]
    fn programs_get_the_same_facts() {
        let error = CommandError::from_error(ExitCode::WrongKey, &outer()).hint("Try another.");
        assert_eq!(
            serde_json::to_string(&error.facts()).unwrap(),
            r#"{"code":12,"message":"cannot read /srv/repo: the disk is gone","hint":"Try another."}"#
        );
        let bare = CommandError::new(ExitCode::Failed, "no");
        assert_eq!(
            serde_json::to_string(&bare.facts()).unwrap(),
            r#"{"code":1,"message":"no","hint":null}"#
        );
    }

    #[test]
    fn a_reader_that_went_away_is_not_talked_about() {
        let error = CommandError::output(&io::Error::from(io::ErrorKind::BrokenPipe));
        assert!(error.is_silent());
        let error = CommandError::output(&io::Error::from(io::ErrorKind::StorageFull));
        assert!(!error.is_silent());
        assert_eq!(error.code(), ExitCode::Failed);
    }
}
