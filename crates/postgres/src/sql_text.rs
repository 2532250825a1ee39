//! A script of SQL taken apart while it passes: statements, and the rows that follow a `COPY … FROM STDIN`.
//!
//! `psql` does this for whoever trusts a dump: a line that begins with a backslash is a command to `psql` itself, and
//! starts programs on the machine where it runs. Nothing here runs a command. The two that `pg_dump` writes, `\restrict`
//! and `\unrestrict` with the same word, are understood and dropped; any other is an error, wherever it stands.
//!
//! Quotes, comments and dollars are followed as the server does, so a semicolon or backslash in a text is no end and no
//! command. A text that were read otherwise here than by the server would be cut at the wrong place, which the server
//! refuses; it could not make this side do anything.
//!
//! Bytes come in portions cut anywhere. Kept are the statement that has begun, up to [`STATEMENT_LEN_BYTES_MAX`], and of
//! rows three bytes.
//!
//! Invariant: success means that no statement, text, comment or row was cut off at the end, and that a script that begins
//! with `pg_dump`'s mark ends with it.

use memchr::memchr;

use crate::sql_statement::{self, Meaning, Statement};

/// The longest statement. A row of `pg_dump --inserts` is one; what is longer than this can hardly be read by a server,
/// which gives no more than 1 GiB to a text and needs it several times.
pub(crate) const STATEMENT_LEN_BYTES_MAX: usize = 256 << 20;

/// How much is kept of a comment or a command: more than any that counts has.
const LINE_LEN_BYTES_MAX: usize = 200;

const BEGIN_MARK: &[u8] = b"-- PostgreSQL database dump";
const END_MARK: &[u8] = b"-- PostgreSQL database dump complete";

/// Why a script is not understood, or not whole. Lines count from 1.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SqlTextError {
    /// A command of `psql`.
    #[error(
        "line {line} has the psql command {command}, and commands to psql are not run{}",
        connects(command)
    )]
    Command {
        /// Where.
        line: u64,
        /// Its name.
        command: String,
    },
    /// `\restrict` and `\unrestrict` do not fit.
    #[error("line {line} has {command}, which {why}")]
    Restriction {
        /// Where.
        line: u64,
        /// Which of the two.
        command: &'static str,
        /// What is wrong with it.
        why: &'static str,
    },
    /// No text has it.
    #[error("line {line} has a byte 0: this is no text, or damaged")]
    Zero {
        /// Where.
        line: u64,
    },
    /// A statement is too long.
    #[error("the statement on line {line} is longer than {} MiB", STATEMENT_LEN_BYTES_MAX >> 20)]
    TooLong {
        /// Where it begins.
        line: u64,
    },
    /// Something stands on the line on which a `COPY` ends, before its rows.
    #[error("line {line} goes on behind a COPY whose rows begin on the next line")]
    BesideCopy {
        /// Where.
        line: u64,
    },
    /// It ends within something.
    #[error("the dump is cut off: it ends in {inside} that begins on line {line}")]
    CutOff {
        /// In what.
        inside: &'static str,
        /// Where that begins.
        line: u64,
    },
    /// It ends before its end.
    #[error("the dump is cut off: it has no last line \"-- PostgreSQL database dump complete\"")]
    NoEnd,
    /// It ends under `\restrict`.
    #[error("the dump is cut off: \\restrict on line {line} has no \\unrestrict")]
    Restricted {
        /// Where.
        line: u64,
    },
}

fn connects(command: &str) -> &'static str {
    match command {
        "\\connect" | "\\c" => {
            "; it leads to another database, as dumps of a whole server and those of pg_dump --create do"
        }
        _ => "",
    }
}

/// A piece of a script, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Piece<'a> {
    /// A statement, without comments before it and without its semicolon.
    Statement {
        sql: &'a [u8],
        /// The line on which it begins.
        line: u64,
    },
    /// Bytes of rows, after a statement that announced them.
    Rows(&'a [u8]),
    /// There are no more rows.
    RowsEnd,
}

/// Where the reading stands.
#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    Base,
    /// In a word; it begins there in the statement.
    Word(usize),
    /// After a `-`, which may begin a comment.
    Dash,
    /// After a `/`, which may begin a comment.
    Slash,
    LineComment,
    BlockComment {
        depth: u32,
        last: u8,
    },
    Text {
        escapes: bool,
        hidden: bool,
    },
    /// After a quote that may be doubled, or go on on the next line in the same way.
    TextEnd {
        escapes: bool,
        newline: bool,
    },
    Name,
    /// In what may become the mark of a text in dollars; it begins there in the statement.
    DollarTag(usize),
    /// In such a text: where its mark begins, and where the text.
    Dollars {
        tag: usize,
        text: usize,
    },
    Command,
    /// Behind the semicolon of a `COPY`, before its rows.
    BeforeRows,
    Rows,
}

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct SqlText {
    state: State,
    line: u64,
    /// The line on which the current statement, text or comment begins.
    began: u64,
    statement: Vec<u8>,
    statement_line: u64,
    /// The beginning of a comment or command, or what may be the end of rows.
    held: Vec<u8>,
    /// Whether the next byte of the rows is a line's first, or `held` has those before it.
    row_begins: bool,
    parentheses: u32,
    /// How many `BEGIN` and `CASE` wait for their `END` in a function's body.
    blocks: u32,
    /// The first letters of the statement's first words, of those that begin a function.
    words: Vec<u8>,
    words_count: usize,
    standard_strings: bool,
    restricted: Option<(Vec<u8>, u64)>,
    /// Whether `pg_dump`'s first mark has passed, and its last not.
    open: bool,
    /// Whether `pg_dump`'s first mark has ever passed.
    marked: bool,
    /// Bytes of a mark of the encoding that the text may begin with.
    mark_left: usize,
}

const ENCODING_MARK: &[u8] = b"\xef\xbb\xbf";

impl SqlText {
    pub(crate) fn new() -> Self {
        Self {
            state: State::Base,
            line: 1,
            began: 1,
            statement: Vec::new(),
            statement_line: 1,
            held: Vec::new(),
            row_begins: false,
            parentheses: 0,
            blocks: 0,
            words: Vec::new(),
            words_count: 0,
            standard_strings: true,
            restricted: None,
            open: false,
            marked: false,
            mark_left: ENCODING_MARK.len(),
        }
    }

    /// Whether `pg_dump` wrote it: its first mark has passed.
    pub(crate) fn is_marked(&self) -> bool {
        self.marked
    }

    /// Takes the next bytes; `each` gets what has become whole, and all rows.
    pub(crate) fn feed<E: From<SqlTextError>>(
        &mut self,
        bytes: &[u8],
        each: &mut dyn FnMut(Piece<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut rest = bytes;
        while let Some((byte, after)) = rest.split_first() {
            if self.state == State::Rows {
                rest = self.rows(rest, each)?;
                continue;
            }
            if self.mark_left > 0 {
                if *byte == ENCODING_MARK[ENCODING_MARK.len() - self.mark_left] {
                    self.mark_left -= 1;
                    rest = after;
                    continue;
                }
                self.mark_left = 0;
            }
            if *byte == 0 {
                return Err(SqlTextError::Zero { line: self.line }.into());
            }
            if let Some(length) = self.plain(rest) {
                self.keep(&rest[..length])?;
                rest = &rest[length..];
                continue;
            }
            if !self.step(*byte, each)? {
                // The byte ended what stood before it, and is looked at again.
                continue;
            }
            if *byte == b'\n' {
                self.line += 1;
            }
            rest = after;
        }
        Ok(())
    }

    /// Takes the end of the script.
    pub(crate) fn finish<E: From<SqlTextError>>(
        mut self,
        each: &mut dyn FnMut(Piece<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        // The last line may lack its newline. Where it changes something, it is a comment's, a command's or that of rows.
        if matches!(
            self.state,
            State::LineComment | State::Command | State::Rows
        ) {
            self.feed(b"\n", each)?;
        }
        Ok(self.whole()?)
    }

    fn whole(self) -> Result<(), SqlTextError> {
        let inside = match self.state {
            State::Text { .. } => Some("a text"),
            State::Name => Some("a name"),
            State::Dollars { .. } => Some("a text in dollars"),
            State::BlockComment { .. } => Some("a comment"),
            State::Rows | State::BeforeRows => Some("rows"),
            _ => None,
        };
        if let Some(inside) = inside {
            return Err(SqlTextError::CutOff {
                inside,
                line: self.began,
            });
        }
        if !self.statement.is_empty() || matches!(self.state, State::Dash | State::Slash) {
            return Err(SqlTextError::CutOff {
                inside: "a statement",
                line: self.statement_line,
            });
        }
        if self.open {
            return Err(SqlTextError::NoEnd);
        }
        match self.restricted {
            Some((_, line)) => Err(SqlTextError::Restricted { line }),
            None => Ok(()),
        }
    }

    /// How many of the next bytes mean nothing but themselves where they stand: the fast way through long texts.
    fn plain(&self, bytes: &[u8]) -> Option<usize> {
        let length = match self.state {
            State::Text { hidden: false, .. } => bytes
                .iter()
                .position(|byte| matches!(byte, b'\'' | b'\\' | b'\n' | 0)),
            State::Dollars { .. } => bytes
                .iter()
                .position(|byte| matches!(byte, b'$' | b'\n' | 0)),
            _ => return None,
        };
        let length = length.unwrap_or(bytes.len());
        (length > 0).then_some(length)
    }

    /// Takes one byte; `false` leaves it to be taken again in another state.
    fn step<E: From<SqlTextError>>(
        &mut self,
        byte: u8,
        each: &mut dyn FnMut(Piece<'_>) -> Result<(), E>,
    ) -> Result<bool, E> {
        match self.state {
            State::Base => self.base(byte, each)?,
            State::Word(from) => {
                let numeric = self.statement[from].is_ascii_digit();
                if is_word(byte) || (byte == b'$' && !numeric) {
                    self.keep(&[byte])?;
                } else {
                    return Ok(self.end_word(from, byte)?);
                }
            }
            State::Dash if byte == b'-' => self.begin_comment(State::LineComment, b"--")?,
            State::Slash if byte == b'*' => {
                let begun = State::BlockComment { depth: 1, last: 0 };
                self.begin_comment(begun, b"/*")?;
            }
            State::Dash | State::Slash => {
                let sign = if self.state == State::Dash {
                    b'-'
                } else {
                    b'/'
                };
                self.state = State::Base;
                self.keep(&[sign])?;
                return Ok(false);
            }
            State::LineComment if byte == b'\n' => {
                self.end_comment();
                return Ok(false);
            }
            State::LineComment => {
                self.hold(byte);
                self.keep_inside(byte)?;
            }
            State::BlockComment { depth, last } => self.block_comment(depth, last, byte)?,
            State::Text { escapes, hidden } => {
                self.keep(&[byte])?;
                self.state = match byte {
                    _ if hidden => State::Text {
                        escapes,
                        hidden: false,
                    },
                    b'\'' => State::TextEnd {
                        escapes,
                        newline: false,
                    },
                    byte => State::Text {
                        escapes,
                        hidden: escapes && byte == b'\\',
                    },
                };
            }
            State::TextEnd { escapes, newline } => {
                if byte == b'\'' && (newline || self.statement.last() == Some(&b'\'')) {
                    self.keep(&[byte])?;
                    self.state = State::Text {
                        escapes,
                        hidden: false,
                    };
                } else if byte.is_ascii_whitespace() {
                    self.keep(&[byte])?;
                    self.state = State::TextEnd {
                        escapes,
                        newline: newline || matches!(byte, b'\n' | b'\r'),
                    };
                } else {
                    self.state = State::Base;
                    return Ok(false);
                }
            }
            State::Name => {
                self.keep(&[byte])?;
                if byte == b'"' {
                    self.state = State::Base;
                }
            }
            State::DollarTag(tag) => return Ok(self.dollar_tag(tag, byte)?),
            State::Dollars { tag, text } => {
                self.keep(&[byte])?;
                let (before, inside) = self.statement.split_at(text);
                if byte == b'$' && inside.ends_with(&before[tag..]) {
                    self.state = State::Base;
                }
            }
            State::Command if byte == b'\n' => {
                self.end_command()?;
                return Ok(false);
            }
            State::Command => self.hold(byte),
            State::BeforeRows => match byte {
                b'\n' => {
                    self.state = State::Rows;
                    self.began = self.line;
                    self.held.clear();
                    self.row_begins = true;
                }
                b' ' | b'\t' | b'\r' => {}
                _ => return Err(SqlTextError::BesideCopy { line: self.line }.into()),
            },
            State::Rows => unreachable!("rows are taken in larger portions"),
        }
        Ok(true)
    }

    /// Between the words and texts of a statement, or before it.
    fn base<E: From<SqlTextError>>(
        &mut self,
        byte: u8,
        each: &mut dyn FnMut(Piece<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        match byte {
            b'-' => self.state = State::Dash,
            b'/' => self.state = State::Slash,
            b'\\' => {
                self.state = State::Command;
                self.began = self.line;
                self.held.clear();
            }
            b';' if self.parentheses == 0 && self.blocks == 0 => return self.end_statement(each),
            byte if byte.is_ascii_whitespace() => self.keep_inside(byte)?,
            byte => {
                self.keep(&[byte])?;
                let place = self.statement.len() - 1;
                match byte {
                    b'(' => self.parentheses += 1,
                    b')' => self.parentheses = self.parentheses.saturating_sub(1),
                    b'\'' => {
                        self.began = self.line;
                        self.state = State::Text {
                            escapes: !self.standard_strings,
                            hidden: false,
                        };
                    }
                    b'"' => {
                        self.began = self.line;
                        self.state = State::Name;
                    }
                    b'$' => self.state = State::DollarTag(place),
                    byte if is_word(byte) => self.state = State::Word(place),
                    _ => {}
                }
            }
        }
        Ok(())
    }

    fn end_word(&mut self, from: usize, byte: u8) -> Result<bool, SqlTextError> {
        let word = &self.statement[from..];
        if byte == b'\'' && word.eq_ignore_ascii_case(b"e") {
            self.keep(&[byte])?;
            self.began = self.line;
            self.state = State::Text {
                escapes: true,
                hidden: false,
            };
            return Ok(true);
        }
        // As psql knows the end of a function whose body is SQL: https://www.postgresql.org/docs/current/sql-createfunction.html
        let is = |known: &str| word.eq_ignore_ascii_case(known.as_bytes());
        if self.words_count < 4 {
            let counts = ["create", "or", "replace", "function", "procedure"];
            let letter = counts.iter().find(|known| is(known));
            self.words
                .push(letter.map_or(b' ', |known| known.as_bytes()[0]));
            self.words_count += 1;
        }
        let function = matches!(
            &self.words[..],
            [b'c', b'f' | b'p', ..] | [b'c', b'o', b'r', b'f' | b'p']
        );
        if function && self.parentheses == 0 {
            if is("begin") || (is("case") && self.blocks > 0) {
                self.blocks += 1;
            } else if is("end") {
                self.blocks = self.blocks.saturating_sub(1);
            }
        }
        self.state = State::Base;
        Ok(false)
    }

    fn dollar_tag(&mut self, tag: usize, byte: u8) -> Result<bool, SqlTextError> {
        let first = self.statement.len() == tag + 1;
        if byte == b'$' {
            self.keep(&[byte])?;
            self.began = self.line;
            self.state = State::Dollars {
                tag,
                text: self.statement.len(),
            };
        } else if is_word(byte) && !(first && byte.is_ascii_digit()) {
            self.keep(&[byte])?;
        } else {
            // The number of a parameter, or nothing that the server takes.
            self.state = State::Base;
            return Ok(false);
        }
        Ok(true)
    }

    fn begin_comment(&mut self, state: State, sign: &[u8]) -> Result<(), SqlTextError> {
        self.state = state;
        self.began = self.line;
        self.held.clear();
        self.held.extend_from_slice(sign);
        if self.statement.is_empty() {
            return Ok(());
        }
        self.keep(sign)
    }

    fn block_comment(&mut self, depth: u32, last: u8, byte: u8) -> Result<(), SqlTextError> {
        self.keep_inside(byte)?;
        self.state = match (last, byte, depth) {
            (b'*', b'/', 1) => State::Base,
            (b'*', b'/', depth) => State::BlockComment {
                depth: depth - 1,
                last: 0,
            },
            (b'/', b'*', depth) => State::BlockComment {
                depth: depth.saturating_add(1),
                last: 0,
            },
            (_, last, depth) => State::BlockComment { depth, last },
        };
        Ok(())
    }

    /// Looks for `pg_dump`'s marks, which stand alone.
    fn end_comment(&mut self) {
        self.state = State::Base;
        if self.statement.is_empty() {
            match self.held.trim_ascii_end() {
                BEGIN_MARK => (self.open, self.marked) = (true, true),
                END_MARK => self.open = false,
                _ => {}
            }
        }
    }

    /// Judges a command: `held` is what stands behind its backslash.
    fn end_command(&mut self) -> Result<(), SqlTextError> {
        let line = self.began;
        let words: Vec<&[u8]> = self
            .held
            .split(u8::is_ascii_whitespace)
            .filter(|word| !word.is_empty())
            .collect();
        let alone = self.statement.is_empty();
        let wrong = |command, why| SqlTextError::Restriction { line, command, why };
        let (command, token) = match words[..] {
            [b"restrict", token] if alone => ("\\restrict", token),
            [b"unrestrict", token] if alone => ("\\unrestrict", token),
            _ => {
                let name: String = words
                    .first()
                    .copied()
                    .unwrap_or_default()
                    .iter()
                    .take_while(|byte| byte.is_ascii_graphic())
                    .take(40)
                    .map(|byte| char::from(*byte))
                    .collect();
                return Err(SqlTextError::Command {
                    line,
                    command: format!("\\{name}"),
                });
            }
        };
        if self.held.len() >= LINE_LEN_BYTES_MAX || !token.iter().all(u8::is_ascii_alphanumeric) {
            return Err(wrong(command, "pg_dump does not write so"));
        }
        match (&self.restricted, command) {
            (None, "\\restrict") => self.restricted = Some((token.to_vec(), line)),
            (Some(_), "\\restrict") => return Err(wrong(command, "stands in another one")),
            (Some((given, _)), _) if given == token => self.restricted = None,
            (Some(_), _) => return Err(wrong(command, "has not the word of its \\restrict")),
            (None, _) => return Err(wrong(command, "has no \\restrict before it")),
        }
        self.state = State::Base;
        Ok(())
    }

    fn end_statement<E: From<SqlTextError>>(
        &mut self,
        each: &mut dyn FnMut(Piece<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut statement = std::mem::take(&mut self.statement);
        (self.parentheses, self.blocks, self.words_count) = (0, 0, 0);
        self.words.clear();
        if statement.is_empty() {
            return Ok(());
        }
        // What follows the last mark needs a last mark of its own.
        self.open |= self.marked;
        if let Some(standard) = sql_statement::standard_strings(&statement) {
            self.standard_strings = standard;
        }
        let copies = statement
            .get(..4)
            .is_some_and(|word| word.eq_ignore_ascii_case(b"copy"));
        each(Piece::Statement {
            sql: &statement,
            line: self.statement_line,
        })?;
        if copies && matches!(Statement::of(&statement).meaning, Meaning::Rows { .. }) {
            self.state = State::BeforeRows;
            self.began = self.line;
        }
        // Its memory serves the next one, unless it is a giant's.
        if statement.capacity() <= 1 << 20 {
            statement.clear();
            self.statement = statement;
        }
        Ok(())
    }

    /// Passes rows on, to the line that ends them; gives what is left.
    fn rows<'b, E: From<SqlTextError>>(
        &mut self,
        bytes: &'b [u8],
        each: &mut dyn FnMut(Piece<'_>) -> Result<(), E>,
    ) -> Result<&'b [u8], E> {
        const ENDS: [&[u8]; 2] = [b"\\.\n", b"\\.\r\n"];
        if !self.row_begins {
            let mut end = 0;
            // Lines whose beginning cannot be the end go together.
            loop {
                let Some(newline) = memchr(b'\n', &bytes[end..]) else {
                    each(Piece::Rows(bytes))?;
                    return Ok(&[]);
                };
                end += newline + 1;
                self.line += 1;
                match bytes[end..] {
                    [b'\\', b'.', ..] | [b'\\'] | [] => break,
                    _ => {}
                }
            }
            self.row_begins = true;
            each(Piece::Rows(&bytes[..end]))?;
            return Ok(&bytes[end..]);
        }
        self.held.push(bytes[0]);
        if ENDS.contains(&&self.held[..]) {
            self.held.clear();
            self.line += 1;
            self.state = State::Base;
            each(Piece::RowsEnd)?;
        } else if !ENDS.iter().any(|end| end.starts_with(&self.held)) {
            self.row_begins = self.held.ends_with(b"\n");
            self.line += u64::from(self.row_begins);
            let held = std::mem::take(&mut self.held);
            each(Piece::Rows(&held))?;
        }
        Ok(&bytes[1..])
    }

    fn keep(&mut self, bytes: &[u8]) -> Result<(), SqlTextError> {
        if self.statement.is_empty() {
            self.statement_line = self.line;
        }
        if self.statement.len() + bytes.len() > STATEMENT_LEN_BYTES_MAX {
            return Err(SqlTextError::TooLong {
                line: self.statement_line,
            });
        }
        self.statement.extend_from_slice(bytes);
        Ok(())
    }

    /// Keeps what means nothing before a statement.
    fn keep_inside(&mut self, byte: u8) -> Result<(), SqlTextError> {
        if self.statement.is_empty() {
            return Ok(());
        }
        self.keep(&[byte])
    }

    fn hold(&mut self, byte: u8) {
        if self.held.len() < LINE_LEN_BYTES_MAX {
            self.held.push(byte);
        }
    }
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80
}

#[cfg(test)]
mod tests;
