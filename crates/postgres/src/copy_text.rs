//! Single columns taken out of rows in the text form of `COPY`, while the rows pass.
//!
//! A line holds a row, tabs stand between its columns, `\N` is NULL, and a backslash hides what would end either. The
//! reader takes bytes as they come, cut anywhere, and keeps nothing but the columns asked for; a column longer than
//! [`FIELD_BYTES_MAX`] is cut there, and says so. The mark `\.`, with which an archive ends the rows of a table, ends them here.

/// No more of a column is kept than this.
pub const FIELD_BYTES_MAX: usize = 16 << 10;

/// One column of one row.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CopyField {
    /// Its text as the database has it; what is not kept is cut off.
    pub text: Vec<u8>,
    /// Whether there is no value.
    pub null: bool,
    /// Whether it was longer than what is kept.
    pub cut: bool,
}

/// Picks columns out of rows; see the module.
#[derive(Debug)]
pub struct CopyFields {
    /// Where each wanted column is kept in `row`, by the column's place in the line.
    slots: Vec<Option<usize>>,
    row: Vec<CopyField>,
    column: usize,
    /// Whether the last byte was a backslash that hides the next.
    hidden: bool,
    rows: u64,
    /// Whether the mark that ends the rows in an archive has passed.
    ended: bool,
}

impl CopyFields {
    /// Picks the columns at these places, counted from 0; none may stand twice.
    pub fn new(columns: &[usize]) -> Self {
        let mut slots = vec![None; columns.iter().max().map_or(0, |last| last + 1)];
        for (slot, column) in columns.iter().enumerate() {
            slots[*column] = Some(slot);
        }
        Self {
            slots,
            row: vec![CopyField::default(); columns.len()],
            column: 0,
            hidden: false,
            rows: 0,
            ended: false,
        }
    }

    /// How many rows have passed.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Takes the next bytes; `each` gets every row that ends in them, its columns in the order in which they were asked for.
    pub fn feed(&mut self, mut bytes: &[u8], each: &mut dyn FnMut(&[CopyField])) {
        while !bytes.is_empty() && !self.ended {
            let slot = self.slots.get(self.column).copied().flatten();
            if self.hidden {
                self.hidden = false;
                // No value has a dot hidden: in an archive this ends the rows, and what follows is air.
                self.ended = bytes[0] == b'.';
                if let Some(slot) = slot {
                    self.row[slot].unhide(bytes[0]);
                }
                bytes = &bytes[1..];
                continue;
            }
            let end = bytes
                .iter()
                .position(|byte| matches!(byte, b'\t' | b'\n' | b'\\'))
                .unwrap_or(bytes.len());
            if let Some(slot) = slot {
                self.row[slot].push(&bytes[..end]);
            }
            match bytes.get(end) {
                None => return,
                Some(b'\\') => self.hidden = true,
                Some(b'\t') => self.column += 1,
                Some(_) => {
                    self.rows += 1;
                    self.column = 0;
                    each(&self.row);
                    self.row.iter_mut().for_each(CopyField::clear);
                }
            }
            bytes = &bytes[end + 1..];
        }
    }
}

impl CopyField {
    fn push(&mut self, bytes: &[u8]) {
        let room = FIELD_BYTES_MAX - self.text.len();
        self.cut |= bytes.len() > room;
        self.text.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    /// Takes the letter behind a backslash.
    fn unhide(&mut self, letter: u8) {
        let byte = match letter {
            b'N' => {
                // In a value a backslash has one before it, so this is NULL and nothing else.
                self.null = true;
                return;
            }
            b'b' => 0x08,
            b't' => b'\t',
            b'n' => b'\n',
            b'v' => 0x0b,
            b'f' => 0x0c,
            b'r' => b'\r',
            other => other,
        };
        self.push(&[byte]);
    }

    fn clear(&mut self) {
        self.text.clear();
        self.null = false;
        self.cut = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{child, connect::Connection, testing};

    fn picked(columns: &[usize], pieces: &[&[u8]]) -> Vec<Vec<Option<String>>> {
        let mut fields = CopyFields::new(columns);
        let mut rows = Vec::new();
        for piece in pieces {
            fields.feed(piece, &mut |row| {
                let text = |field: &CopyField| String::from_utf8(field.text.clone()).unwrap();
                let row = row.iter().map(|field| (!field.null).then(|| text(field)));
                rows.push(row.collect());
            });
        }
        assert_eq!(fields.rows(), rows.len() as u64);
        rows
    }

    fn some(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    #[test]
    fn columns_come_in_the_order_asked_for_wherever_the_bytes_are_cut() {
        let lines = b"1\ta\\tb\\n\\\\\t\\N\tx\n2\t\tN\\b\ty\n";
        let expected = vec![vec![None, some("a\tb\n\\")], vec![some("N\u{8}"), some("")]];
        assert_eq!(picked(&[2, 1], &[lines]), expected);
        for cut in 0..lines.len() {
            assert_eq!(picked(&[2, 1], &[&lines[..cut], &lines[cut..]]), expected);
        }
        let bytes: Vec<&[u8]> = lines.chunks(1).collect();
        assert_eq!(picked(&[2, 1], &bytes), expected);
    }

    #[test]
    fn a_long_column_is_cut_and_says_so_and_the_next_row_is_whole() {
        let mut fields = CopyFields::new(&[0]);
        let mut seen = Vec::new();
        let line = [vec![b'x'; FIELD_BYTES_MAX + 5], b"\nshort\n".to_vec()].concat();
        for piece in line.chunks(1000) {
            fields.feed(piece, &mut |row| seen.push((row[0].text.len(), row[0].cut)));
        }
        assert_eq!(seen, [(FIELD_BYTES_MAX, true), (5, false)]);
    }

    #[test]
    fn rows_without_the_column_and_tables_without_columns_give_empty_ones() {
        assert_eq!(picked(&[3], &[b"1\t2\n"]), [vec![some("")]]);
        assert_eq!(picked(&[], &[b"\n\n"]).len(), 2);
    }

    #[test]
    fn the_mark_at_the_end_is_no_row_and_nothing_follows_it() {
        let lines = b"1\t.\n2\t\\\\.\n\\.\n\n\n";
        let expected = [vec![some("."), some("1")], vec![some("\\."), some("2")]];
        for cut in 0..lines.len() {
            let pieces = [&lines[..cut], &lines[cut..]];
            assert_eq!(picked(&[1, 0], &pieces), expected);
        }
    }

    #[test]
    fn every_text_comes_out_of_a_server_as_it_went_in() {
        let cluster = testing::cluster();
        let settings = testing::database(
            &cluster,
            "CREATE TABLE t (id int, v text);
             INSERT INTO t SELECT i, chr(i) || '\\N' || chr(i) || 'N' FROM generate_series(1, 300) i;
             INSERT INTO t VALUES (301, NULL), (302, ''), (303, 'N'), (304, '\\N'), (305, '\\.')",
        );
        let connection = Connection::open(&settings, testing::runtime()).unwrap();
        let expected: Vec<Vec<Option<String>>> = connection
            .rows("read", "SELECT v FROM public.t ORDER BY id")
            .unwrap();
        let psql = testing::programs(&cluster).program("psql");
        let mut command = child::command(&psql, Some(&settings));
        command.args([
            "--no-psqlrc",
            "--command",
            "COPY (SELECT * FROM t ORDER BY id) TO STDOUT",
        ]);
        let (lines, _) = child::output(command).unwrap();
        assert_eq!(picked(&[1], &[&lines]), expected);
    }
}
