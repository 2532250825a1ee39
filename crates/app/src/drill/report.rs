//! What a drill found, as data: the report that is kept and shown.

use serde::{Deserialize, Serialize};

use crate::references::ReferenceCounts;

/// Sentences of one sort that are kept; more are counted.
const SENTENCES_MAX: usize = 200;

/// How a drill ended that judged the backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Everything came back as it was.
    Passed,
    /// There is a problem with the backup.
    Failed,
}

/// What a drill found.
#[derive(Clone, Debug, Serialize)]
pub struct DrillReport {
    /// The app.
    pub app: String,
    /// The snapshot's id.
    pub snapshot: String,
    /// When the snapshot was begun.
    pub snapshot_ms: u64,
    /// The machine that made the snapshot.
    pub snapshot_host: String,
    /// The machine that drilled.
    pub host: String,
    /// The program that drilled.
    pub program: String,
    /// When the drill began.
    pub started_ms: u64,
    /// When it ended.
    pub finished_ms: u64,
    /// How it ended.
    pub verdict: Verdict,
    /// The server's start, the databases, the files and the dumps: the time to recovery.
    pub restore_ms: u64,
    /// What is wrong with the backup.
    pub problems: Vec<String>,
    /// What should be looked at.
    pub warnings: Vec<String>,
    /// What was done, in order.
    pub steps: Vec<DrillStep>,
    /// The databases.
    pub databases: Vec<DrilledDatabase>,
    /// The files.
    pub files: DrilledFiles,
    /// Rows and the files that they name.
    pub references: Vec<DrilledReferences>,
    /// What the configuration asked.
    pub checks: Vec<DrilledCheck>,
}

/// One step.
#[derive(Clone, Debug, Serialize)]
pub struct DrillStep {
    /// What was done.
    pub what: String,
    /// What came of it.
    pub result: String,
    /// How long it took.
    pub elapsed_ms: u64,
}

/// One restored database.
#[derive(Clone, Debug, Default, Serialize)]
pub struct DrilledDatabase {
    /// The source.
    pub source: String,
    /// `postgres`, `sqlite`, or `dump` for what a program wrote.
    pub kind: String,
    /// The server, or the library, that has it now.
    pub server: String,
    /// All its rows.
    pub rows: u64,
    /// Its tables; nothing where the list was left out for its length.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tables: Option<Vec<DrilledTable>>,
    /// Foreign keys that hold for all rows.
    pub foreign_keys: u64,
    /// Whether the rows of each table have the hash that the snapshot says.
    pub hashes_equal: bool,
}

/// One table of it.
#[derive(Clone, Debug, Serialize)]
pub struct DrilledTable {
    /// `public.orders`.
    pub table: String,
    /// How many rows came back.
    pub rows: u64,
    /// How many the snapshot has; nothing where it leaves them out, or does not count them.
    pub expected: Option<u64>,
}

/// The restored files.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct DrilledFiles {
    /// How many.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Secrets that were read and not written.
    pub secrets: u64,
    /// Files whose content was held against a SHA-256 that the app keeps.
    pub hashed: u64,
}

/// The rows that name a folder's files.
#[derive(Clone, Debug, Serialize)]
pub struct DrilledReferences {
    /// The folder.
    pub source: String,
    /// Values that name a file.
    pub references: u64,
    /// Distinct paths among them.
    pub files: u64,
    /// Paths at which nothing is.
    pub missing: u64,
    /// Paths at which a file of another size is.
    pub differing: u64,
    /// Paths at which something is that is no file.
    pub no_files: u64,
    /// Files that no row names.
    pub orphans: u64,
}

impl DrilledReferences {
    pub(super) fn of(source: &str, counts: &ReferenceCounts) -> Self {
        Self {
            source: source.to_owned(),
            references: counts.references,
            files: counts.files,
            missing: counts.missing,
            differing: counts.differing,
            no_files: counts.no_files,
            orphans: counts.orphans,
        }
    }
}

/// One question of the configuration.
#[derive(Clone, Debug, Serialize)]
pub struct DrilledCheck {
    /// The statement, or the command's name.
    pub check: String,
    /// Whether it is as it should be.
    pub holds: bool,
    /// How long it took.
    pub elapsed_ms: u64,
}

impl DrillReport {
    /// The exact text that is signed and kept.
    #[must_use]
    pub fn text(&self) -> String {
        serde_json::to_string(self).expect("a report has text keys and no failing parts")
    }

    /// The same without the lists of tables.
    #[must_use]
    pub(super) fn shorter(&self) -> Self {
        let mut short = self.clone();
        short
            .databases
            .iter_mut()
            .for_each(|database| database.tables = None);
        short
    }
}

/// Adds a sentence, as long as there are not too many already.
pub(super) fn add(sentences: &mut Vec<String>, sentence: String) {
    match sentences.len() {
        count if count < SENTENCES_MAX => sentences.push(sentence),
        SENTENCES_MAX => sentences.push("There is more of this.".to_owned()),
        _ => {}
    }
}
