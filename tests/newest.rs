//! Which snapshot is an app's newest state: no restore point, and no backup of some of its sources.
//!
//! **Invariant**: what brings a whole app back has all of it, and what brings back one source has the newest of that one.

use crate::support::{
    cluster::{address, new_name, psql},
    messages::text,
    program::Ran,
    shop::Shop,
};

/// Backs up with these arguments, and returns the snapshot's id.
fn back_up(app: &Shop, more: &[&str]) -> String {
    let ran = app.run(&[&["backup", "shop", "--json"], more].concat());
    text(&ran.done().summary(), "snapshot")
}

/// The id of the snapshot that a selector names.
fn named(app: &Shop, selector: &str) -> String {
    let ran = app.run(&["stats", selector, "--json"]).done();
    text(&ran.answer(), "snapshot")
}

fn says(ran: &Ran, words: &str) -> bool {
    ran.stderr.contains(words)
}

#[test]
fn what_is_about_a_whole_app_passes_over_restore_points_and_backups_of_some_sources() {
    let app = Shop::new("");
    let whole = back_up(&app, &[]);
    let restore_point = back_up(&app, &["--tag", "restore-point"]);
    for selector in ["shop", "latest", "shop@today"] {
        assert_eq!(named(&app, selector), whole, "{selector}");
    }
    assert_eq!(named(&app, "tag:restore-point"), restore_point);

    app.sql("DELETE FROM orders WHERE id > 500");
    let only = back_up(&app, &["--only", "db"]);
    assert_eq!(named(&app, "shop"), whole);
    assert_eq!(named(&app, "tag:only=db"), only);
    assert_eq!(app.drill(0)["snapshot"], whole.as_str());
    let ran = app.run(&["restore-app", "shop", "-n"]).done();
    let short = only.get(..8).unwrap();
    let told = format!("Snapshot {short} of ");
    assert!(says(&ran, &told), "{ran:?}");
    assert!(
        says(&ran, "has only db of shop: it is passed over"),
        "{ran:?}"
    );

    // Nothing lacks when all sources are named.
    let all = ["db", "rows", "secrets", "media"].map(|name| ["--only", name]);
    let all = back_up(&app, &all.concat());
    assert_eq!(named(&app, "shop"), all);
    assert_eq!(named(&app, "shop~1"), whole);

    let ran = app.run(&["tag", "shop", "--add", "only=db"]);
    assert!(ran.explains(2).contains("only=SOURCE"), "{ran:?}");
}

#[test]
fn a_database_is_restored_from_the_newest_snapshot_that_has_it() {
    let app = Shop::new("");
    back_up(&app, &[]);
    app.sql("DELETE FROM orders WHERE id > 500");
    let only = back_up(&app, &["--only", "db"]);
    app.media.file("new.jpg", "third");
    back_up(&app, &["--only", "media"]);
    for selector in ["shop", "shop:db"] {
        let name = new_name("back");
        let to = address(&app.cluster, "postgres", &name);
        let ran = app.run(&["restore-db", selector, "--to", &to, "--json"]);
        assert_eq!(ran.done().summary()["snapshot"], only.as_str());
        assert_eq!(
            psql(&app.cluster, &name, "SELECT count(*) FROM orders").trim(),
            "500"
        );
    }
    let listed = |selector: &str| app.run(&["ls", selector, "--recursive"]).done().output;
    let has = |selector: &str| {
        String::from_utf8(listed(selector))
            .unwrap()
            .contains("new.jpg")
    };
    assert!(has("shop:media") && !has("shop"));
    let dumped = app.run(&["dump", "shop:db"]).done();
    assert!(!dumped.stdout().contains("\n1000\t"), "of the newest");
}
