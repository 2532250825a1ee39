//! Names and values as SQL text.
//!
//! Everything that is put into a statement goes through here. The sessions of this crate run with
//! `standard_conforming_strings = on`, so a backslash in a literal means itself.

/// `name` as an SQL identifier, always in double quotes.
pub(crate) fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// `schema`.`name` as SQL.
pub(crate) fn qualified(schema: &str, name: &str) -> String {
    format!("{}.{}", identifier(schema), identifier(name))
}

/// `value` as an SQL string literal.
pub(crate) fn literal(value: &str) -> String {
    format!("'{}'", value.replace('\'', "''"))
}

/// `value` as libpq's keyword strings want it: in single quotes, backslash before a quote or backslash.
pub(crate) fn conninfo(value: &str) -> String {
    let mut text = String::with_capacity(value.len() + 2);
    text.push('\'');
    for letter in value.chars() {
        if letter == '\'' || letter == '\\' {
            text.push('\\');
        }
        text.push(letter);
    }
    text.push('\'');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_inside_are_doubled_and_backslashes_are_left_alone() {
        assert_eq!(identifier(r#"we"ird\"#), r#""we""ird\""#);
        assert_eq!(literal(r"it's \n"), r"'it''s \n'");
        assert_eq!(qualified("a", "b.c"), r#""a"."b.c""#);
        assert_eq!(conninfo(r"it's \n"), r"'it\'s \\n'");
    }
}
