//! The way to the server before a word is said: a Unix socket, or TCP with keepalives.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use rustix::net::sockopt;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpStream, UnixStream, lookup_host},
};

use crate::{
    loan::{Bare, Lending},
    settings::{Host, Keepalives, Settings},
};

/// A stream of either kind, which can be taken away from the runtime.
pub(crate) struct Socket(Option<Pin<Box<dyn Stream>>>);

/// What both kinds can do.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send {
    fn bare(self: Pin<Box<Self>>) -> io::Result<Bare>;
}

impl Stream for UnixStream {
    fn bare(self: Pin<Box<Self>>) -> io::Result<Bare> {
        Pin::into_inner(self).into_std().map(Bare::Unix)
    }
}

impl Stream for TcpStream {
    fn bare(self: Pin<Box<Self>>) -> io::Result<Bare> {
        Pin::into_inner(self).into_std().map(Bare::Tcp)
    }
}

impl Socket {
    pub(crate) fn new(stream: impl Stream + 'static) -> Self {
        Self(Some(Box::pin(stream)))
    }

    fn stream(&mut self) -> io::Result<Pin<&mut dyn Stream>> {
        match &mut self.0 {
            Some(stream) => Ok(stream.as_mut()),
            None => Err(lent()),
        }
    }

    pub(crate) const LENDING: Lending<Self> = Lending {
        lend: |socket| socket.0.take().map_or_else(|| Err(lent()), Stream::bare),
        take_back: |socket, bare| {
            *socket = match bare {
                Bare::Unix(stream) => Self::new(UnixStream::from_std(stream)?),
                Bare::Tcp(stream) => Self::new(TcpStream::from_std(stream)?),
            };
            Ok(())
        },
    };
}

fn lent() -> io::Error {
    io::Error::new(
        io::ErrorKind::NotConnected,
        "the connection is with who reads the rows",
    )
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        space: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.stream()?.poll_read(context, space)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.stream()?.poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.0 {
            Some(stream) => stream.as_mut().poll_flush(context),
            // What was written before went at once.
            None => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream()?.poll_shutdown(context)
    }
}

/// Connects, to the first of a name's addresses that answers.
pub(crate) async fn open(settings: &Settings) -> io::Result<Socket> {
    let name = match (&settings.host, settings.address) {
        (Host::Socket(folder), None) => {
            let path = folder.join(format!(".s.PGSQL.{}", settings.port));
            return Ok(Socket::new(UnixStream::connect(path).await?));
        }
        (_, Some(address)) => address.to_string(),
        (Host::Tcp(name), None) => name.clone(),
    };
    let mut last = None;
    let addresses: Vec<_> = lookup_host((name, settings.port)).await?.collect();
    for address in addresses {
        let connecting = TcpStream::connect(address);
        match tokio::time::timeout(settings.connect_timeout, connecting).await {
            Ok(Ok(stream)) => {
                stream.set_nodelay(true)?;
                keep_alive(&stream, &settings.keepalives)?;
                return Ok(Socket::new(stream));
            }
            Ok(Err(error)) => last = Some(error),
            Err(_) => last = Some(io::ErrorKind::TimedOut.into()),
        }
    }
    Err(last.unwrap_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the name has no address")))
}

fn keep_alive(stream: &TcpStream, keepalives: &Keepalives) -> io::Result<()> {
    if let Some(timeout) = keepalives.user_timeout {
        let timeout_ms = u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX);
        sockopt::set_tcp_user_timeout(stream, timeout_ms)?;
    }
    if keepalives.enabled {
        sockopt::set_socket_keepalive(stream, true)?;
        sockopt::set_tcp_keepidle(stream, keepalives.idle)?;
        sockopt::set_tcp_keepintvl(stream, keepalives.interval)?;
        sockopt::set_tcp_keepcnt(stream, keepalives.count)?;
    }
    Ok(())
}
