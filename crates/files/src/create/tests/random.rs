//! Any tree over any other tree.

use super::*;
use proptest::prelude::*;

/// One entry of a random tree; the names are few, so that trees meet.
#[derive(Clone, Debug)]
struct Planned {
    path: Vec<u8>,
    what: u8,
    size: u32,
    mode: u32,
    seconds: i64,
}

fn planned() -> impl Strategy<Value = Planned> {
    let path = prop::collection::vec(0_u8..4, 1..4);
    (
        path,
        0_u8..6,
        0_u32..200_000,
        0_u32..0o1000,
        -1_000_000_i64..4_000_000_000,
    )
        .prop_map(|(path, what, size, mode, seconds)| Planned {
            path,
            what,
            size,
            mode,
            seconds,
        })
}

/// Makes what of the plan can be made, in order; what stands in each other's way is left out.
fn build(top: &Path, plan: &[Planned]) {
    let mut made: Vec<(PathBuf, &Planned)> = Vec::new();
    for planned in plan {
        let mut path = top.to_owned();
        for name in &planned.path {
            path.push(["a", "b", "c", "d"][usize::from(*name)]);
        }
        let Some(parent) = path.parent() else {
            continue;
        };
        // A link on the way would lead the plan elsewhere.
        let through_link = parent
            .ancestors()
            .take_while(|above| *above != top)
            .any(Path::is_symlink);
        if through_link || path.symlink_metadata().is_ok() || fs::create_dir_all(parent).is_err() {
            continue;
        }
        let done = match planned.what {
            0 => fs::create_dir(&path),
            1 => symlink(format!("to-{}", planned.size % 3), &path),
            2 => {
                make_special(&path, FileType::Fifo, 0);
                Ok(())
            }
            3 => match made.iter().find(|(_, planned)| planned.what > 3) {
                Some((other, _)) => fs::hard_link(other, &path),
                None => continue,
            },
            _ => {
                let zeros = planned.size as usize % 2 * planned.size as usize;
                fs::write(&path, [vec![0; zeros], vec![planned.what; 10]].concat())
            }
        };
        done.unwrap();
        made.push((path, planned));
    }
    for (path, planned) in made.iter().rev() {
        if planned.what != 1 {
            set_mode(path, planned.mode | if is_root() { 0 } else { 0o700 });
        }
        set_time(path, planned.seconds, i64::from(planned.size));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn any_tree_restored_over_any_other_is_that_tree(
        wanted in prop::collection::vec(planned(), 0..20),
        standing in prop::collection::vec(planned(), 0..20),
    ) {
        let scratch = tempfile::tempdir().unwrap();
        let (source, target) = (scratch.path().join("s"), scratch.path().join("t"));
        fs::create_dir(&source).unwrap();
        fs::create_dir(&target).unwrap();
        build(&source, &wanted);
        build(&target, &standing);
        copy(&source, &target, over(Overwrite::Always), true).assert_clean();
        assert_same(&source, &target);
        assert_no_leftovers(&target);
        assert_round_trip(&source);
    }
}
