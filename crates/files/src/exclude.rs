//! Which entries a backup leaves out.
//!
//! Patterns follow the rules that people know from `.gitignore`:
//!
//! - `*.tmp`, without a slash, matches the name of an entry at any depth;
//! - `/cache/*.bin` or `cache/*.bin`, with a slash, matches the path from the source's top; `*` and `?` do not match
//!   a slash, `**` matches any number of folders;
//! - `build/`, with a slash at the end, matches folders only;
//! - `!keep.tmp` takes back what an earlier pattern excluded; the last pattern that matches decides.
//!
//! Invariant: an excluded folder is not entered, so nothing below it can be taken back. Names and paths are matched
//! as bytes, so `?` stands for one byte. Where no pattern looks at paths, no path has to be built ([`Excludes::needs_path`]).

use globset::{Candidate, Glob, GlobBuilder, GlobSet, GlobSetBuilder};

/// A pattern that cannot be understood.
#[derive(Debug, thiserror::Error)]
pub enum ExcludeError {
    /// The pattern is not a valid glob.
    #[error("exclude pattern {pattern:?} is not valid")]
    Pattern {
        /// The pattern as it was given.
        pattern: String,
        /// Where and why it fails.
        source: globset::Error,
    },
    /// The pattern names nothing.
    #[error("exclude pattern {pattern:?} names nothing")]
    Empty {
        /// The pattern as it was given.
        pattern: String,
    },
    /// Each pattern is valid but all together cannot be compiled.
    #[error("the exclude patterns together are too large")]
    TooLarge(#[source] globset::Error),
}

/// Compiled exclude patterns.
#[derive(Debug, Default)]
pub struct Excludes {
    names: Rules,
    paths: Rules,
}

/// Patterns that look at the same thing, each with its place among all patterns.
#[derive(Debug, Default)]
struct Rules {
    set: GlobSet,
    rules: Vec<Rule>,
}

#[derive(Debug, Clone, Copy)]
struct Rule {
    /// The place among all patterns as they were given; the greatest that matches decides.
    place: usize,
    folder_only: bool,
    takes_back: bool,
}

impl Excludes {
    /// Compiles `patterns`; an empty list excludes nothing and costs nothing.
    pub fn new<P: AsRef<str>>(patterns: &[P]) -> Result<Self, ExcludeError> {
        let mut names = (GlobSetBuilder::new(), Vec::new());
        let mut paths = (GlobSetBuilder::new(), Vec::new());
        for (place, pattern) in patterns.iter().enumerate() {
            let pattern = pattern.as_ref();
            let (body, takes_back) = match pattern.strip_prefix('!') {
                Some(body) => (body, true),
                None => (pattern, false),
            };
            let (body, folder_only) = match body.strip_suffix('/') {
                Some(body) => (body, true),
                None => (body, false),
            };
            let by_path = body.contains('/');
            let body = body.strip_prefix('/').unwrap_or(body);
            if body.is_empty() {
                return Err(ExcludeError::Empty {
                    pattern: pattern.to_owned(),
                });
            }
            let glob = compile(body).map_err(|source| ExcludeError::Pattern {
                pattern: pattern.to_owned(),
                source,
            })?;
            let (set, rules) = if by_path { &mut paths } else { &mut names };
            set.add(glob);
            rules.push(Rule {
                place,
                folder_only,
                takes_back,
            });
        }
        let build = |(set, rules): (GlobSetBuilder, Vec<Rule>)| {
            let set = set.build().map_err(ExcludeError::TooLarge)?;
            Ok(Rules { set, rules })
        };
        Ok(Self {
            names: build(names)?,
            paths: build(paths)?,
        })
    }

    /// Whether there is no pattern at all.
    pub fn is_empty(&self) -> bool {
        self.names.rules.is_empty() && !self.needs_path()
    }

    /// Whether a pattern looks at paths; if not, [`excludes`](Self::excludes) may be given an empty path.
    pub fn needs_path(&self) -> bool {
        !self.paths.rules.is_empty()
    }

    /// Whether the entry `name` at `path` (from the source's top, without a leading slash) is left out.
    pub fn excludes(&self, name: &[u8], path: &[u8], is_folder: bool) -> bool {
        let by_name = self.names.last_match(name, is_folder);
        let by_path = self.paths.last_match(path, is_folder);
        match (by_name, by_path) {
            (None, None) => false,
            (Some(rule), None) | (None, Some(rule)) => !rule.takes_back,
            (Some(name), Some(path)) => {
                let last = if name.place > path.place { name } else { path };
                !last.takes_back
            }
        }
    }
}

impl Rules {
    fn last_match(&self, text: &[u8], is_folder: bool) -> Option<Rule> {
        if self.rules.is_empty() {
            return None;
        }
        let candidate = Candidate::from_bytes(text);
        // Most entries match nothing; only the few that do pay for the list.
        if !self.set.is_match_candidate(&candidate) {
            return None;
        }
        let matches = self.set.matches_candidate(&candidate);
        let rules = matches.iter().filter_map(|index| self.rules.get(*index));
        rules
            .filter(|rule| is_folder || !rule.folder_only)
            .max_by_key(|rule| rule.place)
            .copied()
    }
}

fn compile(pattern: &str) -> Result<Glob, globset::Error> {
    GlobBuilder::new(pattern)
        .literal_separator(true)
        .backslash_escape(true)
        .build()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn excluded(patterns: &[&str], path: &str, is_folder: bool) -> bool {
        let name = path.rsplit('/').next().unwrap();
        Excludes::new(patterns)
            .unwrap()
            .excludes(name.as_bytes(), path.as_bytes(), is_folder)
    }

    #[test]
    fn a_pattern_without_slash_matches_a_name_at_any_depth() {
        assert!(excluded(&["*.tmp"], "a.tmp", false));
        assert!(excluded(&["*.tmp"], "x/y/a.tmp", false));
        assert!(excluded(&["*.tmp"], "x/.tmp", false));
        assert!(!excluded(&["*.tmp"], "x/a.tmpl", false));
        assert!(excluded(&["node_modules"], "a/node_modules", true));
    }

    #[test]
    fn a_pattern_with_slash_is_anchored_at_the_top() {
        assert!(excluded(&["/cache"], "cache", true));
        assert!(!excluded(&["/cache"], "a/cache", true));
        assert!(excluded(&["a/*.bin"], "a/x.bin", false));
        assert!(!excluded(&["a/*.bin"], "b/a/x.bin", false));
        assert!(!excluded(&["/a/*"], "a/b/c", false));
    }

    #[test]
    fn two_stars_match_any_number_of_folders() {
        assert!(excluded(&["**/thumbs/**"], "thumbs/1.jpg", false));
        assert!(excluded(&["**/thumbs/**"], "a/b/thumbs/c/1.jpg", false));
        assert!(!excluded(&["**/thumbs/**"], "a/thumbs", true));
        assert!(excluded(&["a/**/z"], "a/z", false));
        assert!(excluded(&["a/**/z"], "a/b/c/z", false));
    }

    #[test]
    fn a_slash_at_the_end_means_folders_only() {
        assert!(excluded(&["build/"], "a/build", true));
        assert!(!excluded(&["build/"], "a/build", false));
    }

    #[test]
    fn the_last_pattern_that_matches_decides() {
        let patterns = ["*.log", "!keep.log", "/secret/keep.log"];
        assert!(excluded(&patterns, "a/b.log", false));
        assert!(!excluded(&patterns, "a/keep.log", false));
        assert!(excluded(&patterns, "secret/keep.log", false));
        assert!(!excluded(&["!a"], "a", false));
    }

    #[test]
    fn names_that_are_not_text_are_matched_as_bytes() {
        let excludes = Excludes::new(&["*.tmp", "caf??"]).unwrap();
        assert!(excludes.excludes(b"\xff\xfe.tmp", b"", false));
        assert!(!excludes.excludes(b"\xff\xfe.tm", b"", false));
        assert!(excludes.excludes("café".as_bytes(), b"", false));
    }

    #[test]
    fn paths_are_needed_only_when_a_pattern_looks_at_them() {
        assert!(Excludes::default().is_empty());
        let by_name = Excludes::new(&["*.tmp", "build/"]).unwrap();
        assert!(!by_name.is_empty() && !by_name.needs_path());
        assert!(Excludes::new(&["/a"]).unwrap().needs_path());
    }

    #[test]
    fn a_bad_pattern_is_named_in_the_error() {
        let error = Excludes::new(&["ok", "a[b"]).unwrap_err();
        assert_eq!(error.to_string(), "exclude pattern \"a[b\" is not valid");
        assert!(Excludes::new(&["!"]).is_err());
        assert!(Excludes::new(&["/"]).is_err());
        assert!(Excludes::new(&[""]).is_err());
    }
}
