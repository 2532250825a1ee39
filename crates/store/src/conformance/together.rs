//! Points of the contract about calls at the same time.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Barrier, Mutex, PoisonError};
use std::thread;

use super::room::{
    FirstFailure, Outcome, Point, Room, THREADS, expect, in_parallel, pattern, said,
};
use crate::body::Body;
use crate::error::ErrorKind;

pub(super) const POINTS: [Point; 4] = [
    (
        "of several puts of one name exactly one succeeds",
        one_put_wins,
    ),
    (
        "a list shows every put that was finished before",
        lists_show_finished_puts,
    ),
    ("no reader sees a part of an object", shows_whole_objects),
    (
        "a list misses nothing because of other puts and deletes",
        lists_miss_nothing,
    ),
];

/// How often a race is run.
const ROUNDS: usize = 8;

/// How many objects there are at any time while objects come and go.
const PASSING: usize = 3;

fn one_put_wins(room: &Room<'_>) -> Outcome {
    let one_only = room.store.abilities().put_if_absent;
    for round in 0..ROUNDS {
        let text = format!("{round}");
        let name = room.name(&text);
        let winners = Mutex::new(Vec::new());
        let callers: Vec<u64> = (0..THREADS as u64).collect();
        in_parallel(THREADS, &callers, |caller| {
            let bytes = pattern(*caller, 100_000);
            match room.store.put_new(&name, Body::Bytes(&bytes)) {
                Ok(()) => {
                    winners
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .push(*caller);
                    Ok(())
                }
                Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
                Err(error) => Err(said(error)),
            }
        })?;
        let winners = winners.into_inner().unwrap_or_else(PoisonError::into_inner);
        expect(
            winners.len() == 1 || (!one_only && !winners.is_empty()),
            || format!("{} of {THREADS} puts of one name succeeded", winners.len()),
        )?;
        let stored = room.store.get(&name, 100_000).map_err(said)?;
        expect(
            winners
                .iter()
                .any(|winner| stored == pattern(*winner, 100_000)),
            || "the object is not what the put that succeeded wrote".to_owned(),
        )?;
    }
    Ok(())
}

fn lists_show_finished_puts(room: &Room<'_>) -> Outcome {
    let callers: Vec<usize> = (0..THREADS).collect();
    in_parallel(THREADS, &callers, |caller| {
        for round in 0..ROUNDS {
            let name = format!("{caller}/{round}");
            room.put(&name, b"x")?;
            expect(room.listed()?.contains(&name), || {
                format!("{name} is not in a list that began after its put had returned")
            })?;
        }
        Ok(())
    })
}

fn shows_whole_objects(room: &Room<'_>) -> Outcome {
    const LEN: usize = 300_000;
    let bytes = pattern(4, LEN);
    let finished = AtomicBool::new(false);
    let failure = FirstFailure::default();
    let name_of = |round: usize| format!("{round}");
    let all_started = Barrier::new(3);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                all_started.wait();
                while !finished.load(Ordering::Acquire) {
                    for round in 0..ROUNDS {
                        if let Err(seen) = expect_whole_or_missing(room, &name_of(round), &bytes) {
                            failure.keep(seen);
                            return;
                        }
                    }
                }
            });
        }
        all_started.wait();
        for round in 0..ROUNDS {
            if let Err(seen) = room.put(&name_of(round), &bytes) {
                failure.keep(seen);
            }
        }
        finished.store(true, Ordering::Release);
    });
    failure.outcome()
}

/// Reads an object in every way while it may be on its way in.
fn expect_whole_or_missing(room: &Room<'_>, text: &str, bytes: &[u8]) -> Outcome {
    let name = room.name(text);
    match room.store.get(&name, u64::MAX) {
        Ok(got) => expect(got == bytes, || {
            format!("get returned {} bytes of a put", got.len())
        })?,
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(said(error)),
    }
    let mut last = [0];
    match room
        .store
        .get_range(&name, bytes.len() as u64 - 1, &mut last)
    {
        Ok(()) => expect(bytes.last() == Some(&last[0]), || {
            "the last byte was not there yet".to_owned()
        })?,
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(said(error)),
    }
    let mut short = None;
    room.store
        .list(&room.folder, &mut |object| {
            if object.len != bytes.len() as u64 {
                short = Some(object.len);
            }
        })
        .map_err(said)?;
    match short {
        None => Ok(()),
        Some(len) => Err(format!(
            "a list shows {len} of {} bytes of a put",
            bytes.len()
        )),
    }
}

fn lists_miss_nothing(room: &Room<'_>) -> Outcome {
    let mut stable: Vec<String> = (0..40)
        .map(|number| format!("{}/stable-{number}", number % 4))
        .collect();
    stable.sort();
    for name in &stable {
        room.put(name, b"x")?;
    }
    for round in 0..PASSING {
        room.put(&passing(round), b"x")?;
    }
    // The coming and going lasts until there were enough lists: a fast store makes no short test.
    let lists = AtomicUsize::new(0);
    let finished = AtomicBool::new(false);
    let failure = FirstFailure::default();
    thread::scope(|scope| {
        scope.spawn(|| {
            let enough = || lists.load(Ordering::Acquire) >= 2 * ROUNDS;
            if let Err(seen) = come_and_go(room, enough) {
                failure.keep(seen);
            }
            finished.store(true, Ordering::Release);
        });
        while !finished.load(Ordering::Acquire) {
            let complete = room.listed().and_then(|listed| {
                let kept = listed.into_iter().filter(|name| name.contains("/stable-"));
                expect(kept.eq(stable.iter().cloned()), || {
                    "objects that nobody touched are missing from a list, or in it twice".to_owned()
                })
            });
            if let Err(seen) = complete {
                failure.keep(seen);
            }
            lists.fetch_add(1, Ordering::Release);
        }
    });
    failure.outcome()
}

/// The name of a passing object.
fn passing(round: usize) -> String {
    format!("{}/passing-{round}", round % 4)
}

/// Puts new passing objects and deletes old ones until it is enough.
fn come_and_go(room: &Room<'_>, enough: impl Fn() -> bool) -> Outcome {
    let mut round = PASSING;
    while round < 4 * ROUNDS || !enough() {
        room.put(&passing(round), b"x")?;
        let oldest = room.name(&passing(round - PASSING));
        room.store.delete(&oldest).map_err(said)?;
        round += 1;
    }
    Ok(())
}
