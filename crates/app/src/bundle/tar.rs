//! tar: headers of 512 bytes, and behind each what its file holds, filled up to 512 bytes again.

use lifeboat_codec::Profile;
use lifeboat_repository::WriteError;

use super::Taker;
use super::input::{Input, Next};
use super::parts::{LEAD_BYTES, Parts};

pub(super) const BLOCK_BYTES: usize = 512;
/// A shorter file stands before the next part as it is.
const SHORT_BYTES: u64 = 4096;

impl Taker<'_, '_, '_> {
    /// Takes members as long as there are such as are understood.
    pub(super) fn tar(
        &mut self,
        input: &mut Input<'_>,
        parts: &mut Parts,
        depth: usize,
    ) -> Result<(), WriteError> {
        loop {
            input.fill(BLOCK_BYTES)?;
            let header = input.held();
            let Some(member) = Member::read(header).filter(|_| !parts.is_full()) else {
                return Ok(());
            };
            if !member.is_file && member.length > LEAD_BYTES as u64 {
                return Ok(());
            }
            parts.lead(input, BLOCK_BYTES)?;
            if member.is_file && member.length >= SHORT_BYTES {
                let mut next = Next {
                    input,
                    left: member.length,
                };
                let (earlier, _) = parts.earlier.take(&member.name);
                let mut content = Input::new(&mut next);
                let whole = self.content(&mut content, Profile::Files, earlier, depth + 1)?;
                parts.put_plain(&whole, &member.name)?;
            } else {
                parts.lead(input, member.length as usize)?;
            }
            let filled = member.length.next_multiple_of(BLOCK_BYTES as u64) - member.length;
            parts.lead(input, filled as usize)?;
        }
    }
}

struct Member {
    is_file: bool,
    /// Bytes behind the header.
    length: u64,
    name: Vec<u8>,
}

/// Whether the header of a tar's member stands here.
pub(super) fn is_header(block: &[u8]) -> bool {
    Member::read(block).is_some()
}

impl Member {
    fn read(block: &[u8]) -> Option<Self> {
        let block: &[u8; BLOCK_BYTES] = block.first_chunk()?;
        if &block[257..262] != b"ustar" {
            return None;
        }
        // The sum is made as if spaces stood in its place.
        let sum = |bytes: &[u8]| bytes.iter().map(|byte| u64::from(*byte)).sum::<u64>();
        if octal(&block[148..156])? != sum(&block[..148]) + 8 * 32 + sum(&block[156..]) {
            return None;
        }
        let length = match block[124] {
            // Sizes of 8 GiB and more are binary, the first bit being set.
            0x80 if block[125..128] == [0; 3] => {
                let bytes = block[128..136].iter();
                bytes.fold(0, |sum, byte| sum << 8 | u64::from(*byte))
            }
            _ => octal(&block[124..136])?,
        };
        let (is_file, has_content) = match block[156] {
            b'0' | 0 | b'7' => (true, true),
            b'x' | b'g' | b'L' | b'K' => (false, true),
            b'1'..=b'6' => (false, false),
            _ => return None,
        };
        if length > i64::MAX as u64 / 2 {
            return None;
        }
        let until_zero = |bytes: &[u8]| bytes.split(|byte| *byte == 0).next().map(<[u8]>::to_vec);
        let mut name = until_zero(&block[345..500]).filter(|prefix| !prefix.is_empty());
        if let Some(prefix) = &mut name {
            prefix.push(b'/');
        }
        let mut name = name.unwrap_or_default();
        name.extend(until_zero(&block[..100])?);
        Some(Self {
            is_file,
            length: if has_content { length } else { 0 },
            name,
        })
    }
}

/// A number in octal, between spaces and zeros.
fn octal(field: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(field).ok()?;
    let text = text.trim_matches([' ', '\0']);
    if text.is_empty() {
        return Some(0);
    }
    u64::from_str_radix(text, 8).ok()
}
