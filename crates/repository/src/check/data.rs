//! Reading packs whole: every byte once through the hash, every segment opened where it lies.
//!
//! One pass: a window of whole segments is fetched into a buffer that is used again and again, hashed while it is as it
//! was written, then opened in place, by whichever cores have nothing else to do. The buffer holds 2 MiB, or the one segment
//! that is larger. What rests on others waits until these were opened.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard};

use lifeboat_codec::{
    ChunkId, Codec, Damage, DomainKeys, FormatError, Row, SegmentOpener, SegmentPlan, parse_name,
    recipient_of,
};
use rayon::prelude::*;

use super::Check;
use super::packs::{Pack, Packs};
use super::reach::Reach;
use super::waiting::{Waiting, turns};
use crate::lookup::Lookup;
use crate::parallel;
use crate::progress::Counter;
use crate::reader::{Aside, Reader, Text};
use crate::repository::ReadError;
use crate::snapshots::sentence;
use crate::verify::{Scan, examine, fetch};

/// Bytes that are fetched at once.
const WINDOW_BYTES: u64 = 2 << 20;

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
    /// How long the chunks of each segment are.
    lengths: Vec<(u32, Box<[u32]>)>,
    /// Chunks that are not as long as the snapshots say.
    pub(super) wrong_length: Vec<ChunkId>,
    /// Segments that wait for others.
    waiting: usize,
    /// True when every segment was tried, so that those that are not broken are whole.
    pub(super) tried: bool,
}

impl PackRead {
    /// Adds what one segment showed.
    fn add(&mut self, segment: Self) {
        self.broken.extend(segment.broken);
        self.closed += segment.closed;
        self.tried &= self.closed == 0;
        self.lengths.extend(segment.lengths);
    }

    /// Holds the lengths of chunks against what the snapshots say.
    pub(super) fn hold_against(&mut self, reach: &Reach<'_>, lookup: &Lookup) {
        for (segment, lengths) in std::mem::take(&mut self.lengths) {
            let (_, pack, row) = lookup.row(segment);
            let Some(needed) = reach.needed.get(&pack.domain_of(&row)) else {
                continue;
            };
            let wrong = row.chunk_ids().zip(lengths).filter(|(id, length)| {
                let needed = needed.get(id);
                needed.is_some_and(|needed| needed != length)
            });
            self.wrong_length.extend(wrong.map(|(id, _)| id));
        }
    }
}

/// What all threads share.
struct Shared<'c> {
    check: &'c Check<'c>,
    packs: &'c Packs,
    /// Read what segments rest on, by domain.
    readers: Mutex<HashMap<u32, Arc<Reader<'c>>>>,
    aside: Aside,
    waiting: Waiting,
    /// What segments showed that were opened after their packs had been read, by pack.
    late: Mutex<Vec<(usize, PackRead)>>,
    /// What nobody opens segments with at the moment.
    tools: Mutex<Vec<Tools>>,
}

/// What segments are opened with.
#[derive(Default)]
struct Tools {
    opener: SegmentOpener,
    keys: Option<DomainKeys>,
}

impl Shared<'_> {
    fn tools(&self) -> MutexGuard<'_, Vec<Tools>> {
        self.tools.lock().expect("no thread panics with tools")
    }

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
        reader.base_text(segment, &self.aside)
    }
}

impl Check<'_> {
    /// Reads the packs with these numbers.
    pub(super) fn read_packs(&self, chosen: &[usize], packs: &Packs) -> Vec<(usize, PackRead)> {
        let (order, aside) = turns(chosen, packs);
        self.progress.expect(
            Counter::Bytes,
            order.iter().map(|number| packs.packs[*number].bytes).sum(),
        );
        let results = Mutex::new(Vec::new());
        let shared = Shared {
            check: self,
            packs,
            readers: Mutex::default(),
            waiting: Waiting::new(&aside),
            aside,
            late: Mutex::default(),
            tools: Mutex::default(),
        };
        parallel::for_each(
            &order,
            self.threads,
            self.stop,
            |window: &mut Vec<u8>, number| {
                let read = self.read_pack(&packs.packs[*number], &shared, window);
                if !self.stop.load(Ordering::Relaxed) {
                    results
                        .lock()
                        .expect("no thread panics with a pack")
                        .push((*number, read));
                }
            },
        );
        // What they rest on was in a pack that could not be read as a whole.
        let rest = shared.waiting.rest();
        parallel::for_each(
            &rest,
            self.threads,
            self.stop,
            |(): &mut (), (segment, sealed)| self.late(*segment, &mut sealed.clone(), &shared),
        );
        let late = shared
            .late
            .into_inner()
            .expect("no thread panics with a segment");
        let mut results = results.into_inner().expect("no thread panics with a pack");
        results.sort_by_key(|(number, _)| *number);
        for (number, segment) in late {
            if let Ok(place) = results.binary_search_by_key(&number, |(number, _)| *number) {
                results[place].1.add(segment);
                results[place].1.waiting -= 1;
            }
        }
        for (_, read) in &mut results {
            read.tried &= read.waiting == 0;
        }
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

    fn read_pack(&self, pack: &Pack, shared: &Shared<'_>, window: &mut Vec<u8>) -> PackRead {
        let mut read = PackRead::default();
        let Some(scan) = Scan::begin(pack.bytes) else {
            read.damage.push(Damage::Footer);
            return read;
        };
        if let Err(error) = self.pass(pack, shared, scan, window, &mut read) {
            read.other = Some(format!("cannot be read: {error}"));
        }
        read
    }

    fn pass(
        &self,
        pack: &Pack,
        shared: &Shared<'_>,
        mut scan: Scan,
        buffer: &mut Vec<u8>,
        read: &mut PackRead,
    ) -> Result<(), lifeboat_store::Error> {
        let store = self.repository.store();
        if let Some((place, first_segment)) = pack.place {
            let rows: Vec<Row<'_>> = shared.packs.lookup.rows(place).rows().collect();
            let place = shared.packs.lookup.pack(place);
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
                let window = fetch(store, &pack.name, start, end - start, buffer)?;
                scan.update(window);
                let before = place.entry.segments_at + batch[0].offset - start;
                let mut window = &mut window[before as usize..];
                let (mut lowest, mut others) = (Vec::with_capacity(batch.len()), Vec::new());
                for (segment, row) in (first_segment + next as u32..).zip(batch) {
                    let (sealed, behind) = window.split_at_mut(row.sealed_bytes as usize);
                    window = behind;
                    if row.height() == 0 {
                        lowest.push((segment, sealed));
                    } else if shared.waiting.keep(segment, sealed) {
                        read.waiting += 1;
                    } else {
                        others.push((segment, sealed));
                    }
                }
                let segments: Vec<u32> = lowest.iter().map(|(segment, _)| *segment).collect();
                let opened: Vec<PackRead> = lowest
                    .into_par_iter()
                    .map(|(segment, sealed)| self.segment(segment, sealed, shared))
                    .collect();
                opened.into_iter().for_each(|segment| read.add(segment));
                // Not by whoever computes: what rests on others may have to wait for the store.
                segments
                    .into_iter()
                    .for_each(|segment| self.opened(segment, shared));
                for (segment, sealed) in others {
                    read.add(self.segment(segment, sealed, shared));
                    self.opened(segment, shared);
                }
                self.progress.count(Counter::Bytes, end - start);
                next += more;
            }
            read.tried = next == rows.len() && read.closed == 0;
        }
        self.rest(pack, scan, buffer, read)
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

    /// Opens what waited for `segment`, and what waited for that.
    fn opened(&self, segment: u32, shared: &Shared<'_>) {
        let mut ready = shared.waiting.opened(segment, &shared.aside);
        while let Some((above, mut sealed)) = ready.pop() {
            if self.stop.load(Ordering::Relaxed) {
                return;
            }
            self.late(above, &mut sealed, shared);
            ready.extend(shared.waiting.opened(above, &shared.aside));
        }
    }

    /// Opens a segment that waited.
    fn late(&self, segment: u32, sealed: &mut [u8], shared: &Shared<'_>) {
        let read = self.segment(segment, sealed, shared);
        shared
            .late
            .lock()
            .expect("no thread panics with a segment")
            .push((shared.packs.owner(segment), read));
    }

    fn segment(&self, segment: u32, sealed: &mut [u8], shared: &Shared<'_>) -> PackRead {
        let mut read = PackRead::default();
        let (_, place, row) = shared.packs.lookup.row(segment);
        let domain = place.domain_of(&row);
        // A copy takes whole packs along, not all that their segments rest on. What is needed of it is told as missing.
        if shared.packs.lookup.is_hollow(segment) {
            return read;
        }
        let base = if row.codec == Codec::ZstdBase {
            shared.text(domain, segment)
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
                return read;
            }
            Err(error) => {
                let what = format!("what it rests on cannot be read: {}", sentence(&error));
                read.broken.push((segment, what));
                return read;
            }
        };
        let mut tools = shared.tools().pop().unwrap_or_default();
        let mut open = || -> Result<(), FormatError> {
            let key = self.repository.run_key(place.envelope_of(&row)?)?;
            if tools.keys.as_ref().is_none_or(|keys| keys.domain != domain) {
                tools.keys = Some(self.repository.keyring.domain(domain)?);
            }
            let keys = tools.keys.as_ref().expect("the keys were just made");
            let id_key = keys.key(recipient_of(place.entry.kind))?;
            let plan = SegmentPlan {
                family: self.repository.family(),
                kind: place.entry.kind,
                codec: row.codec,
                ids: row.ids,
                base: base.text(),
            };
            let chunks = tools.opener.open(&key, id_key, &plan, sealed)?;
            shared.aside.put(segment, &chunks);
            let lengths = chunks.iter().map(|chunk| chunk.len() as u32).collect();
            read.lengths.push((segment, lengths));
            Ok(())
        };
        let opened = open();
        shared.tools().push(tools);
        match opened {
            Ok(()) => {}
            Err(FormatError::NoKey(_)) => read.closed += 1,
            Err(error) => read.broken.push((segment, error.to_string())),
        }
        read
    }
}
