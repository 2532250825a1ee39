//! `docs/format.md` against the code: the page is the only copy of the layout, so its figures must be the code's.

use std::collections::BTreeSet;

use lifeboat_codec as codec;
use lifeboat_codec::{Kind, Profile};

use super::{
    expect_none, root,
    sources::{RustSource, rust_files},
};

fn page() -> String {
    std::fs::read_to_string(root().join("docs/format.md"))
        .expect("the page of the format is UTF-8 text")
}

/// The number that stands directly before `words` or directly behind them.
fn number_at(page: &str, words: &str) -> u64 {
    let (before, after) = page
        .split_once(words)
        .unwrap_or_else(|| panic!("docs/format.md does not say {words:?}"));
    let is_digit = |letter: &char| letter.is_ascii_digit();
    let behind: String = after.chars().take_while(is_digit).collect();
    if let Ok(number) = behind.parse() {
        return number;
    }
    let ahead: String = before.chars().rev().take_while(is_digit).collect();
    let ahead: String = ahead.chars().rev().collect();
    ahead
        .parse()
        .unwrap_or_else(|_| panic!("docs/format.md has no number beside {words:?}"))
}

fn size(text: &str) -> u64 {
    let mut words = text.split_whitespace();
    let number: u64 = words
        .next()
        .and_then(|word| word.parse().ok())
        .expect("a size begins with a number");
    match words.next() {
        Some("KiB") => number << 10,
        Some("MiB") => number << 20,
        unit => panic!("{unit:?} is no unit"),
    }
}

fn cells(line: &str) -> Vec<&str> {
    line.trim_matches('|').split('|').map(str::trim).collect()
}

#[test]
fn the_pages_figures_are_the_codes() {
    let page = page();
    let figure = |words: &str| number_at(&page, words);
    let expect = |words: &str, code: u64| {
        assert_eq!(figure(words), code, "beside {words:?} in docs/format.md");
    };
    let bytes = |count: usize| count as u64;

    expect("# Repository format ", codec::FORMAT);
    expect("# Repository format 1 (draft ", codec::DRAFT);
    expect("record: 1 format = ", codec::FORMAT);
    expect("· 2 draft = ", codec::DRAFT);
    expect(
        "length of the whole envelope = ",
        bytes(codec::ENVELOPE_BYTES),
    );
    expect("n = ceil((64+B) / ", bytes(codec::BLOCK_BYTES));
    expect(" if 64+B > ", bytes(codec::BLOCK_BYTES));
    expect("Depth is at most ", u64::from(codec::DEPTH_MAX));
    expect("no `/`, no NUL; at most ", bytes(codec::NAME_MAX));
    expect(
        "Snapshot record (at most ",
        bytes(codec::HEAD_BYTES_MAX) >> 10,
    );
    expect("**chunks** of at most ", bytes(codec::CHUNK_MAX) >> 20);
    expect("Content is at most ", bytes(codec::CONTENT_MAX) >> 20);
    expect("for L ≤ 256 it is ", codec::padding_class(0));
    let step = figure("rounded up to a multiple of min(g, ");
    assert_eq!(codec::padding_class((1 << 40) + 1), (1 << 40) + step);
}

#[test]
fn the_pages_frame_is_the_codes() {
    let page = page();
    let picture = page
        .split("```")
        .find(|part| part.contains("block table: n = "))
        .expect("the picture of the frame");
    let length_of = |name: &str| -> usize {
        let line = picture.lines().find(|line| {
            line.split_whitespace()
                .nth(2)
                .is_some_and(|word| word == name)
        });
        let words = line
            .unwrap_or_else(|| panic!("the picture has no {name}"))
            .split_whitespace();
        words
            .take(2)
            .last()
            .and_then(|word| word.parse().ok())
            .expect("a length in the second column")
    };
    assert_eq!(length_of("header"), codec::HEADER_BYTES);
    assert_eq!(length_of("footer"), codec::FOOTER_BYTES);
    assert_eq!(length_of("BLAKE3"), codec::HASH_BYTES);
    // Header and footer stand beside each other below the frame.
    let (_, inner) = picture
        .split_once("\nheader")
        .expect("the picture of the header");
    let middle = "header".len() + inner.find("footer").expect("the footer's column");
    let columns = |from: usize, to: usize| -> Vec<(usize, usize)> {
        let cut = |line: &str| -> Option<(usize, usize)> {
            let part: String = line.chars().take(to).skip(from).collect();
            let mut words = part.split_whitespace();
            Some((words.next()?.parse().ok()?, words.next()?.parse().ok()?))
        };
        inner.lines().skip(1).filter_map(cut).collect()
    };
    assert_eq!(end_of(&columns(0, middle)), codec::HEADER_BYTES);
    assert_eq!(end_of(&columns(middle, usize::MAX)), codec::FOOTER_BYTES);
}

/// Where a list of offsets and lengths ends; fails when it has a hole.
fn end_of(fields: &[(usize, usize)]) -> usize {
    fields.iter().fold(0, |at, (offset, length)| {
        assert_eq!(*offset, at, "the fields {fields:?} follow each other");
        offset + length
    })
}

#[test]
fn the_pages_envelope_has_no_hole() {
    let page = page();
    let picture = page
        .split("```")
        .find(|part| part.contains("envelope suite"))
        .expect("the picture of an envelope");
    let fields: Vec<(usize, usize)> = picture
        .lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            Some((words.next()?.parse().ok()?, words.next()?.parse().ok()?))
        })
        .collect();
    assert_eq!(end_of(&fields), codec::ENVELOPE_BYTES);
}

#[test]
fn the_pages_kinds_are_the_codes() {
    let page = page();
    let listed: Vec<u8> = page
        .lines()
        .skip_while(|line| !line.starts_with("| kind | object |"))
        .skip(2)
        .take_while(|line| line.starts_with('|'))
        .map(|line| {
            cells(line)[0]
                .parse()
                .expect("a row begins with the kind's number")
        })
        .collect();
    let known: Vec<u8> = (0..=u8::MAX)
        .filter(|number| Kind::from_number(*number).is_some())
        .collect();
    assert_eq!(listed, known);
}

#[test]
fn the_pages_profiles_are_the_codes() {
    let page = page();
    let rows: Vec<Vec<&str>> = page
        .lines()
        .skip_while(|line| !line.starts_with("| profile | for |"))
        .skip(2)
        .take_while(|line| line.starts_with('|'))
        .map(cells)
        .collect();
    assert_eq!(rows.len(), 3, "{rows:?}");
    for row in rows {
        let number = row[0]
            .parse()
            .expect("a row begins with the profile's number");
        let profile =
            Profile::from_number(number).expect("a profile of the page is one of the code");
        let code = [
            profile.min_bytes(),
            profile.average_bytes(),
            profile.max_bytes(),
        ];
        assert_eq!(
            row[2..].iter().map(|text| size(text)).collect::<Vec<_>>(),
            code.map(|bytes| bytes as u64)
        );
    }
}

/// Derivation contexts and associated data are words; one that differs opens nothing.
#[test]
fn the_pages_labels_are_the_codes() {
    const START: &str = "lifeboat 1 ";
    let page = page();
    let on_page: BTreeSet<&str> = page
        .match_indices(&format!("\"{START}"))
        .filter_map(|(at, _)| page[at + 1..].split('"').next())
        .collect();
    let all = rust_files();
    let labels = |file: &RustSource| -> Vec<String> {
        let lines = file.without_tests().iter().map(|line| line.string.trim());
        lines
            .filter(|text| text.starts_with(START))
            .map(str::to_owned)
            .collect()
    };
    let in_code: BTreeSet<String> = all
        .iter()
        .filter(|file| file.path.starts_with("crates/codec/src/"))
        .flat_map(labels)
        .collect();
    let in_code: BTreeSet<&str> = in_code.iter().map(String::as_str).collect();
    assert!(!in_code.is_empty(), "the codec has labels");
    let findings: Vec<String> = on_page
        .symmetric_difference(&in_code)
        .map(|label| format!("\"{label}\" stands in one of the two only"))
        .collect();
    expect_none(
        "the labels of docs/format.md are those of the codec",
        &findings,
    );
}
