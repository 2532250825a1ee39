//! Reads the repository's index: every index object that the store lists now.
//!
//! What an earlier run remembered of objects that are gone is not used.

use std::sync::{Arc, OnceLock};

use lifeboat_codec::{FormatError, Index};

use crate::lookup::Lookup;
use crate::repository::{ReadError, Repository};

/// Reads all index objects of `repository`.
pub(crate) fn load(repository: &Repository) -> Result<Lookup, ReadError> {
    let names = repository.list("index/")?;
    let listed: Vec<&str> = names.iter().map(|(name, _)| name.as_str()).collect();
    repository.cache.retain_objects("index/", &listed);
    let mut lookup = Lookup::default();
    for name in listed {
        let index = match read_index(repository, name) {
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
        index
            .packs
            .into_iter()
            .try_for_each(|entry| lookup.add(entry, &index.envelopes))
            .map_err(|source| ReadError::format(name, source))?;
        lookup.basis.add(name);
    }
    Ok(lookup.settle())
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

pub(crate) fn read_index(repository: &Repository, name: &str) -> Result<Index, ReadError> {
    let opened = repository.sealed(name, "an index object")?;
    Index::decode(&opened.record, opened.author, &repository.authors)
        .map_err(|source| ReadError::format(name, source))
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
