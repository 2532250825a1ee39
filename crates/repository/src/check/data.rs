//! Reading packs whole: every byte once through the hash, every segment opened where it lies.
//!
//! One pass: a window of whole segments is fetched into a buffer that is used again and again, hashed while it is as it
//! was written, then opened in place. The buffer holds 4 MiB, or the one segment that is larger.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use lifeboat_codec::{
    ChunkId, Codec, Damage, DomainKeys, FormatError, Row, SegmentOpener, SegmentPlan, parse_name,
    recipient_of,
};

use super::Check;
use super::packs::{Pack, Packs};
use super::reach::Reach;
use crate::parallel;
use crate::place::PackPlace;
use crate::progress::Counter;
use crate::reader::{Reader, Text};
use crate::repository::ReadError;
use crate::snapshots::sentence;
use crate::verify::{Scan, examine, fetch};

/// Bytes that are fetched at once.
const WINDOW_BYTES: u64 = 4 << 20;

/// What reading one pack showed.
#[derive(Default)]
pub(super) struct PackRead {
    /// Parts that are not what was written.
    pub(super) damage: Vec<Damage>,
    /// What else is wrong with the object: a fragment of a sentence.
    pub(super) other: Option<String>,
    /// Segments that do not open, by number in the lookup.
    pub(super) broken: Vec<(u32, String)>,
    /// Segments that this key cannot open.
    pub(super) closed: u64,
    /// Chunks that are not as long as the snapshots say.
    pub(super) wrong_length: Vec<ChunkId>,
    /// True when every segment was tried, so that those that are not broken are whole.
    pub(super) tried: bool,
}

/// Reads what segments rest on, for all threads.
struct Below<'c> {
    check: &'c Check<'c>,
    packs: &'c Packs,
    readers: Mutex<HashMap<u32, Arc<Reader<'c>>>>,
}

impl Below<'_> {
    fn text(&self, domain: u32, segment: u32) -> Result<Text, ReadError> {
        let reader = {
            let mut readers = self
                .readers
                .lock()
                .expect("no thread panics while it makes a reader");
            match readers.get(&domain) {
                Some(reader) => Arc::clone(reader),
                None => {
                    let lookup = Arc::clone(&self.packs.lookup);
                    let reader = self.check.repository.reader_over(lookup, domain)?;
                    let reader = Arc::new(reader.sparing());
                    readers.insert(domain, Arc::clone(&reader));
                    reader
                }
            }
        };
        reader.base_text(segment)
    }
}

/// What one thread keeps from pack to pack.
#[derive(Default)]
struct Hand {
    window: Vec<u8>,
    opener: SegmentOpener,
    keys: Option<DomainKeys>,
}

impl Check<'_> {
    /// Reads the packs with these numbers.
    pub(super) fn read_packs(
        &self,
        chosen: &[usize],
        packs: &Packs,
        reach: &Reach<'_>,
    ) -> Vec<(usize, PackRead)> {
        let mut order = chosen.to_vec();
        order.sort_by_key(|number| std::cmp::Reverse(packs.packs[*number].bytes));
        self.progress.expect(
            Counter::Bytes,
            order.iter().map(|number| packs.packs[*number].bytes).sum(),
        );
        let results = Mutex::new(Vec::new());
        let below = Below {
            check: self,
            packs,
            readers: Mutex::default(),
        };
        parallel::for_each(
            &order,
            self.threads,
            self.stop,
            |hand: &mut Hand, number| {
                let read = self.read_pack(&packs.packs[*number], &below, reach, hand);
                if !self.stop.load(Ordering::Relaxed) {
                    results
                        .lock()
                        .expect("no thread panics with a pack")
                        .push((*number, read));
                }
            },
        );
        let mut results = results.into_inner().expect("no thread panics with a pack");
        results.sort_by_key(|(number, _)| *number);
        results
    }

    /// Locates the damage in packs of which a part could not be read, without opening anything.
    pub(super) fn examine_packs(&self, chosen: &[usize], packs: &Packs) -> Vec<(usize, PackRead)> {
        let results = Mutex::new(Vec::new());
        parallel::for_each(
            chosen,
            self.threads,
            self.stop,
            |window: &mut Vec<u8>, number| {
                let pack = &packs.packs[*number];
                let parsed = parse_name(pack.name.as_str())
                    .expect("only names of packs are among the packs");
                let mut read = PackRead::default();
                match examine(
                    self.repository.store(),
                    &pack.name,
                    pack.bytes,
                    &parsed,
                    window,
                    &mut |_| {},
                ) {
                    Ok(examined) => read.damage = examined.damage,
                    Err(error) => read.other = Some(format!("cannot be read: {error}")),
                }
                results
                    .lock()
                    .expect("no thread panics with a pack")
                    .push((*number, read));
            },
        );
        results.into_inner().expect("no thread panics with a pack")
    }

    fn read_pack(
        &self,
        pack: &Pack,
        below: &Below<'_>,
        reach: &Reach<'_>,
        hand: &mut Hand,
    ) -> PackRead {
        let mut read = PackRead::default();
        let Some(scan) = Scan::begin(pack.bytes) else {
            read.damage.push(Damage::Footer);
            return read;
        };
        if let Err(error) = self.pass(pack, below, reach, scan, hand, &mut read) {
            read.other = Some(format!("cannot be read: {error}"));
        }
        read
    }

    fn pass(
        &self,
        pack: &Pack,
        below: &Below<'_>,
        reach: &Reach<'_>,
        mut scan: Scan,
        hand: &mut Hand,
        read: &mut PackRead,
    ) -> Result<(), lifeboat_store::Error> {
        let store = self.repository.store();
        if let Some((place, first_segment)) = pack.place {
            let rows: Vec<Row<'_>> = below.packs.lookup.rows(place).rows().collect();
            let place = below.packs.lookup.pack(place);
            let ends = |row: &Row<'_>| place.entry.segments_at + row.offset + row.sealed_bytes;
            let mut next = 0;
            while next < rows.len() && !self.stop.load(Ordering::Relaxed) {
                let start = scan.position();
                let more = rows[next..]
                    .iter()
                    .take_while(|row| ends(row) - start <= WINDOW_BYTES)
                    .count()
                    .max(1);
                let batch = &rows[next..next + more];
                let end = batch.last().map_or(start, ends);
                if end > scan.body_end() {
                    break;
                }
                let window = fetch(store, &pack.name, start, end - start, &mut hand.window)?;
                scan.update(window);
                for (number, row) in batch.iter().enumerate() {
                    let at = (place.entry.segments_at + row.offset - start) as usize;
                    let sealed = &mut window[at..at + row.sealed_bytes as usize];
                    let segment = first_segment + (next + number) as u32;
                    self.segment(
                        place,
                        row,
                        segment,
                        sealed,
                        below,
                        reach,
                        (&mut hand.opener, &mut hand.keys),
                        read,
                    );
                }
                self.progress.count(Counter::Bytes, end - start);
                next += more;
            }
            read.tried = next == rows.len() && read.closed == 0;
        }
        self.rest(pack, scan, &mut hand.window, read)
    }

    /// Padding, directory, table, footer and hash.
    fn rest(
        &self,
        pack: &Pack,
        mut scan: Scan,
        window: &mut Vec<u8>,
        read: &mut PackRead,
    ) -> Result<(), lifeboat_store::Error> {
        let store = self.repository.store();
        let mut area_hash = None;
        while scan.position() < scan.body_end() {
            if self.stop.load(Ordering::Relaxed) {
                return Ok(());
            }
            let at = scan.position();
            // Seen before the directory and not after the padding, because there may be none.
            if pack.area.is_some_and(|area| area.bytes == at) {
                area_hash = Some(scan.hash());
            }
            let border = pack.area.map_or(scan.body_end(), |area| {
                if at < area.bytes {
                    area.bytes
                } else {
                    scan.body_end()
                }
            });
            let bytes = fetch(
                store,
                &pack.name,
                at,
                (border - at).min(WINDOW_BYTES),
                window,
            )?;
            scan.update(bytes);
            self.progress.count(Counter::Bytes, bytes.len() as u64);
        }
        let tail = fetch(
            store,
            &pack.name,
            scan.body_end(),
            pack.bytes - scan.body_end(),
            window,
        )?;
        self.progress.count(Counter::Bytes, tail.len() as u64);
        read.damage = scan.finish(tail, Some(lifeboat_codec::ObjectHash(pack.id.0)));
        if read.damage.is_empty() && pack.area.is_some_and(|area| Some(area.hash) != area_hash) {
            read.other = Some("has a directory that was written for other content".to_owned());
        }
        Ok(())
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "a segment, what it must be, and what opens it"
    )]
    fn segment(
        &self,
        place: &PackPlace,
        row: &Row<'_>,
        segment: u32,
        sealed: &mut [u8],
        below: &Below<'_>,
        reach: &Reach<'_>,
        (opener, keys): (&mut SegmentOpener, &mut Option<DomainKeys>),
        read: &mut PackRead,
    ) {
        let domain = place
            .entry
            .origins
            .get(usize::from(row.origin()))
            .map_or(0, |origin| origin.domain);
        // A copy takes whole packs along, not all that their segments rest on. What is needed of it is told as missing.
        if below.packs.lookup.is_hollow(segment) {
            return;
        }
        let base = if row.codec == Codec::ZstdBase {
            below.text(domain, segment)
        } else {
            Ok(Text::default())
        };
        let base = match base {
            Ok(base) => base,
            Err(ReadError::Format {
                source: FormatError::NoKey(_),
                ..
            }) => {
                read.closed += 1;
                return;
            }
            Err(error) => {
                let what = format!("what it rests on cannot be read: {}", sentence(&error));
                read.broken.push((segment, what));
                return;
            }
        };
        let mut open = || -> Result<(), FormatError> {
            let key = self.repository.run_key(place.envelope_of(row)?)?;
            if keys.as_ref().is_none_or(|keys| keys.domain != domain) {
                *keys = Some(self.repository.keyring.domain(domain)?);
            }
            let keys = keys.as_ref().expect("the keys were just made");
            let id_key = keys.key(recipient_of(place.entry.kind))?;
            let plan = SegmentPlan {
                family: self.repository.family(),
                kind: place.entry.kind,
                codec: row.codec,
                ids: row.ids,
                base: base.text(),
            };
            let chunks = opener.open(&key, id_key, &plan, sealed)?;
            if let Some(needed) = reach.needed.get(&domain) {
                let lengths = row.chunk_ids().zip(chunks.iter().map(|chunk| chunk.len()));
                read.wrong_length.extend(
                    lengths
                        .filter(|(id, length)| {
                            needed
                                .get(id)
                                .is_some_and(|needed| *needed as usize != *length)
                        })
                        .map(|(id, _)| id),
                );
            }
            Ok(())
        };
        match open() {
            Ok(()) => {}
            Err(FormatError::NoKey(_)) => read.closed += 1,
            Err(error) => read.broken.push((segment, error.to_string())),
        }
    }
}
