//! Which engine reads a database, and why (docs/postgres.md).
//!
//! Native reading is the rule. `pg_dump` reads what whoever configures it wants it to, and what native reading would not
//! give back whole; the reason is said in every run, so that nobody wonders where the tables' files are.

use crate::{
    connect::{Connection, QueryError},
    programs::ProgramVersion,
};

/// The first version whose catalog is known here.
const SERVER_MAJOR_MIN: u32 = 12;
/// The newest version of `pg_dump` whose archives are understood here.
const PROGRAM_MAJOR_MAX: u32 = 18;

/// Who reads the rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// Sessions of our own, a stream for each table.
    Native,
    /// `pg_dump`, one archive for everything.
    PgDump,
}

/// An engine and the reason for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineChoice {
    /// Who reads.
    pub engine: Engine,
    /// Why, as one sentence.
    pub reason: String,
}

/// What a configuration says of the engine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EngineWishes {
    /// Whether it wants `pg_dump`.
    pub pg_dump: bool,
    /// Whether `pg_dump` is started by way of another program, which no session of our own goes through.
    pub via: bool,
}

/// Chooses the engine for the database of `connection`, whose schema a `pg_dump` of version `program` would read.
///
/// # Errors
/// When the server does not answer.
pub fn choose_engine(
    connection: &Connection,
    program: ProgramVersion,
    wishes: EngineWishes,
) -> Result<EngineChoice, QueryError> {
    if let Some(choice) = wishes.choice() {
        return Ok(choice);
    }
    let reason = gap(connection.server_major()?, program, connection.encoding());
    Ok(match reason {
        Some(reason) => EngineChoice {
            engine: Engine::PgDump,
            reason,
        },
        None => EngineChoice {
            engine: Engine::Native,
            reason: "Each table is read as a stream of its own.".to_owned(),
        },
    })
}

impl EngineWishes {
    /// The engine, where no look at the database is needed for it.
    pub fn choice(self) -> Option<EngineChoice> {
        let reason = match self {
            Self { pg_dump: true, .. } => "pg_dump reads all, as the configuration wants it.",
            Self { via: true, .. } => {
                "pg_dump reads all, because it is started by way of another program."
            }
            _ => return None,
        };
        Some(EngineChoice {
            engine: Engine::PgDump,
            reason: reason.to_owned(),
        })
    }
}

/// Why native reading would not give all back, if it would not.
fn gap(server_major: u32, program: ProgramVersion, encoding: &str) -> Option<String> {
    if server_major < SERVER_MAJOR_MIN {
        return Some(format!(
            "pg_dump reads all, because the server is older than PostgreSQL {SERVER_MAJOR_MIN}."
        ));
    }
    if program.major > PROGRAM_MAJOR_MAX {
        return Some(format!(
            "pg_dump reads all, because archives of its version {program} are newer than what is understood here \
             ({PROGRAM_MAJOR_MAX})."
        ));
    }
    if encoding != "UTF8" {
        return Some(format!(
            "pg_dump reads all, because the database's encoding is {encoding} and not UTF8."
        ));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{settings::Settings, testing};

    fn version(major: u32) -> ProgramVersion {
        ProgramVersion {
            major,
            minor: Some(1),
        }
    }

    fn choose(settings: &Settings, program: ProgramVersion, wishes: EngineWishes) -> EngineChoice {
        let connection = Connection::open(settings, testing::runtime()).unwrap();
        choose_engine(&connection, program, wishes).unwrap()
    }

    #[test]
    fn native_reading_is_the_rule_and_the_configuration_has_the_last_word() {
        let cluster = testing::cluster();
        let settings = testing::database(&cluster, "CREATE TABLE t (id int); SELECT lo_create(7)");
        let program = testing::programs(&cluster).version();
        let choice = choose(&settings, program, EngineWishes::default());
        assert_eq!(choice.engine, Engine::Native);
        for (pg_dump, via, words) in [
            (true, false, "configuration"),
            (false, true, "another program"),
            (true, true, "configuration"),
        ] {
            let choice = choose(&settings, program, EngineWishes { pg_dump, via });
            assert_eq!(choice.engine, Engine::PgDump);
            assert!(choice.reason.contains(words), "{}", choice.reason);
        }
    }

    #[test]
    fn what_native_reading_would_not_give_back_whole_is_read_by_pg_dump() {
        let cluster = testing::cluster();
        let plain = testing::database(&cluster, "");
        let large = testing::database(&cluster, "SELECT lo_create(7)");
        let latin = testing::latin_database(&cluster);
        for (settings, major, reason) in [
            (&plain, 12, None),
            (&plain, 18, None),
            (&plain, 19, Some("archives of its version 19.1 are newer")),
            (&large, 18, None),
            (&latin, 15, Some("encoding is LATIN1")),
        ] {
            let choice = choose(settings, version(major), EngineWishes::default());
            assert_eq!(choice.engine == Engine::PgDump, reason.is_some());
            let reason = reason.unwrap_or("stream of its own");
            assert!(choice.reason.contains(reason), "{}", choice.reason);
        }
        let old = gap(11, version(15), "UTF8").unwrap();
        assert!(old.contains("older than PostgreSQL 12"), "{old}");
    }
}
