//! What a table's file has besides entries and rows: of which index objects, which packs, where each block begins.
//!
//! Invariant: what is decoded was summed before, by a holder of the key; still nothing in it makes a reader fail.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use lifeboat_codec::{
    ENVELOPE_BYTES, Envelope, FormatError, Input, Kind, Origin, PackId, WriterId,
};

use super::{BLOCK_BYTES, BLOCK_ENTRIES, Domain, HEAD_BYTES, Object, Start, StoredRows, Sum};
use crate::place::{PackHead, PackPlace};

const WHAT: &str = "a table of chunks";

#[derive(Default)]
pub(super) struct Contents {
    pub(super) objects: Vec<Object>,
    pub(super) domains: Vec<Domain>,
    /// How each block's first id begins.
    pub(super) starts: Vec<Start>,
    pub(super) sums: Vec<Sum>,
    /// Different chunks.
    pub(super) chunks: u64,
    pub(super) packs: Vec<PackPlace>,
    /// Beside the packs.
    pub(super) rows: Vec<StoredRows>,
    pub(super) based: Vec<(u8, u32)>,
    pub(super) hollow: Vec<(u8, u32)>,
}

impl Contents {
    /// Where a block begins in the file.
    pub(super) fn block_at(&self, number: usize) -> u64 {
        // Only a domain's last block is shorter.
        let before = self
            .domains
            .iter()
            .take_while(|domain| domain.first_block + domain.blocks() <= number);
        let short: u64 = before
            .map(|domain| (domain.blocks() * BLOCK_ENTRIES) as u64 - domain.entries)
            .sum();
        HEAD_BYTES as u64 + (number * BLOCK_BYTES) as u64 - short * super::ENTRY_BYTES as u64
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(64 + self.starts.len() * 24 + self.packs.len() * 160);
        put_count(&mut out, self.objects.len());
        for object in &self.objects {
            put_count(&mut out, object.name.len());
            out.extend_from_slice(object.name.as_bytes());
            out.extend_from_slice(&object.author.0);
            out.push(u8::from(object.domain.is_some()));
            out.extend_from_slice(&object.domain.unwrap_or_default().to_le_bytes());
        }
        put_count(&mut out, self.domains.len());
        for domain in &self.domains {
            out.extend_from_slice(&domain.domain.to_le_bytes());
            out.extend_from_slice(&domain.entries.to_le_bytes());
        }
        for start in &self.starts {
            out.extend_from_slice(&start.to_le_bytes());
        }
        out.extend_from_slice(self.sums.as_flattened());
        out.extend_from_slice(&self.chunks.to_le_bytes());
        self.put_packs(&mut out);
        for list in [&self.based, &self.hollow] {
            put_count(&mut out, list.len());
            for (height, segment) in list {
                out.push(*height);
                out.extend_from_slice(&segment.to_le_bytes());
            }
        }
        out
    }

    fn put_packs(&self, out: &mut Vec<u8>) {
        let (mut envelopes, mut numbers) = (Vec::new(), HashMap::new());
        let mut packs = Vec::new();
        put_count(&mut packs, self.packs.len());
        for (pack, rows) in self.packs.iter().zip(&self.rows) {
            let entry = &pack.entry;
            packs.extend_from_slice(&entry.id.0);
            packs.extend_from_slice(&entry.run);
            packs.push(entry.kind as u8);
            packs.extend_from_slice(&entry.object_bytes.to_le_bytes());
            packs.extend_from_slice(&entry.segments_at.to_le_bytes());
            put_count(&mut packs, entry.origins.len());
            for origin in &entry.origins {
                packs.extend_from_slice(&origin.domain.to_le_bytes());
                packs.extend_from_slice(&origin.writer.0);
            }
            put_count(&mut packs, pack.envelopes.len());
            for envelope in &*pack.envelopes {
                let number = envelope.map_or(u32::MAX, |envelope| {
                    *numbers.entry(envelope).or_insert_with(|| {
                        envelopes.push(envelope);
                        envelopes.len() as u32 - 1
                    })
                });
                packs.extend_from_slice(&number.to_le_bytes());
            }
            for number in [
                pack.first_segment,
                pack.segment_count,
                pack.source.0,
                pack.source.1,
                rows.bytes,
            ] {
                packs.extend_from_slice(&number.to_le_bytes());
            }
            packs.extend_from_slice(&rows.at.to_le_bytes());
            packs.extend_from_slice(&rows.sum);
        }
        put_count(out, envelopes.len());
        for envelope in &envelopes {
            out.extend_from_slice(envelope.bytes());
        }
        out.extend_from_slice(&packs);
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut input = Input::new(bytes, WHAT);
        let contents = Self::take(&mut input).ok()?;
        input.is_empty().then_some(contents)
    }

    fn take(input: &mut Input<'_>) -> Result<Self, FormatError> {
        let mut contents = Self::default();
        for _ in 0..input.u32()? {
            let length = input.u32()? as usize;
            let name = String::from_utf8(input.take(length)?.to_vec());
            let name = name.map_err(|_| FormatError::Invalid(WHAT))?;
            let author = WriterId(input.array()?);
            let [has_domain] = input.array()?;
            let domain = input.u32()?;
            contents.objects.push(Object {
                name,
                author,
                domain: (has_domain != 0).then_some(domain),
            });
        }
        let mut blocks = 0;
        for _ in 0..input.u32()? {
            let domain = Domain {
                domain: input.u32()?,
                entries: input.u64()?,
                first_block: blocks,
            };
            blocks += domain.blocks();
            contents.domains.push(domain);
        }
        let starts = input.take(blocks.saturating_mul(size_of::<Start>()))?;
        let (starts, _) = starts.as_chunks();
        contents.starts = starts
            .iter()
            .map(|start| Start::from_le_bytes(*start))
            .collect();
        let sums = input.take(blocks.saturating_mul(size_of::<Sum>()))?;
        contents.sums = sums.as_chunks().0.to_vec();
        contents.chunks = input.u64()?;
        contents.take_packs(input)?;
        for list in [&mut contents.based, &mut contents.hollow] {
            for _ in 0..input.u32()? {
                let [height] = input.array()?;
                list.push((height, input.u32()?));
            }
        }
        Ok(contents)
    }

    fn take_packs(&mut self, input: &mut Input<'_>) -> Result<(), FormatError> {
        let count = input.u32()? as usize;
        let known = input.take(count.saturating_mul(ENVELOPE_BYTES))?;
        let (known, _) = known.as_chunks::<ENVELOPE_BYTES>();
        let known = known
            .iter()
            .map(|bytes| Envelope::decode(&mut Input::new(bytes, WHAT)))
            .collect::<Result<Vec<_>, _>>()?;
        let mut last = (Vec::new(), Arc::from([]));
        for _ in 0..input.u32()? {
            let id = PackId(input.array()?);
            let run = input.array()?;
            let [kind] = input.array()?;
            let kind = Kind::from_number(kind).ok_or(FormatError::Invalid(WHAT))?;
            let (object_bytes, segments_at) = (input.u64()?, input.u64()?);
            let mut origins = Vec::new();
            for _ in 0..input.u32()? {
                origins.push(Origin {
                    domain: input.u32()?,
                    writer: WriterId(input.array()?),
                });
            }
            let mut numbers = Vec::new();
            for _ in 0..input.u32()? {
                numbers.push(input.u32()?);
            }
            if numbers != last.0 {
                let own = numbers.iter().map(|number| known.get(*number as usize));
                last.1 = own.map(|known| known.copied().flatten()).collect();
                last.0 = numbers;
            }
            let entry = PackHead {
                id,
                run,
                kind,
                object_bytes,
                segments_at,
                origins,
            };
            self.packs.push(PackPlace {
                entry,
                envelopes: Arc::clone(&last.1),
                first_segment: input.u32()?,
                segment_count: input.u32()?,
                source: (input.u32()?, input.u32()?),
                rows: OnceLock::new(),
            });
            self.rows.push(StoredRows {
                bytes: input.u32()?,
                at: input.u64()?,
                sum: input.array()?,
            });
        }
        Ok(())
    }
}

fn put_count(out: &mut Vec<u8>, count: usize) {
    let count = u32::try_from(count).expect("a repository has fewer index objects and packs");
    out.extend_from_slice(&count.to_le_bytes());
}
