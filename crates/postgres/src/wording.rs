//! Names and values as `pg_dump` words them: a name is quoted only where it must be.
//!
//! [`quote`](crate::quote) always quotes, which is right too. This is for what stands beside `pg_dump`'s own words in a
//! dump that somebody reads or compares.

/// Words that are no names, of all versions from 12 to 18. One that is too many is quoted for nothing.
const WORDS: &str = " all analyse analyze and any array as asc asymmetric authorization between bigint binary bit \
    boolean both case cast char character check coalesce collate collation column concurrently constraint create cross \
    current_catalog current_date current_role current_schema current_time current_timestamp current_user dec decimal \
    default deferrable desc distinct do else end except exists extract false fetch float for foreign freeze from full \
    grant greatest group grouping having ilike in initially inner inout int integer intersect interval into is isnull \
    join json json_array json_arrayagg json_exists json_object json_objectagg json_query json_scalar json_serialize \
    json_table json_value lateral leading least left like limit localtime localtimestamp merge_action national natural \
    nchar none normalize not notnull null nullif numeric offset on only or order out outer overlaps overlay placing \
    position precision primary real references returning right row select session_user setof similar smallint some \
    substring symmetric system_user table tablesample then time timestamp to trailing treat trim true union unique \
    user using values varchar variadic verbose when where window with xmlattributes xmlconcat xmlelement xmlexists \
    xmlforest xmlnamespaces xmlparse xmlpi xmlroot xmlserialize xmltable ";

/// `name` as an SQL identifier.
pub(crate) fn identifier(name: &str) -> String {
    let letters = name.as_bytes();
    let plain = letters
        .first()
        .is_some_and(|first| first.is_ascii_lowercase() || *first == b'_')
        && letters.iter().all(|letter| {
            letter.is_ascii_lowercase() || letter.is_ascii_digit() || *letter == b'_'
        });
    if plain && !WORDS.contains(&format!(" {name} ")) {
        name.to_owned()
    } else {
        crate::quote::identifier(name)
    }
}

/// `schema`.`name` as SQL; the name alone without a schema.
pub(crate) fn qualified(schema: Option<&str>, name: &str) -> String {
    match schema {
        Some(schema) => format!("{}.{}", identifier(schema), identifier(name)),
        None => identifier(name),
    }
}

/// `value` as an SQL string literal, where a backslash means itself or not.
pub(crate) fn literal(value: &str, standard_strings: bool) -> String {
    if standard_strings {
        crate::quote::literal(value)
    } else {
        crate::quote::literal(&value.replace('\\', "\\\\"))
    }
}

/// `text` for a comment that ends with its line.
///
/// A line break in a name would end the comment, and the rest of the name would be run (CVE-2012-0868, CVE-2025-8715).
pub(crate) fn one_line(text: &str) -> String {
    text.replace(['\n', '\r'], " ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{connect::Connection, testing};

    #[test]
    fn a_name_is_quoted_where_it_must_be() {
        for (name, written) in [
            ("orders", "orders"),
            ("_1", "_1"),
            ("1a", "\"1a\""),
            ("Order", "\"Order\""),
            ("select", "\"select\""),
            ("a\"b", "\"a\"\"b\""),
            ("täble", "\"täble\""),
            ("", "\"\""),
        ] {
            assert_eq!(identifier(name), written);
        }
        assert_eq!(qualified(Some("a"), "B"), "a.\"B\"");
        assert_eq!(qualified(None, "b"), "b");
    }

    #[test]
    fn every_word_that_the_server_reserves_is_quoted() {
        let cluster = testing::cluster();
        let connection =
            Connection::open(&cluster.settings("postgres"), testing::runtime()).unwrap();
        let words = connection
            .rows(
                "list the words",
                "SELECT word FROM pg_catalog.pg_get_keywords() WHERE catcode <> 'U'",
            )
            .unwrap();
        assert!(words.len() > 100);
        for word in words {
            let word = word[0].clone().unwrap();
            assert_eq!(identifier(&word), format!("\"{word}\""));
        }
    }

    #[test]
    fn a_backslash_is_doubled_where_it_does_not_mean_itself() {
        assert_eq!(literal(r"a\'", true), r"'a\'''");
        assert_eq!(literal(r"a\'", false), r"'a\\'''");
    }

    #[test]
    fn a_line_break_does_not_end_a_comment() {
        assert_eq!(one_line("a\nDROP\r\nx"), "a DROP  x");
    }
}
