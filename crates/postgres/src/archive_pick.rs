//! Columns of a few tables of an archive, picked out while its bytes pass, and no further than they are needed.
//!
//! Which tables of the wanted names there are says the table of contents, which stands before all rows. So what comes
//! before the rows is kept until that is known, and read again with an eye on those tables.

use std::io::{self, Write};

use crate::{
    archive::{ArchiveError, ArchiveScanner},
    copy_text::{CopyField, CopyFields},
    definition::copied_columns,
};

/// A table that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PickedTable {
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// The place of its name among those that were wanted.
    pub kind: usize,
}

type Each<'a> = dyn FnMut(usize, usize, &[CopyField]) + 'a;

/// Picks: the archive is written to it, until that fails or is all; then [`finish`](Self::finish) tells.
pub struct ArchivePick<'a> {
    /// Names of tables, and the columns that each must have.
    wanted: Vec<(&'a str, &'a [&'a str])>,
    each: Box<Each<'a>>,
    scanner: ArchiveScanner,
    /// What has passed, as long as the tables are not known.
    start: Option<Vec<u8>>,
    tables: Vec<PickedTable>,
    fields: Vec<CopyFields>,
    damage: Option<ArchiveError>,
}

impl<'a> ArchivePick<'a> {
    /// For tables of these names, in whatever schema, that have these columns. `each` gets a row's columns with the place
    /// of its table among those that are found, and that of its name among those wanted.
    pub fn new(
        wanted: Vec<(&'a str, &'a [&'a str])>,
        each: impl FnMut(usize, usize, &[CopyField]) + 'a,
    ) -> Self {
        Self {
            wanted,
            each: Box::new(each),
            scanner: ArchiveScanner::new(),
            start: Some(Vec::new()),
            tables: Vec::new(),
            fields: Vec::new(),
            damage: None,
        }
    }

    /// The tables that were found, all of whose rows have passed.
    ///
    /// # Errors
    /// When what was written is no archive, or ended before those rows did.
    pub fn finish(self) -> Result<Vec<PickedTable>, ArchiveError> {
        if let Some(damage) = self.damage {
            return Err(damage);
        }
        if self.start.is_some() || !self.scanner.has_shown_all() {
            // It says where.
            self.scanner.finish()?;
        }
        Ok(self.tables)
    }

    /// Takes the next bytes; whether more are needed.
    fn feed(&mut self, bytes: &[u8]) -> Result<bool, ArchiveError> {
        let Some(start) = &mut self.start else {
            self.show(bytes)?;
            return Ok(!self.scanner.has_shown_all());
        };
        start.extend_from_slice(bytes);
        self.scanner.feed(bytes)?;
        if !self.scanner.knows_contents() {
            return Ok(true);
        }
        let start = self.start.take().expect("it was there a moment ago");
        self.choose();
        let watched = self.tables.iter();
        let watched = watched.map(|table| (table.schema.clone(), table.name.clone()));
        let mut scanner = ArchiveScanner::new();
        scanner.watch(watched.collect());
        self.scanner = scanner;
        self.show(&start)?;
        Ok(!self.scanner.has_shown_all())
    }

    /// Finds the tables in the table of contents.
    fn choose(&mut self) {
        for entry in self.scanner.contents().unwrap_or_default() {
            let found = self.wanted.iter().position(|(name, _)| *name == entry.name);
            let (Some(kind), "TABLE DATA", Some(schema)) = (found, &*entry.kind, entry.schema())
            else {
                continue;
            };
            let copy = entry.copy.as_deref().unwrap_or_default();
            let columns = copied_columns(copy, schema, &entry.name).unwrap_or_default();
            let at = |column: &&str| columns.iter().position(|known| known == column);
            let places: Option<Vec<usize>> = self.wanted[kind].1.iter().map(at).collect();
            // One without the columns is another table of that name.
            if let Some(places) = places {
                self.fields.push(CopyFields::new(&places));
                self.tables.push(PickedTable {
                    schema: schema.to_owned(),
                    name: entry.name.clone(),
                    kind,
                });
            }
        }
    }

    fn show(&mut self, bytes: &[u8]) -> Result<(), ArchiveError> {
        let Self {
            scanner,
            fields,
            tables,
            each,
            ..
        } = self;
        scanner.feed_watched(bytes, &mut |table, rows| {
            fields[table].feed(rows, &mut |row| each(table, tables[table].kind, row));
        })
    }
}

impl Write for ArchivePick<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.feed(bytes) {
            Ok(true) => Ok(bytes.len()),
            Ok(false) => Err(io::Error::other("nothing more is needed")),
            Err(damage) => {
                self.damage = Some(damage.clone());
                Err(io::Error::other(damage))
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;
    use crate::{
        dump::{Dump, DumpOptions},
        moment::{Moment, MomentOptions},
        testing,
    };

    type Found = (Vec<PickedTable>, Vec<(usize, Vec<Option<String>>)>);

    /// What is picked out of an archive that comes in portions of this size, and how much was not needed.
    fn picked(archive: &[u8], portion: usize) -> (Result<Found, ArchiveError>, usize) {
        let mut rows = Vec::new();
        let mut left = archive.len();
        let tables = {
            let wanted: Vec<(&str, &[&str])> =
                vec![("none", &["x"]), ("move", &["b", "odd, \"name"])];
            let mut pick = ArchivePick::new(wanted, |table, kind, row| {
                assert_eq!(kind, 1);
                let text = |field: &CopyField| String::from_utf8(field.text.clone()).unwrap();
                let row = row.iter().map(|field| (!field.null).then(|| text(field)));
                rows.push((table, row.collect()));
            });
            for bytes in archive.chunks(portion) {
                left -= bytes.len();
                if pick.write_all(bytes).is_err() {
                    break;
                }
            }
            pick.finish()
        };
        (tables.map(|tables| (tables, rows)), left)
    }

    #[test]
    fn rows_of_wanted_tables_are_picked_and_nothing_after_them_is_read() {
        let cluster = testing::cluster();
        let settings = testing::database(
            &cluster,
            "CREATE TABLE move (a int, \"odd, \"\"name\" text, b text);
             INSERT INTO move VALUES (1, E'x\\ty', 'one'), (2, NULL, '.');
             CREATE SCHEMA other; CREATE TABLE other.move (b int, \"odd, \"\"name\" int);
             CREATE SCHEMA third; CREATE TABLE third.move (b int); INSERT INTO third.move VALUES (7);
             CREATE TABLE zz_late (x text); INSERT INTO zz_late SELECT repeat('x', 10000) FROM generate_series(1, 10)",
        );
        let moment =
            Moment::hold(&settings, &MomentOptions::default(), testing::runtime()).unwrap();
        let mut archive = Vec::new();
        let options = DumpOptions::default();
        let mut dump = Dump::start(&moment, &testing::programs(&cluster), &options).unwrap();
        dump.read_to_end(&mut archive).unwrap();
        dump.finish().unwrap();
        let table = |schema: &str| PickedTable {
            schema: schema.to_owned(),
            name: "move".to_owned(),
            kind: 1,
        };
        let some = |text: &str| Some(text.to_owned());
        for portion in [1, 7, 100, archive.len()] {
            let (found, left) = picked(&archive, portion);
            let (tables, rows) = found.unwrap();
            assert_eq!(tables.len(), 2, "{tables:?}");
            let at = |schema: &str| tables.iter().position(|found| *found == table(schema));
            let of_public = at("public").unwrap();
            let expected = vec![
                (of_public, vec![some("one"), some("x\ty")]),
                (of_public, vec![some("."), None]),
            ];
            assert!(at("other").is_some());
            assert_eq!(rows, expected);
            assert_eq!(left > 100_000, portion < archive.len(), "{left}");
        }
        // One that ends before the rows do is told; what comes after them nobody looks at.
        assert!(picked(&archive[..archive.len() - 100_000], 7).0.is_ok());
        let cut = archive
            .windows(4)
            .position(|bytes| bytes == b"one\n")
            .unwrap();
        let error = picked(&archive[..cut], 7).0.unwrap_err();
        assert_eq!(error, ArchiveError::CutOff("in its data"));
        assert!(picked(b"PGDUMB", 7).0.is_err());
        assert!(picked(b"", 7).0.is_err());
    }
}
