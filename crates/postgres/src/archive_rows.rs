//! How many rows an archive has for each table, counted while its bytes pass.

use std::io::{self, Write};

use crate::{
    archive::{ArchiveError, ArchiveScanner},
    copy_text::CopyFields,
};

/// Counts rows: the archive is written to it, then [`finish`](Self::finish) tells.
pub struct ArchiveRows {
    scanner: ArchiveScanner,
    tables: Vec<(String, String)>,
    counters: Vec<CopyFields>,
    damage: Option<ArchiveError>,
}

impl ArchiveRows {
    /// For these tables, by schema and name.
    #[must_use]
    pub fn new(tables: Vec<(String, String)>) -> Self {
        let mut scanner = ArchiveScanner::new();
        scanner.watch(tables.clone());
        Self {
            counters: tables.iter().map(|_| CopyFields::new(&[])).collect(),
            tables,
            scanner,
            damage: None,
        }
    }

    /// The rows of each table, in the order in which they were given; nothing for a table whose rows the archive leaves
    /// out.
    ///
    /// # Errors
    /// When what was written is no complete archive.
    pub fn finish(self) -> Result<Vec<Option<u64>>, ArchiveError> {
        if let Some(damage) = self.damage {
            return Err(damage);
        }
        let (_, entries) = self.scanner.complete()?;
        let is_there = |(schema, name): &(String, String)| {
            entries.iter().any(|entry| {
                entry.kind == "TABLE DATA"
                    && entry.schema() == Some(schema.as_str())
                    && entry.name == *name
            })
        };
        let tables = self.tables.iter().zip(&self.counters);
        Ok(tables
            .map(|(table, counter)| is_there(table).then(|| counter.rows()))
            .collect())
    }
}

impl Write for ArchiveRows {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Self {
            scanner, counters, ..
        } = self;
        let fed = scanner.feed_watched(bytes, &mut |table, rows| {
            counters[table].feed(rows, &mut |_| ());
        });
        fed.map_err(|damage| {
            self.damage = Some(damage.clone());
            io::Error::other(damage)
        })?;
        Ok(bytes.len())
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

    #[test]
    fn the_rows_of_an_archive_are_counted_and_a_cut_one_is_told() {
        let cluster = testing::cluster();
        let settings = testing::database(
            &cluster,
            "CREATE TABLE a (x text); INSERT INTO a VALUES (E'two\\nlines'), ('.'), (NULL), (E'\\\\.');
             CREATE TABLE none (x int); CREATE TABLE left_out (x int); INSERT INTO left_out VALUES (1)",
        );
        let moment =
            Moment::hold(&settings, &MomentOptions::default(), testing::runtime()).unwrap();
        let options = DumpOptions {
            skip_data: vec!["public.left_out".to_owned()],
            ..DumpOptions::default()
        };
        let mut archive = Vec::new();
        let mut dump = Dump::start(&moment, &testing::programs(&cluster), &options).unwrap();
        dump.read_to_end(&mut archive).unwrap();
        dump.finish().unwrap();
        let count = |bytes: &[u8]| {
            let tables =
                ["a", "none", "left_out"].map(|name| ("public".to_owned(), name.to_owned()));
            let mut rows = ArchiveRows::new(tables.to_vec());
            for portion in bytes.chunks(7) {
                rows.write_all(portion).unwrap();
            }
            rows.finish()
        };
        assert_eq!(count(&archive), Ok(vec![Some(4), Some(0), None]));
        assert!(count(&archive[..archive.len() - 20]).is_err());
    }
}
