//! What comes out of a wire, however the bytes arrive.

use std::task::Waker;

use super::*;
use crate::pipe::Out;
use crate::testing::message;

/// Bytes that arrive so many at a time.
struct Arriving {
    bytes: Vec<u8>,
    at: usize,
    step: usize,
}

impl AsyncRead for Arriving {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        space: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let count = (self.bytes.len() - self.at)
            .min(self.step)
            .min(space.remaining());
        space.put_slice(&self.bytes[self.at..self.at + count]);
        self.at += count;
        Poll::Ready(Ok(()))
    }
}

fn wire(bytes: &[u8], step: usize, tap: &Tap) -> Wire<Arriving> {
    let arriving = Arriving {
        bytes: bytes.to_vec(),
        at: 0,
        step,
    };
    Wire::new(arriving, tap.clone())
}

/// Reads with a buffer of `space` bytes until the end, an error, or a full pipe.
fn read(wire: &mut Wire<Arriving>, space: usize) -> (Vec<u8>, Poll<io::Result<()>>) {
    let mut all = Vec::new();
    let mut buffer = vec![0; space];
    loop {
        let mut session = ReadBuf::new(&mut buffer);
        let mut context = Context::from_waker(Waker::noop());
        let polled = Pin::new(&mut *wire).poll_read(&mut context, &mut session);
        if session.filled().is_empty() {
            return (all, polled);
        }
        all.extend_from_slice(session.filled());
    }
}

/// What stands in a pipe that has ended.
fn content(pipe: &Pipe) -> Vec<u8> {
    let mut all = Vec::new();
    let mut block = Vec::new();
    while let Some(next) = pipe.next(std::mem::take(&mut block)) {
        match next {
            Out::Block(next) => {
                all.extend_from_slice(&next);
                block = next;
            }
            Out::Loan(mut loan) => {
                // Odd sizes, so that rows and messages end anywhere in them.
                let mut some = [0; 1009];
                while let Some(count) = loan.read(&mut some) {
                    all.extend_from_slice(&some[..count]);
                }
                pipe.give_back(loan);
            }
        }
    }
    all
}

/// What the session and the pipe get over a real socket that is lent, where so many bytes come at a time.
fn over_a_socket(bytes: &[u8], step: usize) -> (io::Result<Vec<u8>>, Vec<u8>) {
    let (mut server, client) = std::os::unix::net::UnixStream::pair().unwrap();
    client.set_nonblocking(true).unwrap();
    let tap = Tap::default();
    let pipe = Arc::new(Pipe::default());
    tap.open(Arc::clone(&pipe));
    let runtime = crate::testing::runtime();
    let session = runtime.spawn(async move {
        let socket = crate::socket::Socket::new(tokio::net::UnixStream::from_std(client)?);
        let mut wire = Wire::lending(socket, tap, crate::socket::Socket::LENDING);
        let mut all = Vec::new();
        tokio::io::AsyncReadExt::read_to_end(&mut wire, &mut all).await?;
        Ok(all)
    });
    let rows = std::thread::scope(|scope| {
        scope.spawn(move || {
            for piece in bytes.chunks(step) {
                io::Write::write_all(&mut server, piece).unwrap();
                std::thread::yield_now();
            }
        });
        content(&pipe)
    });
    (runtime.block_on(session).unwrap(), rows)
}

#[test]
fn rows_go_aside_and_the_session_sees_everything_else_however_they_arrive() {
    let before = message(b'Z', b"T");
    let notice = message(b'N', b"between");
    let after = [message(b'C', b"COPY 3\0"), message(b'Z', b"T")].concat();
    let long = [vec![b'x'; 10_000], b"\n".to_vec()].concat();
    let bytes = [
        before.clone(),
        message(b'H', &[0, 0, 0]),
        message(b'd', b"1\ta\n"),
        notice.clone(),
        message(b'd', &long),
        message(b'd', b""),
        message(b'd', b"\n"),
        message(b'c', b""),
        after.clone(),
    ]
    .concat();
    for step in [1, 2, 3, 5, 7, 100, 4096, bytes.len()] {
        for space in [1, 4, 8192] {
            let tap = Tap::default();
            let pipe = Arc::new(Pipe::default());
            tap.open(Arc::clone(&pipe));
            let (session, _) = read(&mut wire(&bytes, step, &tap), space);
            assert_eq!(
                session,
                [before.clone(), notice.clone(), after.clone()].concat()
            );
            assert_eq!(content(&pipe), [b"1\ta\n", &long[..], b"\n"].concat());
        }
    }
}

#[test]
fn a_socket_that_is_lent_gives_the_same() {
    let notice = message(b'N', b"between");
    let after = [message(b'C', b"COPY 3\0"), message(b'Z', b"T")].concat();
    let long = [vec![b'x'; 200_000], b"\n".to_vec()].concat();
    let bytes = [
        message(b'H', &[0, 0, 0]),
        message(b'd', b"1\ta\n"),
        notice.clone(),
        message(b'd', &long),
        message(b'd', b""),
        message(b'd', b"\n"),
        message(b'c', b""),
        after.clone(),
    ]
    .concat();
    for step in [3, 7, 1000, bytes.len()] {
        let (session, rows) = over_a_socket(&bytes, step);
        assert_eq!(session.unwrap(), [notice.clone(), after.clone()].concat());
        assert_eq!(rows, [b"1\ta\n", &long[..], b"\n"].concat());
    }
    // Cut off between two rows, within one, within a header.
    for short in [35, 100_000, 200_060] {
        let whole = [b"1\ta\n", &long[..], b"\n"].concat();
        let (session, rows) = over_a_socket(&bytes[..short], 1000);
        assert!(whole.starts_with(&rows), "{short}");
        assert!(!session.is_ok_and(|session| session.ends_with(&after)));
    }
    // What follows a row has an impossible length.
    let bytes = [&bytes[..17], &[b'd', 0, 0, 0, 3]].concat();
    let (session, rows) = over_a_socket(&bytes, 1000);
    session.unwrap_err();
    assert_eq!(rows, b"1\ta\n");
}

#[test]
fn a_copy_that_nobody_asked_for_passes_unchanged() {
    let bytes = [
        message(b'H', &[0, 0, 0]),
        message(b'd', b"1\n"),
        message(b'c', b""),
        message(b'C', b"COPY 1\0"),
    ]
    .concat();
    let (session, _) = read(&mut wire(&bytes, 3, &Tap::default()), 100);
    assert_eq!(session, bytes);
}

#[test]
fn an_error_among_the_rows_ends_them_and_reaches_the_session() {
    let error = message(b'E', b"division by zero");
    let bytes = [
        message(b'H', &[0, 0, 0]),
        message(b'd', b"1\n"),
        error.clone(),
    ]
    .concat();
    let tap = Tap::default();
    let pipe = Arc::new(Pipe::default());
    tap.open(Arc::clone(&pipe));
    let (session, _) = read(&mut wire(&bytes, 100, &tap), 100);
    assert_eq!(session, error);
    assert_eq!(content(&pipe), b"1\n");
}

#[test]
fn a_connection_that_is_gone_marks_the_end() {
    let bytes = [message(b'H', &[0, 0, 0]), message(b'd', b"1\n")].concat();
    let tap = Tap::default();
    let pipe = Arc::new(Pipe::default());
    tap.open(Arc::clone(&pipe));
    let mut wire = wire(&bytes, 100, &tap);
    let (session, polled) = read(&mut wire, 100);
    assert!(session.is_empty() && matches!(polled, Poll::Ready(Ok(()))));
    assert!(!pipe.wait(std::time::Duration::ZERO));
    drop(wire);
    assert_eq!(content(&pipe), b"");
}

#[test]
fn a_full_pipe_holds_the_server_back_and_a_reader_that_gave_up_ends_the_connection() {
    let row = message(b'd', &vec![b'x'; 100_000]);
    let bytes = [message(b'H', &[0, 0, 0]), row.repeat(20)].concat();
    let tap = Tap::default();
    let pipe = Arc::new(Pipe::default());
    tap.open(Arc::clone(&pipe));
    let mut wire = wire(&bytes, usize::MAX, &tap);
    let (_, polled) = read(&mut wire, 100);
    assert!(polled.is_pending());
    assert!(wire.inner.at < bytes.len() / 2, "{}", wire.inner.at);
    pipe.give_up();
    let (_, polled) = read(&mut wire, 100);
    assert!(matches!(polled, Poll::Ready(Err(_))));
}

#[test]
fn a_copy_that_the_server_ends_after_its_reader_gave_up_ends_the_connection_too() {
    let answer = [message(b'H', &[0, 0, 0]), message(b'd', b"1")].concat();
    let end = message(b'E', b"SERROR\0\0");
    let tap = Tap::default();
    let pipe = Arc::new(Pipe::default());
    tap.open(Arc::clone(&pipe));
    // What comes before the reader gives up, a row among it, is used before the end arrives.
    let notice = message(b'N', &[0; 200]);
    let mut wire = wire(&[answer, notice, end].concat(), usize::MAX, &tap);
    let mut buffer = [0; 100];
    let mut session = ReadBuf::new(&mut buffer);
    let mut context = Context::from_waker(Waker::noop());
    let polled = Pin::new(&mut wire).poll_read(&mut context, &mut session);
    assert!(session.filled().len() == 100 && matches!(polled, Poll::Ready(Ok(()))));
    pipe.give_up();
    let (_, polled) = read(&mut wire, 100);
    assert!(matches!(polled, Poll::Ready(Err(_))));
}

#[test]
fn an_impossible_length_is_an_error() {
    let mut wire = wire(&[b'Z', 0, 0, 0, 3, 0], 100, &Tap::default());
    let (_, polled) = read(&mut wire, 100);
    assert!(matches!(polled, Poll::Ready(Err(_))));
}

#[test]
fn a_row_that_breaks_off_while_it_is_lent_is_an_error_also_behind_a_message_for_the_session() {
    let notice = message(b'N', b"between");
    let row = message(b'd', b"cut off");
    let bytes = [message(b'H', &[0, 0, 0]), notice.clone(), row.clone()].concat();
    let arriving = Arriving {
        bytes,
        at: 0,
        step: usize::MAX,
    };
    let lending = Lending {
        lend: |_| {
            let (socket, _) = std::os::unix::net::UnixStream::pair()?;
            Ok(crate::loan::Bare::Unix(socket))
        },
        take_back: |_, _| Ok(()),
    };
    let tap = Tap::default();
    let pipe = Arc::new(Pipe::default());
    tap.open(Arc::clone(&pipe));
    let mut wire = Wire::lending(arriving, tap, lending);
    // Who reads the rows was quicker than we are.
    let mut incoming = Incoming::new();
    incoming.room()[..row.len() - 1].copy_from_slice(&row[..row.len() - 1]);
    incoming.filled(row.len() - 1);
    let (socket, _) = std::os::unix::net::UnixStream::pair().unwrap();
    let mut loan = Loan::new(crate::loan::Bare::Unix(socket), incoming);
    assert_eq!(loan.read(&mut [0; 100]), Some(6));
    pipe.give_back(loan);
    let (session, polled) = read(&mut wire, 100);
    assert_eq!(session, notice);
    assert!(matches!(polled, Poll::Ready(Err(_))), "{polled:?}");
}
