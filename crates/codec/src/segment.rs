//! Segments: several chunks compressed and sealed together (`docs/format.md` §6).
//!
//! Invariants: a segment opens only as what its row says, because the seal binds kind, codec and the ids of its
//! chunks in order; and what was compressed was decoded and compared before it left this file.

use crate::compress::{Compressor, Decompressor};
use crate::envelope::RunKey;
use crate::error::FormatError;
use crate::frame::Kind;
use crate::id::{ChunkId, FamilyId};
use crate::key::{Secret, chunk_id, context};
use crate::record::{Input, put_varint};
use crate::seal::{InOutBuf, NONCE_BYTES, Nonce, SEAL_BYTES, open_in_place, seal_text};

/// Content that a segment aims at, in bytes; a chunk that is as large is a segment alone.
pub const SEGMENT_BYTES: usize = 1 << 20;
/// No segment's content is larger.
pub const CONTENT_MAX: usize = 17 << 20;
/// Content that becomes so many times smaller beside its base need not be tried without one.
const BESIDE_IS_GOOD: usize = 8;
/// How much smaller it must be than without, as a fraction of four: who reads it reads the base too.
const BESIDE_PAYS_QUARTERS: usize = 3;
const WHAT: &str = "a segment";

/// How a segment's content is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Codec {
    /// As it is.
    Raw = 0,
    /// One zstd frame.
    Zstd = 1,
    /// One zstd frame made with a prefix: the base.
    ZstdBase = 2,
}

impl Codec {
    /// The codec with this number.
    ///
    /// # Errors
    /// When there is none.
    pub fn from_number(number: u64) -> Result<Self, FormatError> {
        match number {
            0 => Ok(Self::Raw),
            1 => Ok(Self::Zstd),
            2 => Ok(Self::ZstdBase),
            _ => Err(FormatError::Unsupported("the codec of a segment")),
        }
    }
}

/// What stands behind several chunks and lets them be told apart: their lengths. Nothing behind one chunk.
#[must_use]
pub fn content_tail(lengths: &[u32]) -> Vec<u8> {
    let mut tail = Vec::new();
    if lengths.len() > 1 {
        lengths
            .iter()
            .for_each(|length| put_varint(&mut tail, u64::from(*length)));
        let bytes = u32::try_from(tail.len()).expect("a segment has at most 65,535 chunks");
        tail.extend_from_slice(&bytes.to_le_bytes());
    }
    tail
}

/// The chunks of opened content, in order.
///
/// # Errors
/// When the lengths at the end do not describe the content.
pub fn split_content(content: &[u8], count: usize) -> Result<Vec<&[u8]>, FormatError> {
    if count == 1 {
        return Ok(vec![content]);
    }
    let (rest, tail) = content
        .split_last_chunk::<4>()
        .ok_or(FormatError::Truncated(WHAT))?;
    let lengths_at = rest
        .len()
        .checked_sub(u32::from_le_bytes(*tail) as usize)
        .ok_or(FormatError::Truncated(WHAT))?;
    let (chunks, lengths) = rest
        .split_at_checked(lengths_at)
        .ok_or(FormatError::Truncated(WHAT))?;
    let (mut chunks, mut lengths) = (Input::new(chunks, WHAT), Input::new(lengths, WHAT));
    let mut split = Vec::with_capacity(count.min(lengths.rest().len()));
    for _ in 0..count {
        let length =
            usize::try_from(lengths.varint()?).map_err(|_| FormatError::Truncated(WHAT))?;
        split.push(chunks.take(length)?);
    }
    if chunks.is_empty() && lengths.is_empty() {
        Ok(split)
    } else {
        Err(FormatError::Invalid("a segment's lengths do not add up"))
    }
}

fn associated(family: FamilyId, kind: Kind, codec: Codec, ids: &[u8]) -> Vec<u8> {
    [
        context::SEGMENT.as_bytes(),
        &family.0,
        &[kind as u8, codec as u8],
        blake3::hash(ids).as_bytes(),
    ]
    .concat()
}

/// Makes segments; one for each worker, because it keeps contexts and buffers.
#[derive(Default)]
pub struct SegmentSealer {
    compressor: Compressor,
    decompressor: Decompressor,
    sealed: Vec<u8>,
    decoded: Vec<u8>,
    beside: Vec<u8>,
}

impl SegmentSealer {
    /// Compresses and seals closed `content`, whose chunks have the concatenated `ids`. What it is like may be found in
    /// `base`, a text of chunks that are stored; empty without one. It is used where it pays, which the codec tells.
    ///
    /// # Errors
    /// When the compressed form does not decode to what went in: a fault of memory or of the library, not of the data.
    #[expect(
        clippy::too_many_arguments,
        reason = "a key, what it seals, and what that is bound to"
    )]
    pub fn seal(
        &mut self,
        key: &RunKey,
        family: FamilyId,
        kind: Kind,
        ids: &[u8],
        content: &[u8],
        base: &[u8],
        nonce: Nonce,
    ) -> Result<(Codec, &[u8]), FormatError> {
        if self.sealed.len() < content.len() + SEAL_BYTES {
            self.sealed.resize(content.len() + SEAL_BYTES, 0);
        }
        let room = self
            .sealed
            .get_mut(NONCE_BYTES..NONCE_BYTES + content.len())
            .expect("the buffer was made large enough");
        let (codec, length) = compress(&mut self.compressor, &mut self.beside, content, base, room);
        if codec != Codec::Raw {
            let frame = room.get(..length).expect("the frame lies in the buffer");
            let prefix = if codec == Codec::ZstdBase { base } else { &[] };
            let decoded =
                self.decompressor
                    .decompress(frame, prefix, content.len(), &mut self.decoded)?;
            if self.decoded.get(..decoded) != Some(content) {
                return Err(FormatError::Invalid(
                    "compressed content does not decode to what was compressed",
                ));
            }
        }
        let room = room.get_mut(..length).expect("the text lies in the buffer");
        let text = match codec {
            // What is stored as it is goes from where it lies, without a copy.
            Codec::Raw => InOutBuf::new(content, room).expect("both are as long"),
            Codec::Zstd | Codec::ZstdBase => room.into(),
        };
        // The key is random for this run, the nonce for this segment: the pair cannot repeat.
        let tag = seal_text(
            key.segment(),
            nonce,
            &associated(family, kind, codec, ids),
            text,
        );
        let total = length + SEAL_BYTES;
        let sealed = self
            .sealed
            .get_mut(..total)
            .expect("the buffer was made large enough");
        sealed
            .get_mut(..NONCE_BYTES)
            .expect("a nonce fits")
            .copy_from_slice(&nonce.0);
        sealed
            .get_mut(total - 16..)
            .expect("a tag fits")
            .copy_from_slice(&tag);
        Ok((codec, sealed))
    }
}

/// Compresses `content` to the front of `room`, in the way that becomes smallest; leaves it alone where none is worth it.
fn compress(
    compressor: &mut Compressor,
    beside: &mut Vec<u8>,
    content: &[u8],
    base: &[u8],
    room: &mut [u8],
) -> (Codec, usize) {
    let mut with_base = None;
    if !base.is_empty() {
        beside.resize(content.len() / 2, 0);
        let length = Compressor::compress_beside(base, content, beside);
        with_base = length.and_then(|length| beside.get(..length));
    }
    let good = with_base.filter(|frame| frame.len() <= content.len() / BESIDE_IS_GOOD);
    let plain = match good {
        Some(_) => None,
        None => compressor.compress(content, room),
    };
    let most = plain.unwrap_or(content.len()) / 4 * BESIDE_PAYS_QUARTERS;
    match with_base.filter(|frame| frame.len() <= most) {
        Some(frame) => {
            let into = room.get_mut(..frame.len());
            into.expect("it is shorter than the content")
                .copy_from_slice(frame);
            (Codec::ZstdBase, frame.len())
        }
        None => plain.map_or((Codec::Raw, content.len()), |length| (Codec::Zstd, length)),
    }
}

/// Opens segments; one for each worker.
#[derive(Default)]
pub struct SegmentOpener {
    decompressor: Decompressor,
    content: Vec<u8>,
}

/// What a segment must be: from its row.
#[derive(Clone, Copy, Debug)]
pub struct SegmentPlan<'a> {
    /// The repository's family.
    pub family: FamilyId,
    /// Data or meta pack.
    pub kind: Kind,
    /// How the content is stored.
    pub codec: Codec,
    /// The chunks' ids, concatenated.
    pub ids: &'a [u8],
    /// The prefix's plaintext, for codec 2.
    pub base: &'a [u8],
}

impl SegmentOpener {
    /// Opens a segment where it lies and returns its chunks, each of which has the id that its row names under `id_key`.
    ///
    /// # Errors
    /// When it does not open, does not decode, or holds other chunks.
    pub fn open<'a>(
        &'a mut self,
        key: &RunKey,
        id_key: &Secret,
        plan: &SegmentPlan<'_>,
        sealed: &'a mut [u8],
    ) -> Result<Vec<&'a [u8]>, FormatError> {
        let chunks = self.chunks(key, plan, sealed)?;
        for (chunk, id) in chunks.iter().zip(plan.ids.chunks_exact(ChunkId::LENGTH)) {
            if chunk_id(id_key, chunk).0 != *id {
                return Err(FormatError::Invalid(
                    "a chunk's content does not fit its id",
                ));
            }
        }
        Ok(chunks)
    }

    /// Opens a base into `memory`, which becomes the content: its chunks are what their writer sealed, and whether they are what their ids
    /// say is seen in what rests on them. Returns the content and where in it each chunk ends.
    ///
    /// # Errors
    /// When it does not open or does not decode.
    pub fn open_unproven(
        &mut self,
        memory: Vec<u8>,
        key: &RunKey,
        plan: &SegmentPlan<'_>,
        sealed: &mut [u8],
    ) -> Result<(Vec<u8>, Vec<usize>), FormatError> {
        self.content = memory;
        let mut end = 0;
        let chunks = self.chunks(key, plan, sealed)?;
        let ends = chunks
            .iter()
            .map(|chunk| {
                end += chunk.len();
                end
            })
            .collect();
        let content = if plan.codec == Codec::Raw {
            chunks.concat()
        } else {
            self.content.truncate(end);
            std::mem::take(&mut self.content)
        };
        Ok((content, ends))
    }

    fn chunks<'a>(
        &'a mut self,
        key: &RunKey,
        plan: &SegmentPlan<'_>,
        sealed: &'a mut [u8],
    ) -> Result<Vec<&'a [u8]>, FormatError> {
        let text = open_in_place(
            key.segment(),
            &associated(plan.family, plan.kind, plan.codec, plan.ids),
            sealed,
            WHAT,
        )?;
        let content: &[u8] = if plan.codec == Codec::Raw {
            text
        } else {
            let length =
                self.decompressor
                    .decompress(text, plan.base, CONTENT_MAX, &mut self.content)?;
            self.content
                .get(..length)
                .expect("decompress wrote that much")
        };
        split_content(content, plan.ids.len() / ChunkId::LENGTH)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::envelope::Envelope;
    use crate::key::tests::Counted;
    use crate::key::{Keyring, Recipient};

    #[test]
    fn a_segment_gives_back_its_chunks_and_opens_in_no_other_place() {
        let mut entropy = Counted(0);
        let keyring = Keyring::create(&mut entropy);
        let family = FamilyId([1; 16]);
        let (_, key) = Envelope::create(Recipient::Data, &keyring, family, &mut entropy);
        let domain = keyring.domain(0).unwrap();
        let id_key = domain.key(Recipient::Data).unwrap();
        let mut noise = vec![0; 60_000];
        blake3::Hasher::new().finalize_xof().fill(&mut noise);
        for chunks in [
            vec![b"alone".to_vec()],
            vec![vec![7; 50_000], b"b".to_vec(), vec![8; 9]],
            vec![noise.clone(), noise[1..].to_vec()],
        ] {
            let ids: Vec<u8> = chunks
                .iter()
                .flat_map(|chunk| chunk_id(id_key, chunk).0)
                .collect();
            let lengths: Vec<u32> = chunks.iter().map(|chunk| chunk.len() as u32).collect();
            let content = [chunks.concat(), content_tail(&lengths)].concat();
            let mut sealer = SegmentSealer::default();
            let (codec, sealed) = sealer
                .seal(
                    &key,
                    family,
                    Kind::DataPack,
                    &ids,
                    &content,
                    &[],
                    Nonce([3; 24]),
                )
                .unwrap();
            let plan = SegmentPlan {
                family,
                kind: Kind::DataPack,
                codec,
                ids: &ids,
                base: &[],
            };
            let mut opener = SegmentOpener::default();
            assert_eq!(
                opener
                    .open(&key, id_key, &plan, &mut sealed.to_vec())
                    .unwrap(),
                chunks
            );
            let wrong = [
                SegmentPlan {
                    family: FamilyId([2; 16]),
                    ..plan
                },
                SegmentPlan {
                    kind: Kind::MetaPack,
                    ..plan
                },
                SegmentPlan {
                    codec: if codec == Codec::Raw {
                        Codec::Zstd
                    } else {
                        Codec::Raw
                    },
                    ..plan
                },
                SegmentPlan {
                    ids: &ids[..0],
                    ..plan
                },
            ];
            for wrong in wrong {
                assert!(
                    opener
                        .open(&key, id_key, &wrong, &mut sealed.to_vec())
                        .is_err()
                );
            }
        }
    }

    #[test]
    fn lengths_that_do_not_add_up_are_refused() {
        let mut content = [b"abc".as_slice(), &content_tail(&[1, 2])].concat();
        assert_eq!(
            split_content(&content, 2).unwrap(),
            [b"a".as_slice(), b"bc"]
        );
        assert!(split_content(&content, 3).is_err());
        content[3] = 9;
        assert!(split_content(&content, 2).is_err());
        assert!(split_content(&[0xff; 4], 2).is_err());
        assert!(split_content(&[], 2).is_err());
    }
}
