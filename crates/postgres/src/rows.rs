//! One table's rows as a stream: `COPY … TO STDOUT` in text form, as `pg_dump` writes them.
//!
//! As with a [dump](crate::Dump), a reader that only looks for the end of the stream gets an error instead of the end
//! when something is wrong: the server said an error, the connection broke, or the count that the server tells at the
//! end is not the count of lines that came.
//!
//! The text is in the database's own encoding, as `pg_dump`'s archive of the same database is: what a database of the
//! encoding `SQL_ASCII` holds need not be valid in any other.

use std::{
    io::{self, Read},
    sync::Arc,
    time::Duration,
};

use tokio::task::JoinHandle;
use tokio_postgres::SimpleQueryMessage;

use crate::{
    connect::{Connection, QueryError},
    digest::{Digester, RowEnd},
    loan::Loan,
    parts::{Digest, TablePart},
    pipe::{Out, Pipe},
    quote,
};

/// Why rows are not what a table holds.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RowsError {
    /// The server did not send them to their end.
    #[error(transparent)]
    Query(#[from] QueryError),
    /// The server counted otherwise.
    #[error("the server sent {lines} rows of {table} and says that they are {rows}")]
    Count {
        /// The table.
        table: String,
        /// How many lines came.
        lines: u64,
        /// How many rows the server says it sent.
        rows: u64,
    },
    /// The last line has no end.
    #[error("the rows of {table} are cut off within a line")]
    CutOff {
        /// The table.
        table: String,
    },
    /// The stream was not read to its end.
    #[error("reading the rows of {table} was given up before their end")]
    GivenUp {
        /// The table.
        table: String,
    },
}

type Answer = Result<Vec<SimpleQueryMessage>, tokio_postgres::Error>;

/// A table's rows under way: read them to their end, then [`finish`](Self::finish). Dropping them before ends the
/// query, and the session with it.
pub struct Rows<'a> {
    connection: &'a mut Connection,
    table: String,
    pipe: Arc<Pipe>,
    answer: Option<JoinHandle<Answer>>,
    /// The connection, where rows are read from it without the session's task.
    loan: Option<Loan>,
    block: Vec<u8>,
    /// How much of the block has been given out.
    used: usize,
    digester: Digester,
    outcome: Option<Result<Digest, RowsError>>,
}

impl<'a> Rows<'a> {
    /// Asks for the rows of `part` over a session that is at the moment they are to show; what `part` says of a digest
    /// is not looked at. `hash_key` is for the digest.
    pub fn start(connection: &'a mut Connection, part: &TablePart, hash_key: &[u8; 32]) -> Self {
        let sql = copy(part, connection.encoding());
        let pipe = Arc::new(Pipe::default());
        let tap = connection.tap().clone();
        tap.open(Arc::clone(&pipe));
        let client = Arc::clone(connection.client());
        let end = Arc::clone(&pipe);
        let answer = connection.handle().spawn(async move {
            let answer = client.simple_query(&sql).await;
            // The server may have refused before there was a row.
            tap.close();
            end.end();
            answer
        });
        Self {
            connection,
            table: quote::qualified(&part.schema, &part.name),
            pipe,
            answer: Some(answer),
            loan: None,
            block: Vec::new(),
            used: 0,
            digester: Digester::new(hash_key),
            outcome: None,
        }
    }

    /// From now on, it keeps the rarer ends of rows for [`take_ends`](Self::take_ends).
    pub(crate) fn keep_ends(&mut self) {
        self.digester.keep_ends();
    }

    /// The ends of rows since the last question, of what has arrived.
    pub(crate) fn take_ends(&mut self) -> Option<Vec<RowEnd>> {
        self.digester.take_ends()
    }

    /// How many bytes have arrived.
    pub fn len_bytes(&self) -> u64 {
        self.digester.len_bytes()
    }

    /// Waits until reading would not wait; `false` when it still would after `timeout`.
    pub fn wait(&mut self, timeout: Duration) -> bool {
        if self.used < self.block.len() || self.outcome.is_some() {
            return true;
        }
        match &mut self.loan {
            Some(loan) => loan.wait(timeout),
            None => self.pipe.wait(timeout),
        }
    }

    /// Judges the rows after their end was read: only `Ok` makes the bytes that were read the table's rows.
    ///
    /// # Errors
    /// When the end was not read, or the rows are not all.
    pub fn finish(mut self) -> Result<Digest, RowsError> {
        self.outcome.take().unwrap_or_else(|| {
            Err(RowsError::GivenUp {
                table: self.table.clone(),
            })
        })
    }

    /// What the server says now that nothing more comes.
    fn judge(&mut self) -> Result<Digest, RowsError> {
        let what = || format!("read the rows of {}", self.table);
        let answer = self.answer.take().expect("rows are judged once");
        let messages = self
            .connection
            .handle()
            .block_on(answer)
            .map_err(|_| QueryError::shape(what()))?
            .map_err(|error| QueryError::new(what(), &error))?;
        let [SimpleQueryMessage::CommandComplete(rows)] = messages[..] else {
            return Err(QueryError::shape(what()).into());
        };
        let digest = self.digester.finish().ok_or_else(|| RowsError::CutOff {
            table: self.table.clone(),
        })?;
        if digest.rows != rows {
            return Err(RowsError::Count {
                table: self.table.clone(),
                lines: digest.rows,
                rows,
            });
        }
        Ok(digest)
    }
}

impl Read for Rows<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        while self.used == self.block.len() && self.outcome.is_none() {
            if let Some(mut loan) = self.loan.take() {
                match loan.read(buffer) {
                    Some(count) => {
                        self.digester.feed(&buffer[..count]);
                        self.loan = Some(loan);
                        return Ok(count);
                    }
                    None => self.pipe.give_back(loan),
                }
            }
            match self.pipe.next(std::mem::take(&mut self.block)) {
                Some(Out::Loan(loan)) => {
                    self.used = 0;
                    self.loan = Some(loan);
                }
                Some(Out::Block(block)) => {
                    self.digester.feed(&block);
                    self.block = block;
                    self.used = 0;
                }
                None => {
                    self.used = 0;
                    self.outcome = Some(self.judge());
                }
            }
        }
        match &self.outcome {
            Some(Ok(_)) => Ok(0),
            Some(Err(error)) => Err(io::Error::other(error.clone())),
            None => {
                let rest = &self.block[self.used..];
                let count = rest.len().min(buffer.len());
                buffer[..count].copy_from_slice(&rest[..count]);
                self.used += count;
                Ok(count)
            }
        }
    }
}

impl Drop for Rows<'_> {
    fn drop(&mut self) {
        if self.outcome.is_none() && self.answer.is_some() {
            // The wire closes the session when the next row comes; the server is told now, it may sort for long.
            self.pipe.give_up();
            self.connection.cancel();
        }
    }
}

/// The statement. A table's `COPY` leaves out the rows of those that inherit from it, a query must say so.
fn copy(part: &TablePart, encoding: &str) -> String {
    let table = quote::qualified(&part.schema, &part.name);
    let columns = identifiers(&part.columns);
    let encoding = quote::literal(encoding);
    if part.condition.is_none() && part.order.is_empty() {
        // A list may not be empty; without one come all columns that are not generated, which are none then.
        let list = if columns.is_empty() {
            String::new()
        } else {
            format!(" ({columns})")
        };
        return format!("COPY {table}{list} TO STDOUT (ENCODING {encoding})");
    }
    let condition = part.condition.as_deref().unwrap_or_default();
    let order = if part.order.is_empty() {
        String::new()
    } else {
        format!(" ORDER BY {}", identifiers(&part.order))
    };
    format!(
        "COPY (SELECT {columns} FROM ONLY {table} {condition}{order}) TO STDOUT (ENCODING {encoding})"
    )
}

fn identifiers(names: &[String]) -> String {
    let quoted: Vec<_> = names.iter().map(|name| quote::identifier(name)).collect();
    quoted.join(", ")
}

#[cfg(test)]
mod tests;
