//! Tests of the repetition of calls.

use super::*;
use crate::contract::Listed;
use crate::faulty::{Fault, FaultyStore, When};
use crate::memory::MemoryStore;
use std::sync::{Arc, Mutex};

type Waits = Arc<Mutex<Vec<u64>>>;

/// A store that is retried at most four times, and the waits in milliseconds.
fn retried(inner: FaultyStore<MemoryStore>) -> (RetryStore<FaultyStore<MemoryStore>>, Waits) {
    let waits = Waits::default();
    let policy = RetryPolicy {
        attempts_max: 4,
        first_delay: Duration::from_millis(100),
        delay_max: Duration::from_millis(300),
    };
    let sleep = {
        let waits = Arc::clone(&waits);
        move |delay: Duration| {
            let milliseconds = u64::try_from(delay.as_millis()).unwrap();
            waits.lock().unwrap().push(milliseconds);
        }
    };
    (RetryStore::new(inner, policy, sleep), waits)
}

fn faulty(faults: &[(When, Fault)]) -> FaultyStore<MemoryStore> {
    let store = FaultyStore::new(MemoryStore::new());
    for (when, fault) in faults {
        store.inject(*when, *fault);
    }
    store
}

fn name() -> ObjectName {
    ObjectName::new("packs/d/x").unwrap()
}

const UNREACHED: Fault = Fault::Fail(ErrorKind::Transient);
const REPLY_LOST: Fault = Fault::LoseReply(ErrorKind::Transient);

#[test]
fn a_call_is_repeated_with_growing_waits_until_it_succeeds() {
    let (store, waits) = retried(faulty(&[
        (When::Call(1), UNREACHED),
        (When::Call(2), UNREACHED),
        (When::Call(3), UNREACHED),
    ]));
    store.put_new(&name(), Body::Bytes(b"x")).unwrap();
    assert_eq!(*waits.lock().unwrap(), [100, 200, 300]);
}

#[test]
fn a_call_is_given_up_after_the_last_attempt() {
    let (store, waits) = retried(faulty(&[(When::EveryOf(Operation::Get, 1), UNREACHED)]));
    assert!(store.get(&name(), 1).unwrap_err().is_transient());
    assert_eq!(store.inner().calls(), 4);
    assert_eq!(waits.lock().unwrap().len(), 3);
}

#[test]
fn other_errors_are_passed_on_at_once() {
    for kind in [
        ErrorKind::Full,
        ErrorKind::Denied,
        ErrorKind::Other,
        ErrorKind::AlreadyExists,
    ] {
        let (store, waits) = retried(faulty(&[(When::Call(1), Fault::Fail(kind))]));
        let error = store.put_new(&name(), Body::Bytes(b"x")).unwrap_err();
        assert_eq!(error.kind(), kind);
        assert!(waits.lock().unwrap().is_empty());
    }
}

#[test]
fn a_put_whose_reply_was_lost_finds_its_own_object() {
    let large = vec![7; COMPARE_BYTES + 5];
    for body in [b"".as_slice(), b"x", &large] {
        let (store, _) = retried(faulty(&[(When::Call(1), REPLY_LOST)]));
        store.put_new(&name(), Body::Bytes(body)).unwrap();
        assert_eq!(store.get(&name(), u64::MAX).unwrap(), body);
    }
}

#[test]
fn a_repeated_put_does_not_take_another_object_for_its_own() {
    for theirs in [b"theirs".as_slice(), b"our", b"ours, and more", b""] {
        let (store, _) = retried(faulty(&[(When::Call(1), UNREACHED)]));
        store
            .inner()
            .inner()
            .put_new(&name(), Body::Bytes(theirs))
            .unwrap();
        let error = store.put_new(&name(), Body::Bytes(b"ours")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AlreadyExists);
    }
}

#[test]
fn a_first_put_is_not_compared() {
    let (store, _) = retried(faulty(&[]));
    store.put_new(&name(), Body::Bytes(b"ours")).unwrap();
    let error = store.put_new(&name(), Body::Bytes(b"ours")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
}

#[test]
fn a_delete_whose_reply_was_lost_is_done() {
    let (store, _) = retried(faulty(&[(When::CallOf(Operation::Delete, 1), REPLY_LOST)]));
    store.put_new(&name(), Body::Bytes(b"x")).unwrap();
    store.delete(&name()).unwrap();
    let missing = store.delete(&name()).unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::NotFound);
}

#[test]
fn a_repeated_list_reports_every_object_once() {
    for fault in [UNREACHED, REPLY_LOST] {
        let (store, _) = retried(faulty(&[(When::CallOf(Operation::List, 1), fault)]));
        for text in ["a", "b", "c"] {
            store
                .put_new(&ObjectName::new(text).unwrap(), Body::Bytes(b""))
                .unwrap();
        }
        let mut listed = Vec::new();
        store
            .list("", &mut |object: Listed| {
                listed.push(object.name.to_string());
            })
            .unwrap();
        listed.sort();
        assert_eq!(listed, ["a", "b", "c"]);
    }
}
