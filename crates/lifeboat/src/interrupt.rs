//! The wish to stop: SIGINT and SIGTERM set a flag that long work looks at.
//!
//! The work ends at a place where nothing is half done, and the exit code says which signal it was. A second signal
//! ends the program at once: a person who presses the keys twice does not want to wait. One wish may arrive as two
//! signals, since `timeout` and `sudo` signal the program and then its whole group; these count as one.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use signal_hook::{
    consts::{SIGINT, SIGTERM},
    flag,
    iterator::Signals,
    low_level,
};

use crate::{error::CommandError, exit_code::ExitCode};

/// Signals that follow the first one sooner than this are the same wish.
const ONE_WISH: Duration = Duration::from_millis(300);

/// Whether the program was asked to stop, and how.
#[derive(Clone, Debug, Default)]
pub(crate) struct Interrupt {
    stop: Arc<AtomicBool>,
    signal: Arc<AtomicUsize>,
}

impl Interrupt {
    /// Listens to the signals from now on.
    pub(crate) fn listen() -> io::Result<Self> {
        let interrupt = Self::default();
        for signal in [SIGINT, SIGTERM] {
            let code = code_of(signal).number().into();
            flag::register_usize(signal, Arc::clone(&interrupt.signal), code)?;
            flag::register(signal, Arc::clone(&interrupt.stop))?;
        }
        let signals = Signals::new([SIGINT, SIGTERM])?;
        // It waits for signals as long as the program lives, and holds nothing.
        thread::Builder::new()
            .name("signals".to_owned())
            .spawn(move || end_at_second(signals))?;
        Ok(interrupt)
    }

    /// The flag for long work; true means: end soon, at a safe place.
    pub(crate) fn flag(&self) -> &AtomicBool {
        &self.stop
    }

    /// True once the program was asked to stop.
    pub(crate) fn is_set(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// What a command ends with that stopped because it was asked to; nothing when it was not asked.
    pub(crate) fn as_error(&self) -> Option<CommandError> {
        if !self.is_set() {
            return None;
        }
        let terminated = usize::from(ExitCode::Terminated.number());
        let (code, signal) = if self.signal.load(Ordering::Relaxed) == terminated {
            (ExitCode::Terminated, "SIGTERM")
        } else {
            (ExitCode::Interrupted, "SIGINT")
        };
        Some(CommandError::new(code, format!("stopped by {signal}")).hint("Run the command again."))
    }
}

fn code_of(signal: i32) -> ExitCode {
    if signal == SIGTERM {
        ExitCode::Terminated
    } else {
        ExitCode::Interrupted
    }
}

/// Ends the program when a signal comes that is not the first.
fn end_at_second(mut signals: Signals) {
    let mut first: Option<Instant> = None;
    for signal in signals.forever() {
        if first.get_or_insert_with(Instant::now).elapsed() > ONE_WISH {
            low_level::exit(code_of(signal).number().into());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_is_noticed_and_names_its_exit_code() {
        let interrupt = Interrupt::listen().unwrap();
        assert!(!interrupt.is_set());
        assert!(interrupt.as_error().is_none());
        low_level::raise(SIGTERM).unwrap();
        assert!(interrupt.flag().load(Ordering::Relaxed));
        let error = interrupt.as_error().unwrap();
        assert_eq!(error.code(), ExitCode::Terminated);
    }
}
