//! Child programs of PostgreSQL: started with an environment that holds nothing but what we say, watched to their end.
//!
//! A program succeeds only when it exits with 0; what it wrote to standard error is kept (bounded) and quoted when it
//! failed. Invariant: no password is ever an argument, and no child outlives the value that stands for it.

use std::{
    fmt,
    io::{self, Read, Write},
    os::unix::process::ExitStatusExt as _,
    path::{Path, PathBuf},
    process::{Child, ChildStderr, ChildStdin, Command, ExitStatus, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{OFlags, fcntl_getfl, fcntl_setfl},
    io::Errno,
    process::{Pid, Signal, kill_process},
};

use crate::settings::{Settings, Via};

/// How soon the wish to stop is noticed.
const SLICE: Duration = Duration::from_millis(50);

/// How long a program may take to end after it was asked to.
const GRACE: Duration = Duration::from_secs(5);

/// What the variables that open a repository begin with.
const OUR_VARIABLES: &[u8] = b"LIFEBOAT_";

/// What a program of PostgreSQL puts behind its name where something failed.
const FAILURES: [&str; 2] = [": error: ", ": fatal: "];

/// How much of a child's standard error is kept: the end of it.
const STDERR_LEN_BYTES_MAX: usize = 64 << 10;

/// How many of its last messages an error quotes: the server's three words (error, detail, context) and what the program and
/// its worker say of them.
const MESSAGES_QUOTED: usize = 5;

/// A program that could not be started, or did not end well.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProgramError {
    /// It could not be started.
    #[error("cannot start {}", program.display())]
    Start {
        /// The program's path.
        program: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Reading from it, writing to it or waiting for it failed.
    #[error("lost contact with {program}")]
    Contact {
        /// The program's name.
        program: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// It was ended because the work is to stop.
    #[error("{program} was stopped")]
    Stopped {
        /// The program's name.
        program: String,
    },
    /// It ended with another exit code than 0, or by a signal; or with 0 although it had told of an error, which what
    /// stands between it and us may have swallowed.
    #[error("{program} ended with {ended}{}", quoted(program, stderr))]
    Failed {
        /// The program's name.
        program: String,
        /// How it ended.
        ended: Ended,
        /// What it wrote to standard error, the last 64 KiB of it.
        stderr: String,
    },
}

/// How a program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// With this exit code.
    Code(i32),
    /// By this signal.
    Signal(i32),
}

impl From<ExitStatus> for Ended {
    fn from(status: ExitStatus) -> Self {
        match (status.code(), status.signal()) {
            (Some(code), _) => Self::Code(code),
            (None, Some(signal)) => Self::Signal(signal),
            (None, None) => unreachable!("a process that was waited for has a code or a signal"),
        }
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(formatter, "exit code {code}"),
            Self::Signal(number) => {
                let name = match number {
                    1 => " (SIGHUP)",
                    2 => " (SIGINT)",
                    6 => " (SIGABRT)",
                    9 => " (SIGKILL)",
                    11 => " (SIGSEGV)",
                    13 => " (SIGPIPE)",
                    15 => " (SIGTERM)",
                    _ => "",
                };
                write!(formatter, "signal {number}{name}")
            }
        }
    }
}

/// The last messages, each in its first words: what `program` puts before each, explanations on indented lines, and the
/// statement that failed are left out.
fn quoted(program: &str, stderr: &str) -> String {
    let own = format!("{program}: ");
    let mut messages = Vec::new();
    let mut in_statement = false;
    for line in stderr.lines().filter(|line| !line.trim().is_empty()) {
        let begins = line.starts_with(&own);
        let message = line.strip_prefix(&own).unwrap_or(line);
        let message = ["error: ", "detail: ", "Error message from server: "]
            .into_iter()
            .fold(message, |text, label| {
                text.strip_prefix(label).unwrap_or(text)
            });
        in_statement = message.starts_with("Command was:") || (in_statement && !begins);
        if !in_statement && !line.starts_with(char::is_whitespace) {
            messages.push(message.trim_end().trim_end_matches('.'));
        }
    }
    let last = &messages[messages.len().saturating_sub(MESSAGES_QUOTED)..];
    if last.is_empty() {
        " and no message".to_owned()
    } else {
        format!(": {}", last.join("; "))
    }
}

/// A command whose environment holds the settings and nothing of ours.
///
/// `HOME` leads nowhere, so that libpq finds no password, service or certificate file that the settings do not name;
/// messages are in English, so that they can be searched for.
///
/// A program that runs where the server is has the environment of that place. What leads there gets ours, but for what
/// opens a repository, and our folder: it may look for its own files in both.
pub(crate) fn command(program: &Path, settings: Option<&Settings>) -> Command {
    if let Some(via) = settings.and_then(|settings| settings.via.as_ref()) {
        return by_way_of(via, program);
    }
    let mut command = Command::new(program);
    command
        .env_clear()
        .env("HOME", "/nonexistent")
        .env("LC_ALL", "C")
        .env("TZ", "UTC")
        .stdin(Stdio::null())
        .current_dir("/");
    if let Some(settings) = settings {
        command.envs(settings.environment());
    }
    command
}

fn by_way_of(via: &Via, program: &Path) -> Command {
    let (first, arguments) = via.argv.split_first().expect("a way is never empty");
    let mut command = Command::new(first);
    let ours = std::env::vars_os().map(|(name, _)| name);
    for name in ours.filter(|name| name.as_encoded_bytes().starts_with(OUR_VARIABLES)) {
        command.env_remove(name);
    }
    command.args(arguments).arg(program).stdin(Stdio::null());
    command
}

/// The name of the program that a command begins with, without its folder.
fn own_name(command: &Command) -> String {
    let name = Path::new(command.get_program()).file_name();
    name.unwrap_or_default().to_string_lossy().into_owned()
}

/// A running child together with the thread that reads its standard error.
///
/// Dropping it ends the child, by its handle alone, and waits for both.
pub(crate) struct Running {
    name: String,
    child: Child,
    stderr: Option<JoinHandle<Vec<u8>>>,
}

impl Running {
    /// Starts `command`, whose standard error is taken over.
    pub(crate) fn start(command: Command) -> Result<Self, ProgramError> {
        Self::start_as(&own_name(&command), command)
    }

    /// As [`start`](Self::start), where `command` may begin with another program, by way of which `name` is run.
    pub(crate) fn start_as(name: &str, mut command: Command) -> Result<Self, ProgramError> {
        let program = PathBuf::from(command.get_program());
        let mut child =
            command
                .stderr(Stdio::piped())
                .spawn()
                .map_err(|source| ProgramError::Start {
                    program: program.clone(),
                    source,
                })?;
        let stderr = child.stderr.take().expect("standard error is a pipe");
        Ok(Self {
            name: name.to_owned(),
            child,
            stderr: Some(std::thread::spawn(move || read_tail(stderr))),
        })
    }

    pub(crate) fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Waits for the end; `Ok` holds what was written to standard error by a program that exited with 0.
    pub(crate) fn wait(&mut self) -> Result<String, ProgramError> {
        let status = self.child.wait().map_err(|source| self.contact(source))?;
        self.judge(status)
    }

    /// As [`wait`](Self::wait), but ends the child when `stop` is set meanwhile.
    pub(crate) fn wait_unless(&mut self, stop: &AtomicBool) -> Result<String, ProgramError> {
        while !stop.load(Ordering::Relaxed) {
            let status = self
                .child
                .try_wait()
                .map_err(|source| self.contact(source))?;
            if let Some(status) = status {
                return self.judge(status);
            }
            std::thread::sleep(SLICE);
        }
        self.kill();
        Err(ProgramError::Stopped {
            program: self.name.clone(),
        })
    }

    fn judge(&mut self, status: ExitStatus) -> Result<String, ProgramError> {
        let stderr = self.join();
        let failed = |line: &str| {
            let said = line.strip_prefix(&self.name).unwrap_or_default();
            FAILURES.iter().any(|failure| said.starts_with(failure))
        };
        match Ended::from(status) {
            Ended::Code(0) if !stderr.lines().any(failed) => Ok(stderr),
            ended => Err(ProgramError::Failed {
                program: self.name.clone(),
                ended,
                stderr,
            }),
        }
    }

    /// As [`wait`](Self::wait), but ends the child when it does not end by itself in time.
    pub(crate) fn wait_for(&mut self, time: Duration) -> Result<String, ProgramError> {
        let deadline = Instant::now() + time;
        while Instant::now() < deadline {
            let status = self
                .child
                .try_wait()
                .map_err(|source| self.contact(source))?;
            if let Some(status) = status {
                return self.judge(status);
            }
            std::thread::sleep(SLICE / 5);
        }
        self.kill();
        Err(ProgramError::Stopped {
            program: self.name.clone(),
        })
    }

    /// Ends the child, whatever it is doing.
    ///
    /// It is asked first: PostgreSQL's programs then cancel what the server does for them, and end their workers,
    /// which would otherwise live on and hold their locks.
    pub(crate) fn kill(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            // It is not waited for yet, so its number cannot have gone to another process.
            let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
            let deadline = Instant::now() + GRACE;
            while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < deadline {
                std::thread::sleep(SLICE / 5);
            }
        }
        // An error means that it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.join();
    }

    pub(crate) fn contact(&self, source: io::Error) -> ProgramError {
        ProgramError::Contact {
            program: self.name.clone(),
            source,
        }
    }

    fn join(&mut self) -> String {
        let bytes = self
            .stderr
            .take()
            .map(|thread| {
                thread
                    .join()
                    .expect("the reader of standard error does not panic")
            })
            .unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A child's standard input, which is written to only until the work is to stop.
pub(crate) struct Input<'a> {
    pipe: ChildStdin,
    stop: &'a AtomicBool,
}

impl<'a> Input<'a> {
    /// A full pipe is waited for here and not by the system, which would not look at `stop`.
    pub(crate) fn new(pipe: ChildStdin, stop: &'a AtomicBool) -> io::Result<Self> {
        fcntl_setfl(&pipe, fcntl_getfl(&pipe)? | OFlags::NONBLOCK)?;
        Ok(Self { pipe, stop })
    }
}

impl Write for Input<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        const WAIT: Timespec = Timespec {
            tv_sec: 0,
            tv_nsec: 50_000_000,
        };
        while !self.stop.load(Ordering::Relaxed) {
            match self.pipe.write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return result,
            }
            match poll(&mut [PollFd::new(&self.pipe, PollFlags::OUT)], Some(&WAIT)) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Err(io::Error::other("it was asked to stop"))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Runs `command` to its end and gives what it wrote to standard output and standard error.
pub(crate) fn output(command: Command) -> Result<(Vec<u8>, String), ProgramError> {
    output_as(&own_name(&command), command)
}

/// As [`output`], where `command` may begin with another program, by way of which `name` is run.
pub(crate) fn output_as(
    name: &str,
    mut command: Command,
) -> Result<(Vec<u8>, String), ProgramError> {
    command.stdout(Stdio::piped());
    let mut running = Running::start_as(name, command)?;
    let mut stdout = running
        .child()
        .stdout
        .take()
        .expect("standard output is a pipe");
    let mut bytes = Vec::new();
    stdout
        .read_to_end(&mut bytes)
        .map_err(|source| running.contact(source))?;
    let stderr = running.wait()?;
    Ok((bytes, stderr))
}

/// Reads to the end and keeps the last [`STDERR_LEN_BYTES_MAX`] bytes.
fn read_tail(mut stderr: ChildStderr) -> Vec<u8> {
    let mut kept = Vec::new();
    let mut buffer = [0; 8 << 10];
    loop {
        match stderr.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => {
                kept.extend_from_slice(&buffer[..count]);
                let excess = kept.len().saturating_sub(STDERR_LEN_BYTES_MAX);
                kept.drain(..excess);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => break,
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = command(Path::new("/bin/sh"), None);
        command.args(["-c", script]);
        command
    }

    #[test]
    fn what_a_program_said_is_quoted_in_its_first_words() {
        let said = "pg_dump: error: Dumping the contents of table \"t\" failed: PQgetResult() failed.\n\
                    pg_dump: detail: Error message from server: FATAL:  terminating connection\n\
                    server closed the connection unexpectedly\n\
                    \tThis probably means the server terminated abnormally\n\
                    \tbefore or while processing the request.\n\
                    pg_dump: detail: Command was: COPY public.t (n)\nTO stdout;\n";
        assert_eq!(
            quoted("pg_dump", said),
            ": Dumping the contents of table \"t\" failed: PQgetResult() failed; FATAL:  terminating connection; \
             server closed the connection unexpectedly"
        );
        assert_eq!(quoted("pg_dump", "\n \n"), " and no message");
    }

    #[test]
    fn success_is_exit_code_0_and_nothing_else() {
        let (stdout, stderr) = output(shell("echo out; echo err >&2")).unwrap();
        assert_eq!(stdout, b"out\n");
        assert_eq!(stderr, "err\n");
        let error = output(shell(
            "echo full output; echo first >&2; echo last >&2; exit 3",
        ))
        .unwrap_err();
        assert_eq!(error.to_string(), "sh ended with exit code 3: first; last");
        let error = output(shell("kill -9 $$")).unwrap_err();
        assert_eq!(
            error.to_string(),
            "sh ended with signal 9 (SIGKILL) and no message"
        );
        let error = output(command(Path::new("/no/such/program"), None)).unwrap_err();
        assert_eq!(error.to_string(), "cannot start /no/such/program");
    }

    #[test]
    fn standard_error_is_bounded_and_its_end_is_kept() {
        let script = "i=0; while [ $i -lt 3000 ]; do echo 0123456789012345678901234567890123456789 >&2; i=$((i+1)); done; echo the end >&2; exit 1";
        let Err(ProgramError::Failed { stderr, .. }) = output(shell(script)) else {
            panic!("the script fails");
        };
        assert_eq!(stderr.len(), STDERR_LEN_BYTES_MAX);
        assert!(stderr.ends_with("the end\n"));
    }

    #[test]
    fn the_environment_holds_the_settings_and_nothing_of_ours() {
        let settings = Settings::over_socket(Path::new("/run/pg"), 6000, "ann", "shop");
        let mut command = command(Path::new("/usr/bin/env"), Some(&settings));
        command.stdout(Stdio::piped());
        let (stdout, _) = output(command).unwrap();
        let text = String::from_utf8(stdout).unwrap();
        let mut names: Vec<_> = text
            .lines()
            .filter_map(|line| line.split_once('=').map(|(name, _)| name))
            .filter(|name| !name.starts_with("PG"))
            .collect();
        names.sort_unstable();
        assert_eq!(names, ["HOME", "LC_ALL", "TZ"]);
        assert!(text.contains("PGHOST=/run/pg\n"));
        assert!(text.contains("PGDATABASE=shop\n"));
    }
}
