//! A backup that is killed, or asked to stop, at any moment: the repository stays whole and takes the next one.
//!
//! **Invariant**: after every kill each listed snapshot is one that a backup had finished or was finishing, and holds
//! exactly what the source held in that round.
//!
//! Long form, by an environment variable: `LIFEBOAT_TEST_KILLS` (40; the long form takes 200).

use std::{
    collections::BTreeMap,
    fs,
    path::PathBuf,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::{
    long_form,
    messages::text,
    program::{Lifeboat, Ran, ends_soon},
    same::same,
    trees::{Tree, noise},
};

/// A machine, its source, and copies of what the source held in each round.
struct Bench {
    machine: Lifeboat,
    tree: Tree,
    round: u64,
    /// Which round each known snapshot holds.
    holds: BTreeMap<String, u64>,
}

impl Bench {
    fn new() -> Self {
        let machine = Lifeboat::with_repository();
        let tree = Tree::create(machine.path("media"));
        tree.media(1, 60);
        Self {
            machine,
            tree,
            round: 0,
            holds: BTreeMap::new(),
        }
    }

    fn command(&self) -> Command {
        let mut command = self.machine.command();
        command
            .args(["backup", "--no-progress", "--app", "shop", "--source"])
            .arg(self.tree.root())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command
    }

    fn copy(&self, round: u64) -> PathBuf {
        self.machine.path(format!("copy-{round}"))
    }

    /// Changes the source and keeps a copy of it.
    fn next_round(&mut self) {
        self.round += 1;
        let round = self.round;
        self.tree
            .file(&format!("new/{}", round % 9), noise(round, 1_800_000))
            .file(&format!("new/small-{round}"), noise(round, 3_000))
            .file("round", round.to_string());
        if round > 3 {
            self.tree.remove(&format!("new/small-{}", round - 3));
        }
        let paths = [self.tree.root().to_owned(), self.copy(round)];
        let copied = Command::new("cp").arg("-a").args(paths).status();
        assert!(copied.unwrap().success());
    }

    fn listed(&self) -> Vec<String> {
        let list = self.machine.run(["snapshots", "--json"]).done().answer();
        list.as_array()
            .unwrap()
            .iter()
            .map(|one| text(one, "id"))
            .collect()
    }

    /// Fails unless a snapshot holds what the source held in a round.
    fn is_right(&self, id: &str, round: u64) {
        let target = self.machine.path("back");
        let mut restore = self.machine.command();
        restore
            .args(["restore", &format!("{id}:media"), "--target"])
            .arg(&target);
        Ran::of(restore).done();
        same(&self.copy(round), &target);
        fs::remove_dir_all(target).unwrap();
    }

    /// What must hold after a backup of this round was ended before its time: the repository opens, what is listed is
    /// right, and the next backup succeeds. Returns whether the one that was ended had made its snapshot.
    fn is_whole(&mut self) -> bool {
        let mut news = self.news();
        assert!(news.len() <= 1, "{news:?}");
        let had_made_it = !news.is_empty();
        assert!(
            self.command().status().unwrap().success(),
            "the next backup succeeds"
        );
        news.extend(self.news());
        for id in &news {
            self.is_right(id, self.round);
        }
        had_made_it
    }

    /// Snapshots that were not known; they are of this round.
    fn news(&mut self) -> Vec<String> {
        let listed = self.listed();
        assert!(
            self.holds.keys().all(|id| listed.contains(id)),
            "none is ever lost"
        );
        let mut news = listed;
        news.retain(|id| !self.holds.contains_key(id));
        self.holds
            .extend(news.iter().map(|id| (id.clone(), self.round)));
        news
    }
}

#[test]
fn a_backup_killed_at_any_moment_leaves_a_whole_repository() {
    let kills = long_form("LIFEBOAT_TEST_KILLS", 40);
    let mut bench = Bench::new();
    bench.next_round();
    let begun = Instant::now();
    assert!(bench.command().status().unwrap().success());
    bench.news();
    bench.next_round();
    let begun_again = Instant::now();
    assert!(bench.command().status().unwrap().success());
    let (first, mut usual) = (begun_again - begun, begun_again.elapsed());
    println!("the first backup took {first:?}, the next one {usual:?}");
    bench.news();
    let (mut killed, mut made) = (0, 0);
    for kill in 0..kills {
        bench.next_round();
        let mut child = bench.command().spawn().unwrap();
        // Moments from the first to a little after the last, in an order without a pattern.
        let share = f64::from(u32::try_from(kill * 37 % kills).unwrap()) / kills as f64;
        thread::sleep(usual.mul_f64(share * 1.1));
        child.kill().unwrap();
        if child.wait().unwrap().code().is_none() {
            killed += 1;
        } else {
            // It was faster than the one that was measured, which met a busier machine.
            usual = usual.mul_f64(0.9);
        }
        made += u64::from(bench.is_whole());
    }
    println!("{killed} of {kills} backups were killed at work; {made} had made their snapshot");
    assert!(
        killed > kills / 2,
        "most are killed at work: {killed} of {kills}"
    );
    for (id, round) in &bench.holds {
        bench.is_right(id, *round);
    }
    bench.machine.run(["check", "--read-data"]).done();
}

#[test]
fn a_backup_that_is_asked_to_stop_ends_soon_and_leaves_no_snapshot() {
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        let mut bench = Bench::new();
        // More than can be read in the time: zeros that take no room.
        bench.tree.sparse_file("endless", 1 << 40);
        let mut child = bench.command().spawn().unwrap();
        thread::sleep(Duration::from_millis(700));
        kill_process(Pid::from_child(&child), signal).unwrap();
        assert_eq!(ends_soon(&mut child), Some(code));
        assert_eq!(bench.listed().len(), 0);
        bench.tree.remove("endless");
        bench.next_round();
        assert!(!bench.is_whole());
        bench.machine.run(["check", "--read-data"]).done();
    }
}

#[test]
fn a_closed_terminal_stops_a_backup_but_not_one_that_was_to_outlive_it() {
    let bench = Bench::new();
    bench.tree.sparse_file("endless", 1 << 40);
    for (how, last, code) in [
        ("--default-signal=HUP", Signal::HUP, 129),
        ("--ignore-signal=HUP", Signal::TERM, 143),
    ] {
        let backup = bench.command();
        let mut command = Command::new("env");
        command.env_clear();
        command.arg(how).arg(backup.get_program());
        command.args(backup.get_args());
        for (name, value) in backup.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        if let Some(folder) = backup.get_current_dir() {
            command.current_dir(folder);
        }
        let mut child = command.stdout(Stdio::null()).spawn().unwrap();
        let pid = Pid::from_child(&child);
        thread::sleep(Duration::from_millis(700));
        kill_process(pid, Signal::HUP).unwrap();
        if last != Signal::HUP {
            thread::sleep(Duration::from_millis(700));
            assert_eq!(child.try_wait().unwrap(), None, "it goes on");
            kill_process(pid, last).unwrap();
        }
        assert_eq!(ends_soon(&mut child), Some(code));
        assert_eq!(bench.listed().len(), 0);
    }
}

#[test]
fn a_restore_that_is_asked_to_stop_ends_soon_and_can_be_done_again() {
    let mut bench = Bench::new();
    bench.tree.file("large", noise(4, 150_000_000));
    bench.next_round();
    assert!(bench.command().status().unwrap().success());
    let target = bench.machine.path("back");
    let restore = || {
        let mut restore = bench.machine.command();
        restore
            .args([
                "restore",
                "shop:media",
                "--overwrite",
                "if-changed",
                "--target",
            ])
            .arg(&target);
        restore
    };
    let mut child = restore().stderr(Stdio::piped()).spawn().unwrap();
    while !target.exists() {
        thread::sleep(Duration::from_millis(1));
    }
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    assert_eq!(ends_soon(&mut child), Some(143));
    let said = std::io::read_to_string(child.stderr.take().unwrap()).unwrap();
    assert!(said.contains("--overwrite if-changed"), "{said}");
    Ran::of(restore()).done();
    same(bench.tree.root(), &target);
}
