//! One explicit answer to "which server, as whom, how protected".
//!
//! Nothing is left to a default of whoever connects: our own connections use the settings as they are, and the child
//! programs get them as `PG*` variables in an otherwise empty environment, so that both reach the same server on the
//! same terms.
//!
//! Invariant: the password is in no text that this module makes except the value of `PGPASSWORD`.

use std::{
    ffi::OsString,
    fmt,
    net::IpAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use zeroize::Zeroizing;

use crate::{quote, tls::TlsPolicy};

/// What the server sees as the name of the program.
pub(crate) const APPLICATION_NAME: &str = "lifeboat";
/// libpq waits for ever by default; a backup at night must not.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

/// Where the server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    /// The folder of its Unix socket, an absolute path.
    Socket(PathBuf),
    /// A host name, or an address in text.
    Tcp(String),
}

impl fmt::Display for Host {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(folder) => folder.display().fmt(formatter),
            Self::Tcp(name) if name.contains(':') => write!(formatter, "[{name}]"),
            Self::Tcp(name) => formatter.write_str(name),
        }
    }
}

/// Whether SCRAM is bound to the TLS channel; libpq's `channel_binding`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ChannelBinding {
    Disable,
    Prefer,
    Require,
}

/// How soon a connection without a word is found to be dead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Keepalives {
    pub(crate) enabled: bool,
    pub(crate) idle: Duration,
    pub(crate) interval: Duration,
    pub(crate) count: u32,
    pub(crate) user_timeout: Option<Duration>,
}

impl Default for Keepalives {
    /// A dead server is noticed after two minutes; the system's own default is two hours.
    fn default() -> Self {
        Self {
            enabled: true,
            idle: Duration::from_secs(60),
            interval: Duration::from_secs(15),
            count: 4,
            user_timeout: None,
        }
    }
}

/// A resolved way to one database.
#[derive(Clone)]
pub struct Settings {
    pub(crate) host: Host,
    pub(crate) address: Option<IpAddr>,
    pub(crate) port: u16,
    pub(crate) database: String,
    pub(crate) user: String,
    pub(crate) password: Option<Zeroizing<String>>,
    pub(crate) tls: TlsPolicy,
    pub(crate) channel_binding: ChannelBinding,
    pub(crate) connect_timeout: Duration,
    pub(crate) keepalives: Keepalives,
    pub(crate) options: Option<String>,
    pub(crate) application_name: String,
    pub(crate) warnings: Vec<String>,
    /// Where no connection of our own goes.
    pub(crate) via: Option<Via>,
}

/// A way by which PostgreSQL's programs run where the server is.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Via {
    /// The program and arguments before theirs; never empty.
    pub(crate) argv: Vec<String>,
    /// The keyword string that leads them to the database from there. It holds no secret.
    pub(crate) conninfo: String,
}

impl Settings {
    /// The way to `database` through the socket in `folder`, for servers that we started ourselves.
    pub(crate) fn over_socket(folder: &Path, port: u16, user: &str, database: &str) -> Self {
        Self {
            host: Host::Socket(folder.to_owned()),
            address: None,
            port,
            database: database.to_owned(),
            user: user.to_owned(),
            password: None,
            tls: TlsPolicy::plain(),
            channel_binding: ChannelBinding::Prefer,
            connect_timeout: CONNECT_TIMEOUT,
            keepalives: Keepalives::default(),
            options: None,
            application_name: APPLICATION_NAME.to_owned(),
            warnings: Vec::new(),
            via: None,
        }
    }

    /// Where the server listens.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// The server's port; with a socket, the number in its file name.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The database's name.
    pub fn database(&self) -> &str {
        &self.database
    }

    /// The role's name.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// How the connection is protected.
    pub fn tls(&self) -> &TlsPolicy {
        &self.tls
    }

    /// Sentences about what was passed over or is weak: a password file with open modes, an unverified connection.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// The same server and role, another database.
    pub fn with_database(&self, database: &str) -> Self {
        let via = self.via.as_ref().map(|Via { argv, conninfo }| Via {
            argv: argv.clone(),
            // Of a keyword that stands twice the last one counts.
            conninfo: format!("{conninfo} dbname={}", quote::conninfo(database)),
        });
        Self {
            database: database.to_owned(),
            via,
            ..self.clone()
        }
    }

    /// Whether PostgreSQL's programs run where the server is, and no connection of our own goes there.
    pub fn is_beyond(&self) -> bool {
        self.via.is_some()
    }

    /// The same way with this password.
    pub fn with_password(&self, password: Zeroizing<String>) -> Self {
        Self {
            password: Some(password),
            ..self.clone()
        }
    }

    /// The same with a setting for its sessions, `name=value`, which counts where another one was given.
    pub(crate) fn with_option(&self, option: &str) -> Self {
        let given = self.options.as_deref().unwrap_or_default();
        Self {
            options: Some(format!("{given} -c {option}").trim().to_owned()),
            ..self.clone()
        }
    }

    /// The way in one line for people, without the password: `ann@db.internal:5432/shop`,
    /// or `shop by way of docker`.
    pub fn display(&self) -> String {
        if let Some(Via { argv, .. }) = &self.via {
            return format!("{} by way of {}", self.database, argv[0]);
        }
        format!(
            "{}@{}:{}/{}",
            self.user, self.host, self.port, self.database
        )
    }

    /// The variables that make libpq connect as these settings say.
    ///
    /// They are complete only in an environment that holds no other `PG*` variable and whose `HOME` has no libpq
    /// files.
    pub fn environment(&self) -> Vec<(&'static str, OsString)> {
        let host = match &self.host {
            Host::Socket(folder) => folder.clone().into_os_string(),
            Host::Tcp(name) => name.into(),
        };
        let binding = match self.channel_binding {
            ChannelBinding::Disable => "disable",
            ChannelBinding::Prefer => "prefer",
            ChannelBinding::Require => "require",
        };
        let mut variables: Vec<(&'static str, OsString)> = vec![
            ("PGHOST", host),
            ("PGPORT", self.port.to_string().into()),
            ("PGDATABASE", (&self.database).into()),
            ("PGUSER", (&self.user).into()),
            ("PGSSLMODE", self.tls.mode.word().into()),
            ("PGGSSENCMODE", "disable".into()),
            ("PGCHANNELBINDING", binding.into()),
            (
                "PGCONNECT_TIMEOUT",
                self.connect_timeout.as_secs().to_string().into(),
            ),
            ("PGAPPNAME", (&self.application_name).into()),
        ];
        let mut add = |name, value: Option<OsString>| {
            variables.extend(value.map(|value| (name, value)));
        };
        add(
            "PGHOSTADDR",
            self.address.map(|address| address.to_string().into()),
        );
        add(
            "PGPASSWORD",
            self.password
                .as_ref()
                .map(|password| password.as_str().into()),
        );
        add("PGOPTIONS", self.options.as_ref().map(Into::into));
        add("PGSSLROOTCERT", self.tls.roots.clone().map(Into::into));
        add("PGSSLCRL", self.tls.revocations.clone().map(Into::into));
        let identity = self.tls.identity.as_ref();
        add(
            "PGSSLCERT",
            identity.map(|identity| identity.certificate.clone().into()),
        );
        add(
            "PGSSLKEY",
            identity.map(|identity| identity.key.clone().into()),
        );
        variables
    }

    /// A keyword string for `--dbname` with the database and what libpq takes from no variable. It holds no secret.
    pub(crate) fn conninfo(&self) -> String {
        if let Some(Via { conninfo, .. }) = &self.via {
            return conninfo.clone();
        }
        let mut text = format!("dbname={}", quote::conninfo(&self.database));
        if matches!(self.host, Host::Tcp(_)) {
            let keepalives = &self.keepalives;
            text.push_str(&format!(
                " keepalives={} keepalives_idle={} keepalives_interval={} keepalives_count={}",
                u8::from(keepalives.enabled),
                keepalives.idle.as_secs(),
                keepalives.interval.as_secs(),
                keepalives.count
            ));
            if let Some(timeout) = keepalives.user_timeout {
                text.push_str(&format!(" tcp_user_timeout={}", timeout.as_millis()));
            }
        }
        text
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Settings")
            .field("way", &self.display())
            .field("tls", &self.tls)
            .finish_non_exhaustive()
    }
}
