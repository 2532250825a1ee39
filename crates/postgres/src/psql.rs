//! A session that `psql` leads for us where no connection of our own goes: inside a container, by way of another program.
//!
//! Statements go in over its standard input, one at a time. Rows come back as `COPY` writes them, which is the one form
//! of `psql`'s output that cannot be misread; a line that no such row can be ends each answer and tells how the
//! statement ended. Behind it comes the server's message, in which whoever owns a table may have a word. So our lines have
//! one of their own, which is drawn for each session and never sent to the server. Invariant: an answer counts only with
//! its line; `psql` that ends before it is an error, and so is every later question.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{ChildStdin, ChildStdout, Stdio},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
};

use crate::{
    child::{self, ProgramError, Running},
    connect::{ConnectError, QueryError, Row, SESSION},
    settings::Settings,
};

const PROGRAM: &str = "psql";

/// How many random bytes a session's word has.
const WORD_LEN_BYTES: usize = 16;
/// The state of a statement that did what it was to do.
const SUCCESS: &str = "00000";
/// How many letters a state has.
const STATE_LETTERS: usize = 5;

/// How long `psql` may take to end when nothing more is asked of it.
const GRACE: Duration = Duration::from_secs(5);

/// The lines of ours in what `psql` writes. In a row a backslash never has a dot behind it.
struct Marks {
    /// What ends an answer.
    ended: String,
    /// What ends the message behind it, which may have several lines.
    told: String,
}

impl Marks {
    fn draw() -> Self {
        let mut word = [0; WORD_LEN_BYTES];
        getrandom::fill(&mut word).expect("the operating system has randomness");
        let word: String = word.iter().map(|byte| format!("{byte:02x}")).collect();
        Self {
            ended: format!("\\.{word} state "),
            told: format!("\\.{word} told\n"),
        }
    }

    /// What is asked at first.
    fn greeting(&self) -> String {
        format!("\\echo '\\{}'\n", self.told.trim_end())
    }

    /// What is asked behind each statement. Variables of `psql` stand as they are in the words behind a command.
    fn how_it_ended(&self) -> String {
        format!(
            "\n;\n\\echo '\\{}' :SQLSTATE\n\\echo :LAST_ERROR_MESSAGE\n{}",
            self.ended.trim_end(),
            self.greeting()
        )
    }
}

/// See the module.
pub(crate) struct Psql(Mutex<Process>);

struct Process {
    /// Nothing once the session has ended.
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    running: Running,
    marks: Marks,
}

impl Psql {
    /// Starts `psql` by way of the settings' program and sets the session up.
    pub(crate) fn open(settings: &Settings) -> Result<Self, ConnectError> {
        let target = settings.display();
        let unreachable = |source: ProgramError| ConnectError::Unreachable {
            target: target.clone(),
            source: source.into(),
        };
        let mut command = child::command(Path::new(PROGRAM), Some(settings));
        command
            .args([
                "--no-psqlrc",
                "--no-password",
                "--no-align",
                "--tuples-only",
                "--quiet",
            ])
            .arg("--dbname")
            .arg(settings.conninfo())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut running = Running::start_as(PROGRAM, command).map_err(unreachable)?;
        let child = running.child();
        let input = child.stdin.take();
        let output = child.stdout.take().expect("standard output is a pipe");
        let mut process = Process {
            input,
            output: BufReader::new(output),
            running,
            marks: Marks::draw(),
        };
        if !process.answers_within(settings.connect_timeout) {
            return Err(ConnectError::Timeout {
                target,
                timeout: settings.connect_timeout,
            });
        }
        let session = Self(Mutex::new(process));
        for statement in SESSION {
            let done = session.execute("set up the session", statement);
            done.map_err(|source| match source.sqlstate {
                Some(_) => ConnectError::Refused {
                    target: target.clone(),
                    source,
                },
                // It ended, and has said why.
                None => ConnectError::Unreachable {
                    target: target.clone(),
                    source: source.message.into(),
                },
            })?;
        }
        Ok(session)
    }

    /// Runs one statement without a result. `what` completes "cannot …".
    pub(crate) fn execute(&self, what: &str, sql: &str) -> Result<(), QueryError> {
        self.exchange(what, sql).map(drop)
    }

    /// All rows of a query. `what` completes "cannot …".
    pub(crate) fn rows(&self, what: &str, sql: &str) -> Result<Vec<Row>, QueryError> {
        let lines = self.exchange(what, &format!("COPY ({sql}\n) TO STDOUT"))?;
        lines
            .iter()
            .map(|line| row(line).ok_or_else(|| QueryError::shape(what)))
            .collect()
    }

    /// The lines that a statement gives.
    fn exchange(&self, what: &str, sql: &str) -> Result<Vec<Vec<u8>>, QueryError> {
        let failed = |message: String, sqlstate| QueryError {
            what: what.to_owned(),
            message,
            sqlstate,
        };
        let mut process = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let answer = process
            .exchange(sql)
            .map_err(|message| failed(message, None))?;
        match answer.state.as_str() {
            SUCCESS => Ok(answer.lines),
            state if state.len() == STATE_LETTERS => {
                Err(failed(answer.message, Some(answer.state)))
            }
            _ => Err(failed(
                "psql is older than version 11 and does not tell how a statement ended".to_owned(),
                None,
            )),
        }
    }
}

/// How a statement ended, and what it gave.
struct Answer {
    lines: Vec<Vec<u8>>,
    state: String,
    message: String,
}

impl Process {
    /// The error is what became of `psql`.
    fn exchange(&mut self, sql: &str) -> Result<Answer, String> {
        let Some(input) = &mut self.input else {
            return Err("psql has ended".to_owned());
        };
        let sent = input
            .write_all(format!("{sql}{}", self.marks.how_it_ended()).as_bytes())
            .and_then(|()| input.flush());
        let answer = match sent {
            Ok(()) => self.answer(),
            Err(_) => None,
        };
        answer.ok_or_else(|| {
            self.input = None;
            match self.running.wait_for(GRACE) {
                Ok(_) => "psql ended before it had answered".to_owned(),
                Err(error) => error.to_string(),
            }
        })
    }

    /// Whether a first word comes in time, which is when the way and the server have let `psql` in; or its end.
    fn answers_within(&mut self, time: Duration) -> bool {
        // What became of `psql` when it takes no question, the first statement tells.
        if let Some(input) = &mut self.input {
            let _ = input.write_all(self.marks.greeting().as_bytes());
        }
        let slice = Timespec {
            tv_sec: time.as_secs().try_into().unwrap_or(i64::MAX),
            tv_nsec: 0,
        };
        let deadline = Instant::now() + time;
        loop {
            let output = self.output.get_ref();
            match poll(&mut [PollFd::new(output, PollFlags::IN)], Some(&slice)) {
                Ok(0) => return false,
                Err(Errno::INTR) if Instant::now() < deadline => {}
                Err(_) => return false,
                Ok(_) => {
                    let first = self.line();
                    return first.is_none_or(|line| line == self.marks.told.as_bytes());
                }
            }
        }
    }

    /// Nothing when the output ends before the answer does.
    fn answer(&mut self) -> Option<Answer> {
        let mut lines = Vec::new();
        let state = loop {
            let mut line = self.line()?;
            if let Some(state) = line.strip_prefix(self.marks.ended.as_bytes()) {
                break String::from_utf8_lossy(state).trim_end().to_owned();
            }
            line.pop();
            lines.push(line);
        };
        let mut message = Vec::new();
        loop {
            let line = self.line()?;
            if line == self.marks.told.as_bytes() {
                break;
            }
            message.extend(line);
        }
        let message = String::from_utf8_lossy(&message).trim_end().to_owned();
        Some(Answer {
            lines,
            state,
            message,
        })
    }

    /// The next whole line with its end.
    fn line(&mut self) -> Option<Vec<u8>> {
        let mut line = Vec::new();
        self.output.read_until(b'\n', &mut line).ok()?;
        line.ends_with(b"\n").then_some(line)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // What it reads ends, and it by itself: a program on the way that is ended instead may leave it behind.
        self.input = None;
        // How it ended is of no interest: what counted has been answered.
        let _ = self.running.wait_for(GRACE);
    }
}

/// One row in the text form of `COPY`. Nothing when it is none.
fn row(line: &[u8]) -> Option<Row> {
    line.split(|byte| *byte == b'\t').map(value).collect()
}

fn value(field: &[u8]) -> Option<Option<String>> {
    if field == b"\\N" {
        return Some(None);
    }
    let mut text = Vec::with_capacity(field.len());
    let mut bytes = field.iter();
    while let Some(byte) = bytes.next() {
        text.push(match byte {
            b'\\' => match bytes.next()? {
                b'b' => 0x08,
                b't' => b'\t',
                b'n' => b'\n',
                b'v' => 0x0b,
                b'f' => 0x0c,
                b'r' => b'\r',
                other => *other,
            },
            other => *other,
        });
    }
    String::from_utf8(text).ok().map(Some)
}

#[cfg(test)]
mod tests;
