//! A foreign script read once from end to end before anything is made: whether it is whole, whether all of it may be
//! run, and what it takes for granted.

use std::{
    collections::BTreeSet,
    io::{self, Read},
    sync::atomic::{AtomicBool, Ordering},
};

use crate::{
    sql_statement::{Meaning, Refusal, Statement, headline},
    sql_text::{Piece, SqlText, SqlTextError},
};

const BUFFER_LEN_BYTES: usize = 64 << 10;

/// Why a script is not run. Lines count from 1.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ScriptError {
    /// It cannot be read.
    #[error("cannot read the dump")]
    Read(#[source] io::Error),
    /// It is not understood, or not whole.
    #[error(transparent)]
    Text(#[from] SqlTextError),
    /// A statement of it is not run.
    #[error("line {line} has {headline}, which {}", words(*why))]
    Refused {
        /// Where.
        line: u64,
        /// The statement's first words.
        headline: String,
        /// Why not.
        why: Refusal,
    },
    /// It says that it is in UTF-8, and is not.
    #[error(
        "the statement on line {line} is not in UTF-8, and the dump has not said what else it is in"
    )]
    NotUtf8 {
        /// Where it begins.
        line: u64,
    },
    /// Rows in another encoding come with options of their own.
    #[error(
        "the COPY on line {line} has options and comes in another encoding than UTF-8, which is not understood together"
    )]
    CopyOptions {
        /// Where.
        line: u64,
    },
    /// The server did not keep what it was sent.
    #[error("the COPY on line {line} has {sent} rows, and the server kept {kept}")]
    Rows {
        /// Where.
        line: u64,
        /// How many lines there are.
        sent: u64,
        /// The server's count.
        kept: u64,
    },
    /// The dump ended the transaction that everything was to be in.
    #[error("the dump ended the transaction that all of it was to be in")]
    TransactionLost,
    /// The work was to stop.
    #[error("it was asked to stop")]
    Stopped,
}

fn words(why: Refusal) -> &'static str {
    match why {
        Refusal::Server => {
            "acts on the server and not on one database; make the dump with pg_dump, without --create"
        }
        Refusal::Files => "moves rows from or to where the dump is not",
        Refusal::Transaction => "gives up or hands over what was restored until then",
        Refusal::Encoding => {
            "says that a part of a letter may look like a quote from there on; make the dump with pg_dump --encoding=UTF8"
        }
    }
}

/// What is left out of a dump because it was wished so.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Without {
    pub(crate) owners: bool,
    pub(crate) grants: bool,
}

impl Without {
    pub(crate) fn covers(self, meaning: &Meaning) -> bool {
        (self.owners && *meaning == Meaning::Owner) || (self.grants && *meaning == Meaning::Grants)
    }
}

/// What a script is made of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Survey {
    pub(crate) statements: u64,
    pub(crate) roles: BTreeSet<String>,
    pub(crate) extensions: BTreeSet<String>,
    /// Whether `pg_dump` wrote it, and so says where it ends.
    pub(crate) marked: bool,
}

impl Survey {
    /// Reads all of `script`. Once `stop` is set, it fails.
    pub(crate) fn of(
        script: &mut dyn Read,
        without: Without,
        stop: &AtomicBool,
    ) -> Result<Self, ScriptError> {
        let mut survey = Self::default();
        survey.marked = read(script, stop, &mut |piece| {
            if let Piece::Statement { sql, line } = piece {
                survey.take(sql, line, without)?;
            }
            Ok::<_, ScriptError>(())
        })?;
        Ok(survey)
    }

    fn take(&mut self, sql: &[u8], line: u64, without: Without) -> Result<(), ScriptError> {
        let statement = Statement::of(sql);
        if let Meaning::Refused(why) = statement.meaning {
            return Err(refused(sql, line, why));
        }
        self.statements += 1;
        if !without.covers(&statement.meaning) {
            self.roles.extend(statement.roles);
        }
        self.extensions.extend(statement.extension);
        Ok(())
    }
}

pub(crate) fn refused(sql: &[u8], line: u64, why: Refusal) -> ScriptError {
    ScriptError::Refused {
        line,
        headline: headline(sql),
        why,
    }
}

/// Reads a script to its end and gives its pieces to `each`; says at the end whether `pg_dump` wrote it.
pub(crate) fn read<E: From<ScriptError>>(
    script: &mut dyn Read,
    stop: &AtomicBool,
    each: &mut dyn FnMut(Piece<'_>) -> Result<(), E>,
) -> Result<bool, E> {
    let mut text = SqlText::new();
    let mut buffer = vec![0; BUFFER_LEN_BYTES];
    let mut each = |piece: Piece<'_>| each(piece).map_err(Fault::Of);
    loop {
        if stop.load(Ordering::Relaxed) {
            return Err(ScriptError::Stopped.into());
        }
        let count = match script.read(&mut buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            result => result.map_err(ScriptError::Read)?,
        };
        if count == 0 {
            break;
        }
        text.feed(&buffer[..count], &mut each)
            .map_err(Fault::into_error)?;
    }
    let marked = text.is_marked();
    text.finish(&mut each).map_err(Fault::into_error)?;
    Ok(marked)
}

/// What ends a reading: the text, or whoever takes its pieces.
enum Fault<E> {
    Text(SqlTextError),
    Of(E),
}

impl<E> From<SqlTextError> for Fault<E> {
    fn from(error: SqlTextError) -> Self {
        Self::Text(error)
    }
}

impl<E: From<ScriptError>> Fault<E> {
    fn into_error(self) -> E {
        match self {
            Self::Text(error) => ScriptError::from(error).into(),
            Self::Of(error) => error,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn survey(script: &str, without: Without) -> Result<Survey, ScriptError> {
        Survey::of(&mut script.as_bytes(), without, &AtomicBool::new(false))
    }

    const SCRIPT: &str = "CREATE EXTENSION IF NOT EXISTS hstore;\nCREATE TABLE t ();\nALTER TABLE t OWNER TO ann;\n\
                          GRANT ALL ON TABLE t TO bob;\nCREATE POLICY p ON t TO eve;\n";

    #[test]
    fn roles_and_extensions_are_listed_without_those_that_stay_away() {
        let names = |names: &[&str]| names.iter().map(ToString::to_string).collect();
        let all = survey(SCRIPT, Without::default()).unwrap();
        assert_eq!(all.roles, names(&["ann", "bob", "eve"]));
        assert_eq!(all.extensions, names(&["hstore"]));
        assert_eq!((all.statements, all.marked), (5, false));
        let without = Without {
            owners: true,
            grants: true,
        };
        assert_eq!(survey(SCRIPT, without).unwrap().roles, names(&["eve"]));
    }

    #[test]
    fn a_statement_that_is_not_run_is_named_with_its_line() {
        let script = "SELECT 1;\n-- x\nCREATE DATABASE shop WITH TEMPLATE = template0;\n";
        let error = survey(script, Without::default()).unwrap_err().to_string();
        assert!(
            error.starts_with("line 3 has CREATE DATABASE, which acts on the server"),
            "{error}"
        );
        let error = survey("COPY t FROM PROGRAM 'id';", Without::default()).unwrap_err();
        assert!(
            error.to_string().starts_with("line 1 has COPY, which"),
            "{error}"
        );
    }

    #[test]
    fn a_reader_that_fails_ends_it_also_between_two_statements() {
        struct Failing;
        impl Read for Failing {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::other("the disk is gone"))
            }
        }
        let mut script = "SELECT 1;\n".as_bytes().chain(Failing);
        let stop = AtomicBool::new(false);
        let error = Survey::of(&mut script, Without::default(), &stop).unwrap_err();
        assert!(matches!(error, ScriptError::Read(_)), "{error}");
        stop.store(true, Ordering::Relaxed);
        let error = Survey::of(&mut SCRIPT.as_bytes(), Without::default(), &stop).unwrap_err();
        assert!(matches!(error, ScriptError::Stopped), "{error}");
    }
}
