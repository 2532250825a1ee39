//! A table for people: columns as wide as their widest cell, numbers to the right.
//!
//! Programs get JSON; a table's layout may change with every release.

use std::io::{self, Write};

use clap::builder::styling::Style;
use unicode_width::UnicodeWidthStr;

use crate::text;

/// What stands between two columns.
const GAP: &str = "  ";

/// Where a column's cells stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Align {
    /// Words.
    Left,
    /// Numbers.
    Right,
}

/// Rows of cells under headings.
#[derive(Debug)]
pub(crate) struct Table<const COLUMNS: usize> {
    headings: [(&'static str, Align); COLUMNS],
    rows: Vec<[String; COLUMNS]>,
}

impl<const COLUMNS: usize> Table<COLUMNS> {
    /// A table without rows.
    pub(crate) fn new(headings: [(&'static str, Align); COLUMNS]) -> Self {
        Self {
            headings,
            rows: Vec::new(),
        }
    }

    /// Adds a row; each cell is made printable.
    pub(crate) fn row(&mut self, cells: [String; COLUMNS]) {
        self.rows
            .push(cells.map(|cell| text::printable(&cell).into_owned()));
    }

    /// Writes the headings and the rows; `bold` goes around the headings.
    pub(crate) fn write(&self, out: &mut dyn Write, bold: Style) -> io::Result<()> {
        let widths: [usize; COLUMNS] = std::array::from_fn(|column| {
            self.rows
                .iter()
                .map(|row| row[column].width())
                .chain([self.headings[column].0.width()])
                .max()
                .unwrap_or(0)
        });
        let headings = self.headings.map(|(heading, _)| heading.to_owned());
        writeln!(out, "{bold}{}{bold:#}", self.line(&headings, &widths))?;
        for row in &self.rows {
            writeln!(out, "{}", self.line(row, &widths))?;
        }
        Ok(())
    }

    fn line(&self, cells: &[String; COLUMNS], widths: &[usize; COLUMNS]) -> String {
        let mut line = String::new();
        for (column, cell) in cells.iter().enumerate() {
            if column > 0 {
                line.push_str(GAP);
            }
            let space = " ".repeat(widths[column].saturating_sub(cell.width()));
            match self.headings[column].1 {
                Align::Left => line.extend([cell.as_str(), &space]),
                Align::Right => line.extend([&space, cell.as_str()]),
            }
        }
        line.truncate(line.trim_end().len());
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_align_by_what_the_eye_sees_and_lines_end_without_spaces() {
        let mut table = Table::new([
            ("Name", Align::Left),
            ("Size", Align::Right),
            ("", Align::Left),
        ]);
        table.row(["写真".to_owned(), "9 B".to_owned(), String::new()]);
        table.row(["a\tb".to_owned(), "1.2 GiB".to_owned(), "new".to_owned()]);
        let mut out = Vec::new();
        table.write(&mut out, Style::new()).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "Name     Size\n\
             写真      9 B\n\
             a\\tb  1.2 GiB  new\n"
        );
    }
}
