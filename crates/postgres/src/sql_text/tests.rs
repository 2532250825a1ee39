//! Scripts taken apart: where statements end, what is refused, and that no cut of the bytes changes any of it.

use proptest::prelude::*;

use super::*;

/// What came out of a script, rows joined.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Whole {
    Statement(Vec<u8>, u64),
    Rows(Vec<u8>),
}

type Verdict = (Vec<Whole>, Result<(), SqlTextError>);

fn read<'a>(portions: impl IntoIterator<Item = &'a [u8]>) -> Verdict {
    let mut found = Vec::new();
    let mut open = false;
    let mut each = |piece: Piece<'_>| {
        match piece {
            Piece::Statement { sql, line } => found.push(Whole::Statement(sql.to_vec(), line)),
            Piece::Rows(bytes) => match found.last_mut() {
                Some(Whole::Rows(rows)) if open => rows.extend_from_slice(bytes),
                _ => found.push(Whole::Rows(bytes.to_vec())),
            },
            Piece::RowsEnd => {}
        }
        open = matches!(piece, Piece::Rows(_));
        Ok::<_, SqlTextError>(())
    };
    let mut reading = SqlText::new();
    let fed = portions
        .into_iter()
        .try_for_each(|portion| reading.feed(portion, &mut each));
    let end = fed.and_then(|()| reading.finish(&mut each));
    (found, end)
}

fn statements(sql: &str) -> Vec<String> {
    let (found, end) = read([sql.as_bytes()]);
    assert_eq!(end, Ok(()), "{sql}");
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let each = found.into_iter().map(|piece| match piece {
        Whole::Statement(sql, _) => text(sql),
        Whole::Rows(rows) => format!("rows {}", text(rows)),
    });
    each.collect()
}

fn refusal(sql: &str) -> String {
    read([sql.as_bytes()]).1.unwrap_err().to_string()
}

#[test]
fn statements_end_where_the_server_ends_them() {
    assert_eq!(
        statements("SELECT 1;;\n SELECT 2 ; "),
        ["SELECT 1", "SELECT 2 "]
    );
    assert_eq!(
        statements("-- ; one\n/* ; /* ; */ ; */ SELECT ';' /* ; */, \";\"\"\" -- ;\n, 1/2;"),
        ["SELECT ';' /* ; */, \";\"\"\" -- ;\n, 1/2"]
    );
    for whole in [
        "SELECT 'it''s; \\'",
        "SELECT E'it\\'s; \\\\'",
        "SELECT e'a'\n'\\';'",
        "SELECT 'a' 'b;'",
        "SELECT $$ ; ' $ $a$ $$",
        "SELECT $tag$ ; $$ ; $tagg$ $tag $ta$tag$",
        "SELECT a$b$c, 1",
        "SELECT $1, name'x'",
        "SELECT U&'\\0041;'",
        "CREATE RULE r AS ON INSERT TO t DO (SELECT 1; SELECT 2)",
        "CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT CASE WHEN true THEN 1 END; SELECT 2; END",
        "CREATE OR REPLACE PROCEDURE f() BEGIN ATOMIC SELECT 1; END",
        "SELECT begin",
        "SELECT 1 - 2 / -3",
        "SELECT '\u{feff}ü', $ü$;$ü$",
    ] {
        assert_eq!(statements(&format!("{whole};")), [whole]);
    }
    assert_eq!(statements("\u{feff}SELECT 1;"), ["SELECT 1"]);
}

#[test]
fn strings_end_as_the_dump_has_set_it() {
    assert_eq!(
        statements(
            "SET standard_conforming_strings = off;\nSELECT 'a\\';b';\nSET standard_conforming_strings = on;SELECT '\\';"
        ),
        [
            "SET standard_conforming_strings = off",
            "SELECT 'a\\';b'",
            "SET standard_conforming_strings = on",
            "SELECT '\\'"
        ]
    );
}

#[test]
fn rows_go_on_to_their_last_line_and_nothing_in_them_is_read() {
    let rows = "1\t\\N\n\\! rm\n\\.x\n\\\\.\n'$$;/*\n\\\n";
    assert_eq!(
        statements(&format!("COPY t (a) FROM stdin;\n{rows}\\.\n\nSELECT 1;")),
        ["COPY t (a) FROM stdin", &format!("rows {rows}"), "SELECT 1"]
    );
    assert_eq!(
        statements("COPY t FROM stdin; \r\n1\r\n\\.\r\nSELECT 1;\r\n"),
        ["COPY t FROM stdin", "rows 1\r\n", "SELECT 1"]
    );
    assert_eq!(
        statements("COPY t FROM stdin;\n\\.\n"),
        ["COPY t FROM stdin"]
    );
    assert_eq!(statements("COPY t FROM stdin;\n\\."), ["COPY t FROM stdin"]);
    assert!(refusal("COPY t FROM stdin; SELECT 1;").contains("line 1 goes on"));
}

#[test]
fn commands_are_refused_wherever_a_person_or_a_forger_puts_them() {
    for (script, line, name) in [
        ("\\! id\n", 1, "\\!"),
        ("SELECT 1;\n\\copy t from program 'id'\n", 2, "\\copy"),
        ("SELECT 1 \\gexec\n", 1, "\\gexec"),
        ("SELECT 1\n\\g |id\n;", 2, "\\g"),
        ("SELECT 'a'\\! id", 1, "\\!"),
        ("/* \\! */ \\! id\n", 1, "\\!"),
        ("$1\\! id\n", 1, "\\!"),
        ("COPY t FROM stdin;\n\\.\n\\! id\n", 3, "\\!"),
        ("\\restrict a\n\\! id\n\\unrestrict a\n", 2, "\\!"),
        ("\\restrict a \\! id\n", 1, "\\restrict"),
        ("SELECT 1 \\restrict a\n", 1, "\\restrict"),
        ("\\\n", 1, "\\"),
    ] {
        let (_, end) = read([script.as_bytes()]);
        let command = name.to_owned();
        assert_eq!(
            end,
            Err(SqlTextError::Command { line, command }),
            "{script}"
        );
    }
    assert!(refusal("\\connect shop\n").contains("whole server"));
    // What stands behind a command may be a secret.
    assert!(!refusal("\\connect postgres://ann:hunter2@h/d\n").contains("hunter2"));
}

#[test]
fn restrict_and_unrestrict_belong_together() {
    assert_eq!(
        statements("\\restrict aB3\nSELECT 1;\n\\unrestrict aB3\n"),
        ["SELECT 1"]
    );
    assert_eq!(
        statements("\\restrict a\r\n\\unrestrict a"),
        Vec::<String>::new()
    );
    for (script, words) in [
        ("\\restrict a\n\\unrestrict b\n", "has not the word"),
        ("\\restrict a\n\\restrict a\n", "stands in another one"),
        ("\\unrestrict a\n", "no \\restrict before it"),
        ("\\restrict `id`\n", "does not write so"),
        ("\\restrict a\nSELECT 1;\n", "cut off"),
    ] {
        assert!(
            refusal(script).contains(words),
            "{script}: {}",
            refusal(script)
        );
    }
}

const DUMP: &str = "--\n-- PostgreSQL database dump\n--\n\n\\restrict x7\n\n-- Dumped from database version 15.18\n\n\
SET client_encoding = 'UTF8';\nSET standard_conforming_strings = on;\n\n\
CREATE FUNCTION f() RETURNS int\n    LANGUAGE sql\n    AS $_$ SELECT ';'; -- \\! $_$;\n\n\
CREATE TABLE public.\"o;dd\" (\n    id integer, -- \\x\n    t text DEFAULT E'\\\\''; ü'::text /* a /* b */ */\n);\n\n\
COPY public.\"o;dd\" (id, t) FROM stdin;\n1\t\\N\n\\\\.\t\\.\n\\.\r x\n\\.\n\n\n\
SELECT pg_catalog.setval('s', 1, false);\n\n\
--\n-- PostgreSQL database dump complete\n--\n\n\\unrestrict x7\n\n";

#[test]
fn a_dump_is_understood_the_same_wherever_its_bytes_are_cut() {
    let expected = read([DUMP.as_bytes()]);
    assert_eq!(expected.1, Ok(()));
    assert_eq!(expected.0.len(), 7);
    for cut in 0..DUMP.len() {
        let (one, two) = DUMP.as_bytes().split_at(cut);
        assert_eq!(read([one, two]), expected, "cut at {cut}");
    }
    assert_eq!(read(DUMP.as_bytes().chunks(1)), expected);
}

#[test]
fn a_dump_that_is_cut_off_anywhere_is_not_whole() {
    let mark = DUMP.find("database dump\n").unwrap() + "database dump".len();
    let last = DUMP.find("\\unrestrict x7").unwrap() + "\\unrestrict x7".len();
    for end in mark..last {
        assert!(read([&DUMP.as_bytes()[..end]]).1.is_err(), "ends at {end}");
    }
    for end in last..=DUMP.len() {
        assert_eq!(read([&DUMP.as_bytes()[..end]]).1, Ok(()));
    }
    let twice = [DUMP, &DUMP.replace(" complete", "")].concat();
    assert_eq!(refusal(&twice), SqlTextError::NoEnd.to_string());
    let in_text = DUMP.replace(
        "--\n-- PostgreSQL database dump complete",
        "SELECT '\n-- PostgreSQL database dump complete\n';",
    );
    assert_eq!(refusal(&in_text), SqlTextError::NoEnd.to_string());
    for (script, words) in [
        ("SELECT 1", "a statement that begins on line 1"),
        ("\n/*\n", "a comment that begins on line 2"),
        ("SELECT\n 'a;", "a text that begins on line 2"),
        ("SELECT \"a;", "a name"),
        ("SELECT $$a;", "a text in dollars"),
        ("COPY t FROM stdin;\n1\n", "rows"),
        ("COPY t FROM stdin;", "rows"),
        ("SELECT 1;\n-", "a statement"),
    ] {
        assert!(
            refusal(script).contains(words),
            "{script}: {}",
            refusal(script)
        );
    }
}

#[test]
fn no_byte_0_is_taken_where_text_is() {
    assert_eq!(
        refusal("SELECT\n '\0';"),
        SqlTextError::Zero { line: 2 }.to_string()
    );
}

/// Pieces of what a script is made of, and of what a forger would try.
fn fragment() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        proptest::sample::select(vec![
            "'",
            "''",
            "\"",
            "E'",
            "\\",
            "\\'",
            "$$",
            "$a$",
            "$",
            "a",
            "1",
            "--",
            "-",
            "/*",
            "*/",
            "/",
            "*",
            ";",
            "\n",
            "\r\n",
            " ",
            "(",
            ")",
            "COPY t FROM stdin;\n",
            "\\.\n",
            "\\.\r\n",
            "\\.",
            "\\! id\n",
            "\\restrict a\n",
            "\\unrestrict a\n",
            "-- PostgreSQL database dump\n",
            "-- PostgreSQL database dump complete\n",
            "BEGIN ATOMIC",
            "END",
            "CREATE FUNCTION f()",
            "SET standard_conforming_strings = off;",
            "ü",
            "\u{feff}",
            "\0",
        ])
        .prop_map(|text| text.as_bytes().to_vec()),
        proptest::collection::vec(any::<u8>(), 1..4),
    ]
}

proptest! {
    #[test]
    fn no_cut_changes_what_is_read(
        fragments in proptest::collection::vec(fragment(), 0..40),
        cuts in proptest::collection::vec(0_usize..200, 0..8),
    ) {
        let bytes = fragments.concat();
        let whole = read([&bytes[..]]);
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        let portions = cuts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]);
        prop_assert_eq!(&read(portions), &whole);
        prop_assert_eq!(read(bytes.chunks(1)), whole);
    }

    /// Whatever whole things stand before it: what begins with a backslash where a statement may begin is seen.
    #[test]
    fn a_command_behind_whole_statements_is_never_passed_over(
        whole in proptest::collection::vec(proptest::sample::select(vec![
            "SELECT 'a\\';", "SELECT E'\\';';", "SELECT $$ ' $$;", "SELECT $a$ $$ $ab$ $a$;", "-- ' \" /* $$\n", "/* ' -- /* */ $$ */",
            "SELECT \"'\";", "COPY t FROM stdin;\n'\t$$\n\\\\.\n\\.\n", "SELECT 1 - - 2 / 3;", "SELECT a$b, $1;", "\n", ";",
            "CREATE FUNCTION f() BEGIN ATOMIC SELECT ';'; END;", "\\restrict a\nSELECT 1;\n\\unrestrict a\n", "SELECT (1);",
            "SET standard_conforming_strings = off;SELECT '\\';';SET standard_conforming_strings = on;", "SELECT 'a'\n'b';",
        ]), 0..12),
    ) {
        let mut script = whole.concat();
        prop_assert_eq!(read([script.as_bytes()]).1, Ok(()));
        script.push_str("\\! id\n");
        let end = read([script.as_bytes()]).1;
        let refused = matches!(&end, Err(SqlTextError::Command { command, .. }) if command == "\\!");
        prop_assert!(refused, "{:?}", end);
    }
}
