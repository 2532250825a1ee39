//! The parsers of text and bytes that others wrote, for `fuzz/`: no part of the interface, and here only with the
//! feature of this name.

use std::path::Path;

use zeroize::Zeroizing;

use crate::archive::{ArchiveError, ArchiveScanner, ArchiveSummary};
use crate::conninfo::{self, ConninfoError, KEYWORDS, Parameters};
use crate::passfile::{self, Sought};
use crate::servicefile::{self, ServiceError};
use crate::sql_statement::{Statement, headline};
use crate::sql_text::{Piece, SqlText, SqlTextError};

/// Keywords with their values, in the order of the keywords.
pub type Values = Vec<(&'static str, String)>;

fn values(parameters: &Parameters) -> Values {
    KEYWORDS
        .iter()
        .filter_map(|keyword| Some((keyword.name, parameters.get(keyword.name)?.to_owned())))
        .collect()
}

/// What a connection string says.
///
/// # Errors
/// When it cannot be read.
pub fn connection_values(text: &str) -> Result<Values, ConninfoError> {
    conninfo::parse(text).map(|parameters| values(&parameters))
}

/// What the section `name` of a service file says; `None` when the file has no such section.
///
/// # Errors
/// When a line of the section cannot be used.
pub fn service_values(name: &str, text: &str) -> Result<Option<Values>, ServiceError> {
    let mut parameters = Parameters::default();
    let found = servicefile::apply_text(name, Path::new("the file"), text, &mut parameters)?;
    Ok(found.then(|| values(&parameters)))
}

/// The password that a password file has for a host, port, database and role.
#[must_use]
pub fn password(text: &str, [host, port, database, user]: [&str; 4]) -> Option<Zeroizing<String>> {
    let sought = Sought {
        host,
        port,
        database,
        user,
    };
    passfile::search(text.as_bytes(), sought)
}

/// What an archive was that came in these portions, and its table of contents as text.
///
/// # Errors
/// When it is damaged or does not end.
pub fn archive<'a>(
    portions: impl IntoIterator<Item = &'a [u8]>,
) -> Result<(ArchiveSummary, String), ArchiveError> {
    let mut scanner = ArchiveScanner::new();
    for portion in portions {
        scanner.feed(portion)?;
    }
    let contents = format!("{:?}", scanner.contents());
    Ok((scanner.finish()?, contents))
}

/// A piece of a foreign script; rows that follow each other are one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ScriptPiece {
    /// A statement, and the line on which it begins.
    Statement(Vec<u8>, u64),
    /// Rows, all of one `COPY`.
    Rows(Vec<u8>),
}

/// What a foreign script has that came in these portions, and whether `pg_dump` wrote it; what came before an error too.
pub fn script<'a>(
    portions: impl IntoIterator<Item = &'a [u8]>,
) -> (Vec<ScriptPiece>, Result<bool, SqlTextError>) {
    let (mut text, mut pieces) = (SqlText::new(), Vec::new());
    let mut begun = Vec::new();
    let mut take = |piece: Piece<'_>| {
        match piece {
            Piece::Statement { sql, line } => {
                pieces.push(ScriptPiece::Statement(sql.to_vec(), line));
            }
            Piece::Rows(bytes) => begun.extend_from_slice(bytes),
            Piece::RowsEnd => pieces.push(ScriptPiece::Rows(std::mem::take(&mut begun))),
        }
        Ok::<_, SqlTextError>(())
    };
    let read = || {
        for portion in portions {
            text.feed(portion, &mut take)?;
        }
        let marked = text.is_marked();
        text.finish(&mut take)?;
        Ok(marked)
    };
    let read = read();
    if !begun.is_empty() {
        pieces.push(ScriptPiece::Rows(begun));
    }
    (pieces, read)
}

/// What a statement of a foreign script means, as text, and what it is called.
#[must_use]
pub fn statement(sql: &[u8]) -> (String, String) {
    (format!("{:?}", Statement::of(sql)), headline(sql))
}
