//! Where a visitor goes, which cookies he keeps, and how values are written.

use super::*;
use crate::config::DrillTake;

fn site() -> Site {
    let values = [("user", "a b&c"), ("quote", "\"\\"), ("empty", "")];
    let values = values.map(|(name, value)| (name.to_owned(), Zeroizing::new(value.to_owned())));
    Site::new(
        Some(8000),
        Some("shop.example.org".to_owned()),
        values.into(),
    )
}

fn at(path: &str) -> Question {
    Question {
        method: "GET".to_owned(),
        authority: "127.0.0.1:8000".to_owned(),
        path: Zeroizing::new(path.to_owned()),
        headers: Vec::new(),
        body: None,
    }
}

#[test]
fn a_visitor_is_sent_on_within_the_app_and_nowhere_else() {
    let site = site();
    for (location, path) in [
        ("/next?a=b#c", "/next?a=b"),
        ("next", "/orders/next"),
        ("?page=2", "/orders/list?page=2"),
        ("http://127.0.0.1:8000", "/"),
        ("http://127.0.0.1:8000?x", "/?x"),
        ("https://shop.example.org/next", "/next"),
        ("//shop.example.org/next", "/next"),
    ] {
        assert_eq!(
            site.path_of(&at("/orders/list?page=1"), location)
                .ok()
                .as_deref(),
            Some(path)
        );
    }
    for location in [
        "",
        "http://127.0.0.1:8001/",
        "//127.0.0.1/",
        "https://shop.example.org.evil.net/",
        "http://shop.example.org@evil.net/",
    ] {
        assert!(site.path_of(&at("/"), location).is_err(), "{location}");
    }
    // Another program of this machine is not called by the app's name.
    let other = Question {
        authority: "localhost:9000".to_owned(),
        ..at("/")
    };
    assert!(site.path_of(&other, "https://shop.example.org/").is_err());
    assert_eq!(
        site.path_of(&other, "http://localhost:9000/x")
            .ok()
            .as_deref(),
        Some("/x")
    );
}

#[test]
fn cookies_are_kept_for_whom_they_are_of_and_taken_back() {
    let mut site = site();
    let mut set = |authority: &str, cookie: &str| {
        let mut headers = HeaderMap::new();
        headers.append(header::SET_COOKIE, cookie.parse().unwrap());
        site.keep_cookies(authority, &headers);
        site.cookies.len()
    };
    assert_eq!(set("a:1", "session=x=y; Path=/; Secure; HttpOnly"), 1);
    assert_eq!(set("b:2", "session=other"), 2);
    assert_eq!(set("a:1", "session=z; Max-Age=3600"), 2);
    assert_eq!(set("a:1", "no cookie"), 2);
    assert_eq!(set("b:2", "session=; Max-Age=0"), 1);
    assert_eq!(
        set("a:1", "gone=1; expires=Thu, 01 Jan 1970 00:00:00 GMT"),
        1
    );
    assert_eq!(set("a:1", &format!("long={}", "x".repeat(9000))), 1);
    for number in 0..100 {
        set("a:1", &format!("n{number}=1"));
    }
    assert_eq!(site.cookies.len(), COOKIES_MAX);
    assert_eq!(site.cookies[&("a:1".to_owned(), "session".to_owned())], "z");
}

#[test]
fn values_are_written_as_the_place_needs_them_and_hidden_where_somebody_reads() {
    let site = site();
    let text = |text: &str| crate::config::drill_text(text);
    let mut url = DrillUrl {
        name: "login".to_owned(),
        method: "POST".to_owned(),
        authority: None,
        path: text("/u/{user}?q={quote}"),
        headers: vec![("X-User".to_owned(), text("{user}"))],
        body: Some(DrillBody::Form(vec![(
            "the user".to_owned(),
            text("<{user}>"),
        )])),
        status: 200,
        contains: None,
        take: vec![DrillTake {
            name: "token".to_owned(),
            before: "<".to_owned(),
            behind: ">".to_owned(),
        }],
        sha256_of: None,
        timeout: Duration::from_secs(1),
    };
    let question = site.question(&url);
    assert_eq!(question.path.as_str(), "/u/a%20b%26c?q=%22%5C");
    assert_eq!(question.headers[0].1.as_str(), "a b&c");
    let sent = |question: &Question| {
        let (_, bytes) = question.body.as_ref().unwrap();
        String::from_utf8(bytes.to_vec()).unwrap()
    };
    assert_eq!(sent(&question), "the%20user=%3Ca%20b%26c%3E");
    url.body = Some(DrillBody::Json(text(r#"{"user": "{user}{quote}"}"#)));
    assert_eq!(sent(&site.question(&url)), r#"{"user": "a b&c\"\\"}"#);
    assert_eq!(site.hide("who is a b&c?".to_owned()), "who is ***?");
}
