//! One session with a server: connected as the settings say, set up as `pg_dump` sets up its own.
//!
//! The crate's public calls are synchronous; a [`Connection`] carries the runtime's handle and blocks on it, so it
//! must not be used from a thread that drives the runtime. Everything is asked by the simple query protocol: results
//! are text, nothing is prepared, and a statement that must not take a snapshot takes none.

use std::{
    error::Error,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    runtime::Handle,
};
use tokio_postgres::{
    CancelToken, NoTls, SimpleQueryMessage, config,
    error::SqlState,
    tls::{MakeTlsConnect, TlsConnect},
};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::{
    settings::{ChannelBinding, Host, Settings},
    socket::{self, Socket},
    tls::{self, TlsError, TlsMode},
    wire::{Encrypted, Tap, Wire},
};

/// What `pg_dump` sets in its own session, and why:
/// names mean what the catalog says (`search_path`), values come out the same everywhere (`DateStyle`,
/// `IntervalStyle`, `extra_float_digits`), row-level security is an error rather than a silent filter
/// (`row_security`), and no limit that an administrator set for the app ends a long read.
/// What it leaves as it is, and is set here so that equal rows are equal text in every database: `TimeZone`,
/// `bytea_output`, `quote_all_identifiers`, `lc_monetary`: in another locale the text of an amount is another amount.
/// The last two exist only in newer versions; the second keeps an owner from having his view's code run by us.
pub(crate) const SESSION: [&str; 16] = [
    "SET search_path = ''",
    "SET standard_conforming_strings = on",
    "SET client_encoding = 'UTF8'",
    "SET DateStyle = ISO",
    "SET IntervalStyle = postgres",
    "SET TimeZone = 'UTC'",
    "SET bytea_output = hex",
    "SET quote_all_identifiers = off",
    "SET extra_float_digits = 3",
    "SET lc_monetary = 'C'",
    "SET synchronize_seqscans = off",
    "SET statement_timeout = 0",
    "SET lock_timeout = 0",
    "SET idle_in_transaction_session_timeout = 0",
    "SET row_security = off",
    "SELECT pg_catalog.set_config(name, CASE name WHEN 'transaction_timeout' THEN '0' ELSE 'view, foreign-table' END, false)
       FROM pg_catalog.pg_settings WHERE name IN ('transaction_timeout', 'restrict_nonsystem_relation_kind')",
];

/// How soon the wish to stop is noticed.
const SLICE: Duration = Duration::from_millis(50);

/// How long a server may take to end what it was asked to end.
const GRACE: Duration = Duration::from_secs(5);

/// A row of a simple query: every value as text, `None` for NULL.
pub(crate) type Row = Vec<Option<String>>;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The files of the TLS policy cannot be used.
    #[error("cannot connect to {target}")]
    Tls {
        /// The server, without the password.
        target: String,
        /// What is wrong with them.
        #[source]
        source: TlsError,
    },
    /// The server was not reached, or what answered is not the server that was asked for.
    #[error("cannot connect to {target}")]
    Unreachable {
        /// The server, without the password.
        target: String,
        /// What was met.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// Nobody answered in time.
    #[error("cannot connect to {target}: no answer within {} s", timeout.as_secs())]
    Timeout {
        /// The server, without the password.
        target: String,
        /// How long was waited.
        timeout: Duration,
    },
    /// The server wants a password and none is at hand.
    #[error(
        "{target} wants a password, and neither the connection string, PGPASSWORD nor the password file has one"
    )]
    NoPassword {
        /// The server, without the password.
        target: String,
    },
    /// The server refused us.
    #[error("{target} refused the connection")]
    Refused {
        /// The server, without the password.
        target: String,
        /// The server's words.
        #[source]
        source: QueryError,
    },
}

/// A statement that failed, in the server's words.
#[derive(Clone, Debug, thiserror::Error)]
#[error("cannot {what}: {message}")]
#[non_exhaustive]
pub struct QueryError {
    /// What it was to do: "read the list of tables".
    pub what: String,
    /// The server's message, or what became of the connection.
    pub message: String,
    /// The five letters of the SQL standard, when the server answered.
    pub sqlstate: Option<String>,
}

impl QueryError {
    pub(crate) fn new(what: impl Into<String>, error: &tokio_postgres::Error) -> Self {
        let message = match error.as_db_error() {
            Some(answer) => {
                let mut message = answer.message().to_owned();
                for more in [answer.detail(), answer.hint()].into_iter().flatten() {
                    message.push_str("; ");
                    message.push_str(more);
                }
                message
            }
            None => match error.source() {
                Some(source) => format!("{error}: {source}"),
                None => error.to_string(),
            },
        };
        Self {
            what: what.into(),
            message,
            sqlstate: error.code().map(|state| state.code().to_owned()),
        }
    }

    /// An answer of a shape that no PostgreSQL gives.
    pub(crate) fn shape(what: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            message: "the server's answer has an unexpected form".to_owned(),
            sqlstate: None,
        }
    }

    pub(crate) fn is(&self, state: &SqlState) -> bool {
        self.sqlstate.as_deref() == Some(state.code())
    }
}

/// A live session.
///
/// Dropping it closes the session; the server then rolls back what was open.
pub struct Connection {
    client: Arc<tokio_postgres::Client>,
    handle: Handle,
    settings: Settings,
    tap: Tap,
    /// The database's own, as the server calls it.
    encoding: String,
}

impl Connection {
    /// Connects and sets the session up. `handle` belongs to a multi-threaded runtime with I/O and time enabled.
    pub fn open(settings: &Settings, handle: &Handle) -> Result<Self, ConnectError> {
        let opened = handle.block_on(async {
            tokio::time::timeout(settings.connect_timeout, connect(settings))
                .await
                .unwrap_or_else(|_| {
                    Err(ConnectError::Timeout {
                        target: settings.display(),
                        timeout: settings.connect_timeout,
                    })
                })
        })?;
        let connection = Self {
            client: Arc::new(opened.client),
            handle: handle.clone(),
            settings: opened.settled,
            tap: opened.tap,
            encoding: opened.encoding,
        };
        connection
            .execute("set up the session", &SESSION.join(";"))
            .map_err(|source| ConnectError::Refused {
                target: settings.display(),
                source,
            })?;
        Ok(connection)
    }

    /// The settings as they were settled: `allow` and `prefer` have become `disable` or `require`, so that whoever
    /// connects next by them connects in the same way.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The server's major version.
    ///
    /// # Errors
    /// When the server does not answer.
    pub fn server_major(&self) -> Result<u32, QueryError> {
        const WHAT: &str = "ask for the server's version";
        let row = self.row(
            WHAT,
            "SELECT current_setting('server_version_num')::int4 / 10000",
        )?;
        row.first()
            .and_then(|major| major.as_deref()?.parse().ok())
            .ok_or_else(|| QueryError::shape(WHAT))
    }

    pub(crate) fn client(&self) -> &Arc<tokio_postgres::Client> {
        &self.client
    }

    pub(crate) fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Where rows are led aside.
    pub(crate) fn tap(&self) -> &Tap {
        &self.tap
    }

    /// The name of the database's encoding.
    pub(crate) fn encoding(&self) -> &str {
        &self.encoding
    }

    /// Asks the server, over a connection of its own, to end what this session is doing. Nobody waits for it: that the
    /// session is closed ends it too, only later.
    pub(crate) fn cancel(&self) {
        self.handle
            .spawn(cancel(self.client.cancel_token(), self.settings.clone()));
    }

    /// As [`execute`](Self::execute), but asks the server to end it when `stop` is set meanwhile.
    pub(crate) fn execute_unless(
        &self,
        what: &str,
        sql: &str,
        stop: &AtomicBool,
    ) -> Result<(), QueryError> {
        let answer = self.handle.block_on(async {
            let mut answer = pin!(self.client.batch_execute(sql));
            loop {
                if let Ok(answer) = tokio::time::timeout(SLICE, answer.as_mut()).await {
                    return Some(answer);
                }
                if stop.load(Ordering::Relaxed) {
                    let cancelled = cancel(self.client.cancel_token(), self.settings.clone());
                    let _ = tokio::time::timeout(GRACE, cancelled).await;
                    return tokio::time::timeout(GRACE, answer).await.ok();
                }
            }
        });
        match answer {
            Some(answer) => answer.map_err(|error| QueryError::new(what, &error)),
            None => Err(QueryError {
                what: what.to_owned(),
                message: "the server does not end it when asked to".to_owned(),
                sqlstate: None,
            }),
        }
    }

    /// Runs statements without a result. `what` completes "cannot …".
    pub(crate) fn execute(&self, what: &str, sql: &str) -> Result<(), QueryError> {
        self.handle
            .block_on(self.client.batch_execute(sql))
            .map_err(|error| QueryError::new(what, &error))
    }

    /// All rows of a query. `what` completes "cannot …".
    ///
    /// # Errors
    /// When the server refuses it or does not answer.
    pub fn rows(&self, what: &str, sql: &str) -> Result<Vec<Row>, QueryError> {
        let messages = self
            .handle
            .block_on(self.client.simple_query(sql))
            .map_err(|error| QueryError::new(what, &error))?;
        Ok(rows_among(messages))
    }

    /// The one row of a query that has exactly one.
    pub(crate) fn row(&self, what: &str, sql: &str) -> Result<Row, QueryError> {
        only(what, self.rows(what, sql)?)
    }
}

/// The rows among what a server sent.
pub(crate) fn rows_among(messages: Vec<SimpleQueryMessage>) -> Vec<Row> {
    messages
        .into_iter()
        .filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(
                (0..row.len())
                    .map(|column| row.get(column).map(ToOwned::to_owned))
                    .collect(),
            ),
            _ => None,
        })
        .collect()
}

/// The one row of those that `what` gave.
pub(crate) fn only(what: &str, mut rows: Vec<Row>) -> Result<Row, QueryError> {
    match (rows.pop(), rows.is_empty()) {
        (Some(row), true) => Ok(row),
        _ => Err(QueryError::shape(what)),
    }
}

/// Asks the server to end what a session is doing; when that cannot be said, the session's end says it.
async fn cancel(token: CancelToken, settings: Settings) {
    let Ok(socket) = socket::open(&settings).await else {
        return;
    };
    let _ = if settings.tls.mode == TlsMode::Disable {
        token.cancel_query_raw(socket, NoTls).await
    } else {
        match connector(&settings) {
            Ok(tls) => token.cancel_query_raw(socket, tls).await,
            Err(_) => return,
        }
    };
}

/// One way of connecting that the mode allows.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Attempt {
    Plain,
    Encrypted,
}

fn attempts(mode: TlsMode) -> &'static [Attempt] {
    match mode {
        TlsMode::Disable => &[Attempt::Plain],
        TlsMode::Allow => &[Attempt::Plain, Attempt::Encrypted],
        TlsMode::Prefer => &[Attempt::Encrypted, Attempt::Plain],
        TlsMode::Require | TlsMode::VerifyCa | TlsMode::VerifyFull => &[Attempt::Encrypted],
    }
}

/// Whether the other way may work where this one did not: the server does not speak TLS or shows a certificate we
/// refuse, or its `pg_hba.conf` has no line for this way. A wrong password is not sent again.
fn worth_another_way(error: &tokio_postgres::Error) -> bool {
    match error.code() {
        Some(state) => *state == SqlState::INVALID_AUTHORIZATION_SPECIFICATION,
        None => !is_missing_password(error),
    }
}

/// tokio-postgres has no kind for this; the text of its source is all there is.
fn is_missing_password(error: &tokio_postgres::Error) -> bool {
    error
        .source()
        .is_some_and(|source| source.to_string() == "password missing")
}

/// A session that has logged in.
struct Opened {
    client: tokio_postgres::Client,
    settled: Settings,
    tap: Tap,
    encoding: String,
}

type RustlsConnect = <MakeRustlsConnect as MakeTlsConnect<Socket>>::TlsConnect;

/// What encrypts one connection.
fn connector(settings: &Settings) -> Result<RustlsConnect, Box<dyn Error + Send + Sync>> {
    let name = match &settings.host {
        Host::Tcp(name) => name,
        // A socket is never encrypted, and has no name that a certificate could hold.
        Host::Socket(_) => "",
    };
    let config = tls::client_config(&settings.tls)?;
    Ok(MakeTlsConnect::<Socket>::make_tls_connect(
        &mut MakeRustlsConnect::new(config),
        name,
    )?)
}

async fn connect(settings: &Settings) -> Result<Opened, ConnectError> {
    let target = settings.display();
    // A policy that cannot be used is an error even where no attempt would use it.
    tls::client_config(&settings.tls).map_err(|source| ConnectError::Tls {
        target: target.clone(),
        source,
    })?;
    let ways = attempts(settings.tls.mode);
    for (at, attempt) in ways.iter().enumerate() {
        let unreachable = |source| ConnectError::Unreachable {
            target: target.clone(),
            source,
        };
        let socket = socket::open(settings)
            .await
            .map_err(|source| unreachable(source.into()))?;
        let mut settled = settings.clone();
        let tap = Tap::default();
        let logged_in = match attempt {
            Attempt::Plain => {
                settled.tls.mode = TlsMode::Disable;
                log_in(
                    &client_settings(settings, config::SslMode::Disable),
                    Wire::lending(socket, tap.clone(), Socket::LENDING),
                    NoTls,
                )
                .await
            }
            Attempt::Encrypted => {
                if !settled.tls.mode.verifies() {
                    settled.tls.mode = TlsMode::Require;
                }
                let inner = connector(settings).map_err(unreachable)?;
                let tls = Encrypted {
                    inner,
                    tap: tap.clone(),
                };
                log_in(
                    &client_settings(settings, config::SslMode::Require),
                    socket,
                    tls,
                )
                .await
            }
        };
        match logged_in {
            Ok((client, encoding)) => {
                return Ok(Opened {
                    client,
                    settled,
                    tap,
                    encoding,
                });
            }
            Err(error) if at + 1 < ways.len() && worth_another_way(&error) => {}
            Err(error) => return Err(describe(target, error)),
        }
    }
    unreachable!("the last attempt returns")
}

/// Logs in over `stream`; gives the session and the name of the database's encoding.
async fn log_in<S, T>(
    config: &tokio_postgres::Config,
    stream: S,
    tls: T,
) -> Result<(tokio_postgres::Client, String), tokio_postgres::Error>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    T: TlsConnect<S>,
    T::Stream: Send + 'static,
{
    let (client, driver) = config.connect_raw(stream, tls).await?;
    let encoding = driver.parameter("server_encoding").unwrap_or_default();
    let encoding = encoding.to_owned();
    // The driver ends by itself when the client is dropped or the server goes; what ended it is seen by the next query.
    tokio::spawn(driver);
    Ok((client, encoding))
}

fn describe(target: String, error: tokio_postgres::Error) -> ConnectError {
    if is_missing_password(&error) {
        return ConnectError::NoPassword { target };
    }
    if error.as_db_error().is_some() {
        let source = QueryError::new("log in", &error);
        return ConnectError::Refused { target, source };
    }
    ConnectError::Unreachable {
        target,
        source: Box::new(error),
    }
}

fn client_settings(settings: &Settings, mode: config::SslMode) -> tokio_postgres::Config {
    let mut client = tokio_postgres::Config::new();
    if let Some(password) = &settings.password {
        client.password(password.as_bytes());
    }
    if let Some(options) = &settings.options {
        client.options(options);
    }
    client
        .user(&settings.user)
        .dbname(&settings.database)
        .application_name(&settings.application_name)
        .ssl_mode(mode)
        .channel_binding(match settings.channel_binding {
            ChannelBinding::Disable => config::ChannelBinding::Disable,
            ChannelBinding::Prefer => config::ChannelBinding::Prefer,
            ChannelBinding::Require => config::ChannelBinding::Require,
        });
    client
}

#[cfg(test)]
mod tests;
