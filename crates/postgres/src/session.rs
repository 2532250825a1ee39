//! A session that is given up as soon as the work is to stop.
//!
//! A [`Connection`] waits for its answer as long as the server takes. Here each wait looks now and then whether it
//! should go on, so that neither a lock nor a slow constraint nor a server without a word holds up whoever pressed
//! Ctrl-C. Giving up leaves the session unusable; that its statement ends at the server too is the caller's business,
//! who drops the database around it, or the session.

use std::{
    io::{self, Cursor, Write},
    pin::Pin,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use futures_util::SinkExt as _;
use tokio::runtime::Handle;
use tokio_postgres::CopyInSink;

use crate::{
    connect::{ConnectError, Connection, QueryError, Row, only, rows_among},
    settings::Settings,
};

/// How soon the wish to stop is noticed.
const SLICE: Duration = Duration::from_millis(50);
/// What is sent to the server at once.
const BLOCK_LEN_BYTES: usize = 64 << 10;

/// The flags that end the work: a person's, and that of those who work on the same thing.
pub(crate) type Stops<'a> = &'a [&'a AtomicBool];

/// Whether one of them is set.
pub(crate) fn is_set(stops: Stops<'_>) -> bool {
    stops.iter().any(|stop| stop.load(Ordering::Relaxed))
}

/// Why a session did not do what it was to do.
#[derive(Debug)]
pub(crate) enum SessionError {
    /// The server said no.
    Query(QueryError),
    /// The work is to stop.
    Stopped,
}

impl From<QueryError> for SessionError {
    fn from(error: QueryError) -> Self {
        Self::Query(error)
    }
}

/// See the module.
pub(crate) struct Session<'a> {
    connection: Connection,
    stops: Stops<'a>,
}

impl<'a> Session<'a> {
    pub(crate) fn open(
        settings: &Settings,
        handle: &Handle,
        stops: Stops<'a>,
    ) -> Result<Self, ConnectError> {
        Ok(Self {
            connection: Connection::open(settings, handle)?,
            stops,
        })
    }

    pub(crate) fn connection(&self) -> &Connection {
        &self.connection
    }

    /// For those who take the session for themselves, and look at [`stops`](Self::stops) on their own.
    pub(crate) fn connection_mut(&mut self) -> &mut Connection {
        &mut self.connection
    }

    /// The flags that it looks at.
    pub(crate) fn stops(&self) -> Stops<'a> {
        self.stops
    }

    /// Runs statements without a result. `what` completes "cannot …".
    pub(crate) fn execute(&self, what: &str, sql: &str) -> Result<(), SessionError> {
        self.wait(what, self.connection.client().batch_execute(sql))
    }

    /// All rows of a query. `what` completes "cannot …".
    pub(crate) fn rows(&self, what: &str, sql: &str) -> Result<Vec<Row>, SessionError> {
        let messages = self.wait(what, self.connection.client().simple_query(sql))?;
        Ok(rows_among(messages))
    }

    /// The one row of a query that has exactly one.
    pub(crate) fn row(&self, what: &str, sql: &str) -> Result<Row, SessionError> {
        Ok(only(what, self.rows(what, sql)?)?)
    }

    /// Waits for the answer of the session's client.
    pub(crate) fn wait<T>(
        &self,
        what: &str,
        answer: impl Future<Output = Result<T, tokio_postgres::Error>>,
    ) -> Result<T, SessionError> {
        let stops = self.stops;
        self.connection.handle().block_on(async {
            let mut answer = std::pin::pin!(answer);
            while !is_set(stops) {
                if let Ok(result) = tokio::time::timeout(SLICE, answer.as_mut()).await {
                    return result.map_err(|error| QueryError::new(what, &error).into());
                }
            }
            Err(SessionError::Stopped)
        })
    }

    /// Begins a `COPY … FROM STDIN`.
    pub(crate) fn copy_in(&self, what: &str, sql: &str) -> Result<CopyIn<'_, 'a>, SessionError> {
        let sink = self.wait(what, self.connection.client().copy_in(sql))?;
        Ok(CopyIn {
            session: self,
            what: what.to_owned(),
            sink: Box::pin(sink),
            block: Vec::with_capacity(BLOCK_LEN_BYTES),
            len_bytes: 0,
            failure: None,
        })
    }
}

/// Rows on their way to the server. Only [`finish`](Self::finish) makes them count; dropped before, the server takes
/// none of them.
pub(crate) struct CopyIn<'s, 'a> {
    session: &'s Session<'a>,
    what: String,
    sink: Pin<Box<CopyInSink<Cursor<Vec<u8>>>>>,
    block: Vec<u8>,
    len_bytes: u64,
    failure: Option<SessionError>,
}

impl CopyIn<'_, '_> {
    /// How many bytes were written.
    pub(crate) fn len_bytes(&self) -> u64 {
        self.len_bytes
    }

    /// Why the last write failed, for its own error is seen by whoever wrote only.
    pub(crate) fn take_failure(&mut self) -> Option<SessionError> {
        self.failure.take()
    }

    /// Ends the rows; gives the server's count of them.
    pub(crate) fn finish(mut self) -> Result<u64, SessionError> {
        self.send()?;
        self.session.wait(&self.what, self.sink.as_mut().finish())
    }

    fn send(&mut self) -> Result<(), SessionError> {
        if self.block.is_empty() {
            return Ok(());
        }
        let block = std::mem::replace(&mut self.block, Vec::with_capacity(BLOCK_LEN_BYTES));
        self.session
            .wait(&self.what, self.sink.feed(Cursor::new(block)))
    }
}

impl Write for CopyIn<'_, '_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.failure.is_some() {
            return Err(io::Error::other("the server took no more rows"));
        }
        let taken = bytes.len().min(BLOCK_LEN_BYTES - self.block.len());
        self.block.extend_from_slice(&bytes[..taken]);
        self.len_bytes += taken as u64;
        if self.block.len() == BLOCK_LEN_BYTES
            && let Err(error) = self.send()
        {
            self.failure = Some(error);
            return Err(io::Error::other("the server took no more rows"));
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::{thread, time::Instant};

    use super::*;
    use crate::testing;

    #[test]
    fn a_question_that_the_server_thinks_about_for_long_does_not_hold_up_who_is_to_stop() {
        let cluster = testing::cluster();
        let settings = testing::database(&cluster, "");
        let stop = AtomicBool::new(false);
        let stops = [&stop];
        let session = Session::open(&settings, testing::runtime(), &stops).unwrap();
        assert_eq!(
            session.row("ask", "SELECT 1").unwrap(),
            [Some("1".to_owned())]
        );
        let begun = Instant::now();
        thread::scope(|scope| {
            scope.spawn(|| {
                thread::sleep(Duration::from_millis(200));
                stop.store(true, Ordering::Relaxed);
            });
            let answer = session.rows("ask", "SELECT pg_sleep(60)");
            assert!(matches!(answer, Err(SessionError::Stopped)));
        });
        assert!(begun.elapsed() < Duration::from_secs(20));
    }
}
