//! Adding and removing apps keeps everything else.

use super::*;

const FILE: &str = "/etc/lifeboat/lifeboat.toml";

const TEXT: &str = "\
# Backups of the office.
# Ask Ada before you change this.

timezone = \"UTC\" # ours

# The shop.
[app.shop]
timezone   = \"Europe/Berlin\"
# Its pictures.
[app.shop.media.uploads]
path    = '/srv/shop/uploads'
exclude = [
  \"*.tmp\", # half-written
]

# The blog.
[app.blog.sqlite.main]
path = \"/srv/blog.db\"

[app.shop.sqlite.sessions]
path = \"/srv/shop/sessions.db\"
# The end.
";

fn sources() -> Vec<SourceConfig> {
    vec![
        SourceConfig::Postgres(PostgresSource {
            name: "main".to_owned(),
            url: "postgres://u@h/\"x\"".to_owned(),
            password: Some(Secret::File("/etc/pw".into())),
            skip_data: vec!["public.a".to_owned()],
            pg_dump: true,
            via: Vec::new(),
        }),
        SourceConfig::Folder(FolderSource {
            name: "site.example.com".to_owned(),
            path: "/srv/it's \\ \"here\"".into(),
            exclude: vec!["*.tmp".to_owned(), "/a\\[b".to_owned()],
            one_file_system: true,
            exclude_caches: true,
            references: Vec::new(),
            bundles: true,
        }),
        SourceConfig::Secrets(SecretsSource {
            paths: vec!["/srv/.env".into()],
        }),
        SourceConfig::Sqlite(SqliteSource {
            name: "s".to_owned(),
            path: "/s.db".into(),
        }),
        SourceConfig::Command(CommandSource {
            name: "c".to_owned(),
            run: vec!["echo".to_owned(), "a b".to_owned()],
            filename: "c.txt".to_owned(),
            bundles: true,
        }),
    ]
}

fn add(text: &str, name: &str, sources: &[SourceConfig]) -> Result<String, EditError> {
    add_app(text, Path::new(FILE), name, sources)
}

fn remove(text: &str, name: &str) -> Result<String, EditError> {
    remove_app(text, Path::new(FILE), name)
}

fn database() -> PostgresSource {
    PostgresSource {
        name: DATABASE_NAME.to_owned(),
        url: "dbname=a".to_owned(),
        password: None,
        skip_data: Vec::new(),
        pg_dump: false,
        via: Vec::new(),
    }
}

#[test]
fn an_added_app_stands_at_the_end_and_reads_as_it_was_given() {
    for before in ["", "timezone = \"UTC\"", TEXT] {
        let after = add(before, "new", &sources()).unwrap();
        assert!(after.starts_with(before));
        let config = Config::parse(&after, Path::new(FILE)).unwrap();
        assert_eq!(config.app("new").unwrap().sources, sources());
    }
}

#[test]
fn an_added_app_is_written_as_people_write_it() {
    let after = add("", "shop", &sources()).unwrap();
    let expected = r#"[app.shop.postgres]
url = 'postgres://u@h/"x"'
password = "file:/etc/pw"
skip-data = ["public.a"]
engine = "pg_dump"
name = "main"

[app.shop.media."site.example.com"]
path = '''/srv/it's \ "here"'''
exclude = ["*.tmp", '/a\[b']
one-file-system = true
exclude-caches = true

[app.shop.secrets]
paths = ["/srv/.env"]

[app.shop.sqlite.s]
path = "/s.db"

[app.shop.command.c]
run = ["echo", "a b"]
filename = "c.txt"
"#;
    assert_eq!(after, expected);
}

#[test]
fn passwords_are_written_by_where_they_are_found() {
    for (secret, written) in [
        (Secret::Variable("PW".to_owned()), "password = \"env:PW\"\n"),
        (
            Secret::Literal("pw".to_owned().into()),
            "password = \"pw\"\n",
        ),
    ] {
        let source = PostgresSource {
            password: Some(secret),
            ..database()
        };
        let after = add("", "a", &[SourceConfig::Postgres(source)]).unwrap();
        assert!(after.ends_with(written), "{after}");
    }
}

#[test]
fn the_way_to_a_server_is_written_as_a_list() {
    let source = PostgresSource {
        via: ["docker", "exec", "db"].map(str::to_owned).to_vec(),
        ..database()
    };
    let sources = [SourceConfig::Postgres(source)];
    let after = add("", "a", &sources).unwrap();
    assert!(
        after.ends_with("via = [\"docker\", \"exec\", \"db\"]\n"),
        "{after}"
    );
    let config = Config::parse(&after, Path::new(FILE)).unwrap();
    assert_eq!(config.apps[0].sources, sources);
}

#[test]
fn an_app_that_cannot_be_added_is_refused() {
    let source = |path: &str| {
        [SourceConfig::Sqlite(SqliteSource {
            name: "s".to_owned(),
            path: path.into(),
        })]
    };
    let literal = PostgresSource {
        password: Some(Secret::Literal("env:PW".to_owned().into())),
        ..database()
    };
    for (before, name, sources, expected) in [
        (
            TEXT,
            "shop",
            &source("/s")[..],
            "the configuration has an app `shop` already",
        ),
        (
            TEXT,
            "latest",
            &source("/s"),
            "`latest` cannot be the name of an app",
        ),
        (
            TEXT,
            "new",
            &source("s.db"),
            "a path in the configuration is absolute and valid text, not s.db",
        ),
        (
            "x = 1",
            "new",
            &source("/s"),
            "the configuration is not valid as it is",
        ),
        (
            TEXT,
            "new",
            &[source("/a"), source("/b")].concat(),
            "with that change the configuration would not be valid",
        ),
        (
            "app = {}",
            "new",
            &source("/s"),
            "with that change the configuration would not be valid",
        ),
        (
            TEXT,
            "new",
            &[],
            "the configuration cannot be changed to say that; edit it by hand",
        ),
        (
            TEXT,
            "new",
            &[SourceConfig::Postgres(literal)],
            "the configuration cannot be changed to say that; edit it by hand",
        ),
    ] {
        assert_eq!(
            add(before, name, sources).unwrap_err().to_string(),
            expected
        );
    }
}

#[test]
fn a_removed_app_takes_only_its_own_tables_and_comments_with_it() {
    let expected = "\
# Backups of the office.
# Ask Ada before you change this.

timezone = \"UTC\" # ours

# The blog.
[app.blog.sqlite.main]
path = \"/srv/blog.db\"
# The end.
";
    assert_eq!(remove(TEXT, "shop").unwrap(), expected);
    let without_blog = remove(TEXT, "blog").unwrap();
    assert_eq!(
        without_blog,
        TEXT.replace(
            "\n# The blog.\n[app.blog.sqlite.main]\npath = \"/srv/blog.db\"\n",
            ""
        )
    );
}

#[test]
fn comments_above_a_blank_line_stay_when_the_app_below_goes() {
    let head = "# Ours.\n\n# A.\n[app.a.sqlite.s]\npath = \"/a\"\n";
    let tail = "[app.b.sqlite.s]\npath = \"/b\"\n";
    assert_eq!(
        remove(&format!("{head}{tail}"), "a").unwrap(),
        format!("# Ours.\n\n{tail}")
    );
    assert_eq!(
        remove(&format!("{head}\n# B.\n{tail}"), "a").unwrap(),
        format!("# Ours.\n\n# B.\n{tail}")
    );
    assert_eq!(remove(head, "a").unwrap(), "# Ours.\n");
    let first = "# A.\n[app.a.sqlite.s]\npath = \"/a\"\n\n# B.\n";
    assert_eq!(
        remove(&format!("{first}{tail}"), "a").unwrap(),
        format!("# B.\n{tail}")
    );
}

#[test]
fn an_app_written_inline_can_be_removed() {
    let text = "[app]\na = { sqlite = { s = { path = \"/a\" } } }\nb.sqlite.s.path = \"/b\" # b\n";
    assert_eq!(
        remove(text, "a").unwrap(),
        "[app]\nb.sqlite.s.path = \"/b\" # b\n"
    );
    assert_eq!(
        remove(text, "b").unwrap(),
        "[app]\na = { sqlite = { s = { path = \"/a\" } } }\n"
    );
}

#[test]
fn an_app_that_is_not_there_cannot_be_removed() {
    let error = remove(TEXT, "shp").unwrap_err();
    assert_eq!(
        error.to_string(),
        "the configuration has no app `shp`; did you mean `shop`?"
    );
    assert!(matches!(remove("x = 1", "a"), Err(EditError::Before(_))));
}

#[test]
fn adding_and_removing_an_app_gives_the_text_back() {
    let after = add(TEXT, "new", &sources()).unwrap();
    assert_eq!(remove(&after, "new").unwrap(), TEXT);
}
