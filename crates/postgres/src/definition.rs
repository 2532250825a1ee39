//! A table's own statement out of an archive's definition, for a table of another name.
//!
//! What `pg_dump` writes for a table names the table by schema and name, and may go on with statements that change it.
//! To make a table beside the one that is there, only the first statement may be run, with another name in it. So the
//! statement is followed to its end through quotes and brackets; what is not understood is refused, never guessed.

/// What follows a table's name in the statement that makes it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum TableBody<'t> {
    /// The columns in their brackets, and how the table is stored.
    Columns(&'t str),
    /// Some columns are another table's.
    Inherits,
}

/// The columns of the table `schema`.`name`, from its definition; nothing when that is not understood.
pub(crate) fn table_body<'t>(
    definition: &'t str,
    schema: &str,
    name: &str,
    standard_strings: bool,
) -> Option<TableBody<'t>> {
    let statement = first_statement(definition, standard_strings)?;
    let rest = ["CREATE TABLE ", "CREATE UNLOGGED TABLE "]
        .iter()
        .find_map(|verb| statement.strip_prefix(verb))?;
    let body = after_name(rest, schema, name)?.strip_prefix(' ')?;
    if !body.starts_with('(') {
        return None;
    }
    let mut scanner = Scanner::new(standard_strings);
    let mut letters = body.char_indices();
    let (end, _) = letters.find(|(_, letter)| scanner.take(*letter) && scanner.depth == 0)?;
    let (columns, storage) = body.split_at(end + 1);
    match storage.trim_start() {
        "" => Some(TableBody::Columns(columns)),
        // All partitions' rows come to one table.
        storage if storage.starts_with("PARTITION BY ") => Some(TableBody::Columns(columns)),
        storage if storage.starts_with("WITH (") => Some(TableBody::Columns(body)),
        storage if storage.starts_with("INHERITS (") => Some(TableBody::Inherits),
        _ => None,
    }
}

/// What a constraint's statement says after the name of its table: `ADD CONSTRAINT …`.
pub(crate) fn constraint<'t>(
    definition: &'t str,
    schema: &str,
    name: &str,
    standard_strings: bool,
) -> Option<&'t str> {
    let statement = first_statement(definition, standard_strings)?;
    let rest = ["ALTER TABLE ONLY ", "ALTER TABLE "]
        .iter()
        .find_map(|verb| statement.strip_prefix(verb))?;
    let action = after_name(rest, schema, name)?.trim_start();
    action.starts_with("ADD CONSTRAINT ").then_some(action)
}

/// The columns that the rows of a table have in an archive, from the statement before them; nothing when that is not
/// understood.
pub(crate) fn copied_columns(copy: &str, schema: &str, name: &str) -> Option<Vec<String>> {
    let rest = after_name(copy.strip_prefix("COPY ")?, schema, name)?;
    let mut rest = rest.strip_prefix(" (")?;
    let mut columns = Vec::new();
    loop {
        let (column, after) = identifier(rest)?;
        columns.push(column);
        match after.strip_prefix(", ") {
            Some(more) => rest = more,
            None => return after.starts_with(") FROM ").then_some(columns),
        }
    }
}

/// What comes after `schema`.`name`, when that is what `text` begins with.
fn after_name<'t>(text: &'t str, schema: &str, name: &str) -> Option<&'t str> {
    let (first, rest) = identifier(text)?;
    let (second, rest) = identifier(rest.strip_prefix('.')?)?;
    (first == schema && second == name).then_some(rest)
}

/// A name, quoted or not, from the front of `text`, and what follows.
fn identifier(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let plain =
            |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '_';
        let end = text.find(|letter| !plain(letter)).unwrap_or(text.len());
        return (end > 0).then(|| (text[..end].to_owned(), &text[end..]));
    };
    let mut name = String::new();
    let mut rest = quoted;
    loop {
        let (part, after) = rest.split_once('"')?;
        name.push_str(part);
        match after.strip_prefix('"') {
            Some(more) => {
                name.push('"');
                rest = more;
            }
            None => return Some((name, after)),
        }
    }
}

/// The first statement, without the semicolon at its end; nothing when it has none.
fn first_statement(text: &str, standard_strings: bool) -> Option<&str> {
    let mut scanner = Scanner::new(standard_strings);
    let mut letters = text.char_indices();
    let (end, _) = letters
        .find(|(_, letter)| scanner.take(*letter) && scanner.depth == 0 && *letter == ';')?;
    Some(&text[..end])
}

/// Follows a statement's letters through literals, quoted names and brackets.
struct Scanner {
    standard_strings: bool,
    /// The quote that it is in.
    quote: Option<char>,
    /// Whether a backslash hides what follows, in this literal or the one that ended last.
    escapes: bool,
    hidden: bool,
    /// The letter before.
    last: char,
    depth: usize,
}

impl Scanner {
    fn new(standard_strings: bool) -> Self {
        Self {
            standard_strings,
            quote: None,
            escapes: false,
            hidden: false,
            last: ' ',
            depth: 0,
        }
    }

    /// Takes a letter; says whether it stands outside of quotes.
    fn take(&mut self, letter: char) -> bool {
        let last = std::mem::replace(&mut self.last, letter);
        if let Some(quote) = self.quote {
            if self.hidden {
                self.hidden = false;
            } else if self.escapes && letter == '\\' {
                self.hidden = true;
            } else if letter == quote {
                self.quote = None;
            }
            return false;
        }
        match letter {
            '\'' | '"' => {
                // A doubled quote ends one and begins the next, which is the same literal.
                if last != letter {
                    self.escapes = letter == '\'' && (!self.standard_strings || last == 'E');
                }
                self.quote = Some(letter);
                return false;
            }
            '(' | '[' => self.depth += 1,
            ')' | ']' => self.depth = self.depth.saturating_sub(1),
            _ => {}
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(definition: &str) -> Option<TableBody<'_>> {
        table_body(definition, "public", "Order", true)
    }

    #[test]
    fn the_columns_are_followed_to_their_end_and_no_further() {
        for (columns, after) in [
            ("(\n)", ";\n"),
            (
                "(\n    id integer\n)",
                ";\n\nALTER TABLE ONLY public.\"Order\" REPLICA IDENTITY FULL;\n",
            ),
            ("(\n    x text DEFAULT ');('::text\n)", ";\nDROP TABLE x;"),
            (
                "(\n    x text DEFAULT 'it''s \\'::text, y text[] DEFAULT ARRAY[')'])",
                ";",
            ),
            (
                "(\n    x text DEFAULT E'it''s \\'); DROP TABLE y; --')",
                ";",
            ),
            (
                "(\n    \"a);\"\"b\" integer, CONSTRAINT c CHECK (((x > 0) AND (y < 0))))",
                ";",
            ),
            ("(\n    id integer\n)", "\nPARTITION BY RANGE (id);\n"),
        ] {
            let definition = format!("CREATE TABLE public.\"Order\" {columns}{after}");
            assert_eq!(
                body(&definition),
                Some(TableBody::Columns(columns)),
                "{definition}"
            );
        }
        let stored = "(\n    id integer\n)\nWITH (fillfactor='70')";
        let definition = format!("CREATE UNLOGGED TABLE public.\"Order\" {stored};\n");
        assert_eq!(body(&definition), Some(TableBody::Columns(stored)));
    }

    #[test]
    fn what_is_not_understood_is_not_guessed() {
        for definition in [
            "CREATE TABLE public.orders (id integer);",
            "CREATE TABLE other.\"Order\" (id integer);",
            "CREATE TABLE public.\"Order\" (id integer)",
            "CREATE TABLE public.\"Order\" (x text DEFAULT 'a);",
            "CREATE TABLE public.\"Order\" OF public.pair;",
            "CREATE TABLE public.\"Order\" (id integer) AS SELECT 1;",
            "CREATE FOREIGN TABLE public.\"Order\" (id integer);",
            "",
        ] {
            assert_eq!(body(definition), None, "{definition}");
        }
        assert_eq!(
            body("CREATE TABLE public.\"Order\" (\n    more integer\n)\nINHERITS (public.parent);"),
            Some(TableBody::Inherits)
        );
        // Where a backslash hides a quote, the same text has another end.
        let definition = "CREATE TABLE public.\"Order\" (x text DEFAULT '\\'); y int');";
        let ends = |standard| table_body(definition, "public", "Order", standard);
        assert_eq!(
            ends(true),
            Some(TableBody::Columns("(x text DEFAULT '\\')"))
        );
        assert_eq!(
            ends(false),
            Some(TableBody::Columns("(x text DEFAULT '\\'); y int')"))
        );
    }

    #[test]
    fn a_constraint_is_what_follows_the_tables_name_up_to_the_first_end() {
        let text = "ALTER TABLE ONLY public.\"Order\"\n    ADD CONSTRAINT \"a;b\" PRIMARY KEY (id);\n\nALTER TABLE public.\"Order\" CLUSTER ON \"a;b\";\n";
        assert_eq!(
            constraint(text, "public", "Order", true),
            Some("ADD CONSTRAINT \"a;b\" PRIMARY KEY (id)")
        );
        assert_eq!(constraint(text, "public", "order", true), None);
        let other = "ALTER TABLE ONLY public.\"Order\" DROP COLUMN x;";
        assert_eq!(constraint(other, "public", "Order", true), None);
    }

    #[test]
    fn the_columns_of_rows_are_read_from_their_statement() {
        let columns = |copy| copied_columns(copy, "public", "a(b");
        let quoted = "COPY \"public\".\"a(b\" (\"id\", \"x, \"\"y\"\")\", z) FROM stdin;\n";
        let names = ["id", "x, \"y\")", "z"].map(str::to_owned);
        assert_eq!(columns(quoted), Some(names.to_vec()));
        for other in [
            "COPY public.\"a(b\"  FROM stdin;",
            "COPY public.b (id) FROM stdin;",
            "COPY public.\"a(b\" (id",
            "COPY public.\"a(b\" (id, ",
        ] {
            assert_eq!(columns(other), None, "{other}");
        }
    }
}
