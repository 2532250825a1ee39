//! `lifeboat find`: where a file is, in which snapshots.

use std::os::unix::ffi::OsStrExt;

use jiff::tz::TimeZone;
use lifeboat_app::{Item, Step, clock_time, shown_path, told_unread};
use lifeboat_repository::{ReadError, Snapshot};
use serde::Serialize;

use super::{
    ls::{Listed, listed},
    unread::UnreadItems,
};
use crate::{
    context::Context, error::CommandError, exit_code::ExitCode, selection::refuse_unknown_app,
    text::counted,
};

/// Find files by their names in all snapshots.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  lifeboat find logo.png
  lifeboat find '*.pdf' shop
  lifeboat find '**/thumbs/*.png'")]
pub(crate) struct Args {
    /// A name or pattern; with a slash it fits the whole path from the snapshot's top, without one the name.
    ///
    /// `*` and `?` stand for letters of one name, `**` for any path: `**/thumbs/*.png` finds them at any depth.
    #[arg(value_name = "PATTERN")]
    pattern: std::ffi::OsString,

    /// Look only into the snapshots of this app.
    #[arg(value_name = "APP")]
    app: Option<String>,
}

/// One hit in the answer.
#[derive(Debug, Serialize)]
struct Hit {
    snapshot: String,
    app: String,
    started_ms: u64,
    item: Listed,
}

/// Looks into every snapshot, newest first.
pub(super) fn run(args: &Args, context: &Context) -> Result<ExitCode, CommandError> {
    let pattern = Pattern::new(args.pattern.as_bytes());
    let repository = context.open_to_read()?;
    let list = repository.snapshots()?;
    if let Some(app) = &args.app {
        refuse_unknown_app(app, &list, context)?;
    }
    let zone = context.time_zone()?;
    let fits = |snapshot: &&Snapshot| {
        args.app
            .as_ref()
            .is_none_or(|app| *app == snapshot.head.app)
    };
    let mut unread = UnreadItems::default();
    for sentence in list.damaged {
        unread.add(sentence);
    }
    let (mut searched, mut hits) = (0, 0);
    context.ui().list(|items| {
        for snapshot in list.snapshots.iter().rev().filter(fits) {
            let reader = repository.reader(snapshot.head.domain)?;
            let mut is_read = true;
            let mut lost = |path: &[u8], error: &ReadError| {
                let short = snapshot.name.id.short();
                unread.add(format!("{short}: {}", told_unread(path, error)));
            };
            let walked =
                lifeboat_app::walk_tree(&reader, &snapshot.head.root, b"", &mut |path, item| {
                    match item {
                        Ok(item) if pattern.fits(path) => {
                            is_read = items.put(
                                || hit(snapshot, &item, &zone),
                                || line(snapshot, &item, &zone),
                            );
                        }
                        Ok(_) => {}
                        Err(error) => lost(path, &error),
                    }
                    if is_read && !context.interrupt().is_set() {
                        Step::Into
                    } else {
                        Step::End
                    }
                });
            if let Err(error) = walked {
                lost(b"", &error);
            }
            if let Some(stopped) = context.interrupt().as_error() {
                return Err(stopped);
            }
            if !is_read {
                break;
            }
            searched += 1;
        }
        hits = items.count();
        Ok(())
    })?;
    if hits == 0 {
        context.ui().note(&pattern.nothing(searched));
    }
    Ok(unread.tell(context))
}

fn hit(snapshot: &Snapshot, item: &Item, zone: &TimeZone) -> Hit {
    Hit {
        snapshot: snapshot.name.id.to_string(),
        app: snapshot.head.app.clone(),
        started_ms: snapshot.head.started_ms,
        item: listed(item, zone),
    }
}

fn line(snapshot: &Snapshot, item: &Item, zone: &TimeZone) -> String {
    format!(
        "{}  {}  {}:{}",
        snapshot.name.id.short(),
        clock_time(snapshot.head.started_ms, zone),
        snapshot.head.app,
        shown_path(&item.path)
    )
}

/// `*` and `?` fit within a name, `**` across names; without a slash the last name counts.
struct Pattern<'a> {
    text: &'a [u8],
    whole_path: bool,
}

impl<'a> Pattern<'a> {
    fn new(text: &'a [u8]) -> Self {
        let text = text.strip_prefix(b"/").unwrap_or(text);
        Self {
            text,
            whole_path: text.contains(&b'/'),
        }
    }

    /// What is said when nothing fits.
    fn nothing(&self, searched: u64) -> String {
        let text = shown_path(self.text);
        let snapshots = counted(searched, "snapshot");
        let nothing = format!("Nothing in {snapshots} fits {text}.");
        if self.whole_path && !self.text.starts_with(b"**") {
            format!(
                "{nothing} A pattern with a slash begins at the snapshot's top; '**/{text}' looks at any depth."
            )
        } else {
            nothing
        }
    }

    fn fits(&self, path: &[u8]) -> bool {
        let path = if self.whole_path {
            path
        } else {
            path.rsplit(|byte| *byte == b'/').next().unwrap_or(path)
        };
        // Positions of the pattern that the path so far can be at: linear, whatever the pattern.
        let mut states = vec![false; self.text.len() + 1];
        states[0] = true;
        self.spread(&mut states);
        for byte in path {
            let mut next = vec![false; self.text.len() + 1];
            for (place, _) in states.iter().enumerate().filter(|(_, reached)| **reached) {
                match self.text.get(place) {
                    Some(b'*')
                        if *byte != b'/'
                            || self.text.get(place + 1) == Some(&b'*')
                            || (place > 0 && self.text[place - 1] == b'*') =>
                    {
                        next[place] = true;
                    }
                    Some(b'?') if *byte != b'/' => next[place + 1] = true,
                    Some(letter) if letter == byte && *letter != b'*' => next[place + 1] = true,
                    _ => {}
                }
            }
            self.spread(&mut next);
            states = next;
        }
        states[self.text.len()]
    }

    /// A star may stand for nothing.
    fn spread(&self, states: &mut [bool]) {
        for place in 0..self.text.len() {
            if states[place] && self.text[place] == b'*' {
                states[place + 1] = true;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_fit_names_or_paths() {
        for (pattern, path, fits) in [
            ("*.jpg", "media/2026/a.jpg", true),
            ("a.jpg", "media/a.jpg", true),
            ("a.jpg", "media/ba.jpg", false),
            ("media/*.jpg", "media/2026/a.jpg", false),
            ("media/**.jpg", "media/2026/a.jpg", true),
            ("**/a.?pg", "media/2026/a.jpg", true),
            ("*", "x", true),
            ("", "x", false),
            ("a*b*c", "aXbYc", true),
            ("a*b*c", "aXc", false),
        ] {
            assert_eq!(
                Pattern::new(pattern.as_bytes()).fits(path.as_bytes()),
                fits,
                "{pattern} {path}"
            );
        }
    }
}
