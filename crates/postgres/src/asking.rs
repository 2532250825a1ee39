//! Questions to a server, whoever carries them: a connection of our own, or `psql` where none of ours goes.

use std::sync::atomic::AtomicBool;

use tokio::runtime::Handle;

use crate::{
    connect::{ConnectError, Connection, QueryError, Row},
    psql::Psql,
    settings::Settings,
};

/// A session that answers. What is asked is one statement each time; `what` completes "cannot …".
pub(crate) trait Ask: Send + Sync {
    /// All rows of a query.
    fn rows(&self, what: &str, sql: &str) -> Result<Vec<Row>, QueryError>;

    /// Runs a statement without a result.
    fn execute(&self, what: &str, sql: &str) -> Result<(), QueryError>;

    /// As [`execute`](Self::execute), but where the session can do that, the server is asked to end it when `stop` is
    /// set meanwhile.
    fn execute_unless(&self, what: &str, sql: &str, stop: &AtomicBool) -> Result<(), QueryError>;

    /// Runs statements that are done together or not at all.
    fn execute_together(&self, what: &str, statements: &[&str]) -> Result<(), QueryError>;

    /// The one row of a query that has exactly one.
    fn row(&self, what: &str, sql: &str) -> Result<Row, QueryError> {
        let mut rows = self.rows(what, sql)?;
        match (rows.pop(), rows.is_empty()) {
            (Some(row), true) => Ok(row),
            _ => Err(QueryError::shape(what)),
        }
    }
}

impl Ask for Connection {
    fn rows(&self, what: &str, sql: &str) -> Result<Vec<Row>, QueryError> {
        Self::rows(self, what, sql)
    }

    fn execute(&self, what: &str, sql: &str) -> Result<(), QueryError> {
        Self::execute(self, what, sql)
    }

    fn execute_unless(&self, what: &str, sql: &str, stop: &AtomicBool) -> Result<(), QueryError> {
        Self::execute_unless(self, what, sql, stop)
    }

    /// One message is one transaction.
    fn execute_together(&self, what: &str, statements: &[&str]) -> Result<(), QueryError> {
        Self::execute(self, what, &statements.join("; "))
    }
}

impl Ask for Psql {
    fn rows(&self, what: &str, sql: &str) -> Result<Vec<Row>, QueryError> {
        Self::rows(self, what, sql)
    }

    fn execute(&self, what: &str, sql: &str) -> Result<(), QueryError> {
        Self::execute(self, what, sql)
    }

    /// What ends it is the limit that the statement has at the server.
    fn execute_unless(&self, what: &str, sql: &str, _: &AtomicBool) -> Result<(), QueryError> {
        Self::execute(self, what, sql)
    }

    /// What has a backslash before its semicolon goes with what follows in one message.
    fn execute_together(&self, what: &str, statements: &[&str]) -> Result<(), QueryError> {
        Self::execute(self, what, &statements.join(" \\; "))
    }
}

/// A session with the database of the settings, by the way that they say.
pub(crate) fn open(settings: &Settings, handle: &Handle) -> Result<Box<dyn Ask>, ConnectError> {
    Ok(match settings.via {
        Some(_) => Box::new(Psql::open(settings)?),
        None => Box::new(Connection::open(settings, handle)?),
    })
}
