//! zip: members behind each other, each a header and what it holds; the directory at the end is a part as it is.
//!
//! Headers are followed from the front, so that a zip can come in through a pipe. Where one is not understood, all from there on
//! is stored as it is.

use lifeboat_codec::Profile;
use lifeboat_repository::WriteError;

use super::Taker;
use super::input::{Input, Next};
use super::parts::Parts;
use super::text::Ended;

/// How a member begins.
pub(super) const MEMBER: [u8; 4] = *b"PK\x03\x04";
const DESCRIPTOR: [u8; 4] = *b"PK\x07\x08";
const HEADER_BYTES: usize = 30;
const STORED: u16 = 0;
const DEFLATED: u16 = 8;
/// Encrypted, or with a directory that is.
const CLOSED: u16 = 1 | 1 << 6 | 1 << 13;
const HAS_DESCRIPTOR: u16 = 1 << 3;
/// What the format is known to need: 6.3, times ten.
const VERSION_MAX: u8 = 63;
/// A member that is shorter stands before the next part as it is.
const SHORT_BYTES: u64 = 256;

/// What a member's header says.
struct Member {
    header_bytes: usize,
    flags: u16,
    method: u16,
    /// Where that is known before the member is read.
    packed_bytes: Option<u64>,
    name: Vec<u8>,
}

impl Taker<'_, '_, '_> {
    /// Takes members as long as there are such as are understood.
    pub(super) fn zip(
        &mut self,
        input: &mut Input<'_>,
        parts: &mut Parts,
        depth: usize,
    ) -> Result<(), WriteError> {
        while !parts.is_full() {
            input.fill(HEADER_BYTES + 2 * usize::from(u16::MAX))?;
            let Some(member) = Member::read(input.held()) else {
                return Ok(());
            };
            parts.lead(input, member.header_bytes)?;
            if !self.member(input, parts, &member, depth)? {
                return Ok(());
            }
            if member.flags & HAS_DESCRIPTOR != 0 {
                input.fill(24 + MEMBER.len())?;
                let Some(length) = descriptor_bytes(input.held()) else {
                    return Ok(());
                };
                parts.lead(input, length)?;
            }
        }
        Ok(())
    }

    /// Takes what a member holds; false where its end is not known then.
    fn member(
        &mut self,
        input: &mut Input<'_>,
        parts: &mut Parts,
        member: &Member,
        depth: usize,
    ) -> Result<bool, WriteError> {
        let is_open = member.flags & CLOSED == 0;
        let mut left = member.packed_bytes;
        if let Some(length @ 0..SHORT_BYTES) = left {
            parts.lead(input, length as usize)?;
            return Ok(true);
        }
        if is_open && member.method == DEFLATED {
            let cut = (Profile::Files, false);
            match (self.deflate(input, parts, &member.name, cut, depth)?, left) {
                (Ended::Whole, _) => return Ok(true),
                (Ended::Nowhere, _) => {}
                (Ended::Within(bytes), Some(all)) if bytes <= all => left = Some(all - bytes),
                (Ended::Within(_), _) => left = None,
            }
        }
        let Some(left) = left else { return Ok(false) };
        let mut next = Next { input, left };
        let mut content = Input::new(&mut next);
        let whole = if is_open && member.method == STORED {
            let (earlier, _) = parts.earlier.take(&member.name);
            self.content(&mut content, Profile::Files, earlier, depth + 1)?
        } else {
            self.plain(&mut content, Profile::Files, None)?
        };
        parts.put_plain(&whole, &member.name)?;
        Ok(true)
    }
}

impl Member {
    fn read(bytes: &[u8]) -> Option<Self> {
        let short = |at: usize| {
            let number = bytes.get(at..at + 2)?.try_into().ok()?;
            Some(u16::from_le_bytes(number))
        };
        if !bytes.starts_with(&MEMBER) || *bytes.get(4)? > VERSION_MAX {
            return None;
        }
        let (flags, method) = (short(6)?, short(8)?);
        let name_bytes = usize::from(short(26)?);
        let header_bytes = HEADER_BYTES + name_bytes + usize::from(short(28)?);
        let extra = bytes.get(HEADER_BYTES + name_bytes..header_bytes)?;
        let (packed, whole) = (long(bytes, 18)?, long(bytes, 22)?);
        let packed = match packed {
            u32::MAX => zip64(extra, whole == u32::MAX)?,
            packed => u64::from(packed),
        };
        // With a descriptor behind the member, zero means that it was not known.
        let is_known = flags & HAS_DESCRIPTOR == 0 || packed > 0;
        Some(Self {
            header_bytes,
            flags,
            method,
            packed_bytes: is_known.then_some(packed),
            name: bytes[HEADER_BYTES..HEADER_BYTES + name_bytes].to_vec(),
        })
    }
}

fn long(bytes: &[u8], at: usize) -> Option<u32> {
    let number = bytes.get(at..at + 4)?.try_into().ok()?;
    Some(u32::from_le_bytes(number))
}

/// The packed length in the extra field for large members, where it stands behind the whole one.
fn zip64(mut extra: &[u8], has_whole: bool) -> Option<u64> {
    loop {
        let (id, length) = (extra.get(..2)?, extra.get(2..4)?.try_into().ok()?);
        let length = usize::from(u16::from_le_bytes(length));
        let field = extra.get(4..4 + length)?;
        if id == [1, 0] {
            let at = if has_whole { 8 } else { 0 };
            let number = field.get(at..at + 8)?.try_into().ok()?;
            return Some(u64::from_le_bytes(number));
        }
        extra = &extra[4 + length..];
    }
}

/// Length of what stands behind a member whose lengths were not known before: with or without a mark, of 32 or 64 bits each.
fn descriptor_bytes(bytes: &[u8]) -> Option<usize> {
    let mark = if bytes.starts_with(&DESCRIPTOR) { 4 } else { 0 };
    [12, 20]
        .into_iter()
        .map(|length| mark + length)
        .find(|end| {
            let next = bytes.get(*end..).unwrap_or_default();
            next.starts_with(&MEMBER)
                || next.starts_with(b"PK\x01\x02")
                || next.starts_with(b"PK\x06\x08")
        })
}
