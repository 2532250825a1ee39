//! Points of the contract about calls at the same time.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use super::{Outcome, Point, Room, expect, pattern, said};
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

/// How many callers there are at the same time.
const THREADS: usize = 8;

/// How often a race is run.
const ROUNDS: usize = 8;

/// Calls `work` for every item, several at a time, and returns the first failure.
pub(super) fn in_parallel<T: Sync>(
    threads: usize,
    items: &[T],
    work: impl Fn(&T) -> Outcome + Sync,
) -> Outcome {
    let next = AtomicUsize::new(0);
    let failure = Mutex::new(None);
    thread::scope(|scope| {
        for _ in 0..threads.clamp(1, THREADS) {
            scope.spawn(|| {
                while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Err(seen) = work(item) {
                        keep_first(&failure, seen);
                        return;
                    }
                }
            });
        }
    });
    outcome(failure)
}

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
    let failure = Mutex::new(None);
    let name_of = |round: usize| format!("{round}");
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !finished.load(Ordering::Acquire) {
                    for round in 0..ROUNDS {
                        if let Err(seen) = expect_whole_or_missing(room, &name_of(round), &bytes) {
                            keep_first(&failure, seen);
                            return;
                        }
                    }
                }
            });
        }
        for round in 0..ROUNDS {
            if let Err(seen) = room.put(&name_of(round), &bytes) {
                keep_first(&failure, seen);
            }
        }
        finished.store(true, Ordering::Release);
    });
    outcome(failure)
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
    let finished = AtomicBool::new(false);
    let failure = Mutex::new(None);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut round = 0;
            while !finished.load(Ordering::Acquire) {
                let name = format!("{}/passing-{round}", round % 4);
                let passed = room
                    .put(&name, b"x")
                    .and_then(|()| room.store.delete(&room.name(&name)).map_err(said));
                if let Err(seen) = passed {
                    keep_first(&failure, seen);
                    return;
                }
                round += 1;
            }
        });
        for _ in 0..4 * ROUNDS {
            let complete = room.listed().and_then(|listed| {
                let kept = listed.into_iter().filter(|name| name.contains("/stable-"));
                expect(kept.eq(stable.iter().cloned()), || {
                    "objects that nobody touched are missing from a list, or in it twice".to_owned()
                })
            });
            if let Err(seen) = complete {
                keep_first(&failure, seen);
                break;
            }
        }
        finished.store(true, Ordering::Release);
    });
    outcome(failure)
}

fn keep_first(failure: &Mutex<Option<String>>, seen: String) {
    failure
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .get_or_insert(seen);
}

fn outcome(failure: Mutex<Option<String>>) -> Outcome {
    match failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
        None => Ok(()),
        Some(seen) => Err(seen),
    }
}
