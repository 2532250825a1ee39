//! What the configuration has a drill ask of a restored app.
//!
//! Invariant: every value that a text names in braces is known when its URL is asked, and `Debug` shows none of them.

use super::secret::Secret;
use crate::redact::redact_arguments;
use std::fmt;
use std::time::Duration;

/// What a drill asks of a restored app.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DrillConfig {
    /// Statements that have to be true.
    pub checks: Vec<DrillCheck>,
    /// The app itself, started on what was restored.
    pub service: Option<DrillService>,
    /// Values that the texts of URLs name, such as a password.
    pub values: Vec<(String, Secret)>,
    /// What is asked over HTTP, one after the other.
    pub urls: Vec<DrillUrl>,
    /// Programs that have to end well.
    pub commands: Vec<DrillCommand>,
}

/// A statement that has to be true of a restored database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DrillCheck {
    /// The database source.
    pub source: String,
    /// The statement.
    pub sql: String,
}

/// A program that tries a restored app.
#[derive(Clone, PartialEq, Eq)]
pub struct DrillCommand {
    /// Its name.
    pub name: String,
    /// The program and its arguments; never empty.
    pub run: Vec<String>,
    /// How long it may take.
    pub timeout: Duration,
}

/// The app itself, as a drill starts it.
#[derive(Clone, PartialEq, Eq)]
pub struct DrillService {
    /// The program and its arguments, in which `{port}` stands for a free port; never empty.
    pub run: Vec<String>,
    /// The path that answers once the app is ready.
    pub ready: String,
    /// The name by which the app is called, where it listens to no other.
    pub host: Option<String>,
    /// How long it may take until it is ready.
    pub timeout: Duration,
}

/// What is asked at one URL, and what the answer has to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DrillUrl {
    /// Its name.
    pub name: String,
    /// The method, in capitals.
    pub method: String,
    /// The host and port on this machine; nothing for the app that the drill has started.
    pub authority: Option<String>,
    /// The path, from its slash on.
    pub path: DrillText,
    /// Headers by name.
    pub headers: Vec<(String, DrillText)>,
    /// What is sent.
    pub body: Option<DrillBody>,
    /// The answer's status.
    pub status: u16,
    /// What the answer's text has in it.
    pub contains: Option<String>,
    /// What is taken from the answer's text.
    pub take: Vec<DrillTake>,
    /// The file, by source and path in it, that the answer has to be.
    pub sha256_of: Option<(String, String)>,
    /// How long the answer may take.
    pub timeout: Duration,
}

/// What is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DrillBody {
    /// Fields of a form.
    Form(Vec<(String, DrillText)>),
    /// JSON.
    Json(DrillText),
}

/// A value that an answer gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DrillTake {
    /// By which later texts name it.
    pub name: String,
    /// What stands before it.
    pub before: String,
    /// What stands behind it.
    pub behind: String,
}

/// A text in which values are named in braces. It may hold a password itself.
#[derive(Clone, PartialEq, Eq)]
pub struct DrillText(pub(super) String);

/// The letters of a value's name.
fn is_name(name: &str) -> bool {
    let mut letters = name.bytes();
    letters
        .next()
        .is_some_and(|first| first.is_ascii_lowercase())
        && letters
            .all(|letter| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == b'-')
}

impl DrillText {
    /// Its parts: texts as they are, and names of values.
    fn parts(&self) -> Vec<Result<&str, &str>> {
        let (mut parts, mut rest) = (Vec::new(), self.0.as_str());
        let mut from = 0;
        while let Some(open) = rest[from..].find('{').map(|at| from + at) {
            match rest[open + 1..].split_once('}') {
                Some((name, after)) if is_name(name) => {
                    parts.extend([Ok(&rest[..open]), Err(name)]);
                    (rest, from) = (after, 0);
                }
                _ => from = open + 1,
            }
        }
        parts.push(Ok(rest));
        parts
    }

    /// The names of its values.
    pub(super) fn names(&self) -> Vec<&str> {
        self.parts().into_iter().filter_map(Result::err).collect()
    }

    /// The text with its values, each as `write` has it.
    pub(crate) fn fill(&self, mut write: impl FnMut(&str) -> String) -> String {
        let parts = self.parts().into_iter();
        parts
            .map(|part| part.map_or_else(&mut write, str::to_owned))
            .collect()
    }
}

/// Whether a value may have this name.
pub(super) fn is_value_name(name: &str) -> bool {
    is_name(name) && name != "port"
}

impl fmt::Debug for DrillText {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("***")
    }
}

impl fmt::Debug for DrillCommand {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, run, timeout } = self;
        out.debug_struct("DrillCommand")
            .field("name", name)
            .field("run", &redact_arguments(run))
            .field("timeout", timeout)
            .finish()
    }
}

impl fmt::Debug for DrillService {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            run,
            ready,
            host,
            timeout,
        } = self;
        out.debug_struct("DrillService")
            .field("run", &redact_arguments(run))
            .field("ready", ready)
            .field("host", host)
            .field("timeout", timeout)
            .finish()
    }
}

#[cfg(test)]
pub(crate) fn drill_text(text: &str) -> DrillText {
    DrillText(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_named_in_braces_and_other_braces_stay() {
        let text = DrillText(r#"{"user": {user}, "x": "{a b}{{token}}", "{"#.to_owned());
        assert_eq!(text.names(), ["user", "token"]);
        let filled = text.fill(|name| format!("<{name}>"));
        assert_eq!(filled, r#"{"user": <user>, "x": "{a b}{<token>}", "{"#);
        assert_eq!(format!("{text:?}"), "***");
        assert!(is_value_name("csrf-token") && !is_value_name("port") && !is_value_name("Port"));
    }
}
