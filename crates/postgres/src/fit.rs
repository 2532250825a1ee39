//! Whether a server can hold a database: roles, extensions, tablespaces, versions, encoding, locale, room.
//!
//! Asked before anything is made, and nothing of it changes the server: the statements that are more than a question make
//! a collation, to hear whether the server knows the locale, and an extension of superusers, and are rolled back. What is found is either a
//! *refusal*, with which the restore would fail, or a *doubt*, with which it may.

use std::path::Path;

use tokio_postgres::error::SqlState;

use crate::{
    archive::{ArchiveEntry, ArchiveHead},
    connect::{Connection, QueryError},
    facts::{DatabaseFacts, LocaleProvider, ServerFacts},
    plan::{self, RestoreOptions, column, missing},
    preflight::Finding,
    programs::Programs,
    quote,
    settings::Host,
};

/// What stands in the way, and what may.
#[derive(Debug, Default)]
pub(crate) struct Fit {
    pub(crate) refusals: Vec<Finding>,
    pub(crate) doubts: Vec<Finding>,
    /// What is free where the server keeps its data, where that can be seen from here.
    pub(crate) free_bytes: Option<u64>,
}

/// What is held against the server.
pub(crate) struct Demand<'a> {
    pub(crate) database: &'a str,
    /// Its name while it is being made.
    pub(crate) place: &'a str,
    pub(crate) head: &'a ArchiveHead,
    pub(crate) entries: &'a [&'a ArchiveEntry],
    pub(crate) options: &'a RestoreOptions,
    /// Bytes of the rows and large objects that come.
    pub(crate) len_bytes: u64,
    /// Bytes on disk that it will take with indexes, as far as one can tell.
    pub(crate) size_bytes: u64,
}

fn finding(sentence: String, mend: Option<String>) -> Finding {
    Finding { sentence, mend }
}

/// What is said when the name is taken that `database` has while it is being made.
pub(crate) fn left_over(database: &str, place: &str) -> Finding {
    finding(
        format!(
            "The database {place} exists: another restore into {database} is under way, or one was cut off and left it."
        ),
        Some(format!("DROP DATABASE {};", quote::identifier(place))),
    )
}

impl Fit {
    pub(crate) fn examine(
        connection: &Connection,
        server: &ServerFacts,
        programs: &Programs,
        demand: &Demand<'_>,
    ) -> Result<Self, QueryError> {
        let mut fit = Self::default();
        fit.right(connection, server, demand)?;
        fit.versions(server, programs, demand);
        fit.roles(connection, demand)?;
        fit.extensions(connection, server, demand)?;
        fit.tablespaces(connection, demand)?;
        if let Some(facts) = &demand.options.facts {
            fit.encoding_and_locale(connection, server, facts)?;
        }
        fit.room(connection, demand);
        Ok(fit)
    }

    fn refuse(&mut self, sentence: String, mend: Option<String>) {
        self.refusals.push(finding(sentence, mend));
    }

    fn doubt(&mut self, sentence: String, mend: Option<String>) {
        self.doubts.push(finding(sentence, mend));
    }

    /// Whether we may make the database at all.
    fn right(
        &mut self,
        connection: &Connection,
        server: &ServerFacts,
        demand: &Demand<'_>,
    ) -> Result<(), QueryError> {
        let what = "look whether the role may make databases";
        let row = connection.row(
            what,
            &format!(
                "SELECT rolcreatedb OR rolsuper, EXISTS (SELECT FROM pg_catalog.pg_database WHERE datname = {})
                   FROM pg_catalog.pg_roles WHERE rolname = current_user",
                quote::literal(demand.place)
            ),
        )?;
        let [Some(may), Some(is_left)] = &row[..] else {
            return Err(QueryError::shape(what));
        };
        if is_left == "t" {
            let Finding { sentence, mend } = left_over(demand.database, demand.place);
            self.refuse(sentence, mend);
        }
        if server.in_recovery {
            self.refuse(
                "The server is a standby, and nothing can be made there.".to_owned(),
                None,
            );
        }
        if may != "t" {
            let role = &server.role.name;
            self.refuse(
                format!("The role {role} may not make databases."),
                Some(format!("ALTER ROLE {} CREATEDB;", quote::identifier(role))),
            );
        }
        Ok(())
    }

    fn versions(&mut self, server: &ServerFacts, programs: &Programs, demand: &Demand<'_>) {
        let ours = programs.version();
        if let Some(archive) = demand.head.program_major()
            && archive > ours.major
        {
            self.refuse(
                format!(
                    "The backup was made by pg_dump {archive}, and pg_restore {ours} is older."
                ),
                Some(format!("apt install postgresql-client-{archive}")),
            );
        }
        let source = major(&demand.head.server_version);
        if let Some(source) = source
            && source > server.major()
        {
            self.doubt(
                format!(
                    "The backup comes from PostgreSQL {source}, and the server is the older {}, which may not know all \
                     that the database uses.",
                    server.major()
                ),
                Some(format!("Restore to a server of PostgreSQL {source} or newer.")),
            );
        }
    }

    fn roles(&mut self, connection: &Connection, demand: &Demand<'_>) -> Result<(), QueryError> {
        for role in plan::missing_roles(connection, demand.entries, demand.options)? {
            self.refuse(
                format!(
                    "The role {role} owns something in the database or is granted something, and the server lacks it."
                ),
                Some(format!("CREATE ROLE {};", quote::identifier(&role))),
            );
        }
        Ok(())
    }

    fn extensions(
        &mut self,
        connection: &Connection,
        server: &ServerFacts,
        demand: &Demand<'_>,
    ) -> Result<(), QueryError> {
        let lacking = plan::missing_extensions(connection, demand.entries)?;
        for name in &lacking {
            self.refuse(
                format!("The database uses the extension {name}, and the server has no such extension to install."),
                Some(format!(
                    "Install it on the server's machine; packages are often named postgresql-{}-{name}.",
                    server.major()
                )),
            );
        }
        let (refusals, doubts) = plan::superusers_extensions(connection, demand.entries)?;
        self.refusals.extend(refusals);
        self.doubts.extend(doubts);
        let what = "list the versions of extensions";
        let versions = connection.rows(
            what,
            "SELECT name, default_version FROM pg_catalog.pg_available_extensions",
        )?;
        let entries = demand.entries;
        let comes = |name: &str| {
            entries
                .iter()
                .any(|entry| entry.kind == "EXTENSION" && entry.name == name)
        };
        for extension in demand
            .options
            .extensions
            .iter()
            .filter(|extension| comes(&extension.name) && !lacking.contains(&extension.name))
        {
            let offered = versions.iter().find_map(|row| match &row[..] {
                [Some(name), Some(version)] if *name == extension.name => Some(version),
                _ => None,
            });
            if let Some(offered) = offered
                && *offered != extension.version
            {
                self.doubt(
                    format!(
                        "The database uses the extension {} in version {}, and the server would make it in version {offered}.",
                        extension.name, extension.version
                    ),
                    None,
                );
            }
        }
        Ok(())
    }

    fn tablespaces(
        &mut self,
        connection: &Connection,
        demand: &Demand<'_>,
    ) -> Result<(), QueryError> {
        if demand.options.no_tablespaces {
            return Ok(());
        }
        let needed = demand
            .entries
            .iter()
            .filter_map(|entry| entry.tablespace.as_deref())
            .filter(|name| !name.is_empty())
            .collect();
        let present = column(
            connection,
            "list the tablespaces",
            "SELECT spcname FROM pg_catalog.pg_tablespace",
        )?;
        for name in missing(needed, &present) {
            self.refuse(
                format!("Something in the database lies in the tablespace {name}, and the server lacks it."),
                Some(format!(
                    "CREATE TABLESPACE {} LOCATION '…'; or restore without tablespaces.",
                    quote::identifier(&name)
                )),
            );
        }
        Ok(())
    }

    fn encoding_and_locale(
        &mut self,
        connection: &Connection,
        server: &ServerFacts,
        facts: &DatabaseFacts,
    ) -> Result<(), QueryError> {
        let since = match facts.provider {
            LocaleProvider::Libc => 0,
            LocaleProvider::Icu => 15,
            LocaleProvider::Builtin => 17,
        };
        if server.major() < since {
            self.refuse(
                format!(
                    "The database's locale comes from the provider {}, which databases know since PostgreSQL {since}.",
                    facts.provider.word()
                ),
                Some(format!("Restore to a server of PostgreSQL {since} or newer.")),
            );
            return Ok(());
        }
        let what = "ask for the server's encodings";
        let row = connection.row(
            what,
            &format!(
                "SELECT pg_catalog.pg_char_to_encoding({}),
                        pg_catalog.pg_encoding_to_char((SELECT encoding FROM pg_catalog.pg_database
                                                         WHERE datname = pg_catalog.current_database()))",
                quote::literal(&facts.encoding)
            ),
        )?;
        let [Some(number), Some(encoding)] = &row[..] else {
            return Err(QueryError::shape(what));
        };
        if number == "-1" {
            self.refuse(
                format!(
                    "The server does not know the database's encoding {}.",
                    facts.encoding
                ),
                None,
            );
            return Ok(());
        }
        // A locale of another encoding is refused for that reason, and says nothing about the locale.
        if *encoding != facts.encoding {
            return Ok(());
        }
        let mut locales = vec![(
            "libc",
            format!(
                "lc_collate = {}, lc_ctype = {}",
                quote::literal(&facts.collate),
                quote::literal(&facts.ctype)
            ),
        )];
        if let (LocaleProvider::Icu, Some(locale)) = (facts.provider, &facts.locale) {
            locales.push(("icu", format!("locale = {}", quote::literal(locale))));
        }
        for (provider, locale) in locales {
            match collation_version(connection, provider, &locale) {
                Ok(version) => self.collation_version(facts, provider, version.as_deref()),
                // A role that may not ask is told by the server when the database is made.
                Err(error) if error.is(&SqlState::INSUFFICIENT_PRIVILEGE) => {}
                Err(error) if error.sqlstate.is_some() => self.refuse(
                    format!(
                        "The server's machine lacks the database's locale ({provider}: {locale}): {}.",
                        error.message
                    ),
                    (provider == "libc").then(|| {
                        format!("locale-gen {} && systemctl restart postgresql", facts.collate)
                    }),
                ),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn collation_version(&mut self, facts: &DatabaseFacts, provider: &str, here: Option<&str>) {
        if provider == facts.provider.word()
            && let (Some(there), Some(here)) = (facts.collation_version.as_deref(), here)
            && there != here
        {
            self.doubt(
                format!(
                    "The database sorted text by version {there} of its locale, and the server has version {here}: \
                     indexes are made anew, but rows may belong to other partitions, or fail a check."
                ),
                None,
            );
        }
    }

    /// Only a server on this machine can be looked at, and only when it tells where its data are.
    fn room(&mut self, connection: &Connection, demand: &Demand<'_>) {
        let Some((folder, free)) = free_room(connection) else {
            return;
        };
        self.free_bytes = Some(free);
        let sentence = |needed: u64| {
            format!(
                "The database will take about {} MB, and where the server keeps its data {} MB are free.",
                needed >> 20,
                free >> 20
            )
        };
        let mend = Some(format!("Free some room in {folder}."));
        if free < demand.len_bytes {
            self.refuse(sentence(demand.size_bytes), mend);
        } else if free < demand.size_bytes {
            self.doubt(sentence(demand.size_bytes), mend);
        }
    }
}

/// Where a server on this machine keeps its data, and how many bytes are free there, as far as the server tells.
pub(crate) fn free_room(connection: &Connection) -> Option<(String, u64)> {
    if !matches!(connection.settings().host(), Host::Socket(_)) {
        return None;
    }
    // A role that may not know it gets no row; an error would end the transaction that it may be in.
    let folder = connection.row(
        "ask where the data are",
        "SELECT setting FROM pg_catalog.pg_settings WHERE name = 'data_directory'",
    );
    let folder = folder.ok()?.pop()??;
    let room = rustix::fs::statvfs(Path::new(&folder)).ok()?;
    Some((folder, room.f_bavail.saturating_mul(room.f_frsize)))
}

/// The major version at the beginning of a server's own words: `15.18 (Debian …)`.
fn major(version: &str) -> Option<u32> {
    version
        .split(|letter: char| !letter.is_ascii_digit())
        .next()?
        .parse()
        .ok()
}

/// The version of a locale's rules, from a collation that is made in a transaction and goes with it.
fn collation_version(
    connection: &Connection,
    provider: &str,
    locale: &str,
) -> Result<Option<String>, QueryError> {
    let what = "look whether the server knows the locale";
    let made = connection
        .execute(
            what,
            &format!(
                "BEGIN READ WRITE; CREATE COLLATION pg_temp.lifeboat_fit (provider = {provider}, {locale})"
            ),
        )
        .and_then(|()| {
            connection.rows(
                what,
                "SELECT pg_catalog.pg_collation_actual_version(oid) FROM pg_catalog.pg_collation
                  WHERE collname = 'lifeboat_fit'",
            )
        });
    connection.execute(what, "ROLLBACK")?;
    Ok(made?
        .into_iter()
        .next()
        .and_then(|mut row| row.pop().flatten()))
}
