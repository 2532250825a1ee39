//! Tables of connection strings; the expectations are libpq's own rules.

use super::*;

fn values(text: &str) -> Vec<(&'static str, String)> {
    parse(text)
        .unwrap_or_else(|error| panic!("{text}: {error}"))
        .0
        .iter()
        .map(|(name, value)| (*name, value.to_string()))
        .collect()
}

fn expect(text: &str, expected: &[(&'static str, &str)]) {
    let expected: Vec<_> = expected
        .iter()
        .map(|(name, value)| (*name, (*value).to_owned()))
        .collect();
    assert_eq!(values(text), expected, "{text}");
}

fn refusal(text: &str) -> ConninfoError {
    match parse(text) {
        Ok(_) => panic!("{text} was accepted"),
        Err(error) => error,
    }
}

#[test]
fn urls_are_taken_apart_as_libpq_does() {
    expect("postgres://", &[]);
    expect("postgresql:///shop", &[("dbname", "shop")]);
    expect("postgres://localhost", &[("host", "localhost")]);
    expect(
        "postgres://ann:secret@db.internal:5433/shop?sslmode=verify-full&connect_timeout=5",
        &[
            ("connect_timeout", "5"),
            ("dbname", "shop"),
            ("host", "db.internal"),
            ("password", "secret"),
            ("port", "5433"),
            ("sslmode", "verify-full"),
            ("user", "ann"),
        ],
    );
    expect(
        "postgres://[2001:db8::1]:5433/shop",
        &[
            ("dbname", "shop"),
            ("host", "2001:db8::1"),
            ("port", "5433"),
        ],
    );
    expect(
        "postgres://%2Fvar%2Frun%2Fpostgresql/shop",
        &[("dbname", "shop"), ("host", "/var/run/postgresql")],
    );
    expect(
        "postgres:///shop?host=/tmp/s&port=6000&user=ann",
        &[
            ("dbname", "shop"),
            ("host", "/tmp/s"),
            ("port", "6000"),
            ("user", "ann"),
        ],
    );
    expect(
        "postgres://localhost?ssl=true",
        &[("host", "localhost"), ("sslmode", "require")],
    );
    expect(
        "postgres://ann@/shop",
        &[("dbname", "shop"), ("user", "ann")],
    );
}

#[test]
fn percent_decoding_is_exact() {
    expect(
        "postgres://a%40b:p%2Fw%3A%25%20+x@h/d%C3%A9",
        &[
            ("dbname", "dé"),
            ("host", "h"),
            ("password", "p/w:% +x"),
            ("user", "a@b"),
        ],
    );
    for broken in [
        "postgres://h/%",
        "postgres://h/%2",
        "postgres://h/%zz",
        "postgres://h/%00",
    ] {
        assert_eq!(refusal(broken), ConninfoError::PercentEncoding, "{broken}");
    }
    assert_eq!(refusal("postgres://h/%ff"), ConninfoError::NotText);
}

#[test]
fn several_hosts_stay_a_list_so_that_they_can_be_refused_by_name() {
    expect(
        "postgres://a:1,b:2/d",
        &[("dbname", "d"), ("host", "a,b"), ("port", "1,2")],
    );
}

#[test]
fn keyword_strings_know_quotes_backslashes_and_spaces() {
    expect("", &[]);
    expect("shop", &[("dbname", "shop")]);
    expect(
        r"host = db.internal  password='it\'s \\ here' user=an\ n options=''",
        &[
            ("host", "db.internal"),
            ("options", ""),
            ("password", r"it's \ here"),
            ("user", "an n"),
        ],
    );
    expect("port=1 port=2", &[("port", "2")]);
}

#[test]
fn what_is_wrong_is_named_and_passwords_are_not_repeated() {
    assert_eq!(refusal("host=h user"), ConninfoError::MissingEquals);
    assert_eq!(refusal("password='abc"), ConninfoError::OpenQuote);
    assert_eq!(refusal("postgres://[::1/d"), ConninfoError::OpenBracket);
    assert_eq!(refusal("postgres://[::1]x/d"), ConninfoError::AfterHost);
    assert_eq!(
        refusal("postgres://h/d?sslmode"),
        ConninfoError::QueryWithoutValue
    );
    assert_eq!(refusal("hots=h"), ConninfoError::Unknown("hots".to_owned()));
    assert_eq!(
        refusal("host=h target_session_attrs=read-write").to_string(),
        "connection parameter target_session_attrs is not supported with this value (only \"any\" is)"
    );
    assert_eq!(
        refusal("host=h requirepeer=postgres").to_string(),
        "connection parameter requirepeer is not supported with this value"
    );
}

/// The slips by which a password lands where an error would quote it.
#[test]
fn a_mistyped_address_is_refused_without_a_word_of_its_password() {
    for text in [
        "postgres//ann:hunter@db/shop?sslmode=require",
        "postgresq://ann:hunter@db/shop?sslmode=require",
        "postgresq://ann:hunter@db/shop",
        "postgres:/ann:hunter@db/shop",
        "ann:hunter@db",
        "postgres://ann:hunt@hunter@db/shop",
        "postgres://ann:hunter/2@db/shop",
        "postgres://ann:12/hunter@db/shop",
        "host=db password=hunter 2 dbname=shop",
        "host=db password=my hunter dbname=shop",
        "host=db password=my Hunter2=x dbname=shop",
    ] {
        let said = refusal(text).to_string().to_lowercase();
        assert!(!said.contains("hunt"), "{text}: {said}");
    }
    // An `@` is no slip where it cannot be a password's.
    expect(
        "postgres://ann@db/a%40b?application_name=a@b",
        &[
            ("application_name", "a@b"),
            ("dbname", "a@b"),
            ("host", "db"),
            ("user", "ann"),
        ],
    );
}
