//! The text of a deflate stream, read piece by piece as it is proven.

use std::io::{self, Read, Seek, SeekFrom, Write};
use std::sync::atomic::Ordering;
use std::time::Instant;

use lifeboat_codec::Profile;
use lifeboat_repository::WriteError;
use tempfile::SpooledTempFile;

use super::corrections::put_head;
use super::deflate::{PACKED_BYTES, Unpacker};
use super::input::Input;
use super::parts::{Corrections, Parts, are_short};
use super::{Bundles, Taker, profile_of};

/// Corrections that are kept in memory until they are stored; more lie in a file without a name meanwhile.
const CORRECTIONS_HELD_BYTES: usize = 4 << 20;
/// Corrections of one stream, at most: from there on it is stored as it is.
const CORRECTIONS_BYTES_MAX: u64 = 256 << 20;

/// How far a deflate stream was taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// Not at all: it is still to be read.
    Nowhere,
    /// Up to where the input stands now, so many bytes.
    Within(u64),
    /// To its end.
    Whole,
}

/// A deflate stream that is read as its text.
struct Text<'i, 's> {
    input: &'i mut Input<'s>,
    bundles: &'i Bundles,
    unpacker: Unpacker,
    /// What of the text of the piece was read.
    at: usize,
    corrections: SpooledTempFile,
    corrections_bytes: u64,
    packed_bytes: u64,
    has_failed: bool,
}

impl Text<'_, '_> {
    /// Takes the next piece; its text is empty where there is none.
    fn advance(&mut self) -> io::Result<()> {
        if self.has_failed || self.unpacker.is_done() {
            return Ok(());
        }
        self.input.try_fill(PACKED_BYTES)?;
        let started = Instant::now();
        let taken = self.unpacker.piece(self.input.held());
        let elapsed = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.bundles
            .elapsed_us
            .fetch_add(elapsed, Ordering::Relaxed);
        self.at = 0;
        let Ok((head, bytes)) = taken else {
            self.has_failed = true;
            return Ok(());
        };
        let mut encoded = Vec::new();
        put_head(&mut encoded, &head);
        let bytes_then = self.corrections_bytes + encoded.len() as u64;
        if bytes_then > CORRECTIONS_BYTES_MAX || self.corrections.write_all(&encoded).is_err() {
            // What is not noted is not taken: the rest is stored as it is, also where there is no room to note it.
            self.has_failed = true;
            return Ok(());
        }
        self.corrections_bytes = bytes_then;
        self.input.skip(bytes);
        self.packed_bytes += bytes as u64;
        let text = self.unpacker.text().len() as u64;
        self.bundles.text_bytes.fetch_add(text, Ordering::Relaxed);
        Ok(())
    }

    fn left(&self) -> &[u8] {
        if self.has_failed {
            &[]
        } else {
            &self.unpacker.text()[self.at..]
        }
    }
}

impl Read for Text<'_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.left().is_empty() && !self.has_failed && !self.unpacker.is_done() {
            self.advance()?;
        }
        let left = self.left();
        let count = left.len().min(buffer.len());
        buffer[..count].copy_from_slice(&left[..count]);
        self.at += count;
        Ok(count)
    }
}

impl Taker<'_, '_, '_> {
    /// Takes apart the deflate stream with which the input goes on, as the next part.
    pub(super) fn deflate(
        &mut self,
        input: &mut Input<'_>,
        parts: &mut Parts,
        label: &[u8],
        (profile, is_cut_by_text): (Profile, bool),
        depth: usize,
    ) -> Result<Ended, WriteError> {
        let mut text = Text {
            input,
            bundles: self.bundles,
            unpacker: Unpacker::default(),
            at: 0,
            corrections: SpooledTempFile::new(CORRECTIONS_HELD_BYTES),
            corrections_bytes: 0,
            packed_bytes: 0,
            has_failed: false,
        };
        text.advance().map_err(WriteError::Source)?;
        if text.has_failed {
            return Ok(Ended::Nowhere);
        }
        let head = &text.left()[..text.left().len().min(4096)];
        let profile = if is_cut_by_text {
            profile_of(head, profile)
        } else {
            profile
        };
        let (earlier, earlier_corrections) = parts.earlier.take(label);
        let whole = self.content(&mut Input::new(&mut text), profile, earlier, depth + 1)?;
        let (packed_bytes, has_failed) = (text.packed_bytes, text.has_failed);
        let (mut corrections, length) = (text.corrections, text.corrections_bytes);
        corrections
            .seek(SeekFrom::Start(0))
            .map_err(WriteError::Source)?;
        let mut short = Vec::new();
        let corrections = if are_short(length) {
            // A piece that found no room may have left its beginning behind.
            (&mut corrections)
                .take(length)
                .read_to_end(&mut short)
                .map_err(WriteError::Source)?;
            Corrections::Short(&short)
        } else {
            let mut noted = corrections.take(length);
            let mut input = Input::new(&mut noted);
            let stored = self.plain(&mut input, Profile::Database, earlier_corrections)?;
            Corrections::Stored(stored)
        };
        parts.put_deflate(&whole, packed_bytes, corrections, label)?;
        Ok(if has_failed {
            Ended::Within(packed_bytes)
        } else {
            Ended::Whole
        })
    }
}
