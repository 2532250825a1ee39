//! Any sequence of calls has the same results in a folder as in memory.

use super::*;
use crate::memory::MemoryStore;
use proptest::prelude::*;

/// A call, its names and bytes by number.
#[derive(Clone, Debug)]
enum Step {
    Put(usize, usize),
    PutSpool(usize, usize),
    Get(usize, u64),
    GetRange(usize, u64, usize),
    List(usize),
    Delete(usize),
    /// What another process sees: a store opened anew.
    Reopen,
}

const NAMES: [&str; 6] = ["a", "b/a", "b/b", "b/c/a", "c-d/a", "c.d"];
const PREFIXES: [&str; 6] = ["", "b/", "b/c/", "c-d/", "a/", "missing/"];
const LENS: [usize; 4] = [0, 1, 100, 5000];

fn step() -> impl Strategy<Value = Step> {
    let name = 0..NAMES.len();
    let len = 0..LENS.len();
    prop_oneof![
        3 => (name.clone(), len.clone()).prop_map(|(name, len)| Step::Put(name, len)),
        1 => (name.clone(), len).prop_map(|(name, len)| Step::PutSpool(name, len)),
        2 => (name.clone(), 0..6000_u64).prop_map(|(name, max)| Step::Get(name, max)),
        4 => (name.clone(), 0..200_u64, 0..200_usize)
            .prop_map(|(name, offset, len)| Step::GetRange(name, offset, len)),
        2 => (0..PREFIXES.len()).prop_map(Step::List),
        3 => name.prop_map(Step::Delete),
        1 => Just(Step::Reopen),
    ]
}

/// Everything a caller can learn from a call: its bytes or names, or the kind of its error.
fn take(store: &dyn Store, step: &Step, number: usize) -> std::result::Result<Vec<u8>, ErrorKind> {
    let name_of = |index: usize| name(NAMES[index]);
    let bytes_of = |len: usize| vec![number.to_le_bytes()[0]; LENS[len]];
    let result = match *step {
        Step::Put(name, len) => store
            .put_new(&name_of(name), Body::Bytes(&bytes_of(len)))
            .map(|()| Vec::new()),
        Step::PutSpool(name, len) => {
            let bytes = bytes_of(len);
            let file = spool(store).unwrap();
            file.write_all_at(&bytes, 0).unwrap();
            let body = Body::File {
                file: &file,
                len: bytes.len() as u64,
            };
            store.put_new(&name_of(name), body).map(|()| Vec::new())
        }
        Step::Get(name, max_bytes) => store.get(&name_of(name), max_bytes),
        Step::GetRange(name, offset, len) => {
            let mut into = vec![0; len];
            store
                .get_range(&name_of(name), offset, &mut into)
                .map(|()| into)
        }
        Step::List(prefix) => {
            let mut listed = Vec::new();
            store
                .list(PREFIXES[prefix], &mut |object| {
                    listed.push(format!("{} {}\n", object.name, object.len));
                })
                .map(|()| {
                    listed.sort();
                    listed.concat().into_bytes()
                })
        }
        Step::Delete(name) => store.delete(&name_of(name)).map(|()| Vec::new()),
        Step::Reopen => Ok(Vec::new()),
    };
    result.map_err(|error| error.kind())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn a_folder_answers_as_memory_does(
        steps in prop::collection::vec(step(), 1..60),
        named_files in any::<bool>(),
    ) {
        let (folder, mut store) = new_store();
        let memory = MemoryStore::new();
        for (number, step) in steps.iter().enumerate() {
            if matches!(step, Step::Reopen) {
                store = LocalStore::open(folder.path()).unwrap();
            }
            if named_files {
                store.puts.unnamed_files.store(false, Ordering::Relaxed);
            }
            prop_assert_eq!(take(&store, step, number), take(&memory, step, number), "{:?}", step);
        }
    }
}
