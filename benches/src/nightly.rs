//! A database's dumps of several nights, as `pg_dump` writes them: what changes from one night to the next is chosen.
//!
//! **Invariant**: a row's text is drawn from its shape, number and version alone. So a night is an order of small pairs,
//! any night can be written at any time, and what did not change is the same byte for byte.

use std::fmt::Write as _;
use std::io::{self, BufWriter, Write};

use clap::ValueEnum;

/// What changes each night.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Change {
    /// One row of two hundred becomes another, all over the table, where it stands; 200 rows are added.
    Rows,
    /// One row for every two hundred is added at the end, and nothing else changes.
    Appends,
    /// One row of two hundred is deleted, all over the table.
    Deletes,
    /// As `rows`, in a table whose rows have 2 KB.
    Wide,
    /// As `rows`, in a table whose rows have 30 bytes.
    Narrow,
    /// As `rows`, but the new rows go where rows were freed the night before, or to the end: PostgreSQL's heap.
    Heap,
    /// As `rows`, and each night another tenth of the table is put into another order.
    Cluster,
    /// Three tables of the three widths, with changed rows as in `heap`, deleted and added ones.
    Mixed,
}

impl Change {
    /// What it is called in the tables.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Rows => "one row of 200 changed in its place",
            Self::Appends => "rows added at the end",
            Self::Deletes => "rows deleted all over",
            Self::Wide => "wide rows, one of 200 changed",
            Self::Narrow => "narrow rows, one of 200 changed",
            Self::Heap => "changed rows move, as in PostgreSQL's heap",
            Self::Cluster => "a tenth put into another order",
            Self::Mixed => "three tables, rows changed, deleted and added",
        }
    }

    /// Bytes of the first night: the first kind is the one whose figures have limits.
    pub(crate) fn bytes(self) -> u64 {
        match self {
            Self::Rows => 282_000_000,
            _ => 100_000_000,
        }
    }
}

/// One row of so many changes each night, and is added or deleted where that is what happens.
const ONE_OF: u64 = 200;
const ADDED: u32 = 200;

/// Numbers from a seed: splitmix64.
struct Draw(u64);

impl Draw {
    fn new(parts: [u64; 3]) -> Self {
        let mut draw = Self(0x6c69_6665_626f_6174);
        for part in parts {
            draw.0 = draw.number() ^ part;
        }
        draw
    }

    fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.number() % bound
    }
}

/// The columns of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    Orders,
    Wide,
    Narrow,
}

impl Shape {
    fn head(self) -> &'static str {
        match self {
            Self::Orders => {
                "COPY public.orders (id, customer_id, state, note, total, placed, mail) FROM stdin;\n"
            }
            Self::Wide => "COPY public.article (id, slug, data, body) FROM stdin;\n",
            Self::Narrow => "COPY public.reading (id, sensor, value) FROM stdin;\n",
        }
    }

    /// The text of a row: everything but its number is another with another version.
    fn row(self, words: &[String], row: Row, text: &mut String) {
        let mut draw = Draw::new([self as u64, u64::from(row.id), u64::from(row.version)]);
        let id = row.id;
        let written = match self {
            Self::Orders => {
                let state = ["new", "paid", "sent", "done", "back"][draw.below(5) as usize];
                let word = |draw: &mut Draw| &words[draw.below(words.len() as u64) as usize];
                writeln!(
                    text,
                    "{id}\t{}\t{state}\t{} {} {}\t{}.{:02}\t2026-{:02}-{:02} {:02}:{:02}:{:02}.{:06}+00\t{}@{}.example",
                    1 + u64::from(id) * 7919 % 300_000,
                    word(&mut draw),
                    word(&mut draw),
                    word(&mut draw),
                    draw.below(100_000),
                    draw.below(100),
                    1 + draw.below(12),
                    1 + draw.below(28),
                    draw.below(24),
                    draw.below(60),
                    draw.below(60),
                    draw.below(1_000_000),
                    word(&mut draw),
                    word(&mut draw),
                )
            }
            Self::Wide => {
                let count = 160 + draw.below(200);
                write!(
                    text,
                    "{id}\tarticle-{id}\t{{\"views\": {}, \"hash\": \"{:016x}\"}}\t",
                    draw.below(1_000_000),
                    draw.number()
                )
                .and_then(|()| {
                    for at in 0..count {
                        let word = &words[draw.below(2000) as usize];
                        let gap = if at + 1 == count { "\n" } else { " " };
                        write!(text, "{word}{gap}")?;
                    }
                    Ok(())
                })
            }
            Self::Narrow => writeln!(
                text,
                "{id}\t{}\t{}.{:03}",
                draw.below(5000),
                draw.below(1000),
                draw.below(1000)
            ),
        };
        written.expect("a string takes everything");
    }
}

/// A row by its number and how often it changed; number 0 is a place that nothing lies in.
#[derive(Clone, Copy, Debug)]
struct Row {
    id: u32,
    version: u8,
}

const NOTHING: Row = Row { id: 0, version: 0 };

struct Table {
    shape: Shape,
    rows: Vec<Row>,
    next_id: u32,
    /// Places that were freed the night before.
    free: Vec<usize>,
}

impl Table {
    fn new(shape: Shape, bytes: u64, words: &[String]) -> Self {
        let sample = 2000;
        let mut text = String::new();
        for id in 0..sample {
            // The numbers that most rows will have.
            let id = 1_000_000 + id;
            shape.row(words, Row { id, version: 0 }, &mut text);
        }
        let count = (bytes * u64::from(sample) / text.len() as u64) as u32;
        Self {
            shape,
            rows: (1..=count).map(|id| Row { id, version: 0 }).collect(),
            next_id: count + 1,
            free: Vec::new(),
        }
    }

    /// Chooses rows all over the table, one of `one_of`.
    fn chosen(&self, night: u8, why: u64, one_of: u64) -> Vec<usize> {
        let mut draw = Draw::new([self.shape as u64, u64::from(night), why]);
        (0..self.rows.len())
            .filter(|place| draw.below(one_of) == 0 && self.rows[*place].id != 0)
            .collect()
    }

    fn change(&mut self, night: u8) {
        for place in self.chosen(night, 1, ONE_OF) {
            self.rows[place].version = night;
        }
    }

    fn add(&mut self, count: u32) {
        for _ in 0..count {
            let row = Row {
                id: self.next_id,
                version: 0,
            };
            self.next_id += 1;
            self.put(row);
        }
    }

    /// Into a free place, or behind all.
    fn put(&mut self, row: Row) {
        match self.free.pop() {
            Some(place) => self.rows[place] = row,
            None => self.rows.push(row),
        }
    }

    /// As PostgreSQL does it: what a row leaves is free once a vacuum came by, which is the next night.
    fn change_as_heap(&mut self, night: u8, one_of: u64) -> Vec<usize> {
        self.free.sort_unstable_by(|a, b| b.cmp(a));
        let chosen = self.chosen(night, 1, one_of);
        for place in &chosen {
            let row = Row {
                version: night,
                ..self.rows[*place]
            };
            self.rows[*place] = NOTHING;
            self.put(row);
        }
        chosen
    }

    fn delete(&mut self, night: u8, one_of: u64) -> Vec<usize> {
        let chosen = self.chosen(night, 2, one_of);
        for place in &chosen {
            self.rows[*place] = NOTHING;
        }
        chosen
    }

    /// Puts one tenth into an order that has nothing to do with the one before.
    fn reorder(&mut self, night: u8) {
        let tenth = self.rows.len() / 10;
        let from = tenth * (usize::from(night) % 10);
        self.rows[from..from + tenth]
            .sort_by_key(|row| Draw::new([u64::from(row.id), u64::from(night), 3]).number());
    }

    fn night(&mut self, change: Change, night: u8) {
        match change {
            Change::Rows | Change::Wide | Change::Narrow => {
                self.change(night);
                self.add(ADDED);
            }
            Change::Appends => self.add((self.rows.len() as u64 / ONE_OF) as u32),
            Change::Deletes => drop(self.delete(night, ONE_OF)),
            Change::Heap => {
                let freed = self.change_as_heap(night, ONE_OF);
                self.add(ADDED);
                self.free.extend(freed);
            }
            Change::Cluster => {
                self.change(night);
                self.reorder(night);
                self.add(ADDED);
            }
            Change::Mixed => {
                let mut freed = self.change_as_heap(night, ONE_OF * 2);
                freed.extend(self.delete(night, ONE_OF * 5));
                self.add((self.rows.len() as u64 / (ONE_OF * 5)) as u32);
                self.free.extend(freed);
            }
        }
    }
}

/// A database at the time of one night.
pub(crate) struct Nightly {
    change: Change,
    words: Vec<String>,
    tables: Vec<Table>,
    night: u8,
}

impl Nightly {
    /// Before its first night; a dump of it has about so many bytes.
    pub(crate) fn new(change: Change, bytes: u64) -> Self {
        let mut draw = Draw::new([0, 0, 4]);
        let words: Vec<String> = (0..20_000)
            .map(|_| {
                let length = 3 + draw.below(10);
                (0..length)
                    .map(|_| char::from(b'a' + draw.below(26) as u8))
                    .collect()
            })
            .collect();
        let shapes: &[Shape] = match change {
            Change::Wide => &[Shape::Wide],
            Change::Narrow => &[Shape::Narrow],
            Change::Mixed => &[Shape::Wide, Shape::Orders, Shape::Narrow],
            _ => &[Shape::Orders],
        };
        let tables = shapes
            .iter()
            .map(|shape| Table::new(*shape, bytes / shapes.len() as u64, &words))
            .collect();
        Self {
            change,
            words,
            tables,
            night: 0,
        }
    }

    /// Writes the dump of the next night; the first changes nothing.
    pub(crate) fn write_next(&mut self, out: impl Write) -> io::Result<()> {
        if self.night > 0 {
            for table in &mut self.tables {
                table.night(self.change, self.night);
            }
        }
        self.night += 1;
        let mut out = BufWriter::with_capacity(1 << 20, out);
        out.write_all(b"--\n-- PostgreSQL database dump\n--\n\nSET client_encoding = 'UTF8';\n\n")?;
        let mut text = String::new();
        for table in &self.tables {
            out.write_all(table.shape.head().as_bytes())?;
            for row in table.rows.iter().filter(|row| row.id != 0) {
                text.clear();
                table.shape.row(&self.words, *row, &mut text);
                out.write_all(text.as_bytes())?;
            }
            out.write_all(b"\\.\n\n")?;
        }
        out.write_all(b"--\n-- PostgreSQL database dump complete\n--\n\n")?;
        out.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::{Change, Nightly};

    /// Lines of a night that the night before did not have, and how many lines there are.
    fn new_lines(change: Change) -> (usize, usize) {
        let mut nightly = Nightly::new(change, 4_000_000);
        let texts = [1, 2, 3].map(|_| {
            let mut text = Vec::new();
            nightly.write_next(&mut text).unwrap();
            String::from_utf8(text).unwrap()
        });
        let before: HashSet<&str> = texts[1].lines().collect();
        let new = texts[2].lines().filter(|line| !before.contains(line));
        (new.count(), texts[2].lines().count())
    }

    #[test]
    fn one_row_of_two_hundred_is_new_each_night() {
        for change in [Change::Wide, Change::Narrow, Change::Heap, Change::Cluster] {
            let (new, all) = new_lines(change);
            let expected = all / 200 + 200;
            assert!(
                new * 10 > expected * 8 && new * 10 < expected * 12,
                "{change:?}: {new} of {all}"
            );
        }
        assert_eq!(new_lines(Change::Deletes).0, 0);
    }
}
