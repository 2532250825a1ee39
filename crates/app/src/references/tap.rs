//! Takes the columns that name files out of a table's rows, while the rows pass.

use std::io;

use lifeboat_postgres::{CopyField, CopyFields};

use super::{Asking, References, Wanted, sha256_of, size_of};

/// A row is told by no more of its key than this.
const KEY_BYTES_MAX: usize = 200;

/// Follows the rows of one table.
pub(crate) struct Tap<'r> {
    fields: CopyFields,
    /// Which columns of the table are picked.
    picked: Vec<usize>,
    /// For the row's key: places among the picked columns.
    key: Vec<usize>,
    targets: Vec<Target<'r>>,
    failed: Option<io::Error>,
}

/// One column that names files, for one folder.
struct Target<'r> {
    references: &'r References<'r>,
    column: usize,
    /// Places among the picked columns.
    path: usize,
    size: Option<usize>,
    sha256: Option<usize>,
}

impl<'r> Tap<'r> {
    /// A tap for the table that is called `names` (its own name, and those of what it is a partition of), with these
    /// columns, whose key are those of `key`; nothing when no folder refers to it.
    ///
    /// What a folder wants of the table and the table has not is told as a problem of that folder.
    pub(crate) fn new(
        asking: Asking<'r>,
        database: &str,
        names: &[impl AsRef<str>],
        columns: &[String],
        key: &[String],
    ) -> Option<Self> {
        let mut picked: Vec<usize> = Vec::new();
        let mut pick = |name: &str| {
            let place = columns.iter().position(|column| column == name)?;
            Some(
                picked
                    .iter()
                    .position(|known| *known == place)
                    .unwrap_or_else(|| {
                        picked.push(place);
                        picked.len() - 1
                    }),
            )
        };
        let mut targets = Vec::new();
        for references in asking.0 {
            for (number, column) in references.columns_of(database) {
                let table = &column.table;
                if names.iter().all(|name| name.as_ref() != table) {
                    continue;
                }
                references.meet(number);
                let mut wanted = |name: &str| {
                    let place = pick(name);
                    if place.is_none() {
                        references.lack(format!(
                            "rows are to name its files, and {table} has no column {name}"
                        ));
                    }
                    place
                };
                let Some(path) = wanted(&column.column) else {
                    continue;
                };
                targets.push(Target {
                    references,
                    column: number,
                    path,
                    size: column.size.as_deref().and_then(&mut wanted),
                    sha256: column.sha256.as_deref().and_then(&mut wanted),
                });
            }
        }
        if targets.is_empty() {
            return None;
        }
        let first = columns.first().cloned();
        let key = if key.is_empty() {
            first.as_slice()
        } else {
            key
        };
        let key = key.iter().filter_map(|name| pick(name)).collect();
        Some(Self {
            fields: CopyFields::new(&picked),
            picked,
            key,
            targets,
            failed: None,
        })
    }

    /// The places of the columns that a row must have, in their order.
    pub(crate) fn columns(&self) -> &[usize] {
        &self.picked
    }

    /// Takes the next bytes of the rows.
    pub(crate) fn feed(&mut self, bytes: &[u8]) {
        let Self {
            fields,
            key,
            targets,
            failed,
            ..
        } = self;
        fields.feed(bytes, &mut |row| {
            for target in targets.iter() {
                if let Err(error) = target.row(row, key) {
                    failed.get_or_insert(error);
                }
            }
        });
    }

    /// Takes one row that is at hand as fields.
    pub(crate) fn row(&mut self, row: &[CopyField]) {
        for target in &self.targets {
            if let Err(error) = target.row(row, &self.key) {
                self.failed.get_or_insert(error);
            }
        }
    }

    /// Whether everything could be kept.
    pub(crate) fn finish(self) -> io::Result<()> {
        self.failed.map_or(Ok(()), Err)
    }
}

impl Target<'_> {
    fn row(&self, row: &[CopyField], key: &[usize]) -> io::Result<()> {
        let field = &row[self.path];
        if field.null {
            return Ok(());
        }
        let value =
            |place: Option<usize>| place.map(|place| &row[place]).filter(|field| !field.null);
        let wanted = Wanted {
            size: value(self.size).and_then(|field| size_of(&field.text)),
            sha256: value(self.sha256).and_then(|field| sha256_of(&field.text)),
        };
        let mut shown = Vec::new();
        for place in key {
            if !shown.is_empty() {
                shown.push(b',');
            }
            shown.extend_from_slice(&row[*place].text);
        }
        shown.truncate(KEY_BYTES_MAX);
        if field.cut {
            // What is longer than any path is none.
            return self.references.name(self.column, b"..", &shown, wanted);
        }
        self.references
            .name(self.column, &field.text, &shown, wanted)
    }
}
