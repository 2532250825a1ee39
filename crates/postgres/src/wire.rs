//! The bytes that a server sends to a session, with the rows of a `COPY` led aside.
//!
//! Every row of a `COPY … TO STDOUT` is a message of its own. To hand each through the session's machinery costs more
//! than the row, holds a row of a gigabyte in memory as one piece, and loses the count that the server tells at the
//! end. So the messages are followed here, below the session: when somebody has asked for it, the content of the rows
//! goes into a [`Pipe`], and to the session the `COPY` looks like a command without an answer, with the server's count.
//!
//! Invariant: all other bytes pass unchanged, and once rows go into a pipe, its end is marked whatever happens to the
//! connection.

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::tls::{ChannelBinding, TlsConnect, TlsStream};

use crate::{
    loan::{BLOCK_LEN_BYTES, COPY_DATA, HEADER_LEN_BYTES, Incoming, Lending, Loan},
    pipe::Pipe,
};

const COPY_OUT_RESPONSE: u8 = b'H';
const COPY_DONE: u8 = b'c';
const NOTICE: u8 = b'N';
const NOTIFICATION: u8 = b'A';
const PARAMETER_STATUS: u8 = b'S';

/// Where the session says that the next `COPY`'s rows go into a pipe.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tap(Arc<Mutex<Option<Arc<Pipe>>>>);

impl Tap {
    /// Leads the rows of the next `COPY` into `pipe`.
    pub(crate) fn open(&self, pipe: Arc<Pipe>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(pipe);
    }

    /// Leads nothing aside any more, if no `COPY` has come.
    pub(crate) fn close(&self) {
        self.take();
    }

    fn take(&self) -> Option<Arc<Pipe>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// What the next bytes belong to, and how many of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Header,
    /// A message for the session, header included.
    Passing(usize),
    /// The content of a row.
    Row(usize),
    /// A message of which the session is not to know.
    Hidden(usize),
}

/// A connection whose incoming messages are followed.
#[derive(Debug)]
pub(crate) struct Wire<S> {
    inner: S,
    tap: Tap,
    lending: Option<Lending<S>>,
    incoming: Incoming,
    part: Part,
    aside: Option<Aside>,
}

/// The rows of a `COPY` on their way into a pipe.
#[derive(Debug)]
struct Aside {
    pipe: Arc<Pipe>,
    block: Vec<u8>,
    /// The connection is with who reads the rows.
    is_lent: bool,
}

impl Aside {
    fn end(mut self) {
        let block = std::mem::take(&mut self.block);
        if !block.is_empty() {
            self.pipe.push(block);
        }
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        self.pipe.end();
    }
}

fn given_up() -> io::Error {
    io::Error::other("the rows were not read to their end")
}

impl<S> Wire<S> {
    pub(crate) fn new(inner: S, tap: Tap) -> Self {
        Self {
            inner,
            tap,
            lending: None,
            incoming: Incoming::new(),
            part: Part::Header,
            aside: None,
        }
    }

    /// The same; who reads rows gets the socket itself.
    pub(crate) fn lending(inner: S, tap: Tap, lending: Lending<S>) -> Self {
        Self {
            lending: Some(lending),
            ..Self::new(inner, tap)
        }
    }

    /// Uses what has arrived. Nothing more can be done with it when this is ready: it is used up but for a piece of a
    /// header, or `session` is full.
    fn work(
        &mut self,
        context: &mut Context<'_>,
        session: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            let arrived = self.incoming.arrived().len();
            match self.part {
                Part::Header if arrived < HEADER_LEN_BYTES => return Poll::Ready(Ok(())),
                Part::Header => {
                    if self.lend()? {
                        ready!(self.poll_given_back(context))?;
                        continue;
                    }
                    self.part = self.begin_message()?;
                }
                Part::Passing(0) | Part::Row(0) | Part::Hidden(0) => self.part = Part::Header,
                _ if arrived == 0 => return Poll::Ready(Ok(())),
                Part::Passing(len_bytes) => {
                    let count = len_bytes.min(arrived).min(session.remaining());
                    if count == 0 {
                        return Poll::Ready(Ok(()));
                    }
                    session.put_slice(self.incoming.use_up(count));
                    self.part = Part::Passing(len_bytes - count);
                }
                Part::Row(len_bytes) => {
                    let count = ready!(self.put_row(context, len_bytes.min(arrived)))?;
                    self.part = Part::Row(len_bytes - count);
                }
                Part::Hidden(len_bytes) => {
                    let count = len_bytes.min(arrived);
                    self.incoming.use_up(count);
                    self.part = Part::Hidden(len_bytes - count);
                }
            }
        }
    }

    /// Lends the connection if what comes next is a row, to who wants it.
    fn lend(&mut self) -> io::Result<bool> {
        let Some(aside) = self.aside.as_mut().filter(|aside| aside.block.is_empty()) else {
            return Ok(false);
        };
        if self
            .incoming
            .header()?
            .is_none_or(|header| header.letter != COPY_DATA)
        {
            return Ok(false);
        }
        let Some(lending) = &self.lending else {
            return Ok(false);
        };
        let socket = (lending.lend)(&mut self.inner)?;
        let incoming = std::mem::replace(&mut self.incoming, Incoming::none());
        aside.is_lent = true;
        aside.pipe.lend(Loan::new(socket, incoming));
        Ok(true)
    }

    /// Waits until the connection is no longer lent.
    fn poll_given_back(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let aside = self.aside.as_mut().filter(|aside| aside.is_lent);
        let (Some(aside), Some(lending)) = (aside, &self.lending) else {
            return Poll::Ready(Ok(()));
        };
        let Ok(loan) = ready!(aside.pipe.poll_given_back(context)) else {
            return Poll::Ready(Err(given_up()));
        };
        if loan.is_within_a_row() {
            // It stays given back: who had to hear something else first asks again.
            aside.pipe.give_back(loan);
            return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
        }
        aside.is_lent = false;
        self.incoming = loan.incoming;
        Poll::Ready((lending.take_back)(&mut self.inner, loan.socket))
    }

    /// Looks at a message's header.
    fn begin_message(&mut self) -> io::Result<Part> {
        let Some(header) = self.incoming.header()? else {
            return Ok(Part::Header);
        };
        let content = header.content_len_bytes;
        let whole = content + HEADER_LEN_BYTES;
        Ok(match (header.letter, self.aside.is_some()) {
            (COPY_OUT_RESPONSE, false) => match self.tap.take() {
                Some(pipe) => {
                    self.aside = Some(Aside {
                        pipe,
                        block: Vec::new(),
                        is_lent: false,
                    });
                    Part::Hidden(whole)
                }
                None => Part::Passing(whole),
            },
            (COPY_DATA, true) => {
                self.incoming.use_up(HEADER_LEN_BYTES);
                Part::Row(content)
            }
            // They may come at any time and say nothing of the `COPY`.
            (NOTICE | NOTIFICATION | PARAMETER_STATUS, _) => Part::Passing(whole),
            (letter, true) => {
                if let Some(aside) = self.aside.take_if(|aside| !aside.pipe.is_given_up()) {
                    aside.end();
                }
                if self.aside.is_some() {
                    return Err(given_up());
                }
                if letter == COPY_DONE {
                    Part::Hidden(whole)
                } else {
                    Part::Passing(whole)
                }
            }
            (_, false) => Part::Passing(whole),
        })
    }

    /// Moves up to so many bytes of a row into the block under way.
    fn put_row(&mut self, context: &mut Context<'_>, len_bytes: usize) -> Poll<io::Result<usize>> {
        let aside = self.aside.as_mut().expect("rows come in a COPY");
        if aside.block.capacity() == 0 {
            match ready!(aside.pipe.poll_spare(context)) {
                Ok(block) => aside.block = block,
                // The session is of no use without its rows; its end stops the server's work too.
                Err(_) => return Poll::Ready(Err(given_up())),
            }
        }
        let count = len_bytes.min(BLOCK_LEN_BYTES - aside.block.len());
        aside.block.extend_from_slice(self.incoming.use_up(count));
        if aside.block.len() == BLOCK_LEN_BYTES {
            aside.pipe.push(std::mem::take(&mut aside.block));
        }
        Poll::Ready(Ok(count))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Wire<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        session: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let wire = self.get_mut();
        let before = session.filled().len();
        ready!(wire.poll_given_back(context))?;
        loop {
            let worked = wire.work(context, session);
            // An error comes again; what the session has got must reach it first.
            if session.filled().len() != before || session.remaining() == 0 {
                return Poll::Ready(Ok(()));
            }
            ready!(worked)?;
            let mut space = ReadBuf::new(wire.incoming.room());
            ready!(Pin::new(&mut wire.inner).poll_read(context, &mut space))?;
            let count = space.filled().len();
            if count == 0 {
                // The session takes nothing for the end of the connection.
                return Poll::Ready(Ok(()));
            }
            wire.incoming.filled(count);
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Wire<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().inner).poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_shutdown(context)
    }
}

impl<S: TlsStream + Unpin> TlsStream for Wire<S> {
    fn channel_binding(&self) -> ChannelBinding {
        self.inner.channel_binding()
    }
}

/// Encrypts as `inner` does; what comes out of it is followed.
pub(crate) struct Encrypted<T> {
    pub(crate) inner: T,
    pub(crate) tap: Tap,
}

impl<S, T> TlsConnect<S> for Encrypted<T>
where
    T: TlsConnect<S>,
    T::Stream: Unpin,
    T::Future: Send + 'static,
    T::Stream: 'static,
    T::Error: 'static,
{
    type Stream = Wire<T::Stream>;
    type Error = T::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Stream, T::Error>> + Send>>;

    fn connect(self, stream: S) -> Self::Future {
        let Self { inner, tap } = self;
        let connected = inner.connect(stream);
        Box::pin(async move { Ok(Wire::new(connected.await?, tap)) })
    }
}

#[cfg(test)]
mod tests;
