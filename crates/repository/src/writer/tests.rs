//! What the workers of a writer leave to each other, and where streams of rows are cut.

use std::io::{self, Read};
use std::sync::atomic::{AtomicBool, Ordering};

use lifeboat_codec::{End, Kind, Profile, list_chunks};

use super::{ListWriter, Source, work};
use crate::commit::{Contents, Draft};
use crate::progress::Silent;
use crate::testing::{World, noise};
use crate::write_error::WriteError;

#[test]
fn the_last_segment_of_a_lane_is_never_left_to_a_worker_that_goes_home() {
    let (_world, mut repository) = World::new();
    let content = noise(1, 100_000);
    let never = AtomicBool::new(false);
    let result = repository.backup(&Draft::default(), &Silent, &never, |writer| {
        // A worker that has seen that all is done and has not come to say that it is no longer idle.
        writer.idle.store(1, Ordering::SeqCst);
        work(writer, 1, vec![()], |lane, (), _| {
            lane.put_stream(Profile::Files, None, &mut content.as_slice())
                .map(drop)
        })?;
        assert!(writer.board.lock().unwrap().jobs.is_empty());
        Err::<Contents, _>(WriteError::Stopped)
    });
    assert!(matches!(result, Err(WriteError::Stopped)));
}

/// Rows in pieces, which tells where they end, and of those that follow too.
struct Rows<'a> {
    rest: &'a [u8],
    piece: usize,
    /// What was looked at, and how much of it was given out.
    seen: u64,
    given: u64,
    ahead: &'a [u8],
    row: Vec<u8>,
    ends: Vec<End>,
}

impl<'a> Rows<'a> {
    fn new(rest: &'a [u8], piece: usize) -> Self {
        Self {
            rest,
            piece,
            seen: 0,
            given: 0,
            ahead: rest,
            row: Vec::new(),
            ends: Vec::new(),
        }
    }

    fn look(&mut self, count: usize) {
        let (piece, ahead) = self.ahead.split_at(count.min(self.ahead.len()));
        self.ahead = ahead;
        for byte in piece {
            self.seen += 1;
            self.row.push(*byte);
            if *byte == b'\n' {
                let hash = blake3::hash(&self.row);
                let rarity = u64::from_le_bytes(*hash.as_bytes().first_chunk().unwrap());
                self.ends.push(End {
                    at: self.seen,
                    rarity: rarity / self.row.len() as u64,
                });
                self.row.clear();
            }
        }
    }
}

impl Read for Rows<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.rest.len().min(buffer.len()).min(self.piece);
        let (piece, rest) = self.rest.split_at(count);
        buffer[..count].copy_from_slice(piece);
        self.rest = rest;
        self.given += count as u64;
        // As blocks come from a server.
        while self.seen < self.given + 100_000 && !self.ahead.is_empty() {
            self.look(65_536);
        }
        Ok(count)
    }
}

impl Source for Rows<'_> {
    fn ends(&mut self) -> Option<Vec<End>> {
        Some(std::mem::take(&mut self.ends))
    }
}

#[test]
fn rows_are_cut_where_they_end_and_a_row_longer_than_any_chunk_by_its_content() {
    let (_world, mut repository) = World::new();
    let table: Vec<u8> = (0..200_000_u32)
        .flat_map(|row| format!("{row}\t{}\n", row.wrapping_mul(2_654_435_761)).into_bytes())
        .collect();
    let long: Vec<u8> = noise(3, 3_000_000).iter().map(|byte| byte | 0x80).collect();
    // Rows of 200 KB, and one longer than any chunk.
    let wide: Vec<u8> = noise(4, 1_000_000).iter().map(|byte| byte | 0x80).collect();
    let wide: Vec<u8> = wide
        .chunks(200_000)
        .flat_map(|row| [row, b"\n"].concat())
        .collect();
    let long = [wide, long].concat();
    let rows = [table.as_slice(), &long, b"\n", &table].concat();
    let never = AtomicBool::new(false);
    let result = repository.backup(&Draft::default(), &Silent, &never, |writer| {
        let mut lane = writer.lane();
        let mut lengths = |rows: &[u8], piece: usize| -> Vec<usize> {
            let mut list = ListWriter::default();
            let mut source = Rows::new(rows, piece);
            let cut = lane.cut(Kind::DataPack, Profile::Database, &mut source, &mut list);
            cut.unwrap();
            let items = list_chunks(&list.items).unwrap();
            items.iter().map(|item| item.length as usize).collect()
        };
        let whole = lengths(&rows, 70_001);
        assert_eq!(whole.iter().sum::<usize>(), rows.len());
        for piece in [999, 1 << 20] {
            assert_eq!(lengths(&rows, piece), whole, "in pieces of {piece}");
        }
        let (_, all_but_the_last) = whole.split_last().unwrap();
        let min = Profile::Database.min_bytes();
        assert!(all_but_the_last.iter().all(|length| *length >= min));
        let max = Profile::Database.max_bytes();
        assert!(whole.iter().all(|length| *length <= max));
        let (mut at, mut elsewhere) = (0, Vec::new());
        for length in &whole {
            assert!(*length <= Profile::Database.max_bytes());
            at += length;
            if rows[at - 1] != b'\n' {
                elsewhere.push(at);
            }
        }
        // One of some ten chunks of rows has none that is rare enough; the long rows are cut within.
        let near = table.len() - Profile::Database.max_bytes()..table.len() + long.len();
        let in_long = elsewhere.iter().filter(|at| near.contains(at)).count();
        assert!(in_long > 20, "{in_long}");
        let at_ends = whole.len() - elsewhere.len();
        assert!(
            at_ends > 60 && elsewhere.len() - in_long < at_ends / 4,
            "{elsewhere:?}"
        );
        // One row more in front moves the cut points by it, but for the first ones.
        let moved = lengths(&[b"one more\n".as_slice(), &rows].concat(), 70_001);
        let same = whole.iter().rev().zip(moved.iter().rev());
        let same = same.take_while(|(one, other)| one == other).count();
        assert!(same + 5 > whole.len(), "{same} of {}", whole.len());
        Err::<Contents, _>(WriteError::Stopped)
    });
    assert!(matches!(result, Err(WriteError::Stopped)));
}
