//! Takes Rust source apart line by line into code, comments and the text of string literals.
//!
//! Just enough of the language for the rules: comments nest, strings may be raw, and a `'` may begin a lifetime.

/// One line of a file, in its three parts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Line {
    /// Code; a string literal is left as its two quotes.
    pub(crate) code: String,
    /// What stands in comments, without the signs that begin them.
    pub(crate) comment: String,
    /// What stands in string literals, as it is written.
    pub(crate) string: String,
}

#[derive(Clone, Copy)]
enum State {
    Code,
    LineComment,
    /// How many block comments are open.
    BlockComment(usize),
    String,
    /// How many `#` end it.
    RawString(usize),
}

/// Takes a file apart.
pub(crate) fn lines(source: &str) -> Vec<Line> {
    let mut lines = Vec::new();
    let mut state = State::Code;
    for line in source.lines() {
        let mut parts = Line::default();
        state = take_apart(line, state, &mut parts);
        lines.push(parts);
    }
    lines
}

fn take_apart(line: &str, mut state: State, parts: &mut Line) -> State {
    let mut rest = line;
    while !rest.is_empty() {
        let taken = match state {
            State::Code => take_code(rest, &mut state, parts),
            State::LineComment => {
                parts.comment.push_str(rest);
                rest.len()
            }
            State::BlockComment(depth) => take_block_comment(rest, depth, &mut state, parts),
            State::String => take_string(rest, &mut state, parts),
            State::RawString(hashes) => {
                let end = format!("\"{}", "#".repeat(hashes));
                let at = rest.find(&end);
                parts.string.push_str(&rest[..at.unwrap_or(rest.len())]);
                if at.is_some() {
                    parts.code.push('"');
                    state = State::Code;
                }
                at.map_or(rest.len(), |at| at + end.len())
            }
        };
        rest = &rest[taken..];
    }
    match state {
        State::LineComment => State::Code,
        State::String | State::RawString(_) => {
            parts.string.push(' ');
            state
        }
        _ => state,
    }
}

/// Takes one token, or one character, of code; returns its length.
fn take_code(rest: &str, state: &mut State, parts: &mut Line) -> usize {
    if rest.starts_with("//") {
        *state = State::LineComment;
        let signs = rest.len() - rest.trim_start_matches(['/', '!']).len();
        return signs;
    }
    if rest.starts_with("/*") {
        *state = State::BlockComment(1);
        return 2;
    }
    let first = rest.chars().next().expect("the rest is not empty");
    let after_name = parts
        .code
        .ends_with(|letter: char| letter.is_alphanumeric() || letter == '_');
    if first == '"' {
        *state = State::String;
        parts.code.push('"');
        return 1;
    }
    if !after_name && matches!(first, 'r' | 'b' | 'c') {
        let prefix = rest.trim_start_matches(['r', 'b', 'c']);
        let raw = prefix.trim_start_matches('#');
        let hashes = prefix.len() - raw.len();
        if raw.starts_with('"') && rest[..rest.len() - prefix.len()].contains('r') {
            *state = State::RawString(hashes);
            parts.code.push('"');
            return rest.len() - raw.len() + 1;
        }
    }
    if first == '\'' {
        let length = char_literal(rest);
        parts.code.push_str(if length > 1 { "''" } else { "'" });
        return length;
    }
    parts.code.push(first);
    first.len_utf8()
}

/// The length of the character literal that begins here; 1 when it is a lifetime.
fn char_literal(rest: &str) -> usize {
    let inner = &rest[1..];
    if let Some(escaped) = inner.strip_prefix('\\') {
        // The escaped sign itself may be a quote.
        let from = escaped.chars().next().map_or(0, char::len_utf8);
        return escaped[from..]
            .find('\'')
            .map_or(1, |end| 2 + from + end + 1);
    }
    let length = inner.chars().next().map_or(0, char::len_utf8);
    if length > 0 && inner[length..].starts_with('\'') {
        1 + length + 1
    } else {
        1
    }
}

fn take_block_comment(rest: &str, depth: usize, state: &mut State, parts: &mut Line) -> usize {
    if rest.starts_with("/*") {
        *state = State::BlockComment(depth + 1);
        return 2;
    }
    if rest.starts_with("*/") {
        *state = if depth == 1 {
            State::Code
        } else {
            State::BlockComment(depth - 1)
        };
        return 2;
    }
    let first = rest.chars().next().expect("the rest is not empty");
    parts.comment.push(first);
    first.len_utf8()
}

fn take_string(rest: &str, state: &mut State, parts: &mut Line) -> usize {
    if let Some(after) = rest.strip_prefix('\\') {
        let escaped = after.chars().next().map_or(0, char::len_utf8);
        parts.string.push_str(&rest[..=escaped]);
        return 1 + escaped;
    }
    let first = rest.chars().next().expect("the rest is not empty");
    if first == '"' {
        *state = State::Code;
        parts.code.push('"');
    } else {
        parts.string.push(first);
    }
    first.len_utf8()
}

#[test]
fn source_is_taken_apart_as_the_compiler_does() {
    let source = r###"let a = "one // two\" \\"; // three "four"
/* five /* "six" */ seven */ let b: &'static str = r#"eight "nine" // ten"#;
let c = '"'; let d = '\''; let e = b'\\'; let f = '\u{1f600}'; // eleven
//! twelve
let g = "thirteen
fourteen"; let bar = rb"x";"###;
    let lines = lines(source);
    let codes: Vec<&str> = lines.iter().map(|line| line.code.trim_end()).collect();
    assert_eq!(
        codes,
        [
            r#"let a = "";"#,
            r#" let b: &'static str = "";"#,
            "let c = ''; let d = ''; let e = b''; let f = '';",
            "",
            "let g = \"",
            r#""; let bar = "";"#,
        ]
    );
    assert_eq!(lines[0].string, r#"one // two\" \\"#);
    assert_eq!(lines[0].comment, r#" three "four""#);
    assert_eq!(lines[1].comment, r#" five  "six"  seven "#);
    assert_eq!(lines[1].string, r#"eight "nine" // ten"#);
    assert_eq!(lines[3].comment, " twelve");
    assert_eq!(lines[5].string, "fourteenx");
}
