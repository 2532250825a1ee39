//! Points of the contract about lists, and about what a store says of itself.

use super::room::{Outcome, Point, Room, expect, expect_kind, in_parallel, said};
use crate::error::ErrorKind;

pub(super) const POINTS: [Point; 5] = [
    (
        "a list reports every object once, with its length",
        reports_once,
    ),
    ("a prefix is whole components", keeps_to_the_prefix),
    ("a list of many objects is complete", reports_many),
    ("a list lets its caller use the store", lets_its_caller_in),
    ("at least one connection is asked for", asks_for_connections),
];

/// More than one page of the lists that storage services answer with.
const MANY: usize = 1100;

fn reports_once(room: &Room<'_>) -> Outcome {
    let put = [("a", 0), ("b/c", 1), ("b/d", 70_000), ("b/e/f", 12)];
    for (name, len) in put {
        room.put(name, &vec![1; len])?;
    }
    let mut listed = Vec::new();
    room.store
        .list(&room.folder, &mut |object| {
            listed.push((object.name.to_string(), object.len));
        })
        .map_err(said)?;
    listed.sort();
    let wanted: Vec<_> = put
        .iter()
        .map(|(name, len)| (room.name(name).to_string(), *len as u64))
        .collect();
    expect(listed == wanted, || {
        format!("{listed:?} is listed instead of {wanted:?}")
    })?;

    let mut in_all = 0;
    room.store
        .list("", &mut |object| {
            in_all += usize::from(object.name.as_str().starts_with(&room.folder));
        })
        .map_err(said)?;
    expect(in_all == put.len(), || {
        format!("the list of all objects reports {in_all} of {}", put.len())
    })
}

fn keeps_to_the_prefix(room: &Room<'_>) -> Outcome {
    for name in ["a/x", "a/b/x", "ab/x", "a-b/x", "a.x"] {
        room.put(name, b"")?;
    }
    for (prefix, wanted) in [
        ("a/", ["a/b/x", "a/x"].as_slice()),
        ("a/b/", &["a/b/x"]),
        ("ab/", &["ab/x"]),
        ("missing/", &[]),
        ("missing/deeper/", &[]),
        ("a.x/", &[]),
    ] {
        let listed = room.listed_below(prefix)?;
        expect(listed == wanted, || {
            format!("{listed:?} is listed below {prefix}, {wanted:?} lies there")
        })?;
    }
    for prefix in ["/", "../", ".tmp/", "A/", "a", "a//"] {
        let listed = room.store.list(prefix, &mut |_| {});
        expect_kind(
            &format!("a list of the prefix {prefix:?}"),
            ErrorKind::Other,
            listed,
        )?;
    }
    Ok(())
}

fn reports_many(room: &Room<'_>) -> Outcome {
    let names: Vec<String> = (0..MANY)
        .map(|number| format!("{:02x}/{number:04}", number % 7))
        .collect();
    in_parallel(room.store.connections(), &names, |name| {
        room.put(name, name.as_bytes())
    })?;
    let listed = room.listed()?;
    let mut once = listed.clone();
    once.dedup();
    expect(listed.len() == MANY && once.len() == MANY, || {
        format!(
            "{MANY} objects were put, {} listed, {} of them different",
            listed.len(),
            once.len()
        )
    })
}

fn lets_its_caller_in(room: &Room<'_>) -> Outcome {
    room.put("a", b"1")?;
    room.put("b", b"2")?;
    let mut outcome = Ok(());
    room.store
        .list(&room.folder, &mut |object| {
            if let Err(error) = room.store.get(&object.name, 1) {
                outcome = Err(said(error));
            }
        })
        .map_err(said)?;
    outcome
}

fn asks_for_connections(room: &Room<'_>) -> Outcome {
    expect(room.store.connections() >= 1, || {
        "connections() is 0".to_owned()
    })
}
