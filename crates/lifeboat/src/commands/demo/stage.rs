//! How the demonstration speaks: numbered sections, and under each what was done, in columns.
//!
//! All of it is written as it happens, so that a person can follow; programs get one summary at the end instead.

use std::time::Duration;

use lifeboat_app::{Bytes, Elapsed};

use crate::{
    error::CommandError,
    table::{Align, Table},
    text::printable,
    ui::Ui,
};

/// How wide the words are that say what a line is about.
const LABEL_WIDTH: usize = 12;

/// Speaks to the person who watches.
pub(super) struct Stage<'a> {
    ui: &'a Ui,
    sections: u32,
}

/// What one backup cost.
pub(super) struct Cost {
    /// Which backup.
    pub(super) name: &'static str,
    /// Bytes that its snapshot holds.
    pub(super) held: u64,
    /// Bytes that the repository did not have.
    pub(super) new: u64,
    /// Bytes that were stored for it.
    pub(super) stored: u64,
    /// How long it took.
    pub(super) elapsed: Duration,
}

impl<'a> Stage<'a> {
    /// Nothing is said yet.
    pub(super) fn new(ui: &'a Ui) -> Self {
        Self { ui, sections: 0 }
    }

    fn line(&self, line: &str) -> Result<(), CommandError> {
        if self.ui.is_json() {
            return Ok(());
        }
        self.ui.stdout(|out| writeln!(out, "{line}"))
    }

    /// Begins the next section.
    pub(super) fn section(&mut self, title: &str) -> Result<(), CommandError> {
        if self.sections > 0 {
            self.line("")?;
        }
        self.sections += 1;
        let (bold, number) = (self.ui.heading(), self.sections);
        self.line(&format!("{bold}{number}  {title}{bold:#}"))
    }

    /// Something was done, or found to be as it should be.
    pub(super) fn done(&self, label: &str, what: &str) -> Result<(), CommandError> {
        let good = self.ui.good();
        self.marked(&format!("{good}✓{good:#}"), label, what)
    }

    /// Something was found to be wrong.
    pub(super) fn wrong(&self, label: &str, what: &str) -> Result<(), CommandError> {
        let bad = self.ui.bad();
        self.marked(&format!("{bad}✗{bad:#}"), label, what)
    }

    /// Something happened that a person would like to undo.
    pub(super) fn noticed(&self, label: &str, what: &str) -> Result<(), CommandError> {
        let warned = self.ui.warned();
        self.marked(&format!("{warned}!{warned:#}"), label, what)
    }

    /// Something was left out.
    pub(super) fn left_out(&self, label: &str, why: &str) -> Result<(), CommandError> {
        self.marked("-", label, why)
    }

    fn marked(&self, mark: &str, label: &str, what: &str) -> Result<(), CommandError> {
        let what = printable(what);
        self.line(&format!("   {mark} {label:LABEL_WIDTH$} {what}"))
    }

    /// Says a sentence under what stands above it.
    pub(super) fn remark(&self, sentence: &str) -> Result<(), CommandError> {
        self.line(&format!("   {}", printable(sentence)))
    }

    /// Says how all of it ended.
    pub(super) fn verdict(&self, sentence: &str) -> Result<(), CommandError> {
        let good = self.ui.good();
        self.line(&format!("\n{good}{}{good:#}", printable(sentence)))
    }

    /// Shows what the backups cost.
    pub(super) fn costs<const BACKUPS: usize>(
        &self,
        costs: [Cost; BACKUPS],
    ) -> Result<(), CommandError> {
        if self.ui.is_json() {
            return Ok(());
        }
        let mut table = Table::new([
            // An empty column, so that the others stand under the marks of the other sections.
            (" ", Align::Left),
            ("Backup", Align::Left),
            ("Holds", Align::Right),
            ("New", Align::Right),
            ("Stored", Align::Right),
            ("Time", Align::Right),
        ]);
        for cost in costs {
            table.row([
                String::new(),
                cost.name.to_owned(),
                Bytes(cost.held).to_string(),
                Bytes(cost.new).to_string(),
                Bytes(cost.stored).to_string(),
                Elapsed(cost.elapsed).to_string(),
            ]);
        }
        let heading = self.ui.heading();
        self.ui.stdout(|out| table.write(out, heading))
    }

    /// Shows commands that a person may want to try, each with what it is for.
    pub(super) fn commands(
        &self,
        title: &str,
        commands: &[(String, &str)],
    ) -> Result<(), CommandError> {
        self.line(&format!("\n{title}"))?;
        for (command, sentence) in commands {
            self.line(&format!("   {}", printable(command)))?;
            self.line(&format!("      {sentence}"))?;
        }
        Ok(())
    }
}
