//! The names of apps and sources.
//!
//! A name stands in selectors (`shop~1`, `shop@yesterday`, `shop:uploads`), on command lines and as the first folder
//! inside snapshots. Invariant: a name that passed here means the same in all of these places without quotes.

/// The longest name, in bytes.
const LENGTH_MAX: usize = 64;

/// Words that mean something else where an app's name could stand.
const RESERVED: [&str; 3] = ["latest", "drilled", "tag"];

/// Why a text cannot be the name of an app or a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidName {
    /// Nothing was written.
    #[error("a name cannot be empty")]
    Empty,
    /// Too long.
    #[error("a name has at most {LENGTH_MAX} characters")]
    TooLong,
    /// A character that is not allowed, or not as the first.
    #[error(
        "a name begins with a letter or digit and has only letters without accents, digits, `-`, `_` and `.`"
    )]
    Character,
    /// A word with another meaning.
    #[error("`latest`, `drilled` and `tag` mean something else where an app is named")]
    Reserved,
}

/// Checks that `name` can be the name of an app.
pub fn check_app_name(name: &str) -> Result<(), InvalidName> {
    if RESERVED.contains(&name) {
        return Err(InvalidName::Reserved);
    }
    check_name(name)
}

/// Checks that `name` can be the name of a source or of a copy.
pub(super) fn check_name(name: &str) -> Result<(), InvalidName> {
    let first = name.chars().next().ok_or(InvalidName::Empty)?;
    let is_plain =
        |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_' | '.');
    if !first.is_ascii_alphanumeric() || !name.chars().all(is_plain) {
        return Err(InvalidName::Character);
    }
    if name.len() > LENGTH_MAX {
        return Err(InvalidName::TooLong);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_plain_and_not_reserved() {
        for name in [
            "shop",
            "Shop-2",
            "shop.example.com",
            "a_b",
            "7",
            &"x".repeat(64),
        ] {
            assert_eq!(check_app_name(name), Ok(()), "{name}");
        }
        for (name, expected) in [
            ("", InvalidName::Empty),
            (".hidden", InvalidName::Character),
            ("..", InvalidName::Character),
            ("-x", InvalidName::Character),
            ("a b", InvalidName::Character),
            ("a/b", InvalidName::Character),
            ("a:b", InvalidName::Character),
            ("a~1", InvalidName::Character),
            ("a@b", InvalidName::Character),
            ("caf\u{e9}", InvalidName::Character),
            ("latest", InvalidName::Reserved),
            ("tag", InvalidName::Reserved),
            (&"x".repeat(65), InvalidName::TooLong),
        ] {
            assert_eq!(check_app_name(name), Err(expected), "{name}");
        }
        assert_eq!(check_name("latest"), Ok(()));
    }
}
