//! What very many entries cost: time, but no memory.
//!
//! Long form, by an environment variable: `LIFEBOAT_TEST_ENTRIES` (250,000; the long form takes 10,000,000, and a file
//! system with room for twice as many inodes).

use std::{fs, path::Path};

use crate::support::{
    long_form,
    messages::number,
    program::{Lifeboat, PROGRAM, Ran},
};

/// Runs the program, which ends by a signal as soon as it takes more memory than 28 MB and 16 MB for each processor.
/// On two of them, 250,000 entries do not fit if it keeps some hundred bytes for each. What it prints goes where
/// `redirection` says.
fn within_bounds(machine: &Lifeboat, arguments: &[&str], redirection: &str) -> Ran {
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    let limit = 28_000 + 16_000 * threads;
    let script = format!("ulimit -d {limit}; exec \"$0\" \"$@\" {redirection}");
    let mut command = machine.command_of("sh");
    command.args(["-c", &script, PROGRAM]).args(arguments);
    Ran::of(command).done()
}

fn entries_below(folder: &Path) -> u64 {
    let mut count = 0;
    let mut waiting = vec![folder.to_owned()];
    while let Some(folder) = waiting.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            count += 1;
            if entry.file_type().unwrap().is_dir() {
                waiting.push(entry.path());
            }
        }
    }
    count
}

#[test]
fn very_many_entries_are_backed_up_listed_and_restored_in_bounded_memory() {
    let entries = long_form("LIFEBOAT_TEST_ENTRIES", 250_000);
    let machine = Lifeboat::with_repository();
    let media = machine.path("media");
    let one = media.join("one");
    fs::create_dir_all(&one).unwrap();
    for number in 0..entries / 2 {
        fs::write(one.join(format!("{number:08}")), "").unwrap();
        let folder = media.join(format!("many/{:05}", number / 1000));
        if number % 1000 == 0 {
            fs::create_dir_all(&folder).unwrap();
        }
        fs::write(folder.join(format!("{number:08}")), "").unwrap();
    }
    let there = entries_below(&media);
    let source = media.to_str().unwrap();
    let back_up = ["backup", "--json", "--app", "shop", "--source", source];
    for _ in 0..2 {
        let made = within_bounds(&machine, &back_up, "").summary();
        assert_eq!(number(&made, "files"), entries / 2 * 2);
    }
    within_bounds(&machine, &["check"], "");
    let listed = machine.path("listed");
    let redirection = format!("> '{}'", listed.display());
    within_bounds(&machine, &["ls", "shop:media", "--recursive"], &redirection);
    let lines = fs::read_to_string(listed).unwrap().lines().count() as u64;
    assert_eq!(lines, there);
    let target = machine.path("back");
    let restore = [
        "restore",
        "shop:media",
        "--target",
        target.to_str().unwrap(),
    ];
    within_bounds(&machine, &restore, "");
    assert_eq!(entries_below(&target), there);
}
