//! Selectors: how a person names a snapshot, and a path inside it.
//!
//! `latest`, `latest~2`; the first digits of an id; `shop`, `shop~1`, `shop@2026-11-19`, `shop@2026-11-19 03:00`,
//! `shop@yesterday`, `shop@today`; `tag:before-upgrade`. Behind each may stand a colon and a path:
//! `shop:uploads/2026`.
//!
//! A time stands for the newest snapshot begun at or before it, and lasts as long as its last unit: a day to its end,
//! a minute for sixty seconds, so that the time shown in a list finds the snapshot that it was shown for. As a time
//! holds colons, quotes may set it off from a path of digits: `shop@"2026-11-19 03:00":15`.
//!
//! The newest state of an app is what a person means who names no snapshot of it. So `latest`, an app and `drilled` pass
//! over restore points, which are what was about to be replaced, and over backups of some sources only, unless the path
//! begins with one of those sources. An id and a tag name them all the same.
//!
//! Invariant: a selector names one snapshot or it is an error; nothing is ever chosen among several silently. A path
//! is bytes, relative, and never leads out of the snapshot.

mod when;

use crate::display::clock_time;
use crate::spelling::nearest;
use jiff::Zoned;
use std::cmp::Reverse;
use std::ffi::{OsStr, OsString};
use std::fmt::Write;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use when::{When, time_at};

/// The fewest digits of an id that name a snapshot.
const ID_DIGITS_MIN: usize = 4;

/// The most snapshots that an error lists.
const LISTED_MAX: usize = 10;

/// The tag of a snapshot that was made of what is about to be replaced.
pub const RESTORE_POINT: &str = "restore-point";

/// How the tags of a backup of some sources begin; behind it stands a source that it has.
const ONLY: &str = "only=";

/// Gives a backup of some sources only its tags, by which it is known for one.
pub fn only_tags(sources: &[&str]) -> Vec<String> {
    let tag = |source: &&str| format!("{ONLY}{source}");
    sources.iter().map(tag).collect()
}

/// The sources that a snapshot with these tags has, if it has some sources of its app only.
pub fn only_sources<'t>(tags: impl IntoIterator<Item = &'t str>) -> Option<Vec<&'t str>> {
    let named = tags.into_iter().filter_map(|tag| tag.strip_prefix(ONLY));
    let named: Vec<&str> = named.collect();
    (!named.is_empty()).then_some(named)
}

/// Whether a snapshot with these tags is a state of its whole app that somebody would want back: no restore point, and no
/// backup of some sources only.
pub fn is_whole<'t>(tags: impl IntoIterator<Item = &'t str> + Clone) -> bool {
    only_sources(tags.clone()).is_none() && tags.into_iter().all(|tag| tag != RESTORE_POINT)
}

/// What selecting has to know of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotSummary {
    /// The whole id in lower-case hex.
    pub id_hex: String,
    /// The app it is of.
    pub app: String,
    /// When it was begun, in milliseconds since 1970 in UTC.
    pub started_ms: u64,
    /// Its tags.
    pub tags: Vec<String>,
    /// Whether its last drill passed.
    pub drilled: bool,
}

impl SnapshotSummary {
    /// The sources that it has, if it is a backup of some sources only.
    #[must_use]
    pub fn only(&self) -> Option<Vec<&str>> {
        only_sources(self.tags.iter().map(String::as_str))
    }

    fn is_restore_point(&self) -> bool {
        self.tags.iter().any(|tag| tag == RESTORE_POINT)
    }
}

/// The snapshot that a selector names, by its place in the list that was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice {
    /// Its place.
    pub index: usize,
    /// The place of the backup of some sources only that would have been chosen if it had all of them.
    pub passed_over: Option<usize>,
}

/// One snapshot and a path inside it, as a person named them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selector {
    /// Everything before the path, as it was written.
    text: String,
    candidates: Candidates,
    pick: Pick,
    path: OsString,
}

/// Among which snapshots is chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Candidates {
    All,
    /// Those whose last drill passed.
    Drilled,
    /// Those of the app of that name; or the one whose id begins so.
    Name(String),
    Tag(String),
}

/// Which one of them.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Pick {
    /// The only one, or the newest where newer ones supersede older ones.
    Plain,
    /// The newest but so many.
    Back(usize),
    /// The newest begun before that moment has passed.
    At(When),
}

/// Why a selector names no snapshot.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SelectorError {
    /// Nothing stands before the path.
    #[error("a selector begins with `latest`, an app, an id or `tag:`, not with {shown:?}")]
    Empty {
        /// The selector.
        shown: String,
    },
    /// What stands before the path is no text.
    #[error("a selector is text up to its colon, not {shown:?}")]
    NotText {
        /// The selector.
        shown: String,
    },
    /// What follows `~` is no number.
    #[error("in `{text}`, `~` is followed by how many snapshots to go back, such as `~1`")]
    Back {
        /// The selector.
        text: String,
    },
    /// What follows `@` is no time.
    #[error(
        "in `{text}`, `@` is followed by a time: `2026-11-19`, `2026-11-19 03:00`, `yesterday` or `today`"
    )]
    Time {
        /// The selector.
        text: String,
    },
    /// The path leads upwards.
    #[error("the path {shown:?} of a selector is inside the snapshot and so has no `..`")]
    Upwards {
        /// The path.
        shown: String,
    },
    /// The path has a zero byte.
    #[error("the path {shown:?} of a selector has a zero byte")]
    ZeroByte {
        /// The path.
        shown: String,
    },
    /// No snapshot is meant.
    #[error("no snapshot is `{text}`: {there}")]
    None {
        /// The selector.
        text: String,
        /// What there is instead.
        there: String,
    },
    /// Several snapshots are meant. Shown with one line for each of them.
    #[error("{count} snapshots are `{text}`; name one by its id:{listed}")]
    Several {
        /// The selector.
        text: String,
        /// How many.
        count: usize,
        /// The newest of them, each on a line of its own.
        listed: String,
    },
}

impl Selector {
    /// Reads a selector.
    pub fn parse(selector: &OsStr) -> Result<Self, SelectorError> {
        let bytes = selector.as_bytes();
        let shown = || selector.to_string_lossy().into_owned();
        let (head, rest) = bytes.split_at(head_length(bytes));
        let text =
            std::str::from_utf8(head).map_err(|_| SelectorError::NotText { shown: shown() })?;
        let (candidates, pick) = parse_head(text)?;
        if matches!(&candidates, Candidates::Name(name) | Candidates::Tag(name) if name.is_empty())
        {
            return Err(SelectorError::Empty { shown: shown() });
        }
        let text = text.to_owned();
        let path = parse_path(rest.strip_prefix(b":").unwrap_or_default())?;
        Ok(Self {
            text,
            candidates,
            pick,
            path,
        })
    }

    /// The name that is an app's, if it is not the beginning of an id: whoever resolves the selector learns from it
    /// whose time zone counts.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        match &self.candidates {
            Candidates::Name(name) => Some(name),
            Candidates::All | Candidates::Drilled | Candidates::Tag(_) => None,
        }
    }

    /// The path inside the snapshot, without slashes at its ends and without `.`; empty for the whole snapshot.
    #[must_use]
    pub fn path(&self) -> &OsStr {
        &self.path
    }

    /// The same selector with the path of a source.
    #[must_use]
    pub fn within(&self, source: &str) -> Self {
        Self {
            path: source.into(),
            ..self.clone()
        }
    }

    /// Which of `snapshots` is meant. They may stand in any order.
    ///
    /// `now` is the present moment in the time zone in which the selector's times are meant.
    pub fn resolve(
        &self,
        snapshots: &[SnapshotSummary],
        now: &Zoned,
    ) -> Result<Choice, SelectorError> {
        let mut newest_first: Vec<usize> = (0..snapshots.len()).collect();
        newest_first.sort_by_key(|index| {
            let snapshot = &snapshots[*index];
            (Reverse(snapshot.started_ms), &snapshot.id_hex)
        });
        let search = Search {
            selector: self,
            snapshots,
            newest_first,
            now,
        };
        if snapshots.is_empty() {
            return Err(search.none("the repository has no snapshots"));
        }
        match &self.candidates {
            Candidates::All => search.pick(&search.newest_first, "the repository"),
            Candidates::Drilled => match search.filter(|snapshot| snapshot.drilled).as_slice() {
                [] => Err(search.none("no drill of any snapshot has passed yet")),
                drilled => search.pick(drilled, "the list of drilled snapshots"),
            },
            Candidates::Name(name) => search.named(name),
            Candidates::Tag(tag) => search.tagged(tag),
        }
    }
}

impl Choice {
    /// One that nothing was passed over for.
    fn of(index: usize) -> Self {
        Self {
            index,
            passed_over: None,
        }
    }
}

/// A selector at work.
struct Search<'a> {
    selector: &'a Selector,
    snapshots: &'a [SnapshotSummary],
    newest_first: Vec<usize>,
    now: &'a Zoned,
}

impl Search<'_> {
    fn named(&self, name: &str) -> Result<Choice, SelectorError> {
        let of_app = self.filter(|snapshot| snapshot.app == name);
        // `~` and `@` ask for one of many, so that an id is meant only without them.
        let with_id = match self.selector.pick {
            Pick::Plain if is_id(name) => {
                let digits = name.to_ascii_lowercase();
                self.filter(|snapshot| snapshot.id_hex.starts_with(&digits))
            }
            _ => Vec::new(),
        };
        match (of_app.as_slice(), with_id.as_slice()) {
            ([], []) => Err(self.none(&self.no_such_name(name))),
            (of_app, []) => self.pick(of_app, &format!("the app `{name}`")),
            ([], [one]) => Ok(Choice::of(*one)),
            ([], several) => Err(self.several(several)),
            (of_app, with_id) => {
                // Where none counts the app is meant all the same, and the id must not be taken in its stead.
                let counting = of_app.iter().find(|index| self.counts(**index));
                let newest = counting.or(of_app.first());
                let mut meant: Vec<usize> = newest.into_iter().copied().collect();
                meant.extend(with_id.iter().filter(|index| Some(*index) != newest));
                match meant.as_slice() {
                    [one] => Ok(Choice::of(*one)),
                    several => Err(self.several(several)),
                }
            }
        }
    }

    fn tagged(&self, tag: &str) -> Result<Choice, SelectorError> {
        let tagged = self.filter(|snapshot| snapshot.tags.iter().any(|own| own == tag));
        match tagged.as_slice() {
            [one] => Ok(Choice::of(*one)),
            [] => {
                let mut tags: Vec<_> = self
                    .snapshots
                    .iter()
                    .flat_map(|snapshot| &snapshot.tags)
                    .collect();
                tags.sort_unstable();
                tags.dedup();
                Err(self.none(&match tags.as_slice() {
                    [] => "no snapshot has a tag".to_owned(),
                    tags => known_or_nearest("tags", tag, tags.iter().map(|tag| tag.as_str())),
                }))
            }
            several => Err(self.several(several)),
        }
    }

    /// Which of `all`, the newest first and at least one, is meant; they are all that `owner` has.
    fn pick(&self, all: &[usize], owner: &str) -> Result<Choice, SelectorError> {
        let of = |counts: &dyn Fn(usize) -> bool| -> Vec<usize> {
            let all = all.iter().copied();
            all.filter(|index| counts(*index)).collect()
        };
        let candidates = of(&|index| self.counts(index));
        if candidates.is_empty() {
            return Err(self.none(&format!(
                "{owner} has only restore points and backups of some sources; an id names one of them, and a \
                 source, such as `shop:db`, the newest that has it"
            )));
        }
        let uncounted = match all.len() - candidates.len() {
            0 => "",
            _ => ", without restore points and backups of some sources",
        };
        let index = match self.selector.pick {
            Pick::Plain => candidates[0],
            Pick::Back(back) => *candidates.get(back).ok_or_else(|| {
                let last = candidates.len() - 1;
                let number = counted(candidates.len());
                self.none(&format!(
                    "{owner} has {number}{uncounted}, the oldest is `~{last}`"
                ))
            })?,
            Pick::At(when) => self.newest_at(when, &candidates).ok_or_else(|| {
                let oldest = &self.snapshots[candidates[candidates.len() - 1]];
                let oldest = clock_time(oldest.started_ms, self.now.time_zone());
                self.none(&format!(
                    "the oldest that {owner} has is of {oldest}{uncounted}"
                ))
            })?,
        };
        let with_some = of(&|index| !self.snapshots[index].is_restore_point());
        let would_be = match self.selector.pick {
            Pick::Plain | Pick::Back(0) => with_some.first().copied(),
            Pick::Back(_) => None,
            Pick::At(when) => self.newest_at(when, &with_some),
        };
        Ok(Choice {
            index,
            passed_over: would_be.filter(|would_be| *would_be != index),
        })
    }

    /// The newest of `candidates` begun before that moment has passed.
    fn newest_at(&self, when: When, candidates: &[usize]) -> Option<usize> {
        let passed = when.passed(self.now);
        let is_before = |index: &usize| {
            passed.is_none_or(|passed| i128::from(self.snapshots[*index].started_ms) < passed)
        };
        candidates.iter().copied().find(is_before)
    }

    /// Whether a snapshot is a state of its app, as far as the selector asks for it.
    fn counts(&self, index: usize) -> bool {
        let snapshot = &self.snapshots[index];
        let path = self.selector.path.as_bytes();
        let source = path.split(|byte| *byte == b'/').next();
        let has_source = |only: Vec<&str>| only.iter().any(|name| Some(name.as_bytes()) == source);
        !snapshot.is_restore_point() && snapshot.only().is_none_or(has_source)
    }

    fn filter(&self, is_meant: impl Fn(&SnapshotSummary) -> bool) -> Vec<usize> {
        let newest_first = self.newest_first.iter().copied();
        newest_first
            .filter(|index| is_meant(&self.snapshots[*index]))
            .collect()
    }

    fn no_such_name(&self, name: &str) -> String {
        let mut apps: Vec<_> = self
            .snapshots
            .iter()
            .map(|snapshot| snapshot.app.as_str())
            .collect();
        apps.sort_unstable();
        apps.dedup();
        let mut there = known_or_nearest("apps", name, apps);
        let is_hex = name.bytes().all(|byte| byte.is_ascii_hexdigit());
        if is_hex && name.len() < ID_DIGITS_MIN {
            let _ = write!(there, "; an id is named by {ID_DIGITS_MIN} digits or more");
        } else if is_id(name) {
            there.push_str(", and no id begins so");
        }
        there
    }

    fn none(&self, there: &str) -> SelectorError {
        SelectorError::None {
            text: self.selector.text.clone(),
            there: there.to_owned(),
        }
    }

    fn several(&self, meant: &[usize]) -> SelectorError {
        let mut listed = String::new();
        for index in meant.iter().take(LISTED_MAX) {
            let snapshot = &self.snapshots[*index];
            let time = clock_time(snapshot.started_ms, self.now.time_zone());
            let _ = write!(
                listed,
                "\n  {}  {time}  {}",
                self.short_id(snapshot),
                snapshot.app
            );
        }
        if meant.len() > LISTED_MAX {
            let _ = write!(listed, "\n  and {} older ones", meant.len() - LISTED_MAX);
        }
        SelectorError::Several {
            text: self.selector.text.clone(),
            count: meant.len(),
            listed,
        }
    }

    /// As many digits of the id as tell it from all others, but eight at least.
    fn short_id<'s>(&self, snapshot: &'s SnapshotSummary) -> &'s str {
        let id = snapshot.id_hex.as_str();
        let others = || self.snapshots.iter().filter(|other| other.id_hex != id);
        (8..id.len())
            .filter_map(|length| id.get(..length))
            .find(|digits| others().all(|other| !other.id_hex.starts_with(digits)))
            .unwrap_or(id)
    }
}

/// How many bytes stand before the colon of the path.
fn head_length(bytes: &[u8]) -> usize {
    let colon_from = |start: usize| {
        let rest = bytes.get(start..).unwrap_or_default();
        rest.iter()
            .position(|byte| *byte == b':')
            .map_or(bytes.len(), |place| start + place)
    };
    if bytes.starts_with(b"tag:") {
        return colon_from(4);
    }
    let colon = colon_from(0);
    match bytes[..colon].iter().position(|byte| *byte == b'@') {
        None => colon,
        Some(at) => {
            let length = time_at(&bytes[at + 1..]).map_or(0, |(_, length)| length);
            colon_from(at + 1 + length)
        }
    }
}

fn parse_head(text: &str) -> Result<(Candidates, Pick), SelectorError> {
    if let Some(tag) = text.strip_prefix("tag:") {
        return Ok((Candidates::Tag(tag.to_owned()), Pick::Plain));
    }
    let (name, pick) = if let Some((name, time)) = text.split_once('@') {
        let when = time_at(time.as_bytes()).filter(|(_, length)| *length == time.len());
        let (when, _) = when.ok_or_else(|| SelectorError::Time {
            text: text.to_owned(),
        })?;
        (name, Pick::At(when))
    } else if let Some((name, back)) = text.split_once('~') {
        let is_number = back.bytes().all(|byte| byte.is_ascii_digit());
        let back = back.parse().ok().filter(|_| is_number);
        (
            name,
            Pick::Back(back.ok_or_else(|| SelectorError::Back {
                text: text.to_owned(),
            })?),
        )
    } else {
        (text, Pick::Plain)
    };
    let candidates = match name {
        "latest" => Candidates::All,
        "drilled" => Candidates::Drilled,
        name => Candidates::Name(name.to_owned()),
    };
    Ok((candidates, pick))
}

fn parse_path(path: &[u8]) -> Result<OsString, SelectorError> {
    let shown = || String::from_utf8_lossy(path).into_owned();
    if path.contains(&0) {
        return Err(SelectorError::ZeroByte { shown: shown() });
    }
    let mut parts = Vec::new();
    for part in path.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => return Err(SelectorError::Upwards { shown: shown() }),
            part => parts.push(part),
        }
    }
    Ok(OsString::from_vec(parts.join(&b'/')))
}

fn is_id(name: &str) -> bool {
    name.len() >= ID_DIGITS_MIN && name.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn counted(count: usize) -> String {
    match count {
        1 => "one snapshot".to_owned(),
        count => format!("{count} snapshots"),
    }
}

/// What there is to name: the one of `known` that was probably meant, or all of them.
fn known_or_nearest<'a>(
    kind: &str,
    name: &str,
    known: impl IntoIterator<Item = &'a str>,
) -> String {
    let known: Vec<_> = known.into_iter().collect();
    if let Some(meant) = nearest(name, known.iter().copied()) {
        return format!("did you mean `{meant}`?");
    }
    let listed: Vec<_> = known
        .iter()
        .take(LISTED_MAX)
        .map(|name| format!("`{name}`"))
        .collect();
    let more = match known.len().saturating_sub(LISTED_MAX) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!("the {kind} there are: {}{more}", listed.join(", "))
}

#[cfg(test)]
mod tests;
