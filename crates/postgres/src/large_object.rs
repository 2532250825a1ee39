//! A large object's content as a stream, asked for piece by piece.
//!
//! Large objects are versioned as rows are: a session that is at a moment reads them as they were then, and needs no
//! lock for it.

use std::io::{self, Read};

use zeroize::Zeroize as _;

use crate::{
    connect::{Connection, QueryError},
    parts::LargeObjectPart,
};

/// What one query asks for; a smaller answer is the last.
const PIECE_LEN_BYTES: usize = 1 << 20;

/// Why a content is not what a large object holds.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LargeObjectError {
    /// The server did not give it to its end.
    #[error(transparent)]
    Query(#[from] QueryError),
    /// It was not read to its end.
    #[error("reading the large object {oid} was given up before its end")]
    GivenUp {
        /// Its number.
        oid: u32,
    },
}

/// A large object under way: read it to its end, then [`finish`](Self::finish).
pub struct LargeObject<'a> {
    connection: &'a Connection,
    oid: u32,
    piece: Vec<u8>,
    /// How much of the piece has been given out.
    used: usize,
    len_bytes: u64,
    hasher: blake3::Hasher,
    /// Whether the piece is the last.
    ended: bool,
    outcome: Option<Result<(), LargeObjectError>>,
}

impl<'a> LargeObject<'a> {
    /// Begins over a session that is at the moment which the content is to show. `hash_key` is for the hash.
    pub fn start(connection: &'a Connection, oid: u32, hash_key: &[u8; 32]) -> Self {
        Self {
            connection,
            oid,
            piece: Vec::new(),
            used: 0,
            len_bytes: 0,
            hasher: blake3::Hasher::new_keyed(hash_key),
            ended: false,
            outcome: None,
        }
    }

    /// Judges the content after its end was read.
    ///
    /// # Errors
    /// When the end was not read, or the server did not give all.
    pub fn finish(mut self) -> Result<LargeObjectPart, LargeObjectError> {
        self.outcome
            .take()
            .unwrap_or(Err(LargeObjectError::GivenUp { oid: self.oid }))?;
        Ok(LargeObjectPart {
            oid: self.oid,
            len_bytes: self.len_bytes,
            hash: *self.hasher.finalize().as_bytes(),
        })
    }

    fn fetch(&mut self) -> Result<(), QueryError> {
        let what = || format!("read the large object {}", self.oid);
        // As text of our own making: how bytes are shown can be set for a role.
        let sql = format!(
            "SELECT pg_catalog.encode(pg_catalog.lo_get({}, {}, {PIECE_LEN_BYTES}), 'hex')",
            self.oid, self.len_bytes
        );
        let row = self.connection.row(&what(), &sql)?;
        let text = row.into_iter().next().flatten();
        let text = text.ok_or_else(|| QueryError::shape(what()))?;
        decode_hex(text.as_bytes(), &mut self.piece).ok_or_else(|| QueryError::shape(what()))?;
        self.used = 0;
        self.ended = self.piece.len() < PIECE_LEN_BYTES;
        self.len_bytes += self.piece.len() as u64;
        self.hasher.update(&self.piece);
        Ok(())
    }
}

impl Read for LargeObject<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        while self.used == self.piece.len() && self.outcome.is_none() {
            if self.ended {
                self.outcome = Some(Ok(()));
            } else if let Err(error) = self.fetch() {
                self.outcome = Some(Err(error.into()));
            }
        }
        match &self.outcome {
            Some(Ok(())) => Ok(0),
            Some(Err(error)) => Err(io::Error::other(error.clone())),
            None => {
                let rest = &self.piece[self.used..];
                let count = rest.len().min(buffer.len());
                buffer[..count].copy_from_slice(&rest[..count]);
                self.used += count;
                Ok(count)
            }
        }
    }
}

impl Drop for LargeObject<'_> {
    fn drop(&mut self) {
        self.hasher.zeroize();
    }
}

/// Two digits are a byte; nothing when they are not.
fn decode_hex(text: &[u8], bytes: &mut Vec<u8>) -> Option<()> {
    bytes.clear();
    let (pairs, []) = text.as_chunks::<2>() else {
        return None;
    };
    bytes.reserve(pairs.len());
    for [high, low] in pairs {
        let digit = |letter: u8| char::from(letter).to_digit(16);
        let byte = digit(*high)? << 4 | digit(*low)?;
        bytes.push(u8::try_from(byte).ok()?);
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{settings::Settings, testing};

    const KEY: [u8; 32] = [5; 32];

    fn open(settings: &Settings) -> Connection {
        Connection::open(settings, testing::runtime()).unwrap()
    }

    fn take(
        connection: &Connection,
        oid: u32,
    ) -> Result<(Vec<u8>, LargeObjectPart), LargeObjectError> {
        let mut object = LargeObject::start(connection, oid, &KEY);
        let mut bytes = Vec::new();
        let read = object.read_to_end(&mut bytes);
        let part = object.finish();
        assert_eq!(read.is_ok(), part.is_ok());
        part.map(|part| (bytes, part))
    }

    #[test]
    fn a_content_comes_whole_with_its_holes_and_however_large() {
        let cluster = testing::cluster();
        let settings = testing::database(
            &cluster,
            "SELECT lo_create(1), lo_from_bytea(2, '\\x00ff5c'),
                    lo_from_bytea(3, convert_to(repeat('0123456789abcdef', 65536), 'UTF8')),
                    lo_from_bytea(4, convert_to(repeat('fedcba9876543210', 200000) || 'end', 'UTF8')), lo_create(5);
             SELECT lo_put(5, 1500000, 'after a hole')",
        );
        let connection = open(&settings);
        let mut holed = vec![0; 1_500_000];
        holed.extend_from_slice(b"after a hole");
        for (oid, expected) in [
            (1, Vec::new()),
            (2, vec![0, 255, 92]),
            (3, b"0123456789abcdef".repeat(65536)),
            (
                4,
                [b"fedcba9876543210".repeat(200_000), b"end".to_vec()].concat(),
            ),
            (5, holed),
        ] {
            let (bytes, part) = take(&connection, oid).unwrap();
            assert!(bytes == expected, "{oid}");
            let expected = LargeObjectPart {
                oid,
                len_bytes: expected.len() as u64,
                hash: *blake3::keyed_hash(&KEY, &expected).as_bytes(),
            };
            assert_eq!(part, expected);
        }
    }

    #[test]
    fn a_content_is_that_of_the_sessions_moment() {
        let cluster = testing::cluster();
        let settings = testing::database(&cluster, "SELECT lo_from_bytea(7, 'before')");
        let connection = open(&settings);
        connection
            .execute(
                "begin",
                "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SELECT 1",
            )
            .unwrap();
        testing::run(&settings, "SELECT lo_put(7, 0, 'after!, and longer')");
        assert_eq!(take(&connection, 7).unwrap().0, b"before");
        testing::run(&settings, "SELECT lo_unlink(7)");
        assert_eq!(take(&connection, 7).unwrap().0, b"before");
    }

    #[test]
    fn what_is_not_there_or_not_read_to_its_end_has_no_part() {
        let cluster = testing::cluster();
        let settings = testing::database(&cluster, "SELECT lo_from_bytea(7, 'content')");
        let connection = open(&settings);
        let error = take(&connection, 8).unwrap_err();
        assert!(matches!(error, LargeObjectError::Query(_)), "{error}");
        let mut object = LargeObject::start(&connection, 7, &KEY);
        object.read_exact(&mut [0; 7]).unwrap();
        let error = object.finish().unwrap_err();
        assert!(
            matches!(error, LargeObjectError::GivenUp { oid: 7 }),
            "{error}"
        );
    }
}
