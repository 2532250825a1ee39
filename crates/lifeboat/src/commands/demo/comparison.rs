//! Holding what came back against what went in.
//!
//! Invariant: what cannot be compared counts as different.

use std::path::Path;

use lifeboat_app::sentence;
use lifeboat_files::{CompareOptions, compare};
use serde::Serialize;

use super::sample;
use crate::text::{count, counted};

/// What a comparison found: that all is equal, or what is not; either way in a few words.
pub(super) type Found = Result<String, String>;

/// One thing that came back, held against what went in.
#[derive(Debug, Serialize)]
pub(super) struct Comparison {
    /// The backup that it came from.
    pub(super) point: &'static str,
    /// What was compared.
    pub(super) what: &'static str,
    /// Whether it is what went in.
    pub(super) equal: bool,
    /// In a few words.
    pub(super) detail: String,
}

/// Two folders, with everything that a restore promises.
pub(super) fn same_files(twin: &Path, restored: &Path) -> Found {
    let differences =
        compare(twin, restored, &CompareOptions::default()).map_err(|error| sentence(&error))?;
    match differences.first() {
        None => Ok("equal: content, modes, owners, times, links".to_owned()),
        Some(first) => Err(format!(
            "{}, the first: {first}",
            counted(differences.len() as u64, "difference")
        )),
    }
}

/// Two SQLite databases, row by row.
pub(super) fn same_rows(twin: &Path, restored: &Path) -> Found {
    let (twin, restored) = (sample::rows_in(twin)?, sample::rows_in(restored)?);
    if twin == restored {
        return Ok(format!("{} equal", counted(twin.len() as u64, "row")));
    }
    Err(format!(
        "{} came back that are not the {} that went in",
        counted(restored.len() as u64, "row"),
        count(twin.len() as u64)
    ))
}

/// Restored rows against restored files: the two are of one moment, or they are of no use.
pub(super) fn all_there(database: &Path, media: &Path) -> Found {
    let named = sample::attachments_in(database)?;
    let mut lacking = named.iter().filter(|path| !media.join(path).is_file());
    match lacking.next() {
        None if named.is_empty() => Err("no row names a file".to_owned()),
        None => Ok(format!(
            "all {} that rows name are there",
            count(named.len() as u64)
        )),
        Some(first) => Err(format!(
            "{} that rows name are not there, the first: {first}",
            counted(lacking.count() as u64 + 1, "file")
        )),
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        time::{Duration, SystemTime},
    };

    use super::{super::sample::Sample, *};

    #[test]
    fn one_changed_byte_one_lost_file_or_one_changed_row_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let born = SystemTime::now() - Duration::from_secs(1_000_000);
        let make = |name: &str| Sample::make(&folder.path().join(name), born).unwrap();
        let (twin, other) = (make("twin"), make("other"));
        assert!(same_files(&twin.media(), &other.media()).is_ok());
        assert!(same_rows(&twin.database(), &other.database()).is_ok());
        assert!(all_there(&other.database(), &other.media()).is_ok());

        let video = other.media().join("videos/intro.mp4");
        let time = video.metadata().unwrap().modified().unwrap();
        let mut content = fs::read(&video).unwrap();
        content[1_000_000] ^= 1;
        fs::write(&video, content).unwrap();
        let file = fs::File::options().write(true).open(&video).unwrap();
        file.set_modified(time).unwrap();
        let found = same_files(&twin.media(), &other.media()).unwrap_err();
        assert!(
            found.starts_with("1 difference, the first: \"videos/intro.mp4\""),
            "{found}"
        );

        fs::remove_file(&video).unwrap();
        let found = all_there(&other.database(), &other.media()).unwrap_err();
        assert_eq!(
            found,
            "1 file that rows name are not there, the first: videos/intro.mp4"
        );

        let database = rusqlite::Connection::open(other.database()).unwrap();
        database
            .execute("UPDATE customer SET name = 'x' WHERE id = 7", [])
            .unwrap();
        assert!(same_rows(&twin.database(), &other.database()).is_err());
        assert!(same_rows(&twin.database(), &folder.path().join("none.db")).is_err());
    }
}
