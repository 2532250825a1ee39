//! `stats APP`: which tables and folders grow, night by night.
//!
//! **Invariant**: what a backup stored counts once, where it lies; what was there before counts nothing, wherever it went.

use std::fs;

use serde_json::Value;

use crate::support::{
    messages::number,
    program::{Lifeboat, Ran},
    shop::Shop,
    trees::{Tree, noise},
};

/// What each snapshot brought of a part: new bytes and stored bytes.
fn nights(answer: &Value, path: &str) -> Vec<(u64, u64)> {
    let parts = answer["growth"]["parts"].as_array().unwrap();
    let part = parts.iter().find(|part| part["path"] == path);
    let nights = part.map_or(&[][..], |part| part["nights"].as_array().unwrap());
    let of = |night| (number(night, "bytes_new"), number(night, "bytes_stored"));
    nights.iter().map(of).collect()
}

#[test]
fn each_folder_has_what_it_brought_each_night() {
    let machine = Lifeboat::with_repository();
    let tree = Tree::create(machine.path("media"));
    let source = tree.root().to_str().unwrap();
    let back_up = || {
        machine
            .run(["backup", "--app", "shop", "--source", source])
            .done()
    };
    tree.file("old/a.jpg", noise(1, 500_000))
        .file("old/b.jpg", noise(2, 300_000))
        .file("beside.txt", noise(3, 10_000));
    back_up();
    tree.file("new/c.jpg", noise(4, 700_000));
    back_up();
    // Moved, and copied: stored once before.
    let path = |name: &str| tree.root().join(name);
    fs::create_dir(path("moved")).unwrap();
    fs::rename(path("old/b.jpg"), path("moved/b.jpg")).unwrap();
    fs::copy(path("old/a.jpg"), path("new/a.jpg")).unwrap();
    tree.file("beside.txt", noise(5, 20_000));
    back_up();

    let answer = machine.run(["stats", "shop", "--json"]).done().answer();
    let none = (0, 0);
    let [first, second, third] = nights(&answer, "media/old")[..] else {
        panic!("{answer}");
    };
    assert_eq!((first.0, second, third), (800_000, none, none));
    assert!((800_000..820_000).contains(&first.1), "{answer}");
    let [first, second, third] = nights(&answer, "media/new")[..] else {
        panic!("{answer}");
    };
    assert_eq!((first, second.0, third), (none, 700_000, none));
    let beside: Vec<u64> = nights(&answer, "media").iter().map(|two| two.0).collect();
    assert_eq!(beside, [10_000, 0, 20_000]);
    assert!(nights(&answer, "media/moved").is_empty(), "{answer}");

    // Of the snapshot before, and of fewer nights.
    let answer = machine
        .run(["stats", "shop~1", "--json", "--last", "1"])
        .done();
    assert_eq!(nights(&answer.answer(), "media/new").len(), 1);
    let shown = machine.run(["stats", "shop"]).done();
    assert!(
        shown
            .stdout()
            .lines()
            .all(|line| line.chars().count() <= 80)
    );
    let lines: Vec<&str> = shown.stdout().lines().collect();
    let at = |start: &str| lines.iter().position(|line| line.starts_with(start));
    assert!(at("media/old") < at("media/new"), "{shown:?}");
    assert!(at("all").is_some(), "{shown:?}");
    machine
        .run(["stats", "shop", "--last", "0"])
        .ends_with_code(2);

    // A replica tells the same, though one run may have stored all nights there.
    let mut init = machine.command();
    let replica = ["init", "--key-file", "replica.key", "--replica-of"];
    init.env("LIFEBOAT_REPOSITORY", machine.path("replica"))
        .args(replica)
        .arg(machine.repository());
    Ran::of(init).done();
    let mut copy = machine.command();
    copy.env("LIFEBOAT_TO_KEY_FILE", machine.path("replica.key"))
        .args(["copy", "--to", "replica"]);
    Ran::of(copy).done();
    let mut stats = machine.command();
    stats
        .env("LIFEBOAT_REPOSITORY", machine.path("replica"))
        .env("LIFEBOAT_KEY_FILE", machine.path("replica.key"))
        .args(["stats", "shop", "--json"]);
    let copied = Ran::of(stats).done().answer();
    let answer = machine.run(["stats", "shop", "--json"]).done().answer();
    for part in ["media/old", "media"] {
        let new = |answer| nights(answer, part).into_iter().map(|(new, _)| new);
        assert!(new(&copied).eq(new(&answer)), "{part}: {copied}");
    }
}

#[test]
fn each_table_has_what_it_brought_each_night() {
    let app = Shop::new("");
    app.back_up();
    app.sql("INSERT INTO orders SELECT id + 100000, asset FROM orders");
    app.back_up();
    let answer = app.run(&["stats", "shop", "--json"]).done().answer();
    let orders = nights(&answer, "db/public.orders");
    assert_eq!(orders.len(), 2, "{answer}");
    assert!(orders[1].0 > 0 && orders[1].1 > 0, "{answer}");
    let parts = answer["growth"]["parts"].as_array().unwrap();
    let stored: u64 = parts.iter().map(|part| number(part, "bytes_stored")).sum();
    let nights = answer["growth"]["snapshots"].as_array().unwrap();
    let all: u64 = nights
        .iter()
        .map(|night| number(night, "bytes_stored"))
        .sum();
    assert!(stored < all, "{answer}");
}
