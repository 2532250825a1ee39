//! What `pg_dump` 17 and newer tell of large objects: names, owners, grants, comments and labels.
//!
//! They stand among the data, up to a thousand objects of one owner and equal grants in an entry, and no section without
//! the contents has them. So a second run is asked for nothing but large objects; it writes its table of contents before
//! the first content, and there it is ended.

use std::{
    collections::{HashMap, HashSet},
    sync::atomic::AtomicBool,
};

use super::{begin, read_on};
use crate::{
    archive::ArchiveEntry, assembly::GROUP, dump::DumpError, moment::Moment, programs::Programs,
};

/// From this version on `pg_dump` counts large objects' names among the data.
const AMONG_DATA: u32 = 17;

/// Whether an archive of the schema alone lacks large objects.
pub(super) fn are_among_data(moment: &Moment, programs: &Programs) -> bool {
    programs.version().major >= AMONG_DATA && moment.facts().large_objects > 0
}

/// Reads the entries that make the large objects of the moment, and what belongs to them.
pub(super) fn read(
    moment: &Moment,
    programs: &Programs,
    stop: &AtomicBool,
) -> Result<Vec<ArchiveEntry>, DumpError> {
    // Without schemas there are no tables, so it asks for no lock.
    let arguments = ["--section=data", "--large-objects", "--exclude-schema=*"];
    let (mut output, _) = begin(moment, programs, &arguments, stop)?;
    while !output.knows_contents() {
        if !read_on(&mut output, stop)? {
            return Err(output.finish().err().unwrap_or(DumpError::GivenUp));
        }
    }
    if !output.is_exact() {
        return Err(DumpError::Encoding);
    }
    // The format is that of the first run, which is known.
    let objects = choose(output.contents().unwrap_or_default());
    let told = objects.iter().filter(|entry| entry.kind == GROUP);
    let told: usize = told
        .map(|entry| {
            entry
                .definition
                .as_deref()
                .unwrap_or_default()
                .lines()
                .count()
        })
        .sum();
    let there = moment.facts().large_objects;
    if told as u64 != there {
        return Err(DumpError::LargeObjects { told, there });
    }
    Ok(objects)
}

/// Those that make large objects, and comments, labels and grants that need them; the contents need them too.
fn choose(contents: &[ArchiveEntry]) -> Vec<ArchiveEntry> {
    let groups = contents.iter().filter(|entry| entry.kind == GROUP);
    let groups: HashSet<i64> = groups.map(|entry| entry.id).collect();
    let belongs = |entry: &&ArchiveEntry| {
        let about = entry.needs.iter().any(|need| groups.contains(need));
        groups.contains(&entry.id) || about && !entry.has_data
    };
    contents.iter().filter(belongs).cloned().collect()
}

/// Puts the large objects where a whole archive has them, with numbers above all others.
pub(super) fn join(
    mut contents: Vec<ArchiveEntry>,
    mut objects: Vec<ArchiveEntry>,
) -> Vec<ArchiveEntry> {
    let above = ArchiveEntry::number_above(&contents);
    let numbers: HashMap<i64, i64> = objects.iter().map(|entry| entry.id).zip(above..).collect();
    for entry in &mut objects {
        entry.id = numbers[&entry.id];
        entry.needs = entry
            .needs
            .iter()
            .filter_map(|need| numbers.get(need).copied())
            .collect();
    }
    let place = ArchiveEntry::end_of_data(&contents);
    contents.splice(place..place, objects);
    contents
}

#[cfg(test)]
mod tests;
