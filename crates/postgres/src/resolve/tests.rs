//! What a connection string, files and an environment come to; the expectations are libpq's own rules.

use std::{collections::HashMap, fs};

use super::*;

/// A home folder and an environment of its own.
struct Home {
    folder: tempfile::TempDir,
    variables: HashMap<&'static str, OsString>,
}

impl Home {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut variables = HashMap::new();
        variables.insert("HOME", folder.path().into());
        variables.insert("PGSYSCONFDIR", folder.path().into());
        Self { folder, variables }
    }

    fn set(mut self, name: &'static str, value: &str) -> Self {
        self.variables.insert(name, value.into());
        self
    }

    fn file(self, name: &str, mode: u32, content: &str) -> Self {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        self
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn try_resolve(&self, text: &str) -> Result<Settings, ResolveError> {
        resolve(text, &|name| self.variables.get(name).cloned())
    }

    fn resolve(&self, text: &str) -> Settings {
        self.try_resolve(text)
            .unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    fn refusal(&self, text: &str) -> String {
        self.try_resolve(text).unwrap_err().to_string()
    }
}

fn password(settings: &Settings) -> Option<&str> {
    settings.password.as_ref().map(|password| password.as_str())
}

fn variable(settings: &Settings, name: &str) -> Option<String> {
    settings
        .environment()
        .into_iter()
        .find(|(given, _)| *given == name)
        .map(|(_, value)| value.into_string().unwrap())
}

#[test]
fn the_string_stands_over_the_service_over_the_environment_over_the_default() {
    let home = Home::new()
        .file(
            ".pg_service.conf",
            0o644,
            "[shop]\nhost=from-service\nport=6000\nuser=service\n",
        )
        .set("PGHOST", "from-environment")
        .set("PGUSER", "environment")
        .set("PGDATABASE", "environment")
        .set("PGSERVICE", "shop");
    let settings = home.resolve("postgres://text@/");
    assert_eq!(settings.display(), "text@from-service:6000/environment");
    let settings = home.resolve("service=shop user=x dbname=y host=z port=1");
    assert_eq!(settings.display(), "x@z:1/y");
    let settings = Home::new().resolve("postgres://ann@db");
    assert_eq!(settings.display(), "ann@db:5432/ann");
    assert_eq!(
        Home::new()
            .set("PGDATABASE", "e")
            .resolve("shop")
            .database(),
        "shop"
    );
}

#[test]
fn an_empty_value_means_the_default_whatever_the_environment_says() {
    let home = Home::new().set("PGHOST", "db").set("PGPORT", "6000");
    let settings = home.resolve("host='' user=ann");
    assert!(matches!(settings.host(), Host::Socket(_)));
    assert_eq!(settings.port(), 6000);
}

#[test]
fn socket_folders_are_hosts_that_start_with_a_slash() {
    let settings = Home::new().resolve("postgres://ann@%2Frun%2Fpg:6000/shop?sslmode=verify-full");
    assert_eq!(settings.host(), &Host::Socket(PathBuf::from("/run/pg")));
    assert_eq!(settings.tls().mode, TlsMode::Disable);
    assert_eq!(variable(&settings, "PGHOST").as_deref(), Some("/run/pg"));
    assert_eq!(variable(&settings, "PGSSLMODE").as_deref(), Some("disable"));
    assert!(
        Home::new()
            .refusal("host=@abstract")
            .contains("abstract socket")
    );
}

#[test]
fn several_hosts_are_refused_with_a_sentence() {
    for text in [
        "postgres://a,b/d",
        "postgres://a:1,b:2/d",
        "host=a,b",
        "hostaddr=1.1.1.1,2.2.2.2",
    ] {
        assert!(
            Home::new().refusal(text).contains("name the one server"),
            "{text}"
        );
    }
    assert!(
        Home::new()
            .set("PGHOST", "a,b")
            .refusal("d")
            .contains("several hosts")
    );
}

#[test]
fn values_that_cannot_be_right_are_named() {
    let home = Home::new();
    assert!(home.refusal("host=h port=0").contains("1 to 65535"));
    assert!(
        home.refusal("host=h port=x")
            .contains("\"x\" is not a valid port")
    );
    assert!(home.refusal("hostaddr=db").contains("address"));
    assert!(
        home.refusal("host=h sslmode=verify_full")
            .contains("verify-full")
    );
    assert!(
        home.refusal("host=h connect_timeout=-1")
            .contains("connect_timeout")
    );
    assert!(
        home.refusal("host=h channel_binding=x")
            .contains("channel_binding")
    );
    let home = home.set("PGREQUIREAUTH", "scram-sha-256");
    assert_eq!(
        home.refusal("host=h"),
        "the environment variable PGREQUIREAUTH cannot be used"
    );
}

#[test]
fn the_password_file_is_asked_with_the_resolved_names() {
    let lines = "db:5432:shop:ann:one\nlocalhost:*:*:ann:socket\n/run/pg:*:*:ann:folder\n10.0.0.1:*:*:ann:address\n";
    let home = Home::new().file(".pgpass", 0o600, lines);
    assert_eq!(
        password(&home.resolve("postgres://ann@db/shop")),
        Some("one")
    );
    assert_eq!(password(&home.resolve("postgres://ann@db/other")), None);
    assert_eq!(
        password(&home.resolve("postgres://ann@/shop")),
        Some("socket")
    );
    assert_eq!(
        password(&home.resolve("host=/run/pg user=ann")),
        Some("folder")
    );
    assert_eq!(
        password(&home.resolve("hostaddr=10.0.0.1 user=ann")),
        Some("address")
    );
    assert_eq!(
        password(&home.resolve("postgres://ann:own@db/shop")),
        Some("own")
    );
    let home = home.set("PGPASSWORD", "environment");
    assert_eq!(
        password(&home.resolve("postgres://ann@db/shop")),
        Some("environment")
    );
}

#[test]
fn pgpassfile_and_passfile_name_another_file() {
    let home = Home::new()
        .file("a", 0o600, "*:*:*:*:a\n")
        .file("b", 0o600, "*:*:*:*:b\n");
    let a = home.path("a");
    let b = home.path("b");
    let home = home.set("PGPASSFILE", a.to_str().unwrap());
    assert_eq!(password(&home.resolve("postgres://ann@db")), Some("a"));
    let text = format!("host=db user=ann passfile={}", b.display());
    assert_eq!(password(&home.resolve(&text)), Some("b"));
}

#[test]
fn an_open_password_file_is_not_used_and_the_warning_says_so() {
    let home = Home::new().file(".pgpass", 0o644, "*:*:*:*:pw\n");
    let settings = home.resolve("host=/run/pg user=ann");
    assert_eq!(password(&settings), None);
    assert!(
        settings.warnings()[0].contains("chmod 600"),
        "{:?}",
        settings.warnings()
    );
}

#[test]
fn the_password_shows_in_no_text_but_its_own_variable() {
    let settings = Home::new().resolve("postgres://ann:geheim@db/shop");
    assert!(!settings.display().contains("geheim"));
    assert!(!format!("{settings:?}").contains("geheim"));
    assert!(!settings.conninfo().contains("geheim"));
    for (name, value) in settings.environment() {
        assert_eq!(name == "PGPASSWORD", value == "geheim", "{name}");
    }
}

#[test]
fn modes_without_verification_warn_unless_the_server_is_local() {
    for (text, warns) in [
        ("host=db.internal user=a", true),
        ("host=db.internal user=a sslmode=require", true),
        ("host=localhost user=a", false),
        ("host=127.0.0.1 user=a", false),
        ("host=/run/pg user=a", false),
    ] {
        assert_eq!(
            !Home::new().resolve(text).warnings().is_empty(),
            warns,
            "{text}"
        );
    }
}

#[test]
fn root_certificates_come_from_the_parameter_the_home_folder_or_the_system() {
    let home = Home::new();
    assert!(
        home.refusal("host=db user=a sslmode=verify-full")
            .contains("root.crt")
    );
    assert!(
        home.refusal("host=db user=a sslmode=verify-ca")
            .contains("sslrootcert")
    );
    assert!(
        home.refusal("host=db user=a sslrootcert=/no/such/file")
            .contains("/no/such/file")
    );

    let home = home.file(".postgresql/root.crt", 0o644, "");
    let roots = home.path(".postgresql/root.crt");
    for mode in ["allow", "prefer", "require", "verify-ca", "verify-full"] {
        let settings = home.resolve(&format!("host=db user=a sslmode={mode}"));
        assert_eq!(
            settings.tls().roots.as_deref(),
            Some(roots.as_path()),
            "{mode}"
        );
        assert_eq!(
            variable(&settings, "PGSSLROOTCERT").as_deref(),
            roots.to_str()
        );
        assert_eq!(variable(&settings, "PGSSLMODE").as_deref(), Some(mode));
    }
    assert_eq!(
        home.resolve("host=db user=a sslmode=disable").tls().roots,
        None
    );

    let home = home.file("bundle.pem", 0o644, "");
    let bundle = home.path("bundle.pem");
    let home = home.set("SSL_CERT_FILE", bundle.to_str().unwrap());
    let settings = home.resolve("host=db user=a sslrootcert=system");
    assert_eq!(settings.tls().mode, TlsMode::VerifyFull);
    assert_eq!(
        variable(&settings, "PGSSLROOTCERT").as_deref(),
        bundle.to_str()
    );
    assert!(
        home.refusal("host=db user=a sslrootcert=system sslmode=require")
            .contains("too weak")
    );
}

#[test]
fn verify_full_needs_a_name_to_verify() {
    let home = Home::new().file(".postgresql/root.crt", 0o644, "");
    assert!(
        home.refusal("hostaddr=127.0.0.1 user=a sslmode=verify-full")
            .contains("hostaddr")
    );
    let settings = home.resolve("hostaddr=127.0.0.1 host=db user=a sslmode=verify-full");
    assert_eq!(variable(&settings, "PGHOST").as_deref(), Some("db"));
    assert_eq!(
        variable(&settings, "PGHOSTADDR").as_deref(),
        Some("127.0.0.1")
    );
}

#[test]
fn client_certificates_need_a_key_that_others_cannot_read() {
    let home = Home::new().file(".postgresql/postgresql.crt", 0o644, "");
    assert!(home.refusal("host=db user=a").contains("has no key"));
    let home = home.file(".postgresql/postgresql.key", 0o644, "");
    assert!(home.refusal("host=db user=a").contains("chmod 600"));
    let home = home.file(".postgresql/postgresql.key", 0o600, "");
    let settings = home.resolve("host=db user=a");
    let key = home.path(".postgresql/postgresql.key");
    assert_eq!(variable(&settings, "PGSSLKEY").as_deref(), key.to_str());
    assert_eq!(home.resolve("host=/run/pg user=a").tls().identity, None);
}

#[test]
fn timeouts_and_keepalives_have_finite_defaults_and_follow_the_string() {
    let home = Home::new();
    let settings = home.resolve("host=db user=a");
    assert_eq!(settings.connect_timeout, Duration::from_secs(30));
    assert!(settings.conninfo().contains("keepalives_idle=60"));
    let text =
        "host=db user=a connect_timeout=1 keepalives_idle=5 keepalives=0 tcp_user_timeout=900";
    let settings = home.resolve(text);
    assert_eq!(
        variable(&settings, "PGCONNECT_TIMEOUT").as_deref(),
        Some("2")
    );
    assert_eq!(
        settings.conninfo(),
        "dbname='a' keepalives=0 keepalives_idle=5 keepalives_interval=15 keepalives_count=4 tcp_user_timeout=900"
    );
}

#[test]
fn a_home_that_is_none_does_not_stand_in_the_way_and_a_named_password_file_must_be_readable() {
    // Accounts of services are often given a home that is a file.
    let home = Home::new().set("HOME", "/dev/null");
    let settings = home.resolve("postgres://ann@db/shop");
    assert_eq!(password(&settings), None);
    let warning = &settings.warnings()[0];
    assert!(warning.contains("/dev/null/.pgpass"), "{warning}");
    let refusal = home.refusal("host=db passfile=/dev/null/pgpass");
    assert_eq!(refusal, "cannot read /dev/null/pgpass");
}

#[test]
fn files_named_by_a_relative_path_are_found_by_the_child_programs_too() {
    // Tests run in the crate's own folder, child programs in another.
    let settings =
        Home::new().resolve("host=db sslmode=verify-full sslrootcert=Cargo.toml user=ann");
    let roots = variable(&settings, "PGSSLROOTCERT").unwrap();
    assert!(Path::new(&roots).is_absolute(), "{roots}");
    assert!(Path::new(&roots).ends_with("Cargo.toml"), "{roots}");
}

#[test]
fn the_way_to_another_database_is_the_same_way_with_its_password() {
    let home = Home::new().file(".pgpass", 0o600, "db:6432:shop:backup:it's \\\\ secret\n");
    for text in [
        "postgres://backup@db:6432/shop?sslmode=disable&connect_timeout=7",
        "host=db port=6432 user=backup dbname='shop' sslmode=disable connect_timeout=7",
    ] {
        let first = home.resolve(text);
        assert_eq!(password(&first), Some("it's \\ secret"));
        let other = to_database(text, &first, "a 'new' \\ one").unwrap();
        let other = home.resolve(&other);
        assert_eq!(other.database(), "a 'new' \\ one");
        assert_eq!(password(&other), password(&first));
        assert_eq!((other.host(), other.port()), (first.host(), first.port()));
        assert_eq!(other.connect_timeout, first.connect_timeout);
        assert_eq!(other.tls().mode, first.tls().mode);
    }
}
