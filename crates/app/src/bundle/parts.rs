//! The parts of a bundle: those that are stored, and those that an earlier one has.

use std::collections::HashMap;
use std::io::{Read, Seek, SeekFrom, Write};

use lifeboat_codec::{BundlePart, Coding, Entry, EntryKind, Profile, put_entry};
use lifeboat_repository::{MetaStream, Reader, WriteError};
use tempfile::SpooledTempFile;

use super::input::Input;
use super::{Taker, Whole};
use crate::entry::{FileContent, Stored, part_content};

/// What is not understood at the end goes into the frame if it is so short.
pub(super) const LEAD_BYTES: usize = 64 << 10;
/// A bundle with a longer frame is not taken apart from there on.
const FRAME_BYTES_MAX: u64 = 64 << 20;
/// Of the frame and of the tree so much is kept in memory; more lies in a file without a name meanwhile.
const HELD_BYTES: usize = 2 << 20;
/// A bundle has no more parts; what is behind them is stored as it is.
pub(super) const PARTS_MAX: u64 = 200_000;
/// Corrections of so many bytes go into the frame.
const CORRECTIONS_BYTES: usize = 512;
/// A tree of parts that is longer is not looked through for what parts were.
const EARLIER_BYTES_MAX: u64 = 4 << 20;

/// What a part was, and its corrections.
type EarlierPart = (FileContent, Option<FileContent>);

/// The parts of an earlier bundle.
#[derive(Default)]
pub(super) struct EarlierParts {
    labelled: HashMap<Vec<u8>, EarlierPart>,
    frame: Option<FileContent>,
}

impl EarlierParts {
    /// None where there is no earlier bundle, or it cannot be read: then everything is stored as new.
    pub(super) fn read(reader: Option<&Reader<'_>>, earlier: Option<&FileContent>) -> Self {
        let Some((reader, FileContent::Bundle { parts, .. })) = reader.zip(earlier) else {
            return Self::default();
        };
        let mut found = Self::default();
        if parts.length <= EARLIER_BYTES_MAX
            && let Ok(mut tree) = reader.tree(parts)
        {
            let mut corrections = None;
            while let Ok(Some(entry)) = tree.next_entry() {
                let (Some(part), Ok(content)) = (&entry.part, part_content(&entry)) else {
                    break;
                };
                match part.coding {
                    Coding::Frame => found.frame = Some(content),
                    Coding::Corrections => corrections = Some(content),
                    Coding::Plain | Coding::Deflate => {
                        let label = part.label.to_vec();
                        found.labelled.insert(label, (content, corrections.take()));
                    }
                }
            }
        }
        found
    }

    /// What the part of that label was; once.
    pub(super) fn take(&mut self, label: &[u8]) -> (Option<FileContent>, Option<FileContent>) {
        match self.labelled.remove(label) {
            Some((content, corrections)) => (Some(content), corrections),
            None => (None, None),
        }
    }
}

/// The parts of a bundle while it is stored.
///
/// Bytes between parts go into one stream, the frame: so nothing of what the file holds stands in metadata, which more keys open.
pub(super) struct Parts {
    pub(super) earlier: EarlierParts,
    /// The entries, until the frame is stored, which stands first.
    tree: SpooledTempFile,
    frame: SpooledTempFile,
    frame_bytes: u64,
    /// Bytes of the frame that stand before the next part.
    lead: u64,
    entries: u64,
    length: u64,
    scratch: (Vec<u8>, Vec<u8>),
}

impl Parts {
    pub(super) fn new(earlier: EarlierParts) -> Self {
        Self {
            earlier,
            tree: SpooledTempFile::new(HELD_BYTES),
            frame: SpooledTempFile::new(HELD_BYTES),
            frame_bytes: 0,
            lead: 0,
            entries: 0,
            length: 0,
            scratch: (Vec::new(), Vec::new()),
        }
    }

    /// Nothing was found to be a part yet.
    pub(super) fn is_empty(&self) -> bool {
        self.entries == 0
    }

    pub(super) fn is_full(&self) -> bool {
        self.entries >= PARTS_MAX || self.frame_bytes >= FRAME_BYTES_MAX
    }

    /// The bytes between parts.
    pub(super) fn into_frame(mut self) -> Result<SpooledTempFile, WriteError> {
        rewind(&mut self.frame)?;
        Ok(self.frame)
    }

    /// The next bytes of the input stand before the next part, or as many as there are.
    pub(super) fn lead(&mut self, input: &mut Input<'_>, count: usize) -> Result<(), WriteError> {
        input.fill(count)?;
        let bytes = &input.held()[..count.min(input.held().len())];
        let count = bytes.len();
        self.frame.write_all(bytes).map_err(WriteError::Source)?;
        input.skip(count);
        self.lead += count as u64;
        self.frame_bytes += count as u64;
        Ok(())
    }

    /// Takes what is left of the input as what stands behind the last part, if it is short; whether it was.
    pub(super) fn lead_to_end(&mut self, input: &mut Input<'_>) -> Result<bool, WriteError> {
        input.fill(LEAD_BYTES + 1)?;
        let is_short = input.held().len() <= LEAD_BYTES;
        if is_short {
            self.lead(input, input.held().len())?;
        }
        Ok(is_short)
    }

    /// A part that is stored as it is.
    pub(super) fn put_plain(&mut self, whole: &Whole, label: &[u8]) -> Result<(), WriteError> {
        self.length += whole.length;
        let part = BundlePart {
            label,
            ..BundlePart::new(Coding::Plain)
        };
        self.put(&whole.stored, whole.length, part)
    }

    /// A deflate stream that is stored as its text, and makes so many bytes by short corrections or by those that are stored.
    pub(super) fn put_deflate(
        &mut self,
        text: &Whole,
        makes: u64,
        corrections: Corrections<'_>,
        label: &[u8],
    ) -> Result<(), WriteError> {
        let mut part = BundlePart {
            makes,
            label,
            ..BundlePart::new(Coding::Deflate)
        };
        match corrections {
            Corrections::Short(bytes) => {
                self.frame.write_all(bytes).map_err(WriteError::Source)?;
                part.corrections = bytes.len() as u64;
                self.frame_bytes += part.corrections;
            }
            Corrections::Stored(whole) => {
                let lead = std::mem::take(&mut self.lead);
                let before = BundlePart::new(Coding::Corrections);
                self.put(&whole.stored, whole.length, before)?;
                self.lead = lead;
            }
        }
        self.length += makes;
        self.put(&text.stored, text.length, part)
    }

    fn put(&mut self, stored: &Stored, size: u64, part: BundlePart<'_>) -> Result<(), WriteError> {
        let lead = std::mem::take(&mut self.lead);
        self.length += lead;
        self.entries += 1;
        let part = BundlePart { lead, ..part };
        let encoded = encode(&mut self.scratch, self.entries, stored, size, part);
        self.tree.write_all(encoded).map_err(WriteError::Source)
    }

    /// Ends the bundle.
    pub(super) fn close(mut self, taker: &mut Taker<'_, '_, '_>) -> Result<Whole, WriteError> {
        if self.lead > 0 {
            self.put(&Stored::Empty, 0, BundlePart::new(Coding::Plain))?;
        }
        let mut tree = MetaStream::default();
        if self.frame_bytes > 0 {
            let mut input = Input::new(rewind(&mut self.frame)?);
            let frame = taker.plain(&mut input, Profile::Database, self.earlier.frame)?;
            let part = BundlePart::new(Coding::Frame);
            let encoded = encode(&mut self.scratch, 0, &frame.stored, frame.length, part);
            taker.lane.extend_meta(&mut tree, encoded)?;
        }
        rewind(&mut self.tree)?;
        let mut buffer = vec![0; 64 << 10];
        loop {
            match self.tree.read(&mut buffer).map_err(WriteError::Source)? {
                0 => break,
                count => taker.lane.extend_meta(&mut tree, &buffer[..count])?,
            }
        }
        Ok(Whole {
            stored: Stored::Bundle(taker.lane.close_meta(tree)?.encode()),
            length: self.length,
        })
    }
}

fn rewind(file: &mut SpooledTempFile) -> Result<&mut SpooledTempFile, WriteError> {
    file.seek(SeekFrom::Start(0)).map_err(WriteError::Source)?;
    Ok(file)
}

/// An entry of a bundle's tree.
fn encode<'s>(
    (encoded, scratch): &'s mut (Vec<u8>, Vec<u8>),
    number: u64,
    stored: &Stored,
    size: u64,
    part: BundlePart<'_>,
) -> &'s [u8] {
    let name = format!("{number:08}");
    let entry = Entry {
        size,
        content: stored.content(),
        part: Some(part),
        ..Entry::new(EntryKind::File, name.as_bytes())
    };
    encoded.clear();
    put_entry(encoded, &entry, scratch);
    encoded
}

/// The corrections of a deflate stream.
pub(super) enum Corrections<'c> {
    Short(&'c [u8]),
    Stored(Whole),
}

/// Whether corrections of so many bytes stand with the part.
pub(super) fn are_short(length: u64) -> bool {
    length <= CORRECTIONS_BYTES as u64
}
