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
    // Looked at before it is opened: opening a pipe that nobody writes to would wait for ever.
    let metadata = match fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Nothing),
        Err(error) => return Err(error),
    };
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
    // Room for all of it at once, so that a growing buffer leaves no copy behind.
    let room = metadata.len().min(LEN_BYTES_MAX) as usize + 1;
    let mut text = Zeroizing::new(Vec::with_capacity(room));
    fs::File::open(path)?
        .take(LEN_BYTES_MAX)
        .read_to_end(&mut text)?;
    Ok(match search(&text, sought) {
        Some(password) => Found::Password(password),
        None => Found::Nothing,
    })
}

/// The password in a file's bytes. A line that is no text is of something else: what is sought is text.
pub(crate) fn search(bytes: &[u8], sought: Sought<'_>) -> Option<Zeroizing<String>> {
    let Sought {
        host,
        port,
        database,
        user,
    } = sought;
    bytes
        .split(|byte| *byte == b'\n')
        .filter_map(|line| std::str::from_utf8(line).ok())
        .map(|line| line.trim_end_matches('\r'))
        .filter(|line| !line.starts_with('#'))
        .find_map(|line| {
            [host, port, database, user]
                .into_iter()
                .try_fold(line, after_match)
                .map(password)
        })
        .filter(|password| !password.is_empty())
}

/// What follows the first field of `line` and its colon, if the field is `wanted` or the wildcard.
///
/// A colon ends the field only where nothing more is wanted: an IPv6 address needs no backslashes.
fn after_match<'a>(line: &'a str, wanted: &str) -> Option<&'a str> {
    if let Some(after) = line.strip_prefix("*:") {
        return Some(after);
    }
    let mut wanted = wanted.chars();
    let mut letters = line.char_indices();
    loop {
        let (at, letter) = letters.next()?;
        if letter == ':' && wanted.as_str().is_empty() {
            return Some(&line[at + 1..]);
        }
        let letter = match letter {
            '\\' => letters.next()?.1,
            letter => letter,
        };
        if wanted.next() != Some(letter) {
            return None;
        }
    }
}

/// The last field: up to a colon that has its meaning, or to the end; a backslash that ends it is itself.
fn password(field: &str) -> Zeroizing<String> {
    let mut plain = Zeroizing::new(String::with_capacity(field.len()));
    let mut letters = field.chars();
    while let Some(letter) = letters.next() {
        match letter {
            ':' => break,
            '\\' => plain.push(letters.next().unwrap_or('\\')),
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
        search(FILE.as_bytes(), sought).map(|password| password.to_string())
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

    /// Each of these was tried with psql 15.
    #[test]
    fn colons_and_backslashes_mean_what_libpq_takes_them_for() {
        let sought = |host| Sought {
            host,
            port: "5432",
            database: "shop",
            user: "ann",
        };
        for (host, line, expected) in [
            ("::1", "::1:5432:shop:ann:pw", Some("pw")),
            ("2001:db8::1", "2001:db8::1:*:*:ann:pw", Some("pw")),
            ("::1", r"\:\:1:5432:shop:ann:pw", Some("pw")),
            ("h", "h:5432:shop:ann:pw:a remark", Some("pw")),
            ("h", r"h:5432:shop:ann:p\:w\\", Some(r"p:w\")),
            ("h", r"h:5432:shop:ann:pw\", Some(r"pw\")),
            ("h", r"\*:5432:shop:ann:pw", None),
            // The first line that fits decides, also when it has no password.
            ("h", "h:5432:shop:ann:\n*:*:*:*:pw", None),
            ("h", "h:5432:shop:ann", None),
        ] {
            let found = search(line.as_bytes(), sought(host));
            assert_eq!(found.as_deref().map(String::as_str), expected, "{line}");
        }
    }

    #[test]
    fn a_line_in_another_encoding_is_passed_over() {
        let sought = Sought {
            host: "h",
            port: "1",
            database: "d",
            user: "u",
        };
        let found = search(b"other:1:d:u:gehe\xefm\nh:1:d:u:pw\n", sought);
        assert_eq!(found.unwrap().as_str(), "pw");
    }

    #[test]
    fn a_pipe_in_its_place_is_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pipe");
        let made = std::process::Command::new("mkfifo").arg(&path).status();
        assert!(made.unwrap().success());
        let sought = Sought {
            host: "h",
            port: "1",
            database: "d",
            user: "u",
        };
        assert!(matches!(look_up(&path, sought), Ok(Found::Unused(_))));
    }
}
