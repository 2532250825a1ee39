//! Bundles of every sort, hostile ones too, come back byte for byte.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;

use flate2::Compression;
use flate2::write::{DeflateEncoder, GzEncoder};
use lifeboat_codec::{Coding, Content, Entry, EntryKind};
use lifeboat_repository::{Contents, Draft, Repository, Silent, Writer};

use super::corrections::{Heads, put_head};
use super::deflate::{PACKED_BYTES, Packer, Unpacker};
use super::*;
use crate::entry::part_content;
use crate::source::on_lane;
use crate::testing::memory_repository;

/// Bytes that no packer makes smaller, the same for the same seed.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// Rows as a dump has them.
fn rows(seed: u64, length: usize) -> Vec<u8> {
    let mut text = Vec::with_capacity(length + 100);
    let mut number = seed;
    while text.len() < length {
        number = number
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        let word = ["new", "paid", "sent", "done"][(number >> 40) as usize % 4];
        let line = format!(
            "{}\t{word}\t2024-0{}\t{:x}\n",
            text.len(),
            number >> 60,
            number >> 33
        );
        text.extend_from_slice(line.as_bytes());
    }
    text.truncate(length);
    text
}

fn gzip(text: &[u8], level: u32) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::new(level));
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

fn deflated(text: &[u8]) -> Vec<u8> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

/// What the program of the system makes of a text; its absence is a failure, because a test that is left out proves nothing.
fn by_program(program: &[&str], text: &[u8]) -> Vec<u8> {
    let mut child = Command::new(program[0])
        .args(&program[1..])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    let text = text.to_vec();
    let writing = std::thread::spawn(move || input.write_all(&text));
    let mut out = Vec::new();
    child.stdout.take().unwrap().read_to_end(&mut out).unwrap();
    writing.join().unwrap().unwrap();
    assert!(child.wait().unwrap().success());
    out
}

/// How a deflate stream of a zip's member is said to be.
#[derive(Clone, Copy, Default)]
struct Say {
    method: u16,
    flags: u16,
    is_zip64: bool,
}

/// A zip as programs write them.
fn zip(members: &[(&str, &[u8], Say)]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut directory = Vec::new();
    for (name, text, say) in members {
        let packed = if say.method == 8 {
            deflated(text)
        } else {
            text.to_vec()
        };
        let has_descriptor = say.flags & 8 != 0;
        let lengths = [packed.len() as u64, text.len() as u64];
        let mut head = Vec::new();
        head.extend_from_slice(b"PK\x03\x04");
        for number in [45, say.flags, say.method, 0, 0] {
            head.extend_from_slice(&number.to_le_bytes());
        }
        head.extend_from_slice(&0x1234_5678_u32.to_le_bytes());
        for length in lengths {
            let length = match (has_descriptor, say.is_zip64) {
                (true, _) => 0,
                (_, true) => u32::MAX,
                _ => length as u32,
            };
            head.extend_from_slice(&length.to_le_bytes());
        }
        head.extend_from_slice(&(name.len() as u16).to_le_bytes());
        let mut extra = Vec::new();
        if say.is_zip64 {
            extra.extend_from_slice(&[1, 0, 16, 0]);
            extra.extend_from_slice(&lengths[1].to_le_bytes());
            extra.extend_from_slice(&lengths[0].to_le_bytes());
        }
        head.extend_from_slice(&(extra.len() as u16).to_le_bytes());
        head.extend_from_slice(name.as_bytes());
        head.extend_from_slice(&extra);
        out.extend_from_slice(&head);
        out.extend_from_slice(&packed);
        if has_descriptor {
            out.extend_from_slice(b"PK\x07\x08\x78\x56\x34\x12");
            for length in lengths {
                out.extend_from_slice(&(length as u32).to_le_bytes());
            }
        }
        directory.extend_from_slice(b"PK\x01\x02");
        directory.extend_from_slice(&head[4..]);
    }
    out.extend_from_slice(&directory);
    out.extend_from_slice(b"PK\x05\x06");
    out.extend_from_slice(&[0; 18]);
    out
}

/// A tar of these files.
fn tar(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, content) in files {
        let mut header = [0_u8; 512];
        header[..name.len()].copy_from_slice(name.as_bytes());
        header[100..108].copy_from_slice(b"0000644\0");
        header[124..136].copy_from_slice(format!("{:011o}\0", content.len()).as_bytes());
        header[136..148].copy_from_slice(b"14000000000\0");
        header[156] = b'0';
        header[257..265].copy_from_slice(b"ustar\x0000");
        header[148..156].fill(b' ');
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        out.extend_from_slice(&header);
        out.extend_from_slice(content);
        out.resize(out.len().next_multiple_of(512), 0);
    }
    out.resize(out.len() + 1024, 0);
    out
}

/// A source that gives a few bytes at a time, as a pipe does.
struct Dripping<'b>(&'b [u8], usize);

impl Read for Dripping<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.0.len().min(buffer.len()).min(self.1);
        buffer[..count].copy_from_slice(&self.0[..count]);
        self.0 = &self.0[count..];
        Ok(count)
    }
}

/// What a bundle is made of: for each part its coding, the bytes of its content, and whether that is a bundle.
type Seen = Vec<(Coding, u64, bool)>;

/// How one file was stored.
struct Back {
    stored: Stored,
    seen: Seen,
    new_bytes: u64,
}

/// Stores files one after the other, takes each back, and compares.
fn round_trip(repository: &mut Repository, files: &[&[u8]]) -> Vec<Back> {
    let result = Mutex::new(Vec::new());
    let write = |writer: &Writer<'_>| -> Result<Contents, WriteError> {
        let root = on_lane(writer, 1, |lane| -> Result<_, WriteError> {
            for file in files {
                let before = writer.added().new_bytes;
                let bundles = Bundles::new(true);
                let mut source = Dripping(file, 100_000);
                let (stored, length) =
                    put_content(lane, Profile::Files, &bundles, (None, None), &mut source)?;
                assert_eq!(length, file.len() as u64);
                let new_bytes = writer.added().new_bytes - before;
                result.lock().unwrap().push((stored, new_bytes));
            }
            let mut tree = Vec::new();
            let stored = result.lock().unwrap();
            for (number, (file, (stored, _))) in files.iter().zip(stored.iter()).enumerate() {
                let name = format!("{number:04}");
                let entry = Entry {
                    size: file.len() as u64,
                    content: stored.content(),
                    ..Entry::new(EntryKind::File, name.as_bytes())
                };
                lifeboat_codec::put_entry(&mut tree, &entry, &mut Vec::new());
            }
            let manifest = lane.put_meta(&lifeboat_codec::Manifest::default().encode())?;
            Ok((lane.put_meta(&tree)?, manifest))
        })?;
        Ok(Contents {
            root: root.0,
            manifest: root.1,
            files: 0,
            bytes: 0,
            unreadable: 0,
        })
    };
    let draft = Draft {
        app: "shop".to_owned(),
        ..Draft::default()
    };
    let stop = AtomicBool::new(false);
    let committed = repository.backup(&draft, &Silent, &stop, write).unwrap();
    let reader = repository.reader(committed.head.domain).unwrap();
    let stored = result.into_inner().unwrap().into_iter();
    let back = stored.zip(files).map(|((stored, new_bytes), file)| {
        let entry = Entry {
            size: file.len() as u64,
            content: stored.content(),
            ..Entry::new(EntryKind::File, b"x")
        };
        let content = part_content(&entry).unwrap();
        let mut out = Vec::new();
        copy_content(&reader, &content, &mut out).unwrap();
        assert!(out == *file, "{} bytes of {}", out.len(), file.len());
        let mut seen = Seen::new();
        if let Content::Bundle(reference) = stored.content() {
            let parts = lifeboat_codec::StreamRef::decode(reference).unwrap();
            let mut tree = reader.tree(&parts).unwrap();
            while let Some(entry) = tree.next_entry().unwrap() {
                let is_bundle = matches!(entry.content, Content::Bundle(_));
                seen.push((entry.part.unwrap().coding, entry.size, is_bundle));
            }
        }
        Back {
            stored,
            seen,
            new_bytes,
        }
    });
    let back = back.collect();
    let report = lifeboat_repository::check(
        repository,
        &lifeboat_repository::CheckOptions {
            read_data: lifeboat_repository::ReadData::All,
        },
        &Silent,
        &stop,
    );
    let report = report.unwrap();
    assert!(report.is_clean(), "{:?}", report.findings);
    back
}

fn one(bytes: &[u8]) -> Back {
    let (_scratch, mut repository) = memory_repository();
    round_trip(&mut repository, &[bytes]).remove(0)
}

/// The bytes of text that were stored of deflate streams.
fn text_bytes(back: &Back) -> u64 {
    let deflate = back.seen.iter().filter(|part| part.0 == Coding::Deflate);
    deflate.map(|part| part.1).sum()
}

#[test]
fn gzip_of_every_packer_is_its_text() {
    let text = rows(1, 3 << 20);
    let mut made: Vec<Vec<u8>> = Vec::new();
    for level in [1, 6, 9] {
        made.push(gzip(&text, level));
    }
    for program in [
        &["gzip", "-1"][..],
        &["gzip", "-6", "-n"],
        &["gzip", "-9"],
        &["gzip", "--rsyncable"],
        &[
            "python3",
            "-c",
            "import sys,zlib\nc=zlib.compressobj(6,8,31)\nd=sys.stdin.buffer.read()\nsys.stdout.buffer.write(c.compress(d)+c.flush())",
        ],
        &[
            "python3",
            "-c",
            "import sys,zlib\nc=zlib.compressobj(2,8,31,9)\nd=sys.stdin.buffer.read()\nsys.stdout.buffer.write(c.compress(d[:9])+c.flush(zlib.Z_SYNC_FLUSH)+c.compress(d[9:])+c.flush())",
        ],
    ] {
        made.push(by_program(program, &text));
    }
    let (_scratch, mut repository) = memory_repository();
    let files: Vec<&[u8]> = made.iter().map(Vec::as_slice).collect();
    for (number, back) in round_trip(&mut repository, &files).iter().enumerate() {
        assert_eq!(text_bytes(back), text.len() as u64, "packer {number}");
        if number > 0 {
            // All but the frame and the corrections is there already.
            assert!(
                back.new_bytes < 100_000,
                "packer {number}: {}",
                back.new_bytes
            );
        }
    }
}

#[test]
fn several_members_and_what_is_behind_them_come_back() {
    let (first, second) = (gzip(&rows(1, 300_000), 6), gzip(&rows(2, 200_000), 9));
    let two = [&first[..], &second].concat();
    assert_eq!(text_bytes(&one(&two)), 500_000);
    for behind in [
        &b"garbage"[..],
        &[0; 9000],
        &noise(3, 200_000),
        &first[..50_000],
    ] {
        let back = one(&[&two[..], behind].concat());
        assert!(text_bytes(&back) >= 500_000);
    }
}

#[test]
fn what_is_cut_off_or_damaged_is_taken_apart_as_far_as_it_goes() {
    let text = rows(1, 9 << 20);
    let whole = gzip(&text, 6);
    for end in [
        3,
        9,
        11,
        70_000,
        whole.len() / 2,
        whole.len() - 9,
        whole.len() - 1,
    ] {
        one(&whole[..end]);
    }
    assert!(text_bytes(&one(&whole[..whole.len() - 3])) == text.len() as u64);
    let half = one(&whole[..whole.len() * 3 / 4]);
    assert!(text_bytes(&half) > 2 << 20, "{:?}", half.seen);
    assert!(text_bytes(&half) < text.len() as u64);
    for at in [2, 3, 4, 10, 12, 1000, whole.len() / 3, whole.len() - 5] {
        let mut damaged = whole.clone();
        damaged[at] ^= 0x55;
        one(&damaged);
    }
}

#[test]
fn members_of_a_zip_are_files() {
    let text = rows(1, 400_000);
    let image = noise(1, 600_000);
    let plain = Say::default();
    let packed = Say { method: 8, ..plain };
    let piped = Say { flags: 8, ..packed };
    let large = Say {
        is_zip64: true,
        ..packed
    };
    let members = [
        ("a.txt", &text[..], packed),
        ("b.jpg", &image, plain),
        ("c.txt", &rows(2, 100_000)[..], piped),
        ("d.txt", &rows(3, 100_000), large),
        ("e", b"", plain),
        ("f", b"short", packed),
    ];
    let whole = zip(&members);
    let (_scratch, mut repository) = memory_repository();
    let back = round_trip(&mut repository, &[&text, &image, &whole]);
    assert!(
        back[2].new_bytes < 201_000 + 50_000,
        "{}",
        back[2].new_bytes
    );
    assert_eq!(text_bytes(&back[2]), 600_000);
    // What is encrypted, or packed in another way, is stored as it is, and what is behind it is found.
    let closed = Say { flags: 1, ..packed };
    let other = Say {
        method: 12,
        ..plain
    };
    let odd = zip(&[
        ("x", &text, closed),
        ("y", &image, other),
        ("z", &text, packed),
    ]);
    assert_eq!(text_bytes(&one(&odd)), 400_000);
    // Unknown lengths of what cannot be followed: nothing behind it is.
    let lost = Say { flags: 9, ..packed };
    assert_eq!(
        text_bytes(&one(&zip(&[("x", &text, lost), ("z", &text, packed)]))),
        0
    );
    for end in [31, 40, whole.len() / 2, whole.len() - 30] {
        one(&whole[..end]);
    }
    for at in [4, 6, 8, 18, 26, 28, 40, 90_000] {
        let mut damaged = whole.clone();
        damaged[at] ^= 0x11;
        one(&damaged);
    }
}

#[test]
fn bundles_in_bundles_are_taken_apart_and_files_in_them_are_those_of_a_folder() {
    let image = noise(7, 900_000);
    let text = rows(4, 700_000);
    let packed = Say {
        method: 8,
        ..Say::default()
    };
    let inner = zip(&[("a.txt", &text, packed), ("b.png", &image, Say::default())]);
    let tgz = gzip(
        &tar(&[
            ("x/a.jpg", &image),
            ("x/small", b"hello"),
            ("x/in.docx", &inner),
            ("x/a.sql", &text),
        ]),
        6,
    );
    let outer = zip(&[("in.zip", &inner, packed), ("in.tgz", &tgz, Say::default())]);
    let (_scratch, mut repository) = memory_repository();
    let back = round_trip(&mut repository, &[&image, &text, &inner, &tgz, &outer]);
    for (number, back) in back.iter().enumerate().skip(2) {
        assert!(back.new_bytes < 120_000, "{number}: {} new", back.new_bytes);
    }
    assert!(
        back[3].seen.iter().any(|part| part.2),
        "the tar within is a bundle"
    );
    assert_eq!(back[4].seen.iter().filter(|part| part.2).count(), 2);
}

#[test]
fn a_bomb_is_stored_as_it_is() {
    let zeros = vec![0; 64 << 20];
    let bomb = gzip(&zeros, 9);
    // Of so few bytes nothing is looked at; many such streams are.
    let many: Vec<u8> = (0..40).flat_map(|_| bomb.clone()).collect();
    assert!(many.len() > BUNDLE_MIN_BYTES);
    let back = one(&many);
    assert!(
        back.new_bytes < 16 << 20,
        "{} stored of {}",
        back.new_bytes,
        many.len()
    );
}

#[test]
fn what_is_small_or_no_bundle_is_stored_as_before() {
    for file in [
        gzip(&rows(1, 100_000), 6),
        noise(1, 300_000),
        rows(1, 700_000),
        [&b"\x1f\x8b\x08\0"[..], &noise(2, 100_000)].concat(),
        [&b"PK\x03\x04\xff"[..], &noise(3, 100_000)].concat(),
        Vec::new(),
    ] {
        let back = one(&file);
        assert!(
            !matches!(back.stored, Stored::Bundle(_)),
            "{} bytes",
            file.len()
        );
    }
}

#[test]
fn corrections_are_read_as_they_were_written_and_others_are_refused() {
    let text = rows(5, 5 << 20);
    let packed = deflated(&text);
    let (mut unpacker, mut left, mut encoded) = (Unpacker::default(), &packed[..], Vec::new());
    let mut heads = Vec::new();
    while !unpacker.is_done() {
        let (head, bytes) = unpacker
            .piece(&left[..left.len().min(PACKED_BYTES)])
            .unwrap();
        put_head(&mut encoded, &head);
        heads.push((head, unpacker.text().to_vec()));
        left = &left[bytes..];
    }
    assert!(heads.len() > 1 && left.is_empty());
    let mut read = Heads::new(&encoded[..]);
    let mut packer = Packer::default();
    let mut made = Vec::new();
    for (head, text) in &heads {
        assert_eq!(read.next().unwrap().as_ref(), Some(head));
        made.extend(packer.piece(head, text).unwrap());
    }
    assert!(read.next().unwrap().is_none());
    assert!(made == packed);
    // Another text, or a piece out of turn, makes nothing or something else, and no panic.
    let (head, text) = &heads[1];
    assert!(Packer::default().piece(head, text).is_err());
    let mut other = heads[0].1.clone();
    other[100] ^= 1;
    let made = Packer::default().piece(&heads[0].0, &other);
    assert!(made.is_err() || made != Packer::default().piece(&heads[0].0, &heads[0].1));
    for cut in 0..12 {
        assert!(Heads::new(&encoded[..cut]).next().is_err() || cut == 0);
    }
    for huge in [
        &[1, 0xff, 0xff, 0xff, 0xff, 0x7f, 0, 0][..],
        &[8, 1, 1, 0],
        &[2, 1, 1, 0],
        &[1, 1, 1, 0xff, 0xff, 0xff, 0x7f],
    ] {
        assert!(Heads::new(huge).next().is_err(), "{huge:?}");
    }
}

#[test]
fn forged_corrections_end() {
    let text = rows(5, 60_000);
    let mut unpacker = Unpacker::default();
    let (head, _) = unpacker.piece(&deflated(&text)).unwrap();
    for seed in 0..600 {
        let mut forged = head.clone();
        let noise = noise(seed, 16);
        let at = seed as usize % forged.corrections.len();
        match seed % 3 {
            0 => forged.corrections.truncate(at),
            1 => forged.corrections[at] ^= noise[0] | 1,
            _ => forged.corrections.splice(at.., noise).for_each(drop),
        }
        // That it comes back at all is what is tested; what it makes is bounded.
        if let Ok(made) = Packer::default().piece(&forged, &text) {
            assert!(made.len() * 8 <= head.bits + 8);
        }
    }
}

/// FNV-1a, which no library can change.
fn sum(bytes: &[u8]) -> u64 {
    let step = |sum: u64, byte: &u8| (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, step)
}

/// What was stored once must be made again by every later version: a change here is a change of the format, and another
/// coding. `LIFEBOAT_TEST_WRITE_GOLDEN=1` wrote the file.
#[test]
fn corrections_that_were_stored_once_make_the_same_stream_for_ever() {
    let golden =
        std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/bundle/coding-1.corrections");
    let text = rows(11, 5 << 20);
    if std::env::var_os("LIFEBOAT_TEST_WRITE_GOLDEN").is_some() {
        let made = by_program(&["gzip", "-6", "-n"], &text);
        let (mut packed, mut corrections) = (&made[10..], Vec::new());
        let mut unpacker = Unpacker::default();
        while !unpacker.is_done() {
            let (head, bytes) = unpacker.piece(packed).unwrap();
            put_head(&mut corrections, &head);
            packed = &packed[bytes..];
        }
        std::fs::write(&golden, corrections).unwrap();
    }
    let stored = std::fs::read(&golden).unwrap();
    let mut heads = Heads::new(&stored[..]);
    let (mut packer, mut made, mut left, mut pieces) =
        (Packer::default(), Vec::new(), &text[..], 0);
    while let Some(head) = heads.next().unwrap() {
        let (piece, rest) = left.split_at(head.text_bytes);
        made.extend(packer.piece(&head, piece).unwrap());
        (left, pieces) = (rest, pieces + 1);
    }
    assert!(left.is_empty() && pieces > 2, "{pieces} pieces");
    assert_eq!((made.len(), sum(&made)), (1_698_080, 0xc3bc_e96a_42de_91fd));
}

#[test]
fn blocks_end_where_others_say_they_do() {
    for (level, length) in [(0, 100_000), (1, 300_000), (6, 300_000), (9, 70_000)] {
        let text = [rows(level, length), noise(level, length / 3)].concat();
        let mut encoder = DeflateEncoder::new(Vec::new(), Compression::new(level as u32));
        encoder.write_all(&text).unwrap();
        let packed = encoder.finish().unwrap();
        let (mut end, mut is_last, mut read) = (0, false, Vec::new());
        while !is_last {
            (end, is_last) = inflate::block(&packed, end, &mut read, 1 << 30).unwrap();
        }
        assert!(read == text);
        assert_eq!(end.div_ceil(8), packed.len());
        let short = &packed[..packed.len() - 1];
        let mut at = 0;
        let unread = loop {
            match inflate::block(short, at, &mut Vec::from(&text[..]), 1 << 30) {
                Ok((next, false)) => at = next,
                Ok((_, true)) => panic!("there is no end"),
                Err(unread) => break unread,
            }
        };
        assert_eq!(unread, inflate::Unread::Short);
    }
}

#[test]
fn arbitrary_blocks_never_panic() {
    for seed in 0..2000 {
        let mut bytes = noise(seed, seed as usize % 600);
        if let Some(first) = bytes.first_mut() {
            // Each of the three kinds of blocks, and none.
            *first = *first & !7 | (seed % 8) as u8;
        }
        let mut text = Vec::new();
        let bit = (seed as usize % 16).min(bytes.len() * 8);
        let _ = inflate::block(&bytes, bit, &mut text, 1 << 20);
        assert!(text.len() <= (1 << 20) + 300);
        let _ = Unpacker::default().piece(&bytes);
        let _ = Heads::new(&bytes[..]).next();
    }
}

/// A tree of forged parts must be refused, whatever it says, and nothing longer than the file be written.
#[test]
fn forged_parts_are_errors() {
    use lifeboat_codec::{BundlePart, put_entry};
    let (_scratch, mut repository) = memory_repository();
    let file = gzip(&rows(6, 200_000), 6);
    round_trip(&mut repository, &[&file]);
    let part = |coding, lead, makes, corrections| BundlePart {
        lead,
        makes,
        corrections,
        ..BundlePart::new(coding)
    };
    let trees: BTreeMap<&str, Vec<Option<BundlePart<'_>>>> = BTreeMap::from([
        ("no part", vec![None]),
        ("too much", vec![Some(part(Coding::Plain, 0, 0, 0)); 3]),
        ("too little", vec![]),
        ("no frame", vec![Some(part(Coding::Plain, 9, 0, 0))]),
        (
            "corrections of nothing",
            vec![Some(part(Coding::Corrections, 0, 0, 0))],
        ),
        (
            "corrections of what is plain",
            vec![
                Some(part(Coding::Corrections, 0, 0, 0)),
                Some(part(Coding::Plain, 0, 0, 0)),
            ],
        ),
        (
            "a frame behind",
            vec![
                Some(part(Coding::Plain, 0, 0, 0)),
                Some(part(Coding::Frame, 0, 0, 0)),
            ],
        ),
        (
            "a frame that nobody takes",
            vec![
                Some(part(Coding::Frame, 0, 0, 0)),
                Some(part(Coding::Plain, 0, 0, 0)),
            ],
        ),
        (
            "text without corrections",
            vec![Some(part(Coding::Deflate, 0, 50, 0))],
        ),
        (
            "text with wrong corrections",
            vec![
                Some(part(Coding::Corrections, 0, 0, 0)),
                Some(part(Coding::Deflate, 0, 50, 0)),
            ],
        ),
        (
            "long short corrections",
            vec![
                Some(part(Coding::Frame, 0, 0, 0)),
                Some(part(Coding::Deflate, 0, 50, 1 << 40)),
            ],
        ),
    ]);
    for (what, parts) in trees {
        let bytes = Mutex::new(None);
        let write = |writer: &Writer<'_>| -> Result<Contents, WriteError> {
            let tree = on_lane(writer, 1, |lane| -> Result<_, WriteError> {
                let content = lane.put_stream(Profile::Files, None, &mut &noise(9, 100)[..])?;
                let content = Stored::of(&content);
                let mut tree = Vec::new();
                for (number, part) in parts.iter().enumerate() {
                    let name = format!("{number:08}");
                    let entry = Entry {
                        size: 100,
                        content: content.content(),
                        part: part.clone(),
                        ..Entry::new(EntryKind::File, name.as_bytes())
                    };
                    put_entry(&mut tree, &entry, &mut Vec::new());
                }
                lane.put_meta(&tree)
            })?;
            *bytes.lock().unwrap() = Some(tree);
            let manifest = on_lane(writer, 1, |lane| {
                lane.put_meta(&lifeboat_codec::Manifest::default().encode())
            })?;
            Ok(Contents {
                root: lifeboat_codec::StreamRef::empty(Profile::Metadata),
                manifest,
                files: 0,
                bytes: 0,
                unreadable: 0,
            })
        };
        let stop = AtomicBool::new(false);
        let draft = Draft {
            app: "shop".to_owned(),
            ..Draft::default()
        };
        let committed = repository.backup(&draft, &Silent, &stop, write).unwrap();
        let reader = repository.reader(committed.head.domain).unwrap();
        let content = FileContent::Bundle {
            parts: bytes.into_inner().unwrap().unwrap(),
            length: 150,
        };
        let mut out = Vec::new();
        let copied = copy_content(&reader, &content, &mut out);
        assert!(
            matches!(copied, Err(lifeboat_repository::StreamError::Read(_))),
            "{what}: {copied:?}"
        );
        assert!(out.len() <= 150, "{what}");
    }
}
