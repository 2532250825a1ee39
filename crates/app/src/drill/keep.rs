//! A report signed, kept in the repository as a note, and found there again.

use lifeboat_codec::{Note, Notes, SnapshotId};
use lifeboat_repository::{Repository, Snapshot, WriteError};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::report::{DrillReport, Verdict};

/// The kind of a note that a drill leaves.
const KIND: &str = "drill";
/// Every command that lists snapshots reads all notes: a longer report is kept without its tables.
const REPORT_BYTES_MAX: usize = 64 << 10;

/// A report as it is handed to people who have no repository.
#[derive(Clone, Debug, Serialize)]
pub struct SignedDrill {
    /// The exact text of the report.
    pub report: String,
    /// Its SHA-256, in hexadecimal.
    pub sha256: String,
    /// The writer who signed.
    pub writer: String,
    /// That writer's Ed25519 public key, in hexadecimal.
    pub public_key: String,
    /// The signature over `"lifeboat 1 drill report\n"` and the text, in hexadecimal.
    pub signature: String,
}

/// What a note of a drill says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptDrill {
    /// How the drill ended.
    pub verdict: Verdict,
    /// When it ended.
    pub finished_ms: u64,
    /// How long it took until the app was there again.
    pub restore_ms: u64,
    /// The SHA-256 of the report's text.
    pub sha256: String,
}

#[derive(Serialize)]
struct Kept<'a> {
    #[serde(flatten)]
    drill: &'a KeptDrill,
    report: &'a DrillReport,
}

/// Signs a report, and keeps it as a note about the snapshot.
///
/// # Errors
/// When the note cannot be stored.
pub fn keep_drill(
    repository: &mut Repository,
    snapshot: &Snapshot,
    report: &DrillReport,
) -> Result<SignedDrill, WriteError> {
    let text = report.text();
    let sha256 = hex(&Sha256::digest(text.as_bytes()));
    let drill = KeptDrill {
        verdict: report.verdict,
        finished_ms: report.finished_ms,
        restore_ms: report.restore_ms,
        sha256: sha256.clone(),
    };
    let short;
    let kept = if text.len() > REPORT_BYTES_MAX {
        short = report.shorter();
        &short
    } else {
        report
    };
    let value = Kept {
        drill: &drill,
        report: kept,
    };
    let signed = repository.sign_report(&text)?;
    repository.say(&Note {
        snapshot: snapshot.name.id,
        kind: KIND.to_owned(),
        value: serde_json::to_string(&value).expect("a report has text keys and no failing parts"),
        removes: None,
        said_ms: report.finished_ms,
    })?;
    Ok(SignedDrill {
        report: text,
        sha256,
        writer: signed.writer.to_string(),
        public_key: hex(&signed.public),
        signature: hex(&signed.signature),
    })
}

/// The last drill of a snapshot.
#[must_use]
pub fn drilled(notes: &Notes, snapshot: SnapshotId) -> Option<KeptDrill> {
    let drills = notes.of(snapshot).filter(|(_, note)| note.kind == KIND);
    // A note that cannot be understood is no proof of anything.
    let last = drills.filter_map(|(_, note)| serde_json::from_str(&note.value).ok());
    last.last()
}

/// Signed reports as one JSON text.
#[must_use]
pub fn signed_drills(drills: &[SignedDrill]) -> String {
    let value = serde_json::json!({ "drills": drills });
    format!("{value:#}\n")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
