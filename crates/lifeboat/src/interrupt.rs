//! The wish to stop: SIGINT, SIGTERM and SIGHUP set a flag that long work looks at.
//!
//! The work ends at a place where nothing is half done, and the exit code says which signal it was. A second signal
//! ends the program at once: a person who presses the keys twice does not want to wait. One wish may arrive as two
//! signals, since `timeout` and `sudo` signal the program and then its whole group; these count as one. A terminal that is
//! closed sends SIGHUP, more than once and with nobody at the keys: it asks to stop, and never ends the program at once.
//! Where it was ignored from the beginning, as `nohup` has it, it stays so.

use std::{
    fs, io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM},
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
        let hang_up = (!ignores_hang_up()).then_some(SIGHUP);
        let wishes = || [SIGINT, SIGTERM].into_iter().chain(hang_up);
        for signal in wishes() {
            let code = code_of(signal).number().into();
            flag::register_usize(signal, Arc::clone(&interrupt.signal), code)?;
            flag::register(signal, Arc::clone(&interrupt.stop))?;
        }
        let signals = Signals::new(wishes())?;
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
        let number = self.signal.load(Ordering::Relaxed);
        let is_of = |code: ExitCode| usize::from(code.number()) == number;
        let (code, signal) = if is_of(ExitCode::Terminated) {
            (ExitCode::Terminated, "SIGTERM")
        } else if is_of(ExitCode::HungUp) {
            (ExitCode::HungUp, "SIGHUP")
        } else {
            (ExitCode::Interrupted, "SIGINT")
        };
        Some(CommandError::new(code, format!("stopped by {signal}")).hint("Run the command again."))
    }
}

fn code_of(signal: i32) -> ExitCode {
    match signal {
        SIGTERM => ExitCode::Terminated,
        SIGHUP => ExitCode::HungUp,
        _ => ExitCode::Interrupted,
    }
}

/// Whether whoever started the program wants it to outlive the terminal. Where the system does not say so, it does not.
fn ignores_hang_up() -> bool {
    let Ok(status) = fs::read_to_string("/proc/self/status") else {
        return false;
    };
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    // The lowest bit is the signal with the number 1.
    mask.is_some_and(|mask| mask >> (SIGHUP - 1) & 1 == 1)
}

/// Ends the program when a signal comes that is not the first.
fn end_at_second(mut signals: Signals) {
    let mut first: Option<Instant> = None;
    for signal in signals.forever() {
        let since = first.get_or_insert_with(Instant::now).elapsed();
        if since > ONE_WISH && signal != SIGHUP {
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
