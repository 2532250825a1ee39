//! Reads the repository's index: every index object that the store lists now.
//!
//! What an earlier run remembered of objects that are gone is not used.

use std::collections::HashSet;
use std::sync::{Arc, OnceLock};

use lifeboat_codec::{
    Authors, FamilyId, FormatError, Frame, Index, Keyring, Opened, WriterId, open_object,
};
use lifeboat_store::Store;

use crate::cache::Cache;
use crate::lookup::Lookup;
use crate::repository::{OBJECT_MAX, ReadError, Repository, object_name, read_frame};
use crate::table::{Object, Shelf, Table};

const WHAT: &str = "an index object";

/// Reads all index objects of `repository`, or the table that was made of them and those behind it.
pub(crate) fn load(repository: &Repository) -> Result<Lookup, ReadError> {
    let names = repository.list("index/")?;
    let listed: Vec<&str> = names.iter().map(|(name, _)| name.as_str()).collect();
    repository.cache.retain_objects("index/", &listed);
    let mut shelf = shelf(repository);
    let is_true = |object: &Object| {
        listed.binary_search(&object.name.as_str()).is_ok()
            && repository.authors.knows(object.author)
            && domain_of(repository, object.author) == object.domain
    };
    let table = shelf.as_ref().and_then(|shelf| Table::open(shelf, is_true));
    let objects = table.iter().flat_map(Table::objects);
    let in_table: HashSet<String> = objects.map(|object| object.name.clone()).collect();
    let mut lookup = table.map_or_else(Lookup::default, Lookup::over);
    for name in listed {
        if in_table.contains(name) {
            continue;
        }
        let (author, index) = match read(repository, name) {
            Ok(index) => index,
            // Another machine may have replaced it since the list was made: what it said stands in its successor.
            Err(error) if error.is_missing() => continue,
            // A write-only key opens no index but what it wrote itself and remembers.
            Err(ReadError::Format {
                source: FormatError::NoKey(_),
                ..
            }) => continue,
            Err(error) => return Err(error),
        };
        lookup.begin_object(Object {
            name: name.to_owned(),
            author,
            domain: domain_of(repository, author),
        });
        (0..)
            .zip(index.packs)
            .try_for_each(|(at, entry)| lookup.add(entry, at, &index.envelopes))
            .map_err(|source| ReadError::format(name, source))?;
        if lookup.is_full() {
            lookup = tabled(lookup, &mut shelf);
        }
    }
    if lookup.wants_table() {
        lookup = tabled(lookup, &mut shelf);
    }
    Ok(lookup.settle())
}

/// With all of it in a table. Where that cannot be made, nothing tries it again in this run.
fn tabled(lookup: Lookup, shelf: &mut Option<Shelf>) -> Lookup {
    let Some(here) = shelf else {
        return lookup;
    };
    let (lookup, made) = lookup.tabled(here);
    if !made {
        *shelf = None;
    }
    lookup
}

/// Whose chunks a writer may speak of.
fn domain_of(repository: &Repository, author: WriterId) -> Option<u32> {
    let writer = repository.authors.writer(author);
    writer.map(|writer| writer.domain)
}

/// Where the table of this repository lies, if anywhere.
fn shelf(repository: &Repository) -> Option<Shelf> {
    let again = Again {
        store: Arc::clone(&repository.store),
        cache: Arc::clone(&repository.cache),
        authors: repository.authors.clone(),
        // A write-only key opens no index object: what it knows of them is in the cache.
        keyring: repository.keyring.reduced(repository.role(), None).ok(),
        family: repository.family(),
    };
    Some(Shelf {
        folder: repository.cache.folder.clone()?,
        sum_key: blake3::derive_key("lifeboat 1 table sum", &repository.cache.sum_key),
        read_again: Arc::new(move |name| again.index(name)),
    })
}

/// What reads an index object for as long as a table is in use.
struct Again {
    store: Arc<dyn Store>,
    cache: Arc<Cache>,
    authors: Authors,
    keyring: Option<Keyring>,
    family: FamilyId,
}

impl Again {
    fn index(&self, name: &str) -> Option<Index> {
        let opened = self.cache.object(name).or_else(|| self.open(name))?;
        Index::decode(&opened.record, opened.author, &self.authors).ok()
    }

    fn open(&self, name: &str) -> Option<Opened> {
        let bytes = self.store.get(&object_name(name), OBJECT_MAX).ok()?;
        read_frame(name, &bytes, Some(self.family)).ok()?;
        let frame = Frame::decode(&bytes).ok()?;
        let keyring = self.keyring.as_ref()?;
        let run_key =
            |envelope: &lifeboat_codec::Envelope| envelope.open(keyring, self.family).map(Box::new);
        open_object(&frame, "", &self.authors, run_key, WHAT).ok()
    }
}

/// As [`load`], and believes whoever was enrolled since the repository was opened.
///
/// A writer is enrolled before its index is put, so that whoever wrote what the list names can be known by now.
pub(crate) fn load_anew(repository: &mut Repository) -> Result<Lookup, ReadError> {
    match load(repository) {
        Err(ReadError::Format {
            source: FormatError::Signature(_),
            ..
        }) => {
            repository.read_writers()?;
            load(repository)
        }
        result => result,
    }
}

/// Reads one index object, and who signed it.
pub(crate) fn read(repository: &Repository, name: &str) -> Result<(WriterId, Index), ReadError> {
    let opened = repository.sealed(name, WHAT)?;
    let index = Index::decode(&opened.record, opened.author, &repository.authors)
        .map_err(|source| ReadError::format(name, source))?;
    Ok((opened.author, index))
}

impl Repository {
    /// Where chunks are; read when it is first asked for.
    pub(crate) fn lookup(&self) -> Result<Arc<Lookup>, ReadError> {
        if let Some(lookup) = self.lookup.get() {
            return Ok(Arc::clone(lookup));
        }
        let lookup = Arc::new(load(self)?);
        Ok(Arc::clone(self.lookup.get_or_init(|| lookup)))
    }

    /// Reads the index again: another run may have added to it.
    pub fn refresh(&mut self) {
        self.lookup = OnceLock::new();
    }
}
