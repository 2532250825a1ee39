//! Asking a person at a terminal: for a passphrase, without showing what is typed, or for a word that confirms.
//!
//! **Invariant**: the terminal shows what is typed again however the question ends, and a signal ends it.

use std::{
    fs::{File, OpenOptions},
    io::{self, IsTerminal, Read, Write},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr},
};
use zeroize::Zeroizing;

use crate::{
    error::{CommandError, OrFail},
    exit_code::ExitCode,
    interrupt::Interrupt,
};

/// The terminal of the session, also when standard input is a pipe.
const TERMINAL: &str = "/dev/tty";

/// A terminal gives no longer lines.
const LINE_BYTES_MAX: usize = 4096;

/// How often the wish to stop is looked at while a person types.
const LOOK_EVERY: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 100_000_000,
};

/// True when a person is there to answer: a terminal that is not only the session's, but this command's.
pub(crate) fn is_possible() -> bool {
    (io::stdin().is_terminal() || io::stderr().is_terminal()) && open().is_ok()
}

fn open() -> io::Result<File> {
    OpenOptions::new().read(true).write(true).open(TERMINAL)
}

/// Asks once.
pub(crate) fn ask(
    question: &str,
    interrupt: &Interrupt,
) -> Result<Zeroizing<String>, CommandError> {
    let terminal = open().or_fail(ExitCode::WrongKey, || {
        "the terminal cannot be opened".to_owned()
    })?;
    let answer = ask_at(&terminal, question, interrupt, Echo::Hidden)
        .or_fail(ExitCode::WrongKey, || "no passphrase was typed".to_owned());
    if let Some(stopped) = interrupt.as_error() {
        return Err(stopped);
    }
    let answer = answer.map_err(|error| error.hint("Run the command again and type it."))?;
    if answer.is_empty() {
        return Err(
            CommandError::new(ExitCode::WrongKey, "the passphrase is empty")
                .hint("Run the command again and type it."),
        );
    }
    Ok(answer)
}

/// Asks for a word, which is shown while it is typed.
pub(crate) fn ask_for_word(question: &str, interrupt: &Interrupt) -> Result<String, CommandError> {
    let terminal = open().or_fail(ExitCode::Refused, || {
        "the terminal cannot be opened".to_owned()
    })?;
    let answer = ask_at(&terminal, question, interrupt, Echo::Shown)
        .or_fail(ExitCode::Refused, || "nothing was typed".to_owned());
    match interrupt.as_error() {
        Some(stopped) => Err(stopped),
        None => answer.map(|answer| answer.trim().to_owned()),
    }
}

/// Asks for a new passphrase, twice, since a slip of the finger would lock everybody out.
pub(crate) fn ask_twice(interrupt: &Interrupt) -> Result<Zeroizing<String>, CommandError> {
    let first = ask("New passphrase: ", interrupt)?;
    let second = ask("The same again: ", interrupt)?;
    if *first == *second {
        return Ok(first);
    }
    Err(
        CommandError::new(ExitCode::WrongKey, "the two passphrases are not the same")
            .hint("Run the command again and type the same one twice."),
    )
}

/// Shows what is typed again when it is dropped.
struct Hidden<'a> {
    terminal: &'a File,
    before: Termios,
}

impl<'a> Hidden<'a> {
    fn hide(terminal: &'a File) -> io::Result<Self> {
        let before = tcgetattr(terminal)?;
        let mut hidden = before.clone();
        hidden.local_modes.remove(LocalModes::ECHO);
        // The line's end is shown, so that the next output begins on a new line.
        hidden
            .local_modes
            .insert(LocalModes::ECHONL | LocalModes::ICANON);
        // What was typed before the question is no answer to it.
        tcsetattr(terminal, OptionalActions::Flush, &hidden)?;
        Ok(Self { terminal, before })
    }
}

impl Drop for Hidden<'_> {
    fn drop(&mut self) {
        // A terminal that went away needs no restoring, and there is nobody to tell.
        let _ = tcsetattr(self.terminal, OptionalActions::Now, &self.before);
    }
}

/// Whether what is typed is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Echo {
    Hidden,
    Shown,
}

fn ask_at(
    terminal: &File,
    question: &str,
    interrupt: &Interrupt,
    echo: Echo,
) -> io::Result<Zeroizing<String>> {
    let _hidden = match echo {
        Echo::Hidden => Some(Hidden::hide(terminal)?),
        Echo::Shown => None,
    };
    let mut writer = terminal;
    writer.write_all(question.as_bytes())?;
    let line = read_line(terminal, interrupt).inspect_err(|_| {
        // What is said next begins on a new line.
        let _ = writer.write_all(b"\n");
    })?;
    let text = std::str::from_utf8(&line).map_err(|_| io::Error::other("it is not UTF-8"))?;
    Ok(Zeroizing::new(text.to_owned()))
}

/// Reads to the end of the line, which is taken off.
fn read_line(terminal: &File, interrupt: &Interrupt) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut line = Zeroizing::new(Vec::with_capacity(LINE_BYTES_MAX));
    let mut piece = Zeroizing::new([0; 256]);
    let mut reader = terminal;
    while !line.ends_with(b"\n") {
        wait(terminal, interrupt)?;
        let read = reader.read(&mut *piece)?;
        if read == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
        }
        if line.len() + read > LINE_BYTES_MAX {
            return Err(io::Error::other("the line is too long"));
        }
        line.extend_from_slice(&piece[..read]);
    }
    line.pop();
    Ok(line)
}

/// Waits for a line. Reading alone would be begun again by the system after a signal.
fn wait(terminal: &File, interrupt: &Interrupt) -> io::Result<()> {
    loop {
        if interrupt.is_set() {
            return Err(io::Error::from(io::ErrorKind::Interrupted));
        }
        match poll(
            &mut [PollFd::new(terminal, PollFlags::IN)],
            Some(&LOOK_EVERY),
        ) {
            Ok(0) | Err(Errno::INTR) => {}
            Ok(_) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}
