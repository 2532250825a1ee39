//! Sentences about errors and items.

use std::error::Error;

/// An error and its causes in one line.
#[must_use]
pub fn sentence(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        if !text.ends_with(&inner_text) {
            text.push_str(": ");
            text.push_str(&inner_text);
        }
        cause = inner.source();
    }
    text
}

/// A path for people: what is no text is shown escaped, and so is whatever would move the cursor.
#[must_use]
pub fn shown_path(path: &[u8]) -> String {
    String::from_utf8_lossy(path)
        .chars()
        .flat_map(|letter| {
            if letter.is_control() {
                letter.escape_default().collect::<Vec<_>>()
            } else {
                vec![letter]
            }
        })
        .collect()
}
