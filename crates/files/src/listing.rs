//! The names in one folder, sorted by their bytes.
//!
//! A folder of usual size is listed in memory, in buffers that are used again for the next one: after the first
//! folders a walk allocates nothing. The names of a huge one are sorted run by run in a file that has no name, and read
//! from there a block at a time, so that ten million names cost no more memory than half a million. Invariant: each name
//! stands there once.

use crate::entry::Kind;
use crate::error::Error;
use rustix::fd::BorrowedFd;
use rustix::fs::{RawDir, SeekFrom, seek};
use rustix::io::Errno;
use std::borrow::Cow;
use std::mem::MaybeUninit;
use std::path::PathBuf;

mod sorted;

use self::sorted::{Runs, Sorted};

/// One `getdents` call asks for this much; a folder of a few hundred entries needs one.
const LIST_BUFFER_BYTES: usize = 32 * 1024;
/// Names that are sorted in memory; a folder that has more is sorted in a file.
const NAMES_MAX: usize = 400_000;

/// The names in one folder.
pub struct Listing {
    names: Vec<u8>,
    items: Vec<Item>,
    buffer: Vec<MaybeUninit<u8>>,
    /// All names, when they are too many for memory; `items` is empty then.
    sorted: Option<Sorted>,
    names_max: usize,
    /// Where the files are made in which names are sorted.
    scratch: PathBuf,
}

/// Where a name lies in `Listing::names`.
#[derive(Clone, Copy)]
struct Item {
    start: usize,
    len: u32,
    hint: Option<Kind>,
}

/// One name of a [`Listing`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed<'a> {
    /// The name, never empty, without slash.
    pub name: Cow<'a, [u8]>,
    /// What the entry was when it was listed, where the file system says so; the metadata decides.
    pub hint: Option<Kind>,
}

impl Default for Listing {
    fn default() -> Self {
        Self::sorting(NAMES_MAX, std::env::temp_dir())
    }
}

impl Listing {
    /// An empty listing.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty listing that keeps at most so many names in memory, others in files in `scratch`.
    fn sorting(names_max: usize, scratch: PathBuf) -> Self {
        Self {
            names: Vec::new(),
            items: Vec::new(),
            buffer: Vec::new(),
            sorted: None,
            names_max,
            scratch,
        }
    }

    /// How many entries the folder has.
    pub fn len(&self) -> usize {
        self.sorted.as_ref().map_or(self.items.len(), Sorted::len)
    }

    /// Whether the folder has no entries.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The entries in the order of their name bytes. An error is about the file that holds a huge listing.
    pub fn iter(&self) -> impl Iterator<Item = Result<Listed<'_>, Error>> {
        (0..self.len()).map_while(|place| self.get(place).transpose())
    }

    /// The entry at `place` of the sorted order; `None` behind the last.
    ///
    /// # Errors
    /// When the file that holds a huge listing cannot be read.
    pub fn get(&self, place: usize) -> Result<Option<Listed<'_>>, Error> {
        match &self.sorted {
            Some(sorted) => sorted.get(place),
            None => Ok(self.items.get(place).map(|item| self.listed(item))),
        }
    }

    /// Whether an entry is called `name`.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn holds(&self, name: &[u8]) -> Result<bool, Error> {
        match &self.sorted {
            Some(sorted) => sorted.holds(name),
            None => Ok(self
                .items
                .binary_search_by(|item| name_of(&self.names, item).cmp(name))
                .is_ok()),
        }
    }

    /// Whether an entry is called `name`, or that cannot be told: whoever asks looks at the entry next.
    pub fn may_hold(&self, name: &[u8]) -> bool {
        self.holds(name).unwrap_or(true)
    }

    fn listed(&self, item: &Item) -> Listed<'_> {
        Listed {
            name: Cow::Borrowed(name_of(&self.names, item)),
            hint: item.hint,
        }
    }

    /// Reads the names in an open folder that was not read yet.
    ///
    /// When it cannot be read to its end, the names up to there are kept. Where no file can be made for the names of a
    /// huge folder, they are sorted in memory all the same.
    pub(crate) fn read(&mut self, folder: BorrowedFd<'_>) -> Result<(), Error> {
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.resize(LIST_BUFFER_BYTES, MaybeUninit::uninit());
        let read = self
            .read_with(folder, &mut buffer, self.names_max)
            .or_else(|_| {
                seek(folder, SeekFrom::Start(0))
                    .map_err(|errno| Error::from_errno("list", b".", errno))?;
                self.read_with(folder, &mut buffer, usize::MAX)
            });
        self.buffer = buffer;
        read?.map_or(Ok(()), Err)
    }

    /// Returns why the folder could not be read to its end; an error is about the file.
    fn read_with(
        &mut self,
        folder: BorrowedFd<'_>,
        buffer: &mut [MaybeUninit<u8>],
        names_max: usize,
    ) -> Result<Option<Error>, Error> {
        self.names.clear();
        self.items.clear();
        self.sorted = None;
        let mut entries = RawDir::new(folder, buffer);
        let mut ended = None;
        let mut runs: Option<Runs> = None;
        while let Some(entry) = entries.next() {
            let entry = match entry {
                Ok(entry) => entry,
                Err(Errno::INTR) => continue,
                Err(errno) => {
                    ended = Some(Error::from_errno("list", b".", errno));
                    break;
                }
            };
            let name = entry.file_name().to_bytes();
            if matches!(name, b"." | b"..") {
                continue;
            }
            if self.items.len() == names_max {
                self.move_to(&mut runs)?;
            }
            let len = u32::try_from(name.len()).expect("a name fits into the list buffer");
            self.items.push(Item {
                start: self.names.len(),
                len,
                hint: Kind::from_file_type(entry.file_type()),
            });
            self.names.extend_from_slice(name);
        }
        if runs.is_some() {
            self.move_to(&mut runs)?;
        }
        match runs {
            Some(runs) => self.sorted = Some(runs.merge(&self.scratch)?),
            None => self.sort(),
        }
        Ok(ended)
    }

    /// Sorts the names. One that the file system told twice, since the folder changed meanwhile, stands there once.
    fn sort(&mut self) {
        let names = &self.names;
        self.items
            .sort_unstable_by(|a, b| name_of(names, a).cmp(name_of(names, b)));
        self.items
            .dedup_by(|a, b| name_of(names, a) == name_of(names, b));
    }

    /// Moves the names that are in memory to the file, as a run of their own.
    fn move_to(&mut self, runs: &mut Option<Runs>) -> Result<(), Error> {
        self.sort();
        let runs = match runs {
            Some(runs) => runs,
            None => runs.insert(Runs::new(&self.scratch)?),
        };
        runs.add(self.items.iter().map(|item| self.listed(item)))?;
        self.names.clear();
        self.items.clear();
        Ok(())
    }
}

fn name_of<'a>(names: &'a [u8], item: &Item) -> &'a [u8] {
    &names[item.start..item.start + item.len as usize]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::walk::Folder;

    fn listed(folder: &std::path::Path, names_max: usize) -> Listing {
        let mut listing = Listing::sorting(names_max, std::env::temp_dir());
        Folder::open(folder).unwrap().list(&mut listing).unwrap();
        listing
    }

    #[test]
    fn a_huge_folder_is_listed_as_a_small_one_is() {
        let folder = tempfile::tempdir().unwrap();
        for number in 0..5_000_u32 {
            // Names of several lengths, in no order.
            let name = format!(
                "{:x}",
                u64::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15)
            );
            if number % 7 == 0 {
                std::fs::create_dir(folder.path().join(name)).unwrap();
            } else {
                std::fs::write(folder.path().join(name), b"").unwrap();
            }
        }
        let expected = listed(folder.path(), usize::MAX);
        let expected: Vec<Listed<'_>> = expected.iter().map(Result::unwrap).collect();
        for names_max in [1, 100, 4_999, 5_000] {
            let listing = listed(folder.path(), names_max);
            assert_eq!(listing.sorted.is_some(), names_max < 5_000);
            assert_eq!(listing.len(), 5_000);
            let found: Vec<Listed<'_>> = listing.iter().map(Result::unwrap).collect();
            assert_eq!(found, expected, "{names_max} names in memory");
            for place in [4_999, 0, 2_500, 1_023, 1_024, 1_025] {
                assert_eq!(listing.get(place).unwrap().as_ref(), Some(&expected[place]));
            }
            assert_eq!(listing.get(5_000).unwrap(), None);
            for entry in &expected {
                assert!(listing.holds(&entry.name).unwrap());
                assert!(
                    !listing
                        .holds(&[&entry.name, b"-".as_slice()].concat())
                        .unwrap()
                );
            }
            assert!(!listing.holds(b"").unwrap() && !listing.holds(b"z").unwrap());
        }
    }

    #[test]
    fn where_no_file_can_be_made_a_huge_folder_is_listed_in_memory() {
        let folder = tempfile::tempdir().unwrap();
        for number in 0..10 {
            std::fs::write(folder.path().join(format!("{number}")), b"").unwrap();
        }
        let mut listing = Listing::sorting(3, folder.path().join("missing"));
        let mut open = Folder::open(folder.path()).unwrap();
        open.list(&mut listing).unwrap();
        assert!(listing.sorted.is_none());
        let names: Vec<_> = listing.iter().map(|entry| entry.unwrap().name).collect();
        assert_eq!(names.concat(), b"0123456789");
    }

    #[test]
    fn a_name_that_is_told_twice_stands_there_once() {
        let listed = |name: &'static [u8]| Listed {
            name: Cow::Borrowed(name),
            hint: None,
        };
        let mut runs = Runs::new(&std::env::temp_dir()).unwrap();
        for run in [[b"a", b"b"], [b"b", b"c"]] {
            runs.add(run.into_iter().map(|name| listed(name))).unwrap();
        }
        let sorted = runs.merge(&std::env::temp_dir()).unwrap();
        assert_eq!(sorted.len(), 3);
        for (place, name) in [b"a", b"b", b"c"].into_iter().enumerate() {
            assert_eq!(*sorted.get(place).unwrap().unwrap().name, name[..]);
        }
        let mut listing = Listing::new();
        for name in [b"y", b"x", b"y"] {
            let start = listing.names.len();
            listing.names.extend_from_slice(name);
            listing.items.push(Item {
                start,
                len: 1,
                hint: None,
            });
        }
        listing.sort();
        assert_eq!(listing.len(), 2);
    }

    #[test]
    fn a_listing_is_used_again_for_a_small_folder_after_a_huge_one() {
        let (huge, small) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for name in ["a", "b", "c"] {
            std::fs::write(huge.path().join(name), b"").unwrap();
        }
        std::fs::write(small.path().join("x"), b"").unwrap();
        let mut listing = listed(huge.path(), 2);
        assert_eq!(listing.len(), 3);
        Folder::open(small.path())
            .unwrap()
            .list(&mut listing)
            .unwrap();
        let names: Vec<_> = listing.iter().map(|entry| entry.unwrap().name).collect();
        assert_eq!(names, [b"x".as_slice()]);
    }
}
