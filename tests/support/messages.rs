//! What a run says, read as a person or a script would read it.
//!
//! **Invariant**: an error is an `error:` line and a `hint:` line with nothing but causes between them, or one
//! `exit_error` message; whoever asks here for an error and finds another form fails the test.

use serde_json::Value;

use super::program::Ran;

impl Ran {
    /// The last message of a long command that was run with `--json`.
    #[track_caller]
    pub(crate) fn summary(&self) -> Value {
        let summary = self.json().pop();
        summary
            .filter(|message| message["message_type"] == "summary")
            .unwrap_or_else(|| panic!("the last line is a summary: {self:?}"))
    }

    /// The one answer of a short command that was run with `--json`.
    #[track_caller]
    pub(crate) fn answer(&self) -> Value {
        let mut lines = self.json();
        assert_eq!(lines.len(), 1, "{self:?}");
        lines.remove(0)
    }

    /// What was told about single items by a run with `--json`.
    #[track_caller]
    pub(crate) fn problems(&self) -> Vec<String> {
        let told = self.json().into_iter();
        told.filter(|message| message["message_type"] == "error")
            .map(|message| text(&message, "message"))
            .collect()
    }

    /// What `exit_error` said, after a run with `--json` that failed: the message and the hint.
    #[track_caller]
    pub(crate) fn exit_error(&self) -> (String, String) {
        let last = self.json().pop();
        let last = last.unwrap_or_else(|| panic!("something was told: {self:?}"));
        assert_eq!(last["message_type"], "exit_error", "{self:?}");
        assert_eq!(last["code"], self.code, "{self:?}");
        (text(&last, "message"), text(&last, "hint"))
    }

    /// Fails the test unless the run failed with this code and said so in the lines `error:`, `cause:` and `hint:`;
    /// the cause may be missing where there is none. Returns standard error.
    #[track_caller]
    pub(crate) fn explains(&self, code: i32) -> &str {
        assert_eq!(self.code, code, "{self:?}");
        let labels: Vec<&str> = self
            .stderr
            .lines()
            .filter_map(|line| line.split_once(": ").map(|(label, _)| label))
            .filter(|label| matches!(*label, "error" | "cause" | "hint"))
            .collect();
        assert!(
            matches!(
                labels.as_slice(),
                ["error", "hint"] | ["error", "cause", "hint"]
            ),
            "{self:?}"
        );
        &self.stderr
    }
}

/// A field of a message that is text.
#[track_caller]
pub(crate) fn text(message: &Value, field: &str) -> String {
    let value = message[field].as_str();
    value
        .unwrap_or_else(|| panic!("`{field}` is text in {message}"))
        .to_owned()
}

/// A field of a message that is a whole number.
#[track_caller]
pub(crate) fn number(message: &Value, field: &str) -> u64 {
    let value = message[field].as_u64();
    value.unwrap_or_else(|| panic!("`{field}` is a number in {message}"))
}
