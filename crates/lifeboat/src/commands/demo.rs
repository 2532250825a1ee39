//! `lifeboat demo`: backs up, changes, restores and compares a sample app, without any set-up.
//!
//! Nothing here imitates anything: backups and restores are the calls that the other verbs make, and what comes back
//! is held against a twin of the app that no backup has seen. Invariant: nothing outside its own folder is touched,
//! and without `--keep` nothing stays, whether it ends well, badly or early.

mod stage;
mod place;
mod sample;
mod server;
mod comparison;
mod app;
mod trial;

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use lifeboat_app::{Bytes, Elapsed};
use serde::Serialize;

use self::{
    app::App,
    comparison::Comparison,
    place::Place,
    stage::{Cost, Stage},
    trial::{Point, Trial},
};
use crate::{
    context::Context,
    error::CommandError,
    exit_code::ExitCode,
    text::{count, counted},
};

/// The sample app's name.
const APP: &str = "sample";

/// Try everything on a sample app that is made, backed up, changed, restored and compared.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  lifeboat demo
  lifeboat demo --keep /tmp/lifeboat-demo")]
pub(crate) struct Args {
    /// Keep the app, the repository and what was restored in this new folder.
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
}

/// What the demonstration says at its end.
#[derive(Debug, Serialize)]
struct Summary<'a> {
    kept: Option<String>,
    postgres: Option<&'a str>,
    backups: [BackupFacts; 2],
    comparisons: &'a [Comparison],
    equal: bool,
    bytes_in_snapshots: u64,
    bytes_stored: u64,
    dedup_factor: f64,
    seconds: f64,
}

#[derive(Debug, Serialize)]
struct BackupFacts {
    snapshot: String,
    files: u64,
    bytes: u64,
    bytes_new: u64,
    bytes_stored: u64,
    seconds: f64,
}

/// What was played.
struct Played {
    postgres: Option<String>,
    points: [Point; 2],
    comparisons: Vec<Comparison>,
    bytes_stored: u64,
}

/// Plays it.
pub(super) fn run(args: &Args, context: &Context) -> Result<ExitCode, CommandError> {
    let started = Instant::now();
    let place = Place::make(args.keep.as_deref())?;
    let mut stage = Stage::new(context.ui());
    let played = play(context, &mut stage, place.path());
    let kept = args.keep.is_some().then(|| place.path().to_owned());
    if let Some(sentence) = place.leave() {
        context.ui().warning(&sentence);
    }
    let played = played?;
    let elapsed = started.elapsed();
    context
        .ui()
        .summary(&played.summary(kept.as_deref(), elapsed))?;
    if let Some(wrong) = played.comparisons.iter().find(|found| !found.equal) {
        return Err(not_equal(wrong));
    }
    let number = counted(played.comparisons.len() as u64, "comparison");
    stage.verdict(&format!(
        "Everything that came back is what went in: {number}, in {}.",
        Elapsed(elapsed)
    ))?;
    stage.commands("Now try:", &next_commands(kept.as_deref()))?;
    Ok(ExitCode::Done)
}

fn not_equal(wrong: &Comparison) -> CommandError {
    let Comparison {
        point,
        what,
        detail,
        ..
    } = wrong;
    CommandError::new(
        ExitCode::Failed,
        format!("what came back is not what went in: {what} of the {point}: {detail}"),
    )
    .hint("Do not rely on this version on this machine; --keep DIR keeps everything to look into.")
}

fn play(context: &Context, stage: &mut Stage<'_>, folder: &Path) -> Result<Played, CommandError> {
    stage.section("A sample app")?;
    let mut app = App::make(context, stage, folder)?;
    stage.section("A repository, encrypted")?;
    let mut trial = Trial::prepare(context, folder)?;
    stage.done("made", "with a key file; a passphrase would do as well")?;

    stage.section("First backup")?;
    let first = trial.back_up("first backup", &app, stage)?;
    stage.section("A day passes")?;
    app.change(context, stage)?;
    stage.section("Second backup")?;
    let second = trial.back_up("second backup", &app, stage)?;

    stage.section("Back to the first backup")?;
    trial.go_back(&first, &app, stage)?;
    stage.section("One deleted attachment alone")?;
    trial.fetch_lost(&first, &app, stage)?;
    stage.section("And to the second backup")?;
    app.twin.change()?;
    trial.go_back(&second, &app, stage)?;

    let stored = trial.repository.stored()?;
    let played = Played {
        postgres: app.server.map(|server| server.version().to_string()),
        points: [first, second],
        comparisons: trial.comparisons,
        bytes_stored: stored.bytes,
    };
    stage.section("What it cost")?;
    stage.costs(played.points.each_ref().map(cost))?;
    stage.remark(&format!(
        "Both together hold {}; the repository takes {} in {} objects: {:.1} times less.",
        Bytes(played.bytes_held()),
        Bytes(stored.bytes),
        count(stored.objects),
        played.dedup_factor()
    ))?;
    Ok(played)
}

impl Played {
    fn bytes_held(&self) -> u64 {
        let points = self.points.iter();
        points.map(|point| point.snapshot.head.totals.bytes).sum()
    }

    /// How many times more the snapshots hold than the repository takes.
    fn dedup_factor(&self) -> f64 {
        self.bytes_held() as f64 / self.bytes_stored.max(1) as f64
    }

    fn summary(&self, kept: Option<&Path>, elapsed: Duration) -> Summary<'_> {
        Summary {
            kept: kept.map(|path| path.display().to_string()),
            postgres: self.postgres.as_deref(),
            backups: self.points.each_ref().map(facts),
            comparisons: &self.comparisons,
            equal: self.comparisons.iter().all(|found| found.equal),
            bytes_in_snapshots: self.bytes_held(),
            bytes_stored: self.bytes_stored,
            dedup_factor: self.dedup_factor(),
            seconds: elapsed.as_secs_f64(),
        }
    }
}

fn cost(point: &Point) -> Cost {
    let totals = point.snapshot.head.totals;
    Cost {
        name: point.name,
        held: totals.bytes,
        new: totals.new_bytes,
        stored: totals.stored_bytes,
        elapsed: point.elapsed,
    }
}

fn facts(point: &Point) -> BackupFacts {
    let totals = point.snapshot.head.totals;
    BackupFacts {
        snapshot: point.snapshot.name.id.to_string(),
        files: totals.files,
        bytes: totals.bytes,
        bytes_new: totals.new_bytes,
        bytes_stored: totals.stored_bytes,
        seconds: point.elapsed.as_secs_f64(),
    }
}

/// What a person may do next.
fn next_commands(kept: Option<&Path>) -> [(String, &'static str); 3] {
    let Some(kept) = kept else {
        return [
            (
                "lifeboat demo --keep ./lifeboat-demo".to_owned(),
                "Keep it all, and look around in it.",
            ),
            (
                "lifeboat init -r /srv/lifeboat/repo".to_owned(),
                "Create a repository of your own.",
            ),
            (
                "lifeboat backup --app shop --source /srv/shop/uploads".to_owned(),
                "Back up an app of your own.",
            ),
        ];
    };
    let word = |name: &str| {
        let path = kept.join(name).display().to_string();
        shlex::try_quote(&path).map_or_else(|_| path.clone(), std::borrow::Cow::into_owned)
    };
    let (repository, key) = (word("repository"), word("key"));
    [
        (
            format!("export LIFEBOAT_REPOSITORY={repository} LIFEBOAT_KEY_FILE={key}"),
            "Say which repository is meant.",
        ),
        (
            format!("lifeboat diff {APP}~1 {APP}"),
            "See what changed between the backups.",
        ),
        (
            format!(
                "lifeboat restore {APP}~1:media/notes --target {}",
                word("notes")
            ),
            "Get a folder back as it was.",
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_done_next_can_be_pasted_into_a_shell() {
        let commands = next_commands(Some(Path::new("/tmp/my demo")));
        assert_eq!(
            commands[0].0,
            "export LIFEBOAT_REPOSITORY='/tmp/my demo/repository' LIFEBOAT_KEY_FILE='/tmp/my demo/key'"
        );
        assert!(
            next_commands(None)
                .iter()
                .all(|(command, _)| command.starts_with("lifeboat "))
        );
    }
}
