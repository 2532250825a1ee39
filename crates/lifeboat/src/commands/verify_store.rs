//! `lifeboat verify-store`: whether every object is what was written, without any key.

use std::time::Instant;

use lifeboat_app::{Bytes, Elapsed};
use lifeboat_repository::{OpenError, Verification};
use serde::Serialize;

use super::findings::{self, FindingFacts, Teller};
use crate::{context::Context, error::CommandError, exit_code::ExitCode, text::counted};

/// Check that every object in the storage is what was written; needs no key.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  lifeboat verify-store
  lifeboat verify-store -r /mnt/offsite/repo --json")]
pub(crate) struct Args {}

/// What a verification says at its end.
#[derive(Debug, Serialize)]
struct Summary<'a> {
    objects: u64,
    bytes: u64,
    damage: usize,
    findings: Vec<FindingFacts>,
    strangers: &'a [String],
    seconds: f64,
}

/// Verifies. Ends with 4 when an object is damaged or gone.
pub(super) fn run(_args: &Args, context: &Context) -> Result<ExitCode, CommandError> {
    let started = Instant::now();
    let store = context.open_store(&context.location()?)?;
    let (ui, stop) = (context.ui(), context.interrupt().flag());
    let found = ui.watched(|watch| -> Result<Verification, CommandError> {
        let teller = Teller::live(ui, watch);
        let found = lifeboat_repository::verify_store(store.as_ref(), &teller, stop)?;
        // A folder without a single object is the wrong folder, not a damaged repository.
        if found.objects > 0 {
            teller.tell(&found.findings);
        }
        Ok(found)
    })?;
    context.going_on()?;
    if found.objects == 0 {
        return Err(OpenError::NoRepository.into());
    }
    context.warn_of_store(store.as_ref());
    let elapsed = started.elapsed();
    ui.summary(&Summary {
        objects: found.objects,
        bytes: found.bytes,
        damage: found.findings.len(),
        findings: findings::facts(&found.findings),
        strangers: &found.strangers,
        seconds: elapsed.as_secs_f64(),
    })?;
    for name in &found.strangers {
        ui.warning(&format!(
            "{name} is no object of a repository, and is left alone."
        ));
    }
    ui.note(&format!(
        "Verified {}, {}, in {}.",
        counted(found.objects, "object"),
        Bytes(found.bytes),
        Elapsed(elapsed)
    ));
    if found.findings.is_empty() {
        ui.note("Every object is what was written.");
        return Ok(ExitCode::Done);
    }
    ui.warning(&format!(
        "Found {} of damage; `lifeboat check` says what cannot come back because of it.",
        counted(found.findings.len() as u64, "case")
    ));
    Ok(ExitCode::Problem)
}
