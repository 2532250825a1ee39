//! Nights of what changes a little, stored as changes: they are small, come back, and what they rest on is looked after.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use lifeboat_codec::{Kind, Profile};
use lifeboat_store::{Listed, MemoryStore, ObjectName, Operation, RecordingStore, Store};

use crate::check::{CheckOptions, CheckReport, ReadData, check};
use crate::commit::Committed;
use crate::copy::copy;
use crate::finding::Severity;
use crate::keys::NewSecret;
use crate::lookup::Lookup;
use crate::place::PackPlace;
use crate::progress::Silent;
use crate::reader::Wanted;
use crate::repository::Repository;
use crate::testing::{
    Files, Hollow, World, backup_beside, backup_by, noise, restore, surroundings,
};

/// Rows of a table: a number that only grows, and what stands beside it.
struct Table {
    rows: BTreeMap<u64, String>,
    next: u64,
    seed: u64,
}

impl Table {
    fn new(count: u64) -> Self {
        let mut table = Self {
            rows: BTreeMap::new(),
            next: 0,
            seed: 0x9E37_79B9_7F4A_7C15,
        };
        table.add(count);
        table
    }

    fn number(&mut self) -> u64 {
        self.seed ^= self.seed << 13;
        self.seed ^= self.seed >> 7;
        self.seed ^= self.seed << 17;
        self.seed
    }

    fn row(&mut self) -> String {
        let words: Vec<String> = (0..self.number() % 5 + 3)
            .map(|_| format!("{:x}", self.number() % 0xFFFF_FFFF))
            .collect();
        words.join("\t")
    }

    fn add(&mut self, count: u64) {
        for _ in 0..count {
            let row = self.row();
            self.rows.insert(self.next, row);
            self.next += 1;
        }
    }

    /// One row of two hundred becomes another, as many of a thousand are deleted and added.
    fn night(&mut self) {
        let count = self.rows.len() as u64;
        for _ in 0..count / 200 {
            let key = self.number() % self.next;
            let row = self.row();
            if let Some(old) = self.rows.get_mut(&key) {
                *old = row;
            }
        }
        for _ in 0..count / 1000 {
            let key = self.number() % self.next;
            self.rows.remove(&key);
        }
        self.add(count / 1000);
    }

    fn text(&self) -> Vec<u8> {
        let rows = self.rows.iter();
        rows.flat_map(|(key, row)| format!("{key}\t{row}\n").into_bytes())
            .collect()
    }

    fn files(&self) -> Files {
        Files::from([("table".to_owned(), self.text())])
    }
}

fn stored(store: &MemoryStore) -> u64 {
    let mut bytes = 0;
    store.list("", &mut |listed| bytes += listed.len).unwrap();
    bytes
}

fn read_whole(store: &MemoryStore, name: &ObjectName) -> Vec<u8> {
    let mut len = 0;
    let mut keep = |listed: Listed| {
        if listed.name == *name {
            len = listed.len as usize;
        }
    };
    store.list("packs/d/", &mut keep).unwrap();
    let mut bytes = vec![0; len];
    store.get_range(name, 0, &mut bytes).unwrap();
    bytes
}

/// Each night with what it holds, and by how much it made the store grow.
struct Nights {
    world: World,
    repository: Repository,
    nights: Vec<(Committed, Files)>,
    growth: Vec<u64>,
}

impl Nights {
    fn none() -> Self {
        let (world, repository) = World::new();
        Self {
            world,
            repository,
            nights: Vec::new(),
            growth: Vec::new(),
        }
    }
}

/// `nights` of a table, of which night `n` rests on `base(n)`.
fn nights(count: usize, profile: Profile, base: impl Fn(usize) -> usize) -> Nights {
    let mut all = Nights::none();
    let mut table = Table::new(60_000);
    for night in 0..count {
        let files = table.files();
        let before = stored(&all.world.store);
        let earlier = (night > 0).then(|| all.nights[base(night)].0.head.clone());
        let committed =
            backup_beside(&mut all.repository, &files, profile, earlier.as_ref()).unwrap();
        all.nights.push((committed, files));
        all.growth.push(stored(&all.world.store) - before);
        table.night();
    }
    all
}

fn heights(repository: &Repository) -> Vec<usize> {
    let mut heights = vec![0; 20];
    let lookup = repository.lookup().unwrap();
    for (pack, _) in lookup.packs() {
        for row in lookup.rows(pack).rows() {
            heights[usize::from(row.height())] += 1;
        }
    }
    heights
}

fn checked(repository: &Repository) -> CheckReport {
    let options = CheckOptions {
        read_data: ReadData::All,
    };
    check(repository, &options, &Silent, &AtomicBool::new(false)).unwrap()
}

#[test]
fn nights_of_a_table_cost_what_changed_and_come_back() {
    for profile in [Profile::Database, Profile::Files] {
        let nights = nights(8, profile, |night| night - 1);
        let (first, later) = nights.growth.split_first().unwrap();
        for growth in later {
            assert!(
                *growth < first / 20,
                "{profile:?}: {growth} of {first} bytes"
            );
        }
        let heights = heights(&nights.repository);
        assert!(heights[7] > 0 && heights[8..] == [0; 12], "{heights:?}");
        for (night, files) in &nights.nights {
            assert_eq!(&restore(&nights.repository, &night.head).unwrap(), files);
        }
        let report = checked(&nights.repository);
        assert!(report.is_clean(), "{:?}", report.findings);
    }
}

/// About half of the chunks stay each night, and lie in another segment than their neighbours from then on. One worker alone:
/// who seals a segment while the place of the one before it is still looked for may not find its own.
#[test]
fn nights_of_which_some_chunks_stay_grow_by_what_changed() {
    let mut all = Nights::none();
    let mut table = Table::new(300_000);
    for _ in 0..5 {
        let files = table.files();
        let before = stored(&all.world.store);
        let earlier = all.nights.last().map(|(night, _)| night.head.clone());
        let (profile, repository) = (Profile::Database, &mut all.repository);
        let committed = backup_by(1, repository, &files, profile, earlier.as_ref()).unwrap();
        all.nights.push((committed, files));
        all.growth.push(stored(&all.world.store) - before);
        // About one row of each chunk.
        for _ in 0..180 {
            let (key, row) = (table.number() % table.next, table.row());
            table.rows.insert(key, row);
        }
    }
    let first = all.growth[1];
    let later = &all.growth[2..];
    assert!(
        later.iter().all(|growth| *growth < first * 2),
        "{:?}",
        all.growth
    );
    for (committed, files) in &all.nights {
        assert!(restore(&all.repository, &committed.head).unwrap() == *files);
    }
}

/// Bytes that `run` reads of data packs.
fn bytes_read(nights: &Nights, run: impl Fn(&Repository)) -> u64 {
    let store = Arc::new(RecordingStore::keeping_calls(nights.world.store.image()));
    let repository = nights.world.open_uncached(&store).unwrap();
    // The index is read now, so that the run reads packs.
    repository.lookup().unwrap();
    let before = store.calls().len();
    run(&repository);
    let calls = store.calls();
    let of_data = calls[before..]
        .iter()
        .filter(|call| call.operation == Operation::GetRange && call.name.starts_with("packs/d/"));
    of_data.map(|call| call.bytes).sum()
}

/// Every chunk.
fn all_wanted(lookup: &Lookup) -> Vec<Wanted> {
    (0..lookup.segment_count())
        .flat_map(|segment| lookup.row(segment).2.chunk_ids().collect::<Vec<_>>())
        .zip(0..)
        .map(|(id, tag)| Wanted { id, tag })
        .collect()
}

#[test]
fn what_others_rest_on_is_opened_before_them_in_whatever_order_it_is_wanted() {
    let nights = nights(7, Profile::Database, |night| night - 1);
    let lookup = nights.repository.lookup().unwrap();
    let mut wanted = all_wanted(&lookup);
    let reader = nights.repository.reader(0).unwrap();
    let data = |segment: &u32| lookup.row(*segment).1.entry.kind == Kind::DataPack;
    for _ in 0..2 {
        let order = reader.segments_in_order(&wanted);
        let mut opened = HashSet::new();
        for segment in order.into_iter().filter(data) {
            for (_, on, _) in lookup.rests_on(segment) {
                assert!(opened.contains(&on), "{segment} rests on {on}");
            }
            opened.insert(segment);
        }
        assert!(opened.len() > 20, "{}", opened.len());
        wanted.reverse();
    }
}

#[test]
fn what_others_rest_on_is_read_once_by_a_restore_and_by_a_check() {
    let nights = nights(7, Profile::Database, |night| night - 1);
    let (last, files) = nights.nights.last().unwrap();
    let mut packs = 0;
    let mut add = |listed: Listed| packs += listed.len;
    nights.world.store.list("packs/d/", &mut add).unwrap();

    let by_restore = bytes_read(&nights, |repository| {
        assert_eq!(&restore(repository, &last.head).unwrap(), files);
    });
    let by_check = bytes_read(&nights, |repository| {
        assert!(checked(repository).is_clean());
    });
    assert!(by_restore < packs + packs / 10, "{by_restore} of {packs}");
    // Fronts and directories are read before.
    assert!(by_check < packs + packs / 4, "{by_check} of {packs}");
}

#[test]
fn rows_that_come_in_another_order_are_found_where_they_were() {
    for profile in [Profile::Database, Profile::Files] {
        let mut all = Nights::none();
        let mut table = Table::new(350_000);
        let first = table.text();
        table.night();
        let mut moved = table.text();
        // Farther than one look around goes, and so that no chunk is as it was.
        moved.rotate_left(5 << 20);
        moved.drain(..1 << 20);
        for (night, text) in [first, moved].into_iter().enumerate() {
            let files = Files::from([("table".to_owned(), text)]);
            let before = stored(&all.world.store);
            let earlier = (night > 0).then(|| all.nights[0].0.head.clone());
            let committed =
                backup_beside(&mut all.repository, &files, profile, earlier.as_ref()).unwrap();
            all.nights.push((committed, files));
            all.growth.push(stored(&all.world.store) - before);
        }
        let (first, next) = (all.growth[0], all.growth[1]);
        assert!(next < first / 2, "{profile:?}: {next} of {first} bytes");
        for (night, files) in &all.nights {
            assert_eq!(&restore(&all.repository, &night.head).unwrap(), files);
        }
    }
}

#[test]
fn the_chain_ends_before_the_formats_limit() {
    let nights = nights(20, Profile::Database, |night| night - 1);
    let heights = heights(&nights.repository);
    assert!(heights[12] > 0 && heights[13..] == [0; 7], "{heights:?}");
    let (night, files) = nights.nights.last().unwrap();
    assert_eq!(&restore(&nights.repository, &night.head).unwrap(), files);
}

#[test]
fn what_others_rest_on_is_missed_where_it_is_lost() {
    let nights = nights(3, Profile::Database, |night| night - 1);
    let (world, files) = (&nights.world, &nights.nights[2].1);
    let mut packs: Vec<ObjectName> = Vec::new();
    world
        .store
        .list("packs/d/", &mut |listed| packs.push(listed.name))
        .unwrap();
    let lookup = nights.repository.lookup().unwrap();
    let below = |pack: &ObjectName| {
        let mut packs = lookup.packs();
        let (number, _) = packs
            .find(|(_, place)| place.name() == pack.as_str())
            .unwrap();
        lookup.rows(number).rows().all(|row| row.height() == 0)
    };
    let first: Vec<&ObjectName> = packs.iter().filter(|pack| below(pack)).collect();
    assert!(!first.is_empty() && first.len() < packs.len(), "{packs:?}");

    // A flipped bit below: every night is hit, and each is told.
    let damaged = Arc::new(world.store.image());
    let mut bytes = read_whole(&damaged, first[0]);
    bytes[5000] ^= 1;
    assert!(damaged.damage(first[0], bytes));
    let repository = world.open_uncached(&damaged).unwrap();
    let report = checked(&repository);
    let hit: Vec<usize> = report
        .findings
        .iter()
        .filter(|finding| finding.severity == Severity::Damage)
        .map(|finding| finding.concerns.snapshots.len())
        .collect();
    assert_eq!(hit.iter().max(), Some(&3), "{:?}", report.findings);
    assert!(restore(&repository, &nights.nights[2].0.head).is_err());

    // Gone: what rests on it counts as gone too, and is written anew.
    let gone = Arc::new(world.store.image());
    first.iter().for_each(|pack| gone.delete(pack).unwrap());
    let mut repository = world.open_uncached(&gone).unwrap();
    assert!(restore(&repository, &nights.nights[2].0.head).is_err());
    let again = backup_beside(&mut repository, files, Profile::Database, None).unwrap();
    let bytes = files["table"].len() as u64;
    assert!(
        again.head.totals.new_bytes >= bytes / 10 * 9,
        "{:?}",
        again.head.totals
    );
    assert_eq!(&restore(&repository, &again.head).unwrap(), files);
}

/// All nights at once, by one worker, which remembers nothing but the text that it put aside.
#[test]
fn what_others_rest_on_is_not_opened_once_more_for_them() {
    let nights = nights(7, Profile::Database, |night| night - 1);
    let lookup = nights.repository.lookup().unwrap();
    let wanted = all_wanted(&lookup);
    let reader = nights.repository.reader(0).unwrap().without_cache();
    let delivered = AtomicUsize::new(0);
    reader.deliver_by(1, &wanted, &AtomicBool::new(false), &|_, chunk| {
        delivered.fetch_add(usize::from(chunk.is_ok()), Ordering::Relaxed);
    });
    assert_eq!(delivered.into_inner(), wanted.len());
    assert_eq!(reader.opened_for_others.into_inner(), 0);
}

#[test]
fn what_waits_in_a_check_for_what_cannot_be_read_is_told() {
    let nights = nights(3, Profile::Database, |night| night - 1);
    let lookup = nights.repository.lookup().unwrap();
    let of_data = |(number, place): &(u32, &PackPlace)| {
        let heights = lookup.rows(*number).rows().map(|row| row.height());
        let highest = heights.max().unwrap();
        (place.entry.kind == Kind::DataPack).then(|| (highest, place.name()))
    };
    let packs: Vec<(u8, String)> = lookup.packs().filter_map(|pack| of_data(&pack)).collect();
    for (_, lowest) in packs.iter().filter(|(height, _)| *height == 0) {
        let name = lowest.parse().unwrap();
        let store = Arc::new(Hollow(nights.world.store.image(), name));
        let report = checked(&nights.world.open_uncached(&store).unwrap());
        let damaged = |pack: &String| {
            let mut findings = report.findings.iter();
            findings.any(|one| one.object == *pack && one.severity == Severity::Damage)
        };
        let above: Vec<_> = packs.iter().filter(|(height, _)| *height > 0).collect();
        assert!(
            above.len() >= 2 && above.iter().all(|(_, pack)| damaged(pack)),
            "{:?}",
            report.findings
        );
    }
}

/// Copies the last night alone into a new replica, which must be whole.
fn replica_of_the_last(nights: &Nights) {
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(MemoryStore::new());
    let created = nights
        .repository
        .create_replica(
            Arc::clone(&store) as Arc<dyn Store>,
            &[NewSecret::KeyFile],
            surroundings(&folder),
        )
        .unwrap();
    let mut replica = created.repository;
    let (last, files) = nights.nights.last().unwrap();
    let list = nights.repository.snapshots().unwrap();
    let mut all = list.snapshots.iter();
    let chosen = [all.find(|one| one.name == last.name).unwrap().clone()];
    let stop = AtomicBool::new(false);
    let report = copy(&nights.repository, &mut replica, &chosen, &Silent, &stop).unwrap();
    assert_eq!(report.copied.len(), 1);
    assert_eq!(&restore(&replica, &last.head).unwrap(), files);
    let report = checked(&replica);
    assert_eq!(report.count(Severity::Damage), 0, "{:?}", report.findings);
}

#[test]
fn a_replica_gets_what_its_snapshots_rest_on() {
    replica_of_the_last(&nights(4, Profile::Database, |night| night - 1));
}

/// A database file, of which each night changes other pages: what a segment rests on was last stored in many older ones.
#[test]
fn a_file_that_changes_in_other_places_each_night_does_not_take_ever_more_to_read() {
    let mut all = Nights::none();
    let mut content = noise(5, 24 << 20);
    let mut draw = Table::new(0);
    for night in 0..12 {
        let files = Files::from([("file.db".to_owned(), content.clone())]);
        let earlier = all.nights.last().map(|(night, _)| night.head.clone());
        let committed = backup_beside(
            &mut all.repository,
            &files,
            Profile::Database,
            earlier.as_ref(),
        )
        .unwrap();
        all.nights.push((committed, files));
        for _ in 0..content.len() / (64 << 10) / 6 {
            let at = draw.number() as usize % (content.len() - 40);
            content[at..at + 40].fill(night);
        }
    }
    let lookup = all.repository.lookup().unwrap();
    let segments = 0..lookup.segment_count();
    let below = segments.map(|segment| lookup.with_bases([segment]).len() - 1);
    let most = below.max().unwrap();
    assert!((6..=32).contains(&most), "{most}");
    // Whatever other requests took from the cache.
    let reader = all.repository.reader(0).unwrap().without_cache();
    for segment in 0..lookup.segment_count() {
        let below = lookup.with_bases([segment]).len() - 1;
        assert!(reader.opened_for(segment) <= below);
    }
    for (night, files) in &all.nights {
        let cold = all.world.open_uncached(&all.world.store).unwrap();
        assert_eq!(&restore(&cold, &night.head).unwrap(), files);
    }
    assert!(checked(&all.repository).is_clean());
    replica_of_the_last(&all);
}

#[test]
fn what_is_alike_nowhere_is_stored_as_it_is() {
    let (world, mut repository) = World::new();
    let files = |seed| Files::from([("noise".to_owned(), noise(seed, 5 << 20))]);
    let first = backup_beside(&mut repository, &files(1), Profile::Files, None).unwrap();
    let head = Some(&first.head);
    let second = backup_beside(&mut repository, &files(2), Profile::Files, head).unwrap();
    assert_eq!(heights(&repository)[1..], [0; 19]);
    assert_eq!(restore(&repository, &second.head).unwrap(), files(2));
    drop(world);
}
