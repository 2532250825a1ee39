//! What a file is that somebody calls a dump, by its first bytes.
//!
//! Only what can be restored is taken on; everything else is named, so that nobody has to guess why it was refused. A
//! file's name says nothing here: uploads lose theirs, and mail programs change endings.

use std::fmt;

use memchr::memmem;

/// How many bytes from the beginning are looked at.
pub const DUMP_HEAD_LEN_BYTES: usize = 4 << 10;

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DumpKind {
    /// What `pg_dump --format=custom` writes.
    Archive,
    /// What `pg_dump` writes as plain SQL.
    Script,
    /// Text of which nothing is known but that it is no other program's dump.
    Sql,
    /// Something that is compressed by gzip.
    Gzip,
    /// What `pg_dumpall` writes: roles and all databases of a server.
    Cluster,
    /// What `pg_dump --format=tar` writes.
    Tar,
    /// Compressed or packed by another program.
    Packed(&'static str),
    /// A dump or a file of another database program.
    Other(&'static str),
    /// A page of the web, mostly an error that was saved as a dump.
    Page,
    /// Text in UTF-16 or UTF-32, as PowerShell writes what it redirects.
    Wide,
    /// No text and nothing that is known.
    Binary,
    /// Nothing at all.
    Empty,
}

impl DumpKind {
    /// What a file is that begins with these bytes: its first [`DUMP_HEAD_LEN_BYTES`], or all that it has.
    pub fn of(head: &[u8]) -> Self {
        const MAGIC: [(&[u8], DumpKind); 12] = [
            (b"PGDMP", DumpKind::Archive),
            (b"\x1f\x8b", DumpKind::Gzip),
            (b"\x28\xb5\x2f\xfd", DumpKind::Packed("zstd")),
            (b"\x04\x22\x4d\x18", DumpKind::Packed("lz4")),
            (b"\xfd7zXZ\0", DumpKind::Packed("xz")),
            (b"BZh", DumpKind::Packed("bzip2")),
            (b"PK\x03\x04", DumpKind::Packed("zip")),
            (b"7z\xbc\xaf\x27\x1c", DumpKind::Packed("7-Zip")),
            (
                b"SQLite format 3\0",
                DumpKind::Other("an SQLite database file"),
            ),
            (b"\xff\xfe", DumpKind::Wide),
            (b"\xfe\xff", DumpKind::Wide),
            (b"\0\0\xfe\xff", DumpKind::Wide),
        ];
        if let Some((_, kind)) = MAGIC.iter().find(|(magic, _)| head.starts_with(magic)) {
            return *kind;
        }
        if head.get(257..262) == Some(b"ustar") {
            return if head.starts_with(b"toc.dat\0") {
                Self::Tar
            } else {
                Self::Packed("tar")
            };
        }
        if head.contains(&0) {
            return if is_wide(head) {
                Self::Wide
            } else {
                Self::Binary
            };
        }
        let text = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head);
        Self::of_text(text.trim_ascii_start())
    }

    fn of_text(text: &[u8]) -> Self {
        const BEGINNINGS: [(&[u8], DumpKind); 11] = [
            (b"-- mysql dump", DumpKind::Other("a dump of MySQL")),
            (b"-- mariadb dump", DumpKind::Other("a dump of MariaDB")),
            (b"/*m!", DumpKind::Other("a dump of MariaDB")),
            (b"/*!", DumpKind::Other("a dump of MySQL")),
            (
                b"-- phpmyadmin sql dump",
                DumpKind::Other("a dump of MySQL by phpMyAdmin"),
            ),
            (
                b"-- adminer",
                DumpKind::Other("a dump by Adminer, which is not pg_dump's"),
            ),
            (
                b"pragma foreign_keys",
                DumpKind::Other("a dump of an SQLite database"),
            ),
            (b"/****** object:", DumpKind::Other("a dump of SQL Server")),
            (b"use [", DumpKind::Other("a dump of SQL Server")),
            (b"<!doctype", DumpKind::Page),
            (b"<html", DumpKind::Page),
        ];
        if text.is_empty() {
            return Self::Empty;
        }
        let lower = text.to_ascii_lowercase();
        if let Some((_, kind)) = BEGINNINGS
            .iter()
            .find(|(words, _)| lower.starts_with(words))
        {
            return *kind;
        }
        let has = |words: &str| memmem::find(&lower, words.as_bytes()).is_some();
        if has("-- postgresql database cluster dump") {
            Self::Cluster
        } else if has("-- postgresql database dump") {
            Self::Script
        } else if has("\nengine=innodb") || has(") engine=innodb") {
            Self::Other("a dump of MySQL")
        } else {
            Self::Sql
        }
    }
}

/// Whether every second byte of a text is 0, as in UTF-16 without its mark.
fn is_wide(head: &[u8]) -> bool {
    let pairs = head.chunks_exact(2);
    let count = pairs.len();
    let (mut first, mut second) = (0, 0);
    for pair in pairs {
        first += usize::from(pair[0] == 0);
        second += usize::from(pair[1] == 0);
    }
    count >= 8 && (first * 10 >= count * 9 || second * 10 >= count * 9)
}

impl fmt::Display for DumpKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Archive => formatter.write_str("an archive of pg_dump"),
            Self::Script => formatter.write_str("plain SQL of pg_dump"),
            Self::Sql => formatter.write_str("SQL text"),
            Self::Gzip => formatter.write_str("compressed by gzip"),
            Self::Cluster => formatter.write_str("a dump of a whole server by pg_dumpall"),
            Self::Tar => formatter.write_str("an archive of pg_dump in tar format"),
            Self::Packed(program) => write!(formatter, "packed by {program}"),
            Self::Other(what) => formatter.write_str(what),
            Self::Page => formatter.write_str("a page of the web"),
            Self::Wide => formatter.write_str("text in UTF-16 or UTF-32"),
            Self::Binary => formatter.write_str("neither text nor an archive of pg_dump"),
            Self::Empty => formatter.write_str("empty"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_known_by_their_first_bytes() {
        let wide: Vec<u8> = "-- PostgreSQL database dump"
            .encode_utf16()
            .flat_map(u16::to_le_bytes)
            .collect();
        let tar = [&b"toc.dat\0"[..], &[0; 249], b"ustar\x0000"].concat();
        let cases: [(&[u8], DumpKind); 17] = [
            (b"", DumpKind::Empty),
            (b"\n \n", DumpKind::Empty),
            (b"PGDMP\x01\x0e", DumpKind::Archive),
            (b"\x1f\x8b\x08", DumpKind::Gzip),
            (b"--\n-- PostgreSQL database dump\n--\n", DumpKind::Script),
            (
                b"\xef\xbb\xbf--\r\n-- PostgreSQL database dump\r\n",
                DumpKind::Script,
            ),
            (
                b"--\n-- PostgreSQL database cluster dump\n--\n",
                DumpKind::Cluster,
            ),
            (b"CREATE TABLE t (id int);", DumpKind::Sql),
            (
                b"-- MySQL dump 10.13  Distrib 8.0.36",
                DumpKind::Other("a dump of MySQL"),
            ),
            (
                b"/*M!999999\\- enable the sandbox mode */",
                DumpKind::Other("a dump of MariaDB"),
            ),
            (
                b"PRAGMA foreign_keys=OFF;\nBEGIN TRANSACTION;",
                DumpKind::Other("a dump of an SQLite database"),
            ),
            (
                b"SQLite format 3\0\x10\0",
                DumpKind::Other("an SQLite database file"),
            ),
            (b"\xff\xfe-\0-\0", DumpKind::Wide),
            (&wide, DumpKind::Wide),
            (&tar, DumpKind::Tar),
            (b"<!DOCTYPE html>", DumpKind::Page),
            (b"\x7fELF\x02\0\0\0", DumpKind::Binary),
        ];
        for (head, kind) in cases {
            assert_eq!(DumpKind::of(head), kind, "{}", head.escape_ascii());
        }
    }
}
