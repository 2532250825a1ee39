//! Points of the contract about one object.

use std::fs::File;
use std::os::unix::fs::FileExt;

use super::room::{Outcome, Point, Room, expect, expect_kind, in_parallel, pattern, said};
use crate::body::Body;
use crate::error::ErrorKind;
use crate::name::ObjectName;
use crate::spool::spool;

pub(super) const POINTS: [Point; 9] = [
    ("an object comes back as it was put", comes_back),
    ("a file becomes an object as bytes do", takes_files),
    ("a put never replaces an object", never_replaces),
    (
        "a body that ends early becomes no object",
        refuses_short_bodies,
    ),
    (
        "an object larger than allowed is not returned",
        keeps_to_the_limit,
    ),
    ("a range is filled or fails", fills_ranges),
    (
        "what is missing is said to be missing",
        tells_what_is_missing,
    ),
    ("a deleted object is gone, and its name free again", deletes),
    ("every allowed name is kept apart", keeps_names_apart),
];

const MIB: usize = 1 << 20;

fn comes_back(room: &Room<'_>) -> Outcome {
    for len in [0, 1, 4095, 4096, 4097, MIB, 5 * MIB + 3] {
        let name = format!("{len}");
        let bytes = pattern(len as u64, len);
        room.put(&name, &bytes)?;
        room.expect_bytes(&name, &bytes)?;
    }
    Ok(())
}

fn takes_files(room: &Room<'_>) -> Outcome {
    for len in [0, 1, 3 * MIB + 1] {
        let bytes = pattern(1, len);
        let file = spool_of(room, &bytes)?;
        for copy in ["first", "second"] {
            let name = format!("{len}-{copy}");
            let body = Body::File {
                file: &file,
                len: len as u64,
            };
            room.store.put_new(&room.name(&name), body).map_err(said)?;
            room.expect_bytes(&name, &bytes)?;
        }
    }
    let bytes = pattern(2, 5000);
    let file = spool_of(room, &bytes)?;
    let body = Body::File {
        file: &file,
        len: 1000,
    };
    room.store
        .put_new(&room.name("beginning"), body)
        .map_err(said)?;
    room.expect_bytes("beginning", &bytes[..1000])
}

fn never_replaces(room: &Room<'_>) -> Outcome {
    room.put("a", b"first")?;
    let name = room.name("a");
    for bytes in [b"second".as_slice(), b"first", b""] {
        let again = room.store.put_new(&name, Body::Bytes(bytes));
        expect_kind(
            "a put under a name that exists",
            ErrorKind::AlreadyExists,
            again,
        )?;
    }
    let file = spool_of(room, b"third")?;
    let again = room.store.put_new(
        &name,
        Body::File {
            file: &file,
            len: 5,
        },
    );
    expect_kind(
        "a put of a file under a name that exists",
        ErrorKind::AlreadyExists,
        again,
    )?;
    room.expect_bytes("a", b"first")
}

fn refuses_short_bodies(room: &Room<'_>) -> Outcome {
    let file = spool_of(room, b"short")?;
    let put = room.store.put_new(
        &room.name("a"),
        Body::File {
            file: &file,
            len: 6,
        },
    );
    expect_kind("a put of a file that ends early", ErrorKind::Truncated, put)?;
    expect_kind(
        "the object of a failed put",
        ErrorKind::NotFound,
        room.store.get(&room.name("a"), 9),
    )?;
    expect(room.listed()?.is_empty(), || {
        "the object of a failed put is listed".to_owned()
    })
}

fn keeps_to_the_limit(room: &Room<'_>) -> Outcome {
    room.put("a", b"12345")?;
    room.put("empty", b"")?;
    expect_kind(
        "an object of 5 bytes where 4 are allowed",
        ErrorKind::TooLarge,
        room.store.get(&room.name("a"), 4),
    )?;
    room.store.get(&room.name("empty"), 0).map_err(said)?;
    let unlimited = room.store.get(&room.name("a"), u64::MAX).map_err(said)?;
    expect(unlimited == b"12345", || {
        "get without a limit returned other bytes".to_owned()
    })
}

fn fills_ranges(room: &Room<'_>) -> Outcome {
    let bytes = pattern(3, 10_000);
    room.put("a", &bytes)?;
    room.put("empty", b"")?;
    let name = room.name("a");
    for (start, len) in [
        (0, 1),
        (0, 10_000),
        (1, 9_999),
        (4095, 2),
        (9_999, 1),
        (10_000, 0),
        (0, 0),
    ] {
        let mut range = vec![0; len];
        room.store
            .get_range(&name, start as u64, &mut range)
            .map_err(said)?;
        expect(range == bytes[start..start + len], || {
            format!("the {len} bytes from {start} on are not those that were put")
        })?;
    }
    for (start, len) in [
        (0, 10_001),
        (9_999, 2),
        (10_000, 1),
        (10_001, 0),
        (1 << 40, 1),
        (u64::MAX, 1),
    ] {
        let read = room.store.get_range(&name, start, &mut vec![0; len]);
        let what = format!("a range of {len} bytes from {start} on in an object of 10000");
        expect_kind(&what, ErrorKind::Truncated, read)?;
    }
    let empty = room.name("empty");
    room.store.get_range(&empty, 0, &mut []).map_err(said)?;
    let read = room.store.get_range(&empty, 0, &mut [0]);
    expect_kind(
        "the first byte of an empty object",
        ErrorKind::Truncated,
        read,
    )
}

fn tells_what_is_missing(room: &Room<'_>) -> Outcome {
    room.put("there/a", b"x")?;
    for text in [
        "missing",
        "there/missing",
        "missing/folder/a",
        "there/a/below",
    ] {
        let name = room.name(text);
        let what = |call: &str| format!("{call} of {name}, which is missing,");
        expect_kind(
            &what("a get"),
            ErrorKind::NotFound,
            room.store.get(&name, 9),
        )?;
        let range = room.store.get_range(&name, 0, &mut []);
        expect_kind(&what("a ranged get"), ErrorKind::NotFound, range)?;
        expect_kind(
            &what("a delete"),
            ErrorKind::NotFound,
            room.store.delete(&name),
        )?;
    }
    room.expect_bytes("there/a", b"x")
}

fn deletes(room: &Room<'_>) -> Outcome {
    let name = room.name("a");
    for bytes in [b"one".as_slice(), b"another", b""] {
        room.put("a", bytes)?;
        room.expect_bytes("a", bytes)?;
        room.store.delete(&name).map_err(said)?;
        expect_kind(
            "a get of a deleted object",
            ErrorKind::NotFound,
            room.store.get(&name, 9),
        )?;
        let range = room.store.get_range(&name, 0, &mut []);
        expect_kind(
            "a ranged get of a deleted object",
            ErrorKind::NotFound,
            range,
        )?;
        expect_kind(
            "a second delete",
            ErrorKind::NotFound,
            room.store.delete(&name),
        )?;
        expect(room.listed()?.is_empty(), || {
            "a deleted object is listed".to_owned()
        })?;
    }
    Ok(())
}

fn keeps_names_apart(room: &Room<'_>) -> Outcome {
    let mut names: Vec<String> = "abcdefghijklmnopqrstuvwxyz0123456789_-"
        .chars()
        .flat_map(|letter| {
            [
                format!("{letter}"),
                format!("x{letter}y"),
                format!("{letter}.d/{letter}."),
            ]
        })
        .collect();
    let strange = "a-b a..b ab/c a.b/c.d/e con nul 00 1e5 --help";
    names.extend(strange.split(' ').map(String::from));
    let longest = ObjectName::LEN_MAX - room.folder.len();
    names.push("n".repeat(longest));
    names.push("down/".repeat(longest / "down/".len() - 1) + "x");
    names.sort();
    // Each object holds its own name, so that two that fell together are seen.
    in_parallel(room.store.connections(), &names, |name| {
        room.put(name, name.as_bytes())
    })?;
    for name in &names {
        room.expect_bytes(name, name.as_bytes())?;
    }
    let listed = room.listed()?;
    expect(listed == names, || {
        let missing: Vec<_> = names
            .iter()
            .filter(|name| !listed.contains(name))
            .take(3)
            .collect();
        format!(
            "{} names were put and {} listed; missing are {missing:?}",
            names.len(),
            listed.len()
        )
    })
}

/// A temporary file of the store's with these bytes.
fn spool_of(room: &Room<'_>, bytes: &[u8]) -> Result<File, String> {
    let file = spool(room.store).map_err(said)?;
    file.write_all_at(bytes, 0)
        .map_err(|error| format!("cannot write into a temporary file: {error}"))?;
    Ok(file)
}
