//! zstd, the only place that calls it. Contexts are kept, because making one costs more than a small segment.

use zstd::zstd_safe::{CCtx, CParameter, DCtx, get_frame_content_size};

use crate::error::FormatError;

/// Level of compression; stored data does not depend on it.
pub(crate) const LEVEL: i32 = 3;
/// How much smaller a segment must become to be stored compressed, as a divisor of its length.
const GAIN_DIVISOR: usize = 50;
const PROBE_BYTES: usize = 16 << 10;

/// Compresses segments.
pub(crate) struct Compressor {
    context: CCtx<'static>,
    probe: Vec<u8>,
}

impl Default for Compressor {
    fn default() -> Self {
        Self::new()
    }
}

impl Compressor {
    /// A compressor of the usual level.
    #[must_use]
    pub(crate) fn new() -> Self {
        let mut context = CCtx::create();
        for parameter in [
            CParameter::CompressionLevel(LEVEL),
            // Smaller tables than level 3's own stay in the second-level cache with 1 MiB segments: faster, and no larger.
            CParameter::HashLog(16),
            CParameter::ChainLog(15),
            CParameter::ContentSizeFlag(true),
            CParameter::ChecksumFlag(false),
        ] {
            context
                .set_parameter(parameter)
                .expect("zstd knows its own parameters");
        }
        Self {
            context,
            probe: vec![0; PROBE_BYTES],
        }
    }

    /// Compresses `content` to the front of `out` and returns the length, or `None` when it is not worth it.
    ///
    /// `out` must be as long as `content`.
    pub(crate) fn compress(&mut self, content: &[u8], out: &mut [u8]) -> Option<usize> {
        if !self.looks_compressible(content) {
            return None;
        }
        // Too little room is zstd's way of saying that it is not worth it.
        let room = content
            .len()
            .saturating_sub(content.len() / GAIN_DIVISOR)
            .saturating_sub(1);
        self.context
            .compress2(out.get_mut(..room)?, content)
            .ok()
            .filter(|length| *length > 0)
    }

    /// Tries three samples of larger content before the whole: media cost a tenth less.
    fn looks_compressible(&mut self, content: &[u8]) -> bool {
        if content.len() < 8 * PROBE_BYTES {
            return true;
        }
        let last = content.len() - PROBE_BYTES;
        [0, last / 2, last].into_iter().any(|start| {
            let Some(sample) = content.get(start..start + PROBE_BYTES) else {
                return true;
            };
            let room = PROBE_BYTES - PROBE_BYTES / 32;
            self.probe
                .get_mut(..room)
                .is_some_and(|out| self.context.compress2(out, sample).is_ok())
        })
    }
}

/// Decompresses segments.
pub(crate) struct Decompressor {
    context: DCtx<'static>,
}

impl Default for Decompressor {
    fn default() -> Self {
        Self::new()
    }
}

impl Decompressor {
    /// A decompressor.
    #[must_use]
    pub(crate) fn new() -> Self {
        Self {
            context: DCtx::create(),
        }
    }

    /// Decompresses one frame to the front of `out` and returns its length, at most `max_bytes`.
    ///
    /// `base` is the prefix that the frame was made with, or empty. Memory taken is the frame's stated length,
    /// which is held against `max_bytes` first.
    ///
    /// # Errors
    /// When the frame is damaged, larger than allowed, or not of the length that it states.
    pub(crate) fn decompress(
        &mut self,
        frame: &[u8],
        base: &[u8],
        max_bytes: usize,
        out: &mut Vec<u8>,
    ) -> Result<usize, FormatError> {
        const DAMAGED: FormatError = FormatError::Invalid("a compressed segment is damaged");
        let stated = get_frame_content_size(frame)
            .ok()
            .flatten()
            .ok_or(DAMAGED)?;
        let length = usize::try_from(stated)
            .ok()
            .filter(|length| *length <= max_bytes)
            .ok_or(FormatError::Invalid(
                "a compressed segment is larger than the format allows",
            ))?;
        if out.len() < length {
            out.resize(length, 0);
        }
        let room = out.get_mut(..length).ok_or(DAMAGED)?;
        let result = if base.is_empty() {
            self.context.decompress(room, frame)
        } else {
            self.context.decompress_using_dict(room, frame, base)
        };
        match result {
            Ok(written) if written == length => Ok(length),
            _ => Err(DAMAGED),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_shrinks_and_noise_is_left_alone() {
        let (mut compressor, mut decompressor) = (Compressor::new(), Decompressor::new());
        let (mut packed, mut plain) = (vec![0; 1 << 20], Vec::new());
        for length in [1_000, 100_000, 1 << 20] {
            let text: Vec<u8> = (0..length)
                .map(|index| b"all work and no play "[index % 21])
                .collect();
            let packed_length = compressor.compress(&text, &mut packed).unwrap();
            assert!(packed_length < length / 2);
            let plain_length = decompressor
                .decompress(&packed[..packed_length], &[], length, &mut plain)
                .unwrap();
            assert_eq!(plain[..plain_length], text);
            assert!(
                decompressor
                    .decompress(&packed[..packed_length], &[], length - 1, &mut plain)
                    .is_err(),
                "a bomb"
            );
            assert!(
                decompressor
                    .decompress(&packed[..packed_length - 1], &[], length, &mut plain)
                    .is_err(),
                "cut short"
            );

            let mut noise = vec![0; length];
            blake3::Hasher::new().finalize_xof().fill(&mut noise);
            assert_eq!(compressor.compress(&noise, &mut packed), None);
        }
        assert_eq!(compressor.compress(&[], &mut packed), None);
        assert_eq!(compressor.compress(b"x", &mut packed), None);
    }
}
