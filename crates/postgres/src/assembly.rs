//! A schema's archive and a database's parts, put together to the contents of one dump.
//!
//! `pg_dump` sorts what it writes: what is made before the data, then rows by schema and name, sequences' values, large
//! objects, then what is made after them. The schema's archive has that order already, without the data; here they get
//! their entries, with numbers above all others, and each needs the entry of its object, by which `pg_restore` decides
//! what may run side by side.
//!
//! **Invariant**: nothing is left out in silence. A table, a sequence or a large object that the schema has and the
//! parts have not is an error before the first byte, and content that is not as long as its part says is one too.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    io::{self, Read},
};

mod gauge;

pub(crate) use gauge::{put_large_object, put_rows};

use crate::{
    archive::{ArchiveEntry, ArchiveError, ArchiveHead, ArchiveScanner, section},
    partitions::{Partitions, is_partitioned},
    parts::{Digest, LargeObjectPart, Parts, SequencePart, TablePart},
    wording,
};

/// The versions of the format that `pg_dump` 12 to 18 write.
const MINOR_MIN: u8 = 14;
const MINOR_MAX: u8 = 16;
/// Since this one, large objects stand together in groups, with their data beside.
pub(crate) const MINOR_GROUPS: u8 = 16;
/// Several large objects of one owner and equal grants.
pub(crate) const GROUP: &str = "BLOB METADATA";
const READ_LEN_BYTES: usize = 64 << 10;

/// Why a schema and its parts do not make a dump.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AssemblyError {
    /// The schema's archive cannot be read.
    #[error("the archive of the schema cannot be read")]
    Schema(#[source] io::Error),
    /// The schema's archive is not one.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// It is written in a way that is not known here.
    #[error("an archive in format 1.{0} cannot be put together with its rows here")]
    UnknownFormat(u8),
    /// Its texts are not in the encoding in which rows are kept.
    #[error("the archive of the schema is not in UTF-8")]
    Encoding,
    /// It has data of its own.
    #[error("the archive of the schema has data of its own: {0}")]
    HasData(String),
    /// It says something that is not understood.
    #[error("the archive of the schema is not understood: {0}")]
    NotUnderstood(String),
    /// It has something whose data the parts have not.
    #[error("the schema has the {0}, and the database's parts have not")]
    LacksPart(String),
    /// The parts have a large object that the schema does not make.
    #[error("the database's parts have the large object {0}, and the schema has not")]
    UnknownLargeObject(u32),
    /// A word that must be of letters and digits is not.
    #[error("the key for \\restrict must be of letters and digits")]
    RestrictKey,
    /// A part's content could not be had.
    #[error("{what} cannot be read")]
    Content {
        /// The part.
        what: String,
        /// Why.
        source: io::Error,
    },
    /// A part's content is not what the part says.
    #[error("{what}: {wrong}")]
    WrongContent {
        /// The part.
        what: String,
        /// What is wrong.
        wrong: &'static str,
    },
    /// The dump could not be written.
    #[error("the dump cannot be written")]
    Write(#[source] io::Error),
}

/// The data of an entry.
#[derive(Debug)]
pub(crate) enum Data<'a> {
    /// There are none.
    Nothing,
    /// A table's rows.
    Rows(&'a TablePart, &'a Digest),
    /// Large objects, by number.
    LargeObjects(Vec<&'a LargeObjectPart>),
}

/// An entry of the dump.
#[derive(Debug)]
pub(crate) struct Item<'a> {
    pub(crate) entry: ArchiveEntry,
    pub(crate) data: Data<'a>,
}

/// All of a dump but the bytes of its data.
#[derive(Debug)]
pub(crate) struct Assembly<'a> {
    pub(crate) head: ArchiveHead,
    pub(crate) items: Vec<Item<'a>>,
    /// The statement that sets the search path.
    pub(crate) search_path: String,
    /// Whether a backslash in a literal means itself.
    pub(crate) standard_strings: bool,
    /// Whether [`AMOUNTS`] stands before each table's rows.
    pub(crate) has_amounts: bool,
}

/// The statement by which amounts of money are read as our sessions have written them; what loads a dump would else read
/// them by the locale of its own.
const AMOUNTS: &str = "SET lc_monetary = 'C';\n";

impl<'a> Assembly<'a> {
    /// Reads the schema's archive and puts it together with the parts.
    pub(crate) fn new(schema: &mut dyn Read, parts: &'a Parts) -> Result<Self, AssemblyError> {
        let (head, entries) = read(schema)?;
        let setting = |kind: &str| {
            let entry = entries.iter().find(|entry| entry.kind == kind);
            entry
                .and_then(|entry| entry.definition.clone())
                .ok_or_else(|| AssemblyError::NotUnderstood(format!("it has no {kind}")))
        };
        if !setting("ENCODING")?.contains("'UTF8'") {
            return Err(AssemblyError::Encoding);
        }
        let search_path = setting("SEARCHPATH")?;
        let standard_strings = setting("STDSTRINGS")?.contains("'on'");
        if let Some(entry) = entries.iter().find(|entry| is_data(entry)) {
            let what = format!("{} {}", entry.kind, entry.name);
            return Err(AssemblyError::HasData(what));
        }
        // A column's type, a domain's or a field's; a name that only looks like it does no harm.
        let has_amounts = entries
            .iter()
            .filter_map(|entry| entry.definition.as_deref())
            .any(|definition| definition.contains("money"));
        let mut builder = Builder::new(&entries, standard_strings, has_amounts);
        builder.add_tables(&parts.tables)?;
        builder.add_sequences(&parts.sequences)?;
        let mut data = builder.take();
        builder.add_large_objects(&parts.large_objects, head.format_minor)?;
        let contents = builder.take();
        let after = ArchiveEntry::end_of_data(&entries);
        // Large objects that are made among the data stand between the rows and their contents.
        let groups = entries[..after]
            .iter()
            .position(|entry| entry.kind == GROUP);
        let place = groups.unwrap_or(after);
        let mut items: Vec<Item<'a>> = entries.into_iter().map(Item::without_data).collect();
        data.extend(items.splice(place..after, []));
        data.extend(contents);
        items.splice(place..place, data);
        Ok(Self {
            head,
            items,
            search_path,
            standard_strings,
            has_amounts,
        })
    }
}

impl Item<'_> {
    fn without_data(entry: ArchiveEntry) -> Self {
        Self {
            entry,
            data: Data::Nothing,
        }
    }
}

fn read(schema: &mut dyn Read) -> Result<(ArchiveHead, Vec<ArchiveEntry>), AssemblyError> {
    let mut scanner = ArchiveScanner::new();
    let mut buffer = vec![0; READ_LEN_BYTES];
    loop {
        let count = match schema.read(&mut buffer) {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(AssemblyError::Schema(error)),
        };
        if count == 0 {
            break;
        }
        scanner.feed(&buffer[..count])?;
    }
    let exact = scanner.is_exact();
    let (summary, entries) = scanner.complete()?;
    let minor = summary.head.format_minor;
    if !(MINOR_MIN..=MINOR_MAX).contains(&minor) {
        return Err(AssemblyError::UnknownFormat(minor));
    }
    if !exact {
        return Err(AssemblyError::Encoding);
    }
    Ok((summary.head, entries))
}

fn is_data(entry: &ArchiveEntry) -> bool {
    let data = ["TABLE DATA", "SEQUENCE SET", "BLOBS"];
    entry.has_data || data.contains(&entry.kind.as_str())
}

/// Makes the entries of the data.
struct Builder<'e, 'a> {
    entries: &'e [ArchiveEntry],
    /// Tables by schema and name.
    tables: HashMap<(&'e str, &'e str), &'e ArchiveEntry>,
    partitions: Partitions<'e>,
    standard_strings: bool,
    has_amounts: bool,
    next_id: i64,
    items: Vec<Item<'a>>,
}

impl<'e, 'a> Builder<'e, 'a> {
    fn new(entries: &'e [ArchiveEntry], standard_strings: bool, has_amounts: bool) -> Self {
        let tables: HashMap<_, _> = entries
            .iter()
            .filter(|entry| entry.kind == "TABLE")
            .filter_map(|entry| Some(((entry.schema()?, entry.name.as_str()), entry)))
            .collect();
        Self {
            next_id: ArchiveEntry::number_above(entries),
            entries,
            tables,
            partitions: Partitions::of(&entries.iter().collect::<Vec<_>>()),
            standard_strings,
            has_amounts,
            items: Vec::new(),
        }
    }

    /// What was added since it was asked last.
    fn take(&mut self) -> Vec<Item<'a>> {
        std::mem::take(&mut self.items)
    }

    /// Adds an entry of data with the next number.
    fn add(&mut self, mut entry: ArchiveEntry, data: Data<'a>) {
        entry.id = self.next_id;
        entry.section = section::DATA;
        entry.has_data = !matches!(data, Data::Nothing);
        entry.class_oid.get_or_insert_with(|| "0".to_owned());
        entry.oid.get_or_insert_with(|| "0".to_owned());
        entry.with_oids = Some("false".to_owned());
        self.next_id = self.next_id.saturating_add(1);
        self.items.push(Item { entry, data });
    }

    fn add_tables(&mut self, parts: &'a [TablePart]) -> Result<(), AssemblyError> {
        let mut parts: Vec<&TablePart> = parts.iter().collect();
        parts.sort_by_key(|part| (&part.schema, &part.name));
        let known: BTreeSet<(&str, &str)> = parts
            .iter()
            .map(|part| (part.schema.as_str(), part.name.as_str()))
            .collect();
        for entry in self.entries.iter().filter(|entry| entry.kind == "TABLE") {
            let schema = entry.schema().unwrap_or_default();
            if !is_partitioned(entry) && !known.contains(&(schema, &entry.name)) {
                return Err(lacks("table", entry));
            }
        }
        for part in parts {
            // The rows were left out: there is no entry then, as `pg_dump --exclude-table-data` makes none.
            let Some(digest) = &part.digest else { continue };
            let entry = self.rows_of(part);
            self.add(entry, Data::Rows(part, digest));
        }
        Ok(())
    }

    /// The entry of a table's rows. A table that an extension makes has no entry that it could need.
    fn rows_of(&self, part: &TablePart) -> ArchiveEntry {
        let table = self.tables.get(&(part.schema.as_str(), part.name.as_str()));
        let mut target = wording::qualified(Some(&part.schema), &part.name);
        let mut definition = None;
        if let Some(root) = table.and_then(|table| self.partitions.root_of_hashes(table)) {
            target = wording::qualified(root.schema(), &root.name);
            // `pg_restore` knows by this remark that it must not empty the partition first.
            definition = Some(format!(
                "-- load via partition root {}",
                wording::one_line(&target)
            ));
        }
        let columns: Vec<String> = part
            .columns
            .iter()
            .map(|column| wording::identifier(column))
            .collect();
        let columns = match columns.as_slice() {
            [] => String::new(),
            columns => format!("({})", columns.join(", ")),
        };
        ArchiveEntry {
            oid: table.and_then(|table| table.oid.clone()),
            name: part.name.clone(),
            kind: "TABLE DATA".to_owned(),
            definition,
            copy: Some(format!(
                "{}COPY {target} {columns} FROM stdin;\n",
                if self.has_amounts { AMOUNTS } else { "" }
            )),
            schema: Some(part.schema.clone()),
            owner: table.and_then(|table| table.owner.clone()),
            needs: table.iter().map(|table| table.id).collect(),
            ..ArchiveEntry::default()
        }
    }

    fn add_sequences(&mut self, parts: &'a [SequencePart]) -> Result<(), AssemblyError> {
        let mut parts: Vec<&SequencePart> = parts.iter().collect();
        parts.sort_by_key(|part| (&part.schema, &part.name));
        let mut entries: HashMap<(&str, &str), &ArchiveEntry> = self
            .entries
            .iter()
            .filter(|entry| entry.kind == "SEQUENCE")
            .filter_map(|entry| Some(((entry.schema()?, entry.name.as_str()), entry)))
            .collect();
        for part in parts {
            let sequence = entries.remove(&(part.schema.as_str(), part.name.as_str()));
            let name = wording::qualified(Some(&part.schema), &part.name);
            let entry = ArchiveEntry {
                name: part.name.clone(),
                kind: "SEQUENCE SET".to_owned(),
                definition: Some(format!(
                    "SELECT pg_catalog.setval({}, {}, {});\n",
                    wording::literal(&name, self.standard_strings),
                    part.last_value,
                    part.is_called
                )),
                schema: Some(part.schema.clone()),
                owner: sequence.and_then(|sequence| sequence.owner.clone()),
                needs: sequence.iter().map(|sequence| sequence.id).collect(),
                ..ArchiveEntry::default()
            };
            self.add(entry, Data::Nothing);
        }
        match entries.into_values().min_by_key(|entry| entry.id) {
            Some(entry) => Err(lacks("sequence", entry)),
            None => Ok(()),
        }
    }

    fn add_large_objects(
        &mut self,
        parts: &'a [LargeObjectPart],
        minor: u8,
    ) -> Result<(), AssemblyError> {
        let mut parts: BTreeMap<u32, &LargeObjectPart> =
            parts.iter().map(|part| (part.oid, part)).collect();
        let kind = if minor >= MINOR_GROUPS { GROUP } else { "BLOB" };
        let mut groups = Vec::new();
        for entry in self.entries.iter().filter(|entry| entry.kind == kind) {
            let group = members(entry)?
                .into_iter()
                .map(|oid| parts.remove(&oid).ok_or_else(|| lacks_object(oid)));
            groups.push((entry, group.collect::<Result<Vec<_>, _>>()?));
        }
        if let Some(oid) = parts.into_keys().next() {
            return Err(AssemblyError::UnknownLargeObject(oid));
        }
        if minor >= MINOR_GROUPS {
            for (entry, group) in groups {
                self.add_group(entry, group);
            }
            return Ok(());
        }
        let mut all: Vec<_> = groups.into_iter().flat_map(|(_, group)| group).collect();
        all.sort_by_key(|part| part.oid);
        if !all.is_empty() {
            let entry = ArchiveEntry {
                name: "BLOBS".to_owned(),
                kind: "BLOBS".to_owned(),
                ..ArchiveEntry::default()
            };
            self.add(entry, Data::LargeObjects(all));
        }
        Ok(())
    }

    /// Adds the contents of a group.
    fn add_group(&mut self, names: &ArchiveEntry, group: Vec<&'a LargeObjectPart>) {
        let entry = ArchiveEntry {
            name: names.name.clone(),
            kind: "BLOBS".to_owned(),
            owner: names.owner.clone(),
            needs: vec![names.id],
            ..ArchiveEntry::default()
        };
        self.add(entry, Data::LargeObjects(group));
    }
}

/// The large objects that an entry makes: one is its name, several stand line by line.
fn members(entry: &ArchiveEntry) -> Result<Vec<u32>, AssemblyError> {
    let list = if entry.kind == "BLOB" {
        &entry.name
    } else {
        entry.definition.as_deref().unwrap_or_default()
    };
    let oids = list.lines().map(str::parse);
    oids.collect::<Result<_, _>>().map_err(|_| {
        AssemblyError::NotUnderstood(format!("{} {} is no number", entry.kind, entry.name))
    })
}

fn lacks(kind: &str, entry: &ArchiveEntry) -> AssemblyError {
    let schema = entry.schema().unwrap_or_default();
    AssemblyError::LacksPart(format!("{kind} {schema}.{}", entry.name))
}

fn lacks_object(oid: u32) -> AssemblyError {
    AssemblyError::LacksPart(format!("large object {oid}"))
}

#[cfg(test)]
mod tests;
