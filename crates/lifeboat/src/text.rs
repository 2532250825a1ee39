//! Numbers and foreign text as people read them.
//!
//! **Invariant**: what comes from outside (a file's name, a server's message) reaches a terminal only through
//! [`printable`], so that it cannot move the cursor, change colours or forge another line.

use std::{borrow::Cow, ffi::OsStr, fmt::Write as _, os::unix::ffi::OsStrExt};

/// A number with commas between thousands: `12,345`.
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A number and what it counts: `1 file`, `12,345 files`.
pub(crate) fn counted(number: u64, noun: &str) -> String {
    let ending = if number == 1 { "" } else { "s" };
    format!("{} {noun}{ending}", count(number))
}

/// The text on one line and without anything that a terminal obeys: `a\nb`, `\u{1b}[2J`.
pub(crate) fn printable(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_obeyed) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 8);
    for letter in text.chars() {
        if is_obeyed(letter) {
            out.extend(letter.escape_default());
        } else {
            out.push(letter);
        }
    }
    Cow::Owned(out)
}

/// A name or path like [`printable`]; bytes that are no UTF-8 are shown as `\xff`.
pub(crate) fn printable_path(path: &OsStr) -> String {
    let mut out = String::new();
    for chunk in path.as_bytes().utf8_chunks() {
        out.push_str(&printable(chunk.valid()));
        for byte in chunk.invalid() {
            write!(out, "\\x{byte:02x}").expect("writing to a String never fails");
        }
    }
    out
}

/// A fragment, such as an error's message, as a sentence of its own.
pub(crate) fn sentence(fragment: &str) -> String {
    let fragment = fragment.trim_end_matches('.');
    let mut letters = fragment.chars();
    let first: String = letters
        .next()
        .into_iter()
        .flat_map(char::to_uppercase)
        .collect();
    format!("{first}{}.", letters.as_str())
}

/// Control characters, and those that turn the direction of text so that a name looks like another.
fn is_obeyed(letter: char) -> bool {
    letter.is_control()
        || matches!(letter, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2028}' | '\u{2029}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_commas_and_nouns_their_plural() {
        assert_eq!(count(0), "0");
        assert_eq!(count(999), "999");
        assert_eq!(count(1_000), "1,000");
        assert_eq!(count(1_234_567), "1,234,567");
        assert_eq!(counted(1, "file"), "1 file");
        assert_eq!(counted(12_345, "file"), "12,345 files");
        assert_eq!(counted(0, "file"), "0 files");
    }

    #[test]
    fn fragments_become_sentences() {
        assert_eq!(sentence("update it."), "Update it.");
        assert_eq!(sentence("ärgerlich"), "Ärgerlich.");
        assert_eq!(sentence(""), ".");
    }

    #[test]
    fn nothing_that_a_terminal_obeys_gets_through() {
        assert!(matches!(
            printable("grüße/😀 a.txt"),
            Cow::Borrowed("grüße/😀 a.txt")
        ));
        assert_eq!(printable("a\nb\x1b[2J\u{202e}"), "a\\nb\\u{1b}[2J\\u{202e}");
        assert_eq!(printable("\u{9b}31m"), "\\u{9b}31m");
        assert_eq!(
            printable_path(OsStr::from_bytes(b"caf\xe9/\x07x")),
            "caf\\xe9/\\u{7}x"
        );
    }
}
