//! The names of objects.
//!
//! A name is a path of components joined by `/`, in letters that every storage keeps apart and
//! gives back unchanged: no capital (folders that ignore case), no space, no control character.
//! No component begins with a dot, so that `.` and `..` cannot occur and a store has room for its
//! own hidden entries.
//!
//! **Invariant:** a value of [`ObjectName`] is valid, so that no store has to check names again
//! and no name can lead out of a store's folder.

use std::fmt;
use std::str::FromStr;

/// The name of an object: components of `[a-z0-9._-]` joined by `/`, 200 bytes at most.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectName(String);

/// Why a text is not an object's name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name:?} is not the name of an object: {problem}")]
pub struct InvalidName {
    name: String,
    problem: &'static str,
}

impl ObjectName {
    /// The longest name, in bytes.
    pub const LEN_MAX: usize = 200;

    /// Checks a text and makes it a name.
    pub fn new(name: impl Into<String>) -> Result<Self, InvalidName> {
        let name = name.into();
        match problem_of(&name) {
            None => Ok(Self(name)),
            Some(problem) => Err(InvalidName {
                // A text that is no name may be of any length; its beginning tells enough.
                name: name.chars().take(Self::LEN_MAX).collect(),
                problem,
            }),
        }
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name's folder (without the last `/`, empty at the top) and its last component.
    pub(crate) fn split(&self) -> (&str, &str) {
        self.0.rsplit_once('/').unwrap_or(("", &self.0))
    }
}

/// Whether a text can be one component of a name; its length is not looked at.
pub(crate) fn is_component(text: &str) -> bool {
    !text.is_empty()
        && !text.starts_with('.')
        && text
            .bytes()
            .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-'))
}

fn problem_of(name: &str) -> Option<&'static str> {
    if name.len() > ObjectName::LEN_MAX {
        Some("it is longer than 200 bytes")
    } else if !name.split('/').all(is_component) {
        Some("its components are of [a-z0-9._-], not empty, and begin without a dot")
    } else {
        None
    }
}

impl FromStr for ObjectName {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        Self::new(text)
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(&self.0)
    }
}

impl AsRef<str> for ObjectName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_of_the_layout_are_valid() {
        for name in [
            "lifeboat",
            "packs/d/ab/0f-1_2.ok",
            "-",
            "a/-/_",
            "a..b",
            "lease/x.12",
        ] {
            assert_eq!(ObjectName::new(name).unwrap().to_string(), name);
        }
    }

    #[test]
    fn names_that_could_lead_elsewhere_are_refused() {
        for name in [
            "", "/", "a/", "/a", "a//b", ".", "..", "a/../b", "a/.", ".tmp/x", "a/.b", "A", "a b",
            "a\\b", "a\0", "a\n", "ä", "a:b", "a*",
        ] {
            assert!(ObjectName::new(name).is_err(), "{name:?} was taken");
        }
    }

    #[test]
    fn two_hundred_bytes_are_the_limit() {
        assert!(ObjectName::new("a".repeat(200)).is_ok());
        assert!(ObjectName::new("a".repeat(201)).is_err());
    }

    #[test]
    fn a_name_splits_into_folder_and_last_component() {
        assert_eq!(
            ObjectName::new("packs/d/x").unwrap().split(),
            ("packs/d", "x")
        );
        assert_eq!(
            ObjectName::new("lifeboat").unwrap().split(),
            ("", "lifeboat")
        );
    }

    proptest! {
        #[test]
        fn any_text_is_refused_or_stays_below_its_folder(text in ".{0,220}") {
            if let Ok(name) = ObjectName::new(text.clone()) {
                prop_assert_eq!(name.as_str(), text.as_str());
                let only_plain_parts = std::path::Path::new(name.as_str())
                    .components()
                    .all(|part| matches!(part, std::path::Component::Normal(_)));
                prop_assert!(only_plain_parts);
            }
        }
    }
}
