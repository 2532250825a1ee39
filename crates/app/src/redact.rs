//! Secrets taken out of text before it is kept or shown.
//!
//! What can hold a secret by mistake is known: a URL with a password (`postgres://user:password@host`), a setting
//! (`password=…`, also in a connection string), an option (`--password=…`, `--password …`). Invariant: everything
//! that is written into the history or a log, and every address in a message, went through here. In doubt more is
//! taken out than needed; but this is a net under people's slips, no proof that a text holds no secret.

/// What stands in a secret's place.
const HIDDEN: &str = "***";

/// A setting whose name ends so holds a secret. (`password-file` does not end so.)
const SECRET_NAMES: [&str; 9] = [
    "password",
    "passwd",
    "passphrase",
    "secret",
    "token",
    "secret_key",
    "access_key",
    "api_key",
    "apikey",
];

/// The text with the passwords of its URLs and the values of its secret settings hidden.
#[must_use]
pub fn redact(text: &str) -> String {
    redact_settings(&redact_urls(text))
}

/// The arguments of a command, each redacted; also the one that follows an option such as `--password`.
#[must_use]
pub fn redact_arguments<S: AsRef<str>>(arguments: &[S]) -> Vec<String> {
    let mut hide_next = false;
    let mut redacted = Vec::with_capacity(arguments.len());
    for argument in arguments {
        let argument = argument.as_ref();
        let hide = std::mem::take(&mut hide_next);
        redacted.push(match argument.split_once('=') {
            _ if hide => HIDDEN.to_owned(),
            // The value of an option is all the rest, spaces too.
            Some((name, _)) if name.starts_with('-') && is_secret_name(name) => {
                format!("{name}={HIDDEN}")
            }
            None if argument.starts_with("--") && is_secret_name(argument) => {
                hide_next = true;
                argument.to_owned()
            }
            _ => redact(argument),
        });
    }
    redacted
}

/// Hides the passwords in `scheme://user:password@host`.
fn redact_urls(text: &str) -> String {
    let mut redacted = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, address)) = rest.split_once("://") {
        redacted.push_str(before);
        redacted.push_str("://");
        rest = address;
        let end = address.find(char::is_whitespace).unwrap_or(address.len());
        // What closes an address in a sentence may also stand in a password.
        let closed = address[..end].find(['"', '<', '>']).unwrap_or(end);
        let found = password_in(&address[..closed]).or_else(|| password_in(&address[..end]));
        if let Some((colon, at)) = found {
            redacted.push_str(&address[..=colon]);
            redacted.push_str(HIDDEN);
            rest = &address[at..];
        }
    }
    redacted + rest
}

/// Where the password of an address lies: the places of the colon before it and of the `@` behind it.
fn password_in(address: &str) -> Option<(usize, usize)> {
    let authority_end = address.find(['/', '?', '#']).unwrap_or(address.len());
    let colon = address[..authority_end].find(':')?;
    // A password with a `/` that nobody encoded reaches beyond what looks like the authority.
    let at = address[..authority_end]
        .rfind('@')
        .or_else(|| address.rfind('@'))?;
    (colon < at).then_some((colon, at))
}

/// Hides the values in `password=value`, `password='value'`, `…&password=value&…`.
fn redact_settings(text: &str) -> String {
    let mut redacted = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, value)) = rest.split_once('=') {
        redacted.push_str(before);
        redacted.push('=');
        rest = value;
        // Connection strings may have spaces on both sides of the sign.
        let name = before.trim_end_matches([' ', '\t']);
        let name_start = name
            .char_indices()
            .rfind(|(_, letter)| !(letter.is_ascii_alphanumeric() || matches!(letter, '_' | '-')))
            .map_or(0, |(place, letter)| place + letter.len_utf8());
        if is_secret_name(&name[name_start..]) {
            let spaces = value.len() - value.trim_start_matches([' ', '\t']).len();
            let (spaces, value) = value.split_at(spaces);
            redacted.push_str(spaces);
            let length = value_length(value);
            if length > 0 {
                redacted.push_str(HIDDEN);
            }
            rest = &value[length..];
        }
    }
    redacted + rest
}

/// The length in bytes of the setting's value at the beginning of `text`: up to a space or `&` outside of quotes.
fn value_length(text: &str) -> usize {
    let mut quote = None;
    let mut escaped = false;
    for (place, letter) in text.char_indices() {
        match quote {
            None if letter.is_whitespace() || letter == '&' => return place,
            None => quote = Some(letter).filter(|letter| matches!(letter, '\'' | '"')),
            Some(open) if letter == open && !escaped => quote = None,
            Some(_) => {}
        }
        escaped = letter == '\\' && !escaped;
    }
    text.len()
}

fn is_secret_name(name: &str) -> bool {
    let name = name.to_ascii_lowercase().replace('-', "_");
    SECRET_NAMES.iter().any(|secret| name.ends_with(secret))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_of_addresses_are_hidden() {
        for (text, expected) in [
            ("postgres://u:pw@h/db", "postgres://u:***@h/db"),
            ("postgres://u:p@w@h:5/db?a=b", "postgres://u:***@h:5/db?a=b"),
            ("postgres://u:p/w@h/db", "postgres://u:***@h/db"),
            (
                "x postgres://u:pw@h1,h2/db y s3://k:s@b z",
                "x postgres://u:***@h1,h2/db y s3://k:***@b z",
            ),
            ("postgres://:pw@h", "postgres://:***@h"),
            (
                "\"postgres://u:pw@h\" and a@b",
                "\"postgres://u:***@h\" and a@b",
            ),
            ("postgres://ü:pä@h", "postgres://ü:***@h"),
            ("postgres://u:p<w\"x@h/db", "postgres://u:***@h/db"),
            ("<http://h> and \"a@b\"", "<http://h> and \"a@b\""),
        ] {
            assert_eq!(redact(text), expected);
        }
    }

    #[test]
    fn text_without_a_secret_stays_as_it_is() {
        for text in [
            "",
            "postgres://u@h:5432/db",
            "http://h:8080/path",
            "s3://bucket/prefix?endpoint=https://h",
            "sftp://user@host:23/path",
            "password-file=/etc/lifeboat/passphrase",
            "a = b",
            "é=1",
            "://",
        ] {
            assert_eq!(redact(text), text);
        }
    }

    #[test]
    fn values_of_secret_settings_are_hidden() {
        for (text, expected) in [
            (
                "host=h password=pw dbname=d",
                "host=h password=*** dbname=d",
            ),
            (r"password='p w\' x' dbname=d", "password=*** dbname=d"),
            ("password='never closed", "password=***"),
            ("password='a b'c\"d e\" f", "password=*** f"),
            (
                "postgres://h/d?sslpassword=pw&x=1",
                "postgres://h/d?sslpassword=***&x=1",
            ),
            ("AWS_SECRET_ACCESS_KEY=abc", "AWS_SECRET_ACCESS_KEY=***"),
            ("PGPASSWORD=pw PGUSER=u", "PGPASSWORD=*** PGUSER=u"),
            ("password= x", "password= ***"),
            (
                "host=h password = 'p w' dbname = d",
                "host=h password = *** dbname = d",
            ),
            ("password =", "password ="),
            ("password=\nx", "password=\nx"),
            ("épassword=pw", "épassword=***"),
        ] {
            assert_eq!(redact(text), expected);
        }
    }

    #[test]
    fn arguments_are_redacted_one_by_one_and_after_an_option() {
        let arguments = [
            "dump",
            "--password=my pw",
            "--password",
            "pw",
            "postgres://u:pw@h",
            "--password-file",
            "f",
        ];
        assert_eq!(
            redact_arguments(&arguments),
            [
                "dump",
                "--password=***",
                "--password",
                "***",
                "postgres://u:***@h",
                "--password-file",
                "f"
            ]
        );
    }

    #[test]
    fn redacting_twice_changes_nothing_more() {
        let parts = [
            "s://",
            ":",
            "@",
            "/",
            "=",
            "'",
            "\"",
            "\\",
            " ",
            "&",
            "password=",
            "token",
            "pw",
            "\u{e9}",
        ];
        for first in parts {
            for second in parts {
                for third in parts {
                    for fourth in parts {
                        let text = ["a://u", first, second, third, fourth, "x"].concat();
                        let once = redact(&text);
                        assert_eq!(redact(&once), once, "{text}");
                    }
                }
            }
        }
    }
}
