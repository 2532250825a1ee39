//! Waiting for a pipe that may never say anything, and for a program that may never end.
//!
//! **Invariant**: whoever waits here notices within [`SLICE`] that the work is to stop.

use std::io;
use std::os::fd::AsFd;
use std::process::{Child, ExitStatus};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

/// How long is waited before the wish to stop is looked at again: a tenth of a second.
const SLICE: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 100_000_000,
};

/// Waits until there is something to read, or the end, behind `handle`.
///
/// # Errors
/// When `stopped` says that the work is to stop, or the system cannot wait.
pub(crate) fn wait_for(handle: &impl AsFd, stopped: impl Fn() -> bool) -> io::Result<()> {
    while !stopped() {
        let mut handles = [PollFd::new(handle, PollFlags::IN)];
        match poll(&mut handles, Some(&SLICE)) {
            Ok(0) | Err(Errno::INTR) => {}
            Ok(_) => return Ok(()),
            Err(errno) => return Err(errno.into()),
        }
    }
    Err(io::Error::other("it was asked to stop"))
}

/// Waits until `child` has ended; ends it when `stopped` says that the work is to stop.
///
/// # Errors
/// When the system cannot wait.
pub(crate) fn wait_for_end(
    child: &mut Child,
    stopped: impl Fn() -> bool,
) -> io::Result<ExitStatus> {
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if stopped() {
            // Our own child, by its handle; it may have ended by itself.
            let _ = child.kill();
            return child.wait();
        }
        // Most programs end with their output, so this is short.
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::process::Command;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[test]
    fn something_to_read_and_the_end_are_both_noticed() {
        let (from, mut to) = io::pipe().unwrap();
        to.write_all(b"a line").unwrap();
        wait_for(&from, || false).unwrap();
        let (from, to) = io::pipe().unwrap();
        drop(to);
        wait_for(&from, || false).unwrap();
    }

    #[test]
    fn a_silent_pipe_does_not_keep_anybody_who_is_to_stop() {
        let (from, to) = io::pipe().unwrap();
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(Duration::from_millis(50));
                stop.store(true, Ordering::Relaxed);
            });
            wait_for(&from, || stop.load(Ordering::Relaxed)).unwrap_err();
        });
        drop(to);
    }

    #[test]
    fn a_program_is_waited_for_until_it_ends_or_the_work_does() {
        let mut child = Command::new("sh").args(["-c", "exit 3"]).spawn().unwrap();
        let status = wait_for_end(&mut child, || false).unwrap();
        assert_eq!(status.code(), Some(3));
        let mut child = Command::new("sleep").arg("600").spawn().unwrap();
        let status = wait_for_end(&mut child, || true).unwrap();
        assert_eq!(status.code(), None);
    }
}
