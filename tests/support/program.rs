//! The program, run as a person or a script would run it.
//!
//! **Invariant**: a run sees nothing of the machine's own configuration, cache, state or secrets. Each [`Lifeboat`] has
//! a folder of its own with all of them in it; it disappears with the value.

use std::{
    ffi::OsStr,
    fmt, fs,
    io::Write,
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;

/// The program under test.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_lifeboat");

/// The words that open the repositories of tests.
const PASSPHRASE: &str = "correct horse battery staple";

/// The program and a folder in which it lives: configuration, cache, state, a repository and its key file.
pub(crate) struct Lifeboat {
    folder: TempDir,
}

impl Lifeboat {
    /// A machine without a repository.
    pub(crate) fn new() -> Self {
        let folder = tempfile::Builder::new()
            .prefix("lifeboat-test-")
            .tempdir()
            .expect("a folder for temporary files");
        let machine = Self { folder };
        for name in ["home", "config", "cache", "state", "runtime"] {
            fs::create_dir(machine.path(name)).expect("a folder in our own");
        }
        fs::write(machine.passphrase_file(), PASSPHRASE).expect("a file in our own folder");
        machine
    }

    /// A machine with an empty repository, which its key file opens (no passphrase has to be stretched for it).
    pub(crate) fn with_repository() -> Self {
        let machine = Self::new();
        let mut init = machine.command();
        init.env_remove("LIFEBOAT_KEY_FILE")
            .args(["init", "--password-file"])
            .arg(machine.passphrase_file())
            .arg("--key-file")
            .arg(machine.key_file());
        Ran::of(init).done();
        machine
    }

    /// Where everything of this machine lies.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A path in the machine's folder; nothing is made there.
    pub(crate) fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The repository's place, `repository` in the machine's folder.
    pub(crate) fn repository(&self) -> PathBuf {
        self.path("repository")
    }

    /// The file with the passphrase.
    pub(crate) fn passphrase_file(&self) -> PathBuf {
        self.path("passphrase")
    }

    /// The key file that opens the repository.
    pub(crate) fn key_file(&self) -> PathBuf {
        self.path("key")
    }

    /// The program, ready for its arguments: no terminal, UTC, and of the outer environment only `PATH` and `TMPDIR`.
    pub(crate) fn command(&self) -> Command {
        self.command_of(PROGRAM)
    }

    /// Another program in the same surroundings.
    pub(crate) fn command_of(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command.env_clear();
        for kept in ["PATH", "TMPDIR", "LIFEBOAT_PG_BIN"] {
            if let Some(value) = std::env::var_os(kept) {
                command.env(kept, value);
            }
        }
        command
            .current_dir(self.folder())
            .stdin(Stdio::null())
            .env("HOME", self.path("home"))
            .env("XDG_CONFIG_HOME", self.path("config"))
            .env("XDG_CACHE_HOME", self.path("cache"))
            .env("XDG_STATE_HOME", self.path("state"))
            .env("XDG_RUNTIME_DIR", self.path("runtime"))
            .env("LANG", "C.UTF-8")
            .env("TZ", "UTC")
            .env("LIFEBOAT_REPOSITORY", self.repository())
            .env("LIFEBOAT_KEY_FILE", self.key_file());
        command
    }

    /// Runs the program with these arguments.
    pub(crate) fn run<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Ran {
        let mut command = self.command();
        command.args(arguments);
        Ran::of(command)
    }

    /// Runs the program with these arguments and this standard input.
    pub(crate) fn run_with_input<A: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = A>,
        input: &[u8],
    ) -> Ran {
        let mut command = self.command();
        command.args(arguments);
        Ran::with_input(command, input)
    }
}

/// How a run ended and what it said.
pub(crate) struct Ran {
    /// The command line, for messages.
    line: String,
    /// The exit code; 128 + n when signal n ended it.
    pub(crate) code: i32,
    /// Standard output, which may be content.
    pub(crate) output: Vec<u8>,
    /// Standard error.
    pub(crate) stderr: String,
}

impl fmt::Debug for Ran {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            line, code, stderr, ..
        } = self;
        let stdout = String::from_utf8_lossy(&self.output);
        write!(
            out,
            "the run ended with {code}: {line}\n--- stdout\n{stdout}\n--- stderr\n{stderr}"
        )
    }
}

impl Ran {
    /// Runs a command to its end.
    pub(crate) fn of(mut command: Command) -> Self {
        let output = command.output().expect("the program can be started");
        Self::ended(&command, output)
    }

    pub(crate) fn with_input(mut command: Command, input: &[u8]) -> Self {
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().expect("the program can be started");
        let mut stdin = child.stdin.take().expect("standard input is a pipe");
        let output = thread::scope(|scope| {
            // A program that ends before it has read everything is judged by its exit code.
            scope.spawn(move || {
                let _ = stdin.write_all(input);
            });
            child.wait_with_output()
        });
        Self::ended(&command, output.expect("the program can be waited for"))
    }

    fn ended(command: &Command, output: Output) -> Self {
        let signal = output.status.signal();
        Self {
            line: format!("{command:?}"),
            code: output
                .status
                .code()
                .or(signal.map(|number| 128 + number))
                .expect("it ended by exit or signal"),
            output: output.stdout,
            stderr: String::from_utf8(output.stderr).expect("messages are UTF-8"),
        }
    }

    /// Standard output as text.
    pub(crate) fn stdout(&self) -> &str {
        std::str::from_utf8(&self.output).expect("standard output is UTF-8 here")
    }

    /// Fails the test unless the run did everything (exit code 0).
    #[track_caller]
    pub(crate) fn done(self) -> Self {
        self.ends_with_code(0)
    }

    /// Fails the test unless the run ended with this code.
    #[track_caller]
    pub(crate) fn ends_with_code(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{self:?}");
        self
    }

    /// What `--json` printed, one value for each line.
    #[track_caller]
    pub(crate) fn json(&self) -> Vec<serde_json::Value> {
        let parse = |line| {
            serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in the line {line}"))
        };
        self.stdout().lines().map(parse).collect()
    }
}

/// Longer than a program that was asked to stop may take.
const STOP_MAX: Duration = Duration::from_secs(5);

/// Waits until a program that was asked to stop has ended, and returns its exit code.
#[track_caller]
pub(crate) fn ends_soon(child: &mut Child) -> Option<i32> {
    let begun = Instant::now();
    loop {
        if let Some(ended) = child.try_wait().expect("a child can be waited for") {
            return ended.code();
        }
        if begun.elapsed() > STOP_MAX {
            child.kill().expect("a child can be killed");
            child.wait().expect("a child can be waited for");
            panic!("it did not end within {STOP_MAX:?}");
        }
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_machine_of_a_test_holds_all_that_the_program_keeps() {
    let machine = Lifeboat::with_repository();
    assert!(machine.repository().join("lifeboat").is_file());
    let key = fs::read_to_string(machine.key_file()).unwrap();
    assert!(key.starts_with("lifeboat key 1\n"), "{key}");

    let keys = machine
        .run(["key", "list", "--json"])
        .done()
        .json()
        .remove(0);
    let keys = keys.as_array().unwrap();
    let key_file_in_use =
        |key: &serde_json::Value| key["kind"] == "key file" && key["current"] == true;
    assert_eq!(keys.len(), 3, "{keys:?}");
    assert!(keys.iter().any(key_file_in_use), "{keys:?}");
    assert_eq!(fs::read_dir(machine.path("home")).unwrap().count(), 0);
}

#[test]
fn what_a_run_reads_and_says_is_caught() {
    let machine = Lifeboat::new();
    let missing = machine.run(["snapshots"]).ends_with_code(10);
    assert!(missing.stdout().is_empty());
    assert!(missing.stderr.starts_with("error: "), "{}", missing.stderr);
    assert!(missing.stderr.contains("\nhint: "), "{}", missing.stderr);

    let version = machine.run_with_input(["version", "--json"], &[0; 1 << 20]);
    assert_eq!(version.done().json().len(), 1);
}
