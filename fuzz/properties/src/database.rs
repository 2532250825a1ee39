//! What PostgreSQL's clients read: connection strings, password and service files, archives, and what others
//! dumped.

use lifeboat_postgres::fuzzing::{
    ScriptPiece, Values, archive as read_archive, connection_values, password,
    script as read_script, service_values, statement,
};
use lifeboat_postgres::resolve;

use crate::draw::Draw;

/// Of a statement up to this length all is read.
const READ_WHOLE: usize = 64 << 10;

/// Keywords whose values are files, which are not to be opened here.
const FILES: [&str; 8] = [
    "passfile",
    "service",
    "servicefile",
    "sslcert",
    "sslcrl",
    "sslkey",
    "sslrootcert",
    "sslmode",
];

/// Takes the bytes as a connection string.
///
/// - What it says is the same when it is written as keywords with quoted values.
/// - It resolves to settings or to an error.
pub fn conninfo(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let Ok(values) = connection_values(&text) else {
        assert!(resolve(&text, &|_| None).is_err());
        return;
    };
    assert_eq!(connection_values(&quoted(&values)).as_ref(), Ok(&values));
    if !values.iter().any(|(name, _)| FILES.contains(name)) {
        let nowhere = |name: &str| {
            ["HOME", "PGPASSFILE", "PGSYSCONFDIR"]
                .contains(&name)
                .then(|| "/nonexistent".into())
        };
        if let Ok(settings) = resolve(&text, &nowhere) {
            assert!(!format!("{settings:?}").is_empty());
        }
    }
}

fn quoted(values: &Values) -> String {
    let quote = |value: &str| value.replace('\\', "\\\\").replace('\'', "\\'");
    let pairs: Vec<String> = values
        .iter()
        .map(|(name, value)| format!("{name} = '{}'", quote(value)))
        .collect();
    pairs.join(" ")
}

/// Takes the first five lines as what a password is looked up by and the password, the rest as a password file.
///
/// - A line that names them, with everything escaped that has a meaning, decides when it is the first.
/// - Lines that cannot match change nothing.
pub fn password_file(bytes: &[u8]) {
    let mut draw = Draw(bytes);
    let mut line = || String::from_utf8_lossy(draw.line()).replace('\r', "");
    let sought: [String; 4] = std::array::from_fn(|_| line());
    let wanted = line();
    let text = String::from_utf8_lossy(draw.0).into_owned();
    let sought: [&str; 4] = std::array::from_fn(|at| sought[at].as_str());
    let found = password(&text, sought);
    let line = sought
        .iter()
        .copied()
        .chain([wanted.as_str()])
        .map(|part| {
            part.replace('\\', "\\\\")
                .replace(':', "\\:")
                .replace('*', "\\*")
        })
        .collect::<Vec<_>>()
        .join(":");
    // A line that begins so is a comment, and no password is no answer.
    if !line.starts_with('#') && !wanted.is_empty() {
        let found = password(&format!("{line}\n{text}"), sought);
        assert_eq!(found.as_deref(), Some(&wanted));
    }
    let others = password(&format!("# a comment\na line:of:three\n\n{text}"), sought);
    assert_eq!(others, found);
}

/// Takes the first line as a service's name, the rest as a service file.
///
/// - What a section says is the same when it is the only one.
pub fn service_file(bytes: &[u8]) {
    let mut draw = Draw(bytes);
    let name = String::from_utf8_lossy(draw.line());
    let text = String::from_utf8_lossy(draw.0);
    let Ok(Some(values)) = service_values(&name, &text) else {
        return;
    };
    let lines: String = values
        .iter()
        .map(|(name, value)| format!("{name}={value}\n"))
        .collect();
    let again = service_values(
        &name,
        &format!("[other]\nhost=x\n[{name}]\n{lines}[last]\n"),
    );
    let again = again.expect("each line was read before");
    // The section of another name in front of it may have its name.
    if name != "other" {
        assert_eq!(again, Some(values));
    }
}

/// Takes the bytes as an archive of `pg_dump`.
///
/// - What is read does not depend on the portions in which the bytes come.
/// - An archive of a known version that is complete is not when a byte lacks or follows.
pub fn archive(bytes: &[u8]) {
    let mut draw = Draw(bytes);
    let portion = usize::from(draw.byte() % 64) + 1;
    let bytes = draw.0;
    let whole = read_archive([bytes]);
    assert_eq!(read_archive(bytes.chunks(portion)), whole);
    let (half, other) = bytes.split_at(bytes.len() / 2);
    assert_eq!(read_archive([half, &[], other]), whole);
    if let Ok((summary, _)) = whole
        && summary.followed_to_the_end
    {
        assert!(read_archive([&bytes[..bytes.len() - 1]]).is_err());
        assert!(read_archive([bytes, &[0]]).is_err());
    }
}

/// Takes the bytes as a script of SQL that others dumped.
///
/// - What is read does not depend on the portions in which the bytes come.
/// - Every statement stands in the script, in order and without a zero, and all together is no longer than the script.
/// - A script that was read can be written again from its pieces and says the same.
/// - What was read to its end is noticed to be cut off with a text, a name, a comment or a statement that has begun, and a
///   command to `psql` behind it is refused.
/// - A comment before a statement changes nothing of what it means, and what it is called is a few plain words.
pub fn script(bytes: &[u8]) {
    let mut draw = Draw(bytes);
    let portion = usize::from(draw.byte() % 64) + 1;
    let bytes = draw.0;
    let whole = read_script([bytes]);
    assert_eq!(read_script(bytes.chunks(portion)), whole);
    let (half, other) = bytes.split_at(bytes.len() / 2);
    assert_eq!(read_script([half, &[], other]), whole);
    let (pieces, read) = whole;
    // At the very beginning a mark of the encoding would be no part of a statement.
    let (mut again, mut len_bytes) = (b"\n".to_vec(), 0);
    for piece in &pieces {
        match piece {
            ScriptPiece::Statement(sql, _) => {
                assert!(!sql.is_empty() && !sql.contains(&0));
                len_bytes += sql.len();
                let (meaning, called) = statement(sql);
                let commented = [b"/* ; */ -- \n", sql.as_slice()].concat();
                if commented.len() < READ_WHOLE {
                    assert_eq!(statement(&commented).0, meaning);
                }
                let is_plain = |letter: char| !letter.is_control();
                assert!(called.len() <= 200 && called.chars().all(is_plain));
                again.extend_from_slice(sql);
                again.extend_from_slice(b"\n;\n");
            }
            ScriptPiece::Rows(rows) => {
                len_bytes += rows.len();
                again.extend_from_slice(rows);
                again.extend_from_slice(b"\\.\n");
            }
        }
    }
    assert!(
        len_bytes <= bytes.len() + 1,
        "a newline may be added at the end"
    );
    if read.is_err() {
        return;
    }
    let bare = |pieces: &[ScriptPiece]| -> Vec<Vec<u8>> {
        let bytes = |piece: &ScriptPiece| match piece {
            ScriptPiece::Statement(bytes, _) => bytes.trim_ascii_end().to_vec(),
            ScriptPiece::Rows(bytes) => bytes.clone(),
        };
        pieces.iter().map(bytes).collect()
    };
    let (repeated, told) = read_script([again.as_slice()]);
    assert_eq!(told, Ok(false));
    assert_eq!(bare(&repeated), bare(&pieces));
    for behind in ["\n'", "\n\"", "\n/*", "\nSELECT 1", "\n\\! id\n", "\n$$"] {
        let longer = read_script([bytes, behind.as_bytes()]);
        assert!(longer.1.is_err(), "{behind}");
    }
}
