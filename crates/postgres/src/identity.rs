//! Which server and which database an answer came from.
//!
//! Our own sessions and the child programs must be talking to the same database, or a dump and the moment it claims
//! to show have nothing to do with each other. Both are asked the same question and must give the same answer: the
//! cluster's system identifier, or, where the role may not read it, the server's version and the time it was started;
//! with them the database's oid and name.

use crate::{
    asking::Ask,
    child::{self, ProgramError},
    connect::QueryError,
    programs::Programs,
    settings::Settings,
};

const MAY_READ: &str =
    "SELECT pg_catalog.has_function_privilege('pg_catalog.pg_control_system()', 'EXECUTE')";

const BY_IDENTIFIER: &str = "\
SELECT pg_catalog.concat_ws(' ', 'system', system_identifier, 'database', d.oid, d.datname)
  FROM pg_catalog.pg_control_system(), pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()";

/// Two clusters of the same version, started in the same microsecond, with the same oid and name of the database.
const BY_CIRCUMSTANCE: &str = "\
SELECT pg_catalog.concat_ws(' ', 'version', pg_catalog.current_setting('server_version_num'), 'started',
       EXTRACT(epoch FROM pg_catalog.pg_postmaster_start_time()), 'database', d.oid, d.datname)
  FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()";

/// Who answered, in a form to compare.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    answer: String,
    question: &'static str,
}

impl Identity {
    /// Asks over our own session.
    pub(crate) fn of(connection: &dyn Ask) -> Result<Self, QueryError> {
        let what = "ask the server who it is";
        let allowed = connection.row(what, MAY_READ)?;
        let question = match allowed.first() {
            Some(Some(answer)) if answer == "t" => BY_IDENTIFIER,
            _ => BY_CIRCUMSTANCE,
        };
        let answer = connection.row(what, question)?;
        match answer.into_iter().next().flatten() {
            Some(answer) => Ok(Self { answer, question }),
            None => Err(QueryError::shape(what)),
        }
    }

    /// Asks by `psql`, as the child programs will connect, and compares.
    pub(crate) fn confirm(
        &self,
        settings: &Settings,
        programs: &Programs,
    ) -> Result<(), IdentityError> {
        let mut command = child::command(&programs.program("psql"), Some(settings));
        command
            .args([
                "--no-psqlrc",
                "--no-password",
                "--no-align",
                "--tuples-only",
                "--quiet",
            ])
            // As our own sessions: names are compared, and the database's encoding need not be this one.
            .args(["--command", "SET client_encoding = 'UTF8'"])
            .args(["--set", "ON_ERROR_STOP=1", "--command", self.question])
            .arg("--dbname")
            .arg(settings.conninfo());
        let (stdout, _) = child::output_as("psql", command).map_err(IdentityError::Program)?;
        let theirs = String::from_utf8_lossy(&stdout)
            .trim_end_matches('\n')
            .to_owned();
        if theirs == self.answer {
            Ok(())
        } else {
            Err(IdentityError::Different {
                ours: self.answer.clone(),
                theirs,
            })
        }
    }
}

/// Why the child programs cannot be trusted to talk to our database.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// `psql` did not get through.
    #[error("the PostgreSQL programs do not reach the database that Lifeboat reached")]
    Program(#[source] ProgramError),
    /// It reached another one.
    #[error("the PostgreSQL programs reach another database: {theirs}, not {ours}")]
    Different {
        /// What our session was told.
        ours: String,
        /// What `psql` was told.
        theirs: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{connect::Connection, testing};

    #[test]
    fn the_same_database_is_recognised_and_another_one_is_told_apart() {
        let cluster = testing::cluster();
        let programs = testing::programs(&cluster);
        let one = testing::database(&cluster, "");
        let other = testing::database(&cluster, "");
        let connection = Connection::open(&one, testing::runtime()).unwrap();
        let identity = Identity::of(&connection).unwrap();
        assert!(
            identity.answer.starts_with("system "),
            "{}",
            identity.answer
        );
        identity.confirm(&one, &programs).unwrap();
        let error = identity.confirm(&other, &programs).unwrap_err();
        assert!(matches!(error, IdentityError::Different { .. }), "{error}");
    }

    #[test]
    fn a_role_that_may_not_read_the_identifier_is_told_by_circumstance() {
        let cluster = testing::cluster();
        let programs = testing::programs(&cluster);
        let role = testing::unique("ann");
        let owner = testing::database(
            &cluster,
            &format!(
                "CREATE ROLE {role} LOGIN;
                 REVOKE EXECUTE ON FUNCTION pg_catalog.pg_control_system() FROM PUBLIC"
            ),
        );
        let settings = Settings {
            user: role,
            ..owner
        };
        let connection = Connection::open(&settings, testing::runtime()).unwrap();
        let identity = Identity::of(&connection).unwrap();
        assert!(
            identity.answer.starts_with("version "),
            "{}",
            identity.answer
        );
        identity.confirm(&settings, &programs).unwrap();
    }

    #[test]
    fn a_database_with_an_accent_and_another_encoding_is_recognised() {
        let cluster = testing::cluster();
        let settings = testing::latin_database(&cluster);
        let connection = Connection::open(&settings, testing::runtime()).unwrap();
        let identity = Identity::of(&connection).unwrap();
        identity
            .confirm(&settings, &testing::programs(&cluster))
            .unwrap();
    }
}
