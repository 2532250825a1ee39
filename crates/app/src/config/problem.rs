//! What is wrong with a configuration, and where.
//!
//! All that can be found in one reading is found, each with its line and column. Invariant: a problem names keys and
//! places; it never repeats a value that could be a secret.

use std::fmt;
use std::io;
use std::path::PathBuf;

/// A place in a text: line and column from 1, columns in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
}

impl Place {
    /// The place of the byte at `offset`; the end of the text when it has fewer.
    pub(super) fn at(text: &str, offset: usize) -> Self {
        let before = text.get(..offset).unwrap_or(text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Self {
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
        }
    }
}

/// One thing that is wrong with a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigProblem {
    /// Where.
    pub place: Place,
    /// What: a fragment without full stop.
    pub message: String,
}

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read as text.
    #[error("cannot read the configuration {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The file is too large.
    #[error("the configuration {} is larger than {bytes_max} bytes", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The most that is read, in bytes.
        bytes_max: u64,
    },
    /// The text is no valid configuration. Shown with one line for each problem: `file:line:column: what`.
    #[error("{}", Lines { file, problems })]
    Invalid {
        /// The file.
        file: PathBuf,
        /// What is wrong with it, in the order of the text; at least one.
        problems: Vec<ConfigProblem>,
    },
}

/// Problems, each on its line.
struct Lines<'a> {
    file: &'a PathBuf,
    problems: &'a [ConfigProblem],
}

impl fmt::Display for Lines<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, ConfigProblem { place, message }) in self.problems.iter().enumerate() {
            let newline = if index > 0 { "\n" } else { "" };
            let Place { line, column } = place;
            write!(
                out,
                "{newline}{}:{line}:{column}: {message}",
                self.file.display()
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_count_lines_and_characters_from_one() {
        let text = "a\nüx = 1\r\n\nend";
        for (offset, line, column) in [
            (0, 1, 1),
            (2, 2, 1),
            (4, 2, 2),
            (11, 3, 1),
            (12, 4, 1),
            (99, 4, 4),
        ] {
            assert_eq!(Place::at(text, offset), Place { line, column }, "{offset}");
        }
    }
}
