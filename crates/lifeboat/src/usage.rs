//! What is said about a command line that is wrong, in the three lines of every error.
//!
//! The parser of the command line knows what it met and what it wanted; its own text, with usage lines that count a
//! variable of the environment among what is required, is never shown.

use std::{error::Error as _, ffi::OsString, num::ParseIntError};

use clap::error::{ContextKind, ContextValue, ErrorKind};

use crate::{error::CommandError, ui::Manner};

/// A command line that is wrong.
pub(crate) struct WrongUsage {
    error: clap::Error,
    manner: Manner,
    /// The command that was meant, as far as it was understood: `lifeboat key add`.
    command: String,
}

impl WrongUsage {
    /// What the parser met in `words`.
    pub(crate) fn new(
        error: clap::Error,
        manner: Manner,
        definition: &clap::Command,
        words: &[OsString],
    ) -> Self {
        Self {
            error,
            manner,
            command: meant(definition, words),
        }
    }

    /// How to tell it.
    pub(crate) fn manner(&self) -> Manner {
        self.manner
    }

    /// What is wrong, why, and the nearest right word.
    pub(crate) fn to_error(&self) -> CommandError {
        let (message, advice) = self.told();
        let more = format!("`{} --help` says what it takes.", self.command);
        let told = CommandError::usage(message);
        let told = match (self.error.kind(), self.error.source()) {
            (ErrorKind::ValueValidation, Some(source)) if source.is::<ParseIntError>() => {
                told.caused_by(&NoNumber)
            }
            (ErrorKind::ValueValidation, Some(source)) => told.caused_by(source),
            _ => told,
        };
        told.hint(match advice {
            Some(advice) => format!("{advice} {more}"),
            None => more,
        })
    }

    /// The message, and the advice that fits this error alone.
    fn told(&self) -> (String, Option<String>) {
        let words = |kind| strings(self.error.get(kind));
        let argument = words(ContextKind::InvalidArg).join(" and ");
        let value = words(ContextKind::InvalidValue).concat();
        // The likest word stands last.
        let did_you_mean = |kind| {
            let word = words(kind).pop();
            word.map(|word| format!("Did you mean `{word}`?"))
        };
        match self.error.kind() {
            ErrorKind::InvalidSubcommand => (
                format!(
                    "there is no command `{} {}`",
                    self.command,
                    words(ContextKind::InvalidSubcommand).concat()
                ),
                did_you_mean(ContextKind::SuggestedSubcommand),
            ),
            ErrorKind::UnknownArgument if argument.starts_with('-') => (
                format!("`{}` has no option {argument}", self.command),
                did_you_mean(ContextKind::SuggestedArg),
            ),
            ErrorKind::UnknownArgument => {
                (format!("`{}` takes no `{argument}`", self.command), None)
            }
            ErrorKind::MissingRequiredArgument => {
                let lacking = words(ContextKind::InvalidArg);
                let are = if lacking.len() == 1 { "is" } else { "are" };
                let lacking: Vec<_> = lacking.iter().map(|word| either(word)).collect();
                (format!("{} {are} missing", lacking.join(" and ")), None)
            }
            ErrorKind::InvalidValue | ErrorKind::ValueValidation => {
                let allowed = words(ContextKind::ValidValue);
                let message = if value.is_empty() {
                    format!("{argument} has no value")
                } else {
                    format!("`{value}` does not fit {argument}")
                };
                let advice =
                    (!allowed.is_empty()).then(|| format!("It may be {}.", allowed.join(", ")));
                (message, advice)
            }
            ErrorKind::ArgumentConflict => {
                // What may be given several times is shown with dots.
                let argument = argument.trim_end_matches("...");
                let others = words(ContextKind::PriorArg).join(" and ");
                let others = others.trim_end_matches("...");
                if others.is_empty() || others == argument {
                    (format!("{argument} is given twice"), None)
                } else {
                    (format!("{argument} cannot stand beside {others}"), None)
                }
            }
            _ => {
                let text = self.error.to_string();
                let first = text.split("\n\n").next().unwrap_or_default();
                let sentence = first.strip_prefix("error: ").unwrap_or(first);
                let message: Vec<&str> = sentence.split_whitespace().collect();
                (message.join(" "), None)
            }
        }
    }
}

/// Where a number is wanted and something else stands.
#[derive(Debug, thiserror::Error)]
#[error("it is no number that fits")]
struct NoNumber;

/// A word of the parser that stands for one of several options, as people write it.
fn either(word: &str) -> String {
    match word
        .strip_prefix("<-")
        .and_then(|rest| rest.strip_suffix('>'))
    {
        Some(options) => format!("-{}", options.replace('|', " or ")),
        None => word.to_owned(),
    }
}

fn strings(value: Option<&ContextValue>) -> Vec<String> {
    match value {
        Some(ContextValue::String(text)) => vec![text.clone()],
        Some(ContextValue::Strings(texts)) => texts.clone(),
        _ => Vec::new(),
    }
}

/// The command that the words name, as far as they name one.
fn meant(definition: &clap::Command, words: &[OsString]) -> String {
    let mut path = definition.get_name().to_owned();
    let mut command = definition;
    for word in words.iter().skip(1).take_while(|word| *word != "--") {
        if let Some(inner) = command.find_subcommand(word) {
            command = inner;
            path = format!("{path} {}", inner.get_name());
        }
    }
    path
}
