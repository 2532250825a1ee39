//! Logging in: passwords and every `sslmode`, against a server with a certificate of our own making.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    sync::{Mutex, Weak},
};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair,
};
use zeroize::Zeroizing;

use super::*;
use crate::{
    cluster::{Cluster, ClusterOptions, ClusterTcp},
    identity::Identity,
    resolve::resolve,
    testing,
};

/// A certificate authority, and a server whose certificate it has signed for `localhost`.
struct Secure {
    cluster: Cluster,
    folder: tempfile::TempDir,
}

const ACCESS: [&str; 3] = [
    "hostssl all secret 127.0.0.1/32 scram-sha-256",
    "hostnossl all plain 127.0.0.1/32 trust",
    "host all postgres 127.0.0.1/32 scram-sha-256",
];

impl Secure {
    /// The one that tests share.
    fn shared() -> Arc<Self> {
        static SHARED: testing::Shared<Secure> = Mutex::new(Weak::new());
        testing::shared(&SHARED, Self::start)
    }

    fn start() -> Self {
        let authority = authority();
        let key = KeyPair::generate().unwrap();
        let certificate = params("server", &["localhost"])
            .signed_by(&key, &authority.1)
            .unwrap();
        let secure = Self::with(certificate.pem(), key.serialize_pem());
        fs::write(secure.path("root.crt"), &authority.0).unwrap();
        fs::write(secure.path("other.crt"), authority_pem()).unwrap();
        secure
    }

    fn with(certificate: String, key: String) -> Self {
        let options = ClusterOptions {
            tcp: Some(ClusterTcp {
                certificate: Some((certificate, key)),
                access: ACCESS.map(ToOwned::to_owned).to_vec(),
            }),
            ..ClusterOptions::default()
        };
        let cluster = testing::own_cluster(&options);
        testing::run(
            &cluster.settings("postgres"),
            "CREATE ROLE secret LOGIN PASSWORD 'geheim'; CREATE ROLE plain LOGIN;
             ALTER ROLE postgres PASSWORD 'geheim'",
        );
        Self {
            cluster,
            folder: tempfile::tempdir().unwrap(),
        }
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    fn settings(&self, more: &str) -> Settings {
        let text = format!(
            "hostaddr=127.0.0.1 port={} dbname=postgres password=geheim {more}",
            self.cluster.port()
        );
        let home = self.path("home");
        resolve(&text, &|name| (name == "HOME").then(|| home.clone().into())).unwrap()
    }

    /// Whether our session and `psql` get in, whether it is by TLS, and whether both agree.
    fn outcome(&self, more: &str) -> Result<bool, String> {
        let settings = self.settings(more);
        let programs = testing::programs(&self.cluster);
        let connection = match Connection::open(&settings, testing::runtime()) {
            Ok(connection) => connection,
            Err(error) => {
                let mut command = crate::child::command(&programs.program("psql"), Some(&settings));
                command.args(["--no-password", "--command=SELECT 1"]);
                assert!(
                    crate::child::output(command).is_err(),
                    "psql gets in with {more}"
                );
                return Err(testing::chain(&error));
            }
        };
        let identity = Identity::of(&connection).unwrap();
        for settings in [connection.settings(), &settings] {
            let confirmed = identity.confirm(settings, &programs);
            assert!(confirmed.is_ok(), "{more}: {settings:?}: {confirmed:?}");
        }
        let sql = "SELECT ssl FROM pg_catalog.pg_stat_ssl WHERE pid = pg_catalog.pg_backend_pid()";
        let row = connection.row("ask", sql).unwrap();
        Ok(row == [Some("t".to_owned())])
    }
}

/// A certificate's content; issuer and subject must differ for OpenSSL to look for the issuer.
fn params(name: &str, hosts: &[&str]) -> CertificateParams {
    let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
    let mut params = CertificateParams::new(hosts).unwrap();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

/// A root's certificate as PEM, and what signs in its name.
fn authority() -> (String, Issuer<'static, KeyPair>) {
    let mut params = params("authority", &[]);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    (certificate.pem(), Issuer::new(params, key))
}

fn authority_pem() -> String {
    authority().0
}

#[test]
fn every_mode_trusts_exactly_whom_it_should() {
    let secure = Secure::shared();
    let root = format!("sslrootcert={}", secure.path("root.crt").display());
    let other = format!("sslrootcert={}", secure.path("other.crt").display());
    // Role `secret` may come by TLS only, `plain` without only, `postgres` either way.
    let (encrypted, open) = (Ok(true), Ok(false));
    for (more, expected) in [
        ("user=postgres sslmode=disable", open),
        ("user=postgres sslmode=allow", open),
        ("user=postgres sslmode=prefer", encrypted),
        ("user=postgres sslmode=require", encrypted),
        ("user=secret sslmode=disable", Err("no pg_hba.conf entry")),
        ("user=secret sslmode=allow", encrypted),
        ("user=plain sslmode=prefer", open),
        ("user=plain sslmode=require", Err("no pg_hba.conf entry")),
        // With a root at hand the chain is verified in every mode; the name in `verify-full` alone.
        (&format!("user=postgres sslmode=require {root}"), encrypted),
        (
            &format!("user=postgres sslmode=require {other}"),
            Err("BadSignature"),
        ),
        (&format!("user=postgres sslmode=prefer {other}"), open),
        (
            &format!("user=postgres sslmode=verify-ca host=wrong.name {root}"),
            encrypted,
        ),
        (
            &format!("user=postgres sslmode=verify-ca {other}"),
            Err("BadSignature"),
        ),
        (
            &format!("user=postgres sslmode=verify-full host=localhost {root}"),
            encrypted,
        ),
        (
            &format!("user=postgres sslmode=verify-full host=wrong.name {root}"),
            Err("not valid for name"),
        ),
        (
            &format!("user=postgres sslmode=verify-full host=localhost {other}"),
            Err("BadSignature"),
        ),
    ] {
        match (secure.outcome(more), expected) {
            (Ok(tls), Ok(expected)) => assert_eq!(tls, expected, "{more}"),
            (Err(error), Err(expected)) => assert!(error.contains(expected), "{more}: {error}"),
            (outcome, _) => panic!("{more}: {outcome:?}"),
        }
    }
}

#[test]
fn a_server_that_shows_its_own_trusted_root_passes_and_another_root_does_not() {
    let mut params = params("itself", &["localhost"]);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    let secure = Secure::with(certificate.pem(), key.serialize_pem());
    let root = secure.path("root.crt");
    fs::write(&root, certificate.pem()).unwrap();
    let with = |host: &str| {
        format!(
            "user=postgres sslmode=verify-full host={host} sslrootcert={}",
            root.display()
        )
    };
    assert_eq!(secure.outcome(&with("localhost")), Ok(true));
    assert!(secure.outcome(&with("wrong.name")).is_err());
    fs::write(&root, authority_pem()).unwrap();
    assert!(secure.outcome(&with("localhost")).is_err());
}

#[test]
fn a_client_certificate_lets_in_whom_it_names() {
    let (root, issuer) = authority();
    let folder = tempfile::tempdir().unwrap();
    // The server reads it as its own account.
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let root_path = folder.path().join("root.crt");
    fs::write(&root_path, root).unwrap();
    let signed = |params: CertificateParams| {
        let key = KeyPair::generate().unwrap();
        (
            params.signed_by(&key, &issuer).unwrap().pem(),
            key.serialize_pem(),
        )
    };
    let options = ClusterOptions {
        tcp: Some(ClusterTcp {
            certificate: Some(signed(params("server", &["localhost"]))),
            access: vec!["hostssl all all 127.0.0.1/32 cert".to_owned()],
        }),
        parameters: vec![(
            "ssl_ca_file".to_owned(),
            root_path.to_str().unwrap().to_owned(),
        )],
        ..ClusterOptions::default()
    };
    let secure = Secure {
        cluster: testing::own_cluster(&options),
        folder,
    };
    let (certificate, key) = signed(params("postgres", &[]));
    fs::write(secure.path("me.crt"), certificate).unwrap();
    fs::write(secure.path("me.key"), key).unwrap();
    fs::set_permissions(secure.path("me.key"), fs::Permissions::from_mode(0o600)).unwrap();
    let with = format!(
        "host=localhost sslmode=verify-full sslrootcert={} sslcert={} sslkey={}",
        root_path.display(),
        secure.path("me.crt").display(),
        secure.path("me.key").display()
    );
    assert_eq!(secure.outcome(&format!("user=postgres {with}")), Ok(true));
    let error = secure
        .outcome(&format!("user=somebody {with}"))
        .unwrap_err();
    assert!(
        error.contains("certificate authentication failed"),
        "{error}"
    );
}

#[test]
fn a_wrong_password_and_a_missing_one_are_told_apart_and_neither_is_repeated() {
    let secure = Secure::shared();
    let wrong = secure
        .settings("user=postgres")
        .with_password(Zeroizing::new("falsch".to_owned()));
    let error = Connection::open(&wrong, testing::runtime()).err().unwrap();
    assert!(
        testing::chain(&error).contains("password authentication failed"),
        "{}",
        testing::chain(&error)
    );
    assert!(!testing::chain(&error).contains("falsch"));
    let missing = Settings {
        password: None,
        ..wrong
    };
    let error = Connection::open(&missing, testing::runtime())
        .err()
        .unwrap();
    assert!(
        matches!(error, ConnectError::NoPassword { .. }),
        "{}",
        testing::chain(&error)
    );
}

#[test]
fn nobody_there_no_database_and_no_answer_are_said_plainly() {
    let cluster = testing::cluster();
    let error = Connection::open(&cluster.settings("nobody"), testing::runtime())
        .err()
        .unwrap();
    assert!(
        testing::chain(&error).contains("database \"nobody\" does not exist"),
        "{}",
        testing::chain(&error)
    );
    let nowhere = Settings::over_socket(Path::new("/nowhere"), 5432, "ann", "shop");
    let error = Connection::open(&nowhere, testing::runtime())
        .err()
        .unwrap();
    assert_eq!(
        error.to_string(),
        "cannot connect to ann@/nowhere:5432/shop"
    );
    assert!(
        testing::chain(&error).contains("No such file"),
        "{}",
        testing::chain(&error)
    );

    let silent = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let settings = Settings {
        host: Host::Tcp("127.0.0.1".to_owned()),
        port: silent.local_addr().unwrap().port(),
        connect_timeout: Duration::from_millis(200),
        ..nowhere
    };
    let error = Connection::open(&settings, testing::runtime())
        .err()
        .unwrap();
    assert!(
        matches!(error, ConnectError::Timeout { .. }),
        "{}",
        testing::chain(&error)
    );
}

#[test]
fn the_session_is_set_up_as_pg_dump_sets_up_its_own() {
    let cluster = testing::cluster();
    let settings = testing::database(&cluster, "");
    testing::run(
        &settings,
        &format!(
            "ALTER DATABASE {0} SET statement_timeout = '1s'; ALTER DATABASE {0} SET lc_monetary = 'C.UTF-8';
             ALTER DATABASE {0} SET DateStyle = 'SQL, DMY'; ALTER DATABASE {0} SET IntervalStyle = 'iso_8601';
             ALTER DATABASE {0} SET extra_float_digits = -3; ALTER DATABASE {0} SET bytea_output = 'escape'",
            settings.database()
        ),
    );
    let connection = Connection::open(&settings, testing::runtime()).unwrap();
    for (name, value) in [
        ("search_path", "\"\""),
        ("row_security", "off"),
        ("statement_timeout", "0"),
        ("extra_float_digits", "3"),
        ("TimeZone", "UTC"),
        ("lc_monetary", "C"),
        ("DateStyle", "ISO, DMY"),
        ("IntervalStyle", "postgres"),
        ("bytea_output", "hex"),
    ] {
        let row = connection.row("ask", &format!("SHOW {name}")).unwrap();
        assert_eq!(row[0].as_deref(), Some(value), "{name}");
    }
}

#[test]
fn rows_come_through_an_encrypted_connection_and_can_be_given_up_there() {
    let secure = Secure::shared();
    let settings = secure.settings("user=secret sslmode=require host=localhost");
    let owner = secure.cluster.settings("postgres");
    testing::run(
        &owner,
        "CREATE TABLE many AS SELECT repeat('x', 100) FROM generate_series(1, 50000);
         GRANT SELECT ON many TO secret",
    );
    let part = crate::TablePart {
        schema: "public".to_owned(),
        name: "many".to_owned(),
        columns: vec!["repeat".to_owned()],
        condition: None,
        order: Vec::new(),
        digest: None,
    };
    let mut connection = Connection::open(&settings, testing::runtime()).unwrap();
    let mut rows = crate::Rows::start(&mut connection, &part, &[1; 32]);
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(&mut rows, &mut bytes).unwrap();
    let digest = rows.finish().unwrap();
    assert_eq!((digest.rows, bytes.len()), (50_000, 50_000 * 101));

    let slow = crate::TablePart {
        condition: Some("WHERE pg_catalog.pg_sleep(600) IS NULL".to_owned()),
        ..part
    };
    let working = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
    let wait_for = |expected: &str| {
        let deadline = std::time::Instant::now() + Duration::from_secs(20);
        while testing::ask(&owner, working) != expected {
            assert!(
                std::time::Instant::now() < deadline,
                "{expected} were expected"
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    };
    let rows = crate::Rows::start(&mut connection, &slow, &[1; 32]);
    wait_for("1");
    drop(rows);
    wait_for("0");
}
