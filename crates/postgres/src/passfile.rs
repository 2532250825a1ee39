//! The password file (`~/.pgpass`, `PGPASSFILE`): passwords by host, port, database and role.
//!
//! Rules are libpq's: the first line whose four fields match decides, `*` matches anything, a backslash takes away
//! the meaning of a colon or backslash, and a file that others may read is not used, with a warning that says so.

use std::{
    fs,
    io::{self, Read as _},
    os::unix::fs::PermissionsExt as _,
    path::Path,
};

use zeroize::Zeroizing;

/// No real password file comes near this; it bounds what a wrong path can make us read.
const LEN_BYTES_MAX: u64 = 4 << 20;

/// What a connection is looked up by.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sought<'a> {
    /// Host name, address or socket folder; `localhost` for the default socket folder.
    pub(crate) host: &'a str,
    pub(crate) port: &'a str,
    pub(crate) database: &'a str,
    pub(crate) user: &'a str,
}

/// What the file said.
pub(crate) enum Found {
    Password(Zeroizing<String>),
    Nothing,
    /// The file was not used; the sentence says why.
    Unused(String),
}

/// Looks `sought` up in the file at `path`. A file that does not exist holds nothing.
pub(crate) fn look_up(path: &Path, sought: Sought<'_>) -> io::Result<Found> {
    let file = match fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Nothing),
        Err(error) => return Err(error),
    };
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Ok(Found::Unused(format!(
            "The password file {} is not a plain file, so it is not used.",
            path.display()
        )));
    }
    if metadata.permissions().mode() & 0o077 != 0 {
        return Ok(Found::Unused(format!(
            "The password file {} can be read by others, so it is not used; chmod 600 it.",
            path.display()
        )));
    }
    let mut text = Zeroizing::new(String::with_capacity(
        metadata.len().min(LEN_BYTES_MAX) as usize
    ));
    file.take(LEN_BYTES_MAX).read_to_string(&mut text)?;
    Ok(match search(&text, sought) {
        Some(password) => Found::Password(password),
        None => Found::Nothing,
    })
}

/// The password in a file's text.
pub(crate) fn search(text: &str, sought: Sought<'_>) -> Option<Zeroizing<String>> {
    text.lines()
        .filter(|line| !line.starts_with('#'))
        .find_map(|line| {
            let mut rest = line;
            for wanted in [sought.host, sought.port, sought.database, sought.user] {
                let (field, after) = field(rest)?;
                // `\*` is a literal asterisk: the wildcard is looked for before unescaping.
                if field != "*" && unescape(field).as_str() != wanted {
                    return None;
                }
                rest = after;
            }
            let password = unescape(rest);
            (!password.is_empty()).then_some(password)
        })
}

/// The text up to the next colon that has its meaning, and what follows it.
fn field(text: &str) -> Option<(&str, &str)> {
    let mut escaped = false;
    for (at, letter) in text.char_indices() {
        match letter {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            ':' => return Some((&text[..at], &text[at + 1..])),
            _ => {}
        }
    }
    None
}

fn unescape(text: &str) -> Zeroizing<String> {
    let mut plain = Zeroizing::new(String::with_capacity(text.len()));
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '\\' => plain.extend(letters.next()),
            letter => plain.push(letter),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "\
# a comment:5432:*:*:no
db.internal:5432:shop:ann:first
db.internal:*:*:ann:second
/run/pg:5432:*:bob:p\\:w\\\\x
a\\:b:1:c:d:colon in the host
*:*:*:last:everywhere\r
short:line
";

    fn found(host: &str, port: &str, database: &str, user: &str) -> Option<String> {
        let sought = Sought {
            host,
            port,
            database,
            user,
        };
        search(FILE, sought).map(|password| password.to_string())
    }

    #[test]
    fn the_first_matching_line_decides() {
        assert_eq!(
            found("db.internal", "5432", "shop", "ann").as_deref(),
            Some("first")
        );
        assert_eq!(
            found("db.internal", "5433", "shop", "ann").as_deref(),
            Some("second")
        );
        assert_eq!(
            found("/run/pg", "5432", "any", "bob").as_deref(),
            Some(r"p:w\x")
        );
        assert_eq!(
            found("a:b", "1", "c", "d").as_deref(),
            Some("colon in the host")
        );
        assert_eq!(
            found("elsewhere", "1", "x", "last").as_deref(),
            Some("everywhere")
        );
        assert_eq!(found("elsewhere", "1", "x", "ann"), None);
    }

    #[test]
    fn a_file_that_others_may_read_is_not_used_and_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pgpass");
        let sought = Sought {
            host: "h",
            port: "1",
            database: "d",
            user: "u",
        };
        assert!(matches!(look_up(&path, sought).unwrap(), Found::Nothing));
        fs::write(&path, "*:*:*:*:pw\n").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        match look_up(&path, sought).unwrap() {
            Found::Unused(sentence) => assert!(sentence.contains("chmod 600"), "{sentence}"),
            _ => panic!("a file with mode 0644 was used"),
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        match look_up(&path, sought).unwrap() {
            Found::Password(password) => assert_eq!(password.as_str(), "pw"),
            _ => panic!("the password was not found"),
        }
    }
}
