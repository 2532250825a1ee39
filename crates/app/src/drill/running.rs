//! A program of the configuration at work: the app itself, or one that tries it.
//!
//! Invariant: whatever it has started in its process group ends with it, and with the drill. Signals go to the group only
//! while its leader has not been waited for, so its number is nobody else's.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};

use crate::redact::redact;
use crate::source::SECRET_VARIABLES;
use crate::text::shown_path;

/// How soon the end of a program is noticed.
pub(super) const SLICE: Duration = Duration::from_millis(50);
/// How long a program may take to end once it is asked to.
const GRACE: Duration = Duration::from_secs(5);
/// What is told of a program's words.
const SAID_BYTES_MAX: usize = 2048;

/// A program at work.
pub(super) struct Running {
    child: Child,
    group: Pid,
    said: File,
    is_over: Option<ExitStatus>,
}

impl Running {
    /// Starts it with these variables in addition; what it says goes to a file in `folder`, of its output only where
    /// that is `kept`.
    pub(super) fn start(
        run: &[String],
        variables: Vec<(String, String)>,
        folder: &Path,
        kept: bool,
    ) -> io::Result<Self> {
        let nothing = || io::Error::other("no program is named");
        let (program, arguments) = run.split_first().ok_or_else(nothing)?;
        // A file takes whatever is said without anybody reading along.
        let said = tempfile::tempfile_in(folder)?;
        let output = if kept {
            Stdio::from(said.try_clone()?)
        } else {
            Stdio::null()
        };
        let mut command = Command::new(program);
        for variable in SECRET_VARIABLES {
            command.env_remove(variable);
        }
        // A service or an address of this process would lead past the drill's server, to the running one.
        let surrounding = std::env::vars_os().map(|(name, _)| name);
        for variable in surrounding.filter(|name| name.as_encoded_bytes().starts_with(b"PG")) {
            command.env_remove(variable);
        }
        // The passphrase may lie there.
        command.env_remove("CREDENTIALS_DIRECTORY");
        let child = command
            .args(arguments)
            .envs(variables)
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(said.try_clone()?)
            .process_group(0)
            .spawn()?;
        Ok(Self {
            group: Pid::from_child(&child),
            child,
            said,
            is_over: None,
        })
    }

    /// How it ended, if it has; then what it had started is ended too.
    pub(super) fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        if self.is_over.is_none() {
            // It stays to be waited for, and its number with it.
            let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
            if waitid(WaitId::Pid(self.group), options)?.is_some() {
                self.kill()?;
            }
        }
        Ok(self.is_over)
    }

    /// Asks it to end, and sees to it that it does.
    pub(super) fn end(&mut self) -> io::Result<()> {
        if self.is_over.is_some() {
            return Ok(());
        }
        // A group whose members have all ended takes no signal.
        let _ = kill_process_group(self.group, Signal::TERM);
        let asked = Instant::now();
        while self.ended()?.is_none() {
            if asked.elapsed() > GRACE {
                return self.kill();
            }
            std::thread::sleep(SLICE);
        }
        Ok(())
    }

    /// What tells a later drill which program this is, should nobody end it.
    pub(super) fn mark(&self) -> io::Result<String> {
        mark(self.group)
    }

    fn kill(&mut self) -> io::Result<()> {
        let _ = kill_process_group(self.group, Signal::KILL);
        self.is_over = Some(self.child.wait()?);
        Ok(())
    }

    /// The end of what it said, in one line, behind a colon.
    pub(super) fn last_words(&self) -> String {
        // The file's own place is the program's as well.
        let mut bytes = vec![0; SAID_BYTES_MAX];
        let read = self.said.metadata().and_then(|found| {
            let from = found.len().saturating_sub(SAID_BYTES_MAX as u64);
            self.said.read_at(&mut bytes, from)
        });
        bytes.truncate(read.unwrap_or(0));
        let said = String::from_utf8_lossy(&bytes).trim().replace('\n', " / ");
        if said.is_empty() {
            return String::new();
        }
        format!(": {}", shown_path(redact(&said).as_bytes()))
    }
}

/// A program's number, and what no other program of that number has: when it began, in which run of the machine.
fn mark(pid: Pid) -> io::Result<String> {
    let number = pid.as_raw_nonzero();
    let status = fs::read_to_string(format!("/proc/{number}/stat"))?;
    // The name before it may have spaces in it.
    let fields = status.rsplit_once(')').map_or("", |(_, fields)| fields);
    let begun = fields.split_whitespace().nth(19).unwrap_or_default();
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    Ok(format!("{number} {begun} {}", boot.trim()))
}

/// Ends a program, and its group, that a drill has left which was killed.
pub(super) fn end_marked(text: &str) {
    let number = text
        .split(' ')
        .next()
        .and_then(|number| number.parse().ok());
    if let Some(pid) = number.and_then(Pid::from_raw)
        && mark(pid).is_ok_and(|found| found == text)
    {
        let _ = kill_process_group(pid, Signal::KILL);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(script: &str) -> Running {
        let run = ["sh", "-c", script].map(str::to_owned);
        Running::start(&run, Vec::new(), &std::env::temp_dir(), true).unwrap()
    }

    fn is_alive(pid: &str) -> bool {
        let status = fs::read_to_string(format!("/proc/{}/stat", pid.trim()));
        status.is_ok_and(|status| !status.contains(") Z "))
    }

    /// A signal is there soon, but not at once.
    #[track_caller]
    fn goes(pid: &str) {
        let begun = Instant::now();
        while is_alive(pid) {
            assert!(begun.elapsed() < Duration::from_secs(20), "{pid} lives");
            std::thread::sleep(SLICE);
        }
    }

    fn says(running: &Running) -> String {
        let begun = Instant::now();
        while running.last_words().is_empty() && begun.elapsed() < Duration::from_secs(20) {
            std::thread::sleep(SLICE);
        }
        running.last_words()[2..].to_owned()
    }

    #[test]
    fn what_a_program_has_started_ends_with_it() {
        // One that ends by itself, one that is ended, and one that does not listen.
        for (script, is_asked) in [
            ("sleep 600 & echo $!; sleep 0.3", false),
            ("sleep 600 & echo $!; wait", true),
        ] {
            let mut running = start(script);
            let child = says(&running);
            assert!(is_alive(&child), "{child}");
            if is_asked {
                running.end().unwrap();
            }
            while running.ended().unwrap().is_none() {
                std::thread::sleep(SLICE);
            }
            goes(&child);
        }
        let marked = start("sleep 600 & echo $!; wait");
        let (child, mark) = (says(&marked), marked.mark().unwrap());
        end_marked(&mark.replace(' ', " 1"));
        assert!(is_alive(&child));
        end_marked(&mark);
        goes(&child);
        let mut deaf = start("trap '' TERM; echo $$; while :; do sleep 1; done");
        let pid = says(&deaf);
        let begun = Instant::now();
        deaf.end().unwrap();
        assert!(begun.elapsed() >= GRACE);
        goes(&pid);
    }
}
