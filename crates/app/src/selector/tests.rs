//! Which snapshot a selector names.

use super::*;
use jiff::Timestamp;

fn summary(id: &str, app: &str, started: &str, tags: &[&str]) -> SnapshotSummary {
    let started: Timestamp = started.parse().unwrap();
    SnapshotSummary {
        id_hex: format!("{id:0<64}"),
        app: app.to_owned(),
        started_ms: u64::try_from(started.as_millisecond()).unwrap(),
        tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
        drilled: id == "aaaa1111" || id == "aaaa2222",
    }
}

/// The snapshots that the tests select from; their ids tell them apart.
fn snapshots() -> Vec<SnapshotSummary> {
    vec![
        summary("aaaa1111", "shop", "2026-11-18T02:30:20.5Z", &["monthly"]),
        summary(
            "aaaa2222",
            "shop",
            "2026-11-19T02:00:59.999Z",
            &["monthly", "before-upgrade"],
        ),
        summary("bbbb3333", "blog", "2026-11-19T23:30:00Z", &[]),
        summary("cccc4444", "shop", "2026-11-20T02:30:00Z", &[]),
        // An app whose name reads as the beginning of an id.
        summary("dddd5555", "cafe", "2026-11-01T00:00:00Z", &[]),
        summary("cafe6666", "blog", "2026-11-02T00:00:00Z", &[]),
    ]
}

fn now() -> Zoned {
    "2026-11-20T09:00:00+01:00[Europe/Berlin]".parse().unwrap()
}

fn select_from(snapshots: &[SnapshotSummary], selector: &str) -> Result<String, String> {
    let shown = |error: SelectorError| error.to_string();
    let selector = Selector::parse(OsStr::new(selector)).map_err(shown)?;
    let choice = selector.resolve(snapshots, &now()).map_err(shown)?;
    Ok(snapshots[choice.index].id_hex[..8].to_owned())
}

fn select(selector: &str) -> Result<String, String> {
    select_from(&snapshots(), selector)
}

#[test]
fn each_form_names_its_snapshot() {
    for (selector, id) in [
        ("latest", "cccc4444"),
        ("latest~0", "cccc4444"),
        ("latest~2", "aaaa2222"),
        ("latest@2026-11-19", "aaaa2222"),
        ("drilled", "aaaa2222"),
        ("drilled~1", "aaaa1111"),
        ("drilled@2026-11-18", "aaaa1111"),
        ("aaaa1", "aaaa1111"),
        ("AAAA2222", "aaaa2222"),
        ("bbbb", "bbbb3333"),
        ("shop", "cccc4444"),
        ("shop~1", "aaaa2222"),
        ("shop~2", "aaaa1111"),
        ("cafe~0", "dddd5555"),
        ("tag:before-upgrade", "aaaa2222"),
        ("tag:before-upgrade:db/public.orders", "aaaa2222"),
        ("shop:uploads", "cccc4444"),
    ] {
        assert_eq!(select(selector).as_deref(), Ok(id), "{selector}");
    }
}

/// A restore point and a backup of the database alone are newer than what they are made of.
fn with_others() -> Vec<SnapshotSummary> {
    let mut snapshots = vec![
        summary("aaaa1111", "shop", "2026-11-17T02:30:00Z", &[]),
        summary("aaaa2222", "shop", "2026-11-18T02:30:00Z", &["nightly"]),
        summary("bbbb3333", "shop", "2026-11-18T03:30:00Z", &["only=db"]),
        summary(
            "cccc4444",
            "shop",
            "2026-11-18T04:30:00Z",
            &["restore-point"],
        ),
        summary(
            "dddd5555",
            "blog",
            "2026-11-16T04:30:00Z",
            &["restore-point"],
        ),
    ];
    for snapshot in &mut snapshots {
        snapshot.drilled = true;
    }
    snapshots
}

#[test]
fn restore_points_and_backups_of_some_sources_are_not_the_newest_state() {
    let snapshots = with_others();
    for (selector, id) in [
        ("latest", "aaaa2222"),
        ("latest~1", "aaaa1111"),
        ("drilled", "aaaa2222"),
        ("shop", "aaaa2222"),
        ("shop~1", "aaaa1111"),
        ("shop@2026-11-18", "aaaa2222"),
        ("shop:uploads/db", "aaaa2222"),
        ("shop:db", "bbbb3333"),
        ("shop:db/public.orders", "bbbb3333"),
        ("shop~1:db", "aaaa2222"),
        ("shop@today:db", "bbbb3333"),
        ("cccc", "cccc4444"),
        ("bbbb", "bbbb3333"),
        ("tag:restore-point:db", "several"),
        ("tag:only=db", "bbbb3333"),
    ] {
        let chosen = select_from(&snapshots, selector);
        match id {
            "several" => assert!(chosen.unwrap_err().starts_with("2 snapshots are")),
            id => assert_eq!(chosen.as_deref(), Ok(id), "{selector}"),
        }
    }
    assert_eq!(
        select_from(&snapshots, "blog").unwrap_err(),
        "no snapshot is `blog`: the app `blog` has only restore points and backups of some sources; an id names one \
         of them, and a source, such as `shop:db`, the newest that has it"
    );
    assert_eq!(
        select_from(&snapshots, "shop~2").unwrap_err(),
        "no snapshot is `shop~2`: the app `shop` has 2 snapshots, without restore points and backups of some sources, \
         the oldest is `~1`"
    );
}

#[test]
fn an_app_of_which_nothing_counts_does_not_give_its_name_to_an_id() {
    let snapshots = [
        summary(
            "aaaa1111",
            "beef",
            "2026-11-17T02:30:00Z",
            &["restore-point"],
        ),
        summary("beef2222", "shop", "2026-11-18T02:30:00Z", &[]),
    ];
    let error = select_from(&snapshots, "beef").unwrap_err();
    assert!(error.starts_with("2 snapshots are"), "{error}");
    assert_eq!(select_from(&snapshots, "beef2").unwrap(), "beef2222");
}

#[test]
fn a_backup_of_some_sources_that_is_passed_over_is_told() {
    let snapshots = with_others();
    for (selector, id) in [
        ("shop", Some("bbbb3333")),
        ("shop~0", Some("bbbb3333")),
        ("shop@today", Some("bbbb3333")),
        ("shop:uploads", Some("bbbb3333")),
        ("latest", Some("bbbb3333")),
        ("shop~1", None),
        ("shop@2026-11-17", None),
        ("shop:db", None),
        ("aaaa2", None),
    ] {
        let choice = Selector::parse(OsStr::new(selector))
            .unwrap()
            .resolve(&snapshots, &now())
            .unwrap();
        let told = choice
            .passed_over
            .map(|index| &snapshots[index].id_hex[..8]);
        assert_eq!(told, id, "{selector}");
    }
    assert_eq!(snapshots[2].only(), Some(vec!["db"]));
    assert_eq!(only_tags(&["db", "uploads"]), ["only=db", "only=uploads"]);
}

#[test]
fn a_time_stands_for_the_newest_at_or_before_it_in_the_zone() {
    for (selector, id) in [
        ("shop@2026-11-18", "aaaa1111"),
        ("shop@2026-11-19", "aaaa2222"),
        ("shop@2026-11-20", "cccc4444"),
        ("shop@2030-01-01", "cccc4444"),
        ("shop@9999-12-31", "cccc4444"),
        ("shop@today", "cccc4444"),
        ("shop@yesterday", "aaaa2222"),
        // 23:30 in UTC is the next day in Berlin.
        ("blog@yesterday", "cafe6666"),
        ("blog@2026-11-20", "bbbb3333"),
        // A minute lasts to its end, a second too.
        ("shop@2026-11-19 03:00", "aaaa2222"),
        ("shop@2026-11-19T03:00", "aaaa2222"),
        ("shop@2026-11-19 02:59", "aaaa1111"),
        ("shop@2026-11-19 03:00:59", "aaaa2222"),
        ("shop@2026-11-19 03:00:58", "aaaa1111"),
        ("shop@\"2026-11-19 03:00\"", "aaaa2222"),
        ("shop@'2026-11-19'", "aaaa2222"),
    ] {
        assert_eq!(select(selector).as_deref(), Ok(id), "{selector}");
    }
}

#[test]
fn a_time_that_the_clock_shows_twice_or_never_is_taken_as_the_later_one() {
    // In Berlin clocks went from 3 back to 2 on 2026-10-25, and from 2 to 3 on 2026-03-29.
    let snapshots = [
        summary("aaaa0000", "shop", "2026-10-25T00:30:00Z", &[]),
        summary("bbbb0000", "shop", "2026-10-25T01:30:00Z", &[]),
        summary("cccc0000", "shop", "2026-03-29T01:10:00Z", &[]),
    ];
    for (selector, id) in [
        ("shop@2026-10-25 02:30", "bbbb0000"),
        ("shop@2026-10-25 02:29", "aaaa0000"),
        ("shop@2026-03-29 02:10", "cccc0000"),
    ] {
        assert_eq!(
            select_from(&snapshots, selector).as_deref(),
            Ok(id),
            "{selector}"
        );
    }
}

#[test]
fn what_names_no_snapshot_is_told_with_what_there_is() {
    for (selector, expected) in [
        ("shp", "no snapshot is `shp`: did you mean `shop`?"),
        (
            "nothing",
            "no snapshot is `nothing`: the apps there are: `blog`, `cafe`, `shop`",
        ),
        (
            "ab",
            "no snapshot is `ab`: the apps there are: `blog`, `cafe`, `shop`; an id is named by 4 digits or more",
        ),
        (
            "ffff",
            "no snapshot is `ffff`: the apps there are: `blog`, `cafe`, `shop`, and no id begins so",
        ),
        (
            "bbbb~1",
            "no snapshot is `bbbb~1`: the apps there are: `blog`, `cafe`, `shop`, and no id begins so",
        ),
        (
            "shop~3",
            "no snapshot is `shop~3`: the app `shop` has 3 snapshots, the oldest is `~2`",
        ),
        (
            "cafe~1",
            "no snapshot is `cafe~1`: the app `cafe` has one snapshot, the oldest is `~0`",
        ),
        (
            "latest~9",
            "no snapshot is `latest~9`: the repository has 6 snapshots, the oldest is `~5`",
        ),
        (
            "shop@2026-11-17",
            "no snapshot is `shop@2026-11-17`: the oldest that the app `shop` has is of 2026-11-18 03:30:20",
        ),
        (
            "tag:before_upgrade",
            "no snapshot is `tag:before_upgrade`: did you mean `before-upgrade`?",
        ),
        (
            "tag:x",
            "no snapshot is `tag:x`: the tags there are: `before-upgrade`, `monthly`",
        ),
        (
            "drilled~2",
            "no snapshot is `drilled~2`: the list of drilled snapshots has 2 snapshots, the oldest is `~1`",
        ),
    ] {
        assert_eq!(select(selector).unwrap_err(), expected);
    }
    assert_eq!(
        select_from(&snapshots()[2..], "drilled").unwrap_err(),
        "no snapshot is `drilled`: no drill of any snapshot has passed yet"
    );
    assert_eq!(
        select_from(&[], "latest").unwrap_err(),
        "no snapshot is `latest`: the repository has no snapshots"
    );
    assert_eq!(
        select_from(
            &[summary("aaaa", "a", "2026-01-01T00:00:00Z", &[])],
            "tag:x"
        )
        .unwrap_err(),
        "no snapshot is `tag:x`: no snapshot has a tag"
    );
}

#[test]
fn several_matches_are_listed_and_none_is_chosen() {
    for (selector, expected) in [
        (
            "aaaa",
            "2 snapshots are `aaaa`; name one by its id:\n  \
             aaaa2222  2026-11-19 03:00:59  shop\n  \
             aaaa1111  2026-11-18 03:30:20  shop",
        ),
        (
            "tag:monthly",
            "2 snapshots are `tag:monthly`; name one by its id:\n  \
             aaaa2222  2026-11-19 03:00:59  shop\n  \
             aaaa1111  2026-11-18 03:30:20  shop",
        ),
        (
            "cafe",
            "2 snapshots are `cafe`; name one by its id:\n  \
             dddd5555  2026-11-01 01:00:00  cafe\n  \
             cafe6666  2026-11-02 01:00:00  blog",
        ),
    ] {
        assert_eq!(select(selector).unwrap_err(), expected);
    }
}

#[test]
fn a_long_list_is_cut_and_ids_are_as_long_as_they_must_be() {
    let snapshots: Vec<_> = (0..12)
        .map(|day| {
            summary(
                &format!("aaaabbbb{day:02}"),
                "shop",
                &format!("2026-11-{:02}T00:00:00Z", day + 1),
                &[],
            )
        })
        .collect();
    let error = select_from(&snapshots, "aaaa").unwrap_err();
    assert!(
        error.starts_with("12 snapshots are `aaaa`; name one by its id:\n  aaaabbbb11  2026-11-12"),
        "{error}"
    );
    assert!(error.ends_with("\n  and 2 older ones"), "{error}");
}

#[test]
fn a_snapshot_that_is_meant_twice_is_one() {
    let snapshots = [summary("cafe0000", "cafe", "2026-01-01T00:00:00Z", &[])];
    assert_eq!(select_from(&snapshots, "cafe").as_deref(), Ok("cafe0000"));
}

#[test]
fn snapshots_of_the_same_moment_have_a_fixed_order() {
    let mut snapshots = vec![
        summary("bbbb", "shop", "2026-01-01T00:00:00Z", &[]),
        summary("aaaa", "shop", "2026-01-01T00:00:00Z", &[]),
    ];
    assert_eq!(select_from(&snapshots, "shop").as_deref(), Ok("aaaa0000"));
    snapshots.reverse();
    assert_eq!(select_from(&snapshots, "shop").as_deref(), Ok("aaaa0000"));
}

#[test]
fn what_cannot_be_read_is_refused() {
    let time =
        "`@` is followed by a time: `2026-11-19`, `2026-11-19 03:00`, `yesterday` or `today`";
    let begins = "a selector begins with `latest`, an app, an id or `tag:`, not with";
    for (selector, expected) in [
        ("", format!("{begins} \"\"")),
        (":path", format!("{begins} \":path\"")),
        ("~1", format!("{begins} \"~1\"")),
        ("@today", format!("{begins} \"@today\"")),
        ("tag:", format!("{begins} \"tag:\"")),
        (
            "shop~",
            "in `shop~`, `~` is followed by how many snapshots to go back, such as `~1`".to_owned(),
        ),
        (
            "shop~+1",
            "in `shop~+1`, `~` is followed by how many snapshots to go back, such as `~1`"
                .to_owned(),
        ),
        ("shop@", format!("in `shop@`, {time}")),
        ("shop@tomorrow", format!("in `shop@tomorrow`, {time}")),
        ("shop@2026-11", format!("in `shop@2026-11`, {time}")),
        ("shop@2026-02-30", format!("in `shop@2026-02-30`, {time}")),
        ("shop@2026-11-19x", format!("in `shop@2026-11-19x`, {time}")),
        (
            "shop@2026-11-19 3:00",
            format!("in `shop@2026-11-19 3`, {time}"),
        ),
        (
            "shop@\"2026-11-19",
            format!("in `shop@\"2026-11-19`, {time}"),
        ),
        (
            "shop:a/../b",
            "the path \"a/../b\" of a selector is inside the snapshot and so has no `..`"
                .to_owned(),
        ),
        (
            "shop:a\0",
            "the path \"a\\0\" of a selector has a zero byte".to_owned(),
        ),
    ] {
        let error = Selector::parse(OsStr::new(selector)).unwrap_err();
        assert_eq!(error.to_string(), expected);
    }
    let error = Selector::parse(OsStr::from_bytes(b"sh\xffp:x")).unwrap_err();
    assert_eq!(
        error.to_string(),
        "a selector is text up to its colon, not \"sh\u{fffd}p:x\""
    );
}

#[test]
fn a_path_follows_the_first_colon_that_is_not_of_a_time() {
    for (selector, name, path) in [
        ("shop", Some("shop"), ""),
        ("shop:", Some("shop"), ""),
        ("shop:/", Some("shop"), ""),
        (
            "shop:media//./uploads/2026/",
            Some("shop"),
            "media/uploads/2026",
        ),
        ("shop:a:b", Some("shop"), "a:b"),
        ("shop:a@b~1", Some("shop"), "a@b~1"),
        ("shop:...", Some("shop"), "..."),
        ("latest:db", None, "db"),
        ("tag:t:db/x", None, "db/x"),
        ("shop@today:x", Some("shop"), "x"),
        ("shop@2026-11-19:x", Some("shop"), "x"),
        ("shop@2026-11-19 03:00:x", Some("shop"), "x"),
        ("shop@2026-11-19 03:00:15", Some("shop"), ""),
        ("shop@2026-11-19 03:00:15:x", Some("shop"), "x"),
        ("shop@2026-11-19 03:00:15/x", Some("shop"), "15/x"),
        ("shop@2026-11-19 03:00:2026/x", Some("shop"), "2026/x"),
        ("shop@\"2026-11-19 03:00\":15", Some("shop"), "15"),
    ] {
        let parsed = Selector::parse(OsStr::new(selector)).unwrap();
        assert_eq!(parsed.name(), name, "{selector}");
        assert_eq!(parsed.path(), OsStr::new(path), "{selector}");
    }
}

#[test]
fn a_path_is_bytes() {
    let selector = Selector::parse(OsStr::from_bytes(b"shop:caf\xe9/\xff")).unwrap();
    assert_eq!(selector.path().as_bytes(), b"caf\xe9/\xff");
}

#[test]
fn no_text_whatever_makes_the_parser_panic() {
    let parts: [&[u8]; 14] = [
        b"latest",
        b"shop",
        b"tag:",
        b"~",
        b"1",
        b"@",
        b"today",
        b"2026-11-19",
        b" 03:00",
        b":",
        b"/",
        b"..",
        b"\"",
        b"\xff",
    ];
    for first in parts {
        for second in parts {
            for third in parts {
                for fourth in parts {
                    let text = [first, second, third, fourth].concat();
                    let Ok(selector) = Selector::parse(OsStr::from_bytes(&text)) else {
                        continue;
                    };
                    let path = selector.path().as_bytes();
                    assert!(path.split(|byte| *byte == b'/').all(|part| part != b".."));
                    let _ = selector.resolve(&snapshots(), &now());
                }
            }
        }
    }
}
