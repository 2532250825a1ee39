//! What one statement of a foreign dump means to whoever restores it: run, left out, refused, or followed by rows.
//!
//! It is looked at by its first words and by names at fixed places; what it does inside is the server's business, and
//! is done with the rights of the role that runs it. So this is no wall but a reading: it finds what belongs to the
//! server and not to a database, what would end the transaction, and what the dump takes for granted.

/// What is read of a statement; the words that count stand within.
const READ_LEN_BYTES_MAX: usize = 64 << 10;

/// Encodings in which no part of a letter looks like a quote or a backslash, without signs and in capitals; a `*` stands
/// for whatever follows.
const ENCODINGS: [&str; 15] = [
    "UTF8",
    "UNICODE",
    "SQLASCII",
    "LATIN*",
    "ISO8859*",
    "WIN125*",
    "WIN866",
    "WIN874",
    "WINDOWS125*",
    "WINDOWS866",
    "WINDOWS874",
    "KOI8*",
    "EUCJP",
    "EUCKR",
    "EUCCN",
];

/// What is to be done with a statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// Send it.
    Run,
    /// Send this in its place.
    Instead(&'static str),
    /// It begins or ends a transaction, and all is one.
    Transaction,
    /// It says who owns something.
    Owner,
    /// It says who may do something.
    Grants,
    /// It is about the database that was dumped, and there is another one; or it says what is so already. The words are
    /// for the warning, where there is one.
    Needless(Option<&'static str>),
    /// It says which encoding follows.
    Encoding(String),
    /// Rows follow; the server's count of them is that of the lines when `plain`.
    Rows {
        /// Whether it has neither options nor a condition.
        plain: bool,
    },
    /// It is not run.
    Refused(Refusal),
}

/// Why a statement is not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It acts on the server, not on a database.
    Server,
    /// It reads or writes a file of the server, or starts a program there.
    Files,
    /// It gives up what was done, or leaves it to another session.
    Transaction,
    /// It says that text follows in which a part of a letter may look like a quote.
    Encoding,
}

/// A statement, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Statement {
    pub(crate) meaning: Meaning,
    /// The roles that it names and that must be there.
    pub(crate) roles: Vec<String>,
    /// The extension that it makes.
    pub(crate) extension: Option<String>,
}

/// One word, name or sign of a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token<'a> {
    Word(&'a [u8]),
    /// Between double quotes, as it stands there.
    Name(&'a [u8]),
    /// Between single quotes, as it stands there.
    Text(&'a [u8]),
    Sign(u8),
}

impl Token<'_> {
    fn is(self, word: &str) -> bool {
        matches!(self, Token::Word(own) if own.eq_ignore_ascii_case(word.as_bytes()))
    }

    fn is_one_of(self, words: &[&str]) -> bool {
        words.iter().any(|word| self.is(word))
    }

    /// The name that it stands for.
    fn name(self) -> Option<String> {
        match self {
            Token::Word(word) => Some(String::from_utf8_lossy(word).to_ascii_lowercase()),
            Token::Name(name) => Some(String::from_utf8_lossy(name).replace("\"\"", "\"")),
            Token::Text(_) | Token::Sign(_) => None,
        }
    }
}

impl Statement {
    /// Reads a statement, without its semicolon.
    pub(crate) fn of(sql: &[u8]) -> Self {
        let tokens = tokens(&sql[..sql.len().min(READ_LEN_BYTES_MAX)]);
        Self {
            meaning: meaning(&tokens),
            roles: roles(&tokens),
            extension: extension(&tokens),
        }
    }
}

/// A statement's first words, for messages: "CREATE DATABASE".
pub(crate) fn headline(sql: &[u8]) -> String {
    let found = tokens(&sql[..sql.len().min(200)]);
    let words = found.iter().take(2).map_while(|token| match token {
        Token::Word(word) if word.is_ascii() => {
            Some(String::from_utf8_lossy(word).to_ascii_uppercase())
        }
        _ => None,
    });
    let mut words: Vec<_> = words.collect();
    // Behind these stands a name.
    if words
        .first()
        .is_some_and(|word| word == "COPY" || word == "SET")
    {
        words.truncate(1);
    }
    words.join(" ")
}

/// What a statement sets `standard_conforming_strings` to, if it does.
pub(crate) fn standard_strings(sql: &[u8]) -> Option<bool> {
    // Asked of every statement, and most are not it.
    if sql.len() > 200 || !sql.get(..3)?.eq_ignore_ascii_case(b"set") {
        return None;
    }
    match setting(&tokens(sql)) {
        Some((name, value)) if name.is("standard_conforming_strings") => {
            Some(!["off", "false", "no", "0"].contains(&value.to_ascii_lowercase().as_str()))
        }
        _ => None,
    }
}

/// The name and the value of `SET name = value`.
fn setting<'a>(tokens: &[Token<'a>]) -> Option<(Token<'a>, String)> {
    let [first, rest @ ..] = tokens else {
        return None;
    };
    if !first.is("SET") {
        return None;
    }
    let rest = match rest {
        [scope, rest @ ..] if scope.is_one_of(&["SESSION", "LOCAL"]) => rest,
        rest => rest,
    };
    let [name, sign, value] = rest else {
        return None;
    };
    if !(*sign == Token::Sign(b'=') || sign.is("TO")) {
        return None;
    }
    let value = match value {
        Token::Word(text) | Token::Name(text) | Token::Text(text) => text,
        Token::Sign(_) => return None,
    };
    Some((*name, String::from_utf8_lossy(value).into_owned()))
}

fn meaning(tokens: &[Token<'_>]) -> Meaning {
    let at = |place: usize| tokens.get(place).copied().unwrap_or(Token::Sign(b';'));
    let (first, second, third) = (at(0), at(1), at(2));
    if first.is("COPY") {
        return copy(tokens);
    }
    if first.is_one_of(&["CREATE", "ALTER", "DROP"]) {
        let server = ["DATABASE", "ROLE", "GROUP", "TABLESPACE", "SYSTEM"];
        if second.is_one_of(&server) || (second.is("USER") && !third.is("MAPPING")) {
            return Meaning::Refused(Refusal::Server);
        }
    }
    if first.is("CREATE") && second.is("SCHEMA") && tokens.len() == 3 {
        // Every new database has it; a dump that drops it first makes it again.
        if third.name().as_deref() == Some("public") {
            return Meaning::Instead("CREATE SCHEMA IF NOT EXISTS public");
        }
    }
    if first.is_one_of(&["BEGIN", "START", "END", "COMMIT"]) {
        return if second.is("PREPARED") {
            Meaning::Refused(Refusal::Transaction)
        } else {
            Meaning::Transaction
        };
    }
    let gives_up =
        first.is_one_of(&["ROLLBACK", "ABORT"]) && !tokens.iter().any(|token| token.is("TO"));
    if gives_up || (first.is("PREPARE") && second.is("TRANSACTION")) {
        return Meaning::Refused(Refusal::Transaction);
    }
    if let Some((name, value)) = setting(tokens) {
        if name.is("client_encoding") {
            return encoding(&value);
        }
        // Older servers do not know it, and it is so already.
        if name.is("transaction_timeout") {
            return Meaning::Needless(None);
        }
    }
    if first.is_one_of(&["COMMENT", "SECURITY", "GRANT", "REVOKE"]) {
        let mut pairs = tokens.windows(2);
        if pairs.any(|pair| pair[0].is("ON") && pair[1].is("DATABASE")) {
            return Meaning::Needless(Some(
                "what it says about the database that was dumped: its comment, label or grants",
            ));
        }
        if first.is("COMMENT") && third.is("EXTENSION") && at(3).is("plpgsql") {
            return Meaning::Needless(None);
        }
    }
    let owns = matches!(tokens, [.., owner, to, _] if owner.is("OWNER") && to.is("TO"));
    if (first.is("ALTER") && owns)
        || (first.is("SET") && second.is("SESSION") && third.is("AUTHORIZATION"))
    {
        return Meaning::Owner;
    }
    if first.is_one_of(&["GRANT", "REVOKE"])
        || (first.is("ALTER") && second.is("DEFAULT") && third.is("PRIVILEGES"))
    {
        return Meaning::Grants;
    }
    Meaning::Run
}

/// `COPY` has one direction and one place, and only rows that are in the dump itself may come.
fn copy(tokens: &[Token<'_>]) -> Meaning {
    let mut depth = 0_u32;
    for (place, token) in tokens.iter().enumerate() {
        match token {
            Token::Sign(b'(') => depth += 1,
            Token::Sign(b')') => depth = depth.saturating_sub(1),
            token if depth == 0 && token.is("FROM") => {
                let rest = &tokens[place + 1..];
                if let Some(source) = rest.first()
                    && source.is("STDIN")
                {
                    return Meaning::Rows {
                        plain: rest.len() == 1,
                    };
                }
                break;
            }
            _ => {}
        }
    }
    Meaning::Refused(Refusal::Files)
}

fn encoding(value: &str) -> Meaning {
    let plain: String = value
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .map(|letter| letter.to_ascii_uppercase())
        .collect();
    let known = ENCODINGS.iter().any(|known| match known.strip_suffix('*') {
        Some(beginning) => plain.starts_with(beginning),
        None => plain == *known,
    });
    match plain.as_str() {
        "UTF8" | "UNICODE" => Meaning::Encoding("UTF8".to_owned()),
        _ if known => Meaning::Encoding(value.to_owned()),
        _ => Meaning::Refused(Refusal::Encoding),
    }
}

/// The names in a list that ends at the first word that cannot belong to it.
fn list(tokens: &[Token<'_>]) -> Vec<String> {
    const NOBODY: [&str; 4] = ["PUBLIC", "CURRENT_USER", "CURRENT_ROLE", "SESSION_USER"];
    let mut names = Vec::new();
    let mut rest = tokens;
    loop {
        if let [group, more @ ..] = rest
            && group.is("GROUP")
        {
            rest = more;
        }
        let [token, more @ ..] = rest else {
            return names;
        };
        if !token.is_one_of(&NOBODY) {
            names.extend(token.name());
        }
        match more {
            [Token::Sign(b','), more @ ..] => rest = more,
            _ => return names,
        }
    }
}

fn roles(tokens: &[Token<'_>]) -> Vec<String> {
    let Some(first) = tokens.first() else {
        return Vec::new();
    };
    let after = |word: &str| {
        let place = tokens.iter().rposition(|token| token.is(word));
        place.map_or_else(Vec::new, |place| list(&tokens[place + 1..]))
    };
    let second = tokens.get(1).copied().unwrap_or(Token::Sign(b';'));
    if first.is("GRANT") {
        after("TO")
    } else if first.is("REVOKE") {
        after("FROM")
    } else if first.is("CREATE") && second.is("POLICY") {
        let place = tokens.iter().position(|token| token.is("TO"));
        place.map_or_else(Vec::new, |place| list(&tokens[place + 1..]))
    } else if first.is("ALTER") && second.is("DEFAULT") {
        let mut all = after("ROLE");
        all.extend(after("TO"));
        all
    } else if first.is("ALTER") && meaning(tokens) == Meaning::Owner {
        after("TO")
    } else {
        Vec::new()
    }
}

fn extension(tokens: &[Token<'_>]) -> Option<String> {
    let [create, extension, rest @ ..] = tokens else {
        return None;
    };
    if !(create.is("CREATE") && extension.is("EXTENSION")) {
        return None;
    }
    let name = match rest {
        [one, two, three, name, ..] if one.is("IF") && two.is("NOT") && three.is("EXISTS") => name,
        [name, ..] => name,
        [] => return None,
    };
    name.name()
}

/// Takes a statement apart. What is quoted by dollars comes as signs and words, for nothing that is asked here has any.
fn tokens(sql: &[u8]) -> Vec<Token<'_>> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < sql.len() {
        let rest = &sql[at..];
        let length = match rest[0] {
            byte if byte.is_ascii_whitespace() => 1,
            b'-' if rest.starts_with(b"--") => memchr::memchr(b'\n', rest).unwrap_or(rest.len()),
            b'/' if rest.starts_with(b"/*") => comment(rest),
            quote @ (b'"' | b'\'') => {
                let end = quoted(rest, quote);
                let inner = &rest[1..end.saturating_sub(1).max(1)];
                found.push(if quote == b'"' {
                    Token::Name(inner)
                } else {
                    Token::Text(inner)
                });
                end
            }
            byte if byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80 => {
                let end = rest
                    .iter()
                    .position(|byte| {
                        !(byte.is_ascii_alphanumeric()
                            || matches!(byte, b'_' | b'$')
                            || *byte >= 0x80)
                    })
                    .unwrap_or(rest.len());
                found.push(Token::Word(&rest[..end]));
                end
            }
            sign => {
                found.push(Token::Sign(sign));
                1
            }
        };
        at += length;
    }
    found
}

/// The length of what stands between quotes, with them; a doubled quote is one of it.
fn quoted(text: &[u8], quote: u8) -> usize {
    let mut at = 1;
    while let Some(found) = memchr::memchr(quote, &text[at..]) {
        at += found + 1;
        if text.get(at) != Some(&quote) {
            return at;
        }
        at += 1;
    }
    text.len()
}

/// The length of a comment, with those inside it.
fn comment(text: &[u8]) -> usize {
    let (mut depth, mut at) = (0_u32, 0);
    while at < text.len() {
        if text[at..].starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if text[at..].starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meaning(sql: &str) -> Meaning {
        Statement::of(sql.as_bytes()).meaning
    }

    #[test]
    fn what_belongs_to_the_server_is_refused() {
        for sql in [
            "CREATE DATABASE shop WITH TEMPLATE = template0",
            "alter /* a */ database shop owner to x",
            "DROP DATABASE IF EXISTS shop",
            "CREATE ROLE ann",
            "CREATE USER ann",
            "ALTER USER ann SET work_mem = 1",
            "DROP GROUP x",
            "CREATE TABLESPACE t LOCATION '/x'",
            "ALTER SYSTEM SET x = 1",
        ] {
            assert_eq!(meaning(sql), Meaning::Refused(Refusal::Server), "{sql}");
        }
        for sql in [
            "CREATE USER MAPPING FOR ann SERVER s",
            "CREATE TABLE database (role int)",
            "SELECT 'CREATE ROLE x'",
            "DROP TABLE shop",
        ] {
            assert_eq!(meaning(sql), Meaning::Run, "{sql}");
        }
    }

    #[test]
    fn rows_come_from_the_dump_and_from_nowhere_else() {
        let plain = Meaning::Rows { plain: true };
        assert_eq!(meaning("COPY public.t (a, \"from\") FROM stdin"), plain);
        assert_eq!(meaning("copy\n\"to\".\"program\"\nfrom --x\nSTDIN"), plain);
        assert_eq!(
            meaning("COPY t FROM stdin WITH (FORMAT csv)"),
            Meaning::Rows { plain: false }
        );
        for sql in [
            "COPY t FROM PROGRAM 'id'",
            "COPY t TO PROGRAM 'id'",
            "COPY (SELECT 1 FROM stdin) TO PROGRAM 'id'",
            "COPY t FROM '/etc/passwd'",
            "COPY t TO STDOUT",
            "COPY t /* FROM stdin */ FROM PROGRAM 'id'",
            "COPY \"FROM stdin\" FROM/**/program 'id'",
            "COPY t",
        ] {
            assert_eq!(meaning(sql), Meaning::Refused(Refusal::Files), "{sql}");
        }
    }

    #[test]
    fn transactions_are_the_restores_own() {
        for sql in [
            "BEGIN",
            "begin transaction",
            "START TRANSACTION",
            "COMMIT",
            "END",
        ] {
            assert_eq!(meaning(sql), Meaning::Transaction, "{sql}");
        }
        for sql in [
            "ROLLBACK",
            "ABORT",
            "COMMIT PREPARED 'x'",
            "PREPARE TRANSACTION 'x'",
        ] {
            assert_eq!(
                meaning(sql),
                Meaning::Refused(Refusal::Transaction),
                "{sql}"
            );
        }
        for sql in ["SAVEPOINT a", "ROLLBACK TO a", "PREPARE a AS SELECT 1"] {
            assert_eq!(meaning(sql), Meaning::Run, "{sql}");
        }
    }

    #[test]
    fn owners_grants_and_roles_are_found() {
        let of = |sql: &str| {
            let statement = Statement::of(sql.as_bytes());
            (statement.meaning, statement.roles)
        };
        let names = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(
            of("ALTER TABLE public.t OWNER TO \"Own \"\"er\""),
            (Meaning::Owner, names(&["Own \"er"]))
        );
        assert_eq!(
            of("ALTER FUNCTION f(x integer DEFAULT 'OWNER TO y') OWNER TO Ann"),
            (Meaning::Owner, names(&["ann"]))
        );
        assert_eq!(
            of("GRANT SELECT(id),UPDATE ON TABLE t TO ann, PUBLIC, bob WITH GRANT OPTION"),
            (Meaning::Grants, names(&["ann", "bob"]))
        );
        assert_eq!(
            of("REVOKE ALL ON SCHEMA s FROM PUBLIC"),
            (Meaning::Grants, vec![])
        );
        assert_eq!(
            of("ALTER DEFAULT PRIVILEGES FOR ROLE ann IN SCHEMA s GRANT SELECT ON TABLES TO bob"),
            (Meaning::Grants, names(&["ann", "bob"]))
        );
        assert_eq!(
            of("CREATE POLICY p ON t TO ann, bob USING ((a = 1))"),
            (Meaning::Run, names(&["ann", "bob"]))
        );
        assert_eq!(of("ALTER TABLE t RENAME TO ann"), (Meaning::Run, vec![]));
        let statement =
            Statement::of(b"CREATE EXTENSION IF NOT EXISTS \"uuid-ossp\" WITH SCHEMA public");
        assert_eq!(statement.extension.as_deref(), Some("uuid-ossp"));
    }

    #[test]
    fn settings_are_read_and_what_would_be_misread_is_refused() {
        assert_eq!(
            meaning("SET client_encoding = 'UTF8'"),
            Meaning::Encoding("UTF8".to_owned())
        );
        assert_eq!(
            meaning("SET client_encoding TO latin1"),
            Meaning::Encoding("latin1".to_owned())
        );
        for name in ["SJIS", "BIG5", "GBK", "gb18030", "UHC", "JOHAB", "what"] {
            let sql = format!("SET client_encoding = '{name}'");
            assert_eq!(meaning(&sql), Meaning::Refused(Refusal::Encoding), "{name}");
        }
        assert_eq!(
            standard_strings(b"SET standard_conforming_strings = off"),
            Some(false)
        );
        assert_eq!(
            standard_strings(b"set session standard_conforming_strings to 'on'"),
            Some(true)
        );
        assert_eq!(standard_strings(b"SET x = off"), None);
        assert_eq!(
            meaning("SET transaction_timeout = 0"),
            Meaning::Needless(None)
        );
        assert!(matches!(
            meaning("COMMENT ON DATABASE shop IS 'x'"),
            Meaning::Needless(Some(_))
        ));
        assert_eq!(meaning("COMMENT ON TABLE t IS 'ON DATABASE'"), Meaning::Run);
    }
}
