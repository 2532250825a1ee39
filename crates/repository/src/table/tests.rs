//! Tests of the table: beside a lookup in memory and a model of a few lines, on random index objects; damaged; several
//! processes at once.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::sync::{LazyLock, Mutex};

use lifeboat_codec::{
    Base, Codec, Envelope, FamilyId, Keyring, Kind, Moved, Origin, PackEntry, PackId, Piece,
    Recipient, put_row,
};
use proptest::prelude::*;

use super::*;
use crate::lookup::Lookup;
use crate::surroundings::SystemEntropy;
use crate::testing::noise;

static ENVELOPES: LazyLock<Vec<Envelope>> = LazyLock::new(|| {
    let mut entropy = SystemEntropy::default();
    let keyring = Keyring::create(&mut entropy);
    let mut create =
        |recipient| Envelope::create(recipient, &keyring, FamilyId([1; 16]), &mut entropy).0;
    vec![create(Recipient::Data), create(Recipient::Meta)]
});

/// Numbers that look random and are the same each time.
struct Draw(u64);

impl Draw {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005);
        self.0 = self.0.wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % end
    }
}

/// A segment as the model knows it.
struct Segment {
    pack: u32,
    domain: u32,
    kind: Kind,
    ids: Vec<u8>,
    base: Option<Base>,
}

/// Index objects, and what they say by a model that looks at everything for each question.
#[derive(Default)]
struct World {
    indexes: BTreeMap<String, Index>,
    segments: Vec<Segment>,
    packs: Vec<PackEntry>,
}

fn id(domain: u32, number: usize) -> [u8; 16] {
    let noise = noise(u64::from(domain) << 32 | number as u64, 16);
    noise.try_into().unwrap()
}

impl World {
    fn random(seed: u64, objects: usize, segments: usize) -> Self {
        let mut draw = Draw(seed);
        let mut world = Self::default();
        // What later ones may rest on, some of which are in no pack: domain, kind, ids, height.
        let mut below: Vec<(u32, Kind, Vec<u8>, u8)> = Vec::new();
        for object in 0..objects {
            let mut index = Index {
                envelopes: ENVELOPES.iter().copied().map(Some).collect(),
                ..Index::default()
            };
            for _ in 0..=draw.below(3) {
                if !world.packs.is_empty() && draw.below(6) == 0 {
                    // What another index object says too.
                    let again = draw.below(world.packs.len());
                    index.packs.push(world.packs[again].clone());
                    continue;
                }
                let entry = world.pack(&mut draw, &mut below, segments);
                index.packs.push(entry.clone());
                world.packs.push(entry);
            }
            world.indexes.insert(format!("index/{object:03}"), index);
        }
        world
    }

    fn pack(
        &mut self,
        draw: &mut Draw,
        below: &mut Vec<(u32, Kind, Vec<u8>, u8)>,
        segments: usize,
    ) -> PackEntry {
        let kind = [Kind::DataPack, Kind::MetaPack][draw.below(2)];
        let origins = [draw.below(2) as u32, 7];
        let mut rows = Vec::new();
        for _ in 0..=draw.below(segments) {
            let origin = draw.below(2);
            let domain = origins[origin];
            let (first, count) = (draw.below(150), 1 + draw.below(30));
            let ids: Vec<u8> = (first..first + count)
                .flat_map(|at| id(domain, at))
                .collect();
            let mut fits = below.iter().rev();
            let base = fits
                .find(|(of, in_kind, _, height)| {
                    (*of, *in_kind) == (domain, kind) && *height < 9 && draw.below(3) == 0
                })
                .map(|(_, _, ids, height)| Base {
                    height: height + 1,
                    pieces: vec![Piece::of(ids, 0, (ids.len() / 16) as u16).unwrap()],
                });
            let height = base.as_ref().map_or(0, |base| base.height);
            below.push((domain, kind, ids.clone(), height));
            if draw.below(8) == 0 {
                continue; // It is in no pack.
            }
            let encoded = base.as_ref().map(Base::encode).unwrap_or_default();
            let moved = (origin > 0 || base.is_some()).then_some(Moved {
                envelope: 0,
                origin: origin as u16,
                base: &encoded,
            });
            let codec = if base.is_some() {
                Codec::ZstdBase
            } else {
                Codec::Zstd
            };
            put_row(&mut rows, 41 + draw.below(900) as u64, codec, moved, &ids);
            self.segments.push(Segment {
                pack: self.packs.len() as u32,
                domain,
                kind,
                ids,
                base,
            });
        }
        PackEntry {
            id: PackId(noise(draw.0, 32).try_into().unwrap()),
            run: [3; 8],
            kind,
            object_bytes: 1 << 20,
            segments_at: 100,
            origins: origins
                .map(|domain| Origin {
                    domain,
                    writer: WriterId([9; 16]),
                })
                .to_vec(),
            rows,
            envelopes: vec![0, 1],
        }
    }

    /// The segments that are whole with all that they rest on, when `gone` packs are.
    fn whole(&self, gone: &HashSet<u32>) -> HashSet<u32> {
        let mut order: Vec<usize> = (0..self.segments.len()).collect();
        let height = |at: usize| {
            self.segments[at]
                .base
                .as_ref()
                .map_or(0, |base| base.height)
        };
        order.sort_by_key(|at| height(*at));
        let mut whole: HashSet<u32> = HashSet::new();
        for at in order {
            let segment = &self.segments[at];
            let pieces = segment.base.iter().flat_map(|base| &base.pieces);
            let all = pieces.into_iter().all(|piece| {
                whole.iter().any(|below| {
                    let under = &self.segments[*below as usize];
                    height(*below as usize) < height(at)
                        && (under.domain, under.kind) == (segment.domain, segment.kind)
                        && piece.is_of(&under.ids)
                })
            });
            if all && !gone.contains(&segment.pack) {
                whole.insert(at as u32);
            }
        }
        whole
    }

    /// Every answer of `lookup` is the model's.
    fn expect(&self, lookup: &Lookup, gone: &HashSet<u32>, what: &str) {
        let whole = self.whole(gone);
        let mut chunks = 0;
        for domain in [0, 1, 7, 8] {
            for number in 0..185 {
                let id = ChunkId(id(domain, number));
                let holders: Vec<u32> = (0..)
                    .zip(&self.segments)
                    .filter(|(at, segment)| whole.contains(at) && segment.domain == domain)
                    .filter(|(_, segment)| segment.ids.as_chunks().0.contains(&id.0))
                    .map(|(at, _)| at)
                    .collect();
                chunks += u64::from(!holders.is_empty());
                let found: Vec<u32> = lookup.holders(domain, id).collect();
                assert_eq!(found, holders, "{what}: holders of {id} in {domain}");
                assert_eq!(lookup.find(domain, id), holders.first().copied(), "{what}");
            }
        }
        assert_eq!(lookup.chunk_count(), chunks, "{what}");
        assert_eq!(
            lookup.segment_count() as usize,
            self.segments.len(),
            "{what}"
        );
        let present = (0..self.packs.len() as u32).filter(|pack| !gone.contains(pack));
        let packs = lookup.packs().map(|(pack, place)| {
            assert_eq!(
                place.envelopes[..],
                [Some(ENVELOPES[0]), Some(ENVELOPES[1])]
            );
            assert_eq!(lookup.entry(pack), self.packs[pack as usize], "{what}");
            pack
        });
        assert!(packs.eq(present), "{what}");
        for (at, segment) in (0..).zip(&self.segments) {
            let (place, _, row) = lookup.row(at);
            assert_eq!(
                (place.pack, row.ids, row.base()),
                (segment.pack, &segment.ids[..], segment.base.clone())
            );
            if !gone.contains(&segment.pack) {
                assert_eq!(lookup.is_hollow(at), !whole.contains(&at), "{what}: {at}");
            }
        }
    }

    fn shelf(&self, folder: &Path) -> Shelf {
        let indexes = self.indexes.clone();
        Shelf {
            folder: folder.to_owned(),
            sum_key: [5; 32],
            read_again: Arc::new(move |name| indexes.get(name).cloned()),
        }
    }

    /// The index objects with these numbers behind what `lookup` has.
    fn add(&self, mut lookup: Lookup, objects: std::ops::Range<usize>) -> Lookup {
        for (name, index) in self.indexes.iter().skip(objects.start).take(objects.len()) {
            lookup.begin_object(object(name));
            for (at, entry) in (0..).zip(&index.packs) {
                lookup.add(entry.clone(), at, &index.envelopes).unwrap();
            }
        }
        lookup
    }

    /// A table of everything, made at once.
    fn table(&self, folder: &Path) -> Shelf {
        let shelf = self.shelf(folder);
        let lookup = self.add(Lookup::default(), 0..self.indexes.len());
        assert!(lookup.tabled(&shelf).1);
        shelf
    }
}

fn made(lookup: Lookup, shelf: &Shelf) -> Lookup {
    let (lookup, made) = lookup.tabled(shelf);
    assert!(made);
    lookup
}

fn object(name: &str) -> Object {
    Object {
        name: name.to_owned(),
        author: WriterId([9; 16]),
        domain: Some(name.len() as u32),
    }
}

fn open(shelf: &Shelf) -> Option<Lookup> {
    let all = |known: &Object| *known == object(&known.name);
    Some(Lookup::over(Table::open(shelf, all)?).settle())
}

fn names(folder: &Path) -> Vec<String> {
    let names = fs::read_dir(folder).unwrap();
    let name = |entry: fs::DirEntry| entry.file_name().into_string().unwrap();
    let mut names: Vec<String> = names.map(|entry| name(entry.unwrap())).collect();
    names.sort();
    names
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn a_table_made_in_any_steps_says_what_is_said_in_memory(seed in any::<u64>(), steps in prop::collection::vec(0..4_usize, 9)) {
        let world = World::random(seed, steps.len(), 12);
        let folder = tempfile::tempdir().unwrap();
        let shelf = world.shelf(folder.path());
        let none = HashSet::new();
        let memory = world.add(Lookup::default(), 0..steps.len()).settle();
        world.expect(&memory, &none, "in memory");

        let mut lookup = Lookup::default();
        for (at, step) in steps.iter().enumerate() {
            lookup = world.add(lookup, at..at + 1);
            match step {
                // Into the table, by this process or for the next one.
                0 => lookup = made(lookup, &shelf),
                1 => {
                    drop(made(lookup, &shelf));
                    lookup = Lookup::over(Table::open(&shelf, |_| true).unwrap());
                }
                _ => {}
            }
        }
        world.expect(&lookup.settle(), &none, "in steps");
        world.table(folder.path());
        world.expect(&open(&shelf).unwrap(), &none, "at once");

        let mut draw = Draw(seed);
        let gone: HashSet<u32> = (0..world.packs.len() as u32).filter(|_| draw.below(4) == 0).collect();
        let ids: HashSet<PackId> = gone.iter().map(|pack| world.packs[*pack as usize].id).collect();
        for lookup in [memory, open(&shelf).unwrap()] {
            world.expect(&lookup.without(|entry| ids.contains(&entry.id)), &gone, "without packs");
        }
        prop_assert_eq!(names(folder.path()), ["chunks.table"]);
    }
}

#[test]
fn a_table_with_any_byte_changed_says_the_same_or_nothing() {
    let world = World::random(1, 3, 4);
    let folder = tempfile::tempdir().unwrap();
    let shelf = world.table(folder.path());
    let none = HashSet::new();
    let table = Table::open(&shelf, |_| true).unwrap();
    let blocks = table.contents.domains.iter().map(Domain::blocks);
    assert!(
        blocks.clone().any(|blocks| blocks > 1),
        "{:?}",
        blocks.collect::<Vec<_>>()
    );
    drop(table);
    let path = shelf.path();
    let whole = fs::read(&path).unwrap();
    let mut used = 0;
    for at in 0..whole.len() {
        let mut damaged = whole.clone();
        damaged[at] ^= 1 << (at % 8);
        fs::write(&path, &damaged).unwrap();
        if let Some(lookup) = open(&shelf) {
            world.expect(&lookup, &none, &format!("byte {at}"));
            used += 1;
        }
        assert!(
            !path.exists(),
            "byte {at} is noticed, and the file is made anew"
        );
    }
    assert!(used > whole.len() / 2, "{used} of {}", whole.len());
    for content in [
        &whole[..0],
        b"no table",
        &whole[..64],
        &whole[..whole.len() - 1],
        &[&whole[..], b"x"].concat(),
    ] {
        fs::write(&path, content).unwrap();
        assert!(open(&shelf).is_none() && !path.exists());
    }
}

#[test]
fn a_table_that_is_damaged_while_it_is_open_says_the_same() {
    let world = World::random(2, 6, 12);
    let folder = tempfile::tempdir().unwrap();
    let shelf = world.table(folder.path());
    for cut in [true, false] {
        let shelf = if cut {
            shelf.clone()
        } else {
            world.table(folder.path())
        };
        let lookup = Lookup::over(Table::open(&shelf, |_| true).unwrap());
        let length = fs::metadata(shelf.path()).unwrap().len();
        if cut {
            let file = OpenOptions::new().write(true).open(shelf.path()).unwrap();
            file.set_len(100).unwrap();
        } else {
            let file = OpenOptions::new().write(true).open(shelf.path()).unwrap();
            file.write_all_at(&vec![7; length as usize], 0).unwrap();
        }
        world.expect(&lookup.settle(), &HashSet::new(), "damaged");
        assert!(!shelf.path().exists());
    }
}

#[test]
fn where_the_index_objects_are_gone_too_nothing_false_is_said() {
    let world = World::random(3, 6, 12);
    let folder = tempfile::tempdir().unwrap();
    let mut shelf = world.table(folder.path());
    shelf.read_again = Arc::new(|_| None);
    let table = Table::open(&shelf, |_| true).unwrap();
    let file = OpenOptions::new().write(true).open(shelf.path()).unwrap();
    file.set_len(64).unwrap();
    let lookup = Lookup::over(table).settle();
    assert!((0..185).all(|number| lookup.find(7, ChunkId(id(7, number))).is_none()));
    let (place, pack, row) = lookup.row(0);
    assert!(row.ids.is_empty() && place.sealed_bytes == 0);
    assert!(pack.envelope_of(&row).is_err(), "it opens with an error");
    assert_eq!(lookup.place(0).sealed_bytes, 0);
}

#[test]
fn a_table_of_another_key_or_of_index_objects_that_are_gone_is_not_used() {
    let world = World::random(4, 4, 6);
    let folder = tempfile::tempdir().unwrap();
    let shelf = world.table(folder.path());
    assert!(Table::open(&shelf, |known| known.name != "index/002").is_none());
    assert!(open(&shelf).is_some(), "it stays for whom it is true");
    let bytes = fs::read(shelf.path()).unwrap();
    let mut other = shelf.clone();
    other.sum_key = [6; 32];
    assert!(open(&other).is_none());
    // An older one that somebody put back is as true as it was.
    fs::write(shelf.path(), bytes).unwrap();
    world.expect(&open(&shelf).unwrap(), &HashSet::new(), "put back");
}

#[test]
fn what_killed_processes_left_is_removed_and_what_others_write_is_not() {
    let world = World::random(5, 4, 6);
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("chunks.table.1-0"), "a part").unwrap();
    let at_work = folder.path().join("chunks.table.2-0");
    fs::write(&at_work, "a part").unwrap();
    let lock = File::open(&at_work).unwrap();
    lock.try_lock().unwrap();
    world.table(folder.path());
    assert_eq!(names(folder.path()), ["chunks.table", "chunks.table.2-0"]);
    drop(lock);
    world.table(folder.path());
    assert_eq!(names(folder.path()), ["chunks.table"]);
}

#[test]
fn of_several_that_make_a_table_at_once_each_has_all_and_one_file_stays() {
    let world = World::random(6, 6, 12);
    let folder = tempfile::tempdir().unwrap();
    let shelf = world.shelf(folder.path());
    let made = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let lookup = world.add(Lookup::default(), 0..world.indexes.len());
                // Where another one takes its file for one that was left, it goes on without.
                let (lookup, _) = lookup.tabled(&shelf);
                made.lock().unwrap().push(lookup.settle());
            });
        }
    });
    let none = HashSet::new();
    for lookup in made.into_inner().unwrap() {
        world.expect(&lookup, &none, "at once");
    }
    world.expect(&open(&shelf).unwrap(), &none, "afterwards");
    assert_eq!(names(folder.path()), ["chunks.table"]);
}
