//! What a server and a database are, as facts: versions, role, encoding and locale, settings, extensions, tables.
//!
//! The facts are plain data with public fields, so that a manifest can keep them and a restore can make the database
//! again ([`DatabaseFacts::create_sql`], [`DatabaseFacts::settings_sql`]). They say what `pg_dump` without `--create`
//! leaves out.

use crate::{
    connect::{Connection, QueryError, Row},
    quote,
};

/// The server and the role we are on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerFacts {
    /// `15.18 (Debian 15.18-0+deb12u1)`.
    pub version: String,
    /// 150018 for 15.18.
    pub version_number: u32,
    /// The cluster's own number, where the role may read it.
    pub system_identifier: Option<String>,
    /// Whether it is a standby.
    pub in_recovery: bool,
    /// The role we are.
    pub role: RoleFacts,
}

impl ServerFacts {
    /// 15 for 15.18.
    pub fn major(&self) -> u32 {
        self.version_number / 10_000
    }
}

/// What the role may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoleFacts {
    /// Its name.
    pub name: String,
    /// Whether it may do everything.
    pub superuser: bool,
    /// Whether row-level security does not apply to it.
    pub bypasses_row_security: bool,
}

/// Whose rules compare text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LocaleProvider {
    /// The C library.
    Libc,
    /// ICU (since 15 for a database).
    Icu,
    /// PostgreSQL itself (since 17).
    Builtin,
}

impl LocaleProvider {
    fn from_letter(letter: &str) -> Option<Self> {
        match letter {
            "c" => Some(Self::Libc),
            "i" => Some(Self::Icu),
            "b" => Some(Self::Builtin),
            _ => None,
        }
    }

    /// PostgreSQL's word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Libc => "libc",
            Self::Icu => "icu",
            Self::Builtin => "builtin",
        }
    }

    /// The provider that PostgreSQL calls `word`.
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Libc, Self::Icu, Self::Builtin]
            .into_iter()
            .find(|provider| provider.word() == word)
    }
}

/// A database as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatabaseFacts {
    /// Its name.
    pub name: String,
    /// Its number in the cluster.
    pub oid: u32,
    /// The role that owns it.
    pub owner: String,
    /// `UTF8`.
    pub encoding: String,
    /// `LC_COLLATE`.
    pub collate: String,
    /// `LC_CTYPE`.
    pub ctype: String,
    /// Whose rules compare text.
    pub provider: LocaleProvider,
    /// The locale in the provider's own words (ICU and builtin).
    pub locale: Option<String>,
    /// ICU rules on top of the locale.
    pub icu_rules: Option<String>,
    /// The version of the collations that the database was made with; sorting may have changed when it differs.
    pub collation_version: Option<String>,
    /// Bytes on disk with indexes, where the role may know.
    pub size_bytes: Option<u64>,
    /// How many may connect; -1 for any number.
    pub connection_limit: i32,
    /// Its comment.
    pub comment: Option<String>,
    /// Values set for it by `ALTER DATABASE … SET` and `ALTER ROLE … IN DATABASE … SET`.
    pub settings: Vec<DatabaseSetting>,
    /// Who may do what with it; nothing when never changed.
    pub grants: Option<Vec<DatabaseGrant>>,
}

/// One value set for a database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatabaseSetting {
    /// The role it is set for in this database; nothing for all.
    pub role: Option<String>,
    /// The parameter.
    pub name: String,
    /// Its value, as the catalog holds it.
    pub value: String,
}

/// One right on a database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatabaseGrant {
    /// The role; nothing for everybody.
    pub grantee: Option<String>,
    /// `CONNECT`, `CREATE` or `TEMPORARY`.
    pub privilege: String,
    /// Whether it may be passed on.
    pub grantable: bool,
}

/// An extension that the database uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extension {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// The schema it lives in.
    pub schema: String,
}

/// A table that a dump reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// Its number in the database.
    pub oid: u32,
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// Whether it holds no rows of its own but partitions.
    pub partitioned: bool,
    /// The partitioned table that it is a part of.
    pub partition_of: Option<u32>,
    /// Whether its rows do not survive a crash (and are empty on a standby).
    pub unlogged: bool,
    /// Rows as the planner guesses them; nothing when it was never analysed.
    pub estimated_rows: Option<u64>,
    /// Bytes of rows on disk, without indexes.
    pub size_bytes: u64,
}

impl Table {
    /// `public.orders`, as configuration names tables.
    pub fn path(&self) -> String {
        format!("{}.{}", self.schema, self.name)
    }
}

/// One row read field by field; a missing or malformed field is an answer of unexpected form.
struct Fields {
    what: &'static str,
    values: std::vec::IntoIter<Option<String>>,
}

impl Fields {
    fn of(what: &'static str, row: Row) -> Self {
        Self {
            what,
            values: row.into_iter(),
        }
    }

    fn maybe(&mut self) -> Result<Option<String>, QueryError> {
        self.values
            .next()
            .ok_or_else(|| QueryError::shape(self.what))
    }

    fn text(&mut self) -> Result<String, QueryError> {
        self.maybe()?.ok_or_else(|| QueryError::shape(self.what))
    }

    fn number<T: std::str::FromStr>(&mut self) -> Result<T, QueryError> {
        self.text()?
            .parse()
            .map_err(|_| QueryError::shape(self.what))
    }

    fn maybe_number<T: std::str::FromStr>(&mut self) -> Result<Option<T>, QueryError> {
        self.maybe()?
            .map(|text| text.parse().map_err(|_| QueryError::shape(self.what)))
            .transpose()
    }

    fn truth(&mut self) -> Result<bool, QueryError> {
        Ok(self.text()? == "t")
    }
}

/// Reads the server's facts.
pub(crate) fn server(connection: &Connection) -> Result<ServerFacts, QueryError> {
    const WHAT: &str = "read the server's version";
    let row = connection.row(
        WHAT,
        "SELECT pg_catalog.current_setting('server_version'), pg_catalog.current_setting('server_version_num'),
                pg_catalog.pg_is_in_recovery(), r.rolname, r.rolsuper, r.rolbypassrls,
                pg_catalog.has_function_privilege('pg_catalog.pg_control_system()', 'EXECUTE')
           FROM pg_catalog.pg_roles r WHERE r.rolname = current_user",
    )?;
    let mut fields = Fields::of(WHAT, row);
    let mut facts = ServerFacts {
        version: fields.text()?,
        version_number: fields.number()?,
        system_identifier: None,
        in_recovery: fields.truth()?,
        role: RoleFacts {
            name: fields.text()?,
            superuser: fields.truth()?,
            bypasses_row_security: fields.truth()?,
        },
    };
    if fields.truth()? {
        let what = "read the system identifier";
        let row = connection.row(
            what,
            "SELECT system_identifier FROM pg_catalog.pg_control_system()",
        )?;
        facts.system_identifier = Some(Fields::of(what, row).text()?);
    }
    Ok(facts)
}

/// Reads the facts of the database we are connected to, on a server of `major`.
pub(crate) fn database(connection: &Connection, major: u32) -> Result<DatabaseFacts, QueryError> {
    const WHAT: &str = "read the database's properties";
    let (provider, locale, rules, version) = match major {
        17.. => (
            "d.datlocprovider",
            "d.datlocale",
            "d.daticurules",
            "d.datcollversion",
        ),
        16 => (
            "d.datlocprovider",
            "d.daticulocale",
            "d.daticurules",
            "d.datcollversion",
        ),
        15 => (
            "d.datlocprovider",
            "d.daticulocale",
            "NULL",
            "d.datcollversion",
        ),
        _ => ("'c'", "NULL", "NULL", "NULL"),
    };
    let row = connection.row(
        WHAT,
        &format!(
            "SELECT d.datname, d.oid, pg_catalog.pg_get_userbyid(d.datdba), pg_catalog.pg_encoding_to_char(d.encoding),
                    d.datcollate, d.datctype, {provider}, {locale}, {rules}, {version},
                    pg_catalog.pg_database_size(d.oid), d.datconnlimit,
                    pg_catalog.shobj_description(d.oid, 'pg_database'), d.datacl IS NOT NULL
               FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()"
        ),
    )?;
    let mut fields = Fields::of(WHAT, row);
    let mut facts = DatabaseFacts {
        name: fields.text()?,
        oid: fields.number()?,
        owner: fields.text()?,
        encoding: fields.text()?,
        collate: fields.text()?,
        ctype: fields.text()?,
        provider: LocaleProvider::from_letter(&fields.text()?)
            .ok_or_else(|| QueryError::shape(WHAT))?,
        locale: fields.maybe()?,
        icu_rules: fields.maybe()?,
        collation_version: fields.maybe()?,
        size_bytes: fields.maybe_number()?,
        connection_limit: fields.number()?,
        comment: fields.maybe()?,
        settings: Vec::new(),
        grants: None,
    };
    if fields.truth()? {
        facts.grants = Some(grants(connection)?);
    }
    facts.settings = settings(connection)?;
    Ok(facts)
}

fn settings(connection: &Connection) -> Result<Vec<DatabaseSetting>, QueryError> {
    const WHAT: &str = "read the database's settings";
    connection
        .rows(
            WHAT,
            "SELECT r.rolname, c.entry
               FROM pg_catalog.pg_db_role_setting s
               CROSS JOIN LATERAL pg_catalog.unnest(s.setconfig) WITH ORDINALITY AS c (entry, place)
               LEFT JOIN pg_catalog.pg_roles r ON r.oid = s.setrole
              WHERE s.setdatabase = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())
              ORDER BY r.rolname NULLS FIRST, c.place",
        )?
        .into_iter()
        .map(|row| {
            let mut fields = Fields::of(WHAT, row);
            let role = fields.maybe()?;
            let entry = fields.text()?;
            let (name, value) = entry.split_once('=').ok_or_else(|| QueryError::shape(WHAT))?;
            Ok(DatabaseSetting {
                role,
                name: name.to_owned(),
                value: value.to_owned(),
            })
        })
        .collect()
}

fn grants(connection: &Connection) -> Result<Vec<DatabaseGrant>, QueryError> {
    const WHAT: &str = "read the database's grants";
    connection
        .rows(
            WHAT,
            "SELECT CASE WHEN a.grantee <> 0 THEN pg_catalog.pg_get_userbyid(a.grantee) END,
                    a.privilege_type, a.is_grantable
               FROM pg_catalog.pg_database d CROSS JOIN LATERAL pg_catalog.aclexplode(d.datacl) a
              WHERE d.datname = pg_catalog.current_database() ORDER BY 1 NULLS FIRST, 2",
        )?
        .into_iter()
        .map(|row| {
            let mut fields = Fields::of(WHAT, row);
            Ok(DatabaseGrant {
                grantee: fields.maybe()?,
                privilege: fields.text()?,
                grantable: fields.truth()?,
            })
        })
        .collect()
}

/// Reads the list of extensions.
pub(crate) fn extensions(connection: &Connection) -> Result<Vec<Extension>, QueryError> {
    const WHAT: &str = "read the list of extensions";
    connection
        .rows(
            WHAT,
            "SELECT e.extname, e.extversion, n.nspname
               FROM pg_catalog.pg_extension e JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace ORDER BY 1",
        )?
        .into_iter()
        .map(|row| {
            let mut fields = Fields::of(WHAT, row);
            Ok(Extension {
                name: fields.text()?,
                version: fields.text()?,
                schema: fields.text()?,
            })
        })
        .collect()
}

/// What makes a relation `c` of one of these kinds (`'r', 'p'`) one that a dump locks and reads: not a system's, not
/// another session's, and not an extension's, unless the extension says that its rows are the user's.
pub(crate) fn dumped(kinds: &str) -> String {
    format!(
        "c.relkind IN ({kinds}) AND c.relpersistence <> 't'
           AND c.relnamespace IN (SELECT oid FROM pg_catalog.pg_namespace
                                   WHERE nspname NOT LIKE 'pg\\_%' AND nspname <> 'information_schema')
           AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_extension e ON e.oid = d.refobjid
                            WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objid = c.oid
                              AND d.deptype = 'e' AND (c.oid = ANY (e.extconfig)) IS NOT TRUE)"
    )
}

/// The kinds that a dump locks: tables, partitioned or not.
pub(crate) const TABLES: &str = "'r', 'p'";

/// Reads the tables with their sizes; those must be locked, or a table that goes meanwhile fails the query.
pub(crate) fn tables(connection: &Connection) -> Result<Vec<Table>, QueryError> {
    const WHAT: &str = "read the list of tables";
    connection
        .rows(
            WHAT,
            &format!(
                "SELECT c.oid, n.nspname, c.relname, c.relkind = 'p',
                        (SELECT i.inhparent FROM pg_catalog.pg_inherits i WHERE i.inhrelid = c.oid AND c.relispartition),
                        c.relpersistence = 'u', CASE WHEN c.reltuples >= 0 THEN c.reltuples::numeric(30, 0) END,
                        pg_catalog.pg_table_size(c.oid)
                   FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
                  WHERE {} ORDER BY 2, 3",
                dumped(TABLES)
            ),
        )?
        .into_iter()
        .map(|row| {
            let mut fields = Fields::of(WHAT, row);
            Ok(Table {
                oid: fields.number()?,
                schema: fields.text()?,
                name: fields.text()?,
                partitioned: fields.truth()?,
                partition_of: fields.maybe_number()?,
                unlogged: fields.truth()?,
                estimated_rows: fields.maybe_number()?,
                size_bytes: fields.maybe_number()?.unwrap_or(0),
            })
        })
        .collect()
}

/// Counts the large objects.
pub(crate) fn large_objects(connection: &Connection) -> Result<u64, QueryError> {
    const WHAT: &str = "count the large objects";
    let row = connection.row(
        WHAT,
        "SELECT pg_catalog.count(*) FROM pg_catalog.pg_largeobject_metadata",
    )?;
    Fields::of(WHAT, row).number()
}

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
    use crate::testing;

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
        let major = server(&connection).unwrap().major();
        let facts = database(&connection, major).unwrap();
        assert_eq!(facts.encoding, "UTF8");
        assert_eq!(facts.owner, role);
        assert_eq!(facts.settings.len(), 4);

        let copy = testing::unique("copy");
        testing::run(&admin, &facts.create_sql(&copy, major));
        for sql in facts.settings_sql(&copy, true, true) {
            testing::run(&admin, &sql);
        }
        let connection = Connection::open(&cluster.settings(&copy), testing::runtime()).unwrap();
        let copied = database(&connection, major).unwrap();
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

    #[test]
    fn tables_are_listed_with_their_partitions_and_without_what_a_dump_does_not_read() {
        let cluster = testing::cluster();
        let settings = testing::database(
            &cluster,
            "CREATE TABLE parent (id int) PARTITION BY RANGE (id);
             CREATE TABLE part PARTITION OF parent FOR VALUES FROM (0) TO (9);
             CREATE UNLOGGED TABLE fast (id int);
             CREATE VIEW v AS SELECT 1;
             INSERT INTO part SELECT generate_series(0, 8);
             ANALYZE",
        );
        let connection = Connection::open(&settings, testing::runtime()).unwrap();
        connection
            .execute("make", "CREATE TEMPORARY TABLE mine (id int)")
            .unwrap();
        let tables = tables(&connection).unwrap();
        let paths: Vec<_> = tables.iter().map(Table::path).collect();
        assert_eq!(paths, ["public.fast", "public.parent", "public.part"]);
        assert!(tables[0].unlogged && tables[1].partitioned);
        assert_eq!(tables[2].partition_of, Some(tables[1].oid));
        assert_eq!(tables[2].estimated_rows, Some(9));
    }
}
