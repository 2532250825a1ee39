//! gzip (RFC 1952): members behind each other, each a header, a deflate stream and what its text sums up to.

use lifeboat_codec::Profile;
use lifeboat_repository::WriteError;

use super::Taker;
use super::input::Input;
use super::parts::Parts;
use super::text::Ended;

/// How a member begins that is deflate.
pub(super) const MAGIC: [u8; 3] = [0x1f, 0x8b, 8];
const TRAILER_BYTES: usize = 8;
/// A header with longer names than that is none.
const HEADER_MAX: usize = 32 << 10;

impl Taker<'_, '_, '_> {
    /// Takes members as long as there are such as are understood.
    pub(super) fn gzip(
        &mut self,
        input: &mut Input<'_>,
        parts: &mut Parts,
        profile: Profile,
        depth: usize,
    ) -> Result<(), WriteError> {
        for number in 0_u64.. {
            input.fill(HEADER_MAX)?;
            let Some(length) = header_bytes(input.held()).filter(|_| !parts.is_full()) else {
                return Ok(());
            };
            parts.lead(input, length)?;
            let label = number.to_string();
            let cut = (profile, true);
            if self.deflate(input, parts, label.as_bytes(), cut, depth)? != Ended::Whole {
                return Ok(());
            }
            parts.lead(input, TRAILER_BYTES)?;
        }
        Ok(())
    }
}

/// Length of the header that stands here, if one does.
fn header_bytes(bytes: &[u8]) -> Option<usize> {
    let flags = *bytes.get(3)?;
    // The upper bits are reserved.
    if !bytes.starts_with(&MAGIC) || flags & 0xe0 != 0 {
        return None;
    }
    let mut at = 10;
    if flags & 4 != 0 {
        let length = bytes.get(at..at + 2)?.try_into().ok()?;
        at += 2 + usize::from(u16::from_le_bytes(length));
    }
    // A name, then a comment.
    for bit in [8, 16] {
        if flags & bit != 0 {
            at += bytes.get(at..)?.iter().position(|byte| *byte == 0)? + 1;
        }
    }
    if flags & 2 != 0 {
        at += 2;
    }
    (at <= bytes.len()).then_some(at)
}
