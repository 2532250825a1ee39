//! The log of one run: a text file of lines, each with its moment.
//!
//! The process that writes it holds a lock on it for as long as it lives; so anybody can tell a run that goes on from
//! one whose process is gone, also across containers and after a restart, where process numbers tell nothing.
//! Invariant: a line holds no secret (it went through `redact`) and no control character, and a file never grows past
//! its limit.

use crate::redact::redact;
use jiff::Timestamp;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// The most that one log holds, in bytes, but for its last line.
const BYTES_MAX: u64 = 16 << 20;

/// A log being written.
#[derive(Debug)]
pub(super) struct Log {
    file: File,
    bytes_left: u64,
    is_full: bool,
}

/// Where the logs of the history in `folder` lie.
pub(super) fn folder_in(folder: &Path) -> PathBuf {
    folder.join("logs")
}

/// Where the log of a run lies, in the folder of logs.
pub(super) fn path_of(logs: &Path, id: i64) -> PathBuf {
    logs.join(format!("{id}.log"))
}

/// The numbers of the runs that have a log, in no order.
pub(super) fn ids_in(logs: &Path) -> io::Result<Vec<i64>> {
    let mut ids = Vec::new();
    for entry in fs::read_dir(logs)? {
        let name = entry?.file_name();
        let id = name
            .to_str()
            .and_then(|name| name.strip_suffix(".log"))
            .and_then(|id| id.parse::<i64>().ok());
        ids.extend(id.filter(|id| *id > 0));
    }
    Ok(ids)
}

/// Whether a living process writes this log. A log that is not there is not written.
pub(super) fn is_held(path: &Path) -> io::Result<bool> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    match file.try_lock_shared() {
        Ok(()) => Ok(false),
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Removes a log, unless a living process writes it or it is gone already.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    if is_held(path)? {
        return Ok(());
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

impl Log {
    /// Begins a log. What a run left that ended before it was known by this number is overwritten.
    pub(super) fn create(path: &Path) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        let file = options.append(true).create(true).mode(0o600).open(path)?;
        file.try_lock().map_err(io::Error::from)?;
        file.set_len(0)?;
        Ok(Self {
            file,
            bytes_left: BYTES_MAX,
            is_full: false,
        })
    }

    /// Appends a text, line by line; does nothing once the log is full.
    pub(super) fn append(&mut self, now: Timestamp, text: &str) -> io::Result<()> {
        if self.is_full {
            return Ok(());
        }
        let mut lines = stamped(now, text);
        let length = lines.len() as u64;
        match self.bytes_left.checked_sub(length) {
            Some(left) => self.bytes_left = left,
            None => {
                self.is_full = true;
                lines = stamped(now, "The log is full; what follows is not kept.");
            }
        }
        // In one call, so that a line is never torn by another's.
        self.file.write_all(lines.as_bytes())
    }

    /// Appends the last line, for which there is always room.
    pub(super) fn finish(&mut self, now: Timestamp, text: &str) -> io::Result<()> {
        self.file.write_all(stamped(now, text).as_bytes())
    }
}

/// The lines of `text`, redacted and each with its moment.
fn stamped(now: Timestamp, text: &str) -> String {
    let mut lines = String::new();
    for line in redact(text).lines() {
        lines.push_str(&format!("{now:.3} "));
        for letter in line.chars() {
            // What a terminal would obey, such as a file name that recolours it, is written out.
            if letter.is_control() && letter != '\t' {
                lines.extend(letter.escape_default());
            } else {
                lines.push(letter);
            }
        }
        lines.push('\n');
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moment() -> Timestamp {
        "2026-11-19T02:30:00.0421Z".parse().unwrap()
    }

    #[test]
    fn lines_have_their_moment_and_neither_secrets_nor_control_characters() {
        assert_eq!(
            stamped(
                moment(),
                "to postgres://u:pw@h\na\tb\u{1b}[31m\u{85}\r\nend"
            ),
            "2026-11-19T02:30:00.042Z to postgres://u:***@h\n\
             2026-11-19T02:30:00.042Z a\tb\\u{1b}[31m\\u{85}\n\
             2026-11-19T02:30:00.042Z end\n"
        );
    }

    #[test]
    fn a_log_is_held_as_long_as_it_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = path_of(folder.path(), 7);
        assert!(!is_held(&path).unwrap());
        let log = Log::create(&path).unwrap();
        assert!(is_held(&path).unwrap());
        remove(&path).unwrap();
        assert_eq!(ids_in(folder.path()).unwrap(), [7]);
        assert!(Log::create(&path).is_err());
        drop(log);
        assert!(!is_held(&path).unwrap());
        remove(&path).unwrap();
        remove(&path).unwrap();
        assert!(ids_in(folder.path()).unwrap().is_empty());
    }

    #[test]
    fn a_full_log_says_so_once_and_has_room_for_its_last_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = path_of(folder.path(), 1);
        let mut log = Log::create(&path).unwrap();
        log.bytes_left = 40;
        for line in ["first", "second", "third"] {
            log.append(moment(), line).unwrap();
        }
        log.finish(moment(), "end").unwrap();
        let text = fs::read_to_string(&path).unwrap();
        let lines: Vec<_> = text.lines().map(|line| &line[25..]).collect();
        assert_eq!(
            lines,
            ["first", "The log is full; what follows is not kept.", "end"]
        );
    }

    #[test]
    fn only_files_that_are_logs_are_taken_for_logs() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["1.log", "22.log", "x.log", "-3.log", "4.txt", ".log"] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        let mut ids = ids_in(folder.path()).unwrap();
        ids.sort_unstable();
        assert_eq!(ids, [1, 22]);
    }
}
