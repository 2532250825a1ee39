//! What a cluster keeps outside its databases: roles, their memberships and settings, tablespaces.
//!
//! Taken by `pg_dumpall --globals-only`. Roles' password hashes can be read by a superuser alone; anybody else gets the
//! roles without them, and a note that says so. The text is a secret: it lets whoever has it try passwords.

use zeroize::Zeroizing;

use crate::{
    child::{self, ProgramError},
    moment::Moment,
    programs::Programs,
};

/// What `pg_dumpall` writes last.
const LAST_LINE: &str = "-- PostgreSQL database cluster dump complete";

/// Roles and tablespaces as SQL.
pub struct Globals {
    /// The statements; the same from night to night while nothing changes.
    pub sql: Zeroizing<String>,
    /// Whether the roles' password hashes are in it.
    pub with_passwords: bool,
    /// A sentence about what is missing, if something is.
    pub note: Option<String>,
}

/// Why there are no globals.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the cluster's roles")]
pub struct GlobalsError(#[source] ProgramError);

/// Reads the globals of the moment's server.
///
/// They are not part of the snapshot: `pg_dumpall` takes none.
pub fn globals(moment: &Moment, programs: &Programs) -> Result<Globals, GlobalsError> {
    if moment.facts().server.role.superuser {
        let sql = dump_all(moment, programs, &["--globals-only"]).map_err(GlobalsError)?;
        return Ok(Globals {
            sql,
            with_passwords: true,
            note: None,
        });
    }
    let role = &moment.facts().server.role.name;
    let sql = dump_all(moment, programs, &["--globals-only", "--no-role-passwords"])
        .map_err(GlobalsError)?;
    Ok(Globals {
        sql,
        with_passwords: false,
        note: Some(format!(
            "The role {role} is not superuser, so the roles were saved without their passwords; they have to be set \
             again after the loss of the whole server."
        )),
    })
}

fn dump_all(
    moment: &Moment,
    programs: &Programs,
    what: &[&str],
) -> Result<Zeroizing<String>, ProgramError> {
    let settings = moment.settings();
    let mut command = child::command(&programs.program("pg_dumpall"), Some(settings));
    command
        .args(what)
        // In the encoding of the database otherwise, which need not be the one in which this is kept.
        .args(["--no-password", "--encoding=UTF8"])
        // Connect to the one database that is known to be there and to let us in.
        .arg("--dbname")
        .arg(settings.conninfo())
        .arg("--database")
        .arg(settings.database());
    let (stdout, _) = child::output_as("pg_dumpall", command)?;
    let stdout = Zeroizing::new(stdout);
    let text = Zeroizing::new(String::from_utf8_lossy(&stdout).into_owned());
    if !text.lines().any(|line| line == LAST_LINE) {
        // It does not look whether its own output arrives.
        return Err(ProgramError::Contact {
            program: "pg_dumpall".to_owned(),
            source: std::io::Error::other("its output has no end"),
        });
    }
    let mut sql = Zeroizing::new(String::with_capacity(text.len()));
    for line in text.lines().filter(|line| !is_command_of_psql(line)) {
        sql.push_str(line);
        sql.push('\n');
    }
    Ok(sql)
}

/// `\restrict` and its counterpart have a token that is new each time, and are no SQL. Any other line that begins with
/// a backslash is the middle of a comment on a role.
fn is_command_of_psql(line: &str) -> bool {
    line.starts_with("\\restrict ") || line.starts_with("\\unrestrict ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{moment::MomentOptions, settings::Settings, testing};

    #[test]
    fn a_superuser_gets_passwords_and_others_get_the_roles_and_a_note() {
        let cluster = testing::cluster();
        let role = testing::unique("ann");
        let settings = testing::database(
            &cluster,
            &format!(
                "CREATE ROLE {role} LOGIN PASSWORD 'geheim'; ALTER ROLE {role} SET work_mem TO '3MB'"
            ),
        );
        let programs = testing::programs(&cluster);
        let read = |settings: &Settings| {
            let moment =
                Moment::hold(settings, &MomentOptions::default(), testing::runtime()).unwrap();
            globals(&moment, &programs).unwrap()
        };
        let all = read(&settings);
        assert!(all.with_passwords && all.note.is_none());
        let named = format!("ALTER ROLE {role} ");
        assert!(
            all.sql
                .lines()
                .any(|line| line.starts_with(&named) && line.contains("SCRAM-SHA-256$"))
        );
        assert!(!all.sql.contains("\\restrict"));

        let some = read(&Settings {
            user: role,
            ..settings
        });
        assert!(!some.with_passwords && some.note.unwrap().contains("not superuser"));
        assert!(
            some.sql
                .lines()
                .any(|line| line.starts_with(&named) && line.contains("LOGIN"))
        );
        assert!(some.sql.contains("3MB"));
        assert!(!some.sql.contains("SCRAM"));
    }

    #[test]
    fn names_and_comments_come_out_as_they_are_whatever_the_encoding_of_the_database() {
        // Its own, for the bytes of that role's name make no sense in databases of other encodings.
        let cluster = testing::own_cluster(&crate::cluster::ClusterOptions::default());
        let settings = testing::latin_database(&cluster);
        let role = testing::unique("müller");
        testing::run(
            &settings,
            &format!(
                "CREATE ROLE \"{role}\"; COMMENT ON ROLE \"{role}\" IS E'first\\n\\\\second line'"
            ),
        );
        let moment =
            Moment::hold(&settings, &MomentOptions::default(), testing::runtime()).unwrap();
        let globals = globals(&moment, &testing::programs(&cluster)).unwrap();
        assert!(globals.sql.contains(&role), "{}", globals.sql.as_str());
        assert!(globals.sql.contains("\n\\\\second line"));
    }
}
