//! This run's place in the machine's history: a row, and a log of everything that was said.
//!
//! The history is a help, not a condition: when it cannot be written the run goes on, and says so once.

use std::{
    env,
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
};

use lifeboat_app::{History, HistoryError, Run, RunFacts};
use serde::Serialize;
use serde_json::Value;

use crate::exit_code::ExitCode;

/// The run that goes on, if one does that the history keeps.
#[derive(Debug, Default)]
pub(crate) struct Record {
    kept: Mutex<Option<Kept>>,
}

#[derive(Debug)]
struct Kept {
    run: Run,
    /// What the verb told programs at its end.
    summary: Option<Value>,
}

impl Record {
    /// Writes that `verb` begins into the history in `folder`; an unusable history that was put aside is told by the
    /// sentence that comes back.
    pub(crate) fn begin(
        &self,
        folder: &Path,
        verb: &str,
        repository: &str,
    ) -> Result<Option<String>, HistoryError> {
        let arguments: Vec<String> = env::args_os()
            .skip(1)
            .map(|word| word.to_string_lossy().into_owned())
            .collect();
        let history = History::open(folder)?;
        let run = history.begin(&RunFacts {
            verb,
            app: None,
            repository,
            arguments: &arguments,
        })?;
        *self.kept() = Some(Kept { run, summary: None });
        Ok(history.note().map(str::to_owned))
    }

    /// Writes which app the run turned out to be about.
    pub(crate) fn about(&self, app: &str) {
        if let Some(kept) = &*self.kept() {
            kept.run.about(app);
        }
    }

    /// Writes a line into the run's log.
    pub(crate) fn log(&self, line: &str) {
        if let Some(kept) = &*self.kept() {
            kept.run.log(line);
        }
    }

    /// Keeps what the verb tells programs at its end.
    pub(crate) fn keep(&self, facts: &impl Serialize) {
        if let Some(kept) = &mut *self.kept() {
            kept.summary = serde_json::to_value(facts).ok();
        }
    }

    /// Writes how the run ended.
    pub(crate) fn finish(&self, code: ExitCode) -> Result<(), HistoryError> {
        let Some(Kept { run, summary }) = self.kept().take() else {
            return Ok(());
        };
        run.finish(code.number().into(), summary.as_ref())
    }

    fn kept(&self) -> MutexGuard<'_, Option<Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
