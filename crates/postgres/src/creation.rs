//! From facts to SQL: the statements that make an empty database like another one.
//!
//! The name is the new database's own; the facts' name is never used, so a copy can stand beside its source.

use crate::{
    facts::{DatabaseFacts, LocaleProvider},
    quote,
};

/// Parameters whose value is a list of quoted names; each goes into SQL as a literal of its own.
const LIST_PARAMETERS: [&str; 6] = [
    "local_preload_libraries",
    "search_path",
    "session_preload_libraries",
    "shared_preload_libraries",
    "temp_tablespaces",
    "unix_socket_directories",
];

impl DatabaseFacts {
    /// The statement that makes an empty database called `name` like this one, on a server of `major`.
    ///
    /// From `template0`, so that nothing comes in but what the dump brings.
    pub fn create_sql(&self, name: &str, major: u32) -> String {
        let mut sql = format!(
            "CREATE DATABASE {} TEMPLATE template0 ENCODING {} LC_COLLATE {} LC_CTYPE {}",
            quote::identifier(name),
            quote::literal(&self.encoding),
            quote::literal(&self.collate),
            quote::literal(&self.ctype)
        );
        if major >= 15 || self.provider != LocaleProvider::Libc {
            sql.push_str(&format!(" LOCALE_PROVIDER {}", self.provider.word()));
        }
        if let Some(locale) = &self.locale {
            match self.provider {
                LocaleProvider::Icu => {
                    sql.push_str(&format!(" ICU_LOCALE {}", quote::literal(locale)));
                }
                LocaleProvider::Builtin => {
                    sql.push_str(&format!(" BUILTIN_LOCALE {}", quote::literal(locale)));
                }
                LocaleProvider::Libc => {}
            }
        }
        if let Some(rules) = &self.icu_rules {
            sql.push_str(&format!(" ICU_RULES {}", quote::literal(rules)));
        }
        sql
    }

    /// The statements that give the database called `name` these settings, limit and comment; with `acl` the grants
    /// too, with `owner` the owner. Each may fail alone, for example for a role that is not there.
    pub fn settings_sql(&self, name: &str, owner: bool, acl: bool) -> Vec<String> {
        let database = quote::identifier(name);
        let mut statements = Vec::new();
        if let Some(comment) = &self.comment {
            statements.push(format!(
                "COMMENT ON DATABASE {database} IS {}",
                quote::literal(comment)
            ));
        }
        if self.connection_limit >= 0 {
            statements.push(format!(
                "ALTER DATABASE {database} CONNECTION LIMIT {}",
                self.connection_limit
            ));
        }
        for setting in &self.settings {
            let whose = match &setting.role {
                Some(role) => format!("ROLE {} IN DATABASE {database}", quote::identifier(role)),
                None => format!("DATABASE {database}"),
            };
            statements.push(format!(
                "ALTER {whose} SET {} TO {}",
                parameter(&setting.name),
                setting_value(&setting.name, &setting.value)
            ));
        }
        if acl && let Some(grants) = &self.grants {
            statements.push(format!("REVOKE ALL ON DATABASE {database} FROM PUBLIC"));
            // The owner's rights are his by owning it, and he need not be here.
            let granted = grants
                .iter()
                .filter(|grant| grant.grantee.as_ref() != Some(&self.owner));
            statements.extend(granted.map(|grant| {
                let grantee = grant
                    .grantee
                    .as_deref()
                    .map_or("PUBLIC".to_owned(), quote::identifier);
                let option = if grant.grantable {
                    " WITH GRANT OPTION"
                } else {
                    ""
                };
                format!(
                    "GRANT {} ON DATABASE {database} TO {grantee}{option}",
                    grant.privilege
                )
            }));
        }
        if owner {
            statements.push(format!(
                "ALTER DATABASE {database} OWNER TO {}",
                quote::identifier(&self.owner)
            ));
        }
        statements
    }
}

/// A parameter's name; an extension's has two parts.
fn parameter(name: &str) -> String {
    name.split('.')
        .map(quote::identifier)
        .collect::<Vec<_>>()
        .join(".")
}

fn setting_value(name: &str, value: &str) -> String {
    if !LIST_PARAMETERS.contains(&name.to_ascii_lowercase().as_str()) {
        return quote::literal(value);
    }
    let names = split_names(value);
    if names.is_empty() {
        return "''".to_owned();
    }
    names
        .iter()
        .map(|name| quote::literal(name))
        .collect::<Vec<_>>()
        .join(", ")
}

/// Takes `"$user", public` apart; a doubled quote inside quotes is one.
fn split_names(value: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut name = String::new();
    let mut quoted = false;
    let mut seen = false;
    let mut letters = value.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '"' if quoted && letters.next_if_eq(&'"').is_some() => name.push('"'),
            '"' => {
                quoted = !quoted;
                seen = true;
            }
            ',' if !quoted => {
                names.push(std::mem::take(&mut name));
                seen = false;
            }
            letter if letter.is_whitespace() && !quoted => {}
            letter => {
                name.push(letter);
                seen = true;
            }
        }
    }
    if seen {
        names.push(name);
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{catalog, connect::Connection, testing};

    #[test]
    fn lists_of_names_are_taken_apart() {
        assert_eq!(split_names(r#""$user", public"#), ["$user", "public"]);
        assert_eq!(split_names(r#""a ""b"", c",d"#), [r#"a "b", c"#, "d"]);
        assert_eq!(split_names(r#""""#), [""]);
        assert!(split_names("").is_empty());
    }

    #[test]
    fn a_databases_facts_make_the_same_database_again() {
        let cluster = testing::cluster();
        let role = testing::unique("role");
        let settings = testing::database(&cluster, "");
        let name = settings.database().to_owned();
        let admin = cluster.settings("postgres");
        for sql in [
            format!("CREATE ROLE {role}"),
            format!("ALTER DATABASE {name} OWNER TO {role}"),
            format!("ALTER DATABASE {name} SET search_path TO '$user', 'odd \"name', public"),
            format!("ALTER DATABASE {name} SET work_mem TO '7MB'"),
            format!("ALTER DATABASE {name} SET \"my.option\" TO 'it''s'"),
            format!("ALTER ROLE {role} IN DATABASE {name} SET statement_timeout TO '3s'"),
            format!("ALTER DATABASE {name} CONNECTION LIMIT 17"),
            format!("REVOKE ALL ON DATABASE {name} FROM PUBLIC"),
            format!("GRANT CONNECT ON DATABASE {name} TO {role} WITH GRANT OPTION"),
            format!("GRANT TEMPORARY ON DATABASE {name} TO PUBLIC"),
            format!("COMMENT ON DATABASE {name} IS 'the shop''s'"),
        ] {
            testing::run(&admin, &sql);
        }
        let connection = Connection::open(&settings, testing::runtime()).unwrap();
        let major = catalog::server(&connection).unwrap().major();
        let facts = catalog::database(&connection, major).unwrap();
        assert_eq!(facts.encoding, "UTF8");
        assert_eq!(facts.owner, role);
        assert_eq!(facts.settings.len(), 4);

        let copy = testing::unique("copy");
        testing::run(&admin, &facts.create_sql(&copy, major));
        for sql in facts.settings_sql(&copy, true, true) {
            testing::run(&admin, &sql);
        }
        let connection = Connection::open(&cluster.settings(&copy), testing::runtime()).unwrap();
        let copied = catalog::database(&connection, major).unwrap();
        assert_eq!(copied.settings, facts.settings);
        let mut theirs = copied.grants.clone().unwrap();
        let mut ours = facts.grants.clone().unwrap();
        for grants in [&mut theirs, &mut ours] {
            grants.retain(|grant| grant.grantee.as_ref() != Some(&facts.owner));
        }
        assert_eq!(theirs, ours);
        assert_eq!(
            (
                copied.owner,
                copied.comment,
                copied.connection_limit,
                copied.collate,
                copied.provider
            ),
            (
                facts.owner,
                facts.comment,
                facts.connection_limit,
                facts.collate,
                facts.provider
            )
        );
    }
}
