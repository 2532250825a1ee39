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

use crate::settings::{Host, Keepalives, Settings};

/// A stream of either kind.
pub(crate) struct Socket(Pin<Box<dyn Stream>>);

/// What both kinds can do.
trait Stream: AsyncRead + AsyncWrite + Send {}

impl<S: AsyncRead + AsyncWrite + Send> Stream for S {}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        space: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.0.as_mut().poll_read(context, space)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.0.as_mut().poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.as_mut().poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.as_mut().poll_shutdown(context)
    }
}

/// Connects, to the first of a name's addresses that answers.
pub(crate) async fn open(settings: &Settings) -> io::Result<Socket> {
    let name = match (&settings.host, settings.address) {
        (Host::Socket(folder), None) => {
            let path = folder.join(format!(".s.PGSQL.{}", settings.port));
            return Ok(Socket(Box::pin(UnixStream::connect(path).await?)));
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
                return Ok(Socket(Box::pin(stream)));
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
