//! A custom archive of a whole database, from the schema's archive and the database's parts.
//!
//! It is written as a stream: no offset is known, as when `pg_dump` writes into a pipe. `pg_restore` finds its way, from a
//! file also with several jobs.

use std::io::{self, BufWriter, Read, Write};

use crate::{
    archive::{
        ArchiveError,
        block::{self, Portions},
    },
    assembly::{Assembly, AssemblyError, Data, Item, put_large_object, put_rows},
    parts::Parts,
    source::PartSource,
};

const BUFFER_LEN_BYTES: usize = 64 << 10;

/// Writes the archive that `pg_dump --format=custom --compress=0` would have made of the database.
///
/// `schema` is its archive of `--section=pre-data --section=post-data`, in UTF-8.
///
/// # Errors
/// When the two do not fit together, before the first byte; when content lacks or `out` takes no more, after some.
pub fn write_archive(
    schema: &mut dyn Read,
    parts: &Parts,
    source: &PartSource<'_>,
    out: &mut dyn Write,
) -> Result<(), AssemblyError> {
    let assembly = Assembly::new(schema, parts)?;
    let front = assembly
        .head
        .encode(assembly.items.iter().map(|item| &item.entry))?;
    let mut out = BufWriter::with_capacity(BUFFER_LEN_BYTES, out);
    out.write_all(&front).map_err(AssemblyError::Write)?;
    drop(front);
    for item in &assembly.items {
        put_data(item, source, &mut out)?;
    }
    out.flush().map_err(AssemblyError::Write)
}

fn put_data(
    item: &Item<'_>,
    source: &PartSource<'_>,
    out: &mut dyn Write,
) -> Result<(), AssemblyError> {
    let id = i32::try_from(item.entry.id)
        .map_err(|_| ArchiveError::Damaged("it has an impossible number"))?;
    let written = |done: io::Result<()>| done.map_err(AssemblyError::Write);
    match &item.data {
        Data::Nothing => {}
        Data::Rows(part, digest) => {
            written(block::start_data(out, id))?;
            let mut portions = Portions::new(out);
            put_rows(source, part, digest, &mut portions)?;
            written(portions.write_all(b"\\.\n\n\n"))?;
            written(portions.finish())?;
        }
        Data::LargeObjects(group) => {
            written(block::start_large_objects(out, id))?;
            for part in group {
                written(block::start_large_object(out, part.oid))?;
                let mut portions = Portions::new(out);
                put_large_object(source, part, &mut portions)?;
                written(portions.finish())?;
            }
            written(block::end_large_objects(out))?;
        }
    }
    Ok(())
}
