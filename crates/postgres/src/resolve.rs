//! libpq's rules, in one place: from a connection string, files and the environment to explicit [`Settings`].
//!
//! The string stands over the service file, that over the environment, that over the defaults; then come the
//! password file and the certificate files under `~/.postgresql`. No connection is opened. What cannot be honoured
//! exactly is refused with a sentence rather than taken differently by us and by the child programs.

use std::{
    ffi::OsString,
    net::IpAddr,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    time::Duration,
};

use zeroize::Zeroizing;

use crate::{
    account::Account,
    conninfo::{self, ConninfoError, KEYWORDS, Parameters},
    passfile,
    servicefile::{self, ServiceError},
    settings::{
        APPLICATION_NAME, CONNECT_TIMEOUT, ChannelBinding, Host, Keepalives, Settings, Via,
    },
    tls::{ClientIdentity, TlsMode, TlsPolicy},
};

const PORT: u16 = 5432;

/// The folders that distributions and upstream build in as the place of the server's socket.
const SOCKET_FOLDERS: [&str; 3] = ["/var/run/postgresql", "/run/postgresql", "/tmp"];

/// Where systems keep their trusted root certificates, as one PEM file.
const SYSTEM_ROOTS: [&str; 6] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
    "/usr/local/share/certs/ca-root-nss.crt",
];

/// Why a connection string, with its files and environment, gives no way to a server.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ResolveError {
    /// The connection string cannot be read.
    #[error("the PostgreSQL connection string cannot be used")]
    Text(#[source] ConninfoError),
    /// An environment variable cannot be used.
    #[error("the environment variable {variable} cannot be used")]
    Variable {
        /// Its name.
        variable: &'static str,
        /// What is wrong with it.
        #[source]
        source: ConninfoError,
    },
    /// An environment variable is no UTF-8 text.
    #[error("the environment variable {0} is not UTF-8 text")]
    VariableText(&'static str),
    /// The service file gives nothing.
    #[error("the PostgreSQL service cannot be used")]
    Service(#[source] ServiceError),
    /// A parameter's value is not one of those it may have.
    #[error("\"{value}\" is not a valid {keyword}: {wanted}")]
    Value {
        /// The parameter.
        keyword: &'static str,
        /// What was given.
        value: String,
        /// What is.
        wanted: &'static str,
    },
    /// More than one server is named.
    #[error("several hosts are given ({0}); name the one server that is to be backed up")]
    SeveralHosts(String),
    /// An abstract socket.
    #[error("the abstract socket \"{0}\" is not supported; name the folder of a socket file")]
    AbstractSocket(String),
    /// No role is named and the account has no name.
    #[error("no role is given, and the name of user id {0} is unknown")]
    NoUser(u32),
    /// `verify-ca` or `verify-full` without a root certificate.
    #[error("sslmode={mode} needs root certificates, and {} does not exist; set sslrootcert to a file or to \"system\"", missing.display())]
    NoRoots {
        /// The mode.
        mode: &'static str,
        /// The default file.
        missing: PathBuf,
    },
    /// `sslrootcert=system` on a system without them.
    #[error(
        "sslrootcert=system, but no file of trusted root certificates was found; install ca-certificates"
    )]
    NoSystemRoots,
    /// `sslrootcert=system` with a mode that would not use it fully.
    #[error("sslmode={0} is too weak for sslrootcert=system; use verify-full")]
    WeakWithSystemRoots(&'static str),
    /// `verify-full` with an address alone.
    #[error(
        "sslmode=verify-full needs a host name to compare with the certificate, and only hostaddr is given"
    )]
    NothingToVerify,
    /// The certificate is there and its key is not.
    #[error("the client certificate {} has no key beside it: {} does not exist", certificate.display(), key.display())]
    NoClientKey {
        /// The certificate.
        certificate: PathBuf,
        /// Where its key was looked for.
        key: PathBuf,
    },
    /// The key can be read by others; libpq refuses it.
    #[error("the client key {} can be read by others; chmod 600 it", path.display())]
    OpenClientKey {
        /// The key.
        path: PathBuf,
    },
    /// Nothing stands before the programs.
    #[error("no program is named by way of which PostgreSQL's programs are to be run")]
    NoWay,
    /// A password, which whoever runs the programs elsewhere cannot be handed but as an argument.
    #[error(
        "a password cannot be handed to programs that run where the server is; let the server trust them there, or give \
             them a password file there"
    )]
    PasswordBeyond,
    /// No database.
    #[error(
        "no database is named, and who runs the programs where the server is is not known here"
    )]
    NoDatabaseBeyond,
    /// A file that a parameter names cannot be used.
    #[error("cannot read {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
}

/// Where environment variables come from; `std::env::var_os` in the program, a table in tests.
pub type Environment<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// Resolves a URL, keyword string or database name as libpq would, into one explicit way to one server.
///
/// Reads the service file, the password file and the certificate files that libpq would read; opens no connection.
pub fn resolve(text: &str, environment: Environment<'_>) -> Result<Settings, ResolveError> {
    let mut parameters = conninfo::parse(text).map_err(ResolveError::Text)?;
    let account = Account::current();
    let home = non_empty(environment("HOME"))
        .map(PathBuf::from)
        .or_else(|| account.as_ref().map(|account| account.home.clone()));
    apply_service(&mut parameters, environment, home.as_deref())?;
    apply_environment(&mut parameters, environment)?;

    let mut warnings = Vec::new();
    let port = port(&parameters)?;
    let address = address(&parameters)?;
    let host = host(&parameters, address, port)?;
    let user = match given(&parameters, "user") {
        Some(user) => user.to_owned(),
        None => account
            .map(|account| account.name)
            .or_else(|| non_empty(environment("USER"))?.into_string().ok())
            .ok_or(ResolveError::NoUser(rustix::process::geteuid().as_raw()))?,
    };
    let database = given(&parameters, "dbname").unwrap_or(&user).to_owned();
    let password = match given(&parameters, "password") {
        Some(password) => Some(Zeroizing::new(password.to_owned())),
        None => {
            let sought = passfile::Sought {
                host: passfile_host(
                    &host,
                    given(&parameters, "host").is_none() && address.is_none(),
                ),
                port: &port.to_string(),
                database: &database,
                user: &user,
            };
            saved_password(&parameters, home.as_deref(), sought, &mut warnings)?
        }
    };
    let tls = tls_policy(
        &parameters,
        home.as_deref(),
        environment,
        &host,
        &mut warnings,
    )?;
    Ok(Settings {
        host,
        address,
        port,
        database,
        user,
        password,
        tls,
        channel_binding: channel_binding(&parameters)?,
        connect_timeout: connect_timeout(&parameters)?,
        keepalives: keepalives(&parameters)?,
        options: given(&parameters, "options").map(ToOwned::to_owned),
        application_name: given(&parameters, "application_name")
            .or_else(|| given(&parameters, "fallback_application_name"))
            .unwrap_or(APPLICATION_NAME)
            .to_owned(),
        warnings,
        via: None,
    })
}

/// The way that `text` says to who starts PostgreSQL's programs where the server is: `argv` stands before them, as in
/// `docker compose exec -T db`. What the text leaves out, they take from what is there.
///
/// # Errors
/// When the text cannot be read, names no database, or has a password, which would have to be an argument.
pub fn resolve_via(text: &str, argv: &[String]) -> Result<Settings, ResolveError> {
    let mut parameters = conninfo::parse(text).map_err(ResolveError::Text)?;
    if argv.is_empty() {
        return Err(ResolveError::NoWay);
    }
    if parameters.get("password").is_some() {
        return Err(ResolveError::PasswordBeyond);
    }
    let database = given(&parameters, "dbname")
        .ok_or(ResolveError::NoDatabaseBeyond)?
        .to_owned();
    let timeout = CONNECT_TIMEOUT.as_secs().to_string();
    for (name, value) in [
        ("application_name", APPLICATION_NAME.to_owned()),
        ("connect_timeout", timeout),
    ] {
        let value = Zeroizing::new(value);
        parameters
            .set_default(name, value)
            .map_err(ResolveError::Text)?;
    }
    let user = given(&parameters, "user").unwrap_or_default().to_owned();
    Ok(Settings {
        via: Some(Via {
            argv: argv.to_vec(),
            conninfo: parameters.keywords().trim_end().to_owned(),
        }),
        connect_timeout: connect_timeout(&parameters)?,
        // No connection of our own is made by what this has.
        ..Settings::over_socket(Path::new(""), PORT, &user, &database)
    })
}

/// The way that `text` says, but to another database, as a keyword string that [`resolve`] reads.
///
/// `settings` are what `text` was resolved to: their password comes along, since a password file may have it for the
/// first database only.
///
/// # Errors
/// When the text cannot be read.
pub fn to_database(
    text: &str,
    settings: &Settings,
    database: &str,
) -> Result<Zeroizing<String>, ResolveError> {
    let mut parameters = conninfo::parse(text).map_err(ResolveError::Text)?;
    let database = Zeroizing::new(database.to_owned());
    let password = settings.password.clone();
    for (name, value) in [("dbname", Some(database)), ("password", password)] {
        if let Some(value) = value {
            parameters.set(name, value).map_err(ResolveError::Text)?;
        }
    }
    Ok(parameters.keywords())
}

fn non_empty(value: Option<OsString>) -> Option<OsString> {
    value.filter(|value| !value.is_empty())
}

/// The value of a parameter; an empty one counts as not given.
fn given<'a>(parameters: &'a Parameters, name: &str) -> Option<&'a str> {
    parameters.get(name).filter(|value| !value.is_empty())
}

fn apply_service(
    parameters: &mut Parameters,
    environment: Environment<'_>,
    home: Option<&Path>,
) -> Result<(), ResolveError> {
    let from_environment = |variable| {
        non_empty(environment(variable))
            .map(|value| {
                value
                    .into_string()
                    .map_err(|_| ResolveError::VariableText(variable))
            })
            .transpose()
    };
    let name = match parameters.get("service") {
        Some(name) => Some(name.to_owned()),
        None => from_environment("PGSERVICE")?,
    };
    let Some(name) = name.filter(|name| !name.is_empty()) else {
        return Ok(());
    };
    let user_file = match given(parameters, "servicefile") {
        Some(file) => Some(PathBuf::from(file)),
        None => non_empty(environment("PGSERVICEFILE")).map(PathBuf::from),
    };
    let system_folder = non_empty(environment("PGSYSCONFDIR")).map(PathBuf::from);
    let places = servicefile::places(user_file, home, system_folder);
    servicefile::apply(&name, places, parameters).map_err(ResolveError::Service)
}

fn apply_environment(
    parameters: &mut Parameters,
    environment: Environment<'_>,
) -> Result<(), ResolveError> {
    for keyword in KEYWORDS {
        let Some(variable) = keyword.variable else {
            continue;
        };
        let Some(value) = environment(variable) else {
            continue;
        };
        let value = value
            .into_string()
            .map_err(|_| ResolveError::VariableText(variable))?;
        parameters
            .set_default(keyword.name, Zeroizing::new(value))
            .map_err(|source| ResolveError::Variable { variable, source })?;
    }
    Ok(())
}

fn port(parameters: &Parameters) -> Result<u16, ResolveError> {
    let Some(text) = given(parameters, "port") else {
        return Ok(PORT);
    };
    if text.contains(',') {
        let hosts = given(parameters, "host").unwrap_or(text);
        return Err(ResolveError::SeveralHosts(hosts.to_owned()));
    }
    match text.trim().parse() {
        Ok(port) if port != 0 => Ok(port),
        _ => Err(ResolveError::Value {
            keyword: "port",
            value: text.to_owned(),
            wanted: "one number from 1 to 65535",
        }),
    }
}

fn address(parameters: &Parameters) -> Result<Option<IpAddr>, ResolveError> {
    let Some(text) = given(parameters, "hostaddr") else {
        return Ok(None);
    };
    if text.contains(',') {
        return Err(ResolveError::SeveralHosts(text.to_owned()));
    }
    text.parse().map(Some).map_err(|_| ResolveError::Value {
        keyword: "hostaddr",
        value: text.to_owned(),
        wanted: "one IPv4 or IPv6 address",
    })
}

fn host(parameters: &Parameters, address: Option<IpAddr>, port: u16) -> Result<Host, ResolveError> {
    match (given(parameters, "host"), address) {
        (Some(text), _) if text.contains(',') => Err(ResolveError::SeveralHosts(text.to_owned())),
        (Some(text), _) if text.starts_with('@') => {
            Err(ResolveError::AbstractSocket(text.to_owned()))
        }
        (Some(text), None) if text.starts_with('/') => Ok(Host::Socket(PathBuf::from(text))),
        (Some(text), _) => Ok(Host::Tcp(text.to_owned())),
        (None, Some(address)) => Ok(Host::Tcp(address.to_string())),
        (None, None) => {
            let socket = format!(".s.PGSQL.{port}");
            let folder = SOCKET_FOLDERS
                .into_iter()
                .find(|folder| Path::new(folder).join(&socket).exists())
                .unwrap_or(SOCKET_FOLDERS[0]);
            Ok(Host::Socket(PathBuf::from(folder)))
        }
    }
}

/// The name under which the password file knows a host: the default socket folder is `localhost` there.
fn passfile_host(host: &Host, by_default: bool) -> &str {
    match host {
        Host::Tcp(name) => name,
        Host::Socket(folder) => {
            let folder = folder.to_str().unwrap_or_default();
            if by_default || folder == SOCKET_FOLDERS[0] {
                "localhost"
            } else {
                folder
            }
        }
    }
}

fn saved_password(
    parameters: &Parameters,
    home: Option<&Path>,
    sought: passfile::Sought<'_>,
    warnings: &mut Vec<String>,
) -> Result<Option<Zeroizing<String>>, ResolveError> {
    let named = given(parameters, "passfile").map(PathBuf::from);
    let Some(path) = named
        .clone()
        .or_else(|| home.map(|home| home.join(".pgpass")))
    else {
        return Ok(None);
    };
    match passfile::look_up(&path, sought) {
        Ok(passfile::Found::Password(password)) => Ok(Some(password)),
        Ok(passfile::Found::Nothing) => Ok(None),
        Ok(passfile::Found::Unused(sentence)) => {
            warnings.push(sentence);
            Ok(None)
        }
        Err(source) if named.is_some() => Err(ResolveError::File { path, source }),
        // Nobody asked for this one; a home that is another account's, or none at all, is no reason to stop.
        Err(error) => {
            warnings.push(format!(
                "The password file {} cannot be read ({error}), so it is not used.",
                path.display()
            ));
            Ok(None)
        }
    }
}

fn tls_policy(
    parameters: &Parameters,
    home: Option<&Path>,
    environment: Environment<'_>,
    host: &Host,
    warnings: &mut Vec<String>,
) -> Result<TlsPolicy, ResolveError> {
    let system = given(parameters, "sslrootcert") == Some("system");
    let mode = match given(parameters, "sslmode") {
        None if system => TlsMode::VerifyFull,
        None => TlsMode::Prefer,
        Some(word) => TlsMode::from_word(word).ok_or_else(|| ResolveError::Value {
            keyword: "sslmode",
            value: word.to_owned(),
            wanted: "disable, allow, prefer, require, verify-ca or verify-full",
        })?,
    };
    let Host::Tcp(name) = host else {
        // libpq does not encrypt sockets, whatever the mode.
        return Ok(TlsPolicy::plain());
    };
    if mode == TlsMode::Disable {
        return Ok(TlsPolicy::plain());
    }
    if system && mode != TlsMode::VerifyFull {
        return Err(ResolveError::WeakWithSystemRoots(mode.word()));
    }
    if mode == TlsMode::VerifyFull && given(parameters, "host").is_none() {
        return Err(ResolveError::NothingToVerify);
    }
    let user_folder = home.map(|home| home.join(".postgresql"));
    let roots = if system {
        Some(system_roots(environment)?)
    } else {
        chosen_file(
            parameters,
            "sslrootcert",
            user_folder.as_deref(),
            "root.crt",
        )?
    };
    if roots.is_none() && mode.verifies() {
        return Err(ResolveError::NoRoots {
            mode: mode.word(),
            missing: user_folder.unwrap_or_default().join("root.crt"),
        });
    }
    if !mode.verifies() && roots.is_none() && !is_loopback(name) {
        warnings.push(format!(
            "The connection to {name} is not verified (sslmode={}): whoever controls the network can read and change \
             it; use sslmode=verify-full.",
            mode.word()
        ));
    }
    Ok(TlsPolicy {
        mode,
        revocations: match roots {
            Some(_) => chosen_file(parameters, "sslcrl", user_folder.as_deref(), "root.crl")?,
            None => None,
        },
        roots,
        identity: client_identity(parameters, user_folder.as_deref())?,
    })
}

/// The one file that holds the system's roots. libpq's own word for them, `system`, is unknown to clients before 16,
/// so everybody gets the file's path.
fn system_roots(environment: Environment<'_>) -> Result<PathBuf, ResolveError> {
    non_empty(environment("SSL_CERT_FILE"))
        .map(PathBuf::from)
        .into_iter()
        .chain(SYSTEM_ROOTS.map(PathBuf::from))
        .filter_map(|path| std::path::absolute(path).ok())
        .find(|path| path.is_file())
        .ok_or(ResolveError::NoSystemRoots)
}

/// The file a parameter names, which must be there, or else the default file if it is there.
fn chosen_file(
    parameters: &Parameters,
    keyword: &str,
    user_folder: Option<&Path>,
    default_name: &str,
) -> Result<Option<PathBuf>, ResolveError> {
    match given(parameters, keyword) {
        Some(path) => {
            let path = PathBuf::from(path);
            // Child programs run in another folder, where a relative path leads elsewhere.
            match std::path::absolute(&path).and_then(|path| path.metadata().map(|_| path)) {
                Ok(path) => Ok(Some(path)),
                Err(source) => Err(ResolveError::File { path, source }),
            }
        }
        None => Ok(user_folder
            .map(|folder| folder.join(default_name))
            .filter(|path| path.exists())),
    }
}

fn client_identity(
    parameters: &Parameters,
    user_folder: Option<&Path>,
) -> Result<Option<ClientIdentity>, ResolveError> {
    let Some(certificate) = chosen_file(parameters, "sslcert", user_folder, "postgresql.crt")?
    else {
        return Ok(None);
    };
    let Some(key) = chosen_file(parameters, "sslkey", user_folder, "postgresql.key")? else {
        return Err(ResolveError::NoClientKey {
            certificate,
            key: user_folder.unwrap_or(Path::new("")).join("postgresql.key"),
        });
    };
    let metadata = std::fs::metadata(&key).map_err(|source| ResolveError::File {
        path: key.clone(),
        source,
    })?;
    // libpq's rule: others nothing; the group may read a key that belongs to root.
    let forbidden = if metadata.uid() == 0 { 0o037 } else { 0o077 };
    if metadata.permissions().mode() & forbidden != 0 {
        return Err(ResolveError::OpenClientKey { path: key });
    }
    Ok(Some(ClientIdentity { certificate, key }))
}

fn is_loopback(name: &str) -> bool {
    name == "localhost"
        || name
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

fn channel_binding(parameters: &Parameters) -> Result<ChannelBinding, ResolveError> {
    match given(parameters, "channel_binding") {
        None | Some("prefer") => Ok(ChannelBinding::Prefer),
        Some("disable") => Ok(ChannelBinding::Disable),
        Some("require") => Ok(ChannelBinding::Require),
        Some(other) => Err(ResolveError::Value {
            keyword: "channel_binding",
            value: other.to_owned(),
            wanted: "disable, prefer or require",
        }),
    }
}

fn connect_timeout(parameters: &Parameters) -> Result<Duration, ResolveError> {
    match number(parameters, "connect_timeout")? {
        None => Ok(CONNECT_TIMEOUT),
        // libpq's word for waiting as long as the system does; a day stands for it in both worlds.
        Some(0) => Ok(Duration::from_secs(86_400)),
        // libpq waits two seconds at least.
        Some(seconds) => Ok(Duration::from_secs(seconds.max(2).into())),
    }
}

fn keepalives(parameters: &Parameters) -> Result<Keepalives, ResolveError> {
    let standard = Keepalives::default();
    let seconds = |keyword, standard| {
        number(parameters, keyword).map(|given| match given {
            None | Some(0) => standard,
            Some(seconds) => Duration::from_secs(seconds.into()),
        })
    };
    Ok(Keepalives {
        enabled: number(parameters, "keepalives")? != Some(0),
        idle: seconds("keepalives_idle", standard.idle)?,
        interval: seconds("keepalives_interval", standard.interval)?,
        count: match number(parameters, "keepalives_count")? {
            None | Some(0) => standard.count,
            Some(count) => count,
        },
        user_timeout: number(parameters, "tcp_user_timeout")?
            .filter(|millis| *millis != 0)
            .map(|millis| Duration::from_millis(millis.into())),
    })
}

fn number(parameters: &Parameters, keyword: &'static str) -> Result<Option<u32>, ResolveError> {
    given(parameters, keyword)
        .map(|text| {
            text.trim().parse().map_err(|_| ResolveError::Value {
                keyword,
                value: text.to_owned(),
                wanted: "a number, 0 or more",
            })
        })
        .transpose()
}

#[cfg(test)]
mod tests;
