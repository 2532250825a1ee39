//! What the tests share: a run of the program in surroundings of its own, and trees of files to back up.

pub(crate) mod account;
pub(crate) mod cluster;
pub(crate) mod messages;
pub(crate) mod oddities;
pub(crate) mod program;
pub(crate) mod reader;
pub(crate) mod same;
pub(crate) mod shop;
pub(crate) mod trees;
pub(crate) mod two_states;

/// A number that the long form of a test sets by an environment variable; `short` without it.
pub(crate) fn long_form(variable: &str, short: u64) -> u64 {
    std::env::var(variable).map_or(short, |text| {
        text.parse()
            .unwrap_or_else(|_| panic!("{variable} is a number, not {text}"))
    })
}
