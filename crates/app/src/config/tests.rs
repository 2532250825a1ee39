//! What a configuration says, and every way in which it can be wrong.

use super::*;
use jiff::tz::TimeZone;
use lifeboat_store::Location;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;
use zeroize::Zeroizing;

const FILE: &str = "/etc/lifeboat/lifeboat.toml";

fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::parse(text, Path::new(FILE))
}

/// The problems of `text` as people see them, without the file's name.
fn problems(text: &str) -> Vec<String> {
    let shown = parse(text).unwrap_err().to_string();
    let prefix = format!("{FILE}:");
    shown
        .lines()
        .map(|line| line.strip_prefix(&prefix).unwrap().to_owned())
        .collect()
}

fn zone(name: &str) -> Option<TimeZone> {
    Some(TimeZone::get(name).unwrap())
}

fn folder(name: &str, path: &str) -> FolderSource {
    FolderSource {
        name: name.to_owned(),
        path: path.into(),
        exclude: Vec::new(),
        one_file_system: false,
        exclude_caches: false,
        references: Vec::new(),
        bundles: true,
    }
}

fn column(source: &str, table: &str, column: &str) -> ReferenceColumn {
    ReferenceColumn {
        source: source.to_owned(),
        table: table.to_owned(),
        column: column.to_owned(),
        ..ReferenceColumn::default()
    }
}

/// The template with every key set, but for two of the three ways to open a repository, and one of two to a database.
fn whole_template() -> String {
    let is_key = |line: &str| {
        let begins = |letter: char| letter == '[' || letter.is_ascii_lowercase();
        line.strip_prefix('#')
            .is_some_and(|rest| rest.starts_with(begins))
    };
    let alternatives = [
        "#password-command",
        "#key-file",
        "#via",
        "#json",
        "#sha256-of",
    ];
    config_template()
        .lines()
        .filter(|line| !alternatives.iter().any(|key| line.starts_with(key)))
        .map(|line| if is_key(line) { &line[1..] } else { line })
        .flat_map(|line| [line, "\n"])
        .collect()
}

#[test]
fn the_template_sets_nothing_as_it_is() {
    assert_eq!(parse(&config_template()).unwrap(), Config::default());
}

#[test]
fn the_template_sets_everything_once_its_keys_are_uncommented() {
    let file_path = column("db", "public.asset", "file_path");
    let shop = vec![
        SourceConfig::Postgres(PostgresSource {
            name: "db".to_owned(),
            url: "postgres://backup@db.internal/shop?sslmode=verify-full".to_owned(),
            password: Some(Secret::File("/etc/lifeboat/shop.password".into())),
            skip_data: vec!["public.sessions".to_owned()],
            pg_dump: true,
            via: Vec::new(),
        }),
        SourceConfig::Folder(FolderSource {
            exclude: vec!["**/thumbs/**".to_owned(), "*.tmp".to_owned()],
            one_file_system: true,
            exclude_caches: true,
            bundles: false,
            references: vec![
                file_path.clone(),
                ReferenceColumn {
                    below: Some("/media/".to_owned()),
                    size: Some("byte_size".to_owned()),
                    sha256: Some("checksum".to_owned()),
                    ..file_path
                },
            ],
            ..folder("uploads", "/srv/shop/uploads")
        }),
        SourceConfig::Secrets(SecretsSource {
            paths: vec!["/srv/shop/.env".into(), "/srv/shop/compose.yml".into()],
        }),
        SourceConfig::Sqlite(SqliteSource {
            name: "sessions".to_owned(),
            path: "/srv/shop/sessions.db".into(),
        }),
        SourceConfig::Command(CommandSource {
            name: "legacy".to_owned(),
            run: ["mariadb-dump", "--single-transaction", "wordpress"]
                .map(str::to_owned)
                .to_vec(),
            filename: "wordpress.sql".to_owned(),
            bundles: false,
        }),
    ];
    let expected = Config {
        repository: Some(RepositoryConfig {
            location: Location::Folder("/srv/lifeboat/repo".into()),
            opened_by: Some(OpenedBy::PassphraseFile("/etc/lifeboat/passphrase".into())),
        }),
        time_zone: zone("Europe/Berlin"),
        copies: vec![CopyConfig {
            name: "offsite".to_owned(),
            location: Location::Folder("/mnt/offsite/lifeboat".into()),
        }],
        apps: vec![AppConfig {
            drill: DrillConfig {
                checks: vec![DrillCheck {
                    source: "db".to_owned(),
                    sql: "SELECT count(*) > 0 FROM orders".to_owned(),
                }],
                service: Some(DrillService {
                    run: ["/srv/shop/bin/serve", "--bind", "127.0.0.1:{port}"]
                        .map(str::to_owned)
                        .to_vec(),
                    ready: "/health".to_owned(),
                    host: Some("shop.example.org".to_owned()),
                    timeout: Duration::from_secs(120),
                }),
                values: vec![(
                    "password".to_owned(),
                    Secret::File("/etc/lifeboat/drill.password".into()),
                )],
                urls: vec![DrillUrl {
                    name: "login".to_owned(),
                    method: "POST".to_owned(),
                    authority: None,
                    path: drill_text("/login"),
                    headers: vec![("Accept".to_owned(), drill_text("text/html"))],
                    body: Some(DrillBody::Form(vec![
                        ("user".to_owned(), drill_text("drill")),
                        ("password".to_owned(), drill_text("{password}")),
                    ])),
                    status: 200,
                    contains: Some("Orders".to_owned()),
                    take: vec![DrillTake {
                        name: "token".to_owned(),
                        before: "name='csrf' value='".to_owned(),
                        behind: "'".to_owned(),
                    }],
                    sha256_of: None,
                    timeout: Duration::from_secs(30),
                }],
                commands: vec![DrillCommand {
                    name: "login".to_owned(),
                    run: ["/usr/local/bin/try-login", "--quick"]
                        .map(str::to_owned)
                        .to_vec(),
                    timeout: Duration::from_secs(600),
                }],
            },
            name: "shop".to_owned(),
            time_zone: zone("Europe/Berlin"),
            sources: shop,
        }],
        warnings: Vec::new(),
    };
    assert_eq!(parse(&whole_template()).unwrap(), expected);
}

#[test]
fn the_template_explains_every_key_that_it_shows() {
    let template = config_template();
    assert!(template.contains(
        "\n# Where backups go. --repo or LIFEBOAT_REPOSITORY go before it.\n#[repository]\n"
    ));
    assert!(
        template
            .contains("#[app.shop.media.uploads]\n# The folder.\n#path = \"/srv/shop/uploads\"\n")
    );
    assert!(!template.contains("keep"));
    assert!(
        template
            .lines()
            .all(|line| line.is_empty() || line.starts_with('#'))
    );
}

#[test]
fn each_mistake_is_told_with_its_place_and_what_was_meant() {
    let media = "[app.shop.media.m]\npath = \"/m\"\n";
    let local = format!("{media}[app.shop.drill.url.x]\nurl = \"http://localhost:80/x\"\n");
    for (text, expected) in [
        // Keys.
        (
            "timezon = \"UTC\"",
            "1:1: unknown key `timezon` at the top of the file; did you mean `timezone`?",
        ),
        (
            "[repository]\nlocation = \"/r\"\n  pasword-file = \"/p\"",
            "3:3: unknown key `pasword-file` in [repository]; did you mean `password-file`?",
        ),
        (
            "[repositry]\nlocation = \"/r\"",
            "1:2: unknown key `repositry` at the top of the file; did you mean `repository`?",
        ),
        (
            "[app.shop]\nurl = \"x\"\n[app.shop.media.m]\npath = \"/m\"",
            "2:1: unknown key `url` in [app.shop]; it belongs in [app.NAME.postgres]",
        ),
        (
            "[repository]\nlocation = \"/r\"\ntimezone = \"UTC\"",
            "3:1: unknown key `timezone` in [repository]; it belongs at the top of the file",
        ),
        (
            "[copy.x]\nlocation = \"/r\"\nwhatever = 1",
            "3:1: unknown key `whatever` in [copy.x]; known here: `location`",
        ),
        (
            "[repository]\nlokation = \"/r\"",
            "2:1: unknown key `lokation` in [repository]; did you mean `location`?",
        ),
        (
            "[repository]\n",
            "1:2: [repository] needs `location`; for example location = \"/srv/lifeboat/repo\"",
        ),
        (
            "[app.shop.sqlite.s]",
            "1:18: [app.shop.sqlite.s] needs `path`; for example path = \"/srv/shop/sessions.db\"",
        ),
        (
            "[copy.x]\nlocation = \"/r\"\nafterr = 1",
            "3:1: unknown key `afterr` in [copy.x]; known here: `location`",
        ),
        // What is to come.
        (
            &format!("{media}[app.shop]\nkeep = {{ last = 3 }}"),
            "4:1: `keep` is not supported by this version",
        ),
        (
            &format!("{media}[[app.shop.schedule]]\nname = \"x\""),
            "3:12: `schedule` is not supported by this version",
        ),
        (
            &format!("{media}[app.shop.drill]\nschedule = \"0 5 * * SUN\""),
            "4:1: `schedule` is not supported by this version",
        ),
        (
            &format!("{media}[app.shop.drill]\nchecks = [\"SELECT 1\"]"),
            "4:11: `checks` are asked of a database, and the app has none",
        ),
        (
            "[app.shop.sqlite]\nx.path = \"/x\"\ny.path = \"/y\"\n[app.shop.drill]\nchecks = [\"x: SELECT 1\", \"SELECT 1\"]",
            "5:26: any of the databases `x`, `y` may be meant: write \"x: SELECT …\"",
        ),
        (
            &format!("{media}[app.shop.drill.command.login]\nrun = []"),
            "4:7: `run` is an empty list",
        ),
        (
            &format!("{media}[app.shop.drill]\nvalues = [\"password\"]"),
            "4:11: a value has a name of small letters, and a colon before what it is: \"password: env:DRILL_PASSWORD\"",
        ),
        (
            &format!("{media}[app.shop.drill.url.x]\nurl = \"/x\""),
            "4:7: `url` is a path of the app, and the drill has no [app.NAME.drill.service] that starts it",
        ),
        (
            &format!("{media}[app.shop.drill.url.x]\nurl = \"http://example.org/x\""),
            "4:7: `url` leads to this machine (127.0.0.1, localhost or [::1]), for nothing else has what was restored",
        ),
        (
            &format!("{media}[app.shop.drill.url.x]\nurl = \"http://127.0.0.1:80@example.org/x\""),
            "4:7: `url` leads to this machine (127.0.0.1, localhost or [::1]), for nothing else has what was restored",
        ),
        (
            &format!("{media}[app.shop.drill.url.x]\nurl = \"https://localhost/x\""),
            "4:7: `url` is a path of the app, or begins with http://127.0.0.1",
        ),
        (
            &format!("{local}form = [\"a={{token}}\"]"),
            "5:8: `{token}` is not known here: `values` has no such name, and no URL before this one takes it",
        ),
        (
            &format!("{local}json = \"{{\""),
            "5:8: `json` is no JSON; a value in braces stands between quotes, unless it is a number",
        ),
        (
            &format!("{local}status = \"200\""),
            "5:10: `status` must be a number, not a text; for example status = 200",
        ),
        (
            &format!("{local}status = 20"),
            "5:10: `status` is a status of HTTP: 200",
        ),
        (
            &format!("{local}timeout = \"soon\""),
            "5:11: `timeout` is a time of up to a day: \"90 seconds\", \"10m\"",
        ),
        (
            &format!("{local}sha256-of = \"m:../a\""),
            "5:13: `sha256-of` names a file of one of the app's folders: \"uploads:logos/logo.png\"",
        ),
        (
            &format!("{local}sha256-of = \"m:a\"\ncontains = \"a\""),
            "5:13: `sha256-of` says all about an answer; `contains` and `take` look into texts",
        ),
        (
            &format!("{local}method = \"post\""),
            "5:10: `method` is one of GET, HEAD, POST, PUT, PATCH, DELETE",
        ),
        (
            &format!("{local}take = [\"token: value\"]"),
            "5:9: `take` has a name of small letters, a colon, and a * between what stands before the value and behind it: \"token: name='csrf' value='*'\"",
        ),
        (
            &format!("{media}[app.shop.hooks]"),
            "3:11: `hooks` is not supported by this version",
        ),
        (
            "[app.shop.postgres]\nurl = \"dbname=a\"\nengine = \"fast\"",
            "3:10: `engine` is \"native\" or \"pg_dump\"",
        ),
        (
            "[app.shop.postgres]\nurl = \"dbname=a\"\nvia = []",
            "3:7: `via` is an empty list",
        ),
        (
            "[app.shop.postgres]\nurl = \"dbname=a\"\nvia = [\"docker\"]\nengine = \"native\"",
            "4:10: `engine` is \"pg_dump\" where `via` is given",
        ),
        (
            "[app.shop.postgres]\nurl = \"dbname=a\"\nvia = [\"docker\"]\npassword = \"env:PW\"",
            "4:12: `password` cannot be handed on by `via`; let the server trust programs that run there, or keep a password \
             file there",
        ),
        (
            &format!("{media}referenced-by = [\"asset\"]"),
            "3:18: a column is named with its table: \"public.asset.file_path\"",
        ),
        (
            &format!("{media}referenced-by = [\"asset.path\"]"),
            "1:17: `asset.path` names files, and the app has no database",
        ),
        (
            &format!(
                "{media}referenced-by = [\"a.b\"]\n[app.shop.sqlite]\nx.path = \"/x\"\ny.path = \"/y\""
            ),
            "1:17: `a.b` may be in any of the databases `x`, `y`: write `x:a.b`",
        ),
        (
            &format!("{media}referenced-by = [\"z:a.b\"]\n[app.shop.sqlite]\nx.path = \"/x\""),
            "1:17: the app has no database named `z`, only `x`",
        ),
        (
            "[copy.x]\nlocation = \"/r\"\nafter = \"backup\"",
            "3:1: `after` is not supported by this version",
        ),
        (
            "[notify.ops]\ntype = \"email\"",
            "1:2: `notify` is not supported by this version",
        ),
        // Forms.
        (
            "timezone = 1",
            "1:12: `timezone` must be a text, not a number; for example timezone = \"Europe/Berlin\"",
        ),
        (
            "repository = \"/r\"",
            "1:14: `repository` must be a table, not a text",
        ),
        (
            "app = { shop = true }",
            "1:16: `shop` must be a table, not true or false",
        ),
        (
            &format!("{media}one-file-system = \"yes\""),
            "3:19: `one-file-system` must be true or false, not a text; for example one-file-system = true",
        ),
        (
            &format!("{media}exclude = \"*.tmp\""),
            "3:11: `exclude` must be a list of texts, not a text; for example exclude = [\"**/thumbs/**\", \"*.tmp\"]",
        ),
        (
            &format!("{media}exclude = [\"a\", 2]"),
            "3:17: `exclude` must be a list of texts, with no number in it; for example exclude = [\"**/thumbs/**\", \"*.tmp\"]",
        ),
        (
            &format!("{media}exclude = [\"\"]"),
            "3:12: `exclude` is empty",
        ),
        (
            "[app.shop.secrets]\npaths = []",
            "2:9: `paths` is an empty list",
        ),
        (
            "[app.shop.sqlite.s]\npath = \"/a\\u0000b\"",
            "2:8: `path` holds a zero byte",
        ),
        // Values.
        (
            "timezone = \"Europe/Berlim\"",
            "1:12: this machine knows no time zone `Europe/Berlim`; did you mean `Europe/Berlin`?",
        ),
        (
            "[repository]\nlocation = \"s3://bucket\"",
            "2:12: this version keeps repositories in local folders only, not at s3: locations",
        ),
        (
            "[repository]\nlocation = \"/r\"\npassword-file = \"/p\"\nkey-file = \"/k\"",
            "4:12: `key-file` is one way too many: the repository is opened by `password-file`",
        ),
        (
            "[repository]\nlocation = \"/r\"\npassword-command = []",
            "3:20: `password-command` names no program",
        ),
        (
            "[app.shop.sqlite.s]\npath = \"~/s.db\"",
            "2:8: `~` is not replaced by a home folder here; write the whole path",
        ),
        (
            "[app.shop.postgres]\nurl = \"shop\"",
            "2:7: `url` is neither postgres://… nor a connection string such as \"host=db dbname=shop\"",
        ),
        (
            "[app.shop.postgres]\nurl = \"postgres://\"\nskip-data = [\"a.b\", \"sessions\"]",
            "3:21: `skip-data` names tables with their schema: \"public.sessions\"",
        ),
        (
            "[app.shop.postgres]\nurl = \"postgres://\"\npassword = \"file:\"",
            "3:12: `file:` is followed by a path",
        ),
        (
            "[app.shop.command.c]\nrun = [\"x\"]\nfilename = \"a/b\"",
            "3:12: `filename` is the name of one file, without folders",
        ),
        // Apps and their sources.
        (
            "[app.shop]\ntimezone = \"UTC\"",
            "1:6: the app `shop` has no source: nothing would be backed up",
        ),
        (
            "[app.latest.sqlite.s]\npath = \"/s\"",
            "1:6: `latest` cannot be a name in [app]: `latest`, `drilled` and `tag` mean something else where an app is named",
        ),
        (
            "[app.shop.sqlite.\"a b\"]\npath = \"/s\"",
            "1:18: `a b` cannot be a name in [app.shop.sqlite]: a name begins with a letter or digit and has only letters \
             without accents, digits, `-`, `_` and `.`",
        ),
        (
            "[app.shop.sqlite.x]\npath = \"/s\"\n[app.shop.media.x]\npath = \"/m\"",
            "3:17: the app has a source named `x` already, in line 1",
        ),
        (
            "[app.shop.media.db]\npath = \"/m\"\n[app.shop.postgres]\nurl = \"postgres://\"",
            "3:11: the app has a source named `db` already, in line 1",
        ),
        // TOML itself.
        (
            "timezone = \"UTC\"\ntimezone = \"UTC\"",
            "2:1: duplicate key",
        ),
        (
            "a = \n",
            "1:5: string values must be quoted, expected literal string",
        ),
    ] {
        assert_eq!(problems(text), [expected], "{text}");
    }
}

#[test]
fn all_mistakes_are_told_at_once_in_the_order_of_the_text() {
    let text = "tz = 1\n[app.shop.postgres]\npassword = 5\n[app.shop.media.m]\npath = \"/m\"\nexclude = [\"a[b\"]\n";
    let problems = problems(text);
    let places: Vec<_> = problems.iter().map(|problem| &problem[..3]).collect();
    assert_eq!(places, ["1:1", "2:1", "3:1", "6:1"], "{problems:#?}");
    assert!(
        problems[3].starts_with("6:12: exclude pattern \"a[b\" is not valid: error parsing glob"),
        "{problems:#?}"
    );
}

#[test]
fn an_error_repeats_no_value_of_the_text() {
    for text in [
        "[app.shop.postgres]\nurl = \"hunter2\"",
        "[app.shop.postgres]\nurl = \"postgres://u:hunter2@h\"\npassword = \"env:hunter2=\"",
        "[app.shop.postgres]\nurl = \"postgres://\"\npassword = \"hunter2",
        "[app.shop.postgres]\nurl = \"postgres://\"\npassword = hunter2",
        "[app.shop.postgres]\npassword = [\"hunter2\"]",
        "[repository]\nlocation = \"https://u:hunter2@h/x\"",
    ] {
        let error = parse(text).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
    }
}

#[test]
fn a_configuration_shown_for_debugging_hides_its_secrets() {
    let text = "[app.shop.postgres]\nurl = \"postgres://u:hunter2@h\"\npassword = \"hunter2\"\n\
                [app.shop.command.c]\nrun = [\"dump\", \"--password=hunter2\"]\nfilename = \"c\"";
    let shown = format!("{:?}", parse(text).unwrap());
    assert!(
        !shown.contains("hunter2") && shown.contains("postgres://u:***@h"),
        "{shown}"
    );
}

#[test]
fn relative_paths_are_taken_from_the_folder_of_the_file() {
    let text = "[repository]\nlocation = \"repo\"\nkey-file = \"key\"\n\
                [app.a.media.m]\npath = \"m\"\n[app.a.secrets]\npaths = [\".env\"]\n\
                [app.a.postgres]\nurl = \"dbname=a\"\npassword = \"file:pw\"\n";
    let config = parse(text).unwrap();
    let repository = config.repository.unwrap();
    assert_eq!(
        repository.location,
        Location::Folder("/etc/lifeboat/repo".into())
    );
    assert_eq!(
        repository.opened_by,
        Some(OpenedBy::KeyFile("/etc/lifeboat/key".into()))
    );
    let expected = [
        SourceConfig::Folder(folder("m", "/etc/lifeboat/m")),
        SourceConfig::Secrets(SecretsSource {
            paths: vec!["/etc/lifeboat/.env".into()],
        }),
        SourceConfig::Postgres(PostgresSource {
            name: "db".to_owned(),
            url: "dbname=a".to_owned(),
            password: Some(Secret::File("/etc/lifeboat/pw".into())),
            skip_data: Vec::new(),
            pg_dump: false,
            via: Vec::new(),
        }),
    ];
    assert_eq!(config.apps[0].sources, expected);
}

#[test]
fn apps_keep_the_order_of_the_file_and_their_time_zones() {
    let text = "timezone = \"Europe/Berlin\"\n\
                [app.zoo.sqlite.s]\npath = \"/z\"\n\
                [app.ant]\ntimezone = \"Asia/Tokyo\"\n[app.ant.sqlite.s]\npath = \"/a\"\n";
    let config = parse(text).unwrap();
    let apps: Vec<_> = config
        .apps
        .iter()
        .map(|app| (app.name.as_str(), app.time_zone.clone()))
        .collect();
    assert_eq!(
        apps,
        [("zoo", zone("Europe/Berlin")), ("ant", zone("Asia/Tokyo"))]
    );
    assert_eq!(parse("").unwrap(), Config::default());
}

#[test]
fn inline_tables_and_dotted_keys_are_the_same_configuration() {
    let usual = "[app.shop.media.m]\npath = \"/m\"\n[app.shop.postgres]\nurl = \"dbname=a\"\nname = \"main\"\n";
    for other in [
        "app.shop.media.m.path = \"/m\"\napp.shop.postgres = { url = \"dbname=a\", name = \"main\" }\n",
        "[app]\nshop = { media = { m = { path = \"/m\" } }, postgres = { url = \"dbname=a\", name = \"main\" } }\n",
    ] {
        assert_eq!(parse(other).unwrap(), parse(usual).unwrap());
    }
}

#[test]
fn an_app_is_found_by_name_or_a_likely_one_is_proposed() {
    let config =
        parse("[app.shop.sqlite.s]\npath = \"/s\"\n[app.blog.sqlite.s]\npath = \"/s\"").unwrap();
    assert_eq!(config.app("blog").unwrap().name, "blog");
    for (name, expected) in [
        (
            "shp",
            "the configuration has no app `shp`; did you mean `shop`?",
        ),
        (
            "wiki",
            "the configuration has no app `wiki`; it has shop, blog",
        ),
    ] {
        assert_eq!(config.app(name).unwrap_err().to_string(), expected);
    }
    assert_eq!(
        Config::default().app("x").unwrap_err().to_string(),
        "the configuration has no app `x`; it has no app at all"
    );
}

#[test]
fn a_password_in_a_file_that_others_can_read_is_warned_of() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(FILE_NAME);
    std::fs::write(
        &path,
        "\n[app.shop.postgres]\nurl = \"postgres://u:pw@h\"\npassword = \"pw\"\n",
    )
    .unwrap();
    std::fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
    let mut warnings = Config::load(&path).unwrap().warnings;
    let expected = |line| {
        format!(
            "A password stands in line {line} of {}, which others can read: chmod 600 the file, or write password = \
             \"file:PATH\".",
            path.display()
        )
    };

    warnings.sort();
    assert_eq!(warnings, [expected(3), expected(4)]);
    std::fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    let config = Config::load(&path).unwrap();
    assert!(config.warnings.is_empty());
    let SourceConfig::Postgres(postgres) = &config.apps[0].sources[0] else {
        panic!("the source is a database");
    };
    assert_eq!(
        postgres.password,
        Some(Secret::Literal(Zeroizing::new("pw".to_owned())))
    );
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(FILE_NAME);
    let error = Config::load(&path).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("cannot read the configuration {}", path.display())
    );
    std::fs::write(&path, b"\xff").unwrap();
    assert!(matches!(Config::load(&path), Err(ConfigError::Read { .. })));
    std::fs::write(&path, "#".repeat(5 << 20)).unwrap();
    assert!(matches!(
        Config::load(&path),
        Err(ConfigError::TooLarge { .. })
    ));
}

#[test]
fn the_configuration_is_looked_for_in_order() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join(".config/lifeboat");
    std::fs::create_dir_all(&folder).unwrap();
    let variables = |set: &[(&str, OsString)]| {
        let set: Vec<_> = set
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.clone()))
            .collect();
        move |name: &str| {
            set.iter()
                .find(|(set, _)| set == name)
                .map(|(_, value)| value.clone())
        }
    };
    let home_only = [("HOME", home.path().into()), ("LIFEBOAT_CONFIG", "".into())];
    let named = [
        ("HOME", home.path().into()),
        ("LIFEBOAT_CONFIG", "/named".into()),
    ];
    let xdg = [
        ("HOME", "/nowhere".into()),
        ("XDG_CONFIG_HOME", home.path().join(".config").into()),
    ];
    let argument = Some(Path::new("/argument"));
    assert_eq!(
        Config::default_path(argument, variables(&named)),
        Some("/argument".into())
    );
    assert_eq!(
        Config::default_path(None, variables(&named)),
        Some("/named".into())
    );
    std::fs::write(folder.join(FILE_NAME), "").unwrap();
    for set in [&home_only, &xdg] {
        assert_eq!(
            Config::default_path(None, variables(set)),
            Some(folder.join(FILE_NAME))
        );
    }
}

#[test]
fn below_a_home_that_is_no_folder_lies_no_configuration() {
    assert!(is_missing(Path::new("/dev/null/.config/lifeboat.toml")));
    assert!(!is_missing(Path::new("/dev/null")));
}

#[test]
fn a_file_found_by_chance_is_used_only_when_nobody_else_could_have_put_it_there() {
    for (owner, mode, user, expected) in [
        (1000, 0o100_644, 1000, true),
        (0, 0o100_644, 1000, true),
        (1000, 0o100_664, 1000, true),
        (1000, 0o100_644, 0, false),
        (1001, 0o100_600, 1000, false),
        (1000, 0o100_666, 1000, false),
    ] {
        assert_eq!(
            is_own(owner, mode, user),
            expected,
            "{owner} {mode:o} {user}"
        );
    }
}

#[test]
fn no_text_whatever_makes_the_parser_panic() {
    let parts = [
        "[app.shop]\n",
        "[[app]]\n",
        "app",
        ".",
        "=",
        "{",
        "}",
        "[\"",
        "\"\n",
        "\u{e9}",
        "\0",
        "#",
        "\r\n",
        "1979-05-27",
        "path = ",
        "postgres",
    ];
    for first in parts {
        for second in parts {
            for third in parts {
                let text = [first, second, third].concat();
                if let Err(error) = parse(&text) {
                    assert!(error.to_string().starts_with(FILE), "{text:?}");
                }
            }
        }
    }
    for deep in ["[", "{ a = ", "a."] {
        assert!(parse(&format!("x = {}", deep.repeat(100_000))).is_err());
    }
    assert!(parse(&format!("{}a = 1", "a.".repeat(100_000))).is_err());
}

#[test]
fn a_column_is_in_the_only_database_or_in_the_one_that_is_named() {
    let media = "[app.shop.media.uploads]\npath = \"/m\"\n";
    let references = |text: &str| match &parse(text).unwrap().app("shop").unwrap().sources[0] {
        SourceConfig::Folder(folder) => folder.references.clone(),
        other => panic!("{other:?}"),
    };
    let one = "[app.shop.postgres]\nurl = \"dbname=a\"\n";
    let two = "[app.shop.sqlite]\nx.path = \"/x\"\n";
    let unnamed = format!("{media}referenced-by = [\"public.a.b\"]\n{one}");
    assert_eq!(references(&unnamed), [column("db", "public.a", "b")]);
    let named = format!("{media}referenced-by = [\"x:a.b\"]\n{one}{two}");
    assert_eq!(references(&named), [column("x", "a", "b")]);
}
