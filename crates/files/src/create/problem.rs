//! What a restore could not do, kept until its end.
//!
//! Invariant: whatever was wanted and is not there is in the log. A failure that strikes every entry alike (owners
//! without root, attributes that the file system does not have) is kept once with its number, so that a log stays
//! readable and its size bounded.

use crate::entry::{Kind, Shown};
use rustix::io::Errno;
use std::collections::HashMap;
use std::ffi::OsString;
use std::fmt;
use std::io;
use std::mem::{Discriminant, discriminant};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

/// One thing that a restore could not do as it was asked.
#[derive(Debug)]
pub struct Problem {
    /// The entry, from the target's top; the first one where `count` is greater than 1.
    pub path: PathBuf,
    /// What is not as it was asked.
    pub what: What,
    /// How many entries it concerns.
    pub count: u64,
    /// Why, where the operating system said so.
    pub source: Option<io::Error>,
}

/// What a [`Problem`] is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum What {
    /// User and group are not set.
    Owner,
    /// The permission bits are not set.
    Mode,
    /// The time of change is not set, or the file system cannot hold it.
    Time,
    /// This extended attribute is not set, or one that should not be there could not be removed.
    Attribute(Box<[u8]>),
    /// Inode flags are not set.
    Flags,
    /// The name meets another one that this file system takes for the same; the entry has this name now.
    Renamed(Box<[u8]>),
    /// Entries of this kind are not restored, or not with these options.
    Skipped(Kind),
    /// Something that is not in the backup could not be deleted.
    Extra,
    /// The folder was exchanged by somebody while the restore ran, or could not be opened again.
    Folder,
    /// The storage did not confirm that it has everything.
    Durable,
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Owner => f.write_str("cannot set the owner of"),
            Self::Mode => f.write_str("cannot set the permissions of"),
            Self::Time => f.write_str("cannot set the time of"),
            Self::Attribute(name) => write!(f, "cannot set the attribute {} of", Shown(name)),
            Self::Flags => f.write_str("cannot set the inode flags of"),
            Self::Renamed(name) => write!(f, "restored under the name {} instead:", Shown(name)),
            Self::Skipped(kind) => write!(f, "left out, being a {kind}:"),
            Self::Extra => f.write_str("cannot delete"),
            Self::Folder => f.write_str("cannot complete the folder"),
            Self::Durable => f.write_str("cannot make durable"),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?}", self.what, self.path)?;
        match self.count {
            1 => Ok(()),
            count => write!(f, " and {} more", count - 1),
        }
    }
}

impl std::error::Error for Problem {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|source| source as _)
    }
}

/// Problems that are kept one by one; of more, each kind is kept once and counted.
const PROBLEMS_MAX: usize = 1000;

/// The problems of a restore so far.
#[derive(Debug, Default)]
pub(crate) struct ProblemLog {
    problems: Vec<Problem>,
    /// Where in `problems` a failure is that may strike every entry.
    common: HashMap<(What, Option<i32>), usize>,
    /// The same for those beyond the limit, whatever entry or attribute they name.
    beyond: HashMap<(Discriminant<What>, Option<i32>), usize>,
}

impl ProblemLog {
    /// Keeps one problem; `path` is asked for only when it has to be kept.
    pub(crate) fn add(
        &mut self,
        what: What,
        source: Option<io::Error>,
        path: impl FnOnce() -> Vec<u8>,
    ) {
        let code = source.as_ref().and_then(io::Error::raw_os_error);
        let common = is_common(&what, code).then(|| (what.clone(), code));
        if let Some(key) = &common
            && let Some(index) = self.common.get(key)
        {
            self.problems[*index].count += 1;
            return;
        }
        if let Some(key) = common {
            self.common.insert(key, self.problems.len());
        } else if self.problems.len() >= PROBLEMS_MAX {
            let next = self.problems.len();
            let index = *self
                .beyond
                .entry((discriminant(&what), code))
                .or_insert(next);
            if index < next {
                self.problems[index].count += 1;
                return;
            }
        }
        self.problems.push(Problem {
            path: PathBuf::from(OsString::from_vec(path())),
            what,
            count: 1,
            source,
        });
    }

    pub(crate) fn into_problems(self) -> Vec<Problem> {
        self.problems
    }
}

/// Whether a failure says more about this process or the file system than about the entry.
fn is_common(what: &What, code: Option<i32>) -> bool {
    let errno = code.map(Errno::from_raw_os_error);
    let denied = matches!(errno, Some(Errno::PERM));
    let unknown = matches!(errno, Some(Errno::OPNOTSUPP | Errno::NOTTY | Errno::INVAL));
    match what {
        What::Owner | What::Attribute(_) | What::Flags => denied || unknown,
        // Without a number it was taken from the entry on purpose.
        What::Mode => denied || code.is_none(),
        What::Skipped(_) => true,
        What::Time | What::Renamed(_) | What::Extra | What::Folder | What::Durable => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_stays_bounded_whatever_it_is_about() {
        let mut log = ProblemLog::default();
        for number in 0..10_000 {
            let name = format!("f{number}").into_bytes();
            let what = What::Renamed(name.clone().into());
            log.add(what, None, || name.clone());
            log.add(What::Time, Some(Errno::IO.into()), || name);
        }
        let problems = log.into_problems();
        assert_eq!(problems.len(), PROBLEMS_MAX + 2);
        let counted: u64 = problems.iter().map(|problem| problem.count).sum();
        assert_eq!(counted, 20_000);
    }

    #[test]
    fn a_failure_of_every_entry_is_kept_once_and_counted() {
        let mut log = ProblemLog::default();
        for number in 0..1000 {
            log.add(What::Owner, Some(Errno::PERM.into()), || {
                format!("f{number}").into_bytes()
            });
        }
        log.add(What::Owner, Some(Errno::IO.into()), || b"x".to_vec());
        log.add(What::Owner, Some(Errno::IO.into()), || b"y".to_vec());
        let problems = log.into_problems();
        assert_eq!(problems.len(), 3);
        assert_eq!(
            problems[0].to_string(),
            "cannot set the owner of \"f0\" and 999 more"
        );
        assert_eq!(problems[1].to_string(), "cannot set the owner of \"x\"");
    }
}
