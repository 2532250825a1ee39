//! What checking or verifying found, told to people as it is found and to programs as data.
//!
//! Damage is a problem that is named at once; what should be looked at is a warning; what is only left behind is said
//! when details are wanted.

use std::{collections::BTreeSet, ops::Range, sync::Mutex};

use lifeboat_repository::{Counter, Finding, Progress, Severity};
use serde::Serialize;

use crate::{
    text::sentence,
    ui::{Ui, Watch},
};

/// One finding for programs.
#[derive(Debug, Serialize)]
pub(super) struct FindingFacts {
    severity: &'static str,
    object: String,
    what: String,
    bytes: Option<Bytes>,
    snapshots: Vec<String>,
    paths: Vec<String>,
    more_paths: u64,
}

/// Where in the object, the end not included.
#[derive(Debug, Serialize)]
struct Bytes {
    from: u64,
    to: u64,
}

/// Tells findings and remembers which were told.
pub(super) struct Teller<'a> {
    ui: &'a Ui,
    watch: &'a Watch<'a>,
    told: Mutex<BTreeSet<String>>,
    /// What the work says of itself while it goes on; findings of every severity come the same way.
    is_live: bool,
}

impl<'a> Teller<'a> {
    /// For work that calls damage alone a problem, as soon as it is found.
    pub(super) fn live(ui: &'a Ui, watch: &'a Watch<'a>) -> Self {
        Self {
            ui,
            watch,
            told: Mutex::default(),
            is_live: true,
        }
    }

    /// For work that knows only at its end how bad each finding is.
    pub(super) fn at_end(ui: &'a Ui, watch: &'a Watch<'a>) -> Self {
        Self {
            is_live: false,
            ..Self::live(ui, watch)
        }
    }

    /// Tells what was not told yet.
    pub(super) fn tell(&self, findings: &[Finding]) {
        for finding in findings {
            let text = finding.to_string();
            match finding.severity {
                Severity::Damage if !self.is_new(&text) => {}
                Severity::Damage => self.watch.problem(&text),
                Severity::Warning => self.ui.warning(&as_sentence(finding)),
                Severity::Note => self.ui.detail(&as_sentence(finding)),
            }
        }
    }

    fn is_new(&self, text: &str) -> bool {
        let mut told = self
            .told
            .lock()
            .expect("no thread panics with what was told");
        told.insert(text.to_owned())
    }
}

impl Progress for Teller<'_> {
    fn phase(&self, what: &str) {
        self.watch.phase(what);
    }

    fn expect(&self, counter: Counter, amount: u64) {
        self.watch.expect(counter, amount);
    }

    fn count(&self, counter: Counter, amount: u64) {
        self.watch.count(counter, amount);
    }

    fn problem(&self, what: &str) {
        if self.is_live && self.is_new(what) {
            self.watch.problem(what);
        }
    }
}

/// An object's name begins with a small letter, whatever the rules of sentences are.
fn as_sentence(finding: &Finding) -> String {
    let text = finding.to_string();
    if finding.object.is_empty() {
        sentence(&text)
    } else {
        text
    }
}

/// The findings for programs.
pub(super) fn facts(findings: &[Finding]) -> Vec<FindingFacts> {
    findings.iter().map(fact).collect()
}

fn fact(finding: &Finding) -> FindingFacts {
    let concerns = &finding.concerns;
    let path = |path: &Vec<u8>| lifeboat_app::shown_path(path);
    FindingFacts {
        severity: match finding.severity {
            Severity::Note => "note",
            Severity::Warning => "warning",
            Severity::Damage => "damage",
        },
        object: finding.object.clone(),
        what: finding.what.clone(),
        bytes: finding.bytes.clone().map(|Range { start, end }| Bytes {
            from: start,
            to: end,
        }),
        snapshots: concerns.snapshots.iter().map(ToString::to_string).collect(),
        paths: concerns.paths.iter().map(path).collect(),
        more_paths: concerns.more_paths,
    }
}
