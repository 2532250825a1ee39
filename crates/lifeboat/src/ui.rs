//! What the program says, and where: answers on standard output, everything about the work on standard error.
//!
//! With `--json` both go to standard output as one JSON object per line. A bar is drawn only on a terminal, and
//! whatever is said while it stands appears above it. This is the only file that names the library of the bar.

use std::{
    env,
    fmt::Display,
    io::{self, BufWriter, IsTerminal, Write},
    sync::{
        Mutex, PoisonError,
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::{Duration, Instant},
};

use clap::builder::styling::{AnsiColor, Style};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use lifeboat_repository::{Counter, Progress};
use serde::Serialize;

use crate::{
    error::CommandError,
    record::Record,
    tally::{Pace, Tally},
    text,
};

const ERROR: Style = AnsiColor::Red.on_default().bold();
const WARNING: Style = AnsiColor::Yellow.on_default().bold();
const HINT: Style = AnsiColor::Green.on_default().bold();
const GOOD: Style = AnsiColor::Green.on_default();
const HEADING: Style = Style::new().bold();

/// How often the bar is drawn.
const BAR_EVERY: Duration = Duration::from_millis(125);
/// How often programs hear how far the work is.
const STATUS_EVERY: Duration = Duration::from_millis(500);

const TEMPLATE_SHARE: &str = "{spinner} {bar:16} {wide_msg}";
const TEMPLATE_OPEN: &str = "{spinner} {wide_msg}";

/// When colours are used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum ColorWhen {
    /// On a terminal, unless NO_COLOR is set.
    #[default]
    Auto,
    /// Everywhere.
    Always,
    /// Nowhere.
    Never,
}

impl ColorWhen {
    fn is_wanted(self, is_terminal: bool) -> bool {
        let asked_not_to = || env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        match self {
            Self::Always => true,
            Self::Never => false,
            Self::Auto => is_terminal && !is_dumb() && !asked_not_to(),
        }
    }
}

fn is_dumb() -> bool {
    env::var_os("TERM").is_some_and(|term| term == "dumb")
}

/// How the person who calls wants to be spoken to.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Manner {
    /// JSON lines on standard output.
    pub(crate) json: bool,
    /// Only answers, warnings and errors.
    pub(crate) quiet: bool,
    /// Details too.
    pub(crate) verbose: bool,
    /// No bar and no `status` messages.
    pub(crate) no_progress: bool,
    /// Colours.
    pub(crate) color: ColorWhen,
    /// Standard output carries content, such as a dump, and nothing else.
    pub(crate) stdout_is_content: bool,
}

/// Speaks to whoever called the program.
#[derive(Debug)]
pub(crate) struct Ui {
    manner: Manner,
    color_stdout: bool,
    color_stderr: bool,
    draws: bool,
    /// The bar that stands now; text on standard error must go above it.
    bar: Mutex<Option<ProgressBar>>,
    /// Everything that is said about the work stands in the run's log too.
    record: Record,
}

impl Ui {
    /// Looks once at what standard output and standard error are.
    pub(crate) fn new(manner: Manner) -> Self {
        let stderr_is_terminal = io::stderr().is_terminal();
        Self {
            manner,
            color_stdout: manner.color.is_wanted(io::stdout().is_terminal()),
            color_stderr: manner.color.is_wanted(stderr_is_terminal),
            draws: stderr_is_terminal && !is_dumb() && !manner.json && !manner.quiet,
            bar: Mutex::new(None),
            record: Record::default(),
        }
    }

    /// True when answers are wanted as JSON.
    pub(crate) fn is_json(&self) -> bool {
        self.manner.json
    }

    /// This run in the machine's history.
    pub(crate) fn record(&self) -> &Record {
        &self.record
    }

    /// The style of headings on standard output.
    pub(crate) fn heading(&self) -> Style {
        self.styled_stdout(HEADING)
    }

    /// The style of what is as it should be, on standard output.
    pub(crate) fn good(&self) -> Style {
        self.styled_stdout(GOOD)
    }

    /// The style of what should be looked at, on standard output.
    pub(crate) fn warned(&self) -> Style {
        self.styled_stdout(WARNING)
    }

    /// The style of what is wrong, on standard output.
    pub(crate) fn bad(&self) -> Style {
        self.styled_stdout(ERROR)
    }

    fn styled_stdout(&self, style: Style) -> Style {
        if self.color_stdout {
            style
        } else {
            Style::new()
        }
    }

    /// Writes an answer for people, or content, to standard output.
    pub(crate) fn stdout(
        &self,
        write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> Result<(), CommandError> {
        let mut out = BufWriter::with_capacity(64 << 10, io::stdout().lock());
        let written = write(&mut out).and_then(|()| out.flush());
        // What could not be written must not be tried again when the buffer is dropped.
        let _ = out.into_parts();
        written.map_err(|error| CommandError::output(&error))
    }

    /// Writes an answer for programs: one JSON value on a line.
    pub(crate) fn answer(&self, value: &impl Serialize) -> Result<(), CommandError> {
        let line = json_line(value);
        self.stdout(|out| out.write_all(line.as_bytes()))
    }

    /// Writes an answer item by item while `walk` finds them: for programs one JSON array on a line, for people a line
    /// each. An answer of any length takes no more memory than one item; when `walk` fails, what it found stands there
    /// already.
    pub(crate) fn list(
        &self,
        walk: impl FnOnce(&mut Items<'_>) -> Result<(), CommandError>,
    ) -> Result<(), CommandError> {
        let mut walked = Ok(());
        self.stdout(|out| {
            let mut items = Items {
                out,
                is_json: self.is_json(),
                count: 0,
                written: Ok(()),
            };
            if items.is_json {
                items.out.write_all(b"[")?;
            }
            walked = walk(&mut items);
            items.written?;
            // What fails in the middle is told by the exit code; what was found until then can be read.
            if items.is_json {
                items.out.write_all(b"]\n")?;
            }
            Ok(())
        })?;
        walked
    }

    /// Writes the last message of a long command, for programs; people get sentences. The history keeps it.
    pub(crate) fn summary(&self, facts: &impl Serialize) -> Result<(), CommandError> {
        self.record.keep(facts);
        self.secret_summary(facts)
    }

    /// Writes the last message of a long command that nobody may keep.
    pub(crate) fn secret_summary(&self, facts: &impl Serialize) -> Result<(), CommandError> {
        if !self.is_json() {
            return Ok(());
        }
        self.answer(&Message {
            message_type: "summary",
            facts,
        })
    }

    /// Says a sentence about the work, unless quiet is wanted.
    pub(crate) fn note(&self, sentence: &str) {
        self.record.log(sentence);
        if !self.manner.quiet {
            self.say(&text::printable(sentence));
        }
    }

    /// Says a sentence that only `-v` asks for.
    pub(crate) fn detail(&self, sentence: &str) {
        self.record.log(sentence);
        if self.manner.verbose {
            self.say(&text::printable(sentence));
        }
    }

    /// Says what should be looked at and stops nothing.
    pub(crate) fn warning(&self, sentence: &str) {
        self.record.log(&format!("warning: {sentence}"));
        self.say_labelled(WARNING, "warning:", &text::printable(sentence));
    }

    /// Says what could not be handled while the work goes on; `what` names it.
    pub(crate) fn problem(&self, what: &str) {
        self.record.log(&format!("problem: {what}"));
        if self.is_json() {
            self.tell("error", &ProblemFacts { message: what });
        } else {
            self.say_labelled(WARNING, "problem:", &text::printable(what));
        }
    }

    /// Says why the command failed.
    pub(crate) fn failure(&self, error: &CommandError) {
        for (label, sentence) in error.lines() {
            self.record.log(&format!("{label} {sentence}"));
        }
        if error.is_silent() {
            return;
        }
        if self.manner.json {
            self.tell("exit_error", &error.facts());
            return;
        }
        for (label, sentence) in error.lines() {
            let style = if label == "hint:" { HINT } else { ERROR };
            self.say_labelled(style, label, &sentence);
        }
    }

    fn say_labelled(&self, style: Style, label: &str, sentence: &str) {
        let style = if self.color_stderr {
            style
        } else {
            Style::new()
        };
        self.say(&format!("{style}{label}{style:#} {sentence}"));
    }

    /// Writes a line to standard error, above the bar. When that fails there is nowhere to say so.
    fn say(&self, line: &dyn Display) {
        let write = || {
            let _ = io::stderr().write_all(format!("{line}\n").as_bytes());
        };
        match &*self.bar.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(bar) => bar.suspend(write),
            None => write(),
        }
    }

    /// Writes a message for programs in the middle of the work; the last message notices when nobody reads.
    fn tell(&self, message_type: &'static str, facts: &impl Serialize) {
        let line = json_line(&Message {
            message_type,
            facts,
        });
        let _ = if self.manner.stdout_is_content {
            io::stderr().write_all(line.as_bytes())
        } else {
            let mut out = io::stdout().lock();
            out.write_all(line.as_bytes()).and_then(|()| out.flush())
        };
    }

    /// Does long work and shows how far it is until it returns.
    pub(crate) fn watched<T>(&self, work: impl FnOnce(&Watch<'_>) -> T) -> T {
        let tally = Tally::new(Instant::now());
        let bar = (self.draws && !self.manner.no_progress).then(new_bar);
        let shows_status = self.manner.json && !self.manner.no_progress && !self.manner.quiet;
        let shows = bar.is_some() || shows_status;
        self.put_bar(bar.clone());
        let done = thread::scope(|scope| {
            // The ticker ends when `stop` is dropped, by a panic too; the scope then joins it.
            let (stop, stopped) = mpsc::channel::<()>();
            if shows {
                let (bar, tally) = (bar.as_ref(), &tally);
                scope.spawn(move || tick(self, tally, bar, &stopped));
            }
            let done = work(&Watch {
                ui: self,
                tally: &tally,
            });
            drop(stop);
            done
        });
        self.put_bar(None);
        done
    }

    /// Puts a bar in the place of the one that stands, which is wiped.
    fn put_bar(&self, bar: Option<ProgressBar>) {
        let mut place = self.bar.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(old) = std::mem::replace(&mut *place, bar) {
            old.finish_and_clear();
        }
    }
}

fn new_bar() -> ProgressBar {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(10));
    bar.set_style(style(TEMPLATE_OPEN));
    bar
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template)
        .expect("the templates are written correctly")
        .progress_chars("━╸─")
}

/// Shows how far the work is until it is told to stop.
fn tick(ui: &Ui, tally: &Tally, bar: Option<&ProgressBar>, stopped: &mpsc::Receiver<()>) {
    let every = if bar.is_some() {
        BAR_EVERY
    } else {
        STATUS_EVERY
    };
    let mut pace = Pace::default();
    let mut has_share = false;
    while stopped.recv_timeout(every) == Err(RecvTimeoutError::Timeout) {
        let standing = tally.look(Instant::now(), &mut pace);
        let Some(bar) = bar else {
            ui.tell("status", &standing.status());
            continue;
        };
        if let Some((done, expected)) = standing.share() {
            if !has_share {
                bar.set_style(style(TEMPLATE_SHARE));
                has_share = true;
            }
            bar.set_length(expected);
            bar.set_position(done);
        }
        bar.set_message(standing.line());
        bar.tick();
    }
}

/// A message for programs.
#[derive(Serialize)]
struct Message<'a, T> {
    message_type: &'static str,
    #[serde(flatten)]
    facts: &'a T,
}

fn json_line(value: &impl Serialize) -> String {
    let mut line = json(value);
    line.push('\n');
    line
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("answers have text keys and no failing parts")
}

/// Takes the items of an answer, one after the other.
pub(crate) struct Items<'o> {
    out: &'o mut dyn Write,
    is_json: bool,
    count: u64,
    written: io::Result<()>,
}

impl Items<'_> {
    /// Writes one item; false when nobody reads any more.
    pub(crate) fn put<T: Serialize>(
        &mut self,
        facts: impl FnOnce() -> T,
        line: impl FnOnce() -> String,
    ) -> bool {
        if self.written.is_ok() {
            self.written = if self.is_json {
                let before = if self.count > 0 { "," } else { "" };
                write!(self.out, "{before}{}", json(&facts()))
            } else {
                writeln!(self.out, "{}", line())
            };
            self.count += 1;
        }
        self.written.is_ok()
    }

    /// How many there were.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }
}

/// Receives what happens in one long command.
#[derive(Debug)]
pub(crate) struct Watch<'a> {
    ui: &'a Ui,
    tally: &'a Tally,
}

impl Progress for Watch<'_> {
    fn phase(&self, what: &str) {
        self.tally.begin(what);
        self.ui.detail(what);
    }

    fn expect(&self, counter: Counter, amount: u64) {
        self.tally.expect(counter, amount);
    }

    fn count(&self, counter: Counter, amount: u64) {
        self.tally.count(counter, amount);
    }

    fn problem(&self, what: &str) {
        self.tally.problem();
        self.ui.problem(what);
    }
}

/// The fields of the message `error`: one item that could not be handled.
#[derive(Serialize)]
struct ProblemFacts<'a> {
    message: &'a str,
}
