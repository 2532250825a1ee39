//! A connection in the middle of a `COPY`, lent to the thread that wants the rows.
//!
//! A server sends rows in pieces of 8 KiB. Where a task of the session reads them, each piece wakes the runtime's thread,
//! and every few pieces the thread that waits for them: on a machine whose processors are all at work that costs more
//! than the rows. So the task lends the bare socket, the thread reads as much as there is whenever it wants more, and
//! gives the socket back at the first message that is no row.
//!
//! Invariant: a connection is lent and given back between two messages.

use std::{
    io::{self, Read as _},
    net::TcpStream,
    os::{fd::AsFd, unix::net::UnixStream},
    thread,
    time::{Duration, Instant},
};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// How much is read at once, and how long a block of rows is that goes on from here.
pub(crate) const BLOCK_LEN_BYTES: usize = 64 << 10;
/// How long a server that is slower than us is given to send more than one piece: each piece that is waited for wakes a
/// thread, which costs more than reading it. Where a fast server fills the socket's buffer sooner, it waits for the rest.
const GATHERING: Duration = Duration::from_micros(300);
/// A letter and a length.
pub(crate) const HEADER_LEN_BYTES: usize = 5;
pub(crate) const COPY_DATA: u8 = b'd';

/// A message's first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) letter: u8,
    /// What follows the header.
    pub(crate) content_len_bytes: usize,
}

/// What has arrived and is not used.
#[derive(Debug)]
pub(crate) struct Incoming {
    bytes: Box<[u8]>,
    start: usize,
    end: usize,
}

impl Incoming {
    pub(crate) fn new() -> Self {
        Self {
            bytes: vec![0; BLOCK_LEN_BYTES].into_boxed_slice(),
            start: 0,
            end: 0,
        }
    }

    /// Stands in for what is lent.
    pub(crate) fn none() -> Self {
        Self {
            bytes: Box::default(),
            start: 0,
            end: 0,
        }
    }

    pub(crate) fn arrived(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    /// The next message's header, which is not used up by that; `None` when it has not arrived.
    ///
    /// # Errors
    /// When it tells a length that no message has.
    #[expect(
        clippy::big_endian_bytes,
        reason = "the network's order of bytes is the protocol's"
    )]
    pub(crate) fn header(&self) -> io::Result<Option<Header>> {
        let Some(header) = self.arrived().first_chunk::<HEADER_LEN_BYTES>() else {
            return Ok(None);
        };
        let [letter, length @ ..] = *header;
        // The length counts itself.
        let content_len_bytes = (u32::from_be_bytes(length) as usize)
            .checked_sub(HEADER_LEN_BYTES - 1)
            .ok_or_else(|| io::Error::other("the server sent a message of an impossible length"))?;
        Ok(Some(Header {
            letter,
            content_len_bytes,
        }))
    }

    pub(crate) fn use_up(&mut self, count: usize) -> &[u8] {
        let from = self.start;
        self.start += count;
        &self.bytes[from..self.start]
    }

    /// Room for what comes next, behind what is not used.
    pub(crate) fn room(&mut self) -> &mut [u8] {
        self.bytes.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        &mut self.bytes[self.end..]
    }

    /// So much of the room was filled.
    pub(crate) fn filled(&mut self, count: usize) {
        self.end += count;
    }
}

/// A socket that no runtime knows. It does not block.
#[derive(Debug)]
pub(crate) enum Bare {
    Unix(UnixStream),
    Tcp(TcpStream),
}

impl Bare {
    fn receive(&mut self, room: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Unix(stream) => stream.read(room),
            Self::Tcp(stream) => stream.read(room),
        }
    }

    /// Waits until something can be received, or the connection has ended; not beyond `until`.
    fn wait(&self, until: Option<Instant>) -> io::Result<()> {
        thread::sleep(GATHERING);
        let timeout = until.map(|until| {
            let left = until.saturating_duration_since(Instant::now());
            Timespec::try_from(left).unwrap_or(Timespec {
                tv_sec: 1,
                tv_nsec: 0,
            })
        });
        let socket = match self {
            Self::Unix(stream) => stream.as_fd(),
            Self::Tcp(stream) => stream.as_fd(),
        };
        match poll(
            &mut [PollFd::from_borrowed_fd(socket, PollFlags::IN)],
            timeout.as_ref(),
        ) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// How the socket of a stream is given away and taken back. What is encrypted cannot be read from outside.
#[derive(Debug)]
pub(crate) struct Lending<S> {
    pub(crate) lend: fn(&mut S) -> io::Result<Bare>,
    pub(crate) take_back: fn(&mut S, Bare) -> io::Result<()>,
}

/// What is there for who wants rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Rows,
    /// What comes next is no row, or nothing comes any more: the session has to see it.
    Other,
    /// Nothing came in time.
    Late,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Loan {
    pub(crate) socket: Bare,
    pub(crate) incoming: Incoming,
    /// What is left of the row under way.
    row_len_bytes: usize,
}

impl Loan {
    pub(crate) fn new(socket: Bare, incoming: Incoming) -> Self {
        Self {
            socket,
            incoming,
            row_len_bytes: 0,
        }
    }

    /// Whether it ended within a row.
    pub(crate) fn is_within_a_row(&self) -> bool {
        self.row_len_bytes > 0
    }

    /// Waits until [`read`](Self::read) would not wait; `false` when it still would after `timeout`.
    pub(crate) fn wait(&mut self, timeout: Duration) -> bool {
        self.next(Some(Instant::now() + timeout)) != Next::Late
    }

    /// Waits for rows and fills as much of `buffer` as has arrived; `None` when what comes next is no row, and the
    /// connection is to be given back.
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> Option<usize> {
        // Asked once: rows are so short that asking the clock for each of them would cost as much as they do.
        let begun = Instant::now();
        let mut filled = 0;
        while filled < buffer.len() {
            // What has arrived is given out before more is waited for.
            let until = (filled > 0).then_some(begun);
            match self.next(until) {
                Next::Rows => {
                    let arrived = self.incoming.arrived().len();
                    let count = self.row_len_bytes.min(arrived).min(buffer.len() - filled);
                    buffer[filled..filled + count].copy_from_slice(self.incoming.use_up(count));
                    self.row_len_bytes -= count;
                    filled += count;
                }
                Next::Other if filled == 0 => return None,
                Next::Other | Next::Late => break,
            }
        }
        Some(filled)
    }

    fn next(&mut self, until: Option<Instant>) -> Next {
        loop {
            if self.row_len_bytes > 0 {
                if !self.incoming.arrived().is_empty() {
                    return Next::Rows;
                }
            } else {
                match self.incoming.header() {
                    Ok(Some(header)) if header.letter == COPY_DATA => {
                        self.incoming.use_up(HEADER_LEN_BYTES);
                        self.row_len_bytes = header.content_len_bytes;
                        // No table has a row of no bytes, and who sends nothing else is not listened to for ever.
                        if self.row_len_bytes == 0
                            && until.is_some_and(|until| until <= Instant::now())
                        {
                            return Next::Late;
                        }
                        continue;
                    }
                    Ok(Some(_)) | Err(_) => return Next::Other,
                    Ok(None) => {}
                }
            }
            match self.socket.receive(self.incoming.room()) {
                Ok(0) => return Next::Other,
                Ok(count) => self.incoming.filled(count),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if until.is_some_and(|until| until <= Instant::now()) {
                        return Next::Late;
                    }
                    if self.socket.wait(until).is_err() {
                        return Next::Other;
                    }
                }
                // The session meets the end of the connection.
                Err(_) => return Next::Other,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;
    use crate::testing::message;

    fn lent() -> (UnixStream, Loan) {
        let (server, client) = UnixStream::pair().unwrap();
        client.set_nonblocking(true).unwrap();
        (server, Loan::new(Bare::Unix(client), Incoming::new()))
    }

    #[test]
    fn a_server_that_stalls_anywhere_keeps_nobody_waiting() {
        let (mut server, mut loan) = lent();
        let time = Duration::from_millis(20);
        let mut buffer = [0; 100];
        let row = message(COPY_DATA, b"one\n");
        // In the header, and in the row.
        for (from, to) in [(0, 3), (3, 5)] {
            server.write_all(&row[from..to]).unwrap();
            assert!(!loan.wait(time));
        }
        server.write_all(&row[5..7]).unwrap();
        assert!(loan.wait(time));
        assert_eq!(loan.read(&mut buffer), Some(2));
        assert!(!loan.wait(time));
        assert!(loan.is_within_a_row());
        server.write_all(&row[7..]).unwrap();
        assert_eq!(loan.read(&mut buffer), Some(2));
        assert!(!loan.is_within_a_row());
        drop(server);
        assert!(loan.wait(time));
        assert_eq!(loan.read(&mut buffer), None);
    }

    #[test]
    fn a_server_that_sends_nothing_but_rows_of_no_bytes_keeps_nobody_waiting() {
        let (mut server, mut loan) = lent();
        let sender = thread::spawn(move || {
            let empty = message(COPY_DATA, b"").repeat(10_000);
            while server.write_all(&empty).is_ok() {}
        });
        assert!(!loan.wait(Duration::from_millis(50)));
        drop(loan);
        sender.join().unwrap();
    }
}
