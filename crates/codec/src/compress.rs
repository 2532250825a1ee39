//! zstd, the only place that calls it. Contexts are kept, because making one costs more than a small segment.

use zstd::zstd_safe::{CCtx, CParameter, DCtx, get_frame_content_size};

use crate::error::FormatError;

/// Level of compression; stored data does not depend on it.
const LEVEL: i32 = 3;
/// What is tried beside it: rows of a database, which are short numbers and words between tabs, take two thirds of the time with its
/// longer matches, and become hardly larger or even smaller; program text becomes larger. By the level's own smaller window and
/// table both would become some 6 % larger than that.
const FAST_LEVEL: i32 = 1;
const FAST_WINDOW_LOG: u32 = 21;
const FAST_HASH_LOG: u32 = 16;
const FAST_MATCH_BYTES: u32 = 6;
/// How much larger a segment may become for that, as a divisor of its length.
const FAST_LOSS_DIVISOR: usize = 100;
/// How much of a segment both levels are tried on, and for how many segments in a row that holds: neighbours are alike.
const TRIAL_BYTES: usize = 64 << 10;
const TRIAL_HOLDS_SEGMENTS: u32 = 8;
/// How much smaller a segment must become to be stored compressed, as a divisor of its length.
const GAIN_DIVISOR: usize = 50;
const PROBE_BYTES: usize = 16 << 10;
/// What is like its base is found at any level, by a table that has a place for each few bytes of both.
const BESIDE_LEVEL: i32 = 1;
const BESIDE_HASH_LOG: u32 = 19;

/// By this zstd knows a dictionary, where it may be one; a base's text is always taken as it is.
const DICTIONARY_MAGIC: &[u8] = &[0x37, 0xA4, 0x30, 0xEC];

/// Compresses segments.
pub(crate) struct Compressor {
    usual: CCtx<'static>,
    fast: CCtx<'static>,
    probe: Vec<u8>,
    /// Whether the fast level is the better one, and for how many segments that is still believed.
    is_fast_better: bool,
    trial_holds: u32,
    /// Whether the last segment became smaller; then the next one is taken to do so too.
    is_shrinking: bool,
}

impl Default for Compressor {
    fn default() -> Self {
        Self::new()
    }
}

impl Compressor {
    /// A compressor that has seen nothing yet.
    #[must_use]
    pub(crate) fn new() -> Self {
        Self {
            usual: context(LEVEL, &[]),
            fast: context(
                FAST_LEVEL,
                &[
                    CParameter::WindowLog(FAST_WINDOW_LOG),
                    CParameter::HashLog(FAST_HASH_LOG),
                    CParameter::MinMatch(FAST_MATCH_BYTES),
                ],
            ),
            probe: vec![0; TRIAL_BYTES],
            is_fast_better: false,
            trial_holds: 0,
            is_shrinking: false,
        }
    }

    /// Compresses `content` to the front of `out` and returns the length, or `None` when it is not worth it.
    ///
    /// `out` must be as long as `content`.
    pub(crate) fn compress(&mut self, content: &[u8], out: &mut [u8]) -> Option<usize> {
        if !self.is_shrinking && !self.looks_compressible(content) {
            return None;
        }
        // Too little room is zstd's way of saying that it is not worth it.
        let room = content
            .len()
            .saturating_sub(content.len() / GAIN_DIVISOR)
            .saturating_sub(1);
        let out = out.get_mut(..room)?;
        let context = if self.is_fast_better(content) {
            &mut self.fast
        } else {
            &mut self.usual
        };
        let length = context.compress2(out, content).ok();
        let length = length.filter(|length| *length > 0);
        self.is_shrinking = length.is_some();
        length
    }

    /// Compresses `content` as what differs from `base`, to the front of `out`, and returns the length; `None` when that
    /// does not fit.
    pub(crate) fn compress_beside(base: &[u8], content: &[u8], out: &mut [u8]) -> Option<usize> {
        // All of the base must be within reach of the content's last byte.
        let window = (base.len() + content.len()).next_power_of_two().ilog2();
        let others = [
            CParameter::HashLog(BESIDE_HASH_LOG),
            CParameter::WindowLog(window.clamp(10, 27)),
        ];
        // A context cannot outlive the prefix that it refers to.
        let mut context = context(BESIDE_LEVEL, &others);
        context.ref_prefix(base).ok()?;
        context
            .compress2(out, content)
            .ok()
            .filter(|length| *length > 0)
    }

    /// Tries both levels on a piece of the content now and then.
    fn is_fast_better(&mut self, content: &[u8]) -> bool {
        let middle = content.len() / 2;
        let Some(sample) = content.get(middle..middle + TRIAL_BYTES) else {
            return false;
        };
        if self.trial_holds == 0 {
            self.trial_holds = TRIAL_HOLDS_SEGMENTS;
            // A sample that does not fit its own length is not compressible by that level.
            let usual = self.usual.compress2(&mut self.probe[..], sample);
            let fast = self.fast.compress2(&mut self.probe[..], sample);
            self.is_fast_better = match (usual, fast) {
                (Ok(usual), Ok(fast)) => fast <= usual + usual / FAST_LOSS_DIVISOR,
                (Err(_), Ok(_)) => true,
                (_, Err(_)) => false,
            };
        }
        self.trial_holds -= 1;
        self.is_fast_better
    }

    /// Tries three samples of larger content before the whole, by the fast level: media cost a tenth less.
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
                .is_some_and(|out| self.fast.compress2(out, sample).is_ok())
        })
    }
}

fn context<'a>(level: i32, others: &[CParameter]) -> CCtx<'a> {
    let mut context = CCtx::create();
    let all = [
        CParameter::CompressionLevel(level),
        CParameter::ContentSizeFlag(true),
        CParameter::ChecksumFlag(false),
    ];
    for parameter in all.iter().chain(others) {
        context
            .set_parameter(*parameter)
            .expect("zstd knows its own parameters");
    }
    context
}

/// Decompresses segments.
#[derive(Default)]
pub(crate) struct Decompressor {
    /// Made when it is first needed.
    context: Option<DCtx<'static>>,
}

impl Decompressor {
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
            // Not twice as much: it may be kept.
            out.reserve_exact(length - out.len());
            out.resize(length, 0);
        }
        let room = out.get_mut(..length).ok_or(DAMAGED)?;
        let result = if base.starts_with(DICTIONARY_MAGIC) {
            // It looks like a dictionary, and is none. A context cannot outlive its prefix.
            let mut context = DCtx::create();
            let prefixed = context.ref_prefix(base);
            prefixed.and_then(|_| context.decompress(room, frame))
        } else {
            let context = self.context.get_or_insert_with(DCtx::create);
            context.decompress_using_dict(room, frame, base)
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

    /// What a level makes of it.
    fn by(level: &mut CCtx<'static>, content: &[u8]) -> usize {
        level
            .compress2(&mut vec![0; content.len()][..], content)
            .unwrap()
    }

    #[test]
    fn rows_take_the_fast_level_and_program_text_the_usual_one() {
        let mut rows = Vec::new();
        let mut random = blake3::Hasher::new().finalize_xof();
        let mut four = [0; 4];
        let mut number = || {
            random.fill(&mut four);
            u32::from_le_bytes(four)
        };
        for row in 0.. {
            let line = format!(
                "{}\t{}\t{}\t{}.{:02}\n",
                row / 3,
                row % 3,
                number() % 90_000,
                number() % 1000,
                number() % 100
            );
            rows.extend_from_slice(line.as_bytes());
            if rows.len() >= 1 << 20 {
                break;
            }
        }
        // Words of which some stand everywhere, in lines that are alike.
        let mut program = String::new();
        while program.len() < 1 << 20 {
            let indent = 4 * (number() % 4) as usize;
            program.extend(std::iter::repeat_n(' ', indent));
            for _ in 0..number() % 6 + 2 {
                let rank = number() % (number() % 600 + 1);
                let word = u64::from(rank).wrapping_mul(0x9E37_79B9_7F4A_7C15);
                program.push_str(&format!("{:x}", word >> (20 + rank % 24)));
                program.push_str([" ", ", ", "(", ") ", " = ", "."][number() as usize % 6]);
            }
            program.push_str([";\n", " {\n", ",\n"][number() as usize % 3]);
        }
        let program = program.as_bytes();
        let mut compressor = Compressor::new();
        let mut out = vec![0; 2 << 20];
        let found = compressor.compress(&rows, &mut out).unwrap();
        assert_eq!(found, by(&mut compressor.fast, &rows));
        let (fast, usual) = (
            by(&mut compressor.fast, program),
            by(&mut compressor.usual, program),
        );
        assert!(usual < fast, "{usual} of {fast}");
        // The next ones are taken to be alike until it is tried again.
        for _ in 1..TRIAL_HOLDS_SEGMENTS {
            assert_eq!(compressor.compress(program, &mut out).unwrap(), fast);
        }
        assert_eq!(compressor.compress(program, &mut out).unwrap(), usual);
    }

    #[test]
    fn text_shrinks_and_noise_is_left_alone() {
        let (mut compressor, mut decompressor) = (Compressor::new(), Decompressor::default());
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
