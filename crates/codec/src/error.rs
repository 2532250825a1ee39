//! What can be wrong with bytes of the format.
//!
//! One small enum, because every reader in this crate can meet every kind: too short, not allowed, from a newer
//! program, or not written by who it says. The names of objects are added by the callers, who know them.

use thiserror::Error;

/// Why bytes were not accepted.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
pub enum FormatError {
    /// The bytes end before the named thing does.
    #[error("{0} is cut short")]
    Truncated(&'static str),
    /// A value that the format does not allow.
    #[error("{0}")]
    Invalid(&'static str),
    /// A field that must be understood, written by a newer program.
    #[error("{record} has field {field}, which this version does not know and may not ignore")]
    UnknownCritical {
        /// The record that holds the field.
        record: &'static str,
        /// The field's number.
        field: u64,
    },
    /// A feature or version that this program does not have.
    #[error("{0} needs a newer version of lifeboat")]
    Unsupported(&'static str),
    /// Authentication failed: other bytes, another place, or another key.
    #[error("{0} does not open: it was changed, moved, or sealed with another key")]
    Unsealed(&'static str),
    /// The signature is missing, wrong, or of an author who is not enrolled.
    #[error("{0} is not signed by an enrolled author")]
    Signature(&'static str),
    /// The key that is needed is not in this keyring.
    #[error("{0} needs a key that this keyring does not hold")]
    NoKey(&'static str),
}
